//! `trilith ledger new-log` as its users run it: the key of a decision point's ledger is replaced, and of an agent's that
//! decides itself; it answers on, and the server, packs and whoever reads the folder follow.

use crate::pdp::{Site, evaluation, started, uid, with_agent};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};

const NEW_LOG: [&str; 6] = [
    "ledger",
    "new-log",
    "--folder",
    "pdp",
    "--reason",
    "each year",
];

/// Who decides, in the folder `pdp` and at the socket `pdp.sock`.
struct Decides {
    site: Site,
    role: &'static str,
    /// Of its ledger.
    name: &'static str,
}

impl Decides {
    /// The record of an answer, once there is one that the server knows as well.
    fn decided(&self) -> String {
        let socket = self.site.at("pdp.sock");
        let mut record = String::new();
        self.site.wait(self.role, || {
            let Some((200, answer)) = evaluation(&socket, "payments/api") else {
                return false;
            };
            let id = answer.pointer("/context/record").and_then(Value::as_str);
            record = id.unwrap_or_default().to_owned();
            !record.is_empty()
        });
        self.site.wait(self.role, || {
            let why = self.site.command(&["why", &record]).output();
            why.expect("it runs").status.success()
        });
        record
    }

    /// What `trilith verify` says of the pack; the other verifier takes it too.
    fn verified(&self, pack: &str) -> String {
        let said = self.site.ask(&["verify", pack, "--trust", "trust.json"]);
        let Some(python) = testkit::venv_python(&["cryptography"]) else {
            testkit::skip(
                "trilith.python-verifier",
                "no Python with cryptography in target/venv; run cargo xtask test",
            );
            return said;
        };
        let script =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../verifiers/python/trilith_verify.py");
        let output = Command::new(python)
            .arg(script)
            .arg(self.site.at(pack))
            .arg("--trust")
            .arg(self.site.at("trust.json"))
            .env_clear()
            .stdin(Stdio::null())
            .output()
            .expect("it runs");
        let beside = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{pack}: {beside}");
        said
    }
}

#[test]
fn a_decision_point_goes_on_under_another_key_and_everybody_follows() {
    goes_on(Decides {
        site: started(),
        role: "pdp",
        name: "pdp-1",
    });
}

/// Its ledger is opened, and followed, by other code than a decision point's.
#[test]
fn an_agent_that_decides_goes_on_under_another_key_and_everybody_follows() {
    let decisions = format!(
        "[decisions]\nname = \"decides-1\"\nidentity = \"gateway/pdp\"\nsocket = \"FOLDER/pdp.sock\"\n\
         data_dir = \"FOLDER/pdp\"\n[[decisions.process]]\nuid = {}\nmay = [\"evaluate\"]\n",
        uid()
    );
    let (site, _, _) = with_agent(&decisions);
    goes_on(Decides {
        site,
        role: "agent",
        name: "decides-1",
    });
}

fn goes_on(mut decides: Decides) {
    let early = decides.decided();
    let (first, second) = (
        format!("example.org/gateway/{}", decides.name),
        format!("example.org/gateway/{}@2", decides.name),
    );
    let refused = decides.site.command(&NEW_LOG).output().expect("it runs");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains("GATEWAY-NEW-LOG-RUNNING"),
        "{said}"
    );
    decides.site.stop();

    let told = decides.site.ask(&NEW_LOG);
    assert!(
        told.starts_with(&format!("{first} goes on from ")) && told.contains(&second),
        "{told}"
    );
    let again = decides.site.command(&NEW_LOG).output().expect("it runs");
    assert_eq!(String::from_utf8_lossy(&again.stdout), told);
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(
        again.status.success() && said.contains("Nothing was done"),
        "{said}"
    );

    // ------------------------------------------------------------ it answers, and the server follows
    decides.site.run(decides.role);
    let late = decides.decided();
    assert_ne!(early, late);
    let site = &decides.site;
    for id in [&early, &late] {
        let why = site.ask(&["why", id]);
        assert!(why.contains("payments reads cards"), "{why}");
        site.ask(&["ledger", "show", id]);
    }
    let status: Value = serde_json::from_str(&site.ask(&["status", "--json"])).expect("JSON");
    let gateway = status.pointer("/gateways/0").expect("a gateway");
    assert_eq!(
        gateway.pointer("/origin").and_then(Value::as_str),
        Some(second.as_str())
    );
    let key = gateway
        .pointer("/key")
        .and_then(Value::as_str)
        .expect("a key");
    assert!(told.contains(key), "{told}");
    let rotations = site.ask(&["ledger", "search", "--type", "key-rotation", "--json"]);
    assert!(rotations.contains("gateway-ledger"), "{rotations}");

    // ------------------------------------------------------------ packs, under a trust file of before as of after
    site.write("trust.json", &site.ask(&["trust"]));
    for id in [&early, &late] {
        site.ask(&["pack", "--record", id, "-o", "record.pack"]);
        let verified = decides.verified("record.pack");
        assert!(verified.contains(&second), "{verified}");
    }
    // Over both logs, with the link between them.
    let (ledger, from) = early.rsplit_once(':').expect("a place");
    let (_, to) = late.rsplit_once(':').expect("a place");
    let range = format!("{ledger}:{from}..{to}");
    site.ask(&["pack", "--range", &range, "-o", "range.pack"]);
    let verified = decides.verified("range.pack");
    assert!(verified.contains(&second), "{verified}");

    // ------------------------------------------------------------ and who reads the folders
    for folder in ["pdp", "server"] {
        let search = [
            "ledger",
            "search",
            "--folder",
            folder,
            "--type",
            "key-rotation",
        ];
        let found = site.ask(&[&search[..], &["--verify", "--json"]].concat());
        assert!(found.contains("trilith-ledger-succession-v1"), "{found}");
    }
    decides.site.stop();
    decides.site.ask(&[
        "ledger",
        "completeness",
        "--folder",
        "pdp",
        "--folder",
        "server",
    ]);
}
