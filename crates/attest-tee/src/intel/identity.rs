//! The identity of Intel's quoting enclaves (PCS API, version 4, `EnclaveIdentityV2`).

use super::equal_under;
use super::report::EnclaveReport;
use super::tcb::{JsonLevel, JsonSvn, Level, Tee, octets, read_svn_levels};
use crate::time;
use facts::Timestamp;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Json {
    id: String,
    version: u32,
    issue_date: String,
    next_update: String,
    tcb_evaluation_data_number: u32,
    miscselect: String,
    miscselect_mask: String,
    attributes: String,
    attributes_mask: String,
    mrsigner: String,
    isvprodid: u16,
    tcb_levels: Vec<JsonLevel<JsonSvn>>,
}

/// An identity that can be read.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub(super) tee: Tee,
    pub(super) issued: Timestamp,
    pub(super) next_update: Timestamp,
    pub(super) evaluation: u32,
    misc_select: [u8; 4],
    misc_select_mask: [u8; 4],
    attributes: [u8; 16],
    attributes_mask: [u8; 16],
    mr_signer: [u8; 32],
    product_id: u16,
    /// By ISVSVN, best first.
    levels: Vec<(u16, Level)>,
}

impl Identity {
    /// Reads the JSON that Intel signed.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let json: Json = serde_json::from_str(text).map_err(|_| "an identity of another shape")?;
        let tee = match (json.id.as_str(), json.version) {
            ("QE", 2) => Tee::Sgx,
            ("TD_QE", 2 | 3) => Tee::Tdx,
            _ => return Err("not the identity of a quoting enclave, version 2"),
        };
        let read = || {
            Some(Self {
                tee,
                issued: time::parse(&json.issue_date)?,
                next_update: time::parse(&json.next_update)?,
                evaluation: json.tcb_evaluation_data_number,
                misc_select: octets(&json.miscselect)?,
                misc_select_mask: octets(&json.miscselect_mask)?,
                attributes: octets(&json.attributes)?,
                attributes_mask: octets(&json.attributes_mask)?,
                mr_signer: octets(&json.mrsigner)?,
                product_id: json.isvprodid,
                levels: read_svn_levels(json.tcb_levels)?,
            })
        };
        read().ok_or("an identity that cannot be read")
    }

    /// The level of the quoting enclave that made `report`.
    ///
    /// # Errors
    /// In what it is not one of Intel's, in words.
    pub(super) fn level(&self, report: &EnclaveReport) -> Result<&Level, String> {
        if report.mr_signer != self.mr_signer {
            return Err("another signer".to_owned());
        }
        if report.product_id != self.product_id {
            return Err(format!("product {}", report.product_id));
        }
        // Intel writes the mask as a number, reports hold it in memory order; the identity spells both
        // in memory order.
        if !equal_under(
            &report.misc_select,
            &self.misc_select,
            &self.misc_select_mask,
        ) {
            return Err("another MISCSELECT".to_owned());
        }
        if report.is_debug()
            || !equal_under(&report.attributes, &self.attributes, &self.attributes_mask)
        {
            return Err(format!(
                "attributes {}",
                crypto::hex::encode(&report.attributes)
            ));
        }
        self.levels
            .iter()
            .find(|(least, _)| report.svn >= *least)
            .map(|(_, level)| level)
            .ok_or_else(|| format!("SVN {} is below every level that Intel lists", report.svn))
    }
}
