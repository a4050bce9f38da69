//! The estate folder as a map from path to text, and its one canonical byte form.
//! Reading a directory is the shell's business.

use crate::problem::Problem;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Sum of all paths and texts, in bytes.
pub const MAX_TOTAL_BYTES: usize = 16 * 1024 * 1024;
pub const MAX_FILES: usize = 2_000;
/// Escapes in JSON can make a blob longer than what it holds.
const MAX_BLOB_BYTES: usize = 6 * MAX_TOTAL_BYTES;
const MAX_PATH_BYTES: usize = 200;

/// Paths are relative, with `/`, and of the characters `A–Z a–z 0–9 . _ -`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EstateFiles(pub BTreeMap<String, String>);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Blob {
    v: u32,
    files: BTreeMap<String, String>,
}

impl EstateFiles {
    #[must_use]
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    pub fn insert(&mut self, path: impl Into<String>, text: impl Into<String>) {
        self.0.insert(path.into(), text.into());
    }

    /// An estate in which the administrator `uid` may do everything and no identity exists: what a
    /// server starts from.
    #[must_use]
    pub fn bootstrap(trust_domain: &str, uid: u32) -> Self {
        let mut files = Self::new();
        files.insert(
            "estate.toml",
            format!("trust_domain = \"{trust_domain}\"\n"),
        );
        files.insert(
            "policies/administrators.cedar",
            format!(
                "@id(\"the administrator who set this up\")\n\
                 permit (principal == Admin::\"uid:{uid}\", action, resource);\n"
            ),
        );
        files
    }

    /// `{"v":1,"files":{"path":"text",…}}`: keys in byte order, no white space.
    #[must_use]
    pub fn to_blob(&self) -> Vec<u8> {
        let blob = Blob {
            v: 1,
            files: self.0.clone(),
        };
        serde_json::to_vec(&blob).unwrap_or_default()
    }

    /// Refuses every byte string that [`EstateFiles::to_blob`] would not produce, so that one estate
    /// has one digest.
    ///
    /// # Errors
    /// `ESTATE-BLOB-…`, or the problems of [`EstateFiles::check`].
    pub fn from_blob(blob: &[u8]) -> Result<Self, Problem> {
        if blob.len() > MAX_BLOB_BYTES {
            return Err(Problem::new(
                "ESTATE-BLOB-SIZE",
                "",
                0,
                format!("{} bytes; at most {MAX_BLOB_BYTES}", blob.len()),
            ));
        }
        let parsed: Blob = serde_json::from_slice(blob)
            .map_err(|error| Problem::new("ESTATE-BLOB-FORM", "", 0, error.to_string()))?;
        if parsed.v != 1 {
            let message = format!("format {}; this version reads 1", parsed.v);
            return Err(Problem::new("ESTATE-BLOB-VERSION", "", 0, message));
        }
        let files = Self(parsed.files);
        if files.to_blob() != blob {
            return Err(Problem::new(
                "ESTATE-BLOB-CANONICAL",
                "",
                0,
                "the bytes are not the canonical form of the files they hold",
            ));
        }
        files.check()?;
        Ok(files)
    }

    /// SHA-256 of the blob, lower-case hex: the estate's version.
    #[must_use]
    pub fn version(&self) -> String {
        crypto::hex::encode(&crypto::sha256(&self.to_blob()))
    }

    /// Size and path limits; nothing is parsed.
    ///
    /// # Errors
    /// `ESTATE-FILES-COUNT`, `ESTATE-FILES-SIZE`, `ESTATE-FILES-PATH`.
    pub fn check(&self) -> Result<(), Problem> {
        if self.0.len() > MAX_FILES {
            let message = format!("{} files; at most {MAX_FILES}", self.0.len());
            return Err(Problem::new("ESTATE-FILES-COUNT", "", 0, message));
        }
        let total: usize = self
            .0
            .iter()
            .map(|(path, text)| path.len() + text.len())
            .sum();
        if total > MAX_TOTAL_BYTES {
            let message = format!("{total} bytes in all; at most {MAX_TOTAL_BYTES}");
            return Err(Problem::new("ESTATE-FILES-SIZE", "", 0, message));
        }
        match self.0.keys().find(|path| !is_plain(path)) {
            None => Ok(()),
            Some(path) => Err(Problem::new(
                "ESTATE-FILES-PATH",
                path.chars().take(MAX_PATH_BYTES).collect::<String>(),
                0,
                "a path is relative, without `..`, and of letters, digits, `.`, `_`, `-` and `/`",
            )),
        }
    }
}

fn is_plain(path: &str) -> bool {
    path.len() <= MAX_PATH_BYTES
        && path.split('/').all(|segment| {
            !segment.is_empty()
                && !segment.starts_with('.')
                && segment
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_estate_has_one_blob() {
        let files = EstateFiles::bootstrap("example.org", 0);
        let blob = files.to_blob();
        assert_eq!(EstateFiles::from_blob(&blob).unwrap(), files);
        let mut spaced = blob.clone();
        spaced.push(b' ');
        assert_eq!(
            EstateFiles::from_blob(&spaced).unwrap_err().code,
            "ESTATE-BLOB-CANONICAL"
        );
        let twice = br#"{"v":1,"files":{"a.toml":"1","a.toml":"2"}}"#;
        assert_eq!(
            EstateFiles::from_blob(twice).unwrap_err().code,
            "ESTATE-BLOB-CANONICAL"
        );
    }

    #[test]
    fn paths_stay_inside_the_folder() {
        for path in [
            "../etc/passwd",
            "/etc/passwd",
            "a//b",
            "a/./b",
            "pölicy.cedar",
            "",
        ] {
            let mut files = EstateFiles::new();
            files.insert(path, "");
            assert_eq!(
                files.check().unwrap_err().code,
                "ESTATE-FILES-PATH",
                "{path}"
            );
        }
    }
}
