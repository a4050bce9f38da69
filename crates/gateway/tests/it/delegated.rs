//! Who acts for others at a gateway: what a token proves, and that neither stolen keys nor revoked links do.

use crate::world::{DOMAIN, PAYMENTS, World, domain, estate, principal};
use crypto::{Algorithm, KeyPair};
use estate::{Action, Chain, ChainFacts, ResourceRef};
use facts::{FactSet, Finding};
use gateway::{Delegated, Revocations, Told};
use ledger::body::{Body as _, Delegation, FactValue, TargetKind};
use ledger::{Digest, LedgerSigner, Receipt};
use spiffe_core::Serial;
use spiffe_core::delegation::{self, Link, Narrowed, Terms};
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
    issue_by(world, None)
}

/// The second link is asked for `by` this SVID.
fn issue_by(world: &World, by: Option<delegation::Issued>) -> Issued {
    let ada = domain().identity("people/ada").unwrap();
    let first = Terms::new(ada, vec![link(world, PAYMENTS)]).unwrap();
    let prepared = world
        .authority
        .prepare_delegation(&first, world.now)
        .unwrap();
    let recorded = world.record(body(&first, prepared.digest(), prepared.issuer()).record());
    let elsewhere = other(world);
    world.publish();
    let second = Link {
        by,
        ..link(world, AGENT)
    };
    let terms = first.then(recorded.index(), second).unwrap();
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

/// What payments showed when it let the report.
fn shown(estate: u64) -> delegation::Issued {
    let join = FactValue::Text("tpm".to_owned());
    delegation::Issued {
        serial: "0b".repeat(16),
        issuance: 3,
        estate,
        facts: [("machine.join".to_owned(), join)].into(),
    }
}

/// The session's facts are the report's, and decide nothing of who let it.
#[tokio::test]
async fn who_delegated_on_is_known_by_the_svid_that_it_delegated_by() {
    let world = World::new();
    let current = world.following.current().unwrap();
    let issued = issue_by(&world, Some(shown(current.index)));
    let delegated = proved(&world, &issued.token, AGENT).await.unwrap();
    let said = delegated.on_behalf_of();
    assert_eq!(said[0].issuance, None);
    assert_eq!(said[1].issuance.map(|index| index.0), Some(3));
    let facts = &delegated.links[1].shown.as_ref().unwrap().facts;
    assert_eq!(
        facts.value("machine.join"),
        Some(&facts::Value::Text("tpm".to_owned()))
    );
    let hops = |delegated: &Delegated, current: &gateway::Current| {
        let session = ChainFacts::of(current.estate.prepare(&FactSet::new()));
        let known = delegated.facts(current, session);
        let table = ResourceRef::table("shop/public/orders");
        let decided = current
            .estate
            .decide_chain(&delegated.chain, Action::Select, &table, &known);
        let hops = decided.hops.iter().map(|hop| hop.facts.as_str());
        hops.collect::<Vec<_>>()
    };
    assert_eq!(hops(&delegated, &current)[1..], ["own", "session"]);
    // What an SVID showed under an estate below the floor is not believed any more, as that SVID would not be.
    let floor = world.following.head().0;
    world.apply(&estate(&[PAYMENTS, AGENT]), floor);
    let raised = world.following.current().unwrap();
    assert!(raised.floor > current.index);
    assert_eq!(hops(&delegated, &raised)[1..], ["own-unknown", "session"]);

    // The SVID is revoked: what was let by it falls, and what is let by another stands.
    world.revoke(TargetKind::Serial, &shown(0).serial);
    let refused = proved(&world, &issued.token, AGENT).await.unwrap_err();
    assert_eq!(refused.code, "DELEGATION-TOKEN-REVOKED");
    let again = issue(&world);
    proved(&world, &again.token, AGENT).await.unwrap();
}

/// INVARIANT 7: a chain that is only told has no record that a revocation would come after.
#[tokio::test]
async fn a_claimed_chain_falls_with_whoever_of_it_is_revoked() {
    let chain = |last: &str| Chain::through(["people/ada", PAYMENTS, last]).unwrap();
    for who in ["people/ada", PAYMENTS] {
        let world = World::new();
        world.following.none_revoked(&chain(AGENT)).unwrap();
        world.revoke(TargetKind::Identity, &format!("spiffe://{DOMAIN}/{who}"));
        let refused = world.following.none_revoked(&chain(AGENT)).unwrap_err();
        assert_eq!(refused.code, "DELEGATION-CLAIM-REVOKED");
        assert_eq!(refused.observed.as_deref(), Some(who));
    }
    // Ahead of its record as well; of the last its own SVID says whether it is let in.
    let world = World::new();
    world.revoke(TargetKind::Identity, &format!("spiffe://{DOMAIN}/{AGENT}"));
    world.following.none_revoked(&chain(AGENT)).unwrap();
    let target = Revocations::target("identity", PAYMENTS).unwrap();
    let cut = gateway::Cut {
        reason: gateway::CutReason::Revoked,
        detail: "stolen".to_owned(),
    };
    // A session that began before is cut, and one for somebody else goes on.
    let now = facts::Timestamp::now();
    let principal = principal(AGENT, "01", now.plus_secs(600));
    let sessions = world.following.sessions();
    let begun = |whom: &str| {
        let told = Told::claimed(&principal, whom, gateway::Delegation::Claimed).unwrap();
        let longest = std::time::Duration::from_secs(600);
        sessions.register_for(&principal, Some(&told), longest, now)
    };
    let (by, other) = (
        begun(&format!("people/ada,{PAYMENTS}")),
        begun("people/bob"),
    );
    world.following.cut_now(&target, &cut);
    assert!(world.following.none_revoked(&chain(AGENT)).is_err());
    assert_eq!(
        by.is_cut().map(|cut| cut.reason),
        Some(gateway::CutReason::Delegation)
    );
    assert!(other.is_cut().is_none());
}
