//! Why a database is not maintained, for whoever can mend it; told when it begins, when it changes, and now and
//! then, not at every look.

use super::cause;
use crate::upstream::{AdminError, UpstreamError};
use facts::Finding;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What goes on is told again after so long: the gateway looks every few seconds, and a log is for reading.
const AGAIN_AFTER: Duration = Duration::from_secs(600);

/// What was told last, and when.
#[derive(Default)]
pub(super) struct Failing(Mutex<Option<(Finding, Instant)>>);

impl Failing {
    pub(super) fn tell(&self, database: &str, finding: &Finding) {
        if self.is_news(finding, Instant::now()) {
            tracing::error!(database, %finding, "the database is not maintained");
        } else {
            tracing::debug!(database, %finding, "the database is not maintained");
        }
    }

    /// It is maintained again, or still.
    pub(super) fn over(&self, database: &str) {
        let failing = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if failing.is_some() {
            tracing::info!(database, "the database is maintained again");
        }
    }

    fn is_news(&self, finding: &Finding, now: Instant) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = told.as_ref().is_some_and(|(last, at)| {
            last == finding && now.saturating_duration_since(*at) < AGAIN_AFTER
        });
        if !known {
            *told = Some((finding.clone(), now));
        }
        !known
    }
}

/// `role` is the gateway's own, with a password or as the operating system's user.
pub(super) fn finding(
    database: &str,
    role: &str,
    by_password: bool,
    error: &AdminError,
) -> Finding {
    const PAGE: &str =
        "docs/operate/first-service.md has the lines; then: systemctl reload postgresql";
    let said = match cause(error) {
        inner if inner.is_empty() => error.to_string(),
        inner => inner,
    };
    let AdminError::Upstream(error) = error else {
        return Finding::new(
            "GATEWAY-DATABASE-ADMIN",
            format!("the gateway cannot keep the roles and grants of database {database} right"),
        )
        .observed(said)
        .next(format!(
            "look at the database's log, and at what role {role} may do"
        ));
    };
    match error {
        // Class 28: invalid authorization.
        UpstreamError::Refused { sqlstate, message } if sqlstate.starts_with("28") => {
            let finding = Finding::new(
                "GATEWAY-DATABASE-LOGIN",
                format!("database {database} does not let the gateway in as role {role}"),
            )
            .observed(format!("{message} (SQLSTATE {sqlstate})"));
            if by_password {
                finding
                    .expected(format!(
                        "a line of pg_hba.conf that asks role {role} for scram-sha-256, and its password in password_file"
                    ))
                    .next(format!("correct pg_hba.conf or the password; {PAGE}"))
            } else {
                finding
                    .expected(format!(
                        "before all others, a line of pg_hba.conf `local all {role} peer map=…`, and a line of \
                         pg_ident.conf that maps the gateway's user to {role}"
                    ))
                    .next(format!("correct pg_hba.conf and pg_ident.conf; {PAGE}"))
            }
        }
        UpstreamError::Refused { sqlstate, message } => Finding::new(
            "GATEWAY-DATABASE-REFUSED",
            format!("database {database} refuses the gateway's administration"),
        )
        .observed(format!("{message} (SQLSTATE {sqlstate})"))
        .next("look at the database's log, and that `database` of gateway.toml is its name"),
        _ => Finding::new(
            "GATEWAY-DATABASE-REACH",
            format!("the gateway cannot speak with database {database}: {error}"),
        )
        .observed(said)
        .next("look whether PostgreSQL runs, and at [postgres.upstream] of gateway.toml"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(sqlstate: &str) -> AdminError {
        AdminError::Upstream(UpstreamError::Refused {
            sqlstate: sqlstate.to_owned(),
            message: "Peer authentication failed for user \"trilith_gateway\"".to_owned(),
        })
    }

    /// It was the database's sentence, every two seconds, and no word of what to change.
    #[test]
    fn a_login_that_fails_names_the_files_that_decide_it() {
        let of = |by_password| finding("shop", "trilith_gateway", by_password, &refused("28000"));
        let by_peer = of(false);
        assert_eq!(by_peer.code, "GATEWAY-DATABASE-LOGIN");
        let next = by_peer.next.unwrap();
        assert!(next.contains("pg_hba.conf and pg_ident.conf"), "{next}");
        assert!(next.contains("docs/operate/first-service.md"), "{next}");
        assert!(
            by_peer
                .observed
                .unwrap()
                .contains("Peer authentication failed")
        );
        let expected = of(true).expected.unwrap();
        assert!(expected.contains("password_file"), "{expected}");
        let other = finding("shop", "trilith_gateway", false, &refused("3D000"));
        assert_eq!(other.code, "GATEWAY-DATABASE-REFUSED");
        let reach = AdminError::Upstream(UpstreamError::Timeout);
        let reach = finding("shop", "trilith_gateway", false, &reach);
        assert_eq!(reach.code, "GATEWAY-DATABASE-REACH");
        let row = finding("shop", "trilith_gateway", false, &AdminError::Row);
        assert_eq!(row.code, "GATEWAY-DATABASE-ADMIN");
        assert!(
            row.observed.unwrap().contains("catalogue"),
            "what is wrong is said"
        );
    }

    #[test]
    fn what_goes_on_is_told_when_it_begins_changes_or_has_gone_on_for_long() {
        let failing = Failing::default();
        let now = Instant::now();
        let of = |state| finding("shop", "trilith_gateway", false, &refused(state));
        assert!(failing.is_news(&of("28000"), now));
        assert!(!failing.is_news(&of("28000"), now + Duration::from_secs(2)));
        assert!(failing.is_news(&of("28P01"), now + Duration::from_secs(4)));
        assert!(!failing.is_news(&of("28P01"), now + Duration::from_secs(6)));
        assert!(failing.is_news(&of("28P01"), now + AGAIN_AFTER + Duration::from_secs(5)));
        failing.over("shop");
        assert!(failing.is_news(&of("28P01"), now + AGAIN_AFTER + Duration::from_secs(6)));
    }
}
