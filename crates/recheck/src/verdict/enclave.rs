//! An enclave's verdict, made again: what its hardware signed, for the question that it was asked over the connection
//! that it was asked on, by the images that the estate lists.
//!
//! Which key its SVID is for stands in what the hardware signed; the key's own signature was seen by the server alone.

use super::Made;
use crate::outcome::{Outcome, differs, lacks};
use crate::pack::Pack;
use crate::tee::enclave::{JOIN_KEY, Joining, Question, called, joined, judge, read_key};
use appraise::Blobs;
use attest::transcript::EnclaveJoin;
use attest_tee::Bundle;
use attest_tpm::Challenged;
use estate::{Estate, TeeKind};
use facts::{Finding, Timestamp};

/// By what an enclave of a kind is known, and what it was endorsed by where it brings nothing.
const SHOWN: [(TeeKind, &str, &str); 2] = [
    (TeeKind::Nitro, "nitro-document", ""),
    (TeeKind::Sgx, "sgx-quote", "sgx-collateral"),
];

/// The evidence of a verdict, and what the enclave was asked.
pub(super) struct Kept<'a> {
    pack: &'a Pack<'a>,
    kind: TeeKind,
    report: Vec<u8>,
    endorsements: Bundle,
    asked: Challenged,
    joining: Joining,
}

/// The kind of enclave whose evidence this is, if it is any's.
pub(super) fn kind(blobs: &Blobs) -> Option<TeeKind> {
    let mut shown = SHOWN.into_iter();
    // The document of a NitroTPM stands beside the quote of that TPM.
    let (kind, ..) = shown.find(|(_, report, _)| !blobs.get(report).is_empty())?;
    (!blobs.has_quote()).then_some(kind)
}

impl<'a> Kept<'a> {
    pub(super) fn of(
        pack: &'a Pack<'a>,
        kind: TeeKind,
        blobs: &Blobs,
        asked: Challenged,
    ) -> Result<Self, Outcome> {
        let shown = SHOWN.into_iter().find(|(of, ..)| *of == kind);
        let (_, report, endorsing) = shown.unwrap_or((kind, "", ""));
        let endorsements = match blobs.get(endorsing) {
            [] => Ok(Bundle::default()),
            kept => Bundle::parse(kept),
        };
        let endorsements = match endorsements {
            Ok(endorsements) => endorsements,
            Err(finding) => return differs(format!("its endorsements cannot be read: {finding}")),
        };
        let joining = match blobs.get(JOIN_KEY) {
            [] => return lacks("the key that the enclave joined with was not kept"),
            kept => read_key(kept),
        };
        let Some(joining) = joining else {
            return differs("the key that the enclave joined with cannot be read");
        };
        Ok(Self {
            pack,
            kind,
            report: blobs.get(report).to_vec(),
            endorsements,
            asked,
            joining,
        })
    }

    /// As the server judges a join.
    pub(super) fn made(&self, estate: &Estate, now: Timestamp) -> Result<Made, Vec<Finding>> {
        let nonce = self.asked.nonce();
        let report_data = EnclaveJoin {
            trust_domain: &self.pack.trust.trust_domain,
            server_key: &self.asked.server_key,
            exporter: &self.asked.exporter,
            nonce: &nonce,
            instance: &self.joining.instance,
            spki: &self.joining.spki,
        }
        .report_data();
        let question = Question {
            report_data,
            nonce,
            key: self.joining.spki.clone(),
            now,
        };
        let endorsed_by = (&self.endorsements, None);
        let placed = judge(self.kind, &self.report, &question, estate, endorsed_by)
            .map_err(|refused| refused.findings)?;
        let name = called(self.kind, &placed, &self.joining.instance);
        let mut facts = placed.endorsed.verdict.into_stated().facts;
        for fact in joined(&name, &placed.pool, now).iter() {
            facts.insert(fact.clone());
        }
        Ok(Made { name, facts })
    }
}
