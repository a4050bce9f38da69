//! An accepted connection that ends when it has to, whatever its peer does.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

/// `I` says who is on the other side; services find it in their requests. `P` is the connection's place,
/// given back when it ends.
pub(crate) struct Connection<S, I, P> {
    stream: S,
    info: I,
    /// Comes when the connection has to be closed.
    end: Pin<Box<dyn Future<Output = ()> + Send>>,
    ended: bool,
    _place: P,
}

impl<S, I, P> Connection<S, I, P> {
    pub(crate) fn new(
        stream: S,
        info: I,
        place: P,
        end: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        Self {
            stream,
            info,
            end: Box::pin(end),
            ended: false,
            _place: place,
        }
    }
}

impl<S, I: Clone + Send + Sync + 'static, P> Connected for Connection<S, I, P> {
    type ConnectInfo = I;

    fn connect_info(&self) -> I {
        self.info.clone()
    }
}

impl<S: AsyncRead + Unpin, I: Unpin, P: Unpin> AsyncRead for Connection<S, I, P> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // The connection is always being read, so this is seen as soon as it comes.
        self.ended = self.ended || self.end.as_mut().poll(context).is_ready();
        if self.ended {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin, I: Unpin, P: Unpin> AsyncWrite for Connection<S, I, P> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
