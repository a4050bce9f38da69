//! Machines join and what their joins name is erased, all at once, on a server that runs: afterwards what the last word says
//! to be there is there, and what it says to be gone is gone.

use super::{blob, issued, of, of_record, record};
use crate::harness::{Fixture, finding};
use crate::packs::verified;
use crypto::{Algorithm, KeyPair};
use futures::future::join_all;
use proto::v1;
use proto::v1::admin_client::AdminClient;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tonic::transport::Channel;

const MACHINES: [&str; 3] = ["m1", "m2", "m3"];
const ROUNDS: u64 = 20;
/// More than one machine is overtaken in a row.
const TRIES: usize = 20;

/// What became of erasures, by code; `done` of those that were.
#[derive(Default)]
struct Tally(Mutex<BTreeMap<String, usize>>);

type Admin = AdminClient<Channel>;

impl Tally {
    /// Over a connection that is the asker's own: when there are more than the socket has places for, the oldest is closed,
    /// and each that is being closed counts.
    async fn erase(&self, admin: &mut Admin, request: v1::EraseRequest) -> String {
        let code = match admin.erase(request).await {
            Ok(_) => "done".to_owned(),
            Err(status) => {
                let finding = finding(&status);
                assert!(finding.next.is_some(), "{finding}");
                finding.code.into_owned()
            }
        };
        *self.0.lock().unwrap().entry(code.clone()).or_default() += 1;
        code
    }
}

/// Joins as an agent does: who is told to ask again does, with the same token and key. What it was about to be issued on was
/// being erased then.
async fn join(fixture: &Fixture, name: &str, overtaken: &AtomicUsize) {
    let token = fixture.token(name).await;
    let key = Arc::new(KeyPair::generate(Algorithm::EcdsaP256).unwrap());
    for _ in 0..TRIES {
        let Err(status) = fixture.join_as(&token, Arc::clone(&key)).await else {
            return;
        };
        let finding = finding(&status);
        assert_eq!(finding.code, "ISSUE-OVERTAKEN", "{finding}");
        assert!(finding.next.is_some(), "{finding}");
        overtaken.fetch_add(1, Ordering::Relaxed);
    }
    panic!("{name} does not come in");
}

/// The newest verdict of a machine.
async fn verdict(fixture: &Fixture, name: &str) -> u64 {
    let node = format!("spiffe://example.org/trilith/node/{name}");
    let verdicts = fixture.records(&["verdict"]).await;
    let mut theirs = verdicts.iter();
    let newest = theirs.rfind(|(_, one)| one["body"]["node"] == node.as_str());
    newest.unwrap().0
}

/// Of each content that a verdict names: the last verdict that does, and the last erasure of it after which there is none.
async fn last_words(fixture: &Fixture) -> BTreeMap<String, (u64, Option<u64>)> {
    let mut words: BTreeMap<String, (u64, Option<u64>)> = BTreeMap::new();
    for (index, verdict) in fixture.records(&["verdict"]).await {
        let facts = &verdict["body"]["facts_blob"]["sha256"];
        let evidence = verdict["body"]["evidence"].as_array().into_iter().flatten();
        let evidence = evidence.map(|one| &one["sha256"]);
        for named in evidence.chain([facts]).filter_map(Value::as_str) {
            words.entry(named.to_owned()).or_default().0 = index;
        }
    }
    for (index, erasure) in fixture.records(&["erasure"]).await {
        for item in erasure["body"]["erased"].as_array().unwrap() {
            let word = words.get_mut(item["sha256"].as_str().unwrap());
            if let Some((named, erased)) = word {
                *erased = (index > *named).then_some(index);
            }
        }
    }
    words
}

async fn as_the_last_words_say(fixture: &Fixture) {
    let words = last_words(fixture).await;
    for (sha256, (named, erased)) in &words {
        assert_eq!(
            blob(fixture, sha256).exists(),
            erased.is_none(),
            "{sha256}, named by {named}, erased by {erased:?}"
        );
    }
    for name in MACHINES {
        let (index, opening) = issued(fixture, &format!("trilith/node/{name}")).await;
        assert!(blob(fixture, &opening).exists(), "{name}, record {index}");
        let report = verified(fixture, &record(verdict(fixture, name).await)).await;
        assert!(report.is_complete(), "{name}: {:?}", report.doubts);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_joins_bring_while_it_is_erased_is_as_the_last_record_says() {
    let mut fixture = Fixture::start().await;
    let (tally, joining) = (Tally::default(), AtomicUsize::new(MACHINES.len()));
    let overtaken = AtomicUsize::new(0);
    {
        let (fixture, tally, joining) = (&fixture, &tally, &joining);
        let overtaken = &overtaken;
        // Each is given away and comes back, while somebody erases what it has left.
        let joiners = MACHINES.map(|name| async move {
            join(fixture, name, overtaken).await;
            let mut admin = fixture.admin().await;
            for round in 0..ROUNDS {
                let left = verdict(fixture, name).await;
                let request = v1::RevokeRequest {
                    kind: "machine".to_owned(),
                    value: name.to_owned(),
                    reason: "a laptop that was given back".to_owned(),
                };
                admin.revoke(request).await.unwrap();
                // However busy this machine is, some of them are done before it returns.
                if round % 5 == 0 {
                    while tally.erase(&mut admin, of_record(left)).await == "SERVER-BUSY" {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                }
                let erasing = tally.erase(&mut admin, of_record(left));
                let returning = async {
                    tokio::time::sleep(Duration::from_millis(round * 7 % 20)).await;
                    fixture.readmit(name).await;
                    join(fixture, name, overtaken).await;
                };
                futures::join!(erasing, returning);
            }
            joining.fetch_sub(1, Ordering::Relaxed);
        });
        let erasers = [0_u64, 1].map(|number| async move {
            let mut random = number + 7;
            let mut admin = fixture.admin().await;
            while joining.load(Ordering::Relaxed) > 0 {
                random = random.wrapping_mul(6_364_136_223_846_793_005);
                random = random.wrapping_add(1);
                let pick = random >> 33;
                let verdicts = fixture.records(&["verdict"]).await;
                let place = usize::try_from(pick).unwrap() % verdicts.len().max(1);
                let request = match (verdicts.get(place), pick % 4) {
                    (Some((index, _)), 1..) => of_record(*index),
                    _ => of(&format!("trilith/node/{}", MACHINES[place % 3]), true),
                };
                tally.erase(&mut admin, request).await;
            }
        });
        futures::join!(join_all(joiners), join_all(erasers));
    }
    let told = tally.0.into_inner().unwrap();
    println!("{told:?}, {overtaken:?} joins were overtaken");
    let known = [
        "done",
        "ERASE-LIVE",
        "ERASE-NEEDED",
        "ERASE-NOTHING",
        "SERVER-BUSY",
    ];
    assert!(
        told.keys().all(|code| known.contains(&code.as_str())),
        "{told:?}"
    );
    assert!(told.contains_key("done"), "{told:?}");
    as_the_last_words_say(&fixture).await;
    fixture.restart().await;
    as_the_last_words_say(&fixture).await;
}
