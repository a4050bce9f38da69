//! The tiles on disk, checked by a Python script that shares no code with them.

use crate::support::{draft, key, open, signer};
use ledger::tile::{Kind, LEVELS, TilePath};
use std::path::Path;
use std::process::{Command, Output};

fn run(dir: &Path, key: &str) -> Option<Output> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/check_tiles.py");
    Command::new("python3")
        .arg(script)
        .arg(dir)
        .arg(key)
        .output()
        .ok()
}

#[test]
fn python_finds_the_checkpoints_root_in_the_tiles() {
    let dir = tempfile::tempdir().unwrap();
    let signer = signer();
    let ledger = open(dir.path(), &signer).unwrap();
    for round in 0..3 {
        let drafts = (0..300).map(|n| draft(&format!("{round}/{n}"))).collect();
        ledger.append_many(drafts).wait().unwrap();
    }
    // Full tiles are files; partial ones and bundles are served, and put beside them here.
    let size = ledger.reader().size();
    let kinds = (0..LEVELS).map(Kind::Hashes).chain([Kind::Entries]);
    for path in kinds.flat_map(|kind| TilePath::all(kind, size)) {
        let content = ledger.reader().tile(&path).unwrap().unwrap();
        let file = dir.path().join(path.to_string());
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, content).unwrap();
    }
    ledger.close().unwrap();

    let key = key(&signer).to_string();
    let Some(output) = run(dir.path(), &key) else {
        testkit::skip("ledger-store::python_tiles", "there is no python3");
        return;
    };
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{printed}{complained}");
    assert!(
        printed.starts_with("900 records under the root"),
        "{printed}"
    );

    for (file, named) in [
        ("tile/0/001", "record 256"),
        ("tile/entries/002", "record 512"),
        ("tile/1/000.p/3", "tile/1/000.p/3"),
        ("tile/0/003.p/132", "record 768"),
        ("checkpoint", "root"),
    ] {
        let path = dir.path().join(file);
        let honest = std::fs::read(&path).unwrap();
        let mut changed = honest.clone();
        let at = if file == "checkpoint" {
            changed.iter().position(|b| *b == b'\n').unwrap() + 6
        } else {
            5
        };
        changed[at] ^= 1;
        std::fs::write(&path, changed).unwrap();
        let output = run(dir.path(), &key).unwrap();
        let complained = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{file}");
        assert!(complained.contains(named), "{file}: {complained}");
        std::fs::write(&path, honest).unwrap();
    }
}
