//! The server's state in memory: a pure fold over its ledger.
//!
//! Nothing here reads a clock, a file, randomness, Cedar or a verifier: whatever follows from those
//! stands in the records as an outcome. The same rows, kept by `store`, make the state of the next
//! start; `rebuild_state` computes them again from the first record, and the two are equal.

mod clock;
mod counted;
mod delegations;
mod erased;
mod fold;
mod gateways;

use clock::Clock;
use delegations::Delegations;
pub(crate) use fold::FoldError;
pub(crate) use fold::node_of;

use ledger::body::TargetKind;
use ledger::{Digest, HexDigest};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use store::{
    BundleRow, Change, EstateRow, GatewayRow, MetaRow, NodeRow, RevocationRow, Snapshot, SvidRow,
    TokenRow,
};

/// How long an SVID or token stays in the state after its end, in milliseconds: as long as a
/// gateway's clock may be behind.
const GRACE: u64 = 10 * 60 * 1000;

/// Begins the key of the row of a head that a recovery gave up.
const ABANDONED: &str = "abandoned ";
/// Records of heads that were told before they were remembered beside the key, which is done each second: more than a
/// busy server makes in one.
const TOLD_UNREMEMBERED: u64 = 4_096;
/// Begins the key of the row of a ledger whose key signed two histories.
const MISBEHAVED: &str = "misbehaved ";
/// Begins the key of the row of a record by which the ledger went on as a new log.
const LINK: &str = "link ";
/// Of gateways' ledgers, by the first log's name and the record's index.
const GATEWAY_LINK: &str = "gateway-link ";

/// Everything that follows from the records applied so far.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// Number of records applied.
    applied: u64,
    clock: Clock,
    meta: BTreeMap<String, String>,
    nodes: BTreeMap<String, NodeRow>,
    tokens: BTreeMap<String, TokenRow>,
    svids: BTreeMap<u64, Arc<SvidRow>>,
    revocations: BTreeMap<u64, RevocationRow>,
    estates: BTreeMap<u64, EstateRow>,
    bundles: BTreeMap<u64, BundleRow>,
    /// By the name of the first log.
    gateways: BTreeMap<String, GatewayRow>,
    delegations: Delegations,
    // -- indices, made from the rows
    by_serial: HashMap<String, u64>,
    by_identity: HashMap<String, BTreeSet<u64>>,
    by_node: HashMap<String, BTreeSet<u64>>,
    /// The first half of the key's digest.
    by_key: HashMap<u128, u64>,
    /// (Unix milliseconds, index).
    by_expiry: BTreeSet<(u64, u64)>,
    /// Heads that were given up, by size and root: the recovery's index and the size that stayed.
    abandoned: BTreeMap<(u64, String), (u64, u64)>,
    /// Contents that are gone, and the records that say so.
    erased: BTreeMap<HexDigest, u64>,
    /// The newest revocation of each target.
    revoked: HashMap<(TargetKind, String), u64>,
    followed: gateways::Followed,
}

impl State {
    /// The state whose rows are `snapshot`, after `applied` records.
    #[must_use]
    pub(crate) fn from_snapshot(applied: u64, snapshot: Snapshot) -> Self {
        let mut state = Self {
            applied,
            ..Self::default()
        };
        let changes = snapshot
            .meta
            .into_iter()
            .map(Change::Meta)
            .chain(snapshot.nodes.into_iter().map(Change::Node))
            .chain(snapshot.tokens.into_iter().map(Change::Token))
            .chain(
                snapshot
                    .svids
                    .into_iter()
                    .map(|row| Change::Svid(Arc::new(row))),
            )
            .chain(snapshot.revocations.into_iter().map(Change::Revocation))
            .chain(snapshot.estates.into_iter().map(Change::Estate))
            .chain(snapshot.bundles.into_iter().map(Change::Bundle))
            .chain(snapshot.gateways.into_iter().map(Change::Gateway))
            .chain(snapshot.delegations.into_iter().map(Change::Delegation));
        for change in changes {
            state.absorb(&change);
        }
        state
    }

    /// The rows, as the store would list them.
    #[must_use]
    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot {
            meta: self
                .meta
                .iter()
                .map(|(key, value)| MetaRow {
                    key: key.clone(),
                    value: value.clone(),
                })
                .collect(),
            nodes: self.nodes.values().cloned().collect(),
            tokens: self.tokens.values().cloned().collect(),
            svids: self
                .svids
                .values()
                .map(|row| row.as_ref().clone())
                .collect(),
            revocations: self.revocations.values().cloned().collect(),
            estates: self.estates.values().cloned().collect(),
            bundles: self.bundles.values().cloned().collect(),
            gateways: {
                let mut rows: Vec<GatewayRow> = self.gateways.values().cloned().collect();
                // As the store does, by the name of the newest log.
                rows.sort_unstable_by(|one, other| one.origin.cmp(&other.origin));
                rows
            },
            delegations: self.delegations.all().cloned().collect(),
        }
    }

    /// SHA-256 over the canonical dump and the number of applied records.
    #[must_use]
    pub(crate) fn digest(&self) -> [u8; 32] {
        let dump = format!("applied {}\n{}", self.applied, self.snapshot().dump());
        crypto::sha256(dump.as_bytes())
    }

    /// Number of records applied: the index of the next.
    #[must_use]
    pub(crate) const fn applied(&self) -> u64 {
        self.applied
    }

    /// The latest wall time of any record in whole seconds, Unix milliseconds; what has ended by it is forgotten.
    #[must_use]
    pub(crate) const fn clock(&self) -> u64 {
        self.clock.wall
    }

    /// Whether records are of much later than [`State::clock`]: a leap since the last start is not taken yet.
    #[must_use]
    pub(crate) const fn leaps(&self) -> bool {
        self.clock.is_held()
    }

    #[must_use]
    pub(crate) fn node(&self, name: &str) -> Option<&NodeRow> {
        self.nodes.get(name)
    }

    /// What a chip has counted last, as far as it is recorded; `chip` is the lower-case hex SHA-256 of the key
    /// that it is known by.
    #[must_use]
    pub(crate) fn counted(&self, chip: &str) -> Option<attest_tpm::Counted> {
        counted::read(self.meta.get(&counted::key(chip))?)
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = &NodeRow> {
        self.nodes.values()
    }

    /// `hash` is the lower-case hex SHA-256 of the token.
    #[must_use]
    pub(crate) fn token(&self, hash: &str) -> Option<&TokenRow> {
        self.tokens.get(hash)
    }

    #[must_use]
    pub(crate) fn svid(&self, serial: &str) -> Option<&Arc<SvidRow>> {
        self.svids.get(self.by_serial.get(serial)?)
    }

    /// SVIDs that have not expired, in order of issuance.
    pub(crate) fn svids(&self) -> impl Iterator<Item = &Arc<SvidRow>> {
        self.svids.values()
    }

    pub(crate) fn svids_of(&self, spiffe_id: &str) -> impl Iterator<Item = &Arc<SvidRow>> {
        self.by_identity
            .get(spiffe_id)
            .into_iter()
            .flatten()
            .filter_map(|index| self.svids.get(index))
    }

    /// Those that were issued to a node and its workloads.
    pub(crate) fn svids_on(&self, node: &str) -> impl Iterator<Item = &Arc<SvidRow>> {
        self.by_node
            .get(node)
            .into_iter()
            .flatten()
            .filter_map(|index| self.svids.get(index))
    }

    /// The live SVID that certifies a key; `key` is the SHA-256 of its SPKI.
    #[must_use]
    pub(crate) fn svid_of_key(&self, key: &[u8; 32]) -> Option<&Arc<SvidRow>> {
        self.svids.get(self.by_key.get(&half(key))?)
    }

    /// Index of the newest revocation of the target.
    #[must_use]
    pub(crate) fn revoked(&self, kind: TargetKind, value: &str) -> Option<u64> {
        self.revoked.get(&(kind, value.to_owned())).copied()
    }

    /// True when no revocation covers the SVID: none of its serial, and none of its identity or
    /// machine after it was issued.
    #[must_use]
    pub(crate) fn stands(&self, svid: &SvidRow) -> bool {
        let before = |kind, value: &str| self.revoked(kind, value).is_none_or(|at| at < svid.index);
        self.revoked(TargetKind::Serial, &svid.serial).is_none()
            && before(TargetKind::Identity, &svid.spiffe_id)
            && before(TargetKind::Machine, &svid.node)
    }

    /// Index of a revocation of the identity that no restoration has followed.
    #[must_use]
    pub(crate) fn barred(&self, spiffe_id: &str) -> Option<u64> {
        let revoked = self.revoked(TargetKind::Identity, spiffe_id)?;
        let restored = self.meta.get(&format!("restored {spiffe_id}"));
        let restored = restored.and_then(|index| index.parse().ok());
        (restored.unwrap_or(0) <= revoked).then_some(revoked)
    }

    /// Whether everything that lives was judged by the estate version of record `index`. It was not
    /// if the server died between recording the version and revoking what that does not grant.
    #[must_use]
    pub(crate) fn judged(&self, index: u64) -> bool {
        let judged = self.meta.get("judged");
        judged.and_then(|judged| judged.parse().ok()) == Some(index)
    }

    /// Serials of X.509-SVIDs that are revoked and have not ended at `now`, in order, each with the index
    /// of the revocation that hit it.
    #[must_use]
    pub(crate) fn revoked_svids(&self, now: u64) -> Vec<(String, u64)> {
        let mut hit = BTreeMap::new();
        let mut machines = HashMap::new();
        for row in self.revocations.values() {
            match row.kind.as_str() {
                "serial" => {
                    let svid = self.by_serial.get(&row.value);
                    hit.extend(svid.map(|svid| (*svid, row.index)));
                }
                "identity" => {
                    let svids = self.by_identity.get(&row.value).into_iter().flatten();
                    let before = svids.filter(|svid| **svid < row.index);
                    hit.extend(before.map(|svid| (*svid, row.index)));
                }
                _ => {
                    machines.insert(row.value.as_str(), row.index);
                }
            }
        }
        for (machine, at) in machines {
            let svids = self.by_node.get(machine).into_iter().flatten();
            let before = svids.filter(|svid| **svid < at);
            hit.extend(before.map(|svid| (*svid, at)));
        }
        let mut serials: Vec<(String, u64)> = hit
            .into_iter()
            .filter_map(|(svid, at)| Some((self.svids.get(&svid)?, at)))
            .filter(|(svid, _)| svid.kind == "x509" && svid.not_after > now)
            .map(|(svid, at)| (svid.serial.clone(), at))
            .collect();
        serials.sort();
        serials
    }

    pub(crate) fn revocations(&self) -> impl Iterator<Item = &RevocationRow> {
        self.revocations.values()
    }

    /// Index of the recovery that gave up exactly this head.
    #[must_use]
    pub(crate) fn recovered(&self, size: u64, root: &[u8; 32]) -> Option<u64> {
        let head = (size, Digest(*root).to_string());
        self.abandoned.get(&head).map(|(index, _)| *index)
    }

    /// Ledgers whose keys signed two histories: origin, index of the newest record of it, kind, and by whom.
    pub(crate) fn misbehaved(&self) -> impl Iterator<Item = (&str, u64, &str, &str)> {
        self.meta.iter().filter_map(|(key, value)| {
            let origin = key.strip_prefix(MISBEHAVED)?;
            let mut words = value.splitn(3, ' ');
            let (index, kind, by) = (words.next()?, words.next()?, words.next()?);
            Some((origin, index.parse().ok()?, kind, by))
        })
    }

    /// The size that stayed when a history that reached to `size` was given up. `began`: of a log that went on from
    /// so many records of another, where what was given up of that one counts for nothing.
    #[must_use]
    pub(crate) fn given_up(&self, size: u64, began: Option<u64>) -> Option<u64> {
        let longer = self.abandoned.range((size, String::new())..);
        longer
            .map(|(_, (_, stayed))| *stayed)
            .filter(|stayed| *stayed < size && began.is_none_or(|began| *stayed > began))
            .max()
    }

    /// Whether the log that went on from `end` records of another gave up a history of that one which reached to `size`,
    /// or may have: what was told last is remembered beside the key a little later.
    ///
    /// INVARIANT: what may have been is counted from what the operator has given up, which comes before all that was
    /// since, so that who has the old key gets no further by what he was granted.
    #[must_use]
    pub(crate) fn went_back_to(&self, end: u64, size: u64) -> bool {
        let of_it = || {
            let rows = self.abandoned.iter();
            rows.filter(move |(_, (_, stayed))| *stayed == end)
        };
        let said = of_it().min_by_key(|(_, (index, _))| *index);
        let told = said.map(|((known, _), _)| known.saturating_add(TOLD_UNREMEMBERED));
        let longest = of_it().map(|((known, _), _)| *known).max();
        told.max(longest).is_some_and(|most| size <= most)
    }

    /// Whether a head of that size was given up: a history has one.
    #[must_use]
    pub(crate) fn gave_up_one_of(&self, size: u64) -> bool {
        let mut heads = self.abandoned.range((size, String::new())..);
        heads.next().is_some_and(|((known, _), _)| *known == size)
    }

    /// The records by which the ledger went on as a new log.
    #[must_use]
    pub(crate) fn links(&self) -> Vec<u64> {
        let rows = self.meta.range(LINK.to_owned()..);
        let rows = rows.take_while(|(key, _)| key.starts_with(LINK));
        rows.filter_map(|(_, index)| index.parse().ok()).collect()
    }

    /// The records by which heads were given up.
    pub(crate) fn recoveries(&self) -> impl Iterator<Item = u64> {
        self.abandoned.values().map(|(index, _)| *index)
    }

    /// The longest ledger that a recovery gave up.
    #[must_use]
    pub(crate) fn given_up_to(&self) -> u64 {
        let last = self.abandoned.last_key_value();
        last.map_or(0, |((size, _), _)| *size)
    }

    /// The current version of the estate.
    #[must_use]
    pub(crate) fn estate(&self) -> Option<&EstateRow> {
        self.estates.values().next_back()
    }

    /// Every version, oldest first.
    pub(crate) fn estates(&self) -> impl Iterator<Item = &EstateRow> {
        self.estates.values()
    }

    /// The current bundle.
    #[must_use]
    pub(crate) fn bundle(&self) -> Option<&BundleRow> {
        self.bundles.values().next_back()
    }

    /// Rings for which boots were approved, with the last epoch and the indices of its approvals.
    pub(crate) fn seals(&self) -> impl Iterator<Item = (&str, u64, Vec<u64>)> {
        let rows = self.meta.range(fold::SEAL.to_owned()..);
        rows.map_while(|(key, value)| Some((key.strip_prefix(fold::SEAL)?, value)))
            .filter_map(|(ring, value)| {
                let mut numbers = value.split(' ').filter_map(|number| number.parse().ok());
                Some((ring, numbers.next()?, numbers.collect()))
            })
    }

    /// The SPKI of the key that approves boots, as last recorded.
    pub(crate) fn seal_key(&self) -> Option<Vec<u8>> {
        crypto::base64::decode(self.meta.get(fold::SEAL_KEY)?).ok()
    }

    /// The one way in: rows change here and nowhere else, in the fold as at load.
    fn absorb(&mut self, change: &Change) {
        match change {
            Change::Meta(row) => {
                if row.key == "clock" {
                    self.clock = Clock::read(&row.value);
                }
                if let Some((head, stayed)) = abandoned(row) {
                    self.abandoned.insert(head, stayed);
                }
                match erased::read(row) {
                    Some((sha256, Some(index))) => drop(self.erased.insert(sha256, index)),
                    Some((sha256, None)) => drop(self.erased.remove(&sha256)),
                    None => {}
                }
                self.absorb_gateway_link(row);
                self.meta.insert(row.key.clone(), row.value.clone());
            }
            Change::Node(row) => {
                self.nodes.insert(row.name.clone(), row.clone());
            }
            Change::Token(row) => {
                self.tokens.insert(row.hash.clone(), row.clone());
            }
            Change::TokenGone(hash) => {
                self.tokens.remove(hash);
            }
            Change::Svid(row) => self.absorb_svid(row),
            Change::SvidGone(index) => self.remove_svid(*index),
            Change::Revocation(row) => {
                if let Some(kind) = target_kind(&row.kind) {
                    self.revoked.insert((kind, row.value.clone()), row.index);
                }
                self.revocations.insert(row.index, row.clone());
            }
            Change::RevocationGone(index) => {
                let Some(row) = self.revocations.remove(index) else {
                    return;
                };
                let Some(kind) = target_kind(&row.kind) else {
                    return;
                };
                let key = (kind, row.value);
                if self.revoked.get(&key) == Some(index) {
                    self.revoked.remove(&key);
                }
            }
            Change::Estate(row) => {
                self.estates.insert(row.index, row.clone());
            }
            Change::Bundle(row) => {
                self.bundles.insert(row.sequence, row.clone());
            }
            Change::Gateway(row) => self.absorb_gateway(row),
            // The row that takes its place comes first.
            Change::GatewayGone(_) => {}
            Change::Delegation(row) => self.delegations.put(row),
            Change::DelegationGone(index) => self.delegations.remove(*index),
        }
    }

    fn absorb_svid(&mut self, row: &Arc<SvidRow>) {
        self.by_serial.insert(row.serial.clone(), row.index);
        index(&mut self.by_identity, &row.spiffe_id, row.index);
        index(&mut self.by_node, &row.node, row.index);
        if let Some(key) = key_half(row) {
            self.by_key.insert(key, row.index);
        }
        self.by_expiry.insert((row.not_after, row.index));
        self.svids.insert(row.index, Arc::clone(row));
    }

    fn remove_svid(&mut self, index: u64) {
        let Some(row) = self.svids.remove(&index) else {
            return;
        };
        self.by_serial.remove(&row.serial);
        self.by_expiry.remove(&(row.not_after, index));
        unindex(&mut self.by_identity, &row.spiffe_id, index);
        unindex(&mut self.by_node, &row.node, index);
        if let Some(key) = key_half(&row)
            && self.by_key.get(&key) == Some(&index)
        {
            self.by_key.remove(&key);
        }
    }
}

/// A name is copied only where it is new.
fn index(indices: &mut HashMap<String, BTreeSet<u64>>, name: &str, index: u64) {
    match indices.get_mut(name) {
        Some(indices) => {
            indices.insert(index);
        }
        None => {
            indices.insert(name.to_owned(), BTreeSet::from([index]));
        }
    }
}

fn unindex(indices: &mut HashMap<String, BTreeSet<u64>>, name: &str, index: u64) {
    if let Some(of_name) = indices.get_mut(name) {
        of_name.remove(&index);
        if of_name.is_empty() {
            indices.remove(name);
        }
    }
}

fn half(key: &[u8; 32]) -> u128 {
    key.iter()
        .take(16)
        .fold(0, |sum, byte| sum << 8 | u128::from(*byte))
}

/// A JWT certifies no key: the digest in its record is that of its caller's.
fn key_half(row: &SvidRow) -> Option<u128> {
    if row.kind != "x509" {
        return None;
    }
    u128::from_str_radix(row.key.get(..32)?, 16).ok()
}

/// The head that a row gives up, the index of the recovery, and the size that stayed.
fn abandoned(row: &MetaRow) -> Option<((u64, String), (u64, u64))> {
    let (size, root) = row.key.strip_prefix(ABANDONED)?.split_once(' ')?;
    let (index, stayed) = row.value.split_once(' ')?;
    let head = (size.parse().ok()?, root.to_owned());
    Some((head, (index.parse().ok()?, stayed.parse().ok()?)))
}

pub(crate) fn target_kind(name: &str) -> Option<TargetKind> {
    match name {
        "identity" => Some(TargetKind::Identity),
        "serial" => Some(TargetKind::Serial),
        "machine" => Some(TargetKind::Machine),
        _ => None,
    }
}

pub(crate) const fn target_name(kind: TargetKind) -> &'static str {
    match kind {
        TargetKind::Identity => "identity",
        TargetKind::Serial => "serial",
        TargetKind::Machine => "machine",
    }
}
