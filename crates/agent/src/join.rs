//! First contact and joining: pin, then token or TPM, to a [`NodeState`].

use crate::ConfigError;
use crate::config::{AgentConfig, JoinConfig, TeeConfig};
use crate::enclave::Enclave;
use crate::hardware::{self, Hardware};
use crate::measured::List;
use crate::node_state::{Blob, NodeState, StateDir, StateError, StoredBundle};
use attest::transcript;
use attest_tpm::{Challenge, Channel, JoinAnswer};
use crypto::{KeyPair, Signer};
use device::tpm;
use facts::Finding;
use link::{AnchorsError, Link, LinkError};
use proto::v1;
use proto::v1::join_client::JoinClient;
use spiffe_core::TrustDomain;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use svid_tls::{BundleSource, OwnSvid};
use tonic::Status;

/// Longer than any firmware's log; a longer one is cut, and refused.
const LONGEST_LOG: u64 = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("connecting to join")]
    Link(#[from] LinkError),
    #[error("{0}")]
    Refused(Finding),
    #[error("the server's answer to {call}: {code:?} {message}")]
    Status {
        call: &'static str,
        code: tonic::Code,
        message: String,
    },
    #[error("the TPM at {address}")]
    Tpm {
        address: String,
        #[source]
        source: Box<tpm::Error>,
    },
    #[error("the node's key")]
    Key(#[from] crypto::Error),
    #[error("keeping the key to join with")]
    State(#[from] StateError),
    #[error("the server's answer is incomplete: {0}")]
    Answer(&'static str),
}

/// The finding that the server put into the status, if it did.
pub(crate) fn finding_of(status: &Status) -> Option<Finding> {
    serde_json::from_slice(status.details()).ok()
}

pub(crate) fn refused(call: &'static str, status: &Status) -> JoinError {
    finding_of(status).map_or_else(
        || JoinError::Status {
            call,
            code: status.code(),
            message: status.message().to_owned(),
        },
        JoinError::Refused,
    )
}

/// A node that has just joined.
pub(crate) struct Node {
    pub(crate) state: NodeState,
    pub(crate) key: Arc<KeyPair>,
    /// The approved boots of its ring, as the server told them; empty: it told none.
    pub(crate) approvals: Vec<u8>,
}

/// What a machine has from an earlier join.
pub(crate) struct Before {
    /// The bundles and the ledger's key, trusted like the pin. Without them the pin decides, as at first contact.
    pub(crate) anchors: Option<(Arc<dyn BundleSource>, Blob)>,
    pub(crate) join_state: Blob,
    /// Durable before the first try, and the same until it is answered.
    pub(crate) renewal_id: Blob,
}

/// Joins by the configured method. Without anything from before, the pin decides.
pub(crate) async fn join(
    config: &AgentConfig,
    trust_domain: &TrustDomain,
    directory: &StateDir,
    before: Option<Before>,
) -> Result<Node, JoinError> {
    // Before the server is asked for anything: without a token there is nothing to ask.
    if matches!(config.join, JoinConfig::Token { .. }) {
        config.token(before.is_some())?;
    }
    let (kept_anchors, kept) = match before {
        Some(before) => (before.anchors, Some((before.join_state, before.renewal_id))),
        None => (None, None),
    };
    let (bundles, ledger_key) = match kept_anchors {
        Some(anchors) => anchors,
        None => anchors(config, trust_domain).await?,
    };
    let link = link::authenticated(
        &config.server,
        trust_domain,
        OwnSvid::empty(),
        Arc::clone(&bundles),
    )
    .await?;
    if let Some(enclave) = Enclave::of(&config.join) {
        let server = (trust_domain, bundles.as_ref());
        let before = (directory, kept);
        return by_enclave(config, &enclave, link, server, before, ledger_key).await;
    }
    match &config.join {
        // Above.
        JoinConfig::Enclave { .. } => Err(JoinError::Answer("there is no enclave")),
        JoinConfig::Token { .. } => {
            let token = config.token(kept.is_some())?;
            let fresh = || fresh_key().and_then(|key| Ok(Blob(key.to_pkcs8()?.to_vec())));
            let stored = directory.joining(&crypto::sha256(token.as_bytes()), fresh)?;
            let key = Arc::new(KeyPair::from_pkcs8(&stored.0)?);
            let joined = by_token(config, &link, &token, &key).await?;
            let state = node_state(config, ledger_key, stored, joined)?;
            Ok(Node {
                state,
                key,
                approvals: Vec::new(),
            })
        }
        JoinConfig::Tpm {
            tpm,
            ima_list,
            event_log,
            tee,
        } => {
            let key = Arc::new(fresh_key()?);
            let beside = Beside {
                list: List::of(tpm, ima_list.as_deref()),
                tee: tee.clone(),
            };
            let mut finish =
                tpm_evidence(tpm, beside, trust_domain, &link, bundles.as_ref(), &key).await?;
            named_log(event_log.as_deref(), &mut finish).await?;
            if let Some((join_state, renewal_id)) = kept {
                finish.join_state.clone_from(&join_state.0);
                finish.renewal_id.clone_from(&renewal_id.0);
            }
            let joined = JoinClient::new(link.channel)
                .tpm_finish(finish)
                .await
                .map_err(|status| refused("Join.TpmFinish", &status))?
                .into_inner();
            let approvals = joined.approvals.clone();
            // Kept only sealed.
            let stored = Blob(key.to_pkcs8()?.to_vec());
            let state = node_state(config, ledger_key, stored, joined)?;
            Ok(Node {
                state,
                key,
                approvals,
            })
        }
    }
}

/// What the node has, once an enclave has answered over `link`.
async fn by_enclave(
    config: &AgentConfig,
    enclave: &Enclave,
    link: Link,
    (trust_domain, bundles): (&TrustDomain, &dyn BundleSource),
    (directory, kept): (&StateDir, Option<(Blob, Blob)>),
    ledger_key: Blob,
) -> Result<Node, JoinError> {
    let key = Arc::new(fresh_key()?);
    let instance = directory.instance();
    let evidence = enclave.evidence(trust_domain, &link, bundles, instance, &key);
    let mut finish = evidence.await?;
    if let Some((join_state, renewal_id)) = kept {
        finish.join_state.clone_from(&join_state.0);
        finish.renewal_id.clone_from(&renewal_id.0);
    }
    let joined = JoinClient::new(link.channel)
        .enclave_finish(finish)
        .await
        .map_err(|status| refused("Join.EnclaveFinish", &status))?
        .into_inner();
    // Kept in memory alone.
    let stored = Blob(key.to_pkcs8()?.to_vec());
    let state = node_state(config, ledger_key, stored, joined)?;
    Ok(Node {
        state,
        key,
        approvals: Vec::new(),
    })
}

fn fresh_key() -> Result<KeyPair, crypto::Error> {
    KeyPair::generate(crypto::Algorithm::EcdsaP256)
}

/// The pinned anchors, and the ledger key among them.
async fn anchors(
    config: &AgentConfig,
    trust_domain: &TrustDomain,
) -> Result<(Arc<dyn BundleSource>, Blob), JoinError> {
    let (told, pinned) = link::anchors(&config.server, trust_domain, &config.pin)
        .await
        .map_err(not_told)?;
    Ok((Arc::new(pinned), Blob(told.ledger_key)))
}

fn not_told(error: AnchorsError) -> JoinError {
    match error {
        AnchorsError::Link(error) => JoinError::Link(error),
        AnchorsError::Refused(finding) => JoinError::Refused(finding),
        AnchorsError::Status { code, message } => JoinError::Status {
            call: "Join.Anchors",
            code,
            message,
        },
    }
}

/// How the server's ledger went on as new logs: a JSON list of links, or nothing. Only the server itself is heard: one
/// answer of a thief who has a former key would stand against the server's own for good.
pub(crate) async fn lineage(
    config: &AgentConfig,
    trust_domain: &TrustDomain,
    bundles: Arc<dyn BundleSource>,
) -> Result<String, JoinError> {
    let told = link::lineage(&config.server, trust_domain, bundles);
    told.await.map_err(not_told)
}

/// What the server approves for the machines of `ring`, asked for without any identity.
pub(crate) async fn approvals(
    config: &AgentConfig,
    trust_domain: &TrustDomain,
    ring: &str,
) -> Result<Vec<u8>, JoinError> {
    let (bundles, _) = anchors(config, trust_domain).await?;
    let own = OwnSvid::empty();
    let link = link::authenticated(&config.server, trust_domain, own, bundles).await?;
    let request = v1::ApprovalsRequest {
        ring: ring.to_owned(),
    };
    JoinClient::new(link.channel)
        .approvals(request)
        .await
        .map(|answer| answer.into_inner().set)
        .map_err(|status| refused("Join.Approvals", &status))
}

/// Puts the firmware's log that the configuration names into the evidence. One that cannot be read leaves the
/// boot unknown, which is for the server to judge.
pub(crate) async fn named_log(
    path: Option<&Path>,
    finish: &mut v1::TpmFinishRequest,
) -> Result<(), JoinError> {
    let Some(path) = path.map(Path::to_owned) else {
        return Ok(());
    };
    let read = blocking(move || {
        let mut log = Vec::new();
        let file = std::fs::File::open(&path)?;
        file.take(LONGEST_LOG).read_to_end(&mut log)?;
        Ok::<_, std::io::Error>(log)
    })
    .await?;
    match read {
        Ok(log) => finish.event_log = log,
        Err(error) => tracing::warn!(%error, "the event log is not sent"),
    }
    Ok(())
}

async fn by_token(
    config: &AgentConfig,
    link: &Link,
    token: &str,
    key: &KeyPair,
) -> Result<v1::Joined, JoinError> {
    let spki = key.public_key().spki_der();
    let signed = transcript::token_join(
        &config.trust_domain,
        &link.exporter,
        &crypto::sha256(token.as_bytes()),
        spki,
    );
    let request = v1::TokenJoinRequest {
        token: token.to_owned(),
        public_key: spki.to_vec(),
        proof: key.sign(&signed)?,
    };
    JoinClient::new(link.channel.clone())
        .token(request)
        .await
        .map(tonic::Response::into_inner)
        .map_err(|status| refused("Join.Token", &status))
}

/// What a machine shows beside its TPM's answer.
pub(crate) struct Beside {
    /// What the kernel has measured into it.
    pub(crate) list: Option<List>,
    /// Who says what it runs in, if the configuration does.
    pub(crate) tee: Option<TeeConfig>,
}

/// Has the TPM at `address` answer a challenge over `link`, vouching for `key`.
pub(crate) async fn tpm_evidence(
    address: &str,
    beside: Beside,
    trust_domain: &TrustDomain,
    link: &Link,
    bundles: &dyn BundleSource,
    key: &Arc<KeyPair>,
) -> Result<v1::TpmFinishRequest, JoinError> {
    let server = link.server_svid(bundles).map_err(JoinError::Refused)?;
    let channel = Channel {
        trust_domain: trust_domain.as_str().to_owned(),
        server_key: server.public_key.spki_der().to_vec(),
        exporter: link.exporter.to_vec(),
    };
    let failed = |source| JoinError::Tpm {
        address: address.to_owned(),
        source: Box::new(source),
    };
    let Beside { list, tee } = beside;
    let hardware = Hardware::of(address, tee.as_ref());
    let name = address.to_owned();
    // A chip takes seconds: never on an async thread.
    let begun =
        blocking(move || tpm::join::Join::begin(hardware::open(&name, tee.as_ref())?)).await?;
    let mut begun = begun.map_err(failed)?;
    let request = begun.request();
    let challenge = JoinClient::new(link.channel.clone())
        .tpm_challenge(v1::TpmChallengeRequest {
            ek_public: request.ek_public.clone(),
            ek_certificate: request.ek_certificate.clone(),
            ak_public: request.ak_public.clone(),
            ak_certificate: request.ak_certificate.clone(),
            identity_public: request.identity_public.clone(),
        })
        .await
        .map_err(|status| refused("Join.TpmChallenge", &status))?
        .into_inner();
    let session = challenge.session.clone();
    let challenge = read_challenge(challenge)?;
    let key = Arc::clone(key);
    let (answer, tee) = blocking(move || {
        let tee = hardware.map(|hardware| hardware.report(&mut begun, &challenge.nonce));
        let mut answer = begun.answer(&challenge, &channel, Some(key.as_ref()))?;
        // After the quote, so that it holds whatever was quoted.
        answer.ima_list = list.map(|list| list.read()).unwrap_or_default();
        Ok((answer, tee))
    })
    .await?
    .map_err(failed)?;
    let tee = tee.transpose().map_err(JoinError::Refused)?.flatten();
    Ok(v1::TpmFinishRequest {
        tee,
        ..finish(session, answer)
    })
}

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| JoinError::Answer("the TPM's thread ended"))
}

fn read_challenge(challenge: v1::TpmChallenge) -> Result<Challenge, JoinError> {
    let nonce = |bytes: Vec<u8>| {
        <[u8; 32]>::try_from(bytes).map_err(|_| JoinError::Answer("a nonce is not 32 bytes"))
    };
    Ok(Challenge {
        credential_blob: challenge.credential_blob,
        encrypted_secret: challenge.encrypted_secret,
        nonce: nonce(challenge.nonce)?,
        nonce_random: nonce(challenge.nonce_random)?,
        nonce_checkpoint: challenge.nonce_checkpoint,
        pcrs: challenge.pcrs,
    })
}

fn finish(session: Vec<u8>, answer: JoinAnswer) -> v1::TpmFinishRequest {
    v1::TpmFinishRequest {
        session,
        activated_secret: answer.activated_secret,
        quote: answer.quote,
        quote_signature: answer.quote_signature,
        certify: answer.certify,
        certify_signature: answer.certify_signature,
        pcr_values: answer.pcr_values,
        event_log: answer.event_log,
        session_key: answer.session_key,
        session_key_proof: answer.session_key_proof,
        vouch: answer.vouch,
        join_state: Vec::new(),
        renewal_id: Vec::new(),
        ima_list: answer.ima_list,
        tee: None,
    }
}

fn node_state(
    config: &AgentConfig,
    ledger_key: Blob,
    key: Blob,
    joined: v1::Joined,
) -> Result<NodeState, JoinError> {
    let bundle = joined
        .bundle
        .ok_or(JoinError::Answer("it has no trust bundle"))?;
    if joined.certificate_chain.is_empty() {
        return Err(JoinError::Answer("it has no certificate"));
    }
    Ok(NodeState {
        v: 1,
        trust_domain: config.trust_domain.clone(),
        pin: config.pin.clone(),
        ledger_key,
        node_id: joined.node_id,
        key,
        chain: joined.certificate_chain.into_iter().map(Blob).collect(),
        join_state: Blob(joined.join_state),
        generation: joined.generation,
        bundle: StoredBundle::of(&bundle),
        renewal: None,
    })
}
