//! What an answer leaves in this process's own ledger, before it goes out.

use crate::authzen::Evaluation;
use crate::decider::{Answer, Version};
use crate::ext_authz::Mapped;
use crate::names::shown;
use crate::question::{Known, OnBehalfOf, Question, Refused};
use estate::Estate;
use facts::{FactSet, Value};
use gateway::{Answered, Operation};
use ledger::body::{About, ActionOn, Coverage, FactValue};
use spiffe_core::TrustDomain;
use std::collections::BTreeMap;

/// What a question came to.
pub(crate) enum Outcome {
    Answered(Box<(Question, Answer)>),
    Refused(Refused),
}

impl Outcome {
    pub(crate) fn allow(&self) -> bool {
        match self {
            Self::Answered(answered) => answered.1.decision.allow,
            Self::Refused(_) => false,
        }
    }
}

/// As somebody wrote it: subject, action and resource of what could not be put to the estate.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told {
    pub(crate) subject: String,
    pub(crate) action: String,
    pub(crate) resource: String,
}

impl Told {
    pub(crate) fn of(evaluation: &Evaluation) -> Self {
        let resource = &evaluation.resource;
        Self {
            subject: shown(&evaluation.subject.id),
            action: shown(&evaluation.action.name),
            resource: shown(&format!("{} {}", resource.kind, resource.id)),
        }
    }

    pub(crate) fn of_request(subject: &str, mapped: Option<&Mapped>) -> Self {
        Self {
            subject: shown(subject),
            action: mapped
                .map(|mapped| mapped.action.to_string())
                .unwrap_or_default(),
            resource: mapped
                .map(|mapped| mapped.resource.to_string())
                .unwrap_or_default(),
        }
    }
}

/// The record of one outcome. `statement` says by which question: `evaluation`, `ext_authz/cards`.
pub(crate) fn answered(
    statement: &str,
    told: &Told,
    outcome: &Outcome,
    version: &Version,
    domain: &TrustDomain,
) -> Answered {
    let (actions, policies, about, findings) = match outcome {
        Outcome::Answered(answered) => {
            let (question, answer) = answered.as_ref();
            let asked = asked(question, answer, version.estate());
            let on = on(question.action.as_str(), asked);
            let findings = findings(answer);
            (
                on,
                answer.decision.policy_ids(),
                about(question, domain),
                findings,
            )
        }
        Outcome::Refused(refused) => {
            let about = About {
                spiffe_id: told.subject.clone(),
                ..About::default()
            };
            let on = on(&told.action, vec![told.resource.clone()]);
            (
                on,
                Vec::new(),
                about,
                vec![refused.finding.code.to_string()],
            )
        }
    };
    let estate = version
        .index()
        .map(|index| (version.estate().version().to_owned(), index));
    Answered {
        operation: Operation {
            statement: statement.to_owned(),
            actions: vec![actions],
            policies,
            coverage: Coverage::Complete,
            estate,
        },
        about,
        allow: outcome.allow(),
        findings,
    }
}

/// What the estate was asked about: of a column its table as well. What was denied comes first, as in a gateway's
/// records.
fn asked(question: &Question, answer: &Answer, estate: &Estate) -> Vec<String> {
    let table = estate.table_asked(question.action, &question.resource);
    let mut asked: Vec<String> = std::iter::once(&question.resource)
        .chain(&table)
        .map(ToString::to_string)
        .collect();
    if answer.decision.of_table.is_some() {
        asked.reverse();
    }
    asked
}

fn on(action: &str, resources: Vec<String>) -> ActionOn {
    ActionOn {
        action: action.to_owned(),
        resources,
        more: None,
        columns: Vec::new(),
    }
}

fn about(question: &Question, domain: &TrustDomain) -> About {
    let named = |path: &String| {
        let id = domain.identity(path);
        id.map_or_else(|_| path.clone(), |id| id.to_string())
    };
    let spiffe_id = named(&question.subject);
    let (issuance, stated) = match &question.facts {
        Known::Nothing => (None, BTreeMap::new()),
        Known::Issued { issuance, .. } => (Some((*issuance).into()), BTreeMap::new()),
        Known::Stated(facts) => (None, values(facts)),
    };
    let (claimed_on_behalf_of, on_behalf_of) = match &question.on_behalf_of {
        None => (Vec::new(), Vec::new()),
        Some(OnBehalfOf::Claimed(chain)) => {
            let others = chain.principals().split_last().map(|(_, others)| others);
            let others = others.into_iter().flatten();
            (others.map(named).collect(), Vec::new())
        }
        Some(OnBehalfOf::Proven(delegated)) => (Vec::new(), delegated.on_behalf_of()),
    };
    About {
        spiffe_id,
        issuance,
        stated,
        claimed_on_behalf_of,
        on_behalf_of,
    }
}

fn values(facts: &FactSet) -> BTreeMap<String, FactValue> {
    let value = |value: &Value| match value {
        Value::Bool(value) => FactValue::Bool(*value),
        Value::Integer(value) => FactValue::Integer(*value),
        Value::Text(value) => FactValue::Text(value.clone()),
        Value::List(values) => FactValue::List(values.clone()),
    };
    facts
        .iter()
        .map(|fact| (fact.name.clone(), value(&fact.value)))
        .collect()
}

/// Codes; their messages may say what no record should.
fn findings(answer: &Answer) -> Vec<String> {
    let errors = answer.decision.errors.iter();
    let codes = errors.map(|error| error.split(':').next().unwrap_or_default().to_owned());
    let unknown = answer
        .depends
        .iter()
        .map(|_| "PDP-FACTS-UNKNOWN".to_owned());
    let links = answer.decision.findings.iter();
    let links = links.map(|finding| finding.code.to_string());
    codes.chain(unknown).chain(links).collect()
}
