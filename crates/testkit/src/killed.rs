//! Processes that are killed in the middle of what they do: as soon as the disk shows one of their steps. A moment that is
//! chosen by the clock falls before the first step or behind the last one, depending on the machine and on who else is on it.

use std::collections::BTreeMap;
use std::io::Result;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What tells one file from another that was put in its place, or from itself before somebody wrote to it.
type Mark = (u64, u64, i64, i64);

/// Starts `command`, and kills it as soon as something below `place`, or the file there, is another than before. True if
/// it was killed; false if it had ended by itself.
///
/// # Errors
/// When the process cannot be started.
pub fn at_change(command: &mut Command, place: &Path) -> Result<bool> {
    let before = look(place);
    let mut child = command.spawn()?;
    while look(place) == before {
        if child.try_wait()?.is_some() {
            return Ok(false);
        }
    }
    child.kill()?;
    Ok(child.wait()?.signal().is_some())
}

fn look(place: &Path) -> BTreeMap<PathBuf, Mark> {
    let mut found = BTreeMap::new();
    add(place, &mut found);
    found
}

/// What goes away meanwhile is not there.
fn add(place: &Path, found: &mut BTreeMap<PathBuf, Mark>) {
    let Ok(metadata) = std::fs::symlink_metadata(place) else {
        return;
    };
    if metadata.is_dir() {
        for entry in std::fs::read_dir(place).into_iter().flatten().flatten() {
            add(&entry.path(), found);
        }
    } else {
        let mark = (
            metadata.ino(),
            metadata.len(),
            metadata.mtime(),
            metadata.mtime_nsec(),
        );
        found.insert(place.to_owned(), mark);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, folder: &Path) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]).current_dir(folder);
        command
    }

    #[test]
    fn who_has_taken_a_step_is_killed_after_it_and_who_takes_none_ends() {
        let folder = crate::temp_dir().unwrap();
        let place = folder.path().join("state");
        std::fs::create_dir(&place).unwrap();
        for step in [
            "echo 1 > state/a",
            "echo 12 > state/a",
            "echo 2 > state/b; mv state/b state/a",
            "rm state/a",
        ] {
            let script = format!("{step}; exec sleep 600");
            assert!(at_change(&mut shell(&script, folder.path()), &place).unwrap());
        }
        let mut other = shell("echo 1 > beside", folder.path());
        assert!(!at_change(&mut other, &place).unwrap());
        assert!(folder.path().join("beside").exists());
    }
}
