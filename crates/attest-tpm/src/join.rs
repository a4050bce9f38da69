//! Joining by TPM, the server's half: a challenge, then the verdict about its answer.
//!
//! What an affirmed verdict proves: the keys of [`Proven`] belong to the TPM with this endorsement key;
//! the answer was made for this connection after the checkpoint in the nonce was known; the PCRs had
//! these values then; and, where there is an event log, that this is how they came about. It does not say
//! that what booted is good: `machine.boot.state` is `measured`, and without a log `unknown`.
//! Rate limits, sessions and records are the server's.

mod anchor;
mod session;
mod statement;

pub use anchor::{Anchor, Chip, Trust};

use crate::ak::{Instance, Vouched};
use crate::attested::Clock;
use crate::counted::Counted;
use crate::credential::Credential;
use crate::ek::{EndorsementKey, References};
use crate::eventlog::{Format, Log};
use crate::keys::SigningKey;
use crate::message::{Challenge, Channel, JoinEvidence, JoinRequest};
use crate::pcr::PcrSelection;
use crate::public::Name;
use crate::quote::Quoted;
use crate::transcript::{Transcript, nonce};
use crate::{boot, certify, make_credential, quote};
use attest::{Findings, Verdict};
use crypto::{PublicKey, SecretBytes, hex};
use facts::{FactSet, Finding, Source, Timestamp, Warrant};
use session::SessionContext;

/// A TCG event log of a machine is some tens of kilobytes.
const LONGEST_EVENT_LOG: usize = 1 << 20;
/// `TPM_RH_ENDORSEMENT` (Part 2, section 7.4).
const ENDORSEMENT: u32 = 0x4000_000b;

/// What a chip and its quote show is all of the machine.
const WARRANT: Warrant = Warrant::of(Source::Hardware, &["machine."]);

/// Fresh random bytes for one challenge.
pub struct Entropy {
    /// Part of the nonce; becomes public.
    pub nonce: [u8; 32],
    /// What only the right TPM gives back.
    pub secret: SecretBytes,
    /// Encrypts the secret.
    pub seed: SecretBytes,
}

/// Makes the challenge for a machine that presents these keys. Trust in them is decided with the
/// answer, by [`verify`]; the server keeps the secret and the nonce until then, for one answer.
///
/// `checkpoint` is a recent one of the server's ledger.
///
/// # Errors
/// A finding for each key that is not of the right kind; `TPM-SELECTION` for a bad `pcrs`.
pub fn challenge(
    request: &JoinRequest,
    checkpoint: &str,
    pcrs: &[u32],
    entropy: &Entropy,
) -> Result<Challenge, Vec<Finding>> {
    let mut findings = Findings::new();
    let anchor = findings.take(Anchor::read(request));
    let ak = findings.take(SigningKey::attestation(&request.ak_public));
    findings.take(SigningKey::identity(&request.identity_public));
    let selection = findings.take(PcrSelection::new(pcrs));
    let (Some(anchor), Some(ak), Some(selection), true) =
        (anchor, ak, selection, findings.is_empty())
    else {
        return Err(findings.into_vec());
    };
    let credential = match &anchor {
        Anchor::Endorsement(ek) => credential(ek, &ak, entropy)?,
        Anchor::Attestation => Credential::default(),
    };
    Ok(Challenge {
        credential_blob: credential.blob,
        encrypted_secret: credential.encrypted_secret,
        nonce: nonce(checkpoint, &entropy.nonce),
        nonce_random: entropy.nonce,
        nonce_checkpoint: checkpoint.to_owned(),
        pcrs: selection.indices().to_vec(),
    })
}

fn credential(
    ek: &EndorsementKey,
    ak: &SigningKey,
    entropy: &Entropy,
) -> Result<Credential, Vec<Finding>> {
    let unusable = |observed: &str| {
        vec![
            Finding::new(
                "TPM-EK-KEY",
                "nothing can be encrypted to the endorsement key",
            )
            .observed(observed),
        ]
    };
    let (Some(secret), Some(seed)) = (
        entropy.secret.expose().as_array::<32>(),
        entropy.seed.expose().as_array::<32>(),
    ) else {
        return Err(unusable("secret or seed that is not 32 bytes"));
    };
    make_credential(ek, &ak.name, secret, seed).map_err(|error| unusable(&error.to_string()))
}

/// What the server knows of the join that an answer belongs to.
#[derive(Clone)]
pub struct JoinExpectation {
    /// Of the challenge that was sent.
    pub nonce: [u8; 32],
    /// Of the challenge that was sent.
    pub secret: SecretBytes,
    /// Of the challenge that was sent.
    pub pcrs: Vec<u32>,
    /// The connection as the server sees it.
    pub channel: Channel,
    pub now: Timestamp,
    /// Whose word stands for the attestation key of a TPM that brings no endorsement key, if another
    /// verifier has given it.
    pub vouched: Option<Vouched>,
}

/// Which boot of a machine something was said in, as its TPM counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Boot {
    pub reset_count: u32,
    pub restart_count: u32,
}

impl From<Clock> for Boot {
    fn from(clock: Clock) -> Self {
        Self {
            reset_count: clock.reset_count,
            restart_count: clock.restart_count,
        }
    }
}

/// What an affirmed join established, for the one who issues. Only [`verify`] makes it, and [`again`] of what was kept.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Proven {
    /// The machine's TPM.
    pub chip: Chip,
    /// The machine of a cloud that the TPM was given to, if the cloud says so.
    pub instance: Option<Instance>,
    /// In the TPM.
    pub identity_key: PublicKey,
    /// The key to certify: in memory and vouched for by the identity key, or the identity key itself.
    pub session_key: PublicKey,
    pub boot: Boot,
    /// What stands behind the chip, and with it behind what it holds.
    pub root: Source,
    /// What was booted, if an event log of SHA-256 came along.
    pub booted: Option<boot::Boot>,
    /// The attestation key, by which the machine goes on to attest.
    pub attestation_key: PublicKey,
    /// What was quoted.
    pub quoted: Quoted,
}

/// The verdict, and what it proved if it is affirmed.
#[derive(Debug, Clone)]
pub struct Judgement {
    pub verdict: Verdict,
    pub proven: Option<Proven>,
}

/// Whether `presented` is the secret of the challenge, in constant time. Part of [`verify`].
#[must_use]
pub fn check_secret(expected: &SecretBytes, presented: &[u8]) -> bool {
    !expected.expose().is_empty() && crypto::constant_time_eq(expected.expose(), presented)
}

/// Judges an answer. The codes of its findings are listed in `docs/attestation/tpm.md`; all that can
/// be checked is, so that a refusal names every fault.
#[must_use]
pub fn verify(
    evidence: &JoinEvidence,
    expectation: &JoinExpectation,
    references: &References,
) -> Judgement {
    let digests = evidence
        .blobs()
        .iter()
        .map(attest::Evidence::digest)
        .collect();
    match examine(evidence, expectation, references, Activation::Shown) {
        Ok((facts, proven)) => Judgement {
            verdict: Verdict::affirmed(&WARRANT, facts, digests),
            proven: Some(proven),
        },
        Err(findings) => Judgement {
            verdict: Verdict::refused(findings, digests),
            proven: None,
        },
    }
}

/// Judges an answer that was kept, as it was judged by [`verify`], and says what it stated. Nothing is issued on
/// that: that the TPM of the endorsement key holds the attestation key was shown to the one who made the secret, who
/// could have made it afterwards, and is taken for shown here.
///
/// # Errors
/// As the findings of [`verify`], without `TPM-ACTIVATION`.
pub fn again(
    evidence: &JoinEvidence,
    expectation: &JoinExpectation,
    references: &References,
) -> Result<(FactSet, Proven), Vec<Finding>> {
    examine(evidence, expectation, references, Activation::Taken)
}

/// Whether the secret is there to be looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Activation {
    Shown,
    Taken,
}

fn examine(
    evidence: &JoinEvidence,
    expectation: &JoinExpectation,
    references: &References,
    activation: Activation,
) -> Result<(FactSet, Proven), Vec<Finding>> {
    let (request, answer) = (&evidence.request, &evidence.answer);
    let mut findings = Findings::new();
    findings.check(answer.event_log.len() <= LONGEST_EVENT_LOG, || {
        Finding::new("TPM-EVENT-LOG-SIZE", "the event log is too long")
            .expected(format!("at most {LONGEST_EVENT_LOG} bytes"))
            .observed(format!("{} bytes", answer.event_log.len()))
    });
    let anchor = findings.take(Anchor::read(request));
    let ak = findings.take(SigningKey::attestation(&request.ak_public));
    let identity = findings.take(SigningKey::identity(&request.identity_public));
    let selection = findings.take(PcrSelection::new(&expectation.pcrs));
    // Without the keys there is nothing to check anything else against.
    let (Some(anchor), Some(ak), Some(identity), Some(selection)) =
        (anchor, ak, identity, selection)
    else {
        return Err(findings.into_vec());
    };

    let trust = anchor.trust(
        &ak,
        request,
        references,
        expectation.vouched.as_ref(),
        expectation.now,
    );
    let trust = gather(&mut findings, trust);
    if activation == Activation::Shown {
        findings.take(anchor.activated(expectation, answer));
    }
    let quoted = quote::verify(
        &answer.quote,
        &answer.quote_signature,
        &ak.key,
        &expectation.nonce,
        &selection,
        &answer.pcr_values,
    );
    let quoted = gather(&mut findings, quoted);
    let transcript = Transcript {
        trust_domain: &expectation.channel.trust_domain,
        server_key: &expectation.channel.server_key,
        exporter: &expectation.channel.exporter,
        nonce: &expectation.nonce,
        ek_public: &request.ek_public,
        ak_name: ak.name.as_bytes(),
        identity_spki: identity.key.spki_der(),
        quote: &answer.quote,
    }
    .digest();
    let certified = certify::verify(
        &answer.certify,
        &answer.certify_signature,
        &ak.key,
        &identity.name,
        &transcript,
    );
    let certified = gather(&mut findings, certified);
    if let (Some(quoted), Some(certified)) = (&quoted, certified) {
        clocks(quoted, certified, &ak.name, &mut findings);
    }
    let booted = quoted.as_ref().and_then(|quoted| {
        let booted = booted(&answer.event_log, quoted);
        gather(&mut findings, booted)
    });
    let boot = quoted.as_ref().map(|quoted| Boot::from(quoted.clock));
    let session = boot.and_then(|boot| {
        let context = SessionContext {
            identity: &identity.key,
            transcript: &transcript,
            boot,
            nonce: &expectation.nonce,
        };
        findings.take(context.session_key(evidence))
    });
    match (trust, quoted, boot, session) {
        (Some(trust), Some(quoted), Some(boot), Some(session)) if findings.is_empty() => {
            let proven = Proven {
                chip: anchor.chip(&ak),
                instance: trust.instance().cloned(),
                session_key: session.unwrap_or_else(|| identity.key.clone()),
                identity_key: identity.key,
                boot,
                root: trust.root(),
                booted: booted.flatten(),
                attestation_key: ak.key,
                quoted: quoted.clone(),
            };
            let facts = statement::facts(&trust, &quoted, &proven, expectation.now);
            Ok((facts, proven))
        }
        _ => Err(findings.into_vec()),
    }
}

/// What the machine booted, if it says: a log that is none, or not of what was quoted, refuses the join,
/// since an honest machine has no use for it. One of SHA-1 alone says nothing that could be relied upon.
///
/// # Errors
/// What [`Log::parse`] and [`boot::verify`] find.
pub fn booted(log: &[u8], quoted: &Quoted) -> Result<Option<boot::Boot>, Vec<Finding>> {
    if log.is_empty() || log.len() > LONGEST_EVENT_LOG {
        return Ok(None);
    }
    let log = Log::parse(log).map_err(|finding| vec![finding])?;
    if log.format == Format::Legacy {
        return Ok(None);
    }
    boot::verify(&log, &quoted.pcrs).map(Some)
}

fn gather<T>(findings: &mut Findings, result: Result<T, Vec<Finding>>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(found) => {
            for finding in found {
                findings.push(finding);
            }
            None
        }
    }
}

/// Quote and certification are of one boot, counted openly. Whether it comes before the last one seen is
/// the server's to say, which knows the machine.
///
/// `safe = NO` refuses nothing: after a power cut it is so for up to an hour on every machine of a site at once.
/// In one boot the clock goes forward all the same, and the key was certified behind the quote.
fn clocks(quoted: &Quoted, certified: Counted, ak: &Name, findings: &mut Findings) {
    // Part 1, section 36.7: under a key of another hierarchy counters and firmware are obfuscated.
    let expected = ak.qualified(ENDORSEMENT);
    findings.check(quoted.qualified_signer == expected.as_bytes(), || {
        Finding::new(
            "TPM-AK-HIERARCHY",
            "the attestation key is not a primary key of the endorsement hierarchy",
        )
        .expected(expected.to_string())
        .observed(hex::encode(&quoted.qualified_signer))
        .next("let the node agent create the key")
    });
    let (boot, other) = (Boot::from(quoted.clock), Boot::from(certified.clock));
    findings.check(boot == other, || {
        Finding::new(
            "TPM-BOOT-CHANGED",
            "the machine restarted between quote and certification",
        )
        .expected(describe(boot))
        .observed(describe(other))
        .next("join again")
    });
    if boot == other {
        for finding in certified.since(&Counted::from(quoted)) {
            findings.push(finding);
        }
    }
}

fn describe(boot: Boot) -> String {
    format!("reset {} restart {}", boot.reset_count, boot.restart_count)
}
