//! The demo's folder, its configuration files and its processes.

use super::database::Database;
use super::emulated_tpm::EmulatedTpm;
use super::process::Daemon;
use super::trilith::Trilith;
use super::workload::Workload;
use crate::arguments::DemoArguments;
use crate::output;
use anyhow::Context as _;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) const TRUST_DOMAIN: &str = "demo.trilith";
pub(crate) const GATEWAY: &str = "pg-1";
/// Long enough for a loaded machine; every wait ends as soon as what is waited for is there.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Everything that runs and everything on disk. Processes end before the folder goes.
pub(crate) struct Site {
    pub(crate) workloads: BTreeMap<&'static str, Workload>,
    pub(crate) gateway: Option<Daemon>,
    pub(crate) agent: Option<Daemon>,
    pub(crate) server: Option<Daemon>,
    pub(crate) tpm: Option<EmulatedTpm>,
    pub(crate) database: Option<Database>,
    pub(crate) trilith: Trilith,
    pub(crate) programs: PathBuf,
    pub(crate) ports: Ports,
    pub(crate) device: Option<PathBuf>,
    directory: PathBuf,
    keep: bool,
    _guard: Option<tempfile::TempDir>,
    /// Held as long as the folder is used: the next demo removes what a killed one left.
    _lock: Option<File>,
}

/// How the folders of demos begin, in the folder for temporary files.
const PREFIX: &str = "trilith-demo-";
/// In each that is to go with its demo: locked by the demo.
const LOCK: &str = "demo.lock";

/// Ports on loopback that nothing listened on a moment ago.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) server: u16,
    pub(crate) server_http: u16,
    pub(crate) gateway: u16,
    pub(crate) gateway_http: u16,
}

impl Site {
    pub(crate) fn new(arguments: &DemoArguments) -> anyhow::Result<Self> {
        remove_what_killed_demos_left();
        let guard = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir()
            .context("cannot make the demo's folder")?;
        let (directory, guard, lock) = if arguments.keep {
            (guard.keep(), None, None)
        } else {
            let lock = lock(guard.path()).context("cannot lock the demo's folder")?;
            (guard.path().to_owned(), Some(guard), Some(lock))
        };
        // PostgreSQL's own user has to pass through.
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o711))?;
        for folder in ["logs", "etc", "tpm", "postgres", "bin"] {
            fs::create_dir(directory.join(folder))?;
        }
        let programs = match &arguments.programs {
            Some(programs) => programs.clone(),
            None => std::env::current_exe()?
                .parent()
                .context("this binary has no folder")?
                .to_owned(),
        };
        // Step 10 looks in both for the attack tool.
        let needed: [&[&str]; 2] = [&["payments-api"], &["attack", "examples/attack"]];
        for names in needed {
            anyhow::ensure!(
                names.iter().any(|name| programs.join(name).exists()),
                "the demo's program {} is not in {}; build them with `cargo xtask demo`, or name their folder with --programs",
                names.join(" or "),
                programs.display()
            );
        }
        Ok(Self {
            trilith: Trilith::new(directory.join("server/admin.sock"))?,
            workloads: BTreeMap::new(),
            gateway: None,
            agent: None,
            server: None,
            tpm: None,
            database: None,
            ports: Ports::free()?,
            device: arguments.tpm.clone(),
            keep: arguments.keep,
            programs,
            directory,
            _guard: guard,
            _lock: lock,
        })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.path("logs")
    }

    /// Copies a program to the demo's own folder and returns where it is.
    pub(crate) fn install(&self, program: &str, name: &str) -> anyhow::Result<PathBuf> {
        let to = self.path("bin").join(name);
        fs::copy(self.programs.join(program), &to)
            .with_context(|| format!("cannot copy {program}"))?;
        Ok(to)
    }

    /// The Workload API as `SPIFFE_ENDPOINT_SOCKET` names it.
    pub(crate) fn workload_api(&self) -> String {
        format!("unix://{}", self.path("run/workload.sock").display())
    }

    /// How a client reaches the shop through the gateway.
    pub(crate) fn connection_string(&self) -> String {
        format!(
            "host=127.0.0.1 port={} dbname=shop user=demo sslmode=require",
            self.ports.gateway
        )
    }

    pub(crate) fn config(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.path("etc").join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    pub(crate) async fn start_server(&mut self) -> anyhow::Result<Duration> {
        let data = self.path("server");
        let config = self.config("server.toml", &server_toml(&data, self.ports))?;
        let command = self.trilith.role("server", &config);
        let mut server = Daemon::start("server", command, &self.logs())?;
        let trilith = self.trilith.clone();
        let ready = async || {
            trilith
                .run(&["status"])
                .await
                .is_ok_and(|ran| ran.code == 0)
        };
        let waited = server.wait_until(PATIENCE, ready).await;
        self.server = Some(server);
        waited
    }

    pub(crate) async fn start_agent(&mut self, pin: &str, tpm: &str) -> anyhow::Result<Duration> {
        let socket = self.path("run/workload.sock");
        let config = self.config(
            "agent.toml",
            &agent_toml(&self.path("agent"), &socket, self.ports, pin, tpm),
        )?;
        let command = self.trilith.role("agent", &config);
        let mut agent = Daemon::start("agent", command, &self.logs())?;
        let trilith = self.trilith.clone();
        let ready = async || {
            let joined = trilith
                .run(&["agent", "list"])
                .await
                .and_then(|ran| ran.json());
            let connected = joined.is_ok_and(|list| {
                list.pointer("/agents/0/connected") == Some(&serde_json::Value::Bool(true))
            });
            connected && socket.exists()
        };
        let waited = agent.wait_until(PATIENCE, ready).await;
        self.agent = Some(agent);
        waited
    }

    pub(crate) async fn start_gateway(&mut self, pin: &str) -> anyhow::Result<Duration> {
        let database = self.database.as_ref().context("there is no database")?;
        let text = gateway_toml(
            &self.path("gateway"),
            &self.path("run/workload.sock"),
            database.socket_directory(),
            self.ports,
            pin,
        );
        let config = self.config("gateway.toml", &text)?;
        let command = self.trilith.role("gateway", &config);
        let mut gateway = Daemon::start("gateway", command, &self.logs())?;
        let port = self.ports.gateway_http;
        let ready = async || {
            http_ok(port, "/readyz").await
                && tokio::net::TcpStream::connect(("127.0.0.1", self.ports.gateway))
                    .await
                    .is_ok()
        };
        let waited = gateway.wait_until(PATIENCE, ready).await;
        self.gateway = Some(gateway);
        waited
    }

    /// Whether the gateway says that it follows the server.
    pub(crate) async fn gateway_follows(&self) -> bool {
        http_get(self.ports.gateway_http, "/metrics")
            .await
            .lines()
            .any(|line| line == "trilith_gateway_following 1")
    }

    pub(crate) fn print_what_to_look_at(&self) {
        let admin = self.path("server/admin.sock");
        let trilith = self.trilith.binary().display();
        output::line(format_args!(
            "\nEverything goes on running until Ctrl-C. In another terminal:\n\n  \
             export TRILITH_ADMIN_SOCKET={admin}\n  \
             export SPIFFE_ENDPOINT_SOCKET={socket}\n  \
             {trilith} status\n  \
             {trilith} why agents/helper select shop/public/cards\n  \
             {trilith} who-can select shop/public/cards\n  \
             {trilith} ledger search --identity agents/helper\n  \
             {trilith} exec -- {psql} '{connection}' -c 'select * from products'\n\n\
             Without Trilith:\n\n  \
             curl -s http://127.0.0.1:{http}/checkpoint\n  \
             test \"$({{ printf '\\0'; curl -s http://127.0.0.1:{http}/tile/entries/000.p/1 | tail -c +3; }} | sha256sum | cut -c1-64)\" = \"$(curl -s http://127.0.0.1:{http}/tile/0/000.p/1 | od -An -v -tx1 | tr -d ' \\n')\" && echo 'the first leaf is the hash of the first record'\n  \
             curl -s http://127.0.0.1:{http}/bundle.json | jq -r '.keys[] | select(.use == \"x509-svid\") | .x5c[0]' | base64 -d | openssl x509 -inform der -noout -subject -dates\n  \
             openssl s_client -connect 127.0.0.1:{gateway} -starttls postgres </dev/null 2>/dev/null | openssl x509 -noout -ext subjectAltName\n",
            admin = admin.display(),
            socket = self.workload_api(),
            psql = self.database.as_ref().map_or_else(
                || "psql".into(),
                |database| database.psql().display().to_string()
            ),
            // `exec` names the roots to verify by in the environment.
            connection = self
                .connection_string()
                .replace("sslmode=require", "sslmode=verify-ca"),
            http = self.ports.server_http,
            gateway = self.ports.gateway,
        ));
    }

    /// Ends everything in order.
    pub(crate) async fn end(mut self) {
        self.workloads.clear();
        let ended = tokio::task::spawn_blocking(move || {
            drop(self.gateway.take());
            drop(self.agent.take());
            drop(self.server.take());
            if self.keep {
                output::note(format_args!("Kept: {}", self.directory.display()));
            }
            drop(self);
        });
        if let Err(error) = ended.await {
            tracing::debug!(%error, "ending the demo");
        }
    }
}

/// The lock has its name only once it is held: nobody takes it in between.
fn lock(directory: &Path) -> std::io::Result<File> {
    let new = directory.join("demo.lock.new");
    let lock = File::create_new(&new)?;
    lock.lock()?;
    fs::rename(new, directory.join(LOCK))?;
    Ok(lock)
}

/// Removes the folders of this user's demos that were killed, whose locks nobody holds any more.
fn remove_what_killed_demos_left() {
    let user = rustix::process::geteuid().as_raw();
    let entries = fs::read_dir(std::env::temp_dir());
    for entry in entries.into_iter().flatten().flatten() {
        let path = entry.path();
        let of_a_demo = entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(PREFIX.as_bytes());
        // Not through a link, and not somebody else's.
        let own = entry
            .metadata()
            .is_ok_and(|meta| meta.is_dir() && meta.uid() == user);
        let left = || File::open(path.join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok());
        if of_a_demo && own && left() {
            match fs::remove_dir_all(&path) {
                Ok(()) => output::note(format_args!(
                    "Removed what a killed demo left: {}",
                    path.display()
                )),
                Err(error) => tracing::debug!(%error, path = %path.display(), "not removed"),
            }
        }
    }
}

impl Ports {
    fn free() -> anyhow::Result<Self> {
        // All are bound before any is let go, so that they differ.
        let listeners = (0..4)
            .map(|_| TcpListener::bind("127.0.0.1:0"))
            .collect::<Result<Vec<_>, _>>()
            .context("no free port on loopback")?;
        let mut ports = listeners
            .iter()
            .map(|listener| listener.local_addr().map(|address| address.port()));
        let mut next = || {
            ports
                .next()
                .context("four listeners")?
                .context("a listener has an address")
        };
        Ok(Self {
            server: next()?,
            server_http: next()?,
            gateway: next()?,
            gateway_http: next()?,
        })
    }
}

/// The answer to a plain GET on loopback, headers included; empty if there is none.
async fn http_get(port: u16, path: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let get = async {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    get.await.unwrap_or_default()
}

async fn http_ok(port: u16, path: &str) -> bool {
    http_get(port, path).await.starts_with("HTTP/1.1 200")
}

fn server_toml(data: &Path, ports: Ports) -> String {
    let data = data.display();
    format!(
        "trust_domain = \"{TRUST_DOMAIN}\"\ndata_dir = \"{data}\"\n\
         listen = \"127.0.0.1:{}\"\nhttp_listen = \"127.0.0.1:{}\"\n\n\
         [custody.ca]\nkind = \"file\"\ndir = \"{data}/keys-ca\"\n\n\
         [custody.ledger]\nkind = \"file\"\ndir = \"{data}/keys-ledger\"\n",
        ports.server, ports.server_http
    )
}

fn agent_toml(data: &Path, socket: &Path, ports: Ports, pin: &str, tpm: &str) -> String {
    let (data, socket) = (data.display(), socket.display());
    format!(
        "trust_domain = \"{TRUST_DOMAIN}\"\nserver = \"127.0.0.1:{}\"\npin = \"{pin}\"\n\
         data_dir = \"{data}\"\nworkload_socket = \"{socket}\"\n\n\
         [join]\nmethod = \"tpm\"\ntpm = \"{tpm}\"\n",
        ports.server
    )
}

fn gateway_toml(data: &Path, workload: &Path, upstream: &Path, ports: Ports, pin: &str) -> String {
    format!(
        "[gateway]\ntrust_domain = \"{TRUST_DOMAIN}\"\nname = \"{GATEWAY}\"\nidentity = \"gateway/pg\"\n\
         server = \"127.0.0.1:{}\"\npin = \"{pin}\"\nworkload_socket = \"{}\"\ndata_dir = \"{}\"\n\
         http_listen = \"127.0.0.1:{}\"\n\n\
         [listen]\naddress = \"127.0.0.1:{}\"\n\n\
         [[postgres]]\ndatabase = \"shop\"\n\n\
         [postgres.upstream]\nsocket_folder = \"{}\"\n\n\
         [postgres.admin]\nrole = \"trilith_gateway\"\n",
        ports.server,
        workload.display(),
        data.display(),
        ports.gateway_http,
        ports.gateway,
        upstream.display(),
    )
}
