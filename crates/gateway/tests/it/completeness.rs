//! What a real gateway's core numbers is whole, and what it lost when it was killed is accounted for by its own
//! records: judged from its folder.

use crate::faulty_disk::FaultyDisk;
use crate::world::{PAYMENTS, World, principal};
use gateway::{Core, Ending, Operation, SessionRecorder};
use ledger::body::{ActionOn, Coverage, SessionStart};
use ledger::completeness::Cause;
use record_index::{Complete, Site, TimeRange, completeness};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn operation(coverage: Coverage) -> Operation {
    Operation {
        statement: "fp:1".to_owned(),
        actions: vec![ActionOn {
            action: "select".to_owned(),
            resources: vec!["Table::\"shop/public/orders\"".to_owned()],
            more: None,
            columns: Vec::new(),
        }],
        policies: Vec::new(),
        coverage,
        estate: None,
    }
}

fn ok() -> Ending {
    Ending {
        result: "ok",
        ..Ending::default()
    }
}

async fn session(world: &World, core: &Core, name: &str) -> SessionRecorder {
    let principal = principal(PAYMENTS, "aa", world.now.plus_secs(3_600));
    let session = core.recorder().session(name, &principal);
    let start = SessionStart {
        session: name.to_owned(),
        spiffe_id: principal.spiffe_id.to_string(),
        serial: "aa".to_owned(),
        issuance: None,
        resource: "postgres:shop".to_owned(),
        role: "r".to_owned(),
        application: String::new(),
        claimed_on_behalf_of: Vec::new(),
        on_behalf_of: Vec::new(),
    };
    session.session_start(start).await.unwrap();
    session
}

async fn used(session: &SessionRecorder) {
    for durable in [true, false, true] {
        let intent = session
            .intent(&operation(Coverage::Complete), durable)
            .await
            .unwrap();
        session.outcome(intent, ok()).await.unwrap();
    }
    let blind = operation(Coverage::Blind);
    session
        .decided(&blind, false, vec!["SQL-FUNCTION".to_owned()])
        .await
        .unwrap();
}

fn answer(world: &World) -> Complete {
    let site = Site::open(&world.config().data_dir, None).unwrap();
    let times = TimeRange {
        since: None,
        until: None,
    };
    completeness(&site, &times, true).unwrap().remove(0)
}

#[tokio::test]
async fn what_a_gateway_numbers_is_whole() {
    let world = World::new();
    let core = Core::open(world.config()).await.unwrap();
    let session = session(&world, &core, "s1").await;
    used(&session).await;
    session.session_end("closed", "").await.unwrap();
    core.recorder().flush().await.unwrap();
    let whole = || {
        let answer = answer(&world);
        assert!(answer.found.is_empty(), "{:?}", answer.found);
        assert_eq!((answer.counts.complete, answer.counts.blind), (3, 1));
        assert_eq!(answer.counts.open_sessions, 0);
    };
    // While it runs, and after it has stopped.
    whole();
    drop(session);
    core.close().await.unwrap();
    whole();
}

#[tokio::test]
async fn what_a_killed_gateway_lost_is_accounted_for_by_its_next_start() {
    let world = World::new();
    let core = Core::open(world.config()).await.unwrap();
    let session = session(&world, &core, "s1").await;
    used(&session).await;
    let waiting = session
        .intent(&operation(Coverage::Complete), false)
        .await
        .unwrap();
    let open = session
        .intent(&operation(Coverage::Complete), true)
        .await
        .unwrap();
    // Gone with what waits to be written.
    drop((waiting, open, session, core));
    let core = Core::open(world.config()).await.unwrap();
    let answer = answer(&world);
    assert_eq!(answer.unexplained(), 0, "{:?}", answer.found);
    let gaps: Vec<Cause> = answer
        .found
        .iter()
        .map(|found| found.missing.cause)
        .collect();
    assert!(gaps.contains(&Cause::Gap), "{gaps:?}");
    assert_eq!(answer.counts.cut_sessions, 1);
    assert!(answer.counts.unknown >= 1);
    let key = core.recorder().ledger().key();
    let proofs: Vec<_> = answer
        .found
        .iter()
        .flat_map(|found| &found.receipts)
        .collect();
    assert!(proofs.len() >= 2);
    for receipt in proofs {
        receipt.verify(key).unwrap();
    }
}

/// A read that a full disk refused had counted, and left a hole in its session's numbers that nothing explains.
#[tokio::test]
async fn a_read_that_was_refused_takes_no_number() {
    let world = World::new();
    let disk = FaultyDisk::default();
    let core = Core::open_on(world.config(), Arc::new(disk.clone()))
        .await
        .unwrap();
    let session = session(&world, &core, "s1").await;
    disk.fill();
    let mut refused = 0;
    let begun = Instant::now();
    while refused < 5 {
        match session.intent(&operation(Coverage::Complete), false).await {
            Ok(intent) => session.outcome(intent, ok()).await.unwrap(),
            Err(_) => refused += 1,
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "never refused");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    disk.empty();
    core.recorder().flush().await.unwrap();
    used(&session).await;
    session.session_end("closed", "").await.unwrap();
    core.recorder().flush().await.unwrap();
    let answer = answer(&world);
    assert!(answer.found.is_empty(), "{:?}", answer.found);
}
