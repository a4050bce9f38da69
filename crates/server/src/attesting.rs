//! Machines that joined by TPM go on proving themselves: over their agents' streams they are asked for a
//! quote on a schedule and whenever their kernel measures something, and only what is new is verified.
//!
//! What a machine proved stands in memory; after a restart it is read back from the evidence of its verdict,
//! and its IMA list is then sent whole. What follows a refusal is [`crate::evict`]'s. Good answers are
//! recorded together.

mod demand;
mod kept;
mod tally;
mod watch;

use crate::core::Core;
use crate::current::Current;
use crate::evict::{evict, is_evicted};
use crate::join::{Proved, chip};
use crate::lock::lock;
use crate::metrics::Code;
use crate::node::Caller;
use crate::refusal::Refusal;
use crate::warranted;
use appraise::Kept;
use attest_tpm::continuous::{Answer, Standing, verify};
use attest_tpm::ima::{Kind, Progress, Round};
use attest_tpm::{Counted, PcrSelection};
pub(crate) use demand::{Outcome, demand};
use facts::{Affirmed, FactSet, Finding, Timestamp, names};
use ledger::Draft;
use ledger::body::{self, Attested, Body as _};
use proto::v1;
use proto::v1::node_update::Update;
pub(crate) use recheck::tpm::PCRS;
use references::{At, Digest};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use store::NodeRow;
use tally::{Shown, Tallies};
use tokio::sync::watch as watch_channel;
use watch::{ANSWER_S, Answered, Over, Pace, Question, Watches};

/// What is known of every machine. One lock for what is asked and one for what is counted: every operation is
/// short and none waits.
#[derive(Default)]
pub(crate) struct Watched {
    watches: Mutex<Watches>,
    tallies: Mutex<Tallies>,
    /// Tells whoever waits for a machine that something has come of some answer.
    moved: watch_channel::Sender<()>,
}

impl Watched {
    fn lock(&self) -> MutexGuard<'_, Watches> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tallies(&self) -> MutexGuard<'_, Tallies> {
        self.tallies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn forget(&self, node: &str) {
        self.lock().forget(node);
    }
}

fn pace(core: &Core) -> Pace {
    let settings = core.config.attestation;
    Pace {
        interval: settings.interval_s.saturating_mul(1_000),
        window: settings.window_s.saturating_mul(1_000),
    }
}

/// Every machine of an earlier run has a window to come back in.
pub(crate) fn take_up(core: &Core) {
    let now = core.now();
    let state = core.state();
    let mut watches = core.watched.lock();
    for node in state.nodes().filter(|node| node.locked.is_none()) {
        watches.begin(&node.name, now, pace(core));
    }
}

/// `node` has proved itself: what it is compared with from now on.
pub(crate) fn stands(core: &Core, node: &str, proved: Proved) {
    let Proved {
        standing,
        list,
        judged,
    } = proved;
    // Under the lock: who judges again after an estate sees it, or it sees that estate.
    let mut watches = core.watched.lock();
    let current = core.current.load();
    let newer = current.as_ref().is_some_and(|one| one.index != judged);
    let boot = standing.boot();
    let standing = if newer { standing.anew() } else { standing };
    watches.stands(node, standing, core.now(), pace(core));
    if let Some(list) = list {
        watches.saw(node, boot, list.files());
    }
}

/// States that the kernel of `node` has measured a workload's code in this boot, as the machine's list says.
/// Two digests count only if reference values know them as one file's: else they may be of two.
pub(crate) fn root_in_hardware(
    core: &Core,
    node: &str,
    facts: Affirmed,
    current: &Current,
) -> Affirmed {
    let Some(proved) = facts.fact(names::MACHINE_BOOT_RESET_COUNT) else {
        return facts;
    };
    let now = proved.observed_at;
    let digests = estate::sha256_digests_of_code(&facts);
    let values = &current.estate.references().values;
    let seen = |digest: &[u8; 32], kind| core.watched.lock().has_seen(node, kind, digest);
    let rooted = !digests.others
        && match (&digests.sha256, &digests.fsverity) {
            (None, None) => false,
            (Some(content), None) => seen(content, Kind::Content),
            (None, Some(tree)) => seen(tree, Kind::Verity),
            (Some(content), Some(tree)) => {
                values.of_one_file(&Digest(*content), &Digest(*tree))
                    && (seen(content, Kind::Content) || seen(tree, Kind::Verity))
            }
        };
    if !rooted {
        return facts;
    }
    let measured = warranted::measured(&facts, now);
    facts.and(&measured)
}

/// Whether the list of `node` has been verified since this server started.
pub(crate) fn is_listed(core: &Core, node: &str) -> bool {
    core.watched.lock().has_list(node)
}

/// The digest by which the kernel of `node` has measured a file in this boot, as the machine's list says.
pub(crate) fn has_run(
    core: &Core,
    node: &str,
    content: Option<[u8; 32]>,
    tree: Option<[u8; 32]>,
) -> Option<[u8; 32]> {
    let watches = core.watched.lock();
    let seen = |digest: &[u8; 32], kind| watches.has_seen(node, kind, digest);
    let content = content.filter(|digest| seen(digest, Kind::Content));
    content.or_else(|| tree.filter(|digest| seen(digest, Kind::Verity)))
}

/// Has the workloads of `node` ask again whose code its kernel has measured by now.
fn tell_of(core: &Core, node: &str, files: &[(Kind, [u8; 32])]) {
    let fresh: HashSet<&[u8; 32]> = files.iter().map(|(_, digest)| digest).collect();
    let asks = |facts: &FactSet| {
        let digests = estate::sha256_digests_of_code(facts);
        let is_fresh = |digest: Option<[u8; 32]>| digest.is_some_and(|one| fresh.contains(&one));
        facts.fact(names::CODE_ROOTED_IN_HARDWARE).is_none()
            && (is_fresh(digests.sha256) || is_fresh(digests.fsverity))
    };
    let workloads = core.workloads.of(node, asks);
    if workloads.is_empty() {
        return;
    }
    let estate_index = core.current.load().as_ref().map_or(0, |one| one.index);
    let reconsider = v1::Reconsider {
        workloads,
        estate_index,
    };
    let update = crate::node::update(Update::Reconsider(reconsider));
    core.workloads.send(node, update);
}

/// Has every workload of `node` ask again: some were refused before it had proved itself.
fn ask_again(core: &Core, node: &str) {
    let estate_index = core.current.load().as_ref().map_or(0, |one| one.index);
    let reconsider = v1::Reconsider {
        workloads: Vec::new(),
        estate_index,
    };
    let update = crate::node::update(Update::Reconsider(reconsider));
    core.workloads.send(node, update);
}

/// The agent of `caller` has connected: the first question, if its machine has a TPM.
///
/// # Errors
/// What cannot be read back.
pub(crate) async fn connected(
    core: &Arc<Core>,
    caller: &Caller,
) -> Result<Option<Update>, Refusal> {
    let name = &caller.node.name;
    let node = core.state().node(name).cloned();
    let node = node.unwrap_or_else(|| caller.node.clone());
    if core.machine_facts(&node)?.text(names::MACHINE_JOIN) != Some("tpm") {
        return Ok(None);
    }
    if core.watched.lock().standing(name).is_none() {
        let (reading, row) = (Arc::clone(core), node.clone());
        let kept = tokio::task::spawn_blocking(move || read_back(&reading, &row)).await;
        let kept = kept.map_err(|error| Refusal::internal("reading evidence", &error))??;
        // What it answered to an earlier run of this server is not in the evidence of its join.
        let facts = core.machine_facts(&node)?;
        let recorded = chip::known(&facts).and_then(|chip| core.state().counted(chip));
        let kept = match recorded {
            Some(recorded) => kept.having_counted(recorded),
            None => kept,
        };
        let outgrown = kept::since_it_joined(core, &node).await?;
        if !outgrown.is_empty() {
            evict(core, name, outgrown, Vec::new()).await?;
            return Ok(None);
        }
        let mut watches = core.watched.lock();
        // It may have proved itself anew in between.
        if watches.standing(name).is_none() {
            watches.stands(name, kept, core.now(), pace(core));
        }
    }
    let over = Over::of(caller);
    core.watched.lock().answers(name, over, core.now());
    Ok(question(core, caller))
}

/// What the verdict of `node` rests on, from its record and blobs.
fn read_back(core: &Core, node: &NodeRow) -> Result<Standing, Refusal> {
    let failed = |what: &str| {
        Refusal::Unavailable(
            Finding::new("SERVER-BLOB", "the evidence of a verdict is not there")
                .expected(format!("{what} of record {}", node.verdict))
                .next("let the machine prove itself again"),
        )
    };
    let record = core.journal.reader().record(node.verdict);
    let record = record.map_err(|error| Refusal::internal("reading a record", &error))?;
    let verdict: body::Verdict = record
        .expect_body()
        .map_err(|error| Refusal::internal("reading a verdict", &error))?;
    let blob = |kind: &str| {
        let named = verdict.evidence.iter().find(|one| one.kind == kind);
        let named = named.ok_or_else(|| failed(kind))?;
        let bytes = core.blobs.get(&named.sha256);
        let bytes = bytes.map_err(|error| Refusal::internal("reading a blob", &error))?;
        bytes.ok_or_else(|| failed(kind))
    };
    let (key, quote) = (blob("tpm-ak-public")?, blob("tpm-quote")?);
    Standing::kept(&key, &quote, &blob("tpm-pcr-values")?).map_err(Refusal::Unavailable)
}

/// What the chip of `node` counted in the quote of its verdict. `None` where that cannot be read back: a machine
/// that proves itself anew is not refused for what this server has lost.
pub(crate) async fn counted(core: &Arc<Core>, node: &NodeRow) -> Option<Counted> {
    let (reading, row) = (Arc::clone(core), node.clone());
    let kept = tokio::task::spawn_blocking(move || read_back(&reading, &row)).await;
    match kept {
        Ok(Ok(kept)) => return Some(kept.counted()),
        Ok(Err(refusal)) => tracing::warn!(%refusal, node = node.name, "its chip is not compared"),
        Err(error) => tracing::warn!(%error, node = node.name, "its chip is not compared"),
    }
    None
}

/// The kernel of the machine of `caller` has measured something.
pub(crate) fn wanted(core: &Core, caller: &Caller) -> Option<Update> {
    core.watched.lock().wanted(&caller.node.name, core.now());
    question(core, caller)
}

/// What the machine of `caller` is to be asked now on its stream, if the time has come.
pub(crate) fn question(core: &Core, caller: &Caller) -> Option<Update> {
    ask(core, &caller.node.name, Over::of(caller))
}

fn ask(core: &Core, node: &str, over: Over) -> Option<Update> {
    let (nonce, now) = (crypto::random(), core.now());
    let asked = core
        .watched
        .lock()
        .question(node, over, nonce, now, pace(core))?;
    let Question { nonce, standing } = asked;
    let boot = standing.boot();
    Some(Update::Attest(v1::AttestRequest {
        nonce: nonce.to_vec(),
        pcrs: PCRS.to_vec(),
        ima_entries: standing.list().map_or(0, |list| list.entries()),
        reset_count: boot.reset_count,
        restart_count: boot.restart_count,
        within_s: u32::try_from(ANSWER_S).unwrap_or(u32::MAX),
    }))
}

/// An answer that is being judged.
struct Judging<'a> {
    core: &'a Core,
    node: &'a str,
    number: u64,
}

impl Drop for Judging<'_> {
    fn drop(&mut self) {
        self.core.watched.lock().judged(self.node, self.number);
    }
}

/// Judges an answer on the pool; the next question, if there is one already. A machine that is not as it
/// should be is evicted, and locked if its chip counts less than it did: a join would not show that.
///
/// # Errors
/// `ATTEST-NONCE`, which changes nothing; what an eviction cannot record.
pub(crate) async fn answer(
    core: &Arc<Core>,
    caller: &Caller,
    sent: v1::Attestation,
) -> Result<Option<Update>, Refusal> {
    let (name, now) = (&caller.node.name, core.now());
    let over = Over::of(caller);
    let taken = core.watched.lock().answered(name, over, &sent.nonce, now);
    let asked = taken.map_err(|finding| {
        refused(core, &finding);
        Refusal::Denied(finding)
    })?;
    let judging = Judging {
        core,
        node: name,
        number: asked.number,
    };
    judged(core, caller, sent, asked, now).await?;
    drop(judging);
    core.watched.moved.send_replace(());
    Ok(question(core, caller))
}

async fn judged(
    core: &Arc<Core>,
    caller: &Caller,
    sent: v1::Attestation,
    asked: Answered,
    now: Timestamp,
) -> Result<(), Refusal> {
    let name = &caller.node.name;
    // Read now, and believed once the quote that it comes with is good.
    let enforcement = sent.enforcement.as_ref();
    let enforcement = enforcement.map(crate::enforcing::read).transpose()?;
    let (current, facts) = (core.estate()?, core.machine_facts(&caller.node)?);
    let answer = Answer {
        quote: sent.quote,
        quote_signature: sent.quote_signature,
        pcr_values: sent.pcr_values,
        ima_first: sent.ima_first,
        ima_list: sent.ima_list,
    };
    let epoch = asked.epoch;
    let estate = current.version;
    let chip = chip::known(&facts).map(str::to_owned);
    let before = asked.standing.list().copied();
    let judged = core
        .pool
        .run(move || {
            let judged = judge(&answer, &asked, &current, &facts, now);
            (answer, judged)
        })
        .await;
    let (answer, judged) = judged.map_err(|error| Refusal::internal("judging a quote", &error))?;
    match judged {
        Ok((standing, round)) => {
            let passed = {
                let mut watches = core.watched.lock();
                let boot = standing.boot();
                let shown = Shown {
                    resets: boot.reset_count,
                    restarts: boot.restart_count,
                    pcrs: standing.pcrs().digest(),
                    entries: standing.list().map(|list| list.entries()),
                    estate,
                    counted: chip::counted(chip.as_deref(), standing.counted()),
                };
                let passed = watches.passed(name, epoch, standing, core.now(), pace(core));
                if passed {
                    watches.saw(name, boot, round.files());
                    core.watched.tallies().count(name, core.now(), shown);
                }
                passed
            };
            if passed {
                if caller.proof.proved() {
                    ask_again(core, name);
                }
                tell_of(core, name, round.files());
                core.metrics.attestations.inc();
                let fresh = u64::try_from(round.fresh()).unwrap_or(u64::MAX);
                core.metrics.measured.inc_by(fresh);
                let told = enforcement.is_some_and(|said| crate::enforcing::keep(core, name, said));
                if told || crate::enforcing::look_again(core, name) {
                    crate::enforcing::judge(core, name).await?;
                }
            }
        }
        Err(findings) if core.watched.lock().counts(name, epoch) => {
            for finding in &findings {
                refused(core, finding);
            }
            let back = findings.iter().find(|one| Counted::is_back(one)).cloned();
            let evicted = evict(core, name, findings, evidence(&answer, before)).await;
            if let Some(back) = back {
                rewound(core, name, &back).await;
            }
            // Whoever waits for what comes of it hears it, recorded or not.
            core.watched.moved.send_replace(());
            evicted?;
            // How long it had been as it should be. What cannot be recorded now stays counted.
            let counted = core.watched.tallies().take(name);
            if let Err(refusal) = record(core, counted.into_iter().collect()).await {
                tracing::warn!(%refusal, node = name, "its good answers are recorded later");
            }
        }
        // The machine has proved itself otherwise since, or is asked anew.
        Err(_) => {}
    }
    Ok(())
}

/// The chip of `node`, which is evicted, was put back. INVARIANT: no clean join lifts that.
async fn rewound(core: &Arc<Core>, node: &str, back: &Finding) {
    let known = core.state().node(node).cloned();
    let Some(known) = known.filter(|known| known.locked.is_none() || is_evicted(known)) else {
        return;
    };
    let locked = lock(core, &known, known.generation, &back.to_string()).await;
    tracing::warn!(refusal = %locked, node, "its chip was put back");
}

/// What the machine `node` has shown last, for the next that it proves.
pub(crate) fn shown(core: &Core, node: &str) -> Option<Arc<Standing>> {
    core.watched.lock().shown(node)
}

/// Records the good answers of machines whose first one is old enough; when the server stops, all.
///
/// # Errors
/// What cannot be recorded stays counted.
pub(crate) async fn record_passed(core: &Arc<Core>, all: bool) -> Result<(), Refusal> {
    let wait = if all {
        0
    } else {
        core.config.attestation.record_s
    };
    let before = core.now().minus_secs(wait);
    loop {
        let counted = core.watched.tallies().take_begun(before);
        if counted.is_empty() {
            return Ok(());
        }
        record(core, counted).await?;
    }
}

async fn record(core: &Arc<Core>, counted: Vec<Attested>) -> Result<(), Refusal> {
    let drafts = counted.iter().map(|body| core.by_server(body.record()));
    let drafts: Vec<Draft> = drafts.collect::<Result<_, _>>()?;
    if drafts.is_empty() {
        return Ok(());
    }
    let appended = core.append(drafts).await;
    if appended.is_err() {
        core.watched.tallies().put_back(counted);
    }
    appended.map(drop)
}

fn judge(
    answer: &Answer,
    asked: &Answered,
    current: &Current,
    facts: &FactSet,
    now: Timestamp,
) -> Result<(Standing, Round), Vec<Finding>> {
    let selection = PcrSelection::new(PCRS).map_err(|finding| vec![finding])?;
    let ring = current.ring(facts);
    let demands = current.demands(&ring);
    let (nonce, before) = (&asked.nonce, asked.standing.as_ref());
    let passed = verify(
        answer,
        nonce,
        &selection,
        before,
        demands.files.as_ref(),
        now,
    )?;
    // What booted has not changed; whether it is still good may have.
    let at = At { now, ring: &ring };
    let values = &current.estate.references().values;
    let lapsed = demands.lapsed(values, before.booted(), at);
    if lapsed.is_empty() {
        Ok(passed)
    } else {
        Err(lapsed)
    }
}

fn refused(core: &Core, finding: &Finding) {
    let code = finding.code.to_string();
    core.metrics
        .attestations_refused
        .get_or_create(&Code { code })
        .inc();
}

/// `before` is how far the list was verified: what was sent is the part behind it.
fn evidence(answer: &Answer, before: Option<Progress>) -> Vec<(&'static str, Vec<u8>)> {
    let before = before.filter(|_| answer.ima_first > 0);
    vec![
        (
            Kept::BEFORE,
            before.map_or_else(Vec::new, |before| before.to_bytes().to_vec()),
        ),
        ("tpm-quote", answer.quote.clone()),
        ("tpm-quote-signature", answer.quote_signature.clone()),
        ("tpm-pcr-values", answer.pcr_values.concat()),
        ("ima-list", answer.ima_list.clone()),
    ]
}

/// After a new version of the estate: PCRs that it does not allow evict their machines now, and the lists of
/// the others are judged from their beginning within an interval.
pub(crate) async fn judge_again(core: &Arc<Core>, old: Option<Arc<Current>>, new: Arc<Current>) {
    let before = old.as_ref().map(|old| old.estate.references());
    let after = new.estate.references();
    if before
        .is_some_and(|before| before.values == after.values && before.machines == after.machines)
    {
        return;
    }
    let (judging, known) = (Arc::clone(core), core.watched.lock().standings());
    let lapsed = core.pool.run(move || lapsed(&judging, &new, known)).await;
    match lapsed {
        Ok(lapsed) => {
            for (node, findings) in lapsed {
                if let Err(refusal) = evict(core, &node, findings, Vec::new()).await {
                    tracing::error!(%refusal, node, "evicted, and not recorded");
                }
            }
        }
        Err(error) => tracing::error!(%error, "machines were not judged again"),
    }
}

/// The machines that `new` does not allow; the others are to be asked for their whole lists.
fn lapsed(
    core: &Core,
    new: &Current,
    known: Vec<(String, Arc<Standing>)>,
) -> Vec<(String, Vec<Finding>)> {
    let (now, pace) = (core.now(), pace(core));
    let mut lapsed = Vec::new();
    for (name, standing) in known {
        let Some(findings) = lapses(core, new, &name, &standing, now) else {
            continue;
        };
        if findings.is_empty() {
            // Not all at once.
            let spread = u64::from_be_bytes(crypto::random()) % pace.interval.max(1);
            core.watched.lock().anew(&name, now, spread);
        } else {
            lapsed.push((name, findings));
        }
    }
    lapsed
}

/// Why what one machine booted is good no more under `new`; `None` if nothing is known of it.
fn lapses(
    core: &Core,
    new: &Current,
    name: &str,
    standing: &Standing,
    now: Timestamp,
) -> Option<Vec<Finding>> {
    let node = core.state().node(name).cloned()?;
    let facts = core.machine_facts(&node).ok()?;
    let ring = new.ring(&facts);
    let values = &new.estate.references().values;
    let at = At { now, ring: &ring };
    let demands = new.demands(&ring);
    let lapsed = demands.lapsed(values, standing.booted(), at);
    if lapsed.is_empty() {
        return Some(kept::outgrown(core, &node, &demands, values, at));
    }
    Some(lapsed)
}

/// The machines that would be evicted at once if `new` were in force, of how many; their lists are not looked
/// at.
pub(crate) fn would_lapse(core: &Core, new: &Current) -> (usize, Vec<(String, Vec<Finding>)>) {
    let (now, known) = (core.now(), core.watched.lock().standings());
    let mut judged = 0;
    let mut failing = Vec::new();
    for (name, standing) in known {
        match lapses(core, new, &name, &standing, now) {
            None => {}
            Some(findings) => {
                judged += 1;
                if !findings.is_empty() {
                    failing.push((name, findings));
                }
            }
        }
    }
    (judged, failing)
}

/// How many entries of its list a machine has been verified up to, if it is known.
pub(crate) fn verified_entries(core: &Core, node: &str) -> Option<u64> {
    let standing = core.watched.lock().standing(node)?;
    Some(standing.list()?.entries())
}

/// Evicts machines that reference values speak of and that have been silent for too long.
pub(crate) async fn sweep(core: &Arc<Core>) {
    let now = core.now();
    let overdue = core.watched.lock().overdue(now, pace(core));
    for name in overdue {
        let node = core.state().node(&name).cloned();
        let Some(node) = node.filter(|node| node.locked.is_none()) else {
            core.watched.forget(&name);
            continue;
        };
        match has_to_answer(core, &node).await {
            Ok(true) => {}
            Ok(false) => continue,
            Err(refusal) => {
                tracing::warn!(%refusal, node = name, "not known whether it has to answer");
                continue;
            }
        }
        let window = core.config.attestation.window_s;
        let finding = Finding::new(
            "ATTEST-MISSED",
            "the machine has not proved itself for too long",
        )
        .expected(format!("an answer within {window} s"))
        .observed("none")
        .next("look at the node agent and its way to the server; it joins again by itself");
        if let Err(refusal) = evict(core, &name, vec![finding], Vec::new()).await {
            tracing::error!(%refusal, node = name, "evicted, and not recorded");
        }
    }
}

/// Whether silence of `node` means something: it joined by TPM and holds something that stands, and
/// reference values say what it boots or which files it may run. What its agent says of itself does not count.
async fn has_to_answer(core: &Arc<Core>, node: &NodeRow) -> Result<bool, Refusal> {
    let Some(current) = core.current.load_full() else {
        return Ok(false);
    };
    let facts = core.machine_facts(node)?;
    if facts.text(names::MACHINE_JOIN) != Some("tpm") {
        core.watched.forget(&node.name);
        return Ok(false);
    }
    let demands = core
        .pool
        .run(move || current.demands(&current.ring(&facts)))
        .await
        .map_err(|error| Refusal::internal("reading references", &error))?;
    if demands.is_empty() {
        return Ok(false);
    }
    let now = core.now().as_millis();
    let state = core.state();
    let holds = state
        .svids_on(&node.name)
        .any(|svid| svid.not_after > now && state.stands(svid));
    Ok(holds)
}
