//! History, replay and unused, of the example estate.

use crate::world::{START, World, denied, intent, issuance, session, shop_files, without};
use estate::{Action, Estate, EstateFiles, Request, ResourceRef};
use estate_prove::{Options, Widening};
use facts::{FactSet, Source, Timestamp, Value, names};
use proptest::prelude::*;
use record_index::{About, Change, Site, TimeRange, history, patch, replay, unused};

const CARDS: &str = "shop/public/cards";
const CUSTOMERS: &str = "shop/public/customers";
const ORDERS: &str = "shop/public/orders";

fn compile(files: &EstateFiles) -> Estate {
    Estate::compile(files).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn both(server: &World, gateway: &World) -> Site {
    let mut site = server.site();
    site.join(gateway.site()).unwrap();
    site.catch_up().unwrap();
    site
}

/// The shop in force, and what was done: cards read, orders updated, customers read on a machine with a TPM,
/// and customers not written.
fn shop() -> (World, World) {
    let mut server = World::new("server");
    server.apply(&shop_files(), "uid:0");
    let api = server.put(issuance("payments/api", "m1", "aa"));
    let nightly = server.put(issuance("reporting/nightly", "m1", "bb"));
    let mut gateway = World::new("pg-1");
    gateway.put(session("s1", "payments/api", Some(api)));
    gateway.put(session("s2", "reporting/nightly", Some(nightly)));
    gateway.put(intent("s1", "payments/api", "select", &[CARDS], false));
    gateway.put(intent("s1", "payments/api", "update", &[ORDERS], false));
    gateway.put(intent(
        "s2",
        "reporting/nightly",
        "select",
        &[CUSTOMERS],
        false,
    ));
    gateway.put(denied("s1", "payments/api", "insert", &[CUSTOMERS, ORDERS]));
    (server, gateway)
}

const ALL: TimeRange = TimeRange {
    since: None,
    until: None,
};

#[test]
fn another_estate_is_told_by_what_it_would_have_denied_and_allowed() {
    let (server, gateway) = shop();
    let site = both(&server, &gateway);
    let same = replay(&site, &compile(&shop_files()), ALL).unwrap();
    assert!(
        same.changed.is_empty() && same.not_replayed.is_empty(),
        "{same:?}"
    );
    assert_eq!(same.same, 5);

    let mut files = without(&shop_files(), "payments reads cards");
    let wider = format!(
        "{}\n@id(\"payments writes customers\")\npermit (principal == Identity::\"payments/api\", action == Action::\"insert\", resource == Table::\"{CUSTOMERS}\");\n",
        files.0["policies/shop.cedar"]
    );
    files.insert("policies/shop.cedar", wider);
    let other = replay(&site, &compile(&files), ALL).unwrap();
    let changed: Vec<_> = other
        .changed
        .iter()
        .map(|one| {
            (
                one.change,
                one.action.as_str(),
                one.resource.as_str(),
                one.count,
                one.last.0,
            )
        })
        .collect();
    // Orders may be written today: it was not for them that the statement was denied.
    let cards = format!("Table::\"{CARDS}\"");
    let customers = format!("Table::\"{CUSTOMERS}\"");
    let expected = [
        (Change::Denied, "select", cards.as_str(), 1, 3),
        (Change::Allowed, "insert", customers.as_str(), 1, 6),
    ];
    assert_eq!(changed, expected);
    // By the line at which it stands in what is proposed.
    let place = |policy: &str| {
        let text = &files.0["policies/shop.cedar"];
        let line = text.lines().position(|line| line.contains(policy)).unwrap() + 1;
        format!("policies/shop.cedar:{line} {policy:?}")
    };
    let by: Vec<String> = other.changed[1]
        .decided_by
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(by, [place("payments writes customers")]);
    assert_eq!(other.changed[1].policies, ["payments writes customers"]);
    assert_eq!(other.same, 3);
    // Only what was done since.
    let since = TimeRange {
        since: Some(START + 6_500),
        until: None,
    };
    let late = replay(&site, &compile(&files), since).unwrap();
    assert_eq!((late.changed.len(), late.same), (1, 1));
}

/// It was told as if it were new, in the same words as what is.
#[test]
fn what_would_be_allowed_is_doubted_where_the_estate_in_force_is_not_there() {
    let (server, gateway) = shop();
    let wider = format!(
        "{}\n@id(\"payments writes customers\")\npermit (principal == Identity::\"payments/api\", action == Action::\"insert\", resource == Table::\"{CUSTOMERS}\");\n",
        shop_files().0["policies/shop.cedar"]
    );
    let mut files = shop_files();
    files.insert("policies/shop.cedar", wider);
    let allowed = |one: &record_index::Changed| one.change == Change::Allowed;
    let whole = replay(&both(&server, &gateway), &compile(&files), ALL).unwrap();
    assert!(whole.changed.iter().any(allowed), "{whole:?}");
    assert_eq!(whole.doubt(), None);
    let mut alone = gateway.site();
    alone.catch_up().unwrap();
    let alone = replay(&alone, &compile(&files), ALL).unwrap();
    assert!(alone.changed.iter().any(allowed), "{alone:?}");
    assert!(
        alone.doubt().unwrap().contains("estate in force"),
        "{alone:?}"
    );
}

#[test]
fn what_depends_on_facts_that_are_not_here_is_not_replayed() {
    let (_, gateway) = shop();
    let mut site = gateway.site();
    site.catch_up().unwrap();
    let replayed = replay(&site, &compile(&shop_files()), ALL).unwrap();
    let [not] = &replayed.not_replayed[..] else {
        panic!("{replayed:?}");
    };
    assert!(not.identity.ends_with("reporting/nightly"));
    assert!(
        not.why.contains("tpm") && not.why.contains("server's ledger is not here"),
        "{}",
        not.why
    );
}

#[test]
fn history_says_since_when_by_which_change_and_by_whom() {
    let mut server = World::new("server");
    let files = shop_files();
    let first = server.apply(&files, "uid:0");
    let mut tested = files.clone();
    let more = format!("{}\n# nothing more\n", tested.0["tests/shop.toml"]);
    tested.insert("tests/shop.toml", more);
    server.apply(&tested, "uid:1");
    let third = server.apply(&without(&files, "payments reads cards"), "uid:2");
    let fourth = server.apply(&files, "uid:3");
    let mut site = server.site();
    site.catch_up().unwrap();
    let about = About::Access {
        principal: "payments/api".to_owned(),
        action: Action::Select,
        resource: ResourceRef::table(CARDS),
    };
    let told = history(&site, &about, true).unwrap();
    let changes: Vec<_> = told
        .changes
        .iter()
        .map(|change| {
            assert_eq!(change.receipt.as_ref().unwrap().index, change.record);
            (
                change.record,
                change.author.as_str(),
                change.gained.len(),
                change.lost.len(),
            )
        })
        .collect();
    assert_eq!(
        changes,
        [
            (first, "uid:0", 1, 0),
            (third, "uid:2", 0, 1),
            (fourth, "uid:3", 1, 0)
        ]
    );
    assert_eq!((told.versions, told.compiled), (4, 3));
    assert_eq!(told.since, [fourth]);
    assert!(
        told.now[0].contains("payments reads cards"),
        "{:?}",
        told.now
    );

    let place = |files: &EstateFiles| {
        let lines = files.0["policies/shop.cedar"].lines();
        let named = |line: &&str| line.contains("@id(\"payments reads cards\")");
        let above = lines.take_while(|line| !named(line)).count();
        format!(
            "because of policies/shop.cedar:{} \"payments reads cards\"",
            above + 1
        )
    };
    assert!(
        told.changes[0].gained[0].ends_with(&place(&files)),
        "{:?}",
        told.changes[0]
    );
    // What moved within its file is what it was, and now stands elsewhere.
    let mut moved = files.clone();
    let further = format!("// One line more.\n{}", files.0["policies/shop.cedar"]);
    moved.insert("policies/shop.cedar", further);
    server.apply(&moved, "uid:4");
    let mut site = server.site();
    site.catch_up().unwrap();
    let later = history(&site, &about, false).unwrap();
    assert_eq!((later.changes.len(), later.since), (3, vec![fourth]));
    assert_ne!(place(&files), place(&moved));
    assert!(later.now[0].ends_with(&place(&moved)), "{:?}", later.now);

    let of_resource = history(&site, &About::Resource(ResourceRef::table(CARDS)), false).unwrap();
    assert_eq!(of_resource.changes.len(), 3);
    let at = of_resource
        .now
        .iter()
        .position(|line| line.starts_with("payments/api select"));
    assert_eq!(of_resource.since[at.unwrap()], fourth);
    // What may be done to another has not changed since the beginning.
    let of_orders = history(&site, &About::Resource(ResourceRef::table(ORDERS)), false).unwrap();
    assert_eq!(
        (of_orders.changes.len(), of_orders.changes[0].record),
        (1, first)
    );
    assert!(of_orders.since.len() > 3 && of_orders.since.iter().all(|since| *since == first));
    let of_policy = history(
        &site,
        &About::Policy("payments reads cards".to_owned()),
        false,
    )
    .unwrap();
    assert_eq!(of_policy.changes.len(), 3);
    let of_principal = history(&site, &About::Principal("payments/api".to_owned()), false).unwrap();
    assert_eq!(of_principal.changes.len(), 3);
    // Without blobs nothing is made up.
    std::fs::remove_dir_all(server.path().join("blobs")).unwrap();
    let mut site = server.site();
    site.catch_up().unwrap();
    let told = history(&site, &about, false).unwrap();
    assert_eq!((told.changes.len(), told.unread.len()), (0, 5));
}

#[test]
fn what_nobody_used_is_told_and_the_patch_is_proved_not_to_widen() {
    let (server, gateway) = shop();
    let site = both(&server, &gateway);
    let estate = compile(&shop_files());
    let mut found = unused(&site, &estate, ALL).unwrap();
    assert_eq!(found.observed, 3);
    let granted = |path: &str, action: &str, of: &str| {
        found.grants.iter().any(|grant| {
            grant.identity == path && grant.action == action && grant.resource.contains(of)
        })
    };
    assert!(
        granted("payments/api", "select", CUSTOMERS) && granted("payments/api", "delete", ORDERS)
    );
    assert!(
        !granted("payments/api", "select", CARDS) && !granted("payments/api", "update", ORDERS)
    );
    assert!(!granted("reporting/nightly", "select", CUSTOMERS));
    let options = Options::with_solver(std::env::var_os("CVC5"));
    let known = std::process::Command::new(&options.solver)
        .arg("--version")
        .output();
    if known.is_err() {
        testkit::skip(
            "what_nobody_used_is_told_and_the_patch_is_proved_not_to_widen",
            "cvc5 is neither at $CVC5 nor on PATH",
        );
        return;
    }
    let smaller = patch(&site, &estate, &mut found, ALL, &options).unwrap();
    // Recorded policies are made up in these records: what was observed needs these all the same.
    for id in [
        "payments reads cards",
        "payments keeps orders",
        "reporting reads customers, on machines with a TPM",
    ] {
        assert!(
            !smaller.removed.iter().any(|removed| removed == id),
            "{id}: {:?}",
            smaller.removed
        );
    }
    assert!(
        smaller
            .removed
            .iter()
            .any(|removed| removed == "payments reads customers")
    );
    assert!(
        !smaller
            .removed
            .iter()
            .any(|removed| removed == "operators administer")
    );
    assert!(
        matches!(smaller.widening, Widening::Nothing { asked: 1.., .. }),
        "{:?}",
        smaller.widening
    );
    assert_eq!(smaller.replayed, 3);
    git_applies(&estate, &smaller.diff, &smaller.files);
    // The other way round something is newly allowed, which the solver finds.
    let wider = estate_prove::newly_allowed_blocking(&compile(&smaller.files), &estate, &options);
    assert!(matches!(wider, Widening::Something { .. }), "{wider:?}");
    let nobody = Options::with_solver(Some("/no/such/solver".into()));
    let unknown = patch(
        &site,
        &estate,
        &mut unused(&site, &estate, ALL).unwrap(),
        ALL,
        &nobody,
    )
    .unwrap();
    assert!(matches!(unknown.widening, Widening::Unknown { .. }));
}

fn git_applies(estate: &Estate, diff: &str, files: &EstateFiles) {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in &estate.files().0 {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    std::fs::write(folder.path().join("patch"), diff).unwrap();
    let applied = std::process::Command::new("git")
        .args(["apply", "patch"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(
        applied.status.success(),
        "{}",
        String::from_utf8_lossy(&applied.stderr)
    );
    for (path, text) in &files.0 {
        assert_eq!(
            &std::fs::read_to_string(folder.path().join(path)).unwrap(),
            text,
            "{path}"
        );
    }
}

/// Facts that the example's policies ask for, as sessions may have them, and others.
fn contexts() -> Vec<FactSet> {
    let joins = [None, Some("tpm"), Some("token"), Some("cloud")];
    let mut contexts = Vec::new();
    for join in joins {
        for pool in [None, Some("demo")] {
            for uid in [None, Some(0_u32), Some(1_000)] {
                let mut facts = FactSet::new();
                let mut state = |name: &str, value: Option<Value>| {
                    if let Some(value) = value {
                        facts.state(name, value, Source::Verified, Timestamp::EPOCH);
                    }
                };
                state(names::MACHINE_JOIN, join.map(Into::into));
                state(names::MACHINE_POOL, pool.map(Into::into));
                state(names::WORKLOAD_UID, uid.map(Into::into));
                contexts.push(facts);
            }
        }
    }
    contexts
}

/// What `new` allows and `old` does not, by plain decisions of one after another: of every identity, action, table and
/// session. A condition that was loosened is found as a scope is.
fn newly_allowed(old: &Estate, new: &Estate) -> Option<String> {
    let mut tables: Vec<ResourceRef> = old.objects().map(|one| one.resource.clone()).collect();
    tables.push(ResourceRef::table("shop/public/unlisted"));
    let contexts: Vec<_> = contexts()
        .into_iter()
        .map(|facts| (old.prepare(&facts), new.prepare(&facts), facts))
        .collect();
    for identity in old.identities() {
        for action in old.uses() {
            let kinds = old.resource_kinds(action);
            for table in tables.iter().filter(|one| kinds.contains(&one.kind)) {
                for (before, after, facts) in &contexts {
                    let path = &identity.path;
                    let now = new.decide_prepared(path, action, table, after).allow;
                    if now && !old.decide_prepared(path, action, table, before).allow {
                        return Some(format!("{path} {action} {table} with {facts:?}"));
                    }
                }
            }
        }
    }
    None
}

/// The judge of the property below, judged: an enumeration that asks only who could reach what by any facts sees
/// nothing in a condition that is gone.
#[test]
fn a_loosened_condition_is_a_widening() {
    let old = compile(&shop_files());
    let changed = |from: &str, to: &str| {
        let mut files = shop_files();
        let text = files.0["policies/shop.cedar"].clone();
        assert_eq!(text.matches(from).count(), 1, "{from}");
        files.insert("policies/shop.cedar", text.replace(from, to));
        compile(&files)
    };
    for (from, to) in [
        (
            "context.machine.join == \"tpm\"",
            "context.machine.join != \"token\"",
        ),
        (
            "when { context.machine has join && context.machine.join == \"tpm\" };",
            ";",
        ),
    ] {
        let loosened = changed(from, to);
        let seen = newly_allowed(&old, &loosened).unwrap();
        assert!(seen.starts_with("reporting/nightly select"), "{seen}");
        let diff = estate::diff(&old, &loosened);
        assert!(diff.widened.iter().all(|change| change.before.is_some()));
    }
    let narrowed = changed(
        "context.machine.join == \"tpm\"",
        "context.machine.join == \"tmp\"",
    );
    assert_eq!(newly_allowed(&old, &narrowed), None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    /// By enumeration, since a solver takes its time: the patch widens nothing, and denies nothing that was seen.
    #[test]
    fn a_patch_never_widens_and_never_denies_what_was_observed(picked in prop::collection::vec(any::<u16>(), 0..6)) {
        let estate = compile(&shop_files());
        let granted: Vec<_> = estate
            .identities()
            .flat_map(|identity| estate.what_can(&identity.path).accesses)
            .filter(|access| access.is_unconditional() && access.resource.to_string().starts_with("Table"))
            .collect();
        let mut server = World::new("server");
        server.apply(&shop_files(), "uid:0");
        let mut gateway = World::new("pg-1");
        let observed: Vec<_> = picked.iter().map(|at| &granted[usize::from(*at) % granted.len()]).collect();
        for (number, access) in observed.iter().enumerate() {
            let name = format!("s{number}");
            gateway.put(session(&name, &access.identity, None));
            gateway.put(intent(&name, &access.identity, access.action.as_str(), &[&access.resource.path], false));
        }
        let site = both(&server, &gateway);
        let nobody = Options::with_solver(Some("/no/such/solver".into()));
        let mut found = unused(&site, &estate, ALL).unwrap();
        let smaller = patch(&site, &estate, &mut found, ALL, &nobody).unwrap();
        git_applies(&estate, &smaller.diff, &smaller.files);
        let small = compile(&smaller.files);
        for access in &observed {
            let facts = FactSet::new();
            let decision = small.decide(&Request {
                principal: &access.identity,
                action: access.action,
                resource: access.resource.clone(),
                facts: &facts,
            });
            prop_assert!(decision.allow, "{access:?}");
        }
        let diff = estate::diff(&estate, &small);
        prop_assert!(diff.widened.iter().all(|change| change.before.is_some()), "{:?}", diff.widened);
        prop_assert_eq!(newly_allowed(&estate, &small), None);
    }
}
