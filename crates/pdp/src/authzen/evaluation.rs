//! Evaluation and evaluations: from bytes to what is asked, one question at a time.

use crate::question::{Known, OnBehalfOf, Question, Refused};
use estate::Chain;
use facts::{FactSet, Finding, Source, Timestamp, Value as FactValue};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use spiffe_core::TrustDomain;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

/// Facts that one question may state, and bytes of them: they are recorded with its answer.
const MOST_FACTS: usize = 64;
const MOST_FACT_BYTES: usize = 2048;
/// What a record can hold as a number.
const LARGEST: i64 = 1 << 53;
/// Certificates of a chain.
const MOST_CERTIFICATES: usize = 4;

/// A subject as it was asked about.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Subject {
    #[serde(rename = "type")]
    pub kind: String,
    pub id: String,
    #[serde(default)]
    properties: Option<Object<SubjectProperties>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct SubjectProperties {
    /// The subject's X.509-SVID: base64 of DER, leaf first, as RFC 7515 has it under this name.
    #[serde(default)]
    x5c: Option<Vec<String>>,
    /// On whose behalf the subject would act, who began it first: identities by path or SPIFFE ID.
    #[serde(default)]
    on_behalf_of: Option<Vec<String>>,
    /// A delegation token of the subject's, which proves on whose behalf it acts. It counts with `x5c`.
    #[serde(default)]
    delegation: Option<String>,
}

/// A resource as it was asked about.
#[derive(Debug, Clone, Deserialize)]
pub struct Resource {
    #[serde(rename = "type")]
    pub kind: String,
    pub id: String,
    #[serde(default, rename = "properties")]
    _properties: Option<BTreeMap<String, IgnoredAny>>,
}

/// An action as it was asked about.
#[derive(Debug, Clone, Deserialize)]
pub struct ActionName {
    pub name: String,
    #[serde(default, rename = "properties")]
    _properties: Option<BTreeMap<String, IgnoredAny>>,
}

/// One question.
#[derive(Debug, Clone)]
pub struct Evaluation {
    pub subject: Subject,
    pub action: ActionName,
    pub resource: Resource,
    pub context: Option<Map<String, Value>>,
}

impl Evaluation {
    /// The question in the estate's words. `shown` is what the subject's SVID came to, if it was shown.
    ///
    /// # Errors
    /// The codes of [`crate::subject`], [`crate::action`] and [`crate::resource`], of [`stated`], and of
    /// `shown`.
    pub fn question(
        &self,
        trust_domain: &TrustDomain,
        shown: Option<Result<Known, Finding>>,
        may_state: bool,
        now: Timestamp,
    ) -> Result<Question, Refused> {
        let subject = crate::subject(trust_domain, &self.subject.kind, &self.subject.id)?;
        let facts = match shown {
            Some(Err(finding)) => return Err(Refused::forbidden(finding)),
            Some(Ok(known)) => {
                // Both would leave open which of them decided.
                if stated(self.context.as_ref(), true, now)?.is_some() {
                    return Err(Refused::malformed(Finding::new(
                        "PDP-FACTS-TWICE",
                        "the subject's SVID was shown, so context.facts may not state facts",
                    )));
                }
                known
            }
            None => {
                stated(self.context.as_ref(), may_state, now)?.map_or(Known::Nothing, Known::Stated)
            }
        };
        Ok(Question {
            on_behalf_of: self
                .subject
                .acting(trust_domain, &subject)?
                .map(OnBehalfOf::Claimed),
            subject,
            action: crate::action(&self.action.name)?,
            resource: crate::resource(&self.resource.kind, &self.resource.id)?,
            facts,
        })
    }
}

impl Subject {
    /// Whether it would act for others.
    #[must_use]
    pub fn acts_for_others(&self) -> bool {
        let said = self.properties.as_ref();
        said.is_some_and(|said| said.0.on_behalf_of.is_some() || said.0.delegation.is_some())
    }

    /// The delegation token that was presented with it.
    #[must_use]
    pub fn delegation(&self) -> Option<&str> {
        let said = self.properties.as_ref();
        said.and_then(|said| said.0.delegation.as_deref())
    }

    /// The chain of those on whose behalf the subject `path` would act.
    fn acting(&self, trust_domain: &TrustDomain, path: &str) -> Result<Option<Chain>, Refused> {
        let said = self.properties.as_ref();
        let Some(others) = said.and_then(|said| said.0.on_behalf_of.as_ref()) else {
            return Ok(None);
        };
        let others: Vec<&str> = others.iter().map(String::as_str).collect();
        crate::names::chain(trust_domain, &others, path).map(Some)
    }

    /// The SVID that was shown, DER, leaf first.
    ///
    /// # Errors
    /// `PDP-X5C`.
    pub fn chain(&self) -> Result<Option<Vec<Vec<u8>>>, Refused> {
        let said = self.properties.as_ref();
        let Some(texts) = said.and_then(|said| said.0.x5c.as_ref()) else {
            return Ok(None);
        };
        let wrong = |what: &str| {
            Refused::malformed(
                Finding::new("PDP-X5C", format!("subject.properties.x5c {what}"))
                    .expected("base64 of DER, leaf first, without the root"),
            )
        };
        if texts.is_empty() || texts.len() > MOST_CERTIFICATES {
            return Err(wrong("has 1 to 4 certificates"));
        }
        let decoded: Result<_, _> = texts
            .iter()
            .map(|text| crypto::base64::decode(text).map_err(|_| wrong("is no base64")))
            .collect();
        decoded.map(Some)
    }
}

/// The facts that `context.facts` states: names as [`facts::names`] has them, and their values.
///
/// # Errors
/// `PDP-FACTS`, and `PDP-FACTS-RIGHT` for whoever may not state any.
pub fn stated(
    context: Option<&Map<String, Value>>,
    may_state: bool,
    now: Timestamp,
) -> Result<Option<FactSet>, Refused> {
    let Some(said) = context.and_then(|context| context.get("facts")) else {
        return Ok(None);
    };
    if !may_state {
        return Err(Refused::forbidden(
            Finding::new("PDP-FACTS-RIGHT", "whoever asks may not state facts")
                .next("show the subject's SVID as subject.properties.x5c, or give the caller `state-facts` in pdp.toml"),
        ));
    }
    let wrong = |what: String| {
        Refused::malformed(
            Finding::new("PDP-FACTS", format!("context.facts: {what}"))
                .expected("an object such as {\"machine.join\": \"tpm\"}"),
        )
    };
    if said.to_string().len() > MOST_FACT_BYTES {
        return Err(wrong(format!("at most {MOST_FACT_BYTES} bytes")));
    }
    let said: BTreeMap<String, FactValue> =
        serde_json::from_value(said.clone()).map_err(|error| wrong(error.to_string()))?;
    if said.len() > MOST_FACTS {
        return Err(wrong(format!("at most {MOST_FACTS} facts")));
    }
    let mut facts = FactSet::new();
    for (name, value) in said {
        if !recordable(&value) || !crate::names::is_plain(&name) {
            return Err(wrong("a value that no record can hold".to_owned()));
        }
        facts.state(&name, value, Source::Asserted, now);
    }
    Ok(Some(facts))
}

fn recordable(value: &FactValue) -> bool {
    match value {
        FactValue::Bool(_) => true,
        FactValue::Integer(value) => (-LARGEST..=LARGEST).contains(value),
        FactValue::Text(text) => crate::names::is_plain(text),
        FactValue::List(texts) => texts.iter().all(|text| crate::names::is_plain(text)),
    }
}

/// Which of several questions are answered. Section "Evaluations semantics".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Semantic {
    #[default]
    ExecuteAll,
    /// Up to the first denial.
    DenyOnFirstDeny,
    /// Up to the first permit.
    PermitOnFirstPermit,
}

impl Semantic {
    /// Whether no further question is answered after one that came to `decision`.
    #[must_use]
    pub const fn ends_at(self, decision: bool) -> bool {
        match self {
            Self::ExecuteAll => false,
            Self::DenyOnFirstDeny => !decision,
            Self::PermitOnFirstPermit => decision,
        }
    }
}

/// What one request asks.
#[derive(Debug, Clone)]
pub enum Batch {
    /// No `evaluations`, or none in it: one question, one decision.
    One(Box<Evaluation>),
    Many {
        semantic: Semantic,
        /// A question that cannot be read is denied in its place.
        questions: Vec<Result<Evaluation, Refused>>,
    },
}

/// The whole of a request body, or the defaults of several.
#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    subject: Option<Object<Subject>>,
    #[serde(default)]
    action: Option<Object<ActionName>>,
    #[serde(default)]
    resource: Option<Object<Resource>>,
    #[serde(default)]
    context: Option<Map<String, Value>>,
    #[serde(default)]
    evaluations: Option<Vec<Object<Item>>>,
    #[serde(default)]
    options: Option<Object<Options>>,
}

#[derive(Deserialize)]
struct Options {
    #[serde(default)]
    evaluations_semantic: Option<Semantic>,
}

/// One of several. Its members are read one by one, so that a mistake is that question's alone.
#[derive(Deserialize)]
struct Item {
    #[serde(default)]
    subject: Option<Value>,
    #[serde(default)]
    action: Option<Value>,
    #[serde(default)]
    resource: Option<Value>,
    #[serde(default)]
    context: Option<Value>,
}

/// # Errors
/// `PDP-REQUEST`.
pub fn parse_evaluation(body: &[u8]) -> Result<Evaluation, Refused> {
    read::<Body>(body)?.one()
}

/// At most `most` questions.
///
/// # Errors
/// `PDP-REQUEST`, `PDP-EVALUATIONS`.
pub fn parse_evaluations(body: &[u8], most: usize) -> Result<Batch, Refused> {
    let mut body: Body = read(body)?;
    let items = body.evaluations.take().unwrap_or_default();
    if items.is_empty() {
        return Ok(Batch::One(Box::new(body.one()?)));
    }
    if items.len() > most {
        return Err(Refused::malformed(
            Finding::new("PDP-EVALUATIONS", "too many evaluations in one request")
                .expected(format!("at most {most}"))
                .observed(items.len().to_string())
                .next("send them in several requests"),
        ));
    }
    let options = body.options.as_ref();
    let semantic = options.and_then(|options| options.0.evaluations_semantic);
    Ok(Batch::Many {
        semantic: semantic.unwrap_or_default(),
        questions: items.into_iter().map(|item| body.with(item.0)).collect(),
    })
}

impl Body {
    fn one(self) -> Result<Evaluation, Refused> {
        Ok(Evaluation {
            subject: self.subject.ok_or_else(|| missing("subject"))?.0,
            action: self.action.ok_or_else(|| missing("action"))?.0,
            resource: self.resource.ok_or_else(|| missing("resource"))?.0,
            context: self.context,
        })
    }

    /// Section "Default values": a member of `item` takes the place of the whole default.
    fn with(&self, item: Item) -> Result<Evaluation, Refused> {
        let context = match item.context {
            None => self.context.clone(),
            Some(own) => {
                Some(serde_json::from_value(own).map_err(|error| wrong("context", &error))?)
            }
        };
        Ok(Evaluation {
            subject: own_or(item.subject, self.subject.as_ref(), "subject")?,
            action: own_or(item.action, self.action.as_ref(), "action")?,
            resource: own_or(item.resource, self.resource.as_ref(), "resource")?,
            context,
        })
    }
}

fn own_or<T: DeserializeOwned + Clone>(
    own: Option<Value>,
    default: Option<&Object<T>>,
    name: &str,
) -> Result<T, Refused> {
    match own {
        None => Ok(default.ok_or_else(|| missing(name))?.0.clone()),
        Some(own) => member(own, name),
    }
}

/// What stands under `name`, which is an object.
pub(super) fn member<T: DeserializeOwned>(value: Value, name: &str) -> Result<T, Refused> {
    let read: Result<Object<T>, _> = serde_json::from_value(value);
    read.map(|read| read.0).map_err(|error| wrong(name, &error))
}

fn wrong(name: &str, error: &serde_json::Error) -> Refused {
    malformed(format!("{name}: {error}"))
}

pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refused> {
    let read: Result<Object<T>, _> = serde_json::from_slice(body);
    read.map(|read| read.0)
        .map_err(|error| malformed(error.to_string()))
}

/// A JSON object and nothing else: a struct would be read from an array as well.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(members))
            }
        }

        let members = deserializer.deserialize_map(Members(PhantomData));
        members.map(Self)
    }
}

pub(super) fn missing(name: &str) -> Refused {
    malformed(format!("missing field `{name}`"))
}

fn malformed(what: String) -> Refused {
    Refused::malformed(
        Finding::new("PDP-REQUEST", what)
            .expected("a JSON object as AuthZEN Authorization API 1.0 has it"),
    )
}
