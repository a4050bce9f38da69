//! The annotations of policies that answers repeat to people: whose it is, why it stands, and which control of
//! an audit it is part of. Cedar decides nothing by them, and others are kept and not looked at.

use crate::decision::PolicyRef;
use crate::suggest::closest;

/// What a policy may say of itself beside `@id`, in the order in which it is said.
pub const ANNOTATIONS: [&str; 3] = ["owner", "reason", "control"];

/// As many letters of one annotation are shown within a line; answers as JSON have all.
const MOST_LETTERS: usize = 160;

/// ` (owner data team; reason it charges them; control SOC2-CC6.1)`, or nothing where none of them says anything.
#[must_use]
pub fn said<'a>(value: impl Fn(&str) -> Option<&'a str>) -> String {
    let each = ANNOTATIONS.iter().filter_map(|name| {
        let value = value(name)?.trim();
        (!value.is_empty()).then(|| format!("{name} {}", within_a_line(value)))
    });
    let each: Vec<String> = each.collect();
    if each.is_empty() {
        return String::new();
    }
    format!(" ({})", each.join("; "))
}

/// As it stands if it could not be taken for something else, else in quotation marks.
fn within_a_line(value: &str) -> String {
    let mut short: String = value.chars().take(MOST_LETTERS).collect();
    if short.len() < value.len() {
        short.push('…');
    }
    let plain = |letter: char| letter.is_alphanumeric() || " -_.,:/@'#+&…".contains(letter);
    if short.chars().all(plain) {
        short
    } else {
        format!("{short:?}")
    }
}

impl PolicyRef {
    /// Its place and its id, and whose it is and why it stands:
    /// `policies/shop.cedar:3 "payments reads cards" (owner payments team; reason it charges them)`
    #[must_use]
    pub fn with_reasons(&self) -> String {
        format!("{self}{}", self.said())
    }

    /// What its annotations say, as [`said`] puts it.
    #[must_use]
    pub fn said(&self) -> String {
        said(|name| self.annotations.get(name).map(String::as_str))
    }
}

/// The annotation that `name` seems to be meant for, of `known`. None if it is one of them, or like none.
pub(crate) fn meant_for<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    if known.contains(&name) {
        return None;
    }
    let lower = name.to_lowercase();
    let sorted = |text: &str| {
        let mut letters: Vec<char> = text.chars().collect();
        letters.sort_unstable();
        letters
    };
    // Two letters that changed places are two edits, more than a short word is given.
    let same = |word: &&&str| sorted(word) == sorted(&lower);
    known
        .iter()
        .find(same)
        .copied()
        .or_else(|| closest(&lower, known.iter().copied()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_annotation_cannot_pass_for_another_or_for_an_answer() {
        let of = |owner: &'static str| said(move |name| (name == "owner").then_some(owner));
        assert_eq!(of("data team"), " (owner data team)");
        assert_eq!(of("équipe données, 2"), " (owner équipe données, 2)");
        assert_eq!(of(" \t"), "");
        assert_eq!(
            of("me; control SOC2-CC6.1"),
            r#" (owner "me; control SOC2-CC6.1")"#
        );
        assert_eq!(
            of("a\nallowed \u{202e}"),
            r#" (owner "a\nallowed \u{202e}")"#
        );
    }

    #[test]
    fn a_long_annotation_is_cut_visibly() {
        let long = "x".repeat(MOST_LETTERS + 1);
        let shown = said(|name| (name == "reason").then_some(long.as_str()));
        assert_eq!(shown, format!(" (reason {}…)", "x".repeat(MOST_LETTERS)));
    }

    #[test]
    fn a_misspelt_annotation_has_a_nearest_one_and_another_has_none() {
        let known = ["id", "owner", "reason", "control"];
        for (name, meant) in [
            ("onwer", Some("owner")),
            ("Owner", Some("owner")),
            ("owners", Some("owner")),
            ("reson", Some("reason")),
            ("controls", Some("control")),
            ("owner", None),
            ("ticket", None),
            ("advice", None),
        ] {
            assert_eq!(meant_for(name, &known), meant, "{name}");
        }
    }
}
