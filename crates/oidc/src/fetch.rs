//! A provider, asked over HTTPS within bounds: header and body bytes, one deadline, no redirects. Plain HTTP
//! is for addresses of this machine alone.

use facts::Finding;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// From the first packet to the last byte.
const DEADLINE: Duration = Duration::from_secs(10);
const LONGEST_HEAD: usize = 32 * 1_024;
const MOST_HEADERS: usize = 64;
/// A description has 5 KiB, a key set of the largest providers 20.
const LONGEST_BODY: usize = 256 * 1_024;

/// Where something is, as it may be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    host: String,
    port: u16,
    authority: String,
    path: String,
    /// `None`: plain, to this machine.
    name: Option<ServerName<'static>>,
}

impl Address {
    /// Reads `https://HOST[:PORT]/PATH`, or `http://` with a loopback address in numbers.
    ///
    /// # Errors
    /// `OIDC-ADDRESS`.
    pub fn parse(url: &str) -> Result<Self, Finding> {
        let refused = || {
            Finding::new("OIDC-ADDRESS", "this is no address of a provider")
                .expected("https://HOST[:PORT]/PATH without user and fragment; http://127.0.0.1 for this machine alone")
                .observed(url.chars().take(200).collect::<String>())
                .next("correct `issuer`")
        };
        let uri: Uri = url.parse().map_err(|_| refused())?;
        let authority = uri.authority().ok_or_else(refused)?;
        let named = authority.as_str().len() > authority.host().len();
        if authority.as_str().contains('@')
            || url.contains('#')
            || (named && authority.port_u16().is_none())
        {
            return Err(refused());
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let loopback = host.parse::<IpAddr>().is_ok_and(|it| it.is_loopback());
        let (name, port) = match uri.scheme_str() {
            Some("https") => {
                let name = ServerName::try_from(host.clone()).map_err(|_| refused())?;
                (Some(name), 443)
            }
            Some("http") if loopback => (None, 80),
            _ => return Err(refused()),
        };
        Ok(Self {
            host,
            port: authority.port_u16().unwrap_or(port),
            authority: authority.to_string(),
            path: uri
                .path_and_query()
                .map_or("/", |path| path.as_str())
                .to_owned(),
            name,
        })
    }
}

/// Asks providers, and believes the authorities that it was made with.
#[derive(Clone)]
pub struct Client(Arc<ClientConfig>);

impl Client {
    /// Reads `authorities`, or those of the system: blocks.
    ///
    /// # Errors
    /// `OIDC-CA`.
    pub fn open(authorities: Option<&Path>) -> Result<Self, Finding> {
        let config = crypto::client_trusting(authorities).map_err(|error| {
            Finding::new(
                "OIDC-CA",
                "the authorities that may certify the provider cannot be read",
            )
            .expected(error.expected)
            .observed(error.observed)
            .next("install ca-certificates, or name a file: `ca_file` under [[oidc]], --ca-file of trilith login")
        })?;
        Ok(Self(Arc::new(config)))
    }

    /// The body of a 200 answer.
    ///
    /// # Errors
    /// `OIDC-ADDRESS`, `OIDC-PROVIDER`.
    pub async fn get(&self, url: &str) -> Result<Vec<u8>, Finding> {
        let (status, body) = self.ask(url, None).await?;
        if status == StatusCode::OK {
            return Ok(body);
        }
        Err(failed(url, &format!("status {}", status.as_u16())))
    }

    /// Posts a form; status and body of whatever comes back.
    ///
    /// # Errors
    /// `OIDC-ADDRESS`, `OIDC-PROVIDER`.
    pub async fn post(&self, url: &str, form: String) -> Result<(u16, Vec<u8>), Finding> {
        let (status, body) = self.ask(url, Some(form)).await?;
        Ok((status.as_u16(), body))
    }

    async fn ask(&self, url: &str, form: Option<String>) -> Result<(StatusCode, Vec<u8>), Finding> {
        let address = Address::parse(url)?;
        let asked = self.exchange(&address, form);
        match tokio::time::timeout(DEADLINE, asked).await {
            Ok(answer) => answer.map_err(|what| failed(url, &what)),
            Err(_) => Err(failed(
                url,
                &format!("no answer within {} s", DEADLINE.as_secs()),
            )),
        }
    }

    async fn exchange(
        &self,
        address: &Address,
        form: Option<String>,
    ) -> Result<(StatusCode, Vec<u8>), String> {
        let mut request = Request::builder()
            .uri(address.path.as_str())
            .header(header::HOST, address.authority.as_str())
            .header(header::USER_AGENT, "trilith")
            .header(header::ACCEPT, "application/json")
            .header(header::CONNECTION, "close");
        if form.is_some() {
            request = request
                .method(Method::POST)
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        }
        let request = request
            .body(Full::new(Bytes::from(form.unwrap_or_default())))
            .map_err(|error| error.to_string())?;
        let stream = TcpStream::connect((address.host.as_str(), address.port))
            .await
            .map_err(|error| format!("no connection: {error}"))?;
        let Some(name) = &address.name else {
            return over(stream, request).await;
        };
        let stream = tokio_rustls::TlsConnector::from(Arc::clone(&self.0))
            .connect(name.clone(), stream)
            .await
            .map_err(|error| format!("no TLS: {error}"))?;
        over(stream, request).await
    }
}

async fn over<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Vec<u8>), String> {
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(LONGEST_HEAD)
        .max_headers(MOST_HEADERS)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| format!("no HTTP: {error}"))?;
    // Ends with this function: the answer is read whole, or nobody waits for the rest.
    let mut connection = tokio::task::JoinSet::from_iter([async move { drop(connection.await) }]);
    let answer = sender
        .send_request(request)
        .await
        .map_err(|error| format!("no answer: {error}"))?;
    let (head, mut body) = answer.into_parts();
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| format!("half an answer: {error}"))?;
        let Some(data) = frame.data_ref() else {
            continue;
        };
        if bytes.len() + data.len() > LONGEST_BODY {
            return Err(format!("more than {LONGEST_BODY} bytes"));
        }
        bytes.extend_from_slice(data);
    }
    connection.abort_all();
    Ok((head.status, bytes))
}

fn failed(url: &str, what: &str) -> Finding {
    let url: String = url.chars().take(200).collect();
    Finding::new(
        "OIDC-PROVIDER",
        "the OpenID provider gives no answer that can be used",
    )
    .expected(format!("an answer from {url}"))
    .observed(what)
    .next("see that the provider runs and is reached from here; then log in again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_and_this_machine_are_asked() {
        for good in [
            "https://login.example.org",
            "https://login.example.org:8443/a?b=c",
            "http://127.0.0.1:8080/x",
            "http://[::1]/x",
        ] {
            Address::parse(good).unwrap();
        }
        for bad in [
            "",
            "login.example.org",
            "http://login.example.org",
            "http://localhost",
            "http://127.0.0.1.example",
            "http://169.254.169.254/",
            "ftp://127.0.0.1",
            "file:///etc/passwd",
            "https://u:p@login.example.org",
            "https://login.example.org/#x",
            "https://login.example.org:99999",
        ] {
            assert_eq!(
                Address::parse(bad).unwrap_err().code,
                "OIDC-ADDRESS",
                "{bad}"
            );
        }
    }
}
