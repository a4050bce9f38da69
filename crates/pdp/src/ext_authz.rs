//! Envoy's `ext_authz`, without gRPC: from the attributes of an HTTP request to a question.
//!
//! The first rule that a request fits says which action on which resource it is; a request that fits none
//! is denied. Who asks Envoy is told by the certificate that it saw, which counts as it would at a gateway.

mod path;

pub use path::plain;

use crate::config::RuleConfig;
use crate::names::shown;
use crate::question::Refused;
use estate::{Action, ResourceRef};
use facts::Finding;

/// What counts of an HTTP request.
#[derive(Debug, Clone, Copy)]
pub struct HttpRequest<'a> {
    pub method: &'a str,
    /// As it was sent: percent-encoded, with the query.
    pub path: &'a str,
    /// With a port or without.
    pub host: &'a str,
}

/// What a request does to what, and the name of the rule that says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapped {
    pub rule: String,
    pub action: Action,
    pub resource: ResourceRef,
}

/// The rules of one configuration, in their order.
#[derive(Debug, Clone)]
pub struct Rules(Vec<RuleConfig>);

impl Rules {
    /// # Errors
    /// `PDP-CONFIG`: a rule that could fit nothing.
    pub fn new(rules: &[RuleConfig]) -> Result<Self, Finding> {
        let example = HttpRequest {
            method: "GET",
            path: "/",
            host: "example.org",
        };
        for (at, rule) in rules.iter().enumerate() {
            let wrong = |what: String| {
                Finding::new(
                    "PDP-CONFIG",
                    format!("ext_authz rule `{}`: {what}", rule.name),
                )
                .next("correct pdp.toml")
            };
            if rules.iter().take(at).any(|other| other.name == rule.name) {
                return Err(wrong("its name is taken".to_owned()));
            }
            let named = rule.name.bytes();
            let named = named.filter(|byte| byte.is_ascii_alphanumeric() || *byte == b'-');
            if rule.name.is_empty() || named.count() != rule.name.len() || rule.name.len() > 64 {
                return Err(wrong(
                    "a name has 1 to 64 letters, digits and `-`".to_owned(),
                ));
            }
            match plain(&rule.path) {
                Ok(path) if path == rule.path => {}
                _ => return Err(wrong("`path` is plain and begins with `/`".to_owned())),
            }
            if rule.host.as_ref().is_some_and(|name| host(name) != *name) {
                return Err(wrong("`host` is lower case, without a port".to_owned()));
            }
            mapped(rule, &example, "/").map_err(|refused| wrong(refused.to_string()))?;
        }
        Ok(Self(rules.to_vec()))
    }

    /// # Errors
    /// `PDP-PATH`, `PDP-ROUTE`, and the codes of [`crate::action`] and [`crate::resource`].
    pub fn map(&self, request: &HttpRequest<'_>) -> Result<Mapped, Refused> {
        let path = plain(request.path)?;
        let host = host(request.host);
        let rule = self
            .0
            .iter()
            .find(|rule| fits(rule, request.method, &host, &path))
            .ok_or_else(|| {
                Refused::unknown(
                    Finding::new("PDP-ROUTE", "no rule says what this request does")
                        .observed(shown(&format!("{} {host}{path}", request.method)))
                        .next("add an [[ext_authz.rule]] to pdp.toml"),
                )
            })?;
        mapped(rule, request, &path)
    }
}

fn fits(rule: &RuleConfig, method: &str, host: &str, path: &str) -> bool {
    let of_host = rule.host.as_ref().is_none_or(|wanted| wanted == host);
    let of_method = rule.methods.is_empty() || rule.methods.iter().any(|wanted| wanted == method);
    of_host && of_method && lies_under(path, &rule.path)
}

/// By whole segments: `/cards` has `/cards/1` under it and not `/cardsharks`.
fn lies_under(path: &str, prefix: &str) -> bool {
    let prefix = prefix.trim_end_matches('/');
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn mapped(rule: &RuleConfig, request: &HttpRequest<'_>, path: &str) -> Result<Mapped, Refused> {
    let id = filled(
        &rule.resource.id,
        &[
            ("{method}", request.method),
            ("{host}", &host(request.host)),
            ("{path}", path),
        ],
    );
    Ok(Mapped {
        rule: rule.name.clone(),
        action: crate::action(&rule.action)?,
        resource: crate::resource(&rule.resource.kind, &id)?,
    })
}

/// Each placeholder by its value as one segment of a resource's path. What a value holds is not read again.
fn filled(template: &str, values: &[(&str, &str)]) -> String {
    let mut out = String::new();
    let mut rest = template;
    while let Some(at) = rest.find('{') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let known = values
            .iter()
            .find_map(|(name, value)| Some((from.strip_prefix(name)?, value)));
        match known {
            Some((after, value)) => {
                out.push_str(&value.replace('%', "%25").replace('/', "%2F"));
                rest = after;
            }
            None => {
                out.push('{');
                rest = from.strip_prefix('{').unwrap_or_default();
            }
        }
    }
    out.push_str(rest);
    out
}

/// Lower case, without the port.
fn host(host: &str) -> String {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    name.to_ascii_lowercase()
}

/// The certificate that Envoy puts into `source.certificate`: PEM, percent-encoded.
///
/// # Errors
/// `PDP-CERTIFICATE`.
pub fn certificate(encoded: &str) -> Result<Vec<u8>, Refused> {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject as _;
    let wrong = |what: &str| {
        Refused::forbidden(
            Finding::new("PDP-CERTIFICATE", format!("source.certificate {what}"))
                .expected("the peer's certificate as Envoy forwards it")
                .next("set include_peer_certificate in Envoy's ext_authz filter, and have its listener require client certificates"),
        )
    };
    if encoded.is_empty() {
        return Err(wrong("is missing"));
    }
    let pem = path::decode(encoded).ok_or_else(|| wrong("is not percent-encoded"))?;
    CertificateDer::from_pem_slice(&pem)
        .map(|der| der.to_vec())
        .map_err(|_| wrong("is no PEM"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ResourceConfig;

    fn rule(name: &str, path: &str, methods: &[&str], id: &str) -> RuleConfig {
        RuleConfig {
            name: name.to_owned(),
            host: None,
            path: path.to_owned(),
            methods: methods.iter().map(|&method| method.to_owned()).collect(),
            action: "select".to_owned(),
            resource: ResourceConfig {
                kind: "table".to_owned(),
                id: id.to_owned(),
            },
        }
    }

    fn map(rules: &[RuleConfig], method: &str, path: &str) -> Result<String, String> {
        let rules = Rules::new(rules).unwrap();
        let request = HttpRequest {
            method,
            path,
            host: "API.example.org:8443",
        };
        rules
            .map(&request)
            .map(|mapped| format!("{} {} {}", mapped.rule, mapped.action, mapped.resource.path))
            .map_err(|refused| refused.finding.code.to_string())
    }

    #[test]
    fn the_first_rule_that_fits_says_what_a_request_is() {
        let rules = [
            rule("cards", "/cards", &["GET", "HEAD"], "shop/public/cards"),
            rule("all", "/", &["GET"], "shop/{host}/{path}"),
        ];
        for (method, path, expected) in [
            ("GET", "/cards", Ok("cards select shop/public/cards")),
            (
                "GET",
                "/cards/1?x=/../..",
                Ok("cards select shop/public/cards"),
            ),
            ("HEAD", "/c%61rds/", Ok("cards select shop/public/cards")),
            (
                "GET",
                "/cardsharks",
                Ok("all select shop/api.example.org/%2Fcardsharks"),
            ),
            (
                "GET",
                "/a%25b",
                Ok("all select shop/api.example.org/%2Fa%25b"),
            ),
            ("POST", "/cards", Err("PDP-ROUTE")),
            ("get", "/cards", Err("PDP-ROUTE")),
            ("GET", "/x/../cards", Err("PDP-PATH")),
        ] {
            let mapped = map(&rules, method, path);
            let mapped = mapped.as_deref().map_err(String::as_str);
            assert_eq!(mapped, expected, "{method} {path}");
        }
    }

    #[test]
    fn a_rule_of_one_host_is_not_of_another() {
        let mut rules = [rule("cards", "/", &[], "shop/public/cards")];
        rules[0].host = Some("api.example.org".to_owned());
        assert!(map(&rules, "GET", "/").is_ok());
        rules[0].host = Some("other.example.org".to_owned());
        assert_eq!(map(&rules, "GET", "/").unwrap_err(), "PDP-ROUTE");
    }

    #[test]
    fn a_rule_that_could_fit_nothing_is_refused_at_the_start() {
        let good = rule("a", "/", &[], "shop/public/cards");
        for bad in [
            RuleConfig {
                path: "cards".to_owned(),
                ..good.clone()
            },
            RuleConfig {
                path: "/a/../b".to_owned(),
                ..good.clone()
            },
            RuleConfig {
                action: "apply".to_owned(),
                ..good.clone()
            },
            RuleConfig {
                name: "a b".to_owned(),
                ..good.clone()
            },
            rule("b", "/", &[], "shop/cards"),
        ] {
            assert_eq!(Rules::new(&[bad]).unwrap_err().code, "PDP-CONFIG");
        }
        assert!(Rules::new(&[good.clone(), good]).is_err());
    }

    #[test]
    fn what_a_placeholder_holds_is_one_segment_and_is_not_read_again() {
        let values = [("{path}", "/{host}/x"), ("{host}", "h")];
        assert_eq!(
            filled("a/{path}/{host}/{other}{", &values),
            "a/%2F{host}%2Fx/h/{other}{"
        );
    }

    #[test]
    fn a_certificate_is_there_or_the_request_is_denied() {
        for text in ["", "%zz", "no pem", "-----BEGIN%20CERTIFICATE-----"] {
            assert_eq!(
                certificate(text).unwrap_err().finding.code,
                "PDP-CERTIFICATE"
            );
        }
    }
}
