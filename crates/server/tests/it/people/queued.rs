//! Applies that wait, or whose author goes away: what is proved takes time, and the world goes on.

use super::*;
use crate::harness::{all_seen, config_with};
use crate::recovering::until;
use estate::EstateFiles;
use std::path::PathBuf;
use std::time::Duration;

/// A server whose solver waits for as long as a file is there.
struct Slow {
    world: World,
    hold: PathBuf,
    asked: PathBuf,
}

/// Ada's estate with an invariant, which takes a solver; `number` makes each another.
fn proved(issuer: &str, number: u32) -> EstateFiles {
    let mut files = with_people(issuer);
    with_invariant(&mut files, number);
    files
}

fn with_invariant(files: &mut EstateFiles, number: u32) {
    let text = format!(
        "@id(\"a gateway never writes {number}\")\n\
         never (principal is Identity, action == Action::\"insert\", resource)\n\
         when {{ principal.kind == \"gateway\" }};\n"
    );
    files.insert(format!("invariants/n{number}.cedar"), text);
}

impl Slow {
    async fn start(forger: &Forger) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (hold, asked) = (dir.path().join("hold"), dir.path().join("asked"));
        let solver = dir.path().join("solver");
        let script = format!(
            "#!/bin/sh\ntouch {asked}\nwhile [ -e {hold} ]; do sleep 0.05; done\nexec cvc5 \"$@\"\n",
            asked = asked.display(),
            hold = hold.display(),
        );
        std::fs::write(&solver, script).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&solver, mode).unwrap();
        let text = oidc(&forger.issuer, "");
        let mut config = config_with(dir.path(), &text);
        config.solver = solver;
        let server = server::start(config).await.unwrap();
        let fixture = Fixture {
            dir,
            server: Some(server),
        };
        fixture.apply(&with_people(&forger.issuer)).await.unwrap();
        let pin = fixture.status().await["pin"].as_str().unwrap().to_owned();
        let anchors = fixture.anchors(&pin).await;
        let world = World {
            fixture,
            anchors,
            config: text,
        };
        Self { world, hold, asked }
    }

    fn hold(&self) {
        drop(std::fs::remove_file(&self.asked));
        std::fs::write(&self.hold, "").unwrap();
    }

    fn release(&self) {
        std::fs::remove_file(&self.hold).unwrap();
    }

    /// Applies over the socket, in the background, until the solver is asked.
    async fn applies(&self, files: &EstateFiles) -> tokio::task::JoinHandle<Result<(), Status>> {
        self.hold();
        let mut admin = self.world.fixture.admin().await;
        let request = request(files);
        let applying = tokio::spawn(async move { admin.estate_apply(request).await.map(drop) });
        until("the solver is asked", async || self.asked.exists()).await;
        applying
    }

    async fn in_force(&self) -> Value {
        self.world.fixture.status().await["estate"]["index"].clone()
    }

    async fn recorded(&self) -> Value {
        let records = self.world.fixture.records(&["estate-version"]).await;
        records.last().unwrap().0.into()
    }
}

fn request(files: &EstateFiles) -> v1::EstateRequest {
    v1::EstateRequest {
        files: files.to_blob(),
        ..all_seen()
    }
}

/// Ada is an administrator when she applies, and none when the apply before hers is done.
#[tokio::test(flavor = "multi_thread")]
async fn a_queued_apply_of_a_removed_administrator_is_refused_when_its_turn_comes() {
    let forger = Forger::start().await;
    let slow = Slow::start(&forger).await;
    let ada = key();
    slow.world.login(&forger, &ada, "ada-1").await;
    let mut admin = slow.world.enter(&ada).await.unwrap();
    let mut without = proved(&forger.issuer, 1);
    without.insert("estate.toml", estate().0["estate.toml"].clone());
    let first = slow.applies(&without).await;
    let mut hers = with_people(&forger.issuer);
    hers.insert("README.md", "Back again.\n");
    with_invariant(&mut hers, 1);
    let hers = request(&hers);
    let second = tokio::spawn(async move { admin.estate_apply(hers).await.map(drop) });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!second.is_finished(), "it was admitted, and waits");
    slow.release();
    first.await.unwrap().unwrap();
    let after = slow.recorded().await;
    assert_eq!(code(second.await.unwrap()), "ADMIN-DENIED");
    assert_eq!(slow.recorded().await, after);
    assert_eq!(slow.in_force().await, after);
    let refused = slow.world.fixture.records(&["admin"]).await;
    let refused = &refused.last().unwrap().1;
    assert_eq!(refused["actor"], "person:people/ada");
    assert_eq!(refused["body"]["allow"], false);
}

/// Ada is revoked while her own apply is proved.
#[tokio::test(flavor = "multi_thread")]
async fn an_apply_of_who_is_revoked_while_it_is_proved_is_not_recorded() {
    let forger = Forger::start().await;
    let slow = Slow::start(&forger).await;
    let ada = key();
    slow.world.login(&forger, &ada, "ada-1").await;
    let mut admin = slow.world.enter(&ada).await.unwrap();
    let before = slow.recorded().await;
    slow.hold();
    let hers = request(&proved(&forger.issuer, 1));
    let applying = tokio::spawn(async move { admin.estate_apply(hers).await.map(drop) });
    until("the solver is asked", async || slow.asked.exists()).await;
    let revoked = v1::RevokeRequest {
        kind: "identity".to_owned(),
        value: "people/ada".to_owned(),
        reason: "left".to_owned(),
    };
    slow.world
        .fixture
        .admin()
        .await
        .revoke(revoked)
        .await
        .unwrap();
    slow.release();
    // Her connection may have ended first.
    let refused = applying.await.unwrap().unwrap_err();
    let refused = serde_json::from_slice::<facts::Finding>(refused.details());
    assert!(refused.is_ok_and(|one| one.code == "ADMIN-OVERTAKEN"));
    assert_eq!(slow.recorded().await, before);
}

/// Until the record nothing is done for whoever has gone away, and nobody waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn an_apply_whose_author_goes_away_while_it_is_proved_is_given_up() {
    let forger = Forger::start().await;
    let slow = Slow::start(&forger).await;
    let before = slow.recorded().await;
    let applying = slow.applies(&proved(&forger.issuer, 1)).await;
    applying.abort();
    drop(applying.await);
    // Whoever comes next does not wait behind it, although the solver still does.
    let mut plain = with_people(&forger.issuer);
    plain.insert("README.md", "Nothing to prove.\n");
    let next = slow.world.fixture.apply(&plain);
    let next = tokio::time::timeout(Duration::from_secs(60), next).await;
    next.expect("the one before is given up").unwrap();
    slow.release();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let last = slow.recorded().await;
    assert_ne!(last, before);
    assert_eq!(slow.in_force().await, last);
    assert_eq!(
        slow.world.fixture.records(&["estate-version"]).await.len(),
        2
    );
}

/// Wherever an author goes away, what is recorded is what is in force.
#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_version_is_in_force_wherever_its_author_goes_away() {
    let forger = Forger::start().await;
    let world = World::of(&forger).await;
    let files = |number: u32| {
        let mut files = with_people(&forger.issuer);
        files.insert("README.md", format!("Number {number}.\n"));
        files
    };
    let begun = std::time::Instant::now();
    world.fixture.apply(&files(0)).await.unwrap();
    let whole = begun.elapsed();
    for number in 1..=24 {
        let mut admin = world.fixture.admin().await;
        let request = request(&files(number));
        let applying = tokio::spawn(async move { admin.estate_apply(request).await.map(drop) });
        tokio::time::sleep(whole * number / 24).await;
        applying.abort();
        drop(applying.await);
        until("what is recorded is in force", async || {
            let records = world.fixture.records(&["estate-version"]).await;
            let recorded = records.last().unwrap().0;
            world.fixture.status().await["estate"]["index"] == recorded
        })
        .await;
    }
}
