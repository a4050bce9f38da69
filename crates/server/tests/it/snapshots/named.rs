//! The snapshot that a pruning names: by a record that names none nothing counts as gone in good order.

use super::{BY, archive, code, old_world, server_ledger};
use crate::recovering::Scene;
use crate::surviving::copy;
use ledger::body::{self, Body as _};

/// Takes away what may go, as whoever has the ledger's key can. All records that go are kept beside what stays.
fn prune_naming(scene: &Scene, snapshot: Option<u64>) {
    let ledger = server_ledger(scene);
    let size = ledger.reader().size();
    let prunable = ledger.prunable(size).unwrap().unwrap();
    let kept: Vec<u64> = (1..prunable.minimum).collect();
    let pruned = ledger.prune_but(prunable, &kept, |minimum| {
        let retention = body::Retention {
            minimum_index: minimum.into(),
            snapshot: snapshot.map(Into::into),
            policy: "a test".to_owned(),
            by: BY.to_owned(),
        };
        Ok(vec![retention.record().actor(BY, "uid").draft()?])
    });
    assert_eq!(pruned.unwrap().unwrap().record, size);
    ledger.close().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pruning_that_names_no_snapshot_is_refused_at_the_start() {
    let mut scene = old_world().await;
    scene.fixture.stop().await;
    let before = archive(&scene, "before");
    let size = server::state_digest(&scene.config).unwrap().records;
    // None; one that is gone and kept; the last record, which is another; one that will never be.
    for named in [None, Some(1), Some(size - 1), Some(u64::MAX)] {
        std::fs::remove_dir_all(scene.data()).unwrap();
        copy(&before, &scene.data());
        prune_naming(&scene, named);
        let refused = code(server::state_digest(&scene.config));
        assert_eq!(refused, "SERVER-RETENTION", "{named:?}");
    }
}
