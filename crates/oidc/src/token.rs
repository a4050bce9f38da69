//! ID tokens, judged (OpenID Connect Core 1.0, section 3.1.3.7; RFC 8725). Form first, then the signature,
//! then the claims: nothing that a token says is believed before its key has been found under the issuer
//! that was asked.

use crate::json;
use crate::{Algorithm, KeySet};
use crypto::base64;
use facts::{Finding, Timestamp};
use serde_json::{Map, Value};

/// Longest token. Providers that put a whole directory entry into one come to 8 KiB.
pub const MAX_TOKEN: usize = 16 * 1_024;
const LONGEST_SUBJECT: usize = 255;
const LONGEST_KEY_ID: usize = 256;

/// What the token has to be for.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// To the letter.
    pub issuer: &'a str,
    pub client_id: &'a str,
    /// Another audience that may, and then has to, stand beside the client.
    pub audience: Option<&'a str>,
    /// Names of algorithms that may have signed.
    pub algorithms: &'a [String],
    /// As the request carried it.
    pub nonce: &'a str,
    /// When the nonce was given: no token with it is older.
    pub asked_at: Timestamp,
    /// How far the clocks may be apart.
    pub skew_s: u64,
    /// The person authenticated no longer ago.
    pub max_age_s: Option<u64>,
}

/// Whom the provider names. Made by [`verify`] alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    issuer: String,
    subject: String,
    expires_at: Timestamp,
}

impl Subject {
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The provider's name for the person: never another's, and the same for ever.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    #[must_use]
    pub const fn expires_at(&self) -> Timestamp {
        self.expires_at
    }
}

/// The id of the key that a token names. Nothing of it is authenticated: for finding out whether the key is
/// known, and for nothing else.
///
/// # Errors
/// `OIDC-TOKEN-FORM`, `OIDC-TOKEN-ALGORITHM`, `OIDC-TOKEN-KEY`.
pub fn claimed_key(token: &str, algorithms: &[String]) -> Result<String, Finding> {
    Ok(Parts::split(token)?.header(algorithms)?.key)
}

/// Whom `token` names, if it is all that `expected` asks for.
///
/// # Errors
/// `OIDC-TOKEN-FORM`, `OIDC-TOKEN-ALGORITHM`, `OIDC-TOKEN-KEY`, `OIDC-TOKEN-SIGNATURE`,
/// `OIDC-TOKEN-ISSUER`, `OIDC-TOKEN-AUDIENCE`, `OIDC-TOKEN-EXPIRED`, `OIDC-TOKEN-TIME`, `OIDC-TOKEN-NONCE`,
/// `OIDC-TOKEN-AGE`, `OIDC-TOKEN-SUBJECT`.
pub fn verify(
    token: &str,
    keys: &KeySet,
    expected: &Expected<'_>,
    now: Timestamp,
) -> Result<Subject, Finding> {
    let parts = Parts::split(token)?;
    let header = parts.header(expected.algorithms)?;
    let key = keys.key(&header.key).ok_or_else(|| {
        Finding::new("OIDC-TOKEN-KEY", "the provider has no such key")
            .expected("a key of the provider's JWK set")
            .observed(shown(&header.key))
            .next("log in again: trilith login")
    })?;
    let signature =
        base64::decode_url(parts.signature).map_err(|_| form("the signature is not base64url"))?;
    let algorithm = (header.name.as_str(), header.algorithm);
    if !key.verifies(algorithm, parts.signed.as_bytes(), &signature) {
        return Err(Finding::new(
            "OIDC-TOKEN-SIGNATURE",
            "the provider's key did not sign this token",
        )
        .observed(format!("{} by key {}", header.name, shown(&header.key)))
        .next("log in again; a token that was changed on its way looks like this"));
    }
    let claims =
        base64::decode_url(parts.claims).map_err(|_| form("the claims are not base64url"))?;
    let claims = Claims(json::object(&claims).map_err(|error| form(&error))?);
    claims.issuer(expected.issuer)?;
    claims.audience(expected)?;
    let expires_at = claims.times(expected, now)?;
    claims.nonce(expected.nonce)?;
    claims.age(expected, now)?;
    Ok(Subject {
        issuer: expected.issuer.to_owned(),
        subject: claims.subject()?,
        expires_at,
    })
}

struct Parts<'a> {
    header: &'a str,
    claims: &'a str,
    signature: &'a str,
    /// `header.claims`
    signed: &'a str,
}

struct Header {
    name: String,
    algorithm: Algorithm,
    key: String,
}

impl<'a> Parts<'a> {
    fn split(token: &'a str) -> Result<Self, Finding> {
        if token.len() > MAX_TOKEN {
            return Err(form("it is too long").expected(format!("at most {MAX_TOKEN} bytes")));
        }
        let mut parts = token.split('.');
        let (Some(header), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(form("it is not in compact serialisation"));
        };
        let signed = token
            .get(..header.len() + 1 + claims.len())
            .unwrap_or_default();
        Ok(Self {
            header,
            claims,
            signature,
            signed,
        })
    }

    fn header(&self, algorithms: &[String]) -> Result<Header, Finding> {
        let header =
            base64::decode_url(self.header).map_err(|_| form("the header is not base64url"))?;
        let header = json::object(&header).map_err(|error| form(&error))?;
        let text = |name: &str| header.get(name).and_then(Value::as_str);
        let name = text("alg").unwrap_or_default();
        let allowed = algorithms.iter().any(|allowed| allowed == name);
        let Some(algorithm) = Algorithm::from_name(name).filter(|_| allowed) else {
            return Err(Finding::new(
                "OIDC-TOKEN-ALGORITHM",
                "no token that is signed so is taken",
            )
            .expected(algorithms.join(", "))
            .observed(shown(name))
            .next("name it in `algorithms` under [[oidc]] if the provider signs so; `none` and HMAC are never taken"));
        };
        // RFC 7515, section 4.1.11: who does not understand what is critical has to refuse. Nothing is here.
        if header.contains_key("crit") {
            return Err(form("it has critical headers"));
        }
        // RFC 8725, section 3.11: a token of another type is no ID token.
        if header.contains_key("typ")
            && !text("typ").is_some_and(|typ| typ.eq_ignore_ascii_case("JWT"))
        {
            return Err(form("it is of another type").expected("typ JWT, or none"));
        }
        let named = text("kid").filter(|key| (1..=LONGEST_KEY_ID).contains(&key.len()));
        let key = named.ok_or_else(|| {
            Finding::new("OIDC-TOKEN-KEY", "the token does not name its key")
                .expected(format!(
                    "`kid` in its header, of at most {LONGEST_KEY_ID} bytes"
                ))
                .next("let the provider put a `kid` into its tokens")
        })?;
        Ok(Header {
            name: name.to_owned(),
            algorithm,
            key: key.to_owned(),
        })
    }
}

struct Claims(Map<String, Value>);

impl Claims {
    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str)
    }

    /// RFC 7519, section 2: seconds since the epoch; `None` where the claim is missing.
    fn time(&self, name: &'static str) -> Result<Option<Timestamp>, Finding> {
        let Some(value) = self.0.get(name) else {
            return Ok(None);
        };
        let whole = value.as_u64().map(Timestamp::from_secs);
        let fraction = || {
            let seconds = value.as_f64().filter(|seconds| *seconds >= 0.0)?;
            let duration = std::time::Duration::try_from_secs_f64(seconds).ok()?;
            Some(Timestamp::from_secs(duration.as_secs()))
        };
        whole
            .or_else(fraction)
            // Beyond the year 5138 it is no time of a token.
            .filter(|time| time.as_secs() < 100_000_000_000)
            .map(Some)
            .ok_or_else(|| form(&format!("`{name}` is no time")))
    }

    /// "The Issuer Identifier for the OpenID Provider MUST exactly match the value of the iss Claim."
    fn issuer(&self, expected: &str) -> Result<(), Finding> {
        if self.text("iss") == Some(expected) {
            return Ok(());
        }
        Err(
            Finding::new("OIDC-TOKEN-ISSUER", "the token is of another provider")
                .expected(expected)
                .observed(shown(self.text("iss").unwrap_or("no issuer")))
                .next("log in at the provider that server.toml names"),
        )
    }

    /// "The ID Token MUST be rejected if the ID Token does not list the Client as a valid audience, or if it
    /// contains additional audiences not trusted by the Client."
    fn audience(&self, expected: &Expected<'_>) -> Result<(), Finding> {
        let listed: Option<Vec<&str>> = match self.0.get("aud") {
            Some(Value::String(one)) => Some(vec![one]),
            Some(Value::Array(list)) => list.iter().map(Value::as_str).collect(),
            _ => None,
        };
        let refused = |what: &str| {
            Finding::new("OIDC-TOKEN-AUDIENCE", "the token is for somebody else")
                .expected(match expected.audience {
                    None => format!("aud {}", expected.client_id),
                    Some(audience) => format!("aud {} and {audience}", expected.client_id),
                })
                .observed(what)
                .next("compare `client_id` and `audience` under [[oidc]] with the provider's registration")
        };
        let listed = listed.ok_or_else(|| refused("no audience"))?;
        if !listed.contains(&expected.client_id) {
            return Err(refused("other audiences alone"));
        }
        if expected.audience.is_some_and(|one| !listed.contains(&one)) {
            return Err(refused(
                "not the audience that has to stand beside the client",
            ));
        }
        let known = |one: &&str| *one == expected.client_id || Some(*one) == expected.audience;
        if !listed.iter().all(known) {
            return Err(refused("an audience that nobody here trusts"));
        }
        // "If an azp (authorized party) Claim is present, the Client SHOULD verify that its client_id is the
        // Claim Value"; with several audiences it has to be there.
        match self.0.get("azp") {
            None if listed.len() == 1 => Ok(()),
            None => Err(refused("several audiences and no azp")),
            Some(party) if party == expected.client_id => Ok(()),
            Some(_) => Err(refused("an azp that is another client")),
        }
    }

    /// Returns when it expires.
    fn times(&self, expected: &Expected<'_>, now: Timestamp) -> Result<Timestamp, Finding> {
        let required = |name: &'static str| {
            self.time(name)?
                .ok_or_else(|| form(&format!("`{name}` is missing")))
        };
        let (expires, issued) = (required("exp")?, required("iat")?);
        let skew = expected.skew_s;
        if now >= expires.plus_secs(skew) {
            return Err(Finding::new("OIDC-TOKEN-EXPIRED", "the token has expired")
                .expected(format!("a time before {expires}"))
                .observed(now.to_string())
                .next("log in again: trilith login"));
        }
        let not_before = self.time("nbf")?.unwrap_or(Timestamp::EPOCH);
        let early = issued > now.plus_secs(skew) || not_before > now.plus_secs(skew);
        // A token that is older than the nonce in it does not exist.
        if early || issued.plus_secs(skew) < expected.asked_at || expires < issued {
            return Err(Finding::new(
                "OIDC-TOKEN-TIME",
                "the token was not made in the time of this login",
            )
            .expected(format!("between {} and {now}", expected.asked_at))
            .observed(format!("iat {issued}"))
            .next("compare the clocks of the server and the provider; `skew_s` under [[oidc]] says how far they may be apart"));
        }
        Ok(expires)
    }

    /// "If a nonce value was sent in the Authentication Request, a nonce Claim MUST be present and its value
    /// checked to verify that it is the same value."
    fn nonce(&self, expected: &str) -> Result<(), Finding> {
        let said = self.text("nonce").unwrap_or_default();
        if !expected.is_empty() && crypto::constant_time_eq(said.as_bytes(), expected.as_bytes()) {
            return Ok(());
        }
        Err(
            Finding::new("OIDC-TOKEN-NONCE", "the token was made for another login")
                .expected("the nonce that this server gave for this login")
                .next("log in again: trilith login"),
        )
    }

    /// "If the auth_time Claim was requested … the Client SHOULD check the auth_time Claim value."
    fn age(&self, expected: &Expected<'_>, now: Timestamp) -> Result<(), Finding> {
        let authenticated = self.time("auth_time")?;
        let Some(most) = expected.max_age_s else {
            return Ok(());
        };
        let latest = authenticated.map(|at| at.plus_secs(most).plus_secs(expected.skew_s));
        if latest.is_some_and(|latest| now <= latest) {
            return Ok(());
        }
        Err(Finding::new(
            "OIDC-TOKEN-AGE",
            "the person authenticated at the provider too long ago",
        )
        .expected(format!("auth_time of at most {most} s ago"))
        .observed(authenticated.map_or_else(|| "no auth_time".to_owned(), |at| at.to_string()))
        .next("log in at the provider anew: trilith login"))
    }

    /// "It MUST NOT exceed 255 ASCII characters in length."
    fn subject(&self) -> Result<String, Finding> {
        let plain = |subject: &&str| {
            (1..=LONGEST_SUBJECT).contains(&subject.len())
                && subject.bytes().all(|byte| matches!(byte, 0x20..=0x7e))
        };
        let subject = self.text("sub").filter(plain);
        subject.map(str::to_owned).ok_or_else(|| {
            Finding::new("OIDC-TOKEN-SUBJECT", "the token names nobody")
                .expected("`sub` of 1 to 255 printable ASCII characters")
        })
    }
}

fn form(what: &str) -> Finding {
    Finding::new("OIDC-TOKEN-FORM", "this is no ID token")
        .observed(what.chars().take(200).collect::<String>())
        .next("log in again: trilith login")
}

/// A stranger's words, as they may be shown.
fn shown(text: &str) -> String {
    text.chars()
        .take(64)
        .flat_map(char::escape_default)
        .collect()
}
