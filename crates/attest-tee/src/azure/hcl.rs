//! The paravisor's report, taken apart ("Guest attestation for confidential VMs", Azure). Nothing of it
//! is believed until hardware signed the hash of its runtime data.

use crate::wire::Reader;
use crypto::PublicKey;
use facts::Finding;
use serde::Deserialize;

const LONGEST: usize = 64 * 1024;
const SIGNATURE: &[u8; 4] = b"HCLA";
/// Room for the hardware's report: an SEV-SNP report, or a TDREPORT and zeros.
const REPORT: usize = 1184;
const TYPE_SNP: u32 = 2;
const TYPE_TDX: u32 = 4;
const HASH_SHA256: u32 = 1;
const AK: &str = "HCLAkPub";

/// Which hardware it is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Snp,
    Tdx,
}

impl Kind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Snp => "sev-snp",
            Self::Tdx => "tdx",
        }
    }

    /// What `machine.tee.kind` says.
    pub(super) const fn fact(self) -> &'static str {
        match self {
            Self::Snp => "azure-snp",
            Self::Tdx => "azure-tdx",
        }
    }
}

/// A report that can be read.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Hcl<'a> {
    pub kind: Kind,
    /// As the hardware made it: 1184 bytes.
    pub report: &'a [u8],
    /// JSON: what the hardware's report commits to.
    pub runtime: &'a [u8],
    /// The vTPM's attestation key.
    pub ak: PublicKey,
    /// What Azure calls the machine (`vmUniqueId`), in lower case: the host's word, which the paravisor passes on.
    pub vm_id: Option<String>,
    /// What the guest wrote for it.
    pub user_data: Option<[u8; 64]>,
}

#[derive(Deserialize)]
struct Runtime {
    keys: Vec<Jwk>,
    #[serde(default, rename = "user-data")]
    user_data: Option<String>,
    #[serde(default, rename = "vm-configuration")]
    machine: Configuration,
}

#[derive(Default, Deserialize)]
struct Configuration {
    #[serde(default, rename = "vmUniqueId")]
    id: Option<String>,
}

/// RFC 7517.
#[derive(Deserialize)]
struct Jwk {
    kid: String,
    kty: String,
    #[serde(default)]
    n: String,
    #[serde(default)]
    e: String,
}

impl<'a> Hcl<'a> {
    /// Reads one report; nothing but zeros may follow it.
    ///
    /// # Errors
    /// `TEE-AZURE-STRUCTURE`.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Finding> {
        read(bytes).map_err(|problem| {
            Finding::new(
                "TEE-AZURE-STRUCTURE",
                "the paravisor's report cannot be read",
            )
            .expected("a report HCLA with SHA-256 over runtime data that name one RSA key HCLAkPub")
            .observed(problem)
            .next("send the vTPM's index 0x01400001 as it is")
        })
    }

    /// What the hardware's report has to carry: SHA-256 of the runtime data, and zeros.
    #[must_use]
    pub fn report_data(&self) -> [u8; 64] {
        let mut data = [0; 64];
        for (to, from) in data.iter_mut().zip(crypto::sha256(self.runtime)) {
            *to = from;
        }
        data
    }
}

fn read(bytes: &[u8]) -> Result<Hcl<'_>, &'static str> {
    if bytes.len() > LONGEST {
        return Err("more than 65536 bytes");
    }
    let (kind, report, runtime) = frame(bytes).ok_or("cut short, or of another form")?;
    let claims: Runtime =
        serde_json::from_slice(runtime).map_err(|_| "runtime data of another shape")?;
    let mut keys = claims.keys.iter().filter(|key| key.kid == AK);
    let (Some(key), None) = (keys.next(), keys.next()) else {
        return Err("no attestation key, or more than one");
    };
    let user_data = match claims.user_data {
        None => None,
        Some(text) => {
            let data = crypto::hex::decode(&text).map_err(|_| "user data that is not hex")?;
            Some(*data.as_array().ok_or("user data that has not 64 bytes")?)
        }
    };
    Ok(Hcl {
        kind,
        report,
        runtime,
        ak: public_key(key).ok_or("an attestation key that is not RSA")?,
        vm_id: match claims.machine.id {
            None => None,
            Some(id) => Some(vm_id(&id).ok_or("a machine's id of another form")?),
        },
        user_data,
    })
}

/// Header, hardware report, header of the runtime data, runtime data.
fn frame(bytes: &[u8]) -> Option<(Kind, &[u8], &[u8])> {
    let mut reader = Reader::new(bytes);
    if reader.take(4)? != SIGNATURE {
        return None;
    }
    // Version, size, request, status, reserved: 1 and 2 have been seen and mean the same.
    reader.take(28)?;
    let report = reader.take(REPORT)?;
    // Size of the runtime data with this header, and its version.
    reader.take(8)?;
    let kind = match reader.u32()? {
        TYPE_SNP => Kind::Snp,
        TYPE_TDX => Kind::Tdx,
        _ => return None,
    };
    if reader.u32()? != HASH_SHA256 {
        return None;
    }
    let runtime = reader.sized(LONGEST)?;
    reader
        .rest()
        .iter()
        .all(|byte| *byte == 0)
        .then_some((kind, report, runtime))
}

/// A UUID (RFC 9562, section 4), in one spelling.
fn vm_id(id: &str) -> Option<String> {
    let lengths = id.split('-').map(str::len);
    let is_uuid = lengths.eq([8, 4, 4, 4, 12])
        && id
            .bytes()
            .all(|byte| byte == b'-' || byte.is_ascii_hexdigit());
    is_uuid.then(|| id.to_ascii_lowercase())
}

fn public_key(key: &Jwk) -> Option<PublicKey> {
    if key.kty != "RSA" {
        return None;
    }
    let number = |text: &str| crypto::base64::decode_url(text).ok();
    PublicKey::from_rsa(&number(&key.n)?, &number(&key.e)?).ok()
}
