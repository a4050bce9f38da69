//! The session of a person with one server: its file, which holds the key, and connections that are entered
//! with it. The key signs over each connection anew; nothing in it is ever sent.

use crate::arguments::Global;
use crate::{Failure, admin, files};
use crypto::{KeyPair, Signer as _};
use facts::{Finding, Timestamp};
use link::{AnchorsError, Link, LinkError};
use oidc::proof::{Purpose, transcript};
use proto::v1;
use proto::v1::people_client::PeopleClient;
use serde::{Deserialize, Serialize};
use spiffe_core::TrustDomain;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use svid_tls::OwnSvid;
use svid_tls::pin::{Anchors, PinnedAnchors};
use tonic::transport::Channel;

const LONGEST_FILE: u64 = 1 << 20;
const LOGIN: &str =
    "trilith login --admin-server HOST:PORT --issuer URL --trust-domain DOMAIN --pin PIN";

/// As the file has it. What an attacker who can read it gains: the person's session, until it ends; who can
/// write it, a server of its own in the place of the true one for this person.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stored {
    pub(crate) server: String,
    pub(crate) trust_domain: String,
    pub(crate) pin: String,
    /// DER, in Base64.
    pub(crate) roots: Vec<String>,
    pub(crate) ledger_key: String,
    pub(crate) issuer: String,
    pub(crate) person: String,
    /// Unix milliseconds.
    pub(crate) expires: u64,
    /// PKCS #8, in Base64.
    pub(crate) key: String,
}

/// Where the session is kept.
pub(crate) fn path(global: &Global) -> Result<PathBuf, Failure> {
    if let Some(path) = &global.session {
        return Ok(path.clone());
    }
    let folder = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|it| it.is_absolute())
    };
    folder("XDG_STATE_HOME")
        .or_else(|| Some(folder("HOME")?.join(".local/state")))
        .map(|state| state.join("trilith/session.json"))
        .ok_or_else(|| {
            Finding::new("CLI-SESSION", "there is no place to keep a session")
                .expected("HOME or XDG_STATE_HOME in the environment")
                .next("name a file: --session FILE")
                .into()
        })
}

/// Whole or not at all, and for nobody else: the file that takes its place has mode 0600 from the start.
pub(crate) fn keep(path: &Path, session: &Stored) -> Result<(), Failure> {
    if let Some(folder) = path.parent().filter(|it| !it.as_os_str().is_empty()) {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|error| files::unwritable(folder, &error))?;
    }
    let bytes = serde_json::to_vec_pretty(session)
        .map_err(|error| files::unwritable(path, &std::io::Error::other(error)))?;
    files::write(path, &crypto::Zeroizing::new(bytes))
}

pub(crate) fn forget(path: &Path) -> Result<(), Failure> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(files::unwritable(path, &error)),
        _ => Ok(()),
    }
}

/// A session whose file is this user's alone.
pub(crate) struct Session {
    pub(crate) stored: Stored,
    pub(crate) key: KeyPair,
    trust_domain: TrustDomain,
    anchors: Arc<PinnedAnchors>,
}

impl Session {
    /// The session with `server`.
    pub(crate) fn open(server: &str, path: &Path) -> Result<Self, Failure> {
        let metadata = match std::fs::symlink_metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let none = Finding::new("CLI-SESSION", "nobody has logged in here")
                    .expected(format!("a session in {}", path.display()));
                return Err(none.next(LOGIN).into());
            }
            Err(error) => return Err(Failure::unreadable(path, &error)),
        };
        let own = metadata.uid() == rustix::process::geteuid().as_raw();
        if !metadata.is_file() || !own || metadata.mode() & 0o077 != 0 {
            return Err(Finding::new(
                "CLI-SESSION-FILE",
                format!("{} may not be this user's alone", path.display()),
            )
            .expected("a file of this user of mode 0600")
            .observed(format!(
                "owner {}, mode {:04o}",
                metadata.uid(),
                metadata.mode() & 0o7777
            ))
            .next("remove it and log in again; whoever could read it had the session")
            .into());
        }
        let bytes = files::read(path, LONGEST_FILE)?.map(crypto::Zeroizing::new);
        let stored: Option<Stored> = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let unusable = || {
            Finding::new(
                "CLI-SESSION-FILE",
                format!("{} is no session", path.display()),
            )
            .expected("what `trilith login` has written")
            .next("remove it and log in again")
        };
        let stored = stored.ok_or_else(unusable)?;
        if stored.server != server {
            return Err(
                Finding::new("CLI-SESSION", "the session is with another server")
                    .expected(server)
                    .observed(stored.server)
                    .next(LOGIN)
                    .into(),
            );
        }
        if Timestamp::now().as_millis() >= stored.expires {
            return Err(Finding::new("CLI-SESSION", "the session has ended")
                .expected(format!(
                    "a time before {}",
                    Timestamp::from_millis(stored.expires)
                ))
                .next(LOGIN)
                .into());
        }
        let decoded = |text: &str| crypto::base64::decode(text).map_err(|_| unusable());
        let key = crypto::Zeroizing::new(decoded(&stored.key)?);
        let roots = stored.roots.iter().map(|root| decoded(root));
        let anchors = Anchors {
            trust_domain: stored.trust_domain.clone(),
            roots: roots.collect::<Result<_, _>>()?,
            ledger_key: decoded(&stored.ledger_key)?,
        };
        Ok(Self {
            key: KeyPair::from_pkcs8(&key).map_err(|_| unusable())?,
            trust_domain: TrustDomain::new(&stored.trust_domain).map_err(|_| unusable())?,
            anchors: Arc::new(anchors.check(&stored.pin)?),
            stored,
        })
    }

    pub(crate) async fn connect(&self) -> Result<Link, Failure> {
        connect(
            &self.stored.server,
            &self.trust_domain,
            Arc::clone(&self.anchors),
        )
        .await
    }

    /// What shows that this side of `link` holds the key.
    pub(crate) fn proof(&self, link: &Link, purpose: Purpose) -> Result<v1::SessionProof, Failure> {
        let proof = proof(&self.key, &self.trust_domain, link, (purpose, &[]))?;
        Ok(v1::SessionProof {
            key: self.key.public_key().spki_sha256().to_vec(),
            proof,
        })
    }
}

/// A connection to `server` that is the session's.
pub(crate) async fn enter(server: &str, global: &Global) -> Result<Channel, Failure> {
    let session = Session::open(server, &path(global)?)?;
    let link = session.connect().await?;
    let proof = session.proof(&link, Purpose::Enter)?;
    PeopleClient::new(link.channel.clone())
        .enter(proof)
        .await
        .map_err(|status| admin::refusal(&status))?;
    Ok(link.channel)
}

/// A connection that presents nothing, to the server that the anchors lead to.
pub(crate) async fn connect(
    server: &str,
    trust_domain: &TrustDomain,
    anchors: Arc<PinnedAnchors>,
) -> Result<Link, Failure> {
    link::authenticated(server, trust_domain, OwnSvid::empty(), anchors)
        .await
        .map_err(|error| unreachable(server, error))
}

/// A signature by the key over this connection.
pub(crate) fn proof(
    key: &KeyPair,
    trust_domain: &TrustDomain,
    link: &Link,
    (purpose, about): (Purpose, &[u8]),
) -> Result<Vec<u8>, Failure> {
    let digest = key.public_key().spki_sha256();
    let signed = transcript(
        purpose,
        trust_domain.as_str(),
        &link.exporter,
        &digest,
        about,
    );
    key.sign(&signed).map_err(|error| {
        Finding::new("CLI-SESSION", "the session's key cannot sign")
            .observed(error.to_string())
            .next(LOGIN)
            .into()
    })
}

pub(crate) fn unreachable(server: &str, error: LinkError) -> Failure {
    if let LinkError::Peer(finding) = error {
        return finding.into();
    }
    Finding::new("CLI-SERVER-UNREACHABLE", "cannot reach the server")
        .expected(format!("a Trilith server at {server}"))
        .observed(facts::with_causes(&error))
        .next("look at --admin-server HOST:PORT: `listen` in its server.toml says the port")
        .into()
}

pub(crate) fn not_pinned(server: &str, error: AnchorsError) -> Failure {
    match error {
        AnchorsError::Link(error) => unreachable(server, error),
        AnchorsError::Refused(finding) => finding.into(),
        error @ AnchorsError::Status { .. } => {
            let finding = Finding::new("CLI-SERVER-ANSWER", "the server's answer cannot be used");
            finding
                .observed(error.to_string())
                .next("see that --admin-server names a Trilith server")
                .into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn stored() -> Stored {
        Stored {
            server: "127.0.0.1:1".to_owned(),
            trust_domain: "example.org".to_owned(),
            pin: String::new(),
            roots: Vec::new(),
            ledger_key: String::new(),
            issuer: String::new(),
            person: String::new(),
            expires: u64::MAX / 2,
            key: String::new(),
        }
    }

    fn refused(server: &str, path: &Path) -> String {
        let failure = Session::open(server, path).err().unwrap();
        failure.findings()[0].code.to_string()
    }

    #[test]
    fn a_session_that_others_can_read_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/session.json");
        assert_eq!(refused("127.0.0.1:1", &path), "CLI-SESSION");
        keep(&path, &stored()).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        // Replaced whole: nothing else is left beside it.
        keep(&path, &stored()).unwrap();
        assert_eq!(
            std::fs::read_dir(path.parent().unwrap()).unwrap().count(),
            1
        );
        assert_eq!(refused("127.0.0.1:2", &path), "CLI-SESSION");
        for mode in [0o640, 0o604, 0o666] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(
                refused("127.0.0.1:1", &path),
                "CLI-SESSION-FILE",
                "{mode:o}"
            );
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(refused("127.0.0.1:1", &link), "CLI-SESSION-FILE");
        let ended = Stored {
            expires: 1,
            ..stored()
        };
        keep(&path, &ended).unwrap();
        assert_eq!(refused("127.0.0.1:1", &path), "CLI-SESSION");
        forget(&path).unwrap();
        forget(&path).unwrap();
        assert!(!path.exists());
    }
}
