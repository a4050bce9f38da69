//! A ledger of a gateway that is days old, and what is asked of its oldest records.

use crypto::{Algorithm, Custody as _};
use custody::FileCustody;
use facts::{Finding, Timestamp};
use gateway::retention::{Prune, Pruning, prune};
use ledger::body::{self, Body as _, Coverage};
use ledger::{Base64, Digest, RecordBuilder, Stamp};
use ledger_store::{Ledger, Options};
use std::path::Path;

const DAY: u64 = 24 * 60 * 60 * 1000;

/// Ten days ago.
fn old() -> Stamp {
    let now = ledger_store::system_clock();
    Stamp {
        wall: now.wall - 10 * DAY,
        ..now
    }
}

/// What a run of ten days ago left in `data_dir`: `sessions` of four records each, in small segments.
pub(crate) fn fill(data_dir: &Path, origin: &str, sessions: u64) {
    let custody = FileCustody::open(&data_dir.join("keys")).unwrap();
    let signer = custody
        .load_or_generate("ledger", Algorithm::Ed25519)
        .unwrap();
    let options = Options {
        segment_bytes: 30_000,
        reserve_bytes: 0,
        clock: old,
        ..Options::default()
    };
    let ledger = Ledger::open(&data_dir.join("ledger"), signer, origin, &options).unwrap();
    let put = |record: RecordBuilder| record.actor("trilith gateway", "self").draft().unwrap();
    let begin = body::Begin {
        trust_domain: "example.org".to_owned(),
        ledger_key: Base64(ledger.key().public_key().spki_der().to_vec()),
        format: "v1".to_owned(),
    };
    let start = body::Start {
        program: "trilith gateway".to_owned(),
        version: String::new(),
        epoch: ledger.epoch().into(),
        size: 0.into(),
        root: Digest(ledger::merkle::empty_root()),
    };
    let first = vec![put(begin.record()), put(start.record())];
    ledger.append_many(first).wait().unwrap();
    for number in 0..sessions {
        let session = format!("s{number}");
        let seq = ledger.reader().size();
        let begun = body::SessionStart {
            session: session.clone(),
            spiffe_id: "spiffe://example.org/payments/api".to_owned(),
            serial: "aa".to_owned(),
            issuance: None,
            resource: "postgres:shop".to_owned(),
            role: "r".to_owned(),
            application: String::new(),
            claimed_on_behalf_of: Vec::new(),
            on_behalf_of: Vec::new(),
        };
        let intent = body::Intent {
            session: session.clone(),
            statement: "fp:1".to_owned(),
            actions: vec![body::ActionOn {
                action: "select".to_owned(),
                resources: vec!["Table::\"shop/public/orders\"".to_owned()],
                more: None,
                columns: Vec::new(),
            }],
            decision: format!("pg:{}", seq + 1),
            policies: Vec::new(),
            coverage: Coverage::Complete,
            more_policies: None,
            claimed_on_behalf_of: Vec::new(),
            on_behalf_of: Vec::new(),
        };
        let outcome = body::Outcome {
            intent: (seq + 1).into(),
            result: "ok".to_owned(),
            sqlstate: None,
            rows: None,
            tag: None,
            transaction: None,
        };
        let ended = body::SessionEnd {
            session,
            reason: "closed".to_owned(),
            detail: String::new(),
            operations: 1.into(),
        };
        let drafts = [
            begun.record(),
            intent.record(),
            outcome.record(),
            ended.record(),
        ];
        ledger.append_many(drafts.map(put).into()).wait().unwrap();
    }
    let stop = body::Stop {
        reason: "shutdown".to_owned(),
    };
    ledger.append(put(stop.record())).wait().unwrap();
    ledger.close().unwrap();
}

pub(crate) fn ask(data_dir: &Path, days: u64, really: bool) -> Result<Pruning, Finding> {
    let now = Timestamp::now();
    let before = Timestamp::from_millis(now.as_millis() - days * DAY);
    prune(
        data_dir,
        &Prune {
            before,
            reason: "case 7",
            by: "uid:0",
            now,
            really,
        },
    )
}
