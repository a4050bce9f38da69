//! Signed notes, checkpoints, receipts and proof files; among them a note of other people's.

use crate::support::{Memory, SERVER, fixed_key, issuance_record};
use ledger::{Checkpoint, Code, LedgerKey, Note, ProofFile, Receipt};

/// The example of golang.org/x/mod/sumdb/note.
const PETER_NEUMANN: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const NOTE: &str = "If you think cryptography is the answer to your problem,\n\
    then you don't know what your problem is.\n\n\
    — PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

#[test]
fn a_note_that_others_signed_verifies() {
    let key: LedgerKey = PETER_NEUMANN.parse().unwrap();
    assert_eq!(key.to_string(), PETER_NEUMANN);
    let note = Note::parse(NOTE).unwrap();
    note.verify(&key).unwrap();
    assert_eq!(note.to_string(), NOTE);
    let changed = Note::parse(&NOTE.replace("answer", "Answer")).unwrap();
    assert_eq!(
        changed.verify(&key).unwrap_err().code(),
        "LEDGER-NOTE-SIGNATURE"
    );
    assert!(
        PETER_NEUMANN
            .replace("c74f", "c74e")
            .parse::<LedgerKey>()
            .is_err()
    );
}

#[test]
fn unknown_signatures_are_kept_and_ignored() {
    let mut ledger = Memory::new(SERVER, 1);
    ledger.append(issuance_record());
    let cosigned = format!("{}— witness.example/w1 AAAAAQQ=\n", ledger.note());
    let opened = Checkpoint::open(&cosigned, ledger.key()).unwrap();
    assert_eq!(opened, ledger.checkpoint());
    assert_eq!(Note::parse(&cosigned).unwrap().to_string(), cosigned);

    let other = LedgerKey::new(SERVER, fixed_key(2).public_key().clone()).unwrap();
    let error = Checkpoint::open(&cosigned, &other).unwrap_err();
    assert_eq!(error.code(), "LEDGER-NOTE-UNSIGNED");
    let twice = ledger.note();
    let line = twice.lines().last().unwrap();
    let twice = format!("{twice}{line}\n");
    assert!(Checkpoint::open(&twice, ledger.key()).is_err());
}

#[test]
fn what_is_not_a_note_or_checkpoint_is_refused() {
    let ledger = Memory::new(SERVER, 1);
    let note = ledger.note();
    for wrong in [
        "",
        "\n",
        "a\n\n",
        "a\n\nb\n",
        note.trim_end(),
        &note.replace('—', "-"),
        &note.replace("server\n", "server\t\n"),
        &note.replace("— example.org/server", "— example.org/ser+ver"),
    ] {
        assert!(Note::parse(wrong).is_err(), "{wrong:?}");
    }
    let root = crypto::base64::encode(&[0; 32]);
    for wrong in [
        String::new(),
        format!("{SERVER}\n1\n{root}"),
        format!("{SERVER}\n01\n{root}\n"),
        format!("{SERVER}\n1\n{root}\nextension\n"),
        format!("\n1\n{root}\n"),
        format!("{SERVER}\n1\n{}\n", &root[1..]),
    ] {
        assert!(Checkpoint::parse(&wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn a_receipt_survives_its_binary_form_and_no_change_to_it() {
    let mut ledger = Memory::new(SERVER, 1);
    for _ in 0..13 {
        ledger.append(issuance_record());
    }
    let receipt = ledger.receipt(6);
    let bytes = receipt.encode().unwrap();
    assert_eq!(Receipt::decode(&bytes).unwrap(), receipt);
    assert_eq!(receipt.size().unwrap(), 13);
    receipt.verify(ledger.key()).unwrap();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let verified = Receipt::decode(&changed).and_then(|receipt| receipt.verify(ledger.key()));
        assert!(verified.is_err(), "byte {at}");
        assert!(Receipt::decode(&bytes[..at]).is_err());
    }
    // The largest ledgers that anybody plans for still fit an extension.
    assert!(bytes.len() + (32 - receipt.proof.len()) * 32 < 4096);
}

#[test]
fn a_receipt_of_another_ledger_under_the_same_key_is_refused() {
    let mut ledger = Memory::new(SERVER, 1);
    let mut foreign = Memory::new("example.org/other", 1);
    foreign.append(issuance_record());
    ledger.append_bytes(foreign.records[0].clone());
    let error = ledger.receipt(0).verify(ledger.key()).unwrap_err();
    assert_eq!(error.code(), "LEDGER-RECEIPT-ORIGIN");
}

#[test]
fn proof_files_read_back_as_they_were() {
    let mut ledger = Memory::new(SERVER, 1);
    for _ in 0..5 {
        ledger.append(issuance_record());
    }
    let mut file = ledger.receipt(4).to_proof_file();
    for extra in [None, Some(b"more".to_vec())] {
        file.extra = extra;
        let text = file.to_string();
        assert_eq!(text.parse::<ProofFile>().unwrap(), file);
    }
    let text = file.to_string();
    for (from, to) in [
        ("@v1", "@v2"),
        ("index 4", "index 04"),
        ("index 4\n", ""),
        ("extra bW9yZQ==", "extra bW9yZQ"),
    ] {
        assert!(text.contains(from));
        assert!(text.replacen(from, to, 1).parse::<ProofFile>().is_err());
    }
}
