//! A site on loopback: server, node agent (joined by token), and on demand a gateway before a PostgreSQL.

use estate::EstateFiles;
use proto::v1::admin_client::AdminClient;
use proto::v1::{EstateRequest, RecordsRequest, StatusRequest, TokenCreateRequest};
use serde_json::Value;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use testkit::postgres::Postgres;
use tonic::transport::Channel;

pub(crate) const DOMAIN: &str = "bench.example";
const PATIENCE: Duration = Duration::from_secs(30);

/// Everything that runs. The folder goes last.
pub(crate) struct Site {
    pub(crate) gateway: Option<Gateway>,
    agent: Child,
    server: Child,
    folder: tempfile::TempDir,
}

pub(crate) struct Gateway {
    process: Child,
    pub(crate) port: u16,
}

/// Files of an estate in which this user administers, the gateway is what it should be, and the rest is the
/// caller's. `identities`, `resources` and `policies` are added as they stand.
pub(crate) fn estate(
    settings: &str,
    identities: &str,
    resources: &str,
    policies: &str,
) -> EstateFiles {
    let uid = rustix::process::getuid().as_raw();
    let mut files = EstateFiles::bootstrap(DOMAIN, uid);
    files.insert(
        "estate.toml",
        format!("trust_domain = \"{DOMAIN}\"\n{settings}"),
    );
    files.insert(
        "identities/bench.toml",
        format!("[[identity]]\npath = \"gateway/pg\"\nkind = \"gateway\"\nowner = \"bench\"\ndns_names = [\"localhost\"]\n{identities}"),
    );
    files.insert("references/bench.toml", "[[pool]]\nname = \"bench\"\n");
    if !resources.is_empty() {
        files.insert("resources/bench.toml", resources);
    }
    files.insert(
        "policies/bench.cedar",
        format!(
            "@id(\"bench administers\")\npermit (principal == Admin::\"uid:{uid}\", action, resource);\n\
             {}\n{policies}",
            assume("gateway/pg", "*/trilith")
        ),
    );
    files
}

/// Whoever runs a program like `path` as this user may become `identity`.
pub(crate) fn assume(identity: &str, path: &str) -> String {
    let uid = rustix::process::getuid().as_raw();
    format!(
        "@id(\"{identity}\")\npermit (principal in Pool::\"bench\", action == Action::\"assume\", \
         resource == Identity::\"{identity}\")\nwhen {{ principal has uid && principal.uid == {uid} && \
         principal has path && principal.path like \"{path}\" }};\n"
    )
}

impl Site {
    pub(crate) fn start(files: &EstateFiles) -> Self {
        let folder = tempfile::tempdir_in(std::env::current_dir().unwrap()).unwrap();
        let at = |name: &str| folder.path().join(name);
        let (port, http) = (free_port(), free_port());
        let data = at("server");
        write(
            &at("server.toml"),
            &format!(
                "trust_domain = \"{DOMAIN}\"\ndata_dir = \"{0}\"\nlisten = \"127.0.0.1:{port}\"\n\
                 http_listen = \"127.0.0.1:{http}\"\n\
                 [custody.ca]\nkind = \"file\"\ndir = \"{0}/keys-ca\"\n\
                 [custody.ledger]\nkind = \"file\"\ndir = \"{0}/keys-ledger\"\n",
                data.display()
            ),
        );
        let server = trilith(
            folder.path(),
            "server",
            &["server", "--config", "server.toml"],
        );
        let socket = data.join("admin.sock");
        wait("the server", || socket.exists());
        let (token, pin) = crate::block_on(async {
            let mut admin = connect(&socket).await;
            apply(&mut admin, files).await;
            let request = TokenCreateRequest {
                node: "m1".to_owned(),
                pool: "bench".to_owned(),
                ttl_s: 600,
            };
            let created = admin.token_create(request).await.unwrap().into_inner();
            (created.token, created.pin)
        });
        write(&at("token"), &token);
        write(
            &at("agent.toml"),
            &format!(
                "trust_domain = \"{DOMAIN}\"\nserver = \"127.0.0.1:{port}\"\npin = \"{pin}\"\n\
                 data_dir = \"{0}/agent\"\nworkload_socket = \"{0}/workload.sock\"\n\
                 [join]\nmethod = \"token\"\ntoken_file = \"{0}/token\"\n",
                folder.path().display()
            ),
        );
        write(
            &at("gateway.toml"),
            &format!(
                "[gateway]\ntrust_domain = \"{DOMAIN}\"\nname = \"pg-1\"\nidentity = \"gateway/pg\"\n\
                 server = \"127.0.0.1:{port}\"\npin = \"{pin}\"\nworkload_socket = \"{0}/workload.sock\"\n\
                 data_dir = \"{0}/gateway\"\n",
                folder.path().display()
            ),
        );
        let agent = trilith(folder.path(), "agent", &["agent", "--config", "agent.toml"]);
        let workload = at("workload.sock");
        wait("the agent", || workload.exists());
        Self {
            gateway: None,
            agent,
            server,
            folder,
        }
    }

    /// Puts a gateway before `database` of `postgres`, over its Unix socket.
    pub(crate) fn start_gateway(&mut self, postgres: &Postgres, database: &str) {
        let port = free_port();
        let http = free_port();
        let path = self.folder.path().join("gateway.toml");
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str(&format!("http_listen = \"127.0.0.1:{http}\"\n"));
        text.push_str(&format!(
            "[listen]\naddress = \"127.0.0.1:{port}\"\nmax_connections = 400\n\
             [[postgres]]\ndatabase = \"{database}\"\n[postgres.upstream]\nsocket_folder = \"{}\"\nport = {}\n\
             [postgres.admin]\nrole = \"postgres\"\n",
            postgres.socket_folder().display(),
            postgres.port()
        ));
        write(&path, &text);
        let process = trilith(
            self.folder.path(),
            "gateway",
            &["gateway", "--config", "gateway.toml"],
        );
        wait("the gateway", || {
            is_ready(http) && std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        self.gateway = Some(Gateway { process, port });
    }

    pub(crate) fn port(&self) -> u16 {
        self.gateway.as_ref().expect("a gateway").port
    }

    /// `SPIFFE_ENDPOINT_SOCKET`.
    pub(crate) fn workload_api(&self) -> String {
        format!("unix://{}/workload.sock", self.folder.path().display())
    }

    pub(crate) fn agent_pid(&self) -> u32 {
        self.agent.id()
    }

    pub(crate) async fn admin(&self) -> AdminClient<Channel> {
        connect(&self.folder.path().join("server/admin.sock")).await
    }

    /// Records of `ledger` of one type, as JSON, once the gateway has handed over all that it has.
    pub(crate) async fn records(&self, ledger: &str, kind: &str) -> Vec<Value> {
        let mut admin = self.admin().await;
        let request = RecordsRequest {
            ledger: ledger.to_owned(),
            types: vec![kind.to_owned()],
            ..RecordsRequest::default()
        };
        let mut stream = admin.records(request).await.unwrap().into_inner();
        let mut records = Vec::new();
        while let Some(item) = stream.message().await.unwrap() {
            records.push(serde_json::from_slice(&item.record).unwrap());
        }
        records
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let gateway = self.gateway.as_mut().map(|gateway| &mut gateway.process);
        for process in gateway
            .into_iter()
            .chain([&mut self.agent, &mut self.server])
        {
            process.kill().and_then(|()| process.wait()).unwrap();
        }
    }
}

pub(crate) async fn apply(admin: &mut AdminClient<Channel>, files: &EstateFiles) -> Value {
    let request = EstateRequest {
        files: files.to_blob(),
        evict: u64::MAX,
        revoke: u64::MAX,
        ..EstateRequest::default()
    };
    let applied = admin.estate_apply(request).await.unwrap().into_inner();
    serde_json::from_str(&applied.json).unwrap()
}

async fn connect(socket: &Path) -> AdminClient<Channel> {
    let socket = socket.to_owned();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let socket = socket.clone();
        let channel = tonic::transport::Endpoint::from_static("http://admin.invalid")
            .connect_with_connector(tower::service_fn(move |_: tonic::transport::Uri| {
                let socket = socket.clone();
                async move {
                    let stream = tokio::net::UnixStream::connect(socket).await?;
                    Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(stream))
                }
            }))
            .await;
        if let Ok(channel) = channel {
            let mut admin = AdminClient::new(channel);
            if admin.status(StatusRequest {}).await.is_ok() {
                return admin;
            }
        }
        assert!(Instant::now() < deadline, "the server does not answer");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The binary that was built beside this program.
pub(crate) fn binary() -> PathBuf {
    let here = std::env::current_exe().unwrap();
    let binary = here.ancestors().nth(2).unwrap().join("trilith");
    assert!(binary.exists(), "{} is not built", binary.display());
    binary
}

fn trilith(folder: &Path, name: &str, arguments: &[&str]) -> Child {
    let log = std::fs::File::create(folder.join(format!("{name}.log"))).unwrap();
    Command::new(binary())
        .args(arguments)
        .env("TRILITH_LOG", "warn")
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

fn write(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// Whether the gateway says that it follows the server and decides.
fn is_ready(port: u16) -> bool {
    use std::io::{Read as _, Write as _};
    let ask = || -> std::io::Result<String> {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port))?;
        stream
            .write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

fn wait(what: &str, ready: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !ready() {
        assert!(Instant::now() < deadline, "{what} did not start");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}
