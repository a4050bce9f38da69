//! Verdicts of enclaves are made again from what they keep: of joins and of refusals, and a server that lies about
//! them, with its own ledger's key, is found out.

use super::{Site, honest, honest_sgx, nitro, renew, sgx};
use crate::rechecked::{Liar, rechecked};
use recheck::{Outcome, What};

fn question(index: u64) -> String {
    format!("{{\"kind\":\"record\",\"ledger\":\"server\",\"index\":{index}}}")
}

/// Place and body of the newest verdict.
async fn newest(site: &Site) -> (u64, serde_json::Value) {
    let (index, mut record) = site.fixture.records(&["verdict"]).await.pop().unwrap();
    (index, record["body"].take())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_of_an_enclave_is_made_again_from_its_evidence() {
    let site = Site::start(&(sgx() + &nitro()), "").await;
    for kind in ["nitro", "sgx"] {
        let machine = match kind {
            "nitro" => site.join(kind, honest).await.unwrap(),
            _ => site.join(kind, honest_sgx).await.unwrap(),
        };
        let (index, _) = newest(&site).await;
        // Its own SVID, and that of a workload in it, rest on this verdict.
        assert_eq!(super::held(&machine).await.len(), 1);
        let verdict = format!("{{\"kind\":\"verdict\",\"index\":{index}}}");
        let (report, items) = rechecked(&site.fixture, &verdict).await;
        assert!(report.is_complete(), "{:?}", report.doubts);
        assert_eq!(items.len(), 3, "{kind}: {items:?}");
        for item in items {
            assert_eq!(item.outcome, Outcome::Recomputed, "{kind}: {item:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_an_enclave_is_made_again() {
    let site = Site::start(&nitro(), "").await;
    let mut old = Vec::new();
    let joined = site.join("nitro", |asked| {
        old = honest(asked);
        old.clone()
    });
    let machine = joined.await.unwrap();
    let replayed = renew(&machine, [3; 16], "nitro", |finish, _| finish.report = old);
    assert!(replayed.await.is_err());
    let (index, body) = newest(&site).await;
    assert_eq!(body["outcome"], "refused");
    let (_, items) = rechecked(&site.fixture, &question(index)).await;
    let [item] = items.as_slice() else {
        panic!("{items:?}")
    };
    assert_eq!(
        (item.what, &item.outcome),
        (What::Verdict, &Outcome::Recomputed)
    );
    // The server says that it was for something else.
    let liar = Liar::of(&site.fixture, &question(index), index).await;
    let code = body["findings"][0]["code"].as_str().unwrap();
    assert_eq!(code, "TEE-NITRO-NONCE");
    let told = liar.tells(|text| text.replace("TEE-NITRO-", "TEE-SGX-"), |_| {});
    assert!(
        told.contains("refused for TEE-SGX-NONCE") && told.contains("for TEE-NITRO-NONCE"),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_changes_what_an_enclave_showed_is_found_out() {
    let site = Site::start(&(sgx() + &nitro()), "").await;
    type Lie = (&'static str, usize, &'static str);
    let lies: [(&str, &[Lie]); 2] = [
        // From the end: of the document its signature; of the key's blob the key; of the nonce its random bytes; of
        // the channel the server's key.
        (
            "nitro",
            &[
                ("nitro-document", 1, "TEE-NITRO-SIGNATURE"),
                ("join-nonce", 1, "TEE-NITRO-NONCE"),
                ("join-channel", 1, "TEE-NITRO-USER-DATA"),
                ("enclave-key", 1, "TEE-NITRO-USER-DATA"),
            ],
        ),
        (
            "sgx",
            &[
                ("join-nonce", 1, "TEE-SGX-REPORT-DATA"),
                ("join-channel", 1, "TEE-SGX-REPORT-DATA"),
                ("enclave-key", 1, "TEE-SGX-REPORT-DATA"),
            ],
        ),
    ];
    for (kind, lies) in lies {
        match kind {
            "nitro" => site.join(kind, honest).await.unwrap(),
            _ => site.join(kind, honest_sgx).await.unwrap(),
        };
        let (index, _) = newest(&site).await;
        let liar = Liar::of(&site.fixture, &question(index), index).await;
        for &(blob, back, code) in lies {
            let told = liar.shows(blob, |bytes| {
                let at = bytes.len() - back;
                bytes[at] ^= 1;
            });
            assert!(
                told.contains("its evidence is refused"),
                "{kind} {blob}: {told}"
            );
            assert!(told.contains(code), "{kind} {blob}: {told}");
        }
        // A question of before, in a verdict of an hour later.
        let late = liar.shows_later("join-nonce", 3_600_000, |_| {});
        assert!(late.contains("another time than its record"), "{late}");
    }
}

/// A genuine document of somebody else's enclave, which a server says was shown to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_document_of_another_enclave_affirms_nothing() {
    let Some(recorded) = testkit::evidence().map(|folder| folder.join("nitro")) else {
        testkit::skip("server.recheck-recorded", "no evidence folder with nitro");
        return;
    };
    let site = Site::start(&nitro(), "").await;
    site.join("nitro", honest).await.unwrap();
    let (index, _) = newest(&site).await;
    let liar = Liar::of(&site.fixture, &question(index), index).await;
    for name in ["yawn-attestation.cose", "evervault-valid.bin"] {
        let document = std::fs::read(recorded.join(name)).unwrap();
        let told = liar.shows("nitro-document", |bytes| bytes.clone_from(&document));
        assert!(
            told.contains("its evidence is refused") && told.contains("TEE-NITRO-"),
            "{name}: {told}"
        );
    }
}
