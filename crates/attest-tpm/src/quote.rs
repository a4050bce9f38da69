//! Verifies a quote: these PCRs had these values when the nonce was already known.

use crate::attested::{Attested, Body, Clock, GENERATED, Selection};
use crate::pcr::{PcrSelection, QuotedPcrs};
use crate::public::{SHA1, SHA256};
use crate::signature::Signature;
use attest::Findings;
use crypto::{PublicKey, hex};
use facts::Finding;

/// What a verified quote says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quoted {
    pub clock: Clock,
    pub firmware: u64,
    /// Name of the signing key and its ancestors.
    pub qualified_signer: Vec<u8>,
    /// What was quoted.
    pub pcrs: QuotedPcrs,
}

/// Verifies that `quote` is a TPM's statement under `key` about exactly `selection`, fresh by `nonce`,
/// and that `values` are the values it is about.
///
/// The checks, in the order of their codes: `TPM-STRUCTURE`, `TPM-QUOTE-SIGNATURE`, `TPM-QUOTE-MAGIC`,
/// `TPM-QUOTE-TYPE`, `TPM-QUOTE-NONCE`, `TPM-QUOTE-BANK` (SHA-1), `TPM-QUOTE-SELECTION`,
/// `TPM-QUOTE-DIGEST`.
///
/// # Errors
/// A finding for each check that failed; nothing in the quote is to be used then.
pub fn verify(
    quote: &[u8],
    signature: &[u8],
    key: &PublicKey,
    nonce: &[u8],
    selection: &PcrSelection,
    values: &[Vec<u8>],
) -> Result<Quoted, Vec<Finding>> {
    let mut findings = Findings::new();
    let parsed = genuine(quote, signature, key, nonce, &mut findings);
    let Some(parsed) = parsed else {
        return Err(findings.into_vec());
    };
    if let Body::Quote { selections, digest } = &parsed.body {
        selected(selections, selection, &mut findings);
        let expected = selection.digest(values);
        findings.check(
            expected.is_some_and(|expected| digest.as_slice() == expected),
            || {
                Finding::new(
                    "TPM-QUOTE-DIGEST",
                    "the PCR values are not those that were quoted",
                )
                .expected(hex::encode(digest))
                .observed(expected.map_or_else(
                    || "other than one value of 32 bytes for each PCR".to_owned(),
                    |digest| hex::encode(&digest),
                ))
                .next("read the PCRs again and quote them before they change")
            },
        );
    }
    match QuotedPcrs::new(selection, values) {
        Some(pcrs) if findings.is_empty() => Ok(Quoted {
            clock: parsed.clock,
            firmware: parsed.firmware,
            qualified_signer: parsed.qualified_signer,
            pcrs,
        }),
        _ => Err(findings.into_vec()),
    }
}

/// What a TPM said under `key`, fresh by `nonce`, as far as it can be read: whatever is wrong with it is among
/// `findings`, that it is no quote as well.
pub(crate) fn genuine(
    quote: &[u8],
    signature: &[u8],
    key: &PublicKey,
    nonce: &[u8],
    findings: &mut Findings,
) -> Option<Attested> {
    let parsed = findings.take(Attested::parse(quote).map_err(|bad| bad.finding("quote")));
    let signature =
        findings.take(Signature::parse(signature).map_err(|bad| bad.finding("quote's signature")));
    if let Some(signature) = signature {
        findings.check(signature.verifies(key, quote), || {
            Finding::new(
                "TPM-QUOTE-SIGNATURE",
                "the attestation key did not sign this quote",
            )
            .expected("ECDSA with SHA-256 by the attestation key of this join")
            .next("quote with the attestation key that was sent first")
        });
    }
    let parsed = parsed?;
    findings.check(parsed.magic == GENERATED, || {
        Finding::new("TPM-QUOTE-MAGIC", "a TPM did not make this structure")
            .expected(format!("{GENERATED:#010x}"))
            .observed(format!("{:#010x}", parsed.magic))
    });
    findings.check(crypto::constant_time_eq(&parsed.extra_data, nonce), || {
        Finding::new("TPM-QUOTE-NONCE", "the quote answers another challenge")
            .expected(hex::encode(nonce))
            .observed(hex::encode(&parsed.extra_data))
            .next("join again: a challenge is good for one answer")
    });
    let is_quote = matches!(parsed.body, Body::Quote { .. });
    findings.check(is_quote, || {
        Finding::new("TPM-QUOTE-TYPE", "the structure is not a quote")
            .expected("TPM_ST_ATTEST_QUOTE")
            .observed(describe(&parsed.body))
    });
    Some(parsed)
}

/// Exactly the selection that was asked, in the SHA-256 bank and no other: a quote of other PCRs with
/// the same values, or of the SHA-1 bank, is not an answer.
fn selected(quoted: &[Selection], asked: &PcrSelection, findings: &mut Findings) {
    findings.check(quoted.iter().all(|one| one.hash != SHA1), || {
        Finding::new("TPM-QUOTE-BANK", "the quote includes the SHA-1 bank")
            .expected("the SHA-256 bank")
            .observed("SHA-1")
            .next("enable the SHA-256 bank in the firmware's set-up")
    });
    let same = matches!(quoted, [one] if one.hash == SHA256 && one.indices() == asked.indices());
    findings.check(same, || {
        let seen: Vec<String> = quoted
            .iter()
            .map(|one| format!("{:#06x}:{:?}", one.hash, one.indices()))
            .collect();
        Finding::new("TPM-QUOTE-SELECTION", "other PCRs were quoted than asked")
            .expected(format!("{SHA256:#06x}:{:?}", asked.indices()))
            .observed(seen.join(" "))
            .next("enable the SHA-256 bank, and quote exactly the PCRs of the challenge")
    });
}

pub(crate) fn describe(body: &Body) -> String {
    match body {
        Body::Quote { .. } => "TPM_ST_ATTEST_QUOTE".to_owned(),
        Body::Certify { .. } => "TPM_ST_ATTEST_CERTIFY".to_owned(),
        Body::Other(tag) => format!("{tag:#06x}"),
    }
}
