//! Names of source repositories, one spelling for each: `github.com/acme/payments`.

/// A repository, and the ref that was named with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Repository {
    pub(crate) name: String,
    pub(crate) reference: Option<String>,
}

const LONGEST: usize = 1024;

impl Repository {
    /// Reads `https://github.com/acme/payments`, `git+https://github.com/acme/payments.git@refs/heads/main`,
    /// `github.com/acme/payments` and the like. Hosts are compared in lower case, paths as they stand.
    /// `None` for other schemes, and for anything with a query, credentials or a path that climbs.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.len() > LONGEST || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return None;
        }
        let text = text.strip_prefix("git+").unwrap_or(text);
        let text = text.strip_prefix("https://").unwrap_or(text);
        let (host, rest) = text.split_once('/')?;
        let (path, reference) = match rest.split_once('@') {
            Some((path, reference)) => (path, Some(reference)),
            None => (rest, None),
        };
        let path = path.trim_end_matches('/');
        let path = path.strip_suffix(".git").unwrap_or(path);
        let host_is_plain = host.contains('.')
            && host
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':'));
        let path_is_plain = !path.contains(['?', '#', '%', '\\', '*', ':'])
            && path
                .split('/')
                .all(|part| !part.is_empty() && part != "." && part != "..");
        let reference = reference.filter(|reference| !reference.is_empty());
        (host_is_plain && path_is_plain).then(|| Self {
            name: format!("{}/{path}", host.to_ascii_lowercase()),
            reference: reference.map(str::to_owned),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Repository;

    #[test]
    fn a_repository_has_one_name() {
        for text in [
            "github.com/acme/payments",
            "https://github.com/acme/payments",
            "https://GitHub.com/acme/payments/",
            "git+https://github.com/acme/payments.git",
        ] {
            let found = Repository::parse(text).unwrap();
            assert_eq!(found.name, "github.com/acme/payments", "{text}");
            assert_eq!(found.reference, None);
        }
        let at = Repository::parse("git+https://github.com/acme/payments@refs/heads/main").unwrap();
        assert_eq!(at.name, "github.com/acme/payments");
        assert_eq!(at.reference.as_deref(), Some("refs/heads/main"));
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_no_name() {
        for text in [
            "",
            "payments",
            "http://github.com/acme/payments",
            "ssh://git@github.com/acme/payments",
            "https://user@github.com/acme/payments",
            "https://github.com/acme/../evil",
            "https://github.com/acme//payments",
            "https://github.com/acme/payments?x=1",
            "https://github.com/acme/pay%2fments",
            "https://github.com/",
            "https://github.com/acme/*",
            "https://github.com/a b",
            "pkg:github/acme/payments",
        ] {
            assert_eq!(Repository::parse(text), None, "{text}");
        }
    }
}
