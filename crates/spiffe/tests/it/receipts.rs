//! Attacks with the CA's key, and with other people's receipts.

use crate::kit::{Domain, NOW, key, prove, serial};
use crypto::Algorithm;
use facts::Finding;
use ledger::body::{Admin, Body as _, Issuance, SvidKind};
use ledger::{Digest, Stamp};
use spiffe::{LeafParams, VerifiedIssuance, X509Svid, receipt};

fn check(domain: &Domain, chain: &[Vec<u8>]) -> Result<VerifiedIssuance, Finding> {
    let svid = X509Svid::parse(chain)?.validate(&domain.bundle(), NOW)?;
    receipt::check(&svid, domain.ledger_key())
}

fn code(domain: &Domain, chain: &[Vec<u8>]) -> String {
    check(domain, chain).unwrap_err().code.into_owned()
}

/// The code for a certificate whose record differs from it by `change`.
fn code_if(change: impl FnOnce(&mut Issuance)) -> String {
    let domain = Domain::new("example.org");
    let params = domain.leaf_params("a", key(Algorithm::EcdsaP256).as_ref());
    let mut issuance = domain.issuance(&params);
    change(&mut issuance);
    code(
        &domain,
        &domain.chain_with(&params, &domain.receipt(&issuance)),
    )
}

#[test]
fn a_recorded_svid_is_accepted() {
    let domain = Domain::new("example.org");
    let params = domain.leaf_params("a", key(Algorithm::EcdsaP256).as_ref());
    let verified = check(&domain, &domain.recorded_chain(&params)).unwrap();
    assert_eq!(verified.issuance, domain.issuance(&params));
    assert_eq!(verified.receipt.index, 0);
}

#[test]
fn a_certificate_that_was_never_recorded_is_refused() {
    let domain = Domain::new("example.org");
    let params = domain.leaf_params("a", key(Algorithm::EcdsaP256).as_ref());
    assert_eq!(
        code(&domain, &domain.chain(&params)),
        "SVID-RECEIPT-MISSING"
    );
}

#[test]
fn a_genuine_receipt_on_another_certificate_is_refused() {
    let domain = Domain::new("example.org");
    let params = domain.leaf_params("a", key(Algorithm::EcdsaP256).as_ref());
    let receipt = domain.receipt(&domain.issuance(&params));
    let transplanted = |changed: LeafParams| code(&domain, &domain.chain_with(&changed, &receipt));
    // Same ID, serial and validity: only the key is the thief's.
    let thief = key(Algorithm::EcdsaP256).public_key().clone();
    let expected = [
        (
            "SVID-RECEIPT-KEY",
            LeafParams {
                public_key: thief,
                ..params.clone()
            },
        ),
        (
            "SVID-RECEIPT-SERIAL",
            LeafParams {
                serial: serial(),
                ..params.clone()
            },
        ),
        (
            "SVID-RECEIPT-ID",
            LeafParams {
                spiffe_id: domain.id("b"),
                ..params.clone()
            },
        ),
        (
            "SVID-RECEIPT-VALIDITY",
            LeafParams {
                not_after: params.not_after.plus_secs(1),
                ..params.clone()
            },
        ),
        (
            "SVID-RECEIPT-TBS",
            LeafParams {
                dns_names: vec!["bank.example".to_owned()],
                ..params.clone()
            },
        ),
    ];
    for (expected, changed) in expected {
        assert_eq!(transplanted(changed), expected);
    }
}

#[test]
fn a_record_that_says_something_else_is_refused() {
    assert_eq!(
        code_if(|record| record.tbs = Digest([0; 32])),
        "SVID-RECEIPT-TBS"
    );
    assert_eq!(
        code_if(|record| record.key = Digest([0; 32])),
        "SVID-RECEIPT-KEY"
    );
    assert_eq!(
        code_if(|record| record.issuer = Digest([0; 32])),
        "SVID-RECEIPT-ISSUER"
    );
    assert_eq!(
        code_if(|record| record.not_before += 1),
        "SVID-RECEIPT-VALIDITY"
    );
    assert_eq!(
        code_if(|record| record.kind = SvidKind::Jwt),
        "SVID-RECEIPT-TYPE"
    );
    assert_eq!(
        code_if(|record| record.serial.clear()),
        "SVID-RECEIPT-SERIAL"
    );
}

#[test]
fn a_receipt_of_another_ledger_is_refused() {
    // The attacker holds the CA key and runs a ledger under the same name.
    let domain = Domain::new("example.org");
    let forked = Domain::new("example.org");
    let params = domain.leaf_params("a", key(Algorithm::EcdsaP256).as_ref());
    let receipt = forked.receipt(&domain.issuance(&params));
    let chain = domain.chain_with(&params, &receipt);
    assert_eq!(code(&domain, &chain), "SVID-RECEIPT-LEDGER");
}

#[test]
fn a_receipt_for_something_else_is_refused() {
    let domain = Domain::new("example.org");
    let params = domain.leaf_params("a", key(Algorithm::EcdsaP256).as_ref());
    let issuance = serde_json::to_value(domain.issuance(&params)).unwrap();
    // Another type with its own kind of body, and one that carries the very body of the issuance.
    for body in [serde_json::json!({"operation": "x"}), issuance] {
        let record = ledger::Record::builder(Admin::KIND, body)
            .seal(domain.ledger_key().origin(), 0, Stamp::default())
            .unwrap();
        let chain = domain.chain_with(&params, &prove(&domain.ledger, &record));
        assert_eq!(code(&domain, &chain), "SVID-RECEIPT-TYPE");
    }
}

#[test]
fn a_receipt_that_is_none_is_refused() {
    let domain = Domain::new("example.org");
    let params = domain.leaf_params("a", key(Algorithm::EcdsaP256).as_ref());
    for bytes in [&b""[..], b"\x01", b"\x02abc", &[0xff; 500]] {
        let chain = domain.chain_with(&params, bytes);
        assert_eq!(code(&domain, &chain), "SVID-RECEIPT-MALFORMED");
    }
}

#[test]
fn every_byte_of_a_receipt_counts() {
    let domain = Domain::new("example.org");
    let params = domain.leaf_params("a", key(Algorithm::EcdsaP256).as_ref());
    let receipt = domain.receipt(&domain.issuance(&params));
    for at in 0..receipt.len() {
        let mut changed = receipt.clone();
        changed[at] ^= 1;
        let chain = domain.chain_with(&params, &changed);
        assert!(check(&domain, &chain).is_err(), "byte {at}");
    }
}

#[test]
fn a_receipt_that_is_not_last_is_refused() {
    use crate::forge::{Forged, der, extension};
    let domain = Domain::new("example.org");
    let workload = key(Algorithm::EcdsaP256);
    let receipt = |critical: &[u8]| {
        let value = der(0x04, &der(0x04, b"receipt"));
        der(
            0x30,
            &[spiffe::x509::RECEIPT_OID_DER, critical, &value].concat(),
        )
    };
    let cases = [
        vec![receipt(b""), extension(0x7e, false, &[5, 0])],
        vec![receipt(&[1, 1, 0xff])],
    ];
    for more in cases {
        let chain = Forged {
            more,
            ..Forged::default()
        }
        .chain(&domain, workload.as_ref());
        let refused = X509Svid::parse(&chain).unwrap_err();
        assert_eq!(refused.code, "SVID-RECEIPT-MALFORMED");
    }
}
