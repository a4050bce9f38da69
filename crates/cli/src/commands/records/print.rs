//! Answers from records, for people.

use crate::output;
use estate_prove::Widening;
use facts::Timestamp;
use record_index::{AccessRow, Change, History, Patch, Replayed, Site, Unused};
use serde_json::{Value, json};

fn time(millis: u64) -> String {
    Timestamp::from_millis(millis).to_string()
}

/// Up to which heads an answer goes.
pub(super) fn heads(site: &Site) {
    for source in site.sources() {
        let head = &source.head().checkpoint;
        let root = crypto::base64::encode(&head.root);
        output::note(format_args!(
            "searched {} up to {} records, root {root}",
            source.name, head.size
        ));
    }
    left_out(site);
}

/// What the answer is not about.
pub(super) fn left_out(site: &Site) {
    for line in site.left_out() {
        output::note(format_args!(
            "note: left out: {line}; what it records counts for nothing here"
        ));
    }
}

pub(super) fn access_json(row: &AccessRow) -> Value {
    let mut document = json!(row);
    if let (Value::Object(fields), Some(receipts)) = (&mut document, &row.receipts) {
        let texts = [&receipts.0, &receipts.1].map(super::receipt_text);
        fields.insert("receipts".to_owned(), json!(texts));
    }
    document
}

pub(super) fn accesses(rows: &[AccessRow]) {
    if rows.is_empty() {
        output::line("none");
        return;
    }
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let what = if row.allowed { row.kind } else { "denied" };
            vec![
                acting(&row.identity, &row.claimed_on_behalf_of, &row.on_behalf_of),
                what.to_owned(),
                row.action.clone(),
                row.resource.clone(),
                row.count.to_string(),
                row.succeeded.to_string(),
                row.failed.to_string(),
                format!("{}:{} {}", row.ledger, row.first.0, time(row.first.1)),
                format!("{}:{} {}", row.ledger, row.last.0, time(row.last.1)),
            ]
        })
        .collect();
    let header = [
        "IDENTITY", "WHAT", "ACTION", "RESOURCE", "TIMES", "OK", "FAILED", "FIRST", "LAST",
    ];
    output::table(&header, &cells);
}

/// Who did it, and on whose behalf: `agents/helper for people/ada`, which is told where it is not proven.
fn acting(identity: &str, claimed: &[String], proven: &[String]) -> String {
    let path_of = super::super::ledger::path_of;
    let by = path_of(identity);
    let names = |others: &[String]| {
        let paths: Vec<&str> = others.iter().map(|id| path_of(id)).collect();
        paths.join(", ")
    };
    if !proven.is_empty() {
        return format!("{by} for {}", names(proven));
    }
    if !claimed.is_empty() {
        return format!("{by} for {} (told)", names(claimed));
    }
    by.to_owned()
}

pub(super) fn history(history: &History) {
    for change in &history.changes {
        output::line(format_args!(
            "server:{}  {}  by {}: {}  (estate {})",
            change.record,
            time(change.time),
            output::value(&change.author),
            output::value(&change.message),
            change.version
        ));
        for (mark, lines) in [
            ("+", &change.gained),
            ("-", &change.lost),
            ("~", &change.changed),
        ] {
            for line in lines {
                output::line(format_args!("  {mark} {line}"));
            }
        }
    }
    if history.now.is_empty() {
        output::line("now: nothing");
    }
    for (line, since) in history.now.iter().zip(&history.since) {
        output::line(format_args!("since server:{since}: {line}"));
    }
    for (record, why) in &history.unread {
        output::line(format_args!("not looked at: server:{record}: {why}"));
    }
    output::note(format_args!(
        "{} versions, {} compiled",
        history.versions, history.compiled
    ));
}

pub(super) fn unused(found: &Unused, since: u64) {
    output::line(format_args!(
        "{} of {} grants and {} policies were not used since {}; {} accesses were",
        found.grants.len(),
        found.granted,
        found.policies.len(),
        time(since),
        found.observed
    ));
    if found.observed_since.is_none_or(|first| first > since) {
        let first = found
            .observed_since
            .map_or_else(|| "never".to_owned(), time);
        output::note(format_args!(
            "note: the records begin later than the window: {first}"
        ));
    }
    let last = |last: &Option<(u64, String)>| {
        last.as_ref().map_or_else(
            || "never".to_owned(),
            |(at, place)| format!("{} ({place})", time(*at)),
        )
    };
    for policy in &found.policies {
        output::line(format_args!(
            "policy {}: last {}",
            policy.policy.with_reasons(),
            last(&policy.last)
        ));
    }
    let cells: Vec<Vec<String>> = found
        .grants
        .iter()
        .map(|grant| {
            vec![
                grant.identity.clone(),
                grant.action.clone(),
                grant.resource.clone(),
                last(&grant.last),
                grant.policies.join("; "),
            ]
        })
        .collect();
    if !cells.is_empty() {
        output::table(
            &["IDENTITY", "ACTION", "RESOURCE", "LAST", "BECAUSE OF"],
            &cells,
        );
    }
    for error in &found.errors {
        output::line(format_args!("not known: {error}"));
    }
}

/// Beside the diff itself.
pub(super) fn patch(patch: &Patch, found: &Unused) {
    output::note(format_args!(
        "takes out {} of {} unused policies; {} observed accesses come out allowed as before",
        patch.removed.len(),
        found.policies.len(),
        patch.replayed
    ));
    for policy in &found.policies {
        if let Some(kept) = &policy.kept {
            output::note(format_args!("left in: {}: {kept}", policy.policy));
        }
    }
    for test in &patch.tests {
        output::note(format_args!("this policy test would fail: {test}"));
    }
    match &patch.widening {
        Widening::Nothing { asked, solvers } => {
            let vouching = match solvers {
                _ if *asked == 0 => "",
                0 | 1 => "; one solver vouches",
                _ => "; two solvers agree",
            };
            output::note(format_args!(
                "proved: nothing is newly allowed, whatever is declared{vouching}"
            ));
        }
        widening => output::note(format_args!("NOT proved: {}", json!(widening))),
    }
}

pub(super) fn replayed(replayed: &Replayed) {
    for one in &replayed.changed {
        let (mark, what) = match one.change {
            Change::Denied => ("-", "would be denied"),
            Change::Allowed => ("+", "would be allowed"),
        };
        let policies = one.decided_by.iter().map(ToString::to_string);
        let because: Vec<String> = policies.chain(one.errors.iter().cloned()).collect();
        let because = if because.is_empty() {
            String::new()
        } else {
            format!(", because of {}", because.join("; "))
        };
        output::line(format_args!(
            "{mark} {what}: {} {} {}, {} times, last {}:{} {}{because}",
            acting(&one.identity, &one.claimed_on_behalf_of, &one.on_behalf_of),
            one.action,
            one.resource,
            one.count,
            one.ledger,
            one.last.0,
            time(one.last.1)
        ));
    }
    for one in &replayed.not_replayed {
        output::line(format_args!(
            "? not replayed: {} {} {}, {} times, last {}:{}: {}",
            acting(&one.identity, &one.claimed_on_behalf_of, &one.on_behalf_of),
            one.action,
            one.resource,
            one.count,
            one.ledger,
            one.last.0,
            one.why
        ));
    }
    output::line(format_args!(
        "{} accesses come out the same, {} kinds change, {} kinds could not be replayed",
        replayed.same,
        replayed.changed.len(),
        replayed.not_replayed.len()
    ));
    if let Some(doubt) = replayed.doubt() {
        output::note(format_args!("note: {doubt}"));
    }
}
