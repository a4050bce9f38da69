//! By whose facts each of a chain is decided.
//!
//! Whoever makes the request has shown its SVID, and its facts are the session's. One who delegated on did so by an
//! SVID of its own, somewhere else and by other code: what it may do is decided by those facts, and never by those of
//! whom it let act.

use crate::authorize::Prepared;
use facts::Finding;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is known of those in a chain.
#[derive(Debug, Clone, Default)]
pub struct ChainFacts {
    /// Of whoever makes the request. A person in the chain is asked about by these, too.
    session: Option<Arc<Prepared>>,
    /// Of those who delegated on, by identity path: as they were then.
    earlier: BTreeMap<String, Arc<Prepared>>,
}

impl ChainFacts {
    /// Of a session, and of nobody else.
    #[must_use]
    pub fn of(session: impl Into<Arc<Prepared>>) -> Self {
        Self {
            session: Some(session.into()),
            earlier: BTreeMap::new(),
        }
    }

    /// These, and `facts` of `principal`, who delegated on.
    #[must_use]
    pub fn with(mut self, principal: impl Into<String>, facts: impl Into<Arc<Prepared>>) -> Self {
        self.earlier.insert(principal.into(), facts.into());
        self
    }

    #[must_use]
    pub fn session(&self) -> Option<&Prepared> {
        self.session.as_deref()
    }

    pub(super) fn earlier(&self, principal: &str) -> Option<&Prepared> {
        self.earlier.get(principal).map(Arc::as_ref)
    }
}

/// Whose facts a hop was decided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HopFacts {
    /// Those of the session that makes the request.
    Session,
    /// Its own, when it delegated on.
    Own,
    /// Nothing is known of the session.
    SessionUnknown,
    /// It delegated on, and nothing is known of it then.
    OwnUnknown,
}

impl HopFacts {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Own => "own",
            Self::SessionUnknown => "session-unknown",
            Self::OwnUnknown => "own-unknown",
        }
    }
}

pub(super) fn unknown(principal: &str) -> Finding {
    let what = format!(
        "what `{principal}` may do depends on facts of it, and none are known of when it let the next act"
    );
    Finding::new("DELEGATION-HOP-FACTS", what)
        .expected("a delegation token, which says by which SVID each delegated")
        .next("delegate anew by trilith delegate; or let the policy not depend on facts")
}
