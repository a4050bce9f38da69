//! Packs of real joins and accesses: what they decided and concluded is made again from them alone, and a server that
//! lies, with its own ledger's key, is found out.

use crate::harness::{DOMAIN, Fixture, PROGRAM, estate, program};
use crate::packs::{Recording, pack};
use crate::tee::{GOOD, SNP, Show, Site, TDX, honest, honest_domain};
use crypto::{Algorithm, Custody as _};
use custody::FileCustody;
use ledger::body::{ActionOn, Body as _, Coverage, Intent, SessionStart};
use ledger::merkle::{Hash, leaf_hash, node_hash};
use ledger::pack::{PackBuilder, Report, Trust, verify};
use ledger::{Checkpoint, Decimal, EstateRef, HexDigest, LedgerSigner, Origin, Receipt};
use ledger_store::Folder;
use recheck::{Item, Outcome, Rechecked, What};

async fn trust(fixture: &Fixture) -> Trust {
    Trust {
        trust_domain: DOMAIN.to_owned(),
        ledger_key: fixture.ledger_key().await,
        x509_authorities: Vec::new(),
        policy: None,
    }
}

/// What is made again of the answer to a question.
pub(crate) async fn rechecked(fixture: &Fixture, question: &str) -> (Report, Vec<Item>) {
    let trust = trust(fixture).await;
    let report = verify(&pack(fixture, question).await, &trust).unwrap();
    let Rechecked(items) = recheck::pack(&report, &trust);
    (report, items)
}

/// The newest issuance: its record and its question.
async fn newest(fixture: &Fixture) -> (u64, String) {
    let (index, record) = fixture.records(&["issuance"]).await.pop().unwrap();
    let serial = record["body"]["serial"].as_str().unwrap();
    let question = format!("{{\"kind\":\"issuance\",\"serial\":\"{serial}\"}}");
    (index, question)
}

fn outcomes(items: &[Item]) -> Vec<(What, &Outcome)> {
    items
        .iter()
        .map(|item| (item.what, &item.outcome))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_by_chip_and_hardware_is_made_again_from_its_evidence() {
    let cases: [(String, Show<'_>); 3] = [
        (String::new(), Box::new(|_| None)),
        (SNP.to_owned() + GOOD, Box::new(honest)),
        (TDX.to_owned(), Box::new(honest_domain)),
    ];
    for (asked, show) in cases {
        let Some(site) = Site::start("server.recheck-join", &asked, "").await else {
            return;
        };
        let machine = site.join(show).await.unwrap();
        // The machine's own SVID, then a workload's.
        let (_, question) = newest(&site.fixture).await;
        let (_, items) = rechecked(&site.fixture, &question).await;
        let both = [
            (What::Verdict, &Outcome::Recomputed),
            (What::Issuance, &Outcome::Recomputed),
        ];
        assert_eq!(outcomes(&items), both, "{asked}");
        if asked.is_empty() {
            continue;
        }
        let mut sync = crate::kernel::attested(&site.chip, &machine).await;
        let asks = sync.ask("w1", &program(1000, PROGRAM), Vec::new()).await;
        assert_eq!(asks.unwrap().1.len(), 1);
        let (_, question) = newest(&site.fixture).await;
        let (report, items) = rechecked(&site.fixture, &question).await;
        assert_eq!(outcomes(&items), both, "{asked}");
        assert!(report.is_complete(), "{:?}", report.doubts);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_by_chip_is_made_again_too() {
    let Some(site) = Site::start("server.recheck-renewal", "", "").await else {
        return;
    };
    let machine = site.join(|_| None).await.unwrap();
    site.renew(&machine, [7; 16], |_| None).await.unwrap();
    let (_, question) = newest(&site.fixture).await;
    let (_, items) = rechecked(&site.fixture, &question).await;
    assert!(
        items.iter().all(|item| item.outcome == Outcome::Recomputed),
        "{items:?}"
    );
}

/// A machine that is not as it should be is evicted, and whoever reads the record comes to the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_made_again_from_its_evidence() {
    let Some(site) = Site::start("server.recheck-refusal", &(SNP.to_owned() + GOOD), "").await
    else {
        return;
    };
    let machine = site.join(honest).await.unwrap();
    let debugged = |asked: &[u8; 64]| {
        let mut guest = crate::tee_forged::guest();
        guest.put(0x08, &0xb_0000_u64.to_le_bytes());
        crate::tee::shown("sev-snp", crate::tee_forged::report(&guest, asked))
    };
    let refused = site.renew(&machine, [7; 16], debugged).await;
    assert!(refused.is_err());
    let (index, record) = site.fixture.records(&["verdict"]).await.pop().unwrap();
    assert_eq!(record["body"]["outcome"], "refused");
    let question = format!("{{\"kind\":\"record\",\"ledger\":\"server\",\"index\":{index}}}");
    let (_, items) = rechecked(&site.fixture, &question).await;
    assert_eq!(outcomes(&items), [(What::Verdict, &Outcome::Recomputed)]);

    // The server says that it was for something else.
    let liar = Liar::of(&site.fixture, &question, index).await;
    let code = record["body"]["findings"][0]["code"].as_str().unwrap();
    let told = liar.tells(|text| text.replace(code, "TEE-SNP-TCB"), |_| {});
    assert!(
        told.contains("refused for TEE-SNP-TCB, and its evidence for TEE-SNP-DEBUG"),
        "{told}"
    );
}

/// Whoever has the key of the server's ledger, and writes into it what they like.
pub(crate) struct Liar {
    trust: Trust,
    signer: LedgerSigner,
    report: Report,
    entries: Vec<Vec<u8>>,
    /// Of the record that is lied about.
    index: u64,
}

impl Liar {
    pub(crate) async fn of(fixture: &Fixture, question: &str, index: u64) -> Self {
        let trust = trust(fixture).await;
        let report = verify(&pack(fixture, question).await, &trust).unwrap();
        let ledger = Folder::open(&fixture.dir.path().join("data/ledger")).unwrap();
        let size = report.checkpoints[0].size;
        let entries = ledger.reader().read(0..size).unwrap();
        assert_eq!(entries.len() as u64, size);
        let keys = FileCustody::open(&fixture.dir.path().join("keys/ledger")).unwrap();
        let key = keys.load_or_generate("ledger", Algorithm::Ed25519).unwrap();
        Self {
            trust,
            signer: LedgerSigner::new("example.org/server", key).unwrap(),
            report,
            entries,
            index,
        }
    }

    /// A pack of another history, whose every proof and signature is good.
    fn pack(&self, change: impl Fn(&str) -> String, blobs: &[Vec<u8>]) -> Vec<u8> {
        let mut entries = self.entries.clone();
        let at = usize::try_from(self.index).unwrap();
        let text = std::str::from_utf8(&entries[at]).unwrap();
        entries[at] = change(text).into_bytes();
        let leaves: Vec<Hash> = entries.iter().map(|entry| leaf_hash(entry)).collect();
        let checkpoint = Checkpoint {
            origin: Origin::new("example.org/server").unwrap(),
            size: leaves.len() as u64,
            root: root(&leaves),
        };
        let note = self.signer.sign(&checkpoint).unwrap();
        let mut builder = PackBuilder::new(&self.report.question, &note);
        for item in &self.report.records {
            let index = usize::try_from(item.index).unwrap();
            builder.receipt(&Receipt {
                record: entries[index].clone(),
                index: item.index,
                proof: path(&leaves, index),
                checkpoint: note.clone(),
            });
        }
        for blob in blobs {
            builder.blob(blob.clone());
        }
        builder.build()
    }

    /// What is told of a pack with another record in the place of one, and other blobs.
    fn recheck(
        &self,
        change: impl Fn(&str) -> String,
        blobs: impl Fn(&mut Vec<Vec<u8>>),
    ) -> (Report, Rechecked) {
        let mut kept: Vec<Vec<u8>> = self.report.blobs.values().cloned().collect();
        blobs(&mut kept);
        let pack = self.pack(change, &kept);
        // The pack is good, as far as proofs and signatures go.
        let report = verify(&pack, &self.trust).unwrap();
        let rechecked = recheck::pack(&report, &self.trust);
        (report, rechecked)
    }

    /// What is different.
    pub(crate) fn tells(
        &self,
        change: impl Fn(&str) -> String,
        blobs: impl Fn(&mut Vec<Vec<u8>>),
    ) -> String {
        let (_, rechecked) = self.recheck(change, blobs);
        let (item, why) = rechecked.first_difference().expect("a lie");
        assert_eq!((item.checkpoint, item.index), (0, self.index));
        why.to_owned()
    }

    /// As [`Liar::tells`], with one blob of evidence in the place of another, of which the record then has the digest.
    pub(crate) fn shows(&self, kind: &str, change: impl Fn(&mut Vec<u8>)) -> String {
        self.shows_later(kind, 0, change)
    }

    /// As [`Liar::shows`], in a record of so many milliseconds later.
    pub(crate) fn shows_later(
        &self,
        kind: &str,
        millis: u64,
        change: impl Fn(&mut Vec<u8>),
    ) -> String {
        let record: serde_json::Value =
            serde_json::from_slice(&self.entries[usize::try_from(self.index).unwrap()]).unwrap();
        let evidence = record["body"]["evidence"].as_array().unwrap();
        let named = evidence.iter().find(|one| one["kind"] == kind).unwrap();
        let old = named["sha256"].as_str().unwrap();
        let mut blob = self.report.blobs[old].clone();
        change(&mut blob);
        let new = HexDigest::of(&blob).to_string();
        let wall = |wall: u64| format!("\"wall\":\"{wall}\"");
        let at: u64 = record["time"]["wall"].as_str().unwrap().parse().unwrap();
        let (then, later) = (wall(at), wall(at + millis));
        self.tells(
            |text| text.replace(old, &new).replace(&then, &later),
            |blobs| {
                blobs.retain(|one| HexDigest::of(one).to_string() != old);
                blobs.push(blob.clone());
            },
        )
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_changes_evidence_and_digests_is_found_out() {
    let Some(site) = Site::start("server.recheck-liar", &(SNP.to_owned() + GOOD), "").await else {
        return;
    };
    site.join(honest).await.unwrap();
    let (_, question) = newest(&site.fixture).await;
    let (index, _) = site.fixture.records(&["verdict"]).await.pop().unwrap();
    let liar = Liar::of(&site.fixture, &question, index).await;
    let (_, honest) = liar.recheck(str::to_owned, |_| {});
    assert_eq!(honest.recomputed(), 2, "{honest:?}");

    // From the end: of the nonce its random bytes, of the channel the server's key; of the report its measurement.
    for (kind, back, code) in [
        ("tpm-pcr-values", 1, "TPM-QUOTE-DIGEST"),
        ("join-nonce", 1, "TPM-QUOTE-NONCE"),
        ("join-channel", 1, "TPM-CERTIFY-TRANSCRIPT"),
        ("session-key-proof", 1, "TPM-SESSION-PROOF"),
        ("snp-report", 1184 - 0x90, "TEE-SNP-SIGNATURE"),
    ] {
        let told = liar.shows(kind, |bytes| {
            let at = bytes.len() - back;
            bytes[at] ^= 1;
        });
        assert!(
            told.contains("its evidence is refused") && told.contains(code),
            "{kind}: {told}"
        );
    }
    // A nonce that holds another ledger's checkpoint, or this one's of later.
    let told = liar.shows("join-nonce", |nonce| {
        let other = [b"example.org/server\n1\n".as_slice(), &[0; 32]].concat();
        *nonce = other;
    });
    assert!(
        told.contains("no checkpoint of the server's ledger"),
        "{told}"
    );
    let later = liar.report.checkpoints[0].clone();
    assert!(later.size > index);
    let note = liar.signer.sign(&later).unwrap();
    let told = liar.shows("join-nonce", |nonce| {
        *nonce = [note.as_bytes(), &[0; 32]].concat();
    });
    assert!(told.contains("was asked with a checkpoint of"), "{told}");
    // One that was asked before the estate was recorded, in a verdict of an hour after.
    let first = Checkpoint { size: 1, ..later };
    let note = liar.signer.sign(&first).unwrap();
    let told = liar.shows_later("join-nonce", 3_600_000, |nonce| {
        *nonce = [note.as_bytes(), &[0; 32]].concat();
    });
    assert!(told.contains("was asked long before"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_states_what_was_not_shown_is_found_out() {
    let Some(site) = Site::start("server.recheck-facts", "", "").await else {
        return;
    };
    site.join(|_| None).await.unwrap();
    let (_, question) = newest(&site.fixture).await;
    let (index, _) = site.fixture.records(&["verdict"]).await.pop().unwrap();
    let liar = Liar::of(&site.fixture, &question, index).await;
    // In the record and in the blob of the facts alike.
    let is_facts = |blob: &[u8]| blob.starts_with(b"{\"machine.");
    let old = liar
        .report
        .blobs
        .values()
        .find(|blob| is_facts(blob))
        .unwrap();
    let lie = |blob: &[u8]| {
        let text = std::str::from_utf8(blob).unwrap();
        let lied = text.replace("\"emulated\"", "\"discrete\"");
        assert_ne!(text, lied);
        lied.into_bytes()
    };
    let new = lie(old);
    let (before, after) = (
        HexDigest::of(old).to_string(),
        HexDigest::of(&new).to_string(),
    );
    let told = liar.tells(
        |text| {
            text.replace("\"emulated\"", "\"discrete\"")
                .replace(&before, &after)
        },
        |blobs| {
            blobs.retain(|blob| !is_facts(blob));
            blobs.push(new.clone());
        },
    );
    assert!(
        told.contains("it states machine.tpm.")
            && told.contains("= discrete")
            && told.contains("says emulated"),
        "{told}"
    );
    // In the record alone.
    let told = liar.tells(|text| text.replace("\"emulated\"", "\"discrete\""), |_| {});
    assert!(told.contains("otherwise than it was stated"), "{told}");
    // What was taken out of the pack is told, and named.
    let (report, rechecked) = liar.recheck(str::to_owned, |blobs| {
        blobs.retain(|blob| !blob.starts_with(b"example.org/server\n"));
    });
    assert!(!report.is_complete());
    let (item, why) = rechecked.not_recomputable().next().unwrap();
    assert_eq!(item.what, What::Verdict);
    assert!(why.contains("join-nonce"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_access_that_the_estate_denies_is_found_out_in_a_gateways_ledger() {
    const API: &str = "spiffe://example.org/payments/api";
    let fixture = Fixture::bare().await;
    let mut files = estate();
    files.insert(
        "resources/shop.toml",
        "[[database]]\nname = \"shop\"\n[[database.schema]]\nname = \"public\"\n\
         [[database.schema.table]]\nname = \"cards\"\n[[database.schema.table]]\nname = \"salaries\"\n",
    );
    files.insert(
        "policies/cards.cedar",
        "@id(\"payments reads cards\")\n\
         permit (principal == Identity::\"payments/api\", action == Action::\"select\", \
         resource == Table::\"shop/public/cards\")\n\
         when { context.workload has uid && context.workload.uid == 1000 };\n",
    );
    fixture.apply(&files).await.unwrap();
    let machine = fixture.join("m1").await;
    let mut sync = machine.sync().await.unwrap();
    sync.ask("w1", &program(1000, PROGRAM), Vec::new())
        .await
        .unwrap();
    let (index, record) = fixture.records(&["issuance"]).await.pop().unwrap();
    let (version, estate) = fixture.records(&["estate-version"]).await.pop().unwrap();
    let estate = EstateRef {
        version: estate["body"]["version"].as_str().unwrap().parse().unwrap(),
        index: version,
    };

    let mut recording = Recording::start(&fixture).await;
    let start = SessionStart {
        session: "s1".to_owned(),
        spiffe_id: API.to_owned(),
        serial: record["body"]["serial"].as_str().unwrap().to_owned(),
        issuance: Some(Decimal(index)),
        resource: "postgres:shop".to_owned(),
        role: "r".to_owned(),
        application: "psql".to_owned(),
        claimed_on_behalf_of: Vec::new(),
        on_behalf_of: Vec::new(),
    };
    let reads = |table: &str| Intent {
        session: "s1".to_owned(),
        statement: "f".to_owned(),
        actions: vec![ActionOn {
            action: "select".to_owned(),
            resources: vec![format!("Table::\"shop/public/{table}\"")],
            more: None,
        }],
        decision: "s1.1".to_owned(),
        policies: vec!["payments reads cards".to_owned()],
        coverage: Coverage::Complete,
        more_policies: None,
        claimed_on_behalf_of: Vec::new(),
        on_behalf_of: Vec::new(),
    };
    recording.append(API, start.record());
    recording.append(API, reads("cards").record().estate(estate));
    recording.anchor().await;
    let question = "{\"kind\":\"access\",\"identity\":\"payments/api\"}";
    let (_, items) = rechecked(&fixture, question).await;
    let of = |what| items.iter().find(|item| item.what == what).unwrap();
    assert_eq!(of(What::Decision).outcome, Outcome::Recomputed);
    assert_eq!(of(What::Issuance).outcome, Outcome::Recomputed);

    recording.append(API, reads("salaries").record().estate(estate));
    recording.anchor().await;
    let (_, items) = rechecked(&fixture, question).await;
    let rechecked = Rechecked(items);
    let (item, why) = rechecked.first_difference().unwrap();
    assert_eq!(
        (item.checkpoint, item.index, item.what),
        (1, 2, What::Decision)
    );
    assert!(why.contains("the estate denies select on"), "{why}");
}

/// RFC 6962, section 2.1.
fn root(leaves: &[Hash]) -> Hash {
    if let [leaf] = leaves {
        return *leaf;
    }
    let (left, right) = leaves.split_at(split(leaves.len()));
    node_hash(&root(left), &root(right))
}

fn path(leaves: &[Hash], index: usize) -> Vec<Hash> {
    if leaves.len() == 1 {
        return Vec::new();
    }
    let (left, right) = leaves.split_at(split(leaves.len()));
    let (mut proof, sibling) = if index < left.len() {
        (path(left, index), root(right))
    } else {
        (path(right, index - left.len()), root(left))
    };
    proof.push(sibling);
    proof
}

/// The largest power of two below `size`.
fn split(size: usize) -> usize {
    size.next_power_of_two() / 2
}
