//! Sealed startup, the authority's half: approves the boots that the estate's reference values predict for a
//! ring, so that its machines can open what their TPMs have sealed.
//!
//! An approval is signed by a key of its own, is durable in the ledger before anybody has it, and is public
//! from then on. Whenever something that was approved is good no longer, the ring's epoch begins anew and its
//! machines seal anew. What a machine does with approvals, and what not: docs/operate/sealed-startup.md.

mod changes;

use crate::core::Core;
use crate::refusal::Refusal;
use crate::state::State;
use attest_tpm::seal::{Approval, ApprovalSet, Approver, MOST, Pcrs, Scope};
use changes::{Change, changes};
use crypto::{Algorithm, Custody, PublicKey, Signer};
use facts::{FactSet, Finding, names};
use ledger::Base64;
use ledger::body::{self, Body as _};
use ledger_store::Reader;
use proto::v1;
use proto::v1::node_update::Update;
use std::collections::BTreeMap;
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

    /// Why no boot of `ring` is approved although some are good there.
    pub(crate) fn why_none(&self, ring: &str) -> Option<Finding> {
        let missing = *self.lock().unpinned.get(ring)?;
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
/// good no longer; then tells the machines whom it concerns.
///
/// # Errors
/// What cannot be recorded: nobody has it then, and it is tried again.
pub(crate) async fn refresh(core: &Arc<Core>) -> Result<(), Refusal> {
    let _alone = core.seals.refreshing.lock().await;
    core.signing.check()?;
    let Some(current) = core.current.load_full() else {
        return Ok(());
    };
    let (judging, estate) = (Arc::clone(core), Arc::clone(&current));
    let changes = core
        .pool
        .run(move || changes(&judging, &estate, judging.now()))
        .await
        .map_err(|error| Refusal::internal("predicting boots", &error))?
        .map_err(Refusal::Unavailable)?;
    let mut drafts = Vec::new();
    let spki = core.seals.key.public_key().spki_der();
    if changes.iter().any(|change| !change.fresh.is_empty()) {
        let known = core.state().seal_key();
        if known.as_deref() != Some(spki) {
            let rotation = body::KeyRotation {
                what: KEY.to_owned(),
                old: known.map(Base64),
                new: Some(Base64(spki.to_vec())),
                old_signature: None,
                new_signature: None,
                reason: format!("key {KEY} begins its tenure"),
            };
            drafts.push(core.by_server(rotation.record())?);
        }
    }
    for record in changes.iter().flat_map(Change::records) {
        drafts.push(core.by_server(record.record().estate(current.reference()))?);
    }
    // INVARIANT: an approval is in the ledger before anybody has it.
    if !drafts.is_empty() {
        core.append(drafts).await?;
    }
    let changed: Vec<String> = changes.iter().map(|one| one.ring.clone()).collect();
    let everybody = {
        let mut rings = core.seals.lock();
        for change in changes {
            tracing::info!(ring = %change.ring, epoch = change.set.scope.epoch,
                approved = change.set.approvals().len(), "boots are approved");
            rings.sets.insert(change.ring, Arc::new(change.set));
        }
        // A new version may have moved machines to other rings.
        std::mem::replace(&mut rings.told, current.index) != current.index
    };
    if everybody || !changed.is_empty() {
        let telling = Arc::clone(core);
        let rings = (!everybody).then_some(changed);
        tokio::task::spawn_blocking(move || tell(&telling, rings.as_deref()))
            .await
            .map_err(|error| Refusal::internal("telling of boots", &error))?;
    }
    Ok(())
}

/// Sends their approvals to the connected machines of `rings`, or to all of them.
fn tell(core: &Core, rings: Option<&[String]>) {
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
