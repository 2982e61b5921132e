//! The server as a program, driven over its socket by a client that speaks the protocol itself.

mod common;

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use common::{Done, Lab, Running};
use fio_spdk::remote::protocol;
use fio_spdk::remote::wire::bench::bench_client::BenchClient;
use fio_spdk::remote::wire::bench::client_message::What as Say;
use fio_spdk::remote::wire::bench::server_message::What;
use fio_spdk::remote::wire::bench::{
    Alive, Attach, ClientMessage, Ended, FailureKind, File, RunStatus, ServerMessage, Start, StatusRequest,
    Stored,
};
use rustix::process::Signal;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint, Uri};

const LIMIT: Duration = Duration::from_secs(40);
/// Writes, and promises, until it is ended.
const LONG: &str = r#"
[[job]]
name = "j"
filename = "data"
rw = "randwrite"
bs = "4k"
size = "1m"
time_based = true
runtime = "60s"
verify = "crc32c"
fsync = 50
"#;

struct Server {
    lab: Lab,
    program: Option<Running>,
}

impl Server {
    fn start() -> Server {
        let lab = Lab::new();
        let (directory, socket) = (lab.path("data"), lab.path("socket"));
        let settings = format!(
            "directory = {directory:?}\nlisten = [\"unix:{}\"]\nclient_timeout = 5\n",
            socket.display()
        );
        lab.file("server.toml", settings);
        let mut server = Server { lab, program: None };
        server.again();
        server
    }

    /// Starts it, once more.
    fn again(&mut self) {
        let mut program = self.lab.spawn(&["server", "--config=server.toml"]);
        let socket = self.lab.path("socket");
        program.wait_until("the server to listen", || UnixStream::connect(&socket).is_ok());
        self.program = Some(program);
    }

    fn end(&mut self, signal: Signal) -> Done {
        let program = self.program.take().expect("a server");
        program.signal(signal);
        program.end()
    }

    fn client(&self) -> BenchClient<Channel> {
        let socket = self.lab.path("socket");
        let connect = tower::service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move { tokio::net::UnixStream::connect(socket).await.map(hyper_util::rt::TokioIo::new) }
        });
        BenchClient::new(Endpoint::from_static("http://dut").connect_with_connector_lazy(connect))
            .max_decoding_message_size(64 << 20)
    }

    async fn begin(&self, job: &str) -> Talk {
        let job_files = vec![File { name: "a.toml".to_owned(), text: job.to_owned() }];
        let client = "lab".to_owned();
        self.call(Say::Start(Start { protocol: Some(protocol()), job_files, client, ..Start::default() }))
            .await
    }

    async fn attach(&self) -> Talk {
        self.call(Say::Attach(Attach { protocol: Some(protocol()), ..Attach::default() })).await
    }

    async fn call(&self, first: Say) -> Talk {
        let (to, messages) = mpsc::channel(16);
        to.send(ClientMessage { what: Some(first) }).await.expect("room");
        let from = self.client().drive(ReceiverStream::new(messages)).await.expect("a call").into_inner();
        let alive = to.clone();
        let alive = tokio::spawn(async move {
            while alive.send(ClientMessage { what: Some(Say::Alive(Alive {})) }).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        });
        Talk { to, from, alive, snapshots: 0 }
    }

    async fn runs(&self) -> Vec<RunStatus> {
        let request = StatusRequest { protocol: Some(protocol()) };
        self.client().status(request).await.expect("a status").into_inner().runs
    }

    async fn until(&self, what: &str, holds: impl Fn(&[RunStatus]) -> bool) {
        for _ in 0..LIMIT.as_millis() / 100 {
            if holds(&self.runs().await) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("waited too long for {what}: {:#?}", self.runs().await);
    }
}

struct Talk {
    to: mpsc::Sender<ClientMessage>,
    from: Streaming<ServerMessage>,
    alive: tokio::task::JoinHandle<()>,
    snapshots: usize,
}

impl Drop for Talk {
    fn drop(&mut self) {
        self.alive.abort();
    }
}

impl Talk {
    /// What comes next; snapshots are counted and answered.
    async fn next(&mut self) -> Option<What> {
        let message = timeout(LIMIT, self.from.message()).await.expect("the server says something");
        let what = message.expect("the call goes on").map(|message| message.what.expect("something"));
        if let Some(What::Snapshot(snapshot)) = &what {
            self.snapshots += 1;
            let stored = Stored { number: snapshot.number, failure: String::new() };
            let _ = self.to.send(ClientMessage { what: Some(Say::Stored(stored)) }).await;
        }
        what
    }

    /// Waits until it writes.
    async fn writes(&mut self) {
        loop {
            match self.next().await.expect("it does not end") {
                What::Progress(progress) if progress.iops.is_some_and(|iops| iops.write > 0.0) => return,
                What::Ended(ended) => panic!("{ended:?}"),
                _ => {}
            }
        }
    }

    async fn ended(&mut self) -> Ended {
        loop {
            if let What::Ended(ended) = self.next().await.expect("an end") {
                return ended;
            }
        }
    }
}

/// The process of the only run.
fn session_of(server: &Server) -> u32 {
    let run =
        std::fs::read_dir(server.lab.path("data/runs")).expect("runs").next().expect("a run").expect("it");
    let facts = std::fs::read_to_string(run.path().join("run.toml")).expect("its facts");
    let number = facts.lines().find_map(|line| line.strip_prefix("process = ")).expect("its process");
    number.parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_ends_well_and_a_server_that_starts_anew_knows_it() {
    let mut server = Server::start();
    for _ in 0..50 {
        // Who says nothing, or nothing that can be understood, is in nobody's way.
        let mut silent = UnixStream::connect(server.lab.path("socket")).expect("a connection");
        let _ = silent.write_all(b"GET / HTTP/1.1\r\n\r\n");
    }
    let short = LONG.replace("time_based = true\nruntime = \"60s\"\n", "");
    let mut talk = server.begin(&short).await;
    let ended = talk.ended().await;
    assert_eq!(ended.failure, None);
    assert!(ended.report.is_some() && talk.snapshots > 0);
    let before = server.runs().await;
    assert_eq!(before[0].state, "ended well", "{before:#?}");
    server.end(Signal::TERM).expect(0);
    server.again();
    assert_eq!(server.runs().await, before);
    let mut again = server.attach().await;
    assert_eq!(again.ended().await.report, ended.report);
    assert_eq!(again.snapshots, 1);
    server.end(Signal::INT).expect(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_client_vanishes_ends_in_order_and_its_snapshot_is_kept() {
    let mut server = Server::start();
    let mut talk = server.begin(LONG).await;
    talk.writes().await;
    let busy = server.begin(LONG).await.ended().await.failure.expect("the file is in use");
    assert_eq!(busy.kind(), FailureKind::Busy, "{busy:?}");
    drop(talk);
    server.until("the end", |runs| runs[0].ended_unix_ms > 0).await;
    let mut again = server.attach().await;
    assert!(again.ended().await.report.is_some() && again.snapshots == 1);
    server.end(Signal::TERM).expect(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ends_ends_its_runs_and_tells_their_clients() {
    let mut server = Server::start();
    let mut talk = server.begin(LONG).await;
    talk.writes().await;
    server.program.as_ref().expect("a server").signal(Signal::TERM);
    let ended = talk.ended().await;
    assert!(ended.failure.is_none() && ended.report.is_some(), "{:?}", ended.failure);
    server.program.take().expect("a server").end().expect(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_killed_leaves_its_snapshot() {
    let mut server = Server::start();
    let mut talk = server.begin(LONG).await;
    talk.writes().await;
    let kill = |id: u32| {
        let id = rustix::process::Pid::from_raw(id.try_into().expect("a process id")).expect("one");
        rustix::process::kill_process(id, Signal::KILL).expect("it is there");
    };
    kill(session_of(&server));
    let failure = talk.ended().await.failure.expect("it was killed");
    assert!(failure.message.contains("SIGKILL"), "{failure:?}");
    let mut again = server.attach().await;
    assert!(again.ended().await.failure.is_some() && again.snapshots == 1);
    // And now the server, while a run goes on: that ends by itself.
    let mut talk = server.begin(LONG).await;
    talk.writes().await;
    let run = server.runs().await.remove(0).run;
    kill(server.program.as_ref().expect("a server").id());
    server.program.take().expect("a server").end();
    drop(talk);
    server.again();
    server.until("its end", |runs| runs.iter().any(|it| it.run == run && it.ended_unix_ms > 0)).await;
    let mut again = server.attach().await;
    assert!(again.ended().await.report.is_some(), "its process has kept its report");
    assert_eq!(again.snapshots, 1);
    server.end(Signal::TERM).expect(0);
}
