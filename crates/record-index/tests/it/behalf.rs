//! What was done on behalf of whom: found by it, counted by it, and decided again by the whole chain.

use crate::searching::ALL as EVERYWHERE;
use crate::world::{For, World, acting, id, intent, issuance, issuance_of, session, shop_files};
use estate::{Estate, EstateFiles};
use record_index::{
    Asked, Change, Error, Filter, Site, TimeRange, accesses_verified, replay, search, unused,
    verify,
};
use std::ops::ControlFlow;

const CARDS: &str = "shop/public/cards";
const ORDERS: &str = "shop/public/orders";

const PEOPLE: &str = r#"
[[identity]]
path = "people/ada"
kind = "person"
owner = "people team"
login = { issuer = "https://login.example.org", subject = "ada-1" }
[[identity]]
path = "people/ad"
kind = "person"
owner = "people team"
login = { issuer = "https://login.example.org", subject = "ad-1" }
[[identity]]
path = "agents/front"
kind = "ai-agent"
owner = "support"
"#;

const DELEGATIONS: &str = r#"
[[delegation]]
id = "ada works through the service"
from = 'Identity::"people/ada"'
to = 'Identity::"payments/api"'
max_ttl = "15m"
"#;

const POLICIES: &str = r#"
@id("ada reads cards")
permit (principal == Identity::"people/ada", action == Action::"select", resource == Table::"shop/public/cards");
"#;

fn people() -> EstateFiles {
    let mut files = shop_files();
    files.insert("identities/people.toml", PEOPLE);
    files.insert("delegations/people.toml", DELEGATIONS);
    files.insert("policies/people.cedar", POLICIES);
    files
}

fn compile(files: &EstateFiles) -> Estate {
    Estate::compile(files).unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// The service reads cards for itself, for Ada as it tells, and for Ad as was proven; orders for Ada are denied.
fn shop() -> (World, World) {
    let mut server = World::new("server");
    server.apply(&people(), "uid:0");
    let api = server.put(issuance("payments/api", "m1", "aa"));
    let mut gateway = World::new("pg-1");
    gateway.put(session("own", "payments/api", Some(api))); // 1
    gateway.put(intent("own", "payments/api", "select", &[CARDS], false)); // 2
    let who = ("payments/api", api);
    let ada = For::Told(&["people/ada"]);
    // 3 to 7: beginning, intent, outcome, denial, end.
    let (read, refused) = ([("select", CARDS)], [("update", ORDERS)]);
    acting(&mut gateway, "told", who, &ada, &read, &refused);
    let far = For::Proven(&["people/ad", "agents/front"]);
    // 8 to 11.
    acting(&mut gateway, "shown", who, &far, &read, &[]);
    (server, gateway)
}

fn both(server: &World, gateway: &World) -> Site {
    let mut site = server.site();
    site.join(gateway.site()).unwrap();
    site.catch_up().unwrap();
    site
}

fn found(site: &Site, whom: &str) -> Vec<u64> {
    let filter = Filter {
        on_behalf_of: Some(whom.to_owned()),
        ..Filter::default()
    };
    let mut hits = Vec::new();
    let searched = search(site, &filter, &EVERYWHERE, |hit| {
        hits.push(hit.index);
        ControlFlow::Continue(())
    });
    searched.unwrap();
    verify(site, &filter, "*").unwrap();
    hits
}

#[test]
fn records_are_found_by_those_for_whom_they_were_made() {
    let (server, gateway) = shop();
    let site = both(&server, &gateway);
    assert_eq!(found(&site, "people/ada"), [3, 4, 5, 6, 7]);
    assert_eq!(found(&site, &id("people/ad")), [8, 9, 10, 11]);
    assert_eq!(found(&site, "agents/front"), [8, 9, 10, 11]);
    // Who acted is nobody on whose behalf it acted.
    assert!(found(&site, "payments/api").is_empty());
}

fn asked(change: impl FnOnce(&mut Asked)) -> Asked {
    let mut asked = Asked::default();
    change(&mut asked);
    asked
}

#[test]
fn accesses_are_told_apart_by_those_for_whom_they_were_made() {
    let (server, gateway) = shop();
    let site = both(&server, &gateway);
    let ask = |asked: &Asked| {
        let rows = accesses_verified(&site, asked, false).unwrap();
        let rows = rows.into_iter().map(|row| {
            let last = |ids: &[String]| {
                let names = ids.iter().map(|id| id.rsplit('/').next().unwrap());
                names.collect::<Vec<_>>().join("+")
            };
            format!(
                "{} {} told:{} proven:{}",
                row.action,
                row.allowed,
                last(&row.claimed_on_behalf_of),
                last(&row.on_behalf_of)
            )
        });
        rows.collect::<Vec<_>>()
    };
    assert_eq!(
        ask(&asked(|asked| asked.of = Some(CARDS.to_owned()))),
        [
            "select true told: proven:",
            "select true told: proven:ad+front",
            "select true told:ada proven:",
        ]
    );
    let of_ada = [
        "select true told:ada proven:",
        "update false told:ada proven:",
    ];
    let by_whom = |times| {
        asked(|asked| {
            asked.on_behalf_of = Some("people/ada".to_owned());
            asked.times = times;
        })
    };
    assert_eq!(ask(&by_whom(TimeRange::default())), of_ada);
    // By the records of a window that holds everything, too.
    let window = TimeRange {
        since: Some(1),
        until: None,
    };
    assert_eq!(ask(&by_whom(window)), of_ada);
    let front = asked(|asked| asked.on_behalf_of = Some(id("agents/front")));
    assert_eq!(ask(&front), ["select true told: proven:ad+front"]);
}

#[test]
fn an_index_that_hides_for_whom_is_told() {
    for lie in [
        "UPDATE dictionary SET text = '' || text || 'x' WHERE dimension = 12 AND text <> ''",
        "UPDATE uses SET proven = 1 - proven",
    ] {
        let (server, gateway) = shop();
        let site = both(&server, &gateway);
        let of_gateway = site
            .sources()
            .iter()
            .find(|source| source.is_called("pg-1"))
            .unwrap();
        of_gateway.index().database().tamper(lie).unwrap();
        let lied = accesses_verified(&site, &Asked::default(), false).unwrap_err();
        assert!(matches!(lied, Error::Lied(_)), "{lie}: {lied}");
    }
}

#[test]
fn an_index_of_the_schema_before_is_made_anew() {
    let (server, gateway) = shop();
    let site = both(&server, &gateway);
    for source in site.sources() {
        source
            .index()
            .database()
            .tamper("DROP TABLE uses; PRAGMA user_version = 1")
            .unwrap();
    }
    drop(site);
    let site = both(&server, &gateway);
    assert_eq!(found(&site, "people/ada"), [3, 4, 5, 6, 7]);
    accesses_verified(&site, &Asked::default(), false).unwrap();
}

#[test]
fn what_was_done_for_others_is_decided_again_by_the_whole_chain() {
    let (server, gateway) = shop();
    let site = both(&server, &gateway);
    let replayed = replay(&site, &compile(&people()), TimeRange::default()).unwrap();
    // Orders were denied for Ada, though the service may write them: that is still so. Ad was never delegated for,
    // so what was recorded of him comes out otherwise.
    assert!(replayed.not_replayed.is_empty(), "{replayed:?}");
    let [denied] = &replayed.changed[..] else {
        panic!("{replayed:?}");
    };
    assert_eq!((denied.change, denied.last.0), (Change::Denied, 9));
    assert_eq!(replayed.same, 3);
    // Without Ada's right, what the service did for her is denied, and what it did by itself is not.
    let mut files = people();
    files.insert(
        "policies/people.cedar",
        POLICIES.replace("select", "delete"),
    );
    let replayed = replay(&site, &compile(&files), TimeRange::default()).unwrap();
    let places: Vec<_> = replayed.changed.iter().map(|one| one.last.0).collect();
    assert!(places.contains(&4) && !places.contains(&2), "{replayed:?}");
}

#[test]
fn a_right_that_others_use_for_a_person_is_not_unused() {
    let (server, gateway) = shop();
    let site = both(&server, &gateway);
    let found = unused(&site, &compile(&people()), TimeRange::default()).unwrap();
    let of_ada = found.grants.iter().any(|grant| {
        grant.identity == "people/ada" && grant.action == "select" && grant.resource.contains(CARDS)
    });
    assert!(!of_ada, "{:?}", found.grants);
}

/// Ada lets the front door act, which lets the service: what the front door may depends on its machine.
fn through_the_door(join: &str) -> EstateFiles {
    let mut files = people();
    files.insert(
        "identities/door.toml",
        "[[identity]]\npath = \"front/door\"\nkind = \"service\"\nowner = \"support\"\nvisible = [\"machine.join\"]\n",
    );
    files.insert(
        "delegations/door.toml",
        "[[delegation]]\nid = \"ada through the door\"\nfrom = 'Identity::\"people/ada\"'\n\
         to = 'Identity::\"front/door\"'\nmax_hops = 2\n\
         [[delegation]]\nid = \"the door through the service\"\nfrom = 'Identity::\"front/door\"'\n\
         to = 'Identity::\"payments/api\"'\n",
    );
    files.insert(
        "policies/door.cedar",
        format!(
            "@id(\"ada reads orders\") permit (principal == Identity::\"people/ada\", action == Action::\"select\", \
             resource == Table::\"{ORDERS}\");\n\
             @id(\"the door reads orders\") permit (principal == Identity::\"front/door\", action == Action::\"select\", \
             resource == Table::\"{ORDERS}\")\n\
             when {{ context.machine has join && context.machine.join == \"{join}\" }};\n\
             @id(\"the service reads orders\") permit (principal == Identity::\"payments/api\", \
             action == Action::\"select\", resource == Table::\"{ORDERS}\");\n"
        ),
    );
    files
}

/// Once, nothing that rested on the facts of who delegated on was decided again, whatever the records said of them.
#[test]
fn each_hop_is_decided_again_by_the_facts_that_it_delegated_with() {
    let mut server = World::new("server");
    server.apply(&through_the_door("tpm"), "uid:0");
    let api = server.put(issuance("payments/api", "m1", "aa"));
    let measured = server.put(issuance("front/door", "m2", "bb"));
    let bare = server.put(issuance_of("front/door", "m3", "bb", "token"));
    let mut gateway = World::new("pg-1");
    // All of these are one row of the index.
    for (name, door) in [
        ("one", Some(measured)),
        ("two", Some(bare)),
        ("three", Some(measured)),
        ("four", None),
    ] {
        let whom = [("people/ada", None), ("front/door", door)];
        let read = [("select", ORDERS)];
        acting(
            &mut gateway,
            name,
            ("payments/api", api),
            &For::By(&whom),
            &read,
            &[],
        );
    }
    let site = both(&server, &gateway);
    let replayed = |join: &str| {
        let estate = compile(&through_the_door(join));
        let replayed = replay(&site, &estate, TimeRange::default()).unwrap();
        let [unknown] = &replayed.not_replayed[..] else {
            panic!("{replayed:?}");
        };
        // That one names no SVID of the door.
        assert_eq!((unknown.count, unknown.last.0), (1, 14), "{unknown:?}");
        assert!(
            unknown.why.contains("front/door, who delegated on"),
            "{}",
            unknown.why
        );
        let changed: Vec<_> = replayed
            .changed
            .iter()
            .map(|one| (one.change, one.count, one.last.0))
            .collect();
        (replayed.same, changed)
    };
    assert_eq!(replayed("tpm"), (2, vec![(Change::Denied, 1, 6)]));
    assert_eq!(replayed("token"), (1, vec![(Change::Denied, 2, 10)]));
}
