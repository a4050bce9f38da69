//! Sealed startup, the authority's half: approves the boots that the estate's reference values predict for a
//! ring, so that its machines can open what their TPMs have sealed.
//!
//! An approval is signed by a key of its own, is durable in the ledger before anybody has it, and is public
//! from then on. Whenever something that was approved is good no longer, the ring's epoch begins anew and its
//! machines seal anew. What a machine does with approvals, and what not: docs/operate/sealed-startup.md.

mod changes;

use crate::core::Core;
use crate::current::Current;
use crate::refusal::Refusal;
use crate::state::State;
use attest_tpm::seal::{Approval, ApprovalSet, Approver, MOST, Pcrs, Scope};
use changes::Wanted;
use crypto::{Algorithm, Custody, PublicKey, Signer};
use facts::{FactSet, Finding, Timestamp, names};
use ledger::Base64;
use ledger::body::{self, Body as _};
use ledger_store::Reader;
use proto::v1;
use proto::v1::node_update::Update;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

/// Its name in the authority's custody.
pub(crate) const KEY: &str = "seal";

/// What is approved for every ring.
pub(crate) struct Seals {
    key: Arc<dyn Signer>,
    approver: Approver,
    rings: Mutex<Rings>,
    /// Held while approvals are signed and recorded.
    refreshing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Rings {
    sets: BTreeMap<String, Arc<ApprovalSet>>,
    /// Rings from whose sets boots were taken: their epoch is over as soon as the next one is recorded.
    ending: BTreeSet<String>,
    /// Rings whose approvals were not recorded when it was tried last, and why.
    unrecorded: BTreeMap<String, String>,
    /// Rings of which boots are predicted and not approved, and which PCRs they lack.
    unpinned: BTreeMap<String, &'static str>,
    /// The version of the estate of which every machine was told.
    told: u64,
}

impl Seals {
    /// With what the ledger holds. Reads keys: blocks.
    pub(crate) fn open(
        custody: &dyn Custody,
        trust_domain: &str,
        state: &State,
        reader: &Reader,
    ) -> Result<Self, Finding> {
        let failed = |error: crypto::Error| {
            Finding::new("SEAL-KEY", "the key that approves boots cannot be used")
                .observed(error.to_string())
                .next("look at the key `seal` in custody.ca")
        };
        let key = custody
            .load_or_generate(KEY, Algorithm::EcdsaP256)
            .map_err(failed)?;
        let approver = Approver::new(key.public_key().clone())?;
        let mut sets = BTreeMap::new();
        for (ring, epoch, indices) in state.seals() {
            let scope = Scope {
                trust_domain: trust_domain.to_owned(),
                ring: ring.to_owned(),
                epoch,
            };
            // INVARIANT: an epoch is never begun a second time. Where a record cannot be read, nothing of it
            // goes on, and the next one begins.
            let set = recorded(&scope, &indices, reader)
                .unwrap_or_else(|| ApprovalSet::empty(scope, approver.clone()));
            sets.insert(ring.to_owned(), Arc::new(set));
        }
        Ok(Self {
            approver,
            key,
            rings: Mutex::new(Rings {
                sets,
                ..Rings::default()
            }),
            refreshing: tokio::sync::Mutex::default(),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Rings> {
        self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of `ring`, whose boots are good and not approved, what is not predicted.
    fn unpinned(&self, ring: &str, missing: Option<&'static str>) {
        let mut rings = self.lock();
        let before = match missing {
            Some(missing) => rings.unpinned.insert(ring.to_owned(), missing),
            None => rings.unpinned.remove(ring),
        };
        if let Some(missing) = missing.filter(|missing| before != Some(missing)) {
            tracing::warn!(
                ring,
                missing,
                "no boot is approved: what is predicted does not say what boots"
            );
        }
    }

    /// Takes out of what is told whatever is good no longer.
    ///
    /// INVARIANT: it waits for no record. The ring's epoch goes on for what is left, until the next one is in
    /// the ledger or [`Seals::end`] ends it.
    fn withdraw(&self, wanted: &[Wanted]) {
        let mut rings = self.lock();
        for one in wanted {
            let Some(set) = rings.sets.get(&one.ring) else {
                continue;
            };
            let Some(left) = one.left_of(set, &self.approver) else {
                continue;
            };
            tracing::info!(ring = %one.ring, epoch = set.scope.epoch, left = left.approvals().len(),
                "boots are approved no longer");
            rings.sets.insert(one.ring.clone(), Arc::new(left));
            rings.ending.insert(one.ring.clone());
        }
    }

    /// Ends the epochs of rings from which something was withdrawn and whose next one is not recorded: their
    /// machines keep nothing, until it is. Which rings.
    fn end(&self, now: Timestamp) -> BTreeSet<String> {
        let mut rings = self.lock();
        let ending = std::mem::take(&mut rings.ending);
        for ring in &ending {
            if let Some(set) = rings.sets.get(ring) {
                let scope = changes::next(&set.scope, now);
                let none = ApprovalSet::empty(scope, self.approver.clone());
                rings.sets.insert(ring.clone(), Arc::new(none));
            }
        }
        ending
    }

    /// Why no boot of `ring` is approved although some are good there, or not all of them.
    pub(crate) fn why_none(&self, ring: &str) -> Option<Finding> {
        let rings = self.lock();
        if let Some(why) = rings.unrecorded.get(ring) {
            return Some(
                Finding::new(
                    "SEAL-UNRECORDED",
                    "boots of this ring are good and not approved: the approval is not recorded yet",
                )
                .expected("a ledger that takes records, and a key that signs")
                .observed(why.clone())
                .next("mend what is observed; it is tried again every few seconds"),
            );
        }
        let missing = *rings.unpinned.get(ring)?;
        drop(rings);
        Some(
            Finding::new(
                "SEAL-UNPINNED",
                "boots of this ring are predicted and not approved: another initrd or command line would open",
            )
            .expected("values for PCR 4, and for PCR 11 or PCR 8 and 9")
            .observed(format!("none for {missing}"))
            .next(
                "predict unified kernel images: trilith refs import uki IMAGE --output FILE; \
                 docs/operate/sealed-startup.md says why",
            ),
        )
    }

    /// The approvals of `ring`; where nothing was ever approved, none under epoch 0.
    pub(crate) fn of_ring(&self, trust_domain: &str, ring: &str) -> Arc<ApprovalSet> {
        if let Some(set) = self.lock().sets.get(ring) {
            return Arc::clone(set);
        }
        let scope = Scope {
            trust_domain: trust_domain.to_owned(),
            ring: ring.to_owned(),
            epoch: 0,
        };
        Arc::new(ApprovalSet::empty(scope, self.approver.clone()))
    }
}

/// What the records at `indices` approve; nothing if one of them cannot be read.
fn recorded(scope: &Scope, indices: &[u64], reader: &Reader) -> Option<ApprovalSet> {
    let mut set: Option<ApprovalSet> = None;
    for index in indices {
        let body: body::SealApproval = reader.record(*index).ok()?.expect_body().ok()?;
        let key = PublicKey::from_spki_der(&body.key.0).ok()?;
        let set = match &mut set {
            Some(set) => set,
            None => set.insert(ApprovalSet::empty(scope.clone(), Approver::new(key).ok()?)),
        };
        let pcrs = body.pcrs.iter().map(|pcr| (pcr.index, pcr.sha256.0));
        let approval = Approval {
            pcrs: Pcrs::new(pcrs.collect()).ok()?,
            label: body.label,
            signature: body.signature.0,
        };
        set.add(approval).ok()?;
    }
    set
}

/// Of a machine that joined by its TPM, what it may open its state by; nothing for any other.
pub(crate) fn of_machine(core: &Core, facts: &FactSet) -> Option<Arc<ApprovalSet>> {
    if facts.text(names::MACHINE_JOIN) != Some("tpm") {
        return None;
    }
    let current = core.current.load_full()?;
    let ring = current.ring(facts);
    Some(core.seals.of_ring(core.trust_domain.as_str(), &ring))
}

/// As it stands on the wire; empty for a machine that seals nothing.
pub(crate) fn told(core: &Core, facts: &FactSet) -> Vec<u8> {
    of_machine(core, facts)
        .map(|set| set.to_json().into_bytes())
        .unwrap_or_default()
}

/// Approves what the estate in force makes good by now and has not been approved, and takes back what it makes
/// good no longer; then tells the machines whom it concerns. What is taken back is told of no more from the first
/// moment on; where what stays good cannot be recorded, machines are told to keep nothing.
///
/// # Errors
/// What cannot be recorded: nobody has it then, and it is tried again.
pub(crate) async fn refresh(core: &Arc<Core>) -> Result<(), Refusal> {
    let _alone = core.seals.refreshing.lock().await;
    let Some(current) = core.current.load_full() else {
        return Ok(());
    };
    let wanted = wanted(core, &current).await?;
    core.seals.withdraw(&wanted);
    let approved = approve(core, &current, wanted).await;
    let mut changed = core.seals.end(core.now());
    if let Ok(rings) = &approved {
        changed.extend(rings.iter().cloned());
    }
    // A new version may have moved machines to other rings.
    let told = std::mem::replace(&mut core.seals.lock().told, current.index);
    let everybody = told != current.index;
    if everybody || !changed.is_empty() {
        let telling = Arc::clone(core);
        let rings = (!everybody).then_some(changed);
        tokio::task::spawn_blocking(move || tell(&telling, rings.as_ref()))
            .await
            .map_err(|error| Refusal::internal("telling of boots", &error))?;
    }
    approved.map(drop)
}

/// The first half of [`refresh`] alone: nobody is told of what is good no longer.
///
/// # Errors
/// When it cannot be said what is good.
pub(crate) async fn withdraw(core: &Arc<Core>) -> Result<(), Refusal> {
    let _alone = core.seals.refreshing.lock().await;
    let Some(current) = core.current.load_full() else {
        return Ok(());
    };
    let wanted = wanted(core, &current).await?;
    core.seals.withdraw(&wanted);
    Ok(())
}

async fn wanted(core: &Arc<Core>, current: &Arc<Current>) -> Result<Vec<Wanted>, Refusal> {
    let (judging, estate) = (Arc::clone(core), Arc::clone(current));
    core.pool
        .run(move || changes::wanted(&judging, &estate, judging.now()))
        .await
        .map_err(|error| Refusal::internal("predicting boots", &error))
}

/// Signs and records what is wanted, in one commit; which rings have another set by it. A ring of which
/// something cannot be signed or drafted stands in the way of no other.
async fn approve(
    core: &Arc<Core>,
    current: &Current,
    wanted: Vec<Wanted>,
) -> Result<Vec<String>, Refusal> {
    core.signing.check()?;
    let judging = Arc::clone(core);
    let changes = core
        .pool
        .run(move || changes::changes(&judging, wanted))
        .await
        .map_err(|error| Refusal::internal("approving boots", &error))?;
    let spki = core.seals.key.public_key().spki_der();
    let known = core.state().seal_key();
    let mut drafts = Vec::new();
    let mut unrecorded = BTreeMap::new();
    let mut recorded = Vec::new();
    for (ring, change) in changes {
        let drafted = change.map_err(Refusal::Unavailable).and_then(|change| {
            let records = change.records();
            let drafts: Result<Vec<_>, Refusal> = records
                .map(|record| core.by_server(record.record().estate(current.reference())))
                .collect();
            Ok((change, drafts?))
        });
        match drafted {
            Ok((change, some)) => {
                drafts.extend(some);
                recorded.push(change);
            }
            Err(refusal) => {
                tracing::error!(%ring, %refusal, "boots of this ring are not approved");
                unrecorded.insert(ring, refusal.finding().to_string());
            }
        }
    }
    if !drafts.is_empty() && known.as_deref() != Some(spki) {
        let rotation = body::KeyRotation {
            what: KEY.to_owned(),
            old: known.map(Base64),
            new: Some(Base64(spki.to_vec())),
            old_signature: None,
            new_signature: None,
            reason: format!("key {KEY} begins its tenure"),
            statement: None,
        };
        drafts.insert(0, core.by_server(rotation.record())?);
    }
    // INVARIANT: an approval is in the ledger before anybody has it.
    let appended = match drafts.is_empty() {
        true => Ok(()),
        false => core.append(drafts).await.map(drop),
    };
    let mut rings = core.seals.lock();
    if let Err(refusal) = appended {
        let why = refusal.finding().to_string();
        let waiting = recorded.iter().filter(|change| !change.fresh.is_empty());
        unrecorded.extend(waiting.map(|change| (change.ring.clone(), why.clone())));
        rings.unrecorded = unrecorded;
        return Err(refusal);
    }
    rings.unrecorded = unrecorded;
    let changed = recorded.iter().map(|one| one.ring.clone()).collect();
    for change in recorded {
        tracing::info!(ring = %change.ring, epoch = change.set.scope.epoch,
            approved = change.set.approvals().len(), "boots are approved");
        rings.ending.remove(&change.ring);
        rings.sets.insert(change.ring, Arc::new(change.set));
    }
    Ok(changed)
}

/// Sends their approvals to the connected machines of `rings`, or to all of them.
fn tell(core: &Core, rings: Option<&BTreeSet<String>>) {
    let nodes: Vec<_> = core.state().nodes().cloned().collect();
    for node in nodes {
        if !core.workloads.connected(&node.name) {
            continue;
        }
        let Ok(facts) = core.machine_facts(&node) else {
            continue;
        };
        let Some(set) = of_machine(core, &facts) else {
            continue;
        };
        if rings.is_none_or(|rings| rings.contains(&set.scope.ring)) {
            core.workloads
                .send(&node.name, crate::node::update(update(&set)));
        }
    }
}

pub(crate) fn update(set: &ApprovalSet) -> Update {
    Update::Approvals(v1::Approvals {
        set: set.to_json().into_bytes(),
    })
}
