//! Crafted blocks and the verdicts they earn.

mod golden;
mod hardness;
mod older;
mod rule;
mod table;

use super::block::{BlockFormat, Sealer, WriteFacts};
use super::judge::{Allowed, Candidate, Judge, Place, TargetIdentity};
use super::payload::PatternFill;
use super::promises::State;
use crate::base::Op;
use crate::base::atomic::AtomicWrites;
use crate::base::verify::{Finding, Method, Pattern, RunId, Verdict};

const RUN: RunId = RunId(0x0123_4567_89ab_cdef_1122_3344_5566_7788);
const TARGETS: [u64; 2] = [0xaaaa, 0xbbbb];
/// Where the blocks of these tests stand.
const HERE: Place = Place { target: 0, offset: 3 << 20 };

/// One way to make blocks, on one kind of target.
#[derive(Clone, Debug)]
struct Bench {
    format: BlockFormat,
    lba: u32,
    atomic: u32,
    zeros: bool,
}

impl Bench {
    fn new(method: Method, interval: u32, lba: u32) -> Bench {
        let patterned = matches!(method, Method::Pattern | Method::PatternHdr);
        // Ends in the I/O's offset, so that I/Os differ.
        let pattern = Pattern { bytes: vec![0xca, 0xfe, 0, 0, 0, 0, 0, 0, 0, 0], offsets: vec![2] };
        let pattern = patterned.then_some(PatternFill { pattern, interval: None });
        let format = BlockFormat { interval, method, header_at: 0, pattern };
        Bench { format, lba, atomic: 0, zeros: true }
    }

    fn sealer(&self) -> Sealer {
        Sealer::new(self.format.clone(), RUN, 1)
    }

    fn judge(&self) -> Judge {
        let identity = |id| TargetIdentity {
            id,
            lba_bytes: self.lba,
            atomic: AtomicWrites::in_units(self.atomic),
            longest_write: 0,
        };
        Judge::new(self.sealer(), TARGETS.map(identity).into(), true).comparing(true, true, self.zeros)
    }

    /// Where the write `sequence` begins: each some blocks before the one at hand.
    fn io_offset(&self, sequence: u64) -> u64 {
        HERE.offset - sequence % 16 * u64::from(self.format.interval)
    }

    fn facts(&self, sequence: u64) -> WriteFacts {
        WriteFacts {
            io_offset: self.io_offset(sequence),
            io_len: 16 * self.format.interval,
            sequence,
            time_unix_ns: 1_700_000_000_123_456_789 + sequence * 1_000_000_007,
            pass: sequence / 7,
            flush_epoch: sequence / 3,
        }
    }

    /// What `sealer` leaves at `offset` of the target.
    fn by(&self, sealer: &Sealer, target: u64, offset: u64, sequence: u64) -> Vec<u8> {
        let mut block = vec![0; self.format.interval as usize];
        sealer.seal_block(&mut block, offset, target, &self.facts(sequence));
        self.format.unswap_front(&mut block);
        block
    }

    /// The block of write `sequence` at its place.
    fn block(&self, sequence: u64) -> Vec<u8> {
        self.by(&self.sealer(), TARGETS[0], HERE.offset, sequence)
    }

    fn write(&self, sequence: u64, state: State) -> Candidate {
        let facts = self.facts(sequence);
        Candidate { op: Op::Write, sequence, io_offset: facts.io_offset, io_len: facts.io_len, state }
    }

    fn trim(&self, sequence: u64, state: State) -> Candidate {
        Candidate { op: Op::Deallocate, ..self.write(sequence, state) }
    }

    /// As the reactor asks: first whether all is well, then what is not.
    fn ask(&self, block: &[u8], allowed: &Allowed) -> Finding {
        let judge = self.judge();
        let found = judge.judge(block, HERE, allowed);
        if let Some(newest) = allowed.candidates.first().filter(|newest| newest.op == Op::Write)
            && newest.state.is_settled()
            && judge.is_write(block, HERE, newest.sequence, newest.io_offset)
        {
            assert_eq!(found.verdict, Verdict::Ok, "is_write says yes: {found:?}");
        }
        found
    }

    #[track_caller]
    fn earns(&self, verdict: Verdict, block: &[u8], allowed: &Allowed) -> Finding {
        let found = self.ask(block, allowed);
        let Bench { lba, atomic, format, .. } = self;
        assert_eq!(
            found.verdict,
            verdict,
            "{:?} {lba} {atomic}: {found:#?}",
            (format.method, format.interval)
        );
        found
    }
}

/// What may stand, newest first, the last being the floor.
fn floor(candidates: &[Candidate]) -> Allowed {
    Allowed { candidates: candidates.to_vec(), has_floor: true, issued: 1000, later_bytes: 0 }
}

/// What may stand besides what stood there before.
fn no_floor(candidates: &[Candidate]) -> Allowed {
    Allowed { has_floor: false, ..floor(candidates) }
}

/// The first bytes of the one, then the other.
fn cut(first: &[u8], then: &[u8], at: usize) -> Vec<u8> {
    [&first[..at], &then[at..]].concat()
}
