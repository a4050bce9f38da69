//! `trilith demo` from its first line to its last, as root and as nobody in particular: every step, every
//! command that it prints, and what is left after Ctrl-C.

use crate::site::Site;
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdout, Command, Stdio};

/// The user `nobody` of every Debian.
const NOBODY: u32 = 65_534;

/// The whole story, by the ids that `--json` gives its steps.
const STEPS: [&str; 45] = [
    "database",
    "server",
    "estate-plan",
    "estate-apply",
    "join",
    "identity-payments-api",
    "identity-reporting-nightly",
    "identity-ai-agent",
    "identity-refused",
    "gateway",
    "allowed-read-cards",
    "allowed-write-order",
    "allowed-read-customers",
    "allowed-read-products",
    "allowed-read-view",
    "allowed-psql",
    "denied-directly",
    "denied-view",
    "denied-cte",
    "denied-function",
    "denied-copy",
    "denied-prepared",
    "allowed-again",
    "why-allowed",
    "why-denied",
    "who-can",
    "what-can",
    "what-did-it-read",
    "estate-refused",
    "estate-refused-another-way-in",
    "queries-go-on",
    "server-restarted",
    "server-found-again",
    "revoked",
    "revoked-stays-out",
    "pack-verified",
    "pack-told",
    "tampered-tile",
    "tampered-entries",
    "tampered-checkpoint",
    "tampered-record",
    "theft-unrecorded",
    "theft-transplanted",
    "theft-forked",
    "done",
];

#[test]
fn every_step_does_what_it_should_and_nothing_is_left() {
    let uid = rustix::process::geteuid().is_root().then_some(NOBODY);
    let site = match Site::new(uid) {
        Ok(site) => site,
        Err(why) => return testkit::skip("trilith demo", &why),
    };
    let ran = site
        .trilith()
        .args(["demo", "--json"])
        .output()
        .expect("it runs");
    let told = String::from_utf8(ran.stdout).expect("UTF-8");
    let steps: Vec<Value> = told
        .lines()
        .map(|line| serde_json::from_str(line).expect("one JSON object a line"))
        .collect();
    let failed: Vec<&Value> = steps.iter().filter(|step| step["ok"] != true).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    let names: Vec<&str> = steps
        .iter()
        .filter_map(|step| step["step"].as_str())
        .collect();
    assert_eq!(names, STEPS);
    assert!(ran.status.success(), "{}", ran.status);
    assert_eq!(site.left_processes(), Vec::<String>::new());
    assert_eq!(site.left_files(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn what_it_cannot_begin_with_is_said_in_json_too() {
    let empty = tempfile::tempdir().unwrap();
    let mut demo = Command::new(env!("CARGO_BIN_EXE_trilith"));
    demo.args(["demo", "--json", "--programs"])
        .arg(empty.path());
    let output = demo.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let first = output.stdout.split(|byte| *byte == b'\n').next().unwrap();
    let first: Value = serde_json::from_slice(first).unwrap();
    let error = first["detail"]["error"].as_str().unwrap();
    assert!(error.contains("cargo xtask demo"), "{first}");
}

#[test]
fn held_it_answers_every_command_it_prints_and_ctrl_c_leaves_nothing() {
    let site = match Site::new(None).and_then(|site| {
        testkit::tools(["curl", "jq", "openssl", "sha256sum"])?;
        Ok(site)
    }) {
        Ok(site) => site,
        Err(why) => return testkit::skip("trilith demo --hold", &why),
    };
    let mut held = Held::start(&site);
    let told = held.told_until("Everything goes on running until Ctrl-C");
    assert!(!told.contains("\n  FAIL "), "{told}");
    let printed = held.told_until("-starttls postgres");
    let (exports, commands): (Vec<&str>, Vec<&str>) = printed
        .lines()
        .filter_map(|line| line.strip_prefix("  "))
        .partition(|line| line.starts_with("export "));
    assert_eq!((exports.len(), commands.len()), (2, 9), "{printed}");
    for command in commands {
        // `s_client` shows the certificate and then fails, rightly: it has no SVID to present.
        let pipes = if command.contains("s_client") {
            "+o"
        } else {
            "-o"
        };
        let ran = Command::new("bash")
            .args([pipes, "pipefail", "-c"])
            .arg(format!("{}\n{command}", exports.join("\n")))
            .output()
            .expect("bash runs");
        let said = format!(
            "{command}\n{}{}",
            String::from_utf8_lossy(&ran.stdout),
            String::from_utf8_lossy(&ran.stderr)
        );
        assert!(ran.status.success() && !ran.stdout.is_empty(), "{said}");
    }

    let status = held.interrupt();
    assert!(status.success(), "{status}");
    assert_eq!(site.left_processes(), Vec::<String>::new());
    assert_eq!(site.left_files(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn interrupted_at_any_moment_it_leaves_nothing() {
    let site = match Site::new(None) {
        Ok(site) => site,
        Err(why) => return testkit::skip("trilith demo interrupted", &why),
    };
    for moment in ["A machine proves itself", "They reach a real database"] {
        let mut held = Held::start(&site);
        held.told_until(moment);
        let status = held.interrupt();
        assert_eq!(status.code(), Some(1), "{moment}");
        assert_eq!(site.left_processes(), Vec::<String>::new(), "{moment}");
        assert_eq!(
            site.left_files(),
            Vec::<std::path::PathBuf>::new(),
            "{moment}"
        );
    }
}

#[test]
fn killed_it_leaves_no_process_and_the_next_one_removes_its_files() {
    let site = match Site::new(None) {
        Ok(site) => site,
        Err(why) => return testkit::skip("trilith demo killed", &why),
    };
    let mut held = Held::start(&site);
    held.told_until("Everything goes on running until Ctrl-C");
    assert!(
        site.left_processes().len() > 8,
        "demo, roles, TPM, programs, database"
    );
    held.demo.kill().expect("a signal");
    held.demo.wait().expect("it ends");
    testkit::until(
        || site.left_processes().is_empty(),
        || format!("{:#?}", site.left_processes()),
    );
    let left = site.left_files();
    assert_eq!(left.len(), 1, "{left:?}");

    let mut next = Held::start(&site);
    next.told_until("A machine proves itself");
    next.interrupt();
    assert_eq!(site.left_files(), Vec::<std::path::PathBuf>::new());
    assert_eq!(site.left_processes(), Vec::<String>::new());
}

/// A demo that runs until it is told to end.
pub(crate) struct Held {
    demo: Child,
    told: BufReader<ChildStdout>,
}

impl Held {
    pub(crate) fn start(site: &Site) -> Self {
        let mut demo = site
            .trilith()
            .args(["demo", "--hold"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let told = BufReader::new(demo.stdout.take().expect("a pipe"));
        Self { demo, told }
    }

    /// Everything up to and with the first line that contains `mark`.
    pub(crate) fn told_until(&mut self, mark: &str) -> String {
        let mut told = String::new();
        loop {
            let before = told.len();
            self.told.read_line(&mut told).expect("UTF-8");
            assert!(told.len() > before, "ended before `{mark}`:\n{told}");
            if told.get(before..).is_some_and(|line| line.contains(mark)) {
                return told;
            }
        }
    }

    /// Ctrl-C, and the end.
    pub(crate) fn interrupt(&mut self) -> std::process::ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.demo);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("a signal");
        let mut rest = String::new();
        self.told.read_to_string(&mut rest).expect("UTF-8");
        self.demo.wait().expect("it ends")
    }
}

impl Drop for Held {
    /// A test that panicked must not leave a demo behind.
    fn drop(&mut self) {
        if matches!(self.demo.try_wait(), Ok(None)) {
            let pid = rustix::process::Pid::from_child(&self.demo);
            let asked = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            assert!(asked.is_ok() && self.demo.wait().is_ok());
        }
    }
}
