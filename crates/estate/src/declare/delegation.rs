//! `delegations/*`: who may act for whom; and how people log in.

use crate::action::Action;
use crate::duration::Seconds;
use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

/// `delegations/*`
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DelegationsFile {
    #[serde(default, rename = "delegation")]
    pub(crate) delegations: Vec<DelegationEntry>,
}

/// `to` may act for `from`: only what both may do themselves, and of that only what stands here.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DelegationEntry {
    /// A name of its own, which answers and records give.
    #[schemars(with = "String")]
    pub(crate) id: Spanned<String>,
    /// Who delegates: `Identity::"people/ada"`, or `Group::"staff"`.
    #[schemars(with = "String")]
    pub(crate) from: Spanned<String>,
    /// Who acts: `Identity::"agents/assistant"`, or `Group::"assistants"`.
    #[schemars(with = "String")]
    pub(crate) to: Spanned<String>,
    /// Only these actions. Absent: all that both may do.
    #[schemars(with = "Option<Vec<Action>>")]
    pub(crate) actions: Option<Vec<Spanned<Action>>>,
    /// Only these resources and what lies in them: a path of a table, or `Kind::"name"`. Absent: all.
    #[schemars(with = "Option<Vec<String>>")]
    pub(crate) resources: Option<Vec<Spanned<String>>>,
    /// How often what is delegated here may be delegated in all, this time included, 1 to 7. Default 1: `to` does
    /// not delegate on.
    #[schemars(with = "Option<u32>")]
    pub(crate) max_hops: Option<Spanned<u32>>,
    /// How long one delegation may last, at most 24 h. Default 15 min.
    #[schemars(with = "Option<Seconds>")]
    pub(crate) max_ttl: Option<Spanned<Seconds>>,
}

/// How a person is known to an `OpenID` provider.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LoginEntry {
    /// As its tokens name it: `https://login.example.org`.
    #[schemars(with = "String")]
    pub(crate) issuer: Spanned<String>,
    /// What it calls the person in `sub`.
    #[schemars(with = "String")]
    pub(crate) subject: Spanned<String>,
}
