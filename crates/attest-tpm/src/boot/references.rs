//! What a good boot looks like, as plain values: whoever has them, from packages, images or firmware
//! settings, fills them in.

use crate::reference::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The sections of one unified kernel image: name (`.linux`) and SHA-256 of the content, of exactly
/// those that its stub measures.
pub type Sections = BTreeMap<String, [u8; 32]>;

/// The lowest SBAT generation of a component; for `sbat` itself the date of the list, `2025021800`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SbatFloor {
    pub component: String,
    pub at_least: u64,
}

/// What is asked of Secure Boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SecureBootRule {
    /// It was on, and every authority used is among [`References::authorities`].
    #[default]
    On,
    /// Nothing is asked; PCR 7 counts as judged.
    Any,
}

/// Reference values of a boot. A list that is empty allows nothing; a list whose values are all outside
/// their windows allows nothing either.
///
/// Each PCR of [`References::JUDGED`] has to be judged by something: by values of its own in `pcrs`, or
/// by the lists that speak of it. What the owner does not want judged stands in `unjudged`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct References {
    /// PCR index to its allowed values. A PCR that is named here has to have one of them, whatever the
    /// lists say.
    pub pcrs: BTreeMap<u32, Vec<Value<[u8; 32]>>>,
    /// PCR 4: Authenticode SHA-256 of what may start.
    pub images: Vec<Value<[u8; 32]>>,
    /// PCR 2: of drivers in firmware of add-in cards.
    pub drivers: Vec<Value<[u8; 32]>>,
    pub secure_boot: SecureBootRule,
    /// PCR 7: SHA-256 of certificates, or Authenticode digests, by which images may be started.
    pub authorities: Vec<Value<[u8; 32]>>,
    /// PCR 7: what dbx has to hold: Authenticode digests, or SHA-256 of certificates.
    pub forbidden: Vec<Value<[u8; 32]>>,
    /// PCR 7: shim's revocation level.
    pub sbat: Vec<Value<SbatFloor>>,
    /// PCR 8, 9, 12: kernel command lines, without the kernel's path.
    pub command_lines: Vec<Value<String>>,
    /// PCR 8: what else GRUB may run. Where empty, GRUB's commands are not judged, only what they start.
    pub grub_commands: Vec<Value<String>>,
    /// PCR 9, 12, 13: SHA-256 of kernels and ramdisks as files, GRUB's configuration, credentials.
    pub files: Vec<Value<[u8; 32]>>,
    /// PCR 11.
    pub sections: Vec<Value<Sections>>,
    /// PCR 14: SHA-256 of shim's lists. That nothing is enrolled is always allowed, and so is the list
    /// of a certificate that is among the authorities.
    pub mok: Vec<Value<[u8; 32]>>,
    /// PCRs that are not judged on purpose.
    pub unjudged: BTreeSet<u32>,
}

impl References {
    /// The PCRs of code, its configuration and who vouches for it. Firmware (0, 1), option ROMs'
    /// settings (3), partition tables (5) and vendors' (6) are recorded and not judged.
    pub const JUDGED: [u32; 9] = [2, 4, 7, 8, 9, 11, 12, 13, 14];
}
