//! Compares a log with a quote.

use super::Unknown;
use super::layout::{CHIP, Layout};
use super::measurement::{Measurement, measurements};
use super::secure_boot::{self, Authority, SecureBoot};
use crate::bank;
use crate::eventlog::{Format, Log, Replay};
use crate::pcr::QuotedPcrs;
use attest::Findings;
use crypto::hex;
use facts::Finding;
use std::collections::BTreeSet;

/// The PCRs that firmware, boot loaders and stubs log. PCR 10 is IMA's, 15 systemd's, and what comes
/// behind is for debugging, dynamic launch and applications.
const LOGGED: [u32; 14] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14];
pub(crate) const PHASES: u32 = 11;
/// What systemd-pcrphase extends into PCR 11 as the boot goes on, in order, without the firmware's log.
const WORDS: [&str; 6] = [
    "enter-initrd",
    "leave-initrd",
    "sysinit",
    "ready",
    "shutdown",
    "final",
];

/// What a machine booted: a log whose every digest a TPM stands behind, in the bank of SHA-256 unless it says
/// otherwise. Only [`verify`] makes it.
#[derive(Debug, Clone)]
pub struct Boot<const N: usize = 32> {
    pub(super) pcrs: QuotedPcrs<N>,
    pub(super) measurements: Vec<Measurement<N>>,
    pub(super) phases: Vec<&'static str>,
    pub(super) secure_boot: Result<SecureBoot, Unknown>,
    pub(super) authorities: Vec<Authority>,
    pub(super) layout: Layout,
    /// Places of events that are known to be no image, though nothing but images is told of their register.
    pub(super) tables: BTreeSet<usize>,
}

/// Verifies that `log` is the log of the boot whose PCRs were quoted.
///
/// PCR 11 may have gone on by the words that systemd extends after the boot loader.
/// PCRs that were not quoted are left out: nothing is known of them.
///
/// # Errors
/// `EVENTLOG-BANK` for a log of SHA-1 alone, or without a digest of the quoted bank for each event;
/// `EVENTLOG-LOCALITY`; `EVENTLOG-DATA` for each event whose data is not what its type says was
/// measured; `EVENTLOG-REPLAY` for each quoted PCR that the log does not amount to. Nothing of the log
/// is to be used then.
pub fn verify<const N: usize>(
    log: &Log<'_>,
    quoted: &QuotedPcrs<N>,
) -> Result<Boot<N>, Vec<Finding>> {
    read(log, quoted, CHIP)
}

/// As [`verify`], of a log that measures as `layout` has it.
pub(super) fn read<const N: usize>(
    log: &Log<'_>,
    quoted: &QuotedPcrs<N>,
    layout: Layout,
) -> Result<Boot<N>, Vec<Finding>> {
    let (hash, name) = (bank::hash::<N>(), bank::name::<N>());
    if log.format == Format::Legacy || !log.has(hash) {
        return Err(vec![
            Finding::new(
                "EVENTLOG-BANK",
                format!("the event log is not of the {name} bank"),
            )
            .expected(format!("TCG_PCR_EVENT2 with {name} digests"))
            .observed(log.format.name())
            .next(format!("enable the {name} bank in the firmware's set-up")),
        ]);
    }
    let replay = log.replay(hash).map_err(|finding| vec![finding])?;
    let mut findings = Findings::new();
    for finding in log.contradictions(hash) {
        findings.push(finding);
    }
    let mut phases = Vec::new();
    for (pcr, value) in quoted.iter().filter(|(pcr, _)| LOGGED.contains(pcr)) {
        let replayed = replay.value(pcr);
        if replayed == value {
            continue;
        }
        match (pcr == PHASES).then(|| gone_on(&replayed, value)).flatten() {
            Some(words) => phases = words,
            None => findings.push(differs(log, &replay, pcr, value)),
        }
    }
    if !findings.is_empty() {
        return Err(findings.into_vec());
    }
    let is_quoted = |pcr| LOGGED.contains(&pcr) && quoted.value(pcr).is_some();
    let measurements = measurements(log.measured(), is_quoted);
    let (secure_boot, authorities) = secure_boot::read(&measurements, quoted, &layout);
    Ok(Boot {
        secure_boot,
        authorities,
        phases,
        measurements,
        pcrs: quoted.clone(),
        layout,
        tables: BTreeSet::new(),
    })
}

impl<const N: usize> Boot<N> {
    /// What was extended into the quoted PCRs, in the order of the log.
    #[must_use]
    pub fn measurements(&self) -> &[Measurement<N>] {
        &self.measurements
    }

    /// The values that the log was compared with.
    #[must_use]
    pub const fn pcrs(&self) -> &QuotedPcrs<N> {
        &self.pcrs
    }

    /// The words by which systemd has gone on in PCR 11.
    #[must_use]
    pub fn phases(&self) -> &[&'static str] {
        &self.phases
    }

    /// # Errors
    /// Why it is not known: PCR 7 was not quoted, or holds what cannot be read.
    pub const fn secure_boot(&self) -> Result<&SecureBoot, &Unknown> {
        self.secure_boot.as_ref()
    }

    /// What verified the images that were started, and what else shim measured into PCR 7. Empty when
    /// PCR 7 was not quoted.
    #[must_use]
    pub fn authorities(&self) -> &[Authority] {
        &self.authorities
    }

    /// Whether it is one of the sentences and marks of firmware.
    pub(super) const fn is_routine(&self, one: &Measurement<N>) -> bool {
        one.is_routine(&self.layout)
    }

    pub(super) fn of(&self, pcr: u32) -> impl Iterator<Item = &Measurement<N>> {
        self.measurements.iter().filter(move |one| one.pcr == pcr)
    }
}

/// The words, some of [`WORDS`] in their order, that lead from `from` to `to`.
pub(crate) fn gone_on<const N: usize>(from: &[u8], to: &[u8; N]) -> Option<Vec<&'static str>> {
    (1u32..1 << WORDS.len()).find_map(|choice| {
        let words: Vec<&'static str> = (0..)
            .zip(WORDS)
            .filter(|(bit, _)| choice >> bit & 1 == 1)
            .map(|(_, word)| word)
            .collect();
        let mut value = from.to_vec();
        for word in &words {
            value = extend::<N>(&value, &bank::digest::<N>(&[word.as_bytes()]));
        }
        (value == to).then_some(words)
    })
}

fn extend<const N: usize>(value: &[u8], digest: &[u8]) -> Vec<u8> {
    bank::hash::<N>().digest(&[value, digest])
}

/// Says from which event on the log claims more than was measured, if it is that.
fn differs<const N: usize>(log: &Log<'_>, replay: &Replay, pcr: u32, value: &[u8; N]) -> Finding {
    let mut count = 0_usize;
    let mut held = vec![0; N];
    let mut beyond = None;
    for event in log.measured().filter(|event| event.pcr == pcr) {
        if held == value {
            beyond = Some(event.title());
        }
        held = extend::<N>(&held, event.digest(bank::hash::<N>()).unwrap_or_default());
        count += 1;
    }
    let message = match beyond {
        Some(title) => format!("the log of PCR {pcr} goes on after what was quoted, at {title}"),
        None => format!("the {count} events of PCR {pcr} do not amount to what was quoted"),
    };
    Finding::new("EVENTLOG-REPLAY", message)
        .expected(hex::encode(value))
        .observed(hex::encode(&replay.value(pcr)))
        .next("send the log of this boot, unchanged; if it was, treat the machine as tampered with")
}
