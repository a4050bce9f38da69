//! The shape of the TOML and JSON files, before anything is resolved. Unknown keys are refused.
//! The published JSON Schema is derived from these types.

mod delegation;
mod tee;

pub(crate) use delegation::{DelegationEntry, DelegationsFile, LoginEntry};
pub use tee::{GuestPolicyBit, PlatformBit, TcbStatus, TeeGeneration, TeeKind, TeeRevocation};
pub(crate) use tee::{TeeEntry, TeeImageEntry, TeeRootEntry};

use crate::action::Action;
use crate::duration::Seconds;
use facts::Value;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use toml::Spanned;

/// `estate.toml`
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EstateFile {
    /// `example.org`, without `spiffe://`.
    #[schemars(with = "String")]
    pub(crate) trust_domain: Spanned<String>,
    /// From least to most restricted. What is unclassified counts as the last.
    /// Default: `public`, `catalog`, `internal`, `confidential`, `pii`, `restricted`.
    #[schemars(with = "Option<Vec<String>>")]
    pub(crate) classifications: Option<Spanned<Vec<String>>>,
    /// Whether decisions are about columns too.
    #[serde(default)]
    pub(crate) columns: ColumnMode,
    #[serde(default)]
    pub(crate) lifetimes: Lifetimes,
    #[serde(default)]
    pub(crate) recording: Recording,
    #[serde(default)]
    pub(crate) session: Session,
    #[serde(default)]
    pub(crate) evidence: Evidence,
    /// How long a gateway that hears nothing goes on deciding. Default 5 min.
    pub(crate) max_staleness: Option<Seconds>,
    #[serde(default, rename = "administrator")]
    pub(crate) administrators: Vec<AdministratorEntry>,
    #[serde(default, rename = "author")]
    pub(crate) authors: Vec<AuthorEntry>,
}

/// What decisions about tables are about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ColumnMode {
    /// A table is decided on as a whole, and is as restricted as its most restricted column.
    #[default]
    ByTable,
    /// Each column that a statement selects, inserts or updates is decided on beside its table, by a
    /// classification of its own; a table is then only as restricted as it says itself.
    Decided,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lifetimes {
    /// Of X.509-SVIDs. Default 1 h; the server's `lifetimes` may say less.
    pub(crate) x509: Option<Seconds>,
    /// Of JWT-SVIDs. Default 5 min; the server's `lifetimes` may say less.
    pub(crate) jwt: Option<Seconds>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Recording {
    #[serde(default)]
    pub(crate) mode: RecordingMode,
}

/// When the record of a read of unclassified-as-harmless data must be durable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RecordingMode {
    /// Writes and reads of classified data before they happen; other reads at the flush interval.
    #[default]
    Default,
    /// Everything before it happens.
    Strict,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Session {
    /// How long a session through a gateway may last. Default 12 h.
    pub(crate) max: Option<Seconds>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Evidence {
    /// Evidence older than this issues nothing. Default 1 h.
    pub(crate) max_age: Option<Seconds>,
}

/// Who may administer, one of the two: a local user, `Admin::"uid:0"`, or a person who logs in,
/// `Admin::"person:people/ada"`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AdministratorEntry {
    /// A user of the server's machine.
    #[serde(default)]
    #[schemars(with = "Option<u32>")]
    pub(crate) uid: Option<Spanned<u32>>,
    /// The path of an identity of the kind `person` with a `login`.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(crate) person: Option<Spanned<String>>,
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(crate) groups: Vec<Spanned<String>>,
}

/// Whose signature counts under what weakens an invariant.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuthorEntry {
    /// As approvals name the author.
    #[schemars(with = "String")]
    pub(crate) name: Spanned<String>,
    /// An Ed25519 key in PEM, as `trilith author key create` prints it.
    #[schemars(with = "String")]
    pub(crate) key: Spanned<String>,
}

/// `identities/*`
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct IdentitiesFile {
    #[serde(default, rename = "identity")]
    pub(crate) identities: Vec<IdentityEntry>,
    #[serde(default, rename = "group")]
    pub(crate) groups: Vec<GroupEntry>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct IdentityEntry {
    /// The path of the SPIFFE ID, without a leading slash: `payments/api`. With facts in braces as segments it is a
    /// template: `pools/{machine.pool}/jobs/{workload.unit}`.
    #[schemars(with = "String")]
    pub(crate) path: Spanned<String>,
    pub(crate) kind: IdentityKind,
    /// Who answers for it.
    pub(crate) owner: String,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(crate) groups: Vec<Spanned<String>>,
    /// What the estate's own schema calls `IdentityAttributes`.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub(crate) attributes: Attributes,
    /// Of a person: how an `OpenID` provider knows it. Who logs in has no SVID, and acts through who it delegates to.
    pub(crate) login: Option<LoginEntry>,
    /// SPIFFE Workload API hint, for workloads with several identities.
    pub(crate) hint: Option<String>,
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(crate) dns_names: Vec<Spanned<String>>,
    /// Names of facts that issuance records show; all others are only committed to.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(crate) visible: Vec<Spanned<String>>,
}

/// What stands behind an identity.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum IdentityKind {
    Service,
    Job,
    AiAgent,
    Person,
    Gateway,
    Node,
}

impl IdentityKind {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Job => "job",
            Self::AiAgent => "ai-agent",
            Self::Person => "person",
            Self::Gateway => "gateway",
            Self::Node => "node",
        }
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupEntry {
    #[schemars(with = "String")]
    pub(crate) name: Spanned<String>,
    /// The groups that this one is a member of.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(crate) groups: Vec<Spanned<String>>,
}

/// Values by the names that a schema gives them.
pub(crate) type Attributes = BTreeMap<Spanned<String>, Spanned<Value>>;

/// `resources/*`
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResourcesFile {
    #[serde(default, rename = "database")]
    pub(crate) databases: Vec<DatabaseEntry>,
    #[serde(default, rename = "resource")]
    pub(crate) resources: Vec<ResourceEntry>,
}

/// What is no part of a database: a tool server, a tool, an API, a route, or of a kind that the estate's own
/// schema declares.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResourceEntry {
    /// Its entity type: `Tool`, or `Bucket` of `schema/*.cedarschema`.
    #[schemars(with = "String")]
    pub(crate) kind: Spanned<String>,
    /// As policies name it. Of a tool `server/tool`, of a route `api/METHOD/path`.
    #[schemars(with = "String")]
    pub(crate) name: Spanned<String>,
    /// What it lies in, as `Kind::"name"`; of tools and routes their names say it.
    #[serde(default, rename = "in")]
    #[schemars(with = "Vec<String>")]
    pub(crate) parents: Vec<Spanned<String>>,
    #[schemars(with = "Option<String>")]
    pub(crate) classification: Option<Spanned<String>>,
    pub(crate) owner: Option<String>,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(crate) groups: Vec<Spanned<String>>,
    /// What the schema gives this kind beside its classification and owner.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub(crate) attributes: Attributes,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DatabaseEntry {
    #[schemars(with = "String")]
    pub(crate) name: Spanned<String>,
    #[schemars(with = "Option<String>")]
    pub(crate) classification: Option<Spanned<String>>,
    pub(crate) owner: Option<String>,
    /// Inherited by what lies in it, unless that has one of the same name.
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(crate) groups: Vec<Spanned<String>>,
    #[serde(default, rename = "schema")]
    pub(crate) schemas: Vec<SchemaEntry>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SchemaEntry {
    #[schemars(with = "String")]
    pub(crate) name: Spanned<String>,
    #[schemars(with = "Option<String>")]
    pub(crate) classification: Option<Spanned<String>>,
    pub(crate) owner: Option<String>,
    /// Inherited by what lies in it, unless that has one of the same name.
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(crate) groups: Vec<Spanned<String>>,
    #[serde(default, rename = "table")]
    pub(crate) tables: Vec<TableEntry>,
    #[serde(default, rename = "function")]
    pub(crate) functions: Vec<FunctionEntry>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TableEntry {
    #[schemars(with = "String")]
    pub(crate) name: Spanned<String>,
    #[schemars(with = "Option<String>")]
    pub(crate) classification: Option<Spanned<String>>,
    pub(crate) owner: Option<String>,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(crate) groups: Vec<Spanned<String>>,
    /// What the estate's own schema calls `TableAttributes`.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub(crate) attributes: Attributes,
    #[serde(default, rename = "column")]
    pub(crate) columns: Vec<ColumnEntry>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ColumnEntry {
    #[schemars(with = "String")]
    pub(crate) name: Spanned<String>,
    #[schemars(with = "Option<String>")]
    pub(crate) classification: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FunctionEntry {
    #[schemars(with = "String")]
    pub(crate) name: Spanned<String>,
    #[schemars(with = "Option<String>")]
    pub(crate) classification: Option<Spanned<String>>,
    pub(crate) owner: Option<String>,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(crate) groups: Vec<Spanned<String>>,
}

/// `references/*`: what good looks like.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReferencesFile {
    #[serde(default, rename = "pool")]
    pub(crate) pools: Vec<PoolEntry>,
    #[serde(default, rename = "machine")]
    pub(crate) machines: Vec<MachineEntry>,
    #[serde(default, rename = "tpm_root")]
    pub(crate) tpm_roots: Vec<TpmRootEntry>,
    #[serde(default, rename = "tee")]
    pub(crate) tees: Vec<TeeEntry>,
    #[serde(default, rename = "tee_root")]
    pub(crate) tee_roots: Vec<TeeRootEntry>,
    #[serde(default)]
    pub(crate) code: Vec<CodeEntry>,
    #[serde(default, rename = "trusted_root")]
    pub(crate) trusted_roots: Vec<TrustedRootEntry>,
    #[serde(default, rename = "signer")]
    pub(crate) signers: Vec<SignerEntry>,
    #[serde(default)]
    pub(crate) provenance: Vec<ProvenanceEntry>,
    #[serde(default)]
    pub(crate) evidence: Vec<EvidenceEntry>,
    /// What `trilith refs import` writes.
    #[serde(default, rename = "generation")]
    pub(crate) generations: Vec<references::Generation>,
    /// In which ways machines of some rings may boot: by lists, beside what generations predict.
    #[serde(default, rename = "boot")]
    pub(crate) boots: Vec<references::BootRule>,
    #[serde(default)]
    pub(crate) withdrawn: Vec<references::Withdrawal>,
    /// What `trilith refs ipe` writes.
    #[serde(default)]
    pub(crate) enforcement: Vec<EnforcementEntry>,
}

/// What the kernels of some machines let run: an IPE policy, and the files that it is about.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EnforcementEntry {
    /// Rings of machines, which are pools; `*` is every ring that no other entry names.
    #[schemars(with = "Vec<String>")]
    pub(crate) rings: Vec<Spanned<String>>,
    /// Whether kernels refuse what is not listed. Else they only say in their audit log what they would refuse.
    #[serde(default)]
    pub(crate) enforce: bool,
    /// The signed policy: PKCS #7 in base64.
    #[schemars(with = "String")]
    pub(crate) policy: Spanned<String>,
    /// Files that get a Merkle tree where their content has this digest.
    #[serde(default, rename = "file")]
    pub(crate) files: Vec<EnforcedFileEntry>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EnforcedFileEntry {
    /// Absolute.
    #[schemars(with = "String")]
    pub(crate) path: Spanned<String>,
    /// `sha256:` and hex.
    #[schemars(with = "String")]
    pub(crate) fsverity: Spanned<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PoolEntry {
    #[schemars(with = "String")]
    pub(crate) name: Spanned<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MachineEntry {
    #[schemars(with = "String")]
    pub(crate) name: Spanned<String>,
    #[schemars(with = "Option<String>")]
    pub(crate) pool: Option<Spanned<String>>,
    /// Pinned endorsement keys: SHA-256 of the public area, hex.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(crate) ek_sha256: Vec<Spanned<String>>,
    /// Pinned attestation keys of TPMs without an endorsement key: SHA-256 of the public area, hex.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(crate) ak_sha256: Vec<Spanned<String>>,
}

/// Which keys of a TPM an authority's certificates count for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Certifies {
    /// Endorsement keys, as makers of TPMs do.
    #[default]
    EndorsementKeys,
    /// Attestation keys, as clouds do for TPMs without an endorsement certificate.
    AttestationKeys,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TpmRootEntry {
    #[schemars(with = "String")]
    pub(crate) name: Spanned<String>,
    /// One or more certificates, PEM.
    #[schemars(with = "String")]
    pub(crate) pem: Spanned<String>,
    /// Chips under this root are software: `machine.tpm.kind` is `emulated`.
    #[serde(default)]
    pub(crate) emulated: bool,
    /// Which of a chip's keys this root may vouch for.
    #[serde(default)]
    pub(crate) certifies: Certifies,
    /// The cloud for whose machines this root speaks: what its certificates say about the machine becomes
    /// `machine.cloud`. For attestation keys, and not for emulated ones.
    #[schemars(with = "Option<Cloud>")]
    pub(crate) cloud: Option<Spanned<Cloud>>,
}

/// A cloud whose certificates name its machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Cloud {
    Google,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CodeEntry {
    /// What policies say: `principal.code.known_as.contains("payments-api")`.
    #[schemars(with = "String")]
    pub(crate) name: Spanned<String>,
    /// SHA-256 of each executable that goes by the name, hex.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(crate) sha256: Vec<Spanned<String>>,
    /// fs-verity digest of each executable that goes by the name: `sha256:` and hex.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(crate) fsverity: Vec<Spanned<String>>,
}

/// A Sigstore deployment: whose certificates and logs count.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TrustedRootEntry {
    #[schemars(with = "String")]
    pub(crate) name: Spanned<String>,
    /// Its trusted root, JSON of media type `application/vnd.dev.sigstore.trustedroot+json;version=0.1`.
    #[schemars(with = "String")]
    pub(crate) json: Spanned<String>,
}

/// Who may vouch for code: somebody whom a Sigstore deployment identified (`root`, `identity` and `issuer`), or
/// whoever holds a key (`key`). There is no default for any of them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignerEntry {
    /// What `code.approved_by` says.
    #[schemars(with = "String")]
    pub(crate) name: Spanned<String>,
    /// A trusted root. With `key`: whose log has to hold what the key signs.
    pub(crate) root: Option<String>,
    /// As the certificate says: a workflow at a ref, or an e-mail address. One `*` may stand for the end of a ref.
    pub(crate) identity: Option<String>,
    /// Who identified the signer: `https://token.actions.githubusercontent.com`.
    pub(crate) issuer: Option<String>,
    /// A public key, PEM.
    pub(crate) key: Option<String>,
    /// Types of statements, beside provenance, that count as approval of their subjects.
    #[serde(default)]
    pub(crate) approves: Vec<String>,
}

/// Whose provenance counts, for which builder and source.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProvenanceEntry {
    /// What `code.approved_by` says.
    #[schemars(with = "String")]
    pub(crate) name: Spanned<String>,
    pub(crate) signers: Vec<String>,
    /// The builder's URI, as provenance writes it.
    pub(crate) builder: String,
    /// `github.com/acme/payments`
    pub(crate) source: String,
    /// `refs/tags/v1.2.3`, or `refs/tags/*`.
    #[serde(rename = "ref")]
    pub(crate) reference: Option<String>,
    /// `.github/workflows/release.yml`
    pub(crate) workflow: Option<String>,
    pub(crate) build_type: Option<String>,
}

/// What somebody said of some code. It counts if a signer of the references signed it, whoever brought it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EvidenceEntry {
    /// SHA-256 of the executable that it is about, hex. Either this or `image`.
    #[schemars(with = "Option<String>")]
    pub(crate) sha256: Option<Spanned<String>>,
    /// The container image that it is about: `sha256:` and hex, of its manifest or of the index by which it was
    /// imported.
    #[schemars(with = "Option<String>")]
    pub(crate) image: Option<Spanned<String>>,
    pub(crate) form: EvidenceForm,
    /// JSON of a bundle, an envelope or cosign's payload; base64 of a signature.
    #[schemars(with = "String")]
    pub(crate) content: Spanned<String>,
    /// With `simple-signing`: the signature over the payload, base64.
    #[schemars(with = "Option<String>")]
    pub(crate) signature: Option<Spanned<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum EvidenceForm {
    SigstoreBundle,
    DsseEnvelope,
    /// Over the executable's bytes, by a signer's key.
    Signature,
    /// cosign's payload, which names an image, and its signature by a signer's key.
    SimpleSigning,
}

/// `tests/*`
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TestsFile {
    #[serde(default, rename = "test")]
    pub(crate) tests: Vec<TestEntry>,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TestEntry {
    #[schemars(with = "String")]
    pub(crate) name: Spanned<String>,
    /// An identity's path; `uid:0` for an administrator; absent for `assume`.
    #[schemars(with = "Option<String>")]
    pub(crate) principal: Option<Spanned<String>>,
    #[schemars(with = "Action")]
    pub(crate) action: Spanned<Action>,
    /// A path, or `Kind::"path"`. For `assume`, the identity's path.
    #[schemars(with = "Option<String>")]
    pub(crate) resource: Option<Spanned<String>>,
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub(crate) facts: BTreeMap<String, Value>,
    pub(crate) expect: Expected,
    /// When given: exactly the policies that determine the decision, each by its `@id` or by file and line,
    /// `policies/shop.cedar:3`. Of a denial that no policy makes: `[]`.
    #[schemars(with = "Option<Vec<String>>")]
    pub(crate) why: Option<Vec<Spanned<String>>>,
    /// As `why`, by `@id` alone.
    pub(crate) because: Option<Vec<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Expected {
    Allow,
    Deny,
}

/// The JSON Schemas (2020-12) of the folder's files, by the glob that they apply to.
#[must_use]
pub fn json_schema() -> serde_json::Value {
    serde_json::json!({
        "estate.toml": schemars::schema_for!(EstateFile),
        "identities/*": schemars::schema_for!(IdentitiesFile),
        "resources/*": schemars::schema_for!(ResourcesFile),
        "references/*": schemars::schema_for!(ReferencesFile),
        "delegations/*": schemars::schema_for!(DelegationsFile),
        "tests/*": schemars::schema_for!(TestsFile),
    })
}
