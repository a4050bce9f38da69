//! The highest checkpoint of the server's ledger that witnesses have cosigned, kept across restarts: another history
//! is not taken for the server's, and what nobody has looked at for long hands out nothing new.
//!
//! It does not follow the chain of checkpoints as gateways do: a receipt between two cosigned heads is believed for as
//! long as the witnesses go on looking at the history that the agent is shown.

use crate::config::WitnessesConfig;
use arc_swap::ArcSwap;
use facts::{Finding, Timestamp};
use ledger::merkle::verify_consistency;
use ledger::{Checkpoint, CheckpointError, Code as _, Hash, LedgerKey, Note, Policy};
use proto::v1;
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// In the data directory.
const FILE: &str = "witnessed";
/// The server has another idea of what is kept here: a message was lost, or did not count.
pub(crate) const ELSEWHERE: &str = "AGENT-WITNESSED-FROM";
/// A note with many post-quantum lines.
const MAX_NOTE: usize = 256 << 10;
/// A witness's clock may be ahead of the one here by so many seconds: what it says of later is not believed, because
/// it would stay fresh for longer.
const AHEAD_S: u64 = 60;
/// At most so many spans of [`Unseen`] are told apart.
const SPANS: usize = 64;

#[derive(Debug, Clone)]
struct Kept {
    checkpoint: Checkpoint,
    /// When a quorum had seen it, by the witnesses' clocks.
    time: Timestamp,
    /// When it was taken, by a clock that nobody sets; none when that was before this start.
    taken: Option<Instant>,
}

impl Kept {
    /// By whichever clock says longer.
    fn age(&self, now: Timestamp) -> Duration {
        match self.taken {
            Some(taken) => now.since(self.time).max(taken.elapsed()),
            None if self.time > now => Duration::MAX,
            None => now.since(self.time),
        }
    }
}

/// Receipts above the kept checkpoint on which something was handed out: a head that witnesses are shown again and
/// again covers nothing above it. Oldest and shortest first; a start begins without.
#[derive(Debug, Default)]
struct Unseen(VecDeque<Span>);

/// Of checkpoints of up to `size` records, the first at `since`.
#[derive(Debug)]
struct Span {
    size: u64,
    since: Timestamp,
    at: Instant,
}

impl Span {
    fn age(&self, now: Timestamp) -> Duration {
        now.since(self.since).max(self.at.elapsed())
    }
}

impl Unseen {
    /// What is handed out within `soon` of the first is one span, and counts from that.
    fn hand_out(&mut self, size: u64, now: Timestamp, soon: Duration) {
        let full = self.0.len() >= SPANS;
        match self.0.back_mut() {
            Some(last) if size <= last.size => {}
            Some(last) if full || last.age(now) < soon => last.size = size,
            _ => self.0.push_back(Span {
                size,
                since: now,
                at: Instant::now(),
            }),
        }
    }

    fn seen(&mut self, size: u64) {
        self.0.retain(|span| span.size > size);
    }

    fn age(&self, now: Timestamp) -> Duration {
        let ages = self.0.iter().map(|span| span.age(now));
        ages.max().unwrap_or_default()
    }
}

#[derive(Debug, Default)]
struct Held {
    kept: Option<Kept>,
    unseen: Unseen,
}

impl Held {
    /// The longer of the ages of the kept checkpoint and of what was handed out above it.
    fn age(&self, now: Timestamp) -> Option<Duration> {
        let kept = self.kept.as_ref()?;
        Some(kept.age(now).max(self.unseen.age(now)))
    }
}

#[derive(Debug)]
pub(crate) struct Witnessing {
    policy: Policy,
    longest: Duration,
    key: ArcSwap<LedgerKey>,
    path: PathBuf,
    held: Mutex<Held>,
}

impl Witnessing {
    /// Reads the policy, and what an earlier start kept. Blocks on the disk.
    ///
    /// # Errors
    /// `AGENT-CONFIG`; `AGENT-WITNESSED-STATE` if what was kept cannot be believed: it may have been higher.
    pub(crate) fn open(
        config: &WitnessesConfig,
        data_dir: &Path,
        key: LedgerKey,
    ) -> Result<Self, Finding> {
        let wrong = |what: String| {
            Finding::new("AGENT-CONFIG", format!("witnesses.policy: {what}"))
                .observed(config.policy.display().to_string())
                .next("correct agent.toml, or the policy that it names")
        };
        let text = fs::read(&config.policy).map_err(|error| wrong(error.to_string()))?;
        let policy = Policy::parse(&text).map_err(|error| wrong(facts::with_causes(&error)))?;
        if policy.asks_for_none() || config.max_unwitnessed_s == 0 {
            let what = "it names a quorum of witnesses, and `max_unwitnessed_s` is 1 or more";
            return Err(wrong(what.to_owned()));
        }
        let opened = Self {
            policy,
            longest: Duration::from_secs(config.max_unwitnessed_s),
            key: ArcSwap::from_pointee(key),
            path: data_dir.join(FILE),
            held: Mutex::default(),
        };
        let broken = |what: String| {
            Finding::new(
                "AGENT-WITNESSED-STATE",
                "the checkpoint that is kept here cannot be believed: it may have been a higher one",
            )
            .observed(format!("{}: {what}", opened.path.display()))
            .next("find out who has written to data_dir; remove the file, and the next cosigned checkpoint is taken")
        };
        match fs::read_to_string(&opened.path) {
            Ok(note) => {
                // By the ledger's key alone: a policy that was changed since then asks for others.
                let time = opened.seen(&note, Timestamp::now());
                let time = time.unwrap_or(Timestamp::EPOCH);
                match Checkpoint::open(&note, &opened.key.load()) {
                    Ok(checkpoint) => {
                        opened.lock().kept = Some(Kept {
                            checkpoint,
                            time,
                            taken: None,
                        });
                    }
                    // The log that went on gave it up, and both keys say so.
                    Err(CheckpointError::Ended { .. }) => {}
                    Err(error) => return Err(broken(facts::with_causes(&error))),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(broken(error.to_string())),
        }
        Ok(opened)
    }

    /// Records under the highest cosigned checkpoint; zero before the first.
    pub(crate) fn size(&self) -> u64 {
        let held = self.lock();
        held.kept.as_ref().map_or(0, |kept| kept.checkpoint.size)
    }

    /// The server's ledger goes on as a new log, which `key` signs. What its witnesses had cosigned and the new log
    /// does not have counts no more: they have to see that one first.
    pub(crate) fn succeed(&self, key: Arc<LedgerKey>) {
        let mut held = self.lock();
        let given_up = held.kept.as_ref().is_some_and(|kept| {
            let end = key.end_of(kept.checkpoint.origin.as_str());
            end.is_some_and(|end| kept.checkpoint.size > end)
        });
        if given_up {
            *held = Held::default();
        }
        self.key.store(key);
    }

    /// Takes what the server says that its witnesses cosigned, if it extends what is kept. Whether it was the first
    /// that is fresh. Blocks on the disk.
    ///
    /// # Errors
    /// `AGENT-WITNESSED`: not enough have, it is dated ahead, or it is not kept. `AGENT-LEDGER-FORKED`: it does not extend the kept one. `AGENT-WITNESSED-FROM`: it
    /// is proved from another.
    pub(crate) fn take(&self, sent: &v1::Witnessed, now: Timestamp) -> Result<bool, Finding> {
        let refused = |what: String| {
            Finding::new(
                "AGENT-WITNESSED",
                "what the server says that its witnesses cosigned does not count",
            )
            .expected("a checkpoint with the lines of enough witnesses of this agent's policy")
            .observed(what)
            .next("compare the policies of agent and server; look at the witnesses: trilith status")
        };
        let failed = |error: ledger::CheckpointError| {
            refused(format!("{}: {}", error.code(), facts::with_causes(&error)))
        };
        let note = &sent.checkpoint;
        if note.len() > MAX_NOTE {
            return Err(refused(format!("{} bytes", note.len())));
        }
        let checkpoint = Checkpoint::open(note, &self.key.load()).map_err(failed)?;
        let time = self
            .seen(note, now)
            .ok_or_else(|| refused("too few lines".to_owned()))?;
        if time > now.plus_secs(AHEAD_S) {
            let ahead = time.since(now).as_secs();
            return Err(
                refused(format!("cosigned {ahead} s ahead of the clock here"))
                    .next("set the clocks of the witnesses and of this machine"),
            );
        }
        let mut held = self.lock();
        if let Some(before) = &held.kept {
            extends(&before.checkpoint, &checkpoint, sent)?;
            // The same once more is no later look.
            if (before.checkpoint.size, before.time) == (checkpoint.size, time) {
                return Ok(false);
            }
        }
        let stale = held.age(now).is_none_or(|age| age > self.longest);
        // INVARIANT: kept before it is believed, so that no start goes back behind what was believed.
        replace(&self.path, note.as_bytes())
            .map_err(|error| refused(format!("it cannot be kept: {error}")))?;
        held.unseen.seen(checkpoint.size);
        held.kept = Some(Kept {
            checkpoint,
            time,
            taken: Some(Instant::now()),
        });
        Ok(stale)
    }

    /// Whether an SVID whose issuance is under `checkpoint` may be handed out.
    ///
    /// # Errors
    /// `AGENT-UNWITNESSED`, `AGENT-LEDGER-FORKED`.
    pub(crate) fn check(&self, checkpoint: &Checkpoint, now: Timestamp) -> Result<(), Finding> {
        let mut held = self.lock();
        let kept = self.current(&held, now)?;
        if checkpoint.size == kept.size && checkpoint.root != kept.root {
            return Err(forked(kept, checkpoint));
        }
        if checkpoint.size > kept.size {
            let soon = self.longest / 32;
            held.unseen.hand_out(checkpoint.size, now, soon);
        }
        Ok(())
    }

    /// Whether a token that does not say where it is recorded may be handed out.
    ///
    /// # Errors
    /// `AGENT-UNWITNESSED`.
    pub(crate) fn check_age(&self, now: Timestamp) -> Result<(), Finding> {
        self.current(&self.lock(), now).map(drop)
    }

    /// The kept checkpoint, while it may be relied on.
    fn current<'a>(&self, held: &'a Held, now: Timestamp) -> Result<&'a Checkpoint, Finding> {
        let age = held.age(now);
        let fresh = age.is_some_and(|age| age <= self.longest);
        let kept = held.kept.as_ref().filter(|_| fresh);
        kept.map(|kept| &kept.checkpoint).ok_or_else(|| Finding::new(
            "AGENT-UNWITNESSED",
            "too few witnesses have looked at the server's ledger: others may be shown another one",
        )
        .expected(format!(
            "a cosigned checkpoint of the last {} s (max_unwitnessed_s), and of all that was handed out on before",
            self.longest.as_secs()
        ))
        .observed(age.map_or_else(|| "none".to_owned(), |age| format!("{} s ago", age.as_secs())))
        .next("look at the server's witnesses: trilith status"))
    }

    /// When a quorum had seen the note; `None` if too few have. Lines of clocks that are ahead count only where the others
    /// are not enough.
    fn seen(&self, note: &str, now: Timestamp) -> Option<Timestamp> {
        let note = Note::parse(note).ok()?;
        let by = |until| {
            let quorum = self.policy.judge_by(&note, until).ok()?;
            quorum.time.filter(|_| quorum.reached)
        };
        let time = by(now.plus_secs(AHEAD_S).as_secs()).or_else(|| by(u64::MAX))?;
        Some(Timestamp::from_secs(time))
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// INVARIANT 6: what is kept is extended, or nothing is taken.
fn extends(before: &Checkpoint, next: &Checkpoint, sent: &v1::Witnessed) -> Result<(), Finding> {
    if sent.known_size != before.size {
        return Err(Finding::new(
            ELSEWHERE,
            "the server proves a cosigned checkpoint from another one than is kept here",
        )
        .expected(format!("a proof from {} records", before.size))
        .observed(format!("from {}", sent.known_size))
        .next("nothing: the agent says again what it keeps"));
    }
    let proof: Option<Vec<Hash>> = sent
        .consistency
        .iter()
        .map(|hash| hash.as_slice().try_into().ok())
        .collect();
    let shown = proof
        .filter(|_| next.size >= before.size)
        .is_some_and(|proof| {
            verify_consistency(before.size, &before.root, next.size, &next.root, &proof).is_ok()
        });
    if shown {
        Ok(())
    } else {
        Err(forked(before, next))
    }
}

fn forked(kept: &Checkpoint, shown: &Checkpoint) -> Finding {
    Finding::new(
        "AGENT-LEDGER-FORKED",
        "the server shows another ledger than the one that its witnesses cosigned before",
    )
    .expected(format!(
        "what extends the {} records that were cosigned",
        kept.size
    ))
    .observed(format!("{} records that are not shown to", shown.size))
    .next(
        "keep this machine's data_dir as evidence, and look at who answers at the server's address",
    )
}

/// After a power cut the file holds one note or the other, whole.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    path.parent()
        .map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crypto::{Algorithm, KeyPair};
    use ledger::{Cosigner, ForeignCheckpoint, Frontier, LedgerSigner, merkle};
    use std::sync::Arc;

    const LONGEST: u64 = 60;

    struct Scene {
        folder: tempfile::TempDir,
        log: LedgerSigner,
        witness: Cosigner,
        now: Timestamp,
    }

    impl Scene {
        fn new() -> Self {
            let key = || Arc::new(KeyPair::generate(Algorithm::Ed25519).unwrap());
            let scene = Self {
                folder: tempfile::tempdir().unwrap(),
                log: LedgerSigner::new("example.org/server", key()).unwrap(),
                witness: Cosigner::new("witness.example/1", key()).unwrap(),
                now: Timestamp::now(),
            };
            let policy = format!("witness a {}\nquorum a\n", scene.witness.key());
            fs::write(scene.folder.path().join("policy"), policy).unwrap();
            scene
        }

        fn open(&self) -> Result<Witnessing, Finding> {
            let config = WitnessesConfig {
                policy: self.folder.path().join("policy"),
                max_unwitnessed_s: LONGEST,
            };
            Witnessing::open(&config, self.folder.path(), self.log.key().clone())
        }

        fn checkpoint(&self, leaves: &[&str]) -> Checkpoint {
            let mut tree = Frontier::new();
            for leaf in leaves {
                tree.push(merkle::leaf_hash(leaf.as_bytes()));
            }
            Checkpoint {
                origin: self.log.key().origin().clone(),
                size: tree.size(),
                root: tree.root(),
            }
        }

        /// What the server sends: of two leaves and more the proof from one is the others' hashes.
        fn sent(
            &self,
            leaves: &[&str],
            known_size: u64,
            at: Timestamp,
            cosigned: bool,
        ) -> v1::Witnessed {
            let checkpoint = self.checkpoint(leaves);
            let mut note = Note::parse(&self.log.sign(&checkpoint).unwrap()).unwrap();
            if cosigned {
                let foreign = ForeignCheckpoint::from(&checkpoint);
                note.merge(vec![self.witness.cosign(&foreign, at.as_secs()).unwrap()])
                    .unwrap();
            }
            let proof = match (known_size, leaves) {
                (1, [_, two]) => vec![merkle::leaf_hash(two.as_bytes()).to_vec()],
                (2, [_, _, three]) => vec![merkle::leaf_hash(three.as_bytes()).to_vec()],
                _ => Vec::new(),
            };
            v1::Witnessed {
                checkpoint: note.to_string(),
                known_size,
                consistency: proof,
            }
        }
    }

    #[test]
    fn the_highest_cosigned_head_is_kept_and_another_history_is_refused() {
        let scene = Scene::new();
        let watch = scene.open().unwrap();
        let take = |watch: &Witnessing, leaves: &[&str], known, cosigned| {
            watch
                .take(&scene.sent(leaves, known, scene.now, cosigned), scene.now)
                .map_err(|finding| finding.code.into_owned())
        };
        let refused = |code: &str| Err(code.to_owned());
        assert_eq!(take(&watch, &["a"], 0, false), refused("AGENT-WITNESSED"));
        assert_eq!(take(&watch, &["a"], 0, true), Ok(true));
        for leaves in [&["b"][..], &["b", "c"], &[]] {
            assert_eq!(
                take(&watch, leaves, 1, true),
                refused("AGENT-LEDGER-FORKED"),
                "{leaves:?}"
            );
        }
        assert_eq!(take(&watch, &["a", "b"], 0, true), refused(ELSEWHERE));
        assert_eq!(take(&watch, &["a", "b"], 1, true), Ok(false));
        assert_eq!(watch.size(), 2);
        // Also after a restart.
        let again = scene.open().unwrap();
        assert_eq!(again.size(), 2);
        assert_eq!(
            take(&again, &["a"], 2, true),
            refused("AGENT-LEDGER-FORKED")
        );
        // What cannot be believed may have been higher.
        fs::write(scene.folder.path().join(FILE), "no note").unwrap();
        assert_eq!(scene.open().unwrap_err().code, "AGENT-WITNESSED-STATE");
    }

    #[test]
    fn nothing_new_is_handed_out_on_what_nobody_has_looked_at_for_long() {
        let scene = Scene::new();
        let watch = scene.open().unwrap();
        let code = |watch: &Witnessing, leaves: &[&str], now| {
            let checked = watch.check(&scene.checkpoint(leaves), now);
            checked.err().map(|finding| finding.code.into_owned())
        };
        let unwitnessed = Some("AGENT-UNWITNESSED".to_owned());
        assert_eq!(code(&watch, &["a"], scene.now), unwitnessed);
        watch
            .take(&scene.sent(&["a"], 0, scene.now, true), scene.now)
            .unwrap();
        assert_eq!(code(&watch, &["a"], scene.now), None);
        assert_eq!(
            code(&watch, &["b"], scene.now),
            Some("AGENT-LEDGER-FORKED".to_owned())
        );
        let later = scene.now.plus_secs(LONGEST + 1);
        assert_eq!(code(&watch, &["a"], later), unwitnessed);
        // As of a token without a receipt.
        watch.check_age(scene.now).unwrap();
        let refused = watch.check_age(later).unwrap_err();
        assert_eq!(refused.code, "AGENT-UNWITNESSED");
        // Neither a start nor a clock that is set back makes it fresh.
        let again = scene.open().unwrap();
        assert_eq!(code(&again, &["a"], later), unwitnessed);
        assert_eq!(code(&again, &["a"], scene.now.minus_secs(60)), unwitnessed);
        assert_eq!(code(&again, &["a"], scene.now), None);
    }
    /// Whoever has the server's keys shows the witnesses the head from before, once a minute and for ever.
    #[test]
    fn a_head_that_is_cosigned_again_and_again_covers_nothing_that_is_handed_out_above_it() {
        let scene = Scene::new();
        let watch = scene.open().unwrap();
        let take = |leaves: &[&str], known, now| {
            watch
                .take(&scene.sent(leaves, known, now, true), now)
                .unwrap()
        };
        let code = |leaves: &[&str], now| {
            let checked = watch.check(&scene.checkpoint(leaves), now);
            checked.err().map(|finding| finding.code.into_owned())
        };
        take(&["a"], 0, scene.now);
        assert_eq!(code(&["a", "b"], scene.now), None);
        for (seconds, let_out) in [
            (LONGEST / 2, true),
            (LONGEST - 1, true),
            (LONGEST * 3 / 2, false),
            (LONGEST * 2, false),
        ] {
            let now = scene.now.plus_secs(seconds);
            take(&["a"], 1, now);
            let expected = (!let_out).then(|| "AGENT-UNWITNESSED".to_owned());
            for leaves in [&["a"][..], &["a", "b"], &["a", "b", "c"]] {
                assert_eq!(code(leaves, now), expected, "{seconds} s, {leaves:?}");
            }
        }
        // Covered in part, and then whole.
        let now = scene.now.plus_secs(LONGEST * 2 + 2);
        assert!(take(&["a", "b"], 1, now));
        assert_eq!(code(&["a"], now), Some("AGENT-UNWITNESSED".to_owned()));
        take(&["a", "b", "c"], 2, now);
        assert_eq!(code(&["a", "b", "c"], now), None);
    }

    #[test]
    fn a_look_that_is_dated_ahead_or_shown_twice_is_no_fresher() {
        let scene = Scene::new();
        let watch = scene.open().unwrap();
        let take = |known, at, now| {
            let sent = scene.sent(&["a"], known, at, true);
            let taken = watch.take(&sent, now);
            taken.map_err(|finding| finding.code.into_owned())
        };
        let ahead = scene.now.plus_secs(AHEAD_S + 2);
        let refused = Err("AGENT-WITNESSED".to_owned());
        assert_eq!(take(0, ahead, scene.now), refused);
        let soon = scene.now.plus_secs(AHEAD_S - 2);
        assert_eq!(take(0, soon, scene.now), Ok(true));
        let first = watch.lock().kept.as_ref().and_then(|kept| kept.taken);
        assert_eq!(take(1, soon, scene.now), Ok(false));
        let again = watch.lock().kept.as_ref().and_then(|kept| kept.taken);
        assert_eq!(first, again);
        let later = scene.now.plus_secs(AHEAD_S + LONGEST + 1);
        assert_eq!(take(1, soon, later), Ok(false));
        let checked = watch.check(&scene.checkpoint(&["a"]), later);
        assert_eq!(checked.unwrap_err().code, "AGENT-UNWITNESSED");
    }
}
