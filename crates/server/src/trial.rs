//! A server of one's own, for unit tests.

use crate::{Config, Running};
use std::path::Path;

/// Everything that it keeps is in `dir`.
pub(crate) async fn server(dir: &Path) -> Running {
    let path = dir.join("server.toml");
    let dir = dir.display();
    let text = format!(
        "trust_domain = \"example.org\"\ndata_dir = \"{dir}/data\"\nlisten = \"127.0.0.1:0\"\n\
         http_listen = \"127.0.0.1:0\"\n[custody.ca]\nkind = \"file\"\ndir = \"{dir}/keys/ca\"\n\
         [custody.ledger]\nkind = \"file\"\ndir = \"{dir}/keys/ledger\"\n"
    );
    std::fs::write(&path, text).unwrap();
    crate::start(Config::load(&path).unwrap()).await.unwrap()
}
