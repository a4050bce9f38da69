//! The gateway's health and metrics in the hands of those who mean no good.

use gateway::Metrics;
use std::sync::Arc;

#[tokio::test(flavor = "multi_thread")]
async fn hostile_http_keeps_nobody_from_the_metrics() {
    let address = testkit::port::free().unwrap();
    let metrics = Arc::new(Metrics::default());
    metrics.denials.inc_by(7);
    let serving = Arc::clone(&metrics).serve(address, || true).await.unwrap();
    tokio::task::spawn_blocking(move || testkit::http::besiege(address))
        .await
        .unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let told = tokio::task::spawn_blocking(move || testkit::http::raw(address, request))
        .await
        .unwrap();
    assert!(told.contains("trilith_gateway_denials_total 7"), "{told}");
    assert!(!serving.is_finished());
    serving.abort();
}
