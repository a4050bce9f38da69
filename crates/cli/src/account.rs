//! What a verified pack shows, for people: who did what, by which policy, with which code, on which machine.

use crate::output;
use facts::Timestamp;
use ledger::body::{
    ActionOn, Body, Decision, EstateVersion, FactValue, Intent, Issuance, Outcome, SessionStart,
    Verdict, VerdictOutcome,
};
use ledger::pack::{PackRecord, Report};
use ledger::{RecordType, Stamp};
use std::collections::BTreeMap;

/// Sessions and operations that are told; the records themselves follow in any case.
const MOST: usize = 200;

/// Lines, from the access back to the machine. Empty where the pack holds no access.
pub(crate) fn account(report: &Report) -> Vec<String> {
    let pack = Pack(report);
    let mut lines = Vec::new();
    let mut told = 0_usize;
    let mut estate = None;
    let mut ledger = None;
    for item in &report.records {
        if told == MOST {
            lines.push("  and more: the records below have them all".to_owned());
            break;
        }
        let kind = item.record.kind();
        let version = item.record.estate().map(|estate| estate.index);
        if ledger.replace(item.checkpoint) != Some(item.checkpoint) {
            estate = None;
        }
        if let (RecordType::Intent | RecordType::Decision, Some(index)) = (kind, version)
            && estate != version
        {
            pack.estate(index, &mut lines);
            estate = version;
        }
        match kind {
            RecordType::SessionStart => {
                pack.session(item, &mut lines);
                estate = None;
            }
            RecordType::Intent => pack.intent(item, &mut lines),
            RecordType::Decision => pack.decision(item, &mut lines),
            _ => continue,
        }
        told += 1;
    }
    lines
}

struct Pack<'a>(&'a Report);

impl Pack<'_> {
    /// A record of the server's ledger, if the pack has it.
    fn of_server<T: Body>(&self, index: u64) -> Option<T> {
        let is_it = |item: &&PackRecord| (item.checkpoint, item.index) == (0, index);
        let item = self.0.records.iter().find(is_it)?;
        item.record.expect_body().ok()
    }

    /// The last part of the origin and the index, as every other command takes it.
    fn place(&self, item: &PackRecord) -> String {
        let origin = item.record.origin();
        let name = origin.rsplit('/').next().unwrap_or(origin);
        format!("{}:{}", output::value(name), item.index)
    }

    fn session(&self, item: &PackRecord, lines: &mut Vec<String>) {
        let Ok(start) = item.record.expect_body::<SessionStart>() else {
            return;
        };
        lines.push(format!(
            "  {} {} reached {} as the role {} ({})",
            time(item.record.stamp()),
            output::value(&start.spiffe_id),
            output::value(&start.resource),
            output::value(&start.role),
            self.place(item),
        ));
        let issuance = start.issuance.map(|index| index.0);
        match issuance.and_then(|index| Some((index, self.of_server::<Issuance>(index)?))) {
            Some((index, issuance)) => self.issuance(index, &issuance, lines),
            None => lines.push(format!(
                "      its SVID {}: the pack does not hold its issuance",
                output::value(&start.serial)
            )),
        }
    }

    /// By which estate what follows was decided.
    fn estate(&self, version: u64, lines: &mut Vec<String>) {
        let proved = match self.of_server::<EstateVersion>(version) {
            None => ", which the pack does not hold".to_owned(),
            Some(body) => body.proof_index.map_or_else(String::new, |proof| {
                format!(", proved at server:{}", proof.0)
            }),
        };
        lines.push(format!("    by the estate of server:{version}{proved}:"));
    }

    fn issuance(&self, index: u64, issuance: &Issuance, lines: &mut Vec<String>) {
        let facts: Vec<String> = issuance
            .facts
            .iter()
            .map(|(name, value)| format!("{} {}", output::value(name), fact(value)))
            .collect();
        lines.push(format!(
            "      its SVID {}, issued at server:{index} by {}, with {}",
            output::value(&issuance.serial),
            policies(&issuance.policies),
            match facts.is_empty() {
                true => "no fact that the estate makes visible".to_owned(),
                false => facts.join(", "),
            },
        ));
        let verdict = issuance.verdict.0;
        let Some(body) = self.of_server::<Verdict>(verdict) else {
            lines.push(format!(
                "      on the machine {}: the pack does not hold its verdict",
                output::value(&issuance.node)
            ));
            return;
        };
        let evidence: Vec<String> = body
            .evidence
            .iter()
            .map(|evidence| output::value(&evidence.kind))
            .collect();
        lines.push(format!(
            "      on the machine {}, {} at server:{verdict}{}, from {}",
            output::value(&body.node),
            match body.outcome {
                VerdictOutcome::Affirmed => "affirmed",
                VerdictOutcome::Refused => "REFUSED",
            },
            body.ar4si
                .as_deref()
                .map_or_else(String::new, |ar4si| format!(" ({})", output::value(ar4si))),
            match evidence.is_empty() {
                true => "no evidence".to_owned(),
                false => evidence.join(", "),
            },
        ));
    }

    fn intent(&self, item: &PackRecord, lines: &mut Vec<String>) {
        let Ok(intent) = item.record.expect_body::<Intent>() else {
            return;
        };
        let seq = item.record.seq();
        let mut ends = self
            .0
            .records
            .iter()
            .filter(|other| {
                other.checkpoint == item.checkpoint && other.record.kind() == RecordType::Outcome
            })
            .filter_map(|other| other.record.expect_body::<Outcome>().ok())
            .filter(|outcome| outcome.intent.0 == seq);
        let outcome = ends.next_back().map_or_else(
            || "nothing says what became of it".to_owned(),
            |outcome| {
                let rows = outcome
                    .rows
                    .map_or_else(String::new, |rows| format!(", {} rows", rows.0));
                format!("{}{rows}", output::value(&outcome.result))
            },
        );
        lines.push(format!(
            "    {} {}: allowed by {}; {outcome} ({})",
            time(item.record.stamp()),
            actions(&intent.actions),
            policies(&intent.policies),
            self.place(item),
        ));
    }

    fn decision(&self, item: &PackRecord, lines: &mut Vec<String>) {
        let Ok(decision) = item.record.expect_body::<Decision>() else {
            return;
        };
        let verb = if decision.allow { "allowed" } else { "DENIED" };
        let by = match decision.policies.is_empty() {
            true => "no policy that permits it".to_owned(),
            false => policies(&decision.policies),
        };
        let findings = match decision.findings.is_empty() {
            true => String::new(),
            false => format!(", {}", output::value(&decision.findings.join(", "))),
        };
        // A decision point was asked about somebody, in no session of the one that it is about.
        let asked = decision.about.as_ref().map_or_else(String::new, |about| {
            format!(
                "{} asked whether {} may ",
                output::value(item.record.actor()),
                output::value(&about.spiffe_id)
            )
        });
        lines.push(format!(
            "    {} {asked}{}: {verb} by {by}{findings} ({})",
            time(item.record.stamp()),
            actions(&decision.actions),
            self.place(item),
        ));
    }
}

fn policies(names: &[String]) -> String {
    match names {
        [] => "no policy".to_owned(),
        names => {
            let quoted: Vec<String> = names
                .iter()
                .map(|name| format!("\"{}\"", output::value(name)))
                .collect();
            quoted.join(" and ")
        }
    }
}

/// What was done to what; alike actions together.
fn actions(actions: &[ActionOn]) -> String {
    let mut by_action: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for on in actions {
        let resources = by_action.entry(&on.action).or_default();
        // What was asked of columns stands among the resources as well.
        let columns = on
            .columns
            .iter()
            .filter(|name| !on.resources.contains(name));
        let names = on.resources.iter().chain(columns);
        resources.extend(names.map(|name| output::value(name)));
        if let Some(more) = &on.more {
            resources.push(format!("of {} in all", more.count.0));
        }
    }
    match by_action.is_empty() {
        true => "what touches no resource".to_owned(),
        false => by_action
            .into_iter()
            .map(|(action, resources)| {
                format!("{} {}", output::value(action), resources.join(", "))
            })
            .collect::<Vec<_>>()
            .join("; "),
    }
}

fn fact(value: &FactValue) -> String {
    match value {
        FactValue::Bool(value) => value.to_string(),
        FactValue::Integer(value) => value.to_string(),
        FactValue::Text(text) => output::value(text),
        FactValue::List(items) => output::value(&items.join(" ")),
    }
}

fn time(stamp: Stamp) -> String {
    Timestamp::from_millis(stamp.wall).to_string()
}
