//! Asking one registry about one name: who we are where it wants to know, and where it sends us.
//!
//! Credentials are shown to the registry itself and to the places for tokens that the operator named; a token to the
//! registry alone. Wherever a redirect leads, neither goes along.

use crate::challenge::Challenge;
use crate::configuration::Registry;
use crate::exchange::{Answer, Failure, Question, ask};
use crate::origin::{Origin, Reach};
use crate::reference::Reference;
use crypto::{SecretBytes, Zeroizing};
use facts::Finding;
use http::{HeaderValue, StatusCode, header};
use serde::Deserialize;

const MOST_REDIRECTS: usize = 3;
const LONGEST_TOKEN: usize = 64 * 1024;
const JSON: &str = "application/json";

/// What a registry said of something that it was asked for.
pub(crate) enum Had {
    There(Answer),
    /// It has no such thing, or does not speak of such things.
    Absent(StatusCode),
}

pub(crate) struct Session<'a> {
    registry: &'a Registry,
    reference: &'a Reference,
    /// The value of the header, once it was asked for.
    authorization: Option<SecretBytes>,
}

/// As a token service answers; either name is in use.
#[derive(Deserialize)]
struct Granted {
    token: Option<String>,
    access_token: Option<String>,
}

impl<'a> Session<'a> {
    pub(crate) const fn new(registry: &'a Registry, reference: &'a Reference) -> Self {
        Self {
            registry,
            reference,
            authorization: None,
        }
    }

    /// Asks for what stands at `/v2/NAME/` and `path`.
    ///
    /// # Errors
    /// `REGISTRY-ANSWER`, `REGISTRY-LOGIN`, `REGISTRY-REALM`, `REGISTRY-REDIRECT`.
    pub(crate) async fn get(&mut self, path: &str, accept: &'static str) -> Result<Had, Finding> {
        let path = format!(
            "{}/v2/{}/{path}",
            self.registry.prefix,
            self.reference.name()
        );
        let origin = self.registry.origin.clone();
        let mut asked = self.once(&origin, &path, accept).await?;
        if asked.status == StatusCode::UNAUTHORIZED && self.authorization.is_none() {
            self.log_in(&asked).await?;
            asked = self.once(&origin, &path, accept).await?;
        }
        let answer = self.followed(asked, origin, accept).await?;
        match answer.status {
            StatusCode::OK => Ok(Had::There(answer)),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(self.not_let_in(answer.status)),
            status if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS => {
                Ok(Had::Absent(status))
            }
            status => Err(self.unanswered(&format!("it answered {status} for {path}"))),
        }
    }

    async fn once(
        &self,
        origin: &Origin,
        path: &str,
        accept: &'static str,
    ) -> Result<Answer, Finding> {
        let authorization = self.authorization.as_ref();
        let question = Question {
            origin,
            reach: Reach::Any,
            path,
            accept,
            authorization: authorization.map(secret_header).transpose()?,
        };
        let asked = ask(question, &self.registry.tls).await;
        asked.map_err(|failure| self.failed(failure))
    }

    /// Where the answer is a redirect, what stands there, after a few of them.
    async fn followed(
        &self,
        mut answer: Answer,
        mut origin: Origin,
        accept: &'static str,
    ) -> Result<Answer, Finding> {
        let mut redirects = 0;
        while is_redirect(answer.status) {
            redirects += 1;
            if redirects > MOST_REDIRECTS {
                let observed = format!("more than {MOST_REDIRECTS} one after another");
                return Err(self.led_astray(&observed));
            }
            let location = answer.headers.get(header::LOCATION);
            let location = location
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default();
            let (next, path) = self.target(&origin, location)?;
            origin = next;
            let itself = origin == self.registry.origin;
            let named = itself || self.registry.blobs.contains(&origin);
            let question = Question {
                origin: &origin,
                reach: if named { Reach::Any } else { Reach::Public },
                path: &path,
                accept,
                authorization: match &self.authorization {
                    Some(secret) if itself => Some(secret_header(secret)?),
                    _ => None,
                },
            };
            let asked = ask(question, &self.registry.tls).await;
            answer = asked.map_err(|failure| self.failed(failure))?;
        }
        Ok(answer)
    }

    /// Where a redirect leads: a path of the same place, or another place.
    fn target(&self, from: &Origin, location: &str) -> Result<(Origin, String), Finding> {
        if location.starts_with('/') && !location.starts_with("//") {
            return Ok((from.clone(), location.to_owned()));
        }
        let (origin, path) = Origin::parse(location)
            .map_err(|why| self.led_astray(&format!("{}: {why}", short(location))))?;
        Ok((origin, path))
    }

    /// Gets what the registry wants to see.
    async fn log_in(&mut self, asked: &Answer) -> Result<(), Finding> {
        let credentials = self.registry.credentials.as_ref();
        self.authorization = Some(match (Challenge::of(&asked.headers), credentials) {
            (Some(Challenge::Bearer { realm, service }), _) => {
                self.token(&realm, service.as_deref()).await?
            }
            (Some(Challenge::Basic), Some(credentials)) => basic(credentials),
            (Some(Challenge::Basic) | None, _) => return Err(self.not_let_in(asked.status)),
        });
        Ok(())
    }

    /// A token to read this one name, whatever else the challenge asks for.
    async fn token(&self, realm: &str, service: Option<&str>) -> Result<SecretBytes, Finding> {
        let elsewhere = |observed: String| {
            Finding::new(
                "REGISTRY-REALM",
                "the registry wants the credentials shown to somebody else",
            )
            .expected(format!(
                "tokens by {}, or by a place that `token` of its [[registry]] names",
                self.registry.origin.authority()
            ))
            .observed(observed)
            .next("if that is who gives tokens for this registry, add `token = [\"https://HOST\"]` to it")
        };
        let (origin, path) =
            Origin::parse(realm).map_err(|why| elsewhere(format!("{}: {why}", short(realm))))?;
        if origin != self.registry.origin && !self.registry.tokens.contains(&origin) {
            return Err(elsewhere(short(realm)));
        }
        // INVARIANT: what a token may do is said here alone; a scope of the realm's own would stand beside ours.
        if path.contains(['?', '#']) {
            return Err(elsewhere(short(realm))
                .expected("a realm without a query: what is asked for is said here")
                .next("ask whoever runs the registry for a realm without `?`"));
        }
        let mut path = path;
        path.push_str(&format!("?scope=repository:{}:pull", self.reference.name()));
        if let Some(service) = service {
            path.push_str("&service=");
            path.push_str(&encoded(service));
        }
        let credentials = self.registry.credentials.as_ref().map(basic);
        let question = Question {
            origin: &origin,
            reach: Reach::Any,
            path: &path,
            accept: JSON,
            authorization: credentials.as_ref().map(secret_header).transpose()?,
        };
        let asked = ask(question, &self.registry.tls).await;
        let answer = asked.map_err(|failure| self.failed(failure))?;
        if answer.status != StatusCode::OK {
            return Err(self.not_let_in(answer.status));
        }
        let body = answer.whole(LONGEST_TOKEN).await;
        let body = Zeroizing::new(body.map_err(|failure| self.failed(failure))?);
        let granted: Option<Granted> = serde_json::from_slice(&body).ok();
        let token = granted.and_then(|granted| granted.token.or(granted.access_token));
        let token = token.map(Zeroizing::new);
        let token = token.filter(|token| {
            !token.is_empty() && token.bytes().all(|letter| letter.is_ascii_graphic())
        });
        let token = token.ok_or_else(|| self.unanswered("a token service without a token"))?;
        let mut value = b"Bearer ".to_vec();
        value.extend(token.as_bytes());
        Ok(SecretBytes::new(value))
    }

    fn not_let_in(&self, status: StatusCode) -> Finding {
        let with = match &self.registry.credentials {
            Some(_) => "the credentials of its [[registry]]",
            None => "no credentials",
        };
        Finding::new("REGISTRY-LOGIN", "the registry does not let us read this image")
            .expected(format!("{}, readable with {with}", self.reference))
            .observed(status.to_string())
            .next(
                "name a file with USER:PASSWORD, of mode 0600, as `credentials` of its [[registry]], and look \
                 whether that user may read the image",
            )
    }

    fn led_astray(&self, observed: &str) -> Finding {
        Finding::new("REGISTRY-REDIRECT", "the registry sends us where nobody should go")
            .expected("a redirect, at most three of them, over https to a host that is public or named by `blobs`")
            .observed(observed)
            .next("if its blobs are kept there, add `blobs = [\"https://HOST\"]` to its [[registry]]")
    }

    pub(crate) fn unanswered(&self, observed: &str) -> Finding {
        Finding::new(
            "REGISTRY-ANSWER",
            "the registry gives no answer that counts",
        )
        .expected(format!(
            "{} of {}",
            self.reference,
            self.registry.origin.authority()
        ))
        .observed(observed)
        .next("look at `url` and `ca` of its [[registry]], and whether it is reached from here")
    }

    pub(crate) fn failed(&self, failure: Failure) -> Finding {
        match failure {
            Failure::Inside(place) => self.led_astray(&place),
            Failure::TooLong(most) => {
                self.too_long(&format!("an answer of more than {most} bytes"))
            }
            Failure::Other(digest) => other(&digest.to_string()),
            Failure::Disk(error) => crate::kept::unusable(&error.to_string()),
            Failure::Broken(why) => self.unanswered(&why),
        }
    }

    pub(crate) fn too_long(&self, observed: &str) -> Finding {
        Finding::new("REGISTRY-SIZE", "the registry sends more than is taken")
            .expected("blobs of the size that manifests say, within `most_bytes` together")
            .observed(observed)
            .next("if the image is that large, raise `most_bytes` of the registries' file")
    }
}

pub(crate) fn other(observed: &str) -> Finding {
    Finding::new(
        "REGISTRY-DIGEST",
        "the registry sends something else than what was named",
    )
    .expected("bytes with the digest and the size by which they were asked for")
    .observed(observed)
    .next("ask whoever runs the registry; nothing was kept of it")
}

const fn is_redirect(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    )
}

/// hyper's copy ends with the request; it prints it nowhere.
fn secret_header(secret: &SecretBytes) -> Result<HeaderValue, Finding> {
    let value = HeaderValue::from_bytes(secret.expose());
    let mut value = value.map_err(|_| {
        Finding::new(
            "REGISTRY-CREDENTIALS",
            "credentials that no request can carry",
        )
        .expected("letters of ASCII")
        .next("look at the file that `credentials` names")
    })?;
    value.set_sensitive(true);
    Ok(value)
}

fn basic(credentials: &SecretBytes) -> SecretBytes {
    let text = Zeroizing::new(crypto::base64::encode(credentials.expose()));
    let mut value = b"Basic ".to_vec();
    value.extend(text.as_bytes());
    SecretBytes::new(value)
}

fn short(text: &str) -> String {
    text.chars().take(255).collect()
}

fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .take(1024)
        .map(|byte| {
            if plain(byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}
