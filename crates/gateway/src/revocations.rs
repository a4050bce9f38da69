//! What is revoked, as followed from the server's ledger, and cuts that came ahead of their records.

use crate::Principal;
use ledger::body::{Target, TargetKind};
use std::collections::BTreeSet;

/// Identities by path, SVIDs by serial, machines by node name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revocations {
    identities: BTreeSet<String>,
    serials: BTreeSet<String>,
    machines: BTreeSet<String>,
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

    pub fn add(&mut self, target: &Target) {
        self.set(target.kind).insert(normal(target).to_owned());
    }

    pub fn remove(&mut self, target: &Target) {
        self.set(target.kind).remove(normal(target));
    }

    /// Whether `principal` is hit, and by what.
    #[must_use]
    pub fn hit(&self, principal: &Principal) -> Option<&'static str> {
        if self.serials.contains(&principal.serial) {
            Some("its SVID is revoked")
        } else if self.identities.contains(&principal.path) {
            Some("its identity is revoked")
        } else if self.machines.contains(&principal.node) {
            Some("its machine is revoked")
        } else {
            None
        }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.identities.len() + self.serials.len() + self.machines.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn set(&mut self, kind: TargetKind) -> &mut BTreeSet<String> {
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
