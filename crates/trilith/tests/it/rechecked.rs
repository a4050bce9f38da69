//! `trilith verify` of what a server decided: what follows from the estate, and what does not.

use estate::{EstateFiles, ResourceKind, ResourceRef};
use ledger::body::{About, ActionOn, BlobRef, Body as _, Coverage, Decision, EstateVersion};
use ledger::merkle::{leaf_hash, node_hash};
use ledger::pack::{PackBuilder, Question};
use ledger::{Checkpoint, Decimal, EstateRef, HexDigest, LedgerSigner, Origin, Receipt, Stamp};
use serde_json::{Value, json};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

const SERVER: &str = "example.org/server";

/// The pack of one decision, as the first and only one under its estate, by a server that answered `allow`.
fn decided(folder: &std::path::Path, resource: &str, allow: bool) {
    let mut files = EstateFiles::new();
    files.insert(
        "estate.toml",
        "trust_domain = \"example.org\"\n[[administrator]]\nuid = 0\n",
    );
    files.insert(
        "identities/all.toml",
        "[[identity]]\npath = \"payments/api\"\nkind = \"service\"\nowner = \"payments\"\n",
    );
    files.insert(
        "resources/shop.toml",
        "[[database]]\nname = \"shop\"\n[[database.schema]]\nname = \"public\"\n\
         [[database.schema.table]]\nname = \"cards\"\n[[database.schema.table]]\nname = \"salaries\"\n\
         [[database.schema.table]]\nname = \"o'brien\"\n[[database.schema.table]]\nname = 'a\"b'\n\
         [[database.schema.table]]\nname = 'c\\d'\n",
    );
    files.insert(
        "policies/all.cedar",
        "@id(\"payments reads cards\")\n\
         permit (principal == Identity::\"payments/api\", action == Action::\"select\", \
         resource in Schema::\"shop/public\")\n\
         unless { resource == Table::\"shop/public/salaries\" };\n",
    );
    estate::Estate::compile(&files).expect("an estate");
    let blob = files.to_blob();
    let version = EstateVersion {
        version: HexDigest::of(&blob),
        blob: BlobRef::of(&blob),
        parent: None,
        author: "ada".to_owned(),
        message: String::new(),
        proof_index: None,
        floor: Decimal(0),
    };
    let policies = allow.then(|| "payments reads cards".to_owned());
    let decision = Decision {
        session: "c1".to_owned(),
        statement: "evaluation".to_owned(),
        actions: vec![ActionOn {
            action: "select".to_owned(),
            resources: vec![resource.to_owned()],
            more: None,
            columns: Vec::new(),
        }],
        decision: "c1.0".to_owned(),
        allow,
        policies: policies.into_iter().collect(),
        findings: Vec::new(),
        coverage: Coverage::Complete,
        more_policies: None,
        about: Some(About {
            spiffe_id: "spiffe://example.org/payments/api".to_owned(),
            ..About::default()
        }),
        claimed_on_behalf_of: Vec::new(),
        on_behalf_of: Vec::new(),
    };
    let estate = EstateRef {
        version: HexDigest::of(&blob),
        index: 0,
    };
    let origin = Origin::new(SERVER).expect("an origin");
    let stamp = Stamp {
        wall: 1_795_312_969_123,
        mono: 1,
    };
    let records = [version.record(), decision.record().estate(estate)];
    let records: Vec<Vec<u8>> = (0..)
        .zip(records)
        .map(|(seq, record)| {
            let record = record.actor("spiffe://example.org/pdp", "x509:a1");
            record
                .seal(&origin, seq, stamp)
                .expect("a record")
                .into_bytes()
        })
        .collect();
    let leaves: Vec<_> = records.iter().map(|record| leaf_hash(record)).collect();
    let first = *leaves.first().expect("two records");
    let second = *leaves.last().expect("two records");
    let key = crypto::KeyPair::generate(crypto::Algorithm::Ed25519).expect("a key");
    let signer = LedgerSigner::new(SERVER, Arc::new(key)).expect("a signer");
    let note = signer
        .sign(&Checkpoint {
            origin,
            size: 2,
            root: node_hash(&first, &second),
        })
        .expect("signed");
    let ledger = "server".to_owned();
    let mut pack = PackBuilder::new(&Question::Record { ledger, index: 1 }, &note);
    for (index, record) in (0_u64..).zip(records) {
        let sibling = if index == 0 { second } else { first };
        pack.receipt(&Receipt {
            record,
            index,
            proof: vec![sibling],
            checkpoint: note.clone(),
        });
    }
    pack.blob(blob);
    std::fs::write(folder.join("a.pack"), pack.build()).expect("written");
    let trust = json!({
        "trust_domain": "example.org", "ledger_key": signer.key().to_string(),
    });
    std::fs::write(folder.join("trust.json"), trust.to_string()).expect("written");
}

fn verify(folder: &std::path::Path, json: bool) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trilith"))
        .args(["verify", "a.pack", "--trust", "trust.json"])
        .args(json.then_some("--json"))
        .env_clear()
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .expect("it runs")
}

const CARDS: &str = "Table::\"shop/public/cards\"";
const SALARIES: &str = "Table::\"shop/public/salaries\"";

#[test]
fn a_decision_that_follows_from_its_estate_is_told_to_be_recomputed() {
    let folder = testkit::temp_dir().expect("a folder");
    let odd = ["o'brien", "a\"b", "c\\d"].map(|name| {
        let path = ["shop", "public", name];
        ResourceRef::from_segments(ResourceKind::Table, &path).to_string()
    });
    let odd = odd.iter().map(|resource| (resource.as_str(), true));
    for (resource, allow) in [(CARDS, true), (SALARIES, false)].into_iter().chain(odd) {
        decided(folder.path(), resource, allow);
        let told = verify(folder.path(), false);
        let lines = String::from_utf8_lossy(&told.stdout);
        assert!(
            told.status.success(),
            "{}",
            String::from_utf8_lossy(&told.stderr)
        );
        assert!(
            lines.contains("recomputed, with the same result: 1 of 1 decisions"),
            "{lines}"
        );
        let told = verify(folder.path(), true);
        let told: Value = serde_json::from_slice(&told.stdout).expect("JSON");
        assert_eq!(
            told["recomputed"],
            json!({"of": 1, "same": 1, "records": [{
                "ledger": SERVER, "index": 1, "what": "decision", "outcome": "recomputed",
            }]})
        );
    }
}

/// Records, proofs and signatures are good: the server wrote down what its estate does not say.
#[test]
fn a_decision_that_does_not_follow_from_its_estate_is_refused_by_name() {
    let folder = testkit::temp_dir().expect("a folder");
    for (resource, allow, why) in [
        (
            SALARIES,
            true,
            "it was allowed, and the estate denies select on",
        ),
        (
            CARDS,
            false,
            "it was denied, and the estate allows select on",
        ),
    ] {
        decided(folder.path(), resource, allow);
        let told = verify(folder.path(), false);
        let said = String::from_utf8_lossy(&told.stderr);
        assert_eq!(told.status.code(), Some(3), "{said}");
        assert!(told.stdout.is_empty());
        for part in ["PACK-DECISION", "record/0/1", why] {
            assert!(said.contains(part), "{said}");
        }
        let told = verify(folder.path(), true);
        let told: Value = serde_json::from_slice(&told.stdout).expect("JSON");
        assert_eq!(
            (&told["verified"], &told["code"], &told["record"]),
            (&false.into(), &"PACK-DECISION".into(), &1.into())
        );
    }
}
