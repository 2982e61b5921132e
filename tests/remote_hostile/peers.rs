//! Peers that are not who they should be, or do not speak as they should.

use std::fs;
use std::io::{PipeWriter, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use fio_spdk::remote::wire::bench::client_message::What as Say;
use fio_spdk::remote::wire::bench::{
    Alive, Attach, ClientMessage, File, Option as JobOption, Start, StatusRequest,
};
use fio_spdk::remote::{keys, protocol};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;

use super::common::Lab;
use super::http2::*;
use super::server::{LIMIT, Server, wait_for};

/// A client's certificate of the authority in `etc`, put into `folder` with its key.
fn certificate(etc: &Path, folder: &Path, change: impl FnOnce(&mut CertificateParams)) {
    let authority = CertificateDer::from_pem_file(etc.join("ca.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(etc.join("ca.key")).unwrap();
    let issuer = Issuer::from_ca_cert_der(&authority, KeyPair::try_from(&key).unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["client".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "client");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    change(&mut params);
    let made = params.signed_by(&key, &issuer).unwrap();
    fs::create_dir_all(folder).unwrap();
    let pem = |label: &str, der: &[u8]| pem::encode(&pem::Pem::new(label, der));
    fs::write(folder.join("client.pem"), pem("CERTIFICATE", made.der())).unwrap();
    fs::write(folder.join("client.key"), pem("PRIVATE KEY", key.serialized_der())).unwrap();
}

/// What comes of a connection with the certificate in `folder`; without one, if there is none.
fn shows(server: &Server, folder: &Path) -> Result<(), String> {
    let mut roots = rustls::RootCertStore::empty();
    let read =
        |path: &Path| CertificateDer::pem_file_iter(path).unwrap().map(Result::unwrap).collect::<Vec<_>>();
    read(&server.lab.path("etc/ca.pem")).into_iter().for_each(|one| roots.add(one).unwrap());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.unwrap().with_root_certificates(roots);
    let mut config = match folder.join("client.pem").exists() {
        true => {
            let key = PrivateKeyDer::from_pem_file(folder.join("client.key")).unwrap();
            config.with_client_auth_cert(read(&folder.join("client.pem")), key).unwrap()
        }
        false => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    wait_for(async {
        let tcp = tokio::net::TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let mut tls =
            TlsConnector::from(Arc::new(config)).connect(name, tcp).await.map_err(|why| why.to_string())?;
        tls.write_all(&opening()).await.map_err(|why| why.to_string())?;
        let mut answer = [0; 9];
        let read =
            tokio::time::timeout(LIMIT, tls.read_exact(&mut answer)).await.map_err(|why| why.to_string())?;
        read.map(|_| ()).map_err(|why| why.to_string())
    })
}

#[test]
fn only_a_clients_certificate_of_the_right_authority_that_holds_now_comes_in() {
    let server = Server::at_port("");
    let etc = server.lab.path("etc");
    let folder = |name: &str| server.lab.path(name);
    certificate(&etc, &folder("fine"), |_| ());
    assert_eq!(shows(&server, &folder("fine")), Ok(()));
    assert_eq!(shows(&server, &etc), Ok(()));
    let (past, future) = (rcgen::date_time_ymd(2001, 1, 1), rcgen::date_time_ymd(2999, 1, 1));
    certificate(&etc, &folder("expired"), |params| params.not_after = past);
    certificate(&etc, &folder("early"), |params| params.not_before = future);
    certificate(&etc, &folder("of a server"), |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    server.lab.run(&["server", "--init", "--config=foreign/server.toml"]).expect(0);
    certificate(&folder("foreign"), &folder("forged"), |_| ());
    fs::create_dir(folder("the server's")).unwrap();
    for (from, to) in [("server.pem", "client.pem"), ("server.key", "client.key")] {
        fs::copy(etc.join(from), folder("the server's").join(to)).unwrap();
    }
    let lines = |server: &Server| server.log().matches("refused 127.0.0.1").count();
    for name in ["expired", "early", "of a server", "foreign", "forged", "the server's", "none at all"] {
        let before = lines(&server);
        let why = shows(&server, &folder(name)).expect_err(name);
        server.until(name, |server| lines(server) > before);
        assert!(!why.is_empty(), "{name}");
    }
    server.end();
}

#[test]
fn a_client_talks_to_no_server_that_shows_a_clients_certificate_or_a_foreign_one() {
    let server = Server::at_port("");
    let etc = server.lab.path("etc");
    // One that has only a client's certificate.
    certificate(&etc, &server.lab.path("stolen"), |params| {
        *params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    for (from, to) in [("client.pem", "server.pem"), ("client.key", "server.key")] {
        let folder = server.lab.path("stolen");
        fs::rename(folder.join(from), folder.join(to)).unwrap();
    }
    fs::copy(etc.join("ca.pem"), server.lab.path("stolen/ca.pem")).unwrap();
    let key = server.lab.path("stolen/server.key");
    fs::set_permissions(key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let lab = Lab::new();
    let more = format!(
        "listen = [\"unix:{}\", \"127.0.0.1:0\"]\ntls = {:?}\n",
        lab.path("s").display(),
        server.lab.path("stolen")
    );
    let thief = Server::of(lab, &more, None);
    let way = format!("--client=127.0.0.1:{}", thief.port);
    let keys = format!("--keys={}", etc.display());
    server.lab.file("job.toml", "[[job]]\nioengine = \"null\"\nsize = \"1m\"\n");
    let done = server.lab.run(&["job.toml", &way, &keys, "--server-timeout=3"]);
    assert!(done.code == Some(4) && done.stderr.contains("cannot be taken"), "{done:#?}");
    assert!(thief.status().runs.is_empty());
    thief.end();
    server.end();
}

#[test]
fn strangers_who_take_all_places_and_say_nothing_keep_no_client_out() {
    let server = Server::at_port("");
    let mut crowd: Vec<TcpStream> = Vec::new();
    for number in 0..200_u8 {
        let mut one = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        // Nothing, the beginning of a hello, or what is none.
        let _ = one.write_all(
            [&b""[..], b"\x16\x03\x01\x02\x00\x01", b"PRI * HTTP/2.0\r\n\r\n"][usize::from(number % 3)],
        );
        crowd.push(one);
    }
    // While they stand there.
    assert_eq!(shows(&server, &server.lab.path("etc")), Ok(()));
    let keys = keys::CLIENT;
    assert!(server.lab.path("etc").join(keys).exists());
    drop(crowd);
    let log = server.end();
    assert!(log.lines().count() < 100, "a flood of lines: {log}");
}

#[test]
fn those_who_say_nothing_at_the_socket_are_bounded_and_go() {
    let server = Server::at_socket("max_connections = 20\n");
    let before = server.descriptors();
    let crowd: Vec<UnixStream> = (0..200).map(|_| server.raw()).collect();
    assert!(server.descriptors() < before + 60);
    server.until("the first to go", |server| server.descriptors() <= before + 2);
    server.status();
    drop(crowd);
    assert!(server.end().contains("max_connections"));
}

/// What is sent, and whether it must end the connection at once.
fn attacks() -> Vec<(&'static str, Vec<u8>, bool)> {
    let headers = |stream: u32, flags| frame(HEADERS, flags, stream, &call("Drive"));
    let with = |rest: Vec<u8>| [opening(), rest].concat();
    let grpc = |bytes: &[u8]| with([headers(1, END_HEADERS), frame(DATA, 0, 1, bytes)].concat());
    let streams =
        |count: u32, each: &dyn Fn(u32) -> Vec<u8>| (0..count).flat_map(|at| each(2 * at + 1)).collect();
    let long = [header("x", &"y".repeat(100)).repeat(2000), vec![]].concat();
    let continued = |count: usize| {
        let first = frame(HEADERS, 0, 1, &call("Drive"));
        with([first, frame(CONTINUATION, 0, 1, &header("a", "b")).repeat(count)].concat())
    };
    vec![
        ("HTTP/1.1", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), true),
        ("noise", (0..4096_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect(), true),
        ("half a preface", PREFACE[..12].to_vec(), false),
        ("nothing more", opening(), false),
        ("headers that do not end", with(frame(HEADERS, 0, 1, &call("Drive"))), false),
        ("no end of continuations", continued(100_000), true),
        (
            "long headers",
            with(
                [frame(HEADERS, 0, 1, &call("Drive")), frame(CONTINUATION, END_HEADERS, 1, &long[..60_000])]
                    .concat(),
            ),
            false,
        ),
        ("pings", with(frame(PING, 0, 0, &[7; 8]).repeat(100_000)), false),
        ("settings", with(frame(SETTINGS, 0, 0, &[]).repeat(100_000)), false),
        ("streams", with(streams(2000, &|at| headers(at, END_HEADERS))), false),
        (
            "resets",
            with(streams(20_000, &|at| {
                [headers(at, END_HEADERS), frame(RST_STREAM, 0, at, &[0, 0, 0, 8])].concat()
            })),
            true,
        ),
        (
            "calls and resets",
            with(streams(20_000, &|at| {
                let begins = frame(HEADERS, END_HEADERS, at, &call("Status"));
                let says =
                    frame(DATA, END_STREAM, at, &message(&StatusRequest { protocol: Some(protocol()) }));
                [begins, says, frame(RST_STREAM, 0, at, &[0, 0, 0, 8])].concat()
            })),
            false,
        ),
        ("a frame too large", with(frame(DATA, 0, 1, &vec![0; 1 << 20])), true),
        ("a window too large", with(frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]).repeat(2)), true),
        ("a message of 4 GiB", grpc(&[0, 0xff, 0xff, 0xff, 0xff, 1]), false),
        ("a compressed message", grpc(&[1, 0, 0, 0, 4, 1, 2, 3, 4]), false),
        ("no message", grpc(&[0, 0, 0, 0, 3, 0xff, 0xff, 0xff]), false),
        ("a message that does not end", grpc(&[0, 0, 0, 1, 0, 0x0a]), false),
        ("data without a call", with(frame(DATA, 0, 7, b"x")), true),
        (
            "another method",
            with(
                [frame(HEADERS, END_HEADERS, 1, &call("../../x")), frame(DATA, END_STREAM, 1, b"")].concat(),
            ),
            false,
        ),
    ]
}

#[test]
fn no_evil_in_http2_stops_the_server_or_stays_with_it() {
    let server = Server::at_socket("");
    let before = server.descriptors();
    let mut open = Vec::new();
    for (name, bytes, must_end) in attacks() {
        let mut stream = server.raw();
        let mut reader = stream.try_clone().unwrap();
        // Who is answered and does not read is another attack.
        let reading = std::thread::spawn(move || {
            let mut all = Vec::new();
            let _ = Read::by_ref(&mut reader).take(64 << 20).read_to_end(&mut all);
        });
        // The server may have hung up on it by then.
        let _ = stream.write_all(&bytes);
        server.status();
        if must_end {
            let begun = std::time::Instant::now();
            while !reading.is_finished() {
                assert!(
                    begun.elapsed() < Duration::from_secs(30),
                    "{name}: the connection stays: {}",
                    server.log()
                );
                std::thread::sleep(Duration::from_millis(20));
            }
        } else {
            open.push((stream, reading));
        }
    }
    // Who asks again and again and takes no answer.
    let mut deaf = server.raw();
    let asks = |stream: u32| {
        let says = message(&StatusRequest { protocol: Some(protocol()) });
        [frame(HEADERS, END_HEADERS, stream, &call("Status")), frame(DATA, END_STREAM, stream, &says)]
            .concat()
    };
    let _ = deaf.write_all(&[opening(), (0..20_000).flat_map(|at| asks(2 * at + 1)).collect()].concat());
    server.status();
    // Nobody answers the server's pings: they go, although they hold their ends open.
    server.until("all to go", |server| server.descriptors() <= before + 3);
    assert!(server.most_mib() < 300, "{} MiB", server.most_mib());
    drop((open, deaf));
    server.end();
}

#[test]
fn calls_with_evil_in_their_messages_end_with_a_status_and_take_no_memory() {
    let server = Server::at_socket("");
    let begins = |start: Start| ClientMessage {
        what: Some(Say::Start(Start { protocol: Some(protocol()), ..start })),
    };
    let attach = |run: &str| {
        let attach = Attach { protocol: Some(protocol()), run: run.to_owned(), ..Attach::default() };
        ClientMessage { what: Some(Say::Attach(attach)) }
    };
    let ends = |first: ClientMessage| {
        wait_for(async {
            let (to, said) = tokio::sync::mpsc::channel(4);
            to.send(first).await.unwrap();
            // It is there as long as it is answered.
            tokio::spawn(async move {
                let alive = || ClientMessage { what: Some(Say::Alive(Alive {})) };
                while to.send(alive()).await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            });
            let said = tokio_stream::wrappers::ReceiverStream::new(said);
            let answer =
                tokio::time::timeout(LIMIT, server.client().drive(said)).await.expect("an answer in time");
            let mut answers = match answer {
                Ok(answers) => answers.into_inner(),
                Err(status) => return format!("{status:?}"),
            };
            let mut told = String::new();
            while let Ok(Some(message)) =
                tokio::time::timeout(LIMIT, answers.message()).await.expect("in time")
            {
                told = format!("{message:?}");
            }
            told
        })
    };
    let many = begins(Start { job_files: vec![File::default(); 3_000_000], ..Start::default() });
    assert!(ends(many).contains("more than 4096 job files"));
    let many = begins(Start { overrides: vec![JobOption::default(); 3_000_000], ..Start::default() });
    assert!(ends(many).contains("options"));
    let large = File { name: "x".to_owned(), text: "x".repeat(17 << 20) };
    assert!(ends(begins(Start { job_files: vec![large], ..Start::default() })).contains("too large"));
    assert!(server.most_mib() < 200, "{} MiB", server.most_mib());
    let nested = format!("[[job]]\nx = {}{}", "[".repeat(100_000), "]".repeat(100_000));
    for text in [nested, "\u{0}\u{feff}[[job".to_owned(), "[[job]]\n".repeat(5000)] {
        let file = File { name: "../\n\u{1b}[2J".to_owned(), text };
        let told = ends(begins(Start { job_files: vec![file], ..Start::default() }));
        assert!(told.contains("Ended") && told.contains("failure: Some"), "{told}");
    }
    for run in ["../../etc", "..", "/", "\n", &"0".repeat(1 << 20)] {
        let told = ends(attach(run));
        assert!(told.contains("no run") && told.len() < 4000, "{told}");
    }
    for first in
        [Say::Alive(Default::default()), Say::End(Default::default()), Say::State(Default::default())]
    {
        assert!(ends(ClientMessage { what: Some(first) }).contains("InvalidArgument"));
    }
    assert!(ends(ClientMessage { what: None }).contains("InvalidArgument"));
    let client = format!("a\n2026-01-01T00:00:00Z forged\u{1b}[2J{}", "x".repeat(1 << 20));
    ends(begins(Start { client, ..Start::default() }));
    let log = server.end();
    assert!(
        !log.chars().any(|c| c.is_control() && c != '\n')
            && !log.lines().any(|line| line.starts_with("2026-01-01"))
    );
    assert!(log.lines().all(|line| line.chars().count() < 600), "{log}");
}

/// A pipe that takes nothing any more.
fn full(mut pipe: PipeWriter) -> PipeWriter {
    let copy = pipe.try_clone().unwrap();
    // It waits in there for as long as the test lasts.
    std::thread::spawn(move || pipe.write_all(&vec![b'x'; 16 << 20]));
    std::thread::sleep(Duration::from_millis(300));
    copy
}

#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let (reader, writer) = std::io::pipe().unwrap();
    let lab = Lab::new();
    let listen = format!("listen = [\"unix:{}\"]\n", lab.path("s").display());
    let server = Server::of(lab, &listen, Some(Stdio::from(full(writer))));
    for _ in 0..3 {
        let _ = server.raw().write_all(b"GET / HTTP/1.1\r\n\r\n");
        server
            .run("[[job]]\nioengine = \"psync\"\nfilename = \"f\"\nrw = \"write\"\nsize = \"1m\"\n", &[])
            .expect(0);
    }
    server.status();
    server.end();
    drop(reader);
}

#[test]
fn two_servers_share_no_directory_and_no_socket() {
    let server = Server::at_socket("");
    let other = |directory: &str, socket: &str| {
        let path = |name: &str| server.lab.path(name).display().to_string();
        server.lab.file(
            "etc/other.toml",
            format!("directory = \"{}\"\nlisten = [\"unix:{}\"]\n", path(directory), path(socket)),
        );
        server.lab.run(&["server", "--config=etc/other.toml"]).expect(4)
    };
    other("data", "s2").says("in use by another server");
    other("data2", "s").says("another server listens there");
    server.lab.file("file", "mine");
    other("data3", "file").says("no socket");
    assert_eq!(server.lab.bytes("file"), b"mine");
    let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(server.socket()).unwrap());
    assert_eq!(mode & 0o777, 0o600);
    server.end();
}
