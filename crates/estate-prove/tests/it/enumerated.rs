//! What the solver says of small estates, held against every request over every data that they can tell apart.
//!
//! An estate here has one kind of resource with two booleans and a class, identities with two booleans that may
//! be absent and a group, and policies that read nothing else. So a few hundred requests are all there are, and
//! `proved` is true exactly if none of them breaks the invariant.

use crate::fixture::{compile, cvc5};
use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityUid, PolicySet, Request,
    RestrictedExpression,
};
use estate::{Estate, EstateFiles, InvariantKind, cedar};
use estate_prove::{Options, Result, Witness, prove_blocking, witnesses_blocking};
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

/// SplitMix64: the same estates each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn coin(&mut self) -> bool {
        self.below(2) == 0
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }
}

/// Which attributes of a bucket may be absent.
#[derive(Clone, Copy)]
struct Shape {
    hot: bool,
    open: bool,
}

impl Shape {
    fn schema(self) -> String {
        let may = |absent: bool| if absent { "?" } else { "" };
        format!(
            "type IdentityAttributes = {{ a?: Bool, b?: Bool }};\n\
             entity Bucket in [Group] = {{ classification: String, hot{}: Bool, open{}: Bool }} tags String;\n\
             action get, put appliesTo {{ principal: [Identity], resource: [Bucket], context: Facts }};\n",
            may(self.hot),
            may(self.open)
        )
    }

    /// What can be said of a boolean without an error.
    fn truth(self, name: &str) -> String {
        let (of, absent) = match name {
            "hot" => ("resource", self.hot),
            "open" => ("resource", self.open),
            _ => ("principal.attributes", true),
        };
        if absent {
            format!("({of} has {name} && {of}.{name})")
        } else {
            format!("{of}.{name}")
        }
    }

    fn condition(self, dice: &mut Dice, depth: u32) -> String {
        if depth == 0 || dice.below(4) == 0 {
            return match dice.below(6) {
                0 => "principal in Group::\"g\"".to_owned(),
                1 => "principal == Identity::\"svc/a\"".to_owned(),
                2 => "resource.classification == \"pii\"".to_owned(),
                3 => format!("({} == {})", self.truth("a"), self.truth("open")),
                _ => {
                    let name = dice.of(&["a", "b", "hot", "open"]);
                    self.truth(name)
                }
            };
        }
        let one = self.condition(dice, depth - 1);
        match dice.below(5) {
            0 => format!("!({one})"),
            1 | 2 => format!("({one} && {})", self.condition(dice, depth - 1)),
            _ => format!("({one} || {})", self.condition(dice, depth - 1)),
        }
    }

    fn policy(self, dice: &mut Dice) -> String {
        let effect = dice.of(&["permit", "permit", "forbid"]);
        let principal = dice.of(&[
            "principal",
            "principal in Group::\"g\"",
            "principal == Identity::\"svc/a\"",
        ]);
        let action = dice.of(&[
            "action == Action::\"get\"",
            "action == Action::\"put\"",
            "action in [Action::\"get\", Action::\"put\"]",
        ]);
        let when = dice.of(&["when", "when", "unless"]);
        let condition = self.condition(dice, 2);
        format!("{effect} ({principal}, {action}, resource is Bucket) {when} {{ {condition} }};\n")
    }
}

fn files(shape: Shape, policies: &[String], invariants: &[String]) -> EstateFiles {
    let mut files = EstateFiles::bootstrap("example.org", 0);
    files.insert("schema/small.cedarschema", shape.schema());
    files.insert(
        "identities/small.toml",
        "[[group]]\nname = \"g\"\n\
         [[identity]]\npath = \"svc/a\"\nkind = \"service\"\nowner = \"team\"\n",
    );
    let numbered = |texts: &[String]| {
        texts
            .iter()
            .enumerate()
            .fold(String::new(), |mut all, (number, text)| {
                write!(all, "@id(\"{number:02}\")\n{text}").unwrap();
                all
            })
    };
    files.insert("policies/small.cedar", numbered(policies));
    if !invariants.is_empty() {
        files.insert("invariants/small.cedar", numbered(invariants));
    }
    files
}

fn uid(kind: &str, id: &str) -> EntityUid {
    format!("{kind}::{id:?}").parse().unwrap()
}

type Values = HashMap<String, RestrictedExpression>;

/// Every choice of the booleans; those that may be absent as well are so.
fn choices(names: &[(&str, bool)]) -> Vec<Values> {
    let mut all = vec![Values::new()];
    for (name, may_be_absent) in names {
        let mut more = Vec::new();
        for values in &all {
            for value in [Some(true), Some(false), None] {
                if value.is_none() && !may_be_absent {
                    continue;
                }
                let mut values = values.clone();
                values.extend(
                    value.map(|value| (name.to_string(), RestrictedExpression::new_bool(value))),
                );
                more.push(values);
            }
        }
        all = more;
    }
    all
}

/// Every request over every store that the policies can tell apart.
fn everything(shape: Shape) -> Vec<(Request, Entities)> {
    let mut buckets = Vec::new();
    for class in ["pii", "other"] {
        for mut values in choices(&[("hot", shape.hot), ("open", shape.open)]) {
            let class = RestrictedExpression::new_string(class.to_owned());
            values.insert("classification".to_owned(), class);
            let uid = uid("Bucket", &format!("b{}", buckets.len()));
            buckets.push(Entity::new(uid, values, HashSet::new()).unwrap());
        }
    }
    let mut all = Vec::new();
    for id in ["svc/a", "svc/other"] {
        for grouped in [true, false] {
            for values in choices(&[("a", true), ("b", true)]) {
                let record = RestrictedExpression::new_record(values).unwrap();
                let groups = grouped.then(|| uid("Group", "g")).into_iter().collect();
                let attributes = Values::from([("attributes".to_owned(), record)]);
                let who = Entity::new(uid("Identity", id), attributes, groups).unwrap();
                let group = Entity::new_no_attrs(uid("Group", "g"), HashSet::new());
                let there = buckets.iter().cloned().chain([who, group]);
                let entities = Entities::from_entities(there, None).unwrap();
                for bucket in &buckets {
                    for action in ["get", "put"] {
                        let request = Request::new(
                            uid("Identity", id),
                            uid("Action", action),
                            bucket.uid(),
                            Context::empty(),
                            None,
                        );
                        all.push((request.unwrap(), entities.clone()));
                    }
                }
            }
        }
    }
    all
}

fn decided(policies: &PolicySet, all: &[(Request, Entities)]) -> Vec<bool> {
    let authorizer = Authorizer::new();
    all.iter()
        .map(|(request, entities)| {
            let answer = authorizer.is_authorized(request, policies, entities);
            assert_eq!(
                answer.diagnostics().errors().count(),
                0,
                "nothing here errs"
            );
            answer.decision() == Decision::Allow
        })
        .collect()
}

/// Each invariant of `estate` is proved exactly if no request breaks it; how many were, and how many not.
fn agrees(
    estate: &Estate,
    allowed: &[bool],
    all: &[(Request, Entities)],
    options: &Options,
) -> (usize, usize) {
    let report = prove_blocking(estate, options);
    let (mut proved, mut broken) = (0, 0);
    for (invariant, said) in estate.invariants().iter().zip(&report.invariants) {
        let matching = PolicySet::from_policies([cedar::matching(invariant).clone()]).unwrap();
        let matched = decided(&matching, all);
        let wrong = invariant.kind == InvariantKind::Never;
        let breaks = matched
            .iter()
            .zip(allowed)
            .any(|(matched, allowed)| *matched && *allowed == wrong);
        let texts = || {
            (
                &estate.files().0["policies/small.cedar"],
                cedar::text(invariant),
            )
        };
        match &said.result {
            Result::Proved => {
                assert!(!breaks, "proved, and a request breaks it: {:?}", texts());
                proved += 1;
            }
            Result::Broken { counterexample } => {
                assert!(
                    breaks,
                    "no request breaks it, yet {counterexample}: {:?}",
                    texts()
                );
                assert_eq!(counterexample.allowed, wrong);
                broken += 1;
            }
            Result::Unknown { why } => panic!("{why}: {:?}", texts()),
        }
    }
    (proved, broken)
}

#[test]
fn proved_and_broken_are_what_enumeration_says() {
    let Some(options) = cvc5("proved_and_broken_are_what_enumeration_says") else {
        return;
    };
    let (mut proved, mut broken, mut found, mut none) = (0, 0, 0, 0);
    for seed in 0..8 {
        let dice = &mut Dice(seed);
        let shape = Shape {
            hot: dice.coin(),
            open: dice.coin(),
        };
        let mut policies: Vec<_> = (0..2 + dice.below(4)).map(|_| shape.policy(dice)).collect();
        let invariants: Vec<_> = (0..8)
            .map(|_| {
                let kind = dice.of(&["never", "never", "always"]);
                let action = dice.of(&["get", "put"]);
                let one = shape.condition(dice, 1);
                let other = shape.condition(dice, 1);
                format!(
                    "{kind} (principal is Identity, action == Action::\"{action}\", resource is Bucket)\n\
                     when {{ {one} && {other} }};\n"
                )
            })
            .collect();
        let estate = compile(&files(shape, &policies, &invariants));
        let all = everything(shape);
        let allowed = decided(cedar::policies(&estate), &all);
        let (held, fell) = agrees(&estate, &allowed, &all, &options);
        proved += held;
        broken += fell;

        let changed = usize::try_from(dice.below(policies.len() as u64)).unwrap();
        if dice.coin() {
            policies.push(shape.policy(dice));
        } else {
            policies.remove(changed);
        }
        let next = compile(&files(shape, &policies, &[]));
        let after = decided(cedar::policies(&next), &all);
        let said = witnesses_blocking(&estate, &next, &options).unwrap();
        let mut pairs = allowed.iter().zip(&after);
        let widened = pairs.clone().any(|(before, after)| !before && *after);
        let narrowed = pairs.any(|(before, after)| *before && !after);
        for (witness, changes) in [(said.newly_allowed, widened), (said.newly_denied, narrowed)] {
            match (&witness, changes) {
                (Witness::Found { .. }, true) => found += 1,
                (Witness::Proved { .. }, false) => none += 1,
                _ => panic!("by enumeration {changes}, yet {witness:?}"),
            }
        }
    }
    // Neither answer comes of its own.
    assert!(
        proved >= 5 && broken >= 5,
        "{proved} proved, {broken} broken"
    );
    assert!(found >= 3 && none >= 3, "{found} found, {none} none");
}
