//! A change of an estate's folder as a unified diff, which `git apply` and `patch -p1` take.

use std::fmt::Write as _;

/// Lines of context around a change.
const CONTEXT: usize = 3;

/// `old` as `new`, where whole lines were taken out or in; empty if nothing was. `new` of `None`: the file
/// is gone.
#[must_use]
pub fn unified(path: &str, old: &str, new: Option<&str>) -> String {
    if new == Some(old) {
        return String::new();
    }
    let before: Vec<&str> = old.split_inclusive('\n').collect();
    let after: Vec<&str> = new.unwrap_or_default().split_inclusive('\n').collect();
    let mut text = format!("--- a/{path}\n");
    text.push_str(&match new {
        Some(_) => format!("+++ b/{path}\n"),
        None => "+++ /dev/null\n".to_owned(),
    });
    let edits = edits(&before, &after);
    for hunk in hunks(&edits) {
        write_hunk(&mut text, hunk, &edits);
    }
    text
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Edit<'a> {
    Same(&'a str),
    Gone(&'a str),
    New(&'a str),
}

/// From front to back: what is the same stays, and where the two part, the shortest way to where they meet again
/// is taken, lines gone before lines new. Not always the smallest change, always a right one.
fn edits<'a>(before: &[&'a str], after: &[&'a str]) -> Vec<Edit<'a>> {
    let mut edits = Vec::with_capacity(before.len().max(after.len()));
    let (mut old, mut new) = (before, after);
    loop {
        match (old.split_first(), new.split_first()) {
            (None, None) => return edits,
            (Some((line, rest)), Some((other, more))) if line == other => {
                edits.push(Edit::Same(line));
                (old, new) = (rest, more);
            }
            _ => {
                let (gone, added) = parting(old, new);
                edits.extend(old.iter().take(gone).map(|line| Edit::Gone(line)));
                edits.extend(new.iter().take(added).map(|line| Edit::New(line)));
                old = old.get(gone..).unwrap_or_default();
                new = new.get(added..).unwrap_or_default();
            }
        }
    }
}

/// How many lines of each are to be passed until both go on alike.
fn parting(old: &[&str], new: &[&str]) -> (usize, usize) {
    let most = old.len() + new.len();
    for distance in 1..=most {
        // What is only gone comes first: that is what patches of ours do.
        for added in 0..=distance {
            let gone = distance - added;
            if gone > old.len() || added > new.len() {
                continue;
            }
            let (one, other) = (old.get(gone), new.get(added));
            if one == other {
                return (gone, added);
            }
        }
    }
    (old.len(), new.len())
}

/// Ranges of edits that are shown together.
fn hunks(edits: &[Edit<'_>]) -> Vec<std::ops::Range<usize>> {
    let mut hunks: Vec<std::ops::Range<usize>> = Vec::new();
    for (at, edit) in edits.iter().enumerate() {
        if matches!(edit, Edit::Same(_)) {
            continue;
        }
        let (start, end) = (
            at.saturating_sub(CONTEXT),
            (at + 1 + CONTEXT).min(edits.len()),
        );
        match hunks.last_mut() {
            Some(last) if last.end >= start => last.end = end,
            _ => hunks.push(start..end),
        }
    }
    hunks
}

fn write_hunk(text: &mut String, hunk: std::ops::Range<usize>, edits: &[Edit<'_>]) {
    let count = |edits: &[Edit<'_>], new: bool| {
        let counted = edits.iter().filter(|edit| match edit {
            Edit::Same(_) => true,
            Edit::Gone(_) => !new,
            Edit::New(_) => new,
        });
        counted.count()
    };
    let (earlier, shown) = (
        edits.get(..hunk.start).unwrap_or_default(),
        edits.get(hunk).unwrap_or_default(),
    );
    let place = |new: bool| {
        let (before, length) = (count(earlier, new), count(shown, new));
        // An empty range stands behind the line before it.
        let first = if length == 0 { before } else { before + 1 };
        format!("{first},{length}")
    };
    // Writing to a string cannot fail.
    let _ = writeln!(text, "@@ -{} +{} @@", place(false), place(true));
    for edit in shown {
        let (mark, line) = match edit {
            Edit::Same(line) => (' ', line),
            Edit::Gone(line) => ('-', line),
            Edit::New(line) => ('+', line),
        };
        text.push(mark);
        text.push_str(line);
        if !line.ends_with('\n') {
            text.push_str("\n\\ No newline at end of file\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_gone_stand_in_their_context() {
        let old = "1\n2\n3\n4\n5\n6\n7\n8\n9\n";
        let new = "1\n2\n3\n4\n6\n7\n8\n9\n";
        let expected = "--- a/x\n+++ b/x\n@@ -2,7 +2,6 @@\n 2\n 3\n 4\n-5\n 6\n 7\n 8\n";
        assert_eq!(unified("x", old, Some(new)), expected);
        assert_eq!(unified("x", old, Some(old)), "");
        assert_eq!(
            unified("x", "1\n", None),
            "--- a/x\n+++ /dev/null\n@@ -1,1 +0,0 @@\n-1\n"
        );
        let without = unified("x", "1\n2", Some("1"));
        assert!(
            without.ends_with(
                "-1\n-2\n\\ No newline at end of file\n+1\n\\ No newline at end of file\n"
            ),
            "{without}"
        );
    }

    /// By the program that people use.
    #[test]
    fn git_applies_it() {
        let mut old = String::new();
        for line in 0..60 {
            let _ = writeln!(old, "line {}", line % 7);
        }
        let lines: Vec<&str> = old.lines().collect();
        for (gone, added) in [
            (vec![3, 4, 40], vec![]),
            (vec![0, 59], vec![20]),
            (vec![], vec![0, 59]),
        ] {
            let mut new = String::new();
            for (number, line) in lines.iter().enumerate() {
                if added.contains(&number) {
                    new.push_str("something else\n");
                }
                if !gone.contains(&number) {
                    new.push_str(line);
                    new.push('\n');
                }
            }
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("file"), &old).unwrap();
            std::fs::write(
                folder.path().join("patch"),
                unified("file", &old, Some(&new)),
            )
            .unwrap();
            let applied = std::process::Command::new("git")
                .args(["apply", "patch"])
                .current_dir(folder.path())
                .status();
            assert!(applied.unwrap().success());
            assert_eq!(
                std::fs::read_to_string(folder.path().join("file")).unwrap(),
                new
            );
        }
    }
}
