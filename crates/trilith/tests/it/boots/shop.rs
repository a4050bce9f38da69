//! A real PostgreSQL on the host, a real gateway before it, and the session that a program in the guest holds
//! there: over the guest's own network, with the identity that its machine earned.

use super::PATIENCE;
use super::measured::text;
use super::pieces::{Pieces, WORKLOAD};
use super::server::{DOMAIN, Server, role};
use estate::EstateFiles;
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Child;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use testkit::guest::{Guest, HOST};
use testkit::postgres::Postgres;

/// The machine of the gateway: the host.
const NODE: &str = "host-1";
const GATEWAY: &str = "pg-1";
const INPUT: &str = "/run/workload.in";
const OUTPUT: &str = "/run/workload.out";

/// What the gateway is, what stands behind it, and what payments may do there.
pub(crate) fn declare(files: &mut EstateFiles) {
    let uid = rustix::process::getuid().as_raw();
    let settings = "classifications = [\"public\", \"catalog\", \"restricted\"]\n";
    let estate = files.0.get("estate.toml").expect("an estate");
    let (domain, rest) = estate.split_once('\n').expect("lines");
    let estate = format!("{domain}\n{settings}{rest}");
    files.insert("estate.toml", estate);
    files.insert(
        "identities/shop.toml",
        "[[identity]]\npath = \"gateway/pg\"\nkind = \"gateway\"\nowner = \"platform\"\n",
    );
    files.insert("references/shop.toml", "[[pool]]\nname = \"hosts\"\n");
    files.insert(
        "resources/shop.toml",
        "[[database]]\nname = \"shop\"\n[[database.schema]]\nname = \"public\"\n\
         [[database.schema.table]]\nname = \"orders\"\nclassification = \"public\"\n\
         [[database.schema]]\nname = \"pg_catalog\"\nclassification = \"catalog\"\n",
    );
    files.insert(
        "policies/shop.cedar",
        format!(
            "@id(\"the gateway runs on hosts\")\n\
             permit (principal in Pool::\"hosts\", action == Action::\"assume\", \
             resource == Identity::\"gateway/pg\")\n\
             when {{ principal has uid && principal.uid == {uid} && \
             principal has path && principal.path like \"*/trilith\" }};\n\
             @id(\"payments reads orders\")\n\
             permit (principal == Identity::\"payments/api\", action == Action::\"select\", \
             resource == Table::\"shop/public/orders\");\n\
             @id(\"payments reads the catalogue\")\n\
             permit (principal == Identity::\"payments/api\", action == Action::\"select\", \
             resource in Database::\"shop\")\n\
             when {{ resource.classification == \"catalog\" }};\n"
        ),
    );
}

/// Ends when dropped: the gateway, then its node agent, then the database.
pub(crate) struct Shop {
    gateway: Child,
    agent: Child,
    _postgres: Postgres,
    port: u16,
}

impl Shop {
    /// Its estate is in force.
    pub(crate) fn open(pieces: &Pieces) -> Self {
        let postgres = Postgres::start().expect("a database");
        let run = |database, sql| postgres.execute(database, sql).expect("it runs");
        run("postgres", "create database shop");
        run(
            "shop",
            "create table orders (id int primary key, item text not null)",
        );
        run(
            "shop",
            "insert into orders select n, 'item' || n from generate_series(1, 100) n",
        );
        let server = &pieces.server;
        let folder = pieces.path("shop");
        std::fs::create_dir(&folder).expect("a folder");
        let token = server.ask(&["token", "create", "--node", NODE, "--pool", "hosts"]);
        let token = token.pointer("/token").and_then(Value::as_str);
        let file = folder.join("token");
        std::fs::write(&file, token.expect("a token")).expect("written");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&file, mode).expect("a mode");
        let (here, pin) = (folder.display(), server.pin());
        let socket = folder.join("workload.sock");
        let common = format!(
            "trust_domain = \"{DOMAIN}\"\nserver = \"127.0.0.1:{}\"\npin = \"{pin}\"\n\
             workload_socket = \"{}\"\n",
            server.port,
            socket.display()
        );
        let agent = role(
            &folder,
            "agent",
            &format!(
                "{common}data_dir = \"{here}/agent\"\n\
                 [join]\nmethod = \"token\"\ntoken_file = \"{here}/token\"\n"
            ),
        );
        let log = |name: &str| {
            std::fs::read_to_string(folder.join(format!("{name}.log"))).unwrap_or_default()
        };
        until(|| socket.exists(), || log("agent"));
        let [port, http] = super::server::ports();
        let gateway = role(
            &folder,
            "gateway",
            &format!(
                "[gateway]\n{common}name = \"{GATEWAY}\"\nidentity = \"gateway/pg\"\n\
                 data_dir = \"{here}/gateway\"\nhttp_listen = \"127.0.0.1:{http}\"\n\
                 [listen]\naddress = \"127.0.0.1:{port}\"\n\
                 [[postgres]]\ndatabase = \"shop\"\n\
                 [postgres.upstream]\nsocket_folder = \"{}\"\n\
                 [postgres.admin]\nrole = \"postgres\"\n",
                postgres.socket_folder().display()
            ),
        );
        let shop = Self {
            gateway,
            agent,
            _postgres: postgres,
            port,
        };
        until(|| is_ready(http), || log("gateway"));
        shop
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        for process in [&mut self.gateway, &mut self.agent] {
            // Already gone is as good.
            let _gone = process.kill();
            let _gone = process.wait();
        }
    }
}

fn until(ready: impl Fn() -> bool, otherwise: impl Fn() -> String) {
    testkit::until(ready, otherwise);
}

/// Whether the gateway says that it follows the server and decides.
fn is_ready(port: u16) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream
            .write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

/// The program in the guest that holds a session, and obeys on a pipe there.
pub(crate) struct Session {
    asked: u64,
}

impl Session {
    /// Starts the demo's payments-api in the guest, which connects and reads.
    pub(crate) fn begin(guest: &mut Guest, shop: &Shop) -> Self {
        let start = format!(
            "mkfifo {INPUT}; SPIFFE_ENDPOINT_SOCKET=unix:///run/trilith/workload.sock \
             {WORKLOAD} < {INPUT} > {OUTPUT} 2>&1 & exec 9> {INPUT}"
        );
        let ran = guest.run(&start, PATIENCE).expect("the guest obeys");
        assert_eq!(ran.status, 0, "{ran:?}");
        let mut session = Self { asked: 0 };
        let connected = session.connect(guest, shop);
        assert!(is_ok(&connected), "{connected}");
        let counted = session.ask(guest, &query("select count(*) from orders"));
        assert_eq!(text(&counted, "/first"), "100", "{counted}");
        session
    }

    pub(crate) fn connect(&mut self, guest: &mut Guest, shop: &Shop) -> Value {
        let config = format!(
            "host={HOST} port={} dbname=shop user=demo sslmode=require",
            shop.port
        );
        let server = format!("spiffe://{DOMAIN}/gateway/pg");
        let connect = json!({ "connect": { "config": config, "server": server } });
        self.ask(guest, &connect)
    }

    /// Has it run statements, one after the other, for as long as it can; when it began, by the guest's clock.
    pub(crate) fn keep_reading(&mut self, guest: &mut Guest) -> Duration {
        let sql = "select item from orders where id = 7";
        let load = json!({ "load": { "sql": sql, "milliseconds": 120_000 } });
        let line = self.line(&load);
        let ran = guest.run(&format!("{UPTIME}; {line}"), PATIENCE);
        uptime(&ran.expect("the guest obeys").output)
    }

    /// What came of the last thing that it was asked.
    pub(crate) fn answer(&self, guest: &mut Guest) -> Value {
        let limit = Instant::now() + PATIENCE;
        loop {
            let ran = guest.run(&format!("cat {OUTPUT}"), PATIENCE);
            let said = ran.expect("the guest obeys").output;
            let answers = said.lines().map(serde_json::from_str::<Value>);
            let own = |answer: &Value| answer.get("id").and_then(Value::as_u64) == Some(self.asked);
            if let Some(answer) = answers.filter_map(Result::ok).find(own) {
                return answer;
            }
            assert!(Instant::now() < limit, "no answer: {said}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn ask(&mut self, guest: &mut Guest, command: &Value) -> Value {
        let line = self.line(command);
        let ran = guest.run(&line, PATIENCE).expect("the guest obeys");
        assert_eq!(ran.status, 0, "{ran:?}");
        self.answer(guest)
    }

    fn line(&mut self, command: &Value) -> String {
        self.asked += 1;
        let request = json!({ "id": self.asked, "command": command });
        format!("echo '{request}' >&9")
    }
}

pub(crate) fn is_ok(answer: &Value) -> bool {
    answer.get("ok") == Some(&Value::Bool(true))
}

pub(crate) fn query(sql: &str) -> Value {
    json!({ "query": { "sql": sql } })
}

/// Says how long the guest's kernel has run, in hundredths of a second, without starting a program.
pub(crate) const UPTIME: &str = "read -r up idle < /proc/uptime; echo \"UP $up\"";

pub(crate) fn uptime(output: &str) -> Duration {
    let said = output.lines().find_map(|line| line.strip_prefix("UP "));
    let seconds = said.and_then(|seconds| seconds.trim().parse().ok());
    Duration::from_secs_f64(seconds.expect("an uptime"))
}

/// How a session ended, as the gateway has recorded it.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) reason: String,
    pub(crate) detail: String,
    pub(crate) operations: u64,
    /// Since 1970.
    pub(crate) at: Duration,
}

/// The only session that there was, once its end is recorded and with the server.
pub(crate) fn ended(server: &Server) -> Ended {
    let limit = Instant::now() + PATIENCE;
    let records = |kind| server.records_of(GATEWAY, kind);
    loop {
        if let Some(record) = records("session-end").first() {
            let number = |pointer| text(record, pointer).parse().expect("a number");
            let started = records("session-start");
            assert_eq!(started.len(), 1, "{started:?}");
            let started = started.first().expect("it began");
            let session = "/body/session";
            assert_eq!(text(started, session), text(record, session));
            let id = format!("spiffe://{DOMAIN}/payments/api");
            assert_eq!(text(started, "/body/spiffe_id"), id);
            return Ended {
                reason: text(record, "/body/reason").to_owned(),
                detail: text(record, "/body/detail").to_owned(),
                operations: number("/body/operations"),
                at: Duration::from_millis(number("/time/wall")),
            };
        }
        assert!(Instant::now() < limit, "the session's end is not recorded");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// By the host's clock, since 1970.
pub(crate) fn now() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("a clock")
}
