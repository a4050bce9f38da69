//! What was made again of a pack, for people and programs.

use crate::output;
use ledger::pack::Failure;
use recheck::Rechecked;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Reasons that are printed, each with how many it holds of.
const MOST: usize = 9;

/// The first decision or verdict that does not follow from what its record names.
pub(super) fn difference(rechecked: &Rechecked) -> Option<Failure> {
    let (item, why) = rechecked.first_difference()?;
    let (code, message) = item.what.difference();
    Some(Failure {
        code,
        section: format!("record/{}/{}", item.checkpoint, item.index),
        record: Some(item.index),
        message: format!("{message}: {why}"),
    })
}

pub(super) fn document(rechecked: &Rechecked) -> Value {
    let Rechecked(all) = rechecked;
    json!({ "of": all.len(), "same": rechecked.recomputed(), "records": all })
}

pub(super) fn tell(rechecked: &Rechecked) {
    let Rechecked(all) = rechecked;
    if all.is_empty() {
        return;
    }
    output::line(format_args!(
        "  recomputed, with the same result: {} of {} decisions, issuances and verdicts",
        rechecked.recomputed(),
        all.len()
    ));
    let reasons = reasons(rechecked);
    for reason in reasons.iter().take(MOST) {
        output::line(format_args!(
            "    not recomputable: {}",
            output::value(reason)
        ));
    }
    if let Some(left @ 1..) = reasons.len().checked_sub(MOST) {
        output::line(format_args!(
            "    and {left} more reasons: --json has them all"
        ));
    }
}

/// Why something could not be made again: each reason once, with the first record and how many more it holds of.
pub(crate) fn reasons(rechecked: &Rechecked) -> Vec<String> {
    let mut reasons: BTreeMap<(String, &str), (u64, String)> = BTreeMap::new();
    for (item, why) in rechecked.not_recomputable() {
        let first = || {
            let ledger = item.ledger.rsplit('/').next().unwrap_or(&item.ledger);
            format!("{ledger}:{}", item.index)
        };
        let alike = reasons.entry((item.what.to_string(), why));
        alike.or_insert_with(|| (0, first())).0 += 1;
    }
    let reasons = reasons.iter();
    let told = reasons.map(|((what, why), (count, first))| match count - 1 {
        0 => format!("{what} {first}: {why}"),
        more => format!("{what} {first} and {more} more: {why}"),
    });
    told.collect()
}
