//! The server against clients and processes that do what they should not.

use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status, Streaming};

use super::calls::Calls;
use super::runs::Runs;
use super::service::Service;
use super::{fake, place};
use crate::remote::listen::{self, Listeners};
use crate::remote::settings::Settings;
use crate::remote::wire::bench::bench_client::BenchClient;
use crate::remote::wire::bench::client_message::What as Say;
use crate::remote::wire::bench::server_message::What;
use crate::remote::wire::bench::{
    Alive, Attach, ClientMessage, CommandReport, Ended, File, Fire, ProtocolVersion, RunStatus,
    ServerMessage, Start, State, StatusReply, StatusRequest, StopReply, StopRequest, Stored, state,
};
use crate::remote::{MOST_MESSAGE_BYTES, protocol};

/// Nothing here takes so long.
const LIMIT: Duration = Duration::from_secs(30);

struct Lab {
    settings: Settings,
    serving: tokio::task::JoinHandle<()>,
    place: Arc<TempDir>,
}

impl Lab {
    async fn new(change: impl FnOnce(&mut Settings)) -> Lab {
        Lab::again(Arc::new(tempfile::tempdir().unwrap()), change).await
    }

    /// A server in a directory where one was.
    async fn again(place: Arc<TempDir>, change: impl FnOnce(&mut Settings)) -> Lab {
        let socket = place.path().join("socket");
        let _ = std::fs::remove_file(&socket);
        let mut settings = Settings::new(place.path().join("server.toml"));
        settings.directory = place.path().join("data");
        settings.listen =
            vec![crate::remote::address::Address::parse(&format!("unix:{}", socket.display())).unwrap()];
        change(&mut settings);
        let lock = place::take(&settings.directory).unwrap();
        let runs = Arc::new(Runs::open(settings.clone(), "dut".to_owned(), fake::PROGRAM).unwrap());
        let listeners = Listeners::bind(&settings).unwrap();
        let service = Service::new(runs, settings.clone(), "dut".to_owned());
        let service = Calls::new(service);
        let serving = listen::http(tonic::transport::Server::builder(), &settings)
            .add_service(service)
            .serve_with_incoming(listeners.into_incoming().unwrap());
        let serving = tokio::spawn(async move {
            let _lock = lock;
            let _ = serving.await;
        });
        Lab { settings, serving, place }
    }

    fn client(&self) -> BenchClient<Channel> {
        let socket = self.place.path().join("socket");
        let connect = tower::service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move { tokio::net::UnixStream::connect(socket).await.map(hyper_util::rt::TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://dut").connect_with_connector_lazy(connect);
        BenchClient::new(channel).max_encoding_message_size(usize::MAX)
    }

    async fn call(&self, first: Say) -> Result<Talk, Status> {
        let (to, messages) = mpsc::channel(16);
        to.send(ClientMessage { what: Some(first) }).await.unwrap();
        let call = self.client().drive(ReceiverStream::new(messages)).await;
        Ok(Talk { to, from: call?.into_inner() })
    }

    /// Begins a run whose process does this.
    async fn begin(&self, script: &str) -> Talk {
        self.call(Say::Start(start(script))).await.unwrap()
    }

    async fn attach(&self, watch: bool) -> Talk {
        self.call(Say::Attach(attach(watch))).await.unwrap()
    }

    async fn status(&self) -> StatusReply {
        let request = StatusRequest { protocol: Some(protocol()) };
        self.client().status(request).await.unwrap().into_inner()
    }

    async fn stop(&self) -> StopReply {
        let request =
            StopRequest { protocol: Some(protocol()), client: "me".to_owned(), ..StopRequest::default() };
        self.client().stop(request).await.unwrap().into_inner()
    }

    async fn until(&self, what: &str, holds: impl Fn(&StatusReply) -> bool) -> StatusReply {
        for _ in 0..600 {
            let status = self.status().await;
            if holds(&status) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("waited too long for {what}: {:#?}", self.status().await);
    }
}

fn start(script: &str) -> Start {
    Start {
        protocol: Some(protocol()),
        job_files: vec![File { name: "a.toml".to_owned(), text: script.to_owned() }],
        client: "lab".to_owned(),
        ..Start::default()
    }
}

fn attach(watch: bool) -> Attach {
    Attach { protocol: Some(protocol()), watch, client: "other".to_owned(), ..Attach::default() }
}

struct Talk {
    to: mpsc::Sender<ClientMessage>,
    from: Streaming<ServerMessage>,
}

impl Talk {
    async fn say(&self, what: Say) {
        self.to.send(ClientMessage { what: Some(what) }).await.unwrap();
    }

    async fn next(&mut self) -> Result<Option<What>, Status> {
        loop {
            let message = timeout(LIMIT, self.from.message()).await.expect("the server says something")?;
            match message.map(|message| message.what) {
                None => return Ok(None),
                Some(None | Some(What::Alive(_))) => {}
                Some(Some(what)) => return Ok(Some(what)),
            }
        }
    }

    /// What comes next that is no number.
    async fn hear(&mut self) -> What {
        loop {
            match self.next().await.unwrap().expect("the call goes on") {
                What::Progress(_) | What::SoFar(_) => {}
                what => return what,
            }
        }
    }

    async fn accepted(&mut self) -> bool {
        match self.hear().await {
            What::Accepted(accepted) => accepted.drives,
            other => panic!("{other:?}"),
        }
    }

    async fn note(&mut self, expected: &str) {
        let heard = self.hear().await;
        assert!(matches!(&heard, What::Note(text) if text == expected), "{expected}: {heard:?}");
    }

    async fn snapshot(&mut self, expected: u64) {
        let heard = self.hear().await;
        assert!(matches!(&heard, What::Snapshot(snapshot) if snapshot.number == expected), "{heard:?}");
    }

    async fn ended(&mut self) -> Ended {
        loop {
            if let What::Ended(ended) = self.hear().await {
                assert_eq!(self.next().await.unwrap(), None, "nothing comes behind the end");
                return ended;
            }
        }
    }

    async fn failure(&mut self) -> String {
        self.ended().await.failure.expect("a failure").message
    }
}

fn stored(number: u64) -> Say {
    Say::Stored(Stored { number, failure: String::new() })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_told_in_order_to_its_end() {
    let lab = Lab::new(|_| {}).await;
    let script = "want_state\nuntil state\naccept\nnote one\nsnapshot 1\nuntil stored\nwant_command true\n\
                  until command\nnote two\nend";
    let mut talk = lab.begin(script).await;
    assert!(matches!(talk.hear().await, What::StateWanted(_)));
    talk.say(Say::State(State { what: Some(state::What::Missing("none".to_owned())) })).await;
    assert!(talk.accepted().await, "who begins a run drives it");
    // Twice: that is no answer to anything any more, and the process does not hear of it.
    talk.say(Say::State(State { what: None })).await;
    talk.say(Say::CommandRan(CommandReport::default())).await;
    let mut notes = Vec::new();
    let ended = loop {
        match talk.hear().await {
            What::Note(text) => notes.push(text),
            What::Snapshot(snapshot) => talk.say(stored(snapshot.number)).await,
            What::CommandWanted(_) => {
                talk.say(Say::CommandRan(CommandReport { status: "well".to_owned(), ..Default::default() }))
                    .await;
            }
            What::Ended(ended) => break ended,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(notes, ["heard state", "one", "heard stored 1", "heard command well", "two"]);
    assert_eq!(ended.failure, None);
    let client = lab.until("the end", |status| status.runs.len() == 1).await.runs.remove(0).client;
    assert!(client.ends_with("(lab)"), "{client}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_drives_and_others_watch() {
    let lab = Lab::new(|settings| settings.max_watchers = 1).await;
    let mut driver = lab.begin("accept\nnote begun\nsnapshot 1\nuntil stored\nuntil fire\nend").await;
    assert!(driver.accepted().await);
    let what = [driver.hear().await, driver.hear().await];
    assert!(what.iter().any(|what| matches!(what, What::Snapshot(_))), "{what:?}");
    let mut watcher = lab.attach(false).await;
    assert!(!watcher.accepted().await, "somebody drives already");
    watcher.note("begun").await;
    let refused = lab.call(Say::Attach(attach(true))).await.err().expect("one may watch");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let status = lab.status().await;
    assert!(status.runs[0].driven && status.runs[0].watchers == 1, "{status:#?}");
    for what in [stored(1), Say::Fire(Fire { why: "watcher".to_owned() })] {
        watcher.say(what).await;
    }
    assert!(matches!(watcher.hear().await, What::Note(text) if text.contains("another client drives")));
    driver.say(stored(1)).await;
    driver.note("heard stored 1").await;
    driver.say(Say::Fire(Fire { why: "driver".to_owned() })).await;
    driver.note("heard fire driver").await;
    driver.ended().await;
    watcher.note("heard stored 1").await;
    watcher.note("heard fire driver").await;
    watcher.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_without_a_driver_is_taken_over_with_what_was_not_answered() {
    let lab = Lab::new(|_| {}).await;
    let script = "accept detach\nnote begun\nsnapshot 1\nwant_command cut\nuntil back\nuntil command\nend";
    let mut first = lab.begin(script).await;
    first.accepted().await;
    while !matches!(first.hear().await, What::CommandWanted(_)) {}
    drop(first);
    let status = lab.until("no driver", |status| !status.runs[0].driven).await;
    assert!(status.runs[0].detached, "{status:#?}");
    let mut second = lab.attach(false).await;
    assert!(second.accepted().await, "nobody drives");
    let mut heard = Vec::new();
    while heard.len() < 5 {
        heard.push(match second.hear().await {
            What::Snapshot(snapshot) => format!("snapshot {}", snapshot.number),
            What::CommandWanted(wanted) => wanted.command,
            What::Note(text) => text,
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(heard[..3], ["snapshot 1", "cut", "begun"]);
    assert_eq!(heard[3..], ["heard gone", "heard back"]);
    second.say(Say::CommandRan(CommandReport::default())).await;
    second.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_came_back_before_its_old_connection_was_known_to_be_dead_drives_when_that_is() {
    let lab = Lab::new(|settings| settings.client_timeout = Duration::from_secs(2)).await;
    let script = "accept detach\nnote begun\nsnapshot 1\nuntil back\nsnapshot 2\nuntil stored\nend";
    let mut first = lab.begin(script).await;
    first.accepted().await;
    // It stays as it is: half open.
    let mut onlooker = lab.call(Say::Attach(attach(true))).await.expect("it may watch");
    assert!(!onlooker.accepted().await);
    let mut second = lab.attach(false).await;
    assert!(!second.accepted().await, "the first one drives");
    let alive = second.to.clone();
    let alive = tokio::spawn(async move {
        while alive.send(ClientMessage { what: Some(Say::Alive(Alive {})) }).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    });
    let is_it = loop {
        match second.hear().await {
            What::Accepted(accepted) => break accepted.drives,
            What::Note(_) => {}
            other => panic!("{other:?}"),
        }
    };
    assert!(is_it, "it drives now");
    let mut snapshots = Vec::new();
    loop {
        match second.hear().await {
            What::Snapshot(snapshot) => {
                snapshots.push(snapshot.number);
                second.say(stored(snapshot.number)).await;
            }
            What::Ended(ended) => break assert_eq!(ended.failure, None),
            _ => {}
        }
    }
    assert_eq!(snapshots.last(), Some(&2), "{snapshots:?}");
    alive.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_silent_has_vanished() {
    // Long enough for a busy machine to accept the run first.
    let lab = Lab::new(|settings| settings.client_timeout = Duration::from_secs(3)).await;
    let mut talk = lab.begin("accept\nuntil gone\nsnapshot 1\nend").await;
    talk.accepted().await;
    let status = loop {
        match talk.next().await {
            Ok(what) => assert!(what.is_some(), "the end of the call says why"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    lab.until("the end", |status| status.runs[0].ended_unix_ms > 0).await;
    // It comes back, and gets what was kept.
    let mut again = lab.attach(false).await;
    assert!(again.accepted().await);
    again.snapshot(1).await;
    assert_eq!(again.ended().await.failure, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_nothing_is_cut_off_and_costs_others_nothing() {
    let lab = Lab::new(|settings| settings.client_timeout = Duration::from_secs(3)).await;
    let mut driver =
        lab.begin("accept\nuntil fire\nnotes 6000\nreports 2000\nnote last\nuntil end\nend").await;
    driver.accepted().await;
    // Never reads.
    let lazy = lab.attach(true).await;
    for to in [driver.to.clone(), lazy.to.clone()] {
        tokio::spawn(async move {
            while to.send(ClientMessage { what: Some(Say::Alive(Alive {})) }).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
    }
    driver.say(Say::Fire(Fire::default())).await;
    while !matches!(driver.hear().await, What::Note(text) if text == "last") {}
    lab.until("the lazy one to be cut off", |status| status.runs[0].watchers == 0).await;
    driver.say(Say::End(crate::remote::wire::bench::End { signal: 2 })).await;
    driver.note("heard end 2").await;
    driver.ended().await;
    drop(lazy);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_dies_or_talks_nonsense_ends_its_run_with_a_sentence() {
    let lab = Lab::new(|_| {}).await;
    for (act, expected) in [
        ("kill", "was killed by SIGKILL"),
        ("exit 3", "ended with exit code 3 before the run did"),
        ("garbage", "sent what is no message"),
    ] {
        let mut talk = lab.begin(&format!("accept\nsnapshot 1\nreports 1\n{act}")).await;
        assert!(talk.accepted().await);
        let ended = talk.ended().await;
        let why = ended.failure.unwrap().message;
        assert!(why.contains(expected), "{why}");
        assert!(ended.report.is_some(), "what had arrived is told");
        // Its snapshot is kept.
        let mut again = lab.attach(false).await;
        again.accepted().await;
        again.snapshot(1).await;
        assert_eq!(again.failure().await, why);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_begin_leaves_nothing() {
    let lab = Lab::new(|_| {}).await;
    let mut talk = lab.begin("fail the job is wrong").await;
    assert_eq!(talk.failure().await, "the job is wrong");
    lab.until("nothing", |status| status.runs.is_empty()).await;
    assert_eq!(std::fs::read_dir(lab.settings.directory.join("runs")).unwrap().count(), 0);
    let nothing = lab.call(Say::Attach(attach(false))).await.err().expect("nothing to attach to");
    assert_eq!(nothing.code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_cannot_be_served_end_with_their_status() {
    let lab = Lab::new(|settings| settings.max_runs = 1).await;
    let with = |major, minor| {
        let protocol = Some(ProtocolVersion { major, minor, program: "9".to_owned() });
        Say::Start(Start { protocol, ..start("accept\nend") })
    };
    let (major, minor) = crate::remote::PROTOCOL;
    let mut large = start("");
    large.job_files[0].text = " ".repeat(MOST_MESSAGE_BYTES);
    for (first, code) in [
        (with(major, minor + 2), Code::FailedPrecondition),
        (with(major + 1, minor), Code::FailedPrecondition),
        (Say::Start(Start::default()), Code::FailedPrecondition),
        (stored(1), Code::InvalidArgument),
        (Say::Start(large), Code::ResourceExhausted),
    ] {
        let status = lab.call(first).await.err().expect("refused");
        assert_eq!(status.code(), code, "{status:?}");
    }
    lab.call(with(major, minor + 1)).await.unwrap().ended().await;
    lab.until("the end", |status| status.runs.iter().all(|run| run.ended_unix_ms > 0)).await;
    let mut one = lab.begin("accept\nuntil end\nend").await;
    one.accepted().await;
    let status = lab.call(Say::Start(start("accept\nend"))).await.err().expect("one run at a time");
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    one.say(Say::Start(start(""))).await;
    let why = loop {
        match one.next().await {
            Ok(what) => assert!(what.is_some(), "the end of the call says why"),
            Err(status) => break status,
        }
    };
    assert_eq!(why.code(), Code::InvalidArgument, "{why:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_ends_a_run_in_order_then_at_once_then_by_force() {
    let lab = Lab::new(|_| {}).await;
    let mut talk = lab.begin("accept\nuntil end\nuntil end\nnote deaf\nsleep 20000").await;
    talk.accepted().await;
    for _ in 0..2 {
        assert!(!lab.stop().await.was_over);
        loop {
            if matches!(talk.hear().await, What::Note(text) if text == "heard end 15") {
                break;
            }
        }
    }
    lab.stop().await;
    let why = talk.failure().await;
    assert!(why.contains("was killed"), "{why}");
    lab.until("the end", |status| status.runs[0].ended_unix_ms > 0).await;
    assert!(lab.stop().await.was_over);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_starts_anew_knows_what_was_and_keeps_the_last_ones() {
    let lab = Lab::new(|_| {}).await;
    for _ in 0..3 {
        lab.begin("accept\nsnapshot 1\nend").await.ended().await;
    }
    // A client hears of the end before it is on the shelf.
    let ended = |runs: &[RunStatus]| runs.len() == 3 && runs.iter().all(|run| run.ended_unix_ms > 0);
    let before = lab.until("the end", |status| ended(&status.runs)).await.runs;
    let broken = lab.settings.directory.join("runs").join("a".repeat(32));
    let foreign = lab.settings.directory.join("runs/notes");
    lab.serving.abort();
    let _ = lab.serving.await;
    // One that neither its server nor its process has ended, and what is nobody's run. It is dated by its
    // file, and files by the kernel's coarse clock.
    tokio::time::sleep(Duration::from_millis(50)).await;
    std::fs::create_dir(&broken).unwrap();
    std::fs::create_dir(&foreign).unwrap();
    let facts =
        format!("run = \"{}\"\nstarted_unix_ms = 1\nprocess = 1\nprocess_began = 1\n", "a".repeat(32));
    std::fs::write(broken.join("run.toml"), facts).unwrap();
    std::fs::write(broken.join("run.state"), "promises").unwrap();
    let lab = Lab::again(lab.place, |settings| settings.keep_runs = 3).await;
    let after = lab.status().await.runs;
    assert_eq!(after.len(), 3);
    assert!(after[0].run == "a".repeat(32) && after[0].state.contains("broken off"), "{after:#?}");
    assert_eq!(after[1..], before[..2], "the oldest one has gone");
    assert_eq!(std::fs::read_dir(lab.settings.directory.join("runs")).unwrap().count(), 4);
    let mut talk = lab.attach(false).await;
    talk.accepted().await;
    assert!(matches!(talk.hear().await, What::Snapshot(snapshot) if snapshot.content == "promises"));
    assert!(talk.failure().await.contains("broken off"));
}
