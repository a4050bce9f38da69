//! Where a gateway stands to this ledger: on it, ahead of it, or on a history that a recovery gave up.

use super::{Follower, receipt};
use crate::core::Core;
use crate::hub::Published;
use crate::refusal::Refusal;
use crate::signing::{Foreign, behind};
use facts::Finding;
use ledger::body::{Body as _, Recovery};
use ledger::{Checkpoint, LedgerKey};
use proto::v1::{GatewayHello, Recovered, delta};
use std::sync::Arc;

/// Bytes of a checkpoint's note: its text, this ledger's signature and some cosignatures.
const LONGEST_NOTE: usize = 4 << 10;

/// Where a gateway stands to this ledger.
pub(super) enum Standing {
    /// The head that it follows, of this size, is one of ours; zero: it follows none yet.
    Follows(u64),
    /// It follows a head that the recovery of this index gave up.
    GaveUp(u64),
    /// It has followed what is not here.
    Ahead(Finding),
}

impl Follower {
    /// Whether what the gateway follows is this ledger. Only a head that this ledger's key signed can show
    /// that it is not: anybody of kind `gateway` can claim a size.
    pub(super) async fn standing(&self, hello: &GatewayHello) -> Result<Standing, Refusal> {
        let core = &self.core;
        let (head, ended) = shown(hello, &core.ledger_key)?;
        if head.size == 0 || core.has(head.size, &head.root) {
            return Ok(Standing::Follows(head.size));
        }
        if head.note.is_none() {
            return Err(Refusal::Precondition(
                Finding::new(
                    "FOLLOW-UNSHOWN",
                    "the gateway claims to follow what is not in this ledger, and shows no checkpoint of it",
                )
                .expected(format!("the signed checkpoint of {} records", head.size))
                .observed("none")
                .next("upgrade the gateway; if the server was rolled back, another gateway will show it"),
            ));
        }
        let began = crate::lineage::began(&core.ledger_key);
        let (recovered, given_up) = {
            let state = core.state();
            let given_up = match ended {
                // INVARIANT: of a log that ended whoever has its key signs what he likes: one head of each size is covered by
                // what was given up, and none beyond that and the little that was told and not remembered: an honest
                // gateway that has followed that would be cut off for good.
                Some(_) if state.gave_up_one_of(head.size) => None,
                // By a recovery in its own time, or by the log that went on from less.
                Some(end) => state.given_up(head.size, None).or_else(|| {
                    (head.size > end && state.went_back_to(end, head.size)).then_some(end)
                }),
                None => state.given_up(head.size, began),
            };
            (state.recovered(head.size, &head.root), given_up)
        };
        if let Some(index) = recovered {
            return Ok(Standing::GaveUp(index));
        }
        if let Some(stayed) = given_up {
            return match self.give_up(&head, stayed).await {
                Ok(index) => Ok(Standing::GaveUp(index)),
                Err(Refusal::Unavailable(finding)) if core.signing.check().is_err() => {
                    Ok(Standing::Ahead(finding))
                }
                Err(refusal) => Err(refusal),
            };
        }
        // INVARIANT: a key that was replaced may be a thief's. Its log is what its link says that it was, so that a head
        // of another one is evidence, and stops nobody; but where the copy here does not reach to the link.
        let ours = core.journal.reader().size();
        if let Some(end) = ended.filter(|end| head.size > *end || ours >= *end) {
            return Err(former(&self.svid.spiffe_id, &head, end));
        }
        let finding = contradicted(core, &self.svid.spiffe_id, head).await;
        Ok(Standing::Ahead(finding))
    }

    /// A head of the history that a recovery gave up, and that nobody had shown by then: the operator's
    /// decision covers it, and its own record lets this gateway step over.
    async fn give_up(&self, head: &Foreign, stayed: u64) -> Result<u64, Refusal> {
        let root = self
            .core
            .journal
            .reader()
            .root(stayed)
            .map_err(|error| Refusal::internal("reading the tree that stayed", &error))?;
        let stays = Checkpoint {
            origin: self.core.ledger_key.origin().clone(),
            size: stayed,
            root,
        };
        let by = self.core.authority.server_id().to_string();
        let reason = "of a history that a recovery gave up";
        let recovery = crate::admin::recovery(head, &stays, reason, &by);
        let committed = self
            .core
            .append_one(self.core.by_server(recovery.record())?)
            .await?;
        Ok(committed.index())
    }

    /// Lets a gateway step over to the published checkpoint, by the record of the recovery.
    pub(super) async fn step(&self, index: u64, published: &Published) -> Result<(), Refusal> {
        let (core, published) = (Arc::clone(&self.core), published.clone());
        let read = move || -> Result<Recovered, Refusal> {
            let failed = |error: &(dyn std::error::Error + 'static)| {
                Refusal::internal("reading a recovery for a gateway", error)
            };
            let reader = core.journal.reader();
            let receipt = receipt(reader, index, &published)?;
            let body: Recovery = ledger::Record::parse(&receipt.record)
                .and_then(|record| record.expect_body())
                .map_err(|error| failed(&error))?;
            let proof = reader
                .consistency(body.new_size.0, published.size)
                .map_err(|error| failed(&error))?;
            Ok(Recovered {
                receipt: receipt.encode().map_err(|error| failed(&error))?,
                consistency: proof.iter().map(|hash| hash.to_vec()).collect(),
            })
        };
        let recovered = tokio::task::spawn_blocking(read)
            .await
            .map_err(|error| Refusal::internal("reading a recovery for a gateway", &error))??;
        self.send(delta::Delta::Recovered(recovered)).await
    }
}

/// `peer` has shown a head that this ledger's key signed and that is not of this ledger: nothing is signed from now
/// on, also after the next start.
pub(crate) async fn contradicted(core: &Arc<Core>, peer: &str, head: Foreign) -> Finding {
    let finding = behind(peer, head.size, core.journal.reader().size());
    core.signing.block(finding.clone(), Some(head.clone()));
    core.metrics.blocked.set(1);
    let keeping = Arc::clone(core);
    let kept = tokio::task::spawn_blocking(move || {
        let ours = |size, root: &_| keeping.has(size, root);
        keeping.head.contradict(&head, ours)
    });
    if !matches!(kept.await, Ok(Ok(()))) {
        tracing::warn!(%peer, "what was shown is not remembered for the next start");
    }
    finding
}

/// `peer` shows what a key that was replaced has signed of another history than the one that ended with `end` records.
fn former(peer: &str, head: &Foreign, end: u64) -> Refusal {
    let note = head.note.as_deref().unwrap_or_default();
    tracing::error!(%peer, %note, "signed by a ledger key that was replaced, and of no log of this server");
    Refusal::Denied(
        Finding::new(
            "FOLLOW-HELLO-FORMER",
            "what the gateway follows was signed by a ledger key that was replaced, and is not of this ledger",
        )
        .expected(format!("a head of the {end} records that its log ended with"))
        .observed(format!("one of {} records", head.size))
        .next(
            "whoever has the old key has shown it to the gateway, or it was told what was lost with the disk and is in no \
             `recovery` record: keep the gateway's `followed.json`, remove it, and start the gateway again",
        ),
    )
}

/// The head that a gateway says it follows; with its note, if that is signed by this ledger's `key`, and with the
/// records that its log ended with, if that was by a former one.
fn shown(hello: &GatewayHello, key: &LedgerKey) -> Result<(Foreign, Option<u64>), Refusal> {
    let refused = |observed: String| {
        Refusal::Denied(
            Finding::new(
                "FOLLOW-HELLO-CHECKPOINT",
                "the checkpoint that the gateway shows is not one of this ledger",
            )
            .expected("the note, signed by this ledger's key, of the size and root that it names")
            .observed(observed),
        )
    };
    let size = hello.followed_size;
    if size == 0 {
        let (root, note) = ([0; 32], None);
        return Ok((Foreign { size, root, note }, None));
    }
    let root = hello.followed_root.as_slice().try_into();
    let root = root.map_err(|_| refused("a root of another length than 32 bytes".to_owned()))?;
    let note = &hello.followed_checkpoint;
    if note.is_empty() {
        let note = None;
        return Ok((Foreign { size, root, note }, None));
    }
    if note.len() > LONGEST_NOTE {
        return Err(refused(format!("{} bytes", note.len())));
    }
    // Also what a former key signed of a history that a new log gave up: that it was seen is what is shown.
    let opened = Checkpoint::open_beyond(note, key).map_err(|error| refused(error.to_string()))?;
    if (opened.size, opened.root) != (size, root) {
        return Err(refused(format!("one of {} records", opened.size)));
    }
    let note = Some(note.clone());
    let ended = key.end_of(opened.origin.as_str());
    Ok((Foreign { size, root, note }, ended))
}
