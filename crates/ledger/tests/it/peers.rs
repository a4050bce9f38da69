//! What other people's programs made, `docs/vectors/ledger/peers.json`: a log, two witnesses and their answers.
//! `tests/peers/tlog` says how; with `check` it judges ours.

use crate::vectors::dir;
use ledger::merkle::leaf_hash;
use ledger::witness::{AddCheckpoint, Answer, Known, Refusal, SIZE_TYPE, consider};
use ledger::{
    Checkpoint, CosignerKey, ForeignCheckpoint, LedgerKey, LogKey, Note, Policy, ProofFile, Scheme,
};
use serde_json::Value;

fn made() -> Value {
    let text = std::fs::read(dir().join("peers.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .expect(pointer)
}

fn witnesses(made: &Value) -> Vec<CosignerKey> {
    ["witness_ml_dsa_44", "witness_ed25519", "torchwood_ed25519"]
        .map(|name| text(made, &format!("/witnesses/{name}")).parse().unwrap())
        .to_vec()
}

#[test]
fn keys_and_cosignatures_of_others_verify() {
    let made = made();
    let keys = witnesses(&made);
    let schemes = keys.iter().map(CosignerKey::scheme);
    assert!(schemes.eq([Scheme::MlDsa44, Scheme::Ed25519, Scheme::Ed25519]));
    for (key, name) in keys.iter().zip(["ml_dsa_44", "ed25519"]) {
        assert_eq!(
            key.to_string(),
            text(&made, &format!("/witnesses/witness_{name}"))
        );
    }
    let log: LedgerKey = text(&made, "/log/key").parse().unwrap();
    let cosigned = text(&made, "/cosigned");
    let opened = Checkpoint::open(cosigned, &log).unwrap();
    assert_eq!(
        (opened.origin.as_str(), opened.size),
        ("go.example/log", 13)
    );
    let note = Note::parse(cosigned).unwrap();
    for key in &keys[..2] {
        let found = key.verify(&note).unwrap().unwrap();
        assert!(found.time > 1_790_000_000, "{}", found.time);
        let moved = Note {
            text: note.text.replace("\n13\n", "\n12\n"),
            ..note.clone()
        };
        assert!(key.verify(&moved).is_err());
    }
    assert!(keys[2].verify(&note).unwrap().is_none());

    // An origin with spaces and an extension line: none of our checkpoints, and cosigned all the same.
    let foreign = Note::parse(text(&made, "/foreign_checkpoint")).unwrap();
    let read = ForeignCheckpoint::parse(&foreign.text).unwrap();
    assert_eq!(
        (read.origin.as_str(), read.extensions.len()),
        ("go example log", 1)
    );
    assert!(Checkpoint::parse(&foreign.text).is_err());
    for key in &keys {
        assert!(key.verify(&foreign).unwrap().is_some());
    }
    let note = Note::parse(text(&made, "/ml_dsa_44_checkpoint")).unwrap();
    let log: CosignerKey = text(&made, "/pq_log/key").parse().unwrap();
    assert_eq!(LogKey::Cosigner(log).open(&note).unwrap().size, 20);
}

/// Each answer of the witness is read as what it is, and each request is the bytes that we would send.
#[test]
fn requests_and_answers_of_others_read_back() {
    let made = made();
    let (mut seen, keys) = (Vec::new(), witnesses(&made));
    for exchange in made["exchanges"].as_array().unwrap() {
        let request: AddCheckpoint = text(exchange, "/request").parse().unwrap();
        assert_eq!(request.to_string(), text(exchange, "/request"));
        let status = u16::try_from(exchange["status"].as_u64().unwrap()).unwrap();
        let kind = Some(text(exchange, "/content_type"));
        let body = text(exchange, "/answer");
        let answer = Answer::parse(status, kind, body.as_bytes()).unwrap();
        seen.push(answer.status());
        match &answer {
            Answer::Cosigned(lines) => {
                assert_eq!(answer.body(), body);
                for key in &keys[..2] {
                    let accepted = key.accept(&request.note.text, lines).unwrap();
                    assert_eq!(accepted.len(), 1);
                    let mut note = request.note.clone();
                    note.merge(accepted).unwrap();
                    assert!(key.verify(&note).unwrap().is_some());
                }
            }
            Answer::Conflict { size } => {
                assert_eq!((kind, *size), (Some(SIZE_TYPE), 7));
                assert_eq!(answer.body(), body);
            }
            Answer::Refused { .. } => {}
        }
    }
    seen.sort_unstable();
    seen.dedup();
    // For a note that no known key signed this witness answers 500, where the specification has 403.
    for expected in [200, 400, 404, 409, 422, 500] {
        assert!(seen.contains(&expected), "{expected} in {seen:?}");
    }
}

/// Asked the same, we would have cosigned the same and refused the rest alike.
#[test]
fn what_another_witness_decided_we_decide() {
    let made = made();
    let log = LogKey::Note(text(&made, "/log/key").parse().unwrap());
    let keys = [log];
    let mut last = None;
    for exchange in made["exchanges"].as_array().unwrap() {
        let request: AddCheckpoint = text(exchange, "/request").parse().unwrap();
        let known = Known { keys: &keys, last };
        let of_it = request.checkpoint.origin == text(&made, "/log/origin");
        let decided = consider(&request, of_it.then_some(&known));
        let status = match &decided {
            Ok(()) => 200,
            Err(refusal) => refusal.answer().status(),
        };
        // The specification has 403 where that witness has an error of its own.
        let theirs = match exchange["status"].as_u64().unwrap() {
            500 => 403,
            other => other,
        };
        assert_eq!(u64::from(status), theirs, "{exchange}");
        if let Err(refusal @ Refusal::Conflict { .. }) = &decided {
            assert_eq!(refusal.answer().body(), text(exchange, "/answer"));
        }
        if decided.is_ok() {
            last = Some((request.checkpoint.size, request.checkpoint.root));
        }
    }
    assert_eq!(last.unwrap().0, 13);
}

#[test]
fn a_proof_of_others_verifies_under_a_policy_of_their_keys() {
    let made = made();
    let [pq, ed, wood] = &witnesses(&made)[..] else {
        panic!("three witnesses")
    };
    let file: ProofFile = text(&made, "/tlog_proof/proof").parse().unwrap();
    let leaf = leaf_hash(text(&made, "/tlog_proof/record").as_bytes());
    let log = LogKey::Note(text(&made, "/log/key").parse().unwrap());
    let policy = |quorum: &str| -> Policy {
        let lines = format!("witness pq {pq}\nwitness ed {ed}\nwitness wood {wood}\n");
        format!("{lines}{quorum}\n").parse().unwrap()
    };
    let enough = policy("group g all pq ed\nquorum g");
    let verified = file.verify(&leaf, &[&log], Some(&enough)).unwrap();
    assert_eq!((verified.index, verified.checkpoint.size), (6, 13));
    let too_few = policy("group g all pq ed wood\nquorum g");
    assert!(file.verify(&leaf, &[&log], Some(&too_few)).is_err());
    assert!(
        file.verify(&leaf_hash(b"leaf 5"), &[&log], Some(&enough))
            .is_err()
    );
}
