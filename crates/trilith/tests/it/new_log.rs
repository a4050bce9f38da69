//! `trilith server new-log` as its users run it: the ledger goes on under another name and key, an agent that joined
//! before and one that joins after follow it with the pin that they have, and packs verify from either key by both
//! verifiers.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

const SECOND: &str = "example.org/server@2";

fn free() -> SocketAddr {
    testkit::port::free().expect("a port")
}

/// Ends with the test.
struct Process(Child);

impl Process {
    /// As an init system ends it.
    fn stop(mut self) {
        let pid = self.0.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(sent.expect("kill runs").success());
        let ended = self.0.wait().expect("gone");
        assert!(ended.success(), "{ended}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

struct Site {
    folder: tempfile::TempDir,
    listen: SocketAddr,
}

fn said(output: &Output) -> String {
    let both = [output.stdout.as_slice(), &output.stderr].concat();
    String::from_utf8(both).expect("UTF-8")
}

impl Site {
    fn new() -> Self {
        let site = Self {
            folder: testkit::temp_dir().expect("a folder"),
            listen: free(),
        };
        let folder = site.folder.path().display();
        site.put(
            "server.toml",
            &format!(
                "trust_domain = \"example.org\"\ndata_dir = \"{folder}/data\"\nlisten = \"{}\"\nhttp_listen = \"{}\"\n\
                 [custody.ca]\nkind = \"file\"\ndir = \"{folder}/keys/ca\"\n\
                 [custody.ledger]\nkind = \"file\"\ndir = \"{folder}/keys/ledger\"\n",
                site.listen,
                free(),
            ),
        );
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn put(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("written");
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trilith"));
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("TRILITH_ADMIN_SOCKET", self.path("data/admin.sock"))
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command().args(arguments).output().expect("it runs")
    }

    /// What it prints, as it is right.
    fn right(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    fn start(&self, role: &str, name: &str) -> Process {
        let log = std::fs::File::create(self.path(&format!("{name}.log"))).expect("a log");
        let config = self.path(&format!("{name}.toml"));
        let mut command = self.command();
        command.arg(role).arg("--config").arg(config);
        command.stdout(Stdio::null()).stderr(log);
        Process(command.spawn().expect("it starts"))
    }

    fn until(&self, what: &str, log: &str, holds: impl Fn() -> bool) {
        testkit::until(holds, || format!("{what}\n{}", self.read(log)));
    }

    fn server(&self) -> Process {
        let server = self.start("server", "server");
        self.until("the server answers", "server.log", || {
            self.run(&["status", "--json"]).status.success()
        });
        server
    }

    fn status(&self) -> serde_json::Value {
        serde_json::from_str(&self.right(&["status", "--json"])).expect("JSON")
    }

    /// An agent that joins by a token of its own, with the pin that comes with it.
    fn agent(&self, name: &str, pin: &str) -> Process {
        let token = [
            "token", "create", "--node", name, "--pool", "demo", "--json",
        ];
        let token: serde_json::Value = serde_json::from_str(&self.right(&token)).expect("JSON");
        assert_eq!(
            token["pin"].as_str(),
            Some(pin),
            "the pin stays what it was"
        );
        let secret = token["token"].as_str().expect("a token");
        let path = format!("{name}.token");
        self.put(&path, secret);
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(self.path(&path), private).expect("a mode");
        let folder = self.folder.path().display();
        self.put(
            &format!("{name}.toml"),
            &format!(
                "trust_domain = \"example.org\"\nserver = \"{}\"\npin = \"{pin}\"\ndata_dir = \"{folder}/{name}\"\n\
                 workload_socket = \"{folder}/{name}.sock\"\n[join]\nmethod = \"token\"\n\
                 token_file = \"{folder}/{name}.token\"\n",
                self.listen,
            ),
        );
        let agent = self.start("agent", name);
        self.connected(name);
        agent
    }

    fn connected(&self, name: &str) {
        self.until("the agent is connected", &format!("{name}.log"), || {
            let listed = self.run(&["agent", "list", "--json"]);
            let agents = serde_json::from_slice(&listed.stdout).unwrap_or_default();
            is_connected(&agents, name)
        });
    }

    /// What both verifiers say of a pack.
    fn verified(&self, pack: &str, trust: &str) -> Vec<bool> {
        let ours = self.run(&["verify", pack, "--trust", trust]);
        let mut all = vec![ours.status.success()];
        if let Some(python) = testkit::venv_python(&["cryptography"]) {
            let script = concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../../verifiers/python/trilith_verify.py"
            );
            let told = Command::new(python)
                .args([script, pack, "--trust", trust])
                .current_dir(self.folder.path())
                .output()
                .expect("it runs");
            assert_eq!(
                told.status.success(),
                ours.status.success(),
                "{}\n{}",
                said(&ours),
                said(&told)
            );
            all.push(told.status.success());
        }
        all
    }
}

/// Wherever in the answer it stands.
fn is_connected(answer: &serde_json::Value, name: &str) -> bool {
    match answer {
        serde_json::Value::Array(all) => all.iter().any(|one| is_connected(one, name)),
        serde_json::Value::Object(fields) => {
            fields.get("node").is_some_and(|node| node == name)
                && fields.get("connected").is_some_and(|is| is == true)
                || fields.values().any(|field| is_connected(field, name))
        }
        _ => false,
    }
}

#[test]
fn a_ledger_goes_on_as_a_new_log_and_everybody_follows() {
    let site = Site::new();
    let server = site.server();
    let pin = site.status()["pin"].as_str().expect("a pin").to_owned();
    let early = site.agent("m1", &pin);
    site.put("first.json", &site.right(&["trust"]));
    site.right(&["pack", "--record", "server:0", "-o", "early.pack"]);
    let new_log = [
        "server",
        "new-log",
        "--config",
        "server.toml",
        "--reason",
        "each year",
        "--lineage",
        "lineage.json",
    ];
    let refused = site.run(&new_log);
    assert!(
        !refused.status.success() && said(&refused).contains("SERVER-RUNNING"),
        "{}",
        said(&refused)
    );
    server.stop();

    let told = site.right(&new_log);
    assert!(
        told.starts_with("example.org/server goes on from ") && told.contains(SECOND),
        "{told}"
    );
    let lineage: serde_json::Value =
        serde_json::from_str(&site.read("lineage.json")).expect("JSON");
    let server = site.server();
    let status = site.status();
    assert_eq!(status["ledger"]["origin"], SECOND, "{status:#}");
    assert_eq!(lineage["ledger_key"], status["ledger"]["key"]);
    assert_eq!(lineage["lineage"], status["ledger"]["lineage"]);
    assert!(
        told.contains(status["ledger"]["key"].as_str().expect("a key")),
        "{told}"
    );

    // ------------------------------------------------------------ agents of before and of after
    site.until("the agent takes the new log", "m1.log", || {
        site.read("m1/lineage").contains(SECOND)
    });
    let late = site.agent("m2", &pin);
    assert!(
        site.read("m2/lineage").contains(SECOND),
        "it learned it when it joined"
    );
    early.stop();
    let early = site.start("agent", "m1");
    site.connected("m1");
    drop((early, late));

    // ------------------------------------------------------------ packs, from the first key and from the newest
    site.put("newest.json", &site.right(&["trust"]));
    let index = status["ledger"]["lineage"][0]["statement"]
        .as_str()
        .expect("a link");
    let index = index.lines().nth(3).expect("a size").to_owned();
    site.right(&[
        "pack",
        "--record",
        &format!("server:{index}"),
        "-o",
        "late.pack",
    ]);
    site.right(&["pack", "--record", "server:0", "-o", "anew.pack"]);
    for pack in ["anew.pack", "late.pack"] {
        // What was there before the server had started again, for its witnesses, is a trust file as well.
        for trust in ["first.json", "newest.json", "lineage.json"] {
            assert!(
                site.verified(pack, trust).iter().all(|good| *good),
                "{pack} {trust}"
            );
        }
    }
    // Who knows that the key was replaced does not take what it can have signed since, and is told to ask anew.
    assert!(
        site.verified("early.pack", "first.json")
            .iter()
            .all(|good| *good)
    );
    assert!(
        site.verified("early.pack", "newest.json")
            .iter()
            .all(|good| !*good)
    );
    let refused = said(&site.run(&["verify", "early.pack", "--trust", "newest.json"]));
    assert!(
        refused.contains("LEDGER-CHECKPOINT-FORMER") && refused.contains("ask for the pack anew"),
        "{refused}"
    );
    // A trust file with nothing but the newest key reads what the new log has, and nothing of the old one's own.
    let mut bare: serde_json::Value =
        serde_json::from_str(&site.read("newest.json")).expect("JSON");
    bare.as_object_mut().expect("an object").remove("lineage");
    site.put("bare.json", &bare.to_string());
    assert!(
        site.verified("late.pack", "bare.json")
            .iter()
            .all(|good| *good)
    );
    assert!(
        site.verified("early.pack", "bare.json")
            .iter()
            .all(|good| !*good)
    );

    // ------------------------------------------------------------ and who reads the folder
    let searched = site.right(&[
        "ledger",
        "search",
        "--folder",
        "data",
        "--type",
        "key-rotation",
        "--verify",
        "--json",
    ]);
    assert!(
        searched.contains("trilith-ledger-succession-v1"),
        "{searched}"
    );
    server.stop();
    site.right(&["server", "rebuild-state", "--config", "server.toml"]);
    site.right(&["ledger", "completeness", "--folder", "data"]);
}
