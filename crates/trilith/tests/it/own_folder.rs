//! A folder in which one test runs the binary, and nothing of whoever runs the test.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

pub(crate) struct OwnFolder(pub(crate) tempfile::TempDir);

/// Both of its outputs.
pub(crate) fn said(output: &Output) -> String {
    let both = [output.stdout.as_slice(), &output.stderr].concat();
    String::from_utf8(both).expect("UTF-8")
}

impl OwnFolder {
    pub(crate) fn empty() -> Self {
        Self(testkit::temp_dir().expect("a folder"))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn put(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, text).expect("written");
    }

    /// The binary under test, which administers the server of this folder, if there is one.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trilith"));
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("TRILITH_ADMIN_SOCKET", self.path("data/admin.sock"))
            .current_dir(self.0.path())
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command().args(arguments).output().expect("it runs")
    }

    pub(crate) fn good(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = said(&output);
        assert!(output.status.success(), "{arguments:?}: {said}");
        said
    }

    pub(crate) fn refused(&self, arguments: &[&str], code: i32, finding: &str) {
        let output = self.run(arguments);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(finding), "{arguments:?}: {said}");
    }
}
