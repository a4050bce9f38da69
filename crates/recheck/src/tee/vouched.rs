//! Hardware that vouches for the attestation key of a TPM, before the TPM is asked whether it has it.
//!
//! A paravisor makes the TPM of its machine inside the hardware, and the hardware signs whose key it made: a
//! machine without an endorsement key that the estate trusts joins by that. Nothing here is fresh, or says that
//! whoever sent it has the key.

use super::{
    Endorses, Offered, Refused, affirmed, azure_snp, azure_tdx, references, root, source, stated,
};
use attest_tee::endorsed::Endorsed;
use attest_tpm::ak::Vouched;
use estate::{Estate, TeeTerms};
use facts::Timestamp;

/// What hardware says of a machine and of its attestation key.
pub struct Vouching {
    pub key: Vouched,
    pub endorsed: Endorsed,
}

/// Whose key the hardware that `offered` is of vouches for, as the estate asks it of machines of `ring`. `None`
/// where it vouches for none, or nothing is asked.
///
/// # Errors
/// What the verifiers find.
pub fn vouched(
    offered: Option<&Offered>,
    estate: &Estate,
    ring: &str,
    endorses: &impl Endorses,
    now: Timestamp,
) -> Result<Option<Vouching>, Refused> {
    let asked = estate.references();
    let Some((offered, kind)) = offered.and_then(|one| Some((one, one.kind?))) else {
        return Ok(None);
    };
    let reference = asked.tees_of(ring).find(|one| one.kind() == kind);
    let Some(reference) = reference else {
        return Ok(None);
    };
    let bundle = |root| endorses.bundle(offered, reference, root, now);
    let (judged, key) = match &reference.terms {
        TeeTerms::AzureSnp(terms) => {
            let root = root(reference, estate)?;
            let references = references::snp(terms, root)?;
            azure_snp(offered, &*bundle(root)?, now, &references)
        }
        TeeTerms::AzureTdx(terms) => {
            let root = root(reference, estate)?;
            let references = references::tdx(terms, root)?;
            azure_tdx(offered, &*bundle(root)?, now, &references)
        }
        TeeTerms::SevSnp(_)
        | TeeTerms::Tdx(_)
        | TeeTerms::NitroTpm(_)
        | TeeTerms::Nitro(_)
        | TeeTerms::Sgx(_) => return Ok(None),
    };
    let judged = affirmed(judged, endorses.problem())?;
    Ok(key.map(|key| Vouching {
        endorsed: stated(judged, reference, &key, now),
        key: Vouched {
            key,
            source: source(reference),
        },
    }))
}
