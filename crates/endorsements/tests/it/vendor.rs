//! A service that answers as AMD's and Intel's do, over real TLS by an authority of its own; or as a hostile one
//! would.

#![allow(dead_code, reason = "shared with the tests of the server")]

use crate::der::{Certificate, element, pem, sequence};
use crypto::{Algorithm, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

fn key() -> KeyPair {
    KeyPair::generate(Algorithm::EcdsaP256).unwrap()
}

static AUTHORITY: LazyLock<KeyPair> = LazyLock::new(key);
static KEY: LazyLock<KeyPair> = LazyLock::new(key);

/// What comes back for a path.
#[derive(Clone)]
pub(crate) enum Reply {
    /// Status, headers, body.
    Answer(u16, Vec<(String, String)>, Vec<u8>),
    /// The same after a while.
    Late(Duration, Box<Self>),
    /// A body without an end.
    Endless,
    /// A head without an end.
    EndlessHead,
    /// A byte now and then.
    Drip,
}

impl Reply {
    pub(crate) fn good(body: &[u8]) -> Self {
        Self::Answer(200, Vec::new(), body.to_vec())
    }

    pub(crate) fn chained(body: &[u8], header: &str, chain: &str) -> Self {
        let encoded: String = chain
            .bytes()
            .map(|byte| {
                if byte.is_ascii_alphanumeric() {
                    char::from(byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            })
            .collect();
        Self::Answer(200, vec![(header.to_owned(), encoded)], body.to_vec())
    }

    pub(crate) fn status(status: u16) -> Self {
        Self::Answer(status, Vec::new(), b"no".to_vec())
    }
}

#[derive(Default)]
struct Shared {
    replies: BTreeMap<String, Reply>,
    /// For paths that have none of their own.
    otherwise: Option<Reply>,
    asked: Vec<String>,
}

/// The service. What it was asked is remembered.
#[derive(Clone)]
pub(crate) struct Vendor {
    pub(crate) address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
}

impl Vendor {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let vendor = Self {
            address: listener.local_addr().unwrap(),
            shared: Arc::default(),
        };
        let acceptor = TlsAcceptor::from(Arc::new(tls()));
        let this = vendor.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (this, acceptor) = (this.clone(), acceptor.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        this.serve(stream).await;
                    }
                });
            }
        });
        vendor
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    pub(crate) fn put(&self, path: &str, reply: Reply) {
        let mut shared = self.shared.lock().unwrap();
        shared.replies.insert(path.to_owned(), reply);
    }

    pub(crate) fn otherwise(&self, reply: Reply) {
        let mut shared = self.shared.lock().unwrap();
        shared.replies.clear();
        shared.otherwise = Some(reply);
    }

    /// What it was asked since this was asked last.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.lock().unwrap().asked)
    }

    async fn serve(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(byte) = stream.read_u8().await else {
                return;
            };
            head.push(byte);
        }
        let head = String::from_utf8(head).unwrap();
        let path = head.split(' ').nth(1).unwrap().to_owned();
        let reply = {
            let mut shared = self.shared.lock().unwrap();
            shared.asked.push(path.clone());
            let reply = shared.replies.get(&path);
            let reply = reply.or(shared.otherwise.as_ref()).cloned();
            reply.unwrap_or_else(|| Reply::status(404))
        };
        // Whoever has enough goes away.
        drop(answer(&mut stream, reply).await);
    }
}

async fn answer(stream: &mut (impl AsyncWrite + Unpin), mut reply: Reply) -> std::io::Result<()> {
    while let Reply::Late(wait, inner) = reply {
        tokio::time::sleep(wait).await;
        reply = *inner;
    }
    match reply {
        Reply::Answer(status, headers, body) => {
            let mut head = format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\n", body.len());
            for (name, value) in headers {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(b"\r\n").await?;
            stream.write_all(&body).await?;
        }
        Reply::Endless => {
            stream.write_all(b"HTTP/1.1 200 x\r\n\r\n").await?;
            loop {
                stream.write_all(&[b'x'; 16 * 1024]).await?;
            }
        }
        Reply::EndlessHead => {
            stream.write_all(b"HTTP/1.1 200 x\r\n").await?;
            for number in 0_u64.. {
                let line = format!("x-{number}: {}\r\n", "x".repeat(1000));
                stream.write_all(line.as_bytes()).await?;
            }
        }
        Reply::Drip => {
            stream
                .write_all(b"HTTP/1.1 200 x\r\nContent-Length: 1000\r\n\r\n")
                .await?;
            loop {
                stream.write_all(b"x").await?;
                stream.flush().await?;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Reply::Late(..) => unreachable!(),
    }
    stream.shutdown().await
}

/// PEM of the authority that certifies it.
pub(crate) fn authority() -> String {
    pem(&Certificate::authority("Web", "Web", 1).sign(&AUTHORITY, &AUTHORITY))
}

fn tls() -> rustls::ServerConfig {
    let mut leaf = Certificate::leaf("vendor", "Web", 2);
    let here = element(0x87, &[127, 0, 0, 1]);
    leaf.extensions = vec![(vec![2, 5, 29, 17], false, sequence(&[here]))];
    let chain = vec![CertificateDer::from(leaf.sign(&KEY, &AUTHORITY))];
    let key = PrivatePkcs8KeyDer::from(KEY.to_pkcs8().unwrap().to_vec());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from(key))
        .unwrap()
}
