//! Listening, and who may come: unix sockets so far.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::Stream;
use tonic::transport::Server;
use tonic::transport::server::Connected;

use super::settings::Settings;

/// Who has connected.
#[derive(Clone, Debug, Default)]
pub struct PeerInfo {
    /// Where from.
    pub address: String,
    /// The certificate's name; empty without one.
    pub name: String,
}

/// One connection.
#[derive(Debug)]
pub struct Connection(UnixStream);

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        it: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(it, to)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, it: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(it, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, it: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(it)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, it: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(it)
    }
}

impl Connected for Connection {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        PeerInfo { address: "unix".to_owned(), name: String::new() }
    }
}

struct Incoming(UnixListener);

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(self: Pin<&mut Self>, it: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_accept(it).map(|accepted| Some(accepted.map(|(stream, _)| Connection(stream))))
    }
}

/// Where a server listens.
#[derive(Debug)]
pub struct Listeners(UnixListener);

impl Listeners {
    /// Listens.
    ///
    /// # Errors
    /// Those of the system, in a sentence.
    pub fn bind(settings: &Settings) -> Result<Listeners, String> {
        let path =
            settings.listen.iter().find_map(|address| address.path()).ok_or("no unix socket to listen on")?;
        let told = |why: io::Error| format!("{}: {why}", path.display());
        let listener = UnixListener::bind(path).map_err(told)?;
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).map_err(told)?;
        Ok(Listeners(listener))
    }

    /// The connections.
    pub fn into_incoming(self) -> impl Stream<Item = io::Result<Connection>> {
        Incoming(self.0)
    }
}

/// With limits.
#[must_use]
pub fn http(builder: Server) -> Server {
    builder
}
