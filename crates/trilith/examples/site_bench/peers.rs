//! The peer: pgbouncer with TLS and client certificates, in session mode, as prepared statements need it.

use crate::site::free_port;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use testkit::postgres::Postgres;

pub(crate) struct PgBouncer {
    process: Child,
    pub(crate) port: u16,
    folder: tempfile::TempDir,
}

impl PgBouncer {
    /// Before `database` of `postgres`, for the user `peer` who logs in there with `password`.
    pub(crate) fn start(postgres: &Postgres, database: &str, password: &str) -> Self {
        let folder = testkit::temp_dir().unwrap();
        let at = |name: &str| folder.path().join(name);
        certificates(folder.path());
        let port = free_port();
        std::fs::write(at("users.txt"), format!("\"peer\" \"{password}\"\n")).unwrap();
        let ini = format!(
            "[databases]\n{database} = host={socket} port={upstream} dbname={database} user=peer\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = cert\nauth_file = {users}\npool_mode = session\nmax_client_conn = 400\n\
             default_pool_size = 100\nserver_tls_sslmode = disable\nclient_tls_sslmode = verify-full\n\
             client_tls_ca_file = {ca}\nclient_tls_cert_file = {certificate}\nclient_tls_key_file = {key}\n\
             log_connections = 0\nlog_disconnections = 0\n",
            socket = postgres.socket_folder().display(),
            upstream = postgres.port(),
            users = at("users.txt").display(),
            ca = at("ca.crt").display(),
            certificate = at("server.crt").display(),
            key = at("server.key").display(),
        );
        std::fs::write(at("pgbouncer.ini"), ini).unwrap();
        let mut command = Command::new(testkit::tool("pgbouncer").expect("pgbouncer is installed"));
        command.arg(at("pgbouncer.ini")).stdin(Stdio::null());
        let log = std::fs::File::create(at("log")).unwrap();
        command.stdout(log.try_clone().unwrap()).stderr(log);
        // As root it would refuse.
        if rustix::process::getuid().is_root() {
            let owner = std::fs::metadata(postgres.socket()).unwrap();
            let (uid, gid) = (
                std::os::unix::fs::MetadataExt::uid(&owner),
                std::os::unix::fs::MetadataExt::gid(&owner),
            );
            for entry in std::fs::read_dir(folder.path()).unwrap() {
                std::os::unix::fs::chown(entry.unwrap().path(), Some(uid), Some(gid)).unwrap();
            }
            std::os::unix::fs::chown(folder.path(), Some(uid), Some(gid)).unwrap();
            command.uid(uid).gid(gid);
        }
        let process = command.spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            let log = std::fs::read_to_string(at("log")).unwrap_or_default();
            assert!(
                Instant::now() < deadline,
                "pgbouncer does not listen: {log}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Self {
            process,
            port,
            folder,
        }
    }

    /// A file of the client's: `ca.crt`, `client.crt` or `client.key`.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        self.process
            .kill()
            .and_then(|()| self.process.wait())
            .unwrap();
    }
}

/// A CA, and P-256 certificates of a server and of the client `peer`: the same kind of keys as ours.
fn certificates(folder: &Path) {
    let script = "
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=ca -keyout ca.key -out ca.crt
        for name in server client; do
            openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=$([ $name = client ] && echo peer || echo localhost) -keyout $name.key -out $name.csr
            printf 'subjectAltName=DNS:localhost,IP:127.0.0.1' > ext
            openssl x509 -req -in $name.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out $name.crt
        done
        chmod 600 *.key
    ";
    let made = Command::new("sh")
        .args(["-ec", script])
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
}
