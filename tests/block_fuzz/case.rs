//! A block, what may stand where it was read, and what the judge must not say of it: all of it made
//! from any bytes. The test draws them, `cargo fuzz run block` looks for them.

use fio_spdk::base::Op;
use fio_spdk::base::atomic::AtomicWrites;
use fio_spdk::base::verify::{Method, Pattern, RunId, Verdict};
use fio_spdk::verify::block::{BlockFormat, HEADER_BYTES, Header, Sealer, TAG_BYTES, Tag, WriteFacts};
use fio_spdk::verify::judge::{Allowed, Candidate, Judge, Place, TargetIdentity};
use fio_spdk::verify::payload::{PatternFill, SECTOR, Stamp};
use fio_spdk::verify::promises::State;

const RUN: RunId = RunId(0x0123_4567_89ab_cdef_1122_3344_5566_7788);
const TARGET: u64 = 0xaaaa;
/// The write that should stand.
const NEWEST: u64 = 9;
const INTERVALS: [u32; 6] = [256, 512, 520, 1000, 4096, 16384];
const OFFSETS: [u64; 4] = [0, 3 << 20, (1 << 40) + 512, u64::MAX - 20000];
/// Shortest digest that is not right by accident.
const STRONG_BYTES: usize = 4;

/// Takes one choice after the other; zeros when there are none left.
struct Choices<'a> {
    left: &'a [u8],
}

impl Choices<'_> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.left.split_first().unwrap_or((&0, &[]));
        self.left = rest;
        *first
    }

    fn below(&mut self, n: usize) -> usize {
        let (low, high) = (usize::from(self.byte()), if n > 256 { usize::from(self.byte()) } else { 0 });
        (low | high << 8) % n.max(1)
    }

    fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }
}

/// How blocks are made and judged in one case.
struct Bench {
    sealer: Sealer,
    judge: Judge,
    place: Place,
    knows_run: bool,
    compares: bool,
}

impl Bench {
    fn of(choices: &mut Choices<'_>) -> Bench {
        let (_, method) = choices.of(&Method::ALL);
        let front = if method.has_header() { HEADER_BYTES + method.digest_bytes() } else { 0 };
        let patterned = matches!(method, Method::Pattern | Method::PatternHdr) || choices.below(4) == 1;
        let pattern = patterned.then(|| PatternFill {
            pattern: Pattern { bytes: vec![0xca, 0xfe, 0, 0, 0, 0, 0, 0, 0, 0], offsets: vec![2] },
            interval: choices.of(&[None, Some(512), Some(24)]),
        });
        let tag = if patterned || front == 0 { 0 } else { TAG_BYTES };
        let least = |interval: &&u32| **interval as usize >= front + tag;
        let lengths: Vec<u32> = INTERVALS.iter().filter(least).copied().collect();
        let interval = choices.of(&lengths);
        let elsewhere = choices.below(interval as usize);
        let room = interval as usize - front;
        let header_at = if (front..=room).contains(&elsewhere) { elsewhere as u32 } else { 0 };
        let format = BlockFormat { interval, method, header_at, pattern };
        let sealer = Sealer::new(format, RUN, 1);
        let (knows_run, compares) = (choices.below(4) != 1, choices.below(4) != 1);
        let identity = TargetIdentity {
            id: TARGET,
            lba_bytes: choices.of(&[512, 4096]),
            atomic: AtomicWrites::in_units(choices.of(&[0, 4096, 8192])),
            longest_write: 0,
        };
        let judge = Judge::new(sealer.clone(), [identity].into(), knows_run);
        let judge = judge.comparing(compares, compares, choices.flag());
        Bench { sealer, judge, place: Place { target: 0, offset: choices.of(&OFFSETS) }, knows_run, compares }
    }

    fn format(&self) -> &BlockFormat {
        &self.sealer.format
    }

    fn io_offset(&self, sequence: u64) -> u64 {
        self.place.offset.saturating_sub(sequence % 4 * u64::from(self.format().interval))
    }

    /// The block of write `sequence`, header first.
    fn block(&self, sequence: u64) -> Vec<u8> {
        let facts = WriteFacts {
            io_offset: self.io_offset(sequence),
            io_len: 4 * self.format().interval,
            sequence,
            time_unix_ns: 1_700_000_000_123_456_789 + sequence * 1_000_000_007,
            pass: sequence / 7,
            flush_epoch: sequence / 3,
        };
        let mut block = vec![0; self.format().interval as usize];
        self.sealer.seal_block(&mut block, self.place.offset, TARGET, &facts);
        self.format().unswap_front(&mut block);
        block
    }

    fn candidate(&self, op: Op, sequence: u64, state: State) -> Candidate {
        let io_len = 4 * self.format().interval;
        Candidate { op, sequence, io_offset: self.io_offset(sequence), io_len, state }
    }

    /// Whether every byte of `block` in which it differs from a sealed one is seen by the judge.
    fn guards(&self, block: &[u8], sealed: &[u8]) -> bool {
        let format = self.format();
        let covered = match format.method {
            Method::Null => return false,
            _ if format.pattern.is_some() || format.method.digest_bytes() >= STRONG_BYTES => block.len(),
            _ => HEADER_BYTES,
        };
        // A short digest may be wrong in a way that makes a wrong payload right.
        let digest = HEADER_BYTES..format.front_bytes().max(HEADER_BYTES);
        let seen = block[..covered].iter().zip(sealed).enumerate();
        seen.filter(|(_, (one, other))| one != other).any(|(at, _)| {
            !digest.contains(&at) || format.method.digest_bytes() > 0 && covered == block.len()
        })
    }
}

/// Spoils a block: bytes, parts of other writes, zeros, shifts, its end.
fn spoil(bench: &Bench, block: &mut [u8], choices: &mut Choices<'_>) {
    let len = block.len();
    let at = choices.below(len);
    match choices.below(8) {
        0 => block[at] ^= choices.byte(),
        1 => block[at] ^= 1 << choices.below(8),
        2 => {
            let to = (at + choices.below(len)).min(len);
            block[at..to].copy_from_slice(&bench.block(choices.below(8) as u64)[at..to]);
        }
        3 => {
            let at = at / SECTOR * SECTOR;
            let to = (at + SECTOR * choices.below(4)).min(len);
            block[at..to].copy_from_slice(&bench.block(choices.below(8) as u64)[at..to]);
        }
        4 => {
            let to = (at + choices.below(len)).min(len);
            block[at..to].fill(choices.of(&[0, 0xff, 3]));
        }
        5 => block.rotate_left(at),
        6 => {
            // What a header says with a good crc is believed further.
            let mut header = Header::read(block).unwrap_or_default();
            match choices.below(6) {
                0 => header.len = u32::from(choices.byte()) << (8 * choices.below(4)),
                1 => header.offset ^= 1 << choices.below(64),
                2 => header.sequence = u64::from(choices.byte()) << choices.below(57),
                3 => header.method = choices.byte(),
                4 => header.worker = u16::from(choices.byte()),
                _ => header.seed ^= 1,
            }
            if let Some(out) = block.first_chunk_mut() {
                header.write(out);
            }
        }
        _ => {
            if let Some(byte) = block.get_mut(at) {
                *byte = choices.byte();
            }
        }
    }
}

/// What may stand: drawn, or no more than the newest write.
fn promise(bench: &Bench, choices: &mut Choices<'_>) -> Allowed {
    let newest = bench.candidate(Op::Write, NEWEST, State::Completed);
    if choices.flag() {
        return Allowed { candidates: vec![newest], has_floor: true, issued: 10, later_bytes: 0 };
    }
    let states = [State::InFlight, State::Failed, State::Completed, State::Durable];
    let candidates = (0..choices.below(4) as u64)
        .map(|older| {
            let op = choices.of(&[Op::Write, Op::Write, Op::Deallocate]);
            bench.candidate(op, NEWEST - 2 * older, choices.of(&states))
        })
        .collect::<Vec<_>>();
    let has_floor = choices.flag() && !candidates.is_empty();
    Allowed { candidates, has_floor, issued: 10, later_bytes: 0 }
}

/// Judges what `bytes` make, and panics if the judge says what it must not. Gives the verdict.
pub fn check(bytes: &[u8]) -> Verdict {
    let mut choices = Choices { left: bytes };
    let bench = Bench::of(&mut choices);
    let allowed = promise(&bench, &mut choices);
    let only_newest = allowed.candidates.len() == 1
        && allowed.has_floor
        && allowed.candidates[0] == bench.candidate(Op::Write, NEWEST, State::Completed);
    let sealed = bench.block(NEWEST);
    let mut block = sealed.clone();
    if choices.below(8) == 7 {
        // Whatever the bytes are, of any length.
        block = choices.left.to_vec();
    } else {
        while !choices.left.is_empty() {
            spoil(&bench, &mut block, &mut choices);
        }
    }
    let Bench { judge, place, .. } = &bench;
    let io_offset = bench.io_offset(NEWEST);
    let plain = judge.is_write(&block, *place, NEWEST, io_offset);
    let found = judge.judge(&block, *place, &allowed);
    let audited = judge.audit(&block, *place, io_offset);
    let _ = judge.run_of(&block, *place);
    let _ = judge.expected(&block, *place, NEWEST, &allowed);
    for at in 0..block.len().min(SECTOR) {
        let _ = (Header::read(&block[at..]), Tag::read(&block[at..]), Stamp::read(&block[at..]));
    }

    if only_newest && plain {
        assert_eq!(found.verdict, Verdict::Ok, "is_write says yes: {found:?}");
    }
    if block == sealed {
        assert!(plain && audited.is_none(), "sealed, and not right");
        if only_newest {
            assert_eq!(found.verdict, Verdict::Ok, "{found:?}");
        }
    } else if block.len() == sealed.len() && bench.guards(&block, &sealed) && bench.compares {
        assert!(!plain, "spoilt, and right");
        if only_newest && bench.knows_run {
            assert!(found.verdict.is_violation(), "spoilt, and no violation: {found:?}");
        }
    }
    found.verdict
}
