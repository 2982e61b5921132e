//! Replaying a log (`read_iolog`): what comes next, and when, stands there. The load is open: an I/O
//! is due when the log says, whatever became of those before it.

use super::pace::Pace;
use super::*;
use crate::base::replay::{LogStream, Logged, Next};

/// From here on an I/O counts as late.
const LATE_NS: u64 = 1_000_000;
/// How long to wait for who reads the log.
const STARVED_NS: u64 = 300_000;
/// The ticket of a flush that proves nothing more than the one of its target before it.
const NO_TICKET: u64 = u64::MAX;

/// A log to replay.
#[derive(Debug)]
pub struct ReplayParts {
    /// The log.
    pub stream: LogStream,
    /// I/Os to replay at most.
    pub ios: Option<u64>,
    /// The targets that it touches, each once.
    pub targets: Box<[u16]>,
    /// Times count.
    pub keeps_time: bool,
}

/// How a replay kept to its times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplayTally {
    /// I/Os.
    pub ios: u64,
    /// Those that were issued more than a millisecond after they were due.
    pub late: u64,
    /// How late the latest was.
    pub latest_ns: u64,
    /// Why the rest of the log was not replayed.
    pub trouble: Option<String>,
}

/// A log that is being replayed.
#[derive(Debug)]
pub(super) struct Replaying {
    parts: ReplayParts,
    begun_ns: Option<u64>,
    ios_left: u64,
    round: Round,
    tally: ReplayTally,
}

impl Replaying {
    pub(super) fn new(parts: ReplayParts) -> Replaying {
        let ios_left = parts.ios.unwrap_or(u64::MAX);
        let round = Round { ticket: None, missing: Vec::with_capacity(parts.targets.len()) };
        Replaying { parts, begun_ns: None, ios_left, round, tally: ReplayTally::default() }
    }

    /// Leaves out `ns`: what would have been due then is due later.
    pub(super) fn skip(&mut self, ns: u64) {
        self.begun_ns.iter_mut().for_each(|begun_ns| *begun_ns = begun_ns.saturating_add(ns));
    }

    pub(super) fn finish(self) -> ReplayTally {
        self.tally
    }

    /// What is due by `now_ns`.
    fn due(&mut self, now_ns: u64) -> Due {
        if self.ios_left == 0 {
            return Due::End;
        }
        let io = match self.parts.stream.peek() {
            Next::Io(io) => io,
            Next::Later => {
                return Due::Later(now_ns.saturating_add(STARVED_NS));
            }
            Next::End => return Due::End,
            Next::Failed(why) => {
                self.tally.trouble = Some(why);
                return Due::Failed;
            }
        };
        let due_ns = self.begun_ns.get_or_insert(now_ns).saturating_add(io.due_ns);
        if due_ns > now_ns { Due::Later(due_ns) } else { Due::Io(io, due_ns) }
    }

    /// It goes; when it was due is given back if times are kept.
    fn take(&mut self, due_ns: u64, now_ns: u64) -> Option<u64> {
        let late_ns = now_ns - due_ns;
        self.parts.stream.advance();
        self.ios_left -= 1;
        self.tally.ios += 1;
        if self.parts.keeps_time && late_ns > LATE_NS {
            self.tally.late += 1;
            self.tally.latest_ns = self.tally.latest_ns.max(late_ns);
        }
        self.parts.keeps_time.then_some(due_ns)
    }
}

/// Flushes of single targets that are one flush of all of them: what had completed when the first of
/// them went is durable when every target has been flushed since.
#[derive(Debug)]
struct Round {
    ticket: Option<u64>,
    /// Targets that were not flushed since it began.
    missing: Vec<u16>,
}

impl Round {
    /// The ticket of a flush of `target`; `begin` gives that of a new round.
    fn ticket(&mut self, target: u16, targets: &[u16], begin: impl FnOnce() -> u64) -> u64 {
        let ticket = *self.ticket.get_or_insert_with(|| {
            self.missing.clear();
            self.missing.extend_from_slice(targets);
            begin()
        });
        let Some(at) = self.missing.iter().position(|&missing| missing == target) else { return NO_TICKET };
        self.missing.swap_remove(at);
        if self.missing.is_empty() {
            self.ticket = None;
        }
        ticket
    }
}

enum Due {
    /// This, and when it was due.
    Io(Logged, u64),
    /// Nothing before then.
    Later(u64),
    End,
    Failed,
}

impl<Q: Queue> Worker<Q> {
    /// [`prepare`](Self::prepare) from a log.
    #[inline(never)]
    pub(super) fn prepare_replayed(&mut self, room: u32) {
        let (Some(mut replay), Some(mut pace)) = (self.replay.take(), self.pace.take()) else { return };
        self.replay_due(&mut replay, &mut pace, room);
        (self.replay, self.pace) = (Some(replay), Some(pace));
    }

    fn replay_due(&mut self, replay: &mut Replaying, pace: &mut Pace, room: u32) {
        let calm = self.verification.as_ref().is_none_or(|verification| verification.is_calm());
        pace.stop_waiting();
        for _ in 0..room {
            if !calm {
                if self.free.is_empty() {
                    return;
                }
                if self.issue_verifying() {
                    continue;
                }
                if self.is_choked() {
                    return;
                }
            }
            let (io, due_ns) = match replay.due(self.now_ns) {
                Due::Io(io, due_ns) => (io, due_ns),
                Due::Later(until_ns) => {
                    // Reads that verify wait for nothing.
                    if calm {
                        pace.wait(until_ns, false);
                    }
                    return;
                }
                Due::End => {
                    self.exhausted = true;
                    return;
                }
                Due::Failed => {
                    let op = self.busiest();
                    return self.fail(op, Status::from_errno(rustix::io::Errno::IO.raw_os_error()));
                }
            };
            let may_go = pace.opens(self.now_ns, self.in_flight);
            self.obey_search(pace);
            let step = Step::from(&io);
            if !may_go || io.op != Op::Flush && self.must_wait(&step) {
                return;
            }
            let due_ns = replay.take(due_ns, self.now_ns);
            if io.op == Op::Flush {
                self.replay_flush(&io, replay);
                continue;
            }
            self.take_step(&step);
            if let Some(io) = self.batch.last() {
                pace.issued_of_log(&step, io.buffer.id(), due_ns);
            }
        }
    }

    #[cold]
    fn replay_flush(&mut self, io: &Logged, replay: &mut Replaying) {
        let Some(buffer) = self.free.pop() else { unreachable!("as many buffers as the depth") };
        let Replaying { parts, round, .. } = replay;
        let count = u16::try_from(parts.targets.len()).unwrap_or(u16::MAX);
        let ticket = self.verification.as_mut().map_or(NO_TICKET, |verification| {
            round.ticket(io.target, &parts.targets, || verification.flush(count))
        });
        self.in_flight += 1;
        self.batch.push(Io {
            buffer,
            offset: 0,
            sequence: ticket,
            submit_ns: 0,
            len: 0,
            moved: 0,
            target: io.target,
            op: Op::Flush,
            data_only: io.data_only,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_of_flushes_is_over_when_every_target_was_flushed_once() {
        let mut round = Round { ticket: None, missing: Vec::new() };
        let mut next = 0;
        let mut flush = |target| {
            round.ticket(target, &[3, 5], || {
                next += 1;
                next
            })
        };
        let tickets: Vec<u64> = [3, 3, 5, 5, 3, 3].into_iter().map(&mut flush).collect();
        assert_eq!(tickets, [1, NO_TICKET, 1, 2, 2, 3]);
    }
}
