//! What the roles of one gateway in one database are called, and how they are known again.
//!
//! A role belongs to the whole cluster. Two gateways, or two databases of one cluster, would set each other's
//! passwords and limits if they shared it: each has roles of its own.

/// Longest name of a role (`NAMEDATALEN` - 1).
const MAX_NAME: usize = 63;

#[derive(Debug, Clone)]
pub(crate) struct Roles {
    trust_domain: String,
    gateway: String,
    database: String,
}

impl Roles {
    pub(crate) fn new(trust_domain: &str, gateway: &str, database: &str) -> Self {
        Self {
            trust_domain: trust_domain.to_owned(),
            gateway: gateway.to_owned(),
            database: database.to_owned(),
        }
    }

    /// `trilith/payments/api@pg-1/shop`; one that is too long is cut and told apart by its digest.
    pub(crate) fn name(&self, identity: &str) -> String {
        let name = format!("trilith/{identity}@{}/{}", self.gateway, self.database);
        if name.len() <= MAX_NAME {
            return name;
        }
        let digest = crypto::hex::encode(&crypto::sha256(name.as_bytes()));
        let kept: String = identity.chars().take(32).collect();
        let digest: String = digest.chars().take(20).collect();
        format!("trilith/{kept}~{digest}")
    }

    /// The comment that says whose a role is: of its parts only the last may hold a colon.
    pub(crate) fn mark(&self, identity: &str) -> String {
        let Self {
            trust_domain,
            gateway,
            database,
        } = self;
        format!("trilith:{trust_domain}:{gateway}:{identity}:{database}")
    }

    /// Whether [`Roles::mark`] made the comment.
    pub(crate) fn own(&self, comment: &str) -> bool {
        let mut parts = comment.splitn(5, ':');
        let mut next_is = |part: &str| parts.next() == Some(part);
        next_is("trilith")
            && next_is(&self.trust_domain)
            && next_is(&self.gateway)
            && parts.nth(1) == Some(&self.database)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_differs_has_a_name_of_its_own() {
        let long = "a/".repeat(60);
        let of = |gateway: &str, database: &str, identity: &str| {
            Roles::new("example.org", gateway, database).name(identity)
        };
        let names = [
            of("pg", "shop", "payments/api"),
            of("pg-2", "shop", "payments/api"),
            of("pg", "stock", "payments/api"),
            of("pg", "shop", &format!("{long}x")),
            of("pg", "shop", &format!("{long}y")),
            of("pg-2", "shop", &format!("{long}y")),
            of("pg", &long, "payments/api"),
        ];
        assert_eq!(names[0], "trilith/payments/api@pg/shop");
        assert!(names.iter().all(|name| name.len() <= MAX_NAME));
        let different: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(different.len(), names.len());
    }

    #[test]
    fn a_role_is_known_by_its_mark_alone() {
        let roles = Roles::new("example.org", "pg", "a");
        assert!(roles.own(&roles.mark("payments/api")));
        let others = [
            Roles::new("example.org", "pg", "a:b"),
            Roles::new("example.org", "pg-2", "a"),
            Roles::new("example.com", "pg", "a"),
        ];
        for other in others {
            assert!(!roles.own(&other.mark("payments/api")));
            assert!(!other.own(&roles.mark("payments/api")));
        }
        assert!(!roles.own("") && !roles.own("trilith:example.org:pg:payments/api"));
    }
}
