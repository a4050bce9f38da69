//! Changes files of this checkout and puts them back, whatever becomes of this process.
//!
//! What has to be put back is written down before a file is touched. It is put back when a mutant is done;
//! by a process of its own, the keeper, outside the terminal's group, when this one is gone without having
//! done so; and by the next run, should both have been killed. Meanwhile a lock keeps a second run away.
//! The keeper also ends the test that was running: of a mutant it may be one that never ends.

use super::catalogue::{Edit, Mutant};
use crate::shell::{Doing as _, Failure, Result, read, succeeds};
use crate::workspace::{read_text, root, target};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io::{Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};

/// This checkout, while its files may be changed.
pub(super) struct Checkout {
    keeper: Child,
}

/// Changes that are undone when this is dropped; `restore` also says whether that went well.
pub(super) struct Applied {
    restored: bool,
}

/// A file as it was and as it is now.
struct Change {
    file: String,
    before: String,
    after: String,
}

impl Checkout {
    /// Takes the lock and starts the keeper. Refused where git would not have the files as they are.
    pub(super) fn open(mutants: &[&Mutant]) -> Result<Self> {
        let folder = folder();
        std::fs::create_dir_all(&folder).doing(folder.display())?;
        let path = folder.join("lock");
        let lock = File::create(&path).doing(path.display())?;
        match lock.try_lock() {
            Ok(()) => (),
            Err(TryLockError::WouldBlock) => {
                return Err(Failure::new("mutants are run in this checkout already"));
            }
            Err(TryLockError::Error(error)) => return Err(error).doing(path.display()),
        }
        restore()?;
        refuse_uncommitted(mutants)?;
        let keeper = std::env::current_exe().doing("this program's path")?;
        let keeper = Command::new(keeper)
            .args(["mutants", "--restore-when-stdin-closes"])
            // Out of reach of the terminal's Ctrl-C.
            .process_group(0)
            .stdin(Stdio::piped())
            // It says nothing there; the lock is held until both are gone.
            .stdout(lock)
            .spawn()
            .doing("the process that puts files back")?;
        Ok(Self { keeper })
    }

    /// Changes the files as the mutant says.
    pub(super) fn apply(&mut self, mutant: &Mutant) -> Result<Applied> {
        let changes = changes(&mutant.edits, read_text)?;
        write_journal(&changes)?;
        let applied = Applied { restored: false };
        for change in &changes {
            std::fs::write(root().join(&change.file), &change.after).doing(&change.file)?;
        }
        Ok(applied)
    }

    /// Has the keeper end the process `pid` should this one be gone; with `None` there is none any more.
    pub(super) fn runs(&mut self, pid: Option<u32>) -> Result<()> {
        let Some(stdin) = &mut self.keeper.stdin else {
            return Ok(());
        };
        writeln!(stdin, "{}", pid.unwrap_or_default()).doing("the process that puts files back")
    }

    /// Lets the keeper go.
    pub(super) fn close(mut self) -> Result<()> {
        drop(self.keeper.stdin.take());
        let status = self
            .keeper
            .wait()
            .doing("the process that puts files back")?;
        if status.success() {
            return Ok(());
        }
        Err(Failure::new(format!(
            "the process that puts files back: {status}"
        )))
    }
}

impl Applied {
    pub(super) fn restore(mut self) -> Result<()> {
        self.restored = true;
        restore()
    }
}

impl Drop for Applied {
    fn drop(&mut self) {
        if !self.restored
            && let Err(failure) = restore()
        {
            eprintln!("error: {failure}");
        }
    }
}

/// The keeper: waits until the process that started it is gone, then puts back what it left changed and ends
/// the test that it left running.
pub(super) fn restore_when_stdin_closes() -> Result<ExitCode> {
    let mut told = String::new();
    std::io::stdin()
        .read_to_string(&mut told)
        .doing("waiting for the end of the run")?;
    restore()?;
    let running = told.lines().next_back().filter(|pid| *pid != "0");
    if let Some(pid) = running {
        let _ended = succeeds(Command::new("kill").args(["-KILL", pid]));
    }
    Ok(ExitCode::SUCCESS)
}

fn folder() -> PathBuf {
    target().join("mutants")
}

fn journal() -> PathBuf {
    folder().join("changed.json")
}

/// The files after all edits. Each finds its text exactly once, in what the edits before it left.
fn changes(edits: &[Edit], read: impl Fn(&str) -> Result<String>) -> Result<Vec<Change>> {
    let mut files: BTreeMap<&str, (String, String)> = BTreeMap::new();
    for edit in edits {
        let file = edit.file.as_str();
        if !files.contains_key(file) {
            let before = read(file)?;
            files.insert(file, (before.clone(), before));
        }
        let Some((_, after)) = files.get_mut(file) else {
            continue;
        };
        let count = after.matches(&edit.find).count();
        if count != 1 {
            return Err(
                Failure::new(format!("{file}: the text to find occurs {count} times"))
                    .next("cargo xtask tidy"),
            );
        }
        *after = after.replacen(&edit.find, &edit.replace, 1);
    }
    let changes = files.into_iter().map(|(file, (before, after))| Change {
        file: file.to_owned(),
        before,
        after,
    });
    Ok(changes.collect())
}

/// What git does not have could not be told from a mutant, nor be got back.
fn refuse_uncommitted(mutants: &[&Mutant]) -> Result<()> {
    let edits = mutants.iter().flat_map(|mutant| &mutant.edits);
    let mut git = Command::new("git");
    git.args(["status", "--porcelain", "--"])
        .args(edits.map(|edit| edit.file.as_str()))
        .current_dir(root());
    let changed = read(&mut git)?;
    if changed.is_empty() {
        return Ok(());
    }
    Err(
        Failure::new(format!("not committed, and to be mutated:\n{changed}"))
            .next("commit them, or run this in another `git worktree`"),
    )
}

fn write_journal(changes: &[Change]) -> Result<()> {
    let entries: Vec<_> = changes
        .iter()
        .map(|change| json!({"file": change.file, "before": change.before, "after": change.after}))
        .collect();
    let path = journal();
    let part = path.with_extension("part");
    std::fs::write(&part, Value::from(entries).to_string()).doing(part.display())?;
    std::fs::rename(&part, &path).doing(path.display())
}

/// Puts back what the journal names. A file keeps the time of that, not its old one: cargo has to build it
/// again.
fn restore() -> Result<()> {
    let path = journal();
    if !path.exists() {
        return Ok(());
    }
    let text = std::fs::read_to_string(&path).doing(path.display())?;
    for change in read_journal(&text)? {
        let now = read_text(&change.file)?;
        if now == change.after {
            std::fs::write(root().join(&change.file), &change.before).doing(&change.file)?;
        } else if now != change.before {
            let file = &change.file;
            return Err(
                Failure::new(format!("{file} was changed while it was mutated")).next(format!(
                    "see `git diff {file}`; then delete {}",
                    path.display()
                )),
            );
        }
    }
    std::fs::remove_file(&path).doing(path.display())
}

fn read_journal(text: &str) -> Result<Vec<Change>> {
    let journal: Value = serde_json::from_str(text).doing("the list of changed files")?;
    let word = |entry: &Value, key: &str| entry.get(key)?.as_str().map(str::to_owned);
    let entries = journal.as_array().map(|entries| {
        entries.iter().map(|entry| {
            Some(Change {
                file: word(entry, "file")?,
                before: word(entry, "before")?,
                after: word(entry, "after")?,
            })
        })
    });
    entries
        .and_then(Iterator::collect)
        .ok_or_else(|| Failure::new("the list of changed files has another shape than expected"))
}

#[cfg(test)]
mod tests {
    use super::{Edit, changes};

    fn edit(find: &str, replace: &str) -> Edit {
        Edit {
            file: "a.rs".to_owned(),
            find: find.to_owned(),
            replace: replace.to_owned(),
        }
    }

    #[test]
    fn edits_of_one_file_add_up_and_each_finds_its_text_once() {
        let read = |_: &str| Ok("if a {} if b {}".to_owned());
        let both = [edit("if a", "if c"), edit("if b", "if c")];
        let changes_of_both = changes(&both, read).unwrap();
        let [change] = changes_of_both.as_slice() else {
            unreachable!("one file")
        };
        assert_eq!(change.before, "if a {} if b {}");
        assert_eq!(change.after, "if c {} if c {}");
        assert!(changes(&[edit("if", "")], read).is_err());
        assert!(changes(&[edit("else", "")], read).is_err());
    }
}
