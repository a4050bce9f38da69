//! What happened, in the order of the records: one row for each that answers, in words.

use super::grounds::Estates;
use super::markup::{Markup, Place};
use crate::commands::pack::time;
use ledger::body::{
    ActionOn, Admin, AssumeRefused, Body, Decision, Delegation, Erasure, EstateVersion, Gap,
    InvariantApproval, Issuance, Lock, NodeState, Outcome, Proof, Readmit, Revocation, SessionEnd,
    SessionStart, TargetKind, Verdict, VerdictOutcome,
};
use ledger::pack::{PackRecord, Report};
use ledger::{Record, RecordType};
use std::collections::BTreeMap;

/// Rows that are told.
const MOST: usize = 1_000;

/// The last part of the origin and the index, as every command takes it.
pub(super) fn place(item: &PackRecord) -> String {
    let origin = item.record.origin();
    let name = origin.rsplit('/').next().unwrap_or(origin);
    format!("{name}:{}", item.index)
}

pub(super) fn tell(page: &mut Markup, report: &Report, estates: &Estates) {
    page.tags("\n<h2>").text("What happened").tags("</h2>");
    let mut answers: Vec<&PackRecord> = report.records.iter().filter(|item| item.answers).collect();
    if answers.is_empty() {
        page.tags("<p>")
            .text("No record of these ledgers answers the question.")
            .tags("</p>");
        return;
    }
    // Clocks of different ledgers differ: within one the order is that of the ledger.
    answers.sort_by_key(|item| (item.record.stamp().wall, item.checkpoint, item.index));
    page.tags("<table class=\"story\"><thead><tr>");
    for head in ["When", "Where", "Who", "What"] {
        page.tags("<th scope=\"col\">").text(head).tags("</th>");
    }
    page.tags("</tr></thead><tbody>\n");
    let outcomes = outcomes(report);
    for item in answers.iter().take(MOST) {
        page.tags("<tr><td class=\"when\">");
        page.text(time(item.record.stamp().wall));
        page.tags("</td><td class=\"where\">");
        page.link(Place::Record(item.checkpoint, item.index), place(item));
        page.tags("</td><td class=\"who\">")
            .code(item.record.actor());
        page.tags("</td><td>");
        let told = Told {
            report,
            estates,
            outcomes: &outcomes,
            item,
        };
        told.record(page);
        page.tags("</td></tr>\n");
    }
    page.tags("</tbody></table>");
    if let Some(left @ 1..) = answers.len().checked_sub(MOST) {
        page.tags("<p>")
            .text(format_args!("And {left} more."))
            .tags("</p>");
    }
}

/// By checkpoint and `seq` of the intent: what became of it.
type Outcomes = BTreeMap<(u64, u64), Outcome>;

fn outcomes(report: &Report) -> Outcomes {
    let items = report.records.iter();
    let outcomes = items.filter_map(|item| {
        let outcome: Outcome = item.record.expect_body().ok()?;
        Some(((item.checkpoint, outcome.intent.0), outcome))
    });
    outcomes.collect()
}

struct Told<'a> {
    report: &'a Report,
    estates: &'a Estates,
    outcomes: &'a Outcomes,
    item: &'a PackRecord,
}

impl Told<'_> {
    fn record(&self, page: &mut Markup) {
        let record = &self.item.record;
        let told = match record.kind() {
            RecordType::SessionStart => {
                with(record, |body: &SessionStart| self.session(page, body))
            }
            RecordType::SessionEnd => with(record, |body: &SessionEnd| {
                page.text("ended session ")
                    .code(&body.session)
                    .text(": ")
                    .name(&body.reason);
                page.text(format_args!(", after {} operations", body.operations.0));
            }),
            RecordType::Intent => with(record, |body: &ledger::body::Intent| {
                page.text("may ");
                actions(page, &body.actions);
                page.text(", allowed by ");
                self.policies(page, &body.policies);
                self.outcome(page);
            }),
            RecordType::Decision => with(record, |body: &Decision| self.decision(page, body)),
            RecordType::Outcome => with(record, |body: &Outcome| {
                page.text(format_args!("what became of {}: ", body.intent.0))
                    .name(&body.result);
                rows(page, body);
            }),
            RecordType::Issuance => with(record, |body: &Issuance| self.issuance(page, body)),
            RecordType::AssumeRefused => with(record, |body: &AssumeRefused| {
                bad(page, "was NOT given ");
                page.code(body.spiffe_id.as_deref().unwrap_or("any identity"));
                page.text(" on machine ").code(&body.node).text(": ");
                page.names(body.findings.iter().map(|finding| &finding.code));
            }),
            RecordType::Verdict => with(record, |body: &Verdict| verdict(page, body)),
            RecordType::NodeState => with(record, |body: &NodeState| {
                page.text("machine ")
                    .code(&body.node)
                    .text(": ")
                    .name(&body.state);
                if let Some(verdict) = body.verdict {
                    page.text(", by ");
                    self.server(page, verdict.0);
                }
            }),
            RecordType::Lock => with(record, |body: &Lock| {
                bad(page, "locked out ");
                page.text("machine ")
                    .code(&body.node)
                    .text(": ")
                    .code(&body.finding.code);
                page.text(" ").name(&body.finding.message);
            }),
            RecordType::Readmit => with(record, |body: &Readmit| {
                page.text("readmitted machine ")
                    .code(&body.node)
                    .text(": ")
                    .name(&body.reason);
            }),
            RecordType::Revocation => with(record, |body: &Revocation| {
                bad(page, "revoked ");
                page.text(match body.target.kind {
                    TargetKind::Identity => "identity ",
                    TargetKind::Serial => "SVID ",
                    TargetKind::Machine => "machine ",
                });
                page.code(&body.target.value)
                    .text(", by ")
                    .code(&body.by)
                    .text(": ")
                    .name(&body.reason);
            }),
            RecordType::EstateVersion => {
                with(record, |body: &EstateVersion| self.version(page, body))
            }
            RecordType::Proof => with(record, |body: &Proof| self.proof(page, body)),
            RecordType::InvariantApproval => with(record, |body: &InvariantApproval| {
                page.text(format_args!(
                    "{} changes of invariants, signed by ",
                    body.changes
                ));
                page.names(body.signatures.iter().map(|signature| &signature.author));
            }),
            RecordType::Admin => with(record, |body: &Admin| {
                if !body.allow {
                    bad(page, "was NOT allowed: ");
                }
                page.code(&body.principal)
                    .text(" ")
                    .code(&body.action)
                    .text(" of ");
                page.code(&body.resource).text(": ").name(&body.detail);
            }),
            RecordType::Delegation => with(record, |body: &Delegation| {
                page.text("delegation ")
                    .code(&body.jti)
                    .text(" along ")
                    .names(&body.chain);
            }),
            RecordType::Erasure => with(record, |body: &Erasure| {
                page.text(format_args!(
                    "erased {} contents that records name: ",
                    body.erased.len()
                ));
                page.name(&body.reason);
            }),
            RecordType::Gap => with(record, |body: &Gap| {
                bad(page, "records may be missing ");
                page.text(format_args!(
                    "from {} to {}: ",
                    time(body.from),
                    time(body.to)
                ));
                page.name(&body.cause).text(" ").name(&body.detail);
            }),
            _ => None,
        };
        if told.is_none() {
            page.code(record.kind().as_str())
                .text(" ")
                .code(record.body());
        }
    }

    fn session(&self, page: &mut Markup, body: &SessionStart) {
        page.code(&body.spiffe_id)
            .text(" reached ")
            .code(&body.resource);
        page.text(" as the role ")
            .code(&body.role)
            .text(", with SVID ")
            .code(&body.serial);
        if !body.on_behalf_of.is_empty() {
            page.text(", on behalf of ")
                .names(body.on_behalf_of.iter().map(|on| &on.spiffe_id));
        }
        if let Some(issuance) = body.issuance {
            page.text(", issued at ");
            self.server(page, issuance.0);
        }
    }

    fn decision(&self, page: &mut Markup, body: &Decision) {
        match body.allow {
            true => page.text("may "),
            false => bad(page, "may NOT "),
        };
        actions(page, &body.actions);
        page.text(", by ");
        match body.policies.is_empty() {
            true => page.text("no policy that permits it"),
            false => self.policies(page, &body.policies),
        };
        if !body.findings.is_empty() {
            page.text("; ").names(&body.findings);
        }
    }

    /// What became of an intent, if the pack has it.
    fn outcome(&self, page: &mut Markup) {
        page.text("; ");
        let seq = self.item.record.seq();
        match self.outcomes.get(&(self.item.checkpoint, seq)) {
            None => {
                bad(page, "nothing says what became of it");
            }
            Some(outcome) => {
                page.name(&outcome.result);
                rows(page, outcome);
            }
        }
    }

    fn issuance(&self, page: &mut Markup, body: &Issuance) {
        page.text("issued SVID ")
            .code(&body.serial)
            .text(" to ")
            .code(&body.spiffe_id);
        page.text(" on machine ").code(&body.node).text(", by ");
        self.policies(page, &body.policies);
        page.text(", on the verdict of ");
        self.server(page, body.verdict.0);
        if let Some(before) = &body.replaces {
            page.text(", renewing ").code(before);
        }
    }

    fn version(&self, page: &mut Markup, body: &EstateVersion) {
        page.text("put estate ")
            .code(body.version)
            .text(" in force, by ")
            .code(&body.author);
        page.text(": ").name(&body.message);
        if let Some(proof) = body.proof_index {
            page.text("; proved at ");
            self.server(page, proof.0);
        }
    }

    fn proof(&self, page: &mut Markup, body: &Proof) {
        page.text("invariants of estate ")
            .code(body.version)
            .text(": ")
            .name(&body.outcome);
        for invariant in &body.invariants {
            page.text("; ").name(&invariant.id).text(" ");
            let good = invariant.today == "holds";
            match good {
                true => page.name(&invariant.today),
                false => page
                    .tags("<span class=\"bad\">")
                    .name(&invariant.today)
                    .tags("</span>"),
            };
            page.text(" today, for any data ").name(&invariant.any_data);
        }
        if let Some(approval) = body.approval_index {
            page.text("; approved at ");
            self.server(page, approval.0);
        }
    }

    /// Policies by name, each with a link to its text where the pack has that.
    fn policies<'p>(&self, page: &'p mut Markup, names: &[String]) -> &'p mut Markup {
        let version = self.item.record.estate().map(|estate| estate.index);
        for (at, name) in names.iter().enumerate() {
            if at > 0 {
                page.text(", ");
            }
            match self.estates.policy(version, name) {
                Some(at) => page.link(Place::Policy(at), name),
                None => page.code(name),
            };
        }
        match names.is_empty() {
            true => page.text("no policy"),
            false => page,
        }
    }

    fn server(&self, page: &mut Markup, index: u64) {
        let is_it = |item: &PackRecord| (item.checkpoint, item.index) == (0, index);
        match self.report.records.iter().any(is_it) {
            true => page.link(Place::Record(0, index), format_args!("server:{index}")),
            false => page.text(format_args!("server:{index}, which the pack does not have")),
        };
    }
}

pub(super) fn verdict(page: &mut Markup, body: &Verdict) {
    page.text("machine ").code(&body.node).text(" ");
    match body.outcome {
        VerdictOutcome::Affirmed => page.text("affirmed"),
        VerdictOutcome::Refused => bad(page, "REFUSED"),
    };
    if let Some(ar4si) = &body.ar4si {
        page.text(" (").name(ar4si).text(")");
    }
    if !body.findings.is_empty() {
        page.text(": ")
            .names(body.findings.iter().map(|finding| &finding.code));
    }
}

fn with<T: Body>(record: &Record, tell: impl FnOnce(&T)) -> Option<()> {
    let body = record.expect_body().ok()?;
    tell(&body);
    Some(())
}

fn bad<'p>(page: &'p mut Markup, text: &str) -> &'p mut Markup {
    page.tags("<strong class=\"bad\">")
        .text(text)
        .tags("</strong>")
}

fn rows(page: &mut Markup, outcome: &Outcome) {
    if let Some(rows) = outcome.rows {
        page.text(format_args!(", {} rows", rows.0));
    }
    if let Some(state) = &outcome.sqlstate {
        page.text(", ").code(state);
    }
}

fn actions(page: &mut Markup, actions: &[ActionOn]) {
    if actions.is_empty() {
        page.text("do what touches no resource");
    }
    for (at, on) in actions.iter().enumerate() {
        if at > 0 {
            page.text("; ");
        }
        page.code(&on.action).text(" ").names(&on.resources);
        if let Some(more) = &on.more {
            page.text(format_args!(", of {} in all", more.count.0));
        }
        if !on.columns.is_empty() {
            page.text(" (").names(&on.columns).text(")");
        }
    }
}
