//! What kernels of machines enforce (IPE): what the estate names for a machine is handed to its agent, and what
//! its agent reads there becomes facts.
//!
//! The agent's word is its own. It is more where everything that ran on the machine is approved by a list that
//! its TPM quoted, and the agent is among it: `machine.ipe.rooted_in_hardware`. In memory only: agents repeat it
//! when they connect, before they ask for anything.

mod report;

use crate::core::Core;
use crate::current::{self, Current};
use crate::refusal::Refusal;
use crate::warranted;
use estate::Enforcement;
use facts::{Affirmed, FactSet, Source, Timestamp, names};
use proto::v1;
use proto::v1::node_update::Update;
use references::{At, Digest, Known};
pub(crate) use report::Report;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a machine enforces is still what the estate asks for, so long after the estate names another policy:
/// it takes a moment until it is installed.
const GRACE_S: u64 = 60;

const NAMES: [&str; 6] = [
    names::MACHINE_ENFORCEMENT,
    names::MACHINE_IPE_POLICY,
    names::MACHINE_IPE_VERSION,
    names::MACHINE_IPE_SHA256,
    names::MACHINE_IPE_ROOTED,
    names::CODE_ENFORCEMENT,
];

/// By node. One lock: every operation is short and none waits.
#[derive(Default)]
pub(crate) struct Enforcing(Mutex<HashMap<String, Told>>);

#[derive(Default)]
struct Told {
    /// Its agent installs what it is sent.
    takes: bool,
    report: Option<Arc<Report>>,
    /// What the estate named before, and until when that counts.
    before: Option<(Arc<Enforcement>, Timestamp)>,
    /// What was made of the report last, and how often that has changed.
    stated: Option<[u8; 32]>,
    epoch: u64,
}

impl Enforcing {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Told>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves on whenever something else is to be said of `node`: what was decided before is then judged again.
    pub(crate) fn epoch(&self, node: &str) -> u64 {
        self.lock().get(node).map_or(0, |told| told.epoch)
    }
}

/// The agent of `node` has connected: what it is to install, if it installs anything.
pub(crate) fn connected(core: &Core, node: &str, takes: bool) -> Option<Update> {
    core.enforcing
        .lock()
        .entry(node.to_owned())
        .or_default()
        .takes = takes;
    let current = takes.then(|| core.current.load_full()).flatten()?;
    let machine = machine(core, node, &current)?;
    let ring = ring(&machine);
    Some(wanted(current.estate.references().enforcement_of(&ring)))
}

fn wanted(named: Option<&Enforcement>) -> Update {
    let message = named.map_or_else(v1::Enforce::default, |named| v1::Enforce {
        policy: named.policy.der().to_vec(),
        enforce: named.enforce,
        files: named
            .files
            .iter()
            .map(|(path, digest)| v1::VerityFile {
                path: path.clone(),
                digest: digest.to_string(),
            })
            .collect(),
    });
    Update::Enforce(message)
}

/// Keeps what the agent of `node` says on its stream, as [`keep`] does.
///
/// # Errors
/// `SYNC-REQUEST`
pub(crate) fn told(core: &Core, node: &str, message: &v1::Enforcement) -> Result<bool, Refusal> {
    Ok(keep(core, node, read(message)?))
}

/// What an agent says, before it counts for anything.
///
/// # Errors
/// `SYNC-REQUEST`
pub(crate) fn read(message: &v1::Enforcement) -> Result<Report, Refusal> {
    Report::parse(message)
}

/// Keeps what the agent of `node` said. True if anything that is said of the machine changes by it: then its
/// workloads are to be judged again.
pub(crate) fn keep(core: &Core, node: &str, report: Report) -> bool {
    {
        let mut all = core.enforcing.lock();
        let told = all.entry(node.to_owned()).or_default();
        if told.report.as_deref() == Some(&report) {
            return false;
        }
        for finding in &report.findings {
            tracing::warn!(node, %finding, "the machine does not enforce what it should");
        }
        told.report = Some(Arc::new(report));
    }
    look_again(core, node)
}

/// Whether something else is to be said of `node` than when this was asked last.
pub(crate) fn look_again(core: &Core, node: &str) -> bool {
    let Some(current) = core.current.load_full() else {
        return false;
    };
    let Some(facts) = machine(core, node, &current) else {
        return false;
    };
    let facts = state(core, node, facts, &current, false);
    let said = facts.only(|fact| NAMES.contains(&fact.name.as_str()));
    let digest = current::digest(&said);
    let mut all = core.enforcing.lock();
    let Some(told) = all.get_mut(node) else {
        return false;
    };
    let last = told.stated.replace(digest);
    if last.unwrap_or_else(|| current::digest(&FactSet::new())) == digest {
        return false;
    }
    told.epoch += 1;
    let enforcement = said.text(names::MACHINE_ENFORCEMENT).unwrap_or("unknown");
    let policy = said.text(names::MACHINE_IPE_SHA256).unwrap_or("none");
    let rooted = said.value(names::MACHINE_IPE_ROOTED).is_some();
    tracing::info!(
        node,
        enforcement,
        policy,
        rooted,
        "what the machine's kernel enforces"
    );
    true
}

/// Judges the workloads of `node` again, and cuts what is not granted any more.
///
/// # Errors
/// What cannot be recorded. The cut has been made then.
pub(crate) async fn judge(core: &Arc<Core>, node: &str) -> Result<(), Refusal> {
    let state = core.enforcing.lock().get(node).and_then(|told| {
        let report = told.report.as_ref()?;
        Some(report.summary())
    });
    let state = state.unwrap_or_else(|| "nothing is known of it".to_owned());
    let reason = format!("ENFORCEMENT: what the machine's kernel enforces has changed: {state}");
    crate::node::rejudge_node(core, node, &reason).await
}

/// A new version of the estate is current: agents get what it names, and what they have of the old one counts
/// for a while.
pub(crate) fn named_anew(core: &Core, old: Option<&Current>, new: &Current) {
    let (before, after) = (
        old.map(|old| old.estate.references()),
        new.estate.references(),
    );
    let same = before.is_some_and(|before| {
        before.enforcement == after.enforcement && before.machines == after.machines
    });
    if same || before.is_none() && after.enforcement.is_empty() {
        return;
    }
    let nodes: Vec<String> = core.enforcing.lock().keys().cloned().collect();
    let until = core.now().plus_secs(GRACE_S);
    for node in nodes {
        let of = |current: &Current| {
            let machine = machine(core, &node, current)?;
            let ring = ring(&machine);
            current.estate.references().enforcement_of(&ring).cloned()
        };
        let (before, after) = (old.and_then(of), of(new));
        if before == after {
            continue;
        }
        let takes = {
            let mut all = core.enforcing.lock();
            let told = all.entry(node.clone()).or_default();
            told.before = before.map(|before| (Arc::new(before), until));
            told.takes
        };
        if takes {
            let update = crate::node::update(wanted(after.as_ref()));
            core.workloads.send(&node, update);
        }
    }
}

/// Machines of which something else is to be said now, since a policy that was named before counts no more.
pub(crate) fn lapsed(core: &Core) -> Vec<String> {
    let now = core.now();
    let over = |told: &mut Told| {
        let ended = told.before.as_ref().is_some_and(|(_, until)| *until <= now);
        if ended {
            told.before = None;
        }
        ended
    };
    let ended: Vec<String> = {
        let mut all = core.enforcing.lock();
        let ended = all
            .iter_mut()
            .filter_map(|(node, told)| over(told).then(|| node.clone()));
        ended.collect()
    };
    ended
        .into_iter()
        .filter(|node| look_again(core, node))
        .collect()
}

/// The machine's facts, as `current` places it.
fn machine(core: &Core, node: &str, current: &Current) -> Option<Affirmed> {
    let row = core.state().node(node).cloned()?;
    let facts = core.machine_facts(&row).ok()?;
    Some(current.placed(&facts).into_owned())
}

fn ring(placed: &FactSet) -> String {
    let pool = placed.text(names::MACHINE_POOL);
    pool.unwrap_or_default().to_owned()
}

/// States what is known of enforcement on `node`, and of the code in `facts`, which are placed. `was_rooted`: as
/// it was said before, which counts until this server has verified the machine's list.
pub(crate) fn state(
    core: &Core,
    node: &str,
    facts: Affirmed,
    current: &Current,
    was_rooted: bool,
) -> Affirmed {
    let (report, before) = {
        let all = core.enforcing.lock();
        let Some(told) = all.get(node) else {
            return facts;
        };
        let before = told.before.as_ref().map(|(before, _)| Arc::clone(before));
        (told.report.clone(), before)
    };
    let Some(report) = report else { return facts };
    let named = current.estate.references().enforcement_of(&ring(&facts));
    if !report.supported && named.is_none() {
        return facts;
    }
    let now = core.now();
    let rooted = is_rooted(core, node, &facts, &report, current, was_rooted);
    let mut said = FactSet::new();
    let source = if rooted {
        Source::Verified
    } else {
        Source::Asserted
    };
    let active = report.active.as_ref();
    let sha256 = active.and_then(|active| active.sha256);
    // What was named before counts only while something is named that is to be enforced.
    // So it is with the version in force while this one is only tried.
    let tried_beside = current
        .in_force()
        .and_then(|old| old.estate.references().enforcement_of(&ring(&facts)));
    let in_force = named
        .filter(|named| named.enforce && report.enforce)
        .and_then(|named| {
            let known = [Some(named), before.as_deref(), tried_beside];
            let mut known = known.into_iter().flatten();
            known.find(|one| one.enforce && Some(one.policy.sha256()) == sha256)
        });
    let word = |enforced| if enforced { "enforced" } else { "observed" };
    said.state(
        names::MACHINE_ENFORCEMENT,
        word(in_force.is_some()),
        source,
        now,
    );
    if let Some(active) = active {
        said.state(names::MACHINE_IPE_POLICY, active.name.as_str(), source, now);
        said.state(
            names::MACHINE_IPE_VERSION,
            active.version.as_str(),
            source,
            now,
        );
    }
    if let Some(sha256) = sha256 {
        let hex = crypto::hex::encode(&sha256);
        said.state(names::MACHINE_IPE_SHA256, hex, source, now);
    }
    if rooted {
        said.state(names::MACHINE_IPE_ROOTED, true, source, now);
    }
    if let Some(code) = facts.fact(names::CODE_SHA256) {
        // As the weaker of the two.
        let source = source.min(code.source);
        let tree = facts.text(names::CODE_FSVERITY);
        let tree = tree.and_then(estate::fsverity_digest);
        let listed = in_force
            .zip(tree)
            .is_some_and(|(one, tree)| one.execution.digests.contains(&tree));
        said.state(names::CODE_ENFORCEMENT, word(listed), source, now);
    }
    facts.and(&warranted::enforced(said))
}

/// Everything that ran on `node` in this boot is approved, by a list that its TPM quoted, and its agent is among
/// it: whoever says what the kernel enforces is a program that the estate knows.
fn is_rooted(
    core: &Core,
    node: &str,
    facts: &FactSet,
    report: &Report,
    current: &Current,
    was_rooted: bool,
) -> bool {
    let approved = |name| facts.text(name) == Some("approved");
    if !approved(names::MACHINE_BOOT_STATE) || !approved(names::MACHINE_IMA_STATE) {
        return false;
    }
    let ring = ring(facts);
    if current.demands(&ring).files.is_none() {
        return false;
    }
    let at = At {
        now: core.now(),
        ring: &ring,
    };
    let values = &current.estate.references().values;
    let good = |digest: &[u8; 32]| matches!(values.look_up(&Digest(*digest), at), Known::Good(_));
    if was_rooted && !crate::attesting::is_listed(core, node) {
        return true;
    }
    crate::attesting::has_run(core, node, report.agent_sha256, report.agent_fsverity)
        .is_some_and(|digest| good(&digest))
}

/// `facts`, of a workload on `node` or of what it was issued on, with what is known of enforcement there now.
/// Unchanged if nothing is known since this server started.
pub(crate) fn restated<'a>(
    core: &Core,
    node: &str,
    facts: &'a Affirmed,
    current: &Current,
) -> Cow<'a, Affirmed> {
    let report = {
        let all = core.enforcing.lock();
        all.get(node).and_then(|told| told.report.clone())
    };
    let Some(report) = report else {
        return Cow::Borrowed(facts);
    };
    let silent = !report.supported && current.estate.references().enforcement.is_empty();
    if silent && NAMES.iter().all(|name| facts.fact(name).is_none()) {
        return Cow::Borrowed(facts);
    }
    let others = facts.only(|fact| !NAMES.contains(&fact.name.as_str()));
    let restated = current.placed(&others).into_owned();
    let was_rooted = facts.fact(names::MACHINE_IPE_ROOTED).is_some();
    let restated = state(core, node, restated, current, was_rooted);
    if current::digest(&restated) == current::digest(facts) {
        return Cow::Borrowed(facts);
    }
    Cow::Owned(restated)
}

/// For `trilith agent list`.
pub(crate) fn shown(core: &Core, node: &str) -> Value {
    let Some(current) = core.current.load_full() else {
        return Value::Null;
    };
    let Some(facts) = machine(core, node, &current) else {
        return Value::Null;
    };
    let facts = state(core, node, facts, &current, false);
    let Some(word) = facts.text(names::MACHINE_ENFORCEMENT) else {
        return Value::Null;
    };
    let findings = {
        let all = core.enforcing.lock();
        let report = all.get(node).and_then(|told| told.report.clone());
        report.map_or_else(Vec::new, |report| report.findings.clone())
    };
    json!({
        "state": word,
        "policy": facts.text(names::MACHINE_IPE_POLICY),
        "version": facts.text(names::MACHINE_IPE_VERSION),
        "sha256": facts.text(names::MACHINE_IPE_SHA256),
        "rooted_in_hardware": facts.value(names::MACHINE_IPE_ROOTED).is_some(),
        "findings": findings,
    })
}
