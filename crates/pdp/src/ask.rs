//! The questions about a whole estate, for programs: `why`, `who-can`, `what-can`, `blast-radius`, `lint` and
//! `diff`, without HTTP. What their bodies say, and how answers are put.
//!
//! An estate alone does not answer questions to records: those are in `records`.

mod listed;
mod openapi;
mod serve;

pub use openapi::{openapi, yaml};
pub(crate) use serve::{LINES, routes, wants_lines};

use crate::decider::Version;
use crate::names::shown;
use crate::question::{Known, Refused};
use estate::{
    Accesses, Action, Cursor, CursorError, Estate, EstateFiles, Explanation, Request, ResourceRef,
    Taken,
};
use facts::{FactSet, Finding};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use spiffe_core::TrustDomain;
use std::collections::BTreeMap;

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Why,
    WhoCan,
    WhatCan,
    BlastRadius,
    Lint,
    Diff,
}

impl Kind {
    pub const ALL: [Self; 6] = [
        Self::Why,
        Self::WhoCan,
        Self::WhatCan,
        Self::BlastRadius,
        Self::Lint,
        Self::Diff,
    ];

    /// As the command line has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Why => "why",
            Self::WhoCan => "who-can",
            Self::WhatCan => "what-can",
            Self::BlastRadius => "blast-radius",
            Self::Lint => "lint",
            Self::Diff => "diff",
        }
    }

    /// Where it is asked.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::Why => "/ask/v1/why",
            Self::WhoCan => "/ask/v1/who-can",
            Self::WhatCan => "/ask/v1/what-can",
            Self::BlastRadius => "/ask/v1/blast-radius",
            Self::Lint => "/ask/v1/lint",
            Self::Diff => "/ask/v1/diff",
        }
    }
}

/// May this identity do this to that, and why?
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WhyBody {
    /// Path of an identity, or its SPIFFE ID.
    pub principal: String,
    /// `select`
    pub action: String,
    /// `shop/public/cards`, or `Tool::"files/read"`.
    pub resource: String,
    /// `facts`: what is known of the session, for callers that may state facts.
    #[serde(default)]
    pub context: Option<Map<String, Value>>,
}

/// Which identities can do this to that?
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WhoCanBody {
    /// `select`
    pub action: String,
    /// `shop/public/cards`, or `Tool::"files/read"`.
    pub resource: String,
    /// Accesses of one answer; at most, and by default, `max_page` of pdp.toml. A stream has all by default.
    #[serde(default)]
    pub limit: Option<u64>,
    /// `next` of an answer to the same question.
    #[serde(default)]
    pub after: Option<String>,
}

/// What can this identity do?
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WhatCanBody {
    /// Path of an identity, or its SPIFFE ID.
    pub principal: String,
    /// Accesses of one answer; at most, and by default, `max_page` of pdp.toml. A stream has all by default.
    #[serde(default)]
    pub limit: Option<u64>,
    /// `next` of an answer to the same question.
    #[serde(default)]
    pub after: Option<String>,
}

/// What could whoever has taken this become, and what does that reach?
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BlastRadiusBody {
    pub taken: TakenBody,
    /// Lines of one answer; at most, and by default, `max_page` of pdp.toml. A stream has all by default.
    #[serde(default)]
    pub limit: Option<u64>,
    /// `next` of an answer to the same question.
    #[serde(default)]
    pub after: Option<String>,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum TakenBody {
    Machine {
        name: String,
        /// Of a machine that no file declares.
        #[serde(default)]
        pool: Option<String>,
    },
    Code {
        /// Hex.
        sha256: String,
    },
    Signer {
        name: String,
    },
    Identity {
        path: String,
    },
    Gateway {
        path: String,
    },
    Administrator {
        /// `uid:0`, `person:people/ada`.
        who: String,
    },
    Root {
        /// Of TPMs or of confidential machines, as the estate or `machine.tee.root` names it.
        name: String,
    },
    Server,
}

impl From<TakenBody> for Taken {
    fn from(taken: TakenBody) -> Self {
        match taken {
            TakenBody::Machine { name, pool } => Self::Machine { name, pool },
            TakenBody::Code { sha256 } => Self::Code(sha256.to_ascii_lowercase()),
            TakenBody::Signer { name } => Self::Signer(name),
            TakenBody::Identity { path } => Self::Identity(path),
            TakenBody::Gateway { path } => Self::Gateway(path),
            TakenBody::Administrator { who } => Self::Administrator(who),
            TakenBody::Root { name } => Self::Root(name),
            TakenBody::Server => Self::Server,
        }
    }
}

/// What is wrong with the estate in force?
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LintBody {
    /// Lines of one answer; at most, and by default, `max_page` of pdp.toml. A stream has all by default.
    #[serde(default)]
    pub limit: Option<u64>,
    /// `next` of an answer to the same question.
    #[serde(default)]
    pub after: Option<String>,
}

/// What would this estate change? Nothing is applied, and nothing proved.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DiffBody {
    /// The proposed estate: text by path, `policies/payments.cedar`.
    pub files: BTreeMap<String, String>,
    /// Lines of one answer; at most, and by default, `max_page` of pdp.toml. A stream has all by default.
    #[serde(default)]
    pub limit: Option<u64>,
    /// `next` of an answer to the same question.
    #[serde(default)]
    pub after: Option<String>,
}

/// # Errors
/// `QUESTION-REQUEST`.
pub fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refused> {
    let malformed = |error: String| {
        Refused::malformed(
            Finding::new(
                "QUESTION-REQUEST",
                format!("the question cannot be read: {error}"),
            )
            .next("docs/reference/questions.openapi.yaml has the shape of each question"),
        )
    };
    let value: Value =
        serde_json::from_slice(body).map_err(|error| malformed(error.to_string()))?;
    // A struct would be read from an array as well.
    if !value.is_object() {
        return Err(malformed("it is no JSON object".to_owned()));
    }
    serde_json::from_value(value).map_err(|error| malformed(error.to_string()))
}

/// The identity that is asked about: templates as they are declared as well.
///
/// # Errors
/// As [`crate::subject`], and `QUESTION-IDENTITY`.
pub fn principal(estate: &Estate, domain: &TrustDomain, text: &str) -> Result<String, Refused> {
    let declared = estate.identity(text);
    if declared.is_some_and(|identity| identity.path == text) {
        return Ok(text.to_owned());
    }
    let path = crate::subject(domain, crate::names::IDENTITY, text)?;
    if estate.identity(&path).is_some() {
        return Ok(path);
    }
    let known = estate.identities().map(|identity| identity.path.as_str());
    let finding = Finding::new("QUESTION-IDENTITY", "no identity of that path is declared")
        .observed(shown(&path));
    Err(Refused::unknown(match estate::closest(&path, known) {
        Some(near) => finding.next(format!("did you mean {near}?")),
        None => finding.next("name it as the estate does"),
    }))
}

/// # Errors
/// `QUESTION-ACTION`.
pub fn action(estate: &Estate, text: &str) -> Result<Action, Refused> {
    let known = text.parse().ok();
    known
        .filter(|action| estate.uses().any(|one| one == *action))
        .ok_or_else(|| {
            let uses: Vec<String> = estate.uses().map(|action| action.to_string()).collect();
            Refused::unknown(
                Finding::new(
                    "QUESTION-ACTION",
                    "this is not an action by which an identity uses a resource",
                )
                .expected(uses.join(", "))
                .observed(shown(text))
                .next("ask by one of these actions"),
            )
        })
}

/// # Errors
/// `QUESTION-RESOURCE`.
pub fn resource(text: &str) -> Result<ResourceRef, Refused> {
    let unknown = || {
        Refused::malformed(
            Finding::new("QUESTION-RESOURCE", "this names no resource")
                .observed(shown(text))
                .next("name it as the estate does: DATABASE/SCHEMA/TABLE, or Kind::\"name\""),
        )
    };
    if text.len() > crate::names::LONGEST || !crate::names::is_plain(text) {
        return Err(unknown());
    }
    text.parse().map_err(|_| unknown())
}

/// # Errors
/// `QUESTION-CURSOR`, `QUESTION-ESTATE-CHANGED`.
pub fn after<'a>(accesses: Accesses<'a>, cursor: Option<&str>) -> Result<Accesses<'a>, Refused> {
    match read_cursor(cursor)? {
        None => Ok(accesses),
        Some(cursor) => accesses.after(&cursor).map_err(cannot_go_on),
    }
}

fn read_cursor(cursor: Option<&str>) -> Result<Option<Cursor>, Refused> {
    let cursor = cursor.map(str::parse).transpose();
    cursor.map_err(cannot_go_on)
}

fn cannot_go_on(error: CursorError) -> Refused {
    let (status, code) = match error {
        CursorError::Malformed | CursorError::Question => (400, "QUESTION-CURSOR"),
        CursorError::Estate => (409, "QUESTION-ESTATE-CHANGED"),
    };
    let finding = Finding::new(code, error.to_string());
    Refused {
        status,
        finding: finding.next("ask again from the beginning, without `after`"),
    }
}

/// Which version answers: all of what an answer says stands there in it.
#[must_use]
pub fn version(version: &Version) -> Value {
    json!({"version": version.estate().version(), "index": version.index()})
}

/// The decision by what is known, with its reasons.
///
/// INVARIANT 3: what is not known denies; then `depends` says what it would have to be.
#[must_use]
pub fn why(
    version: &Version,
    known: &Known,
    principal: &str,
    action: Action,
    resource: &ResourceRef,
) -> Value {
    let estate = version.estate();
    let nothing = FactSet::new();
    let facts = match known {
        Known::Nothing => &nothing,
        Known::Stated(facts) | Known::Issued { facts, .. } => facts,
    };
    let answer = version.judge(known).decide(principal, action, resource);
    let mut explanation = estate.why(&Request {
        principal,
        action,
        resource: resource.clone(),
        facts,
    });
    if explanation.decision.allow != answer.decision.allow
        || explanation.decision.policies != answer.decision.policies
    {
        explanation.texts = answer
            .decision
            .policies
            .iter()
            .filter_map(|policy| estate.text_of(&policy.id))
            .collect();
        explanation.decision = answer.decision;
    }
    let Explanation {
        decision,
        classification,
        texts,
        further,
        ..
    } = explanation;
    json!({
        "estate": self::version(version),
        "principal": principal,
        "action": action,
        "resource": resource,
        "allow": decision.allow,
        "facts": known.as_str(),
        "classification": classification,
        "undeclared": estate.undeclared(resource),
        "policies": decision.policies,
        "texts": texts,
        "errors": decision.errors,
        "of_table": decision.of_table,
        "near": decision.near,
        "further": further,
        "depends": answer.depends,
    })
}

/// # Errors
/// `QUESTION-ESTATE`: it does not compile.
pub(crate) fn proposed(files: &EstateFiles) -> Result<Estate, Refused> {
    Estate::compile(files).map_err(|problems| {
        let first = problems.first().map(ToString::to_string);
        Refused {
            status: 422,
            finding: Finding::new(
                "QUESTION-ESTATE",
                format!("the proposed estate has {} problems", problems.len()),
            )
            .observed(first.unwrap_or_default())
            .next("correct it; `trilith estate plan` lists all of them"),
        }
    })
}
