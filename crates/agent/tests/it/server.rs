//! A server that grants what the test tells it to, and remembers what it was asked. It judges no TPM: the
//! real server does.

use crate::authority::Authority;
use crypto::{PublicKey, Sha256};
use facts::{FactSet, Finding};
use proto::v1;
use proto::v1::join_server::{Join, JoinServer};
use proto::v1::node_message::Message;
use proto::v1::node_server::{Node, NodeServer};
use proto::v1::node_update::Update;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use svid_tls::ClientAuth;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;
use tonic::{Code, Request, Response, Status, Streaming};

pub(crate) const TOKEN: &str = "one-time";
pub(crate) const NODE: &str = "trilith/node/m1";

#[derive(Default)]
pub(crate) struct Book {
    /// Paths of the identities that each workload may hold.
    pub(crate) granted: Vec<&'static str>,
    /// (past, ahead) in seconds of the SVIDs of nodes.
    pub(crate) node_life: (u64, u64),
    /// Joins whose answers are lost on the way, before one arrives.
    pub(crate) joins_lost: usize,
    /// Public keys of the joins asked for.
    pub(crate) joined: Vec<Vec<u8>>,
    /// Join state and renewal id of each join by TPM.
    pub(crate) joined_by_tpm: Vec<(Vec<u8>, Vec<u8>)>,
    /// Why streams of nodes are refused.
    pub(crate) syncs_refused: Option<Finding>,
    /// How the next renewals are answered, before they are granted.
    pub(crate) renewals: Vec<Result<(), Finding>>,
    pub(crate) tokens_seen: usize,
    pub(crate) jwts_issued: usize,
    /// Renewal id and public key of each renewal asked for.
    pub(crate) renewed: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) facts: Vec<FactSet>,
    pub(crate) gone: Vec<String>,
    streams: Vec<mpsc::Sender<Result<v1::NodeUpdate, Status>>>,
}

pub(crate) struct State {
    pub(crate) authority: Authority,
    book: Mutex<Book>,
    changed: watch::Sender<u64>,
}

impl State {
    pub(crate) fn book<T>(&self, f: impl FnOnce(&mut Book) -> T) -> T {
        let result = f(&mut self.book.lock().unwrap());
        self.changed.send_modify(|count| *count += 1);
        result
    }

    /// Waits until `f` holds of the book.
    pub(crate) async fn until(&self, f: impl Fn(&Book) -> bool) {
        let mut changed = self.changed.subscribe();
        let holds = async {
            while !f(&self.book.lock().unwrap()) {
                changed.changed().await.unwrap();
            }
        };
        let waited = tokio::time::timeout(crate::machine::PATIENCE, holds).await;
        waited.expect("it comes to hold");
    }

    /// To every agent that is connected.
    pub(crate) async fn push(&self, update: Update) {
        let streams = self.book(|book| book.streams.clone());
        for stream in streams {
            let update = v1::NodeUpdate {
                update: Some(update.clone()),
            };
            drop(stream.send(Ok(update)).await);
        }
    }

    fn joined(&self, spki: &[u8], generation: u64) -> v1::Joined {
        let (past, ahead) = self.book(|book| book.node_life);
        let leaf = self.authority.leaf(NODE, spki, past, ahead);
        v1::Joined {
            certificate_chain: leaf.chain,
            bundle: Some(self.authority.message()),
            join_state: format!("state {generation}").into_bytes(),
            generation,
            node_id: self
                .authority
                .trust_domain
                .identity(NODE)
                .unwrap()
                .to_string(),
            verdict_index: 1,
            verdict: b"{}".to_vec(),
            approvals: Vec::new(),
        }
    }
}

/// A server on loopback.
pub(crate) struct Server {
    pub(crate) state: Arc<State>,
    pub(crate) address: SocketAddr,
    stop: CancellationToken,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::of(Authority::new()).await
    }

    pub(crate) async fn of(authority: Authority) -> Self {
        let state = Arc::new(State {
            authority,
            book: Mutex::new(Book {
                granted: vec!["payments/api"],
                node_life: (60, 3600),
                ..Book::default()
            }),
            changed: watch::channel(0).0,
        });
        // It is started again there: nobody else may get it in between.
        Self::on(testkit::port::free().unwrap(), state).await
    }

    async fn on(address: SocketAddr, state: Arc<State>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let bundles = Arc::clone(&state.authority.bundle) as Arc<_>;
        let members = svid_tls::peer::any_member(state.authority.trust_domain.clone());
        let mut tls = svid_tls::server(
            state.authority.own("trilith/server"),
            ClientAuth::Optional(bundles, members),
        )
        .unwrap();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let stop = CancellationToken::new();
        let (sender, connections) = mpsc::channel(16);
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let stopped = stop.clone();
        tokio::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    () = stopped.cancelled() => return,
                    accepted = listener.accept() => accepted,
                };
                let Ok((tcp, _)) = accepted else { return };
                if let Ok(stream) = acceptor.accept(tcp).await {
                    let connection = Connection::new(stream, stopped.clone());
                    if sender
                        .send(Ok::<_, std::io::Error>(connection))
                        .await
                        .is_err()
                    {
                        return;
                    }
                }
            }
        });
        let serving = tonic::transport::Server::builder()
            .add_service(JoinServer::from_arc(Arc::clone(&state)))
            .add_service(NodeServer::new(NodeSide(Arc::clone(&state))))
            .serve_with_incoming_shutdown(
                ReceiverStream::new(connections),
                stop.clone().cancelled_owned(),
            );
        tokio::spawn(serving);
        Self {
            state,
            address,
            stop,
        }
    }

    /// As after `kill -9`: every connection is closed.
    pub(crate) fn kill(&self) {
        self.stop.cancel();
        self.state.book(|book| book.streams.clear());
    }

    /// The same server again, on the same port.
    pub(crate) async fn restart(&self) -> Self {
        // The listener of the one before closes a little later than it was told to.
        while std::net::TcpListener::bind(self.address).is_err() {
            tokio::task::yield_now().await;
        }
        Self::on(self.address, Arc::clone(&self.state)).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[derive(Clone)]
struct Peer {
    exporter: [u8; 32],
    has_svid: bool,
}

struct Connection {
    stream: TlsStream<TcpStream>,
    peer: Peer,
    dead: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Connection {
    fn new(stream: TlsStream<TcpStream>, stop: CancellationToken) -> Self {
        let (_, session) = stream.get_ref();
        let peer = Peer {
            exporter: svid_tls::channel_binding(session).unwrap(),
            has_svid: session.peer_certificates().is_some(),
        };
        Self {
            stream,
            peer,
            dead: Box::pin(stop.cancelled_owned()),
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.dead.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(std::io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

fn transcript(fields: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for field in fields {
        hash.update(&u32::try_from(field.len()).unwrap().to_be_bytes());
        hash.update(field);
    }
    hash.finish()
}

fn denied(finding: &Finding) -> Status {
    let details = serde_json::to_vec(finding).unwrap();
    Status::with_details(Code::PermissionDenied, finding.to_string(), details.into())
}

/// The same, in its other service.
struct NodeSide(Arc<State>);

#[tonic::async_trait]
impl Join for State {
    async fn anchors(
        &self,
        _: Request<v1::AnchorsRequest>,
    ) -> Result<Response<v1::Anchors>, Status> {
        Ok(Response::new(v1::Anchors {
            trust_domain: self.authority.trust_domain.to_string(),
            x509_authorities: self.authority.roots(),
            ledger_key: self.authority.ledger_key.clone(),
            lineage: self.authority.lineage.clone(),
        }))
    }

    async fn token(
        &self,
        request: Request<v1::TokenJoinRequest>,
    ) -> Result<Response<v1::Joined>, Status> {
        let peer = request.extensions().get::<Peer>().unwrap().clone();
        let request = request.into_inner();
        self.book(|book| book.tokens_seen += 1);
        let signed = transcript(&[
            b"trilith-token-join-v1",
            self.authority.trust_domain.as_str().as_bytes(),
            &peer.exporter,
            &crypto::sha256(TOKEN.as_bytes()),
            &request.public_key,
        ]);
        let key = PublicKey::from_spki_der(&request.public_key).unwrap();
        if request.token != TOKEN || key.verify(&signed, &request.proof).is_err() {
            return Err(denied(&Finding::new("JOIN-TOKEN", "unknown token")));
        }
        let lost = self.book(|book| {
            book.joined.push(request.public_key.clone());
            let lost = book.joins_lost > 0;
            book.joins_lost = book.joins_lost.saturating_sub(1);
            lost
        });
        if lost {
            return Err(Status::unavailable("lost"));
        }
        Ok(Response::new(self.joined(&request.public_key, 1)))
    }

    async fn tpm_challenge(
        &self,
        request: Request<v1::TpmChallengeRequest>,
    ) -> Result<Response<v1::TpmChallenge>, Status> {
        let request = request.into_inner();
        let request = attest_tpm::JoinRequest {
            ek_public: request.ek_public,
            ek_certificate: request.ek_certificate,
            ak_public: request.ak_public,
            ak_certificate: request.ak_certificate,
            identity_public: request.identity_public,
        };
        let secret = || crypto::SecretBytes::new(crypto::random::<32>().to_vec());
        let entropy = attest_tpm::join::Entropy {
            nonce: crypto::random(),
            secret: secret(),
            seed: secret(),
        };
        let challenge = attest_tpm::join::challenge(&request, "checkpoint", &[0, 7], &entropy);
        let challenge = challenge.unwrap();
        Ok(Response::new(v1::TpmChallenge {
            session: vec![1],
            credential_blob: challenge.credential_blob,
            encrypted_secret: challenge.encrypted_secret,
            nonce: challenge.nonce.to_vec(),
            nonce_random: challenge.nonce_random.to_vec(),
            nonce_checkpoint: challenge.nonce_checkpoint,
            pcrs: challenge.pcrs,
        }))
    }

    async fn tpm_finish(
        &self,
        request: Request<v1::TpmFinishRequest>,
    ) -> Result<Response<v1::Joined>, Status> {
        let request = request.into_inner();
        let kept = (request.join_state, request.renewal_id);
        self.book(|book| book.joined_by_tpm.push(kept));
        Ok(Response::new(self.joined(&request.session_key, 1)))
    }

    async fn enclave_challenge(
        &self,
        _request: Request<v1::EnclaveChallengeRequest>,
    ) -> Result<Response<v1::EnclaveChallenge>, Status> {
        Err(Status::unimplemented("these machines are no enclaves"))
    }

    async fn enclave_finish(
        &self,
        _request: Request<v1::EnclaveFinishRequest>,
    ) -> Result<Response<v1::Joined>, Status> {
        Err(Status::unimplemented("these machines are no enclaves"))
    }

    async fn approvals(
        &self,
        _request: Request<v1::ApprovalsRequest>,
    ) -> Result<Response<v1::Approvals>, Status> {
        Err(Status::unimplemented("no boots are approved here"))
    }
}

#[tonic::async_trait]
impl Node for NodeSide {
    type SyncStream = ReceiverStream<Result<v1::NodeUpdate, Status>>;

    async fn renew(
        &self,
        request: Request<v1::RenewRequest>,
    ) -> Result<Response<v1::Joined>, Status> {
        let peer = request.extensions().get::<Peer>().unwrap().clone();
        assert!(peer.has_svid);
        let request = request.into_inner();
        let signed = transcript(&[
            b"trilith-renew-v1",
            self.0.authority.trust_domain.as_str().as_bytes(),
            &peer.exporter,
            &request.renewal_id,
            &crypto::sha256(&request.join_state),
            &request.public_key,
        ]);
        let key = PublicKey::from_spki_der(&request.public_key).unwrap();
        key.verify(&signed, &request.proof).unwrap();
        let answer = self.0.book(|book| {
            book.renewed
                .push((request.renewal_id, request.public_key.clone()));
            book.node_life = (60, 3600);
            book.renewals.pop()
        });
        match answer {
            Some(Err(finding)) if finding.code == "LOST" => Err(Status::unavailable("lost")),
            Some(Err(finding)) => Err(denied(&finding)),
            _ => Ok(Response::new(
                self.0.joined(&request.public_key, request.generation + 1),
            )),
        }
    }

    async fn sync(
        &self,
        request: Request<Streaming<v1::NodeMessage>>,
    ) -> Result<Response<Self::SyncStream>, Status> {
        assert!(request.extensions().get::<Peer>().unwrap().has_svid);
        if let Some(finding) = self.0.book(|book| book.syncs_refused.clone()) {
            return Err(denied(&finding));
        }
        let mut messages = request.into_inner();
        let (sender, updates) = mpsc::channel(64);
        self.0.book(|book| book.streams.push(sender.clone()));
        let state = Arc::clone(&self.0);
        tokio::spawn(async move {
            while let Ok(Some(message)) = messages.message().await {
                let update = match message.message.unwrap() {
                    Message::Hello(_)
                    | Message::Attestation(_)
                    | Message::Wanted(_)
                    | Message::Enforcement(_)
                    | Message::Keeps(_) => continue,
                    Message::Workload(request) => Update::Issued(state.issue(request)),
                    Message::Jwt(request) => Update::Jwt(state.issue_jwt(&request)),
                    Message::Gone(gone) => {
                        state.book(|book| book.gone.push(gone.workload));
                        continue;
                    }
                };
                let update = v1::NodeUpdate {
                    update: Some(update),
                };
                if sender.send(Ok(update)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(updates)))
    }
}

impl State {
    fn issue(&self, request: v1::WorkloadRequest) -> v1::Issued {
        let facts: FactSet = serde_json::from_slice(&request.facts).unwrap();
        let granted = self.book(|book| {
            book.facts.push(facts);
            book.granted.clone()
        });
        let svids = granted
            .iter()
            .zip(&request.public_keys)
            .map(|(path, spki)| {
                let leaf = self.authority.leaf(path, spki, 30, 3600);
                v1::X509Svid {
                    spiffe_id: self
                        .authority
                        .trust_domain
                        .identity(path)
                        .unwrap()
                        .to_string(),
                    public_key_sha256: crypto::sha256(spki).to_vec(),
                    certificate_chain: leaf.chain,
                    hint: String::new(),
                    not_before: leaf.not_before,
                    not_after: leaf.not_after,
                    serial: leaf.serial,
                    index: 1,
                }
            });
        let denied = Finding::new("ASSUME-DENIED", "no policy lets it be anybody")
            .expected("code.sha256 == another");
        let refused = granted.is_empty().then(|| v1::RefusedIdentity {
            spiffe_id: "spiffe://example.org/payments/api".to_owned(),
            findings: serde_json::to_vec(&[denied]).unwrap(),
        });
        v1::Issued {
            request: request.request,
            workload: request.workload,
            svids: svids.collect(),
            refused: refused.into_iter().collect(),
            estate_index: 1,
        }
    }

    fn issue_jwt(&self, request: &v1::JwtRequest) -> v1::JwtIssued {
        let granted = self.book(|book| {
            book.jwts_issued += 1;
            book.granted.clone()
        });
        let svids = granted
            .iter()
            .map(|path| self.authority.jwt(path, &request.audience));
        v1::JwtIssued {
            request: request.request,
            svids: svids.collect(),
            refused: Vec::new(),
        }
    }
}
