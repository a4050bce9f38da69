//! A ledger of which the oldest records were pruned goes on as a new log, and one that went on as a new log is pruned.

use crate::old_ledger::{ask, fill};
use crate::world::World;
use gateway::Core;
use gateway::retention::Anchored;
use ledger_store::Folder;

#[tokio::test(flavor = "multi_thread")]
async fn a_new_log_before_a_prune_and_after_it_leave_what_is_left_proven() {
    for renewed_first in [true, false] {
        let world = World::new();
        let config = world.config();
        let dir = config.data_dir.clone();
        std::fs::remove_dir_all(dir.join("ledger")).unwrap_or_default();
        fill(&dir, &config.origin(), 200);
        let whole = {
            let folder = Folder::open(&dir.join("ledger")).unwrap();
            Anchored::note(folder.reader(), 500, 77, &dir.join("anchored.json")).unwrap();
            folder.reader().root(500).unwrap()
        };
        let renew = || gateway::new_log(&dir, "each year", "uid:0").unwrap();
        let prune = || {
            let done = ask(&dir, 5, true).unwrap();
            assert_eq!(done.minimum, 256);
            done.origin
        };
        let second = format!("{}@2", config.origin());
        let begun = if renewed_first {
            let begun = renew();
            assert_eq!(prune(), second);
            begun
        } else {
            assert_eq!(prune(), config.origin());
            renew()
        };
        assert_eq!(begun.key.origin().as_str(), second);
        // It runs, and whoever reads the folder is shown the key and the tree.
        let core = Core::open(config.clone()).await.unwrap();
        core.close().await.unwrap();
        let folder = Folder::open(&dir.join("ledger")).unwrap();
        assert_eq!(*folder.key(), begun.key);
        let reader = folder.reader();
        assert_eq!(reader.root(500).unwrap(), whole);
        assert_eq!(reader.pruned().unwrap().minimum, 256);
        let rotation = reader.record(begun.size).unwrap();
        assert_eq!(rotation.kind().as_str(), "key-rotation");
        let head = reader.head().checkpoint.clone();
        assert_eq!(head.origin.as_str(), second);
        let receipt = reader.receipt(begun.size).unwrap();
        receipt.verify(folder.key()).unwrap();
    }
}
