//! The talk with one client about one run: two halves that never wait for each other.

use std::pin::pin;
use std::time::Duration;

use prost::Message;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tonic::{Status, Streaming};

use crate::remote::ALIVE_EVERY;
use crate::remote::wire::bench::server_message::What;
use crate::remote::wire::bench::{Alive, ClientMessage, ServerMessage, client_message};

use super::known::{FromDriver, Next, Told};
use super::runs::{Run, shown};

/// A client that takes so much a second is not too slow, however long the message.
const LEAST_BYTES_PER_S: u64 = 256 << 10;
/// A state may be a long message, while which nothing else can be said.
const STATE_WITHIN: Duration = Duration::from_secs(60);

/// Who talks, and how.
#[derive(Debug)]
pub struct Terms {
    /// Who it is, for the log.
    pub client: String,
    /// The number that it got from [`Run::join`].
    pub number: u64,
    /// How often it wants progress.
    pub progress_every: Duration,
    /// Who is silent for so long, or takes nothing for so long, has vanished.
    pub silence: Duration,
}

/// How a talk ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Parted {
    /// All was told.
    WellTold,
    /// The client has left, or has broken a rule: why.
    Left(String),
}

type Sender = mpsc::Sender<Result<ServerMessage, Status>>;

/// Talks until the run has ended and the client knows, or the client is gone.
pub async fn talk(run: &Run, terms: &Terms, inbound: Streaming<ClientMessage>, to: Sender) -> Parted {
    let (asides, heard) = mpsc::channel(4);
    let mut telling = pin!(tell(run, terms, heard, &to));
    let mut listening = pin!(listen(run, terms, inbound, asides));
    let left = tokio::select! {
        parted = &mut telling => return parted,
        left = &mut listening => left,
    };
    match left {
        // Who has nothing more to say may still hear the end of what is over.
        Left::Closed if run.known().ended.is_some() => telling.await,
        Left::Closed => Parted::Left("it has closed the call".to_owned()),
        Left::Broke(why) => Parted::Left(why),
        Left::Expelled(status) => {
            let why = status.message().to_owned();
            // If even that is too much for it, the end of the call says it.
            let _ = to.try_send(Err(status));
            Parted::Left(why)
        }
    }
}

async fn tell(run: &Run, terms: &Terms, mut asides: mpsc::Receiver<String>, to: &Sender) -> Parted {
    let mut told = Told::default();
    let mut drove = run.is_driven_by(terms.number);
    let mut changes = run.changes();
    let mut progress_at = Instant::now();
    let mut line = Line { to, silence: terms.silence, before: 0, last: Instant::now() };
    loop {
        changes.borrow_and_update();
        loop {
            let due = Instant::now() >= progress_at;
            let drives = run.is_driven_by(terms.number);
            if drives && !std::mem::replace(&mut drove, drives) {
                told.drives_now();
            }
            let next = run.known().next(&mut told, drives, due);
            let what = match next {
                Next::Tell(What::Accepted(accepted)) => {
                    What::Accepted(crate::remote::wire::bench::Accepted { drives, ..accepted })
                }
                Next::Tell(what) => what,
                Next::Nothing => break,
                Next::Over => return Parted::WellTold,
            };
            if matches!(what, What::Progress(_)) {
                progress_at = Instant::now() + terms.progress_every;
            }
            if let Err(parted) = line.say(what).await {
                return parted;
            }
        }
        let what = tokio::select! {
            _ = changes.changed() => continue,
            Some(text) = asides.recv() => What::Note(text),
            () = sleep_until(line.last + ALIVE_EVERY) => What::Alive(Alive {}),
            () = to.closed() => return Parted::Left("its connection is gone".to_owned()),
        };
        if let Err(parted) = line.say(what).await {
            return parted;
        }
    }
}

/// The way to a client, which may be slow.
struct Line<'a> {
    to: &'a Sender,
    silence: Duration,
    /// Bytes of the message before, which may still be on their way.
    before: u64,
    /// When it was given the last one.
    last: Instant,
}

impl Line<'_> {
    async fn say(&mut self, what: What) -> Result<(), Parted> {
        let message = ServerMessage { what: Some(what) };
        let bytes = message.encoded_len() as u64;
        let limit = self.silence + Duration::from_secs((self.before + bytes) / LEAST_BYTES_PER_S);
        self.before = bytes;
        let sent = timeout(limit, self.to.send(Ok(message))).await;
        self.last = Instant::now();
        match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Parted::Left("its connection is gone".to_owned())),
            Err(_) => Err(Parted::Left(format!("it took nothing for {limit:?}"))),
        }
    }
}

/// Why a client is listened to no more.
enum Left {
    Closed,
    Broke(String),
    Expelled(Status),
}

async fn listen(
    run: &Run,
    terms: &Terms,
    mut inbound: Streaming<ClientMessage>,
    asides: mpsc::Sender<String>,
) -> Left {
    let mut scolded = false;
    loop {
        let limit = if run.known().wants_state() { terms.silence.max(STATE_WITHIN) } else { terms.silence };
        let message = match timeout(limit, inbound.message()).await {
            Err(_) => {
                return Left::Expelled(Status::deadline_exceeded(format!(
                    "the client was silent for {limit:?}"
                )));
            }
            Ok(Ok(None)) => return Left::Closed,
            Ok(Ok(Some(message))) => message,
            Ok(Err(status)) => return broke(&status),
        };
        let said = match message.what {
            // What this server does not know yet is nothing to it.
            None | Some(client_message::What::Alive(_)) => continue,
            Some(client_message::What::Start(_) | client_message::What::Attach(_)) => {
                let why = "a call begins with `start` or `attach`, and has no other one";
                return Left::Expelled(Status::invalid_argument(why));
            }
            Some(client_message::What::State(state)) => FromDriver::State(state),
            Some(client_message::What::Stored(stored)) => FromDriver::Stored(stored),
            Some(client_message::What::Fire(fire)) => FromDriver::Fire(fire),
            Some(client_message::What::CommandRan(report)) => FromDriver::Command(report),
            Some(client_message::What::End(end)) => FromDriver::End(end),
        };
        if run.is_driven_by(terms.number) {
            run.known().passes_on(said);
            run.has_changed();
        } else if !scolded {
            scolded = true;
            let text = "another client drives this run: what a watcher asks for is not done";
            let _ = asides.try_send(text.to_owned());
        }
    }
}

/// What the error of a call means: that it is over, or that what came is not what this server takes.
fn broke(status: &Status) -> Left {
    match status.code() {
        tonic::Code::OutOfRange => Left::Expelled(too_large(status)),
        tonic::Code::Internal if status.message().contains("decode") => {
            Left::Expelled(Status::invalid_argument(format!("not a message: {}", shown(status.message()))))
        }
        _ => Left::Broke(format!("its call broke: {}", shown(status.message()))),
    }
}

/// A message that is too large.
pub fn too_large(status: &Status) -> Status {
    Status::resource_exhausted(format!("a message is too large: {}", shown(status.message())))
}
