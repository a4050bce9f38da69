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
/// Where command lines are measured, in clear or by digest.
const LINES: [u32; 4] = [8, 9, 11, 12];
/// shim's variables and lists.
const SHIM: [u32; 2] = [7, 14];

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
        facts.common("measured", &Worth::Nothing);
        facts.text(
            names::MACHINE_BOOT_CMDLINE,
            self.command_line(),
            Source::Asserted,
        );
        facts.set
    }
}

impl Approved<'_> {
    /// As [`Boot::facts`], `machine.boot.state` being `approved` if all of the boot was judged, and `partial` if
    /// reference values leave programs, or what went to the kernel, open.
    ///
    /// What approved programs measured into PCRs that were judged has the source `root` where a digest proves
    /// it, and is verified where the log merely notes what a digest is of. All else stays asserted: whoever runs
    /// the machine may have extended a PCR that nobody judged.
    #[must_use]
    pub fn facts(&self, root: Source, now: Timestamp) -> FactSet {
        let mut facts = Facts::new(self.boot, root, now);
        let worth = Worth::Of(self);
        let state = if self.is_pinned() {
            "approved"
        } else {
            "partial"
        };
        facts.common(state, &worth);
        let line = self.command_line().map(str::to_owned);
        let source = worth.proven(&LINES, root);
        facts.text(names::MACHINE_BOOT_CMDLINE, line, source);
        let labels: Vec<String> = self.labels().iter().cloned().collect();
        facts.state(names::MACHINE_BOOT_LABELS, labels, Source::Verified);
        let judged: Vec<String> = self.judged().iter().map(u32::to_string).collect();
        facts.state(names::MACHINE_BOOT_JUDGED, judged, Source::Verified);
        facts.set
    }
}

/// What the word of the programs that were started is worth.
enum Worth<'a> {
    /// Nobody vouches for them.
    Nothing,
    Of(&'a Approved<'a>),
}

impl Worth<'_> {
    /// The source of what was measured in clear into `pcrs`.
    fn proven(&self, pcrs: &[u32], root: Source) -> Source {
        match self {
            Self::Of(approved) if approved.vouches_for(pcrs) => root,
            Self::Of(_) | Self::Nothing => Source::Asserted,
        }
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

    fn common(&mut self, state: &str, worth: &Worth<'_>) {
        let boot = self.boot;
        let root = self.root;
        let proven = |pcrs: &[u32]| worth.proven(pcrs, root);
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
            self.state(names::MACHINE_BOOT_SHIM, boot.has_shim(), proven(&SHIM));
        }
        let sbat = boot
            .sbat()
            .and_then(sbat::date)
            .map(|date| date.to_string());
        self.text(names::MACHINE_BOOT_SBAT, sbat, proven(&[7]));
        let mok = boot.mok().map(|mok| mok.name().to_owned());
        self.text(names::MACHINE_BOOT_MOK, mok, proven(&SHIM));
        let loader = boot.loader();
        let source = proven(loader.pcrs());
        self.state(names::MACHINE_BOOT_LOADER, loader.name(), source);
        self.piece(names::MACHINE_BOOT_KERNEL, boot.kernel(), worth);
        self.piece(names::MACHINE_BOOT_INITRD, boot.initrd(), worth);
        let sections: Vec<String> = boot
            .sections()
            .map(|(name, digest)| format!("{name}={}", hex::encode(digest)))
            .collect();
        if boot.pcrs.value(11).is_some() {
            self.state(names::MACHINE_BOOT_SECTIONS, sections, proven(&[11]));
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

    /// The log merely notes what most digests are of; which of the files that were judged is which, it notes
    /// beside lines of PCR 8.
    fn piece(&mut self, name: &str, piece: Option<Piece>, worth: &Worth<'_>) {
        let source = match piece {
            Some(piece) if piece.is_named => worth.proven(&[piece.pcr], self.root),
            Some(piece) => {
                let source = worth.proven(&[piece.pcr, 8, 11], self.root);
                source.min(Source::Verified)
            }
            None => worth.proven(&LINES, self.root),
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
