//! A connection of a peer that is known.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Sleep, sleep};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::Log;

/// What HTTP/2 begins with: the preface of a client and the head of its first frame.
const FIRST_BYTES: usize = 24 + 9;

/// Who a peer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerInfo {
    /// Where it comes from: `10.0.0.9:4711`, `unix:/run/fio-spdk.sock pid 4711`.
    pub address: String,
    /// The name in its certificate, or the user that it runs as; fit to be shown.
    pub name: String,
}

/// A connection. It fails if the peer does not begin to speak HTTP/2 in time.
pub struct Connection {
    stream: Stream,
    peer: PeerInfo,
    beginning: Option<Beginning>,
    log: Arc<Log>,
    _permit: OwnedSemaphorePermit,
}

enum Stream {
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

struct Beginning {
    missing: usize,
    deadline: Pin<Box<Sleep>>,
}

impl Connection {
    pub(super) fn tls(
        stream: TlsStream<TcpStream>,
        peer: PeerInfo,
        permit: OwnedSemaphorePermit,
        log: Arc<Log>,
        within: Duration,
    ) -> Connection {
        Connection::new(Stream::Tls(Box::new(stream)), peer, permit, log, within)
    }

    pub(super) fn unix(
        stream: UnixStream,
        peer: PeerInfo,
        permit: OwnedSemaphorePermit,
        log: Arc<Log>,
        within: Duration,
    ) -> Connection {
        Connection::new(Stream::Unix(stream), peer, permit, log, within)
    }

    fn new(
        stream: Stream,
        peer: PeerInfo,
        permit: OwnedSemaphorePermit,
        log: Arc<Log>,
        within: Duration,
    ) -> Connection {
        let beginning = Some(Beginning { missing: FIRST_BYTES, deadline: Box::pin(sleep(within)) });
        Connection { stream, peer, beginning, log, _permit: permit }
    }
}

impl Connected for Connection {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some(beginning) = &mut this.beginning
            && beginning.deadline.as_mut().poll(context).is_ready()
        {
            this.beginning = None;
            let peer = format!("{} ({})", this.peer.address, this.peer.name);
            this.log.refused(&peer, "it did not begin to speak HTTP/2 in time");
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = buffer.filled().len();
        let read = match &mut this.stream {
            Stream::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
        };
        let got = buffer.filled().len() - before;
        if let Some(beginning) = &mut this.beginning {
            beginning.missing = beginning.missing.saturating_sub(got);
            if beginning.missing == 0 {
                this.beginning = None;
            }
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, data),
            Stream::Unix(stream) => Pin::new(stream).poll_write(context, data),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
            Stream::Unix(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
