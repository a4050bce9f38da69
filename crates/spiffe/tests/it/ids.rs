//! SPIFFE-ID.md, section 2.

use proptest::prelude::*;
use spiffe::{IdError, SpiffeId, TrustDomain};

#[test]
fn parts_of_an_id() {
    let id: SpiffeId = "spiffe://example.org/payments/api".parse().unwrap();
    assert_eq!(id.trust_domain_name(), "example.org");
    assert_eq!(id.path(), "/payments/api");
    assert_eq!(id.identity_path(), "payments/api");
    assert!(!id.is_root());
    let root = id.trust_domain().id();
    assert_eq!(root.as_str(), "spiffe://example.org");
    assert!(root.is_root());
    assert_eq!(root.identity_path(), "");
    assert_eq!(id, id.trust_domain().identity("payments/api").unwrap());
    let json = serde_json::to_string(&id).unwrap();
    assert_eq!(json, "\"spiffe://example.org/payments/api\"");
    assert_eq!(serde_json::from_str::<SpiffeId>(&json).unwrap(), id);
}

#[test]
fn what_is_not_an_id_is_refused() {
    for (uri, expected) in [
        ("", IdError::Scheme),
        ("spiffe:/example.org/a", IdError::Scheme),
        ("SPIFFE://example.org/a", IdError::Scheme),
        ("https://example.org/a", IdError::Scheme),
        ("spiffe://", IdError::TrustDomain),
        ("spiffe:///a", IdError::TrustDomain),
        ("spiffe://Example.org/a", IdError::TrustDomain),
        ("spiffe://user@example.org/a", IdError::TrustDomain),
        ("spiffe://example.org:80/a", IdError::TrustDomain),
        ("spiffe://[::1]/a", IdError::TrustDomain),
        ("spiffe://ex%41mple.org/a", IdError::TrustDomain),
        ("spiffe://example.org?a=b", IdError::TrustDomain),
        ("spiffe://example.org/", IdError::Path),
        ("spiffe://example.org/a/", IdError::Path),
        ("spiffe://example.org//a", IdError::Path),
        ("spiffe://example.org/./a", IdError::Path),
        ("spiffe://example.org/a/..", IdError::Path),
        ("spiffe://example.org/a?b", IdError::Path),
        ("spiffe://example.org/a#b", IdError::Path),
        ("spiffe://example.org/%61", IdError::Path),
        ("spiffe://example.org/ä", IdError::Path),
        ("spiffe://example.org/a b", IdError::Path),
        ("spiffe://example.org/a\0", IdError::Path),
    ] {
        assert_eq!(uri.parse::<SpiffeId>(), Err(expected), "{uri:?}");
    }
}

#[test]
fn what_the_specification_allows_is_accepted() {
    for uri in [
        "spiffe://example.org",
        "spiffe://192.0.2.1/a",
        "spiffe://trust_domain-1.example.org/A.b-c_d/...",
        "spiffe://-/.hidden",
    ] {
        assert!(uri.parse::<SpiffeId>().is_ok(), "{uri:?}");
    }
}

#[test]
fn lengths_end_where_the_specification_says() {
    let domain = TrustDomain::new(&"a".repeat(255)).unwrap();
    assert!(TrustDomain::new(&"a".repeat(256)).is_err());
    let room = 2048 - domain.id().as_str().len() - 1;
    assert!(domain.identity(&"a".repeat(room)).is_ok());
    assert_eq!(
        domain.identity(&"a".repeat(room + 1)),
        Err(IdError::TooLong { length: 2049 })
    );
}

proptest! {
    #[test]
    fn parsing_never_panics_and_keeps_every_byte(text: String) {
        if let Ok(id) = text.parse::<SpiffeId>() {
            prop_assert_eq!(id.as_str(), text);
        }
    }

    #[test]
    fn ids_of_the_right_form_parse(
        domain in "[a-z0-9._-]{1,40}",
        segments in prop::collection::vec("[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,20}", 0..6),
    ) {
        let path: String = segments.iter().map(|segment| format!("/{segment}")).collect();
        let id: SpiffeId = format!("spiffe://{domain}{path}").parse().unwrap();
        prop_assert_eq!(id.trust_domain_name(), domain);
        prop_assert_eq!(id.path(), path);
    }

    #[test]
    fn one_bad_character_is_enough(at in 0..17_usize, bad in "[^a-zA-Z0-9._/-]") {
        let good = "spiffe://example.org/abc/def";
        let (before, after) = good.split_at(9 + at);
        let uri = format!("{before}{bad}{after}");
        prop_assert!(uri.parse::<SpiffeId>().is_err());
    }
}
