//! This machine's TPM, for whoever writes the references.

use crate::Failure;
use crate::arguments::{Global, TpmCommand};
use crate::commands::administer;
use anyhow::Context as _;
use attest_tpm::EndorsementKey;
use device::tpm::Tpm;
use serde_json::json;

pub(crate) fn run(command: TpmCommand, global: &Global) -> Result<(), Failure> {
    let TpmCommand::Show { tpm: address } = command;
    let mut tpm = Tpm::open(&address).with_context(|| format!("cannot open {address}"))?;
    let endorsement = tpm
        .endorsement()
        .context("cannot read the endorsement key")?;
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
