//! The proof that a ledger is anchored in another one, beside its checkpoint: whoever has the place alone sees that the
//! other ledger, and its witnesses, vouch for the head that stands there. What it says is true for ever; how lately it
//! was so only a newer one says, so that it is sent again also where nothing is new.

use super::{Event, NOTE, Publisher, Target};
use crate::bucket::{Condition, Put};
use crate::failure::Failure;
use hyper::body::Bytes;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// In the store, below the prefix.
const NAME: &str = "anchor";
/// Bytes of a record in base64, of its proof and of a note with the lines of many witnesses.
const LONGEST: usize = 4 << 20;
/// It is looked at again after so long.
const LOOK: Duration = Duration::from_secs(30);
/// For a head that stands there already it is replaced by a newer one after so long. Each costs its owner a request.
const AGAIN: Duration = Duration::from_secs(5 * 60);

#[derive(Default)]
pub(super) struct Anchor {
    /// To stand beside the next head.
    proof: Option<Bytes>,
    sent: Option<Sent>,
}

/// The newest that stood there when it was looked at last.
struct Sent {
    /// The head that it stands beside.
    note: Arc<str>,
    bytes: Bytes,
    at: Instant,
}

impl Anchor {
    /// That of this head was sent, and so lately.
    fn is_within(&self, note: &str, time: Duration) -> bool {
        let sent = self.sent.as_ref();
        sent.is_some_and(|sent| *sent.note == *note && sent.at.elapsed() < time)
    }

    /// What stands there is what was sent last.
    fn is_it(&self, bytes: Option<&[u8]>) -> bool {
        let sent: Option<&[u8]> = self.sent.as_ref().map(|sent| sent.bytes.as_ref());
        sent.is_some() && sent == bytes
    }
}

impl Publisher {
    /// What vouches for the head of the next round, as c2sp.org/tlog-proof: a record of another ledger, and the proof
    /// that it stands there. `None`: nothing does, and what stands in the store is left alone.
    pub fn vouch(&mut self, proof: Option<String>) {
        self.anchor.proof = proof.map(Bytes::from);
    }

    /// Puts it beside the checkpoint, unless it stands there.
    pub(super) async fn send_anchor(&mut self, target: &Target) -> Result<(), Failure> {
        let Some(bytes) = self.anchor.proof.clone() else {
            return Ok(());
        };
        if self.anchor.is_within(&target.note, LOOK) {
            return Ok(());
        }
        let found = self.bucket.get(NAME, LONGEST).await?;
        let held = found.as_ref().and_then(|found| found.bytes.as_deref());
        if self.anchor.is_within(&target.note, AGAIN) && self.anchor.is_it(held) {
            return Ok(());
        }
        if held == Some(bytes.as_ref()) {
            (self.tell)(Event::Found);
        } else {
            let again = |what: &str| Failure::again(&self.place(), format!("{NAME} {what}"));
            let condition = match found.map(|found| found.etag) {
                None => Condition::Absent,
                Some(Some(etag)) => Condition::Is(etag),
                Some(None) => return Err(again("has no ETag")),
            };
            let put = self.bucket.put(NAME, bytes.clone(), NOTE, &condition);
            match put.await? {
                Put::Stored(_) => (self.tell)(Event::Stored(bytes.len())),
                Put::Unmet => return Err(again("changed while it was replaced")),
            }
        }
        self.anchor.sent = Some(Sent {
            note: Arc::clone(&target.note),
            bytes,
            at: Instant::now(),
        });
        Ok(())
    }
}
