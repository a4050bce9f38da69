//! `trilith ledger new-log` as its users run it: the key of a decision point's ledger is replaced, it answers on, and the
//! server, packs and whoever reads the folder follow.

use crate::pdp::{answered, started};
use serde_json::Value;

const SECOND: &str = "example.org/gateway/pdp-1@2";
const NEW_LOG: [&str; 6] = [
    "ledger",
    "new-log",
    "--folder",
    "pdp",
    "--reason",
    "each year",
];

fn record(answer: &Value) -> String {
    let record = answer.pointer("/context/record").and_then(Value::as_str);
    record.expect("an id").to_owned()
}

#[test]
fn a_decision_point_goes_on_under_another_key_and_everybody_follows() {
    let mut site = started();
    let early = record(&answered(&site));
    site.wait("pdp", || {
        let output = site.command(&["why", &early]).output().expect("it runs");
        output.status.success()
    });
    let refused = site.command(&NEW_LOG).output().expect("it runs");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains("GATEWAY-NEW-LOG-RUNNING"),
        "{said}"
    );
    site.stop();

    let told = site.ask(&NEW_LOG);
    assert!(
        told.starts_with("example.org/gateway/pdp-1 goes on from ") && told.contains(SECOND),
        "{told}"
    );
    let again = site.command(&NEW_LOG).output().expect("it runs");
    assert_eq!(String::from_utf8_lossy(&again.stdout), told);
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(
        again.status.success() && said.contains("Nothing was done"),
        "{said}"
    );

    // ------------------------------------------------------------ it answers, and the server follows
    site.run("pdp");
    let late = record(&answered(&site));
    assert_ne!(early, late);
    site.wait("pdp", || {
        let output = site.command(&["why", &late]).output().expect("it runs");
        output.status.success()
    });
    for id in [&early, &late] {
        let why = site.ask(&["why", id]);
        assert!(why.contains("payments reads cards"), "{why}");
        site.ask(&["ledger", "show", id]);
    }
    let status: Value = serde_json::from_str(&site.ask(&["status", "--json"])).expect("JSON");
    let gateway = status.pointer("/gateways/0").expect("a gateway");
    assert_eq!(
        gateway.pointer("/origin").and_then(Value::as_str),
        Some(SECOND)
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
        let verified = site.ask(&["verify", "record.pack", "--trust", "trust.json"]);
        assert!(verified.contains(SECOND), "{verified}");
    }

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
    site.stop();
    site.ask(&[
        "ledger",
        "completeness",
        "--folder",
        "pdp",
        "--folder",
        "server",
    ]);
}
