//! What a gateway in front of a real database has recorded, as outsiders see it: over the server's HTTP and from the
//! bucket of a real object store (versitygw), read whole by other people's tools, watched for accesses to a table, and
//! recognised by the table's owner who is served no record.

use crate::demo::Held;
use crate::quorum::{Process, peer, said};
use crate::records::data_dir;
use crate::site::Site;
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use testkit::s3::{ID, S3, SECRET};

const BUCKET: &str = "ledgers";
const PREFIX: &str = "demo.trilith/server";
const TABLE: &str = "shop/public/cards";

/// The demo's server, seen from outside.
struct Outside<'a> {
    site: &'a Site,
    /// The server's `data_dir`, and its configuration.
    data: PathBuf,
    config: PathBuf,
    http: String,
    states: tempfile::TempDir,
    /// The verifier key of the server's ledger.
    key: String,
}

/// A gateway's ledger, as `/ledgers` lists it.
struct Listed {
    name: String,
    key: String,
    size: u64,
}

impl<'a> Outside<'a> {
    fn new(site: &'a Site) -> Self {
        let data = data_dir(&site.temporary()).expect("the server's folder");
        let config = data.join("../etc/server.toml").canonicalize();
        let config = config.expect("its configuration");
        let text = std::fs::read_to_string(&config).expect("read");
        let http = text.split("http_listen = \"").nth(1);
        let http = http.and_then(|rest| rest.split('"').next());
        let mut outside = Self {
            site,
            data,
            config,
            http: http.expect("an address").to_owned(),
            states: testkit::temp_dir().expect("a folder"),
            key: String::new(),
        };
        outside.key = outside.status()["ledger"]["key"]
            .as_str()
            .expect("a key")
            .to_owned();
        outside
    }

    fn status(&self) -> Value {
        let output = self
            .site
            .trilith()
            .env("TRILITH_ADMIN_SOCKET", self.data.join("admin.sock"))
            .args(["status", "--json"])
            .output()
            .expect("it runs");
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// Status line and body.
    fn get(&self, path: &str) -> Option<(String, String)> {
        let mut stream = TcpStream::connect(&self.http).ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.lines().next()?.to_owned(), body.to_owned()))
    }

    fn listed(&self) -> Option<Listed> {
        let (_, body) = self.get("/ledgers")?;
        let all: Value = serde_json::from_str(&body).ok()?;
        let one = all["ledgers"].as_array()?.first()?;
        assert!(
            one["origin"]
                .as_str()
                .is_some_and(|origin| origin.ends_with("/pg-1")),
            "{all}"
        );
        Some(Listed {
            name: one["name"].as_str()?.to_owned(),
            key: one["key"].as_str()?.to_owned(),
            size: one["size"].as_u64()?,
        })
    }

    fn until<T>(&self, what: &str, holds: impl Fn() -> Option<T>) -> T {
        testkit::found(holds, || format!("{what}\n{}", self.status()))
    }

    /// Kills the server, which the demo or this test has started.
    fn kill_server(&self) {
        let mark = self.config.to_str().expect("UTF-8");
        for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if !line.contains(" server ") || !line.contains(mark) {
                continue;
            }
            let number = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            let pid = number.and_then(rustix::process::Pid::from_raw);
            let pid = pid.expect("a process");
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("a signal");
        }
        self.until("the server is gone", || {
            TcpStream::connect(&self.http).is_err().then_some(())
        });
    }

    /// With more in its configuration than the demo has.
    fn start_server(&self, more: &str) -> Process {
        let text = std::fs::read_to_string(&self.config).expect("read");
        let config = self.config.with_file_name("server-more.toml");
        std::fs::write(&config, text + more).expect("written");
        let log = std::fs::File::create(config.with_extension("log")).expect("a log");
        let mut command = self.site.trilith();
        command.arg("server").arg("--config").arg(config);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let server = Process(command.spawn().expect("it starts"));
        self.until("the server answers", || self.listed());
        server
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.states.path().join(name);
        std::fs::write(&path, text).expect("written");
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&path, mode).expect("its mode");
        path
    }

    /// One look at the gateway's ledger at that address.
    fn monitor(&self, state: &str, listed: &Listed, url: &str, log: &str, rest: &str) -> Output {
        let text = format!(
            "[monitor]\nstate_dir = \"{}\"\n[log]\nkey = \"{}\"\nurls = [\"{url}\"]\n{log}\n{rest}",
            self.states.path().join(state).display(),
            listed.key,
        );
        let config = self.file("monitor.toml", &text);
        self.site
            .trilith()
            .args(["monitor", "--once", "--config"])
            .arg(config)
            .output()
            .expect("it runs")
    }

    /// By which whoever watches the gateway's ledger believes nobody but the server's ledger.
    fn anchor(&self, listed: &Listed) -> String {
        format!(
            "[anchor]\nkey = \"{}\"\nurl = \"{}\"\n",
            self.key,
            self.served(listed)
        )
    }

    fn served(&self, listed: &Listed) -> String {
        format!("http://{}/ledgers/{}", self.http, listed.name)
    }
}

fn whole(reader: &Path, url: &str, key: &str) -> Option<u64> {
    let output = peer(reader, &["fsck", &format!("{url}/"), key]);
    let told = said(&output);
    let entries = told.strip_prefix("whole: ")?.split(' ').next()?.parse();
    entries.ok().filter(|_| output.status.success())
}

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).expect("it is there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).expect("written");
}

#[test]
fn outsiders_watch_what_a_gateway_of_a_real_database_recorded() {
    let site = match Site::new(None) {
        Ok(site) => site,
        Err(why) => return testkit::skip("gateways' ledgers of the demo", &why),
    };
    let store = match S3::start() {
        Ok(store) => store,
        Err(why) => return testkit::skip("trilith::versitygw", &why),
    };
    let reader = match testkit::go_peer("tlog") {
        Ok(program) => program,
        Err(why) => return testkit::skip("trilith::go_log", &why),
    };
    store.bucket(BUCKET, true).expect("a bucket");
    let mut held = Held::start(&site);
    let told = held.told_until("Everything goes on running until Ctrl-C");
    assert!(!told.contains("\n  FAIL "), "{told}");
    let outside = Outside::new(&site);
    let listed = outside.until("a gateway's ledger is listed", || outside.listed());

    // By clients that are not ours, over HTTP: every tile and every record, and the gateway's signature.
    let url = outside.served(&listed);
    let entries = whole(&reader, &url, &listed.key).expect("it is whole");
    assert!(entries >= listed.size);
    // By ours, under the anchors of the server's ledger: who accessed the table.
    let watch = format!("[[watch]]\nname = \"cards\"\nresources = [\"{TABLE}\"]\n");
    let anchored = outside.anchor(&listed) + &watch;
    let output = outside.monitor("records", &listed, &url, "", &anchored);
    let told = said(&output);
    assert_eq!(output.status.code(), Some(4), "{told}");
    assert!(told.contains("MONITOR-UNEXPECTED"), "{told}");
    assert!(told.contains(&format!("resource {TABLE}")), "{told}");
    let again = outside.monitor("records", &listed, &url, "", &anchored);
    assert_eq!(again.status.code(), Some(0), "{}", said(&again));
    // Whoever is expected there is not told.
    let expected =
        format!("{anchored}[[watch.allow]]\nidentities = [\"spiffe://demo.trilith/*\"]\n");
    let output = outside.monitor("expected", &listed, &url, "", &expected);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    // By the key of some other ledger nothing is read.
    let other = Listed {
        key: outside.key.clone(),
        ..outside.listed().expect("listed")
    };
    let output = outside.monitor("other", &other, &url, "", "");
    assert!(
        said(&output).contains("MONITOR-CHECKPOINT"),
        "{}",
        said(&output)
    );

    // The same server, which publishes and makes labels now.
    outside.kill_server();
    let owner = "00".repeat(31) + "07";
    let label = outside.file("owner.key", &owner);
    let credentials = format!("aws_access_key_id = {ID}\naws_secret_access_key = {SECRET}\n");
    let credentials = outside.file("publish.credentials", &credentials);
    let more = format!(
        "[publish]\nendpoint = \"{}\"\nbucket = \"{BUCKET}\"\nprefix = \"{PREFIX}\"\ncredentials = \"{}\"\n\
         interval_ms = 100\nledgers = true\n\
         [[label]]\nowner = \"cards\"\nkey_file = \"{}\"\nresources = [\"{TABLE}\"]\n",
        store.endpoint(),
        credentials.display(),
        label.display()
    );
    let server = outside.start_server(&more);
    let root = store
        .folder(BUCKET)
        .join(format!("{PREFIX}/ledgers/{}", listed.name));
    outside.until("the gateway's ledger is published", || {
        let ledger = outside.status()["publish"]["ledgers"][0].clone();
        assert!(ledger["trouble"].is_null(), "{ledger}");
        (ledger["behind"] == 0).then_some(())
    });
    let bucket = format!(
        "{}/{BUCKET}/{PREFIX}/ledgers/{}",
        store.endpoint(),
        listed.name
    );
    assert!(whole(&reader, &bucket, &listed.key).expect("it is whole") >= entries);

    // The table's owner, who reads no record: from the server, and from the bucket.
    let labels = |key: &Path| {
        let section = format!(
            "[labels]\nname = \"cards\"\nkey_file = \"{}\"\n",
            key.display()
        );
        outside.anchor(&listed) + &section
    };
    let closed = "entries = \"closed\"";
    for (state, url) in [("served", &url), ("published", &bucket)] {
        let output = outside.monitor(state, &listed, url, closed, &labels(&label));
        let told = said(&output);
        assert_eq!(output.status.code(), Some(4), "{state}: {told}");
        assert!(told.contains("MONITOR-LABEL-YOURS"), "{state}: {told}");
    }
    let stranger = outside.file("stranger.key", &"09".repeat(32));
    let output = outside.monitor("stranger", &listed, &bucket, closed, &labels(&stranger));
    let told = said(&output);
    assert!(told.contains("says whether it is yours"), "{told}");
    drop(server);

    // What is done to the bucket has its name.
    let checkpoint = std::fs::read_to_string(root.join("checkpoint")).expect("it is there");
    let size = checkpoint.lines().nth(1).and_then(|size| size.parse().ok());
    let size: u64 = size.expect("a size");
    let width = size % 256;
    assert!(width > 0, "another run has another number of records");
    let index = size / 256;
    let partial = |kind: &str| format!("{kind}/{index:03}.p/{width}");
    let own = format!(
        "[labels]\nname = \"c\"\nkey_file = \"{}\"\n",
        label.display()
    );
    let by_server = format!(
        "[anchor]\nkey = \"{}\"\nurl = \"{url}\"\n{own}",
        outside.key
    );
    for (name, log, rest, code) in [
        ("checkpoint".to_owned(), "", "", "MONITOR-CHECKPOINT"),
        (partial("tile/0"), closed, "", "MONITOR-TILES"),
        (partial("tile/entries"), "", "", "MONITOR-RECORDS"),
    ] {
        let path = root.join(&name);
        let before = std::fs::read(&path).expect("it is there");
        flip(&path);
        let state = format!("flipped {code}");
        let output = outside.monitor(&state, &listed, &bucket, log, rest);
        let told = said(&output);
        assert_eq!(output.status.code(), Some(3), "{name}: {told}");
        assert!(told.contains(code), "{name}: {told}");
        assert!(whole(&reader, &bucket, &listed.key).is_none(), "{name}");
        std::fs::write(&path, before).expect("put back");
    }
    // The bucket alone ties it to the server's ledger, also while there is no server.
    let by_bucket = format!("[anchor]\nkey = \"{}\"\n{own}", outside.key);
    let output = outside.monitor("bucket", &listed, &bucket, closed, &by_bucket);
    let told = said(&output);
    assert_eq!(output.status.code(), Some(4), "{told}");
    assert!(told.contains("MONITOR-LABEL-YOURS"), "{told}");
    let anchor = root.join("anchor");
    let before = std::fs::read(&anchor).expect("it is there");
    flip(&anchor);
    let output = outside.monitor("flipped anchor", &listed, &bucket, closed, &by_bucket);
    let told = said(&output);
    assert_eq!(output.status.code(), Some(3), "{told}");
    assert!(told.contains("MONITOR-ANCHOR"), "{told}");
    std::fs::remove_file(&anchor).expect("removed");
    let output = outside.monitor("no anchor", &listed, &bucket, closed, &by_bucket);
    let told = said(&output);
    assert!(told.contains("MONITOR-UNREACHABLE"), "{told}");
    // By its server's word about another history nothing is taken either: that of the key of another ledger.
    std::fs::write(&anchor, &before).expect("put back");
    let other = format!("[anchor]\nkey = \"{}\"\n{own}", listed.key);
    let output = outside.monitor("other anchor", &listed, &bucket, closed, &other);
    let told = said(&output);
    assert_eq!(output.status.code(), Some(3), "{told}");
    // Without the server there is no anchor of the server's, and nothing is believed.
    let output = outside.monitor("alone", &listed, &bucket, closed, &by_server);
    assert!(
        said(&output).contains("MONITOR-UNREACHABLE"),
        "{}",
        said(&output)
    );
    // Another log's checkpoint in its place: the server overwrites nothing, and says of which ledger.
    let own = store.folder(BUCKET).join(format!("{PREFIX}/checkpoint"));
    std::fs::copy(own, root.join("checkpoint")).expect("copied");
    flip(&root.join(partial("labels")));
    let server = outside.start_server(&more);
    let trouble = outside.until("the ledger is refused", || {
        let ledger = outside.status()["publish"]["ledgers"][0].clone();
        ledger["trouble"]["code"].as_str().map(str::to_owned)
    });
    assert_eq!(trouble, "PUBLISH-FOREIGN");
    let (_, metrics) = outside.get("/metrics").expect("an answer");
    let counted = "trilith_server_publish_ledger_failures_total{ledger=\"demo.trilith/";
    let line = metrics.lines().find(|line| line.starts_with(counted));
    assert!(
        line.is_some_and(|line| line.contains("code=\"PUBLISH-FOREIGN\"")),
        "{metrics}"
    );
    std::fs::write(root.join("checkpoint"), &checkpoint).expect("put back");
    // Changed labels are nobody's word.
    let output = outside.monitor("labels", &listed, &bucket, closed, &by_server);
    let told = said(&output);
    assert!(told.contains("MONITOR-LABEL-SIGNATURE"), "{told}");
    drop(server);
    let _status = held.interrupt();
}
