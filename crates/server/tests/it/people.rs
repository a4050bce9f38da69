//! People who log in: by a provider of our own that says whatever an attacker wants, and by one that nobody
//! here wrote.

pub(crate) mod forger;
mod queued;
mod world;

use crate::harness::{Fixture, Link, estate, finding};
use crypto::Signer as _;
use facts::Timestamp;
use forger::{Forger, header, input, signed_by};
use oidc::proof::Purpose;
use proto::v1;
use proto::v1::admin_client::AdminClient;
use serde_json::{Value, json};
use std::sync::atomic::Ordering;
use std::time::Duration;
use svid_tls::OwnSvid;
use tonic::Status;
use tonic::transport::Channel;
pub(crate) use world::{Client, key, oidc};
use world::{World, with_people, without_ada};

fn code<T>(outcome: Result<T, Status>) -> String {
    finding(&outcome.err().expect("a refusal"))
        .code
        .into_owned()
}

async fn status(admin: &mut AdminClient<Channel>) -> Result<(), Status> {
    admin.status(v1::StatusRequest {}).await.map(drop)
}

/// The way of an honest person, each step of it in the ledger.
#[tokio::test(flavor = "multi_thread")]
async fn a_person_who_has_logged_in_administers_and_is_named_in_the_records() {
    let forger = Forger::start().await;
    let world = World::of(&forger).await;
    let ada = key();
    let done = world.login(&forger, &ada, "ada-1").await;
    assert_eq!(done.person, "people/ada");
    let mut admin = world.enter(&ada).await.unwrap();
    status(&mut admin).await.unwrap();
    // An act, and one that changes the estate.
    let token = v1::TokenCreateRequest {
        node: "db-1".to_owned(),
        pool: "demo".to_owned(),
        ttl_s: 60,
    };
    admin.token_create(token).await.unwrap();
    let mut files = with_people(&forger.issuer);
    files.insert("README.md", "By Ada.\n");
    let request = v1::EstateRequest {
        files: files.to_blob(),
        message: "from afar".to_owned(),
        ..v1::EstateRequest::default()
    };
    admin.estate_apply(request).await.unwrap();
    let records = world
        .fixture
        .records(&["admin", "token-created", "estate-version"])
        .await;
    let by_ada: Vec<String> = records
        .iter()
        .filter(|(_, record)| record["actor"] == "person:people/ada")
        .map(|(_, record)| {
            assert_eq!(record["auth"], "oidc");
            let action = record["body"]["action"]
                .as_str()
                .or(record["type"].as_str());
            format!("{} {}", record["body"]["principal"], action.unwrap())
        })
        .collect();
    for wanted in [
        r#""Identity::\"people/ada\"" login"#,
        r#""Admin::\"person:people/ada\"" token-create"#,
    ] {
        assert!(
            by_ada.iter().any(|line| line == wanted),
            "{wanted}: {by_ada:?}"
        );
    }
    assert!(
        records
            .iter()
            .any(|(_, record)| record["type"] == "estate-version"
                && record["body"]["author"] == "person:people/ada")
    );
    // What the provider calls her is in none of them.
    assert!(
        records
            .iter()
            .all(|(_, record)| record["type"] == "estate-version"
                || !record.to_string().contains("ada-1"))
    );
}

/// Bob is known, and in the group by which others administer.
#[tokio::test(flavor = "multi_thread")]
async fn a_person_whom_no_administrator_entry_names_is_heard_no_further() {
    let forger = Forger::start().await;
    let world = World::of(&forger).await;
    let bob = key();
    world.login(&forger, &bob, "bob-2").await;
    let mut admin = world.enter(&bob).await.unwrap();
    assert_eq!(code(status(&mut admin).await), "ADMIN-DENIED");
    // Only that it logged in: what a stranger sends is not read, and does not fill the ledger.
    let records = world.fixture.records(&["admin"]).await;
    let by_bob: Vec<_> = records
        .iter()
        .filter(|(_, record)| record["actor"] == "person:people/bob")
        .map(|(_, record)| record["body"]["action"].as_str().unwrap())
        .collect();
    assert_eq!(by_bob, ["login"]);
}

type Change = Box<dyn Fn(&mut Value)>;

fn change(change: impl Fn(&mut Value) + 'static) -> Change {
    Box::new(change)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_lie_of_an_id_token_is_refused_by_the_check_that_guards_against_it() {
    let forger = Forger::start().await;
    let world = World::of(&forger).await;
    let ada = key();
    let client = world.client(&ada).await;
    let issuer = forger.issuer.as_str();
    let now = Timestamp::now().as_secs();
    let changes = [
        (
            "OIDC-TOKEN-ISSUER",
            change(|c| c["iss"] = json!("https://evil.example")),
        ),
        (
            "OIDC-TOKEN-ISSUER",
            change(|c| c["iss"] = json!(format!("{}/", c["iss"].as_str().unwrap()))),
        ),
        ("OIDC-TOKEN-AUDIENCE", change(|c| c["aud"] = json!("other"))),
        (
            "OIDC-TOKEN-AUDIENCE",
            change(|c| c["aud"] = json!(["trilith", "other"])),
        ),
        ("OIDC-TOKEN-AUDIENCE", change(|c| c["azp"] = json!("other"))),
        ("OIDC-TOKEN-AUDIENCE", change(|c| c["aud"] = json!(null))),
        (
            "OIDC-TOKEN-EXPIRED",
            change(move |c| c["exp"] = json!(now - 60)),
        ),
        (
            "OIDC-TOKEN-TIME",
            change(move |c| c["iat"] = json!(now - 600)),
        ),
        (
            "OIDC-TOKEN-TIME",
            change(move |c| c["iat"] = json!(now + 120)),
        ),
        (
            "OIDC-TOKEN-TIME",
            change(move |c| c["nbf"] = json!(now + 120)),
        ),
        ("OIDC-TOKEN-FORM", change(|c| c["exp"] = json!("never"))),
        (
            "OIDC-TOKEN-NONCE",
            change(|c| c["nonce"] = json!("another")),
        ),
        ("OIDC-TOKEN-NONCE", change(|c| c["nonce"] = json!(null))),
        ("OIDC-TOKEN-SUBJECT", change(|c| c["sub"] = json!(""))),
        ("LOGIN-PERSON", change(|c| c["sub"] = json!("eve-9"))),
    ];
    for (refusal, applied) in &changes {
        let begun = client.begin(issuer).await.unwrap();
        let mut claims = forger.claims("ada-1", &client.asked(&begun));
        applied(&mut claims);
        let token = forger.signed(&header(), &claims);
        let finished = client.finish(issuer, &begun.nonce, &token).await;
        assert_eq!(code(finished), *refusal, "{claims}");
    }
    assert_eq!(code(world.enter(&ada).await), "SESSION-NONE");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_the_providers_key_did_not_sign_is_refused() {
    let (forger, other) = (Forger::start().await, Forger::start().await);
    let config = oidc(&forger.issuer, "") + &oidc(&other.issuer, "");
    let world = World::start(&forger.issuer, config).await;
    let client = world.client(&key()).await;
    let issuer = forger.issuer.as_str();
    let begun = client.begin(issuer).await.unwrap();
    let claims = forger.claims("ada-1", &client.asked(&begun));
    let none = json!({ "alg": "none", "kid": "k1" });
    let hmac = json!({ "alg": "HS256", "kid": "k1" });
    let mac = |secret: &[u8]| {
        let input = input(&hmac, &claims);
        let mac = crypto::hmac_sha256(secret, input.as_bytes());
        format!("{input}.{}", crypto::base64::encode_url(&mac))
    };
    let good = forger.signed(&header(), &claims);
    let (signed, _) = good.rsplit_once('.').unwrap();
    let cases = [
        (
            "OIDC-TOKEN-ALGORITHM",
            format!("{}.", input(&none, &claims)),
        ),
        (
            "OIDC-TOKEN-ALGORITHM",
            mac(forger.key.public_key().spki_der()),
        ),
        ("OIDC-TOKEN-ALGORITHM", mac(forger.key.public_key().raw())),
        // The other provider is one of ours, and its key has the same name.
        (
            "OIDC-TOKEN-SIGNATURE",
            signed_by(&other.key, &header(), &claims),
        ),
        ("OIDC-TOKEN-SIGNATURE", format!("{signed}.")),
        (
            "OIDC-TOKEN-SIGNATURE",
            forger.signed(&json!({ "alg": "RS256", "kid": "k1" }), &claims),
        ),
        (
            "OIDC-TOKEN-KEY",
            forger.signed(&json!({ "alg": "ES256" }), &claims),
        ),
        (
            "OIDC-TOKEN-KEY",
            forger.signed(&json!({ "alg": "ES256", "kid": "k2" }), &claims),
        ),
        (
            "OIDC-TOKEN-FORM",
            forger.signed(
                &json!({ "alg": "ES256", "kid": "k1", "crit": ["b64"] }),
                &claims,
            ),
        ),
        (
            "OIDC-TOKEN-FORM",
            forger.signed(
                &json!({ "alg": "ES256", "kid": "k1", "typ": "at+jwt" }),
                &claims,
            ),
        ),
        ("OIDC-TOKEN-FORM", "a.b".to_owned()),
    ];
    for (refusal, token) in cases {
        let finished = client.finish(issuer, &begun.nonce, &token).await;
        assert_eq!(code(finished), refusal, "{token}");
    }
    // The token of one provider where the other was asked.
    let mixed = other.token("ada-1", &client.asked(&begun));
    let finished = client.finish(issuer, &begun.nonce, &mixed).await;
    assert_eq!(code(finished), "OIDC-TOKEN-SIGNATURE");
    let finished = client.finish(&other.issuer, &begun.nonce, &mixed).await;
    assert_eq!(code(finished), "LOGIN-NONCE");
    assert_eq!(
        code(client.begin("https://nobody.example").await),
        "LOGIN-ISSUER"
    );
    client.finish(issuer, &begun.nonce, &good).await.unwrap();
}

/// Whoever sees a token on its way, or at another service, has nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_id_token_logs_nobody_in() {
    let forger = Forger::start().await;
    let world = World::of(&forger).await;
    let (ada, eve) = (key(), key());
    let (honest, thief) = (world.client(&ada).await, world.client(&eve).await);
    let issuer = forger.issuer.as_str();
    let begun = honest.begin(issuer).await.unwrap();
    let token = forger.token("ada-1", &honest.asked(&begun));
    // With a key of the thief's, and with the nonce of a login of the thief's.
    let finished = thief.finish(issuer, &begun.nonce, &token).await;
    assert_eq!(code(finished), "LOGIN-NONCE");
    let own = thief.begin(issuer).await.unwrap();
    let finished = thief.finish(issuer, &own.nonce, &token).await;
    assert_eq!(code(finished), "OIDC-TOKEN-NONCE");
    // By a server that hands this one's nonce on to those who log in there, with a key of its own.
    let relayed = forger.token("ada-1", &honest.asked(&own));
    let finished = thief.finish(issuer, &own.nonce, &relayed).await;
    assert_eq!(code(finished), "OIDC-TOKEN-NONCE");
    // With the key's name, but not the key.
    let request = v1::LoginFinish {
        issuer: issuer.to_owned(),
        public_key: honest.spki(),
        nonce: begun.nonce.clone(),
        id_token: token.clone(),
        proof: honest.proof(Purpose::Login, token.as_bytes()),
    };
    let elsewhere = thief.people().finish(request).await;
    assert_eq!(code(elsewhere), "LOGIN-PROOF");
    honest.finish(issuer, &begun.nonce, &token).await.unwrap();
    // Used, it is used up, for its owner as well.
    let again = honest.finish(issuer, &begun.nonce, &token).await;
    assert_eq!(code(again), "LOGIN-REPLAYED");
}

/// The head of a call comes while the person may, and its message when it may no more.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_held_back_until_the_person_is_revoked_does_nothing() {
    use http_body_util::StreamBody;
    use hyper::body::{Bytes, Frame};
    use prost::Message as _;
    use tower::Service as _;

    let forger = Forger::start().await;
    let world = World::of(&forger).await;
    let ada = key();
    world.login(&forger, &ada, "ada-1").await;
    let client = world.client(&ada).await;
    drop(client.enter().await.unwrap());
    let (sender, frames) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, Status>>(1);
    let frames = tokio_stream::wrappers::ReceiverStream::new(frames);
    let request = tonic::codegen::http::Request::builder()
        .method("POST")
        .uri("http://server.invalid/trilith.v1.Admin/TokenCreate")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(tonic::body::Body::new(StreamBody::new(frames)))
        .unwrap();
    let mut channel = client.link.channel.clone();
    std::future::poll_fn(|context| channel.poll_ready(context))
        .await
        .unwrap();
    let answer = tokio::spawn(channel.call(request));
    // The server has the head: what it was sent after it is answered.
    status(&mut client.admin()).await.unwrap();
    let revoke = v1::RevokeRequest {
        kind: "identity".to_owned(),
        value: "people/ada".to_owned(),
        reason: "her laptop is gone".to_owned(),
    };
    world.fixture.admin().await.revoke(revoke).await.unwrap();
    let message = v1::TokenCreateRequest {
        node: "evil".to_owned(),
        pool: "demo".to_owned(),
        ttl_s: 60,
    }
    .encode_to_vec();
    let mut framed = vec![0];
    framed.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    framed.extend(message);
    sender.send(Ok(Frame::data(framed.into()))).await.unwrap();
    drop(sender);
    let answer = answer.await.unwrap().unwrap();
    let refused = Status::from_header_map(answer.headers()).expect("a refusal");
    assert_eq!(finding(&refused).code, "LOGIN-REVOKED");
    assert!(world.fixture.records(&["token-created"]).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_of_its_key_on_its_connection() {
    let forger = Forger::start().await;
    let world = World::of(&forger).await;
    let (ada, eve) = (key(), key());
    world.login(&forger, &ada, "ada-1").await;
    // Nobody has entered.
    let honest = world.client(&ada).await;
    assert_eq!(code(status(&mut honest.admin()).await), "SESSION-NONE");
    // The name of the session with another key, and what was signed for another connection or purpose.
    let thief = world.client(&eve).await;
    let forged = v1::SessionProof {
        key: ada.public_key().spki_sha256().to_vec(),
        proof: thief.proof(Purpose::Enter, &[]),
    };
    assert_eq!(code(thief.people().enter(forged).await), "LOGIN-PROOF");
    let carried = honest.session(Purpose::Enter);
    assert_eq!(code(thief.people().enter(carried).await), "LOGIN-PROOF");
    let other = honest.session(Purpose::Logout);
    assert_eq!(code(honest.people().enter(other).await), "LOGIN-PROOF");
    assert_eq!(code(thief.enter().await), "SESSION-NONE");
    assert_eq!(code(status(&mut thief.admin()).await), "SESSION-NONE");
    let mut admin = honest.enter().await.unwrap();
    status(&mut admin).await.unwrap();
    // A connection stays whose it is.
    world.login(&forger, &eve, "bob-2").await;
    let second = Client {
        link: honest.link,
        key: eve,
    };
    assert_eq!(code(second.enter().await), "SESSION-OTHER");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_with_a_logout_its_time_or_the_server() {
    let forger = Forger::start().await;
    let mut world = World::of(&forger).await;
    let ada = key();
    world.login(&forger, &ada, "ada-1").await;
    let client = world.client(&ada).await;
    let mut admin = client.enter().await.unwrap();
    status(&mut admin).await.unwrap();
    let ended = world.client(&ada).await.logout().await.unwrap();
    assert_eq!(code(status(&mut admin).await), "SESSION-NONE");
    assert_eq!(code(world.enter(&ada).await), "SESSION-NONE");
    let records = world.fixture.records(&["admin"]).await;
    let record = records.iter().find(|(index, _)| *index == ended.index);
    assert_eq!(record.unwrap().1["body"]["action"], "logout");
    // A server that has started again knows no session.
    world.login(&forger, &ada, "ada-1").await;
    world.enter(&ada).await.unwrap();
    world.restart().await;
    assert_eq!(code(world.enter(&ada).await), "SESSION-NONE");
    world.login(&forger, &ada, "ada-1").await;
    world.enter(&ada).await.unwrap();
    // One of four seconds.
    let config = oidc(&forger.issuer, "session_s = 4");
    let world = World::start(&forger.issuer, config).await;
    world.login(&forger, &ada, "ada-1").await;
    let mut admin = world.enter(&ada).await.unwrap();
    status(&mut admin).await.unwrap();
    tokio::time::sleep(Duration::from_millis(4_100)).await;
    assert_eq!(code(status(&mut admin).await), "SESSION-ENDED");
    assert_eq!(code(world.enter(&ada).await), "SESSION-NONE");
}

/// The connection is open, and the session has its time.
#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_the_estate_or_is_revoked_is_nobody_at_once() {
    let forger = Forger::start().await;
    let world = World::of(&forger).await;
    let ada = key();
    let issuer = forger.issuer.as_str();
    world.login(&forger, &ada, "ada-1").await;
    let mut admin = world.enter(&ada).await.unwrap();
    status(&mut admin).await.unwrap();
    world.fixture.apply(&without_ada(issuer)).await.unwrap();
    assert_eq!(code(status(&mut admin).await), "SESSION-NONE");
    let client = world.client(&ada).await;
    let begun = client.begin(issuer).await.unwrap();
    let token = forger.token("ada-1", &client.asked(&begun));
    let finished = client.finish(issuer, &begun.nonce, &token).await;
    assert_eq!(code(finished), "LOGIN-PERSON");
    // She is back, and the session of before is not.
    world.fixture.apply(&with_people(issuer)).await.unwrap();
    assert_eq!(code(world.enter(&ada).await), "SESSION-NONE");

    // The login is another's from now on.
    world.login(&forger, &ada, "ada-1").await;
    let mut admin = world.enter(&ada).await.unwrap();
    let mut files = with_people(issuer);
    let people = files.0["identities/people.toml"].replace("ada-1", "ada-7");
    files.insert("identities/people.toml", people);
    world.fixture.apply(&files).await.unwrap();
    assert_eq!(code(status(&mut admin).await), "SESSION-NONE");

    // An administrator no more: the session stands, and may nothing.
    world.login(&forger, &ada, "ada-7").await;
    let mut admin = world.enter(&ada).await.unwrap();
    status(&mut admin).await.unwrap();
    let mut files = files.clone();
    files.insert("estate.toml", estate().0["estate.toml"].clone());
    world.fixture.apply(&files).await.unwrap();
    assert_eq!(code(status(&mut admin).await), "ADMIN-DENIED");

    // Revoked, and what a restoration does not bring back.
    world.fixture.apply(&with_people(issuer)).await.unwrap();
    world.login(&forger, &ada, "ada-1").await;
    let mut admin = world.enter(&ada).await.unwrap();
    let mut local = world.fixture.admin().await;
    let revoke = v1::RevokeRequest {
        kind: "identity".to_owned(),
        value: "people/ada".to_owned(),
        reason: "her laptop is gone".to_owned(),
    };
    local.revoke(revoke).await.unwrap();
    assert_eq!(code(status(&mut admin).await), "LOGIN-REVOKED");
    let begun = client.begin(issuer).await.unwrap();
    let token = forger.token("ada-1", &client.asked(&begun));
    let finished = client.finish(issuer, &begun.nonce, &token).await;
    assert_eq!(code(finished), "LOGIN-REVOKED");
    let restore = v1::RestoreRequest {
        identity: "people/ada".to_owned(),
        reason: "found".to_owned(),
    };
    local.restore(restore).await.unwrap();
    assert_eq!(code(status(&mut admin).await), "SESSION-NONE");
    world.login(&forger, &ada, "ada-1").await;
    world.enter(&ada).await.unwrap();
}

/// Tokens that name keys that nobody has, one after another.
#[tokio::test(flavor = "multi_thread")]
async fn unknown_keys_cost_the_provider_one_answer() {
    let forger = Forger::start().await;
    let world = World::of(&forger).await;
    world.login(&forger, &key(), "ada-1").await;
    assert_eq!(forger.asked.load(Ordering::SeqCst), 1);
    let client = world.client(&key()).await;
    let begun = client.begin(&forger.issuer).await.unwrap();
    for number in 0..50 {
        let header = json!({ "alg": "ES256", "kid": format!("no-{number}") });
        let token = forger.signed(&header, &forger.claims("ada-1", &client.asked(&begun)));
        let finished = client.finish(&forger.issuer, &begun.nonce, &token).await;
        assert_eq!(code(finished), "OIDC-TOKEN-KEY");
    }
    assert_eq!(forger.asked.load(Ordering::SeqCst), 1);
    // Nor is a login with a known key in anybody's way.
    world.login(&forger, &key(), "ada-1").await;
    assert_eq!(forger.asked.load(Ordering::SeqCst), 1);
}

/// The first to ask hangs up at once, and again whenever the provider may be asked: the others would hear that
/// it had given no answer.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_goes_away_while_the_provider_is_asked_keeps_nobody_out() {
    let forger = Forger::slow(Duration::from_millis(500)).await;
    let world = World::of(&forger).await;
    let rude = world.client(&key()).await;
    let begun = rude.begin(&forger.issuer).await.unwrap();
    let token = forger.token("ada-1", &rude.asked(&begun));
    let finish = rude.finish(&forger.issuer, &begun.nonce, &token);
    let gone = tokio::time::timeout(Duration::from_millis(200), finish).await;
    assert!(gone.is_err());
    drop(rude);
    world.login(&forger, &key(), "ada-1").await;
    assert_eq!(forger.asked.load(Ordering::SeqCst), 1);
}

/// A stranger has four seconds here; a person stays for the session.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_was_entered_lives_as_long_as_its_session() {
    let forger = Forger::start().await;
    // `[limits]` is the table that the configuration ends with.
    let config = format!("stranger_s = 4\n{}", oidc(&forger.issuer, ""));
    let world = World::start(&forger.issuer, config).await;
    let ada = key();
    world.login(&forger, &ada, "ada-1").await;
    let stranger = world.client(&ada).await;
    let mut admin = world.enter(&ada).await.unwrap();
    tokio::time::sleep(Duration::from_millis(5_500)).await;
    assert!(stranger.begin(&forger.issuer).await.is_err());
    status(&mut admin).await.unwrap();
}

/// Where nobody vouches for people, the port has no administration.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_provider_nobody_administers_over_the_network() {
    let fixture = Fixture::start().await;
    let pin = fixture.status().await["pin"].as_str().unwrap().to_owned();
    let anchors = fixture.anchors(&pin).await;
    let link = Link::dial(fixture.address(), OwnSvid::empty(), anchors).await;
    let asked = AdminClient::new(link.channel)
        .status(v1::StatusRequest {})
        .await;
    assert_eq!(asked.unwrap_err().code(), tonic::Code::Unimplemented);
}

/// Logs in at npm's `oidc-provider` by its pages, with each kind of signature that it has.
#[tokio::test(flavor = "multi_thread")]
async fn people_log_in_at_a_provider_that_nobody_here_wrote() {
    if let Err(missing) = testkit::oidc::installed() {
        testkit::skip(
            "server::people_log_in_at_a_provider_that_nobody_here_wrote",
            &missing,
        );
        return;
    }
    let provider = testkit::oidc::Provider::start().unwrap();
    let issuer = provider.issuer().to_owned();
    let http = ::oidc::fetch::Client::open(None).unwrap();
    for client_id in ["trilith", "trilith-es256", "trilith-eddsa"] {
        let config =
            oidc(&issuer, "max_age_s = 600").replace("\"trilith\"", &format!("{client_id:?}"));
        let world = World::start(&issuer, config).await;
        let ada = key();
        let client = world.client(&ada).await;
        // For another client of the same provider: a nonce of ours does not make it ours.
        for (asked_as, refusal) in [("other", Some("OIDC-TOKEN-AUDIENCE")), (client_id, None)] {
            let begun = client.begin(&issuer).await.unwrap();
            assert_eq!(begun.client_id, client_id);
            let asked = client.asked(&begun);
            let token = token_of(&http, &issuer, asked_as, &asked).await;
            let finished = client.finish(&issuer, &begun.nonce, &token).await;
            match refusal {
                Some(refusal) if client_id == "trilith" => assert_eq!(code(finished), refusal),
                // Others are refused as soon by the algorithm or the audience.
                Some(_) => assert!(finished.is_err()),
                None => assert_eq!(finished.unwrap().person, "people/ada"),
            }
        }
        status(&mut world.enter(&ada).await.unwrap()).await.unwrap();
    }
}

/// The ID token that the provider makes for Ada.
async fn token_of(
    http: &::oidc::fetch::Client,
    issuer: &str,
    client_id: &str,
    nonce: &str,
) -> String {
    let verifier = ::oidc::pkce::verifier();
    let redirect_uri = "http://127.0.0.1:9/callback";
    let escaped = ::oidc::redirect::escaped;
    let url = format!(
        "{issuer}/auth?response_type=code&scope=openid&client_id={client_id}&redirect_uri={}&state=s&nonce={}\
         &max_age=600&code_challenge={}&code_challenge_method=S256",
        escaped(redirect_uri),
        nonce,
        ::oidc::pkce::challenge(&verifier)
    );
    let back = tokio::task::spawn_blocking(move || testkit::oidc::log_in(&url, "ada-1"));
    let back = back.await.unwrap().unwrap();
    let (_, query) = back.split_once('?').unwrap();
    let code = ::oidc::redirect::code(query, "s", issuer, true).unwrap();
    let form = format!(
        "grant_type=authorization_code&code={}&redirect_uri={}&client_id={client_id}&code_verifier={verifier}",
        escaped(&code),
        escaped(redirect_uri)
    );
    let (status, body) = http.post(&format!("{issuer}/token"), form).await.unwrap();
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    let answer: Value = serde_json::from_slice(&body).unwrap();
    answer["id_token"].as_str().unwrap().to_owned()
}
