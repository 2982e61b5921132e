//! Ways to a server.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, ClientConfig, Error, InvalidMessage};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

use super::address::Address;
use super::{keys, listen};
use crate::base::host::printable;

/// An idle connection is asked whether it lives this often.
const PING_EVERY: Duration = Duration::from_secs(10);
/// A connection that answers nothing for so long is given up; who drives a run has deadlines of his own.
const PATIENCE: Duration = Duration::from_secs(60);
/// So much is read before HTTP/2 takes over: the head of the server's first frame is in it.
const FIRST_BYTES: usize = 256;
const FRAME_HEAD: usize = 9;
/// HTTP/2's type of the frame that comes first.
const SETTINGS: u8 = 4;
/// More of a certificate's names are not told.
const MOST_NAMES: usize = 20;

/// Why there is no way to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What kind of trouble.
    pub cause: Cause,
    /// A sentence: what, where, what to do.
    pub message: String,
}

/// The kinds of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// This side's certificate is missing or wrong.
    Keys,
    /// Nobody knows the name.
    Unknown,
    /// Nobody listens there.
    Refused,
    /// There is no way to the machine.
    Unreachable,
    /// It did not answer in time.
    TimedOut,
    /// It closed the connection before it said anything.
    HungUp,
    /// What answers is no fio-spdk server, or speaks no TLS 1.3.
    Stranger,
    /// Its certificate is of another authority, another name, or run out.
    Certificate,
    /// It does not take this side's certificate, or user.
    NotAllowed,
}

impl Trouble {
    fn new(cause: Cause, message: impl Into<String>) -> Trouble {
        Trouble { cause, message: message.into() }
    }

    /// Whether there is a server that had no room, or too much to do, at that moment.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        matches!(self.cause, Cause::HungUp)
    }

    /// Whether it may pass by itself: the server is not there yet.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        use Cause::{HungUp, Refused, TimedOut, Unknown, Unreachable};
        matches!(self.cause, Unknown | Refused | Unreachable | TimedOut | HungUp)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Trouble {}

/// What a client shows to servers, and which of them it trusts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// The directory of certificates, if not the usual one.
    pub keys: Option<PathBuf>,
    /// The user whose server at a unix socket is trusted, beside root and this process' own.
    pub socket_user: Option<u32>,
}

/// Connects to a server, with the certificate that [`keys::find`] finds, and hears that it is there. The
/// channel has this one connection: once it is lost, every call fails.
///
/// # Errors
/// What is in the way, within the time given.
pub async fn connect(address: &Address, trust: &Trust, within: Duration) -> Result<Channel, Trouble> {
    let deadline = Instant::now() + within;
    let stream = match address {
        Address::Unix(path) => {
            let opened = timeout_at(deadline, UnixStream::connect(path)).await;
            let opened = opened.map_err(|_| timed_out(address, within))?;
            let mut stream = opened.map_err(|why| failed(address, &why))?;
            check_owner(address, &stream, trust.socket_user)?;
            let first = timeout_at(deadline, first_bytes(&mut stream)).await;
            let first =
                first.map_err(|_| timed_out(address, within))?.map_err(|why| failed(address, &why))?;
            Opened { stream: Either::Unix(stream), first: heard(address, first)?, given: 0 }
        }
        Address::Tcp { host, port } => {
            let trouble = |why| Trouble::new(Cause::Keys, why);
            let directory = keys::find(host, trust.keys.as_deref()).map_err(trouble)?;
            let config = keys::client_config(&directory).map_err(trouble)?;
            let way = Way { address, directory: &directory, deadline, within };
            way.tls(host, *port, Arc::new(config)).await?
        }
    };
    let once = Arc::new(Mutex::new(Some(stream)));
    let connector = tower::service_fn(move |_| {
        let stream = once.lock().unwrap_or_else(PoisonError::into_inner).take();
        async move { stream.map(TokioIo::new).ok_or_else(|| io::Error::from(ErrorKind::NotConnected)) }
    });
    let endpoint = Endpoint::from_static("http://fio-spdk")
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PATIENCE)
        .keep_alive_while_idle(true)
        .http2_max_header_list_size(16 << 10)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20);
    let channel = timeout_at(deadline, endpoint.connect_with_connector(connector)).await;
    channel
        .map_err(|_| timed_out(address, within))?
        .map_err(|why| Trouble::new(Cause::HungUp, format!("{address}: the connection was lost: {why}")))
}

fn timed_out(address: &Address, within: Duration) -> Trouble {
    Trouble::new(Cause::TimedOut, format!("{address} did not answer within {} s", within.as_secs_f32()))
}

fn hung_up(address: &Address) -> Trouble {
    let text = format!(
        "{address} closed the connection before it said anything: its log says why (too many connections, perhaps)"
    );
    Trouble::new(Cause::HungUp, text)
}

/// What the system says of a connection that could not be made, or broke.
fn failed(address: &Address, why: &io::Error) -> Trouble {
    match why.kind() {
        ErrorKind::ConnectionRefused | ErrorKind::NotFound => {
            let text = format!(
                "nobody listens at {address}: is `fio-spdk server` running there, and told to listen?"
            );
            Trouble::new(Cause::Refused, text)
        }
        ErrorKind::PermissionDenied => {
            let text = format!("{address} is for root and the server's own user ({why})");
            Trouble::new(Cause::NotAllowed, text)
        }
        ErrorKind::TimedOut => Trouble::new(Cause::TimedOut, format!("{address} did not answer ({why})")),
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => hung_up(address),
        // The queue of a unix socket is full.
        ErrorKind::WouldBlock => hung_up(address),
        _ => Trouble::new(Cause::Unreachable, format!("no way to {address}: {why}")),
    }
}

/// Whoever can make a file in the directory of a socket can listen there: the kernel says who does. Root
/// trusts no other user either, as a server is sent jobs, and says what the client stores.
fn check_owner(address: &Address, stream: &UnixStream, trusted: Option<u32>) -> Result<(), Trouble> {
    let own = rustix::process::geteuid().as_raw();
    let user = stream.peer_cred().map_err(|why| failed(address, &why))?.uid();
    if user == 0 || user == own || Some(user) == trusted {
        return Ok(());
    }
    let text = format!(
        "user {user} listens at {address}, and is neither root nor you: if that is the server you mean, \
         --server-user={user}"
    );
    Err(Trouble::new(Cause::NotAllowed, text))
}

/// What the server says first; it does not wait for its client.
async fn first_bytes(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(FIRST_BYTES);
    while bytes.len() < FRAME_HEAD {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(bytes)
}

fn heard(address: &Address, first: Vec<u8>) -> Result<Vec<u8>, Trouble> {
    if first[3] == SETTINGS && first[0] == 0 {
        return Ok(first);
    }
    Err(Trouble::new(Cause::Stranger, format!("what answers at {address} is no fio-spdk server (no HTTP/2)")))
}

/// A way over TCP.
struct Way<'a> {
    address: &'a Address,
    directory: &'a Path,
    deadline: Instant,
    within: Duration,
}

impl Way<'_> {
    async fn tls(&self, host: &str, port: u16, config: Arc<ClientConfig>) -> Result<Opened, Trouble> {
        let address = self.address;
        let unzoned = host.split_once('%').map_or(host, |(host, _)| host);
        let name = ServerName::try_from(unzoned.trim_end_matches('.').to_owned());
        let name = name.map_err(|_| {
            Trouble::new(Cause::Certificate, format!("`{host}` is no name that a certificate can have"))
        })?;
        let stream = self.tcp(host, port).await?;
        let shaken = timeout_at(self.deadline, TlsConnector::from(config).connect(name, stream)).await;
        let mut stream =
            shaken.map_err(|_| timed_out(address, self.within))?.map_err(|why| self.judge(&why))?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            let text = format!("what answers at {address} is no fio-spdk server (no HTTP/2)");
            return Err(Trouble::new(Cause::Stranger, text));
        }
        // In TLS 1.3 the client is ready before the server has judged it.
        let first = timeout_at(self.deadline, first_bytes(&mut stream)).await;
        let first = first.map_err(|_| timed_out(address, self.within))?.map_err(|why| self.judge(&why))?;
        Ok(Opened { stream: Either::Tls(Box::new(stream)), first: heard(address, first)?, given: 0 })
    }

    async fn tcp(&self, host: &str, port: u16) -> Result<TcpStream, Trouble> {
        let address = self.address;
        let resolved = timeout_at(self.deadline, tokio::net::lookup_host((host, port))).await;
        let resolved: Vec<SocketAddr> = match resolved {
            Ok(Ok(resolved)) => resolved.collect(),
            Ok(Err(why)) => {
                let text = format!("nobody knows where `{host}` is: {why}");
                return Err(Trouble::new(Cause::Unknown, text));
            }
            Err(_) => return Err(timed_out(address, self.within)),
        };
        let mut trouble = Trouble::new(Cause::Unknown, format!("`{host}` has no address"));
        let mut left = u32::try_from(resolved.len()).unwrap_or(u32::MAX);
        for one in resolved {
            // An address that swallows everything leaves time for the others.
            let now = Instant::now();
            let until = now + self.deadline.saturating_duration_since(now) / left.max(1);
            left = left.saturating_sub(1);
            trouble = match timeout_at(until, TcpStream::connect(one)).await {
                Ok(Ok(stream)) => {
                    listen::watch_over(&stream, PATIENCE).map_err(|why| failed(address, &why))?;
                    return Ok(stream);
                }
                Ok(Err(why)) => failed(address, &why),
                Err(_) => timed_out(address, self.within),
            };
        }
        Err(trouble)
    }

    /// Says what a failed handshake means for the user.
    fn judge(&self, why: &io::Error) -> Trouble {
        let (address, host) = (self.address, self.address.host());
        let Some(tls) = why.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
            return failed(address, why);
        };
        let place = self.directory.display();
        let of_certificate = |text: String| Trouble::new(Cause::Certificate, text);
        match tls {
            Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
                of_certificate(format!(
                    "the certificate of {address} is of another authority than {place}/{}: if it is the right server, \
                     copy its ca.pem, client.pem and client.key (into a directory {host} beside the others, if its \
                     authority is another one than theirs)",
                    keys::CA
                ))
            }
            Error::InvalidCertificate(CertificateError::NotValidForNameContext { presented, .. }) => {
                of_certificate(format!(
                    "the certificate of {host} names {}: use one of these, or make it anew with --name={host}",
                    names(presented)
                ))
            }
            Error::InvalidCertificate(
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. },
            ) => of_certificate(format!(
                "the certificate of {address} is not valid now: make it anew, or set this machine's clock ({tls})"
            )),
            Error::InvalidCertificate(why) => {
                of_certificate(format!("the certificate of {address} cannot be taken: {why}"))
            }
            Error::AlertReceived(AlertDescription::ProtocolVersion) | Error::PeerIncompatible(_) => {
                Trouble::new(Cause::Stranger, format!("{address} does not speak TLS 1.3 as this client does"))
            }
            Error::InvalidMessage(
                InvalidMessage::InvalidContentType
                | InvalidMessage::UnknownProtocolVersion
                | InvalidMessage::InvalidEmptyPayload
                | InvalidMessage::MessageTooLarge,
            ) => Trouble::new(Cause::Stranger, format!("{address} speaks no TLS: is it a fio-spdk server?")),
            Error::AlertReceived(alert) => Trouble::new(
                Cause::NotAllowed,
                format!(
                    "{address} does not take the certificate {place}/{} ({alert:?}): is it of that server's authority, \
                     and are the clocks of both machines right? Its log says more",
                    keys::CLIENT
                ),
            ),
            other => Trouble::new(Cause::Stranger, format!("{address}: {other}")),
        }
    }
}

/// The names of a certificate as rustls lists them: `DnsName("dut2.lab")`, `IpAddress(10.0.0.5)`.
fn names(presented: &[String]) -> String {
    let inner = |name: &String| {
        let inner = name.split_once('(').map_or(name.as_str(), |(_, rest)| rest.trim_end_matches(')'));
        printable(&inner.trim_matches('"').chars().take(64).collect::<String>())
    };
    let mut all: Vec<String> = presented.iter().take(MOST_NAMES).map(inner).collect();
    if presented.len() > MOST_NAMES {
        all.push("others".to_owned());
    }
    if all.is_empty() { "nobody".to_owned() } else { all.join(", ") }
}

/// A connection of which something has been read already.
struct Opened {
    stream: Either,
    first: Vec<u8>,
    given: usize,
}

enum Either {
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
    Unix(UnixStream),
}

impl AsyncRead for Opened {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.given < self.first.len() {
            let end = self.first.len().min(self.given + buffer.remaining());
            buffer.put_slice(&self.first[self.given..end]);
            self.given = end;
            return Poll::Ready(Ok(()));
        }
        match &mut self.stream {
            Either::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
            Either::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Opened {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Either::Tls(stream) => Pin::new(stream).poll_write(context, data),
            Either::Unix(stream) => Pin::new(stream).poll_write(context, data),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Either::Tls(stream) => Pin::new(stream).poll_flush(context),
            Either::Unix(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Either::Tls(stream) => Pin::new(stream).poll_shutdown(context),
            Either::Unix(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
