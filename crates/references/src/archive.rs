//! The two archive formats of a Debian package and of an image layer, read from hostile bytes.

pub mod ar;
pub mod tar;

pub use tar::{Kind, Tar};

/// A path inside an archive as a machine would name it: absolute, without `.`; nothing if it could
/// lead out of the archive.
#[must_use]
pub fn absolute(path: &[u8]) -> Option<String> {
    let text = str::from_utf8(path).ok()?;
    let mut absolute = String::with_capacity(text.len().saturating_add(1));
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => return None,
            part if part.chars().any(char::is_control) => return None,
            part => {
                absolute.push('/');
                absolute.push_str(part);
            }
        }
    }
    if absolute.is_empty() {
        absolute.push('/');
    }
    Some(absolute)
}
