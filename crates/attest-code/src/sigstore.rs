//! Sigstore bundles: who signed some code, under a deployment's trusted root, in its transparency log.
//!
//! What is checked follows the client specification (docs.sigstore.dev, "Verification"): times, chain,
//! certificate transparency, profile, log, signature, and that the log's entry is of this very signature.
//! Identity and issuer are pinned by the references; nothing here reads a clock or a network.

mod bundle;
mod entry;
mod leaf;
mod log;
mod root;
mod sct;
mod timestamp;

pub use bundle::MAX_BUNDLE;
pub(crate) use leaf::Claims;
pub use root::{MAX_ROOT, TrustedRoot};

use crate::Artifact;
use crate::authority::{Issued, Unchained, kind};
use crate::dsse::Envelope;
use attest::Findings;
use bundle::{Bundle, Content};
use crypto::PublicKey;
use crypto::chain;
use entry::By;
use facts::{Finding, Timestamp};
use leaf::Leaf;

/// A bundle, read.
pub(crate) struct Read(Bundle);

impl Read {
    /// # Errors
    /// `SIGSTORE-BUNDLE-…`.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Finding> {
        Bundle::parse(bytes).map(Self)
    }

    /// Whether a certificate names the signer, and not a key that the references pin.
    pub(crate) const fn is_keyless(&self) -> bool {
        self.0.certificate.is_some()
    }

    /// The statement's envelope, if that is what is signed.
    pub(crate) const fn envelope(&self) -> Option<&Envelope> {
        match &self.0.content {
            Content::Message { .. } => None,
            Content::Envelope(envelope) => Some(envelope),
        }
    }
}

/// What a bundle says of its signer, and everything that is wrong with it. Worth something only while the
/// findings are empty.
pub(crate) struct Examined {
    pub(crate) identity: Option<String>,
    pub(crate) issuer: Option<String>,
    pub(crate) claims: Claims,
    /// The earliest time at which the signature is known to have existed.
    pub(crate) signed_at: Option<Timestamp>,
    pub(crate) findings: Findings,
}

/// Examines a bundle with a certificate under one trusted root. Who may sign is left to the caller.
pub(crate) fn keyless(
    read: &Read,
    artifact: &Artifact<'_>,
    root: &TrustedRoot,
    now: Timestamp,
) -> Examined {
    let bundle = &read.0;
    let mut examined = Examined {
        identity: None,
        issuer: None,
        claims: Claims::default(),
        signed_at: None,
        findings: Findings::new(),
    };
    let findings = &mut examined.findings;
    let Some(leaf) = Leaf::read(bundle.certificate.as_deref().unwrap_or_default(), findings) else {
        return examined;
    };
    findings.take(signature(&bundle.content, artifact, &leaf.key));
    let by = By::Certificate(leaf.certificate.der);
    let times = logged(bundle, root, by, now, findings);
    if let Some(issued) = findings.take(chain(&leaf, root, &times))
        && !root.certificate_logs.is_empty()
    {
        let key_hash = &issued.issuer.key_hash;
        findings.take(sct::check(&leaf.certificate, key_hash, root));
    }
    examined.signed_at = times.iter().min().copied();
    findings.check(!times.is_empty(), || {
        Finding::new(
            "SIGSTORE-TIME-MISSING",
            "nobody says when the signature was made",
        )
        .expected("a timestamp by an authority, or an entry that the log promised with its time")
        .observed("neither")
    });
    let lifetime = leaf.certificate.lifetime();
    for at in &times {
        findings.check(lifetime.contains(*at), || {
            Finding::new(
                "SIGSTORE-CERT-VALIDITY",
                "the signature was made when its certificate was not valid",
            )
            .expected(lifetime.to_string())
            .observed(at.to_string())
        });
    }
    examined.identity = leaf.identity;
    examined.issuer = leaf.issuer;
    examined.claims = leaf.claims;
    examined
}

/// Examines a bundle without a certificate against a pinned key. With a trusted root its log has to hold the
/// signature; without one, no time is known.
pub(crate) fn keyed(
    read: &Read,
    artifact: &Artifact<'_>,
    key: &PublicKey,
    root: Option<&TrustedRoot>,
    now: Timestamp,
) -> Examined {
    let bundle = &read.0;
    let mut findings = Findings::new();
    findings.take(signature(&bundle.content, artifact, key));
    let times = root.map_or_else(Vec::new, |root| {
        logged(bundle, root, By::Key(key), now, &mut findings)
    });
    Examined {
        identity: None,
        issuer: None,
        claims: Claims::default(),
        signed_at: times.iter().min().copied(),
        findings,
    }
}

/// Checks every timestamp and every log entry, of which there has to be one. Returns the times at which the
/// signature is known to have existed.
fn logged(
    bundle: &Bundle,
    root: &TrustedRoot,
    by: By<'_>,
    now: Timestamp,
    findings: &mut Findings,
) -> Vec<Timestamp> {
    let mut times = Vec::new();
    for response in &bundle.timestamps {
        let stamped = timestamp::check(response, bundle.content.signature(), root);
        if let Some(at) = findings.take(stamped) {
            findings.check(at <= now.plus_secs(log::SKEW), || log::future(at, now));
            times.push(at);
        }
    }
    findings.check(!bundle.entries.is_empty(), || {
        Finding::new(
            "SIGSTORE-LOG-MISSING",
            "the signature is in no transparency log",
        )
        .expected("an entry with an inclusion proof")
        .observed("no entry")
        .next("sign with a client that logs, or pin a key that signs without a log")
    });
    for entry in &bundle.entries {
        times.extend(log::check(entry, root, now, findings));
        findings.take(entry::check(entry, &bundle.content, by));
    }
    for entry in &bundle.entries {
        for at in &times {
            findings.take(log::counted_at(entry, root, *at));
        }
    }
    times
}

/// The authority that issued the certificate, and that counted at each of the times.
fn chain<'a>(
    leaf: &Leaf<'_>,
    root: &'a TrustedRoot,
    times: &[Timestamp],
) -> Result<Issued<'a>, Finding> {
    let refused = |problem: String| {
        Finding::new(
            "SIGSTORE-CERT-CHAIN",
            "the signer's certificate does not lead to an authority of the trusted root",
        )
        .expected("a certificate of an authority that counted when the signature was made")
        .observed(problem)
        .next("take the trusted root of the deployment that the code was signed with")
    };
    let mut failure = "a trusted root without certificate authorities".to_owned();
    let mut unfit = None;
    for authority in &root.certificate_authorities {
        let counted = authority.issued(&leaf.certificate).and_then(|issued| {
            times
                .iter()
                .try_for_each(|at| issued.counts_at(*at))
                .map(|()| issued)
        });
        match counted {
            Ok(issued) => return Ok(issued),
            Err(Unchained::Unfit(problem)) => unfit = Some(problem),
            Err(Unchained::Stranger(problem)) => failure = problem,
        }
    }
    // One that did not count says more than one that has nothing to do with it.
    Err(refused(unfit.unwrap_or(failure)))
}

/// Checks that what is signed is `artifact`, or a statement, and that `key` signed it.
fn signature(content: &Content, artifact: &Artifact<'_>, key: &PublicKey) -> Result<(), Finding> {
    match content {
        Content::Message {
            hash,
            digest,
            signature,
        } => {
            if artifact.digest(*hash).as_ref() != Some(digest) {
                return Err(
                    Finding::new("SIGSTORE-ARTIFACT", "the bundle is of other code")
                        .expected(artifact.to_string())
                        .observed(crypto::hex::encode(digest))
                        .next("attach the bundle that was made for this build"),
                );
            }
            let signed = match (kind(key), artifact.bytes()) {
                (Some(kind), _) => {
                    chain::verify_digest(kind, *hash, key.raw(), digest, signature).is_ok()
                }
                (None, Some(bytes)) => key.verify(bytes, signature).is_ok(),
                (None, None) => {
                    return Err(unsigned(key).observed(
                        "an Ed25519 signature, which needs the code's bytes, not its digest",
                    ));
                }
            };
            if signed { Ok(()) } else { Err(unsigned(key)) }
        }
        Content::Envelope(envelope) => envelope.signed_by(key).map_err(|_refused| unsigned(key)),
    }
}

fn unsigned(key: &PublicKey) -> Finding {
    Finding::new("SIGSTORE-SIGNATURE", "the signer's key did not sign this")
        .expected(format!("a signature by {key:?}"))
}
