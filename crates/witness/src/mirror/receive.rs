//! One `add-entries` request as it comes: a package is proven and kept before the next one is read, so that what is
//! held of it is one package, however long it is; and what came before it broke off is kept.

use super::gunzip::Gunzip;
use super::{Mirror, MirrorRefused, Session};
use axum::body::Body;
use axum::http::{HeaderMap, header};
use http_body_util::BodyExt as _;
use ledger::NoteSignature;
use ledger::mirror::{ENTRIES_TYPE, Incoming};
use std::sync::Arc;
use std::time::Duration;

/// The next bytes must have come within this time.
const NEXT: Duration = Duration::from_secs(10);
/// Of a request that is refused so much is read and dropped, for so long: a client that is still sending hears why.
const DROPPED: usize = 16 << 20;
const DROPPING: Duration = Duration::from_secs(2);

const BROKEN: &str = "the request ended within a package, and before any was whole";

/// How a body is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Identity,
    Gzip,
}

/// "Mirrors MUST support receiving `Content-Encoding: gzip`". `None` for a kind or encoding that is not read.
pub(crate) fn encoding(headers: &HeaderMap) -> Option<Encoding> {
    let of = |name| {
        headers
            .get(name)
            .map(|value| value.as_bytes().to_ascii_lowercase())
    };
    if of(header::CONTENT_TYPE).is_some_and(|kind| kind != ENTRIES_TYPE.as_bytes()) {
        return None;
    }
    match of(header::CONTENT_ENCODING).as_deref() {
        None | Some(b"identity" | b"") => Some(Encoding::Identity),
        Some(b"gzip" | b"x-gzip") => Some(Encoding::Gzip),
        Some(_) => None,
    }
}

/// What has become of a request so far. Dropped at any point, what was kept is kept.
pub(crate) struct Receiving {
    mirror: Arc<Mirror>,
    incoming: Incoming,
    session: Option<Session>,
    /// Packages that were proven and kept.
    pub(crate) packages: u64,
}

impl Receiving {
    pub(crate) fn new(mirror: Arc<Mirror>) -> Self {
        Self {
            mirror,
            incoming: Incoming::new(),
            session: None,
            packages: 0,
        }
    }

    /// Reads it to its end.
    pub(crate) async fn receive(
        &mut self,
        mut body: Body,
        encoding: Encoding,
    ) -> Result<Vec<NoteSignature>, MirrorRefused> {
        let mut gunzip = (encoding == Encoding::Gzip).then(Gunzip::default);
        let received = self.each(&mut body, &mut gunzip).await;
        if received.is_err() {
            let dropping = tokio::time::timeout(DROPPING, async {
                let mut dropped = 0;
                while let Some(Ok(frame)) = body.frame().await {
                    dropped += frame.data_ref().map_or(0, |data| data.len());
                    if dropped > DROPPED {
                        break;
                    }
                }
            });
            // Whether it came to its end is its sender's affair.
            let _over = dropping.await;
        }
        received
    }

    async fn each(
        &mut self,
        body: &mut Body,
        gunzip: &mut Option<Gunzip>,
    ) -> Result<Vec<NoteSignature>, MirrorRefused> {
        while let Ok(Some(Ok(frame))) = tokio::time::timeout(NEXT, body.frame()).await {
            let Ok(data) = frame.into_data() else {
                continue;
            };
            match gunzip {
                None => self.take(&data).await?,
                Some(gunzip) => {
                    gunzip.push(&data);
                    // No more comes out than one piece at a time is taken.
                    loop {
                        match gunzip.pull() {
                            Ok(Some(piece)) => self.take(&piece).await?,
                            Ok(None) => break,
                            Err(_damaged) => return self.interrupted().await,
                        }
                        if self.incoming.is_whole() {
                            break;
                        }
                    }
                }
            }
            if self.incoming.is_whole() {
                let Some(session) = self.session.clone() else {
                    break;
                };
                return self.off(move |mirror| mirror.finish(&session)).await;
            }
        }
        self.interrupted().await
    }

    /// Bytes of the request, and what is whole by them.
    async fn take(&mut self, bytes: &[u8]) -> Result<(), MirrorRefused> {
        self.incoming.push(bytes);
        if self.session.is_none() {
            let upload = self.incoming.upload().map_err(MirrorRefused::Request)?;
            let Some(upload) = upload.cloned() else {
                return Ok(());
            };
            self.session = Some(self.off(move |mirror| mirror.begin(&upload)).await?);
        }
        loop {
            let (package, session) = match (self.incoming.package(), &self.session) {
                (Ok(Some(package)), Some(session)) => (package, session.clone()),
                (Err(error), _) if self.packages == 0 => return Err(MirrorRefused::Request(error)),
                (Err(_), Some(session)) => {
                    let session = session.clone();
                    let part = self.off(move |mirror| mirror.part(&session)).await?;
                    return Err(MirrorRefused::Part(part));
                }
                _ => return Ok(()),
            };
            self.off(move |mirror| mirror.save(&session, &package))
                .await?;
            self.packages += 1;
        }
    }

    /// The request is over before its end. "If at least one entry package was authenticated and saved, … the mirror
    /// MUST respond with a 202".
    pub(crate) async fn interrupted(&self) -> Result<Vec<NoteSignature>, MirrorRefused> {
        match self.session.clone().filter(|_| self.packages > 0) {
            None => Err(MirrorRefused::Broken(BROKEN)),
            Some(session) => {
                let part = self.off(move |mirror| mirror.part(&session)).await?;
                Err(MirrorRefused::Part(part))
            }
        }
    }

    /// On a thread that may wait for the disk. Whoever asked may go away; what has begun is done to its end.
    async fn off<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Mirror) -> Result<T, MirrorRefused> + Send + 'static,
    ) -> Result<T, MirrorRefused> {
        let mirror = Arc::clone(&self.mirror);
        match tokio::task::spawn_blocking(move || act(&mirror)).await {
            Ok(done) => done,
            Err(_stopped) => Err(MirrorRefused::Store(crate::StoreError::Ended)),
        }
    }
}
