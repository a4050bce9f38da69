//! What is counted, and where it is told.

use crate::world::World;
use pdp::authzen::EVALUATION;
use serde_json::json;
use std::net::SocketAddr;

async fn get(address: SocketAddr, path: &str) -> String {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let answer = crate::world::exchange(stream, request.as_bytes()).await;
    assert_eq!(answer.status, 200, "{path} {answer:?}");
    answer.body
}

#[tokio::test(flavor = "multi_thread")]
async fn decisions_are_counted_beside_what_every_gateway_counts() {
    let address = testkit::port::free().unwrap();
    let world = World::configured(|config| config.pdp.http_listen = Some(address)).await;
    for who in ["alice", "bob", "nobody"] {
        let body = json!({
            "subject": {"type": "identity", "id": who},
            "action": {"name": "select"},
            "resource": {"type": "table", "id": "app/public/record-1"},
        });
        assert_eq!(world.post(EVALUATION, &body).await.0, 200);
    }
    assert_eq!(world.post(EVALUATION, &json!({})).await.0, 400);
    let text = get(address, "/metrics").await;
    for line in [
        "trilith_pdp_decisions_total{by=\"evaluation\",decision=\"allow\"} 2",
        "trilith_pdp_decisions_total{by=\"evaluation\",decision=\"deny\"} 1",
        "trilith_pdp_refused_total{code=\"PDP-REQUEST\"} 1",
        "trilith_gateway_following 1",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    assert_eq!(text.matches("# EOF").count(), 1, "{text}");
    assert_eq!(get(address, "/readyz").await, "ok");
    world.stop().await;
}
