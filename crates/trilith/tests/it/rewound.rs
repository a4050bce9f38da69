//! A whole site is put back to what it was before its ledger went on as a new log, by an operator who does not know: with
//! the binary, and with `trilith witness` as who remembers.

use crate::quorum::{Process, Site, free, said};
use std::process::Command;

const WITNESSED: &str = "[witnesses]\npolicy = \"witnesses.policy\"\ncadence_ms = 200\n";
static NEW_LOG: [&str; 6] = [
    "server",
    "new-log",
    "--config",
    "server.toml",
    "--reason",
    "each year",
];

/// As an init system ends it.
fn stop(mut process: Process) {
    let pid = process.0.id().to_string();
    let sent = Command::new("kill").args(["-TERM", &pid]).status();
    assert!(sent.expect("kill runs").success());
    let ended = process.0.wait().expect("gone");
    assert!(ended.success(), "{ended}");
}

impl Site {
    fn copied(&self, from: &str, to: &str) {
        let copied = Command::new("cp")
            .args(["-a", from, to])
            .current_dir(self.folder.path())
            .status();
        assert!(copied.expect("cp runs").success(), "{from} {to}");
    }

    /// Ledger and keys, as a backup of everything has them.
    fn keep(&self, name: &str) {
        std::fs::create_dir(self.path(name)).expect("a folder");
        for folder in ["data", "keys"] {
            self.copied(folder, name);
        }
    }

    fn put_back(&self, name: &str) {
        for folder in ["data", "keys"] {
            std::fs::remove_dir_all(self.path(folder)).expect("removed");
            self.copied(&format!("{name}/{folder}"), ".");
        }
    }

    fn is_witnessed(&self) {
        self.until("the witness has cosigned all of it", || {
            self.status()["witnesses"]["witnessed"]["behind"] == 0
        });
    }

    /// Runs of the server that its ledger says to have begun.
    fn starts(&self) -> usize {
        let found = self.run(&[
            "ledger", "search", "--folder", "data", "--type", "start", "--json",
        ]);
        assert!(found.status.success(), "{}", said(&found));
        String::from_utf8_lossy(&found.stdout).lines().count()
    }

    /// Follows logs by these keys.
    fn witness(&self, address: std::net::SocketAddr, keys: &[&str]) -> Process {
        let logs: String = keys
            .iter()
            .map(|key| format!("[[log]]\nkey = \"{key}\"\n"))
            .collect();
        let text = format!(
            "[witness]\nname = \"witness.example/1\"\ndata_dir = \"{}\"\nlisten = \"{address}\"\n{logs}",
            self.path("witness").display(),
        );
        self.put("witness.toml", &text);
        let witness = self.start("witness");
        // It listens before it has them.
        self.until("the witness listens, and has its keys", || {
            std::net::TcpStream::connect(address).is_ok()
                && self.path("witness/verifier-keys").exists()
        });
        witness
    }

    fn key(&self) -> String {
        let status = self.status();
        status["ledger"]["key"].as_str().expect("a key").to_owned()
    }
}

#[test]
fn a_site_that_is_put_back_to_before_its_new_log_signs_nothing_where_a_witness_remembers() {
    let site = Site {
        folder: testkit::temp_dir().expect("a folder"),
        http: free(),
    };
    let server = site.server("");
    let first = site.key();
    stop(server);
    let address = free();
    let witness = site.witness(address, &[&first]);
    let keys = std::fs::read_to_string(site.path("witness/verifier-keys")).expect("its keys");
    let ours = keys.lines().next().expect("a key");
    site.put(
        "witnesses.policy",
        &format!("witness ours {ours} http://{address}\nquorum ours\n"),
    );
    let server = site.server(WITNESSED);
    site.is_witnessed();
    stop(server);

    // The most usual backup: of the moment before something is changed.
    site.keep("before");
    let begun = site.run(&NEW_LOG);
    assert!(begun.status.success(), "{}", said(&begun));
    let server = site.server(WITNESSED);
    let second = site.key();
    assert!(second.starts_with("example.org/server@2+"), "{second}");
    drop(witness);
    let _witness = site.witness(address, &[&first, &second]);
    site.is_witnessed();
    stop(server);
    site.keep("newest");

    site.put_back("before");
    let before = site.starts();
    let server = site.server(WITNESSED);
    let status = site.status();
    assert_eq!(
        status["signing"]["code"], "SERVER-LINEAGE-WITNESSED",
        "{status:#}"
    );
    let refused = site.run(&["token", "create", "--node", "m1", "--pool", "demo"]);
    assert!(
        !refused.status.success() && said(&refused).contains("SERVER-LINEAGE-WITNESSED"),
        "{}",
        said(&refused)
    );
    stop(server);
    assert_eq!(site.starts(), before, "nothing was signed by the old key");
    let twice = site.run(&NEW_LOG);
    assert!(
        !twice.status.success() && said(&twice).contains("SERVER-LINEAGE-WITNESSED"),
        "{}",
        said(&twice)
    );

    // As the refusal says.
    site.put_back("newest");
    let server = site.server(WITNESSED);
    assert_eq!(site.status()["signing"], "allowed");
    site.is_witnessed();
    stop(server);
}
