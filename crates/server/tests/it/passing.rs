//! What the ledger says of machines that are as they should be, and what ends by its date.

use crate::attesting::{SLOW, connect, ended, pass, refused};
use crate::harness::{Fixture, PATIENCE, finding};
use crate::kernel::{Kernel, LISTED, content, question, references};
use facts::Timestamp;
use ledger::body::Attested;
use proto::v1;
use proto::v1::node_message::Message;
use references::Withdrawal;
use serde_json::Value;
use std::time::Duration;

async fn attested(fixture: &Fixture, count: usize) -> Vec<Attested> {
    let seen = async {
        loop {
            let records = fixture.records(&["attested"]).await;
            if records.len() >= count {
                let bodies = records.iter().map(|(_, record)| record["body"].clone());
                let bodies = bodies.map(|body| serde_json::from_value(body).unwrap());
                return bodies.collect();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, seen)
        .await
        .expect("a record")
}

#[tokio::test(flavor = "multi_thread")]
async fn good_answers_are_recorded_together() {
    let Some(mut kernel) = Kernel::boot("server.attested") else {
        return;
    };
    let fixture = kernel.fixture(&format!("{SLOW}record_s = 2\n")).await;
    let machine = kernel.join(&fixture).await.unwrap();
    let mut sync = connect(&machine).await;
    let mut asked = question(&mut sync).await;
    for _ in 0..3 {
        kernel.measure(LISTED, content(LISTED));
        asked = pass(&kernel, &mut sync, &asked).await;
    }
    let recorded = attested(&fixture, 1).await;
    let answers: u64 = recorded.iter().map(|body| body.answers.0).sum();
    assert!((1..=3).contains(&answers), "{recorded:?}");
    let first = &recorded[0];
    assert_eq!(first.node, "m1");
    assert!(first.from <= first.to, "{first:?}");
    assert!(
        first.entries.is_some_and(|entries| entries.0 >= 3),
        "{first:?}"
    );
    let estates = fixture.records(&["estate-version"]).await;
    let estate = &estates.last().unwrap().1["body"]["version"];
    assert_eq!(first.estate.to_string(), estate.as_str().unwrap());
}

/// Not an hour later.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_good_before_an_eviction_is_recorded_with_it() {
    let Some(mut kernel) = Kernel::boot("server.attested-evicted") else {
        return;
    };
    let fixture = kernel.fixture(SLOW).await;
    let machine = kernel.join(&fixture).await.unwrap();
    let mut sync = connect(&machine).await;
    let asked = question(&mut sync).await;
    let asked = pass(&kernel, &mut sync, &asked).await;
    kernel.measure("/tmp/evil", [9; 32]);
    let answer = kernel.answer(&asked).await;
    sync.send(Message::Attestation(answer)).await;
    assert_eq!(refused(&fixture, 1).await[0].code, "IMA-FILE");
    ended(&mut sync).await;
    let recorded = attested(&fixture, 1).await;
    let entries = u64::try_from(kernel.entries.len()).unwrap() - 1;
    assert_eq!(recorded[0].entries.unwrap().0, entries);
}

/// What `trilith attest ask` prints, and who cannot be asked.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_asked_when_an_administrator_wants_to_know() {
    let Some(mut kernel) = Kernel::boot("server.attest-ask") else {
        return;
    };
    let fixture = kernel
        .fixture("[attestation]\ninterval_s = 600\nwindow_s = 1200\n")
        .await;
    let ask = async |node: &str| {
        let request = v1::AttestAskRequest {
            node: node.to_owned(),
        };
        let answer = fixture.admin().await.attest_ask(request).await?;
        let json: Value = serde_json::from_str(&answer.into_inner().json).unwrap();
        Ok::<_, tonic::Status>(json)
    };
    drop(fixture.join("t1").await);
    let machine = kernel.join(&fixture).await.unwrap();
    for node in ["nobody", "t1", "m1"] {
        let refused = ask(node).await.err().unwrap();
        assert_eq!(finding(&refused).code, "ATTEST-NOT-ASKED", "{node}");
    }
    let mut sync = connect(&machine).await;
    let first = question(&mut sync).await;
    sync.send(Message::Attestation(kernel.answer(&first).await))
        .await;
    kernel.measure(LISTED, content(LISTED));
    let answering = async {
        let asked = question(&mut sync).await;
        let answer = kernel.answer(&asked).await;
        sync.send(Message::Attestation(answer)).await;
    };
    let (answer, ()) = tokio::join!(ask("m1"), answering);
    let answer = answer.unwrap();
    assert_eq!(answer["outcome"], "passed");
    assert_eq!(answer["ima_entries"], kernel.entries.len());

    kernel.measure("/tmp/evil", [9; 32]);
    let answering = async {
        let asked = question(&mut sync).await;
        let answer = kernel.answer(&asked).await;
        sync.send(Message::Attestation(answer)).await;
    };
    let (answer, ()) = tokio::join!(ask("m1"), answering);
    assert_eq!(answer.unwrap()["outcome"], "evicted");
    let refused = ask("m1").await.err().unwrap();
    assert_eq!(finding(&refused).code, "ATTEST-NOT-ASKED");
}

/// Nothing changes in the estate: its end was said beforehand.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_ends_by_its_date_evicts_while_its_machine_goes_on() {
    let Some(kernel) = Kernel::boot("server.attest-ends") else {
        return;
    };
    let fixture = kernel.fixture(SLOW).await;
    let mut ending = references(&[]);
    ending.withdrawn.push(Withdrawal {
        name: "listed".to_owned(),
        version: None,
        at: Timestamp::now().plus_secs(14),
        reason: "end of life".to_owned(),
    });
    fixture.apply(&kernel.estate(Some(&ending))).await.unwrap();
    let machine = kernel.join(&fixture).await.unwrap();
    let mut sync = connect(&machine).await;
    let first = question(&mut sync).await;
    let mut asked = pass(&kernel, &mut sync, &first).await;
    for _ in 0..20 {
        if asked.ima_entries == 0 {
            break;
        }
        sync.send(Message::Attestation(kernel.answer(&asked).await))
            .await;
        asked = question(&mut sync).await;
    }
    assert_eq!(asked.ima_entries, 0, "the whole list is judged anew");
    let answer = kernel.answer(&asked).await;
    sync.send(Message::Attestation(answer)).await;
    let found = refused(&fixture, 1).await;
    assert_eq!(found[0].code, "IMA-EXPIRED");
    let observed = found[0].observed.as_deref().unwrap();
    assert!(observed.contains("end of life"), "{observed}");
    ended(&mut sync).await;
}
