//! A server in this process, and clients that speak to it as agents, gateways and administrators do.

use crypto::{Algorithm, KeyPair, Signer as _};
use estate::EstateFiles;
use facts::{FactSet, Source, Timestamp, names};
use hyper_util::rt::TokioIo;
use proto::v1;
use proto::v1::admin_client::AdminClient;
use proto::v1::join_client::JoinClient;
use proto::v1::node_client::NodeClient;
use server::{Config, Running};
use spiffe_core::{Bundle, TrustDomain, X509Svid};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use svid_tls::{BundleSource, OwnSvid};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Status, Streaming};

pub(crate) const DOMAIN: &str = "example.org";
/// What the released program hashes to.
pub(crate) const PROGRAM: &str = "1111111111111111111111111111111111111111111111111111111111111111";
/// A patience that only a hung test uses up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Fixture {
    pub(crate) dir: TempDir,
    pub(crate) server: Option<Running>,
}

pub(crate) fn config_text(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "trust_domain = \"{DOMAIN}\"\n\
         data_dir = \"{dir}/data\"\n\
         listen = \"127.0.0.1:0\"\n\
         http_listen = \"127.0.0.1:0\"\n\
         [custody.ca]\nkind = \"file\"\ndir = \"{dir}/keys/ca\"\n\
         [custody.ledger]\nkind = \"file\"\ndir = \"{dir}/keys/ledger\"\n\
         [limits]\nrefusal_window_s = 1\njoins_per_peer = 1000\n"
    )
}

/// With more lines of `[limits]`.
/// With more lines of `[limits]`, and whatever stands after them.
pub(crate) fn config_with(dir: &Path, more: &str) -> Config {
    let path = dir.join("server.toml");
    std::fs::write(&path, config_text(dir) + more).unwrap();
    Config::load(&path).unwrap()
}

pub(crate) fn config(dir: &Path) -> Config {
    let path = dir.join("server.toml");
    std::fs::write(&path, config_text(dir)).unwrap();
    Config::load(&path).unwrap()
}

/// One service, one gateway, one administrator: whoever runs the test.
pub(crate) fn estate() -> EstateFiles {
    let uid = rustix::process::getuid().as_raw();
    let mut files = EstateFiles::new();
    files.insert(
        "estate.toml",
        format!(
            "trust_domain = \"{DOMAIN}\"\n\
             [[administrator]]\nuid = {uid}\ngroups = [\"operators\"]\n"
        ),
    );
    files.insert(
        "identities/all.toml",
        "[[group]]\nname = \"operators\"\n\
         [[identity]]\npath = \"payments/api\"\nkind = \"service\"\nowner = \"payments\"\n\
         visible = [\"machine.name\", \"workload.uid\"]\n\
         [[identity]]\npath = \"gateway/pg\"\nkind = \"gateway\"\nowner = \"platform\"\n",
    );
    files.insert(
        "references/all.toml",
        format!(
            "[[pool]]\nname = \"demo\"\n\
             [[code]]\nname = \"payments-api\"\nsha256 = [\"{PROGRAM}\"]\n"
        ),
    );
    files.insert(
        "policies/administrators.cedar",
        "@id(\"operators administer\")\n\
         permit (principal is Admin in Group::\"operators\", action, resource);\n",
    );
    files.insert(
        "policies/assume.cedar",
        "@id(\"payments is what was released\")\n\
         permit (principal in Pool::\"demo\", action == Action::\"assume\", \
         resource == Identity::\"payments/api\")\n\
         when { principal has uid && principal.uid == 1000 && principal has code && \
         principal.code.known_as.contains(\"payments-api\") };\n\
         @id(\"the gateway runs as 2000\")\n\
         permit (principal in Pool::\"demo\", action == Action::\"assume\", \
         resource == Identity::\"gateway/pg\")\n\
         when { principal has uid && principal.uid == 2000 };\n",
    );
    files
}

/// As [`estate`], where the released program of uid 1000 may be `payments/job` as well.
pub(crate) fn estate_of_two() -> EstateFiles {
    let mut files = estate();
    let identities = format!(
        "{}[[identity]]\npath = \"payments/job\"\nkind = \"service\"\nowner = \"payments\"\n",
        files.0["identities/all.toml"]
    );
    files.insert("identities/all.toml", identities);
    files.insert(
        "policies/job.cedar",
        "@id(\"the job runs as 1000\")\n\
         permit (principal in Pool::\"demo\", action == Action::\"assume\", \
         resource == Identity::\"payments/job\")\n\
         when { principal has uid && principal.uid == 1000 };\n",
    );
    files
}

/// Of tests that are not about what is to be seen first: whatever is evicted and revoked is meant.
pub(crate) fn all_seen() -> v1::EstateRequest {
    v1::EstateRequest {
        evict: u64::MAX,
        revoke: u64::MAX,
        ..v1::EstateRequest::default()
    }
}

impl Fixture {
    /// A server without an estate.
    pub(crate) async fn bare() -> Self {
        Self::bare_in(tempfile::tempdir().unwrap()).await
    }

    async fn bare_in(dir: TempDir) -> Self {
        let server = server::start(config(dir.path())).await.unwrap();
        Self {
            dir,
            server: Some(server),
        }
    }

    /// A server without an estate, with more in its configuration.
    pub(crate) async fn configured(more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = server::start(config_with(dir.path(), more)).await.unwrap();
        Self {
            dir,
            server: Some(server),
        }
    }

    /// A server without an estate, whose solver is the program at `solver`.
    pub(crate) async fn solved_by(solver: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path());
        config.solver = solver.into();
        let server = server::start(config).await.unwrap();
        Self {
            dir,
            server: Some(server),
        }
    }

    /// As [`Fixture::start`], with more in its configuration.
    pub(crate) async fn start_with(more: &str) -> Self {
        let fixture = Self::configured(more).await;
        fixture.apply(&estate()).await.unwrap();
        fixture
    }

    /// As [`Fixture::start`], with everything below `dir`.
    pub(crate) async fn start_in(dir: TempDir) -> Self {
        let fixture = Self::bare_in(dir).await;
        fixture.apply(&estate()).await.unwrap();
        fixture
    }

    /// A server with [`estate`] in force.
    pub(crate) async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap()).await
    }

    pub(crate) fn running(&self) -> &Running {
        self.server.as_ref().unwrap()
    }

    pub(crate) async fn stop(&mut self) {
        self.server.take().unwrap().stop().await.unwrap();
    }

    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.go_on().await;
    }

    pub(crate) async fn go_on(&mut self) {
        self.server = Some(server::start(config(self.dir.path())).await.unwrap());
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.running().listen
    }

    pub(crate) async fn admin(&self) -> AdminClient<Channel> {
        admin(&self.dir.path().join("data/admin.sock")).await
    }

    pub(crate) async fn apply(&self, files: &EstateFiles) -> Result<serde_json::Value, Status> {
        self.apply_on(files, "").await
    }

    pub(crate) async fn apply_on(
        &self,
        files: &EstateFiles,
        base: &str,
    ) -> Result<serde_json::Value, Status> {
        self.applied(files, base, false).await
    }

    /// Applies `files` with these signatures of authors.
    pub(crate) async fn apply_signed(
        &self,
        files: &EstateFiles,
        approvals: &[estate::Approval],
    ) -> Result<serde_json::Value, Status> {
        let approvals = approvals.iter().map(|one| serde_json::to_vec(one).unwrap());
        let request = v1::EstateRequest {
            files: files.to_blob(),
            approvals: approvals.collect(),
            ..all_seen()
        };
        let answer = self.admin().await.estate_apply(request).await?;
        Ok(serde_json::from_str(&answer.into_inner().json).unwrap())
    }

    /// Applies `files`, and has all identities issued anew.
    pub(crate) async fn reissue(&self, files: &EstateFiles) -> Result<serde_json::Value, Status> {
        self.applied(files, "", true).await
    }

    async fn applied(
        &self,
        files: &EstateFiles,
        base: &str,
        reissue: bool,
    ) -> Result<serde_json::Value, Status> {
        let request = v1::EstateRequest {
            files: files.to_blob(),
            message: "for the test".to_owned(),
            base: base.to_owned(),
            reissue,
            ..all_seen()
        };
        let answer = self.admin().await.estate_apply(request).await?;
        Ok(serde_json::from_str(&answer.into_inner().json).unwrap())
    }

    pub(crate) async fn token(&self, node: &str) -> v1::TokenCreated {
        let request = v1::TokenCreateRequest {
            node: node.to_owned(),
            pool: "demo".to_owned(),
            ttl_s: 60,
        };
        self.admin()
            .await
            .token_create(request)
            .await
            .unwrap()
            .into_inner()
    }

    /// Every record of the server's ledger, of these types.
    pub(crate) async fn records(&self, types: &[&str]) -> Vec<(u64, serde_json::Value)> {
        let request = v1::RecordsRequest {
            types: types.iter().map(|&name| name.to_owned()).collect(),
            ..v1::RecordsRequest::default()
        };
        let mut stream = self
            .admin()
            .await
            .records(request)
            .await
            .unwrap()
            .into_inner();
        let mut records = Vec::new();
        while let Some(item) = stream.message().await.unwrap() {
            records.push((item.index, serde_json::from_slice(&item.record).unwrap()));
        }
        records
    }

    /// A machine that has joined by token.
    pub(crate) async fn join(&self, node: &str) -> Machine {
        let token = self.token(node).await;
        self.join_with(&token).await.unwrap()
    }

    pub(crate) async fn join_with(&self, token: &v1::TokenCreated) -> Result<Machine, Status> {
        let key = Arc::new(KeyPair::generate(Algorithm::EcdsaP256).unwrap());
        self.join_as(token, key).await
    }

    pub(crate) async fn join_as(
        &self,
        token: &v1::TokenCreated,
        key: Arc<KeyPair>,
    ) -> Result<Machine, Status> {
        let anchors = self.anchors(&token.pin).await;
        let link = Link::dial(self.address(), OwnSvid::empty(), Arc::clone(&anchors)).await;
        let spki = key.public_key().spki_der().to_vec();
        let signed = transcript(&[
            b"trilith-token-join-v1",
            DOMAIN.as_bytes(),
            &link.exporter,
            &crypto::sha256(token.token.as_bytes()),
            &spki,
        ]);
        let request = v1::TokenJoinRequest {
            token: token.token.clone(),
            public_key: spki,
            proof: key.sign(&signed).unwrap(),
        };
        let joined = JoinClient::new(link.channel).token(request).await?;
        Ok(Machine {
            address: self.address(),
            anchors,
            key,
            joined: joined.into_inner(),
        })
    }

    /// Pinned as a new machine pins them.
    pub(crate) async fn anchors(&self, pin: &str) -> Arc<dyn BundleSource> {
        let config = svid_tls::first_contact().unwrap();
        let link = Link::over(self.address(), config).await;
        let answer = JoinClient::new(link.channel)
            .anchors(v1::AnchorsRequest {})
            .await
            .unwrap()
            .into_inner();
        let anchors = svid_tls::pin::Anchors {
            trust_domain: answer.trust_domain,
            roots: answer.x509_authorities,
            ledger_key: answer.ledger_key,
        };
        Arc::new(anchors.check(pin).unwrap())
    }

    pub(crate) async fn readmit(&self, node: &str) {
        let request = v1::ReadmitRequest {
            node: node.to_owned(),
            reason: "the copy was found".to_owned(),
        };
        self.admin().await.readmit(request).await.unwrap();
    }

    pub(crate) async fn ledger_key(&self) -> ledger::LedgerKey {
        let status = self.status().await;
        status["ledger"]["key"].as_str().unwrap().parse().unwrap()
    }

    pub(crate) async fn status(&self) -> serde_json::Value {
        let mut admin = self.admin().await;
        let status = admin.status(v1::StatusRequest {}).await.unwrap();
        serde_json::from_str(&status.into_inner().json).unwrap()
    }
}

pub(crate) async fn admin(socket: &Path) -> AdminClient<Channel> {
    AdminClient::new(admin_channel(socket).await).max_decoding_message_size(64 << 20)
}

pub(crate) async fn admin_channel(socket: &Path) -> Channel {
    let socket = socket.to_owned();
    Endpoint::from_static("http://admin.invalid")
        .connect_with_connector(tower::service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move {
                let stream = tokio::net::UnixStream::connect(socket).await?;
                Ok::<_, std::io::Error>(TokioIo::new(stream))
            }
        }))
        .await
        .unwrap()
}

/// The value of a metric, with its labels, as `/metrics` tells it.
pub(crate) async fn metric(http: SocketAddr, name: &str) -> u64 {
    let (_, text) = get(http, "/metrics").await;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.map_or(0, |value| value.trim().parse().unwrap())
}

/// Status and body of a plain request, whose path is sent as it is.
pub(crate) async fn get(http: SocketAddr, path: &str) -> (u16, String) {
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let answer = raw(http, request.as_bytes()).await;
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status.unwrap_or(0), body.to_owned())
}

/// What comes back to these bytes before the connection ends.
pub(crate) async fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    // The other side may end the connection before it has read everything.
    drop(stream.write_all(bytes).await);
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    drop(tokio::time::timeout(PATIENCE, read).await.expect("an end"));
    String::from_utf8_lossy(&answer).into_owned()
}

pub(crate) fn transcript(fields: &[&[u8]]) -> [u8; 32] {
    let mut bytes = Vec::new();
    for field in fields {
        bytes.extend(u32::try_from(field.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(field);
    }
    crypto::sha256(&bytes)
}

/// One TLS connection.
pub(crate) struct Link {
    pub(crate) channel: Channel,
    pub(crate) exporter: [u8; 32],
    pub(crate) server: Vec<rustls::pki_types::CertificateDer<'static>>,
}

impl Link {
    pub(crate) async fn dial(
        address: SocketAddr,
        own: Arc<OwnSvid>,
        bundles: Arc<dyn BundleSource>,
    ) -> Self {
        Self::over(address, Self::member(own, bundles)).await
    }

    pub(crate) fn member(
        own: Arc<OwnSvid>,
        bundles: Arc<dyn BundleSource>,
    ) -> rustls::ClientConfig {
        let id = TrustDomain::new(DOMAIN)
            .unwrap()
            .identity("trilith/server")
            .unwrap();
        svid_tls::client(own, bundles, svid_tls::peer::exactly(id)).unwrap()
    }

    pub(crate) async fn over(address: SocketAddr, config: rustls::ClientConfig) -> Self {
        Self::try_over(address, config).await.unwrap()
    }

    /// `None` if there is no such server, or it turns the connection away.
    pub(crate) async fn try_over(
        address: SocketAddr,
        mut config: rustls::ClientConfig,
    ) -> Option<Self> {
        config.alpn_protocols = vec![b"h2".to_vec()];
        let tcp = tokio::net::TcpStream::connect(address).await.ok()?;
        let stream = TlsConnector::from(Arc::new(config))
            .connect(svid_tls::server_name(), tcp)
            .await
            .ok()?;
        let (_, session) = stream.get_ref();
        let exporter = svid_tls::channel_binding(session).unwrap();
        let server = session.peer_certificates().unwrap().to_vec();
        let mut stream = Some(TokioIo::new(stream));
        let channel = Endpoint::from_static("http://server.invalid")
            .connect_with_connector(tower::service_fn(move |_: Uri| {
                let stream = stream.take().ok_or(std::io::ErrorKind::NotConnected);
                std::future::ready(stream.map_err(std::io::Error::from))
            }))
            .await
            .ok()?;
        Some(Self {
            channel,
            exporter,
            server,
        })
    }
}

/// A node as its agent holds it.
#[derive(Clone)]
pub(crate) struct Machine {
    pub(crate) address: SocketAddr,
    pub(crate) anchors: Arc<dyn BundleSource>,
    pub(crate) key: Arc<KeyPair>,
    pub(crate) joined: v1::Joined,
}

impl Machine {
    pub(crate) async fn link(&self) -> Link {
        let chain = self.joined.certificate_chain.clone();
        let own = OwnSvid::new(chain, Arc::clone(&self.key) as _).unwrap();
        Link::dial(self.address, own, Arc::clone(&self.anchors)).await
    }

    /// As [`Machine::link`], for a server that may be gone.
    pub(crate) async fn try_link(&self) -> Option<Link> {
        let chain = self.joined.certificate_chain.clone();
        let own = OwnSvid::new(chain, Arc::clone(&self.key) as _).unwrap();
        Link::try_over(self.address, Link::member(own, Arc::clone(&self.anchors))).await
    }

    pub(crate) async fn renew(&self, id: [u8; 16]) -> Result<Self, Status> {
        self.renew_as(id, KeyPair::generate(Algorithm::EcdsaP256).unwrap())
            .await
    }

    pub(crate) async fn renew_as(&self, id: [u8; 16], key: KeyPair) -> Result<Self, Status> {
        self.renew_over(self.link().await, id, key).await
    }

    pub(crate) async fn renew_over(
        &self,
        link: Link,
        id: [u8; 16],
        key: KeyPair,
    ) -> Result<Self, Status> {
        let spki = key.public_key().spki_der().to_vec();
        let signed = transcript(&[
            b"trilith-renew-v1",
            DOMAIN.as_bytes(),
            &link.exporter,
            &id,
            &crypto::sha256(&self.joined.join_state),
            &spki,
        ]);
        let request = v1::RenewRequest {
            public_key: spki,
            join_state: self.joined.join_state.clone(),
            generation: self.joined.generation,
            renewal_id: id.to_vec(),
            proof: key.sign(&signed).unwrap(),
            tpm: None,
            enclave: None,
        };
        let joined = NodeClient::new(link.channel).renew(request).await?;
        Ok(Self {
            key: Arc::new(key),
            joined: joined.into_inner(),
            ..self.clone()
        })
    }

    pub(crate) async fn sync(&self) -> Result<Sync, Status> {
        let link = self.link().await;
        let (sender, receiver) = mpsc::channel(64);
        let updates = NodeClient::new(link.channel)
            .max_decoding_message_size(16 << 20)
            .sync(ReceiverStream::new(receiver))
            .await?;
        Ok(Sync {
            sender,
            updates: updates.into_inner(),
            requests: 0,
        })
    }
}

/// An agent's stream.
pub(crate) struct Sync {
    pub(crate) sender: mpsc::Sender<v1::NodeMessage>,
    pub(crate) updates: Streaming<v1::NodeUpdate>,
    pub(crate) requests: u64,
}

/// What a workload holds.
pub(crate) struct Held {
    pub(crate) key: Arc<KeyPair>,
    pub(crate) svid: v1::X509Svid,
}

impl Sync {
    pub(crate) async fn send(&self, message: v1::node_message::Message) {
        let message = Some(message);
        self.sender.send(v1::NodeMessage { message }).await.unwrap();
    }

    /// The next update that is no heartbeat.
    pub(crate) async fn next(&mut self) -> Result<v1::node_update::Update, Status> {
        let next = async {
            loop {
                let Some(update) = self.updates.message().await? else {
                    return Err(Status::cancelled("ended"));
                };
                match update.update {
                    Some(v1::node_update::Update::Heartbeat(_)) | None => {}
                    Some(update) => return Ok(update),
                }
            }
        };
        tokio::time::timeout(PATIENCE, next)
            .await
            .expect("an update")
    }

    /// Asks for everything that `facts` allow.
    pub(crate) async fn ask(
        &mut self,
        workload: &str,
        facts: &FactSet,
        held: Vec<v1::Held>,
    ) -> Result<(v1::Issued, Vec<Held>), facts::Finding> {
        self.requests += 1;
        let keys: Vec<_> = (0..2)
            .map(|_| Arc::new(KeyPair::generate(Algorithm::EcdsaP256).unwrap()))
            .collect();
        let request = v1::WorkloadRequest {
            request: self.requests,
            workload: workload.to_owned(),
            facts: serde_json::to_vec(facts).unwrap(),
            public_keys: keys
                .iter()
                .map(|key| key.public_key().spki_der().to_vec())
                .collect(),
            held,
        };
        self.send(v1::node_message::Message::Workload(request))
            .await;
        loop {
            match self.next().await.unwrap() {
                v1::node_update::Update::Issued(issued) => {
                    let svids = issued
                        .svids
                        .iter()
                        .map(|svid| Held {
                            key: keys
                                .iter()
                                .find(|key| {
                                    key.public_key().spki_sha256()[..] == svid.public_key_sha256
                                })
                                .cloned()
                                .unwrap(),
                            svid: svid.clone(),
                        })
                        .collect();
                    return Ok((issued, svids));
                }
                v1::node_update::Update::Refused(refused) => {
                    return Err(serde_json::from_slice(&refused.finding).unwrap());
                }
                _ => {}
            }
        }
    }
}

/// The facts of a program with this uid and digest.
pub(crate) fn program(uid: u32, sha256: &str) -> FactSet {
    let mut facts = FactSet::new();
    let now = Timestamp::now();
    facts.state(names::WORKLOAD_UID, uid, Source::Asserted, now);
    facts.state(names::CODE_SHA256, sha256, Source::Asserted, now);
    facts
}

/// Validates chain and receipt as a gateway would.
pub(crate) fn verify(
    chain: &[Vec<u8>],
    bundle: &v1::Bundle,
    key: &ledger::LedgerKey,
) -> spiffe_core::VerifiedIssuance {
    let bundle = Bundle::from_jwks(TrustDomain::new(DOMAIN).unwrap(), &bundle.jwks).unwrap();
    let svid = X509Svid::parse(chain)
        .unwrap()
        .validate(&bundle, Timestamp::now())
        .unwrap();
    spiffe_core::receipt::check(&svid, key).unwrap()
}

/// The finding inside a refusal.
pub(crate) fn finding(status: &Status) -> facts::Finding {
    serde_json::from_slice(status.details()).unwrap_or_else(|_| panic!("no finding in {status:?}"))
}

/// Why the workload was not given `payments/api`.
pub(crate) fn refusal(issued: &v1::Issued) -> Vec<facts::Finding> {
    let refused = issued
        .refused
        .iter()
        .find(|refused| refused.spiffe_id.ends_with("payments/api"))
        .expect("payments/api is refused");
    serde_json::from_slice(&refused.findings).unwrap()
}

/// PEM blocks called `label`, in a file of the fixture's folder.
pub(crate) fn pem(
    fixture: &Fixture,
    name: &str,
    label: &str,
    ders: &[Vec<u8>],
) -> std::path::PathBuf {
    let mut text = String::new();
    for der in ders {
        text.push_str(&format!("-----BEGIN {label}-----\n"));
        for line in crypto::base64::encode(der).as_bytes().chunks(64) {
            text.push_str(std::str::from_utf8(line).unwrap());
            text.push('\n');
        }
        text.push_str(&format!("-----END {label}-----\n"));
    }
    let path = fixture.dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// What `openssl verify -x509_strict` says of a chain, with `more` arguments.
pub(crate) fn openssl(
    fixture: &Fixture,
    chain: &[Vec<u8>],
    roots: &[Vec<u8>],
    more: &[&str],
) -> (bool, String) {
    let roots = pem(fixture, "roots.pem", "CERTIFICATE", roots);
    let issuing = pem(fixture, "issuing.pem", "CERTIFICATE", &chain[1..]);
    let leaf = pem(fixture, "leaf.pem", "CERTIFICATE", &chain[..1]);
    let output = std::process::Command::new("openssl")
        .args(["verify", "-x509_strict", "-CAfile"])
        .arg(roots)
        .arg("-untrusted")
        .arg(issuing)
        .args(more)
        .arg(leaf)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text.into_owned())
}
