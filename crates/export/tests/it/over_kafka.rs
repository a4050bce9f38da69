//! To the broker of Apache Kafka itself, read again by its own tools.

use crate::world::{ORIGIN, World};
use export::{Error, Format};
use serde_json::Value;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

const SKIP: &str = "export.kafka";
const TOPIC: &str = "trilith.records";

/// A broker that is its own controller, in a folder of its own.
struct Broker {
    jars: PathBuf,
    folder: tempfile::TempDir,
    port: u16,
    process: Child,
}

/// The broker's jars, fetched once; says why there are none.
fn jars() -> Result<PathBuf, String> {
    static FETCHED: Mutex<()> = Mutex::new(());
    let _one = FETCHED.lock().unwrap_or_else(PoisonError::into_inner);
    let [mvn, _java] = testkit::tools(["mvn", "java"])?;
    let jars = testkit::target_folder().join("peers/kafka");
    let pom = testkit::workspace().join("tests/peers/kafka/pom.xml");
    let marker = jars.join("fetched");
    if marker.exists() {
        return Ok(jars);
    }
    let fetched = Command::new(mvn)
        .args(["-q", "-B", "-f"])
        .arg(pom)
        .arg("dependency:copy-dependencies")
        .arg(format!("-DoutputDirectory={}", jars.display()))
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("mvn: {error}"))?;
    if !fetched.status.success() {
        let said = String::from_utf8_lossy(&fetched.stdout).into_owned();
        let last = said.lines().next().unwrap_or_default().to_owned();
        return Err(format!("Kafka's jars cannot be had: {last}"));
    }
    std::fs::write(marker, "").unwrap();
    Ok(jars)
}

fn free_port() -> u16 {
    testkit::port::free().unwrap().port()
}

/// A class of the jars.
fn java(jars: &Path, class: &str) -> Command {
    let mut command = Command::new("java");
    command
        .args(["-Xmx256m", "-cp"])
        .arg(jars.join("*"))
        .arg(class)
        .stdin(Stdio::null());
    command
}

impl Broker {
    fn start(jars: PathBuf) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (port, controller) = (free_port(), free_port());
        let data = folder.path().join("data");
        let settings = format!(
            "process.roles=broker,controller\nnode.id=1\n\
             controller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port}\ncontroller.listener.names=CONTROLLER\n\
             inter.broker.listener.name=PLAINTEXT\nlog.dirs={}\noffsets.topic.replication.factor=1\n\
             transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n\
             group.initial.rebalance.delay.ms=0\nauto.create.topics.enable=false\n",
            data.display()
        );
        let path = folder.path().join("server.properties");
        std::fs::write(&path, settings).unwrap();
        let formatted = java(&jars, "kafka.tools.StorageTool")
            .args(["format", "-t", "dHJpbGl0aC10ZXN0LWFiYw", "-c"])
            .arg(&path)
            .output()
            .unwrap();
        assert!(formatted.status.success(), "{formatted:?}");
        let process = Self::run(&jars, &path, folder.path());
        let broker = Self {
            jars,
            folder,
            port,
            process,
        };
        broker.wait();
        broker
    }

    fn run(jars: &Path, settings: &Path, folder: &Path) -> Child {
        let log = std::fs::File::create(folder.join("broker.log")).unwrap();
        java(jars, "kafka.Kafka")
            .arg(settings)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap()
    }

    fn wait(&self) {
        testkit::until(
            || std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok(),
            || std::fs::read_to_string(self.folder.path().join("broker.log")).unwrap_or_default(),
        );
    }

    fn restart(&mut self) {
        let settings = self.folder.path().join("server.properties");
        self.process = Self::run(&self.jars, &settings, self.folder.path());
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    fn make_topic(&self, limits: &[&str]) {
        let made = java(&self.jars, "org.apache.kafka.tools.TopicCommand")
            .args(["--create", "--topic", TOPIC, "--partitions", "3"])
            .args(["--bootstrap-server", &self.place()])
            .args(limits.iter().flat_map(|limit| ["--config", limit]))
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
    }

    fn place(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn sink(&self) -> String {
        format!("kafka://{}/{TOPIC}", self.place())
    }

    /// Partition, key and value of everything in the topic, as Kafka's console consumer reads it.
    fn consume(&self, count: u64) -> Vec<(u32, String, Value)> {
        let read = java(
            &self.jars,
            "org.apache.kafka.tools.consumer.ConsoleConsumer",
        )
        .args(["--bootstrap-server", &self.place(), "--topic", TOPIC])
        .args(["--from-beginning", "--timeout-ms", "30000"])
        .args(["--max-messages", &count.to_string()])
        .args(["--property", "print.key=true"])
        .args(["--property", "print.partition=true"])
        .output()
        .unwrap();
        let text = String::from_utf8(read.stdout).unwrap();
        let said = String::from_utf8_lossy(&read.stderr).into_owned();
        assert!(read.status.success(), "{said}");
        text.lines()
            .map(|line| {
                let mut parts = line.splitn(3, '\t');
                let mut part = || parts.next().unwrap_or_else(|| panic!("{line}: {said}"));
                let partition = part().strip_prefix("Partition:").unwrap().parse().unwrap();
                let (key, value) = (part().to_owned(), part());
                (partition, key, serde_json::from_str(value).unwrap())
            })
            .collect()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.process
            .kill()
            .and_then(|()| self.process.wait())
            .unwrap();
    }
}

fn code(error: &Error) -> String {
    error.finding().code.to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafkas_own_consumer_reads_every_record_once_and_in_order_whatever_the_broker_suffered() {
    let jars = match jars() {
        Ok(jars) => jars,
        Err(why) => return testkit::skip(SKIP, &why),
    };
    let mut broker = Broker::start(jars);
    let mut world = World::with(1_200);

    // No topic is made for who mistyped it, and what is refused moves no cursor.
    let refused = world.export(&broker.sink(), Format::CloudEvents).await;
    let refused = refused.unwrap_err();
    assert_eq!(code(&refused), "EXPORT-SINK-REFUSED", "{refused}");

    // A batch larger than the topic takes is halved until it fits.
    broker.make_topic(&["max.message.bytes=100000"]);
    let exported = world
        .export(&broker.sink(), Format::CloudEvents)
        .await
        .unwrap();
    assert_eq!(exported.records, 1_201);
    assert!(exported.retries > 0);

    // Killed, and started again while the export goes on trying.
    broker.kill();
    world.grow(300);
    let sink = broker.sink();
    let restarted = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(700));
        broker.restart();
        broker
    });
    let exported = world.export(&sink, Format::CloudEvents).await.unwrap();
    let broker = restarted.join().unwrap();
    assert_eq!(exported.records, 300);
    assert!(exported.retries > 0);

    let read = broker.consume(world.size());
    assert_eq!(read.len() as u64, world.size());
    let partition = read[0].0;
    for (index, (at, key, value)) in (0_u64..).zip(&read) {
        assert_eq!(*at, partition, "one ledger, one partition");
        assert_eq!(*key, format!("{ORIGIN}:{index}"));
        assert_eq!(value["id"], Value::from(key.as_str()));
        let record: Value = serde_json::from_slice(&world.bytes(index)).unwrap();
        assert_eq!(value["data"], record);
    }
}

#[tokio::test]
async fn a_broker_that_answers_nonsense_is_refused_and_bounded() {
    use std::io::{Read as _, Write as _};
    let world = World::with(3);
    for answer in [
        &[0xff, 0xff, 0xff, 0xff][..],
        &[0, 0, 0, 2, 1, 1],
        &[0, 0, 0, 8, 9, 9, 9, 9, 0, 0, 0, 0],
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = format!("kafka://{}/{TOPIC}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut some = [0; 64];
                let _asked = stream.read(&mut some).unwrap();
                let _gone = stream.write_all(answer);
            }
        });
        let mut options = world.options(Format::CloudEvents);
        options.patience.in_all = Duration::from_millis(200);
        let sink =
            export::Sink::open(&to, Format::CloudEvents, &export::Secrets::default()).unwrap();
        let stop = tokio_util::sync::CancellationToken::new();
        let exported = export::run(&options, export::Cursor::unkept(), sink, &stop).await;
        assert_eq!(code(&exported.unwrap_err()), "EXPORT-SINK");
    }
}

#[test]
fn a_name_that_is_no_broker_of_this_machine_needs_tls() {
    for to in [
        "kafka://192.0.2.1:9092/records",
        "kafka://localhost:9092/records",
        "kafka://127.0.0.1:9092/",
        "kafka://127.0.0.1:9092/a b",
        "kafka:127.0.0.1:9092/records",
        "kafka+tls://broker.example/records",
    ] {
        let opened = export::Sink::open(to, Format::Ocsf, &export::Secrets::default());
        assert_eq!(code(&opened.err().unwrap()), "EXPORT-SINK-NAME", "{to}");
    }
}
