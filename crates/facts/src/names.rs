//! The names of the facts that this version derives. A policy that speaks of any other is refused.

pub const MACHINE_NAME: &str = "machine.name";
pub const MACHINE_POOL: &str = "machine.pool";
/// How the machine joined: `tpm`, `enclave` (by what a confidential machine without a TPM shows) or `token`.
pub const MACHINE_JOIN: &str = "machine.join";
/// `emulated`, `cloud` (a cloud's word), `tee` (inside a trusted execution environment) or `unknown`.
pub const MACHINE_TPM_KIND: &str = "machine.tpm.kind";
/// SHA-256 of the endorsement key's public area, lower-case hex.
pub const MACHINE_TPM_EK: &str = "machine.tpm.ek_sha256";
/// `verified` (certificate chain) or `pinned` (by hash).
pub const MACHINE_TPM_EK_CHAIN: &str = "machine.tpm.ek_chain";
/// SHA-256 of the attestation key's public area, lower-case hex, where the machine's TPM has no
/// endorsement key and is known by this one.
pub const MACHINE_TPM_AK: &str = "machine.tpm.ak_sha256";
/// `verified` (a cloud's certificate), `vouched` (by a paravisor in a trusted execution environment) or
/// `pinned` (by hash).
pub const MACHINE_TPM_AK_CHAIN: &str = "machine.tpm.ak_chain";
/// Whose machine it is by a cloud's own word: `google`, by the certificate of the attestation key, or `azure`, by
/// what the host told the paravisor.
pub const MACHINE_CLOUD_PROVIDER: &str = "machine.cloud.provider";
/// `europe-west3-a`.
pub const MACHINE_CLOUD_ZONE: &str = "machine.cloud.zone";
pub const MACHINE_CLOUD_PROJECT: &str = "machine.cloud.project";
/// Decimal digits.
pub const MACHINE_CLOUD_PROJECT_NUMBER: &str = "machine.cloud.project_number";
/// Google's: decimal digits, never given to another machine. Azure's `vmUniqueId`: a UUID in lower case.
pub const MACHINE_CLOUD_INSTANCE_ID: &str = "machine.cloud.instance_id";
/// The owner's name for the machine.
pub const MACHINE_CLOUD_INSTANCE: &str = "machine.cloud.instance";
/// The vendor that the key's certificate names: TCG vendor id (`INTC`, `IFX`, `STM`).
pub const MACHINE_TPM_MANUFACTURER: &str = "machine.tpm.manufacturer";
/// Firmware version as the TPM itself signed it, 16 lower-case hex digits.
pub const MACHINE_TPM_FIRMWARE: &str = "machine.tpm.firmware";
/// `approved` when reference values allow the whole boot, `partial` when they allow what they speak of and leave
/// programs or what went to the kernel open, `measured` when the event log replays to the quoted PCRs, `unknown`
/// without one.
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
/// PCR 10, `none` when the kernel has measured nothing, `unknown` when it has and did not say what.
pub const MACHINE_IMA_STATE: &str = "machine.ima.state";
/// How many entries of the list are verified.
pub const MACHINE_IMA_ENTRIES: &str = "machine.ima.entries";
/// How many of them are violations: files that changed while they were measured.
pub const MACHINE_IMA_VIOLATIONS: &str = "machine.ima.violations";
/// Where the machine's identity key lives: `tpm`, `memory`, `memory-vouched-by-tpm` or `memory-of-enclave`, which the
/// hardware vouches for.
pub const MACHINE_KEY: &str = "machine.key";

/// `sev-snp`, `tdx`, `sgx`, `nitro` or `nitro-tpm`; `azure-snp` or `azure-tdx` of a paravisor on either.
pub const MACHINE_TEE_KIND: &str = "machine.tee.kind";
/// Of the report or quote: 2, 3, 5 (SEV-SNP), 4, 5 (TDX), 3 (SGX).
pub const MACHINE_TEE_VERSION: &str = "machine.tee.version";
/// Processor generation of SEV-SNP: `milan`, `genoa` or `turin`.
pub const MACHINE_TEE_GENERATION: &str = "machine.tee.generation";
/// Always false: a machine that its host may debug is refused.
pub const MACHINE_TEE_DEBUG: &str = "machine.tee.debug";
/// What was launched, lower-case hex: launch digest, MRTD, MRENCLAVE, PCR 0 (PCR 4 of a NitroTPM).
pub const MACHINE_TEE_MEASUREMENT: &str = "machine.tee.measurement";
/// The name of the reference value that recognised what runs.
pub const MACHINE_TEE_IMAGE: &str = "machine.tee.image";
/// Who signed what runs, lower-case hex: digest of the ID key, MRSIGNER, PCR 8 of an enclave.
pub const MACHINE_TEE_SIGNER: &str = "machine.tee.signer";
/// Digest of the key that signed the ID key (SEV-SNP), lower-case hex.
pub const MACHINE_TEE_AUTHOR: &str = "machine.tee.author";
/// The version number that the image's owner gave it: guest SVN, ISVSVN.
pub const MACHINE_TEE_SVN: &str = "machine.tee.svn";
/// The number that its signer gave an enclave of SGX: ISVPRODID.
pub const MACHINE_TEE_PRODUCT: &str = "machine.tee.product";
/// What the host passed at launch, lower-case hex: HOST_DATA, MRCONFIGID.
pub const MACHINE_TEE_HOST_DATA: &str = "machine.tee.host_data";
/// Privilege level of SEV-SNP that asked; 0 is the highest.
pub const MACHINE_TEE_VMPL: &str = "machine.tee.vmpl";
/// Which hardware: chip id, platform id of Intel (PPID), module id of Nitro; a provider for a VLEK.
pub const MACHINE_TEE_PLATFORM: &str = "machine.tee.platform";
/// The kind of key that vouches: `vcek`, `vlek`, `pck-platform`, `pck-processor` or `nitro`.
pub const MACHINE_TEE_ENDORSEMENT: &str = "machine.tee.endorsement";
/// `checked` against current lists, or `unchecked`.
pub const MACHINE_TEE_REVOCATION: &str = "machine.tee.revocation";
/// SHA-256 of the SPKI of the vTPM's attestation key that the report is bound to.
pub const MACHINE_TEE_AK: &str = "machine.tee.ak_sha256";
/// Whose root the report's key hangs below: `amd`, `intel`, or the name of a root that the estate declares.
pub const MACHINE_TEE_ROOT: &str = "machine.tee.root";
/// `replayed` when a log came along and its events give the measured registers.
pub const MACHINE_TEE_EVENT_LOG: &str = "machine.tee.event_log";
/// Runtime measurement registers of TDX, lower-case hex.
pub const MACHINE_TEE_RTMR0: &str = "machine.tee.rtmr0";
pub const MACHINE_TEE_RTMR1: &str = "machine.tee.rtmr1";
pub const MACHINE_TEE_RTMR2: &str = "machine.tee.rtmr2";
pub const MACHINE_TEE_RTMR3: &str = "machine.tee.rtmr3";
/// Registers of a Nitro enclave, lower-case hex: kernel and boot, application, the role and the id of its parent
/// instance. PCR 0 is `machine.tee.measurement`, PCR 8 `machine.tee.signer`.
pub const MACHINE_TEE_PCR1: &str = "machine.tee.pcr1";
pub const MACHINE_TEE_PCR2: &str = "machine.tee.pcr2";
pub const MACHINE_TEE_PCR3: &str = "machine.tee.pcr3";
pub const MACHINE_TEE_PCR4: &str = "machine.tee.pcr4";
/// How it is known that a NitroTPM's document is of the TPM that answered: `quote` where that TPM quotes the document's
/// registers of SHA-384, `event-log` where its log amounts to them, `key` where the document carries its key alone.
pub const MACHINE_TEE_TPM_BOUND: &str = "machine.tee.tpm_bound";
/// Of the boot that a trust domain's event log tells of: `approved` where an image of the estate lists RTMR 1 and 2,
/// else `measured`.
pub const MACHINE_TEE_BOOT_STATE: &str = "machine.tee.boot.state";
pub const MACHINE_TEE_BOOT_SECURE_BOOT: &str = "machine.tee.boot.secure_boot";
/// Lists, as [`MACHINE_BOOT_PK`] and those beside it.
pub const MACHINE_TEE_BOOT_PK: &str = "machine.tee.boot.pk";
pub const MACHINE_TEE_BOOT_KEK: &str = "machine.tee.boot.kek";
pub const MACHINE_TEE_BOOT_DB: &str = "machine.tee.boot.db";
/// SHA-256 of the contents of dbx.
pub const MACHINE_TEE_BOOT_DBX_SHA256: &str = "machine.tee.boot.dbx_sha256";
/// List: Authenticode SHA-384 of every image in RTMR 1.
pub const MACHINE_TEE_BOOT_IMAGES: &str = "machine.tee.boot.images";
/// Date of shim's revocation list: `2025021800`.
pub const MACHINE_TEE_BOOT_SBAT: &str = "machine.tee.boot.sbat";
/// `grub`, `uki`, `systemd-boot`, `efi-stub` or `unknown`.
pub const MACHINE_TEE_BOOT_LOADER: &str = "machine.tee.boot.loader";
/// SHA-384 as measured: a section, a file or an image.
pub const MACHINE_TEE_BOOT_KERNEL: &str = "machine.tee.boot.kernel";
/// The kernel's command line.
pub const MACHINE_TEE_BOOT_CMDLINE: &str = "machine.tee.boot.cmdline";
/// As Intel calls it: `UpToDate`, `SWHardeningNeeded`, …
pub const MACHINE_TEE_TCB_STATUS: &str = "machine.tee.tcb.status";
/// Day of the TCB level that the platform has, `2024-03-13T00:00:00Z`.
pub const MACHINE_TEE_TCB_DATE: &str = "machine.tee.tcb.date";
/// Number of Intel's TCB evaluation that it was judged by.
pub const MACHINE_TEE_TCB_EVALUATION: &str = "machine.tee.tcb.evaluation";
/// Intel's advisories that are open at this TCB level.
pub const MACHINE_TEE_TCB_ADVISORIES: &str = "machine.tee.tcb.advisories";
/// Parts of the TCB that AMD's firmware reports.
pub const MACHINE_TEE_TCB_FMC: &str = "machine.tee.tcb.fmc";
pub const MACHINE_TEE_TCB_BOOTLOADER: &str = "machine.tee.tcb.bootloader";
pub const MACHINE_TEE_TCB_TEE: &str = "machine.tee.tcb.tee";
pub const MACHINE_TEE_TCB_SNP: &str = "machine.tee.tcb.snp";
pub const MACHINE_TEE_TCB_MICROCODE: &str = "machine.tee.tcb.microcode";

/// `enforced` when the kernel enforces the policy that the estate names for the machine's ring, else `observed`.
pub const MACHINE_ENFORCEMENT: &str = "machine.enforcement";
/// Name of the IPE policy that is active.
pub const MACHINE_IPE_POLICY: &str = "machine.ipe.policy";
/// Its version: `2026.1128.1747`.
pub const MACHINE_IPE_VERSION: &str = "machine.ipe.version";
/// SHA-256 of the signed policy as the kernel holds it, lower-case hex.
pub const MACHINE_IPE_SHA256: &str = "machine.ipe.sha256";
/// True when everything that ran in this boot is approved, by a list that the TPM quoted, and the node agent
/// which reads what the kernel enforces is among it.
pub const MACHINE_IPE_ROOTED: &str = "machine.ipe.rooted_in_hardware";

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
/// fs-verity digest of the running executable, as the kernel measures it: `sha256:` and lower-case hex. It
/// does not rest on a reading of the file, and holds whatever becomes of the file's name.
pub const CODE_FSVERITY: &str = "code.fsverity";
/// How the digest was taken, the best of what there is: `ima` where the machine's list has it that its TPM quoted,
/// `fs-verity` where the kernel measured the file that runs, `file-hash` where whoever looked read the open file.
pub const CODE_MEASURED_BY: &str = "code.measured_by";
/// True when the machine's IMA list, which its TPM quoted, has a file of this digest in this boot. That it is this
/// process which runs the file is the agent's word.
pub const CODE_ROOTED_IN_HARDWARE: &str = "code.rooted_in_hardware";
/// `enforced` when the policy that the machine's kernel enforces lists the code's fs-verity digest, else
/// `observed`.
pub const CODE_ENFORCEMENT: &str = "code.enforcement";
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
/// The container image that holds the running file: its manifest, `sha256:` and lower-case hex. Absent where
/// several that are good here and now hold it; every other fact of the image is absent where they differ in it.
pub const CODE_IMAGE_DIGEST: &str = "code.image.digest";
/// What the signed statement calls the image: `registry.example/acme/payments`. Where it came from is not known.
pub const CODE_IMAGE_NAME: &str = "code.image.name";
/// The signer, or the rule for provenance, that approved the image: the owner's label.
pub const CODE_IMAGE_APPROVED_BY: &str = "code.image.approved_by";
/// As [`CODE_SIGNER_IDENTITY`], of the image.
pub const CODE_IMAGE_SIGNER_IDENTITY: &str = "code.image.signer.identity";
/// As [`CODE_SIGNER_ISSUER`], of the image.
pub const CODE_IMAGE_SIGNER_ISSUER: &str = "code.image.signer.issuer";
/// As [`CODE_SIGNER_KEY`], of the image.
pub const CODE_IMAGE_SIGNER_KEY: &str = "code.image.signer.key";
/// The repository that the image was built from.
pub const CODE_IMAGE_SOURCE: &str = "code.image.source";
/// The ref that the image was built from.
pub const CODE_IMAGE_REF: &str = "code.image.ref";
/// The commit that the image was built from, lower-case hex.
pub const CODE_IMAGE_COMMIT: &str = "code.image.commit";
/// Path, in the source, of the workflow that built the image.
pub const CODE_IMAGE_WORKFLOW: &str = "code.image.workflow";
/// URI of the image's builder.
pub const CODE_IMAGE_BUILDER: &str = "code.image.builder";
/// URI of the kind of build of the image.
pub const CODE_IMAGE_BUILD_TYPE: &str = "code.image.build_type";

/// Every name above.
pub const ALL: &[&str] = &[
    MACHINE_NAME,
    MACHINE_POOL,
    MACHINE_JOIN,
    MACHINE_TPM_KIND,
    MACHINE_TPM_EK,
    MACHINE_TPM_EK_CHAIN,
    MACHINE_TPM_AK,
    MACHINE_TPM_AK_CHAIN,
    MACHINE_CLOUD_PROVIDER,
    MACHINE_CLOUD_ZONE,
    MACHINE_CLOUD_PROJECT,
    MACHINE_CLOUD_PROJECT_NUMBER,
    MACHINE_CLOUD_INSTANCE_ID,
    MACHINE_CLOUD_INSTANCE,
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
    MACHINE_TEE_KIND,
    MACHINE_TEE_VERSION,
    MACHINE_TEE_GENERATION,
    MACHINE_TEE_DEBUG,
    MACHINE_TEE_MEASUREMENT,
    MACHINE_TEE_IMAGE,
    MACHINE_TEE_SIGNER,
    MACHINE_TEE_AUTHOR,
    MACHINE_TEE_SVN,
    MACHINE_TEE_PRODUCT,
    MACHINE_TEE_HOST_DATA,
    MACHINE_TEE_VMPL,
    MACHINE_TEE_PLATFORM,
    MACHINE_TEE_ENDORSEMENT,
    MACHINE_TEE_REVOCATION,
    MACHINE_TEE_AK,
    MACHINE_TEE_ROOT,
    MACHINE_TEE_EVENT_LOG,
    MACHINE_TEE_RTMR0,
    MACHINE_TEE_RTMR1,
    MACHINE_TEE_RTMR2,
    MACHINE_TEE_RTMR3,
    MACHINE_TEE_PCR1,
    MACHINE_TEE_PCR2,
    MACHINE_TEE_PCR3,
    MACHINE_TEE_PCR4,
    MACHINE_TEE_TPM_BOUND,
    MACHINE_TEE_BOOT_STATE,
    MACHINE_TEE_BOOT_SECURE_BOOT,
    MACHINE_TEE_BOOT_PK,
    MACHINE_TEE_BOOT_KEK,
    MACHINE_TEE_BOOT_DB,
    MACHINE_TEE_BOOT_DBX_SHA256,
    MACHINE_TEE_BOOT_IMAGES,
    MACHINE_TEE_BOOT_SBAT,
    MACHINE_TEE_BOOT_LOADER,
    MACHINE_TEE_BOOT_KERNEL,
    MACHINE_TEE_BOOT_CMDLINE,
    MACHINE_TEE_TCB_STATUS,
    MACHINE_TEE_TCB_DATE,
    MACHINE_TEE_TCB_EVALUATION,
    MACHINE_TEE_TCB_ADVISORIES,
    MACHINE_TEE_TCB_FMC,
    MACHINE_TEE_TCB_BOOTLOADER,
    MACHINE_TEE_TCB_TEE,
    MACHINE_TEE_TCB_SNP,
    MACHINE_TEE_TCB_MICROCODE,
    MACHINE_ENFORCEMENT,
    MACHINE_IPE_POLICY,
    MACHINE_IPE_VERSION,
    MACHINE_IPE_SHA256,
    MACHINE_IPE_ROOTED,
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
    CODE_FSVERITY,
    CODE_MEASURED_BY,
    CODE_ROOTED_IN_HARDWARE,
    CODE_ENFORCEMENT,
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
    CODE_IMAGE_DIGEST,
    CODE_IMAGE_NAME,
    CODE_IMAGE_APPROVED_BY,
    CODE_IMAGE_SIGNER_IDENTITY,
    CODE_IMAGE_SIGNER_ISSUER,
    CODE_IMAGE_SIGNER_KEY,
    CODE_IMAGE_SOURCE,
    CODE_IMAGE_REF,
    CODE_IMAGE_COMMIT,
    CODE_IMAGE_WORKFLOW,
    CODE_IMAGE_BUILDER,
    CODE_IMAGE_BUILD_TYPE,
];
