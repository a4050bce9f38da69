//! `trilith verify`: what it says of packs that are whole, that are not, and of what is no pack at all. The
//! packs are the published vectors.

use serde_json::Value;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

struct Vectors {
    folder: tempfile::TempDir,
    packs: Value,
}

impl Vectors {
    fn read() -> Self {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/vectors/ledger/packs.json");
        let packs: Value = serde_json::from_slice(&std::fs::read(path).expect("the vectors"))
            .expect("they are JSON");
        let folder = testkit::temp_dir().expect("a folder");
        let trust = serde_json::json!({
            "trust_domain": packs.get("trust_domain"), "ledger_key": packs.get("ledger_key"),
        });
        std::fs::write(folder.path().join("trust.json"), trust.to_string()).expect("written");
        Self { folder, packs }
    }

    fn bytes(pack: &Value) -> Vec<u8> {
        let text = pack.get("pack").and_then(Value::as_str).expect("base64");
        crypto::base64::decode(text).expect("base64")
    }

    fn file(&self, pack: &Value) -> PathBuf {
        let path = self.folder.path().join("a.pack");
        std::fs::write(&path, Self::bytes(pack)).expect("written");
        path
    }

    fn verify(&self, pack: &Path, json: bool) -> Output {
        self.command(pack, &self.folder.path().join("trust.json"), json)
            .stdin(Stdio::null())
            .output()
            .expect("it runs")
    }

    fn command(&self, pack: &Path, trust: &Path, json: bool) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trilith"));
        command
            .arg("verify")
            .arg(pack)
            .arg("--trust")
            .arg(trust)
            .args(json.then_some("--json"))
            .env_clear()
            .current_dir(self.folder.path());
        command
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

#[test]
fn a_whole_pack_is_verified_and_complete_up_to_where_it_ends() {
    let vectors = Vectors::read();
    let pack = vectors.file(&vectors.packs["valid"][0]);
    let told = vectors.verify(&pack, false);
    let lines = text(&told.stdout);
    assert!(told.status.success(), "{}", text(&told.stderr));
    assert!(
        lines.starts_with(
            "verified, and complete up to record 8 of example.org/server and record 7 of \
             example.org/gateway/db1 and record 0 of example.org/gateway/db2\n  \
             asked: what spiffe://example.org/payments/api did through gateways\n  \
             5 records answer; with what they rest on it is 11 records under 3 checkpoints, and 3 blobs\n  \
             checkpoint example.org/server of 9 records, as of 2026-"
        ),
        "{lines}"
    );
    // From the access back to the policy, the identity and the machine.
    let account: Vec<&str> = lines.lines().skip(6).map(str::trim_start).collect();
    expect_test::expect![[r#"
        2026-11-22T02:02:49.123Z spiffe://example.org/payments/api reached postgres:shop as the role r (db1:0)
        its SVID a1, issued at server:4 by "payments-api", with no fact that the estate makes visible
        on the machine spiffe://example.org/node/m1, affirmed at server:3, from no evidence
        by the estate of server:2, proved at server:1:
        2026-11-22T02:02:49.123Z select shop/public/cards: allowed by "p"; ok, 1 rows (db1:1)
        2026-11-22T02:02:49.123Z select shop/public/cards: DENIED by no policy that permits it (db1:6)
        recomputed, with the same result: 0 of 4 decisions, issuances and verdicts
        not recomputable: decision db1:1 and 1 more: the estate of the server's record 2 is none that this version reads
        not recomputable: issuance server:4: the opening of what it commits to, the facts that it was decided on
        not recomputable: verdict server:3: the facts that it states cannot be read"#]].assert_eq(&account.join("\n"));
    let told = vectors.verify(&pack, true);
    let told: Value = serde_json::from_slice(&told.stdout).expect("JSON");
    assert_eq!(
        (&told["verified"], &told["complete"]),
        (&true.into(), &true.into())
    );
    assert_eq!(told["answers"], 5);
    assert_eq!(told["not_shown"], serde_json::json!([]));
    assert_eq!(
        told["question"],
        "{\"kind\":\"access\",\"identity\":\"spiffe://example.org/payments/api\"}"
    );
}

#[test]
fn what_is_cut_out_of_a_pack_is_refused_or_told() {
    let vectors = Vectors::read();
    for case in vectors.packs["cut"].as_array().expect("cases") {
        let told = vectors.verify(&vectors.file(case), false);
        let said = text(&told.stderr);
        assert_eq!(told.status.code(), Some(3), "{case}");
        assert!(told.stdout.is_empty());
        let code = case["code"].as_str().expect("a code");
        let record = format!("record {}", case["record"]);
        assert!(said.contains(code) && said.contains(&record), "{said}");
    }
    let pack = vectors.file(&vectors.packs["incomplete"]);
    let told = vectors.verify(&pack, false);
    assert!(told.status.success());
    let said = text(&told.stdout);
    assert!(
        said.starts_with(
            "verified; NOT shown to be complete: the entries of example.org/gateway/db1 are not in \
             the pack, so that records may be left out\n"
        ),
        "{said}"
    );
    let told = vectors.verify(&pack, true);
    let told: Value = serde_json::from_slice(&told.stdout).expect("JSON");
    assert_eq!(
        (&told["verified"], &told["complete"]),
        (&true.into(), &false.into())
    );
    let complete: Vec<&Value> = told["checkpoints"]
        .as_array()
        .expect("checkpoints")
        .iter()
        .map(|checkpoint| &checkpoint["complete"])
        .collect();
    assert_eq!(complete, [true, false, true]);
    for case in vectors.packs["refused"].as_array().expect("cases") {
        let told = vectors.verify(&vectors.file(case), true);
        assert_eq!(told.status.code(), Some(3), "{case}");
    }
}

#[test]
fn devices_and_what_has_no_end_are_not_read() {
    let vectors = Vectors::read();
    let zero = Path::new("/dev/zero");
    let pack = vectors.file(&vectors.packs["valid"][0]);
    let trust = vectors.folder.path().join("trust.json");
    let folder = vectors.folder.path();
    for (pack, trust) in [
        (zero, &*trust),
        (&*pack, zero),
        (folder, &*trust),
        (&*pack, folder),
    ] {
        let told = vectors
            .command(pack, trust, false)
            .output()
            .expect("it runs");
        assert_eq!(told.status.code(), Some(1), "{}", pack.display());
        let said = text(&told.stderr);
        assert!(said.contains("CLI-FILE-KIND"), "{said}");
    }
    // More than any trust file has, through a pipe that would go on.
    let stdin = Path::new("/dev/stdin");
    let mut yes = Command::new("yes")
        .stdout(Stdio::piped())
        .spawn()
        .expect("yes");
    let told = vectors
        .command(&pack, stdin, false)
        .stdin(yes.stdout.take().expect("a pipe"))
        .output()
        .expect("it runs");
    yes.wait().expect("its pipe is closed");
    let said = text(&told.stderr);
    assert!(
        said.contains("VERIFY-TRUST-FILE") && said.contains("more than"),
        "{said}"
    );
}

#[test]
fn a_pack_comes_through_a_pipe_as_well() {
    let vectors = Vectors::read();
    let trust = vectors.folder.path().join("trust.json");
    let mut child = vectors
        .command(Path::new("/dev/stdin"), &trust, false)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let bytes = Vectors::bytes(&vectors.packs["valid"][0]);
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(&bytes).expect("it reads");
    drop(stdin);
    let told = child.wait_with_output().expect("it ends");
    assert!(text(&told.stdout).starts_with("verified, and complete"));
}
