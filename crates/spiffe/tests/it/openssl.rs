//! OpenSSL as the other implementation: it accepts what is built, under its strictest rules.

use crate::kit::{Domain, NOW, key, serial};
use crypto::{Algorithm, base64};
use spiffe::crl::{self, CrlParams, Revoked};
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) struct OpenSsl {
    program: PathBuf,
    folder: tempfile::TempDir,
}

impl OpenSsl {
    /// `None` after the skip has been recorded.
    pub(crate) fn find(test: &str) -> Option<Self> {
        let Some(program) = testkit::tool("openssl") else {
            testkit::skip(test, "openssl is not installed");
            return None;
        };
        let folder = testkit::temp_dir().unwrap();
        Some(Self { program, folder })
    }

    pub(crate) fn pem(&self, name: &str, label: &str, ders: &[&[u8]]) -> PathBuf {
        let text: String = ders
            .iter()
            .map(|der| {
                let lines: Vec<String> = base64::encode(der)
                    .as_bytes()
                    .chunks(64)
                    .map(|line| String::from_utf8_lossy(line).into_owned())
                    .collect();
                format!(
                    "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
                    lines.join("\n")
                )
            })
            .collect();
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Whether it succeeded, and everything that it printed.
    pub(crate) fn run(&self, arguments: &[&str], files: &[&Path]) -> (bool, String) {
        let output = Command::new(&self.program)
            .args(arguments)
            .args(files)
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&text).into_owned(),
        )
    }
}

fn verify(openssl: &OpenSsl, chain: &[Vec<u8>], root: &[u8], more: &[&str]) -> (bool, String) {
    let root = openssl.pem("root.pem", "CERTIFICATE", &[root]);
    let leaf = openssl.pem("leaf.pem", "CERTIFICATE", &[&chain[0]]);
    let untrusted = openssl.pem("issuing.pem", "CERTIFICATE", &[&chain[1]]);
    let now = NOW.as_secs().to_string();
    let mut arguments = vec!["verify", "-x509_strict", "-check_ss_sig", "-attime", &now];
    arguments.extend(more);
    let paths = [root.to_str().unwrap(), untrusted.to_str().unwrap()];
    arguments.extend(["-CAfile", paths[0], "-untrusted", paths[1]]);
    openssl.run(&arguments, &[&leaf])
}

#[test]
fn openssl_verifies_every_kind_of_chain_strictly() {
    let Some(openssl) = OpenSsl::find("openssl_verifies_every_kind_of_chain_strictly") else {
        return;
    };
    for algorithm in [
        Algorithm::EcdsaP256,
        Algorithm::EcdsaP384,
        Algorithm::Ed25519,
    ] {
        let domain = Domain::with("example.org", algorithm);
        let workload = key(Algorithm::EcdsaP256);
        let mut params = domain.leaf_params("payments/api", workload.as_ref());
        for names in [vec![], vec!["api.example.org".to_owned()]] {
            params.dns_names = names;
            for chain in [domain.chain(&params), domain.recorded_chain(&params)] {
                for purpose in ["sslclient", "sslserver"] {
                    let (accepted, text) = verify(
                        &openssl,
                        &chain,
                        domain.root.certificate(),
                        &["-purpose", purpose],
                    );
                    assert!(accepted, "{algorithm} {purpose}: {text}");
                }
            }
        }
        let other = Domain::with("example.org", algorithm);
        let (accepted, _) = verify(
            &openssl,
            &domain.chain(&params),
            other.root.certificate(),
            &[],
        );
        assert!(!accepted);
    }
}

#[test]
fn openssl_reads_what_a_leaf_says() {
    let Some(openssl) = OpenSsl::find("openssl_reads_what_a_leaf_says") else {
        return;
    };
    let domain = Domain::new("example.org");
    let params = domain.leaf_params("payments/api", key(Algorithm::EcdsaP256).as_ref());
    let leaf = openssl.pem(
        "leaf.pem",
        "CERTIFICATE",
        &[&domain.recorded_chain(&params)[0]],
    );
    let (_, text) = openssl.run(&["x509", "-noout", "-text", "-in"], &[&leaf]);
    for expected in [
        "Version: 3 (0x2)",
        "Subject: \n",
        "X509v3 Key Usage: critical\n                Digital Signature\n",
        "TLS Web Server Authentication, TLS Web Client Authentication",
        "CA:FALSE",
        "X509v3 Subject Alternative Name: critical\n                URI:spiffe://example.org/payments/api\n",
        "2.25.184717421808418081849810390846469522735:",
        "Not After : Nov 22 03:02:49 2026 GMT",
    ] {
        assert!(text.contains(expected), "{expected:?} not in {text}");
    }
    let last = text.rfind("X509v3").unwrap();
    assert!(text.find("2.25.").unwrap() > last, "the receipt is last");
}

#[test]
fn openssl_obeys_the_revocation_list() {
    let Some(openssl) = OpenSsl::find("openssl_obeys_the_revocation_list") else {
        return;
    };
    let domain = Domain::new("example.org");
    let workload = key(Algorithm::EcdsaP256);
    let params = domain.leaf_params("payments/api", workload.as_ref());
    let chain = domain.chain(&params);
    let list = |issuer, revoked: &[Revoked]| {
        let params = CrlParams {
            number: 128,
            this_update: NOW,
            next_update: NOW.plus_secs(3600),
        };
        crl::build(issuer, &params, revoked).unwrap()
    };
    let entry = |serial| Revoked { serial, at: NOW };
    for (revoked, accepted) in [
        (vec![], true),
        (vec![entry(serial())], true),
        (vec![entry(serial()), entry(params.serial)], false),
    ] {
        let leafs = list(&domain.issuing, &revoked);
        let cas = list(&domain.root, &[]);
        let crls = openssl.pem("crls.pem", "X509 CRL", &[&leafs, &cas]);
        let crls = crls.to_str().unwrap();
        let more = ["-crl_check_all", "-CRLfile", crls];
        let (verified, text) = verify(&openssl, &chain, domain.root.certificate(), &more);
        assert_eq!(verified, accepted, "{text}");
        assert_eq!(text.contains("certificate revoked"), !accepted, "{text}");
    }
}
