//! A process that appends is killed at any moment, again and again; what it was told is durable is
//! there, under a checkpoint that verifies.

use crate::support::{ORIGIN, check_whole, draft, options, text_of};
use crypto::{Algorithm, KeyPair, Signer};
use ledger::LedgerKey;
use ledger_store::{Ledger, Options};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

const DIR: &str = "TRILITH_KILL_DIR";
const ROUNDS: usize = 12;

fn load(dir: &Path) -> Arc<dyn Signer> {
    let path = dir.join("key");
    let pkcs8 = std::fs::read(&path).unwrap_or_else(|_| {
        let made = KeyPair::generate(Algorithm::Ed25519).unwrap();
        let pkcs8 = made.to_pkcs8().unwrap().to_vec();
        std::fs::write(&path, &pkcs8).unwrap();
        pkcs8
    });
    Arc::new(KeyPair::from_pkcs8(&pkcs8).unwrap())
}

fn open(dir: &Path) -> Ledger {
    let options = Options {
        segment_bytes: 200_000,
        ..options()
    };
    Ledger::open(&dir.join("ledger"), load(dir), ORIGIN, &options).unwrap()
}

/// Not a test of its own: what the killed process runs.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(DIR) else {
        return;
    };
    let ledger = open(Path::new(&dir));
    let run = std::process::id();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let handle = ledger.handle();
            scope.spawn(move || {
                for n in 0_u64.. {
                    let text = format!("{run}.{writer}.{n}");
                    let committed = handle.append(draft(&text)).wait().unwrap();
                    let line = format!("acked {} {text}\n", committed.index());
                    std::io::stderr().write_all(line.as_bytes()).unwrap();
                }
            });
        }
    });
}

#[test]
fn what_was_acknowledged_survives_sigkill() {
    let dir = tempfile::tempdir().unwrap();
    load(dir.path());
    let mut acked = BTreeMap::new();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["kill::child", "--exact", "--nocapture", "--test-threads=1"])
            .env(DIR, dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Killed after so many acknowledgements, in the middle of the next ones.
        let until = 1 + (round * 397) % 500;
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut seen = 0;
        for line in lines.map_while(Result::ok) {
            let mut words = line.split(' ');
            let (Some("acked"), Some(index), Some(text)) =
                (words.next(), words.next(), words.next())
            else {
                continue;
            };
            let Ok(index) = index.parse::<u64>() else {
                continue;
            };
            acked.insert(index, text.to_owned());
            seen += 1;
            if seen == until {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(seen >= until, "the child stopped by itself after {seen}");

        let ledger = open(dir.path());
        let signer = load(dir.path());
        let key = LedgerKey::new(ORIGIN, signer.public_key().clone()).unwrap();
        for (index, text) in &acked {
            assert_eq!(&text_of(ledger.reader(), *index), text);
        }
        if round + 1 == ROUNDS {
            check_whole(ledger.reader(), &key);
        }
    }
    assert!(acked.len() > ROUNDS);
}
