//! Stand-ins for the server and the node agent: the real wire protocols over a real ledger and
//! authority, without policy of their own.

use crypto::{Algorithm, Custody as _, KeyPair, Signer};
use custody::FileCustody;
use estate::EstateFiles;
use facts::Timestamp;
use identity::{Authority, Lifetimes};
use ledger::body::{self, BlobRef, Body as _, FactValue, SvidKind, Target, TargetKind};
use ledger::{Base64, Commitment, Decimal, Digest, EstateRef, HexDigest, Receipt, Salt};
use ledger_store::{Ledger, Options};
use proto::v1::{
    self, Anchored, Anchors, CheckpointDelta, Cut, Delta, GatewayMessage, Heartbeat, Proven,
    RecordDelta, Renewed, delta, gateway_message::Message,
};
use spiffe_core::delegation::{Issued, Link, Narrowed, Terms};
use spiffe_core::{Serial, TrustDomain};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use svid_tls::{ClientAuth, OwnSvid};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::{broadcast, mpsc};
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::{Request, Response, Status, Streaming};

pub(crate) const DOMAIN: &str = "example.org";

/// Seconds that a brief SVID lives.
pub(crate) const BRIEF: u64 = 5;

/// An issued SVID: chain (DER, leaf first), key and where it was recorded.
#[derive(Clone)]
pub(crate) struct Svid {
    pub(crate) id: String,
    pub(crate) chain: Vec<Vec<u8>>,
    pub(crate) key: Arc<KeyPair>,
    pub(crate) serial: String,
    pub(crate) receipt: Receipt,
}

struct State {
    /// Size of the newest published checkpoint.
    published: u64,
    /// Records that a gateway needs at connection: receipt index and blob.
    current: BTreeMap<String, (u64, Vec<u8>)>,
    estate: Option<EstateRef>,
    serial: u8,
}

/// The server.
pub(crate) struct Plane {
    pub(crate) ledger: Ledger,
    pub(crate) authority: Authority,
    /// The same authority, whose SVIDs live for [`BRIEF`].
    brief: Authority,
    trust_domain: TrustDomain,
    state: Mutex<State>,
    deltas: broadcast::Sender<Delta>,
    pub(crate) address: Mutex<Option<SocketAddr>>,
}

impl Plane {
    pub(crate) fn start(folder: &Path) -> Arc<Self> {
        let custody = FileCustody::open(&folder.join("server-keys")).unwrap();
        let trust_domain = TrustDomain::new(DOMAIN).unwrap();
        let lifetimes = Lifetimes::default();
        let now = Timestamp::now();
        let document = Authority::create(&trust_domain, &lifetimes, &custody, now).unwrap();
        let authority = Authority::open(document.clone(), lifetimes, &custody).unwrap();
        let lifetimes = Lifetimes {
            x509_s: BRIEF,
            ..Lifetimes::default()
        };
        let brief = Authority::open(document, lifetimes, &custody).unwrap();
        let signer = custody
            .load_or_generate("ledger", Algorithm::Ed25519)
            .unwrap();
        let options = Options::default();
        let ledger = Ledger::open(
            &folder.join("server-ledger"),
            signer,
            &format!("{DOMAIN}/server"),
            &options,
        )
        .unwrap();
        let plane = Arc::new(Self {
            ledger,
            authority,
            brief,
            trust_domain,
            state: Mutex::new(State {
                published: 0,
                current: BTreeMap::new(),
                estate: None,
                serial: 0,
            }),
            deltas: broadcast::Sender::new(4096),
            address: Mutex::new(None),
        });
        let bundle = body::Bundle {
            sequence: Decimal(1),
            x509_authorities: plane
                .authority
                .roots()
                .map(|root| Base64(root.to_vec()))
                .collect(),
            jwt_authorities: plane
                .authority
                .document()
                .jwt
                .iter()
                .map(|jwt| body::JwtAuthority {
                    kid: jwt.kid.clone(),
                    spki: Base64(crypto::base64::decode(&jwt.spki).unwrap()),
                })
                .collect(),
            blob: None,
        };
        plane.record("bundle", bundle.record(), Vec::new());
        plane
    }

    pub(crate) fn pin(&self) -> String {
        let roots: Vec<&[u8]> = self.authority.roots().collect();
        let key = self.ledger.key().public_key().spki_der();
        svid_tls::pin::digest(&self.trust_domain, &roots, key)
    }

    /// Appends, publishes the checkpoint, and pushes the record as one that gateways act upon.
    fn record(&self, name: &str, record: ledger::RecordBuilder, blob: Vec<u8>) -> u64 {
        let draft = record.actor("test", "test").draft().unwrap();
        let committed = self.ledger.append(draft).wait().unwrap();
        let index = committed.index();
        let mut state = self.state.lock().unwrap();
        state.current.insert(name.to_owned(), (index, blob.clone()));
        self.publish(&mut state);
        let receipt = committed.receipt().encode().unwrap();
        self.push(delta::Delta::Record(RecordDelta {
            receipt,
            blob,
            initial: false,
        }));
        index
    }

    fn push(&self, delta: delta::Delta) {
        let _nobody = self.deltas.send(Delta { delta: Some(delta) });
    }

    fn publish(&self, state: &mut State) {
        let reader = self.ledger.reader();
        let head = reader.head();
        if head.checkpoint.size <= state.published {
            return;
        }
        let delta = self.extension(state.published, head.checkpoint.size, &head.note);
        state.published = head.checkpoint.size;
        self.push(delta);
    }

    fn extension(&self, from: u64, to: u64, note: &str) -> delta::Delta {
        let proof = if from == 0 {
            Vec::new()
        } else {
            self.ledger.reader().consistency(from, to).unwrap()
        };
        delta::Delta::Checkpoint(CheckpointDelta {
            checkpoint: note.to_owned(),
            old_size: from,
            consistency: proof.iter().map(|hash| hash.to_vec()).collect(),
        })
    }

    pub(crate) fn apply(&self, files: &EstateFiles) -> u64 {
        let blob = files.to_blob();
        let reference = BlobRef::of(&blob);
        let version = body::EstateVersion {
            version: reference.sha256,
            blob: reference,
            parent: None,
            author: "test".to_owned(),
            message: String::new(),
            proof_index: None,
            floor: Decimal(0),
        };
        let version_hash: HexDigest = reference.sha256;
        let index = self.record("estate", version.record(), blob);
        self.state.lock().unwrap().estate = Some(EstateRef {
            version: version_hash,
            index,
        });
        index
    }

    /// As the server does: the cut first, the record after it.
    pub(crate) fn revoke(&self, kind: TargetKind, value: &str) {
        let word = match kind {
            TargetKind::Identity => "identity",
            TargetKind::Serial => "serial",
            TargetKind::Machine => "machine",
        };
        self.push(delta::Delta::Cut(Cut {
            kind: word.to_owned(),
            value: value.to_owned(),
            reason: "test".to_owned(),
        }));
        let revocation = body::Revocation {
            target: Target {
                kind,
                value: value.to_owned(),
            },
            reason: "test".to_owned(),
            by: "test".to_owned(),
            whose: Vec::new(),
            node: None,
        };
        self.record(
            &format!("revocation {word} {value}"),
            revocation.record(),
            Vec::new(),
        );
    }

    /// Tells gateways that the SVID `serial` has a successor.
    pub(crate) fn renewed(&self, serial: &str, successor: &str, not_after: Timestamp) {
        self.push(delta::Delta::Renewed(Renewed {
            serial: serial.to_owned(),
            successor: successor.to_owned(),
            not_after: not_after.as_millis(),
            spiffe_id: String::new(),
            facts: serde_json::to_vec(&facts()).unwrap(),
        }));
    }

    /// Issues in the order of DESIGN section 6 and publishes the checkpoint.
    pub(crate) fn issue(&self, path: &str) -> Svid {
        let svid = self.issue_unpublished(path);
        let mut state = self.state.lock().unwrap();
        self.publish(&mut state);
        drop(state);
        svid
    }

    /// As [`Plane::issue`], for [`BRIEF`].
    pub(crate) fn issue_briefly(&self, path: &str) -> Svid {
        let svid = self.issue_by(&self.brief, path);
        let mut state = self.state.lock().unwrap();
        self.publish(&mut state);
        drop(state);
        svid
    }

    /// As [`Plane::issue`], and keeps the checkpoint to itself.
    pub(crate) fn issue_unpublished(&self, path: &str) -> Svid {
        self.issue_by(&self.authority, path)
    }

    fn issue_by(&self, authority: &Authority, path: &str) -> Svid {
        let key = Arc::new(KeyPair::generate(Algorithm::EcdsaP256).unwrap());
        let spiffe_id = self.trust_domain.identity(path).unwrap();
        let serial = {
            let mut state = self.state.lock().unwrap();
            state.serial += 1;
            let mut bytes = crypto::random::<16>();
            bytes[15] = state.serial;
            Serial::from_random(bytes)
        };
        let now = Timestamp::now();
        let prepared = authority
            .prepare_x509(
                spiffe_id.clone(),
                key.public_key().clone(),
                Vec::new(),
                serial,
                now,
            )
            .unwrap();
        let issuance = body::Issuance {
            kind: SvidKind::X509,
            spiffe_id: spiffe_id.to_string(),
            serial: prepared.serial().to_string(),
            tbs: Digest(prepared.digest()),
            issuer: Digest(prepared.issuer()),
            key: Digest(key.public_key().spki_sha256()),
            not_before: prepared.not_before().as_secs(),
            not_after: prepared.not_after().as_secs(),
            node: "m1".to_owned(),
            verdict: Decimal(0),
            evidence_time: now.as_millis(),
            policies: vec!["test".to_owned()],
            commit: Commitment::new(&Salt([0; 16]), "facts", b"{}"),
            facts: facts(),
            replaces: None,
            ar4si: None,
        };
        let mut record = issuance.record().actor("test", "test");
        if let Some(estate) = self.state.lock().unwrap().estate {
            record = record.estate(estate);
        }
        let committed = self.ledger.append(record.draft().unwrap()).wait().unwrap();
        let receipt = committed.receipt();
        let chain = prepared.finish(&receipt).unwrap();
        Svid {
            id: spiffe_id.to_string(),
            chain,
            key,
            serial: prepared.serial().to_string(),
            receipt,
        }
    }

    /// A token by which each of `principals` but the last lets the next one act, from the first on, in the order of
    /// the server: each link's record before the token. With the `jti` of each link.
    pub(crate) fn delegate(
        &self,
        principals: &[&str],
        lasts: u64,
        scope: &Narrowed,
    ) -> (String, Vec<String>) {
        self.delegate_by(principals, lasts, scope, &facts())
    }

    /// As [`Plane::delegate`], where whoever delegates on does so by an SVID that shows `facts`.
    pub(crate) fn delegate_by(
        &self,
        principals: &[&str],
        lasts: u64,
        scope: &Narrowed,
        facts: &BTreeMap<String, FactValue>,
    ) -> (String, Vec<String>) {
        let estate = self
            .state
            .lock()
            .unwrap()
            .estate
            .as_ref()
            .map_or(0, |estate| estate.index);
        let by = Issued {
            serial: "0c".repeat(16),
            issuance: estate + 1,
            estate,
            facts: facts.clone(),
        };
        let id = |path: &str| self.trust_domain.identity(path).unwrap();
        let now = Timestamp::from_secs(Timestamp::now().as_secs());
        let mut terms: Option<Terms> = None;
        let mut made = None;
        let mut jtis: Vec<String> = Vec::new();
        for to in &principals[1..] {
            let link = Link {
                to: id(to),
                jti: Serial::from_random(crypto::random()),
                issued_at: now,
                expires_at: now.plus_secs(lasts),
                scope: scope.clone(),
                record: None,
                // A person shows no SVID.
                by: terms.as_ref().map(|_| by.clone()),
            };
            let jti = link.jti.to_string();
            let next = match (terms, &made) {
                (Some(terms), Some((_, index))) => terms.then(*index, link).unwrap(),
                _ => Terms::new(id(principals[0]), vec![link]).unwrap(),
            };
            let prepared = self.authority.prepare_delegation(&next, now).unwrap();
            let record = body::Delegation {
                jti: jti.clone(),
                tbs: Digest(prepared.digest()),
                issuer: Digest(prepared.issuer()),
                not_before: now.as_secs(),
                not_after: now.plus_secs(lasts).as_secs(),
                chain: next.principals().map(ToString::to_string).collect(),
                rests_on: jtis.clone(),
                actions: scope.actions.clone(),
                resources: scope.resources.clone(),
                node: String::new(),
            };
            let draft = record.record().actor("test", "test").draft().unwrap();
            let committed = self.ledger.append(draft).wait().unwrap();
            let mut state = self.state.lock().unwrap();
            self.publish(&mut state);
            drop(state);
            let token = prepared.finish(&committed.receipt()).unwrap();
            made = Some((token, committed.index()));
            jtis.push(jti);
            terms = Some(next);
        }
        (made.unwrap().0, jtis)
    }

    /// Serves Join and Follow over TLS; the gateway's own SVID over a Unix socket.
    pub(crate) async fn serve(self: &Arc<Self>, workload: &Path, gateway: Svid) -> SocketAddr {
        let own = self.issue("trilith/server");
        let key: Arc<dyn Signer> = own.key;
        let own = OwnSvid::new(own.chain, key).unwrap();
        let mut bundle = spiffe_core::Bundle::new(self.trust_domain.clone());
        for root in self.authority.roots() {
            bundle.add_x509_authority(root).unwrap();
        }
        let anyone = svid_tls::peer::any_member(self.trust_domain.clone());
        let mut config =
            svid_tls::server(own, ClientAuth::Optional(Arc::new(bundle), anyone)).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, receiver) = mpsc::channel(16);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, sender) = (acceptor.clone(), sender.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        let _stopped = sender
                            .send(Ok::<_, std::io::Error>(Connection(stream)))
                            .await;
                    }
                });
            }
        });
        let (join, follow) = (Service(Arc::clone(self)), Service(Arc::clone(self)));
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(v1::join_server::JoinServer::new(join))
                .add_service(v1::follow_server::FollowServer::new(follow))
                .serve_with_incoming(ReceiverStream::new(receiver)),
        );
        let socket = UnixListener::bind(workload).unwrap();
        let api = proto::workload::spiffe_workload_api_server::SpiffeWorkloadApiServer::new(
            Workload(gateway),
        );
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(api)
                .serve_with_incoming(UnixListenerStream::new(socket)),
        );
        *self.address.lock().unwrap() = Some(address);
        address
    }
}

/// What issuance records show.
fn facts() -> BTreeMap<String, FactValue> {
    BTreeMap::from([("machine.join".to_owned(), FactValue::Text("tpm".to_owned()))])
}

struct Connection(TlsStream<TcpStream>);

impl tonic::transport::server::Connected for Connection {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }
    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }
    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

struct Service(Arc<Plane>);

fn unimplemented<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not in this test"))
}

#[tonic::async_trait]
impl v1::join_server::Join for Service {
    async fn anchors(&self, _: Request<v1::AnchorsRequest>) -> Result<Response<Anchors>, Status> {
        Ok(Response::new(Anchors {
            trust_domain: DOMAIN.to_owned(),
            x509_authorities: self.0.authority.roots().map(<[u8]>::to_vec).collect(),
            ledger_key: self.0.ledger.key().public_key().spki_der().to_vec(),
            lineage: String::new(),
        }))
    }
    async fn token(
        &self,
        _: Request<v1::TokenJoinRequest>,
    ) -> Result<Response<v1::Joined>, Status> {
        unimplemented()
    }
    async fn tpm_challenge(
        &self,
        _: Request<v1::TpmChallengeRequest>,
    ) -> Result<Response<v1::TpmChallenge>, Status> {
        unimplemented()
    }
    async fn tpm_finish(
        &self,
        _: Request<v1::TpmFinishRequest>,
    ) -> Result<Response<v1::Joined>, Status> {
        unimplemented()
    }
    async fn enclave_challenge(
        &self,
        _: Request<v1::EnclaveChallengeRequest>,
    ) -> Result<Response<v1::EnclaveChallenge>, Status> {
        unimplemented()
    }
    async fn enclave_finish(
        &self,
        _: Request<v1::EnclaveFinishRequest>,
    ) -> Result<Response<v1::Joined>, Status> {
        unimplemented()
    }
    async fn approvals(
        &self,
        _: Request<v1::ApprovalsRequest>,
    ) -> Result<Response<v1::Approvals>, Status> {
        unimplemented()
    }
}

type Deltas = ReceiverStream<Result<Delta, Status>>;

#[tonic::async_trait]
impl v1::follow_server::Follow for Service {
    type StreamStream = Deltas;

    async fn stream(
        &self,
        request: Request<Streaming<GatewayMessage>>,
    ) -> Result<Response<Deltas>, Status> {
        let plane = Arc::clone(&self.0);
        let mut inbound = request.into_inner();
        let (sender, receiver) = mpsc::channel(1024);
        tokio::spawn(async move {
            let Ok(Some(GatewayMessage {
                message: Some(Message::Hello(hello)),
            })) = inbound.message().await
            else {
                return;
            };
            let mut first = Vec::new();
            let mut live = {
                let state = plane.state.lock().unwrap();
                let reader = plane.ledger.reader();
                let head = reader.head();
                assert_eq!(
                    head.checkpoint.size, state.published,
                    "a test connects after publishing"
                );
                first.push(plane.extension(hello.followed_size, state.published, &head.note));
                for (index, blob) in state.current.values() {
                    let receipt = reader.receipt(*index).unwrap().encode().unwrap();
                    first.push(delta::Delta::Record(RecordDelta {
                        receipt,
                        blob: blob.clone(),
                        initial: true,
                    }));
                }
                plane.deltas.subscribe()
            };
            for delta in first {
                if sender.send(Ok(Delta { delta: Some(delta) })).await.is_err() {
                    return;
                }
            }
            let mut beat = tokio::time::interval(std::time::Duration::from_millis(300));
            loop {
                let answer = tokio::select! {
                    delta = live.recv() => match delta {
                        Ok(delta) => delta,
                        Err(_) => return,
                    },
                    _ = beat.tick() => Delta { delta: Some(delta::Delta::Heartbeat(Heartbeat { time: Timestamp::now().as_millis() })) },
                    message = inbound.message() => match message {
                        Ok(Some(GatewayMessage { message: Some(message) })) => match plane.answer(message) {
                            Some(delta) => Delta { delta: Some(delta) },
                            None => continue,
                        },
                        _ => return,
                    },
                };
                if sender.send(Ok(answer)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

impl Plane {
    fn answer(&self, message: Message) -> Option<delta::Delta> {
        match message {
            Message::Head(head) => {
                let size = head.checkpoint.lines().nth(1)?.parse().ok()?;
                Some(delta::Delta::Anchored(Anchored {
                    size,
                    ..Anchored::default()
                }))
            }
            Message::Prove(prove) => {
                let proof = self.ledger.reader().consistency(prove.size, prove.new_size);
                Some(delta::Delta::Proven(Proven {
                    size: prove.size,
                    new_size: prove.new_size,
                    refused: proof.is_err(),
                    consistency: proof
                        .unwrap_or_default()
                        .iter()
                        .map(|hash| hash.to_vec())
                        .collect(),
                }))
            }
            _ => None,
        }
    }
}

struct Workload(Svid);

type Stream<T> = Pin<Box<dyn tokio_stream::Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl proto::workload::spiffe_workload_api_server::SpiffeWorkloadApi for Workload {
    type FetchX509SVIDStream = Stream<proto::workload::X509svidResponse>;
    type FetchX509BundlesStream = Stream<proto::workload::X509BundlesResponse>;
    type FetchJWTBundlesStream = Stream<proto::workload::JwtBundlesResponse>;
    type FetchWITSVIDStream = Stream<proto::workload::WitsvidResponse>;
    type FetchWITBundlesStream = Stream<proto::workload::WitBundlesResponse>;

    async fn fetch_x509svid(
        &self,
        request: Request<proto::workload::X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        assert!(request.metadata().contains_key("workload.spiffe.io"));
        let (sender, receiver) = mpsc::channel(1);
        let svid = proto::workload::X509svid {
            spiffe_id: self.0.id.clone(),
            x509_svid: self.0.chain.concat(),
            x509_svid_key: self.0.key.to_pkcs8().unwrap().to_vec(),
            bundle: Vec::new(),
            hint: String::new(),
        };
        let response = proto::workload::X509svidResponse {
            svids: vec![svid],
            ..Default::default()
        };
        sender.send(Ok(response)).await.unwrap();
        tokio::spawn(async move { sender.closed().await });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
    async fn fetch_x509_bundles(
        &self,
        _: Request<proto::workload::X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        unimplemented()
    }
    async fn fetch_jwtsvid(
        &self,
        _: Request<proto::workload::JwtsvidRequest>,
    ) -> Result<Response<proto::workload::JwtsvidResponse>, Status> {
        unimplemented()
    }
    async fn fetch_jwt_bundles(
        &self,
        _: Request<proto::workload::JwtBundlesRequest>,
    ) -> Result<Response<Self::FetchJWTBundlesStream>, Status> {
        unimplemented()
    }
    async fn validate_jwtsvid(
        &self,
        _: Request<proto::workload::ValidateJwtsvidRequest>,
    ) -> Result<Response<proto::workload::ValidateJwtsvidResponse>, Status> {
        unimplemented()
    }
    async fn fetch_witsvid(
        &self,
        _: Request<proto::workload::WitsvidRequest>,
    ) -> Result<Response<Self::FetchWITSVIDStream>, Status> {
        unimplemented()
    }
    async fn fetch_wit_bundles(
        &self,
        _: Request<proto::workload::WitBundlesRequest>,
    ) -> Result<Response<Self::FetchWITBundlesStream>, Status> {
        unimplemented()
    }
}
