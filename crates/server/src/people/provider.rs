//! A provider's keys, held for minutes and fetched by one task at a time.

use crate::config::Oidc;
use facts::Finding;
use oidc::{KeySet, Metadata};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A key that the provider has withdrawn is taken no longer than this.
const FRESH: Duration = Duration::from_secs(300);
/// A provider that does not answer is believed as it was for so long.
const LONGEST: Duration = Duration::from_secs(3_600);
/// Between two questions: an unknown key costs the provider one answer, however many tokens name one.
const REST: Duration = Duration::from_secs(10);
/// Logins that wait for the provider at once.
const PLACES: usize = 64;

pub(super) struct Provider {
    pub(super) terms: Oidc,
    client: oidc::fetch::Client,
    held: Mutex<Held>,
    /// Whoever asks the provider holds it; the others wait for what comes back.
    asking: tokio::sync::Mutex<()>,
    /// Places to wait in: strangers wait here too.
    places: Arc<tokio::sync::Semaphore>,
}

#[derive(Default)]
struct Held {
    keys: Option<(Arc<KeySet>, Instant)>,
    asked: Option<Instant>,
}

impl Provider {
    /// Reads the authorities that certify it: blocks. Connects to nothing.
    pub(super) fn open(terms: &Oidc) -> Result<Self, Finding> {
        Ok(Self {
            client: oidc::fetch::Client::open(terms.ca_file.as_deref())?,
            terms: terms.clone(),
            held: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
            places: Arc::new(tokio::sync::Semaphore::new(PLACES)),
        })
    }

    /// The keys to look for the one called `id` in: those held, if it is among them and they are fresh; else
    /// as the provider has them now, if it was not asked just before.
    pub(super) async fn keys(self: &Arc<Self>, id: &str) -> Result<Arc<KeySet>, Finding> {
        if let Some(keys) = self.fresh(id) {
            return Ok(keys);
        }
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return self.held();
        };
        // By a task of its own: whoever asks and goes away keeps no answer from those who wait.
        let (provider, id) = (Arc::clone(self), id.to_owned());
        let asked = tokio::spawn(async move {
            let _place = place;
            provider.ask(&id).await
        });
        asked.await.unwrap_or_else(|error| {
            Err(
                Finding::new("OIDC-PROVIDER", "the OpenID provider was not asked")
                    .observed(error.to_string())
                    .next("log in again"),
            )
        })
    }

    async fn ask(&self, id: &str) -> Result<Arc<KeySet>, Finding> {
        let _alone = self.asking.lock().await;
        if let Some(keys) = self.fresh(id) {
            return Ok(keys);
        }
        if !self.may_ask() {
            return self.held();
        }
        let fetched = self.fetch().await;
        // Those who waited for an answer that took long do not each ask for another.
        self.lock().asked = Some(Instant::now());
        match fetched {
            Ok(keys) => {
                let keys = Arc::new(keys);
                self.lock().keys = Some((Arc::clone(&keys), Instant::now()));
                Ok(keys)
            }
            Err(finding) => {
                tracing::warn!(issuer = %self.terms.issuer, %finding, "the keys of an OpenID provider are not to be had");
                self.older().ok_or(finding)
            }
        }
    }

    async fn fetch(&self) -> Result<KeySet, Finding> {
        let issuer = &self.terms.issuer;
        let description = self.client.get(&Metadata::address(issuer)).await?;
        let metadata = Metadata::parse(&description, issuer)?;
        KeySet::parse(&self.client.get(&metadata.jwks_uri).await?)
    }

    fn fresh(&self, id: &str) -> Option<Arc<KeySet>> {
        let held = self.lock();
        let (keys, since) = held.keys.as_ref()?;
        (since.elapsed() < FRESH && keys.has(id)).then(|| Arc::clone(keys))
    }

    /// What it said before, where it is not asked now.
    fn held(&self) -> Result<Arc<KeySet>, Finding> {
        self.older().ok_or_else(|| {
            Finding::new(
                "OIDC-PROVIDER",
                "the OpenID provider gave no answer a moment ago",
            )
            .observed(self.terms.issuer.clone())
            .next(format!("try again in {} s", REST.as_secs()))
        })
    }

    fn older(&self) -> Option<Arc<KeySet>> {
        let held = self.lock();
        let (keys, since) = held.keys.as_ref()?;
        (since.elapsed() < LONGEST).then(|| Arc::clone(keys))
    }

    fn may_ask(&self) -> bool {
        let mut held = self.lock();
        let rested = held.asked.is_none_or(|asked| asked.elapsed() >= REST);
        if rested {
            held.asked = Some(Instant::now());
        }
        rested
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
