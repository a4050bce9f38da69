//! A gateway's ledger goes on as a new log: its mirror with it, and whoever has the key that was replaced gets nowhere.

use super::{anchored, fill, mirrored, open, told, verified, with_anchor};
use crate::follower::Gateway;
use crate::harness::{DOMAIN, Fixture};
use crate::recovering::{Scene, until};
use crate::surviving::copy;
use crypto::{Algorithm, KeyPair};
use ledger::body::{Body as _, Gap, KeyRotation};
use ledger::lineage::{self, Link};
use ledger::{LedgerKey, LedgerSigner};
use ledger_store::{Ledger, Options};
use proto::v1::gateway_message::Message;
use proto::v1::{GatewayHead, GatewayHello, SegmentData, delta};
use std::path::PathBuf;
use std::sync::Arc;

fn origin(number: u64) -> String {
    match number {
        1 => format!("{DOMAIN}/gateway/pg"),
        number => format!("{DOMAIN}/gateway/pg@{number}"),
    }
}

async fn status(fixture: &Fixture) -> (String, u64) {
    let shown = fixture.status().await["gateways"][0].clone();
    let size = shown["size"].as_u64().unwrap_or_default();
    (
        shown["origin"].as_str().unwrap_or_default().to_owned(),
        size,
    )
}

/// What the server's ledger tells of gateways' keys.
async fn rotations(fixture: &Fixture) -> Vec<(u64, serde_json::Value)> {
    let mut told = fixture.records(&["key-rotation"]).await;
    told.retain(|(_, record)| record["body"]["what"] == "gateway-ledger");
    told
}

/// All that the gateway has recorded is anchored, as of the log of that number.
async fn anchored_as(scene: &Scene, number: u64) -> u64 {
    until("all of it is anchored", async || {
        let whole = scene.core().reader().size();
        status(&scene.fixture).await == (origin(number), whole)
    })
    .await;
    status(&scene.fixture).await.1
}

fn new_log(scene: &Scene) -> Result<gateway::NewLog, facts::Finding> {
    gateway::new_log(&scene.gateway.data_dir, "each year", "uid:0")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_goes_on_under_another_key_and_its_mirror_and_packs_with_it() {
    let mut scene = Scene::prepared(|_| ()).await;
    anchored_as(&scene, 1).await;
    assert_eq!(new_log(&scene).unwrap_err().code, "GATEWAY-NEW-LOG-RUNNING");
    let mut ends = Vec::new();
    for number in 2..=3 {
        scene.close_gateway().await;
        let begun = new_log(&scene).unwrap();
        assert_eq!(begun.key.origin().as_str(), origin(number));
        assert!(!begun.already);
        let again = new_log(&scene).unwrap();
        assert!(again.already && again.key == begun.key && again.size == begun.size);
        ends.push(begun.size);
        if number == 3 {
            // The old keys may be destroyed.
            for old in ["keys/ledger.pk8", "keys/ledger-2.pk8"] {
                std::fs::remove_file(scene.gateway.data_dir.join(old)).unwrap();
            }
        }
        scene.open_gateway().await;
        anchored_as(&scene, number).await;
    }
    let told = rotations(&scene.fixture).await;
    let [(first, one), (_, other)] = told.as_slice() else {
        panic!("{told:?}");
    };
    for (record, end) in [(one, ends[0]), (other, ends[1])] {
        assert_eq!(record["body"]["what"], "gateway-ledger");
        let statement = record["body"]["statement"].as_str().unwrap();
        assert!(statement.contains(&format!("\n{end}\n")), "{statement}");
    }
    let anchor = scene.fixture.records(&["anchor"]).await;
    let of_second = anchor
        .iter()
        .find(|(_, anchor)| anchor["body"]["origin"] == origin(2));
    assert_eq!(
        of_second.unwrap().0,
        first + 1,
        "in one commit with the link"
    );

    // The server starts again, and has lost the mirror.
    let whole = scene.core().reader().size();
    assert_eq!(mirrored(&scene.fixture).await, whole);
    let folders = std::fs::read_dir(scene.data().join("mirrors")).unwrap();
    assert_eq!(folders.count(), 1);
    for lost in [false, true] {
        scene.fixture.stop().await;
        // The row of the log that went on is gone, in the database as in memory.
        let kept = server::state_digest(&scene.config).unwrap();
        assert_eq!(server::rebuild_state(&scene.config).unwrap(), kept);
        if lost {
            std::fs::remove_dir_all(scene.data().join("mirrors")).unwrap();
        }
        scene.start().await;
        until("all of it is here", async || {
            mirrored(&scene.fixture).await >= whole
        })
        .await;
    }

    // Records of all three logs, by whichever name.
    for (index, ledger) in [
        (0, "pg".to_owned()),
        (ends[0], origin(1)),
        (ends[1], "pg@2".to_owned()),
        (ends[1] + 1, origin(3)),
    ] {
        let question = format!("{{\"kind\":\"record\",\"ledger\":\"{ledger}\",\"index\":{index}}}");
        let report = verified(&scene.fixture, question).await;
        assert!(report.is_complete(), "{:?}", report.doubts);
        assert_eq!(report.checkpoints[1].origin.as_str(), origin(3));
        let held: Vec<_> = report
            .records
            .iter()
            .filter(|item| item.checkpoint == 1)
            .collect();
        assert!(held.iter().any(|item| item.index == index));
    }
    // One that takes every ledger's entries holds one of it, up to its newest anchor.
    let question = "{\"kind\":\"period\",\"from\":0,\"to\":9999999999999}".to_owned();
    let report = verified(&scene.fixture, question).await;
    assert_eq!(report.checkpoints.len(), 2);
    let early = report.doubts.iter().filter(|doubt| {
        matches!(
            doubt,
            ledger::pack::Doubt::Early { .. } | ledger::pack::Doubt::NoEntries { .. }
        )
    });
    assert_eq!(early.count(), 0, "{:?}", report.doubts);
}

/// What the command does is done in steps, each durable before the next. Where it was cut short is where it goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_log_that_was_cut_short_is_not_started_on_and_goes_on() {
    let mut scene = Scene::prepared(|_| ()).await;
    let size = anchored_as(&scene, 1).await;
    scene.close_gateway().await;
    let data = scene.gateway.data_dir.clone();
    let aside = |name: &str| -> PathBuf { scene.fixture.dir.path().join(name) };
    let (before, after) = (aside("before"), aside("after"));
    copy(&data, &before);
    // As far as the command comes before the first record.
    let link = {
        let custody = custody::FileCustody::open(&data.join("keys")).unwrap();
        let of = |name: &str, number| {
            let key = crypto::Custody::load_or_generate(&custody, name, Algorithm::Ed25519);
            LedgerSigner::new(&origin(number), key.unwrap()).unwrap()
        };
        let folder = ledger_store::Folder::open(&data.join("ledger")).unwrap();
        let head = folder.reader().head().checkpoint.clone();
        assert_eq!(head.size, size + 1, "with the stop");
        let (first, second) = (of("ledger", 1), of("ledger-2", 2));
        let link = Link::sign(&first, &second, (head.size, head.root), "each year").unwrap();
        let lineage = lineage::to_json(std::slice::from_ref(&link));
        for file in ["keys/lineage", "ledger/lineage"] {
            std::fs::write(data.join(file), &lineage).unwrap();
        }
        Link::open(&link).unwrap()
    };
    copy(&data, &after);
    let set = |files: &[&str]| {
        std::fs::remove_dir_all(&data).unwrap();
        copy(&before, &data);
        for file in files {
            std::fs::copy(after.join(file), data.join(file)).unwrap();
        }
    };
    // The key alone: nothing was signed with it, and it is not used.
    set(&["keys/ledger-2.pk8"]);
    let begun = gateway::new_log(&data, "each year", "uid:0").unwrap();
    assert_eq!(begun.key.origin().as_str(), origin(3));
    assert_eq!(begun.size, size + 3, "a run settles what was open");
    // The link, and no record; with and without what readers are told.
    for more in [&[][..], &["ledger/lineage"]] {
        let files = ["keys/ledger-2.pk8", "keys/lineage"];
        set(&[&files[..], more].concat());
        let refused = gateway::Core::open(scene.gateway.clone())
            .await
            .err()
            .unwrap();
        assert!(
            refused.to_string().contains("GATEWAY-NEW-LOG-UNFINISHED"),
            "{refused}"
        );
        let begun = gateway::new_log(&data, "another reason", "uid:0").unwrap();
        assert!(!begun.already && begun.key == link.to && begun.size == link.size);
        assert!(gateway::new_log(&data, "", "uid:0").unwrap().already);
    }
    // Keys that are newer than the ledger begin nothing.
    set(&[]);
    let custody = custody::FileCustody::open(&data.join("keys")).unwrap();
    let signer = crypto::Custody::load(&custody, "ledger").unwrap().unwrap();
    let shorter = data.join("shorter");
    let gap = Gap {
        cause: "crash".to_owned(),
        from: 0,
        to: 0,
        lost: None,
        detail: String::new(),
    };
    let other = open(&shorter, signer);
    other.append(gap.record().draft().unwrap()).wait().unwrap();
    other.close().unwrap();
    std::fs::remove_dir_all(data.join("ledger")).unwrap();
    std::fs::rename(&shorter, data.join("ledger")).unwrap();
    for file in ["keys/ledger-2.pk8", "keys/lineage"] {
        std::fs::copy(after.join(file), data.join(file)).unwrap();
    }
    let refused = gateway::Core::open(scene.gateway.clone())
        .await
        .err()
        .unwrap();
    assert!(refused.to_string().contains("GATEWAY-LINEAGE"), "{refused}");
    // Nor is a key made where the links are lost.
    set(&["ledger/lineage"]);
    std::fs::remove_file(data.join("keys/ledger.pk8")).unwrap();
    let refused = gateway::Core::open(scene.gateway.clone())
        .await
        .err()
        .unwrap();
    assert!(refused.to_string().contains("GATEWAY-LINEAGE"), "{refused}");
    assert!(!data.join("keys/ledger.pk8").exists());

    set(&["keys/ledger-2.pk8", "keys/lineage"]);
    gateway::new_log(&data, "each year", "uid:0").unwrap();
    // Where only they are lost, it says that there is a copy, and that one does.
    let (lost, kept) = (data.join("keys/lineage"), data.join("ledger/lineage"));
    std::fs::remove_file(&lost).unwrap();
    let refused = gateway::Core::open(scene.gateway.clone()).await;
    let Err(gateway::CoreError::Refused(finding)) = refused else {
        panic!("it started without its links");
    };
    assert_eq!(finding.code, "GATEWAY-LINEAGE");
    let next = finding.next.unwrap_or_default();
    let copy = format!("copy {} to {}", kept.display(), lost.display());
    assert!(next.contains(&copy), "{next}");
    std::fs::copy(kept, lost).unwrap();
    scene.open_gateway().await;
    anchored_as(&scene, 2).await;
}

fn signer(number: u64) -> LedgerSigner {
    let key = KeyPair::generate(Algorithm::Ed25519).unwrap();
    LedgerSigner::new(&origin(number), Arc::new(key)).unwrap()
}

/// A gateway of which so much is anchored, and the folder of its ledger.
struct Victim {
    fixture: Fixture,
    gateway: Gateway,
    first: LedgerSigner,
    own: PathBuf,
    size: u64,
    root: [u8; 32],
}

impl Victim {
    async fn set() -> Self {
        let (fixture, gateway, own) = with_anchor().await;
        let (size, root) = {
            let head = own.reader().head();
            (head.checkpoint.size, head.checkpoint.root)
        };
        own.close().unwrap();
        Self {
            first: LedgerSigner::new(&origin(1), Arc::clone(&gateway.signer) as _).unwrap(),
            own: fixture.dir.path().join("own"),
            fixture,
            gateway,
            size,
            root,
        }
    }

    /// Links to `next` from the first `size` records.
    fn link(&self, next: &LedgerSigner, size: u64, root: [u8; 32]) -> KeyRotation {
        Link::sign(&self.first, next, (size, root), "each year").unwrap()
    }

    /// The ledger as it is of `next`, begun if `link` leads there.
    fn on(&self, next: &LedgerSigner, link: &KeyRotation) -> Ledger {
        let key = lineage::follow(self.first.key(), std::slice::from_ref(link)).unwrap();
        let next = next.clone().with_lineage(key).unwrap();
        let ledger = Ledger::open_signed(&self.own, next, &Options::default()).unwrap();
        ledger
            .append(link.record().draft().unwrap())
            .wait()
            .unwrap();
        ledger
    }

    fn hello(&self, key: &LedgerKey, links: &[KeyRotation]) -> GatewayHello {
        let mut hello = self.gateway.greeting(0, Vec::new());
        hello.origin = key.origin().to_string();
        hello.ledger_key = key.public_key().spki_der().to_vec();
        hello.own_lineage = lineage::to_json(links);
        hello
    }

    async fn says(&self, key: &LedgerKey, links: &[KeyRotation]) -> Gateway {
        let stream = self.gateway.again().await;
        stream.send(Message::Hello(self.hello(key, links))).await;
        stream
    }

    /// Why the server does not take these links.
    async fn refused(&self, key: &LedgerKey, links: &[KeyRotation]) -> String {
        let refusal = self.says(key, links).await.refusal().await;
        refusal.code.into_owned()
    }

    /// The owner has replaced the key, and the server has taken that.
    async fn succeeded(&self) -> (LedgerSigner, KeyRotation) {
        let next = signer(2);
        let link = self.link(&next, self.size, self.root);
        let own = self.on(&next, &link);
        let links = [link];
        let mut stream = self.says(next.key(), &links).await;
        let size = own.reader().size();
        assert_eq!(anchored(&mut stream, &own, 0).await, Ok(size));
        own.close().unwrap();
        let [link] = links;
        (next, link)
    }

    async fn nobody_is_cut_off(&self) {
        let records = self.fixture.records(&["misbehaviour", "revocation"]).await;
        assert!(records.is_empty(), "{records:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_of_a_replaced_key_beyond_its_end_is_refused_and_kept_as_evidence() {
    let victim = Victim::set().await;
    let stolen = victim.fixture.dir.path().join("stolen");
    copy(&victim.own, &stolen);
    victim.succeeded().await;
    let thief = open(&stolen, Arc::clone(&victim.gateway.signer) as _);
    // What that log had may be shown late: it is refused, and proves nothing.
    let head = |ledger: &Ledger| {
        Message::Head(GatewayHead {
            checkpoint: ledger.reader().head().note.as_ref().to_owned(),
            consistency: Vec::new(),
            old_size: 0,
        })
    };
    let trouble = async || victim.fixture.status().await["gateways"][0]["trouble"].clone();
    assert!(trouble().await.is_null());
    let mut stream = victim.says(victim.first.key(), &[]).await;
    stream.send(head(&thief)).await;
    assert_eq!(stream.refusal().await.code, "FOLLOW-LEDGER-ENDED");
    // A gateway that is started with an older folder looked as ever.
    assert_eq!(trouble().await["code"], "FOLLOW-LEDGER-ENDED");
    victim.nobody_is_cut_off().await;
    fill(&thief, 1);
    let mut stream = victim.says(victim.first.key(), &[]).await;
    stream.send(head(&thief)).await;
    assert_eq!(stream.refusal().await.code, "FOLLOW-LEDGER-ENDED");
    told(&victim.fixture, "ended", true).await;
    let (log, size) = status(&victim.fixture).await;
    assert_eq!((log, size), (origin(2), victim.size + 1));
}

/// Whoever has a key that was replaced, and the identity from another machine, had its owner cut off with him.
#[tokio::test(flavor = "multi_thread")]
async fn a_thief_of_a_replaced_key_cuts_off_nobody_but_himself() {
    let victim = Victim::set().await;
    let stolen = victim.fixture.dir.path().join("stolen");
    copy(&victim.own, &stolen);
    let (next, link) = victim.succeeded().await;
    let thief = open(&stolen, Arc::clone(&victim.gateway.signer) as _);
    fill(&thief, 1);
    let mut stream = Gateway::connect_from(&victim.fixture, "other", 2000)
        .await
        .unwrap();
    let hello = victim.hello(victim.first.key(), &[]);
    stream.send(Message::Hello(hello)).await;
    let head = GatewayHead {
        checkpoint: thief.reader().head().note.as_ref().to_owned(),
        consistency: Vec::new(),
        old_size: 0,
    };
    stream.send(Message::Head(head)).await;
    assert_eq!(stream.refusal().await.code, "FOLLOW-LEDGER-ENDED");
    let records = victim.fixture.records(&["misbehaviour", "revocation"]);
    let records = records.await;
    let [(_, told), (_, revoked)] = records.as_slice() else {
        panic!("{records:?}");
    };
    assert_eq!(told["body"]["kind"], "ended");
    // Of the two machines it says which has sent what.
    let detail = told["body"]["detail"].as_str().unwrap();
    assert!(
        detail.contains("; shown by machine other; the link of record "),
        "{detail}"
    );
    assert!(detail.ends_with(" came from machine g2000"), "{detail}");
    let target = &revoked["body"]["target"];
    assert_eq!(
        (&target["kind"], &target["value"]),
        (&"machine".into(), &"other".into())
    );
    let trouble = async || victim.fixture.status().await["gateways"][0]["trouble"].clone();
    assert_eq!(trouble().await["code"], "FOLLOW-LEDGER-ENDED");
    // The owner goes on.
    let key = lineage::follow(victim.first.key(), std::slice::from_ref(&link)).unwrap();
    let signer = next.clone().with_lineage(key).unwrap();
    let own = Ledger::open_signed(&victim.own, signer, &Options::default()).unwrap();
    fill(&own, 1);
    let mut stream = victim.says(next.key(), &[link]).await;
    let size = own.reader().size();
    assert_eq!(anchored(&mut stream, &own, 0).await, Ok(size));
    assert!(trouble().await.is_null(), "whoever was taken has none");
}

/// Connects as a thief of key and SVID who says that the ledger goes on as his; until the server has asked for what is
/// behind so large a head.
async fn goes_on_as_a_thief(victim: &Victim, thief: &LedgerSigner, size: u64) -> Gateway {
    let link = victim.link(thief, victim.size, victim.root);
    let mut stream = victim.says(thief.key(), &[link]).await;
    let checkpoint = ledger::Checkpoint {
        origin: thief.key().origin().clone(),
        size,
        root: [7; 32],
    };
    let head = GatewayHead {
        checkpoint: thief.sign(&checkpoint).unwrap(),
        consistency: Vec::new(),
        old_size: 0,
    };
    stream.send(Message::Head(head)).await;
    asked_from(&mut stream).await;
    stream
}

/// From where on the server asks for records, and by which request.
async fn asked_from(stream: &mut Gateway) -> (u64, u64) {
    loop {
        if let delta::Delta::Fetch(fetch) = stream.next().await.unwrap() {
            return (fetch.from_index, fetch.request);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_no_record_came_of_leaves_the_mirror_to_the_gateway() {
    let victim = Victim::set().await;
    let thief = signer(2);
    let stream = goes_on_as_a_thief(&victim, &thief, victim.size + 100).await;
    let own = open(&victim.own, Arc::clone(&victim.gateway.signer) as _);
    fill(&own, 1);
    let mut honest = victim.says(victim.first.key(), &[]).await;
    let size = own.reader().size();
    assert_eq!(anchored(&mut honest, &own, 0).await, Ok(size));
    drop(stream);
    victim.nobody_is_cut_off().await;
    assert!(rotations(&victim.fixture).await.is_empty());
    // His own log is refused from now on: it ended with less than is anchored.
    let link = victim.link(&thief, victim.size, victim.root);
    let code = victim.refused(thief.key(), &[link]).await;
    assert_eq!(code, "FOLLOW-LEDGER-SHORT");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_a_record_came_of_is_kept_with_what_is_held_against_it() {
    let victim = Victim::set().await;
    let stolen = victim.fixture.dir.path().join("stolen");
    copy(&victim.own, &stolen);
    let thief = signer(2);
    let mut stream = goes_on_as_a_thief(&victim, &thief, victim.size + 100).await;
    // One record, and no more: nothing is anchored.
    let link = victim.link(&thief, victim.size, victim.root);
    let his = {
        let key = lineage::follow(victim.first.key(), std::slice::from_ref(&link)).unwrap();
        let signer = thief.clone().with_lineage(key).unwrap();
        Ledger::open_signed(&stolen, signer, &Options::default()).unwrap()
    };
    let draft = link.record().draft().unwrap();
    his.append(draft).wait().unwrap();
    let end = his.reader().size();
    let segment = SegmentData {
        request: 1,
        first_index: victim.size,
        records: his.reader().read(victim.size..end).unwrap(),
        checkpoint: his.reader().head().note.as_ref().to_owned(),
    };
    stream.send(Message::Segment(segment)).await;
    assert_eq!(asked_from(&mut stream).await, (end, 2));
    drop(stream);
    let own = open(&victim.own, Arc::clone(&victim.gateway.signer) as _);
    fill(&own, 1);
    let mut honest = victim.says(victim.first.key(), &[]).await;
    let refused = anchored(&mut honest, &own, 0).await.unwrap_err();
    assert!(refused.contains("it went on as"), "{refused}");
    told(&victim.fixture, "ended", true).await;
    let records = victim.fixture.records(&["misbehaviour"]).await;
    let detail = records[0].1["body"]["detail"].as_str().unwrap();
    let whence = "the link came from machine g2000, and no anchor rests on it";
    assert!(detail.ends_with(whence), "{detail}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_succession_of_one_key_is_a_fork_and_kept_as_evidence() {
    let victim = Victim::set().await;
    let (owner, link) = victim.succeeded().await;
    // Under the next name, or under another; with the owner's link beside it, or without.
    let thief = signer(3);
    let forked = victim.link(&thief, victim.size, victim.root);
    let code = victim.refused(thief.key(), &[link, forked]).await;
    assert_eq!(code, "FOLLOW-LEDGER-FORKED");
    told(&victim.fixture, "succession", true).await;
    assert_eq!(
        status(&victim.fixture).await.0,
        owner.key().origin().as_str()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_ends_below_what_was_anchored_of_it_is_kept_as_evidence() {
    let victim = Victim::set().await;
    let next = signer(2);
    let short = victim.link(&next, victim.size - 1, [1; 32]);
    let code = victim.refused(next.key(), &[short]).await;
    assert_eq!(code, "FOLLOW-LEDGER-SHORT");
    told(&victim.fixture, "ended", true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_ends_with_another_tree_is_kept_as_evidence() {
    let victim = Victim::set().await;
    let next = signer(2);
    let other = victim.link(&next, victim.size, [1; 32]);
    let code = victim.refused(next.key(), &[other]).await;
    assert_eq!(code, "FOLLOW-LEDGER-SHORT");
    told(&victim.fixture, "ended", true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn links_that_lead_nowhere_are_refused_and_change_nothing() {
    let victim = Victim::set().await;
    let next = signer(2);
    let link = victim.link(&next, victim.size, victim.root);
    // Without the link, by one that another signed, or one of another ledger.
    assert_eq!(victim.refused(next.key(), &[]).await, "FOLLOW-ORIGIN");
    let mut unsigned = link.clone();
    unsigned.old_signature = unsigned.new_signature.clone();
    assert_eq!(
        victim.refused(next.key(), &[unsigned]).await,
        "FOLLOW-LEDGER-LINEAGE"
    );
    let stranger = signer(1);
    let strange = Link::sign(&stranger, &next, (victim.size, victim.root), "").unwrap();
    assert_eq!(
        victim.refused(next.key(), &[strange]).await,
        "FOLLOW-ORIGIN"
    );
    let mut hello = victim.hello(next.key(), &[]);
    hello.own_lineage = "[{}]".to_owned();
    let mut stream = victim.gateway.again().await;
    stream.send(Message::Hello(hello)).await;
    assert_eq!(stream.refusal().await.code, "FOLLOW-LEDGER-LINEAGE");
    // More records than there are, and none of the old log beyond what is anchored.
    let beyond = victim.link(&next, victim.size + 1, [2; 32]);
    let own = victim.on(&next, &link);
    fill(&own, 1);
    let mut stream = victim.says(next.key(), &[beyond]).await;
    let refused = anchored(&mut stream, &own, 0).await.unwrap_err();
    assert!(refused.starts_with("ANCHOR-REFUSED"), "{refused}");
    assert!(rotations(&victim.fixture).await.is_empty());
    assert_eq!(status(&victim.fixture).await, (origin(1), victim.size));
    victim.nobody_is_cut_off().await;
}
