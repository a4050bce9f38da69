//! Questions to the records of a real server and the gateway that it mirrors, while both run: PostgreSQL's clients
//! have read and written through the gateway before.

use crate::demo::Held;
use crate::site::Site;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The server's `data_dir`: it alone keeps mirrors.
pub(crate) fn data_dir(under: &Path) -> Option<PathBuf> {
    if under.join("mirrors").is_dir() && under.join("ledger/segments").is_dir() {
        return Some(under.to_owned());
    }
    let entries = std::fs::read_dir(under).ok()?;
    entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .find_map(|path| data_dir(&path))
}

struct Asked<'a> {
    site: &'a Site,
    folder: PathBuf,
    socket: PathBuf,
}

impl Asked<'_> {
    fn run(&self, words: &[&str]) -> Output {
        let folder = self.folder.to_str().expect("UTF-8");
        let words = words
            .iter()
            .map(|word| if *word == "FOLDER" { folder } else { word });
        self.site
            .trilith()
            .env("TRILITH_ADMIN_SOCKET", &self.socket)
            .args(words)
            .output()
            .expect("it runs")
    }

    /// What it prints, one JSON document a line.
    fn json(&self, words: &[&str]) -> Vec<Value> {
        let output = self.run(&[words, &["--json"]].concat());
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{words:?}: {told}{said}");
        told.lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    }

    fn hits(&self, words: &[&str]) -> Vec<Value> {
        let all = self.json(
            &[
                &["ledger", "search", "--folder", "FOLDER", "--verify"],
                words,
            ]
            .concat(),
        );
        let (hits, rest): (Vec<Value>, Vec<Value>) =
            all.into_iter().partition(|one| one.get("record").is_some());
        assert_eq!(rest[0]["found"], hits.len(), "{rest:?}");
        assert_eq!(rest[1]["verified"]["matching"], hits.len(), "{rest:?}");
        hits
    }
}

#[test]
fn the_records_of_a_running_server_answer_every_question() {
    let site = match Site::new(None) {
        Ok(site) => site,
        Err(why) => return testkit::skip("questions to the demo's records", &why),
    };
    let mut held = Held::start(&site);
    let told = held.told_until("Everything goes on running until Ctrl-C");
    assert!(!told.contains("\n  FAIL "), "{told}");
    let folder = data_dir(&site.temporary()).expect("the server's folder");
    let socket = ["admin.sock", "../admin.sock"].map(|name| folder.join(name));
    let socket = socket
        .into_iter()
        .find(|path| path.exists())
        .expect("a socket");
    let asked = Asked {
        site: &site,
        folder,
        socket,
    };

    // A gateway's records come by the name of who acted, of what, and of the machine that the SVID was issued on.
    let denied = asked.hits(&[
        "--identity",
        "agents/helper",
        "--decision",
        "deny",
        "--receipts",
    ]);
    assert!(!denied.is_empty());
    assert!(
        denied.iter().all(|hit| hit["receipt"]
            .as_str()
            .is_some_and(|text| text.contains("/pg"))
            || hit["ledger"] == "server"),
        "{denied:?}"
    );
    let issued = asked.hits(&["--type", "issuance", "--identity", "payments/api"]);
    let node = issued[0]["record"]["body"]["node"]
        .as_str()
        .expect("a node");
    let on_it = asked.hits(&[
        "--machine",
        node,
        "--type",
        "intent",
        "--resource",
        "shop/public/cards",
    ]);
    assert!(!on_it.is_empty());
    assert!(asked.hits(&["--machine", "no-such-machine"]).is_empty());

    let rows = asked.json(&[
        "ledger",
        "accesses",
        "--folder",
        "FOLDER",
        "--by",
        "payments/api",
        "--verify",
        "--receipts",
    ]);
    let row = |kind: &str, resource: &str| {
        rows.iter()
            .find(|row| {
                row["kind"] == kind && row["resource"] == resource && row["allowed"] == true
            })
            .unwrap_or_else(|| panic!("{kind} {resource}: {rows:?}"))
    };
    assert!(row("read", "Table::\"shop/public/cards\"")["succeeded"].as_u64() > Some(0));
    assert!(row("modified", "Table::\"shop/public/orders\"")["receipts"][1].is_string());

    let history = &asked.json(&[
        "history",
        "payments/api",
        "select",
        "shop/public/cards",
        "--folder",
        "FOLDER",
    ])[0];
    assert_eq!(
        history["changes"].as_array().map(Vec::len),
        Some(1),
        "{history}"
    );
    assert_eq!(
        history["since"][0], history["changes"][0]["record"],
        "{history}"
    );

    let exported = site.temporary().join("exported");
    let directory = exported.to_str().expect("UTF-8");
    let output = asked.run(&["estate", "export", directory]);
    assert!(output.status.success(), "{output:?}");
    let printed = asked.run(&["unused", "--folder", "FOLDER", "--window", "1d", "--patch"]);
    let said = String::from_utf8_lossy(&printed.stderr).into_owned();
    assert!(
        printed.status.success() && said.contains("proved: nothing is newly allowed"),
        "{said}"
    );
    std::fs::write(site.temporary().join("smaller.patch"), &printed.stdout).expect("a file");
    let applied = Command::new("git")
        .args(["apply", "../smaller.patch"])
        .current_dir(&exported)
        .output()
        .expect("git runs");
    assert!(applied.status.success(), "{applied:?}");
    // What was observed comes out the same by the smaller estate, facts of the machine included.
    let replayed = &asked.json(&[
        "replay", "--estate", directory, "--folder", "FOLDER", "--since", "1d",
    ])[0];
    assert_eq!(replayed["changed"], serde_json::json!([]), "{replayed}");
    assert_eq!(
        replayed["not_replayed"],
        serde_json::json!([]),
        "{replayed}"
    );
    assert!(replayed["same"].as_u64() > Some(0));

    let policies = exported.join("policies/shop.cedar");
    let text = std::fs::read_to_string(&policies).expect("policies");
    let (before, rest) = text
        .split_once("@id(\"payments reads cards\")")
        .expect("the policy");
    let (_, behind) = rest.split_once(";\n").expect("its end");
    std::fs::write(&policies, format!("{before}{behind}")).expect("a file");
    let words = [
        "estate", "plan", directory, "--replay", "1", "--folder", "FOLDER", "--json",
    ];
    let planned = asked.run(&words);
    let plan: Value = serde_json::from_slice(&planned.stdout).expect("JSON");
    let changed = plan["replayed"]["changed"].as_array().expect("a list");
    assert!(
        changed
            .iter()
            .any(|one| one["change"] == "denied"
                && one["resource"] == "Table::\"shop/public/cards\""),
        "{plan}"
    );
    whole(&asked);
    handed_on(&asked);
    let told = held.told_until("/checkpoint");
    let url = told.rsplit("curl -s ").next().expect("an address").trim();
    watched(&asked, url.trim_end_matches("/checkpoint"), &issued);
    assert!(held.interrupt().success());
}

/// Nothing is missing that no record accounts for, and the server anchors its gateways' ledgers.
fn whole(asked: &Asked<'_>) {
    let told = asked.json(&["ledger", "completeness", "--folder", "FOLDER", "--receipts"]);
    let (last, ledgers) = told.split_last().expect("an answer");
    assert_eq!(last["unexplained"], 0, "{told:?}");
    assert_eq!(last["anchors_known"], true);
    assert!(ledgers.len() > 1, "{told:?}");
    for ledger in ledgers {
        let read = &ledger["read"];
        assert_eq!(read["size"], ledger["counts"]["records"], "{ledger}");
        let anchored = ledger["anchored"]["size"].as_u64();
        assert!(
            ledger["ledger"] == "server" || anchored > Some(0),
            "{ledger}"
        );
    }
}

/// Every record of every ledger, to standard output and to a file with a cursor.
fn handed_on(asked: &Asked<'_>) {
    let words = ["ledger", "export", "--folder", "FOLDER", "--to", "stdout"];
    let output = asked.run(&words);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let mut of_server = 0_u64;
    for line in text.lines() {
        let event: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(event["specversion"], "1.0");
        if event["source"]
            .as_str()
            .is_some_and(|source| source.ends_with("/server"))
        {
            assert_eq!(event["sequence"], format!("{of_server:020}"));
            of_server += 1;
        }
    }
    assert!(of_server > 10, "{of_server}");

    let out = asked.site.temporary().join("events.jsonl");
    let cursor = asked.site.temporary().join("cursor.json");
    let to = format!("file:{}", out.display());
    let cursor = cursor.to_str().expect("UTF-8");
    let words = [
        "ledger", "export", "--folder", "FOLDER", "--to", &to, "--format", "ocsf", "--cursor",
        cursor,
    ];
    for _ in 0..2 {
        let output = asked.run(&words);
        assert!(output.status.success(), "{output:?}");
    }
    let text = std::fs::read_to_string(&out).expect("events");
    let mut seen = std::collections::BTreeSet::new();
    for line in text.lines() {
        let event: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(event["metadata"]["version"], "1.3.0");
        assert!(seen.insert(event["metadata"]["uid"].to_string()), "{line}");
    }
    assert!(text.contains("\"class_uid\":6005"));
    let other = asked.run(&[
        "ledger", "export", "--folder", "FOLDER", "--to", "stdout", "--cursor", cursor,
    ]);
    assert_eq!(other.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&other.stderr).contains("EXPORT-CURSOR-OTHER"));
}

/// A monitor watches the server from outside, and an answer of its folder is derived again from its tiles.
fn watched(asked: &Asked<'_>, url: &str, issued: &[Value]) {
    let trust: Value = serde_json::from_slice(&asked.run(&["trust"]).stdout).expect("JSON");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let bodies: Vec<&Value> = issued.iter().map(|hit| &hit["record"]["body"]).collect();
    let key = text(&trust["ledger_key"]);
    let identity = text(&bodies[0]["spiffe_id"]);
    let nodes: Vec<String> = bodies.iter().map(|body| text(&body["node"])).collect();
    let others = [
        "revocation",
        "assume-refused",
        "delegation",
        "decision",
        "admin",
        "estate-version",
    ];
    let look = |name: &str, machines: &[String]| {
        let config = asked.site.temporary().join(format!("{name}.toml"));
        let state = asked.site.temporary().join(name);
        let file = format!(
            "[monitor]\nstate_dir = \"{}\"\n[log]\nkey = \"{key}\"\nurls = [\"{url}\"]\n\
             [[watch]]\nname = \"w\"\nidentities = [\"{identity}\"]\n\
             [[watch.allow]]\nrecords = [\"issuance\"]\nmachines = {machines:?}\n\
             [[watch.allow]]\nrecords = {others:?}\n",
            state.display()
        );
        std::fs::write(&config, file).expect("written");
        let config = config.to_str().expect("UTF-8");
        asked.run(&["monitor", "--once", "--json", "--config", config])
    };
    let expected = look("expected", &nodes);
    assert!(expected.status.success(), "{expected:?}");
    let elsewhere = ["another-machine".to_owned()];
    // On another machine it would be nobody's expectation.
    let told = look("unexpected", &elsewhere);
    assert_eq!(told.status.code(), Some(4), "{told:?}");
    let alert = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(
        alert.contains("MONITOR-UNEXPECTED") && alert.contains(&identity),
        "{alert}"
    );
    // Once told, and not again.
    let again = look("unexpected", &elsewhere);
    assert!(again.status.success(), "{again:?}");
    let found = asked.json(&[
        "ledger",
        "search",
        "--folder",
        "FOLDER",
        "--ledger",
        "server",
        "--type",
        "issuance",
        "--verify",
        "--from-url",
        url,
    ]);
    let last = found.last().expect("an answer");
    assert!(last["verified"]["matching"].as_u64() > Some(0), "{last}");
}
