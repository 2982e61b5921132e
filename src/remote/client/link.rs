//! The way to one server, on the runtime: reaches it, speaks with it, tells what comes.
//!
//! Nothing here waits without a deadline, and nothing that a server sends piles up: numbers are the last
//! ones only, texts are cut, and a server that sends faster than this side reads waits for it.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Sender, TrySendError};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_stream::Stream;
use tonic::Code;
use tonic::transport::Channel;

use crate::base::clock::Clock;
use crate::base::host::printable;
use crate::remote::address::Address;
use crate::remote::wire::bench::bench_client::BenchClient;
use crate::remote::wire::bench::{self, client_message, server_message};
use crate::remote::wire::{live, report};
use crate::remote::{ALIVE_EVERY, MOST_MESSAGE_BYTES, check_protocol, protocol};
use crate::report::{Report, TriggerReport};
use crate::run::Progress;

use super::evidence::{self, Evidence};
use super::{Failure, FailureKind};

/// Messages that may wait to be sent: a server that does not read has vanished.
const MOST_UNSENT: usize = 256;
/// What is shown of a text, and the longest finding.
const MOST_TEXT: usize = 4 << 10;
const MOST_FINDING: usize = 64 << 10;
/// Pause between two trials to reach a server.
pub(super) const TRY_AGAIN: Duration = Duration::from_millis(200);

/// Why a server was not reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Missed {
    /// It may still come: refused connection, no route.
    pub may_come: bool,
    /// It is there, and had no room.
    pub is_busy: bool,
    /// A sentence.
    pub why: String,
}

impl Missed {
    fn silent(address: &Address) -> Missed {
        Missed { may_come: true, is_busy: false, why: format!("{address} does not answer") }
    }
}

type Reached = Pin<Box<dyn Future<Output = Result<Channel, Missed>> + Send>>;

/// Makes a connection, within a time.
pub(super) type Connector = Arc<dyn Fn(Address, Duration) -> Reached + Send + Sync>;

/// What comes from a server, or of it.
#[derive(Debug)]
pub(super) enum Event {
    /// It is not there yet.
    Late(String),
    /// It is there. Which of its runs go on without a client.
    There {
        detached: Vec<String>,
    },
    Accepted(bench::Accepted),
    Note(String),
    Finding(String),
    StateWanted,
    /// A trigger has fired there: the snapshot of this number has it.
    Fired {
        number: u64,
        bytes: u64,
        trigger: TriggerReport,
    },
    Stored(evidence::Stored),
    State(Result<Vec<u8>, String>),
    NoRoom(String),
    CommandWanted(String),
    Ended {
        report: Option<Box<Report>>,
        failure: Option<Failure>,
        /// What the run comes to, as the server says.
        exit_code: Option<u32>,
    },
    /// The connection broke: it is looked for again.
    Broken(String),
    /// It will not do it.
    Failed(Failure),
    /// It is gone, for the reason told.
    Lost(String),
    /// The trigger's command ran.
    Ran(crate::report::CommandReport),
}

/// An event, and whose it is.
pub(super) type Told = (usize, Event);

/// The newest numbers of a server.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    pub progress: Option<Progress>,
    /// As it came: of a thousand workers it takes seconds to read, in which nothing else could be said,
    /// and most are never looked at.
    pub so_far: Option<bench::Report>,
}

/// What both threads have of a server.
#[derive(Debug, Default)]
pub(super) struct Line {
    out: Mutex<Option<mpsc::Sender<bench::ClientMessage>>>,
    numbers: Mutex<Numbers>,
}

impl Line {
    /// Sends, unless the server is gone: whether it was there. One that does not take what it is sent is
    /// cut off.
    pub fn say(&self, what: client_message::What) -> bool {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let message = bench::ClientMessage { what: Some(what) };
        let is_said = out.as_ref().is_some_and(|way| way.try_send(message).is_ok());
        if !is_said {
            *out = None;
        }
        is_said
    }

    /// Ends what this side says.
    pub fn close(&self) {
        self.set(None);
    }

    fn set(&self, way: Option<mpsc::Sender<bench::ClientMessage>>) {
        *self.out.lock().unwrap_or_else(PoisonError::into_inner) = way;
    }

    /// Says that this side is there, if it has nothing else to say. False: nobody listens.
    fn say_alive(&self) -> bool {
        let out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(way) = out.as_ref() else { return false };
        if way.capacity() == MOST_UNSENT {
            let what = Some(client_message::What::Alive(bench::Alive {}));
            return way.try_send(bench::ClientMessage { what }).is_ok();
        }
        !way.is_closed()
    }

    /// Looks at the newest numbers.
    pub fn numbers<T>(&self, look: impl FnOnce(&mut Numbers) -> T) -> T {
        look(&mut self.numbers.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One server's.
pub(super) struct Link {
    pub server: usize,
    pub address: Address,
    pub first: client_message::What,
    pub connector: Connector,
    pub connect_within: Duration,
    pub silence: Duration,
    /// The run goes on without a client: a lost connection is looked for again.
    pub comes_back: bool,
    pub progress_interval_ns: u64,
    /// Its report can have so many jobs.
    pub most_jobs: usize,
    pub line: Arc<Line>,
    pub evidence: Arc<Evidence>,
    pub events: Sender<Told>,
    /// Turns true when all that are there may start.
    pub go: watch::Receiver<bool>,
}

/// How a conversation ended.
enum Parted {
    /// As it should.
    Ended,
    /// The server would not.
    Refused(Failure),
    Lost(String),
}

/// What one conversation has shown.
#[derive(Default)]
struct Seen {
    run: Option<String>,
    drives: bool,
    /// The number of its trigger's snapshot.
    fired: Option<u64>,
    ended: bool,
}

impl Link {
    /// Does it all.
    pub async fn run(mut self) {
        let channel = match self.reach(self.connect_within).await {
            Ok((channel, detached)) => {
                self.tell(Event::There { detached }).await;
                channel
            }
            Err(failure) => return self.tell(Event::Failed(failure)).await,
        };
        if self.go.wait_for(|go| *go).await.is_err() {
            return;
        }
        let mut seen = Seen::default();
        let mut client = new_client(channel);
        loop {
            let parted = self.talk(&mut client, &mut seen).await;
            self.line.set(None);
            match parted {
                Parted::Ended => return,
                Parted::Refused(failure) => return self.tell(Event::Failed(failure)).await,
                Parted::Lost(why) => {
                    let back = self.comes_back && seen.drives && seen.fired.is_none();
                    let Some(run) = seen.run.clone().filter(|_| back) else {
                        return self.tell(Event::Lost(why)).await;
                    };
                    self.tell(Event::Broken(why.clone())).await;
                    let Ok((channel, _)) = self.reach(self.silence).await else {
                        return self.tell(Event::Lost(why)).await;
                    };
                    client = new_client(channel);
                    self.first = client_message::What::Attach(bench::Attach {
                        protocol: Some(protocol()),
                        run,
                        watch: false,
                        client: super::own_name(),
                        progress_interval_ns: self.progress_interval_ns,
                    });
                }
            }
        }
    }

    /// Tells the other thread. While it has too much to read, the server waits.
    async fn tell(&self, event: Event) {
        let mut told = (self.server, event);
        while let Err(full) = self.events.try_send(told) {
            let TrySendError::Full(back) = full else { return };
            told = back;
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Finds the server, and sees to it that it speaks our language. Tries again while it may come.
    async fn reach(&self, within: Duration) -> Result<(Channel, Vec<String>), Failure> {
        let clock = Clock::get();
        let within_ns = u64::try_from(within.as_nanos()).unwrap_or(u64::MAX);
        let until_ns = clock.now_ns().saturating_add(within_ns);
        let mut is_told = false;
        loop {
            let left = Duration::from_nanos(until_ns.saturating_sub(clock.now_ns()));
            let missed = match timeout(left, (self.connector)(self.address.clone(), left)).await {
                Ok(Ok(channel)) => match self.greet(channel, left.max(ALIVE_EVERY)).await {
                    Ok(there) => return Ok(there),
                    Err(missed) => missed,
                },
                Ok(Err(missed)) => missed,
                Err(_) => Missed::silent(&self.address),
            };
            if !missed.may_come {
                return Err(environment(missed.why));
            }
            if clock.now_ns() >= until_ns {
                let waited = spoken(within);
                return Err(environment(format!("{}; tried for {waited}", missed.why)));
            }
            if !std::mem::replace(&mut is_told, true) {
                self.tell(Event::Late(missed.why)).await;
            }
            sleep(TRY_AGAIN).await;
        }
    }

    /// Whether it is a server, and of a version that fits; which of its runs are detached.
    async fn greet(&self, channel: Channel, within: Duration) -> Result<(Channel, Vec<String>), Missed> {
        let address = &self.address;
        let refused = |why: String| Missed { may_come: false, is_busy: false, why };
        let mut client = new_client(channel.clone());
        let asked = client.status(bench::StatusRequest { protocol: Some(protocol()) });
        match timeout(within, asked).await {
            Ok(Ok(reply)) => {
                let reply = reply.into_inner();
                check_protocol(reply.protocol.as_ref(), &address.to_string()).map_err(refused)?;
                let runs = reply.runs.into_iter().filter(|run| run.detached).map(|run| run.run);
                Ok((channel, runs.filter(|run| evidence::is_run_id(run)).collect()))
            }
            // It need not serve more than runs.
            Ok(Err(status)) if status.code() == Code::Unimplemented => Ok((channel, Vec::new())),
            Ok(Err(status)) => {
                let may_come = status.code() == Code::Unavailable;
                Err(Missed { may_come, is_busy: false, why: format!("{address}: {}", said(&status)) })
            }
            Err(_) => Err(Missed::silent(address)),
        }
    }

    /// One conversation, from its first message.
    async fn talk(&self, client: &mut BenchClient<Channel>, seen: &mut Seen) -> Parted {
        let (out, waiting) = mpsc::channel(MOST_UNSENT);
        let first = bench::ClientMessage { what: Some(self.first.clone()) };
        let _ = out.try_send(first);
        self.line.set(Some(out));
        let line = Arc::clone(&self.line);
        let voice = tokio::spawn(async move {
            loop {
                sleep(ALIVE_EVERY).await;
                if !line.say_alive() {
                    break;
                }
            }
        });
        let parted = self.listen(client, waiting, seen).await;
        voice.abort();
        parted
    }

    async fn listen(
        &self,
        client: &mut BenchClient<Channel>,
        waiting: mpsc::Receiver<bench::ClientMessage>,
        seen: &mut Seen,
    ) -> Parted {
        let silent = || Parted::Lost(format!("silent for {}", spoken(self.silence)));
        let mut stream = match timeout(self.silence, client.drive(Waiting(waiting))).await {
            Ok(Ok(answer)) => answer.into_inner(),
            Ok(Err(status)) => return self.parted(&status, seen),
            Err(_) => return silent(),
        };
        loop {
            let message = match timeout(self.silence, stream.message()).await {
                Ok(Ok(Some(message))) => message,
                Ok(Ok(None)) if seen.ended => return Parted::Ended,
                Ok(Ok(None)) => return Parted::Lost("it closed the connection".to_owned()),
                Ok(Err(_)) if seen.ended => return Parted::Ended,
                Ok(Err(status)) => return self.parted(&status, seen),
                Err(_) => return silent(),
            };
            let Some(what) = message.what else { continue };
            if let Err(refusal) = self.hear(what, seen).await {
                return Parted::Refused(environment(refusal));
            }
            if seen.ended {
                return Parted::Ended;
            }
        }
    }

    /// A call that ended with a status: refused, or broken off.
    fn parted(&self, status: &tonic::Status, seen: &Seen) -> Parted {
        let message = format!("{}: {}", self.address, said(status));
        match status.code() {
            Code::InvalidArgument => Parted::Refused(Failure { kind: FailureKind::BadJob, message }),
            // It was asked for by name.
            Code::NotFound if seen.run.is_none() => {
                Parted::Refused(Failure { kind: FailureKind::BadJob, message })
            }
            Code::FailedPrecondition
            | Code::ResourceExhausted
            | Code::NotFound
            | Code::OutOfRange
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Unimplemented => Parted::Refused(environment(message)),
            _ if seen.run.is_none() => Parted::Refused(environment(message)),
            _ => Parted::Lost(said(status)),
        }
    }

    /// What a server says.
    ///
    /// # Errors
    /// What no server of ours would say.
    async fn hear(&self, what: server_message::What, seen: &mut Seen) -> Result<(), String> {
        use server_message::What;
        match what {
            What::Alive(_) => {}
            What::Accepted(accepted) => {
                let address = self.address.to_string();
                check_protocol(accepted.protocol.as_ref(), &address)?;
                if !evidence::is_run_id(&accepted.run) {
                    return Err(format!("{address}: `{}` is no run's id", cut(&accepted.run, 64)));
                }
                if seen.run.as_ref().is_some_and(|run| *run != accepted.run) {
                    return Err(format!("{address} came back with another run"));
                }
                seen.run = Some(accepted.run.clone());
                seen.drives = accepted.drives;
                self.evidence.anew();
                self.tell(Event::Accepted(accepted)).await;
            }
            What::Note(text) => self.tell(Event::Note(cut(&text, MOST_TEXT))).await,
            What::Finding(line) if line.len() <= MOST_FINDING => {
                self.tell(Event::Finding(printable(&line))).await;
            }
            What::Finding(_) => {
                self.tell(Event::Note("a violation was left out, as its line is too long".to_owned())).await;
            }
            What::Progress(progress) => {
                self.line.numbers(|newest| newest.progress = Some(live::progress_from(&progress)));
            }
            What::SoFar(so_far) => self.line.numbers(|newest| newest.so_far = Some(so_far)),
            _ if seen.run.is_none() && !matches!(what, What::Ended(_) | What::StateWanted(_)) => {
                return Err(format!("{} began before it accepted the run", self.address));
            }
            What::StateWanted(_) => self.tell(Event::StateWanted).await,
            What::Snapshot(snapshot) => self.keep(snapshot, seen).await,
            What::CommandWanted(wanted) => self.tell(Event::CommandWanted(wanted.command)).await,
            What::Ended(ended) => {
                seen.ended = true;
                // Other servers are spoken with meanwhile.
                let event = tokio::task::block_in_place(|| self.ended(&ended));
                self.tell(event).await;
            }
        }
        Ok(())
    }

    async fn keep(&self, snapshot: bench::Snapshot, seen: &mut Seen) {
        if !seen.drives {
            return;
        }
        if snapshot.cause() != bench::SnapshotCause::Trigger {
            return self.evidence.store(snapshot);
        }
        match seen.fired {
            None => {}
            // What was not answered yet may be sent again.
            Some(number) if number == snapshot.number => return,
            Some(_) => {
                let text = "it says once more that its trigger fired: only the first time counts";
                return self.tell(Event::Note(text.to_owned())).await;
            }
        }
        seen.fired = Some(snapshot.number);
        let trigger = live::trigger_from(snapshot.trigger.clone().unwrap_or_default());
        let bytes = snapshot.content.len() as u64;
        // Before it is stored: the other thread may not learn of the end first.
        self.tell(Event::Fired { number: snapshot.number, bytes, trigger }).await;
        self.evidence.store_of_trigger(snapshot);
    }

    fn ended(&self, ended: &bench::Ended) -> Event {
        let decode = |report| report::decode_at_most(report, self.most_jobs);
        let decoded = ended.report.as_ref().map(decode).transpose();
        let failure = ended.failure.as_ref().map(|failure| {
            let kind = match failure.kind() {
                bench::FailureKind::BadJob | bench::FailureKind::NotAllowed => FailureKind::BadJob,
                // Another run uses the target: as if it ran here.
                bench::FailureKind::Unsafe | bench::FailureKind::Busy => FailureKind::Unsafe,
                _ => FailureKind::Environment,
            };
            Failure { kind, message: format!("{}: {}", self.address, lines(&failure.message)) }
        });
        match decoded {
            Ok(report) => Event::Ended { report: report.map(Box::new), failure, exit_code: ended.exit_code },
            Err(why) => {
                let unread = environment(format!("{}: its report cannot be read: {why}", self.address));
                Event::Ended { report: None, failure: failure.or(Some(unread)), exit_code: ended.exit_code }
            }
        }
    }
}

/// A time for a person.
pub(super) fn spoken(time: Duration) -> String {
    if time.subsec_nanos() == 0 {
        format!("{} s", time.as_secs())
    } else {
        format!("{} ms", time.as_millis())
    }
}

/// A client with the limits of the protocol.
pub(super) fn new_client(channel: Channel) -> BenchClient<Channel> {
    BenchClient::new(channel)
        .max_decoding_message_size(MOST_MESSAGE_BYTES)
        .max_encoding_message_size(MOST_MESSAGE_BYTES)
}

/// Trouble of a machine or the way to it.
pub(super) fn environment(message: String) -> Failure {
    Failure { kind: FailureKind::Environment, message }
}

/// A status for a person.
pub(super) fn said(status: &tonic::Status) -> String {
    let message = cut(status.message(), MOST_TEXT);
    if message.is_empty() { format!("{:?}", status.code()) } else { message }
}

/// A text of the other side, on one line.
pub(super) fn cut(text: &str, most: usize) -> String {
    let end = text.floor_char_boundary(most);
    let mut shown = printable(&text[..end]);
    // Escapes are longer than what they stand for.
    shown.truncate(shown.floor_char_boundary(most));
    shown
}

/// A text of the other side with its lines.
fn lines(text: &str) -> String {
    let end = text.floor_char_boundary(16 * MOST_TEXT);
    text[..end].lines().map(printable).collect::<Vec<_>>().join("\n")
}

/// What waits to be sent, as a stream.
struct Waiting(mpsc::Receiver<bench::ClientMessage>);

impl Stream for Waiting {
    type Item = bench::ClientMessage;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<bench::ClientMessage>> {
        self.0.poll_recv(context)
    }
}
