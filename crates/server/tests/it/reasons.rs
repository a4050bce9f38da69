//! Reasons of administrators: recorded whole, or refused by the code that the command line refuses by; of what cannot wait,
//! recorded as far as there is room.

use crate::harness::{Fixture, finding};
use proto::v1;
use tonic::Status;

/// They were cut, and whoever read the ledger did not see that.
#[tokio::test(flavor = "multi_thread")]
async fn a_reason_that_would_not_be_recorded_whole_is_refused_and_nothing_is_done() {
    let fixture = Fixture::start().await;
    fixture.join("m1").await;
    let longest = "ö".repeat(server::LONGEST_REASON);
    let long = format!("{longest}x");
    let mut admin = fixture.admin().await;
    let revoke = |kind: &str, value: &str, reason: &str| v1::RevokeRequest {
        kind: kind.to_owned(),
        value: value.to_owned(),
        reason: reason.to_owned(),
    };
    let restore = |reason: &str| v1::RestoreRequest {
        identity: "payments/api".to_owned(),
        reason: reason.to_owned(),
    };
    let readmit = |reason: &str| v1::ReadmitRequest {
        node: "m1".to_owned(),
        reason: reason.to_owned(),
    };
    let refused = |status: Status| assert_eq!(finding(&status).code, "REASON-LONG");
    let erase = v1::EraseRequest {
        records: vec![0],
        reason: long.clone(),
        ..v1::EraseRequest::default()
    };
    refused(admin.erase(erase).await.unwrap_err());
    let done = fixture.records(&["revocation", "erasure"]).await;
    assert!(done.is_empty(), "{done:?}");

    // Whole, to the last character; and then there is something to restore and to readmit.
    let whole = admin.revoke(revoke("identity", "payments/api", &longest));
    whole.await.unwrap();
    admin
        .revoke(revoke("machine", "m1", &longest))
        .await
        .unwrap();
    let done = fixture.records(&["revocation"]).await;
    assert_eq!(done.len(), 2);
    for (_, record) in done {
        assert_eq!(record["body"]["reason"], longest.as_str());
    }
    refused(admin.restore(restore(&long)).await.unwrap_err());
    refused(admin.readmit(readmit(&long)).await.unwrap_err());
    admin.restore(restore(&longest)).await.unwrap();
    admin.readmit(readmit(&longest)).await.unwrap();
}

/// Revoking and taking back were refused for the length of their words.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_stays_for_the_length_of_the_reason_why_he_goes() {
    let fixture = Fixture::start().await;
    fixture.join("m1").await;
    let long = "ö".repeat(server::LONGEST_REASON + 1);
    let cut = format!("{}…", "ö".repeat(server::LONGEST_REASON - 1));
    let mut admin = fixture.admin().await;
    for (kind, value) in [("identity", "payments/api"), ("machine", "m1")] {
        let request = v1::RevokeRequest {
            kind: kind.to_owned(),
            value: value.to_owned(),
            reason: long.clone(),
        };
        let told = admin.revoke(request).await.unwrap().into_inner().json;
        assert!(told.contains(&cut), "{told}");
    }
    let done = fixture.records(&["revocation"]).await;
    assert_eq!(done.len(), 2);
    for (_, record) in done {
        assert_eq!(record["body"]["reason"], cut.as_str());
    }
}
