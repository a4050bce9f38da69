//! The connection to the server: deltas in, heads and segments of the own ledger out. When it ends it is
//! made again; meanwhile what is held decides, within `max_staleness`.

use super::{Following, Questions};
use crate::retention::Anchored;
use crate::revocations::Revocations;
use crate::{Cut, CutReason, OwnIdentity};
use facts::{Finding, Timestamp};
use ledger::body::Body as _;
use ledger::{Checkpoint, Hash, lineage};
use ledger_store::{LedgerHandle, Reader, StoreError};
use proto::v1::follow_client::FollowClient;
use proto::v1::gateway_message::Message;
use proto::v1::{
    Applied, Delta, FetchSegments, GatewayHead, GatewayHello, GatewayMessage, Prove, Recovered,
    SegmentData, delta,
};
use spiffe_core::{Bundle, TrustDomain};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use svid_tls::BundleSource;
use svid_tls::pin::PinnedAnchors;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

/// Code of what the server asks for and is not here any more.
const GONE: &str = "FOLLOW-PRUNED";
const FIRST_RETRY: Duration = Duration::from_millis(50);
/// A revocation waits for no longer than this once the server is back.
const LONGEST_RETRY: Duration = Duration::from_secs(1);
/// Of a gateway whose own ledger is refused: nothing mends that but another folder, and a start.
const LONGEST_REFUSED: Duration = Duration::from_secs(30);
/// Heads are announced at most this often.
const HEAD_EVERY: Duration = Duration::from_millis(100);
/// How often what was heard is written down.
const KEEP_EVERY: Duration = Duration::from_secs(5);
/// How often what the server has anchored is noted anew while nothing changes.
const NOTE_EVERY: Duration = Duration::from_mins(10);
/// Records that come in a row are kept together, so often at least.
const TOGETHER: Duration = Duration::from_secs(1);
/// Deltas that were read and wait to be taken.
const WAITING: usize = 1_024;
/// An estate is one message.
const MAX_MESSAGE: usize = 128 << 20;
/// Bytes of records in one answer, below the server's own limit for a message.
const MAX_SEGMENT: usize = 2 << 20;

pub(crate) struct Client {
    pub(crate) server: String,
    pub(crate) anchors: PinnedAnchors,
    pub(crate) own: OwnIdentity,
    pub(crate) following: Following,
    pub(crate) ledger: LedgerHandle,
    pub(crate) reader: Reader,
    pub(crate) questions: Questions,
    pub(crate) metrics: Arc<crate::Metrics>,
    /// Where what the server has anchored is noted, for whoever prunes.
    pub(crate) anchored: PathBuf,
}

/// The followed bundle once there is one; before, what was pinned.
struct Trust {
    following: Following,
    anchors: PinnedAnchors,
}

impl BundleSource for Trust {
    fn bundle(&self, trust_domain: &TrustDomain) -> Option<Arc<Bundle>> {
        BundleSource::bundle(&self.following, trust_domain)
            .or_else(|| BundleSource::bundle(&self.anchors, trust_domain))
    }
}

/// One connection.
struct Connection {
    outbound: mpsc::Sender<GatewayMessage>,
    /// Of the own ledger, as the server has anchored it.
    anchored: u64,
    /// The same, to be noted: size and record of the server's.
    to_note: Option<(u64, u64)>,
    /// What was noted last, and when: it is noted again while the server stands by it.
    noted: Option<((u64, u64), Instant)>,
    announced: u64,
    /// Revocations of the initial state, until something else comes.
    initial: Option<BTreeSet<u64>>,
    /// Records that were acted upon, and are to be kept and told as applied.
    taken: Vec<u64>,
    /// When they were kept last.
    kept: Instant,
    asked: Vec<Checkpoint>,
}

/// Names this program in the records that following makes.
const PROGRAM: &str = "trilith gateway";

impl Client {
    /// Follows until the task is aborted.
    pub(crate) async fn run(mut self) {
        let mut wait = FIRST_RETRY;
        loop {
            let size = self.following.head().0;
            let ended = self.connect().await;
            self.metrics.following.set(0);
            let longest = longest_retry(ended.as_ref().err());
            match ended {
                Ok(()) => tracing::info!("the server ended the stream"),
                Err(finding) => tracing::warn!(%finding, "not following the server"),
            }
            // A connection that brought something starts anew at the shortest wait.
            wait = if self.following.head().0 > size {
                FIRST_RETRY
            } else {
                (wait * 2).min(longest)
            };
            tokio::time::sleep(jittered(wait)).await;
        }
    }

    async fn connect(&mut self) -> Result<(), Finding> {
        if *self.own.changed.borrow() == 0 && self.own.changed.changed().await.is_err() {
            return Err(Finding::new(
                "FOLLOW-NO-IDENTITY",
                "this gateway has no identity yet",
            ));
        }
        let trust = Arc::new(Trust {
            following: self.following.clone(),
            anchors: self.anchors.clone(),
        });
        let link = link::authenticated(
            &self.server,
            self.following.trust_domain(),
            Arc::clone(&self.own.svid),
            trust,
        )
        .await
        .map_err(|error| unreachable(&self.server, &error))?;
        let (outbound, messages) = mpsc::channel(64);
        let mut client = FollowClient::new(link.channel).max_decoding_message_size(MAX_MESSAGE);
        let mut connection = Connection {
            outbound,
            anchored: 0,
            to_note: None,
            noted: None,
            announced: 0,
            initial: Some(BTreeSet::new()),
            taken: Vec::new(),
            kept: Instant::now(),
            asked: Vec::new(),
        };
        connection.say(Message::Hello(self.hello())).await?;
        let stream = client
            .stream(ReceiverStream::new(messages))
            .await
            .map_err(|status| refused(&status))?
            .into_inner();
        let (deltas, mut inbound) = mpsc::channel(WAITING);
        let following = self.following.clone();
        let _listening = AbortOnDrop(tokio::spawn(listen(stream, following, deltas)));
        let mut heads = self.reader.subscribe(0);
        let mut announce = tokio::time::interval(HEAD_EVERY);
        let mut keep = tokio::time::interval(KEEP_EVERY);
        let mut head = None;
        loop {
            tokio::select! {
                biased;
                delta = inbound.recv() => {
                    let Some(delta) = delta else {
                        return Ok(());
                    };
                    let taken = match delta {
                        Ok(delta) => self.take(delta, &mut connection).await,
                        Err(status) => Err(refused(&status)),
                    };
                    // What waits behind it is kept with it.
                    if taken.is_err() || inbound.is_empty() || connection.kept.elapsed() >= TOGETHER {
                        self.keep(&mut connection).await?;
                    }
                    taken?;
                    // INVARIANT: whoever has not taken the whole state has not heard the server; else a
                    // gateway that cannot take a record would miss what comes after it and stay fresh.
                    if connection.initial.is_none() {
                        self.following.heard(Timestamp::now());
                    self.metrics.following.set(1);
                    }
                }
                Some(missed) = self.questions.recv() => {
                    let (new_size, _) = self.following.head();
                    let size = missed.size;
                    connection.asked.push(missed);
                    connection.say(Message::Prove(Prove { size, new_size })).await?;
                }
                next = heads.next() => match next {
                    Some(next) => head = Some(next),
                    None => return Err(Finding::new("FOLLOW-OWN-LEDGER", "the gateway's own ledger has stopped")),
                },
                _ = announce.tick() => {
                    if let Some(head) = head.take() {
                        let note = head.note.to_string();
                        self.announce(head.checkpoint.size, note, &mut connection).await?;
                    }
                }
                _ = keep.tick() => {
                    let following = self.following.clone();
                    let kept = tokio::task::spawn_blocking(move || following.keep()).await;
                    if let Ok(Err(finding)) = kept {
                        tracing::error!(%finding, "what is followed is not kept");
                    }
                    let again = connection.noted.filter(|(_, at)| at.elapsed() >= NOTE_EVERY);
                    let again = again.map(|(anchored, _)| anchored);
                    if let Some(anchored) = connection.to_note.take().or(again) {
                        connection.noted = Some((anchored, Instant::now()));
                        self.note_anchor(anchored).await;
                    }
                }
            }
        }
    }

    /// Nothing rests on it but that the gateway's oldest records may go: without it they stay.
    async fn note_anchor(&self, (size, record): (u64, u64)) {
        let (reader, path) = (self.reader.clone(), self.anchored.clone());
        let noted =
            tokio::task::spawn_blocking(move || Anchored::note(&reader, size, record, &path));
        match noted.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "what the server has anchored is not noted"),
            Err(error) => tracing::warn!(%error, "what the server has anchored is not noted"),
        }
    }

    /// The server goes on from something else than what it has anchored: nothing says any more that it has these records.
    fn forget_anchor(&self, connection: &mut Connection) {
        (connection.to_note, connection.noted) = (None, None);
        if let Err(error) = Anchored::forget(&self.anchored) {
            tracing::error!(%error, "what the server had anchored is still noted; do not prune");
        }
    }

    fn hello(&self) -> GatewayHello {
        let (size, root) = self.following.head();
        GatewayHello {
            origin: self.ledger.origin().to_string(),
            ledger_key: self.ledger.key().public_key().spki_der().to_vec(),
            followed_size: size,
            followed_root: root.map(|root| root.to_vec()).unwrap_or_default(),
            applied_index: self.following.applied(),
            followed_checkpoint: self.following.note().unwrap_or_default(),
            lineage: self.following.lineage(),
            own_lineage: match lineage::links(self.ledger.key()) {
                links if links.is_empty() => String::new(),
                links => lineage::to_json(&links),
            },
        }
    }

    async fn take(&self, delta: Delta, connection: &mut Connection) -> Result<(), Finding> {
        let Some(delta) = delta.delta else {
            return Ok(());
        };
        self.end_initial(&delta, connection)?;
        match delta {
            delta::Delta::Record(record) => {
                let initial = record.initial;
                let following = self.following.clone();
                // Compiling an estate is CPU work.
                let taken = tokio::task::spawn_blocking(move || {
                    following.act_on(&record.receipt, &record.blob)
                });
                let index = taken
                    .await
                    .map_err(|error| Finding::new("FOLLOW-TASK", error.to_string()))??;
                if let (true, Some(seen)) = (initial, &mut connection.initial) {
                    seen.insert(index);
                }
                connection.taken.push(index);
                Ok(())
            }
            delta::Delta::Checkpoint(next) => {
                let proof = hashes(&next.consistency)?;
                self.following
                    .take_checkpoint(&next.checkpoint, next.old_size, &proof)
            }
            // Acted upon when it was read.
            delta::Delta::Cut(_) => Ok(()),
            delta::Delta::Renewed(renewed) => {
                let not_after = Timestamp::from_millis(renewed.not_after);
                // Facts that cannot be read are nobody's: the session ends.
                let facts = serde_json::from_slice(&renewed.facts).unwrap_or_default();
                self.following
                    .renewed(&renewed.serial, &renewed.successor, not_after, &facts);
                Ok(())
            }
            delta::Delta::Proven(proven) => {
                let Some(at) = connection
                    .asked
                    .iter()
                    .position(|asked| asked.size == proven.size)
                else {
                    return Ok(());
                };
                let missed = connection.asked.swap_remove(at);
                if !proven.refused {
                    let proof = hashes(&proven.consistency)?;
                    if let Err(finding) = self.following.proven(&missed, proven.new_size, &proof) {
                        tracing::error!(%finding, "an SVID carries a forked checkpoint");
                    }
                }
                Ok(())
            }
            delta::Delta::Fetch(fetch) => {
                match self.segment(fetch).await {
                    Ok(answer) => connection.say(Message::Segment(answer)).await,
                    // What the server had is lost there, and gone here: nothing is anchored until it is back there.
                    // What is followed is followed all the same.
                    Err(finding) if finding.code == GONE => {
                        tracing::error!(%finding, "the server has lost its mirror of this ledger");
                        Ok(())
                    }
                    Err(finding) => Err(finding),
                }
            }
            delta::Delta::Anchored(anchored) => {
                connection.anchored = anchored.size;
                // INVARIANT: records go only by what the server's ledger says, and not by what this connection does.
                let key = self.following.newest_key();
                match Anchored::shown(&anchored.receipt, &key, self.ledger.key(), &self.reader) {
                    Ok(shown) if shown == (anchored.size, anchored.index) => {
                        connection.to_note = Some(shown);
                    }
                    Ok(shown) => {
                        tracing::warn!(?shown, "the receipt is of another anchor; nothing is noted")
                    }
                    Err(what) => tracing::warn!(%what, "an anchor is not shown; it is not noted"),
                }
                Ok(())
            }
            delta::Delta::Lineage(lineage) => {
                let before = self.following.newest_key();
                self.following.succeed(&lineage.links)?;
                if self.following.newest_key() != before {
                    self.forget_anchor(connection);
                }
                Ok(())
            }
            delta::Delta::Recovered(recovered) => {
                // Before the step: cut short, nothing is noted.
                self.forget_anchor(connection);
                self.recover(&recovered).await
            }
            delta::Delta::Behind(behind) => {
                self.forget_anchor(connection);
                // Not heard: a server that signs nothing keeps nobody fresh. Its cuts act.
                let finding: Option<Finding> = serde_json::from_slice(&behind.finding).ok();
                let observed = finding.map_or_else(String::new, |finding| finding.to_string());
                tracing::error!(%observed, "the server is behind what this gateway follows");
                Ok(())
            }
            delta::Delta::Witnessed(witnessed) => {
                let proof = hashes(&witnessed.consistency)?;
                let (note, known) = (&witnessed.checkpoint, witnessed.known_size);
                match self
                    .following
                    .take_witnessed(note, known, &proof, Timestamp::now())
                {
                    // Told and not obeyed: without it what is followed grows old, and nobody is let in.
                    Err(finding) if finding.code == "FOLLOW-WITNESSED" => {
                        tracing::warn!(%finding, "not witnessed");
                        Ok(())
                    }
                    taken => taken,
                }
            }
            delta::Delta::Heartbeat(_) => Ok(()),
        }
    }

    /// Keeps what was taken, and says so. What cannot be kept is held all the same: a full disk must not keep the next
    /// revocation from being heard. After a crash the server sends it again, and until then what was kept grows stale.
    async fn keep(&self, connection: &mut Connection) -> Result<(), Finding> {
        if connection.taken.is_empty() {
            return Ok(());
        }
        let following = self.following.clone();
        let kept = tokio::task::spawn_blocking(move || following.keep()).await;
        if let Err(finding) =
            kept.map_err(|error| Finding::new("FOLLOW-TASK", error.to_string()))?
        {
            tracing::error!(%finding, "what is followed is not kept");
        }
        connection.kept = Instant::now();
        for index in std::mem::take(&mut connection.taken) {
            connection.say(Message::Applied(Applied { index })).await?;
        }
        Ok(())
    }

    /// INVARIANT 6: that a history was given up is durable in this gateway's own ledger before anything
    /// follows from it.
    async fn recover(&self, recovered: &Recovered) -> Result<(), Finding> {
        let proof = hashes(&recovered.consistency)?;
        let step = self.following.recovery(&recovered.receipt, &proof)?;
        let record = step.recovery.record().actor(PROGRAM, "self").draft();
        let record = record.map_err(|error| Finding::new("FOLLOW-TASK", error.to_string()))?;
        self.ledger
            .append(record)
            .await
            .map_err(|error| own_ledger(&error))?;
        // It writes files.
        let following = self.following.clone();
        tokio::task::spawn_blocking(move || following.recover(&step))
            .await
            .map_err(|error| Finding::new("FOLLOW-TASK", error.to_string()))?
    }

    /// The initial state holds every revocation that stands: others that are held were lifted.
    fn end_initial(
        &self,
        delta: &delta::Delta,
        connection: &mut Connection,
    ) -> Result<(), Finding> {
        let goes_on = match delta {
            delta::Delta::Record(record) => record.initial,
            // A cut comes whenever it comes, and what the other two announce is not there yet.
            delta::Delta::Checkpoint(_)
            | delta::Delta::Witnessed(_)
            | delta::Delta::Cut(_)
            | delta::Delta::Lineage(_)
            | delta::Delta::Recovered(_)
            | delta::Delta::Behind(_) => true,
            _ => false,
        };
        if goes_on {
            return Ok(());
        }
        match connection.initial.take() {
            Some(standing) => self.following.keep_only(&standing, Timestamp::now()),
            None => Ok(()),
        }
    }

    async fn announce(
        &self,
        size: u64,
        checkpoint: String,
        connection: &mut Connection,
    ) -> Result<(), Finding> {
        if size <= connection.announced {
            return Ok(());
        }
        connection.announced = size;
        let old_size = connection.anchored;
        let consistency = if old_size == 0 {
            Vec::new()
        } else {
            self.reader
                .consistency(old_size, size)
                .map_err(|error| own_ledger(&error))?
        };
        let head = GatewayHead {
            checkpoint,
            consistency: consistency.iter().map(|hash| hash.to_vec()).collect(),
            old_size,
        };
        connection.say(Message::Head(head)).await
    }

    async fn segment(&self, fetch: FetchSegments) -> Result<SegmentData, Finding> {
        let reader = self.reader.clone();
        let end = fetch.from_index.saturating_add(u64::from(fetch.limit));
        let range = fetch.from_index..end;
        let read = tokio::task::spawn_blocking(move || reader.read_signed(range, MAX_SEGMENT));
        let (records, checkpoint) = read
            .await
            .map_err(|error| Finding::new("FOLLOW-TASK", error.to_string()))?
            .map_err(|error| match error {
                StoreError::Pruned { .. } => {
                    Finding::new(GONE, "the server asks for records that were pruned here")
                        .observed(error.to_string())
                        .next(
                            "restore the folder `mirrors` of the server's data_dir from a backup, \
                     or give this gateway a new `name`",
                        )
                }
                error => own_ledger(&error),
            })?;
        Ok(SegmentData {
            request: fetch.request,
            first_index: fetch.from_index,
            records,
            checkpoint: checkpoint.unwrap_or_default(),
        })
    }
}

/// Reads the stream. Cuts act here, at once: they do not wait until what came before them is taken, an
/// estate that has to be compiled or a disk that is slow.
async fn listen(
    mut stream: Streaming<Delta>,
    following: Following,
    deltas: mpsc::Sender<Result<Delta, tonic::Status>>,
) {
    loop {
        let delta = match stream.message().await {
            Ok(Some(delta)) => Ok(delta),
            Ok(None) => return,
            Err(status) => Err(status),
        };
        if let Ok(Delta {
            delta: Some(delta::Delta::Cut(cut)),
        }) = &delta
            && let Some(target) = Revocations::target(&cut.kind, &cut.value)
        {
            let detail = cut.reason.clone();
            let reason = CutReason::Revoked;
            following.cut_now(&target, &Cut { reason, detail });
        }
        let ended = delta.is_err();
        if deltas.send(delta).await.is_err() || ended {
            return;
        }
    }
}

/// Ends a task with the connection that it belongs to.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Connection {
    async fn say(&self, message: Message) -> Result<(), Finding> {
        let message = GatewayMessage {
            message: Some(message),
        };
        self.outbound
            .send(message)
            .await
            .map_err(|_| Finding::new("FOLLOW-ENDED", "the server does not listen any more"))
    }
}

fn hashes(raw: &[Vec<u8>]) -> Result<Vec<Hash>, Finding> {
    raw.iter()
        .map(|hash| hash.as_slice().try_into().ok())
        .collect::<Option<Vec<Hash>>>()
        .ok_or_else(|| {
            Finding::new(
                "FOLLOW-HASH",
                "the server sent a hash of another length than 32 bytes",
            )
        })
}

fn refused(status: &tonic::Status) -> Finding {
    serde_json::from_slice(status.details()).unwrap_or_else(|_| {
        Finding::new("FOLLOW-REFUSED", status.message().to_owned())
            .observed(format!("{:?}", status.code()))
    })
}

fn unreachable(server: &str, error: &link::LinkError) -> Finding {
    let mut observed = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        observed.push_str(": ");
        observed.push_str(&error.to_string());
        cause = error.source();
    }
    Finding::new(
        "FOLLOW-UNREACHABLE",
        format!("no connection to the server at {server}"),
    )
    .observed(observed)
}

fn own_ledger(error: &ledger_store::StoreError) -> Finding {
    Finding::new(
        "FOLLOW-OWN-LEDGER",
        "the gateway's own ledger cannot be read",
    )
    .observed(error.to_string())
}

fn longest_retry(ended: Option<&Finding>) -> Duration {
    match ended {
        Some(refused) if refused.code.starts_with("FOLLOW-LEDGER-") => LONGEST_REFUSED,
        _ => LONGEST_RETRY,
    }
}

/// Between half and the whole of `wait`.
fn jittered(wait: Duration) -> Duration {
    let [random] = crypto::random::<1>();
    wait / 2 + (wait / 2).mul_f64(f64::from(random) / 255.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It asked, and both sides warned, each second.
    #[test]
    fn a_gateway_whose_ledger_is_refused_asks_seldom() {
        let of = |code: &'static str| longest_retry(Some(&Finding::new(code, "refused")));
        assert_eq!(of("FOLLOW-LEDGER-ENDED"), LONGEST_REFUSED);
        for code in ["FOLLOW-UNREACHABLE", "FOLLOW-SLOW", "FOLLOW-REFUSED"] {
            assert_eq!(of(code), LONGEST_RETRY, "{code}");
        }
        assert_eq!(longest_retry(None), LONGEST_RETRY);
    }
}
