//! A real object store with the interface of S3: versitygw, whose buckets are folders. What a test does to a file
//! there, somebody has done to the store.

use crate::mortal::{Parting, command, spawn};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The access key of whoever may do everything.
pub const ID: &str = "trilith-test";
pub const SECRET: &str = "not/a+secret=";
/// Only a hung process needs so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running one; it ends with this.
pub struct S3 {
    child: Child,
    folder: tempfile::TempDir,
    /// Where it listens, without a scheme.
    pub address: SocketAddr,
    tls: bool,
}

impl S3 {
    /// Over plain HTTP.
    ///
    /// # Errors
    /// Why it is not there: Go or curl is not installed, or its modules cannot be had.
    pub fn start() -> Result<Self, String> {
        Self::with(None)
    }

    /// Over TLS, with the PEM files of a certificate and its key.
    ///
    /// # Errors
    /// As [`S3::start`].
    pub fn start_tls(certificate: &Path, key: &Path) -> Result<Self, String> {
        Self::with(Some((certificate, key)))
    }

    fn with(tls: Option<(&Path, &Path)>) -> Result<Self, String> {
        crate::tools(["curl"])?;
        let program = crate::go_tool("s3", "github.com/versity/versitygw/cmd/versitygw")?;
        let failed = |error: std::io::Error| format!("versitygw: {error}");
        let folder = crate::temp_dir().map_err(failed)?;
        let root = folder.path().join("buckets");
        std::fs::create_dir(&root).map_err(failed)?;
        let address = crate::port::free().map_err(failed)?;
        let mut command = command(program, Parting::Kill).map_err(failed)?;
        command
            .env("ROOT_ACCESS_KEY", ID)
            .env("ROOT_SECRET_KEY", SECRET)
            .args(["--quiet", "--keep-alive", "--port"])
            .arg(address.to_string());
        if let Some((certificate, key)) = tls {
            command.arg("--cert").arg(certificate).arg("--key").arg(key);
        }
        command.arg("posix").arg(&root);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = spawn(command).map_err(failed)?;
        let store = Self {
            child,
            folder,
            address,
            tls: tls.is_some(),
        };
        let begun = Instant::now();
        while TcpStream::connect(address).is_err() {
            if begun.elapsed() > PATIENCE {
                return Err("versitygw does not listen".to_owned());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(store)
    }

    /// As clients name it.
    #[must_use]
    pub fn endpoint(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Makes a bucket; `public`: everybody may read it, and nobody write.
    ///
    /// # Errors
    /// What the store said.
    pub fn bucket(&self, name: &str, public: bool) -> Result<(), String> {
        self.put(&format!("{name}?"), "")?;
        if !public {
            return Ok(());
        }
        let policy = format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":"*","Action":["s3:GetObject"],"Resource":["arn:aws:s3:::{name}/*"]}},{{"Effect":"Allow","Principal":"*","Action":["s3:ListBucket"],"Resource":["arn:aws:s3:::{name}"]}}]}}"#
        );
        self.put(&format!("{name}?policy="), &policy)
    }

    /// By a client that is not ours.
    fn put(&self, what: &str, body: &str) -> Result<(), String> {
        let body_file = self.folder.path().join("body");
        std::fs::write(&body_file, body).map_err(|error| error.to_string())?;
        let digest = crypto::hex::encode(&crypto::sha256(body.as_bytes()));
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--fail-with-body", "--insecure"])
            .args(["--aws-sigv4", "aws:amz:us-east-1:s3", "--user"])
            .arg(format!("{ID}:{SECRET}"))
            .args(["--request", "PUT", "--header"])
            .arg(format!("x-amz-content-sha256: {digest}"))
            .args(["--header", "content-type: application/octet-stream"])
            .arg("--data-binary")
            .arg(format!("@{}", body_file.display()))
            .arg(format!(
                "{}/{}",
                self.endpoint(),
                what.trim_end_matches('?')
            ))
            .output()
            .map_err(|error| error.to_string())?;
        if output.status.success() {
            return Ok(());
        }
        let said = [output.stdout.as_slice(), &output.stderr].concat();
        Err(String::from_utf8_lossy(&said).into_owned())
    }

    /// The objects of a bucket, as files.
    #[must_use]
    pub fn folder(&self, bucket: &str) -> PathBuf {
        self.folder.path().join("buckets").join(bucket)
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}
