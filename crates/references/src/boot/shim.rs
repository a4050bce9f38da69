//! shim, out of its own binary: the vendor's certificate and denials that it mirrors into the MOK lists
//! and measures into PCR 14, and the revocation level that it measures into PCR 7.
//!
//! Layouts: shim's `mok.c`, `cert.S` and `sbat_var.S`, versions 15.8 to 16.1.

use crate::bytes::{size, slice, u32, until_zero};
use crate::generation::PcrValue;
use crate::pcr::Pcr;
use crate::pe::{self, Authority, SignedImage};
use crate::uefi::{SignatureLists, UefiVariables, variable_event};
use crate::{Digest, uefi};
use facts::Finding;

/// 605DAB50-E046-4300-ABB6-3DD810DD8B23, the vendor of shim's variables.
pub const SHIM_VENDOR: [u8; 16] = [
    0x50, 0xab, 0x5d, 0x60, 0x46, 0xe0, 0x00, 0x43, 0xab, 0xb6, 0x3d, 0xd8, 0x10, 0xdd, 0x8b, 0x23,
];

/// The generations below which shim starts nothing: `sbat,1,DATE\n…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SbatLevel(pub Vec<u8>);

impl SbatLevel {
    /// The date of the first line, `YYYYMMDDNN`.
    #[must_use]
    pub fn date(&self) -> Option<&str> {
        let text = str::from_utf8(&self.0).ok()?;
        let date = text.lines().next()?.strip_prefix("sbat,1,")?;
        (date.len() == 10 && date.bytes().all(|byte| byte.is_ascii_digit())).then_some(date)
    }
}

/// What a shim binary carries.
#[derive(Debug, Clone)]
pub struct Shim {
    pub authenticode: Digest,
    /// The vendor's certificate, DER; a shim with a vendor database has none.
    vendor: Vec<u8>,
    denied: Vec<u8>,
    /// What it applies by itself.
    pub automatic: SbatLevel,
    /// What it applies when it is told to take the latest.
    pub latest: SbatLevel,
}

fn refused(what: &str) -> Finding {
    Finding::new("REF-SHIM", "this shim's measurements cannot be predicted")
        .expected("a shim of version 15.8 or later with one vendor certificate")
        .observed(what)
        .next("name shimx64.efi.signed of the package shim-signed")
}

impl Shim {
    /// # Errors
    /// `REF-PE…`, `REF-SHIM`.
    pub fn parse(bytes: &[u8]) -> Result<Self, Finding> {
        let image = pe::Image::parse(bytes)?;
        let section = |name: &'static str| {
            let found = image.section(name)?;
            found
                .map(|section| section.raw)
                .ok_or_else(|| refused(&format!("no section {name}")))
        };
        // cert_table: sizes of what is authorized and denied, then their offsets in the section.
        let table = section(".vendor_cert")?;
        let part = |length: usize, offset: usize| {
            slice(table, size(table, offset)?, size(table, length)?).map(<[u8]>::to_vec)
        };
        let vendor = part(0, 8).ok_or_else(|| refused("a damaged .vendor_cert"))?;
        let denied = part(4, 12).ok_or_else(|| refused("a damaged .vendor_cert"))?;
        if vendor.first() != Some(&0x30) {
            return Err(refused("a vendor database in place of a certificate"));
        }
        let levels = section(".sbatlevel")?;
        let (automatic, latest) = sbat_levels(levels).ok_or_else(|| refused("no .sbatlevel"))?;
        Ok(Self {
            authenticode: image.authenticode(),
            vendor,
            denied,
            automatic,
            latest,
        })
    }

    /// The vendor's certificate, DER.
    #[must_use]
    pub fn vendor(&self) -> &[u8] {
        &self.vendor
    }

    /// `MokListRT` as shim makes it: what was enrolled on the machine, then the vendor's certificate.
    #[must_use]
    pub fn mok_list(&self, variables: &UefiVariables) -> Vec<u8> {
        let mut list = variables.data(&SHIM_VENDOR, "MokList").to_vec();
        list.extend(uefi::x509_list(&SHIM_VENDOR, &self.vendor));
        list
    }

    /// PCR 14: `MokList`, `MokListX`, `MokSBState` where the machine has one, `MokListTrusted`.
    #[must_use]
    pub fn pcr14(&self, variables: &UefiVariables) -> PcrValue {
        let mut denied = variables.data(&SHIM_VENDOR, "MokListX").to_vec();
        denied.extend(&self.denied);
        let mut pcr = Pcr::new(14).measure("MokList", &self.mok_list(variables));
        if !denied.is_empty() {
            pcr = pcr.measure("MokListX", &denied);
        }
        let state = variables.data(&SHIM_VENDOR, "MokSBState");
        if !state.is_empty() {
            pcr = pcr.measure("MokSBState", state);
        }
        let trusted = variables.data(&SHIM_VENDOR, "MokListTrusted");
        let trusted = if trusted.is_empty() { &[1] } else { trusted };
        pcr.measure("MokListTrusted", trusted).finish()
    }

    /// What shim adds to PCR 7: the revocation level, then the entry under which it lets `image` run.
    /// The level is the machine's own if that is newer than the automatic one.
    ///
    /// # Errors
    /// `REF-IMAGE-AUTHORITY` when shim would not let the image run.
    pub fn extend_pcr7(
        &self,
        pcr: Pcr,
        variables: &UefiVariables,
        image: &pe::Image<'_>,
    ) -> Result<Pcr, Finding> {
        let set = SbatLevel(until_zero(variables.data(&SHIM_VENDOR, "SbatLevelRT")).to_vec());
        let level = match (set.date(), self.automatic.date()) {
            (Some(set_date), Some(automatic)) if set_date > automatic => &set,
            _ => &self.automatic,
        };
        let authority = self.authority(variables, image)?;
        let event = variable_event(&SHIM_VENDOR, "SbatLevel", &level.0);
        let pcr = pcr.measure("SbatLevel", &event);
        let event = variable_event(&authority.vendor, authority.variable, &authority.data);
        Ok(pcr.measure(format!("authority in {}", authority.variable), &event))
    }

    /// Under which entry shim lets `image` run: its order is `db`, then `MokListRT`.
    fn authority(
        &self,
        variables: &UefiVariables,
        image: &pe::Image<'_>,
    ) -> Result<Authority, Finding> {
        if let Ok(authority) = variables.authority(image) {
            return Ok(authority);
        }
        let list = self.mok_list(variables);
        let lists = SignatureLists::parse(&list)?;
        for signature in image.signatures()? {
            let Ok(signed) = SignedImage::verify(image, signature) else {
                continue;
            };
            if let Some(data) = lists.accepts(&signed) {
                return Ok(Authority {
                    variable: "MokListRT",
                    vendor: SHIM_VENDOR,
                    data,
                });
            }
        }
        Err(uefi::no_authority("db or shim's MOK list"))
    }
}

/// A version, then where the two levels begin, counted from behind the version.
fn sbat_levels(section: &[u8]) -> Option<(SbatLevel, SbatLevel)> {
    if u32(section, 0)? != 0 {
        return None;
    }
    let level = |field: usize| {
        let start = size(section, field)?.checked_add(4)?;
        let level = SbatLevel(until_zero(section.get(start..)?).to_vec());
        level.date().is_some().then_some(level)
    };
    Some((level(4)?, level(8)?))
}
