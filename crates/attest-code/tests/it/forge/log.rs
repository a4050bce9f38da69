//! Transparency logs of both generations, and the entries that they say they have.

use super::{Deployment, Signed, THEN, key};
use crypto::{Algorithm, KeyPair, Signer as _, base64, hex, sha256};
use facts::Timestamp;
use ledger::merkle::{leaf_hash, node_hash};
use serde_json::{Value, json};

pub(crate) struct TransparencyLog {
    pub(crate) key: KeyPair,
    pub(crate) id: [u8; 32],
    origin: &'static str,
    has_promises: bool,
}

impl TransparencyLog {
    /// P-256; the id is the key's hash.
    pub(crate) fn first(origin: &'static str) -> Self {
        let key = key(Algorithm::EcdsaP256);
        let id = sha256(key.public_key().spki_der());
        Self {
            key,
            id,
            origin,
            has_promises: true,
        }
    }

    /// Ed25519; the id is the note key's hash.
    pub(crate) fn second(origin: &'static str) -> Self {
        let key = key(Algorithm::Ed25519);
        let id = sha256(&[origin.as_bytes(), b"\n\x01", key.public_key().raw()].concat());
        Self {
            key,
            id,
            origin,
            has_promises: false,
        }
    }

    /// Of a trusted root.
    pub(crate) fn entry(&self, since: &Value) -> Value {
        let details = if self.has_promises {
            "PKIX_ECDSA_P256_SHA_256"
        } else {
            "PKIX_ED25519"
        };
        json!({
            "baseUrl": format!("https://{}", self.origin),
            "hashAlgorithm": "SHA2_256",
            "publicKey": {
                "rawBytes": base64::encode(self.key.public_key().spki_der()),
                "keyDetails": details,
                "validFor": since,
            },
            "logId": {"keyId": base64::encode(&self.id)},
        })
    }
}

/// One entry, and what is wrong with it.
pub(crate) struct EntryScript {
    pub(crate) kind: &'static str,
    pub(crate) version: &'static str,
    pub(crate) log: Which,
    /// When the log says that it took it in.
    pub(crate) integrated: Timestamp,
    pub(crate) promise: Promise,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) has_proof: bool,
    /// Changes the body before the log takes it in.
    pub(crate) body: fn(&mut Value),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    First,
    Second,
    /// In no trusted root.
    Stranger,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Promise {
    Good,
    Absent,
    ByStranger,
    /// For a minute later.
    OfAnotherTime,
    OfAnotherIndex,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Checkpoint {
    Good,
    Absent,
    ByStranger,
    /// Signed by the log, of a tree with one leaf more.
    OfAnotherSize,
    OfAnotherRoot,
    Garbage,
}

impl Default for EntryScript {
    fn default() -> Self {
        Self {
            kind: "",
            version: "0.0.1",
            log: Which::First,
            integrated: THEN,
            promise: Promise::Good,
            checkpoint: Checkpoint::Good,
            has_proof: true,
            body: |_| {},
        }
    }
}

impl EntryScript {
    /// In the log of the second generation, which has no promises.
    pub(crate) fn second(kind: &'static str) -> Self {
        Self {
            kind,
            version: "0.0.2",
            log: Which::Second,
            promise: Promise::Absent,
            ..Self::default()
        }
    }
}

/// The other leaves of the tree: the entry is the fourth of five.
const OTHERS: [&[u8]; 4] = [b"a", b"b", b"c", b"e"];
const INDEX: u64 = 3;
const SIZE: u64 = 5;
/// Where the shard begins: the index in the whole log is another than in the tree.
const SHARD: u64 = 1_000_000;

pub(crate) fn forge(deployment: &Deployment, script: &EntryScript, signed: &Signed) -> Value {
    let stranger = TransparencyLog::first("rekor.forged.test");
    let log = match script.log {
        Which::First => &deployment.log,
        Which::Second => &deployment.second_log,
        Which::Stranger => &stranger,
    };
    let kind = match (script.kind, &signed.envelope) {
        ("", Some(_)) => "dsse",
        ("", None) => "hashedrekord",
        (kind, _) => kind,
    };
    let mut body = body(kind, script.version, signed);
    (script.body)(&mut body);
    let body = body.to_string().into_bytes();
    let [a, b, c, e] = OTHERS.map(leaf_hash);
    let leaf = leaf_hash(&body);
    let (left, right) = (node_hash(&a, &b), node_hash(&c, &leaf));
    let root = node_hash(&node_hash(&left, &right), &e);
    let index = if log.has_promises {
        SHARD + INDEX
    } else {
        INDEX
    };
    let seconds = script.integrated.as_secs();
    let mut entry = json!({
        "logIndex": index.to_string(),
        "logId": {"keyId": base64::encode(&log.id)},
        "kindVersion": {"kind": kind, "version": script.version},
        "canonicalizedBody": base64::encode(&body),
    });
    if script.has_proof {
        entry["inclusionProof"] = json!({
            "logIndex": INDEX.to_string(),
            "treeSize": SIZE.to_string(),
            "rootHash": base64::encode(&root),
            "hashes": [base64::encode(&c), base64::encode(&left), base64::encode(&e)],
        });
        if let Some(note) = checkpoint(log, script.checkpoint, &root) {
            entry["inclusionProof"]["checkpoint"] = json!({"envelope": note});
        }
    }
    if script.promise != Promise::Absent {
        let another = key(Algorithm::EcdsaP256);
        let signer = if script.promise == Promise::ByStranger {
            &another
        } else {
            &log.key
        };
        let later = u64::from(script.promise == Promise::OfAnotherTime) * 60;
        let further = u64::from(script.promise == Promise::OfAnotherIndex);
        let promised = format!(
            "{{\"body\":\"{}\",\"integratedTime\":{},\"logID\":\"{}\",\"logIndex\":{}}}",
            base64::encode(&body),
            seconds + later,
            hex::encode(&log.id),
            index + further,
        );
        let set = signer.sign(promised.as_bytes()).unwrap();
        entry["inclusionPromise"] = json!({"signedEntryTimestamp": base64::encode(&set)});
        entry["integratedTime"] = json!(seconds.to_string());
    }
    entry
}

fn checkpoint(log: &TransparencyLog, script: Checkpoint, root: &[u8; 32]) -> Option<String> {
    let size = SIZE + u64::from(script == Checkpoint::OfAnotherSize);
    let mut root = *root;
    if script == Checkpoint::OfAnotherRoot {
        root[0] ^= 1;
    }
    let text = format!("{}\n{size}\n{}\n", log.origin, base64::encode(&root));
    let another = key(log.key.public_key().algorithm());
    let signer = if script == Checkpoint::ByStranger {
        &another
    } else {
        &log.key
    };
    let signature = signer.sign(text.as_bytes()).unwrap();
    let line = base64::encode(&[&log.id[..4], &signature].concat());
    match script {
        Checkpoint::Absent => None,
        Checkpoint::Garbage => Some("no note at all".to_owned()),
        _ => Some(format!("{text}\n— {} {line}\n", log.origin)),
    }
}

fn body(kind: &str, version: &str, signed: &Signed) -> Value {
    let signature = base64::encode(&signed.signature);
    let label = if signed.is_certificate {
        "CERTIFICATE"
    } else {
        "PUBLIC KEY"
    };
    let pem = format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        base64::encode(&signed.signer)
    );
    let pem = base64::encode(pem.as_bytes());
    let raw = json!({"rawBytes": base64::encode(&signed.signer)});
    let verifier = if signed.is_certificate {
        json!({"x509Certificate": raw, "keyDetails": "PKIX_ECDSA_P256_SHA_256"})
    } else {
        json!({"publicKey": raw, "keyDetails": "PKIX_ECDSA_P256_SHA_256"})
    };
    let message = match &signed.envelope {
        Some((_, _, message)) => sha256(message),
        None => signed.artifact_sha256,
    };
    let (payload_type, payload) = match &signed.envelope {
        Some((kind, payload, _)) => (kind.as_str(), sha256(payload)),
        None => ("", [0; 32]),
    };
    let spec = match (kind, version) {
        ("hashedrekord", "0.0.1") => json!({
            "data": {"hash": {"algorithm": "sha256", "value": hex::encode(&message)}},
            "signature": {"content": signature, "publicKey": {"content": pem}},
        }),
        ("hashedrekord", _) => json!({"hashedRekordV002": {
            "data": {"algorithm": "SHA2_256", "digest": base64::encode(&message)},
            "signature": {"content": signature, "verifier": verifier},
        }}),
        ("dsse", "0.0.1") => json!({
            "envelopeHash": {"algorithm": "sha256", "value": hex::encode(&[0; 32])},
            "payloadHash": {"algorithm": "sha256", "value": hex::encode(&payload)},
            "signatures": [{"signature": signature, "verifier": pem}],
        }),
        ("dsse", _) => json!({"dsseV002": {
            "payloadHash": {"algorithm": "SHA2_256", "digest": base64::encode(&payload)},
            "signatures": [{"content": signature, "verifier": verifier}],
        }}),
        _ => json!({"content": {
            "envelope": {
                "payloadType": payload_type,
                "signatures": [{"sig": base64::encode(signature.as_bytes()), "publicKey": pem}],
            },
            "hash": {"algorithm": "sha256", "value": hex::encode(&[0; 32])},
            "payloadHash": {"algorithm": "sha256", "value": hex::encode(&payload)},
        }}),
    };
    json!({"apiVersion": version, "kind": kind, "spec": spec})
}
