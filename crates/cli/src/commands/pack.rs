//! Packs: made by the server, or of a copy of its ledger; checked by anybody. `verify` opens two files and nothing else.

pub(crate) mod again;
mod certificates;
mod copied;

use crate::arguments::{
    Global, PackArguments, PackQuestion, RecordRange, TrustArguments, VerifyArguments,
};
use crate::commands::ledger::reference;
use crate::commands::proof;
use crate::page::{self, Subject};
use crate::{Failure, account, admin, files, output};
use facts::{Finding, Timestamp};
use ledger::body::KeyRotation;
use ledger::pack::{Question, Report, Trust};
use ledger::{LedgerKey, Policy};
use proto::v1;
use recheck::{Rechecked, Vouched};
use serde_json::{Value, json};
use spiffe_core::recorded::Certificates;
use std::path::Path;

/// A pack larger than this is not read into memory.
const MAX_PACK: u64 = 1 << 30;
/// A trust file has some keys and certificates.
const MAX_TRUST: u64 = 1 << 20;
/// Reasons that are printed one by one, beside the first.
const MOST_DOUBTS: usize = 9;

pub(crate) async fn pack(arguments: PackArguments, global: &Global) -> Result<(), Failure> {
    let question = question(arguments.question)?;
    // A file that cannot be read is told before anything is asked.
    let trust = arguments.trust.as_deref().map(trust_file).transpose()?;
    let copied = trust.as_ref().filter(|_| !arguments.folders.is_empty());
    if trust.is_some() && copied.is_none() && arguments.html.is_none() {
        return Err(Failure::usage(
            "--trust goes with --html, or with --folder: a pack that the server makes is verified by whoever reads it",
        ));
    }
    let page = arguments.html.as_deref().zip(trust.as_ref());
    let certificates = certificates::read(&arguments.certificate)?;
    let with = !arguments.without_certificates;
    let mut bytes = match copied {
        Some(trust) => copied::make(&arguments.folders, question, with, trust, global)?,
        None => of_question(&question, with, global).await?,
    };
    if !certificates.is_empty() {
        let trust = match copied {
            Some(trust) => trust.clone(),
            None => of_server(global, None).await?.0,
        };
        bytes = certificates::put_in(&bytes, &certificates, &trust)?;
    }
    // A copy is believed nothing: what does not verify is not written.
    if let Some(trust) = copied {
        judged(&bytes, trust).map_err(|failure| refused(&failure, global))?;
    }
    files::write(&arguments.output, &bytes)?;
    if let Some((page, trust)) = page {
        let verdict = judged(&bytes, trust);
        write_page(page, &bytes, trust, &verdict)?;
        verdict.map_err(|failure| refused(&failure, global))?;
    }
    if global.json {
        output::json(&json!({
            "pack": arguments.output, "bytes": bytes.len(),
            "sha256": crypto::hex::encode(&crypto::sha256(&bytes)), "html": arguments.html,
        }));
    } else {
        output::line(format_args!(
            "{} ({} bytes); check it with: trilith verify {} --trust FILE",
            arguments.output.display(),
            bytes.len(),
            arguments.output.display()
        ));
        if let Some((page, _)) = page {
            output::note(format_args!("The page of it: {}", page.display()));
        }
    }
    Ok(())
}

/// As the server makes it.
async fn of_question(
    question: &Question,
    certificates: bool,
    global: &Global,
) -> Result<Vec<u8>, Failure> {
    let request = v1::PackRequest {
        question: question.to_json(),
        certificates,
    };
    let mut client = admin::connect(global).await?;
    let answer = client.pack(request).await;
    let mut stream = answer
        .map_err(|status| admin::refusal(&status))?
        .into_inner();
    let mut bytes = Vec::new();
    while let Some(chunk) = stream
        .message()
        .await
        .map_err(|status| admin::refusal(&status))?
    {
        bytes.extend_from_slice(&chunk.data);
    }
    Ok(bytes)
}

fn question(asked: PackQuestion) -> Result<Question, Failure> {
    let named: [Option<Result<Question, Failure>>; 8] = [
        asked.record.map(|record| {
            let (ledger, index) = reference(&record)?;
            let ledger = ledger.to_owned();
            Ok(Question::Record { ledger, index })
        }),
        asked.accesses.map(|identity| {
            Ok(Question::Access {
                identity,
                resource: None,
                newest: None,
            })
        }),
        asked
            .issuance
            .map(|serial| Ok(Question::Issuance { serial })),
        asked.of_session.map(|of_session| {
            let (ledger, session) = of_session.rsplit_once(':').ok_or_else(|| {
                Failure::usage(format!(
                    "`{of_session}` is not LEDGER:SESSION, as in `pg-1:5f1d3a0c9be24477`"
                ))
            })?;
            let (ledger, session) = (ledger.to_owned(), session.to_owned());
            Ok(Question::Session { ledger, session })
        }),
        asked
            .lifetime
            .map(|identity| Ok(Question::Lifetime { identity })),
        asked.range.map(|range| {
            Ok(match range {
                RecordRange::Places { ledger, from, to } => Question::Range { ledger, from, to },
                RecordRange::Times { ledger, from, to } => Question::Period { ledger, from, to },
            })
        }),
        asked.estate.map(|version| {
            let version = version.parse().map_err(|_| {
                Failure::usage(format!(
                    "`{version}` is no version of an estate: give all 64 digits of it, as \
                     `trilith ledger search --ledger server --type estate-version` lists them"
                ))
            })?;
            Ok(Question::Estate { version })
        }),
        asked.verdict.map(|index| Ok(Question::Verdict { index })),
    ];
    let named = named.into_iter().flatten().next();
    named.unwrap_or_else(|| Err(Failure::usage("a pack answers a question: name one")))
}

/// What a pack shows, and what came of making again what its records decided and concluded.
type Judged = Result<(Report, Rechecked), ledger::pack::Failure>;

/// A pack is good if it verifies and if what is made again comes out the same.
fn judged(pack: &[u8], trust: &Trust) -> Judged {
    let report = ledger::pack::verify_with(pack, trust, &Certificates)?;
    let rechecked = recheck::pack(&report, trust);
    match again::difference(&rechecked) {
        Some(failure) => Err(failure),
        None => Ok((report, rechecked)),
    }
}

/// What a pack showed, as a page.
fn write_page(page: &Path, pack: &[u8], trust: &Trust, verdict: &Judged) -> Result<(), Failure> {
    let subject = Subject::of(pack);
    let text = match verdict {
        Ok((report, rechecked)) => page::verified(report, rechecked, &subject, trust),
        Err(failure) => page::refused(failure, &subject, trust),
    };
    files::write(page, text.as_bytes())
}

/// The server's own account of what to trust. Worth as much as the way on which it is fetched.
pub(crate) async fn trust(arguments: &TrustArguments, global: &Global) -> Result<(), Failure> {
    let named = arguments.policy.as_deref().map(policy_file).transpose()?;
    let (trust, its_own) = of_server(global, named).await?;
    if its_own {
        output::note(format_args!(
            "The witnesses in it are those that the server names. Keys that you have from them are worth more: --policy FILE"
        ));
    }
    let document = serde_json::to_value(&trust)
        .map_err(|error| admin::unusable(format!("what it says to trust: {error}")))?;
    // What is printed is read again: a policy that lists logs has to list this server's.
    Trust::from_json(&document.to_string()).map_err(|error| {
        Finding::new("CLI-POLICY", causes(&error))
            .expected("no log lines, or one with the server's ledger key among them")
            .next("take the log lines out of the policy, or ask the server that it is for")
    })?;
    output::line(format_args!("{document:#}"));
    Ok(())
}

/// What the server says to trust, with the policy that is `named`; and whether it is the server's own that is in it.
async fn of_server(global: &Global, named: Option<Policy>) -> Result<(Trust, bool), Failure> {
    let answer = admin::connect(global)
        .await?
        .status(v1::StatusRequest {})
        .await
        .map_err(|status| admin::refusal(&status))?;
    let status = admin::document(answer)?;
    let lacks = |what: &str| admin::unusable(format!("its status has no {what}"));
    let text = |pointer: &str| {
        let text = status.pointer(pointer).and_then(Value::as_str);
        text.ok_or_else(|| lacks(pointer))
    };
    let roots = status
        .get("x509_authorities")
        .and_then(Value::as_array)
        .ok_or_else(|| lacks("x509_authorities"))?
        .iter()
        .filter_map(Value::as_str)
        .map(crypto::base64::decode)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| admin::unusable(format!("a root certificate: {error}")))?;
    let own = match named {
        Some(_) => None,
        None => own_policy(&status)?,
    };
    let its_own = own.is_some();
    let key: LedgerKey = text("/ledger/key")?
        .parse()
        .map_err(|error| admin::unusable(format!("the ledger key: {error}")))?;
    // A server of an earlier version has no lineage.
    let links = status.pointer("/ledger/lineage").cloned();
    let links = links.map(serde_json::from_value::<Vec<KeyRotation>>);
    let links = links
        .transpose()
        .map_err(|error| admin::unusable(format!("the ledger's lineage: {error}")))?
        .unwrap_or_default();
    let trust = Trust {
        trust_domain: text("/trust_domain")?.to_owned(),
        ledger_key: ledger::lineage::follow(&key, &links)
            .map_err(|error| admin::unusable(format!("the ledger's lineage: {error}")))?,
        x509_authorities: roots,
        policy: named.or(own),
    };
    Ok((trust, its_own))
}

/// The policy by which the server asks its witnesses: its packs carry their lines, and a trust file without them
/// refuses those.
fn own_policy(status: &Value) -> Result<Option<Policy>, Failure> {
    let Some(text) = status.pointer("/witnesses/policy").and_then(Value::as_str) else {
        return Ok(None);
    };
    let policy = text.parse::<Policy>();
    policy.map(Some).map_err(|error| {
        let what = format!("its policy of witnesses: {}", causes(&error));
        Failure::refused(admin::unusable(what))
    })
}

/// A policy as it is written by hand.
fn policy_file(path: &Path) -> Result<Policy, Failure> {
    let wrong = |what: String| {
        Finding::new(
            "CLI-POLICY",
            format!("{} is not a policy: {what}", path.display()),
        )
        .expected("lines `witness <name> <vkey>`, `group …` and one `quorum …`, as c2sp.org/tlog-policy has them")
        .next("mend the line that is named")
    };
    let text = files::read(path, MAX_TRUST)?
        .ok_or_else(|| wrong(format!("it has more than {MAX_TRUST} bytes")))?;
    // A trust file is JSON, which has no other text.
    let text = std::str::from_utf8(&text).map_err(|_| wrong("it is not UTF-8".to_owned()))?;
    text.parse::<Policy>()
        .map_err(|error| wrong(causes(&error)).into())
}

/// An error and why, on one line.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut told = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        told = format!("{told}: {error}");
        cause = error.source();
    }
    told
}

/// What the user trusts; a pack or anything else in its place is refused by name.
pub(crate) fn trust_file(path: &Path) -> Result<Trust, Failure> {
    let wrong = |what: String| {
        Finding::new(
            "VERIFY-TRUST-FILE",
            format!("{} is not a trust file: {what}", path.display()),
        )
        .expected("the JSON that `trilith trust` prints, or TOML with the same fields")
        .next("print one with `trilith trust` at a server that you trust, and name it with --trust")
    };
    let bytes = files::read(path, MAX_TRUST)?
        .ok_or_else(|| wrong(format!("it has more than {MAX_TRUST} bytes")))?;
    let text = std::str::from_utf8(&bytes).map_err(|_| wrong("it is no text".to_owned()))?;
    let trust = match text.trim_start().starts_with('{') {
        true => Trust::from_json(text).map_err(|error| wrong(causes(&error)))?,
        // Also in a policy of several lines, whichever system has written the file.
        false => {
            toml::from_str(&text.replace("\r\n", "\n")).map_err(|error| wrong(causes(&error)))?
        }
    };
    let domain = &trust.trust_domain;
    if !is_trust_domain(domain) {
        return Err(wrong(format!("{domain:?} is no trust domain")).into());
    }
    // A server's ledger is named by its trust domain.
    let origin = trust.ledger_key.origin().as_str();
    let of = origin.strip_prefix(domain.as_str());
    if !of.is_some_and(|rest| rest.starts_with('/')) {
        let what = format!("its ledger key is of {origin}, and not of the trust domain {domain}");
        return Err(wrong(what).into());
    }
    Ok(trust)
}

/// SPIFFE-ID section 2.1.
fn is_trust_domain(name: &str) -> bool {
    (1..=255).contains(&name.len())
        && name.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte)
        })
}

pub(crate) fn verify(arguments: &VerifyArguments, global: &Global) -> Result<(), Failure> {
    let trust = trust_file(&arguments.trust)?;
    let pack = files::read(&arguments.pack, MAX_PACK)?.ok_or_else(|| {
        Finding::new("PACK-TOO-LARGE", "the pack is larger than any that is made")
            .expected(format!("at most {MAX_PACK} bytes"))
            .observed("more")
            .next("ask for the pack again, with a narrower question")
    })?;
    if proof::is_one(&pack) {
        if arguments.html.is_some() {
            return Err(Failure::usage(
                "--html goes with a pack: a .tlog-proof is one record",
            ));
        }
        return proof::verify(&pack, &trust, arguments.record.as_deref(), global);
    }
    if arguments.record.is_some() {
        return Err(Failure::usage(
            "--record goes with a .tlog-proof: a pack has its records",
        ));
    }
    let verdict = judged(&pack, &trust);
    if let Some(page) = &arguments.html {
        write_page(page, &pack, &trust, &verdict)?;
    }
    let (report, rechecked) = verdict.map_err(|failure| refused(&failure, global))?;
    if global.json {
        let mut document = document(&report);
        if let Value::Object(members) = &mut document {
            let erased = report.erased.iter();
            let erased: Vec<Value> = erased.map(|one| erased_json(one, &rechecked)).collect();
            members.insert("erased".to_owned(), Value::Array(erased));
            members.insert("recomputed".to_owned(), again::document(&rechecked));
        }
        output::json(&document);
    } else {
        tell(&report, &rechecked, arguments.raw);
        again::tell(&rechecked);
    }
    Ok(())
}

/// A pack that does not verify: a finding, and with `--json` what a program asks for.
fn refused(failure: &ledger::pack::Failure, global: &Global) -> Failure {
    if global.json {
        output::json(&json!({
            "verified": false, "complete": false, "code": failure.code, "where": failure.section,
            "record": failure.record, "message": failure.message,
        }));
    }
    let place = failure.record.map_or_else(
        || failure.section.clone(),
        |index| format!("{}, record {index}", failure.section),
    );
    // A server that has new witnesses puts their lines into its packs.
    let next = match failure.code {
        "PACK-CHECKPOINT" => {
            "where the server has new witnesses, print a new trust file at a server that you trust: `trilith trust`; \
             else do not rely on this pack, and keep it as evidence"
        }
        "PACK-CERTIFICATE" => {
            "where the authority has a new root, or the trust file none, print a new trust file at a server that you trust: \
             `trilith trust`; or ask for the pack with --without-certificates; else do not rely on this pack, and keep it \
             as evidence"
        }
        "LEDGER-CHECKPOINT-FORMER" => {
            "ask for the pack anew: it is then under the ledger's newest key; by the trust file of its time it verifies as it is, \
             and whoever had the replaced key can have made it"
        }
        _ => "do not rely on this pack; ask for it again, and keep this one as evidence",
    };
    Failure::verification(vec![
        Finding::new(failure.code, failure.message.clone())
            .observed(place)
            .next(next),
    ])
}

fn document(report: &Report) -> Value {
    let records: Vec<Value> = report
        .records
        .iter()
        .map(|entry| {
            let origin = entry.record.origin();
            let body = serde_json::from_str(entry.record.body()).unwrap_or(Value::Null);
            json!({
                "ledger": origin, "index": entry.index, "type": entry.record.kind().as_str(),
                "actor": entry.record.actor(), "body": body, "answers": entry.answers,
            })
        })
        .collect();
    let heads: Vec<Value> = report
        .checkpoints
        .iter()
        .zip(&report.extents)
        .map(|(head, extent)| {
            json!({
                "origin": head.origin.as_str(), "size": head.size, "complete": extent.complete,
                "entries": extent.entries, "answers": extent.answers, "matching": extent.matching,
                "until": extent.until.map(time),
            })
        })
        .collect();
    let doubts: Vec<String> = report.doubts.iter().map(ToString::to_string).collect();
    let certificates: Vec<Value> = report
        .certificates
        .iter()
        .map(|(sha256, index)| json!({ "sha256": sha256, "issuance": index }))
        .collect();
    json!({
        "verified": true, "complete": report.is_complete(), "not_shown": doubts,
        "question": report.question.to_json(), "asked": report.question.to_string(),
        "answers": answers(report), "records": records, "checkpoints": heads,
        "blobs": report.blobs.len(), "certificates": certificates, "quorum": report.quorum.as_ref().map(proof::quorum_json),
    })
}

fn erased_json(one: &ledger::pack::Erased, rechecked: &Rechecked) -> Value {
    json!({
        "ledger": one.origin, "index": one.index, "sha256": one.sha256.to_string(),
        "record": one.by_record, "time": time(one.at), "by": one.by, "reason": one.reason,
        "vouched": rechecked.vouched(one),
    })
}

/// What was erased, by which record, and who vouches for it.
pub(crate) fn erased(one: &ledger::pack::Erased, rechecked: &Rechecked) -> String {
    let vouched = match rechecked.vouched(one) {
        Vouched::Authors => "",
        Vouched::Server => ", by the server's word",
    };
    format!(
        "record {} of {} names {}, erased by record {} on {}{vouched} ({}): {}",
        one.index,
        one.origin,
        one.sha256,
        one.by_record,
        time(one.at),
        one.by,
        one.reason
    )
}

fn tell(report: &Report, rechecked: &Rechecked, raw: bool) {
    match report.doubts.split_first() {
        None => output::line(format_args!("verified, and complete{}", up_to(report))),
        Some((first, more)) => {
            output::line(format_args!("verified; NOT shown to be complete: {first}"));
            for doubt in more.iter().take(MOST_DOUBTS) {
                output::line(format_args!("  nor: {doubt}"));
            }
            if let Some(left @ 1..) = more.len().checked_sub(MOST_DOUBTS) {
                output::line(format_args!("  and {left} more: --json has them all"));
            }
        }
    }
    output::line(format_args!("  asked: {}", asked(&report.question)));
    output::line(format_args!(
        "  {} records answer; with what they rest on it is {} records under {} checkpoints, and {} blobs",
        answers(report),
        report.records.len(),
        report.checkpoints.len(),
        report.blobs.len()
    ));
    for one in report.erased.iter().take(MOST_DOUBTS) {
        let told = erased(one, rechecked);
        output::line(format_args!("  {}", output::value(&told)));
    }
    if let Some(left @ 1..) = report.erased.len().checked_sub(MOST_DOUBTS) {
        output::line(format_args!(
            "  and {left} more were erased: --json has them all"
        ));
    }
    if let Some(quorum) = &report.quorum {
        output::line(format_args!("  {}", proof::quorum_text(quorum)));
    }
    for (sha256, index) in &report.certificates {
        output::line(format_args!(
            "  certificate {sha256} is the SVID of the server's record {index}, and leads to a root of the trust file"
        ));
    }
    for (head, extent) in report.checkpoints.iter().zip(&report.extents) {
        let complete = if extent.complete {
            "complete"
        } else {
            "NOT shown to be complete"
        };
        let until = extent
            .until
            .map_or_else(String::new, |until| format!(", as of {}", time(until)));
        // What answers belong to is counted with them, and is not among those that match.
        let of = extent
            .matching
            .filter(|matching| *matching > extent.answers)
            .map_or_else(String::new, |matching| format!(" of {matching}"));
        output::line(format_args!(
            "  checkpoint {} of {} records{until}: {}{of} answer; {complete}",
            head.origin, head.size, extent.answers
        ));
    }
    let account = account::account(report);
    for line in &account {
        output::line(line);
    }
    // What no account is given of is shown as it stands.
    let shown = report.records.iter().filter(|_| raw || account.is_empty());
    for entry in shown {
        output::line(format_args!(
            "  {}:{} {} {} {}",
            entry.record.origin(),
            entry.index,
            entry.record.kind().as_str(),
            output::value(entry.record.actor()),
            output::value(entry.record.body())
        ));
    }
}

/// The question in words, with times as people read them.
pub(crate) fn asked(question: &Question) -> String {
    let Question::Period { ledger, from, to } = question else {
        return question.to_string();
    };
    let of = match ledger.as_deref() {
        None => "every ledger",
        Some("") => "the server's ledger",
        Some(ledger) => ledger,
    };
    let (from, to) = (time(*from), time(*to));
    format!("records of {of} from {from} until before {to}")
}

/// Where the ledgers end that a complete pack answers for.
pub(crate) fn up_to(report: &Report) -> String {
    match report.question {
        Question::Record { .. } => return ": it holds the record that was asked for".to_owned(),
        Question::Range { .. } => return ": it holds the records that were asked for".to_owned(),
        _ => {}
    }
    let ends: Vec<String> = report
        .checkpoints
        .iter()
        .map(|head| match head.size.checked_sub(1) {
            Some(last) => format!("record {last} of {}", head.origin),
            None => format!("the beginning of {}", head.origin),
        })
        .collect();
    format!(" up to {}", ends.join(" and "))
}

pub(crate) fn answers(report: &Report) -> usize {
    report.records.iter().filter(|entry| entry.answers).count()
}

pub(crate) fn time(milliseconds: u64) -> String {
    Timestamp::from_millis(milliseconds).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trust_file_may_be_toml() {
        let key = "example.org/server+5d8466e4+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c";
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trust.toml");
        let text = format!("trust_domain = \"example.org\"\nledger_key = \"{key}\"\n");
        for (text, reads) in [
            (text.clone(), true),
            (format!("{text}x509_authorities = [\"AAAA\"]\n"), true),
            (format!("{text}more = 1\n"), false),
            (text.replace(" = ", " "), false),
        ] {
            files::write(&path, text.as_bytes()).unwrap();
            assert_eq!(trust_file(&path).is_ok(), reads, "{text}");
        }
    }

    /// A pack of one record verified by a trust file whose trust domain nobody had looked at.
    #[test]
    fn a_trust_file_without_a_real_trust_domain_is_refused() {
        let key = crypto::KeyPair::generate(crypto::Algorithm::Ed25519).unwrap();
        let signer = ledger::LedgerSigner::new("example.org/server", std::sync::Arc::new(key));
        let key = signer.unwrap().key().to_string();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trust.json");
        let read = |domain: &str| {
            let text = json!({ "trust_domain": domain, "ledger_key": key }).to_string();
            files::write(&path, text.as_bytes()).unwrap();
            trust_file(&path)
        };
        assert_eq!(read("example.org").unwrap().trust_domain, "example.org");
        for garbage in [
            "",
            "\u{1b}[31m",
            "Example.org",
            "no domain",
            "example.com",
            "example.or",
        ] {
            let refused = read(garbage).unwrap_err();
            assert_eq!(
                refused.findings()[0].code,
                "VERIFY-TRUST-FILE",
                "{garbage:?}"
            );
        }
    }
}
