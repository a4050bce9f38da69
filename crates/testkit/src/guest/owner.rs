//! The owner of a guest: keys of its own for Secure Boot, made anew for each test.

use super::GuestError;
use super::run::{at, output, program};
use crate::swtpm::certificate;
use std::path::{Path, PathBuf};

/// PK, KEK and db, RSA 2048, in one folder. The db key signs images, and kernels take policies by it.
#[derive(Debug)]
pub struct Owner {
    folder: PathBuf,
}

impl Owner {
    /// New keys in `folder`, which is made.
    ///
    /// # Errors
    /// When OpenSSL fails.
    pub fn new(folder: &Path) -> Result<Self, GuestError> {
        std::fs::create_dir_all(folder).map_err(|source| at(folder, source))?;
        let owner = Self {
            folder: folder.to_owned(),
        };
        for name in ["PK", "KEK", "db"] {
            output(
                program("openssl")?
                    .args(["req", "-x509", "-newkey", "rsa:2048", "-noenc", "-sha256"])
                    .args(["-days", "30", "-subj", &format!("/CN=Trilith test {name}/")])
                    .arg("-keyout")
                    .arg(owner.key(name))
                    .arg("-out")
                    .arg(owner.certificate(name)),
            )?;
        }
        Ok(owner)
    }

    /// PKCS #8, PEM.
    #[must_use]
    pub fn key(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.key"))
    }

    /// PEM.
    #[must_use]
    pub fn certificate(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.pem"))
    }

    /// # Errors
    /// When the file is gone.
    pub fn certificate_der(&self, name: &str) -> Result<Vec<u8>, GuestError> {
        Ok(certificate(&self.certificate(name))?)
    }

    /// Signs a PE image under db.
    ///
    /// # Errors
    /// When `sbsign` fails.
    pub fn sign(&self, image: &Path, signed: &Path) -> Result<(), GuestError> {
        let mut sign = program("sbsign")?;
        sign.arg("--key").arg(self.key("db"));
        sign.arg("--cert").arg(self.certificate("db"));
        output(sign.arg("--output").arg(signed).arg(image)).map(drop)
    }
}
