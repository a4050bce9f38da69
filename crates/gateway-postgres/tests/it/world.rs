//! One gateway between a private PostgreSQL and whoever connects, with an estate to test against.

use crate::plane::{DOMAIN, Plane, Svid};
use estate::EstateFiles;
use facts::Timestamp;
use gateway::Core;
use gateway_postgres::{
    AdminConfig, ApplicationName, Config, LimitsConfig, ListenConfig, PostgresConfig,
    UpstreamConfig, run_with,
};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;
use testkit::postgres::Postgres;
use tokio::net::TcpListener;
use tokio::sync::watch;

const SCHEMA: &str = r"
CREATE TABLE cards (id int PRIMARY KEY, number text NOT NULL);
INSERT INTO cards SELECT i, 's' || i FROM generate_series(1, 50) i;
CREATE TABLE orders (id serial PRIMARY KEY, note text);
INSERT INTO orders (note) VALUES ('first'), ('second');
CREATE TABLE products (id int PRIMARY KEY, name text);
INSERT INTO products SELECT i, 'p' || i FROM generate_series(1, 1000) i;
CREATE TABLE undeclared (id int);
CREATE VIEW card_numbers AS SELECT number FROM cards;
CREATE VIEW product_names AS SELECT name FROM products;
CREATE TABLE events (at date, what text) PARTITION BY RANGE (at);
CREATE TABLE events_2026 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
INSERT INTO events VALUES ('2026-02-03', 'x');
CREATE FUNCTION card_of(int) RETURNS text LANGUAGE sql SECURITY DEFINER AS 'SELECT number FROM cards WHERE id = $1';
REVOKE EXECUTE ON FUNCTION card_of FROM PUBLIC;
CREATE TABLE pgbench_accounts (aid int PRIMARY KEY, bid int, abalance int, filler char(84));
INSERT INTO pgbench_accounts SELECT i, 1, 0, '' FROM generate_series(1, 1000) i;
";

/// As `docs/operate/first-service.md` makes it; only the password is for the tests.
pub(crate) const MAINTENANCE: &str = r"
CREATE ROLE trilith_gateway LOGIN CREATEROLE PASSWORD 'maintenance';
GRANT ALL ON SCHEMA public TO trilith_gateway WITH GRANT OPTION;
GRANT ALL ON ALL TABLES IN SCHEMA public TO trilith_gateway WITH GRANT OPTION;
GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO trilith_gateway WITH GRANT OPTION;
GRANT CONNECT ON DATABASE shop TO trilith_gateway WITH GRANT OPTION;
";

const ESTATE: &str = r#"
trust_domain = "example.org"
classifications = ["public", "catalog", "internal", "pii", "restricted"]
max_staleness = "5m"
"#;

const IDENTITIES: &str = r#"
[[identity]]
path = "payments/api"
kind = "service"
owner = "payments"
visible = ["machine.join"]
[[identity]]
path = "agents/helper"
kind = "ai-agent"
owner = "support"
[[identity]]
path = "gateway/pg"
kind = "gateway"
owner = "platform"
"#;

const RESOURCES: &str = r#"
[[database]]
name = "shop"
[[database.schema]]
name = "public"
[[database.schema.table]]
name = "cards"
classification = "pii"
[[database.schema.table]]
name = "orders"
classification = "internal"
[[database.schema.table]]
name = "products"
classification = "public"
[[database.schema.table]]
name = "pgbench_accounts"
classification = "public"
[[database.schema.table]]
name = "events"
classification = "internal"
[[database.schema]]
name = "pg_catalog"
classification = "catalog"
[[database.schema]]
name = "information_schema"
classification = "catalog"
"#;

const POLICIES: &str = r#"
@id("payments reads cards")
permit (principal == Identity::"payments/api", action == Action::"select", resource == Table::"shop/public/cards");
@id("payments keeps orders")
permit (principal == Identity::"payments/api",
  action in [Action::"select", Action::"insert", Action::"update", Action::"delete", Action::"truncate"],
  resource == Table::"shop/public/orders");
@id("events are for machines that joined by tpm")
permit (principal == Identity::"payments/api", action == Action::"select", resource == Table::"shop/public/events")
when { context.machine has join && context.machine.join == "tpm" };
@id("what is public is for all")
permit (principal is Identity, action == Action::"select", resource in Schema::"shop/public")
when { resource.classification == "public" };
@id("the catalog is for all")
permit (principal is Identity, action == Action::"select", resource in Database::"shop")
when { resource.classification == "catalog" };
"#;

pub(crate) fn estate() -> EstateFiles {
    let mut files = EstateFiles::new();
    files.insert("estate.toml", ESTATE);
    files.insert("identities/shop.toml", IDENTITIES);
    files.insert("resources/shop.toml", RESOURCES);
    files.insert("policies/shop.cedar", POLICIES);
    files
}

/// The same without what lets payments read cards.
pub(crate) fn estate_without_cards() -> EstateFiles {
    let mut files = estate();
    let policies = POLICIES.replace(
        "action == Action::\"select\", resource == Table::\"shop/public/cards\"",
        "action == Action::\"delete\", resource == Table::\"shop/public/cards\"",
    );
    files.insert("policies/shop.cedar", policies);
    files
}

pub(crate) struct World {
    pub(crate) postgres: Postgres,
    pub(crate) plane: Arc<Plane>,
    pub(crate) core: Arc<Core>,
    pub(crate) address: SocketAddr,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) config: Config,
    stop: watch::Sender<bool>,
    running: tokio::task::JoinHandle<Result<(), gateway_postgres::RunError>>,
}

/// Why the tests of this crate cannot run here, said loudly.
pub(crate) fn skipped(test: &str) -> bool {
    let missing = Postgres::missing();
    if let Some(what) = &missing {
        testkit::skip(test, what);
    }
    missing.is_some()
}

/// What a gateway stands between: database, server, node agent.
pub(crate) struct Site {
    pub(crate) postgres: Postgres,
    pub(crate) plane: Arc<Plane>,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) config: Config,
}

impl Site {
    /// The gateway's address is not known before it listens.
    pub(crate) async fn start(address: SocketAddr) -> Self {
        Self::start_with(address, &[]).await
    }

    /// With more lines of `postgresql.conf`.
    pub(crate) async fn start_with(address: SocketAddr, settings: &[&str]) -> Self {
        let options = testkit::postgres::Options {
            settings: settings.iter().map(|&line| line.to_owned()).collect(),
            ..testkit::postgres::Options::default()
        };
        let postgres = Postgres::start_with(&options).unwrap();
        postgres
            .execute("postgres", "CREATE DATABASE shop")
            .unwrap();
        postgres.execute("shop", SCHEMA).unwrap();
        postgres.execute("shop", MAINTENANCE).unwrap();
        let folder = testkit::temp_dir().unwrap();
        let password = folder.path().join("maintenance.password");
        std::fs::write(&password, "maintenance\n").unwrap();
        let plane = Plane::start(folder.path());
        plane.apply(&estate());
        let workload = folder.path().join("workload.sock");
        let server = plane.serve(&workload, plane.issue("gateway/pg")).await;
        let gateway = gateway::Config {
            trust_domain: DOMAIN.to_owned(),
            name: "pg-1".to_owned(),
            identity: "gateway/pg".to_owned(),
            server: server.to_string(),
            pin: plane.pin(),
            workload_socket: workload,
            data_dir: folder.path().join("gateway"),
            http_listen: None,
            witnesses: None,
        };
        let config = Config {
            gateway,
            listen: ListenConfig {
                address,
                max_connections: 200,
                max_sessions_per_identity: None,
                max_handshakes: 20,
                // Long for a client, on a machine that does much else.
                handshake_timeout_s: 6,
                max_message_bytes: 1 << 20,
            },
            delegation: gateway::Delegation::default(),
            application_name: ApplicationName::default(),
            limits: LimitsConfig::default(),
            databases: vec![PostgresConfig {
                database: "shop".to_owned(),
                upstream: UpstreamConfig {
                    socket_folder: Some(postgres.socket_folder().to_owned()),
                    host: None,
                    ca_file: None,
                    port: postgres.port(),
                },
                admin: AdminConfig {
                    role: "trilith_gateway".to_owned(),
                    password_file: Some(password),
                },
                max_sessions: None,
                catalog_refresh_s: 1,
            }],
        };
        Self {
            postgres,
            plane,
            folder,
            config,
        }
    }
}

/// Waits until the estate has arrived.
pub(crate) async fn followed(core: &Core) {
    // The whole initial state has been taken once the server counts as heard.
    tokio::time::timeout(Duration::from_secs(60), async {
        while core.following().fresh(Timestamp::now()).is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("the estate arrives");
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[], |_| {}).await
    }

    /// From now on a login at the database takes a second.
    pub(crate) fn slow_logins(&self) {
        for slow in [
            "ALTER SYSTEM SET post_auth_delay = 1",
            "SELECT pg_reload_conf()",
        ] {
            self.postgres.execute("postgres", slow).unwrap();
        }
    }

    /// With more lines of `postgresql.conf` and another configuration of the gateway.
    pub(crate) async fn start_with(settings: &[&str], change: impl FnOnce(&mut Config)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let Site {
            postgres,
            plane,
            folder,
            mut config,
        } = Site::start_with(address, settings).await;
        change(&mut config);
        let core = Core::open(config.gateway.clone()).await.unwrap();
        followed(&core).await;
        let (stop, stopping) = watch::channel(false);
        let serving = Arc::clone(&core);
        let run = config.clone();
        let running =
            tokio::spawn(async move { run_with(&run, serving, listener, stopping).await });
        Self {
            config,
            postgres,
            plane,
            core,
            address,
            folder,
            stop,
            running,
        }
    }

    /// Certificate and key as files for libpq.
    pub(crate) fn files(&self, svid: &Svid) -> (PathBuf, PathBuf) {
        let name = format!("{}-{}", svid.id.replace([':', '/'], "_"), svid.serial);
        let certificate = self.folder.path().join(format!("{name}.crt"));
        let key = self.folder.path().join(format!("{name}.key"));
        let chain: String = svid
            .chain
            .iter()
            .map(|der| pem("CERTIFICATE", der))
            .collect();
        std::fs::write(&certificate, chain).unwrap();
        std::fs::write(&key, pem("PRIVATE KEY", &svid.key.to_pkcs8().unwrap())).unwrap();
        private(&key);
        (certificate, key)
    }

    /// Environment of a libpq client that connects as `svid`.
    pub(crate) fn environment(&self, svid: &Svid) -> Vec<(&'static str, String)> {
        let (certificate, key) = self.files(svid);
        vec![
            ("PGHOST", "127.0.0.1".to_owned()),
            ("PGPORT", self.address.port().to_string()),
            ("PGDATABASE", "shop".to_owned()),
            ("PGUSER", "anybody".to_owned()),
            ("PGSSLMODE", "require".to_owned()),
            ("PGSSLCERT", certificate.display().to_string()),
            ("PGSSLKEY", key.display().to_string()),
            ("PGCONNECT_TIMEOUT", "10".to_owned()),
        ]
    }

    /// Runs psql as `svid` with `input` on its standard input: what it printed on both streams.
    pub(crate) async fn psql(&self, svid: &Svid, input: &str) -> String {
        let output = self
            .program("psql", svid, &["-XAt", "-v", "VERBOSITY=verbose"], input)
            .await;
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        text
    }

    pub(crate) async fn program(
        &self,
        name: &str,
        svid: &Svid,
        arguments: &[&str],
        input: &str,
    ) -> Output {
        let mut command = Command::new(testkit::tool(name).unwrap());
        command
            .args(arguments)
            .envs(self.environment(svid))
            .current_dir(self.folder.path());
        let script = self.folder.path().join(format!(
            "input-{}",
            crypto::hex::encode(&crypto::random::<4>())
        ));
        std::fs::write(&script, input).unwrap();
        command.stdin(std::fs::File::open(script).unwrap());
        tokio::task::spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap()
    }

    /// Records of the gateway's ledger whose bytes hold `part`.
    pub(crate) fn records(&self, part: &str) -> Vec<String> {
        let reader = self.core.reader();
        let mut found = Vec::new();
        let mut at = 0;
        while at < reader.size() {
            let records = reader.read(at..reader.size()).unwrap();
            at += records.len() as u64;
            let texts = records
                .into_iter()
                .map(|bytes| String::from_utf8(bytes).unwrap());
            found.extend(texts.filter(|text| text.contains(part)));
        }
        found
    }

    /// What became of everything that wrote or ended a transaction, in order:
    /// `delete+select: ok DELETE 2 I`.
    pub(crate) fn writes(&self) -> Vec<String> {
        let (mut intents, mut writes) = (std::collections::HashMap::new(), Vec::new());
        for text in self.records("") {
            let record = ledger::Record::parse(text.as_bytes()).unwrap();
            match record.kind() {
                ledger::RecordType::Intent => {
                    let intent: ledger::body::Intent = record.expect_body().unwrap();
                    intents.insert(record.seq(), intent);
                }
                ledger::RecordType::Outcome => {
                    let outcome: ledger::body::Outcome = record.expect_body().unwrap();
                    let Some(transaction) = outcome.transaction else {
                        continue;
                    };
                    let intent = &intents[&outcome.intent.0];
                    let actions: Vec<&str> =
                        intent.actions.iter().map(|on| on.action.as_str()).collect();
                    writes.push(format!(
                        "{}: {} {} {} {transaction}",
                        actions.join("+"),
                        outcome.result,
                        outcome.tag.as_deref().unwrap_or("-"),
                        outcome.rows.map_or(0, |rows| rows.0),
                    ));
                }
                _ => {}
            }
        }
        writes
    }

    /// Waits until a record holds `part`: harmless reads are written a moment later.
    pub(crate) async fn recorded(&self, part: &str) -> Vec<String> {
        let mut heads = self.core.reader().subscribe(0);
        let waited = tokio::time::timeout(Duration::from_secs(60), async {
            loop {
                let found = self.records(part);
                if !found.is_empty() {
                    return found;
                }
                heads.next().await.unwrap();
            }
        });
        waited
            .await
            .unwrap_or_else(|_| panic!("no record holds {part}"))
    }

    /// Applies another estate and waits until the gateway decides by it.
    pub(crate) async fn apply(&self, files: &EstateFiles) {
        let mut estates = self.core.following().estate_changed();
        let index = self.plane.apply(files);
        let waited = estates.wait_for(|current| *current >= index);
        tokio::time::timeout(Duration::from_secs(60), waited)
            .await
            .unwrap()
            .unwrap();
    }

    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        self.running.await.unwrap().unwrap();
    }
}

pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let text = crypto::base64::encode(der);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}

fn private(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}
