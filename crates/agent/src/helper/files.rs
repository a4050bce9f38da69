//! `trilith files`: keeps an SVID as files, and tells a program when they change.

use super::folder::{Folder, failed, owner};
use super::{Change, Follow, HelperError, Patience};
use std::path::PathBuf;
use std::process::Stdio;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

#[derive(Debug, Clone)]
pub struct FilesOptions {
    /// `unix:///run/trilith/workload.sock`
    pub socket: String,
    /// SPIFFE ID; by default the first that the agent gives.
    pub identity: Option<String>,
    pub patience: Patience,
    /// Gets `svid.pem`, `key.pem` and `bundle.pem`. Made with mode 0700 if absent; must not be writable by others.
    pub directory: PathBuf,
    /// `user` or `user:group`, by name or number.
    pub owner: Option<String>,
    /// Of the three files: `0o600`.
    pub mode: u32,
    /// Run by `/bin/sh -c` after each change.
    pub reload: Option<String>,
    /// End after the first write.
    pub once: bool,
}

/// Writes the files and, unless `once`, keeps them current until `shutdown`. A withdrawn identity's
/// certificate and key are removed.
///
/// # Errors
/// [`HelperError`] if there is no identity at the start, or the files cannot be written.
pub async fn files(options: &FilesOptions, shutdown: CancellationToken) -> Result<(), HelperError> {
    let owner = options.owner.as_deref().map(owner).transpose()?;
    Folder::make(&options.directory)?;
    let folder = Folder::open(&options.directory, options.mode, owner)?;
    let mut follow = Follow::new(&options.socket, None, options.identity.as_deref());
    let first = tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        first = follow.first(&options.patience) => first?,
    };
    folder.write(&first)?;
    reload(options).await?;
    tracing::info!(identity = %first.spiffe_id, directory = %options.directory.display(), "written");
    if options.once {
        return Ok(());
    }
    loop {
        let change = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            change = follow.next() => change,
        };
        match change {
            Change::Held(svid) => {
                folder.write(&svid)?;
                tracing::info!(identity = %svid.spiffe_id, "written");
            }
            Change::Withdrawn(why) => {
                folder.withdraw()?;
                tracing::warn!(why, "removed");
            }
        }
        reload(options).await?;
    }
}

/// A reload command that fails is told and does not end the service of the files.
async fn reload(options: &FilesOptions) -> Result<(), HelperError> {
    let Some(command) = &options.reload else {
        return Ok(());
    };
    let status = Command::new("/bin/sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .status()
        .await
        .map_err(|error| failed("run", "/bin/sh".as_ref(), error))?;
    if !status.success() {
        tracing::error!(command, %status, "the reload command failed");
    }
    Ok(())
}
