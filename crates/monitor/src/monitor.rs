//! One look at a log: its checkpoint, the others' checkpoints, what is new. What was taken is kept before the next
//! step, so that a process that ends anywhere goes on from there.

use crate::alert::{Alert, Kind};
use crate::anchor::{Anchor, BY, not_anchored};
use crate::compare::{Head, one_history};
use crate::config::{Begin, Config, counts, given_up, signed_by};
use crate::expect::Watch;
use crate::http::Address;
use crate::labels::Labels;
use crate::source::{self, Source};
use crate::state::{Ahead, Store, Trouble};
use crate::tiles::View;
use crate::webhook::Webhook;
use crate::{Failure, look};
use facts::{Finding, Timestamp};
use ledger::witness::origin_hash;
use ledger::{CheckpointError, ForeignCheckpoint, LedgerKey, LogKey, Note, Policy};
use ledger_store::{Disk, RealDisk};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Seconds by which clocks of witnesses may be ahead.
pub(crate) const AHEAD_S: u64 = 60;

/// What a round saw.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Records of the head that was taken.
    pub size: u64,
    /// Records that were looked at, of all.
    pub looked: u64,
    /// Witnesses whose cosignatures the policy counted.
    pub witnesses: usize,
    /// Others whose checkpoint is of the same history.
    pub agree: usize,
    /// What could not be asked, and does not count against the log yet.
    pub notes: Vec<Finding>,
}

/// A log that is watched, and what is remembered of it.
pub struct Monitor {
    config: Config,
    key: LogKey,
    /// The key in text.
    vkey: String,
    origin: String,
    /// The log of the lineage of which a head was seen to hold what its links name.
    goes_on: Option<String>,
    policy: Option<Policy>,
    watches: Vec<Watch>,
    labels: Option<Labels>,
    anchor: Option<Anchor>,
    source: Source,
    others: Vec<Source>,
    witnesses: Vec<Address>,
    webhook: Option<Webhook>,
    store: Store,
}

impl Monitor {
    /// Takes the state's folder. Nothing is asked yet.
    ///
    /// # Errors
    /// [`Failure::Local`].
    pub fn open(config: Config) -> Result<Self, Failure> {
        Self::on(config, Arc::new(RealDisk))
    }

    /// As [`Monitor::open`], with the state on that disk.
    ///
    /// # Errors
    /// [`Failure::Local`].
    pub fn on(config: Config, disk: Arc<dyn Disk>) -> Result<Self, Failure> {
        let local = Failure::Local;
        let key = config.lineage().map_err(local)?;
        let origin = config.origin().map_err(local)?;
        // What was kept of a log that this one goes on from is kept on.
        let line = match &key {
            LogKey::Note(newest) if newest.first() != newest => line_of(newest),
            _ => vec![origin.clone()],
        };
        let webhook = match &config.webhook {
            Some(webhook) => Some(Webhook::open(&config, webhook).map_err(local)?),
            None => None,
        };
        let (source, others) = Source::all(&config).map_err(local)?;
        Ok(Self {
            policy: config.policy().map_err(local)?,
            watches: config.watched().map_err(local)?,
            labels: Labels::open(&config).map_err(local)?,
            anchor: Anchor::open(&config).map_err(local)?,
            witnesses: Source::addresses(&config, &config.log.witnesses).map_err(local)?,
            store: Store::open(disk, &config.monitor.state_dir, &line, &origin, &key)?,
            vkey: config.vkey().map_err(local)?,
            key,
            origin,
            goes_on: None,
            source,
            others,
            webhook,
            config,
        })
    }

    /// The log's first line.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Looks once, as far as the log goes or as alerts can be kept.
    ///
    /// # Errors
    /// What is wrong; the proof of a fork is kept by [`Monitor::trouble`].
    pub async fn round(&mut self, now: Timestamp) -> Result<Seen, Failure> {
        let mut seen = Seen::default();
        let mut head = self.show().await?;
        let mut others = self.ask_others(&mut seen).await?;
        let longest = others.iter().map(|(other, _)| other.checkpoint.size).max();
        if longest.is_some_and(|longest| longest > head.checkpoint.size) {
            // The log may have grown while the others were asked.
            head = self.show().await?;
        }
        // Asked after the head: it is of it, or of a later one.
        if let Some(anchor) = &self.anchor {
            let anchored = anchor.head(&self.origin, &self.key, now).await?;
            // INVARIANT: nothing is taken that the server's ledger does not vouch for.
            if anchored.checkpoint.size < head.checkpoint.size {
                return Err(not_anchored(&head, &anchored));
            }
            others.push((anchored, None));
        }
        self.compare(&head, others, &mut seen, now).await?;
        self.goes_on(&head).await?;
        seen.witnesses = self.witnessed(&head, now)?;
        if self.store.given_up().is_some() {
            self.step_over(&head, now).await?;
        } else if self.store.head().is_none() && self.config.log.begin == Begin::Now {
            let edge = View::new(&self.source, &head.checkpoint).frontier().await?;
            self.store.advance(head.clone())?;
            self.store.look(edge, Vec::new())?;
        } else {
            self.store.advance(head.clone())?;
        }
        self.late(now)?;
        self.look(&head.checkpoint, now).await?;
        seen.size = head.checkpoint.size;
        seen.looked = self.store.looked().size();
        Ok(seen)
    }

    /// What was seen of a log that ended was given up by the one that goes on: told, and gone on from what both share.
    async fn step_over(&mut self, head: &Head, now: Timestamp) -> Result<(), Failure> {
        let Some(gone) = self.store.given_up() else {
            return Ok(());
        };
        let (seen, end, root) = (&gone.checkpoint, gone.end, gone.root);
        let shown = &head.checkpoint;
        if shown.size <= end {
            return Err(gave_up_wrong(head, end, format!("{} records", shown.size)));
        }
        let (edge, _proof) = View::new(&self.source, shown).edge_at(end).await?;
        // INVARIANT: nothing is given up but what both keys have signed.
        if edge.root() != root {
            let observed = format!("other records before {end}");
            return Err(gave_up_wrong(head, end, observed));
        }
        let looked = self.store.looked();
        let looked = if looked.size() <= end {
            looked.clone()
        } else {
            edge
        };
        let kept = self.store.keep_given_up(seen.size)?;
        let finding = Finding::new(
            "MONITOR-GIVEN-UP",
            format!(
                "records that this monitor has seen are not in {}",
                self.origin
            ),
        )
        .expected(format!("the {} records of {}", seen.size, seen.origin))
        .observed(format!("the first {end} of them, and another history since: both keys have signed that"))
        .next(format!(
            "ask the log's operator whether he gave them up (`trilith server new-log --config FILE --give-up --reason TEXT`) or whether the old key was stolen; {} shows that it signed them",
            kept.display()
        ));
        let alert = Alert {
            v: 1,
            id: format!("{}:{}:{}", self.origin, finding.code, seen.size),
            kind: Kind::Log,
            log: self.origin.clone(),
            found: now.as_millis(),
            finding,
            record: None,
        };
        self.store.step_over(head.clone(), looked, alert)
    }

    /// What the log shows, if its key has signed it. What a key before it has signed counts as the tree that its link
    /// names, and as nothing else: whoever has that key can sign any smaller one.
    async fn show(&mut self) -> Result<Head, Failure> {
        let note = self.source.checkpoint().await?;
        let head = self.signed(&self.source.name(), note)?;
        match counts(&head.note, &self.key) {
            true => Ok(head),
            false => Err(Failure::Unreachable(former(&head, &self.origin))),
        }
    }

    /// The head holds each tree that a link of its lineage names. Asked when this process sees a log of it first: from
    /// then on a head goes on from the one before.
    async fn goes_on(&mut self, head: &Head) -> Result<(), Failure> {
        let shown = &head.checkpoint;
        let LogKey::Note(newest) = &self.key else {
            return Ok(());
        };
        if self.goes_on.as_ref() == Some(&shown.origin) {
            return Ok(());
        }
        let mut view = View::new(&self.source, shown);
        for (end, root) in newest.goes_on_from(&shown.origin) {
            if shown.size < end {
                return Err(gave_up_wrong(head, end, format!("{} records", shown.size)));
            }
            // INVARIANT: a link names what a log has to go on from, and says nothing of what it does go on from.
            let (edge, _proof) = view.edge_at(end).await?;
            if edge.root() != root {
                let observed = format!("other records before {end}");
                return Err(gave_up_wrong(head, end, observed));
            }
        }
        self.goes_on = Some(shown.origin.clone());
        Ok(())
    }

    /// Whether `other` is of the history of `head`. What a replaced key has signed, and what is not, is told as that: it
    /// says nothing against the log.
    async fn agrees(&self, other: &Head, head: &Head) -> Result<Option<Finding>, Failure> {
        match one_history(&self.key, other, head, &self.source).await {
            Ok(()) => Ok(None),
            // INVARIANT: what the server's ledger anchors was shown to it while that key signed for the log.
            Err(Failure::Misbehaved(..)) if other.by != BY && !counts(&other.note, &self.key) => {
                Ok(Some(former(other, &self.origin)))
            }
            Err(failure) => Err(failure),
        }
    }

    fn signed(&self, by: &str, note: String) -> Result<Head, Failure> {
        let parsed = Note::parse(&note).map_err(CheckpointError::from);
        let checkpoint = parsed.and_then(|note| signed_by(&note, &self.key, &self.origin));
        let checkpoint = checkpoint.map_err(|error| {
            Failure::Broken(
                Finding::new(
                    "MONITOR-CHECKPOINT",
                    format!("what {by} shows is no checkpoint of {}", self.origin),
                )
                .expected(format!("one that {} has signed", self.vkey))
                .observed(facts::with_causes(&error))
                .next(
                    "compare `log.key` with what the log's operator tells you; if the log goes on as a new one, give its key as \
                     `log.key` and what `trilith trust` prints as `log.lineage`, with the same `state_dir`. Nothing was taken",
                ),
            )
        })?;
        Ok(Head {
            by: by.to_owned(),
            note,
            checkpoint,
        })
    }

    /// The checkpoints that other addresses and witnesses show, each with the place of its tiles, if it has them.
    async fn ask_others(&mut self, seen: &mut Seen) -> Result<Vec<(Head, Option<usize>)>, Failure> {
        let mut found = Vec::new();
        for at in 0..self.others.len() {
            let Some(other) = self.others.get_mut(at) else {
                break;
            };
            match other.checkpoint().await {
                Ok(note) => {
                    let name = other.name();
                    found.push((self.signed(&name, note)?, Some(at)));
                }
                Err(failure) => seen.notes.push(failure.finding().clone()),
            }
        }
        let path = format!("{}/checkpoint", origin_hash(&self.origin));
        for witness in &self.witnesses {
            match source::note_of(witness, &path).await {
                Ok(Some(bytes)) => {
                    let opened = source::text(bytes, &witness.url)
                        .and_then(|note| self.signed(&format!("witness {}", witness.url), note));
                    match opened {
                        Ok(head) => found.push((head, None)),
                        // It is the witness that is wrong, not the log.
                        Err(failure) => seen
                            .notes
                            .push(witness_wrong(&witness.url, failure.finding())),
                    }
                }
                Ok(None) => seen.notes.push(witness_knows_none(&witness.url)),
                Err(failure) => seen.notes.push(failure.finding().clone()),
            }
        }
        Ok(found)
    }

    /// All of them, what was kept and what was seen ahead are one history, or it is told which are not.
    async fn compare(
        &mut self,
        head: &Head,
        others: Vec<(Head, Option<usize>)>,
        seen: &mut Seen,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let size = head.checkpoint.size;
        if let Some(kept) = self.store.head() {
            if size < kept.checkpoint.size {
                return Err(regressed(kept, head));
            }
            one_history(&self.key, kept, head, &self.source).await?;
        }
        let mut ahead = Vec::new();
        for known in self.store.document.ahead.clone() {
            // Another has seen what was given up; that this monitor has not is no more than that.
            if given_up(&known.note, &self.key).is_some() {
                seen.notes.push(ahead_given_up(&known, &self.origin));
                continue;
            }
            match self.signed(&known.by, known.note.clone()) {
                Ok(other) if other.checkpoint.size <= size => {
                    seen.notes.extend(self.agrees(&other, head).await?);
                }
                Ok(_) => ahead.push(known),
                Err(failure) => return Err(failure),
            }
        }
        for (other, tiles) in others {
            if other.checkpoint.size <= size {
                match self.agrees(&other, head).await? {
                    None => seen.agree += 1,
                    Some(note) => seen.notes.push(note),
                }
                continue;
            }
            let source = tiles.and_then(|at| self.others.get(at));
            match source {
                Some(source) => match one_history(&self.key, head, &other, source).await {
                    Ok(()) => seen.agree += 1,
                    Err(failure @ Failure::Misbehaved(..)) => return Err(failure),
                    Err(failure) => seen.notes.push(failure.finding().clone()),
                },
                // Nobody has its tiles yet: it is compared once the log has come so far.
                None if ahead.iter().all(|known| known.by != other.by) => ahead.push(Ahead {
                    by: other.by,
                    note: other.note,
                    since: now.as_millis(),
                }),
                None => {}
            }
        }
        self.store.document.ahead = ahead;
        Ok(())
    }

    /// How many witnesses count, if they are a quorum.
    fn witnessed(&self, head: &Head, now: Timestamp) -> Result<usize, Failure> {
        let Some(policy) = &self.policy else {
            return Ok(0);
        };
        let note = Note::parse(&head.note).map_err(|error| quorum(head, &error.to_string()))?;
        let found = policy
            .judge(&note)
            .map_err(|error| quorum(head, &facts::with_causes(&error)))?;
        if !found.reached {
            let names: Vec<_> = found
                .cosignatures
                .iter()
                .map(|one| one.name.as_str())
                .collect();
            return Err(quorum(
                head,
                &format!("cosignatures of [{}]", names.join(", ")),
            ));
        }
        let Some(age) = self.config.log.max_age_s else {
            return Ok(found.cosignatures.len());
        };
        // Weighed again by those alone that are recent: one of a clock that is ahead would be for as long as that.
        let oldest = now.minus_secs(age).as_secs();
        let latest = now.plus_secs(AHEAD_S).as_secs();
        let recent = |name: &str, id: u32| {
            let mut ours = found.cosignatures.iter();
            ours.any(|one| {
                let same = one.name == name && one.id == id;
                same && (one.time <= latest && one.time >= oldest)
            })
        };
        let mut note = note;
        note.signatures.retain(|line| recent(&line.name, line.id));
        let fresh = policy
            .judge(&note)
            .map_err(|error| quorum(head, &facts::with_causes(&error)))?;
        if fresh.reached {
            return Ok(fresh.cosignatures.len());
        }
        let newest = found
            .cosignatures
            .iter()
            .map(|one| one.time)
            .max()
            .unwrap_or_default();
        Err(Failure::Broken(
            Finding::new("MONITOR-STALE", format!("the head of {} is older than it may be: an old view is shown, or the log stands still", self.origin))
                .expected(format!("a quorum that cosigned within {age} s"))
                .observed(format!("the newest cosignature is of {newest} seconds since 1970"))
                .next("ask another address of the log, or its witnesses; raise `max_age_s` if it publishes less often"),
        ))
    }

    /// A head that a witness has seen and that the log does not come to is an old view that is shown here.
    fn late(&self, now: Timestamp) -> Result<(), Failure> {
        let patience = u64::from(self.config.monitor.patience_s).saturating_mul(1000);
        let mut ahead = self.store.document.ahead.iter();
        let late = ahead.find(|known| now.as_millis().saturating_sub(known.since) >= patience);
        let Some(known) = late else {
            return Ok(());
        };
        let size = known.note.lines().nth(1).unwrap_or_default();
        Err(Failure::Broken(
            Finding::new(
                "MONITOR-BEHIND",
                format!(
                    "{} shows an old head, and {} has cosigned a longer one",
                    self.source.name(),
                    known.by
                ),
            )
            .expected(format!("{size} records or more"))
            .observed(format!(
                "{} records",
                self.store.head().map_or(0, |head| head.checkpoint.size)
            ))
            .next("ask another address of the log: this one hides what was added"),
        ))
    }

    /// Everything up to the head, or until so many alerts wait that no more are kept, or until it is time to look at
    /// the head again: a slow log does not keep a fork from being seen.
    async fn look(&mut self, head: &ForeignCheckpoint, now: Timestamp) -> Result<(), Failure> {
        let most = self
            .config
            .webhook
            .as_ref()
            .map_or(1_000, |webhook| webhook.queue);
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let begun = Instant::now();
        let interval = Duration::from_secs(self.config.monitor.interval_s.into());
        if let Some(labels) = &self.labels
            && let Some(mut heard_of) = labels.heard_of(&self.store, head, now)?
        {
            self.store.document.alerts.append(&mut heard_of.alerts);
            self.store.write()?;
            Labels::held(&self.store, &heard_of)?;
        }
        while self.store.looked().size() < head.size
            && self.store.document.alerts.len() < most
            && begun.elapsed() < interval
        {
            let looked = self.store.looked();
            let batch = look::batch(
                &self.source,
                head,
                looked,
                self.config.log.entries,
                &self.watches,
                self.labels.as_ref(),
                now,
            )
            .await?;
            if let Some((denial, finding)) = batch.denied {
                self.store.keep_denial(&denial)?;
                return Err(Failure::Broken(finding));
            }
            if let Some(labels) = &self.labels {
                labels.keep(&self.store, &batch.served)?;
            }
            self.store.look(batch.looked, batch.alerts)?;
        }
        // What is ahead was changed, also where nothing is new.
        self.store.write()
    }

    /// Keeps what a failure shows: the proof of misbehaviour in a file, which is returned, and an alert of each kind
    /// of trouble once. What cannot be reached has `patience_s`.
    ///
    /// # Errors
    /// [`Failure::Local`].
    pub fn trouble(
        &mut self,
        failure: Option<&Failure>,
        now: Timestamp,
    ) -> Result<Option<PathBuf>, Failure> {
        let Some(failure) = failure else {
            if self.store.document.trouble.take().is_some() {
                self.store.write()?;
            }
            return Ok(None);
        };
        let (kind, patient, misbehaviour) = match failure {
            Failure::Local(_) => return Ok(None),
            Failure::Unreachable(_) => (Kind::Log, true, None),
            Failure::Broken(_) => (Kind::Log, false, None),
            Failure::Misbehaved(_, misbehaviour) => (Kind::Misbehaviour, false, Some(misbehaviour)),
        };
        let finding = failure.finding();
        let kept = misbehaviour
            .map(|misbehaviour| self.store.keep(misbehaviour))
            .transpose()?;
        let at = now.as_millis();
        let document = &mut self.store.document;
        let same = document
            .trouble
            .take()
            .filter(|known| known.code == finding.code);
        let mut trouble = same.unwrap_or_else(|| Trouble {
            code: finding.code.to_string(),
            since: at,
            told: false,
        });
        let patience = u64::from(self.config.monitor.patience_s).saturating_mul(1000);
        let due = !patient || at.saturating_sub(trouble.since) >= patience;
        if due && !trouble.told {
            trouble.told = true;
            document.alerts.push(Alert {
                v: 1,
                id: format!("{}:{}:{}", self.origin, trouble.code, trouble.since),
                kind,
                log: self.origin.clone(),
                found: at,
                finding: finding.clone(),
                record: None,
            });
        }
        document.trouble = Some(trouble);
        self.store.write()?;
        Ok(kept)
    }

    /// Alerts that were not taken yet.
    #[must_use]
    pub fn waiting(&self) -> &[Alert] {
        &self.store.document.alerts
    }

    /// The first `count` alerts were taken: they are not told again.
    ///
    /// # Errors
    /// [`Failure::Local`]; then they are told again.
    pub fn taken(&mut self, count: usize) -> Result<(), Failure> {
        let alerts = &mut self.store.document.alerts;
        alerts.drain(..count.min(alerts.len()));
        self.store.write()
    }

    /// True if alerts go to a webhook.
    #[must_use]
    pub const fn has_webhook(&self) -> bool {
        self.webhook.is_some()
    }

    /// Sends what waits, one after the other, until one is not taken.
    ///
    /// # Errors
    /// Why one was not taken; it waits, with all after it.
    pub async fn send(&mut self, now: Timestamp) -> Result<usize, Failure> {
        let mut sent = 0;
        loop {
            let Some(webhook) = self.webhook.as_mut().filter(|webhook| webhook.is_due(now)) else {
                return Ok(sent);
            };
            let Some(alert) = self.store.document.alerts.first() else {
                return Ok(sent);
            };
            webhook.send(alert, now).await.map_err(Failure::Local)?;
            self.taken(1)?;
            sent += 1;
        }
    }
}

/// The logs of the lineage, as far as it is known, the first one first.
fn line_of(newest: &LedgerKey) -> Vec<String> {
    let mut line: Vec<_> = std::iter::successors(Some(newest), |key| key.before())
        .map(|key| key.origin().to_string())
        .collect();
    line.reverse();
    line
}

fn gave_up_wrong(head: &Head, end: u64, observed: String) -> Failure {
    Failure::Broken(
        Finding::new(
            "MONITOR-LINEAGE",
            format!(
                "{} does not go on from where its lineage says",
                head.by
            ),
        )
        .expected(format!(
            "more than {end} records, the first of which are those that both keys have signed for"
        ))
        .observed(observed)
        .next("get `log.lineage` anew from the log's operator; if it is right, rely on nothing that this log says. What was seen before stays in the state"),
    )
}

fn former(head: &Head, origin: &str) -> Finding {
    let shown = &head.checkpoint;
    Finding::new(
        "MONITOR-FORMER",
        format!(
            "{} shows a head by a key that was replaced, and nothing shows that it is of {origin}",
            head.by
        ),
    )
    .expected(format!("a head of {origin}"))
    .observed(format!("{} records of {}", shown.size, shown.origin))
    .next("ask another address of the log, or wait until this one shows the new log; whoever stole the old key can sign such a head, and nothing of it was taken")
}

fn ahead_given_up(known: &Ahead, origin: &str) -> Finding {
    Finding::new(
        "MONITOR-GIVEN-UP",
        format!("records that {} has seen are not in {origin}", known.by),
    )
    .observed(known.note.lines().take(2).collect::<Vec<_>>().join(", "))
    .next("ask the log's operator whether he gave them up (`trilith server new-log --config FILE --give-up --reason TEXT`)")
}

fn regressed(kept: &Head, head: &Head) -> Failure {
    Failure::Broken(
        Finding::new("MONITOR-REGRESSED", format!("{} has become shorter", head.by))
            .expected(format!("{} records or more, which its key has signed and {} keeps", kept.checkpoint.size, kept.by))
            .observed(format!("{} records", head.checkpoint.size))
            .next("an old view is shown, or the log was put back: ask its operator, and do not rely on what it says; the longer head stays in the state"),
    )
}

fn quorum(head: &Head, observed: &str) -> Failure {
    Failure::Broken(
        Finding::new("MONITOR-QUORUM", format!("the head that {} shows is not witnessed as the policy asks", head.by))
            .expected("the quorum of `log.policy`")
            .observed(observed.to_owned())
            .next("wait for the witnesses if the head is new; if it stays so, others may be shown another history"),
    )
}

fn witness_wrong(url: &str, finding: &Finding) -> Finding {
    Finding::new(
        "MONITOR-WITNESS",
        format!("what the witness {url} shows is not of this log"),
    )
    .observed(finding.to_string())
    .next("tell the witness's operator; the log is compared with the others")
}

fn witness_knows_none(url: &str) -> Finding {
    Finding::new(
        "MONITOR-WITNESS",
        format!("the witness {url} has seen no checkpoint of this log"),
    )
    .next("ask its operator whether it witnesses this log")
}
