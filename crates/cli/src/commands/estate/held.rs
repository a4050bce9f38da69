//! From which record to which an invariant held. Read from a ledger's folder, under checkpoints that a key signed
//! whom the user trusts; the server is asked nothing.

use crate::arguments::{Global, HeldArguments};
use crate::commands::pack::trust_file;
use crate::{Failure, output};
use estate::{Estate, EstateFiles, approval_bytes};
use estate_prove::{Options, Result as Proved};
use facts::Finding;
use ledger::RecordType;
use ledger::body::{EstateVersion, InvariantApproval, Proof};
use serde::Serialize;
use server::Past;
use std::process::ExitCode;
use std::time::Duration;

/// Records between two versions of the estate, in which one thing is true of the invariant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Span {
    /// The record that made the first version of these current.
    from: u64,
    /// The last record before something else was true; none while it still is.
    to: Option<u64>,
    #[serde(flatten)]
    state: State,
    /// The records of the proofs, one a version.
    proofs: Vec<u64>,
    /// The records that made the versions current, one a version.
    #[serde(skip)]
    versions: Vec<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "status", rename_all = "kebab-case")]
enum State {
    /// Over any data.
    Proved { text: Option<String> },
    /// Of what was declared then, which is all that its author asked for.
    Today { text: Option<String> },
    /// Nobody knew; two authors answered for it.
    Trusted { text: Option<String>, approval: u64 },
    /// It was not there.
    Absent,
    /// The records do not say that it held.
    No,
}

impl State {
    const fn held(&self) -> bool {
        matches!(self, Self::Proved { .. } | Self::Today { .. })
    }

    const fn text(&self) -> Option<&String> {
        match self {
            Self::Proved { text } | Self::Today { text } | Self::Trusted { text, .. } => {
                text.as_ref()
            }
            Self::Absent | Self::No => None,
        }
    }

    fn sentence(&self) -> String {
        match self {
            Self::Proved { .. } => "held, proved for any data".to_owned(),
            Self::Today { .. } => "held, by enumeration of what was declared".to_owned(),
            Self::Trusted { approval, .. } => {
                format!("not known to hold; two authors answered for it in record {approval}")
            }
            Self::Absent => "was no invariant".to_owned(),
            Self::No => "is not said to have held".to_owned(),
        }
    }
}

pub(super) fn run(arguments: &HeldArguments, global: &Global) -> Result<ExitCode, Failure> {
    let trust = trust_file(&arguments.trust)?;
    let past = Past::open(&arguments.data, &trust.ledger_key)?;
    let spans = spans(&past, arguments)?;
    let known = spans.iter().any(|span| span.state != State::Absent);
    if !known {
        return Err(Finding::new(
            "HELD-INVARIANT",
            "no version of the estate had this invariant",
        )
        .observed(arguments.invariant.clone())
        .next("name its @id, or FILE:LINE if it has none")
        .into());
    }
    let mut checked = Checked::default();
    if arguments.verify {
        for span in &spans {
            check(&past, span, arguments, &mut checked)?;
        }
    }
    if global.json {
        let verified = arguments.verify.then_some(checked.proved);
        output::json(&serde_json::json!({
            "invariant": arguments.invariant, "records": past.size(),
            "spans": spans, "proved_again": verified, "erased": checked.erased,
        }));
    } else {
        for span in &spans {
            let to = match span.to {
                Some(to) => format!("record {to}"),
                None => "now".to_owned(),
            };
            output::line(format_args!(
                "from record {} to {to}: {}",
                span.from,
                span.state.sentence()
            ));
        }
        for gone in &checked.erased {
            output::line(format_args!(
                "record {}: not proved again: erased by record {}",
                gone.record, gone.erased_by
            ));
        }
        if arguments.verify {
            output::note(format_args!(
                "every record is in the ledger of {} records; proved again: {}",
                past.size(),
                checked.proved
            ));
        }
    }
    // What is gone is not proved again, whoever has erased it.
    let within = spans.iter().all(|span| span.state.held()) && checked.erased.is_empty();
    Ok(if within {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(crate::EXIT_VERIFICATION)
    })
}

/// What was true of the invariant, from version to version, in what was asked for.
fn spans(past: &Past, arguments: &HeldArguments) -> Result<Vec<Span>, Failure> {
    let end = arguments
        .to
        .map_or(past.size(), |to| to.saturating_add(1).min(past.size()));
    let mut all: Vec<Span> = Vec::new();
    for index in 0..end {
        let record = past.record(index)?;
        if record.kind() != RecordType::EstateVersion {
            continue;
        }
        let version: EstateVersion = past.verified(index)?.expect_body().map_err(odd)?;
        let (state, proof) = state(past, &version, &arguments.invariant)?;
        let proofs: Vec<u64> = proof.into_iter().collect();
        if let Some(last) = all.last_mut()
            && last.state == state
        {
            last.proofs.extend(proofs);
            last.versions.push(index);
            continue;
        }
        if let Some(last) = all.last_mut() {
            last.to = Some(index.saturating_sub(1));
        }
        all.push(Span {
            from: index,
            to: None,
            state,
            proofs,
            versions: vec![index],
        });
    }
    all.retain(|span| span.to.is_none_or(|to| to >= arguments.from));
    if let Some(to) = arguments.to
        && let Some(last) = all.last_mut()
    {
        last.to = Some(to.min(past.size().saturating_sub(1)));
    }
    if let Some(first) = all.first_mut() {
        first.from = first.from.max(arguments.from);
    }
    Ok(all)
}

fn state(
    past: &Past,
    version: &EstateVersion,
    invariant: &str,
) -> Result<(State, Option<u64>), Failure> {
    let Some(at) = version.proof_index.map(|at| at.0) else {
        return Ok((State::No, None));
    };
    let proof: Proof = past.verified(at)?.expect_body().map_err(odd)?;
    if proof.version != version.version {
        return Ok((State::No, Some(at)));
    }
    let Some(result) = proof.invariants.iter().find(|one| one.id == invariant) else {
        return Ok((State::Absent, Some(at)));
    };
    let text = result.text.map(|text| text.to_string());
    let state = match (result.any_data.as_str(), result.today.as_str()) {
        ("proved", "holds" | "unknown") => State::Proved { text },
        ("unknown", _) if proof.approval_index.is_some() => State::Trusted {
            text,
            approval: proof.approval_index.map_or(0, |at| at.0),
        },
        (_, "holds") => State::Today { text },
        _ => State::No,
    };
    Ok((state, Some(at)))
}

/// What came of proving again.
#[derive(Debug, Default)]
struct Checked {
    /// How many proofs that took.
    proved: usize,
    erased: Vec<Gone>,
}

/// What a record names and another says was erased.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Gone {
    /// An `estate-version`, or the approval that rests on it.
    record: u64,
    erased_by: u64,
}

/// Proves again what the records say, from the estates that they name, in what was asked for.
fn check(
    past: &Past,
    span: &Span,
    arguments: &HeldArguments,
    checked: &mut Checked,
) -> Result<(), Failure> {
    let of = |record: u64, erased_by: u64| Gone { record, erased_by };
    if let State::Trusted { approval, .. } = &span.state {
        let body: InvariantApproval = past.verified(*approval)?.expect_body().map_err(odd)?;
        let base = past.verified(body.base_index.0)?;
        let base: EstateVersion = base.expect_body().map_err(odd)?;
        for digest in [&body.subject.sha256, &base.blob.sha256] {
            if let Some(erased_by) = past.erased_by(digest) {
                checked.erased.push(of(*approval, erased_by));
                return Ok(());
            }
        }
        return signatures(past, *approval);
    }
    if !span.state.held() {
        return Ok(());
    }
    let nexts = span.versions.iter().skip(1).map(|next| Some(*next));
    for (index, next) in span.versions.iter().zip(nexts.chain([None])) {
        if next.is_some_and(|next| next <= arguments.from) {
            // Another was in force at the first record that was asked for.
            continue;
        }
        let version: EstateVersion = past.verified(*index)?.expect_body().map_err(odd)?;
        if let Some(erased_by) = past.erased_by(&version.blob.sha256) {
            checked.erased.push(of(*index, erased_by));
            continue;
        }
        again(past, &version, span, arguments)?;
        checked.proved += 1;
    }
    Ok(())
}

fn again(
    past: &Past,
    version: &EstateVersion,
    span: &Span,
    arguments: &HeldArguments,
) -> Result<(), Failure> {
    let wrong = |what: &str| {
        let finding = Finding::new("HELD-DISPROVED", "a record says what is not so")
            .expected(format!(
                "{}: {}",
                arguments.invariant,
                span.state.sentence()
            ))
            .observed(format!("version {}: {what}", version.version));
        Failure::verification(vec![finding])
    };
    let estate = recorded(past, version)?;
    let found = estate
        .invariants()
        .iter()
        .find(|one| one.reference.id == arguments.invariant)
        .ok_or_else(|| wrong("it has no such invariant"))?;
    if span
        .state
        .text()
        .is_some_and(|text| *text != found.digest())
    {
        return Err(wrong("the text of the invariant is another"));
    }
    let options = Options {
        question: Duration::from_secs(arguments.timeout),
        ..Options::with_solver(std::env::var_os("CVC5"))
    };
    let report = estate_prove::prove_blocking(&estate, &options);
    let one = report
        .invariants
        .iter()
        .find(|one| one.invariant.id == arguments.invariant)
        .ok_or_else(|| wrong("it is not proved"))?;
    let proved = matches!(one.result, Proved::Proved);
    if !one.is_accepted() || (matches!(span.state, State::Proved { .. }) && !proved) {
        return Err(wrong(&one.result.to_string()));
    }
    Ok(())
}

fn recorded(past: &Past, version: &EstateVersion) -> Result<Estate, Failure> {
    let unread = |what: String| {
        Finding::new(
            "HELD-ESTATE",
            "the estate that a record names cannot be read",
        )
        .observed(what)
    };
    let blob = past.blob(&version.blob.sha256)?;
    let files = EstateFiles::from_blob(&blob).map_err(|problem| unread(problem.to_string()))?;
    if files.version() != version.version.to_string() {
        return Err(unread(format!("it is version {}", files.version())).into());
    }
    Estate::compile_recorded(&files).map_err(|problems| {
        let first = problems.first().map(ToString::to_string);
        unread(first.unwrap_or_default()).into()
    })
}

/// Two authors of the version that was replaced did sign.
fn signatures(past: &Past, index: u64) -> Result<(), Failure> {
    let wrong = |what: &str| {
        let finding = Finding::new("HELD-APPROVAL", "an approval is not what it says")
            .observed(format!("record {index}: {what}"));
        Failure::verification(vec![finding])
    };
    let approval: InvariantApproval = past.verified(index)?.expect_body().map_err(odd)?;
    past.blob(&approval.subject.sha256)?;
    let base: EstateVersion = past
        .verified(approval.base_index.0)?
        .expect_body()
        .map_err(odd)?;
    let base = recorded(past, &base)?;
    let mut signed: Vec<&[u8]> = Vec::new();
    for one in &approval.signatures {
        let Some(key) = base.authors().get(&one.author) else {
            return Err(wrong("who signed was no author"));
        };
        let bytes = approval_bytes(&approval.subject.sha256.0, &one.author, one.expires);
        if key.verify(&bytes, &one.signature.0).is_err() {
            return Err(wrong("a signature is not good"));
        }
        if !signed.contains(&key.raw()) {
            signed.push(key.raw());
        }
    }
    if signed.len() < 2 {
        return Err(wrong("one author signed alone"));
    }
    Ok(())
}

#[expect(clippy::needless_pass_by_value, reason = "what `map_err` hands over")]
fn odd(error: ledger::RecordError) -> Failure {
    Finding::new("HELD-RECORD", "a record has another shape than its type")
        .observed(facts::with_causes(&error))
        .into()
}
