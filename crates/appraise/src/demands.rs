//! What reference values ask of the machines of one ring, in the form that verifiers take.

use crate::boot;
use crate::rules::Rule;
use attest_tpm::QuotedPcrs;
use attest_tpm::boot::Boot;
use attest_tpm::ima::{self, File, Kind};
use attest_tpm::reference::{Value, Window};
use crypto::Hash;
use facts::{Finding, Source, Timestamp};
use references::{Artefact, At, Digest, FileValue, Generation, References};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Folders that are the same with and without `/usr` where a machine has merged them.
const MERGED: [&str; 4] = ["/bin/", "/sbin/", "/lib/", "/lib64/"];

/// Of one ring, under one version of the estate.
#[derive(Debug, Default)]
pub struct Demands {
    /// The PCRs that are predicted.
    pub pcrs: BTreeSet<u8>,
    /// In which ways its machines may boot; where there is one, a boot has to fit one.
    pub rules: Vec<Rule>,
    /// Which files may run; absent if no generation of the ring lists files.
    pub files: Option<ima::References>,
}

impl Demands {
    #[must_use]
    pub fn of(values: &References, ring: &str) -> Self {
        let generations = values.generations().iter().filter(|one| one.is_for(ring));
        let mut files = Vec::new();
        let mut hints = Vec::new();
        for generation in generations {
            for artefact in &generation.artefacts {
                let named = Named::of(values, generation, artefact);
                for file in &artefact.files {
                    named.add(file, &mut files, &mut hints);
                }
            }
        }
        Self {
            pcrs: values.predicted(ring),
            rules: crate::rules::of(values, ring),
            files: (!files.is_empty()).then(|| ima::References::new(files).hinting(hints)),
        }
    }

    /// Nothing is asked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.judge_boots() && self.files.is_none()
    }

    /// Whether anything says what its machines may boot.
    #[must_use]
    pub fn judge_boots(&self) -> bool {
        !self.pcrs.is_empty() || !self.rules.is_empty()
    }

    /// Why the PCRs of a machine that goes on are good no more. What rules say of its log is
    /// [`Self::outgrown`]'s to find: the log is not sent again.
    #[must_use]
    pub fn lapsed(&self, values: &References, pcrs: &QuotedPcrs, at: At<'_>) -> Vec<Finding> {
        let quoted = self.pcrs.iter().filter_map(|index| {
            let value = pcrs.value(u32::from(*index))?;
            Some((*index, Digest(*value)))
        });
        let quoted: BTreeMap<u8, Digest> = quoted.collect();
        let judged = quoted
            .iter()
            .filter_map(|(index, value)| values.judge_pcr(*index, value, &[], at).err());
        let lapsed: Vec<Finding> = judged.collect();
        if !lapsed.is_empty() {
            return lapsed;
        }
        let mixed = values.judge_whole(&quoted, at).err();
        mixed.into_iter().map(|(_, finding)| finding).collect()
    }

    /// Why the boot of a machine that goes on fits no rule any more, by the log that was kept of its join;
    /// nothing where there are no rules.
    #[must_use]
    pub fn outgrown(&self, values: &References, booted: Option<&Boot>, at: At<'_>) -> Vec<Finding> {
        if self.rules.is_empty() {
            return Vec::new();
        }
        // Whoever stands behind the chip: no fact is made of it.
        let judged = boot::judge(booted, Source::Asserted, values, self, at);
        judged.err().unwrap_or_default()
    }
}

/// An artefact as findings name it, and when its values count.
pub(crate) struct Named {
    label: Arc<str>,
    source: Arc<str>,
    window: Window,
}

impl Named {
    pub(crate) fn of(values: &References, generation: &Generation, artefact: &Artefact) -> Self {
        let withdrawn = values
            .withdrawn()
            .iter()
            .filter(|one| one.concerns(artefact));
        let withdrawn = withdrawn.min_by_key(|one| one.at);
        let mut label = format!("{} {}", artefact.name, artefact.version);
        if let Some(withdrawn) = withdrawn {
            label = format!("{}, withdrawn: {}", label.trim_end(), withdrawn.reason);
        }
        let ends = [generation.valid_until, withdrawn.map(|one| one.at)];
        let until = ends.into_iter().flatten().min();
        Self {
            label: label.trim_end().into(),
            source: format!("{} of generation {}", artefact.source, generation.name).into(),
            window: Window {
                not_before: Some(generation.valid_from),
                // Generations end before that moment, windows with it.
                not_after: until
                    .map(|until| Timestamp::from_millis(until.as_millis().saturating_sub(1))),
            },
        }
    }

    fn add(
        &self,
        file: &FileValue,
        files: &mut Vec<Value<File>>,
        hints: &mut Vec<(Arc<str>, Value<String>)>,
    ) {
        let digests = [
            (Kind::Content, Some(file.sha256)),
            (Kind::Verity, file.fsverity),
        ];
        for (kind, digest) in digests {
            let Some(digest) = digest else { continue };
            let value = File {
                kind,
                hash: Hash::Sha256,
                digest: digest.0.to_vec(),
                // A package names its files by one of the names that a machine may have for them.
                path: None,
            };
            files.push(self.value(value));
        }
        for path in alike(&file.path) {
            hints.push((path.into(), self.value(format!("sha256:{}", file.sha256))));
        }
    }

    pub(crate) fn value<T>(&self, value: T) -> Value<T> {
        Value::new(value, Arc::clone(&self.label), Arc::clone(&self.source)).within(self.window)
    }
}

/// `path`, and what it is called on a machine with merged folders.
fn alike(path: &str) -> Vec<String> {
    let bare = path.strip_prefix("/usr").unwrap_or(path);
    if MERGED.iter().any(|folder| bare.starts_with(folder)) {
        vec![bare.to_owned(), format!("/usr{bare}")]
    } else {
        vec![path.to_owned()]
    }
}
