//! What is kept: over a restart, within a bound, and whatever somebody did to the files.

use crate::stock::{SNP_CRL, TCB_INFO, stock};
use crate::tee_forged::{domain, guest};
use crate::vendor::Reply;
use crate::world::{World, domains, guests, named};
use attest_tee::endorsed;
use attest_tee::{Bundle, tdx};
use endorsements::Event;
use facts::{Outcome, Timestamp};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// What somebody does to a file.
type Poison = Box<dyn Fn(&Path)>;

fn change(file: &Path, change: impl FnOnce(&mut Value)) {
    let mut value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    change(&mut value);
    fs::write(file, value.to_string()).unwrap();
}

fn age(world: &World) {
    for file in world.files() {
        change(&file, |entry| {
            let fetched = entry["fetched"].as_u64().unwrap();
            entry["fetched"] = json!(fetched - 700_000);
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_fetched_endorses_after_a_restart_and_nobody_is_asked() {
    let world = World::start().await;
    let wants: Vec<_> = guests().into_iter().chain(domains()).collect();
    let obtained = world.fetcher().obtain(&wants, "m").await;
    assert!(obtained.changed && obtained.problem.is_none());
    assert_eq!(world.files().len(), 6);
    world.vendor.asked();

    let fetcher = world.fetcher();
    let now = Timestamp::now();
    let kept = fetcher.at_hand(&wants, now);
    assert_eq!(kept.len(), 6);
    let mut above = Bundle::default();
    above.take_in(&kept);
    let bundle = above.over(Arc::new(Bundle::default()));
    let mut guest = guest();
    guest.references.roots = guest.roots();
    guest.expectation.now = now;
    let report = guest.signed_report();
    let judged = endorsed::snp(&report, &[], &bundle, &guest.expectation, &guest.references);
    assert_eq!(judged.verdict.outcome(), Outcome::Affirmed);
    let domain = domain();
    let evidence = tdx::Evidence {
        quote: &domain.quote(),
        event_log: None,
    };
    let expected = tdx::Expectation {
        report_data: domain.report_data,
        now,
    };
    let references = tdx::References {
        roots: domain.roots(),
        ..domain.tdx.clone()
    };
    let judged = endorsed::tdx(&evidence, &bundle, &expected, &references);
    let findings = &judged.verdict.findings;
    assert_eq!(judged.verdict.outcome(), Outcome::Affirmed, "{findings:?}");

    // The file that an operator carries to a site without a network has the same.
    let carried = Bundle::parse(&bundle.to_json().unwrap()).unwrap();
    assert_eq!(carried.list(), bundle.list());
    assert_eq!(bundle.list().len(), 6);
    let judged = endorsed::snp(
        &report,
        &[],
        &carried,
        &guest.expectation,
        &guest.references,
    );
    assert_eq!(judged.verdict.outcome(), Outcome::Affirmed);
    assert_eq!(world.vendor.asked(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poisoned_file_is_dropped_and_fetched_again() {
    let world = World::start().await;
    let list = &guests()[1..];
    let mut forged = guest();
    forged.listed_by_other = true;
    let forged = crypto::base64::encode(&forged.crl().unwrap());
    let poisons: Vec<Poison> = vec![
        Box::new(|file| fs::write(file, b"").unwrap()),
        Box::new(|file| {
            let bytes = fs::read(file).unwrap();
            fs::write(file, &bytes[..bytes.len() / 2]).unwrap();
        }),
        Box::new(move |file| change(file, |entry| entry["body"] = json!(forged))),
        Box::new(|file| change(file, |entry| entry["artefact"] = json!("snp-crl:genoa"))),
        Box::new(|file| change(file, |entry| entry["version"] = json!(2))),
        Box::new(|file| fs::write(file, vec![b'['; 300 << 10]).unwrap()),
    ];
    for (number, poison) in poisons.into_iter().enumerate() {
        world.fetcher().obtain(list, "m").await;
        world.vendor.asked();
        let [file] = world.files().try_into().unwrap();
        poison(&file);
        let before = world.count(Event::Dropped);
        let fetcher = world.fetcher();
        assert!(
            fetcher.at_hand(list, Timestamp::now()).is_empty(),
            "{number}"
        );
        assert_eq!(world.count(Event::Dropped), before + 1, "{number}");
        assert!(world.files().is_empty(), "{number}");
        let obtained = fetcher.obtain(list, "m").await;
        assert!(obtained.problem.is_none(), "{number}: {obtained:?}");
        assert_eq!(world.vendor.asked(), [SNP_CRL], "{number}");
        assert_eq!(fetcher.at_hand(list, Timestamp::now()).len(), 1, "{number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_takes_no_list_back() {
    let world = World::start().await;
    let list = &guests()[1..];
    world.fetcher().obtain(list, "m").await;
    let newest = world.fetcher().at_hand(list, Timestamp::now());
    // A list from before somebody was revoked, still current by its own word.
    let mut earlier = guest();
    let of = earlier.list.as_mut().unwrap();
    of.this_update = Timestamp::now().minus_secs(7_200);
    of.revoked = Vec::new();
    stock(&world.vendor, &earlier, &domain());
    age(&world);
    let fetcher = world.fetcher();
    let obtained = fetcher.obtain(list, "m").await;
    let observed = obtained.problem.unwrap().observed.unwrap();
    assert!(observed.contains("was there before"), "{observed}");
    let kept = fetcher.at_hand(list, Timestamp::now());
    assert_eq!(kept[0].answer(), newest[0].answer());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nears_its_end_is_renewed_behind_whoever_uses_it() {
    let world = World::start().await;
    let wants = domains();
    let mut ending = domain();
    let text = |at: Timestamp| format!("{}Z", &at.to_string()[..19]);
    let now = Timestamp::now();
    ending.tcb_info["issueDate"] = json!(text(now.minus_secs(864_000)));
    ending.tcb_info["nextUpdate"] = json!(text(now.plus_secs(3_000)));
    stock(&world.vendor, &guest(), &ending);
    world.fetcher().obtain(&wants, "m").await;
    world.vendor.asked();
    stock(&world.vendor, &guest(), &domain());
    age(&world);

    let fetcher = world.fetcher();
    let used = fetcher.at_hand(&wants, now);
    assert_eq!(named(&used).len(), 4, "what is there counts meanwhile");
    let info = |found: &[attest_tee::Endorsement]| found[0].until();
    let before = info(&used);
    let renewed = async {
        while info(&fetcher.at_hand(&wants, Timestamp::now())) == before {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), renewed)
        .await
        .expect("it is renewed");
    assert_eq!(world.vendor.asked(), [TCB_INFO], "and nothing else is");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_everything_is_at_hand_and_does_not_do_it_is_asked_for_again() {
    let world = World::start().await;
    world.fetcher().obtain(&domains(), "m").await;
    assert_eq!(world.vendor.asked().len(), 4);
    let fetcher = world.fetcher();
    let obtained = fetcher.obtain(&domains(), "m").await;
    assert!(!obtained.changed && obtained.problem.is_none());
    assert_eq!(world.vendor.asked().len(), 0, "it has just come");
    age(&world);
    let obtained = world.fetcher().obtain(&domains(), "m").await;
    assert!(obtained.changed);
    assert_eq!(world.vendor.asked().len(), 4);
    world.vendor.otherwise(Reply::status(404));
    age(&world);
    let fetcher = world.fetcher();
    let obtained = fetcher.obtain(&domains(), "m").await;
    assert!(obtained.problem.is_some());
    let kept = fetcher.at_hand(&domains(), Timestamp::now());
    assert_eq!(kept.len(), 4, "what cannot be renewed counts until its end");
}
