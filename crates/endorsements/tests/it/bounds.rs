//! How much sources are asked, whoever wants it.

use crate::stock::{SNP_CRL, snp_key};
use crate::vendor::Reply;
use crate::world::{World, chip, domains, guests, named};
use endorsements::Limits;
use facts::Timestamp;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn many_that_wait_are_one_request() {
    let world = World::start().await;
    let fetcher = world.fetcher();
    let wants: Vec<_> = guests().into_iter().chain(domains()).collect();
    let waiting: Vec<_> = (0..40)
        .map(|number| {
            let (fetcher, wants) = (fetcher.clone(), wants.clone());
            tokio::spawn(async move { fetcher.obtain(&wants, &format!("m{number}")).await })
        })
        .collect();
    for one in waiting {
        let obtained = one.await.unwrap();
        assert!(obtained.problem.is_none(), "{obtained:?}");
    }
    let mut asked = world.vendor.asked();
    asked.sort();
    assert_eq!(asked.len(), 6, "{asked:?}");
    asked.dedup();
    assert_eq!(asked.len(), 6);
    let found = fetcher.at_hand(&wants, Timestamp::now());
    assert_eq!(named(&found).len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_too_long_is_told_so_and_finds_it_the_next_time() {
    let mut world = World::start().await;
    world.settings.wait = Duration::from_millis(200);
    let list = crate::tee_forged::guest().crl().unwrap();
    let late = Duration::from_millis(1_500);
    let late = Reply::Late(late, Box::new(Reply::good(&list)));
    world.vendor.put(SNP_CRL, late);
    let fetcher = world.fetcher();
    let obtained = fetcher.obtain(&guests()[1..], "m").await;
    assert_eq!(obtained.problem.unwrap().code, "TEE-ENDORSEMENT-PENDING");
    assert!(!obtained.changed);
    let came = async {
        while fetcher.at_hand(&guests()[1..], Timestamp::now()).is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), came)
        .await
        .expect("nobody waits for it, and it comes");
    assert_eq!(world.vendor.asked().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_machine_spends_its_own_account_and_nobody_elses() {
    let mut world = World::start().await;
    world.settings.limits = Limits {
        per_source: 1_000,
        per_machine: 8,
    };
    let fetcher = world.fetcher();
    let mut codes = Vec::new();
    for number in 0..200 {
        let obtained = fetcher.obtain(&[chip(number)], "bad").await;
        codes.push(obtained.problem.unwrap().code.to_string());
    }
    assert_eq!(world.vendor.asked().len(), 8);
    assert_eq!(codes[7], "TEE-ENDORSEMENT-FETCH");
    assert_eq!(codes[8], "TEE-ENDORSEMENT-LIMIT");
    // The same chip again costs nothing: that it is unknown is known.
    for _ in 0..50 {
        let obtained = fetcher.obtain(&[chip(0)], "other").await;
        assert_eq!(obtained.problem.unwrap().code, "TEE-ENDORSEMENT-FETCH");
    }
    assert_eq!(world.vendor.asked().len(), 0);
    let obtained = fetcher.obtain(&guests(), "good").await;
    assert!(obtained.changed && obtained.problem.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_fails_is_left_alone() {
    for status in [429, 500, 503] {
        let world = World::start().await;
        world.vendor.otherwise(Reply::status(status));
        let fetcher = world.fetcher();
        for number in 0..100 {
            let obtained = fetcher.obtain(&[chip(number)], "m").await;
            assert_eq!(obtained.problem.unwrap().code, "TEE-ENDORSEMENT-FETCH");
        }
        let asked = world.vendor.asked().len();
        assert!(asked <= 3, "{status}: asked {asked} times");
    }
    // For as long as it says.
    let world = World::start().await;
    let wait = vec![("Retry-After".to_owned(), "3600".to_owned())];
    world
        .vendor
        .put(&snp_key(), Reply::Answer(429, wait, Vec::new()));
    let fetcher = world.fetcher();
    fetcher.obtain(&guests()[..1], "m").await;
    let obtained = fetcher.obtain(&guests()[1..], "m").await;
    let observed = obtained.problem.unwrap().observed.unwrap();
    assert!(observed.contains("asked again in 3"), "{observed}");
    assert_eq!(world.vendor.asked(), [snp_key()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_machines_together_ask_a_source_no_more_than_it_may_be_asked() {
    let mut world = World::start().await;
    world.settings.limits = Limits {
        per_source: 5,
        per_machine: 1_000,
    };
    let fetcher = world.fetcher();
    for number in 0..50 {
        fetcher.obtain(&[chip(number)], &format!("m{number}")).await;
    }
    assert_eq!(world.vendor.asked().len(), 5);
}
