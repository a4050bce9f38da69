//! `trilith pack` at a running server, and what its users hold of their own: certificates beside the issuances of a
//! pack, and ranges that are written the wrong way round.

use serde_json::Value;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// A server, which ends with the test.
struct Site {
    folder: tempfile::TempDir,
    listen: SocketAddr,
    server: Child,
}

impl Drop for Site {
    fn drop(&mut self) {
        let _gone = self.server.kill();
        let _gone = self.server.wait();
    }
}

fn said(output: &Output) -> String {
    let both = [output.stdout.as_slice(), &output.stderr].concat();
    String::from_utf8(both).expect("UTF-8")
}

fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trilith"));
    command
        .env_clear()
        .env("TRILITH_ADMIN_SOCKET", folder.join("data/admin.sock"))
        .current_dir(folder)
        .stdin(Stdio::null());
    command
}

impl Site {
    fn start() -> Self {
        let folder = testkit::temp_dir().expect("a folder");
        let free = || testkit::port::free().expect("a port");
        let (listen, keys) = (free(), folder.path().join("keys"));
        let config = format!(
            "trust_domain = \"example.org\"\ndata_dir = \"data\"\nlisten = \"{listen}\"\nhttp_listen = \"{}\"\n\
             [custody.ca]\nkind = \"file\"\ndir = \"{1}/ca\"\n\
             [custody.ledger]\nkind = \"file\"\ndir = \"{1}/ledger\"\n",
            free(),
            keys.display()
        );
        std::fs::write(folder.path().join("server.toml"), config).expect("written");
        let log = std::fs::File::create(folder.path().join("log")).expect("a log");
        let server = command(folder.path())
            .args(["server", "--config", "server.toml"])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("it starts");
        let site = Self {
            folder,
            listen,
            server,
        };
        testkit::until(
            || site.run(&["status", "--json"]).status.success(),
            || std::fs::read_to_string(site.path("log")).unwrap_or_default(),
        );
        let trust = site.run(&["trust"]);
        assert!(trust.status.success(), "{}", said(&trust));
        std::fs::write(site.path("trust.json"), &trust.stdout).expect("written");
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        command(self.folder.path())
            .args(arguments)
            .output()
            .expect("it runs")
    }

    /// The chain that the server shows whoever connects, written to a file of that name.
    fn chain(&self, name: &str) {
        let address = self.listen.to_string();
        let shown = Command::new("openssl")
            .args(["s_client", "-showcerts", "-connect", &address])
            .stdin(Stdio::null())
            .output()
            .expect("openssl runs");
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        assert!(shown.contains("BEGIN CERTIFICATE"), "{shown}");
        std::fs::write(self.path(name), shown).expect("written");
    }

    /// The serial of the server's own SVID.
    fn serial(&self) -> String {
        let found = self.run(&[
            "ledger", "search", "--folder", "data", "--type", "issuance", "--json",
        ]);
        let text = said(&found);
        let records = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        let mut serials = records.filter_map(|line: Value| {
            let record = line.get("record").unwrap_or(&line);
            let serial = record.pointer("/body/serial").and_then(Value::as_str);
            serial.map(str::to_owned)
        });
        serials.next().unwrap_or_else(|| panic!("{text}"))
    }
}

#[test]
fn a_certificate_that_one_holds_stands_beside_its_issuance() {
    if let Err(why) = testkit::tools(["openssl"]) {
        testkit::skip("trilith.packing-certificates", &why);
        return;
    }
    let site = Site::start();
    site.chain("svid.pem");
    let serial = site.serial();
    let asked = ["pack", "--issuance", serial.as_str(), "--output", "a.pack"];
    let output = site.run(&[&asked[..], &["--certificate", "svid.pem"]].concat());
    assert!(output.status.success(), "{}", said(&output));

    let verify = ["verify", "a.pack", "--trust", "trust.json"];
    let output = site.run(&[&verify[..], &["--html", "a.html"]].concat());
    let told = said(&output);
    assert!(output.status.success(), "{told}");
    assert!(
        told.contains(" is the SVID of the server's record ")
            && told.contains("leads to a root of the trust file"),
        "{told}"
    );
    let output = site.run(&[&verify[..], &["--json"]].concat());
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let sha256 = told
        .pointer("/certificates/0/sha256")
        .and_then(Value::as_str);
    let sha256 = sha256.expect("a certificate");
    let page = std::fs::read_to_string(site.path("a.html")).expect("a page");
    assert!(page.contains("in the pack, SHA-256") && page.contains(sha256));

    // The server has put it in by itself, as it is; where it is not to be, it is not.
    let held = std::fs::read(site.path("a.pack")).expect("a pack");
    let output = site.run(&["pack", "--issuance", &serial, "--output", "own.pack"]);
    assert!(output.status.success(), "{}", said(&output));
    let verified = |pack: &str, trust: &str| {
        let output = site.run(&["verify", pack, "--trust", trust, "--json"]);
        let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        (output.status.code(), told)
    };
    let (code, told) = verified("own.pack", "trust.json");
    assert_eq!(code, Some(0), "{told:#}");
    let own = told
        .pointer("/certificates/0/sha256")
        .and_then(Value::as_str);
    assert_eq!(own, Some(sha256), "{told:#}");
    let output = site.run(&[&asked[..], &["--without-certificates"]].concat());
    assert!(output.status.success(), "{}", said(&output));
    let (code, told) = verified("a.pack", "trust.json");
    assert_eq!(code, Some(0), "{told:#}");
    assert_eq!(told["certificates"], serde_json::json!([]), "{told:#}");
    std::fs::write(site.path("a.pack"), held).expect("written");

    // Whoever trusts no root of it is told what to do.
    let mut trust: Value =
        serde_json::from_slice(&std::fs::read(site.path("trust.json")).expect("a file"))
            .expect("JSON");
    trust
        .as_object_mut()
        .expect("an object")
        .remove("x509_authorities");
    std::fs::write(site.path("other.json"), trust.to_string()).expect("written");
    let output = site.run(&["verify", "a.pack", "--trust", "other.json"]);
    let told = said(&output);
    assert_eq!(output.status.code(), Some(3), "{told}");
    assert!(
        told.contains("PACK-CERTIFICATE")
            && told.contains("`trilith trust`")
            && told.contains("--without-certificates"),
        "{told}"
    );

    // What does not go with the answer makes no pack.
    let other = ["pack", "--record", "server:0", "--output", "b.pack"];
    let output = site.run(&[&other[..], &["--certificate", "svid.pem"]].concat());
    let told = said(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("CLI-CERTIFICATE"), "{told}");
    let output = site.run(&[&other[..], &["--certificate", "server.toml"]].concat());
    let told = said(&output);
    assert!(told.contains("no certificates that can be read"), "{told}");
    assert!(!site.path("b.pack").exists(), "no half-written file");

    for range in ["server:5..2", "1h..2h"] {
        let output = site.run(&["pack", "--range", range, "--output", "c.pack"]);
        let told = said(&output);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains("ends before it begins"), "{told}");
    }
}

impl Site {
    /// Ends the server, and copies what it has.
    fn copied(&mut self, name: &str) -> PathBuf {
        let pid = self.server.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(sent.expect("kill runs").success());
        self.server.wait().expect("it is gone");
        let copied = Command::new("cp")
            .arg("-a")
            .args([self.path("data"), self.path(name)])
            .status();
        assert!(copied.expect("cp runs").success());
        self.path(name)
    }
}

/// The file below `dir` that has `part`, and where it stands in it.
fn holding(dir: &Path, part: &[u8]) -> Option<(PathBuf, usize)> {
    let entries = std::fs::read_dir(dir).expect("a folder");
    entries.into_iter().find_map(|entry| {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            return holding(&path, part);
        }
        let bytes = std::fs::read(&path).expect("a file");
        let at = bytes
            .windows(part.len())
            .position(|window| window == part)?;
        Some((path, at))
    })
}

#[test]
fn whoever_has_a_copy_makes_packs_of_it_and_asks_no_server() {
    let mut site = Site::start();
    let serial = site.serial();
    let asked = ["pack", "--issuance", serial.as_str(), "--output"];
    let output = site.run(&[&asked[..], &["server.pack"]].concat());
    assert!(output.status.success(), "{}", said(&output));
    let copy = site.copied("copy");
    let of_copy = ["--folder", "copy", "--trust", "trust.json"];
    let made = |site: &Site, name: &str, more: &[&str]| {
        let output = site.run(&[&asked[..], &[name], more].concat());
        assert_eq!(output.status.success(), site.path(name).exists());
        (output.status.code(), said(&output))
    };
    let (code, told) = made(&site, "none.pack", &[]);
    assert_ne!(code, Some(0), "there is no server to ask: {told}");
    let with_page = [&of_copy[..], &["--html", "copy.html"]].concat();
    let (code, told) = made(&site, "copy.pack", &with_page);
    assert_eq!(code, Some(0), "{told}");
    let page = std::fs::read_to_string(site.path("copy.html")).expect("a page");
    assert!(page.contains(&serial), "{page}");

    // It says what the server's said.
    let verified = |pack: &str| {
        let output = site.run(&["verify", pack, "--trust", "trust.json", "--json"]);
        assert!(output.status.success(), "{}", said(&output));
        let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let answers = told.get("records").and_then(Value::as_array);
        let answers: Vec<Value> = answers
            .expect("records")
            .iter()
            .filter(|record| record.get("answers") == Some(&Value::Bool(true)))
            .cloned()
            .collect();
        let of = |name: &str| told.get(name).cloned().expect("it is there");
        (
            answers,
            of("complete"),
            of("certificates"),
            of("asked"),
            of("blobs"),
        )
    };
    let theirs = verified("server.pack");
    assert_eq!(theirs.0.len(), 1, "{theirs:?}");
    assert_eq!(verified("copy.pack"), theirs);
    match testkit::venv_python(&["cryptography"]) {
        None => testkit::skip(
            "trilith.python-verifier",
            "no Python with cryptography in target/venv; run cargo xtask test",
        ),
        Some(python) => {
            let script = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../../verifiers/python/trilith_verify.py");
            let output = Command::new(python)
                .arg(script)
                .arg(site.path("copy.pack"))
                .arg("--trust")
                .arg(site.path("trust.json"))
                .output();
            let output = output.expect("it runs");
            assert!(output.status.success(), "{}", said(&output));
        }
    }

    // What to trust is said, and by nobody else than the user.
    assert_eq!(made(&site, "a.pack", &["--folder", "copy"]).0, Some(2));
    let (code, told) = made(&site, "a.pack", &["--trust", "trust.json"]);
    assert_eq!(code, Some(2), "{told}");
    let other = site.path("trust.json");
    let text = std::fs::read_to_string(&other).expect("a file");
    let mut trust: Value = serde_json::from_str(&text).expect("JSON");
    let key = crypto::KeyPair::generate(crypto::Algorithm::Ed25519).expect("a key");
    let signer = ledger::LedgerSigner::new("example.org/server", std::sync::Arc::new(key));
    let key = signer.expect("a signer").key().to_string();
    let document = trust.as_object_mut().expect("an object");
    document.insert("ledger_key".to_owned(), Value::String(key));
    std::fs::write(site.path("other.json"), trust.to_string()).expect("written");
    let (code, told) = made(
        &site,
        "a.pack",
        &["--folder", "copy", "--trust", "other.json"],
    );
    assert_eq!(code, Some(3), "{told}");
    assert!(told.contains("PACK-COPY-FOREIGN"), "{told}");

    // One byte of any record.
    let (path, at) = holding(&copy.join("ledger/segments"), b"\"bundle\"").expect("a record");
    let mut bytes = std::fs::read(&path).expect("a segment");
    let byte = bytes.get_mut(at + 1).expect("a byte");
    *byte ^= 1;
    std::fs::write(&path, bytes).expect("written");
    let (code, told) = made(&site, "a.pack", &of_copy);
    assert_ne!(code, Some(0), "{told}");
    assert!(told.contains("RECORDS-LEDGER"), "{told}");
}

/// It said that "5 of 4 answer": what the answers belong to is no answer that matches.
#[test]
fn no_more_records_are_said_to_answer_than_there_are() {
    let vectors =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/vectors/ledger/packs.json");
    let vectors: Value =
        serde_json::from_slice(&std::fs::read(vectors).expect("the vectors")).expect("JSON");
    let folder = testkit::temp_dir().expect("a folder");
    let trust = serde_json::json!({
        "trust_domain": vectors["trust_domain"], "ledger_key": vectors["ledger_key"],
    });
    std::fs::write(folder.path().join("trust.json"), trust.to_string()).expect("written");
    let mut seen = 0;
    for case in vectors["valid"].as_array().expect("cases") {
        let pack = crypto::base64::decode(case["pack"].as_str().expect("base64")).expect("base64");
        std::fs::write(folder.path().join("a.pack"), pack).expect("written");
        let output = command(folder.path())
            .args(["verify", "a.pack", "--trust", "trust.json"])
            .output()
            .expect("it runs");
        let told = said(&output);
        let heads = told
            .lines()
            .filter(|line| line.contains(" records, as of "));
        for line in heads.filter(|line| line.contains(" answer; ")) {
            let (_, rest) = line.rsplit_once(": ").expect(line);
            let (numbers, _) = rest.split_once(" answer; ").expect(line);
            seen += 1;
            if let Some((some, all)) = numbers.split_once(" of ") {
                let number = |text: &str| text.trim().parse::<u64>().expect(line);
                assert!(number(some) < number(all), "{line}");
            }
        }
    }
    assert!(seen > 0);
}

/// Whoever has read enough of what the Python verifier says has not made it fail.
#[test]
fn the_python_verifier_ends_quietly_when_nobody_reads_on() {
    let Some(python) = testkit::venv_python(&["cryptography"]) else {
        testkit::skip(
            "trilith.python-verifier",
            "no Python with cryptography in target/venv; run cargo xtask test",
        );
        return;
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let vectors = std::fs::read(root.join("docs/vectors/ledger/packs.json")).expect("the vectors");
    let vectors: Value = serde_json::from_slice(&vectors).expect("JSON");
    let folder = testkit::temp_dir().expect("a folder");
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        let mut file = std::fs::File::create(&path).expect("a file");
        file.write_all(bytes).expect("written");
        path
    };
    let pack = vectors["valid"][0]["pack"].as_str().expect("base64");
    let trust = serde_json::json!({
        "trust_domain": vectors["trust_domain"], "ledger_key": vectors["ledger_key"],
    });
    let mut child = Command::new(python)
        .arg(root.join("verifiers/python/trilith_verify.py"))
        .arg(file(
            "a.pack",
            &crypto::base64::decode(pack).expect("base64"),
        ))
        .arg("--trust")
        .arg(file("trust.json", trust.to_string().as_bytes()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(said(&output), "");
    assert_eq!(output.status.code(), Some(0));
}
