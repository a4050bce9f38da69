//! Random conversations, each from a seed, against a real PostgreSQL: messages of both protocols in any
//! order, with errors, denials, pipelines and COPY. Whatever is sent, gateway and server stay in step:
//! what is denied never runs, each outcome has the tag of its own statement, and what the records say
//! lasts is what the table holds.

use crate::client::{Client, bind, execute, message, parse};
use crate::world::{World, skipped};
use ledger::Record;
use ledger::body::{Intent, Outcome};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;

/// Statements, each with the first words of the tags of what it runs or of what runs it by name.
const TEXTS: &[(&str, &[&str])] = &[
    ("SELECT 1", &["SELECT"]),
    ("SELECT id FROM products ORDER BY id LIMIT 3", &["SELECT"]),
    (INSERT, &["INSERT"]),
    (INSERT, &["INSERT"]),
    (
        "INSERT INTO orders (id, note) VALUES (1, 'MARK')",
        &["INSERT"],
    ),
    ("UPDATE orders SET note = note WHERE id = 2", &["UPDATE"]),
    ("BEGIN", &["BEGIN"]),
    ("BEGIN", &["BEGIN"]),
    ("COMMIT", &["COMMIT", "ROLLBACK"]),
    ("COMMIT", &["COMMIT", "ROLLBACK"]),
    ("ROLLBACK", &["ROLLBACK"]),
    ("SAVEPOINT s", &["SAVEPOINT"]),
    (ROLLBACK_TO, &["ROLLBACK"]),
    (
        "DECLARE a CURSOR FOR SELECT id FROM products",
        &["DECLARE", "FETCH", "SELECT"],
    ),
    (
        "DECLARE b CURSOR WITH HOLD FOR SELECT number FROM cards",
        &["DECLARE", "FETCH", "SELECT"],
    ),
    ("FETCH 1 FROM a", &["FETCH"]),
    ("CLOSE a", &["CLOSE"]),
    (
        "PREPARE b AS INSERT INTO orders (note) VALUES ('MARK')",
        &["PREPARE", "INSERT"],
    ),
    (
        "PREPARE a AS SELECT name FROM products LIMIT 2",
        &["PREPARE", "SELECT"],
    ),
    ("EXECUTE b", &["EXECUTE"]),
    ("EXECUTE b", &["EXECUTE"]),
    ("EXECUTE a", &["EXECUTE"]),
    ("DEALLOCATE b", &["DEALLOCATE"]),
    ("DEALLOCATE ALL", &["DEALLOCATE"]),
    ("DISCARD ALL", &["DISCARD"]),
    ("", &[]),
    ("SELECT 1/0", &["SELECT"]),
    ("SELEC", &[]),
    ("SET timezone TO 'utc'", &["SET"]),
    ("SHOW server_version", &["SHOW"]),
    ("SELECT 1; SELECT 2", &["SELECT"]),
    (
        "INSERT INTO orders (note) VALUES ('MARK'); SELECT 1/0",
        &["INSERT", "SELECT"],
    ),
    (
        "BEGIN; SELECT 1/0; COMMIT",
        &["BEGIN", "SELECT", "COMMIT", "ROLLBACK"],
    ),
    ("COPY products TO STDOUT", &["COPY"]),
    (COPY, &["COPY"]),
    (COPY, &["COPY"]),
    // Denied, though the database would not.
    ("SELECT secret FROM hidden", &[]),
    ("WITH x AS (SELECT secret FROM hidden) SELECT * FROM x", &[]),
    ("INSERT INTO hidden VALUES ('ran')", &[]),
    ("SELECT 1; DELETE FROM hidden", &[]),
    ("PREPARE a AS DELETE FROM hidden", &[]),
];
const INSERT: &str = "INSERT INTO orders (note) VALUES ('MARK')";
const COPY: &str = "COPY orders (note) FROM STDIN";
const ROLLBACK_TO: &str = "ROLLBACK TO s";
const NAMES: [&str; 3] = ["", "a", "b"];
const SYNC: [u8; 5] = [b'S', 0, 0, 0, 4];
/// A client may be ended for this.
const MISUSE: &str = "sends something else than data in a COPY";

/// xorshift64*
struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let value = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(value).unwrap() % most
    }

    fn text(&mut self, mark: &str) -> String {
        TEXTS[self.below(TEXTS.len())].0.replace("MARK", mark)
    }

    /// One message and what it is called in a report.
    fn message(&mut self, mark: &str) -> (String, Vec<u8>) {
        let (name, portal) = (NAMES[self.below(3)], NAMES[self.below(3)]);
        match self.below(16) {
            0..4 => {
                let text = self.text(mark);
                (format!("Q {text}"), query(&text))
            }
            4..6 => {
                let text = self.text(mark);
                (format!("P{name} {text}"), parse(name, &text))
            }
            6..8 => (format!("B{portal}/{name}"), bind(portal, name)),
            8..10 => {
                let rows = u32::try_from(self.below(2)).unwrap();
                (format!("E{portal} {rows}"), execute(portal, rows))
            }
            10 => (format!("DP{portal}"), named(b'D', 'P', portal)),
            11 => (format!("DS{name}"), named(b'D', 'S', name)),
            12 => match self.below(4) {
                0 => (format!("CP{portal}"), named(b'C', 'P', portal)),
                1 => (format!("CS{name}"), named(b'C', 'S', name)),
                2 => ("H".to_owned(), message(b'H', b"")),
                _ => (
                    "F".to_owned(),
                    message(b'F', &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0]),
                ),
            },
            13 => match self.below(5) {
                0 => ("d bad".to_owned(), message(b'd', b"too\tmany\n")),
                1 => ("c".to_owned(), message(b'c', b"")),
                2 => ("f".to_owned(), message(b'f', b"no\0")),
                _ => (
                    "d".to_owned(),
                    message(b'd', format!("{mark}\n").as_bytes()),
                ),
            },
            _ => ("S".to_owned(), SYNC.to_vec()),
        }
    }

    fn conversation(&mut self, mark: &str) -> Vec<(String, Vec<u8>)> {
        let length = 2 + self.below(12);
        let mut messages: Vec<_> = (0..length).map(|_| self.message(mark)).collect();
        if self.below(3) == 0 {
            // A whole COPY, so that not all of them fail.
            let run = [parse("", COPY), bind("", ""), execute("", 0)].concat();
            messages.push(("COPY".to_owned(), run));
            let line = format!("{mark}\n").repeat(self.below(3));
            messages.push(("d".to_owned(), message(b'd', line.as_bytes())));
            messages.push(("c".to_owned(), message(b'c', b"")));
        }
        messages.push(("S".to_owned(), SYNC.to_vec()));
        messages
    }
}

fn query(text: &str) -> Vec<u8> {
    message(b'Q', format!("{text}\0").as_bytes())
}

fn named(tag: u8, kind: char, name: &str) -> Vec<u8> {
    message(tag, format!("{kind}{name}\0").as_bytes())
}

/// Reads until the last query of a conversation is answered. False when the session was ended, as it
/// may be for one reason only.
async fn answered(client: &mut Client, seed: u64, sent: &[(String, Vec<u8>)]) -> bool {
    let (mut said, mut last) = (String::new(), false);
    let sent: Vec<&str> = sent.iter().map(|(what, _)| what.as_str()).collect();
    loop {
        let received = tokio::time::timeout(Duration::from_secs(60), client.receive());
        let Ok(received) = received.await else {
            panic!("seed {seed}: no answer to {sent:?}");
        };
        let Ok((tag, body)) = received else {
            assert!(said.contains(MISUSE), "seed {seed}: {said} after {sent:?}");
            return false;
        };
        match tag {
            b'E' => {
                let (sqlstate, message) = crate::client::error(&body);
                // The database was not asked.
                let denied = sqlstate == "42501";
                let by_us = message.contains("by trilith");
                assert!(!denied || by_us, "seed {seed}: {message} after {sent:?}");
                said = message;
            }
            b'D' | b'd' => {
                let row = String::from_utf8_lossy(&body);
                assert!(!row.contains("top-secret"), "seed {seed}: {sent:?}");
                last |= row.contains("424242");
            }
            b'Z' if last => return true,
            _ => {}
        }
    }
}

/// What records say of how many rows a session left: at least and at most.
#[derive(Default)]
struct Left {
    lasts: (u64, u64),
    open: (u64, u64),
}

impl Left {
    fn take(&mut self, text: &str, outcome: &Outcome) {
        let rows = outcome.rows.map_or(0, |rows| rows.0);
        let tag = outcome.tag.as_deref().unwrap_or_default();
        let add = |to: &mut (u64, u64), least: u64, most: u64| {
            to.0 += least;
            to.1 += most;
        };
        match (outcome.result.as_str(), tag, outcome.transaction.as_deref()) {
            ("ok", "COMMIT", _) => {
                let (least, most) = std::mem::take(&mut self.open);
                add(&mut self.lasts, least, most);
            }
            // What was written before the savepoint stays.
            ("ok", "ROLLBACK", _) if text == ROLLBACK_TO => self.open.0 = 0,
            ("ok", "ROLLBACK", _) => self.open = (0, 0),
            ("ok", "INSERT" | "COPY", Some("I")) => add(&mut self.lasts, rows, rows),
            ("ok", "INSERT" | "COPY", Some("T")) => add(&mut self.open, rows, rows),
            ("ok", "INSERT" | "COPY", Some("E")) => add(&mut self.open, 0, rows),
            ("unknown" | "cut", _, _) => self.lasts.1 += 1_000,
            _ => {}
        }
    }
}

/// Texts by their fingerprints, as intents name them.
fn fingerprints() -> HashMap<String, (&'static str, &'static [&'static str])> {
    let mut texts = HashMap::new();
    for (text, tags) in TEXTS {
        let options = pg_query::FingerprintOptions::default();
        if let Ok(fingerprint) = pg_query::fingerprint(text, 0, options) {
            texts.insert(fingerprint.hex, (*text, *tags));
        }
    }
    texts
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_sent_what_is_denied_never_runs_and_records_say_what_did() {
    if skipped("whatever_is_sent_what_is_denied_never_runs_and_records_say_what_did") {
        return;
    }
    let world = World::start().await;
    let hidden = "CREATE TABLE hidden (secret text); INSERT INTO hidden VALUES ('top-secret'); GRANT ALL ON hidden TO PUBLIC";
    world.postgres.execute("shop", hidden).unwrap();
    let payments = world.plane.issue("payments/api");
    let (mut conversations, mut ended) = (0, 0);
    for seed in 1..=SEEDS {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let mark = format!("mark-{seed}");
        let mut client = Client::connect(&world, &payments).await;
        for _ in 0..12 {
            let sent = random.conversation(&mark);
            let mut bytes: Vec<u8> = sent.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
            // Whatever state the transaction is in.
            bytes.extend(query("ROLLBACK TO none"));
            if random.below(2) == 0 {
                bytes.extend(query("COMMIT"));
            } else {
                bytes.extend(query("ROLLBACK"));
            }
            bytes.extend(query("SELECT 424242"));
            // In pieces, so that what is answered meanwhile differs.
            for piece in bytes.chunks(1 + random.below(400)) {
                // What ended the session, if it did, is read below.
                if client.stream.write_all(piece).await.is_err() {
                    break;
                }
            }
            let _gone = client.stream.flush().await;
            conversations += 1;
            if !answered(&mut client, seed, &sent).await {
                ended += 1;
                break;
            }
        }
    }
    for _ in 0..2_400 {
        let ends = world.records("\"type\":\"session-end\"").len();
        if u64::try_from(ends).unwrap() == SEEDS {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    world.core.recorder().flush().await.unwrap();
    assert!(conversations > ended * 2, "{conversations} {ended}");

    let kept = "SELECT string_agg(secret, ',') FROM hidden";
    assert_eq!(world.postgres.execute("shop", kept).unwrap(), "top-secret");
    let known = fingerprints();
    let mut intents: BTreeMap<u64, Intent> = BTreeMap::new();
    let mut outcomes: BTreeMap<u64, u64> = BTreeMap::new();
    let mut sessions: Vec<String> = Vec::new();
    let mut left: HashMap<String, Left> = HashMap::new();
    for text in world.records("") {
        let record = Record::parse(text.as_bytes()).unwrap();
        if let Ok(intent) = record.expect_body::<Intent>() {
            if !sessions.contains(&intent.session) {
                sessions.push(intent.session.clone());
            }
            intents.insert(record.seq(), intent);
            continue;
        }
        let Ok(outcome) = record.expect_body::<Outcome>() else {
            continue;
        };
        if outcome.transaction.as_deref() == Some("pending") {
            continue;
        }
        *outcomes.entry(outcome.intent.0).or_default() += 1;
        let intent = &intents[&outcome.intent.0];
        let statement = intent.statement.split('.').next().unwrap();
        let (text, tags) = known.get(statement).copied().unwrap_or_default();
        if outcome.result == "ok" && !text.is_empty() {
            let tag = outcome.tag.as_deref().unwrap_or_default();
            // Of what is empty or suspended there is none.
            assert!(tag.is_empty() || tags.contains(&tag), "{text}: {tag}");
        }
        left.entry(intent.session.clone())
            .or_default()
            .take(text, &outcome);
    }
    assert!(outcomes.len() > 500, "{}", outcomes.len());
    for (intent, what) in &intents {
        assert_eq!(outcomes.get(intent), Some(&1), "{what:?}");
    }
    let mut certain = 0;
    for (seed, session) in (1..).zip(&sessions) {
        let count = format!("SELECT count(*) FROM orders WHERE note = 'mark-{seed}'");
        let count = world.postgres.execute("shop", &count).unwrap();
        let count: u64 = count.parse().unwrap();
        let (least, most) = left[session].lasts;
        assert!(
            (least..=most).contains(&count),
            "seed {seed}: {count} rows, and records say {least} to {most}"
        );
        certain += u64::from(least == most && least > 0);
    }
    assert!(certain > 3, "{certain}");
    world.stop().await;
}

/// Conversations of one session each.
const SEEDS: u64 = 40;
