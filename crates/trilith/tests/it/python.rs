//! `verifiers/python/trilith_verify.py` beside `trilith verify`: the same exit codes and the same `--json`, of the
//! published packs and of trust files. That both see the same in thousands of packs is tested in `ledger`.

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

struct Judges {
    folder: tempfile::TempDir,
    python: PathBuf,
    vectors: Value,
}

/// Exit code, what `--json` prints, and what stands beside it.
type Told = (Option<i32>, Value, String);

impl Judges {
    fn find() -> Option<Self> {
        let Some(python) = testkit::venv_python(&["cryptography"]) else {
            testkit::skip(
                "trilith.python-verifier",
                "no Python with cryptography in target/venv; run cargo xtask test",
            );
            return None;
        };
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/vectors/ledger/packs.json");
        let vectors = serde_json::from_slice(&std::fs::read(path).expect("the vectors"));
        Some(Self {
            folder: testkit::temp_dir().expect("a folder"),
            python,
            vectors: vectors.expect("they are JSON"),
        })
    }

    fn text(&self, pointer: &str) -> &str {
        let text = self.vectors.pointer(pointer).and_then(Value::as_str);
        text.expect(pointer)
    }

    fn trust(&self) -> String {
        let (domain, key) = (self.text("/trust_domain"), self.text("/ledger_key"));
        json!({"trust_domain": domain, "ledger_key": key}).to_string()
    }

    /// What both say; their words may differ.
    fn both(&self, pack: &[u8], trust: &str) -> (Told, Told) {
        let (pack_file, trust_file) = (
            self.folder.path().join("a.pack"),
            self.folder.path().join("trust"),
        );
        std::fs::write(&pack_file, pack).expect("written");
        std::fs::write(&trust_file, trust).expect("written");
        let script =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../verifiers/python/trilith_verify.py");
        let run = |mut command: Command| {
            let output = command
                .arg(&pack_file)
                .arg("--trust")
                .arg(&trust_file)
                .arg("--json")
                .env_clear()
                .stdin(Stdio::null())
                .output()
                .expect("it runs");
            let told = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
            let beside = String::from_utf8_lossy(&output.stderr).into_owned();
            (output.status.code(), told, beside)
        };
        let mut rust = Command::new(env!("CARGO_BIN_EXE_trilith"));
        rust.arg("verify");
        let mut python = Command::new(&self.python);
        python.arg(script);
        (run(rust), run(python))
    }
}

#[test]
fn two_verifiers_say_the_same_of_the_published_packs() {
    let Some(judges) = Judges::find() else { return };
    let mut packs: Vec<(i32, Vec<u8>)> = Vec::new();
    let pack = |case: &Value| {
        let text = case.get("pack").and_then(Value::as_str).expect("a pack");
        crypto::base64::decode(text).expect("base64")
    };
    let cases = |name: &str| {
        judges
            .vectors
            .get(name)
            .and_then(Value::as_array)
            .expect("cases")
    };
    packs.extend(cases("valid").iter().map(|case| (0, pack(case))));
    packs.push((0, pack(judges.vectors.get("incomplete").expect("a case"))));
    packs.extend(cases("cut").iter().map(|case| (3, pack(case))));
    packs.extend(cases("refused").iter().map(|case| (3, pack(case))));
    packs.push((3, Vec::new()));
    for (expected, pack) in &packs {
        let (mut rust, mut python) = judges.both(pack, &judges.trust());
        assert_eq!(
            (rust.0, python.0),
            (Some(*expected), Some(*expected)),
            "{}{}",
            rust.2,
            python.2
        );
        for told in [&mut rust.1, &mut python.1] {
            let document = told.as_object_mut().expect("a document");
            document.remove("message");
            // The question in words.
            document.remove("asked");
            // The second verifier makes nothing again, and says so.
            document.remove("recomputed");
        }
        assert_eq!(rust.1, python.1);
        assert_eq!(rust.1.get("verified"), Some(&Value::Bool(*expected == 0)));
    }
    let other = judges.text("/another_key/ledger_key");
    let trust =
        json!({"trust_domain": judges.text("/trust_domain"), "ledger_key": other}).to_string();
    let (rust, python) = judges.both(&packs.first().expect("a pack").1, &trust);
    let code = Some(judges.text("/another_key/code"));
    for (status, told, _) in [rust, python] {
        assert_eq!(
            (status, told.get("code").and_then(Value::as_str)),
            (Some(3), code)
        );
    }
}

/// From one key to another, which both have signed.
fn link() -> Value {
    let signer = |origin: &str| {
        let key = crypto::KeyPair::generate(crypto::Algorithm::Ed25519).expect("a key");
        ledger::LedgerSigner::new(origin, std::sync::Arc::new(key)).expect("a signer")
    };
    let (old, new) = (signer("example.org/server"), signer("example.org/server@2"));
    let link = ledger::lineage::Link::sign(&old, &new, (40, [7; 32]), "each year");
    serde_json::to_value(link.expect("a link")).expect("JSON")
}

#[test]
fn two_verifiers_take_the_same_trust_files() {
    let Some(judges) = Judges::find() else { return };
    let good = judges.trust();
    let key = judges.text("/ledger_key");
    let toml = format!("trust_domain = \"example.org\"\nledger_key = \"{key}\"\n");
    let with_lineage =
        |lineage: &Value| good.replacen('{', &format!("{{\"lineage\":{lineage},"), 1);
    // Of another lineage: it has to verify, and leads nowhere.
    let link = link();
    let changed = |field: &str, value: Value| {
        let mut link = link.clone();
        let fields = link.as_object_mut().expect("an object");
        fields.insert(field.to_owned(), value);
        with_lineage(&json!([link]))
    };
    let without = |field: &str| {
        let mut link = link.clone();
        let fields = link.as_object_mut().expect("an object");
        fields.remove(field);
        with_lineage(&json!([link]))
    };
    let texts = [
        (0, good.clone()),
        (0, format!(" \n{good}\n")),
        (
            0,
            good.replacen('{', "{\"x509_authorities\":[\"AAAA\"],", 1),
        ),
        (0, toml.clone()),
        (0, format!("# mine\n{toml}x509_authorities = []\n")),
        (0, format!("\u{feff}{toml}")),
        (
            0,
            format!("{toml}policy = \"\"\"\nquorum none\n\"\"\"\n").replace('\n', "\r\n"),
        ),
        (1, format!("{toml}policy = 1\n")),
        (1, good.replacen('{', "{\"x509_authorities\":null,", 1)),
        (1, good.replacen('{', "{\"x509_authorities\":[\"A\"],", 1)),
        (
            1,
            good.replacen('{', "{\"trust_domain\":\"example.org\",", 1),
        ),
        (1, good.replacen('{', "{\"more\":1,", 1)),
        (1, good.replace("\"example.org\"", "\"example.com\"")),
        (1, good.replace("\"example.org\"", "\"Example.org\"")),
        (1, good.replace("\"example.org\"", "\"\"")),
        (1, good.replace("\"example.org\"", "7")),
        (1, good.replace("/server+", "/servex+")),
        (1, good.replace("/server+", "/ser ver+")),
        (0, with_lineage(&json!([]))),
        (0, with_lineage(&json!([link.clone()]))),
        (1, with_lineage(&Value::Null)),
        (1, with_lineage(&json!({}))),
        (1, with_lineage(&json!([7]))),
        (1, with_lineage(&json!(["statement"]))),
        (1, without("reason")),
        (1, without("old_signature")),
        (1, changed("reason", json!(5))),
        (1, changed("what", json!("x509-root"))),
        (1, changed("what", Value::Null)),
        (1, changed("more", json!(""))),
        (1, changed("old_signature", link["new_signature"].clone())),
        (1, changed("statement", json!("trilith"))),
        (1, String::new()),
        (1, "[]".to_owned()),
        (1, "{}".to_owned()),
        (1, "{".repeat(5_000)),
        (1, "trilith-pack/1".to_owned()),
    ];
    let valid = judges
        .vectors
        .pointer("/valid/0/pack")
        .and_then(Value::as_str)
        .expect("a pack");
    let pack = crypto::base64::decode(valid).expect("base64");
    for (expected, text) in texts {
        let (rust, python) = judges.both(&pack, &text);
        for (status, _, beside) in [rust, python] {
            assert_eq!(status, Some(expected), "{text:?}: {beside}");
            assert!(
                expected == 0 || beside.contains("VERIFY-TRUST-FILE"),
                "{text:?}: {beside}"
            );
        }
    }
}
