//! An OpenID provider that signs whatever an attacker wants.

use crypto::jws::es256_from_der;
use crypto::{Algorithm, KeyPair, Signer as _};
use facts::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A provider whose key is in the test's hands.
pub(crate) struct Forger {
    pub(crate) issuer: String,
    pub(crate) key: KeyPair,
    pub(crate) asked: Arc<AtomicUsize>,
}

impl Forger {
    pub(crate) async fn start() -> Self {
        Self::slow(Duration::ZERO).await
    }

    /// One that takes so long for each answer.
    pub(crate) async fn slow(delay: Duration) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let key = KeyPair::generate(Algorithm::EcdsaP256).unwrap();
        let (x, y) = key.public_key().xy().unwrap();
        let keys = json!({ "keys": [{
            "kty": "EC", "crv": "P-256", "kid": "k1", "use": "sig",
            "x": crypto::base64::encode_url(x), "y": crypto::base64::encode_url(y),
        }] });
        let metadata = json!({
            "issuer": issuer,
            "authorization_endpoint": format!("{issuer}/auth"),
            "token_endpoint": format!("{issuer}/token"),
            "jwks_uri": format!("{issuer}/jwks"),
        });
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = [0; 4_096];
                let count = stream.read(&mut head).await.unwrap_or(0);
                let head = String::from_utf8_lossy(&head[..count]).into_owned();
                let body = if head.starts_with("GET /jwks ") {
                    counted.fetch_add(1, Ordering::SeqCst);
                    keys.to_string()
                } else {
                    metadata.to_string()
                };
                tokio::time::sleep(delay).await;
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                drop(stream.write_all(answer.as_bytes()).await);
            }
        });
        Self { issuer, key, asked }
    }

    pub(crate) fn claims(&self, subject: &str, nonce: &str) -> Value {
        let now = Timestamp::now().as_secs();
        json!({
            "iss": self.issuer, "sub": subject, "aud": "trilith", "nonce": nonce,
            "iat": now, "exp": now + 600,
        })
    }

    pub(crate) fn signed(&self, header: &Value, claims: &Value) -> String {
        signed_by(&self.key, header, claims)
    }

    pub(crate) fn token(&self, subject: &str, nonce: &str) -> String {
        self.signed(&header(), &self.claims(subject, nonce))
    }
}

pub(crate) fn header() -> Value {
    json!({ "alg": "ES256", "kid": "k1" })
}

pub(crate) fn input(header: &Value, claims: &Value) -> String {
    let encoded = |value: &Value| crypto::base64::encode_url(value.to_string().as_bytes());
    format!("{}.{}", encoded(header), encoded(claims))
}

pub(crate) fn signed_by(key: &KeyPair, header: &Value, claims: &Value) -> String {
    let input = input(header, claims);
    let signature = es256_from_der(&key.sign(input.as_bytes()).unwrap()).unwrap();
    format!("{input}.{}", crypto::base64::encode_url(&signature))
}
