//! DER written by hand.

use facts::Timestamp;

pub(crate) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut bytes = vec![tag];
    match content.len() {
        short @ 0..0x80 => bytes.push(short as u8),
        long @ 0x80..0x100 => bytes.extend([0x81, long as u8]),
        longer => bytes.extend([0x82, (longer >> 8) as u8, longer as u8]),
    }
    bytes.extend(content);
    bytes
}

pub(crate) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    element(0x30, parts)
}

/// `1.2.840.10045.4.3.2`
pub(crate) fn oid(text: &str) -> Vec<u8> {
    let arcs: Vec<u64> = text.split('.').map(|arc| arc.parse().unwrap()).collect();
    let mut bytes = vec![(arcs[0] * 40 + arcs[1]) as u8];
    for arc in &arcs[2..] {
        let mut groups = vec![(arc & 0x7f) as u8];
        let mut rest = arc >> 7;
        while rest > 0 {
            groups.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        bytes.extend(groups.iter().rev());
    }
    element(0x06, &[&bytes])
}

/// A positive INTEGER.
pub(crate) fn integer(bytes: &[u8]) -> Vec<u8> {
    let zero: &[u8] = if bytes.first().is_some_and(|first| *first >= 0x80) {
        &[0]
    } else {
        &[]
    };
    element(0x02, &[zero, bytes])
}

pub(crate) fn octets(bytes: &[u8]) -> Vec<u8> {
    element(0x04, &[bytes])
}

pub(crate) fn bits(bytes: &[u8]) -> Vec<u8> {
    element(0x03, &[&[0], bytes])
}

pub(crate) fn utf8(text: &str) -> Vec<u8> {
    element(0x0c, &[text.as_bytes()])
}

/// `UTCTime`, as certificates write it until 2049.
pub(crate) fn utc(at: Timestamp) -> Vec<u8> {
    element(0x17, &[&digits(at).as_bytes()[2..]])
}

pub(crate) fn generalized(at: Timestamp) -> Vec<u8> {
    element(0x18, &[digits(at).as_bytes()])
}

/// `20251009085320Z`
fn digits(at: Timestamp) -> String {
    let shown = at.to_string();
    let seconds = shown.split('.').next().unwrap();
    let digits: String = seconds.chars().filter(char::is_ascii_digit).collect();
    digits + "Z"
}

/// A name of one organisation and one common name.
pub(crate) fn name(organisation: &str, common: &str) -> Vec<u8> {
    let part = |kind: &str, text: &str| element(0x31, &[&sequence(&[&oid(kind), &utf8(text)])]);
    sequence(&[&part("2.5.4.10", organisation), &part("2.5.4.3", common)])
}

/// `ecdsa-with-SHA256` or `-SHA384`.
pub(crate) fn ecdsa(sha384: bool) -> Vec<u8> {
    let arc = if sha384 {
        "1.2.840.10045.4.3.3"
    } else {
        "1.2.840.10045.4.3.2"
    };
    sequence(&[&oid(arc)])
}

pub(crate) fn extension(kind: &str, critical: bool, value: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if critical { &[1, 1, 0xff] } else { &[] };
    sequence(&[&oid(kind), critical, &octets(value)])
}
