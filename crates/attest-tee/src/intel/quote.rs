//! Quotes, taken apart: what the attestation key signed, and what leads from that key to a platform.

use super::report::{EnclaveReport, TdReport};
use crate::wire::Reader;
use attest::x509;
use facts::Finding;

/// Quotes of 8 KiB are seen, padded.
const LONGEST: usize = 32 * 1024;
/// `QE_AUTH_DATA` of Intel's quoting enclaves has 32 bytes.
const LONGEST_AUTH: usize = 256;
const HEADER: usize = 48;
/// ECDSA-256-with-P-256.
const KEY_TYPE: u16 = 2;
const TEE_SGX: u32 = 0;
const TEE_TDX: u32 = 0x81;
/// 939a7233-f79c-4ca9-940a-0db3957f0607: Intel's quoting enclaves.
const INTEL: [u8; 16] = [
    0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07,
];
/// Certification data: the QE report and what certifies it.
const QE_REPORT: u16 = 6;
/// Certification data: the PCK certificate and its chain, PEM.
const PCK_CHAIN: u16 = 5;
/// Body descriptors of version 5.
const BODY_SGX: u16 = 1;
const BODY_TD: u16 = 2;
const BODY_TD_1_5: u16 = 3;

/// A quote that can be read. Nothing of it is believed yet.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Quote<'a> {
    /// 3, 4 or 5.
    pub version: u16,
    pub body: Body,
    /// Header and body: what the attestation key signed.
    pub(super) signed: &'a [u8],
    pub(super) signature: [u8; 64],
    /// x ‖ y on P-256.
    pub(super) attestation_key: [u8; 64],
    pub(super) qe_bytes: &'a [u8],
    pub(super) qe_report: EnclaveReport,
    pub(super) qe_signature: [u8; 64],
    pub(super) qe_auth: &'a [u8],
    /// DER: PCK certificate, its issuer, the root.
    pub(super) chain: Vec<Vec<u8>>,
}

/// What was quoted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    Enclave(EnclaveReport),
    Td(Box<TdReport>),
}

impl<'a> Quote<'a> {
    /// Reads one quote; nothing but zeros may follow it.
    ///
    /// # Errors
    /// `TEE-INTEL-VERSION`, `TEE-INTEL-STRUCTURE`.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Finding> {
        if bytes.len() > LONGEST {
            return Err(malformed("more than 32768 bytes"));
        }
        let version = Reader::new(bytes).u16().unwrap_or_default();
        if !matches!(version, 3..=5) {
            return Err(Finding::new(
                "TEE-INTEL-VERSION",
                "quotes of this version are not understood",
            )
            .expected("version 3 of an enclave, 4 or 5 of a trust domain")
            .observed(version.to_string())
            .next(
                "upgrade the server to a version that reads it; nothing in an estate allows it",
            ));
        }
        read(bytes, version).map_err(malformed)
    }
}

fn malformed(problem: &str) -> Finding {
    Finding::new("TEE-INTEL-STRUCTURE", "the quote cannot be read")
        .expected("a quote by ECDSA P-256 with the PCK chain in it")
        .observed(problem)
        .next("send the quote as the quoting enclave returned it")
}

fn read(bytes: &[u8], version: u16) -> Result<Quote<'_>, &'static str> {
    let cut = "cut short";
    let mut reader = Reader::new(bytes);
    reader.u16().ok_or(cut)?;
    if reader.u16().ok_or(cut)? != KEY_TYPE {
        return Err("another type of attestation key");
    }
    let tee = reader.u32().ok_or(cut)?;
    // SVNs of version 3, reserved in later ones.
    reader.take(4).ok_or(cut)?;
    if reader.array().ok_or(cut)? != INTEL {
        return Err("another vendor's quoting enclave");
    }
    // User data: an index of the platform for its owner.
    reader.take(20).ok_or(cut)?;
    let (body, length) = body(&mut reader, version, tee).ok_or("another body")?;
    let signed = bytes.get(..HEADER + length).ok_or(cut)?;
    let mut data = Reader::new(reader.sized(LONGEST).ok_or(cut)?);
    if reader.rest().iter().any(|byte| *byte != 0) {
        return Err("bytes after its end");
    }
    let signature = data.array().ok_or(cut)?;
    let attestation_key = data.array().ok_or(cut)?;
    if version >= 4 {
        data = certification(&mut data, QE_REPORT)?;
    }
    let qe_bytes = data.take(EnclaveReport::LENGTH).ok_or(cut)?;
    let qe_report = EnclaveReport::read(&mut Reader::new(qe_bytes)).ok_or(cut)?;
    let qe_signature = data.array().ok_or(cut)?;
    let auth = usize::from(data.u16().ok_or(cut)?);
    if auth > LONGEST_AUTH {
        return Err("authentication data of more than 256 bytes");
    }
    let qe_auth = data.take(auth).ok_or(cut)?;
    let chain = certification(&mut data, PCK_CHAIN)?;
    let chain = str::from_utf8(chain.rest()).map_err(|_| "a chain that is not PEM")?;
    Ok(Quote {
        version,
        body,
        signed,
        signature,
        attestation_key,
        qe_bytes,
        qe_report,
        qe_signature,
        qe_auth,
        chain: x509::pem(chain)?,
    })
}

/// The body, and the length of it with its descriptor.
fn body(reader: &mut Reader<'_>, version: u16, tee: u32) -> Option<(Body, usize)> {
    let enclave = |reader: &mut Reader<'_>| EnclaveReport::read(reader).map(Body::Enclave);
    let td = |report: Option<TdReport>| report.map(|report| Body::Td(Box::new(report)));
    if version < 5 {
        return match (version, tee) {
            (3, TEE_SGX) => Some((enclave(reader)?, EnclaveReport::LENGTH)),
            (4, TEE_TDX) => Some((td(TdReport::read(reader))?, TdReport::LENGTH)),
            _ => None,
        };
    }
    let kind = reader.u16()?;
    let length = usize::try_from(reader.u32()?).ok()?;
    let body = match (kind, tee, length) {
        (BODY_SGX, TEE_SGX, EnclaveReport::LENGTH) => enclave(reader),
        (BODY_TD, TEE_TDX, TdReport::LENGTH) => td(TdReport::read(reader)),
        (BODY_TD_1_5, TEE_TDX, TdReport::LENGTH_1_5) => td(TdReport::read_1_5(reader)),
        _ => None,
    };
    Some((body?, length + 6))
}

/// The content of the certification data of `kind`, which is all that is left.
fn certification<'a>(data: &mut Reader<'a>, kind: u16) -> Result<Reader<'a>, &'static str> {
    if data.u16() != Some(kind) {
        return Err("another kind of certification data");
    }
    let content = data.sized(LONGEST).ok_or("cut short")?;
    if data.rest().is_empty() {
        Ok(Reader::new(content))
    } else {
        Err("bytes after its certification data")
    }
}
