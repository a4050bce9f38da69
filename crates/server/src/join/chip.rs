//! The key that a machine's TPM is known by, and the machine that the estate means by it.

use attest_tpm::Counted;
use attest_tpm::join::Chip;
use estate::{Machine, References};
use facts::{Fact, FactSet, names};
use ledger::{Decimal, body};
pub(crate) use recheck::tpm::hex;

/// The fact that says which chip a machine has: its endorsement key, or its attestation key where it has
/// no other. None for a machine that joined without a TPM.
pub(crate) fn fact(facts: &FactSet) -> Option<&Fact> {
    let names = [names::MACHINE_TPM_EK, names::MACHINE_TPM_AK];
    names.into_iter().find_map(|name| facts.fact(name))
}

/// Whether the facts are of a machine with this chip.
pub(crate) fn is_of(facts: &FactSet, chip: &Chip) -> bool {
    facts.text(name(chip)) == Some(hex(chip).as_str())
}

/// What the chip with this key counts, as records say it. `None` where the key is not known.
pub(crate) fn counted(key: Option<&str>, counted: Counted) -> Option<body::Counted> {
    Some(body::Counted {
        chip: key?.parse().ok()?,
        resets: counted.clock.reset_count,
        restarts: counted.clock.restart_count,
        clock: Decimal(counted.clock.clock),
        firmware: Decimal(counted.firmware),
    })
}

/// The key in [`fact`].
pub(crate) fn known(facts: &FactSet) -> Option<&str> {
    facts.text(&fact(facts)?.name)
}

/// The machine that the estate means, by what is known of its chip.
pub(crate) fn machine<'a>(references: &'a References, facts: &FactSet) -> Option<&'a Machine> {
    if let Some(ek) = facts.text(names::MACHINE_TPM_EK) {
        return references.machine_of_ek(ek);
    }
    references.machine_of_ak(facts.text(names::MACHINE_TPM_AK)?)
}

const fn name(chip: &Chip) -> &'static str {
    match chip {
        Chip::Endorsement(_) => names::MACHINE_TPM_EK,
        Chip::Attestation(_) => names::MACHINE_TPM_AK,
    }
}
