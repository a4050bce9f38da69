//! The `spiffe` crate of the Rust registry.

use crate::endpoint::{Endpoint, denied};
use facts::Finding;
use spiffe_client::{TrustDomain, WorkloadApiClient, WorkloadApiError, X509Source};
use tokio_stream::StreamExt;
use workload_api::Refusal;

async fn client(endpoint: &Endpoint) -> WorkloadApiClient {
    WorkloadApiClient::connect_to(&endpoint.uri).await.unwrap()
}

#[tokio::test]
async fn fetches_svids_and_bundles() {
    let endpoint = Endpoint::with_two();
    let client = client(&endpoint).await;
    let context = client.fetch_x509_context().await.unwrap();
    let ids: Vec<String> = context
        .svids()
        .iter()
        .map(|svid| svid.spiffe_id().to_string())
        .collect();
    assert_eq!(
        ids,
        [
            "spiffe://example.org/payments/api",
            "spiffe://example.org/payments/batch"
        ]
    );
    // Both came with the same hint; the response must not hold it twice.
    assert_eq!(context.svids()[0].hint(), Some("internal"));
    assert_eq!(context.svids()[1].hint(), None);
    assert_eq!(context.svids()[0].cert_chain().len(), 2);

    let trust_domain = TrustDomain::new("example.org").unwrap();
    let bundles = client.fetch_x509_bundles().await.unwrap();
    assert_eq!(bundles.get(&trust_domain).unwrap().authorities().len(), 1);
    let bundles = client.fetch_jwt_bundles().await.unwrap();
    assert!(
        bundles
            .get(&trust_domain)
            .unwrap()
            .find_jwt_authority("jwt-1")
            .is_some()
    );
}

#[tokio::test]
async fn fetches_and_validates_tokens() {
    let endpoint = Endpoint::with_two();
    let client = client(&endpoint).await;
    let id = spiffe_client::SpiffeId::new("spiffe://example.org/payments/batch").unwrap();
    let token = client
        .fetch_jwt_token(["db", "cache"], Some(&id))
        .await
        .unwrap();
    let svid = client.validate_jwt_token("db", &token).await.unwrap();
    assert_eq!(svid.spiffe_id(), &id);
    assert_eq!(svid.audience(), ["db", "cache"]);
    let all = client.fetch_all_jwt_svids(["db"], None).await.unwrap();
    assert_eq!(all.len(), 2);

    let wrong = client
        .validate_jwt_token("other", &token)
        .await
        .unwrap_err();
    assert!(wrong.is_invalid_argument(), "{wrong}");
    let stale = endpoint
        .fake
        .authority
        .jwt("a", &["db".to_owned()], 5)
        .token;
    let wrong = client.validate_jwt_token("db", &stale).await.unwrap_err();
    assert!(wrong.is_invalid_argument(), "{wrong}");
    let other = spiffe_client::SpiffeId::new("spiffe://example.org/other").unwrap();
    let refused = client.fetch_jwt_token(["db"], Some(&other)).await;
    assert!(matches!(refused, Err(WorkloadApiError::NoIdentityIssued)));
}

#[tokio::test]
async fn a_stream_carries_each_change_whole_and_ends_with_redaction() {
    let endpoint = Endpoint::with_two();
    let client = client(&endpoint).await;
    let stream = client.stream_x509_contexts().await.unwrap();
    tokio::pin!(stream);
    let count = |context: spiffe_client::X509Context| context.svids().len();
    assert_eq!(count(stream.next().await.unwrap().unwrap()), 2);

    let authority = &endpoint.fake.authority;
    endpoint.fake.show(vec![authority.x509("payments/api", "")]);
    assert_eq!(count(stream.next().await.unwrap().unwrap()), 1);

    endpoint.fake.refuse(denied());
    let redacted = stream.next().await.unwrap().unwrap_err();
    assert!(
        matches!(redacted, WorkloadApiError::NoIdentityIssued),
        "{redacted}"
    );
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn without_identity_it_is_told_so() {
    let endpoint = Endpoint::start();
    endpoint.fake.refuse(denied());
    let refused = client(&endpoint).await.fetch_x509_svid().await;
    assert!(matches!(refused, Err(WorkloadApiError::NoIdentityIssued)));
}

#[tokio::test]
async fn a_source_follows_rotation_and_survives_a_pause() {
    let endpoint = Endpoint::with_two();
    let source = X509Source::builder()
        .endpoint(&endpoint.uri)
        .build()
        .await
        .unwrap();
    let before = source.svid().unwrap();
    let mut updates = source.updated();
    let seen = updates.last();
    let authority = &endpoint.fake.authority;
    endpoint.fake.show(vec![authority.x509("payments/api", "")]);
    updates.wait_for(|number| *number > seen).await.unwrap();
    let after = source.svid().unwrap();
    assert_eq!(before.spiffe_id(), after.spiffe_id());
    assert_ne!(before.cert_chain(), after.cert_chain());

    // The agent loses its footing for a while: the client retries by itself.
    endpoint
        .fake
        .refuse(Refusal::Unavailable(Finding::new("AGENT-OFFLINE", "away")));
    let seen = updates.last();
    endpoint.fake.show(vec![authority.x509("payments/api", "")]);
    updates.wait_for(|number| *number > seen).await.unwrap();
    source.shutdown().await;
}
