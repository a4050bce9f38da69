//! What `trilith delegate` does, against a running server, by the SVID that the local agent gives.

use crate::delegating::{Agent, GRANTS, first, office, proved, server};
use crate::harness::Fixture;
use agent::delegate::{DelegateOptions, delegate};
use proto::workload as wire;
use proto::workload::spiffe_workload_api_server::{SpiffeWorkloadApi, SpiffeWorkloadApiServer};
use std::pin::Pin;
use std::time::Duration;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};

type Stream<T> = Pin<Box<dyn tokio_stream::Stream<Item = Result<T, Status>> + Send>>;

/// An agent's Workload API with one SVID.
struct Workload(wire::X509svid);

fn none<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not in this test"))
}

#[tonic::async_trait]
impl SpiffeWorkloadApi for Workload {
    type FetchX509SVIDStream = Stream<wire::X509svidResponse>;
    type FetchX509BundlesStream = Stream<wire::X509BundlesResponse>;
    type FetchJWTBundlesStream = Stream<wire::JwtBundlesResponse>;
    type FetchWITSVIDStream = Stream<wire::WitsvidResponse>;
    type FetchWITBundlesStream = Stream<wire::WitBundlesResponse>;

    async fn fetch_x509svid(
        &self,
        _: Request<wire::X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        let response = wire::X509svidResponse {
            svids: vec![self.0.clone()],
            ..wire::X509svidResponse::default()
        };
        Ok(Response::new(Box::pin(tokio_stream::iter([Ok(response)]))))
    }
    async fn fetch_x509_bundles(
        &self,
        _: Request<wire::X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        none()
    }
    async fn fetch_jwtsvid(
        &self,
        _: Request<wire::JwtsvidRequest>,
    ) -> Result<Response<wire::JwtsvidResponse>, Status> {
        none()
    }
    async fn fetch_jwt_bundles(
        &self,
        _: Request<wire::JwtBundlesRequest>,
    ) -> Result<Response<Self::FetchJWTBundlesStream>, Status> {
        none()
    }
    async fn validate_jwtsvid(
        &self,
        _: Request<wire::ValidateJwtsvidRequest>,
    ) -> Result<Response<wire::ValidateJwtsvidResponse>, Status> {
        none()
    }
    async fn fetch_witsvid(
        &self,
        _: Request<wire::WitsvidRequest>,
    ) -> Result<Response<Self::FetchWITSVIDStream>, Status> {
        none()
    }
    async fn fetch_wit_bundles(
        &self,
        _: Request<wire::WitBundlesRequest>,
    ) -> Result<Response<Self::FetchWITBundlesStream>, Status> {
        none()
    }
}

/// Serves what `agent` holds; returns the address of its socket.
fn served(fixture: &Fixture, agent: &Agent, name: &str) -> String {
    let bundle = agent.machine.joined.bundle.clone().unwrap();
    let svid = wire::X509svid {
        spiffe_id: agent.held.svid.spiffe_id.clone(),
        x509_svid: agent.held.svid.certificate_chain.concat(),
        x509_svid_key: agent.held.key.to_pkcs8().unwrap().to_vec(),
        bundle: bundle.x509_authorities.concat(),
        hint: String::new(),
    };
    let path = fixture.dir.path().join(name);
    let socket = tokio::net::UnixListener::bind(&path).unwrap();
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(SpiffeWorkloadApiServer::new(Workload(svid)))
            .serve_with_incoming(UnixListenerStream::new(socket)),
    );
    format!("unix://{}", path.display())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_lets_another_act_by_the_svid_that_its_agent_gives() {
    let fixture = server().await;
    fixture.apply(&office(GRANTS)).await.unwrap();
    let helper = Agent::start(&fixture, "m1", 3000).await;
    let (token, _) = first(&fixture).await;
    let options = DelegateOptions {
        socket: served(&fixture, &helper, "helper.sock"),
        server: fixture.address().to_string(),
        token,
        to: "agents/summary".to_owned(),
        actions: vec!["select".to_owned()],
        resources: Vec::new(),
        ttl_s: 60,
        wait: Some(Duration::from_secs(30)),
    };
    let made = delegate(options.clone()).await.unwrap();
    let proof = proved(&fixture, &helper, &made.token, "agents/summary").await;
    let proof = proof.unwrap();
    assert_eq!(proof.delegation.jti, made.jti);
    assert_eq!(proof.receipt.index, made.index);
    assert_eq!(proof.delegation.not_after, made.expires_at.as_secs());
    assert_eq!(
        proof.delegation.actions.as_deref(),
        Some(&["select".to_owned()][..])
    );

    // What the server refuses comes through as it said it; who is another does not get so far.
    let refused = |options: DelegateOptions| async move {
        let refused = delegate(options).await.err().unwrap();
        refused.code.into_owned()
    };
    let nobody = DelegateOptions {
        to: "payments/api".to_owned(),
        ..options.clone()
    };
    assert_eq!(refused(nobody).await, "DELEGATION-NONE");
    let stolen = DelegateOptions {
        token: made.token,
        ..options.clone()
    };
    assert_eq!(refused(stolen).await, "DELEGATE-IDENTITY");
    let noise = DelegateOptions {
        token: "x".to_owned(),
        ..options.clone()
    };
    assert_eq!(refused(noise).await, "DELEGATION-TOKEN-PARSE");
    let away = DelegateOptions {
        server: "127.0.0.1:1".to_owned(),
        ..options
    };
    assert_eq!(refused(away).await, "DELEGATE-SERVER");
}
