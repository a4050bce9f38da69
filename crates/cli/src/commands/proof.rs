//! `.tlog-proof` files: one record in one log, under the quorum of the trust file.

use crate::arguments::Global;
use crate::commands::pack::{causes, time};
use crate::{Failure, files, output};
use facts::Finding;
use ledger::pack::Trust;
use ledger::{Code, LogKey, ProofFile, Quorum, VerifiedProof, merkle};
use serde_json::{Value, json};
use std::path::Path;

/// A record of ours has 16 KiB at most; other logs take more.
const MAX_RECORD: u64 = 1 << 20;

/// True if it says that it is a proof; whether it is one is seen when it is read.
pub(crate) fn is_one(bytes: &[u8]) -> bool {
    bytes.starts_with(b"c2sp.org/tlog-proof@")
}

/// Verifies the proof for the record in `record`, or else for what the proof has as `extra`.
pub(crate) fn verify(
    bytes: &[u8],
    trust: &Trust,
    record: Option<&Path>,
    global: &Global,
) -> Result<(), Failure> {
    let refused = |code: &'static str, what: String| {
        Failure::verification(vec![Finding::new(code, what).next(next(code))])
    };
    let file = std::str::from_utf8(bytes)
        .map_err(|_| refused("LEDGER-PROOF-FILE", "the proof is no text".to_owned()))?
        .parse::<ProofFile>()
        .map_err(|error| refused("LEDGER-PROOF-FILE", causes(&error)))?;
    let record = match (record, &file.extra) {
        (Some(path), _) => files::read(path, MAX_RECORD)?.ok_or_else(|| {
            Finding::new(
                "CLI-FILE-SIZE",
                format!("{} is larger than a record of any log", path.display()),
            )
            .expected(format!("at most {MAX_RECORD} bytes"))
            .next("name the file with the one record that the proof is for")
        })?,
        (None, Some(extra)) => extra.clone(),
        (None, None) => {
            return Err(Failure::usage(
                "a .tlog-proof says where a record is, not what it is: name the record's file with --record",
            ));
        }
    };
    let logs = trust.logs();
    let logs: Vec<&LogKey> = logs.iter().collect();
    let leaf = merkle::leaf_hash(&record);
    let shown = file
        .verify(&leaf, &logs, trust.policy.as_ref())
        .map_err(|failure| refused(failure.code(), causes(&failure)))?;
    if global.json {
        output::json(&document(&shown, &record));
    } else {
        tell(&shown, &record);
    }
    Ok(())
}

/// What to do about a proof that does not hold.
fn next(code: &str) -> &'static str {
    match code {
        "LEDGER-QUORUM" => "ask for the proof again once more witnesses have cosigned",
        "LEDGER-CHECKPOINT-ORIGIN" => {
            "name that log in the policy of the trust file; for a gateway's ledger, make a pack with `trilith pack --record`"
        }
        "LEDGER-CHECKPOINT-FORMER" => {
            "ask for the proof anew: it is then under the ledger's newest key; by the trust file of its time it verifies as it is, and whoever had the replaced key can have made it"
        }
        _ => "do not rely on this proof; ask for it again, and keep this one as evidence",
    }
}

fn document(shown: &VerifiedProof, record: &[u8]) -> Value {
    json!({
        "verified": true, "ledger": shown.checkpoint.origin, "index": shown.index,
        "size": shown.checkpoint.size, "root": crypto::base64::encode(&shown.checkpoint.root),
        "record_bytes": record.len(), "quorum": shown.quorum.as_ref().map(quorum_json),
    })
}

fn tell(shown: &VerifiedProof, record: &[u8]) {
    output::line(format_args!(
        "verified: these {} bytes are record {} of the {} of {}",
        record.len(),
        shown.index,
        shown.checkpoint.size,
        output::value(&shown.checkpoint.origin)
    ));
    match &shown.quorum {
        Some(quorum) => output::line(format_args!("  {}", quorum_text(quorum))),
        None => output::line("  NOT witnessed: the trust file has no policy"),
    }
}

/// As it stands in documents.
pub(crate) fn quorum_json(quorum: &Quorum) -> Value {
    let cosignatures = quorum.cosignatures.iter().map(|line| {
        json!({
            "name": line.name, "key_id": format!("{:08x}", line.id), "kind": line.scheme.as_str(),
            "time": at(line.time),
        })
    });
    json!({ "reached": quorum.reached, "cosignatures": cosignatures.collect::<Vec<_>>() })
}

/// As it is told.
pub(crate) fn quorum_text(quorum: &Quorum) -> String {
    let by: Vec<String> = quorum
        .cosignatures
        .iter()
        .map(|line| match at(line.time) {
            Some(time) => format!("{} at {time}", output::value(&line.name)),
            None => output::value(&line.name),
        })
        .collect();
    match (quorum.reached, by.is_empty()) {
        (true, true) => "witnessed by nobody, and the policy asks for nobody".to_owned(),
        (true, false) => format!("witnessed, as the policy asks: {}", by.join(", ")),
        (false, true) => "NOT witnessed: no witness of the policy has cosigned".to_owned(),
        (false, false) => format!("NOT witnessed as the policy asks, only: {}", by.join(", ")),
    }
}

/// A cosignature's time, if it states one that a calendar has.
fn at(seconds: u64) -> Option<String> {
    let milliseconds = seconds.checked_mul(1000)?;
    (seconds > 0).then(|| time(milliseconds))
}
