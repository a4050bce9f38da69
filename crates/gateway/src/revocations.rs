//! What is revoked, as followed from the server's ledger, and cuts that came ahead of their records.
//!
//! A revocation hits what was issued before its record, as in the server's own state: an identity that was
//! restored, or a machine that was readmitted, is issued anew and comes in; what it held before stays out.

use crate::{DelegatedLink, Principal};
use ledger::body::{Target, TargetKind};
use std::collections::BTreeMap;

/// Identities by path, SVIDs by serial, machines by node name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revocations {
    identities: BTreeMap<String, Mark>,
    serials: BTreeMap<String, Mark>,
    machines: BTreeMap<String, Mark>,
}

/// What is known of the revocations of one target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Mark {
    /// Index of the last one's record.
    recorded: u64,
    /// Cut, and the record has not come yet: everything is hit.
    ahead: bool,
}

impl Mark {
    /// What was recorded at `index`.
    const fn hits(self, index: u64) -> bool {
        self.ahead || index < self.recorded
    }
}

impl Revocations {
    /// The one kind that `kind` names in a pushed cut.
    #[must_use]
    pub fn target(kind: &str, value: &str) -> Option<Target> {
        let kind = match kind {
            "identity" => TargetKind::Identity,
            "serial" => TargetKind::Serial,
            "machine" => TargetKind::Machine,
            _ => return None,
        };
        Some(Target {
            kind,
            value: value.to_owned(),
        })
    }

    /// A cut whose record has not come yet.
    pub fn cut(&mut self, target: &Target) {
        self.mark(target).ahead = true;
    }

    /// The revocation of the record `index`.
    pub fn add(&mut self, target: &Target, index: u64) {
        let mark = self.mark(target);
        mark.recorded = mark.recorded.max(index);
        mark.ahead = false;
    }

    /// The history was given up from the record `stays` on: what was revoked in it goes on hitting what was
    /// issued before that, and nothing that is issued after.
    pub(crate) fn limit(&mut self, stays: u64) {
        let all = [&mut self.identities, &mut self.serials, &mut self.machines];
        for mark in all.into_iter().flat_map(BTreeMap::values_mut) {
            mark.recorded = mark.recorded.min(stays);
        }
    }

    pub fn remove(&mut self, target: &Target) {
        if !self.mark(target).ahead {
            self.set(target.kind).remove(normal(target));
        }
    }

    /// Whether `principal` is hit, and by what.
    #[must_use]
    pub fn hit(&self, principal: &Principal) -> Option<&'static str> {
        let hits = |marks: &BTreeMap<String, Mark>, name: &str| {
            marks
                .get(name)
                .is_some_and(|mark| mark.hits(principal.issuance))
        };
        if hits(&self.serials, &principal.serial) {
            Some("its SVID is revoked")
        } else if hits(&self.identities, &principal.path) {
            Some("its identity is revoked")
        } else if hits(&self.machines, &principal.node) {
            Some("its machine is revoked")
        } else {
            None
        }
    }

    /// Whether a delegation is hit, and by what: by its `jti`, which is revoked as a serial, or by the identity
    /// of either side, revoked since.
    #[must_use]
    pub fn hit_link(&self, link: &DelegatedLink) -> Option<&'static str> {
        let hits = |marks: &BTreeMap<String, Mark>, name: &str| {
            let mark = marks.get(name);
            mark.is_some_and(|mark| mark.hits(link.record))
        };
        let shown = link.shown.as_ref();
        if hits(&self.serials, &link.jti) {
            Some("it was taken back")
        } else if shown.is_some_and(|shown| hits(&self.serials, &shown.serial)) {
            Some("the SVID by which it was delegated is revoked")
        } else if hits(&self.identities, link.from.identity_path()) {
            Some("the identity of who delegated is revoked")
        } else if hits(&self.identities, link.to.identity_path()) {
            Some("the identity of its delegate is revoked")
        } else {
            None
        }
    }

    /// Whether somebody who is only told to have let another act was ever revoked. Since when they let it nobody has
    /// shown, so a restoration does not help.
    #[must_use]
    pub fn hit_claimed(&self, path: &str) -> bool {
        self.identities.contains_key(path)
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.identities.len() + self.serials.len() + self.machines.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn mark(&mut self, target: &Target) -> &mut Mark {
        let name = normal(target).to_owned();
        self.set(target.kind).entry(name).or_default()
    }

    const fn set(&mut self, kind: TargetKind) -> &mut BTreeMap<String, Mark> {
        match kind {
            TargetKind::Identity => &mut self.identities,
            TargetKind::Serial => &mut self.serials,
            TargetKind::Machine => &mut self.machines,
        }
    }
}

/// Whether `target` is `principal`.
pub(crate) fn concerns(target: &Target, principal: &Principal) -> bool {
    let value = normal(target);
    match target.kind {
        TargetKind::Identity => value == principal.path,
        TargetKind::Serial => value == principal.serial,
        TargetKind::Machine => value == principal.node,
    }
}

/// Whether `link` rests on `target`: on itself, by its `jti`, on the SVID by which it was asked for, or on the
/// identity of either side.
pub(crate) fn rests_on(target: &Target, link: &DelegatedLink) -> bool {
    let value = normal(target);
    match target.kind {
        TargetKind::Identity => {
            value == link.from.identity_path() || value == link.to.identity_path()
        }
        TargetKind::Serial => {
            let by = link.shown.as_ref().map(|shown| shown.serial.as_str());
            value == link.jti || by == Some(value)
        }
        TargetKind::Machine => false,
    }
}

/// Whether `target` is the identity at `path`.
pub(crate) fn is_identity(target: &Target, path: &str) -> bool {
    target.kind == TargetKind::Identity && normal(target) == path
}

/// Whether both name the same, however they are written.
pub(crate) fn same(one: &Target, other: &Target) -> bool {
    one.kind == other.kind && normal(one) == normal(other)
}

/// An identity may be written as its path or as its whole SPIFFE ID; a machine by name or node ID.
fn normal(target: &Target) -> &str {
    let value = target.value.as_str();
    let path = value
        .strip_prefix("spiffe://")
        .and_then(|rest| rest.split_once('/'))
        .map_or(value, |(_, path)| path);
    match target.kind {
        TargetKind::Machine => path.strip_prefix("trilith/node/").unwrap_or(path),
        TargetKind::Identity | TargetKind::Serial => path,
    }
}
