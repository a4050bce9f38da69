//! What vendors publish about their hardware, one document at a time: what it is called, which of it evidence
//! needs, and whether some bytes are it.
//!
//! Not here: where it is fetched from, and where it is kept (`endorsements`).

mod check;
mod name;

pub(crate) use check::Window;
pub use name::NotAnArtefact;

use crate::intel::{self, Ca, Quote};
use crate::snp::{self, Generation, Report};
use facts::Timestamp;

/// One document, named by numbers of fixed length alone: nothing that a machine says can make it another
/// kind of thing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Artefact {
    /// The certificate of a chip's key at a TCB, which AMD's key server makes when asked. DER.
    SnpKey {
        generation: Generation,
        /// As reports have it: of Turin eight bytes, then zeros.
        chip: [u8; 64],
        /// As reports have it.
        tcb: [u8; 8],
    },
    /// The revocation list of a generation's root. DER.
    SnpCrl { generation: Generation },
    /// Intel's TCB info of a kind of platform, for trust domains or enclaves. JSON, with a chain.
    TcbInfo { tdx: bool, fmspc: [u8; 6] },
    /// The identity of Intel's quoting enclave, for trust domains or enclaves. JSON, with a chain.
    QeIdentity { tdx: bool },
    /// The revocation list of an authority for platforms. DER, with a chain.
    PckCrl { ca: Ca },
    /// The revocation list of Intel's root. DER.
    IntelRootCrl,
}

impl Artefact {
    /// What endorses this report, as far as a vendor hands it to anybody: the certificate of a chip's key, and
    /// the list of its generation's root. Nothing of the report is believed: only what its bytes name is used,
    /// and only of generations that are `accepted`.
    #[must_use]
    pub fn of_snp(report: &[u8], accepted: &[Generation]) -> Vec<Self> {
        let Ok(report) = Report::parse(report) else {
            return Vec::new();
        };
        let stated = report
            .cpuid
            .map(|(family, model, _)| Generation::of_cpu(family, model));
        let could_be = |generation: &Generation| match stated {
            Some(stated) => stated == Some(*generation),
            // Version 2 does not say it, and there is no Turin that writes it.
            None => *generation != Generation::Turin,
        };
        let mut needed = Vec::new();
        for generation in accepted.iter().copied().filter(could_be) {
            if report.signing_key() == "vcek" && is_asked_for(&report, generation) {
                needed.push(Self::SnpKey {
                    generation,
                    chip: report.chip_id,
                    tcb: report.reported_tcb,
                });
            }
            needed.push(Self::SnpCrl { generation });
        }
        needed
    }

    /// What endorses the platform that made this quote. The quote has to lead to the root, so that only a
    /// platform that Intel certified names anything.
    #[must_use]
    pub fn of_tdx(quote: &[u8], roots: &intel::Roots, now: Timestamp) -> Vec<Self> {
        // What is no quote at all is not verified for it.
        if Quote::parse(quote).is_err() {
            return Vec::new();
        }
        intel::platform(quote, roots, now).map_or_else(
            |_| Vec::new(),
            |pck| Self::of_platform(true, pck.fmspc, pck.ca),
        )
    }

    /// The four documents that collateral for a platform is made of.
    #[must_use]
    pub fn of_platform(tdx: bool, fmspc: [u8; 6], ca: Ca) -> Vec<Self> {
        vec![
            Self::TcbInfo { tdx, fmspc },
            Self::QeIdentity { tdx },
            Self::PckCrl { ca },
            Self::IntelRootCrl,
        ]
    }

    /// Whether a host's table of certificates names one for this.
    #[must_use]
    pub fn is_in_table(&self, table: &[u8]) -> bool {
        let Self::SnpKey { chip, tcb, .. } = self else {
            return false;
        };
        snp::certificates(table)
            .into_iter()
            .any(|der| snp::named(der) == Ok((Some(*chip), *tcb)))
    }
}

/// Whether there can be a certificate: the host did not mask the chip, and every byte has a meaning.
fn is_asked_for(report: &Report, generation: Generation) -> bool {
    let (chip, rest) = report
        .chip_id
        .split_at_checked(generation.chip_length())
        .unwrap_or_default();
    let reserved = match generation {
        Generation::Milan | Generation::Genoa => report.reported_tcb.get(2..6),
        Generation::Turin => report.reported_tcb.get(4..7),
    };
    let zeros = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
    !zeros(chip) && zeros(rest) && reserved.is_some_and(zeros)
}

/// The roots that a document has to lead to.
#[derive(Debug, Clone)]
pub enum Anchors {
    Amd(snp::Roots),
    Intel(intel::Roots),
}

/// A document as somebody handed it over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// DER or JSON, as it came.
    pub body: Vec<u8>,
    /// PEM of what signed it, where a vendor hands that over beside it; else empty.
    pub chain: String,
}

/// A document whose signature leads to a root and that counted when it was checked. What uses it checks it
/// again.
#[derive(Debug, Clone)]
pub struct Endorsement {
    pub(crate) artefact: Artefact,
    pub(crate) answer: Answer,
    issued: Timestamp,
    until: Timestamp,
}

impl Endorsement {
    #[must_use]
    pub const fn artefact(&self) -> &Artefact {
        &self.artefact
    }

    #[must_use]
    pub const fn answer(&self) -> &Answer {
        &self.answer
    }

    /// From when it counts, by its own word.
    #[must_use]
    pub const fn issued(&self) -> Timestamp {
        self.issued
    }

    /// Until when: its next update, or the end of its certificate.
    #[must_use]
    pub const fn until(&self) -> Timestamp {
        self.until
    }

    #[must_use]
    pub fn is_current(&self, now: Timestamp) -> bool {
        (self.issued..=self.until).contains(&now)
    }

    /// Whether the vendor makes a newer one from time to time. A chip's certificate stays.
    #[must_use]
    pub const fn is_renewed(&self) -> bool {
        !matches!(self.artefact, Artefact::SnpKey { .. })
    }
}
