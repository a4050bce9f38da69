//! The answer to `ListObjectsV2`, of which only the keys are read: what a store lists is a hint of what may be
//! removed, and the names in it are judged by whoever asked.

/// The text of each `<Key>`. Keys with an escaped character are nobody's here and are left out.
pub fn listed_keys(xml: &str) -> impl Iterator<Item = &str> {
    let pieces = xml.split("<Key>").skip(1);
    pieces.filter_map(|piece| {
        let (key, _) = piece.split_once("</Key>")?;
        let plain = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic());
        (plain && !key.contains(['<', '&'])).then_some(key)
    })
}

/// The `<Code>` of an error, for people: letters alone, or nothing.
#[must_use]
pub fn error_code(xml: &str) -> Option<&str> {
    let (_, rest) = xml.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    let word = (1..=64).contains(&code.len()) && code.bytes().all(|it| it.is_ascii_alphanumeric());
    word.then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_and_what_is_hostile_is_left_out() {
        let xml = "<?xml version=\"1.0\"?><R><Contents><Key>a/tile/0/000.p/5</Key></Contents>\
                   <Contents><Size>1</Size><Key>b</Key></Contents><Key>c&amp;d</Key><Key></Key>\
                   <Key>e\u{e9}</Key><Key>f<Key>g</Key><Key>h";
        let found: Vec<&str> = listed_keys(xml).collect();
        assert_eq!(found, ["a/tile/0/000.p/5", "b", "g"]);
        assert_eq!(listed_keys("").count(), 0);
    }

    #[test]
    fn a_code_is_one_word() {
        let of = |code: &str| {
            super::error_code(&format!("<Error><Code>{code}</Code></Error>")).is_some()
        };
        assert!(of("NoSuchBucket"));
        assert!(!of("") && !of("a b") && !of("\u{1b}[2J") && !of(&"x".repeat(65)));
        assert_eq!(error_code("<Code>half"), None);
    }
}
