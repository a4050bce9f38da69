//! The facts of an affirmed join, each with the source that really stands behind it.

use super::Proven;
use crate::ek::Trust;
use crate::quote::Quoted;
use crypto::hex;
use facts::{FactSet, Source, Timestamp, names};

pub(super) fn facts(trust: &Trust, quoted: &Quoted, proven: &Proven, now: Timestamp) -> FactSet {
    let checked = Source::Verified;
    let root = proven.root;
    let (kind, chain) = match trust {
        Trust::Chain { emulated: true, .. } => ("emulated", "verified"),
        Trust::Chain { .. } => ("unknown", "verified"),
        Trust::Pinned => ("unknown", "pinned"),
    };
    let mut facts = match &proven.booted {
        Some(booted) => booted.facts(root, now),
        None => {
            let mut facts = FactSet::new();
            facts.state(names::MACHINE_BOOT_STATE, "unknown", checked, now);
            facts
        }
    };
    facts.state(names::MACHINE_JOIN, "tpm", checked, now);
    facts.state(names::MACHINE_TPM_KIND, kind, checked, now);
    facts.state(names::MACHINE_TPM_EK_CHAIN, chain, checked, now);
    if let Trust::Chain { manufacturer, .. } = trust {
        facts.state(
            names::MACHINE_TPM_MANUFACTURER,
            manufacturer.as_str(),
            checked,
            now,
        );
    }
    facts.state(
        names::MACHINE_TPM_EK,
        hex::encode(&proven.ek_sha256),
        root,
        now,
    );
    facts.state(
        names::MACHINE_TPM_FIRMWARE,
        format!("{:016x}", quoted.firmware),
        root,
        now,
    );
    for (name, count) in [
        (names::MACHINE_BOOT_RESET_COUNT, proven.boot.reset_count),
        (names::MACHINE_BOOT_RESTART_COUNT, proven.boot.restart_count),
    ] {
        facts.state(name, count, root, now);
    }
    let key = if proven.session_key == proven.identity_key {
        "tpm"
    } else {
        "memory-vouched-by-tpm"
    };
    facts.state(names::MACHINE_KEY, key, root, now);
    facts
}
