//! An estate that is not in force, tried on the evidence of machines: by the same judgement as a join's.

use super::evidence::{Recorded, evidence, refused_since, verdict_at};
use super::{Version, folder};
use crate::admin::estates;
use crate::attesting::verified_entries;
use crate::core::Core;
use crate::evict::is_evicted;
use crate::refusal::Refusal;
use appraise::Kept;
use estate::Estate;
use facts::{Finding, Timestamp, names};
use proto::v1::{Document, DryRunRequest};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use store::NodeRow;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// Documents that wait for whoever reads them.
const AHEAD: usize = 16;

/// What would become of one machine, or of one that was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// It stands, and would go on to.
    Kept,
    /// It stands, and would be evicted.
    Evicted,
    /// It is out, and its evidence would be good.
    Accepted,
    /// It is out, and would stay so.
    Refused,
    /// It did not join by TPM, or is locked out for another reason than its evidence.
    Unjudged,
    /// Its evidence cannot be read.
    Unknown,
}

impl Outcome {
    const ALL: [Self; 6] = [
        Self::Kept,
        Self::Evicted,
        Self::Accepted,
        Self::Refused,
        Self::Unjudged,
        Self::Unknown,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Evicted => "evicted",
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::Unjudged => "unjudged",
            Self::Unknown => "unknown",
        }
    }
}

pub(in crate::admin) async fn dry_run(
    core: &Arc<Core>,
    asked: DryRunRequest,
) -> Result<ReceiverStream<Result<Document, Status>>, Refusal> {
    let files = estates::files(&asked.files)?;
    let compiling = files.clone();
    let estate = tokio::task::spawn_blocking(move || Estate::compile(&compiling))
        .await
        .map_err(|error| Refusal::internal("compiling the estate", &error))?
        .map_err(|problems| {
            let first = problems.first().map(ToString::to_string);
            Refusal::Precondition(
                Finding::new("ESTATE-PROBLEMS", "the estate does not compile")
                    .observed(first.unwrap_or_default())
                    .next("trilith estate lint DIR"),
            )
        })?;
    estates::of_this_domain(core, &estate)?;
    if !asked.node.is_empty() && core.state().node(&asked.node).is_none() {
        return Err(Refusal::Unknown(
            Finding::new("NODE-UNKNOWN", "no node of that name ever joined")
                .observed(asked.node)
                .next("trilith agent list"),
        ));
    }
    let (sender, receiver) = mpsc::channel(AHEAD);
    let run = Run {
        core: Arc::clone(core),
        version: Version::new(Arc::new(estate), files),
        folder: folder(&asked.folder),
        now: core.now(),
        counts: BTreeMap::new(),
        sender,
    };
    tokio::task::spawn_blocking(move || run.all(&asked));
    Ok(ReceiverStream::new(receiver))
}

struct Run {
    core: Arc<Core>,
    version: Version,
    folder: String,
    now: Timestamp,
    counts: BTreeMap<Outcome, u64>,
    sender: mpsc::Sender<Result<Document, Status>>,
}

impl Run {
    fn all(mut self, asked: &DryRunRequest) {
        let mut nodes: Vec<NodeRow> = self.core.state().nodes().cloned().collect();
        nodes.retain(|node| asked.node.is_empty() || node.name == asked.node);
        for node in nodes {
            let document = self.node(&node);
            if !self.send(&document) {
                return;
            }
        }
        if asked.past && !self.past(asked) {
            return;
        }
        let counts: BTreeMap<&str, u64> = Outcome::ALL
            .into_iter()
            .map(|outcome| {
                let count = self.counts.get(&outcome).copied();
                (outcome.name(), count.unwrap_or_default())
            })
            .collect();
        let version = self.version.estate.version().to_owned();
        self.send(&json!({ "version": version, "counts": counts }));
    }

    /// False when nobody reads any more.
    fn send(&self, document: &Value) -> bool {
        let json = document.to_string();
        self.sender.blocking_send(Ok(Document { json })).is_ok()
    }

    fn node(&mut self, node: &NodeRow) -> Value {
        let out = node.locked.is_some();
        let facts = self.core.machine_facts(node);
        let by_tpm = facts.is_ok_and(|facts| facts.text(names::MACHINE_JOIN) == Some("tpm"));
        let recorded = if is_evicted(node) {
            super::evidence::newest(&self.core, &node.name)
        } else {
            verdict_at(&self.core, node.verdict)
        };
        // Whoever is locked out otherwise stays so, whatever its evidence says.
        let judged = by_tpm && (!out || is_evicted(node));
        let (index, tried) = match recorded {
            Ok(recorded) if judged => (recorded.index, self.recorded(&recorded, out)),
            Ok(recorded) => (recorded.index, Tried::plain(Outcome::Unjudged, Vec::new())),
            Err(refusal) => {
                let finding = refusal.finding().clone();
                let tried = Tried::plain(Outcome::Unknown, vec![finding]);
                (node.verdict, tried)
            }
        };
        *self.counts.entry(tried.outcome).or_default() += 1;
        let since = verified_entries(&self.core, &node.name)
            .map(|entries| entries.saturating_sub(tried.entries));
        json!({
            "node": node.name,
            "locked": node.locked,
            "verdict": index,
            "outcome": tried.outcome.name(),
            "findings": tried.findings,
            "refusals": tried.refusals,
            "entries": tried.entries,
            // Measured since, judged then, and not kept: the machine sends them again.
            "entries_since": since,
        })
    }

    /// Refused verdicts of before; false when nobody reads any more.
    fn past(&mut self, asked: &DryRunRequest) -> bool {
        let core = Arc::clone(&self.core);
        let mut read = true;
        let searched = refused_since(&core, asked.since, |recorded| {
            let node = recorded.verdict.node.rsplit('/').next().unwrap_or_default();
            if !asked.node.is_empty() && node != asked.node {
                return true;
            }
            let tried = self.recorded(&recorded, true);
            read = self.send(&json!({
                "node": node,
                "past": recorded.index,
                "verdict": recorded.index,
                "outcome": tried.outcome.name(),
                "was": recorded.verdict.findings,
                "findings": tried.findings,
                "refusals": tried.refusals,
            }));
            read
        });
        match searched {
            Ok(()) => read,
            Err(refusal) => {
                drop(self.sender.blocking_send(Err(refusal.into())));
                false
            }
        }
    }

    fn recorded(&mut self, recorded: &Recorded, out: bool) -> Tried {
        let blobs = match evidence(&self.core, recorded) {
            Ok(blobs) => blobs,
            Err(refusal) => {
                return Tried::plain(Outcome::Unknown, vec![refusal.finding().clone()]);
            }
        };
        let kept = match Kept::read(&blobs) {
            Ok(kept) => kept,
            Err(findings) => return Tried::plain(Outcome::Unknown, findings),
        };
        let findings = match self
            .version
            .try_on(&kept, &self.core.endorsements, self.now)
        {
            Ok(findings) => findings,
            Err(refusal) => {
                return Tried::plain(Outcome::Unknown, vec![refusal.finding().clone()]);
            }
        };
        let outcome = match (out, findings.is_empty()) {
            (false, true) => Outcome::Kept,
            (false, false) => Outcome::Evicted,
            (true, true) => Outcome::Accepted,
            (true, false) => Outcome::Refused,
        };
        Tried {
            outcome,
            refusals: self.version.tell(&kept, &findings, self.now, &self.folder),
            findings,
            entries: entries(&kept),
        }
    }
}

struct Tried {
    outcome: Outcome,
    findings: Vec<Finding>,
    refusals: Vec<appraise::Refusal>,
    /// Of the list that was kept.
    entries: u64,
}

impl Tried {
    const fn plain(outcome: Outcome, findings: Vec<Finding>) -> Self {
        Self {
            outcome,
            findings,
            refusals: Vec::new(),
            entries: 0,
        }
    }
}

fn entries(kept: &Kept) -> u64 {
    let (sent, _) = kept.list();
    let list = attest_tpm::ima::List::parse_binary(sent.list, sent.first);
    list.map_or(0, |list| {
        let entries = u64::try_from(list.entries().len()).unwrap_or(u64::MAX);
        list.first().saturating_add(entries)
    })
}
