//! Taking a gateway's ledger: its head is checked against what is mirrored, the records between are
//! fetched and kept, and only then the head is anchored.

use crate::core::{Core, draft};
use crate::mirrors::Kept;
use crate::refusal::Refusal;
use facts::Finding;
use ledger::body::{self, Body as _};
use ledger::{Base64, Checkpoint, Decimal, Digest, LedgerKey};
use ledger_store::StoreError;
use proto::v1::{Anchored, FetchSegments, GatewayHead, SegmentData, delta::Delta};
use std::sync::Arc;
use store::SvidRow;

/// Records asked for at once.
const AT_ONCE: u32 = 256;
/// Bytes of records between two heads.
const MOST: usize = 30 << 20;

pub(super) struct Anchoring {
    core: Arc<Core>,
    svid: Arc<SvidRow>,
    key: LedgerKey,
    /// Opened with the first head: a disk without room for it must not keep a gateway from following.
    kept: Option<Arc<Kept>>,
    /// The head that records are being fetched for.
    fetching: Option<Fetching>,
    /// The newest head that came meanwhile.
    next: Option<GatewayHead>,
    requests: u64,
}

struct Fetching {
    note: String,
    checkpoint: Checkpoint,
    first: u64,
    records: Vec<Vec<u8>>,
    bytes: usize,
    request: u64,
}

impl Anchoring {
    pub(super) fn new(core: &Arc<Core>, svid: &Arc<SvidRow>, key: LedgerKey) -> Self {
        Self {
            core: Arc::clone(core),
            svid: Arc::clone(svid),
            key,
            kept: None,
            fetching: None,
            next: None,
            requests: 0,
        }
    }

    async fn kept(&mut self) -> Result<Arc<Kept>, Refusal> {
        if let Some(kept) = &self.kept {
            return Ok(Arc::clone(kept));
        }
        let (opening, named) = (Arc::clone(&self.core), self.key.clone());
        let kept = tokio::task::spawn_blocking(move || opening.mirrors.open(&named))
            .await
            .map_err(|error| Refusal::internal("opening a mirror", &error))??;
        Ok(Arc::clone(self.kept.insert(kept)))
    }

    pub(super) async fn head(&mut self, head: GatewayHead) -> Result<Option<Delta>, Refusal> {
        if self.fetching.is_some() {
            self.next = Some(head);
            return Ok(None);
        }
        self.begin(head).await
    }

    async fn begin(&mut self, head: GatewayHead) -> Result<Option<Delta>, Refusal> {
        let opened = Checkpoint::open(&head.checkpoint, &self.key)
            .map_err(|error| self.refused(&error.to_string()))?;
        let kept = self.kept().await?;
        let held = kept.reader().size();
        if opened.size < held {
            return Err(self.refused(&format!("{} records, {held} are kept here", opened.size)));
        }
        // A proof from elsewhere than what is kept is not needed: the records themselves will show it.
        if head.old_size == held && held > 0 {
            let proof: Option<Vec<_>> = head
                .consistency
                .iter()
                .map(|hash| hash.as_slice().try_into().ok())
                .collect();
            let proof = proof.ok_or_else(|| self.refused("a hash that is none"))?;
            kept.extends(&head.checkpoint, &proof)
                .map_err(|error| self.refused(&error.to_string()))?;
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
        let have = u64::try_from(fetching.records.len()).unwrap_or(u64::MAX);
        let from_index = fetching.first.saturating_add(have);
        let left = fetching.checkpoint.size.saturating_sub(from_index);
        Some(Delta::Fetch(FetchSegments {
            request: self.requests,
            from_index,
            limit: u32::try_from(left).unwrap_or(AT_ONCE).min(AT_ONCE),
        }))
    }

    pub(super) async fn segment(&mut self, segment: SegmentData) -> Result<Option<Delta>, Refusal> {
        let Some(fetching) = &mut self.fetching else {
            return Ok(None);
        };
        if segment.request != fetching.request {
            return Ok(None);
        }
        let have = u64::try_from(fetching.records.len()).unwrap_or(u64::MAX);
        let expected = fetching.first.saturating_add(have);
        let left = fetching.checkpoint.size.saturating_sub(expected);
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        fetching.bytes += segment.records.iter().map(Vec::len).sum::<usize>();
        let (first, bytes) = (segment.first_index, fetching.bytes);
        fetching
            .records
            .extend(segment.records.into_iter().take(left));
        let more = fetching.records.len() as u64 > have;
        if first != expected || !more || bytes > MOST {
            return Err(self.refused(&format!("{bytes} bytes of records from {first} on")));
        }
        if fetching.first + (fetching.records.len() as u64) < fetching.checkpoint.size {
            return Ok(self.fetch());
        }
        let Some(done) = self.fetching.take() else {
            return Ok(None);
        };
        let kept = self.kept().await?;
        let (note, checkpoint) = (done.note.clone(), done.checkpoint);
        tokio::task::spawn_blocking(move || kept.append(done.first, &done.records, &done.note))
            .await
            .map_err(|error| Refusal::internal("keeping a gateway's records", &error))?
            .map_err(|error| match error {
                StoreError::DiskFull => Refusal::disk_full(),
                error => self.refused(&error.to_string()),
            })?;
        let anchored = self.anchor(&note, &checkpoint).await?;
        if let Some(next) = self.next.take() {
            // Its anchor will answer for both.
            return self.begin(next).await.map(|more| more.or(anchored));
        }
        Ok(anchored)
    }

    /// Records the head, unless that very head is recorded.
    async fn anchor(&self, note: &str, checkpoint: &Checkpoint) -> Result<Option<Delta>, Refusal> {
        let origin = self.key.origin().as_str();
        let known = self.core.state().gateway(origin).cloned();
        if let Some(known) = known.filter(|known| known.size == checkpoint.size) {
            return Ok(Some(Delta::Anchored(Anchored {
                size: known.size,
                index: known.anchor,
            })));
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
        let record = draft(body.record().actor(&self.svid.spiffe_id, &auth))?;
        let committed = self.core.append_one(record).await?;
        Ok(Some(Delta::Anchored(Anchored {
            size: checkpoint.size,
            index: committed.index(),
        })))
    }

    fn refused(&self, observed: &str) -> Refusal {
        Refusal::Denied(
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
            .next("keep both ledgers as evidence, revoke the gateway and look at its machine: trilith ledger search --type anchor"),
        )
    }
}
