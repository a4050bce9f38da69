//! Where an enclave stands: in the pool whose image it is, as the estate has it now; and what a ban of it means.

use super::{Site, held, honest, honest_sgx, nitro, of_nitro, renew, sgx};
use crate::erasing::{erase, kinds, of};
use crate::harness::{PROGRAM, finding, program};
use crate::tee::facts_of;
use crate::tee_forged::forge_nitro::text;
use proto::v1;
use std::collections::BTreeSet;

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_says_what_differs_and_what_would_allow_it() {
    let site = Site::start("", "").await;
    let refused = site.refused("nitro", |finish, asked| finish.report = honest(asked));
    let unasked = refused.await;
    assert_eq!(unasked.code, "ENCLAVE-UNASKED");
    assert!(unasked.expected.unwrap().contains("kind = \"nitro\""));

    site.ask(&(nitro() + &sgx())).await;
    let refused = site.refused("nitro", |finish, asked| {
        let mut enclave = of_nitro(asked);
        enclave.pcrs.insert(0, [0xab; 48]);
        finish.report = enclave.document();
    });
    let refused = refused.await;
    assert_eq!(refused.code, "TEE-NITRO-IMAGE");
    let (is, listed) = ("ab".repeat(48), "01".repeat(48));
    let expected = format!("one of: prod; of prod: PCR 0 {listed}");
    assert_eq!(refused.expected, Some(expected));
    assert_eq!(refused.observed, Some(format!("PCR 0 {is}")));
    let next = refused.next.unwrap();
    let line = format!("0 = \"{is}\"");
    assert!(
        next.contains("[[tee.image]]") && next.contains(&line),
        "{next}"
    );

    // What it says is what an estate takes.
    let allowed = format!(
        "{}[[tee.image]]\nname = \"next\"\npcrs = {{ {line} }}\n",
        nitro()
    );
    site.ask(&allowed).await;
    let joined = site.join("nitro", |asked| {
        let mut enclave = of_nitro(asked);
        enclave.pcrs.insert(0, [0xab; 48]);
        enclave.document()
    });
    let facts = facts_of(&joined.await.unwrap());
    assert_eq!(facts.text("machine.tee.image"), Some("next"));

    site.ask(&sgx().replace("ecec", "edec")).await;
    let refused = site.refused("sgx", |finish, asked| finish.report = honest_sgx(asked));
    let next = refused.await.next.unwrap();
    let line = format!("mrenclave = \"{}\"", "ec".repeat(32));
    assert!(next.contains(&line), "{next}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_estate_takes_back_at_once_what_rested_on_an_image() {
    let good = nitro() + &sgx();
    let site = Site::start(&good, "").await;
    for (kind, worse) in [
        ("nitro", nitro().replace("0101", "0201") + &sgx()),
        ("nitro", nitro().replace("0909", "0a09") + &sgx()),
        ("nitro", nitro().replace("0404", "0504") + &sgx()),
        ("nitro", nitro().replace("\"prod\"", "\"prod-2\"") + &sgx()),
        (
            "nitro",
            nitro().replace("root = \"lab-nitro\"\n", "") + &sgx(),
        ),
        ("nitro", nitro().replace("\"demo\"", "\"other\"") + &sgx()),
        ("nitro", sgx()),
        ("sgx", nitro() + &sgx().replace("ecec", "edec")),
        ("sgx", nitro() + &sgx().replace("svn = 9", "svn = 10")),
        (
            "sgx",
            nitro() + &sgx().replace("evaluation = 17", "evaluation = 18"),
        ),
        (
            "sgx",
            nitro() + &sgx().replace("evaluation = 17", "evaluation = 17\ntcb_status = []"),
        ),
        ("sgx", nitro()),
        ("sgx", String::new()),
    ] {
        let machine = match kind {
            "nitro" => site.join(kind, honest).await.unwrap(),
            _ => site.join(kind, honest_sgx).await.unwrap(),
        };
        let mut sync = machine.sync().await.unwrap();
        let (by_image, by_pool) = (program(1000, PROGRAM), program(2000, PROGRAM));
        let (_, image) = sync.ask("w1", &by_image, Vec::new()).await.unwrap();
        let (_, pool) = sync.ask("w2", &by_pool, Vec::new()).await.unwrap();
        assert_eq!((image.len(), pool.len()), (1, 1), "before {worse}");
        site.ask(&worse).await;
        let revoked = site.fixture.records(&["revocation"]).await;
        for serial in [&image[0].svid.serial, &pool[0].svid.serial] {
            let of = |(_, record): &(u64, serde_json::Value)| {
                record["body"]["target"]["value"] == serial.as_str()
            };
            assert!(revoked.iter().any(of), "{worse}");
        }
        let (_, held) = sync.ask("w1", &by_image, Vec::new()).await.unwrap();
        assert!(held.is_empty(), "{worse}");
        site.ask(&good).await;
        let (_, held) = sync.ask("w1", &by_image, Vec::new()).await.unwrap();
        assert_eq!(held.len(), 1, "{worse}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enclave_stands_in_one_pool_and_its_pool_takes_no_less() {
    let elsewhere = nitro().replace("\"demo\"", "\"other\"");
    let site = Site::start(&(elsewhere.clone() + &nitro()), "").await;
    let refused = site.refused("nitro", |finish, asked| finish.report = honest(asked));
    let refused = refused.await;
    assert_eq!(refused.code, "ENCLAVE-POOLS");
    let pools = refused.observed.unwrap();
    assert!(pools.contains("demo") && pools.contains("other"), "{pools}");

    // Another image of the other pool: each stands in its own.
    site.ask(&(elsewhere.replace("0101", "0201") + &nitro()))
        .await;
    let machine = site.join("nitro", honest).await.unwrap();
    assert_eq!(facts_of(&machine).text("machine.pool"), Some("demo"));
    let other = site.join("nitro", |asked| {
        let mut enclave = of_nitro(asked);
        enclave.set("module_id", text("i-0777-enc4567"));
        let image = std::array::from_fn(|at| if at % 2 == 0 { 2 } else { 1 });
        enclave.pcrs.insert(0, image);
        enclave.document()
    });
    let other = other.await.unwrap();
    assert_eq!(facts_of(&other).text("machine.pool"), Some("other"));
    assert!(held(&other).await.is_empty(), "its pool may be nothing");

    // A machine that shows nothing does not get in by a token.
    let token = site.fixture.token("web-1").await;
    let refused = site.fixture.join_with(&token).await.err().unwrap();
    assert_eq!(finding(&refused).code, "TEE-MISSING");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_banned_enclave_does_not_come_back_by_being_started_again() {
    let site = Site::start(&nitro(), "").await;
    site.join("nitro", honest).await.unwrap();
    let request = v1::RevokeRequest {
        kind: "machine".to_owned(),
        value: "nitro-lab-nitro-i-0123-enc4567".to_owned(),
        reason: "its parent was broken into".to_owned(),
    };
    site.fixture.admin().await.revoke(request).await.unwrap();
    // Its evidence is erased: by its facts it is known still.
    let node = "trilith/node/nitro-lab-nitro-i-0123-enc4567";
    let plan = erase(&site.fixture, of(node, true)).await.unwrap();
    assert_eq!(kinds(&plan, "kept"), ["facts"], "{plan}");
    assert!(
        kinds(&plan, "erased").contains(&"evidence".to_owned()),
        "{plan}"
    );
    let started = |module: &'static str| {
        site.join("nitro", move |asked| {
            let mut enclave = of_nitro(asked);
            enclave.set("module_id", text(module));
            enclave.document()
        })
    };
    for module in ["i-0123-enc4567", "i-0123-enc9999"] {
        let refused = started(module).await.err().unwrap();
        assert_eq!(finding(&refused).code, "AGENT-LOCKED", "{module}");
    }
    started("i-0124-enc4567").await.unwrap();
    site.fixture.readmit("nitro-lab-nitro-i-0123-enc4567").await;
    started("i-0123-enc9999").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_enclave_does_not_renew_and_none_takes_another_machines_name() {
    let optional = nitro().replacen("kind", "require = false\nkind", 1);
    let site = Site::start(&optional, "").await;
    let machine = site.join("nitro", honest).await.unwrap();
    let other = renew(&machine, [1; 16], "nitro", |finish, asked| {
        let mut enclave = of_nitro(asked);
        enclave.set("module_id", text("i-0999-enc4567"));
        finish.report = enclave.document();
    });
    assert_eq!(finding(&other.await.err().unwrap()).code, "ENCLAVE-OTHER");
    let states = site.fixture.records(&["node-state"]).await;
    assert_eq!(states.last().unwrap().1["body"]["state"], "evicted");

    site.fixture.join("nitro-lab-nitro-i-0555-enc4567").await;
    let taken = site.refused("nitro", |finish, asked| {
        let mut enclave = of_nitro(asked);
        enclave.set("module_id", text("i-0555-enc4567"));
        finish.report = enclave.document();
    });
    assert_eq!(taken.await.code, "ENCLAVE-NAME");

    // A key that the hardware does not speak of is not certified.
    let machine = site.join("nitro", honest).await.unwrap();
    let keys = (super::key(), super::key());
    let refused = super::renew_by(&machine, [2; 16], "nitro", keys, |finish, asked| {
        finish.report = honest(asked);
    });
    assert_eq!(finding(&refused.await.err().unwrap()).code, "RENEW-KEY");
}

/// The names of all blobs, and how many of them await the record that names them.
fn kept(site: &Site) -> (BTreeSet<String>, usize) {
    let list = |path: &std::path::Path| -> Vec<std::path::PathBuf> {
        let Ok(entries) = std::fs::read_dir(path) else {
            return Vec::new();
        };
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    let blobs = site.fixture.dir.path().join("data/blobs");
    let (awaiting, unnamed) = (blobs.join("intended"), blobs.join("tmp"));
    let shards = list(&blobs).into_iter();
    let shards = shards.filter(|path| *path != awaiting && *path != unnamed);
    let names = shards.flat_map(|shard| list(&shard));
    let names = names.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned());
    (names.collect(), list(&awaiting).len())
}

/// Evidence of an enclave that is refused after it was kept stayed for ever: no record names it, so nobody could have
/// it erased.
#[tokio::test(flavor = "multi_thread")]
async fn evidence_that_no_record_came_to_name_is_gone_after_the_next_start() {
    let optional = nitro().replacen("kind", "require = false\nkind", 1);
    let mut site = Site::start(&optional, "").await;
    site.fixture.join("nitro-lab-nitro-i-0555-enc4567").await;
    let (before, awaiting) = kept(&site);
    assert_eq!(awaiting, 0);
    let taken = site.refused("nitro", |finish, asked| {
        let mut enclave = of_nitro(asked);
        enclave.set("module_id", text("i-0555-enc4567"));
        finish.report = enclave.document();
    });
    assert_eq!(taken.await.code, "ENCLAVE-NAME");
    let (with, awaiting) = kept(&site);
    let refused: BTreeSet<String> = with.difference(&before).cloned().collect();
    assert!(
        !refused.is_empty() && refused.len() == awaiting,
        "{refused:?}"
    );
    // Of one that is admitted all has its record.
    site.join("nitro", honest).await.unwrap();
    let (all, awaiting) = kept(&site);
    assert!(all.len() > with.len() && awaiting == refused.len());
    let verdicts = site.fixture.records(&["verdict"]).await;
    let evidence = verdicts.last().unwrap().1["body"]["evidence"].clone();
    site.fixture.restart().await;
    let (left, awaiting) = kept(&site);
    assert_eq!(awaiting, 0);
    assert!(left.is_disjoint(&refused), "{left:?}");
    assert!(all.difference(&refused).all(|one| left.contains(one)));
    for one in evidence.as_array().unwrap() {
        assert!(left.contains(one["sha256"].as_str().unwrap()), "{one}");
    }
}

/// `nitro-lab-nitro-i-0123-enc4567`: of the root `lab-nitro`, and of the root `lab` by a module of its own choice.
#[tokio::test(flavor = "multi_thread")]
async fn an_enclave_below_another_root_takes_no_name_of_one_that_stands() {
    let image = std::array::from_fn(|at| if at % 2 == 0 { 2 } else { 1 });
    let other = nitro()
        .replace("\"demo\"", "\"other\"")
        .replace("\"lab-nitro\"", "\"lab\"")
        .replace("0101", "0201");
    let root = crate::tee_forged::nitro_root();
    let root = format!("[[tee_root]]\nname = \"lab\"\nkind = \"nitro\"\npem = '''\n{root}'''\n");
    let site = Site::start(&(nitro() + &other + &root), "").await;
    let below_lab = |module: &'static str| {
        site.join("nitro", move |asked| {
            let mut enclave = of_nitro(asked);
            enclave.set("module_id", text(module));
            enclave.pcrs.insert(0, image);
            enclave.document()
        })
    };
    let stands = site.join("nitro", honest).await.unwrap();
    let name = "nitro-lab-nitro-i-0123-enc4567";
    assert_eq!(facts_of(&stands).text("machine.name"), Some(name));
    let taken = below_lab("nitro-i-0123-enc4567").await.err().unwrap();
    let taken = finding(&taken);
    assert_eq!(taken.code, "ENCLAVE-NAME");
    assert_eq!(taken.observed.as_deref(), Some(name));
    assert!(taken.next.unwrap().contains("tee_root"));
    assert_eq!(site.count("node-state").await, 1, "nobody else joined");
    // By a name of its own, it joins; so does the one that stands, again.
    let own = facts_of(&below_lab("i-0123-enc4567").await.unwrap());
    assert_eq!(own.text("machine.tee.root"), Some("lab"));
    site.join("nitro", honest).await.unwrap();
}
