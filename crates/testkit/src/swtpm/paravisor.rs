//! A TPM as Azure's paravisor makes one: no certificates, a persistent attestation key, and a report that names
//! it in non-volatile memory. Its hardware is whoever makes the report.

use super::{Swtpm, SwtpmError};
use crate::find;
use std::fs;

const KEY: &str = "0x81000003";
const REPORT: u32 = 0x0140_0001;

/// What the attestation key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attributes {
    /// As Azure's: 0x50472, a primary key of the endorsement hierarchy.
    Azure,
    /// It signs whatever it is given.
    Unrestricted,
    /// Of the owner's hierarchy.
    OfTheOwner,
}

/// A running chip.
#[derive(Debug)]
pub struct Paravisor {
    pub chip: Swtpm,
}

impl Paravisor {
    /// A new chip, with such a key and without a report.
    ///
    /// # Errors
    /// When `swtpm` or tpm2-tools are missing or fail.
    pub fn start(key: Attributes) -> Result<Self, SwtpmError> {
        let paravisor = Self {
            chip: Swtpm::uncertified()?,
        };
        paravisor.make(key)?;
        Ok(paravisor)
    }

    /// Takes the key away, and gives the same machine another.
    ///
    /// # Errors
    /// When tpm2-tools are missing or fail.
    pub fn change_key(&self) -> Result<(), SwtpmError> {
        let [evict, clear] =
            find::tools(["tpm2_evictcontrol", "tpm2_changeeps"]).map_err(SwtpmError::Missing)?;
        self.chip.tool(&evict, ["-C", "o", "-c", KEY])?;
        self.chip.tool(&clear, ["-Q"])?;
        self.make(Attributes::Azure)
    }

    /// The key's modulus, 256 bytes.
    ///
    /// # Errors
    /// When tpm2-tools are missing or fail.
    pub fn modulus(&self) -> Result<Vec<u8>, SwtpmError> {
        let [read] = find::tools(["tpm2_readpublic"]).map_err(SwtpmError::Missing)?;
        self.chip
            .tool(&read, ["-Q", "-c", KEY, "-f", "tss", "-o", "ak.tss"])?;
        let public = fs::read(self.chip.folder.path().join("ak.tss"))?;
        // TPM2B_PUBLIC of an RSA key ends with its modulus.
        Ok(public
            .last_chunk::<256>()
            .map_or_else(Vec::new, |modulus| modulus.to_vec()))
    }

    /// Puts `report` where the guest finds it, in the place of the one before.
    ///
    /// # Errors
    /// When tpm2-tools are missing or fail.
    pub fn report(&self, report: &[u8]) -> Result<(), SwtpmError> {
        let [undefine] = find::tools(["tpm2_nvundefine"]).map_err(SwtpmError::Missing)?;
        let index = format!("{REPORT:#x}");
        // There may be none before.
        drop(self.chip.tool(&undefine, [index.as_str(), "-C", "o"]));
        self.chip.write(REPORT, report)
    }

    fn make(&self, key: Attributes) -> Result<(), SwtpmError> {
        let [create, evict, flush] = find::tools([
            "tpm2_createprimary",
            "tpm2_evictcontrol",
            "tpm2_flushcontext",
        ])
        .map_err(SwtpmError::Missing)?;
        let common = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|sign";
        let (hierarchy, attributes) = match key {
            Attributes::Azure => ("e", format!("{common}|restricted")),
            Attributes::Unrestricted => ("e", common.to_owned()),
            Attributes::OfTheOwner => ("o", format!("{common}|restricted")),
        };
        self.chip.tool(
            &create,
            [
                "-Q",
                "-C",
                hierarchy,
                "-g",
                "sha256",
                "-G",
                "rsa2048:rsassa-sha256:null",
                "-a",
                &attributes,
                "-c",
                "hcl.ctx",
            ],
        )?;
        self.chip
            .tool(&evict, ["-Q", "-C", "o", "-c", "hcl.ctx", KEY])?;
        self.chip.tool(&flush, ["-t"])
    }
}
