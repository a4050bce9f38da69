//! Whose TPMs the estate trusts, and which machine it means by one.

use crate::core::Core;
use crate::evict::is_evicted;
use crate::join::chip;
use crate::lock::may_join;
use crate::refusal::Refusal;
use attest_tpm::ak::Instance;
use attest_tpm::join::Chip;
use attest_tpm::{Authority, References};
use estate::{Certifies, Cloud, Estate, Machine};
use facts::{FactSet, names};
use std::collections::BTreeSet;
use store::NodeRow;

/// An estate says whose TPMs are trusted.
pub(crate) fn references(estate: &Estate) -> Result<References, Refusal> {
    let declared = estate.references();
    let mut references = References::default();
    for root in declared.tpm_roots.values() {
        // The root stands first; what follows it helps to build paths and is not trusted by itself.
        let mut given = Authority::from_pem(&root.pem)
            .map_err(Refusal::Precondition)?
            .into_iter();
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
pub(crate) fn placed(
    estate: &Estate,
    chip: &Chip,
    instance: Option<&Instance>,
) -> (String, Option<String>) {
    if let Some(machine) = chip::pinned(estate.references(), chip) {
        return (machine.name.clone(), machine.pool.clone());
    }
    let name = match instance {
        // A chip may have several keys that a cloud certified: they are one machine.
        Some(Instance {
            project_number, id, ..
        }) => format!("google-{project_number}-{id}"),
        None => format!("tpm-{}", chip::hex(chip).get(..12).unwrap_or_default()),
    };
    (name, None)
}

/// A machine of a cloud that is banned under one name does not come back under another, by another of its
/// keys. `facts` say which machine of its cloud it is, if they do.
pub(super) fn not_banned(core: &Core, name: &str, facts: &FactSet) -> Result<(), Refusal> {
    let Some(instance) = instance(facts) else {
        return Ok(());
    };
    let banned: Vec<NodeRow> = {
        let state = core.state();
        let out = |node: &&NodeRow| node.name != name && node.locked.is_some() && !is_evicted(node);
        state.nodes().filter(out).cloned().collect()
    };
    for node in banned {
        let facts = core.machine_facts(&node)?;
        if self::instance(&facts) == Some(instance) {
            may_join(&node)?;
        }
    }
    Ok(())
}

/// What a machine's cloud calls it: provider, project where it has such, and the machine's own id.
fn instance(facts: &FactSet) -> Option<[&str; 3]> {
    let provider = facts.text(names::MACHINE_CLOUD_PROVIDER)?;
    let project = facts
        .text(names::MACHINE_CLOUD_PROJECT_NUMBER)
        .unwrap_or_default();
    Some([
        provider,
        project,
        facts.text(names::MACHINE_CLOUD_INSTANCE_ID)?,
    ])
}
