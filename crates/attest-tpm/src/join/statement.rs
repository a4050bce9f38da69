//! The facts of an affirmed join, each with the source that really stands behind it.

use super::anchor::Trust;
use super::{Chip, Proven};
use crate::quote::Quoted;
use crate::{ak, ek};
use crypto::hex;
use facts::{FactSet, Source, Timestamp, names};

/// What kind of TPM it is, and how the key that it is known by is trusted.
const fn kind(trust: &Trust) -> (&'static str, &'static str) {
    match trust {
        Trust::Endorsement(ek::Trust::Chain { emulated: true, .. })
        | Trust::Attestation(ak::Trust::Chain { emulated: true, .. }) => ("emulated", "verified"),
        Trust::Endorsement(ek::Trust::Chain { .. }) => ("unknown", "verified"),
        Trust::Attestation(ak::Trust::Chain { .. }) => ("cloud", "verified"),
        Trust::Attestation(ak::Trust::Vouched(_)) => ("tee", "vouched"),
        Trust::Endorsement(ek::Trust::Pinned) | Trust::Attestation(ak::Trust::Pinned) => {
            ("unknown", "pinned")
        }
    }
}

pub(super) fn facts(trust: &Trust, quoted: &Quoted, proven: &Proven, now: Timestamp) -> FactSet {
    let checked = Source::Verified;
    let root = proven.root;
    let (kind, chain) = kind(trust);
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
    let (digest, how) = match proven.chip {
        Chip::Endorsement(_) => (names::MACHINE_TPM_EK, names::MACHINE_TPM_EK_CHAIN),
        Chip::Attestation(_) => (names::MACHINE_TPM_AK, names::MACHINE_TPM_AK_CHAIN),
    };
    facts.state(how, chain, checked, now);
    facts.state(digest, hex::encode(proven.chip.sha256()), root, now);
    if let Trust::Endorsement(ek::Trust::Chain { manufacturer, .. })
    | Trust::Attestation(ak::Trust::Chain { manufacturer, .. }) = trust
    {
        let maker = manufacturer.as_str();
        facts.state(names::MACHINE_TPM_MANUFACTURER, maker, checked, now);
    }
    if let Some(instance) = trust.instance() {
        instance.state(&mut facts, checked, now);
    }
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
