//! Malformed and oversized bytes at every listener, and what the plain one says of a healthy server.

use crate::harness::{
    Fixture, Link, PATIENCE, PROGRAM, admin_channel, finding, get, metric, program, raw,
};
use std::time::{Duration, Instant};
use svid_tls::OwnSvid;
use testkit::hostile::{bodies, noise};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tonic::codegen::http::Request;
use tonic::transport::Channel;
use tower::Service as _;

/// Sends each of the bodies to each of the methods; every one is answered with an error.
async fn malformed(channel: &Channel, methods: &[&str]) {
    for method in methods {
        for (what, body) in bodies() {
            let request = Request::post(format!("http://server.invalid/{method}"))
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .body(tonic::body::Body::new(axum::body::Body::from(body)))
                .unwrap();
            let mut channel = channel.clone();
            std::future::poll_fn(|context| channel.poll_ready(context))
                .await
                .unwrap();
            let answer = tokio::time::timeout(PATIENCE, channel.call(request)).await;
            let answer = answer.expect("an answer").unwrap();
            let headers = answer.headers().clone();
            let body = axum::body::to_bytes(axum::body::Body::new(answer.into_body()), 1 << 20);
            let body = tokio::time::timeout(PATIENCE, body).await.expect("an end");
            let code = headers
                .get("grpc-status")
                .map(|code| code.to_str().unwrap().to_owned());
            // A stream is opened before its first message comes: that ends it, as it must.
            let streams = ["Node/Sync", "Follow/Stream"];
            // A message that happens to be empty is one; whoever sent it is then refused for itself.
            assert!(
                streams.iter().any(|stream| method.ends_with(stream))
                    || code.as_deref().is_some_and(|code| code != "0")
                    || body.is_ok_and(|body| body.is_empty()),
                "{method}: {what}: {code:?}"
            );
        }
    }
}

/// The other side ends it.
async fn ends(mut stream: impl AsyncRead + AsyncWrite + Unpin, bytes: &[u8]) {
    drop(stream.write_all(bytes).await);
    drop(stream.flush().await);
    let mut sink = [0; 4096];
    let end = async { while matches!(stream.read(&mut sink).await, Ok(1..)) {} };
    tokio::time::timeout(PATIENCE, end).await.expect("an end");
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_bytes_on_the_tls_port_are_refused_and_nothing_else_happens() {
    let fixture = Fixture::start_with("stranger_s = 5\n").await;
    let bystander = fixture.join("m0").await;
    let mut sync = bystander.sync().await.unwrap();
    let machine = fixture.join("m1").await;
    let pin = fixture.token("m2").await.pin;
    let anchors = fixture.anchors(&pin).await;
    for join in [
        "trilith.v1.Join/Token",
        "trilith.v1.Join/TpmChallenge",
        "trilith.v1.Join/TpmFinish",
    ] {
        // A stranger has only so much time.
        let anchors = std::sync::Arc::clone(&anchors);
        let stranger = Link::dial(fixture.address(), OwnSvid::empty(), anchors).await;
        malformed(&stranger.channel, &[join]).await;
    }
    let node = [
        "trilith.v1.Node/Renew",
        "trilith.v1.Node/Sync",
        "trilith.v1.Follow/Stream",
    ];
    malformed(&machine.link().await.channel, &node).await;
    malformed(
        &machine.link().await.channel,
        &["trilith.v1.Nobody/Knows", ""],
    )
    .await;
    for bytes in noise() {
        // Before TLS, and within it.
        ends(
            tokio::net::TcpStream::connect(fixture.address())
                .await
                .unwrap(),
            &bytes,
        )
        .await;
        let mut config = Link::member(OwnSvid::empty(), std::sync::Arc::clone(&anchors));
        config.alpn_protocols = vec![b"h2".to_vec()];
        let tcp = tokio::net::TcpStream::connect(fixture.address())
            .await
            .unwrap();
        let tls = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
        let stream = tls.connect(svid_tls::server_name(), tcp).await.unwrap();
        ends(stream, &bytes).await;
    }
    // Who was there still is, and who comes gets in.
    sync.ask("w1", &program(1000, PROGRAM), Vec::new())
        .await
        .unwrap();
    fixture.join("m3").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_bytes_on_the_admin_socket_are_refused_and_nothing_else_happens() {
    let fixture = Fixture::start().await;
    let socket = fixture.dir.path().join("data/admin.sock");
    let channel = admin_channel(&socket).await;
    let methods = [
        "trilith.v1.Admin/EstateApply",
        "trilith.v1.Admin/EstatePlan",
        "trilith.v1.Admin/EstatePlanParts",
        "trilith.v1.Admin/TokenCreate",
        "trilith.v1.Admin/Revoke",
        "trilith.v1.Admin/Pack",
    ];
    malformed(&channel, &methods).await;
    for bytes in noise() {
        let stream = tokio::net::UnixStream::connect(&socket).await.unwrap();
        let talk = tokio::time::timeout(Duration::from_secs(2), ends(stream, &bytes));
        // Who only waits for more is left waiting: it is one of this machine's own users.
        drop(talk.await);
    }
    let request = proto::v1::EstateRequest {
        files: vec![b'x'; 40 << 20],
        ..proto::v1::EstateRequest::default()
    };
    let refused = fixture
        .admin()
        .await
        .estate_apply(request)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), tonic::Code::OutOfRange, "{refused:?}");
    for files in [
        b"".as_slice(),
        b"[]",
        b"{\"../../x\":\"\"}",
        b"{\"/x\":\"\"}",
        &[0xff; 100],
    ] {
        let request = proto::v1::EstateRequest {
            files: files.to_vec(),
            ..proto::v1::EstateRequest::default()
        };
        let refused = fixture.admin().await.estate_plan(request).await;
        if let Err(status) = refused {
            assert_eq!(finding(&status).code, "ESTATE-FILES");
        }
    }
    fixture.token("m1").await;
    assert_eq!(fixture.records(&["estate-version"]).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_http_is_bounded_and_leads_nowhere() {
    let fixture = Fixture::start().await;
    let http = fixture.running().http_listen;
    // Slowly, and first: it has its time while the others are looked at.
    let begun = Instant::now();
    let mut slow = Vec::new();
    for _ in 0..20 {
        let mut stream = tokio::net::TcpStream::connect(http).await.unwrap();
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nx-a: ")
            .await
            .unwrap();
        slow.push(stream);
    }

    let long = format!(
        "GET /healthz HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n",
        "y".repeat(1 << 20)
    );
    let answer = raw(http, long.as_bytes()).await;
    assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    let many = "x-many: y\r\n".repeat(100_000);
    let answer = raw(
        http,
        format!("GET /healthz HTTP/1.1\r\n{many}\r\n").as_bytes(),
    )
    .await;
    assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    for bytes in [
        b"\x16\x03\x01\x02\x00\x01".as_slice(),
        b"\r\n\r\n\r\n",
        b"GET\r\n\r\n",
        &[0; 10_000],
    ] {
        let answer = raw(http, bytes).await;
        assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    for path in [
        "/tile/../../keys/ca/server.pk8",
        "/tile/0/../../../etc/passwd",
        "/tile/%2e%2e/%2e%2e/keys/ca/server.pk8",
        "/tile/0/..%2f..%2f..%2fetc%2fpasswd",
        "/tile/0/000/../../../state.sqlite",
        "//etc/passwd",
        "/tile/",
        "/tile/0/x",
        "/tile/0/x999/x999/x999/x999/x999/x999/x999/999",
        "/tile/255/000",
        "/tile/99999999999999999999/000",
        "/tile/0/000.p/0",
        "/tile/0/000.p/65536",
        "/tile/entries/x018/x446/x744/x073/x709/x551/615",
        "/tile/0/000%00",
        "/secrets/commitment",
    ] {
        let (status, body) = get(http, path).await;
        assert!((400..500).contains(&status), "{path}: {status} {body}");
        assert!(body.len() < 200, "{path}: {body}");
    }
    let post = raw(
        http,
        b"POST /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 3\r\n\r\nabc",
    )
    .await;
    assert!(post.starts_with("HTTP/1.1 405"), "{post}");
    assert_eq!(get(http, "/healthz").await.0, 200);

    for mut stream in slow {
        let mut answer = Vec::new();
        let end = stream.read_to_end(&mut answer);
        drop(
            tokio::time::timeout(PATIENCE, end)
                .await
                .expect("nobody may be slow for ever"),
        );
    }
    assert!(
        begun.elapsed() < Duration::from_secs(60),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(get(http, "/healthz").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_http_keeps_nobody_from_health_and_checkpoints() {
    let fixture = Fixture::start().await;
    let http = fixture.running().http_listen;
    tokio::task::spawn_blocking(move || testkit::http::besiege(http))
        .await
        .unwrap();
    assert_eq!(get(http, "/checkpoint").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn health_readiness_and_metrics_say_how_it_is() {
    let mut fixture = Fixture::bare().await;
    let http = fixture.running().http_listen;
    assert_eq!(get(http, "/healthz").await, (200, "ok\n".to_owned()));
    let (status, body) = get(http, "/readyz").await;
    assert_eq!(status, 503);
    let why: facts::Finding = serde_json::from_str(&body).unwrap();
    assert_eq!(why.code, "ESTATE-NONE");
    fixture.apply(&crate::harness::estate()).await.unwrap();
    assert_eq!(get(http, "/readyz").await, (200, "ready\n".to_owned()));

    let issued = "trilith_server_svids_issued_total{kind=\"x509\"}";
    let refused = "trilith_server_joins_refused_total{code=\"JOIN-TOKEN\"}";
    let names = [
        issued,
        refused,
        "trilith_server_joins_total",
        "trilith_server_ledger_size",
        "trilith_server_nodes_connected",
        "trilith_server_workloads",
        "trilith_server_revocations_total",
        "trilith_server_ledger_append_seconds_count",
    ];
    let mut before = Vec::new();
    for name in names {
        before.push(metric(http, name).await);
    }
    let machine = fixture.join("m1").await;
    let mut sync = machine.sync().await.unwrap();
    sync.ask("w1", &program(1000, PROGRAM), Vec::new())
        .await
        .unwrap();
    let mut token = fixture.token("m2").await;
    token.token = "nothing".to_owned();
    assert!(fixture.join_with(&token).await.is_err());
    let request = proto::v1::RevokeRequest {
        kind: "identity".to_owned(),
        value: "payments/api".to_owned(),
        reason: "drill".to_owned(),
    };
    fixture.admin().await.revoke(request).await.unwrap();
    for (name, before) in names.into_iter().zip(before) {
        let after = metric(http, name).await;
        assert!(after > before, "{name}: {before}, and then {after}");
    }
    assert_eq!(
        metric(http, issued).await,
        3,
        "the server's, the node's, the workload's"
    );
    let version = fixture.records(&["estate-version"]).await;
    let current = metric(http, "trilith_server_estate_index").await;
    assert_eq!(current, version[0].0);
    fixture.stop().await;
    assert!(tokio::net::TcpStream::connect(http).await.is_err());
}
