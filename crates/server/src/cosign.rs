//! Witnesses of this ledger: they are shown its checkpoints, in rounds, and what enough of them have cosigned is kept,
//! served and pushed. Nothing that is appended waits for them: a ledger without its witnesses grows on, and who
//! follows it sees how far they have looked.
//!
//! INVARIANT: what is shown to a witness is a published head of a server that may sign.
//! INVARIANT: cosignatures stand in what this module keeps and in packs. Receipts, anchors and deltas of checkpoints
//! carry the ledger's own line alone.

mod ask;
mod driven;
mod holding;
mod mirror;
mod shown;
mod witness;

use crate::config;
use crate::core::Core;
use crate::hub::Published;
use crate::signing::Foreign;
use ask::Address;
use facts::{Finding, Timestamp};
use ledger::{Checkpoint, CosignerKey, Hash, LedgerKey, Note, NoteSignature, Policy};
use ledger_store::{Disk as _, Reader, RealDisk, replace};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use witness::{Lines, Standing, Target};

pub(crate) use holding::holding;
pub(crate) use shown::Shown;

/// Seconds by which clocks of witnesses may be ahead.
const AHEAD: u64 = 60;
/// Seconds by which this clock and theirs differ without a word.
const DIFFERS: i64 = 300;
/// In the data directory.
const FILE: &str = "witnessed";
/// Requests that one round may cost a witness: it may have to say twice what it has.
const ATTEMPTS: u32 = 3;
/// Cadences until they are asked again, where all have answered and not enough have cosigned.
const PAUSE: u32 = 2;

/// What enough witnesses have cosigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Witnessed {
    pub(crate) size: u64,
    pub(crate) root: Hash,
    /// With the lines of the policy's witnesses and the ledger's own, and no other.
    pub(crate) note: Arc<str>,
    /// Seconds since 1970: by then a quorum had seen it, by the witnesses' clocks.
    pub(crate) time: u64,
}

impl Witnessed {
    /// As somebody else reads it at `now`; `None` where the quorum is not reached. Lines of clocks that are ahead count
    /// only where the others are not enough.
    fn read(note: &Note, key: &LedgerKey, policy: &Policy, now: Timestamp) -> Option<Self> {
        let by = |until| policy.judge_by(note, until).ok().filter(|it| it.reached);
        let quorum = by(now.plus_secs(AHEAD).as_secs()).or_else(|| by(u64::MAX))?;
        let text = note.to_string();
        let checkpoint = Checkpoint::open(&text, key).ok()?;
        Some(Self {
            size: checkpoint.size,
            root: checkpoint.root,
            note: text.into(),
            time: quorum.time.unwrap_or_default(),
        })
    }

    /// Whether it says more than `other`: of a longer ledger, or of the same one later.
    fn is_newer(&self, other: &Self) -> bool {
        (self.size, self.time) > (other.size, other.time)
    }
}

/// One address; several keys of the policy may answer there.
struct Asked {
    url: String,
    address: Address,
    keys: Vec<CosignerKey>,
    /// Those of `keys` that sign once they have the records.
    mirrors: Vec<CosignerKey>,
}

pub(crate) struct Witnesses {
    policy: Policy,
    settings: config::Witnesses,
    key: LedgerKey,
    asked: Vec<Arc<Asked>>,
    /// At the start somebody did not say what it has seen.
    unheard: bool,
    /// Records that there were before it: a longer head has one of this run in it, and no line over that is an old one.
    before: u64,
    path: PathBuf,
    newest: watch::Sender<Option<Arc<Witnessed>>>,
    /// What is known of each of `asked`.
    standings: Mutex<Vec<Standing>>,
    /// Somebody waits for the next round.
    wanted: Notify,
    /// Seconds by which the clock here is ahead of theirs, or behind; zero for few.
    ahead_s: AtomicI64,
}

impl Witnesses {
    /// Reads the policy and what was cosigned before the last stop. Blocks on the disk.
    pub(crate) fn open(
        settings: &config::Witnesses,
        data_dir: &Path,
        reader: &Reader,
        key: &LedgerKey,
        (unheard, before): (bool, u64),
    ) -> Result<Self, Finding> {
        let policy = settings.read(key).map_err(|error| error.finding())?;
        let asked = addresses(settings, &policy)?;
        let path = data_dir.join(FILE);
        let newest = kept(&path, reader, key, &policy);
        // Of a log that this one goes on from they have seen much, and of this one nothing.
        let line = format!("{}\n", key.origin());
        let seen = newest.as_deref().filter(|it| it.note.starts_with(&line));
        let standings = asked.iter().map(|asked| Standing::begin(asked, seen));
        Ok(Self {
            standings: Mutex::new(standings.collect()),
            newest: watch::Sender::new(newest),
            wanted: Notify::new(),
            ahead_s: AtomicI64::new(0),
            settings: settings.clone(),
            key: key.clone(),
            policy,
            asked,
            unheard,
            before,
            path,
        })
    }

    /// What enough witnesses have cosigned last.
    pub(crate) fn newest(&self) -> Option<Arc<Witnessed>> {
        self.newest.borrow().clone()
    }

    /// Whether enough of them have cosigned a head that was made since the start: none of those knows a longer ledger.
    fn since_start(&self) -> bool {
        self.newest()
            .is_some_and(|newest| newest.size > self.before)
    }

    /// The text of the policy.
    pub(crate) fn policy(&self) -> &str {
        self.policy.text()
    }

    /// The first that is of `size` records or more; `None` if the witnesses are not done in `within`.
    pub(crate) async fn covering(&self, size: u64, within: Duration) -> Option<Arc<Witnessed>> {
        let mut newest = self.newest.subscribe();
        self.wanted.notify_one();
        let covers = |it: &Option<Arc<Witnessed>>| it.as_ref().is_some_and(|it| it.size >= size);
        let waited = tokio::time::timeout(within, newest.wait_for(covers)).await;
        waited.ok()?.ok()?.clone()
    }

    /// For `trilith status`: what is witnessed, how far that is behind `head`, and what each witness said last.
    pub(crate) fn status(&self, head: u64) -> Value {
        let newest = self.newest();
        let witnessed = newest.map(|it| {
            json!({
                "size": it.size, "behind": head.saturating_sub(it.size),
                "time": witness::time(it.time),
            })
        });
        let standings = self
            .standings
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let asked = self.asked.iter().zip(standings.iter());
        let asked: Vec<Value> = asked
            .map(|(asked, standing)| standing.shown(asked))
            .collect();
        json!({
            "witnessed": witnessed, "since_start": self.since_start(), "asked": asked,
            "clock_ahead_s": self.ahead_s.load(Ordering::Relaxed),
            "policy": self.policy(),
        })
    }

    /// A line over a head was made after the head, which was `made` by the clock here: where enough of them have `seen` it
    /// before that by their clocks, this one is ahead or theirs are behind. Which of them, people see.
    fn compare(&self, made: Timestamp, now: Timestamp, seen: u64) {
        let seconds = |time: u64| i64::try_from(time).unwrap_or(i64::MAX);
        let (made, now, seen) = (
            seconds(made.as_secs()),
            seconds(now.as_secs()),
            seconds(seen),
        );
        let ahead = match (made - seen, now - seen) {
            (ahead, _) if ahead > DIFFERS => ahead,
            (_, behind) if behind < -DIFFERS => behind,
            _ => 0,
        };
        if self.ahead_s.swap(ahead, Ordering::Relaxed) == 0 && ahead != 0 {
            tracing::error!(
                ahead_s = ahead,
                "the clock here and those of the witnesses differ: set the clock of this machine, or ask whoever runs them"
            );
        }
    }

    fn standing(&self, at: usize, change: impl FnOnce(&mut Standing)) {
        let mut standings = self
            .standings
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(standing) = standings.get_mut(at) {
            change(standing);
        }
    }

    /// Longer than a slow witness needs for the answer of the round before, and for this one.
    fn round(&self) -> Duration {
        self.settings.timeout() * (ATTEMPTS + 1)
    }
}

/// Where the policy's witnesses are asked. Blocks on the disk.
fn addresses(settings: &config::Witnesses, policy: &Policy) -> Result<Vec<Arc<Asked>>, Finding> {
    let mut asked: Vec<Asked> = Vec::new();
    for witness in policy.witnesses() {
        let Some(url) = &witness.url else {
            continue;
        };
        let mirrors = settings.mirrors.iter();
        let mirrors = mirrors.filter(|name| *name == witness.key.name());
        let mirrors: Vec<CosignerKey> = mirrors.map(|_| witness.key.clone()).take(1).collect();
        if let Some(known) = asked.iter_mut().find(|known| known.url == *url) {
            known.keys.push(witness.key.clone());
            known.mirrors.extend(mirrors);
            continue;
        }
        let address = Address::parse(url, || ask::tls(settings.ca.as_deref()));
        let address = address.map_err(|what| config::ConfigError::Witnesses(what).finding())?;
        asked.push(Asked {
            url: url.clone(),
            address,
            keys: vec![witness.key.clone()],
            mirrors,
        });
    }
    Ok(asked.into_iter().map(Arc::new).collect())
}

/// What an earlier run kept, if it still is what the policy asks for and of this ledger. It is public and vouches
/// for itself; lost or put back, the witnesses are asked again.
fn kept(path: &Path, reader: &Reader, key: &LedgerKey, policy: &Policy) -> Option<Arc<Witnessed>> {
    let text = std::fs::read_to_string(path).ok()?;
    let note = Note::parse(&text).ok();
    let witnessed = note.and_then(|note| Witnessed::read(&note, key, policy, Timestamp::now()));
    let ours = witnessed.filter(|it| {
        it.size <= reader.size() && reader.root(it.size).is_ok_and(|root| root == it.root)
    });
    if ours.is_none() {
        tracing::warn!(path = %path.display(), "what was witnessed before counts no more, and is asked for again");
    }
    ours.map(Arc::new)
}

/// Shows the ledger to its witnesses until the server stops.
pub(crate) async fn run(core: Arc<Core>) {
    let Some(witnesses) = &core.witnesses else {
        return;
    };
    let (targets, target) = watch::channel(None);
    let (lines, mut came) = mpsc::channel(64);
    let mut asking = JoinSet::new();
    for at in 0..witnesses.asked.len() {
        let (core, target, lines) = (Arc::clone(&core), target.clone(), lines.clone());
        asking.spawn(witness::each(core, at, target, lines));
    }
    asking.spawn(shown::again(Arc::clone(&core)));
    let mut ticks = tokio::time::interval(witnesses.settings.cadence());
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut round: Option<Round> = None;
    let mut number = 0;
    loop {
        tokio::select! {
            () = core.stop.cancelled() => return,
            Some(lines) = came.recv() => {
                if let Some(round) = &mut round {
                    take(&core, witnesses, round, lines).await;
                }
                continue;
            }
            _ = ticks.tick() => {}
            () = witnesses.wanted.notified() => {}
        }
        let published = core.hub.published();
        let due = round
            .as_ref()
            .is_none_or(|round| round.is_over(witnesses, published.size));
        if due && published.size > 0 && core.signing.check().is_ok() {
            number += 1;
            let before = round.as_ref().filter(|it| it.target.size == published.size);
            let made = before.map_or_else(|| core.now(), |it| it.made);
            round = Round::begin(&published, number, made);
            targets.send_replace(round.as_ref().map(|round| round.target.clone()));
        }
    }
}

/// A checkpoint that is shown to all of them. The next one is not begun before enough have cosigned it, so that
/// those of different speed meet in one.
struct Round {
    target: Target,
    /// With the lines that have come.
    note: Note,
    /// When there was such a head, at the latest, by the clock here.
    made: Timestamp,
    began: Instant,
    /// By so many, with a line or without.
    answered: usize,
    reached: bool,
}

impl Round {
    fn begin(published: &Published, number: u64, made: Timestamp) -> Option<Self> {
        let note = Note::parse(&published.note).ok()?;
        Some(Self {
            target: Target {
                number,
                size: published.size,
                note: note.clone(),
            },
            note,
            made,
            began: Instant::now(),
            answered: 0,
            reached: false,
        })
    }

    fn is_over(&self, witnesses: &Witnesses, size: u64) -> bool {
        let age = self.began.elapsed();
        if !self.reached {
            let all = self.answered >= witnesses.asked.len();
            let pause = witnesses.settings.cadence() * PAUSE;
            return age >= witnesses.round() || all && age >= pause;
        }
        size > self.target.size || age >= witnesses.settings.refresh()
    }
}

async fn take(core: &Arc<Core>, witnesses: &Witnesses, round: &mut Round, lines: Lines) {
    if lines.number != round.target.number {
        return;
    }
    round.answered += 1;
    if lines.lines.is_empty() || round.note.merge(lines.lines).is_err() {
        return;
    }
    let (key, policy) = (&witnesses.key, &witnesses.policy);
    let Some(witnessed) = Witnessed::read(&round.note, key, policy, core.now()) else {
        return;
    };
    round.reached = true;
    // Once all have answered, so that one whose clock is wrong says nothing of this one.
    if round.answered >= witnesses.asked.len() && witnessed.size > witnesses.before {
        witnesses.compare(round.made, core.now(), witnessed.time);
    }
    let before = witnesses.newest();
    if before
        .as_ref()
        .is_some_and(|before| before.size > witnessed.size)
    {
        return;
    }
    let newer = before.is_none_or(|before| witnessed.is_newer(&before));
    let witnessed = Arc::new(witnessed);
    let (path, keeping) = (witnesses.path.clone(), Arc::clone(&witnessed));
    let kept = tokio::task::spawn_blocking(move || keep(&path, keeping.note.as_bytes())).await;
    if !matches!(kept, Ok(Ok(()))) {
        // The witnesses have it: it is asked for again after the next start.
        tracing::warn!("what was witnessed is not kept");
    }
    let metrics = &core.metrics;
    metrics
        .witnessed_size
        .set(i64::try_from(witnessed.size).unwrap_or(i64::MAX));
    metrics
        .witnessed_time
        .set(i64::try_from(witnessed.time).unwrap_or(i64::MAX));
    witnesses.newest.send_replace(Some(Arc::clone(&witnessed)));
    if newer {
        core.hub.witnessed(&witnessed, |old, new| {
            let proof = core.journal.reader().consistency(old, new).ok()?;
            Some(proof.iter().map(|hash| hash.to_vec()).collect())
        });
    }
}

/// After a power cut the file holds one note or the other, whole.
fn keep(path: &Path, note: &[u8]) -> std::io::Result<()> {
    replace(&RealDisk, path, note)?;
    path.parent()
        .map_or(Ok(()), |parent| RealDisk.sync_dir(parent))
}

/// Of the lines that were answered, those of `keys`. Lines of keys that the policy does not name are ignored.
fn verified(
    keys: &[CosignerKey],
    text: &str,
    answered: &[NoteSignature],
) -> Result<Vec<NoteSignature>, String> {
    let mut lines = Vec::new();
    for key in keys {
        let mut ours = key
            .accept(text, answered)
            .map_err(|error| facts::with_causes(&error))?;
        // Of a key that answers twice, one line: two would make the note malformed.
        ours.truncate(1);
        lines.extend(ours);
    }
    match lines.is_empty() {
        true => Err("it answered without a line of a key that the policy names".to_owned()),
        false => Ok(lines),
    }
}

/// What a witness has shown that is not of this ledger. Only a head that this ledger's key signed shows anything:
/// whoever stands between can claim a size. And only one that the witness has cosigned: old notes are public.
async fn contradicted(core: &Arc<Core>, asked: &Asked, within: Duration) {
    let key = &core.ledger_key;
    let note = match asked.address.latest(key.origin().as_str(), within).await {
        Ok(note) => note,
        Err(what) => {
            tracing::warn!(url = asked.url, %what, "a witness knows another ledger, and does not show it");
            return;
        }
    };
    let ours = |head: &Checkpoint| core.has(head.size, &head.root);
    let given_up = |head: &Checkpoint| {
        let (state, began) = (core.state(), crate::lineage::began(key));
        state.recovered(head.size, &head.root).is_some()
            || state.given_up(head.size, began).is_some()
    };
    if let Some(head) = foreign(asked, key, &note, ours, given_up) {
        crate::follow::contradicted(core, &asked.url, head).await;
    }
}

/// The head in a witness's note, if the ledger's key and the witness have signed it and it is not of this ledger.
fn foreign(
    asked: &Asked,
    key: &LedgerKey,
    note: &str,
    ours: impl Fn(&Checkpoint) -> bool,
    given_up: impl Fn(&Checkpoint) -> bool,
) -> Option<Foreign> {
    let parsed = Note::parse(note).ok()?;
    let note = parsed.strip(key).to_string();
    let head = Checkpoint::open(&note, key).ok()?;
    // What a key that was replaced signs stops nobody.
    if head.origin != *key.origin() || ours(&head) {
        return None;
    }
    let cosigned = |key: &CosignerKey| matches!(key.verify(&parsed), Ok(Some(_)));
    if !asked.keys.iter().any(cosigned) {
        tracing::warn!(
            url = asked.url,
            size = head.size,
            "a witness shows another ledger without a line of its own"
        );
        return None;
    }
    // The operator has decided that already, when nobody was asked.
    if given_up(&head) {
        tracing::warn!(
            url = asked.url,
            size = head.size,
            "a witness has cosigned what a recovery gave up: it refuses this ledger"
        );
        return None;
    }
    Some(Foreign {
        size: head.size,
        root: head.root,
        note: Some(note),
    })
}
