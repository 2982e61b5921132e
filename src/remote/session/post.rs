//! What a session sends, and what comes back. Nothing that the run says ever waits for the socket: each
//! kind of message has a place of its own, of which a thread empties the most urgent first. What only the
//! last of counts (progress, the statistics so far, snapshots that nobody waits for) is written over.

use std::collections::VecDeque;
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prost::Message;

use crate::base::clock::Clock;
use crate::remote::MOST_MESSAGE_BYTES;
use crate::remote::wire::bench::{
    CommandWanted, Ended, ServerMessage, Snapshot, SnapshotCause, StateWanted, server_message::What,
};
use crate::remote::wire::session::{FromSession, from_session};
use crate::remote::wire::{bench, live};
use crate::report::{CommandReport, TriggerReport};
use crate::run::{Courier, Requests};
use crate::verify::snapshot::Cause;

use super::frames;

/// Notes and findings that wait to be sent; the ones after that are counted.
const MOST_WAITING: usize = 4096;
/// What a snapshot's message has around it.
const AROUND_BYTES: u64 = 64 << 10;
/// How often one who waits looks whether the user still does.
const LOOK: Duration = Duration::from_millis(100);

/// The post of one run.
#[derive(Debug)]
pub struct Post {
    places: Mutex<Places>,
    changed: Condvar,
    answer_within: Duration,
    requests: Requests,
    clock: Clock,
}

#[derive(Debug, Default)]
struct Places {
    /// What comes before all else, in order.
    first: VecDeque<FromSession>,
    snapshot: Option<Snapshot>,
    /// Notes and findings.
    told: VecDeque<ServerMessage>,
    untold: u64,
    progress: Option<bench::Progress>,
    so_far: Option<Vec<u8>>,
    last: Option<Ended>,
    is_sending: bool,

    /// The newest snapshot, for a client that comes back.
    newest: Option<Snapshot>,
    numbers: u64,
    /// The highest that was answered, and those that could not be stored.
    answered: u64,
    failed: Option<(u64, String)>,
    state: Option<bench::State>,
    command: Option<bench::CommandReport>,

    /// Nobody drives the run.
    is_alone: bool,
    /// Why it ended for that.
    left: Option<String>,
    detach: bool,
    /// There is no socket any more.
    is_cut_off: bool,
}

impl Post {
    /// For a run that `requests` ends, and a driver who has this long to answer.
    pub fn new(answer_within: Duration, requests: &Requests) -> Arc<Post> {
        Arc::new(Post {
            places: Mutex::default(),
            changed: Condvar::new(),
            answer_within,
            requests: requests.clone(),
            clock: Clock::get(),
        })
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        // Each change of it is whole.
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Places) -> T) -> T {
        let given = change(&mut self.places());
        self.changed.notify_all();
        given
    }

    /// Sends a message before all others.
    pub fn send_first(&self, message: from_session::What) {
        self.change(|places| places.first.push_back(FromSession { what: Some(message) }));
    }

    /// Tells clients something, behind what was told before.
    pub fn tell(&self, what: What) {
        self.change(|places| {
            if places.told.len() < MOST_WAITING {
                places.told.push_back(ServerMessage { what: Some(what) });
            } else {
                places.untold += 1;
            }
        });
    }

    /// Replaces the progress that was not sent yet.
    pub fn progress(&self, progress: bench::Progress) {
        self.change(|places| places.progress = Some(progress));
    }

    /// Replaces the statistics so far that were not sent yet.
    pub fn so_far(&self, report: bench::Report) {
        let message = to_clients(What::SoFar(report));
        // A client would take it for the message of a stranger, and leave.
        if message.encoded_len() > MOST_MESSAGE_BYTES {
            return;
        }
        if let Ok(frame) = frames::encode(&message) {
            self.change(|places| places.so_far = Some(frame));
        }
    }

    /// Sends the last message, and waits until all has been sent, but not for ever: whether it has.
    pub fn finish(&self, ended: Ended) -> bool {
        self.change(|places| places.last = Some(ended));
        let until_ns = self.until_ns();
        let mut places = self.places();
        while !places.is_cut_off && !places.is_empty() && self.clock.now_ns() < until_ns {
            places = self.wait_for_change(places);
        }
        !places.is_cut_off && places.is_empty()
    }

    /// Empties the places into the socket, until it is closed. For a thread of its own.
    pub fn write_to(&self, mut socket: &UnixStream) {
        loop {
            let mut places = self.places();
            while places.is_empty() && !places.is_cut_off {
                places = self.changed.wait(places).unwrap_or_else(PoisonError::into_inner);
            }
            if places.is_cut_off {
                return;
            }
            places.is_sending = true;
            let frame = places.next();
            drop(places);
            let sent = match frame {
                Some(frame) => std::io::Write::write_all(&mut socket, &frame),
                None => Ok(()),
            };
            self.change(|places| places.is_sending = false);
            if let Err(error) = sent {
                self.cut_off(&format!("the server does not listen any more: {error}"));
                return;
            }
        }
    }

    /// The driver has answered a snapshot.
    pub fn stored(&self, answer: bench::Stored) {
        self.change(|places| {
            if answer.number > places.numbers {
                return;
            }
            places.answered = places.answered.max(answer.number);
            if !answer.failure.is_empty() {
                places.failed = Some((answer.number, short(&answer.failure)));
            }
        });
    }

    /// The driver has sent the snapshot that was asked for.
    pub fn state_came(&self, state: bench::State) {
        self.change(|places| places.state = Some(state));
    }

    /// The driver's command has run.
    pub fn command_ran(&self, report: bench::CommandReport) {
        self.change(|places| places.command = Some(report));
    }

    /// Nobody drives the run any more: it ends, unless it goes on by itself.
    pub fn driver_gone(&self) {
        self.leave("its client vanished", false);
    }

    /// The socket is lost: nobody will ever drive the run again.
    pub fn cut_off(&self, why: &str) {
        self.leave(why, true);
    }

    fn leave(&self, why: &str, for_good: bool) {
        let ends = self.change(|places| {
            places.is_alone = true;
            places.is_cut_off |= for_good;
            let ends = places.left.is_none() && (for_good || !places.detach);
            if ends {
                places.left = Some(why.to_owned());
            }
            ends
        });
        // Who has asked for the end and leaves has not asked twice: devices are waited for all the same.
        if ends && self.requests.end_count.load(Ordering::Acquire) == 0 {
            super::ask_to_end(&self.requests, SIGHUP);
        }
    }

    /// Somebody drives the run again, and knows nothing of what was sent before.
    pub fn driver_back(&self) {
        self.change(|places| {
            places.is_alone = false;
            if let Some(newest) = places.newest.clone() {
                places.snapshot = Some(Snapshot { awaited: true, ..newest });
            }
        });
    }

    /// Why the run was ended for want of a driver.
    pub fn left(&self) -> Option<String> {
        self.places().left.clone()
    }

    /// The run goes on without a driver, from now on.
    pub fn detach(&self) {
        self.change(|places| places.detach = true);
    }

    /// Asks the driver for the snapshot to judge by.
    ///
    /// # Errors
    /// Why there is none.
    pub fn fetch_state(&self) -> Result<Vec<u8>, String> {
        self.send_first(from_session::What::ToClients(message(What::StateWanted(StateWanted {}))));
        let within = Some(self.answer_within);
        match self.await_answer(within, |places| places.state.take())?.what {
            Some(bench::state::What::Snapshot(bytes)) => Ok(bytes.to_vec()),
            Some(bench::state::What::Missing(why)) => Err(short(&why)),
            None => Err("its answer was empty".to_owned()),
        }
    }

    fn until_ns(&self) -> u64 {
        let within = u64::try_from(self.answer_within.as_nanos()).unwrap_or(u64::MAX);
        self.clock.now_ns().saturating_add(within)
    }

    fn wait_for_change<'a>(&self, places: MutexGuard<'a, Places>) -> MutexGuard<'a, Places> {
        self.changed.wait_timeout(places, LOOK).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Waits for what `take` finds; without a limit for as long as there is a driver, and the user waits.
    fn await_answer<T>(
        &self,
        within: Option<Duration>,
        mut take: impl FnMut(&mut Places) -> Option<T>,
    ) -> Result<T, String> {
        let until_ns = if within.is_some() { self.until_ns() } else { u64::MAX };
        let mut places = self.places();
        loop {
            if let Some(answer) = take(&mut places) {
                return Ok(answer);
            }
            if places.is_cut_off {
                return Err("the server is gone".to_owned());
            }
            if places.is_alone {
                return Err("the client is gone".to_owned());
            }
            if self.clock.now_ns() >= until_ns {
                let seconds = self.answer_within.as_secs_f64();
                return Err(format!("it did not answer within {seconds} s"));
            }
            if super::does_not_wait(&self.requests) {
                return Err("a second signal ended the wait for its answer".to_owned());
            }
            places = self.wait_for_change(places);
        }
    }
}

/// SIGHUP, which a vanished client stands for.
const SIGHUP: usize = 1;

impl Places {
    fn is_empty(&self) -> bool {
        !self.is_sending
            && self.first.is_empty()
            && self.snapshot.is_none()
            && self.told.is_empty()
            && self.untold == 0
            && self.progress.is_none()
            && self.so_far.is_none()
            && self.last.is_none()
    }

    /// The frame of what is sent next; `None` if that is too long, and was taken back.
    fn next(&mut self) -> Option<Vec<u8>> {
        if let Some(message) = self.first.pop_front() {
            return frames::encode(&message).ok();
        }
        if let Some(snapshot) = self.snapshot.take() {
            let number = snapshot.number;
            let message = message(What::Snapshot(snapshot));
            let bytes = message.encoded_len();
            if bytes > MOST_MESSAGE_BYTES {
                self.answered = self.answered.max(number);
                self.failed = Some((
                    number,
                    format!("its {bytes} bytes are more than the {MOST_MESSAGE_BYTES} that can be sent"),
                ));
                return None;
            }
            return frames::encode(&FromSession { what: Some(from_session::What::ToClients(message)) }).ok();
        }
        if let Some(told) = self.told.pop_front() {
            return frames::encode(&FromSession { what: Some(from_session::What::ToClients(told)) }).ok();
        }
        if self.untold > 0 {
            let text = format!("{} more notes or violations could not be told one by one", self.untold);
            self.untold = 0;
            return frames::encode(&to_clients(What::Note(text))).ok();
        }
        if let Some(progress) = self.progress.take() {
            return frames::encode(&to_clients(What::Progress(progress))).ok();
        }
        if let Some(frame) = self.so_far.take() {
            return Some(frame);
        }
        let ended = self.last.take()?;
        frames::encode(&to_clients(What::Ended(sendable(ended)))).ok()
    }
}

/// The last message, without its report if that would make it too long.
fn sendable(mut ended: Ended) -> Ended {
    let bytes = ended.encoded_len();
    // Room for what a ServerMessage has around it.
    if bytes + 64 > MOST_MESSAGE_BYTES {
        ended.report = None;
        ended.failure.get_or_insert(bench::Failure {
            kind: bench::FailureKind::Environment.into(),
            message: format!(
                "the report of {bytes} bytes is longer than the {MOST_MESSAGE_BYTES} that can be sent"
            ),
        });
    }
    ended
}

fn message(what: What) -> ServerMessage {
    ServerMessage { what: Some(what) }
}

/// For the driver and all who watch.
pub fn to_clients(what: What) -> FromSession {
    FromSession { what: Some(from_session::What::ToClients(message(what))) }
}

/// What the other side says, for people.
fn short(text: &str) -> String {
    const MOST: usize = 1000;
    crate::base::host::printable(&text.chars().take(MOST).collect::<String>())
}

impl Courier for Post {
    fn send(&self, cause: Cause, content: &[u8], trigger: Option<&TriggerReport>, awaited: bool) -> u64 {
        let cause = match cause {
            Cause::Checkpoint => SnapshotCause::Checkpoint,
            Cause::Trigger => SnapshotCause::Trigger,
            Cause::Ended => SnapshotCause::Ended,
        };
        let trigger = trigger.map(live::trigger_to);
        let content = content.to_vec();
        self.change(|places| {
            places.numbers += 1;
            let number = places.numbers;
            let snapshot =
                Snapshot { number, cause: cause.into(), content: content.into(), trigger, awaited };
            places.newest = Some(snapshot.clone());
            // What somebody waits for is not written over by what nobody does.
            let is_kept = places.snapshot.as_ref().is_some_and(|waiting| waiting.awaited && !awaited);
            if !is_kept && !places.is_alone {
                places.snapshot = Some(snapshot);
            }
            number
        })
    }

    fn wait(&self, number: u64) -> Result<(), String> {
        self.await_answer(Some(self.answer_within), |places| {
            (places.answered >= number).then(|| match &places.failed {
                Some((failed, why)) if *failed == number => Err(why.clone()),
                _ => Ok(()),
            })
        })?
    }

    fn run_command(&self, command: &str) -> CommandReport {
        let begun_ns = self.clock.now_ns();
        let wanted = CommandWanted { command: command.to_owned() };
        self.send_first(from_session::What::ToClients(message(What::CommandWanted(wanted))));
        // It takes as long as it takes, as on one machine.
        match self.await_answer(None, |places| places.command.take()) {
            Ok(report) => live::command_from(report),
            Err(why) => CommandReport {
                text: command.to_owned(),
                status: format!("nobody knows what became of it: {why}"),
                success: false,
                output: String::new(),
                took_ns: self.clock.now_ns() - begun_ns,
            },
        }
    }

    fn most_bytes(&self) -> u64 {
        MOST_MESSAGE_BYTES as u64 - AROUND_BYTES
    }

    fn is_away(&self) -> bool {
        self.places().is_alone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asked_for_the_end_once_and_leaves_has_not_asked_twice() {
        let requests = Requests::default();
        let post = Post::new(Duration::from_secs(1), &requests);
        super::super::ask_to_end(&requests, 2);
        post.driver_gone();
        // Two would be an end that does not wait for devices.
        assert_eq!(requests.end_count.load(Ordering::Acquire), 1);
        assert_eq!(requests.end_signal.load(Ordering::Acquire), 2);
        assert!(post.left().is_some());
        let requests = Requests::default();
        Post::new(Duration::from_secs(1), &requests).driver_gone();
        assert_eq!(requests.end_count.load(Ordering::Acquire), 1);
    }

    #[test]
    fn a_checkpoint_does_not_overtake_what_is_awaited() {
        let post = Post::new(Duration::from_secs(1), &Requests::default());
        let send = |cause, awaited| post.send(cause, b"x", None, awaited);
        send(Cause::Checkpoint, false);
        let trigger = send(Cause::Trigger, true);
        send(Cause::Checkpoint, false);
        let waiting = post.places().snapshot.clone().expect("a snapshot");
        assert_eq!((waiting.number, waiting.cause()), (trigger, SnapshotCause::Trigger));
        // An answer for an earlier one, or for one that was never sent, answers nothing.
        for number in [trigger - 1, trigger + 9] {
            post.stored(bench::Stored { number, failure: String::new() });
            assert!(post.places().answered < trigger);
        }
        post.stored(bench::Stored { number: trigger, failure: "no space".to_owned() });
        assert_eq!(post.wait(trigger), Err("no space".to_owned()));
        // Who comes back gets the newest, and answers it.
        post.driver_gone();
        assert!(post.wait(trigger + 1).is_err());
        post.driver_back();
        let again = post.places().snapshot.clone().expect("a snapshot");
        assert!(again.awaited && again.number == trigger + 1);
    }
}
