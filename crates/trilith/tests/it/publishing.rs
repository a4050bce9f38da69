//! `[publish]` as its users run it: the server puts its ledger into the bucket of a real store (versitygw), other
//! people's tools read it there, and what somebody does to the bucket is seen by a check that has a name.

use crate::quorum::{Process, Site, free, peer, said};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use testkit::s3::{ID, S3, SECRET};

const BUCKET: &str = "ledgers";
const PREFIX: &str = "example.org/server";

/// A store that everybody may read, and a site whose server publishes to it.
struct World {
    store: S3,
    site: Site,
}

impl World {
    fn new() -> Result<Self, String> {
        let store = S3::start()?;
        store.bucket(BUCKET, true)?;
        let site = Site {
            folder: testkit::temp_dir().expect("a folder"),
            http: free(),
        };
        Ok(Self { store, site })
    }

    fn publish(&self, site: &Site) -> String {
        let credentials = site.path("publish.credentials");
        let text = format!("aws_access_key_id = {ID}\naws_secret_access_key = {SECRET}\n");
        std::fs::write(&credentials, text).expect("written");
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&credentials, mode).expect("its mode");
        format!(
            "[publish]\nendpoint = \"{}\"\nbucket = \"{BUCKET}\"\nprefix = \"{PREFIX}\"\n\
             credentials = \"publish.credentials\"\ninterval_ms = 100\n",
            self.store.endpoint()
        )
    }

    /// A server that publishes and has published all.
    fn server(&self) -> Process {
        let server = self.site.server(&self.publish(&self.site));
        self.site.until("the ledger is published", || {
            self.site.status()["publish"]["behind"] == 0
        });
        server
    }

    /// Where anybody reads it.
    fn url(&self) -> String {
        format!("{}/{BUCKET}/{PREFIX}", self.store.endpoint())
    }

    fn root(&self) -> PathBuf {
        self.store.folder(BUCKET).join(PREFIX)
    }

    fn size(&self) -> u64 {
        let note = std::fs::read_to_string(self.root().join("checkpoint")).expect("a checkpoint");
        let size = note.lines().nth(1).and_then(|size| size.parse().ok());
        size.expect("its size")
    }

    /// One look at the bucket, and what came of it.
    fn monitor(&self, key: &str, state: &Path, entries: &str) -> (Option<i32>, String) {
        let watch = match entries {
            "closed" => "",
            _ => "[[watch]]\nname = \"web\"\nmachines = [\"web-*\"]\n",
        };
        let text = format!(
            "[monitor]\nstate_dir = \"{}\"\n[log]\nkey = \"{key}\"\nurls = [\"{}\"]\nentries = \"{entries}\"\n{watch}",
            state.display(),
            self.url()
        );
        self.site.put("monitor.toml", &text);
        let output = self
            .site
            .run(&["monitor", "--once", "--config", "monitor.toml"]);
        (output.status.code(), said(&output))
    }
}

fn metrics(site: &Site) -> String {
    let mut stream = TcpStream::connect(site.http).expect("connected");
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

fn flip(bytes: &[u8]) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    changed
}

#[test]
fn a_server_publishes_its_ledger_and_what_is_done_to_the_bucket_is_seen() {
    let world = match World::new() {
        Ok(world) => world,
        Err(why) => return testkit::skip("trilith::versitygw", &why),
    };
    let reader = match testkit::go_peer("tlog") {
        Ok(program) => program,
        Err(why) => return testkit::skip("trilith::go_log", &why),
    };
    let site = &world.site;
    let server = world.server();
    let status = site.status();
    let key = status["ledger"]["key"].as_str().expect("a key").to_owned();
    assert_eq!(status["publish"]["size"], status["ledger"]["size"]);
    assert_eq!(status["publish"]["trouble"], serde_json::Value::Null);
    let place = status["publish"]["place"].as_str().expect("a place");
    assert_eq!(place.trim_end_matches('/'), world.url());
    let older = world.size();
    let old_checkpoint = std::fs::read(world.root().join("checkpoint")).expect("it is there");

    // Killed, at some moment of it too, and started again: the bucket is whole at every moment, and it goes on.
    drop(server);
    for pause in [0, 40, 110, 150] {
        let killed = site.server(&world.publish(site));
        std::thread::sleep(Duration::from_millis(pause));
        drop(killed);
        let output = peer(&reader, &["fsck", &format!("{}/", world.url()), &key]);
        assert!(output.status.success(), "{pause}: {}", said(&output));
    }
    let server = world.server();
    let size = world.size();
    assert!(size > older, "a start is a record");
    let counted = metrics(site);
    for line in [
        format!("trilith_server_published_size {size}\n"),
        "trilith_server_published_objects_total{outcome=\"stored\"} ".to_owned(),
    ] {
        assert!(counted.contains(&line), "{line}\n{counted}");
    }
    drop(server);

    // By clients that are not ours, from the bucket alone.
    let fsck = || peer(&reader, &["fsck", &format!("{}/", world.url()), &key]);
    let output = fsck();
    let whole = format!("whole: {size} entries\n");
    assert!(said(&output).starts_with(&whole), "{}", said(&output));
    // And by ours: an answer of the folder's index is derived again from what stands in the bucket.
    let search = |url: &str| {
        let folder = ["ledger", "search", "--folder", "data", "--ledger", "server"];
        let asked = ["--type", "start", "--verify", "--from-url", url];
        site.run(&[folder.as_slice(), &asked].concat())
    };
    let output = search(&world.url());
    assert!(output.status.success(), "{}", said(&output));
    assert!(!search(&format!("{}/nobody", world.url())).status.success());
    let states = testkit::temp_dir().expect("a folder");
    let seen = states.path().join("seen");
    assert_eq!(world.monitor(&key, &seen, "records").0, Some(0));
    let fresh = |name: &str| states.path().join(name.replace('/', "-"));

    // What stands there, one object after the other: changed, removed, older, and another in its place.
    let tile = format!("tile/0/000.p/{size}");
    let entries = format!("tile/entries/000.p/{size}");
    let read = |name: &str| std::fs::read(world.root().join(name)).expect("it is there");
    let older_tile = read(&format!("tile/0/000.p/{older}"));
    let older_entries = read(&format!("tile/entries/000.p/{older}"));
    let (tile_bytes, entry_bytes) = (read(&tile), read(&entries));
    let note = read("checkpoint");
    type Case<'a> = (&'a str, &'a str, Option<Vec<u8>>, &'a str, &'a str);
    let cases: [Case<'_>; 12] = [
        (
            "changed",
            "checkpoint",
            Some(flip(&note)),
            "records",
            "MONITOR-CHECKPOINT",
        ),
        (
            "removed",
            "checkpoint",
            None,
            "records",
            "MONITOR-UNREACHABLE",
        ),
        (
            "older",
            "checkpoint",
            Some(old_checkpoint),
            "seen",
            "MONITOR-REGRESSED",
        ),
        (
            "swapped",
            "checkpoint",
            Some(tile_bytes.clone()),
            "records",
            "MONITOR-CHECKPOINT",
        ),
        (
            "changed",
            &tile,
            Some(flip(&tile_bytes)),
            "closed",
            "MONITOR-TILES",
        ),
        ("removed", &tile, None, "closed", "MONITOR-TILE-MISSING"),
        ("older", &tile, Some(older_tile), "closed", "MONITOR-WIDTH"),
        (
            "swapped",
            &tile,
            Some(vec![7; tile_bytes.len()]),
            "closed",
            "MONITOR-TILES",
        ),
        (
            "changed",
            &entries,
            Some(flip(&entry_bytes)),
            "records",
            "MONITOR-RECORDS",
        ),
        ("removed", &entries, None, "records", "MONITOR-TILE-MISSING"),
        (
            "older",
            &entries,
            Some(older_entries),
            "records",
            "MONITOR-WIDTH",
        ),
        (
            "swapped",
            &entries,
            Some(tile_bytes.clone()),
            "records",
            "MONITOR-WIDTH",
        ),
    ];
    for (deed, name, bytes, how, code) in cases {
        let path = world.root().join(name);
        let before = read(name);
        match &bytes {
            Some(bytes) => std::fs::write(&path, bytes).expect("written"),
            None => std::fs::remove_file(&path).expect("removed"),
        }
        let (state, entries) = match how {
            "seen" => (seen.clone(), "records"),
            how => (fresh(&format!("{deed}-{name}")), how),
        };
        let (exit, told) = world.monitor(&key, &state, entries);
        assert!(told.contains(code), "{deed} {name}: {code}\n{told}");
        let expected = if code == "MONITOR-UNREACHABLE" { 1 } else { 3 };
        assert_eq!(exit, Some(expected), "{deed} {name}\n{told}");
        // An old checkpoint is whole by itself: who has seen no other is fooled, unless a witness tells him.
        let output = fsck();
        assert_eq!(
            output.status.success(),
            deed == "older" && name == "checkpoint",
            "{deed} {name}\n{}",
            said(&output)
        );
        std::fs::write(&path, before).expect("put back");
    }
    assert!(fsck().status.success());
}

#[test]
fn a_copy_of_a_server_publishes_nothing_over_the_first() {
    let world = match World::new() {
        Ok(world) => world,
        Err(why) => return testkit::skip("trilith::versitygw", &why),
    };
    drop(world.server());
    let copy = Site {
        folder: testkit::temp_dir().expect("a folder"),
        http: free(),
    };
    for part in ["data", "keys"] {
        let copied = Command::new("cp")
            .arg("-a")
            .arg(world.site.path(part))
            .arg(copy.path(part))
            .status();
        assert!(copied.expect("it runs").success());
    }
    let _first = world.server();
    let before = std::fs::read(world.root().join("checkpoint")).expect("it is there");
    let _second = copy.server(&world.publish(&copy));
    copy.until("the second is refused", || {
        copy.status()["publish"]["trouble"]["code"] == "PUBLISH-FORKED"
    });
    let trouble = copy.status()["publish"]["trouble"].clone();
    assert!(
        trouble["next"]
            .as_str()
            .is_some_and(|next| next.contains("prefix"))
    );
    let after = std::fs::read(world.root().join("checkpoint")).expect("it is there");
    assert_eq!(before, after);
    assert!(
        metrics(&copy).contains("trilith_server_publish_failures_total{code=\"PUBLISH-FORKED\"} ")
    );
}

#[test]
fn a_server_does_not_start_with_a_place_or_credentials_that_cannot_be_used() {
    let site = Site {
        folder: testkit::temp_dir().expect("a folder"),
        http: free(),
    };
    // What it begins with, once.
    drop(site.server(""));
    let config = std::fs::read_to_string(site.path("server.toml")).expect("it is there");
    for (publish, code) in [
        (
            "endpoint = \"http://s3.example.org\"\nbucket = \"ledgers\"",
            "PUBLISH-PLACE",
        ),
        (
            "endpoint = \"https://s3.example.org\"\nbucket = \"ledgers\"\ncredentials = \"nowhere\"",
            "PUBLISH-CREDENTIALS",
        ),
        (
            "endpoint = \"https://s3.example.org\"\nbucket = \"ledgers\"",
            "PUBLISH-CREDENTIALS",
        ),
        (
            "endpoint = \"https://s3.example.org\"\nbucket = \"ledgers\"\ninterval_ms = 1",
            "SERVER-CONFIG",
        ),
    ] {
        site.put("server.toml", &format!("{config}[publish]\n{publish}\n"));
        let output = site.run(&["server", "--config", "server.toml"]);
        let told = said(&output);
        assert_eq!(output.status.code(), Some(1), "{publish}\n{told}");
        assert!(told.contains(code), "{publish}\n{told}");
    }
}
