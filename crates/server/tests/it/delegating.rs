//! Delegations as the server makes them, records them and takes them back.

mod overtaken;
mod own;

use crate::follower::Gateway;
use crate::harness::{
    DOMAIN, Fixture, Held, Link, Machine, PROGRAM, config, estate, finding, program,
};
use crate::people::forger::Forger;
use crate::people::{Client, key, oidc};
use estate::EstateFiles;
use facts::{Finding, Timestamp};
use ledger::body::Body as _;
use proto::v1;
use proto::v1::delegate_client::DelegateClient;
use proto::v1::delta::Delta;
use serde_json::Value;
use spiffe_core::delegation::{DelegationToken, Recorded};
use spiffe_core::{Bundle, SpiffeId, TrustDomain};
use std::sync::OnceLock;
use svid_tls::OwnSvid;
use tonic::Status;

/// One provider for all of these tests, on a thread that none of them ends.
fn provider() -> &'static Forger {
    static PROVIDER: OnceLock<Forger> = OnceLock::new();
    PROVIDER.get_or_init(|| {
        let (sender, made) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                sender.send(Forger::start().await).unwrap();
                std::future::pending::<()>().await;
            });
        });
        made.recv().unwrap()
    })
}

/// A server at which Ada can log in.
pub(crate) async fn server() -> Fixture {
    Fixture::start_with(&oidc(&provider().issuer, "")).await
}

/// Ada lets the helper, who lets the summariser and no other.
pub(crate) fn office(delegations: &str) -> EstateFiles {
    let mut files = estate();
    let people = "[[identity]]\npath = \"people/ada\"\nkind = \"person\"\nowner = \"people\"\n\
         login = { issuer = \"ISSUER\", subject = \"ada-1\" }\n\
         [[identity]]\npath = \"agents/helper\"\nkind = \"ai-agent\"\nowner = \"support\"\n\
         [[identity]]\npath = \"agents/summary\"\nkind = \"ai-agent\"\nowner = \"support\"\n";
    let people = people.replace("ISSUER", &provider().issuer);
    files.insert("identities/people.toml", people);
    files.insert("delegations/people.toml", delegations);
    files.insert(
        "policies/agents.cedar",
        "@id(\"the helper runs as 3000\") permit (principal in Pool::\"demo\", action == Action::\"assume\", \
         resource == Identity::\"agents/helper\") when { principal has uid && principal.uid == 3000 };\n\
         @id(\"the summariser runs as 4000\") permit (principal in Pool::\"demo\", action == Action::\"assume\", \
         resource == Identity::\"agents/summary\") when { principal has uid && principal.uid == 4000 };\n",
    );
    files
}

pub(crate) const GRANTS: &str = "[[delegation]]\nid = \"ada has a helper\"\nfrom = 'Identity::\"people/ada\"'\n\
     to = 'Identity::\"agents/helper\"'\nmax_hops = 2\n\
     [[delegation]]\nid = \"the helper has a summariser\"\nfrom = 'Identity::\"agents/helper\"'\n\
     to = 'Identity::\"agents/summary\"'\nmax_ttl = \"5m\"\nactions = [\"select\"]\n";

/// A workload with its SVID, on a machine of its own.
pub(crate) struct Agent {
    pub(crate) machine: Machine,
    pub(crate) held: Held,
}

impl Agent {
    pub(crate) async fn start(fixture: &Fixture, node: &str, uid: u32) -> Self {
        let machine = fixture.join(node).await;
        let mut sync = machine.sync().await.unwrap();
        let (_, mut held) = sync
            .ask("agent", &program(uid, PROGRAM), Vec::new())
            .await
            .unwrap();
        Self {
            machine,
            held: held.remove(0),
        }
    }

    async fn delegates(&self, token: &str, to: &str, ttl_s: u64) -> Result<v1::Delegated, Status> {
        let chain = self.held.svid.certificate_chain.clone();
        let own = OwnSvid::new(chain, std::sync::Arc::clone(&self.held.key) as _).unwrap();
        let anchors = std::sync::Arc::clone(&self.machine.anchors);
        let link = Link::dial(self.machine.address, own, anchors).await;
        let request = v1::DelegateRequest {
            token: token.to_owned(),
            to: to.to_owned(),
            ttl_s,
            ..v1::DelegateRequest::default()
        };
        let made = DelegateClient::new(link.channel).next(request).await?;
        Ok(made.into_inner())
    }
}

pub(crate) async fn first(fixture: &Fixture) -> (String, String) {
    let made = asked(fixture, "ada-1", "agents/helper", &[], 0).await;
    let made = made.unwrap();
    (made.token, made.jti)
}

/// Logs `subject` in, who lets `to` act.
async fn asked(
    fixture: &Fixture,
    subject: &str,
    to: &str,
    actions: &[&str],
    ttl_s: u64,
) -> Result<v1::Delegated, Finding> {
    let pin = fixture.status().await["pin"].as_str().unwrap().to_owned();
    let anchors = fixture.anchors(&pin).await;
    let link = Link::dial(fixture.address(), OwnSvid::empty(), anchors).await;
    let client = Client { link, key: key() };
    let request = v1::DelegateRequest {
        to: to.to_owned(),
        actions: actions.iter().map(|&action| action.to_owned()).collect(),
        ttl_s,
        ..v1::DelegateRequest::default()
    };
    let made = async {
        let issuer = &provider().issuer;
        let begun = client.begin(issuer).await?;
        let token = provider().token(subject, &client.asked(&begun));
        client.finish(issuer, &begun.nonce, &token).await?;
        // Who has logged in and not entered is nobody on this connection.
        let early = client.people().delegate(request.clone()).await.unwrap_err();
        assert_eq!(finding(&early).code, "SESSION-NONE");
        drop(client.enter().await?);
        client.people().delegate(request).await
    };
    made.await
        .map(tonic::Response::into_inner)
        .map_err(|status: Status| finding(&status))
}

fn id(path: &str) -> SpiffeId {
    format!("spiffe://{DOMAIN}/{path}").parse().unwrap()
}

/// As a decision point reads it.
pub(crate) async fn proved(
    fixture: &Fixture,
    agent: &Agent,
    token: &str,
    by: &str,
) -> Result<Recorded, Finding> {
    let jwks = agent.machine.joined.bundle.clone().unwrap().jwks;
    let bundle = Bundle::from_jwks(TrustDomain::new(DOMAIN).unwrap(), &jwks).unwrap();
    let presented = DelegationToken::parse(token)?.verify(&bundle, &id(by), Timestamp::now())?;
    presented.recorded(&fixture.ledger_key().await)
}

async fn listed(fixture: &Fixture, identity: &str) -> Vec<Value> {
    let request = v1::DelegationsRequest {
        identity: identity.to_owned(),
    };
    let answer = fixture.admin().await.delegations(request).await.unwrap();
    let document: Value = serde_json::from_str(&answer.into_inner().json).unwrap();
    document["delegations"].as_array().unwrap().clone()
}

async fn stands(fixture: &Fixture) -> Vec<bool> {
    let listed = listed(fixture, "").await;
    listed.iter().map(|one| one["stands"] == true).collect()
}

/// The `jti`s that are revoked by records of their own.
async fn revoked(fixture: &Fixture) -> Vec<String> {
    let records = fixture.records(&["revocation"]).await;
    let targets = records.iter().map(|(_, record)| &record["body"]["target"]);
    let serials = targets.filter(|target| target["kind"] == "serial");
    serials
        .map(|target| target["value"].as_str().unwrap().to_owned())
        .collect()
}

async fn revoke(fixture: &Fixture, kind: &str, value: &str) -> Result<(), Status> {
    let request = v1::RevokeRequest {
        kind: kind.to_owned(),
        value: value.to_owned(),
        reason: "drill".to_owned(),
    };
    fixture.admin().await.revoke(request).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_delegates_and_the_delegate_on_each_with_its_record() {
    let mut fixture = server().await;
    fixture.apply(&office(GRANTS)).await.unwrap();
    let helper = Agent::start(&fixture, "m1", 3000).await;
    let (token, jti) = first(&fixture).await;
    let one = proved(&fixture, &helper, &token, "agents/helper")
        .await
        .unwrap();
    assert_eq!(one.delegation.jti, jti);
    assert_eq!(one.delegation.node, "");
    // As long as the grant lets it, and no longer than that when more is asked for.
    assert_eq!(
        one.delegation.not_after - one.delegation.not_before,
        15 * 60
    );
    let made = helper
        .delegates(&token, "agents/summary", 3_600)
        .await
        .unwrap();
    let two = proved(&fixture, &helper, &made.token, "agents/summary")
        .await
        .unwrap();
    let names: Vec<&str> = two
        .terms
        .principals()
        .map(SpiffeId::identity_path)
        .collect();
    assert_eq!(names, ["people/ada", "agents/helper", "agents/summary"]);
    assert_eq!(two.delegation.not_after - two.delegation.not_before, 5 * 60);
    assert_eq!(two.delegation.rests_on, [jti.as_str()]);
    assert_eq!(two.terms.links()[0].record, Some(one.receipt.index));
    assert_eq!(
        (two.receipt.index, two.delegation.node.as_str()),
        (made.index, "m1")
    );
    // By which SVID, and what its issuance shows: by that it is decided what the helper may.
    assert_eq!(two.terms.links()[0].by, None);
    let by = two.terms.links()[1].by.clone().unwrap();
    assert_eq!(by.serial, helper.held.svid.serial);
    let issuances = fixture.records(&["issuance"]).await;
    let issuance = issuances.iter().find(|(index, _)| *index == by.issuance);
    let issuance = &issuance.unwrap().1;
    assert_eq!(issuance["body"]["serial"], by.serial.as_str());
    let shown = issuance["body"].get("facts").cloned();
    let shown = shown.unwrap_or_else(|| serde_json::json!({}));
    assert_eq!(shown, serde_json::json!(by.facts));
    assert_eq!(issuance["estate"]["index"], by.estate.to_string());
    // Who asked, and how that is known.
    let records = fixture.records(&["delegation"]).await;
    assert_eq!(records.len(), 2);
    assert_eq!(records[0].1["auth"], "oidc");
    assert_eq!(
        records[1].1["actor"],
        format!("spiffe://{DOMAIN}/agents/helper")
    );
    let auth = format!("x509:{}", helper.held.svid.serial);
    assert_eq!(records[1].1["auth"], auth);
    assert_eq!(listed(&fixture, "people/ada").await.len(), 2);
    assert_eq!(listed(&fixture, "agents/summary").await.len(), 1);

    revoke(&fixture, "delegation", &made.jti).await.unwrap();
    assert_eq!(stands(&fixture).await, [true, false]);
    fixture.restart().await;
    assert_eq!(stands(&fixture).await, [true, false]);
    fixture.stop().await;
    let config = config(fixture.dir.path());
    let kept = server::state_digest(&config).unwrap();
    assert_eq!(kept, server::rebuild_state(&config).unwrap());
}

/// A thief, a widening, a stranger: whoever asks gets what the estate grants to whom it has shown to be.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_delegates_what_was_not_delegated_to_it() {
    let fixture = server().await;
    fixture.apply(&office(GRANTS)).await.unwrap();
    let helper = Agent::start(&fixture, "m1", 3000).await;
    let summary = Agent::start(&fixture, "m2", 4000).await;
    let (token, _) = first(&fixture).await;
    let refused =
        |status: Result<v1::Delegated, Status>| finding(&status.unwrap_err()).code.into_owned();
    // The token of another, which the summariser has found.
    let stolen = summary.delegates(&token, "agents/helper", 0).await;
    assert_eq!(refused(stolen), "DELEGATION-TOKEN-PRESENTER");
    // To whom the estate grants nothing, to a person, back, and to nobody.
    for (to, code) in [
        ("payments/api", "DELEGATION-NONE"),
        ("people/ada", "DELEGATION-CHAIN"),
        ("agents/helper", "DELEGATION-CHAIN"),
        ("agents/nobody", "DELEGATION-NONE"),
        ("../x", "DELEGATION-TO"),
        ("spiffe://other.org/agents/summary", "DELEGATION-TO"),
    ] {
        assert_eq!(refused(helper.delegates(&token, to, 0).await), code, "{to}");
    }
    // Ada's grant goes two delegations far and no further.
    let on = helper.delegates(&token, "agents/summary", 0).await.unwrap();
    let further = summary.delegates(&on.token, "payments/api", 0).await;
    assert_eq!(refused(further), "DELEGATION-HOPS");
    // No SVID, and that of a machine.
    let link = Link::dial(
        fixture.address(),
        OwnSvid::empty(),
        std::sync::Arc::clone(&helper.machine.anchors),
    )
    .await;
    let request = || v1::DelegateRequest {
        token: token.clone(),
        to: "agents/summary".to_owned(),
        ..v1::DelegateRequest::default()
    };
    let bare = DelegateClient::new(link.channel)
        .next(request())
        .await
        .unwrap_err();
    assert_eq!(finding(&bare).code, "CALLER-NO-SVID");
    let machine = DelegateClient::new(helper.machine.link().await.channel);
    let machine = { machine }.next(request()).await.unwrap_err();
    assert_eq!(finding(&machine).code, "DELEGATION-TOKEN-PRESENTER");
    // Not by a login that the estate does not know, and for nothing that has no name.
    for (subject, to, actions, code) in [
        ("ada-2", "agents/helper", &[][..], "LOGIN-PERSON"),
        ("ada-1", "agents/helper", &["apply"], "DELEGATION-WORDS"),
        ("ada-1", "agents/summary", &[], "DELEGATION-NONE"),
    ] {
        let refused = asked(&fixture, subject, to, actions, 0).await.unwrap_err();
        assert_eq!(refused.code, code);
    }
    assert_eq!(
        fixture.records(&["delegation"]).await.len(),
        2,
        "what is refused leaves none"
    );
}

/// Why a record of somebody who acted for another: by which token, and what that let him do.
#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_access_tells_its_token_and_what_that_was_narrowed_to() {
    let fixture = server().await;
    let mut files = office(GRANTS);
    files.insert(
        "policies/notes.cedar",
        "@id(\"both use notes\") permit (principal is Identity, action in [Action::\"select\", \
         Action::\"insert\"], resource in Schema::\"notes/public\");\n",
    );
    files.insert(
        "resources/notes.toml",
        "[[database]]\nname = \"notes\"\n[[database.schema]]\nname = \"public\"\n\
         [[database.schema.table]]\nname = \"mine\"\n",
    );
    let applied = fixture.apply(&files).await.unwrap();
    let estate = ledger::EstateRef {
        version: applied["version"].as_str().unwrap().parse().unwrap(),
        index: applied["index"].as_u64().unwrap(),
    };
    let made = asked(&fixture, "ada-1", "agents/helper", &["select"], 60).await;
    let jti = made.unwrap().jti;
    let mut recording = crate::packs::Recording::start(&fixture).await;
    let append = |action: &str| {
        let intent = ledger::body::Intent {
            session: "s".to_owned(),
            statement: "f".to_owned(),
            actions: vec![ledger::body::ActionOn {
                action: action.to_owned(),
                resources: vec!["Table::\"notes/public/mine\"".to_owned()],
                more: None,
                columns: Vec::new(),
            }],
            decision: format!("s.{action}"),
            policies: Vec::new(),
            coverage: ledger::body::Coverage::Complete,
            more_policies: None,
            claimed_on_behalf_of: Vec::new(),
            on_behalf_of: vec![ledger::body::OnBehalfOf {
                spiffe_id: id("people/ada").to_string(),
                jti: jti.clone(),
                issuance: None,
            }],
        };
        let helper = id("agents/helper").to_string();
        recording.append(&helper, intent.record().estate(estate))
    };
    let (read_at, written) = (append("select"), append("insert"));
    recording.anchor().await;
    let mut admin = fixture.admin().await;
    for (index, within) in [(read_at, true), (written, false)] {
        let request = v1::WhyRequest {
            decision: format!("pg:{index}"),
            ..v1::WhyRequest::default()
        };
        let answer = admin.why(request).await.unwrap().into_inner();
        let answer: Value = serde_json::from_str(&answer.json).unwrap();
        let link = &answer["links"][0];
        assert_eq!(link["token"]["jti"], jti.as_str(), "{answer}");
        assert_eq!(
            link["token"]["actions"],
            serde_json::json!(["select"]),
            "{answer}"
        );
        assert!(link["token"]["record"].is_u64(), "{answer}");
        let refused = link["refused"]["code"].as_str();
        assert_eq!(refused, (!within).then_some("DELEGATION-SCOPE"), "{answer}");
        assert!(link["token"]["ended"].is_null(), "it is good: {answer}");
    }
    // Whoever asks what there is is told who acts for whom now.
    let who = |action: &str, on_behalf_of: &[&str]| v1::WhoCanRequest {
        action: action.to_owned(),
        resource: "notes/public/mine".to_owned(),
        on_behalf_of: on_behalf_of.iter().map(|&one| one.to_owned()).collect(),
        ..v1::WhoCanRequest::default()
    };
    let what = || v1::WhatCanRequest {
        principal: "agents/helper".to_owned(),
        ..v1::WhatCanRequest::default()
    };
    let read = |answer: tonic::Response<v1::Document>| -> Value {
        serde_json::from_str(&answer.into_inner().json).unwrap()
    };
    let told = |answer: &Value| {
        let tokens = answer["tokens"].as_array().cloned().unwrap_or_default();
        let jtis = tokens
            .iter()
            .map(|one| one["jti"].as_str().unwrap().to_owned());
        jtis.collect::<Vec<_>>()
    };
    let answer = read(admin.who_can(who("select", &[])).await.unwrap());
    assert_eq!(told(&answer), [jti.as_str()], "{answer}");
    let token = &answer["tokens"][0];
    assert_eq!(token["hops"], 1, "{answer}");
    assert!(token["ends"].is_u64(), "{answer}");
    let answer = read(admin.who_can(who("select", &["people/ada"])).await.unwrap());
    assert_eq!(told(&answer), [jti.as_str()], "{answer}");
    // It was narrowed to reading.
    let answer = read(admin.who_can(who("insert", &[])).await.unwrap());
    assert_eq!(told(&answer), [""; 0], "{answer}");
    let answer = read(admin.what_can(what()).await.unwrap());
    assert_eq!(told(&answer), [jti.as_str()], "{answer}");

    // Once it is taken back, it is told by what, and no answer has it any more.
    revoke(&fixture, "delegation", &jti).await.unwrap();
    let request = v1::WhyRequest {
        decision: format!("pg:{read_at}"),
        ..v1::WhyRequest::default()
    };
    let answer = read(admin.why(request).await.unwrap());
    let token = &answer["links"][0]["token"];
    let chain = serde_json::json!([
        id("people/ada").to_string(),
        id("agents/helper").to_string()
    ]);
    assert_eq!(token["chain"], chain, "{answer}");
    assert_eq!(token["actions"], serde_json::json!(["select"]), "{answer}");
    assert_eq!(token["ended"]["by"], "revocation", "{answer}");
    assert_eq!(
        token["ended"]["revoked"],
        format!("serial {jti}"),
        "{answer}"
    );
    let revocations = fixture.records(&["revocation"]).await;
    assert_eq!(token["ended"]["record"], revocations[0].0, "{answer}");
    let answer = read(admin.what_can(what()).await.unwrap());
    assert_eq!(told(&answer), [""; 0], "{answer}");
}

/// A link that was narrowed stays so, whatever those after it ask for.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_link_was_narrowed_to_holds_for_those_after_it() {
    let fixture = server().await;
    fixture.apply(&office(GRANTS)).await.unwrap();
    let helper = Agent::start(&fixture, "m1", 3000).await;
    let narrowed = asked(&fixture, "ada-1", "agents/helper", &["select"], 60).await;
    let token = narrowed.unwrap().token;
    let made = helper
        .delegates(&token, "agents/summary", 3_600)
        .await
        .unwrap();
    let two = proved(&fixture, &helper, &made.token, "agents/summary")
        .await
        .unwrap();
    let links = two.terms.links();
    assert_eq!(
        links[0].scope.actions.as_deref(),
        Some(&["select".to_owned()][..])
    );
    assert_eq!(links[1].scope.actions, None);
    // It ends with what it rests on.
    assert_eq!(links[1].expires_at, links[0].expires_at);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_link_takes_with_it_what_rests_on_it_and_gateways_hear() {
    let fixture = server().await;
    fixture.apply(&office(GRANTS)).await.unwrap();
    let helper = Agent::start(&fixture, "m1", 3000).await;
    let (token, jti) = first(&fixture).await;
    helper.delegates(&token, "agents/summary", 0).await.unwrap();
    assert_eq!(stands(&fixture).await, [true, true]);
    let mut gateway = Gateway::connect(&fixture, 2000).await.unwrap();
    gateway.hello(0, Vec::new()).await;
    // Whoever follows already hears of it by a cut; who comes later, by the record.
    gateway.next().await.unwrap();
    revoke(&fixture, "delegation", &jti).await.unwrap();
    loop {
        if let Delta::Cut(cut) = gateway.next().await.unwrap()
            && cut.value == jti
        {
            assert_eq!(cut.kind, "serial");
            break;
        }
    }
    assert_eq!(stands(&fixture).await, [false, false]);
    let again = helper
        .delegates(&token, "agents/summary", 0)
        .await
        .unwrap_err();
    assert_eq!(finding(&again).code, "DELEGATION-TOKEN-REVOKED");
    let unknown = revoke(&fixture, "delegation", "00").await.unwrap_err();
    assert_eq!(finding(&unknown).code, "REVOKE-UNKNOWN");
    // A new one is not touched by it.
    let (token, _) = first(&fixture).await;
    helper.delegates(&token, "agents/summary", 0).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delegation_falls_with_its_grant_its_person_and_its_machine() {
    let fixture = server().await;
    fixture.apply(&office(GRANTS)).await.unwrap();
    let helper = Agent::start(&fixture, "m1", 3000).await;
    let (token, one) = first(&fixture).await;
    let two = helper
        .delegates(&token, "agents/summary", 0)
        .await
        .unwrap()
        .jti;
    // The helper's grant is dropped: what it had let the summariser do falls, and not what Ada lets it do.
    let (only, _) = GRANTS.split_at(GRANTS.rfind("[[delegation]]").unwrap());
    fixture.apply(&office(only)).await.unwrap();
    assert_eq!(revoked(&fixture).await, std::slice::from_ref(&two));
    assert_eq!(stands(&fixture).await, [true, false]);
    // It comes back; what was taken stays so.
    fixture.apply(&office(GRANTS)).await.unwrap();
    assert_eq!(stands(&fixture).await, [true, false]);
    let three = helper
        .delegates(&token, "agents/summary", 0)
        .await
        .unwrap()
        .jti;
    // The machine from which it was asked for is cut.
    revoke(&fixture, "eviction", "m1").await.unwrap();
    assert_eq!(stands(&fixture).await, [true, false, false]);
    assert!(revoked(&fixture).await.contains(&three));
    let out = helper
        .delegates(&token, "agents/summary", 0)
        .await
        .unwrap_err();
    assert_eq!(finding(&out).code, "CALLER-REVOKED");
    // Ada leaves.
    let mut without = office("");
    let people = without.0["identities/people.toml"].clone();
    let (_, agents) = people.split_at(
        people
            .find("[[identity]]\npath = \"agents/helper\"")
            .unwrap(),
    );
    without.insert("identities/people.toml", agents.to_owned());
    fixture.apply(&without).await.unwrap();
    assert_eq!(revoked(&fixture).await, [two, three, one]);
    assert_eq!(stands(&fixture).await, [false, false, false]);
}

/// A shorter `max_ttl` holds for what was let before; and an identity that was revoked takes its own along.
#[tokio::test(flavor = "multi_thread")]
async fn a_delegation_that_would_be_shorter_now_and_one_of_a_revoked_identity_are_taken_back() {
    let fixture = server().await;
    fixture.apply(&office(GRANTS)).await.unwrap();
    let helper = Agent::start(&fixture, "m1", 3000).await;
    let (token, one) = first(&fixture).await;
    let two = helper
        .delegates(&token, "agents/summary", 0)
        .await
        .unwrap()
        .jti;
    let shorter = GRANTS.replace("max_ttl = \"5m\"", "max_ttl = \"1m\"");
    fixture.apply(&office(&shorter)).await.unwrap();
    assert_eq!(revoked(&fixture).await, [two]);
    revoke(&fixture, "identity", "people/ada").await.unwrap();
    assert_eq!(stands(&fixture).await, [false, false]);
    assert!(revoked(&fixture).await.contains(&one));
    let refused = asked(&fixture, "ada-1", "agents/helper", &[], 0).await;
    assert_eq!(refused.unwrap_err().code, "LOGIN-REVOKED");
}
