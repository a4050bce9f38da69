//! Alerts by HTTP: each is one POST, signed, sent again until it is answered with 2xx.

use crate::alert::Alert;
use crate::config::{Config, WebhookConfig, read};
use crate::http::{Address, Trouble};
use facts::{Finding, Timestamp};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

/// Milliseconds after the first failure, twice as many after each, and at most.
const FIRST: u64 = 1_000;
const LONGEST: u64 = 5 * 60 * 1_000;
/// Bytes of an answer's body that would be read; it means nothing.
const ANSWER: usize = 64 * 1024;
const SHORTEST_SECRET: usize = 16;

pub(crate) struct Webhook {
    address: Address,
    secret: crypto::SecretBytes,
    failures: u32,
    /// Not before; Unix milliseconds.
    next: u64,
}

impl Webhook {
    pub(crate) fn open(config: &Config, webhook: &WebhookConfig) -> Result<Self, Finding> {
        let timeout = Duration::from_secs(config.monitor.timeout_s.into());
        let address = Address::new(&webhook.url, webhook.ca_file.as_deref(), timeout, true)?;
        let unusable = |observed: String| {
            Finding::new(
                "MONITOR-SECRET",
                "the secret that signs alerts cannot be used",
            )
            .expected(format!(
                "{SHORTEST_SECRET} bytes or more, in a file that nobody else reads"
            ))
            .observed(format!("{}: {observed}", webhook.secret_file.display()))
            .next("write one, as by `head -c 32 /dev/urandom | base64 > FILE; chmod 600 FILE`")
        };
        let kept =
            std::fs::metadata(&webhook.secret_file).map_err(|error| unusable(error.to_string()))?;
        if kept.permissions().mode() & 0o077 != 0 {
            return Err(unusable(format!(
                "its mode is {:04o}",
                kept.permissions().mode() & 0o7777
            )));
        }
        let mut secret = read(&webhook.secret_file)?;
        if secret.last() == Some(&b'\n') {
            secret.pop();
        }
        if secret.len() < SHORTEST_SECRET {
            return Err(unusable(format!("{} bytes", secret.len())));
        }
        Ok(Self {
            address,
            secret: crypto::SecretBytes::new(secret),
            failures: 0,
            next: 0,
        })
    }

    /// True once the pause after a failure is over.
    pub(crate) const fn is_due(&self, now: Timestamp) -> bool {
        now.as_millis() >= self.next
    }

    /// Sends one alert. An error says why it was not taken, and it is sent again later.
    pub(crate) async fn send(&mut self, alert: &Alert, now: Timestamp) -> Result<(), Finding> {
        let sent = self.post(alert, now).await;
        match sent {
            Ok(()) => {
                self.failures = 0;
                self.next = 0;
                Ok(())
            }
            Err(observed) => {
                let pause = FIRST
                    .saturating_mul(1 << self.failures.min(16))
                    .min(LONGEST);
                self.failures = self.failures.saturating_add(1);
                self.next = now.as_millis().saturating_add(pause);
                Err(
                    Finding::new("MONITOR-WEBHOOK", "an alert was not taken, and waits")
                        .expected(format!("an answer of 2xx from {}", self.address.url))
                        .observed(observed)
                        .next("look at the receiver; alerts are kept in the state and sent again"),
                )
            }
        }
    }

    async fn post(&self, alert: &Alert, now: Timestamp) -> Result<(), String> {
        let body = serde_json::to_vec(alert).map_err(|error| error.to_string())?;
        let mut headers = HeaderMap::new();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        let signature = signature(self.secret.expose(), now.as_secs(), &body);
        let signature = HeaderValue::from_str(&signature).map_err(|error| error.to_string())?;
        headers.insert(HeaderName::from_static("trilith-signature"), signature);
        match self.address.post(headers, body, ANSWER).await {
            Ok(status) if status.is_success() => Ok(()),
            Ok(status) => Err(format!("it answers {status}")),
            Err(Trouble::None(why)) => Err(why),
            Err(Trouble::Slow) => Err("no answer in time".to_owned()),
            Err(Trouble::TooLarge) => Err("an answer without an end".to_owned()),
        }
    }
}

/// `t=<seconds>,v1=<HMAC-SHA256 over "<seconds>.<body>">`: a captured request is not taken for a new one for ever.
fn signature(secret: &[u8], seconds: u64, body: &[u8]) -> String {
    let mut signed = format!("{seconds}.").into_bytes();
    signed.extend_from_slice(body);
    let mac = crypto::hmac_sha256(secret, &signed);
    format!("t={seconds},v1={}", crypto::hex::encode(&mac))
}
