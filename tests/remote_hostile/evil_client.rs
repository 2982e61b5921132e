//! A client with a valid way in that means harm: what the server does, and that it serves others on.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fio_spdk::remote::protocol;
use fio_spdk::remote::wire::bench::client_message::What as Say;
use fio_spdk::remote::wire::bench::server_message::What;
use fio_spdk::remote::wire::bench::{
    Attach, ClientMessage, CommandReport, End, File, Fire, Start, State, Stored, state,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::server::{LIMIT, Server, wait_for};

const LONG: &str = "[[job]]\nname = \"j\"\nioengine = \"psync\"\nfilename = \"f\"\nrw = \"write\"\nbs = \"4k\"\nsize = \"1m\"\n\
                    time_based = true\nruntime = \"10m\"\nverify = \"crc32c\"\nrate_iops = 1000\n";
const SHORT: &str = "[[job]]\nioengine = \"psync\"\nfilename = \"g\"\nrw = \"write\"\nsize = \"1m\"\n";

fn say(what: Say) -> ClientMessage {
    ClientMessage { what: Some(what) }
}

fn attach(run: &str, watch: bool) -> ClientMessage {
    let (protocol, run) = (Some(protocol()), run.to_owned());
    say(Say::Attach(Attach { protocol, run, watch, ..Attach::default() }))
}

fn start(text: &str) -> ClientMessage {
    let job_files = vec![File { name: "a.toml".to_owned(), text: text.to_owned() }];
    say(Say::Start(Start { protocol: Some(protocol()), job_files, ..Start::default() }))
}

type Way = (mpsc::Sender<ClientMessage>, Streaming<fio_spdk::remote::wire::bench::ServerMessage>);

/// A call that begins with this.
async fn call(server: &Server, first: ClientMessage) -> Result<Way, tonic::Status> {
    let (to, said) = mpsc::channel(64);
    to.send(first).await.expect("there is room");
    let answer = tokio::time::timeout(LIMIT, server.client().drive(ReceiverStream::new(said))).await;
    Ok((to, answer.expect("an answer in time")?.into_inner()))
}

/// What comes next, but that the server is alive.
async fn next(way: &mut Way) -> Option<What> {
    loop {
        let message = tokio::time::timeout(LIMIT, way.1.message()).await.expect("a word in time");
        match message.ok()??.what {
            Some(What::Alive(_)) => {}
            what => return what,
        }
    }
}

/// Until this comes: what it is.
async fn until<T>(way: &mut Way, is: impl Fn(What) -> Option<T>) -> T {
    loop {
        match next(way).await {
            Some(what) => {
                if let Some(found) = is(what) {
                    return found;
                }
            }
            None => panic!("the call ended"),
        }
    }
}

/// A run that goes on, and the client that drives it: it stores what it is sent.
async fn driven(server: &Server) -> (Way, String) {
    let mut way = call(server, start(LONG)).await.expect("it is let in");
    let run = until(&mut way, |what| match what {
        What::Accepted(accepted) => Some(accepted.run),
        _ => None,
    })
    .await;
    let number = until(&mut way, |what| match what {
        What::Snapshot(snapshot) => Some(snapshot.number),
        _ => None,
    })
    .await;
    let stored = Stored { number, failure: String::new() };
    way.0.send(say(Say::Stored(stored))).await.expect("the server listens");
    (way, run)
}

#[test]
fn a_client_that_attaches_thousands_of_times_fills_neither_the_log_nor_the_server() {
    const TIMES: usize = 3000;
    let server = Server::at_socket("");
    server.run(SHORT, &[]).expect(0);
    let before = server.descriptors();
    let count = AtomicUsize::new(0);
    wait_for(async {
        let mut client = server.client();
        while count.fetch_add(1, Ordering::Relaxed) < TIMES {
            let (to, said) = mpsc::channel(1);
            to.send(attach("", true)).await.unwrap();
            // It leaves at once.
            let answer = client.drive(ReceiverStream::new(said)).await.map(|answer| answer.into_inner());
            assert!(
                answer.is_ok() || answer.is_err_and(|status| status.code() == tonic::Code::ResourceExhausted)
            );
        }
    });
    // Another kind of line is not hidden.
    server.run(SHORT, &[]).expect(0);
    server.until("the calls to go", |server| server.descriptors() <= before + 2);
    let log = server.end();
    let lines = |what: &str| log.lines().filter(|line| line.contains(what)).count();
    assert!(lines(" watches") < TIMES / 4, "{} lines", lines(" watches"));
    assert!(log.contains(" more clients that attached in the last "), "{log}");
    assert_eq!(lines("ended well"), 2, "{log}");
}

#[test]
fn who_does_not_drive_a_run_can_neither_fire_nor_end_nor_answer_for_it() {
    let server = Server::at_socket("");
    wait_for(async {
        let (mut driver, run) = driven(&server).await;
        let mut evil = call(&server, attach(&run, true)).await.expect("anybody may watch");
        until(&mut evil, |what| matches!(what, What::Accepted(it) if !it.drives).then_some(())).await;
        let report = CommandReport { success: true, ..CommandReport::default() };
        let forged = State { what: Some(state::What::Snapshot(b"forged".to_vec().into())) };
        for what in [
            Say::Fire(Fire { why: "evil".to_owned() }),
            Say::End(End { signal: 15 }),
            Say::Stored(Stored { number: 1, failure: "evil".to_owned() }),
            Say::Stored(Stored { number: u64::MAX, failure: String::new() }),
            Say::CommandRan(report),
            Say::State(forged),
        ] {
            evil.0.send(say(what)).await.expect("the server listens");
        }
        until(&mut evil, |what| matches!(what, What::Note(it) if it.contains("is not done")).then_some(()))
            .await;
        // The run goes on, and its driver ends it.
        until(&mut driver, |what| {
            matches!(what, What::Progress(it) if it.workers_running == 1).then_some(())
        })
        .await;
        // What was answered before is answered again, and what was never asked.
        for number in [0, 1, 1, 7_000, u64::MAX] {
            let again = Stored { number, failure: "again".to_owned() };
            driver.0.send(say(Say::Stored(again))).await.expect("the server listens");
        }
        driver.0.send(say(Say::End(End { signal: 2 }))).await.expect("the server listens");
        let ended = loop {
            match next(&mut driver).await.expect("an end") {
                What::Snapshot(snapshot) => {
                    let stored = Stored { number: snapshot.number, failure: String::new() };
                    driver.0.send(say(Say::Stored(stored))).await.expect("the server listens");
                }
                What::Ended(ended) => break ended,
                _ => {}
            }
        };
        let report = ended.report.expect("a report");
        assert_eq!((report.trigger, report.ended_by_signal, ended.failure), (None, Some(2), None));
    });
    server.end();
}

#[test]
fn another_run_or_a_second_beginning_in_one_call_is_refused() {
    let server = Server::at_socket("");
    wait_for(async {
        let (mut driver, run) = driven(&server).await;
        for other in ["f".repeat(32), run.to_uppercase() + "0", "../".to_owned() + &run, "*".to_owned()] {
            let refused = call(&server, attach(&other, false)).await.err().map(|status| status.code());
            assert_eq!(refused, Some(tonic::Code::NotFound), "{other}");
        }
        for again in [attach(&run, false), start(SHORT)] {
            let mut evil = call(&server, attach(&run, true)).await.expect("anybody may watch");
            evil.0.send(again).await.expect("the server listens");
            while next(&mut evil).await.is_some() {}
        }
        driver.0.send(say(Say::End(End { signal: 15 }))).await.expect("the server listens");
        while next(&mut driver).await.is_some() {}
    });
    assert_eq!(server.status().runs.len(), 1, "no other run has begun");
    server.end();
}

#[test]
fn calls_that_are_abandoned_half_open_take_nothing_that_others_need() {
    let server = Server::at_socket("");
    let before = server.descriptors();
    wait_for(async {
        let mut kept = Vec::new();
        for at in 0..200 {
            let (to, said) = mpsc::channel::<ClientMessage>(1);
            let mut client = server.client();
            let asked = tokio::spawn(async move { client.drive(ReceiverStream::new(said)).await.map(drop) });
            match at % 3 {
                // Begun, and neither word nor end.
                0 => kept.push((Some(to), asked)),
                // Ended before a word.
                1 => kept.push((None, asked)),
                // Gone in the middle.
                _ => asked.abort(),
            }
        }
        // Others are served meanwhile; the calls end with this runtime.
        let mut client = server.client();
        let asked = fio_spdk::remote::wire::bench::StatusRequest { protocol: Some(protocol()) };
        client.status(asked).await.expect("an answer");
    });
    server.run(SHORT, &[]).expect(0);
    server.until("all to go", |server| server.descriptors() <= before + 2);
    assert!(server.most_mib() < 200, "{} MiB", server.most_mib());
    server.end();
}

#[test]
fn a_huge_text_that_is_no_job_is_refused_and_the_server_stays_small() {
    let server = Server::at_socket("");
    for text in ["= ".repeat(2 << 20), "[[job]]\n".repeat(100_000), "x".repeat(15 << 20)] {
        let refusal = wait_for(async {
            let mut way = call(&server, start(&text)).await.expect("it is looked at");
            // Alive while it is looked at.
            let to = way.0.clone();
            let alive = tokio::spawn(async move {
                while to.send(say(Say::Alive(Default::default()))).await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            });
            let refusal = until(&mut way, |what| match what {
                What::Ended(ended) => Some(ended.failure.expect("no such job").message),
                _ => None,
            })
            .await;
            alive.abort();
            refusal
        });
        assert!(!refusal.is_empty() && refusal.len() < 1 << 20, "{} bytes", refusal.len());
    }
    server.run(SHORT, &[]).expect(0);
    assert!(server.most_mib() < 300, "{} MiB", server.most_mib());
    server.end();
}
