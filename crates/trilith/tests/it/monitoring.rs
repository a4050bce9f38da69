//! `trilith monitor` on a log that nobody here wrote (Tessera, by tests/peers/tlog), under the quorum of our witness:
//! its entries mean nothing here, its history is held to what was seen.

use crate::cosigning::{Log, Witness, text};
use crate::tamper_monitor::serve;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const ORIGIN: &str = "tessera.example/log";

fn monitor(folder: &Path, log: &Log, place: &str, witness: &Witness) -> Output {
    let policy = folder.join("witnesses.policy");
    let keys = witness.keys();
    let names = keys.iter().enumerate();
    let lines: String = names
        .map(|(n, key)| format!("witness w{n} {key}\n"))
        .collect();
    let text = format!("log {}\n{lines}group any any w0 w1\nquorum any\n", log.key);
    std::fs::write(&policy, text).expect("written");
    let text = format!(
        "[monitor]\nstate_dir = \"{}\"\n[log]\nkey = \"{}\"\n{place}\nentries = \"opaque\"\npolicy = \"{}\"\n\
         witnesses = [\"http://{}\"]\n",
        folder.join("state").display(),
        log.key,
        policy.display(),
        witness.address,
    );
    let config = folder.join("monitor.toml");
    std::fs::write(&config, text).expect("written");
    Command::new(env!("CARGO_BIN_EXE_trilith"))
        .args(["monitor", "--once", "--config"])
        .arg(config)
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .expect("it runs")
}

#[test]
fn a_log_of_other_people_is_followed_under_its_quorum_and_its_fork_is_not() {
    let program = match testkit::go_peer("tlog") {
        Ok(program) => program,
        Err(why) => return testkit::skip("trilith::go_log", &why),
    };
    let log = Log::new(program);
    let witness = Witness::new(testkit::temp_dir().expect("a folder"), &log.key);
    let keys = witness.keys();
    let key = keys.last().expect("a key");
    let folder = testkit::temp_dir().expect("a folder");
    let (folder, site) = (folder.path(), log.folder.path().join("log"));
    let urls = format!("urls = [\"{}\"]", serve(site.clone(), ""));
    for (entries, size) in [("3", 3), ("2", 5)] {
        let grown = log.grow("log", Some(&witness), key, entries);
        assert!(grown.status.success(), "{}", text(&grown));
        let output = monitor(folder, &log, &urls, &witness);
        let said = text(&output);
        let expected = format!(
            "{ORIGIN}: {size} records, one history, witnessed by 1, 1 other shows the same\n"
        );
        assert_eq!(
            (output.status.code(), said.contains(&expected)),
            (Some(0), true),
            "{said}"
        );
    }

    // The same log's key, another history: told as that, witnessed or not.
    let alone = log.grow("other", None, key, "9");
    assert!(alone.status.success(), "{}", text(&alone));
    let other = format!("folder = \"{}\"", log.folder.path().join("other").display());
    let output = monitor(folder, &log, &other, &witness);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(5), "{said}");
    assert!(
        said.contains("MONITOR-FORK") && said.contains("the proof is in "),
        "{said}"
    );

    // To somebody who has seen nothing, it is without its quorum; the witness shows that it is another one.
    let fresh = testkit::temp_dir().expect("a folder");
    let output = monitor(fresh.path(), &log, &other, &witness);
    assert_eq!(output.status.code(), Some(5), "{}", text(&output));

    // Its own history, cosigned by nobody.
    let copy = log.grow("log", None, key, "1");
    assert!(copy.status.success(), "{}", text(&copy));
    let place = format!("folder = \"{}\"", site.display());
    let output = monitor(folder, &log, &place, &witness);
    let said = text(&output);
    assert_eq!(
        (output.status.code(), said.contains("MONITOR-QUORUM")),
        (Some(3), true),
        "{said}"
    );
}
