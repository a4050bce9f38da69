//! `references/*`: what confidential machines have to show.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use toml::Spanned;

/// A kind of confidential hardware, as `machine.tee.kind` names it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum TeeKind {
    SevSnp,
    Tdx,
    /// A paravisor of Azure's on SEV-SNP, which vouches for the attestation key of the machine's vTPM.
    AzureSnp,
    /// The same on TDX.
    AzureTdx,
    /// AWS's document about the TPM that it gives to an instance.
    NitroTpm,
    /// An enclave of AWS Nitro, which speaks for itself and has no TPM.
    Nitro,
    /// An enclave of SGX, which speaks for itself and has no TPM.
    Sgx,
}

impl TeeKind {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SevSnp => "sev-snp",
            Self::Tdx => "tdx",
            Self::AzureSnp => "azure-snp",
            Self::AzureTdx => "azure-tdx",
            Self::NitroTpm => "nitro-tpm",
            Self::Nitro => "nitro",
            Self::Sgx => "sgx",
        }
    }

    /// Whether a machine of this kind is one enclave: it joins by what it shows alone, and is known by what runs in it.
    #[must_use]
    pub const fn is_enclave(self) -> bool {
        matches!(self, Self::Nitro | Self::Sgx)
    }

    /// The hardware, by which roots are told apart.
    #[must_use]
    pub const fn hardware(self) -> Self {
        match self {
            Self::SevSnp | Self::AzureSnp => Self::SevSnp,
            Self::Tdx | Self::AzureTdx => Self::Tdx,
            Self::NitroTpm => Self::NitroTpm,
            Self::Nitro => Self::Nitro,
            Self::Sgx => Self::Sgx,
        }
    }

    /// All that an estate may ask for.
    pub const ALL: [Self; 7] = [
        Self::SevSnp,
        Self::Tdx,
        Self::AzureSnp,
        Self::AzureTdx,
        Self::NitroTpm,
        Self::Nitro,
        Self::Sgx,
    ];

    /// What `machine.tee.root` says under the roots that its vendor publishes.
    #[must_use]
    pub const fn vendor(self) -> &'static str {
        match self {
            Self::SevSnp | Self::AzureSnp => "amd",
            Self::Tdx | Self::AzureTdx | Self::Sgx => "intel",
            Self::NitroTpm | Self::Nitro => "aws",
        }
    }
}

impl std::fmt::Display for TeeKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A generation of AMD's processors.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum TeeGeneration {
    Milan,
    Genoa,
    Turin,
}

impl TeeGeneration {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Milan => "milan",
            Self::Genoa => "genoa",
            Self::Turin => "turin",
        }
    }
}

/// Whether AMD's revocation list has to be at hand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TeeRevocation {
    /// Without a current list nothing is believed.
    #[default]
    Required,
    /// A list that is at hand counts.
    IfPresent,
}

/// What Intel says of a platform's TCB, in Intel's words. `Revoked` is never accepted.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum TcbStatus {
    UpToDate,
    SWHardeningNeeded,
    ConfigurationNeeded,
    ConfigurationAndSWHardeningNeeded,
    TDRelaunchAdvised,
    TDRelaunchAdvisedConfigurationNeeded,
    OutOfDate,
    OutOfDateConfigurationNeeded,
}

impl TcbStatus {
    /// As Intel, and `machine.tee.tcb.status`, spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UpToDate => "UpToDate",
            Self::SWHardeningNeeded => "SWHardeningNeeded",
            Self::ConfigurationNeeded => "ConfigurationNeeded",
            Self::ConfigurationAndSWHardeningNeeded => "ConfigurationAndSWHardeningNeeded",
            Self::TDRelaunchAdvised => "TDRelaunchAdvised",
            Self::TDRelaunchAdvisedConfigurationNeeded => "TDRelaunchAdvisedConfigurationNeeded",
            Self::OutOfDate => "OutOfDate",
            Self::OutOfDateConfigurationNeeded => "OutOfDateConfigurationNeeded",
        }
    }
}

/// A bit of an SEV-SNP guest's policy. Debugging is forbidden always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GuestPolicyBit {
    Smt,
    Migration,
    SingleSocket,
    Cxl,
    Aes256Xts,
    RaplDisabled,
    CiphertextHiding,
    PageSwapDisabled,
}

/// What an SEV-SNP host's firmware says of its configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PlatformBit {
    Tsme,
    Ecc,
    RaplDisabled,
    CiphertextHiding,
    AliasChecked,
}

/// What the machines of one pool have to show of the hardware that they run in, if it is of this kind.
/// A pool has one of a kind.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TeeEntry {
    /// The pool, as machines are placed by their TPM's key. Default: the machines that stand in none. An enclave,
    /// `nitro` or `sgx`, is placed by this: it stands in the pool whose image it is.
    #[schemars(with = "Option<String>")]
    pub(crate) pool: Option<Spanned<String>>,
    #[schemars(with = "TeeKind")]
    pub(crate) kind: Spanned<TeeKind>,
    /// A machine of the pool that shows no evidence is refused; with several kinds, one of them is enough. If
    /// false, evidence is judged where a machine shows some. Default true.
    #[serde(default = "yes")]
    pub(crate) require: bool,
    /// A `tee_root`, which then stands in the place of the vendor's roots. Default: those that AMD, Intel
    /// or AWS publishes.
    #[schemars(with = "Option<String>")]
    pub(crate) root: Option<Spanned<String>>,
    /// The images that may run; none is listed by default, and so none accepted.
    #[serde(default, rename = "image")]
    pub(crate) images: Vec<TeeImageEntry>,
    /// Any image may run: policies judge `machine.tee.measurement`. Not with a list; not for `azure-snp`
    /// and `azure-tdx`, whose paravisor's word is what counts; and not for `nitro` and `sgx`, which are known by
    /// their image alone. Default false.
    #[serde(default)]
    pub(crate) any_image: bool,
    /// SEV-SNP: the generations that are accepted, each with the least TCB.
    #[serde(default, rename = "floor")]
    pub(crate) floors: Vec<TeeFloorEntry>,
    /// SEV-SNP. Default `required`.
    pub(crate) revocation: Option<TeeRevocation>,
    /// SEV-SNP.
    pub(crate) policy: Option<TeePolicyEntry>,
    /// TDX, SGX: what Intel may say of the platform's TCB. Default: `UpToDate` alone.
    pub(crate) tcb_status: Option<Vec<TcbStatus>>,
    /// TDX, SGX: the least number of Intel's TCB evaluation. Default 0.
    pub(crate) minimum_evaluation: Option<u32>,
}

const fn yes() -> bool {
    true
}

/// One image, by what of it is measured: for SEV-SNP, and for a paravisor on it, exactly one of `measurement`, `id_key` and `author_key`,
/// for TDX, and for a paravisor on it, `mrtd`, for a NitroTPM and an enclave of Nitro `pcrs`, for SGX one of `mrenclave` and
/// `mrsigner`. 96 hexadecimal digits each unless it says otherwise.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TeeImageEntry {
    /// What `machine.tee.image` says.
    #[schemars(with = "String")]
    pub(crate) name: Spanned<String>,
    /// SEV-SNP: the launch digest.
    #[schemars(with = "Option<String>")]
    pub(crate) measurement: Option<Spanned<String>>,
    /// SEV-SNP: SHA-384 of the key that signed the ID block.
    #[schemars(with = "Option<String>")]
    pub(crate) id_key: Option<Spanned<String>>,
    /// SEV-SNP: SHA-384 of the key that signed the ID key.
    #[schemars(with = "Option<String>")]
    pub(crate) author_key: Option<Spanned<String>>,
    /// SEV-SNP: the least SVN of the guest, which an ID block sets. SGX: the least ISVSVN, at most 65535. Default 0.
    pub(crate) minimum_svn: Option<u32>,
    /// SEV-SNP: 32 digits.
    #[schemars(with = "Option<String>")]
    pub(crate) family_id: Option<Spanned<String>>,
    /// SEV-SNP: 32 digits.
    #[schemars(with = "Option<String>")]
    pub(crate) image_id: Option<Spanned<String>>,
    /// What the host passed at launch, if it matters: SEV-SNP's host data (64 digits), TDX's MRCONFIGID.
    #[schemars(with = "Option<String>")]
    pub(crate) host_data: Option<Spanned<String>>,
    /// TDX: the firmware and what the host launched with it.
    #[schemars(with = "Option<String>")]
    pub(crate) mrtd: Option<Spanned<String>>,
    /// TDX: runtime registers; one that is absent is left to policy.
    #[schemars(with = "Option<String>")]
    pub(crate) rtmr0: Option<Spanned<String>>,
    #[schemars(with = "Option<String>")]
    pub(crate) rtmr1: Option<Spanned<String>>,
    #[schemars(with = "Option<String>")]
    pub(crate) rtmr2: Option<Spanned<String>>,
    #[schemars(with = "Option<String>")]
    pub(crate) rtmr3: Option<Spanned<String>>,
    /// NitroTPM: registers of the SHA-384 bank, by their number (`4`, `7`, `11`). Nitro: those of the enclave, `0` (the
    /// image) or `8` (who signed it) among them. One that is absent is left to policy.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>")]
    pub(crate) pcrs: BTreeMap<String, Spanned<String>>,
    /// SGX: the enclave's measurement. 64 digits.
    #[schemars(with = "Option<String>")]
    pub(crate) mrenclave: Option<Spanned<String>>,
    /// SGX: SHA-256 of the key that signed the enclave, 64 digits; with `product`.
    #[schemars(with = "Option<String>")]
    pub(crate) mrsigner: Option<Spanned<String>>,
    /// SGX: ISVPRODID, by which the enclaves of one signer are told apart.
    pub(crate) product: Option<u16>,
}

/// The least TCB of one generation of SEV-SNP; a part that is absent asks for nothing.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TeeFloorEntry {
    #[schemars(with = "TeeGeneration")]
    pub(crate) generation: Spanned<TeeGeneration>,
    /// Turin and later.
    #[serde(default)]
    pub(crate) fmc: u8,
    #[serde(default)]
    pub(crate) bootloader: u8,
    #[serde(default)]
    pub(crate) tee: u8,
    #[serde(default)]
    pub(crate) snp: u8,
    #[serde(default)]
    pub(crate) microcode: u8,
}

/// How a guest of SEV-SNP may be run, beside debugging, which is forbidden.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TeePolicyEntry {
    /// Must not be allowed to the host. Default: `migration` and `cxl`.
    pub(crate) forbidden: Option<Vec<GuestPolicyBit>>,
    /// Must be set. Default: none.
    #[serde(default)]
    pub(crate) required: Vec<GuestPolicyBit>,
    /// Must hold of the host. Default: none.
    #[serde(default)]
    pub(crate) platform: Vec<PlatformBit>,
    /// The least privileged level that may ask, 0 to 3. Default 0.
    #[serde(default)]
    pub(crate) vmpl: u8,
}

/// A root that is no vendor's: a laboratory's. What it vouches for has the source `verified`, never `hardware`, and
/// `machine.tee.root` names it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TeeRootEntry {
    /// Not `amd`, `intel` or `aws`.
    #[schemars(with = "String")]
    pub(crate) name: Spanned<String>,
    /// `sev-snp`, `tdx`, `nitro-tpm`, `nitro` or `sgx`: a paravisor has the roots of what it runs on.
    pub(crate) kind: TeeKind,
    /// SEV-SNP: the generation that it stands for.
    pub(crate) generation: Option<TeeGeneration>,
    /// PEM: for SEV-SNP one self-signed root and the intermediates that it signed, else one root.
    #[schemars(with = "String")]
    pub(crate) pem: Spanned<String>,
}
