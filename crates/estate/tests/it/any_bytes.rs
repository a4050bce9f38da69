//! What has to hold of any bytes in the forms that an estate reads beside policies: who may act for whom, whose
//! signatures count, approvals, cursors. Changes of what is well formed, the same ones in every run.

use crate::fixture::compile;
use crypto::{Algorithm, KeyPair, PublicKey, Signer as _};
use estate::{
    Approval, ApprovalSubject, Cursor, Estate, EstateFiles, GovernedChange, GovernedKind, Party,
    approved,
};
use std::collections::{BTreeMap, BTreeSet};
use testkit::mutation::changed;

const CHANGES: u64 = 400;

fn pem(key: &KeyPair) -> String {
    let der = crypto::base64::encode(key.public_key().spki_der());
    format!("-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n")
}

fn keys() -> [KeyPair; 2] {
    [(); 2].map(|()| KeyPair::generate(Algorithm::Ed25519).unwrap())
}

fn office(keys: &[KeyPair; 2]) -> EstateFiles {
    let mut files = EstateFiles::new();
    let authors = ["ada", "bob"].iter().zip(keys);
    let authors: String = authors
        .map(|(name, key)| {
            format!(
                "[[author]]\nname = \"{name}\"\nkey = '''\n{}'''\n",
                pem(key)
            )
        })
        .collect();
    files.insert(
        "estate.toml",
        format!("trust_domain = \"example.org\"\n{authors}"),
    );
    files.insert(
        "identities/i.toml",
        "[[group]]\nname = \"staff\"\n\
         [[identity]]\npath = \"people/ada\"\nkind = \"person\"\nowner = \"us\"\ngroups = [\"staff\"]\n\
         login = { issuer = \"https://login.example.org\", subject = \"ada-1\" }\n\
         [[identity]]\npath = \"agents/one\"\nkind = \"ai-agent\"\nowner = \"us\"\n\
         [[identity]]\npath = \"agents/two\"\nkind = \"ai-agent\"\nowner = \"us\"\n",
    );
    files.insert(
        "delegations/d.toml",
        "[[delegation]]\nid = \"staff work through one\"\nfrom = 'Group::\"staff\"'\nto = 'Identity::\"agents/one\"'\n\
         actions = [\"select\"]\nresources = ['Schema::\"shop/public\"']\nmax_hops = 2\nmax_ttl = \"1h\"\n\
         [[delegation]]\nid = \"one has two\"\nfrom = 'Identity::\"agents/one\"'\nto = 'Identity::\"agents/two\"'\n",
    );
    files.insert(
        "resources/r.toml",
        "[[database]]\nname = \"shop\"\n[[database.schema]]\nname = \"public\"\n[[database.schema.table]]\nname = \"cards\"\n",
    );
    files.insert(
        "policies/p.cedar",
        "permit (principal, action == Action::\"select\", resource in Schema::\"shop/public\");\n",
    );
    files
}

/// The estate with a change of that file. What does not compile says where and why.
fn with_changed(files: &EstateFiles, file: &str, change: u64) -> Option<Estate> {
    let text = changed(files.0[file].as_bytes(), change);
    let Ok(text) = String::from_utf8(text) else {
        return None;
    };
    let mut files = files.clone();
    files.insert(file, text);
    match Estate::compile(&files) {
        Ok(estate) => Some(estate),
        Err(problems) => {
            assert!(!problems.is_empty());
            for problem in &problems {
                assert!(problem.code.starts_with("ESTATE-"), "{problem}");
                assert!(!problem.message.is_empty(), "{problem}");
            }
            None
        }
    }
}

#[test]
fn any_delegations_that_are_read_lead_somewhere_and_have_an_end() {
    let files = office(&keys());
    let mut read = 0;
    for change in 0..CHANGES {
        let Some(estate) = with_changed(&files, "delegations/d.toml", change) else {
            continue;
        };
        read += 1;
        let mut ids = BTreeSet::new();
        for delegation in estate.delegations() {
            assert!(ids.insert(&delegation.id));
            assert!((1..=7).contains(&delegation.max_hops));
            assert!(delegation.max_ttl.as_secs() <= 24 * 3_600);
            if let Party::Identity(path) = &delegation.to {
                assert!(!estate.identity(path).unwrap().is_person());
            }
            let scope = &delegation.scope;
            let resources = scope.resources.iter().flatten();
            assert!(resources.into_iter().all(|one| one.kind.is_classified()));
        }
    }
    assert!(read > 0, "no change is read: the test shows nothing");
}

#[test]
fn any_authors_that_are_read_have_a_key_each() {
    let files = office(&keys());
    let mut read = 0;
    for change in 0..CHANGES {
        if let Some(estate) = with_changed(&files, "estate.toml", change) {
            read += 1;
            let keys: BTreeSet<_> = estate.authors().values().map(PublicKey::spki_der).collect();
            assert_eq!(keys.len(), estate.authors().len(), "{change}");
        }
    }
    assert!(read > 0, "no change is read: the test shows nothing");
}

/// Two authors signed: no change of what one of them signed counts in its place.
#[test]
fn no_changed_approval_counts_in_the_place_of_what_was_signed() {
    let keys = keys();
    let authors: BTreeMap<String, PublicKey> = ["ada", "bob"]
        .iter()
        .zip(&keys)
        .map(|(name, key)| ((*name).to_owned(), key.public_key().clone()))
        .collect();
    let subject = ApprovalSubject {
        trust_domain: "example.org".to_owned(),
        version: "1".repeat(64),
        base: "2".repeat(64),
        base_index: 7,
        changes: vec![GovernedChange {
            kind: GovernedKind::Weakened,
            of: "nobody reads cards".to_owned(),
            before: Some("3".repeat(64)),
            after: None,
        }],
    };
    let expires = 1_000_000;
    let sign =
        |name: &str, key: &KeyPair| Approval::sign(subject.clone(), name, expires, key).unwrap();
    let (ada, bob) = (sign("ada", &keys[0]), sign("bob", &keys[1]));
    approved(&subject, &[ada.clone(), bob.clone()], &authors, 1).unwrap();
    let bytes = serde_json::to_vec(&bob).unwrap();
    let mut read = 0;
    for change in 0..4_000 {
        let Ok(other) = serde_json::from_slice::<Approval>(&changed(&bytes, change)) else {
            continue;
        };
        read += 1;
        let again = serde_json::to_vec(&other).unwrap();
        assert_eq!(serde_json::from_slice::<Approval>(&again).unwrap(), other);
        if other == bob {
            continue;
        }
        let both = [ada.clone(), other.clone()];
        let refused = approved(&subject, &both, &authors, 1);
        let finding = refused.err();
        let finding = finding.unwrap_or_else(|| panic!("{change}: {other:?}"));
        assert!(finding.code.starts_with("ESTATE-APPROVAL-"), "{finding:?}");
        assert!(
            finding.next.is_some() || finding.expected.is_some(),
            "{finding:?}"
        );
    }
    assert!(read > 100, "{read}");
}

/// Whoever makes up a cursor is answered a part of the answer, or told that it is none.
#[test]
fn any_cursor_leads_into_its_answer_or_is_none() {
    let estate = compile(&office(&keys()));
    let whole: Vec<_> = estate
        .accesses_of("agents/one")
        .map(Result::unwrap)
        .collect();
    assert!(!whole.is_empty());
    let mut accesses = estate.accesses_of("agents/one");
    let first = accesses.page(1, usize::MAX);
    let seed = first
        .next
        .unwrap_or_else(|| estate.accesses_of("agents/one").cursor().to_string());
    let mut gone_on = 0;
    for change in 0..4_000 {
        let text = changed(seed.as_bytes(), change);
        let Ok(text) = String::from_utf8(text) else {
            continue;
        };
        let Ok(cursor) = text.parse::<Cursor>() else {
            continue;
        };
        assert_eq!(cursor.to_string().parse::<Cursor>(), Ok(cursor.clone()));
        let Ok(rest) = estate.accesses_of("agents/one").after(&cursor) else {
            continue;
        };
        gone_on += 1;
        for access in rest {
            assert!(whole.contains(&access.unwrap()));
        }
    }
    assert!(gone_on > 0);
}
