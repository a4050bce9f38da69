//! Who did what to what, and by which policies: as counted while the records were indexed.

use super::query::{Clause, Terms};
use super::write::UseDelta;
use super::{Dimension, RecordIndex, number};
use crate::Error;
use rusqlite::Row;

/// All of one identity's doing one thing to one resource, by one issued SVID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    pub who: UseDelta,
    /// Records that say so.
    pub count: u64,
    /// Of those that were forwarded: how many are known to have succeeded or not.
    pub succeeded: u64,
    pub failed: u64,
    /// Record and Unix milliseconds.
    pub first: (u64, u64),
    pub last: (u64, u64),
}

/// A policy that allowed something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyUse {
    pub policy: String,
    pub count: u64,
    pub first: (u64, u64),
    pub last: (u64, u64),
}

/// Which uses are asked about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UseFilter {
    pub identity: Option<String>,
    /// By name or prefix, as in a search.
    pub resource: Option<Terms>,
    /// One of those on whose behalf it was done, by SPIFFE ID.
    pub on_behalf_of: Option<String>,
}

const COLUMNS: &str = "SELECT i.text, s.text, a.text, u.allowed, u.issuance, u.count, u.succeeded, u.failed, u.first, u.first_time, u.last, u.last_time, c.text, u.proven
 FROM uses u JOIN dictionary i ON i.id = u.identity JOIN dictionary s ON s.id = u.resource JOIN dictionary a ON a.id = u.action
 JOIN dictionary c ON c.id = u.chain";

impl RecordIndex {
    /// Uses in order of identity, resource, action; `each` is called with one after the other.
    pub fn uses(&self, filter: &UseFilter, mut each: impl FnMut(Use)) -> Result<(), Error> {
        let mut asked = || -> rusqlite::Result<()> {
            let resources = match &filter.resource {
                None => None,
                Some(terms) => {
                    let (ids, _) = self.terms(&Clause {
                        dimension: Dimension::Resource,
                        terms: terms.clone(),
                    })?;
                    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
                    Some(format!("[{}]", ids.join(",")))
                }
            };
            let of_whom = match filter.identity {
                Some(_) => {
                    "u.identity = (SELECT id FROM dictionary WHERE dimension = 1 AND text = ?1)"
                }
                None => "?1 IS NULL",
            };
            let of_what = match resources {
                Some(_) => "u.resource IN (SELECT value FROM json_each(?2))",
                None => "?2 IS NULL",
            };
            // A SPIFFE ID has no comma.
            let for_whom = match filter.on_behalf_of {
                Some(_) => {
                    "u.chain IN (SELECT id FROM dictionary WHERE dimension = 12 AND instr(',' || text || ',', ',' || ?3 || ',') > 0)"
                }
                None => "?3 IS NULL",
            };
            let sql = format!(
                "{COLUMNS} WHERE {of_whom} AND {of_what} AND {for_whom}
                 ORDER BY i.text, s.text, a.text, u.allowed, c.text, u.proven, u.issuance"
            );
            let mut statement = self.connection.prepare_cached(&sql)?;
            let mut rows = statement.query([&filter.identity, &resources, &filter.on_behalf_of])?;
            while let Some(row) = rows.next()? {
                each(used(row)?);
            }
            Ok(())
        };
        asked().map_err(Error::Load)
    }

    /// Every policy that a record names as having allowed something, in order of its id.
    pub fn policy_uses(&self) -> Result<Vec<PolicyUse>, Error> {
        let asked = || -> rusqlite::Result<Vec<PolicyUse>> {
            let mut statement = self.connection.prepare_cached(
                "SELECT d.text, p.count, p.first, p.first_time, p.last, p.last_time
                 FROM policies p JOIN dictionary d ON d.id = p.policy ORDER BY d.text",
            )?;
            let rows = statement.query_map([], |row| {
                Ok(PolicyUse {
                    policy: row.get(0)?,
                    count: number(row.get(1)?),
                    first: (number(row.get(2)?), number(row.get(3)?)),
                    last: (number(row.get(4)?), number(row.get(5)?)),
                })
            })?;
            rows.collect()
        };
        asked().map_err(Error::Load)
    }
}

fn used(row: &Row<'_>) -> rusqlite::Result<Use> {
    let issuance: i64 = row.get(4)?;
    Ok(Use {
        who: UseDelta {
            identity: row.get(0)?,
            resource: row.get(1)?,
            action: row.get(2)?,
            allowed: row.get(3)?,
            issuance: u64::try_from(issuance).ok(),
            on_behalf_of: row.get(12)?,
            proven: row.get(13)?,
        },
        count: number(row.get(5)?),
        succeeded: number(row.get(6)?),
        failed: number(row.get(7)?),
        first: (number(row.get(8)?), number(row.get(9)?)),
        last: (number(row.get(10)?), number(row.get(11)?)),
    })
}
