//! A backup is restored under a real gateway: nothing is signed, cuts act, and after the recovery the
//! gateway follows again, and only what the restored ledger holds counts.

mod new_log;

use crate::harness::{DOMAIN, Fixture, Held, Machine, PROGRAM, config_text, finding, program};
use crate::surviving::copy;
use proto::v1;
use proto::workload::spiffe_workload_api_server::{SpiffeWorkloadApi, SpiffeWorkloadApiServer};
use proto::workload::{self as wire, X509svid, X509svidResponse};
use rustls::pki_types::CertificateDer;
use serde_json::Value;
use server::Config;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

/// A local Workload API that hands out one SVID, to whoever asks.
struct OneSvid(X509svidResponse);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl SpiffeWorkloadApi for OneSvid {
    type FetchX509SVIDStream = Answers<X509svidResponse>;
    type FetchX509BundlesStream = Answers<wire::X509BundlesResponse>;
    type FetchJWTBundlesStream = Answers<wire::JwtBundlesResponse>;
    type FetchWITSVIDStream = Answers<wire::WitsvidResponse>;
    type FetchWITBundlesStream = Answers<wire::WitBundlesResponse>;

    async fn fetch_x509svid(
        &self,
        _: Request<wire::X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        use futures::StreamExt as _;
        let first = futures::stream::iter([Ok(self.0.clone())]);
        Ok(Response::new(Box::pin(
            first.chain(futures::stream::pending()),
        )))
    }

    async fn fetch_x509_bundles(
        &self,
        _: Request<wire::X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn fetch_jwtsvid(
        &self,
        _: Request<wire::JwtsvidRequest>,
    ) -> Result<Response<wire::JwtsvidResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn fetch_jwt_bundles(
        &self,
        _: Request<wire::JwtBundlesRequest>,
    ) -> Result<Response<Self::FetchJWTBundlesStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn validate_jwtsvid(
        &self,
        _: Request<wire::ValidateJwtsvidRequest>,
    ) -> Result<Response<wire::ValidateJwtsvidResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn fetch_witsvid(
        &self,
        _: Request<wire::WitsvidRequest>,
    ) -> Result<Response<Self::FetchWITSVIDStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn fetch_wit_bundles(
        &self,
        _: Request<wire::WitBundlesRequest>,
    ) -> Result<Response<Self::FetchWITBundlesStream>, Status> {
        Err(Status::unimplemented(""))
    }
}

/// Serves `held` at a socket in `dir`, until the test ends.
pub(crate) fn workload_api(dir: &Path, held: &Held) -> PathBuf {
    let path = dir.join("workload.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let answer = X509svidResponse {
        svids: vec![X509svid {
            spiffe_id: held.svid.spiffe_id.clone(),
            x509_svid: held.svid.certificate_chain.concat(),
            x509_svid_key: held.key.to_pkcs8().unwrap().to_vec(),
            ..X509svid::default()
        }],
        ..X509svidResponse::default()
    };
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(SpiffeWorkloadApiServer::new(OneSvid(answer)))
            .serve_with_incoming(tokio_stream::wrappers::UnixListenerStream::new(listener)),
    );
    path
}

/// As the harness starts it, at an address that a restart keeps.
fn config(dir: &Path, port: u16) -> Config {
    let path = dir.join("server.toml");
    let listen = format!("listen = \"127.0.0.1:{port}\"\nhttp_listen");
    let text = config_text(dir).replacen("listen = \"127.0.0.1:0\"\nhttp_listen", &listen, 1);
    std::fs::write(&path, text).unwrap();
    Config::load(&path).unwrap()
}

fn free_port() -> u16 {
    testkit::port::free().unwrap().port()
}

pub(crate) async fn payments(machine: &Machine, workload: &str) -> Held {
    let mut sync = machine.sync().await.unwrap();
    let facts = program(1000, PROGRAM);
    let (_, mut held) = sync.ask(workload, &facts, Vec::new()).await.unwrap();
    held.remove(0)
}

pub(crate) async fn admitted(
    core: &gateway::Core,
    held: &Held,
) -> Result<gateway::Principal, String> {
    let chain = held.svid.certificate_chain.iter().cloned();
    let chain: Vec<CertificateDer<'static>> = chain.map(CertificateDer::from).collect();
    let admitted = core.admit(&chain).await;
    admitted.map_err(|finding| finding.code.to_string())
}

pub(crate) async fn until(what: &str, holds: impl AsyncFnMut() -> bool) {
    testkit::comes_to_hold(holds, || what.to_owned()).await;
}

async fn revoke(fixture: &Fixture, kind: &str, value: &str) -> Value {
    let request = v1::RevokeRequest {
        kind: kind.to_owned(),
        value: value.to_owned(),
        reason: "stolen".to_owned(),
    };
    let answer = fixture.admin().await.revoke(request).await.unwrap();
    serde_json::from_str(&answer.into_inner().json).unwrap()
}

async fn tree(fixture: &Fixture) -> (Value, Value) {
    let status = fixture.status().await;
    (
        status["ledger"]["size"].clone(),
        status["ledger"]["root"].clone(),
    )
}

async fn recover(fixture: &Fixture) -> Result<Value, Status> {
    let request = v1::RecoverRequest {
        reason: "the disk was lost".to_owned(),
    };
    let answer = fixture.admin().await.recover(request).await?;
    Ok(serde_json::from_str(&answer.into_inner().json).unwrap())
}

/// Records of these types in the gateway's own ledger.
fn own_records(core: &gateway::Core, kind: ledger::RecordType) -> Vec<ledger::Record> {
    let reader = core.reader();
    let all = reader.read(0..reader.size()).unwrap();
    let records = all
        .into_iter()
        .map(|bytes| ledger::Record::from_vec(bytes).unwrap());
    records.filter(|record| record.kind() == kind).collect()
}

/// A server, a real gateway that follows it, and a copy of the server's data from before what came last.
pub(crate) struct Scene {
    pub(crate) fixture: Fixture,
    pub(crate) config: Config,
    pub(crate) machine: Machine,
    pub(crate) gateway: gateway::Config,
    core: Option<Arc<gateway::Core>>,
}

impl Scene {
    async fn set() -> Self {
        Self::prepared(|_| ()).await
    }

    /// `prepare` finds the folder of the gateway before it starts.
    pub(crate) async fn prepared(prepare: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path(), free_port());
        let server = Some(server::start(config.clone()).await.unwrap());
        let fixture = Fixture { dir, server };
        fixture.apply(&crate::harness::estate()).await.unwrap();
        let token = fixture.token("m1").await;
        let machine = fixture.join_with(&token).await.unwrap();
        let mut sync = machine.sync().await.unwrap();
        let facts = program(2000, PROGRAM);
        let (_, mut held) = sync.ask("gateway", &facts, Vec::new()).await.unwrap();
        let gateway = gateway::Config {
            trust_domain: DOMAIN.to_owned(),
            name: "pg".to_owned(),
            identity: "gateway/pg".to_owned(),
            server: fixture.address().to_string(),
            pin: token.pin.clone(),
            workload_socket: workload_api(fixture.dir.path(), &held.remove(0)),
            data_dir: fixture.dir.path().join("gateway"),
            http_listen: None,
            witnesses: None,
        };
        std::fs::create_dir(&gateway.data_dir).unwrap();
        prepare(&gateway.data_dir);
        let core = Some(gateway::Core::open(gateway.clone()).await.unwrap());
        Self {
            fixture,
            config,
            machine,
            gateway,
            core,
        }
    }

    pub(crate) fn core(&self) -> &Arc<gateway::Core> {
        self.core.as_ref().unwrap()
    }

    pub(crate) async fn close_gateway(&mut self) {
        self.core.take().unwrap().close().await.unwrap();
    }

    pub(crate) async fn open_gateway(&mut self) {
        self.core = Some(gateway::Core::open(self.gateway.clone()).await.unwrap());
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.fixture.dir.path().join("data")
    }

    pub(crate) async fn start(&mut self) {
        self.fixture.server = Some(server::start(self.config.clone()).await.unwrap());
    }

    async fn back_up(&mut self) {
        self.fixture.stop().await;
        copy(&self.data(), &self.fixture.dir.path().join("backup"));
        self.start().await;
    }

    async fn restore(&mut self) {
        self.fixture.stop().await;
        let backup = self.fixture.dir.path().join("backup");
        std::fs::remove_dir_all(self.data()).unwrap();
        copy(&backup, &self.data());
        self.start().await;
    }

    /// The gateway has taken all that the server has published.
    pub(crate) async fn followed(&self) {
        until("the gateway follows the server's newest head", async || {
            let (size, root) = self.core().following().head();
            let root = root.map(|root| crypto::base64::encode(&root));
            let (ours, our_root) = tree(&self.fixture).await;
            ours == size && our_root == root.unwrap_or_default()
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_recovery_a_real_gateway_follows_again_and_what_the_backup_does_not_hold_is_refused()
 {
    let mut scene = Scene::set().await;
    let kept = payments(&scene.machine, "kept").await;
    let cut = payments(&scene.machine, "cut").await;
    let gone = payments(&scene.machine, "gone").await;
    scene.followed().await;
    scene.back_up().await;
    until("the gateway admits", async || {
        admitted(scene.core(), &kept).await.is_ok()
    })
    .await;
    let late = payments(&scene.machine, "late").await;
    revoke(&scene.fixture, "serial", &gone.svid.serial).await;
    scene.followed().await;
    let principal = admitted(scene.core(), &late).await.unwrap();
    assert_eq!(
        admitted(scene.core(), &gone).await.unwrap_err(),
        "GATEWAY-REVOKED"
    );
    let longest = Duration::from_secs(3_600);
    let now = facts::Timestamp::now();
    let sessions = scene.core().following().sessions();
    let on_late = sessions.register(&principal, longest, now);
    let principal = admitted(scene.core(), &kept).await.unwrap();
    let on_kept = sessions.register(&principal, longest, now);
    let principal = admitted(scene.core(), &cut).await.unwrap();
    let on_cut = sessions.register(&principal, longest, now);

    scene.restore().await;
    let found = tree(&scene.fixture).await;
    let status = scene.fixture.status().await;
    assert_eq!(status["signing"]["code"], "SERVER-BEHIND-PEER", "{status}");
    // ------------------------------------------------------------ nothing is signed, a cut acts
    let token = v1::TokenCreateRequest {
        node: "m9".to_owned(),
        pool: "demo".to_owned(),
        ttl_s: 60,
    };
    let refused = scene.fixture.admin().await.token_create(token).await;
    assert_eq!(finding(&refused.unwrap_err()).code, "SERVER-BEHIND-PEER");
    let revoked = revoke(&scene.fixture, "serial", &cut.svid.serial).await;
    assert_eq!(revoked["index"], Value::Null, "its record waits");
    until("the cut reaches the gateway, which is ahead", async || {
        on_cut.is_cut().is_some()
    })
    .await;
    assert!(on_kept.is_cut().is_none() && on_late.is_cut().is_none());
    // With what the server of before recorded in its last moments, as an anchor of this gateway's ledger.
    let abandoned = scene.core().following().head();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(tree(&scene.fixture).await, found, "a record was signed");
    assert_eq!(scene.core().following().head(), abandoned);

    // ------------------------------------------------------------ recovery
    let answer = recover(&scene.fixture).await.unwrap();
    let size = answer["goes_on_from"].as_u64().unwrap();
    assert!(size < abandoned.0, "{answer}");
    scene.followed().await;
    until("the gateway has the whole state", async || {
        admitted(scene.core(), &kept).await.is_ok()
    })
    .await;
    assert!(on_kept.is_cut().is_none(), "it rests on what stayed");
    // The head goes over first, and then what rests on the other one ends.
    until(
        "what rests on a record that was given up ends",
        async || on_late.is_cut().is_some(),
    )
    .await;
    let refused = admitted(scene.core(), &late).await.unwrap_err();
    assert!(
        ["FOLLOW-FORKED", "FOLLOW-CHECKPOINT-UNKNOWN"].contains(&refused.as_str()),
        "{refused}"
    );
    for revoked in [&cut, &gone] {
        let refused = admitted(scene.core(), revoked).await.unwrap_err();
        assert_eq!(refused, "GATEWAY-REVOKED");
    }
    let revocations = scene.fixture.records(&["revocation"]).await;
    assert_eq!(revocations.len(), 1, "the one that waited");
    assert_eq!(
        revocations[0].1["body"]["target"]["value"],
        cut.svid.serial.as_str()
    );
    let recoveries = scene.fixture.records(&["recovery"]).await;
    let old_size = Value::String(abandoned.0.to_string());
    let of_the_gateway = recoveries
        .iter()
        .find(|(_, record)| record["body"]["old_size"] == old_size)
        .expect("the gateway's head is given up by name");
    let own = own_records(scene.core(), ledger::RecordType::Recovery);
    let own: ledger::body::Recovery = own[0].expect_body().unwrap();
    assert_eq!(own.obeyed.unwrap().0, of_the_gateway.0);
    assert!(own.old_checkpoint.unwrap().starts_with(DOMAIN));
    let new = payments(&scene.machine, "new").await;
    until("what is issued now comes in", async || {
        admitted(scene.core(), &new).await.is_ok()
    })
    .await;
    // Before the backup, and the one that waited for the recovery and comes first of it: a leap of the clock is judged
    // from there.
    let starts = scene.fixture.records(&["start"]).await;
    assert_eq!(starts.len(), 2);
    assert!(recoveries.iter().all(|(index, _)| *index > starts[1].0));

    // ------------------------------------------------------------ and both start again
    scene.close_gateway().await;
    scene.open_gateway().await;
    until("the restarted gateway follows", async || {
        admitted(scene.core(), &kept).await.is_ok()
    })
    .await;
    for (held, code) in [(&gone, "GATEWAY-REVOKED"), (&cut, "GATEWAY-REVOKED")] {
        assert_eq!(admitted(scene.core(), held).await.unwrap_err(), code);
    }
    let refused = admitted(scene.core(), &late).await.unwrap_err();
    assert!(refused.starts_with("FOLLOW-"), "{refused}");
    scene.fixture.stop().await;
    scene.start().await;
    assert_eq!(scene.fixture.status().await["signing"], "allowed");
    scene.followed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_was_away_during_the_recovery_steps_over_when_it_comes() {
    let mut scene = Scene::set().await;
    scene.followed().await;
    scene.back_up().await;
    payments(&scene.machine, "late").await;
    scene.followed().await;
    let following = scene.core().following().clone();
    scene.close_gateway().await;
    let followed = following.head().0;
    // More than it has seen: the head beside the key is what the recovery gives up.
    payments(&scene.machine, "later").await;
    scene.restore().await;
    let answer = recover(&scene.fixture).await.unwrap();
    let given_up = answer["given_up"].as_array().unwrap();
    assert!(
        given_up.iter().all(|head| head["size"] != followed),
        "{answer}"
    );

    scene.open_gateway().await;
    scene.followed().await;
    assert_eq!(scene.fixture.status().await["signing"], "allowed");
    let own = own_records(scene.core(), ledger::RecordType::Recovery);
    let own: ledger::body::Recovery = own[0].expect_body().unwrap();
    assert_eq!(own.old_size.0, followed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_that_a_gateway_has_followed_blocks_the_next_start_too() {
    let mut scene = Scene::set().await;
    scene.followed().await;
    let noted = scene.gateway.data_dir.join("anchored.json");
    until("the gateway notes what is anchored", async || {
        noted.exists()
    })
    .await;
    scene.back_up().await;
    payments(&scene.machine, "late").await;
    scene.followed().await;
    // The head beside the key is rolled back as well: only the gateway knows.
    std::fs::remove_file(scene.fixture.dir.path().join("keys/ledger/highest-head")).unwrap();
    scene.fixture.stop().await;
    std::fs::remove_file(scene.fixture.dir.path().join("keys/ledger/highest-head")).unwrap();
    std::fs::remove_dir_all(scene.data()).unwrap();
    copy(&scene.fixture.dir.path().join("backup"), &scene.data());
    scene.start().await;
    until("the gateway shows what it followed", async || {
        scene.fixture.status().await["signing"]["code"] == "SERVER-BEHIND-PEER"
    })
    .await;
    // What the server of before had anchored, this one may not have: nothing of it is pruned.
    until("the gateway takes its note back", async || !noted.exists()).await;
    scene.close_gateway().await;
    scene.fixture.stop().await;
    scene.start().await;
    let status = scene.fixture.status().await;
    assert_eq!(status["signing"]["code"], "SERVER-BEHIND-PEER", "{status}");
    recover(&scene.fixture).await.unwrap();
    scene.open_gateway().await;
    scene.followed().await;
}
