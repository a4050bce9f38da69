//! `ATTESTATION_REPORT` (ABI, table 23) of versions 2, 3 and 5. Read, not judged.

use crate::wire::Reader;
use facts::Finding;

/// Exactly this many bytes.
const LENGTH: usize = 1184;
/// The signature covers this many.
pub(super) const SIGNED: usize = 0x2a0;
/// `SIGNATURE_ALGO`: ECDSA on P-384 with SHA-384 (ABI, table 139).
const ECDSA_P384_SHA384: u32 = 1;
/// A number in a signature: 48 bytes of it, and zeros.
const NUMBER: usize = 72;

/// What a report says. Fields that nothing is checked against are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// 2, 3 or 5.
    pub version: u32,
    pub guest_svn: u32,
    /// `POLICY` (ABI, table 9).
    pub guest_policy: u64,
    pub family_id: [u8; 16],
    pub image_id: [u8; 16],
    /// Who asked: 0 to 3; the host's own request has all bits set.
    pub vmpl: u32,
    pub current_tcb: [u8; 8],
    /// `PLATFORM_INFO` (ABI, table 24).
    pub platform_info: u64,
    flags: u32,
    pub report_data: [u8; 64],
    pub measurement: [u8; 48],
    pub host_data: [u8; 32],
    pub id_key_digest: [u8; 48],
    pub author_key_digest: [u8; 48],
    pub reported_tcb: [u8; 8],
    /// Combined family, model and stepping; from version 3 on.
    pub cpuid: Option<(u8, u8, u8)>,
    pub chip_id: [u8; 64],
    pub committed_tcb: [u8; 8],
    pub launch_tcb: [u8; 8],
    /// r ‖ s, big-endian.
    pub(super) signature: [u8; 96],
}

impl Report {
    /// Reads one report of 1184 bytes.
    ///
    /// # Errors
    /// `TEE-SNP-STRUCTURE`, `TEE-SNP-VERSION`.
    pub fn parse(bytes: &[u8]) -> Result<Self, Finding> {
        let malformed = |observed: String| {
            Finding::new("TEE-SNP-STRUCTURE", "the attestation report cannot be read")
                .expected("the 1184 bytes of a report signed by ECDSA P-384 with SHA-384")
                .observed(observed)
                .next("send the report as the firmware returned it; see docs/attestation/snp.md")
        };
        if bytes.len() != LENGTH {
            return Err(malformed(format!("{} bytes", bytes.len())));
        }
        let version = Reader::new(bytes).u32().unwrap_or_default();
        if !matches!(version, 2 | 3 | 5) {
            return Err(Finding::new(
                "TEE-SNP-VERSION",
                "reports of this version are not understood",
            )
            .expected("version 2, 3 or 5")
            .observed(version.to_string())
            .next(
                "upgrade the server to a version that reads it; nothing in an estate allows it",
            ));
        }
        Self::read(bytes).ok_or_else(|| {
            malformed("another signature algorithm, or bytes after r and s".to_owned())
        })
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let version = reader.u32()?;
        let guest_svn = reader.u32()?;
        let guest_policy = reader.u64()?;
        let (family_id, image_id) = (reader.array()?, reader.array()?);
        let vmpl = reader.u32()?;
        if reader.u32()? != ECDSA_P384_SHA384 {
            return None;
        }
        let current_tcb = reader.array()?;
        let platform_info = reader.u64()?;
        let flags = reader.u32()?;
        reader.take(4)?;
        let report_data = reader.array()?;
        let measurement = reader.array()?;
        let host_data = reader.array()?;
        let (id_key_digest, author_key_digest) = (reader.array()?, reader.array()?);
        // REPORT_ID and REPORT_ID_MA.
        reader.take(64)?;
        let reported_tcb = reader.array()?;
        let cpuid = (reader.u8()?, reader.u8()?, reader.u8()?);
        reader.take(21)?;
        let chip_id = reader.array()?;
        let committed_tcb = reader.array()?;
        // Firmware versions: the TCB is what counts.
        reader.take(8)?;
        let launch_tcb = reader.array()?;
        let signature = signature(bytes.get(SIGNED..)?)?;
        Some(Self {
            version,
            guest_svn,
            guest_policy,
            family_id,
            image_id,
            vmpl,
            current_tcb,
            platform_info,
            flags,
            report_data,
            measurement,
            host_data,
            id_key_digest,
            author_key_digest,
            reported_tcb,
            cpuid: (version >= 3).then_some(cpuid),
            chip_id,
            committed_tcb,
            launch_tcb,
            signature,
        })
    }

    /// `AUTHOR_KEY_EN`: the author key's digest was checked at launch.
    #[must_use]
    pub const fn has_author_key(&self) -> bool {
        self.flags & 1 == 1
    }

    /// `SIGNING_KEY`, as the certificates are called.
    #[must_use]
    pub const fn signing_key(&self) -> &'static str {
        match self.flags >> 2 & 0b111 {
            0 => "vcek",
            1 => "vlek",
            7 => "none",
            _ => "reserved",
        }
    }
}

/// Little-endian r and s, each padded with zeros, then zeros: to big-endian r ‖ s.
fn signature(bytes: &[u8]) -> Option<[u8; 96]> {
    let mut output = [0; 96];
    let mut reader = Reader::new(bytes);
    for half in output.chunks_exact_mut(48) {
        let number = reader.take(NUMBER)?;
        let (digits, padding) = number.split_at_checked(48)?;
        if padding.iter().any(|byte| *byte != 0) {
            return None;
        }
        for (to, from) in half.iter_mut().zip(digits.iter().rev()) {
            *to = *from;
        }
    }
    reader
        .rest()
        .iter()
        .all(|byte| *byte == 0)
        .then_some(output)
}
