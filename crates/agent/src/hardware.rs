//! What the confidential hardware says that this machine runs in, bound to the TPM's attestation key.

use crate::config::TeeConfig;
use attest::transcript::tee_report_data;
use attest_tpm::SigningKey;
use device::tsm;
use facts::Finding;
use proto::v1;
use std::path::{Path, PathBuf};

/// Where the kernel reports, and whether the machine has to have it.
#[derive(Debug, Clone)]
pub(crate) struct Hardware {
    reports: PathBuf,
    event_log: Option<PathBuf>,
    /// The configuration names it.
    named: bool,
}

impl Hardware {
    /// What is named; else the kernel's own, for a chip that is of this machine.
    pub(crate) fn of(tpm: &str, named: Option<&TeeConfig>) -> Option<Self> {
        if let Some(named) = named {
            return Some(Self {
                reports: named.reports.clone(),
                event_log: named.event_log.clone(),
                named: true,
            });
        }
        let usual = Path::new(tsm::REPORTS);
        (tpm.starts_with("device:") && usual.is_dir()).then(|| Self {
            reports: usual.to_owned(),
            event_log: Some(tsm::EVENT_LOG.into()),
            named: false,
        })
    }

    /// The evidence for a challenge's `nonce`, of a machine with this `TPMT_PUBLIC` of an attestation key. Without
    /// a report of hardware that is understood there is none; the server says whether it takes the machine then.
    /// Blocks.
    ///
    /// # Errors
    /// `AGENT-TEE`, if the configuration names it.
    pub(crate) fn report(
        &self,
        ak_public: &[u8],
        nonce: &[u8; 32],
    ) -> Result<Option<v1::TeeEvidence>, Finding> {
        match self.ask(ak_public, nonce) {
            Ok(evidence) => Ok(Some(evidence)),
            Err(why) if self.named => Err(Finding::new(
                "AGENT-TEE",
                "the hardware that this machine runs in says nothing",
            )
            .expected(format!(
                "a report through {}, as join.tee of agent.toml says",
                self.reports.display()
            ))
            .observed(why)
            .next(
                "mount configfs, load sev-guest or tdx-guest, and let the agent write to that folder; \
                 or take join.tee out of agent.toml",
            )),
            Err(why) => {
                tracing::warn!(%why, "no report of confidential hardware is sent");
                Ok(None)
            }
        }
    }

    fn ask(&self, ak_public: &[u8], nonce: &[u8; 32]) -> Result<v1::TeeEvidence, String> {
        let ak = SigningKey::attestation(ak_public).map_err(|finding| finding.to_string())?;
        let data = tee_report_data(ak.key.spki_der(), nonce);
        let report = tsm::report(&self.reports, &data);
        let report = report.map_err(|error| facts::with_causes(&error))?;
        let kind = report
            .kind()
            .ok_or_else(|| format!("a report by {:?}, which is not understood", report.provider))?;
        let event_log = self.event_log.as_deref().filter(|_| kind == "tdx");
        Ok(v1::TeeEvidence {
            kind: kind.to_owned(),
            report: report.report,
            auxiliary: report.auxiliary,
            event_log: event_log.map(events).unwrap_or_default(),
        })
    }
}

/// Firmware need not keep one.
fn events(path: &Path) -> Vec<u8> {
    tsm::event_log(path).unwrap_or_else(|error| {
        tracing::warn!(error = %facts::with_causes(&error), "the hardware's event log is not sent");
        Vec::new()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_reports_are_of_no_use_for_an_emulated_chip() {
        assert!(Hardware::of("swtpm:/x", None).is_none());
    }

    #[test]
    fn hardware_that_is_named_and_says_nothing_ends_the_join() {
        let folder = tempfile::tempdir().unwrap();
        let named = TeeConfig {
            reports: folder.path().join("report"),
            event_log: None,
        };
        let hardware = Hardware::of("swtpm:/x", Some(&named)).unwrap();
        let refused = hardware.report(&[], &[0; 32]).unwrap_err();
        assert_eq!(refused.code, "AGENT-TEE");
        let usual = Hardware {
            named: false,
            ..hardware
        };
        assert_eq!(usual.report(&[], &[0; 32]).unwrap(), None);
    }
}
