//! What stands in the buffers of writes that carry no verification header.

use std::sync::OnceLock;

use crate::base::random;

use super::Step;

/// Unit in which buffers are scrambled, as in fio.
const SECTOR: usize = 512;

/// The options that shape contents (fio's names).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContentShape {
    /// `zero_buffers`.
    pub zero: bool,
    /// `refill_buffers`.
    pub refill: bool,
    /// `scramble_buffers`.
    pub scramble: bool,
    /// `buffer_pattern`.
    pub pattern: Option<Box<[u8]>>,
    /// `buffer_compress_percentage`.
    pub compress_percent: u32,
    /// `buffer_compress_chunk` in bytes, not 0.
    pub compress_chunk: u32,
    /// `dedupe_percentage`.
    pub dedupe_percent: u32,
    /// Duplicates repeat any of the first blocks, so many (`dedupe_mode=working_set`); with 0, the
    /// newest that is none.
    pub working_set: u64,
}

/// Fills the buffers of one worker: a function of seed and write sequence.
#[derive(Clone, Debug)]
pub struct Content {
    shape: ContentShape,
    key: u64,
    /// Seed of the newest buffer that was no duplicate.
    last_unique: u64,
    /// Buffers so far that were no duplicates.
    uniques: u64,
}

impl Content {
    /// Contents of the given shape.
    #[must_use]
    pub fn new(shape: ContentShape, seed: u64) -> Content {
        let key = random::derive(seed, 0xc0de);
        Content { shape, key, last_unique: random::at(key, u64::MAX), uniques: 0 }
    }

    /// What a buffer holds before its first use, and again after a read went through it: the same
    /// in every buffer, or what is written would depend on which of them happens to be free.
    pub fn prepare(&mut self, buffer: &mut [u8]) {
        self.fill(buffer, random::derive(self.key, 0));
    }

    /// What a buffer must hold for the write `step`, given that [`Content::prepare`] or an earlier
    /// write has filled it. Called once for each write, in their order.
    #[inline]
    pub fn update(&mut self, buffer: &mut [u8], step: &Step) {
        let shape = &self.shape;
        if shape.refill || shape.compress_percent > 0 || shape.dedupe_percent > 0 {
            self.refill(buffer, step);
        } else if shape.scramble && !shape.zero && shape.pattern.is_none() {
            scramble(buffer, step, self.key);
        }
    }

    fn refill(&mut self, buffer: &mut [u8], step: &Step) {
        let seed = random::at(self.key, step.sequence);
        let percent = u64::from(self.shape.dedupe_percent);
        let repeats = percent > 0 && random::below(random::derive(seed, 1), 100) < percent;
        if self.shape.working_set > 0 {
            let first = |number| random::derive(self.key, number);
            let seed = if repeats {
                first(random::below(random::derive(seed, 2), self.shape.working_set))
            } else {
                self.uniques += 1;
                first(self.uniques - 1)
            };
            return self.fill(buffer, seed);
        }
        if !repeats {
            self.last_unique = seed;
        }
        self.fill(buffer, self.last_unique);
    }

    fn fill(&self, buffer: &mut [u8], seed: u64) {
        let shape = &self.shape;
        if shape.zero {
            buffer.fill(0);
        } else if shape.compress_percent > 0 {
            self.fill_compressible(buffer, seed);
        } else if let Some(pattern) = &shape.pattern {
            fill_pattern(buffer, pattern);
        } else {
            fill_random(buffer, seed);
        }
    }

    /// Of every chunk, the given percentage is pattern (or zeros) and the rest random, as in fio.
    fn fill_compressible(&self, buffer: &mut [u8], seed: u64) {
        let chunk_bytes = self.shape.compress_chunk.max(1) as usize;
        for (number, chunk) in buffer.chunks_mut(chunk_bytes).enumerate() {
            let plain = chunk.len() * self.shape.compress_percent as usize / 100;
            let (random_part, plain_part) = chunk.split_at_mut(chunk.len() - plain);
            fill_random(random_part, random::derive(seed, number as u64));
            match &self.shape.pattern {
                Some(pattern) => fill_pattern(plain_part, pattern),
                None => plain_part.fill(0),
            }
        }
    }
}

fn fill_pattern(buffer: &mut [u8], pattern: &[u8]) {
    if pattern.is_empty() {
        buffer.fill(0);
        return;
    }
    for chunk in buffer.chunks_mut(pattern.len()) {
        chunk.copy_from_slice(&pattern[..chunk.len()]);
    }
}

/// Bytes of the pool that random contents are copied from: small enough for a core's cache.
const POOL: usize = 128 << 10;

/// Random bytes, made once: copying them is a tenth of the cost of drawing them anew.
fn pool() -> &'static [u8] {
    static BYTES: OnceLock<Box<[u8]>> = OnceLock::new();
    BYTES.get_or_init(|| {
        (0..POOL as u64 / 8).flat_map(|word| random::at(0x9001, word).to_le_bytes()).collect()
    })
}

/// Copies a stretch of the pool that depends on `seed` and stamps every sector with seed and place:
/// no two sectors are alike, neither in one buffer nor between two seeds.
fn fill_random(buffer: &mut [u8], seed: u64) {
    let pool = pool();
    for (number, chunk) in buffer.chunks_mut(POOL / 2).enumerate() {
        let start = random::below(random::at(seed, number as u64), (POOL / 2 / 8) as u64) as usize * 8;
        chunk.copy_from_slice(&pool[start..start + chunk.len()]);
    }
    for (number, sector) in buffer.chunks_mut(SECTOR).enumerate() {
        let stamp = random::derive(seed, number as u64).to_le_bytes();
        let len = sector.len().min(stamp.len());
        sector[..len].copy_from_slice(&stamp[..len]);
    }
}

/// Changes 16 bytes in every sector, so that no two writes leave the same sector behind. A short
/// sector at the end gets as many of them as it holds, as a longer write may have changed it before.
#[inline]
fn scramble(buffer: &mut [u8], step: &Step, key: u64) {
    let mut stamp = step.offset ^ key;
    let number = (step.sequence ^ key.rotate_left(32)).to_le_bytes();
    for sector in buffer.chunks_mut(SECTOR) {
        let [low, high] = [stamp.to_le_bytes(), number];
        match sector.first_chunk_mut::<16>() {
            Some(head) => {
                head[..8].copy_from_slice(&low);
                head[8..].copy_from_slice(&high);
            }
            None => sector.iter_mut().zip(low.into_iter().chain(high)).for_each(|(byte, new)| *byte = new),
        }
        stamp = stamp.wrapping_add(SECTOR as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Op;
    use std::collections::HashMap;

    fn write(sequence: u64) -> Step {
        Step { offset: sequence * 4096, sequence, len: 4096, target: 0, op: Op::Write }
    }

    fn contents(shape: ContentShape, count: u64) -> Vec<Vec<u8>> {
        let mut content = Content::new(shape, 3);
        let mut buffer = vec![0xee; 4096];
        content.prepare(&mut buffer);
        (0..count)
            .map(|sequence| {
                content.update(&mut buffer, &write(sequence));
                buffer.clone()
            })
            .collect()
    }

    #[test]
    fn scrambled_buffers_never_repeat_a_sector() {
        let shape = ContentShape { scramble: true, ..ContentShape::default() };
        let mut seen = HashMap::new();
        for buffer in contents(shape, 100) {
            for sector in buffer.chunks(512) {
                assert!(seen.insert(sector.to_vec(), ()).is_none());
            }
        }
    }

    #[test]
    fn zero_buffers_are_zero_and_patterns_repeat() {
        let zero = ContentShape { zero: true, scramble: true, ..ContentShape::default() };
        assert!(contents(zero, 1)[0].iter().all(|&byte| byte == 0));
        let pattern =
            ContentShape { pattern: Some(Box::new(*b"abc")), scramble: true, ..ContentShape::default() };
        let buffer = &contents(pattern, 1)[0];
        assert!(buffer.chunks_exact(3).all(|chunk| chunk == b"abc"));
    }

    #[test]
    fn refilled_buffers_never_repeat_a_sector_and_differ_in_nearly_every_word() {
        let buffers = contents(ContentShape { refill: true, ..ContentShape::default() }, 50);
        let same = buffers[0].chunks(8).zip(buffers[1].chunks(8)).filter(|(a, b)| a == b).count();
        assert!(same < 5, "{same} words of 512");
        let sectors: std::collections::HashSet<&[u8]> = buffers.iter().flat_map(|b| b.chunks(512)).collect();
        assert_eq!(sectors.len(), 50 * 8);
    }

    #[test]
    fn compressible_buffers_have_their_share_of_zeros() {
        let shape = ContentShape { compress_percent: 75, compress_chunk: 512, ..ContentShape::default() };
        let buffer = &contents(shape, 1)[0];
        let zeros = buffer.iter().filter(|&&byte| byte == 0).count();
        assert!((3072..3072 + 32).contains(&zeros), "{zeros}");
    }

    #[test]
    fn duplicates_have_their_share() {
        let shape = ContentShape { dedupe_percent: 40, ..ContentShape::default() };
        let buffers = contents(shape, 2000);
        let mut seen = HashMap::new();
        let repeats = buffers.iter().filter(|buffer| seen.insert((*buffer).clone(), ()).is_some()).count();
        assert!((740..860).contains(&repeats), "{repeats} of 2000");
    }

    #[test]
    fn duplicates_of_a_working_set_are_any_of_the_first_buffers() {
        let shape = ContentShape { dedupe_percent: 50, working_set: 20, ..ContentShape::default() };
        let buffers = contents(shape, 2000);
        let mut seen: HashMap<Vec<u8>, u32> = HashMap::new();
        buffers.iter().for_each(|buffer| *seen.entry(buffer.clone()).or_default() += 1);
        let repeated: Vec<u32> = seen.values().copied().filter(|&times| times > 1).collect();
        assert_eq!(repeated.len(), 20);
        assert!((930..1110).contains(&repeated.iter().sum::<u32>()), "{repeated:?}");
    }
}
