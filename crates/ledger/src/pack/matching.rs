//! Which records answer a question, and what a record rests on. Whoever makes a pack and whoever verifies
//! one run this, so that the two cannot come to differ.

use super::Question;
use super::folds::{self, Change, Lifetime, OneSession, Placed};
use super::question::spiffe_id;
use crate::body::{
    self, Bundle, Decision, Erasure, EstateVersion, InvariantApproval, Issuance, Misbehaviour,
    Proof, SessionStart, Snapshot, Verdict,
};
use crate::{HexDigest, Record, RecordError, RecordType};
use serde_json::Value;
use std::collections::{BTreeSet, HashMap, VecDeque};

/// The answers to a question in one ledger: a fold over its records, in order.
pub struct Answers {
    wanted: Wanted,
    sessions: Sessions,
    /// By `seq`, the index of an intent that answers, and that of its session's beginning.
    intents: HashMap<u64, (u64, Option<u64>)>,
    found: VecDeque<Found>,
    most: usize,
    total: u64,
}

enum Wanted {
    Nothing,
    Within(Placed),
    During {
        from: u64,
        to: u64,
    },
    Serial(String),
    Access {
        identity: String,
        resource: Option<String>,
    },
    Session(OneSession),
    Lifetime(Lifetime),
    Estate(Change),
    Verdict(u64),
}

struct Found {
    index: u64,
    /// Records of the same ledger without which this one says little: session and intent.
    rests_on: [Option<u64>; 2],
}

impl Answers {
    /// Begins with the ledger `origin`, which is the server's if `server`.
    #[must_use]
    pub fn new(question: &Question, trust_domain: &str, origin: &str, server: bool) -> Self {
        let mut most = usize::MAX;
        let wanted = match question {
            _ if !question.is_about(origin, server) => Wanted::Nothing,
            Question::Record { index, .. } => Wanted::Within(Placed::new(*index..=*index)),
            Question::Range { from, to, .. } => Wanted::Within(Placed::new(*from..=*to)),
            Question::Period { from, to, .. } => Wanted::During {
                from: *from,
                to: *to,
            },
            Question::Session { session, .. } => Wanted::Session(OneSession::new(session)),
            Question::Lifetime { identity } => {
                Wanted::Lifetime(Lifetime::new(spiffe_id(identity, trust_domain)))
            }
            Question::Estate { version } => Wanted::Estate(Change::new(*version)),
            Question::Verdict { index } => Wanted::Verdict(*index),
            Question::Issuance { serial } => Wanted::Serial(serial.clone()),
            Question::Access {
                identity,
                resource,
                newest,
            } => {
                let newest = newest.map(|newest| usize::try_from(newest).unwrap_or(usize::MAX));
                most = newest.unwrap_or(usize::MAX);
                let identity = spiffe_id(identity, trust_domain);
                let resource = resource.clone();
                Wanted::Access { identity, resource }
            }
        };
        Self {
            wanted,
            sessions: Sessions::default(),
            intents: HashMap::new(),
            found: VecDeque::new(),
            most,
            total: 0,
        }
    }

    /// Looks at the next record, which stands at `index`. True if it answers. One whose body is not that of its type
    /// does not: whoever verifies cannot read it, and says so.
    pub fn see(&mut self, index: u64, record: &Record) -> bool {
        body::check(record).is_ok() && self.see_checked(index, record)
    }

    /// As [`Self::see`], of a record whose body was checked.
    pub(super) fn see_checked(&mut self, index: u64, record: &Record) -> bool {
        let rests_on = match &mut self.wanted {
            Wanted::Nothing => None,
            Wanted::Within(placed) => placed.see(index, record),
            Wanted::During { from, to } => {
                let wall = record.stamp().wall;
                (*from..*to).contains(&wall).then_some([None; 2])
            }
            Wanted::Session(session) => session.see(record),
            Wanted::Lifetime(lifetime) => lifetime.see(index, record),
            Wanted::Estate(change) => change.see(index, record),
            Wanted::Verdict(at) => folds::of_verdict(*at, index, record),
            Wanted::Serial(serial) => record
                .expect_body::<Issuance>()
                .is_ok_and(|issuance| issuance.serial == *serial)
                .then_some([None; 2]),
            Wanted::Access { identity, resource } => {
                let (sessions, intents) = (&mut self.sessions, &mut self.intents);
                access(
                    (identity, resource.as_deref()),
                    (index, record),
                    sessions,
                    intents,
                )
            }
        };
        let Some(rests_on) = rests_on else {
            return false;
        };
        self.total += 1;
        self.found.push_back(Found { index, rests_on });
        if self.found.len() > self.most {
            self.found.pop_front();
        }
        true
    }

    /// How many records answered, those included that were not among the newest.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// The places of the answers, and of the sessions and intents that they belong to.
    #[must_use]
    pub fn indices(&self) -> BTreeSet<u64> {
        let found = self.found.iter();
        found
            .flat_map(|found| {
                let rests_on = found.rests_on.into_iter().flatten();
                rests_on.chain([found.index])
            })
            .collect()
    }
}

/// `Some` if the record is of the identity's sessions, operations (on the resource, if one is named) or
/// their outcomes.
fn access(
    (identity, resource): (&str, Option<&str>),
    (index, record): (u64, &Record),
    sessions: &mut Sessions,
    intents: &mut HashMap<u64, (u64, Option<u64>)>,
) -> Option<[Option<u64>; 2]> {
    use RecordType::{Decision, Intent, Outcome, SessionEnd, SessionStart};
    let kind = record.kind();
    if !matches!(
        kind,
        SessionStart | SessionEnd | Intent | Decision | Outcome
    ) {
        return None;
    }
    let body: Value = serde_json::from_str(record.body()).unwrap_or_default();
    if kind == Outcome {
        let seq: u64 = body.get("intent")?.as_str()?.parse().ok()?;
        return intents
            .get(&seq)
            .map(|(intent, start)| [*start, Some(*intent)]);
    }
    let start = sessions.beginning(&body);
    let about = is_about(record, &body, identity, index, sessions);
    let operation = matches!(kind, Intent | Decision);
    if !about || operation && resource.is_some_and(|resource| !touches(&body, resource)) {
        return None;
    }
    if kind == Intent {
        intents.insert(record.seq(), (index, start));
    }
    Some([start, None])
}

/// The sessions of one identity that have been seen, with the places of their beginnings.
#[derive(Debug, Default)]
pub struct Sessions(HashMap<String, u64>);

impl Sessions {
    fn beginning(&self, body: &Value) -> Option<u64> {
        let session = body.get("session")?.as_str()?;
        self.0.get(session).copied()
    }
}

/// True if `identity` acted in the record, was acted upon or asked about, or if it happened in a session of its. `body` is
/// that of the record.
pub fn is_about(
    record: &Record,
    body: &Value,
    identity: &str,
    index: u64,
    sessions: &mut Sessions,
) -> bool {
    let text = |path: &str| body.pointer(path).and_then(Value::as_str);
    if record.kind() == RecordType::SessionStart
        && text("/spiffe_id") == Some(identity)
        && let Some(session) = text("/session")
    {
        sessions.0.insert(session.to_owned(), index);
    }
    record.actor() == identity
        || text("/spiffe_id") == Some(identity)
        || text("/about/spiffe_id") == Some(identity)
        || text("/target/value") == Some(identity)
        || text("/session").is_some_and(|session| sessions.0.contains_key(session))
}

/// True if the record with this body is about `resource`, or may be: a list that was cut may have held it.
#[must_use]
pub fn touches(body: &Value, resource: &str) -> bool {
    let actions = body.get("actions").and_then(Value::as_array);
    let actions = || actions.into_iter().flatten();
    if actions().any(|action| action.get("more").is_some()) {
        return true;
    }
    let texts = |list: &'static str| {
        let lists = actions().filter_map(move |action| action.get(list)?.as_array());
        lists.flatten().filter_map(Value::as_str)
    };
    let quoted = format!("\"{resource}\"");
    // Every column of its table, if it is a column.
    let all = resource.rsplit_once('/');
    let all = all.map(|(table, _)| format!("\"{table}/*\""));
    let may_be = |column: &str| {
        column == ANY_COLUMN
            || all
                .as_ref()
                .is_some_and(|all| column.contains(all.as_str()))
    };
    if texts("columns").any(may_be) {
        return true;
    }
    texts("resources")
        .chain(texts("columns"))
        .chain(body.get("resource").and_then(Value::as_str))
        .any(|name| name == resource || name.contains(&quoted))
}

/// In the place of columns that a record has no room for.
const ANY_COLUMN: &str = "Column::\"*\"";

/// What a record rests on: a pack that has the record has these too.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grounds {
    /// Places in the server's ledger.
    pub records: Vec<u64>,
    /// Digests of blobs.
    pub blobs: Vec<HexDigest>,
}

/// What `record`, of any ledger, rests on: its estate version, and what its body names of issuances,
/// verdicts, proofs and inputs.
pub fn grounds(record: &Record) -> Result<Grounds, RecordError> {
    let mut records: Vec<u64> = record.estate().iter().map(|estate| estate.index).collect();
    let mut blobs = Vec::new();
    match record.kind() {
        RecordType::SessionStart => {
            let start: SessionStart = record.expect_body()?;
            records.extend(start.issuance.map(|issuance| issuance.0));
        }
        RecordType::Decision => {
            let decision: Decision = record.expect_body()?;
            records.extend(
                decision
                    .about
                    .and_then(|about| about.issuance)
                    .map(|at| at.0),
            );
        }
        RecordType::Issuance => {
            let issuance: Issuance = record.expect_body()?;
            records.push(issuance.verdict.0);
        }
        RecordType::Verdict => {
            let verdict: Verdict = record.expect_body()?;
            blobs.extend(verdict.evidence.iter().map(|evidence| evidence.sha256));
            blobs.extend(verdict.facts_blob.map(|blob| blob.sha256));
        }
        RecordType::EstateVersion => {
            let version: EstateVersion = record.expect_body()?;
            records.extend(version.proof_index.map(|proof| proof.0));
            blobs.push(version.blob.sha256);
        }
        RecordType::Proof => {
            let proof: Proof = record.expect_body()?;
            blobs.extend(proof.blob.map(|blob| blob.sha256));
            records.extend(proof.approval_index.map(|approval| approval.0));
        }
        RecordType::InvariantApproval => {
            let approval: InvariantApproval = record.expect_body()?;
            blobs.push(approval.subject.sha256);
        }
        RecordType::Erasure => {
            let erasure: Erasure = record.expect_body()?;
            blobs.extend(erasure.subject.map(|subject| subject.sha256));
        }
        RecordType::Misbehaviour => {
            let misbehaviour: Misbehaviour = record.expect_body()?;
            blobs.extend([
                misbehaviour.first.note.sha256,
                misbehaviour.second.note.sha256,
            ]);
        }
        _ => {}
    }
    Ok(Grounds { records, blobs })
}

/// All contents that a record names, also what no pack needs and the server does: by the document of the newest bundle
/// it starts.
pub fn contents(record: &Record) -> Result<Vec<HexDigest>, RecordError> {
    let mut contents = grounds(record)?.blobs;
    match record.kind() {
        RecordType::Bundle => {
            let bundle: Bundle = record.expect_body()?;
            contents.extend(bundle.blob.map(|blob| blob.sha256));
        }
        RecordType::Snapshot => {
            let snapshot: Snapshot = record.expect_body()?;
            contents.push(snapshot.state.sha256);
        }
        _ => {}
    }
    Ok(contents)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_list_that_was_cut_may_have_held_what_is_searched_for() {
        let mut body =
            json!({"actions": [{"action": "select", "resources": ["Table::\"shop/public/a\""]}]});
        assert!(touches(&body, "shop/public/a") && !touches(&body, "shop/public/b"));
        body["actions"][0]["more"] = json!({"count": "9", "sha256": ""});
        assert!(touches(&body, "shop/public/b"));
    }

    #[test]
    fn a_column_is_touched_where_it_is_named_or_all_of_its_table_are() {
        let of = |columns: &str| {
            let named = [format!("Column::\"{columns}\"")];
            json!({"actions": [{"action": "select", "resources": ["Table::\"shop/public/a\""], "columns": named}]})
        };
        for (columns, number, email) in [
            ("shop/public/a/number", true, false),
            ("shop/public/a/*", true, true),
            ("shop/public/b/*", false, false),
            ("*", true, true),
        ] {
            let body = of(columns);
            assert_eq!(touches(&body, "shop/public/a/number"), number, "{columns}");
            assert_eq!(touches(&body, "shop/public/a/email"), email, "{columns}");
            assert!(touches(&body, "shop/public/a"));
        }
    }
}
