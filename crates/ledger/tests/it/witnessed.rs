//! Packs and proof files under a quorum: what the witnesses of the trust file say, and what happens to lines of
//! others.

use crate::packs::{API, World, accesses, tiles, world};
use crate::support::{Memory, SERVER, cosigned, pq_witness, witness};
use ledger::pack::{Doubt, PackBuilder, Question, Trust, verify};
use ledger::{Code, LogKey, Note, Policy, ProofFile, merkle};

const TIME: u64 = 1_795_312_969;

/// Two of three: w11, w12 and pq15.
fn policy() -> Policy {
    let keys = [
        ("a", witness(11).key().to_string()),
        ("b", witness(12).key().to_string()),
        ("c", pq_witness(15).key().to_string()),
    ];
    let lines: String = keys
        .iter()
        .map(|(name, key)| format!("witness {name} {key}\n"))
        .collect();
    format!("{lines}group g 2 a b c\nquorum g\n")
        .parse()
        .unwrap()
}

/// The pack that answers, under the server's note as `note` has it; records under the note as it was signed.
pub(crate) fn pack_under(world: &World, note: &str) -> Vec<u8> {
    let plain = world.pack(&accesses(API), true).build();
    let mut pack = PackBuilder::new(&accesses(API), note);
    let report = verify(
        &plain,
        &Trust {
            policy: None,
            ..world.trust.clone()
        },
    )
    .unwrap();
    for found in &report.records {
        let number = usize::try_from(found.checkpoint).unwrap();
        let ledger = world.ledgers()[number];
        assert_eq!(pack.checkpoint(&ledger.note()), found.checkpoint);
        pack.receipt(&ledger.receipt(found.index));
    }
    for (number, ledger) in (0..).zip(world.ledgers()) {
        pack.checkpoint(&ledger.note());
        tiles(number, ledger, &mut pack);
    }
    for content in report.blobs.values() {
        pack.blob(content.clone());
    }
    pack.build()
}

pub(crate) fn under_policy() -> World {
    let mut world = world();
    world.trust.policy = Some(policy());
    world
}

#[test]
fn a_pack_under_a_quorum_is_shown_to_be_what_others_see() {
    let world = under_policy();
    let note = cosigned(&world.server.note(), &[&witness(11), &pq_witness(15)], TIME);
    let report = verify(&pack_under(&world, &note), &world.trust).unwrap();
    let quorum = report.quorum.clone().unwrap();
    assert!(report.is_complete() && quorum.reached);
    let by: Vec<(&str, u64)> = quorum
        .cosignatures
        .iter()
        .map(|one| (one.name.as_str(), one.time))
        .collect();
    assert_eq!(
        by,
        [
            ("witness.example/w11", TIME),
            ("witness.example/pq15", TIME)
        ]
    );
    assert_eq!(report.checkpoints.len(), 3);
}

#[test]
fn a_pack_that_too_few_have_witnessed_says_so() {
    let world = under_policy();
    for (by, cosigners) in [(0, vec![]), (1, vec![pq_witness(15)])] {
        let note = cosigned(
            &world.server.note(),
            &cosigners.iter().collect::<Vec<_>>(),
            TIME,
        );
        let report = verify(&pack_under(&world, &note), &world.trust).unwrap();
        assert!(!report.is_complete() && !report.quorum.as_ref().unwrap().reached);
        let (origin, cosigned) = (SERVER.to_owned(), by);
        assert_eq!(report.doubts, [Doubt::NotWitnessed { origin, cosigned }]);
        // Of what the ledger is, nothing is missing.
        assert!(report.extents.iter().all(|extent| extent.complete));
    }
    // A question for one record is answered, and its ledger is not witnessed.
    let question = Question::Record {
        ledger: SERVER.to_owned(),
        index: 0,
    };
    let report = verify(&world.pack(&question, false).build(), &world.trust).unwrap();
    assert!(matches!(report.doubts[..], [Doubt::NotWitnessed { .. }]));
}

/// A place for bytes that nobody vouches for would be a place to hide some.
#[test]
fn a_pack_carries_exactly_the_lines_that_the_policy_verifies() {
    let world = under_policy();
    let plain = world.server.note();
    let check = |note: &str, expected: &str| {
        let failure = verify(&pack_under(&world, note), &world.trust).unwrap_err();
        assert_eq!(
            (failure.code, failure.section.as_str()),
            (expected, "checkpoint/0")
        );
    };
    let good = cosigned(&plain, &[&witness(11), &pq_witness(15)], TIME);
    verify(&pack_under(&world, &good), &world.trust).unwrap();
    let stranger = cosigned(&good, &[&witness(16)], TIME);
    check(&stranger, "PACK-CHECKPOINT");
    check(
        &format!("{good}\u{2014} witness.example/w11 AAAAAAAAAAAAAAAA\n"),
        "PACK-CHECKPOINT",
    );
    let mut forged = Note::parse(&good).unwrap();
    forged.signatures[2].bytes[99] ^= 1;
    check(&forged.to_string(), "LEDGER-NOTE-SIGNATURE");
    let mut twice = Note::parse(&good).unwrap();
    twice.signatures.push(twice.signatures[1].clone());
    check(&twice.to_string(), "LEDGER-NOTE-SIGNATURE");
    let mut alone = Note::parse(&good).unwrap();
    alone.signatures.remove(0);
    check(&alone.to_string(), "LEDGER-NOTE-UNSIGNED");

    // Without a policy nobody vouches for any.
    let trust = Trust {
        policy: None,
        ..world.trust.clone()
    };
    let failure = verify(&pack_under(&world, &good), &trust).unwrap_err();
    assert_eq!(failure.code, "PACK-CHECKPOINT");
    let report = verify(&pack_under(&world, &plain), &trust).unwrap();
    assert!(report.quorum.is_none() && report.is_complete());
}

/// Who holds the ledger's key alone can fork; he cannot have both histories witnessed by honest ones.
#[test]
fn cosignatures_of_another_history_do_not_move() {
    let world = under_policy();
    let mut other = crate::packs::world();
    other.append(0, ledger::body::Body::record(&crate::packs::verdict()));
    let note = cosigned(&world.server.note(), &[&witness(11), &witness(12)], TIME);
    let mut moved = Note::parse(&other.server.note()).unwrap();
    moved
        .merge(Note::parse(&note).unwrap().signatures.split_off(1))
        .unwrap();
    let failure = verify(&pack_under(&other, &moved.to_string()), &world.trust).unwrap_err();
    assert_eq!(failure.code, "LEDGER-NOTE-SIGNATURE");
}

#[test]
fn a_trust_file_with_a_policy_reads_back() {
    let mut trust = under_policy().trust;
    let json = |trust: &Trust| serde_json::to_string(trust).unwrap();
    assert_eq!(Trust::from_json(&json(&trust)).unwrap(), trust);
    assert!(json(&trust).contains("\"policy\":\"witness a "));
    // Its ledger is among the logs that the policy lists, or it lists none.
    let own = trust.ledger_key.to_string();
    trust.policy = Some(format!("log {own}\n{}", policy()).parse().unwrap());
    assert_eq!(Trust::from_json(&json(&trust)).unwrap(), trust);
    assert_eq!(trust.logs(), [LogKey::Note(trust.ledger_key.clone())]);
    let foreign = Memory::new("example.net/log", 7);
    trust.policy = Some(
        format!("log {}\n{}", foreign.key(), policy())
            .parse()
            .unwrap(),
    );
    let error = Trust::from_json(&json(&trust)).unwrap_err();
    assert_eq!(error.code(), "PACK-TRUST");
    trust.policy = Some(policy());
    let broken = json(&trust).replace("quorum g", "quorum h");
    let error = Trust::from_json(&broken).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.starts_with("line 5: no witness or group"), "{cause}");
}

#[test]
fn a_proof_file_is_verified_under_the_quorum() {
    let world = under_policy();
    let trust = &world.trust;
    let logs = trust.logs();
    let logs: Vec<&LogKey> = logs.iter().collect();
    let receipt = world.server.receipt(3);
    let leaf = merkle::leaf_hash(&receipt.record);
    let under = |note: &str| -> ProofFile {
        let mut file = receipt.to_proof_file();
        file.checkpoint = note.to_owned();
        file.to_string().parse().unwrap()
    };
    let plain = world.server.note();
    let good = cosigned(&plain, &[&witness(11), &pq_witness(15)], TIME);
    let verified = under(&good)
        .verify(&leaf, &logs, trust.policy.as_ref())
        .unwrap();
    assert_eq!((verified.index, verified.checkpoint.size), (3, 9));
    assert_eq!(verified.quorum.unwrap().cosignatures.len(), 2);
    // Lines of others are ignored here, as everywhere but in a pack.
    let more = cosigned(&good, &[&witness(16)], TIME);
    under(&more)
        .verify(&leaf, &logs, trust.policy.as_ref())
        .unwrap();
    assert!(
        under(&plain)
            .verify(&leaf, &logs, None)
            .unwrap()
            .quorum
            .is_none()
    );

    let refused = |file: &ProofFile, leaf, expected: &str| {
        let failure = file.verify(leaf, &logs, trust.policy.as_ref()).unwrap_err();
        assert_eq!(failure.code(), expected);
    };
    refused(&under(&plain), &leaf, "LEDGER-QUORUM");
    refused(
        &under(&cosigned(&plain, &[&witness(12)], TIME)),
        &leaf,
        "LEDGER-QUORUM",
    );
    refused(&under(&good), &[0; 32], "LEDGER-PROOF-ROOT");
    let mut moved = under(&good);
    moved.index = 4;
    refused(&moved, &leaf, "LEDGER-PROOF-ROOT");
    let mut longer = under(&good);
    longer.hashes.push([0; 32]);
    refused(&longer, &leaf, "LEDGER-PROOF-LENGTH");
    let mut forged = Note::parse(&good).unwrap();
    forged.signatures[1].bytes[9] ^= 1;
    refused(&under(&forged.to_string()), &leaf, "LEDGER-NOTE-SIGNATURE");
    let foreign = Memory::new("example.org/other", 1);
    refused(&under(&foreign.note()), &leaf, "LEDGER-CHECKPOINT-ORIGIN");
    let usurper = Memory::new(SERVER, 3);
    refused(&under(&usurper.note()), &leaf, "LEDGER-NOTE-UNSIGNED");
}
