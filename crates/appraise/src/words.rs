//! How two lines differ, word by word.

/// More words than a kernel's command line has; beyond, lines are shown whole.
const MOST: usize = 512;

/// `quiet [-splash-] [+debug+] root=/dev/sda1`: what went and what came, the rest as it is.
pub(crate) fn compare(before: &str, after: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (
        before.split_whitespace().collect(),
        after.split_whitespace().collect(),
    );
    if old.len() > MOST || new.len() > MOST {
        return format!("[-{before}-] [+{after}+]");
    }
    let mut told: Vec<String> = Vec::new();
    let (mut gone, mut come) = (old.as_slice(), new.as_slice());
    for common in common(&old, &new) {
        while let Some((word, rest)) = gone.split_first() {
            gone = rest;
            if *word == common {
                break;
            }
            told.push(format!("[-{word}-]"));
        }
        while let Some((word, rest)) = come.split_first() {
            come = rest;
            if *word == common {
                break;
            }
            told.push(format!("[+{word}+]"));
        }
        told.push(common.to_owned());
    }
    told.extend(gone.iter().map(|word| format!("[-{word}-]")));
    told.extend(come.iter().map(|word| format!("[+{word}+]")));
    told.join(" ")
}

/// The longest sequence that both have, in order.
pub(crate) fn common<T: PartialEq + Copy>(old: &[T], new: &[T]) -> Vec<T> {
    // Row by row from the end: how much of `new` from each place on is common with the rest of `old`.
    let mut rows: Vec<Vec<usize>> = vec![vec![0; new.len() + 1]];
    for one in old.iter().rev() {
        let below = rows.last().cloned().unwrap_or_default();
        let mut row = vec![0; new.len() + 1];
        let mut right = 0;
        for (at, other) in new.iter().enumerate().rev() {
            let at_below = |at: usize| below.get(at).copied().unwrap_or_default();
            right = if one == other {
                at_below(at + 1) + 1
            } else {
                right.max(at_below(at))
            };
            if let Some(cell) = row.get_mut(at) {
                *cell = right;
            }
        }
        rows.push(row);
    }
    rows.reverse();
    let length = |i: usize, j: usize| {
        let row = rows.get(i);
        row.and_then(|row| row.get(j)).copied().unwrap_or_default()
    };
    let (mut i, mut j) = (0, 0);
    let mut shared = Vec::new();
    while let (Some(one), Some(other)) = (old.get(i), new.get(j)) {
        if one == other {
            shared.push(*one);
            i += 1;
            j += 1;
        } else if length(i + 1, j) >= length(i, j + 1) {
            i += 1;
        } else {
            j += 1;
        }
    }
    shared
}

#[cfg(test)]
mod tests {
    use super::compare;

    #[test]
    fn lines_differ_by_words() {
        for (before, after, told) in [
            ("a b c", "a b c", "a b c"),
            (
                "root=1 quiet",
                "root=1 debug quiet",
                "root=1 [+debug+] quiet",
            ),
            (
                "root=1 quiet",
                "root=2 quiet",
                "[-root=1-] [+root=2+] quiet",
            ),
            ("a", "", "[-a-]"),
            ("", "a", "[+a+]"),
            ("a b a", "b a b", "[-a-] b a [+b+]"),
        ] {
            assert_eq!(compare(before, after), told);
        }
    }
}
