//! What each record changes. One function a record type; types that change nothing are listed, so
//! that a new one is decided on here.

use super::{
    ABANDONED, GATEWAY_LINK, GRACE, LINK, MISBEHAVED, State, clock, counted, erased, target_name,
};
use crate::evict;
use ledger::body::{self, SvidKind, TargetKind, VerdictOutcome};
use ledger::lineage;
use ledger::{HexDigest, Record, RecordError, RecordType, Stamp};
use std::sync::Arc;
use store::{
    BundleRow, Change, DelegationRow, EstateRow, GatewayRow, MetaRow, NodeRow, RevocationRow,
    SvidRow, TokenRow,
};

/// A record that the fold cannot take: the ledger is not this server's, or not of this version.
#[derive(Debug, thiserror::Error)]
pub enum FoldError {
    #[error("record {index} comes out of order: {applied} are applied")]
    Order { index: u64, applied: u64 },
    #[error("record {index}")]
    Record {
        index: u64,
        #[source]
        source: RecordError,
    },
}

impl State {
    /// Applies the record at `index`, which must be the next; returns what it changed.
    pub(crate) fn apply(&mut self, index: u64, record: &Record) -> Result<Vec<Change>, FoldError> {
        if index != self.applied {
            let applied = self.applied;
            return Err(FoldError::Order { index, applied });
        }
        let mut changes = self
            .changes(index, record)
            .map_err(|source| FoldError::Record { index, source })?;
        for change in &changes {
            self.absorb(change);
        }
        self.advance(record.stamp(), clock::begins(record.kind()), &mut changes);
        self.applied += 1;
        Ok(changes)
    }

    /// As [`State::apply`] for an issuance whose body is at hand, so that it is not parsed again.
    pub(crate) fn apply_issuance(
        &mut self,
        index: u64,
        stamp: Stamp,
        estate: Option<u64>,
        issuance: &body::Issuance,
    ) -> Result<Vec<Change>, FoldError> {
        if index != self.applied {
            let applied = self.applied;
            return Err(FoldError::Order { index, applied });
        }
        let change = Change::Svid(svid(index, estate, issuance));
        self.absorb(&change);
        let mut changes = vec![change];
        self.advance(stamp, false, &mut changes);
        self.applied += 1;
        Ok(changes)
    }

    /// Moves the clock, in whole seconds and never back, and drops what has ended before it.
    fn advance(&mut self, now: Stamp, begins: bool, changes: &mut Vec<Change>) {
        let next = self.clock.after(now, begins);
        if next == self.clock {
            return;
        }
        self.clock = next;
        let wall = next.wall;
        let from = changes.len();
        changes.push(Change::Meta(MetaRow {
            key: "clock".to_owned(),
            value: next.row(),
        }));
        for (end, index) in &self.by_expiry {
            if end.saturating_add(GRACE) >= wall {
                break;
            }
            changes.push(Change::SvidGone(*index));
            let serial = self.svids.get(index).map(|row| row.serial.clone());
            let revocation = serial
                .and_then(|serial| self.revoked.get(&(TargetKind::Serial, serial)))
                .copied();
            changes.extend(revocation.map(Change::RevocationGone));
        }
        for row in self.delegations.ended(wall.saturating_sub(GRACE)) {
            changes.push(Change::DelegationGone(row.index));
            let revocation = self.revoked.get(&(TargetKind::Serial, row.jti.clone()));
            changes.extend(revocation.copied().map(Change::RevocationGone));
        }
        let ended = self
            .tokens
            .values()
            .filter(|token| token.expires.saturating_add(GRACE) < wall)
            .map(|token| Change::TokenGone(token.hash.clone()));
        changes.extend(ended);
        for change in changes.iter().skip(from) {
            self.absorb(change);
        }
    }

    fn changes(&self, index: u64, record: &Record) -> Result<Vec<Change>, RecordError> {
        let wall = record.stamp().wall;
        Ok(match record.kind() {
            RecordType::Begin => begin(&record.expect_body()?),
            RecordType::Bundle => {
                let mut changes = bundle(index, &record.expect_body()?);
                changes.extend(self.named_again(record)?);
                changes
            }
            RecordType::EstateVersion => estate(index, wall, record.expect_body()?),
            RecordType::TokenCreated => token(index, &record.expect_body()?),
            RecordType::TokenSpent => self.token_spent(index, &record.expect_body()?),
            RecordType::Verdict => {
                let mut changes = self.verdict(index, wall, &record.expect_body()?);
                changes.extend(self.named_again(record)?);
                changes
            }
            RecordType::Proof | RecordType::InvariantApproval => self.named_again(record)?,
            RecordType::Erasure => erased::changes(index, &record.expect_body()?),
            RecordType::NodeState => {
                let body = record.expect_body()?;
                let mut changes = self.node_state(index, &body);
                changes.extend(body.counted.map(|now| counted::row(&now, wall)));
                changes
            }
            RecordType::Attested => self.attested(&record.expect_body()?),
            RecordType::Lock => self.lock(index, record.expect_body()?),
            RecordType::Readmit => self.readmit(index, &record.expect_body()?),
            RecordType::Issuance => {
                let estate = record.estate().map(|estate| estate.index);
                vec![Change::Svid(svid(index, estate, &record.expect_body()?))]
            }
            RecordType::Revocation => self.revocation(index, record.expect_body()?),
            RecordType::Anchor => self.anchor(index, record.expect_body()?),
            RecordType::Admin => self.admin(&record.expect_body()?),
            RecordType::Recovery => recovery(index, &record.expect_body()?),
            RecordType::Misbehaviour => {
                let mut changes = misbehaviour(index, &record.expect_body()?);
                changes.extend(self.named_again(record)?);
                changes
            }
            RecordType::SealApproval => self.seal_approval(index, &record.expect_body()?),
            RecordType::KeyRotation => key_rotation(index, &record.expect_body()?),
            RecordType::Delegation => vec![delegation(index, record.expect_body()?)],
            RecordType::Snapshot => {
                let mut changes = vec![erased::snapshot(index, &record.expect_body()?)];
                changes.extend(self.named_again(record)?);
                changes
            }
            RecordType::Retention => self.retention(&record.expect_body()?),
            RecordType::Start
            | RecordType::Stop
            | RecordType::Gap
            | RecordType::JoinRefused
            | RecordType::AssumeRefused
            | RecordType::Intent
            | RecordType::Outcome
            | RecordType::Decision
            | RecordType::SessionStart
            | RecordType::SessionEnd => Vec::new(),
        })
    }

    fn token_spent(&self, index: u64, body: &body::TokenSpent) -> Vec<Change> {
        let known = self.tokens.get(&body.token.to_string());
        let spent = known.map(|token| TokenRow {
            spent: Some(index),
            key: Some(body.key.to_string()),
            ..token.clone()
        });
        spent.map(Change::Token).into_iter().collect()
    }

    fn verdict(&self, index: u64, wall: u64, body: &body::Verdict) -> Vec<Change> {
        let (Some(name), Some(blob)) = (node_name(&body.node), &body.facts_blob) else {
            return Vec::new();
        };
        if body.outcome != VerdictOutcome::Affirmed {
            return Vec::new();
        }
        let row = match self.nodes.get(name) {
            Some(known) => NodeRow {
                verdict: index,
                evidence_time: wall,
                facts: blob.sha256.to_string(),
                ..known.clone()
            },
            None => NodeRow {
                name: name.to_owned(),
                generation: 0,
                renewal: None,
                verdict: index,
                evidence_time: wall,
                facts: blob.sha256.to_string(),
                key: None,
                locked: None,
                locked_at: None,
                readmitted: None,
                dead: None,
                dead_before: None,
                stated: None,
            },
        };
        vec![Change::Node(row)]
    }

    fn node_state(&self, index: u64, body: &body::NodeState) -> Vec<Change> {
        let Some(known) = self.nodes.get(&body.node) else {
            return Vec::new();
        };
        if body.state == evict::STATE {
            // A ban or a lock that came first stays what it is.
            if known.locked.is_some() && !evict::is_evicted(known) {
                return Vec::new();
            }
            return vec![Change::Node(NodeRow {
                locked: Some(evict::EVICTED.to_owned()),
                locked_at: Some(index),
                ..known.clone()
            })];
        }
        // A verdict from after the eviction lifts it; one that came before it was overtaken.
        let verdict = body.verdict.map_or(0, |verdict| verdict.0);
        let lifted = evict::is_evicted(known) && known.locked_at.is_none_or(|at| at < verdict);
        vec![Change::Node(NodeRow {
            generation: body.generation.0,
            renewal: Some(body.renewal.to_string()),
            key: Some(body.key.to_string()),
            readmitted: None,
            stated: Some(index),
            locked: known.locked.clone().filter(|_| !lifted),
            locked_at: known.locked_at.filter(|_| !lifted),
            ..known.clone()
        })]
    }

    /// What a chip counted in good answers. A record may wait: what was shown since counts more.
    pub(super) fn attested(&self, body: &body::Attested) -> Vec<Change> {
        let later = body.counted.filter(|now| {
            let known = self.meta.get(&counted::key(&now.chip.to_string()));
            known.is_none_or(|row| counted::at(row).is_none_or(|at| at <= body.to))
        });
        let row = later.map(|now| counted::row(&now, body.to));
        row.into_iter().collect()
    }

    fn lock(&self, index: u64, body: body::Lock) -> Vec<Change> {
        let Some(known) = self.nodes.get(&body.node) else {
            return Vec::new();
        };
        vec![Change::Node(NodeRow {
            locked: Some(body.finding.code),
            locked_at: Some(index),
            readmitted: None,
            ..known.clone()
        })]
    }

    /// Frees a node of its lock and of a revocation of the machine. What was issued before the
    /// revocation stays cut: SVIDs older than it are covered by gateways' own record of it.
    /// Whoever renews next goes on; every other state of the generations so far is dead.
    fn readmit(&self, index: u64, body: &body::Readmit) -> Vec<Change> {
        let Some(known) = self.nodes.get(&body.node) else {
            return Vec::new();
        };
        vec![Change::Node(NodeRow {
            locked: None,
            locked_at: None,
            readmitted: Some(index),
            dead: Some(body.generation.0),
            dead_before: Some(index),
            ..known.clone()
        })]
    }

    /// A machine is out until it is readmitted; one that was evicted by the record before this one, until
    /// it joins clean.
    fn revocation(&self, index: u64, body: body::Revocation) -> Vec<Change> {
        let mut changes = Vec::with_capacity(2);
        if body.target.kind == TargetKind::Machine
            && let Some(known) = self.nodes.get(&body.target.value)
            && !(evict::is_evicted(known) && known.locked_at.map(|at| at + 1) == Some(index))
        {
            changes.push(Change::Node(NodeRow {
                locked: Some("AGENT-REVOKED".to_owned()),
                locked_at: Some(index),
                readmitted: None,
                ..known.clone()
            }));
        }
        changes.push(Change::Revocation(RevocationRow {
            index,
            kind: target_name(body.target.kind).to_owned(),
            value: body.target.value,
            reason: body.reason,
            by: body.by,
        }));
        changes
    }

    /// Of administration two acts change the state. `restore`: an identity may be issued again; what
    /// was issued before stays cut, because the revocation itself stays. `estate-judge`: everything
    /// that lives was judged by an estate version.
    /// A ledger has one row, also once it went on as a new log.
    fn anchor(&self, index: u64, body: body::Anchor) -> Vec<Change> {
        let known = self.gateway(&body.origin).map(|row| row.origin.clone());
        let former = known.filter(|known| *known != body.origin);
        let gone = former.map(Change::GatewayGone);
        gone.into_iter().chain([anchored(index, body)]).collect()
    }

    fn admin(&self, body: &body::Admin) -> Vec<Change> {
        let meta = |key: String, value: String| vec![Change::Meta(MetaRow { key, value })];
        if !body.allow {
            return Vec::new();
        }
        match (body.action.as_str(), body.resource.split_once(':')) {
            ("restore", Some(("identity", identity))) => {
                meta(format!("restored {identity}"), self.applied.to_string())
            }
            ("estate-judge", Some(("estate", index))) => {
                meta("judged".to_owned(), index.to_owned())
            }
            _ => Vec::new(),
        }
    }
}

/// One row a ring: its epoch, and where the approvals of that epoch stand.
pub(super) const SEAL: &str = "seal ";
pub(super) const SEAL_KEY: &str = "seal-key";

impl State {
    fn seal_approval(&self, index: u64, body: &body::SealApproval) -> Vec<Change> {
        let key = format!("{SEAL}{}", body.ring);
        let epoch = body.epoch.0.to_string();
        let known = self.meta.get(&key).filter(|row| {
            let of = row.split(' ').next();
            of == Some(epoch.as_str())
        });
        let value = format!("{} {index}", known.unwrap_or(&epoch));
        vec![Change::Meta(MetaRow { key, value })]
    }
}

fn key_rotation(index: u64, body: &body::KeyRotation) -> Vec<Change> {
    if let Some(link) = lineage::of_gateway(body.clone()) {
        return gateway_link(index, &link);
    }
    match &body.new {
        Some(_) if lineage::is_link(body) => vec![Change::Meta(MetaRow {
            key: format!("{LINK}{index:020}"),
            value: index.to_string(),
        })],
        Some(key) if body.what == "seal" => vec![Change::Meta(MetaRow {
            key: SEAL_KEY.to_owned(),
            value: crypto::base64::encode(&key.0),
        })],
        _ => Vec::new(),
    }
}

fn begin(body: &body::Begin) -> Vec<Change> {
    let meta = |key: &str, value: String| {
        Change::Meta(MetaRow {
            key: key.to_owned(),
            value,
        })
    };
    vec![
        meta("trust_domain", body.trust_domain.clone()),
        meta("ledger_key", body.ledger_key.to_string()),
    ]
}

fn bundle(index: u64, body: &body::Bundle) -> Vec<Change> {
    vec![Change::Bundle(BundleRow {
        sequence: body.sequence.0,
        index,
        x509_authorities: body
            .x509_authorities
            .iter()
            .map(ToString::to_string)
            .collect(),
        jwt_authorities: body
            .jwt_authorities
            .iter()
            .map(|authority| format!("{} {}", authority.kid, authority.spki))
            .collect(),
        blob: body.blob.as_ref().map(|blob| blob.sha256.to_string()),
    })]
}

fn estate(index: u64, wall: u64, body: body::EstateVersion) -> Vec<Change> {
    vec![Change::Estate(EstateRow {
        index,
        version: body.version.to_string(),
        blob: body.blob.sha256.to_string(),
        blob_length: body.blob.length.0,
        parent: body.parent.map(|parent| parent.to_string()),
        author: body.author,
        message: body.message,
        proof: body.proof_index.map(|index| index.0),
        floor: body.floor.0,
        time: wall,
    })]
}

fn token(index: u64, body: &body::TokenCreated) -> Vec<Change> {
    vec![Change::Token(TokenRow {
        hash: body.token.to_string(),
        node: body.node.clone(),
        pool: body.pool.clone(),
        expires: body.expires,
        created: index,
        spent: None,
        key: None,
    })]
}

fn svid(index: u64, estate: Option<u64>, body: &body::Issuance) -> Arc<SvidRow> {
    Arc::new(SvidRow {
        index,
        serial: body.serial.clone(),
        spiffe_id: body.spiffe_id.clone(),
        kind: match body.kind {
            SvidKind::X509 => "x509".to_owned(),
            SvidKind::Jwt => "jwt".to_owned(),
        },
        node: body.node.clone(),
        key: HexDigest(body.key.0).to_string(),
        not_before: body.not_before.saturating_mul(1000),
        not_after: body.not_after.saturating_mul(1000),
        estate,
    })
}

/// A list of a scope as its row has it.
fn listed(words: Option<&Vec<String>>) -> String {
    serde_json::to_string(&words).unwrap_or_default()
}

fn delegation(index: u64, body: body::Delegation) -> Change {
    Change::Delegation(DelegationRow {
        index,
        jti: body.jti,
        chain: body.chain,
        rests_on: body.rests_on,
        actions: listed(body.actions.as_ref()),
        resources: listed(body.resources.as_ref()),
        node: body.node,
        not_before: body.not_before.saturating_mul(1000),
        not_after: body.not_after.saturating_mul(1000),
    })
}

/// A gateway's ledger goes on as a new log; what was anchored of it stays in force until the first anchor of that.
fn gateway_link(index: u64, link: &body::KeyRotation) -> Vec<Change> {
    let Ok(opened) = lineage::Link::open(link) else {
        return Vec::new();
    };
    let line = ledger::line(opened.to.origin().as_str());
    vec![Change::Meta(MetaRow {
        key: format!("{GATEWAY_LINK}{line} {index:020}"),
        value: serde_json::to_string(link).unwrap_or_default(),
    })]
}

fn anchored(index: u64, body: body::Anchor) -> Change {
    Change::Gateway(GatewayRow {
        origin: body.origin,
        gateway: body.gateway,
        ledger_key: body.ledger_key.to_string(),
        size: body.size.0,
        root: body.root.to_string(),
        checkpoint: body.checkpoint,
        anchor: index,
    })
}

fn recovery(index: u64, body: &body::Recovery) -> Vec<Change> {
    vec![Change::Meta(MetaRow {
        key: format!("{ABANDONED}{} {}", body.old_size.0, body.old_root),
        value: format!("{index} {}", body.new_size.0),
    })]
}

/// For `status`: the revocation that stands beside it is what acts.
fn misbehaviour(index: u64, body: &body::Misbehaviour) -> Vec<Change> {
    vec![Change::Meta(MetaRow {
        key: format!("{MISBEHAVED}{}", body.origin),
        value: format!("{index} {} {}", body.kind, body.by),
    })]
}

/// `m1` of `spiffe://example.org/trilith/node/m1`.
fn node_name(spiffe_id: &str) -> Option<&str> {
    let rest = spiffe_id.strip_prefix("spiffe://")?;
    let (_, path) = rest.split_once('/')?;
    path.strip_prefix("trilith/node/")
}

/// The name of the node that `svid` was issued to when it joined or renewed. `None` for what a workload was
/// issued, whatever it is called: that stands on a version of the estate, a node on its own proof alone.
pub(crate) fn node_of(svid: &SvidRow) -> Option<&str> {
    node_name(&svid.spiffe_id)
        .filter(|name| svid.kind == "x509" && svid.estate.is_none() && svid.node == *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An estate of before declared `trilith/node/m1`: what a workload was issued by it opened the stream
    /// of nodes, and was issued any identity by its own word.
    #[test]
    fn a_workload_that_was_issued_a_nodes_name_is_no_node() {
        let joined = SvidRow {
            index: 7,
            serial: "01".to_owned(),
            spiffe_id: "spiffe://example.org/trilith/node/m1".to_owned(),
            kind: "x509".to_owned(),
            node: "m1".to_owned(),
            key: "00".repeat(32),
            not_before: 0,
            not_after: 1,
            estate: None,
        };
        assert_eq!(node_of(&joined), Some("m1"));
        let by_estate = SvidRow {
            estate: Some(3),
            ..joined.clone()
        };
        let of_another = SvidRow {
            node: "m2".to_owned(),
            ..joined.clone()
        };
        let token = SvidRow {
            kind: "jwt".to_owned(),
            ..joined.clone()
        };
        let server = SvidRow {
            spiffe_id: "spiffe://example.org/trilith/server".to_owned(),
            node: String::new(),
            ..joined
        };
        for row in [by_estate, of_another, token, server] {
            assert_eq!(node_of(&row), None, "{row:?}");
        }
    }

    /// A revocation is told to gateways for as long as what it hit may come, and no longer.
    #[test]
    fn a_delegation_and_its_revocation_leave_once_it_has_ended_for_long() {
        let end = 1_000_000;
        let row = |index: u64, jti: &str, rests_on: &[&str]| DelegationRow {
            index,
            jti: jti.to_owned(),
            chain: vec![
                "spiffe://example.org/a".to_owned(),
                "spiffe://example.org/b".to_owned(),
            ],
            rests_on: rests_on.iter().map(|&one| one.to_owned()).collect(),
            actions: "null".to_owned(),
            resources: "null".to_owned(),
            node: String::new(),
            not_before: 0,
            not_after: end,
        };
        let mut state = State::default();
        state.absorb(&Change::Delegation(row(3, "one", &[])));
        state.absorb(&Change::Delegation(row(4, "two", &["one"])));
        let two = state.delegation("two").cloned().unwrap();
        assert!(state.delegation_stands(&two));
        let lost = row(5, "three", &["gone"]);
        assert!(
            !state.delegation_stands(&lost),
            "what it rests on is not known"
        );
        state.absorb(&Change::Revocation(RevocationRow {
            index: 6,
            kind: "serial".to_owned(),
            value: "one".to_owned(),
            reason: String::new(),
            by: String::new(),
        }));
        assert!(!state.delegation_stands(&two), "it rests on the first");
        let mut changes = Vec::new();
        let mut advance = |state: &mut State, wall| {
            state.advance(Stamp { wall, mono: 0 }, false, &mut changes);
        };
        advance(&mut state, end + GRACE);
        assert!(state.revoked(TargetKind::Serial, "one").is_some());
        assert_eq!(state.delegations_of("spiffe://example.org/a", end - 1), 2);
        // It counted what had ended, for as long as the state has that.
        assert_eq!(state.delegations_of("spiffe://example.org/a", end), 0);
        assert_eq!(state.delegations().count(), 2);
        advance(&mut state, end + GRACE + 1000);
        assert!(state.revoked(TargetKind::Serial, "one").is_none());
        assert_eq!(state.delegations_of("spiffe://example.org/a", 0), 0);
        assert_eq!(state.delegations().count(), 0);
    }

    fn node(locked: Option<&str>) -> State {
        let row = NodeRow {
            name: "m1".to_owned(),
            generation: 1,
            renewal: None,
            verdict: 1,
            evidence_time: 0,
            facts: String::new(),
            key: None,
            locked: locked.map(str::to_owned),
            locked_at: locked.map(|_| 2),
            readmitted: None,
            dead: None,
            dead_before: None,
            stated: None,
        };
        let mut state = State::default();
        state.absorb(&Change::Node(row));
        state
    }

    /// An eviction as it is recorded: the state of the node, and the revocation right behind it.
    fn evicted(state: &mut State, index: u64) -> Option<String> {
        let body = body::NodeState {
            node: "m1".to_owned(),
            state: evict::STATE.to_owned(),
            generation: ledger::Decimal(1),
            renewal: ledger::HexDigest([0; 32]),
            key: ledger::HexDigest([0; 32]),
            verdict: None,
            counted: None,
        };
        let revocation = body::Revocation {
            target: body::Target {
                kind: TargetKind::Machine,
                value: "m1".to_owned(),
            },
            reason: "IMA-FILE".to_owned(),
            by: "spiffe://example.org/trilith/server".to_owned(),
            whose: Vec::new(),
            node: None,
        };
        for change in state.node_state(index, &body) {
            state.absorb(&change);
        }
        for change in state.revocation(index + 1, revocation) {
            state.absorb(&change);
        }
        state.node("m1").and_then(|node| node.locked.clone())
    }

    /// The record of an eviction may wait, and an administrator ban the machine meanwhile: the eviction, which
    /// a clean join lifts, is not to take the place of the ban, which it does not.
    #[test]
    fn an_eviction_that_is_recorded_after_a_ban_leaves_the_ban() {
        assert_eq!(evicted(&mut node(None), 5).as_deref(), Some(evict::EVICTED));
        for ban in ["AGENT-REVOKED", "AGENT-STATE-LOCKED"] {
            let mut state = node(Some(ban));
            let locked = evicted(&mut state, 5);
            assert_ne!(locked.as_deref(), Some(evict::EVICTED), "{ban}");
            let known = state.node("m1").unwrap();
            assert!(!evict::is_evicted(known) && known.locked.is_some());
        }
    }
}
