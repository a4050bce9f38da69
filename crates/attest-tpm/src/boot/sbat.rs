//! SBAT revocation levels, as shim measures them (shim, `SBAT.md`): lines of a component and the lowest
//! generation that still starts.

/// The level of `component` in `text`. Of `sbat` itself it is the date of the list, the third field.
pub(super) fn level(text: &str, component: &str) -> Option<u64> {
    let line = text
        .lines()
        .map(|line| line.split(',').map(str::trim).collect::<Vec<_>>())
        .find(|fields| fields.first() == Some(&component))?;
    let field = if component == "sbat" { 2 } else { 1 };
    line.get(field)?.parse().ok()
}

/// The date of the list: `2025021800`.
pub(super) fn date(text: &str) -> Option<u64> {
    level(text, "sbat")
}

#[cfg(test)]
mod tests {
    use super::{date, level};

    #[test]
    fn a_level_is_read_by_its_component() {
        let text = "sbat,1,2025021800\nshim,4\ngrub,5\n";
        assert_eq!(date(text), Some(2_025_021_800));
        assert_eq!(level(text, "grub"), Some(5));
        assert_eq!(level(text, "gru"), None);
        assert_eq!(level("shim,-4\n", "shim"), None);
    }
}
