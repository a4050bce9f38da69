//! `ledger completeness`, typed and printed.

use super::{failed, head_json, receipt_text, times};
use crate::arguments::{CompletenessArguments, Global};
use crate::{Failure, output};
use facts::{Finding, Timestamp};
use ledger::completeness::{Cause, Missing};
use record_index::{Complete, Site};
use serde_json::{Value, json};

pub(crate) fn completeness(
    arguments: &CompletenessArguments,
    global: &Global,
) -> Result<(), Failure> {
    let mut folders = arguments.folders.iter();
    let first = folders
        .next()
        .ok_or_else(|| Failure::usage("name a --folder"))?;
    // No index is asked, so none is brought up to the head.
    let mut site = Site::open(first, None).map_err(failed)?;
    for folder in folders {
        let opened = Site::open(folder, None).map_err(failed)?;
        site.join(opened).map_err(failed)?;
    }
    let window = times(arguments.from, arguments.to);
    let answers = record_index::completeness(&site, &window, arguments.receipts).map_err(failed)?;
    let unexplained: u64 = answers.iter().map(Complete::unexplained).sum();
    for answer in &answers {
        if global.json {
            output::json(&document(answer));
        } else {
            told(answer);
        }
    }
    let listed: u64 = answers.iter().map(gaps).sum();
    let anchors = site.sources().iter().any(|source| source.name == "server");
    if global.json {
        output::json(&json!({
            "gaps": listed, "unexplained": unexplained, "anchors_known": anchors,
            "ledgers": answers.len(),
        }));
    } else {
        let notes = site.notes.iter();
        notes.for_each(|note| output::note(format_args!("note: {note}")));
        if !anchors {
            output::note(
                "note: without the server's folder it is not known how far these ledgers are anchored: name it as well",
            );
        }
    }
    if unexplained == 0 {
        return Ok(());
    }
    Err(Failure::verification(vec![
        Finding::new(
            "COMPLETENESS-GAP",
            "something is missing that no record accounts for",
        )
        .expected("numbered events without gaps, or records that say why there are some")
        .observed(format!("{unexplained} of {listed} gaps unexplained"))
        .next("docs/operate/completeness.md says what each cause means and whom to ask"),
    ]))
}

fn gaps(answer: &Complete) -> u64 {
    answer.more.saturating_add(answer.found.len() as u64)
}

fn document(answer: &Complete) -> Value {
    let counts = &answer.counts;
    let found = answer.found.iter().map(|found| {
        let Missing {
            cause,
            explained,
            after,
            before,
            from,
            to,
            lost,
            detail,
        } = &found.missing;
        // Of a ledger that was not looked at no time is known.
        let looked_at = *cause != Cause::Ledger;
        let (from, to) = (looked_at.then_some(from), looked_at.then_some(to));
        let mut gap = json!({
            "cause": cause.as_str(), "explained": explained, "after": after, "before": before,
            "from": from, "to": to, "lost": lost, "detail": detail,
        });
        if let (Value::Object(fields), false) = (&mut gap, found.receipts.is_empty()) {
            let receipts: Vec<String> = found.receipts.iter().map(receipt_text).collect();
            fields.insert("receipts".to_owned(), json!(receipts));
        }
        gap
    });
    let head = answer.head.as_deref();
    json!({
        "ledger": answer.ledger, "origin": answer.origin,
        "read": head.map(|head| head_json(&answer.ledger, head)),
        "gaps": found.collect::<Vec<_>>(), "more": answer.more,
        "unexplained": answer.unexplained(),
        "anchored": answer.anchored.map(|anchored| json!({
            "size": anchored.size, "record": anchored.record, "time": anchored.time,
        })),
        "counts": {
            "records": counts.records, "starts": counts.starts, "stops": counts.stops,
            "sessions": counts.sessions, "complete": counts.complete,
            "parsed_only": counts.parsed_only, "blind": counts.blind, "unknown": counts.unknown,
            "cut_sessions": counts.cut_sessions, "open_sessions": counts.open_sessions,
            "open_intents": counts.open_intents,
        },
    })
}

fn told(answer: &Complete) {
    let name = output::value(&answer.ledger);
    if gaps(answer) == 0 {
        output::line(format_args!("{name}: no gaps among numbered events"));
    }
    for found in &answer.found {
        let missing = &found.missing;
        if missing.cause == Cause::Ledger {
            output::line(not_looked_at(&name, missing));
            continue;
        }
        let index = |index: Option<u64>| index.map_or("-".to_owned(), |index| index.to_string());
        output::line(format_args!(
            "{name}: {} gap ({}) between {} and {}, {} to {}: {}",
            if missing.explained {
                "explained"
            } else {
                "UNEXPLAINED"
            },
            missing.cause.as_str(),
            index(missing.after),
            index(missing.before),
            Timestamp::from_millis(missing.from),
            Timestamp::from_millis(missing.to),
            output::value(&missing.detail),
        ));
    }
    if answer.more > 0 {
        output::line(format_args!("{name}: and {} more gaps", answer.more));
    }
    let counts = &answer.counts;
    if counts.parsed_only + counts.blind > 0 {
        output::note(format_args!(
            "{name}: {} accesses are known from what was asked alone (parsed-only), {} not at all (blind)",
            counts.parsed_only, counts.blind
        ));
    }
    if counts.unknown + counts.cut_sessions > 0 {
        output::note(format_args!(
            "{name}: the outcomes of {} accesses are unknown, {} sessions were cut by recorded gaps",
            counts.unknown, counts.cut_sessions
        ));
    }
    if let Some(head) = &answer.head {
        output::note(format_args!(
            "read {name} whole: {} records, root {}",
            head.checkpoint.size,
            crypto::base64::encode(&head.checkpoint.root)
        ));
    }
    if let Some(anchored) = answer.anchored {
        output::note(format_args!(
            "the server's record {} anchors {name} up to {} records; nobody else holds it to what came after",
            anchored.record, anchored.size
        ));
    }
}

/// Of a ledger that no folder has. There is neither a place nor a time.
fn not_looked_at(name: &str, missing: &Missing) -> String {
    format!(
        "{name}: UNEXPLAINED: not looked at: {}; name it with --folder as well, or the server's data directory, which has a mirror of it",
        output::value(&missing.detail)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use ledger::completeness::Counts;
    use record_index::Found;

    #[test]
    fn a_ledger_that_was_not_named_has_no_time() {
        let missing = Missing {
            cause: Cause::Ledger,
            explained: false,
            after: None,
            before: None,
            from: 0,
            to: 1_700_000_000_000,
            lost: Some(3),
            detail: "its folder was not named".to_owned(),
        };
        let told = not_looked_at("pg-1", &missing);
        assert!(
            !told.contains("1970") && told.contains("not looked at"),
            "{told}"
        );
        let answer = Complete {
            ledger: "pg-1".to_owned(),
            origin: "example.org/gateway/pg-1".to_owned(),
            head: None,
            counts: Counts::default(),
            found: vec![Found {
                missing,
                receipts: Vec::new(),
            }],
            more: 0,
            anchored: None,
        };
        let document = document(&answer);
        assert_eq!(document["gaps"][0]["from"], Value::Null);
        assert_eq!(document["gaps"][0]["to"], Value::Null);
        assert_eq!(document["unexplained"], 1);
    }
}
