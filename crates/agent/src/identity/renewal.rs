//! The node's SVID, renewed at half life for as long as the agent runs: by the SVID that it has, or by a new join.

use super::kept::{asked, before, newer_bundle};
use super::recorded::{recorded_now, recorded_since};
use super::{Identity, IdentityError, OVER, expired, is_lock, lasts, lock};
use crate::config::{AgentConfig, JoinConfig};
use crate::enclave::Enclave;
use crate::join::{self, Beside, JoinError, refused};
use crate::measured::List;
use crate::node_state::{Blob, Renewal as Pending};
use crate::shared::Shared;
use crate::trust::{self, Current};
use attest::transcript;
use crypto::{KeyPair, Signer};
use facts::{Finding, Timestamp};
use proto::v1;
use proto::v1::node_client::NodeClient;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The longest sleep, so that a changed clock is noticed.
const NAP: Duration = Duration::from_secs(60);
/// However often the server asks for newer evidence.
const AT_MOST_EVERY_S: u64 = 10;
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(300);
/// Nothing renews before there is an identity, and with it what SVIDs are checked with.
const UNCHECKED: JoinError = JoinError::Answer("there is nothing to check it with");

/// Renews the node's SVID for as long as the agent runs.
pub(crate) struct Renewal {
    pub(crate) config: Arc<AgentConfig>,
    pub(crate) identity: Arc<Identity>,
    pub(crate) shared: Arc<Shared>,
}

impl Renewal {
    pub(crate) async fn run(self, stop: CancellationToken) {
        // What was begun before a crash is finished first.
        let mut at = match self.identity.state().renewal {
            Some(_) => Timestamp::now(),
            None => self.half_life(),
        };
        let mut retry = FIRST_RETRY;
        let mut tried = Timestamp::from_millis(0);
        loop {
            let wait = at.since(Timestamp::now()).min(NAP);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
                () = self.identity.stale.notified() => {
                    at = at.min(tried.plus_secs(AT_MOST_EVERY_S));
                }
            }
            if Timestamp::now() < at {
                continue;
            }
            tried = Timestamp::now();
            match self.renew().await {
                Ok(()) => {
                    retry = FIRST_RETRY;
                    at = self.half_life();
                    tracing::info!(node = %self.identity.node_id(), next = %at, "the node's identity was renewed");
                }
                Err(error) => {
                    self.failed(&error);
                    at = later(retry);
                    retry = (retry * 2).min(LAST_RETRY);
                }
            }
        }
    }

    /// Half of the SVID's life, a tenth of it earlier or later.
    fn half_life(&self) -> Timestamp {
        let Some((begin, end)) = self.identity.validity() else {
            return Timestamp::now();
        };
        let life = end.as_millis().saturating_sub(begin.as_millis());
        let spread = (life / 10).max(1);
        let jitter = u64::from_be_bytes(crypto::random()) % spread;
        Timestamp::from_millis(begin.as_millis() + life / 2 - spread / 2 + jitter)
    }

    fn failed(&self, error: &IdentityError) {
        let mut chain = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            chain.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        tracing::warn!(error = %chain, "the node's identity was not renewed");
        match finding(error) {
            Some(finding) if is_lock(finding) => lock(&self.shared, finding),
            Some(finding) => {
                let finding = finding.clone();
                self.shared.quietly(|core| core.turned_away(finding));
            }
            None => {}
        }
    }

    /// By the SVID that the node has. When that is over, it proves itself anew.
    async fn renew(&self) -> Result<(), IdentityError> {
        if !lasts(&self.identity.trust_domain, &self.identity.state()) {
            return self.join_again().await;
        }
        match self.renew_by_svid().await {
            Err(error) if finding(&error).is_some_and(|finding| OVER.contains(&&*finding.code)) => {
                tracing::warn!(%error, "the node's identity is over; joining again");
                self.join_again().await
            }
            renewed => renewed,
        }
    }

    async fn join_again(&self) -> Result<(), IdentityError> {
        let identity = &self.identity;
        if !self.config.can_join_again() {
            return Err(expired(&identity.state()));
        }
        identity.change(asked)?;
        let bundles = Arc::new(Current(Arc::clone(&self.shared)));
        let before = before(&identity.state(), Some(bundles));
        let node = join::join(
            &self.config,
            &identity.trust_domain,
            &identity.directory,
            Some(before),
        )
        .await?;
        let (_, receipts) = self.shared.trusted().ok_or(UNCHECKED)?;
        let mut joined = node.state;
        newer_bundle(&mut joined, &identity.state());
        let learned = recorded_since(receipts, &self.config, &identity.trust_domain, &joined);
        if let (Some(key), Some(witnessing)) = (learned.await?, self.shared.witnessing.get()) {
            witnessing.succeed(key);
        }
        recorded_now(receipts, &identity.trust_domain, &joined)?;
        let bundle = joined.bundle.message(identity.trust_domain.as_str());
        trust::take(&self.shared, &identity.trust_domain, &bundle)
            .map_err(IdentityError::Refused)?;
        let chain = joined.chain.iter().map(|blob| blob.0.clone()).collect();
        identity.change(|state| {
            newer_bundle(&mut joined, state);
            *state = joined;
        })?;
        identity.directory.joined();
        identity.own.set(chain, node.key)?;
        identity.renewed.notify_one();
        Ok(())
    }

    async fn renew_by_svid(&self) -> Result<(), IdentityError> {
        let (pending, key) = self.begin()?;
        let identity = &self.identity;
        let state = identity.state();
        let bundles = Arc::new(Current(Arc::clone(&self.shared)));
        let link = link::authenticated(
            &self.config.server,
            &identity.trust_domain,
            Arc::clone(&identity.own),
            Arc::<Current>::clone(&bundles),
        )
        .await?;
        let spki = key.public_key().spki_der();
        let signed = transcript::renewal(
            identity.trust_domain.as_str(),
            &link.exporter,
            &pending.id.0,
            &state.join_state.0,
            spki,
        );
        let tpm = match &self.config.join {
            JoinConfig::Token { .. } | JoinConfig::Enclave { .. } => None,
            JoinConfig::Tpm {
                tpm,
                ima_list,
                event_log,
                tee,
            } => {
                let beside = Beside {
                    list: List::of(tpm, ima_list.as_deref()),
                    tee: tee.clone(),
                };
                let domain = &identity.trust_domain;
                let evidence =
                    join::tpm_evidence(tpm, beside, domain, &link, bundles.as_ref(), &key);
                let mut evidence = evidence.await?;
                join::named_log(event_log.as_deref(), &mut evidence).await?;
                Some(evidence)
            }
        };
        let enclave = match Enclave::of(&self.config.join) {
            None => None,
            Some(enclave) => {
                let (domain, instance) = (&identity.trust_domain, identity.directory.instance());
                let evidence = enclave.evidence(domain, &link, bundles.as_ref(), instance, &key);
                Some(evidence.await?)
            }
        };
        let request = v1::RenewRequest {
            public_key: spki.to_vec(),
            join_state: state.join_state.0.clone(),
            generation: state.generation,
            renewal_id: pending.id.0.clone(),
            proof: key.sign(&signed)?,
            tpm,
            enclave,
        };
        let joined = NodeClient::new(link.channel)
            .renew(request)
            .await
            .map_err(|status| match refused("Node.Renew", &status) {
                JoinError::Refused(finding) => IdentityError::Refused(finding),
                other => IdentityError::Join(other),
            })?
            .into_inner();
        self.finish(joined, key)
    }

    /// The renewal to make: the one begun before, or a new one, which is durable before its first try.
    /// A key that a TPM vouches for stays in memory unless the state is sealed: after a restart there is a new
    /// join with the same id then.
    fn begin(&self) -> Result<(Pending, Arc<KeyPair>), IdentityError> {
        if let Some(pending) = self.identity.state().renewal
            && !pending.key.0.is_empty()
        {
            let key = Arc::new(KeyPair::from_pkcs8(&pending.key.0)?);
            return Ok((pending, key));
        }
        let key = Arc::new(KeyPair::generate(crypto::Algorithm::EcdsaP256)?);
        let pending = Pending {
            id: Blob(crypto::random::<16>().to_vec()),
            key: Blob(key.to_pkcs8()?.to_vec()),
        };
        self.identity
            .change(|state| state.renewal = Some(pending.clone()))?;
        Ok((pending, key))
    }

    fn finish(&self, joined: v1::Joined, key: Arc<KeyPair>) -> Result<(), IdentityError> {
        if joined.certificate_chain.is_empty() {
            return Err(JoinError::Answer("it has no certificate").into());
        }
        let chain = joined.certificate_chain.clone();
        if let Some(bundle) = &joined.bundle {
            let taken = trust::take(&self.shared, &self.identity.trust_domain, bundle);
            if taken.map_err(IdentityError::Refused)? {
                self.identity.bundle(bundle)?;
            }
        }
        let (bundle, receipts) = self.shared.trusted().ok_or(UNCHECKED)?;
        receipts
            .x509_new(&bundle, &chain, Timestamp::now())
            .map_err(IdentityError::Refused)?;
        self.identity.change(|state| {
            state.chain = joined.certificate_chain.into_iter().map(Blob).collect();
            state.join_state = Blob(joined.join_state);
            state.generation = joined.generation;
            if let Some(renewal) = state.renewal.take() {
                state.key = renewal.key;
            }
        })?;
        self.identity.own.set(chain, key)?;
        self.identity.renewed.notify_one();
        Ok(())
    }
}

fn later(wait: Duration) -> Timestamp {
    let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    let jitter = u64::from_be_bytes(crypto::random()) % (millis / 2).max(1);
    Timestamp::from_millis(Timestamp::now().as_millis() + millis / 2 + jitter)
}

/// What the server, or a check of what it sent, says.
fn finding(error: &IdentityError) -> Option<&Finding> {
    match error {
        IdentityError::Refused(finding) | IdentityError::Join(JoinError::Refused(finding)) => {
            Some(finding)
        }
        _ => None,
    }
}
