//! The mirror over real sockets: bodies that come in pieces, packed, broken off and held back, and what readers get.

use crate::mirroring::{SIZE, entries, log};
use crate::support::{Log, ORIGIN, hash};
use ledger::mirror::{Answer, INFO_TYPE, Info, Package, Upload};
use ledger::tile::TilePath;
use ledger::tile::check::check;
use ledger::{Checkpoint, CosignerKey, Note, NoteSignature};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use witness::{Config, RunError, run};

const PATIENCE: Duration = Duration::from_secs(60);
const MIRROR: &str = "[mirror]\nname = \"mirror.example/1\"\nmin_free_mib = 0\n";

struct Running {
    folder: tempfile::TempDir,
    address: SocketAddr,
    own: SocketAddr,
    stop: CancellationToken,
    thread: Option<std::thread::JoinHandle<Result<(), RunError>>>,
}

struct Answered {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answered {
    fn answer(&self) -> Answer {
        let kind = self
            .head
            .contains(&format!("content-type: {INFO_TYPE}\r\n"));
        Answer::parse(self.status, kind.then_some(INFO_TYPE), &self.body).unwrap()
    }

    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

fn begin(
    folder: &Path,
    log: &Log,
    [address, own]: [SocketAddr; 2],
    more: &str,
    stop: CancellationToken,
) -> std::thread::JoinHandle<Result<(), RunError>> {
    let text = format!(
        "[witness]\nname = \"witness.example/1\"\ndata_dir = \"{}\"\nlisten = \"{address}\"\n\
         http_listen = \"{own}\"\n[[log]]\nkey = \"{}\"\n{more}",
        folder.join("witness").display(),
        log.key(),
    );
    let config = Config::parse(&text).unwrap();
    std::thread::spawn(move || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap()
            .block_on(run(config, stop))
    })
}

impl Running {
    fn new(log: &Log, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [address, own] = [0, 1].map(|_| testkit::port::free().unwrap());
        let stop = CancellationToken::new();
        let thread = begin(folder.path(), log, [address, own], more, stop.clone());
        let running = Self {
            folder,
            address,
            own,
            stop,
            thread: Some(thread),
        };
        running.wait();
        running
    }

    fn wait(&self) {
        testkit::until(
            || TcpStream::connect(self.address).is_ok(),
            || "it does not listen".to_owned(),
        );
    }

    fn again(&mut self, log: &Log, more: &str) {
        self.stop.cancel();
        self.thread.take().unwrap().join().unwrap().unwrap();
        self.stop = CancellationToken::new();
        self.thread = Some(begin(
            self.folder.path(),
            log,
            [self.address, self.own],
            more,
            self.stop.clone(),
        ));
        self.wait();
    }

    fn exchange(&self, head: &str, body: &[u8]) -> Answered {
        Self::exchange_at(self.address, head, body)
    }

    fn exchange_at(address: SocketAddr, head: &str, body: &[u8]) -> Answered {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        // It may answer before it has read everything.
        let _sent = stream.write_all(body);
        answered(&mut stream)
    }

    fn post(&self, path: &str, more: &str, body: &[u8]) -> Answered {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{more}content-length: {}\r\n\r\n",
            body.len()
        );
        self.exchange(&head, body)
    }

    fn add(&self, body: &[u8]) -> Answered {
        self.post(
            "/add-entries",
            "content-type: application/octet-stream\r\n",
            body,
        )
    }

    fn get(&self, path: &str) -> Answered {
        self.exchange(
            &format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"),
            b"",
        )
    }

    /// What it counts, as its operator sees it.
    fn metrics(&self) -> String {
        let head = "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        Self::exchange_at(self.own, head, b"").text()
    }

    fn keys(&self) -> Vec<CosignerKey> {
        let text = std::fs::read_to_string(self.folder.path().join("witness/mirror-verifier-keys"));
        text.unwrap()
            .lines()
            .map(|key| key.parse().unwrap())
            .collect()
    }

    /// Size of what is served, all of it checked.
    fn whole(&self, log: &Log) -> u64 {
        let prefix = format!("/mirror/{}", hash());
        let served = self.get(&format!("{prefix}/checkpoint"));
        if served.status == 404 {
            return 0;
        }
        assert!(
            served
                .head
                .contains("content-type: text/plain; charset=utf-8")
        );
        assert!(served.head.contains("cache-control: no-store"));
        let note = served.text();
        for key in self.keys() {
            assert!(key.verify(&Note::parse(&note).unwrap()).unwrap().is_some());
        }
        let checkpoint = Checkpoint::open(&note, &log.key()).unwrap();
        let fetch = |path: &TilePath| {
            let tile = self.get(&format!("{prefix}/{path}"));
            assert!(
                tile.status == 404 || tile.head.contains("immutable"),
                "{}",
                tile.head
            );
            (tile.status == 200).then_some(tile.body)
        };
        check(&checkpoint, true, fetch).unwrap();
        checkpoint.size
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn answered(stream: &mut TcpStream) -> Answered {
    let mut all = Vec::new();
    // What came counts, however it ended.
    let _ended = stream.read_to_end(&mut all);
    let end = all.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&all)));
    let head = String::from_utf8_lossy(&all[..end + 2]).to_lowercase();
    Answered {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head,
        body: all[end + 4..].to_vec(),
    }
}

fn request(log: &Log, what: &str, start: u64, end: u64) -> Vec<u8> {
    let upload = Upload::new(&log.origin, start, end, Vec::new()).unwrap();
    let packages = upload.spans().map(|span| {
        let entries = entries(what, span.start, span.end);
        let Ok(package) = Package::build(span, &entries, end, log);
        package.unwrap().bytes()
    });
    [vec![upload.bytes()], packages.collect()].concat().concat()
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut child = std::process::Command::new("gzip")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let body = body.to_vec();
    let writing = std::thread::spawn(move || stdin.write_all(&body).unwrap());
    let packed = child.wait_with_output().unwrap().stdout;
    writing.join().unwrap();
    packed
}

fn info(size: u64, next: u64, answered: &Answered) -> Info {
    match answered.answer() {
        Answer::Part(info) | Answer::Conflict(info) => {
            assert_eq!((info.size, info.next), (size, next));
            info
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn statuses_and_bodies_are_those_of_the_specification() {
    let log = log();
    let running = Running::new(&log, MIRROR);
    let all = request(&log, "record", 0, SIZE);
    assert_eq!(running.add(&all).status, 422);
    let unknown = Upload::new("log.example/unknown", 0, 1, Vec::new()).unwrap();
    assert_eq!(running.add(&unknown.bytes()).status, 404);
    assert_eq!(
        running
            .post("/add-checkpoint", "", log.request(0, SIZE).as_bytes())
            .status,
        200
    );
    assert_eq!(
        running
            .get(&format!("/mirror/{}/checkpoint", hash()))
            .status,
        404
    );

    // Where is it? A body that is all header.
    let conflict = running.add(&request(&log, "record", SIZE, SIZE));
    assert_eq!(conflict.status, 409);
    assert!(
        conflict.head.contains("accept-encoding: gzip"),
        "{}",
        conflict.head
    );
    assert!(!info(SIZE, 0, &conflict).ticket.is_empty());
    // Nothing whole: the head cut, no package, a part of the first.
    let head = Upload::new(ORIGIN, 0, SIZE, Vec::new()).unwrap().bytes();
    for cut in [0, 1, head.len() - 1, head.len(), head.len() + 100] {
        let refused = running.add(&all[..cut]);
        assert_eq!(refused.status, 400, "{cut}");
        assert!(
            refused.text().starts_with("WITNESS-MIRROR-BROKEN"),
            "{}",
            refused.text()
        );
    }
    let mut backwards = head.clone();
    let at = 2 + ORIGIN.len() + 7;
    backwards[at - 4] = 1;
    assert_eq!(running.add(&backwards).status, 400);
    // Of another history.
    let fork = Log::new(ORIGIN, 1, "another", SIZE);
    let refused = running.add(&request(&fork, "another", 0, SIZE));
    assert_eq!(refused.status, 422);
    assert!(
        refused.text().contains("WITNESS-MIRROR-UNPROVED"),
        "{}",
        refused.text()
    );
    for kind in ["content-type: text/plain\r\n", "content-encoding: br\r\n"] {
        assert_eq!(running.post("/add-entries", kind, &all).status, 415);
    }
    assert_eq!(running.get("/add-entries").status, 405);

    // A part: on purpose, then broken off in a package; gzip, where a byte is wrong.
    let part = running.add(&all[..all.len() - 10]);
    assert_eq!(part.status, 202);
    assert_eq!(info(SIZE, 768, &part).size, SIZE);
    let packed = gzip(&request(&log, "record", 768, SIZE));
    let mut damaged = packed.clone();
    let last = damaged.len() - 20;
    damaged[last] ^= 0xff;
    let encoding = "content-encoding: gzip\r\n";
    let refused = running.post("/add-entries", encoding, &damaged);
    assert!(matches!(refused.status, 400 | 422), "{}", refused.status);
    let done = running.post("/add-entries", encoding, &packed);
    assert_eq!(done.status, 200, "{}", done.text());
    let lines = NoteSignature::parse_lines(&done.text()).unwrap();
    let keys = running.keys();
    assert_eq!((lines.len(), keys.len()), (2, 2));
    for key in &keys {
        assert_eq!(key.name(), "mirror.example/1");
        assert_eq!(key.accept(&log.note(SIZE).text, &lines).unwrap().len(), 1);
    }
    assert_eq!(running.whole(&log), SIZE);
    for path in [
        "tile/0/009",
        "tile/9/000",
        "tile/../state",
        "state",
        "tile/entries/003.p/200",
    ] {
        assert_eq!(
            running.get(&format!("/mirror/{}/{path}", hash())).status,
            404,
            "{path}"
        );
    }
    // The witness's keys sign nothing of it, and the other way round.
    let witnessed = running.get(&format!("/{}/checkpoint", hash())).text();
    let witnessed = Note::parse(&witnessed).unwrap();
    for key in &keys {
        assert!(key.verify(&witnessed).unwrap().is_none());
    }
}

/// Two clients hold an upload back, one goes away in the middle; a third is done meanwhile, and a restart forgets
/// nothing.
#[test]
fn an_upload_that_pauses_or_breaks_off_keeps_nobody_waiting_and_is_gone_on_with() {
    let log = log();
    let one_place = format!("{MIRROR}uploads = 1\n");
    let mut running = Running::new(&log, &one_place);
    assert_eq!(
        running
            .post("/add-checkpoint", "", log.request(0, SIZE).as_bytes())
            .status,
        200
    );
    let all = request(&log, "record", 0, SIZE);
    let first = request(&log, "record", 0, 512).len();
    let paused = |length: usize| {
        let mut stream = TcpStream::connect(running.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!(
            "POST /add-entries HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            all.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&all[..length]).unwrap();
        stream
    };
    let mut waiting = paused(first + 200);
    let second = format!("/mirror/{}/tile/0/001", hash());
    testkit::until(
        || running.get(&second).status == 200,
        || format!("{second} does not come"),
    );
    // The newcomer of the same address gets its place, and it hears how far it came.
    assert_eq!(info_of(&running, &log), 512);
    let told = answered(&mut waiting);
    assert_eq!(told.status, 202);
    drop(paused(40));
    running.again(&log, &one_place);
    assert_eq!(info_of(&running, &log), 512);
    let done = running.add(&request(&log, "record", 512, SIZE));
    assert_eq!(done.status, 200, "{}", done.text());
    assert_eq!(running.whole(&log), SIZE);
    // Without the section it is a witness again, and what it kept is not served.
    running.again(&log, "");
    assert_eq!(running.whole(&log), 0);
    assert_eq!(running.add(&all).status, 404);
}

fn info_of(running: &Running, log: &Log) -> u64 {
    match running.add(&request(log, "record", SIZE, SIZE)).answer() {
        Answer::Conflict(info) => info.next,
        other => panic!("{other:?}"),
    }
}

/// Once, one damaged copy kept the witness from starting, and with it every log that it cosigns.
#[test]
fn a_witness_starts_without_the_one_copy_that_is_damaged() {
    let (log, other) = (log(), Log::new("other.example/log", 2, "record", SIZE));
    let more = format!("[[log]]\nkey = \"{}\"\n{MIRROR}", other.key());
    let mut running = Running::new(&log, &more);
    let shows = |running: &Running, log: &Log, old: u64, new: u64| {
        let sent = log.request(old, new);
        running.post("/add-checkpoint", "", sent.as_bytes()).status
    };
    for one in [&log, &other] {
        assert_eq!(shows(&running, one, 0, 300), 200);
        assert_eq!(running.add(&request(one, "record", 0, 300)).status, 200);
    }
    assert_eq!(running.whole(&log), 300);
    let says = |running: &Running, origin: &str, damaged: u8| {
        let line = format!("trilith_witness_mirror_damaged{{origin=\"{origin}\"}} {damaged}\n");
        let told = running.metrics();
        assert!(told.contains(&line), "{told}");
    };
    says(&running, ORIGIN, 0);

    let copies = running.folder.path().join("witness/mirror");
    let copy = copies.join(hash().to_string());
    // Of the right edge, which every start looks at.
    let bundle = copy.join("tile/entries/001");
    let mut bytes = std::fs::read(&bundle).unwrap();
    bytes[5] ^= 1;
    std::fs::write(&bundle, bytes).unwrap();
    running.again(&log, &more);
    // Neither served nor taken, and cosigned as ever.
    for path in ["checkpoint", "tile/0/000", "tile/entries/000"] {
        let answer = running.get(&format!("/mirror/{}/{path}", hash()));
        assert_eq!(answer.status, 503, "{path}");
        assert!(answer.text().contains("WITNESS-MIRROR-DAMAGED"), "{path}");
    }
    assert_eq!(shows(&running, &log, 300, SIZE), 200);
    let refused = running.add(&request(&log, "record", 300, SIZE));
    assert_eq!(refused.status, 503);
    assert!(refused.text().contains("WITNESS-MIRROR-DAMAGED"));
    says(&running, ORIGIN, 1);
    // The other one is what it was.
    says(&running, "other.example/log", 0);
    let theirs = ledger::witness::origin_hash("other.example/log");
    let served = running.get(&format!("/mirror/{theirs}/checkpoint"));
    assert_eq!(served.status, 200);
    assert_eq!(shows(&running, &other, 300, SIZE), 200);
    assert_eq!(
        running.add(&request(&other, "record", 300, SIZE)).status,
        200
    );

    // As the finding says: moved away, its entries are taken anew.
    std::fs::rename(&copy, copies.join("damaged")).unwrap();
    running.again(&log, &more);
    says(&running, ORIGIN, 0);
    assert_eq!(running.add(&request(&log, "record", 0, SIZE)).status, 200);
    assert_eq!(running.whole(&log), SIZE);
}
