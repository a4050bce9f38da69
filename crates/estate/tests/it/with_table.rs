//! A question about a column asks its table as well: every answer is what a gateway decides, which asks both alone.

use crate::fixture::{compile, facts};
use estate::{
    Access, Action, Chain, ChainFacts, Estate, EstateFiles, Request, ResourceKind, ResourceRef,
    Scope,
};
use facts::{FactSet, Value, names};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const ACTIONS: [Action; 3] = [Action::Select, Action::Insert, Action::Update];
const IDENTITIES: [&str; 3] = ["i0", "i1", "i2"];

const RESOURCES: &str = r#"
[[database]]
name = "d"
[[database.schema]]
name = "s"
[[database.schema.table]]
name = "t0"
classification = "public"
[[database.schema.table.column]]
name = "a"
[[database.schema.table.column]]
name = "b"
classification = "pii"
[[database.schema.table]]
name = "t1"
classification = "internal"
"#;

fn files(policies: &str) -> EstateFiles {
    let mut files = EstateFiles::new();
    files.insert(
        "estate.toml",
        "columns = \"decided\"\ntrust_domain = \"t\"\nclassifications = [\"public\", \"internal\", \"pii\"]\n",
    );
    let identity = |path: &str| {
        format!(
            "[[identity]]\npath = \"{path}\"\nkind = \"service\"\nowner = \"x\"\nvisible = [\"machine.join\"]\n"
        )
    };
    files.insert("identities/i.toml", IDENTITIES.map(identity).concat());
    files.insert("resources/r.toml", RESOURCES);
    files.insert("policies/p.cedar", policies);
    files
}

/// One policy in numbers, each taken modulo what there is to choose.
type Draft = (bool, u8, u8, u8, u8);

fn policy(number: usize, (forbid, principal, action, resource, condition): Draft) -> String {
    let principal = match principal % 5 {
        0 => "principal == Identity::\"i0\"",
        1 => "principal == Identity::\"i1\"",
        2 => "principal == Identity::\"i2\"",
        3 => "principal is Identity",
        _ => "principal",
    };
    let action = match action % 4 {
        0 | 1 => "action == Action::\"select\"",
        2 => "action in [Action::\"insert\", Action::\"update\"]",
        _ => "action in [Action::\"select\", Action::\"insert\", Action::\"update\"]",
    };
    let resource = match resource % 10 {
        0 => "resource == Table::\"d/s/t0\"",
        1 => "resource in Table::\"d/s/t0\"",
        2 => "resource == Column::\"d/s/t0/a\"",
        3 => "resource == Column::\"d/s/t0/b\"",
        4 => "resource is Column",
        5 => "resource is Table",
        6 => "resource in Table::\"d/s/t1\"",
        7 => "resource is Column in Schema::\"d/s\"",
        8 => "resource in Schema::\"d/s\"",
        _ => "resource",
    };
    let condition = match condition % 7 {
        0 | 1 => "",
        2 => "when { resource.classification == \"public\" }",
        3 => "unless { resource.classification == \"pii\" }",
        4 => "when { context.machine has join && context.machine.join == \"tpm\" }",
        5 => "unless { context.machine has join && context.machine.join == \"token\" }",
        _ => "when { principal == Identity::\"i1\" }",
    };
    let effect = if forbid && number.is_multiple_of(3) {
        "forbid"
    } else {
        "permit"
    };
    format!("@id(\"p{number}\")\n{effect} ({principal}, {action}, {resource}) {condition};\n")
}

fn sessions() -> [FactSet; 3] {
    let join = |value: &str| facts(&[(names::MACHINE_JOIN, Value::from(value))]);
    [FactSet::new(), join("tpm"), join("token")]
}

/// Those that a file lists, and those that none does.
fn columns() -> Vec<ResourceRef> {
    ["t0/a", "t0/b", "t0/new", "t1/any", "unlisted/any"]
        .map(|path| ResourceRef::new(ResourceKind::Column, format!("d/s/{path}")))
        .to_vec()
}

/// What the answers of the estate have to be: the table, and the column.
fn at_a_gateway(
    estate: &Estate,
    who: &str,
    action: Action,
    column: &ResourceRef,
    facts: &FactSet,
) -> [bool; 2] {
    let prepared = estate.prepare(facts);
    let alone = |resource: &ResourceRef| {
        let decision = estate
            .alone()
            .decide_prepared(who, action, resource, &prepared);
        decision.allow
    };
    [alone(&column.parent().unwrap()), alone(column)]
}

fn listed(accesses: &[Access]) -> BTreeMap<(String, Action, ResourceRef), bool> {
    let each = accesses.iter().map(|one| {
        let key = (one.identity.clone(), one.action, one.resource.clone());
        (key, one.is_unconditional())
    });
    each.collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, ..ProptestConfig::default() })]

    #[test]
    fn every_answer_about_a_column_is_what_a_gateway_decides(
        drafts in proptest::collection::vec(any::<Draft>(), 0..14)
    ) {
        let policies: String = drafts
            .iter()
            .enumerate()
            .map(|(number, draft)| policy(number, *draft))
            .collect();
        let estate = compile(&files(&policies));
        let sessions = sessions();
        let mut by_who: BTreeMap<&str, BTreeSet<Access>> = BTreeMap::new();
        for action in ACTIONS {
            for column in columns() {
                let who_can = estate.who_can(action, &column);
                prop_assert!(who_can.errors.is_empty(), "{:?}", who_can.errors);
                let plainly = estate.who_can_plainly(action, &column);
                prop_assert_eq!(&who_can.accesses, &plainly.accesses);
                let listed = listed(&who_can.accesses);
                for who in IDENTITIES {
                    let mut allowed = Vec::new();
                    for facts in &sessions {
                        let [table, own] = at_a_gateway(&estate, who, action, &column, facts);
                        allowed.push(table && own);
                        let request = Request { principal: who, action, resource: column.clone(), facts };
                        let decision = estate.decide(&request);
                        prop_assert_eq!(decision.allow, table && own, "{} {} {}", who, action, column);
                        prop_assert_eq!(&decision, &estate.decide_plainly(&request));
                        let of_table = (own && !table).then(|| column.parent().unwrap());
                        prop_assert_eq!(&decision.of_table, &of_table);
                        let why = estate.why(&request);
                        prop_assert_eq!(why.decision.allow, table && own);
                        prop_assert_eq!(&why.decision.policies, &decision.policies);
                        prop_assert_eq!(why.texts.len(), decision.policies.len());
                        let chain = ChainFacts::of(estate.prepare(facts));
                        let chain = estate.decide_chain(&Chain::of(who), action, &column, &chain);
                        prop_assert_eq!(chain.as_one(), decision);
                    }
                    let regardless = estate.decide_regardless(who, action, &column);
                    let access = listed.get(&(who.to_owned(), action, column.clone()));
                    prop_assert_eq!(regardless.decision.allow, access == Some(&true));
                    prop_assert_eq!(regardless.depends.is_some(), access == Some(&false));
                    if let Some(depends) = &regardless.depends {
                        let same = who_can.accesses.iter().find(|one| one.identity == who);
                        prop_assert_eq!(Some(depends), same);
                    }
                    // Where facts decide, a condition stands there; it may hold of none of these.
                    match access {
                        Some(true) => prop_assert!(allowed.iter().all(|allow| *allow)),
                        Some(false) => {}
                        None => prop_assert!(!allowed.contains(&true)),
                    }
                    let can = estate.can(who, action, &column).unwrap();
                    prop_assert_eq!(can.as_ref(), who_can.accesses.iter().find(|one| one.identity == who));
                    // Everything declared stands in `what-can` as it stands here.
                    if estate.undeclared(&column).is_none() {
                        by_who.entry(who).or_default().extend(can);
                    }
                }
            }
        }
        for who in IDENTITIES {
            let what_can = estate.what_can(who);
            let plainly = estate.what_can_plainly(who);
            prop_assert_eq!(&what_can.accesses, &plainly.accesses);
            let columns = what_can.accesses.into_iter().filter(|one| one.resource.kind == ResourceKind::Column);
            let columns: BTreeSet<Access> = columns.collect();
            prop_assert_eq!(columns, by_who.remove(who).unwrap_or_default());
        }
    }

    /// What is told of a change is the difference of what may be had before and after.
    #[test]
    fn a_change_of_a_table_tells_of_its_columns(
        before in proptest::collection::vec(any::<Draft>(), 0..8),
        after in proptest::collection::vec(any::<Draft>(), 0..8),
    ) {
        let with = |drafts: &[Draft]| {
            let each = drafts.iter().enumerate();
            let policies: String = each.map(|(number, draft)| policy(number, *draft)).collect();
            compile(&files(&policies))
        };
        let (old, new) = (with(&before), with(&after));
        let diff = estate::diff(&old, &new);
        prop_assert!(diff.errors.is_empty(), "{:?}", diff.errors);
        let of_columns = |estate: &Estate| {
            let mut all = BTreeSet::new();
            for who in IDENTITIES {
                let accesses = estate.what_can(who).accesses.into_iter();
                let columns = accesses.filter(|one| one.resource.kind == ResourceKind::Column);
                all.extend(columns.map(|one| (one.identity, one.action, one.resource)));
            }
            all
        };
        let key = |one: &Access| (one.identity.clone(), one.action, one.resource.clone());
        let (was, now) = (of_columns(&old), of_columns(&new));
        let changed = |one: &Access| one.resource.kind == ResourceKind::Column;
        let lost: BTreeSet<_> = diff.narrowed.iter()
            .filter(|one| one.after.is_none())
            .filter_map(|one| one.before.as_ref())
            .filter(|one| changed(one)).map(key).collect();
        let won: BTreeSet<_> = diff.widened.iter()
            .filter(|one| one.before.is_none())
            .filter_map(|one| one.after.as_ref())
            .filter(|one| changed(one)).map(key).collect();
        prop_assert_eq!(lost, was.difference(&now).cloned().collect::<BTreeSet<_>>());
        prop_assert_eq!(won, now.difference(&was).cloned().collect::<BTreeSet<_>>());
    }
}

const READS: &str = "@id(\"reads\")\npermit (principal == Identity::\"i0\", action == Action::\"select\", \
                     resource in Schema::\"d/s\");\n";
const CLOSED: &str = "@id(\"t0 is closed\")\nforbid (principal, action == Action::\"select\", \
                      resource == Table::\"d/s/t0\");\n";

fn column() -> ResourceRef {
    ResourceRef::table("d/s/t0").column("a")
}

#[test]
fn a_forbid_of_the_table_alone_denies_its_columns_and_is_named() {
    let open = compile(&files(READS));
    let closed = compile(&files(&format!("{READS}{CLOSED}")));
    let facts = FactSet::new();
    let request = Request {
        principal: "i0",
        action: Action::Select,
        resource: column(),
        facts: &facts,
    };
    assert!(open.why(&request).decision.allow);
    let why = closed.why(&request);
    assert!(!why.decision.allow);
    assert_eq!(why.decision.policy_ids(), ["t0 is closed"]);
    assert_eq!(why.decision.of_table, Some(ResourceRef::table("d/s/t0")));
    assert_eq!(why.resource, column());
    assert!(
        why.texts[0].starts_with("@id(\"t0 is closed\")"),
        "{:?}",
        why.texts
    );
    // The column by itself is allowed.
    let prepared = closed.prepare(&facts);
    let alone = closed.alone();
    assert!(
        alone
            .decide_prepared("i0", Action::Select, &column(), &prepared)
            .allow
    );
    // What an action of the estate's own, or a table, is asked about is that alone.
    let table = ResourceRef::table("d/s/t0");
    assert_eq!(closed.table_asked(Action::Select, &table), None);
    assert_eq!(closed.table_asked(Action::Delete, &column()), None);
}

#[test]
fn a_permit_on_columns_alone_gives_none_and_the_table_lets_them_be_had() {
    let columns = "@id(\"columns\")\npermit (principal == Identity::\"i0\", action == Action::\"select\", \
                   resource is Column);\n";
    let table = "@id(\"tables\")\npermit (principal == Identity::\"i0\", action == Action::\"select\", \
                 resource is Table);\n";
    let old = compile(&files(columns));
    let new = compile(&files(&format!("{columns}{table}")));
    assert!(old.what_can("i0").accesses.is_empty());
    let diff = estate::diff(&old, &new);
    let won: Vec<String> = diff
        .widened
        .iter()
        .filter_map(|one| one.after.as_ref())
        .map(|one| format!("{} by {}", one.resource.path, one.policies.len()))
        .collect();
    assert!(won.contains(&"d/s/t0/a by 2".to_owned()), "{won:?}");
    assert!(won.contains(&"d/s/t0 by 1".to_owned()), "{won:?}");
    assert!(diff.narrowed.is_empty());
}

#[test]
fn facts_that_the_column_and_the_table_ask_for_stand_both_in_the_condition() {
    let estate = compile(&files(
        "@id(\"columns\")\npermit (principal, action == Action::\"select\", resource is Column)\n\
         when { context.machine has join && context.machine.join == \"tpm\" };\n\
         @id(\"tables\")\npermit (principal, action == Action::\"select\", resource is Table)\n\
         unless { context.machine has join && context.machine.join == \"token\" };\n",
    ));
    let access = estate
        .can("i0", Action::Select, &column())
        .unwrap()
        .unwrap();
    let ids: Vec<&str> = access.policies.iter().map(|one| one.id.as_str()).collect();
    assert_eq!(ids, ["columns", "tables"]);
    assert_eq!(access.when.len(), 1, "{:?}", access.when);
    let condition = &access.when[0].condition;
    assert!(
        condition.contains("\"tpm\"") && condition.contains("\"token\""),
        "{condition}"
    );
    assert!(condition.contains(") && ("), "{condition}");
}

#[test]
fn a_delegation_of_a_column_without_its_table_reaches_neither() {
    let mut files = files(&READS.replace("principal == Identity::\"i0\"", "principal"));
    files.insert(
        "delegations/d.toml",
        "[[delegation]]\nid = \"all\"\nfrom = \"Identity::\\\"i0\\\"\"\nto = \"Identity::\\\"i1\\\"\"\nmax_ttl = \"1h\"\n",
    );
    let estate = compile(&files);
    let to = |resource: ResourceRef| {
        let scope = Scope {
            resources: Some([resource].into()),
            ..Scope::default()
        };
        let chain = Chain::of("i0").then("i1", scope).unwrap();
        let facts = ChainFacts::of(estate.prepare(&FactSet::new()));
        let decided = estate.decide_chain(&chain, Action::Select, &column(), &facts);
        let alone = estate
            .alone()
            .decide_chain(&chain, Action::Select, &column(), &facts);
        assert!(alone.allow);
        decided
    };
    assert!(to(ResourceRef::table("d/s/t0")).allow);
    let narrow = to(column());
    assert!(!narrow.allow);
    let codes: Vec<String> = narrow.findings().map(|one| one.code.to_string()).collect();
    assert_eq!(codes, ["DELEGATION-SCOPE"]);
    assert_eq!(narrow.as_one().of_table, Some(ResourceRef::table("d/s/t0")));
}

#[test]
fn a_policy_test_of_a_column_expects_what_a_gateway_does() {
    let mut files = files(&format!("{READS}{CLOSED}"));
    files.insert(
        "tests/t.toml",
        "[[test]]\nname = \"closed\"\nprincipal = \"i0\"\naction = \"select\"\nresource = \"Column::\\\"d/s/t0/a\\\"\"\n\
         expect = \"deny\"\nbecause = [\"t0 is closed\"]\n",
    );
    let outcomes = compile(&files).run_tests();
    assert!(outcomes[0].passed, "{:?}", outcomes[0].failure);
}
