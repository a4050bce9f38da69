//! The names of the facts that this version derives. A policy that speaks of any other is refused.

pub const MACHINE_NAME: &str = "machine.name";
pub const MACHINE_POOL: &str = "machine.pool";
/// How the machine joined: `tpm` or `token`.
pub const MACHINE_JOIN: &str = "machine.join";
/// `emulated`, `discrete` or `unknown`.
pub const MACHINE_TPM_KIND: &str = "machine.tpm.kind";
/// SHA-256 of the endorsement key's public area, lower-case hex.
pub const MACHINE_TPM_EK: &str = "machine.tpm.ek_sha256";
/// `verified` (certificate chain) or `pinned` (by hash).
pub const MACHINE_TPM_EK_CHAIN: &str = "machine.tpm.ek_chain";
/// The vendor that the endorsement key's certificate names: TCG vendor id (`INTC`, `IFX`, `STM`).
pub const MACHINE_TPM_MANUFACTURER: &str = "machine.tpm.manufacturer";
/// Firmware version as the TPM itself signed it, 16 lower-case hex digits.
pub const MACHINE_TPM_FIRMWARE: &str = "machine.tpm.firmware";
/// `approved` when reference values allow the whole boot, `measured` when the event log replays to the
/// quoted PCRs, `unknown` without one.
pub const MACHINE_BOOT_STATE: &str = "machine.boot.state";
/// Resets that the TPM has counted: with the next, one boot is told from another.
pub const MACHINE_BOOT_RESET_COUNT: &str = "machine.boot.reset_count";
/// Resumptions since the last reset.
pub const MACHINE_BOOT_RESTART_COUNT: &str = "machine.boot.restart_count";
/// Absent when it is not known.
pub const MACHINE_BOOT_SECURE_BOOT: &str = "machine.boot.secure_boot";
/// The version that firmware measured of itself.
pub const MACHINE_BOOT_FIRMWARE: &str = "machine.boot.firmware";
/// Lists: SHA-256 of each certificate, or the listed digest, lower-case hex.
pub const MACHINE_BOOT_PK: &str = "machine.boot.pk";
pub const MACHINE_BOOT_KEK: &str = "machine.boot.kek";
pub const MACHINE_BOOT_DB: &str = "machine.boot.db";
/// SHA-256 of the contents of dbx.
pub const MACHINE_BOOT_DBX_SHA256: &str = "machine.boot.dbx_sha256";
/// List: by which certificates or digests images were started.
pub const MACHINE_BOOT_AUTHORITIES: &str = "machine.boot.authorities";
/// List: Authenticode SHA-256 of every image in PCR 4 and PCR 2.
pub const MACHINE_BOOT_IMAGES: &str = "machine.boot.images";
pub const MACHINE_BOOT_SHIM: &str = "machine.boot.shim";
/// Date of shim's revocation list: `2025021800`.
pub const MACHINE_BOOT_SBAT: &str = "machine.boot.sbat";
/// Machine owner keys: `none`, `vendor`, `other` or `unknown`.
pub const MACHINE_BOOT_MOK: &str = "machine.boot.mok";
/// `grub`, `uki`, `systemd-boot`, `efi-stub` or `unknown`.
pub const MACHINE_BOOT_LOADER: &str = "machine.boot.loader";
/// SHA-256 as measured: a section, a file or an image.
pub const MACHINE_BOOT_KERNEL: &str = "machine.boot.kernel";
pub const MACHINE_BOOT_INITRD: &str = "machine.boot.initrd";
/// The kernel's command line.
pub const MACHINE_BOOT_CMDLINE: &str = "machine.boot.cmdline";
/// List: `.linux=` and SHA-256 of the content, for each section of a unified kernel image.
pub const MACHINE_BOOT_SECTIONS: &str = "machine.boot.sections";
/// List: labels of the reference values that the boot matched.
pub const MACHINE_BOOT_LABELS: &str = "machine.boot.labels";
/// Numbers of the PCRs that reference values speak of: `4`.
pub const MACHINE_BOOT_JUDGED: &str = "machine.boot.judged";
/// `approved` when every executed file that was measured is allowed, `measured` when the list replays to
/// PCR 10.
pub const MACHINE_IMA_STATE: &str = "machine.ima.state";
/// How many entries of the list are verified.
pub const MACHINE_IMA_ENTRIES: &str = "machine.ima.entries";
/// How many of them are violations: files that changed while they were measured.
pub const MACHINE_IMA_VIOLATIONS: &str = "machine.ima.violations";
/// Where the machine's identity key lives: `tpm`, `memory` or `memory-vouched-by-tpm`.
pub const MACHINE_KEY: &str = "machine.key";

pub const WORKLOAD_UID: &str = "workload.uid";
pub const WORKLOAD_GID: &str = "workload.gid";
pub const WORKLOAD_GROUPS: &str = "workload.groups";
pub const WORKLOAD_PATH: &str = "workload.path";
pub const WORKLOAD_UNIT: &str = "workload.unit";
pub const WORKLOAD_CGROUP: &str = "workload.cgroup";
/// `pidfd`, or `raceable` where the kernel has no `SO_PEERPIDFD`.
pub const WORKLOAD_CALLER: &str = "workload.caller";
/// `exec` when a helper asked on behalf of the program.
pub const WORKLOAD_HELPER: &str = "workload.helper";
/// True when the executable interprets other code, so that its digest says nothing of that code.
pub const WORKLOAD_INTERPRETER: &str = "workload.interpreter";

/// SHA-256 of the running executable, lower-case hex.
pub const CODE_SHA256: &str = "code.sha256";
/// The reference value that the digest goes by: the owner's label.
pub const CODE_REFERENCE: &str = "code.reference";
/// The signer, or the rule for provenance, that approved the code: the owner's label.
pub const CODE_APPROVED_BY: &str = "code.approved_by";
/// Who signed the code, as the certificate says: a workflow's URI or an e-mail address.
pub const CODE_SIGNER_IDENTITY: &str = "code.signer.identity";
/// Who identified the signer: the URL of an OpenID provider.
pub const CODE_SIGNER_ISSUER: &str = "code.signer.issuer";
/// SHA-256 of the SPKI of the pinned key that signed the code, lower-case hex.
pub const CODE_SIGNER_KEY: &str = "code.signer.key";
/// The repository that the code was built from: `github.com/acme/payments`.
pub const CODE_SOURCE: &str = "code.source";
/// The ref that was built: `refs/tags/v1.2.3`.
pub const CODE_REF: &str = "code.ref";
/// The commit that was built, lower-case hex.
pub const CODE_COMMIT: &str = "code.commit";
/// Path of the workflow in the source: `.github/workflows/release.yml`.
pub const CODE_WORKFLOW: &str = "code.workflow";
/// URI of the builder, as the provenance writes it.
pub const CODE_BUILDER: &str = "code.builder";
/// URI of the kind of build.
pub const CODE_BUILD_TYPE: &str = "code.build_type";

/// Every name above.
pub const ALL: &[&str] = &[
    MACHINE_NAME,
    MACHINE_POOL,
    MACHINE_JOIN,
    MACHINE_TPM_KIND,
    MACHINE_TPM_EK,
    MACHINE_TPM_EK_CHAIN,
    MACHINE_TPM_MANUFACTURER,
    MACHINE_TPM_FIRMWARE,
    MACHINE_BOOT_STATE,
    MACHINE_BOOT_RESET_COUNT,
    MACHINE_BOOT_RESTART_COUNT,
    MACHINE_BOOT_SECURE_BOOT,
    MACHINE_BOOT_FIRMWARE,
    MACHINE_BOOT_PK,
    MACHINE_BOOT_KEK,
    MACHINE_BOOT_DB,
    MACHINE_BOOT_DBX_SHA256,
    MACHINE_BOOT_AUTHORITIES,
    MACHINE_BOOT_IMAGES,
    MACHINE_BOOT_SHIM,
    MACHINE_BOOT_SBAT,
    MACHINE_BOOT_MOK,
    MACHINE_BOOT_LOADER,
    MACHINE_BOOT_KERNEL,
    MACHINE_BOOT_INITRD,
    MACHINE_BOOT_CMDLINE,
    MACHINE_BOOT_SECTIONS,
    MACHINE_BOOT_LABELS,
    MACHINE_BOOT_JUDGED,
    MACHINE_IMA_STATE,
    MACHINE_IMA_ENTRIES,
    MACHINE_IMA_VIOLATIONS,
    MACHINE_KEY,
    WORKLOAD_UID,
    WORKLOAD_GID,
    WORKLOAD_GROUPS,
    WORKLOAD_PATH,
    WORKLOAD_UNIT,
    WORKLOAD_CGROUP,
    WORKLOAD_CALLER,
    WORKLOAD_HELPER,
    WORKLOAD_INTERPRETER,
    CODE_SHA256,
    CODE_REFERENCE,
    CODE_APPROVED_BY,
    CODE_SIGNER_IDENTITY,
    CODE_SIGNER_ISSUER,
    CODE_SIGNER_KEY,
    CODE_SOURCE,
    CODE_REF,
    CODE_COMMIT,
    CODE_WORKFLOW,
    CODE_BUILDER,
    CODE_BUILD_TYPE,
];
