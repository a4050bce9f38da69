//! `trilith login` and `trilith logout`: the authorization code flow with PKCE at a loopback address
//! (RFC 8252, RFC 7636), and a session of a key that is made here and stays here.

mod loopback;

use crate::arguments::{Global, LoginArguments, LogoutArguments};
use crate::session::{self, Session, Stored};
use crate::{Failure, admin, output};
use crypto::{Algorithm, KeyPair, Signer as _};
use facts::{Finding, Timestamp};
use loopback::Loopback;
use oidc::Metadata;
use oidc::fetch::Client;
use oidc::proof::Purpose;
use oidc::redirect::{self, escaped};
use proto::v1;
use proto::v1::people_client::PeopleClient;
use serde::Deserialize;
use serde_json::json;
use spiffe_core::TrustDomain;
use std::sync::Arc;
use std::time::Duration;

pub(crate) async fn login(arguments: LoginArguments, global: &Global) -> Result<(), Failure> {
    let (browser, json) = (arguments.browser, global.json);
    let show = |url: &str| {
        if json {
            output::json(&json!({ "open": url }));
        } else {
            output::note(format_args!(
                "Open this in a browser of this machine:\n\n  {url}\n"
            ));
        }
        if browser {
            open(url);
        }
    };
    log_in(arguments, global, show).await
}

/// `show` gives the person the address to open.
async fn log_in(
    arguments: LoginArguments,
    global: &Global,
    show: impl FnOnce(&str),
) -> Result<(), Failure> {
    let server = server(global)?;
    let path = session::path(global)?;
    let trust_domain = TrustDomain::new(&arguments.trust_domain)
        .map_err(|error| Failure::usage(format!("--trust-domain: {error}")))?;
    let pinned = link::anchors(server, &trust_domain, arguments.pin.trim()).await;
    let (anchors, pinned) = pinned.map_err(|error| session::not_pinned(server, error))?;
    let pinned = Arc::new(pinned);
    let key = KeyPair::generate(Algorithm::EcdsaP256).map_err(anyhow::Error::from)?;
    let public_key = key.public_key().spki_der().to_vec();
    let begin = v1::LoginBegin {
        issuer: arguments.issuer.clone(),
        public_key: public_key.clone(),
    };
    let connected = session::connect(server, &trust_domain, Arc::clone(&pinned)).await?;
    let begun = PeopleClient::new(connected.channel)
        .begin(begin)
        .await
        .map_err(|status| admin::refusal(&status))?
        .into_inner();
    let asked = oidc::proof::nonce(
        trust_domain.as_str(),
        &key.public_key().spki_sha256(),
        &begun.nonce,
    );
    let id_token = crypto::Zeroizing::new(ask(&arguments, &begun, &asked, show).await?);
    // The connection of before may have ended while the person looked for a second factor.
    let connected = session::connect(server, &trust_domain, pinned).await?;
    let about = (Purpose::Login, id_token.as_bytes());
    let finish = v1::LoginFinish {
        issuer: arguments.issuer.clone(),
        public_key,
        nonce: begun.nonce,
        proof: session::proof(&key, &trust_domain, &connected, about)?,
        id_token: id_token.to_string(),
    };
    let done = PeopleClient::new(connected.channel)
        .finish(finish)
        .await
        .map_err(|status| admin::refusal(&status))?
        .into_inner();
    let pkcs8 = key.to_pkcs8().map_err(anyhow::Error::from)?;
    let stored = Stored {
        server: server.to_owned(),
        trust_domain: anchors.trust_domain,
        pin: arguments.pin.trim().to_owned(),
        roots: anchors
            .roots
            .iter()
            .map(|root| crypto::base64::encode(root))
            .collect(),
        ledger_key: crypto::base64::encode(&anchors.ledger_key),
        issuer: arguments.issuer,
        person: done.person,
        expires: done.expires,
        key: crypto::base64::encode(&pkcs8),
    };
    session::keep(&path, &stored)?;
    let until = Timestamp::from_millis(stored.expires);
    if global.json {
        output::json(&json!({
            "person": stored.person, "server": stored.server, "expires": until.to_string(),
            "index": done.index, "session": path,
        }));
    } else {
        output::line(format_args!("{} until {until}", stored.person));
        output::note(format_args!(
            "Ask as this person: export TRILITH_ADMIN_SERVER={server}; end it: trilith logout"
        ));
    }
    Ok(())
}

pub(crate) async fn logout(_: LogoutArguments, global: &Global) -> Result<(), Failure> {
    let server = server(global)?;
    let path = session::path(global)?;
    let session = Session::open(server, &path)?;
    let link = session.connect().await?;
    let proof = session.proof(&link, Purpose::Logout)?;
    let ended = PeopleClient::new(link.channel).logout(proof).await;
    let index = match ended {
        Ok(ended) => Some(ended.into_inner().index),
        // The server has none of it, as after its restart: then there is nothing to end there.
        Err(status) => {
            let failure = admin::refusal(&status);
            if failure
                .findings()
                .iter()
                .all(|finding| finding.code != "SESSION-NONE")
            {
                return Err(failure);
            }
            None
        }
    };
    session::forget(&path)?;
    if global.json {
        output::json(&json!({ "person": session.stored.person, "index": index }));
    } else {
        output::line(format_args!("{} is logged out", session.stored.person));
    }
    Ok(())
}

fn server(global: &Global) -> Result<&str, Failure> {
    global
        .admin_server
        .as_deref()
        .ok_or_else(|| Failure::usage("--admin-server HOST:PORT says where to log in".to_owned()))
}

/// Has the person log in at the provider; the ID token.
async fn ask(
    arguments: &LoginArguments,
    begun: &v1::LoginBegun,
    nonce: &str,
    show: impl FnOnce(&str),
) -> Result<String, Failure> {
    let authorities = arguments.ca_file.clone();
    let client = tokio::task::spawn_blocking(move || Client::open(authorities.as_deref()))
        .await
        .map_err(anyhow::Error::from)??;
    let description = client.get(&Metadata::address(&arguments.issuer)).await?;
    let metadata = Metadata::parse(&description, &arguments.issuer)?;
    let loopback = Loopback::bind().await?;
    let (state, verifier) = (oidc::pkce::verifier(), oidc::pkce::verifier());
    let url = request(
        &metadata,
        begun,
        &loopback.address(),
        (&state, nonce, &verifier),
    );
    show(&url);
    let within = Duration::from_secs(arguments.timeout);
    let answered = tokio::time::timeout(
        within,
        loopback
            .answer(|query| redirect::code(query, &state, &metadata.issuer, metadata.names_issuer)),
    );
    let code = answered.await.map_err(|_| {
        Finding::new("CLI-LOGIN-TIME", "nobody has logged in")
            .expected(format!(
                "the provider's answer within {} s",
                arguments.timeout
            ))
            .next("log in again, with a longer --timeout if need be")
    })??;
    let code = crypto::Zeroizing::new(code);
    let form = [
        ("grant_type", "authorization_code"),
        ("code", &code),
        ("redirect_uri", &loopback.address()),
        ("client_id", &begun.client_id),
        ("code_verifier", &verifier),
    ];
    let form: Vec<String> = form
        .iter()
        .map(|(name, value)| format!("{name}={}", escaped(value)))
        .collect();
    let (status, body) = client
        .post(&metadata.token_endpoint, form.join("&"))
        .await?;
    token(status, &body)
}

/// The address that the person opens (OpenID Connect Core 1.0, section 3.1.2.1).
fn request(
    metadata: &Metadata,
    begun: &v1::LoginBegun,
    redirect_uri: &str,
    (state, nonce, verifier): (&str, &str, &str),
) -> String {
    let challenge = oidc::pkce::challenge(verifier);
    let age = begun.max_age_s.to_string();
    let mut parameters = vec![
        ("response_type", "code"),
        ("scope", "openid"),
        ("client_id", &begun.client_id),
        ("redirect_uri", redirect_uri),
        ("state", state),
        ("nonce", nonce),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ];
    if begun.max_age_s > 0 {
        parameters.push(("max_age", &age));
    }
    let parameters: Vec<String> = parameters
        .iter()
        .map(|(name, value)| format!("{name}={}", escaped(value)))
        .collect();
    let endpoint = &metadata.authorization_endpoint;
    let join = if endpoint.contains('?') { '&' } else { '?' };
    format!("{endpoint}{join}{}", parameters.join("&"))
}

/// Section 3.1.3.3. What the token says is for the server to judge.
fn token(status: u16, body: &[u8]) -> Result<String, Failure> {
    #[derive(Deserialize)]
    struct Answer {
        id_token: Option<String>,
        error: Option<String>,
    }
    let answer: Option<Answer> = serde_json::from_slice(body).ok();
    let error = answer.as_ref().and_then(|answer| answer.error.clone());
    match answer
        .and_then(|answer| answer.id_token)
        .filter(|_| status == 200)
    {
        Some(token) => Ok(token),
        None => Err(
            Finding::new("CLI-LOGIN-TOKEN", "the provider gives no ID token")
                .expected("an answer with `id_token` for a public client with PKCE")
                .observed(match error {
                    Some(error) => format!("status {status}, {}", output::value(&error)),
                    None => format!("status {status}"),
                })
                .next(
                    "compare the client's registration at the provider with docs/operate/people.md",
                )
                .into(),
        ),
    }
}

/// It is printed as well, so that it does not matter if there is none.
fn open(url: &str) {
    let mut command = std::process::Command::new("xdg-open");
    let command = command
        .arg(url)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    match command.spawn() {
        Ok(mut child) => drop(std::thread::spawn(move || child.wait())),
        Err(error) => output::note(format_args!("No browser is opened: xdg-open: {error}")),
    }
}

#[cfg(test)]
mod tests;
