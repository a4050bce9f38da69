//! Against real processes of this machine: what is claimed of a caller is true of it, and of no other.

use super::*;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// A shell (or `program`) that has connected to us, through bash's or python's own socket.
struct Peer {
    child: Child,
    connection: UnixStream,
    _directory: tempfile::TempDir,
}

/// Starts a program that was just written: a child that another test forked meanwhile may hold it open for
/// writing until it has become its own program, and the kernel runs no such file.
fn spawn_once_written(command: &mut Command) -> std::process::Child {
    loop {
        match command.spawn() {
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            spawned => return spawned.unwrap(),
        }
    }
}

impl Peer {
    /// Runs `program` (a copy of python) which connects and then does what it is told by line.
    fn python(program: Option<PathBuf>) -> Option<Self> {
        let python = PathBuf::from("/usr/bin/python3");
        if !python.exists() {
            testkit::skip("device process peers", "no /usr/bin/python3");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let code = "import socket,sys,os\n\
            s=socket.socket(socket.AF_UNIX);s.connect(sys.argv[1]);os.set_inheritable(s.fileno(),True)\n\
            for line in sys.stdin:\n    exec(line)\n    s.send(b'.')\n";
        let mut command = Command::new(program.unwrap_or(python));
        command.args(["-c", code]).arg(&path).stdin(Stdio::piped());
        let child = spawn_once_written(&mut command);
        let (connection, _) = listener.accept().unwrap();
        Some(Self {
            child,
            connection,
            _directory: directory,
        })
    }

    fn caller(&self) -> Caller {
        Caller::of(&self.connection, BootTime::now()).unwrap()
    }

    /// Has the child run a line of Python and waits until it has.
    fn run(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        writeln!(stdin, "{line}").unwrap();
        self.connection.read_exact(&mut [0]).unwrap();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn sha256_of(path: &Path) -> [u8; 32] {
    crypto::sha256(&std::fs::read(path).unwrap())
}

#[test]
fn a_caller_is_named_by_the_kernel() {
    let Some(peer) = Peer::python(None) else {
        return;
    };
    let caller = peer.caller();
    assert_eq!(caller.pid(), i32::try_from(peer.child.id()).unwrap());
    assert_eq!(caller.uid(), rustix::process::getuid().as_raw());
    if peer::pidfd(peer.connection.as_fd()).unwrap().is_some() {
        assert_eq!(caller.identification(), Identification::Pidfd);
    }
    let snapshot = caller.observe(&Digests::new()).unwrap();
    let running = std::fs::canonicalize("/usr/bin/python3").unwrap();
    assert_eq!(snapshot.executable.path.as_deref(), Some(running.as_path()));
    assert_eq!(
        snapshot.executable.digest,
        Digest::Sha256(sha256_of(&running))
    );
    assert_eq!(snapshot.started, caller.started());
}

#[test]
fn a_dead_caller_is_never_described_by_whoever_has_its_pid() {
    let Some(mut peer) = Peer::python(None) else {
        return;
    };
    let mut caller = peer.caller();
    assert!(caller.still_alive());
    peer.child.kill().unwrap();
    peer.child.wait().unwrap();
    assert!(!caller.still_alive());
    assert!(matches!(
        caller.observe(&Digests::new()),
        Err(ObserveError::Gone)
    ));
    // As if the number had been handed out again: it is now that of a living process, this one.
    caller.pid = i32::try_from(std::process::id()).unwrap();
    caller.started = Entry::open(caller.pid).unwrap().started().unwrap();
    assert!(matches!(
        caller.observe(&Digests::new()),
        Err(ObserveError::Gone)
    ));
}

#[test]
fn a_pid_reused_before_pidfd_open_shows_by_its_start_time() {
    let Some(peer) = Peer::python(None) else {
        return;
    };
    let credentials = peer::credentials(peer.connection.as_fd()).unwrap();
    let caller = Caller::from_credentials(credentials, BootTime::now()).unwrap();
    assert_eq!(caller.identification(), Identification::Raceable);
    // The connection was accepted before this process started, so this process did not make it.
    let before = BootTime::from_ticks(caller.started() - 1);
    assert!(matches!(
        Caller::from_credentials(credentials, before),
        Err(IdentifyError::StartedLater { .. })
    ));
}

/// Set within a PID namespace of this test's own.
const INSIDE: &str = "TRILITH_TEST_INSIDE_PID_NAMESPACE";

/// Another process of the same kind, to which the kernel has given the number `pid`.
fn successor(pid: i32) -> Peer {
    for _ in 0..50 {
        // The next process gets the next number that is free.
        std::fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).unwrap();
        let peer = Peer::python(None).unwrap();
        if i32::try_from(peer.child.id()).unwrap() == pid {
            return peer;
        }
    }
    panic!("pid {pid} is not given out again");
}

/// The number of a caller is really given to another process of the same user: before it is identified,
/// and between that and attestation. In a PID namespace of its own, where the next number can be chosen.
#[test]
fn a_pid_that_is_given_out_again_is_not_the_caller() {
    if std::env::var_os(INSIDE).is_some() {
        return reuse();
    }
    let namespace = || {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--mount-proc"]);
        command
    };
    let possible = namespace().arg("true").output();
    if !possible.is_ok_and(|output| output.status.success()) {
        testkit::skip("device pid reuse", "no PID namespace can be made here");
        return;
    }
    let inside = namespace()
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg("process::tests::a_pid_that_is_given_out_again_is_not_the_caller")
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&inside.stdout) + String::from_utf8_lossy(&inside.stderr);
    assert!(
        inside.status.success() && said.contains("1 passed"),
        "{said}"
    );
}

fn reuse() {
    let Some(mut peer) = Peer::python(None) else {
        return;
    };
    let accepted = BootTime::now();
    let credentials = peer::credentials(peer.connection.as_fd()).unwrap();
    let caller = peer.caller();
    let before = caller.observe(&Digests::new()).unwrap();
    // Start times are told in hundredths of a second.
    std::thread::sleep(std::time::Duration::from_millis(50));
    peer.child.kill().unwrap();
    peer.child.wait().unwrap();
    let other = successor(caller.pid());
    let impostor = other.caller();
    assert_eq!(impostor.pid(), caller.pid(), "one number, two processes");
    let seen = impostor.observe(&Digests::new()).unwrap();
    assert_ne!(seen.started, before.started);
    assert_eq!(seen.uid, before.uid);

    // Identified before: what is read by that number now is another's.
    assert!(matches!(
        caller.observe(&Digests::new()),
        Err(ObserveError::Gone)
    ));
    let program = caller.program(Path::new("/bin/sh"), &before, &Digests::new());
    assert!(matches!(program, Err(ObserveError::Gone)));
    // Not identified before: the kernel says that whoever connected has gone.
    let late = Caller::of(&peer.connection, accepted);
    assert!(matches!(late, Err(IdentifyError::Gone)), "{late:?}");
    // A kernel that does not say so leaves the number, which is now alive again.
    let late = Caller::from_credentials(credentials, accepted);
    assert!(
        matches!(late, Err(IdentifyError::StartedLater { .. })),
        "{late:?}"
    );
}

#[test]
fn a_connection_of_a_process_that_ended_is_refused() {
    let Some(mut peer) = Peer::python(None) else {
        return;
    };
    peer.child.kill().unwrap();
    peer.child.wait().unwrap();
    assert!(matches!(
        Caller::of(&peer.connection, BootTime::now()),
        Err(IdentifyError::Gone)
    ));
}

#[test]
fn a_binary_swapped_after_connect_is_judged_by_what_runs() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("payments");
    std::fs::copy("/usr/bin/python3", &program).unwrap();
    let Some(peer) = Peer::python(Some(program.clone())) else {
        return;
    };
    let running = sha256_of(&program);
    let caller = peer.caller();
    let other = directory.path().join("other");
    std::fs::write(&other, b"#!/bin/sh\n").unwrap();
    std::fs::rename(&other, &program).unwrap();
    let snapshot = caller.observe(&Digests::new()).unwrap();
    assert_eq!(snapshot.executable.digest, Digest::Sha256(running));
    assert_eq!(
        snapshot.executable.path, None,
        "the path names another file"
    );
    assert_eq!(snapshot.executable.name.as_deref(), Some("payments"));
}

#[test]
fn a_caller_that_executes_something_else_is_described_as_that() {
    let Some(mut peer) = Peer::python(None) else {
        return;
    };
    let caller = peer.caller();
    let digests = Digests::new();
    let before = caller.observe(&digests).unwrap();
    peer.run("pass");
    let stdin = peer.child.stdin.as_mut().unwrap();
    // sh keeps the connection (descriptor inherited), says so and waits.
    writeln!(
        stdin,
        "os.dup2(s.fileno(),9);os.execv('/bin/sh',['sh','-c','printf x >&9; read line'])"
    )
    .unwrap();
    peer.connection.read_exact(&mut [0]).unwrap();
    let after = caller.observe(&digests).unwrap();
    assert_eq!(before.started, after.started, "the same process");
    assert_ne!(before.executable.id, after.executable.id);
    assert_eq!(
        after.executable.path,
        Some(std::fs::canonicalize("/bin/sh").unwrap())
    );
}

#[test]
fn a_caller_that_changed_its_uid_is_refused() {
    let Some(mut peer) = Peer::python(None) else {
        return;
    };
    if !rustix::process::getuid().is_root() {
        testkit::skip("device process uid change", "not root");
        return;
    }
    let caller = peer.caller();
    peer.run("os.setresuid(12345,12345,12345)");
    assert!(matches!(
        caller.observe(&Digests::new()),
        Err(ObserveError::Credentials { uid: 12345, .. })
    ));
}

#[test]
fn a_helpers_program_is_hashed_here_and_must_be_executable_by_the_caller() {
    let Some(peer) = Peer::python(None) else {
        return;
    };
    let caller = peer.caller();
    let digests = Digests::new();
    let mut snapshot = caller.observe(&digests).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let link = directory.path().join("link");
    std::os::unix::fs::symlink("/bin/sh", &link).unwrap();
    let program = caller.program(&link, &snapshot, &digests).unwrap();
    let shell = std::fs::canonicalize("/bin/sh").unwrap();
    assert_eq!(program.path.as_deref(), Some(shell.as_path()));
    assert_eq!(program.digest, Digest::Sha256(sha256_of(&shell)));

    snapshot.uid = 12345;
    snapshot.gid = 12345;
    snapshot.groups.clear();
    for (path, why) in [
        ("/etc/shadow", "the caller may not execute it"),
        ("/etc/passwd", "the caller may not execute it"),
        ("/etc", "not a regular file"),
        ("bin/sh", "the path is not absolute"),
    ] {
        match caller.program(Path::new(path), &snapshot, &digests) {
            Err(ObserveError::Program { reason, .. }) => assert_eq!(reason, why, "{path}"),
            other => panic!("{path}: {other:?}"),
        }
    }
}

/// `groups` of a live process are those that the kernel lists, sorted; its cgroup and unit those of `/proc`.
#[test]
fn groups_cgroup_and_unit_are_those_of_the_live_process() {
    let Some(mut peer) = Peer::python(None) else {
        return;
    };
    let caller = peer.caller();
    let digests = Digests::new();
    if rustix::process::getuid().is_root() {
        peer.run("os.setgroups([4242,27,100001])");
        let snapshot = caller.observe(&digests).unwrap();
        assert_eq!(snapshot.groups, [27, 4242, 100_001]);
        peer.run("os.setgroups([])");
        assert_eq!(caller.observe(&digests).unwrap().groups, [0_u32; 0]);
    } else {
        testkit::skip("device process groups", "not root");
    }
    let snapshot = caller.observe(&digests).unwrap();
    assert_eq!(snapshot.cgroup, cgroup_of(peer.child.id()));
    let unit = snapshot.cgroup.as_deref().and_then(unit_of_cgroup);
    assert_eq!(snapshot.unit, unit);
}

/// As `/proc` says it, read another way: the unified hierarchy, unless it is not in use, else systemd's own.
fn cgroup_of(pid: u32) -> Option<String> {
    let listed = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let path = |prefix: &str| {
        let line = listed.lines().find(|line| line.starts_with(prefix))?;
        line.splitn(3, ':').nth(2).map(str::to_owned)
    };
    let systemd = listed.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        (fields.next() == Some("name=systemd")).then(|| fields.next().unwrap().to_owned())
    });
    let unified = path("0::");
    unified
        .clone()
        .filter(|path| path != "/")
        .or(systemd)
        .or(unified)
}

/// Moved into another cgroup, a live process is in that one. A unit is what systemd would name so.
#[test]
fn a_process_that_is_moved_to_a_units_cgroup_is_in_that_unit() {
    let Some(peer) = Peer::python(None) else {
        return;
    };
    let pid = peer.child.id();
    let Some(group) = Cgroup::new(pid) else {
        testkit::skip("device process unit", "no cgroup can be made here");
        return;
    };
    let snapshot = peer.caller().observe(&Digests::new()).unwrap();
    assert_eq!(snapshot.cgroup, cgroup_of(pid));
    let path = snapshot.cgroup.unwrap();
    assert!(path.ends_with(&group.name), "{path}");
    // Units stand below slices; inside another unit's cgroup that one names the process.
    assert_eq!(snapshot.unit, unit_of_cgroup(&path));
    if path == format!("/{}", group.name) {
        assert_eq!(snapshot.unit, Some(group.name.clone()));
    }
}

/// A cgroup of its own, named like a unit; gone when dropped.
struct Cgroup {
    path: PathBuf,
    name: String,
}

impl Cgroup {
    /// With the process `pid` in it.
    fn new(pid: u32) -> Option<Self> {
        let name = format!("trilith-test-{pid}.service");
        [
            "/sys/fs/cgroup",
            "/sys/fs/cgroup/unified",
            "/sys/fs/cgroup/systemd",
        ]
        .iter()
        .map(|root| Path::new(root).join(&name))
        .find_map(|path| {
            std::fs::create_dir(&path).ok()?;
            let group = Self {
                path,
                name: name.clone(),
            };
            let procs = group.path.join("cgroup.procs");
            let mut procs = std::fs::OpenOptions::new().write(true).open(procs).ok()?;
            procs.write_all(pid.to_string().as_bytes()).ok()?;
            Some(group)
        })
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // The process dies a moment later than it is told to.
        for _ in 0..1_000 {
            if std::fs::remove_dir(&self.path).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
}
