//! What a new log is not begun by, and what a key that was replaced does not stop.

use super::{FIRST, SECOND, THIRD, code, why};
use crate::follower::Gateway;
use crate::harness::{Fixture, config, finding};
use crate::recovering::{Scene, payments, recover, until};
use crate::surviving::copy;
use crypto::Custody as _;
use ledger::body::Body as _;
use ledger::{Checkpoint, LedgerSigner, lineage};
use proto::v1::gateway_message::Message;
use proto::v1::node_message::Message as NodeSays;

#[tokio::test(flavor = "multi_thread")]
async fn one_key_signs_for_one_data_directory_at_a_time() {
    let mut scene = Scene::set().await;
    scene.followed().await;
    scene.fixture.stop().await;
    // The same keys and another data directory, as whoever tries a backup has them.
    let elsewhere = scene.fixture.dir.path().join("elsewhere");
    copy(&scene.data(), &elsewhere);
    let mut other = scene.config.clone();
    other.data_dir = elsewhere;
    scene.start().await;
    assert_eq!(code(server::new_log(&other, why(false))), "SERVER-RUNNING");
    let refused = server::start(other.clone()).await;
    assert_eq!(refused.err().unwrap().finding().code, "SERVER-RUNNING");
    scene.fixture.stop().await;
    let begun = scene.new_log(false).unwrap();
    assert_eq!(begun.was.origin().as_str(), FIRST);
}

#[tokio::test(flavor = "multi_thread")]
async fn run_again_at_once_it_says_that_it_is_done() {
    let mut scene = Scene::set().await;
    scene.followed().await;
    scene.back_up().await;
    payments(&scene.machine, "late").await;
    scene.followed().await;
    scene.fixture.stop().await;
    scene.put_back();
    let (kept, before) = (
        scene.keys().join("highest-head"),
        scene.keys().join("before"),
    );
    std::fs::copy(&kept, &before).unwrap();
    let begun = scene.new_log(true).unwrap();
    assert!(!begun.already && begun.given_up.is_some(), "{begun:?}");
    // Killed before it remembered that what was published last is of the new log.
    std::fs::copy(&before, &kept).unwrap();
    let again = scene.new_log(false).unwrap();
    assert!(again.already, "{again:?}");
    assert_eq!(
        (&again.key, again.size, again.index, again.given_up),
        (&begun.key, begun.size, begun.index, begun.given_up)
    );
    let remembered = std::fs::read(&kept).unwrap();
    assert_ne!(remembered, std::fs::read(&before).unwrap());
    // Once a server has started it is another one, and what a record has given up is not missing.
    scene.start().await;
    until("the gateway follows the second log", async || {
        scene.follows() == SECOND
    })
    .await;
    scene.fixture.stop().await;
    std::fs::copy(&before, &kept).unwrap();
    let third = scene.new_log(false).unwrap();
    assert_eq!((third.already, third.given_up), (false, None));
    assert_eq!(third.key.origin().as_str(), THIRD);
    scene.start().await;
    until("the gateway follows the third log", async || {
        scene.follows() == THIRD
    })
    .await;
    scene.followed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_replaced_key_signs_stops_no_server() {
    let mut fixture = Fixture::start().await;
    let gateway = Gateway::connect(&fixture, 2000).await.unwrap();
    fixture.stop().await;
    let dir = fixture.dir.path().to_owned();
    let begun = server::new_log(&config(&dir), why(false)).unwrap();
    let custody = custody::FileCustody::open(&dir.join("keys/ledger")).unwrap();
    let key = custody.load("ledger").unwrap().unwrap();
    let thief = LedgerSigner::new(FIRST, key).unwrap();
    fixture.go_on().await;
    for size in [1_000_000, begun.size, 1] {
        let mut gateway = gateway.reconnect(&fixture).await;
        let root = [7; 32];
        let origin = thief.key().origin().clone();
        let mut hello = gateway.greeting(size, root.to_vec());
        hello.followed_checkpoint = thief.sign(&Checkpoint { origin, size, root }).unwrap();
        gateway.send(Message::Hello(hello)).await;
        assert_eq!(gateway.refusal().await.code, "FOLLOW-HELLO-FORMER");
    }
    assert_eq!(fixture.status().await["signing"], "allowed");
    fixture.token("m1").await;
    fixture.stop().await;
    fixture.go_on().await;
    assert_eq!(fixture.status().await["signing"], "allowed");
}

/// Records that are told before they are remembered, at most.
const LITTLE: u64 = 4_096;

/// With the old key and one gateway's identity the thief asks for what was given up, again and again.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_replaced_key_signs_is_given_up_once_a_size_and_no_further_than_was_seen() {
    let mut fixture = Fixture::start().await;
    let gateway = Gateway::connect(&fixture, 2000).await.unwrap();
    fixture.stop().await;
    let dir = fixture.dir.path().to_owned();
    let (data, backup) = (dir.join("data"), dir.join("backup"));
    copy(&data, &backup);
    fixture.go_on().await;
    for machine in ["m1", "m2", "m3"] {
        fixture.token(machine).await;
    }
    fixture.stop().await;
    std::fs::remove_dir_all(&data).unwrap();
    copy(&backup, &data);
    let begun = server::new_log(&config(&dir), why(true)).unwrap();
    let longest = begun.given_up.unwrap();
    assert!(longest > begun.size + 2, "{begun:?}");
    let custody = custody::FileCustody::open(&dir.join("keys/ledger")).unwrap();
    let thief = LedgerSigner::new(FIRST, custody.load("ledger").unwrap().unwrap()).unwrap();
    fixture.go_on().await;
    let before = fixture.records(&["recovery"]).await.len();
    for (size, root, recovered) in [
        (longest - 1, [7; 32], true),
        (longest - 1, [7; 32], true),
        (longest - 1, [8; 32], false),
        (longest, [7; 32], false),
        // What was told is remembered a second later: an honest gateway may have followed it.
        (longest + 1, [7; 32], true),
        (longest + 1, [8; 32], false),
        (longest + LITTLE, [7; 32], true),
        // No further by what was granted.
        (longest + 1 + LITTLE, [7; 32], false),
        (1_000_000, [7; 32], false),
    ] {
        let mut gateway = gateway.reconnect(&fixture).await;
        let origin = thief.key().origin().clone();
        let mut hello = gateway.greeting(size, root.to_vec());
        hello.followed_checkpoint = thief.sign(&Checkpoint { origin, size, root }).unwrap();
        gateway.send(Message::Hello(hello)).await;
        let refused = loop {
            match gateway.next().await {
                Err(refused) => break Some(finding(&refused).code),
                Ok(proto::v1::delta::Delta::Recovered(_)) => break None,
                Ok(_) => {}
            }
        };
        let expected = (!recovered).then_some("FOLLOW-HELLO-FORMER");
        assert_eq!(refused.as_deref(), expected, "{size}");
    }
    assert_eq!(fixture.records(&["recovery"]).await.len(), before + 3);
    assert_eq!(fixture.status().await["signing"], "allowed");
}

/// The link is signed, and what is in the data directory is not what it names.
#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_is_not_what_its_link_names_is_not_gone_on_with() {
    let mut fixture = Fixture::start().await;
    fixture.stop().await;
    let dir = fixture.dir.path().to_owned();
    let (data, keys) = (dir.join("data"), dir.join("keys/ledger"));
    copy(&data, &dir.join("backup"));
    fixture.go_on().await;
    fixture.token("m1").await;
    fixture.stop().await;
    let begun = server::new_log(&config(&dir), why(false)).unwrap();
    let started = async || {
        let refused = server::start(config(&dir)).await.err();
        refused.unwrap().finding().code.to_string()
    };
    // An older copy, and nothing remembers that there was more.
    std::fs::remove_dir_all(&data).unwrap();
    copy(&dir.join("backup"), &data);
    std::fs::remove_file(keys.join("highest-head")).unwrap();
    assert_eq!(started().await, "SERVER-LINEAGE");
    // Whoever has the newest key has gone on with it: other records than both keys have signed for.
    let links = std::fs::read_to_string(keys.join("lineage")).unwrap();
    let links = lineage::from_json(&links).unwrap();
    let followed = lineage::follow(&begun.was, &links).unwrap();
    let custody = custody::FileCustody::open(&keys).unwrap();
    let key = custody.load("ledger-2").unwrap().unwrap();
    let signer = LedgerSigner::new(SECOND, key).unwrap();
    let signer = signer.with_lineage(followed).unwrap();
    let options = ledger_store::Options::default();
    let ledger = ledger_store::Ledger::open_signed(&data.join("ledger"), signer, &options).unwrap();
    let stop = ledger::body::Stop {
        reason: "rewritten".to_owned(),
    };
    let stop = || stop.record().actor("server", "self").draft().unwrap();
    let drafts = (0..=begun.size).map(|_| stop()).collect();
    ledger.append_many(drafts).wait().unwrap();
    ledger.close().unwrap();
    assert_eq!(started().await, "SERVER-LINEAGE");
    assert_eq!(
        code(server::new_log(&config(&dir), why(true))),
        "SERVER-LINEAGE",
        "nor is a third log begun from it"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_data_of_before_a_new_log_sign_nothing_once_anybody_says_so() {
    let mut scene = Scene::set().await;
    scene.followed().await;
    scene.fixture.stop().await;
    let dir = scene.fixture.dir.path().to_owned();
    copy(&scene.data(), &dir.join("backup"));
    copy(&scene.keys(), &dir.join("saved"));
    scene.new_log(false).unwrap();
    scene.start().await;
    until("the gateway follows the new log", async || {
        scene.follows() == SECOND
    })
    .await;
    scene.followed().await;
    scene.fixture.stop().await;
    copy(&scene.data(), &dir.join("newest-data"));
    copy(&scene.keys(), &dir.join("newest-keys"));

    // All that the server had is as before: only those who know the link can tell.
    scene.put_back();
    std::fs::remove_dir_all(scene.keys()).unwrap();
    copy(&dir.join("saved"), &scene.keys());
    scene.start().await;
    until("the server signs nothing", async || {
        let status = scene.fixture.status().await;
        status["signing"] != "allowed"
    })
    .await;
    let shown = scene.fixture.status().await["signing"].to_string();
    assert!(shown.contains("SERVER-LINEAGE-ELSEWHERE"), "{shown}");
    let refused = finding(&recover(&scene.fixture).await.unwrap_err());
    assert_eq!(refused.code, "SERVER-LINEAGE-ELSEWHERE");
    // Also at the next start, before anybody has said so again.
    scene.close_gateway().await;
    scene.fixture.stop().await;
    assert_eq!(code(scene.new_log(true)), "SERVER-LINEAGE-ELSEWHERE");
    scene.start().await;
    assert_ne!(scene.fixture.status().await["signing"], "allowed");
    scene.fixture.stop().await;

    // The newest copies, as they say that it takes.
    for (newest, here) in [("newest-data", scene.data()), ("newest-keys", scene.keys())] {
        std::fs::remove_dir_all(&here).unwrap();
        copy(&dir.join(newest), &here);
    }
    scene.start().await;
    assert_eq!(scene.fixture.status().await["signing"], "allowed");
    scene.open_gateway().await;
    scene.followed().await;

    // Or the newest keys, and data of before: the second log was begun, and its key signs no second history of it.
    scene.fixture.stop().await;
    scene.put_back();
    let third = scene.new_log(true).unwrap();
    assert_eq!(third.key.origin().as_str(), THIRD);
    scene.start().await;
    until("the gateway follows the third log", async || {
        scene.follows() == THIRD
    })
    .await;
    scene.followed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_knows_a_later_log_stops_a_server_of_before_it() {
    let mut fixture = Fixture::start().await;
    let machine = fixture.join("m1").await;
    fixture.stop().await;
    let dir = fixture.dir.path().to_owned();
    let keys = dir.join("keys/ledger");
    let folders = [
        ("saved-data", dir.join("data")),
        ("saved-keys", keys.clone()),
    ];
    for (saved, folder) in &folders {
        copy(folder, &dir.join(saved));
    }
    server::new_log(&config(&dir), why(false)).unwrap();
    let links = std::fs::read_to_string(keys.join("lineage")).unwrap();
    for (saved, folder) in &folders {
        std::fs::remove_dir_all(folder).unwrap();
        copy(&dir.join(saved), folder);
    }
    fixture.go_on().await;
    let machine = crate::harness::Machine {
        address: fixture.address(),
        ..machine
    };
    // What nobody has signed stops nobody; what this server's own key has signed does.
    let hello = |lineage: &str| proto::v1::NodeHello {
        version: "1".to_owned(),
        lineage: lineage.to_owned(),
        ..proto::v1::NodeHello::default()
    };
    let forged = links.replacen("server@2", "server@3", 1);
    for (lineage, signs) in [
        ("[]", true),
        (forged.as_str(), true),
        (links.as_str(), false),
    ] {
        // Nor does it take a disk that remembers: nothing can be put in the place of this.
        std::fs::create_dir_all(keys.join("lineage-elsewhere.new")).unwrap();
        // Once a stream.
        let sync = machine.sync().await.unwrap();
        sync.send(NodeSays::Hello(hello(lineage))).await;
        // Time to act upon it, where nothing is to come of it.
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        until("what it says is acted upon", async || {
            (fixture.status().await["signing"] == "allowed") == signs
        })
        .await;
    }
    assert!(!keys.join("lineage-elsewhere").exists());
    let refused = finding(&recover(&fixture).await.unwrap_err());
    assert_eq!(refused.code, "SERVER-LINEAGE-ELSEWHERE");
}
