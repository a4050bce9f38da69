//! What the benchmarks of this folder share: a server in a directory of its own, and an estate in force
//! there.

#![allow(dead_code, reason = "each uses what it needs")]

use estate::EstateFiles;
use proto::v1::EstateRequest;
use proto::v1::admin_client::AdminClient;
use std::path::Path;
use tonic::transport::{Channel, Endpoint, Uri};

pub(crate) const DOMAIN: &str = "bench.example";

/// A configuration with all state below `dir`; `more` stands behind it.
pub(crate) fn config(dir: &Path, more: &str) -> server::Config {
    let path = dir.join("server.toml");
    let text = format!(
        "trust_domain = \"{DOMAIN}\"\ndata_dir = \"data\"\nlisten = \"127.0.0.1:0\"\n\
         http_listen = \"127.0.0.1:0\"\n\
         [custody.ca]\nkind = \"file\"\ndir = \"keys/ca\"\n\
         [custody.ledger]\nkind = \"file\"\ndir = \"keys/ledger\"\n{more}"
    );
    std::fs::write(&path, text).unwrap();
    server::Config::load(&path).unwrap()
}

/// An estate in which whoever runs the benchmark is the administrator.
pub(crate) fn estate() -> EstateFiles {
    EstateFiles::bootstrap(DOMAIN, rustix::process::getuid().as_raw())
}

/// Has the server of `dir` apply an estate; the administrator's client.
pub(crate) async fn apply(dir: &Path, files: &EstateFiles) -> AdminClient<Channel> {
    let socket = dir.join("data/admin.sock");
    let channel = Endpoint::from_static("http://admin.invalid")
        .connect_with_connector(tower::service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move {
                let stream = tokio::net::UnixStream::connect(socket).await?;
                Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(stream))
            }
        }))
        .await
        .unwrap();
    let mut admin = AdminClient::new(channel);
    let request = EstateRequest {
        files: files.to_blob(),
        evict: u64::MAX,
        revoke: u64::MAX,
        ..EstateRequest::default()
    };
    admin.estate_apply(request).await.unwrap();
    admin
}

/// What `trilith server status` says.
pub(crate) async fn status(admin: &mut AdminClient<Channel>) -> serde_json::Value {
    let status = admin.status(proto::v1::StatusRequest {}).await.unwrap();
    serde_json::from_str(&status.into_inner().json).unwrap()
}
