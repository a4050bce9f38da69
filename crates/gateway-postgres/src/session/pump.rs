//! Moves bytes between the two sockets and the [`Relay`]. One task owns both sockets and never waits
//! for one while the other could be served, so that neither side can block the other for ever.
//!
//! Memory is bounded: a side is not read while what it sends to the other has not been taken.

use super::relay::{End, Relay};
use bytes::{Buf, BytesMut};
use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};

/// Read at once, at most.
const READ: usize = 64 * 1024;
/// Of what waits to be written to one side; beyond it the other side is not read.
const BACKLOG: usize = 512 * 1024;

#[derive(Debug, thiserror::Error)]
pub(crate) enum PumpError {
    #[error("the client's connection broke")]
    Client(#[source] io::Error),
    #[error("the database's connection broke")]
    Upstream(#[source] io::Error),
    #[error("the client closed the connection")]
    ClientClosed,
    #[error("the database closed the connection")]
    UpstreamClosed,
    #[error(transparent)]
    End(#[from] End),
}

enum Event {
    Client,
    Upstream,
    ClientClosed,
    UpstreamClosed,
}

/// Relays until either side ends.
pub(crate) async fn pump<C, U>(
    client: &mut C,
    upstream: &mut U,
    relay: &mut Relay,
    from_upstream: &mut BytesMut,
) -> PumpError
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let mut from_client = BytesMut::with_capacity(READ);
    let mut released = BytesMut::with_capacity(READ);
    loop {
        let event = poll_fn(|context| {
            step(
                context,
                client,
                upstream,
                relay,
                &mut from_client,
                from_upstream,
                &mut released,
            )
        })
        .await;
        let taken = match event {
            Ok(Event::Client) => relay.take_client(&mut from_client).await,
            Ok(Event::Upstream) => match take_upstream(relay, from_upstream, &mut released).await {
                Ok(()) if relay.may_go_on() => relay.take_client(&mut from_client).await,
                taken => taken,
            },
            Ok(Event::ClientClosed) => return PumpError::ClientClosed,
            Ok(Event::UpstreamClosed) => {
                // What the database said last, the reason above all, still reaches the client, once what
                // became of the rest is durable.
                if relay.cut().await {
                    released.unsplit(relay.to_client.split());
                }
                let _gone = write_all(client, &mut released).await;
                return PumpError::UpstreamClosed;
            }
            Err(error) => return error,
        };
        if let Err(end) = taken {
            return end.into();
        }
    }
}

async fn take_upstream(
    relay: &mut Relay,
    from_upstream: &mut BytesMut,
    released: &mut BytesMut,
) -> Result<(), End> {
    relay.take_upstream(from_upstream)?;
    // INVARIANT: outcomes are durable before their results are released.
    relay.record().await?;
    if !relay.holds() {
        released.extend_from_slice(&relay.to_client);
        relay.to_client.clear();
    }
    Ok(())
}

/// Writes what can be written, then reads what can be read.
fn step<C, U>(
    context: &mut Context<'_>,
    client: &mut C,
    upstream: &mut U,
    relay: &mut Relay,
    from_client: &mut BytesMut,
    from_upstream: &mut BytesMut,
    released: &mut BytesMut,
) -> Poll<Result<Event, PumpError>>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    if let Poll::Ready(Err(error)) = poll_write(context, upstream, &mut relay.to_upstream) {
        return Poll::Ready(Err(PumpError::Upstream(error)));
    }
    if let Poll::Ready(Err(error)) = poll_write(context, client, released) {
        return Poll::Ready(Err(PumpError::Client(error)));
    }
    if released.len() + relay.to_client.len() < BACKLOG + READ {
        match poll_read(context, upstream, from_upstream) {
            Poll::Ready(Ok(0)) => return Poll::Ready(Ok(Event::UpstreamClosed)),
            Poll::Ready(Ok(_)) => return Poll::Ready(Ok(Event::Upstream)),
            Poll::Ready(Err(error)) => return Poll::Ready(Err(PumpError::Upstream(error))),
            Poll::Pending => {}
        }
    }
    if relay.to_upstream.len() < BACKLOG && !relay.is_waiting() {
        match poll_read(context, client, from_client) {
            Poll::Ready(Ok(0)) => return Poll::Ready(Ok(Event::ClientClosed)),
            Poll::Ready(Ok(_)) => return Poll::Ready(Ok(Event::Client)),
            Poll::Ready(Err(error)) => return Poll::Ready(Err(PumpError::Client(error))),
            Poll::Pending => {}
        }
    }
    Poll::Pending
}

/// Writes and flushes `bytes` as far as the socket takes them.
fn poll_write<W: AsyncWrite + Unpin>(
    context: &mut Context<'_>,
    writer: &mut W,
    bytes: &mut BytesMut,
) -> Poll<io::Result<()>> {
    while !bytes.is_empty() {
        let written = ready!(Pin::new(&mut *writer).poll_write(context, bytes))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        bytes.advance(written);
    }
    Pin::new(writer).poll_flush(context)
}

fn poll_read<R: AsyncRead + Unpin>(
    context: &mut Context<'_>,
    reader: &mut R,
    into: &mut BytesMut,
) -> Poll<io::Result<usize>> {
    if into.capacity() - into.len() < READ / 4 {
        into.reserve(READ);
    }
    // Dropped while pending, it has read nothing.
    pin!(reader.read_buf(into)).poll(context)
}

async fn write_all<W: AsyncWrite + Unpin>(writer: &mut W, bytes: &mut BytesMut) -> io::Result<()> {
    poll_fn(|context| poll_write(context, writer, bytes)).await
}
