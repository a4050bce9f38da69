//! Malformed and oversized bytes at every listener of a running agent: the Workload API's socket, on which
//! helpers ask as well, and health over plain HTTP.

use crate::machine::Machine;
use crate::server::Server;
use hyper_util::rt::TokioIo;
use std::path::PathBuf;
use std::time::Duration;
use testkit::hostile::{bodies, noise};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tonic::codegen::http::Request;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::Service as _;

/// What only a hung agent uses up.
const PATIENCE: Duration = Duration::from_secs(60);

async fn channel(path: PathBuf) -> Channel {
    Endpoint::from_static("http://localhost")
        .connect_with_connector(tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        }))
        .await
        .unwrap()
}

/// The gRPC status of a call with `body`, from headers or trailers; none if there was no message in it
/// and the call was answered.
async fn call(channel: &Channel, method: &str, body: Vec<u8>) -> Option<String> {
    let request = Request::post(format!("http://localhost/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("workload.spiffe.io", "true")
        .body(tonic::body::Body::new(axum::body::Body::from(body)))
        .unwrap();
    let mut channel = channel.clone();
    std::future::poll_fn(|context| channel.poll_ready(context))
        .await
        .unwrap();
    let answer = tokio::time::timeout(PATIENCE, channel.call(request)).await;
    let answer = answer.expect("an answer").unwrap();
    let code = answer.headers().get("grpc-status");
    code.map(|code| code.to_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_bytes_on_the_workload_socket_are_refused_and_nothing_else_happens() {
    let server = Server::start().await;
    let machine = Machine::started(&server).await;
    let client = agent::client::Client::connect(&machine.address())
        .await
        .unwrap();
    let hostile = channel(machine.socket()).await;
    let methods = [
        "SpiffeWorkloadAPI/FetchX509SVID",
        "SpiffeWorkloadAPI/FetchJWTSVID",
        "SpiffeWorkloadAPI/ValidateJWTSVID",
        "trilith.v1.Helper/Status",
        "trilith.v1.Helper/FetchX509SVID",
        "trilith.v1.Nobody/Knows",
    ];
    for method in methods {
        for (what, body) in bodies() {
            let code = call(&hostile, method, body).await;
            // Fields that nobody knows are skipped, as protobuf has it: then it is an empty message. So is any
            // text where no field is text.
            let empty = ["two messages", "nested without end"].contains(&what)
                || (method == methods[0] && what == "text that is no UTF-8");
            assert!(
                empty || code.as_deref().is_some_and(|code| code != "0"),
                "{method}: {what}: {code:?}"
            );
        }
    }
    // Larger than any message there is.
    for method in [
        "SpiffeWorkloadAPI/ValidateJWTSVID",
        "trilith.v1.Helper/Status",
    ] {
        let length = 1_u32 << 20;
        let mut field = vec![0x0a];
        // Its length as a varint.
        field.extend([0xfb, 0xff, 0x3f]);
        let mut body = vec![0];
        body.extend(length.to_be_bytes());
        body.extend(&field);
        body.resize(5 + length as usize, b'x');
        let code = call(&hostile, method, body).await;
        assert_eq!(code.as_deref(), Some("11"), "{method}: out of range");
    }
    for bytes in noise() {
        let mut stream = UnixStream::connect(machine.socket()).await.unwrap();
        // The other side may have ended it.
        drop(stream.write_all(&bytes).await);
        let mut sink = [0; 4096];
        let end = async { while matches!(stream.read(&mut sink).await, Ok(1..)) {} };
        // Who only waits for more is left waiting, in a place of its own user.
        drop(tokio::time::timeout(Duration::from_secs(1), end).await);
    }
    // Who was there still is, and who comes is served.
    client.status(None).await.unwrap();
    let newcomer = agent::client::Client::connect(&machine.address())
        .await
        .unwrap();
    newcomer.status(None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_http_keeps_nobody_from_the_agents_health() {
    let server = Server::start().await;
    let mut machine = Machine::new(&server);
    let http = machine.with_http();
    machine.start();
    machine.ready().await;
    tokio::task::spawn_blocking(move || testkit::http::besiege(http))
        .await
        .unwrap();
    machine.stop().await;
}
