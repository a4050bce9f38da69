//! OVMF's variable store with keys of one's own enrolled and Secure Boot on: EDK II's authenticated variables
//! (`MdeModulePkg/Include/Guid/VariableFormat.h`) written behind those that the template has.

use super::run::{read, write};
use super::{GuestError, OVMF, Owner};
use std::path::{Path, PathBuf};

/// 8BE4DF61-93CA-11D2-AA0D-00E098032B8C
const GLOBAL: [u8; 16] = [
    0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c,
];
/// D719B2CB-3D3A-4596-A3BC-DAD00E67656F
const SECURITY_DATABASE: [u8; 16] = [
    0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f,
];
/// F0A30BC7-AF08-4556-99C4-001009C93A44, gEfiSecureBootEnableDisableGuid
const ENABLE: [u8; 16] = [
    0xc7, 0x0b, 0xa3, 0xf0, 0x08, 0xaf, 0x56, 0x45, 0x99, 0xc4, 0x00, 0x10, 0x09, 0xc9, 0x3a, 0x44,
];
/// A5C059A1-94E4-4AA7-87B5-AB155C2BF072, EFI_CERT_X509_GUID
const X509: [u8; 16] = [
    0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72,
];
/// Whose keys these are; any number will do.
const OWNER: [u8; 16] = *b"trilith testkit.";
/// Non-volatile, for boot services, at run time, authenticated by time.
const AUTHENTICATED: u32 = 0x27;
/// Non-volatile, for boot services.
const SETTING: u32 = 0x03;
const STORE_HEADER: usize = 28;
const VARIABLE_HEADER: usize = 60;
const START: [u8; 2] = [0xaa, 0x55];
/// 2024-01-01 00:00:00
const SINCE: [u8; 16] = [0xe8, 0x07, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// OVMF with Secure Boot, which every guest runs.
#[must_use]
pub fn code() -> PathBuf {
    Path::new(OVMF).join("OVMF_CODE_4M.secboot.fd")
}

/// The variables that come with Microsoft's keys enrolled, as on a machine from a shop.
#[must_use]
pub fn microsoft_variables() -> PathBuf {
    Path::new(OVMF).join("OVMF_VARS_4M.ms.fd")
}

/// Writes a variable store to `path` in which `owner` alone says what may start.
///
/// # Errors
/// When the template is not one, or files fail.
pub fn own_variables(owner: &Owner, path: &Path) -> Result<(), GuestError> {
    let template = Path::new(OVMF).join("OVMF_VARS_4M.fd");
    let mut volume = read(&template)?;
    let variables = [("PK", GLOBAL), ("KEK", GLOBAL), ("db", SECURITY_DATABASE)];
    let mut written = Vec::new();
    for (name, vendor) in variables {
        let list = x509_list(&owner.certificate_der(name)?);
        append(&mut written, name, &vendor, AUTHENTICATED, &list);
    }
    append(&mut written, "SecureBootEnable", &ENABLE, SETTING, &[1]);
    let free = end_of_variables(&volume).and_then(|at| {
        let end = at.checked_add(written.len())?;
        volume.get_mut(at..end)
    });
    let Some(free) = free.filter(|free| free.iter().all(|byte| *byte == 0xff)) else {
        return Err(GuestError::Form {
            path: template,
            what: "no variable store with room in it",
        });
    };
    free.copy_from_slice(&written);
    write(path, &volume)
}

/// Where the first variable that is not there would begin.
fn end_of_variables(volume: &[u8]) -> Option<usize> {
    let at = |offset: usize, length: usize| volume.get(offset..offset.checked_add(length)?);
    if at(40, 4)? != b"_FVH" {
        return None;
    }
    let store = usize::from(u16::from_le_bytes(at(48, 2)?.try_into().ok()?));
    let mut next = store.checked_add(STORE_HEADER)?;
    while at(next, 2)? == START {
        let size = |offset: usize| {
            let field = at(next.checked_add(offset)?, 4)?.try_into().ok()?;
            usize::try_from(u32::from_le_bytes(field)).ok()
        };
        let content = size(36)?.checked_add(size(40)?)?;
        next = next
            .checked_add(VARIABLE_HEADER)?
            .checked_add(content)?
            .checked_next_multiple_of(4)?;
    }
    Some(next)
}

fn append(store: &mut Vec<u8>, name: &str, vendor: &[u8; 16], attributes: u32, data: &[u8]) {
    let name: Vec<u8> = name
        .encode_utf16()
        .chain([0])
        .flat_map(u16::to_le_bytes)
        .collect();
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
    let since = if attributes == AUTHENTICATED {
        SINCE
    } else {
        [0; 16]
    };
    store.extend(START);
    store.extend([0x3f, 0]); // added
    store.extend(attributes.to_le_bytes());
    store.extend([0; 8]); // no monotonic count
    store.extend(since);
    store.extend([0; 4]); // no index of a public key
    store.extend(length(&name));
    store.extend(length(data));
    store.extend(vendor);
    store.extend(&name);
    store.extend(data);
    store.resize(store.len().next_multiple_of(4), 0xff);
}

/// `EFI_SIGNATURE_LIST` of one certificate (UEFI 2.10, section 32.4.1).
fn x509_list(certificate: &[u8]) -> Vec<u8> {
    let each = OWNER.len().saturating_add(certificate.len());
    let field = |size: usize| u32::try_from(size).unwrap_or(u32::MAX).to_le_bytes();
    let mut list = X509.to_vec();
    list.extend(field(each.saturating_add(28)));
    list.extend(field(0));
    list.extend(field(each));
    list.extend(OWNER);
    list.extend(certificate);
    list
}
