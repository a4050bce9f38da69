//! Questions that are a fold over whole ledgers: sessions and periods over gateways' and the server's, lifetimes,
//! changes of the estate and verdicts over the server's.

use super::{
    Collector, Gateway, Keeper, Log, MOST_ACCESSES, MOST_RECORDS, Under, Unmade, identity_path,
    known, newest_anchors, nothing_gone, unknown, walk,
};
use facts::Finding;
use ledger::RecordType;
use ledger::pack::{Answers, Question};
use std::collections::BTreeSet;

/// The places that answer in one ledger, if they are not too many for a pack.
fn answers(
    trust_domain: &str,
    question: &Question,
    (origin, server): (&str, bool),
    (reader, size): (&Log, u64),
) -> Result<BTreeSet<u64>, Unmade> {
    // What was recorded in a time is all of it, or none is shown.
    if matches!(question, Question::Period { .. }) {
        nothing_gone(reader)?;
    }
    let mut answers = Answers::new(question, trust_domain, origin, server);
    walk(reader, size, |index, record| {
        // More than a pack takes need not be held.
        if answers.total() <= MOST_ACCESSES {
            answers.see(index, record);
        }
    })?;
    if answers.total() > MOST_ACCESSES {
        return Err(Unmade::Precondition(Box::new(
            Finding::new("PACK-MANY", "more records answer than a pack takes")
                .expected(format!("at most {MOST_ACCESSES} of each ledger"))
                .observed(format!("more, in {origin}"))
                .next("ask for less: a shorter time, one ledger, or a range of records"),
        )));
    }
    Ok(answers.indices())
}

/// A lifetime, a change of the estate, or a verdict.
pub(super) fn of_server<K: Keeper>(
    keeper: &K,
    question: Question,
    head: Under,
) -> Result<Vec<u8>, K::Refusal> {
    let question = named_in_full(keeper, question)?;
    let origin = keeper.ledger_key().origin().as_str();
    let reader = keeper.reader();
    let ledger = (&reader, head.checkpoint.size);
    if let Question::Verdict { index } = question {
        is_verdict(ledger, index)?;
    }
    let domain = keeper.trust_domain().as_str();
    let found = answers(domain, &question, (origin, true), ledger)?;
    if found.is_empty() {
        answers_nothing(keeper, &question)?;
    }
    let mut collector = Collector::new(keeper, &question, head)?;
    for index in found {
        collector.own(index)?;
    }
    collector.own_tiles()?;
    Ok(collector.build())
}

/// A session, or a period.
pub(super) fn of_gateways<K: Keeper>(
    keeper: &K,
    question: Question,
    known_before: Vec<Gateway>,
    head: Under,
) -> Result<Vec<u8>, K::Refusal> {
    let question = named_in_full(keeper, question)?;
    let size = head.checkpoint.size;
    let gateways = match size {
        0..=MOST_RECORDS => newest_anchors(&keeper.reader(), size)?,
        _ => known_before,
    };
    let own = keeper.ledger_key().origin().as_str();
    let domain = keeper.trust_domain().as_str();
    let mut any = false;
    let mut collector = Collector::new(keeper, &question, head)?;
    if question.is_about(own, true) {
        let reader = keeper.reader();
        let ledger = (&reader, size);
        for index in answers(domain, &question, (own, true), ledger)? {
            any = true;
            collector.own(index)?;
        }
    }
    collector.own_tiles()?;
    for gateway in gateways {
        if !question.is_about(&gateway.origin, false) {
            continue;
        }
        let gateway = gateway.open(keeper)?;
        let ledger = (&gateway.reader, gateway.size);
        let found = answers(domain, &question, (&gateway.origin, false), ledger)?;
        any |= !found.is_empty();
        collector.gateway(&gateway, &found)?;
        let number = collector.builder.checkpoint(&gateway.checkpoint);
        collector.tiles(number, gateway.size, &gateway.reader)?;
    }
    if !any {
        answers_nothing(keeper, &question)?;
    }
    Ok(collector.build())
}

/// As it stands in the pack: ledgers by their origins, identities by their SPIFFE IDs.
fn named_in_full<K: Keeper>(keeper: &K, question: Question) -> Result<Question, K::Refusal> {
    Ok(match question {
        Question::Session { ledger, session } => Question::Session {
            ledger: keeper.named(&ledger)?,
            session,
        },
        Question::Period {
            ledger: Some(ledger),
            from,
            to,
        } => Question::Period {
            ledger: Some(keeper.named(&ledger)?),
            from,
            to,
        },
        Question::Lifetime { identity } => {
            let path = identity_path(keeper.trust_domain(), &identity)?;
            let identity = format!("spiffe://{}/{path}", keeper.trust_domain());
            Question::Lifetime { identity }
        }
        question => question,
    })
}

fn is_verdict((reader, size): (&Log, u64), index: u64) -> Result<(), Unmade> {
    let found = match index < size {
        true => {
            let record = reader.record(index)?;
            record.kind().as_str()
        }
        false => "none",
    };
    if found == RecordType::Verdict.as_str() {
        return Ok(());
    }
    Err(unknown(
        Finding::new(
            "PACK-VERDICT-UNKNOWN",
            "the server's ledger has no such verdict",
        )
        .expected("the index of a verdict")
        .observed(format!("server:{index}: {found}"))
        .next("verdicts: trilith ledger search --ledger server --type verdict"),
    ))
}

/// That nothing answers says something only about what there could have been.
fn answers_nothing<K: Keeper>(keeper: &K, question: &Question) -> Result<(), K::Refusal> {
    let refusal = match question {
        Question::Lifetime { identity } => {
            let path = identity_path(keeper.trust_domain(), identity)?;
            return known(keeper, &path, identity);
        }
        Question::Session { ledger, session } => {
            Finding::new("PACK-SESSION", "the ledger has no session of that name")
                .observed(format!("{ledger}:{session}"))
                .next("sessions: trilith ledger search --type session-start; a gateway's are anchored within seconds")
        }
        Question::Estate { version } => {
            nothing_gone(&keeper.reader())?;
            Finding::new("PACK-ESTATE", "the server's ledger knows no such version")
                .expected("all 64 digits of a version that was proved or applied")
                .observed(version.to_string())
                .next("versions: trilith ledger search --ledger server --type estate-version")
        }
        _ => return Ok(()),
    };
    Err(unknown(refusal).into())
}
