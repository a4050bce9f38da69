//! X509-SVID.md, requirement by requirement.

use crate::forge::{Forged, extension, usages};
use crate::kit::{Domain, NOW, key, serial};
use crypto::Algorithm;
use facts::Timestamp;
use proptest::prelude::*;
use spiffe::x509::authority::{self, AuthorityParams};
use spiffe::{Bundle, Issuer, TrustDomain, ValidatedSvid, X509Svid};

fn validate(
    chain: &[Vec<u8>],
    bundle: &Bundle,
    now: Timestamp,
) -> Result<ValidatedSvid, facts::Finding> {
    X509Svid::parse(chain)?.validate(bundle, now)
}

/// The code of the refusal.
fn code(chain: &[Vec<u8>], bundle: &Bundle, now: Timestamp) -> String {
    validate(chain, bundle, now)
        .map(|svid| format!("accepted {}", svid.spiffe_id))
        .unwrap_or_else(|finding| finding.code.into_owned())
}

#[test]
fn what_is_issued_validates() {
    for algorithm in [
        Algorithm::EcdsaP256,
        Algorithm::EcdsaP384,
        Algorithm::Ed25519,
    ] {
        let domain = Domain::with("example.org", algorithm);
        let workload = key(Algorithm::EcdsaP256);
        let mut params = domain.leaf_params("payments/api", workload.as_ref());
        params.dns_names = vec!["api.example.org".to_owned()];
        let svid = validate(&domain.chain(&params), &domain.bundle(), NOW).unwrap();
        assert_eq!(svid.spiffe_id, domain.id("payments/api"));
        assert_eq!(svid.serial, params.serial.to_string());
        assert_eq!(svid.public_key, params.public_key);
        assert_eq!(
            (svid.not_before.as_secs(), svid.not_after.as_secs()),
            (params.not_before.as_secs(), params.not_after.as_secs())
        );
        assert_eq!(svid.receipt, None);
        assert_eq!(
            svid.issuer_spki_sha256,
            domain.issuing.public_key().spki_sha256()
        );
    }
}

#[test]
fn the_receipt_is_the_only_difference() {
    let domain = Domain::new("example.org");
    let workload = key(Algorithm::EcdsaP256);
    let params = domain.leaf_params("a", workload.as_ref());
    let tbs = domain.issuing.leaf(&params).unwrap();
    let without = validate(&domain.chain(&params), &domain.bundle(), NOW).unwrap();
    assert_eq!(without.tbs_without_receipt_sha256, tbs.sha256());
    // Lengths of one, two and three bytes at each layer.
    for length in [0, 1, 100, 200, 300, 3000, 40_000] {
        let receipt = vec![7; length];
        let chain = domain.chain_with(&params, &receipt);
        let svid = validate(&chain, &domain.bundle(), NOW).unwrap();
        assert_eq!(svid.receipt.as_deref(), Some(receipt.as_slice()));
        assert_eq!(svid.tbs_without_receipt_sha256, tbs.sha256(), "{length}");
    }
}

#[test]
fn the_forge_makes_valid_leaves_when_asked_to() {
    let domain = Domain::new("example.org");
    let workload = key(Algorithm::EcdsaP256);
    let chain = Forged::default().chain(&domain, workload.as_ref());
    let svid = validate(&chain, &domain.bundle(), NOW).unwrap();
    assert_eq!(svid.spiffe_id, domain.id("payments/api"));
}

#[test]
fn leaves_that_are_no_svids_are_refused() {
    let domain = Domain::new("example.org");
    let workload = key(Algorithm::EcdsaP256);
    let good = Forged::default;
    let id = |uri: &str| vec![uri.to_owned()];
    let key_usage = |critical, bits: &[u8]| Some(extension(0x0f, critical, bits));
    let cases: Vec<(&str, Forged)> = vec![
        (
            "SVID-URI-SAN",
            Forged {
                uris: vec![],
                ..good()
            },
        ),
        (
            "SVID-URI-SAN",
            Forged {
                uris: vec![
                    "spiffe://example.org/a".to_owned(),
                    "spiffe://example.org/b".to_owned(),
                ],
                ..good()
            },
        ),
        (
            "SVID-URI-SAN",
            Forged {
                uris: vec![
                    "spiffe://example.org/a".to_owned(),
                    "https://example.org/".to_owned(),
                ],
                ..good()
            },
        ),
        (
            "SVID-ID",
            Forged {
                uris: id("https://example.org/a"),
                ..good()
            },
        ),
        (
            "SVID-ID",
            Forged {
                uris: id("spiffe://example.org"),
                ..good()
            },
        ),
        (
            "SVID-ID",
            Forged {
                uris: id("spiffe://example.org/"),
                ..good()
            },
        ),
        (
            "SVID-ID",
            Forged {
                uris: id("spiffe://example.org/a%2fb"),
                ..good()
            },
        ),
        (
            "SVID-ID",
            Forged {
                uris: id("spiffe://example.org:8443/a"),
                ..good()
            },
        ),
        (
            "SVID-TRUST-DOMAIN",
            Forged {
                uris: id("spiffe://example.com/a"),
                ..good()
            },
        ),
        (
            "SVID-CA",
            Forged {
                basic_constraints: Some(extension(0x13, true, &[0x30, 3, 1, 1, 0xff])),
                ..good()
            },
        ),
        (
            "SVID-KEY-USAGE",
            Forged {
                key_usage: None,
                ..good()
            },
        ),
        (
            "SVID-KEY-USAGE",
            Forged {
                key_usage: key_usage(false, &[3, 2, 7, 0x80]),
                ..good()
            },
        ),
        // keyEncipherment alone, then digitalSignature with keyCertSign, then with cRLSign.
        (
            "SVID-KEY-USAGE",
            Forged {
                key_usage: key_usage(true, &[3, 2, 5, 0x20]),
                ..good()
            },
        ),
        (
            "SVID-KEY-USAGE",
            Forged {
                key_usage: key_usage(true, &[3, 2, 2, 0x84]),
                ..good()
            },
        ),
        (
            "SVID-KEY-USAGE",
            Forged {
                key_usage: key_usage(true, &[3, 2, 1, 0x82]),
                ..good()
            },
        ),
        (
            "SVID-EXTENDED-KEY-USAGE",
            Forged {
                extended_key_usage: Some(extension(0x25, false, &usages(&[2]))),
                ..good()
            },
        ),
        (
            "SVID-EXTENDED-KEY-USAGE",
            Forged {
                extended_key_usage: Some(extension(0x25, false, &usages(&[1]))),
                ..good()
            },
        ),
        (
            "SVID-SAN-CRITICAL",
            Forged {
                san_critical: false,
                ..good()
            },
        ),
        // An extension that stands twice; one that is critical and unknown.
        (
            "SVID-PARSE",
            Forged {
                more: vec![extension(0x13, true, &[0x30, 0])],
                ..good()
            },
        ),
        (
            "SVID-PATH",
            Forged {
                more: vec![extension(0x7e, true, &[5, 0])],
                ..good()
            },
        ),
        (
            "SVID-PARSE",
            Forged {
                version: vec![0xa0, 3, 2, 1, 1],
                ..good()
            },
        ),
        (
            "SVID-EXPIRED",
            Forged {
                not_after: NOW.minus_secs(1),
                ..good()
            },
        ),
        (
            "SVID-NOT-YET-VALID",
            Forged {
                not_before: NOW.plus_secs(1),
                ..good()
            },
        ),
    ];
    for (index, (expected, forged)) in cases.iter().enumerate() {
        let chain = forged.chain(&domain, workload.as_ref());
        assert_eq!(
            &code(&chain, &domain.bundle(), NOW),
            expected,
            "case {index}"
        );
    }
    // What the specification allows.
    for allowed in [
        Forged {
            extended_key_usage: None,
            ..good()
        },
        Forged {
            basic_constraints: None,
            ..good()
        },
        Forged {
            key_usage: key_usage(true, &[3, 2, 3, 0xa8]),
            ..good()
        },
        Forged {
            subject: NAMED.to_vec(),
            san_critical: false,
            ..good()
        },
        Forged {
            more: vec![extension(0x7e, false, &[5, 0])],
            ..good()
        },
    ] {
        let chain = allowed.chain(&domain, workload.as_ref());
        assert_eq!(
            code(&chain, &domain.bundle(), NOW),
            "accepted spiffe://example.org/payments/api"
        );
    }
}

#[test]
fn validity_ends_with_its_last_second() {
    let domain = Domain::new("example.org");
    let workload = key(Algorithm::EcdsaP256);
    let params = domain.leaf_params("a", workload.as_ref());
    let chain = domain.chain(&params);
    let bundle = domain.bundle();
    let accepted = "accepted spiffe://example.org/a";
    for (now, expected) in [
        (params.not_before.minus_secs(1), "SVID-NOT-YET-VALID"),
        (params.not_before, accepted),
        (params.not_after, accepted),
        (params.not_after.plus_secs(1), "SVID-EXPIRED"),
    ] {
        assert_eq!(code(&chain, &bundle, now), expected);
    }
}

#[test]
fn only_the_roots_of_the_own_trust_domain_count() {
    let (ours, theirs) = (Domain::new("example.org"), Domain::new("example.com"));
    let workload = key(Algorithm::EcdsaP256);
    // Their CA signs a leaf that names our trust domain.
    let mut params = theirs.leaf_params("a", workload.as_ref());
    params.spiffe_id = ours.id("a");
    let chain = theirs.chain(&params);
    assert_eq!(code(&chain, &ours.bundle(), NOW), "SVID-PATH");
    assert_eq!(code(&chain, &theirs.bundle(), NOW), "SVID-TRUST-DOMAIN");
    // A CA with the same name and key identifier, but another key.
    let impostor = Domain::new("example.org");
    let chain = impostor.chain(&impostor.leaf_params("a", workload.as_ref()));
    assert_eq!(code(&chain, &ours.bundle(), NOW), "SVID-PATH");
    let empty = Bundle::new(ours.trust_domain.clone());
    let chain = ours.chain(&ours.leaf_params("a", workload.as_ref()));
    assert_eq!(code(&chain, &empty, NOW), "SVID-BUNDLE-EMPTY");
}

#[test]
fn every_bit_of_a_leaf_counts() {
    let domain = Domain::new("example.org");
    let workload = key(Algorithm::EcdsaP256);
    let chain = domain.chain(&domain.leaf_params("a", workload.as_ref()));
    let bundle = domain.bundle();
    for at in 0..chain[0].len() {
        let mut changed = chain.clone();
        changed[0][at] ^= 1;
        assert!(validate(&changed, &bundle, NOW).is_err(), "byte {at}");
    }
}

#[test]
fn a_missing_or_wrong_intermediate_breaks_the_path() {
    let domain = Domain::new("example.org");
    let workload = key(Algorithm::EcdsaP256);
    let chain = domain.chain(&domain.leaf_params("a", workload.as_ref()));
    let other = Domain::new("example.org");
    let bundle = domain.bundle();
    assert_eq!(code(&chain[..1], &bundle, NOW), "SVID-PATH");
    let wrong = [chain[0].clone(), other.issuing.certificate().to_vec()];
    assert_eq!(code(&wrong, &bundle, NOW), "SVID-PATH");
    assert_eq!(code(&[], &bundle, NOW), "SVID-PARSE");
    let many = vec![chain[0].clone(); 9];
    assert_eq!(code(&many, &bundle, NOW), "SVID-SIZE");
    assert_eq!(code(&[vec![0x30; 70_000]], &bundle, NOW), "SVID-SIZE");
}

#[test]
fn signing_certificates_do_not_authenticate() {
    let domain = Domain::new("example.org");
    let chain = [domain.issuing.certificate().to_vec()];
    assert_eq!(code(&chain, &domain.bundle(), NOW), "SVID-CA");
    let chain = [domain.root.certificate().to_vec()];
    assert_eq!(code(&chain, &domain.bundle(), NOW), "SVID-CA");
}

const NAMED: [u8; 14] = [
    0x30, 0x0c, 0x31, 0x0a, 0x30, 0x08, 0x06, 0x03, 0x55, 0x04, 0x03, 0x0c, 0x01, b'x',
];

#[test]
fn an_svid_cannot_issue_svids() {
    let domain = Domain::new("example.org");
    let (thief, workload) = (key(Algorithm::EcdsaP256), key(Algorithm::EcdsaP256));
    let own = Forged {
        subject: NAMED.to_vec(),
        ..Forged::default()
    };
    let own = own.chain(&domain, thief.as_ref());
    assert!(validate(&own, &domain.bundle(), NOW).is_ok());
    let issued = Forged {
        issuer: Some((NAMED.to_vec(), thief.clone())),
        ..Forged::default()
    };
    let leaf = issued.chain(&domain, workload.as_ref());
    let chain = [leaf[0].clone(), own[0].clone(), own[1].clone()];
    assert_eq!(code(&chain, &domain.bundle(), NOW), "SVID-PATH");
    assert!(Issuer::new(&own[0], thief).is_err());
}

#[test]
fn a_ca_without_key_cert_sign_issues_nothing() {
    let domain = Domain::new("example.org");
    let (sub, workload) = (key(Algorithm::EcdsaP256), key(Algorithm::EcdsaP256));
    let root = crate::forge::subject(domain.root.certificate());
    let intermediate = |bits: &[u8]| Forged {
        subject: NAMED.to_vec(),
        basic_constraints: Some(extension(0x13, true, &[0x30, 3, 1, 1, 0xff])),
        key_usage: Some(extension(0x0f, true, bits)),
        uris: vec!["spiffe://example.org".to_owned()],
        issuer: Some((root.clone(), domain.root.signer().clone())),
        ..Forged::default()
    };
    let issued = Forged {
        issuer: Some((NAMED.to_vec(), sub.clone())),
        ..Forged::default()
    };
    let leaf = issued.chain(&domain, workload.as_ref());
    for (bits, expected) in [
        (&[3, 2, 7, 0x80][..], "SVID-ISSUER-KEY-USAGE"),
        (
            &[3, 2, 2, 0x04],
            "accepted spiffe://example.org/payments/api",
        ),
    ] {
        let ca = intermediate(bits).chain(&domain, sub.as_ref());
        let chain = [leaf[0].clone(), ca[0].clone()];
        assert_eq!(code(&chain, &domain.bundle(), NOW), expected);
    }
}

#[test]
fn the_issuing_ca_signs_leaves_only() {
    let domain = Domain::new("example.org");
    let (sub_key, workload) = (key(Algorithm::EcdsaP256), key(Algorithm::EcdsaP256));
    let params = AuthorityParams {
        serial: serial(),
        not_before: NOW.minus_secs(60),
        not_after: NOW.plus_secs(3600),
    };
    let sub = authority::issuing(
        &domain.trust_domain,
        &params,
        sub_key.public_key(),
        &domain.issuing,
    );
    let sub = Issuer::new(&sub.unwrap(), sub_key).unwrap();
    let tbs = sub
        .leaf(&domain.leaf_params("a", workload.as_ref()))
        .unwrap();
    let leaf = tbs.without_receipt().sign(sub.signer().as_ref()).unwrap();
    let chain = [
        leaf,
        sub.certificate().to_vec(),
        domain.issuing.certificate().to_vec(),
    ];
    assert_eq!(code(&chain, &domain.bundle(), NOW), "SVID-PATH");
}

#[test]
fn an_expired_root_is_none() {
    let domain = Domain::new("example.org");
    let root_key = key(Algorithm::EcdsaP256);
    let trust_domain = TrustDomain::new("example.org").unwrap();
    let params = AuthorityParams {
        serial: serial(),
        not_before: NOW.minus_secs(7200),
        not_after: NOW.minus_secs(3600),
    };
    let root = authority::root(&trust_domain, &params, root_key.as_ref()).unwrap();
    let root = Issuer::new(&root, root_key).unwrap();
    let mut bundle = Bundle::new(trust_domain);
    bundle.add_x509_authority(root.certificate()).unwrap();
    let workload = key(Algorithm::EcdsaP256);
    let tbs = root
        .leaf(&domain.leaf_params("a", workload.as_ref()))
        .unwrap();
    let leaf = tbs.without_receipt().sign(root.signer().as_ref()).unwrap();
    assert_eq!(code(&[leaf], &bundle, NOW), "SVID-BUNDLE-EMPTY");
}

#[test]
fn what_cannot_be_an_svid_is_not_built() {
    let domain = Domain::new("example.org");
    let workload = key(Algorithm::EcdsaP256);
    let good = domain.leaf_params("a", workload.as_ref());
    let mut rootless = good.clone();
    rootless.spiffe_id = domain.trust_domain.id();
    let mut ended = good.clone();
    ended.not_after = ended.not_before;
    let mut named = good.clone();
    named.dns_names = vec!["Example.org".to_owned()];
    for params in [rootless, ended, named] {
        assert!(domain.issuing.leaf(&params).is_err(), "{params:?}");
    }
    let other = key(Algorithm::EcdsaP256);
    assert!(Issuer::new(domain.root.certificate(), other).is_err());
}

#[test]
fn chains_are_read_from_one_run_of_bytes() {
    let domain = Domain::new("example.org");
    let workload = key(Algorithm::EcdsaP256);
    let chain = domain.chain(&domain.leaf_params("a", workload.as_ref()));
    let svid = X509Svid::parse_concatenated(&chain.concat()).unwrap();
    assert!(svid.validate(&domain.bundle(), NOW).is_ok());
    assert_eq!(svid.chain().collect::<Vec<_>>(), chain);
    let cut = &chain.concat()[..chain[0].len() + 20];
    assert_eq!(
        X509Svid::parse_concatenated(cut).unwrap_err().code,
        "SVID-PARSE"
    );
}

proptest! {
    #[test]
    fn parsing_never_panics(bytes: Vec<u8>) {
        drop(X509Svid::parse(&[&bytes]));
        drop(X509Svid::parse_concatenated(&bytes));
    }

    #[test]
    fn changed_leaves_never_panic(changes in prop::collection::vec((0..600_usize, any::<u8>()), 1..6)) {
        let domain = Domain::new("example.org");
        let workload = key(Algorithm::EcdsaP256);
        let mut chain = domain.chain_with(&domain.leaf_params("a", workload.as_ref()), b"receipt");
        for (at, value) in changes {
            if let Some(byte) = chain[0].get_mut(at) {
                *byte = value;
            }
        }
        drop(validate(&chain, &domain.bundle(), NOW));
    }
}
