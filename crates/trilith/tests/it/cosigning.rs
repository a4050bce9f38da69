//! `trilith witness` as its users run it: a log that nobody here wrote (Tessera, by tests/peers/tlog) has its
//! checkpoints cosigned before it publishes them, other people's code verifies the lines, and the process is killed
//! again and again.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Only a hung process needs so long.
const PATIENCE: Duration = Duration::from_secs(60);
const ORIGIN: &str = "tessera.example/log";

fn free() -> SocketAddr {
    testkit::port::free().expect("a port")
}

/// Ends with the test.
pub(crate) struct Witness {
    folder: tempfile::TempDir,
    pub(crate) address: SocketAddr,
    child: Child,
}

impl Drop for Witness {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

fn start(folder: &Path) -> Child {
    let log = std::fs::File::options()
        .append(true)
        .create(true)
        .open(folder.join("witness.log"));
    Command::new(env!("CARGO_BIN_EXE_trilith"))
        .args(["witness", "--config"])
        .arg(folder.join("witness.toml"))
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log.expect("a log"))
        .spawn()
        .expect("it starts")
}

impl Witness {
    pub(crate) fn new(folder: tempfile::TempDir, log: &str) -> Self {
        let address = free();
        let text = format!(
            "[witness]\nname = \"witness.example/1\"\ndata_dir = \"{}\"\nlisten = \"{address}\"\n\
             policies = [\"{1}/logs.policy\"]\n",
            folder.path().join("data").display(),
            folder.path().display(),
        );
        std::fs::write(folder.path().join("witness.toml"), text).expect("written");
        let policy = format!("log {log}\nquorum none\n");
        std::fs::write(folder.path().join("logs.policy"), policy).expect("written");
        let child = start(folder.path());
        let mut witness = Self {
            folder,
            address,
            child,
        };
        witness.wait();
        witness
    }

    fn wait(&mut self) {
        let begun = Instant::now();
        while !self.answers() {
            let ended = self.child.try_wait().expect("asked");
            assert!(
                ended.is_none() && begun.elapsed() < PATIENCE,
                "{}",
                self.said()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// It listens before it has read its state, and answers after that.
    fn answers(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(self.address) else {
            return false;
        };
        let request = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        let mut said = String::new();
        let read = stream
            .write_all(request)
            .and_then(|()| stream.read_to_string(&mut said));
        read.is_ok() && said.ends_with("\r\n\r\nok\n")
    }

    /// SIGKILL, and a new process on what there is.
    fn killed(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("gone");
        self.child = start(self.folder.path());
        self.wait();
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("witness.log")).unwrap_or_default()
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        let keys = std::fs::read_to_string(self.folder.path().join("data/verifier-keys"));
        keys.expect("its keys").lines().map(str::to_owned).collect()
    }

    /// The last checkpoint, as monitors see it.
    fn monitored(&self) -> Option<String> {
        let hash = crypto::hex::encode(&crypto::sha256(ORIGIN.as_bytes()));
        let mut stream = TcpStream::connect(self.address).expect("connected");
        let request =
            format!("GET /{hash}/checkpoint HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut said = String::new();
        stream.read_to_string(&mut said).expect("an answer");
        let (head, body) = said.split_once("\r\n\r\n").expect("a head");
        head.starts_with("HTTP/1.1 200").then(|| body.to_owned())
    }
}

fn size(checkpoint: &str) -> u64 {
    let size = checkpoint.lines().nth(1).expect("a size");
    size.parse().expect("a number")
}

pub(crate) struct Log {
    program: PathBuf,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) key: String,
}

pub(crate) fn text(output: &Output) -> String {
    let both = [output.stdout.as_slice(), &output.stderr].concat();
    String::from_utf8(both).expect("UTF-8")
}

impl Log {
    pub(crate) fn new(program: PathBuf) -> Self {
        let folder = testkit::temp_dir().expect("a folder");
        let mut log = Self {
            program,
            folder,
            key: String::new(),
        };
        let path = log.folder.path().display().to_string();
        log.key = text(&log.run(&["key", &path, ORIGIN])).trim().to_owned();
        log
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let output = Command::new(&self.program)
            .args(arguments)
            .stdin(Stdio::null())
            .output();
        output.expect("it runs")
    }

    /// Adds entries to the log of that name, cosigned by the key; by nobody where the witness is `None`.
    pub(crate) fn grow(
        &self,
        name: &str,
        witness: Option<&Witness>,
        key: &str,
        entries: &str,
    ) -> Output {
        let path = self.folder.path().display().to_string();
        let url = witness.map_or("-".to_owned(), |witness| {
            format!("http://{}", witness.address)
        });
        self.run(&["grow", &path, name, &url, key, name, entries])
    }
}

#[test]
fn a_log_of_other_people_is_cosigned_and_its_fork_is_not() {
    let program = match testkit::go_peer("tlog") {
        Ok(program) => program,
        Err(why) => return testkit::skip("trilith::go_log", &why),
    };
    let log = Log::new(program);
    let mut witness = Witness::new(testkit::temp_dir().expect("a folder"), &log.key);
    let keys = witness.keys();
    assert_eq!(keys.len(), 2, "{keys:?}");
    let first = keys.first().expect("a key");
    assert_eq!(witness.monitored(), None);

    // Each kind of line, by a client, a note library and verifiers that are not ours. Between the two the witness
    // is killed, and the log, which begins with `old 0`, hears from it where it is.
    let mut grown = 0;
    for (key, entries) in keys.iter().zip(["3", "2"]) {
        let output = log.grow("log", Some(&witness), key, entries);
        let said = text(&output);
        assert!(output.status.success(), "{said}\n{}", witness.said());
        assert!(
            said.starts_with("cosigned at ") && said.contains("by witness.example/1\n"),
            "{said}"
        );
        let (_, published) = said.split_once('\n').expect("a checkpoint");
        assert!(size(published) > grown, "{said}");
        grown = size(published);
        witness.killed();
        assert_eq!(witness.keys(), keys);
    }
    assert_eq!(grown, 5);

    // What monitors see is signed by the log and by both keys, and by nobody else.
    let monitored = witness.monitored().expect("a checkpoint");
    assert_eq!(size(&monitored), grown);
    let file = log.folder.path().join("monitored");
    std::fs::write(&file, &monitored).expect("written");
    let file = file.display().to_string();
    let mut arguments = vec!["cosigned", &file, &log.key];
    arguments.extend(keys.iter().map(String::as_str));
    let output = log.run(&arguments);
    assert!(
        text(&output).starts_with("3 signatures verify"),
        "{}",
        text(&output)
    );

    // The same key, another history: the log cannot publish it as far as it has the witness, neither from its
    // beginning nor when it is longer.
    for (name, asked, why) in [
        ("short", false, "larger than log size"),
        ("long", true, "422"),
    ] {
        if asked {
            let alone = log.grow(name, None, first, "9");
            assert!(alone.status.success(), "{}", text(&alone));
        }
        let forked = log.grow(name, Some(&witness), first, "2");
        let said = text(&forked);
        assert_eq!(forked.status.code(), Some(1), "{said}");
        assert!(
            said.contains("not published") && said.contains(why),
            "{said}"
        );
        assert_eq!(witness.monitored().expect("a checkpoint"), monitored);
    }

    // And the first one goes on.
    let output = log.grow("log", Some(&witness), first, "1");
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(size(&witness.monitored().expect("a checkpoint")), 6);
}

#[test]
fn a_witness_without_its_file_says_so() {
    let output = Command::new(env!("CARGO_BIN_EXE_trilith"))
        .args(["witness", "--config", "/nonexistent/witness.toml"])
        .output()
        .expect("it runs");
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("WITNESS-CONFIG") && said.contains("/nonexistent/witness.toml"),
        "{said}"
    );
}
