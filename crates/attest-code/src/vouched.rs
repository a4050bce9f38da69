//! What a signer of the references is known to have said of some code. Only a verifier makes one.

use crate::signer::{Keyless, PinnedKey, Signer, Who, is_plain};
use crate::sigstore::{self, Claims, Examined, Read, TrustedRoot};
use crate::statement::Statement;
use crate::{Artifact, CodeReferences};
use attest::Findings;
use facts::{FactSet, Finding, Source, Timestamp, names};

/// A signature by a signer of the references, verified, and the statement that it is over, if any.
#[derive(Debug, Clone, PartialEq)]
pub struct Vouched {
    label: String,
    by: By,
    statement: Option<Statement>,
    signed_at: Option<Timestamp>,
    /// What a signature that is over no statement calls the code.
    named: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
enum By {
    Identity {
        identity: String,
        issuer: String,
        claims: Claims,
    },
    Key([u8; 32]),
}

impl Vouched {
    /// The label of the signer.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The statement, if the signature is over one and not over the code itself.
    #[must_use]
    pub const fn statement(&self) -> Option<&Statement> {
        self.statement.as_ref()
    }

    /// The earliest time at which the signature is known to have existed; a key without a log knows none.
    #[must_use]
    pub const fn signed_at(&self) -> Option<Timestamp> {
        self.signed_at
    }

    /// What was signed calls the code, if it calls it anything that can be shown.
    pub(crate) fn name(&self) -> Option<&str> {
        let subject = self.statement.as_ref().and_then(Statement::subject);
        self.named
            .as_deref()
            .or(subject)
            .filter(|name| is_plain(name))
    }

    pub(crate) fn of_name(mut self, name: Option<String>) -> Self {
        self.named = name;
        self
    }

    /// What the certificate says of the build.
    pub(crate) const fn claims(&self) -> Option<&Claims> {
        match &self.by {
            By::Identity { claims, .. } => Some(claims),
            By::Key(_) => None,
        }
    }

    /// States who signed.
    pub(crate) fn state(&self, facts: &mut FactSet, now: Timestamp) {
        let mut state = |name: &str, value: &str| facts.state(name, value, Source::Verified, now);
        match &self.by {
            By::Identity {
                identity, issuer, ..
            } => {
                state(names::CODE_SIGNER_IDENTITY, identity);
                state(names::CODE_SIGNER_ISSUER, issuer);
            }
            By::Key(sha256) => state(names::CODE_SIGNER_KEY, &crypto::hex::encode(sha256)),
        }
    }

    pub(crate) fn by_key(
        signer: &Signer,
        key: &PinnedKey,
        statement: Option<Statement>,
        signed_at: Option<Timestamp>,
    ) -> Self {
        Self {
            label: signer.label.clone(),
            by: By::Key(key.key.spki_sha256()),
            statement,
            signed_at,
            named: None,
        }
    }
}

/// Verifies a Sigstore bundle over `artifact`: a keyless one by each trusted root that a signer names, one by
/// key with each key.
///
/// # Errors
/// Everything that is wrong with it, under the root or the key that came closest.
pub fn verify_bundle(
    bundle: &[u8],
    artifact: &Artifact<'_>,
    references: &CodeReferences,
    now: Timestamp,
) -> Result<Vouched, Vec<Finding>> {
    let read = Read::parse(bundle).map_err(|finding| vec![finding])?;
    let statement = match read.envelope() {
        None => Ok(None),
        Some(envelope) => {
            Statement::parse(envelope.payload_type(), envelope.payload(), artifact).map(Some)
        }
    };
    let attempts: Vec<Result<Vouched, Vec<Finding>>> = if read.is_keyless() {
        let roots = references.keyless_roots();
        roots
            .map(|(name, root)| by_identity(&read, artifact, name, root, references, now))
            .collect()
    } else {
        let keys = references.pinned_keys();
        keys.map(|(signer, key, root)| by_key(&read, artifact, signer, key, root, now))
            .collect()
    };
    closest(attempts, statement)
}

/// The first attempt that succeeded, else the one with the fewest findings.
fn closest(
    attempts: Vec<Result<Vouched, Vec<Finding>>>,
    statement: Result<Option<Statement>, Finding>,
) -> Result<Vouched, Vec<Finding>> {
    let mut fewest: Option<Vec<Finding>> = None;
    let mut vouched = None;
    for attempt in attempts {
        match attempt {
            Ok(one) => {
                vouched.get_or_insert(one);
            }
            Err(findings) => {
                if fewest
                    .as_ref()
                    .is_none_or(|held| findings.len() < held.len())
                {
                    fewest = Some(findings);
                }
            }
        }
    }
    match (vouched, statement) {
        (Some(vouched), Ok(statement)) => Ok(Vouched {
            statement,
            ..vouched
        }),
        (Some(_), Err(finding)) => Err(vec![finding]),
        (None, statement) => {
            let mut findings = fewest.unwrap_or_else(|| vec![nobody()]);
            findings.extend(statement.err());
            Err(findings)
        }
    }
}

/// No signer of the references signs in this way.
pub(crate) fn nobody() -> Finding {
    Finding::new(
        "CODE-SIGNER-NONE",
        "no signer of the references signs in this way",
    )
    .expected("a signer with identity and issuer for a certificate, one with a key for a key")
    .next("declare the signer in the references")
}

fn by_identity(
    read: &Read,
    artifact: &Artifact<'_>,
    name: &str,
    root: &TrustedRoot,
    references: &CodeReferences,
    now: Timestamp,
) -> Result<Vouched, Vec<Finding>> {
    let Examined {
        identity,
        issuer,
        claims,
        signed_at,
        mut findings,
    } = sigstore::keyless(read, artifact, root, now);
    let signers: Vec<(&Signer, &Keyless)> = references.keyless_under(name).collect();
    let pinned = match (&identity, &issuer) {
        (Some(identity), Some(issuer)) => pinned(&signers, identity, issuer, &mut findings),
        // What the certificate lacks is noted already.
        _ => None,
    };
    match (pinned, identity, issuer) {
        (Some(signer), Some(identity), Some(issuer)) if findings.is_empty() => Ok(Vouched {
            label: signer.label.clone(),
            by: By::Identity {
                identity,
                issuer,
                claims,
            },
            statement: None,
            signed_at,
            named: None,
        }),
        _ => Err(findings.into_vec()),
    }
}

/// The signer whose identity and issuer these are.
fn pinned<'a>(
    signers: &[(&'a Signer, &'a Keyless)],
    identity: &str,
    issuer: &str,
    findings: &mut Findings,
) -> Option<&'a Signer> {
    let is_identity = |who: &Keyless| who.identity.matches(identity);
    let is_issuer = |who: &Keyless| who.issuer == issuer;
    let found = signers
        .iter()
        .find(|(_, who)| is_identity(who) && is_issuer(who));
    if let Some((signer, _)) = found {
        return Some(signer);
    }
    let issuer_is_known = signers.iter().any(|(_, who)| is_issuer(who));
    findings.check(issuer_is_known, || {
        let mut expected: Vec<&str> = signers.iter().map(|(_, who)| &*who.issuer).collect();
        expected.dedup();
        Finding::new(
            "SIGSTORE-ISSUER",
            "the signer was identified by somebody whom no signer of the references names",
        )
        .expected(expected.join(" or "))
        .observed(issuer)
        .next("declare the signer in the references, if it is the right one")
    });
    let identity_is_known = signers.iter().any(|(_, who)| is_identity(who));
    findings.check(identity_is_known && !issuer_is_known, || {
        let expected: Vec<String> = signers
            .iter()
            .map(|(_, who)| who.identity.to_string())
            .collect();
        Finding::new(
            "SIGSTORE-IDENTITY",
            "the code was signed by somebody whom the references do not name",
        )
        .expected(expected.join(" or "))
        .observed(identity)
        .next("declare the signer in the references, if it is the right one")
    });
    None
}

fn by_key(
    read: &Read,
    artifact: &Artifact<'_>,
    signer: &Signer,
    key: &PinnedKey,
    root: Option<&TrustedRoot>,
    now: Timestamp,
) -> Result<Vouched, Vec<Finding>> {
    let examined = sigstore::keyed(read, artifact, &key.key, root, now);
    if !examined.findings.is_empty() {
        return Err(examined.findings.into_vec());
    }
    Ok(Vouched::by_key(signer, key, None, examined.signed_at))
}

impl CodeReferences {
    /// Trusted roots that a keyless signer names, each once.
    fn keyless_roots(&self) -> impl Iterator<Item = (&str, &TrustedRoot)> {
        self.roots()
            .filter(|(name, _)| self.keyless_under(name).next().is_some())
    }

    fn keyless_under(&self, root: &str) -> impl Iterator<Item = (&Signer, &Keyless)> {
        self.signers().filter_map(move |signer| match &signer.who {
            Who::Keyless(keyless) if keyless.root == root => Some((signer, keyless)),
            Who::Keyless(_) | Who::Key(_) => None,
        })
    }

    /// Signers with a key, and the trusted root whose log has to hold what they sign.
    pub(crate) fn pinned_keys(
        &self,
    ) -> impl Iterator<Item = (&Signer, &PinnedKey, Option<&TrustedRoot>)> {
        self.signers().filter_map(|signer| match &signer.who {
            Who::Key(pinned) => Some((
                signer,
                pinned,
                pinned.root.as_deref().and_then(|name| self.root(name)),
            )),
            Who::Keyless(_) => None,
        })
    }
}
