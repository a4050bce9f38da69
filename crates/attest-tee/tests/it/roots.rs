//! The vendors' roots that are shipped: they are read, and they are what `data/README.md` says.

use crate::evidence::hex_of;
use attest_tee::{intel, nitro, snp};
use std::fs;
use std::path::Path;

#[test]
fn the_roots_that_are_shipped_are_read() {
    snp::Roots::amd().unwrap();
    intel::Roots::intel().unwrap();
    nitro::Roots::aws().unwrap();
}

#[test]
fn the_digests_of_the_roots_are_written_beside_them() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data");
    let readme = fs::read_to_string(data.join("README.md")).unwrap();
    let mut seen = 0;
    for file in [
        "amd/milan.pem",
        "amd/genoa.pem",
        "amd/turin.pem",
        "intel/sgx-root.pem",
        "aws/nitro-root-g1.pem",
    ] {
        let text = fs::read_to_string(data.join(file)).unwrap();
        for der in attest::x509::pem(&text).unwrap() {
            let certificate = attest::x509::parse(&der).unwrap();
            let subject = certificate.subject().iter_common_name().next().unwrap();
            let row = format!(
                "| `{file}` | {} | `{}` |",
                subject.as_str().unwrap(),
                crypto::hex::encode(&crypto::sha256(&der))
            );
            assert!(readme.contains(&row), "{row}");
            seen += 1;
        }
    }
    let digests = readme
        .split('`')
        .filter(|word| word.len() == 64 && crypto::hex::decode(word).is_ok())
        .filter(|word| hex_of(word).len() == 32)
        .count();
    assert_eq!(digests, seen);
}
