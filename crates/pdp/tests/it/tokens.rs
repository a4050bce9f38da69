//! A delegation token at a decision point: it proves for whom its delegate acts, and nobody else.

use crate::plane::{DOMAIN, Svid};
use crate::world::{World, estate};
use facts::Timestamp;
use ledger::Digest;
use ledger::body::{Body as _, Delegation, TargetKind};
use pdp::authzen::{EVALUATION, EVALUATIONS, SEARCH_ACTION};
use serde_json::{Value, json};
use spiffe_core::delegation::{Link, Narrowed, Terms};
use spiffe_core::{Serial, SpiffeId};

pub(crate) const GRANT: &str = "[[delegation]]\nid = \"alice reads for bob\"\nfrom = 'Identity::\"bob\"'\n\
                     to = 'Identity::\"alice\"'\nactions = [\"select\", \"insert\"]\n";

/// The token by which bob lets alice act, narrowed to `actions`, and its `jti`.
pub(crate) fn token(world: &World, actions: &[&str]) -> (String, String) {
    let made = unpublished(world, actions);
    // Publishes the checkpoint as well.
    world.plane.issue("bob");
    made
}

/// The same, whose record is under no checkpoint that anybody has.
fn unpublished(world: &World, actions: &[&str]) -> (String, String) {
    let id = |path: &str| {
        format!("spiffe://{DOMAIN}/{path}")
            .parse::<SpiffeId>()
            .unwrap()
    };
    let now = Timestamp::now();
    let link = Link {
        to: id("alice"),
        jti: Serial::from_random(crypto::random()),
        issued_at: now,
        expires_at: now.plus_secs(600),
        scope: Narrowed {
            actions: Some(actions.iter().map(|&one| one.to_owned()).collect()),
            resources: None,
        },
        record: None,
        by: None,
    };
    let terms = Terms::new(id("bob"), vec![link.clone()]).unwrap();
    let authority = &world.plane.authority;
    let prepared = authority.prepare_delegation(&terms, now).unwrap();
    let body = Delegation {
        jti: link.jti.to_string(),
        tbs: Digest(prepared.digest()),
        issuer: Digest(prepared.issuer()),
        not_before: link.issued_at.as_secs(),
        not_after: link.expires_at.as_secs(),
        chain: terms.principals().map(ToString::to_string).collect(),
        rests_on: Vec::new(),
        actions: link.scope.actions,
        resources: None,
        node: String::new(),
    };
    let draft = body.record().actor("test", "test").draft().unwrap();
    let recorded = world.plane.ledger.append(draft).wait().unwrap();
    let token = prepared.finish(&recorded.receipt()).unwrap();
    (token, body.jti)
}

/// Once, what was shown first was judged before the others were waited for, and never again.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_revoked_while_others_of_the_request_are_waited_for_counts_no_more() {
    let world = delegating().await;
    let alice = world.plane.issue("alice");
    let first = {
        let mut one = asked("select", &alice, "");
        let properties = one["subject"]["properties"].as_object_mut().unwrap();
        properties.remove("delegation");
        one
    };
    let (status, before) = world.post(EVALUATION, &first).await;
    assert_eq!(
        (status, &before["decision"]),
        (200, &json!(true)),
        "{before}"
    );
    // Its record is under no checkpoint that was published, so that it has to be waited for.
    let (token, _) = unpublished(&world, &["select"]);
    let second = asked("select", &alice, &token);
    let body = json!({"evaluations": [first, second]});
    let (answer, ()) = tokio::join!(world.post(EVALUATIONS, &body), async {
        // It waits for two seconds at most.
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        world.plane.revoke(TargetKind::Serial, &alice.serial);
    });
    let (status, answer) = answer;
    assert_eq!(status, 200, "{answer}");
    let of_alice = &answer["evaluations"][0];
    assert_eq!(of_alice["decision"], false, "{answer}");
    assert!(of_alice.to_string().contains("GATEWAY-REVOKED"), "{answer}");
    world.stop().await;
}

fn asked(what: &str, who: &Svid, token: &str) -> Value {
    let x5c: Vec<String> = who
        .chain
        .iter()
        .map(|der| crypto::base64::encode(der))
        .collect();
    json!({
        "subject": {"type": "spiffe", "id": who.id, "properties": {"x5c": x5c, "delegation": token}},
        "action": {"name": what},
        "resource": {"type": "table", "id": "app/public/record-1"},
    })
}

pub(crate) async fn delegating() -> World {
    let world = World::start().await;
    let mut files = estate();
    files.insert("delegations/d.toml", GRANT);
    let index = world.plane.apply(&files);
    let mut tries = 0;
    while world
        .core
        .following()
        .current()
        .is_none_or(|current| current.index != index)
    {
        tries += 1;
        assert!(tries < 1_200, "the delegation never came into force");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    world
}

async fn decided(world: &World, body: &Value) -> (bool, String) {
    let (status, answer) = world.post(EVALUATION, body).await;
    assert_eq!(status, 200, "{answer}");
    let context = &answer["context"];
    let code = context["error"]["code"]
        .as_str()
        .or(context["reason"].as_str());
    (answer["decision"] == true, code.unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_proves_for_whom_and_the_record_has_its_jti() {
    let world = delegating().await;
    let alice = world.plane.issue("alice");
    let (token, jti) = token(&world, &["select"]);
    let (allow, why) = decided(&world, &asked("select", &alice, &token)).await;
    assert!(allow, "{why}");
    let about = world.decisions().pop().unwrap().about.unwrap();
    assert!(about.claimed_on_behalf_of.is_empty());
    assert_eq!(about.on_behalf_of.len(), 1);
    assert_eq!(
        about.on_behalf_of[0].spiffe_id,
        format!("spiffe://{DOMAIN}/bob")
    );
    assert_eq!(about.on_behalf_of[0].jti, jti);
    // Its scope narrows what the grant carries; and bob may not insert, whatever alice may herself.
    let (allow, why) = decided(&world, &asked("insert", &alice, &token)).await;
    assert!(!allow && why.starts_with("DELEGATION-SCOPE"), "{why}");
    let (wide, _) = self::token(&world, &["insert", "select"]);
    let (allow, why) = decided(&world, &asked("insert", &alice, &wide)).await;
    assert!(
        !allow && why.contains("no policy allows it to bob"),
        "{why}"
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_counts_with_its_delegates_svid_alone_and_until_it_is_revoked() {
    let world = delegating().await;
    let alice = world.plane.issue("alice");
    let bob = world.plane.issue("bob");
    let (token, jti) = token(&world, &["select"]);
    // Bob presents what he gave to alice.
    let (allow, code) = decided(&world, &asked("select", &bob, &token)).await;
    assert_eq!(
        (allow, code.as_str()),
        (false, "DELEGATION-TOKEN-PRESENTER")
    );
    // Whoever asks vouches for alice, and nobody shows that she is there.
    let mut unshown = asked("select", &alice, &token);
    let properties = unshown["subject"]["properties"].as_object_mut().unwrap();
    properties.remove("x5c");
    let (allow, code) = decided(&world, &unshown).await;
    assert_eq!((allow, code.as_str()), (false, "PDP-DELEGATION-SVID"));
    // Two ways to say it.
    let mut twice = asked("select", &alice, &token);
    twice["subject"]["properties"]["on_behalf_of"] = json!(["bob"]);
    let (allow, code) = decided(&world, &twice).await;
    assert_eq!((allow, code.as_str()), (false, "PDP-DELEGATION-TWICE"));
    let mut search = asked("select", &alice, &token);
    search.as_object_mut().unwrap().remove("action");
    let (status, _) = world.post(SEARCH_ACTION, &search).await;
    assert_eq!(status, 400);
    // Not half a token, and nobody's wish for one.
    for noise in ["", "a.b.c", token.trim_start_matches('e')] {
        let (allow, code) = decided(&world, &asked("select", &alice, noise)).await;
        assert!(!allow && code == "DELEGATION-TOKEN-PARSE", "{code}");
    }
    assert!(decided(&world, &asked("select", &alice, &token)).await.0);
    world.plane.revoke(TargetKind::Serial, &jti);
    let mut tries = 0;
    loop {
        let (allow, code) = decided(&world, &asked("select", &alice, &token)).await;
        if !allow {
            assert_eq!(code, "DELEGATION-TOKEN-REVOKED");
            break;
        }
        tries += 1;
        assert!(tries < 3_000, "the revocation never came");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    world.stop().await;
}

/// The default: a chain that nobody proved is denied, and recorded as no agreement.
#[tokio::test(flavor = "multi_thread")]
async fn a_chain_that_is_only_told_is_denied_unless_the_decision_point_takes_claims() {
    let world = delegating().await;
    let mut told = asked("select", &world.plane.issue("alice"), "");
    let properties = told["subject"]["properties"].as_object_mut().unwrap();
    properties.remove("delegation");
    properties.insert("on_behalf_of".to_owned(), json!(["bob"]));
    let (allow, code) = decided(&world, &told).await;
    assert_eq!((allow, code.as_str()), (false, "PDP-DELEGATION-CLAIMED"));
    let about = world.decisions().pop().unwrap().about.unwrap();
    assert!(about.claimed_on_behalf_of.is_empty() && about.on_behalf_of.is_empty());
    world.stop().await;
}
