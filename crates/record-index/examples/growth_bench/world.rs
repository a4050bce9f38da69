//! What a gateway writes, from so many identities about so many tables; and records with little to say.

use crate::Outcome;
use ledger::body::{
    ActionOn, Begin, Body as _, Coverage, Intent, Outcome as Ended, SessionEnd, SessionStart,
};
use ledger::{Base64, Decimal, Draft, RecordBuilder};
use ledger_store::Ledger;

pub(crate) const ORIGIN: &str = "example.org/gateway/db1";
/// Different for each record that is next to another, and each as often as the others.
pub(crate) const IDENTITIES: u64 = 997;
pub(crate) const TABLES: u64 = 4_999;
/// A session, and so many intents with their outcomes.
const OPERATIONS: u64 = 50;
pub(crate) const PER_SESSION: u64 = 1 + 2 * OPERATIONS;

pub(crate) fn identity(session: u64) -> String {
    format!("spiffe://example.org/shop/service-{}", session % IDENTITIES)
}

pub(crate) fn table(number: u64) -> String {
    format!("Table::\"shop/public/t{}\"", number % TABLES)
}

pub(crate) fn begin(ledger: &Ledger) -> Outcome<()> {
    let begin = Begin {
        trust_domain: "example.org".to_owned(),
        ledger_key: Base64(ledger.key().public_key().spki_der().to_vec()),
        format: "v1".to_owned(),
    };
    let draft = begin.record().actor("gateway", "self").draft()?;
    ledger.append(draft).wait()?;
    Ok(())
}

/// The records that are appended together: a session of a gateway, or such as say 64 bytes each.
pub(crate) fn group(world: &str, number: u64, first: u64) -> Outcome<Vec<Draft>> {
    match world {
        "gateway" => session(number, first),
        "small" => small(first),
        other => Err(format!("no world {other:?}").into()),
    }
}

/// How sessions ended, in 64 bytes of body each.
fn small(first: u64) -> Outcome<Vec<Draft>> {
    (first..first + PER_SESSION)
        .map(|seq| {
            let ended = SessionEnd {
                session: format!("{:04x}", seq % 0x1_0000),
                reason: "error".to_owned(),
                detail: String::new(),
                operations: Decimal(seq % 10),
            };
            Ok(ended.record().actor("gateway", "self").draft()?)
        })
        .collect()
}

/// All records of the session of that number, the first of which is at `first`.
fn session(number: u64, first: u64) -> Outcome<Vec<Draft>> {
    let (who, name) = (identity(number), format!("{number:016x}"));
    let by = |record: RecordBuilder| Outcome::Ok(record.actor(&who, "x509:01").draft()?);
    let start = SessionStart {
        session: name.clone(),
        spiffe_id: who.clone(),
        serial: "5f1d3a0c9be24477a1b0c9d8e7f60512".to_owned(),
        issuance: Some(Decimal(number)),
        resource: "postgres:shop".to_owned(),
        role: "r".to_owned(),
        application: "psql".to_owned(),
        claimed_on_behalf_of: Vec::new(),
        on_behalf_of: Vec::new(),
    };
    let mut drafts = vec![by(start.record())?];
    for operation in 0..OPERATIONS {
        let seq = first + drafts.len() as u64;
        let intent = Intent {
            session: name.clone(),
            statement: "c0535e4be2b79ffd93291305436bf889314e4a3faec05ecffcbb7df31ad9e51a"
                .to_owned(),
            actions: vec![ActionOn {
                action: if operation % 10 == 0 {
                    "update"
                } else {
                    "select"
                }
                .to_owned(),
                resources: vec![table(number * OPERATIONS + operation)],
                more: None,
                columns: Vec::new(),
            }],
            decision: format!("{name}.{operation}"),
            policies: vec!["services use their tables".to_owned()],
            coverage: Coverage::Complete,
            more_policies: None,
            claimed_on_behalf_of: Vec::new(),
            on_behalf_of: Vec::new(),
        };
        drafts.push(by(intent.record())?);
        let ended = Ended {
            intent: Decimal(seq),
            result: "ok".to_owned(),
            sqlstate: None,
            rows: Some(Decimal(operation)),
            tag: Some(format!("SELECT {operation}")),
            transaction: None,
        };
        drafts.push(by(ended.record())?);
    }
    Ok(drafts)
}
