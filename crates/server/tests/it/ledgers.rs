//! Gateways' ledgers over the server's HTTP: as far as they are anchored, each in the form of a log that anybody
//! watches, and with the limits of the server's own.

use crate::anchoring::{anchored, fill, open};
use crate::follower::Gateway;
use crate::harness::{DOMAIN, Fixture, config_text, estate, get};
use crate::recovering::{Scene, until};
use facts::Timestamp;
use ledger_store::Ledger;
use monitor::Monitor;
use proto::v1::gateway_message::Message;
use proto::v1::{self, delta};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

/// A gateway whose ledger is anchored.
async fn with_anchor(fixture: &Fixture, listed_as_well: bool) -> (Gateway, Ledger) {
    let mut gateway = Gateway::connect(fixture, 2000).await.unwrap();
    gateway.hello(0, Vec::new()).await;
    let signer = Arc::clone(&gateway.signer) as _;
    let own = open(&fixture.dir.path().join("own"), signer);
    fill(&own, 1);
    let size = own.reader().size();
    assert_eq!(anchored(&mut gateway, &own, 0).await, Ok(size));
    until("what is anchored is shown", async || {
        !listed_as_well || listed(fixture).await["ledgers"][0]["size"].as_u64() == Some(size)
    })
    .await;
    (gateway, own)
}

/// Sends its head, and of the records before it those of its next hundred that the ledger has signed; how many the
/// server keeps then. The head is never reached.
async fn mirrored(gateway: &mut Gateway, own: &Ledger) -> u64 {
    let head = v1::GatewayHead {
        checkpoint: own.reader().head().note.as_ref().to_owned(),
        consistency: Vec::new(),
        old_size: 0,
    };
    gateway.send(Message::Head(head)).await;
    let mut kept = 0;
    loop {
        let delta::Delta::Fetch(fetch) = gateway.next().await.unwrap() else {
            continue;
        };
        if kept > 0 {
            // It asks for what comes after.
            assert_eq!(fetch.from_index, kept);
            return kept;
        }
        let range = fetch.from_index..fetch.from_index + 100;
        let (records, note) = own.reader().read_signed(range, 4 << 20).unwrap();
        kept = fetch.from_index + records.len() as u64;
        let segment = v1::SegmentData {
            request: fetch.request,
            first_index: fetch.from_index,
            records,
            checkpoint: note.unwrap(),
        };
        gateway.send(Message::Segment(segment)).await;
    }
}

async fn listed(fixture: &Fixture) -> Value {
    let (status, list) = get(fixture.running().http_listen, "/ledgers").await;
    assert_eq!(status, 200);
    serde_json::from_str(&list).unwrap()
}

async fn status_of(fixture: &Fixture, path: &str) -> u16 {
    get(fixture.running().http_listen, path).await.0
}

/// One look at the ledger of that name; `rest` follows what every monitor of one has.
async fn look(
    fixture: &Fixture,
    state: &Path,
    listed: &Value,
    log: &str,
    rest: &str,
) -> (Result<u64, String>, Vec<String>) {
    let text = format!(
        "[monitor]\nstate_dir = \"{}\"\n[log]\nkey = \"{}\"\nurls = [\"http://{}/ledgers/{}\"]\n{log}\n\
         [anchor]\nkey = \"{}\"\n{rest}",
        state.display(),
        listed["key"].as_str().unwrap(),
        fixture.running().http_listen,
        listed["name"].as_str().unwrap(),
        fixture.ledger_key().await,
    );
    let mut monitor = Monitor::open(monitor::Config::parse(&text).unwrap()).unwrap();
    let seen = monitor.round(Timestamp::now()).await;
    let seen = seen
        .map(|seen| seen.looked)
        .map_err(|failure| failure.finding().code.to_string());
    let told = monitor.waiting().iter();
    let told = told.map(|alert| alert.finding.code.to_string()).collect();
    (seen, told)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateways_ledger_is_served_as_far_as_it_is_anchored() {
    let fixture = Fixture::start().await;
    assert_eq!(listed(&fixture).await["ledgers"], serde_json::json!([]));
    let (mut gateway, own) = with_anchor(&fixture, true).await;
    let anchored_size = own.reader().size();
    let list = listed(&fixture).await;
    let one = list["ledgers"][0].clone();
    let name = one["name"].as_str().unwrap();
    let origin = format!("{DOMAIN}/gateway/pg");
    assert_eq!(one["origin"], origin.as_str());
    assert_eq!(one["size"].as_u64(), Some(anchored_size));
    let digest = crypto::sha256(origin.as_bytes());
    assert_eq!(name, crypto::hex::encode(&digest));
    let status = fixture.status().await;
    for field in ["key", "anchor", "origin"] {
        assert_eq!(one[field], status["gateways"][0][field], "{field}");
    }

    // By a monitor that believes the server's ledger.
    let states = tempfile::tempdir().unwrap();
    let state = states.path().join("state");
    let (seen, _) = look(&fixture, &state, &one, "", "").await;
    assert_eq!(seen, Ok(anchored_size));

    // Its mirror has more by now than is anchored, and nobody is shown that.
    fill(&own, 1);
    fill(&own, 1);
    let size = mirrored(&mut gateway, &own).await;
    assert!(size > anchored_size);
    let partial = format!("/ledgers/{name}/tile/0/000.p/{size}");
    let shown = format!("/ledgers/{name}/tile/0/000.p/{anchored_size}");
    assert!(size < 256 && size < own.reader().size(), "{size}");
    assert_eq!(status_of(&fixture, &shown).await, 200);
    assert_eq!(status_of(&fixture, &partial).await, 404);
    let (_, note) = get(
        fixture.running().http_listen,
        &format!("/ledgers/{name}/checkpoint"),
    )
    .await;
    assert_eq!(
        note.lines().nth(1),
        Some(anchored_size.to_string().as_str())
    );

    for (path, expected) in [
        (
            format!("/ledgers/{name}/tile/entries/000.p/{anchored_size}"),
            200,
        ),
        (format!("/ledgers/{name}/tile/8/x"), 404),
        (format!("/ledgers/{name}/tile/0/001"), 404),
        (format!("/ledgers/{name}/labels/000.p/1"), 404),
        (format!("/ledgers/{}/checkpoint", "0".repeat(64)), 404),
        ("/ledgers/..%2f..%2fledger/checkpoint".to_owned(), 404),
        (format!("/ledgers/{}/tile/0/000.p/1", "0".repeat(64)), 404),
        (format!("/ledgers/{}/anchor", "x".repeat(64)), 404),
    ] {
        assert_eq!(status_of(&fixture, &path).await, expected, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_keeps_of_a_gateway_is_shown_again_after_a_start_and_not_if_it_is_lost() {
    let mut fixture = Fixture::start().await;
    let (gateway, own) = with_anchor(&fixture, true).await;
    let size = own.reader().size();
    drop(gateway);
    fixture.restart().await;
    let one = listed(&fixture).await["ledgers"][0].clone();
    assert_eq!(one["size"].as_u64(), Some(size));
    let states = tempfile::tempdir().unwrap();
    let (seen, _) = look(&fixture, &states.path().join("a"), &one, "", "").await;
    assert_eq!(seen, Ok(size));

    // The mirror is lost: what stands in the ledger is shown, and nothing that is not here.
    fixture.stop().await;
    std::fs::remove_dir_all(fixture.dir.path().join("data/mirrors")).unwrap();
    fixture.go_on().await;
    let name = one["name"].as_str().unwrap();
    for (path, expected) in [
        (format!("/ledgers/{name}/checkpoint"), 200),
        (format!("/ledgers/{name}/anchor"), 200),
        (format!("/ledgers/{name}/tile/0/000.p/{size}"), 503),
    ] {
        assert_eq!(status_of(&fixture, &path).await, expected, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_are_listed_to_the_world_only_where_somebody_says_so() {
    for (more, expected) in [
        ("", 403),
        ("http_entries = true\n", 403),
        ("http_ledgers = true\n", 200),
    ] {
        let fixture = for_the_world(more).await;
        let (gateway, own) = with_anchor(&fixture, expected == 200).await;
        let name = ledger::witness::origin_hash(&format!("{DOMAIN}/gateway/pg"));
        let size = own.reader().size();
        for path in [
            "/ledgers".to_owned(),
            format!("/ledgers/{name}/checkpoint"),
            format!("/ledgers/{name}/anchor"),
            format!("/ledgers/{name}/tile/0/000.p/{size}"),
        ] {
            assert_eq!(
                status_of(&fixture, &path).await,
                expected,
                "{more:?} {path}"
            );
        }
        // What is not there is answered alike.
        if expected == 403 {
            for path in ["/ledgers/x/labels/000.p/1", "/ledgers/x/checkpoint"] {
                assert_eq!(status_of(&fixture, path).await, 403, "{path}");
            }
        }
        // The server's own ledger is for everybody.
        assert_eq!(status_of(&fixture, "/checkpoint").await, 200);
        drop(gateway);
    }
}

/// A server that listens on more than this machine.
async fn for_the_world(more: &str) -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let text = config_text(dir.path()).replacen(
        "http_listen = \"127.0.0.1:0\"\n",
        &format!("http_listen = \"0.0.0.0:0\"\n{more}"),
        1,
    );
    let path = dir.path().join("server.toml");
    std::fs::write(&path, text).unwrap();
    let config = server::Config::load(&path).unwrap();
    assert!(config.http_listen.ip().is_unspecified());
    let server = Some(server::start(config).await.unwrap());
    let fixture = Fixture { dir, server };
    fixture.apply(&estate()).await.unwrap();
    fixture
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_gateways_are_served_to_the_world_only_where_the_servers_own_are() {
    let fixture = for_the_world("http_ledgers = true\n").await;
    let (_gateway, own) = with_anchor(&fixture, true).await;
    let size = own.reader().size();
    let one = listed(&fixture).await["ledgers"][0].clone();
    let name = one["name"].as_str().unwrap();
    for (path, expected) in [
        (format!("/ledgers/{name}/tile/0/000.p/{size}"), 200),
        (format!("/ledgers/{name}/anchor"), 200),
        (format!("/ledgers/{name}/tile/entries/000.p/{size}"), 403),
    ] {
        assert_eq!(status_of(&fixture, &path).await, expected, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_recognise_their_own_in_a_gateways_ledger_by_labels_of_its_server() {
    let dir = tempfile::tempdir().unwrap();
    for (name, seed) in [("ada.key", 1), ("bob.key", 2)] {
        let path = dir.path().join(name);
        std::fs::write(&path, crypto::hex::encode(&[seed; 32])).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    // A gateway's own records are about nobody here; of one that cannot be read, everybody is told.
    let more = "[[label]]\nowner = \"ada\"\nkey_file = \"ada.key\"\nmachines = [\"m1\"]\n";
    let server = server::start(crate::harness::config_with(dir.path(), more)).await;
    let server = Some(server.unwrap());
    let fixture = Fixture { dir, server };
    fixture.apply(&estate()).await.unwrap();
    let (_gateway, own) = with_anchor(&fixture, true).await;
    let one = listed(&fixture).await["ledgers"][0].clone();
    let states = tempfile::tempdir().unwrap();
    let owner = async |name: &str| {
        let rest = format!(
            "[labels]\nname = \"{name}\"\nkey_file = \"{}/{name}.key\"\n",
            fixture.dir.path().display()
        );
        let state = states.path().join(name);
        look(&fixture, &state, &one, "entries = \"closed\"", &rest).await
    };
    let (seen, told) = owner("ada").await;
    assert_eq!((seen, told.len()), (Ok(own.reader().size()), 0));
    assert_eq!(owner("bob").await.0, Err("MONITOR-LABEL".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateways_ledger_keeps_its_address_when_it_goes_on_as_a_new_log() {
    let mut scene = Scene::prepared(|_| ()).await;
    let shown = async |scene: &Scene| listed(&scene.fixture).await["ledgers"][0].clone();
    until("the gateway's ledger is shown", async || {
        shown(&scene).await["name"].is_string()
    })
    .await;
    let first = shown(&scene).await;
    let states = tempfile::tempdir().unwrap();
    let state = states.path().join("state");
    let (seen, _) = look(&scene.fixture, &state, &first, "", "").await;
    let before = seen.unwrap();

    scene.close_gateway().await;
    gateway::new_log(&scene.gateway.data_dir, "each year", "uid:0").unwrap();
    scene.open_gateway().await;
    let origin = format!("{DOMAIN}/gateway/pg@2");
    until("the new log is shown", async || {
        shown(&scene).await["origin"] == origin.as_str()
    })
    .await;
    let second = shown(&scene).await;
    assert_eq!(second["name"], first["name"]);
    assert_ne!(second["key"], first["key"]);
    // Whoever knows the first key alone is not led on; with the entry of the list as its lineage, he is.
    let (seen, _) = look(&scene.fixture, &state, &first, "", "").await;
    assert_eq!(seen, Err("MONITOR-CHECKPOINT".to_owned()));
    let file = states.path().join("lineage.json");
    std::fs::write(&file, second.to_string()).unwrap();
    let lineage = format!("lineage = \"{}\"", file.display());
    let (seen, told) = look(&scene.fixture, &state, &second, &lineage, "").await;
    assert!(seen.unwrap() > before);
    assert_eq!(told, Vec::<String>::new());
}
