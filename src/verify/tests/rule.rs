//! The rule of the verdicts, once more and in the plainest way: a list of all mutations of a block, and
//! the set of contents that may stand. Held against ledger and judge, for random histories and contents.

use super::*;
use crate::verify::ledger::Ledger;
use proptest::prelude::*;

/// What happens to a block, or to others of the same worker.
#[derive(Clone, Debug)]
enum Event {
    /// The one before has come back, and this is issued.
    Issue {
        trim: bool,
        others: u64,
    },
    /// What is in flight comes back, well or not.
    Settle(bool),
    Flush,
    Flushed {
        which: usize,
        well: bool,
    },
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (prop::bool::weighted(0.25), 0..3_u64).prop_map(|(trim, others)| Event::Issue { trim, others }),
        4 => prop::bool::weighted(0.8).prop_map(Event::Settle),
        2 => Just(Event::Flush),
        2 => (any::<usize>(), prop::bool::weighted(0.8)).prop_map(|(which, well)| Event::Flushed { which, well }),
    ]
}

/// A mutation of the block.
#[derive(Clone, Copy, Debug, Default)]
struct Mutation {
    trim: bool,
    sequence: u64,
    completed: bool,
    failed: bool,
    durable: bool,
}

/// All that happened, in the order of issue, in two books: the plain one and the ledger.
struct Told {
    mutations: Vec<Mutation>,
    /// For each flush on its way: the mutations that had completed.
    flushes: Vec<(u64, Vec<usize>)>,
    issued: [u64; 2],
    ledger: Ledger,
}

fn op(trim: bool) -> Op {
    if trim { Op::Deallocate } else { Op::Write }
}

impl Told {
    fn hear(&mut self, event: &Event) {
        let flying = self.mutations.iter().rposition(|one| !one.completed && !one.failed);
        match *event {
            // Two mutations of a block are never in flight together.
            Event::Issue { trim, others } if flying.is_none() => {
                let issued = &mut self.issued[usize::from(trim)];
                for _ in 0..others {
                    self.ledger.issue(op(trim), *issued);
                    self.ledger.complete(op(trim), *issued);
                    *issued += 1;
                }
                self.ledger.issue(op(trim), *issued);
                self.mutations.push(Mutation { trim, sequence: *issued, ..Mutation::default() });
                *issued += 1;
            }
            Event::Settle(well) => {
                let Some(at) = flying else { return };
                let one = &mut self.mutations[at];
                (one.completed, one.failed) = (well, !well);
                match well {
                    true => self.ledger.complete(op(one.trim), one.sequence),
                    false => self.ledger.fail(op(one.trim), one.sequence),
                }
            }
            Event::Flush => {
                let done = (0..self.mutations.len()).filter(|&at| self.mutations[at].completed).collect();
                self.flushes.push((self.ledger.flush(), done));
            }
            Event::Flushed { which, well } if !self.flushes.is_empty() => {
                let (ticket, done) = self.flushes.remove(which % self.flushes.len());
                self.ledger.flushed(ticket, well);
                for at in done.into_iter().filter(|_| well) {
                    self.mutations[at].durable = true;
                }
            }
            _ => {}
        }
    }

    /// What the reactor gathers for the judge.
    fn allowed(&self, bench: &Bench, fsynced: bool) -> Allowed {
        let survives = |one: &Candidate| match fsynced {
            true => one.state == State::Durable,
            false => one.state.is_settled(),
        };
        let promises = self.ledger.promises();
        let chain = self.mutations.iter().rev().map(|one| {
            let state = promises.state(op(one.trim), one.sequence);
            if one.trim { bench.trim(one.sequence, state) } else { bench.write(one.sequence, state) }
        });
        Allowed::gather(chain, survives, promises.issued(Op::Write))
    }
}

/// What stands in the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    /// A mutation of the history: the block of a write, or zeros.
    Of(usize),
    /// The first half of the one, and the second of the other.
    Halves(usize, usize),
    /// Half of the one and half of what stood there before.
    HalfOld(usize),
    /// As `Halves`, but not where an LBA ends.
    Tear(usize, usize),
    Flipped(usize),
    Zeros,
    Ones,
    Noise,
    /// An intact block of an earlier run.
    Stale,
    /// One of a write that was never issued.
    Future,
    /// One of ours that names another offset; another target; another worker.
    Elsewhere,
    OtherTarget,
    OtherWorker,
    /// One of a write of this run that never went here.
    NeverHere(u64),
}

fn any_content() -> impl Strategy<Value = Content> {
    let which = || 0..6_usize;
    prop_oneof![
        6 => which().prop_map(Content::Of),
        3 => (which(), which()).prop_map(|(one, other)| Content::Halves(one, other)),
        1 => which().prop_map(Content::HalfOld),
        2 => (which(), which()).prop_map(|(one, other)| Content::Tear(one, other)),
        1 => which().prop_map(Content::Flipped),
        1 => (0..20_u64).prop_map(Content::NeverHere),
        6 => prop::sample::select(vec![
            Content::Zeros, Content::Ones, Content::Noise, Content::Stale, Content::Future,
            Content::Elsewhere, Content::OtherTarget, Content::OtherWorker,
        ]),
    ]
}

/// The rule, for one history.
struct Rule<'a> {
    mutations: &'a [Mutation],
    /// Which must have survived: the newest that has to.
    floor: Option<usize>,
    /// Whether trimmed blocks must read as zeros.
    zeros: bool,
}

impl Rule<'_> {
    fn may_stand(&self, at: usize) -> bool {
        self.floor.is_none_or(|floor| at >= floor)
    }

    /// The verdict on what may stand, by what is gone: the mutations newer than `at`, or all.
    fn by_age(&self, at: Option<usize>) -> Verdict {
        let gone = &self.mutations[at.map_or(0, |at| at + 1)..];
        if gone.iter().any(|one| one.completed) {
            Verdict::AllowedLoss
        } else if !gone.is_empty() || at.is_some_and(|at| !self.mutations[at].completed) {
            Verdict::InFlight
        } else {
            at.map_or(Verdict::Unwritten, |_| Verdict::Ok)
        }
    }

    /// Whether some of it may be what stood there before everything.
    fn before(&self) -> bool {
        self.floor.is_none()
    }

    /// The newest trim that may stand.
    fn trim(&self) -> Option<usize> {
        (0..self.mutations.len()).rev().find(|&at| self.mutations[at].trim && self.may_stand(at))
    }

    /// What a trim leaves is the same whichever it was.
    fn newest_alike(&self, at: usize) -> Option<usize> {
        if self.mutations[at].trim { self.trim() } else { Some(at).filter(|&at| self.may_stand(at)) }
    }

    fn mix(&self, parts: [Option<usize>; 2]) -> Verdict {
        // A half that is older than all counts as the oldest.
        let oldest = if parts.contains(&None) { None } else { parts.into_iter().min().flatten() };
        match self.by_age(oldest) {
            Verdict::Ok => Verdict::InFlight,
            other => other,
        }
    }

    /// A write of this run that may not stand. Where the promise was a trim it should be gone.
    fn too_old(&self, sequence: u64) -> Verdict {
        match self.floor.map(|floor| self.mutations[floor]) {
            Some(floor) if floor.trim => Verdict::NotZero,
            Some(floor) if sequence < floor.sequence => Verdict::Lost,
            _ => Verdict::Corrupt,
        }
    }

    /// Without what is said where trims leave anything.
    fn strict(&self, content: Content) -> Verdict {
        let only_zeros = self.floor.is_some_and(|floor| self.mutations[floor..].iter().all(|one| one.trim));
        let of_old = |verdict| if only_zeros { Verdict::NotZero } else { verdict };
        match content {
            Content::Of(at) if self.mutations[at].trim => self.strict(Content::Zeros),
            Content::Of(at) if self.may_stand(at) => self.by_age(Some(at)),
            Content::Of(at) => self.too_old(self.mutations[at].sequence),
            Content::Halves(one, other) => match [one, other].map(|at| self.newest_alike(at)) {
                [Some(one), Some(other)] => self.mix([Some(one), Some(other)]),
                _ if self.before() => unreachable!("everything may stand"),
                _ => of_old(Verdict::Torn),
            },
            Content::HalfOld(at) => match self.newest_alike(at) {
                Some(at) if self.before() => self.mix([Some(at), None]),
                _ => of_old(Verdict::Torn),
            },
            Content::Tear(..) => of_old(Verdict::Torn),
            Content::Flipped(_) => of_old(Verdict::Corrupt),
            Content::Zeros => match self.trim() {
                Some(at) => self.by_age(Some(at)),
                None if self.before() => self.by_age(None),
                None => Verdict::Blank,
            },
            Content::Ones if self.before() => self.by_age(None),
            Content::Ones => {
                let newest = self.mutations.last().is_some_and(|one| one.trim && one.completed);
                let floor = self.floor.is_some_and(|floor| self.mutations[floor].trim);
                if newest || floor { Verdict::NotZero } else { Verdict::Blank }
            }
            Content::Noise | Content::Stale | Content::OtherWorker if self.before() => self.by_age(None),
            Content::Noise => of_old(Verdict::Corrupt),
            Content::Stale => of_old(Verdict::StaleRun),
            Content::OtherWorker | Content::OtherTarget => Verdict::Foreign,
            Content::Future => Verdict::FromTheFuture,
            Content::Elsewhere => Verdict::Misplaced,
            Content::NeverHere(sequence) => self.too_old(sequence),
        }
    }

    fn verdict(&self, content: Content) -> Verdict {
        let strict = self.strict(content);
        match self.trim() {
            Some(at) if !self.zeros && strict.is_violation() => self.by_age(Some(at)),
            _ => strict,
        }
    }
}

/// The bytes of some content; `None` where the history has none such.
fn bytes_of(bench: &Bench, told: &Told, content: Content) -> Option<Vec<u8>> {
    let len = bench.format.interval as usize;
    let all = &told.mutations;
    let of = |at: usize| {
        let one = all.get(at)?;
        Some(if one.trim { vec![0; len] } else { bench.block(one.sequence) })
    };
    let writes = |at: usize| all.get(at).is_some_and(|one| !one.trim);
    let by = |run, worker, target: usize, offset, sequence| {
        bench.by(&Sealer::new(bench.format.clone(), run, worker), TARGETS[target], offset, sequence)
    };
    let stale = || by(RunId(77), 1, 0, HERE.offset, 3);
    match content {
        Content::Of(at) => of(at),
        // Two trims leave zeros and no mix.
        Content::Halves(one, other) | Content::Tear(one, other)
            if one == other || !writes(one) && !writes(other) =>
        {
            None
        }
        Content::Halves(one, other) => Some(cut(&of(one)?, &of(other)?, len / 2)),
        Content::Tear(one, other) => {
            let whole = of(one)?;
            // Behind the stamp two writes may have the same stretch of the pool: then nothing is torn.
            Some(cut(&whole, &of(other)?, len / 2 + 100)).filter(|torn| *torn != whole)
        }
        Content::HalfOld(at) => writes(at).then(|| cut(&of(at).unwrap_or_default(), &stale(), len / 2)),
        Content::Flipped(at) => writes(at).then(|| {
            let mut block = of(at).unwrap_or_default();
            block[len / 2 + 77] ^= 4;
            block
        }),
        Content::Zeros => Some(vec![0; len]),
        Content::Ones => Some(vec![0xff; len]),
        Content::Noise => {
            Some((0..len as u64).map(|at| crate::base::random::at(5, at).to_le_bytes()[0]).collect())
        }
        Content::Stale => Some(stale()),
        Content::Future => Some(bench.block(told.issued[0] + 3)),
        Content::Elsewhere => Some(by(RUN, 1, 0, 1 << 16, 0)),
        Content::OtherTarget => Some(by(RUN, 1, 1, HERE.offset, 0)),
        Content::OtherWorker => Some(by(RUN, 2, 0, HERE.offset, 0)),
        Content::NeverHere(sequence) => {
            let is_new = sequence < told.issued[0] && !all.is_empty();
            let never = is_new && all.iter().all(|one| one.trim || one.sequence != sequence);
            never.then(|| bench.block(sequence))
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]
    #[test]
    fn the_judge_says_what_the_rule_says(
        events in prop::collection::vec(any_event(), 0..24),
        contents in prop::collection::vec(any_content(), 4),
        fsynced: bool,
        zeros: bool,
    ) {
        let bench = Bench { zeros, ..Bench::new(Method::Crc32c, 1024, 512) };
        let mut told =
            Told { mutations: Vec::new(), flushes: Vec::new(), issued: [0; 2], ledger: Ledger::new(4) };
        for event in &events {
            told.hear(event);
        }
        let survives = |one: &Mutation| if fsynced { one.durable } else { one.completed };
        let floor = told.mutations.iter().rposition(survives);
        let rule = Rule { mutations: &told.mutations, floor, zeros };
        let allowed = told.allowed(&bench, fsynced);
        for content in contents {
            let Some(block) = bytes_of(&bench, &told, content) else { continue };
            // Parts of which none is of a write that may stand are not told from noise.
            let known = |at: usize| !told.mutations[at].trim && rule.may_stand(at);
            if let Content::Tear(one, other) = content && !known(one) && !known(other) {
                continue;
            }
            let found = bench.ask(&block, &allowed);
            prop_assert_eq!(found.verdict, rule.verdict(content), "{:?} {:#?} {:#?}", content, told.mutations, found);
        }
    }
}
