use super::*;
use crate::remote::connect::{Cause, Trouble, Trust, connect};
use crate::remote::keys::{self, Wanted};
use rustls::pki_types::ServerName;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;
use tokio_stream::StreamExt;
use tonic::transport::Channel;

const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(400);

/// Keys of two authorities, and of a client of the second that believes the first.
fn keys() -> &'static Path {
    static KEYS: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = KEYS.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        for name in ["own", "foreign"] {
            let settings = Settings::new(folder.path().join(name).join("server.toml"));
            keys::init(&Wanted { settings, names: Vec::new(), ca: None }).unwrap();
        }
        let mixed = folder.path().join("mixed");
        std::fs::create_dir(&mixed).unwrap();
        std::fs::copy(folder.path().join("own").join(keys::CA), mixed.join(keys::CA)).unwrap();
        for name in [keys::CLIENT, keys::CLIENT_KEY] {
            std::fs::copy(folder.path().join("foreign").join(name), mixed.join(name)).unwrap();
        }
        folder
    });
    folder.path()
}

fn trusting(keys: &Path) -> Trust {
    Trust { keys: Some(keys.to_owned()), ..Trust::default() }
}

/// A server without a service.
struct Lab {
    address: Address,
    lines: Arc<Mutex<Vec<String>>>,
    server: tokio::task::JoinHandle<()>,
    _folder: tempfile::TempDir,
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn opened(within: Duration, change: impl FnOnce(&mut Settings, &Path)) -> (Listeners, Settings, Lab) {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = Settings::new(folder.path().join("server.toml"));
    settings.tls = keys().join("own");
    settings.listen = vec![Address::parse("127.0.0.1:0").unwrap()];
    change(&mut settings, folder.path());
    let mut listeners = Listeners::bind(&settings).unwrap();
    let lines = Arc::new(Mutex::new(Vec::new()));
    let seen = lines.clone();
    listeners.gate.log = Arc::new(Log::new(Box::new(move |line| seen.lock().unwrap().push(line.to_owned()))));
    listeners.gate.within = within;
    let address = listeners.addresses().remove(0);
    let server = tokio::spawn(async {});
    (listeners, settings, Lab { address, lines, server, _folder: folder })
}

fn lab(within: Duration, change: impl FnOnce(&mut Settings, &Path)) -> Lab {
    let (listeners, settings, mut lab) = opened(within, change);
    lab.server = tokio::spawn(async move {
        let routes = tonic::service::Routes::default();
        let server = http(tonic::transport::Server::builder(), &settings).add_routes(routes);
        server.serve_with_incoming(listeners.into_incoming().unwrap()).await.unwrap();
    });
    lab
}

impl Lab {
    /// Waits for a line of the log.
    async fn logs(&self, what: &str) {
        for _ in 0..3000 {
            if self.lines.lock().unwrap().iter().any(|line| line.contains(what)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("`{what}` is not in the log: {:?}", self.lines.lock().unwrap());
    }

    async fn connect(&self, keys_of: &str) -> Result<Channel, Trouble> {
        connect(&self.address, &trusting(&keys().join(keys_of)), LONG).await
    }

    async fn raw(&self) -> TcpStream {
        let Address::Tcp { host, port } = &self.address else { panic!("no TCP") };
        TcpStream::connect((host.as_str(), *port)).await.unwrap()
    }

    async fn tls(&self) -> tokio_rustls::client::TlsStream<TcpStream> {
        let config = keys::client_config(&keys().join("own")).unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, self.raw().await).await.unwrap()
    }

    /// What was said to a peer that is not wanted, until it was hung up on.
    async fn hung_up_on(mut stream: impl tokio::io::AsyncRead + Unpin) {
        let mut rest = Vec::new();
        let end = tokio::time::timeout(LONG, stream.read_to_end(&mut rest)).await;
        assert!(end.is_ok(), "the connection stays");
    }
}

#[tokio::test]
async fn a_client_with_a_certificate_comes_in_by_name() {
    let (listeners, _, lab) = opened(HANDSHAKE_WITHIN, |_, _| ());
    let mut incoming = listeners.into_incoming().unwrap();
    let (_client, connection) = tokio::join!(lab.tls(), incoming.next());
    let peer = connection.unwrap().unwrap().connect_info_of();
    assert!(peer.name.starts_with("client of ") && peer.address.starts_with("127.0.0.1:"), "{peer:?}");
}

impl Connection {
    fn connect_info_of(&self) -> PeerInfo {
        tonic::transport::server::Connected::connect_info(self)
    }
}

#[tokio::test]
async fn a_channel_stands_over_tcp_and_over_a_socket() {
    lab(HANDSHAKE_WITHIN, |_, _| ()).connect("own").await.unwrap();
    let socket = |settings: &mut Settings, folder: &Path| {
        settings.listen = vec![Address::Unix(folder.join("s"))];
        settings.tls = PathBuf::from("/nonexistent");
    };
    let lab = lab(HANDSHAKE_WITHIN, socket);
    connect(&lab.address, &Trust::default(), LONG).await.unwrap();
    assert!(lab.lines.lock().unwrap().is_empty());
}

#[tokio::test]
async fn who_shows_no_certificate_or_a_foreign_one_is_refused_and_both_sides_are_told() {
    let lab = lab(HANDSHAKE_WITHIN, |_, _| ());
    let why = lab.connect("mixed").await.unwrap_err();
    assert_eq!(why.cause, Cause::NotAllowed, "{why}");
    assert!(why.message.contains("client.pem") && !why.may_pass(), "{why}");
    lab.logs("its certificate is of another authority").await;
    let why = lab.connect("foreign").await.unwrap_err();
    assert_eq!(why.cause, Cause::Certificate, "{why}");
    assert!(
        why.message.contains("another authority than") && why.message.contains("foreign/ca.pem"),
        "{why}"
    );
    lab.logs("it refused this server's certificate").await;

    let mut roots = rustls::RootCertStore::empty();
    let pem = std::fs::read(keys().join("own").join(keys::CA)).unwrap();
    roots.add(rustls::pki_types::pem::PemObject::from_pem_slice(&pem).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut config = config;
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, lab.raw().await).await.unwrap();
    Lab::hung_up_on(stream).await;
    lab.logs("it showed no certificate").await;
}

#[tokio::test]
async fn a_server_by_another_name_is_told_with_the_names_that_it_has() {
    let lab =
        lab(HANDSHAKE_WITHIN, |settings, _| settings.listen = vec![Address::parse("127.0.0.2:0").unwrap()]);
    let why = lab.connect("own").await.unwrap_err();
    assert_eq!(why.cause, Cause::Certificate, "{why}");
    assert!(
        why.message.contains("localhost, 127.0.0.1") && why.message.contains("--name=127.0.0.2"),
        "{why}"
    );
}

#[tokio::test]
async fn plain_text_and_older_tls_are_refused() {
    let lab = lab(HANDSHAKE_WITHIN, |_, _| ());
    for text in [
        &b"GET / HTTP/1.1\r\nHost: dut1\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\0\0\0\0\0\0\0\0",
    ] {
        let mut stream = lab.raw().await;
        stream.write_all(text).await.unwrap();
        Lab::hung_up_on(stream).await;
    }
    lab.logs("is no TLS").await;
    assert_eq!(lab.lines.lock().unwrap().len(), 3, "{:?}", lab.lines);
    // A hello of TLS 1.2: no extension says otherwise.
    let mut hello = vec![3, 3];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x2b, 1, 0]);
    // Groups, signatures.
    let extensions = [0, 10, 0, 4, 0, 2, 0, 23, 0, 13, 0, 4, 0, 2, 4, 3];
    hello.extend([0, u8::try_from(extensions.len()).unwrap()]);
    hello.extend(extensions);
    let length = u8::try_from(hello.len()).unwrap();
    let mut record = vec![22, 3, 1, 0, length + 4, 1, 0, 0, length];
    record.extend(hello);
    let mut stream = lab.raw().await;
    stream.write_all(&record).await.unwrap();
    let mut answer = [0; 7];
    stream.read_exact(&mut answer).await.unwrap();
    // An alert, fatal: protocol version.
    assert_eq!((answer[0], answer[5], answer[6]), (21, 2, 70));
    lab.logs("does not speak TLS 1.3").await;
}

#[tokio::test]
async fn who_says_nothing_or_a_byte_at_a_time_goes_at_every_stage() {
    let lab = lab(SHORT, |_, _| ());
    Lab::hung_up_on(lab.raw().await).await;
    lab.logs("it did not show within").await;
    // The head of a record that never comes to its end.
    let mut trickling = lab.raw().await;
    let begun = tokio::time::Instant::now();
    for byte in [22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3].into_iter().chain(std::iter::repeat(7)) {
        assert!(begun.elapsed() < LONG, "it trickles on");
        if trickling.write_all(&[byte]).await.is_err() {
            break;
        }
        tokio::time::sleep(SHORT / 8).await;
    }
    let lines = || lab.lines.lock().unwrap().clone();
    assert_eq!(lines().iter().filter(|line| line.contains("it did not show")).count(), 2, "{:?}", lines());
    // Known, and silent.
    Lab::hung_up_on(lab.tls().await).await;
    lab.logs("did not begin to speak HTTP/2 in time").await;
    let mut trickling = lab.tls().await;
    let begun = tokio::time::Instant::now();
    for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".iter().cycle() {
        assert!(begun.elapsed() < LONG, "it trickles on");
        if trickling.write_all(&[*byte]).await.is_err() || trickling.flush().await.is_err() {
            break;
        }
        tokio::time::sleep(SHORT / 8).await;
    }
    assert_eq!(lines().iter().filter(|line| line.contains("begin to speak")).count(), 2, "{:?}", lines());
    // The place is free again.
    lab.connect("own").await.unwrap();
}

#[tokio::test]
async fn there_are_no_more_connections_than_allowed_and_a_place_that_is_left_is_free() {
    let lab = lab(LONG, |settings, _| (settings.max_connections, settings.max_handshakes) = (2, 2));
    let (one, two) = (lab.connect("own").await.unwrap(), lab.connect("own").await.unwrap());
    let why = lab.connect("own").await.unwrap_err();
    assert!(why.cause == Cause::HungUp && why.may_pass(), "{why}");
    lab.logs("max_connections").await;
    drop((one, two));
    for _ in 0..3000 {
        if lab.connect("own").await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no place is free");
}

#[tokio::test]
async fn strangers_take_none_of_the_connections_that_a_server_may_have() {
    let lab = lab(LONG, |settings, _| settings.max_connections = 1);
    let mut strangers = Vec::new();
    for _ in 0..50 {
        let mut stranger = lab.raw().await;
        // A byte of TLS, and no more.
        stranger.write_all(&[22]).await.unwrap();
        strangers.push(stranger);
    }
    lab.connect("own").await.unwrap();
    drop(strangers);
}

#[tokio::test]
async fn a_crowd_at_one_address_keeps_its_own_places_busy_and_no_others() {
    let lab = lab(LONG, |settings, _| settings.max_handshakes = 4);
    let Address::Tcp { host, port } = &lab.address else { panic!("no TCP") };
    let server: SocketAddr = format!("{host}:{port}").parse().unwrap();
    let from = |ip: &str| {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(format!("{ip}:0").parse().unwrap()).unwrap();
        socket.connect(server)
    };
    let mut early = from("127.0.0.9").await.unwrap();
    let mut crowd = Vec::new();
    for _ in 0..200 {
        crowd.push(from("127.0.0.2").await.unwrap());
    }
    // All but the last two of the crowd are gone, and nobody else.
    for stream in crowd.drain(..198) {
        Lab::hung_up_on(stream).await;
    }
    lab.connect("own").await.unwrap();
    let nothing = tokio::time::timeout(Duration::from_millis(1), early.read_u8()).await;
    assert!(nothing.is_err(), "{nothing:?}");
}

#[tokio::test]
async fn those_who_have_not_shown_who_they_are_are_few_and_keep_nobody_out() {
    let lab = lab(LONG, |settings, _| settings.max_handshakes = 2);
    let (first, _second) = (lab.raw().await, lab.raw().await);
    let _third = lab.raw().await;
    Lab::hung_up_on(first).await;
    lab.logs("had not shown yet who it is").await;
    lab.connect("own").await.unwrap();
}

#[tokio::test]
async fn what_is_no_server_is_told_as_what_it_is() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::parse(&listener.local_addr().unwrap().to_string()).unwrap();
    let keys = keys().join("own");
    let trust = trusting(&keys);
    let attempt = |within| connect(&address, &trust, within);
    let answers = |text: &'static [u8]| async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut hello = [0; 1];
        stream.read_exact(&mut hello).await.unwrap();
        stream.write_all(text).await.unwrap();
        stream.shutdown().await.unwrap();
    };
    let (plain, ()) = tokio::join!(attempt(LONG), answers(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
    let plain = plain.unwrap_err();
    assert!(plain.cause == Cause::Stranger && plain.message.contains("speaks no TLS"), "{plain}");
    let (cut, ()) = tokio::join!(attempt(LONG), answers(b""));
    assert_eq!(cut.unwrap_err().cause, Cause::HungUp);
    let silent = attempt(SHORT).await.unwrap_err();
    assert!(silent.cause == Cause::TimedOut && silent.may_pass(), "{silent}");
    drop(listener);
    let nobody = attempt(LONG).await.unwrap_err();
    assert!(nobody.cause == Cause::Refused && nobody.may_pass(), "{nobody}");
    let folder = tempfile::tempdir().unwrap();
    let without = connect(&address, &trusting(folder.path()), LONG).await.unwrap_err();
    assert!(without.cause == Cause::Keys && without.message.contains("server --init"), "{without}");
    let socket = Address::Unix(folder.path().join("s"));
    assert_eq!(connect(&socket, &Trust::default(), LONG).await.unwrap_err().cause, Cause::Refused);
}

#[tokio::test]
async fn a_server_without_keys_does_not_begin() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings::new(folder.path().join("server.toml"));
    let why = Listeners::bind(&settings).err().unwrap();
    assert!(
        why.contains("ca.pem and server.pem and server.key are not in") && why.contains("--init"),
        "{why}"
    );
    let lab = lab(HANDSHAKE_WITHIN, |_, _| ());
    let taken = Settings { listen: vec![lab.address.clone()], tls: keys().join("own"), ..settings };
    let why = Listeners::bind(&taken).err().unwrap();
    assert!(why.contains(&lab.address.to_string()), "{why}");
}
