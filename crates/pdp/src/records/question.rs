//! What bodies say, read into what `record-index` is asked.

use super::Kind;
use crate::ask::read;
use crate::names::{IDENTITY, shown};
use crate::question::Refused;
use estate::{Action, EstateFiles};
use facts::{Finding, Timestamp};
use record_index::{About, Asked, Filter, TimeRange};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use spiffe_core::TrustDomain;
use std::collections::BTreeMap;

/// What `unused` and `replay` look at where nothing is said: 30 days.
const WINDOW: u64 = 30 * 86_400_000;

/// Which records are about all of this? Nothing said: every record.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SearchBody {
    /// A ledger by name, or `*`, which is the default.
    pub ledger: Option<String>,
    /// Path of an identity, its SPIFFE ID, or another actor such as `uid:0`.
    pub identity: Option<String>,
    /// On whose behalf it was done, proven or told: as `identity`.
    pub on_behalf_of: Option<String>,
    pub machine: Option<String>,
    /// Digest of code, hex.
    pub code: Option<String>,
    /// As records name it, its path, or `shop/public/*`.
    pub resource: Option<String>,
    pub action: Option<String>,
    /// `allow` or `deny`.
    pub decision: Option<String>,
    /// `intent`, `decision`, …: one of them.
    pub types: Vec<String>,
    /// SHA-256 of the estate that was in force, hex.
    pub estate: Option<String>,
    /// Id of a policy.
    pub policy: Option<String>,
    /// Unix milliseconds: from then on.
    pub since: Option<u64>,
    /// Unix milliseconds: before then.
    pub until: Option<u64>,
    /// With a tlog-proof of each record.
    pub receipts: bool,
    /// Lines of one answer; at most, and by default, `max_page` of pdp.toml. A stream has all by default.
    pub limit: Option<u64>,
    /// `next` of an answer to the same question.
    pub after: Option<String>,
}

/// What has somebody read and modified, and who touched something?
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AccessesBody {
    /// Path of an identity, or its SPIFFE ID.
    pub by: Option<String>,
    /// As records name it, its path, or `shop/public/*`.
    pub of: Option<String>,
    /// On whose behalf it was done, proven or told: as `by`.
    pub on_behalf_of: Option<String>,
    /// Unix milliseconds: from then on.
    pub since: Option<u64>,
    /// Unix milliseconds: before then.
    pub until: Option<u64>,
    /// With the tlog-proofs of each row's first and last record.
    pub receipts: bool,
    /// Lines of one answer; at most, and by default, `max_page` of pdp.toml. A stream has all by default.
    pub limit: Option<u64>,
    /// `next` of an answer to the same question.
    pub after: Option<String>,
}

/// Since when, by which change and by whom: of an access (`principal`, `action` and `resource`), of all that an
/// identity may (`principal`), of all that may be done to something (`resource`), or of a policy (`policy`).
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HistoryBody {
    /// Path of an identity, or its SPIFFE ID.
    pub principal: Option<String>,
    pub action: Option<String>,
    /// `shop/public/cards`, or `Tool::"files/read"`.
    pub resource: Option<String>,
    /// Id of a policy.
    pub policy: Option<String>,
    /// With the tlog-proof of each version's record.
    pub receipts: bool,
    /// Lines of one answer; at most, and by default, `max_page` of pdp.toml. A stream has all by default.
    pub limit: Option<u64>,
    /// `next` of an answer to the same question.
    pub after: Option<String>,
}

/// What does the estate in force grant that nobody used?
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UnusedBody {
    /// Unix milliseconds: whatever was seen from then on counts as used. 30 days ago by default.
    pub since: Option<u64>,
    /// Lines of one answer; at most, and by default, `max_page` of pdp.toml. A stream has all by default.
    pub limit: Option<u64>,
    /// `next` of an answer to the same question.
    pub after: Option<String>,
}

/// Which recorded accesses would this estate have decided otherwise?
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayBody {
    /// The proposed estate: text by path, `policies/payments.cedar`.
    pub files: BTreeMap<String, String>,
    /// Unix milliseconds: from then on. 30 days ago by default.
    #[serde(default)]
    pub since: Option<u64>,
    /// Unix milliseconds: before then.
    #[serde(default)]
    pub until: Option<u64>,
    /// Lines of one answer; at most, and by default, `max_page` of pdp.toml. A stream has all by default.
    #[serde(default)]
    pub limit: Option<u64>,
    /// `next` of an answer to the same question.
    #[serde(default)]
    pub after: Option<String>,
}

/// What is asked of the records.
#[derive(Debug)]
pub enum Question {
    Search {
        filter: Box<Filter>,
        ledger: String,
        receipts: bool,
    },
    Accesses {
        asked: Asked,
        receipts: bool,
    },
    History {
        about: About,
        receipts: bool,
    },
    Unused {
        since: u64,
    },
    Replay {
        files: EstateFiles,
        times: TimeRange,
    },
}

/// A question, how much of its answer is wanted, and from where on.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) question: Question,
    pub(crate) limit: Option<u64>,
    pub(crate) after: Option<String>,
    /// What the record says that was asked.
    pub(crate) about: String,
    /// Of everything but `limit` and `after`: a cursor counts for one question.
    pub(crate) digest: String,
}

/// # Errors
/// `QUESTION-…`, and the codes of `record-index` for what has only some values.
pub(crate) fn parse(
    kind: Kind,
    body: &[u8],
    domain: &TrustDomain,
    now: Timestamp,
) -> Result<Parsed, Refused> {
    let ago = now.as_millis().saturating_sub(WINDOW);
    let (question, limit, after) = match kind {
        Kind::Search => {
            let said: SearchBody = read(body)?;
            let filter = Filter {
                identity: said.identity,
                machine: said.machine,
                code: said.code,
                resource: said.resource,
                action: said.action,
                decision: said.decision,
                types: said.types,
                estate: said.estate,
                policy: said.policy,
                on_behalf_of: said.on_behalf_of,
                times: times(said.since, said.until),
            };
            filter.check().map_err(super::refused)?;
            let question = Question::Search {
                filter: Box::new(filter),
                ledger: said.ledger.unwrap_or_else(|| "*".to_owned()),
                receipts: said.receipts,
            };
            (question, said.limit, said.after)
        }
        Kind::Accesses => {
            let said: AccessesBody = read(body)?;
            let asked = Asked {
                by: said.by,
                of: said.of,
                on_behalf_of: said.on_behalf_of,
                times: times(said.since, said.until),
            };
            let question = Question::Accesses {
                asked,
                receipts: said.receipts,
            };
            (question, said.limit, said.after)
        }
        Kind::History => {
            let said: HistoryBody = read(body)?;
            let question = Question::History {
                about: about(&said, domain)?,
                receipts: said.receipts,
            };
            (question, said.limit, said.after)
        }
        Kind::Unused => {
            let said: UnusedBody = read(body)?;
            let since = said.since.unwrap_or(ago);
            (Question::Unused { since }, said.limit, said.after)
        }
        Kind::Replay => {
            let said: ReplayBody = read(body)?;
            let question = Question::Replay {
                files: EstateFiles(said.files),
                times: times(Some(said.since.unwrap_or(ago)), said.until),
            };
            (question, said.limit, said.after)
        }
    };
    let (about, digest) = asked(kind, body);
    Ok(Parsed {
        question,
        limit,
        after,
        about,
        digest,
    })
}

/// What the question says, and a digest of it.
fn asked(kind: Kind, body: &[u8]) -> (String, String) {
    let mut said: BTreeMap<String, Value> = serde_json::from_slice(body).unwrap_or_default();
    said.remove("limit");
    said.remove("after");
    let whole = serde_json::to_string(&said).unwrap_or_default();
    let digest = crypto::sha256(format!("{} {whole}", kind.as_str()).as_bytes());
    let digest: String = crypto::hex::encode(&digest).chars().take(16).collect();
    // An estate is no text for a record.
    said.remove("files");
    let about = serde_json::to_string(&said).unwrap_or_default();
    (about, digest)
}

fn times(since: Option<u64>, until: Option<u64>) -> TimeRange {
    TimeRange { since, until }
}

fn about(said: &HistoryBody, domain: &TrustDomain) -> Result<About, Refused> {
    let principal = said
        .principal
        .as_deref()
        .map(|text| crate::subject(domain, IDENTITY, text))
        .transpose()?;
    let resource = said
        .resource
        .as_deref()
        .map(crate::ask::resource)
        .transpose()?;
    match (principal, said.action.as_deref(), resource, &said.policy) {
        (Some(principal), Some(action), Some(resource), None) => Ok(About::Access {
            principal,
            action: used(action)?,
            resource,
        }),
        (Some(principal), None, None, None) => Ok(About::Principal(principal)),
        (None, None, Some(resource), None) => Ok(About::Resource(resource)),
        (None, None, None, Some(policy)) => Ok(About::Policy(policy.clone())),
        _ => Err(Refused::malformed(
            Finding::new(
                "QUESTION-REQUEST",
                "a history is of an access, an identity, a resource or a policy",
            )
            .expected(
                "`principal`, `action` and `resource`; or one of `principal`, `resource`, `policy`",
            )
            .next("docs/reference/questions.openapi.yaml has the shape of each question"),
        )),
    }
}

/// An action by name; whether an estate had it then, its versions say.
fn used(text: &str) -> Result<Action, Refused> {
    text.parse().map_err(|_| {
        Refused::malformed(
            Finding::new("QUESTION-ACTION", "no action has such a name")
                .expected("a name as policies have it, such as select")
                .observed(shown(text)),
        )
    })
}
