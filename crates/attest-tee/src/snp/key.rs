//! The certificate of the key that signs reports: a VCEK, which is one chip's at one TCB, or a VLEK,
//! which is a cloud provider's.

use super::roots::{Root, Roots};
use super::tcb::Generation;
use super::{Evidence, References};
use crate::artefact::Window;
use crate::crl::{Crl, title};
use crate::{Artefact, Revocation, allow};
use attest::Findings;
use attest::x509::{self, der};
use crypto::chain::Kind;
use facts::{Finding, Timestamp};
use x509_parser::certificate::X509Certificate;
use x509_parser::x509::X509Version;

/// AMD's arc in certificates, 1.3.6.1.4.1.3704.1, in DER (KDS, tables 8 and 9).
const ARC: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x9c, 0x78, 0x01];
const PRODUCT: &[u8] = &[2];
const CHIP: &[u8] = &[4];
const PROVIDER: &[u8] = &[5];
const IA5_STRING: u8 = 0x16;

/// A key whose chain was checked.
pub(super) struct ReportKey {
    pub(super) generation: Generation,
    /// Uncompressed, on P-384.
    pub(super) point: Vec<u8>,
    /// In the layout of `TCB_VERSION`.
    pub(super) tcb: [u8; 8],
    pub(super) identity: Identity,
}

/// Whose key it is.
pub(super) enum Identity {
    /// `hwID`: 64 bytes, from Turin on eight.
    Chip(Vec<u8>),
    /// `cspID`.
    Provider(String),
}

impl Identity {
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Chip(_) => "vcek",
            Self::Provider(_) => "vlek",
        }
    }
}

/// Checks the certificate, its chain and its revocation at `now`. It is returned, if it can be read and
/// has a chain, whatever else is wrong with it, so that all faults of a report are found.
pub(super) fn verify(
    evidence: &Evidence<'_>,
    references: &References,
    now: Timestamp,
    findings: &mut Findings,
) -> Option<ReportKey> {
    let certificate = findings.take(x509::parse(evidence.key).map_err(malformed))?;
    let (root, intermediate) = findings.take(chain(&certificate, &references.roots))?;
    let (ark, ask) = findings.take(
        x509::parse(&root.ark)
            .and_then(|ark| Ok((ark, x509::parse(intermediate)?)))
            .map_err(malformed),
    )?;
    for one in [&certificate, &ask, &ark] {
        findings.check(x509::valid_at(one.validity(), now), || expired(one, now));
    }
    revocation(
        evidence,
        references,
        (&ark, &ask),
        root.generation,
        now,
        findings,
    );
    findings.take(read(&certificate, root.generation).map_err(malformed))
}

fn malformed(problem: &str) -> Finding {
    Finding::new(
        "TEE-SNP-KEY-STRUCTURE",
        "the certificate of the report's key cannot be read",
    )
    .expected("the DER of one VCEK or VLEK certificate")
    .observed(problem)
    .next("take it from AMD's key server or the host's certificate table")
}

/// The generation that a certificate says it is of. Nothing of it is checked.
pub(crate) fn generation(der: &[u8]) -> Option<Generation> {
    let certificate = x509::parse(der).ok()?;
    let product = product(&certificate)?;
    Generation::ALL
        .into_iter()
        .find(|generation| generation.name() == product)
}

/// What a certificate says whose key it is: a chip's, its id padded as reports have it, or a
/// provider's; and at which TCB. Nothing of it is checked.
pub(crate) fn named(der: &[u8]) -> Result<(Option<[u8; 64]>, [u8; 8]), &'static str> {
    let certificate = x509::parse(der)?;
    let generation = Generation::ALL
        .into_iter()
        .find(|generation| product(&certificate) == Some(generation.name()))
        .ok_or("a product of no known generation")?;
    let key = read(&certificate, generation)?;
    let chip = match key.identity {
        Identity::Provider(_) => None,
        Identity::Chip(chip) => {
            let mut padded = [0; 64];
            for (to, from) in padded.iter_mut().zip(chip) {
                *to = from;
            }
            Some(padded)
        }
    };
    Ok((chip, key.tcb))
}

/// Whether this is the certificate of a chip's key at a TCB, below a root of its generation, and valid now;
/// from when to when it is.
///
/// # Errors
/// What is wrong with it, in words.
pub(crate) fn certifies(
    der: &[u8],
    roots: &Roots,
    generation: Generation,
    (chip, tcb): ([u8; 64], [u8; 8]),
    now: Timestamp,
) -> Result<Window, String> {
    let certificate = x509::parse(der)?;
    let (root, intermediate) = chain(&certificate, roots)
        .map_err(|finding| finding.observed.unwrap_or(finding.message))?;
    if root.generation != generation {
        return Err("below the root of another generation".to_owned());
    }
    for above in [intermediate, root.ark.as_slice()] {
        if !x509::valid_at(x509::parse(above)?.validity(), now) {
            return Err("an authority above it is not valid now".to_owned());
        }
    }
    match named(der)? {
        (Some(of), _) if of != chip => Err("of another chip".to_owned()),
        (Some(_), at) if at != tcb => Err("for another TCB".to_owned()),
        (Some(_), _) => {
            let validity = certificate.validity();
            Ok((
                validity.not_before.timestamp(),
                validity.not_after.timestamp(),
            ))
        }
        (None, _) => Err("of a provider, not a chip".to_owned()),
    }
}

/// Root and intermediate that certify it.
fn chain<'a>(
    certificate: &X509Certificate<'_>,
    roots: &'a Roots,
) -> Result<(&'a Root, &'a [u8]), Finding> {
    let mut problem = "no accepted authority has this name";
    for root in roots.iter() {
        for der in &root.intermediates {
            let Ok(issuer) = x509::parse(der) else {
                continue;
            };
            if issuer.subject().as_raw() != certificate.issuer().as_raw() {
                continue;
            }
            let good = x509::may_certify(&issuer, Some(0))
                .and_then(|()| x509::signed_by(certificate, &issuer));
            match good {
                Ok(()) => return Ok((root, der)),
                Err(why) => problem = why,
            }
        }
    }
    Err(
        Finding::new("TEE-SNP-CHAIN", "the report's key is not certified by AMD")
            .expected("an issuer among the roots of the references")
            .observed(format!("{}: {problem}", title(certificate.issuer())))
            .next(
        "send the certificate as AMD's key server issued it; of a laboratory's own authority, declare a \
         [[tee_root]] and name it as `root` of the estate's [[tee]]",
    ),
    )
}

fn expired(certificate: &X509Certificate<'_>, now: Timestamp) -> Finding {
    let validity = certificate.validity();
    let name = title(certificate.subject());
    Finding::new(
        "TEE-SNP-VALIDITY",
        format!("the certificate {name} is not valid now"),
    )
    .expected(format!("{} to {}", validity.not_before, validity.not_after))
    .observed(now.to_string())
    .next("fetch the certificate again; check the server's clock")
}

/// The root's list is current and names neither intermediate nor key.
fn revocation(
    evidence: &Evidence<'_>,
    references: &References,
    (ark, ask): (&X509Certificate<'_>, &X509Certificate<'_>),
    generation: Generation,
    now: Timestamp,
    findings: &mut Findings,
) {
    let refused = |observed: String| {
        Finding::new("TEE-SNP-CRL", "there is no revocation list that counts now")
            .expected(format!("a current list signed by {}", title(ark.subject())))
            .observed(observed)
            .next(format!(
                "{}; or say `revocation = \"if-present\"` in the estate's [[tee]]",
                allow::to_fetch("AMD's key server", &[Artefact::SnpCrl { generation }])
            ))
    };
    let Some(der) = evidence.crl else {
        findings.check(references.revocation == Revocation::IfPresent, || {
            refused("none".to_owned())
        });
        return;
    };
    let Some(list) = findings.take(Crl::open(der, ark).map_err(|why| refused(why.to_owned())))
    else {
        return;
    };
    findings.check(list.is_current(now), || refused(list.window()));
    // Every VCEK has serial number zero: the list is of intermediates.
    findings.check(!list.revokes(ask), || {
        Finding::new(
            "TEE-SNP-REVOKED",
            "AMD revoked the authority of the report's key",
        )
        .observed(title(ask.subject()))
        .next("take the machine out of service")
    });
}

/// The key and what its extensions say.
fn read(
    certificate: &X509Certificate<'_>,
    generation: Generation,
) -> Result<ReportKey, &'static str> {
    if certificate.version() != X509Version::V3 {
        return Err("another version than 3");
    }
    if certificate.is_ca() {
        return Err("an authority's certificate");
    }
    if x509::key_kind(certificate.public_key()) != Some(Kind::P384) {
        return Err("a key that is not on P-384");
    }
    if product(certificate) != Some(generation.name()) {
        return Err("no product of its generation");
    }
    let identity = match (
        extension(certificate, CHIP),
        extension(certificate, PROVIDER),
    ) {
        (Some(chip), None) => Identity::Chip(chip_id(chip, generation).ok_or("no chip id")?),
        (None, Some(provider)) => {
            Identity::Provider(ia5_string(provider).ok_or("no provider id")?.to_owned())
        }
        _ => return Err("neither chip id nor provider id, or both"),
    };
    Ok(ReportKey {
        generation,
        point: certificate.public_key().subject_public_key.data.to_vec(),
        tcb: tcb(certificate, generation).ok_or("not the TCB of this generation")?,
        identity,
    })
}

/// `Milan` of the `Milan-B0` in VCEKs and the `Milan` in VLEKs.
fn product<'a>(certificate: &'a X509Certificate<'_>) -> Option<&'a str> {
    extension(certificate, PRODUCT)
        .and_then(ia5_string)?
        .split('-')
        .next()
}

/// The value of the extension `ARC.tail`; [`x509::parse`] has seen that it is there once.
fn extension<'a>(certificate: &'a X509Certificate<'_>, tail: &[u8]) -> Option<&'a [u8]> {
    certificate
        .extensions()
        .iter()
        .find(|one| one.oid.as_bytes().strip_prefix(ARC) == Some(tail))
        .map(|one| one.value)
}

fn ia5_string(bytes: &[u8]) -> Option<&str> {
    let (text, rest) = der::take(IA5_STRING, bytes)?;
    let text = str::from_utf8(text).ok()?;
    (rest.is_empty() && text.len() <= 128 && !text.chars().any(char::is_control)).then_some(text)
}

fn chip_id(bytes: &[u8], generation: Generation) -> Option<Vec<u8>> {
    (bytes.len() == generation.chip_length() && bytes.iter().any(|byte| *byte != 0))
        .then(|| bytes.to_vec())
}

/// `blSPL` and so on, in the order that `TCB_VERSION` has in this generation (KDS, section 3.1).
fn tcb(certificate: &X509Certificate<'_>, generation: Generation) -> Option<[u8; 8]> {
    let order: [u8; 8] = match generation {
        Generation::Milan | Generation::Genoa => [1, 2, 4, 5, 6, 7, 3, 8],
        Generation::Turin => [9, 1, 2, 3, 5, 6, 7, 8],
    };
    let mut bytes = [0; 8];
    for (byte, number) in bytes.iter_mut().zip(order) {
        let value = extension(certificate, &[3, number])?;
        let (digits, rest) = der::take(der::INTEGER, value)?;
        *byte = match digits {
            [small @ ..=0x7f] => *small,
            [0, large @ 0x80..=0xff] => *large,
            _ => return None,
        };
        if !rest.is_empty() {
            return None;
        }
    }
    Some(bytes)
}
