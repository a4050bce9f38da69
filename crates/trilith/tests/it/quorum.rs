//! A server under a quorum, as its users run it: one witness is a library that nobody here wrote (tests/peers/tlog),
//! the other is `trilith witness`. What they cosigned is read by other people's tools: the lines by their verifiers,
//! the whole ledger by Tessera's `fsck`.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

pub(crate) fn free() -> SocketAddr {
    testkit::port::free().expect("a port")
}

/// Ends with the test.
pub(crate) struct Process(pub(crate) Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

pub(crate) struct Site {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) http: SocketAddr,
}

pub(crate) fn said(output: &Output) -> String {
    let both = [output.stdout.as_slice(), &output.stderr].concat();
    String::from_utf8(both).expect("UTF-8")
}

impl Site {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn put(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("written");
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trilith"));
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("TRILITH_ADMIN_SOCKET", self.path("data/admin.sock"))
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command().args(arguments).output().expect("it runs")
    }

    pub(crate) fn start(&self, role: &str) -> Process {
        let log = std::fs::File::create(self.path(&format!("{role}.log"))).expect("a log");
        let config = self.path(&format!("{role}.toml"));
        let mut command = self.command();
        command.arg(role).arg("--config").arg(config);
        command.stdout(Stdio::null()).stderr(log);
        Process(command.spawn().expect("it starts"))
    }

    pub(crate) fn until(&self, what: &str, holds: impl Fn() -> bool) {
        testkit::until(holds, || {
            let log = |role| std::fs::read_to_string(self.path(role)).unwrap_or_default();
            format!("{what}\n{}\n{}", log("server.log"), log("witness.log"))
        });
    }

    pub(crate) fn server(&self, more: &str) -> Process {
        let folder = self.folder.path().display();
        self.put(
            "server.toml",
            &format!(
                "trust_domain = \"example.org\"\ndata_dir = \"data\"\nlisten = \"{}\"\nhttp_listen = \"{}\"\n\
                 [custody.ca]\nkind = \"file\"\ndir = \"{folder}/keys/ca\"\n\
                 [custody.ledger]\nkind = \"file\"\ndir = \"{folder}/keys/ledger\"\n{more}",
                free(),
                self.http
            ),
        );
        let server = self.start("server");
        self.until("the server answers", || {
            self.run(&["status", "--json"]).status.success()
        });
        server
    }

    pub(crate) fn status(&self) -> serde_json::Value {
        let output = self.run(&["status", "--json"]);
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// The body of an answer, and that it may be kept for ever if it is a tile.
    fn get(&self, path: &str) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.http).expect("connected");
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer");
        let end = answer
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .expect("a head");
        let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 200"), "{head}");
        let kept = head.contains("\r\ncache-control: public, max-age=604800, immutable");
        assert_eq!(kept, path.starts_with("/tile/"), "{head}");
        answer[end + 4..].to_vec()
    }

    /// The note that is served.
    fn checkpoint(&self) -> String {
        String::from_utf8(self.get("/checkpoint")).expect("UTF-8")
    }
}

pub(crate) fn peer(program: &Path, arguments: &[&str]) -> Output {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("it runs")
}

#[test]
fn a_ledger_under_independent_witnesses_is_read_by_other_peoples_tools() {
    let program = match testkit::go_peer("tlog") {
        Ok(program) => program,
        Err(why) => return testkit::skip("trilith::go_log", &why),
    };
    let site = Site {
        folder: testkit::temp_dir().expect("a folder"),
        http: free(),
    };
    // The key is there once the server has been.
    let server = site.server("");
    let status = site.status();
    let key = status["ledger"]["key"].as_str().expect("a key").to_owned();
    drop(server);

    // ------------------------------------------------------------ two witnesses
    let address = free().to_string();
    let mut child = Command::new(&program)
        .args(["witness", &address, &key])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("its keys")).lines();
    let mut line = || lines.next().expect("a line").expect("UTF-8");
    let (theirs_pq, theirs_ed) = (line(), line());
    let _go = Process(child);
    let ours = free();
    site.put(
        "witness.toml",
        &format!(
            "[witness]\nname = \"witness.example/1\"\ndata_dir = \"{}\"\nlisten = \"{ours}\"\n\
             [[log]]\nkey = \"{key}\"\n",
            site.path("witness").display(),
        ),
    );
    let _witness = site.start("witness");
    let keys = site.path("witness/verifier-keys");
    site.until("our witness has its keys", || keys.exists());
    let keys = std::fs::read_to_string(&keys).expect("its keys");
    let ours_pq = keys.lines().next().expect("a key");

    // ------------------------------------------------------------ all of them are needed
    let policy = format!(
        "witness go-pq {theirs_pq} http://{address}\nwitness go-ed {theirs_ed} http://{address}/\n\
         witness ours {ours_pq} http://{ours}\ngroup all-of-them all go-pq go-ed ours\nquorum all-of-them\n"
    );
    site.put("witnesses.policy", &policy);
    let _server = site.server("[witnesses]\npolicy = \"witnesses.policy\"\ncadence_ms = 200\n");
    site.until("enough have cosigned", || {
        site.status()["witnesses"]["witnessed"]["behind"] == 0
    });

    // By verifiers that are not ours: the log's line and all three.
    let note = site.checkpoint();
    site.put("checkpoint", &note);
    let file = site.path("checkpoint").display().to_string();
    let output = peer(
        &program,
        &["cosigned", &file, &key, &theirs_pq, &theirs_ed, ours_pq],
    );
    assert!(
        said(&output).starts_with("4 signatures verify"),
        "{}",
        said(&output)
    );

    // Every tile and entry, by a client that is not ours, up to the cosigned head.
    let output = peer(&program, &["fsck", &format!("http://{}/", site.http), &key]);
    let size = note.lines().nth(1).expect("a size");
    assert!(output.status.success(), "{}", said(&output));
    let read: u64 = said(&output)
        .trim()
        .strip_prefix("whole: ")
        .and_then(|rest| rest.split(' ').next()?.parse().ok())
        .unwrap_or_default();
    assert!(read >= size.parse().expect("a number"), "{}", said(&output));

    // ------------------------------------------------------------ what an outsider does with it
    let trusted = site.run(&["trust", "--policy", "witnesses.policy"]);
    assert!(trusted.status.success(), "{}", said(&trusted));
    std::fs::write(site.path("trust.json"), &trusted.stdout).expect("written");
    let output = site.run(&["pack", "--record", "server:0", "--output", "a.pack"]);
    assert!(output.status.success(), "{}", said(&output));
    let output = site.run(&["verify", "a.pack", "--trust", "trust.json"]);
    let told = said(&output);
    assert!(
        output.status.success() && told.contains("\n  witnessed, as the policy asks: "),
        "{told}"
    );

    // The server's own policy, where none is named.
    let trusted = site.run(&["trust"]);
    let trust: serde_json::Value = serde_json::from_slice(&trusted.stdout).expect("JSON");
    assert_eq!(trust["policy"], policy);
    let proof = site.run(&[
        "ledger",
        "search",
        "--folder",
        "data",
        "--type",
        "begin",
        "--receipts",
        "--json",
    ]);
    let found = said(&proof);
    let first: serde_json::Value = found
        .lines()
        .next()
        .and_then(|line| serde_json::from_str(line).ok())
        .expect(&found);
    let text = first["receipt"].as_str().expect(&found);
    site.put("a.tlog-proof", text);
    // The record itself, byte for byte, from the public side.
    let bundle = site.get(&format!("/tile/entries/000.p/{size}"));
    let length = usize::from(u16::from_be_bytes([bundle[0], bundle[1]]));
    std::fs::write(site.path("record.json"), &bundle[2..2 + length]).expect("written");
    let output = site.run(&[
        "verify",
        "a.tlog-proof",
        "--record",
        "record.json",
        "--trust",
        "trust.json",
    ]);
    assert!(
        said(&output).contains("witnessed, as the policy asks"),
        "{}",
        said(&output)
    );
}
