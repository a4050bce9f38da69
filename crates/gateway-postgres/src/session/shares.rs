//! How many sessions there may be: of an identity, in a database, at its server, and of the gateway.
//!
//! Counted here before the database is asked for anything, so that one identity leaves the others what is
//! theirs. The database keeps the identity's limit as well, for whoever comes by another way.

use crate::database::Database;
use crate::upstream::Allowance;
use facts::Finding;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Of {
    /// In one database.
    Identity(String, String),
    Database(String),
    /// By address.
    Server(String),
    Gateway,
}

type Counts = HashMap<Of, usize>;

/// Sessions that are open or being opened.
pub(crate) struct Shares {
    /// Of the gateway.
    most: usize,
    /// Owned by the shares: counted up in `take`, down when a share is dropped. Held for no I/O.
    counts: Arc<Mutex<Counts>>,
}

/// One session's part. Dropped, it is free.
pub(crate) struct Share {
    of: [Of; 4],
    counts: Arc<Mutex<Counts>>,
}

impl Shares {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            counts: Arc::default(),
        }
    }

    /// # Errors
    /// `GATEWAY-SESSIONS-IDENTITY`, `GATEWAY-SESSIONS-DATABASE`, `GATEWAY-SESSIONS-SERVER`, `GATEWAY-SESSIONS`.
    pub(super) fn take(&self, database: &Database, identity: &str) -> Result<Share, Finding> {
        let server = database.address.to_string();
        self.take_of(&database.name, server, identity, database.allowance())
    }

    fn take_of(
        &self,
        database: &str,
        server: String,
        identity: &str,
        allowance: Allowance,
    ) -> Result<Share, Finding> {
        let of = [
            Of::Identity(database.to_owned(), identity.to_owned()),
            Of::Database(database.to_owned()),
            Of::Server(server),
            Of::Gateway,
        ];
        let limits = [
            allowance.identity,
            allowance.database,
            allowance.server,
            self.most,
        ];
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for (of, limit) in of.iter().zip(limits) {
            let open = counts.get(of).copied().unwrap_or(0);
            if open >= limit {
                return Err(full(of, limit, open));
            }
        }
        for of in &of {
            *counts.entry(of.clone()).or_default() += 1;
        }
        Ok(Share {
            of,
            counts: Arc::clone(&self.counts),
        })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for of in &self.of {
            let left = counts.get_mut(of).map(|count| {
                *count = count.saturating_sub(1);
                *count
            });
            if left == Some(0) {
                counts.remove(of);
            }
        }
    }
}

fn full(of: &Of, limit: usize, open: usize) -> Finding {
    let finding = match of {
        Of::Identity(database, identity) => Finding::new(
            "GATEWAY-SESSIONS-IDENTITY",
            format!("too many sessions of {identity} in {database}: max_sessions_per_identity allows {limit}"),
        )
        .next("close some or share them in a pool; max_sessions_per_identity is set in gateway.toml, and is half of what the database bears if it is not"),
        Of::Database(database) => Finding::new(
            "GATEWAY-SESSIONS-DATABASE",
            format!("too many sessions in {database}: max_sessions and the database's own limit allow {limit}"),
        )
        .next("wait for others to end, or raise max_sessions in gateway.toml and CONNECTION LIMIT of the database"),
        Of::Server(_) => Finding::new(
            "GATEWAY-SESSIONS-SERVER",
            format!("too many sessions at the database's server: its max_connections leaves {limit}"),
        )
        .next("wait for others to end, or raise max_connections of the database"),
        Of::Gateway => Finding::new(
            "GATEWAY-SESSIONS",
            format!("too many sessions of this gateway: max_connections of its listener allows {limit}"),
        )
        .next("wait for others to end, or raise listen.max_connections in gateway.toml"),
    };
    finding
        .expected(format!("at most {limit}"))
        .observed(format!("{open} are open"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWANCE: Allowance = Allowance {
        server: 5,
        database: 4,
        identity: 2,
        role: 2,
    };

    fn take(shares: &Shares, database: &str, identity: &str) -> Result<Share, String> {
        shares
            .take_of(database, "server".to_owned(), identity, ALLOWANCE)
            .map_err(|finding| finding.code.into_owned())
    }

    #[test]
    fn each_limit_is_kept_and_says_which_it_is() {
        let shares = Shares::new(6);
        let code = |database, identity| take(&shares, database, identity).err().unwrap();
        let mut held = vec![
            take(&shares, "shop", "a").unwrap(),
            take(&shares, "shop", "a").unwrap(),
        ];
        assert_eq!(code("shop", "a"), "GATEWAY-SESSIONS-IDENTITY");
        held.push(take(&shares, "shop", "b").unwrap());
        held.push(take(&shares, "shop", "c").unwrap());
        assert_eq!(code("shop", "d"), "GATEWAY-SESSIONS-DATABASE");
        held.push(take(&shares, "other", "a").unwrap());
        assert_eq!(code("other", "b"), "GATEWAY-SESSIONS-SERVER");
        let elsewhere = |name: &str| shares.take_of(name, name.to_owned(), "a", ALLOWANCE);
        held.push(elsewhere("far").unwrap());
        let refused = elsewhere("farther").err().unwrap();
        assert_eq!(refused.code, "GATEWAY-SESSIONS");
        assert!(refused.message.ends_with("allows 6"), "{refused}");
        held.clear();
        assert!(shares.counts.lock().unwrap().is_empty());
    }

    #[test]
    fn what_is_refused_counts_for_nothing() {
        let shares = Shares::new(6);
        let first = take(&shares, "shop", "a").unwrap();
        let _second = take(&shares, "shop", "a").unwrap();
        for _ in 0..10 {
            assert!(take(&shares, "shop", "a").is_err());
        }
        drop(first);
        assert!(take(&shares, "shop", "a").is_ok());
    }
}
