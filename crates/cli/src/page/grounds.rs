//! What the answers rest on: identities with what was known of their code, machines with their evidence, and the
//! estates with the text of the policies that decided.

use super::markup::{Markup, Place};
use super::story::{place, verdict};
use crate::commands::pack::time;
use estate::{EstateFiles, PolicyText, policy_texts};
use facts::FactSet;
use ledger::body::{Body, Decision, EstateVersion, FactValue, Intent, Issuance, Proof, Verdict};
use ledger::pack::{PackRecord, Report};
use std::collections::{BTreeMap, BTreeSet};

/// The policies of the pack's estates that a record of the pack names.
pub(super) struct Estates {
    /// With the place of the version.
    policies: Vec<(u64, PolicyText)>,
}

impl Estates {
    pub(super) fn read(report: &Report) -> Self {
        let mut named: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
        for item in &report.records {
            if let Some(estate) = item.record.estate() {
                named
                    .entry(estate.index)
                    .or_default()
                    .extend(policies_of(item));
            }
        }
        let mut policies = Vec::new();
        for (index, version) in server::<EstateVersion>(report) {
            let blob = report.blobs.get(&version.blob.sha256.to_string());
            let files = blob.and_then(|blob| EstateFiles::from_blob(blob).ok());
            let (Some(files), Some(names)) = (files, named.get(&index)) else {
                continue;
            };
            let texts = policy_texts(&files).into_iter();
            let texts = texts.filter(|policy| names.contains(&policy.reference.id));
            policies.extend(texts.map(|policy| (index, policy)));
        }
        Self { policies }
    }

    /// Where the text of a policy stands on the page.
    pub(super) fn policy(&self, version: Option<u64>, name: &str) -> Option<usize> {
        let is_it = |(index, policy): &(u64, PolicyText)| {
            Some(*index) == version && policy.reference.id == name
        };
        self.policies.iter().position(is_it)
    }

    pub(super) fn tell(&self, page: &mut Markup, report: &Report) {
        page.tags("\n<h2>")
            .text("Estates and policies")
            .tags("</h2>");
        let mut any = false;
        for (index, version) in server::<EstateVersion>(report) {
            any = true;
            page.tags("<h3>")
                .text("Estate ")
                .code(version.version)
                .tags("</h3><p>");
            page.text("In force from ")
                .link(Place::Record(0, index), format_args!("server:{index}"));
            page.text(", by ")
                .code(&version.author)
                .text(": ")
                .name(&version.message)
                .text(". ");
            let proof = version.proof_index.map(|proof| proof.0);
            let proved = server::<Proof>(report).find(|(index, _)| Some(*index) == proof);
            match proved {
                Some((at, proof)) => {
                    page.text(format_args!("{} invariants: ", proof.invariants.len()));
                    page.name(&proof.outcome).text(" at ");
                    page.link(Place::Record(0, at), format_args!("server:{at}"))
                        .text(".");
                }
                None => {
                    page.text("The pack has no proof of its invariants.");
                }
            }
            page.tags("</p>");
            if !report.blobs.contains_key(&version.blob.sha256.to_string()) {
                page.tags("<p class=\"doubt\">")
                    .text("Its text is not in the pack.")
                    .tags("</p>");
            }
            let own = self.policies.iter().enumerate();
            for (at, (_, policy)) in own.filter(|(_, (of, _))| *of == index) {
                let reference = &policy.reference;
                page.target("h4", Place::Policy(at))
                    .name(&reference.id)
                    .tags("</h4><p>");
                page.text("in ")
                    .code(format_args!("{}:{}", reference.file, reference.line));
                page.tags("</p><pre>").name(&policy.text).tags("</pre>");
            }
        }
        if !any {
            page.tags("<p>").text("The pack has none.").tags("</p>");
        }
    }
}

/// The policies that a record says decided.
fn policies_of(item: &PackRecord) -> Vec<String> {
    let record = &item.record;
    record
        .expect_body::<Intent>()
        .map(|body| body.policies)
        .or_else(|_| record.expect_body::<Decision>().map(|body| body.policies))
        .or_else(|_| record.expect_body::<Issuance>().map(|body| body.policies))
        .unwrap_or_default()
}

/// The records of one type in the server's ledger.
fn server<T: Body>(report: &Report) -> impl Iterator<Item = (u64, T)> {
    let own = report.records.iter().filter(|item| item.checkpoint == 0);
    own.filter_map(|item| Some((item.index, item.record.expect_body().ok()?)))
}

/// Each issuance: the identity, and what was known of the code that got it.
pub(super) fn identities(page: &mut Markup, report: &Report, estates: &Estates) {
    let mut told = Markup::default();
    let own = report.records.iter().filter(|item| item.checkpoint == 0);
    for item in own {
        let Ok(issuance) = item.record.expect_body::<Issuance>() else {
            continue;
        };
        told.tags("<h3>")
            .code(&issuance.spiffe_id)
            .text(", SVID ")
            .code(&issuance.serial);
        told.tags("</h3><dl>");
        row(&mut told, "Recorded", |cell| {
            cell.link(Place::Record(0, item.index), place(item));
        });
        row(&mut told, "Valid", |cell| {
            let seconds = |seconds: u64| time(seconds.saturating_mul(1_000));
            let (from, to) = (seconds(issuance.not_before), seconds(issuance.not_after));
            cell.text(format_args!("{from} to {to}"));
        });
        let held = report.certificates.iter();
        for (sha256, _) in held.filter(|(_, index)| **index == item.index) {
            row(&mut told, "Certificate", |cell| {
                cell.text("in the pack, SHA-256 ").code(sha256);
            });
        }
        row(&mut told, "Policy", |cell| {
            let version = item.record.estate().map(|estate| estate.index);
            for name in &issuance.policies {
                match estates.policy(version, name) {
                    Some(at) => cell.link(Place::Policy(at), name),
                    None => cell.code(name),
                };
                cell.text(" ");
            }
        });
        row(&mut told, "Machine", |cell| {
            cell.code(&issuance.node).text(", by the verdict of ");
            let index = issuance.verdict.0;
            cell.link(Place::Record(0, index), format_args!("server:{index}"));
            cell.text(format_args!(
                ", evidence of {}",
                time(issuance.evidence_time)
            ));
        });
        row(&mut told, "Code", |cell| {
            if issuance.facts.is_empty() {
                cell.text(
                    "no fact that the estate makes visible; the record commits to all of them",
                );
            }
            for (name, value) in &issuance.facts {
                cell.tags("<div>")
                    .code(name)
                    .text(" = ")
                    .code(shown(value))
                    .tags("</div>");
            }
        });
        told.tags("</dl>");
    }
    if !told.is_empty() {
        page.tags("\n<h2>")
            .text("Identities, and the code that got them")
            .tags("</h2>")
            .append(&told);
    }
}

/// Each verdict: the machine, its evidence, and the facts that came of it.
pub(super) fn machines(page: &mut Markup, report: &Report) {
    let mut told = Markup::default();
    for (index, body) in server::<Verdict>(report) {
        told.tags("<h3>");
        verdict(&mut told, &body);
        told.tags("</h3><dl>");
        row(&mut told, "Recorded", |cell| {
            cell.link(Place::Record(0, index), format_args!("server:{index}"));
        });
        row(&mut told, "Evidence", |cell| {
            if body.evidence.is_empty() {
                cell.text("none");
            }
            for evidence in &body.evidence {
                let held = report.blobs.contains_key(&evidence.sha256.to_string());
                cell.tags("<div>").name(&evidence.kind);
                cell.text(format_args!(", {} bytes, ", evidence.length.0))
                    .code(evidence.sha256);
                cell.text(if held { "" } else { ", not in the pack" })
                    .tags("</div>");
            }
        });
        for finding in &body.findings {
            row(&mut told, "Finding", |cell| {
                cell.tags("<span class=\"bad\">")
                    .code(&finding.code)
                    .tags("</span>");
                cell.text(" ").name(&finding.message);
            });
        }
        row(&mut told, "Facts", |cell| facts_of(cell, report, &body));
        told.tags("</dl>");
    }
    if !told.is_empty() {
        page.tags("\n<h2>")
            .text("Machines")
            .tags("</h2>")
            .append(&told);
    }
}

/// The whole set where the pack has it, else what the estate makes visible.
fn facts_of(cell: &mut Markup, report: &Report, verdict: &Verdict) {
    let blob = verdict
        .facts_blob
        .and_then(|blob| report.blobs.get(&blob.sha256.to_string()));
    let whole = blob.and_then(|blob| serde_json::from_slice::<FactSet>(blob).ok());
    let mut fact = |name: &str, value: &str, source: &str| {
        cell.tags("<div>").code(name).text(" = ").code(value);
        cell.text(" (").name(source).text(")").tags("</div>");
    };
    if let Some(whole) = whole {
        for item in whole.iter() {
            fact(
                &item.name,
                &item.value.to_string(),
                &item.source.to_string(),
            );
        }
        return;
    }
    for item in &verdict.facts {
        fact(&item.name, &shown(&item.value), &item.source);
    }
    if verdict.facts.is_empty() {
        cell.text("none that the estate makes visible");
    }
}

fn row(page: &mut Markup, name: &'static str, tell: impl FnOnce(&mut Markup)) {
    page.tags("<dt>").text(name).tags("</dt><dd>");
    tell(page);
    page.tags("</dd>");
}

fn shown(value: &FactValue) -> String {
    match value {
        FactValue::Bool(value) => value.to_string(),
        FactValue::Integer(value) => value.to_string(),
        FactValue::Text(text) => text.clone(),
        FactValue::List(items) => items.join(" "),
    }
}
