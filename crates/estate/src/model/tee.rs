//! What confidential machines have to show, resolved. The server turns it into a verifier's references.

use crate::declare::{
    GuestPolicyBit, PlatformBit, TcbStatus, TeeGeneration, TeeKind, TeeRevocation,
};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What the machines of one pool have to show, if their hardware is of the kind of `terms`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TeeReference {
    /// Empty: of machines in none.
    pub pool: String,
    /// A machine of the pool without evidence is refused.
    pub require: bool,
    /// Name of the [`TeeRoot`] that stands in the place of the vendor's.
    pub root: Option<String>,
    pub terms: TeeTerms,
}

impl TeeReference {
    #[must_use]
    pub const fn kind(&self) -> TeeKind {
        match self.terms {
            TeeTerms::SevSnp(_) => TeeKind::SevSnp,
            TeeTerms::Tdx(_) => TeeKind::Tdx,
            TeeTerms::AzureSnp(_) => TeeKind::AzureSnp,
            TeeTerms::AzureTdx(_) => TeeKind::AzureTdx,
            TeeTerms::NitroTpm(_) => TeeKind::NitroTpm,
            TeeTerms::Nitro(_) => TeeKind::Nitro,
            TeeTerms::Sgx(_) => TeeKind::Sgx,
        }
    }

    /// What `machine.tee.root` says of evidence that was judged by this.
    #[must_use]
    pub fn root_name(&self) -> &str {
        self.root.as_deref().unwrap_or(self.kind().vendor())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TeeTerms {
    SevSnp(SnpReference),
    Tdx(TdxReference),
    /// Of the paravisor that was launched.
    AzureSnp(SnpReference),
    /// Of the paravisor that was launched.
    AzureTdx(TdxReference),
    NitroTpm(NitroReference),
    /// Of an enclave, whose images are listed always.
    Nitro(NitroReference),
    Sgx(SgxReference),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnpReference {
    /// `None`: any, which policies judge.
    pub images: Option<Vec<SnpImage>>,
    /// `fmc`, `bootloader`, `tee`, `snp` and `microcode` of each generation that is accepted.
    pub floors: BTreeMap<TeeGeneration, [u8; 5]>,
    pub revocation: TeeRevocation,
    pub policy: SnpPolicy,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnpPolicy {
    /// `None`: migration and CXL.
    pub forbidden: Option<Vec<GuestPolicyBit>>,
    pub required: Vec<GuestPolicyBit>,
    pub platform: Vec<PlatformBit>,
    /// 0 to 3.
    pub vmpl: u8,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnpImage {
    pub name: String,
    pub by: SnpBy,
    pub minimum_svn: u32,
    pub family_id: Option<[u8; 16]>,
    pub image_id: Option<[u8; 16]>,
    pub host_data: Option<[u8; 32]>,
}

/// How an image is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnpBy {
    Measurement([u8; 48]),
    IdKey([u8; 48]),
    AuthorKey([u8; 48]),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TdxReference {
    /// `None`: any, which policies judge.
    pub images: Option<Vec<TdxImage>>,
    /// `None`: `UpToDate` alone.
    pub statuses: Option<BTreeSet<TcbStatus>>,
    pub minimum_evaluation: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TdxImage {
    pub name: String,
    pub mrtd: [u8; 48],
    pub rtmr: [Option<[u8; 48]>; 4],
    pub host_data: Option<[u8; 48]>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NitroReference {
    /// `None`: any, which policies judge.
    pub images: Option<Vec<NitroImage>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NitroImage {
    pub name: String,
    /// SHA-384, by number; not empty.
    pub pcrs: BTreeMap<u8, [u8; 48]>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SgxReference {
    pub images: Vec<SgxImage>,
    /// `None`: `UpToDate` alone.
    pub statuses: Option<BTreeSet<TcbStatus>>,
    pub minimum_evaluation: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SgxImage {
    pub name: String,
    pub by: SgxBy,
    /// Of ISVSVN.
    pub minimum_svn: u16,
}

/// How an enclave of SGX is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SgxBy {
    Measurement([u8; 32]),
    Signer { signer: [u8; 32], product: u16 },
}

/// A root that is no vendor's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TeeRoot {
    pub name: String,
    pub kind: TeeKind,
    /// Of SEV-SNP.
    pub generation: Option<TeeGeneration>,
    pub pem: String,
}
