//! A quote and the very values that it is about: for a join, and for whoever has joined and is asked again.

use super::{Error, Object, Tpm};
use attest_tpm::join::Boot;
use attest_tpm::{Attested, Body, PcrSelection};

/// How often PCRs are read and quoted again because they changed in between.
const ATTEMPTS: u32 = 5;

/// What the chip signed, as it signed it.
#[derive(Debug, Clone)]
pub struct Quote {
    /// `TPMS_ATTEST`
    pub attested: Vec<u8>,
    /// `TPMT_SIGNATURE`
    pub signature: Vec<u8>,
    /// Of the SHA-256 bank, ascending.
    pub values: Vec<Vec<u8>>,
    /// The boot that it was made in.
    pub boot: Boot,
}

/// Quotes `pcrs` for `nonce` by the attestation key that this machine joined with.
///
/// # Errors
/// [`Error::Challenge`] for a selection that an honest server does not send, [`Error::PcrsChanged`] if
/// they do not hold still, else of the chip or the connection.
pub fn quote(mut tpm: Tpm, nonce: &[u8; 32], pcrs: &[u32]) -> Result<Quote, Error> {
    let pcrs = PcrSelection::new(pcrs)
        .map_err(|_| Error::Challenge("it selects no PCRs, or some that do not exist"))?;
    let key = tpm.attestation_key()?;
    quoted(&mut tpm, &key, nonce, &pcrs)
}

pub(super) fn quoted(
    tpm: &mut Tpm,
    key: &Object,
    nonce: &[u8; 32],
    pcrs: &PcrSelection,
) -> Result<Quote, Error> {
    for _ in 0..ATTEMPTS {
        let values = tpm.read_pcrs(pcrs)?;
        let signed = tpm.quote(key, nonce, pcrs)?;
        let unreadable = |_| Error::Response {
            command: tpm2_protocol::data::TpmCc::Quote,
            problem: "not a TPMS_ATTEST",
        };
        let attested = Attested::parse(&signed.attested).map_err(unreadable)?;
        if let Body::Quote { digest, .. } = &attested.body
            && pcrs.digest(&values).is_some_and(|ours| ours == **digest)
        {
            return Ok(Quote {
                attested: signed.attested,
                signature: signed.signature,
                values,
                boot: Boot::from(attested.clock),
            });
        }
    }
    Err(Error::PcrsChanged)
}
