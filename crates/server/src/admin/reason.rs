//! Why something is done, in the words of whoever has it done: they stay in the ledger for good, and so whole.

use crate::refusal::Refusal;
use facts::Finding;

/// Characters of a reason.
pub const LONGEST_REASON: usize = 512;

/// The reason as it is recorded.
///
/// # Errors
/// `REASON-LONG` if it would have to be cut.
pub fn whole_reason(text: &str) -> Result<String, Finding> {
    match text.chars().count() {
        ..=LONGEST_REASON => Ok(text.to_owned()),
        more => Err(
            Finding::new("REASON-LONG", "the reason would not be recorded whole")
                .expected(format!("at most {LONGEST_REASON} characters"))
                .observed(more.to_string())
                .next("name a case, and keep the rest there"),
        ),
    }
}

/// The reason of what is done at once, whatever its words are: one that is too long is recorded as far as there is room,
/// and ends with `…`, so that whoever reads it sees that there was more.
pub(crate) fn cut(text: &str) -> String {
    if text.chars().count() <= LONGEST_REASON {
        return text.to_owned();
    }
    let kept = text.chars().take(LONGEST_REASON - 1);
    kept.chain(['…']).collect()
}

/// As [`whole_reason`], of a request.
pub(crate) fn whole(text: &str) -> Result<String, Refusal> {
    whole_reason(text).map_err(Refusal::Invalid)
}
