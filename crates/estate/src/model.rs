//! What the files declare, resolved: every name leads somewhere, every classification is known.

mod delegation;
mod tee;

pub(crate) use delegation::Granted;
pub use delegation::{Delegation, Login, Party, Scope};
pub use tee::{
    NitroImage, NitroReference, SgxBy, SgxImage, SgxReference, SnpBy, SnpImage, SnpPolicy,
    SnpReference, TdxImage, TdxReference, TeeReference, TeeRoot, TeeTerms,
};

use crate::administrator::Administrator;
use crate::declare::{Certifies, Cloud, ColumnMode, IdentityKind, RecordingMode, TeeKind};
use crate::resource::{ResourceKind, ResourceRef};
use crate::template::{Templates, has_placeholder};
use facts::Value;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// `estate.toml` with its defaults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Settings {
    pub trust_domain: String,
    /// From least to most restricted.
    pub classifications: Vec<String>,
    pub columns: ColumnMode,
    /// Default 1 h.
    pub x509_lifetime: Duration,
    /// Default 5 min.
    pub jwt_lifetime: Duration,
    pub recording: RecordingMode,
    /// Default 12 h.
    pub session_max: Duration,
    /// Default 5 min.
    pub max_staleness: Duration,
    /// Evidence older than this issues nothing. Default 1 h.
    pub evidence_max_age: Duration,
}

impl Settings {
    /// What is unclassified counts as this.
    #[must_use]
    pub fn most_restricted(&self) -> &str {
        self.classifications
            .last()
            .map_or("restricted", String::as_str)
    }

    pub(crate) fn rank(&self, classification: &str) -> usize {
        self.classifications
            .iter()
            .position(|known| known == classification)
            .unwrap_or(usize::MAX)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// `payments/api`; of a template `pools/{machine.pool}/jobs/{workload.unit}`.
    pub path: String,
    pub kind: IdentityKind,
    pub owner: String,
    pub labels: BTreeMap<String, String>,
    pub groups: BTreeSet<String>,
    /// What the estate's own schema calls `IdentityAttributes`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, Value>,
    /// Of a person who logs in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub login: Option<Login>,
    pub hint: Option<String>,
    pub dns_names: Vec<String>,
    /// Names of the facts that its issuance records show.
    pub visible: BTreeSet<String>,
    /// Where it is declared: file and line.
    pub file: Arc<str>,
    pub line: u32,
}

impl Identity {
    /// Whether it stands for instances whose paths facts fill in. None is issued by its own path.
    #[must_use]
    pub fn is_template(&self) -> bool {
        has_placeholder(&self.path)
    }

    /// INVARIANT: a person is never issued an SVID. What acts for one has an identity of its own.
    #[must_use]
    pub fn is_person(&self) -> bool {
        self.kind == IdentityKind::Person || self.login.is_some()
    }
}

/// What the estate knows of a table or function, or of what no file lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableInfo {
    pub resource: ResourceRef,
    /// Its own, or inherited. Where columns are not decided on: the most restricted of that and its columns'.
    pub classification: String,
    pub owner: Option<String>,
    /// Its own, and those of what it lies in.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Its own; it is in those of what it lies in as well.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub groups: BTreeSet<String>,
    /// What the estate's own schema calls `TableAttributes`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, Value>,
    pub columns: BTreeMap<String, Column>,
    /// False for a table that no file lists: it inherits from its schema or database.
    pub declared: bool,
    /// Classified as the most restricted because nobody said anything.
    pub unclassified: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Column {
    /// Where columns are decided on: at least as restricted as its table.
    pub classification: String,
}

/// What a `[[resource]]` declares: a tool server, a tool, an API, a route, or of an own kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Resource {
    pub resource: ResourceRef,
    /// What it lies in. Groups stand apart.
    pub parents: BTreeSet<ResourceRef>,
    /// Its own, or the most restricted of what it lies in.
    pub classification: String,
    /// Classified as the most restricted because nobody said anything.
    pub unclassified: bool,
    pub owner: Option<String>,
    /// Its own, and those of what it lies in.
    pub labels: BTreeMap<String, String>,
    pub groups: BTreeSet<String>,
    /// What its schema gives it beside these.
    pub attributes: BTreeMap<String, Value>,
    /// Where it is declared: file and line.
    pub file: Arc<str>,
    pub line: u32,
}

/// Reference values: machines, hardware roots, code.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct References {
    pub pools: BTreeSet<String>,
    pub machines: BTreeMap<String, Machine>,
    pub tpm_roots: BTreeMap<String, TpmRoot>,
    /// What confidential machines have to show, by their pools.
    #[serde(skip)]
    pub tees: Vec<TeeReference>,
    pub tee_roots: BTreeMap<String, TeeRoot>,
    pub code: BTreeMap<String, CodeReference>,
    /// INVARIANT: of all of `code`, and of nothing else.
    #[serde(skip)]
    pub(crate) code_names: CodeNames,
    /// Generations of files, PCRs and images, and what was withdrawn of them.
    #[serde(skip)]
    pub values: references::References,
    /// Who may vouch for code, and what they said.
    #[serde(skip)]
    pub(crate) vouching: Vouching,
    /// What kernels are to let run.
    #[serde(skip)]
    pub enforcement: Vec<Enforcement>,
}

/// What the kernels of some machines are to let run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enforcement {
    pub rings: BTreeSet<String>,
    /// Whether they refuse the rest, or only say so.
    pub enforce: bool,
    pub policy: attest_code::SignedPolicy,
    /// What the policy says of execution.
    pub execution: attest_code::Execution,
    /// Absolute paths, and the digests that their files should have.
    pub files: Vec<(String, attest_code::FsVerityDigest)>,
}

impl References {
    /// The machine to which an endorsement key is pinned. `ek_sha256` is lower-case hex.
    #[must_use]
    pub fn machine_of_ek(&self, ek_sha256: &str) -> Option<&Machine> {
        self.machines
            .values()
            .find(|machine| machine.ek_sha256.contains(ek_sha256))
    }

    /// The machine to which an attestation key is pinned. `ak_sha256` is lower-case hex.
    #[must_use]
    pub fn machine_of_ak(&self, ak_sha256: &str) -> Option<&Machine> {
        self.machines
            .values()
            .find(|machine| machine.ak_sha256.contains(ak_sha256))
    }

    /// What the kernels of `ring` are to let run.
    #[must_use]
    pub fn enforcement_of(&self, ring: &str) -> Option<&Enforcement> {
        let of = |ring: &str| self.enforcement.iter().find(|one| one.rings.contains(ring));
        of(ring).or_else(|| of(references::ALL_RINGS))
    }

    /// What enclaves of `kind` have to show, of every pool: the one that they show places them.
    pub fn enclaves(&self, kind: TeeKind) -> impl Iterator<Item = &TeeReference> {
        let of = move |tee: &&TeeReference| kind.is_enclave() && tee.kind() == kind;
        self.tees.iter().filter(of)
    }

    /// What machines of `pool` have to show of confidential hardware: one of each kind at most.
    pub fn tees_of(&self, pool: &str) -> impl Iterator<Item = &TeeReference> {
        self.tees.iter().filter(move |tee| tee.pool == pool)
    }

    /// The names that code goes by, by either digest. `sha256` is lower-case hex, `fsverity` as
    /// `code.fsverity` has it.
    pub fn names_of_code(
        &self,
        sha256: &str,
        fsverity: Option<&str>,
    ) -> impl Iterator<Item = &str> {
        let measured = fsverity.and_then(|digest| self.code_names.fsverity.get(digest));
        let hashed = self.code_names.sha256.get(sha256);
        let found = measured.into_iter().chain(hashed).flatten();
        let names: BTreeSet<&str> = found.map(String::as_str).collect();
        names.into_iter()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    pub name: String,
    pub pool: Option<String>,
    /// Lower-case hex.
    pub ek_sha256: BTreeSet<String>,
    /// Lower-case hex.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub ak_sha256: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TpmRoot {
    pub name: String,
    pub pem: String,
    pub emulated: bool,
    pub certifies: Certifies,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cloud: Option<Cloud>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CodeReference {
    pub name: String,
    /// Lower-case hex.
    pub sha256: BTreeSet<String>,
    /// `sha256:` and lower-case hex.
    pub fsverity: BTreeSet<String>,
}

/// The names that digests go by: what policies ask of a workload at every `assume`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CodeNames {
    sha256: HashMap<String, Vec<String>>,
    fsverity: HashMap<String, Vec<String>>,
}

impl CodeNames {
    pub(crate) fn of<'a>(all: impl IntoIterator<Item = &'a CodeReference>) -> Self {
        let mut names = Self::default();
        for code in all {
            for (by_digest, digests) in [
                (&mut names.sha256, &code.sha256),
                (&mut names.fsverity, &code.fsverity),
            ] {
                for digest in digests {
                    let of_it = by_digest.entry(digest.clone()).or_default();
                    of_it.push(code.name.clone());
                }
            }
        }
        names
    }
}

/// Who may vouch for code, and what somebody said of it, by the SHA-256 of the program or of the image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Vouching {
    pub(crate) by: attest_code::CodeReferences,
    pub(crate) evidence: BTreeMap<attest_code::CodeDigest, Vec<attest_code::CodeEvidence>>,
}

/// A database or schema: what its members inherit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Container {
    pub(crate) classification: Option<String>,
    pub(crate) owner: Option<String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) groups: BTreeSet<String>,
}

/// Everything that is not policy.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub(crate) settings: Settings,
    /// Templates among them, by their paths as they are written.
    pub(crate) identities: BTreeMap<String, Identity>,
    pub(crate) templates: Templates,
    /// Group to the groups it is in. INVARIANT: acyclic, and every parent is a key.
    pub(crate) groups: BTreeMap<String, BTreeSet<String>>,
    /// To its groups.
    pub(crate) administrators: BTreeMap<Administrator, BTreeSet<String>>,
    /// INVARIANT: no key stands under two names.
    pub(crate) authors: BTreeMap<String, crypto::PublicKey>,
    pub(crate) containers: BTreeMap<ResourceRef, Container>,
    /// Tables and functions.
    pub(crate) objects: BTreeMap<ResourceRef, TableInfo>,
    /// What is in no database.
    pub(crate) others: BTreeMap<ResourceRef, Resource>,
    pub(crate) references: References,
    /// In order of file and line.
    pub(crate) delegations: Vec<Delegation>,
    /// Where among them stands what is delegated by whom to whom.
    pub(crate) granted: Granted,
    /// Issuer, subject, identity path.
    pub(crate) logins: BTreeMap<String, BTreeMap<String, String>>,
}

/// What lies in something inherits this of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Inherited {
    pub(crate) classification: Option<String>,
    pub(crate) owner: Option<String>,
    pub(crate) labels: BTreeMap<String, String>,
}

impl Model {
    /// The declaration of an identity: its own, or the template that its path is an instance of.
    pub(crate) fn identity(&self, path: &str) -> Option<&Identity> {
        let own = self.identities.get(path);
        own.or_else(|| self.identities.get(self.templates.of(path)?))
    }

    /// Every declared resource that carries a classification.
    pub(crate) fn resources(&self) -> impl Iterator<Item = &ResourceRef> {
        self.containers
            .keys()
            .chain(self.objects.keys())
            .chain(self.others.keys())
    }

    pub(crate) fn declares(&self, resource: &ResourceRef) -> bool {
        let column = || {
            let table = resource
                .parent()
                .filter(|_| resource.kind == ResourceKind::Column);
            let table = table.and_then(|table| self.objects.get(&table));
            table.is_some_and(|table| table.columns.contains_key(resource.last_name().as_ref()))
        };
        self.containers.contains_key(resource)
            || self.objects.contains_key(resource)
            || self.others.contains_key(resource)
            || column()
    }

    /// What a column of a declared table counts as; nothing of any other.
    ///
    /// A table that lists no columns was classified with all that it has. Of one that lists some, a column that it
    /// does not list is unclassified, so the most restricted. System columns hold nothing of a row's.
    pub(crate) fn column(&self, resource: &ResourceRef) -> Option<TableInfo> {
        if resource.kind != ResourceKind::Column {
            return None;
        }
        let table = self.objects.get(&resource.parent()?)?;
        let name = resource.last_name();
        let listed = table.columns.get(name.as_ref());
        let (classification, unclassified) = match listed {
            Some(column) => (column.classification.as_str(), table.unclassified),
            None if table.columns.is_empty() || is_system_column(&name) => {
                (table.classification.as_str(), table.unclassified)
            }
            None => (self.settings.most_restricted(), true),
        };
        Some(TableInfo {
            resource: resource.clone(),
            classification: classification.to_owned(),
            owner: table.owner.clone(),
            labels: table.labels.clone(),
            groups: BTreeSet::new(),
            attributes: table.attributes.clone(),
            columns: BTreeMap::new(),
            declared: listed.is_some(),
            unclassified,
        })
    }

    /// What the declared `container` hands down.
    pub(crate) fn inherited(&self, container: &ResourceRef) -> Option<Inherited> {
        if let Some(container) = self.containers.get(container) {
            return Some(Inherited {
                classification: container.classification.clone(),
                owner: container.owner.clone(),
                labels: container.labels.clone(),
            });
        }
        let other = self.others.get(container)?;
        Some(Inherited {
            classification: (!other.unclassified).then(|| other.classification.clone()),
            owner: other.owner.clone(),
            labels: other.labels.clone(),
        })
    }

    /// What `resource` counts as when no file lists it: it inherits from its nearest declared
    /// container, and what nobody classified along the way counts as the most restricted.
    pub(crate) fn undeclared(&self, resource: &ResourceRef) -> TableInfo {
        if let Some(column) = self.column(resource) {
            return column;
        }
        let mut above = resource.parent();
        let mut inherited = None;
        while let Some(container) = above {
            inherited = self.inherited(&container);
            if inherited.is_some() {
                break;
            }
            above = container.parent();
        }
        let inherited = inherited.unwrap_or_default();
        TableInfo {
            resource: resource.clone(),
            unclassified: inherited.classification.is_none(),
            classification: inherited
                .classification
                .unwrap_or_else(|| self.settings.most_restricted().to_owned()),
            owner: inherited.owner,
            labels: inherited.labels,
            groups: BTreeSet::new(),
            attributes: BTreeMap::new(),
            columns: BTreeMap::new(),
            declared: false,
        }
    }
}

/// What every table of PostgreSQL has beside its columns (`sysattr.h`).
fn is_system_column(name: &str) -> bool {
    matches!(
        name,
        "tableoid" | "ctid" | "xmin" | "xmax" | "cmin" | "cmax"
    )
}
