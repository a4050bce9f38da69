//! What the confidential hardware says that this machine runs in, bound to the TPM's attestation key.
//!
//! The kernel is asked anew for each challenge; a paravisor was asked at boot, and says whose the key is.

use crate::config::{Paravisor, TeeConfig};
use attest::transcript::tee_report_data;
use attest_tpm::SigningKey;
use device::tpm::join::Join;
use device::tpm::{self, Tpm};
use device::{azure, nitro, tsm};
use facts::Finding;
use proto::v1;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Who reports on it.
#[derive(Debug, Clone)]
pub(crate) enum Hardware {
    Kernel(Reports),
    /// Whoever gave the machine its TPM, by the chip itself.
    Paravisor {
        /// Who makes a quote of it, on TDX.
        quotes: SocketAddr,
    },
    /// AWS's hypervisor, by this program.
    NitroTpm(PathBuf),
}

/// Where the kernel reports, and whether the machine has to have it.
#[derive(Debug, Clone)]
pub(crate) struct Reports {
    reports: PathBuf,
    event_log: Option<PathBuf>,
    /// The configuration names it.
    named: bool,
}

impl Hardware {
    /// What is named; else the kernel's own, for a chip that is of this machine.
    pub(crate) fn of(tpm: &str, named: Option<&TeeConfig>) -> Option<Self> {
        match named {
            Some(TeeConfig::Kernel { reports, event_log }) => Some(Self::Kernel(Reports {
                reports: reports.clone(),
                event_log: event_log.clone(),
                named: true,
            })),
            Some(TeeConfig::Paravisor {
                of: Paravisor::Azure,
                quotes,
            }) => Some(Self::Paravisor { quotes: *quotes }),
            Some(TeeConfig::NitroTpm(program)) => Some(Self::NitroTpm(program.clone())),
            None => Reports::usual(tpm).map(Self::Kernel),
        }
    }

    /// The evidence for a challenge's `nonce`, from the machine whose chip is about to answer it. Without a report
    /// of hardware that is understood there is none; the server says whether it takes the machine then. Blocks.
    ///
    /// # Errors
    /// `AGENT-TEE`, if the configuration names it.
    pub(crate) fn report(
        &self,
        join: &mut Join,
        nonce: &[u8; 32],
    ) -> Result<Option<v1::TeeEvidence>, Finding> {
        match self {
            Self::Kernel(reports) => reports.report(&join.request().ak_public, nonce),
            Self::Paravisor { quotes } => match join.paravisor_report() {
                Ok(report) => paravisor(report, *quotes).map(Some),
                Err(error) => Err(silent(&facts::with_causes(&error))
                    .expected(
                        "a report of Azure's paravisor in the TPM, as join.tee of agent.toml says",
                    )
                    .next("take join.tee out of agent.toml, if no paravisor made this TPM")),
            },
            Self::NitroTpm(program) => {
                match nitro_document(program, &join.request().ak_public, nonce) {
                    Ok(document) => Ok(Some(v1::TeeEvidence {
                        auxiliary: strong_quote(join, nonce),
                        ..evidence("nitro-tpm", document)
                    })),
                    Err(why) => Err(silent(&why)
                        .expected("a document by nitro-tpm-attest, as join.tee of agent.toml says")
                        .next(
                            "install AWS's NitroTPM-Tools, let the agent use /dev/tpm0, and name the program; \
                             or take join.tee out of agent.toml",
                        )),
                }
            }
        }
    }
}

/// The TPM at `address`, known by the key that its machine joins with.
///
/// # Errors
/// As [`Tpm::open`].
pub(crate) fn open(address: &str, tee: Option<&TeeConfig>) -> Result<Tpm, tpm::Error> {
    let tpm = Tpm::open(address)?;
    Ok(match tee {
        Some(TeeConfig::Paravisor { .. }) => tpm.by_paravisor(),
        Some(TeeConfig::Kernel { .. } | TeeConfig::NitroTpm(_)) | None => tpm,
    })
}

/// What a paravisor says; on TDX with a quote of it, for which the host's service is asked.
fn paravisor(report: Vec<u8>, quotes: SocketAddr) -> Result<v1::TeeEvidence, Finding> {
    let Some(asked) = azure::td_report(&report) else {
        return Ok(evidence("azure-snp", report));
    };
    let quote = azure::quote(quotes, asked).map_err(|error| {
        silent(&facts::with_causes(&error))
            .expected(format!(
                "a quote of TDX from http://{quotes}, for what the paravisor reports"
            ))
            .next("let the agent reach the host's metadata service, or name another as join.tee.quotes")
    })?;
    Ok(v1::TeeEvidence {
        auxiliary: quote,
        ..evidence("azure-tdx", report)
    })
}

/// The registers of SHA-384 by the chip's own word, which are compared with the document's. Without, the server says
/// how far the two are bound.
fn strong_quote(join: &mut Join, nonce: &[u8; 32]) -> Vec<u8> {
    let quote = join.strong_quote(nonce).unwrap_or_else(|error| {
        tracing::warn!(error = %facts::with_causes(&error), "no quote of SHA-384 is sent");
        None
    });
    quote.unwrap_or_default()
}

fn nitro_document(program: &Path, ak_public: &[u8], nonce: &[u8; 32]) -> Result<Vec<u8>, String> {
    let document = nitro::document(program, &report_data(ak_public, nonce)?);
    document.map_err(|error| facts::with_causes(&error))
}

/// What the hardware has to sign for a challenge's `nonce`.
fn report_data(ak_public: &[u8], nonce: &[u8; 32]) -> Result<[u8; 64], String> {
    let ak = SigningKey::attestation(ak_public).map_err(|finding| finding.to_string())?;
    Ok(tee_report_data(ak.key.spki_der(), nonce))
}

fn evidence(kind: &str, report: Vec<u8>) -> v1::TeeEvidence {
    v1::TeeEvidence {
        kind: kind.to_owned(),
        report,
        ..v1::TeeEvidence::default()
    }
}

fn silent(why: &str) -> Finding {
    Finding::new(
        "AGENT-TEE",
        "the hardware that this machine runs in says nothing",
    )
    .observed(why)
}

impl Reports {
    fn usual(tpm: &str) -> Option<Self> {
        let usual = Path::new(tsm::REPORTS);
        (tpm.starts_with("device:") && usual.is_dir()).then(|| Self {
            reports: usual.to_owned(),
            event_log: Some(tsm::EVENT_LOG.into()),
            named: false,
        })
    }

    /// Of a machine with this `TPMT_PUBLIC` of an attestation key.
    fn report(
        &self,
        ak_public: &[u8],
        nonce: &[u8; 32],
    ) -> Result<Option<v1::TeeEvidence>, Finding> {
        match self.ask(ak_public, nonce) {
            Ok(evidence) => Ok(Some(evidence)),
            Err(why) if self.named => Err(silent(&why)
                .expected(format!(
                    "a report through {}, as join.tee of agent.toml says",
                    self.reports.display()
                ))
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
        let data = report_data(ak_public, nonce)?;
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
        let named = Reports {
            reports: folder.path().join("report"),
            event_log: None,
            named: true,
        };
        let refused = named.report(&[], &[0; 32]).unwrap_err();
        assert_eq!(refused.code, "AGENT-TEE");
        let usual = Reports {
            named: false,
            ..named
        };
        assert_eq!(usual.report(&[], &[0; 32]).unwrap(), None);
    }
}
