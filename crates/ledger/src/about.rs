//! Whom and what a record names, by its envelope and the body of its type; and, in [`Theirs`], whose that is.
//! Monitors watch by it, and servers make labels by it: what a record is about is told in one place.

mod theirs;

pub use theirs::{NameError, Pattern, Theirs};

use crate::body::{self, ActionOn, Erasure, FactValue, OnBehalfOf};
use crate::{Origin, Record, RecordError, RecordType};
use std::collections::{BTreeMap, BTreeSet};

/// The fact that says which code runs; `facts::names` has it as well.
const CODE: &str = "code.sha256";

/// Raised whenever records are read otherwise here than before: labels of records that were told apart before are then
/// all of another epoch ([`crate::label`]), so that nobody sees which of them changed.
pub const RULES: u8 = 2;

/// What stands in a record for columns that it has no room for.
const ANY_COLUMN: &str = "Column::\"*\"";

/// What a record is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// SPIFFE IDs that it speaks of; of an access, who made it is among them.
    pub identities: BTreeSet<String>,
    /// The SPIFFE ID of who acts: of an issuance, the node that asked.
    pub actor: Option<String>,
    /// Nodes.
    pub machines: BTreeSet<String>,
    pub resources: BTreeSet<String>,
    /// Columns of them, each by its path; `…/*` may be any of its table. Whoever expects a table expects its columns.
    pub columns: BTreeSet<String>,
    /// A list of resources was cut.
    pub cut: bool,
    /// Of an erasure: it names records that were not looked at.
    pub unseen: bool,
    /// SHA-256 of the code, lower-case hex.
    pub code: Option<String>,
    /// SHA-256 of the issuer's SPKI, lower-case hex.
    pub issuer: Option<String>,
}

/// What an erasure has taken from: the records, and whether it names others that were not looked at.
#[derive(Debug, Clone, Default)]
pub struct Erased {
    pub records: Vec<Record>,
    pub unseen: bool,
}

/// Places of the records whose contents this one says to be gone, each once; only those before it can be.
#[must_use]
pub fn erases(origin: &str, index: u64, bytes: &[u8]) -> BTreeSet<u64> {
    const TYPE: &[u8] = b"{\"v\":1,\"type\":\"erasure\"";
    if !bytes.starts_with(TYPE) {
        return BTreeSet::new();
    }
    let record = Record::parse(bytes).ok();
    let record = record.filter(|record| record.origin() == origin);
    let erasure = record.and_then(|record| record.expect_body::<Erasure>().ok());
    let named = erasure.into_iter().flat_map(|erasure| erasure.erased);
    named
        .map(|item| item.record.0)
        .filter(|named| *named < index)
        .collect()
}

/// A record, and what it is about. One of another ledger, or not in the form of its type, is none that can be read here.
#[must_use]
pub fn read(origin: &str, bytes: &[u8], erased: &Erased) -> Option<(Record, About)> {
    Record::parse(bytes)
        .ok()
        .filter(|record| Origin::new(origin).is_ok_and(|log| log.holds(record.origin())))
        .and_then(|record| About::of(&record).map(|about| (record, about)))
        .map(|(record, mut about)| {
            about.erases(&erased.records, erased.unseen);
            (record, about)
        })
}

impl About {
    /// `None`: the body is not of the shape of its type.
    #[must_use]
    pub fn of(record: &Record) -> Option<Self> {
        body::check(record).ok()?;
        let mut about = Self {
            actor: identity(record.actor()),
            ..Self::default()
        };
        about.read(record).ok()?;
        Some(about)
    }

    /// An erasure is about whom the records are about whose contents are gone.
    pub fn erases(&mut self, erased: &[Record], unseen: bool) {
        for record in erased {
            let Some(of) = Self::of(record) else {
                self.unseen = true;
                continue;
            };
            self.identities.extend(of.identities);
            self.machines.extend(of.machines);
            self.resources.extend(of.resources);
            self.cut |= of.cut;
        }
        self.unseen |= unseen;
    }

    fn identity(&mut self, name: &str) {
        self.identities.extend(identity(name));
    }

    fn code(&mut self, facts: &BTreeMap<String, FactValue>) {
        if let Some(FactValue::Text(digest)) = facts.get(CODE) {
            self.code = Some(digest.to_ascii_lowercase());
        }
    }

    fn chain(&mut self, claimed: &[String], proven: &[OnBehalfOf]) {
        for one in claimed {
            self.identity(one);
        }
        for one in proven {
            self.identity(&one.spiffe_id);
        }
    }

    fn actions(&mut self, actions: Vec<ActionOn>) {
        for on in actions {
            self.cut |= on.more.is_some();
            for name in on.resources.into_iter().chain(on.columns) {
                // Of whichever tables: as a list that was cut.
                self.cut |= name == ANY_COLUMN;
                if name.starts_with("Column::") {
                    self.columns.insert(resource(&name).to_owned());
                } else {
                    self.resource(&name);
                }
            }
        }
    }

    fn resource(&mut self, name: &str) {
        self.resources.insert(resource(name).to_owned());
    }

    fn node(&mut self, node: &str) {
        self.machines.insert(machine(node).to_owned());
    }

    /// Administrators act on identities and machines as well: by their names, or as Cedar has them, where an identity is
    /// of the trust domain that the ledger's name begins with.
    fn acted_on(&mut self, origin: &str, name: &str) {
        if let Some(id) = name.strip_prefix("identity:") {
            self.identity(id);
        }
        let domain = crate::trust_domain(origin);
        match name.split_once("::\"") {
            Some(("Identity", _)) => {
                let id = format!("spiffe://{domain}/{}", resource(name));
                self.identities.insert(id);
            }
            Some(("Machine", _)) => self.node(resource(name)),
            _ => {}
        }
    }

    fn read(&mut self, record: &Record) -> Result<(), RecordError> {
        match record.kind() {
            RecordType::Issuance => {
                let issuance: body::Issuance = record.expect_body()?;
                self.identity(&issuance.spiffe_id);
                self.node(&issuance.node);
                self.issuer = Some(crypto::hex::encode(&issuance.issuer.0));
                self.code(&issuance.facts);
            }
            RecordType::AssumeRefused => {
                let refused: body::AssumeRefused = record.expect_body()?;
                if let Some(id) = &refused.spiffe_id {
                    self.identity(id);
                }
                self.node(&refused.node);
            }
            RecordType::Revocation => {
                let revocation: body::Revocation = record.expect_body()?;
                let target = revocation.target;
                match target.kind {
                    body::TargetKind::Identity => self.identity(&target.value),
                    body::TargetKind::Machine => self.node(&target.value),
                    // The record says whose it was.
                    body::TargetKind::Serial => {}
                }
                self.chain(&revocation.whose, &[]);
                if let Some(node) = &revocation.node {
                    self.node(node);
                }
            }
            RecordType::Delegation => {
                let delegation: body::Delegation = record.expect_body()?;
                self.chain(&delegation.chain, &[]);
                self.node(&delegation.node);
                self.issuer = Some(crypto::hex::encode(&delegation.issuer.0));
                for name in delegation.resources.unwrap_or_default() {
                    self.resource(&name);
                }
            }
            RecordType::Verdict => {
                let verdict: body::Verdict = record.expect_body()?;
                self.node(&verdict.node);
            }
            RecordType::Attested => self.node(&record.expect_body::<body::Attested>()?.node),
            RecordType::TokenCreated => {
                self.node(&record.expect_body::<body::TokenCreated>()?.node)
            }
            RecordType::TokenSpent => self.node(&record.expect_body::<body::TokenSpent>()?.node),
            RecordType::NodeState => self.node(&record.expect_body::<body::NodeState>()?.node),
            RecordType::Lock => self.node(&record.expect_body::<body::Lock>()?.node),
            RecordType::Readmit => self.node(&record.expect_body::<body::Readmit>()?.node),
            RecordType::Anchor => self.identity(&record.expect_body::<body::Anchor>()?.gateway),
            RecordType::Misbehaviour => {
                self.identity(&record.expect_body::<body::Misbehaviour>()?.by);
            }
            RecordType::Admin => {
                let admin: body::Admin = record.expect_body()?;
                self.identity(&admin.principal);
                self.resource(&admin.resource);
                self.acted_on(record.origin(), &admin.resource);
            }
            RecordType::EstateVersion => {
                self.identity(&record.expect_body::<body::EstateVersion>()?.author);
            }
            RecordType::SessionStart => {
                let start: body::SessionStart = record.expect_body()?;
                self.identity(&start.spiffe_id);
                self.chain(&start.claimed_on_behalf_of, &start.on_behalf_of);
                self.resource(&start.resource);
            }
            RecordType::Intent => {
                let intent: body::Intent = record.expect_body()?;
                self.identity(record.actor());
                self.chain(&intent.claimed_on_behalf_of, &intent.on_behalf_of);
                self.actions(intent.actions);
            }
            RecordType::Decision => {
                let decision: body::Decision = record.expect_body()?;
                self.identity(record.actor());
                self.chain(&decision.claimed_on_behalf_of, &decision.on_behalf_of);
                self.actions(decision.actions);
                if let Some(about) = decision.about {
                    self.identity(&about.spiffe_id);
                    self.chain(&about.claimed_on_behalf_of, &about.on_behalf_of);
                    self.code(&about.stated);
                }
            }
            RecordType::Outcome | RecordType::SessionEnd => self.identity(record.actor()),
            // These name nobody but who acts.
            RecordType::Begin
            | RecordType::Start
            | RecordType::Stop
            | RecordType::Gap
            | RecordType::Bundle
            | RecordType::KeyRotation
            | RecordType::Proof
            | RecordType::JoinRefused
            | RecordType::Snapshot
            | RecordType::Retention
            | RecordType::Recovery
            | RecordType::SealApproval
            | RecordType::InvariantApproval => {}
            // Of whom: see `erases`.
            RecordType::Erasure => {}
        }
        Ok(())
    }
}

/// The name of a node, which records have plain or as its SPIFFE ID.
#[must_use]
pub fn machine(node: &str) -> &str {
    let name = node.rsplit_once("/trilith/node/").map(|(_, name)| name);
    name.filter(|_| node.starts_with("spiffe://"))
        .unwrap_or(node)
}

/// Programs and users act too; they are no identities.
fn identity(name: &str) -> Option<String> {
    name.starts_with("spiffe://").then(|| name.to_owned())
}

/// A resource by its path, however it is written: records of gateways have `Table::"shop/public/orders"`, those of
/// decision points `table shop/public/orders` where the estate does not know it.
#[must_use]
pub fn resource(name: &str) -> &str {
    let entity = name
        .split_once("::\"")
        .and_then(|(_, path)| path.strip_suffix('"'));
    let kind = |(kind, path)| {
        let word = |kind: &str| kind.bytes().all(|byte| byte.is_ascii_lowercase());
        word(kind).then_some(path)
    };
    entity
        .or_else(|| name.split_once(' ').and_then(kind))
        .unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Stamp;
    use crate::body::{Admin, Body as _};

    /// Of those that follow from a new estate nobody was told.
    #[test]
    fn a_revocation_by_serial_is_about_whom_it_was_issued_to() {
        let about = |whose: &[&str], node: Option<&str>| {
            let revocation = body::Revocation {
                target: body::Target {
                    kind: body::TargetKind::Serial,
                    value: "a1".to_owned(),
                },
                reason: "estate 2 does not grant it".to_owned(),
                by: "spiffe://example.org/trilith/server".to_owned(),
                whose: whose.iter().map(|&one| one.to_owned()).collect(),
                node: node.map(str::to_owned),
            };
            let origin = Origin::new("example.org/server").unwrap();
            let stamp = Stamp { wall: 1, mono: 1 };
            let record = revocation.record().actor("uid:0", "peercred");
            About::of(&record.seal(&origin, 7, stamp).unwrap()).unwrap()
        };
        let issued = about(&["spiffe://example.org/pay/api"], Some("m1"));
        let api = BTreeSet::from(["spiffe://example.org/pay/api".to_owned()]);
        assert_eq!(issued.identities, api);
        assert_eq!(issued.machines, BTreeSet::from(["m1".to_owned()]));
        let chain = [
            "spiffe://example.org/people/ada",
            "spiffe://example.org/agents/helper",
        ];
        assert_eq!(about(&chain, None).identities.len(), 2);
        // Of before.
        let unknown = about(&[], None);
        assert!(unknown.identities.is_empty() && unknown.machines.is_empty());
    }

    #[test]
    fn who_is_restored_is_told_of_it_and_so_is_whoever_an_administrator_acts_on() {
        let about = |resource: &str| {
            let admin = Admin {
                principal: "Admin::\"person:ada\"".to_owned(),
                action: "restore".to_owned(),
                resource: resource.to_owned(),
                allow: true,
                policies: Vec::new(),
                detail: String::new(),
            };
            let origin = Origin::new("example.org/server@2").unwrap();
            let stamp = Stamp { wall: 1, mono: 1 };
            let record = admin.record().actor("person:ada", "oidc");
            About::of(&record.seal(&origin, 7, stamp).unwrap()).unwrap()
        };
        let api = BTreeSet::from(["spiffe://example.org/pay/api".to_owned()]);
        let restored = about("identity:spiffe://example.org/pay/api");
        assert_eq!(restored.identities, api);
        assert_eq!(about("Identity::\"pay/api\"").identities, api);
        let machine = BTreeSet::from(["m1".to_owned()]);
        assert_eq!(about("Machine::\"m1\"").machines, machine);
        let other = about("Estate::\"example.org\"");
        assert!(other.identities.is_empty() && other.machines.is_empty());
    }
}
