//! What a withdrawal does while it cannot be recorded, and after a recovery from a ledger that has lost it.

use super::machine::{Machine, approvals, approved, is_sealed};
use super::{NEW, OLD};
use crate::full_disk::Small;
use crate::harness::Fixture;
use attest_tpm::seal::ApprovalSet;
use estate::EstateFiles;
use facts::Timestamp;
use proto::v1;
use references::ReferenceFile;
use serde_json::Value;
use std::time::Duration;

async fn told(fixture: &Fixture) -> ApprovalSet {
    ApprovalSet::parse(approvals(fixture, "demo").await.as_bytes()).unwrap()
}

fn labels(set: &ApprovalSet) -> Vec<&str> {
    let approvals = set.approvals().iter();
    approvals.map(|one| one.label.as_str()).collect()
}

/// What the server says of a ring beside its approvals.
async fn finding(fixture: &Fixture) -> String {
    let request = v1::BootApprovalsRequest {
        ring: "demo".to_owned(),
    };
    let answer = fixture.admin().await.boot_approvals(request).await;
    answer.unwrap().into_inner().finding
}

/// The old boot's generation ends by then.
fn ending(mut files: EstateFiles, until: Timestamp) -> EstateFiles {
    let text = &files.0["references/boot.json"];
    let mut file = ReferenceFile::parse(text).unwrap();
    let mut generations = file.generations.iter_mut();
    let old = generations.find(|one| one.name == "generation-old");
    old.unwrap().valid_until = Some(until);
    let text = file.to_json();
    files.insert("references/boot.json", text);
    files
}

/// Until a token is refused: the ledger's last block has room for a few records.
async fn until_nothing_is_recorded(fixture: &Fixture) {
    for number in 0..40 {
        let request = v1::TokenCreateRequest {
            node: format!("other-{number}"),
            pool: "demo".to_owned(),
            ttl_s: 60,
        };
        if let Err(refused) = fixture.admin().await.token_create(request).await {
            let refused = crate::harness::finding(&refused);
            assert_eq!(refused.code, "SERVER-DISK-FULL");
            return;
        }
    }
    panic!("recorded on a full disk");
}

/// Machines had gone on being told of the boot that was withdrawn for as long as the disk was full.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_withdrawn_on_a_full_disk_is_told_of_no_more_and_nothing_stays_sealed_for_it() {
    let Some(mut machine) = Machine::boot("server.sealing") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = Small::mount(dir.path()) else {
        return;
    };
    let fixture = Fixture::start_in(dir).await;
    machine.reboot(NEW);
    let until = Timestamp::now().plus_secs(16);
    let files = ending(machine.estate(&[("old", OLD), ("new", NEW)], &[]), until);
    fixture.apply(&files).await.unwrap();
    let mut agent = machine.start(&fixture).await;
    agent.serves().await;
    let before = machine.until(is_sealed).await;
    assert_eq!(approved(&before), 2);
    assert_eq!(finding(&fixture).await, "");
    disk.fill();
    until_nothing_is_recorded(&fixture).await;
    disk.fill();
    assert!(
        Timestamp::now() < until,
        "filled before the generation ends"
    );

    // The old boot is good no longer, and what stays good cannot be recorded: nothing is approved, and the
    // machine keeps no key on its disk.
    let plain = machine.until(|state| !is_sealed(state)).await;
    assert_eq!(plain["key"], "");
    let set = told(&fixture).await;
    assert!(set.approvals().is_empty(), "{:?}", labels(&set));
    assert_ne!(Value::from(set.scope.epoch.to_string()), before["epoch"]);
    let why = finding(&fixture).await;
    assert!(why.contains("SEAL-UNRECORDED"), "{why}");
    assert!(why.contains("SERVER-DISK-FULL"), "{why}");
    assert_eq!(fixture.records(&["seal-approval"]).await.len(), 2);

    // As soon as there is room it is recorded, and the machine seals anew.
    disk.free();
    let limit = std::time::Instant::now() + Duration::from_secs(90);
    while told(&fixture).await.approvals().is_empty() {
        let why = finding(&fixture).await;
        assert!(std::time::Instant::now() < limit, "not recorded: {why}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let after = machine.until(is_sealed).await;
    assert_eq!(approved(&after), 1);
    assert_ne!(after["epoch"], before["epoch"]);
    assert_eq!(labels(&told(&fixture).await), ["new 1 (generation-new)"]);
    assert_eq!(finding(&fixture).await, "");
    assert_eq!(fixture.records(&["seal-approval"]).await.len(), 3);
    agent.stop().await;
}

/// The number of an epoch was counted on from what the ledger says: after a recovery it came a second time, and
/// an approval of the lost one opened what was sealed under the second.
#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_that_a_recovery_has_given_up_is_not_begun_again() {
    let Some(machine) = Machine::boot("server.sealing") else {
        return;
    };
    let mut fixture = Fixture::configured("").await;
    let boots = [("old", OLD), ("new", NEW)];
    fixture.apply(&machine.estate(&boots, &[])).await.unwrap();
    let first = told(&fixture).await;
    fixture.stop().await;
    let (data, backup) = (
        fixture.dir.path().join("data"),
        fixture.dir.path().join("backup"),
    );
    crate::surviving::copy(&data, &backup);
    let start = async |fixture: &mut Fixture| {
        let config = crate::harness::config(fixture.dir.path());
        fixture.server = Some(server::start(config).await.unwrap());
    };
    start(&mut fixture).await;
    fixture
        .apply(&machine.estate(&boots, &["new"]))
        .await
        .unwrap();
    let lost = told(&fixture).await;
    assert_eq!(labels(&lost), ["old 1 (generation-old)"]);
    // The newest head is remembered beside the ledger's key.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    fixture.stop().await;

    std::fs::remove_dir_all(&data).unwrap();
    crate::surviving::copy(&backup, &data);
    start(&mut fixture).await;
    let request = v1::RecoverRequest {
        reason: "the backup is all there is".to_owned(),
    };
    fixture.admin().await.recover(request).await.unwrap();
    assert_eq!(told(&fixture).await.to_json(), first.to_json());
    fixture
        .apply(&machine.estate(&boots, &["old"]))
        .await
        .unwrap();
    let second = told(&fixture).await;
    assert_eq!(labels(&second), ["new 1 (generation-new)"]);
    assert!(second.scope.epoch > first.scope.epoch);
    assert_ne!(second.scope.policy_ref(), lost.scope.policy_ref());
    // Which is to say: the lost approval is none of it.
    let mut both = second.clone();
    let foreign = both.add(lost.approvals()[0].clone()).unwrap_err();
    assert_eq!(foreign.code, "SEAL-SIGNATURE");
}
