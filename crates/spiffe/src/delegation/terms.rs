//! What a token says, and what of it has to hold before it is signed and after it is read: the same rules.

use crate::{Serial, SpiffeId, TrustDomain};
use facts::{Finding, Timestamp};
use ledger::Decimal;
use ledger::body::FactValue;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A person and seven who act for it, as the estate has it for chains.
const MOST_LINKS: usize = 7;
/// Bytes of all SPIFFE IDs together: they stand in one record.
const MOST_IDS: usize = 2048;
/// Entries of one list of a scope, and bytes of the whole: they stand in the same record.
const MOST_ENTRIES: usize = 64;
const MOST_SCOPE: usize = 4096;
/// Facts of one delegator, and bytes of them: an issuance record shows no more.
const MOST_FACTS: usize = 64;
const MOST_SHOWN: usize = 4096;

/// Who lets whom act: a person who began it, and each delegation from there.
///
/// INVARIANT: 1 to 7 links; all of one trust domain and nobody twice; no link begins before the one that it rests
/// on, ends after it, or was recorded before it; scopes are lists in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    person: SpiffeId,
    links: Vec<Link>,
}

/// One delegation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Whom it lets act.
    pub to: SpiffeId,
    pub jti: Serial,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
    pub scope: Narrowed,
    /// Index of its record. Of the last link the receipt says it.
    pub record: Option<u64>,
    /// By which SVID it was asked for; of the first link, which a person asked for, by none. A link of an earlier
    /// version does not say it.
    pub by: Option<Issued>,
}

/// An SVID by which somebody let another act, and what its issuance showed: by these facts it is decided what who
/// delegated may do, wherever the delegate is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    pub serial: String,
    /// Index of its record.
    pub issuance: u64,
    /// Index of the record of the estate that it was issued under.
    pub estate: u64,
    pub facts: BTreeMap<String, FactValue>,
}

/// What a link was narrowed to, in the estate's words; whether these are any is for the estate to say.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Narrowed {
    /// Names such as `select`. `None`: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actions: Option<Vec<String>>,
    /// Such as `Table::"shop/public/cards"`: these and what lies in them. `None`: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Vec<String>>,
}

/// A link as it stands in a token.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    to: String,
    jti: Serial,
    iat: u64,
    exp: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    actions: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resources: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    record: Option<Decimal>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by: Option<WrittenIssued>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenIssued {
    svid: String,
    issuance: Decimal,
    estate: Decimal,
    facts: BTreeMap<String, FactValue>,
}

impl Terms {
    /// Times count in whole seconds.
    ///
    /// # Errors
    /// `DELEGATION-TOKEN-CHAIN`, `DELEGATION-TOKEN-SCOPE`.
    pub fn new(person: SpiffeId, links: Vec<Link>) -> Result<Self, Finding> {
        let terms = Self { person, links };
        terms.check_chain()?;
        terms.check_order()?;
        for link in &terms.links {
            link.scope.check()?;
            link.by.as_ref().map_or(Ok(()), Issued::check)?;
        }
        Ok(terms)
    }

    /// These and one more, which rests on the last, whose record is at `index`.
    ///
    /// # Errors
    /// As [`Terms::new`].
    pub fn then(&self, index: u64, link: Link) -> Result<Self, Finding> {
        let mut links = self.links.clone();
        if let Some(last) = links.last_mut() {
            last.record = Some(index);
        }
        links.push(link);
        Self::new(self.person.clone(), links)
    }

    /// Who began it.
    #[must_use]
    pub const fn person(&self) -> &SpiffeId {
        &self.person
    }

    /// The first delegation first.
    #[must_use]
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// Everybody, the person first, the last delegate last.
    pub fn principals(&self) -> impl DoubleEndedIterator<Item = &SpiffeId> {
        std::iter::once(&self.person).chain(self.links.iter().map(|link| &link.to))
    }

    /// The last link: the one by whose delegate the token counts.
    #[must_use]
    pub fn last(&self) -> Option<&Link> {
        self.links.last()
    }

    #[must_use]
    pub fn trust_domain(&self) -> TrustDomain {
        self.person.trust_domain()
    }

    pub(super) fn written(&self) -> Vec<Written> {
        let links = self.links.iter().map(|link| Written {
            to: link.to.to_string(),
            jti: link.jti,
            iat: link.issued_at.as_secs(),
            exp: link.expires_at.as_secs(),
            actions: link.scope.actions.clone(),
            resources: link.scope.resources.clone(),
            record: link.record.map(Decimal),
            by: link.by.as_ref().map(Issued::written),
        });
        links.collect()
    }

    pub(super) fn read(person: &str, links: Vec<Written>) -> Result<Self, Finding> {
        if links.len() > MOST_LINKS {
            return Err(wrong("the chain is too long").expected(format!("at most {MOST_LINKS}")));
        }
        let id = |text: &str| {
            text.parse::<SpiffeId>().map_err(|error| {
                wrong("somebody in the chain is no SPIFFE ID").observed(error.to_string())
            })
        };
        let read = links.into_iter().map(|link| {
            Ok(Link {
                to: id(&link.to)?,
                jti: link.jti,
                issued_at: Timestamp::from_secs(link.iat),
                expires_at: Timestamp::from_secs(link.exp),
                scope: Narrowed {
                    actions: link.actions,
                    resources: link.resources,
                },
                record: link.record.map(|record| record.0),
                by: link.by.map(Issued::read),
            })
        });
        Self::new(id(person)?, read.collect::<Result<_, Finding>>()?)
    }

    fn check_chain(&self) -> Result<(), Finding> {
        if !(1..=MOST_LINKS).contains(&self.links.len()) {
            return Err(wrong("the chain is empty or too long")
                .expected(format!("1 to {MOST_LINKS} delegations"))
                .observed(self.links.len().to_string()));
        }
        let domain = self.trust_domain();
        let mut seen = BTreeSet::new();
        for one in self.principals() {
            if !one.is_member_of(&domain) || one.is_root() {
                return Err(wrong("everybody in it is an identity of one trust domain")
                    .expected(domain.to_string())
                    .observed(one.to_string()));
            }
            if !seen.insert(one) {
                return Err(wrong("somebody is in it twice").observed(one.to_string()));
            }
        }
        let bytes: usize = self.principals().map(|one| one.as_str().len()).sum();
        if bytes > MOST_IDS {
            return Err(wrong("its SPIFFE IDs have no room in a record")
                .expected(format!("at most {MOST_IDS} bytes together"))
                .observed(format!("{bytes} bytes")));
        }
        if self.links.first().is_some_and(|link| link.by.is_some()) {
            return Err(wrong("a person delegates by a login, and not by an SVID"));
        }
        let jtis: BTreeSet<Serial> = self.links.iter().map(|link| link.jti).collect();
        if jtis.len() != self.links.len() {
            return Err(wrong("two delegations have one jti"));
        }
        Ok(())
    }

    /// INVARIANT: nothing outlasts what it rests on.
    fn check_order(&self) -> Result<(), Finding> {
        let count = self.links.len();
        let mut before: Option<&Link> = None;
        for (number, link) in self.links.iter().enumerate() {
            if link.issued_at.as_secs() >= link.expires_at.as_secs() {
                return Err(wrong("a delegation ends before it begins"));
            }
            let last = number + 1 == count;
            if link.record.is_none() != last {
                return Err(wrong("each delegation but the last names its record"));
            }
            if let Some(before) = before {
                if link.expires_at > before.expires_at || link.issued_at < before.issued_at {
                    return Err(wrong("a delegation outlasts the one that it rests on")
                        .expected(format!("{} to {}", before.issued_at, before.expires_at))
                        .observed(format!("{} to {}", link.issued_at, link.expires_at)));
                }
                if !last && link.record <= before.record {
                    return Err(wrong(
                        "a delegation was recorded before the one that it rests on",
                    ));
                }
            }
            before = Some(link);
        }
        Ok(())
    }
}

impl Issued {
    fn check(&self) -> Result<(), Finding> {
        let wrong = |what: &str| {
            let most = format!("at most {MOST_FACTS} facts of {MOST_SHOWN} bytes");
            Finding::new(
                "DELEGATION-TOKEN-FACTS",
                format!("the facts of who delegated: {what}"),
            )
            .expected(most)
        };
        if self.facts.len() > MOST_FACTS {
            return Err(wrong("they are too many"));
        }
        let bytes = self.facts.iter().map(|(name, value)| {
            name.len()
                + match value {
                    FactValue::Bool(_) | FactValue::Integer(_) => 8,
                    FactValue::Text(text) => text.len(),
                    FactValue::List(texts) => texts.iter().map(String::len).sum(),
                }
        });
        if bytes.sum::<usize>() > MOST_SHOWN || self.serial.len() > 64 {
            return Err(wrong("they are too long"));
        }
        Ok(())
    }

    fn written(&self) -> WrittenIssued {
        WrittenIssued {
            svid: self.serial.clone(),
            issuance: Decimal(self.issuance),
            estate: Decimal(self.estate),
            facts: self.facts.clone(),
        }
    }

    fn read(written: WrittenIssued) -> Self {
        Self {
            serial: written.svid,
            issuance: written.issuance.0,
            estate: written.estate.0,
            facts: written.facts,
        }
    }
}

impl Narrowed {
    fn check(&self) -> Result<(), Finding> {
        let wrong = |what: &str| {
            Finding::new("DELEGATION-TOKEN-SCOPE", format!("the scope of a delegation {what}")).expected(
                format!("1 to {MOST_ENTRIES} actions and resources each, in order and once, at most {MOST_SCOPE} bytes"),
            )
        };
        let mut bytes = 0;
        for list in [&self.actions, &self.resources].into_iter().flatten() {
            if !(1..=MOST_ENTRIES).contains(&list.len()) {
                return Err(wrong("names nothing, or too much"));
            }
            if !list.is_sorted_by(|one, next| one < next) {
                return Err(wrong("is not in order, or names something twice"));
            }
            let plain = |text: &String| !text.is_empty() && !text.chars().any(char::is_control);
            if !list.iter().all(plain) {
                return Err(wrong("names what has no name"));
            }
            bytes += list.iter().map(String::len).sum::<usize>();
        }
        if bytes > MOST_SCOPE {
            return Err(wrong("is too long"));
        }
        Ok(())
    }
}

fn wrong(what: &str) -> Finding {
    Finding::new(
        "DELEGATION-TOKEN-CHAIN",
        format!("the chain of a delegation token: {what}"),
    )
}
