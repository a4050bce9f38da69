//! One ledger, two streams, one anchor: whoever is about to record one keeps the others from looking at the anchor in
//! force.

use super::{anchored, fill, with_anchor};
use crate::follower::Gateway;
use crate::surviving::copy;
use ledger_store::Ledger;
use proto::v1::gateway_message::Message;
use proto::v1::{GatewayHead, RecoverRequest, SegmentData, delta};
use std::time::Duration;

async fn head(gateway: &Gateway, ledger: &Ledger) {
    let head = GatewayHead {
        checkpoint: ledger.reader().head().note.as_ref().to_owned(),
        consistency: Vec::new(),
        old_size: 0,
    };
    gateway.send(Message::Head(head)).await;
}

/// Gives the server the records that it asks for, until it has all of them.
async fn give(gateway: &mut Gateway, ledger: &Ledger) {
    loop {
        if let delta::Delta::Fetch(fetch) = gateway.next().await.unwrap() {
            let size = ledger.reader().size();
            let end = size.min(fetch.from_index + 130);
            let records = ledger.reader().read(fetch.from_index..end).unwrap();
            let segment = SegmentData {
                request: fetch.request,
                first_index: fetch.from_index,
                records,
                checkpoint: String::new(),
            };
            gateway.send(Message::Segment(segment)).await;
            if end == size {
                return;
            }
        }
    }
}

/// Size and record of the anchor.
async fn told(gateway: &mut Gateway) -> (u64, u64) {
    loop {
        if let delta::Delta::Anchored(anchored) = gateway.next().await.unwrap() {
            return (anchored.size, anchored.index);
        }
    }
}

/// While the server may sign nothing, both heads wait to be recorded. What agreed with the anchor in force before the
/// other one was recorded may not be recorded after it.
#[tokio::test(flavor = "multi_thread")]
async fn two_streams_with_one_head_leave_one_anchor() {
    let (mut fixture, gateway, own) = with_anchor().await;
    fixture.stop().await;
    let data = fixture.dir.path().join("data");
    let backup = fixture.dir.path().join("backup");
    copy(&data, &backup);
    fixture.go_on().await;
    fixture.join("m9").await;
    fixture.stop().await;
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::rename(&backup, &data).unwrap();
    fixture.go_on().await;
    let status = fixture.status().await;
    assert_eq!(status["signing"]["code"], "SERVER-BEHIND-PEER", "{status}");

    fill(&own, 1);
    let size = own.reader().size();
    let mut first = gateway.reconnect(&fixture).await;
    first.hello(0, Vec::new()).await;
    head(&first, &own).await;
    give(&mut first, &own).await;
    // The records are kept, and the anchor waits for the server to sign.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut second = first.again().await;
    second.hello(0, Vec::new()).await;
    head(&second, &own).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = fixture.records(&["anchor"]).await.len();

    let reason = "the copy was older".to_owned();
    let recovery = RecoverRequest { reason };
    fixture.admin().await.recover(recovery).await.unwrap();
    let (one, other) = tokio::join!(told(&mut first), told(&mut second));
    assert_eq!(one.0, size);
    assert_eq!(one, other, "both are told of one record");
    let anchors = fixture.records(&["anchor"]).await;
    assert_eq!(anchors.len(), before + 1, "{anchors:?}");
    // And the ledger goes on from there.
    fill(&own, 1);
    let size = own.reader().size();
    assert_eq!(anchored(&mut second, &own, 0).await, Ok(size));
}
