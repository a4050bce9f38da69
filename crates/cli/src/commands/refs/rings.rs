//! Rings that are no pool of the estate that a file of references goes into.

use crate::commands::estate as folder;
use crate::output;
use estate::{EstateFiles, unknown_rings};
use facts::Finding;
use std::path::Path;

/// The first of `rings` that no machine of the estate can be in.
pub(super) fn unknown(files: &EstateFiles, rings: &[String]) -> Option<Finding> {
    let (ring, next) = unknown_rings(files, rings).into_iter().next()?;
    Some(
        Finding::new("SEAL-RING", "this is no ring of machines")
            .expected("a pool of the estate")
            .observed(ring)
            .next(next),
    )
}

/// Warns where `output` lies in an estate's `references` folder that has no such pool. The pool may be declared
/// next, so the file is written all the same.
pub(super) fn warn(output: &Path, rings: &[String]) {
    let estate = output
        .parent()
        .filter(|parent| parent.file_name().is_some_and(|name| name == "references"))
        .and_then(Path::parent);
    let Some(estate) = estate else {
        return;
    };
    let estate = if estate.as_os_str().is_empty() {
        Path::new(".")
    } else {
        estate
    };
    let Ok(files) = folder::read(estate) else {
        return;
    };
    for (ring, next) in unknown_rings(&files, rings) {
        output::note(format_args!(
            "SEAL-RING: no machine of {} can be in ring {ring:?}: no such pool is declared ({next})",
            estate.display()
        ));
    }
}
