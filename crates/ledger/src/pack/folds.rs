//! Questions that take more than one look at a record: each is a fold over a ledger's records, in order. What
//! an answer belongs to is always a record before it.

use crate::{Decimal, HexDigest, Record, RecordType};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;

/// Places of the same ledger without which an answer says little.
pub(super) type Belongs = [Option<u64>; 2];

const ALONE: Belongs = [None; 2];

fn body(record: &Record) -> Value {
    serde_json::from_str(record.body()).unwrap_or_default()
}

fn text<'a>(body: &'a Value, pointer: &str) -> Option<&'a str> {
    body.pointer(pointer).and_then(Value::as_str)
}

/// A place before `index`, as a record names it.
fn earlier(body: &Value, pointer: &str, index: u64) -> Option<u64> {
    let place: Decimal = serde_json::from_value(body.pointer(pointer)?.clone()).ok()?;
    (place.0 < index).then_some(place.0)
}

/// Records by their places: each with the beginning of its session, and an outcome with its intent, so that what was
/// decided can be decided again. Only what is seen before it belongs to it: who has not seen it does not miss it.
pub(super) struct Placed {
    places: RangeInclusive<u64>,
    sessions: HashMap<String, u64>,
    /// By `seq`, the place of an intent and that of its session's beginning.
    intents: HashMap<u64, (u64, Option<u64>)>,
}

impl Placed {
    pub(super) fn new(places: RangeInclusive<u64>) -> Self {
        Self {
            places,
            sessions: HashMap::new(),
            intents: HashMap::new(),
        }
    }

    pub(super) fn see(&mut self, index: u64, record: &Record) -> Option<Belongs> {
        use RecordType::{Decision, Intent, Outcome, SessionEnd, SessionStart};
        let asked = self.places.contains(&index);
        let kind = record.kind();
        if index > *self.places.end()
            || !matches!(
                kind,
                Decision | Intent | Outcome | SessionEnd | SessionStart
            )
        {
            return asked.then_some(ALONE);
        }
        let body = body(record);
        let session = text(&body, "/session");
        let start = session.and_then(|session| self.sessions.get(session).copied());
        match (kind, session) {
            (SessionStart, Some(session)) => {
                self.sessions.insert(session.to_owned(), index);
                return asked.then_some(ALONE);
            }
            (Intent, _) => {
                self.intents.insert(record.seq(), (index, start));
            }
            (Outcome, _) => {
                let seq = text(&body, "/intent").and_then(|seq| seq.parse().ok());
                let intent: Option<(u64, _)> =
                    seq.and_then(|seq: u64| self.intents.get(&seq).copied());
                let belongs = intent.map_or(ALONE, |(intent, start)| [start, Some(intent)]);
                return asked.then_some(belongs);
            }
            _ => {}
        }
        asked.then_some([start, None])
    }
}

/// One session of a gateway.
pub(super) struct OneSession {
    session: String,
    /// It has begun and not ended.
    open: bool,
    /// `seq` of its intents.
    intents: HashSet<String>,
}

impl OneSession {
    pub(super) fn new(session: &str) -> Self {
        Self {
            session: session.to_owned(),
            open: false,
            intents: HashSet::new(),
        }
    }

    pub(super) fn see(&mut self, record: &Record) -> Option<Belongs> {
        use RecordType::{Decision, Gap, Intent, Outcome, SessionEnd, SessionStart, Start, Stop};
        let body = body(record);
        let own = text(&body, "/session") == Some(self.session.as_str());
        let answers = match record.kind() {
            SessionStart => {
                self.open |= own;
                own
            }
            SessionEnd => {
                self.open &= !own;
                own
            }
            Intent if own => {
                self.intents.insert(record.seq().to_string());
                true
            }
            Decision => own,
            Outcome => text(&body, "/intent").is_some_and(|seq| self.intents.contains(seq)),
            // What the ledger says of itself: a session that was cut short has no end of its own.
            Gap | Stop => self.open,
            Start => std::mem::take(&mut self.open),
            _ => false,
        };
        answers.then_some(ALONE)
    }
}

/// An identity, and the machines that it was issued to.
pub(super) struct Lifetime {
    identity: String,
    serials: HashSet<String>,
    machines: HashSet<String>,
}

impl Lifetime {
    pub(super) fn new(identity: String) -> Self {
        Self {
            identity,
            serials: HashSet::new(),
            machines: HashSet::new(),
        }
    }

    pub(super) fn see(&mut self, index: u64, record: &Record) -> Option<Belongs> {
        use RecordType::{
            Admin, AssumeRefused, Attested, Delegation, Issuance, Lock, NodeState, Readmit,
            Revocation, Verdict,
        };
        let body = body(record);
        let own = text(&body, "/spiffe_id") == Some(self.identity.as_str());
        let answers = match record.kind() {
            Issuance if own => {
                let (serials, machines) = (&mut self.serials, &mut self.machines);
                serials.extend(text(&body, "/serial").map(str::to_owned));
                machines.extend(text(&body, "/node").map(str::to_owned));
                true
            }
            AssumeRefused => own,
            Revocation => self.ends(&body),
            Delegation => {
                let chain = body.get("chain").and_then(Value::as_array);
                let mut chain = chain.into_iter().flatten().filter_map(Value::as_str);
                chain.any(|link| link == self.identity)
            }
            Admin => {
                let on = text(&body, "/resource").and_then(|on| on.strip_prefix("identity:"));
                on == Some(self.identity.as_str())
            }
            Verdict | Attested | NodeState | Lock | Readmit => self.is_on(&body),
            _ => false,
        };
        let named = matches!(record.kind(), AssumeRefused | NodeState);
        let verdict = named.then(|| earlier(&body, "/verdict", index)).flatten();
        answers.then_some([verdict, None])
    }

    /// A revocation of the identity, of an SVID of its, or of a machine that it is on.
    fn ends(&self, body: &Value) -> bool {
        let Some(value) = text(body, "/target/value") else {
            return false;
        };
        match text(body, "/target/kind") {
            Some("identity") => value == self.identity,
            Some("serial") => self.serials.contains(value),
            Some("machine") => self.machines.contains(value),
            _ => false,
        }
    }

    /// A machine's name, or its SPIFFE ID, which ends in the name.
    fn is_on(&self, body: &Value) -> bool {
        let node = text(body, "/node").unwrap_or_default();
        let last = node.rsplit('/').next().unwrap_or(node);
        self.machines.contains(node) || self.machines.contains(last)
    }
}

/// A version of the estate.
pub(super) struct Change {
    version: String,
    /// The newest place of each version.
    places: HashMap<String, u64>,
    /// `estate:` and each place of this version, as acts name it.
    applied: HashSet<String>,
}

impl Change {
    pub(super) fn new(version: HexDigest) -> Self {
        Self {
            version: version.to_string(),
            places: HashMap::new(),
            applied: HashSet::new(),
        }
    }

    pub(super) fn see(&mut self, index: u64, record: &Record) -> Option<Belongs> {
        use RecordType::{Admin, EstateVersion, InvariantApproval, Proof, Revocation};
        let body = body(record);
        let own = text(&body, "/version") == Some(self.version.as_str());
        let answers = match record.kind() {
            EstateVersion => {
                let before = text(&body, "/parent").and_then(|parent| self.places.get(parent));
                let before = before.copied();
                if let Some(version) = text(&body, "/version") {
                    self.places.insert(version.to_owned(), index);
                }
                if own {
                    self.applied.insert(format!("estate:{index}"));
                }
                return own.then_some([before, None]);
            }
            Proof | InvariantApproval => own,
            Admin => {
                let on = text(&body, "/resource");
                let detail = text(&body, "/detail").and_then(|said| said.strip_prefix("version "));
                detail.is_some_and(|said| said.starts_with(&self.version))
                    || on.is_some_and(|on| self.applied.contains(on))
            }
            Revocation => {
                let reason = text(&body, "/reason");
                reason.is_some_and(|said| said.contains(&self.version))
            }
            _ => false,
        };
        answers.then_some(ALONE)
    }
}

/// The verdict at `at`, and what rests on it.
pub(super) fn of_verdict(at: u64, index: u64, record: &Record) -> Option<Belongs> {
    use RecordType::{AssumeRefused, Issuance, NodeState, Verdict};
    match record.kind() {
        Verdict => (index == at).then_some(ALONE),
        Issuance | AssumeRefused | NodeState => {
            let verdict = earlier(&body(record), "/verdict", index)?;
            (verdict == at).then_some([Some(at), None])
        }
        _ => None,
    }
}
