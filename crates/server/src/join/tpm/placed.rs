//! Whose TPMs the estate trusts, and which machine it means by one.

use crate::core::Core;
use crate::evict::is_evicted;
use crate::lock::may_join;
use crate::refusal::Refusal;
use attest_tpm::References;
use estate::Estate;
use facts::{FactSet, names};
pub(crate) use recheck::tpm::placed;
use store::NodeRow;

/// As [`recheck::tpm::references`].
pub(crate) fn references(estate: &Estate) -> Result<References, Refusal> {
    recheck::tpm::references(estate).map_err(Refusal::Precondition)
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
