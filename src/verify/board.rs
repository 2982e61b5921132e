//! A ledger as others see it: on every change the worker that keeps it chalks it up here, with plain
//! stores, and any thread can read it at any time, even while the worker is stuck in its device.
//!
//! What a reader must never miss is that something is *not* promised. So the worker chalks up a
//! write before it counts as issued, and a failure before the write stops being in flight; the
//! reader looks in the opposite order: first how many were issued, then what is in flight, then what
//! failed, last what is durable, which only grows.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;

use super::failures::Failures;
use super::flush_credit::Credit;
use super::promises::{Mark, Mutated, Promises};
use crate::base::seqlock::SeqLock;

/// An empty slot.
const NONE: u64 = u64::MAX;

/// The mutations of one kind.
#[derive(Debug)]
pub(super) struct Column {
    issued: AtomicU64,
    in_flight: Box<[AtomicU64]>,
    /// A whole list each time: failures are rare, and a reader never waits for the worker nor the other way
    /// round, however many there are.
    failed: ArcSwap<Failures>,
    durable: SeqLock,
}

impl Column {
    fn new(depth: usize) -> Column {
        Column {
            issued: AtomicU64::new(0),
            in_flight: (0..depth).map(|_| AtomicU64::new(NONE)).collect(),
            failed: ArcSwap::default(),
            durable: SeqLock::new(1 + depth),
        }
    }

    #[inline]
    pub(super) fn issue(&self, slot: usize, number: u64) {
        self.in_flight[slot].store(number, Release);
        self.issued.store(number + 1, Release);
    }

    #[inline]
    pub(super) fn come_back(&self, slot: usize) {
        self.in_flight[slot].store(NONE, Release);
    }

    pub(super) fn set_issued(&self, issued: u64) {
        self.issued.store(issued, Release);
    }

    /// Must come before the write that failed stops being in flight.
    pub(super) fn set_failed(&self, failures: &Failures) {
        self.failed.store(Arc::new(failures.clone()));
    }

    pub(super) fn set_durable(&self, durable: &Mark) {
        self.durable.write(std::iter::once(durable.mark).chain(durable.holes.iter().copied()));
    }

    /// What had completed by now, for a flush that is about to be submitted by another worker.
    pub(super) fn capture(&self, into: &mut Mark) {
        into.mark = self.issued.load(Acquire);
        into.holes.clear();
        let slots = self.in_flight.iter().map(|slot| slot.load(Acquire));
        into.holes.extend(slots.filter(|&number| number < into.mark));
        into.holes.sort_unstable();
    }

    fn read(&self) -> Mutated {
        let issued = self.issued.load(Acquire);
        let slots = self.in_flight.iter().map(|slot| slot.load(Acquire));
        // What was issued since the first look is beyond the end.
        let mut in_flight: Vec<u64> = slots.filter(|&number| number < issued).collect();
        in_flight.sort_unstable();
        // Nor has anything failed there.
        let failed = self.failed.load().below(issued);
        Mutated { issued, in_flight, failed, durable: read_mark(&self.durable).below(issued) }
    }
}

/// What is durable: the mark, then the holes below it. Where it cannot be read nothing is promised.
pub(super) fn read_mark(words: &SeqLock) -> Mark {
    let numbers = words.read().unwrap_or_default();
    match numbers.split_first() {
        Some((&mark, holes)) => Mark { mark, holes: holes.to_vec() },
        None => Mark::default(),
    }
}

/// The ledger of one worker, for all to read, and what they ask of the worker.
#[derive(Debug)]
pub struct Board {
    pub(super) writes: Column,
    pub(super) trims: Column,
    pub(super) flush_epoch: AtomicU64,
    freeze: AtomicBool,
    frozen: AtomicBool,
    hold: AtomicBool,
    dismissed: AtomicBool,
    power_lost: AtomicBool,
    /// What flushes of other workers have made durable.
    credits: OnceLock<Vec<Arc<Credit>>>,
}

impl Board {
    /// For a worker of that depth.
    #[must_use]
    pub fn new(depth: usize) -> Board {
        Board {
            writes: Column::new(depth),
            trims: Column::new(depth),
            flush_epoch: AtomicU64::new(0),
            freeze: AtomicBool::new(false),
            frozen: AtomicBool::new(false),
            hold: AtomicBool::new(false),
            dismissed: AtomicBool::new(false),
            power_lost: AtomicBool::new(false),
            credits: OnceLock::new(),
        }
    }

    /// What is promised by now. Open-ended unless the worker has said that it issues no more.
    #[must_use]
    pub fn read(&self) -> Promises {
        let frozen = self.frozen.load(Acquire);
        let flush_epoch = self.flush_epoch.load(Acquire);
        let (mut writes, mut trims) = (self.writes.read(), self.trims.read());
        // Last, when it is known what failed.
        self.add_credits(&mut writes, &mut trims);
        Promises { writes, trims, flush_epoch, open_end: !frozen }
    }

    /// Adds what flushes of other workers have made durable.
    pub(super) fn add_credits(&self, writes: &mut Mutated, trims: &mut Mutated) {
        for credit in self.credits.get().into_iter().flatten() {
            let (of_writes, of_trims) = credit.read();
            writes.durable.unite(&of_writes.below(writes.issued));
            trims.durable.unite(&of_trims.below(trims.issued));
        }
    }

    /// Where flushes of others say what they cover; before anything is issued.
    pub(super) fn accept(&self, credits: Vec<Arc<Credit>>) {
        // A board has one stage.
        let _ = self.credits.set(credits);
    }

    /// How many mutations of a kind may be in flight.
    pub(super) fn depth(&self) -> usize {
        self.writes.in_flight.len()
    }

    /// The worker says that its device has lost its power.
    pub fn set_power_lost(&self) {
        self.power_lost.store(true, Release);
    }

    /// Whether it has said so: a flush that comes back afterwards says nothing of what was before.
    pub(super) fn has_lost_power(&self) -> bool {
        self.power_lost.load(Acquire)
    }

    /// Asks the worker to issue no more writes and trims, and to stay as it is, taking back what
    /// completes, until it is let go.
    pub fn ask_to_freeze(&self) {
        self.hold.store(true, Release);
        self.freeze.store(true, Release);
    }

    /// Lets a frozen worker end.
    pub fn let_go(&self) {
        self.hold.store(false, Release);
    }

    /// Whether the worker has to stay.
    #[must_use]
    pub fn must_stay(&self) -> bool {
        self.hold.load(Acquire)
    }

    /// Nothing is to be read back: that is for a later run.
    pub fn dismiss(&self) {
        self.dismissed.store(true, Release);
    }

    /// Whether nothing is to be read back.
    #[must_use]
    pub fn is_dismissed(&self) -> bool {
        self.dismissed.load(Acquire)
    }

    /// Whether it was asked to. For the worker, once a turn.
    #[inline]
    #[must_use]
    pub fn must_freeze(&self) -> bool {
        self.freeze.load(Relaxed)
    }

    /// The worker says that it issues no more.
    pub fn set_frozen(&self) {
        self.frozen.store(true, Release);
    }

    /// Whether it has said so.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.frozen.load(Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_since_the_first_look_is_beyond_the_end() {
        let column = Column::new(1);
        column.issue(0, 6);
        // As if 7 to 9 had been issued between the looks.
        column.set_failed(&Failures::from_runs(&[(2, 3), (5, 9), (11, 12)], Some((1, 20))).unwrap());
        let read = column.read();
        let failed = Failures::from_runs(&[(2, 3), (5, 6)], Some((1, 6))).unwrap();
        assert_eq!((read.issued, read.failed), (7, failed));
    }
}
