//! How others name subjects, actions and resources, read into the estate's own words. The one place: an
//! estate with kinds of its own is asked about them as soon as [`ResourceRef`] and [`Action`] read them.

use crate::question::Refused;
use estate::{Action, Chain, MOST_PRINCIPALS, ResourceRef};
use facts::Finding;
use spiffe_core::{SpiffeId, TrustDomain};

/// Bytes of a name. What is longer names nothing.
pub(crate) const LONGEST: usize = 2048;

/// The type of subjects: identities, by path or SPIFFE ID.
pub(crate) const IDENTITY: &str = "identity";
/// The same by SPIFFE ID only.
pub(crate) const SPIFFE: &str = "spiffe";

/// The path of the identity that `kind` and `id` name: `identity` with `payments/api` or a SPIFFE ID, or
/// `spiffe` with a SPIFFE ID.
///
/// # Errors
/// `PDP-SUBJECT-TYPE`, `PDP-SUBJECT`, `PDP-SUBJECT-DOMAIN`.
pub fn subject(trust_domain: &TrustDomain, kind: &str, id: &str) -> Result<String, Refused> {
    if kind != IDENTITY && kind != SPIFFE {
        return Err(Refused::unknown(
            Finding::new("PDP-SUBJECT-TYPE", "subjects are identities")
                .expected("identity, or spiffe")
                .observed(shown(kind)),
        ));
    }
    let wrong = |what: String| {
        Refused::malformed(
            Finding::new("PDP-SUBJECT", what)
                .expected("a path such as payments/api, or a SPIFFE ID")
                .observed(shown(id)),
        )
    };
    if id.starts_with("spiffe:") || kind == SPIFFE {
        let id: SpiffeId = id
            .parse()
            .map_err(|error| wrong(format!("the subject: {error}")))?;
        if !id.is_member_of(trust_domain) || id.is_root() {
            return Err(Refused::unknown(
                Finding::new(
                    "PDP-SUBJECT-DOMAIN",
                    "the subject is of another trust domain",
                )
                .expected(trust_domain.to_string())
                .observed(id.to_string()),
            ));
        }
        return Ok(id.identity_path().to_owned());
    }
    trust_domain
        .identity(id)
        .map_err(|error| wrong(format!("the subject: {error}")))?;
    Ok(id.to_owned())
}

/// The chain of `others`, who began it first, and the identity `path`, which acts for them.
///
/// # Errors
/// `PDP-DELEGATION`, `DELEGATION-CHAIN`, and the codes of [`subject`].
pub(crate) fn chain(
    trust_domain: &TrustDomain,
    others: &[&str],
    path: &str,
) -> Result<Chain, Refused> {
    let wrong = |what: &str| {
        Refused::malformed(
            Finding::new("PDP-DELEGATION", format!("those for whom it acts: {what}"))
                .expected("identities, who began it first, such as people/ada"),
        )
    };
    if others.is_empty() || others.len() >= MOST_PRINCIPALS {
        return Err(wrong("1 to 7 identities"));
    }
    // They are recorded with the answer.
    if others.iter().map(|other| other.len()).sum::<usize>() > LONGEST {
        return Err(wrong("too long for a record"));
    }
    let paths: Vec<String> = others
        .iter()
        .map(|other| subject(trust_domain, IDENTITY, other))
        .collect::<Result<_, _>>()?;
    let whole = paths.iter().map(String::as_str).chain([path]);
    Chain::through(whole).map_err(Refused::malformed)
}

/// The action of that name, a use of a resource. Whether the estate declares it, if the base schema does
/// not, is for the estate to say.
///
/// # Errors
/// `PDP-ACTION`.
pub fn action(name: &str) -> Result<Action, Refused> {
    name.parse::<Action>()
        .ok()
        .filter(|action| action.is_use())
        .ok_or_else(|| {
            Refused::unknown(
                Finding::new("PDP-ACTION", "no use of a resource has such a name")
                    .expected("a name as policies have it, such as select")
                    .observed(shown(name)),
            )
        })
}

/// The resource that `kind` and `id` name: `table` or `Table` with `shop/public/cards`. Whether the estate
/// declares its kind, if the base schema does not, is for the estate to say.
///
/// # Errors
/// `PDP-RESOURCE`.
pub fn resource(kind: &str, id: &str) -> Result<ResourceRef, Refused> {
    let unknown = || {
        Refused::unknown(
            Finding::new("PDP-RESOURCE", "type and id name no resource of the schema")
                .expected("such as type table with id shop/public/cards")
                .observed(format!("{} {}", shown(kind), shown(id))),
        )
    };
    let of_words = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if id.len() > LONGEST || !is_plain(id) || !kind.bytes().all(of_words) {
        return Err(unknown());
    }
    format!("{}::\"{id}\"", type_name(kind))
        .parse()
        .map_err(|_| unknown())
}

/// `tool-server` as Cedar has it: `ToolServer`.
pub(crate) fn type_name(kind: &str) -> String {
    let mut name = String::with_capacity(kind.len());
    for word in kind.split('-') {
        let mut letters = word.chars();
        name.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        name.push_str(letters.as_str());
    }
    name
}

/// As somebody wrote it, for a finding or a record: nothing but plain characters, and not many.
pub(crate) fn shown(text: &str) -> String {
    text.chars()
        .filter(|letter| plain(*letter))
        .take(256)
        .collect()
}

pub(crate) fn is_plain(text: &str) -> bool {
    text.chars().all(plain)
}

/// No control character, and none of those that Unicode keeps from being characters.
fn plain(letter: char) -> bool {
    let code = u32::from(letter);
    let none = code & 0xfffe == 0xfffe || (0xfdd0..=0xfdef).contains(&code);
    !letter.is_control() && !none
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain() -> TrustDomain {
        TrustDomain::new("example.org").unwrap()
    }

    #[test]
    fn a_subject_is_a_path_or_a_spiffe_id_of_this_domain() {
        for (kind, id, expected) in [
            ("identity", "payments/api", Ok("payments/api")),
            (
                "identity",
                "spiffe://example.org/payments/api",
                Ok("payments/api"),
            ),
            (
                "spiffe",
                "spiffe://example.org/payments/api",
                Ok("payments/api"),
            ),
            ("spiffe", "payments/api", Err("PDP-SUBJECT")),
            (
                "identity",
                "spiffe://other.org/payments/api",
                Err("PDP-SUBJECT-DOMAIN"),
            ),
            (
                "identity",
                "spiffe://example.org",
                Err("PDP-SUBJECT-DOMAIN"),
            ),
            ("identity", "", Err("PDP-SUBJECT")),
            ("identity", "a/../b", Err("PDP-SUBJECT")),
            ("identity", "a b", Err("PDP-SUBJECT")),
            ("identity", "SPIFFE://example.org/a", Err("PDP-SUBJECT")),
            ("user", "alice", Err("PDP-SUBJECT-TYPE")),
        ] {
            let read = subject(&domain(), kind, id);
            let read = read
                .as_deref()
                .map_err(|refused| refused.finding.code.as_ref());
            assert_eq!(read, expected, "{kind} {id}");
        }
    }

    #[test]
    fn a_resource_is_read_by_either_spelling_of_its_type() {
        for kind in ["table", "Table"] {
            let read = resource(kind, "shop/public/cards").unwrap();
            assert_eq!(read, ResourceRef::table("shop/public/cards"));
        }
        for (kind, id, name) in [
            ("tool-server", "files", "ToolServer::\"files\""),
            ("route", "api/GET/v1/x", "Route::\"api/GET/v1/x\""),
            ("invoice", "7", "Invoice::\"7\""),
            ("Invoice_line", "7", "Invoice_line::\"7\""),
        ] {
            assert_eq!(resource(kind, id).unwrap().to_string(), name);
        }
        for (kind, id) in [
            ("table", "shop/cards"),
            ("table", "shop/public/cards\n"),
            ("", ""),
            ("admin", "uid:0"),
            ("route", "api/get/x"),
            ("ta ble", "x"),
            ("table::\"x\"", "x"),
            ("table\"", "x"),
            ("table", &"x/".repeat(2_000)),
        ] {
            assert!(resource(kind, id).is_err(), "{kind} {id}");
        }
    }

    #[test]
    fn an_action_is_a_use_of_a_resource() {
        assert_eq!(action("select").unwrap(), Action::Select);
        assert_eq!(action("can_read").unwrap().to_string(), "can_read");
        for name in ["apply", "assume", "SELECT", "can read", ""] {
            assert_eq!(
                action(name).unwrap_err().finding.code,
                "PDP-ACTION",
                "{name}"
            );
        }
    }

    #[test]
    fn what_is_shown_of_a_name_is_short_and_plain() {
        assert_eq!(shown("a\u{1b}[2J\u{fffe}b"), "a[2Jb");
        assert_eq!(shown(&"é".repeat(500)).chars().count(), 256);
    }
}
