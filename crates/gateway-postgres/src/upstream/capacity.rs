//! How many sessions a database bears, by its own words, and how many of them whoever asks may have.

use super::admin::{Admin, AdminError};
use super::snapshot::columns;
use facts::Finding;

/// What the database's server says. The first two change only when it starts anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Capacity {
    /// `max_connections`
    pub(crate) connections: usize,
    /// `superuser_reserved_connections` and `reserved_connections`
    pub(crate) reserved: usize,
    /// `CONNECTION LIMIT` of the database
    pub(crate) database: Option<usize>,
}

/// What is configured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// Sessions of the gateway.
    pub(crate) gateway: usize,
    pub(crate) database: Option<usize>,
    pub(crate) identity: Option<usize>,
    /// Connections that the gateway itself has with the server.
    pub(crate) own: usize,
}

/// Sessions, at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Allowance {
    /// In all databases of the server.
    pub(crate) server: usize,
    pub(crate) database: usize,
    /// Of one identity in the database.
    pub(crate) identity: usize,
    /// Of one identity's role, which is the server's, however it comes.
    pub(crate) role: usize,
}

impl Allowance {
    /// Before anything is known of the server nobody can log in either, so what is configured will do.
    pub(crate) fn of(capacity: Option<Capacity>, wanted: Wanted) -> Self {
        let server = capacity.map_or(wanted.gateway, |capacity| {
            let taken = capacity.reserved.saturating_add(wanted.own);
            capacity.connections.saturating_sub(taken)
        });
        let server = server.max(1);
        // The gateway's administrative connection counts in the database as well.
        let database = capacity
            .and_then(|capacity| capacity.database)
            .map_or(server, |limit| limit.saturating_sub(1));
        let database = database
            .min(wanted.database.unwrap_or(server))
            .clamp(1, server);
        let share = |of: usize| wanted.identity.unwrap_or(of / 2).clamp(1, of);
        Self {
            server,
            database,
            identity: share(database),
            role: share(server),
        }
    }
}

/// What is configured and cannot be had.
pub(crate) fn short(name: &str, capacity: Capacity, wanted: Wanted) -> Option<Finding> {
    let allowance = Allowance::of(Some(capacity), wanted);
    let asked = wanted.database.max(wanted.identity)?;
    if asked <= allowance.database {
        return None;
    }
    let limit = capacity
        .database
        .map(|limit| format!(", the database's own limit is {limit}"));
    Some(
        Finding::new(
            "GATEWAY-DATABASE-CAPACITY",
            format!("the database {name} bears fewer sessions than are configured"),
        )
        .expected(format!("{asked} sessions"))
        .observed(format!(
            "{}: max_connections is {}, {} are reserved, {} are the gateway's own{}",
            allowance.database,
            capacity.connections,
            capacity.reserved,
            wanted.own,
            limit.unwrap_or_default()
        ))
        .next("raise max_connections of the database, or lower max_sessions and max_sessions_per_identity"),
    )
}

/// `reserved_connections` came with PostgreSQL 16.
const CAPACITY: &str = "
SELECT current_setting('max_connections'), current_setting('superuser_reserved_connections'),
  coalesce(current_setting('reserved_connections', true), '0'), d.datconnlimit
FROM pg_database d WHERE d.datname = current_database()";

pub(crate) async fn capacity(admin: &mut Admin) -> Result<Capacity, AdminError> {
    let rows = admin.query(CAPACITY).await?;
    let [connections, superusers, others, database] =
        columns(rows.first().ok_or(AdminError::Row)?)?;
    let number = |text: &str| text.parse::<usize>().map_err(|_| AdminError::Row);
    Ok(Capacity {
        connections: number(connections)?,
        reserved: number(superusers)?.saturating_add(number(others)?),
        // -1 is none, -2 a database that is being dropped.
        database: database.parse().ok(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: Wanted = Wanted {
        gateway: 1000,
        database: None,
        identity: None,
        own: 2,
    };
    const CAPACITY: Capacity = Capacity {
        connections: 100,
        reserved: 3,
        database: None,
    };

    fn of(capacity: Capacity, database: Option<usize>, identity: Option<usize>) -> [usize; 4] {
        let wanted = Wanted {
            database,
            identity,
            ..WANTED
        };
        let allowance = Allowance::of(Some(capacity), wanted);
        [
            allowance.server,
            allowance.database,
            allowance.identity,
            allowance.role,
        ]
    }

    #[test]
    fn one_identity_has_half_of_what_there_is_unless_it_is_said() {
        assert_eq!(of(CAPACITY, None, None), [95, 95, 47, 47]);
        assert_eq!(of(CAPACITY, Some(20), None), [95, 20, 10, 47]);
        assert_eq!(of(CAPACITY, Some(20), Some(15)), [95, 20, 15, 15]);
    }

    #[test]
    fn nobody_is_promised_more_than_the_database_bears() {
        assert_eq!(of(CAPACITY, Some(500), Some(400)), [95, 95, 95, 95]);
        let limited = Capacity {
            database: Some(11),
            ..CAPACITY
        };
        assert_eq!(of(limited, None, None), [95, 10, 5, 47]);
        let tiny = Capacity {
            connections: 3,
            ..CAPACITY
        };
        assert_eq!(of(tiny, None, None), [1, 1, 1, 1]);
    }

    #[test]
    fn what_cannot_be_had_is_said() {
        assert_eq!(short("shop", CAPACITY, WANTED), None);
        let wanted = Wanted {
            identity: Some(96),
            ..WANTED
        };
        let finding = short("shop", CAPACITY, wanted).unwrap();
        assert_eq!(finding.code, "GATEWAY-DATABASE-CAPACITY");
        assert!(finding.observed.unwrap().contains("max_connections is 100"));
    }
}
