//! A disk that is full to the last byte: grants stop, revocations do not.

use crate::follower::Gateway;
use crate::harness::{Fixture, PROGRAM, config, finding, program};
use proto::v1::{ReadmitRequest, RevokeRequest, delta};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const NAME: &str = "server full disk";

/// A file system in memory, 48 MiB large.
pub(crate) struct Small(PathBuf);

impl Small {
    pub(crate) fn mount(at: &Path) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            testkit::skip(NAME, "mounting a small file system takes root");
            return None;
        }
        let mount = ["-t", "tmpfs", "-o", "size=48m,mode=0700", "tmpfs"];
        let output = Command::new("mount").args(mount).arg(at).output().unwrap();
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr).into_owned();
            testkit::skip(
                NAME,
                &format!("a small file system cannot be mounted: {why}"),
            );
            return None;
        }
        Some(Self(at.to_owned()))
    }

    /// Takes every block that is left.
    pub(crate) fn fill(&self) {
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.0.join("filler"))
            .unwrap();
        for block in [1 << 20, 4096, 1] {
            while file.write_all(&vec![0; block]).is_ok() {}
        }
    }

    pub(crate) fn free(&self) {
        std::fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

async fn revoke(fixture: &Fixture, kind: &str, value: &str) -> serde_json::Value {
    let request = RevokeRequest {
        kind: kind.to_owned(),
        value: value.to_owned(),
        reason: "the disk is full".to_owned(),
    };
    let answer = fixture.admin().await.revoke(request).await.unwrap();
    serde_json::from_str(&answer.into_inner().json).unwrap()
}

/// The cut, and then its record.
async fn hears(gateway: &mut Gateway, value: &str) {
    let mut cut = false;
    loop {
        match gateway.next().await.unwrap() {
            delta::Delta::Cut(heard) => cut |= heard.value == value,
            delta::Delta::Record(record) => {
                // A stream that opened after the revocation begins with its record.
                let known = cut || record.initial;
                let receipt = ledger::Receipt::decode(&record.receipt).unwrap();
                let record: serde_json::Value = serde_json::from_slice(&receipt.record).unwrap();
                if record["body"]["target"]["value"] == value {
                    assert!(known, "the cut comes first");
                    return;
                }
            }
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_nothing_is_granted_and_everything_can_be_revoked() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = Small::mount(dir.path()) else {
        return;
    };
    let mut fixture = Fixture::start_in(dir).await;
    let machine = fixture.join("m1").await;
    let other = fixture.join("m2").await;
    let mut sync = machine.sync().await.unwrap();
    let facts = program(1000, PROGRAM);
    let (issued, _) = sync.ask("w1", &facts, Vec::new()).await.unwrap();
    let serial = issued.svids[0].serial.clone();
    let mut gateway = Gateway::connect(&fixture, 2000).await.unwrap();
    gateway.hello(0, Vec::new()).await;

    disk.fill();
    // The ledger's last block has room for a record or two.
    let mut asked = 0;
    let refused = loop {
        let workload = format!("more-{asked}");
        match sync.ask(&workload, &facts, Vec::new()).await {
            Ok(_) => asked += 1,
            Err(refused) => break refused,
        }
        assert!(asked < 20, "granted on a full disk");
    };
    assert_eq!(refused.code, "SERVER-DISK-FULL", "{refused}");
    let refused = machine.renew([1; 16]).await.err().unwrap();
    assert_eq!(finding(&refused).code, "SERVER-DISK-FULL");

    let by_serial = revoke(&fixture, "serial", &serial).await;
    assert_eq!(by_serial["recorded"], true, "{by_serial}");
    hears(&mut gateway, &serial).await;
    // What the revocation left of the block is taken as well.
    disk.fill();
    let id = "spiffe://example.org/payments/api";
    let by_identity = revoke(&fixture, "identity", "payments/api").await;
    assert_eq!(by_identity["recorded"], true, "{by_identity}");
    hears(&mut gateway, id).await;
    disk.fill();
    let by_machine = revoke(&fixture, "machine", "m2").await;
    assert_eq!(by_machine["recorded"], true, "{by_machine}");
    hears(&mut gateway, "m2").await;
    assert!(other.sync().await.is_err());

    // A restart on the full disk: what was revoked still is, and more can be.
    disk.fill();
    fixture.restart().await;
    disk.fill();
    let revoked = fixture.records(&["revocation"]).await;
    assert_eq!(revoked.len(), 3);
    let mut machine = machine;
    machine.address = fixture.address();
    let mut sync = machine.sync().await.unwrap();
    let refused = sync.ask("w3", &facts, Vec::new()).await;
    let findings = match refused {
        Ok((issued, _)) => crate::harness::refusal(&issued),
        Err(finding) => vec![finding],
    };
    assert_eq!(findings[0].code, "IDENTITY-REVOKED");
    let mut gateway = Gateway::connect_as(&fixture, gateway.own).await.unwrap();
    gateway.hello(0, Vec::new()).await;
    // Its stream is open when it says something: a cut from before is not for it, only the record.
    gateway.next().await.unwrap();
    let again = revoke(&fixture, "machine", "m1").await;
    assert_eq!(again["recorded"], true, "{again}");
    hears(&mut gateway, "m1").await;

    // There is room again: everything goes on by itself.
    disk.free();
    let request = ReadmitRequest {
        node: "m1".to_owned(),
        reason: "the drill is over".to_owned(),
    };
    fixture.admin().await.readmit(request).await.unwrap();
    let token = fixture.token("m3").await;
    let third = fixture.join_with(&token).await.unwrap();
    let mut sync = third.sync().await.unwrap();
    let (issued, _) = sync
        .ask("g", &program(2000, PROGRAM), Vec::new())
        .await
        .unwrap();
    assert_eq!(issued.svids.len(), 1);
    drop(sync);
    let memory = fixture.running().state();
    fixture.stop().await;
    let config = config(fixture.dir.path());
    let kept = server::state_digest(&config).unwrap();
    assert!(kept.records > memory.records);
    assert_eq!(kept, server::rebuild_state(&config).unwrap());
}

/// Nothing is kept back any more: what is revoked is cut all the same, counts for everybody who comes,
/// and is recorded when there is room.
#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_that_cannot_be_recorded_is_in_force_and_recorded_later() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = Small::mount(dir.path()) else {
        return;
    };
    let fixture = Fixture::start_in(dir).await;
    let http = fixture.running().http_listen;
    let (one, other) = (fixture.join("m1").await, fixture.join("m2").await);
    fixture.join("m3").await;
    let mut sync = one.sync().await.unwrap();
    let facts = program(1000, PROGRAM);
    sync.ask("w1", &facts, Vec::new()).await.unwrap();
    let mut gateway = Gateway::connect(&fixture, 2000).await.unwrap();
    gateway.hello(0, Vec::new()).await;
    std::fs::remove_file(fixture.dir.path().join("data/ledger/reserve")).unwrap();
    disk.fill();

    // The ledger's last block has room for a record or two.
    let mut revoked = 0;
    while revoke(&fixture, "machine", "m3").await["recorded"] == true {
        revoked += 1;
        assert!(revoked < 20, "recorded on a full disk");
    }
    let id = "spiffe://example.org/payments/api";
    for (kind, value, heard) in [("identity", "payments/api", id), ("machine", "m2", "m2")] {
        let answer = revoke(&fixture, kind, value).await;
        assert_eq!(answer["recorded"], false, "{answer}");
        assert_eq!(answer["finding"]["code"], "REVOKE-UNRECORDED");
        loop {
            if let delta::Delta::Cut(cut) = gateway.next().await.unwrap()
                && cut.value == heard
            {
                break;
            }
        }
    }
    let waiting = "trilith_server_revocations_unrecorded";
    assert_eq!(crate::harness::metric(http, waiting).await, 3);
    let refused = other.sync().await.err().unwrap();
    assert_eq!(finding(&refused).code, "CALLER-REVOKED");
    let (issued, held) = sync.ask("w1", &facts, Vec::new()).await.unwrap();
    assert!(held.is_empty());
    assert_eq!(crate::harness::refusal(&issued)[0].code, "IDENTITY-REVOKED");
    // A gateway that comes now hears of what no record tells it yet.
    let mut late = Gateway::connect_as(&fixture, gateway.own.clone())
        .await
        .unwrap();
    late.hello(0, Vec::new()).await;
    let mut heard = 0;
    while heard < 3 {
        heard += usize::from(matches!(late.next().await.unwrap(), delta::Delta::Cut(_)));
    }

    disk.free();
    let begun = std::time::Instant::now();
    while fixture.records(&["revocation"]).await.len() < revoked + 3
        || crate::harness::metric(http, waiting).await > 0
    {
        assert!(begun.elapsed().as_secs() < 90, "never recorded");
        tokio::task::yield_now().await;
    }
    assert!(other.sync().await.is_err());
}
