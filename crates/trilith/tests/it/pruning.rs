//! `trilith ledger prune` as its users run it, and as it is killed: with the binary, on the folder of a gateway that is ten
//! days old. What a folder says whose oldest records are gone stands in docs/operate/pruning.md.

use crate::old_ledger::fill;
use crate::own_folder::OwnFolder as Site;
use gateway::retention::Anchored;
use ledger_store::Folder;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const ORIGIN: &str = "example.org/gateway/pg";
static PRUNE: [&str; 9] = [
    "ledger",
    "prune",
    "--folder",
    "gateway",
    "--before",
    "5d",
    "--reason",
    "retention 5 days",
    "--yes",
];

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(copied.expect("cp runs").success());
}

impl Site {
    /// Of 1,203 records, of which the server has anchored 1,100.
    fn new() -> Self {
        let site = Self::empty();
        let dir = site.path("gateway");
        std::fs::create_dir(&dir).expect("a folder");
        fill(&dir, ORIGIN, 300);
        let folder = site.ledger();
        let noted = dir.join("anchored.json");
        Anchored::note(folder.reader(), 1_100, 77, &noted).expect("noted");
        site
    }

    fn ledger(&self) -> Folder {
        Folder::open(&self.path("gateway/ledger")).expect("a ledger")
    }
}

#[test]
fn killed_at_any_moment_it_is_run_again_and_nothing_else_is_gone() {
    let site = Site::new();
    let before = site.ledger();
    let size = before.reader().size();
    let root = before.reader().root(size).expect("a root");
    let plan = PRUNE.split_last().expect("an argument").1;
    let planned = site.good(plan);
    assert!(
        planned.contains("would prune records 1 to 1023"),
        "{planned}"
    );
    copy(&site.path("gateway"), &site.path("kept"));
    // How long a whole one takes, so that kills fall before and after it; into it, by its steps.
    let begun = Instant::now();
    site.good(&PRUNE);
    let took = begun.elapsed();
    let steps = ["ledger/retention", "ledger/segments"];
    let (mut done, mut not, mut cut) = (0, 0, 0);
    for round in 0..18_u32 {
        std::fs::remove_dir_all(site.path("gateway")).expect("removed");
        copy(&site.path("kept"), &site.path("gateway"));
        let mut command = site.command();
        command
            .args(PRUNE)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if let Some(step) = steps.get(round as usize % 3) {
            let step = site.path("gateway").join(step);
            let killed = testkit::killed::at_change(&mut command, &step);
            cut += u32::from(killed.expect("it starts"));
        } else {
            let mut child = command.spawn().expect("it starts");
            let moment = took.mul_f64(f64::from(round) / 12.0);
            std::thread::sleep(moment.min(Duration::from_secs(10)));
            let _ended = child.kill();
            child.wait().expect("it is gone");
        }

        let found = site.good(&[
            "ledger",
            "search",
            "--folder",
            "gateway",
            "--type",
            "retention",
            "--json",
        ]);
        let recorded = found.contains("retention 5 days");
        // As it lies there, what has not gone yet can be read; the next one that opens it takes it away.
        let gone = site.ledger().reader().pruned().is_some();
        assert!(recorded || !gone, "{found}");
        if recorded {
            done += 1;
            site.refused(&PRUNE, 1, "PRUNE-NOTHING");
        } else {
            not += 1;
            site.good(&PRUNE);
        }
        let folder = site.ledger();
        let reader = folder.reader();
        assert_eq!(reader.pruned().expect("pruned").minimum, 1_024);
        assert_eq!(reader.root(size).expect("a root"), root);
        for index in 1_024..size {
            reader.receipt(index).expect("it is there, and proven");
        }
    }
    assert!(
        cut > 0,
        "none was killed in the middle: {done} done, {not} not"
    );
}

#[test]
fn a_pruned_folder_says_what_is_gone_to_each_who_asks() {
    let site = Site::new();
    let pruned = site.good(&PRUNE);
    assert!(pruned.contains("pruned records 1 to 1023"), "{pruned}");
    let key = site.ledger().key().to_string();
    site.refused(
        &["ledger", "completeness", "--folder", "gateway"],
        1,
        "RECORDS-PRUNED",
    );
    let left = site.good(&[
        "ledger", "search", "--folder", "gateway", "--type", "intent",
    ]);
    assert!(left.contains("records 1 to 1023 are gone"), "{left}");
    let folder = display(&site.path("gateway/ledger"));
    let state = display(&site.path("monitor"));
    let config = |more: &str| {
        let text = format!(
            "[monitor]\nstate_dir = \"{state}\"\n[log]\nkey = \"{key}\"\nfolder = \"{folder}\"\n{more}"
        );
        std::fs::write(site.path("monitor.toml"), text).expect("written");
    };
    let once = ["monitor", "--once", "--config", "monitor.toml"];
    config("");
    site.refused(&once, 3, "MONITOR-PRUNED");
    // As it says.
    std::fs::remove_dir_all(site.path("monitor")).expect("removed");
    config("begin = \"now\"\n");
    let said = site.good(&once);
    assert!(said.contains("one history"), "{said}");
}

fn display(path: &Path) -> String {
    path.display().to_string()
}
