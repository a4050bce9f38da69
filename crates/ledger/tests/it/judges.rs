//! Two judges: what `ledger::pack` says of a pack, `verifiers/python` has to say too. The tests of packs
//! verify through here, so that each pack that they make, whole, cut or forged, is judged by both.

use ledger::pack::{Failure, Report, Trust};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{LazyLock, Mutex};

/// As [`ledger::pack::verify`]. Panics if the Python verifier sees anything else in the pack.
#[track_caller]
pub(crate) fn verify(pack: &[u8], trust: &Trust) -> Result<Report, Failure> {
    let verdict = ledger::pack::verify(pack, trust);
    if let Some(judge) = &*PYTHON {
        let expected = verdict.as_ref().map_or_else(refusal, report);
        let told = judge.lock().unwrap().ask(pack, trust);
        if told != expected {
            let kept = std::env::temp_dir().join(format!("judges-differ-{}", std::process::id()));
            std::fs::write(&kept, pack).unwrap();
            panic!(
                "the judges differ about {}: Python\n{told:#}\nRust\n{expected:#}",
                kept.display()
            );
        }
    }
    verdict
}

/// What `trilith verify --json` says of it, but for the times: its own test compares those.
fn report(report: &Report) -> Value {
    let records: Vec<Value> = report
        .records
        .iter()
        .map(|item| {
            let body: Value = serde_json::from_str(item.record.body()).unwrap();
            json!({
                "ledger": item.record.origin(), "index": item.index, "type": item.record.kind().as_str(),
                "actor": item.record.actor(), "body": body, "answers": item.answers,
            })
        })
        .collect();
    let checkpoints: Vec<Value> = report
        .checkpoints
        .iter()
        .zip(&report.extents)
        .map(|(head, extent)| {
            json!({
                "origin": head.origin.as_str(), "size": head.size, "complete": extent.complete,
                "entries": extent.entries, "answers": extent.answers, "matching": extent.matching,
            })
        })
        .collect();
    let quorum = report.quorum.as_ref().map(|quorum| {
        let lines = quorum.cosignatures.iter().map(|line| {
            json!({"name": line.name, "key_id": format!("{:08x}", line.id), "kind": line.scheme.as_str()})
        });
        json!({"reached": quorum.reached, "cosignatures": lines.collect::<Vec<_>>()})
    });
    let erased: Vec<Value> = report
        .erased
        .iter()
        .map(|one| {
            json!({
                "ledger": one.origin, "index": one.index, "sha256": one.sha256.to_string(),
                "record": one.by_record, "by": one.by, "reason": one.reason,
            })
        })
        .collect();
    let doubts: Vec<String> = report.doubts.iter().map(ToString::to_string).collect();
    json!({
        "verified": true, "complete": report.is_complete(), "not_shown": doubts,
        "question": report.question.to_json(), "erased": erased,
        "answers": report.records.iter().filter(|item| item.answers).count(),
        "records": records, "checkpoints": checkpoints, "blobs": report.blobs.len(), "quorum": quorum,
        "certificates": report.certificates.iter().map(|(sha256, at)| json!({"sha256": sha256, "issuance": at}))
            .collect::<Vec<_>>(),
    })
}

fn refusal(failure: &Failure) -> Value {
    json!({"code": failure.code, "where": failure.section, "record": failure.record})
}

struct Judge {
    _process: Child,
    asked: ChildStdin,
    told: BufReader<ChildStdout>,
}

/// It ends with the tests, when nobody can ask any more.
static PYTHON: LazyLock<Option<Mutex<Judge>>> = LazyLock::new(|| {
    let Some(python) = testkit::venv_python(&["cryptography"]) else {
        testkit::skip(
            "ledger.python-verifier",
            "no Python with cryptography in target/venv; run cargo xtask test",
        );
        return None;
    };
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut process = Command::new(python)
        .arg(tests.join("judge_packs.py"))
        .arg(tests.join("../../../verifiers/python"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    Some(Mutex::new(Judge {
        asked: process.stdin.take().unwrap(),
        told: BufReader::new(process.stdout.take().unwrap()),
        _process: process,
    }))
});

impl Judge {
    fn ask(&mut self, pack: &[u8], trust: &Trust) -> Value {
        let (domain, key) = (&trust.trust_domain, trust.ledger_key.to_string());
        let policy = trust.policy.as_ref().map(ledger::Policy::text);
        let asked = json!({
            "trust_domain": domain, "ledger_key": key, "policy": policy, "length": pack.len(),
            "lineage": ledger::lineage::links(&trust.ledger_key),
        });
        writeln!(self.asked, "{asked}").unwrap();
        self.asked.write_all(pack).unwrap();
        self.asked.flush().unwrap();
        let mut told = String::new();
        self.told.read_line(&mut told).unwrap();
        let mut told: Value = serde_json::from_str(&told).unwrap();
        let checkpoints = told.get_mut("checkpoints").and_then(Value::as_array_mut);
        for checkpoint in checkpoints.into_iter().flatten() {
            checkpoint.as_object_mut().unwrap().remove("until");
        }
        let erased = told.get_mut("erased").and_then(Value::as_array_mut);
        for one in erased.into_iter().flatten() {
            one.as_object_mut().unwrap().remove("time");
        }
        let lines = told
            .pointer_mut("/quorum/cosignatures")
            .and_then(Value::as_array_mut);
        for line in lines.into_iter().flatten() {
            line.as_object_mut().unwrap().remove("time");
        }
        told
    }
}
