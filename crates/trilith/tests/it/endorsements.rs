//! `trilith attest endorsements`: a bundle is filled from a vendor of the test's own, shown, and taken by the
//! verifier's reader; what is wrong leaves it as it was.

use crate::stock::{SNP_CRL, stock};
use crate::tee_forged::{domain, guest, snp_root, tdx_root};
use crate::vendor::{Reply, Vendor, authority};
use attest_tee::Bundle;
use attest_tee::intel::Ca;
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

fn trilith(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trilith"))
        .args(["attest", "endorsements"])
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("the binary starts")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_is_filled_where_there_is_a_network() {
    let vendor = Vendor::start().await;
    stock(&vendor, &guest(), &domain());
    let folder = tempfile::tempdir().expect("a folder");
    let here = folder.path();
    for (name, text) in [
        ("ca.pem", authority()),
        ("amd.pem", snp_root()),
        ("intel.pem", tdx_root()),
    ] {
        std::fs::write(here.join(name), text).expect("a file");
    }
    let url = vendor.url();
    let fetch = |root: &str, names: &[&str]| {
        let fixed = [
            "fetch",
            "--into",
            "b.json",
            "--ca",
            "ca.pem",
            "--amd-url",
            &url,
            "--intel-url",
            &url,
            "--root",
            root,
        ];
        trilith(here, &[&fixed, names].concat())
    };
    let key = format!("snp-key:milan:{}:03010000000018d9", "c1".repeat(64));
    let done = fetch("amd.pem", &[&key, "snp-crl:milan"]);
    assert!(done.status.success(), "{done:?}");
    let platform = [
        "tcb-info:tdx:f0f0f0f0f0f0",
        "qe-identity:tdx",
        "pck-crl:platform",
        "intel-root-crl",
    ];
    let part = fetch("intel.pem", &platform[..3]);
    assert_eq!(part.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&part.stderr).contains("CLI-ENDORSEMENTS"));
    let done = fetch("intel.pem", &platform);
    assert!(done.status.success(), "{done:?}");

    let whole = std::fs::read(here.join("b.json")).expect("it was written");
    let bundle = Bundle::parse(&whole).expect("it is a bundle");
    assert_eq!(bundle.list().len(), 6, "what was there before is there");
    assert!(bundle.collateral(true, [0xf0; 6], Ca::Platform).is_some());
    let listed = trilith(here, &["list", "b.json"]);
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(
        text.contains(&key) && text.contains("snp-crl:milan"),
        "{text}"
    );
    let listed = trilith(here, &["list", "b.json", "--json"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    let listed = listed.as_array().expect("an array");
    assert!(
        listed.iter().all(|one| one["current"] == true),
        "{listed:?}"
    );

    // A forged list, a vendor that redirects, another root: nothing is written.
    let mut forged = guest();
    forged.listed_by_other = true;
    let forged = Reply::good(&forged.crl().expect("a list"));
    let elsewhere = vec![("Location".to_owned(), "http://169.254.169.254/".to_owned())];
    for (root, reply) in [
        ("amd.pem", forged),
        ("amd.pem", Reply::Answer(302, elsewhere, Vec::new())),
        ("intel.pem", Reply::good(b"")),
    ] {
        vendor.put(SNP_CRL, reply);
        let refused = fetch(root, &["snp-crl:milan"]);
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        let now = std::fs::read(here.join("b.json")).expect("it is there");
        assert!(now == whole);
    }
    let unknown = fetch("amd.pem", &["snp-crl:rome"]);
    assert_eq!(unknown.status.code(), Some(2));
}
