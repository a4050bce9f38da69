//! `trilith verify` under a quorum: packs and `.tlog-proof` files of the published vectors, also of a log and
//! witnesses that other people's programs are.

use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn vectors(name: &str) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/vectors/ledger");
    let text = std::fs::read(folder.join(name)).expect("the vectors");
    serde_json::from_slice(&text).expect("they are JSON")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(testkit::temp_dir().expect("a folder"))
    }

    fn put(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.0.path().join(name), content).expect("written");
    }

    fn verify(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_trilith"))
            .arg("verify")
            .args(arguments)
            .args(["--trust", "trust.json"])
            .env_clear()
            .current_dir(self.0.path())
            .stdin(Stdio::null())
            .output()
            .expect("it runs")
    }

    /// What it says, and its exit code.
    fn said(&self, arguments: &[&str]) -> (String, Option<i32>) {
        let output = self.verify(arguments);
        let both = [output.stdout, output.stderr].concat();
        let said = String::from_utf8(both).expect("UTF-8");
        (said, output.status.code())
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.verify(&[arguments, &["--json"]].concat());
        serde_json::from_slice(&output.stdout).expect("JSON")
    }
}

#[test]
fn a_pack_is_witnessed_or_told_not_to_be() {
    let vector = &vectors("witness.json")["pack"];
    let folder = Folder::new();
    let pack = crypto::base64::decode(text(&vector["pack"])).expect("base64");
    folder.put("a.pack", pack);
    folder.put("trust.json", vector["trust"].to_string());
    let (said, code) = folder.said(&["a.pack"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.starts_with("verified, and complete up to record 8"),
        "{said}"
    );
    let witnessed = "\n  witnessed, as the policy asks: witness.example/w11 at 2026-11-22T02:02:49.000Z, \
                     witness.example/pq15 at 2026-11-22T02:02:49.000Z\n";
    assert!(said.contains(witnessed), "{said}");
    let told = folder.json(&["a.pack"]);
    assert_eq!(told["complete"], true);
    assert_eq!(told["quorum"]["reached"], true);
    let lines = told["quorum"]["cosignatures"].as_array().expect("lines");
    let kinds: Vec<&str> = lines.iter().map(|line| text(&line["kind"])).collect();
    assert_eq!(kinds, ["ed25519", "ml-dsa-44"]);

    // All three of them are asked for.
    let mut trust = vector["trust"].clone();
    trust["policy"] = text(&trust["policy"])
        .replace("group g 2", "group g all")
        .into();
    folder.put("trust.json", trust.to_string());
    let (said, code) = folder.said(&["a.pack"]);
    assert_eq!(code, Some(0), "{said}");
    let first = "verified; NOT shown to be complete: the checkpoint of example.org/server is cosigned by 2 of \
                 the trust file's witnesses, which is not its quorum, so that others may be shown another ledger\n";
    assert!(said.starts_with(first), "{said}");
    assert!(
        said.contains("\n  NOT witnessed as the policy asks, only: witness.example/w11"),
        "{said}"
    );
    assert_eq!(folder.json(&["a.pack"])["complete"], false);

    // Without a policy nobody vouches for their lines.
    trust.as_object_mut().expect("an object").remove("policy");
    folder.put("trust.json", trust.to_string());
    let (said, code) = folder.said(&["a.pack"]);
    assert!(
        code == Some(3) && said.contains("PACK-CHECKPOINT"),
        "{said}"
    );

    trust["policy"] = "quorum nobody".into();
    folder.put("trust.json", trust.to_string());
    let (said, code) = folder.said(&["a.pack"]);
    let why = "the trust file's policy: line 1: no witness or group \"nobody\"";
    assert!(
        code != Some(0) && said.contains("VERIFY-TRUST-FILE") && said.contains(why),
        "{said}"
    );
}

#[test]
fn a_proof_file_is_verified_or_refused_by_name() {
    let vector = vectors("witness.json");
    let folder = Folder::new();
    let proof = text(&vector["tlog_proof"]["proof"]);
    folder.put("a.tlog-proof", proof);
    folder.put("record", "record 6");
    folder.put("other", "record 7");
    folder.put("trust.json", vector["trust"].to_string());
    let (said, code) = folder.said(&["a.tlog-proof", "--record", "record"]);
    assert_eq!(code, Some(0), "{said}");
    let first = "verified: these 8 bytes are record 6 of the 13 of example.org/server\n  witnessed, as the policy \
                 asks: witness.example/w11 at ";
    assert!(said.starts_with(first), "{said}");
    let told = folder.json(&["a.tlog-proof", "--record", "record"]);
    assert_eq!((&told["index"], &told["size"]), (&6.into(), &13.into()));
    assert_eq!(told["quorum"]["reached"], true);

    // The proof may carry the record itself.
    let extra = crypto::base64::encode(b"record 6");
    folder.put(
        "b.tlog-proof",
        proof.replacen("index 6", &format!("extra {extra}\nindex 6"), 1),
    );
    assert_eq!(folder.said(&["b.tlog-proof"]).1, Some(0));

    for (name, content, record, expected, exit) in [
        (
            "another record",
            proof.to_owned(),
            Some("other"),
            "LEDGER-PROOF-ROOT",
            3,
        ),
        (
            "another index",
            proof.replacen("index 6", "index 7", 1),
            Some("record"),
            "LEDGER-PROOF-ROOT",
            3,
        ),
        (
            "no hash",
            proof.replacen("index 6\n", "index 6\nx\n", 1),
            Some("record"),
            "LEDGER-PROOF-FILE",
            3,
        ),
        (
            "too few",
            without(proof, "witness.example/pq12"),
            Some("record"),
            "LEDGER-QUORUM",
            3,
        ),
        (
            "unsigned",
            without(proof, "example.org/server"),
            Some("record"),
            "LEDGER-NOTE-UNSIGNED",
            3,
        ),
        ("no record", proof.to_owned(), None, "--record", 2),
    ] {
        folder.put("c.tlog-proof", content);
        let mut arguments = vec!["c.tlog-proof"];
        arguments.extend(record.into_iter().flat_map(|record| ["--record", record]));
        let (said, code) = folder.said(&arguments);
        assert!(
            code == Some(exit) && said.contains(expected),
            "{name}: {code:?} {said}"
        );
    }
    let pack = &vectors("packs.json")["valid"][0]["pack"];
    folder.put(
        "a.pack",
        crypto::base64::decode(text(pack)).expect("base64"),
    );
    let (said, code) = folder.said(&["a.pack", "--record", "record"]);
    assert!(
        code == Some(2) && said.contains("a pack has its records"),
        "{said}"
    );
}

/// A note without the line of that key.
fn without(proof: &str, name: &str) -> String {
    let line = format!("\u{2014} {name} ");
    let lines = proof.split_inclusive('\n');
    lines.filter(|held| !held.starts_with(&line)).collect()
}

#[test]
fn a_proof_of_another_log_is_verified_where_the_policy_lists_it() {
    let (peers, vector) = (vectors("peers.json"), vectors("witness.json"));
    let folder = Folder::new();
    folder.put("a.tlog-proof", text(&peers["tlog_proof"]["proof"]));
    folder.put("record", text(&peers["tlog_proof"]["record"]));
    let policy = format!(
        "log {}\nlog {}\nwitness pq {}\nwitness ed {}\ngroup g all pq ed\nquorum g\n",
        text(&vector["log_key"]),
        text(&peers["log"]["key"]),
        text(&peers["witnesses"]["witness_ml_dsa_44"]),
        text(&peers["witnesses"]["witness_ed25519"]),
    );
    let mut trust = json!({ "trust_domain": "example.org", "ledger_key": vector["log_key"] });
    folder.put("trust.json", trust.to_string());
    let (said, code) = folder.said(&["a.tlog-proof", "--record", "record"]);
    assert!(
        code == Some(3) && said.contains("LEDGER-CHECKPOINT-ORIGIN"),
        "{said}"
    );
    trust["policy"] = policy.into();
    folder.put("trust.json", trust.to_string());
    let (said, code) = folder.said(&["a.tlog-proof", "--record", "record"]);
    assert!(
        code == Some(0) && said.contains("record 6 of the 13 of go.example/log"),
        "{said}"
    );
}
