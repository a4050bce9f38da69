//! What a change does to what runs is told before, and applied only by whoever has seen how much it is. What
//! evicts machines is tried in `booting`.

use crate::harness::{Fixture, PROGRAM, estate, estate_of_two, finding, program};
use estate::EstateFiles;
use proto::v1;
use serde_json::{Value, json};

/// As `estate apply` of whoever has seen so many evictions and revocations: the version as it was applied, or
/// why it was not.
pub(crate) async fn apply(
    fixture: &Fixture,
    files: &EstateFiles,
    (evict, revoke): (u64, u64),
) -> Value {
    let request = v1::EstateRequest {
        files: files.to_blob(),
        document: true,
        evict,
        revoke,
        ..v1::EstateRequest::default()
    };
    let answer = fixture.admin().await.estate_apply(request).await.unwrap();
    serde_json::from_str(&answer.into_inner().json).unwrap()
}

async fn plan(fixture: &Fixture, files: &EstateFiles) -> Value {
    let request = v1::EstateRequest {
        files: files.to_blob(),
        ..v1::EstateRequest::default()
    };
    let answer = fixture.admin().await.estate_plan(request).await.unwrap();
    serde_json::from_str(&answer.into_inner().json).unwrap()
}

/// A policy of a document's page, followed by a newcomer, cut everything that ran, and nothing had said so.
fn cut_off() -> EstateFiles {
    let mut files = estate();
    files.insert(
        "policies/tpm.cedar",
        "@id(\"only by TPM\")\nforbid (principal, action == Action::\"assume\", resource)\n\
         unless { principal.machine has join && principal.machine.join == \"tpm\" };\n",
    );
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cuts_most_of_what_runs_is_told_and_applied_only_by_who_has_seen_it() {
    let fixture = Fixture::start().await;
    let machine = fixture.join("m1").await;
    let mut sync = machine.sync().await.unwrap();
    for (workload, uid) in [("w1", 1000), ("w2", 2000)] {
        let (_, held) = sync
            .ask(workload, &program(uid, PROGRAM), Vec::new())
            .await
            .unwrap();
        assert_eq!(held.len(), 1);
    }
    let planned = plan(&fixture, &cut_off()).await;
    assert_eq!(planned["applicable"], true, "{planned}");
    let running = &planned["running"];
    assert_eq!(running["standing"], 2, "{running}");
    assert_eq!(running["revoked"], 2, "{running}");
    let identities = running["identities"].as_array().unwrap();
    let names: Vec<&Value> = identities.iter().map(|one| &one["identity"]).collect();
    assert_eq!(names, ["gateway/pg", "payments/api"], "{running}");
    for one in identities {
        assert_eq!(one["revoked"], 1, "{one}");
        assert_eq!(one["gains"]["count"], 0, "{one}");
        assert_eq!(one["loses"]["count"], 1, "{one}");
        assert_eq!(one["loses"]["workloads"][0]["node"], "m1", "{one}");
    }
    assert_eq!(identities[1]["loses"]["workloads"][0]["uid"], 1000);
    assert_eq!(planned["acknowledge"], json!({ "evict": 0, "revoke": 2 }));

    let before = fixture.status().await["estate"]["version"].clone();
    for seen in [0, 1] {
        let refused = apply(&fixture, &cut_off(), (0, seen)).await;
        assert_eq!(refused["applicable"], false, "{refused}");
        assert_eq!(refused["finding"]["code"], "ESTATE-REVOKES", "{refused}");
        let next = refused["finding"]["next"].as_str().unwrap();
        assert!(next.contains("apply DIR --revoke 2"), "{next}");
    }
    // Whoever asks for no document gets the same as a status.
    let request = v1::EstateRequest {
        files: cut_off().to_blob(),
        ..v1::EstateRequest::default()
    };
    let refused = fixture.admin().await.estate_apply(request).await;
    assert_eq!(finding(&refused.unwrap_err()).code, "ESTATE-REVOKES");
    assert_eq!(fixture.status().await["estate"]["version"], before);
    assert!(fixture.records(&["revocation"]).await.is_empty());

    let applied = apply(&fixture, &cut_off(), (0, 2)).await;
    assert_eq!(applied["revoked"], 2, "{applied}");
    assert_eq!(fixture.records(&["revocation"]).await.len(), 2);
    let acts = fixture.records(&["admin"]).await;
    let seen = |(_, record): &(u64, Value)| record.to_string().contains("(seen: --revoke 2)");
    assert!(acts.iter().any(seen), "{acts:#?}");
}

/// Half is not most: such a change is told, and needs no number.
#[tokio::test(flavor = "multi_thread")]
async fn what_workloads_newly_may_become_is_told_and_what_cuts_a_part_needs_no_number() {
    let fixture = Fixture::start().await;
    let machine = fixture.join("m1").await;
    let mut sync = machine.sync().await.unwrap();
    sync.ask("w1", &program(1000, PROGRAM), Vec::new())
        .await
        .unwrap();
    let planned = plan(&fixture, &estate_of_two()).await;
    let running = &planned["running"];
    assert_eq!(running["revoked"], 0, "{running}");
    let identities = running["identities"].as_array().unwrap();
    assert_eq!(identities.len(), 1, "{running}");
    assert_eq!(identities[0]["identity"], "payments/job");
    assert_eq!(identities[0]["gains"]["count"], 1);

    let applied = apply(&fixture, &estate_of_two(), (0, 0)).await;
    assert!(applied["index"].is_u64(), "{applied}");
    let (_, held) = sync
        .ask("w1", &program(1000, PROGRAM), Vec::new())
        .await
        .unwrap();
    assert!(
        held.iter()
            .any(|one| one.svid.spiffe_id.ends_with("/payments/job"))
    );
    let planned = plan(&fixture, &estate()).await;
    let running = &planned["running"];
    let (standing, revoked) = (&running["standing"], &running["revoked"]);
    let cut = revoked.as_u64().unwrap();
    assert!(
        cut > 0 && 2 * cut <= standing.as_u64().unwrap(),
        "{running}"
    );
    let applied = apply(&fixture, &estate(), (0, 0)).await;
    assert_eq!(applied["revoked"], *revoked, "as it was told");
}
