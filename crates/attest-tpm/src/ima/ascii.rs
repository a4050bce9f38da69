//! `ascii_runtime_measurements`: the same entries as text. What the kernel hashed is built again from
//! it; whether that was read rightly, the template's hash says.

use super::entry::{ENTRIES, Entry, Head, malformed, too_many};
use super::template::{self, Field};
use crypto::hex;
use facts::Finding;
use std::borrow::Cow;

pub(super) fn parse(text: &str, first: u64) -> Result<Vec<Entry<'static>>, Finding> {
    let mut entries = Vec::new();
    let mut index = first;
    for (number, line) in (1_usize..).zip(text.lines()) {
        if entries.len() >= ENTRIES {
            return Err(too_many());
        }
        let entry = entry(line, index)
            .map_err(|problem| malformed(index, &format!("line {number}"), problem))?;
        entries.push(entry);
        index = index.saturating_add(1);
    }
    Ok(entries)
}

fn entry(line: &str, index: u64) -> Result<Entry<'static>, &'static str> {
    const SHORT: &str = "it is cut off";
    let mut words = line.trim_start_matches(' ').splitn(4, ' ');
    let pcr = words.next().and_then(|word| word.parse().ok());
    let template_sha1 = words.next().and_then(bytes);
    let template = words.next().ok_or(SHORT)?;
    let rest = words.next().ok_or(SHORT)?;
    let head = Head {
        index,
        pcr: pcr.ok_or("a PCR that is no number")?,
        template_sha1: template_sha1
            .as_deref()
            .and_then(<[u8]>::as_array::<20>)
            .copied()
            .ok_or("a template's hash that is not SHA-1 in hexadecimal")?,
        template: Cow::Owned(template.to_owned()),
    };
    let fields = head.fields()?;
    let values = values(rest, &fields)?;
    if let [(Field::OldDigest, digest), (Field::Name, name)] = values.as_slice() {
        let digest = digest.as_array().ok_or("a digest that is not SHA-1")?;
        let name = name.strip_suffix(&[0]).unwrap_or(name);
        let (data, fields) = template::old(digest, name)?;
        return Entry::new(head, Cow::Owned(data), fields);
    }
    let data = template::write(&values).ok_or("a field that is too long")?;
    let read = template::read(&data, &fields)?;
    Entry::new(head, Cow::Owned(data), read)
}

/// Paths hold spaces. Only the digest stands before the path, and no other field holds one, so the path
/// is what is left when the others are taken away.
fn values(rest: &str, fields: &[Field]) -> Result<Vec<(Field, Vec<u8>)>, &'static str> {
    let short = "fewer fields than its template has";
    let (digest, after) = rest.split_once(' ').ok_or(short)?;
    let [first, Field::Name, others @ ..] = fields else {
        return Err("a template whose text form cannot be read");
    };
    let mut parts: Vec<&str> = after.rsplitn(others.len() + 1, ' ').collect();
    if parts.len() != others.len() + 1 {
        return Err(short);
    }
    parts.reverse();
    let mut values = vec![(*first, value(*first, digest)?)];
    for (field, part) in std::iter::once(&Field::Name).chain(others).zip(parts) {
        values.push((*field, value(*field, part)?));
    }
    Ok(values)
}

/// The bytes that the kernel has for what it prints.
fn value(field: Field, text: &str) -> Result<Vec<u8>, &'static str> {
    let not_hex = "a field that is not hexadecimal";
    match field {
        Field::OldDigest => bytes(text).ok_or(not_hex),
        Field::Digest | Field::TypedDigest | Field::UnsignedDigest if !text.is_empty() => {
            let (name, digest) = text
                .rsplit_once(':')
                .ok_or("a digest without its algorithm")?;
            let digest = bytes(digest).ok_or(not_hex)?;
            Ok([name.as_bytes(), b":\0", &digest].concat())
        }
        Field::Name => Ok([text.as_bytes(), &[0]].concat()),
        Field::Attribute => Err("a template whose text form cannot be read"),
        _ => bytes(text).ok_or(not_hex),
    }
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    hex::decode(text).ok()
}
