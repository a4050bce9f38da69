//! This machine's TPM, for whoever writes the references.

use crate::Failure;
use crate::arguments::{Global, TpmCommand};
use crate::commands::administer;
use attest_tpm::EndorsementKey;
use device::tpm::join::Join;
use device::tpm::{self, Tpm};
use facts::Finding;
use serde_json::json;

pub(crate) fn run(command: TpmCommand, global: &Global) -> Result<(), Failure> {
    let TpmCommand::Show { tpm: address } = command;
    let join = Tpm::open(&address)
        .and_then(Join::begin)
        .map_err(|error| unusable(&address, &error))?;
    let request = join.request();
    let shown = if request.ek_public.is_empty() {
        json!({
            "tpm": address,
            "ak_sha256": crypto::hex::encode(&crypto::sha256(&request.ak_public)),
            "ak_certificate": !request.ak_certificate.is_empty(),
        })
    } else {
        let key = EndorsementKey::parse(&request.ek_public)?;
        json!({
            "tpm": address,
            "ek_sha256": crypto::hex::encode(key.sha256()),
            "ek_certificate": !request.ek_certificate.is_empty(),
        })
    };
    administer::print(&shown, global);
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
