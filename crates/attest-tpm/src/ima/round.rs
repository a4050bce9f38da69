//! One round of a machine's list: what it sent, compared with a quote and judged by what may run.

use super::entry::{Kind, List, PCR};
use super::judge::{facts, judge};
use super::references::References;
use super::verify::{Progress, verify};
use crate::join::Boot;
use crate::quote::Quoted;
use crypto::hex;
use facts::{FactSet, Finding, Source, Timestamp, names};

/// What a machine sent of its list.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sent<'a> {
    /// Index of the first entry in `list`.
    pub first: u64,
    /// `binary_runtime_measurements` from that entry on; empty when nothing was sent.
    pub list: &'a [u8],
}

/// What is known of the list after a round. Only [`round`] makes it.
#[derive(Debug, Clone)]
pub struct Round {
    state: &'static str,
    progress: Option<Progress>,
    fresh: usize,
    files: Box<[(Kind, [u8; 32])]>,
    until: Option<Timestamp>,
}

impl Round {
    /// What the next round continues from; absent while no entry is verified.
    #[must_use]
    pub const fn progress(&self) -> Option<Progress> {
        self.progress
    }

    /// How many entries this round verified that were not verified before.
    #[must_use]
    pub const fn fresh(&self) -> usize {
        self.fresh
    }

    /// The last moment at which every file of this round may run, as far as is said; absent if that is for
    /// ever.
    #[must_use]
    pub const fn until(&self) -> Option<Timestamp> {
        self.until
    }

    /// The files that this round verified, as [`super::Seen`] takes them.
    #[must_use]
    pub fn files(&self) -> &[(Kind, [u8; 32])] {
        &self.files
    }

    /// `machine.ima.state`: `approved` if every entry of this round may run, `measured` if nobody says
    /// what may, `none` if the kernel has measured nothing, `unknown` if it has and sent nothing. The
    /// other facts are there for the first two. `root` is what stands behind the TPM.
    #[must_use]
    pub fn facts(&self, root: Source, now: Timestamp) -> FactSet {
        match self.progress {
            Some(progress) => facts(self.state, progress, root, now),
            None => {
                let mut facts = FactSet::new();
                let checked = Source::Verified;
                facts.state(names::MACHINE_IMA_STATE, self.state, checked, now);
                facts
            }
        }
    }
}

/// Verifies what was sent against `quoted`, from where `before` ended in the same boot, and judges what is
/// new by `references` at `now`. Without references nothing is judged, and a machine may keep its list to
/// itself until it has sent some of it.
///
/// # Errors
/// `IMA-LIST-MISSING` if the quote says that there is more than was sent, and nothing was; what
/// [`List::parse_binary`], [`verify`] and [`judge`] find.
pub fn round(
    sent: Sent<'_>,
    quoted: &Quoted,
    before: Option<&Progress>,
    references: Option<&References>,
    now: Timestamp,
) -> Result<Round, Vec<Finding>> {
    let boot = Boot::from(quoted.clock);
    let before = before.filter(|before| before.boot() == boot);
    if sent.list.is_empty() {
        return silent(quoted, before, references.is_some());
    }
    let list = List::parse_binary(sent.list, sent.first).map_err(|finding| vec![finding])?;
    let measured = verify(list, quoted, before)?;
    let (state, until) = match references {
        Some(references) => ("approved", judge(&measured, references, now)?.until()),
        None => ("measured", None),
    };
    let progress = measured.progress();
    // Whatever came behind nothing is not quoted.
    let is_some = progress.entries() > 0;
    Ok(Round {
        state: if is_some { state } else { "none" },
        progress: is_some.then_some(progress),
        fresh: measured.fresh().len(),
        files: measured.files().collect(),
        until,
    })
}

/// Nothing was sent: right if there is nothing new.
fn silent(quoted: &Quoted, before: Option<&Progress>, judged: bool) -> Result<Round, Vec<Finding>> {
    let known = |state, progress| Round {
        state,
        progress,
        fresh: 0,
        files: Box::default(),
        until: None,
    };
    match (quoted.pcrs.value(PCR), before) {
        (Some(value), Some(before)) if value == before.pcr() => Ok(known(
            if judged { "approved" } else { "measured" },
            Some(*before),
        )),
        (Some(value), None) if *value == [0; 32] => Ok(known("none", None)),
        (_, None) if !judged => Ok(known("unknown", None)),
        (value, before) => Err(vec![missing(value, before)]),
    }
}

fn missing(value: Option<&[u8; 32]>, before: Option<&Progress>) -> Finding {
    let expected = match before {
        Some(before) => format!("the entries from {} on", before.entries()),
        None => "the kernel's list: reference values say which files may run".to_owned(),
    };
    let observed = value.map_or_else(
        || "nothing, and PCR 10 was not quoted".to_owned(),
        |value| format!("nothing, and PCR 10 is {}", hex::encode(value)),
    );
    Finding::new(
        "IMA-LIST-MISSING",
        "the machine does not say what its kernel measured",
    )
    .expected(expected)
    .observed(observed)
    .next(
        "let the node agent read /sys/kernel/security/ima/binary_runtime_measurements, or name the list \
         in join.ima_list of agent.toml",
    )
}
