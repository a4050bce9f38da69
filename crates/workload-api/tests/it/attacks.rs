//! Callers that break the rules: each test fails if the rule's check is removed.

use crate::endpoint::Endpoint;
use hyper_util::rt::TokioIo;
use proto::workload as wire;
use proto::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Uri};
use tonic::{Code, Request};
use workload_api::Limits;

async fn channel(path: PathBuf) -> Result<Channel, tonic::transport::Error> {
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    tonic::transport::Endpoint::from_static("http://localhost")
        .connect_with_connector(connector)
        .await
}

async fn client(endpoint: &Endpoint) -> SpiffeWorkloadApiClient<Channel> {
    SpiffeWorkloadApiClient::new(channel(endpoint.path.clone()).await.unwrap())
}

fn with_header<T>(value: &'static str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("workload.spiffe.io", value.parse().unwrap());
    request
}

/// `request` with the header.
fn proper<T>(message: T) -> Request<T> {
    with_header("true", message)
}

/// Endpoint spec, section 6: all of the seven calls, no header, nothing answered.
#[tokio::test]
async fn without_the_security_header_nothing_is_answered() {
    let endpoint = Endpoint::with_two();
    let mut client = client(&endpoint).await;
    let jwt = wire::JwtsvidRequest {
        audience: vec!["a".to_owned()],
        spiffe_id: String::new(),
    };
    let validate = wire::ValidateJwtsvidRequest {
        audience: "a".to_owned(),
        svid: "b".to_owned(),
    };
    let codes = [
        client.fetch_x509svid(wire::X509svidRequest {}).await.err(),
        client
            .fetch_x509_bundles(wire::X509BundlesRequest {})
            .await
            .err(),
        client.fetch_jwtsvid(jwt).await.err(),
        client
            .fetch_jwt_bundles(wire::JwtBundlesRequest {})
            .await
            .err(),
        client.validate_jwtsvid(validate).await.err(),
        client
            .fetch_witsvid(wire::WitsvidRequest::default())
            .await
            .err(),
        client
            .fetch_wit_bundles(wire::WitBundlesRequest {})
            .await
            .err(),
    ]
    .map(|error| error.map(|status| status.code()));
    assert_eq!(codes, [Some(Code::InvalidArgument); 7]);
    // The value is case-sensitive.
    for value in ["True", "TRUE", "1", ""] {
        let request = with_header(value, wire::X509svidRequest {});
        let status = client.fetch_x509svid(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{value}");
    }
    let answered = client
        .fetch_x509svid(proper(wire::X509svidRequest {}))
        .await;
    assert!(answered.is_ok());
}

#[tokio::test]
async fn the_wit_profile_is_off() {
    let endpoint = Endpoint::with_two();
    let mut client = client(&endpoint).await;
    let svid = client
        .fetch_witsvid(proper(wire::WitsvidRequest::default()))
        .await;
    assert_eq!(svid.unwrap_err().code(), Code::Unimplemented);
    let bundles = client
        .fetch_wit_bundles(proper(wire::WitBundlesRequest {}))
        .await;
    assert_eq!(bundles.unwrap_err().code(), Code::Unimplemented);
}

#[tokio::test]
async fn mandatory_fields_are_mandatory() {
    let endpoint = Endpoint::with_two();
    let mut client = client(&endpoint).await;
    for audience in [
        vec![],
        vec![String::new()],
        vec!["a".to_owned(), String::new()],
    ] {
        let request = wire::JwtsvidRequest {
            audience,
            spiffe_id: String::new(),
        };
        let status = client.fetch_jwtsvid(proper(request)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
    }
    for (audience, svid) in [("", "x"), ("x", ""), ("x", "not a token")] {
        let request = wire::ValidateJwtsvidRequest {
            audience: audience.to_owned(),
            svid: svid.to_owned(),
        };
        let status = client.validate_jwtsvid(proper(request)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn an_oversize_request_is_refused_and_harms_nobody() {
    let endpoint = Endpoint::with_two();
    let mut client = client(&endpoint).await;
    let limit = Limits::default().request_bytes;
    let request = wire::ValidateJwtsvidRequest {
        audience: "a".to_owned(),
        svid: "x".repeat(limit + 1),
    };
    let status = client.validate_jwtsvid(proper(request)).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
    let answered = client
        .fetch_x509svid(proper(wire::X509svidRequest {}))
        .await;
    assert!(answered.is_ok());
}

#[tokio::test]
async fn bytes_that_are_no_http2_close_the_connection_and_nothing_else() {
    let endpoint = Endpoint::with_two();
    let mut raw = UnixStream::connect(&endpoint.path).await.unwrap();
    let noise = [0x16; 64 << 10];
    // The other side may close before it has read all of it.
    drop(tokio::io::AsyncWriteExt::write_all(&mut raw, &noise).await);
    let mut rest = Vec::new();
    drop(raw.read_to_end(&mut rest).await);
    let mut client = client(&endpoint).await;
    let answered = client
        .fetch_x509svid(proper(wire::X509svidRequest {}))
        .await;
    assert!(answered.is_ok());
}

#[tokio::test]
async fn a_user_cannot_take_every_connection() {
    let limits = Limits {
        connections_per_uid: 2,
        ..Limits::default()
    };
    let endpoint = Endpoint::with(limits);
    let mut first = UnixStream::connect(&endpoint.path).await.unwrap();
    let _second = UnixStream::connect(&endpoint.path).await.unwrap();
    let mut third = UnixStream::connect(&endpoint.path).await.unwrap();
    assert_eq!(third.read(&mut [0; 64]).await.unwrap(), 0, "closed at once");
    assert_eq!(endpoint.fake.identified.load(Ordering::SeqCst), 2);
    // The first two are served: HTTP/2 begins with the server's settings.
    assert_ne!(first.read(&mut [0; 64]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_user_cannot_open_streams_without_end() {
    let limits = Limits {
        calls_per_uid: 3,
        ..Limits::default()
    };
    let endpoint = Endpoint::with(limits);
    let authority = &endpoint.fake.authority;
    endpoint.fake.show(vec![authority.x509("a", "")]);
    let mut streams = Vec::new();
    for _ in 0..3 {
        let mut client = client(&endpoint).await;
        let stream = client
            .fetch_x509svid(proper(wire::X509svidRequest {}))
            .await;
        streams.push((stream.unwrap().into_inner(), client));
    }
    assert_eq!(endpoint.fake.streams(), 3);
    let mut client = client(&endpoint).await;
    let status = client
        .fetch_x509svid(proper(wire::X509svidRequest {}))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
}

/// API spec, section 4.3: initialising is `Unavailable`, and a change while waiting is the answer.
#[tokio::test]
async fn while_nothing_is_known_a_call_waits_for_the_first_answer() {
    let endpoint = Endpoint::start();
    endpoint.fake.forget();
    let mut waiting = client(&endpoint).await;
    let call = tokio::spawn(async move {
        waiting
            .fetch_x509svid(proper(wire::X509svidRequest {}))
            .await
    });
    while endpoint.fake.streams() == 0 {
        tokio::task::yield_now().await;
    }
    let authority = &endpoint.fake.authority;
    endpoint.fake.show(vec![authority.x509("a", "")]);
    let mut stream = call.await.unwrap().unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap();
    assert_eq!(first.svids[0].spiffe_id, "spiffe://example.org/a");
}
