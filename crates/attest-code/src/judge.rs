//! From what runs, and what somebody says of it, to facts or a refusal.
//!
//! Code is approved by its digest, by a signer of the references, or by provenance that a rule accepts. A
//! digest whose windows are all over is withdrawn, whoever signed it.

use crate::key_signed::{verify_blob, verify_envelope, verify_simple_signing};
use crate::provenance::{self, Provenance};
use crate::references::{CodeDigest, DigestReference};
use crate::vouched::{Vouched, verify_bundle};
use crate::{Artifact, CodeReferences};
use attest::Evidence;
use facts::{FactSet, Finding, Source, Timestamp, Verdict, Warrant, names};

/// It speaks of code alone.
const WARRANT: Warrant = Warrant::of(Source::Verified, &["code."]);

/// Pieces of evidence for one piece of code.
const MAX_EVIDENCE: usize = 64;
const MAX_FINDINGS: usize = 64;

/// What is known of the code that runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Running {
    /// Every digest that names it. An image is named by its manifest and by the index that holds it.
    pub digests: Vec<CodeDigest>,
}

/// Something that somebody said of some code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeEvidence {
    /// The code that it is attached to: one of [`Running::digests`], or it says nothing about what runs.
    /// fs-verity digests are nobody's subject.
    pub about: CodeDigest,
    pub form: Form,
}

/// The forms that evidence of code comes in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// A Sigstore bundle.
    Bundle(Vec<u8>),
    /// A DSSE envelope by a pinned key.
    Envelope(Vec<u8>),
    /// A signature over the code's bytes by a pinned key.
    Signature(Vec<u8>),
    /// cosign's signature of an image by a pinned key.
    SimpleSigning {
        payload: Vec<u8>,
        signature: Vec<u8>,
    },
}

impl Form {
    fn evidence(&self) -> Evidence<'_> {
        match self {
            Self::Bundle(bytes) => Evidence::new("sigstore-bundle", bytes.as_slice()),
            Self::Envelope(bytes) => Evidence::new("dsse-envelope", bytes.as_slice()),
            Self::Signature(bytes) => Evidence::new("code-signature", bytes.as_slice()),
            Self::SimpleSigning { payload, .. } => {
                Evidence::new("simple-signing", payload.as_slice())
            }
        }
    }
}

/// Judges what runs. The facts are of source `verified`: they hold of code with these digests. That it is this
/// code which runs is for others to show.
///
/// Refused with `CODE-UNKNOWN` and everything that was wrong with the evidence if nobody approved it, with
/// `CODE-WITHDRAWN` or `CODE-NOT-YET` if its digest is listed and does not count now.
#[must_use]
pub fn judge(
    running: &Running,
    evidence: &[CodeEvidence],
    references: &CodeReferences,
    now: Timestamp,
) -> Verdict {
    let digests = evidence
        .iter()
        .take(MAX_EVIDENCE)
        .map(|one| one.form.evidence().digest())
        .collect();
    let listed = match listed(running, references, now) {
        Ok(listed) => listed,
        Err(finding) => return Verdict::refused(vec![finding], digests),
    };
    let mut findings = Vec::new();
    if evidence.len() > MAX_EVIDENCE {
        findings.push(
            Finding::new("CODE-EVIDENCE", "more evidence than is looked at")
                .expected(format!("at most {MAX_EVIDENCE} pieces"))
                .observed(evidence.len().to_string()),
        );
    }
    let mut approvals = Vec::new();
    for one in evidence.iter().take(MAX_EVIDENCE) {
        match approve(running, one, references, now) {
            Ok(approval) => approvals.push(approval),
            Err(more) => findings.extend(more),
        }
    }
    // What the owner wrote first speaks, not what somebody attached first.
    approvals.sort_by_key(|approval| approval.preference);
    let approval = approvals.into_iter().next();
    if listed.is_none() && approval.is_none() {
        findings.insert(0, unknown(running));
        findings.truncate(MAX_FINDINGS);
        return Verdict::refused(findings, digests);
    }
    let mut facts = FactSet::new();
    if let Some(approval) = approval {
        approval.vouched.state(&mut facts, now);
        if let Some(found) = &approval.provenance {
            provenance::state(found, &mut facts, now);
        }
        state(&mut facts, names::CODE_APPROVED_BY, &approval.label, now);
        if let Some(name) = approval.vouched.name().filter(|_| approval.of_image) {
            state(&mut facts, names::CODE_IMAGE_NAME, name, now);
        }
    }
    if let Some(listed) = listed {
        state(&mut facts, names::CODE_REFERENCE, &listed.label, now);
    }
    Verdict::affirmed(&WARRANT, facts, digests)
}

fn state(facts: &mut FactSet, name: &str, value: &str, now: Timestamp) {
    facts.state(name, value, Source::Verified, now);
}

/// The reference value that approves a digest of what runs.
///
/// # Errors
/// `CODE-WITHDRAWN`, `CODE-NOT-YET`.
fn listed<'a>(
    running: &Running,
    references: &'a CodeReferences,
    now: Timestamp,
) -> Result<Option<&'a DigestReference>, Finding> {
    let mut open = None;
    for digest in &running.digests {
        let known = references.known(digest);
        let found = known.iter().find(|one| one.window.is_open(now));
        match (found, known.last()) {
            (Some(found), _) => {
                open.get_or_insert(found);
            }
            (None, Some(last)) => return Err(closed(digest, last, now)),
            (None, None) => {}
        }
    }
    Ok(open)
}

fn closed(digest: &CodeDigest, reference: &DigestReference, now: Timestamp) -> Finding {
    let finding = if reference.window.is_over(now) {
        Finding::new("CODE-WITHDRAWN", "this code was withdrawn")
    } else {
        Finding::new("CODE-NOT-YET", "this code is not approved yet")
    };
    finding
        .expected(format!(
            "{}, which counts {}",
            reference.label, reference.window
        ))
        .observed(format!("{digest} at {now}, listed by {}", reference.source))
        .next("run the version that is approved now, or `trilith refs import` a generation with it")
}

fn unknown(running: &Running) -> Finding {
    let observed: Vec<String> = running.digests.iter().map(ToString::to_string).collect();
    Finding::new(
        "CODE-UNKNOWN",
        "nobody whom the references name approved this code",
    )
    .expected("a listed digest, or a signature or provenance by a signer of the references")
    .observed(if observed.is_empty() {
        "code without a digest".to_owned()
    } else {
        observed.join(", ")
    })
    .next("`trilith refs import` the package that it is from, or attach its signature")
}

/// Evidence that counts.
struct Approval {
    /// Provenance before signatures, then the order of the references.
    preference: (bool, usize),
    /// Of the rule, or of the signer.
    label: String,
    vouched: Vouched,
    provenance: Option<Provenance>,
    of_image: bool,
}

fn approve(
    running: &Running,
    evidence: &CodeEvidence,
    references: &CodeReferences,
    now: Timestamp,
) -> Result<Approval, Vec<Finding>> {
    if !running.digests.contains(&evidence.about) {
        return Err(vec![
            Finding::new("CODE-EVIDENCE", "evidence of code that does not run here")
                .observed(evidence.about.to_string()),
        ]);
    }
    let artifact = match &evidence.about {
        CodeDigest::Sha256(digest) | CodeDigest::Image(digest) => Artifact::of_sha256(*digest),
        CodeDigest::FsVerity(_) => Artifact::default(),
    };
    let one = |finding| vec![finding];
    let vouched = match &evidence.form {
        Form::Bundle(bytes) => verify_bundle(bytes, &artifact, references, now)?,
        Form::Envelope(bytes) => verify_envelope(bytes, &artifact, references).map_err(one)?,
        Form::Signature(bytes) => verify_blob(bytes, &artifact, references).map_err(one)?,
        Form::SimpleSigning { payload, signature } => match &evidence.about {
            CodeDigest::Image(manifest) => {
                verify_simple_signing(payload, signature, manifest, references).map_err(one)?
            }
            CodeDigest::Sha256(_) | CodeDigest::FsVerity(_) => {
                return Err(vec![Finding::new(
                    "CODE-EVIDENCE",
                    "an image's signature on something that is no image",
                )]);
            }
        },
    };
    let approval = weigh(vouched, references)?;
    Ok(Approval {
        of_image: matches!(evidence.about, CodeDigest::Image(_)),
        ..approval
    })
}

/// Whether what a signer said approves the code.
fn weigh(vouched: Vouched, references: &CodeReferences) -> Result<Approval, Vec<Finding>> {
    let is_provenance = vouched.statement().filter(|one| Provenance::is_one(one));
    let mut rules = references
        .provenance()
        .iter()
        .enumerate()
        .filter(|(_, rule)| rule.is_by(vouched.label()))
        .peekable();
    let Some(statement) = is_provenance else {
        if let Some((_, rule)) = rules.peek() {
            return Err(vec![
                Finding::new("SLSA-MISSING", "the signer vouches by provenance only")
                    .expected(format!("provenance by the rule {:?}", rule.label()))
                    .observed("another statement, or a signature alone")
                    .next("attach the provenance that was made for this build"),
            ]);
        }
        return signed(vouched, references);
    };
    if rules.peek().is_none() {
        return signed(vouched, references);
    }
    let found = Provenance::read(statement).map_err(|finding| vec![finding])?;
    provenance::check_claims(&vouched, &found)?;
    let mut fewest: Option<Vec<Finding>> = None;
    for (at, rule) in rules {
        match rule.check(&found) {
            Ok(()) => {
                return Ok(Approval {
                    preference: (false, at),
                    label: rule.label().to_owned(),
                    vouched,
                    provenance: Some(found),
                    of_image: false,
                });
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
    Err(fewest.unwrap_or_default())
}

/// A signature over the code, or a statement of a type by which its signer approves.
fn signed(vouched: Vouched, references: &CodeReferences) -> Result<Approval, Vec<Finding>> {
    let signer = references.signer(vouched.label());
    if let Some(statement) = vouched.statement() {
        let kind = statement.predicate_type();
        let approves = signer.is_some_and(|signer| signer.predicates.contains(kind));
        if !approves {
            return Err(vec![
                Finding::new(
                    "STATEMENT-PREDICATE",
                    "the statement is of a type that approves nothing",
                )
                .expected("provenance with a rule for it, or a type that the signer approves by")
                .observed(kind.chars().take(256).collect::<String>())
                .next("name the type in the signer's reference, or write a rule for provenance"),
            ]);
        }
    }
    let at = references
        .signers()
        .position(|signer| signer.label() == vouched.label())
        .unwrap_or(usize::MAX);
    Ok(Approval {
        preference: (true, at),
        label: vouched.label().to_owned(),
        vouched,
        provenance: None,
        of_image: false,
    })
}
