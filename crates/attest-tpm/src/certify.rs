//! Verifies a certification: a key with this name is loaded in the TPM that the attestation key
//! lives in.

use crate::attested::{Attested, Body, GENERATED};
use crate::counted::Counted;
use crate::public::Name;
use crate::quote::describe;
use crate::signature::Signature;
use attest::Findings;
use crypto::{PublicKey, hex};
use facts::Finding;

/// Verifies that `certify` is a TPM's statement under `key` that it holds the object `name`, made for
/// `qualifying` data. The name commits to the object's attributes.
///
/// Codes: `TPM-STRUCTURE`, `TPM-CERTIFY-SIGNATURE`, `TPM-CERTIFY-MAGIC`, `TPM-CERTIFY-TRANSCRIPT`,
/// `TPM-CERTIFY-NAME`, `TPM-CERTIFY-TYPE`.
///
/// # Errors
/// A finding for each check that failed.
pub fn verify(
    certify: &[u8],
    signature: &[u8],
    key: &PublicKey,
    name: &Name,
    qualifying: &[u8],
) -> Result<Counted, Vec<Finding>> {
    let mut findings = Findings::new();
    let parsed =
        findings.take(Attested::parse(certify).map_err(|bad| bad.finding("certification")));
    let signature = findings
        .take(Signature::parse(signature).map_err(|bad| bad.finding("certification's signature")));
    if let Some(signature) = signature {
        findings.check(signature.verifies(key, certify), || {
            Finding::new(
                "TPM-CERTIFY-SIGNATURE",
                "the attestation key did not sign this certification",
            )
            .expected("ECDSA with SHA-256 by the attestation key of this join")
            .next("certify with the attestation key that was sent first")
        });
    }
    let Some(parsed) = parsed else {
        return Err(findings.into_vec());
    };
    findings.check(parsed.magic == GENERATED, || {
        Finding::new("TPM-CERTIFY-MAGIC", "a TPM did not make this structure")
            .expected(format!("{GENERATED:#010x}"))
            .observed(format!("{:#010x}", parsed.magic))
    });
    findings.check(
        crypto::constant_time_eq(&parsed.extra_data, qualifying),
        || {
            Finding::new(
                "TPM-CERTIFY-TRANSCRIPT",
                "the key was certified for another join: another connection, server, quote or key",
            )
            .expected(hex::encode(qualifying))
            .observed(hex::encode(&parsed.extra_data))
            .next("join again over a direct connection; something may sit between agent and server")
        },
    );
    match &parsed.body {
        Body::Certify {
            name: certified, ..
        } => findings.check(certified == name.as_bytes(), || {
            Finding::new("TPM-CERTIFY-NAME", "another key was certified")
                .expected(name.to_string())
                .observed(hex::encode(certified))
                .next("certify the identity key that was sent first")
        }),
        other => findings.push(
            Finding::new("TPM-CERTIFY-TYPE", "the structure does not certify a key")
                .expected("TPM_ST_ATTEST_CERTIFY")
                .observed(describe(other)),
        ),
    }
    if findings.is_empty() {
        Ok(Counted::from(&parsed))
    } else {
        Err(findings.into_vec())
    }
}
