//! What a verdict kept of the hardware that a machine runs in, as it was shown, and the endorsements that it was
//! judged by.

use super::{Endorses, Offered, bound};
use appraise::Blobs;
use attest_tee::Bundle;
use estate::{TeeKind, TeeReference, TeeRoot};
use facts::{Finding, Timestamp};
use std::sync::Arc;

/// Evidence and endorsements, from the blobs of a verdict.
#[derive(Debug)]
pub struct Kept {
    pub offered: Option<Offered>,
    bundle: Arc<Bundle>,
}

impl Kept {
    /// # Errors
    /// `TEE-BUNDLE-STRUCTURE` where what was kept as an endorsement is none.
    pub fn read(blobs: &Blobs) -> Result<Self, Finding> {
        let bundle = match blobs.get("tdx-collateral") {
            [] => Bundle::kept(
                blobs.get("snp-key"),
                blobs.get("snp-crl"),
                blobs.get("snp-chain"),
            )?,
            collateral => Bundle::parse(collateral)?,
        };
        Ok(Self {
            offered: offered(blobs),
            bundle: Arc::new(bundle),
        })
    }
}

fn offered(blobs: &Blobs) -> Option<Offered> {
    if let Some(paravisor) = Offered::kept(blobs.get("hcl-report"), blobs.get("tdx-quote")) {
        return Some(paravisor);
    }
    // Of a report on SEV-SNP the certificate that was used stands among the endorsements.
    let shown = [
        (TeeKind::SevSnp, "snp-report", ""),
        (TeeKind::Tdx, "tdx-quote", ""),
        (TeeKind::NitroTpm, "nitro-document", bound::QUOTE),
    ];
    let (kind, report, auxiliary) = shown
        .into_iter()
        .find(|(_, report, _)| !blobs.get(report).is_empty())?;
    Some(Offered {
        kind: Some(kind),
        report: blobs.get(report).to_vec(),
        auxiliary: blobs.get(auxiliary).to_vec(),
        event_log: blobs.get("ccel").to_vec(),
    })
}

impl Endorses for Kept {
    fn bundle(
        &self,
        _offered: &Offered,
        _reference: &TeeReference,
        _root: Option<&TeeRoot>,
        _now: Timestamp,
    ) -> Result<Arc<Bundle>, Finding> {
        Ok(Arc::clone(&self.bundle))
    }

    fn problem(&self) -> Option<Finding> {
        None
    }
}
