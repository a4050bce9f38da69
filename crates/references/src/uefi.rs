//! UEFI variables as a machine keeps them, and the PCR 7 that follows from them (UEFI 2.10, section 32;
//! TCG PC Client Platform Firmware Profile 1.06, section 3.3.4.8).

mod signatures;
mod varstore;

pub use signatures::{SignatureLists, x509_list};

use crate::Digest;
use crate::boot::Shim;
use crate::bytes;
use crate::generation::PcrValue;
use crate::pcr::Pcr;
use crate::pe::{Authority, Image, SignedImage};
use facts::Finding;
use std::collections::BTreeMap;

/// 8BE4DF61-93CA-11D2-AA0D-00E098032B8C: `SecureBoot`, `PK`, `KEK`.
pub const GLOBAL: [u8; 16] = [
    0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c,
];
/// D719B2CB-3D3A-4596-A3BC-DAD00E67656F: `db`, `dbx`, `dbt`.
pub const SECURITY_DATABASE: [u8; 16] = [
    0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f,
];
/// F0A30BC7-AF08-4556-99C4-001009C93A44, EDK II: `SecureBootEnable`.
const EDK2_ENABLE: [u8; 16] = [
    0xc7, 0x0b, 0xa3, 0xf0, 0x08, 0xaf, 0x56, 0x45, 0x99, 0xc4, 0x00, 0x10, 0x09, 0xc9, 0x3a, 0x44,
];
/// What firmware measures before the separator, in order.
const MEASURED: [(&str, [u8; 16]); 5] = [
    ("SecureBoot", GLOBAL),
    ("PK", GLOBAL),
    ("KEK", GLOBAL),
    ("db", SECURITY_DATABASE),
    ("dbx", SECURITY_DATABASE),
];
const MOST_VARIABLES: usize = 4096;
/// dbx of a patched machine has some 25 KB.
const LARGEST_VARIABLE: usize = 1024 * 1024;

/// Variables by vendor and name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UefiVariables(BTreeMap<([u8; 16], String), Vec<u8>>);

fn refused(what: impl Into<String>) -> Finding {
    Finding::new("REF-UEFI-VARIABLES", "the UEFI variables cannot be read")
        .expected("files of efivarfs, or a variable store of EDK II")
        .observed(what)
        .next("copy /sys/firmware/efi/efivars of the machine, or name its OVMF_VARS file")
}

/// Neither certificate nor digest of the image is allowed.
pub(crate) fn no_authority(databases: &str) -> Finding {
    Finding::new(
        "REF-IMAGE-AUTHORITY",
        "Secure Boot would not start this image",
    )
    .expected(format!("a signature or digest that {databases} allows"))
    .observed("none")
    .next("sign the image with a key whose certificate is enrolled, or enrol that certificate")
}

impl UefiVariables {
    #[must_use]
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Sets a variable, replacing what it was.
    ///
    /// # Errors
    /// `REF-UEFI-VARIABLES` beyond 4096 variables or 1 MiB.
    pub fn set(&mut self, vendor: [u8; 16], name: &str, data: Vec<u8>) -> Result<(), Finding> {
        if data.len() > LARGEST_VARIABLE || self.0.len() == MOST_VARIABLES {
            return Err(refused("too many or too large variables"));
        }
        self.0.insert((vendor, name.to_owned()), data);
        Ok(())
    }

    /// One file of efivarfs: its name is `NAME-GUID`, its content four bytes of attributes and the data.
    ///
    /// # Errors
    /// `REF-UEFI-VARIABLES`.
    pub fn add_efivarfs(&mut self, file_name: &str, content: &[u8]) -> Result<(), Finding> {
        let not = || refused(format!("a file {file_name:?}"));
        let split = file_name.len().checked_sub(37).ok_or_else(not)?;
        let (name, guid) = file_name.split_at_checked(split).ok_or_else(not)?;
        let guid = guid
            .strip_prefix('-')
            .and_then(parse_guid)
            .ok_or_else(not)?;
        let (_attributes, data) = content.split_first_chunk::<4>().ok_or_else(not)?;
        self.set(guid, name, data.to_vec())
    }

    /// The variable store of OVMF (`OVMF_VARS*.fd`) or another build of EDK II. `SecureBoot` is not stored;
    /// it is what the firmware will make of what is.
    ///
    /// # Errors
    /// `REF-UEFI-VARIABLES`.
    pub fn from_varstore(volume: &[u8]) -> Result<Self, Finding> {
        let mut variables = Self::new();
        let stored = varstore::variables(volume).ok_or_else(|| refused("no variable store"))?;
        for (vendor, name, data) in stored {
            variables.set(vendor, &name, data)?;
        }
        let enabled = variables.data(&EDK2_ENABLE, "SecureBootEnable") == [1];
        let owned = !variables.data(&GLOBAL, "PK").is_empty();
        let secure_boot = u8::from(enabled && owned);
        variables.set(GLOBAL, "SecureBoot", vec![secure_boot])?;
        Ok(variables)
    }

    /// Empty if there is no such variable, as firmware measures it.
    #[must_use]
    pub fn data(&self, vendor: &[u8; 16], name: &str) -> &[u8] {
        self.0
            .get(&(*vendor, name.to_owned()))
            .map_or(&[], Vec::as_slice)
    }

    /// SHA-256 over every variable in order, by which two dumps are told apart.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut hash = crypto::Sha256::new();
        for ((vendor, name), data) in &self.0 {
            let event = variable_event(vendor, name, data);
            hash.update(&u64::try_from(event.len()).unwrap_or(u64::MAX).to_le_bytes());
            hash.update(&event);
        }
        Digest(hash.finish())
    }

    #[must_use]
    pub fn secure_boot(&self) -> bool {
        self.data(&GLOBAL, "SecureBoot") == [1]
    }

    /// PCR 7 up to its separator: the state of Secure Boot and its databases.
    ///
    /// # Errors
    /// `REF-UEFI-VARIABLES` when the dump lacks `SecureBoot`, so that nothing is known of its state.
    pub fn pcr7(&self) -> Result<Pcr, Finding> {
        if self.data(&GLOBAL, "SecureBoot").is_empty() {
            return Err(refused("no variable SecureBoot"));
        }
        let mut pcr = Pcr::new(7);
        for (name, vendor) in MEASURED {
            let event = variable_event(&vendor, name, self.data(&vendor, name));
            pcr = pcr.measure(name, &event);
        }
        let timestamps = self.data(&SECURITY_DATABASE, "dbt");
        if !timestamps.is_empty() {
            let event = variable_event(&SECURITY_DATABASE, "dbt", timestamps);
            pcr = pcr.measure("dbt", &event);
        }
        Ok(pcr.separator())
    }

    /// PCR 7 when firmware starts `image` itself; without Secure Boot no authority is measured.
    ///
    /// # Errors
    /// `REF-UEFI-VARIABLES`, `REF-PE`, `REF-IMAGE-REVOKED`, `REF-IMAGE-AUTHORITY`.
    pub fn pcr7_of(&self, image: &Image<'_>) -> Result<PcrValue, Finding> {
        Ok(self.started(image)?.finish())
    }

    /// PCR 7 when these images are started one after the other by `LoadImage`: an entry of `db` is measured when it
    /// first lets one run.
    ///
    /// # Errors
    /// As [`UefiVariables::pcr7_of`].
    pub fn pcr7_of_all(&self, images: &[&Image<'_>]) -> Result<PcrValue, Finding> {
        let mut pcr = self.pcr7()?;
        let mut seen = Vec::new();
        for image in images.iter().filter(|_| self.secure_boot()) {
            let authority = self.authority(image)?;
            if seen.contains(&authority.data) {
                continue;
            }
            let event = variable_event(&authority.vendor, authority.variable, &authority.data);
            pcr = pcr.measure(format!("authority in {}", authority.variable), &event);
            seen.push(authority.data);
        }
        Ok(pcr.finish())
    }

    /// PCR 7 when firmware starts `shim`, and shim starts `next` and then only what `next`'s authority
    /// also signed.
    ///
    /// # Errors
    /// As [`UefiVariables::pcr7_of`].
    pub fn pcr7_through_shim(
        &self,
        shim_image: &Image<'_>,
        shim: &Shim,
        next: &Image<'_>,
    ) -> Result<PcrValue, Finding> {
        let pcr = self.started(shim_image)?;
        if !self.secure_boot() {
            return Err(refused("a boot through shim without Secure Boot"));
        }
        Ok(shim.extend_pcr7(pcr, self, next)?.finish())
    }

    /// PCR 7 of firmware that let its first image run under `authority`.
    ///
    /// # Errors
    /// As [`UefiVariables::pcr7`].
    pub fn pcr7_under(&self, authority: &Authority) -> Result<Pcr, Finding> {
        let event = variable_event(&authority.vendor, authority.variable, &authority.data);
        let what = format!("authority in {}", authority.variable);
        Ok(self.pcr7()?.measure(what, &event))
    }

    fn started(&self, image: &Image<'_>) -> Result<Pcr, Finding> {
        if self.secure_boot() {
            self.pcr7_under(&self.authority(image)?)
        } else {
            self.pcr7()
        }
    }

    /// The entry of `db` under which firmware lets `image` run; the first that fits, as EDK II looks.
    ///
    /// # Errors
    /// `REF-IMAGE-REVOKED` when `dbx` denies it, `REF-IMAGE-AUTHORITY` when `db` does not allow it.
    pub fn authority(&self, image: &Image<'_>) -> Result<Authority, Finding> {
        let allowed = SignatureLists::parse(self.data(&SECURITY_DATABASE, "db"))?;
        let denied = SignatureLists::parse(self.data(&SECURITY_DATABASE, "dbx"))?;
        let digest = image.authenticode();
        let revoked = |what: &str| {
            Finding::new("REF-IMAGE-REVOKED", "dbx denies this image")
                .expected("an image that is not revoked")
                .observed(what)
                .next("import the image that replaced it")
        };
        if denied.digest(&digest).is_some() {
            return Err(revoked(&format!("the digest {digest} in dbx")));
        }
        for signature in image.signatures()? {
            let Ok(signed) = SignedImage::verify(image, signature) else {
                continue;
            };
            if denied.denies(&signed) {
                return Err(revoked("a certificate of its signature in dbx"));
            }
            if let Some(data) = allowed.accepts(&signed) {
                return Ok(db(data));
            }
        }
        allowed
            .digest(&digest)
            .map(db)
            .ok_or_else(|| no_authority("db"))
    }
}

const fn db(data: Vec<u8>) -> Authority {
    Authority {
        variable: "db",
        vendor: SECURITY_DATABASE,
        data,
    }
}

/// `UEFI_VARIABLE_DATA` (TCG PFP, section 10.2.6): vendor, lengths of name and data, name, data.
#[must_use]
pub fn variable_event(vendor: &[u8; 16], name: &str, data: &[u8]) -> Vec<u8> {
    let wide: Vec<u16> = name.encode_utf16().collect();
    let length = |count: usize| u64::try_from(count).unwrap_or(u64::MAX).to_le_bytes();
    let name: Vec<u8> = wide.iter().flat_map(|unit| unit.to_le_bytes()).collect();
    [
        vendor.as_slice(),
        &length(wide.len()),
        &length(data.len()),
        &name,
        data,
    ]
    .concat()
}

/// `8be4df61-93ca-11d2-aa0d-00e098032b8c`, whose first three groups are little-endian in bytes.
#[must_use]
pub fn parse_guid(text: &str) -> Option<[u8; 16]> {
    let groups: Vec<&str> = text.split('-').collect();
    let [a, b, c, d, e] = *groups.as_slice() else {
        return None;
    };
    if [a.len(), b.len(), c.len(), d.len(), e.len()] != [8, 4, 4, 4, 12] {
        return None;
    }
    let mut bytes = Vec::with_capacity(16);
    for (group, little) in [(a, true), (b, true), (c, true), (d, false), (e, false)] {
        let mut part = crypto::hex::decode(group).ok()?;
        if little {
            part.reverse();
        }
        bytes.extend(part);
    }
    bytes::guid(&bytes, 0)
}
