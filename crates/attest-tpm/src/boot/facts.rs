//! The facts of a boot, each with the source that really stands behind it.

use super::approved::Approved;
use super::chain::Piece;
use super::verify::Boot;
use super::{Meaning, sbat};
use crate::efi::Signature;
use crate::eventlog::Kind;
use crypto::hex;
use facts::{FactSet, Source, Timestamp, Value, names};

const UNKNOWN: &str = "unknown";

impl Boot {
    /// What was measured, `machine.boot.state` being `measured`: nobody has said that it is good.
    ///
    /// `root` is what stands behind the TPM: hardware if its chain ends in a vendor's root. Firmware's
    /// own statements (Secure Boot, keys, images) have that source. What boot loader, shim and kernel
    /// say of themselves is asserted until the images are approved: a program that nobody vouches for
    /// says what it likes.
    #[must_use]
    pub fn facts(&self, root: Source, now: Timestamp) -> FactSet {
        let mut facts = Facts::new(self, root, now);
        facts.common("measured", Source::Asserted, Source::Asserted);
        facts.text(
            names::MACHINE_BOOT_CMDLINE,
            self.command_line(),
            Source::Asserted,
        );
        facts.set
    }
}

impl Approved<'_> {
    /// As [`Boot::facts`], `machine.boot.state` being `approved`: what the approved programs measured
    /// has the source `root` where a digest proves it, and is verified where the log merely notes what
    /// a digest is of.
    #[must_use]
    pub fn facts(&self, root: Source, now: Timestamp) -> FactSet {
        let mut facts = Facts::new(self.boot, root, now);
        facts.common("approved", root, root.min(Source::Verified));
        let line = self.command_line().map(str::to_owned);
        facts.text(names::MACHINE_BOOT_CMDLINE, line, root);
        let labels: Vec<String> = self.labels().iter().cloned().collect();
        facts.state(names::MACHINE_BOOT_LABELS, labels, Source::Verified);
        let judged: Vec<String> = self.judged().iter().map(u32::to_string).collect();
        facts.state(names::MACHINE_BOOT_JUDGED, judged, Source::Verified);
        facts.set
    }
}

struct Facts<'a> {
    boot: &'a Boot,
    root: Source,
    now: Timestamp,
    set: FactSet,
}

impl<'a> Facts<'a> {
    const fn new(boot: &'a Boot, root: Source, now: Timestamp) -> Self {
        Self {
            boot,
            root,
            now,
            set: FactSet::new(),
        }
    }

    fn state(&mut self, name: &str, value: impl Into<Value>, source: Source) {
        self.set.state(name, value, source, self.now);
    }

    /// `unknown`, which is not believed more than a verifier's word, where there is none.
    fn text(&mut self, name: &str, value: Option<String>, source: Source) {
        match value {
            Some(value) => self.state(name, value, source),
            None => self.state(name, UNKNOWN, source.min(Source::Verified)),
        }
    }

    /// `proven`: the source of what later programs measured in clear; `noted`: of what a log notes.
    fn common(&mut self, state: &str, proven: Source, noted: Source) {
        let boot = self.boot;
        self.state(
            names::MACHINE_BOOT_STATE,
            state,
            self.root.min(Source::Verified),
        );
        self.text(names::MACHINE_BOOT_FIRMWARE, boot.firmware(), self.root);
        self.policy();
        if boot.pcrs.value(4).is_some() {
            let images = boot.images().map(|image| hex::encode(&image.digest));
            self.state(
                names::MACHINE_BOOT_IMAGES,
                images.collect::<Vec<_>>(),
                self.root,
            );
        }
        if [7, 14].iter().all(|pcr| boot.pcrs.value(*pcr).is_some()) {
            self.state(names::MACHINE_BOOT_SHIM, boot.has_shim(), proven);
        }
        let sbat = boot
            .sbat()
            .and_then(sbat::date)
            .map(|date| date.to_string());
        self.text(names::MACHINE_BOOT_SBAT, sbat, proven);
        let mok = boot.mok().map(|mok| mok.name().to_owned());
        self.text(names::MACHINE_BOOT_MOK, mok, proven);
        self.state(names::MACHINE_BOOT_LOADER, boot.loader().name(), proven);
        self.piece(names::MACHINE_BOOT_KERNEL, boot.kernel(), proven, noted);
        self.piece(names::MACHINE_BOOT_INITRD, boot.initrd(), proven, noted);
        let sections: Vec<String> = boot
            .sections()
            .map(|(name, digest)| format!("{name}={}", hex::encode(digest)))
            .collect();
        if boot.pcrs.value(11).is_some() {
            self.state(names::MACHINE_BOOT_SECTIONS, sections, proven);
        }
    }

    /// Absent where it is not known: lists and truth values cannot say so.
    fn policy(&mut self) {
        let Ok(policy) = &self.boot.secure_boot else {
            return;
        };
        let root = self.root;
        self.state(names::MACHINE_BOOT_SECURE_BOOT, policy.enabled, root);
        self.state(names::MACHINE_BOOT_PK, digests(&policy.platform_keys), root);
        self.state(
            names::MACHINE_BOOT_KEK,
            digests(&policy.exchange_keys),
            root,
        );
        self.state(names::MACHINE_BOOT_DB, digests(&policy.allowed), root);
        self.state(
            names::MACHINE_BOOT_DBX_SHA256,
            hex::encode(&policy.forbidden_sha256),
            root,
        );
        let authorities: Vec<String> = self
            .boot
            .authorities
            .iter()
            .filter_map(|one| match &one.permission {
                super::Permission::Signature { content, .. } => Some(hex::encode(content.digest())),
                _ => None,
            })
            .collect();
        self.state(names::MACHINE_BOOT_AUTHORITIES, authorities, root);
    }

    fn piece(&mut self, name: &str, piece: Option<Piece>, proven: Source, noted: Source) {
        let source = match piece {
            Some(piece) if piece.is_named => proven,
            _ => noted,
        };
        let digest = piece.map(|piece| hex::encode(&piece.digest));
        self.text(name, digest, source);
    }
}

fn digests(signatures: &[Signature]) -> Vec<String> {
    signatures
        .iter()
        .map(|one| hex::encode(one.content.digest()))
        .collect()
}

impl Boot {
    /// The version that firmware measured of itself before it handed over, if it is text.
    #[must_use]
    pub fn firmware(&self) -> Option<String> {
        self.of(0)
            .take_while(|one| one.meaning != Meaning::Boundary)
            .find(|one| one.kind == Kind::S_CRTM_VERSION)
            .and_then(|one| match &one.meaning {
                Meaning::Data(text) => text.clone(),
                _ => None,
            })
    }
}
