//! How far what was taken reaches beyond what it can become: administrators, gateways, delegations, roots, and the
//! server itself; and that a page after the other says the same.

use crate::fixture::{compile, example, shop, shop_files};
use estate::{
    Action, Administrator, Blast, BlastItem, BlastStep, Chain, Estate, EstateFiles, ResourceRef,
    Scope, Taken,
};
use std::collections::BTreeSet;

/// People who administer or only delegate, agents that act for them, and roots of hardware.
fn files() -> EstateFiles {
    let mut files = shop_files();
    let settings = files.0.get_mut("estate.toml").unwrap();
    settings.push_str(
        "\n[[administrator]]\nperson = \"people/ada\"\ngroups = [\"operators\"]\n\
         [[administrator]]\nperson = \"people/tom\"\n",
    );
    files.insert(
        "identities/people.toml",
        "[[group]]\nname = \"staff\"\n\
         [[identity]]\npath = \"people/ada\"\nkind = \"person\"\nowner = \"us\"\ngroups = [\"staff\"]\n\
         login = { issuer = \"https://login.example.org\", subject = \"ada\" }\n\
         [[identity]]\npath = \"people/tom\"\nkind = \"person\"\nowner = \"us\"\n\
         login = { issuer = \"https://login.example.org\", subject = \"tom\" }\n\
         [[identity]]\npath = \"people/eve\"\nkind = \"person\"\nowner = \"us\"\n\
         login = { issuer = \"https://login.example.org\", subject = \"eve\" }\n",
    );
    files.insert(
        "policies/people.cedar",
        "@id(\"tom makes tokens\") permit (principal == Admin::\"person:people/tom\", action == Action::\"token-create\", resource);\n",
    );
    files.insert(
        "delegations/people.toml",
        "[[delegation]]\nid = \"staff to reporting\"\nfrom = 'Group::\"staff\"'\nto = 'Identity::\"reporting/nightly\"'\nmax_hops = 2\n\
         [[delegation]]\nid = \"reporting to helper\"\nfrom = 'Identity::\"reporting/nightly\"'\nto = 'Identity::\"agents/helper\"'\n\
         [[delegation]]\nid = \"eve to reporting\"\nfrom = 'Identity::\"people/eve\"'\nto = 'Identity::\"reporting/nightly\"'\n",
    );
    files
}

fn blast(estate: &Estate, taken: Taken) -> Blast {
    let blast = estate.blast_radius(taken).unwrap();
    assert!(blast.errors.is_empty(), "{:?}", blast.errors);
    blast
}

fn identity(path: &str) -> Taken {
    Taken::Identity(path.to_owned())
}

fn administrator(who: &str) -> Taken {
    Taken::Administrator(who.to_owned())
}

fn names(blast: &Blast) -> BTreeSet<&str> {
    blast
        .identities
        .iter()
        .map(|one| one.identity.as_str())
        .collect()
}

fn all(estate: &Estate) -> BTreeSet<&str> {
    estate.identities().map(|one| one.path.as_str()).collect()
}

fn steps(blast: &Blast) -> Vec<(&str, BlastStep)> {
    blast
        .paths
        .iter()
        .map(|path| (path.from.as_str(), path.by))
        .collect()
}

/// Everything that everybody can do.
fn everything(estate: &Estate) -> usize {
    let each = estate
        .identities()
        .map(|one| estate.what_can(&one.path).accesses.len());
    each.sum()
}

#[test]
fn whoever_may_apply_an_estate_reaches_everything() {
    let estate = compile(&files());
    for taken in [
        identity("people/ada"),
        administrator("person:people/ada"),
        administrator("uid:0"),
    ] {
        let blast = blast(&estate, taken.clone());
        assert_eq!(names(&blast), all(&estate), "{taken:?}");
        assert_eq!(blast.accesses.len(), everything(&estate), "{taken:?}");
        let apply = blast
            .paths
            .iter()
            .find(|path| path.by == BlastStep::Apply)
            .unwrap();
        let because: Vec<&str> = apply.policies.iter().map(|one| one.id.as_str()).collect();
        assert_eq!(because, ["operators administer"], "{taken:?}");
        let payments = blast
            .identities
            .iter()
            .find(|one| one.identity == "payments/api");
        assert_eq!(payments.unwrap().through, std::slice::from_ref(&apply.from));
    }
    // Who administers nothing, and who may do less than apply.
    assert_eq!(
        names(&blast(&estate, administrator("uid:7"))),
        BTreeSet::new()
    );
    assert_eq!(
        names(&blast(&estate, identity("people/eve"))),
        BTreeSet::from(["people/eve"])
    );
    for wrong in ["person:people/eve", "person:people/nobody", "ada", "uid:x"] {
        assert!(
            estate.blast_radius(administrator(wrong)).is_err(),
            "{wrong}"
        );
    }
    let near = estate
        .blast_radius(administrator("person:people/adda"))
        .unwrap_err();
    assert!(near.contains("did you mean `person:people/ada`?"), "{near}");
}

/// He has a machine wherever he wants one, and on it he is who policies take its agent to be.
#[test]
fn whoever_makes_join_tokens_has_a_machine_in_every_pool() {
    let estate = compile(&files());
    let tom = blast(&estate, administrator("person:people/tom"));
    assert_eq!(
        steps(&tom)[0],
        ("person:people/tom", BlastStep::TokenCreate)
    );
    let payments = tom
        .identities
        .iter()
        .find(|one| one.identity == "payments/api" && one.through == ["person:people/tom"])
        .unwrap();
    assert!(payments.when.is_empty(), "{payments:?}");
    assert!(
        payments.asserting[0]
            .condition
            .contains("principal in Pool::\"demo\""),
        "{payments:?}"
    );
    // What he becomes has a gateway in it.
    assert!(steps(&tom).contains(&("gateway/pg", BlastStep::Gateway)));
    assert_eq!(tom.accesses.len(), everything(&estate));
}

/// A machine that can be a gateway acts in the name of everybody whom it lets in, so that its data are theirs.
#[test]
fn a_gateway_that_can_be_become_reaches_what_everybody_does() {
    let estate = shop();
    let machine = Taken::Machine {
        name: "m1".to_owned(),
        pool: Some("demo".to_owned()),
    };
    for taken in [
        machine,
        identity("gateway/pg"),
        Taken::Gateway("gateway/pg".to_owned()),
    ] {
        let blast = blast(&estate, taken.clone());
        assert_eq!(
            steps(&blast),
            [("gateway/pg", BlastStep::Gateway)],
            "{taken:?}"
        );
        assert_eq!(blast.accesses.len(), everything(&estate), "{taken:?}");
    }
}

#[test]
fn the_server_is_everybody_with_everything_that_they_can_do() {
    let estate = compile(&files());
    let server = blast(&estate, Taken::Server);
    assert_eq!(steps(&server)[0], ("server", BlastStep::Server));
    assert_eq!(names(&server), all(&estate));
    let mut expected: Vec<_> = estate
        .identities()
        .flat_map(|one| estate.what_can(&one.path).accesses)
        .collect();
    expected.sort();
    let mut found = server.accesses.clone();
    found.sort();
    assert!(found == expected, "{} {}", found.len(), expected.len());
    assert!(found.iter().any(|one| one.identity == "payments/api"
        && one.action == Action::Update
        && one.resource == ResourceRef::table("shop/public/orders")));
    assert_eq!(server.acts_for.len(), 4, "{:?}", server.acts_for);
}

/// A root's holder makes hardware that says what policies ask; what no hardware says, as the pool, stands.
#[test]
fn the_holder_of_a_root_forges_what_policies_ask_of_hardware() {
    let mut files = example("estate-shop");
    files.insert(
        "policies/measured.cedar",
        "@id(\"measured\") permit (principal in Pool::\"demo\", action == Action::\"assume\", resource == Identity::\"payments/api\") \
         when { principal.machine has boot && principal.machine.boot has secure_boot && principal.machine.boot.secure_boot && principal has uid && principal.uid == 7 };\n",
    );
    files.insert(
        "references/tee.toml",
        format!(
            "[[tee]]\npool = \"demo\"\nkind = \"tdx\"\nrequire = false\ntcb_status = [\"UpToDate\"]\n\
             [[tee.image]]\nname = \"td\"\nmrtd = \"{}\"\n",
            "00".repeat(48)
        ),
    );
    let estate = match Estate::compile(&files) {
        Ok(estate) => estate,
        Err(problems) => panic!("{}", crate::fixture::render(&problems)),
    };
    let blast = blast(&estate, Taken::Root("intel".to_owned()));
    let payments = blast
        .identities
        .iter()
        .find(|one| one.identity == "payments/api" && one.through.is_empty())
        .unwrap();
    let measured = payments
        .asserting
        .iter()
        .find(|one| one.policy.id == "measured")
        .unwrap();
    assert!(measured.condition.contains("secure_boot"), "{measured:?}");
    let when = payments
        .when
        .iter()
        .find(|one| one.policy.id == "measured")
        .unwrap();
    assert_eq!(when.condition, "principal in Pool::\"demo\"");
    let unknown = estate
        .blast_radius(Taken::Root("intl".to_owned()))
        .unwrap_err();
    assert_eq!(
        unknown,
        "no root `intl` is declared (did you mean `intel`?)"
    );
}

fn acts(blast: &Blast) -> Vec<String> {
    let lines = blast.acts_for.iter().map(|one| {
        let grants: Vec<&str> = one.grants.iter().map(|grant| grant.id.as_str()).collect();
        format!(
            "{} for {} by {}",
            one.identity,
            one.on_behalf_of,
            grants.join(", ")
        )
    });
    lines.collect()
}

/// With an identity, what was delegated to it is taken, as far as its giver may hand it on.
#[test]
fn what_was_delegated_is_taken_with_its_holder() {
    let estate = compile(&files());
    assert_eq!(
        acts(&blast(&estate, identity("agents/helper"))),
        [
            "agents/helper for Group::\"staff\" by reporting to helper, staff to reporting",
            // Not for eve, who lets nobody hand it on.
            "agents/helper for Identity::\"reporting/nightly\" by reporting to helper",
        ]
    );
    assert_eq!(
        acts(&blast(&estate, identity("reporting/nightly"))),
        [
            "reporting/nightly for Group::\"staff\" by staff to reporting",
            "reporting/nightly for Identity::\"people/eve\" by eve to reporting",
        ]
    );
    assert!(acts(&blast(&estate, identity("payments/api"))).is_empty());
}

/// Whatever chain an estate lets an identity act at the end of, it stands in the answer; and no chain reaches what its
/// last does not.
#[test]
fn no_chain_that_the_estate_grants_is_missing() {
    let estate = compile(&files());
    let paths: Vec<&str> = estate.identities().map(|one| one.path.as_str()).collect();
    let mut tried = 0;
    let mut chains: Vec<Chain> = paths.iter().map(|path| Chain::of(*path)).collect();
    for _ in 0..3 {
        let mut longer = Vec::new();
        for chain in &chains {
            for path in &paths {
                let Ok(chain) = chain.clone().then(*path, Scope::default()) else {
                    continue;
                };
                if estate.may_delegate(&chain).is_err() {
                    continue;
                }
                tried += 1;
                let blast = blast(&estate, identity(path));
                let first = chain.principals().first().unwrap();
                let own = format!("Identity::{first:?}");
                assert!(
                    blast.acts_for.iter().any(|one| one.on_behalf_of == own
                        || (first == "people/ada" && one.on_behalf_of == "Group::\"staff\"")),
                    "{chain:?} {:?}",
                    blast.acts_for
                );
                for access in estate.what_can(first).accesses {
                    let decided =
                        estate.decide_chain_regardless(&chain, access.action, &access.resource);
                    let reached = blast.accesses.iter().any(|one| {
                        (one.action, &one.resource) == (access.action, &access.resource)
                    });
                    assert!(!decided.allow || reached, "{chain:?} {access:?}");
                }
                longer.push(chain);
            }
        }
        chains = longer;
    }
    assert!(tried >= 4, "{tried}");
}

/// Who may apply by enumeration is who reaches everything by the answer.
#[test]
fn no_administrator_who_may_apply_is_missing() {
    let estate = compile(&files());
    let whole = ResourceRef::estate("demo.trilith");
    let everybody = [
        Administrator::Uid(0),
        Administrator::Uid(1000),
        Administrator::Person("people/ada".to_owned()),
        Administrator::Person("people/tom".to_owned()),
    ];
    for who in everybody {
        let may = estate
            .decide_administrator(&who, Action::Apply, &whole)
            .allow;
        let blast = blast(&estate, administrator(&who.to_string()));
        let said = blast.paths.iter().any(|path| path.by == BlastStep::Apply);
        assert_eq!(said, may, "{who}");
        assert!(!may || names(&blast) == all(&estate), "{who}");
    }
}

/// Whoever may apply an estate and make join tokens reaches most of them twice.
#[test]
fn who_is_reached_by_two_ways_is_counted_once_on_every_page() {
    let estate = compile(&files());
    for taken in [
        administrator("uid:0"),
        administrator("person:people/tom"),
        identity("agents/helper"),
        Taken::Server,
    ] {
        let whole = blast(&estate, taken.clone());
        let mut answer = estate.blast(taken.clone()).unwrap();
        let counts = answer.counts();
        assert_eq!(counts.identities, names(&whole).len(), "{taken:?}");
        assert_eq!(counts.paths, whole.paths.len(), "{taken:?}");
        assert_eq!(counts.acts_for, whole.acts_for.len(), "{taken:?}");
        // However little of it stands there.
        for page in [answer.page(1, 1), answer.page(1, 1)] {
            assert_eq!(page.counts, counts, "{taken:?}");
        }
    }
    let twice = blast(&estate, administrator("uid:0"));
    assert!(twice.identities.len() > names(&twice).len());
}

#[test]
fn pages_of_any_size_come_to_the_whole() {
    let estate = compile(&files());
    for taken in [
        Taken::Server,
        identity("agents/helper"),
        administrator("uid:7"),
    ] {
        let whole = blast(&estate, taken.clone());
        let sizes: &[(usize, usize)] = match taken {
            Taken::Server => &[(64, 1_000)],
            _ => &[(1, 1), (3, 2), (7, 1_000), (10_000, 1)],
        };
        for &(limit, tries) in sizes {
            let mut items = Vec::new();
            let mut after: Option<String> = None;
            let mut pages = 0;
            loop {
                let mut answer = estate.blast(taken.clone()).unwrap();
                if let Some(cursor) = &after {
                    answer = answer.after(&cursor.parse().unwrap()).unwrap();
                }
                let (more, next) = answer.part(limit, tries);
                assert!(more.len() <= limit, "{taken:?}");
                items.extend(more);
                pages += 1;
                assert!(pages < 10_000, "{taken:?}");
                after = next;
                if after.is_none() {
                    break;
                }
            }
            let accesses = items.iter().filter_map(|item| match item {
                BlastItem::Access(access) => Some(access.clone()),
                _ => None,
            });
            assert!(
                accesses.eq(whole.accesses.iter().cloned()),
                "{taken:?} {limit} {tries}"
            );
            let head = whole.paths.len() + whole.identities.len() + whole.acts_for.len();
            assert_eq!(
                items.len(),
                head + whole.accesses.len(),
                "{taken:?} {limit} {tries}"
            );
        }
    }
    // A cursor goes with its question.
    let (_, next) = estate.blast(Taken::Server).unwrap().part(1, 1);
    let cursor = next.unwrap().parse().unwrap();
    assert!(
        estate
            .blast(identity("people/ada"))
            .unwrap()
            .after(&cursor)
            .is_err()
    );
    assert!(estate.what_can("people/ada").errors.is_empty());
}
