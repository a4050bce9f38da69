//! What comes between the question whether somebody may delegate and the record of it, and what comes of a login that
//! changes hands.

use super::*;

/// As [`office`], where this subject of the provider is Ada.
fn with_subject(subject: &str) -> EstateFiles {
    let mut files = office(GRANTS);
    let people = files.0["identities/people.toml"].replace("ada-1", subject);
    files.insert("identities/people.toml", people);
    files
}

async fn restore(fixture: &Fixture, identity: &str) {
    let request = v1::RestoreRequest {
        identity: identity.to_owned(),
        reason: "drill".to_owned(),
    };
    fixture.admin().await.restore(request).await.unwrap();
}

/// Ada is somebody else now: what whoever was Ada before had let others do was still done in her name.
#[tokio::test(flavor = "multi_thread")]
async fn who_gets_a_login_answers_for_no_delegation_of_whom_had_it_before() {
    let fixture = server().await;
    fixture.apply(&office(GRANTS)).await.unwrap();
    let helper = Agent::start(&fixture, "m1", 3000).await;
    let (token, one) = first(&fixture).await;
    let on = helper.delegates(&token, "agents/summary", 0).await;
    let two = on.unwrap().jti;
    // A change that leaves her login as it is takes nothing back.
    let mut same = office(GRANTS);
    same.insert("README.md", "Nothing new.\n");
    fixture.apply(&same).await.unwrap();
    assert_eq!(stands(&fixture).await, [true, true]);

    fixture.apply(&with_subject("ada-2")).await.unwrap();
    assert_eq!(stands(&fixture).await, [false, false]);
    let taken = revoked(&fixture).await;
    assert!(taken.contains(&one) && taken.contains(&two), "{taken:?}");
    let again = helper.delegates(&token, "agents/summary", 0).await;
    let refused = finding(&again.unwrap_err());
    assert_eq!(refused.code, "DELEGATION-TOKEN-REVOKED");
    // The new Ada lets whom she likes, and that stays so.
    asked(&fixture, "ada-2", "agents/helper", &[], 0)
        .await
        .unwrap();
    let mut more = with_subject("ada-2");
    more.insert("README.md", "Nothing new again.\n");
    fixture.apply(&more).await.unwrap();
    assert_eq!(stands(&fixture).await, [false, false, true]);
}

/// The revocation is in the ledger before the delegation: nothing that came after it would take it back.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_revoked_is_let_do_nothing_until_restored() {
    let fixture = server().await;
    fixture.apply(&office(GRANTS)).await.unwrap();
    revoke(&fixture, "identity", "agents/helper").await.unwrap();
    let refused = asked(&fixture, "ada-1", "agents/helper", &[], 0).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code, "DELEGATION-OVERTAKEN");
    let helper = id("agents/helper").to_string();
    assert_eq!(refused.observed.as_deref(), Some(helper.as_str()));
    assert!(fixture.records(&["delegation"]).await.is_empty());
    restore(&fixture, "agents/helper").await;
    first(&fixture).await;
    assert_eq!(stands(&fixture).await, [true]);
}

/// A revocation of Ada and a delegation by her arrive together. Whichever is in the ledger first, none of hers stands
/// when both are done.
#[tokio::test(flavor = "multi_thread")]
async fn a_delegation_that_a_revocation_overtakes_does_not_outlive_it() {
    let fixture = server().await;
    fixture.apply(&office(GRANTS)).await.unwrap();
    let pin = fixture.status().await["pin"].as_str().unwrap().to_owned();
    let mut overtaken = 0;
    for _ in 0..12 {
        let anchors = fixture.anchors(&pin).await;
        let link = Link::dial(fixture.address(), OwnSvid::empty(), anchors).await;
        let client = Client { link, key: key() };
        let issuer = &provider().issuer;
        let begun = client.begin(issuer).await.unwrap();
        let token = provider().token("ada-1", &client.asked(&begun));
        client.finish(issuer, &begun.nonce, &token).await.unwrap();
        drop(client.enter().await.unwrap());
        let mut person = client.people();
        let many = (0..8).map(|_| {
            let mut person = person.clone();
            let request = v1::DelegateRequest {
                to: "agents/helper".to_owned(),
                ..v1::DelegateRequest::default()
            };
            tokio::spawn(async move { person.delegate(request).await })
        });
        let many: Vec<_> = many.collect();
        revoke(&fixture, "identity", "people/ada").await.unwrap();
        for one in many {
            if let Err(status) = one.await.unwrap() {
                let code = finding(&status).code;
                let codes = [
                    "DELEGATION-OVERTAKEN",
                    "DELEGATION-TOKEN-REVOKED",
                    "LOGIN-REVOKED",
                    "SESSION-NONE",
                ];
                assert!(codes.contains(&code.as_ref()), "{code}");
                overtaken += usize::from(code == "DELEGATION-OVERTAKEN");
            }
        }
        let standing = stands(&fixture).await;
        assert!(!standing.contains(&true), "{standing:?}");
        let late = person.delegate(v1::DelegateRequest::default()).await;
        assert!(late.is_err());
        restore(&fixture, "people/ada").await;
    }
    println!("{overtaken} delegations were recorded after the revocation and taken back");
}
