//! Connections by the thousand from one address, while a client at another one has work to do.

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::Scope;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use super::server::Server;

/// Connections that one thread of the flood holds open.
const HELD: usize = 200;
/// Connections before the client begins.
const BEFORE: u64 = 3000;

/// What a stranger sends: nothing, a byte of TLS, the beginning of a hello, or no TLS at all.
const WORDS: [&[u8]; 4] =
    [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"PRI * HTTP/2.0\r\n\r\n"];

/// Connects from 127.0.0.2 as fast as it can, until `over`.
fn flood(port: u16, over: &AtomicBool, count: &AtomicU64) {
    let server = SockAddr::from(SocketAddr::from(([127, 0, 0, 1], port)));
    let own = SockAddr::from(SocketAddr::from(([127, 0, 0, 2], 0)));
    let mut held = std::collections::VecDeque::new();
    while !over.load(Ordering::Acquire) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&own).expect("127.0.0.2 is this machine's");
        // Closed by a reset: no port stays taken.
        socket.set_linger(Some(Duration::ZERO)).expect("an option");
        let timeout = Duration::from_secs(5);
        if socket.connect_timeout(&server, timeout).is_err() {
            continue;
        }
        let stream = TcpStream::from(socket);
        let number = count.fetch_add(1, Ordering::AcqRel);
        let words = WORDS[(number % WORDS.len() as u64) as usize];
        let _ = std::io::Write::write_all(&mut &stream, words);
        held.push_back(stream);
        if held.len() > HELD {
            held.pop_front();
        }
    }
}

/// Connections of strangers that a client's handshake lasts for, at least: many times what the server has
/// places for.
const DURING: u64 = 300;

/// A slow way from a port of 127.0.0.1 to the server: what a client says first stays on the way until the
/// flood has made so many connections more. Gives its port.
fn slow_way<'scope>(
    scope: &'scope Scope<'scope, '_>,
    server: u16,
    over: &'scope AtomicBool,
    count: &'scope AtomicU64,
) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    listener.set_nonblocking(true).expect("an option");
    scope.spawn(move || {
        while !over.load(Ordering::Acquire) {
            let Ok((client, _)) = listener.accept() else {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            };
            client.set_nonblocking(false).expect("an option");
            // Its place is taken from here on.
            let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { continue };
            let until = count.load(Ordering::Acquire) + DURING;
            scope.spawn(move || {
                while count.load(Ordering::Acquire) < until && !over.load(Ordering::Acquire) {
                    std::thread::sleep(Duration::from_millis(1));
                }
                let copy = |mut from: &TcpStream, mut to: &TcpStream| {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Write);
                };
                std::thread::scope(|both| {
                    both.spawn(|| copy(&client, &server));
                    copy(&server, &client);
                });
            });
        }
    });
    port
}

#[test]
fn a_flood_from_one_address_keeps_no_client_at_another_out() {
    // As it is, and with as few places and connections as there can be.
    for settings in ["", "max_handshakes = 2\nmax_connections = 2\n"] {
        println!("{}", outlasts_a_flood(&Server::at_port(settings)));
    }
}

/// How fast the flood was.
fn outlasts_a_flood(server: &Server) -> String {
    let (over, count) = (AtomicBool::new(false), AtomicU64::new(0));
    let begun = Instant::now();
    let counted = std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| flood(server.port, &over, &count));
        }
        // However a claim fails, the flood ends.
        let _ends = Ends(&over);
        let port = slow_way(scope, server.port, &over, &count);
        let way = format!("--client=127.0.0.1:{port}");
        let patience = "--connect-timeout=60s";
        server.until("the flood", |_| count.load(Ordering::Acquire) >= BEFORE);
        let before = count.load(Ordering::Acquire);
        server.lab.file(
            "job.toml",
            "[[job]]\nname = \"j\"\nioengine = \"psync\"\nfilename = \"f\"\nrw = \"write\"\nbs = \"4k\"\nsize = \"1m\"\nverify = \"crc32c\"\n",
        );
        let done =
            server.lab.run(&["job.toml", &way, patience, "--keys=etc", "--output-format=json"]).expect(0);
        let json = done.json();
        assert_eq!(json["jobs"][0]["write"]["total_ios"], 256, "{json:#}");
        // What is asked once is tried again too.
        let status = server.lab.run(&["server", "--status", &way, patience, "--keys=etc"]).expect(0);
        assert!(status.stdout.contains("ended well"), "{status:#?}");
        // Until the flood has surely gone on all the while.
        let after = count.load(Ordering::Acquire);
        assert!(after >= before + 2 * DURING, "{before} connections, and then {after}");
        after
    });
    assert!(counted >= BEFORE);
    let rate = format!("{counted} connections in {} ms", begun.elapsed().as_millis());
    server.until("the strangers to go", |server| server.descriptors() < 100);
    let log = server.log();
    assert!(!log.contains("panicked"), "{log}");
    let lines = log.lines().filter(|line| line.contains("refused 127.0.0.2")).count();
    assert!(lines < 2000 && (lines as u64) < counted / 2, "{lines} lines of {counted} connections");
    // What the client did is not hidden behind that.
    assert!(log.contains("begins") && log.contains("ended well"), "{log}");
    rate
}

/// Ends the flood.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}
