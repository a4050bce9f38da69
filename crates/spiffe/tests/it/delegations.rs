//! Delegation tokens against whoever steals, changes, cuts or mistakes one.

use crate::kit::{Domain, NOW, key, prove, serial};
use crypto::{Algorithm, base64, jws::es256_from_der};
use facts::{Finding, Timestamp};
use ledger::body::{Body as _, Delegation, FactValue};
use ledger::{Digest, Stamp};
use proptest::prelude::*;
use serde_json::{Value, json};
use spiffe::delegation::{
    AUDIENCE, DelegationTbs, DelegationToken, Issued, Link, Narrowed, Presented, TYPE, Terms,
};
use spiffe::jwt::{JwtParams, JwtTbs};
use spiffe::{JwtSvid, SpiffeId};

fn link(domain: &Domain, to: &str, minutes: u64) -> Link {
    Link {
        to: domain.id(to),
        jti: serial(),
        issued_at: NOW,
        expires_at: NOW.plus_secs(minutes * 60),
        scope: Narrowed::default(),
        record: None,
        by: None,
    }
}

/// Ada lets the helper select, who lets the summariser.
fn terms(domain: &Domain) -> Terms {
    let first = Link {
        scope: Narrowed {
            actions: Some(vec!["select".to_owned()]),
            resources: Some(vec!["Schema::\"shop/public\"".to_owned()]),
        },
        ..link(domain, "agents/helper", 15)
    };
    let terms = Terms::new(domain.id("people/ada"), vec![first]).unwrap();
    terms.then(7, link(domain, "agents/summary", 10)).unwrap()
}

/// What the helper's SVID showed when it let the summariser.
fn by(facts: &[(&str, FactValue)]) -> Issued {
    let facts = facts.iter().cloned();
    Issued {
        serial: "0a".repeat(16),
        issuance: 5,
        estate: 2,
        facts: facts
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    }
}

#[test]
fn a_token_says_by_which_svid_each_delegated_on() {
    let domain = Domain::new("example.org");
    let shown = by(&[
        ("machine.join", FactValue::Text("tpm".to_owned())),
        ("machine.tcb", FactValue::Integer(-3)),
        ("machine.secure_boot", FactValue::Bool(true)),
        ("code.signers", FactValue::List(vec!["a\"b".to_owned()])),
    ]);
    let first = Terms::new(
        domain.id("people/ada"),
        vec![link(&domain, "agents/helper", 15)],
    );
    let next = Link {
        by: Some(shown.clone()),
        ..link(&domain, "agents/summary", 10)
    };
    let terms = first.unwrap().then(7, next.clone()).unwrap();
    let text = token(&domain, &terms);
    let delegate = domain.id("agents/summary");
    let presented = present(&domain, &text, &delegate, NOW).unwrap();
    assert_eq!(presented.terms.links()[1].by, Some(shown.clone()));
    presented.recorded(domain.ledger_key()).unwrap();
    // Other facts are another token, which nobody signed; said twice, it is none.
    let claims = part(&text, 1);
    for (from, to) in [
        ("\"tpm\"", "\"tee\""),
        ("\"issuance\":\"5\"", "\"issuance\":\"6\""),
    ] {
        let altered = claims.replace(from, to);
        assert_ne!(altered, claims);
        let mut parts: Vec<String> = text.split('.').map(str::to_owned).collect();
        parts[1] = base64::encode_url(altered.as_bytes());
        assert_eq!(
            code(&domain, &parts.join(".")),
            "DELEGATION-TOKEN-SIGNATURE"
        );
    }
    let twice = claims.replace(
        "\"machine.join\":\"tpm\"",
        "\"machine.join\":\"tee\",\"machine.join\":\"tpm\"",
    );
    assert_ne!(twice, claims);
    let header = part(&text, 0);
    assert_eq!(
        code(&domain, &sign(&domain, &header, &twice)),
        "DELEGATION-TOKEN-PARSE"
    );
    // A person shows no SVID, and nobody more than an issuance does.
    let refused = |person: &str, link: Link| {
        let refused = Terms::new(domain.id(person), vec![link]);
        refused.unwrap_err().code.into_owned()
    };
    assert_eq!(refused("people/ada", next), "DELEGATION-TOKEN-CHAIN");
    let long = Link {
        by: Some(by(&[("x", FactValue::Text("x".repeat(5_000)))])),
        ..link(&domain, "agents/summary", 10)
    };
    let refused = Terms::new(
        domain.id("people/ada"),
        vec![link(&domain, "agents/helper", 15)],
    )
    .unwrap()
    .then(7, long);
    assert_eq!(refused.unwrap_err().code, "DELEGATION-TOKEN-FACTS");
}

fn record(domain: &Domain, terms: &Terms, tbs: &DelegationTbs) -> Delegation {
    let last = terms.last().unwrap();
    Delegation {
        jti: last.jti.to_string(),
        tbs: Digest(tbs.sha256()),
        issuer: Digest(domain.jwt.public_key().spki_sha256()),
        not_before: last.issued_at.as_secs(),
        not_after: last.expires_at.as_secs(),
        chain: terms.principals().map(ToString::to_string).collect(),
        rests_on: Vec::new(),
        actions: None,
        resources: None,
        node: String::new(),
    }
}

fn receipt(domain: &Domain, delegation: &Delegation) -> Vec<u8> {
    let origin = domain.ledger_key().origin();
    let sealed = delegation
        .record()
        .seal(origin, 0, Stamp::default())
        .unwrap();
    prove(&domain.ledger, &sealed)
}

fn token(domain: &Domain, terms: &Terms) -> String {
    let tbs = DelegationTbs::new(terms, "jwt-1").unwrap();
    let receipt = receipt(domain, &record(domain, terms, &tbs));
    tbs.with_receipt(&receipt)
        .sign(domain.jwt.as_ref())
        .unwrap()
}

fn present(
    domain: &Domain,
    token: &str,
    by: &SpiffeId,
    now: Timestamp,
) -> Result<Presented, Finding> {
    DelegationToken::parse(token)?.verify(&domain.bundle(), by, now)
}

fn code(domain: &Domain, token: &str) -> String {
    let by = domain.id("agents/summary");
    let presented = present(domain, token, &by, NOW);
    presented.unwrap_err().code.into_owned()
}

fn sign(domain: &Domain, header: &str, claims: &str) -> String {
    let encode = |text: &str| base64::encode_url(text.as_bytes());
    let input = format!("{}.{}", encode(header), encode(claims));
    let der = domain.jwt.sign(input.as_bytes()).unwrap();
    format!(
        "{input}.{}",
        base64::encode_url(&es256_from_der(&der).unwrap())
    )
}

fn part(token: &str, number: usize) -> String {
    let part = token.split('.').nth(number).unwrap();
    String::from_utf8(base64::decode_url(part).unwrap()).unwrap()
}

#[test]
fn what_is_minted_and_recorded_proves_the_chain_to_its_delegate() {
    let domain = Domain::new("example.org");
    let terms = terms(&domain);
    let text = token(&domain, &terms);
    let by = domain.id("agents/summary");
    let presented = present(&domain, &text, &by, NOW).unwrap();
    assert_eq!(presented.terms, terms);
    let recorded = presented.recorded(domain.ledger_key()).unwrap();
    assert_eq!(recorded.delegation.chain.len(), 3);

    // As RFC 8693 has it: whom it is about, and who acts, the outermost now.
    let claims: Value = serde_json::from_str(&part(&text, 1)).unwrap();
    assert_eq!(claims["sub"], "spiffe://example.org/people/ada");
    assert_eq!(
        claims["act"],
        json!({"sub": "spiffe://example.org/agents/summary", "act": {"sub": "spiffe://example.org/agents/helper"}})
    );
    assert_eq!(claims["aud"], AUDIENCE);
    assert_eq!(claims["delegations"][0]["record"], "7");
    assert_eq!(claims["delegations"][0]["actions"], json!(["select"]));
}

#[test]
fn a_stolen_token_counts_with_no_other_svid() {
    let domain = Domain::new("example.org");
    let text = token(&domain, &terms(&domain));
    // Neither with that of another, nor with those before in the chain.
    for thief in ["agents/thief", "agents/helper", "people/ada"] {
        let refused = present(&domain, &text, &domain.id(thief), NOW).unwrap_err();
        assert_eq!(refused.code, "DELEGATION-TOKEN-PRESENTER", "{thief}");
    }
}

#[test]
fn a_token_ends_with_the_first_of_its_links() {
    let domain = Domain::new("example.org");
    let text = token(&domain, &terms(&domain));
    let by = domain.id("agents/summary");
    assert!(present(&domain, &text, &by, NOW.plus_secs(599)).is_ok());
    let refused = present(&domain, &text, &by, NOW.plus_secs(600)).unwrap_err();
    assert_eq!(refused.code, "DELEGATION-TOKEN-EXPIRED");
}

#[test]
fn what_was_changed_is_not_what_was_signed() {
    let domain = Domain::new("example.org");
    let terms = terms(&domain);
    let text = token(&domain, &terms);
    let (head, rest) = text.split_once('.').unwrap();
    let (_, signature) = rest.split_once('.').unwrap();
    let with = |claims: &str| {
        format!(
            "{head}.{}.{signature}",
            base64::encode_url(claims.as_bytes())
        )
    };
    // Widened: the first link carries more than Ada said.
    let claims = part(&text, 1);
    let widened = claims.replace("\"actions\":[\"select\"],", "");
    assert_ne!(widened, claims);
    assert_eq!(code(&domain, &with(&widened)), "DELEGATION-TOKEN-SIGNATURE");
    // Cut: the summariser as if Ada had chosen it. Whoever cuts writes the rest to fit.
    let last = terms.last().unwrap().clone();
    let cut = Terms::new(domain.id("people/ada"), vec![last]).unwrap();
    let cut = part(&token(&domain, &cut), 1);
    assert_eq!(code(&domain, &with(&cut)), "DELEGATION-TOKEN-SIGNATURE");
    // Another person's.
    let other = claims.replace("people/ada", "people/bob");
    assert_eq!(code(&domain, &with(&other)), "DELEGATION-TOKEN-SIGNATURE");
}

/// Even the authority's own key signs nothing that is two tokens in one, or a chain that could not be.
#[test]
fn a_signature_does_not_mend_what_cannot_be() {
    let domain = Domain::new("example.org");
    let text = token(&domain, &terms(&domain));
    let (header, claims) = (part(&text, 0), part(&text, 1));
    assert!(DelegationToken::parse(&sign(&domain, &header, &claims)).is_ok());
    let helper = "\"spiffe://example.org/agents/helper\"";
    let summary = "\"spiffe://example.org/agents/summary\"";
    let swapped = claims
        .replace(helper, "?")
        .replace(summary, helper)
        .replace('?', summary);
    let act = format!("{{\"sub\":{summary},\"act\":{{\"sub\":{helper}}}}}");
    for (changed, expected) in [
        // Who acts is not who was delegated to.
        (
            claims.replace(&act, &format!("{{\"sub\":{summary}}}")),
            "DELEGATION-TOKEN-PARSE",
        ),
        (
            claims.replace(AUDIENCE, "reports"),
            "DELEGATION-TOKEN-PARSE",
        ),
        (
            claims.replace("{\"iss\"", "{ \"iss\""),
            "DELEGATION-TOKEN-PARSE",
        ),
        (
            claims.replace("\"aud\"", "\"admin\":true,\"aud\""),
            "DELEGATION-TOKEN-PARSE",
        ),
        (
            claims.replace("\"actions\"", "\"Actions\""),
            "DELEGATION-TOKEN-PARSE",
        ),
        // Reordered: the order of records and ends stays behind.
        (
            swapped.replace("\"record\":\"7\"", "\"record\":\"07\""),
            "DELEGATION-TOKEN-PARSE",
        ),
        (
            claims.replace(",\"record\":\"7\"", ""),
            "DELEGATION-TOKEN-CHAIN",
        ),
        (
            claims.replace(helper, "\"spiffe://other.org/agents/helper\""),
            "DELEGATION-TOKEN-CHAIN",
        ),
        (
            claims.replace(helper, "\"spiffe://example.org/people/ada\""),
            "DELEGATION-TOKEN-CHAIN",
        ),
        (
            claims.replace("[\"select\"]", "[\"select\",\"insert\"]"),
            "DELEGATION-TOKEN-SCOPE",
        ),
        (
            claims.replace("[\"select\"]", "[]"),
            "DELEGATION-TOKEN-SCOPE",
        ),
    ] {
        assert_ne!(changed, claims, "{expected}");
        assert_eq!(
            code(&domain, &sign(&domain, &header, &changed)),
            expected,
            "{changed}"
        );
    }
}

#[test]
fn a_link_never_outlasts_what_it_rests_on() {
    let domain = Domain::new("example.org");
    let first = Terms::new(
        domain.id("people/ada"),
        vec![link(&domain, "agents/helper", 10)],
    )
    .unwrap();
    let refused = first
        .then(7, link(&domain, "agents/summary", 11))
        .unwrap_err();
    assert_eq!(refused.code, "DELEGATION-TOKEN-CHAIN");
    // Nor is it older, nor is somebody in it twice, nor is it longer than anybody can answer for.
    let mut early = link(&domain, "agents/summary", 10);
    early.issued_at = NOW.minus_secs(1);
    assert!(first.then(7, early).is_err());
    assert!(first.then(7, link(&domain, "people/ada", 10)).is_err());
    let mut long = first;
    for number in 0..6_u64 {
        let next = link(&domain, &format!("agents/a{number}"), 10);
        long = long.then(7 + number, next).unwrap();
    }
    assert!(long.then(20, link(&domain, "agents/a9", 10)).is_err());
    // A record that came before that of the link before.
    let two = terms(&domain);
    assert!(two.then(7, link(&domain, "agents/third", 10)).is_err());
    assert!(two.then(8, link(&domain, "agents/third", 10)).is_ok());
}

#[test]
fn one_algorithm_and_one_key_and_not_the_tokens_choice() {
    let domain = Domain::new("example.org");
    let text = token(&domain, &terms(&domain));
    let (header, claims) = (part(&text, 0), part(&text, 1));
    for alg in ["none", "None", "HS256", "RS256", "ES384", "EdDSA", ""] {
        let header = header.replace("ES256", alg);
        let expected = "DELEGATION-TOKEN-ALGORITHM";
        assert_eq!(
            code(&domain, &sign(&domain, &header, &claims)),
            expected,
            "{alg}"
        );
    }
    for (from, to) in [
        ("\"kid\"", "\"jwk\":{},\"kid\""),
        ("\"kid\"", "\"crit\":[],\"kid\""),
        ("{", "{ "),
    ] {
        let header = header.replacen(from, to, 1);
        assert_eq!(
            code(&domain, &sign(&domain, &header, &claims)),
            "DELEGATION-TOKEN-PARSE"
        );
    }
    // A key that the bundle has not, another domain's of the same name, and no signature at all.
    let unknown = sign(&domain, &header.replace("jwt-1", "jwt-2"), &claims);
    assert_eq!(code(&domain, &unknown), "DELEGATION-TOKEN-SIGNATURE");
    let mut other = Domain::new("example.org");
    other.jwt = key(Algorithm::EcdsaP256);
    assert_eq!(code(&other, &text), "DELEGATION-TOKEN-SIGNATURE");
    let (input, _) = text.rsplit_once('.').unwrap();
    assert_eq!(
        code(&domain, &format!("{input}.")),
        "DELEGATION-TOKEN-SIGNATURE"
    );
    let foreign = Domain::new("other.org");
    assert_eq!(code(&foreign, &text), "DELEGATION-TOKEN-DOMAIN");
}

#[test]
fn a_delegation_is_no_jwt_svid_and_a_jwt_svid_no_delegation() {
    let domain = Domain::new("example.org");
    let text = token(&domain, &terms(&domain));
    let refused = JwtSvid::parse(&text).err().unwrap();
    assert_eq!(refused.code, "SVID-JWT-HEADER");
    // Nor is it one to a reader that looks at no `typ`: it is for nobody's service.
    let bare = part(&text, 0).replace(TYPE, "JWT");
    let loose = sign(&domain, &bare, &part(&text, 1));
    let read = JwtSvid::parse(&loose).unwrap();
    let refused = read.validate(&domain.bundle(), "reports", NOW).unwrap_err();
    assert_eq!(refused.code, "SVID-JWT-AUDIENCE");

    let params = JwtParams {
        spiffe_id: domain.id("agents/summary"),
        audience: vec![AUDIENCE.to_owned()],
        id: serial(),
        issued_at: NOW,
        expires_at: NOW.plus_secs(300),
    };
    let tbs = JwtTbs::new(&params, "jwt-1").unwrap();
    let svid = tbs.with_receipt(b"r").sign(domain.jwt.as_ref()).unwrap();
    assert_eq!(code(&domain, &svid), "DELEGATION-TOKEN-TYPE");
}

#[test]
fn the_key_alone_makes_no_delegation() {
    let domain = Domain::new("example.org");
    let terms = terms(&domain);
    let tbs = DelegationTbs::new(&terms, "jwt-1").unwrap();
    let by = domain.id("agents/summary");
    let refused = |text: &str| {
        let presented = present(&domain, text, &by, NOW).unwrap();
        presented
            .recorded(domain.ledger_key())
            .unwrap_err()
            .code
            .into_owned()
    };
    let good = record(&domain, &terms, &tbs);
    let signed = |receipt: &[u8]| tbs.with_receipt(receipt).sign(domain.jwt.as_ref()).unwrap();
    // Without a receipt; with noise; with that of another ledger; with one for something else.
    let whole = part(&signed(b"r"), 1);
    let (bare, _) = whole.split_once(",\"trilith_receipt\"").unwrap();
    let header = part(&signed(b"r"), 0);
    let unrecorded = sign(&domain, &header, &format!("{bare}}}"));
    let other = receipt(&Domain::new("example.org"), &good);
    for text in [unrecorded, signed(b"noise"), signed(&other)] {
        assert_eq!(refused(&text), "DELEGATION-TOKEN-RECEIPT");
    }
    for change in [
        |one: &mut Delegation| one.jti = serial().to_string(),
        |one: &mut Delegation| one.tbs = Digest([0; 32]),
        |one: &mut Delegation| one.issuer = Digest([0; 32]),
        |one: &mut Delegation| drop(one.chain.pop()),
    ] {
        let mut moved = good.clone();
        change(&mut moved);
        assert_eq!(
            refused(&signed(&receipt(&domain, &moved))),
            "DELEGATION-TOKEN-RECEIPT"
        );
    }
    assert_eq!(
        Delegation::committed_tbs(
            good.record()
                .seal(domain.ledger_key().origin(), 0, Stamp::default())
                .unwrap()
                .bytes()
        ),
        Some(good.tbs)
    );
}

proptest! {
    #[test]
    fn parsing_never_panics(text: String, header: Vec<u8>, claims: Vec<u8>) {
        drop(DelegationToken::parse(&text));
        let token = format!("{}.{}.AA", base64::encode_url(&header), base64::encode_url(&claims));
        drop(DelegationToken::parse(&token));
    }

    /// What is read is what was written, whatever is in a scope.
    #[test]
    fn any_scope_survives(actions in prop::collection::btree_set("[a-z][a-z_.:\\PC]{0,30}", 1..9)) {
        let domain = Domain::new("example.org");
        let mut one = link(&domain, "agents/summary", 5);
        one.scope.actions = Some(actions.into_iter().collect());
        let terms = Terms::new(domain.id("people/ada"), vec![one]).unwrap();
        let text = token(&domain, &terms);
        let presented = present(&domain, &text, &domain.id("agents/summary"), NOW).unwrap();
        prop_assert_eq!(&presented.terms, &terms);
        prop_assert!(presented.recorded(domain.ledger_key()).is_ok());
    }
}
