//! What a server answers to calls.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Extensions, Request, Response, Status, Streaming};

use crate::remote::listen::{Kind, Log, PeerInfo};
use crate::remote::settings::Settings;
use crate::remote::wire::bench::bench_server::Bench;
use crate::remote::wire::bench::{
    ClientMessage, ProtocolVersion, ServerMessage, StatusReply, StatusRequest, StopReply, StopRequest,
    client_message,
};
use crate::remote::{check_protocol, protocol};

use super::runs::{Found, Run, Runs, shown};
use super::talk::{Parted, Terms, talk, too_large};

/// Who has called says within this time what for.
const FIRST_WITHIN: Duration = Duration::from_secs(10);
/// Calls beside those that drive and watch: they are told that there are too many, or wait for a word.
const MORE_CALLS: usize = 16;
/// Messages that wait for a client beside the one that is on its way.
const WAITING: usize = 1;
/// Progress is told so often unless the client says otherwise, and never more often than the second.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);
const PROGRESS_AT_MOST_EVERY: Duration = Duration::from_millis(100);

/// The service.
pub struct Service {
    /// All runs.
    pub runs: Arc<Runs>,
    settings: Settings,
    host: String,
    began: Instant,
    calls: Arc<Semaphore>,
    log: Arc<Log>,
}

/// Who calls: its certificate's name, or where it calls from, and what it calls itself.
fn caller(extensions: &Extensions, says: &str) -> String {
    let own = shown(says);
    let name = match extensions.get::<PeerInfo>() {
        Some(peer) if !peer.name.is_empty() => shown(&peer.name),
        Some(peer) => shown(&peer.address),
        None => String::new(),
    };
    match (name.is_empty(), own.is_empty() || own == name) {
        (true, _) => own,
        (false, true) => name,
        // What is proved stands first: a table may have no room for the rest.
        (false, false) => format!("{name} ({own})"),
    }
}

fn fits(peer: Option<&ProtocolVersion>) -> Result<(), Status> {
    check_protocol(peer, "the client").map_err(Status::failed_precondition)
}

/// Leaves the run, however the talk ends.
struct Seat {
    run: Arc<Run>,
    terms: Terms,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.run.leave(self.terms.number);
    }
}

impl Service {
    /// One with these runs.
    #[must_use]
    pub fn new(runs: Arc<Runs>, settings: Settings, host: String) -> Service {
        let most = settings.max_runs * (1 + settings.max_watchers) + MORE_CALLS;
        let calls = Arc::new(Semaphore::new(most));
        Service { runs, settings, host, began: Instant::now(), calls, log: Log::shared() }
    }

    /// A call that is refused is logged, but a flood of them does not fill the log.
    fn refused(&self, who: &str, status: Status) -> Status {
        self.log.line(Kind::Call, &format!("refused {who}: its call: {}", shown(status.message())));
        status
    }

    /// The first message of a call.
    async fn first(inbound: &mut Streaming<ClientMessage>) -> Result<client_message::What, Status> {
        let first = match timeout(FIRST_WITHIN, inbound.message()).await {
            Err(_) => {
                return Err(Status::deadline_exceeded(format!("no first message within {FIRST_WITHIN:?}")));
            }
            Ok(Err(status)) if status.code() == Code::OutOfRange => return Err(too_large(&status)),
            Ok(Err(status)) => {
                return Err(Status::invalid_argument(format!("not a message: {}", shown(status.message()))));
            }
            Ok(Ok(first)) => first,
        };
        let wrong = "the first message of a call must be `start` or `attach`";
        first.and_then(|message| message.what).ok_or_else(|| Status::invalid_argument(wrong)).and_then(
            |what| match what {
                client_message::What::Start(_) | client_message::What::Attach(_) => Ok(what),
                _ => Err(Status::invalid_argument(wrong)),
            },
        )
    }

    /// The run that a first message is about, and how its client will talk.
    fn seat(&self, first: client_message::What, extensions: &Extensions) -> Result<Seat, Status> {
        let (run, wants_to_drive, begins, client, interval_ns) = match first {
            client_message::What::Start(start) => {
                fits(start.protocol.as_ref())?;
                let client = caller(extensions, &start.client);
                let interval_ns = start.progress_interval_ns;
                (self.runs.begin(start, client.clone())?, true, true, client, interval_ns)
            }
            client_message::What::Attach(attach) => {
                fits(attach.protocol.as_ref())?;
                let run = match self.runs.find(&attach.run)? {
                    Found::Running(run) => run,
                    Found::Over(facts) if facts.ended_unix_ms == 0 => {
                        return Err(Status::unavailable(format!(
                            "the server that began run {} is gone; the run is ending by itself: try again",
                            facts.run
                        )));
                    }
                    Found::Over(facts) => Arc::new(self.runs.revive(facts)),
                };
                let client = caller(extensions, &attach.client);
                (run, !attach.watch, false, client, attach.progress_interval_ns)
            }
            _ => return Err(Status::internal("a first message that was not looked at")),
        };
        let Some((number, drives)) = run.join(wants_to_drive, begins, self.settings.max_watchers) else {
            return Err(Status::resource_exhausted("too many clients watch this run"));
        };
        if !begins {
            let what = if drives { "takes it over" } else { "watches" };
            self.log.line(Kind::Attach, &format!("run {}: {client} {what}", run.id));
        }
        let progress_every = match interval_ns {
            0 => PROGRESS_EVERY,
            ns => Duration::from_nanos(ns).max(PROGRESS_AT_MOST_EVERY),
        };
        let silence = self.settings.client_timeout;
        Ok(Seat { run, terms: Terms { client, number, progress_every, silence } })
    }
}

#[tonic::async_trait]
impl Bench for Service {
    type DriveStream = ReceiverStream<Result<ServerMessage, Status>>;

    async fn drive(
        &self,
        request: Request<Streaming<ClientMessage>>,
    ) -> Result<Response<Self::DriveStream>, Status> {
        let (_, extensions, mut inbound) = request.into_parts();
        let who = caller(&extensions, "");
        let Ok(call) = Arc::clone(&self.calls).try_acquire_owned() else {
            let text = "more clients than may drive and watch runs are here already";
            return Err(self.refused(&who, Status::resource_exhausted(text)));
        };
        let first = Self::first(&mut inbound).await.map_err(|status| self.refused(&who, status))?;
        let seat = self.seat(first, &extensions).map_err(|status| self.refused(&who, status))?;
        let (to, messages) = mpsc::channel(WAITING);
        let log = Arc::clone(&self.log);
        tokio::spawn(async move {
            let _call = call;
            let parted = talk(&seat.run, &seat.terms, inbound, to).await;
            if let Parted::Left(why) = parted {
                let drives = seat.run.is_driven_by(seat.terms.number);
                let role = if drives { "which drives it" } else { "which watches" };
                let text = format!("run {}: {}, {role}, is gone: {why}", seat.run.id, seat.terms.client);
                log.line(Kind::Gone, &text);
            }
        });
        Ok(Response::new(ReceiverStream::new(messages)))
    }

    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        let who = caller(request.extensions(), "");
        fits(request.get_ref().protocol.as_ref()).map_err(|status| self.refused(&who, status))?;
        Ok(Response::new(StatusReply {
            protocol: Some(protocol()),
            host: self.host.clone(),
            up_s: self.began.elapsed().as_secs(),
            runs: self.runs.status(),
            devices: self.settings.devices.clone(),
            directory: self.settings.directory.to_string_lossy().into_owned(),
        }))
    }

    async fn stop(&self, request: Request<StopRequest>) -> Result<Response<StopReply>, Status> {
        let who = caller(request.extensions(), &request.get_ref().client);
        fits(request.get_ref().protocol.as_ref()).map_err(|status| self.refused(&who, status))?;
        let reply =
            match self.runs.find(&request.get_ref().run).map_err(|status| self.refused(&who, status))? {
                Found::Running(run) => {
                    self.log.line(Kind::Stop, &format!("run {}: {who} ends it", run.id));
                    let mut known = run.known();
                    known.note(format!("{who} ends the run"));
                    known.end(rustix::process::Signal::TERM.as_raw());
                    drop(known);
                    run.has_changed();
                    StopReply { run: run.id.clone(), was_over: false }
                }
                Found::Over(facts) => StopReply { run: facts.run, was_over: facts.ended_unix_ms > 0 },
            };
        Ok(Response::new(reply))
    }
}
