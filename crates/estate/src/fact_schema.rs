//! Facts as Cedar sees them: the type each name must have, and the record they nest into.

use crate::model::References;
use cedar_policy::RestrictedExpression;
use facts::{FactSet, Value, names};
use std::collections::BTreeMap;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    Text,
    Integer,
    Bool,
    List,
}

impl Type {
    const fn fits(self, value: &Value) -> bool {
        matches!(
            (self, value),
            (Self::Text, Value::Text(_))
                | (Self::Integer, Value::Integer(_))
                | (Self::Bool, Value::Bool(_))
                | (Self::List, Value::List(_))
        )
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Integer => "an integer",
            Self::Bool => "true or false",
            Self::List => "a list of texts",
        }
    }
}

fn type_of(name: &str) -> Option<Type> {
    if !names::ALL.contains(&name) {
        return None;
    }
    Some(match name {
        names::WORKLOAD_UID
        | names::WORKLOAD_GID
        | names::MACHINE_BOOT_RESET_COUNT
        | names::MACHINE_BOOT_RESTART_COUNT
        | names::MACHINE_IMA_ENTRIES
        | names::MACHINE_IMA_VIOLATIONS
        | names::MACHINE_TEE_VERSION
        | names::MACHINE_TEE_SVN
        | names::MACHINE_TEE_PRODUCT
        | names::MACHINE_TEE_VMPL
        | names::MACHINE_TEE_TCB_EVALUATION
        | names::MACHINE_TEE_TCB_FMC
        | names::MACHINE_TEE_TCB_BOOTLOADER
        | names::MACHINE_TEE_TCB_TEE
        | names::MACHINE_TEE_TCB_SNP
        | names::MACHINE_TEE_TCB_MICROCODE => Type::Integer,
        names::WORKLOAD_GROUPS
        | names::MACHINE_BOOT_PK
        | names::MACHINE_BOOT_KEK
        | names::MACHINE_BOOT_DB
        | names::MACHINE_BOOT_AUTHORITIES
        | names::MACHINE_BOOT_IMAGES
        | names::MACHINE_BOOT_SECTIONS
        | names::MACHINE_BOOT_LABELS
        | names::MACHINE_BOOT_JUDGED
        | names::MACHINE_TEE_BOOT_PK
        | names::MACHINE_TEE_BOOT_KEK
        | names::MACHINE_TEE_BOOT_DB
        | names::MACHINE_TEE_BOOT_IMAGES
        | names::MACHINE_TEE_TCB_ADVISORIES => Type::List,
        names::WORKLOAD_INTERPRETER
        | names::CODE_ROOTED_IN_HARDWARE
        | names::MACHINE_BOOT_SECURE_BOOT
        | names::MACHINE_BOOT_SHIM
        | names::MACHINE_IPE_ROOTED
        | names::MACHINE_TEE_BOOT_SECURE_BOOT
        | names::MACHINE_TEE_DEBUG => Type::Bool,
        _ => Type::Text,
    })
}

/// Whether a fact of this name is a text.
pub(crate) fn is_text(name: &str) -> bool {
    type_of(name) == Some(Type::Text)
}

/// Facts that cannot be put before a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FactError {
    #[error("fact {name} must be {expected}, not {observed:?}")]
    Type {
        name: String,
        expected: &'static str,
        observed: String,
    },
    #[error("the facts make no entity: {0}")]
    Entity(String),
}

/// A record under construction: leaves are values, branches nest.
#[derive(Default)]
struct Branch(BTreeMap<String, Node>);

enum Node {
    Leaf(Value),
    Branch(Branch),
}

impl Branch {
    fn put(&mut self, path: &[&str], value: Value) {
        match path {
            [] => {}
            [last] => {
                self.0.insert((*last).to_owned(), Node::Leaf(value));
            }
            [first, rest @ ..] => {
                let child = self
                    .0
                    .entry((*first).to_owned())
                    .or_insert_with(|| Node::Branch(Self::default()));
                if let Node::Branch(branch) = child {
                    branch.put(rest, value);
                }
            }
        }
    }

    fn take_branch(&mut self, name: &str) -> Self {
        match self.0.remove(name) {
            Some(Node::Branch(branch)) => branch,
            _ => Self::default(),
        }
    }

    /// Every leaf that is a text, by its path.
    fn texts(&self, above: &str, into: &mut BTreeMap<String, String>) {
        for (name, node) in &self.0 {
            let name = if above.is_empty() {
                name.clone()
            } else {
                format!("{above}.{name}")
            };
            match node {
                Node::Leaf(Value::Text(text)) => {
                    into.insert(name, text.clone());
                }
                Node::Leaf(_) => {}
                Node::Branch(branch) => branch.texts(&name, into),
            }
        }
    }

    fn into_pairs(self) -> Vec<(String, RestrictedExpression)> {
        self.0
            .into_iter()
            .map(|(name, node)| {
                let value = match node {
                    Node::Leaf(value) => expression(&value),
                    Node::Branch(branch) => branch.into_record(),
                };
                (name, value)
            })
            .collect()
    }

    fn into_record(self) -> RestrictedExpression {
        // Keys come from a map, so none is there twice, which is all that can fail.
        RestrictedExpression::new_record(self.into_pairs())
            .unwrap_or_else(|_| RestrictedExpression::new_bool(false))
    }
}

/// Facts this version does not know are left out: policies cannot speak of them either.
fn branches(facts: &FactSet, references: &References) -> Result<Branch, FactError> {
    let mut root = Branch::default();
    for fact in facts.iter() {
        let Some(expected) = type_of(&fact.name) else {
            continue;
        };
        if !expected.fits(&fact.value) {
            return Err(FactError::Type {
                name: fact.name.clone(),
                expected: expected.name(),
                observed: fact.value.to_string(),
            });
        }
        let path: Vec<&str> = fact.name.split('.').collect();
        root.put(&path, fact.value.clone());
    }
    if let Some(sha256) = facts.text(names::CODE_SHA256) {
        let known_as = known_as(facts, references, sha256);
        let names = known_as.into_iter().map(str::to_owned).collect();
        root.put(&["code", "known_as"], Value::List(names));
    } else {
        // What is known of code is about its digest.
        root.take_branch("code");
    }
    Ok(root)
}

/// The names that the workload's code goes by.
pub(crate) fn code_names<'a>(facts: &'a FactSet, references: &'a References) -> Vec<&'a str> {
    facts
        .text(names::CODE_SHA256)
        .map_or_else(Vec::new, |sha256| known_as(facts, references, sha256))
}

/// The names of a digest. An interpreter's own digest says nothing of the code it runs, so it goes
/// by no name (DESIGN section 7).
fn known_as<'a>(facts: &FactSet, references: &'a References, sha256: &'a str) -> Vec<&'a str> {
    if facts.value(names::WORKLOAD_INTERPRETER) == Some(&Value::Bool(true)) {
        return Vec::new();
    }
    let fsverity = facts.text(names::CODE_FSVERITY);
    references.names_of_code(sha256, fsverity).collect()
}

pub(crate) fn expression(value: &Value) -> RestrictedExpression {
    match value {
        Value::Bool(value) => RestrictedExpression::new_bool(*value),
        Value::Integer(value) => RestrictedExpression::new_long(*value),
        Value::Text(value) => RestrictedExpression::new_string(value.clone()),
        Value::List(values) => RestrictedExpression::new_set(
            values
                .iter()
                .map(|value| RestrictedExpression::new_string(value.clone())),
        ),
    }
}

/// Attributes of a record, and its texts by their paths.
pub(crate) type Pairs = (
    Vec<(String, RestrictedExpression)>,
    BTreeMap<String, String>,
);

/// `context` of a use: `{ machine, workload, code? }`.
pub(crate) fn context_pairs(facts: &FactSet, references: &References) -> Result<Pairs, FactError> {
    let mut root = branches(facts, references)?;
    for required in ["machine", "workload"] {
        let branch = root.take_branch(required);
        root.0.insert(required.to_owned(), Node::Branch(branch));
    }
    let mut texts = BTreeMap::new();
    root.texts("", &mut texts);
    Ok((root.into_pairs(), texts))
}

/// Attributes of a `Workload`: `machine`, `code?`, and the workload's own facts flat.
pub(crate) fn workload_pairs(
    facts: &FactSet,
    references: &References,
) -> Result<Vec<(String, RestrictedExpression)>, FactError> {
    let mut root = branches(facts, references)?;
    let mut flat = root.take_branch("workload");
    let machine = root.take_branch("machine");
    flat.0.insert("machine".to_owned(), Node::Branch(machine));
    if let Some(code) = root.0.remove("code") {
        flat.0.insert("code".to_owned(), code);
    }
    Ok(flat.into_pairs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cedar_policy::Context;
    use facts::{Source, Timestamp};

    fn every_fact() -> FactSet {
        let mut facts = FactSet::new();
        for name in names::ALL {
            let value = match type_of(name).unwrap() {
                Type::Text => Value::from("x"),
                Type::Integer => Value::from(7_i64),
                Type::Bool => Value::from(false),
                Type::List => Value::from(vec!["x".to_owned()]),
            };
            facts.state(name, value, Source::Verified, Timestamp::EPOCH);
        }
        facts
    }

    #[test]
    fn the_base_schema_knows_every_fact_and_its_type() {
        let schema = crate::vocabulary::Vocabulary::base().unwrap().schema;
        let (pairs, _) = context_pairs(&every_fact(), &References::default()).unwrap();
        let context = Context::from_pairs(pairs).unwrap();
        let select = crate::entities::action_uid(crate::Action::Select);
        context.validate(&schema, &select).unwrap();
        let text = include_str!("base/base.cedarschema");
        let optional = text
            .lines()
            .take_while(|line| !line.contains("entity Workload"))
            .collect::<String>();
        let nested = [
            "tpm?",
            "boot?",
            "ima?",
            "ipe?",
            "tee?",
            "tee.boot?",
            "tcb?",
            "cloud?",
            "code?",
            "signer?",
            "image?",
            "image.signer?",
        ];
        let leaves = optional.matches("?: ").count() - nested.len();
        // Written once as a type: of the code, and of its image.
        let again = ["identity", "issuer", "key"];
        assert_eq!(
            leaves + ["code.sha256"].len() + again.len(),
            names::ALL.len(),
            "a fact is missing in either"
        );
    }

    #[test]
    fn code_without_its_digest_is_no_code() {
        let mut facts = FactSet::new();
        let now = Timestamp::EPOCH;
        facts.state(
            names::CODE_SOURCE,
            "github.com/acme/x",
            Source::Verified,
            now,
        );
        let (pairs, texts) = context_pairs(&facts, &References::default()).unwrap();
        assert!(pairs.iter().all(|(name, _)| name != "code"));
        assert!(texts.is_empty(), "{texts:?}");
        facts.state(names::CODE_SHA256, "00", Source::Asserted, now);
        let (pairs, texts) = context_pairs(&facts, &References::default()).unwrap();
        assert_eq!(texts[names::CODE_SOURCE], "github.com/acme/x");
        assert!(pairs.iter().any(|(name, _)| name == "code"));
    }

    #[test]
    fn a_fact_of_the_wrong_type_is_an_error() {
        let mut facts = FactSet::new();
        facts.state(names::WORKLOAD_UID, "0", Source::Asserted, Timestamp::EPOCH);
        let error = context_pairs(&facts, &References::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "fact workload.uid must be an integer, not \"0\""
        );
    }
}
