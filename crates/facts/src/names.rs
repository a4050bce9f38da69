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
/// `unknown` without an event log.
pub const MACHINE_BOOT_STATE: &str = "machine.boot.state";
/// Resets that the TPM has counted: with the next, one boot is told from another.
pub const MACHINE_BOOT_RESET_COUNT: &str = "machine.boot.reset_count";
/// Resumptions since the last reset.
pub const MACHINE_BOOT_RESTART_COUNT: &str = "machine.boot.restart_count";
pub const MACHINE_BOOT_SECURE_BOOT: &str = "machine.boot.secure_boot";
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
];
