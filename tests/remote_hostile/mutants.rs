//! Whole connections, changed at random.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fio_spdk::remote::protocol;
use fio_spdk::remote::wire::bench::client_message::What as Say;
use fio_spdk::remote::wire::bench::{Attach, ClientMessage, File, Start, StatusRequest, StopRequest};

use super::http2::session;
use super::server::Server;

const MUTANTS: usize = 2000;
const THREADS: usize = 8;

/// Numbers that look random, the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end.max(1) as u64) as usize
    }
}

fn sessions() -> Vec<Vec<u8>> {
    let text = "[[job]]\nioengine = \"psync\"\nfilename = \"f\"\nrw = \"write\"\nverify = \"crc32c\"\nsize = \"64k\"\n";
    let start = Start {
        protocol: Some(protocol()),
        job_files: vec![File { name: "a.toml".to_owned(), text: text.to_owned() }],
        client: "lab".to_owned(),
        ..Start::default()
    };
    let attach = Attach { protocol: Some(protocol()), watch: true, ..Attach::default() };
    vec![
        session("Drive", &ClientMessage { what: Some(Say::Start(start)) }),
        session("Drive", &ClientMessage { what: Some(Say::Attach(attach)) }),
        session("Status", &StatusRequest { protocol: Some(protocol()) }),
        session("Stop", &StopRequest { protocol: Some(protocol()), ..StopRequest::default() }),
    ]
}

fn changed(sessions: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = sessions[random.below(sessions.len())].clone();
    // Some keep their preface, so that more is looked at.
    let from = if random.below(4) > 0 { 24 } else { 0 };
    for _ in 0..=random.below(6) {
        let at = from + random.below(bytes.len().saturating_sub(from));
        let at = at.min(bytes.len().saturating_sub(1));
        match random.below(6) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.below(256) as u8,
            2 => bytes.truncate(at + 1),
            3 => bytes.insert(at, random.below(256) as u8),
            4 => {
                let end = (at + random.below(64)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => {
                let end = (at + random.below(16)).min(bytes.len());
                bytes.drain(at..end);
            }
        }
        if bytes.is_empty() {
            break;
        }
    }
    bytes
}

#[test]
fn thousands_of_changed_connections_leave_the_server_as_it_was() {
    let server = Server::at_socket("max_connections = 32\n");
    server.status();
    let before = server.descriptors();
    let sessions = sessions();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= MUTANTS {
                        return;
                    }
                    let mut random = Random(number as u64);
                    let bytes = changed(&sessions, &mut random);
                    let mut stream = server.raw();
                    stream
                        .set_read_timeout(Some(Duration::from_millis(1 + random.below(30) as u64)))
                        .unwrap();
                    let _ = stream.write_all(&bytes);
                    let _ = stream.read(&mut [0; 4096]);
                    if random.below(2) == 0 {
                        let _ = stream.shutdown(std::net::Shutdown::Write);
                        let _ = stream.read(&mut [0; 4096]);
                    }
                }
            });
        }
    });
    server.until("all runs to end", |server| server.children() == 0);
    server.until("all connections to go", |server| server.descriptors() <= before + 1);
    let done =
        server.run("[[job]]\nioengine = \"psync\"\nfilename = \"f\"\nrw = \"write\"\nsize = \"1m\"\n", &[]);
    done.expect(0);
    assert!(server.status().runs.len() <= 20);
    assert!(server.most_mib() < 200, "{} MiB", server.most_mib());
    server.end();
}
