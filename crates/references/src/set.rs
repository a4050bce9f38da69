//! What is asked of reference values: is this digest good here and now, what is it, and what would have
//! been good in its place.

use crate::Digest;
use crate::generation::{
    Artefact, ArtefactKind, BootRule, FileValue, Generation, PcrValue, ReferenceFile, Source,
    SourceKind, Withdrawal,
};
use facts::{Finding, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// Rules of all files: a join is compared with each one of its ring.
const MOST_RULES: usize = 512;

/// When, and for a machine of which ring.
#[derive(Debug, Clone, Copy)]
pub struct At<'a> {
    pub now: Timestamp,
    pub ring: &'a str,
}

/// By which of a file's digests it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Via {
    Sha256,
    FsVerity,
    Authenticode,
    /// The digest of an artefact as a whole.
    Artefact,
    Pcr(u8),
}

/// A value, and where it stands.
#[derive(Debug, Clone, Copy)]
pub struct Found<'a> {
    pub generation: &'a Generation,
    pub artefact: &'a Artefact,
    /// The file, if it is a file's digest.
    pub file: Option<&'a FileValue>,
    pub via: Via,
}

impl<'a> Found<'a> {
    /// Who stands behind it.
    #[must_use]
    pub fn source(&self) -> Option<&'a Source> {
        let sources = &self.generation.sources;
        sources
            .iter()
            .find(|source| source.id == self.artefact.source)
    }

    /// `busybox-static 1:1.35.0-4 /bin/busybox`
    #[must_use]
    pub fn label(&self) -> String {
        let path = self.file.map(|file| file.path.as_str()).unwrap_or_default();
        [&self.artefact.name, &self.artefact.version, path]
            .into_iter()
            .filter(|word| !word.is_empty())
            .collect::<Vec<_>>()
            .join(" ")
    }
}

/// Why a value that is known is not good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lapse {
    OtherRing(Vec<String>),
    NotYet(Timestamp),
    Over(Timestamp),
    Withdrawn { at: Timestamp, reason: String },
}

/// The answer to a digest.
#[derive(Debug, Clone)]
pub enum Known<'a> {
    Good(Found<'a>),
    /// It was, will be, or is elsewhere.
    Lapsed(Found<'a>, Lapse),
    Unknown,
}

/// Where a value stands, by position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    generation: usize,
    artefact: usize,
    file: Option<usize>,
    via: Via,
}

/// All reference values that are in force, will be, or were.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct References {
    generations: Vec<Generation>,
    withdrawn: Vec<Withdrawal>,
    rules: Vec<BootRule>,
    by_digest: BTreeMap<Digest, Vec<Place>>,
    by_path: BTreeMap<String, Vec<Place>>,
    by_name: BTreeMap<String, Vec<Place>>,
}

impl References {
    /// # Errors
    /// What [`References::merge`] finds in any of the files.
    pub fn new(files: impl IntoIterator<Item = ReferenceFile>) -> Result<Self, Vec<Finding>> {
        let mut references = Self::default();
        let mut findings = Vec::new();
        for file in files {
            findings.extend(references.merge(file).err().unwrap_or_default());
        }
        if findings.is_empty() {
            Ok(references)
        } else {
            Err(findings)
        }
    }

    /// Adds the values of one file. The same generation again changes nothing.
    ///
    /// # Errors
    /// `REF-GENERATION-CONFLICT` when a generation of that name holds other values, and what
    /// [`ReferenceFile::check`] finds; then nothing of the file is taken.
    pub fn merge(&mut self, file: ReferenceFile) -> Result<(), Vec<Finding>> {
        let mut findings = file.check();
        let mut fresh = Vec::new();
        for mut generation in file.generations {
            generation.sort();
            match self
                .generations
                .iter()
                .find(|known| known.name == generation.name)
            {
                None => fresh.push(generation),
                Some(known) if *known == generation => {}
                Some(known) => findings.push(
                    Finding::new(
                        "REF-GENERATION-CONFLICT",
                        "a generation of this name holds other values",
                    )
                    .expected(format!(
                        "{} as imported at {}",
                        known.name, known.imported_at
                    ))
                    .observed(format!("another, imported at {}", generation.imported_at))
                    .next("remove one of the two files, or import one under another --generation"),
                ),
            }
        }
        let mut rules = Vec::new();
        for rule in file.boots {
            match self.rules.iter().find(|known| known.name == rule.name) {
                None => rules.push(rule),
                Some(known) if *known == rule => {}
                Some(_) => findings.push(
                    Finding::new(
                        "REF-BOOT-RULE",
                        "a [[boot]] rule of this name says otherwise",
                    )
                    .expected("one rule of a name in all files")
                    .observed(rule.name)
                    .next("remove one of the two, or give it another name"),
                ),
            }
        }
        if self.rules.len().saturating_add(rules.len()) > MOST_RULES {
            findings.push(
                Finding::new("REF-BOOT-RULE", "there are too many ways to boot")
                    .expected(format!("at most {MOST_RULES} [[boot]] in all files"))
                    .next("give machines that boot alike one rule, whose lists hold what differs"),
            );
        }
        if !findings.is_empty() {
            return Err(findings);
        }
        self.rules.extend(rules);
        for generation in fresh {
            self.index(&generation);
            self.generations.push(generation);
        }
        for withdrawal in file.withdrawn {
            if !self.withdrawn.contains(&withdrawal) {
                self.withdrawn.push(withdrawal);
            }
        }
        Ok(())
    }

    #[must_use]
    pub fn generations(&self) -> &[Generation] {
        &self.generations
    }

    /// Ways in which machines may boot, in no order.
    #[must_use]
    pub fn rules(&self) -> &[BootRule] {
        &self.rules
    }

    #[must_use]
    pub fn withdrawn(&self) -> &[Withdrawal] {
        &self.withdrawn
    }

    /// What is known of `digest`: of a file by any of its three digests, or of a whole artefact. Good if
    /// any generation that holds now makes it so.
    #[must_use]
    pub fn look_up(&self, digest: &Digest, at: At<'_>) -> Known<'_> {
        self.standing(digest, at, |via| !matches!(via, Via::Pcr(_)))
    }

    /// What `digest` is of, whenever and wherever it was good: for naming it. Of a file before a whole artefact.
    #[must_use]
    pub fn known(&self, digest: &Digest) -> Option<Found<'_>> {
        let places = self.by_digest.get(digest)?;
        let mut found = places
            .iter()
            .filter(|place| !matches!(place.via, Via::Pcr(_)))
            .filter_map(|place| self.found(*place));
        let first = found.next()?;
        match first.file {
            Some(_) => Some(first),
            None => found.find(|other| other.file.is_some()).or(Some(first)),
        }
    }

    /// The artefact of which `digest` is a part that booting it measures, or a file.
    #[must_use]
    pub fn part(&self, digest: &Digest) -> Option<Found<'_>> {
        let mut all = self.found_all();
        let part = all.find(|found| {
            let mut parts = found.artefact.parts.digests();
            parts.any(|(_, part)| part == *digest)
        });
        part.or_else(|| self.known(digest))
    }

    /// Whether some file has both digests, whenever and wherever it was good: then who has seen the one has
    /// seen the other.
    #[must_use]
    pub fn of_one_file(&self, sha256: &Digest, fsverity: &Digest) -> bool {
        let places = self.by_digest.get(fsverity).map(Vec::as_slice);
        let places = places.unwrap_or_default().iter();
        places
            .filter(|place| place.via == Via::FsVerity)
            .filter_map(|place| self.found(*place)?.file)
            .any(|file| file.sha256 == *sha256)
    }

    /// The container images that are good here and now and hold a file with `digest`: by the digest of the
    /// manifest, every digest that names it. An image that was pinned by the index that holds it has that name too.
    #[must_use]
    pub fn images(&self, digest: &Digest, at: At<'_>) -> BTreeMap<Digest, BTreeSet<Digest>> {
        let mut images: BTreeMap<Digest, BTreeSet<Digest>> = BTreeMap::new();
        let places = self.by_digest.get(digest).map(Vec::as_slice);
        let places = places.unwrap_or_default().iter();
        let found = places
            .filter(|place| matches!(place.via, Via::Sha256 | Via::FsVerity))
            .filter_map(|place| self.found(*place))
            .filter(|found| found.artefact.kind == ArtefactKind::Oci)
            .filter(|found| self.lapse(found, at).is_none());
        for found in found {
            let manifest = found.artefact.sha256;
            let names = images.entry(manifest).or_default();
            names.insert(manifest);
            let source = found.source();
            let pinned = source.filter(|source| source.kind == SourceKind::Pinned);
            names.extend(pinned.map(|source| source.sha256));
        }
        images
    }

    /// The same for the value of PCR `index`.
    #[must_use]
    pub fn look_up_pcr(&self, index: u8, value: &Digest, at: At<'_>) -> Known<'_> {
        self.standing(value, at, |via| via == Via::Pcr(index))
    }

    /// Every value that is good for PCR `index`, here and now.
    pub fn pcrs<'a>(
        &'a self,
        index: u8,
        at: At<'a>,
    ) -> impl Iterator<Item = (Found<'a>, &'a PcrValue)> {
        self.found_all()
            .filter(move |found| self.lapse(found, at).is_none())
            .flat_map(move |found| {
                let pcrs = found.artefact.pcrs.iter();
                pcrs.filter(move |pcr| pcr.index == index).map(move |pcr| {
                    (
                        Found {
                            via: Via::Pcr(index),
                            ..found
                        },
                        pcr,
                    )
                })
            })
    }

    /// Every artefact that is good here and now.
    pub(crate) fn good_artefacts<'a>(&'a self, at: At<'a>) -> impl Iterator<Item = Found<'a>> {
        self.found_all()
            .filter(move |found| self.lapse(found, at).is_none())
    }

    /// The PCRs that any generation for machines of `ring` predicts, whether it holds now or not: what was
    /// withdrawn or is over is no reason not to ask.
    #[must_use]
    pub fn predicted(&self, ring: &str) -> BTreeSet<u8> {
        let generations = self.generations.iter().filter(|one| one.is_for(ring));
        let artefacts = generations.flat_map(|one| &one.artefacts);
        artefacts
            .flat_map(|artefact| &artefact.pcrs)
            .map(|pcr| pcr.index)
            .collect()
    }

    /// Files that are good here and now and stand where `path` does; if there are none, files of the same
    /// name elsewhere. `/bin` and `/usr/bin` are one folder, and so are the others that Debian merged.
    #[must_use]
    pub fn nearest(&self, path: &str, at: At<'_>) -> Vec<Found<'_>> {
        let same = self.good(self.by_path.get(merged(path)), at);
        if !same.is_empty() {
            return same;
        }
        let name = path.rsplit('/').next().unwrap_or(path);
        self.good(self.by_name.get(name), at)
    }

    fn good(&self, places: Option<&Vec<Place>>, at: At<'_>) -> Vec<Found<'_>> {
        let places = places.map(Vec::as_slice).unwrap_or_default();
        let found = places.iter().filter_map(|place| self.found(*place));
        found
            .filter(|found| self.lapse(found, at).is_none())
            .collect()
    }

    fn standing(&self, digest: &Digest, at: At<'_>, wanted: impl Fn(Via) -> bool) -> Known<'_> {
        let mut lapsed: Option<(Found<'_>, Lapse)> = None;
        for place in self
            .by_digest
            .get(digest)
            .map(Vec::as_slice)
            .unwrap_or_default()
        {
            let Some(found) = self.found(*place).filter(|found| wanted(found.via)) else {
                continue;
            };
            match self.lapse(&found, at) {
                None => return Known::Good(found),
                Some(lapse)
                    if lapsed
                        .as_ref()
                        .is_none_or(|(_, old)| weight(old) < weight(&lapse)) =>
                {
                    lapsed = Some((found, lapse));
                }
                Some(_) => {}
            }
        }
        match lapsed {
            Some((found, lapse)) => Known::Lapsed(found, lapse),
            None => Known::Unknown,
        }
    }

    /// Why a value is not good; nothing if it is.
    pub(crate) fn lapse(&self, found: &Found<'_>, at: At<'_>) -> Option<Lapse> {
        let (generation, artefact) = (found.generation, found.artefact);
        let withdrawn = self
            .withdrawn
            .iter()
            .find(|withdrawal| withdrawal.concerns(artefact) && withdrawal.at <= at.now);
        if let Some(withdrawal) = withdrawn {
            return Some(Lapse::Withdrawn {
                at: withdrawal.at,
                reason: withdrawal.reason.clone(),
            });
        }
        if !generation.is_for(at.ring) {
            return Some(Lapse::OtherRing(generation.rings.clone()));
        }
        if at.now < generation.valid_from {
            return Some(Lapse::NotYet(generation.valid_from));
        }
        let over = generation.valid_until.filter(|until| at.now >= *until);
        over.map(Lapse::Over)
    }

    fn found(&self, place: Place) -> Option<Found<'_>> {
        let generation = self.generations.get(place.generation)?;
        let artefact = generation.artefacts.get(place.artefact)?;
        let file = place.file.and_then(|file| artefact.files.get(file));
        Some(Found {
            generation,
            artefact,
            file,
            via: place.via,
        })
    }

    pub(crate) fn found_all(&self) -> impl Iterator<Item = Found<'_>> {
        self.generations.iter().flat_map(|generation| {
            generation.artefacts.iter().map(move |artefact| Found {
                generation,
                artefact,
                file: None,
                via: Via::Artefact,
            })
        })
    }

    fn index(&mut self, generation: &Generation) {
        let number = self.generations.len();
        for (position, artefact) in generation.artefacts.iter().enumerate() {
            let place = |file, via| Place {
                generation: number,
                artefact: position,
                file,
                via,
            };
            let mut digest = |digest: Digest, place| {
                self.by_digest.entry(digest).or_default().push(place);
            };
            digest(artefact.sha256, place(None, Via::Artefact));
            for pcr in &artefact.pcrs {
                digest(pcr.sha256, place(None, Via::Pcr(pcr.index)));
            }
            for (at, file) in artefact.files.iter().enumerate() {
                digest(file.sha256, place(Some(at), Via::Sha256));
                for (other, via) in [
                    (file.fsverity, Via::FsVerity),
                    (file.authenticode, Via::Authenticode),
                ] {
                    if let Some(other) = other {
                        digest(other, place(Some(at), via));
                    }
                }
                let place = place(Some(at), Via::Sha256);
                let path = merged(&file.path).to_owned();
                let name = file.path.rsplit('/').next().unwrap_or_default().to_owned();
                self.by_path.entry(path).or_default().push(place);
                self.by_name.entry(name).or_default().push(place);
            }
        }
    }
}

/// What is worth saying most: that it was withdrawn.
const fn weight(lapse: &Lapse) -> u8 {
    match lapse {
        Lapse::OtherRing(_) => 0,
        Lapse::NotYet(_) => 1,
        Lapse::Over(_) => 2,
        Lapse::Withdrawn { .. } => 3,
    }
}

/// Without `/usr` where a machine with merged folders has both names.
pub(crate) fn merged(path: &str) -> &str {
    let rest = path.strip_prefix("/usr").unwrap_or(path);
    let folders = ["/bin/", "/sbin/", "/lib/", "/lib32/", "/lib64/", "/libx32/"];
    if folders.iter().any(|folder| rest.starts_with(folder)) {
        rest
    } else {
        path
    }
}
