//! The attacks on a ledger that `verify` and `monitor` have to see: each is made, and found by the check that
//! [`docs/operate/tampering.md`](../../../../docs/operate/tampering.md) names for it. That page has this table.

mod world;

use std::path::Path;
pub(crate) use world::serve;
use world::{Log, ORIGIN, Told, World, put, record, run, theirs};

/// Attack, who sees it, by which code, and the exit code of the command; or the test that shows it.
struct Row {
    attack: &'static str,
    detector: &'static str,
    code: &'static str,
    by: By,
}

#[derive(Clone, Copy)]
enum By {
    /// Made here; the exit code.
    Here(fn() -> Vec<Told>, i32),
    /// `file::test` of the workspace.
    Test(&'static str),
}

const TABLE: &[Row] = &[
    Row {
        attack: "flip a byte of the checkpoint",
        detector: "monitor",
        code: "MONITOR-CHECKPOINT",
        by: By::Here(flip_checkpoint, 3),
    },
    Row {
        attack: "flip a byte of a record",
        detector: "monitor",
        code: "MONITOR-RECORDS",
        by: By::Here(flip_record, 3),
    },
    Row {
        attack: "flip a byte of a tile",
        detector: "monitor, `entries = \"closed\"`",
        code: "MONITOR-TILES",
        by: By::Here(flip_tile, 3),
    },
    Row {
        attack: "flip any byte of a pack",
        detector: "verify",
        code: "PACK-",
        by: By::Here(flip_pack, 3),
    },
    Row {
        attack: "flip a byte of a segment on the server's disk",
        detector: "the server's start",
        code: "LEDGER-SEGMENT-CORRUPT",
        by: By::Test(
            "crates/ledger-store/tests/it/faults.rs::a_damaged_middle_is_refused_and_left_alone",
        ),
    },
    Row {
        attack: "drop the tail",
        detector: "monitor",
        code: "MONITOR-REGRESSED",
        by: By::Here(drop_tail, 3),
    },
    Row {
        attack: "drop the tail, and publish the longer checkpoint",
        detector: "monitor",
        code: "MONITOR-TILE-MISSING",
        by: By::Here(drop_tiles, 3),
    },
    Row {
        attack: "reorder records",
        detector: "monitor",
        code: "MONITOR-RECORDS",
        by: By::Here(reorder, 3),
    },
    Row {
        attack: "rewrite the past, and sign it",
        detector: "monitor",
        code: "MONITOR-FORK",
        by: By::Here(fork, 5),
    },
    Row {
        attack: "rewrite the past, and sign it",
        detector: "gateway",
        code: "FOLLOW-FORKED",
        by: By::Test("crates/gateway/tests/it/pushed.rs::another_history_is_never_followed"),
    },
    Row {
        attack: "roll back to a backup",
        detector: "monitor",
        code: "MONITOR-REGRESSED",
        by: By::Here(drop_tail, 3),
    },
    Row {
        attack: "roll back to a backup",
        detector: "the server's start",
        code: "SERVER-BEHIND-PEER",
        by: By::Test("crates/server/tests/it/surviving.rs::a_restored_old_backup_signs_nothing"),
    },
    Row {
        attack: "show an old head to somebody who has none",
        detector: "monitor, by a witness",
        code: "MONITOR-BEHIND",
        by: By::Here(old_head, 3),
    },
    Row {
        attack: "show two views to two clients",
        detector: "monitor, by a witness",
        code: "MONITOR-FORK",
        by: By::Here(split_view, 5),
    },
    Row {
        attack: "show two views at two addresses",
        detector: "monitor",
        code: "MONITOR-FORK",
        by: By::Here(two_addresses, 5),
    },
    Row {
        attack: "steal the log's key, and fork",
        detector: "witness",
        code: "LEDGER-WITNESS-INCONSISTENT",
        by: By::Test(
            "crates/witness/tests/it/verdicts.rs::two_roots_of_one_size_are_never_signed_and_the_second_is_kept",
        ),
    },
    Row {
        attack: "steal the log's key, and send a mirror the entries of another history",
        detector: "mirror",
        code: "WITNESS-MIRROR-UNPROVED",
        by: By::Test(
            "crates/witness/tests/it/mirroring.rs::entries_that_are_not_of_the_checkpoint_are_not_kept",
        ),
    },
    Row {
        attack: "steal the log's key and the CA's, and issue in the open",
        detector: "monitor",
        code: "MONITOR-UNEXPECTED",
        by: By::Here(issue_in_the_open, 4),
    },
    Row {
        attack: "steal the log's key and the CA's, and issue in a fork",
        detector: "monitor",
        code: "MONITOR-FORK",
        by: By::Here(fork, 5),
    },
    Row {
        attack: "a record that no version reads, to hide what it says",
        detector: "monitor",
        code: "MONITOR-UNREADABLE",
        by: By::Here(unreadable, 4),
    },
    Row {
        attack: "take an object out of the store",
        detector: "monitor",
        code: "MONITOR-TILE-MISSING",
        by: By::Here(take_out, 3),
    },
    Row {
        attack: "cut an object of the store short",
        detector: "monitor",
        code: "MONITOR-WIDTH",
        by: By::Here(cut_short, 3),
    },
    Row {
        attack: "put one object in the place of another",
        detector: "monitor",
        code: "MONITOR-RECORDS",
        by: By::Here(swap_objects, 3),
    },
    Row {
        attack: "exchange blinded labels in the store",
        detector: "monitor, `[labels]`",
        code: "MONITOR-LABEL-SIGNATURE",
        by: By::Test(
            "crates/monitor/tests/it/labels.rs::labels_that_do_not_belong_to_their_records_are_caught_by_name",
        ),
    },
    Row {
        attack: "sign labels that belong to other records",
        detector: "monitor, `[labels]`",
        code: "MONITOR-LABEL",
        by: By::Test(
            "crates/monitor/tests/it/labels.rs::labels_that_do_not_belong_to_their_records_are_caught_by_name",
        ),
    },
    Row {
        attack: "say of a record that it is not its owner's",
        detector: "monitor, `[labels]` with `known`",
        code: "MONITOR-LABEL-DENIED",
        by: By::Test(
            "crates/monitor/tests/it/labels.rs::what_is_known_is_not_told_and_to_deny_it_is_caught",
        ),
    },
    Row {
        attack: "say so before its owner hears of it",
        detector: "monitor, `[labels]`, once `known` has it",
        code: "MONITOR-LABEL-DENIED",
        by: By::Test(
            "crates/monitor/tests/it/labels.rs::a_record_that_was_denied_and_that_the_owner_hears_of_later_convicts_the_log",
        ),
    },
    Row {
        attack: "steal the log's key, and prove a record that is in no other view",
        detector: "verify of a `.tlog-proof`, under a policy",
        code: "LEDGER-QUORUM",
        by: By::Test(
            "crates/trilith/tests/it/tamper.rs::each_attack_is_noticed_by_whom_and_as_the_table_says",
        ),
    },
    Row {
        attack: "steal the log's key, and move the witnesses' lines to another history",
        detector: "verify of a `.tlog-proof`, under a policy",
        code: "LEDGER-NOTE-SIGNATURE",
        by: By::Test(
            "crates/trilith/tests/it/tamper.rs::each_attack_is_noticed_by_whom_and_as_the_table_says",
        ),
    },
    Row {
        attack: "show two views to two clients",
        detector: "gateway, under a policy",
        code: "FOLLOW-FORKED",
        by: By::Test(
            "crates/trilith/tests/it/tamper.rs::each_attack_is_noticed_by_whom_and_as_the_table_says",
        ),
    },
    Row {
        attack: "steal the log's key and the CA's, and keep a gateway in a view of its own",
        detector: "gateway, under a policy",
        code: "GATEWAY-UNWITNESSED",
        by: By::Test(
            "crates/trilith/tests/it/tamper.rs::each_attack_is_noticed_by_whom_and_as_the_table_says",
        ),
    },
    Row {
        attack: "steal the log's key, and go on signing after it was replaced",
        detector: "gateway",
        code: "FOLLOW-CHECKPOINT",
        by: By::Test(
            "crates/server/tests/it/recovering/new_log.rs::a_stolen_ledger_key_is_replaced_and_what_it_signs_then_counts_nowhere",
        ),
    },
    Row {
        attack: "steal the log's key, and make a pack after it was replaced",
        detector: "verify",
        code: "LEDGER-CHECKPOINT-ENDED",
        by: By::Test(
            "crates/ledger/tests/it/lineages.rs::whoever_has_the_old_key_makes_no_pack_after_its_end",
        ),
    },
    Row {
        attack: "steal the log's key, and make a pack after it was replaced, no longer than the log was",
        detector: "verify",
        code: "LEDGER-CHECKPOINT-FORMER",
        by: By::Test(
            "crates/ledger/tests/it/lineages.rs::a_stolen_key_that_was_replaced_makes_no_pack_of_any_size",
        ),
    },
    Row {
        attack: "steal the log's key, and have it cosigned after it was replaced",
        detector: "witness, with `lineage`",
        code: "WITNESS-LOG-ENDED",
        by: By::Test(
            "crates/witness/tests/it/succeeding.rs::nothing_more_is_cosigned_of_a_log_that_ended",
        ),
    },
    Row {
        attack: "rewrite the past when the key is replaced",
        detector: "verify",
        code: "PACK-LINEAGE",
        by: By::Test(
            "crates/ledger/tests/it/lineages.rs::a_new_log_that_does_not_hold_the_tree_of_its_link_makes_no_pack",
        ),
    },
    Row {
        attack: "steal the log's key, and go on as another new log",
        detector: "gateway",
        code: "FOLLOW-LINEAGE-FORKED",
        by: By::Test(
            "crates/server/tests/it/recovering/new_log.rs::a_stolen_ledger_key_is_replaced_and_what_it_signs_then_counts_nowhere",
        ),
    },
    Row {
        attack: "lie in the index",
        detector: "`ledger search --verify`",
        code: "RECORDS-INDEX-LIED",
        by: By::Test("crates/record-index/tests/it/searching.rs::an_index_that_lies_is_told"),
    },
];

/// Bytes all over the file, each flipped alone.
fn flips(world: &World, path: &str, more: &str) -> Vec<Told> {
    let length = std::fs::metadata(world.site().join(path))
        .expect("it is there")
        .len();
    let length = usize::try_from(length).expect("small");
    let places = (0..12).map(|n| n * (length - 1) / 11);
    places
        .map(|place| {
            let flip = |bytes: &mut Vec<u8>| {
                if let Some(byte) = bytes.get_mut(place) {
                    *byte ^= 0x04;
                }
            };
            world.change(path, flip);
            let told = world.monitor(more);
            world.change(path, flip);
            told
        })
        .collect()
}

fn flip_checkpoint() -> Vec<Told> {
    flips(&World::watched(), "checkpoint", "")
}

/// But for the lengths, which the first and the last of the places are not among.
fn flip_record() -> Vec<Told> {
    let world = World::watched();
    let mut told = flips(&world, "tile/entries/001", "");
    // The first byte is of a length.
    told.remove(0);
    told
}

fn flip_tile() -> Vec<Told> {
    let world = World::watched();
    // Of the records that are looked at now, and above them.
    let mut told = flips(&world, "tile/0/002.p/188", "entries = \"closed\"");
    told.extend(flips(&world, "tile/1/000.p/2", "entries = \"closed\""));
    told
}

fn flip_pack() -> Vec<Told> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/vectors/ledger/packs.json");
    let packs: serde_json::Value =
        serde_json::from_slice(&std::fs::read(path).expect("the vectors")).expect("JSON");
    let folder = testkit::temp_dir().expect("a folder");
    let trust = serde_json::json!({ "trust_domain": packs.get("trust_domain"), "ledger_key": packs.get("ledger_key") });
    let (pack, trusted) = (
        folder.path().join("a.pack"),
        folder.path().join("trust.json"),
    );
    std::fs::write(&trusted, trust.to_string()).expect("written");
    let text = packs
        .pointer("/valid/0/pack")
        .and_then(serde_json::Value::as_str)
        .expect("base64");
    let good = crypto::base64::decode(text).expect("base64");
    (0..24)
        .map(|n| {
            let mut bad = good.clone();
            let place = n * (good.len() - 1) / 23;
            if let Some(byte) = bad.get_mut(place) {
                *byte ^= 0x10;
            }
            std::fs::write(&pack, bad).expect("written");
            let told = run(&[
                "verify",
                &pack.display().to_string(),
                "--trust",
                &trusted.display().to_string(),
            ]);
            // Which check is first depends on the place: all of them are of packs or of what is in them.
            let named = ["LEDGER-", "PACK-"]
                .iter()
                .any(|code| told.0.contains(code));
            Told(
                format!("{}{}", if named { "PACK-" } else { "" }, told.0),
                told.1,
            )
        })
        .collect()
}

fn drop_tail() -> Vec<Told> {
    let world = World::watched();
    std::fs::remove_dir_all(world.site()).expect("gone");
    Log::new("a", 250).write(&world.site());
    vec![world.monitor("")]
}

fn drop_tiles() -> Vec<Told> {
    let world = World::watched();
    let note = std::fs::read(world.site().join("checkpoint")).expect("a checkpoint");
    std::fs::remove_dir_all(world.site()).expect("gone");
    Log::new("a", 600).write(&world.site());
    put(&world.site().join("checkpoint"), &note);
    vec![world.monitor("")]
}

fn reorder() -> Vec<Told> {
    let world = World::watched();
    world.change("tile/entries/001", |bundle| {
        let length = record(300, "a").len() + 2;
        // Records 400 and 401 change places; all of them are of one length.
        let at = (400 - 256) * length;
        if let Some(two) = bundle.get_mut(at..at + 2 * length) {
            two.rotate_left(length);
        }
    });
    vec![world.monitor("")]
}

fn fork() -> Vec<Told> {
    let world = World::watched();
    Log::new("b", 700).write(&world.site());
    let told = world.monitor("");
    // The proof is one that anybody can check.
    let state = std::fs::read_dir(world.folder.path().join("state")).expect("a state");
    let misbehaviour = state
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|kind| kind == "json"));
    let misbehaviour = misbehaviour.expect("a file").display().to_string();
    let checked = run(&["monitor", "--misbehaviour", &misbehaviour]);
    assert!(
        checked.0.contains("has signed two histories"),
        "{}",
        checked.0
    );
    let bad = std::fs::read_to_string(&misbehaviour)
        .expect("text")
        .replace("\"root\": \"", "\"root\": \"A");
    std::fs::write(&misbehaviour, bad).expect("written");
    assert_eq!(
        run(&["monitor", "--misbehaviour", &misbehaviour]).1,
        Some(3)
    );
    vec![told, Told(format!("MONITOR-FORK {}", checked.0), checked.1)]
}

/// A witness that has cosigned the true log, as its monitors see it.
fn witness(world: &World, log: &Log) -> String {
    let folder = world.folder.path().join("witness");
    put(
        &folder.join("checkpoint"),
        log.note(log.frontier.size()).as_bytes(),
    );
    let hash = crypto::hex::encode(&crypto::sha256(ORIGIN.as_bytes()));
    format!("witnesses = [\"{}\"]", serve(folder, &hash))
}

fn old_head() -> Vec<Told> {
    let world = World::new();
    let witness = witness(&world, &Log::new("a", 700));
    Log::new("a", 300).write(&world.site());
    vec![world.monitor(&witness)]
}

fn split_view() -> Vec<Told> {
    let world = World::new();
    let witness = witness(&world, &Log::new("a", 700));
    Log::new("b", 800).write(&world.site());
    vec![world.monitor(&witness)]
}

fn two_addresses() -> Vec<Told> {
    let world = World::new();
    let other = world.folder.path().join("other");
    Log::new("a", 700).write(&world.site());
    Log::new("b", 500).write(&other);
    let urls = [serve(world.site(), ""), serve(other, "")];
    vec![world.monitor(&format!("urls = {urls:?}"))]
}

fn issue_in_the_open() -> Vec<Told> {
    let world = World::watched();
    let mut log = Log::new("a", 700);
    log.push(theirs(700));
    log.write(&world.site());
    vec![world.monitor("")]
}

fn unreadable() -> Vec<Told> {
    let world = World::watched();
    let mut log = Log::new("a", 700);
    log.push(b"\x00\x01\x02".to_vec());
    log.write(&world.site());
    vec![world.monitor("")]
}

fn take_out() -> Vec<Told> {
    let world = World::watched();
    std::fs::remove_file(world.site().join("tile/entries/001")).expect("gone");
    vec![world.monitor("")]
}

fn cut_short() -> Vec<Told> {
    let world = World::watched();
    world.change("tile/entries/001", |bundle| {
        bundle.truncate(bundle.len() - 9)
    });
    vec![world.monitor("")]
}

fn swap_objects() -> Vec<Told> {
    let world = World::watched();
    let first = std::fs::read(world.site().join("tile/entries/000")).expect("it is there");
    world.change("tile/entries/001", |bundle| *bundle = first);
    vec![world.monitor("")]
}

#[test]
fn each_attack_is_seen_by_the_check_that_the_table_names() {
    for row in TABLE {
        match row.by {
            By::Here(attack, exit) => {
                for Told(said, code) in attack() {
                    assert_eq!(code, Some(exit), "{}: {said}", row.attack);
                    assert!(
                        said.contains(row.code),
                        "{}: {} in {said}",
                        row.attack,
                        row.code
                    );
                }
            }
            By::Test(test) => {
                let (file, name) = test.split_once("::").expect("file::test");
                let path = Path::new(env!("CARGO_MANIFEST_DIR"))
                    .join("../..")
                    .join(file);
                let source = std::fs::read_to_string(&path).expect(file);
                assert!(source.contains(&format!("fn {name}(")), "{test} is no test");
                assert!(
                    source.contains(row.code),
                    "{test} does not say {}",
                    row.code
                );
            }
        }
    }
}

/// The page has this table, as it stands here.
#[test]
fn the_page_about_tampering_has_this_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operate/tampering.md");
    let page = std::fs::read_to_string(path).expect("the page");
    let mut table = "| attack | seen by | code | shown by |\n|---|---|---|---|\n".to_owned();
    for row in TABLE {
        let (file, name) = match row.by {
            By::Here(..) => (file!(), "this table's test"),
            By::Test(test) => test.split_once("::").expect("file::test"),
        };
        let code = match row.code.strip_suffix('-') {
            Some(family) => format!("`{family}-…`, `LEDGER-…`"),
            None => format!("`{}`", row.code),
        };
        let (attack, detector) = (row.attack, row.detector);
        let line = format!("| {attack} | {detector} | {code} | [{name}](../../{file}) |\n");
        table.push_str(&line);
    }
    assert!(page.contains(&table), "the table is now:\n{table}");
}
