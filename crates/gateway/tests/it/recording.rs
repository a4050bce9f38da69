//! INVARIANT 5: no unrecorded access, whatever happens to the process or its disk.

use crate::faulty_disk::FaultyDisk;
use crate::world::{PAYMENTS, World, principal};
use gateway::{Core, CutReason, Ending, Operation, SessionRecorder};
use ledger::body::{ActionOn, Coverage, Decision, Gap, Intent, Outcome, SessionStart};
use ledger::{Record, RecordType};
use ledger_store::Reader;
use std::sync::Arc;
use std::time::Duration;

/// Only so that a test that fails ends.
const PATIENCE: Duration = Duration::from_secs(60);

fn operation() -> Operation {
    Operation {
        statement: "fp:1".to_owned(),
        actions: vec![ActionOn {
            action: "select".to_owned(),
            resources: vec!["shop/public/orders".to_owned()],
            more: None,
            columns: Vec::new(),
        }],
        policies: vec!["payments reads orders".to_owned()],
        coverage: Coverage::Complete,
        estate: Some((crypto::hex::encode(&[7; 32]), 3)),
    }
}

fn ok() -> Ending {
    Ending {
        result: "ok",
        rows: Some(2),
        tag: Some("SELECT 2".to_owned()),
        ..Ending::default()
    }
}

async fn open(world: &World) -> Arc<Core> {
    Core::open(world.config()).await.unwrap()
}

fn session(world: &World, core: &Core) -> SessionRecorder {
    let principal = principal(PAYMENTS, "aa", world.now.plus_secs(3_600));
    core.recorder().session("s1", &principal)
}

/// Everything in the gateway's ledger from `from` on.
fn records(reader: &Reader, from: u64) -> Vec<Record> {
    (from..reader.size())
        .map(|index| reader.record(index).unwrap())
        .collect()
}

fn kinds(records: &[Record]) -> Vec<RecordType> {
    records.iter().map(Record::kind).collect()
}

#[tokio::test]
async fn a_durable_intent_is_in_the_ledger_before_anything_is_forwarded() {
    let world = World::new();
    let core = open(&world).await;
    let from = core.reader().size();
    let session = session(&world, &core);
    let intent = session.intent(&operation(), true).await.unwrap();
    let written = records(core.reader(), from);
    assert_eq!(kinds(&written), [RecordType::Intent]);
    let body: Intent = written[0].expect_body().unwrap();
    assert_eq!(
        (body.session.as_str(), body.statement.as_str()),
        ("s1", "fp:1")
    );
    assert_eq!(written[0].actor(), "spiffe://example.org/payments/api");
    assert_eq!(written[0].auth(), "x509-svid:aa");
    assert_eq!(written[0].estate().unwrap().index, 3);
    assert_eq!(written[0].connection().unwrap().counter, 0);

    session.outcome(intent, ok()).await.unwrap();
    let outcome = core.reader().record(from + 1).unwrap();
    let body: Outcome = outcome.expect_body().unwrap();
    assert_eq!(body.intent.0, written[0].seq());
    assert_eq!((body.result.as_str(), body.rows.unwrap().0), ("ok", 2));
    assert_eq!(outcome.connection().unwrap().counter, 1);
}

#[tokio::test]
async fn reads_are_recorded_behind_and_their_outcomes_name_their_intents() {
    let world = World::new();
    let core = open(&world).await;
    let from = core.reader().size();
    let session = session(&world, &core);
    for _ in 0..5 {
        let intent = session.intent(&operation(), false).await.unwrap();
        session.outcome(intent, ok()).await.unwrap();
    }
    let open = session.intent(&operation(), false).await.unwrap();
    core.recorder().flush().await.unwrap();
    session.outcome(open, ok()).await.unwrap();
    core.recorder().flush().await.unwrap();

    let written = records(core.reader(), from);
    let of = |kind| written.iter().filter(move |record| record.kind() == kind);
    let intents: Vec<u64> = of(RecordType::Intent).map(Record::seq).collect();
    let outcomes: Vec<u64> = of(RecordType::Outcome)
        .map(|record| record.expect_body::<Outcome>().unwrap().intent.0)
        .collect();
    assert_eq!(intents.len(), 6);
    assert_eq!(intents, outcomes);
}

#[tokio::test]
async fn a_denial_is_named_by_its_place_in_the_ledger() {
    let world = World::new();
    let core = open(&world).await;
    let session = session(&world, &core);
    let findings = vec!["SQL-FUNCTION".to_owned()];
    let id = session
        .decided(&operation(), false, findings)
        .await
        .unwrap();
    assert_eq!(id.to_string(), format!("pg-1:{}", id.index));
    let record = core.reader().record(id.index).unwrap();
    let body: Decision = record.expect_body().unwrap();
    assert!(!body.allow);
    assert_eq!(body.findings, ["SQL-FUNCTION"]);
}

#[tokio::test]
async fn what_a_crash_left_open_is_unknown_and_the_gap_is_recorded() {
    let world = World::new();
    let core = open(&world).await;
    let session = session(&world, &core);
    let done = session.intent(&operation(), true).await.unwrap();
    session.outcome(done, ok()).await.unwrap();
    let _open = session.intent(&operation(), true).await.unwrap();
    let end = core.reader().size();
    let open_seq = core.reader().record(end - 1).unwrap().seq();
    // The process is gone: nothing is closed in order.
    drop((session, core));

    let core = open(&world).await;
    let written = records(core.reader(), end);
    assert_eq!(
        kinds(&written),
        [RecordType::Outcome, RecordType::Gap, RecordType::Start]
    );
    let outcome: Outcome = written[0].expect_body().unwrap();
    assert_eq!(
        (outcome.intent.0, outcome.result.as_str()),
        (open_seq, "unknown")
    );
    let gap: Gap = written[1].expect_body().unwrap();
    assert_eq!(gap.cause, "crash");
    assert!(gap.from <= gap.to);

    // Settled once: another crash does not settle it again.
    let end = core.reader().size();
    drop(core);
    let core = open(&world).await;
    assert_eq!(
        kinds(&records(core.reader(), end)),
        [RecordType::Gap, RecordType::Start]
    );
}

#[tokio::test]
async fn a_clean_stop_leaves_no_gap_and_nothing_after_it() {
    let world = World::new();
    let core = open(&world).await;
    let first = kinds(&records(core.reader(), 0));
    assert_eq!(first, [RecordType::Begin, RecordType::Start]);
    let reader = core.reader().clone();
    let session = session(&world, &core);
    let intent = session.intent(&operation(), false).await.unwrap();
    session.outcome(intent, ok()).await.unwrap();
    drop(session);
    core.close().await.unwrap();
    let end = reader.size();
    assert_eq!(
        kinds(&records(&reader, 2)),
        [RecordType::Intent, RecordType::Outcome, RecordType::Stop]
    );
    let core = open(&world).await;
    assert_eq!(kinds(&records(core.reader(), end)), [RecordType::Start]);
}

#[tokio::test]
async fn when_the_ledger_fails_access_stops() {
    let world = World::new();
    let disk = FaultyDisk::default();
    let core = Core::open_on(world.config(), Arc::new(disk.clone()))
        .await
        .unwrap();
    let session = session(&world, &core);
    let principal = principal(PAYMENTS, "aa", world.now.plus_secs(3_600));
    let sessions = core.following().sessions();
    let mut handle = sessions.register(&principal, PATIENCE, world.now);
    disk.break_down();

    let refused = session.intent(&operation(), true).await.unwrap_err();
    assert_eq!(refused.finding().code, "GATEWAY-RECORDING-STOPPED");
    let cut = tokio::time::timeout(PATIENCE, handle.cut()).await.unwrap();
    assert_eq!(cut.reason, CutReason::Recording);
    let mut stopped = core.stopped();
    let waited = tokio::time::timeout(PATIENCE, stopped.wait_for(Option::is_some));
    waited.await.unwrap().unwrap();
    // Reads stop as well, and nobody new comes in.
    assert!(session.intent(&operation(), false).await.is_err());
    let start = SessionStart {
        session: "s2".to_owned(),
        spiffe_id: String::new(),
        serial: String::new(),
        issuance: None,
        resource: String::new(),
        role: String::new(),
        application: String::new(),
        claimed_on_behalf_of: Vec::new(),
        on_behalf_of: Vec::new(),
    };
    assert!(session.session_start(start).await.is_err());
    // The disk works again; the process has to start anew all the same.
    disk.empty();
    assert!(session.intent(&operation(), true).await.is_err());
    drop((handle, session));
    assert!(core.close().await.is_err(), "a failed run has no clean end");
    let core = open(&world).await;
    let reader = core.reader();
    let kinds = kinds(&records(reader, 0));
    assert!(kinds.contains(&RecordType::Gap), "{kinds:?}");
}

#[tokio::test]
async fn a_full_disk_refuses_reads_until_there_is_space() {
    let world = World::new();
    let disk = FaultyDisk::default();
    let core = Core::open_on(world.config(), Arc::new(disk.clone()))
        .await
        .unwrap();
    let from = core.reader().size();
    let session = session(&world, &core);
    disk.fill();
    let mut handed = 0_usize;
    let refused = tokio::time::timeout(PATIENCE, async {
        loop {
            match session.intent(&operation(), false).await {
                Ok(intent) => session.outcome(intent, ok()).await.unwrap(),
                Err(refused) => break refused,
            }
            handed += 1;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    let refused = refused.await.unwrap();
    assert_eq!(refused.finding().code, "GATEWAY-RECORDING-STOPPED");
    assert!(session.intent(&operation(), true).await.is_err());
    disk.empty();
    // Nothing that was let through is lost.
    tokio::time::timeout(PATIENCE, core.recorder().flush())
        .await
        .unwrap()
        .unwrap();
    let written = records(core.reader(), from);
    let count = |kind| {
        written
            .iter()
            .filter(|record| record.kind() == kind)
            .count()
    };
    assert_eq!(
        (count(RecordType::Intent), count(RecordType::Outcome)),
        (handed, handed)
    );
    let intent = session.intent(&operation(), false).await.unwrap();
    session.outcome(intent, ok()).await.unwrap();
}

#[tokio::test]
async fn what_nobody_waits_for_any_more_is_recorded_once_by_who_comes_next() {
    let world = World::new();
    let core = open(&world).await;
    let from = core.reader().size();
    let session = session(&world, &core);
    for durable in [true, false] {
        let mut intent = session.hand_over(&operation(), durable).await.unwrap();
        let mut given_up = 0;
        loop {
            let ending = ok();
            let mut waiting = std::pin::pin!(session.conclude(&mut intent, &ending));
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            if waiting.as_mut().poll(&mut context).is_ready() {
                break;
            }
            given_up += 1;
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        assert!(!durable || given_up > 0);
        session.conclude(&mut intent, &ok()).await.unwrap();
    }
    core.recorder().flush().await.unwrap();
    let written = kinds(&records(core.reader(), from));
    let count = |kind| written.iter().filter(|written| **written == kind).count();
    assert_eq!(count(RecordType::Intent), 2);
    assert_eq!(count(RecordType::Outcome), 2);
}
