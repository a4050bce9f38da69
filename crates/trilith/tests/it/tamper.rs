//! What a ledger is tampered with, who notices, and by which code: one row an attack. The attacks are made with the
//! keys that the attacker has, and judged by what its victims run.

use crypto::{Algorithm, KeyPair};
use facts::Timestamp;
use gateway::{Following, Watch};
use ledger::misbehaviour;
use ledger::pack::{PackBuilder, Question, Trust, verify};
use ledger::witness::{AddCheckpoint, Known, consider};
use ledger::{
    Checkpoint, Code as _, Cosigner, ForeignCheckpoint, Frontier, Hash, LedgerSigner, LogKey, Note,
    Policy, ProofFile, merkle,
};
use std::sync::Arc;
use std::time::Duration;

/// An attack, who notices it, and how it is called.
struct Row {
    attack: &'static str,
    detector: &'static str,
    code: &'static str,
    /// Makes the attack; what the detector says.
    made: fn(&Ground) -> String,
}

/// Add a row for each attack that something detects. `docs/THREAT_MODEL.md` names them.
const ROWS: &[Row] = &[
    Row {
        attack: "steal the log key, and go on from an older copy",
        detector: "a witness, asked to cosign it",
        code: "LEDGER-WITNESS-INCONSISTENT",
        made: |ground| ground.asked_of_a_witness(&ground.fork(5)),
    },
    Row {
        attack: "steal the log key, and prove a record that is in no other view",
        detector: "`trilith verify` of a .tlog-proof, under a policy",
        code: "LEDGER-QUORUM",
        made: |ground| ground.proof_of(&ground.fork(5)),
    },
    Row {
        attack: "steal the log key, and move the witnesses' lines to another history",
        detector: "`trilith verify` of a .tlog-proof, under a policy",
        code: "LEDGER-NOTE-SIGNATURE",
        made: |ground| {
            let theirs = ground.fork(4);
            let seen = Note::parse(&ground.cosigned(&ground.honest)).expect("a note");
            let own = ground.signed(&theirs);
            let mut moved = Note::parse(&own).expect("a note");
            let name = ground.log.key().origin().as_str();
            let lines = seen.signatures.into_iter().filter(|line| line.name != name);
            moved.merge(lines.collect()).expect("lines");
            ground.proof_under(&theirs, &moved.to_string())
        },
    },
    Row {
        attack: "steal the log key, and make a pack of another history",
        detector: "`trilith verify` of the pack, under a policy",
        code: "NOT witnessed",
        made: |ground| ground.pack_of(&ground.fork(5)),
    },
    Row {
        attack: "serve two clients different views, the witnesses' to another",
        detector: "a gateway with a policy, at the cosigned head",
        code: "FOLLOW-FORKED",
        made: |ground| {
            let following = ground.gateway();
            let theirs = ground.fork(4);
            following
                .take_checkpoint(&ground.signed(&theirs), 0, &[])
                .expect("the first is believed");
            let taken =
                following.take_witnessed(&ground.cosigned(&ground.honest), 4, &[], ground.now);
            taken.expect_err("it is a fork").code.into_owned()
        },
    },
    Row {
        attack: "serve two clients different views, and the two compare them",
        detector: "anybody with both notes",
        code: "fork",
        made: |ground| {
            let (one, other) = (
                ground.signed(&ground.honest),
                ground.signed(&ground.fork(4)),
            );
            let (kind, _) =
                misbehaviour::judge(ground.log.key(), &one, &other, &[]).expect("a proof");
            assert!(kind.proves_itself());
            kind.to_string()
        },
    },
    Row {
        attack: "steal the log key AND the CA key, and keep a gateway in a view of its own",
        detector: "a gateway with a policy, at the next session",
        code: "GATEWAY-UNWITNESSED",
        made: |ground| {
            let following = ground.gateway();
            following
                .take_checkpoint(&ground.signed(&ground.honest), 0, &[])
                .expect("followed");
            let seen = ground.cosigned(&ground.honest);
            following
                .take_witnessed(&seen, 4, &[], ground.now)
                .expect("witnessed");
            following.seen_by_others(ground.now).expect("fresh");
            // The thief goes on from there, and signs all that it likes with both keys; heartbeats come.
            let theirs = ground.honest.grown(&["an issuance of the thief's"]);
            let (old, new) = (ground.honest.size(), theirs.size());
            following
                .take_checkpoint(&ground.signed(&theirs), old, &theirs.consistency(old))
                .expect("followed");
            assert_eq!(following.head().0, new);
            let later = ground.now.plus_secs(LONGEST + 1);
            following.heard(later);
            following
                .seen_by_others(later)
                .expect_err("too long unseen")
                .code
                .into_owned()
        },
    },
];

const LONGEST: u64 = 60;

#[test]
fn each_attack_is_noticed_by_whom_and_as_the_table_says() {
    let ground = Ground::new();
    for row in ROWS {
        let said = (row.made)(&ground);
        assert_eq!(said, row.code, "{}: {}", row.attack, row.detector);
    }
}

/// A history, and its tree.
#[derive(Clone)]
struct History {
    records: Vec<String>,
    tree: Frontier,
    nodes: std::collections::BTreeMap<ledger::Node, Hash>,
}

impl History {
    fn of(records: &[&str]) -> Self {
        let empty = Self {
            records: Vec::new(),
            tree: Frontier::new(),
            nodes: std::collections::BTreeMap::new(),
        };
        empty.grown(records)
    }

    fn grown(&self, records: &[&str]) -> Self {
        let mut grown = self.clone();
        for record in records {
            let nodes = &mut grown.nodes;
            grown
                .tree
                .push_with(merkle::leaf_hash(record.as_bytes()), |node, hash| {
                    nodes.insert(node, hash);
                });
            grown.records.push((*record).to_owned());
        }
        grown
    }

    fn size(&self) -> u64 {
        self.tree.size()
    }

    fn consistency(&self, old: u64) -> Vec<Hash> {
        let Ok(proof) = merkle::consistency_proof(old, self.size(), self);
        proof.expect("a proof")
    }
}

impl ledger::NodeReader for History {
    type Error = std::convert::Infallible;

    fn node(&self, node: ledger::Node) -> Result<Hash, Self::Error> {
        Ok(self.nodes[&node])
    }
}

/// A ledger of four records that two witnesses have seen, and its stolen key.
struct Ground {
    now: Timestamp,
    log: LedgerSigner,
    witnesses: [Cosigner; 2],
    policy: Policy,
    honest: History,
    folders: tempfile::TempDir,
}

impl Ground {
    fn new() -> Self {
        let key = |algorithm| Arc::new(KeyPair::generate(algorithm).expect("a key"));
        let witnesses = [Algorithm::MlDsa44, Algorithm::Ed25519].map(|algorithm| {
            let name = format!("witness.example/{algorithm:?}");
            Cosigner::new(&name.replace(['(', ')', ' '], ""), key(algorithm)).expect("a witness")
        });
        let [one, two] = &witnesses;
        let policy = format!(
            "witness a {}\nwitness b {}\ngroup g all a b\nquorum g\n",
            one.key(),
            two.key()
        );
        Self {
            now: Timestamp::now(),
            log: LedgerSigner::new("example.org/server", key(Algorithm::Ed25519)).expect("a log"),
            policy: policy.parse().expect("a policy"),
            witnesses,
            honest: History::of(&["a", "b", "c", "d"]),
            folders: testkit::temp_dir().expect("a folder"),
        }
    }

    /// The same beginning, and so many records in all.
    fn fork(&self, size: usize) -> History {
        let theirs = ["x", "y", "z"];
        History::of(&["a", "b"]).grown(&theirs[..size - 2])
    }

    fn checkpoint(&self, history: &History) -> Checkpoint {
        Checkpoint {
            origin: self.log.key().origin().clone(),
            size: history.size(),
            root: history.tree.root(),
        }
    }

    fn signed(&self, history: &History) -> String {
        self.log.sign(&self.checkpoint(history)).expect("signed")
    }

    fn cosigned(&self, history: &History) -> String {
        let mut note = Note::parse(&self.signed(history)).expect("a note");
        let checkpoint = ForeignCheckpoint::from(&self.checkpoint(history));
        let time = self.now.as_secs();
        let lines = self.witnesses.iter();
        let lines = lines.map(|one| one.cosign(&checkpoint, time).expect("cosigned"));
        note.merge(lines.collect()).expect("lines");
        note.to_string()
    }

    /// A gateway that has followed nothing yet.
    fn gateway(&self) -> Following {
        let folder = self
            .folders
            .path()
            .join(crypto::hex::encode(&crypto::random::<8>()));
        std::fs::create_dir(&folder).expect("a folder");
        let watch = Watch {
            policy: self.policy.clone(),
            longest: Duration::from_secs(LONGEST),
        };
        let domain = spiffe_core::TrustDomain::new("example.org").expect("a trust domain");
        let opened = Following::open_watched(domain, self.log.key().clone(), &folder, Some(watch));
        opened.expect("opened").0
    }

    /// The code of the refusal, by a witness that has cosigned the honest history.
    fn asked_of_a_witness(&self, theirs: &History) -> String {
        let keys = [LogKey::Note(self.log.key().clone())];
        let last = Some((self.honest.size(), self.honest.tree.root()));
        let note = Note::parse(&self.signed(theirs)).expect("a note");
        let proof = theirs.consistency(self.honest.size());
        let request = AddCheckpoint::new(self.honest.size(), proof, note).expect("a request");
        let refused = consider(&request, Some(&Known { keys: &keys, last }));
        refused.expect_err("not cosigned").code().to_owned()
    }

    fn proof_of(&self, theirs: &History) -> String {
        self.proof_under(theirs, &self.signed(theirs))
    }

    fn proof_under(&self, theirs: &History, note: &str) -> String {
        let index = theirs.size() - 1;
        let Ok(hashes) = merkle::inclusion_proof(index, theirs.size(), theirs);
        let proof = ProofFile {
            extra: None,
            index,
            hashes: hashes.expect("a proof"),
            checkpoint: note.to_owned(),
        };
        let leaf = merkle::leaf_hash(theirs.records.last().expect("a record").as_bytes());
        let key = LogKey::Note(self.log.key().clone());
        // Without a policy the key is believed, and this is what is stolen with it.
        proof
            .verify(&leaf, &[&key], None)
            .expect("it is in that history");
        let refused = proof.verify(&leaf, &[&key], Some(&self.policy));
        refused.expect_err("refused").code().to_owned()
    }

    /// What a pack is not shown to be.
    fn pack_of(&self, theirs: &History) -> String {
        let question = Question::Issuance {
            serial: "a1".to_owned(),
        };
        let pack = PackBuilder::new(&question, &self.signed(theirs)).build();
        let trust = Trust {
            trust_domain: "example.org".to_owned(),
            ledger_key: self.log.key().clone(),
            x509_authorities: Vec::new(),
            policy: Some(self.policy.clone()),
        };
        let report = verify(&pack, &trust).expect("it is signed");
        let quorum = report.quorum.as_ref().expect("a policy");
        assert!(!quorum.reached && !report.is_complete());
        "NOT witnessed".to_owned()
    }
}
