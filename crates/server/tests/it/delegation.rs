//! Questions about who acts on behalf of whom, as administrators ask them.

use crate::harness::{Fixture, estate, finding};
use crate::packs::Recording;
use estate::EstateFiles;
use ledger::body::{ActionOn, Body as _, Coverage, Decision, Intent, OnBehalfOf};
use ledger::{EstateRef, HexDigest};
use proto::v1;
use serde_json::Value;

fn office() -> EstateFiles {
    let mut files = estate();
    files.insert(
        "identities/people.toml",
        "[[identity]]\npath = \"people/ada\"\nkind = \"person\"\nowner = \"people\"\n\
         login = { issuer = \"https://login.example.org\", subject = \"ada-1\" }\n\
         [[identity]]\npath = \"agents/helper\"\nkind = \"ai-agent\"\nowner = \"support\"\n",
    );
    files.insert(
        "delegations/people.toml",
        "[[delegation]]\nid = \"ada has a helper\"\nfrom = 'Identity::\"people/ada\"'\n\
         to = 'Identity::\"agents/helper\"'\n",
    );
    files.insert(
        "policies/notes.cedar",
        "@id(\"ada reads notes\") permit (principal == Identity::\"people/ada\", action == Action::\"select\", \
         resource in Schema::\"notes/public\");\n\
         @id(\"the helper uses notes\") permit (principal == Identity::\"agents/helper\", \
         action in [Action::\"select\", Action::\"insert\"], resource in Schema::\"notes/public\");\n",
    );
    files.insert(
        "resources/notes.toml",
        "[[database]]\nname = \"notes\"\n[[database.schema]]\nname = \"public\"\n\
         [[database.schema.table]]\nname = \"mine\"\n",
    );
    files
}

fn why(principal: &str, action: &str, on_behalf_of: &[&str]) -> v1::WhyRequest {
    v1::WhyRequest {
        principal: principal.to_owned(),
        action: action.to_owned(),
        resource: "notes/public/mine".to_owned(),
        decision: String::new(),
        on_behalf_of: on_behalf_of.iter().map(|&one| one.to_owned()).collect(),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is read once")]
fn document(answer: v1::Document) -> Value {
    serde_json::from_str(&answer.json).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn administrators_ask_about_whole_chains() {
    let fixture = Fixture::start().await;
    fixture.apply(&office()).await.unwrap();
    let mut admin = fixture.admin().await;
    for (action, allow) in [("select", true), ("insert", false)] {
        let request = why("agents/helper", action, &["people/ada"]);
        let answer = document(admin.why(request).await.unwrap().into_inner());
        assert_eq!(answer["chain"]["allow"], allow, "{action} {answer}");
        assert_eq!(answer["chain"]["hops"].as_array().unwrap().len(), 2);
        let grant = &answer["chain"]["links"][0]["grants"][0];
        assert_eq!(grant["file"], "delegations/people.toml", "{answer}");
    }
    let request = why("agents/helper", "insert", &[]);
    let alone = document(admin.why(request).await.unwrap().into_inner());
    assert_eq!(alone["explanation"]["decision"]["allow"], true, "{alone}");
    let request = why("people/ada", "select", &["people/ada"]);
    let refused = admin.why(request).await.unwrap_err();
    assert_eq!(finding(&refused).code, "DELEGATION-CHAIN");

    let request = |action: &str| v1::WhoCanRequest {
        action: action.to_owned(),
        resource: "notes/public/mine".to_owned(),
        on_behalf_of: vec!["people/ada".to_owned()],
        ..v1::WhoCanRequest::default()
    };
    let answer = document(admin.who_can(request("select")).await.unwrap().into_inner());
    let found = answer["accesses"].as_array().unwrap();
    assert_eq!(found.len(), 1, "{answer}");
    assert_eq!(found[0]["identity"], "agents/helper");
    assert_eq!(found[0]["hops"][0]["identity"], "people/ada");
    let answer = document(admin.who_can(request("insert")).await.unwrap().into_inner());
    assert_eq!(answer["accesses"].as_array().unwrap().len(), 0, "{answer}");
}

/// What a gateway recorded of one who acted for another is explained by both of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_access_is_explained_by_its_whole_chain() {
    let fixture = Fixture::start().await;
    let applied = fixture.apply(&office()).await.unwrap();
    let estate = EstateRef {
        version: applied["version"]
            .as_str()
            .unwrap()
            .parse::<HexDigest>()
            .unwrap(),
        index: applied["index"].as_u64().unwrap(),
    };
    let helper = "spiffe://example.org/agents/helper";
    let ada = "spiffe://example.org/people/ada".to_owned();
    let on = |action: &str| {
        vec![ActionOn {
            action: action.to_owned(),
            resources: vec!["Table::\"notes/public/mine\"".to_owned()],
            more: None,
            columns: Vec::new(),
        }]
    };
    let read = Intent {
        session: "s".to_owned(),
        statement: "f".to_owned(),
        actions: on("select"),
        decision: "s.0".to_owned(),
        policies: Vec::new(),
        coverage: Coverage::Complete,
        more_policies: None,
        claimed_on_behalf_of: Vec::new(),
        on_behalf_of: vec![OnBehalfOf {
            spiffe_id: ada.clone(),
            jti: "01".to_owned(),
            issuance: None,
        }],
    };
    let written = Decision {
        session: "s".to_owned(),
        statement: "f".to_owned(),
        actions: on("insert"),
        decision: "s.1".to_owned(),
        allow: false,
        policies: Vec::new(),
        findings: vec!["POLICY-NONE".to_owned()],
        coverage: Coverage::Complete,
        more_policies: None,
        about: None,
        claimed_on_behalf_of: vec![ada],
        on_behalf_of: Vec::new(),
    };
    let mut recording = Recording::start(&fixture).await;
    let read = recording.append(helper, read.record().estate(estate));
    let written = recording.append(helper, written.record().estate(estate));
    recording.anchor().await;
    let mut admin = fixture.admin().await;
    for (index, allow) in [(read, true), (written, false)] {
        let request = v1::WhyRequest {
            decision: format!("pg:{index}"),
            ..v1::WhyRequest::default()
        };
        let answer = document(admin.why(request).await.unwrap().into_inner());
        let hops = answer["explanations"].as_array().unwrap();
        assert_eq!(hops.len(), 2, "{answer}");
        let all = hops.iter().all(|hop| hop["decision"]["allow"] == true);
        assert_eq!(all, allow, "{answer}");
        assert_eq!(answer["agrees"], true, "{answer}");
        let grant = &answer["links"][0]["grants"][0];
        assert_eq!(grant["file"], "delegations/people.toml", "{answer}");
    }
}
