//! What witnesses have seen of this ledger, asked before anything is signed. A server that was restored as a whole, with
//! the folder of its key, cannot tell by itself that it was: they remember how long its log was, and that another log of
//! its lineage came after it.
//!
//! A witness that does not answer keeps no server from starting, but for `hold`; it is asked again while that runs. That
//! one has answered shows nothing where somebody stands between: until enough have cosigned a head that has a record of
//! this run in it, all are asked again.
//! INVARIANT: of this server's own log a head counts that its key and the witness have signed. A later log has a key that
//! is not known here, so that of it as many have to speak as the policy asks for.

use super::driven::driven;
use super::witness::{Target, cosign};
use super::{AHEAD, Asked, Witnessed, addresses, foreign};
use crate::config;
use crate::core::Core;
use crate::signing::{Foreign, HeadFile, Signing, behind};
use crate::start::StartError;
use crate::state::State;
use facts::{Finding, Timestamp};
use ledger::{Checkpoint, CosignerKey, ForeignCheckpoint, LedgerKey, Note, Origin, Policy};
use ledger_store::Reader;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Logs after the one of the key here that are asked for: one that was replaced since may not be witnessed any more.
const LATER: u64 = 3;
/// Until a witness that was silent at the start is asked again.
const AGAIN: Duration = Duration::from_secs(10);
/// A start that holds waits so many times as long as one answer has: a mirror may have much to take.
const PATIENCE: u32 = 4;
/// Seconds by which clocks of witnesses may be behind.
const BEHIND: u64 = 60;

/// What the witnesses show.
pub(crate) struct Shown {
    policy: Policy,
    /// Each with the note that it has of the log whose origin that is.
    notes: Vec<(Arc<Asked>, Origin, String)>,
    /// Somebody has not answered.
    pub(crate) silent: bool,
}

impl Shown {
    /// Asks the witnesses of a server whose key is `key`, within the time that one answer has.
    ///
    /// # Errors
    /// If the policy cannot be read, or never be met.
    pub(crate) async fn ask(
        settings: &config::Witnesses,
        key: &LedgerKey,
    ) -> Result<Self, Finding> {
        let policy = settings.read(key).map_err(|error| error.finding())?;
        let asked = addresses(settings, &policy)?;
        Ok(Self::by(&asked, policy, key, settings.timeout()).await)
    }

    /// As [`Shown::ask`], from a place where nothing is awaited. Blocks.
    pub(crate) fn ask_blocking(
        settings: &config::Witnesses,
        key: &LedgerKey,
    ) -> Result<Self, StartError> {
        driven(|| Self::ask(settings, key))
            .map_err(StartError::Thread)?
            .map_err(StartError::Refused)
    }

    /// As [`Shown::ask_blocking`], and [`Shown::held`]. Blocks.
    pub(crate) fn held_blocking(
        settings: &config::Witnesses,
        key: &LedgerKey,
        here: (&Reader, &State),
    ) -> Result<Self, StartError> {
        let held = driven(|| async move {
            let shown = Self::ask(settings, key).await?;
            shown.held(settings, key, here).await?;
            Ok::<_, Finding>(shown)
        });
        held.map_err(StartError::Thread)?
            .map_err(StartError::Refused)
    }

    async fn by(asked: &[Arc<Asked>], policy: Policy, key: &LedgerKey, within: Duration) -> Self {
        let until = Instant::now() + within;
        let mut asking = JoinSet::new();
        for one in asked {
            asking.spawn(notes(Arc::clone(one), origins(key), until));
        }
        let mut shown = Self {
            policy,
            notes: Vec::new(),
            silent: false,
        };
        while let Some(answered) = asking.join_next().await {
            let Ok((mut notes, whole)) = answered else {
                shown.silent = true;
                continue;
            };
            shown.notes.append(&mut notes);
            shown.silent |= !whole;
        }
        shown
    }

    /// Heads of this server's log that are not of this ledger, with who has shown each.
    pub(crate) fn heads(
        &self,
        key: &LedgerKey,
        reader: &Reader,
        state: Option<&State>,
    ) -> Vec<(String, Foreign)> {
        let began = crate::lineage::began(key);
        let given_up = |head: &Checkpoint| state.is_some_and(|state| gave_up(state, head, began));
        self.heads_but(key, reader, given_up)
    }

    /// As [`Shown::heads`], but for those that were `given_up`. Blocks on the disk.
    fn heads_but(
        &self,
        key: &LedgerKey,
        reader: &Reader,
        given_up: impl Fn(&Checkpoint) -> bool,
    ) -> Vec<(String, Foreign)> {
        let ours = |head: &Checkpoint| {
            head.size <= reader.size() && reader.root(head.size).is_ok_and(|root| root == head.root)
        };
        let mut heads = Vec::new();
        for (asked, origin, note) in &self.notes {
            if origin == key.origin()
                && let Some(head) = foreign(asked, key, note, ours, &given_up)
            {
                heads.push((asked.url.clone(), head));
            }
        }
        heads
    }

    /// Why nothing may be signed: the log of `key` went on as another one, if as many say so as the policy asks for.
    pub(crate) fn later(&self, key: &LedgerKey) -> Option<Finding> {
        let mut witnesses: Vec<&CosignerKey> = Vec::new();
        let mut named = Vec::new();
        for (asked, origin, note) in &self.notes {
            if origin == key.origin() {
                continue;
            }
            let Some((size, by)) = cosigned(asked, origin, note) else {
                continue;
            };
            witnesses.extend(by);
            named.push(format!("{} shows {origin} of {size} records", asked.url));
        }
        let enough = self
            .policy
            .can_be_reached(|witness| witnesses.contains(&&witness.key));
        if !enough {
            for what in named {
                tracing::warn!(%what, "a witness knows a later log of this ledger, and too few do for it to count");
            }
            return None;
        }
        Some(
            Finding::new(
                "SERVER-LINEAGE-WITNESSED",
                "this ledger went on as a later log, which its witnesses have cosigned and which is not known here",
            )
            .expected(format!("{} as the newest log", key.origin()))
            .observed(named.join("; "))
            .next(
                "the folder of the ledger's key was restored to what it was before: restore its newest copy, and data_dir \
                 (docs/operate/new-log.md); if nobody here has begun that log, ask the operators of the witnesses who has \
                 told them its key",
            ),
        )
    }

    /// Where `hold` says so and nothing that was shown stops this server anyhow, enough witnesses have to cosign the head
    /// that is here.
    ///
    /// # Errors
    /// `SERVER-UNWITNESSED`.
    pub(crate) async fn held(
        &self,
        settings: &config::Witnesses,
        key: &LedgerKey,
        (reader, state): (&Reader, &State),
    ) -> Result<(), Finding> {
        let stopped =
            || self.later(key).is_some() || !self.heads(key, reader, Some(state)).is_empty();
        // Of nothing there is nothing to be seen.
        if !settings.hold || reader.head().checkpoint.size == 0 || stopped() {
            return Ok(());
        }
        let asked = addresses(settings, &self.policy)?;
        let seen = seen_now(&asked, &self.policy, key, reader, settings.timeout()).await;
        if seen {
            return Ok(());
        }
        Err(Finding::new(
            "SERVER-UNWITNESSED",
            "too few witnesses have cosigned the head of this ledger since the start: whether it was rewound is not known",
        )
        .expected("the quorum of `witnesses.policy`, by lines that are made now, by the clock here")
        .observed(format!("{} records here", reader.head().checkpoint.size))
        .next(
            "look at the warnings above and at the way to the witnesses, then start again; to start without them, take \
             `hold` out of [witnesses]: docs/operate/witnessed.md",
        ))
    }

    /// Blocks `signing` by what was shown, and remembers it beside the key as what a peer has shown.
    pub(crate) fn block(
        &self,
        key: &LedgerKey,
        (reader, state): (&Reader, &State),
        (signing, remembered): (&Signing, &HeadFile),
    ) {
        if let Some(finding) = self.later(key) {
            signing.block(finding, None);
        }
        for (peer, head) in self.heads(key, reader, Some(state)) {
            let ours = |size, root: &[u8; 32]| {
                size <= reader.size() && reader.root(size).is_ok_and(|ours| ours == *root)
            };
            if remembered.contradict(&head, ours).is_err() {
                tracing::warn!(%peer, "what was shown is not remembered for the next start");
            }
            signing.block(behind(&peer, head.size, reader.size()), Some(head));
        }
    }
}

/// Whether a recovery gave up what has this head; `began` is of the key.
fn gave_up(state: &State, head: &Checkpoint, began: Option<u64>) -> bool {
    state.recovered(head.size, &head.root).is_some() || state.given_up(head.size, began).is_some()
}

/// Whether the witnesses that cosign the published head now are enough. Nobody is waited for once they are.
async fn seen_now(
    asked: &[Arc<Asked>],
    policy: &Policy,
    key: &LedgerKey,
    reader: &Reader,
    within: Duration,
) -> bool {
    let head = reader.head();
    let Ok(mut note) = Note::parse(&head.note) else {
        return false;
    };
    let target = Target {
        number: 0,
        size: head.checkpoint.size,
        note: note.clone(),
    };
    let oldest = Timestamp::now().minus_secs(BEHIND).as_secs();
    let mut asking = JoinSet::new();
    for one in asked {
        let (one, target, reader) = (Arc::clone(one), target.clone(), reader.clone());
        asking.spawn(async move {
            let lines = cosign(&reader, &one, &target, &mut 0, within).await;
            (one.url.clone(), lines.map_err(|refused| refused.what))
        });
    }
    let reached = |note: &Note| {
        let now = Timestamp::now();
        // INVARIANT: a line that is dated ahead could be an old one for as long as that.
        let made_now = oldest..=now.plus_secs(AHEAD).as_secs();
        let seen = Witnessed::read(note, key, policy, now);
        seen.is_some_and(|seen| made_now.contains(&seen.time))
    };
    let until = Instant::now() + within * PATIENCE;
    while !reached(&note) {
        let answered = match tokio::time::timeout_at(until, asking.join_next()).await {
            Ok(Some(answered)) => answered,
            Ok(None) => return false,
            Err(_) => {
                tracing::warn!("not all witnesses have answered in time");
                return false;
            }
        };
        match answered {
            Ok((url, Ok(lines))) => {
                if let Err(error) = note.merge(lines) {
                    tracing::warn!(url, %error, "what a witness has cosigned cannot be taken");
                }
            }
            Ok((url, Err(what))) => {
                tracing::warn!(url, %what, "a witness has not cosigned what is here");
            }
            Err(error) => tracing::warn!(%error, "asking a witness has failed"),
        }
    }
    true
}

/// The log of the key, and those that may have come after it.
fn origins(key: &LedgerKey) -> Vec<Origin> {
    let origin = key.origin();
    let (_, number) = origin.place();
    let later = (1..=LATER).filter_map(|more| origin.numbered(number.saturating_add(more)).ok());
    std::iter::once(origin.clone()).chain(later).collect()
}

type Notes = Vec<(Arc<Asked>, Origin, String)>;

/// What one witness has, and whether it has answered for all.
async fn notes(asked: Arc<Asked>, origins: Vec<Origin>, until: Instant) -> (Notes, bool) {
    let mut notes = Vec::new();
    for origin in origins {
        let within = until.saturating_duration_since(Instant::now());
        match asked.address.shown(origin.as_str(), within).await {
            Ok(Some(note)) => notes.push((Arc::clone(&asked), origin, note)),
            Ok(None) => {}
            Err(what) => {
                tracing::warn!(url = asked.url, %what, "a witness does not say what it has seen of this ledger");
                return (notes, false);
            }
        }
    }
    (notes, true)
}

/// The size of the checkpoint of `origin` in a note, and the keys of the witness that have cosigned it.
fn cosigned<'a>(
    asked: &'a Asked,
    origin: &Origin,
    note: &str,
) -> Option<(u64, Vec<&'a CosignerKey>)> {
    let note = Note::parse(note).ok()?;
    let checkpoint = ForeignCheckpoint::parse(&note.text).ok()?;
    let keys = asked.keys.iter();
    let by: Vec<_> = keys
        .filter(|key| matches!(key.verify(&note), Ok(Some(_))))
        .collect();
    let theirs = checkpoint.origin == origin.as_str() && !by.is_empty();
    theirs.then_some((checkpoint.size, by))
}

/// Asks on for what is not known here, until all have answered once and enough have cosigned a head of this run. Answers
/// alone show nothing: whoever stands between says that there is nothing, or what there was.
pub(super) async fn again(core: Arc<Core>) {
    let Some(witnesses) = &core.witnesses else {
        return;
    };
    let (mut unheard, mut told) = (witnesses.unheard, false);
    loop {
        tokio::select! {
            () = core.stop.cancelled() => return,
            () = tokio::time::sleep(AGAIN) => {}
        }
        if !unheard && witnesses.since_start() {
            return;
        }
        let (asked, key) = (&witnesses.asked, &witnesses.key);
        let within = witnesses.settings.timeout();
        let shown = Shown::by(asked, witnesses.policy.clone(), key, within).await;
        if let Some(finding) = shown.later(key) {
            core.signing.block(finding, None);
            core.metrics.blocked.set(1);
            return;
        }
        let (checking, of) = (Arc::clone(&core), key.clone());
        let looked = tokio::task::spawn_blocking(move || {
            let began = crate::lineage::began(&of);
            let given_up = |head: &Checkpoint| gave_up(&checking.state(), head, began);
            let heads = shown.heads_but(&of, checking.journal.reader(), given_up);
            (heads, shown.silent)
        });
        let (heads, silent) = match looked.await {
            Ok(looked) => looked,
            Err(error) => {
                tracing::warn!(%error, "what witnesses have shown was not looked at");
                continue;
            }
        };
        let stopped = !heads.is_empty();
        for (peer, head) in heads {
            crate::follow::contradicted(&core, &peer, head).await;
        }
        if stopped {
            return;
        }
        unheard = silent;
        if !told && !witnesses.since_start() && core.signing.check().is_ok() {
            told = true;
            tracing::warn!(
                "too few witnesses have cosigned anything since the start: whether this ledger was rewound is not known, \
                 and they are asked on"
            );
        }
    }
}
