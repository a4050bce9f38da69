//! For tests only: what has to hold of any bytes that a parser of ours reads. One function a format; it
//! panics when something does not hold.
//!
//! `cargo xtask fuzz` drives them by libFuzzer, which learns from what it reaches; this crate's own test
//! drives them by changes from fixed seeds, in seconds and without a nightly compiler.
//! Where evidence is recorded, what hardware signed is among the seeds, and no other bytes may be affirmed
//! in its place. A crash that is found becomes a test of the crate whose parser it is.

#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "for tests only: a surprise is what is looked for"
)]

mod boot;
mod code;
mod delegation;
mod identity;
mod ima;
mod image;
mod join;
mod login;
mod objects_answer;
mod packed;
mod postgres;
mod records;
mod seeds;
mod tee;
mod tpm;
mod witness_files;

/// One format, what has to hold of it, and where a search begins.
pub struct Target {
    /// Names it on the command line and in the corpus.
    pub name: &'static str,
    /// Panics where what has to hold does not.
    pub run: fn(&[u8]),
    /// Real bytes of that format, or close to it: made here, and recorded ones where they are at hand.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

const fn target(name: &'static str, run: fn(&[u8]), seeds: fn() -> Vec<Vec<u8>>) -> Target {
    Target { name, run, seeds }
}

/// Every format, by name.
pub const TARGETS: &[Target] = &[
    target("azure_hcl", tee::hcl, tee::hcl_seeds),
    target("compressed", packed::compressed, packed::compressed_seeds),
    target("cose_nitro", tee::nitro, tee::nitro_seeds),
    target(
        "delegation_token",
        delegation::token,
        delegation::token_seeds,
    ),
    target("domain_log", boot::domain, boot::domain_seeds),
    target("efi_signatures", boot::signatures, boot::signature_seeds),
    target("id_token", login::token, login::token_seeds),
    target("ima_ascii", ima::ascii, ima::ascii_seeds),
    target("ima_binary", ima::binary, ima::binary_seeds),
    target("ipe_policy_cms", code::policy, code::policy_seeds),
    target("join_messages", join::join, join::join_seeds),
    target("ledger_bundle", records::bundle, records::bundle_seeds),
    target(
        "ledger_cosignature",
        records::cosignature,
        records::cosignature_seeds,
    ),
    target("ledger_mirror", records::mirror, records::mirror_seeds),
    target("ledger_note", identity::note, identity::note_seeds),
    target("ledger_pack", records::pack, records::pack_seeds),
    target("ledger_policy", records::policy, records::policy_seeds),
    target("ledger_receipt", identity::receipt, identity::receipt_seeds),
    target(
        "ledger_tile_path",
        records::tile_path,
        records::tile_path_seeds,
    ),
    target("ledger_witness", records::witness, records::witness_seeds),
    target("oci_manifest", code::manifest, code::manifest_seeds),
    target("oidc_provider", login::provider, login::provider_seeds),
    target("openpgp", packed::openpgp, packed::openpgp_seeds),
    target("pe", image::pe, image::pe_seeds),
    target("postgres_first", postgres::first, postgres::first_seeds),
    target(
        "postgres_messages",
        postgres::messages,
        postgres::message_seeds,
    ),
    target(
        "reference_file",
        packed::references,
        packed::reference_seeds,
    ),
    target("s3_answer", objects_answer::answer, objects_answer::seeds),
    target("sgx_quote", tee::sgx, tee::sgx_seeds),
    target("sigstore_bundle", code::bundle, code::bundle_seeds),
    target("snp_report", tee::snp, tee::snp_seeds),
    target("spiffe_id", identity::id, identity::id_seeds),
    target("svid", identity::svid, identity::svid_seeds),
    target("tcg_log", boot::log, boot::log_seeds),
    target("tdx_quote", tee::tdx, tee::tdx_seeds),
    target("tpm_public", tpm::public, tpm::public_seeds),
    target("tpm_signature", tpm::signature, tpm::signature_seeds),
    target("tpms_attest", tpm::attest, tpm::attest_seeds),
    target(
        "witness_config",
        witness_files::config,
        witness_files::config_seeds,
    ),
    target(
        "witness_state",
        witness_files::state,
        witness_files::state_seeds,
    ),
];

/// The target of that name.
#[must_use]
pub fn target_of(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
