//! A machine's verdict, made again from its evidence: the keys and the chip, the quote and what it was asked for, what
//! was booted and measured, the hardware; by the reference values of the estate that its record names, at the time
//! that it was judged.
//!
//! An enclave's, which brings no TPM, is made again in `enclave`.
//!
//! What nobody can see later: that the TPM with the endorsement key opened the credential that was made for it.

mod enclave;

use crate::outcome::{Again, Outcome, differs, lacks};
use crate::pack::Pack;
use crate::{tee, tpm};
use appraise::{Blobs, Demands, Presented, judge};
use attest::ar4si::Vector;
use attest_tee::endorsed::Endorsed;
use attest_tpm::join::{Anchor, JoinExpectation, Proven, again as join_again};
use attest_tpm::{Challenged, JoinEvidence, SigningKey};
use crypto::SecretBytes;
use estate::Estate;
use facts::{FactSet, Finding, Source, Stated, Timestamp, names};
use ledger::Checkpoint;
use ledger::body::{self, VerdictOutcome};
use ledger::pack::PackRecord;
use spiffe_core::shown;

/// From when a machine answers to when its verdict is recorded, at most: endorsements are waited for meanwhile.
const JUDGED_WITHIN_S: u64 = 300;

/// From when a machine was asked to when its verdict is recorded, at most: it has a minute to answer, and its answer
/// is judged within [`JUDGED_WITHIN_S`]; the rest is for clocks.
const ASKED_WITHIN_S: u64 = 600;

/// What a token shows: that somebody had it.
const OF_TOKEN: [&str; 4] = [
    names::MACHINE_JOIN,
    names::MACHINE_NAME,
    names::MACHINE_POOL,
    names::MACHINE_KEY,
];

pub(crate) fn again(pack: &Pack<'_>, item: &PackRecord) -> Again {
    let Ok(verdict) = item.record.expect_body::<body::Verdict>() else {
        return lacks("the record is of another form than this version reads");
    };
    if verdict.outcome == VerdictOutcome::Refused {
        return refused(pack, item, &verdict);
    }
    let stated = stated(pack, &verdict)?;
    if verdict.evidence.is_empty() {
        return of_token(&stated);
    }
    let kept = Shown::of(pack, item, &verdict)?;
    let now = judged_at(&stated, item)?;
    let (_, estate) = pack.estate(item)?;
    let made = match kept.judged(&estate, now)? {
        Ok(made) => made,
        Err(findings) => {
            let first = findings.first().map(ToString::to_string);
            return differs(format!(
                "it was affirmed, and its evidence is refused: {}",
                first.unwrap_or_default()
            ));
        }
    };
    same(&stated, &made.facts)?;
    let comes_to = Vector::affirmed(&made.facts).short();
    if verdict.ar4si.is_some() && verdict.ar4si != comes_to {
        return differs(format!(
            "it comes to {:?}, and is recorded as {:?}",
            comes_to.unwrap_or_default(),
            verdict.ar4si.unwrap_or_default()
        ));
    }
    if pack.path(&verdict.node) != Some(&format!("trilith/node/{}", made.name)) {
        // One that was called otherwise goes on under its old name until it joins again.
        return lacks(format!(
            "it is of {}, which the estate calls {} by now",
            verdict.node, made.name
        ));
    }
    Ok(())
}

/// Why a machine was refused: the same comes of its evidence again.
fn refused(pack: &Pack<'_>, item: &PackRecord, verdict: &body::Verdict) -> Again {
    if verdict.evidence.is_empty() {
        return lacks("no evidence of what was refused is kept");
    }
    let kept = Shown::of(pack, item, verdict)?;
    let (_, estate) = pack.estate(item)?;
    let wall = Timestamp::from_millis(item.record.stamp().wall);
    let codes: Vec<&str> = verdict
        .findings
        .iter()
        .map(|one| one.code.as_str())
        .collect();
    match kept.judged(&estate, wall)? {
        Ok(_) => differs(format!(
            "it was refused for {}, and its evidence is affirmed",
            codes.join(", ")
        )),
        Err(findings)
            if findings
                .iter()
                .any(|one| codes.contains(&one.code.as_ref())) =>
        {
            Ok(())
        }
        Err(findings) => {
            let made: Vec<&str> = findings.iter().map(|one| one.code.as_ref()).collect();
            differs(format!(
                "it was refused for {}, and its evidence for {}",
                codes.join(", "),
                made.join(", ")
            ))
        }
    }
}

/// The facts that were stated, whole; the record shows the same.
fn stated(pack: &Pack<'_>, verdict: &body::Verdict) -> Result<FactSet, Outcome> {
    let blob = verdict.facts_blob.and_then(|blob| pack.bytes(&blob.sha256));
    let Some(blob) = blob else {
        return match &verdict.facts_blob {
            Some(named) => pack.lacking(&named.sha256, "the facts that it states"),
            None => lacks("the facts that it states"),
        };
    };
    let Ok(stated) = serde_json::from_slice::<FactSet>(blob) else {
        return lacks("the facts that it states cannot be read");
    };
    for item in &verdict.facts {
        let fact = stated.fact(&item.name);
        let value = fact.is_some_and(|fact| fact.value == shown::value(&item.value));
        if !value || fact.map(|fact| fact.source.to_string()).as_ref() != Some(&item.source) {
            return differs(format!(
                "its record shows {} otherwise than it was stated",
                item.name
            ));
        }
    }
    if verdict.facts.len() != stated.len() {
        return differs("its record does not show all that was stated");
    }
    Ok(stated)
}

/// INVARIANT: without evidence nothing is stated of hardware.
fn of_token(stated: &FactSet) -> Again {
    let more = stated
        .iter()
        .find(|fact| !OF_TOKEN.contains(&fact.name.as_str()) || fact.source == Source::Hardware);
    if let Some(fact) = more {
        return differs(format!("it states {} and rests on no evidence", fact.name));
    }
    lacks("it rests on a token, which proves nothing of the machine")
}

/// When its evidence was judged, by its facts; which is when it was recorded, or shortly before.
fn judged_at(stated: &FactSet, item: &PackRecord) -> Result<Timestamp, Outcome> {
    let mut times = stated.iter().map(|fact| fact.observed_at);
    let Some(first) = times.next() else {
        return differs("it states nothing");
    };
    let wall = Timestamp::from_millis(item.record.stamp().wall);
    if times.any(|time| time != first) || first > wall || first.plus_secs(JUDGED_WITHIN_S) < wall {
        return differs("its facts are of another time than its record");
    }
    Ok(first)
}

/// What is stated is what comes of the evidence, each from the same source.
fn same(stated: &FactSet, made: &FactSet) -> Again {
    for fact in stated.iter() {
        match made.fact(&fact.name) {
            Some(other) if other.value == fact.value && other.source == fact.source => {}
            Some(other) => {
                return differs(format!(
                    "it states {} = {} ({}), and its evidence says {} ({})",
                    fact.name, fact.value, fact.source, other.value, other.source
                ));
            }
            None => {
                return differs(format!(
                    "it states {} = {}, and its evidence does not",
                    fact.name, fact.value
                ));
            }
        }
    }
    let left_out = made.iter().find(|fact| stated.fact(&fact.name).is_none());
    left_out.map_or(Ok(()), |fact| {
        differs(format!(
            "its evidence says {} = {}, and it does not",
            fact.name, fact.value
        ))
    })
}

/// Whose evidence a verdict rests on.
enum Shown<'a> {
    Machine(Box<Kept<'a>>),
    Enclave(Box<enclave::Kept<'a>>),
}

impl<'a> Shown<'a> {
    fn of(pack: &'a Pack<'a>, item: &PackRecord, verdict: &body::Verdict) -> Result<Self, Outcome> {
        let mut blobs = Blobs::default();
        for named in &verdict.evidence {
            let Some(bytes) = pack.bytes(&named.sha256) else {
                let what = format!("its evidence {} ({})", named.sha256, named.kind);
                return pack.lacking(&named.sha256, &what);
            };
            blobs.add(&named.kind, bytes);
        }
        if let Some(kind) = enclave::kind(&blobs) {
            let asked = asked(pack, item, &blobs)?;
            let kept = enclave::Kept::of(pack, kind, &blobs, asked)?;
            return Ok(Self::Enclave(Box::new(kept)));
        }
        if !blobs.has_quote() || blobs.get("tpm-ak-public").is_empty() {
            return lacks("its evidence goes on from that of an earlier verdict");
        }
        let asked = asked(pack, item, &blobs)?;
        let evidence = JoinEvidence::from_blobs(|kind| blobs.get(kind));
        Ok(Self::Machine(Box::new(Kept {
            pack,
            blobs,
            evidence,
            asked,
        })))
    }

    /// What a join with this evidence comes to at `now`, or what is wrong with it.
    fn judged(
        &self,
        estate: &Estate,
        now: Timestamp,
    ) -> Result<Result<Made, Vec<Finding>>, Outcome> {
        match self {
            Self::Machine(kept) => kept.judged(estate, now),
            Self::Enclave(kept) => Ok(kept.made(estate, now)),
        }
    }
}

/// What whoever answered was asked, which is of its time.
fn asked(pack: &Pack<'_>, item: &PackRecord, blobs: &Blobs) -> Result<Challenged, Outcome> {
    let (nonce, channel) = (blobs.get(Challenged::NONCE), blobs.get(Challenged::CHANNEL));
    if nonce.is_empty() && channel.is_empty() {
        return lacks("what the machine was asked was not kept");
    }
    let Some(asked) = Challenged::read(nonce, channel) else {
        return differs("what the machine was asked cannot be read");
    };
    fresh(pack, item, &asked)?;
    Ok(asked)
}

/// The evidence of a machine's verdict, and what it was asked.
struct Kept<'a> {
    pack: &'a Pack<'a>,
    blobs: Blobs,
    evidence: JoinEvidence,
    asked: Challenged,
}

/// What comes of the evidence.
struct Made {
    /// What the estate calls the machine.
    name: String,
    facts: FactSet,
}

impl Kept<'_> {
    /// What a join with this evidence comes to at `now`, or what is wrong with it.
    fn judged(
        &self,
        estate: &Estate,
        now: Timestamp,
    ) -> Result<Result<Made, Vec<Finding>>, Outcome> {
        let endorsed = match tee::Kept::read(&self.blobs) {
            Ok(endorsed) => endorsed,
            Err(finding) => return differs(format!("its endorsements cannot be read: {finding}")),
        };
        Ok(self.made(estate, &endorsed, now))
    }

    /// As the server judges a join.
    fn made(
        &self,
        estate: &Estate,
        endorsed: &tee::Kept,
        now: Timestamp,
    ) -> Result<Made, Vec<Finding>> {
        let references = tpm::references(estate).map_err(|finding| vec![finding])?;
        let vouching = self.vouching(estate, endorsed, now)?;
        let expectation = JoinExpectation {
            nonce: self.asked.nonce(),
            secret: SecretBytes::new(Vec::new()),
            pcrs: tpm::PCRS.to_vec(),
            channel: self.asked.channel(&self.pack.trust.trust_domain),
            now,
            vouched: vouching.as_ref().map(|one| one.key.clone()),
        };
        let (facts, proven) = join_again(&self.evidence, &expectation, &references)?;
        let (name, pool) = tpm::placed(estate, &proven.chip, proven.instance.as_ref());
        let ring = pool.clone().unwrap_or_default();
        let demands = Demands::of(&estate.references().values, &ring);
        let asked = appraise::Asked {
            values: &estate.references().values,
            demands: &demands,
            ring: &ring,
            now,
        };
        let presented = Presented::by_join(&proven, &self.evidence.answer.ima_list);
        let (approved, _) = judge(&presented, &asked)?;
        let hardware = match vouching {
            Some(vouching) => Some(vouching.endorsed),
            None => self.hardware(&proven, estate, (&ring, &demands), endorsed, now)?,
        };
        let mut parts = vec![said(facts)];
        parts.extend(hardware.map(|hardware| hardware.verdict.into_stated()));
        let Stated {
            mut facts,
            findings,
            ..
        } = attest::merged(parts);
        if !findings.is_empty() {
            return Err(findings);
        }
        for fact in approved.iter() {
            facts.insert(fact.clone());
        }
        facts.state(names::MACHINE_NAME, name.as_str(), Source::Verified, now);
        if let Some(pool) = &pool {
            facts.state(names::MACHINE_POOL, pool.as_str(), Source::Verified, now);
        }
        Ok(Made { name, facts })
    }

    /// What hardware says of the attestation key of a machine that brings no other.
    fn vouching(
        &self,
        estate: &Estate,
        endorsed: &tee::Kept,
        now: Timestamp,
    ) -> Result<Option<tee::Vouching>, Vec<Finding>> {
        let request = &self.evidence.request;
        let key = SigningKey::attestation(&request.ak_public).map_err(|finding| vec![finding])?;
        let anchor = Anchor::read(request).map_err(|finding| vec![finding])?;
        if !matches!(anchor, Anchor::Attestation) {
            return Ok(None);
        }
        let (_, pool) = tpm::placed(estate, &anchor.chip(&key), None);
        let (ring, offered) = (pool.unwrap_or_default(), endorsed.offered.as_ref());
        tee::vouched(offered, estate, &ring, endorsed, now).map_err(|refused| refused.findings)
    }

    fn hardware(
        &self,
        proven: &Proven,
        estate: &Estate,
        (ring, demands): (&str, &Demands),
        endorsed: &tee::Kept,
        now: Timestamp,
    ) -> Result<Option<Endorsed>, Vec<Finding>> {
        let question = tee::Question {
            attestation_key: &proven.attestation_key,
            nonce: self.asked.nonce(),
            now,
            booted: proven.booted.as_ref(),
            event_log: &self.evidence.answer.event_log,
        };
        let asked = tee::Asked {
            estate,
            ring,
            demands,
        };
        tee::judge(endorsed.offered.as_ref(), &question, &asked, endorsed)
            .map_err(|refused| refused.findings)
    }
}

/// The nonce was made from a checkpoint of the ledger, which whoever answered had to know: the answer is younger than
/// the records that the checkpoint is of.
fn fresh(pack: &Pack<'_>, item: &PackRecord, asked: &Challenged) -> Again {
    match Checkpoint::open(&asked.checkpoint, pack.ledger_key) {
        Ok(checkpoint) if checkpoint.size <= item.index => newly(pack, item, checkpoint.size),
        Ok(checkpoint) => differs(format!(
            "the machine was asked with a checkpoint of {} records, and its verdict is record {}",
            checkpoint.size, item.index
        )),
        Err(error) => differs(format!(
            "the machine was asked with no checkpoint of the server's ledger: {error}"
        )),
    }
}

/// A machine is asked with the newest checkpoint: what that is not of was recorded since, and not long ago.
fn newly(pack: &Pack<'_>, item: &PackRecord, size: u64) -> Again {
    // What came after the verdict says nothing: a clock may have been set back.
    let Some((index, wall)) = pack.earliest(&(size..item.index)) else {
        return Ok(());
    };
    let latest = Timestamp::from_millis(wall).plus_secs(ASKED_WITHIN_S);
    if latest < Timestamp::from_millis(item.record.stamp().wall) {
        return differs(format!(
            "the machine was asked long before: with a checkpoint of {size} records, and record {index} is of more than {ASKED_WITHIN_S} s before its verdict"
        ));
    }
    Ok(())
}

fn said(facts: FactSet) -> Stated {
    Stated {
        facts,
        ..Stated::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stated_more_less_or_otherwise_is_named() {
        let facts = |pairs: &[(&str, &str, Source)]| {
            let mut facts = FactSet::new();
            for (name, value, source) in pairs {
                facts.state(name, *value, *source, Timestamp::EPOCH);
            }
            facts
        };
        let made = facts(&[
            ("machine.join", "tpm", Source::Verified),
            ("machine.tpm.kind", "discrete", Source::Hardware),
        ]);
        assert_eq!(same(&made, &made), Ok(()));
        for (stated, named) in [
            (
                facts(&[("machine.join", "tpm", Source::Verified)]),
                "its evidence says machine.tpm.kind",
            ),
            (
                facts(&[
                    ("machine.join", "tpm", Source::Verified),
                    ("machine.tpm.kind", "discrete", Source::Verified),
                ]),
                "(verified), and its evidence says discrete (hardware)",
            ),
            (
                facts(&[
                    ("machine.boot.secure_boot", "on", Source::Verified),
                    ("machine.join", "tpm", Source::Verified),
                    ("machine.tpm.kind", "discrete", Source::Hardware),
                ]),
                "it states machine.boot.secure_boot",
            ),
        ] {
            let Err(Outcome::Differs(why)) = same(&stated, &made) else {
                panic!("{stated:?}");
            };
            assert!(why.contains(named), "{why}");
        }
    }

    #[test]
    fn a_token_shows_nothing_of_hardware() {
        let mut facts = FactSet::new();
        facts.state(
            names::MACHINE_JOIN,
            "token",
            Source::Verified,
            Timestamp::EPOCH,
        );
        assert!(matches!(of_token(&facts), Err(Outcome::NotRecomputable(_))));
        let (kind, source) = (names::MACHINE_TPM_KIND, Source::Verified);
        facts.state(kind, "discrete", source, Timestamp::EPOCH);
        assert!(matches!(of_token(&facts), Err(Outcome::Differs(_))));
    }
}
