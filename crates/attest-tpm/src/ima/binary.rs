//! `binary_runtime_measurements`: PCR, SHA-1 of the template's data, template's name, data.

use super::entry::{ENTRIES, Entry, Head, malformed, too_many};
use super::template;
use crate::bytes::Bytes;
use facts::Finding;
use std::borrow::Cow;

/// No template's name is longer; a list of all fields has 120 bytes.
const LONGEST_NAME: u32 = 256;

pub(super) fn parse(list: &[u8], first: u64) -> Result<Vec<Entry<'_>>, Finding> {
    let mut bytes = Bytes::new(list);
    let mut entries = Vec::new();
    let mut index = first;
    while !bytes.is_empty() {
        if entries.len() >= ENTRIES {
            return Err(too_many());
        }
        let at = bytes.at();
        let entry = entry(&mut bytes, index)
            .map_err(|problem| malformed(index, &format!("at byte {at}"), problem))?;
        entries.push(entry);
        index = index.saturating_add(1);
    }
    Ok(entries)
}

/// The part of `list` that begins with entry `entries`; absent if it has fewer, or cannot be read as far.
/// Nothing is verified: for the machine itself, which sends what is new.
#[must_use]
pub fn after(list: &[u8], entries: u64) -> Option<&[u8]> {
    let mut bytes = Bytes::new(list);
    for _ in 0..entries {
        skip(&mut bytes)?;
    }
    Some(bytes.rest())
}

fn skip(bytes: &mut Bytes<'_>) -> Option<()> {
    bytes.u32()?;
    bytes.array::<20>()?;
    let length = bytes.u32().filter(|length| *length <= LONGEST_NAME)?;
    if bytes.take_u32(length)? == b"ima" {
        bytes.array::<20>()?;
    }
    let length = bytes.u32()?;
    bytes.take_u32(length).map(|_| ())
}

fn entry<'a>(bytes: &mut Bytes<'a>, index: u64) -> Result<Entry<'a>, &'static str> {
    const SHORT: &str = "it is cut off";
    let pcr = bytes.u32().ok_or(SHORT)?;
    let template_sha1 = *bytes.array::<20>().ok_or(SHORT)?;
    let length = bytes.u32().ok_or(SHORT)?;
    if length > LONGEST_NAME {
        return Err("a template's name that is too long");
    }
    let name = bytes.take_u32(length).ok_or(SHORT)?;
    let name = str::from_utf8(name).map_err(|_| "a template's name that is no text")?;
    let head = Head {
        index,
        pcr,
        template_sha1,
        template: Cow::Borrowed(name),
    };
    if name == "ima" {
        let digest = bytes.array::<20>().ok_or(SHORT)?;
        let length = bytes.u32().ok_or(SHORT)?;
        let name = bytes.take_u32(length).ok_or(SHORT)?;
        let (data, fields) = template::old(digest, name)?;
        return Entry::new(head, Cow::Owned(data), fields);
    }
    let length = bytes.u32().ok_or(SHORT)?;
    let data = bytes.take_u32(length).ok_or(SHORT)?;
    let fields = template::read(data, &head.fields()?)?;
    Entry::new(head, Cow::Borrowed(data), fields)
}
