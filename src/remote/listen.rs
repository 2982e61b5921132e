//! Who may come in: sockets, handshakes, limits.
//!
//! Nobody reaches gRPC who has not shown who he is: over TCP by a certificate, over a socket by the user
//! that he runs as. What has not shown that yet holds a place for a few seconds at most (`places`), and
//! none of the connections that a server may have. Each refusal is logged with its reason, within a limit.

mod connection;
mod log;
mod places;
mod refusal;
mod unix;

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ServerConfig;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::Stream;

use super::address::Address;
use super::keys;
use super::settings::Settings;

pub use connection::{Connection, PeerInfo};
pub use log::{Kind, Log, flush, log};
use places::{Place, Places, Source};
use unix::UnixSocket;

/// Who has not shown who he is by then, or has not begun to speak HTTP/2, goes.
pub const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
/// An idle connection is asked whether it lives this often.
const PING_EVERY: Duration = Duration::from_secs(5);
/// No TCP connection is given up on sooner.
const SHORTEST_PATIENCE: Duration = Duration::from_secs(10);
/// Connections that wait in the kernel to be accepted. In a flood, the queue is what a client waits in.
const BACKLOG: i32 = 4096;
/// Where the kernel has no more descriptors, a moment may help.
const AFTER_A_FAILURE: Duration = Duration::from_millis(100);

/// Limits of HTTP/2 and liveness for a server of ours: idle connections are asked whether they live, and
/// no peer makes it keep many streams, long headers or much data.
#[must_use]
pub fn http(builder: tonic::transport::Server, settings: &Settings) -> tonic::transport::Server {
    builder
        .http2_keepalive_interval(Some(PING_EVERY))
        .http2_keepalive_timeout(Some(settings.client_timeout.max(SHORTEST_PATIENCE)))
        .max_concurrent_streams(16)
        .http2_max_header_list_size(16 << 10)
        .max_frame_size(64 << 10)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .http2_max_pending_accept_reset_streams(Some(16))
        .http2_max_local_error_reset_streams(Some(64))
}

/// Sees to it that a peer that is gone is noticed by the kernel too.
pub(super) fn watch_over(stream: &TcpStream, patience: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new().with_time(PING_EVERY).with_interval(PING_EVERY).with_retries(3);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(patience))
}

/// The sockets of a server, open.
pub struct Listeners {
    tcp: Vec<TcpListener>,
    unix: Vec<UnixSocket>,
    tls: Option<Arc<ServerConfig>>,
    gate: Gate,
}

/// What all accepting shares.
#[derive(Clone)]
struct Gate {
    log: Arc<Log>,
    connections: Arc<Semaphore>,
    handshakes: Arc<Places>,
    within: Duration,
    patience: Duration,
}

impl Listeners {
    /// Opens what the settings say. No certificate is needed if there are sockets only.
    ///
    /// # Errors
    /// Which address cannot be listened at and why, or what is wrong with the certificates.
    pub fn bind(settings: &Settings) -> Result<Listeners, String> {
        let wants_tls = settings.listen.iter().any(|address| matches!(address, Address::Tcp { .. }));
        let tls = match wants_tls {
            true => Some(Arc::new(keys::server_config(&settings.tls)?)),
            false => None,
        };
        let mut listeners = Listeners {
            tcp: Vec::new(),
            unix: Vec::new(),
            tls,
            gate: Gate {
                log: Log::shared(),
                connections: Arc::new(Semaphore::new(settings.max_connections)),
                handshakes: Places::new(settings.max_handshakes),
                within: HANDSHAKE_WITHIN,
                patience: settings.client_timeout.max(SHORTEST_PATIENCE),
            },
        };
        for address in &settings.listen {
            match address {
                Address::Tcp { host, port } => {
                    let opened = bind_tcp(host, *port);
                    listeners.tcp.extend(opened.map_err(|why| format!("cannot listen at {address}: {why}"))?);
                }
                Address::Unix(path) => {
                    let opened = UnixSocket::bind(path);
                    listeners.unix.push(opened.map_err(|why| format!("cannot listen at {address}: {why}"))?);
                }
            }
        }
        Ok(listeners)
    }

    /// Where it listens, with the ports that were free.
    #[must_use]
    pub fn addresses(&self) -> Vec<Address> {
        let tcp = self.tcp.iter().filter_map(|listener| listener.local_addr().ok());
        let tcp = tcp.map(|address| Address::Tcp { host: address.ip().to_string(), port: address.port() });
        tcp.chain(self.unix.iter().map(|socket| Address::Unix(socket.path().to_owned()))).collect()
    }

    /// Accepts, on the runtime that this is called on. What it gives never fails.
    ///
    /// # Errors
    /// If the runtime cannot take a socket.
    pub fn into_incoming(self) -> io::Result<Incoming> {
        let (sender, receiver) = mpsc::channel(16);
        let mut tasks = JoinSet::new();
        if let Some(tls) = self.tls {
            let acceptor = TlsAcceptor::from(tls);
            for listener in self.tcp {
                listener.set_nonblocking(true)?;
                let listener = tokio::net::TcpListener::from_std(listener)?;
                tasks.spawn(accept_tcp(listener, acceptor.clone(), self.gate.clone(), sender.clone()));
            }
        }
        for socket in &self.unix {
            let listener = tokio::net::UnixListener::from_std(socket.listener()?)?;
            tasks.spawn(accept_unix(
                listener,
                socket.path().display().to_string(),
                self.gate.clone(),
                sender.clone(),
            ));
        }
        Ok(Incoming { receiver, _tasks: tasks, _sockets: self.unix })
    }
}

fn bind_tcp(host: &str, port: u16) -> io::Result<Vec<TcpListener>> {
    let mut opened = Vec::new();
    let mut failed = None;
    for address in (host, port).to_socket_addrs()? {
        match listen_at(address) {
            Ok(listener) => opened.push(listener),
            // localhost has an address of IPv6 by name only on many a machine.
            Err(why) if why.kind() == io::ErrorKind::AddrNotAvailable => failed = Some(why),
            Err(why) => return Err(why),
        }
    }
    match (opened.is_empty(), failed) {
        (true, Some(why)) => Err(why),
        (true, None) => Err(io::Error::other(format!("{host} has no address"))),
        (false, _) => Ok(opened),
    }
}

fn listen_at(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // As the standard library does: a server that starts anew finds its port.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Connections that have shown who they are. Dropped, it closes the sockets.
pub struct Incoming {
    receiver: mpsc::Receiver<Connection>,
    _tasks: JoinSet<()>,
    _sockets: Vec<UnixSocket>,
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.receiver.poll_recv(context).map(|connection| connection.map(Ok))
    }
}

async fn accept_tcp(
    listener: tokio::net::TcpListener,
    acceptor: TlsAcceptor,
    gate: Gate,
    sender: mpsc::Sender<Connection>,
) {
    let mut handshakes = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = handshakes.join_next() => continue,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(why) => {
                gate.pause("TCP", &why).await;
                continue;
            }
        };
        let (place, has_to_go) = gate.handshakes.take(Source::of(peer.ip()));
        let (gate, acceptor, sender) = (gate.clone(), acceptor.clone(), sender.clone());
        let peer = shown(peer);
        handshakes.spawn(async move {
            if let Some(connection) = gate.let_in(stream, acceptor, peer, place, has_to_go).await {
                let _ = sender.send(connection).await;
            }
        });
    }
}

async fn accept_unix(
    listener: tokio::net::UnixListener,
    path: String,
    gate: Gate,
    sender: mpsc::Sender<Connection>,
) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(why) => {
                gate.pause(&path, &why).await;
                continue;
            }
        };
        let (peer, user) = match stream.peer_cred() {
            Ok(who) => (format!("unix:{path} pid {}", who.pid().unwrap_or(0)), who.uid()),
            Err(why) => {
                gate.log.refused(&path, &format!("nobody knows who it is: {why}"));
                continue;
            }
        };
        if user != 0 && user != rustix::process::geteuid().as_raw() {
            gate.log.refused(&peer, &format!("user {user} is neither root nor the server's own"));
            continue;
        }
        let Some(permit) = gate.admit(&peer) else { continue };
        let name = if user == 0 { "root".to_owned() } else { format!("user {user}") };
        let who = PeerInfo { address: peer, name };
        let connection = Connection::unix(stream, who, permit, gate.log.clone(), gate.within);
        if sender.send(connection).await.is_err() {
            return;
        }
    }
}

impl Gate {
    fn admit(&self, peer: &str) -> Option<OwnedSemaphorePermit> {
        let permit = self.connections.clone().try_acquire_owned().ok();
        if permit.is_none() {
            self.log.refused(peer, "there are as many connections as max_connections allows");
        }
        permit
    }

    /// A connection that has shown who it is, while it holds its place. Only then does it count as one of the
    /// connections that the server may have: strangers take none of these.
    async fn let_in(
        &self,
        stream: TcpStream,
        acceptor: TlsAcceptor,
        peer: String,
        place: Place,
        has_to_go: oneshot::Receiver<()>,
    ) -> Option<Connection> {
        let (stream, who) = tokio::select! {
            shaken = self.shake_hands(stream, acceptor, &peer) => shaken?,
            _ = has_to_go => {
                let text = "it had not shown yet who it is when others came, and there are many";
                self.log.refused(&peer, text);
                return None;
            }
        };
        drop(place);
        let permit = self.admit(&format!("{} ({})", who.address, who.name))?;
        Some(Connection::tls(stream, who, permit, self.log.clone(), self.within))
    }

    async fn pause(&self, place: &str, why: &io::Error) {
        self.log.line(Kind::Accept, &format!("cannot accept connections ({place}): {why}"));
        tokio::time::sleep(AFTER_A_FAILURE).await;
    }

    async fn shake_hands(
        &self,
        stream: TcpStream,
        acceptor: TlsAcceptor,
        peer: &str,
    ) -> Option<(TlsStream<TcpStream>, PeerInfo)> {
        if let Err(why) = watch_over(&stream, self.patience) {
            self.log.refused(peer, &why.to_string());
            return None;
        }
        let stream = match timeout(self.within, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(why)) => {
                self.log.refused(peer, &refusal::reason(&why));
                return None;
            }
            Err(_) => {
                let text = format!("it did not show within {} s who it is", self.within.as_secs());
                self.log.refused(peer, &text);
                return None;
            }
        };
        let session = stream.get_ref().1;
        // The verifier has seen to it that there is one.
        let name = session.peer_certificates().and_then(<[_]>::first).map(keys::name_of)?;
        if session.alpn_protocol() != Some(b"h2") {
            self.log.refused(peer, &format!("`{name}` did not ask for HTTP/2 (ALPN h2)"));
            return None;
        }
        Some((stream, PeerInfo { address: peer.to_owned(), name }))
    }
}

fn shown(peer: SocketAddr) -> String {
    let ip = peer.ip().to_canonical();
    SocketAddr::new(ip, peer.port()).to_string()
}

#[cfg(test)]
mod tests;
