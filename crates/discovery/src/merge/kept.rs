//! Whether a new text has all that the old one had. It reads both by the same parser that the estate uses.

use super::{Change, Options, not_editable};
use facts::Finding;
use toml::{Table, Value};

pub(super) fn check(change: &Change, options: &Options) -> Result<(), Finding> {
    let refused = || not_editable(&change.file);
    let after: Table = change.after.parse().map_err(|_| refused())?;
    let Some(before) = &change.before else {
        return Ok(());
    };
    let before: Table = before.parse().map_err(|_| refused())?;
    if keeps(&before, &after, options) {
        Ok(())
    } else {
        Err(refused())
    }
}

fn keeps(before: &Table, after: &Table, options: &Options) -> bool {
    before.iter().all(|(key, old)| match (old, after.get(key)) {
        (Value::Table(old), Some(Value::Table(new))) => {
            let mut old = old.clone();
            if options.accept_changed && key == "labels" {
                old.remove("definition");
            }
            keeps(&old, new, options)
        }
        (Value::Array(old), Some(Value::Array(new)))
            if old.iter().chain(new).all(Value::is_table) =>
        {
            in_order(old, new, options)
        }
        (Value::Array(old), None) => options.prune && old.iter().all(Value::is_table),
        (old, new) => new == Some(old),
    })
}

/// Each of `old` stands in `new`, in the same order; with pruning some may be missing.
fn in_order(old: &[Value], new: &[Value], options: &Options) -> bool {
    let mut rest = new.iter();
    old.iter().all(|old| {
        let Value::Table(old) = old else { return false };
        let mut ahead = rest.clone();
        let found = ahead.any(|new| {
            let same = |key: &str| old.get(key) == new.get(key);
            same("name")
                && same("kind")
                && new.as_table().is_some_and(|new| keeps(old, new, options))
        });
        if found {
            rest = ahead;
        }
        found || options.prune
    })
}
