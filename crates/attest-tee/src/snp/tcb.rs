//! Processor generations, and the versions of what a chip's security rests on.

use std::fmt;

/// A generation of EPYC processors with SEV-SNP. Each has a root of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Generation {
    Milan,
    /// Also Bergamo and Siena.
    Genoa,
    Turin,
}

impl Generation {
    /// Those whose roots are shipped.
    pub const ALL: [Self; 3] = [Self::Milan, Self::Genoa, Self::Turin];

    /// As AMD's key server and certificates name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Milan => "Milan",
            Self::Genoa => "Genoa",
            Self::Turin => "Turin",
        }
    }

    /// As estates and commands write it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Milan => "milan",
            Self::Genoa => "genoa",
            Self::Turin => "turin",
        }
    }

    /// By what [`Generation::word`] writes.
    pub(crate) fn by_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.word() == word)
    }

    /// Bytes of a chip's id in certificates and requests.
    pub(crate) const fn chip_length(self) -> usize {
        match self {
            Self::Milan | Self::Genoa => 64,
            Self::Turin => 8,
        }
    }

    /// By CPUID `Fn00000001_EAX`: combined family and model (ABI, table 23, `CPUID_FAM_ID`).
    pub(crate) const fn of_cpu(family: u8, model: u8) -> Option<Self> {
        match (family, model) {
            (0x19, 0x00..=0x0f) => Some(Self::Milan),
            (0x19, 0x10..=0x1f | 0xa0..=0xaf) => Some(Self::Genoa),
            (0x1a, 0x00..=0x11) => Some(Self::Turin),
            _ => None,
        }
    }
}

/// `TCB_VERSION` (ABI, section 2.2), taken apart. A floor is one as well: zeros ask for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tcb {
    /// Turin and later.
    pub fmc: u8,
    pub bootloader: u8,
    /// The operating system of the security processor.
    pub tee: u8,
    pub snp: u8,
    pub microcode: u8,
}

impl Tcb {
    /// The eight bytes in the layout of `generation`.
    #[must_use]
    pub const fn read(bytes: [u8; 8], generation: Generation) -> Self {
        match generation {
            Generation::Milan | Generation::Genoa => {
                let [bootloader, tee, _, _, _, _, snp, microcode] = bytes;
                Self {
                    fmc: 0,
                    bootloader,
                    tee,
                    snp,
                    microcode,
                }
            }
            Generation::Turin => {
                let [fmc, bootloader, tee, snp, _, _, _, microcode] = bytes;
                Self {
                    fmc,
                    bootloader,
                    tee,
                    snp,
                    microcode,
                }
            }
        }
    }

    /// Whether no part is older than in `floor`.
    #[must_use]
    pub const fn covers(&self, floor: &Self) -> bool {
        self.fmc >= floor.fmc
            && self.bootloader >= floor.bootloader
            && self.tee >= floor.tee
            && self.snp >= floor.snp
            && self.microcode >= floor.microcode
    }

    /// The lesser of each part: what both reach.
    pub(crate) fn least(&self, other: &Self) -> Self {
        Self {
            fmc: self.fmc.min(other.fmc),
            bootloader: self.bootloader.min(other.bootloader),
            tee: self.tee.min(other.tee),
            snp: self.snp.min(other.snp),
            microcode: self.microcode.min(other.microcode),
        }
    }
}

impl fmt::Display for Tcb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            fmc,
            bootloader,
            tee,
            snp,
            microcode,
        } = self;
        write!(
            f,
            "fmc {fmc} bootloader {bootloader} tee {tee} snp {snp} microcode {microcode}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{Generation, Tcb};

    #[test]
    fn every_part_counts() {
        let floor = Tcb {
            fmc: 1,
            bootloader: 2,
            tee: 3,
            snp: 4,
            microcode: 5,
        };
        assert!(floor.covers(&floor));
        let turin = Tcb::read([1, 2, 3, 4, 0, 0, 0, 5], Generation::Turin);
        assert_eq!(turin, floor);
        let bytes = [1, 2, 3, 4, 5];
        for part in 0..bytes.len() {
            let mut older = bytes;
            older[part] -= 1;
            let [fmc, bootloader, tee, snp, microcode] = older;
            let older = Tcb {
                fmc,
                bootloader,
                tee,
                snp,
                microcode,
            };
            assert!(!older.covers(&floor), "{older}");
        }
    }
}
