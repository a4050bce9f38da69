//! On whose behalf a session acts, and who says so. What such a chain may do is for the estate to say.

use crate::follow::Current;
use crate::{Delegated, DelegatedLink, Following, Principal};
use estate::{Chain, ChainFacts, MOST_PRINCIPALS};
use facts::{Finding, Timestamp};
use ledger::body::OnBehalfOf;
use schemars::JsonSchema;
use serde::Deserialize;
use spiffe_core::{SpiffeId, TrustDomain};

/// Bytes of all SPIFFE IDs for whom a session acts: they stand in each of its records.
const LONGEST: usize = 1024;

/// What shows on whose behalf somebody acts, at gateways and at decision points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Delegation {
    /// A delegation token, and nothing else.
    #[default]
    Proven,
    /// A token, or the word of whoever connects or asks.
    Claimed,
}

/// The chain of those on whose behalf a session acts, which ends with the session's own identity.
///
/// INVARIANT: a session has one from its beginning to its end, so what is decided within a session is decided for
/// its chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// Whoever makes the request says so. It can only narrow, so nobody has to prove it.
    Claimed(Chain),
    /// A delegation token shows that each principal agreed.
    Proven(Box<Delegated>),
}

/// What records of a session say of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Behalf {
    pub(crate) claimed: Vec<String>,
    pub(crate) proven: Vec<OnBehalfOf>,
}

impl Told {
    /// `text` names those for whom `principal` acts: paths or SPIFFE IDs with commas between them, who began it
    /// first. It counts where the `delegation` that is asked for is a claim.
    ///
    /// # Errors
    /// `DELEGATION-CLAIMED`, `DELEGATION-CLAIM`, `DELEGATION-CHAIN`.
    pub fn claimed(
        principal: &Principal,
        text: &str,
        delegation: Delegation,
    ) -> Result<Self, Finding> {
        // INVARIANT: nothing is recorded as done for somebody, where that has to be proven, that was only told.
        if delegation == Delegation::Proven {
            return Err(Finding::new(
                "DELEGATION-CLAIMED",
                "it is only told on whose behalf the session acts, and here it has to be proven",
            )
            .expected("a delegation token, as trilith.delegation")
            .next("present one; or set delegation = \"claimed\" in gateway.toml, if its word is enough"));
        }
        let domain = &principal.spiffe_id.trust_domain();
        // An identity's path is shorter than its SPIFFE ID: what is longer cannot be recorded.
        if text.len() > LONGEST {
            return Err(malformed("it is too long for a record")
                .expected(format!("at most {LONGEST} bytes"))
                .observed(format!("{} bytes", text.len())));
        }
        let others: Vec<&str> = text.split(',').map(str::trim).collect();
        if others.len() >= MOST_PRINCIPALS {
            return Err(malformed("it names too many")
                .expected(format!("at most {} identities", MOST_PRINCIPALS - 1))
                .observed(others.len().to_string()));
        }
        let paths: Vec<String> = others
            .into_iter()
            .map(|other| path(domain, other))
            .collect::<Result<_, _>>()?;
        let whole = paths.iter().map(String::as_str);
        let chain = Chain::through(whole.chain([principal.path.as_str()]))?;
        recordable(domain, &chain)?;
        Ok(Self::Claimed(chain))
    }

    /// What `token` proves, which `principal` presents.
    ///
    /// # Errors
    /// As [`Following::delegated`], and `DELEGATION-CLAIM`.
    pub async fn proven(
        following: &Following,
        principal: &Principal,
        token: &str,
        now: Timestamp,
    ) -> Result<Self, Finding> {
        let delegated = following
            .delegated(token, &principal.spiffe_id, now)
            .await?;
        recordable(&principal.spiffe_id.trust_domain(), &delegated.chain)?;
        Ok(Self::Proven(Box::new(delegated)))
    }

    #[must_use]
    pub const fn chain(&self) -> &Chain {
        match self {
            Self::Claimed(chain) => chain,
            Self::Proven(delegated) => &delegated.chain,
        }
    }

    /// Whether it still holds: what was proven may have ended or been revoked since.
    ///
    /// # Errors
    /// As [`Following::still_delegated`], and of [`Following::none_revoked`].
    pub fn holds(&self, following: &Following, now: Timestamp) -> Result<(), Finding> {
        match self {
            Self::Claimed(chain) => following.none_revoked(chain),
            Self::Proven(delegated) => following.still_delegated(delegated, now),
        }
    }

    /// When it ends by itself.
    #[must_use]
    pub const fn until(&self) -> Option<Timestamp> {
        match self {
            Self::Claimed(_) => None,
            Self::Proven(delegated) => Some(delegated.expires_at),
        }
    }

    /// By whose facts each of the chain is decided, where `session` are those of who makes the request.
    #[must_use]
    pub fn facts(&self, current: &Current, session: ChainFacts) -> ChainFacts {
        match self {
            Self::Claimed(_) => session,
            Self::Proven(delegated) => delegated.facts(current, session),
        }
    }

    /// Whether it is a claim, and `hit` holds of somebody for whom it says that it acts.
    pub(crate) fn claims(&self, hit: impl Fn(&str) -> bool) -> bool {
        matches!(self, Self::Claimed(_)) && self.others().iter().any(|path| hit(path))
    }

    /// The links that it rests on: none where nothing is proven.
    pub(crate) fn links(&self) -> &[DelegatedLink] {
        match self {
            Self::Claimed(_) => &[],
            Self::Proven(delegated) => &delegated.links,
        }
    }

    /// Those for whom it acts, by path, who began it first.
    #[must_use]
    pub fn others(&self) -> &[String] {
        self.chain()
            .principals()
            .split_last()
            .map_or(&[], |(_, others)| others)
    }

    pub(crate) fn behalf(&self, domain: &TrustDomain) -> Behalf {
        match self {
            Self::Claimed(_) => {
                let others = self.others().iter().map(|path| named(domain, path));
                Behalf {
                    claimed: others.collect(),
                    ..Behalf::default()
                }
            }
            Self::Proven(delegated) => Behalf {
                proven: delegated.on_behalf_of(),
                ..Behalf::default()
            },
        }
    }
}

impl Behalf {
    /// Of a session's beginning.
    pub(crate) fn of(told: Option<&Told>, principal: &Principal) -> Self {
        told.map_or_else(Self::default, |told| {
            told.behalf(&principal.spiffe_id.trust_domain())
        })
    }
}

/// A chain whose records would not fit is none.
///
/// # Errors
/// `DELEGATION-CLAIM`.
fn recordable(domain: &TrustDomain, chain: &Chain) -> Result<(), Finding> {
    let ids = chain.principals().iter().map(|path| named(domain, path));
    let length: usize = ids.map(|id| id.len()).sum();
    if length <= LONGEST {
        return Ok(());
    }
    Err(malformed("it is too long for a record")
        .expected(format!("SPIFFE IDs of at most {LONGEST} bytes in all"))
        .observed(format!("{length} bytes")))
}

fn named(domain: &TrustDomain, path: &str) -> String {
    format!("spiffe://{domain}/{path}")
}

fn path(domain: &TrustDomain, text: &str) -> Result<String, Finding> {
    let wrong = |what: String| malformed(&what).observed(plain(text));
    if text.starts_with("spiffe:") {
        let id: SpiffeId = text
            .parse()
            .map_err(|error| wrong(format!("it names no identity: {error}")))?;
        if !id.is_member_of(domain) || id.is_root() {
            return Err(wrong(
                "it names somebody of another trust domain".to_owned(),
            ));
        }
        return Ok(id.identity_path().to_owned());
    }
    domain
        .identity(text)
        .map_err(|error| wrong(format!("it names no identity: {error}")))?;
    Ok(text.to_owned())
}

fn malformed(what: &str) -> Finding {
    Finding::new(
        "DELEGATION-CLAIM",
        format!("what was said of whom it acts for cannot be read: {what}"),
    )
    .next("name identities, who began it first, with commas between them: people/ada,agents/helper")
}

/// A stranger's text, short and without control characters.
fn plain(text: &str) -> String {
    text.chars()
        .filter(|letter| !letter.is_control())
        .take(64)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn helper() -> Principal {
        let spiffe_id: SpiffeId = "spiffe://example.org/agents/helper".parse().unwrap();
        Principal {
            path: "agents/helper".to_owned(),
            spiffe_id,
            serial: "01".to_owned(),
            not_after: Timestamp::from_millis(0),
            node: "node-1".to_owned(),
            facts: facts::FactSet::new(),
            issuance: 1,
        }
    }

    fn claimed(text: &str) -> Result<Told, Finding> {
        Told::claimed(&helper(), text, Delegation::Claimed)
    }

    #[test]
    fn a_word_does_not_count_where_a_proof_is_asked_for() {
        let refused = Told::claimed(&helper(), "people/ada", Delegation::default());
        assert_eq!(refused.unwrap_err().code, "DELEGATION-CLAIMED");
    }

    #[test]
    fn a_chain_ends_with_whoever_makes_the_request() {
        let told = claimed("people/ada, spiffe://example.org/agents/front").unwrap();
        assert_eq!(
            told.chain().principals(),
            ["people/ada", "agents/front", "agents/helper"]
        );
        assert_eq!(told.others(), ["people/ada", "agents/front"]);
        let behalf = told.behalf(&helper().spiffe_id.trust_domain());
        assert_eq!(
            behalf.claimed,
            [
                "spiffe://example.org/people/ada",
                "spiffe://example.org/agents/front"
            ]
        );
        assert!(behalf.proven.is_empty());
    }

    #[test]
    fn what_is_no_chain_is_refused_by_its_code() {
        let long = format!("people/{}", "a".repeat(1_100));
        let many = ["people/a"; 8].join(",");
        let wrong = [
            ("", "DELEGATION-CLAIM"),
            (",", "DELEGATION-CLAIM"),
            ("people/ada,", "DELEGATION-CLAIM"),
            ("people//ada", "DELEGATION-CLAIM"),
            ("../people/ada", "DELEGATION-CLAIM"),
            ("spiffe://other.org/people/ada", "DELEGATION-CLAIM"),
            ("spiffe://example.org", "DELEGATION-CLAIM"),
            ("people/\u{1b}[2J", "DELEGATION-CLAIM"),
            (long.as_str(), "DELEGATION-CLAIM"),
            (many.as_str(), "DELEGATION-CLAIM"),
            ("people/ada,people/ada", "DELEGATION-CHAIN"),
            ("agents/helper", "DELEGATION-CHAIN"),
        ];
        for (text, code) in wrong {
            let refused = claimed(text).unwrap_err();
            assert_eq!(refused.code, code, "{text}: {refused}");
        }
    }

    #[test]
    fn a_chain_that_no_record_holds_is_refused_whole() {
        // Short in the text, long as SPIFFE IDs.
        let label = "d".repeat(60);
        let domain = format!("{label}.{label}.{label}.example");
        let mut helper = helper();
        helper.spiffe_id = format!("spiffe://{domain}/agents/helper").parse().unwrap();
        let refused =
            Told::claimed(&helper, "p/a,p/b,p/c,p/d,p/e,p/f", Delegation::Claimed).unwrap_err();
        assert_eq!(refused.code, "DELEGATION-CLAIM");
    }
}
