//! `trilith exec` and `trilith files` over a real agent.

use crate::machine::Machine;
use crate::server::Server;
use agent::helper::{ExecOptions, FilesOptions, HelperError, Patience, exec, files};
use facts::names;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use tokio_util::sync::CancellationToken;

const PATIENCE: Patience = Patience {
    limit: None,
    tell: |_| {},
};

fn options(machine: &Machine, program: &str, arguments: &[&str]) -> ExecOptions {
    ExecOptions {
        socket: machine.address(),
        identity: None,
        patience: PATIENCE,
        program: program.into(),
        arguments: arguments.iter().map(Into::into).collect(),
    }
}

#[tokio::test]
async fn exec_runs_a_program_with_its_identity_in_files() {
    let server = Server::start().await;
    let machine = Machine::started(&server).await;
    let out = machine.directory.path().join("out");
    let script = format!(
        "cp \"$PGSSLCERT\" {0}.pem; stat -c %a $(dirname \"$PGSSLKEY\") \"$PGSSLKEY\" > {0}; \
         echo \"$SPIFFE_ID $PGSSLKEY\" >> {0}; exit 7",
        out.display()
    );
    let code = exec(&options(&machine, "sh", &["-c", &script]))
        .await
        .unwrap();
    assert_eq!(code, 7);
    let said = std::fs::read_to_string(&out).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..2], ["700", "600"]);
    let (id, key) = lines[2].split_once(' ').unwrap();
    assert_eq!(id, "spiffe://example.org/payments/api");
    assert!(!Path::new(key).exists(), "removed with the program");
    let pem = std::fs::read_to_string(out.with_extension("pem")).unwrap();
    assert_eq!(pem.matches("BEGIN CERTIFICATE").count(), 2);

    let facts = server
        .state
        .book(|book| book.facts.last().cloned().unwrap());
    let shell = std::fs::canonicalize("/bin/sh").unwrap();
    assert_eq!(facts.text(names::WORKLOAD_HELPER), Some("exec"));
    assert_eq!(facts.text(names::WORKLOAD_PATH), shell.to_str());
    assert_eq!(facts.text(names::CODE_SHA256), None, "an interpreter");
}

#[tokio::test]
async fn behind_a_helper_the_programs_own_file_is_hashed() {
    let server = Server::start().await;
    let machine = Machine::started(&server).await;
    assert_eq!(exec(&options(&machine, "/bin/true", &[])).await.unwrap(), 0);
    let facts = server
        .state
        .book(|book| book.facts.last().cloned().unwrap());
    let program = std::fs::canonicalize("/bin/true").unwrap();
    let digest = crypto::hex::encode(&crypto::sha256(&std::fs::read(program).unwrap()));
    assert_eq!(facts.text(names::CODE_SHA256), Some(digest.as_str()));
    assert_eq!(facts.text(names::WORKLOAD_HELPER), Some("exec"));
}

#[tokio::test]
async fn without_identity_or_program_nothing_runs() {
    let server = Server::start().await;
    let machine = Machine::started(&server).await;
    let mut wanted = options(&machine, "/bin/true", &[]);
    wanted.identity = Some("spiffe://example.org/other".to_owned());
    assert!(matches!(
        exec(&wanted).await,
        Err(HelperError::Identity { .. })
    ));
    let unknown = options(&machine, "no-such-program", &[]);
    assert!(matches!(exec(&unknown).await, Err(HelperError::Program(_))));
    server.state.book(|book| book.granted.clear());
    let denied = exec(&options(&machine, "/bin/false", &[])).await;
    assert!(
        matches!(
            denied,
            Err(HelperError::Client(_) | HelperError::Refused(_))
        ),
        "{denied:?}"
    );
}

#[tokio::test]
async fn files_are_written_with_mode_and_reloaded() {
    let server = Server::start().await;
    let machine = Machine::started(&server).await;
    let directory = machine.directory.path().join("svid");
    std::fs::create_dir(&directory).unwrap();
    let marker = machine.directory.path().join("reloaded");
    let options = FilesOptions {
        socket: machine.address(),
        identity: Some("spiffe://example.org/payments/api".to_owned()),
        patience: PATIENCE,
        directory: directory.clone(),
        owner: None,
        mode: 0o640,
        reload: Some(format!("echo x >> {}", marker.display())),
        once: true,
    };
    files(&options, CancellationToken::new()).await.unwrap();
    for name in ["svid.pem", "key.pem", "bundle.pem"] {
        let mode = std::fs::metadata(directory.join(name)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o640, "{name}");
    }
    assert_eq!(std::fs::read_to_string(&marker).unwrap(), "x\n");
}
