//! Replays a list to a quoted PCR 10, from the beginning or from where the last round ended.

use super::entry::{Entry, Kind, List, PCR};
use crate::bytes::Bytes;
use crate::join::Boot;
use crate::pcr::QuotedPcrs;
use crate::quote::Quoted;
use attest::Findings;
use crypto::{Hash, hex};
use facts::Finding;

/// What the kernel extends for a violation, in each bank.
const VIOLATION: [u8; 32] = [0xff; 32];
const AGGREGATE: &str = "boot_aggregate";
/// Kernels aggregate PCR 0 to 7, and from 5.8 on PCR 8 and 9 as well (`ima_calc_boot_aggregate_tfm`).
const AGGREGATED: [u32; 2] = [9, 7];
/// Findings of one kind are not repeated more often than this.
const MOST: usize = 8;

/// How far the list of one boot is verified. Only [`verify`] makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    boot: Boot,
    entries: u64,
    violations: u64,
    pcr: [u8; 32],
}

impl Progress {
    /// The boot that the list is of. After another, the list begins anew.
    #[must_use]
    pub const fn boot(&self) -> Boot {
        self.boot
    }

    /// How many entries are verified: the index of the first that is not.
    #[must_use]
    pub const fn entries(&self) -> u64 {
        self.entries
    }

    /// How many of them are violations.
    #[must_use]
    pub const fn violations(&self) -> u64 {
        self.violations
    }

    /// PCR 10 after the last of them.
    #[must_use]
    pub const fn pcr(&self) -> &[u8; 32] {
        &self.pcr
    }

    /// For who keeps part of a list, to judge it again: reset and restart count, entries and violations,
    /// big-endian, and PCR 10.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        let fields = [
            self.boot.reset_count.to_be_bytes().as_slice(),
            &self.boot.restart_count.to_be_bytes(),
            &self.entries.to_be_bytes(),
            &self.violations.to_be_bytes(),
            &self.pcr,
        ]
        .concat();
        for (to, from) in bytes.iter_mut().zip(fields) {
            *to = from;
        }
        bytes
    }

    /// What [`Progress::to_bytes`] wrote. Nothing is verified: it is for who wrote it.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut bytes = Bytes::new(bytes);
        let progress = Self {
            boot: Boot {
                reset_count: u32::from_be_bytes(*bytes.array()?),
                restart_count: u32::from_be_bytes(*bytes.array()?),
            },
            entries: u64::from_be_bytes(*bytes.array()?),
            violations: u64::from_be_bytes(*bytes.array()?),
            pcr: *bytes.array()?,
        };
        bytes.is_empty().then_some(progress)
    }
}

impl Progress {
    /// Of [`Progress::to_bytes`].
    pub const LENGTH: usize = 56;
}

/// Whether the list's first entry is of the quoted PCRs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootAggregate {
    /// It is the digest of the PCRs that were quoted with it.
    Matches,
    /// It is not among these entries, or the PCRs that it is of were not all quoted in this bank.
    Unknown,
}

/// Entries that a quote stands behind. Only [`verify`] makes it.
#[derive(Debug, Clone)]
pub struct Measured<'a> {
    entries: Vec<Entry<'a>>,
    fresh: usize,
    pending: usize,
    aggregates: Vec<[u8; 32]>,
    boot_aggregate: BootAggregate,
    progress: Progress,
}

impl<'a> Measured<'a> {
    /// The verified entries of this round, those included that were verified before if they were sent
    /// again.
    #[must_use]
    pub fn entries(&self) -> &[Entry<'a>] {
        &self.entries
    }

    /// Those that were not verified before.
    #[must_use]
    pub fn fresh(&self) -> &[Entry<'a>] {
        self.entries.get(self.fresh..).unwrap_or_default()
    }

    /// The digests of [`Measured::fresh`] that name a file: SHA-256 of its content, or of its fs-verity tree
    /// with SHA-256. SHA-1 can be made to collide, and a buffer is no file.
    pub fn files(&self) -> impl Iterator<Item = (Kind, [u8; 32])> {
        let files = self.fresh().iter().filter(|entry| {
            !entry.is_violation() && entry.hash == Some(Hash::Sha256) && entry.template != "ima-buf"
        });
        files.filter_map(|entry| Some((entry.kind, entry.digest.as_slice().try_into().ok()?)))
    }

    /// How many entries came that the quote does not reach yet. They are to be sent again.
    #[must_use]
    pub const fn pending(&self) -> usize {
        self.pending
    }

    #[must_use]
    pub const fn boot_aggregate(&self) -> BootAggregate {
        self.boot_aggregate
    }

    /// What the next round continues from.
    #[must_use]
    pub const fn progress(&self) -> Progress {
        self.progress
    }

    /// Whether an entry is the kernel's own statement about the boot: the first one of the list, or one
    /// after a kexec that is of the quoted PCRs. Any other of that name is a file.
    pub(super) fn is_aggregate(&self, entry: &Entry<'_>) -> bool {
        entry.is_claimed_aggregate()
            || entry.path == AGGREGATE
                && !entry.is_violation()
                && self.aggregates.iter().any(|one| entry.digest == one)
    }
}

impl Entry<'_> {
    /// The first entry of a list, if it says that it is of the boot.
    pub(super) fn is_claimed_aggregate(&self) -> bool {
        self.index == 0 && self.path == AGGREGATE && !self.is_violation()
    }
}

/// Verifies that the kernel's list, up to some entry, is what the quoted PCR 10 holds.
///
/// The list may have grown between quote and reading, so the quote may reach only a prefix of it; what
/// is behind is pending. It begins at entry 0, or where `before` ended if that was in the same boot.
/// Each entry counts for the bank by its own SHA-256, as kernels from 5.8 on extend it.
///
/// # Errors
/// `IMA-UNQUOTED` if PCR 10 was not quoted; `IMA-GAP` if entries are missing between `before` and the
/// list; `IMA-PCR` for an entry of another PCR; `IMA-TEMPLATE` for an entry whose template's hash is of
/// other data; `IMA-REPLAY` if no prefix amounts to the quote; `IMA-REWOUND` if the quote reaches less
/// than it did before; `IMA-BOOT-AGGREGATE` if the first entry is not of the quoted PCRs.
pub fn verify<'a>(
    list: List<'a>,
    quoted: &Quoted,
    before: Option<&Progress>,
) -> Result<Measured<'a>, Vec<Finding>> {
    let boot = Boot::from(quoted.clock);
    let before = before.filter(|before| before.boot == boot);
    let Some(wanted) = quoted.pcrs.value(PCR) else {
        return Err(vec![
            Finding::new(
                "IMA-UNQUOTED",
                "nothing is known of the IMA list: PCR 10 was not quoted",
            )
            .expected("a quote of PCR 10")
            .next("add it to the PCRs that the server asks for"),
        ]);
    };
    let start = start(&list, before).map_err(|finding| vec![finding])?;
    let reached = replay(&list, start, wanted)?;
    let List { first, mut entries } = list;
    let pending = entries.len().saturating_sub(reached);
    entries.truncate(reached);
    let count = first.saturating_add(u64::try_from(reached).unwrap_or(u64::MAX));
    let known = before.map_or(0, |before| before.entries);
    if count < known {
        return Err(vec![
            Finding::new(
                "IMA-REWOUND",
                "the quote reaches less of the IMA list than it did before",
            )
            .expected(format!("{known} entries or more"))
            .observed(format!("{count} entries"))
            .next("treat the machine as tampered with: PCR 10 does not shrink within a boot"),
        ]);
    }
    let aggregates = aggregates(&quoted.pcrs);
    let boot_aggregate = aggregate(entries.first(), &aggregates)?;
    let violations = entries.iter().filter(|one| one.is_violation()).count();
    let earlier = before.filter(|_| first > 0);
    Ok(Measured {
        fresh: usize::try_from(known.saturating_sub(first)).unwrap_or(usize::MAX),
        entries,
        pending,
        aggregates,
        boot_aggregate,
        progress: Progress {
            boot,
            entries: count,
            violations: earlier
                .map_or(0, |earlier| earlier.violations)
                .saturating_add(u64::try_from(violations).unwrap_or(u64::MAX)),
            pcr: *wanted,
        },
    })
}

/// What PCR 10 holds before the first entry of `list`.
fn start(list: &List<'_>, before: Option<&Progress>) -> Result<[u8; 32], Finding> {
    match before {
        _ if list.first == 0 => Ok([0; 32]),
        Some(before) if before.entries == list.first => Ok(before.pcr),
        _ => Err(Finding::new(
            "IMA-GAP",
            "the IMA list does not begin where the last one ended",
        )
        .expected(before.map_or_else(
            || "the whole list of this boot".to_owned(),
            |before| format!("entries from {} on, or the whole list", before.entries),
        ))
        .observed(format!("entries from {} on", list.first))
        .next("send the whole list")),
    }
}

/// How many entries lead to the quoted value.
fn replay(list: &List<'_>, start: [u8; 32], wanted: &[u8; 32]) -> Result<usize, Vec<Finding>> {
    let mut findings = Findings::new();
    let mut faults = 0;
    let mut value = start;
    let mut reached = (value == *wanted).then_some(0);
    for (count, entry) in (1..).zip(&list.entries) {
        if reached.is_some() {
            break;
        }
        if let Some(fault) = fault(entry) {
            faults += 1;
            if faults <= MOST {
                findings.push(fault);
            }
        }
        value = extended(&value, entry);
        reached = (value == *wanted).then_some(count);
    }
    findings.check(reached.is_some(), || differs(list, &value, wanted));
    match reached {
        Some(reached) if findings.is_empty() => Ok(reached),
        _ => Err(findings.into_vec()),
    }
}

fn extended(value: &[u8; 32], entry: &Entry<'_>) -> [u8; 32] {
    let digest = if entry.is_violation() {
        VIOLATION
    } else {
        crypto::sha256(&entry.data)
    };
    let mut hash = crypto::Sha256::new();
    hash.update(value);
    hash.update(&digest);
    hash.finish()
}

/// What an entry says of itself and cannot be.
fn fault(entry: &Entry<'_>) -> Option<Finding> {
    if entry.pcr != PCR {
        return Some(
            Finding::new(
                "IMA-PCR",
                format!("{} was measured into another PCR", entry.title()),
            )
            .expected("PCR 10")
            .observed(format!("PCR {}", entry.pcr))
            .next("leave `pcr=` out of the machine's IMA policy"),
        );
    }
    let sha1 = Hash::Sha1.digest(&[&entry.data]);
    (!entry.is_violation() && sha1 != entry.template_sha1).then(|| {
        Finding::new(
            "IMA-TEMPLATE",
            format!("{} is not what its template's hash is of", entry.title()),
        )
        .expected(hex::encode(&entry.template_sha1))
        .observed(hex::encode(&sha1))
        .next("treat the machine as tampered with: the kernel writes both")
    })
}

fn differs(list: &List<'_>, value: &[u8; 32], wanted: &[u8; 32]) -> Finding {
    let end = u64::try_from(list.entries.len()).unwrap_or(u64::MAX);
    Finding::new(
        "IMA-REPLAY",
        format!(
            "no part of the IMA list, entries {} to {}, amounts to the quoted PCR 10",
            list.first,
            list.first.saturating_add(end)
        ),
    )
    .expected(hex::encode(wanted))
    .observed(hex::encode(value))
    .next("read the list after the quote and send it unchanged; the kernel has to be 5.8 or later")
}

/// SHA-256 of the PCRs that kernels aggregate, if all of them were quoted.
fn aggregates(pcrs: &QuotedPcrs) -> Vec<[u8; 32]> {
    let of = |last: u32| -> Option<[u8; 32]> {
        let values: Option<Vec<&[u8]>> = (0..=last)
            .map(|pcr| pcrs.value(pcr).map(<[u8; 32]>::as_slice))
            .collect();
        Some(crypto::sha256(&values?.concat()))
    };
    let [wide, narrow] = AGGREGATED.map(of);
    // Without PCR 8 and 9 it cannot be told that a newer kernel's is wrong.
    wide.into_iter()
        .chain(narrow.filter(|_| wide.is_some()))
        .collect()
}

/// The first entry of a boot's list is `boot_aggregate`, of the quoted PCRs.
fn aggregate(
    first: Option<&Entry<'_>>,
    aggregates: &[[u8; 32]],
) -> Result<BootAggregate, Vec<Finding>> {
    let Some(first) = first.filter(|first| first.index == 0) else {
        return Ok(BootAggregate::Unknown);
    };
    let is_named = first.path == AGGREGATE && !first.is_violation();
    if is_named && (first.hash != Some(Hash::Sha256) || aggregates.is_empty()) {
        return Ok(BootAggregate::Unknown);
    }
    if is_named && aggregates.iter().any(|one| first.digest == one) {
        return Ok(BootAggregate::Matches);
    }
    let expected: Vec<String> = aggregates.iter().map(|one| hex::encode(one)).collect();
    Err(vec![
        Finding::new(
            "IMA-BOOT-AGGREGATE",
            "the IMA list is not that of this boot",
        )
        .expected(format!(
            "boot_aggregate first, of {}",
            expected.join(" or ")
        ))
        .observed(format!(
            "{}, of {}",
            first.title(),
            hex::encode(&first.digest)
        ))
        .next("send the list of the boot that was quoted"),
    ])
}
