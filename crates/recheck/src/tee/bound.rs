//! Whether the TPM that answers is the NitroTPM that the hypervisor speaks of, by its registers of SHA-384.

use super::{Offered, Question};
use attest::Evidence;
use attest_tee::endorsed::Endorsed;
use attest_tee::nitro::Document;
use attest_tpm::strong;
use facts::{Finding, Outcome};

/// The kind of the blob that has the quote of SHA-384, with its signature and values.
pub(super) const QUOTE: &str = "nitro-quote";

/// `judged` with how far the two are bound, or refused where they contradict one another. One that is refused stays
/// as it is.
pub(super) fn bound(judged: Endorsed, offered: &Offered, question: &Question<'_>) -> Endorsed {
    if judged.verdict.outcome() == Outcome::Refused {
        return judged;
    }
    let judged = match offered.auxiliary.as_slice() {
        [] => judged,
        quote => judged.shown_with(Evidence::new(QUOTE, quote.to_vec())),
    };
    match by(offered, question) {
        Ok(by) => judged.bound_to_tpm(by, question.now),
        Err(findings) => judged.refused_for(findings),
    }
}

/// Everything that was presented has to agree; the strongest of it is named.
fn by(offered: &Offered, question: &Question<'_>) -> Result<&'static str, Vec<Finding>> {
    let document = Document::parse(&offered.report).map_err(|finding| vec![finding])?;
    let logged = strong::logged(question.event_log, &document.pcrs).transpose()?;
    if !offered.auxiliary.is_empty() {
        let (key, nonce) = (question.attestation_key, &question.nonce);
        strong::quoted(&offered.auxiliary, key, nonce, &document.pcrs)?;
        return Ok("quote");
    }
    Ok(if logged.is_some() { "event-log" } else { "key" })
}
