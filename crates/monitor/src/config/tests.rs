//! What `monitor.toml` may say.

use super::*;

const FILE: &str = r#"
[monitor]
state_dir = "/var/lib/trilith/monitor"
[log]
key = "KEY"
urls = ["https://ledger.example.org"]
[[watch]]
name = "payments"
identities = ["spiffe://example.org/payments/*"]
[[watch.allow]]
records = ["issuance"]
machines = ["m1"]
hours = ["06:00-20:00"]
"#;

fn file() -> String {
    let key = crypto::KeyPair::generate(crypto::Algorithm::Ed25519).unwrap();
    let key = crypto::Signer::public_key(&key).clone();
    let key = LedgerKey::new("example.org/server", key).unwrap();
    FILE.replace("KEY", &key.to_string())
}

#[test]
fn a_small_file_is_enough() {
    let config = Config::parse(&file()).unwrap();
    assert_eq!(config.origin().unwrap(), "example.org/server");
    assert_eq!(config.log.entries, Entries::Records);
    assert_eq!(config.watched().unwrap().len(), 1);
    assert!(config.policy().unwrap().is_none());
}

#[test]
fn the_age_of_an_anchor_is_that_of_its_quorum() {
    let text = file();
    let key = text
        .lines()
        .find(|line| line.starts_with("key = "))
        .unwrap();
    let anchor = format!("{text}[anchor]\n{key}\nmax_age_s = 60\n");
    assert_eq!(Config::parse(&anchor).unwrap_err().code, "MONITOR-CONFIG");
    let config = Config::parse(&format!("{anchor}policy = \"/etc/p\"\n")).unwrap();
    assert_eq!(config.anchor.unwrap().max_age_s, Some(60));
}

#[test]
fn what_is_not_understood_is_an_error() {
    for (from, to) in [
        ("state_dir = \"/", "state_dir = \""),
        ("state_dir", "state_folder"),
        ("[log]", "interval_s = 0\n[log]"),
        ("[log]", "timeout_s = 0\n[log]"),
        ("urls =", "folder = \"/x\"\nurls ="),
        ("urls = [\"https://ledger.example.org\"]", ""),
        ("urls =", "max_age_s = 60\nurls ="),
        ("urls =", "entries = \"opaque\"\nurls ="),
        ("urls =", "entries = \"some\"\nurls ="),
        ("example.org/server+", "example.org/other+"),
        (
            "[[watch]]",
            "[webhook]\nurl = \"https://x\"\nsecret_file = \"s\"\n[[watch]]",
        ),
        ("identities = [\"spiffe://example.org/payments/*\"]", ""),
        ("/payments/*\"]", "/*/api\"]"),
        ("\"issuance\"", "\"issuances\""),
        ("06:00-20:00", "06:00"),
        ("06:00-20:00", "06:00-24:01"),
        ("06:00-20:00", "06:00-06:00"),
        ("hours", "days"),
        ("hours", "code"),
        ("hours", "issuers"),
        (
            "records = [\"issuance\"]\nmachines = [\"m1\"]\nhours = [\"06:00-20:00\"]",
            "",
        ),
        ("name = \"payments\"", "name = \"\""),
    ] {
        let changed = file().replacen(from, to, 1);
        assert_ne!(changed, file(), "{from}");
        let code = Config::parse(&changed).map(drop).unwrap_err().code;
        assert_eq!(code, "MONITOR-CONFIG", "{to}");
    }
}

#[test]
fn a_gateways_key_may_be_as_its_anchor_has_it() {
    let key = crypto::KeyPair::generate(crypto::Algorithm::Ed25519).unwrap();
    let key = crypto::Signer::public_key(&key).clone();
    let spki = crypto::base64::encode(key.spki_der());
    let named = "KEY\"\norigin = \"example.org/pg-1";
    let file = FILE.replace("KEY", named).replace("KEY", &spki);
    let config = Config::parse(&file).unwrap();
    let expected = LedgerKey::new("example.org/pg-1", key).unwrap().to_string();
    assert_eq!(config.vkey().unwrap(), expected);
    // Without its origin it is nobody's.
    let alone = Config::parse(&FILE.replace("KEY", &spki)).map(drop);
    assert_eq!(alone.unwrap_err().code, "MONITOR-CONFIG");
}
