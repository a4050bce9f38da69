//! Search and accesses against what was put in, against a full scan, and against an index that lies.

use crate::world::{World, denied, ended, id, intent, issuance, outcome, session, table};
use ledger::{LedgerKey, Receipt};
use proptest::prelude::*;
use record_index::{
    Asked, Error, Filter, Page, Site, TimeRange, accesses, accesses_verified, search, verify,
    verify_from,
};
use std::ops::ControlFlow;

pub(crate) const ALL: Page<'static> = Page {
    ledger: "*",
    from: 0,
    cursor: None,
    limit: None,
    receipts: false,
};

fn found(site: &Site, filter: &Filter) -> Vec<String> {
    let mut hits = Vec::new();
    let searched = search(site, filter, &ALL, |hit| {
        hits.push(format!(
            "{}:{}",
            hit.ledger.rsplit('/').next().unwrap(),
            hit.index
        ));
        ControlFlow::Continue(())
    });
    let searched = searched.unwrap();
    assert_eq!(searched.found, hits.len() as u64);
    assert!(searched.more.is_none());
    verify(site, filter, "*").unwrap();
    hits
}

fn filter(change: impl FnOnce(&mut Filter)) -> Filter {
    let mut filter = Filter::default();
    change(&mut filter);
    filter
}

/// A server that issued to two machines, and a gateway that both used.
pub(crate) fn shop() -> (World, World) {
    let mut server = World::new("server");
    let first = server.put(issuance("shop/api", "m1", "aa11"));
    let second = server.put(issuance("shop/job", "m2", "bb22"));
    assert_eq!((first, second), (1, 2));
    let mut gateway = World::new("pg-1");
    gateway.put(session("s1", "shop/api", Some(first)));
    gateway.put(session("s2", "shop/job", Some(second)));
    gateway.put(intent(
        "s1",
        "shop/api",
        "select",
        &["shop/public/cards"],
        false,
    )); // 3
    gateway.put(outcome(3, "ok"));
    gateway.put(intent(
        "s2",
        "shop/job",
        "update",
        &["shop/public/orders"],
        false,
    )); // 5
    gateway.put(outcome(5, "error"));
    gateway.put(denied("s2", "shop/job", "select", &["shop/public/cards"])); // 7
    gateway.put(ended("s1"));
    (server, gateway)
}

fn both(server: &World, gateway: &World) -> Site {
    let mut site = server.site();
    site.join(gateway.site()).unwrap();
    site.catch_up().unwrap();
    site
}

#[test]
fn records_are_found_by_everything_they_are_about() {
    let (server, gateway) = shop();
    let site = both(&server, &gateway);
    let about = |change: fn(&mut Filter)| found(&site, &filter(change));
    assert_eq!(
        about(|f| f.identity = Some("shop/api".into())),
        ["server:1", "pg-1:1", "pg-1:3", "pg-1:4", "pg-1:8"]
    );
    // Which machine and which code it was, the gateway's records say by the issuance that they name.
    assert_eq!(
        about(|f| f.machine = Some("m2".into())),
        ["server:2", "pg-1:2", "pg-1:5", "pg-1:6", "pg-1:7"]
    );
    assert_eq!(
        about(|f| f.code = Some("sha256:AA11".into())),
        ["server:1", "pg-1:1", "pg-1:3", "pg-1:4", "pg-1:8"]
    );
    for name in ["shop/public/cards", "Table::\"shop/public/cards\""] {
        let of = filter(|f| f.resource = Some(name.into()));
        assert_eq!(found(&site, &of), ["pg-1:3", "pg-1:4", "pg-1:7"], "{name}");
    }
    assert_eq!(
        about(|f| f.resource = Some("shop/public/*".into())),
        ["pg-1:3", "pg-1:4", "pg-1:5", "pg-1:6", "pg-1:7"]
    );
    assert_eq!(about(|f| f.decision = Some("deny".into())), ["pg-1:7"]);
    assert_eq!(
        about(|f| f.types = vec!["issuance".into()]),
        ["server:1", "server:2"]
    );
    assert_eq!(
        about(|f| {
            f.action = Some("select".into());
            f.machine = Some("m2".into());
        }),
        ["pg-1:7"]
    );
    assert_eq!(
        about(|f| f.resource = Some("shop/public/nothing".into())),
        [""; 0]
    );
    let at = |record: u64| crate::world::START + (record + 1) * 1_000;
    let window = filter(|f| {
        f.times = TimeRange {
            since: Some(at(3)),
            until: Some(at(5)),
        };
        f.identity = Some("shop/api".into());
    });
    assert_eq!(found(&site, &window), ["pg-1:3", "pg-1:4"]);
}

/// It was cut at the limit without a word.
#[test]
fn an_answer_that_was_limited_says_where_to_go_on() {
    let (server, gateway) = shop();
    let site = both(&server, &gateway);
    let (mut cursor, mut hits) = (None::<String>, Vec::new());
    for _ in 0..20 {
        let page = Page {
            cursor: cursor.as_deref(),
            limit: Some(2),
            ..ALL
        };
        let searched = search(&site, &Filter::default(), &page, |hit| {
            hits.push(format!("{}:{}", hit.ledger, hit.index));
            ControlFlow::Continue(())
        });
        let Some(more) = searched.unwrap().more else {
            break;
        };
        cursor = Some(more);
    }
    let mut all = Vec::new();
    let whole = search(&site, &Filter::default(), &ALL, |hit| {
        all.push(format!("{}:{}", hit.ledger, hit.index));
        ControlFlow::Continue(())
    });
    assert_eq!(whole.unwrap().heads.len(), 2);
    assert_eq!((hits.len(), hits), (12, all));
    let nonsense = Page {
        cursor: Some("elsewhere:x"),
        ..ALL
    };
    let refused = search(&site, &Filter::default(), &nonsense, |_| {
        ControlFlow::Continue(())
    });
    assert_eq!(refused.unwrap_err().finding().code, "RECORDS-CURSOR");
}

#[test]
fn receipts_verify_under_the_head_that_the_answer_names() {
    let (server, gateway) = shop();
    let site = both(&server, &gateway);
    let page = Page {
        receipts: true,
        ..ALL
    };
    let keys: Vec<LedgerKey> = ["server", "pg-1"]
        .iter()
        .zip([&server, &gateway])
        .map(|(_, world)| {
            ledger_store::Folder::open(&world.path().join("ledger"))
                .unwrap()
                .key()
                .clone()
        })
        .collect();
    let mut receipts: Vec<Receipt> = Vec::new();
    let searched = search(
        &site,
        &filter(|f| f.identity = Some("shop/job".into())),
        &page,
        |hit| {
            receipts.push(hit.receipt.unwrap());
            ControlFlow::Continue(())
        },
    );
    let heads = searched.unwrap().heads;
    assert_eq!(receipts.len(), 5);
    for receipt in receipts {
        let verified = keys.iter().find_map(|key| receipt.verify(key).ok());
        assert!(verified.is_some());
        assert!(
            heads
                .iter()
                .any(|(_, head)| head.note.as_ref() == receipt.checkpoint)
        );
    }
}

#[test]
fn accesses_are_counted_by_whom_and_of_what() {
    let (server, gateway) = shop();
    let site = both(&server, &gateway);
    let ask = |by: Option<&str>, of: Option<&str>, times: TimeRange| {
        let asked = Asked {
            by: by.map(str::to_owned),
            of: of.map(str::to_owned),
            times,
            ..Asked::default()
        };
        let rows = accesses_verified(&site, &asked, true).unwrap();
        assert!(rows.iter().all(|row| row.receipts.is_some()));
        let rows = rows.into_iter().map(|row| {
            let allowed = if row.allowed { "" } else { " denied" };
            format!(
                "{} {} {}{allowed} {}/{}/{} {}..{}",
                row.identity.rsplit('/').next().unwrap(),
                row.kind,
                row.resource,
                row.count,
                row.succeeded,
                row.failed,
                row.first.0,
                row.last.0
            )
        });
        rows.collect::<Vec<_>>()
    };
    let cards = table("shop/public/cards");
    let orders = table("shop/public/orders");
    let job = [
        format!("job read {cards} denied 1/0/0 7..7"),
        format!("job modified {orders} 1/0/1 5..5"),
    ];
    assert_eq!(ask(Some("shop/job"), None, TimeRange::default()), job);
    let of_cards = [
        format!("api read {cards} 1/1/0 3..3"),
        format!("job read {cards} denied 1/0/0 7..7"),
    ];
    assert_eq!(
        ask(None, Some("shop/public/cards"), TimeRange::default()),
        of_cards
    );
    // The same from the records of a window that holds everything.
    let window = TimeRange {
        since: Some(1),
        until: None,
    };
    assert_eq!(ask(Some(&id("shop/job")), None, window), job);
    let late = TimeRange {
        since: Some(crate::world::START + 7_500),
        until: None,
    };
    assert_eq!(ask(None, None, late), job[..1]);
}

#[test]
fn a_record_whose_list_was_cut_is_found_by_every_resource() {
    let mut gateway = World::new("pg-1");
    gateway.put(session("s", "shop/api", None));
    gateway.put(intent("s", "shop/api", "select", &["shop/public/a"], true));
    let mut site = gateway.site();
    site.catch_up().unwrap();
    for name in ["shop/public/a", "shop/public/other", "elsewhere/*"] {
        assert_eq!(
            found(&site, &filter(|f| f.resource = Some(name.into()))),
            ["pg-1:2"],
            "{name}"
        );
    }
}

#[test]
fn an_index_that_lies_is_told() {
    let (server, gateway) = shop();
    let of_cards = filter(|f| f.resource = Some("shop/public/cards".into()));
    let lies = [
        (
            "DELETE FROM postings WHERE record = 7",
            "leaves out example.org/pg-1:7",
        ),
        (
            "INSERT INTO postings SELECT id, 5 FROM dictionary WHERE name = 'shop/public/cards'",
            "names example.org/pg-1:5",
        ),
        (
            "DELETE FROM records WHERE record = 3",
            "leaves out example.org/pg-1:3",
        ),
        (
            "UPDATE dictionary SET name = 'x', text = 'x' WHERE name = 'shop/public/cards'",
            "leaves out",
        ),
    ];
    for (lie, told) in lies {
        let site = both(&server, &gateway);
        verify(&site, &of_cards, "*").unwrap();
        let of_gateway = site
            .sources()
            .iter()
            .find(|source| source.is_called("pg-1"))
            .unwrap();
        of_gateway.index().database().tamper(lie).unwrap();
        let finding = verify(&site, &of_cards, "*").unwrap_err().finding();
        assert_eq!(finding.code, "RECORDS-INDEX-LIED", "{lie}");
        assert!(finding.observed.unwrap().contains(told), "{lie}");
        drop(site);
        // As it says: without the file it is made anew.
        for suffix in ["", "-wal", "-shm"] {
            drop(std::fs::remove_file(
                gateway.path().join(format!("ledger/index.sqlite{suffix}")),
            ));
        }
    }
    let site = both(&server, &gateway);
    let asked = Asked::default();
    accesses_verified(&site, &asked, false).unwrap();
    let of_gateway = site
        .sources()
        .iter()
        .find(|source| source.is_called("pg-1"))
        .unwrap();
    of_gateway
        .index()
        .database()
        .tamper("UPDATE uses SET count = 2 WHERE allowed = 0")
        .unwrap();
    assert!(accesses(&site, &asked, false).is_ok());
    let lied = accesses_verified(&site, &asked, false).unwrap_err();
    assert!(matches!(lied, Error::Lied(_)), "{lied}");
}

#[test]
fn an_index_follows_its_ledger_and_is_made_anew_for_another_tree() {
    let mut gateway = World::new("pg-1");
    gateway.put(session("s", "shop/api", None));
    let mut site = gateway.site();
    assert_eq!(site.catch_up().unwrap()[0].size, 2);
    // While the process runs and writes.
    gateway.put(intent("s", "shop/api", "select", &["shop/public/a"], false));
    let mut later = gateway.site();
    let followed = later.catch_up().unwrap();
    assert_eq!((followed[0].size, followed[0].rebuilt), (3, false));
    // Whose session began before the index went on.
    assert_eq!(
        found(&later, &filter(|f| f.identity = Some("shop/api".into()))),
        ["pg-1:1", "pg-1:2"]
    );
    drop((site, later));
    // Another ledger in the same place, as long as that of the index.
    let mut other = World::new("pg-1");
    for name in ["one", "two", "three"] {
        other.put(session(name, "agents/a", None));
    }
    gateway.close();
    let index = gateway.path().join("ledger/index.sqlite");
    std::fs::copy(&index, other.path().join("ledger/index.sqlite")).unwrap();
    let mut site = other.site();
    let followed = site.catch_up().unwrap();
    assert_eq!((followed[0].size, followed[0].rebuilt), (4, true));
    assert_eq!(
        found(&site, &filter(|f| f.identity = Some("shop/api".into()))),
        [""; 0]
    );
    drop(site);
    // A file that is no database is none to keep.
    std::fs::write(other.path().join("ledger/index.sqlite"), vec![7; 9_000]).unwrap();
    let mut site = other.site();
    assert_eq!(site.catch_up().unwrap()[0].size, 4);
}

#[test]
fn a_folder_is_read_and_left_as_it_was() {
    let (_, mut gateway) = shop();
    gateway.reopen();
    let list = |dir: &std::path::Path| {
        let mut names: Vec<_> = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name(), entry.metadata().unwrap().len()))
            .collect();
        names.sort();
        names
    };
    let ledger = gateway.path().join("ledger");
    let before = (list(&ledger), list(&ledger.join("segments")));
    let elsewhere = tempfile::tempdir().unwrap();
    let mut site = Site::open(gateway.path(), Some(elsewhere.path())).unwrap();
    site.catch_up().unwrap();
    assert_eq!((list(&ledger), list(&ledger.join("segments"))), before);
    let none = Site::open(elsewhere.path(), None).err().unwrap();
    assert_eq!(none.finding().code, "RECORDS-NO-LEDGER");
}

/// What a gateway may write as well: the index says what the scan says, whatever it is.
#[test]
fn names_and_times_of_a_hostile_gateway_are_told_as_they_are() {
    let mut gateway = World::new("pg-1");
    let forged = "agents/a\nissuance 1\"]";
    gateway.put(session("s", forged, None));
    let late = ledger::Stamp {
        wall: u64::MAX,
        mono: 0,
    };
    gateway
        .put_as_is(intent("s", "agents/x", "select", &["shop/public/a\"", "x*"], false).at(late));
    let mut site = gateway.site();
    site.catch_up().unwrap();
    // An index that has forgotten the session's beginning reads it from its file.
    gateway.put(intent("s", "agents/b", "select", &["shop/public/a"], false));
    gateway.put(session("s", "agents/c", None));
    gateway.put(outcome(3, "ok"));
    gateway.put(outcome(99, "ok"));
    gateway.put(outcome(5, "ok"));
    drop(site);
    let mut site = gateway.site();
    site.catch_up().unwrap();
    assert_eq!(
        found(&site, &filter(|f| f.identity = Some(id(forged)))),
        ["pg-1:1", "pg-1:2", "pg-1:3", "pg-1:5"]
    );
    assert_eq!(
        found(&site, &filter(|f| f.identity = Some("agents/c".into()))),
        ["pg-1:4"]
    );
    let since = filter(|f| f.times.since = Some(u64::MAX - 9));
    assert_eq!(found(&site, &since), [""; 0]);
    assert_eq!(found(&site, &Filter::default()).len(), 8);
    accesses_verified(&site, &Asked::default(), true).unwrap();
}

/// One thing that happens in a generated ledger.
#[derive(Debug, Clone)]
enum Step {
    Begin(u8, u8),
    Act(u8, u8, u8, bool),
    Deny(u8, u8, u8),
    Outcome(u8, bool),
    End(u8),
    Commit,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..4_u8, 0..3_u8).prop_map(|(session, who)| Step::Begin(session, who)),
        (0..4_u8, 0..3_u8, 0..4_u8, prop::bool::weighted(0.1))
            .prop_map(|(s, a, t, cut)| Step::Act(s, a, t, cut)),
        (0..4_u8, 0..3_u8, 0..4_u8).prop_map(|(s, a, t)| Step::Deny(s, a, t)),
        (0..20_u8, any::<bool>()).prop_map(|(back, good)| Step::Outcome(back, good)),
        (0..4_u8).prop_map(Step::End),
        Just(Step::Commit),
    ]
}

const WHO: [&str; 3] = ["shop/api", "shop/job", "agents/a"];
const ACTIONS: [&str; 3] = ["select", "update", "delete"];
const TABLES: [&str; 4] = [
    "shop/public/a",
    "shop/public/b",
    "shop/private/a",
    "other/public/a",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// The index, made in several goes, says what a scan of the ledger says.
    #[test]
    fn the_index_is_the_full_scan(steps in prop::collection::vec(step(), 1..80), seed in any::<u8>()) {
        let mut world = World::new("pg-1");
        let mut waiting = Vec::new();
        let mut next = 1_u64;
        for step in steps {
            let record = match step {
                Step::Begin(s, who) => session(&format!("s{s}"), WHO[usize::from(who)], Some(u64::from(who))),
                Step::Act(s, action, at, cut) => {
                    let who = WHO[usize::from(s) % 3];
                    intent(&format!("s{s}"), who, ACTIONS[usize::from(action)], &[TABLES[usize::from(at)]], cut)
                }
                Step::Deny(s, action, at) => {
                    denied(&format!("s{s}"), "agents/a", ACTIONS[usize::from(action)], &[TABLES[usize::from(at)]])
                }
                Step::Outcome(back, good) => {
                    let result = if good { "ok" } else { "error" };
                    outcome(next.saturating_sub(u64::from(back)), result)
                }
                Step::End(s) => ended(&format!("s{s}")),
                Step::Commit => {
                    world.put_all(std::mem::take(&mut waiting));
                    world.site().catch_up().unwrap();
                    continue;
                }
            };
            waiting.push(record);
            next += 1;
        }
        world.put_all(waiting);
        let mut site = world.site();
        site.catch_up().unwrap();
        let pick = |names: &[&str], at: u8| names.get(usize::from(at)).map(|name| (*name).to_owned());
        let asked = filter(|f| {
            f.identity = pick(&WHO, seed % 4);
            f.action = pick(&ACTIONS, seed / 4 % 4);
            f.resource = pick(&["shop/public/a", "shop/*", "Table::\"shop/private/a\""], seed / 16 % 4);
            f.decision = pick(&["allow", "deny"], seed / 64 % 4);
        });
        let mut hits = 0;
        let searched = search(&site, &asked, &ALL, |_| { hits += 1; ControlFlow::Continue(()) }).unwrap();
        let verified = verify(&site, &asked, "*").unwrap();
        prop_assert_eq!((searched.found, hits), (verified.matching, verified.matching));
        accesses_verified(&site, &Asked { of: asked.resource.clone(), ..Asked::default() }, false).unwrap();
        accesses_verified(&site, &Asked { by: asked.identity.clone(), ..Asked::default() }, false).unwrap();
    }
}

/// The answer comes out of bundles that somebody else serves; what they lie about does not hash to the head.
#[test]
fn an_answer_is_derived_again_from_bundles_of_elsewhere() {
    use ledger::tile::TilePath;
    let (server, gateway) = shop();
    let alone = server.site();
    let folder = ledger_store::Folder::open(server.path().join("ledger").as_path())
        .or_else(|_| ledger_store::Folder::open(server.path()))
        .unwrap();
    let serve = |path: &TilePath| Ok(folder.reader().tile(path).unwrap().unwrap());
    let mut alone = alone;
    alone.catch_up().unwrap();
    let issued = filter(|f| f.types = vec!["issuance".into()]);
    let verified = verify_from(&alone, &issued, "server", serve).unwrap();
    assert_eq!((verified.read, verified.matching), (3, 2));

    type Lie = fn(Vec<u8>) -> Vec<u8>;
    let lies: [(Lie, &str); 3] = [
        (
            |mut bundle| {
                let last = bundle.len() - 9;
                bundle[last] ^= 1;
                bundle
            },
            "RECORDS-LEDGER-ROOT",
        ),
        (
            |mut bundle| {
                bundle.pop();
                bundle
            },
            "RECORDS-TILES",
        ),
        (|_| Vec::new(), "RECORDS-TILES"),
    ];
    for (lie, code) in lies {
        let lied = verify_from(&alone, &issued, "server", |path| serve(path).map(lie));
        assert_eq!(lied.unwrap_err().finding().code, code);
    }
    // The index lies, and the bundles do not.
    let index = alone.sources()[0].index();
    let lie = "DELETE FROM postings WHERE record = 2";
    index.database().tamper(lie).unwrap();
    let lied = verify_from(&alone, &issued, "server", serve).unwrap_err();
    assert_eq!(lied.finding().code, "RECORDS-INDEX-LIED");
    drop(alone);
    let both = both(&server, &gateway);
    let refused = verify_from(&both, &issued, "*", serve).unwrap_err();
    assert_eq!(refused.finding().code, "RECORDS-FROM-ONE");
}
