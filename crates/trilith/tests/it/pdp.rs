//! `trilith pdp` as its users run it: beside a server and a node agent, all of them this binary, asked over
//! its socket; and what the server says of the answers afterwards.

use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const ESTATE: &[(&str, &str)] = &[
    ("estate.toml", "trust_domain = \"example.org\"\n"),
    (
        "identities/shop.toml",
        "[[identity]]\npath = \"gateway/pdp\"\nkind = \"gateway\"\nowner = \"us\"\n\
         [[identity]]\npath = \"payments/api\"\nkind = \"service\"\nowner = \"us\"\n",
    ),
    (
        "resources/shop.toml",
        "[[database]]\nname = \"shop\"\n[[database.schema]]\nname = \"public\"\n\
         [[database.schema.table]]\nname = \"cards\"\nclassification = \"internal\"\n",
    ),
    ("references/machines.toml", "[[pool]]\nname = \"demo\"\n"),
    (
        "policies/shop.cedar",
        "@id(\"administrators\")\npermit (principal == Admin::\"uid:UID\", action, resource);\n\
         @id(\"the decision point\")\npermit (principal in Pool::\"demo\", action == Action::\"assume\", \
         resource == Identity::\"gateway/pdp\")\nwhen { principal has uid && principal.uid == UID && \
         principal has path && principal.path like \"*/trilith\" && !(principal has helper) };\n\
         @id(\"payments reads cards\")\npermit (principal == Identity::\"payments/api\", \
         action == Action::\"select\", resource == Table::\"shop/public/cards\");\n",
    ),
];

/// Processes that end with the test.
pub(crate) struct Site {
    folder: tempfile::TempDir,
    running: Vec<Child>,
}

impl Drop for Site {
    fn drop(&mut self) {
        for child in &mut self.running {
            let _gone = child.kill();
            let _gone = child.wait();
        }
    }
}

pub(crate) fn uid() -> u32 {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").expect("/proc").uid()
}

pub(crate) fn free_port() -> u16 {
    testkit::port::free().expect("a port").port()
}

impl Site {
    pub(crate) fn new() -> Self {
        Self {
            folder: testkit::temp_dir().expect("a folder"),
            running: Vec::new(),
        }
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.command_of(env!("CARGO_BIN_EXE_trilith"), arguments)
    }

    fn command_of(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("TRILITH_ADMIN_SOCKET", self.at("server/admin.sock"))
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        command
    }

    /// A role, with its log in a file of its name.
    pub(crate) fn run(&mut self, role: &str) {
        self.run_by(env!("CARGO_BIN_EXE_trilith"), role);
    }

    /// As [`Site::run`], by a copy of the binary.
    pub(crate) fn run_by(&mut self, program: &str, role: &str) {
        let file = format!("{role}.toml");
        let log = std::fs::File::create(self.at(&format!("{role}.log"))).expect("a log");
        let mut command = self.command_of(program, &[role, "--config", &file]);
        let child = command.stdout(Stdio::null()).stderr(log).spawn();
        self.running.push(child.expect("it starts"));
    }

    /// Ends the role that was started last, as an init system does.
    pub(crate) fn stop(&mut self) {
        let mut child = self.running.pop().expect("a role");
        let pid = child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(sent.expect("kill runs").success());
        let ended = child.wait().expect("gone");
        assert!(ended.success(), "{ended}");
    }

    /// What the command prints; a command that fails fails the test.
    pub(crate) fn ask(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).expect("text")
    }

    pub(crate) fn log(&self, role: &str) -> String {
        std::fs::read_to_string(self.at(&format!("{role}.log"))).unwrap_or_default()
    }

    pub(crate) fn wait(&self, role: &str, ready: impl FnMut() -> bool) {
        testkit::until(ready, || format!("{role} is late: {}", self.log(role)));
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.at(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text).expect("written");
    }
}

pub(crate) fn evaluation(socket: &Path, subject: &str) -> Option<(u16, Value)> {
    let body = json!({
        "subject": {"type": "identity", "id": subject},
        "action": {"name": "select"},
        "resource": {"type": "table", "id": "shop/public/cards"},
    })
    .to_string();
    let mut stream = UnixStream::connect(socket).ok()?;
    let request = format!(
        "POST /access/v1/evaluation HTTP/1.1\r\nhost: pdp\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, serde_json::from_str(body).unwrap_or_default()))
}

/// A server with an estate, an agent, and a decision point that comes up.
pub(crate) fn started() -> Site {
    let (mut site, port, pin) = with_agent("");
    let folder = site.folder.path().display().to_string();
    site.write(
        "pdp.toml",
        &format!(
            "[pdp]\ntrust_domain = \"example.org\"\nname = \"pdp-1\"\nidentity = \"gateway/pdp\"\n\
             server = \"127.0.0.1:{port}\"\npin = \"{pin}\"\nworkload_socket = \"{folder}/workload.sock\"\n\
             data_dir = \"{folder}/pdp\"\n[listen]\nsocket = \"{folder}/pdp.sock\"\n[[process]]\nuid = {}\n\
             may = [\"evaluate\", \"search\", \"records\"]\n[records]\nfolders = [\"{folder}/server\"]\n",
            uid()
        ),
    );
    site.run("pdp");
    site
}

/// A server with an estate, and an agent whose configuration ends with `more`, where `FOLDER` is the site's: with the
/// server's port and pin.
pub(crate) fn with_agent(more: &str) -> (Site, u16, String) {
    let mut site = Site::new();
    for (name, text) in ESTATE {
        let text = text.replace("UID", &uid().to_string());
        site.write(&format!("estate/{name}"), &text);
    }
    let (port, http) = (free_port(), free_port());
    let folder = site.folder.path().display().to_string();
    site.write(
        "server.toml",
        &format!(
            "trust_domain = \"example.org\"\ndata_dir = \"{folder}/server\"\nlisten = \"127.0.0.1:{port}\"\n\
             http_listen = \"127.0.0.1:{http}\"\n[custody.ca]\nkind = \"file\"\ndir = \"{folder}/keys-ca\"\n\
             [custody.ledger]\nkind = \"file\"\ndir = \"{folder}/keys-ledger\"\n"
        ),
    );
    site.run("server");
    let admin = site.at("server/admin.sock");
    site.wait("server", || UnixStream::connect(&admin).is_ok());
    site.ask(&["estate", "apply", "estate", "--message", "the shop"]);
    let token = site.ask(&[
        "token", "create", "--node", "m1", "--pool", "demo", "--json",
    ]);
    let token: Value = serde_json::from_str(&token).expect("JSON");
    let member = |name: &str| token.get(name).and_then(Value::as_str).expect(name);
    site.write("token", member("token"));
    let pin = member("pin");
    site.write(
        "agent.toml",
        &format!(
            "trust_domain = \"example.org\"\nserver = \"127.0.0.1:{port}\"\npin = \"{pin}\"\n\
             data_dir = \"{folder}/agent\"\nworkload_socket = \"{folder}/workload.sock\"\n\
             [join]\nmethod = \"token\"\ntoken_file = \"{folder}/token\"\n{}",
            more.replace("FOLDER", &folder)
        ),
    );
    std::fs::set_permissions(
        site.at("token"),
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .expect("a mode");
    site.run("agent");
    let workload = site.at("workload.sock");
    site.wait("agent", || workload.exists());
    (site, port, pin.to_owned())
}

/// What is allowed, once the decision point answers.
fn answered(site: &Site) -> Value {
    let socket = site.at("pdp.sock");
    let mut allowed = Value::Null;
    site.wait("pdp", || match evaluation(&socket, "payments/api") {
        Some((200, answer)) => {
            allowed = answer;
            true
        }
        // Until the estate has come: nothing is answered.
        Some((status, answer)) => {
            assert_eq!((status, answer), (503, Value::Null));
            false
        }
        None => false,
    });
    allowed
}

#[test]
fn a_decision_point_answers_and_its_server_says_why() {
    let site = started();
    let allowed = answered(&site);
    let socket = site.at("pdp.sock");
    assert_eq!(
        allowed.pointer("/decision"),
        Some(&json!(true)),
        "{allowed}"
    );
    let record = allowed.pointer("/context/record").and_then(Value::as_str);
    let record = record.expect("an id").to_owned();
    let (_, denied) = evaluation(&socket, "gateway/pdp").expect("an answer");
    assert_eq!(denied.pointer("/decision"), Some(&json!(false)), "{denied}");

    // The records reach the server, which explains them.
    let mut why = String::new();
    site.wait("pdp", || {
        let output = site.command(&["why", &record]).output().expect("it runs");
        why = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success()
    });
    assert!(why.contains("payments reads cards"), "{why}");
    let found = site.ask(&[
        "ledger",
        "search",
        "--identity",
        "payments/api",
        "--type",
        "decision",
        "--json",
    ]);
    assert!(
        found.contains("spiffe://example.org/payments/api"),
        "{found}"
    );
    answers_are_streamed_and_gone_on_with(&site);
    records_are_asked_of_the_decision_point(&site);
}

/// One document a line.
fn lines(printed: &str) -> Vec<Value> {
    let lines = printed.lines();
    lines
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

/// `who-can` and `what-can` of the running server: all at once, line by line, and cut and gone on with.
fn answers_are_streamed_and_gone_on_with(site: &Site) {
    for question in [
        &["who-can", "select", "shop/public/cards"][..],
        &["what-can", "payments/api"][..],
    ] {
        let ask = |more: &[&str]| site.ask(&[question, more].concat());
        let whole: Value = serde_json::from_str(&ask(&["--json"])).expect("one document");
        let all = whole.get("accesses").and_then(Value::as_array);
        let all = all.expect("accesses").clone();
        assert!(!all.is_empty(), "{whole}");
        let told = lines(&ask(&["--lines"]));
        let (end, streamed) = told.split_last().expect("an end");
        assert_eq!(streamed, all, "{question:?}");
        let estate = |document: &Value, at: &str| document.pointer(at).cloned();
        assert_eq!(
            estate(end, "/end/estate"),
            estate(&whole, "/estate"),
            "{end}"
        );
        assert_eq!(end.pointer("/end/shown"), Some(&json!(all.len())), "{end}");
        // One at a time.
        let (mut found, mut after) = (Vec::new(), None::<String>);
        loop {
            let mut words = vec!["--lines", "--limit", "1"];
            if let Some(after) = &after {
                words.extend(["--after", after.as_str()]);
            }
            let part = lines(&ask(&words));
            let (end, some) = part.split_last().expect("an end");
            assert!(some.len() <= 1, "{part:?}");
            found.extend_from_slice(some);
            match end.pointer("/end/next").and_then(Value::as_str) {
                Some(next) => after = Some(next.to_owned()),
                None => break,
            }
        }
        assert_eq!(found, all, "{question:?}");
        // A cursor counts for its question, and the command says so.
        let other = site
            .command(&["what-can", "gateway/pdp", "--after", "nonsense"])
            .output()
            .expect("it runs");
        assert_eq!(other.status.code(), Some(1), "{other:?}");
    }
}

/// The questions to records: by the socket of the decision point as from the server's folder.
fn records_are_asked_of_the_decision_point(site: &Site) {
    let socket = site.at("pdp.sock").display().to_string();
    let folder = site.at("server").display().to_string();
    let index = site.at("index").display().to_string();
    let both = |words: &[&str]| {
        let live = site.ask(&[words, &["--json", "--pdp", &socket]].concat());
        let read = site.ask(&[words, &["--json", "--folder", &folder, "--index", &index]].concat());
        (lines(&live), lines(&read))
    };
    let (live, read) = both(&["ledger", "search", "--identity", "payments/api"]);
    let (end, hits) = live.split_last().expect("an end");
    assert!(end.get("end").is_some() && !hits.is_empty(), "{live:?}");
    let hits: Vec<_> = hits
        .iter()
        .filter_map(|hit| hit.pointer("/record/record"))
        .collect();
    let records: Vec<_> = read.iter().filter_map(|hit| hit.get("record")).collect();
    assert_eq!(hits, records);
    let (live, read) = both(&["ledger", "accesses", "--of", "shop/public/cards"]);
    let rows: Vec<_> = live.iter().filter_map(|row| row.get("access")).collect();
    assert!(!rows.is_empty(), "{live:?}");
    let read: Vec<_> = read
        .iter()
        .filter(|row| row.get("identity").is_some())
        .collect();
    assert_eq!(rows, read);
    let access = ["history", "payments/api", "select", "shop/public/cards"];
    let (live, read) = both(&access);
    let changes: Vec<_> = live.iter().filter_map(|line| line.get("change")).collect();
    let read = read.first().and_then(|document| document.get("changes"));
    assert_eq!(Some(&json!(changes)), read);
    let (live, read) = both(&["unused", "--window", "30d"]);
    let grants = live
        .iter()
        .filter(|line| line.get("grant").is_some())
        .count();
    let read = read.first().and_then(|document| document.get("grants"));
    assert_eq!(read.and_then(Value::as_array).map(Vec::len), Some(grants));
    let (live, _) = both(&["replay", "--estate", "estate"]);
    assert!(
        live.last()
            .is_some_and(|line| line.pointer("/end/summary/same").is_some())
    );
    // For people, and gone on with.
    let first = ["ledger", "search", "--limit", "1", "--pdp", &socket];
    let output = site.command(&first).output().expect("it runs");
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let (_, cursor) = said.split_once("--cursor ").expect("more");
    let next = [&first[..], &["--cursor", cursor.trim()]].concat();
    assert!(site.ask(&next).contains("server:1 "), "{said}");
    // What it refuses has its code, and what is not there is said.
    let wrong = ["ledger", "search", "--type", "moon", "--pdp", &socket];
    let output = site.command(&wrong).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.code() == Some(1) && said.contains("RECORD-TYPE"),
        "{said}"
    );
    let nobody = ["history", "payments/api", "--pdp", "/nowhere/pdp.sock"];
    let output = site.command(&nobody).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.code() == Some(1) && said.contains("PDP-UNREACHABLE"),
        "{said}"
    );
}
