//! A private PostgreSQL for the demo: its own folder, a Unix socket and no TCP port.

use super::process::{self, Daemon, Parting, User};
use anyhow::Context as _;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) struct Database {
    pub(crate) daemon: Daemon,
    binaries: PathBuf,
    directory: PathBuf,
    user: Option<User>,
}

impl Database {
    /// Makes and starts a cluster under `directory`. As root, PostgreSQL runs as the user `postgres`.
    pub(crate) fn start(directory: &Path, logs: &Path) -> anyhow::Result<Self> {
        let binaries = binaries()?;
        let user = if rustix::process::geteuid().is_root() {
            let user = User::named("postgres").context(
                "this process is root and there is no user `postgres` to run PostgreSQL as",
            )?;
            std::os::unix::fs::chown(directory, Some(user.uid), Some(user.gid))?;
            Some(user)
        } else {
            None
        };
        let data = directory.join("data");
        let mut initdb = Command::new(binaries.join("initdb"));
        initdb
            .args([
                "--username=postgres",
                "--auth=peer",
                "--locale=C.UTF-8",
                "--encoding=UTF8",
            ])
            .args(["--no-sync", "--pgdata"])
            .arg(&data)
            .current_dir(directory);
        process::run(as_user(user, &mut initdb))?;
        std::fs::write(data.join("pg_hba.conf"), PG_HBA)?;
        std::fs::write(data.join("pg_ident.conf"), ident_map())?;

        let mut server = process::mortal(binaries.join("postgres"), Parting::Quit);
        server
            .arg("-D")
            .arg(&data)
            .args(["-c", "listen_addresses=", "-c", "port=5432"])
            .arg("-c")
            .arg(format!("unix_socket_directories={}", directory.display()))
            .current_dir(directory);
        as_user(user, &mut server);
        let daemon = Daemon::start("postgres", server, logs)?;
        Ok(Self {
            daemon,
            binaries,
            directory: directory.to_owned(),
            user,
        })
    }

    /// Asks whether connections are taken.
    pub(crate) fn probe(&self) -> impl Fn() -> bool + use<> {
        let (program, directory) = (self.binaries.join("pg_isready"), self.directory.clone());
        move || process::run(Command::new(&program).arg("-q").arg("-h").arg(&directory)).is_ok()
    }

    pub(crate) fn socket_directory(&self) -> &Path {
        &self.directory
    }

    /// The real program; Debian's `psql` is a script.
    pub(crate) fn psql(&self) -> PathBuf {
        self.binaries.join("psql")
    }

    /// Runs SQL as the superuser, past every gateway: what an owner of the database would do.
    pub(crate) fn superuser(&self, database: &str, sql: &str) -> anyhow::Result<String> {
        let mut psql = Command::new(self.binaries.join("psql"));
        psql.args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            "postgres",
            "-d",
            database,
        ])
        .arg("-h")
        .arg(&self.directory)
        .args(["-c", sql])
        .current_dir(&self.directory);
        process::run(as_user(self.user, &mut psql))
    }
}

/// The newest PostgreSQL of Debian's layout.
pub(crate) fn binaries() -> anyhow::Result<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let version = entry.file_name().to_str()?.parse().ok()?;
            let binaries = entry.path().join("bin");
            binaries
                .join("initdb")
                .exists()
                .then_some((version, binaries))
        })
        .collect();
    found.sort();
    found.pop().map(|(_, binaries)| binaries).context(
        "no PostgreSQL server under /usr/lib/postgresql; run `apt-get install postgresql-15`",
    )
}

fn as_user(user: Option<User>, command: &mut Command) -> &mut Command {
    match user {
        Some(user) => user.apply(command),
        None => command,
    }
}

/// The superuser and the gateway's administrator by peer credentials; per-identity roles by SCRAM with
/// secrets that the gateway alone holds.
const PG_HBA: &str = "\
# TYPE  DATABASE  USER                 METHOD
local   all       postgres             peer map=demo
local   all       trilith_gateway      peer map=demo
local   all       all                  scram-sha-256
";

fn ident_map() -> String {
    use std::fmt::Write as _;
    let mut map = String::from("# MAP  SYSTEM-USER  DATABASE-USER\n");
    let uid = rustix::process::geteuid().as_raw();
    let mut names = vec!["postgres".to_owned()];
    if let Ok(passwd) = std::fs::read_to_string("/etc/passwd") {
        let own = passwd.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            (fields.get(2)?.parse() == Ok(uid)).then(|| (*fields.first().unwrap_or(&"")).to_owned())
        });
        names.extend(own);
    }
    for name in names {
        let written = writeln!(map, "demo {name} postgres\ndemo {name} trilith_gateway");
        debug_assert!(written.is_ok(), "writing to a string cannot fail");
    }
    map
}
