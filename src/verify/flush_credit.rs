//! A flush covers what every worker on its targets had completed when it was submitted. The worker that
//! flushes looks at the boards of the others then, and publishes what it saw once its flush has come back
//! well; whoever asks what the others were promised adds that.
//!
//! Order: a mutation that the looking worker finds below `issued` and not in flight had come back before
//! the look, so before the flush was submitted. If it had failed, its board said so before; and a reader
//! takes credits last, when it has read what failed.

use std::sync::Arc;

use super::board::{Board, read_mark};
use super::promises::Mark;
use crate::base::seqlock::SeqLock;

/// What all credits of a stage may take together. With more, flushes cover their own worker alone, which
/// promises less.
const MOST_BYTES: usize = 64 << 20;

/// What one worker's flushes have made durable of another's mutations.
#[derive(Debug)]
pub struct Credit {
    writes: SeqLock,
    trims: SeqLock,
}

impl Credit {
    fn new(depth: usize) -> Credit {
        Credit { writes: SeqLock::new(1 + depth), trims: SeqLock::new(1 + depth) }
    }

    pub(super) fn publish(&self, writes: &Mark, trims: &Mark) {
        for (words, mark) in [(&self.writes, writes), (&self.trims, trims)] {
            words.write(std::iter::once(mark.mark).chain(mark.holes.iter().copied()));
        }
    }

    pub(super) fn read(&self) -> (Mark, Mark) {
        (read_mark(&self.writes), read_mark(&self.trims))
    }
}

/// Another worker whose mutations this worker's flushes cover too.
#[derive(Debug)]
pub struct Peer {
    pub(super) board: Arc<Board>,
    pub(super) credit: Arc<Credit>,
}

/// A worker of a stage: its board, and the targets (by their identities) that it writes to and flushes.
pub struct Member {
    /// Where others read its ledger.
    pub board: Arc<Board>,
    /// Identities of its targets.
    pub targets: Vec<u64>,
}

/// For each member the others that its flushes cover: those whose targets are all among its own. To be
/// called once, before any of them issues anything.
#[must_use]
pub fn peers(members: &[Member]) -> Vec<Vec<Peer>> {
    let covers = |by: usize, of: usize| {
        by != of && members[of].targets.iter().all(|target| members[by].targets.contains(target))
    };
    let mut bytes = 0;
    for by in 0..members.len() {
        let of = (0..members.len()).filter(|&of| covers(by, of));
        bytes += of.map(|of| 2 * SeqLock::bytes(1 + members[of].board.depth())).sum::<usize>();
    }
    let mut peers: Vec<Vec<Peer>> = members.iter().map(|_| Vec::new()).collect();
    if bytes > MOST_BYTES {
        return peers;
    }
    for (of, member) in members.iter().enumerate() {
        let mut credits = Vec::new();
        for by in (0..members.len()).filter(|&by| covers(by, of)) {
            let credit = Arc::new(Credit::new(member.board.depth()));
            credits.push(Arc::clone(&credit));
            peers[by].push(Peer { board: Arc::clone(&member.board), credit });
        }
        member.board.accept(credits);
    }
    peers
}

impl Mark {
    /// Adds what `other` covers: of the holes those stay that neither covers.
    pub(super) fn unite(&mut self, other: &Mark) {
        let (most, less) = if other.mark > self.mark { (other, &*self) } else { (&*self, other) };
        let holes = most.holes.iter().copied().filter(|&hole| !less.covers(hole)).collect();
        *self = Mark { mark: most.mark, holes };
    }

    /// The part below `issued`.
    pub(super) fn below(mut self, issued: u64) -> Mark {
        self.mark = self.mark.min(issued);
        self.holes.retain(|&hole| hole < self.mark);
        self
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering::SeqCst;

    use proptest::prelude::*;

    use super::*;
    use crate::base::Op;
    use crate::verify::ledger::Ledger;
    use crate::verify::promises::State;

    fn connect(ledgers: &mut [&mut Ledger], targets: &[&[u64]]) {
        let members: Vec<Member> = ledgers
            .iter()
            .zip(targets)
            .map(|(ledger, targets)| Member { board: Arc::clone(ledger.board()), targets: targets.to_vec() })
            .collect();
        ledgers.iter_mut().zip(peers(&members)).for_each(|(ledger, peers)| ledger.cover(peers));
    }

    #[test]
    fn a_flush_covers_what_others_on_its_targets_had_completed_when_it_was_submitted() {
        let (mut one, mut other, mut elsewhere) = (Ledger::new(4), Ledger::new(4), Ledger::new(4));
        connect(&mut [&mut one, &mut other, &mut elsewhere], &[&[1, 2], &[1], &[3]]);
        for ledger in [&mut one, &mut other, &mut elsewhere] {
            (0..4).for_each(|number| ledger.issue(Op::Write, number));
            ledger.complete(Op::Write, 0);
            ledger.fail(Op::Write, 1);
        }
        let ticket = one.flush();
        other.complete(Op::Write, 2);
        assert_eq!(other.promises().state(Op::Write, 0), State::Completed, "it has not come back");
        one.flushed(ticket, true);
        let states = |ledger: &Ledger| {
            let (read, own) = (ledger.board().read(), ledger.promises());
            assert_eq!((&read.writes, &read.trims), (&own.writes, &own.trims));
            [0, 1, 2, 3].map(|number| own.state(Op::Write, number))
        };
        use State::{Completed, Durable, Failed, InFlight};
        assert_eq!(states(&other), [Durable, Failed, Completed, InFlight]);
        assert_eq!(states(&elsewhere), [Completed, Failed, InFlight, InFlight], "another target");
        // The other one has not flushed all of the first one's targets.
        let ticket = other.flush();
        one.complete(Op::Write, 2);
        other.flushed(ticket, true);
        assert_eq!(states(&one), [Durable, Failed, Completed, InFlight]);
        // Nor does a flush that fails say anything.
        let ticket = one.flush();
        one.flushed(ticket, false);
        other.complete(Op::Write, 3);
        assert_eq!(states(&other), [Durable, Failed, Durable, Completed]);
    }

    #[test]
    fn a_flush_after_the_power_went_says_nothing_of_another_worker_that_has_seen_it_go() {
        let (mut one, mut other) = (Ledger::new(2), Ledger::new(2));
        connect(&mut [&mut one, &mut other], &[&[1], &[1]]);
        other.issue(Op::Write, 0);
        other.complete(Op::Write, 0);
        let ticket = one.flush();
        other.board().set_power_lost();
        one.flushed(ticket, true);
        assert_eq!(other.promises().state(Op::Write, 0), State::Completed);
    }

    #[derive(Clone, Debug)]
    enum Event {
        Issue(usize, bool),
        Complete(usize, usize),
        Fail(usize, usize),
        Flush(usize),
        Flushed(usize, usize, bool),
    }

    fn any_event() -> impl Strategy<Value = Event> {
        prop_oneof![
            4 => (0_usize..3, any::<bool>()).prop_map(|(who, trim)| Event::Issue(who, trim)),
            4 => (0_usize..3, any::<usize>()).prop_map(|(who, which)| Event::Complete(who, which)),
            1 => (0_usize..3, any::<usize>()).prop_map(|(who, which)| Event::Fail(who, which)),
            2 => (0_usize..3).prop_map(Event::Flush),
            2 => (0_usize..3, any::<usize>(), any::<bool>()).prop_map(|(who, which, well)| Event::Flushed(who, which, well)),
        ]
    }

    /// Worker, trim or write, number.
    type Key = (usize, bool, u64);

    proptest! {
        /// Held against the plain way: for each flush a list of all that had come back well.
        #[test]
        fn what_flushes_cover_is_what_a_naive_model_says(events in proptest::collection::vec(any_event(), 0..120)) {
            const TARGETS: [&[u64]; 3] = [&[1, 2], &[1], &[1]];
            let op = |trim: bool| if trim { Op::Deallocate } else { Op::Write };
            let mut ledgers = [Ledger::new(64), Ledger::new(64), Ledger::new(64)];
            connect(&mut ledgers.iter_mut().collect::<Vec<_>>(), &TARGETS);
            let mut next = [[0_u64; 2]; 3];
            let (mut flying, mut failed) = (Vec::<Key>::new(), BTreeSet::<Key>::new());
            let (mut done, mut durable) = (BTreeSet::<Key>::new(), BTreeSet::<Key>::new());
            let mut flushes: Vec<Vec<(u64, BTreeSet<Key>)>> = vec![Vec::new(); 3];
            for event in events {
                let pick = |who: usize, which: usize| {
                    let own: Vec<usize> = (0..flying.len()).filter(|&at| flying[at].0 == who).collect();
                    (!own.is_empty()).then(|| own[which % own.len()])
                };
                match event {
                    Event::Issue(who, trim) => {
                        let number = &mut next[who][usize::from(trim)];
                        if flying.iter().filter(|key| key.0 == who).count() < 60 {
                            ledgers[who].issue(op(trim), *number);
                            flying.push((who, trim, *number));
                            *number += 1;
                        }
                    }
                    Event::Complete(who, which) => if let Some(at) = pick(who, which) {
                        let key = flying.remove(at);
                        ledgers[who].complete(op(key.1), key.2);
                        done.insert(key);
                    },
                    Event::Fail(who, which) => if let Some(at) = pick(who, which) {
                        let key = flying.remove(at);
                        ledgers[who].fail(op(key.1), key.2);
                        failed.insert(key);
                    },
                    Event::Flush(who) => {
                        let covers = |key: &&Key| TARGETS[key.0].iter().all(|target| TARGETS[who].contains(target));
                        flushes[who].push((ledgers[who].flush(), done.iter().filter(covers).copied().collect()));
                    }
                    Event::Flushed(who, which, well) => if !flushes[who].is_empty() {
                        let at = which % flushes[who].len();
                        let (ticket, covered) = flushes[who].remove(at);
                        ledgers[who].flushed(ticket, well);
                        if well {
                            durable.extend(covered);
                        }
                    },
                }
                for (who, ledger) in ledgers.iter().enumerate() {
                    let (own, read) = (ledger.promises(), ledger.board().read());
                    prop_assert_eq!((&own.writes, &own.trims), (&read.writes, &read.trims));
                    for trim in [false, true] {
                        for number in 0..next[who][usize::from(trim)] {
                            let key = (who, trim, number);
                            let expected = match () {
                                () if flying.contains(&key) => State::InFlight,
                                () if failed.contains(&key) => State::Failed,
                                () if durable.contains(&key) => State::Durable,
                                () => State::Completed,
                            };
                            prop_assert_eq!(own.state(op(trim), number), expected, "{:?}", key);
                        }
                    }
                }
            }
        }

        #[test]
        fn a_union_covers_what_one_of_both_covers(
            one in (0_u64..40, proptest::collection::btree_set(0_u64..40, 0..9)),
            other in (0_u64..40, proptest::collection::btree_set(0_u64..40, 0..9)),
        ) {
            let mark = |(mark, holes): &(u64, BTreeSet<u64>)| {
                Mark { mark: *mark, holes: holes.iter().copied().filter(|hole| hole < mark).collect() }
            };
            let (one, other) = (mark(&one), mark(&other));
            let mut both = one.clone();
            both.unite(&other);
            for number in 0..42 {
                prop_assert_eq!(both.covers(number), one.covers(number) || other.covers(number));
            }
        }
    }

    /// One worker writes, another flushes, a third thread reads: what seems durable had completed before a
    /// flush was submitted that has come back.
    #[test]
    fn whoever_reads_meanwhile_takes_nothing_for_durable_that_no_flush_covers() {
        const WRITES: u64 = 20_000;
        let fails = |number: u64| number % 1000 == 7;
        let done: Vec<AtomicBool> = (0..WRITES).map(|_| AtomicBool::new(false)).collect();
        let flushed: Vec<AtomicBool> = (0..WRITES).map(|_| AtomicBool::new(false)).collect();
        let (mut writer, mut flusher) = (Ledger::new(8), Ledger::new(8));
        connect(&mut [&mut writer, &mut flusher], &[&[1], &[1]]);
        let board = Arc::clone(writer.board());
        let at = |number: u64| usize::try_from(number).unwrap();
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for number in 0..WRITES {
                    writer.issue(Op::Write, number);
                    let Some(back) = number.checked_sub(7).map(|back| back ^ 1) else { continue };
                    if fails(back) {
                        writer.fail(Op::Write, back);
                    } else {
                        done[at(back)].store(true, SeqCst);
                        writer.complete(Op::Write, back);
                    }
                }
                ended.store(true, SeqCst);
            });
            scope.spawn(|| {
                let mut last = false;
                while !last {
                    last = ended.load(SeqCst);
                    let ticket = flusher.flush();
                    // What the device makes durable: all that had completed by now, and more.
                    for (done, flushed) in done.iter().zip(&flushed) {
                        flushed.store(done.load(SeqCst), SeqCst);
                    }
                    flusher.flushed(ticket, true);
                }
            });
            let mut last = false;
            while !last {
                last = ended.load(SeqCst);
                let promises = board.read();
                for number in 0..promises.issued(Op::Write) {
                    if promises.state(Op::Write, number) == State::Durable {
                        assert!(!fails(number) && flushed[at(number)].load(SeqCst), "write {number}");
                    }
                }
            }
        });
        let promises = board.read();
        assert_eq!(promises.state(Op::Write, 0), State::Durable, "the last flush came after the last write");
    }
}
