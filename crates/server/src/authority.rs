//! The authority as the server holds it: opened from the document that was last recorded, and replaced
//! whole when keys rotate or the estate sets other lifetimes.

use arc_swap::ArcSwap;
use crypto::{Custody, PublicKey, Signer};
use facts::Timestamp;
use identity::{
    AuthorityDocument, AuthorityError, IssueError, Lifetimes, PreparedJwt, PreparedX509,
};
use ledger::body::{self, BlobRef, Body as _};
use ledger::{Base64, Decimal, RecordBuilder};
use spiffe_core::crl::{CrlParams, Revoked};
use spiffe_core::x509::BuildError;
use spiffe_core::{Bundle, Serial, SpiffeId, TrustDomain};
use std::sync::{Arc, Mutex, PoisonError};

/// For whom an SVID is, which decides how long it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Term {
    Workload,
    /// Nodes and the server itself.
    Node,
}

struct Opened {
    workloads: identity::Authority,
    nodes: identity::Authority,
    bundle: Arc<Bundle>,
}

pub(crate) struct Authority {
    custody: Arc<dyn Custody>,
    /// Of the configuration; an estate may set shorter ones for workloads.
    configured: Lifetimes,
    node_s: u64,
    server_id: SpiffeId,
    opened: ArcSwap<Opened>,
    /// What the estate in force says: X.509 and JWT, in seconds. Held while a document is opened and put
    /// in force, so that an older one never replaces a newer.
    estate: Mutex<(u64, u64)>,
}

impl Authority {
    pub(crate) fn open(
        document: AuthorityDocument,
        configured: Lifetimes,
        node_s: u64,
        custody: Arc<dyn Custody>,
        server_id: SpiffeId,
    ) -> Result<Self, AuthorityError> {
        let estate = (configured.x509_s, configured.jwt_s);
        let opened = open(document, configured, node_s, custody.as_ref())?;
        Ok(Self {
            custody,
            configured,
            node_s,
            server_id,
            opened: ArcSwap::from_pointee(opened),
            estate: Mutex::new(estate),
        })
    }

    /// The server's own identity.
    pub(crate) const fn server_id(&self) -> &SpiffeId {
        &self.server_id
    }

    pub(crate) fn bundle(&self) -> Arc<Bundle> {
        Arc::clone(&self.opened.load().bundle)
    }

    /// The bundle, if it is that of `trust_domain`.
    pub(crate) fn bundle_of(&self, trust_domain: &TrustDomain) -> Option<Arc<Bundle>> {
        let bundle = self.bundle();
        (bundle.trust_domain() == trust_domain).then_some(bundle)
    }

    /// Root certificates, DER.
    pub(crate) fn roots(&self) -> Vec<Vec<u8>> {
        let opened = self.opened.load();
        opened.nodes.roots().map(<[u8]>::to_vec).collect()
    }

    pub(crate) fn prepare_x509(
        &self,
        term: Term,
        spiffe_id: SpiffeId,
        public_key: PublicKey,
        dns_names: Vec<String>,
        now: Timestamp,
    ) -> Result<PreparedX509, IssueError> {
        let opened = self.opened.load();
        let authority = match term {
            Term::Workload => &opened.workloads,
            Term::Node => &opened.nodes,
        };
        let serial = Serial::from_random(crypto::random());
        authority.prepare_x509(spiffe_id, public_key, dns_names, serial, now)
    }

    pub(crate) fn prepare_jwt(
        &self,
        spiffe_id: SpiffeId,
        audience: Vec<String>,
        now: Timestamp,
    ) -> Result<PreparedJwt, IssueError> {
        let id = Serial::from_random(crypto::random());
        let opened = self.opened.load();
        opened.workloads.prepare_jwt(spiffe_id, audience, id, now)
    }

    pub(crate) fn prepare_delegation(
        &self,
        terms: &spiffe_core::delegation::Terms,
        now: Timestamp,
    ) -> Result<identity::PreparedDelegation, IssueError> {
        self.opened.load().workloads.prepare_delegation(terms, now)
    }

    /// When the key that signs tokens at `now` ends.
    pub(crate) fn jwt_until(&self, now: Timestamp) -> Result<Timestamp, AuthorityError> {
        self.opened.load().workloads.jwt_until(now)
    }

    /// Has `sign` sign by the key of JWTs, whose id it gets, what is nobody's identity. Whether it may be signed
    /// is the caller's to see to.
    pub(crate) fn with_jwt_key<T>(
        &self,
        now: Timestamp,
        sign: impl FnOnce(&dyn Signer, &str) -> T,
    ) -> Result<T, AuthorityError> {
        self.opened.load().workloads.with_jwt_key(now, sign)
    }

    /// Whether a CA signs at `now`: of a server that stood still for as long as one lives, none does.
    pub(crate) fn signs(&self, now: Timestamp) -> bool {
        self.opened.load().nodes.issuer(now).is_ok()
    }

    /// The document that should be recorded and then installed, if it is time for one. `settled` is the state's time.
    pub(crate) fn rotation(
        &self,
        now: Timestamp,
        settled: Timestamp,
    ) -> Result<Option<AuthorityDocument>, AuthorityError> {
        let opened = self.opened.load();
        opened.nodes.rotation(self.custody.as_ref(), now, settled)
    }

    /// A list of each CA that has not ended.
    pub(crate) fn revocation_lists(
        &self,
        params: &CrlParams,
        revoked: &[Revoked],
    ) -> Result<Vec<Vec<u8>>, BuildError> {
        let opened = self.opened.load();
        let roots = opened
            .nodes
            .root_issuers()
            .map(|root| (root, &[] as &[Revoked]));
        let issuing = opened.nodes.issuers().map(|issuer| (issuer, revoked));
        issuing
            .chain(roots)
            .filter(|(issuer, _)| issuer.not_after() > params.this_update)
            .map(|(issuer, revoked)| spiffe_core::crl::build(issuer, params, revoked))
            .collect()
    }

    pub(crate) fn document(&self) -> AuthorityDocument {
        self.opened.load().nodes.document().clone()
    }

    pub(crate) fn custody(&self) -> &dyn Custody {
        self.custody.as_ref()
    }

    /// Takes up a document that is recorded, unless a newer one is in force. Reads keys: blocks.
    pub(crate) fn install(&self, document: AuthorityDocument) -> Result<(), AuthorityError> {
        let estate = self.estate.lock().unwrap_or_else(PoisonError::into_inner);
        if document.sequence < self.opened.load().nodes.document().sequence {
            return Ok(());
        }
        self.put(document, *estate)
    }

    /// Takes up the lifetimes of an estate, as far as they are shorter than the configured ones. Reads
    /// keys: blocks.
    pub(crate) fn limit(&self, x509_s: u64, jwt_s: u64) -> Result<(), AuthorityError> {
        let mut estate = self.estate.lock().unwrap_or_else(PoisonError::into_inner);
        *estate = (
            x509_s.min(self.configured.x509_s),
            jwt_s.min(self.configured.jwt_s),
        );
        self.put(self.document(), *estate)
    }

    /// With `estate` locked by the caller.
    fn put(
        &self,
        document: AuthorityDocument,
        (x509_s, jwt_s): (u64, u64),
    ) -> Result<(), AuthorityError> {
        let lifetimes = Lifetimes {
            x509_s,
            jwt_s,
            ..self.configured
        };
        let opened = open(document, lifetimes, self.node_s, self.custody.as_ref())?;
        self.opened.store(Arc::new(opened));
        Ok(())
    }
}

fn open(
    document: AuthorityDocument,
    lifetimes: Lifetimes,
    node_s: u64,
    custody: &dyn Custody,
) -> Result<Opened, AuthorityError> {
    let nodes = Lifetimes {
        x509_s: node_s,
        ..lifetimes
    };
    let workloads = identity::Authority::open(document.clone(), lifetimes, custody)?;
    let bundle = Arc::new(workloads.bundle().clone());
    Ok(Opened {
        workloads,
        nodes: identity::Authority::open(document, nodes, custody)?,
        bundle,
    })
}

/// The bundle record of `document`, whose blob is `blob`.
pub(crate) fn bundle_record(document: &AuthorityDocument, blob: BlobRef) -> RecordBuilder {
    let decode = |text: &str| Base64(crypto::base64::decode(text).unwrap_or_default());
    body::Bundle {
        sequence: Decimal(document.sequence),
        x509_authorities: document
            .roots
            .iter()
            .map(|root| decode(&root.certificate))
            .collect(),
        jwt_authorities: document
            .jwt
            .iter()
            .map(|jwt| body::JwtAuthority {
                kid: jwt.kid.clone(),
                spki: decode(&jwt.spki),
            })
            .collect(),
        blob: Some(blob),
    }
    .record()
}

/// One record for each key that `new` has and `old` had not.
pub(crate) fn rotation_records(
    custody: &dyn Custody,
    old: Option<&AuthorityDocument>,
    new: &AuthorityDocument,
) -> Result<Vec<RecordBuilder>, AuthorityError> {
    let known: Vec<&str> = old
        .into_iter()
        .flat_map(|document| keys(document).map(|(_, key)| key))
        .collect();
    let mut records = Vec::new();
    for (what, key) in keys(new).filter(|(_, key)| !known.contains(key)) {
        let signer = custody
            .load(key)?
            .ok_or_else(|| AuthorityError::MissingKey(key.to_owned()))?;
        let rotation = body::KeyRotation {
            what: what.to_owned(),
            old: None,
            new: Some(Base64(signer.public_key().spki_der().to_vec())),
            old_signature: None,
            new_signature: None,
            reason: format!("key {key} begins its tenure"),
            statement: None,
        };
        records.push(rotation.record());
    }
    Ok(records)
}

/// Kind and name of every key.
fn keys(document: &AuthorityDocument) -> impl Iterator<Item = (&'static str, &str)> {
    let roots = document
        .roots
        .iter()
        .map(|ca| ("x509-root", ca.key.as_str()));
    let issuing = document
        .issuing
        .iter()
        .map(|ca| ("x509-issuing", ca.key.as_str()));
    let jwt = document.jwt.iter().map(|jwt| ("jwt", jwt.key.as_str()));
    roots.chain(issuing).chain(jwt)
}
