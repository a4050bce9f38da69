//! Comparisons with a value that there never is: where the set of values is closed, by what verifiers state
//! or by what is declared, anything else is a slip of the pen, and the condition never what it looks like.

use super::declared::{Declared, Name};
use super::reading::{comparisons, fact_of};
use super::{Means, Remark, Severity};
use crate::decision::PolicyRef;
use crate::declare::{IdentityKind, TcbStatus};
use crate::estate::Estate;
use crate::suggest::did_you_mean;
use cedar_policy::pst::Template;
use facts::names;
use std::collections::{BTreeMap, BTreeSet};

/// All that verifiers of this version state of a fact. A test holds the lists against what
/// `facts::names` says.
const STATED: [(&str, &[&str]); 22] = [
    (names::MACHINE_JOIN, &["tpm", "enclave", "token"]),
    (
        names::MACHINE_KEY,
        &[
            "tpm",
            "memory",
            "memory-vouched-by-tpm",
            "memory-of-enclave",
        ],
    ),
    (
        names::MACHINE_TPM_KIND,
        &["emulated", "cloud", "tee", "unknown"],
    ),
    (names::MACHINE_TPM_EK_CHAIN, &["verified", "pinned"]),
    (
        names::MACHINE_TPM_AK_CHAIN,
        &["verified", "vouched", "pinned"],
    ),
    (names::MACHINE_CLOUD_PROVIDER, &["google", "azure"]),
    (
        names::MACHINE_BOOT_STATE,
        &["approved", "partial", "measured", "unknown"],
    ),
    (
        names::MACHINE_BOOT_MOK,
        &["none", "vendor", "other", "unknown"],
    ),
    (
        names::MACHINE_BOOT_LOADER,
        &["grub", "uki", "systemd-boot", "efi-stub", "unknown"],
    ),
    (
        names::MACHINE_IMA_STATE,
        &["approved", "measured", "none", "unknown"],
    ),
    (
        names::MACHINE_TEE_KIND,
        &[
            "sev-snp",
            "tdx",
            "sgx",
            "nitro",
            "nitro-tpm",
            "azure-snp",
            "azure-tdx",
        ],
    ),
    (names::MACHINE_TEE_GENERATION, &["milan", "genoa", "turin"]),
    (
        names::MACHINE_TEE_ENDORSEMENT,
        &["vcek", "vlek", "pck-platform", "pck-processor", "nitro"],
    ),
    (names::MACHINE_TEE_REVOCATION, &["checked", "unchecked"]),
    (names::MACHINE_TEE_EVENT_LOG, &["replayed"]),
    (names::MACHINE_TEE_TPM_BOUND, &["quote", "event-log", "key"]),
    (names::MACHINE_TEE_BOOT_STATE, &["approved", "measured"]),
    (
        names::MACHINE_TEE_BOOT_LOADER,
        &["grub", "uki", "systemd-boot", "efi-stub", "unknown"],
    ),
    (names::MACHINE_ENFORCEMENT, &["enforced", "observed"]),
    (names::WORKLOAD_CALLER, &["pidfd", "raceable"]),
    (names::CODE_MEASURED_BY, &["ima", "fs-verity", "file-hash"]),
    (names::WORKLOAD_HELPER, &["exec"]),
];

const TCB: [TcbStatus; 8] = [
    TcbStatus::UpToDate,
    TcbStatus::SWHardeningNeeded,
    TcbStatus::ConfigurationNeeded,
    TcbStatus::ConfigurationAndSWHardeningNeeded,
    TcbStatus::TDRelaunchAdvised,
    TcbStatus::TDRelaunchAdvisedConfigurationNeeded,
    TcbStatus::OutOfDate,
    TcbStatus::OutOfDateConfigurationNeeded,
];

const KINDS: [IdentityKind; 6] = [
    IdentityKind::Service,
    IdentityKind::Job,
    IdentityKind::AiAgent,
    IdentityKind::Person,
    IdentityKind::Gateway,
    IdentityKind::Node,
];

/// A closed set of values, and who closes it.
struct Closed<'a> {
    by: Means,
    values: BTreeSet<&'a str>,
}

/// Of policies, and of invariants: one about a value that there never is holds whatever happens.
pub(super) fn check(estate: &Estate, declared: &Declared, remarks: &mut Vec<Remark>) {
    let closed = closed(estate, declared);
    for info in &estate.policies.list {
        check_one(&info.reference, &info.body, &closed, remarks);
    }
    for invariant in &estate.invariants {
        if let Ok(policy) = invariant.policy.to_pst() {
            check_one(&invariant.reference, policy.body(), &closed, remarks);
        }
    }
}

fn check_one(
    reference: &PolicyRef,
    body: &Template,
    closed: &BTreeMap<&str, Closed<'_>>,
    remarks: &mut Vec<Remark>,
) {
    for comparison in comparisons(body) {
        let key = match comparison.path.as_str() {
            path @ ("principal.kind" | "resource.classification") => path.to_owned(),
            path => match fact_of(path) {
                Some(fact) => fact,
                None => continue,
            },
        };
        let Some(closed) = closed.get(key.as_str()) else {
            continue;
        };
        for text in &comparison.texts {
            if !closed.values.contains(&text.as_str()) {
                remarks.push(remark(reference, &comparison.path, text, closed));
            }
        }
    }
}

fn remark(reference: &PolicyRef, path: &str, text: &str, closed: &Closed<'_>) -> Remark {
    const MOST: usize = 12;
    let next = did_you_mean(text, closed.values.iter().copied()).unwrap_or_else(|| {
        match (closed.values.len(), closed.by) {
            (0, _) => "nothing of the kind is declared: declare it first".to_owned(),
            (count, _) if count > MOST => "declare it, or compare with what is declared".to_owned(),
            _ => {
                let values: Vec<&str> = closed.values.iter().copied().collect();
                format!("there is {}", values.join(", "))
            }
        }
    });
    let who = match closed.by {
        Means::Declarations => "nothing declared is called so",
        Means::Text | Means::Solver => "there is no such value",
    };
    let message = format!("`{path}` is compared with {text:?}: {who}");
    Remark::of_policy(
        Severity::Error,
        closed.by,
        "LINT-VALUE-UNKNOWN",
        reference,
        message,
        next,
    )
}

fn closed<'a>(estate: &'a Estate, declared: &'a Declared) -> BTreeMap<&'static str, Closed<'a>> {
    let mut closed = BTreeMap::new();
    for (name, values) in STATED {
        let values = values.iter().copied().collect();
        closed.insert(
            name,
            Closed {
                by: Means::Text,
                values,
            },
        );
    }
    // Beside the machine's own, code has a word of enforcement with the same values.
    for (name, values) in [
        (
            names::CODE_ENFORCEMENT,
            BTreeSet::from(["enforced", "observed"]),
        ),
        (
            names::MACHINE_TEE_TCB_STATUS,
            TCB.iter().map(|status| status.as_str()).collect(),
        ),
        (
            "principal.kind",
            KINDS.iter().map(|kind| kind.as_str()).collect(),
        ),
    ] {
        closed.insert(
            name,
            Closed {
                by: Means::Text,
                values,
            },
        );
    }
    let classifications = &estate.settings().classifications;
    let approvers = declared.signers.iter().map(|signer| signer.name.as_str());
    let approvers = approvers.chain(declared.provenance.iter().map(String::as_str));
    for (name, values) in [
        (
            "resource.classification",
            classifications.iter().map(String::as_str).collect(),
        ),
        (names::MACHINE_POOL, called(&declared.pools)),
        ("code.known_as", called(&declared.code)),
        (names::CODE_APPROVED_BY, approvers.clone().collect()),
        (names::CODE_IMAGE_APPROVED_BY, approvers.collect()),
    ] {
        closed.insert(
            name,
            Closed {
                by: Means::Declarations,
                values,
            },
        );
    }
    closed
}

fn called(names: &[Name]) -> BTreeSet<&str> {
    names.iter().map(|name| name.name.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text of a constant's documentation in `facts::names`, for the fact `name`.
    fn documented(name: &str) -> String {
        let source = include_str!("../../../facts/src/names.rs");
        let (before, _) = source
            .split_once(&format!("= {name:?};"))
            .unwrap_or_else(|| panic!("{name} is no fact"));
        let mut lines: Vec<&str> = before.lines().rev().skip(1).collect();
        let end = lines.iter().position(|line| !line.starts_with("///"));
        lines.truncate(end.unwrap_or(lines.len()));
        lines.reverse();
        lines.join("\n")
    }

    #[test]
    fn values_are_those_that_the_facts_are_documented_with() {
        for (name, values) in STATED {
            let text = documented(name);
            for value in values {
                assert!(
                    text.contains(&format!("`{value}`")),
                    "{name} {value}: {text}"
                );
            }
            let quoted = text.split('`').skip(1).step_by(2);
            for word in quoted.filter(|word| *word != "SO_PEERPIDFD") {
                assert!(values.contains(&word), "{name}: {word} is documented alone");
            }
        }
    }
}
