//! Putting a pack together. What is put in is not verified here; [`super::verify`] is for that.

use super::container::{Section, read, write};
use super::{Failure, Question};
use crate::tile::TilePath;
use crate::{Hash, HexDigest, Receipt, body::BlobRef};
use std::collections::BTreeMap;

/// Collects sections; the result depends on their content only, not on the order of calls (but
/// for the numbers of checkpoints).
pub struct PackBuilder {
    sections: BTreeMap<Section, Vec<u8>>,
    checkpoints: Vec<String>,
}

impl PackBuilder {
    /// Begins a pack that answers `question` under the server's checkpoint.
    #[must_use]
    pub fn new(question: &Question, server: &str) -> Self {
        let question = question.to_json().into_bytes();
        let mut builder = Self {
            sections: BTreeMap::from([(Section::Question, question)]),
            checkpoints: Vec::new(),
        };
        builder.checkpoint(server);
        builder
    }

    /// Number of a checkpoint in this pack; the server's is 0. What the server signed is one checkpoint, also
    /// where receipts carry it without the cosignatures of the note that the pack began with.
    pub fn checkpoint(&mut self, note: &str) -> u64 {
        let same = |(number, held): (usize, &String)| {
            *held == note || (number == 0 && signed(held) == signed(note))
        };
        let known = self.checkpoints.iter().enumerate().position(same);
        let number = known.unwrap_or(self.checkpoints.len()) as u64;
        if known.is_none() {
            self.checkpoints.push(note.to_owned());
            let section = Section::Checkpoint(number);
            self.sections.insert(section, note.as_bytes().to_vec());
        }
        number
    }

    /// Adds a record under its receipt's checkpoint.
    pub fn receipt(&mut self, receipt: &Receipt) {
        let checkpoint = self.checkpoint(&receipt.checkpoint);
        let index = receipt.index;
        // INVARIANT: a record has at most 16 KiB.
        let length = u16::try_from(receipt.record.len()).unwrap_or(u16::MAX);
        let mut content = length.to_be_bytes().to_vec();
        content.extend_from_slice(&receipt.record);
        content.extend_from_slice(receipt.proof.as_flattened());
        let section = Section::Record { checkpoint, index };
        self.sections.insert(section, content);
    }

    /// Adds a tile or entry bundle of the ledger of checkpoint `number`; add all or none.
    pub fn tile(&mut self, number: u64, path: TilePath, content: Vec<u8>) {
        let checkpoint = number;
        self.sections
            .insert(Section::Tile { checkpoint, path }, content);
    }

    /// Adds what a record names by digest.
    pub fn blob(&mut self, content: Vec<u8>) -> BlobRef {
        let blob = BlobRef::of(&content);
        self.sections.insert(Section::Blob(blob.sha256), content);
        blob
    }

    /// Adds an SVID (DER) that an issuance of the pack commits to, or the certificate of an authority above it.
    pub fn certificate(&mut self, der: Vec<u8>) {
        let digest = HexDigest::of(&der);
        self.sections.insert(Section::Certificate(digest), der);
    }

    /// Adds the proof that checkpoint `number` goes on from the tree of `size` records with which a log before its own
    /// ended.
    pub fn extends(&mut self, number: u64, size: u64, proof: &[Hash]) {
        let checkpoint = number;
        let section = Section::Extends { checkpoint, size };
        self.sections.insert(section, proof.as_flattened().to_vec());
    }

    /// The bytes of the pack.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        write(
            self.sections
                .iter()
                .map(|(name, content)| (name, content.as_slice())),
        )
    }
}

/// `pack` with certificates, DER, beside what it has: SVIDs whose issuances are in it, and those of the authorities
/// above them.
///
/// # Errors
/// `PACK-FORMAT`, `PACK-DIGEST`: it is no pack.
pub fn with_certificates(pack: &[u8], certificates: &[Vec<u8>]) -> Result<Vec<u8>, Failure> {
    let mut sections: BTreeMap<Section, &[u8]> = read(pack)?.into_iter().collect();
    for der in certificates {
        sections.insert(Section::Certificate(HexDigest::of(der)), der);
    }
    let sections = sections.iter();
    Ok(write(sections.map(|(name, content)| (name, *content))))
}

/// The text of a note, which its signatures are over.
fn signed(note: &str) -> Option<&str> {
    note.rsplit_once("\n\n").map(|(text, _signatures)| text)
}
