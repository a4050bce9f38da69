//! What an enclave cannot get past: each lie with its code, and nobody joins.

use super::{
    Asked, INSTANCE, Site, answered, honest, honest_sgx, key, nitro, of_nitro, of_sgx, renew, sgx,
};
use crate::harness::finding;
use crate::tee_forged::forge_intel::Platform;
use crate::tee_forged::forge_nitro::{Enclave, NULL, bytes, number};
use crate::tee_forged::{sgx_bundle, sgx_enclave};
use crypto::Signer as _;
use facts::Timestamp;
use proto::v1::EnclaveFinishRequest;
use proto::v1::join_client::JoinClient;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn each_lie_of_a_nitro_enclave_is_refused_and_nobody_joins() {
    let site = Site::start(&nitro(), "").await;
    type Change = fn(&mut Enclave);
    let at = |it: &mut Enclave, at: Timestamp| it.set("timestamp", number(at.as_millis()));
    let cases: [(&str, &str, Change); 16] = [
        ("TEE-NITRO-NONCE", "another nonce", |it| {
            it.set("nonce", bytes(&[7; 32]));
        }),
        ("TEE-NITRO-NONCE", "no nonce", |it| {
            it.set("nonce", vec![NULL]);
        }),
        ("TEE-NITRO-USER-DATA", "of another connection", |it| {
            it.set("user_data", bytes(&[7; 64]));
        }),
        ("TEE-NITRO-USER-DATA", "of none", |it| {
            it.set("user_data", vec![NULL]);
        }),
        ("TEE-NITRO-PUBLIC-KEY", "for another key", |it| {
            let other = key().public_key().spki_der().to_vec();
            it.set("public_key", bytes(&other));
        }),
        ("TEE-NITRO-PUBLIC-KEY", "for none", |it| {
            it.set("public_key", vec![NULL]);
        }),
        ("TEE-NITRO-IMAGE", "another image", |it| {
            it.pcrs.insert(0, [9; 48]);
        }),
        ("TEE-NITRO-IMAGE", "signed by another", |it| {
            it.pcrs.insert(8, [8; 48]);
        }),
        ("TEE-NITRO-IMAGE", "started by another role", |it| {
            it.pcrs.insert(3, [8; 48]);
        }),
        (
            "TEE-NITRO-IMAGE",
            "without a register that is asked for",
            |it| {
                it.pcrs.remove(&3);
            },
        ),
        ("TEE-NITRO-DEBUG", "in debug mode", |it| {
            it.pcrs = (0..16).map(|pcr| (pcr, [0; 48])).collect();
        }),
        ("TEE-NITRO-KIND", "of the instance's NitroTPM", |it| {
            it.pcrs_name = "nitrotpm_pcrs";
        }),
        ("TEE-NITRO-SIGNATURE", "signed by another key", |it| {
            it.signed_by_other = true;
        }),
        ("TEE-NITRO-CHAIN", "certified by another", |it| {
            it.leaf_by_other = true;
        }),
        (
            "TEE-NITRO-STRUCTURE",
            "with headers outside the signature",
            |it| {
                it.unprotected = vec![0xa1, 0x04, 0x41, 0x01];
            },
        ),
        ("TEE-NITRO-STRUCTURE", "with bytes behind it", |it| {
            it.after = vec![0];
        }),
    ];
    for (code, what, change) in cases {
        let refused = site.refused("nitro", |finish, asked| {
            let mut enclave = of_nitro(asked);
            change(&mut enclave);
            finish.report = enclave.document();
        });
        assert_eq!(refused.await.code, code, "{what}");
    }
    for (what, when) in [
        ("made ten minutes ago", Timestamp::now().minus_secs(600)),
        ("made in ten minutes", Timestamp::now().plus_secs(600)),
    ] {
        let refused = site.refused("nitro", |finish, asked| {
            let mut enclave = of_nitro(asked);
            at(&mut enclave, when);
            finish.report = enclave.document();
        });
        assert_eq!(refused.await.code, "TEE-NITRO-TIME", "{what}");
    }
    // Against AWS's own root.
    site.ask(&nitro().replace("root = \"lab-nitro\"\n", ""))
        .await;
    let refused = site.refused("nitro", |finish, asked| finish.report = honest(asked));
    assert_eq!(refused.await.code, "TEE-NITRO-CHAIN");
    nobody(&site).await;
}

async fn nobody(site: &Site) {
    assert_eq!(site.count("node-state").await, 0, "nobody joined");
    assert_eq!(
        site.count("verdict").await,
        0,
        "nobody is known of whom to record"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_lie_of_an_enclave_of_sgx_is_refused_and_nobody_joins() {
    let site = Site::start(&sgx(), "").await;
    type Change = fn(&mut Platform);
    let cases: [(&str, &str, Change); 11] = [
        ("TEE-SGX-REPORT-DATA", "for another question", |it| {
            it.put(320, &[0; 64]);
        }),
        ("TEE-SGX-REPORT-DATA", "with bytes behind the hash", |it| {
            it.put(383, &[1]);
        }),
        ("TEE-SGX-DEBUG", "that may be debugged", |it| {
            it.put(48, &[0x07])
        }),
        ("TEE-SGX-DEBUG", "that was never initialised", |it| {
            it.put(48, &[0x04]);
        }),
        ("TEE-SGX-IMAGE", "another enclave", |it| it.put(64, &[0])),
        ("TEE-SGX-IMAGE", "an older one", |it| it.put(258, &[8, 0])),
        ("TEE-INTEL-SIGNATURE", "signed by another key", |it| {
            it.wrong.quote = true;
        }),
        (
            "TEE-INTEL-QE-BINDING",
            "by a key of no quoting enclave",
            |it| {
                it.bind_key = false;
            },
        ),
        (
            "TEE-INTEL-QE-SIGNATURE",
            "by another platform's enclave",
            |it| {
                it.wrong.qe_report = true;
            },
        ),
        (
            "TEE-INTEL-CHAIN",
            "of a platform that Intel does not know",
            |it| {
                it.wrong.pck = true;
            },
        ),
        ("TEE-INTEL-STRUCTURE", "with bytes behind it", |it| {
            it.tail = vec![1];
        }),
    ];
    for (code, what, change) in cases {
        let refused = site.refused("sgx", |finish, asked| {
            let mut enclave = of_sgx(asked);
            change(&mut enclave);
            finish.report = enclave.quote();
        });
        assert_eq!(refused.await.code, code, "{what}");
    }
    // A trust domain is no enclave, whatever it says of itself.
    let refused = site.refused("sgx", |finish, asked| {
        let mut domain = crate::tee_forged::domain();
        domain.put(520, &asked.data);
        finish.report = domain.quote();
    });
    assert_eq!(refused.await.code, "TEE-SGX-KIND");
    // Against Intel's own root.
    site.ask(&sgx().replace("root = \"lab-sgx\"\n", "")).await;
    let refused = site.refused("sgx", |finish, asked| finish.report = honest_sgx(asked));
    assert_eq!(refused.await.code, "TEE-INTEL-CHAIN");
    nobody(&site).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_of_sgx_is_as_good_as_its_collateral_of_today_says() {
    let site = Site::start(&sgx(), "").await;
    let refused = || site.refused("sgx", |finish, asked| finish.report = honest_sgx(asked));
    site.endorse("{\"version\": 1}");
    let missing = refused().await;
    assert_eq!(missing.code, "TEE-ENDORSEMENT-MISSING");
    assert!(
        missing
            .expected
            .unwrap()
            .contains("for SGX of FMSPC f0f0f0f0f0f0")
    );
    let next = missing.next.unwrap();
    assert!(next.contains("trilith attest endorsements fetch"), "{next}");

    let of = |change: fn(&mut Platform)| {
        let mut enclave = sgx_enclave(&[0; 64]);
        change(&mut enclave);
        sgx_bundle(&enclave)
    };
    type Change = fn(&mut Platform);
    let old: [(&str, Change); 4] = [
        ("TEE-INTEL-TCB", |it| {
            it.tcb_info["tcbLevels"][0]["tcbStatus"] = json!("OutOfDate");
        }),
        ("TEE-INTEL-EVALUATION", |it| {
            it.tcb_info["tcbEvaluationDataNumber"] = json!(16);
        }),
        ("TEE-INTEL-COLLATERAL", |it| it.wrong.tcb_info = true),
        ("TEE-INTEL-COLLATERAL-TIME", |it| {
            it.tcb_info["nextUpdate"] = json!("2026-01-01T00:00:00Z");
        }),
    ];
    for (code, change) in old {
        site.endorse(&of(change));
        assert_eq!(refused().await.code, code);
    }
    nobody(&site).await;

    // What lacks on this side is not held against an enclave that stands.
    site.endorse(&of(|_| {}));
    let machine = site.join("sgx", honest_sgx).await.unwrap();
    site.endorse("{\"version\": 1}");
    let lacking = renew(&machine, [1; 16], "sgx", |finish, asked| {
        finish.report = honest_sgx(asked);
    });
    let lacking = lacking.await.err().unwrap();
    assert_eq!(finding(&lacking).code, "TEE-ENDORSEMENT-MISSING");
    assert_eq!(site.count("revocation").await, 0);
    // What is known against it is.
    site.endorse(&of(|it| {
        it.tcb_info["tcbLevels"][0]["tcbStatus"] = json!("Revoked");
    }));
    let revoked = renew(&machine, [2; 16], "sgx", |finish, asked| {
        finish.report = honest_sgx(asked);
    });
    assert_eq!(finding(&revoked.await.err().unwrap()).code, "TEE-INTEL-TCB");
    assert_eq!(site.count("revocation").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_counts_once_on_its_connection_for_the_key_that_is_held() {
    let site = Site::start(&nitro(), "").await;
    type Change = fn(&mut EnclaveFinishRequest, &Asked);
    let cases: [(&str, &str, Change); 8] = [
        ("JOIN-SESSION", "to no challenge", |finish, _| {
            finish.session = vec![7; 32];
        }),
        (
            "JOIN-PROOF",
            "by whoever does not hold the key",
            |finish, asked| {
                finish.proof = key().sign(&asked.data).unwrap();
            },
        ),
        (
            "JOIN-PROOF",
            "for a key that was put in its place",
            |finish, _| {
                finish.public_key = key().public_key().spki_der().to_vec();
            },
        ),
        ("JOIN-PROOF", "as another instance", |finish, _| {
            finish.instance = vec![7; 16];
        }),
        ("ENCLAVE-STRUCTURE", "as no instance", |finish, _| {
            finish.instance = Vec::new();
        }),
        (
            "ENCLAVE-STRUCTURE",
            "of a kind that has a TPM",
            |finish, _| {
                finish.kind = "tdx".to_owned();
            },
        ),
        ("ENCLAVE-STRUCTURE", "without end", |finish, _| {
            finish.report = vec![0; 40_000];
        }),
        ("KEY-FORM", "with a key that is none", |finish, _| {
            finish.public_key = vec![0x30; 91];
        }),
    ];
    for (code, what, change) in cases {
        let refused = site.refused("nitro", |finish, asked| {
            finish.report = honest(asked);
            change(finish, asked);
        });
        assert_eq!(refused.await.code, code, "{what}");
    }
    // With a proof of its own, another instance or key is not the one that the hardware speaks of.
    let other = key();
    let stolen = site.refused("nitro", |finish, asked| {
        finish.report = honest(asked);
        finish.public_key = other.public_key().spki_der().to_vec();
        finish.proof = other.sign(&asked.data).unwrap();
    });
    assert_eq!(
        stolen.await.code,
        "JOIN-PROOF",
        "the transcript has the key"
    );

    // Over another connection, by a relay that has all of it but the connection.
    let own = key();
    let (asked_over, anchors) = site.link().await;
    let (mut finish, asked) = answered(&asked_over, anchors.as_ref(), &own, "nitro").await;
    finish.report = honest(&asked);
    let (other, _) = site.link().await;
    let mut relay = JoinClient::new(other.channel);
    let relayed = relay.enclave_finish(finish.clone()).await;
    assert_eq!(finding(&relayed.unwrap_err()).code, "JOIN-CHANNEL");
    // The session is spent by that.
    let mut late = JoinClient::new(asked_over.channel);
    let late = late.enclave_finish(finish).await;
    assert_eq!(finding(&late.unwrap_err()).code, "JOIN-SESSION");

    // What was made for another connection's challenge, with its own nonce put in.
    let (first, anchors) = site.link().await;
    let (_, elsewhere) = answered(&first, anchors.as_ref(), &own, "nitro").await;
    let replayed = site.refused("nitro", |finish, asked| {
        let mut enclave = of_nitro(asked);
        enclave.set("user_data", bytes(&elsewhere.data));
        finish.report = enclave.document();
    });
    assert_eq!(replayed.await.code, "TEE-NITRO-USER-DATA");
    nobody(&site).await;

    // Twice.
    let (link, anchors) = site.link().await;
    let (mut finish, asked) = answered(&link, anchors.as_ref(), &own, "nitro").await;
    finish.report = honest(&asked);
    let mut client = JoinClient::new(link.channel);
    client.enclave_finish(finish.clone()).await.unwrap();
    let twice = client.enclave_finish(finish).await.unwrap_err();
    assert_eq!(finding(&twice).code, "JOIN-SESSION");
    assert_eq!(INSTANCE.len(), 16);
}

/// Bytes all over the document and the quote, each changed on its own, sent to a server; the verifiers' own tests
/// change every one.
#[tokio::test(flavor = "multi_thread")]
async fn evidence_that_was_changed_on_its_way_is_refused_wherever_it_was() {
    let site = Site::start(&(nitro() + &sgx()), "").await;
    type Make = fn(&Asked) -> Vec<u8>;
    let kinds: [(&str, Make, usize); 2] = [("nitro", honest, 53), ("sgx", honest_sgx, 71)];
    for (kind, make, step) in kinds {
        let mut length = 1;
        let mut at = 0;
        while at < length {
            let refused = site.refused(kind, |finish, asked| {
                let mut report = make(asked);
                length = report.len();
                // Lines of a chain may be broken anyhow.
                while report[at] == b'\n' {
                    at += 1;
                }
                report[at] ^= 1;
                finish.report = report;
            });
            let code = refused.await.code;
            assert!(code.starts_with("TEE-"), "{kind} {at}: {code}");
            at += step;
        }
        assert!(length > 1_000, "{kind}");
    }
    nobody(&site).await;
}
