//! Inclusion in a transparency log (Rekor): the proof, the checkpoint that it leads to, and the promise that
//! says when. An entry counts by its proof; a promise alone is the log's word that there will be one.

use super::bundle::{Entry, Proof};
use super::root::{Log, TrustedRoot};
use attest::Findings;
use facts::{Finding, Timestamp};
use ledger::Note;
use ledger::merkle::{leaf_hash, root_from_inclusion};

/// Clocks of two machines may differ by so many seconds.
pub(super) const SKEW: u64 = 60;

/// Checks that a log of `root` holds the entry, and returns when it promised to, if it did.
pub(super) fn check(
    entry: &Entry,
    root: &TrustedRoot,
    now: Timestamp,
    findings: &mut Findings,
) -> Option<Timestamp> {
    let Some(log) = root.logs.get(&entry.log) else {
        findings.push(
            Finding::new(
                "SIGSTORE-LOG-UNKNOWN",
                "the entry is of a log that the trusted root does not have",
            )
            .expected(known(root))
            .observed(crypto::hex::encode(&entry.log))
            .next("take the trusted root of the deployment that the code was signed with"),
        );
        return None;
    };
    match &entry.proof {
        Some(proof) => {
            included(entry, proof, findings);
            checkpoint(entry, proof, log, findings);
        }
        None => findings.push(
            unproved("the entry has no inclusion proof")
                .observed("a promise at most")
                .next("sign again with a client that writes bundles of version 0.2 or later"),
        ),
    }
    promised(entry, log, now, findings)
}

/// That the log's key counted at `at`, which is one of the times that the signature is known to be from.
pub(super) fn counted_at(entry: &Entry, root: &TrustedRoot, at: Timestamp) -> Result<(), Finding> {
    match root.logs.get(&entry.log) {
        Some(log) if !log.window.contains(at) => Err(Finding::new(
            "SIGSTORE-LOG-TIME",
            "the entry is from when its log did not count",
        )
        .expected(log.window.to_string())
        .observed(at.to_string())),
        _ => Ok(()),
    }
}

fn known(root: &TrustedRoot) -> String {
    let ids: Vec<_> = root.logs.keys().map(|id| crypto::hex::encode(id)).collect();
    if ids.is_empty() {
        "no log: this trusted root has none".to_owned()
    } else {
        ids.join(" or ")
    }
}

fn unproved(message: &str) -> Finding {
    Finding::new("SIGSTORE-LOG-PROOF", message)
        .expected("a Merkle proof from the entry to a signed checkpoint")
}

/// RFC 6962, section 2.1.1: the body is a leaf of the tree that the proof names.
fn included(entry: &Entry, proof: &Proof, findings: &mut Findings) {
    let leaf = leaf_hash(&entry.body);
    // Logs of the second generation have one tree, and no promise signs the entry's place.
    findings.check(
        !entry.is_of_one_tree() || entry.index == proof.index,
        || {
            unproved("the proof is of another place than the entry's")
                .expected(entry.index.to_string())
                .observed(proof.index.to_string())
        },
    );
    match root_from_inclusion(&leaf, proof.index, proof.size, &proof.hashes) {
        Ok(found) if found == proof.root => {}
        Ok(found) => findings.push(
            unproved("the proof leads to another root")
                .expected(crypto::hex::encode(&proof.root))
                .observed(crypto::hex::encode(&found)),
        ),
        Err(error) => {
            findings.push(unproved("the proof does not fit its tree").observed(error.to_string()))
        }
    }
}

/// c2sp.org/tlog-checkpoint: the log signed for a tree of this size with this root.
fn checkpoint(entry: &Entry, proof: &Proof, log: &Log, findings: &mut Findings) {
    let refused = |observed: &str| {
        Finding::new(
            "SIGSTORE-LOG-CHECKPOINT",
            "no checkpoint of the log stands behind the proof",
        )
        .expected("a checkpoint of the proof's size and root, signed by the log")
        .observed(observed)
    };
    let Some(text) = &proof.checkpoint else {
        findings.push(refused("none"));
        return;
    };
    let Ok(note) = Note::parse(text) else {
        findings.push(refused("not a signed note"));
        return;
    };
    let mut lines = note.text.lines();
    let (_origin, size, root) = (lines.next(), lines.next(), lines.next());
    let size = size.and_then(|size| size.parse::<u64>().ok());
    let root = root.and_then(|root| crypto::base64::decode(root).ok());
    findings.check(
        size == Some(proof.size) && root.as_deref() == Some(&proof.root),
        || refused("one of another tree"),
    );
    // The hint is the beginning of the log's id, for both kinds of logs.
    let [a, b, c, d, ..] = entry.log;
    let hint = u32::from_be_bytes([a, b, c, d]);
    let signed = note
        .signatures
        .iter()
        .filter(|line| line.id == hint)
        .any(|line| log.signed(note.text.as_bytes(), &line.bytes));
    findings.check(signed, || refused("one that the log did not sign"));
}

/// The signed entry timestamp, over the canonical JSON (RFC 8785) of what was taken in and when.
fn promised(
    entry: &Entry,
    log: &Log,
    now: Timestamp,
    findings: &mut Findings,
) -> Option<Timestamp> {
    let (promise, integrated) = (entry.promise.as_ref()?, entry.integrated);
    let message = format!(
        r#"{{"body":"{}","integratedTime":{},"logID":"{}","logIndex":{}}}"#,
        crypto::base64::encode(&entry.body),
        integrated.map_or(0, Timestamp::as_secs),
        crypto::hex::encode(&entry.log),
        entry.index
    );
    let kept = integrated.filter(|_| log.signed(message.as_bytes(), promise));
    let Some(integrated) = kept else {
        findings.push(
            Finding::new(
                "SIGSTORE-LOG-PROMISE",
                "the log did not promise to take in this entry at this time",
            )
            .expected("a signed entry timestamp by the log")
            .observed(integrated.map_or_else(|| "no time".to_owned(), |at| at.to_string())),
        );
        return None;
    };
    findings.check(integrated <= now.plus_secs(SKEW), || {
        future(integrated, now)
    });
    Some(integrated)
}

pub(super) fn future(at: Timestamp, now: Timestamp) -> Finding {
    Finding::new("SIGSTORE-TIME-FUTURE", "the signature is from the future")
        .expected(format!("at most {now}"))
        .observed(at.to_string())
        .next("check this machine's clock")
}
