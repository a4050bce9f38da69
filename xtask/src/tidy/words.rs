//! Words that no tracked file may hold: paths of one machine, hosts of package registries.

use super::Break;

/// In two halves each, so that this file keeps its own rule.
const HOSTS: &[(&str, &str)] = &[
    ("pypi", ".org"),
    ("files.pythonhosted", ".org"),
    ("registry.npmjs", ".org"),
    ("index.crates", ".io"),
    ("static.crates", ".io"),
    ("proxy.golang", ".org"),
    ("deb.debian", ".org"),
];

const PATHS: &[(&str, &str)] = &[("/wo", "rk/"), ("/ro", "ot/")];

pub(super) fn check(file: &str, text: &str) -> Vec<Break> {
    let mut breaks = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for (head, tail) in HOSTS {
            if line.contains(&format!("{head}{tail}")) {
                breaks.push(Break::at(
                    file,
                    index + 1,
                    "names the host of a package registry",
                ));
            }
        }
        for (head, tail) in PATHS {
            if holds_path(line, &format!("{head}{tail}")) {
                breaks.push(Break::at(file, index + 1, "holds a path of one machine"));
            }
        }
    }
    breaks
}

/// True if `path` stands in the line as the beginning of a path, not inside another one or a URL.
fn holds_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line.get(..at).and_then(|head| head.chars().next_back());
        !before.is_some_and(|letter| letter.is_alphanumeric() || "._-}*".contains(letter))
    })
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn a_path_inside_another_is_no_break() {
        let machine = format!("{}{}main", "/wo", "rk/");
        assert_eq!(check("a", &format!("see {machine}")).len(), 1);
        assert!(check("a", &format!("https://example.org{machine}")).is_empty());
        assert_eq!(
            check("a", &format!("pip install -i https://{}{}", "pypi", ".org")).len(),
            1
        );
    }
}
