//! For gateways, over mTLS with an identity whose kind is `gateway`: the state at connection, then
//! deltas; and the way back, the gateway's own ledger, mirrored and anchored here.

mod anchor;
mod misbehaviour;
mod standing;
mod succession;

pub(crate) use standing::contradicted;

use crate::core::Core;
use crate::cosign::Witnesses;
use crate::elsewhere;
use crate::hub::{Batch, Published, witnessed_delta};
use crate::join::peer;
use crate::mirrors::Mirrors;
use crate::refusal::Refusal;
use estate::IdentityKind;
use facts::Finding;
use ledger::{HexDigest, LedgerKey, Receipt};
use ledger_store::Reader;
use proto::v1::follow_server::Follow;
use proto::v1::gateway_message::Message;
use proto::v1::{
    Behind, CheckpointDelta, Delta, GatewayHello, GatewayMessage, Heartbeat, Proven, RecordDelta,
    SegmentData, delta,
};
use standing::Standing;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use store::SvidRow;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// A gateway that hears nothing for a second counts the server as gone.
const HEARTBEAT: Duration = Duration::from_millis(250);
const WAITING: usize = 1_024;
/// A delta that a gateway has not taken for so long: it is cut off and follows anew.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct FollowService(pub(crate) Arc<Core>);

#[tonic::async_trait]
impl Follow for FollowService {
    type StreamStream = Pin<Box<dyn Stream<Item = Result<Delta, Status>> + Send>>;

    async fn stream(
        &self,
        request: Request<Streaming<GatewayMessage>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let svid = gateway(&self.0, &request)?;
        let (deltas, outbound) = mpsc::channel(WAITING);
        let core = Arc::clone(&self.0);
        tokio::spawn(async move {
            core.metrics.gateways_connected.inc();
            let follower = Follower {
                core: Arc::clone(&core),
                svid,
                deltas: deltas.clone(),
            };
            if let Err(refusal) = follower.run(request.into_inner()).await {
                tracing::info!(%refusal, "a gateway's stream ended");
                drop(deltas.try_send(Err(refusal.into())));
            }
            core.metrics.gateways_connected.dec();
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(outbound))))
    }
}

/// Only what the estate in force declares a gateway may follow: deltas name every identity.
fn gateway<T>(core: &Core, request: &Request<T>) -> Result<Arc<SvidRow>, Refusal> {
    let svid = core.caller(&peer(request)?)?;
    is_gateway(core, &svid)?;
    Ok(svid)
}

fn is_gateway(core: &Core, svid: &SvidRow) -> Result<(), Refusal> {
    let current = core.estate()?;
    let prefix = format!("spiffe://{}/", core.trust_domain);
    let path = svid.spiffe_id.strip_prefix(&prefix).unwrap_or_default();
    let kind = current.estate.identity(path).map(|identity| identity.kind);
    // Issued on a version of the estate: what a machine or the server itself was issued is no gateway's,
    // whatever an estate calls it.
    let granted = svid.estate.is_some() && !estate::is_reserved(path);
    if granted && kind == Some(IdentityKind::Gateway) {
        return Ok(());
    }
    Err(Refusal::Denied(
        Finding::new("FOLLOW-KIND", "only gateways may follow")
            .expected("an identity whose kind is `gateway` in the current estate")
            .observed(svid.spiffe_id.clone()),
    ))
}

struct Follower {
    core: Arc<Core>,
    svid: Arc<SvidRow>,
    deltas: Deltas,
}

impl Follower {
    async fn run(&self, mut inbound: Streaming<GatewayMessage>) -> Result<(), Refusal> {
        let hello = hello(&mut inbound).await?;
        let key = self.known(&hello, &mut inbound).await;
        let refused = key.as_ref().err().map(Refusal::finding);
        let (gateway, now) = (&self.svid.spiffe_id, self.core.now());
        self.core.hub.met(gateway, refused, now);
        let key = key?;
        let _claim = Mirrors::claim(&self.core, &self.svid, &hello.origin)?;
        self.lineage().await?;
        if let Some(finding) = elsewhere::heard(&self.core, &self.svid.spiffe_id, &hello.lineage) {
            let (_, receiver) = self.core.hub.subscribe();
            return self.behind(inbound, receiver, &finding).await;
        }
        let standing = self.standing(&hello).await?;
        let (published, receiver) = self.core.hub.subscribe();
        let from = match standing {
            Standing::Follows(size) => size,
            Standing::GaveUp(index) => {
                self.step(index, &published).await?;
                published.size
            }
            Standing::Ahead(finding) => return self.behind(inbound, receiver, &finding).await,
        };
        for delta in self.initial(from, &published).await? {
            self.send(delta).await?;
        }
        self.waiting_cuts().await?;
        self.serve(inbound, receiver, key).await
    }

    /// Before anything that the newest log's key signed: how this gateway knows that key.
    async fn lineage(&self) -> Result<(), Refusal> {
        match self.core.lineage() {
            Some(links) => {
                let lineage = proto::v1::Lineage { links };
                self.send(delta::Delta::Lineage(lineage)).await
            }
            None => Ok(()),
        }
    }

    /// INVARIANT 7: cuts come before anything that the gateway sends, and anchoring, which parses and
    /// syncs megabytes of its records, is a task of its own.
    async fn serve(
        &self,
        mut inbound: Streaming<GatewayMessage>,
        mut published: broadcast::Receiver<Batch>,
        key: LedgerKey,
    ) -> Result<(), Refusal> {
        let (heads, newest) = watch::channel(None);
        let (segments, fetched) = mpsc::channel(1);
        // Dropped with this stream, which ends the task.
        let mut anchoring = JoinSet::new();
        let convicting = Arc::new(AtomicBool::new(false));
        anchoring.spawn(anchor::run(
            Arc::clone(&self.core),
            Arc::clone(&self.svid),
            key,
            self.deltas.clone(),
            (newest, fetched),
            Arc::clone(&convicting),
        ));
        let mut waiting: Option<SegmentData> = None;
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        loop {
            tokio::select! {
                biased;
                () = self.core.stop.cancelled() => return Ok(()),
                batch = published.recv() => match batch {
                    Ok(batch) => for delta in batch.iter().filter_map(|delta| delta.delta.clone()) {
                        self.send(delta).await?;
                    },
                    Err(RecvError::Lagged(_)) => return Err(slow()),
                    Err(RecvError::Closed) => return Ok(()),
                },
                _ = heartbeat.tick() => if let Err(refusal) = self.heartbeat().await {
                    return Err(if convicting.load(Ordering::SeqCst) {
                        cause(&mut anchoring, refusal).await
                    } else {
                        refusal
                    });
                },
                ended = anchoring.join_next() => return match ended {
                    Some(Ok(ended)) => ended,
                    Some(Err(error)) => Err(Refusal::internal("anchoring", &error)),
                    None => Ok(()),
                },
                permit = segments.reserve(), if waiting.is_some() => {
                    if let (Ok(permit), Some(segment)) = (permit, waiting.take()) {
                        permit.send(segment);
                    }
                }
                message = inbound.message(), if waiting.is_none() => {
                    let Ok(Some(message)) = message else {
                        return Ok(());
                    };
                    match message.message {
                        // Only the newest head counts.
                        Some(Message::Head(head)) => {
                            heads.send_replace(Some(head));
                        }
                        Some(Message::Segment(segment)) => waiting = Some(segment),
                        Some(Message::Prove(prove)) => {
                            self.send(self.prove(prove.size, prove.new_size)).await?;
                        }
                        Some(Message::Hello(_)) => return Err(greeted_again()),
                        Some(Message::Applied(_)) | None => {}
                    }
                }
            }
        }
    }

    /// For a gateway that is ahead, until the server is recovered: cuts act, nothing else comes. What it
    /// holds decides, within `max_staleness`.
    async fn behind(
        &self,
        mut inbound: Streaming<GatewayMessage>,
        mut published: broadcast::Receiver<Batch>,
        finding: &Finding,
    ) -> Result<(), Refusal> {
        let mut allowed = self.core.signing.watch();
        self.send(delta::Delta::Behind(Behind {
            finding: serde_json::to_vec(finding).unwrap_or_default(),
        }))
        .await?;
        self.waiting_cuts().await?;
        let mut look = tokio::time::interval(HEARTBEAT);
        loop {
            tokio::select! {
                biased;
                () = self.core.stop.cancelled() => return Ok(()),
                batch = published.recv() => match batch {
                    Ok(batch) => for delta in batch.iter().filter_map(|delta| delta.delta.clone()) {
                        if matches!(delta, delta::Delta::Cut(_)) {
                            self.send(delta).await?;
                        }
                    },
                    Err(RecvError::Lagged(_)) => return Err(slow()),
                    Err(RecvError::Closed) => return Ok(()),
                },
                // It connects again, and is told how to go on.
                () = recovered(&mut allowed) => return Ok(()),
                _ = look.tick() => {
                    self.core.goes_on(&self.svid)?;
                    is_gateway(&self.core, &self.svid)?;
                }
                message = inbound.message() => match message {
                    Ok(Some(GatewayMessage { message: Some(Message::Hello(_)) })) => {
                        return Err(greeted_again());
                    }
                    Ok(Some(_)) => {}
                    _ => return Ok(()),
                },
            }
        }
    }

    async fn heartbeat(&self) -> Result<(), Refusal> {
        self.core.goes_on(&self.svid)?;
        is_gateway(&self.core, &self.svid)?;
        let time = self.core.now().as_millis();
        self.send(delta::Delta::Heartbeat(Heartbeat { time })).await
    }

    /// Cuts whose records wait, for the disk or for a recovery: for who was not there when they were cut.
    async fn waiting_cuts(&self) -> Result<(), Refusal> {
        for cut in self.core.unrecorded.cuts() {
            self.send(delta::Delta::Cut(cut)).await?;
        }
        Ok(())
    }

    /// The checkpoint, then bundle, estate and revocations, each with its receipt.
    async fn initial(
        &self,
        from: u64,
        published: &Published,
    ) -> Result<Vec<delta::Delta>, Refusal> {
        let core = &self.core;
        let (note, size) = (published.note.as_ref().to_owned(), published.size);
        let published = published.clone();
        let (mut indices, estate) = {
            let state = core.state();
            let estate = state.estate().map(|row| (row.index, row.blob.clone()));
            let mut indices: Vec<u64> = state.revocations().map(|row| row.index).collect();
            indices.extend(state.bundle().map(|row| row.index));
            indices.extend(estate.as_ref().map(|(index, _)| *index));
            (indices, estate)
        };
        // What came after the published checkpoint follows as a delta.
        indices.retain(|index| *index < size);
        indices.sort_unstable();
        let core = Arc::clone(core);
        let read = move || -> Result<Vec<delta::Delta>, Refusal> {
            let failed = |error: &(dyn std::error::Error + 'static)| {
                Refusal::internal("reading the state for a gateway", error)
            };
            let reader = core.journal.reader();
            let proof = if from == 0 {
                Vec::new()
            } else {
                reader
                    .consistency(from, size)
                    .map_err(|error| failed(&error))?
            };
            let mut deltas = vec![delta::Delta::Checkpoint(CheckpointDelta {
                checkpoint: note.clone(),
                old_size: from,
                consistency: proof.iter().map(|hash| hash.to_vec()).collect(),
            })];
            // One that is of a later head than the published one comes as a delta.
            let witnessed = core.witnesses.as_ref().and_then(Witnesses::newest);
            if let Some(witnessed) = witnessed.filter(|witnessed| witnessed.size <= size) {
                deltas.extend(witnessed_delta(&witnessed, size, |old, new| {
                    let proof = reader.consistency(old, new).ok()?;
                    Some(proof.iter().map(|hash| hash.to_vec()).collect())
                }));
            }
            for index in indices {
                let receipt = receipt(reader, index, &published)?;
                let blob = match &estate {
                    Some((at, blob)) if *at == index => {
                        let digest: Option<HexDigest> = blob.parse().ok();
                        let found = digest.and_then(|digest| core.blobs.get(&digest).ok()?);
                        found.unwrap_or_default()
                    }
                    _ => Vec::new(),
                };
                deltas.push(delta::Delta::Record(RecordDelta {
                    receipt: receipt.encode().map_err(|error| failed(&error))?,
                    blob,
                    initial: true,
                }));
            }
            Ok(deltas)
        };
        tokio::task::spawn_blocking(read)
            .await
            .map_err(|error| Refusal::internal("reading the state for a gateway", &error))?
    }

    fn prove(&self, size: u64, new_size: u64) -> delta::Delta {
        let proof = (size > 0 && size <= new_size)
            .then(|| self.core.journal.reader().consistency(size, new_size).ok())
            .flatten();
        delta::Delta::Proven(Proven {
            size,
            new_size,
            refused: proof.is_none(),
            consistency: proof
                .unwrap_or_default()
                .iter()
                .map(|hash| hash.to_vec())
                .collect(),
        })
    }

    async fn send(&self, delta: delta::Delta) -> Result<(), Refusal> {
        send(&self.deltas, delta).await
    }
}

type Deltas = mpsc::Sender<Result<Delta, Status>>;

async fn send(deltas: &Deltas, delta: delta::Delta) -> Result<(), Refusal> {
    let sent = deltas.send(Ok(Delta { delta: Some(delta) }));
    match tokio::time::timeout(PATIENCE, sent).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(slow()),
    }
}

/// Resolves when the server may sign again.
async fn recovered(allowed: &mut watch::Receiver<bool>) {
    // Its sender lives as long as the server.
    drop(allowed.wait_for(|allowed| *allowed).await);
}

/// The record at `index` under the published checkpoint.
fn receipt(reader: &Reader, index: u64, published: &Published) -> Result<Receipt, Refusal> {
    let failed = |error: &(dyn std::error::Error + 'static)| {
        Refusal::internal("reading a record for a gateway", error)
    };
    Ok(Receipt {
        record: reader
            .record(index)
            .map_err(|error| failed(&error))?
            .into_bytes(),
        index,
        proof: reader
            .inclusion(index, published.size)
            .map_err(|error| failed(&error))?,
        checkpoint: published.note.as_ref().to_owned(),
    })
}

/// Why a gateway is out that is being cut off for what it presented: it is revoked before that is recorded, and told once
/// it is. `refusal` is what it would hear of the revocation alone.
async fn cause(anchoring: &mut JoinSet<Result<(), Refusal>>, refusal: Refusal) -> Refusal {
    match tokio::time::timeout(PATIENCE, anchoring.join_next()).await {
        Ok(Some(Ok(Err(cause)))) => cause,
        _ => refusal,
    }
}

fn slow() -> Refusal {
    Refusal::Limited(
        Finding::new(
            "FOLLOW-SLOW",
            "the gateway does not keep up with the deltas",
        )
        .next("it connects again and starts from the state"),
    )
}

/// What the first one says is judged once, and holds for the stream.
fn greeted_again() -> Refusal {
    Refusal::Invalid(
        Finding::new(
            "FOLLOW-HELLO-AGAIN",
            "a gateway says who it is once a stream",
        )
        .expected("one GatewayHello")
        .observed("a second one on the same stream")
        .next("upgrade the gateway; it connects again, and is heard again"),
    )
}

async fn hello(inbound: &mut Streaming<GatewayMessage>) -> Result<GatewayHello, Refusal> {
    let first = tokio::time::timeout(PATIENCE, inbound.message()).await;
    match first {
        Ok(Ok(Some(GatewayMessage {
            message: Some(Message::Hello(hello)),
        }))) => Ok(hello),
        _ => Err(Refusal::Invalid(
            Finding::new("FOLLOW-HELLO", "a gateway's first message says who it is")
                .expected("GatewayHello"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(code: &'static str) -> Refusal {
        Refusal::Denied(Finding::new(code, "refused"))
    }

    /// It heard of the revocation, and not of its two histories, when a heartbeat fell between the two.
    #[tokio::test]
    async fn a_gateway_that_is_being_cut_off_hears_why_and_not_only_that_it_is() {
        let mut anchoring = JoinSet::new();
        anchoring.spawn(async { Ok(()) });
        let told = cause(&mut anchoring, refusal("CALLER-REVOKED")).await;
        assert_eq!(told.finding().code, "CALLER-REVOKED");

        let (told, being_recorded) = tokio::sync::oneshot::channel::<()>();
        anchoring.spawn(async move {
            let _recorded = being_recorded.await;
            Err(refusal("ANCHOR-REFUSED"))
        });
        let recording = async {
            tokio::task::yield_now().await;
            drop(told);
        };
        let telling = cause(&mut anchoring, refusal("CALLER-REVOKED"));
        let (told, ()) = tokio::join!(telling, recording);
        assert_eq!(told.finding().code, "ANCHOR-REFUSED");
    }
}
