//! A person takes back what it let others do, by its own session: no administrator has to.

use super::{Agent, GRANTS, asked, first, office, provider, revoked, server, stands};
use crate::harness::{Fixture, Link, finding};
use crate::people::{Client, key};
use proto::v1;
use serde_json::Value;
use svid_tls::OwnSvid;

/// Logs `subject` in, on a connection that is the session's.
async fn entered(fixture: &Fixture, subject: &str) -> Client {
    let pin = fixture.status().await["pin"].as_str().unwrap().to_owned();
    let anchors = fixture.anchors(&pin).await;
    let link = Link::dial(fixture.address(), OwnSvid::empty(), anchors).await;
    let client = Client { link, key: key() };
    let issuer = &provider().issuer;
    let begun = client.begin(issuer).await.unwrap();
    let token = provider().token(subject, &client.asked(&begun));
    client.finish(issuer, &begun.nonce, &token).await.unwrap();
    drop(client.enter().await.unwrap());
    client
}

async fn take_back(client: &Client, jti: &str, reason: &str) -> Result<v1::TakenBack, String> {
    let request = v1::TakeBackRequest {
        jti: jti.to_owned(),
        reason: reason.to_owned(),
    };
    let taken = client.people().take_back(request).await;
    let taken = taken.map_err(|status| finding(&status).code.into_owned())?;
    Ok(taken.into_inner())
}

async fn shown(client: &Client) -> Vec<Value> {
    let shown = client.people().delegations(v1::OwnDelegations {}).await;
    let document: Value = serde_json::from_str(&shown.unwrap().into_inner().json).unwrap();
    document["delegations"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_takes_back_what_it_let_others_do_and_nothing_else() {
    let fixture = server().await;
    let mut files = office(GRANTS);
    let bob = format!(
        "[[identity]]\npath = \"people/bob\"\nkind = \"person\"\nowner = \"people\"\n\
         login = {{ issuer = \"{}\", subject = \"bob-2\" }}\n",
        provider().issuer
    );
    files.insert("identities/bob.toml", bob);
    fixture.apply(&files).await.unwrap();
    let helper = Agent::start(&fixture, "m1", 3000).await;
    let (token, jti) = first(&fixture).await;
    let next = helper
        .delegates(&token, "agents/summary", 60)
        .await
        .unwrap();
    let again = asked(&fixture, "ada-1", "agents/helper", &[], 0)
        .await
        .unwrap();

    // Bob sees none of it, and takes nothing back; what is not there is refused alike.
    let bob = entered(&fixture, "bob-2").await;
    assert!(shown(&bob).await.is_empty());
    for other in [jti.as_str(), next.jti.as_str(), "ffffffff"] {
        let refused = take_back(&bob, other, "mine now").await.unwrap_err();
        assert_eq!(refused, "DELEGATION-NOT-OWN");
    }
    assert_eq!(stands(&fixture).await, [true, true, true]);

    // Ada administers nothing. A link that rests on hers is hers to end, and hers ends all that rests on it.
    let ada = entered(&fixture, "ada-1").await;
    assert_eq!(shown(&ada).await.len(), 3);
    assert_eq!(
        take_back(&ada, &jti, " ").await.unwrap_err(),
        "DELEGATION-REASON"
    );
    let taken = take_back(&ada, &next.jti, "not that one").await.unwrap();
    assert!(taken.recorded);
    assert_eq!(stands(&fixture).await, [true, false, true]);
    take_back(&ada, &jti, "the task is over").await.unwrap();
    assert_eq!(stands(&fixture).await, [false, false, true]);
    assert_eq!(revoked(&fixture).await, [next.jti, jti.clone()]);
    let records = fixture.records(&["revocation"]).await;
    let last = &records.last().unwrap().1;
    assert_eq!(last["actor"], "spiffe://example.org/people/ada");
    assert_eq!(last["auth"], "oidc");
    let refused = helper
        .delegates(&token, "agents/summary", 60)
        .await
        .unwrap_err();
    assert_eq!(finding(&refused).code, "DELEGATION-TOKEN-REVOKED");
    helper
        .delegates(&again.token, "agents/summary", 60)
        .await
        .unwrap();
    // Whoever has not entered is nobody.
    let pin = fixture.status().await["pin"].as_str().unwrap().to_owned();
    let anchors = fixture.anchors(&pin).await;
    let link = Link::dial(fixture.address(), OwnSvid::empty(), anchors).await;
    let nobody = Client { link, key: key() };
    assert_eq!(
        take_back(&nobody, &again.jti, "x").await.unwrap_err(),
        "SESSION-NONE"
    );
}
