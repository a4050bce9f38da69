//! What an origin says of its ledger: the trust domain that it is of, and what kind of ledger it is. The name alone says
//! so; whoever has to believe it asks who anchors the ledger, or holds its key.

use crate::{Origin, line};

/// Whose ledger it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LedgerKind {
    /// The trust domain's own: `example.org/server`.
    Server,
    /// Of a gateway, a decision point, or an agent that decides: `example.org/gateway/pg-1`.
    Gateway,
    /// Of nobody that Trilith knows.
    Other,
}

impl LedgerKind {
    /// Of the ledger that has this origin, whichever of its logs that is.
    #[must_use]
    pub fn of(origin: &str) -> Self {
        match line(origin).split_once('/') {
            Some((_, "server")) => Self::Server,
            Some((_, path)) if path.starts_with("gateway/") => Self::Gateway,
            _ => Self::Other,
        }
    }
}

impl Origin {
    /// As [`LedgerKind::of`].
    #[must_use]
    pub fn kind(&self) -> LedgerKind {
        LedgerKind::of(self.as_str())
    }

    /// As the free function.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        trust_domain(self.as_str())
    }
}

/// The trust domain that a ledger's name begins with.
#[must_use]
pub fn trust_domain(origin: &str) -> &str {
    origin.split_once('/').map_or(origin, |(domain, _)| domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_that_is_called_server_has_no_servers_ledger() {
        for (origin, kind) in [
            ("example.org/server", LedgerKind::Server),
            ("example.org/server@3", LedgerKind::Server),
            ("example.org/gateway/pg-1", LedgerKind::Gateway),
            ("example.org/gateway/pg-1@2", LedgerKind::Gateway),
            ("example.org/gateway/server", LedgerKind::Gateway),
            ("example.org/gateway", LedgerKind::Other),
            ("example.org/site/server", LedgerKind::Other),
            ("server", LedgerKind::Other),
        ] {
            assert_eq!(Origin::new(origin).unwrap().kind(), kind, "{origin}");
        }
    }

    #[test]
    fn who_says_server_means_no_gateway_that_took_the_name() {
        for (origin, name, meant) in [
            ("a.example/server", "server", true),
            ("a.example/server@3", "server@2", true),
            ("a.example/gateway/server", "server", false),
            ("a.example/gateway/server@2", "server", false),
            ("a.example/gateway/server@3", "server@2", false),
            ("a.example/gateway/server", "a.example/gateway/server", true),
            ("a.example/gateway/pg@2", "pg", true),
        ] {
            assert_eq!(crate::is_called(origin, name), meant, "{origin} {name}");
        }
    }

    #[test]
    fn a_number_alone_is_a_name_and_no_second_log() {
        let origin = Origin::new("@2").unwrap();
        assert_eq!(origin.place(), ("@2", 1));
        let second = Origin::new("@2@2").unwrap();
        assert_eq!(second.place(), ("@2", 2));
    }

    #[test]
    fn a_ledger_is_of_the_trust_domain_that_its_name_begins_with() {
        for origin in ["a.example/server@2", "a.example/gateway/b/c", "a.example"] {
            assert_eq!(trust_domain(origin), "a.example");
        }
    }
}
