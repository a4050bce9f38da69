//! AWS Nitro: the attestation document of an enclave, and that of a NitroTPM.
//!
//! Both are COSE_Sign1 (RFC 9052) by ES384 over CBOR, with their chain to one root ("AWS Nitro Enclaves
//! attestation process"; "NitroTPM Attestation Document contents"). They differ in the name of their
//! registers and in what those mean.

mod cbor;
mod document;
mod path;

pub use document::{Document, Kind};
pub use path::Roots;

use crate::code::Recognised;
use crate::{Code, WARRANT, allow};
use attest::{Evidence as Blob, Findings, Verdict};
use crypto::hex;
use facts::{FactSet, Finding, Source, Timestamp, names};
use std::collections::{BTreeMap, BTreeSet};

/// Those of an enclave that are stated beside PCR 0 and 8.
const REGISTERS: [(u8, &str); 4] = [
    (1, names::MACHINE_TEE_PCR1),
    (2, names::MACHINE_TEE_PCR2),
    (3, names::MACHINE_TEE_PCR3),
    (4, names::MACHINE_TEE_PCR4),
];

/// How far the hypervisor's clock may be ahead of ours, in seconds.
const SKEW: u64 = 60;

/// What was asked. At least one of the three fields has to be expected: a document that answers nothing
/// is anybody's.
#[derive(Debug, Clone)]
pub struct Expectation {
    pub nonce: Option<Vec<u8>>,
    pub user_data: Option<Vec<u8>>,
    pub public_key: Option<Vec<u8>>,
    /// Documents that are older are refused, in seconds. Their certificates live for three hours.
    pub max_age: u64,
    pub now: Timestamp,
}

/// What the owner accepts. The default has no root and accepts no image.
#[derive(Debug, Clone, Default)]
pub struct References {
    pub roots: Roots,
    pub code: Code<Image>,
}

/// One image that is accepted.
#[derive(Debug, Clone)]
pub struct Image {
    /// For people, and the fact `machine.tee.image`.
    pub name: String,
    /// Registers that have to have these values (SHA-384). Without any, the image matches nothing.
    pub pcrs: BTreeMap<u8, [u8; 48]>,
}

/// Judges a document of an enclave or a NitroTPM. The codes of its findings are listed in
/// `docs/attestation/nitro.md`; all that can be checked is, so that a refusal names every fault.
#[must_use]
pub fn verify(document: &[u8], expected: &Expectation, references: &References) -> Verdict {
    let digests = vec![Blob::new("nitro-document", document).digest()];
    match examine(document, expected, references) {
        Ok(facts) => Verdict::affirmed(&WARRANT, facts, digests),
        Err(findings) => Verdict::refused(findings, digests),
    }
}

fn examine(
    bytes: &[u8],
    expected: &Expectation,
    references: &References,
) -> Result<FactSet, Vec<Finding>> {
    let document = Document::parse(bytes).map_err(|finding| vec![finding])?;
    let mut findings = Findings::new();
    path::verify(&document, &references.roots, expected.now, &mut findings);
    time(&document, expected, &mut findings);
    // The hypervisor writes zeros for the image of an enclave that may be debugged; a NitroTPM has
    // measured something by the time that it can be asked.
    let unmeasured = match document.kind {
        Kind::Enclave => zero(&document, 0..=2),
        Kind::Tpm => zero(&document, 0..=15),
    };
    findings.check(!unmeasured, || {
        Finding::new("TEE-NITRO-DEBUG", "the enclave runs in debug mode")
            .expected("registers of what was launched that are not zero")
            .observed("zeros")
            .next("start the enclave without debug mode")
    });
    answers(&document, expected, &mut findings);
    let image = findings.take(recognise(&document, &references.code));
    match image {
        Some(image) if findings.is_empty() => Ok(statement(&document, &image, expected.now)),
        _ => Err(findings.into_vec()),
    }
}

fn time(document: &Document<'_>, expected: &Expectation, findings: &mut Findings) {
    let made = document.timestamp;
    let oldest = expected.now.minus_secs(expected.max_age);
    let newest = expected.now.plus_secs(SKEW);
    findings.check((oldest..=newest).contains(&made), || {
        Finding::new("TEE-NITRO-TIME", "the document is not of now")
            .expected(format!("{oldest} to {newest}"))
            .observed(made.to_string())
            .next("ask for a fresh document; check the server's clock")
    });
}

fn zero(document: &Document<'_>, mut pcrs: std::ops::RangeInclusive<u8>) -> bool {
    pcrs.all(|index| {
        document
            .pcrs
            .get(&index)
            .is_none_or(|value| *value == [0; 48])
    })
}

fn answers(document: &Document<'_>, expected: &Expectation, findings: &mut Findings) {
    let mut asked = false;
    let mut field = |code, message, expected: &Option<Vec<u8>>, observed: Option<&[u8]>| {
        let Some(expected) = expected else {
            return;
        };
        asked = true;
        let equal = observed.is_some_and(|bytes| crypto::constant_time_eq(bytes, expected));
        findings.check(equal, || {
            Finding::new(code, message)
                .expected(hex::encode(expected))
                .observed(observed.map_or_else(|| "none".to_owned(), hex::encode))
                .next("ask for a document with the data of this challenge")
        });
    };
    field(
        "TEE-NITRO-NONCE",
        "the document was made for another challenge",
        &expected.nonce,
        document.nonce,
    );
    field(
        "TEE-NITRO-USER-DATA",
        "the document carries other data than was asked for",
        &expected.user_data,
        document.user_data,
    );
    field(
        "TEE-NITRO-PUBLIC-KEY",
        "the document is for another key",
        &expected.public_key,
        document.public_key,
    );
    findings.check(asked, || {
        Finding::new("TEE-NITRO-UNASKED", "nothing was asked of the document")
            .expected("a nonce, user data or a public key that it has to carry")
            .next("give the verifier one of them: a document that answers nothing may be old")
    });
}

fn recognise<'a>(
    document: &Document<'_>,
    code: &'a Code<Image>,
) -> Result<Recognised<'a>, Finding> {
    let is_it = |image: &Image| {
        !image.pcrs.is_empty()
            && image
                .pcrs
                .iter()
                .all(|(index, value)| document.pcrs.get(index) == Some(value))
    };
    code.recognise(
        |image| &image.name,
        is_it,
        |expected| {
            let (expected, observed) = match code {
                Code::Listed(images) => nearest(document, images, expected),
                Code::LeftToPolicy => (expected, String::new()),
            };
            let asked = match code {
                Code::Listed(images) => {
                    let images = images.iter();
                    images
                        .flat_map(|image| image.pcrs.keys().copied())
                        .collect()
                }
                Code::LeftToPolicy => BTreeSet::new(),
            };
            Finding::new("TEE-NITRO-IMAGE", "what runs is no image that is listed")
                .expected(expected)
                .observed(observed)
                .next(allow::registers(&document.pcrs, &asked))
        },
    )
}

/// How far what runs is from the image that it is nearest to: the registers that differ, as listed and as they are.
fn nearest(document: &Document<'_>, images: &[Image], names: String) -> (String, String) {
    let shown = |index: u8| match document.pcrs.get(&index) {
        Some(value) => format!("PCR {index} {}", hex::encode(value)),
        None => format!("no PCR {index}"),
    };
    let differing = |image: &Image| -> Vec<(u8, [u8; 48])> {
        let listed = image.pcrs.iter();
        listed
            .filter(|(index, value)| document.pcrs.get(index) != Some(value))
            .map(|(index, value)| (*index, *value))
            .collect()
    };
    let listed = images.iter().filter(|image| !image.pcrs.is_empty());
    let nearest = listed
        .map(|image| (image, differing(image)))
        .min_by_key(|(_, differing)| differing.len());
    let Some((image, differing)) = nearest else {
        let set = document.pcrs.iter().filter(|(_, value)| **value != [0; 48]);
        let set: Vec<_> = set.map(|(index, _)| shown(*index)).collect();
        return (names, set.join(", "));
    };
    let listed = differing
        .iter()
        .map(|(index, value)| format!("PCR {index} {}", hex::encode(value)));
    let listed: Vec<_> = listed.collect();
    let is: Vec<_> = differing.iter().map(|(index, _)| shown(*index)).collect();
    (
        format!("{names}; of {}: {}", image.name, listed.join(", ")),
        is.join(", "),
    )
}

fn statement(document: &Document<'_>, image: &Recognised<'_>, now: Timestamp) -> FactSet {
    let mut facts = FactSet::new();
    let mut state = |name, value: facts::Value| facts.state(name, value, Source::Hardware, now);
    let (kind, measured, signer) = match document.kind {
        Kind::Enclave => ("nitro", 0, Some(8)),
        Kind::Tpm => ("nitro-tpm", 4, None),
    };
    state(names::MACHINE_TEE_KIND, kind.into());
    state(names::MACHINE_TEE_DEBUG, false.into());
    state(names::MACHINE_TEE_PLATFORM, document.module_id.into());
    state(names::MACHINE_TEE_ENDORSEMENT, "nitro".into());
    state(names::MACHINE_TEE_REVOCATION, "unchecked".into());
    let register = |index: u8| {
        let value = document.pcrs.get(&index)?;
        (*value != [0; 48]).then(|| hex::encode(value))
    };
    if let Some(measurement) = register(measured) {
        state(names::MACHINE_TEE_MEASUREMENT, measurement.into());
    }
    if let Some(signer) = signer.and_then(register) {
        state(names::MACHINE_TEE_SIGNER, signer.into());
    }
    if document.kind == Kind::Enclave {
        for (index, name) in REGISTERS {
            if let Some(value) = register(index) {
                state(name, value.into());
            }
        }
    }
    if let Some(image) = image.name() {
        state(names::MACHINE_TEE_IMAGE, image.into());
    }
    facts
}
