//! One decision point with an estate to ask about, and callers of both listeners.

use crate::plane::{DOMAIN, Plane, Svid};
use crypto::Signer;
use estate::EstateFiles;
use facts::Timestamp;
use gateway::Core;
use ledger_store::{Disk, RealDisk};
use pdp::{
    Attest, CallerConfig, Config, LocalConfig, OfAgent, ProcessConfig, Right, run_beside_with,
    run_with,
};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use svid_tls::OwnSvid;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio_rustls::client::TlsStream;

/// Only a hung decision point needs so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

const ESTATE: &str = r#"
trust_domain = "example.org"
classifications = ["public", "internal", "restricted"]
max_staleness = "5m"
"#;

const IDENTITIES: &str = r#"
[[identity]]
path = "alice"
kind = "service"
owner = "us"
visible = ["machine.join"]
[[identity]]
path = "bob"
kind = "service"
owner = "us"
visible = ["machine.join"]
[[identity]]
path = "envoy/edge"
kind = "service"
owner = "us"
visible = ["machine.join"]
[[identity]]
path = "gateway/pdp"
kind = "gateway"
owner = "us"
visible = ["machine.join"]
"#;

const RESOURCES: &str = r#"
[[database]]
name = "app"
[[database.schema]]
name = "public"
[[database.schema.table]]
name = "record-1"
classification = "internal"
[[database.schema.table]]
name = "record-2"
classification = "restricted"
"#;

/// After the fixture of AuthZEN's certification scenario, as far as the schema has what it speaks of: read
/// is select, write is insert, records are tables.
const POLICIES: &str = r#"
@id("alice reads and writes records")
permit (principal == Identity::"alice", action in [Action::"select", Action::"insert"], resource in Schema::"app/public")
unless { resource.classification == "restricted" };
@id("bob reads records")
permit (principal == Identity::"bob", action == Action::"select", resource in Schema::"app/public");
@id("alice deletes from machines that joined by tpm")
permit (principal == Identity::"alice", action == Action::"delete", resource == Table::"app/public/record-1")
when { context has machine && context.machine has join && context.machine.join == "tpm" };
@id("everybody updates")
permit (principal is Identity, action == Action::"update", resource == Table::"app/public/record-1");
@id("but not from machines that joined by token")
forbid (principal is Identity, action == Action::"update", resource == Table::"app/public/record-1")
when { context has machine && context.machine has join && context.machine.join == "token" };
"#;

pub(crate) fn estate() -> EstateFiles {
    let mut files = EstateFiles::new();
    files.insert("estate.toml", ESTATE);
    files.insert("identities/app.toml", IDENTITIES);
    files.insert("resources/app.toml", RESOURCES);
    files.insert("policies/app.cedar", POLICIES);
    files
}

pub(crate) struct World {
    pub(crate) plane: Arc<Plane>,
    pub(crate) core: Arc<Core>,
    pub(crate) address: SocketAddr,
    pub(crate) socket: PathBuf,
    pub(crate) folder: tempfile::TempDir,
    stop: watch::Sender<bool>,
    running: tokio::task::JoinHandle<Result<(), pdp::RunError>>,
}

pub(crate) fn uid() -> u32 {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").unwrap().uid()
}

impl World {
    /// This process may ask and search over the socket; `envoy/edge` may ask over TCP.
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}, Arc::new(RealDisk)).await
    }

    pub(crate) async fn configured(change: impl FnOnce(&mut Config)) -> Self {
        Self::start_with(change, Arc::new(RealDisk)).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Config), disk: Arc<dyn Disk>) -> Self {
        let folder = testkit::temp_dir().unwrap();
        let plane = Plane::start(folder.path());
        plane.apply(&estate());
        let workload = folder.path().join("workload.sock");
        let server = plane.serve(&workload, plane.issue("gateway/pdp")).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let socket = folder.path().join("pdp.sock");
        let text = format!(
            "[pdp]\ntrust_domain = \"{DOMAIN}\"\nname = \"pdp-1\"\nidentity = \"gateway/pdp\"\n\
             server = \"{server}\"\npin = \"{}\"\nworkload_socket = \"{}\"\ndata_dir = \"{}\"\n\
             [listen]\nsocket = \"{}\"\naddress = \"{address}\"\nurl = \"https://pdp.example.org\"\n\
             [[process]]\nuid = {}\nmay = [\"evaluate\", \"search\"]\n\
             [[caller]]\nidentity = \"envoy/edge\"\n\
             [[ext_authz.rule]]\nname = \"records\"\npath = \"/records\"\nmethods = [\"GET\"]\n\
             action = \"select\"\nresource = {{ type = \"table\", id = \"app/public/record-1\" }}\n",
            plane.pin(),
            workload.display(),
            folder.path().join("pdp").display(),
            socket.display(),
            uid(),
        );
        let mut config = Config::parse(&text).unwrap();
        change(&mut config);
        Self::run(folder, plane, config, disk, None, Some(listener)).await
    }

    /// Decisions in the process of a node agent, which `attest` stands for; `section` is that of `agent.toml`.
    pub(crate) async fn beside(section: &str, attest: Arc<dyn Attest>) -> Self {
        let folder = testkit::temp_dir().unwrap();
        let plane = Plane::start(folder.path());
        let mut files = estate();
        files.insert("delegations/d.toml", crate::tokens::GRANT);
        plane.apply(&files);
        let workload = folder.path().join("workload.sock");
        let server = plane.serve(&workload, plane.issue("gateway/pdp")).await;
        let text = format!(
            "name = \"pdp-1\"\nidentity = \"gateway/pdp\"\nsocket = \"{}\"\ndata_dir = \"{}\"\n{section}",
            folder.path().join("pdp.sock").display(),
            folder.path().join("pdp").display(),
        );
        let section = LocalConfig::read(toml::from_str(&text).unwrap()).unwrap();
        let agent = OfAgent {
            trust_domain: DOMAIN.to_owned(),
            server: server.to_string(),
            pin: plane.pin(),
            workload_socket: workload,
            data_dir: folder.path().join("agent"),
        };
        let config = section.beside(&agent).unwrap();
        Self::run(
            folder,
            plane,
            config,
            Arc::new(RealDisk),
            Some(attest),
            None,
        )
        .await
    }

    async fn run(
        folder: tempfile::TempDir,
        plane: Arc<Plane>,
        config: Config,
        disk: Arc<dyn Disk>,
        attest: Option<Arc<dyn Attest>>,
        listener: Option<TcpListener>,
    ) -> Self {
        let socket = folder.path().join("pdp.sock");
        let address = listener
            .as_ref()
            .map(|listener| listener.local_addr().unwrap());
        // As `pdp::run` does it: metrics are the decision point's to serve.
        let gateway = gateway::Config {
            http_listen: None,
            witnesses: None,
            ..config.pdp.clone()
        };
        let core = Core::open_on(gateway, disk).await.unwrap();
        tokio::time::timeout(PATIENCE, async {
            while core.following().fresh(Timestamp::now()).is_err() || core.own().svid.is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("estate and identity arrive");
        let (stop, stopping) = watch::channel(false);
        let serving = Arc::clone(&core);
        let running = tokio::spawn(async move {
            match attest {
                None => run_with(config, serving, listener, stopping).await,
                Some(attest) => run_beside_with(config, serving, attest, stopping).await,
            }
        });
        tokio::time::timeout(PATIENCE, async {
            // Bound is not yet listening.
            while UnixStream::connect(&socket).await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("the socket answers");
        Self {
            plane,
            core,
            address: address.unwrap_or_else(|| "127.0.0.1:1".parse().unwrap()),
            socket,
            folder,
            stop,
            running,
        }
    }

    /// POST of `body` over the Unix socket.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let answer = self.send(path, &[], body.to_string().as_bytes()).await;
        (answer.status, answer.json())
    }

    pub(crate) async fn send(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Http {
        let stream = UnixStream::connect(&self.socket).await.unwrap();
        exchange(stream, &post(path, headers, body)).await
    }

    /// POST as the holder of `svid`, over TCP.
    pub(crate) async fn post_as(&self, svid: &Svid, path: &str, body: &Value) -> Option<Http> {
        let stream = self.tls(svid).await.ok()?;
        let answer = exchange(stream, &post(path, &[], body.to_string().as_bytes())).await;
        (answer.status != 0).then_some(answer)
    }

    pub(crate) async fn tls(&self, svid: &Svid) -> std::io::Result<TlsStream<TcpStream>> {
        let key: Arc<dyn Signer> = Arc::clone(&svid.key) as _;
        let own = OwnSvid::new(svid.chain.clone(), key).unwrap();
        let trust_domain = spiffe_core::TrustDomain::new(DOMAIN).unwrap();
        let mut bundle = spiffe_core::Bundle::new(trust_domain.clone());
        for root in self.plane.authority.roots() {
            bundle.add_x509_authority(root).unwrap();
        }
        let pdp = svid_tls::peer::exactly(trust_domain.identity("gateway/pdp").unwrap());
        let config = svid_tls::client(own, Arc::new(bundle), pdp).unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let tcp = TcpStream::connect(self.address).await?;
        connector.connect(svid_tls::server_name(), tcp).await
    }

    /// Every record of a type, in order.
    pub(crate) fn records(&self, kind: ledger::RecordType) -> Vec<ledger::Record> {
        let reader = self.core.reader();
        let all = (0..reader.size()).map(|index| reader.record(index).unwrap());
        all.filter(|record| record.kind() == kind).collect()
    }

    pub(crate) fn decisions(&self) -> Vec<ledger::body::Decision> {
        let records = self.records(ledger::RecordType::Decision);
        let bodies = records.iter().map(|record| record.expect_body().unwrap());
        bodies.collect()
    }

    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        self.running.await.unwrap().unwrap();
    }
}

/// The process that runs this test, with `may`.
pub(crate) fn this_process(may: &[Right]) -> ProcessConfig {
    ProcessConfig {
        uid: uid(),
        unit: None,
        executable: None,
        sha256: None,
        may: may.to_vec(),
    }
}

pub(crate) fn caller(identity: &str, may: &[Right]) -> CallerConfig {
    CallerConfig {
        identity: identity.to_owned(),
        may: may.to_vec(),
    }
}

/// What came back; status 0 if the connection ended without an answer.
#[derive(Debug)]
pub(crate) struct Http {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Http {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::String(self.body.clone()))
    }
}

pub(crate) fn post(path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!(
        "POST {path} HTTP/1.1\r\nhost: pdp\r\nconnection: close\r\ncontent-length: {}\r\n",
        body.len()
    );
    if !headers.iter().any(|(name, _)| *name == "content-type") {
        head.push_str("content-type: application/json\r\n");
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    [head.as_bytes(), body].concat()
}

pub(crate) async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &[u8],
) -> Http {
    // The other side may answer, and end it, before everything is written.
    let _early = stream.write_all(request).await;
    let _early = stream.flush().await;
    let mut bytes = Vec::new();
    let reading = stream.read_to_end(&mut bytes);
    let _cut = tokio::time::timeout(PATIENCE, reading)
        .await
        .expect("it ends");
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    Http {
        status: status.unwrap_or(0),
        head: head.to_ascii_lowercase(),
        body: body.to_owned(),
    }
}
