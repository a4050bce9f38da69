//! A TPM as a cloud gives one to its machines: without endorsement certificates, with a certificate of
//! its attestation key by the cloud's authority where Google puts it.

use super::{Swtpm, SwtpmError, certificate};
use crate::find;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// RSA 2048, with the attributes of [`TEMPLATE`].
const RSA_TEMPLATE: &[u8] = &[
    0, 1, 0, 0x0b, 0, 5, 0, 0x72, 0, 0, 0, 0x10, 0, 0x14, 0, 0x0b, 8, 0, 0, 0, 0, 0, 0, 0,
];
/// P-256, fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, restricted, sign: not the attributes
/// that the node agent would choose, so that it is seen whether it takes the cloud's.
const TEMPLATE: &[u8] = &[
    0, 0x23, 0, 0x0b, 0, 5, 0, 0x72, 0, 0, 0, 0x10, 0, 0x18, 0, 0x0b, 0, 3, 0, 0x10, 0, 0, 0, 0,
];
const ATTRIBUTES: &str = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|sign";
const EXTENSIONS: &str = "basicConstraints=critical,CA:FALSE\n\
    keyUsage=critical,digitalSignature\n\
    extendedKeyUsage=2.23.133.8.3\n\
    subjectAltName=critical,dirName:tpm\n\
    1.3.6.1.4.1.11129.2.1.21=ASN1:SEQUENCE:instance\n\
    [tpm]\n\
    a.2.23.133.2.1=id:474F4F47\nb.2.23.133.2.2=vTPM\nc.2.23.133.2.3=id:20160511\n\
    [instance]\n\
    a=UTF8:europe-west3-a\nb=INTEGER:17\nc=UTF8:acme\nd=INTEGER:0x123456789\ne=UTF8:web-1\n";
const AUTHORITY: &str =
    "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n";

/// A running chip, and the authority of its cloud.
#[derive(Debug)]
pub struct Cloud {
    pub chip: Swtpm,
}

impl Cloud {
    /// A new chip by a new cloud, for the machine `web-1` in project `acme`, zone `europe-west3-a`.
    ///
    /// # Errors
    /// When `swtpm`, tpm2-tools or `openssl` are missing or fail.
    pub fn start() -> Result<Self, SwtpmError> {
        let chip = Swtpm::uncertified()?;
        let cloud = Self { chip };
        cloud.authority()?;
        cloud.certify("ecc256:ecdsa-sha256:null", 0x01c1_0002, TEMPLATE)?;
        Ok(cloud)
    }

    /// Takes the key away, and gives the same machine an RSA one.
    ///
    /// # Errors
    /// When tpm2-tools or `openssl` are missing or fail.
    pub fn change_key(&self) -> Result<(), SwtpmError> {
        let [undefine] = find::tools(["tpm2_nvundefine"]).map_err(SwtpmError::Missing)?;
        for index in ["0x1c10002", "0x1c10003"] {
            self.tool(&undefine, [index, "-C", "o"])?;
        }
        self.certify("rsa2048:rsassa-sha256:null", 0x01c1_0000, RSA_TEMPLATE)
    }

    /// Certifies the key of `template`: the certificate at `index`, the template behind it.
    fn certify(&self, algorithm: &str, index: u32, template: &[u8]) -> Result<(), SwtpmError> {
        let [create, read] =
            find::tools(["tpm2_createprimary", "tpm2_readpublic"]).map_err(SwtpmError::Missing)?;
        let key = [
            "-C", "e", "-g", "sha256", "-G", algorithm, "-a", ATTRIBUTES, "-c", "ak.ctx",
        ];
        self.tool(&create, key)?;
        self.tool(&read, ["-c", "ak.ctx", "-f", "pem", "-o", "ak.pem"])?;
        self.flush()?;
        self.openssl("x509 -req -in any.csr -force_pubkey ak.pem -CA cloud.pem -CAkey cloud.key -set_serial 8 -days 30 -extfile ak.ext -out akcert.pem")?;
        let der = certificate(&self.file("akcert.pem"))?;
        self.write(index, &der)?;
        self.write(index + 1, template)
    }

    /// The root of the cloud's authority, PEM.
    #[must_use]
    pub fn root_pem(&self) -> PathBuf {
        self.file("cloud.pem")
    }

    /// As [`Swtpm::write`].
    ///
    /// # Errors
    /// When tpm2-tools are missing or fail.
    pub fn write(&self, index: u32, bytes: &[u8]) -> Result<(), SwtpmError> {
        self.chip.write(index, bytes)
    }

    fn authority(&self) -> Result<(), SwtpmError> {
        fs::write(self.file("ca.ext"), AUTHORITY)?;
        fs::write(self.file("ak.ext"), EXTENSIONS)?;
        self.openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out cloud.key")?;
        self.openssl("req -new -key cloud.key -subj /CN=cloud -out cloud.csr")?;
        self.openssl(
            "x509 -req -in cloud.csr -signkey cloud.key -extfile ca.ext -days 365 -out cloud.pem",
        )?;
        // A request is signed by its key, and the chip's signs none: its certificate is made from this
        // one's, with the key put in.
        self.openssl("req -new -key cloud.key -subj / -out any.csr")
    }

    fn flush(&self) -> Result<(), SwtpmError> {
        let [flush] = find::tools(["tpm2_flushcontext"]).map_err(SwtpmError::Missing)?;
        self.tool(&flush, ["-t"])
    }

    fn openssl(&self, arguments: &str) -> Result<(), SwtpmError> {
        let [openssl] = find::tools(["openssl"]).map_err(SwtpmError::Missing)?;
        self.tool(&openssl, arguments.split(' '))
    }

    fn tool<S: AsRef<OsStr>>(
        &self,
        program: &Path,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<(), SwtpmError> {
        self.chip.tool(program, arguments)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.chip.folder.path().join(name)
    }
}
