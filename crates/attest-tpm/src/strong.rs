//! The bank of SHA-384, beside the one that a join rests on: registers that another verifier knows, compared with
//! what the TPM quotes of them, or else with what its event log amounts to in that bank.
//!
//! Nothing is learnt of the registers here, only that the two speak of one TPM.

use crate::attested::Body;
use crate::bank;
use crate::boot;
use crate::bytes::Bytes;
use crate::eventlog::{Format, Log};
use crate::pcr::QuotedPcrs;
use crate::public::SHA384;
use crate::quote::genuine;
use attest::Findings;
use crypto::{Hash, PublicKey, hex};
use facts::Finding;
use std::collections::BTreeMap;

/// Those that firmware and boot loaders measure into, which stand still while a machine joins.
pub const PCRS: [u32; 14] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14];

/// A quote and its signature as one field: each behind its length, of two bytes, little-endian.
#[must_use]
pub fn pack(quote: &[u8], signature: &[u8]) -> Option<Vec<u8>> {
    let mut packed = Vec::new();
    for part in [quote, signature] {
        packed.extend(u16::try_from(part.len()).ok()?.to_le_bytes());
        packed.extend(part);
    }
    Some(packed)
}

fn unpack(packed: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut bytes = Bytes::new(packed);
    let mut part = || {
        let length = bytes.u16()?;
        bytes.take(length.into())
    };
    let parts = (part()?, part()?);
    bytes.is_empty().then_some(parts)
}

/// Whether `quote` is of [`PCRS`] in that bank alone, as a chip's may not be that lacks it.
#[must_use]
pub fn is_quote(quote: &[u8]) -> bool {
    match crate::Attested::parse(quote).map(|attested| attested.body) {
        Ok(Body::Quote { selections, .. }) => is_selected(&selections),
        _ => false,
    }
}

fn is_selected(selections: &[crate::Selection]) -> bool {
    matches!(selections, [one] if one.hash == SHA384 && one.indices() == PCRS)
}

/// Verifies that `packed` is a quote under `key`, fresh by `nonce`, of [`PCRS`] with the values that `registers` have.
///
/// # Errors
/// As of a quote of SHA-256: `TPM-STRUCTURE`, `TPM-QUOTE-SIGNATURE`, `TPM-QUOTE-MAGIC`, `TPM-QUOTE-NONCE`,
/// `TPM-QUOTE-TYPE`, `TPM-QUOTE-SELECTION`. `TEE-NITRO-PCRS` where the TPM has other registers.
pub fn quoted(
    packed: &[u8],
    key: &PublicKey,
    nonce: &[u8],
    registers: &BTreeMap<u8, [u8; 48]>,
) -> Result<(), Vec<Finding>> {
    let Some((quote, signature)) = unpack(packed) else {
        return Err(vec![
            Finding::new("TPM-STRUCTURE", "the quote of SHA-384 cannot be read")
                .expected("a TPMS_ATTEST and a TPMT_SIGNATURE, each behind its length")
                .next("update the node agent"),
        ]);
    };
    let mut findings = Findings::new();
    let parsed = genuine(quote, signature, key, nonce, &mut findings);
    if let Some(Body::Quote { selections, digest }) = parsed.as_ref().map(|parsed| &parsed.body) {
        findings.check(is_selected(selections), || {
            Finding::new("TPM-QUOTE-SELECTION", "other PCRs were quoted than asked")
                .expected(format!("PCRs {PCRS:?} of SHA-384"))
                .next("update the node agent")
        });
        let values = PCRS.map(|pcr| register(registers, pcr).unwrap_or([0; 48]));
        let expected = crypto::sha256(&values.concat());
        findings.check(digest.as_slice() == expected, || {
            other_registers()
                .expected(format!("a quote of {}", hex::encode(&expected)))
                .observed(hex::encode(digest))
        });
    }
    if findings.is_empty() {
        Ok(())
    } else {
        Err(findings.into_vec())
    }
}

/// Whether the event log of the same TPM amounts to `registers`; `None` where it has nothing of that bank.
///
/// # Errors
/// `TEE-NITRO-PCRS`, with what [`boot::verify`] finds; `EVENTLOG-DATA` likewise.
#[must_use]
pub fn logged(log: &[u8], registers: &BTreeMap<u8, [u8; 48]>) -> Option<Result<(), Vec<Finding>>> {
    let log = Log::parse(log).ok()?;
    if log.format == Format::Legacy || !log.has(Hash::Sha384) {
        return None;
    }
    let values = PCRS.map(|pcr| (pcr, register(registers, pcr).unwrap_or([0; 48])));
    let quoted = QuotedPcrs::claimed(values.into());
    let verified = boot::verify(&log, &quoted).map(|_| ());
    Some(verified.map_err(|found| {
        let of_the_bank = |finding: Finding| match finding.code.as_ref() {
            "EVENTLOG-REPLAY" => Finding {
                message: format!(
                    "{}: in the bank of {}, {}",
                    other_registers().message,
                    bank::name::<48>(),
                    finding.message
                ),
                code: "TEE-NITRO-PCRS".into(),
                ..finding
            },
            _ => finding,
        };
        found.into_iter().map(of_the_bank).collect()
    }))
}

fn register(registers: &BTreeMap<u8, [u8; 48]>, pcr: u32) -> Option<[u8; 48]> {
    registers.get(&u8::try_from(pcr).ok()?).copied()
}

fn other_registers() -> Finding {
    Finding::new(
        "TEE-NITRO-PCRS",
        "the TPM has other registers than the hypervisor says",
    )
    .next(
        "join again, if a PCR was extended meanwhile; else treat the machine as answering with another TPM \
         than its own",
    )
}
