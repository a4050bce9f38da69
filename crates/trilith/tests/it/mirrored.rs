//! A mirror beside `trilith witness`, as its users run it: a server sends it its own ledger, `trilith ledger mirror`
//! brings it a log that nobody here wrote (Tessera, by tests/peers/tlog), and what it serves is read by Tessera's
//! `fsck` and by `trilith ledger search --verify --from-url`.

use crate::cosigning::Log;
use crate::old_ledger::fill;
use crate::quorum::{Process, Site, free, peer, said};
use gateway::retention::Anchored;
use ledger_store::Folder;
use std::net::SocketAddr;
use std::path::Path;

const TESSERA: &str = "tessera.example/log";

fn hash(origin: &str) -> String {
    crypto::hex::encode(&crypto::sha256(origin.as_bytes()))
}

/// A witness of that log with a mirror beside it, and the lines of its two files of keys.
fn mirror(site: &Site, address: SocketAddr, key: &str) -> (Process, Vec<String>, Vec<String>) {
    site.put(
        "witness.toml",
        &format!(
            "[witness]\nname = \"witness.example/1\"\ndata_dir = \"{}\"\nlisten = \"{address}\"\n\
             [mirror]\nname = \"mirror.example/1\"\nmin_free_mib = 1\n[[log]]\nkey = \"{key}\"\n",
            site.path("witness").display(),
        ),
    );
    let process = site.start("witness");
    let keys = ["verifier-keys", "mirror-verifier-keys"].map(|name| {
        let path = site.path("witness").join(name);
        site.until("it has its keys", || path.exists());
        let lines = std::fs::read_to_string(path).expect("its keys");
        lines.lines().map(str::to_owned).collect::<Vec<String>>()
    });
    let [witness, mirror] = keys;
    (process, witness, mirror)
}

/// One identity, and whoever runs the tests administers it.
fn estate(site: &Site) {
    let policy = format!(
        "@id(\"administrators\")\npermit (principal == Admin::\"uid:{}\", action, resource);\n",
        rustix::process::getuid().as_raw()
    );
    let identity = "[[identity]]\npath = \"payments/api\"\nkind = \"service\"\nowner = \"us\"\n";
    for folder in ["estate/identities", "estate/policies"] {
        std::fs::create_dir_all(site.path(folder)).expect("made");
    }
    site.put("estate/estate.toml", "trust_domain = \"example.org\"\n");
    site.put("estate/identities/all.toml", identity);
    site.put("estate/policies/all.cedar", &policy);
}

/// What Tessera's `fsck` says of a mirror's copy.
fn fsck(program: &Path, address: SocketAddr, origin: &str, key: &str) -> (bool, String) {
    let url = format!("http://{address}/mirror/{}/", hash(origin));
    let output = peer(program, &["fsck", &url, key]);
    (output.status.success(), said(&output))
}

#[test]
fn a_server_sends_its_ledger_to_a_mirror_that_is_killed_on_the_way() {
    let site = Site {
        folder: testkit::temp_dir().expect("a folder"),
        http: free(),
    };
    let server = site.server("");
    let status = site.status();
    let key = status["ledger"]["key"].as_str().expect("a key").to_owned();
    drop(server);
    let address = free();
    let (witness, witnesses, mirrors) = mirror(&site, address, &key);
    let (ours, copy) = (&witnesses[0], &mirrors[0]);
    site.put(
        "witnesses.policy",
        &format!(
            "witness ours {ours} http://{address}\nwitness copy {copy} http://{address}\n\
             group both all ours copy\nquorum both\n"
        ),
    );
    let settings = "[witnesses]\npolicy = \"witnesses.policy\"\ncadence_ms = 200\n\
                    mirrors = [\"mirror.example/1\"]\n";
    let _server = site.server(settings);
    let witnessed = || site.status()["witnesses"]["witnessed"]["behind"] == 0;
    site.until("the mirror has signed", witnessed);

    // More than a bundle, and the mirror dies in between.
    estate(&site);
    let act = |what: &[&str]| {
        let output = site.run(what);
        assert!(output.status.success(), "{what:?}: {}", said(&output));
    };
    act(&["estate", "apply", "estate", "--message", "the shop"]);
    let revoke = |_: u32| {
        act(&["revoke", "identity", "payments/api", "--reason", "a test"]);
        act(&["restore", "payments/api", "--reason", "a test"]);
    };
    (0..50).for_each(revoke);
    drop(witness);
    (0..50).for_each(revoke);
    let (_witness, _, again) = mirror(&site, address, &key);
    assert_eq!(again, mirrors);
    site.until("the mirror has signed again", witnessed);
    let size = site.status()["ledger"]["size"].as_u64().expect("a size");
    assert!(size > 256, "{size}");

    // Whoever has the folder compares it with what the mirror serves.
    let origin = key.split('+').next().expect("a name");
    let url = format!("http://{address}/mirror/{}", hash(origin));
    let output = site.run(&[
        "ledger",
        "search",
        "--folder",
        "data",
        "--ledger",
        "server",
        "--type",
        "revocation",
        "--verify",
        "--from-url",
        &url,
    ]);
    let told = said(&output);
    assert!(
        output.status.success() && told.contains("verified: "),
        "{told}"
    );
    packed_of_tiles(&site, origin);

    let program = match testkit::go_peer("tlog") {
        Ok(program) => program,
        Err(why) => return testkit::skip("trilith::go_log", &why),
    };
    let (whole, told) = fsck(&program, address, origin, &key);
    assert!(whole, "{told}");
    let read = told
        .trim()
        .strip_prefix("whole: ")
        .and_then(|rest| rest.split(' ').next());
    let read: u64 = read.and_then(|read| read.parse().ok()).unwrap_or_default();
    assert!(read > 256, "{told}");
}

/// Packs are made of what the mirror keeps, by whoever has its folder; they answer as the server does.
fn packed_of_tiles(site: &Site, origin: &str) {
    let trust = site.run(&["trust"]);
    assert!(trust.status.success(), "{}", said(&trust));
    std::fs::write(site.path("trust.json"), &trust.stdout).expect("written");
    let asked = ["pack", "--lifetime", "payments/api", "--output"];
    let of_folder = |folder: &str, name: &str| {
        let of = [name, "--folder", folder, "--trust", "trust.json"];
        let output = site.run(&[&asked[..], &of].concat());
        assert_eq!(output.status.success(), site.path(name).exists());
        (output.status.success(), said(&output))
    };
    let answers = |name: &str| {
        let output = site.run(&["verify", name, "--trust", "trust.json", "--json"]);
        assert!(output.status.success(), "{}", said(&output));
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        told.get("answers")
            .expect("answers")
            .as_u64()
            .expect("a number")
    };
    let output = site.run(&[&asked[..], &["server.pack"]].concat());
    assert!(output.status.success(), "{}", said(&output));
    let folder = format!("witness/mirror/{}", hash(origin));
    let (made, told) = of_folder(&folder, "tiles.pack");
    assert!(made, "{told}");
    assert_eq!(answers("tiles.pack"), answers("server.pack"));
    assert!(answers("tiles.pack") > 0);

    // One byte of a bundle, and a bundle that is not there.
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .args([site.path(&folder), site.path("tiles")])
        .status();
    assert!(copied.expect("cp runs").success());
    let bundle = site.path("tiles/tile/entries/000");
    let held = std::fs::read(&bundle).expect("a bundle");
    let mut changed = held.clone();
    let middle = changed.len() / 2;
    *changed.get_mut(middle).expect("a byte") ^= 1;
    std::fs::write(&bundle, changed).expect("written");
    let (made, told) = of_folder("tiles", "a.pack");
    assert!(!made && told.contains("RECORDS-LEDGER"), "{told}");
    std::fs::write(&bundle, held).expect("written");
    assert!(of_folder("tiles", "b.pack").0);
    std::fs::remove_file(site.path("tiles/tile/entries/001")).expect("removed");
    let (made, told) = of_folder("tiles", "a.pack");
    assert!(!made && told.contains("RECORDS-LEDGER"), "{told}");
    std::fs::remove_file(site.path("tiles/state")).expect("removed");
    let (made, told) = of_folder("tiles", "a.pack");
    assert!(!made && told.contains("PACK-COPY-CHECKPOINT"), "{told}");
}

/// The mirror has heard of a head that is longer than the copy, and lacks what the ledger has pruned.
#[test]
fn a_mirror_that_lags_behind_a_pruned_ledger_is_filled_from_the_copy() {
    let site = Site {
        folder: testkit::temp_dir().expect("a folder"),
        http: free(),
    };
    let dir = site.path("gateway");
    std::fs::create_dir(&dir).expect("a folder");
    fill(&dir, "example.org/gateway/pg", 300);
    let folder = Folder::open(&dir.join("ledger")).expect("a ledger");
    let noted = dir.join("anchored.json");
    Anchored::note(folder.reader(), 1_100, 77, &noted).expect("noted");
    let key = folder.key().to_string();
    drop(folder);
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .args([&dir, &site.path("copy")])
        .status();
    assert!(copied.expect("cp runs").success());
    let pruned = site.run(&[
        "ledger", "prune", "--folder", "gateway", "--before", "5d", "--reason", "a test", "--yes",
    ]);
    assert!(pruned.status.success(), "{}", said(&pruned));

    let address = free();
    let (_witness, _, mirrors) = mirror(&site, address, &key);
    let to = format!("http://{address}");
    let push = |from: &[&str]| {
        let mut what = vec!["ledger", "mirror"];
        what.extend(["--key", &key, "--to", &to, "--mirror-key", &mirrors[0]]);
        what.extend(from);
        let output = site.run(&what);
        (output.status.success(), said(&output))
    };
    for (from, code) in [("gateway", "MONITOR-PRUNED"), ("copy", "MIRROR-PUSH")] {
        let (done, told) = push(&["--from", from]);
        assert!(!done && told.contains(code), "{from}: {told}");
        assert!(told.contains("--copy"), "{from}: {told}");
    }
    // A line of the mirror's stands for all of it.
    let (done, told) = push(&["--from", "gateway", "--copy", "copy"]);
    assert!(
        done && told.contains("\u{2014} mirror.example/1 "),
        "{told}"
    );
    let size = |name: &str| {
        let folder = Folder::open(&site.path(name).join("ledger")).expect("a ledger");
        folder.reader().size()
    };
    assert!(size("gateway") > size("copy"));
    let all = format!("the first {} entries", size("gateway"));
    assert!(told.contains(&all), "{told}");
}

#[test]
fn a_log_of_other_people_is_mirrored_and_its_fork_is_not() {
    let program = match testkit::go_peer("tlog") {
        Ok(program) => program,
        Err(why) => return testkit::skip("trilith::go_log", &why),
    };
    let log = Log::new(program.clone());
    let site = Site {
        folder: testkit::temp_dir().expect("a folder"),
        http: free(),
    };
    let address = free();
    let (mut process, witnesses, mirrors) = mirror(&site, address, &log.key);
    let grown = |name: &str, entries: &str| {
        let output = log.grow(name, None, &witnesses[0], entries);
        assert!(output.status.success(), "{}", said(&output));
        log.folder.path().join(name).display().to_string()
    };
    let to = format!("http://{address}");
    let push = |from: &str, mirror: &str| {
        site.run(&[
            "ledger",
            "mirror",
            "--from",
            from,
            "--key",
            &log.key,
            "--to",
            &to,
            "--mirror-key",
            mirror,
        ])
    };
    for entries in ["5", "3"] {
        let from = grown("log", entries);
        let output = push(&from, &mirrors[0]);
        let told = said(&output);
        assert!(output.status.success(), "{told}");
        assert!(told.contains("\u{2014} mirror.example/1 "), "{told}");
        let (whole, told) = fsck(&program, address, TESSERA, &log.key);
        assert!(whole, "{told}");
        // Killed, it serves what it has signed for.
        process.0.kill().expect("killed");
        process.0.wait().expect("gone");
        process = site.start("witness");
        site.until("it serves again", || {
            fsck(&program, address, TESSERA, &log.key).0
        });
    }
    // By a line of the mirror, and not of the witness beside it.
    let from = log.folder.path().join("log").display().to_string();
    let output = push(&from, &witnesses[0]);
    assert!(!output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("MIRROR-PUSH"), "{}", said(&output));

    // The same key, another history.
    let from = grown("another", "12");
    let output = push(&from, &mirrors[0]);
    let told = said(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(
        told.contains("MIRROR-PUSH") && told.contains("422"),
        "{told}"
    );
    let (whole, told) = fsck(&program, address, TESSERA, &log.key);
    assert!(whole && told.starts_with("whole: 8 "), "{told}");
}
