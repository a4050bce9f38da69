//! Whose TPMs an estate trusts, which machine it means by one, and what of a TPM is quoted.

use attest_tpm::ak::Instance;
use attest_tpm::join::Chip;
use attest_tpm::{Authority, References};
use estate::{Certifies, Cloud, Estate, Machine};
use facts::Finding;
use std::collections::BTreeSet;

/// The PCRs that are quoted: firmware, boot loader, Secure Boot, kernel and what it was given, and what the
/// kernel measures (10).
pub const PCRS: &[u32] = &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14];

/// An estate says whose TPMs are trusted.
///
/// # Errors
/// What [`Authority::from_pem`] finds in a root.
pub fn references(estate: &Estate) -> Result<References, Finding> {
    let declared = estate.references();
    let mut references = References::default();
    for root in declared.tpm_roots.values() {
        // The root stands first; what follows it helps to build paths and is not trusted by itself.
        let mut given = Authority::from_pem(&root.pem)?.into_iter();
        let authorities = match root.certifies {
            Certifies::EndorsementKeys => &mut references.ek,
            Certifies::AttestationKeys => &mut references.ak,
        };
        let roots = if root.emulated {
            &mut authorities.emulated
        } else {
            &mut authorities.roots
        };
        let first = given.next();
        roots.extend(match root.cloud {
            Some(Cloud::Google) => first.map(|root| root.of_cloud(attest_tpm::Cloud::Google)),
            None => first,
        });
        authorities.intermediates.extend(given);
    }
    let pins = |of: fn(&Machine) -> &BTreeSet<String>| {
        let digests = declared.machines.values().flat_map(of);
        let read = |digest: &String| crypto::hex::decode(digest).ok()?.try_into().ok();
        digests.filter_map(read).collect()
    };
    references.pinned_ek = pins(|machine| &machine.ek_sha256);
    references.pinned_ak = pins(|machine| &machine.ak_sha256);
    Ok(references)
}

/// Name and pool of the machine with this chip. One that the estate does not name is known by what its cloud
/// calls it, else by its key, and stands in no pool.
#[must_use]
pub fn placed(
    estate: &Estate,
    chip: &Chip,
    instance: Option<&Instance>,
) -> (String, Option<String>) {
    if let Some(machine) = pinned(estate, chip) {
        return (machine.name.clone(), machine.pool.clone());
    }
    let name = match instance {
        // A chip may have several keys that a cloud certified: they are one machine.
        Some(Instance {
            project_number, id, ..
        }) => format!("google-{project_number}-{id}"),
        None => format!("tpm-{}", hex(chip).get(..12).unwrap_or_default()),
    };
    (name, None)
}

/// The machine that the estate means by a chip.
fn pinned<'a>(estate: &'a Estate, chip: &Chip) -> Option<&'a Machine> {
    let references = estate.references();
    match chip {
        Chip::Endorsement(_) => references.machine_of_ek(&hex(chip)),
        Chip::Attestation(_) => references.machine_of_ak(&hex(chip)),
    }
}

/// The key that a chip is known by. Lower-case.
#[must_use]
pub fn hex(chip: &Chip) -> String {
    crypto::hex::encode(chip.sha256())
}
