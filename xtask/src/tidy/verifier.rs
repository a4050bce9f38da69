//! Rule: the second verifier stays short enough to be read in one sitting, in lines that a page holds.

use super::Break;

const FOLDER: &str = "verifiers/python/";
/// Of all its Python files together.
const LINES: usize = 1_150;
const WIDTH: usize = 100;

pub(super) fn check(files: &[String], read: impl Fn(&str) -> Option<String>) -> Vec<Break> {
    let of_verifier = |file: &&String| file.starts_with(FOLDER) && file.ends_with(".py");
    let mut breaks = Vec::new();
    let mut lines = 0;
    for file in files.iter().filter(of_verifier) {
        let text = read(file).unwrap_or_default();
        lines += text.lines().count();
        for (at, line) in text.lines().enumerate() {
            if line.chars().count() > WIDTH {
                let what = format!("has more than {WIDTH} characters");
                breaks.push(Break::at(file, at + 1, what));
            }
        }
    }
    if lines > LINES {
        let what = format!("has {lines} lines of Python in all; {LINES} are allowed");
        breaks.push(Break::file(FOLDER, what));
    }
    breaks
}

#[cfg(test)]
mod tests {
    use super::{LINES, check};

    #[test]
    fn the_second_verifier_is_short() {
        let files = ["verifiers/python/a.py", "verifiers/python/b.py", "b.py"].map(str::to_owned);
        let of = |text: String| check(&files, |_| Some(text.clone()));
        assert!(of("x = 1\n".repeat(LINES / 2)).is_empty());
        assert_eq!(of("x = 1\n".repeat(LINES / 2 + 1)).len(), 1);
        assert_eq!(of("x".repeat(101)).len(), 2);
    }
}
