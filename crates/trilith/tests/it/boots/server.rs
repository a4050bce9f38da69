//! `trilith server` as its users start it, and the command line that administers it.

use estate::EstateFiles;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use testkit::mortal::{self, Parting};
use testkit::swtpm::Swtpm;

pub(crate) const DOMAIN: &str = "boots.example";

/// Two on loopback.
pub(crate) fn ports() -> [u16; 2] {
    [0; 2].map(|_| testkit::port::free().expect("a port").port())
}

/// `trilith ROLE` on a configuration of this content, logging beside it.
pub(crate) fn role(folder: &Path, role: &str, config: &str) -> Child {
    let path = folder.join(format!("{role}.toml"));
    std::fs::write(&path, config).expect("written");
    let log = std::fs::File::create(folder.join(format!("{role}.log"))).expect("a log");
    let program = env!("CARGO_BIN_EXE_trilith");
    let mut command = mortal::command(program, Parting::Kill).expect("setpriv");
    command.args([role, "--config"]).arg(&path);
    command.stdin(Stdio::null()).stderr(log);
    mortal::spawn(command).expect("it starts")
}

/// Ends when dropped.
pub(crate) struct Server {
    process: Child,
    folder: PathBuf,
    pub(crate) port: u16,
}

impl Server {
    /// In `folder`, on loopback.
    pub(crate) fn start(folder: &Path) -> Self {
        let ports = ports();
        let data = folder.join("server");
        let text = format!(
            "trust_domain = \"{DOMAIN}\"\ndata_dir = \"{0}\"\nlisten = \"127.0.0.1:{1}\"\n\
             http_listen = \"127.0.0.1:{2}\"\n[custody.ca]\nkind = \"file\"\ndir = \"{0}/keys-ca\"\n\
             [custody.ledger]\nkind = \"file\"\ndir = \"{0}/keys-ledger\"\n",
            data.display(),
            ports[0],
            ports[1],
        );
        let process = role(folder, "server", &text);
        let server = Self {
            process,
            folder: folder.to_owned(),
            port: ports[0],
        };
        testkit::until(|| server.run(&["status"]).status.success(), || server.log());
        server
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("server.log")).unwrap_or_default()
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_trilith"))
            .env(
                "TRILITH_ADMIN_SOCKET",
                self.folder.join("server/admin.sock"),
            )
            .args(arguments)
            .arg("--json")
            .stdin(Stdio::null())
            .output()
            .expect("it runs")
    }

    /// What a command says to people.
    pub(crate) fn text(&self, arguments: &[&str]) -> String {
        let ran = Command::new(env!("CARGO_BIN_EXE_trilith"))
            .arg("--admin-socket")
            .arg(self.folder.join("server/admin.sock"))
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("it runs");
        assert!(ran.status.success(), "{arguments:?}: {ran:?}");
        String::from_utf8_lossy(&ran.stdout).into_owned()
    }

    /// An estate in which the chip's machine is `name`, and whoever runs the test administers.
    pub(crate) fn estate(&self, tpm: &Swtpm, name: &str) -> EstateFiles {
        let uid = rustix::process::getuid().as_raw();
        let ek = self.endorsement(&tpm.uri());
        let pem = [tpm.root_pem(), tpm.issuer_pem()]
            .map(|path| std::fs::read_to_string(path).expect("a certificate"));
        let mut files = EstateFiles::new();
        files.insert(
            "estate.toml",
            format!(
                "trust_domain = \"{DOMAIN}\"\n[[administrator]]\nuid = {uid}\ngroups = [\"operators\"]\n"
            ),
        );
        files.insert("identities/all.toml", "[[group]]\nname = \"operators\"\n");
        files.insert(
            "references/machines.toml",
            format!(
                "[[pool]]\nname = \"guests\"\n\
                 [[machine]]\nname = \"{name}\"\npool = \"guests\"\nek_sha256 = [\"{ek}\"]\n\
                 [[tpm_root]]\nname = \"test\"\nemulated = true\npem = '''\n{}'''\n",
                pem.concat()
            ),
        );
        files.insert(
            "policies/all.cedar",
            "@id(\"operators administer\")\n\
             permit (principal is Admin in Group::\"operators\", action, resource);\n",
        );
        files
    }

    /// The one JSON document that a command prints.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Value {
        let ran = self.run(arguments);
        assert!(ran.status.success(), "{arguments:?}: {ran:?}");
        serde_json::from_slice(&ran.stdout).expect("JSON")
    }

    pub(crate) fn apply(&self, files: &EstateFiles) {
        self.put(files);
        self.apply_folder();
    }

    /// Writes the estate to its folder.
    pub(crate) fn put(&self, files: &EstateFiles) -> PathBuf {
        let folder = self.folder.join("estate");
        for (name, text) in &files.0 {
            let path = folder.join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, text).expect("written");
        }
        folder
    }

    /// Applies what stands there.
    pub(crate) fn apply_folder(&self) {
        let folder = self.folder.join("estate");
        let folder = folder.to_str().expect("UTF-8");
        // What a change takes from guests is what these tests are about.
        let meant = ["--evict", "9", "--revoke", "99", "--message", "guests"];
        self.ask(&[&["estate", "apply", folder][..], &meant].concat());
    }

    /// The machine in the guest, if it is known. The host may be another.
    fn guest(&self) -> Option<Value> {
        let agents = self.ask(&["agent", "list"]);
        let agents = agents.get("agents")?.as_array()?;
        let guest = |agent: &&Value| text(agent, "node") != "host-1";
        agents.iter().find(guest).cloned()
    }

    /// The verdict's index of the guest, once it is connected.
    pub(crate) fn joined(&self) -> Option<String> {
        let agent = self.guest()?;
        let connected = agent.get("connected")?.as_bool()?;
        let index = text(&agent, "verdict");
        connected.then_some(index)
    }

    /// The server's records of one type, oldest first.
    pub(crate) fn records(&self, kind: &str) -> Vec<Value> {
        self.records_of("server", kind)
    }

    /// Those of any ledger.
    pub(crate) fn records_of(&self, ledger: &str, kind: &str) -> Vec<Value> {
        let ran = self.run(&["ledger", "search", "--ledger", ledger, "--type", kind]);
        assert!(ran.status.success(), "{ran:?}");
        let lines = String::from_utf8_lossy(&ran.stdout);
        let found = lines.lines().map(|line| {
            let found: Value = serde_json::from_str(line).expect("JSON");
            found.get("record").cloned().expect("a record")
        });
        found.collect()
    }

    /// Why the guest is locked, if it is.
    pub(crate) fn locked(&self) -> Option<String> {
        let guest = self.guest()?;
        let locked = guest.get("locked")?.as_str()?;
        Some(locked.to_owned())
    }

    /// Names and values of the facts in a verdict.
    pub(crate) fn facts(&self, verdict: &str) -> BTreeMap<String, String> {
        let explained = self.ask(&["attest", "explain", verdict]);
        let facts = explained.pointer("/verdict/facts");
        let facts: Vec<&Value> = match facts.or_else(|| explained.get("facts")) {
            Some(Value::Array(facts)) => facts.iter().collect(),
            Some(Value::Object(facts)) => facts.values().collect(),
            _ => Vec::new(),
        };
        assert!(!facts.is_empty(), "{explained}");
        facts
            .into_iter()
            .map(|fact| (text(fact, "name"), text(fact, "value")))
            .collect()
    }

    /// What connects a machine to this server and no other.
    pub(crate) fn pin(&self) -> String {
        text(&self.ask(&["status"]), "pin")
    }

    /// By which an estate knows a TPM.
    pub(crate) fn endorsement(&self, tpm: &str) -> String {
        text(&self.ask(&["tpm", "show", "--tpm", tpm]), "ek_sha256")
    }
}

/// A field, as JSON where it is no text.
fn text(value: &Value, field: &str) -> String {
    let value = value.get(field).unwrap_or(&Value::Null);
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _gone = self.process.wait();
    }
}
