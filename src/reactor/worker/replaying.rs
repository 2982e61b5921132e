//! Replaying a log (`read_iolog`): what comes next, and when, stands there. The load is open: an I/O
//! is due when the log says, whatever became of those before it.

use super::*;
use crate::base::replay::{LogStream, Logged, Next};

/// From here on an I/O counts as late.
const LATE_NS: u64 = 1_000_000;
/// The ticket of a flush that proves nothing: others of the worker's targets were not flushed.
const NO_TICKET: u64 = u64::MAX;

/// A log to replay.
#[derive(Debug)]
pub struct ReplayParts {
    /// The log.
    pub stream: LogStream,
    /// I/Os to replay at most.
    pub ios: Option<u64>,
    /// It has one target only, so that a flush of it is a flush of all.
    pub is_single: bool,
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
    /// Turns in which the log had not been read far enough.
    pub starved: u64,
    /// Why the rest of the log was not replayed.
    pub trouble: Option<String>,
}

/// A log that is being replayed.
#[derive(Debug)]
pub(super) struct Replaying {
    parts: ReplayParts,
    begun_ns: Option<u64>,
    ios_left: u64,
    tally: ReplayTally,
}

impl Replaying {
    pub(super) fn new(parts: ReplayParts) -> Replaying {
        let ios_left = parts.ios.unwrap_or(u64::MAX);
        Replaying { parts, begun_ns: None, ios_left, tally: ReplayTally::default() }
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
                self.tally.starved += 1;
                return Due::Later;
            }
            Next::End => return Due::End,
            Next::Failed(why) => {
                self.tally.trouble = Some(why);
                return Due::Failed;
            }
        };
        let due_ns = self.begun_ns.get_or_insert(now_ns).saturating_add(io.due_ns);
        if due_ns > now_ns { Due::Later } else { Due::Io(io, now_ns - due_ns) }
    }

    /// It goes, so late.
    fn take(&mut self, late_ns: u64) {
        self.parts.stream.advance();
        self.ios_left -= 1;
        self.tally.ios += 1;
        if self.parts.keeps_time && late_ns > LATE_NS {
            self.tally.late += 1;
            self.tally.latest_ns = self.tally.latest_ns.max(late_ns);
        }
    }
}

enum Due {
    /// This, and so late it is.
    Io(Logged, u64),
    Later,
    End,
    Failed,
}

impl<Q: Queue> Worker<Q> {
    /// [`prepare`](Self::prepare) from a log.
    #[inline(never)]
    pub(super) fn prepare_replayed(&mut self, room: u32) {
        let calm = self.verification.as_ref().is_none_or(|verification| verification.is_calm());
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
            let Some(replay) = &mut self.replay else { return };
            let (io, late_ns) = match replay.due(self.now_ns) {
                Due::Io(io, late_ns) => (io, late_ns),
                Due::Later => return,
                Due::End => {
                    self.exhausted = true;
                    return;
                }
                Due::Failed => {
                    let op = self.busiest();
                    return self.fail(op, Status::from_errno(rustix::io::Errno::IO.raw_os_error()));
                }
            };
            let step = Step::from(&io);
            if io.op != Op::Flush && self.must_wait(&step) {
                return;
            }
            if let Some(replay) = &mut self.replay {
                replay.take(late_ns);
            }
            if io.op == Op::Flush {
                self.replay_flush(&io);
            } else if self.take_step(&step) {
                return;
            }
        }
    }

    #[cold]
    fn replay_flush(&mut self, io: &Logged) {
        let Some(buffer) = self.free.pop() else { unreachable!("as many buffers as the depth") };
        let is_single = self.replay.as_ref().is_some_and(|replay| replay.parts.is_single);
        let ticket = match &mut self.verification {
            Some(verification) if is_single => verification.flush(1),
            _ => NO_TICKET,
        };
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
