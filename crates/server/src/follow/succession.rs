//! A gateway's ledger that went on as a new log, under another name and key: what the gateway shows of that when it
//! connects, held against what this server's ledger tells. Nothing is recorded here: that is done with the first anchor
//! of the new log, once its records are here and are those that the link names.
//!
//! Whoever has a key that was replaced can do what is refused here, and nothing else: show a head beyond the end of its
//! log, or lead that log on to another one. Both are signed, and kept as evidence.

use super::misbehaviour::{self, Notes};
use super::{Follower, PATIENCE};
use crate::mirrors::ledger_key;
use crate::refusal::Refusal;
use facts::Finding;
use ledger::body::KeyRotation;
use ledger::lineage::{self, LineageError, Link};
use ledger::misbehaviour::link_evidence;
use ledger::{Digest, LedgerKey};
use proto::v1::gateway_message::Message;
use proto::v1::{GatewayHead, GatewayHello, GatewayMessage};
use store::GatewayRow;
use tonic::Streaming;

/// Characters of a reason, which no signature covers.
const LONGEST_REASON: usize = 512;

impl Follower {
    /// The key of the gateway's ledger, with those before it: the one that it had when it was anchored last, or one
    /// that links lead to from there. Its origin is its own.
    pub(super) async fn known(
        &self,
        hello: &GatewayHello,
        inbound: &mut Streaming<GatewayMessage>,
    ) -> Result<LedgerKey, Refusal> {
        let stated = ledger_key(&hello.origin, &hello.ledger_key)?;
        let domain = format!("{}/", self.core.trust_domain);
        // No log of the server's own lineage, whichever its number.
        let server = ledger::line(self.core.ledger_key.origin().as_str());
        let (line, _) = stated.origin().place();
        if line == server || !hello.origin.starts_with(&domain) {
            return Err(not_its_own(hello));
        }
        let links = match hello.own_lineage.as_str() {
            "" => Vec::new(),
            links => lineage::from_json(links).map_err(|error| unsound(hello, &error))?,
        };
        let (row, known) = {
            let state = self.core.state();
            let row = state.gateway(&hello.origin).cloned();
            (row, state.gateway_key(&hello.origin))
        };
        let Some(row) = row else {
            // One that was anchored under this name before stays what it is.
            if stated.origin().place().0.ends_with("/server") {
                return Err(the_servers_name(hello));
            }
            // Nothing of it was anchored: whoever began it leads to it.
            let key = lineage::follow(&stated, &links).map_err(|error| unsound(hello, &error))?;
            let begun = key.first().origin().place().1 == 1;
            return match key == stated && begun {
                true => Ok(key),
                false => Err(not_its_own(hello)),
            };
        };
        let known = known.filter(|_| row.gateway == self.svid.spiffe_id);
        let known = known.ok_or_else(|| not_its_own(hello))?;
        let followed = match lineage::follow(&known, &links) {
            Ok(followed) => followed,
            Err(error @ LineageError::Forked { .. }) => {
                return Err(self.forked(&known, &links, &error).await);
            }
            Err(error) => return Err(unsound(hello, &error)),
        };
        if followed == stated {
            self.keeps_what_was_anchored(&row, &known, &followed)
                .await?;
            return Ok(followed);
        }
        let mut former = std::iter::successors(Some(&followed), |key| key.before());
        if former.any(|former| *former == stated) {
            return Err(self.former(&stated, &followed, inbound).await);
        }
        Err(not_its_own(hello))
    }

    /// INVARIANT: no log ends with less than was anchored of it, or with another tree. What is more than that is seen
    /// when its records come.
    async fn keeps_what_was_anchored(
        &self,
        row: &GatewayRow,
        known: &LedgerKey,
        followed: &LedgerKey,
    ) -> Result<(), Refusal> {
        let Some((link, rotation)) = leads_on(known, followed) else {
            return Ok(());
        };
        let same = (link.size, Digest(link.root).to_string()) == (row.size, row.root.clone());
        if link.size > row.size || same {
            return Ok(());
        }
        let refused = Finding::new(
            "FOLLOW-LEDGER-SHORT",
            "the gateway's ledger is said to have ended with less than was anchored of it",
        )
        .expected(format!("the {} records of {} that are anchored", row.size, row.origin))
        .observed(format!(
            "{} went on from {} records, with the root {}",
            link.to,
            link.size,
            Digest(link.root)
        ))
        .next(
            "a copy of the gateway's folder that is older than its ledger cannot go on: give that gateway a new `name`; \
             else its key is stolen",
        );
        let notes = Notes {
            first: row.checkpoint.clone(),
            second: link_evidence(&rotation),
            seen: false,
        };
        Err(misbehaviour::cut_off(&self.core, &self.svid, known, notes, refused).await)
    }

    /// Two logs that one goes on as.
    async fn forked(
        &self,
        known: &LedgerKey,
        links: &[KeyRotation],
        error: &LineageError,
    ) -> Refusal {
        let refused = Finding::new(
            "FOLLOW-LEDGER-FORKED",
            "the key of the gateway's ledger has signed that it goes on as two logs",
        )
        .expected(known.to_string())
        .observed(error.to_string())
        .next("the key is stolen: give that gateway a new `name`, and keep its folder as evidence");
        let Some((key, first, second)) = fork(known, links) else {
            return Refusal::Denied(refused);
        };
        let notes = Notes {
            first: link_evidence(&first),
            second: link_evidence(&second),
            seen: false,
        };
        misbehaviour::cut_off(&self.core, &self.svid, &key, notes, refused).await
    }

    /// Somebody goes on with a key that was replaced. Its next head shows whether beyond the end of that key's log.
    async fn former(
        &self,
        stated: &LedgerKey,
        followed: &LedgerKey,
        inbound: &mut Streaming<GatewayMessage>,
    ) -> Refusal {
        let newest = followed.origin();
        let refused = Finding::new(
            "FOLLOW-LEDGER-ENDED",
            "the gateway's ledger went on as a new log, and this is the one before",
        )
        .expected(newest.to_string())
        .observed(stated.origin().to_string())
        .next(
            "restore the newest copy of the gateway's data_dir, with the folder `keys`, or give that gateway a new \
             `name`; a thief of the old key does the same: docs/operate/new-log.md",
        );
        let head = tokio::time::timeout(PATIENCE, head(inbound)).await;
        let link = leads_on(stated, followed);
        let (Ok(Some(head)), Some((_, rotation))) = (head, link) else {
            return Refusal::Denied(refused);
        };
        let notes = Notes {
            first: link_evidence(&rotation),
            second: head.checkpoint,
            seen: false,
        };
        misbehaviour::cut_off(&self.core, &self.svid, stated, notes, refused).await
    }
}

/// The first head that is announced.
async fn head(inbound: &mut Streaming<GatewayMessage>) -> Option<GatewayHead> {
    loop {
        match inbound.message().await {
            Ok(Some(message)) => {
                if let Some(Message::Head(head)) = message.message {
                    return Some(head);
                }
            }
            _ => return None,
        }
    }
}

/// The link by which the log of `key` went on, as `followed` knows.
pub(super) fn leads_on(key: &LedgerKey, followed: &LedgerKey) -> Option<(Link, KeyRotation)> {
    let links = lineage::links(followed).into_iter();
    let opened = links.filter_map(|rotation| Some((Link::open(&rotation).ok()?, rotation)));
    let mut of_it = opened.filter(|(link, _)| link.from == *key);
    of_it.next()
}

/// The key that signed two of these links, and the two.
fn fork(known: &LedgerKey, links: &[KeyRotation]) -> Option<(LedgerKey, KeyRotation, KeyRotation)> {
    let mut opened: Vec<(Link, KeyRotation)> = Vec::new();
    for rotation in lineage::links(known)
        .into_iter()
        .chain(links.iter().cloned())
    {
        let link = Link::open(&rotation).ok()?;
        let mut held = opened.iter();
        if let Some((_, first)) = held.find(|(held, _)| held.from == link.from && *held != link) {
            return Some((link.from, first.clone(), rotation));
        }
        opened.push((link, rotation));
    }
    None
}

/// `link` as a record of this server tells of it.
pub(super) fn told(mut link: KeyRotation) -> KeyRotation {
    link.reason = link.reason.chars().take(LONGEST_REASON).collect();
    lineage::told(link)
}

fn not_its_own(hello: &GatewayHello) -> Refusal {
    Refusal::Denied(
        Finding::new("FOLLOW-ORIGIN", "the ledger is not this gateway's")
            .expected(
                "an origin of this trust domain, with the gateway and key it began with, or links that lead from that",
            )
            .observed(hello.origin.clone())
            .next("keep a gateway's `name`, identity and data_dir together, or give it a new `name`"),
    )
}

/// People say `server` and mean the trust domain's own ledger.
fn the_servers_name(hello: &GatewayHello) -> Refusal {
    Refusal::Denied(
        Finding::new(
            "FOLLOW-ORIGIN-SERVER",
            "no gateway begins a ledger that is called as the server's is",
        )
        .expected("another name than `server`")
        .observed(hello.origin.clone())
        .next("give the gateway, decision point or agent another `name` and a new data_dir"),
    )
}

fn unsound(hello: &GatewayHello, error: &LineageError) -> Refusal {
    Refusal::Denied(
        Finding::new(
            "FOLLOW-LEDGER-LINEAGE",
            "the links do not lead to the key of the gateway's ledger",
        )
        .expected("links that both keys have signed")
        .observed(format!("{}: {error}", hello.origin))
        .next("restore the newest copy of the folder `keys` in the gateway's data_dir, as a whole"),
    )
}
