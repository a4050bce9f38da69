//! This machine's TPM, for whoever writes the references.

use crate::Failure;
use crate::arguments::{Global, TpmCommand};
use crate::commands::administer;
use attest_tpm::EndorsementKey;
use device::tpm::{self, Tpm};
use facts::Finding;
use serde_json::json;

pub(crate) fn run(command: TpmCommand, global: &Global) -> Result<(), Failure> {
    let TpmCommand::Show { tpm: address } = command;
    let mut tpm = Tpm::open(&address).map_err(|error| unusable(&address, &error))?;
    let endorsement = tpm
        .endorsement()
        .map_err(|error| unusable(&address, &error))?;
    let key = EndorsementKey::parse(&endorsement.public)?;
    administer::print(
        &json!({
            "tpm": address,
            "ek_sha256": crypto::hex::encode(key.sha256()),
            "ek_certificate": !endorsement.certificate.is_empty(),
        }),
        global,
    );
    Ok(())
}

/// With the words of the deepest cause alone: those above it say again which TPM it was.
fn unusable(address: &str, error: &tpm::Error) -> Finding {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    Finding::new(
        "TPM-UNUSABLE",
        format!("cannot use the TPM at {address}: {cause}"),
    )
    .next("name a TPM with --tpm, as a user who may open it: often of the group `tss`")
}
