//! What every service of the server shares: configuration, journal, estate, authority, who is
//! connected. Services decide here and write through the journal; nothing else holds state.

use crate::attesting::Watched;
use crate::authority::Authority;
use crate::config::Config;
use crate::cosign::Witnesses;
use crate::current::{self, Current};
use crate::elsewhere::Elsewhere;
use crate::endorsements::Endorsements;
use crate::enforcing::Enforcing;
use crate::hub::Hub;
use crate::join::{Joins, Refusals};
use crate::journal::{Entry, Failure, Journal};
use crate::labels::Labels;
use crate::ledgers::Ledgers;
use crate::listener::Peer;
use crate::metrics::Metrics;
use crate::mirrors::Mirrors;
use crate::node::{Claims, Rates};
use crate::people::People;
use crate::pool::Pool;
use crate::publish::Publishing;
use crate::refusal::Refusal;
use crate::revoke::{Postponed, Unrecorded};
use crate::signing::{HeadFile, Signing};
use crate::state::State;
use crate::workloads::Workloads;
use arc_swap::ArcSwapOption;
use facts::{Affirmed, Finding, Timestamp};
use ledger::body::{self, TargetKind, VerdictOutcome};
use ledger::{Commitment, Digest, Draft, HexDigest, LedgerKey, RecordBuilder, Salt, Stamp};
use ledger_store::{Blobs, Committed, Intended, StoreError};
use spiffe_core::{SpiffeId, TrustDomain};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use store::{NodeRow, SvidRow};
use tokio_util::sync::CancellationToken;

/// Fact sets of machines that are kept parsed.
const MACHINES: usize = 65_536;
/// Times that one fact set is erased and committed to again.
const MOST_ERASED: u32 = 4_096;
/// Fact sets that are known to be kept, 64 bytes each.
const COMMITTED: usize = 262_144;

/// Shared by every service behind an `Arc`.
pub(crate) struct Core {
    pub(crate) config: Config,
    pub(crate) trust_domain: TrustDomain,
    pub(crate) ledger_key: LedgerKey,
    pub(crate) journal: Journal,
    pub(crate) blobs: Blobs,
    /// That were issued, for packs.
    pub(crate) certificates: crate::certificates::Certificates,
    pub(crate) authority: Authority,
    pub(crate) lists: crate::crl::Lists,
    /// Set by start and by apply, which holds `applying`.
    pub(crate) current: ArcSwapOption<Current>,
    pub(crate) applying: tokio::sync::Mutex<()>,
    pub(crate) pool: Pool,
    pub(crate) hub: Arc<Hub>,
    /// Cuts in force whose records wait for the disk.
    pub(crate) unrecorded: Unrecorded,
    pub(crate) workloads: Workloads,
    /// What is proved and need not be asked again.
    pub(crate) proved: Arc<estate_prove::Memory>,
    /// What each node may still be issued.
    pub(crate) rates: Rates,
    /// Keys whose records are on their way.
    pub(crate) claims: Arc<Claims>,
    pub(crate) joins: Joins,
    /// Who logs in.
    pub(crate) people: People,
    /// Of confidential machines.
    pub(crate) endorsements: Endorsements,
    /// Machines that are asked to prove themselves again.
    pub(crate) watched: Watched,
    /// The boots that are approved for each ring.
    pub(crate) seals: crate::seals::Seals,
    /// What kernels of machines enforce, by the word of their agents.
    pub(crate) enforcing: Enforcing,
    /// By node and identity.
    /// By node, identity and what was seen.
    pub(crate) assume_refusals: Mutex<Refusals<(String, String, String)>>,
    pub(crate) signing: Arc<Signing>,
    pub(crate) head: HeadFile,
    pub(crate) elsewhere: Elsewhere,
    /// What of `unrecorded` waits for a recovery, on disk.
    pub(crate) postponed: Postponed,
    /// The `start` record of a server that may not sign: it comes with the recovery.
    pub(crate) unstarted: Mutex<Option<ledger::body::Start>>,
    pub(crate) mirrors: Mirrors,
    /// What of them outsiders are shown.
    pub(crate) ledgers: Ledgers,
    /// Who cosigns; `None` if nobody is asked.
    pub(crate) witnesses: Option<Witnesses>,
    /// Where the ledger is published; `None` if nowhere.
    pub(crate) publishing: Option<Publishing>,
    /// What owners are told of its records; `None` if there is none.
    pub(crate) labels: Option<Arc<Labels>>,
    pub(crate) metrics: Metrics,
    /// Nodes and tokens that an act is under way for; a second one waits for nobody and is refused.
    pub(crate) busy: Mutex<HashSet<String>>,
    /// By digest of their blob.
    pub(crate) machines: RwLock<HashMap<String, (u64, Arc<Affirmed>)>>,
    /// Fact sets whose openings are kept, by the digest of their canonical form.
    pub(crate) committed: RwLock<HashMap<[u8; 32], Commitment>>,
    /// What is about to be erased, which nothing that is issued commits to any more; and what is about to be named.
    pub(crate) erasing: Mutex<crate::erase::Contents>,
    pub(crate) connections: AtomicU64,
    /// DER SPKI of the key that this server presents in TLS.
    pub(crate) server_spki: Vec<u8>,
    pub(crate) commitment_key: crypto::SecretBytes,
    pub(crate) started: Timestamp,
    pub(crate) stop: CancellationToken,
}

/// An act under way for one name; dropped, the name is free again.
pub(crate) struct Busy<'a> {
    set: &'a Mutex<HashSet<String>>,
    name: String,
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.set
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.name);
    }
}

impl Core {
    /// The clock. The one place that reads it for the services.
    pub(crate) fn now(&self) -> Timestamp {
        self.signing.clock().now()
    }

    /// Wall and monotonic time for a record.
    pub(crate) fn stamp(&self) -> Stamp {
        self.signing.clock().stamp()
    }

    /// How whoever trusts a former key of the ledger learns the one that signs now; `None` if there was none before.
    pub(crate) fn lineage(&self) -> Option<String> {
        let links = ledger::lineage::links(&self.ledger_key);
        (!links.is_empty()).then(|| ledger::lineage::to_json(&links))
    }

    pub(crate) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.journal.state()
    }

    /// The estate in force; refused before the first is applied.
    pub(crate) fn estate(&self) -> Result<Arc<Current>, Refusal> {
        self.current.load_full().ok_or_else(|| {
            Refusal::Precondition(
                Finding::new("ESTATE-NONE", "no estate has been applied yet")
                    .next("trilith estate apply DIR"),
            )
        })
    }

    /// Whether the first `size` records of this ledger have this root.
    pub(crate) fn has(&self, size: u64, root: &[u8; 32]) -> bool {
        let reader = self.journal.reader();
        size <= reader.size() && reader.root(size).is_ok_and(|ours| ours == *root)
    }

    /// Reserves `name` for one act.
    pub(crate) fn busy(&self, name: String) -> Result<Busy<'_>, Refusal> {
        let free = self
            .busy
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.clone());
        if free {
            Ok(Busy {
                set: &self.busy,
                name,
            })
        } else {
            Err(Refusal::Limited(
                Finding::new("SERVER-BUSY", "another request for the same is under way")
                    .observed(name)
                    .next("try again"),
            ))
        }
    }

    pub(crate) fn connection_number(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed)
    }

    /// Drafts a record by this server itself.
    pub(crate) fn by_server(&self, record: RecordBuilder) -> Result<Draft, Refusal> {
        draft(record.actor(self.authority.server_id().as_str(), "self"))
    }

    pub(crate) async fn append(&self, drafts: Vec<Draft>) -> Result<Vec<Committed>, Refusal> {
        let entries = drafts.into_iter().map(Entry::from).collect();
        let begun = std::time::Instant::now();
        let committed = self.journal.append(entries).await?;
        self.metrics
            .append_seconds
            .observe(begun.elapsed().as_secs_f64());
        Ok(committed)
    }

    pub(crate) async fn append_one(&self, draft: Draft) -> Result<Committed, Refusal> {
        let committed = self.append(vec![draft]).await?;
        let one = committed.into_iter().next();
        one.ok_or_else(|| Failure::Ended.into())
    }

    /// Writes a blob off the async threads. Durable when it returns.
    pub(crate) async fn put_blob(&self, bytes: Vec<u8>) -> Result<ledger::body::BlobRef, Refusal> {
        self.keeping(move |blobs| blobs.put(&bytes)).await
    }

    /// As [`Core::put_intended`] for all of `many`, which the disk is waited for together.
    pub(crate) async fn put_all_intended(
        &self,
        many: Vec<Vec<u8>>,
    ) -> Result<Vec<Intended>, Refusal> {
        let from = self.journal.reader().size();
        self.keeping(move |blobs| blobs.put_all_intended(&many, from))
            .await
    }

    /// As [`Core::put_blob`] for all of `many`, which the disk is waited for together.
    pub(crate) async fn put_blobs(&self, many: Vec<Vec<u8>>) -> Result<(), Refusal> {
        self.keeping(move |blobs| blobs.put_all(&many)).await
    }

    /// As [`Core::put_blob`], of what people write or machines show, which may have to be erased: if no record comes to name
    /// it, the next start removes it.
    pub(crate) async fn put_intended(
        &self,
        bytes: Vec<u8>,
    ) -> Result<(ledger::body::BlobRef, Option<Intended>), Refusal> {
        let from = self.journal.reader().size();
        self.keeping(move |blobs| {
            let intended = blobs.put_intended(&bytes, from)?;
            Ok((ledger::body::BlobRef::of(&bytes), intended))
        })
        .await
    }

    /// Records name these now. What is left of it is looked at by the next start.
    pub(crate) async fn named(&self, intended: Vec<Intended>) {
        let settled =
            self.keeping(move |blobs| intended.iter().try_for_each(|one| blobs.settle(one)));
        if let Err(refusal) = settled.await {
            tracing::warn!(%refusal, "what was put is left to the next start");
        }
    }

    async fn keeping<T: Send + 'static>(
        &self,
        put: impl FnOnce(&Blobs) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Refusal> {
        let blobs = self.blobs.clone();
        tokio::task::spawn_blocking(move || put(&blobs))
            .await
            .map_err(|error| Refusal::internal("keeping a blob", &error))?
            .map_err(|error| match error {
                StoreError::DiskFull => Refusal::disk_full(),
                error => Refusal::internal("keeping a blob", &error),
            })
    }

    /// Commits to `facts`, whose opening is kept first: what an issuance rested on can be read later by
    /// whoever may see blobs. The salt follows from the facts and a key that never leaves this machine, so
    /// that nobody else can try values, and one fact set costs one blob however often it is decided on.
    pub(crate) async fn commit(&self, facts: &Affirmed) -> Result<Commitment, Refusal> {
        let value = current::canonical(facts);
        let digest = crypto::sha256(&value);
        if let Some(commit) = self.known_commitment(&digest) {
            return Ok(commit);
        }
        let opening = self.opening(&digest, &value)?;
        let mut kept = self.put_blob(opening).await?;
        // INVARIANT: nothing is removed before a record says so. An erasure that came between the question and the put
        // has removed what was not there yet; one that is only marked removes this with the rest.
        while self.state().erased(&kept.sha256).is_some() {
            self.keeping(move |blobs| blobs.remove_all(&[kept.sha256]))
                .await?;
            let opening = self.opening(&digest, &value)?;
            kept = self.put_blob(opening).await?;
        }
        let commit = Commitment(Digest(kept.sha256.0));
        if let Ok(mut known) = self.committed.write() {
            if known.len() >= COMMITTED {
                known.clear();
            }
            known.insert(digest, commit);
        }
        Ok(commit)
    }

    /// INVARIANT: an opening that was erased never comes back: the same facts are committed to with another salt.
    fn opening(&self, digest: &[u8; 32], value: &[u8]) -> Result<Vec<u8>, Refusal> {
        for erased in 0..=MOST_ERASED {
            let mut of = digest.to_vec();
            if erased > 0 {
                of.extend_from_slice(&erased.to_be_bytes());
            }
            let mac = crypto::hmac_sha256(self.commitment_key.expose(), &of);
            let mut salt = [0; 16];
            for (to, from) in salt.iter_mut().zip(mac) {
                *to = from;
            }
            let opening = Commitment::opening(&Salt(salt), "facts", value);
            if !self.is_erased(&HexDigest::of(&opening)) {
                return Ok(opening);
            }
        }
        Err(Refusal::Precondition(
            Finding::new(
                "SERVER-SALT",
                "the same facts were erased more often than there are salts for them",
            )
            .expected(format!("at most {MOST_ERASED} times"))
            .next("write to the makers of Trilith"),
        ))
    }

    /// The commitment to the facts of this digest, if their opening is kept.
    pub(crate) fn known_commitment(&self, digest: &[u8; 32]) -> Option<Commitment> {
        self.committed.read().ok()?.get(digest).copied()
    }

    /// The facts that a node's verdict states.
    pub(crate) fn machine_facts(&self, node: &NodeRow) -> Result<Arc<Affirmed>, Refusal> {
        if let Ok(machines) = self.machines.read()
            && let Some((verdict, facts)) = machines.get(&node.facts)
            && *verdict == node.verdict
        {
            return Ok(Arc::clone(facts));
        }
        let facts = Arc::new(self.read_facts(node)?);
        if let Ok(mut machines) = self.machines.write() {
            if machines.len() >= MACHINES {
                machines.clear();
            }
            machines.insert(node.facts.clone(), (node.verdict, Arc::clone(&facts)));
        }
        Ok(facts)
    }

    /// INVARIANT: the ledger says that they are those of the node's verdict. The database is no witness: whoever
    /// writes to its file could have one machine stand on what another proved.
    fn read_facts(&self, node: &NodeRow) -> Result<Affirmed, Refusal> {
        let gone = || {
            Refusal::Unavailable(
                Finding::new("SERVER-BLOB", "the facts of a verdict are not there")
                    .expected(format!("blob {} of record {}", node.facts, node.verdict))
                    .next("let the machine prove itself again"),
            )
        };
        let digest: HexDigest = node.facts.parse().map_err(|_| gone())?;
        let record = self.journal.reader().record(node.verdict);
        let record = record.map_err(|error| Refusal::internal("reading a verdict", &error))?;
        let verdict: body::Verdict = record.expect_body().map_err(|_| gone())?;
        let names = verdict.facts_blob.as_ref().map(|blob| blob.sha256);
        let stated = verdict.outcome == VerdictOutcome::Affirmed
            && verdict.node == self.node_id(&node.name)?.as_str()
            && names == Some(digest);
        if !stated {
            return Err(gone());
        }
        let bytes = self
            .blobs
            .get(&digest)
            .map_err(|error| Refusal::internal("reading a blob", &error))?
            .ok_or_else(gone)?;
        crate::warranted::recorded(&bytes).ok_or_else(gone)
    }

    /// The recorded, standing SVID behind `peer`.
    pub(crate) fn caller(&self, peer: &Peer) -> Result<Arc<SvidRow>, Refusal> {
        let Some(svid) = &peer.svid else {
            return Err(Refusal::Denied(
                Finding::new("CALLER-NO-SVID", "this service wants an SVID")
                    .expected("mTLS with an SVID of this trust domain")
                    .observed("no client certificate"),
            ));
        };
        let unrecorded = |observed: &str| {
            Refusal::Denied(
                Finding::new(
                    "CALLER-UNRECORDED",
                    "the caller's SVID is not in this ledger",
                )
                .expected("an SVID that this server issued and recorded")
                .observed(observed.to_owned()),
            )
        };
        let state = self.state();
        let row = state
            .svid(&svid.serial)
            .ok_or_else(|| unrecorded(&svid.serial))?;
        let key = crypto::hex::encode(&svid.public_key.spki_sha256());
        if row.spiffe_id != svid.spiffe_id.as_str() || row.key != key || row.kind != "x509" {
            return Err(unrecorded("the same serial for another identity or key"));
        }
        self.standing(&state, row)?;
        Ok(Arc::clone(row))
    }

    /// Refuses an SVID that was revoked, or has ended.
    pub(crate) fn standing(&self, state: &State, row: &SvidRow) -> Result<(), Refusal> {
        if !state.stands(row) || self.unrecorded.covers(row) {
            return Err(Refusal::Denied(
                Finding::new("CALLER-REVOKED", "the caller's SVID was revoked")
                    .observed(row.serial.clone()),
            ));
        }
        if row.not_after <= self.now().as_millis() {
            return Err(Refusal::Denied(
                Finding::new("CALLER-EXPIRED", "the caller's SVID has ended")
                    .observed(Timestamp::from_millis(row.not_after).to_string()),
            ));
        }
        Ok(())
    }

    /// Whether `row`'s holder may go on: its SVID stands, or a later one of the same identity on the
    /// same machine does. One that another machine holds renews nothing for this one.
    pub(crate) fn goes_on(&self, row: &SvidRow) -> Result<(), Refusal> {
        let state = self.state();
        match self.standing(&state, row) {
            Ok(()) => Ok(()),
            Err(refusal) => {
                let successor = state.svids_of(&row.spiffe_id).any(|later| {
                    later.index > row.index
                        && later.node == row.node
                        && self.standing(&state, later).is_ok()
                });
                let itself = state.revoked(TargetKind::Serial, &row.serial).is_some()
                    || self.unrecorded.holds(TargetKind::Serial, &row.serial);
                if successor && !itself {
                    Ok(())
                } else {
                    Err(refusal)
                }
            }
        }
    }

    pub(crate) fn node_id(&self, name: &str) -> Result<SpiffeId, Refusal> {
        let path = format!("trilith/node/{name}");
        self.trust_domain.identity(&path).map_err(|_| {
            Refusal::Invalid(
                Finding::new("NODE-NAME", "this is not a name for a machine")
                    .expected("letters, digits, `.`, `-` and `_`")
                    .observed(name.to_owned())
                    .next("name the machine by these alone"),
            )
        })
    }

    /// The bundle as it stands on the wire.
    pub(crate) fn bundle(&self) -> proto::v1::Bundle {
        let bundle = self.authority.bundle();
        proto::v1::Bundle {
            trust_domain: self.trust_domain.to_string(),
            sequence: bundle.sequence().unwrap_or_default(),
            x509_authorities: bundle
                .x509_authorities()
                .iter()
                .map(|authority| authority.der().to_vec())
                .collect(),
            jwks: bundle.to_jwks(),
            crl: self.lists.current().to_vec(),
            refresh_hint_s: 300,
        }
    }
}

pub(crate) fn draft(record: RecordBuilder) -> Result<Draft, Refusal> {
    record
        .draft()
        .map_err(|error| Refusal::internal("drafting a record", &error))
}

/// A finding as records hold it.
pub(crate) fn recorded(finding: &Finding) -> ledger::body::Finding {
    /// Records are small; a finding's text may quote what a stranger sent.
    const LONGEST: usize = 512;
    let cut = |text: &str| -> String {
        text.chars()
            .filter(|c| !c.is_control())
            .take(LONGEST)
            .collect()
    };
    ledger::body::Finding {
        code: cut(&finding.code),
        message: cut(&finding.message),
        expected: finding.expected.as_deref().map(cut),
        observed: finding.observed.as_deref().map(cut),
        next: finding.next.as_deref().map(cut),
    }
}
