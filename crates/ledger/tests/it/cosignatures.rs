//! Cosignatures of both kinds: what they are over, what is refused, and what a witness is asked and answers.

use crate::support::{
    Memory, SERVER, cosigned, fixed_key, fixed_pq_key, issuance_record, pq_witness, witness,
};
use ledger::merkle::consistency_proof;
use ledger::witness::{
    AddCheckpoint, Answer, Known, MAX_PROOF_LINES, SIZE_TYPE, consider, origin_hash,
};
use ledger::{
    Checkpoint, Code, Cosigner, CosignerKey, ForeignCheckpoint, LedgerKey, LogKey, Note,
    NoteSignature, Scheme,
};

const TIME: u64 = 1_795_312_969;

fn ledger() -> Memory {
    let mut ledger = Memory::new(SERVER, 1);
    for _ in 0..3 {
        ledger.append(issuance_record());
    }
    ledger
}

#[test]
fn a_cosignature_is_over_the_checkpoint_the_time_and_the_kind() {
    let ledger = ledger();
    for (cosigner, scheme, length) in [
        (witness(11), Scheme::Ed25519, 8 + 64),
        (pq_witness(12), Scheme::MlDsa44, 8 + 2420),
    ] {
        let key = cosigner.key();
        let text = cosigned(&ledger.note(), &[&cosigner], TIME);
        let note = Note::parse(&text).unwrap();
        assert_eq!(note.signatures[1].bytes.len(), length);
        let found = key.verify(&note).unwrap().unwrap();
        assert_eq!((found.name.as_str(), found.id), (key.name(), key.id()));
        assert_eq!((found.scheme, found.time), (scheme, TIME));
        assert_eq!(
            key.verify(&Note::parse(&ledger.note()).unwrap()).unwrap(),
            None
        );
        // The ledger's own line still stands.
        assert_eq!(
            Checkpoint::open(&text, ledger.key()).unwrap(),
            ledger.checkpoint()
        );

        let refused = |change: &dyn Fn(&mut Note)| {
            let mut changed = note.clone();
            change(&mut changed);
            let error = key.verify(&changed).unwrap_err();
            assert_eq!(error.code(), "LEDGER-NOTE-SIGNATURE");
        };
        refused(&|note| note.text = note.text.replace("\n3\n", "\n4\n"));
        refused(&|note| note.text = note.text.replace("/server\n", "/server2\n"));
        refused(&|note| {
            note.text = Memory::new(SERVER, 1)
                .note()
                .replace("\n0\n", "\n3\n")
                .split_inclusive('\n')
                .take(3)
                .collect()
        });
        // Each byte of the time is signed, and so is each of the signature.
        for at in (0..length).step_by(7).chain([length - 1]) {
            refused(&|note| note.signatures[1].bytes[at] ^= 1);
        }
        for length in [0, 7, 8, length - 1] {
            refused(&|note| note.signatures[1].bytes.truncate(length));
        }
        refused(&|note| note.signatures[1].bytes.push(0));
        let twice = |note: &mut Note| note.signatures.push(note.signatures[1].clone());
        refused(&twice);
    }
}

#[test]
fn an_ml_dsa_cosignature_names_its_cosigner_and_an_ed25519_one_its_extension_lines() {
    let checkpoint = ForeignCheckpoint {
        extensions: vec!["more".to_owned()],
        ..ForeignCheckpoint::from(&ledger().checkpoint())
    };
    let text = checkpoint.text();
    let changed = text.replace("more", "less");
    let renamed = |line: &NoteSignature, key: &CosignerKey| NoteSignature {
        name: key.name().to_owned(),
        id: key.id(),
        bytes: line.bytes.clone(),
    };
    let other = Cosigner::new("witness.example/other", fixed_pq_key(12)).unwrap();
    let line = pq_witness(12).cosign(&checkpoint, TIME).unwrap();
    pq_witness(12).key().verify_line(&text, &line).unwrap();
    // "Checkpoint extension lines are not included in the signed message for ML-DSA-44 cosignatures".
    pq_witness(12).key().verify_line(&changed, &line).unwrap();
    let under = renamed(&line, other.key());
    assert!(other.key().verify_line(&text, &under).is_err());
    assert!(other.key().verify_line(&text, &line).is_err());

    let line = witness(11).cosign(&checkpoint, TIME).unwrap();
    witness(11).key().verify_line(&text, &line).unwrap();
    assert!(witness(11).key().verify_line(&changed, &line).is_err());
}

#[test]
fn a_time_that_cannot_be_stated_is_neither_signed_nor_believed() {
    let checkpoint = ForeignCheckpoint::from(&ledger().checkpoint());
    let last = i64::MAX.unsigned_abs();
    for cosigner in [witness(11), pq_witness(12)] {
        let line = cosigner.cosign(&checkpoint, last).unwrap();
        let found = cosigner
            .key()
            .verify_line(&checkpoint.text(), &line)
            .unwrap();
        assert_eq!(found.time, last);
        let error = cosigner.cosign(&checkpoint, last + 1).unwrap_err();
        assert_eq!(error.code(), "LEDGER-COSIGN");
    }
    // Signed all the same, by somebody who does not keep to it.
    let message = format!("cosignature/v1\ntime {}\n{}", last + 1, checkpoint.text());
    let signature = fixed_key(11).sign(message.as_bytes()).unwrap();
    let line = NoteSignature {
        name: witness(11).key().name().to_owned(),
        id: witness(11).key().id(),
        bytes: [&(last + 1).to_be_bytes(), signature.as_slice()].concat(),
    };
    assert!(
        witness(11)
            .key()
            .verify_line(&checkpoint.text(), &line)
            .is_err()
    );
    let long = ForeignCheckpoint {
        origin: "o".repeat(256),
        ..checkpoint
    };
    witness(11).cosign(&long, TIME).unwrap();
    assert_eq!(
        pq_witness(12).cosign(&long, TIME).unwrap_err().code(),
        "LEDGER-COSIGN"
    );
}

#[test]
fn a_cosigners_key_has_one_spelling_and_is_no_ledgers_key() {
    for cosigner in [witness(11), pq_witness(12)] {
        let written = cosigner.key().to_string();
        assert_eq!(&written.parse::<CosignerKey>().unwrap(), cosigner.key());
        assert!(written.parse::<LedgerKey>().is_err());
        let id = format!("{:08x}", cosigner.key().id());
        for wrong in [
            written.replace(&id, "00000000"),
            written
                .replace(&id, &id.to_uppercase())
                .replace("witness", "witnesz"),
            written.replacen('+', " ", 1),
            written.replace("witness.example", "witness example"),
            written[..written.len() - 4].to_owned(),
            format!("{written}AAAA"),
            String::new(),
        ] {
            let error = wrong.parse::<CosignerKey>().unwrap_err();
            assert_eq!(error.code(), "LEDGER-COSIGNER-KEY", "{wrong}");
        }
    }
    let ledgers = Memory::new(SERVER, 1).key().to_string();
    let error = ledgers.parse::<CosignerKey>().unwrap_err();
    assert!(
        error.to_string().starts_with("a key of type 0x01"),
        "{error}"
    );
    let p256 = crypto::KeyPair::generate(crypto::Algorithm::EcdsaP256).unwrap();
    let error = Cosigner::new("w", std::sync::Arc::new(p256)).unwrap_err();
    assert_eq!(error.code(), "LEDGER-COSIGNER-KEY");
    assert!(Cosigner::new("a name", fixed_key(1)).is_err());
}

#[test]
fn a_foreign_checkpoint_reads_back_and_ours_stays_strict() {
    let root = crypto::base64::encode(&[7; 32]);
    for text in [
        format!("go.sum database tree\n5\n{root}\n"),
        format!("go example log\n0\n{root}\nextension 1\n\"2\"\n"),
        format!("{SERVER}\n18446744073709551615\n{root}\n"),
    ] {
        let read = ForeignCheckpoint::parse(&text).unwrap();
        assert_eq!(read.text(), text);
        assert_eq!(Checkpoint::parse(&text).is_ok(), text.starts_with(SERVER));
    }
    for wrong in [
        String::new(),
        format!("\n5\n{root}\n"),
        format!("o\n5\n{root}"),
        format!("o\n05\n{root}\n"),
        format!("o\n5\n{root}\n\nx\n"),
        format!("o\n5\n{}\n", &root[4..]),
    ] {
        assert!(ForeignCheckpoint::parse(&wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn lines_are_merged_one_a_key_and_stripped_again() {
    let ledger = ledger();
    let plain = ledger.note();
    let (one, two) = (witness(11), pq_witness(12));
    let note = cosigned(&plain, &[&one, &two], TIME);
    let mut note = Note::parse(&note).unwrap();
    assert_eq!(note.signatures.len(), 3);
    let checkpoint = ForeignCheckpoint::from(&ledger.checkpoint());
    let later = one.cosign(&checkpoint, TIME + 1).unwrap();
    note.merge(vec![later]).unwrap();
    assert_eq!(note.signatures.len(), 3);
    assert_eq!(one.key().verify(&note).unwrap().unwrap().time, TIME + 1);
    assert_eq!(note.strip(ledger.key()).to_string(), plain);

    let before = note.clone();
    let many = (0..64_u32).map(|id| NoteSignature {
        name: "w".to_owned(),
        id,
        bytes: vec![1],
    });
    let error = note.merge(many.collect()).unwrap_err();
    assert_eq!(error.code(), "LEDGER-NOTE-FORMAT");
    assert_eq!(note, before);
    // So many witnesses as a policy can name, with the largest lines.
    let lines = (0..32_u32).map(|id| NoteSignature {
        name: "w".repeat(255),
        id,
        bytes: vec![1; 2428],
    });
    let mut large = Note::parse(&plain).unwrap();
    large.merge(lines.collect()).unwrap();
    assert_eq!(Note::parse(&large.to_string()).unwrap(), large);
}

#[test]
fn a_request_and_its_answers_read_back() {
    let ledger = ledger();
    let note = Note::parse(&cosigned(&ledger.note(), &[&pq_witness(12)], TIME)).unwrap();
    for proof in [vec![], vec![[1; 32], [2; 32]]] {
        let request = AddCheckpoint::new(2, proof, note.clone()).unwrap();
        let body = request.to_string();
        assert_eq!(body.parse::<AddCheckpoint>().unwrap(), request);
        assert_eq!(
            request.checkpoint,
            ForeignCheckpoint::from(&ledger.checkpoint())
        );
        for (from, to) in [
            ("old 2\n", "old 02\n"),
            ("old 2\n", "old -1\n"),
            ("old 2\n", ""),
            ("old 2\n", "new 2\n"),
            ("old 2\n", "old 2\nAA==\n"),
            ("\n\n", "\n"),
            ("\n3\n", "\n03\n"),
        ] {
            let wrong = body.replacen(from, to, 1);
            assert_ne!(wrong, body);
            let error = wrong.parse::<AddCheckpoint>().unwrap_err();
            assert_eq!(error.code(), "LEDGER-WITNESS-REQUEST", "{wrong}");
        }
    }
    AddCheckpoint::new(2, vec![[1; 32]; MAX_PROOF_LINES], note.clone()).unwrap();
    assert!(AddCheckpoint::new(2, vec![[1; 32]; MAX_PROOF_LINES + 1], note.clone()).is_err());

    let lines = note.signatures.clone();
    for (answer, kind) in [
        (Answer::Cosigned(lines.clone()), None),
        (Answer::Conflict { size: 7 }, Some(SIZE_TYPE)),
        (Answer::Refused { status: 422 }, None),
    ] {
        let (status, body) = (answer.status(), answer.body());
        assert_eq!(
            Answer::parse(status, kind, body.as_bytes()).unwrap(),
            answer
        );
    }
    for (status, kind, body) in [
        (200, None, &b""[..]),
        (200, None, b"\n"),
        (200, None, b"\xff\n"),
        (200, None, b"not a line\n"),
        (409, Some(SIZE_TYPE), b"7"),
        (409, Some(SIZE_TYPE), b"07\n"),
    ] {
        let error = Answer::parse(status, kind, body).unwrap_err();
        assert_eq!(error.code(), "LEDGER-WITNESS-ANSWER");
    }
    // A conflict of somebody in between is no size.
    let other = Answer::parse(409, Some("text/plain"), b"7\n").unwrap();
    assert_eq!(other, Answer::Refused { status: 409 });

    // Lines of others are ignored; one in this key's name that does not verify is not.
    let key = pq_witness(12).key().clone();
    let accepted = key.accept(&note.text, &lines).unwrap();
    assert_eq!(accepted, note.signatures[1..]);
    assert_eq!(witness(11).key().accept(&note.text, &lines).unwrap(), []);
    let untimed = pq_witness(12).cosign(&ForeignCheckpoint::from(&ledger.checkpoint()), 0);
    assert!(key.accept(&note.text, &[untimed.unwrap()]).is_err());
    let mut forged = lines;
    forged[1].bytes[100] ^= 1;
    assert!(key.accept(&note.text, &forged).is_err());
    assert_eq!(
        origin_hash("example.com/behind-the-sofa").to_string(),
        crypto::hex::encode(&crypto::sha256(b"example.com/behind-the-sofa"))
    );
}

/// The order of the checks is the specification's: who may ask at all comes before what the witness has seen.
#[test]
fn a_witness_refuses_by_the_first_thing_that_does_not_hold() {
    let (mut grown, old) = (ledger(), ledger().checkpoint());
    for _ in 0..4 {
        grown.append(issuance_record());
    }
    let keys = [
        LogKey::Note(grown.key().clone()),
        LogKey::Cosigner(pq_witness(9).key().clone()),
    ];
    let Ok(proof) = consistency_proof(3, 7, &grown);
    let proof = proof.unwrap();
    let last = Some((old.size, old.root));
    let decide = |old, proof: &[[u8; 32]], note: &str, last| {
        let note = Note::parse(note).unwrap();
        let request = AddCheckpoint::new(old, proof.to_vec(), note).unwrap();
        consider(&request, Some(&Known { keys: &keys, last }))
    };
    let refused = |old, proof: &[[u8; 32]], note: &str, last, code: &str, status: u16| {
        let refusal = decide(old, proof, note, last).unwrap_err();
        assert_eq!((refusal.code(), refusal.answer().status()), (code, status));
    };
    let note = grown.note();
    decide(3, &proof, &note, last).unwrap();
    decide(0, &[], &note, None).unwrap();
    let again = Some((7, grown.checkpoint().root));
    decide(7, &[], &note, again).unwrap();
    let empty = Memory::new(SERVER, 1);
    decide(0, &[], &empty.note(), None).unwrap();
    // By the log's other key alone, and by a key that does not have the log's name.
    let bare = format!("{}\n\u{2014} x AAAAAAA=\n", grown.checkpoint().text());
    decide(3, &proof, &cosigned(&bare, &[&pq_witness(9)], TIME), last).unwrap();

    let request = AddCheckpoint::new(0, vec![], Note::parse(&note).unwrap()).unwrap();
    let unknown = consider(&request, None).unwrap_err();
    assert_eq!(unknown.answer(), Answer::Refused { status: 404 });
    refused(9, &proof, &bare, last, "LEDGER-WITNESS-SIGNATURE", 403);
    let mut forged = Note::parse(&cosigned(&note, &[&pq_witness(9)], TIME)).unwrap();
    forged.signatures[1].bytes[100] ^= 1;
    let forged = forged.to_string();
    refused(3, &proof, &forged, last, "LEDGER-WITNESS-SIGNATURE", 403);
    refused(8, &proof, &note, last, "LEDGER-WITNESS-OLD", 400);
    refused(4, &proof, &note, last, "LEDGER-WITNESS-CONFLICT", 409);
    refused(0, &[], &note, last, "LEDGER-WITNESS-CONFLICT", 409);
    refused(3, &proof, &note, None, "LEDGER-WITNESS-CONFLICT", 409);
    let inconsistent = "LEDGER-WITNESS-INCONSISTENT";
    refused(3, &[], &note, last, inconsistent, 422);
    refused(3, &proof[1..], &note, last, inconsistent, 422);
    refused(0, &proof, &note, None, inconsistent, 422);
    refused(3, &proof, &note, Some((3, [9; 32])), inconsistent, 422);
    refused(7, &[], &note, Some((7, [9; 32])), inconsistent, 422);
    refused(7, &proof, &note, again, inconsistent, 422);
    let nothing = Checkpoint {
        root: [9; 32],
        ..empty.checkpoint()
    };
    let nothing = empty.signer.sign(&nothing).unwrap();
    refused(0, &[], &nothing, None, inconsistent, 422);
    // Back to what it has cosigned before.
    refused(
        3,
        &[],
        &ledger().note(),
        again,
        "LEDGER-WITNESS-CONFLICT",
        409,
    );
    refused(7, &[], &ledger().note(), again, "LEDGER-WITNESS-OLD", 400);
}
