//! Two authors, and everybody who would like to be two.

use super::*;
use crypto::KeyPair;

const NOW: u64 = 1_800_000_000_000;

fn key() -> KeyPair {
    KeyPair::generate(crypto::Algorithm::Ed25519).unwrap()
}

fn subject() -> ApprovalSubject {
    ApprovalSubject {
        trust_domain: "example.org".to_owned(),
        version: "aa".repeat(32),
        base: "bb".repeat(32),
        base_index: 7,
        changes: vec![GovernedChange {
            kind: GovernedKind::Removed,
            of: "no agent writes".to_owned(),
            before: Some("cc".repeat(32)),
            after: None,
        }],
    }
}

struct Two {
    keys: [KeyPair; 2],
    authors: BTreeMap<String, PublicKey>,
}

impl Two {
    fn new() -> Self {
        let keys = [key(), key()];
        let named = ["ada", "bob"].into_iter().zip(&keys);
        let authors = named.map(|(name, key)| (name.to_owned(), key.public_key().clone()));
        Self {
            authors: authors.collect(),
            keys,
        }
    }

    fn sign(&self, who: usize, subject: ApprovalSubject, expires: u64) -> Approval {
        Approval::sign(subject, ["ada", "bob"][who], expires, &self.keys[who]).unwrap()
    }

    fn code(&self, approvals: &[Approval]) -> String {
        match approved(&subject(), approvals, &self.authors, NOW) {
            Ok(found) => format!("{} signed", found.len()),
            Err(finding) => finding.code.into_owned(),
        }
    }
}

#[test]
fn two_authors_approve_and_one_alone_does_not() {
    let two = Two::new();
    let (ada, bob) = (
        two.sign(0, subject(), NOW + 1_000),
        two.sign(1, subject(), NOW + 1_000),
    );
    assert_eq!(two.code(&[ada.clone(), bob.clone()]), "2 signed");
    assert_eq!(two.code(&[]), "ESTATE-APPROVAL-ALONE");
    assert_eq!(
        two.code(std::slice::from_ref(&ada)),
        "ESTATE-APPROVAL-ALONE"
    );
    let later = two.sign(0, subject(), NOW + 2_000);
    assert_eq!(two.code(&[ada.clone(), later]), "ESTATE-APPROVAL-ALONE");
    assert_eq!(two.code(&vec![ada; MOST + 1]), "ESTATE-APPROVAL-MANY");
}

/// Even if an estate that compiles could not have it so.
#[test]
fn one_key_under_two_names_is_one_author() {
    let mut two = Two::new();
    let ada = two.keys[0].public_key().clone();
    two.authors.insert("bob".to_owned(), ada);
    let second = Approval::sign(subject(), "bob", NOW + 1_000, &two.keys[0]).unwrap();
    let first = two.sign(0, subject(), NOW + 1_000);
    assert_eq!(two.code(&[first, second]), "ESTATE-APPROVAL-ALONE");
}

#[test]
fn an_approval_is_for_one_version_in_one_place_with_one_list_of_changes() {
    let two = Two::new();
    let good = two.sign(0, subject(), NOW + 1_000);
    let changes: [fn(&mut ApprovalSubject); 5] = [
        |one| one.version = "dd".repeat(32),
        |one| one.base = "dd".repeat(32),
        |one| one.base_index += 1,
        |one| one.trust_domain = "example.com".to_owned(),
        |one| one.changes[0].kind = GovernedKind::Weakened,
    ];
    for change in changes {
        let mut other = subject();
        change(&mut other);
        let signed = two.sign(1, other, NOW + 1_000);
        assert_eq!(
            two.code(&[good.clone(), signed.clone()]),
            "ESTATE-APPROVAL-OTHER"
        );
        // The signature of another thing, beside what is asked for.
        let moved = Approval {
            subject: subject(),
            ..signed
        };
        assert_eq!(
            two.code(&[good.clone(), moved]),
            "ESTATE-APPROVAL-SIGNATURE"
        );
    }
}

#[test]
fn an_approval_that_has_expired_or_never_would_is_refused() {
    let two = Two::new();
    let good = two.sign(0, subject(), NOW + 1_000);
    for expires in [0, NOW, NOW + LONGEST_APPROVAL_MS + 1, u64::MAX] {
        let signed = two.sign(1, subject(), expires);
        assert_eq!(
            two.code(&[good.clone(), signed.clone()]),
            "ESTATE-APPROVAL-EXPIRED"
        );
        let longer = Approval {
            expires: NOW + 1_000,
            ..signed
        };
        assert_eq!(
            two.code(&[good.clone(), longer]),
            "ESTATE-APPROVAL-SIGNATURE"
        );
    }
}

#[test]
fn a_stranger_and_a_name_that_is_taken_approve_nothing() {
    let two = Two::new();
    let good = two.sign(0, subject(), NOW + 1_000);
    let stranger = key();
    let unknown = Approval::sign(subject(), "eve", NOW + 1_000, &stranger).unwrap();
    assert_eq!(two.code(&[good.clone(), unknown]), "ESTATE-APPROVAL-AUTHOR");
    let posing = Approval::sign(subject(), "bob", NOW + 1_000, &stranger).unwrap();
    assert_eq!(
        two.code(&[good.clone(), posing]),
        "ESTATE-APPROVAL-SIGNATURE"
    );
    let mut renamed = good.clone();
    renamed.author = "bob".to_owned();
    assert_eq!(two.code(&[good, renamed]), "ESTATE-APPROVAL-SIGNATURE");
}
