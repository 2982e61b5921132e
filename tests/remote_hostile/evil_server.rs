//! A server that lies, against the program as its client: what the client does, shows and exits with.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use fio_spdk::remote::protocol;
use fio_spdk::remote::wire::bench::bench_server::{Bench, BenchServer};
use fio_spdk::remote::wire::bench::client_message::What as Said;
use fio_spdk::remote::wire::bench::server_message::What;
use fio_spdk::remote::wire::bench::{
    Accepted, ClientMessage, CommandWanted, Ended, JobReport, Report, ServerMessage, Snapshot, SnapshotCause,
    StatusReply, StatusRequest, StopReply, StopRequest, TriggerReport,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::common::{Done, Lab};

const RUN: &str = "0123456789abcdef0123456789abcdef";
/// Orders to a terminal, and lines that look like the program's own.
const CONTROL: &str = "\u{1b}[2J\u{7}\u{9b}31m\r\nerror: forged\u{202e}";
/// What the power-cut command leaves.
const CUT: &str = "cut";

/// A conversation, from the server's side.
struct Talk {
    from: Streaming<ClientMessage>,
    to: mpsc::Sender<Result<ServerMessage, Status>>,
}

impl Talk {
    async fn say(&self, what: What) {
        // A client that has had enough hears nothing.
        let _ = self.to.send(Ok(ServerMessage { what: Some(what) })).await;
    }

    /// What the client says next, but that it is alive.
    async fn hear(&mut self) -> Option<Said> {
        loop {
            match self.from.message().await {
                Ok(Some(ClientMessage { what: Some(Said::Alive(_)) })) => {}
                Ok(Some(message)) => return message.what,
                _ => return None,
            }
        }
    }

    async fn accept(&mut self) {
        self.hear().await;
        self.say(What::Accepted(Accepted {
            protocol: Some(protocol()),
            run: RUN.to_owned(),
            host: CONTROL.to_owned(),
            drives: true,
            job_file: CONTROL.to_owned(),
            client: CONTROL.to_owned(),
            ..Accepted::default()
        }))
        .await;
    }

    async fn snapshot(&mut self, number: u64, cause: SnapshotCause, content: &[u8]) {
        let trigger = TriggerReport { why: CONTROL.to_owned(), ..TriggerReport::default() };
        self.say(What::Snapshot(Snapshot {
            number,
            cause: cause.into(),
            content: content.to_vec().into(),
            trigger: (cause == SnapshotCause::Trigger).then_some(trigger),
            awaited: true,
        }))
        .await;
        while !matches!(self.hear().await, Some(Said::Stored(_)) | None) {}
    }

    async fn wants_the_command(&mut self) {
        self.say(What::CommandWanted(CommandWanted { command: format!("touch {CUT}") })).await;
        while !matches!(self.hear().await, Some(Said::CommandRan(_)) | None) {}
    }

    async fn ends(&self, ended: Ended) {
        self.say(What::Ended(ended)).await;
    }
}

type Script = Arc<dyn Fn(Talk) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

fn script<F, T>(script: F) -> Script
where
    F: Fn(Talk) -> T + Send + Sync + 'static,
    T: Future<Output = ()> + Send + 'static,
{
    Arc::new(move |talk| Box::pin(script(talk)))
}

struct Evil(Script);

#[tonic::async_trait]
impl Bench for Evil {
    type DriveStream = ReceiverStream<Result<ServerMessage, Status>>;

    async fn drive(
        &self,
        request: Request<Streaming<ClientMessage>>,
    ) -> Result<Response<Self::DriveStream>, Status> {
        let (to, messages) = mpsc::channel(4);
        tokio::spawn((self.0)(Talk { from: request.into_inner(), to }));
        Ok(Response::new(ReceiverStream::new(messages)))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        let host = CONTROL.to_owned();
        let devices = vec![CONTROL.to_owned()];
        Ok(Response::new(StatusReply { protocol: Some(protocol()), host, devices, ..StatusReply::default() }))
    }

    async fn stop(&self, _: Request<StopRequest>) -> Result<Response<StopReply>, Status> {
        Err(Status::internal(CONTROL))
    }
}

struct Incoming(tokio::net::UnixListener);

impl tokio_stream::Stream for Incoming {
    type Item = std::io::Result<tokio::net::UnixStream>;

    fn poll_next(
        self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.poll_accept(context).map(|accepted| Some(accepted.map(|(stream, _)| stream)))
    }
}

/// An evil server, and a directory for its client.
struct Den {
    lab: Lab,
    _runtime: tokio::runtime::Runtime,
}

impl Den {
    fn new(evil: Script) -> Den {
        let lab = Lab::new();
        lab.file("j.toml", JOB);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let socket: PathBuf = lab.path("s");
        let listener = {
            let _inside = runtime.enter();
            tokio::net::UnixListener::bind(socket).unwrap()
        };
        let service = BenchServer::new(Evil(evil)).max_encoding_message_size(usize::MAX);
        runtime.spawn(
            tonic::transport::Server::builder().add_service(service).serve_with_incoming(Incoming(listener)),
        );
        Den { lab, _runtime: runtime }
    }

    /// Drives a run there.
    fn drive(&self, more: &[&str]) -> Done {
        let all = ["j.toml", "--client=unix:s", "--output-format=json"];
        let done = self.lab.run(&[&all, more].concat());
        clean(&done);
        assert!(!self.lab.path(CUT).exists(), "the command ran: {done:#?}");
        done
    }
}

/// A client's job with a power-cut command.
const JOB: &str = "[[job]]\nname = \"j\"\nioengine = \"psync\"\nfilename = \"data\"\nsize = \"1m\"\nrw = \"randwrite\"\n\
                   verify = \"crc32c\"\ntrigger_ios = 5\ntrigger = \"touch cut\"\n";

/// Nothing that the server says is an order to a terminal, or a line of its own.
#[track_caller]
fn clean(done: &Done) {
    let all = format!("{}{}", done.stdout, done.stderr);
    assert!(!all.chars().any(|c| c.is_control() && c != '\n'), "{all:?}");
    assert!(!all.lines().any(|line| line.starts_with("error: forged")), "{all}");
}

fn empty_report() -> Ended {
    Ended { report: Some(Report::default()), exit_code: Some(0), ..Ended::default() }
}

#[test]
fn a_server_that_ends_without_firing_gets_no_command_and_no_zero() {
    let den = Den::new(script(async |mut talk: Talk| {
        talk.accept().await;
        talk.wants_the_command().await;
        talk.ends(empty_report()).await;
    }));
    den.drive(&[]).expect(4).says("the trigger's command was not run").says("its trigger never fired");
    // Nor with the excuse for states that could not be stored.
    den.drive(&["--trigger-always"]).expect(4).says("its trigger never fired");
}

#[test]
fn a_server_that_fires_with_nothing_gets_no_command_and_the_json_says_why() {
    for content in [&b""[..], b"a snapshot"] {
        let den = Den::new(script(move |mut talk: Talk| async move {
            talk.accept().await;
            talk.snapshot(1, SnapshotCause::Trigger, content).await;
            talk.wants_the_command().await;
            talk.ends(empty_report()).await;
        }));
        let json = den.drive(&[]).expect(4).says("its state could not be stored").json();
        let trigger = &json["fio-spdk"]["trigger"];
        assert_eq!(trigger["withheld"], format!("touch {CUT}"), "{trigger:#}");
        assert!(trigger["failure"].is_string() && trigger["snapshot"].is_null(), "{trigger:#}");
        assert!(!Path::new(&den.lab.path("j.unix_s.state")).exists());
    }
}

#[test]
fn an_end_that_shows_nothing_is_no_success_however_often_it_is_said() {
    let named = JobReport { name: CONTROL.to_owned(), ..JobReport::default() };
    let garbage = Report { jobs: vec![named; 3], notes: vec![CONTROL.to_owned()], ..Report::default() };
    for (ended, says) in [
        (Ended::default(), "neither a report nor a reason"),
        (empty_report(), "is not believed"),
        (Ended { report: Some(garbage), exit_code: Some(0), ..Ended::default() }, ""),
        (Ended { exit_code: Some(0), report_json: "{}".to_owned(), ..Ended::default() }, "neither a report"),
    ] {
        let den = Den::new(script(move |mut talk: Talk| {
            let ended = ended.clone();
            async move {
                talk.accept().await;
                talk.ends(ended.clone()).await;
                talk.ends(ended).await;
            }
        }));
        den.drive(&[]).expect(4).says(says);
    }
}

#[test]
fn a_server_that_says_too_much_or_nothing_is_left() {
    let floods = Den::new(script(async |mut talk: Talk| {
        talk.accept().await;
        talk.say(What::Note("x".repeat(17 << 20))).await;
        std::future::pending::<()>().await;
    }));
    floods.drive(&[]).expect(4);
    let silent = Den::new(script(async |talk: Talk| {
        let _kept = talk;
        std::future::pending::<()>().await;
    }));
    silent.drive(&["--server-timeout=500ms"]).expect(4).says("silent for 500 ms");
}

#[test]
fn what_a_server_calls_things_is_no_order_to_a_terminal() {
    let den = Den::new(script(async |mut talk: Talk| {
        talk.accept().await;
        talk.say(What::Note(CONTROL.to_owned())).await;
        talk.say(What::Finding(CONTROL.to_owned())).await;
        talk.say(What::CommandWanted(CommandWanted { command: CONTROL.to_owned() })).await;
        let failure =
            fio_spdk::remote::wire::bench::Failure { kind: 2, message: CONTROL.replace("\r\n", " ") };
        talk.ends(Ended { failure: Some(failure), ..Ended::default() }).await;
    }));
    den.drive(&["--verdicts=v"]).expect(4);
    assert!(!den.lab.bytes("v").contains(&0x1b));
    clean(&den.lab.run(&["server", "--status", "--client=unix:s"]).expect(0));
    clean(&den.lab.run(&["stop", "unix:s"]).expect(4));
}

#[test]
fn a_socket_of_another_user_is_not_trusted_unless_it_is_asked_for() {
    use std::os::unix::fs::PermissionsExt;
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can listen as another user");
        return;
    }
    let lab = Lab::new();
    let nobody = 65534;
    let squat = "import os, socket, sys, time\nos.setuid(int(sys.argv[2]))\ns = socket.socket(socket.AF_UNIX)\n\
                 s.bind(sys.argv[1])\ns.listen()\nprint('there', flush=True)\ntime.sleep(600)\n";
    std::fs::set_permissions(lab.path(""), std::fs::Permissions::from_mode(0o777)).unwrap();
    let mut squatter = match std::process::Command::new("python3")
        .args(["-c", squat])
        .arg(lab.path("s"))
        .arg(nobody.to_string())
        .stdout(std::process::Stdio::piped())
        .spawn()
    {
        Ok(squatter) => squatter,
        Err(why) => return println!("skipped: no python3: {why}"),
    };
    let mut word = [0; 6];
    std::io::Read::read_exact(squatter.stdout.as_mut().unwrap(), &mut word).unwrap();
    let ask = |more: &[&str]| {
        lab.run(&[&["server", "--status", "--client=unix:s", "--connect-timeout=300ms"], more].concat())
    };
    let refused = ask(&[]);
    let asked = ask(&["--server-user=65534"]);
    squatter.kill().unwrap();
    squatter.wait().unwrap();
    refused.expect(4).says("user 65534 listens at").says("--server-user=65534");
    // It says nothing: but it was waited for.
    asked.expect(4).says("did not answer");
}
