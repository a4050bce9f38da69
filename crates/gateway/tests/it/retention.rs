//! The oldest records of a gateway's ledger go, once the server has anchored them: a real core stops before and starts
//! after, and questions say what is gone and by which record.

use crate::old_ledger::{ask, fill};
use crate::world::World;
use facts::Finding;
use gateway::Core;
use gateway::retention::{Anchored, Pruning};
use ledger::body;
use ledger_store::Folder;
use record_index::{Asked, Filter, Page, Site, TimeRange, accesses, completeness, search, verify};
use std::ops::ControlFlow;

/// The indices that a search finds, and what people are told beside.
fn found(site: &mut Site) -> (Vec<u64>, Vec<String>) {
    site.catch_up().unwrap();
    let filter = Filter {
        resource: Some("shop/public/orders".to_owned()),
        ..Filter::default()
    };
    let page = Page {
        ledger: "*",
        from: 0,
        cursor: None,
        limit: None,
        receipts: true,
    };
    let mut indices = Vec::new();
    search(site, &filter, &page, |hit| {
        assert_eq!(hit.receipt.unwrap().index, hit.index);
        indices.push(hit.index);
        ControlFlow::Continue(())
    })
    .unwrap();
    (indices, site.gone())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_has_goes_and_everything_says_so() {
    let world = World::new();
    let config = world.config();
    let dir = config.data_dir.clone();
    std::fs::remove_dir_all(dir.join("ledger")).unwrap_or_default();
    fill(&dir, &config.origin(), 200);
    let code = |asked: Result<Pruning, Finding>| asked.unwrap_err().code.to_string();

    // Of a real run after it, and while that lasts.
    let core = Core::open(config.clone()).await.unwrap();
    let reader = core.reader().clone();
    assert_eq!(code(ask(&dir, 5, true)), "PRUNE-RUNNING");
    core.close().await.unwrap();
    let size = reader.size();
    assert_eq!(size, 2 + 800 + 1 + 2);
    let mut site = Site::open(&dir, None).unwrap();
    let (before, notes) = found(&mut site);
    assert!(before.len() >= 200 && notes.is_empty(), "{notes:?}");

    assert_eq!(code(ask(&dir, 5, true)), "PRUNE-NOT-ANCHORED");
    let noted = dir.join("anchored.json");
    Anchored::note(&reader, 500, 77, &noted).unwrap();
    assert_eq!(code(ask(&dir, 0, true)), "PRUNE-YOUNG");
    assert_eq!(code(ask(&dir, 11, true)), "PRUNE-NOTHING");
    // What says it is anchored is of another ledger.
    let sound = std::fs::read_to_string(&noted).unwrap();
    std::fs::write(&noted, sound.replace("\"size\":500", "\"size\":501")).unwrap();
    assert_eq!(code(ask(&dir, 5, true)), "PRUNE-NOT-ANCHORED");
    // What the server said long ago, before it was restored from a backup perhaps; or nobody knows when.
    let at = sound.split_once("\"at\":").unwrap();
    let digits = at.1.trim_end_matches('}');
    let days = |days: u64| (digits.parse::<u64>().unwrap() - days * 86_400_000).to_string();
    for old in [
        format!("{}\"at\":{}}}", at.0, days(2)),
        format!("{}}}", at.0.trim_end_matches(',')),
        format!("{}\"at\":9{digits}}}", at.0),
    ] {
        std::fs::write(&noted, old).unwrap();
        assert_eq!(code(ask(&dir, 5, true)), "PRUNE-STALE");
    }
    Anchored::forget(&noted).unwrap();
    Anchored::forget(&noted).unwrap();
    assert_eq!(code(ask(&dir, 5, true)), "PRUNE-NOT-ANCHORED");
    std::fs::write(&noted, sound).unwrap();

    // The server's mirror, as a copy of before.
    let mirror = world.directory.path().join("mirror");
    std::fs::create_dir_all(mirror.join("segments")).unwrap();
    for entry in std::fs::read_dir(dir.join("ledger/segments")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(
            &path,
            mirror.join("segments").join(path.file_name().unwrap()),
        )
        .unwrap();
    }

    let planned = ask(&dir, 5, false).unwrap();
    assert_eq!(
        (planned.minimum, planned.record, planned.anchor),
        (256, None, 77)
    );
    assert_eq!(
        Folder::open(&dir.join("ledger")).unwrap().reader().size(),
        size
    );
    let done = ask(&dir, 5, true).unwrap();
    // `start` comes before it, `stop` behind.
    assert_eq!((done.minimum, done.record), (256, Some(size + 1)));
    let folder = Folder::open(&dir.join("ledger")).unwrap();
    let said = folder.reader().record(size + 1).unwrap();
    assert_eq!((said.actor(), said.kind().as_str()), ("uid:0", "retention"));
    let body: body::Retention = said.expect_body().unwrap();
    assert!(body.policy.contains("case 7") && body.policy.contains("record 77 anchors 500"));

    // With the index of before, and with a new one.
    for index in [None, Some(world.directory.path())] {
        let mut site = Site::open(&dir, index).unwrap();
        let (after, notes) = found(&mut site);
        let left: Vec<u64> = before.iter().copied().filter(|at| *at >= 256).collect();
        let missing: Vec<u64> = left
            .iter()
            .copied()
            .filter(|at| !after.contains(at))
            .collect();
        // An outcome whose session began among what is gone may be known to the old index alone.
        assert!(
            missing.len() <= 2 && after.iter().all(|at| left.contains(at)),
            "{missing:?}"
        );
        let note = format!(
            "records 1 to 255 are gone from this folder, pruned by record {}",
            size + 1
        );
        assert!(notes.iter().any(|told| told.contains(&note)), "{notes:?}");
        // What needs all of it says so, and where it is.
        let all = TimeRange {
            since: None,
            until: None,
        };
        let whole = completeness(&site, &all, false).map(|_| ()).unwrap_err();
        let derived = verify(&site, &Filter::default(), "*")
            .map(|_| ())
            .unwrap_err();
        let counted = accesses(&site, &Asked::default(), false)
            .map(|_| ())
            .unwrap_err();
        for finding in [whole.finding(), derived.finding(), counted.finding()] {
            assert_eq!(finding.code, "RECORDS-PRUNED");
            assert!(
                finding
                    .to_string()
                    .contains(&format!("pruned by record {}", size + 1))
            );
        }
        // Asked together with who has it all, that one answers.
        site.join(Site::open(&mirror, Some(&mirror)).unwrap())
            .unwrap();
        site.catch_up().unwrap();
        let answers = completeness(&site, &all, false).unwrap();
        assert!(site.gone().is_empty());
        let counted = accesses(&site, &Asked::default(), false).unwrap();
        assert_eq!(counted.iter().map(|row| row.count).sum::<u64>(), 200);
        assert_eq!(answers[0].counts.complete, 200);
        assert_eq!(answers[0].unexplained(), 0, "{:?}", answers[0].found);
    }

    // It starts again as ever, and no record is missing but those.
    let core = Core::open(config).await.unwrap();
    assert_eq!(core.reader().size(), size + 4);
    assert_eq!(core.reader().pruned().unwrap().record, size + 1);
    let last = core.reader().record(size + 3).unwrap();
    assert_eq!(last.kind().as_str(), "start");
    core.close().await.unwrap();
    assert_eq!(code(ask(&dir, 5, true)), "PRUNE-NOTHING");
}

#[test]
fn only_what_the_server_mirrors_is_pruned() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), "example.org/server", 5);
    let finding = ask(dir.path(), 5, true).unwrap_err();
    assert_eq!(finding.code, "PRUNE-NOT-A-GATEWAY");
    let nothing = tempfile::tempdir().unwrap();
    assert_eq!(
        ask(nothing.path(), 5, true).unwrap_err().code,
        "PRUNE-LEDGER"
    );
}
