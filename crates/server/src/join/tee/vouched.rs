//! Hardware that vouches for the attestation key of a TPM, before the TPM is asked whether it has it.
//!
//! A paravisor makes the TPM of its machine inside the hardware, and the hardware signs whose key it made: a
//! machine without an endorsement key that the estate trusts joins by that. Nothing here is fresh, or says that
//! whoever sent it has the key.

use super::{Offered, Refused, affirmed, azure_snp, azure_tdx, references, root, source, stated};
use crate::endorsements::Endorsements;
use attest_tee::endorsed::Endorsed;
use attest_tpm::ak::Vouched;
use estate::{Estate, TeeTerms};
use facts::Timestamp;

/// What hardware says of a machine and of its attestation key.
pub(crate) struct Vouching {
    pub(crate) key: Vouched,
    pub(crate) endorsed: Endorsed,
}

/// Whose key the hardware that `offered` is of vouches for, as the estate asks it of machines of `ring`. `None`
/// where it vouches for none, or nothing is asked. For threads of the pool.
///
/// # Errors
/// What the verifiers find.
pub(crate) fn vouched(
    offered: Option<&Offered>,
    estate: &Estate,
    ring: &str,
    endorsements: &Endorsements,
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
    let (at_hand, root) = (endorsements.now(), root(reference, estate)?);
    let (judged, key) = match &reference.terms {
        TeeTerms::AzureSnp(terms) => {
            let references = references::snp(terms, root)?;
            azure_snp(offered, &at_hand.bundle, now, &references)
        }
        TeeTerms::AzureTdx(terms) => {
            let references = references::tdx(terms, root)?;
            azure_tdx(offered, &at_hand.bundle, now, &references)
        }
        TeeTerms::SevSnp(_)
        | TeeTerms::Tdx(_)
        | TeeTerms::NitroTpm(_)
        | TeeTerms::Nitro(_)
        | TeeTerms::Sgx(_) => return Ok(None),
    };
    let judged = affirmed(judged, at_hand.problem)?;
    Ok(key.map(|key| Vouching {
        endorsed: stated(judged, reference, &key, now),
        key: Vouched {
            key,
            source: source(reference),
        },
    }))
}
