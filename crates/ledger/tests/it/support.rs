//! What the tests share: fixed keys, sample records, a ledger in memory.

use crypto::{KeyPair, Signer};
use ledger::body::{Body, Issuance, SvidKind};
use ledger::merkle::{Hash, Node, NodeReader, node_hash};
use ledger::{
    Checkpoint, Commitment, Cosigner, Decimal, Digest, EstateRef, ForeignCheckpoint, Frontier,
    HexDigest, LedgerKey, LedgerSigner, Note, Origin, Receipt, RecordBuilder, Salt, Stamp, merkle,
};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

pub(crate) const SERVER: &str = "example.org/server";

/// The Ed25519 key whose seed is `seed` in every byte (RFC 8410, section 7).
pub(crate) fn fixed_key(seed: u8) -> Arc<dyn Signer> {
    let mut pkcs8 = crypto::hex::decode("302e020100300506032b657004220420").unwrap();
    pkcs8.extend_from_slice(&[seed; 32]);
    Arc::new(KeyPair::from_pkcs8(&pkcs8).unwrap())
}

pub(crate) fn signer(origin: &str, seed: u8) -> LedgerSigner {
    LedgerSigner::new(origin, fixed_key(seed)).unwrap()
}

pub(crate) const STAMP: Stamp = Stamp {
    wall: 1_795_312_969_123,
    mono: 86_400_000_000_001,
};

/// The sizes of a real one: a 32-digit serial, a SPIFFE ID of usual length.
pub(crate) fn issuance() -> Issuance {
    Issuance {
        kind: SvidKind::X509,
        spiffe_id: "spiffe://example.org/payments/api".to_owned(),
        serial: "5f1d3a0c9be24477a1b0c9d8e7f60512".to_owned(),
        tbs: Digest::of(b"tbs"),
        issuer: Digest::of(b"issuer"),
        key: Digest::of(b"key"),
        not_before: 1_795_312_909,
        not_after: 1_795_316_569,
        node: "m1".to_owned(),
        verdict: Decimal(12),
        evidence_time: 1_795_312_900_000,
        policies: vec!["payments-api".to_owned()],
        commit: Commitment::new(&Salt([7; 16]), "facts", b"{}"),
        facts: BTreeMap::new(),
        replaces: None,
        ar4si: None,
    }
}

pub(crate) fn issuance_record() -> RecordBuilder {
    issuance()
        .record()
        .actor(
            "spiffe://example.org/trilith/node/m1",
            "x509:5f1d3a0c9be24477a1b0c9d8e7f60511",
        )
        .at(STAMP)
        .estate(EstateRef {
            version: HexDigest::of(b"estate"),
            index: 3,
        })
}

/// A ledger in memory that keeps every node.
pub(crate) struct Memory {
    pub(crate) signer: LedgerSigner,
    pub(crate) records: Vec<Vec<u8>>,
    frontier: Frontier,
    nodes: BTreeMap<Node, Hash>,
}

impl Memory {
    pub(crate) fn new(origin: &str, seed: u8) -> Self {
        Self {
            signer: signer(origin, seed),
            records: Vec::new(),
            frontier: Frontier::new(),
            nodes: BTreeMap::new(),
        }
    }

    pub(crate) fn origin(&self) -> &Origin {
        self.signer.key().origin()
    }

    pub(crate) fn key(&self) -> &LedgerKey {
        self.signer.key()
    }

    pub(crate) fn append(&mut self, record: RecordBuilder) -> u64 {
        let seq = self.records.len() as u64;
        let record = record.seal(self.origin(), seq, STAMP).unwrap();
        self.append_bytes(record.into_bytes());
        seq
    }

    pub(crate) fn append_bytes(&mut self, bytes: Vec<u8>) {
        let nodes = &mut self.nodes;
        self.frontier
            .push_with(merkle::leaf_hash(&bytes), |node, hash| {
                nodes.insert(node, hash);
            });
        self.records.push(bytes);
    }

    pub(crate) fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            origin: self.origin().clone(),
            size: self.frontier.size(),
            root: self.frontier.root(),
        }
    }

    pub(crate) fn note(&self) -> String {
        self.signer.sign(&self.checkpoint()).unwrap()
    }

    pub(crate) fn receipt(&self, index: u64) -> Receipt {
        let size = self.frontier.size();
        let Ok(proof) = merkle::inclusion_proof(index, size, self);
        Receipt {
            record: self.records[usize::try_from(index).unwrap()].clone(),
            index,
            proof: proof.unwrap(),
            checkpoint: self.note(),
        }
    }
}

impl NodeReader for Memory {
    type Error = Infallible;

    fn node(&self, node: Node) -> Result<Hash, Infallible> {
        Ok(self.nodes[&node])
    }
}

/// RFC 6962, section 2.1, as it stands there: recursive, over all leaves.
pub(crate) fn naive_root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => crypto::sha256(b""),
        [leaf] => *leaf,
        _ => {
            let k = 1 << (usize::BITS - 1 - (leaves.len() - 1).leading_zeros());
            node_hash(&naive_root(&leaves[..k]), &naive_root(&leaves[k..]))
        }
    }
}

/// The ML-DSA-44 key whose seed is `seed` in every byte (RFC 9881, section 6).
pub(crate) fn fixed_pq_key(seed: u8) -> Arc<dyn Signer> {
    let prefix = "3034020100300b060960864801650304031104228020";
    let mut pkcs8 = crypto::hex::decode(prefix).unwrap();
    pkcs8.extend_from_slice(&[seed; 32]);
    Arc::new(KeyPair::from_pkcs8(&pkcs8).unwrap())
}

/// Witness `seed` of Ed25519.
pub(crate) fn witness(seed: u8) -> Cosigner {
    Cosigner::new(&format!("witness.example/w{seed}"), fixed_key(seed)).unwrap()
}

/// Witness `seed` of ML-DSA-44.
pub(crate) fn pq_witness(seed: u8) -> Cosigner {
    Cosigner::new(&format!("witness.example/pq{seed}"), fixed_pq_key(seed)).unwrap()
}

/// `note` with the lines of `witnesses`.
pub(crate) fn cosigned(note: &str, witnesses: &[&Cosigner], time: u64) -> String {
    let mut note = Note::parse(note).unwrap();
    let checkpoint = ForeignCheckpoint::parse(&note.text).unwrap();
    let lines = witnesses.iter();
    let lines = lines.map(|witness| witness.cosign(&checkpoint, time).unwrap());
    note.merge(lines.collect()).unwrap();
    note.to_string()
}
