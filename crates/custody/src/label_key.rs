//! The key of blinded labels, in a file that nobody else reads.

use ledger::label::LabelKey;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Bytes of the file: 64 hex digits and a line's end.
const LONGEST: u64 = 65;

/// Reads one.
///
/// # Errors
/// What is wrong with the file, in words.
pub fn label_key(path: &Path) -> Result<LabelKey, String> {
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let kept = file.metadata().map_err(|error| error.to_string())?;
    let mode = kept.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(format!("its mode is {mode:04o}"));
    }
    let mut bytes = Vec::new();
    let read = file.take(LONGEST + 1).read_to_end(&mut bytes);
    read.map_err(|error| error.to_string())?;
    LabelKey::parse(&bytes).ok_or_else(|| "it is something else".to_owned())
}
