//! Acting for others: what a chain may do is what each of its hops may do, over links that the estate grants.

mod refused;

use crate::equivalence::{drafts, files, policy};
use crate::fixture::{compile, facts, workload};
use estate::{
    Action, Chain, ChainDecision, ChainFacts, Estate, EstateFiles, Party, Request, ResourceRef,
    Scope, diff,
};
use facts::{FactSet, names};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

const GRANTS: &str = r#"
[[delegation]]
id = "staff work through assistants"
from = 'Group::"staff"'
to = 'Group::"assistants"'
resources = ['Schema::"shop/public"']
max_hops = 2
max_ttl = "1h"

[[delegation]]
id = "the assistant has a reader"
from = 'Identity::"agents/assistant"'
to = 'Identity::"agents/reader"'
actions = ["select"]
"#;

const IDENTITIES: &str = r#"
[[group]]
name = "staff"
[[group]]
name = "leads"
groups = ["staff"]
[[group]]
name = "assistants"

[[identity]]
path = "people/ada"
kind = "person"
owner = "people team"
groups = ["leads"]
login = { issuer = "https://login.example.org", subject = "ada-1" }

[[identity]]
path = "people/bob"
kind = "person"
owner = "people team"
login = { issuer = "https://login.example.org", subject = "bob-2" }

[[identity]]
path = "agents/assistant"
kind = "ai-agent"
owner = "support team"
groups = ["assistants"]

[[identity]]
path = "agents/reader"
kind = "ai-agent"
owner = "support team"

[[identity]]
path = "agents/stranger"
kind = "ai-agent"
owner = "support team"
"#;

const POLICIES: &str = r#"
@id("staff") permit (principal in Group::"staff", action in [Action::"select", Action::"insert"], resource in Schema::"shop/public");
@id("bob") permit (principal == Identity::"people/bob", action, resource);
@id("agents") permit (principal is Identity, action in [Action::"select", Action::"insert", Action::"delete"], resource in Database::"shop") when { principal.kind == "ai-agent" };
@id("no notes") forbid (principal == Identity::"agents/reader", action, resource == Table::"shop/public/notes");
@id("anybody becomes anybody") permit (principal is Workload in Pool::"demo", action == Action::"assume", resource);
"#;

fn office() -> EstateFiles {
    let mut files = EstateFiles::new();
    files.insert("estate.toml", "trust_domain = \"example.org\"\n");
    files.insert("identities/i.toml", IDENTITIES);
    files.insert("delegations/d.toml", GRANTS);
    files.insert("policies/p.cedar", POLICIES);
    files.insert("references/r.toml", "[[pool]]\nname = \"demo\"\n");
    files.insert(
        "resources/r.toml",
        "[[database]]\nname = \"shop\"\n[[database.schema]]\nname = \"public\"\n\
         [[database.schema.table]]\nname = \"notes\"\n[[database.schema.table]]\nname = \"cards\"\n\
         [[database.schema]]\nname = \"private\"\n[[database.schema.table]]\nname = \"keys\"\n",
    );
    files
}

fn chain(principals: &[&str]) -> Chain {
    Chain::through(principals.iter().copied()).unwrap()
}

fn decide(estate: &Estate, chain: &Chain, action: &str, table: &str) -> ChainDecision {
    let known = known(estate, chain, &FactSet::new());
    let action = action.parse().unwrap();
    estate.decide_chain(chain, action, &ResourceRef::table(table), &known)
}

/// The session and whoever delegated on have the same facts.
fn known(estate: &Estate, chain: &Chain, session: &FactSet) -> ChainFacts {
    let principals = chain.principals().iter();
    principals.fold(ChainFacts::of(estate.prepare(session)), |known, one| {
        known.with(one, estate.prepare(session))
    })
}

fn codes(decision: &ChainDecision) -> Vec<&str> {
    decision
        .findings()
        .map(|finding| finding.code.as_ref())
        .collect()
}

/// Allowed, the hops that deny, the codes of the links that refuse.
fn outcome(estate: &Estate, principals: &[&str], action: &str, table: &str) -> String {
    let decision = decide(estate, &chain(principals), action, table);
    let denying: Vec<_> = decision
        .hops
        .iter()
        .filter(|hop| !hop.decision.allow)
        .map(|hop| hop.principal.as_str())
        .collect();
    let said = if decision.allow { "allowed" } else { "denied" };
    format!("{said} {denying:?} {:?}", codes(&decision))
}

#[test]
fn a_chain_may_do_what_every_hop_may_do_and_names_who_may_not() {
    let estate = compile(&office());
    let (ada, bob) = ("people/ada", "people/bob");
    let (assistant, reader) = ("agents/assistant", "agents/reader");
    for (principals, action, table, expected) in [
        (&[ada][..], "select", "shop/public/notes", "allowed [] []"),
        (
            &[ada, assistant],
            "select",
            "shop/public/notes",
            "allowed [] []",
        ),
        (
            &[ada, assistant],
            "insert",
            "shop/public/notes",
            "allowed [] []",
        ),
        // The agent may, the person may not: a confused deputy.
        (
            &[ada, assistant],
            "delete",
            "shop/public/notes",
            r#"denied ["people/ada"] []"#,
        ),
        // The person may, the agent may not.
        (
            &[ada, assistant, reader],
            "select",
            "shop/public/notes",
            r#"denied ["agents/reader"] []"#,
        ),
        (
            &[ada, assistant, reader],
            "select",
            "shop/public/cards",
            "allowed [] []",
        ),
        // What the grant between the agents leaves out.
        (
            &[ada, assistant, reader],
            "insert",
            "shop/public/cards",
            r#"denied [] ["DELEGATION-GRANT"]"#,
        ),
        (
            &[ada, assistant],
            "select",
            "shop/private/keys",
            r#"denied ["people/ada"] ["DELEGATION-GRANT"]"#,
        ),
        // Who may everything has delegated nothing.
        (
            &[bob, assistant],
            "select",
            "shop/public/notes",
            r#"denied [] ["DELEGATION-NONE"]"#,
        ),
        (
            &[ada, "agents/stranger"],
            "select",
            "shop/public/notes",
            r#"denied [] ["DELEGATION-NONE"]"#,
        ),
        // The same people in another order are another chain.
        (
            &[assistant, ada],
            "select",
            "shop/public/notes",
            r#"denied [] ["DELEGATION-TO-PERSON"]"#,
        ),
        (
            &[ada, reader, assistant],
            "select",
            "shop/public/cards",
            r#"denied [] ["DELEGATION-NONE", "DELEGATION-NONE"]"#,
        ),
        // Nobody of this name.
        (
            &[ada, "agents/none"],
            "select",
            "shop/public/notes",
            r#"denied ["agents/none"] ["DELEGATION-NONE"]"#,
        ),
    ] {
        let got = outcome(&estate, principals, action, table);
        assert_eq!(got, expected, "{principals:?} {action} {table}");
    }
}

#[test]
fn a_grant_says_how_often_it_is_delegated_on() {
    let mut files = office();
    files.insert("delegations/d.toml", GRANTS.replace("max_hops = 2\n", ""));
    let estate = compile(&files);
    let three = ["people/ada", "agents/assistant", "agents/reader"];
    assert_eq!(
        outcome(&estate, &three, "select", "shop/public/cards"),
        r#"denied [] ["DELEGATION-HOPS"]"#
    );
    assert_eq!(
        outcome(&estate, &three[..2], "select", "shop/public/cards"),
        "allowed [] []"
    );
}

#[test]
fn a_scope_narrows_and_an_empty_one_leaves_nothing() {
    let estate = compile(&office());
    let narrowed = |scope| {
        Chain::of("people/ada")
            .then("agents/assistant", scope)
            .unwrap()
    };
    let only = Scope {
        actions: Some(BTreeSet::from([Action::Select])),
        resources: Some(BTreeSet::from([ResourceRef::table("shop/public/cards")])),
    };
    let chain = narrowed(only);
    assert!(decide(&estate, &chain, "select", "shop/public/cards").allow);
    for (action, table) in [
        ("insert", "shop/public/cards"),
        ("select", "shop/public/notes"),
    ] {
        let decision = decide(&estate, &chain, action, table);
        assert!(!decision.allow);
        assert_eq!(codes(&decision), ["DELEGATION-SCOPE"], "{action} {table}");
    }
    let nothing = narrowed(Scope {
        actions: Some(BTreeSet::new()),
        resources: None,
    });
    assert!(!decide(&estate, &nothing, "select", "shop/public/cards").allow);
    let nowhere = narrowed(Scope {
        actions: None,
        resources: Some(BTreeSet::new()),
    });
    assert!(!decide(&estate, &nowhere, "select", "shop/public/cards").allow);
}

#[test]
fn a_chain_neither_comes_back_nor_goes_on_for_ever() {
    let code = |principals: &[&str]| {
        let refused = Chain::through(principals.iter().copied()).unwrap_err();
        refused.code.to_string()
    };
    assert_eq!(code(&[]), "DELEGATION-CHAIN");
    assert_eq!(code(&["a", "b", "a"]), "DELEGATION-CHAIN");
    assert_eq!(
        code(&["a", "b", "c", "d", "e", "f", "g", "h", "i"]),
        "DELEGATION-CHAIN"
    );
    assert!(Chain::through(["a", "b", "c", "d", "e", "f", "g", "h"]).is_ok());
}

#[test]
fn the_shortest_of_the_grants_says_how_long() {
    let estate = compile(&office());
    let may = |principals: &[&str]| estate.may_delegate(&chain(principals));
    let hour = Duration::from_secs(3_600);
    assert_eq!(may(&["people/ada", "agents/assistant"]).unwrap(), hour);
    let three = ["people/ada", "agents/assistant", "agents/reader"];
    assert_eq!(may(&three).unwrap(), hour / 4);
    let code = |principals: &[&str]| may(principals).unwrap_err().code.to_string();
    // What one grant covers for a quarter of an hour must not last an hour because another does.
    let mut files = office();
    let grants = files.0["delegations/d.toml"].clone();
    let brief = "\n[[delegation]]\nid = \"briefly\"\nfrom = 'Identity::\"people/ada\"'\nto = 'Identity::\"agents/assistant\"'\nmax_ttl = \"5m\"\n";
    files.insert("delegations/d.toml", grants + brief);
    let both = compile(&files).may_delegate(&chain(&["people/ada", "agents/assistant"]));
    assert_eq!(both.unwrap(), hour / 12);
    assert_eq!(code(&["people/ada"]), "DELEGATION-CHAIN");
    assert_eq!(code(&["people/bob", "agents/assistant"]), "DELEGATION-NONE");
}

/// Whoever could become a person would act for it without having been asked.
#[test]
fn no_workload_becomes_a_person() {
    let estate = compile(&office());
    let workload = workload('a');
    let refused = estate.assume(&workload, "people/ada");
    assert!(!refused.allow);
    assert_eq!(refused.findings[0].code, "ASSUME-PERSON");
    let assumable = estate.assumable(&workload);
    let paths: Vec<_> = assumable.iter().map(|(one, _)| one.path.as_str()).collect();
    assert_eq!(
        paths,
        ["agents/assistant", "agents/reader", "agents/stranger"]
    );
    assert!(estate.unfilled(&workload).is_empty());
}

/// Versions of a time when such a one was assumed still compile: it is refused when somebody asks.
#[test]
fn a_person_without_a_login_is_nobody_and_lint_says_so() {
    let mut files = office();
    let login = "\nlogin = { issuer = \"https://login.example.org\", subject = \"bob-2\" }";
    files.insert("identities/i.toml", IDENTITIES.replace(login, ""));
    let mut policies = POLICIES.to_owned();
    policies += "@id(\"bob by name\") permit (principal is Workload in Pool::\"demo\", action == Action::\"assume\", resource == Identity::\"people/bob\");\n";
    files.insert("policies/p.cedar", policies);
    for estate in [Some(compile(&files)), Estate::compile_recorded(&files).ok()] {
        let estate = estate.unwrap();
        let refused = estate.assume(&workload('a'), "people/bob");
        assert!(!refused.allow);
        assert_eq!(refused.findings[0].code, "ASSUME-PERSON");
        let assumable = estate.assumable(&workload('a'));
        assert!(assumable.iter().all(|(one, _)| !one.is_person()));
    }
    let said: Vec<String> = compile(&files)
        .lint()
        .iter()
        .filter(|remark| remark.problem.code.starts_with("LINT-PERSON"))
        .map(|remark| {
            let problem = &remark.problem;
            format!("{}:{} {}", problem.file, problem.line, problem.code)
        })
        .collect();
    assert_eq!(
        said,
        [
            "identities/i.toml:18 LINT-PERSON-NO-LOGIN",
            "policies/p.cedar:7 LINT-PERSON-ASSUMED"
        ]
    );
    let logged_in = compile(&office()).lint();
    assert!(
        logged_in
            .iter()
            .all(|remark| !remark.problem.code.starts_with("LINT-PERSON"))
    );
}

/// What only the one who acts is asked for facts, and what every hop is.
#[test]
fn a_chain_depends_on_facts_only_where_they_would_help_every_hop() {
    let mut files = office();
    let mut policies = POLICIES.to_owned();
    policies += "@id(\"staff by tpm\") permit (principal in Group::\"staff\", action == Action::\"delete\", resource == Table::\"shop/public/notes\") when { context.machine has join && context.machine.join == \"tpm\" };\n";
    policies += "@id(\"no token\") forbid (principal == Identity::\"agents/assistant\", action == Action::\"delete\", resource == Table::\"shop/public/notes\") when { context.machine has join && context.machine.join == \"token\" };\n";
    files.insert("policies/p.cedar", policies.clone());
    let visible = IDENTITIES.replace("owner =", "visible = [\"machine.join\"]\nowner =");
    files.insert("identities/i.toml", visible);
    let two = chain(&["people/ada", "agents/assistant"]);
    let notes = ResourceRef::table("shop/public/notes");
    let depends = |files: &EstateFiles, chain: &Chain| {
        let estate = compile(files);
        let decision = estate.decide_chain_regardless(chain, Action::Delete, &notes);
        assert!(!decision.allow);
        let depends = decision.depends();
        depends
            .iter()
            .map(|one| one.identity.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(depends(&files, &two), ["people/ada", "agents/assistant"]);
    // Whatever the session is, the second may not: no facts of the first would help.
    let never = "@id(\"never\") forbid (principal == Identity::\"agents/assistant\", action == Action::\"delete\", resource);\n";
    let mut denied = files.clone();
    denied.insert("policies/p.cedar", policies.clone() + never);
    assert_eq!(depends(&denied, &two), [""; 0]);
    // Nor where nobody lets the second act for the first.
    files.insert("delegations/d.toml", "");
    assert_eq!(depends(&files, &two), [""; 0]);
}

/// The assistant may delete from a machine that joined by a TPM, the reader from anywhere. Decided by the reader's
/// facts, the assistant would gain what it never had.
#[test]
fn who_delegated_on_is_decided_by_its_own_facts() {
    let mut files = office();
    let policies = "@id(\"person\") permit (principal == Identity::\"people/ada\", action, resource);\n\
         @id(\"by tpm\") permit (principal == Identity::\"agents/assistant\", action, resource) \
         when { context.machine has join && context.machine.join == \"tpm\" };\n\
         @id(\"reader\") permit (principal == Identity::\"agents/reader\", action, resource);\n\
         @id(\"anybody becomes anybody\") permit (principal is Workload in Pool::\"demo\", action == Action::\"assume\", resource);\n";
    files.insert("policies/p.cedar", policies);
    let visible = IDENTITIES.replace("owner =", "visible = [\"machine.join\"]\nowner =");
    files.insert("identities/i.toml", visible);
    let estate = compile(&files);
    let of = |join: &str| estate.prepare(&facts(&[(names::MACHINE_JOIN, join.into())]));
    let three = chain(&["people/ada", "agents/assistant", "agents/reader"]);
    let decided = |known: &ChainFacts| {
        let notes = ResourceRef::table("shop/public/notes");
        let decision = estate.decide_chain(&three, Action::Select, &notes, known);
        let hops = decision.hops.iter();
        let hops = hops.map(|hop| (hop.facts.as_str(), hop.decision.allow));
        (decision.allow, hops.collect::<Vec<_>>(), decision.as_one())
    };
    let good = ChainFacts::of(of("token")).with("agents/assistant", of("tpm"));
    let (allow, hops, _) = decided(&good);
    assert!(allow);
    assert_eq!(hops, [("session", true), ("own", true), ("session", true)]);
    // The session joined by a TPM, who delegated to it did not.
    let lost = ChainFacts::of(of("tpm")).with("agents/assistant", of("token"));
    let (allow, hops, _) = decided(&lost);
    assert!(!allow);
    assert_eq!(hops, [("session", true), ("own", false), ("session", true)]);
    // And where nothing is known of it, the session's facts are not taken for its own.
    let (allow, hops, one) = decided(&ChainFacts::of(of("tpm")));
    assert!(!allow);
    assert_eq!(
        hops,
        [("session", true), ("own-unknown", false), ("session", true)]
    );
    assert_eq!(one.findings[0].code, "DELEGATION-HOP-FACTS");
}

#[test]
fn a_person_is_found_by_issuer_and_subject_together() {
    let estate = compile(&office());
    let of = |issuer, subject| estate.person(issuer, subject).map(|one| one.path.as_str());
    assert_eq!(of("https://login.example.org", "ada-1"), Some("people/ada"));
    assert_eq!(of("https://login.example.org", "ada-2"), None);
    assert_eq!(of("https://other.example.org", "ada-1"), None);
    assert_eq!(of("https://login.example.org/", "ada-1"), None);
}

#[test]
fn why_explains_every_hop_and_every_link() {
    let estate = compile(&office());
    let three = chain(&["people/ada", "agents/assistant", "agents/reader"]);
    let cards = ResourceRef::table("shop/public/cards");
    let why = estate.why_chain(
        &three,
        Action::Select,
        &cards,
        &FactSet::new(),
        &BTreeMap::new(),
    );
    assert!(why.allow);
    let ids: Vec<_> = why
        .hops
        .iter()
        .map(|hop| hop.decision.policy_ids())
        .collect();
    assert_eq!(ids, [["staff"], ["agents"], ["agents"]]);
    assert!(why.hops.iter().all(|hop| hop.texts.len() == 1));
    let grants: Vec<_> = why
        .links
        .iter()
        .map(|link| link.grants[0].id.as_str())
        .collect();
    assert_eq!(
        grants,
        [
            "staff work through assistants",
            "the assistant has a reader"
        ]
    );
    assert_eq!(
        (why.links[0].grants[0].line, why.links[1].grants[0].line),
        (3, 11)
    );
}

#[test]
fn who_can_on_behalf_of_somebody_is_who_was_let_and_may() {
    let estate = compile(&office());
    let ask = |principals: &[&str], action: Action, table: &str| {
        let answer = estate.who_can_for(&chain(principals), action, &ResourceRef::table(table));
        let found = answer.accesses.iter().map(|one| one.identity.clone());
        (found.collect::<Vec<_>>(), answer.errors.len())
    };
    let cards = "shop/public/cards";
    assert_eq!(
        ask(&["people/ada"], Action::Select, cards),
        (vec!["agents/assistant".to_owned()], 0)
    );
    assert_eq!(
        ask(&["people/ada", "agents/assistant"], Action::Select, cards),
        (vec!["agents/reader".to_owned()], 0)
    );
    assert_eq!(ask(&["people/ada"], Action::Delete, cards), (vec![], 0));
    assert_eq!(ask(&["people/bob"], Action::Select, cards), (vec![], 0));
    assert_eq!(ask(&["people/eve"], Action::Select, cards), (vec![], 1));
    // Nobody fits behind the longest chain there can be, and that is said.
    let longest: Vec<String> = (0..8).map(|number| format!("agents/a{number}")).collect();
    let longest: Vec<&str> = longest.iter().map(String::as_str).collect();
    let (found, errors) = ask(&longest, Action::Select, cards);
    assert_eq!((found.len(), errors), (0, 8 + 1));
}

/// Also one who has not been given a login yet.
#[test]
fn nobody_delegates_to_a_person() {
    let mut files = office();
    let login = "\nlogin = { issuer = \"https://login.example.org\", subject = \"bob-2\" }";
    files.insert("identities/i.toml", IDENTITIES.replace(login, ""));
    let to_bob = chain(&["people/ada", "people/bob"]);
    let decision = decide(&compile(&files), &to_bob, "select", "shop/public/cards");
    assert_eq!(codes(&decision), ["DELEGATION-TO-PERSON"]);
    let grants = files.0["delegations/d.toml"].clone();
    let grant = "\n[[delegation]]\nid = \"to bob\"\nfrom = 'Identity::\"people/ada\"'\nto = 'Identity::\"people/bob\"'\n";
    files.insert("delegations/d.toml", grants + grant);
    let problems = Estate::compile(&files).unwrap_err();
    assert!(problems.iter().any(|one| one.code == "ESTATE-DELEGATION"));
}

#[test]
fn a_change_of_who_may_act_for_whom_is_shown() {
    let old = compile(&office());
    let mut files = office();
    files.insert(
        "delegations/d.toml",
        format!(
            "\n{}",
            GRANTS.replace("max_ttl = \"1h\"", "max_ttl = \"2h\"")
        ),
    );
    let new = compile(&files);
    let changed = diff(&old, &new).delegations.changed;
    assert_eq!(changed, ["staff work through assistants"]);
    assert!(matches!(&new.delegations()[0].from, Party::Group(name) if name == "staff"));
}

/// From, to, actions, resources, `max_hops`: each modulo what there is to choose.
type Grant = (u8, u8, u8, u8, u8);

fn with_grants(files: &mut EstateFiles, grants: &[Grant]) {
    let party = |number: u8| match number % 3 {
        0 => format!("Group::\"g{}\"", number / 3 % 5),
        _ => format!("Identity::\"i{}\"", number / 3 % 6),
    };
    let mut text = String::new();
    for (number, (from, to, actions, resources, hops)) in grants.iter().enumerate() {
        let (from, to) = (party(*from), party(*to));
        let hops = hops % 4 + 1;
        write!(
            text,
            "[[delegation]]\nid = \"{number}\"\nfrom = '{from}'\nto = '{to}'\nmax_hops = {hops}\n"
        )
        .unwrap();
        text.push_str(match actions % 4 {
            0 => "actions = [\"select\"]\n",
            1 => "actions = [\"insert\", \"select\"]\n",
            _ => "",
        });
        text.push_str(match resources % 4 {
            0 => "resources = ['Schema::\"d/s0\"']\n",
            1 => "resources = [\"d/s1/t1\", \"d/s0/t2\"]\n",
            _ => "",
        });
    }
    files.insert("delegations/d.toml", text);
}

/// By what stands in the numbers, not by what the estate made of them.
fn brute_link(
    grants: &[Grant],
    (from, to): (usize, usize),
    following: usize,
    action: Action,
    table: &str,
) -> bool {
    // Identity `n` is in group `n % 5`, group `n` in group `(n - 1) / 2`.
    let fits = |party: u8, identity: usize| {
        let wanted = usize::from(party / 3);
        if !party.is_multiple_of(3) {
            return wanted % 6 == identity;
        }
        let mut group = identity % 5;
        loop {
            if group == wanted % 5 {
                return true;
            }
            if group == 0 {
                return false;
            }
            group = (group - 1) / 2;
        }
    };
    grants
        .iter()
        .any(|(giver, taker, actions, resources, hops)| {
            let of_action = match actions % 4 {
                0 => action == Action::Select,
                1 => action != Action::Update,
                _ => true,
            };
            let of_table = match resources % 4 {
                0 => table.starts_with("d/s0/"),
                1 => table == "d/s1/t1" || table == "d/s0/t2",
                _ => true,
            };
            fits(*giver, from)
                && fits(*taker, to)
                && following <= usize::from(hops % 4 + 1)
                && of_action
                && of_table
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// The effective right is the conjunction of what each hop may do by all policies without an index, and of the
    /// links; and no hop, before or behind, widens it.
    #[test]
    fn a_chain_is_the_conjunction_of_its_hops_and_only_narrows(
        drafts in drafts(),
        grants in proptest::collection::vec(any::<Grant>(), 0..12),
        order in Just((0..6_usize).collect::<Vec<_>>()).prop_shuffle(),
        length in 1..5_usize,
        told in any::<bool>(),
        elsewhere in any::<bool>(),
    ) {
        let mut files = files(&drafts, policy);
        with_grants(&mut files, &grants);
        let estate = compile(&files);
        let members: Vec<String> = order[..length].iter().map(|number| format!("i{number}")).collect();
        let names: Vec<&str> = members.iter().map(String::as_str).collect();
        let whole = chain(&names);
        let sessions = [
            FactSet::new(),
            facts(&[(names::MACHINE_JOIN, "tpm".into()), (names::WORKLOAD_UID, 1_u32.into())]),
        ];
        for session in &sessions {
            // Whoever delegated on did so elsewhere: none, these, or the other session's.
            let of_others = &sessions[usize::from(elsewhere)];
            let mut known = ChainFacts::of(estate.prepare(session));
            for other in names.iter().take(length - 1).filter(|_| told) {
                known = known.with(*other, estate.prepare(of_others));
            }
            let earlier: BTreeMap<String, FactSet> = names[..length - 1]
                .iter()
                .filter(|_| told)
                .map(|other| ((*other).to_owned(), of_others.clone()))
                .collect();
            for action in [Action::Select, Action::Insert, Action::Update] {
                for table in ["d/s0/t0", "d/s1/t1", "d/s0/t2", "d/s1/t3", "d/s0/new"] {
                    let resource = ResourceRef::table(table);
                    let got = estate.decide_chain(&whole, action, &resource, &known);
                    let by = |principal: &str, facts: &FactSet| estate.decide_plainly(&Request {
                        principal,
                        action,
                        resource: resource.clone(),
                        facts,
                    }).allow;
                    let each = names.iter().enumerate().all(|(number, principal)| {
                        if number + 1 == length {
                            by(principal, session)
                        } else if told {
                            by(principal, of_others)
                        } else {
                            estate.decide_regardless(principal, action, &resource).decision.allow
                        }
                    });
                    // What is not known of who delegated widens nothing, whatever its facts were.
                    if got.allow && !told {
                        for facts in &sessions {
                            prop_assert!(names[..length - 1].iter().all(|one| by(one, facts)));
                        }
                    }
                    let linked = order[..length].windows(2).enumerate().all(|(number, pair)| {
                        let following = length - 1 - number;
                        brute_link(&grants, (pair[0], pair[1]), following, action, table)
                    });
                    prop_assert_eq!(got.allow, each && linked);
                    if got.allow {
                        for (from, to) in [(0, length - 1), (1, length)] {
                            if from < to {
                                let part = chain(&names[from..to]);
                                let mut of_part = known.clone();
                                if to < length {
                                    of_part = ChainFacts::of(estate.prepare(of_others));
                                    for other in names.iter().filter(|_| told) {
                                        of_part = of_part.with(*other, estate.prepare(of_others));
                                    }
                                }
                                let part = estate.decide_chain(&part, action, &resource, &of_part);
                                prop_assert!(part.allow, "a hop more widened it");
                            }
                        }
                    }
                    let why = estate.why_chain(&whole, action, &resource, session, &earlier);
                    prop_assert_eq!(why.allow, got.allow);
                }
            }
        }
    }
}
