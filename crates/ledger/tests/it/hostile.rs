//! Every parser against arbitrary and against slightly changed bytes: refusal, never a panic, and
//! what is accepted is the one spelling of it.

use crate::support::{Memory, SERVER, issuance_record};
use ledger::tile::TilePath;
use ledger::{Checkpoint, LedgerKey, Note, ProofFile, Receipt, Record, decode_bundle};
use proptest::prelude::*;

fn every_parser(bytes: &[u8]) {
    if let Ok(record) = Record::parse(bytes) {
        assert_eq!(record.bytes(), bytes);
        serde_json::from_slice::<serde_json::Value>(bytes).unwrap();
        drop(ledger::body::check(&record));
    }
    if let Ok(receipt) = Receipt::decode(bytes) {
        assert_eq!(receipt.encode().unwrap(), bytes);
        drop(receipt.size());
    }
    drop(decode_bundle(bytes, 3));
    let text = String::from_utf8_lossy(bytes);
    if let Ok(note) = Note::parse(&text) {
        assert_eq!(note.to_string(), text);
        drop(Checkpoint::parse(&note.text));
    }
    if let Ok(file) = text.parse::<ProofFile>() {
        assert_eq!(file.to_string(), text);
    }
    if let Ok(path) = text.parse::<TilePath>() {
        assert_eq!(path.to_string(), text);
    }
    if let Ok(key) = text.parse::<LedgerKey>() {
        assert_eq!(key.to_string(), text);
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        every_parser(&bytes);
    }

    #[test]
    fn changed_bytes(what in 0..4_usize, at: prop::sample::Index, with: u8, cut: bool) {
        let mut ledger = Memory::new(SERVER, 1);
        for _ in 0..3 {
            ledger.append(issuance_record());
        }
        let receipt = ledger.receipt(1);
        let mut bytes = match what {
            0 => receipt.record.clone(),
            1 => receipt.encode().unwrap(),
            2 => ledger.note().into_bytes(),
            _ => receipt.to_proof_file().to_string().into_bytes(),
        };
        let at = at.index(bytes.len());
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at] = with;
        }
        every_parser(&bytes);
    }
}
