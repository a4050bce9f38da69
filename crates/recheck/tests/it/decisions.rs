//! Accesses and answers: allowed, denied, and lied about.

use crate::world::{
    API, CARDS, LATER, NEVER, READS, SALARIES, World, denial, differs, estate, intent, lacks, on,
};
use ledger::body::{self, About, Body, FactValue, Issuance, More, OnBehalfOf};
use ledger::{Decimal, HexDigest};
use recheck::Outcome;
use std::collections::BTreeMap;

#[test]
fn what_the_estate_decides_is_recomputed() {
    let world = World::new();
    for record in [
        intent("select", CARDS, &[READS]).record(),
        intent("insert", CARDS, &["payments writes cards"]).record(),
        denial("select", SALARIES, &[], "POLICY-NONE").record(),
        denial("delete", CARDS, &[NEVER], "POLICY-FORBID").record(),
    ] {
        assert_eq!(world.of(record), Outcome::Recomputed);
    }
}

#[test]
fn an_allow_where_the_estate_denies_is_named() {
    let world = World::new();
    let told = differs(world.of(intent("select", SALARIES, &[READS]).record()));
    assert!(
        told.contains(
            "the estate denies select on Table::\"shop/public/salaries\": no policy allows it"
        ),
        "{told}"
    );
    let told = differs(world.of(intent("delete", CARDS, &[NEVER]).record()));
    assert!(told.contains("\"nobody deletes\" forbids it"), "{told}");
    // One of several.
    let mut both = intent("select", CARDS, &[READS]);
    both.actions = vec![on("select", &[CARDS, SALARIES])];
    let told = differs(world.of(both.record()));
    assert!(told.contains("salaries"), "{told}");
}

/// The record named the column that a policy forbids, and nothing had been asked of it.
#[test]
fn a_column_that_nothing_was_asked_of_is_named() {
    let (id, email) = (
        "Column::\"shop/public/cards/id\"",
        "Column::\"shop/public/cards/email\"",
    );
    let mut files = estate();
    let settings = files.0["estate.toml"].clone();
    files.insert("estate.toml", format!("columns = \"decided\"\n{settings}"));
    let columns = "name = \"cards\"\n[[database.schema.table.column]]\nname = \"id\"\n\
                   [[database.schema.table.column]]\nname = \"email\"\n";
    let resources = files.0["resources/shop.toml"].replace("name = \"cards\"\n", columns);
    files.insert("resources/shop.toml", resources);
    files.insert(
        "policies/columns.cedar",
        format!(
            "@id(\"reads columns\")\n\
             permit (principal == Identity::\"payments/api\", action == Action::\"select\", resource in {CARDS});\n\
             @id(\"no emails\")\n\
             forbid (principal, action, resource == {email});\n"
        ),
    );
    let world = World {
        estate: files,
        ..World::new()
    };
    let read = |resources: &[&str], columns: &[&str]| {
        let mut read = intent("select", CARDS, &[READS, "reads columns"]);
        read.actions = vec![on("select", resources)];
        read.actions[0].columns = columns.iter().map(|&one| one.to_owned()).collect();
        read
    };
    let told = |resources: &[&str], columns: &[&str]| world.of(read(resources, columns).record());
    assert_eq!(told(&[CARDS, id], &[id]), Outcome::Recomputed);
    assert_eq!(told(&[CARDS], &[]), Outcome::Recomputed);
    let why = differs(told(&[CARDS], &[email]));
    assert!(why.contains("nothing was asked of that"), "{why}");
    let why = differs(told(&[CARDS, id], &[id, email]));
    assert!(why.contains("nothing was asked of that"), "{why}");
    let why = differs(told(&[CARDS, email], &[email]));
    assert!(why.contains("the estate denies select on"), "{why}");
    let all = "Column::\"shop/public/cards/*\"";
    for (resources, columns) in [
        (&[CARDS][..], all),
        (&[CARDS, id], all),
        (&[CARDS, id], "Column::\"*\""),
    ] {
        let why = lacks(told(resources, &[columns]));
        assert!(why.contains("does not say which"), "{why}");
    }
    // What there was no room for is told as that.
    let mut cut = read(&[CARDS], &[email]);
    cut.actions[0].more = Some(More {
        count: Decimal(1),
        sha256: HexDigest::of(b""),
    });
    let why = lacks(world.of(cut.record()));
    assert!(why.contains("no room"), "{why}");
    // Where columns are not decided on, the table's decision is theirs.
    let mut read = read(&[CARDS], &[email]);
    read.policies = vec![READS.to_owned()];
    assert_eq!(World::new().of(read.record()), Outcome::Recomputed);
}

#[test]
fn a_denial_where_the_estate_allows_is_named() {
    let world = World::new();
    let told = differs(world.of(denial("select", CARDS, &[], "POLICY-NONE").record()));
    assert!(
        told.contains("it was denied, and the estate allows"),
        "{told}"
    );
    // Denied, for another reason than is recorded.
    let told = differs(world.of(denial("delete", CARDS, &[], "POLICY-NONE").record()));
    assert!(told.contains("because policies/all.cedar"), "{told}");
}

#[test]
fn policies_that_did_not_determine_it_are_named() {
    let world = World::new();
    for policies in [&["another"][..], &[READS, "another"], &[]] {
        let told = differs(world.of(intent("select", CARDS, policies).record()));
        assert!(
            told.contains("the estate allows it by \"payments reads cards\""),
            "{told}"
        );
    }
    let told =
        differs(world.of(denial("delete", CARDS, &[NEVER, READS], "POLICY-FORBID").record()));
    assert!(told.contains("determines nothing of it"), "{told}");
}

/// The policy asks for a fact, which is that of the SVID's issuance and of nobody else's word.
#[test]
fn the_facts_are_those_of_the_issuance() {
    let mut world = World::new();
    world.issuance.facts = BTreeMap::from([("workload.uid".to_owned(), FactValue::Integer(1001))]);
    differs(world.of(intent("select", CARDS, &[READS]).record()));
    let denied = || denial("select", CARDS, &[], "POLICY-NONE").record();
    assert_eq!(world.of(denied()), Outcome::Recomputed);
    world.issuance.facts = BTreeMap::new();
    assert_eq!(world.of(denied()), Outcome::Recomputed);
}

#[test]
fn a_session_that_rests_on_anothers_issuance_is_named() {
    let select = || intent("select", CARDS, &[READS]).record();
    let mut world = World::new();
    world.issuance.spiffe_id = "spiffe://example.org/people/ada".to_owned();
    let told = differs(world.of(select()));
    assert!(
        told.contains("issued the SVID a1 of spiffe://example.org/people/ada"),
        "{told}"
    );
    let mut world = World::new();
    world.start.serial = "a2".to_owned();
    differs(world.of(select()));
    let mut world = World::new();
    world.start.spiffe_id = "spiffe://example.org/people/ada".to_owned();
    let told = differs(world.of(select()));
    assert!(told.contains("acted in a session of"), "{told}");
    let mut world = World::new();
    world.start.claimed_on_behalf_of = vec!["spiffe://example.org/people/ada".to_owned()];
    let told = differs(world.of(select()));
    assert!(told.contains("for others"), "{told}");
}

#[test]
fn what_lacks_is_told() {
    let world = World::new();
    let told = lacks(world.of(denial("select", CARDS, &[], "SQL-TOO-LONG").record()));
    assert!(
        told.contains("refused for SQL-TOO-LONG, before policy"),
        "{told}"
    );
    let mut cancel = denial("select", CARDS, &[], "");
    cancel.actions = Vec::new();
    assert!(lacks(world.of(cancel.record())).contains("no policy was asked"));
    let mut elsewhere = intent("select", CARDS, &[READS]);
    elsewhere.session = "s2".to_owned();
    assert!(lacks(world.of(elsewhere.record())).contains("the beginning of its session"));
    // What has no room, or no name.
    let mut cut = intent("select", CARDS, &[READS]);
    let more = More {
        count: Decimal(9),
        sha256: HexDigest([0; 32]),
    };
    cut.actions[0].more = Some(more.clone());
    assert!(lacks(world.of(cut.record())).contains("no room"));
    let hidden = format!("Table::\"shop/public/~{}\"", "0f".repeat(32));
    let told = lacks(world.of(denial("select", &hidden, &[], "POLICY-NONE").record()));
    assert!(told.contains("commitment"), "{told}");
    // What is named is looked at all the same.
    let mut cut = intent("select", SALARIES, &[READS]);
    cut.actions[0].more = Some(more);
    differs(world.of(cut.record()));

    let mut world = World::new();
    world.start.issuance = None;
    let told = lacks(world.of(intent("select", CARDS, &[READS]).record()));
    assert!(told.contains("names no issuance"), "{told}");
}

#[test]
fn an_estate_that_is_not_the_one_named_decides_nothing() {
    let mut world = World::new();
    world
        .estate
        .insert("policies/all.cedar", "permit (principal");
    let told = lacks(world.of(intent("select", CARDS, &[READS]).record()));
    assert!(told.contains("none that this version reads"), "{told}");
}

fn answer(allow: bool, policies: &[&str], about: About) -> body::Decision {
    body::Decision {
        session: "c1".to_owned(),
        statement: "evaluation".to_owned(),
        allow,
        findings: Vec::new(),
        about: Some(about),
        ..denial("select", CARDS, policies, "")
    }
}

#[test]
fn answers_to_questions_are_decided_by_what_was_told_or_shown() {
    let world = World::new();
    let shown = || About {
        spiffe_id: API.to_owned(),
        issuance: Some(Decimal(crate::world::ISSUANCE)),
        ..About::default()
    };
    let told = |uid| About {
        spiffe_id: API.to_owned(),
        stated: BTreeMap::from([("workload.uid".to_owned(), FactValue::Integer(uid))]),
        ..About::default()
    };
    let known_as = || About {
        spiffe_id: API.to_owned(),
        ..About::default()
    };
    let mut unknown = answer(false, &[], known_as());
    unknown.findings = vec!["PDP-FACTS-UNKNOWN".to_owned()];
    for record in [
        answer(true, &[READS], shown()),
        answer(true, &[READS], told(1000)),
        answer(false, &[], told(1001)),
        answer(false, &[], known_as()),
        unknown,
    ] {
        assert_eq!(world.of(record.record()), Outcome::Recomputed);
    }
    differs(world.of(answer(true, &[READS], told(1001)).record()));
    differs(world.of(answer(true, &[READS], known_as()).record()));
    differs(world.of(answer(false, &[], shown()).record()));
    let mut malformed = answer(false, &[], known_as());
    malformed.findings = vec!["AUTHZEN-REQUEST".to_owned()];
    lacks(world.of(malformed.record()));
}

/// On behalf of somebody who may not: the conjunction denies.
#[test]
fn whoever_acts_for_others_may_what_all_of_them_may() {
    let mut world = World::new();
    let ada = vec!["spiffe://example.org/people/ada".to_owned()];
    world.start.claimed_on_behalf_of.clone_from(&ada);
    let mut select = intent("select", CARDS, &[READS]);
    select.claimed_on_behalf_of.clone_from(&ada);
    differs(world.of(select.record()));
    let mut denied = denial("select", CARDS, &[], "DELEGATION-NONE");
    denied.claimed_on_behalf_of = ada;
    assert_eq!(world.of(denied.record()), Outcome::Recomputed);
}

const ADA: &str = "spiffe://example.org/people/ada";

/// Ada, who may insert, lets the workload act for her; she showed an SVID if `issuance` is that of one.
fn delegated(issuance: Option<u64>) -> (World, Vec<OnBehalfOf>) {
    let mut world = World::new();
    world.estate.insert(
        "delegations/all.toml",
        "[[delegation]]\nid = \"ada has one\"\nfrom = 'Identity::\"people/ada\"'\n\
         to = 'Identity::\"payments/api\"'\n",
    );
    world.estate.insert(
        "policies/ada.cedar",
        format!(
            "@id(\"ada writes cards\")\n\
             permit (principal == Identity::\"people/ada\", action == Action::\"insert\", \
             resource == {CARDS});\n\
             @id(\"ada of 1000 writes cards\")\n\
             permit (principal == Identity::\"people/ada\", action == Action::\"insert\", \
             resource == {CARDS})\n\
             when {{ context.workload has uid && context.workload.uid == 1000 }};\n"
        ),
    );
    estate::Estate::compile(&world.estate).unwrap();
    let by = OnBehalfOf {
        spiffe_id: ADA.to_owned(),
        jti: "j1".to_owned(),
        issuance: issuance.map(Decimal),
    };
    world.start.on_behalf_of = vec![by.clone()];
    (world, vec![by])
}

/// What a token was narrowed to is in no pack: a gateway names that alone, also where policy denies as well.
#[test]
fn what_a_delegation_does_not_reach_and_the_estate_denies_too_is_no_lie() {
    let (world, proven) = delegated(None);
    let denied = |finding| {
        let mut denied = denial("select", SALARIES, &[], finding);
        denied.on_behalf_of.clone_from(&proven);
        world.of(denied.record())
    };
    let told = lacks(denied("DELEGATION-SCOPE"));
    assert!(
        told.contains("delegations that it was denied for"),
        "{told}"
    );
    assert_eq!(denied("POLICY-NONE"), Outcome::Recomputed);
    differs(denied("POLICY-FORBID"));
}

/// As a gateway decides: what an SVID of below the floor shows of whoever delegated counts no more.
#[test]
fn facts_of_below_the_floor_decide_nothing() {
    let (mut world, proven) = delegated(Some(LATER));
    let inserted = |world: &World, policies: &[&str]| {
        let mut insert = intent("insert", CARDS, policies);
        insert.on_behalf_of.clone_from(&proven);
        world.of(insert.record())
    };
    let regardless = ["ada writes cards", "payments writes cards"];
    let told = lacks(inserted(&world, &regardless));
    assert!(told.contains("record 3 is not in the pack"), "{told}");
    world.later = vec![|world| {
        let issuance = Issuance {
            spiffe_id: ADA.to_owned(),
            serial: "b1".to_owned(),
            ..world.issuance.clone()
        };
        issuance.record()
    }];
    let told = differs(inserted(&world, &regardless));
    assert!(told.contains("ada of 1000 writes cards"), "{told}");
    world.floor = 1;
    let told = lacks(inserted(&world, &regardless));
    assert!(told.contains("which may allow less"), "{told}");
    differs(inserted(
        &world,
        &[&regardless[..], &["ada of 1000 writes cards"]].concat(),
    ));
}

/// An answer about a column names the table that was asked beside it. One of a time when none was asked names the
/// column alone: it is made again by that, and shown to be right where the table is allowed as well.
#[test]
fn an_answer_about_a_column_is_made_again_by_what_it_names() {
    let id = "Column::\"shop/public/cards/id\"";
    let (columns, closed) = ("reads columns", "cards are closed");
    let with = |closing: &str| {
        let mut files = estate();
        let settings = files.0["estate.toml"].clone();
        files.insert("estate.toml", format!("columns = \"decided\"\n{settings}"));
        let listed = "name = \"cards\"\n[[database.schema.table.column]]\nname = \"id\"\n";
        let resources = files.0["resources/shop.toml"].replace("name = \"cards\"\n", listed);
        files.insert("resources/shop.toml", resources);
        files.insert(
            "policies/columns.cedar",
            format!(
                "@id(\"{columns}\")\n\
                 permit (principal == Identity::\"payments/api\", action == Action::\"select\", resource in {CARDS});\n\
                 {closing}"
            ),
        );
        World {
            estate: files,
            ..World::new()
        }
    };
    let forbid = format!(
        "@id(\"{closed}\")\nforbid (principal, action == Action::\"select\", resource == {CARDS});\n"
    );
    let (open, shut) = (with(""), with(&forbid));
    let answered = |allow: bool, named: &[&str], policies: &[&str]| {
        let about = About {
            spiffe_id: API.to_owned(),
            issuance: Some(Decimal(crate::world::ISSUANCE)),
            ..About::default()
        };
        let mut answered = answer(allow, policies, about);
        answered.actions = vec![on("select", named)];
        answered.record()
    };
    // As answers are recorded now: what was denied first.
    let both = answered(true, &[id, CARDS], &[columns, READS]);
    assert_eq!(open.of(both), Outcome::Recomputed);
    let denied = answered(false, &[CARDS, id], &[closed]);
    assert_eq!(shut.of(denied), Outcome::Recomputed);
    // As they were.
    let alone = || answered(true, &[id], &[columns]);
    assert_eq!(open.of(alone()), Outcome::Recomputed);
    let told = lacks(shut.of(alone()));
    assert!(told.contains("did not ask that, or a lie"), "{told}");
    // A gateway has always asked, and named, the table.
    let mut read = intent("select", id, &[columns]);
    for world in [&open, &shut] {
        let told = differs(world.of(read.clone().record()));
        assert!(told.contains("nothing was asked of Table::"), "{told}");
    }
    read.actions[0].more = Some(More {
        count: Decimal(1),
        sha256: HexDigest::of(b""),
    });
    let told = lacks(shut.of(read.record()));
    assert!(told.contains("no room"), "{told}");
    // Lies.
    let told = differs(shut.of(answered(true, &[id, CARDS], &[columns, READS])));
    assert!(
        told.contains("the estate denies select on Table::"),
        "{told}"
    );
    differs(open.of(answered(false, &[CARDS, id], &[closed])));
    differs(shut.of(answered(false, &[id], &[closed])));
}
