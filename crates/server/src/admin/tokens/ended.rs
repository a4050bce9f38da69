//! What the ledger says of a delegation that the state does not keep any more: its record, and by what it ended.

use ledger::body::{self, TargetKind};
use ledger::{Record, RecordType};
use ledger_store::{Reader, StoreError};
use serde::Serialize;
use std::ops::Range;

/// No delegation is good for longer than a day, and clocks differ.
const LONGEST_MS: u64 = 25 * 3_600_000;
/// Records read at once.
const AT_ONCE: u64 = 4_096;

/// How a delegation ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Ended {
    /// Unix milliseconds.
    pub(super) at: u64,
    /// `expiry` or `revocation`.
    pub(super) by: &'static str,
    /// The revocation's record in the server's ledger.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) record: Option<u64>,
    /// What was revoked: `serial JTI`, of itself or of one that it rests on; `identity ID` of somebody in its chain;
    /// `machine NAME` from which it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) revoked: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
    /// Who revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) who: Option<String>,
}

/// The record of the delegation `jti`, by which somebody acted at `at`, Unix milliseconds: sought backwards as far as
/// a delegation lasts. Blocks on the disk.
pub(super) fn sought(
    reader: &Reader,
    jti: &str,
    at: u64,
) -> Result<Option<(u64, body::Delegation)>, StoreError> {
    let mut end = reader.size();
    while end > 0 {
        let from = end.saturating_sub(AT_ONCE);
        let (found, oldest) = within(reader, jti, from..end)?;
        if found.is_some() {
            return Ok(found);
        }
        if oldest.is_some_and(|oldest| oldest.saturating_add(LONGEST_MS) < at) {
            break;
        }
        end = from;
    }
    Ok(None)
}

type Found = Option<(u64, body::Delegation)>;

/// Among these records; and when the first of them was made.
fn within(
    reader: &Reader,
    jti: &str,
    mut range: Range<u64>,
) -> Result<(Found, Option<u64>), StoreError> {
    let mut oldest = None;
    while range.start < range.end {
        let records = reader.read(range.clone())?;
        if records.is_empty() {
            break;
        }
        for bytes in records {
            let index = range.start;
            range.start += 1;
            let Ok(record) = Record::from_vec(bytes) else {
                continue;
            };
            oldest.get_or_insert(record.stamp().wall);
            if record.kind() == RecordType::Delegation
                && let Ok(body) = record.expect_body::<body::Delegation>()
                && body.jti == jti
            {
                return Ok((Some((index, body)), oldest));
            }
        }
    }
    Ok((None, oldest))
}

/// By what the delegation of record `index` ended, as of `now`; nothing of one that is good. Blocks on the disk.
pub(super) fn ended(
    reader: &Reader,
    (index, body): (u64, &body::Delegation),
    now: u64,
) -> Result<Option<Ended>, StoreError> {
    let expires = body.not_after.saturating_mul(1_000);
    let mut at = index + 1;
    'records: while at < reader.size() {
        let records = reader.read(at..reader.size().min(at + AT_ONCE))?;
        if records.is_empty() {
            break;
        }
        for bytes in records {
            let place = at;
            at += 1;
            let Ok(record) = Record::from_vec(bytes) else {
                continue;
            };
            let wall = record.stamp().wall;
            if wall > expires {
                break 'records;
            }
            if record.kind() != RecordType::Revocation {
                continue;
            }
            if let Ok(revocation) = record.expect_body::<body::Revocation>()
                && hits(&revocation.target, body)
            {
                let kind = match revocation.target.kind {
                    TargetKind::Identity => "identity",
                    TargetKind::Serial => "serial",
                    TargetKind::Machine => "machine",
                };
                return Ok(Some(Ended {
                    at: wall,
                    by: "revocation",
                    record: Some(place),
                    revoked: Some(format!("{kind} {}", revocation.target.value)),
                    reason: Some(revocation.reason),
                    who: Some(revocation.by),
                }));
            }
        }
    }
    Ok((now >= expires).then_some(Ended {
        at: expires,
        by: "expiry",
        record: None,
        revoked: None,
        reason: None,
        who: None,
    }))
}

/// Whether this takes the delegation back: itself or what it rests on, somebody in its chain, or its machine.
fn hits(target: &body::Target, body: &body::Delegation) -> bool {
    match target.kind {
        TargetKind::Serial => target.value == body.jti || body.rests_on.contains(&target.value),
        TargetKind::Identity => body.chain.contains(&target.value),
        TargetKind::Machine => !body.node.is_empty() && target.value == body.node,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crypto::{Algorithm, KeyPair};
    use ledger::body::Body as _;
    use ledger::{Digest, RecordBuilder, Stamp};
    use ledger_store::{Ledger, Options};
    use std::sync::Arc;

    const START: u64 = 1_700_000_000_000;

    struct World {
        _folder: tempfile::TempDir,
        ledger: Ledger,
        clock: u64,
    }

    impl World {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let signer = Arc::new(KeyPair::generate(Algorithm::Ed25519).unwrap());
            let options = Options {
                reserve_bytes: 0,
                ..Options::default()
            };
            let ledger =
                Ledger::open(folder.path(), signer, "example.org/server", &options).unwrap();
            Self {
                _folder: folder,
                ledger,
                clock: START,
            }
        }

        fn put(&mut self, record: RecordBuilder) -> u64 {
            self.clock += 1_000;
            let stamp = Stamp {
                wall: self.clock,
                mono: self.clock,
            };
            let draft = record.at(stamp).draft().unwrap();
            self.ledger.append(draft).wait().unwrap().index()
        }
    }

    fn delegation(jti: &str, rests_on: &[&str], seconds: u64) -> body::Delegation {
        let id = |path: &str| format!("spiffe://example.org/{path}");
        body::Delegation {
            jti: jti.to_owned(),
            tbs: Digest([1; 32]),
            issuer: Digest([2; 32]),
            not_before: START / 1_000,
            not_after: START / 1_000 + seconds,
            chain: vec![id("people/ada"), id("agents/helper")],
            rests_on: rests_on.iter().map(|&one| one.to_owned()).collect(),
            actions: Some(vec!["select".to_owned()]),
            resources: None,
            node: "m1".to_owned(),
        }
    }

    fn revocation(kind: TargetKind, value: &str) -> RecordBuilder {
        let target = body::Target {
            kind,
            value: value.to_owned(),
        };
        let body = body::Revocation {
            target,
            reason: "the task is over".to_owned(),
            by: "uid:0".to_owned(),
            whose: Vec::new(),
            node: None,
        };
        body.record().actor("uid:0", "peercred")
    }

    fn record(body: &body::Delegation) -> RecordBuilder {
        let server = "spiffe://example.org/trilith/server";
        body.clone().record().actor(server, "self")
    }

    #[test]
    fn a_delegation_is_found_long_after_it_has_left_the_state() {
        let mut world = World::new();
        let wanted = delegation("wanted", &[], 60);
        let other = delegation("other", &[], 60);
        world.put(record(&other));
        let at = world.put(record(&wanted));
        for _ in 0..5 {
            world.put(record(&other));
        }
        let reader = world.ledger.reader();
        let found = sought(reader, "wanted", START + 30_000).unwrap();
        assert_eq!(found, Some((at, wanted)));
        assert_eq!(sought(reader, "nobody's", START).unwrap(), None);
    }

    #[test]
    fn what_ended_it_is_the_first_that_takes_it_back_and_else_its_time() {
        let cases = [
            (TargetKind::Serial, "it", true),
            (TargetKind::Serial, "before", true),
            (TargetKind::Serial, "another", false),
            (
                TargetKind::Identity,
                "spiffe://example.org/people/ada",
                true,
            ),
            (TargetKind::Identity, "spiffe://example.org/x", false),
            (TargetKind::Machine, "m1", true),
            (TargetKind::Machine, "m2", false),
        ];
        for (kind, value, hit) in cases {
            let mut world = World::new();
            // What was revoked before does not count against it.
            world.put(revocation(kind, value));
            let body = delegation("it", &["before"], 60);
            let index = world.put(record(&body));
            let at = world.put(revocation(kind, value));
            world.put(revocation(TargetKind::Serial, "it"));
            let reader = world.ledger.reader();
            let found = ended(reader, (index, &body), START + 30_000).unwrap();
            let found = found.unwrap();
            assert_eq!(found.record, Some(if hit { at } else { at + 1 }), "{value}");
            assert_eq!(found.by, "revocation");
            assert_eq!(found.who.as_deref(), Some("uid:0"));
        }
        let mut world = World::new();
        let body = delegation("it", &[], 5);
        let index = world.put(record(&body));
        for _ in 0..5 {
            world.put(record(&delegation("other", &[], 60)));
        }
        // It had ended by itself before.
        world.put(revocation(TargetKind::Serial, "it"));
        let reader = world.ledger.reader();
        let now = |now| ended(reader, (index, &body), now).unwrap();
        assert_eq!(now(START + 1_000), None);
        let expired = now(START + 60_000).unwrap();
        assert_eq!(
            (expired.by, expired.at, expired.record),
            ("expiry", START + 5_000, None)
        );
    }
}
