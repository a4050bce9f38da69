//! Confidential machines: recorded evidence at its own time, forged evidence with one fault each, hostile
//! bytes, and judges from outside.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::cast_possible_truncation,
    clippy::print_stderr,
    reason = "tests may panic"
)]

mod azure_attacks;
mod azure_recorded;
mod beside;
mod bundle;
mod ccel;
mod der;
mod enclaves;
mod endorsed;
mod evidence;
mod forge_azure;
mod forge_intel;
mod forge_nitro;
mod forge_snp;
mod hostile;
mod intel_attacks;
mod intel_recorded;
mod judges;
mod mutated;
mod nitro_attacks;
mod nitro_recorded;
mod roots;
mod snp_attacks;
mod snp_recorded;
