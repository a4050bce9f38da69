//! `trilith monitor` with an owner's key, as he has it: the key is made, and a folder of what is public read by it.

use crypto::{Algorithm, KeyPair};
use ledger::label::{self, Epoch, LabelKey, LabelPath, Rows, Said};
use ledger::merkle::leaf_hash;
use ledger::{Checkpoint, Frontier, LedgerSigner, Origin};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

const ORIGIN: &str = "example.org/server";

fn trilith(arguments: &[&str], file: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trilith"))
        .args(arguments)
        .arg(file)
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .expect("it runs")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

fn put(path: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    std::fs::write(path, bytes).expect("written");
}

#[test]
fn an_owner_makes_a_key_and_is_told_what_is_his() {
    let folder = testkit::temp_dir().expect("a folder");
    let file = folder.path().join("label.key");
    let made = trilith(&["monitor", "--label-key"], &file);
    assert_eq!(made.status.code(), Some(0), "{}", text(&made));
    let mode = std::fs::metadata(&file).expect("it is there").permissions();
    assert_eq!(mode.mode() & 0o7777, 0o600);
    let bytes = std::fs::read(&file).expect("read");
    let key = LabelKey::parse(&bytes).expect("a key");
    assert!(!text(&made).contains(String::from_utf8_lossy(&bytes).trim()));
    // It is never overwritten.
    let again = trilith(&["monitor", "--label-key"], &file);
    let said = text(&again);
    assert_eq!(again.status.code(), Some(1), "{said}");
    assert!(said.contains("LABEL-KEY-EXISTS"), "{said}");
    assert_eq!(std::fs::read(&file).expect("read"), bytes);

    // What is public of a ledger of two records: hashes and labels. The second is his.
    let signer = Arc::new(KeyPair::generate(Algorithm::Ed25519).expect("a key"));
    let signer = LedgerSigner::new(ORIGIN, signer).expect("a signer");
    let leaves = [leaf_hash(b"one"), leaf_hash(b"two")];
    let mut tree = Frontier::new();
    leaves.into_iter().for_each(|leaf| tree.push(leaf));
    let checkpoint = Checkpoint {
        origin: Origin::new(ORIGIN).expect("an origin"),
        size: 2,
        root: tree.root(),
    };
    let note = signer.sign(&checkpoint).expect("signed");
    let public = folder.path().join("public");
    put(&public.join("checkpoint"), note.as_bytes());
    put(&public.join("tile/0/000.p/2"), leaves.as_flattened());
    let path: LabelPath = "labels/000.p/2".parse().expect("a path");
    let epoch = Epoch([5; 32]);
    let rows = [Said::NotYours, Said::Yours].into_iter().zip(&leaves);
    let rows = rows.map(|(said, leaf)| label::row(vec![key.label(&epoch, said, leaf)]));
    let bytes = rows.collect::<Vec<_>>().concat();
    let rows = Rows { epoch, bytes };
    let sealed = label::seal(&signer, &path, rows).expect("signed");
    put(&public.join(path.to_string()), &sealed);

    let config = folder.path().join("monitor.toml");
    let base = folder.path().display();
    let lines = format!(
        "[monitor]\nstate_dir = \"{base}/state\"\n[log]\nkey = \"{}\"\nfolder = \"{base}/public\"\nentries = \"closed\"\n\
         [labels]\nname = \"ours\"\nkey_file = \"{base}/label.key\"\n",
        signer.key()
    );
    put(&config, lines.as_bytes());
    let told = trilith(&["monitor", "--once", "--config"], &config);
    let said = text(&told);
    assert_eq!(told.status.code(), Some(4), "{said}");
    assert!(
        said.contains("MONITOR-LABEL-YOURS") && said.contains("record 1 "),
        "{said}"
    );
    assert!(!said.contains("record 0 "), "{said}");
    let quiet = trilith(&["monitor", "--once", "--config"], &config);
    assert_eq!(quiet.status.code(), Some(0), "{}", text(&quiet));
}
