//! The provider's answer, as the browser carries it to the loopback address (RFC 6749, section 4.1.2;
//! RFC 9207).

use facts::Finding;

const LONGEST_QUERY: usize = 8 * 1_024;

/// The code in `query`, if it answers the request that had this state, and of this provider.
///
/// # Errors
/// `OIDC-REDIRECT`; `OIDC-REDIRECT-STATE`: the answer to another request, or forged;
/// `OIDC-REDIRECT-ISSUER`; `OIDC-REDIRECT-DENIED`: the provider, or the person, said no.
pub fn code(query: &str, state: &str, issuer: &str, names_issuer: bool) -> Result<String, Finding> {
    let refused = |what: &str| {
        Finding::new("OIDC-REDIRECT", "this is no answer of a provider")
            .expected("a query with one `code` and one `state`")
            .observed(what)
            .next("log in again: trilith login")
    };
    if query.len() > LONGEST_QUERY {
        return Err(refused("more than 8 KiB"));
    }
    let (mut code, mut said_state, mut said_issuer, mut error) = (None, None, None, None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let slot = match name {
            "code" => &mut code,
            "state" => &mut said_state,
            "iss" => &mut said_issuer,
            "error" => &mut error,
            _ => continue,
        };
        let value = decoded(value).ok_or_else(|| refused("what cannot be decoded"))?;
        if slot.replace(value).is_some() {
            return Err(refused("a parameter twice"));
        }
    }
    // Before anything else: whoever does not know the state did not answer us.
    let known =
        said_state.is_some_and(|said| crypto::constant_time_eq(said.as_bytes(), state.as_bytes()));
    if !known {
        return Err(Finding::new(
            "OIDC-REDIRECT-STATE",
            "the answer is not to the request of this login",
        )
        .expected("the `state` that the request carried")
        .next("log in again, and open no link that somebody sent: trilith login"));
    }
    // RFC 9207, section 2.4: a mix-up of providers shows here.
    let other = said_issuer.as_deref().is_some_and(|said| said != issuer);
    if other || (said_issuer.is_none() && names_issuer) {
        return Err(Finding::new(
            "OIDC-REDIRECT-ISSUER",
            "another provider answered than was asked",
        )
        .expected(issuer)
        .observed(said_issuer.unwrap_or_else(|| "no issuer".to_owned()))
        .next("log in again; tell whoever runs the provider if it stays so"));
    }
    if let Some(error) = error {
        let error: String = error
            .chars()
            .filter(|c| c.is_ascii_graphic())
            .take(64)
            .collect();
        return Err(Finding::new(
            "OIDC-REDIRECT-DENIED",
            "the provider did not log the person in",
        )
        .observed(error)
        .next("log in again: trilith login"));
    }
    code.filter(|code| !code.is_empty())
        .ok_or_else(|| refused("no `code`"))
}

/// application/x-www-form-urlencoded.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let (high, low) = (digit(rest.next())?, digit(rest.next())?);
                u8::try_from(high * 16 + low).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// What may stand in a query or a form without escapes (RFC 3986, section 2.3); all else is escaped.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_answer_to_this_request_is_taken() {
        let take = |query: &str| code(query, "s1", "https://a.example", false);
        assert_eq!(take("code=a%2Bb&state=s1&x=%zz").unwrap(), "a+b");
        assert_eq!(
            take("iss=https%3A%2F%2Fa.example&state=s1&code=c").unwrap(),
            "c"
        );
        for (query, refusal) in [
            ("code=c", "OIDC-REDIRECT-STATE"),
            ("code=c&state=", "OIDC-REDIRECT-STATE"),
            ("code=c&state=s2", "OIDC-REDIRECT-STATE"),
            ("error=access_denied&state=s2", "OIDC-REDIRECT-STATE"),
            ("code=c&state=s1&state=s1", "OIDC-REDIRECT"),
            ("code=c&code=d&state=s1", "OIDC-REDIRECT"),
            ("code=%f&state=s1", "OIDC-REDIRECT"),
            ("code=&state=s1", "OIDC-REDIRECT"),
            ("state=s1", "OIDC-REDIRECT"),
            (
                "code=c&state=s1&iss=https://b.example",
                "OIDC-REDIRECT-ISSUER",
            ),
            ("error=access_denied&state=s1", "OIDC-REDIRECT-DENIED"),
        ] {
            assert_eq!(take(query).unwrap_err().code, refusal, "{query}");
        }
        let silent = code("code=c&state=s1", "s1", "https://a.example", true);
        assert_eq!(silent.unwrap_err().code, "OIDC-REDIRECT-ISSUER");
        let long = format!("code={}&state=s1", "c".repeat(9_000));
        assert_eq!(take(&long).unwrap_err().code, "OIDC-REDIRECT");
    }

    #[test]
    fn what_is_escaped_reads_as_it_was() {
        for text in ["", "a b&c=d%", "https://a.example/?x#y", "€\n"] {
            assert_eq!(decoded(&escaped(text)).as_deref(), Some(text));
        }
    }
}
