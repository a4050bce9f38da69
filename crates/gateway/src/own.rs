//! The gateway's own identity, from the local agent's Workload API, kept renewed.

use arc_swap::ArcSwap;
use crypto::KeyPair;
use facts::Finding;
use hyper_util::rt::TokioIo;
use proto::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use proto::workload::{X509svidRequest, X509svidResponse};
use spiffe_core::{SpiffeId, X509Svid};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use svid_tls::OwnSvid;
use tokio::sync::watch;
use tonic::metadata::MetadataValue;
use tonic::transport::{Endpoint, Uri};

const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(10);

/// What is presented, and whether there is anything to present yet.
#[derive(Clone)]
pub struct OwnIdentity {
    pub svid: Arc<OwnSvid>,
    /// How often it was set.
    pub changed: watch::Receiver<u64>,
    /// Certificates of the issuing authorities that signed it, newest first: whoever shows a leaf alone was
    /// signed by one of them.
    pub issuers: Arc<ArcSwap<Vec<Vec<u8>>>>,
}

/// An authority that is succeeded has signed nothing that is valid once its successor is succeeded.
const MOST_ISSUERS: usize = 4;

/// Follows the Workload API at `socket` for the SVID of `id`, for as long as the task is not aborted.
pub(crate) fn follow(socket: &Path, id: SpiffeId) -> (OwnIdentity, tokio::task::JoinHandle<()>) {
    let svid = OwnSvid::empty();
    let (sender, changed) = watch::channel(0);
    let own = OwnIdentity {
        svid: Arc::clone(&svid),
        changed,
        issuers: Arc::default(),
    };
    let issuers = Arc::clone(&own.issuers);
    let socket = socket.to_owned();
    let task = tokio::spawn(async move {
        let mut wait = FIRST_RETRY;
        loop {
            let before = *sender.borrow();
            match stream(&socket, &id, &svid, &issuers, &sender).await {
                Ok(()) => tracing::info!("the agent ended the stream of this gateway's identity"),
                Err(finding) => tracing::warn!(%finding, "no identity for this gateway"),
            }
            wait = if *sender.borrow() > before {
                FIRST_RETRY
            } else {
                (wait * 2).min(LONGEST_RETRY)
            };
            tokio::time::sleep(wait).await;
        }
    });
    (own, task)
}

async fn stream(
    socket: &Path,
    id: &SpiffeId,
    svid: &OwnSvid,
    issuers: &ArcSwap<Vec<Vec<u8>>>,
    changed: &watch::Sender<u64>,
) -> Result<(), Finding> {
    let failed = |what: String| {
        Finding::new(
            "GATEWAY-WORKLOAD-API",
            "the local agent gives this gateway no identity",
        )
        .expected(id.to_string())
        .observed(what)
        .next("look at the agent's log, and at the estate's assume policies for this identity")
    };
    let path = socket.to_owned();
    let channel = Endpoint::from_static("http://workload.invalid")
        .connect_with_connector(tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move {
                let stream = tokio::net::UnixStream::connect(path).await?;
                Ok::<_, std::io::Error>(TokioIo::new(stream))
            }
        }))
        .await
        .map_err(|error| failed(format!("{}: {error}", socket.display())))?;
    let mut request = tonic::Request::new(X509svidRequest {});
    // SPIFFE_Workload_Endpoint, section 6.
    request
        .metadata_mut()
        .insert("workload.spiffe.io", MetadataValue::from_static("true"));
    let mut responses = SpiffeWorkloadApiClient::new(channel)
        .fetch_x509svid(request)
        .await
        .map_err(|status| failed(status.message().to_owned()))?
        .into_inner();
    while let Some(response) = responses.message().await.map_err(|status| {
        // PermissionDenied in the middle of a stream withdraws everything (Workload API, section 4.5).
        if status.code() == tonic::Code::PermissionDenied {
            svid.clear();
        }
        failed(status.message().to_owned())
    })? {
        remember(issuers, take(response, id, svid).map_err(failed)?);
        changed.send_modify(|count| *count += 1);
    }
    Ok(())
}

fn take(response: X509svidResponse, id: &SpiffeId, own: &OwnSvid) -> Result<Vec<Vec<u8>>, String> {
    let Some(entry) = response
        .svids
        .into_iter()
        .find(|svid| svid.spiffe_id == id.as_str())
    else {
        own.clear();
        return Err("the agent holds other identities for this process, not this one".to_owned());
    };
    let chain =
        X509Svid::parse_concatenated(&entry.x509_svid).map_err(|finding| finding.to_string())?;
    let chain: Vec<Vec<u8>> = chain.chain().map(<[u8]>::to_vec).collect();
    let key = KeyPair::from_pkcs8(&entry.x509_svid_key).map_err(|error| error.to_string())?;
    let issuers = chain.iter().skip(1).cloned().collect();
    own.set(chain, Arc::new(key))
        .map_err(|error| error.to_string())?;
    Ok(issuers)
}

fn remember(issuers: &ArcSwap<Vec<Vec<u8>>>, mut newest: Vec<Vec<u8>>) {
    for older in issuers.load().iter() {
        if !newest.contains(older) {
            newest.push(older.clone());
        }
    }
    newest.truncate(MOST_ISSUERS);
    issuers.store(Arc::new(newest));
}
