//! Which records are asked for, as somebody typed it, made into clauses once. By the same clauses the index is
//! asked and a scan of the ledger is judged.

use crate::Error;
use crate::terms::CUT;
use facts::Finding;
use ledger::RecordType;
use std::collections::BTreeSet;
use store::index::{Clause, Dimension, Entry, Terms, TimeRange};

/// Each that is set has to be met. Nothing set: every record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// A SPIFFE ID, an identity's path, or another actor such as `uid:0`.
    pub identity: Option<String>,
    /// A machine's name or SPIFFE ID: its own records, and those of the identities that were issued on it.
    pub machine: Option<String>,
    /// A digest of code, lower-case hex: as for a machine.
    pub code: Option<String>,
    /// As records name it, or its path; `shop/public/*` for everything below.
    pub resource: Option<String>,
    pub action: Option<String>,
    /// `allow` or `deny`.
    pub decision: Option<String>,
    /// By name; one of them.
    pub types: Vec<String>,
    /// SHA-256 of the estate that was in force, hex.
    pub estate: Option<String>,
    pub policy: Option<String>,
    /// On whose behalf it was done, by an identity's path or SPIFFE ID, whether that was proven or told.
    pub on_behalf_of: Option<String>,
    pub times: TimeRange,
}

/// A filter for one ledger.
#[derive(Debug, Clone)]
pub(crate) struct Clauses {
    pub(crate) all: Vec<Clause>,
    pub(crate) times: TimeRange,
}

impl Clauses {
    pub(crate) fn match_entry(&self, entry: &Entry) -> bool {
        self.times.holds(entry.time)
            && self.all.iter().all(|clause| {
                let mut terms = entry.terms.iter();
                terms.any(|(dimension, text)| clause.is_met_by(*dimension, text))
            })
    }
}

impl Filter {
    /// Checks what has only some values.
    pub fn check(&self) -> Result<(), Error> {
        if let Some(unknown) = self
            .types
            .iter()
            .find(|name| RecordType::from_name(name).is_none())
        {
            let known = RecordType::ALL.iter().map(|kind| kind.as_str());
            return Err(
                Finding::new("RECORD-TYPE", "there is no such type of record")
                    .expected(known.collect::<Vec<_>>().join(", "))
                    .observed(unknown.clone())
                    .next("search for one of these with --type")
                    .into(),
            );
        }
        match self.decision.as_deref() {
            None | Some("allow" | "deny") => Ok(()),
            Some(other) => Err(
                Finding::new("RECORDS-DECISION", "a decision is `allow` or `deny`")
                    .observed(other.to_owned())
                    .next("search with --decision deny")
                    .into(),
            ),
        }
    }

    /// Whether it speaks of a machine or of code, which only the server's records name: `issuances` of the
    /// identities that came of them stand for them in other ledgers.
    pub(crate) const fn needs_issuances(&self) -> bool {
        self.machine.is_some() || self.code.is_some()
    }

    /// The part that finds those issuances in the server's ledger, at any time.
    pub(crate) fn of_issuances(&self) -> Self {
        Self {
            machine: self.machine.clone(),
            code: self.code.clone(),
            types: vec![RecordType::Issuance.as_str().to_owned()],
            ..Self::default()
        }
    }

    /// For the server's ledger (`issuances` absent), or another one.
    pub(crate) fn clauses(&self, trust_domain: &str, issuances: Option<&BTreeSet<u64>>) -> Clauses {
        let mut all = Vec::new();
        // One that cannot be read may be what is looked for.
        let mut named = |dimension: Dimension, mut names: Vec<String>| {
            if dimension != Dimension::Type && dimension != Dimension::Estate {
                names.push(CUT.to_owned());
            }
            all.push(Clause {
                dimension,
                terms: Terms::Named(names),
            });
        };
        if let Some(identity) = &self.identity {
            named(Dimension::Identity, vec![spiffe_id(identity, trust_domain)]);
        }
        if let Some(other) = &self.on_behalf_of {
            named(Dimension::Behalf, vec![spiffe_id(other, trust_domain)]);
        }
        match issuances {
            Some(issuances) => {
                let names = issuances.iter().map(ToString::to_string).collect();
                named(Dimension::Issuance, names);
            }
            None => {
                if let Some(machine) = &self.machine {
                    named(Dimension::Machine, vec![machine.clone()]);
                }
                if let Some(code) = &self.code {
                    let plain = code.strip_prefix("sha256:").unwrap_or(code);
                    named(
                        Dimension::Code,
                        vec![plain.to_ascii_lowercase(), code.clone()],
                    );
                }
            }
        }
        let words = [
            (Dimension::Action, &self.action),
            (Dimension::Decision, &self.decision),
            (Dimension::Policy, &self.policy),
        ];
        for (dimension, word) in words {
            if let Some(word) = word {
                named(dimension, vec![word.clone()]);
            }
        }
        if let Some(estate) = &self.estate {
            named(Dimension::Estate, vec![estate.to_ascii_lowercase()]);
        }
        if !self.types.is_empty() {
            named(Dimension::Type, self.types.clone());
        }
        if let Some(resource) = &self.resource {
            all.push(Clause {
                dimension: Dimension::Resource,
                terms: resource_terms(resource),
            });
        }
        Clauses {
            all,
            times: self.times,
        }
    }
}

/// A search for a resource finds records whose list was cut as well: it may have been on it. One for a column finds
/// those that name every column of its table.
pub(crate) fn resource_terms(resource: &str) -> Terms {
    let cut = CUT.to_owned();
    match resource.strip_suffix('*') {
        Some(prefix) if prefix.ends_with('/') || prefix.is_empty() => {
            Terms::Under(prefix.to_owned(), vec![cut])
        }
        _ => {
            let every = every_column(resource);
            let names = [resource.to_owned(), cut].into_iter().chain(every);
            Terms::Named(names.collect())
        }
    }
}

/// Of a column as it may be asked for, what records write for all that its table has.
fn every_column(resource: &str) -> Option<String> {
    let path = resource
        .strip_prefix("Column::\"")
        .and_then(|rest| rest.strip_suffix('"'));
    let path = path.or_else(|| (!resource.contains("::")).then_some(resource))?;
    let (table, _) = path.rsplit_once('/')?;
    let is_table = table.split('/').count() == 3;
    is_table.then(|| format!("Column::\"{table}/*\""))
}

/// The whole SPIFFE ID of a path; whatever else acts in records stays as it is.
pub(crate) fn spiffe_id(text: &str, trust_domain: &str) -> String {
    let whole = text.contains(':') || text.is_empty();
    if whole {
        return text.to_owned();
    }
    format!("spiffe://{trust_domain}/{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_also_one_of_all_that_its_table_has() {
        let every = |text: &str| every_column(text).unwrap_or_default();
        let all = "Column::\"shop/public/cards/*\"";
        assert_eq!(every("shop/public/cards/number"), all);
        assert_eq!(every("Column::\"shop/public/cards/number\""), all);
        for other in [
            "shop/public/cards",
            "Route::\"a/GET/b/c\"",
            "shop",
            "a/b/c/d/e",
        ] {
            assert_eq!(every(other), "", "{other}");
        }
    }
}
