//! Packs: made by the server, checked by anybody. `verify` opens two files and nothing else.

use crate::arguments::{Global, PackArguments, VerifyArguments};
use crate::commands::ledger::reference;
use crate::{Failure, admin, output};
use anyhow::Context as _;
use facts::Finding;
use ledger::pack::Trust;
use proto::v1;
use serde_json::{Value, json};
use std::io::Write as _;
use std::path::Path;

/// A pack larger than this is not read into memory.
const MAX_PACK: u64 = 1 << 30;

pub(crate) async fn pack(arguments: PackArguments, global: &Global) -> Result<(), Failure> {
    let asked = arguments.question;
    let question = match (asked.record, asked.accesses, asked.issuance) {
        (Some(record), _, _) => {
            let (ledger, index) = reference(&record)?;
            json!({ "kind": "record", "ledger": ledger, "index": index })
        }
        (_, Some(identity), _) => json!({ "kind": "access", "identity": identity }),
        (_, _, Some(serial)) => json!({ "kind": "issuance", "serial": serial }),
        (None, None, None) => return Err(Failure::usage("a pack answers a question: name one")),
    };
    let mut stream = admin::connect(&global.admin_socket)
        .await?
        .pack(v1::PackRequest {
            question: question.to_string(),
        })
        .await
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
    write_whole(&arguments.output, &bytes)?;
    if global.json {
        output::json(&json!({
            "pack": arguments.output, "bytes": bytes.len(),
            "sha256": crypto::hex::encode(&crypto::sha256(&bytes)),
        }));
    } else {
        output::line(format_args!(
            "{} ({} bytes); check it with: trilith verify {} --trust FILE",
            arguments.output.display(),
            bytes.len(),
            arguments.output.display()
        ));
    }
    Ok(())
}

/// The file is there whole or not at all.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let failed = || format!("cannot write {}", path.display());
    let mut file = tempfile::NamedTempFile::new_in(folder).with_context(failed)?;
    file.write_all(bytes).with_context(failed)?;
    file.persist(path).with_context(failed)?;
    Ok(())
}

/// The server's own account of what to trust. Worth as much as the way on which it is fetched.
pub(crate) async fn trust(global: &Global) -> Result<(), Failure> {
    let answer = admin::connect(&global.admin_socket)
        .await?
        .status(v1::StatusRequest {})
        .await
        .map_err(|status| admin::refusal(&status))?;
    let status = admin::document(answer)?;
    let text = |pointer: &str| {
        status
            .pointer(pointer)
            .and_then(Value::as_str)
            .with_context(|| format!("the server's status has no {pointer}"))
    };
    let roots = status
        .get("x509_authorities")
        .and_then(Value::as_array)
        .context("the server's status has no x509_authorities")?
        .iter()
        .filter_map(Value::as_str)
        .map(crypto::base64::decode)
        .collect::<Result<Vec<_>, _>>()
        .context("the server's root certificates")?;
    let trust = Trust {
        trust_domain: text("/trust_domain")?.to_owned(),
        ledger_key: text("/ledger/key")?
            .parse()
            .context("the server's ledger key")?,
        x509_authorities: roots,
    };
    let document = serde_json::to_value(&trust).context("cannot print the trust")?;
    output::line(format_args!("{document:#}"));
    Ok(())
}

/// What the user trusts; a pack or anything else in its place is refused by name.
fn trust_file(path: &Path) -> Result<Trust, Failure> {
    let bytes = std::fs::read(path).map_err(|error| Failure::unreadable(path, &error))?;
    let wrong = |what: String| {
        Finding::new(
            "VERIFY-TRUST-FILE",
            format!("{} is not a trust file: {what}", path.display()),
        )
        .expected("the JSON that `trilith trust` prints")
        .next("print one with `trilith trust` at a server that you trust, and name it with --trust")
    };
    let text = std::str::from_utf8(&bytes).map_err(|_| wrong("it is no text".to_owned()))?;
    Trust::from_json(text).map_err(|error| wrong(error.to_string()).into())
}

pub(crate) fn verify(arguments: &VerifyArguments, global: &Global) -> Result<(), Failure> {
    let trust = trust_file(&arguments.trust)?;
    let unreadable = |error: std::io::Error| Failure::unreadable(&arguments.pack, &error);
    let length = std::fs::metadata(&arguments.pack)
        .map_err(unreadable)?
        .len();
    if length > MAX_PACK {
        return Err(
            Finding::new("PACK-TOO-LARGE", "the pack is larger than any that is made")
                .expected(format!("at most {MAX_PACK} bytes"))
                .observed(format!("{length} bytes"))
                .into(),
        );
    }
    let pack = std::fs::read(&arguments.pack).map_err(unreadable)?;
    let report = ledger::pack::verify(&pack, &trust).map_err(|failure| {
        let place = failure.record.map_or_else(
            || failure.section.clone(),
            |index| format!("{}, record {index}", failure.section),
        );
        Failure::verification(vec![
            Finding::new(failure.code, failure.message.clone())
                .observed(place)
                .next("do not rely on this pack; ask for it again, and keep this one as evidence"),
        ])
    })?;
    let records: Vec<Value> = report
        .records
        .iter()
        .map(|entry| {
            let origin = entry.record.origin();
            let body = serde_json::from_str(entry.record.body()).unwrap_or(Value::Null);
            json!({
                "ledger": origin, "index": entry.index, "type": entry.record.kind().as_str(),
                "actor": entry.record.actor(), "body": body,
            })
        })
        .collect();
    let heads: Vec<Value> = report
        .checkpoints
        .iter()
        .map(|head| json!({ "origin": head.origin.as_str(), "size": head.size }))
        .collect();
    if global.json {
        output::json(&json!({
            "verified": true, "question": report.question, "records": records,
            "checkpoints": heads, "blobs": report.blobs.len(),
        }));
        return Ok(());
    }
    output::line(format_args!(
        "verified: {} records under {} checkpoints, {} blobs",
        records.len(),
        heads.len(),
        report.blobs.len()
    ));
    for head in &report.checkpoints {
        output::line(format_args!(
            "  checkpoint {} of {} records",
            head.origin, head.size
        ));
    }
    for entry in &report.records {
        output::line(format_args!(
            "  {}:{} {} {} {}",
            entry.record.origin(),
            entry.index,
            entry.record.kind().as_str(),
            entry.record.actor(),
            entry.record.body()
        ));
    }
    Ok(())
}
