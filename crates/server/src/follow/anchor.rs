//! Taking a gateway's ledger: its head is checked against what is mirrored, the records between are
//! fetched and kept, and only then the head is anchored. However far the gateway is ahead, what is held in
//! memory is bounded: records are kept as far as a checkpoint that the gateway signed on the way covers them.

use super::misbehaviour::{self, Notes};
use super::{Deltas, send, succession};
use crate::core::{Core, draft};
use crate::journal::Failure;
use crate::mirrors::Kept;
use crate::refusal::Refusal;
use facts::Finding;
use ledger::body::{self, Body as _};
use ledger::lineage::{self, Link};
use ledger::misbehaviour::link_evidence;
use ledger::{Base64, Checkpoint, Decimal, Digest, Draft, LedgerKey, merkle};
use ledger_store::StoreError;
use proto::v1::{Anchored, FetchSegments, GatewayHead, SegmentData, delta::Delta};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use store::{GatewayRow, SvidRow};
use tokio::sync::{OwnedMutexGuard, mpsc, watch};

/// Records asked for at once; the gateway sends fewer when they are large.
const AT_ONCE: u32 = 4_096;
/// Bytes of records between two checkpoints of the gateway: its commits have a few MiB. Below what a mirror
/// takes at once.
const MOST: usize = 30 << 20;
/// Between looks at a clock that is wrong.
const CLOCK: std::time::Duration = std::time::Duration::from_secs(1);

struct Anchoring {
    core: Arc<Core>,
    svid: Arc<SvidRow>,
    key: LedgerKey,
    /// Opened with the first head: a disk without room for it must not keep a gateway from following.
    kept: Option<Arc<Kept>>,
    /// The head that records are being fetched for.
    fetching: Option<Fetching>,
    requests: u64,
    /// How the ledger went on as new logs, as the gateway says.
    links: Vec<Link>,
    /// What was anchored when the stream began: whatever the gateway signs later is of as many records.
    before: Option<GatewayRow>,
    /// True from when the gateway may be cut off for what it presented.
    convicting: Arc<AtomicBool>,
}

struct Fetching {
    note: String,
    checkpoint: Checkpoint,
    /// Of what is not kept yet.
    first: u64,
    records: Vec<Vec<u8>>,
    bytes: usize,
    request: u64,
}

/// Heads, of which the newest counts, and records that were asked for.
type Inbound = (
    watch::Receiver<Option<GatewayHead>>,
    mpsc::Receiver<SegmentData>,
);

/// Anchors the newest of the heads, again and again, for as long as the gateway's stream lasts.
///
/// INVARIANT: one request is out at a time, so no more than its answer waits in the channel of records.
pub(super) async fn run(
    core: Arc<Core>,
    svid: Arc<SvidRow>,
    key: LedgerKey,
    deltas: Deltas,
    (mut heads, mut segments): Inbound,
    convicting: Arc<AtomicBool>,
) -> Result<(), Refusal> {
    let before = core.state().gateway(key.origin().as_str()).cloned();
    let mut anchoring = Anchoring {
        before,
        core,
        svid,
        links: lineage::links(&key)
            .iter()
            .filter_map(|link| Link::open(link).ok())
            .collect(),
        key,
        kept: None,
        fetching: None,
        requests: 0,
        convicting,
    };
    loop {
        let outcome = if anchoring.fetching.is_some() {
            match segments.recv().await {
                Some(segment) => anchoring.segment(segment).await,
                None => return Ok(()),
            }
        } else {
            tokio::select! {
                changed = heads.changed() => {
                    let head = heads.borrow_and_update().clone();
                    match (changed, head) {
                        (Ok(()), Some(head)) => anchoring.begin(head).await,
                        (Ok(()), None) => Ok(None),
                        (Err(_), _) => return Ok(()),
                    }
                }
                segment = segments.recv() => match segment {
                    // Nobody asked for it.
                    Some(_) => Ok(None),
                    None => return Ok(()),
                }
            }
        };
        if let Some(answer) = kept(outcome)? {
            send(&deltas, answer).await?;
        }
    }
}

/// A full disk keeps nothing of the gateway's ledger, and takes nothing from the gateway: what it must
/// hear of goes on, and its next head is tried again.
fn kept(outcome: Result<Option<Delta>, Refusal>) -> Result<Option<Delta>, Refusal> {
    match outcome {
        Err(refusal) if refusal.is_disk_full() => {
            tracing::warn!(%refusal, "a gateway's ledger is not anchored");
            Ok(None)
        }
        outcome => outcome,
    }
}

impl Fetching {
    /// The index after the last record that has come.
    fn end(&self) -> u64 {
        let have = u64::try_from(self.records.len()).unwrap_or(u64::MAX);
        self.first.saturating_add(have)
    }
}

impl Anchoring {
    async fn kept(&mut self) -> Result<Arc<Kept>, Refusal> {
        if let Some(kept) = &self.kept {
            return Ok(Arc::clone(kept));
        }
        let origin = self.key.origin().as_str();
        // INVARIANT: a link that nothing has come of yet changes nothing: as long as the server's ledger does not tell of
        // it, the mirror goes on with the records behind it.
        let known = self.core.state().gateway_key(origin);
        let anchored = known.is_some();
        let key = known.unwrap_or_else(|| self.key.clone());
        let opening = Arc::clone(&self.core);
        let kept = tokio::task::spawn_blocking(move || opening.mirrors.open(&key))
            .await
            .map_err(|error| Refusal::internal("opening a mirror", &error))??;
        if anchored {
            kept.named();
        }
        Ok(Arc::clone(self.kept.insert(kept)))
    }

    async fn begin(&mut self, head: GatewayHead) -> Result<Option<Delta>, Refusal> {
        let opened = Checkpoint::open(&head.checkpoint, &self.key)
            .map_err(|error| self.refused(&error.to_string()))?;
        if opened.origin != *self.key.origin() {
            return Err(self.refused(&format!("a head of {}", opened.origin)));
        }
        let kept = self.kept().await?;
        self.has_not_ended(&kept, &head.checkpoint, &opened).await?;
        let before = kept.reader().head();
        let held = before.checkpoint.size;
        if opened.size < held {
            return Err(self.shorter(&kept, &head.checkpoint, &opened).await);
        }
        // A proof from elsewhere than what is kept is not needed: the records themselves will show it.
        if head.old_size == held && held > 0 {
            let proof: Option<Vec<_>> = head
                .consistency
                .iter()
                .map(|hash| hash.as_slice().try_into().ok())
                .collect();
            let proof = proof.ok_or_else(|| self.refused("a hash that is none"))?;
            let (root, new) = (&before.checkpoint.root, &opened);
            if let Err(error) = merkle::verify_consistency(held, root, new.size, &new.root, &proof)
            {
                let first = before.note.to_string();
                return Err(self
                    .misbehaves(first, &head.checkpoint, false, &error.to_string())
                    .await);
            }
        }
        if opened.size == held {
            return self.anchor(&head.checkpoint, &opened).await;
        }
        self.fetching = Some(Fetching {
            note: head.checkpoint,
            checkpoint: opened,
            first: held,
            records: Vec::new(),
            bytes: 0,
            request: 0,
        });
        Ok(self.fetch())
    }

    fn fetch(&mut self) -> Option<Delta> {
        let fetching = self.fetching.as_mut()?;
        self.requests += 1;
        fetching.request = self.requests;
        let from_index = fetching.end();
        // Where a log ended, its key has signed a checkpoint: what is not of that tree is refused before it is kept.
        let mut ends = self.links.iter().map(|link| link.size);
        let end = ends.find(|end| *end > from_index);
        let until = fetching.checkpoint.size.min(end.unwrap_or(u64::MAX));
        let left = until.saturating_sub(from_index);
        Some(Delta::Fetch(FetchSegments {
            request: self.requests,
            from_index,
            limit: u32::try_from(left).unwrap_or(AT_ONCE).min(AT_ONCE),
        }))
    }

    async fn segment(&mut self, segment: SegmentData) -> Result<Option<Delta>, Refusal> {
        let Some(mut fetching) = self.fetching.take() else {
            return Ok(None);
        };
        if segment.request != fetching.request {
            self.fetching = Some(fetching);
            return Ok(None);
        }
        let expected = fetching.end();
        let left = fetching.checkpoint.size.saturating_sub(expected);
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        fetching.bytes += segment.records.iter().map(Vec::len).sum::<usize>();
        let (first, bytes, whole) = (
            segment.first_index,
            fetching.bytes,
            segment.records.len() <= left,
        );
        fetching
            .records
            .extend(segment.records.into_iter().take(left));
        if first != expected || fetching.end() <= expected || bytes > MOST {
            return Err(self.refused(&format!("{bytes} bytes of records from {first} on")));
        }
        if fetching.end() < fetching.checkpoint.size {
            if whole && !segment.checkpoint.is_empty() {
                // INVARIANT: the mirror checks that the records lead to this checkpoint, too, before it
                // keeps them, and in the end that all of them lead to the head.
                let end = fetching.end();
                let records = std::mem::take(&mut fetching.records);
                self.keep(fetching.first, records, segment.checkpoint)
                    .await?;
                self.is_what_was_anchored(fetching.first, end).await?;
                (fetching.first, fetching.bytes) = (end, 0);
            }
            self.fetching = Some(fetching);
            return Ok(self.fetch());
        }
        let note = fetching.note.clone();
        self.keep(fetching.first, fetching.records, fetching.note)
            .await?;
        self.anchor(&note, &fetching.checkpoint).await
    }

    async fn keep(
        &mut self,
        first: u64,
        records: Vec<Vec<u8>>,
        note: String,
    ) -> Result<(), Refusal> {
        let kept = self.kept().await?;
        if !kept.reads(&note) {
            self.goes_on(&kept, first).await?;
        }
        tokio::task::spawn_blocking(move || kept.append(first, &records, &note))
            .await
            .map_err(|error| Refusal::internal("keeping a gateway's records", &error))?
            .map_err(|error| match error {
                StoreError::DiskFull => Refusal::disk_full(),
                error => self.refused(&error.to_string()),
            })?;
        Ok(())
    }

    /// The mirror goes on as the log of this key, durably, if that goes on from what is here: records of it have come,
    /// from `first` on, or it is about to be anchored.
    async fn goes_on(&self, kept: &Arc<Kept>, first: u64) -> Result<(), Refusal> {
        if kept.is_of(&self.key) {
            return Ok(());
        }
        for link in self.links.iter().filter(|link| link.size <= first) {
            let root = Digest(link.root).to_string();
            if !has(Arc::clone(kept), link.size, root).await? {
                return Err(self.refused(&format!(
                    "{} goes on from {} records that are not the first of these",
                    link.to.origin(),
                    link.size
                )));
            }
        }
        let (succeeding, key) = (Arc::clone(kept), self.key.clone());
        let succeeded = tokio::task::spawn_blocking(move || succeeding.succeed(&key)).await;
        succeeded.map_err(|error| Refusal::internal("going on with a mirror", &error))??;
        kept.went_on_by(&self.svid.node);
        Ok(())
    }

    /// Refuses a head beyond the end of its log, where what is kept here goes on as another one. Its records came, and
    /// the server's ledger may not tell of it: then the link is evidence, which is kept with the head.
    async fn has_not_ended(
        &self,
        kept: &Kept,
        note: &str,
        opened: &Checkpoint,
    ) -> Result<(), Refusal> {
        let newest = kept.goes_on_with(&self.key)?;
        if newest == self.key {
            return Ok(());
        }
        let Some((link, rotation)) = succession::leads_on(&self.key, &newest) else {
            return Ok(());
        };
        let is_end = (link.size, link.root) == (opened.size, opened.root);
        if opened.size < link.size || is_end {
            return Ok(());
        }
        let observed = format!(
            "{} records, and it went on as {} from {}",
            opened.size,
            link.to.origin(),
            link.size
        );
        let first = link_evidence(&rotation);
        Err(self.misbehaves(first, note, false, &observed).await)
    }

    /// Once a mirror that was lost has reached its anchor again: what comes after it is fetched only if this is the
    /// ledger that was anchored.
    async fn is_what_was_anchored(&mut self, first: u64, end: u64) -> Result<(), Refusal> {
        let known = self
            .core
            .state()
            .gateway(self.key.origin().as_str())
            .cloned();
        let Some(known) = known.filter(|known| first < known.size && known.size <= end) else {
            return Ok(());
        };
        let kept = self.kept().await?;
        let second = kept.reader().head().note.to_string();
        let (size, root) = (known.size, known.root);
        self.differs(kept, (size, root), known.checkpoint, &second)
            .await
    }

    /// Records the head, unless that very head is recorded.
    async fn anchor(
        &mut self,
        note: &str,
        checkpoint: &Checkpoint,
    ) -> Result<Option<Delta>, Refusal> {
        let kept = self.kept().await?;
        // INVARIANT: what agrees with the anchor in force is the next one, whatever other streams of this ledger send.
        let alone = kept.alone().await;
        let origin = self.key.origin().as_str();
        let known = self.core.state().gateway(origin).cloned();
        self.agrees(note, checkpoint, known.as_ref()).await?;
        let is_it = |known: &GatewayRow| known.size == checkpoint.size && known.origin == origin;
        if let Some(known) = known.filter(is_it) {
            return Ok(Some(self.anchored(known.size, known.anchor)));
        }
        let body = body::Anchor {
            gateway: self.svid.spiffe_id.clone(),
            origin: origin.to_owned(),
            ledger_key: Base64(self.key.public_key().spki_der().to_vec()),
            size: Decimal(checkpoint.size),
            root: Digest(checkpoint.root),
            checkpoint: note.to_owned(),
        };
        let auth = format!("x509:{}", self.svid.serial);
        let mut records = self.successions(&kept, checkpoint, &auth).await?;
        self.goes_on(&kept, checkpoint.size).await?;
        records.push(draft(body.record().actor(&self.svid.spiffe_id, &auth))?);
        let index = self.record(records, alone).await?;
        kept.named();
        let row = self.core.state().gateway(origin).cloned();
        if let Some(row) = row {
            self.core.ledgers.anchored(&row);
        }
        Ok(Some(self.anchored(checkpoint.size, index)))
    }

    /// What the gateway is told, with the receipt by which it knows that the ledger says so. Without one it prunes nothing.
    fn anchored(&self, size: u64, index: u64) -> Delta {
        let receipt = self.core.journal.reader().receipt(index).ok();
        let receipt = receipt.and_then(|receipt| receipt.encode().ok());
        Delta::Anchored(Anchored {
            size,
            index,
            receipt: receipt.unwrap_or_default(),
        })
    }

    /// Links that the server's ledger does not tell of yet: durable with the first anchor that rests on them.
    ///
    /// INVARIANT: what a link names is the beginning of what is anchored.
    async fn successions(
        &self,
        kept: &Arc<Kept>,
        checkpoint: &Checkpoint,
        auth: &str,
    ) -> Result<Vec<Draft>, Refusal> {
        let origin = self.key.origin().as_str();
        let told = self.core.state().gateway_links(origin);
        let told = told.iter().filter_map(|(_, link)| Link::open(link).ok());
        let told: Vec<Link> = told.collect();
        let mut records = Vec::new();
        for (link, rotation) in self.links.iter().zip(lineage::links(&self.key)) {
            if told.contains(link) {
                continue;
            }
            let root = Digest(link.root).to_string();
            if link.size > checkpoint.size || !has(Arc::clone(kept), link.size, root).await? {
                return Err(self.refused(&format!(
                    "{} goes on from {} records that are not the first of these",
                    link.to.origin(),
                    link.size
                )));
            }
            let body = succession::told(rotation);
            records.push(draft(body.record().actor(&self.svid.spiffe_id, auth))?);
        }
        Ok(records)
    }

    /// The head, the records that are kept and the anchor before it are of one ledger that has grown. The
    /// mirror shows it of records that come; a head without new ones, and a mirror that was lost and
    /// fetched anew, show it here.
    async fn agrees(
        &self,
        note: &str,
        checkpoint: &Checkpoint,
        known: Option<&GatewayRow>,
    ) -> Result<(), Refusal> {
        let Some(kept) = self.kept.clone() else {
            return Ok(());
        };
        if let Some(known) = known.filter(|known| checkpoint.size < known.size) {
            return Err(self.behind_anchor(note, checkpoint, known).await);
        }
        let first = kept.reader().head().note.to_string();
        let head = (checkpoint.size, Digest(checkpoint.root).to_string());
        self.differs(Arc::clone(&kept), head, first, note).await?;
        match known {
            None => Ok(()),
            Some(known) => {
                let anchored = (known.size, known.root.clone());
                self.differs(kept, anchored, known.checkpoint.clone(), note)
                    .await
            }
        }
    }

    /// Refuses what is kept unless it has this size with its root. If it does not, the key has signed both notes.
    async fn differs(
        &self,
        kept: Arc<Kept>,
        (size, root): (u64, String),
        first: String,
        second: &str,
    ) -> Result<(), Refusal> {
        if has(kept, size, root.clone()).await? {
            return Ok(());
        }
        let observed =
            format!("{size} records with the root {root}, which those kept here do not have");
        Err(self.misbehaves(first, second, true, &observed).await)
    }

    /// A head of fewer records than are kept. One that is on the kept history may be late, and of a stream that has
    /// ended; not if more was anchored before this stream began.
    async fn shorter(&self, kept: &Arc<Kept>, note: &str, opened: &Checkpoint) -> Refusal {
        let reader = kept.reader();
        let (size, held) = (opened.size, reader.size());
        let observed = format!("{size} records, {held} are kept here");
        match has(Arc::clone(kept), size, Digest(opened.root).to_string()).await {
            Err(refusal) => refusal,
            Ok(true) => match &self.before {
                Some(before) if size < before.size => {
                    self.misbehaves(before.checkpoint.clone(), note, false, &observed)
                        .await
                }
                _ => Refusal::Denied(self.refusal(&observed)),
            },
            Ok(false) => {
                let first = reader.head().note.to_string();
                self.misbehaves(first, note, true, &observed).await
            }
        }
    }

    /// A head of fewer records than are anchored, where the mirror was lost.
    async fn behind_anchor(
        &self,
        note: &str,
        checkpoint: &Checkpoint,
        known: &GatewayRow,
    ) -> Refusal {
        let (size, anchored) = (checkpoint.size, known.size);
        let observed = format!("{size} records, {anchored} are anchored");
        match &self.before {
            Some(before) if size < before.size => {
                self.misbehaves(before.checkpoint.clone(), note, false, &observed)
                    .await
            }
            _ => Refusal::Denied(self.refusal(&observed)),
        }
    }

    /// `seen`: the records that are kept show that the notes are of two histories.
    async fn misbehaves(&self, first: String, second: &str, seen: bool, observed: &str) -> Refusal {
        let notes = Notes {
            first,
            second: second.to_owned(),
            seen,
        };
        let refused = self.refusal(observed);
        self.convicting.store(true, Ordering::SeqCst);
        misbehaviour::cut_off(&self.core, &self.svid, &self.key, notes, refused).await
    }

    /// Records the anchor as soon as the server may sign: a gateway whose server is behind another
    /// peer goes on following, and hears of cuts.
    async fn record(
        &self,
        records: Vec<Draft>,
        mut alone: OwnedMutexGuard<()>,
    ) -> Result<u64, Refusal> {
        let mut allowed = self.core.signing.watch();
        loop {
            let (core, kept) = (Arc::clone(&self.core), self.kept.clone());
            let entries = records.iter().cloned().map(Into::into).collect();
            // INVARIANT: nobody else looks at the anchor in force while this one is on its way, also when the stream
            // that it came by ends; and the mirror that it names is not closed meanwhile, nor taken away.
            let appending = tokio::spawn(async move {
                let appended = core.journal.append(entries).await;
                if let (Ok(_), Some(kept)) = (&appended, &kept) {
                    kept.named();
                }
                (appended, alone)
            });
            let appended = appending
                .await
                .map_err(|error| Refusal::internal("recording an anchor", &error))?;
            alone = appended.1;
            match appended.0 {
                Ok(committed) => {
                    // The anchor is the last of them.
                    let anchor = committed.last().map(ledger_store::Committed::index);
                    return anchor.ok_or_else(|| Failure::Ended.into());
                }
                Err(Failure::Blocked(finding)) => {
                    if allowed.wait_for(|allowed| *allowed).await.is_err() {
                        return Err(Refusal::Unavailable(finding));
                    }
                    // Of a clock that is wrong nobody is told that it is right.
                    while self.core.signing.clock().check().is_err() {
                        tokio::time::sleep(CLOCK).await;
                    }
                }
                Err(failure) => return Err(failure.into()),
            }
        }
    }

    fn refused(&self, observed: &str) -> Refusal {
        Refusal::Denied(self.refusal(observed))
    }

    fn refusal(&self, observed: &str) -> Finding {
        Finding::new(
            "ANCHOR-REFUSED",
            "the gateway's ledger is not the one that is mirrored here, grown",
        )
        .expected(format!(
            "{} with at least {} records",
            self.key.origin(),
            self.kept.as_ref().map_or(0, |kept| kept.reader().size())
        ))
        .observed(observed.to_owned())
        .next("keep both ledgers as evidence, revoke the gateway and look at its machine: trilith ledger search --type anchor")
    }
}

/// Whether the first `size` records that are kept have this root.
async fn has(kept: Arc<Kept>, size: u64, root: String) -> Result<bool, Refusal> {
    let has = tokio::task::spawn_blocking(move || kept.has(size, &root));
    let has = has.await;
    has.map_err(|error| Refusal::internal("reading a mirror", &error))?
        .map_err(|error: StoreError| Refusal::internal("reading a mirror", &error))
}
