//! What sources answer: only the document that was asked for is kept, whatever a source does.

use crate::stock::{PCK_CRL, SNP_CRL, snp_key, stock};
use crate::tee_forged::forge_intel::Platform;
use crate::tee_forged::forge_snp::Machine;
use crate::tee_forged::{domain, guest};
use crate::vendor::{Reply, Vendor};
use crate::world::{World, domains, guests};
use facts::Timestamp;
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

#[tokio::test(flavor = "multi_thread")]
async fn each_answer_that_is_not_the_document_is_refused_and_not_kept() {
    type Change = fn(&mut Machine, &mut Platform);
    let cases: Vec<(&str, &str, Change)> = vec![
        ("of another chip", "amd", |guest, _| {
            let chip = &mut guest.certificate.extensions[2].2;
            chip[0] ^= 1;
        }),
        ("for another TCB", "amd", |guest, _| {
            guest.certificate.extensions[3].2 = crate::der::integer(4);
        }),
        ("did not sign", "amd", |guest, _| {
            guest.certified_by_other = true;
        }),
        ("did not sign", "amd", |guest, _| {
            guest.listed_by_other = true
        }),
        ("counts from", "amd", |guest, _| {
            let list = guest.list.as_mut().unwrap();
            list.next_update = Some(Timestamp::now().minus_secs(60));
        }),
        ("counts from", "amd", |guest, _| {
            guest.certificate.not_after = Timestamp::now().minus_secs(60);
        }),
        ("another authority", "amd", |guest, _| {
            guest.list.as_mut().unwrap().issuer = "ARK-Genoa".to_owned();
        }),
        ("of other platforms", "intel", |_, domain| {
            domain.tcb_info["fmspc"] = json!("F0F0F0F0F0F1");
        }),
        ("of other platforms", "intel", |_, domain| {
            domain.tcb_info["id"] = json!("SGX");
        }),
        ("does not verify", "intel", |_, domain| {
            domain.wrong.tcb_info = true;
        }),
        ("does not verify", "intel", |_, domain| {
            domain.wrong.identity = true;
        }),
        ("did not sign", "intel", |_, domain| {
            domain.wrong.signing = true;
        }),
        ("did not sign", "intel", |_, domain| {
            domain.wrong.pck_list = true;
        }),
        ("did not sign", "intel", |_, domain| {
            domain.wrong.root_list = true;
        }),
        ("counts from", "intel", |_, domain| {
            domain.tcb_info["nextUpdate"] = json!("2026-01-02T00:00:00Z");
        }),
    ];
    for (number, (why, vendor, change)) in cases.into_iter().enumerate() {
        let world = World::start().await;
        let (mut guest, mut domain) = (guest(), domain());
        change(&mut guest, &mut domain);
        stock(&world.vendor, &guest, &domain);
        let wants = if vendor == "amd" { guests() } else { domains() };
        let fetcher = world.fetcher();
        let obtained = fetcher.obtain(&wants, "m").await;
        let problem = obtained.problem.expect("something is wrong");
        assert_eq!(problem.code, "TEE-ENDORSEMENT-FETCH", "{number}");
        let observed = problem.observed.unwrap_or_default();
        assert!(observed.contains(why), "{number}: {observed}");
        let found = fetcher.at_hand(&wants, Timestamp::now());
        assert!(found.len() < wants.len(), "{number}");
        assert_eq!(world.files().len(), found.len(), "{number}");
        // It is not asked for again at once.
        world.vendor.asked();
        fetcher.obtain(&wants, "m").await;
        assert_eq!(world.vendor.asked(), Vec::<String>::new(), "{number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_source_costs_its_time_and_its_bytes_and_sends_nobody_elsewhere() {
    let mut world = World::start().await;
    world.settings.timeout = Duration::from_secs(2);
    // A metadata service, which nobody may be sent to.
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = format!(
        "http://{}/latest/meta-data/",
        elsewhere.local_addr().unwrap()
    );
    let redirect =
        |status| Reply::Answer(status, vec![("Location".into(), target.clone())], vec![]);
    let long = Reply::Answer(200, vec![], vec![b'x'; 17 * 1024]);
    for (why, reply) in [
        ("redirects are not followed", redirect(302)),
        ("redirects are not followed", redirect(307)),
        ("more than 16384 bytes", long),
        ("more than 16384 bytes", Reply::Endless),
        ("no answer", Reply::EndlessHead),
        ("within 2000 ms", Reply::Drip),
        (
            "within 2000 ms",
            Reply::Late(Duration::from_secs(60), Box::new(Reply::status(200))),
        ),
        ("it answered 500", Reply::status(500)),
        ("it answered 204", Reply::status(204)),
        ("it answered 404", Reply::status(404)),
        ("not what was asked for", Reply::good(b"")),
        ("not what was asked for", Reply::good(b"<html>")),
    ] {
        world.vendor.put(&snp_key(), reply);
        let begun = Instant::now();
        let obtained = world.fetcher().obtain(&guests()[..1], "m").await;
        let problem = obtained.problem.unwrap();
        let observed = problem.observed.unwrap_or_default();
        assert!(observed.contains(why), "{why}: {observed}");
        assert!(begun.elapsed() < Duration::from_secs(30), "{why}");
        assert_eq!(world.files().len(), 0, "{why}");
    }
    let sent = tokio::time::timeout(Duration::from_millis(100), elsewhere.accept());
    assert!(sent.await.is_err(), "somebody was sent there");

    // Intel's chains come in headers.
    world
        .vendor
        .put(PCK_CRL, Reply::good(&domain().collateral().pck_crl));
    let obtained = world.fetcher().obtain(&domains()[2..3], "m").await;
    let observed = obtained.problem.unwrap().observed.unwrap();
    assert!(observed.contains("no chain"), "{observed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_certified_by_the_pinned_authority_is_not_asked() {
    let world = World::start().await;
    let sources = world.sources(&world.vendor.url());
    std::fs::write(
        world.base.path().join("ca.pem"),
        crate::tee_forged::tdx_root(),
    )
    .unwrap();
    let others = world.sources(&world.vendor.url());
    let obtained = world.fetcher_of(others).obtain(&guests(), "m").await;
    let observed = obtained.problem.unwrap().observed.unwrap();
    // Whichever of them was asked for first: the others are told what came of it.
    assert!(observed.contains("no TLS"), "{observed}");
    assert_eq!(world.vendor.asked(), Vec::<String>::new());
    let obtained = world.fetcher_of(sources).obtain(&guests(), "m").await;
    assert!(obtained.changed && obtained.problem.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_source_is_asked_where_one_does_not_have_it() {
    let world = World::start().await;
    let mirror = Vendor::start().await;
    mirror.put(SNP_CRL, Reply::good(&guest().crl().unwrap()));
    let mut sources = world.sources(&mirror.url());
    sources.extend(world.sources(&world.vendor.url()));
    let obtained = world.fetcher_of(sources).obtain(&guests(), "m").await;
    assert!(obtained.problem.is_none(), "{obtained:?}");
    let mut asked = mirror.asked();
    asked.sort();
    assert_eq!(asked, [snp_key(), SNP_CRL.to_owned()]);
    assert_eq!(world.vendor.asked(), [snp_key()]);
}
