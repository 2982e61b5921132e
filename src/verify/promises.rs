//! What one worker's device had promised at one moment: of every write and trim, whether it was
//! issued, in flight, failed, completed or durable. Plain data, a few kilobytes however long the run:
//! what a snapshot stores, and what a verdict is measured by.
//!
//! Sets are kept by exception: of what was issued, everything has completed but what is in flight or
//! failed; of what had completed when a flush was submitted, everything is durable but the holes.

use crate::base::Op;

use super::failures::Failures;

/// Where one mutation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It was never issued.
    Unissued,
    /// Issued, and not back.
    InFlight,
    /// An error came back: old or new, or a mix, may stand.
    Failed,
    /// It came back; whether well or with an error was not kept: see [`Failures::is_unknown`].
    Unknown,
    /// It came back well.
    Completed,
    /// And a flush that was submitted afterwards has completed.
    Durable,
}

impl State {
    /// Whether the device has said that it is done.
    #[must_use]
    pub fn is_settled(self) -> bool {
        matches!(self, State::Completed | State::Durable)
    }
}

/// What was complete at some moment: everything below `mark` but the holes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// The number of the next one then.
    pub mark: u64,
    /// What was in flight then, rising.
    pub holes: Vec<u64>,
}

impl Mark {
    pub(super) fn covers(&self, number: u64) -> bool {
        number < self.mark && self.holes.binary_search(&number).is_err()
    }

    pub(super) fn copy_from(&mut self, other: &Mark) {
        self.mark = other.mark;
        self.holes.clear();
        self.holes.extend_from_slice(&other.holes);
    }
}

/// The mutations of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mutated {
    /// How many were issued: the number of the next one.
    pub issued: u64,
    /// Those in flight, rising.
    pub in_flight: Vec<u64>,
    /// Those that failed.
    pub failed: Failures,
    /// Those that are durable, but for failed ones.
    pub durable: Mark,
}

impl Mutated {
    fn state(&self, number: u64) -> State {
        if number >= self.issued {
            State::Unissued
        } else if self.in_flight.binary_search(&number).is_ok() {
            State::InFlight
        } else if self.failed.contains(number) {
            State::Failed
        } else if self.failed.is_unknown(number) {
            State::Unknown
        } else if self.durable.covers(number) {
            State::Durable
        } else {
            State::Completed
        }
    }

    fn unsettled(&self) -> Vec<u64> {
        let mut numbers: Vec<u64> = self.in_flight.iter().copied().chain(self.failed.numbers()).collect();
        numbers.sort_unstable();
        numbers
    }

    fn not_durable(&self) -> Vec<u64> {
        let below = self.durable.mark.min(self.issued);
        let holes = self.durable.holes.iter().copied();
        let failed = self.failed.numbers().take_while(|&number| number < below);
        let mut numbers: Vec<u64> = holes.chain(failed).chain(below..self.issued).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }
}

/// What one worker's device had promised.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Promises {
    /// Writes.
    pub writes: Mutated,
    /// Trims.
    pub trims: Mutated,
    /// Flushes that had come back well.
    pub flush_epoch: u64,
    /// More may have been issued afterwards: what such writes left may stand, and need not.
    pub open_end: bool,
}

impl Promises {
    /// Those of a job that ran to its end: everything issued, everything completed.
    #[must_use]
    pub fn finished(writes: u64, trims: u64) -> Promises {
        let mut promises = Promises::default();
        (promises.writes.issued, promises.trims.issued) = (writes, trims);
        promises
    }

    /// Takes back what flushes made durable: they did not reach the drive.
    pub fn forget_flushes(&mut self) {
        self.writes.durable = Mark::default();
        self.trims.durable = Mark::default();
    }

    /// The mutations of the kind of `op`.
    #[must_use]
    pub fn of(&self, op: Op) -> &Mutated {
        if op == Op::Deallocate { &self.trims } else { &self.writes }
    }

    /// How many were issued.
    #[must_use]
    pub fn issued(&self, op: Op) -> u64 {
        self.of(op).issued
    }

    /// Where a mutation stood.
    #[must_use]
    pub fn state(&self, op: Op, number: u64) -> State {
        self.of(op).state(number)
    }

    fn both(&self, numbers: impl Fn(&Mutated) -> Vec<u64>) -> Vec<(Op, u64)> {
        let kinds = [(Op::Write, &self.writes), (Op::Deallocate, &self.trims)];
        kinds.into_iter().flat_map(|(op, kind)| numbers(kind).into_iter().map(move |n| (op, n))).collect()
    }

    /// Those that may or may not have happened, whatever the policy: in flight or failed, rising.
    #[must_use]
    pub fn unsettled(&self) -> Vec<(Op, u64)> {
        self.both(Mutated::unsettled)
    }

    /// Those that no flush has made durable, rising: [`Promises::unsettled`] and what has completed
    /// since.
    #[must_use]
    pub fn not_durable(&self) -> Vec<(Op, u64)> {
        self.both(Mutated::not_durable)
    }

    /// Whether everything issued has completed, and nothing more was: then every block's newest
    /// mutation stands.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let settled = |kind: &Mutated| kind.in_flight.is_empty() && kind.failed.is_empty();
        settled(&self.writes) && settled(&self.trims) && !self.open_end
    }
}
