//! Azure's confidential machines: the paravisor's report, which ties the vTPM's attestation key to an
//! SEV-SNP report or a TDX quote.
//!
//! The paravisor (HCL) asks for its hardware report once, at boot, with the hash of its runtime data:
//! the vTPM's keys and how the machine is configured. So this verdict says whose key it is, and is as
//! old as the boot; what is fresh is a quote by that key over the verifier's nonce, which is the TPM's
//! half (`attest-tpm`). The machine gets the report from the vTPM's index 0x01400001.

mod hcl;

pub use hcl::{Hcl, Kind};

use crate::intel::Collateral;
use crate::{WARRANT, snp, tdx};
use attest::{Evidence as Blob, Verdict};
use crypto::{PublicKey, hex};
use facts::{Finding, Source, Timestamp, names};

/// What a machine presents.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// The report of the paravisor.
    pub hcl: &'a [u8],
    pub hardware: Hardware<'a>,
}

/// What the hardware needs beside it.
#[derive(Debug, Clone, Copy)]
pub enum Hardware<'a> {
    /// The report itself is in the paravisor's.
    Snp {
        /// DER: the VCEK certificate.
        key: &'a [u8],
        /// DER: the revocation list of the generation's root.
        crl: Option<&'a [u8]>,
    },
    /// The paravisor's holds what only the same machine can check; the quote is fetched for it.
    Tdx {
        quote: &'a [u8],
        collateral: &'a Collateral,
    },
}

/// What was asked.
#[derive(Debug, Clone, Copy)]
pub struct Expectation {
    /// What the guest wrote to the vTPM's index 0x01400002 before, if it was to.
    pub user_data: Option<[u8; 64]>,
    pub now: Timestamp,
}

/// What the owner accepts of each kind of hardware.
#[derive(Debug, Clone, Default)]
pub struct References {
    pub snp: snp::References,
    pub tdx: tdx::References,
}

/// The verdict, and the vTPM's attestation key if it is affirmed.
#[derive(Debug, Clone)]
pub struct Judgement {
    pub verdict: Verdict,
    pub ak: Option<PublicKey>,
}

/// Judges a paravisor's report with its hardware's. The codes of its findings are listed in
/// `docs/attestation/azure.md`, beside those of the hardware.
#[must_use]
pub fn verify(
    evidence: &Evidence<'_>,
    expected: &Expectation,
    references: &References,
) -> Judgement {
    let digest = Blob::new("hcl-report", evidence.hcl).digest();
    let refused = |finding: Finding| Judgement {
        verdict: Verdict::refused(vec![finding], vec![digest.clone()]),
        ak: None,
    };
    let hcl = match Hcl::parse(evidence.hcl) {
        Ok(hcl) => hcl,
        Err(finding) => return refused(finding),
    };
    let report_data = hcl.report_data();
    let now = expected.now;
    let verdict = match (hcl.kind, &evidence.hardware) {
        (Kind::Snp, Hardware::Snp { key, crl }) => snp::verify(
            &snp::Evidence {
                report: hcl.report,
                key,
                crl: *crl,
            },
            &snp::Expectation { report_data, now },
            &references.snp,
        ),
        (Kind::Tdx, Hardware::Tdx { quote, collateral }) => tdx::verify(
            &tdx::Evidence {
                quote,
                event_log: None,
            },
            collateral,
            &tdx::Expectation { report_data, now },
            &references.tdx,
        ),
        (kind, _) => return refused(other_hardware(kind)),
    };
    let mut said = verdict.into_stated();
    said.evidence.insert(0, digest);
    if let Some(expected) = expected.user_data
        && hcl.user_data != Some(expected)
    {
        let observed = hcl.user_data.map(|data| hex::encode(&data));
        said.findings.push(
            Finding::new(
                "TEE-AZURE-USER-DATA",
                "the paravisor's report carries other data than was asked for",
            )
            .expected(hex::encode(&expected))
            .observed(observed.unwrap_or_else(|| "none".to_owned()))
            .next("write the data of this challenge before reading the report"),
        );
    }
    if !said.findings.is_empty() {
        return Judgement {
            verdict: Verdict::refused(said.findings, said.evidence),
            ak: None,
        };
    }
    let ak = hex::encode(&hcl.ak.spki_sha256());
    // What was launched is a paravisor, and no guest of the owner's: never taken for the hardware's own kind.
    for (name, value) in [
        (names::MACHINE_TEE_KIND, hcl.kind.fact()),
        (names::MACHINE_TEE_AK, ak.as_str()),
    ] {
        said.facts.state(name, value, Source::Hardware, now);
    }
    if let Some(id) = &hcl.vm_id {
        for (name, value) in [
            (names::MACHINE_CLOUD_PROVIDER, "azure"),
            (names::MACHINE_CLOUD_INSTANCE_ID, id.as_str()),
        ] {
            said.facts.state(name, value, Source::Verified, now);
        }
    }
    Judgement {
        verdict: Verdict::affirmed(&WARRANT, said.facts, said.evidence),
        ak: Some(hcl.ak),
    }
}

pub(crate) fn other_hardware(kind: Kind) -> Finding {
    Finding::new(
        "TEE-AZURE-KIND",
        "the paravisor's report is of other hardware than was presented",
    )
    .expected(kind.name())
    .next("send what belongs to the machine's hardware")
}
