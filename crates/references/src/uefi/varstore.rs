//! EDK II's store of authenticated variables in a firmware volume (`OVMF_VARS*.fd`): PI 1.8, volume 3,
//! section 3.2.1, and `MdeModulePkg/Include/Guid/VariableFormat.h`.

use crate::bytes::{guid, size, slice, u16};

/// AAF32C78-947B-439A-A180-2E144EC37792, gEfiAuthenticatedVariableGuid
const AUTHENTICATED: [u8; 16] = [
    0x78, 0x2c, 0xf3, 0xaa, 0x7b, 0x94, 0x9a, 0x43, 0xa1, 0x80, 0x2e, 0x14, 0x4e, 0xc3, 0x77, 0x92,
];
const STORE_HEADER: usize = 28;
const VARIABLE_HEADER: usize = 60;
const START: u16 = 0x55aa;
/// VAR_HEADER_VALID_ONLY and VAR_ADDED, neither in transition nor deleted.
const ADDED: u8 = 0x3f;
/// Being replaced: counts only where no other one was added.
const IN_TRANSITION: u8 = 0x3e;
const MOST: usize = 4096;
const LONGEST_NAME: usize = 1024;

type Variable = ([u8; 16], String, Vec<u8>);

/// Vendor, name and data of every variable that is in force.
pub(super) fn variables(volume: &[u8]) -> Option<Vec<Variable>> {
    if slice(volume, 40, 4)? != b"_FVH" {
        return None;
    }
    let store = volume.get(usize::from(u16(volume, 48)?)..)?;
    if guid(store, 0)? != AUTHENTICATED || slice(store, 20, 2)? != [0x5a, 0xfe] {
        return None;
    }
    let store = slice(store, 0, size(store, 16)?)?;
    let mut found: Vec<Variable> = Vec::new();
    let mut transitional = Vec::new();
    let mut at = STORE_HEADER;
    while u16(store, at) == Some(START) {
        let (state, variable, next) = variable(store, at)?;
        match state {
            ADDED => found.push(variable),
            IN_TRANSITION => transitional.push(variable),
            _ => {}
        }
        if found.len().saturating_add(transitional.len()) > MOST {
            return None;
        }
        at = next.checked_next_multiple_of(4)?;
    }
    for (vendor, name, data) in transitional {
        let replaced = found
            .iter()
            .any(|(other, known, _)| *other == vendor && *known == name);
        if !replaced {
            found.push((vendor, name, data));
        }
    }
    Some(found)
}

fn variable(store: &[u8], at: usize) -> Option<(u8, Variable, usize)> {
    let header = slice(store, at, VARIABLE_HEADER)?;
    let state = *header.get(2)?;
    let (name_size, data_size) = (size(header, 36)?, size(header, 40)?);
    if name_size > LONGEST_NAME {
        return None;
    }
    let name_at = at.checked_add(VARIABLE_HEADER)?;
    let data_at = name_at.checked_add(name_size)?;
    let units: Vec<u16> = slice(store, name_at, name_size)?
        .as_chunks::<2>()
        .0
        .iter()
        .map(|unit| u16::from_le_bytes(*unit))
        .take_while(|unit| *unit != 0)
        .collect();
    let variable = (
        guid(header, 44)?,
        String::from_utf16(&units).ok()?,
        slice(store, data_at, data_size)?.to_vec(),
    );
    Some((state, variable, data_at.checked_add(data_size)?))
}
