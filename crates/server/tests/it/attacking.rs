//! Things that must not work.

use crate::harness::{Fixture, PROGRAM, program};
use proto::v1;
use proto::v1::join_client::JoinClient;
use server::bench::Node;
use svid_tls::OwnSvid;

#[tokio::test(flavor = "multi_thread")]
async fn an_oversized_message_is_refused_before_it_is_read() {
    let fixture = Fixture::start().await;
    let token = fixture.token("m1").await;
    let anchors = fixture.anchors(&token.pin).await;
    let link = crate::harness::Link::dial(fixture.address(), OwnSvid::empty(), anchors).await;
    let request = v1::TokenJoinRequest {
        token: "x".repeat(5 << 20),
        ..v1::TokenJoinRequest::default()
    };
    let refused = JoinClient::new(link.channel)
        .token(request)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), tonic::Code::OutOfRange, "{refused:?}");
    // And the server goes on.
    fixture.join_with(&token).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_from_another_connection_does_not_count() {
    let fixture = Fixture::start().await;
    let token = fixture.token("m1").await;
    let anchors = fixture.anchors(&token.pin).await;
    let link = crate::harness::Link::dial(fixture.address(), OwnSvid::empty(), anchors).await;
    let key = crypto::KeyPair::generate(crypto::Algorithm::EcdsaP256).unwrap();
    let spki = crypto::Signer::public_key(&key).spki_der().to_vec();
    let signed = crate::harness::transcript(&[
        b"trilith-token-join-v1",
        b"example.org",
        &[7; 32],
        &crypto::sha256(token.token.as_bytes()),
        &spki,
    ]);
    let request = v1::TokenJoinRequest {
        token: token.token.clone(),
        public_key: spki,
        proof: crypto::Signer::sign(&key, &signed).unwrap(),
    };
    let refused = JoinClient::new(link.channel)
        .token(request)
        .await
        .unwrap_err();
    assert_eq!(crate::harness::finding(&refused).code, "JOIN-PROOF");
    // The token was not spent on it.
    fixture.join_with(&token).await.unwrap();
}

/// Whoever judges evidence refuses it; were that forgotten, nobody would be let in all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_verdict_admits_nobody() {
    let fixture = Fixture::start().await;
    let key = crypto::KeyPair::generate(crypto::Algorithm::EcdsaP256).unwrap();
    let key = crypto::Signer::public_key(&key);
    let found = facts::Finding::new("TPM-QUOTE-NONCE", "the quote answers another challenge");
    for (verdict, code) in [
        (
            facts::Verdict::refused(vec![found], Vec::new()),
            "TPM-QUOTE-NONCE",
        ),
        (facts::Verdict::default(), "JOIN-VERDICT"),
    ] {
        let admitted = Node::admit(fixture.running(), "m1", key.clone(), verdict).await;
        assert_eq!(admitted.err().unwrap().code, code);
    }
    let records = fixture.records(&["verdict", "node-state"]).await;
    assert!(records.is_empty(), "{records:?}");
}

/// What is left out could be what is issued on.
#[tokio::test(flavor = "multi_thread")]
async fn a_verdict_that_no_record_holds_is_refused_by_name() {
    let fixture = Fixture::start().await;
    let key = crypto::KeyPair::generate(crypto::Algorithm::EcdsaP256).unwrap();
    let key = crypto::Signer::public_key(&key);
    let every = facts::Warrant::of(facts::Source::Verified, &[""]);
    let verdict = |length: usize| {
        let mut found = facts::FactSet::new();
        let now = facts::Timestamp::now();
        let line = "x".repeat(length);
        found.state("machine.boot.cmdline", line, facts::Source::Verified, now);
        facts::Verdict::affirmed(&every, found, Vec::new())
    };
    let admit =
        async |length| Node::admit(fixture.running(), "m1", key.clone(), verdict(length)).await;
    let refused = admit(17 * 1024).await.err().unwrap();
    assert_eq!(refused.code, "JOIN-VERDICT-SIZE");
    assert!(refused.next.is_some() && refused.expected.is_some());
    assert!(fixture.records(&["verdict"]).await.is_empty());
    admit(8 * 1024).await.map(drop).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_one_identity_does_not_certify_another() {
    let fixture = Fixture::start().await;
    let machine = fixture.join("m1").await;
    let mut sync = machine.sync().await.unwrap();
    let spki = crypto::Signer::public_key(machine.key.as_ref())
        .spki_der()
        .to_vec();
    let request = v1::WorkloadRequest {
        request: 1,
        workload: "w1".to_owned(),
        facts: serde_json::to_vec(&program(1000, PROGRAM)).unwrap(),
        public_keys: vec![spki],
        held: Vec::new(),
    };
    sync.send(v1::node_message::Message::Workload(request))
        .await;
    let v1::node_update::Update::Issued(issued) = sync.next().await.unwrap() else {
        panic!("an answer");
    };
    assert!(issued.svids.is_empty());
    let findings: Vec<facts::Finding> = crate::harness::refusal(&issued);
    assert_eq!(findings[0].code, "KEY-BOUND");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_machine_is_out_at_once() {
    let fixture = Fixture::start().await;
    let machine = fixture.join("m1").await;
    let mut sync = machine.sync().await.unwrap();
    sync.ask("w1", &program(1000, PROGRAM), Vec::new())
        .await
        .unwrap();
    let request = v1::RevokeRequest {
        kind: "machine".to_owned(),
        value: "m1".to_owned(),
        reason: "stolen".to_owned(),
    };
    fixture.admin().await.revoke(request).await.unwrap();
    loop {
        if sync.next().await.is_err() {
            break;
        }
    }
    assert!(machine.sync().await.is_err());
    assert!(machine.renew([1; 16]).await.is_err());
    let token = fixture.token("m1").await;
    let refused = fixture.join_with(&token).await.err().unwrap();
    assert_eq!(crate::harness::finding(&refused).code, "AGENT-LOCKED");
}

/// A workload was issued `trilith/node/NAME` and was taken for that machine, or `trilith/server` and stood in
/// the server's place. Such an estate is applied no more; a ledger of before may still have one in force.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_estate_calls_by_triliths_own_names_is_nobody() {
    use crate::follower::Gateway;
    use crate::harness::{config, estate, finding};
    use proto::v1::node_message::Message;
    use proto::v1::node_update::Update;
    let mut files = estate();
    let own = ["trilith/node/m1", "trilith/node/m2", "trilith/server"];
    let mut identities = files.0["identities/all.toml"].clone();
    let mut policies = String::new();
    for path in own {
        identities.push_str(&format!(
            "[[identity]]\npath = \"{path}\"\nkind = \"gateway\"\nowner = \"nobody\"\n"
        ));
        policies.push_str(&format!(
            "@id(\"{path}\") permit (principal in Pool::\"demo\", action == Action::\"assume\", \
             resource == Identity::\"{path}\")\n\
             when {{ principal has uid && principal.uid == 1000 }};\n"
        ));
    }
    files.insert("identities/all.toml", identities);
    files.insert("policies/evil.cedar", policies);
    let mut fixture = Fixture::start().await;
    fixture.join("m1").await;
    let refused = finding(&fixture.apply(&files).await.unwrap_err());
    assert_eq!(refused.code, "ESTATE-PROBLEMS");
    assert!(
        refused
            .observed
            .as_deref()
            .is_some_and(|seen| seen.contains("ESTATE-IDENTITY-RESERVED")),
        "{refused:?}"
    );

    fixture.stop().await;
    crate::surviving::record_version(fixture.dir.path(), &files);
    fixture.server = Some(server::start(config(fixture.dir.path())).await.unwrap());
    let machine = fixture.join("m2").await;
    let mut sync = machine.sync().await.unwrap();
    let facts = program(1000, PROGRAM);
    let (issued, _) = sync.ask("w1", &facts, Vec::new()).await.unwrap();
    let held: Vec<&str> = issued.svids.iter().map(|svid| &*svid.spiffe_id).collect();
    assert_eq!(held, ["spiffe://example.org/payments/api"]);
    for path in own {
        let id = format!("spiffe://example.org/{path}");
        let refused = issued
            .refused
            .iter()
            .find(|refused| refused.spiffe_id == id);
        let why: Vec<facts::Finding> = serde_json::from_slice(&refused.unwrap().findings).unwrap();
        assert_eq!(why[0].code, "IDENTITY-RESERVED", "{path}");
    }
    // Nor a token.
    let ask = v1::JwtRequest {
        request: 9,
        workload: "w1".to_owned(),
        spiffe_id: "spiffe://example.org/trilith/node/m1".to_owned(),
        audience: vec!["shop".to_owned()],
        without_receipt: false,
    };
    sync.send(Message::Jwt(ask)).await;
    let refused = loop {
        match sync.next().await.unwrap() {
            Update::Refused(refused) => break refused,
            Update::Jwt(issued) => panic!("{} tokens", issued.svids.len()),
            _ => {}
        }
    };
    let refused: facts::Finding = serde_json::from_slice(&refused.finding).unwrap();
    assert_eq!(refused.code, "IDENTITY-RESERVED");
    // A machine that the estate calls a gateway is none.
    let chain = machine.joined.certificate_chain.clone();
    let own = OwnSvid::new(chain, std::sync::Arc::clone(&machine.key) as _).unwrap();
    let refused = Gateway::connect_as(&fixture, (own, machine.anchors.clone())).await;
    assert_eq!(finding(&refused.err().unwrap()).code, "FOLLOW-KIND");
}
