//! What may hang before a run begins: looked at on threads of their own, for so long and no longer.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};

use crate::base::clock::Clock;
use crate::base::pause;
use crate::base::units::SECOND_NS;

use super::open_job::{self, OpenJob};
use super::outcome::Outcome;
use super::plan::JobPlan;
use super::stage::{Message, Stage};
use super::{Requests, RunError};

/// How often signals are looked at.
const TICK: Duration = Duration::from_millis(50);
/// How long a signal waits for what is under way.
const SIGNAL_NS: u64 = SECOND_NS;

/// Why something was not waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Late {
    /// The limit has passed.
    Limit(u64),
    /// The user ended it.
    Signal,
    /// There is no thread to do it on: the system's error number.
    NoThread(i32),
}

impl Late {
    /// The reason as a sentence about `what`.
    pub fn say(self, what: &str) -> String {
        match self {
            Late::Limit(ns) => format!(
                "{what} has taken more than {} s (start_timeout) and is given up: does the device answer?",
                ns as f64 / SECOND_NS as f64
            ),
            Late::Signal => format!("{what} was ended by a signal"),
            Late::NoThread(errno) => {
                format!(
                    "{what} needs a thread, which cannot be started: {}",
                    io::Error::from_raw_os_error(errno)
                )
            }
        }
    }
}

/// A limit that all parts of one start share.
pub struct Patience<'a> {
    limit_ns: u64,
    until_ns: u64,
    /// The last look at the clock.
    last_ns: u64,
    signalled_ns: Option<u64>,
    clock: Clock,
    requests: &'a Requests,
}

impl Patience<'_> {
    /// From now on.
    pub fn new(limit_ns: u64, requests: &Requests) -> Patience<'_> {
        let clock = Clock::get();
        let last_ns = clock.now_ns();
        let until_ns = last_ns.saturating_add(limit_ns);
        Patience { limit_ns, until_ns, last_ns, signalled_ns: None, clock, requests }
    }

    /// What `from` brings, if it does so in time; `None` if nobody can bring anything any more.
    pub fn wait<T>(&mut self, from: &Receiver<T>) -> Result<Option<T>, Late> {
        loop {
            match from.recv_timeout(TICK) {
                Ok(brought) => return Ok(Some(brought)),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {}
            }
            let now_ns = self.clock.now_ns();
            // A process that was stopped has not waited meanwhile.
            let gap_ns = now_ns.saturating_sub(std::mem::replace(&mut self.last_ns, now_ns));
            if gap_ns >= pause::LEAST_NS {
                self.until_ns = self.until_ns.saturating_add(gap_ns);
            }
            if self.requests.signal().is_some()
                && now_ns > self.signalled_ns.get_or_insert(now_ns).saturating_add(SIGNAL_NS)
            {
                return Err(Late::Signal);
            }
            if now_ns > self.until_ns {
                return Err(Late::Limit(self.limit_ns));
            }
        }
    }
}

/// Does `work` on a thread that is left behind if it takes longer than `limit_ns`.
pub fn within<T: Send + 'static>(
    limit_ns: u64,
    requests: &Requests,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Late> {
    let (done, result) = bounded(1);
    let thread = std::thread::Builder::new().name("opening".to_owned()).spawn(move || {
        // Who does not wait any more has gone away.
        let _ = done.send(work());
    });
    match thread {
        Ok(thread) => match Patience::new(limit_ns, requests).wait(&result)? {
            Some(value) => {
                let _ = thread.join();
                Ok(value)
            }
            // Our bug: it goes on here, with its own message.
            None => match thread.join() {
                Err(panic) => std::panic::resume_unwind(panic),
                Ok(()) => unreachable!("a thread that ends well has sent its result"),
            },
        },
        Err(error) => Err(Late::NoThread(error.raw_os_error().unwrap_or(libc::EAGAIN))),
    }
}

/// The first of the targets of these plans, for messages.
pub fn names(plans: &[JobPlan]) -> String {
    let targets = plans.iter().flat_map(|plan| &plan.targets);
    let mut names: Vec<String> = targets.take(64).map(|target| target.display().to_string()).collect();
    names.dedup();
    names.truncate(4);
    names.join(", ")
}

/// Opens the targets; those of the kernel may hang, while drivers of ours have limits of their own.
pub fn open(plan: &JobPlan, hints: Vec<u64>, requests: &Requests) -> Result<Arc<dyn OpenJob>, RunError> {
    let limit_ns = plan.spec.order.start_timeout_ns;
    let opened = if plan.uses_files() {
        let own = plan.clone();
        within(limit_ns, requests, move || open_job::open(&own, &hints)).map_err(|late| {
            let names = names(std::slice::from_ref(plan));
            RunError::environment(&plan.spec, late.say(&format!("opening {names}")))
        })?
    } else {
        open_job::open(plan, &hints)
    };
    opened.map_err(|error| RunError::of_engine(&plan.spec, &error))
}

impl Stage<'_> {
    /// Until every thread has made its workers.
    pub fn await_ready(
        &self,
        messages: &Receiver<Message>,
        outcome: &mut Outcome,
        requests: &Requests,
    ) -> Result<(), RunError> {
        let slowest = self.plans.iter().max_by_key(|plan| plan.spec.order.start_timeout_ns);
        let Some(slowest) = slowest.map(|plan| &plan.spec) else { return Ok(()) };
        let mut patience = Patience::new(slowest.order.start_timeout_ns, requests);
        for _ in &self.threads {
            match patience.wait(messages) {
                Ok(Some(Message::Ready(Ok(notes)))) => {
                    for note in notes {
                        outcome.note(note);
                    }
                }
                Ok(Some(Message::Ready(Err((worker, why))))) => {
                    let entry = &outcome.entries[self.watched[worker].entry];
                    return Err(RunError::environment(&entry.spec, why));
                }
                Ok(Some(Message::Ended(_)) | None) => unreachable!("no thread ends before it is started"),
                Err(late) => return Err(RunError::environment(slowest, late.say("making the workers"))),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    #[test]
    fn what_hangs_is_given_up_and_what_ends_is_not() {
        let requests = Requests::default();
        assert_eq!(within(60 * SECOND_NS, &requests, || 7), Ok(7));
        let (_never, hangs) = bounded::<()>(1);
        assert_eq!(within(1, &requests, move || hangs.recv().is_ok()), Err(Late::Limit(1)));
    }

    #[test]
    fn a_signal_does_not_wait_for_the_limit() {
        let requests = Requests::default();
        requests.end_signal.store(2, Ordering::Release);
        let (_never, hangs) = bounded::<()>(1);
        assert_eq!(within(u64::MAX, &requests, move || hangs.recv().is_ok()), Err(Late::Signal));
    }
}
