//! Whether two signed checkpoints are of one history, and the proof if they are not.

use crate::Failure;
use crate::misbehaviour::{Misbehaviour, Shown};
use crate::source::Source;
use crate::tiles::View;
use facts::Finding;
use ledger::lineage;
use ledger::merkle::Hash;
use ledger::{Digest, ForeignCheckpoint, LogKey};

/// A checkpoint that the log's key has signed, and who showed it.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) by: String,
    pub(crate) note: String,
    pub(crate) checkpoint: ForeignCheckpoint,
}

/// Checks that `longer`, whose tiles `source` has, goes on from `shorter`; `key` has signed both, or one before it has.
pub(crate) async fn one_history(
    key: &LogKey,
    shorter: &Head,
    longer: &Head,
    source: &Source,
) -> Result<(), Failure> {
    let (short, long) = (&shorter.checkpoint, &longer.checkpoint);
    let (root, proof) = match short.size == long.size {
        true => (long.root, Vec::new()),
        false => View::new(source, long).root_at(short.size).await?,
    };
    if root == short.root {
        return Ok(());
    }
    Err(forked(key, shorter, longer, root, &proof))
}

fn forked(key: &LogKey, first: &Head, second: &Head, root: Hash, proof: &[Hash]) -> Failure {
    let (short, long) = (&first.checkpoint.origin, &second.checkpoint.origin);
    let lineage = match key {
        LogKey::Note(newest) if short != long || newest.end_of(short).is_some() => {
            lineage::links(newest)
        }
        _ => Vec::new(),
    };
    let origin = match lineage.is_empty() {
        true => short.clone(),
        false => key.name().to_owned(),
    };
    let key = match key {
        LogKey::Note(key) => key.to_string(),
        LogKey::Cosigner(key) => key.to_string(),
    };
    let shown = |head: &Head| Shown {
        by: head.by.clone(),
        note: head.note.clone(),
    };
    let misbehaviour = Misbehaviour {
        v: 1,
        origin,
        key,
        lineage,
        first: shown(first),
        second: shown(second),
        root: Digest(root),
        proof: proof.iter().copied().map(Digest).collect(),
    };
    let finding = Finding::new("MONITOR-FORK", format!("{} has signed two histories", misbehaviour.origin))
        .expected(format!(
            "{} records that go on from the {} of {}",
            second.checkpoint.size, first.checkpoint.size, first.by
        ))
        .observed(format!(
            "at {} records the history that {} shows is another one",
            first.checkpoint.size, second.by
        ))
        .next("rely on nothing that this log says from now on; show the file to whoever relies on it, who checks it with `trilith monitor --misbehaviour FILE`");
    Failure::Misbehaved(finding, Box::new(misbehaviour))
}
