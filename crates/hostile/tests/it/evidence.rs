//! Every file of recorded evidence is judged by a test: which one, stands here. A file that comes along and
//! that nobody judges fails this, and so does a line whose file or test is gone.

use std::collections::BTreeSet;
use std::path::Path;

/// What judges the files whose path begins with the first and ends with the second.
enum Judged {
    By(&'static str),
    /// It is no evidence: why.
    Not(&'static str),
}

use Judged::{By, Not};

const LOGS: &str =
    "crates/attest-tpm/tests/it/logs.rs::every_recorded_log_is_read_and_says_what_booted";
const BOOTS: &str = "crates/attest-tpm/tests/it/boots.rs::every_recorded_boot_replays_to_its_own_quote_and_its_facts_are_known";
const LISTS: &str = "crates/attest-tpm/tests/it/ima.rs::every_recorded_list_replays_to_its_quote";
const CHIPS: &str = "crates/attest-tpm/tests/it/others.rs::quotes_of_recorded_boots_name_the_chip_and_certificates_of_another_key_do_not_count";
const QUOTES: &str = "crates/attest-tpm/tests/it/judges.rs::tpm2_checkquote_judges_every_recorded_quote_and_its_changes_as_we_do";
const JOIN: &str =
    "crates/attest-tpm/tests/it/evidence.rs::a_join_recorded_with_tpm2_tools_verifies";
const BLOB: &str = "crates/attest-tpm/tests/it/others.rs::the_laboratorys_key_signed_and_its_credential_has_the_shape_of_ours";
const OWNER: &str =
    "crates/attest-tpm/tests/it/secureboot.rs::a_machine_of_its_owner_holds_the_owners_keys";
const POLICIES: &str = "crates/attest-tpm/tests/it/secureboot.rs::the_policies_of_recorded_machines_hold_the_published_certificates";
const STATE: &str = "crates/attest-tpm/tests/it/secureboot.rs::a_recorded_reference_state_revokes_what_was_published";
const GOOGLE: &str =
    "crates/attest-tpm/tests/it/others.rs::googles_quote_holds_and_its_log_amounts_to_it";
const GOOGLES_CA: &str =
    "crates/attest-tpm/tests/it/ak.rs::googles_certificate_of_a_recorded_machine_holds";
const KEYLIME: &str = "crates/attest-tpm/tests/it/others.rs::keylimes_quotes_are_of_the_values_beside_them_and_of_an_unknown_key";
const IPE: &str = "crates/attest-code/tests/it/enforcement.rs::the_recorded_policies_are_read_as_the_kernel_read_them";
const BUNDLES: &str =
    "crates/attest-code/tests/it/evidence.rs::every_recorded_bundle_has_its_outcome";
const SLSA: &str = "crates/attest-code/tests/it/evidence.rs::recorded_provenance_becomes_facts";
const SNP: &str =
    "crates/attest-tee/tests/it/snp_recorded.rs::recorded_reports_are_affirmed_at_their_time";
const AMD: &str = "crates/attest-tee/tests/it/snp_recorded.rs::the_chain_that_a_guest_was_given_is_the_one_that_is_shipped";
const INTEL: &str =
    "crates/attest-tee/tests/it/intel_recorded.rs::recorded_quotes_have_the_status_of_their_time";
const PLATFORMS: &str =
    "crates/attest-tee/tests/it/intel_recorded.rs::recorded_platforms_are_intels";
const BESIDE: &str = "crates/attest-tee/tests/it/beside.rs::a_recorded_quote_answers_the_question_and_has_the_log_beside_it";
const AZURE_SNP: &str = "crates/attest-tee/tests/it/azure_recorded.rs::recorded_machines_with_snp_are_affirmed_and_name_the_key_that_quotes";
const AZURE_TDX: &str = "crates/attest-tee/tests/it/azure_recorded.rs::a_recorded_machine_with_tdx_is_affirmed_and_names_the_key_that_quotes";
const NITRO: &str =
    "crates/attest-tee/tests/it/nitro_recorded.rs::recorded_documents_are_affirmed_at_their_time";

/// The first line that fits counts.
const FILES: &[(&str, &str, Judged)] = &[
    ("README.md", "", Not("says what the files are")),
    (
        "gce/attest",
        ".proto",
        Not("the schema of a recorded message"),
    ),
    ("gce/tpm", ".proto", Not("the schema of a recorded message")),
    ("gce/gce-cos-85", ".pb", By(GOOGLE)),
    ("gce/ca/", "", By(GOOGLES_CA)),
    (
        "eventlog/expected_pcrs",
        ".json",
        By(
            "crates/attest-tpm/tests/it/logs.rs::logs_amount_to_the_pcr_values_that_their_machines_had",
        ),
    ),
    (
        "eventlog/linux_tpm12",
        ".json",
        By(
            "crates/attest-tpm/tests/it/logs.rs::a_log_of_tpm_1_2_amounts_to_its_pcrs_and_is_refused_all_the_same",
        ),
    ),
    ("eventlog/hpe", ".json", By(STATE)),
    ("eventlog/", ".bin", By(LOGS)),
    (
        "ima/",
        "",
        By("crates/attest-tpm/tests/it/ima.rs::lists_of_other_projects_are_read_entry_for_entry"),
    ),
    ("lab/swtpm-join/cred", ".blob", By(BLOB)),
    ("lab/swtpm-join/dig", "", By(BLOB)),
    ("lab/swtpm-join/secret", "", By(BLOB)),
    ("lab/swtpm-join/", "", By(JOIN)),
    ("lab/uki-612-ipe-secureboot/ipe", "", By(IPE)),
    (
        "lab/uki-612-ipe-secureboot/console",
        ".txt",
        By(
            "crates/attest-code/tests/it/enforcement.rs::the_recorded_policies_are_read_as_the_kernel_read_them",
        ),
    ),
    ("lab/uki-own-keys-secureboot/keys/", ".crt", By(OWNER)),
    (
        "lab/uki-own-keys-secureboot/predicted",
        ".json",
        By("crates/attest-tpm/tests/it/boots.rs::predictions_made_before_the_boot_come_true"),
    ),
    (
        "lab/fsverity-ima-ngv2/ima3",
        ".txt",
        By(
            "crates/attest-tpm/tests/it/ima.rs::a_list_that_has_grown_is_verified_as_far_as_the_quote_reaches",
        ),
    ),
    ("lab/", "ima.bin", By(LISTS)),
    ("lab/", "ima.txt", By(LISTS)),
    ("lab/", "eventlog.bin", By(BOOTS)),
    ("lab/", "cmdline.txt", By(BOOTS)),
    ("lab/", "ak.pem", By(QUOTES)),
    ("lab/", "quote.msg", By(QUOTES)),
    ("lab/", "quote.sig", By(QUOTES)),
    ("lab/", "quote.pcrs", By(QUOTES)),
    ("lab/", "", By(CHIPS)),
    (
        "ek-roots/",
        ".pem",
        By("crates/attest-tpm/tests/it/evidence.rs::vendors_roots_are_read"),
    ),
    (
        "secureboot/dbxupdate",
        ".bin",
        By(
            "crates/attest-tpm/tests/it/judged.rs::revocations_that_firmware_does_not_hold_are_missed",
        ),
    ),
    ("secureboot/", ".crt", By(POLICIES)),
    (
        "tpm/trustee",
        ".json",
        By(
            "crates/attest-tpm/tests/it/others.rs::trustees_quote_is_signed_by_the_key_that_came_with_it",
        ),
    ),
    (
        "tpm/dstack",
        ".bin",
        By("crates/attest-tpm/tests/it/evidence.rs::attestations_of_other_projects_are_read"),
    ),
    ("tpm/", "", By(KEYLIME)),
    ("snp/ca/", ".pem", By(AMD)),
    ("snp/dstack-ask", ".pem", By(AMD)),
    ("snp/virtee-turin-chain", ".pem", By(AMD)),
    (
        "snp/virtee-turin-vcek",
        ".der",
        By(
            "crates/attest-tee/tests/it/snp_recorded.rs::recorded_keys_of_every_generation_have_a_chain",
        ),
    ),
    (
        "snp/go-sev-guest",
        "",
        By(
            "crates/attest-tee/tests/it/snp_recorded.rs::a_report_of_a_guest_that_may_be_debugged_is_refused",
        ),
    ),
    (
        "snp/trustee-vcek-invalid",
        ".der",
        By("crates/attest-tee/tests/it/snp_recorded.rs::recorded_bad_keys_are_refused"),
    ),
    (
        "snp/dstack-sev-snp",
        ".json",
        By("crates/attest-tee/tests/it/beside.rs::a_report_in_another_wrapping_is_the_same_report"),
    ),
    ("snp/", "", By(SNP)),
    ("azure/snp-vtpm/evidence", ".json", By(AZURE_SNP)),
    (
        "azure/snp-vtpm/",
        "",
        By("crates/attest-tee/tests/it/azure_recorded.rs::a_recorded_report_in_pieces_is_affirmed"),
    ),
    ("azure/tdx-vtpm/evidence", ".json", By(AZURE_TDX)),
    ("azure/tdx-vtpm/td-quote", ".bin", By(AZURE_TDX)),
    (
        "azure/kinvolk-hcl",
        ".bin",
        By("crates/attest-tee/tests/it/azure_recorded.rs::reports_of_paravisors_are_read"),
    ),
    (
        "azure/",
        "",
        By(
            "crates/attest-tee/tests/it/azure_recorded.rs::quotes_of_vtpms_are_by_the_key_beside_them",
        ),
    ),
    ("attestation-rs/az_snp/", ".json", By(AZURE_SNP)),
    ("attestation-rs/az_tdx/", ".json", By(AZURE_TDX)),
    (
        "attestation-rs/collateral/qe_identity_signing",
        ".pem",
        By(
            "crates/attest-tee/tests/it/beside.rs::the_chain_of_the_identity_signs_the_tcb_info_as_well",
        ),
    ),
    ("attestation-rs/collateral/", "", By(INTEL)),
    ("attestation-rs/tdx_quote", ".dat", By(PLATFORMS)),
    ("tdx/cos-113/", "", By(BESIDE)),
    (
        "tdx/ccel_ovmf",
        ".dat",
        By("crates/attest-tee/tests/it/ccel.rs::a_recorded_log_gives_the_registers_of_its_quote"),
    ),
    ("tdx/sgx_occlum", ".dat", By(PLATFORMS)),
    (
        "tdx/phala/sgx",
        "",
        By(
            "crates/attest-tee/tests/it/intel_recorded.rs::a_recorded_enclave_has_the_status_of_its_time",
        ),
    ),
    ("tdx/", "", By(INTEL)),
    (
        "nitro/yawn-chain",
        ".der",
        By(
            "crates/attest-tee/tests/it/nitro_recorded.rs::the_chain_of_a_recorded_document_is_the_one_beside_it",
        ),
    ),
    (
        "nitro/aws",
        ".pem",
        By(
            "crates/attest-tee/tests/it/nitro_recorded.rs::the_chain_of_a_recorded_document_is_the_one_beside_it",
        ),
    ),
    (
        "nitro/",
        "debug.bin",
        By(
            "crates/attest-tee/tests/it/nitro_recorded.rs::recorded_documents_that_do_not_count_are_refused_for_what_is_wrong",
        ),
    ),
    ("nitro/", "", By(NITRO)),
    ("sigstore/", "", By(BUNDLES)),
    (
        "slsa/gcloud",
        ".json",
        By(
            "crates/attest-code/tests/it/evidence.rs::recorded_provenance_by_an_unknown_key_is_refused",
        ),
    ),
    ("slsa/", "", By(SLSA)),
    (
        "corim/",
        ".cbor",
        By("crates/attest-tee/tests/it/beside.rs::reference_values_in_corim_are_no_document"),
    ),
];

fn files(folder: &Path, root: &Path, into: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, root, into);
        } else {
            let relative = path.strip_prefix(root).unwrap();
            into.push(relative.to_str().unwrap().to_owned());
        }
    }
}

#[test]
fn every_recorded_file_is_judged_by_a_test() {
    let workspace = testkit::workspace();
    for (_, _, judged) in FILES {
        match judged {
            By(test) => {
                let (file, name) = test.split_once("::").unwrap();
                let source = std::fs::read_to_string(workspace.join(file)).unwrap();
                assert!(
                    source.contains(&format!("fn {name}()")),
                    "there is no {test}"
                );
            }
            Not(why) => assert!(!why.is_empty()),
        }
    }
    let Some(evidence) = testkit::evidence() else {
        testkit::skip("hostile::evidence", "no evidence folder");
        return;
    };
    let mut all = Vec::new();
    files(&evidence, &evidence, &mut all);
    assert!(!all.is_empty());
    let mut used = BTreeSet::new();
    let unjudged: Vec<&String> = all
        .iter()
        .filter(|file| {
            let line = FILES
                .iter()
                .position(|(start, end, _)| file.starts_with(start) && file.ends_with(end));
            used.extend(line);
            line.is_none()
        })
        .collect();
    assert!(unjudged.is_empty(), "no test judges {unjudged:#?}");
    for (number, (start, end, _)) in FILES.iter().enumerate() {
        assert!(used.contains(&number), "nothing is left of {start}*{end}");
    }
}
