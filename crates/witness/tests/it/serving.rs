//! `witness::run` over real sockets: statuses, headers, caps, deadlines and limits as strangers meet them.

use crate::support::{Log, ORIGIN, hash};
use facts::Finding;
use ledger::witness::AddCheckpoint;
use ledger::{CosignerKey, LogKey, Note, NoteSignature};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};
use testkit::http::{besiege, raw};
use tokio_util::sync::CancellationToken;
use witness::{Config, RunError, run};

/// Only a hung witness needs so long.
const PATIENCE: Duration = Duration::from_secs(60);

fn free() -> SocketAddr {
    testkit::port::free().unwrap()
}

struct Running {
    folder: tempfile::TempDir,
    address: SocketAddr,
    own: SocketAddr,
    stop: CancellationToken,
    thread: Option<std::thread::JoinHandle<Result<(), RunError>>>,
}

fn config(folder: &Path, log: &Log, address: SocketAddr, own: SocketAddr, more: &str) -> Config {
    let text = format!(
        "[witness]\nname = \"witness.example/1\"\ndata_dir = \"{}\"\nlisten = \"{address}\"\n\
         http_listen = \"{own}\"\n[[log]]\nkey = \"{}\"\n{more}",
        folder.join("witness").display(),
        log.key(),
    );
    Config::parse(&text).unwrap()
}

fn begin(config: Config, stop: CancellationToken) -> std::thread::JoinHandle<Result<(), RunError>> {
    std::thread::spawn(move || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap()
            .block_on(run(config, stop))
    })
}

/// Why it does not start. One that does is ended, which the caller does not expect.
fn refused(config: Config) -> Finding {
    let stop = CancellationToken::new();
    let (thread, begun) = (begin(config, stop.clone()), Instant::now());
    while !thread.is_finished() && begun.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(20));
    }
    stop.cancel();
    thread.join().unwrap().unwrap_err().finding()
}

impl Running {
    fn new(log: &Log, more: &str) -> Self {
        let (folder, address, own) = (tempfile::tempdir().unwrap(), free(), free());
        let stop = CancellationToken::new();
        let thread = begin(config(folder.path(), log, address, own, more), stop.clone());
        let listens = || TcpStream::connect(address).is_ok() && TcpStream::connect(own).is_ok();
        testkit::until(
            || thread.is_finished() || listens(),
            || "it does not listen".to_owned(),
        );
        assert!(!thread.is_finished(), "it has ended");
        Self {
            folder,
            address,
            own,
            stop,
            thread: Some(thread),
        }
    }

    fn end(&mut self) -> Result<(), RunError> {
        self.stop.cancel();
        self.thread.take().unwrap().join().unwrap()
    }

    fn post(&self, body: &str) -> Answered {
        let request = format!(
            "POST /add-checkpoint HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        Answered::of(&raw(self.address, request.as_bytes()))
    }

    fn get(&self, address: SocketAddr, path: &str) -> Answered {
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        Answered::of(&raw(address, request.as_bytes()))
    }

    fn keys(&self) -> Vec<CosignerKey> {
        let text = std::fs::read_to_string(self.folder.path().join("witness/verifier-keys"));
        text.unwrap()
            .lines()
            .map(|key| key.parse().unwrap())
            .collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[derive(Debug)]
struct Answered {
    status: u16,
    head: String,
    body: String,
}

impl Answered {
    fn of(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").expect(text);
        Self {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head: head.to_lowercase(),
            body: body.to_owned(),
        }
    }
}

#[test]
fn statuses_and_bodies_are_those_of_the_specification() {
    let (log, forked) = (Log::honest(), Log::forked());
    let mut running = Running::new(&log, "");
    let monitored = format!("/{}/checkpoint", hash());
    assert_eq!(running.get(running.address, &monitored).status, 404);
    let cosigned = running.post(&log.request(0, 7));
    assert_eq!(cosigned.status, 200, "{cosigned:?}");
    let lines = NoteSignature::parse_lines(&cosigned.body).unwrap();
    let mut note = log.note(7);
    note.merge(lines).unwrap();
    let keys = running.keys();
    let schemes: Vec<&str> = keys.iter().map(|key| key.scheme().as_str()).collect();
    assert_eq!(schemes, ["ml-dsa-44", "ed25519"]);
    for key in &keys {
        let found = key.verify(&note).unwrap().unwrap();
        assert!(found.time > 1_700_000_000, "{}", found.time);
    }
    let served = running.get(running.address, &monitored);
    assert_eq!((served.status, served.body), (200, note.to_string()));
    assert!(served.head.contains("content-type: text/plain"));

    let conflict = running.post(&log.request(0, 13));
    assert_eq!((conflict.status, conflict.body.as_str()), (409, "7\n"));
    assert!(
        conflict
            .head
            .contains("\r\ncontent-type: text/x.tlog.size\r\n"),
        "{conflict:?}"
    );
    let stranger = Log::new(ORIGIN, 2, "record", 20);
    let unknown = Log::new("log.example/unknown", 1, "record", 20);
    let fork = AddCheckpoint::new(7, vec![], forked.note(7))
        .unwrap()
        .to_string();
    for (request, status, code) in [
        ("old 7\n".to_owned(), 400, "LEDGER-WITNESS-REQUEST"),
        (
            AddCheckpoint::new(9, vec![], log.note(7))
                .unwrap()
                .to_string(),
            400,
            "LEDGER-WITNESS-OLD",
        ),
        (stranger.request(7, 13), 403, "LEDGER-WITNESS-SIGNATURE"),
        (unknown.request(0, 7), 404, "LEDGER-WITNESS-ORIGIN"),
        (forked.request(7, 13), 422, "LEDGER-WITNESS-INCONSISTENT"),
        (fork, 422, "LEDGER-WITNESS-INCONSISTENT"),
    ] {
        let refused = running.post(&request);
        assert_eq!(refused.status, status, "{refused:?}");
        assert!(
            refused.body.starts_with(code) && refused.body.contains("; next: "),
            "{refused:?}"
        );
    }
    for path in [
        "/x/checkpoint",
        "/checkpoint",
        "/",
        &monitored.to_uppercase(),
    ] {
        assert_eq!(running.get(running.address, path).status, 404, "{path}");
    }
    assert_eq!(running.get(running.address, "/add-checkpoint").status, 405);

    // What the operator sees.
    assert_eq!(running.get(running.own, "/healthz").body, "ok\n");
    let metrics = running.get(running.own, "/metrics").body;
    for line in [
        "trilith_witness_cosigned_total{origin=\"log.example/a\"} 1\n",
        "trilith_witness_size{origin=\"log.example/a\"} 7\n",
        "trilith_witness_forks_total{origin=\"log.example/a\"} 1\n",
        "trilith_witness_refused_total{code=\"LEDGER-WITNESS-CONFLICT\"} 1\n",
        "trilith_witness_refused_total{code=\"LEDGER-WITNESS-INCONSISTENT\"} 2\n",
    ] {
        assert!(metrics.contains(line), "{line} of {metrics}");
    }
    // They are not for everybody.
    assert_eq!(running.get(running.address, "/metrics").status, 404);
    running.end().unwrap();
}

#[test]
fn a_witness_goes_on_where_it_was_under_the_same_keys() {
    let log = Log::honest();
    let mut running = Running::new(&log, "");
    assert_eq!(running.post(&log.request(0, 7)).status, 200);
    let keys = running.keys();
    let monitored = format!("/{}/checkpoint", hash());
    let served = running.get(running.address, &monitored).body;
    running.end().unwrap();
    let again = config(
        running.folder.path(),
        &log,
        running.address,
        running.own,
        "",
    );
    running.stop = CancellationToken::new();
    running.thread = Some(begin(again, running.stop.clone()));
    testkit::until(
        || TcpStream::connect(running.address).is_ok(),
        || "it does not listen".to_owned(),
    );
    assert_eq!(running.keys(), keys);
    assert_eq!(running.get(running.address, &monitored).body, served);
    assert_eq!(running.post(&log.request(0, 7)).body, "7\n");
    assert_eq!(running.post(&log.request(7, 13)).status, 200);
    running.end().unwrap();
    // Its state is gone and its keys are there.
    std::fs::remove_dir_all(running.folder.path().join("witness/state")).unwrap();
    let lost = config(
        running.folder.path(),
        &log,
        running.address,
        running.own,
        "",
    );
    assert_eq!(refused(lost).code, "WITNESS-STATE-MISSING");
}

#[test]
fn a_taken_address_and_a_bad_log_are_told_by_name() {
    let (log, folder) = (Log::honest(), tempfile::tempdir().unwrap());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let finding = refused(config(folder.path(), &log, address, free(), ""));
    assert_eq!(finding.code, "WITNESS-LISTEN");
    assert!(finding.message.contains(&address.to_string()), "{finding}");
    let bad = "[[log]]\nkey = \"x+00000000+AAAA\"\n";
    let finding = refused(config(folder.path(), &log, free(), free(), bad));
    assert_eq!(finding.code, "WITNESS-LOG");
    // Others can read its keys.
    std::fs::create_dir_all(folder.path().join("witness/keys")).unwrap();
    let finding = refused(config(folder.path(), &log, free(), free(), ""));
    assert_eq!(finding.code, "WITNESS-KEYS");
    assert!(!folder.path().join("witness/state").exists());
}

#[test]
fn a_client_that_asks_too_often_waits_and_a_log_that_grows_too_fast_too() {
    let log = Log::honest();
    let limits = "[limits]\nclient_per_s = 1\nclient_burst = 4\nlog_per_s = 1\nlog_burst = 1\n";
    let mut running = Running::new(&log, limits);
    assert_eq!(running.post(&log.request(0, 3)).status, 200);
    let busy = running.post(&log.request(3, 4));
    assert_eq!(busy.status, 429, "{busy:?}");
    assert!(busy.body.starts_with("WITNESS-BUSY") && busy.head.contains("retry-after: "));
    let mut statuses = Vec::new();
    for _ in 0..20 {
        statuses.push(running.post("nothing").status);
    }
    assert!(
        statuses.contains(&429) && statuses[0] == 400,
        "{statuses:?}"
    );
    let often = running.post(&log.request(3, 4));
    assert!(often.body.starts_with("WITNESS-TOO-OFTEN"), "{often:?}");
    // Whoever only reads is not kept out.
    let path = format!("/{}/checkpoint", hash());
    assert_eq!(running.get(running.address, &path).status, 200);
    std::thread::sleep(Duration::from_millis(2200));
    assert_eq!(running.post(&log.request(3, 4)).status, 200);
    running.end().unwrap();
}

#[test]
fn large_slow_and_cut_requests_are_turned_away() {
    let log = Log::honest();
    let mut running = Running::new(&log, "");
    let large = "x".repeat(ledger::witness::MAX_REQUEST + 1);
    assert!([413, 400].contains(&running.post(&large).status));
    // As large as one may be, and garbage.
    assert_eq!(running.post(&large[1..]).status, 400);
    let many: String = format!(
        "old 0\n{}",
        format!("{}\n", crypto::base64::encode(&[0; 32])).repeat(64)
    );
    assert_eq!(
        running.post(&format!("{many}\n{}", log.note(3))).status,
        400
    );
    let begun = Instant::now();
    let mut slow = TcpStream::connect(running.address).unwrap();
    slow.set_read_timeout(Some(PATIENCE)).unwrap();
    slow.write_all(
        b"POST /add-checkpoint HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nold 0\n",
    )
    .unwrap();
    // A body without end, and one that is cut: nobody waits for them.
    let mut endless = TcpStream::connect(running.address).unwrap();
    endless
        .write_all(
            b"POST /add-checkpoint HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n",
        )
        .unwrap();
    let mut taken = 0_usize;
    while endless
        .write_all(format!("10000\r\n{}\r\n", "y".repeat(65536)).as_bytes())
        .is_ok()
    {
        taken += 65536;
        assert!(taken < 16 << 20, "{taken} bytes were taken");
    }
    drop(
        TcpStream::connect(running.address)
            .unwrap()
            .write_all(b"POST /add-checkpoint HTTP/1.1\r\ncontent-"),
    );
    let mut said = String::new();
    drop(slow.read_to_string(&mut said));
    assert!(said.starts_with("HTTP/1.1 408"), "{said:?}");
    assert!(begun.elapsed() < PATIENCE);
    assert_eq!(running.post(&log.request(0, 3)).status, 200);
    running.end().unwrap();
}

#[test]
fn one_connection_serves_many_requests() {
    let log = Log::honest();
    let running = Running::new(&log, "");
    let mut stream = TcpStream::connect(running.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    for (old, new) in [(0, 3), (3, 5), (5, 8)] {
        let body = log.request(old, new);
        let head = format!(
            "POST /add-checkpoint HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream
            .write_all(format!("{head}{body}").as_bytes())
            .unwrap();
        let mut said = Vec::new();
        let mut byte = [0; 1];
        while !said.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            said.push(byte[0]);
        }
        let head = String::from_utf8(said).unwrap().to_lowercase();
        assert!(head.starts_with("http/1.1 200"), "{head}");
        let length = head.split_once("content-length: ").unwrap().1;
        let length: usize = length.split_once('\r').unwrap().0.parse().unwrap();
        let mut body = vec![0; length];
        stream.read_exact(&mut body).unwrap();
        let mut note = log.note(new);
        note.merge(NoteSignature::parse_lines(&String::from_utf8(body).unwrap()).unwrap())
            .unwrap();
        assert!(running.keys()[1].verify(&note).unwrap().is_some());
    }
}

#[test]
fn a_log_of_a_cosigners_kind_of_key_is_cosigned() {
    // tlog-checkpoint recommends that logs sign by ML-DSA-44.
    let pair = crypto::KeyPair::generate(crypto::Algorithm::MlDsa44).unwrap();
    let signer = ledger::Cosigner::new("pq.example/log", std::sync::Arc::new(pair)).unwrap();
    let mut log = Log::new("pq.example/log", 9, "record", 20);
    let more = format!("[[log]]\nkey = \"{}\"\n", signer.key());
    assert!(matches!(
        witness::Logs::key(&signer.key().to_string()).unwrap(),
        LogKey::Cosigner(_)
    ));
    let running = Running::new(&Log::honest(), &more);
    let note = Note {
        text: log.at(7).text(),
        signatures: vec![signer.cosign(&log.at(7), 1_795_312_969).unwrap()],
    };
    let request = AddCheckpoint::new(0, vec![], note).unwrap().to_string();
    assert_eq!(running.post(&request).status, 200);
    // Its key of another kind is not trusted.
    log.rekey(9);
    assert_eq!(running.post(&log.request(7, 13)).status, 403);
}

#[test]
fn it_bears_a_siege() {
    let log = Log::honest();
    let mut running = Running::new(&log, "");
    besiege(running.address);
    assert_eq!(running.post(&log.request(0, 3)).status, 200);
    running.end().unwrap();
}
