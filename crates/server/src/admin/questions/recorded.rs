//! Why a decision that a gateway recorded was made: by the estate, the facts and the delegations that it names.

use super::compile;
use crate::admin::estates::{VERSIONS, blob};
use crate::admin::records::{Source, sources};
use crate::admin::tokens;
use crate::core::Core;
use crate::current::from_canonical;
use crate::refusal::Refusal;
use estate::{Action, Estate, Explanation};
use facts::{Fact, FactSet, Finding, Source as FactSource, Timestamp, Value as FactText};
use ledger::body::{self, FactValue};
use ledger::{Commitment, HexDigest, Record, RecordType};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A decision that a gateway recorded: by place, `origin:index`, or by the id that its client saw.
struct Found {
    ledger: String,
    index: u64,
    record: Record,
    session: Option<body::SessionStart>,
}

pub(super) fn recorded(core: &Core, id: &str) -> Result<Value, Refusal> {
    let found = find(core, id)?;
    let record = &found.record;
    let actions: Vec<body::ActionOn> = match record.kind() {
        RecordType::Intent => record
            .expect_body::<body::Intent>()
            .map(|body| body.actions),
        RecordType::Decision => record
            .expect_body::<body::Decision>()
            .map(|body| body.actions),
        _ => return Err(unknown(id)),
    }
    .map_err(|error| Refusal::internal("reading a recorded decision", &error))?;
    let estate = version_of(core, record)?;
    let about = about(record)?;
    // Of an answer to a question the actor is who asked.
    let principal = match (&about, &found.session) {
        (Some(about), _) => about.spiffe_id.clone(),
        (None, Some(start)) => start.spiffe_id.clone(),
        (None, None) => record.actor().to_owned(),
    };
    let prefix = format!("spiffe://{}/", core.trust_domain);
    let path = principal
        .strip_prefix(&prefix)
        .unwrap_or(&principal)
        .to_owned();
    let shown = about.as_ref().map_or_else(
        || found.session.as_ref().and_then(|start| start.issuance),
        |about| about.issuance,
    );
    let issued = shown.map(|index| issuance(core, index.0)).transpose()?;
    let mut facts = issued.as_ref().map(shown_facts).unwrap_or_default();
    for (name, value) in about.iter().flat_map(|about| &about.stated) {
        let at = Timestamp::from_millis(record.stamp().wall);
        facts.state(name, value_of(value), FactSource::Asserted, at);
    }
    // On whose behalf it was asked: every hop was decided, and every delegation between them.
    let others = tokens::acted_for(core, record, about.as_ref())?;
    let chain = tokens::chain(core, &others, &path)?;
    let mut earlier = BTreeMap::new();
    for one in &others {
        if let Some(index) = one.issuance {
            let path = one.spiffe_id.strip_prefix(&prefix);
            let path = path.unwrap_or(&one.spiffe_id).to_owned();
            earlier.insert(path, shown_facts(&issuance(core, index.0)?));
        }
    }
    let mut links = Vec::new();
    let mut explanations: Vec<Explanation> = Vec::new();
    for on in &actions {
        // By what the estate knew then; a name that it cannot have had is a record of somebody else's.
        let action: Action = on
            .action
            .parse()
            .map_err(|error| Refusal::internal("reading a decision", &error))?;
        for name in &on.resources {
            let Ok(resource) = name.parse() else {
                continue;
            };
            // A record names the tables that were asked beside their columns.
            let alone = estate.alone();
            let of_chain = alone.why_chain(&chain, action, &resource, &facts, &earlier);
            explanations.extend(of_chain.hops);
            links.extend(tokens::told(&of_chain.links, &others));
        }
    }
    // A denial first: it is what the whole came to.
    explanations.sort_by_key(|explanation| explanation.decision.allow);
    let body: Value = serde_json::from_str(record.body()).unwrap_or_default();
    // An intent was let through by the policies; a decision was not, unless it was refused for what it
    // is and not for whom it touches.
    let again = explanations
        .iter()
        .all(|explanation| explanation.decision.allow);
    let agrees = record.kind() != RecordType::Intent || again;
    Ok(json!({
        "record": {
            "id": format!("{}:{}", found.ledger, found.index),
            "ledger": found.ledger,
            "index": found.index,
            "type": record.kind().as_str(),
            "time": Timestamp::from_millis(record.stamp().wall).to_string(),
            "actor": principal,
            "estate": record.estate().map(|estate| json!({
                "version": estate.version.to_string(), "index": estate.index,
            })),
            "issuance": shown.map(|index| index.0),
            "body": body,
        },
        "facts": told(core, &facts, issued.as_ref()),
        "agrees": agrees,
        "explanation": explanations.first(),
        "explanations": explanations,
        "links": links,
    }))
}

fn unknown(id: &str) -> Refusal {
    Refusal::Unknown(
        Finding::new(
            "DECISION-UNKNOWN",
            "no decision of that id is recorded here",
        )
        .expected("LEDGER:INDEX of an intent or decision, or the id that a client was shown")
        .observed(id.to_owned())
        .next("a gateway's records arrive within seconds: try again, or trilith ledger search"),
    )
}

fn find(core: &Core, id: &str) -> Result<Found, Refusal> {
    if let Some((ledger, index)) = id.rsplit_once(':')
        && let Ok(index) = index.parse::<u64>()
        && let Ok(sources) = sources(core, ledger)
        && let Some(source) = sources.into_iter().next()
        && let Ok(record) = source.reader.record(index)
        && matches!(record.kind(), RecordType::Intent | RecordType::Decision)
    {
        let session = session_of(&source, &record, index)?;
        return Ok(Found {
            ledger: source.name,
            index,
            record,
            session,
        });
    }
    for source in sources(core, "*")? {
        let mut from = 0;
        loop {
            let records = source
                .reader
                .read(from..from + 4_096)
                .map_err(|error| Refusal::internal("reading records", &error))?;
            if records.is_empty() {
                break;
            }
            for bytes in records {
                let index = from;
                from += 1;
                let Some(record) = decision_of(bytes, id) else {
                    continue;
                };
                let session = session_of(&source, &record, index)?;
                return Ok(Found {
                    ledger: source.name,
                    index,
                    record,
                    session,
                });
            }
        }
    }
    Err(unknown(id))
}

fn decision_of(bytes: Vec<u8>, id: &str) -> Option<Record> {
    let record = Record::from_vec(bytes).ok()?;
    if !matches!(record.kind(), RecordType::Intent | RecordType::Decision) {
        return None;
    }
    let body: Value = serde_json::from_str(record.body()).ok()?;
    (body.get("decision").and_then(Value::as_str) == Some(id)).then_some(record)
}

/// The start of the session that `record` belongs to, sought backwards.
fn session_of(
    source: &Source,
    record: &Record,
    index: u64,
) -> Result<Option<body::SessionStart>, Refusal> {
    let body: Value = serde_json::from_str(record.body()).unwrap_or_default();
    let Some(session) = body.get("session").and_then(Value::as_str) else {
        return Ok(None);
    };
    let mut end = index;
    while end > 0 {
        let from = end.saturating_sub(4_096);
        let records = source
            .reader
            .read(from..end)
            .map_err(|error| Refusal::internal("reading records", &error))?;
        let start = records
            .into_iter()
            .filter_map(|bytes| Record::from_vec(bytes).ok())
            .filter(|record| record.kind() == RecordType::SessionStart)
            .filter_map(|record| record.expect_body::<body::SessionStart>().ok())
            .find(|start| start.session == session);
        if start.is_some() {
            return Ok(start);
        }
        end = from;
    }
    Ok(None)
}

/// The estate that a record was decided under.
fn version_of(core: &Core, record: &Record) -> Result<Estate, Refusal> {
    let version = record.estate().ok_or_else(|| {
        Refusal::Precondition(Finding::new(
            "DECISION-ESTATE",
            "the decision was made without an estate",
        ))
    })?;
    let row = {
        let state = core.state();
        state
            .estates()
            .find(|row| row.index == version.index)
            .cloned()
    };
    let row = row.ok_or_else(|| {
        Refusal::Unknown(
            Finding::new("ESTATE-VERSION-UNKNOWN", "there was no such version")
                .observed(version.version.to_string())
                .next(VERSIONS),
        )
    })?;
    compile(&blob(core, &row.blob)?)
}

fn issuance(core: &Core, index: u64) -> Result<body::Issuance, Refusal> {
    let record = core.journal.reader().record(index);
    record
        .map_err(|error| Refusal::internal("reading an issuance", &error))?
        .expect_body()
        .map_err(|error| Refusal::internal("reading an issuance", &error))
}

/// The facts that an issuance record shows, as gateways take them: it does not say who stood behind one.
fn shown_facts(issuance: &body::Issuance) -> FactSet {
    let facts = issuance.facts.iter().map(|(name, value)| Fact {
        name: name.clone(),
        value: value_of(value),
        source: FactSource::Verified,
        observed_at: Timestamp::from_millis(issuance.evidence_time),
    });
    facts.collect()
}

/// Facts for whoever asked. Who stood behind those of the SVID is what the opening of the issuance's commitment says; where
/// that is gone, nothing is said of it.
fn told(core: &Core, facts: &FactSet, issued: Option<&body::Issuance>) -> Vec<Value> {
    let opened = issued.and_then(|issuance| opened(core, issuance));
    let told = facts.iter().map(|fact| {
        // What a question stated stands nowhere else.
        let stated = issued.is_none_or(|issuance| !issuance.facts.contains_key(&fact.name));
        let known = opened.as_ref().and_then(|opened| opened.fact(&fact.name));
        let known = known.filter(|known| known.value == fact.value);
        let source = if stated {
            Some(fact.source)
        } else {
            known.map(|known| known.source)
        };
        let mut one = json!({
            "name": fact.name, "value": fact.value, "observed_at": fact.observed_at,
        });
        if let (Value::Object(fields), Some(source)) = (&mut one, source) {
            fields.insert("source".to_owned(), json!(source));
        }
        one
    });
    told.collect()
}

/// The facts that an SVID was issued on, if they are kept.
fn opened(core: &Core, issuance: &body::Issuance) -> Option<FactSet> {
    let opening = core.blobs.get(&HexDigest(issuance.commit.0.0)).ok()??;
    from_canonical(Commitment::opened(&opening, "facts")?)
}

fn value_of(value: &FactValue) -> FactText {
    match value {
        FactValue::Bool(value) => FactText::Bool(*value),
        FactValue::Integer(value) => FactText::Integer(*value),
        FactValue::Text(value) => FactText::Text(value.clone()),
        FactValue::List(values) => FactText::List(values.clone()),
    }
}

/// Of an answer to somebody's question: whom it was about.
fn about(record: &Record) -> Result<Option<body::About>, Refusal> {
    if record.kind() != RecordType::Decision {
        return Ok(None);
    }
    let decision: body::Decision = record
        .expect_body()
        .map_err(|error| Refusal::internal("reading a recorded decision", &error))?;
    Ok(decision.about)
}
