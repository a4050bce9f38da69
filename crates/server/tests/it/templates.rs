//! Instances of templates: issued, revoked and taken away under their own paths.

use crate::harness::{Fixture, estate, finding, verify};
use estate::EstateFiles;
use facts::{FactSet, Source, Timestamp, names};
use proto::v1;

const POLICY: &str = "@id(\"jobs of the pool\")\n\
     permit (principal in Pool::\"demo\", action == Action::\"assume\", \
     resource == Identity::\"pools/{machine.pool}/jobs/{workload.unit}\")\n\
     when { principal has uid && principal.uid == 3000 };\n";

fn with_jobs() -> EstateFiles {
    let mut files = estate();
    files.insert(
        "identities/jobs.toml",
        "[[identity]]\npath = \"pools/{machine.pool}/jobs/{workload.unit}\"\nkind = \"job\"\n\
         owner = \"platform\"\nvisible = [\"workload.unit\"]\n",
    );
    files.insert("policies/jobs.cedar", POLICY);
    files
}

fn job(unit: &str) -> FactSet {
    let mut facts = FactSet::new();
    let now = Timestamp::now();
    facts.state(names::WORKLOAD_UID, 3000_u32, Source::Asserted, now);
    facts.state(names::WORKLOAD_UNIT, unit, Source::Asserted, now);
    facts
}

#[tokio::test(flavor = "multi_thread")]
async fn each_job_gets_the_identity_that_its_facts_name() {
    let fixture = Fixture::start().await;
    fixture.apply(&with_jobs()).await.unwrap();
    let machine = fixture.join("m1").await;
    let mut sync = machine.sync().await.unwrap();
    let bundle = machine.joined.bundle.clone().unwrap();
    for unit in ["nightly.service", "hourly.service"] {
        let (issued, _) = sync.ask(unit, &job(unit), Vec::new()).await.unwrap();
        assert_eq!(issued.svids.len(), 1, "{unit}");
        let svid = &issued.svids[0];
        let expected = format!("spiffe://example.org/pools/demo/jobs/{unit}");
        assert_eq!(svid.spiffe_id, expected);
        let verified = verify(
            &svid.certificate_chain,
            &bundle,
            &fixture.ledger_key().await,
        );
        assert_eq!(verified.issuance.spiffe_id, expected);
        assert_eq!(verified.issuance.policies, ["jobs of the pool"]);
        assert!(verified.issuance.facts.contains_key("workload.unit"));
    }
    // What is no path segment is nobody, whatever it would come to.
    for unit in [
        "../../payments/api",
        "nightly/service",
        "nightly@1.service",
        "",
    ] {
        let (issued, _) = sync.ask("w3", &job(unit), Vec::new()).await.unwrap();
        assert!(issued.svids.is_empty(), "{unit:?}");
        let told = issued.refused.iter().any(|refused| {
            let findings: Vec<facts::Finding> = serde_json::from_slice(&refused.findings).unwrap();
            findings
                .iter()
                .any(|finding| finding.code == "ASSUME-TEMPLATE-VALUE")
        });
        assert!(told, "{unit:?} {:?}", issued.refused);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_take_templates_and_instances() {
    let fixture = Fixture::start().await;
    fixture.apply(&with_jobs()).await.unwrap();
    for principal in [
        "pools/{machine.pool}/jobs/{workload.unit}",
        "pools/demo/jobs/nightly",
        "spiffe://example.org/pools/demo/jobs/nightly",
    ] {
        let request = v1::WhatCanRequest {
            principal: principal.to_owned(),
            ..v1::WhatCanRequest::default()
        };
        let answer = fixture.admin().await.what_can(request).await;
        assert!(answer.is_ok(), "{principal}: {answer:?}");
    }
    let request = v1::WhatCanRequest {
        principal: "pools/{machine.name}/jobs".to_owned(),
        ..v1::WhatCanRequest::default()
    };
    let refused = fixture.admin().await.what_can(request).await.unwrap_err();
    assert_eq!(finding(&refused).code, "IDENTITY-NAME");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_is_revoked_alone() {
    let fixture = Fixture::start().await;
    fixture.apply(&with_jobs()).await.unwrap();
    let machine = fixture.join("m1").await;
    let mut sync = machine.sync().await.unwrap();
    for unit in ["nightly", "hourly"] {
        sync.ask(unit, &job(unit), Vec::new()).await.unwrap();
    }
    let request = v1::RevokeRequest {
        kind: "identity".to_owned(),
        value: "pools/demo/jobs/nightly".to_owned(),
        reason: "drill".to_owned(),
    };
    fixture.admin().await.revoke(request).await.unwrap();
    let (issued, _) = sync
        .ask("nightly", &job("nightly"), Vec::new())
        .await
        .unwrap();
    assert!(issued.svids.is_empty());
    let of_it = |refused: &&v1::RefusedIdentity| refused.spiffe_id.ends_with("/jobs/nightly");
    let refused = issued.refused.iter().find(of_it).unwrap();
    let findings: Vec<facts::Finding> = serde_json::from_slice(&refused.findings).unwrap();
    assert_eq!(findings[0].code, "IDENTITY-REVOKED");
    let (issued, _) = sync
        .ask("hourly", &job("hourly"), Vec::new())
        .await
        .unwrap();
    assert_eq!(issued.svids.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_new_estate_does_not_grant_is_taken_from_every_instance() {
    let fixture = Fixture::start().await;
    fixture.apply(&with_jobs()).await.unwrap();
    let machine = fixture.join("m1").await;
    let mut sync = machine.sync().await.unwrap();
    let mut serials = Vec::new();
    for unit in ["nightly", "hourly"] {
        let (issued, _) = sync.ask(unit, &job(unit), Vec::new()).await.unwrap();
        serials.push(issued.svids[0].serial.clone());
    }
    // Nothing that instances depend on differs: nothing is taken away.
    let mut files = with_jobs();
    files.insert("README.md", "notes\n");
    assert_eq!(fixture.apply(&files).await.unwrap()["revoked"], 0);
    files.insert("policies/jobs.cedar", POLICY.replace("3000", "3001"));
    let applied = fixture.apply(&files).await.unwrap();
    assert_eq!(applied["revoked"], 2, "{applied}");
    let recorded = fixture.records(&["revocation"]).await;
    for serial in serials {
        let of_it =
            |record: &(u64, serde_json::Value)| record.1["body"]["target"]["value"] == serial;
        assert!(recorded.iter().any(of_it), "{serial}");
    }
}
