//! Connections by the thousand from one address, while a client at another one has work to do.

use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

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

#[test]
fn a_flood_from_one_address_keeps_no_client_at_another_out() {
    let server = Server::at_port("");
    let (over, count) = (AtomicBool::new(false), AtomicU64::new(0));
    let way = format!("--client=127.0.0.1:{}", server.port);
    let counted = std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| flood(server.port, &over, &count));
        }
        // However a claim fails, the flood ends.
        let _ends = Ends(&over);
        server.until("the flood", |_| count.load(Ordering::Acquire) >= BEFORE);
        let before = count.load(Ordering::Acquire);
        server.lab.file(
            "job.toml",
            "[[job]]\nname = \"j\"\nioengine = \"psync\"\nfilename = \"f\"\nrw = \"write\"\nbs = \"4k\"\nsize = \"1m\"\nverify = \"crc32c\"\n",
        );
        let done = server.lab.run(&["job.toml", &way, "--keys=etc", "--output-format=json"]).expect(0);
        let json = done.json();
        assert_eq!(json["jobs"][0]["write"]["total_ios"], 256, "{json:#}");
        // What is asked once is tried again too.
        let status = server.lab.run(&["server", "--status", &way, "--keys=etc"]).expect(0);
        assert!(status.stdout.contains("ended well"), "{status:#?}");
        // Until the flood has surely gone on all the while.
        let after = count.load(Ordering::Acquire);
        assert!(after > before, "{before} connections, and then none");
        after
    });
    assert!(counted >= BEFORE);
    server.until("the strangers to go", |server| server.descriptors() < 100);
    let log = server.end();
    let lines = log.lines().filter(|line| line.contains("refused 127.0.0.2")).count();
    assert!(lines < 2000 && (lines as u64) < counted / 2, "{lines} lines of {counted} connections");
    assert!(log.contains(" more refused connections in the last "), "{log}");
    // What the client did is not hidden behind that.
    assert!(log.contains("begins") && log.contains("ended well"), "{log}");
}

/// Ends the flood.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}
