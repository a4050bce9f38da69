//! Joining by TPM, with a software chip whose maker this estate names.

use crate::harness::{DOMAIN, Fixture, Link, estate, finding};
use crypto::{Algorithm, KeyPair};
use proto::v1;
use proto::v1::join_client::JoinClient;
use spiffe_core::TrustDomain;
use std::sync::Arc;
use svid_tls::{BundleSource, OwnSvid};
use testkit::swtpm::Swtpm;

pub(crate) async fn start(chip: &Swtpm, configuration: &str) -> Fixture {
    let fixture = Fixture::configured(configuration).await;
    let pem =
        [chip.root_pem(), chip.issuer_pem()].map(|path| std::fs::read_to_string(path).unwrap());
    let mut files = estate();
    files.insert(
        "references/tpm.toml",
        format!(
            "[[tpm_root]]\nname = \"test\"\nemulated = true\npem = '''\n{}'''\n",
            pem.concat()
        ),
    );
    fixture.apply(&files).await.unwrap();
    fixture
}

pub(crate) async fn pin(fixture: &Fixture) -> String {
    fixture.status().await["pin"].as_str().unwrap().to_owned()
}

/// The chip, known by a paravisor's key where it has one.
pub(crate) fn opened(uri: &str) -> device::tpm::Tpm {
    let mut chip = device::tpm::Tpm::open(uri).unwrap();
    match chip.read_public(0x8100_0003).unwrap() {
        Some(_) => chip.by_paravisor(),
        None => chip,
    }
}

pub(crate) async fn evidence(
    fixture: &Fixture,
    chip: &Swtpm,
    key: &Arc<KeyPair>,
) -> (Link, v1::TpmFinishRequest) {
    let anchors = fixture.anchors(&pin(fixture).await).await;
    let link = Link::dial(fixture.address(), OwnSvid::empty(), Arc::clone(&anchors)).await;
    let finish = answer(&link, anchors.as_ref(), chip, key).await;
    (link, finish)
}

/// The chip answers a challenge over `link`, and vouches for `key`.
pub(crate) async fn answer(
    link: &Link,
    anchors: &dyn BundleSource,
    chip: &Swtpm,
    key: &Arc<KeyPair>,
) -> v1::TpmFinishRequest {
    answered(link, anchors, chip, key).await.0
}

/// As [`answer`], with what a report of the machine's hardware has to be of.
pub(crate) async fn answered(
    link: &Link,
    anchors: &dyn BundleSource,
    chip: &Swtpm,
    key: &Arc<KeyPair>,
) -> (v1::TpmFinishRequest, [u8; 64]) {
    let now = facts::Timestamp::now();
    let server = svid_tls::peer::validate(&link.server, anchors, now).unwrap();
    let channel = attest_tpm::Channel {
        trust_domain: TrustDomain::new(DOMAIN).unwrap().as_str().to_owned(),
        server_key: server.public_key.spki_der().to_vec(),
        exporter: link.exporter.to_vec(),
    };
    let uri = chip.uri();
    let begun =
        tokio::task::spawn_blocking(move || device::tpm::join::Join::begin(opened(&uri)).unwrap())
            .await
            .unwrap();
    let request = begun.request();
    let challenge = JoinClient::new(link.channel.clone())
        .tpm_challenge(v1::TpmChallengeRequest {
            ek_public: request.ek_public.clone(),
            ek_certificate: request.ek_certificate.clone(),
            ak_public: request.ak_public.clone(),
            ak_certificate: request.ak_certificate.clone(),
            identity_public: request.identity_public.clone(),
        })
        .await
        .unwrap()
        .into_inner();
    let session = challenge.session.clone();
    let challenge = attest_tpm::Challenge {
        credential_blob: challenge.credential_blob,
        encrypted_secret: challenge.encrypted_secret,
        nonce: challenge.nonce.try_into().unwrap(),
        nonce_random: challenge.nonce_random.try_into().unwrap(),
        nonce_checkpoint: challenge.nonce_checkpoint,
        pcrs: challenge.pcrs,
    };
    let key = Arc::clone(key);
    let ak = attest_tpm::SigningKey::attestation(&request.ak_public).unwrap();
    let asked = attest::transcript::tee_report_data(ak.key.spki_der(), &challenge.nonce);
    let answer = tokio::task::spawn_blocking(move || {
        begun
            .answer(&challenge, &channel, Some(key.as_ref()))
            .unwrap()
    })
    .await
    .unwrap();
    let finish = v1::TpmFinishRequest {
        session,
        activated_secret: answer.activated_secret,
        quote: answer.quote,
        quote_signature: answer.quote_signature,
        certify: answer.certify,
        certify_signature: answer.certify_signature,
        pcr_values: answer.pcr_values,
        event_log: answer.event_log,
        session_key: answer.session_key,
        session_key_proof: answer.session_key_proof,
        vouch: answer.vouch,
        join_state: Vec::new(),
        renewal_id: Vec::new(),
        ima_list: answer.ima_list,
        tee: None,
    };
    (finish, asked)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_joins_by_its_tpm_and_an_answer_counts_once_on_its_connection() {
    let chip = match Swtpm::start() {
        Ok(chip) => chip,
        Err(missing) => {
            testkit::skip("server.tpm-join", &missing.to_string());
            return;
        }
    };
    let fixture = start(&chip, "").await;
    let key = Arc::new(KeyPair::generate(Algorithm::EcdsaP256).unwrap());
    let (link, finish) = evidence(&fixture, &chip, &key).await;
    let joined = JoinClient::new(link.channel.clone())
        .tpm_finish(finish.clone())
        .await
        .unwrap()
        .into_inner();
    assert!(
        joined
            .node_id
            .starts_with("spiffe://example.org/trilith/node/tpm-")
    );
    let verdict: facts::Stated = serde_json::from_slice(&joined.verdict).unwrap();
    assert_eq!(verdict.facts.text("machine.tpm.kind"), Some("emulated"));
    assert_eq!(verdict.facts.text("machine.boot.state"), Some("unknown"));
    let bundle = joined.bundle.clone().unwrap();
    let ledger = fixture.ledger_key().await;
    crate::harness::verify(&joined.certificate_chain, &bundle, &ledger);

    let again = JoinClient::new(link.channel)
        .tpm_finish(finish)
        .await
        .unwrap_err();
    assert_eq!(finding(&again).code, "JOIN-SESSION");

    let (_, stolen) = evidence(&fixture, &chip, &key).await;
    let anchors = fixture.anchors(&pin(&fixture).await).await;
    let other = Link::dial(fixture.address(), OwnSvid::empty(), anchors).await;
    let refused = JoinClient::new(other.channel)
        .tpm_finish(stolen)
        .await
        .unwrap_err();
    assert_eq!(finding(&refused).code, "JOIN-CHANNEL");
}
