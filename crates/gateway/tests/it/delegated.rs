//! Who acts for others at a gateway: what a token proves, and that neither stolen keys nor revoked links do.

use crate::world::{DOMAIN, PAYMENTS, World, domain};
use crypto::{Algorithm, KeyPair};
use facts::Finding;
use gateway::{Delegated, Revocations};
use ledger::body::{Body as _, Delegation, TargetKind};
use ledger::{Digest, LedgerSigner, Receipt};
use spiffe_core::Serial;
use spiffe_core::delegation::{Link, Narrowed, Terms};
use std::sync::Arc;

const AGENT: &str = "reporting/nightly";

/// Ada lets payments, who lets the nightly report.
struct Issued {
    token: String,
    jtis: Vec<String>,
}

fn link(world: &World, to: &str) -> Link {
    Link {
        to: domain().identity(to).unwrap(),
        jti: Serial::from_random(crypto::random()),
        issued_at: world.now,
        expires_at: world.now.plus_secs(600),
        scope: Narrowed {
            actions: Some(vec!["select".to_owned()]),
            resources: None,
        },
        record: None,
        by: None,
    }
}

fn body(terms: &Terms, tbs: [u8; 32], issuer: [u8; 32]) -> Delegation {
    let last = terms.last().unwrap();
    Delegation {
        jti: last.jti.to_string(),
        tbs: Digest(tbs),
        issuer: Digest(issuer),
        not_before: last.issued_at.as_secs(),
        not_after: last.expires_at.as_secs(),
        chain: terms.principals().map(ToString::to_string).collect(),
        rests_on: Vec::new(),
        actions: None,
        resources: None,
        node: String::new(),
    }
}

fn issue(world: &World) -> Issued {
    let ada = domain().identity("people/ada").unwrap();
    let first = Terms::new(ada, vec![link(world, PAYMENTS)]).unwrap();
    let prepared = world
        .authority
        .prepare_delegation(&first, world.now)
        .unwrap();
    let recorded = world.record(body(&first, prepared.digest(), prepared.issuer()).record());
    let elsewhere = other(world);
    world.publish();
    let terms = first.then(recorded.index(), link(world, AGENT)).unwrap();
    let prepared = world
        .authority
        .prepare_delegation(&terms, world.now)
        .unwrap();
    let recorded = world.record(body(&terms, prepared.digest(), prepared.issuer()).record());
    let token = prepared.finish(&recorded.receipt()).unwrap();
    assert!(
        prepared.finish(&elsewhere).is_err(),
        "signed for another record"
    );
    world.publish();
    Issued {
        token,
        jtis: terms
            .links()
            .iter()
            .map(|link| link.jti.to_string())
            .collect(),
    }
}

fn other(world: &World) -> Receipt {
    let svid = world.issue(PAYMENTS);
    svid.receipt
}

async fn proved(world: &World, token: &str, by: &str) -> Result<Delegated, Finding> {
    let by = domain().identity(by).unwrap();
    world.following.delegated(token, &by, world.now).await
}

#[tokio::test]
async fn a_token_proves_its_chain_to_its_delegate_alone() {
    let world = World::new();
    let issued = issue(&world);
    let delegated = proved(&world, &issued.token, AGENT).await.unwrap();
    assert_eq!(
        delegated.chain.principals(),
        ["people/ada", PAYMENTS, AGENT]
    );
    let scopes = delegated.chain.scopes();
    assert!(
        scopes
            .iter()
            .all(|scope| scope.actions.as_ref().is_some_and(|all| all.len() == 1))
    );
    let said = delegated.on_behalf_of();
    assert_eq!(said[0].spiffe_id, format!("spiffe://{DOMAIN}/people/ada"));
    assert_eq!(said[1].spiffe_id, format!("spiffe://{DOMAIN}/{PAYMENTS}"));
    assert_eq!(
        [&said[0].jti, &said[1].jti],
        [&issued.jtis[0], &issued.jtis[1]]
    );

    let stolen = proved(&world, &issued.token, PAYMENTS).await.unwrap_err();
    assert_eq!(stolen.code, "DELEGATION-TOKEN-PRESENTER");
    let ended = world.now.plus_secs(600);
    let refused = world
        .following
        .still_delegated(&delegated, ended)
        .unwrap_err();
    assert_eq!(refused.code, "DELEGATION-TOKEN-EXPIRED");
}

/// Each link by itself, ahead of its record and with it, and everybody in the chain by name.
#[tokio::test]
async fn what_rests_on_a_revoked_link_falls_with_it() {
    for number in 0..2 {
        let world = World::new();
        let issued = issue(&world);
        let delegated = proved(&world, &issued.token, AGENT).await.unwrap();
        world.revoke(TargetKind::Serial, &issued.jtis[number]);
        let refused = proved(&world, &issued.token, AGENT).await.unwrap_err();
        assert_eq!(refused.code, "DELEGATION-TOKEN-REVOKED", "{number}");
        // A session that rests on it is told as well.
        assert!(
            world
                .following
                .still_delegated(&delegated, world.now)
                .is_err()
        );
        // Another delegation of the same people stands.
        let again = issue(&world);
        proved(&world, &again.token, AGENT).await.unwrap();
    }
    for who in ["people/ada", PAYMENTS, AGENT] {
        let world = World::new();
        let issued = issue(&world);
        world.revoke(TargetKind::Identity, &format!("spiffe://{DOMAIN}/{who}"));
        let refused = proved(&world, &issued.token, AGENT).await.unwrap_err();
        assert_eq!(refused.code, "DELEGATION-TOKEN-REVOKED", "{who}");
    }
    let world = World::new();
    let issued = issue(&world);
    let target = Revocations::target("serial", &issued.jtis[0]).unwrap();
    let cut = gateway::Cut {
        reason: gateway::CutReason::Revoked,
        detail: "taken back".to_owned(),
    };
    world.following.cut_now(&target, &cut);
    let refused = proved(&world, &issued.token, AGENT).await.unwrap_err();
    assert_eq!(refused.code, "DELEGATION-TOKEN-REVOKED");
}

/// INVARIANT 1, for delegations: the key of JWTs and that of the ledger together make one only in the open.
#[tokio::test]
async fn a_delegation_of_a_forked_ledger_is_refused() {
    let world = World::new();
    let ada = domain().identity("people/ada").unwrap();
    let terms = Terms::new(ada, vec![link(&world, PAYMENTS)]).unwrap();
    let prepared = world
        .authority
        .prepare_delegation(&terms, world.now)
        .unwrap();
    let forged = |signer: &LedgerSigner, size: u64| {
        let body = body(&terms, prepared.digest(), prepared.issuer());
        prepared
            .finish(&world.forged_receipt(signer, body.record(), size))
            .unwrap()
    };
    let size = world.following.head().0;
    let refused = proved(&world, &forged(&world.stolen, size), PAYMENTS)
        .await
        .unwrap_err();
    assert_eq!(refused.code, "FOLLOW-FORKED");
    let key = Arc::new(KeyPair::generate(Algorithm::Ed25519).unwrap());
    let other = LedgerSigner::new("example.org/server", key).unwrap();
    let refused = proved(&world, &forged(&other, size), PAYMENTS)
        .await
        .unwrap_err();
    assert_eq!(refused.code, "DELEGATION-TOKEN-RECEIPT");
}
