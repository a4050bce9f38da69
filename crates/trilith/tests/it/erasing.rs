//! `trilith ledger erase` as its users run it: with the binary, on a server of its own, to the verifiers and the monitor
//! who have to say what is gone.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Only a hung process needs so long.
const PATIENCE: Duration = Duration::from_secs(60);
const SUBJECT: &str = "ada.lovelace@example.org";

fn free() -> SocketAddr {
    testkit::port::free().expect("a port")
}

/// Ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

struct Site(tempfile::TempDir);

fn said(output: &Output) -> String {
    let both = [output.stdout.as_slice(), &output.stderr].concat();
    String::from_utf8(both).expect("UTF-8")
}

impl Site {
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, text).expect("written");
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trilith"));
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("TRILITH_ADMIN_SOCKET", self.path("data/admin.sock"))
            .current_dir(self.0.path())
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command().args(arguments).output().expect("it runs")
    }

    fn good(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = said(&output);
        assert!(output.status.success(), "{arguments:?}: {said}");
        said
    }

    fn server(&self) -> Process {
        let folder = self.0.path().display();
        self.put(
            "server.toml",
            &format!(
                "trust_domain = \"example.org\"\ndata_dir = \"data\"\nlisten = \"{}\"\nhttp_listen = \"{}\"\n\
                 [custody.ca]\nkind = \"file\"\ndir = \"{folder}/keys/ca\"\n\
                 [custody.ledger]\nkind = \"file\"\ndir = \"{folder}/keys/ledger\"\n",
                free(),
                free()
            ),
        );
        let log = std::fs::File::create(self.path("server.log")).expect("a log");
        let mut command = self.command();
        command.args(["server", "--config", "server.toml"]);
        command.stdout(Stdio::null()).stderr(log);
        let process = Process(command.spawn().expect("it starts"));
        let begun = Instant::now();
        while !self.run(&["status", "--json"]).status.success() {
            assert!(begun.elapsed() < PATIENCE, "the server does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
        process
    }

    fn estate(&self, person: bool) {
        let uid = rustix::process::getuid().as_raw();
        self.put(
            "estate/estate.toml",
            &format!(
                "trust_domain = \"example.org\"\n[[administrator]]\nuid = {uid}\ngroups = [\"operators\"]\n"
            ),
        );
        self.put(
            "estate/policies/administrators.cedar",
            "@id(\"operators administer\")\npermit (principal is Admin in Group::\"operators\", action, resource);\n",
        );
        let ada = format!(
            "[[identity]]\npath = \"people/ada\"\nkind = \"person\"\nowner = \"people\"\n\
             login = {{ issuer = \"https://login.example.org\", subject = \"{SUBJECT}\" }}\n"
        );
        let group = "[[group]]\nname = \"operators\"\n";
        let text = format!("{group}{}", if person { &ada } else { "" });
        self.put("estate/identities/all.toml", &text);
        self.good(&["estate", "apply", "estate", "--message", "for the test"]);
    }

    fn holds_subject(&self) -> bool {
        let found = Command::new("grep")
            .args(["-rqF", SUBJECT])
            .arg(self.path("data"))
            .status()
            .expect("grep runs");
        found.success()
    }
}

#[test]
fn a_person_is_erased_and_all_who_look_are_told_by_which_record() {
    let site = Site(testkit::temp_dir().expect("a folder"));
    let _server = site.server();
    site.estate(true);
    site.estate(false);
    assert!(site.holds_subject());
    let trust = site.run(&["trust"]);
    std::fs::write(site.path("trust.json"), &trust.stdout).expect("written");
    let found = site.good(&["ledger", "search", "--type", "estate-version", "--json"]);
    let first: serde_json::Value =
        serde_json::from_str(found.lines().next().expect("a record")).expect("JSON");
    let at = format!("server:{}", first.get("index").expect("its place"));
    site.good(&["pack", "--record", &at, "--output", "before.pack"]);

    let erase = [
        "ledger",
        "erase",
        "--identity",
        "people/ada",
        "--reason",
        "case 2026-117",
    ];
    let plan = site.good(&erase);
    assert!(
        plan.contains("Nothing was erased") && plan.contains("estate"),
        "{plan}"
    );
    assert!(site.holds_subject());
    let yes: Vec<&str> = erase.iter().copied().chain(["--yes"]).collect();
    site.good(&yes);
    assert!(!site.holds_subject());

    let said = site.good(&["ledger", "show", &at]);
    assert!(
        said.contains("What it names (estate) was erased by record"),
        "{said}"
    );
    assert!(said.contains("case 2026-117"), "{said}");
    let said = site.good(&["ledger", "search", "--type", "erasure"]);
    assert!(said.contains("2 contents erased by"), "{said}");
    let said = site.good(&[
        "ledger", "search", "--folder", "data", "--type", "erasure", "--verify",
    ]);
    assert!(said.contains("2 contents erased by"), "{said}");
    // What was handed out before verifies as before; what is handed out now says why something lacks.
    site.good(&["verify", "before.pack", "--trust", "trust.json"]);
    site.good(&["pack", "--record", &at, "--output", "after.pack"]);
    let said = site.good(&["verify", "after.pack", "--trust", "trust.json"]);
    assert!(said.starts_with("verified, and complete"), "{said}");
    assert!(
        said.contains(", erased by record ") && said.contains("case 2026-117"),
        "{said}"
    );
    let page = site.path("page.html");
    let page = page.display().to_string();
    site.good(&[
        "verify",
        "after.pack",
        "--trust",
        "trust.json",
        "--html",
        &page,
    ]);
    let told = std::fs::read_to_string(&page).expect("a page");
    assert!(told.contains("erased by record"), "{told}");
    // An answer that is not whole says so and why, and ends like that.
    let output = site.run(&["history", "people/ada", "--folder", "data"]);
    let told = self::said(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(
        told.contains("its files were erased by record") && told.contains("HISTORY-INCOMPLETE"),
        "{told}"
    );
    python(&site);
    monitor(&site);
}

fn python(site: &Site) {
    let Some(python) = testkit::venv_python(&["cryptography"]) else {
        return testkit::skip(
            "ledger.python-verifier",
            "no Python with cryptography in target/venv; run cargo xtask test",
        );
    };
    let script =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../verifiers/python/trilith_verify.py");
    let output = Command::new(python)
        .arg(script)
        .args(["after.pack", "--trust", "trust.json"])
        .current_dir(site.0.path())
        .output()
        .expect("it runs");
    let told = said(&output);
    assert!(output.status.success(), "{told}");
    assert!(told.starts_with("verified, and complete"), "{told}");
    assert!(
        told.contains(", erased by record ") && told.contains("case 2026-117"),
        "{told}"
    );
}

fn monitor(site: &Site) {
    let status: serde_json::Value =
        serde_json::from_slice(&site.run(&["status", "--json"]).stdout).expect("JSON");
    let key = status.pointer("/ledger/key").and_then(|key| key.as_str());
    let folder = site.0.path().display();
    site.put(
        "monitor.toml",
        &format!(
            "[monitor]\nstate_dir = \"{folder}/monitor\"\n[log]\nkey = \"{}\"\nfolder = \"{folder}/data/ledger\"\n",
            key.expect("a key")
        ),
    );
    let said = site.good(&["monitor", "--once", "--config", "monitor.toml"]);
    assert!(said.contains("one history"), "{said}");
}
