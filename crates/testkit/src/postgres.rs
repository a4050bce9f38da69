//! A private PostgreSQL: its own data directory, its own Unix socket, gone when dropped.
//!
//! The administrator logs in by peer authentication over the socket, from the user who runs the tests;
//! everybody else needs SCRAM. Nothing of an installed server is touched.

use crate::mortal::{self, Parting};
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The name of the administrator.
pub const ADMIN: &str = "postgres";
const PATIENCE: Duration = Duration::from_secs(60);

/// How the server differs from the default: Unix socket only, without TLS.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Listen on a free port of loopback as well, with TLS.
    pub tcp: bool,
    /// Lines for `postgresql.conf`.
    pub settings: Vec<String>,
}

/// A running server.
#[derive(Debug)]
pub struct Postgres {
    folder: tempfile::TempDir,
    server: Child,
    port: u16,
}

fn failed(what: &str, output: &[u8]) -> io::Error {
    io::Error::other(format!("{what}: {}", String::from_utf8_lossy(output)))
}

/// uid and gid to run as: PostgreSQL refuses to run as root.
fn other_user() -> io::Result<Option<(u32, u32)>> {
    if !rustix::process::getuid().is_root() {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd")?;
    let found = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let _password = fields.next()?;
        let ids = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        (name == "postgres").then_some(ids)
    });
    found
        .map(Some)
        .ok_or_else(|| io::Error::other("no user `postgres` to run the server as"))
}

fn program(name: &str, user: Option<(u32, u32)>) -> io::Result<Command> {
    Ok(as_user(Command::new(find(name)?), user))
}

fn find(name: &str) -> io::Result<PathBuf> {
    crate::tool(name).ok_or_else(|| io::Error::other(format!("{name} is not installed")))
}

fn as_user(mut command: Command, user: Option<(u32, u32)>) -> Command {
    command.stdin(Stdio::null()).current_dir("/");
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    command
}

fn run(command: &mut Command, what: &str) -> io::Result<()> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(what, &output.stderr))
}

impl Postgres {
    /// Why no server can be started here, for [`crate::skip`].
    #[must_use]
    pub fn missing() -> Option<String> {
        crate::tools(["initdb", "postgres", "psql"]).err()
    }

    /// Starts a server with the default options.
    ///
    /// # Errors
    /// When PostgreSQL is not installed or does not start.
    pub fn start() -> io::Result<Self> {
        Self::start_with(&Options::default())
    }

    /// # Errors
    /// When PostgreSQL is not installed or does not start.
    pub fn start_with(options: &Options) -> io::Result<Self> {
        let folder = crate::temp_dir()?;
        let user = other_user()?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        if let Some((uid, gid)) = user {
            chown(folder.path(), Some(uid), Some(gid))?;
        }
        let data = folder.path().join("data");
        // Nothing connects before `configure` has replaced the host-based authentication.
        run(
            program("initdb", user)?
                .args([
                    "--no-sync",
                    "--no-instructions",
                    "--encoding=UTF8",
                    "--locale=C.UTF-8",
                ])
                .args(["--username", ADMIN, "--auth=trust", "--pgdata"])
                .arg(&data),
            "initdb",
        )?;
        let port = if options.tcp {
            crate::port::free()?.port()
        } else {
            5432
        };
        configure(&data, folder.path(), port, options, user)?;
        let log = fs::File::create(folder.path().join("log"))?;
        let server = mortal::command(find("postgres")?, Parting::Quit)?;
        let mut server = as_user(server, user);
        server.arg("-D").arg(&data);
        server.stdout(log.try_clone()?).stderr(log);
        let server = mortal::spawn(server)?;
        let mut started = Self {
            folder,
            server,
            port,
        };
        started.wait_until_ready()?;
        Ok(started)
    }

    fn wait_until_ready(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if self.execute("postgres", "SELECT 1").is_ok() {
                return Ok(());
            }
            if self.server.try_wait()?.is_some() || Instant::now() > deadline {
                let log = fs::read(self.folder.path().join("log")).unwrap_or_default();
                return Err(failed("the server did not start", &log));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The folder of the Unix socket: what libpq calls the host.
    #[must_use]
    pub fn socket_folder(&self) -> &Path {
        self.folder.path()
    }

    /// The Unix socket itself.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join(format!(".s.PGSQL.{}", self.port))
    }

    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The certificate that the server presents over TCP, if it listens there.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("server.crt")
    }

    /// What the server wrote so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Runs `sql` as the administrator; what `psql -At` prints.
    ///
    /// # Errors
    /// With what the server said.
    pub fn execute(&self, database: &str, sql: &str) -> io::Result<String> {
        let output = Command::new(crate::tool("psql").unwrap_or_else(|| "psql".into()))
            .args([
                "-XAtq",
                "-v",
                "ON_ERROR_STOP=1",
                "-U",
                ADMIN,
                "-d",
                database,
            ])
            .arg("-h")
            .arg(self.socket_folder())
            .args(["-p", &self.port.to_string(), "-c", sql])
            .stdin(Stdio::null())
            .env("PGCONNECT_TIMEOUT", "5")
            .output()?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout)
                .trim_end()
                .to_owned());
        }
        Err(failed("psql", &output.stderr))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Immediate shutdown: nothing of this cluster is kept.
        if let Some(pid) = i32::try_from(self.server.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw)
        {
            let _already_gone = rustix::process::kill_process(pid, rustix::process::Signal::QUIT);
        }
        let _reaped = self.server.wait();
    }
}

fn configure(
    data: &Path,
    folder: &Path,
    port: u16,
    options: &Options,
    user: Option<(u32, u32)>,
) -> io::Result<()> {
    let mut lines = vec![
        format!("unix_socket_directories = '{}'", folder.display()),
        format!("port = {port}"),
        "fsync = off".to_owned(),
        "max_connections = 200".to_owned(),
        "password_encryption = 'scram-sha-256'".to_owned(),
    ];
    if options.tcp {
        let (certificate, key) = (folder.join("server.crt"), folder.join("server.key"));
        run(
            program("openssl", user)?
                .args([
                    "req",
                    "-x509",
                    "-newkey",
                    "ec",
                    "-pkeyopt",
                    "ec_paramgen_curve:P-256",
                ])
                .args(["-nodes", "-days", "2", "-subj", "/CN=localhost"])
                .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
                // It is a server's, which some clients take from no authority.
                .args(["-addext", "basicConstraints=critical,CA:FALSE"])
                .arg("-keyout")
                .arg(&key)
                .arg("-out")
                .arg(&certificate),
            "openssl",
        )?;
        lines.push("listen_addresses = '127.0.0.1'".to_owned());
        lines.push("ssl = on".to_owned());
        lines.push(format!("ssl_cert_file = '{}'", certificate.display()));
        lines.push(format!("ssl_key_file = '{}'", key.display()));
    } else {
        lines.push("listen_addresses = ''".to_owned());
    }
    lines.extend(options.settings.iter().cloned());
    let path = data.join("postgresql.conf");
    let mut text = fs::read_to_string(&path)?;
    text.push_str(&lines.join("\n"));
    text.push('\n');
    fs::write(&path, text)?;
    let me = current_user()?;
    fs::write(
        data.join("pg_hba.conf"),
        format!(
            "local all {ADMIN} peer map=admin\nlocal all all scram-sha-256\nhostssl all all 127.0.0.1/32 scram-sha-256\n"
        ),
    )?;
    fs::write(
        data.join("pg_ident.conf"),
        format!("admin {me} {ADMIN}\nadmin {ADMIN} {ADMIN}\n"),
    )
}

/// The name of the user who runs the tests.
fn current_user() -> io::Result<String> {
    let uid = rustix::process::getuid().as_raw().to_string();
    let users = fs::read_to_string("/etc/passwd")?;
    users
        .lines()
        .find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)? == uid).then(|| name.to_owned())
        })
        .ok_or_else(|| io::Error::other("the user who runs the tests has no name"))
}
