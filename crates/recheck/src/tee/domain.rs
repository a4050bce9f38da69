//! What a trust domain booted, by its own log: read once its quote is believed, and compared with the estate's boot
//! rules and with what its TPM says.

use super::{Asked, Question};
use appraise::judge_domain;
use attest_tee::endorsed::Endorsed;
use attest_tpm::boot::{DomainBoot, Pinned, Registers};
use estate::TdxReference;
use facts::{Affirmed, FactSet, Finding, names};

/// `judged` with the facts of the boot, or refused for what is wrong with it. One that is refused stays as it is.
pub(super) fn booted(
    judged: Endorsed,
    event_log: Option<&[u8]>,
    terms: &TdxReference,
    question: &Question<'_>,
    asked: &Asked<'_>,
) -> Endorsed {
    let Some(registers) = Registers::of(&judged.verdict) else {
        return judged;
    };
    let pinned = pinned(terms, &judged.verdict.facts);
    match compared(&registers, event_log, pinned, question, asked) {
        Ok(None) => judged,
        Ok(Some(facts)) => judged.and(&facts),
        Err(findings) => judged.refused_for(findings),
    }
}

fn compared(
    registers: &Registers,
    event_log: Option<&[u8]>,
    pinned: Pinned,
    question: &Question<'_>,
    asked: &Asked<'_>,
) -> Result<Option<Affirmed>, Vec<Finding>> {
    let booted = event_log
        .map(|log| DomainBoot::verify(log, registers))
        .transpose()?;
    let asked = appraise::Asked {
        values: &asked.estate.references().values,
        demands: asked.demands,
        ring: asked.ring,
        now: question.now,
    };
    judge_domain(booted.as_ref(), pinned, question.booted, &asked)
}

/// Whether each image by the name that was recognised lists what was started, and what that measured.
fn pinned(terms: &TdxReference, facts: &FactSet) -> Pinned {
    let name = facts.text(names::MACHINE_TEE_IMAGE);
    let images = terms.images.iter().flatten();
    let mut images = images
        .filter(|image| Some(image.name.as_str()) == name)
        .peekable();
    let lists = images.peek().is_some()
        && images.all(|image| matches!(image.rtmr, [_, Some(_), Some(_), _]));
    if lists { Pinned::Both } else { Pinned::No }
}
