//! Envoy's question over gRPC, asked by hand: what a real Envoy would not send is asked here as well.

use crate::plane::Svid;
use crate::world::World;
use hyper_util::rt::TokioIo;
use ledger::body::TargetKind;
use proto::ext_authz::authorization_client::AuthorizationClient;
use proto::ext_authz::check_response::HttpResponse;
use proto::ext_authz::{AttributeContext, CheckRequest, CheckResponse, attribute_context};
use tonic::transport::{Channel, Endpoint, Uri};

async fn client(world: &World) -> AuthorizationClient<Channel> {
    let socket = world.socket.clone();
    let channel = Endpoint::from_static("http://pdp.invalid")
        .connect_with_connector(tower::service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move {
                let stream = tokio::net::UnixStream::connect(socket).await?;
                Ok::<_, std::io::Error>(TokioIo::new(stream))
            }
        }))
        .await
        .unwrap();
    AuthorizationClient::new(channel)
}

/// As Envoy forwards a certificate.
pub(crate) fn forwarded(svid: &Svid) -> String {
    let text = crypto::base64::encode(&svid.chain[0]);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    let pem = format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        lines.join("\n")
    );
    pem.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

fn request(principal: &str, certificate: &str, method: &str, path: &str) -> CheckRequest {
    CheckRequest {
        attributes: Some(AttributeContext {
            source: Some(attribute_context::Peer {
                principal: principal.to_owned(),
                certificate: certificate.to_owned(),
            }),
            request: Some(attribute_context::Request {
                http: Some(attribute_context::HttpRequest {
                    method: method.to_owned(),
                    path: path.to_owned(),
                    host: "app.example.org".to_owned(),
                    ..Default::default()
                }),
            }),
            ..Default::default()
        }),
    }
}

/// HTTP status, code of the finding, and the decision's id.
fn told(response: CheckResponse) -> (i32, String, Option<String>) {
    let status = response.status.unwrap();
    let (http, headers) = match response.http_response.unwrap() {
        HttpResponse::OkResponse(ok) => {
            assert_eq!(status.code, 0);
            (200, ok.headers)
        }
        HttpResponse::DeniedResponse(denied) => {
            assert_ne!(status.code, 0);
            assert!(denied.body.starts_with(&status.message), "{}", denied.body);
            (denied.status.unwrap().code, denied.headers)
        }
    };
    let decision = headers
        .into_iter()
        .next()
        .map(|header| header.header.unwrap().value);
    (http, status.message, decision)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_let_through_for_whom_a_policy_allows_what_it_means() {
    let world = World::start().await;
    let mut client = client(&world).await;
    let (alice, envoy) = (world.plane.issue("alice"), world.plane.issue("envoy/edge"));
    let (alice_pem, envoy_pem) = (forwarded(&alice), forwarded(&envoy));
    for (id, pem, method, path, expected, code) in [
        (&alice.id, &alice_pem, "GET", "/records/7?x=y", 200, ""),
        (&envoy.id, &envoy_pem, "GET", "/records", 403, "PDP-DENIED"),
        (&alice.id, &alice_pem, "POST", "/records", 403, "PDP-ROUTE"),
        (&alice.id, &alice_pem, "GET", "/other", 403, "PDP-ROUTE"),
        (
            &alice.id,
            &alice_pem,
            "GET",
            "/x/../records",
            403,
            "PDP-PATH",
        ),
        (
            &alice.id,
            &String::new(),
            "GET",
            "/records",
            403,
            "PDP-CERTIFICATE",
        ),
        (
            &alice.id,
            &"%zz".to_owned(),
            "GET",
            "/records",
            403,
            "PDP-CERTIFICATE",
        ),
    ] {
        let response = client.check(request(id, pem, method, path)).await.unwrap();
        let (status, message, decision) = told(response.into_inner());
        assert_eq!(
            (status, message.as_str()),
            (expected, code),
            "{method} {path}"
        );
        assert!(decision.unwrap().starts_with("pdp-1:"));
    }
    let decisions = world.decisions();
    let first = &decisions[0];
    assert!(first.allow && first.statement == "ext_authz/records");
    let about = first.about.clone().unwrap();
    assert_eq!(
        (about.spiffe_id, about.issuance.unwrap().0),
        (alice.id.clone(), alice.receipt.index)
    );
    assert_eq!(
        decisions.iter().filter(|decision| decision.allow).count(),
        1
    );
    assert_eq!(decisions[3].statement, "ext_authz/-");
    let nothing = client
        .check(CheckRequest { attributes: None })
        .await
        .unwrap();
    assert_eq!(told(nothing.into_inner()).0, 403);
    world.stop().await;
}

/// HTTP status and code of a request of `alice` that says for whom it is.
async fn on_behalf_of(
    client: &mut AuthorizationClient<Channel>,
    alice: &Svid,
    others: &str,
) -> (i32, String) {
    let mut request = request(&alice.id, &forwarded(alice), "GET", "/records");
    let attributes = request.attributes.as_mut().unwrap();
    let http = attributes.request.as_mut().unwrap().http.as_mut().unwrap();
    let header = ("x-trilith-on-behalf-of".to_owned(), others.to_owned());
    http.headers.extend([header]);
    let (status, code, _) = told(client.check(request).await.unwrap().into_inner());
    (status, code)
}

/// A client's own header narrows what it may, and can do no more than that.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_acts_for_others_is_let_through_for_what_they_may() {
    let world = World::configured(|config| config.delegation = pdp::Delegation::Claimed).await;
    let mut files = crate::world::estate();
    files.insert(
        "delegations/d.toml",
        "[[delegation]]\nid = \"alice reads for bob\"\nfrom = 'Identity::\"bob\"'\nto = 'Identity::\"alice\"'\n",
    );
    let mut client = client(&world).await;
    let alice = world.plane.issue("alice");
    // Nobody has delegated anything yet.
    assert_eq!(
        on_behalf_of(&mut client, &alice, "bob").await,
        (403, "PDP-DENIED".to_owned())
    );
    world.plane.apply(&files);
    let mut tries = 0;
    while on_behalf_of(&mut client, &alice, "bob").await.0 != 200 {
        tries += 1;
        assert!(tries < 1_200, "the delegation never came into force");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let about = world.decisions().pop().unwrap().about.unwrap();
    assert_eq!(about.claimed_on_behalf_of, ["spiffe://example.org/bob"]);
    for (others, code) in [
        ("envoy/edge", "PDP-DENIED"),
        ("bob, envoy/edge", "PDP-DENIED"),
        ("alice", "DELEGATION-CHAIN"),
        ("bob,bob", "DELEGATION-CHAIN"),
        ("", "PDP-SUBJECT"),
        ("bob,", "PDP-SUBJECT"),
        ("spiffe://other.org/bob", "PDP-SUBJECT-DOMAIN"),
    ] {
        assert_eq!(
            on_behalf_of(&mut client, &alice, others).await,
            (403, code.to_owned()),
            "{others:?}"
        );
    }
    world.stop().await;
}

/// HTTP status and code of a request of `who` that presents a delegation token.
async fn presented(
    client: &mut AuthorizationClient<Channel>,
    who: &Svid,
    token: &str,
) -> (i32, String) {
    let mut request = request(&who.id, &forwarded(who), "GET", "/records");
    let attributes = request.attributes.as_mut().unwrap();
    let http = attributes.request.as_mut().unwrap().http.as_mut().unwrap();
    let header = ("x-trilith-delegation".to_owned(), token.to_owned());
    http.headers.extend([header]);
    let (status, code, _) = told(client.check(request).await.unwrap().into_inner());
    (status, code)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_proves_for_whom_it_acts_by_a_token_of_its_own() {
    let world = crate::tokens::delegating().await;
    let mut client = client(&world).await;
    let (alice, bob) = (world.plane.issue("alice"), world.plane.issue("bob"));
    let (token, jti) = crate::tokens::token(&world, &["select"]);
    assert_eq!(presented(&mut client, &alice, &token).await.0, 200);
    let about = world.decisions().pop().unwrap().about.unwrap();
    assert_eq!(about.on_behalf_of[0].jti, jti);
    assert!(about.claimed_on_behalf_of.is_empty());
    // Read by somebody else on its way, it is nothing; and what is only told is not believed here.
    let stolen = presented(&mut client, &bob, &token).await;
    assert_eq!(stolen, (403, "DELEGATION-TOKEN-PRESENTER".to_owned()));
    let claimed = on_behalf_of(&mut client, &alice, "bob").await;
    assert_eq!(claimed, (403, "PDP-DELEGATION-CLAIMED".to_owned()));
    world.stop().await;
}

/// What Envoy says of the principal is not what decides: the certificate is.
#[tokio::test(flavor = "multi_thread")]
async fn a_principal_without_its_certificate_is_nobody() {
    let world = World::start().await;
    let mut client = client(&world).await;
    let bob = world.plane.issue("envoy/edge");
    let lied = request(
        "spiffe://example.org/alice",
        &forwarded(&bob),
        "GET",
        "/records",
    );
    let (status, code, _) = told(client.check(lied).await.unwrap().into_inner());
    assert_eq!((status, code.as_str()), (403, "PDP-DENIED"));
    let about = world.decisions().pop().unwrap().about.unwrap();
    assert_eq!(about.spiffe_id, "spiffe://example.org/envoy/edge");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_identity_is_not_let_through() {
    let world = World::start().await;
    let mut client = client(&world).await;
    let alice = world.plane.issue("alice");
    let asked = request(&alice.id, &forwarded(&alice), "GET", "/records");
    let before = client.check(asked.clone()).await.unwrap();
    assert_eq!(told(before.into_inner()).0, 200);
    world.plane.revoke(TargetKind::Identity, "alice");
    let cut = async {
        loop {
            let (status, code, _) = told(client.check(asked.clone()).await.unwrap().into_inner());
            if status == 403 {
                return code;
            }
        }
    };
    let code = tokio::time::timeout(crate::world::PATIENCE, cut)
        .await
        .unwrap();
    assert_eq!(code, "GATEWAY-REVOKED");
    world.stop().await;
}

/// A gRPC error would be an answer that Envoy may be configured to take for a yes.
#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_can_be_recorded_the_answer_is_no_and_not_an_error() {
    let disk = crate::faulty_disk::FaultyDisk::default();
    let world = World::start_with(|_| {}, std::sync::Arc::new(disk.clone())).await;
    let mut client = client(&world).await;
    let alice = world.plane.issue("alice");
    let asked = request(&alice.id, &forwarded(&alice), "GET", "/records");
    disk.fill();
    let (status, code, decision) = told(client.check(asked).await.unwrap().into_inner());
    assert_eq!(
        (status, code.as_str(), decision),
        (503, "GATEWAY-RECORDING-STOPPED", None)
    );
    disk.empty();
    world.stop().await;
}
