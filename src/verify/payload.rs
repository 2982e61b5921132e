//! What stands behind a block's header: a pure function of who wrote it and where.
//!
//! A stretch of a pool of random bytes, at an offset in the pool that differs from block to block
//! and from write to write, and in every 512 bytes but the first a *stamp* that names its write.
//! So no two writes leave the same bytes in any sector, each sector tells alone which write it came
//! from, and filling costs a copy instead of a random number generator.

use std::sync::OnceLock;

use crate::base::random;
use crate::base::verify::Pattern;

use super::checksum::{GRAIN, HEAD, PoolCrc};

/// Bytes between stamps: the smallest logical block there is.
pub const SECTOR: usize = 512;
/// Length of a stamp.
pub const STAMP_BYTES: usize = 32;
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

/// What one 512-byte sector says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Who wrote it.
    pub writer: Writer,
    /// Its byte offset on the target.
    pub offset: u64,
}

impl Stamp {
    #[inline]
    fn check(self) -> u64 {
        let who = u64::from(self.writer.run) << 16 ^ u64::from(self.writer.worker);
        random::at(self.writer.sequence ^ 0x5741_4d50_0000_0000, who ^ self.offset.rotate_left(20))
    }

    #[inline]
    fn write(self, out: &mut [u8; STAMP_BYTES]) {
        let who = u64::from(self.writer.run) | u64::from(self.writer.worker) << 32;
        out[0..8].copy_from_slice(&self.check().to_le_bytes());
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
        let stamp = Stamp { writer, offset: word(16) };
        (who >> 48 == 0 && stamp.check() == word(0)).then_some(stamp)
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
    /// Fills `block`, which begins at byte `offset` of the target, as `writer` would. The first
    /// sector gets no stamp: the header names it.
    #[inline]
    pub fn fill(self, block: &mut [u8], writer: Writer, offset: u64) {
        self.fill_seeded(block, writer, writer.seed(), offset);
    }

    /// As [`Payload::fill`], with the writer's seed at hand.
    #[inline]
    pub fn fill_seeded(self, block: &mut [u8], writer: Writer, seed: u64, offset: u64) {
        let key = seed ^ offset;
        for (number, chunk) in block.chunks_mut(STRETCH).enumerate() {
            let start = start(key, number);
            chunk.copy_from_slice(&self.pool.0[start..start + chunk.len()]);
        }
        for at in (SECTOR..block.len()).step_by(SECTOR) {
            if let Some(stamp) = block[at..].first_chunk_mut() {
                Stamp { writer, offset: offset.wrapping_add(at as u64) }.write(stamp);
            }
        }
    }

    /// Whether `bytes` are those at byte `at` of a block at `offset`, written with `seed`: stamps aside,
    /// and in the first stretch.
    #[must_use]
    pub fn leaves(self, bytes: &[u8], seed: u64, offset: u64, at: usize) -> bool {
        let from = start(seed ^ offset, 0) + at;
        self.pool.0.get(from..).is_some_and(|pool| pool.starts_with(bytes))
    }

    /// Whether some write may have left `bytes` at byte `at` of a block, stamps aside.
    #[must_use]
    pub fn may_leave(self, bytes: &[u8], at: usize) -> bool {
        let at = at % STRETCH;
        at + bytes.len() <= STRETCH
            && (0..STRETCH / GRAIN).any(|start| self.pool.0[start * GRAIN + at..].starts_with(bytes))
    }

    /// The digest by `crc32c` of `block` if it is, behind its head, what `writer` with this seed left
    /// at `offset`. Compared with the pool, which is faster than a checksum; `None` if that does not
    /// tell.
    #[inline]
    #[must_use]
    pub fn crc32c_as_left(self, block: &[u8], writer: Writer, seed: u64, offset: u64) -> Option<u32> {
        let crc = self.crc32c(block, seed, offset)?;
        let mut at = offset;
        for (number, part) in block.chunks(STRETCH).enumerate() {
            let pool = &self.pool.0[start(seed ^ offset, number)..];
            for (sector, from) in part.as_chunks::<SECTOR>().0.iter().zip(pool.as_chunks::<SECTOR>().0) {
                let own = if at == offset {
                    HEAD
                } else {
                    let mut stamp = [0; STAMP_BYTES];
                    Stamp { writer, offset: at }.write(&mut stamp);
                    if sector[..STAMP_BYTES] != stamp {
                        return None;
                    }
                    STAMP_BYTES
                };
                if sector[own..] != from[own..] {
                    return None;
                }
                at = at.wrapping_add(SECTOR as u64);
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
            payload.fill(&mut block, Writer { run: 7, worker: 1, sequence }, 8192);
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
        Payload::default().fill(&mut block, writer, 1 << 40);
        for at in (SECTOR..4096).step_by(SECTOR) {
            let stamp = Stamp::read(&block[at..at + SECTOR]);
            assert_eq!(stamp, Some(Stamp { writer, offset: (1 << 40) + at as u64 }));
        }
        assert_eq!(Stamp::read(&block[..SECTOR]), None);
    }

    proptest! {
        #[test]
        fn a_flipped_bit_is_no_stamp(bit in 0_usize..STAMP_BYTES * 8, sequence: u64) {
            let mut block = vec![0; 1024];
            Payload::default().fill(&mut block, Writer { run: 1, worker: 2, sequence }, 512);
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
