//! Workloads' identities.

use crate::harness::{Fixture, PROGRAM, openssl, program, verify};
use facts::{FactSet, Source, Timestamp};
use proto::v1::node_message::Message;
use proto::v1::node_update::Update;

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_gets_what_its_facts_allow_and_openssl_agrees() {
    let fixture = Fixture::start().await;
    let machine = fixture.join("m1").await;
    let mut sync = machine.sync().await.unwrap();
    let (issued, held) = sync
        .ask("w1", &program(1000, PROGRAM), Vec::new())
        .await
        .unwrap();
    assert_eq!(held.len(), 1);
    let svid = &issued.svids[0];
    assert_eq!(svid.spiffe_id, "spiffe://example.org/payments/api");
    let bundle = machine.joined.bundle.clone().unwrap();
    let verified = verify(
        &svid.certificate_chain,
        &bundle,
        &fixture.ledger_key().await,
    );
    assert_eq!(verified.issuance.serial, svid.serial);
    assert_eq!(verified.issuance.node, "m1");
    assert_eq!(
        verified.issuance.policies,
        ["payments is what was released"]
    );
    assert!(verified.issuance.facts.contains_key("machine.name"));

    // What was decided on is kept, under the commitment that the record shows.
    let commit = crypto::hex::encode(&verified.issuance.commit.0.0);
    let path = fixture.dir.path().join("data/blobs");
    let opening = std::fs::read(path.join(commit.split_at(2).0).join(&commit)).unwrap();
    let facts = ledger::Commitment::opened(&opening, "facts").unwrap();
    let facts = std::str::from_utf8(facts).unwrap();
    assert!(
        facts.contains("[\"workload.uid\",\"asserted\",1000]"),
        "{facts}"
    );
    assert!(
        facts.contains(PROGRAM) && facts.contains("machine.join"),
        "{facts}"
    );

    let chain = &svid.certificate_chain;
    let (good, text) = openssl(&fixture, chain, &bundle.x509_authorities, &[]);
    assert!(good, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_binary_is_refused_with_what_was_expected_and_seen() {
    let fixture = Fixture::start().await;
    let machine = fixture.join("m1").await;
    let mut sync = machine.sync().await.unwrap();
    let (issued, held) = sync
        .ask("w1", &program(1000, &"2".repeat(64)), Vec::new())
        .await
        .unwrap();
    assert!(held.is_empty());
    let refused = issued
        .refused
        .iter()
        .find(|refused| refused.spiffe_id.ends_with("payments/api"))
        .unwrap();
    let findings: Vec<facts::Finding> = serde_json::from_slice(&refused.findings).unwrap();
    assert!(
        findings[0].expected.is_some() && findings[0].observed.is_some(),
        "{findings:?}"
    );
    let mut recorded = Vec::new();
    while recorded.is_empty() {
        recorded = fixture.records(&["assume-refused"]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(
        recorded[0].1["body"]["spiffe_id"],
        "spiffe://example.org/payments/api"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_cannot_speak_for_the_machine_or_for_hardware() {
    let fixture = Fixture::start().await;
    let machine = fixture.join("m1").await;
    let mut sync = machine.sync().await.unwrap();
    for (name, source) in [
        ("machine.pool", Source::Asserted),
        ("machine.tpm.kind", Source::Asserted),
        ("workload.uid", Source::Hardware),
        // Follows from the digest, or nothing does.
        ("code.source", Source::Asserted),
        ("code.approved_by", Source::Asserted),
        ("code.rooted_in_hardware", Source::Asserted),
        ("code.measured_by", Source::Asserted),
    ] {
        let mut facts = FactSet::new();
        facts.state(name, "demo", source, Timestamp::now());
        let refused = sync.ask("w1", &facts, Vec::new()).await.err().unwrap();
        assert_eq!(refused.code, "SYNC-REQUEST", "{name}");
    }
    // A digest in another spelling would stand for none, and be taken for one.
    for (name, value) in [
        ("code.sha256", "AB".repeat(32)),
        ("code.sha256", "ab".to_owned()),
        ("code.fsverity", "ab".repeat(32)),
    ] {
        let mut facts = FactSet::new();
        facts.state(name, value, Source::Asserted, Timestamp::now());
        let refused = sync.ask("w1", &facts, Vec::new()).await.err().unwrap();
        assert_eq!(refused.code, "SYNC-REQUEST", "{name}");
    }
    // An interpreter goes by no name, also if the agent says both.
    let mut facts = program(1000, PROGRAM);
    let now = Timestamp::now();
    facts.state("workload.interpreter", true, Source::Asserted, now);
    let (_, held) = sync.ask("w1", &facts, Vec::new()).await.unwrap();
    assert!(held.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn signed_code_is_an_identity_for_as_long_as_the_estate_holds_the_signature() {
    use crypto::Signer as _;
    let signer = crypto::KeyPair::generate(crypto::Algorithm::EcdsaP256).unwrap();
    let code = b"a program that is in no list";
    let sha256 = crypto::hex::encode(&crypto::sha256(code));
    let signature = crypto::base64::encode(&signer.sign(code).unwrap());
    let der = crypto::base64::encode(signer.public_key().spki_der());
    let key = format!("-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n");
    let vouching = |signature: &str| {
        format!(
            "[[signer]]\nname = \"release key\"\nkey = \"\"\"\n{key}\"\"\"\n\
             [[evidence]]\nsha256 = \"{sha256}\"\nform = \"signature\"\ncontent = \"{signature}\"\n"
        )
    };
    let mut files = crate::harness::estate();
    files.insert(
        "policies/signed.cedar",
        "@id(\"what the release key signed\") permit (principal in Pool::\"demo\", \
         action == Action::\"assume\", resource == Identity::\"payments/api\") when { principal has uid && \
         principal.uid == 1000 && principal has code && principal.code has approved_by && \
         principal.code.approved_by == \"release key\" };",
    );
    let fixture = Fixture::start().await;
    let machine = fixture.join("m1").await;
    let mut sync = machine.sync().await.unwrap();
    let workload = program(1000, &sha256);

    // A signature by somebody else: the workload hears what is wrong with it.
    let stranger = crypto::KeyPair::generate(crypto::Algorithm::EcdsaP256).unwrap();
    let forged = crypto::base64::encode(&stranger.sign(code).unwrap());
    files.insert("references/signed.toml", vouching(&forged));
    fixture.apply(&files).await.unwrap();
    let (issued, held) = sync.ask("w1", &workload, Vec::new()).await.unwrap();
    assert!(held.is_empty());
    let heard = issued.refused.iter().any(|refused| {
        let findings: Vec<facts::Finding> = serde_json::from_slice(&refused.findings).unwrap();
        findings
            .iter()
            .any(|finding| finding.code == "CODE-SIGNATURE")
    });
    assert!(heard, "{:?}", issued.refused);

    files.insert("references/signed.toml", vouching(&signature));
    fixture.apply(&files).await.unwrap();
    let (_, held) = sync.ask("w1", &workload, Vec::new()).await.unwrap();
    let serial = held[0].svid.serial.clone();

    // What it rested on is taken out, and everything is judged again.
    files.insert("references/signed.toml", vouching(&forged));
    fixture.apply(&files).await.unwrap();
    let mut revoked = Vec::new();
    while revoked.is_empty() {
        revoked = fixture.records(&["revocation"]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(revoked[0].1["body"]["target"]["value"], serial);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_carries_its_receipt() {
    let fixture = Fixture::start().await;
    let machine = fixture.join("m1").await;
    let mut sync = machine.sync().await.unwrap();
    sync.ask("w1", &program(1000, PROGRAM), Vec::new())
        .await
        .unwrap();
    sync.send(Message::Jwt(proto::v1::JwtRequest {
        request: 9,
        workload: "w1".to_owned(),
        spiffe_id: String::new(),
        audience: vec!["shop".to_owned()],
        without_receipt: false,
    }))
    .await;
    let Update::Jwt(issued) = sync.next().await.unwrap() else {
        panic!("a token");
    };
    let bundle = machine.joined.bundle.clone().unwrap();
    let domain = spiffe_core::TrustDomain::new("example.org").unwrap();
    let bundle = spiffe_core::Bundle::from_jwks(domain, &bundle.jwks).unwrap();
    let token = spiffe_core::JwtSvid::parse(&issued.svids[0].token).unwrap();
    let valid = token.validate(&bundle, "shop", Timestamp::now()).unwrap();
    let verified = spiffe_core::receipt::check_jwt(&valid, &fixture.ledger_key().await).unwrap();
    assert_eq!(
        verified.issuance.spiffe_id,
        "spiffe://example.org/payments/api"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_new_estate_does_not_grant_is_withdrawn_and_revoked() {
    let fixture = Fixture::start().await;
    let machine = fixture.join("m1").await;
    let mut sync = machine.sync().await.unwrap();
    let (_, held) = sync
        .ask("w1", &program(1000, PROGRAM), Vec::new())
        .await
        .unwrap();
    let serial = held[0].svid.serial.clone();
    let mut files = crate::harness::estate();
    let text = files.0["policies/assume.cedar"].replace("uid == 1000", "uid == 1001");
    files.insert("policies/assume.cedar", text);
    let applied = fixture.apply(&files).await.unwrap();
    assert_eq!(applied["revoked"], 1, "{applied}");
    let mut withdrawn = false;
    let mut reconsider = false;
    while !(withdrawn && reconsider) {
        match sync.next().await.unwrap() {
            Update::Withdrawn(update) => withdrawn |= update.serial == serial,
            Update::Reconsider(update) => reconsider |= update.workloads == ["w1"],
            _ => {}
        }
    }
    let (issued, _) = sync
        .ask("w1", &program(1000, PROGRAM), Vec::new())
        .await
        .unwrap();
    assert!(issued.svids.is_empty());
}

/// The version in force, applied again for that: nothing else changes.
#[tokio::test(flavor = "multi_thread")]
async fn everything_is_issued_anew_and_what_came_before_is_below_the_floor() {
    let fixture = Fixture::start().await;
    let machine = fixture.join("m1").await;
    let mut sync = machine.sync().await.unwrap();
    sync.ask("w1", &program(1000, PROGRAM), Vec::new())
        .await
        .unwrap();
    let files = crate::harness::estate();
    let before = fixture.records(&["estate-version"]).await.len();
    fixture.apply(&files).await.unwrap();
    let after = fixture.records(&["estate-version"]).await.len();
    assert_eq!(before, after, "it is in force already");

    let applied = fixture.reissue(&files).await.unwrap();
    assert_eq!(applied["revoked"], 0, "{applied}");
    assert_eq!(applied["reconsidered"], 1, "{applied}");
    loop {
        if let Update::Reconsider(update) = sync.next().await.unwrap() {
            assert_eq!(update.workloads, ["w1"]);
            break;
        }
    }
    sync.ask("w1", &program(1000, PROGRAM), Vec::new())
        .await
        .unwrap();

    let versions = fixture.records(&["estate-version"]).await;
    let [.., (before, _), (index, version)] = versions.as_slice() else {
        panic!("{versions:?}");
    };
    let floor: u64 = version["body"]["floor"].as_str().unwrap().parse().unwrap();
    assert!(*before < floor && floor <= *index, "{version}");
    let under = |(_, record): &(u64, serde_json::Value)| -> u64 {
        record["estate"]["index"].as_str().unwrap().parse().unwrap()
    };
    let issued = fixture.records(&["issuance"]).await;
    let issued: Vec<u64> = issued
        .iter()
        .filter(|(_, record)| record["body"]["node"] == "m1" && record["estate"].is_object())
        .map(under)
        .collect();
    let [first, second] = issued.as_slice() else {
        panic!("{issued:?}");
    };
    assert!(*first < floor && floor <= *second, "{issued:?}");
}

/// One revoked identity once took all tokens of its workload with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_one_identity_does_not_wait_for_another_that_is_revoked() {
    let fixture = Fixture::bare().await;
    fixture
        .apply(&crate::harness::estate_of_two())
        .await
        .unwrap();
    let machine = fixture.join("m1").await;
    let mut sync = machine.sync().await.unwrap();
    let (_, held) = sync
        .ask("w1", &program(1000, PROGRAM), Vec::new())
        .await
        .unwrap();
    assert_eq!(held.len(), 2);
    let request = proto::v1::RevokeRequest {
        kind: "identity".to_owned(),
        value: "payments/api".to_owned(),
        reason: "drill".to_owned(),
    };
    fixture.admin().await.revoke(request).await.unwrap();
    let ask = |request, spiffe_id: &str| {
        Message::Jwt(proto::v1::JwtRequest {
            request,
            workload: "w1".to_owned(),
            spiffe_id: spiffe_id.to_owned(),
            audience: vec!["shop".to_owned()],
            without_receipt: false,
        })
    };
    sync.send(ask(8, "")).await;
    let issued = loop {
        match sync.next().await.unwrap() {
            Update::Jwt(issued) => break issued,
            Update::Refused(refused) => panic!("{:?}", String::from_utf8(refused.finding)),
            _ => {}
        }
    };
    assert_eq!(issued.svids.len(), 1);
    assert_eq!(
        issued.svids[0].spiffe_id,
        "spiffe://example.org/payments/job"
    );
    assert_eq!(issued.refused.len(), 1);
    let why: Vec<facts::Finding> = serde_json::from_slice(&issued.refused[0].findings).unwrap();
    assert_eq!(why[0].code, "IDENTITY-REVOKED");
    // Asked for by name it is refused, and for its own reason.
    sync.send(ask(9, "spiffe://example.org/payments/api")).await;
    let refused = loop {
        match sync.next().await.unwrap() {
            Update::Refused(refused) => break refused,
            Update::Jwt(issued) => panic!("{issued:?}"),
            _ => {}
        }
    };
    let why: facts::Finding = serde_json::from_slice(&refused.finding).unwrap();
    assert_eq!(why.code, "IDENTITY-REVOKED");
}
