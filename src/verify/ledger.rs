//! What one worker's device has promised, kept while it works: which mutations were issued, which of
//! them are in flight, which failed, which are durable. A few kilobytes, however large the run, and
//! chalked up on a [`Board`] for others to read.

use std::sync::Arc;
use std::sync::atomic::Ordering::Release;

use crate::base::Op;

use super::board::{Board, Column};
use super::failures::Failures;
use super::flush_credit::Peer;
use super::promises::{Mark, Mutated, Promises, State};

/// An empty slot.
const NONE: u64 = u64::MAX;

/// The mutations of one kind.
#[derive(Debug)]
struct Kind {
    issued: u64,
    /// A power of two, and no fewer than the depth: each stays in its slot while it is in flight,
    /// usually the one that its number leads to.
    slots: Box<[u64]>,
    failed: Failures,
    durable: Mark,
}

impl Kind {
    fn new(depth: usize) -> Kind {
        Kind {
            issued: 0,
            slots: vec![NONE; depth].into(),
            failed: Failures::default(),
            durable: Mark::default(),
        }
    }

    /// The slot that `number` belongs to, if that is free.
    #[inline]
    fn home(&self, number: u64) -> usize {
        #[expect(clippy::cast_possible_truncation, reason = "the low bits are meant")]
        let low = number as usize;
        low & (self.slots.len() - 1)
    }

    /// The slot that holds `content`, which is `number` or nothing.
    #[inline]
    fn slot(&self, number: u64, content: u64) -> Option<usize> {
        let home = self.home(number);
        if self.slots[home] == content {
            return Some(home);
        }
        self.slots.iter().position(|&other| other == content)
    }

    fn in_flight(&self) -> impl Iterator<Item = u64> + '_ {
        self.slots.iter().copied().filter(|&number| number != NONE)
    }

    fn promises(&self) -> Mutated {
        let mut in_flight: Vec<u64> = self.in_flight().collect();
        in_flight.sort_unstable();
        Mutated { issued: self.issued, in_flight, failed: self.failed.clone(), durable: self.durable.clone() }
    }

    /// Goes on from what was promised: nobody knows what became of what was in flight, nor, unless
    /// completion is durability, of what was not durable: no later flush makes it so.
    fn resume(&mut self, promises: &Mutated, completed_is_durable: bool, column: &Column) {
        self.issued = promises.issued;
        self.failed = promises.failed.clone();
        let mark = promises.durable.mark;
        let single = |numbers: &[u64]| numbers.iter().map(|&number| (number, number)).collect::<Vec<_>>();
        let mut lost = single(&promises.in_flight);
        if !completed_is_durable {
            lost.extend(single(&promises.durable.holes));
            lost.extend((mark < promises.issued).then(|| (mark, promises.issued - 1)));
        }
        self.failed.insert_runs(lost);
        self.durable = promises.durable.clone();
        column.set_durable(&self.durable);
        column.set_failed(&self.failed);
        column.set_issued(self.issued);
    }

    fn capture(&self, into: &mut Mark) {
        into.mark = self.issued;
        into.holes.clear();
        into.holes.extend(self.slots.iter().filter(|&&number| number != NONE));
        into.holes.sort_unstable();
    }

    fn state(&self, number: u64) -> State {
        if number >= self.issued {
            State::Unissued
        } else if self.slots.contains(&number) {
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
}

/// A flush on its way, with what had completed when it was submitted.
#[derive(Clone, Debug, Default)]
struct FlushInFlight {
    ticket: u64,
    writes: Mark,
    trims: Mark,
    /// Of the workers that it covers too.
    peers: Vec<(Mark, Mark)>,
}

/// The ledger of one worker.
#[derive(Debug)]
pub struct Ledger {
    writes: Kind,
    trims: Kind,
    flushes: Vec<FlushInFlight>,
    /// Flushes that came back: their memory serves again.
    spare: Vec<FlushInFlight>,
    next_ticket: u64,
    newest_durable_ticket: Option<u64>,
    flush_epoch: u64,
    board: Arc<Board>,
    /// Other workers that its flushes cover.
    peers: Vec<Peer>,
}

impl Ledger {
    /// An empty ledger for at most `depth` mutations in flight.
    #[must_use]
    pub fn new(depth: u32) -> Ledger {
        let depth = (depth as usize).next_power_of_two();
        Ledger {
            writes: Kind::new(depth),
            trims: Kind::new(depth),
            flushes: Vec::new(),
            spare: Vec::new(),
            next_ticket: 0,
            newest_durable_ticket: None,
            flush_epoch: 0,
            board: Arc::new(Board::new(depth)),
            peers: Vec::new(),
        }
    }

    /// The ledger of a worker that goes on where another, that made `promises`, lost its power.
    ///
    /// `writes_are_durable` and `trims_are_durable` say whether what completes needs no flush.
    #[must_use]
    pub fn resume(
        promises: &Promises,
        writes_are_durable: bool,
        trims_are_durable: bool,
        depth: u32,
    ) -> Ledger {
        // A board has room for as many holes as its depth.
        let holes = promises.writes.durable.holes.len().max(promises.trims.durable.holes.len());
        let mut ledger = Ledger::new(depth);
        ledger.board = Arc::new(Board::new(holes.max(ledger.writes.slots.len())));
        ledger.writes.resume(&promises.writes, writes_are_durable, &ledger.board.writes);
        ledger.trims.resume(&promises.trims, trims_are_durable, &ledger.board.trims);
        ledger.flush_epoch = promises.flush_epoch;
        ledger.board.flush_epoch.store(ledger.flush_epoch, Release);
        ledger
    }

    /// Where others read it.
    #[must_use]
    pub fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// The other workers that its flushes cover, before anything is issued.
    pub fn cover(&mut self, peers: Vec<Peer>) {
        self.peers = peers;
    }

    /// What is promised by now, if no more is issued.
    #[must_use]
    pub fn promises(&self) -> Promises {
        let (mut writes, mut trims) = (self.writes.promises(), self.trims.promises());
        self.board.add_credits(&mut writes, &mut trims);
        Promises { writes, trims, flush_epoch: self.flush_epoch, open_end: false }
    }

    fn kind(&self, op: Op) -> &Kind {
        if op == Op::Deallocate { &self.trims } else { &self.writes }
    }

    fn kind_mut(&mut self, op: Op) -> (&mut Kind, &Column) {
        if op == Op::Deallocate {
            (&mut self.trims, &self.board.trims)
        } else {
            (&mut self.writes, &self.board.writes)
        }
    }

    /// The mutation `number` of kind `op` is about to be submitted; numbers rise.
    ///
    /// # Panics
    /// If more are in flight than the depth.
    #[inline]
    pub fn issue(&mut self, op: Op, number: u64) {
        let (kind, column) = self.kind_mut(op);
        debug_assert!(number >= kind.issued, "numbers rise");
        let slot = kind.slot(number, NONE).expect("no more in flight than the depth");
        kind.slots[slot] = number;
        kind.issued = number + 1;
        column.issue(slot, number);
    }

    /// It came back well.
    #[inline]
    pub fn complete(&mut self, op: Op, number: u64) {
        let (kind, column) = self.kind_mut(op);
        if let Some(slot) = kind.slot(number, number) {
            kind.slots[slot] = NONE;
            column.come_back(slot);
        }
    }

    /// It came back with an error.
    pub fn fail(&mut self, op: Op, number: u64) {
        let (kind, column) = self.kind_mut(op);
        kind.failed.insert(number);
        column.set_failed(&kind.failed);
        self.complete(op, number);
    }

    /// A flush is about to be submitted: what has completed by now will be durable when it comes
    /// back well. The ticket is for [`Ledger::flushed`].
    pub fn flush(&mut self) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let mut flush = self.spare.pop().unwrap_or_default();
        flush.ticket = ticket;
        self.writes.capture(&mut flush.writes);
        self.trims.capture(&mut flush.trims);
        flush.peers.resize_with(self.peers.len(), Default::default);
        for (peer, (writes, trims)) in self.peers.iter().zip(&mut flush.peers) {
            peer.board.writes.capture(writes);
            peer.board.trims.capture(trims);
        }
        self.flushes.push(flush);
        ticket
    }

    /// The flush of that ticket came back.
    pub fn flushed(&mut self, ticket: u64, well: bool) {
        let Some(at) = self.flushes.iter().position(|flush| flush.ticket == ticket) else { return };
        let flush = self.flushes.swap_remove(at);
        // What had completed at a later flush includes what had at an earlier one.
        if well && self.newest_durable_ticket.is_none_or(|newest| ticket > newest) {
            self.newest_durable_ticket = Some(ticket);
            self.writes.durable.copy_from(&flush.writes);
            self.trims.durable.copy_from(&flush.trims);
            self.board.writes.set_durable(&self.writes.durable);
            self.board.trims.set_durable(&self.trims.durable);
            for (peer, (writes, trims)) in self.peers.iter().zip(&flush.peers) {
                if !peer.board.has_lost_power() {
                    peer.credit.publish(writes, trims);
                }
            }
        }
        self.flush_epoch += u64::from(well);
        self.board.flush_epoch.store(self.flush_epoch, Release);
        self.spare.push(flush);
    }

    /// Flushes that have come back well.
    #[must_use]
    pub fn flush_epoch(&self) -> u64 {
        self.flush_epoch
    }

    /// How many mutations of that kind were issued (the number of the next one).
    #[must_use]
    pub fn issued(&self, op: Op) -> u64 {
        self.kind(op).issued
    }

    /// How many failed.
    #[must_use]
    pub fn failed(&self, op: Op) -> u64 {
        self.kind(op).failed.count()
    }

    /// Where a mutation stands.
    #[must_use]
    pub fn state(&self, op: Op, number: u64) -> State {
        self.kind(op).state(number)
    }

    /// Whether one below `number` is in flight.
    #[inline]
    #[must_use]
    pub fn in_flight_below(&self, op: Op, number: u64) -> bool {
        self.kind(op).slots.iter().any(|&other| other < number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering::SeqCst;

    #[derive(Clone, Debug)]
    enum Event {
        Issue(bool),
        Complete(usize),
        Fail(usize),
        Flush,
        Flushed(usize, bool),
    }

    fn any_event() -> impl Strategy<Value = Event> {
        prop_oneof![
            4 => any::<bool>().prop_map(Event::Issue),
            4 => any::<usize>().prop_map(Event::Complete),
            1 => any::<usize>().prop_map(Event::Fail),
            1 => Just(Event::Flush),
            1 => (any::<usize>(), any::<bool>()).prop_map(|(which, well)| Event::Flushed(which, well)),
        ]
    }

    type Key = (bool, u64);

    /// The plain way: a state for every mutation, and for every flush the list of what had completed.
    #[derive(Default)]
    struct Naive {
        states: BTreeMap<Key, State>,
        flushes: Vec<(u64, Vec<Key>)>,
        epoch: u64,
    }

    proptest! {
        #[test]
        fn the_ledger_knows_what_a_naive_model_knows(events in proptest::collection::vec(any_event(), 0..160)) {
            let op = |trim: bool| if trim { Op::Deallocate } else { Op::Write };
            let (mut ledger, mut naive) = (Ledger::new(160), Naive::default());
            let mut next = [0_u64; 2];
            for event in events {
                let flying: Vec<Key> =
                    naive.states.iter().filter(|(_, s)| **s == State::InFlight).map(|(k, _)| *k).collect();
                match event {
                    Event::Issue(trim) => {
                        let number = &mut next[usize::from(trim)];
                        ledger.issue(op(trim), *number);
                        naive.states.insert((trim, *number), State::InFlight);
                        *number += 1;
                    }
                    Event::Complete(which) if !flying.is_empty() => {
                        let key = flying[which % flying.len()];
                        ledger.complete(op(key.0), key.1);
                        naive.states.insert(key, State::Completed);
                    }
                    Event::Fail(which) if !flying.is_empty() => {
                        let key = flying[which % flying.len()];
                        ledger.fail(op(key.0), key.1);
                        naive.states.insert(key, State::Failed);
                    }
                    Event::Flush => {
                        let done = naive.states.iter().filter(|(_, s)| s.is_settled()).map(|(k, _)| *k).collect();
                        naive.flushes.push((ledger.flush(), done));
                    }
                    Event::Flushed(which, well) if !naive.flushes.is_empty() => {
                        let which = which % naive.flushes.len();
                        let (ticket, done) = naive.flushes.remove(which);
                        ledger.flushed(ticket, well);
                        if well {
                            naive.epoch += 1;
                            for key in done {
                                naive.states.insert(key, State::Durable);
                            }
                        }
                    }
                    _ => {}
                }
                let promises = ledger.promises();
                for (trim, count) in [(false, next[0]), (true, next[1])] {
                    for number in 0..count + 2 {
                        let expected = naive.states.get(&(trim, number)).copied().unwrap_or(State::Unissued);
                        prop_assert_eq!(ledger.state(op(trim), number), expected);
                        prop_assert_eq!(promises.state(op(trim), number), expected);
                    }
                    prop_assert_eq!(ledger.issued(op(trim)), count);
                    let failed = naive.states.iter().filter(|(k, s)| k.0 == trim && **s == State::Failed).count();
                    prop_assert_eq!(ledger.failed(op(trim)), failed as u64);
                }
                prop_assert_eq!(ledger.flush_epoch(), naive.epoch);
                let unsettled: Vec<Key> = naive
                    .states
                    .iter()
                    .filter(|(_, s)| matches!(s, State::InFlight | State::Failed))
                    .map(|(k, _)| *k)
                    .collect();
                let mine: Vec<Key> =
                    ledger.promises().unsettled().into_iter().map(|(o, n)| (o == Op::Deallocate, n)).collect();
                prop_assert_eq!(mine, unsettled);
                // Who reads the board sees the same, but that it has no end.
                let mut read = ledger.board().read();
                read.open_end = false;
                prop_assert_eq!(read, ledger.promises());
            }
        }
    }

    #[test]
    fn who_reads_while_the_worker_works_takes_nothing_for_done_that_is_not() {
        const WRITES: usize = 30_000;
        // Far more separate failures than one chunk of them holds.
        let fails = |number: u64| number % 5 == 2;
        let done: Vec<AtomicBool> = (0..WRITES).map(|_| AtomicBool::new(false)).collect();
        let mut ledger = Ledger::new(8);
        let board = Arc::clone(ledger.board());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for number in 0..WRITES as u64 {
                    ledger.issue(Op::Write, number);
                    // The eighth before, in an order that is not that of issue.
                    let Some(back) = number.checked_sub(7).map(|back| back ^ 1) else { continue };
                    if fails(back) {
                        ledger.fail(Op::Write, back);
                    } else {
                        done[usize::try_from(back).unwrap()].store(true, SeqCst);
                        ledger.complete(Op::Write, back);
                    }
                    if number % 64 == 0 {
                        let ticket = ledger.flush();
                        ledger.flushed(ticket, true);
                    }
                }
                ledger.board().set_frozen();
            });
            let mut seen = 0;
            loop {
                let is_last = board.is_frozen();
                let promises = board.read();
                for number in seen..promises.issued(Op::Write) {
                    let state = promises.state(Op::Write, number);
                    if state.is_settled() {
                        assert!(!fails(number), "write {number} failed and is {state:?}");
                        assert!(
                            done[usize::try_from(number).unwrap()].load(SeqCst),
                            "write {number} is {state:?}"
                        );
                    }
                }
                seen = promises.issued(Op::Write).saturating_sub(64);
                if is_last {
                    assert_eq!(promises.issued(Op::Write), WRITES as u64);
                    break;
                }
            }
        });
    }

    #[test]
    fn who_goes_on_after_a_cut_counts_what_was_in_flight_as_failed() {
        let mut ledger = Ledger::new(4);
        (0..4).for_each(|number| ledger.issue(Op::Write, number));
        ledger.complete(Op::Write, 0);
        ledger.complete(Op::Write, 2);
        let ticket = ledger.flush();
        ledger.flushed(ticket, true);
        ledger.complete(Op::Write, 3);
        let (durable, failed) = (State::Durable, State::Failed);
        for (completed_is_durable, third) in [(true, State::Completed), (false, failed)] {
            let mut next = Ledger::resume(&ledger.promises(), completed_is_durable, completed_is_durable, 4);
            next.issue(Op::Write, 4);
            let states: Vec<State> = (0..6).map(|number| next.state(Op::Write, number)).collect();
            assert_eq!(states, [durable, failed, durable, third, State::InFlight, State::Unissued]);
            assert_eq!(next.board().read().writes, next.promises().writes);
            // Nor does a smaller depth forget a hole.
            let shallow = Ledger::resume(&ledger.promises(), completed_is_durable, completed_is_durable, 1);
            assert_eq!(shallow.board().read().writes, shallow.promises().writes);
            // What was lost does not come back by a flush.
            let ticket = next.flush();
            next.flushed(ticket, true);
            assert_eq!(next.state(Op::Write, 3) == failed, third == failed);
        }
    }

    #[test]
    fn a_device_that_fails_everything_takes_one_entry() {
        let mut ledger = Ledger::new(1);
        for number in 0..100_000 {
            ledger.issue(Op::Write, number);
            ledger.fail(Op::Write, number);
        }
        assert_eq!((ledger.writes.failed.run_count(), ledger.failed(Op::Write)), (1, 100_000));
    }

    #[test]
    fn a_write_that_lags_behind_for_ever_stays_in_flight() {
        let mut ledger = Ledger::new(2);
        ledger.issue(Op::Write, 0);
        for number in 1..1_000_000 {
            ledger.issue(Op::Write, number);
            ledger.complete(Op::Write, number);
        }
        let ticket = ledger.flush();
        ledger.flushed(ticket, true);
        assert_eq!(ledger.state(Op::Write, 0), State::InFlight);
        assert_eq!(ledger.state(Op::Write, 999_999), State::Durable);
        assert_eq!(ledger.promises().unsettled(), [(Op::Write, 0)]);
    }
}
