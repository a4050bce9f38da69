//! A provider's own description (OpenID Connect Discovery 1.0, section 3), as far as it is used.

use crate::fetch::Address;
use crate::json;
use facts::Finding;
use serde_json::Value;

/// Where things are. INVARIANT: of the issuer that was asked, and each address one that may be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    pub issuer: String,
    pub authorization_endpoint: String,
    pub token_endpoint: String,
    pub jwks_uri: String,
    /// RFC 9207: answers name their issuer.
    pub names_issuer: bool,
}

impl Metadata {
    /// Reads what the provider `issuer` says of itself.
    ///
    /// # Errors
    /// `OIDC-METADATA`.
    pub fn parse(bytes: &[u8], issuer: &str) -> Result<Self, Finding> {
        let refused = |expected: &str, observed: String| {
            Finding::new("OIDC-METADATA", "the provider's description cannot be used")
                .expected(expected)
                .observed(observed.chars().take(200).collect::<String>())
                .next("compare it with `issuer` under [[oidc]] in server.toml: they have to agree to the letter")
        };
        let said = json::object(bytes).map_err(|error| refused("a JSON object", error))?;
        let text = |name: &str| said.get(name).and_then(Value::as_str);
        // Section 4.3: "The issuer value returned MUST be identical to the Issuer URL that was directly used to
        // retrieve the configuration information."
        if text("issuer") != Some(issuer) {
            let named = text("issuer").unwrap_or("no issuer").to_owned();
            return Err(refused(&format!("issuer {issuer}"), named));
        }
        let address = |name: &str| {
            let value = text(name).unwrap_or_default();
            match Address::parse(value) {
                Ok(_) => Ok(value.to_owned()),
                Err(_) => Err(refused(
                    &format!("`{name}` by https, or by http on this machine"),
                    value.to_owned(),
                )),
            }
        };
        // RFC 7636 with S256 is asked for; one that says what it does has to do it.
        if let Some(Value::Array(methods)) = said.get("code_challenge_methods_supported")
            && !methods.iter().any(|method| method == "S256")
        {
            return Err(refused(
                "S256 among `code_challenge_methods_supported`",
                format!("{} others", methods.len()),
            ));
        }
        Ok(Self {
            issuer: issuer.to_owned(),
            authorization_endpoint: address("authorization_endpoint")?,
            token_endpoint: address("token_endpoint")?,
            jwks_uri: address("jwks_uri")?,
            names_issuer: said.get("authorization_response_iss_parameter_supported")
                == Some(&Value::Bool(true)),
        })
    }

    /// Section 4: where an issuer describes itself.
    #[must_use]
    pub fn address(issuer: &str) -> String {
        let issuer = issuer.trim_end_matches('/');
        format!("{issuer}/.well-known/openid-configuration")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = r#"{"issuer":"https://a.example","authorization_endpoint":"https://a.example/auth",
        "token_endpoint":"https://a.example/token","jwks_uri":"https://a.example/jwks"}"#;

    #[test]
    fn a_description_of_another_issuer_is_refused() {
        let parse = |said: &str| Metadata::parse(said.as_bytes(), "https://a.example");
        assert!(parse(SAID).is_ok());
        for (from, to) in [
            (
                "\"issuer\":\"https://a.example\"",
                "\"issuer\":\"https://a.example/\"",
            ),
            (
                "\"issuer\":\"https://a.example\"",
                "\"issuer\":\"https://b.example\"",
            ),
            ("\"issuer\":\"https://a.example\",", ""),
            ("https://a.example/token", "http://a.example/token"),
            ("https://a.example/jwks", "file:///etc/passwd"),
            ("https://a.example/auth", "https://u@a.example/auth"),
            (
                "{\"issuer\"",
                "{\"code_challenge_methods_supported\":[\"plain\"],\"issuer\"",
            ),
            (
                "{\"issuer\"",
                "{\"issuer\":\"https://b.example\",\"issuer\"",
            ),
        ] {
            let said = SAID.replace(from, to);
            assert_ne!(said, SAID);
            assert_eq!(parse(&said).unwrap_err().code, "OIDC-METADATA", "{to}");
        }
    }
}
