//! The path of an HTTP request, read so that nobody behind reads another one.
//!
//! Servers differ in what they make of `//`, `/../`, `\`, and of characters that are percent-encoded though
//! they need not be. A path that two could read as two is refused.

use crate::names::shown;
use crate::question::Refused;
use facts::Finding;

/// Bytes of a path, its query left out.
const LONGEST: usize = 4096;

/// The path without its query, decoded once.
///
/// # Errors
/// `PDP-PATH`.
pub fn plain(raw: &str) -> Result<String, Refused> {
    let wrong = |what: &str| {
        Refused::malformed(
            Finding::new("PDP-PATH", format!("the path {what}"))
                .expected("one that every server reads alike")
                .observed(shown(raw))
                .next("have Envoy normalise paths: normalize_path, merge_slashes, path_with_escaped_slashes_action"),
        )
    };
    let path = raw.split('?').next().unwrap_or_default();
    if path.len() > LONGEST {
        return Err(wrong("is too long"));
    }
    let decoded = decode(path)
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| wrong("is not percent-encoded UTF-8"))?;
    let slashes = |text: &str| text.bytes().filter(|byte| *byte == b'/').count();
    if slashes(&decoded) != slashes(path) {
        return Err(wrong("has an encoded slash"));
    }
    let odd = |letter: char| letter.is_control() || matches!(letter, '\\' | '#' | ';');
    if decoded.chars().any(odd) {
        return Err(wrong("has a character that servers read differently"));
    }
    // Decoded again it would be another.
    if twice(&decoded) {
        return Err(wrong("is encoded twice"));
    }
    let relative = decoded
        .strip_prefix('/')
        .ok_or_else(|| wrong("begins with no slash"))?;
    let mut segments = relative.split('/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        if matches!(segment, "." | "..") || segment.is_empty() && !last {
            return Err(wrong("has an empty segment, `.` or `..`"));
        }
    }
    Ok(decoded)
}

/// Whether what was decoded holds an escape of a character that counts.
fn twice(decoded: &str) -> bool {
    let lower = decoded.to_ascii_lowercase();
    ["%2e", "%2f", "%5c", "%25", "%00", "%3b", "%23", "%3f"]
        .iter()
        .any(|escape| lower.contains(escape))
}

/// Percent-decoded; `None` where an escape is broken.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
        out.push(u8::try_from(high * 16 + low).ok()?);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_every_server_reads_alike_is_decoded_once() {
        for (raw, expected) in [
            ("/", "/"),
            ("/a/b/", "/a/b/"),
            ("/a%20b?c=%2F..", "/a b"),
            ("/%C3%A9", "/é"),
            ("/a.b/..c", "/a.b/..c"),
            ("/100%25", "/100%"),
        ] {
            assert_eq!(plain(raw).unwrap(), expected, "{raw}");
        }
    }

    #[test]
    fn a_path_that_two_servers_read_as_two_is_refused() {
        for raw in [
            "",
            "a",
            "*",
            "//",
            "/a//b",
            "/.",
            "/..",
            "/a/../b",
            "/a/./b",
            "/%2e%2e/b",
            "/a%2Fb",
            "/a%2fb",
            "/a%5Cb",
            "/a\\b",
            "/a%00",
            "/a%0d%0aX",
            "/a;b/c",
            "/a#b",
            "/%",
            "/%zz",
            "/%e9",
            "/a%252Fb",
            "/%252e%252e/b",
            "/a%253f",
        ] {
            let refused = plain(raw).unwrap_err();
            assert_eq!(refused.finding.code, "PDP-PATH", "{raw}");
        }
        assert!(plain(&format!("/{}", "a".repeat(LONGEST))).is_err());
    }
}
