//! `ledger erase`: the plan, the signature of an author, and the act. And of a record that is shown, what is gone of it.

use super::each;
use crate::arguments::{EraseArguments, Global};
use crate::commands::{administer, author};
use crate::{Failure, admin, files, output};
use anyhow::Context as _;
use estate::{Approval, ApprovalSubject};
use facts::{Finding, Timestamp};
use proto::v1;
use serde_json::Value;

const HOUR_MS: u64 = 3_600_000;
/// What is signed and used at once, and what is written for somebody else.
const OWN_HOURS: u64 = 1;
const OTHERS_HOURS: u64 = 24;
/// As much as the server takes.
const MAX_APPROVAL: u64 = 1 << 20;

pub(super) async fn erase(arguments: EraseArguments, global: &Global) -> Result<(), Failure> {
    let request = v1::EraseRequest {
        identity: arguments.identity.clone().unwrap_or_default(),
        records: arguments.records.clone(),
        reason: arguments.reason.clone(),
        ..v1::EraseRequest::default()
    };
    let plan = ask(request.clone(), global).await?;
    let subject = plan.get("subject").filter(|subject| !subject.is_null());
    let subject: Option<ApprovalSubject> = subject
        .map(|subject| serde_json::from_value(subject.clone()))
        .transpose()
        .context("the server names something else than what is signed")?;
    if let Some(out) = &arguments.sign_to {
        let subject = subject.ok_or_else(|| {
            Finding::new(
                "ERASE-UNSIGNED",
                "there is nothing to sign: nothing would go, or the estate in force has no two authors",
            )
            .next("run the same with --yes in the place of --sign-to")
        })?;
        let signed = sign(&arguments, subject, OTHERS_HOURS)?;
        files::write(out, &signed)?;
        administer::print(&plan, global);
        output::note(format_args!(
            "signed for {OTHERS_HOURS} h, in {}; whoever erases names it with --approval",
            out.display()
        ));
        return Ok(());
    }
    if !arguments.yes {
        administer::print(&plan, global);
        let nothing = plan.get("erased").and_then(Value::as_array);
        output::note(match nothing.is_some_and(Vec::is_empty) {
            true => "Nothing was erased, and nothing would be.",
            false => "Nothing was erased. With --yes this is, for good; records and proofs stay.",
        });
        return Ok(());
    }
    let mut approvals = Vec::new();
    for path in &arguments.approval {
        let approval = files::read(path, MAX_APPROVAL)?.ok_or_else(|| {
            let message = format!("{} is larger than any approval", path.display());
            Finding::new("ESTATE-APPROVAL-FORM", message)
                .next("name a file that `trilith ledger erase` has written with --sign-to")
        })?;
        approvals.push(approval);
    }
    if let (Some(subject), true) = (subject, arguments.author.is_some()) {
        approvals.push(sign(&arguments, subject, OWN_HOURS)?);
    }
    let act = v1::EraseRequest {
        act: true,
        approvals,
        ..request
    };
    administer::print(&ask(act, global).await?, global);
    Ok(())
}

async fn ask(request: v1::EraseRequest, global: &Global) -> Result<Value, Failure> {
    let answer = admin::connect(global)
        .await?
        .erase(request)
        .await
        .map_err(|status| admin::refusal(&status))?;
    admin::document(answer)
}

fn sign(
    arguments: &EraseArguments,
    subject: ApprovalSubject,
    hours: u64,
) -> Result<Vec<u8>, Failure> {
    let (Some(name), Some(keys)) = (&arguments.author, &arguments.keys) else {
        return Err(Failure::usage("--author and --keys say who signs"));
    };
    let key = author::key(keys)?;
    let expires = Timestamp::now().as_millis() + hours * HOUR_MS;
    let approval = Approval::sign(subject, name, expires, key.as_ref())?;
    Ok(serde_json::to_vec_pretty(&approval).context("cannot write an approval")?)
}

/// Says what of the server's record `index` was erased, as far as the ledger says so.
pub(super) async fn told(index: u64, global: &Global) -> Result<(), Failure> {
    let request = v1::RecordsRequest {
        ledger: "server".to_owned(),
        from_index: index,
        types: vec![ledger::RecordType::Erasure.as_str().to_owned()],
        ..v1::RecordsRequest::default()
    };
    let mut notes = Vec::new();
    each(request, global, |item, record| {
        let erased = record.pointer("/body/erased").and_then(Value::as_array);
        let of_it = erased.into_iter().flatten().filter(|one| {
            one.get("record").and_then(Value::as_str) == Some(index.to_string().as_str())
        });
        let kinds: Vec<&str> = of_it
            .filter_map(|one| one.get("kind").and_then(Value::as_str))
            .collect();
        if kinds.is_empty() {
            return;
        }
        let text = |path: &str| {
            let text = record.pointer(path).and_then(Value::as_str);
            text.unwrap_or_default().to_owned()
        };
        let at = text("/time/wall").parse().unwrap_or_default();
        notes.push(format!(
            "What it names ({}) was erased by record {} on {}, by {}: {}",
            kinds.join(", "),
            item.index,
            Timestamp::from_millis(at),
            text("/body/by"),
            text("/body/reason")
        ));
    })
    .await?;
    for note in notes {
        output::note(output::value(&note));
    }
    Ok(())
}
