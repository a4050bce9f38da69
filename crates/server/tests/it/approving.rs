//! What weakens an invariant, removes one or leaves it unknown takes two authors.

use crate::harness::{Fixture, estate, finding};
use estate::{Approval, ApprovalSubject, EstateFiles};
use proto::v1;
use recheck::{Outcome, What};
use serde_json::Value;
use std::time::{SystemTime, UNIX_EPOCH};

const FILE: &str = "invariants/all.cedar";
const NEVER: &str = "@id(\"a gateway never writes\")\n\
    never (principal is Identity, action == Action::\"insert\", resource)\n\
    when { principal.kind == \"gateway\" };\n";
pub(crate) const HOUR_MS: u64 = 3_600_000;

pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

/// Two authors with their keys.
pub(crate) struct Authors([(&'static str, crypto::KeyPair); 2]);

impl Authors {
    pub(crate) fn new() -> Self {
        let key = || crypto::KeyPair::generate(crypto::Algorithm::Ed25519).unwrap();
        Self([("ada", key()), ("bob", key())])
    }

    /// The estate of tests in which they are authors.
    pub(crate) fn estate(&self) -> EstateFiles {
        let mut files = estate();
        let mut text = files.0["estate.toml"].clone();
        for (name, key) in &self.0 {
            let spki = crypto::Signer::public_key(key).spki_der().to_vec();
            let spki = crypto::base64::encode(&spki);
            text += &format!(
                "[[author]]\nname = \"{name}\"\nkey = \"\"\"\n-----BEGIN PUBLIC KEY-----\n{spki}\n-----END PUBLIC KEY-----\n\"\"\"\n"
            );
        }
        files.insert("estate.toml", text);
        files.insert(
            "resources/shop.toml",
            "[[database]]\nname = \"shop\"\nowner = \"data\"\n",
        );
        files
    }

    fn with_invariant(&self) -> EstateFiles {
        let mut files = self.estate();
        files.insert(FILE, NEVER);
        files
    }

    pub(crate) fn sign(&self, who: usize, subject: &ApprovalSubject, expires: u64) -> Approval {
        let (name, key) = &self.0[who];
        Approval::sign(subject.clone(), name, expires, key).unwrap()
    }

    pub(crate) fn both(&self, subject: &ApprovalSubject) -> [Approval; 2] {
        [0, 1].map(|who| self.sign(who, subject, now() + HOUR_MS))
    }
}

async fn plan(fixture: &Fixture, files: &EstateFiles) -> Value {
    let request = v1::EstateRequest {
        files: files.to_blob(),
        ..v1::EstateRequest::default()
    };
    let plan = fixture.admin().await.estate_plan(request).await.unwrap();
    serde_json::from_str(&plan.into_inner().json).unwrap()
}

async fn subject(fixture: &Fixture, files: &EstateFiles) -> ApprovalSubject {
    serde_json::from_value(plan(fixture, files).await["subject"].clone()).unwrap()
}

async fn refused(fixture: &Fixture, files: &EstateFiles, approvals: &[Approval]) -> String {
    let refused = fixture.apply_signed(files, approvals).await.unwrap_err();
    let finding = finding(&refused);
    assert!(finding.next.is_some(), "{finding}");
    finding.code.into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invariant_is_removed_by_two_authors_and_by_nobody_alone() {
    if testkit::tool("cvc5").is_none() {
        testkit::skip("server.approval", "cvc5 is not installed");
        return;
    }
    let fixture = Fixture::bare().await;
    let authors = Authors::new();
    fixture.apply(&authors.with_invariant()).await.unwrap();
    let without = authors.estate();

    let planned = plan(&fixture, &without).await;
    assert_eq!(planned["applicable"], false);
    assert_eq!(
        planned["finding"]["code"], "ESTATE-APPROVAL-NEEDED",
        "{planned}"
    );
    assert_eq!(planned["governed"][0]["kind"], "removed");
    assert_eq!(planned["governed"][0]["of"], "a gateway never writes");
    let subject = subject(&fixture, &without).await;
    let [ada, bob] = authors.both(&subject);

    assert_eq!(
        refused(&fixture, &without, &[]).await,
        "ESTATE-APPROVAL-NEEDED"
    );
    let alone = [ada.clone(), ada.clone()];
    assert_eq!(
        refused(&fixture, &without, &alone).await,
        "ESTATE-APPROVAL-ALONE"
    );
    let expired = [ada.clone(), authors.sign(1, &subject, now() - 1)];
    assert_eq!(
        refused(&fixture, &without, &expired).await,
        "ESTATE-APPROVAL-EXPIRED"
    );
    // Signed for this version, and used for another that removes it as well.
    let mut other = without.clone();
    other.insert(
        "policies/more.cedar",
        "@id(\"more\") forbid (principal, action == Action::\"define\", resource);\n",
    );
    let both = [ada.clone(), bob.clone()];
    assert_eq!(
        refused(&fixture, &other, &both).await,
        "ESTATE-APPROVAL-OTHER"
    );
    // A change that brings its own author along.
    let eve = Authors::new();
    let mine = [ada.clone(), eve.sign(1, &subject, now() + HOUR_MS)];
    assert_eq!(
        refused(&fixture, &without, &mine).await,
        "ESTATE-APPROVAL-SIGNATURE"
    );
    assert!(fixture.records(&["invariant-approval"]).await.is_empty());
    assert_eq!(fixture.records(&["estate-version"]).await.len(), 1);

    let applied = fixture.apply_signed(&without, &both).await.unwrap();
    assert_eq!(
        applied["approved_by"],
        serde_json::json!(["ada", "bob"]),
        "{applied}"
    );
    let approvals = fixture.records(&["invariant-approval"]).await;
    assert_eq!(approvals.len(), 1);
    let body = &approvals[0].1["body"];
    assert_eq!(body["changes"], 1);
    assert_eq!(body["signatures"][1]["author"], "bob");
    let proof = fixture.records(&["proof"]).await;
    let proof = &proof.last().unwrap().1["body"];
    assert_eq!(proof["approval_index"], approvals[0].0.to_string());

    // Whoever has the pack of the change looks at the signatures again.
    let change = serde_json::json!({"kind": "estate", "version": proof["version"]}).to_string();
    let (report, items) = crate::rechecked::rechecked(&fixture, &change).await;
    assert!(report.is_complete(), "{:?}", report.doubts);
    let approval = items.iter().find(|item| item.what == What::Approval);
    assert_eq!(approval.unwrap().outcome, Outcome::Recomputed);

    // What was signed is used up: the same change, after it was undone, is another.
    fixture.apply(&authors.with_invariant()).await.unwrap();
    assert_eq!(
        refused(&fixture, &without, &both).await,
        "ESTATE-APPROVAL-OTHER"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_weaker_invariant_takes_two_and_a_stronger_one_none() {
    if testkit::tool("cvc5").is_none() {
        testkit::skip("server.approval", "cvc5 is not installed");
        return;
    }
    let fixture = Fixture::bare().await;
    let authors = Authors::new();
    fixture.apply(&authors.with_invariant()).await.unwrap();
    let with = |from: &str, to: &str| {
        let mut files = authors.estate();
        let text = NEVER.replace(from, to);
        assert_ne!(text, NEVER);
        files.insert(FILE, text);
        files
    };
    for weaker in [
        with("};", "}\ngiven { principal.owner == \"platform\" };"),
        with("resource)", "resource in Database::\"shop\")"),
    ] {
        assert_eq!(
            refused(&fixture, &weaker, &[]).await,
            "ESTATE-APPROVAL-NEEDED"
        );
    }
    let stronger = with(
        "action == Action::\"insert\"",
        "action in [Action::\"insert\", Action::\"update\"]",
    );
    fixture.apply(&stronger).await.unwrap();
    let proof = fixture.records(&["proof"]).await;
    let result = &proof.last().unwrap().1["body"]["invariants"][0];
    let text = stronger.0[FILE].trim_end();
    let digest = crypto::hex::encode(&crypto::sha256(text.as_bytes()));
    assert_eq!(result["text"], digest, "{result}");
}

/// The solver is gone: nothing is known, and two may answer for it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_known_to_hold_is_taken_on_trust_by_two() {
    let fixture = Fixture::solved_by("/nonexistent/cvc5").await;
    let authors = Authors::new();
    fixture.apply(&authors.estate()).await.unwrap();
    let unknown = authors.with_invariant();
    assert_eq!(refused(&fixture, &unknown, &[]).await, "ESTATE-UNPROVED");
    let subject = subject(&fixture, &unknown).await;
    let [ada, bob] = authors.both(&subject);
    assert_eq!(
        refused(&fixture, &unknown, std::slice::from_ref(&bob)).await,
        "ESTATE-APPROVAL-ALONE"
    );
    let applied = fixture
        .apply_signed(&unknown, &[ada.clone(), bob.clone()])
        .await
        .unwrap();
    assert_eq!(applied["governed"][0]["kind"], "unknown");
    let proof = fixture.records(&["proof"]).await;
    let proof = &proof.last().unwrap().1["body"];
    assert_eq!(proof["outcome"], "unknown");
    assert_eq!(proof["invariants"][0]["any_data"], "unknown");

    // What breaks it today is nothing that anybody can sign for.
    let mut broken = unknown.clone();
    broken.insert(
        "policies/more.cedar",
        "@id(\"everybody writes\") permit (principal is Identity, action == Action::\"insert\", \
         resource in Database::\"shop\");\n",
    );
    assert_eq!(
        refused(&fixture, &broken, &[ada, bob]).await,
        "ESTATE-UNPROVED"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_approval_are_refused() {
    let fixture = Fixture::start().await;
    for approvals in [
        vec![b"{".to_vec()],
        vec![b"[]".to_vec()],
        vec![vec![b' '; (1 << 20) + 1]],
        vec![Vec::new(); 65],
        vec![br#"{"author":"a","expires":-1,"subject":{},"signature":""}"#.to_vec()],
    ] {
        let request = v1::EstateRequest {
            files: estate().to_blob(),
            approvals,
            ..v1::EstateRequest::default()
        };
        let refused = fixture
            .admin()
            .await
            .estate_apply(request)
            .await
            .unwrap_err();
        assert_eq!(finding(&refused).code, "ESTATE-APPROVAL-FORM");
    }
}
