//! Accepted connections, each with its caller. Connections beyond the limits are closed at once.

use crate::authority::Inbound;
use crate::limits::{Slot, Slots};
use crate::{Limits, Listener, Source};
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::time::Sleep;
use tokio_stream::Stream;
use tonic::transport::server::Connected;

/// Rest after a failed accept: out of descriptors, most likely.
const REST: Duration = Duration::from_millis(100);

/// Read at once.
const CHUNK: usize = 4096;

/// Who is at the other end of a connection; in the extensions of each of its requests.
pub struct Peer<C> {
    pub caller: Arc<C>,
    /// By the socket's credentials.
    pub uid: u32,
}

impl<C> Clone for Peer<C> {
    fn clone(&self) -> Self {
        Self {
            caller: Arc::clone(&self.caller),
            uid: self.uid,
        }
    }
}

impl<C> fmt::Debug for Peer<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("uid", &self.uid)
            .finish_non_exhaustive()
    }
}

/// A stream of connections for `tonic`'s `serve_with_incoming`. It never fails and never ends.
pub struct Incoming<S: Source> {
    listener: Listener,
    source: Arc<S>,
    slots: Arc<Slots>,
    rest: Option<Pin<Box<Sleep>>>,
}

impl<S: Source> fmt::Debug for Incoming<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("listener", &self.listener)
            .finish_non_exhaustive()
    }
}

impl<S: Source> Incoming<S> {
    #[must_use]
    pub fn new(listener: Listener, source: Arc<S>, limits: &Limits) -> Self {
        Self {
            listener,
            source,
            slots: Slots::new(limits.connections, limits.connections_per_uid),
            rest: None,
        }
    }

    fn admit(&self, stream: UnixStream) -> Option<Connection<S::Caller>> {
        let uid = match stream.peer_cred() {
            Ok(credentials) => credentials.uid(),
            Err(error) => {
                tracing::warn!(%error, "a connection without credentials was closed");
                return None;
            }
        };
        let Some(slot) = self.slots.take(uid) else {
            tracing::warn!(uid, "too many connections; one was closed");
            return None;
        };
        match self.source.identify(&stream) {
            Ok(caller) => Some(Connection {
                stream,
                inbound: Inbound::new(),
                passed: Vec::new(),
                peer: Peer {
                    caller: Arc::new(caller),
                    uid,
                },
                _slot: slot,
            }),
            Err(error) => {
                tracing::warn!(uid, %error, "a caller could not be identified; its connection was closed");
                None
            }
        }
    }
}

impl<S: Source> Stream for Incoming<S> {
    type Item = io::Result<Connection<S::Caller>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(rest) = &mut self.rest {
                ready!(rest.as_mut().poll(context));
                self.rest = None;
            }
            match ready!(self.listener.inner.poll_accept(context)) {
                Ok((stream, _)) => {
                    if let Some(connection) = self.admit(stream) {
                        return Poll::Ready(Some(Ok(connection)));
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    self.rest = Some(Box::pin(tokio::time::sleep(REST)));
                }
            }
        }
    }
}

/// A connection whose caller is known.
pub struct Connection<C> {
    stream: UnixStream,
    inbound: Inbound,
    /// What has passed `inbound` and has not been read yet.
    passed: Vec<u8>,
    peer: Peer<C>,
    _slot: Slot,
}

impl<C> fmt::Debug for Connection<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

impl<C: Send + Sync + 'static> Connected for Connection<C> {
    type ConnectInfo = Peer<C>;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.peer.clone()
    }
}

impl<C> AsyncRead for Connection<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.passed.is_empty() {
            let mut chunk = [0; CHUNK];
            let mut arrived = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut this.stream).poll_read(context, &mut arrived))?;
            if arrived.filled().is_empty() {
                // The end. A frame that was cut short is of no use to anybody.
                return Poll::Ready(Ok(()));
            }
            this.inbound.feed(arrived.filled(), &mut this.passed);
        }
        let length = this.passed.len().min(buffer.remaining());
        buffer.put_slice(this.passed.get(..length).unwrap_or_default());
        this.passed.drain(..length);
        if this.passed.is_empty() {
            // Idle connections hold no buffer.
            this.passed = Vec::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<C> AsyncWrite for Connection<C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, buffer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
