//! What follows a block's header: a pure function of the write and its place.
//!
//! A stretch of a pool of random bytes, which begins in the pool at an offset that differs from block
//! to block and from write to write. In each 512 bytes (a *sector*) the write is named at both ends:
//! by a *stamp* at the start (in the first sector the header does that) and by a *tail* at the end. So
//! no two writes leave the same bytes in any sector, each sector says alone which write it came
//! from, a sector that begins as one write and ends as another is known from either end, and filling
//! costs a copy instead of a random number generator.

use std::sync::OnceLock;

use crate::base::random;
use crate::base::verify::Pattern;

use super::checksum::{GRAIN, HEAD, PoolCrc};

/// Bytes between stamps: the smallest logical block there is.
pub const SECTOR: usize = 512;
/// Length of a stamp.
pub const STAMP_BYTES: usize = 32;
/// Length of a tail.
pub const TAIL_BYTES: usize = 16;
/// Where in a tail its check begins.
const TAIL_CHECK: usize = 8;
/// The longest beginning of a block that is not filled from the pool: header, the longest digest, tag.
pub const MAX_HEAD: usize = 48 + 128 + 72;
/// Bytes of the pool: small enough for a core's caches, with room for what is filled from it.
const POOL: usize = 64 << 10;
/// Longest stretch copied at once.
const STRETCH: usize = POOL / 2;

/// Who wrote a block: all that its payload depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Writer {
    /// The low 32 bits of the run's id.
    pub run: u32,
    /// The worker's number, from 1.
    pub worker: u16,
    /// The worker's k-th write.
    pub sequence: u64,
}

impl Writer {
    /// The seed in the headers of this write.
    #[inline]
    #[must_use]
    pub fn seed(self) -> u64 {
        random::at(u64::from(self.run) << 16 ^ u64::from(self.worker), self.sequence)
    }
}

/// What one 512-byte sector says of itself at its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The write that it is a part of.
    pub writer: Writer,
    /// Its byte offset on the target.
    pub offset: u64,
    /// Which sector of its block it is, from 0, in 16 bits; `None` in payloads of version 1, which
    /// do not say it.
    pub index: Option<u16>,
}

/// Distinguishes the checks of payload version 1 from other hashes of the same numbers.
const CHECK_OF_VERSION_1: u64 = 0x5741_4d50_0000_0000;
/// The same for version 2.
const CHECK_OF_VERSION_2: u64 = 0x5741_4d50_5632_0000;
/// A tail is the stamp's check with these bits flipped.
const TAIL: u64 = 0x7461_696c_7461_696c;

impl Stamp {
    /// The stamp of the sector at byte `at` of the block that begins at `offset` of the target.
    #[inline]
    #[must_use]
    pub fn of(writer: Writer, offset: u64, at: usize) -> Stamp {
        #[expect(clippy::cast_possible_truncation, reason = "the low 16 bits are meant")]
        let index = (at / SECTOR) as u16;
        Stamp { writer, offset: offset.wrapping_add(at as u64), index: Some(index) }
    }

    #[inline]
    fn check(self) -> u64 {
        let who = u64::from(self.writer.run) << 16 ^ u64::from(self.writer.worker);
        match self.index {
            None => random::at(self.writer.sequence ^ CHECK_OF_VERSION_1, who ^ self.offset.rotate_left(20)),
            Some(index) => {
                let who = who ^ u64::from(index) << 48;
                random::at(self.writer.sequence ^ CHECK_OF_VERSION_2, who ^ self.offset.rotate_left(20))
            }
        }
    }

    #[inline]
    fn write(self, check: u64, out: &mut [u8; STAMP_BYTES]) {
        let who = u64::from(self.writer.run)
            | u64::from(self.writer.worker) << 32
            | u64::from(self.index.unwrap_or(0)) << 48;
        out[0..8].copy_from_slice(&check.to_le_bytes());
        out[8..16].copy_from_slice(&self.writer.sequence.to_le_bytes());
        out[16..24].copy_from_slice(&self.offset.to_le_bytes());
        out[24..32].copy_from_slice(&who.to_le_bytes());
    }

    /// The stamp that begins `sector`; `None` if there is none, or a damaged one.
    #[must_use]
    pub fn read(sector: &[u8]) -> Option<Stamp> {
        let words: &[u8; STAMP_BYTES] = sector.first_chunk()?;
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|index| words[at + index]));
        let who = word(24);
        let low = |value: u64| u32::try_from(value & 0xffff_ffff).unwrap_or(0);
        let writer = Writer {
            run: low(who),
            worker: u16::try_from(who >> 32 & 0xffff).unwrap_or(0),
            sequence: word(8),
        };
        let index = u16::try_from(who >> 48).unwrap_or(0);
        let stamp = Stamp { writer, offset: word(16), index: Some(index) };
        let of_version_1 = Stamp { index: None, ..stamp };
        if stamp.check() == word(0) {
            Some(stamp)
        } else {
            (index == 0 && of_version_1.check() == word(0)).then_some(of_version_1)
        }
    }

    /// The tail of the same sector.
    #[inline]
    #[must_use]
    pub fn tail(self) -> [u8; TAIL_BYTES] {
        tail(self.writer.sequence, self.check())
    }

    /// The sequence that the tail at the end of a sector names, if it is the tail of a write of `run` and
    /// `worker` to byte `at` of the block at `offset`.
    #[must_use]
    pub fn sequence_of_tail(sector: &[u8], of: Writer, offset: u64, at: usize) -> Option<u64> {
        let tail: &[u8; TAIL_BYTES] = sector.last_chunk()?;
        let sequence = u64::from_le_bytes(std::array::from_fn(|index| tail[index]));
        let stamp = Stamp::of(Writer { sequence, ..of }, offset, at);
        (stamp.tail() == *tail).then_some(sequence)
    }
}

/// Sequence, then the stamp's check with some bits flipped.
#[inline]
fn tail(sequence: u64, check: u64) -> [u8; TAIL_BYTES] {
    let mut bytes = [0; TAIL_BYTES];
    bytes[..TAIL_CHECK].copy_from_slice(&sequence.to_le_bytes());
    bytes[TAIL_CHECK..].copy_from_slice(&(check ^ TAIL).to_le_bytes());
    bytes
}

/// Where the tail of a sector of `len` bytes begins, of which the first `own` do not come from the
/// pool; `None` if there is no room for one.
#[inline]
fn tail_at(len: usize, own: usize) -> Option<usize> {
    len.checked_sub(TAIL_BYTES).filter(|&at| at >= own)
}

/// Marks the last sector of a block, which is shorter than others. `head`: it is the first one too.
#[cold]
fn fill_last(sector: &mut [u8], stamp: Stamp, head: Option<usize>) {
    let check = stamp.check();
    if head.is_none()
        && let Some(out) = sector.first_chunk_mut()
    {
        stamp.write(check, out);
    }
    if let Some(at) = tail_at(sector.len(), head.unwrap_or(STAMP_BYTES)) {
        sector[at..].copy_from_slice(&tail(stamp.writer.sequence, check));
    }
}

/// The pool, and how a block is filled from it.
#[derive(Clone, Copy, Debug)]
pub struct Payload {
    pool: &'static Aligned,
    /// `None` where the processor cannot use it.
    crc: Option<&'static PoolCrc>,
}

/// Copied faster when it begins where a cache line does.
#[derive(Debug)]
#[repr(align(64))]
struct Aligned([u8; POOL]);

impl Default for Payload {
    fn default() -> Payload {
        static BYTES: OnceLock<(Box<Aligned>, Option<PoolCrc>)> = OnceLock::new();
        let (pool, crc) = BYTES.get_or_init(|| {
            let mut pool = Box::new(Aligned([0; POOL]));
            for (word, out) in (0..).zip(pool.0.as_chunks_mut::<8>().0) {
                *out = random::at(0x9001, word).to_le_bytes();
            }
            let crc = PoolCrc::new(&pool.0);
            (pool, crc)
        });
        Payload { pool, crc: crc.as_ref() }
    }
}

/// Where in the pool stretch `number` of the block begins that is named by `key`.
#[inline]
fn start(key: u64, number: usize) -> usize {
    let starts = (STRETCH / GRAIN) as u64;
    #[expect(clippy::cast_possible_truncation, reason = "below STRETCH")]
    let start = random::below(random::at(key, number as u64), starts) as usize;
    start * GRAIN
}

impl Payload {
    /// Fills `block`, which begins at byte `offset` of the target, as `writer` would. Header, digest and
    /// tag will take the first `head` bytes.
    #[inline]
    pub fn fill(self, block: &mut [u8], writer: Writer, offset: u64, head: usize) {
        self.fill_seeded(block, writer, writer.seed(), offset, head);
    }

    /// As [`Payload::fill`], with the writer's seed at hand.
    #[inline]
    pub fn fill_seeded(self, block: &mut [u8], writer: Writer, seed: u64, offset: u64, head: usize) {
        let key = seed ^ offset;
        for (number, chunk) in block.chunks_mut(STRETCH).enumerate() {
            let start = start(key, number);
            chunk.copy_from_slice(&self.pool.0[start..start + chunk.len()]);
        }
        let len = block.len();
        let (sectors, last) = block.as_chunks_mut::<SECTOR>();
        for (number, sector) in sectors.iter_mut().enumerate() {
            let stamp = Stamp::of(writer, offset, number * SECTOR);
            let check = stamp.check();
            if number > 0
                && let Some(out) = sector.first_chunk_mut()
            {
                stamp.write(check, out);
            }
            if let Some(out) = sector.last_chunk_mut() {
                *out = tail(writer.sequence, check);
            }
        }
        if !last.is_empty() {
            fill_last(
                last,
                Stamp::of(writer, offset, len - last.len()),
                if len < SECTOR { Some(head) } else { None },
            );
        }
    }

    /// As [`Payload::fill`], as version 1 of the payload was.
    pub fn fill_of_version_1(self, block: &mut [u8], writer: Writer, offset: u64) {
        let key = writer.seed() ^ offset;
        for (number, chunk) in block.chunks_mut(STRETCH).enumerate() {
            let start = start(key, number);
            chunk.copy_from_slice(&self.pool.0[start..start + chunk.len()]);
        }
        for at in (SECTOR..block.len()).step_by(SECTOR) {
            let stamp = Stamp { index: None, ..Stamp::of(writer, offset, at) };
            if let Some(out) = block[at..].first_chunk_mut() {
                stamp.write(stamp.check(), out);
            }
        }
    }

    /// The bytes of a block of `len` bytes, with a head of `head`, that tell its write from all others:
    /// the checks of stamps and tails. The head is left out.
    #[must_use]
    pub fn telling_bytes(len: usize, head: usize) -> Vec<bool> {
        let mut telling = vec![false; len];
        for (number, sector) in telling.chunks_mut(SECTOR).enumerate() {
            let own = if number == 0 { head } else { STAMP_BYTES };
            if number > 0 && sector.len() >= STAMP_BYTES {
                sector[..8].fill(true);
            }
            if let Some(at) = tail_at(sector.len(), own) {
                sector[at + TAIL_CHECK..].fill(true);
            }
        }
        telling
    }

    /// Whether `bytes` are those at byte `at` of a block at `offset`, written with `seed`: stamps aside,
    /// and in the first stretch.
    #[must_use]
    pub fn leaves(self, bytes: &[u8], seed: u64, offset: u64, at: usize) -> bool {
        let from = start(seed ^ offset, 0) + at;
        self.pool.0.get(from..).is_some_and(|pool| pool.starts_with(bytes))
    }

    /// Whether some write may have left `bytes` at byte `at` of a sector, stamps aside, in whichever sector of
    /// a block.
    #[must_use]
    pub fn may_leave(self, bytes: &[u8], at: usize) -> bool {
        (at % GRAIN..POOL).step_by(GRAIN).any(|from| self.pool.0[from..].starts_with(bytes))
    }

    /// The digest by `crc32c` of `block` if it is, behind its head, what `writer` with this seed left
    /// at `offset`. Compared with the pool, which is faster than a checksum; `None` if that does not
    /// tell.
    #[inline]
    #[must_use]
    pub fn crc32c_as_left(self, block: &[u8], writer: Writer, seed: u64, offset: u64) -> Option<u32> {
        let crc = self.crc32c(block, seed, offset)?;
        let mut at = 0;
        for (number, part) in block.chunks(STRETCH).enumerate() {
            let pool = &self.pool.0[start(seed ^ offset, number)..];
            for (sector, from) in part.as_chunks::<SECTOR>().0.iter().zip(pool.as_chunks::<SECTOR>().0) {
                let stamp = Stamp::of(writer, offset, at);
                let check = stamp.check();
                let own = if at == 0 {
                    HEAD
                } else {
                    let mut bytes = [0; STAMP_BYTES];
                    stamp.write(check, &mut bytes);
                    if sector.first_chunk() != Some(&bytes) {
                        return None;
                    }
                    STAMP_BYTES
                };
                let end = SECTOR - TAIL_BYTES;
                if sector.last_chunk() != Some(&tail(writer.sequence, check))
                    || sector[own..end] != from[own..end]
                {
                    return None;
                }
                at += SECTOR;
            }
        }
        Some(crc)
    }

    /// [`checksum::digest`](super::checksum::digest) by `crc32c` of a block that was filled by
    /// [`Payload::fill_seeded`] and has got its tag, without reading all of it; `None` where it must
    /// be read.
    #[inline]
    #[must_use]
    pub fn crc32c(self, block: &[u8], seed: u64, offset: u64) -> Option<u32> {
        let crc = self.crc.filter(|_| block.len().is_multiple_of(SECTOR))?;
        Some(crc.of_block(block, STRETCH, |number| start(seed ^ offset, number)))
    }
}

/// A pattern laid over I/Os.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatternFill {
    /// The pattern.
    pub pattern: Pattern,
    /// Where it begins anew (fio: `verify_pattern_interval`); `None` for once an I/O.
    pub interval: Option<u32>,
}

impl PatternFill {
    /// Fills `part`, which begins at byte `offset` of the target, of the I/O that begins at
    /// `io_offset`.
    pub fn fill(&self, part: &mut [u8], offset: u64, io_offset: u64) {
        let mut at = offset;
        let mut left = part;
        while !left.is_empty() {
            let (origin, most) = self.piece(at, io_offset);
            let len = usize::try_from(most.min(left.len() as u64)).unwrap_or(left.len());
            let (now, rest) = left.split_at_mut(len);
            self.fill_piece(now, at.wrapping_sub(origin), origin);
            at = at.wrapping_add(len as u64);
            left = rest;
        }
    }

    /// Whether `part` is what [`PatternFill::fill`] would leave.
    #[must_use]
    pub fn fits(&self, part: &[u8], offset: u64, io_offset: u64) -> bool {
        // Short stretches: what does not fit mostly shows at once.
        let mut stretch = [0; 128];
        let mut at = offset;
        part.chunks(stretch.len()).all(|part| {
            let expected = &mut stretch[..part.len()];
            self.fill(expected, at, io_offset);
            at = at.wrapping_add(part.len() as u64);
            expected == part
        })
    }

    /// Where the repetition begins that byte `at` belongs to, and how many bytes of it are left.
    fn piece(&self, at: u64, io_offset: u64) -> (u64, u64) {
        match self.interval {
            None => (io_offset, u64::MAX),
            Some(interval) => {
                let interval = u64::from(interval.max(1));
                let phase = at.wrapping_sub(io_offset) % interval;
                (at.wrapping_sub(phase), interval - phase)
            }
        }
    }

    fn fill_piece(&self, piece: &mut [u8], phase: u64, origin: u64) {
        let bytes = &self.pattern.bytes;
        let whole = bytes.len().max(1);
        let stamp = origin.to_le_bytes();
        let mut place = usize::try_from(phase % whole as u64).unwrap_or(0);
        for out in piece {
            let base = bytes.get(place).copied().unwrap_or(0);
            let within = self.pattern.offsets.iter().rev().find(|&&start| start <= place);
            *out = match within {
                Some(&start) if place - start < stamp.len() => stamp[place - start],
                _ => base,
            };
            place = if place + 1 == whole { 0 } else { place + 1 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[test]
    fn no_two_writes_leave_the_same_bytes_in_any_sector() {
        let payload = Payload::default();
        let mut seen = HashSet::new();
        for sequence in 0..200 {
            let mut block = vec![0; 4096];
            payload.fill(&mut block, Writer { run: 7, worker: 1, sequence }, 8192, 128);
            // The first sector is told apart by its header.
            for sector in block.chunks(SECTOR).skip(1) {
                assert!(seen.insert(sector.to_vec()));
            }
        }
    }

    #[test]
    fn every_sector_but_the_first_names_its_write() {
        let writer = Writer { run: 0xdead_beef, worker: 65535, sequence: 1 << 50 };
        let mut block = vec![0; 4096];
        Payload::default().fill(&mut block, writer, 1 << 40, 128);
        for at in (SECTOR..4096).step_by(SECTOR) {
            let stamp = Stamp::read(&block[at..at + SECTOR]);
            assert_eq!(stamp, Some(Stamp::of(writer, 1 << 40, at)));
        }
        assert_eq!(Stamp::read(&block[..SECTOR]), None);
    }

    #[test]
    fn no_two_writes_end_a_sector_with_the_same_tail() {
        let mut seen = HashSet::new();
        for sequence in 0..200 {
            for len in [512, 4096, 1000, 360] {
                let offset = len as u64 * 100;
                let mut block = vec![0; len];
                Payload::default().fill(&mut block, Writer { run: 7, worker: 1, sequence }, offset, 128);
                for (number, sector) in block.chunks(SECTOR).enumerate() {
                    let tail = &sector[sector.len() - TAIL_BYTES..];
                    let stamp = Stamp::of(Writer { run: 7, worker: 1, sequence }, offset, number * SECTOR);
                    assert_eq!(tail, stamp.tail());
                    let of = Writer { run: 7, worker: 1, sequence: 0 };
                    let read = |of| Stamp::sequence_of_tail(sector, of, offset, number * SECTOR);
                    assert_eq!(read(of), Some(sequence));
                    assert_eq!(read(Writer { worker: 2, ..of }), None);
                    assert!(seen.insert(tail.to_vec()));
                }
            }
        }
    }

    #[test]
    fn what_tells_a_write_from_others_is_where_its_checks_are() {
        for (len, head, expected) in [
            (512, 124, vec![504..512, 0..0]),
            (1024, 124, vec![504..512, 512..520, 1016..1024]),
            (128, 124, vec![]),
            (140, 124, vec![132..140, 0..0]),
            (512 + 40, 124, vec![504..512, 512..520]),
            (512 + 48, 124, vec![504..512, 512..520, 552..560]),
        ] {
            let telling = Payload::telling_bytes(len, head);
            let expected: Vec<bool> =
                (0..len).map(|at| expected.iter().any(|range| range.contains(&at))).collect();
            assert_eq!(telling, expected, "{len}");
            let fill = |sequence| {
                let mut block = vec![0; len];
                Payload::default().fill_seeded(
                    &mut block,
                    Writer { run: 7, worker: 1, sequence },
                    1,
                    0,
                    head,
                );
                block
            };
            let (one, other) = (fill(1), fill(2));
            // With one seed the pool's bytes are the same: what differs are numbers and checks.
            for at in (0..len).filter(|&at| one[at] != other[at]) {
                let is_sequence =
                    telling.get(at + 8) == Some(&true) || at > SECTOR && (8..16).contains(&(at % SECTOR));
                assert!(telling[at] || is_sequence, "{at} of {len}");
            }
        }
    }

    #[test]
    fn a_stamp_of_version_1_is_read_as_one() {
        let writer = Writer { run: 0xdead_beef, worker: 7, sequence: 42 };
        let stamp = Stamp { writer, offset: 1 << 33, index: None };
        let mut bytes = [0; STAMP_BYTES];
        stamp.write(stamp.check(), &mut bytes);
        assert_eq!(Stamp::read(&bytes), Some(stamp));
        // As version 1 of the tool left it.
        let check = random::at(
            42 ^ 0x5741_4d50_0000_0000,
            (0xdead_beef_u64 << 16 ^ 7) ^ (1_u64 << 33).rotate_left(20),
        );
        assert_eq!(bytes[..8], check.to_le_bytes());
    }

    proptest! {
        #[test]
        fn a_flipped_bit_is_not_a_stamp(bit in 0_usize..STAMP_BYTES * 8, sequence: u64) {
            let mut block = vec![0; 1024];
            Payload::default().fill(&mut block, Writer { run: 1, worker: 2, sequence }, 512, 128);
            block[SECTOR + bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(Stamp::read(&block[SECTOR..]), None);
        }

        #[test]
        fn a_pattern_is_laid_as_fio_lays_it(
            start in 0_u64..5, len in 1_usize..200, interval in proptest::option::of(1_u32..70), io in 0_u64..1 << 40,
        ) {
            let pattern = Pattern { bytes: vec![0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0x61], offsets: vec![1] };
            let fill = PatternFill { pattern, interval };
            let mut whole = vec![0; 300];
            // The plain way: byte by byte from the I/O's start.
            for (index, out) in whole.iter_mut().enumerate() {
                let piece = interval.map_or(0, |interval| index as u64 / u64::from(interval) * u64::from(interval));
                let place = (index as u64 - piece) % 10;
                *out = match place {
                    0 => 0xff,
                    9 => 0x61,
                    other => (io + piece).to_le_bytes()[usize::try_from(other).unwrap() - 1],
                };
            }
            let mut part = vec![0; len];
            fill.fill(&mut part, io + start, io);
            prop_assert!(fill.fits(&part, io + start, io));
            let start = usize::try_from(start).unwrap();
            prop_assert_eq!(&part[..], &whole[start..start + len]);
            part[len / 2] ^= 1;
            prop_assert!(!fill.fits(&part, io + start as u64, io));
        }
    }
}
