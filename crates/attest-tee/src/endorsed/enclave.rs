//! Evidence of an enclave that speaks for itself, without a TPM beside it: of AWS Nitro, and of SGX.

use super::{Endorsed, endorsing};
use crate::{Bundle, nitro, sgx as enclave};
use attest::Evidence as Blob;
use facts::Finding;

/// Judges the document of a Nitro enclave, which brings all that endorses it. One of a NitroTPM speaks for whoever
/// runs in the instance, and not for an enclave.
///
/// # Errors
/// None: a refusal is a verdict. `TEE-NITRO-KIND` for the document of a NitroTPM.
#[must_use]
pub fn nitro_enclave(
    document: &[u8],
    expected: &nitro::Expectation,
    references: &nitro::References,
) -> Endorsed {
    let blobs = vec![Blob::new("nitro-document", document.to_vec())];
    let kind = nitro::Document::parse(document).map(|document| document.kind);
    if matches!(kind, Ok(nitro::Kind::Tpm)) {
        let finding = Finding::new(
            "TEE-NITRO-KIND",
            "the document is of an instance's NitroTPM",
        )
        .expected("a document of an enclave")
        .next("send what the enclave's /dev/nsm returns; an instance joins by its TPM");
        return Endorsed::refused(vec![finding], blobs);
    }
    Endorsed {
        verdict: nitro::verify(document, expected, references),
        blobs,
    }
}

/// Judges the quote of an enclave of SGX by the collateral in `bundle`.
///
/// # Errors
/// None: a refusal is a verdict. `TEE-ENDORSEMENT-MISSING` where the bundle has no collateral of the platform.
#[must_use]
pub fn sgx(
    quote: &[u8],
    bundle: &Bundle,
    expected: &enclave::Expectation,
    references: &enclave::References,
) -> Endorsed {
    let mut blobs = vec![Blob::new("sgx-quote", quote.to_vec())];
    let (roots, now) = (&references.roots, expected.now);
    let collateral = match endorsing((false, quote), bundle, roots, now, &mut blobs) {
        Ok(collateral) => collateral,
        Err(findings) => return Endorsed::refused(findings, blobs),
    };
    let verdict = enclave::verify(quote, &collateral, expected, references);
    let verdict = verdict.resting_on(blobs.iter().map(Blob::digest).collect());
    Endorsed { verdict, blobs }
}
