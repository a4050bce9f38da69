//! What a refusal says to do next where something would allow it: the lines of an estate's `[[tee]]`, or the
//! command that gets what is missing. Written for whoever knows that the machine is good; nothing is decided here.

use crate::artefact::Artefact;
use crate::snp::{Generation, Policy, Tcb};
use crypto::hex;
use std::collections::{BTreeMap, BTreeSet};

/// Registers that say what booted, where nothing is listed yet: of enclaves the first three, of a NitroTPM
/// boot loader, Secure Boot and kernel.
const TELLING: [u8; 6] = [0, 1, 2, 4, 7, 11];

/// What an operator runs, on whatever machine has a network.
pub(crate) fn to_fetch(vendor: &str, artefacts: &[Artefact]) -> String {
    let names: Vec<_> = artefacts.iter().map(ToString::to_string).collect();
    format!(
        "fetch it from {vendor} into the server's bundle: trilith attest endorsements fetch --into \
         endorsements.json {}; or let the server fetch (tee_fetch): docs/attestation/endorsements.md",
        names.join(" ")
    )
}

/// An image by what was measured of it.
pub(crate) fn image(by: &str, digest: &[u8]) -> String {
    listed(&format!("{by} = \"{}\"", hex::encode(digest)))
}

/// An image by registers: those that are listed of others, else those that say what booted.
pub(crate) fn registers(measured: &BTreeMap<u8, [u8; 48]>, asked: &BTreeSet<u8>) -> String {
    let wanted = |index: &u8| {
        if asked.is_empty() {
            TELLING.contains(index)
        } else {
            asked.contains(index)
        }
    };
    let lines = measured
        .iter()
        .filter(|(index, value)| wanted(index) && **value != [0; 48])
        .map(|(index, value)| format!("{index} = \"{}\"", hex::encode(value)));
    let lines: Vec<_> = lines.collect();
    listed(&format!("[tee.image.pcrs]` and `{}", lines.join("` and `")))
}

fn listed(line: &str) -> String {
    format!(
        "if it is yours, add to the estate's [[tee]] of this pool the lines `[[tee.image]]`, \
         `name = \"NAME\"` and `{line}`"
    )
}

/// The least TCB that this machine reaches.
pub(crate) fn floor(generation: Generation, tcb: Tcb) -> String {
    let fmc = match generation {
        Generation::Turin => format!("`fmc = {}`, ", tcb.fmc),
        Generation::Milan | Generation::Genoa => String::new(),
    };
    format!(
        "`[[tee.floor]]`, `generation = \"{}\"`, {fmc}`bootloader = {}`, `tee = {}`, `snp = {}` and \
         `microcode = {}`",
        generation.word(),
        tcb.bootloader,
        tcb.tee,
        tcb.snp,
        tcb.microcode
    )
}

/// The lines of `[tee.policy]` that ask too much of a guest's policy.
pub(crate) fn policy(forbidden: u64, missing: u64) -> String {
    const WORDS: [(u64, &str); 8] = [
        (Policy::SMT, "smt"),
        (Policy::MIGRATION, "migration"),
        (Policy::SINGLE_SOCKET, "single-socket"),
        (Policy::CXL, "cxl"),
        (Policy::AES_256_XTS, "aes256-xts"),
        (Policy::RAPL_DISABLED, "rapl-disabled"),
        (Policy::CIPHERTEXT_HIDING, "ciphertext-hiding"),
        (Policy::PAGE_SWAP_DISABLED, "page-swap-disabled"),
    ];
    without(
        "launch the guest with another policy",
        &[("forbidden", forbidden), ("required", missing)],
        &WORDS,
    )
}

/// The lines of `[tee.policy]` that ask too much of a host.
pub(crate) fn platform(missing: u64) -> String {
    const WORDS: [(u64, &str); 5] = [
        (Policy::PLATFORM_TSME, "tsme"),
        (Policy::PLATFORM_ECC, "ecc"),
        (Policy::PLATFORM_RAPL_DISABLED, "rapl-disabled"),
        (Policy::PLATFORM_CIPHERTEXT_HIDING, "ciphertext-hiding"),
        (Policy::PLATFORM_ALIAS_CHECKED, "alias-checked"),
    ];
    without(
        "change the host's firmware settings",
        &[("platform", missing)],
        &WORDS,
    )
}

/// What else than to take words out of lists. A bit without a word is of no list.
fn without(first: &str, lists: &[(&str, u64)], words: &[(u64, &str)]) -> String {
    let mut text = first.to_owned();
    for (list, bits) in lists {
        let named: Vec<_> = words
            .iter()
            .filter(|(bit, _)| bits & bit != 0)
            .map(|(_, word)| format!("\"{word}\""))
            .collect();
        if !named.is_empty() {
            text.push_str(&format!(
                ", or take {} out of `{list}` of [tee.policy] in the estate's [[tee]]{}",
                named.join(" and "),
                match *list {
                    "forbidden" => " (by default \"migration\" and \"cxl\")",
                    _ => "",
                }
            ));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_of_a_policy_are_named_as_the_estate_names_them() {
        let said = policy(Policy::CXL, Policy::SINGLE_SOCKET | 1 << 17);
        assert!(said.contains("\"cxl\" out of `forbidden`"), "{said}");
        assert!(
            said.contains("\"single-socket\" out of `required`"),
            "{said}"
        );
        // A reserved bit is in no list.
        assert_eq!(policy(0, 1 << 17), "launch the guest with another policy");
        let said = platform(Policy::PLATFORM_ALIAS_CHECKED);
        assert!(
            said.contains("\"alias-checked\" out of `platform`"),
            "{said}"
        );
    }

    #[test]
    fn registers_are_those_that_the_listed_images_have() {
        let measured: BTreeMap<u8, [u8; 48]> = [(4, [4; 48]), (7, [7; 48]), (9, [9; 48])].into();
        let all = registers(&measured, &BTreeSet::new());
        assert!(all.contains("`4 = \"0404") && all.contains("`7 = \"0707"));
        assert!(!all.contains("`9 = "));
        let asked = registers(&measured, &BTreeSet::from([9]));
        assert!(asked.contains("`9 = \"0909") && !asked.contains("`4 = "));
    }
}
