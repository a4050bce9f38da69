//! Documents by name, as people type them and findings print them: `snp-crl:milan`.

use super::Artefact;
use crate::intel::Ca;
use crate::snp::Generation;
use crypto::hex;
use std::fmt;
use std::str::FromStr;

const fn machine(tdx: bool) -> &'static str {
    if tdx { "tdx" } else { "sgx" }
}

impl fmt::Display for Artefact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SnpKey {
                generation,
                chip,
                tcb,
            } => {
                let chip = chip.get(..generation.chip_length()).unwrap_or_default();
                let (chip, tcb) = (hex::encode(chip), hex::encode(tcb));
                write!(f, "snp-key:{}:{chip}:{tcb}", generation.word())
            }
            Self::SnpCrl { generation } => write!(f, "snp-crl:{}", generation.word()),
            Self::TcbInfo { tdx, fmspc } => {
                write!(f, "tcb-info:{}:{}", machine(*tdx), hex::encode(fmspc))
            }
            Self::QeIdentity { tdx } => write!(f, "qe-identity:{}", machine(*tdx)),
            Self::PckCrl { ca } => write!(f, "pck-crl:{}", ca.word()),
            Self::IntelRootCrl => f.write_str("intel-root-crl"),
        }
    }
}

/// Not the name of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAnArtefact;

impl fmt::Display for NotAnArtefact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "expected snp-key:GENERATION:CHIP:TCB, snp-crl:GENERATION, tcb-info:tdx|sgx:FMSPC, \
             qe-identity:tdx|sgx, pck-crl:platform|processor or intel-root-crl",
        )
    }
}

impl std::error::Error for NotAnArtefact {}

impl FromStr for Artefact {
    type Err = NotAnArtefact;

    fn from_str(text: &str) -> Result<Self, NotAnArtefact> {
        let parts: Vec<&str> = text.split(':').collect();
        read(&parts).ok_or(NotAnArtefact)
    }
}

fn read(parts: &[&str]) -> Option<Artefact> {
    Some(match parts {
        ["snp-key", generation, chip, tcb] => {
            let generation = Generation::by_word(generation)?;
            let digits = hex::decode(chip).ok()?;
            if digits.len() != generation.chip_length() {
                return None;
            }
            let mut chip = [0; 64];
            for (to, from) in chip.iter_mut().zip(digits) {
                *to = from;
            }
            Artefact::SnpKey {
                generation,
                chip,
                tcb: octets(tcb)?,
            }
        }
        ["snp-crl", generation] => Artefact::SnpCrl {
            generation: Generation::by_word(generation)?,
        },
        ["tcb-info", tee, fmspc] => Artefact::TcbInfo {
            tdx: is_tdx(tee)?,
            fmspc: octets(fmspc)?,
        },
        ["qe-identity", tee] => Artefact::QeIdentity { tdx: is_tdx(tee)? },
        ["pck-crl", ca] => Artefact::PckCrl {
            ca: Ca::by_word(ca)?,
        },
        ["intel-root-crl"] => Artefact::IntelRootCrl,
        _ => return None,
    })
}

fn is_tdx(word: &str) -> Option<bool> {
    match word {
        "tdx" => Some(true),
        "sgx" => Some(false),
        _ => None,
    }
}

fn octets<const N: usize>(digits: &str) -> Option<[u8; N]> {
    hex::decode(digits).ok()?.as_array().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_is_written_and_nothing_else_is() {
        let (milan, turin) = ("c1".repeat(64), "c1".repeat(8));
        for name in [
            format!("snp-key:milan:{milan}:030100000000 18d9").replace(' ', ""),
            format!("snp-key:turin:{turin}:0103010000000 018").replace(' ', ""),
            "snp-crl:genoa".to_owned(),
            "tcb-info:tdx:90c06f000000".to_owned(),
            "qe-identity:sgx".to_owned(),
            "pck-crl:processor".to_owned(),
            "intel-root-crl".to_owned(),
        ] {
            let read: Artefact = name.parse().unwrap();
            assert_eq!(read.to_string(), name);
        }
        for name in [
            format!("snp-key:turin:{milan}:0301000000001 8d9").replace(' ', ""),
            format!("snp-key:milan:{turin}:0301000000001 8d9").replace(' ', ""),
            "snp-crl:rome".to_owned(),
            "snp-crl:milan:".to_owned(),
            "tcb-info:tdx:90c06f00000".to_owned(),
            "tcb-info:tdx:../../../".to_owned(),
            "qe-identity:snp".to_owned(),
            "pck-crl:root&x=1".to_owned(),
            String::new(),
        ] {
            assert_eq!(name.parse::<Artefact>(), Err(NotAnArtefact), "{name}");
        }
    }
}
