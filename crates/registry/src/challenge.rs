//! What a registry says that it wants to see: `WWW-Authenticate` (RFC 9110, section 11.6.1; the token flow of
//! distribution). Hostile: whoever answers may point anywhere.

use http::{HeaderMap, header};

const LONGEST: usize = 4096;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    Basic,
    Bearer {
        realm: String,
        service: Option<String>,
    },
}

impl Challenge {
    /// The first that is understood; a token before a password.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(header::WWW_AUTHENTICATE).iter();
        let read: Vec<Self> = values
            .filter_map(|value| value.to_str().ok())
            .filter(|text| text.len() <= LONGEST)
            .filter_map(parse)
            .collect();
        let bearer = read.iter().find(|one| matches!(one, Self::Bearer { .. }));
        bearer.or(read.first()).cloned()
    }
}

fn parse(text: &str) -> Option<Challenge> {
    let (scheme, rest) = match text.split_once(' ') {
        Some((scheme, rest)) => (scheme, rest),
        None => (text, ""),
    };
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let (mut realm, mut service) = (None, None);
    for (name, value) in parameters(rest) {
        let place = match name.to_ascii_lowercase().as_str() {
            "realm" => &mut realm,
            "service" => &mut service,
            _ => continue,
        };
        // Said twice, two readers could read two things.
        if place.replace(value).is_some() {
            return None;
        }
    }
    Some(Challenge::Bearer {
        realm: realm?,
        service,
    })
}

/// `name="value"` or `name=value`, with commas between them; up to the first that is neither.
fn parameters(text: &str) -> Vec<(&str, String)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_matches([' ', '\t', ',']);
        let (value, beyond) = match after.strip_prefix('"') {
            Some(quoted) => match unquoted(quoted) {
                Some(read) => read,
                None => break,
            },
            None => {
                let end = after.find(',').unwrap_or(after.len());
                let (value, beyond) = after.split_at(end);
                (value.trim().to_owned(), beyond)
            }
        };
        found.push((name, value));
        rest = beyond;
    }
    found
}

/// Up to the closing quote, and what comes after it.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => value.push(letters.next()?.1),
            letter => value.push(letter),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
        })
    }

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        for (text, read) in [
            (
                r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a:pull,push""#,
                bearer("https://auth.example/token", Some("registry.example")),
            ),
            (r#"bearer scope="a, b=c", realm="x""#, bearer("x", None)),
            (
                r#"Bearer realm="a\"b",service=c"#,
                bearer("a\"b", Some("c")),
            ),
            (r#"Basic realm="Registry""#, Some(Challenge::Basic)),
            ("Basic", Some(Challenge::Basic)),
            // Neither one nor the other, or two of one.
            (r#"Bearer realm="a",realm="b""#, None),
            (r#"Bearer realm="a"#, None),
            ("Bearer", None),
            ("Negotiate abc", None),
            ("", None),
        ] {
            assert_eq!(parse(text), read, "{text}");
        }
    }

    #[test]
    fn a_token_goes_before_a_password_and_noise_is_none() {
        let mut headers = HeaderMap::new();
        for text in ["Basic realm=x", r#"Bearer realm="https://a/t""#] {
            headers.append(header::WWW_AUTHENTICATE, text.parse().unwrap());
        }
        assert_eq!(Challenge::of(&headers), bearer("https://a/t", None));
        let letters = [' ', '"', '\\', '=', ',', 'B', 'e', 'é', '\t'];
        let mut seed = 7_usize;
        for _ in 0..20_000 {
            let mut text = "Bearer ".to_owned();
            for _ in 0..seed % 23 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                text.push(letters[(seed >> 33) % letters.len()]);
            }
            seed = seed.wrapping_add(1);
            drop(parse(&text));
        }
    }
}
