//! What one worker's device has promised: which mutations were issued, which of them are in flight,
//! which failed, which are durable. A few kilobytes, however large the run.
//!
//! Sets are kept by exception: of what was issued, everything has completed but what is in flight or
//! failed; of what had completed when a flush was submitted, everything is durable but the holes.

use crate::base::Op;

/// Where one mutation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It was never issued.
    Unissued,
    /// Issued, and not back.
    InFlight,
    /// An error came back: old or new, or a mix, may stand.
    Failed,
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

/// Numbers that failed, as runs of neighbours: a device that fails everything takes one entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Failures {
    /// First and last of each run, rising.
    runs: Vec<(u64, u64)>,
}

impl Failures {
    fn insert(&mut self, number: u64) {
        let at = self.runs.partition_point(|&(_, last)| last.saturating_add(1) < number);
        match self.runs.get_mut(at) {
            Some((first, last)) if *first <= number.saturating_add(1) => {
                *first = (*first).min(number);
                *last = (*last).max(number);
            }
            _ => {
                self.runs.insert(at, (number, number));
                return;
            }
        }
        if let Some(&(next_first, next_last)) = self.runs.get(at + 1)
            && self.runs[at].1.saturating_add(1) == next_first
        {
            self.runs[at].1 = next_last;
            self.runs.remove(at + 1);
        }
    }

    fn contains(&self, number: u64) -> bool {
        let at = self.runs.partition_point(|&(_, last)| last < number);
        self.runs.get(at).is_some_and(|&(first, _)| first <= number)
    }

    fn count(&self) -> u64 {
        self.runs.iter().map(|&(first, last)| last - first + 1).sum()
    }
}

/// What was complete at some moment: everything below `mark` but the holes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Mark {
    mark: u64,
    /// Rising.
    holes: Vec<u64>,
}

impl Mark {
    fn covers(&self, number: u64) -> bool {
        number < self.mark && self.holes.binary_search(&number).is_err()
    }

    fn copy_from(&mut self, other: &Mark) {
        self.mark = other.mark;
        self.holes.clear();
        self.holes.extend_from_slice(&other.holes);
    }
}

/// The mutations of one kind.
#[derive(Clone, Debug, Default)]
struct Kind {
    issued: u64,
    /// In no order; at most as many as the depth.
    in_flight: Vec<u64>,
    failed: Failures,
    durable: Mark,
}

impl Kind {
    fn capture(&self, into: &mut Mark) {
        into.mark = self.issued;
        into.holes.clear();
        into.holes.extend_from_slice(&self.in_flight);
        into.holes.sort_unstable();
    }

    fn state(&self, number: u64) -> State {
        if number >= self.issued {
            State::Unissued
        } else if self.in_flight.contains(&number) {
            State::InFlight
        } else if self.failed.contains(number) {
            State::Failed
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
}

/// The ledger of one worker on one target. With several targets a worker has one for each: a flush
/// speaks for one target.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    writes: Kind,
    trims: Kind,
    flushes: Vec<FlushInFlight>,
    /// Flushes that came back: their memory serves again.
    spare: Vec<FlushInFlight>,
    next_ticket: u64,
    newest_durable_ticket: Option<u64>,
    flush_epoch: u64,
}

impl Ledger {
    /// An empty ledger for at most `depth` I/Os in flight.
    #[must_use]
    pub fn new(depth: u32) -> Ledger {
        let mut ledger = Ledger::default();
        ledger.writes.in_flight.reserve(depth as usize);
        ledger.trims.in_flight.reserve(depth as usize);
        ledger
    }

    fn kind(&self, op: Op) -> &Kind {
        if op == Op::Deallocate { &self.trims } else { &self.writes }
    }

    fn kind_mut(&mut self, op: Op) -> &mut Kind {
        if op == Op::Deallocate { &mut self.trims } else { &mut self.writes }
    }

    /// The mutation `number` of kind `op` is about to be submitted; numbers rise.
    #[inline]
    pub fn issue(&mut self, op: Op, number: u64) {
        let kind = self.kind_mut(op);
        debug_assert!(number >= kind.issued, "numbers rise");
        kind.issued = number + 1;
        kind.in_flight.push(number);
    }

    /// It came back well.
    #[inline]
    pub fn complete(&mut self, op: Op, number: u64) {
        let in_flight = &mut self.kind_mut(op).in_flight;
        if let Some(at) = in_flight.iter().position(|&other| other == number) {
            in_flight.swap_remove(at);
        }
    }

    /// It came back with an error.
    pub fn fail(&mut self, op: Op, number: u64) {
        self.complete(op, number);
        self.kind_mut(op).failed.insert(number);
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
        }
        self.flush_epoch += u64::from(well);
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

    /// How many are in flight.
    #[must_use]
    pub fn in_flight(&self, op: Op) -> usize {
        self.kind(op).in_flight.len()
    }

    /// Where a mutation stands.
    #[must_use]
    pub fn state(&self, op: Op, number: u64) -> State {
        self.kind(op).state(number)
    }

    /// Those that may or may not have happened, whatever the policy: in flight or failed, rising.
    #[must_use]
    pub fn unsettled(&self) -> Vec<(Op, u64)> {
        let mut all = Vec::new();
        for (op, kind) in [(Op::Write, &self.writes), (Op::Deallocate, &self.trims)] {
            let failed = kind.failed.runs.iter().flat_map(|&(first, last)| first..=last);
            let mut numbers: Vec<u64> = kind.in_flight.iter().copied().chain(failed).collect();
            numbers.sort_unstable();
            all.extend(numbers.into_iter().map(|number| (op, number)));
        }
        all
    }

    /// Those that no flush has made durable, rising: [`Ledger::unsettled`] and what has completed
    /// since.
    #[must_use]
    pub fn not_durable(&self) -> Vec<(Op, u64)> {
        let mut all = Vec::new();
        for (op, kind) in [(Op::Write, &self.writes), (Op::Deallocate, &self.trims)] {
            let failed = kind.failed.runs.iter().flat_map(|&(first, last)| first..=last);
            let below = kind.durable.mark;
            let mut numbers: Vec<u64> = kind
                .durable
                .holes
                .iter()
                .copied()
                .chain(failed.filter(|&n| n < below))
                .chain(below..kind.issued)
                .collect();
            numbers.sort_unstable();
            numbers.dedup();
            all.extend(numbers.into_iter().map(|number| (op, number)));
        }
        all
    }

    /// Whether one below `number` is in flight.
    #[inline]
    #[must_use]
    pub fn in_flight_below(&self, op: Op, number: u64) -> bool {
        self.kind(op).in_flight.iter().any(|&other| other < number)
    }

    /// Whether everything issued has completed: then every block's newest mutation stands.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        [&self.writes, &self.trims]
            .iter()
            .all(|kind| kind.in_flight.is_empty() && kind.failed.runs.is_empty())
    }

    /// An earlier run of a job that ran to its end: everything issued, everything completed.
    #[must_use]
    pub fn finished(writes: u64, trims: u64) -> Ledger {
        let mut ledger = Ledger::default();
        ledger.writes.issued = writes;
        ledger.trims.issued = trims;
        ledger
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

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
        fn the_ledger_knows_what_a_naive_model_knows(events in proptest::collection::vec(any_event(), 0..400)) {
            let op = |trim: bool| if trim { Op::Deallocate } else { Op::Write };
            let (mut ledger, mut naive) = (Ledger::new(4), Naive::default());
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
                for (trim, count) in [(false, next[0]), (true, next[1])] {
                    for number in 0..count + 2 {
                        let expected = naive.states.get(&(trim, number)).copied().unwrap_or(State::Unissued);
                        prop_assert_eq!(ledger.state(op(trim), number), expected);
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
                    ledger.unsettled().into_iter().map(|(o, n)| (o == Op::Deallocate, n)).collect();
                prop_assert_eq!(mine, unsettled);
            }
        }
    }

    #[test]
    fn a_device_that_fails_everything_takes_one_entry() {
        let mut ledger = Ledger::new(1);
        for number in 0..100_000 {
            ledger.issue(Op::Write, number);
            ledger.fail(Op::Write, number);
        }
        assert_eq!((ledger.writes.failed.runs.len(), ledger.failed(Op::Write)), (1, 100_000));
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
        assert_eq!(ledger.unsettled(), [(Op::Write, 0)]);
    }
}
