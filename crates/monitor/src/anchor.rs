//! The anchor of the ledger of a gateway, decision point or agent: a record of its server's ledger that names the
//! ledger's key and a head that this key has signed. Whoever holds that key alone, and whoever serves the ledger, shows
//! nothing that the server's ledger, which others witness, does not vouch for.

use crate::Failure;
use crate::compare::Head;
use crate::config::{Config, signed_by};
use crate::http::Address;
use crate::monitor::AHEAD_S;
use crate::source::{self, Source};
use facts::{Finding, Timestamp};
use ledger::lineage::{self, Link};
use ledger::merkle::{leaf_hash, verify_inclusion};
use ledger::{
    Checkpoint, CheckpointError, LedgerKey, LogKey, MAX_RECORD, Note, Policy, ProofFile, Record,
    body,
};

/// Below the ledger's address.
const ANCHOR: &str = "anchor";
/// As it is called among those who have seen a head.
pub(crate) const BY: &str = "the server's ledger";

pub(crate) struct Anchor {
    key: LedgerKey,
    policy: Option<Policy>,
    max_age_s: Option<u64>,
    address: Address,
}

impl Anchor {
    /// `None`: there is no `[anchor]`. Asks nobody.
    pub(crate) fn open(config: &Config) -> Result<Option<Self>, Finding> {
        let Some(anchor) = &config.anchor else {
            return Ok(None);
        };
        let first = config.log.urls.first();
        let url = anchor.url.as_ref().or(first).into_iter().cloned();
        let urls: Vec<String> = url.collect();
        let address = Source::addresses(config, &urls)?.into_iter().next();
        let address = address.ok_or_else(|| crate::config::wrong("[anchor] has a `url`"))?;
        Ok(Some(Self {
            key: anchor.key()?,
            policy: anchor.policy()?,
            max_age_s: anchor.max_age_s,
            address,
        }))
    }

    /// The head of the log `origin`, whose key is `log`, that the server's ledger anchors.
    pub(crate) async fn head(
        &self,
        origin: &str,
        log: &LogKey,
        now: Timestamp,
    ) -> Result<Head, Failure> {
        let url = &self.address.url;
        let bytes = source::note_of(&self.address, ANCHOR).await?;
        let bytes = bytes.ok_or_else(|| {
            source::unreachable(url, format!("there is no /{ANCHOR} of this log"))
        })?;
        let text = String::from_utf8(bytes).map_err(|_error| self.broken("it is no text"))?;
        let proof: ProofFile = text
            .parse()
            .map_err(|error: ledger::ProofFileError| self.broken(&error.to_string()))?;
        let record = self.proven(&proof, now)?;
        let anchor: body::Anchor = record
            .expect_body()
            .map_err(|error| self.broken(&facts::with_causes(&error)))?;
        let LogKey::Note(ours) = log else {
            return Err(self.broken("the log's key is no ledger's"));
        };
        let Some(signer) = signing(ours, &anchor.origin) else {
            return Err(self.broken(&format!("it anchors {}", anchor.origin)));
        };
        if signer.public_key().spki_der() != anchor.ledger_key.0.as_slice() {
            return Err(self.other_key(&anchor, &signer));
        }
        let note = Note::parse(&anchor.checkpoint).map_err(CheckpointError::from);
        let checkpoint = note.and_then(|note| signed_by(&note, log, origin));
        let checkpoint = checkpoint.map_err(|error| self.broken(&facts::with_causes(&error)))?;
        if checkpoint.origin != anchor.origin {
            return Err(self.broken(&format!("its checkpoint is of {}", checkpoint.origin)));
        }
        if (checkpoint.size, checkpoint.root) != (anchor.size.0, anchor.root.0) {
            return Err(self.broken("its checkpoint is of another size or root than it says"));
        }
        Ok(Head {
            by: BY.to_owned(),
            note: anchor.checkpoint,
            checkpoint,
        })
    }

    /// The record, which stands under a checkpoint that the server's key has signed and enough witnesses have seen.
    fn proven(&self, proof: &ProofFile, now: Timestamp) -> Result<Record, Failure> {
        let opened = Checkpoint::open_shown(&proof.checkpoint, &self.key);
        let head = opened.map_err(|error| self.broken(&facts::with_causes(&error)))?;
        self.witnessed(&proof.checkpoint, now)?;
        let bytes = proof.extra.as_deref().unwrap_or_default();
        if bytes.is_empty() || bytes.len() > MAX_RECORD {
            return Err(self.broken("the record is not with its proof"));
        }
        verify_inclusion(
            &leaf_hash(bytes),
            proof.index,
            head.size,
            &proof.hashes,
            &head.root,
        )
        .map_err(|error| self.broken(&error.to_string()))?;
        let record = Record::parse(bytes);
        let record = record.map_err(|error| self.broken(&facts::with_causes(&error)))?;
        if !head.origin.holds(record.origin()) {
            return Err(self.broken(&format!("a record of {}", record.origin())));
        }
        Ok(record)
    }

    fn witnessed(&self, checkpoint: &str, now: Timestamp) -> Result<(), Failure> {
        let Some(policy) = &self.policy else {
            return Ok(());
        };
        // Where its age matters, a line of a clock that is ahead is none: it would be young for as long as that.
        let until = self.max_age_s.map(|_| now.plus_secs(AHEAD_S).as_secs());
        let judged = Note::parse(checkpoint)
            .map_err(CheckpointError::from)
            .and_then(|note| policy.judge_by(&note, until.unwrap_or(u64::MAX)));
        let observed = match judged {
            Ok(quorum) if quorum.reached => return self.recent(quorum.time, now),
            Ok(quorum) => format!("cosignatures of {} witnesses", quorum.cosignatures.len()),
            Err(error) => facts::with_causes(&error),
        };
        Err(Failure::Broken(
            Finding::new(
                "MONITOR-QUORUM",
                format!(
                    "the server's head over the anchor at {} is not witnessed as the policy asks",
                    self.address.url
                ),
            )
            .expected("the quorum of `anchor.policy`")
            .observed(observed)
            .next("wait for the witnesses if the head is new; if it stays so, others may be shown another history"),
        ))
    }

    /// An old anchor under an old head, whose quorum is as good as ever, is how what came since would be hidden.
    fn recent(&self, seen: Option<u64>, now: Timestamp) -> Result<(), Failure> {
        let Some(age) = self.max_age_s else {
            return Ok(());
        };
        let oldest = now.minus_secs(age).as_secs();
        if seen.is_some_and(|seen| seen >= oldest) {
            return Ok(());
        }
        let seen = seen.unwrap_or_default();
        Err(Failure::Broken(
            Finding::new(
                "MONITOR-STALE",
                format!(
                    "the server's head over the anchor at {} is older than it may be: an old view is shown, or the \
                     server's witnesses stand still",
                    self.address.url
                ),
            )
            .expected(format!("a quorum of `anchor.policy` that cosigned within {age} s"))
            .observed(format!("one that had by {seen} seconds since 1970"))
            .next("ask the server at another address, or its witnesses; raise `anchor.max_age_s` if they look less often"),
        ))
    }

    fn broken(&self, observed: &str) -> Failure {
        Failure::Broken(
            Finding::new(
                "MONITOR-ANCHOR",
                format!("what {} shows as the log's anchor is none", self.address.url),
            )
            .expected(format!(
                "an `anchor` record of this log, with the proof that it stands in the ledger of {}",
                self.key
            ))
            .observed(observed)
            .next("compare `anchor.key` with what `trilith trust` prints; if it is right, tell the server's operator: nothing was taken"),
        )
    }

    fn other_key(&self, anchor: &body::Anchor, ours: &LedgerKey) -> Failure {
        let anchored = crypto::PublicKey::from_spki_der(&anchor.ledger_key.0).ok();
        let anchored = anchored.and_then(|key| LedgerKey::new(&anchor.origin, key).ok());
        let observed =
            anchored.map_or_else(|| anchor.ledger_key.to_string(), |key| key.to_string());
        Failure::Broken(
            Finding::new(
                "MONITOR-ANCHOR-KEY",
                "the server's ledger anchors this log by another key than `log.key`",
            )
            .expected(ours.to_string())
            .observed(observed)
            .next("ask the server's operator which one is the gateway's; the anchors in the server's ledger say since when. Nothing was taken"),
        )
    }
}

/// The key that signs for `origin` in this lineage.
fn signing(newest: &LedgerKey, origin: &str) -> Option<LedgerKey> {
    if newest.origin().as_str() == origin {
        return Some(newest.clone());
    }
    let links = lineage::links(newest);
    let mut former = links.iter().filter_map(|link| Link::open(link).ok());
    let former = former.find(|link| link.from.origin().as_str() == origin);
    former.map(|link| link.from)
}

/// The log shows more than its server has anchored.
pub(crate) fn not_anchored(shown: &Head, anchored: &Head) -> Failure {
    Failure::Broken(
        Finding::new(
            "MONITOR-UNANCHORED",
            format!("{} shows more than the server's ledger anchors", shown.by),
        )
        .expected(format!("{} records or fewer", anchored.checkpoint.size))
        .observed(format!("{} records", shown.checkpoint.size))
        .next("watch what the server serves, which is no longer than the anchor; if it is the server that shows this, ask its operator. Nothing was taken"),
    )
}
