//! CRC-32C of blocks whose bytes come from a pool, without reading them: the crc of a stretch of the
//! pool follows from two numbers of a table, as a crc is linear. Only what does not come from the pool
//! (tag, stamps, ends of sectors) is read.

#![allow(unsafe_code, reason = "instructions that not every processor has")]

/// Distance of the table's entries in bytes: stretches and what lies between begin and end at
/// multiples of it.
pub const GRAIN: usize = 32;
/// Bytes between stamps.
const SECTOR: usize = 512;
/// Up to here the bytes of a block are read: header, digest and tag end before, for CRC-32C.
pub const HEAD: usize = 128;
/// Where the covered bytes of a block begin, for CRC-32C.
const COVERED: usize = 52;

/// CRC-32C of all beginnings of a pool, and proof that the processor can use it.
#[derive(Debug)]
pub struct PoolCrc {
    /// Of the first `GRAIN * index` bytes, from 0 and without inversions.
    begins: Box<[u32]>,
}

/// The crc's polynomial, the lowest power in the highest bit.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// What a crc is multiplied with to become that of the same bytes and `bytes` zeros:
/// x^(8 bytes - 33), as multiplication and reduction add 33.
const fn zeros(bytes: usize) -> u32 {
    let (mut power, mut left) = (1 << 31, 8 * bytes - 33);
    while left > 0 {
        power = (power >> 1) ^ if power & 1 == 1 { POLYNOMIAL } else { 0 };
        left -= 1;
    }
    power
}

/// The last grain of each sector is read: it ends with a check of its own.
const LAST: usize = SECTOR - GRAIN;
const ZEROS_BEHIND_STAMP: u32 = zeros(LAST - GRAIN);
const ZEROS_BEHIND_HEAD: u32 = zeros(LAST - HEAD);
const ZEROS_OF_SECTOR: u32 = zeros(SECTOR);

impl PoolCrc {
    /// The table of `pool`; `None` if this processor lacks the instructions for it.
    #[must_use]
    pub fn new(pool: &[u8]) -> Option<PoolCrc> {
        if !is_able() {
            return None;
        }
        let mut crc = 0;
        let mut begins = vec![0];
        for grain in pool.chunks_exact(GRAIN) {
            // From 0 and without the last inversion.
            crc = !crc32c::crc32c_append(!crc, grain);
            begins.push(crc);
        }
        Some(PoolCrc { begins: begins.into() })
    }

    /// CRC-32C without final inversion of a `block` behind its digest. All of it comes from the pool but
    /// the first 128 bytes, the first [`GRAIN`] of each further sector and the last [`GRAIN`] of every
    /// sector; stretch n, of `stretch` bytes each, begins in the pool at the byte that `start` says.
    ///
    /// # Panics
    ///
    /// If a stretch would begin beyond the pool.
    #[inline]
    #[must_use]
    pub fn of_block(&self, block: &[u8], stretch: usize, start: impl Fn(usize) -> usize) -> u32 {
        debug_assert_eq!(block.len() % SECTOR, 0, "whole sectors");
        debug_assert_eq!(stretch % SECTOR, 0, "whole sectors");
        let mut state = u32::MAX;
        for (number, part) in block.chunks(stretch).enumerate() {
            let begins = &self.begins[start(number) / GRAIN..];
            // SAFETY: that a table exists says that the processor is able.
            state = unsafe { run(state, begins, part, number == 0) };
        }
        state
    }
}

#[cfg(target_arch = "x86_64")]
fn is_able() -> bool {
    std::arch::is_x86_feature_detected!("sse4.2") && std::arch::is_x86_feature_detected!("pclmulqdq")
}

/// The crc goes on from `state` over `part`, whose bytes of the pool begin where `begins` does. The
/// first part of a block has its head.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse4.2,pclmulqdq")]
fn run(mut state: u32, begins: &[u32], part: &[u8], has_head: bool) -> u32 {
    use std::arch::x86_64::{
        _mm_clmulepi64_si128, _mm_crc32_u32, _mm_crc32_u64, _mm_cvtsi32_si128, _mm_cvtsi128_si64,
    };

    #[inline]
    #[target_feature(enable = "sse4.2")]
    fn over(state: u32, words: &[u8]) -> u32 {
        let (words, _) = words.as_chunks::<8>();
        words.iter().fold(u64::from(state), |state, word| _mm_crc32_u64(state, u64::from_le_bytes(*word)))
            as u32
    }

    #[inline]
    #[target_feature(enable = "sse4.2,pclmulqdq")]
    fn multiply(state: u32, by: u32) -> u32 {
        let (state, by) = (_mm_cvtsi32_si128(state.cast_signed()), _mm_cvtsi32_si128(by.cast_signed()));
        let product = _mm_cvtsi128_si64(_mm_clmulepi64_si128(state, by, 0));
        _mm_crc32_u64(0, product.cast_unsigned()) as u32
    }

    // Of each sector: the table behind its first grain, its second and so on.
    let (behind, _) = begins[1..].as_chunks::<{ SECTOR / GRAIN }>();
    let (mut sectors, mut behind) = (part.as_chunks::<SECTOR>().0.iter(), behind.iter());
    if has_head && let (Some(sector), Some(behind)) = (sectors.next(), behind.next()) {
        let first = std::array::from_fn(|index| sector[COVERED + index]);
        let head = over(_mm_crc32_u32(state, u32::from_le_bytes(first)), &sector[COVERED + 4..HEAD]);
        let pooled = multiply(head ^ behind[HEAD / GRAIN - 1], ZEROS_BEHIND_HEAD) ^ behind[LAST / GRAIN - 1];
        state = over(pooled, &sector[LAST..]);
    }
    for (sector, behind) in sectors.zip(behind) {
        // From 0, so that sectors do not wait for each other.
        let stamp = over(0, &sector[..GRAIN]);
        let pooled = multiply(stamp ^ behind[0], ZEROS_BEHIND_STAMP) ^ behind[LAST / GRAIN - 1];
        let alone = over(pooled, &sector[LAST..]);
        state = multiply(state, ZEROS_OF_SECTOR) ^ alone;
    }
    state
}

#[cfg(not(target_arch = "x86_64"))]
fn is_able() -> bool {
    false
}

/// Never called: there is no table.
#[cfg(not(target_arch = "x86_64"))]
unsafe fn run(_state: u32, _begins: &[u32], _part: &[u8], _has_head: bool) -> u32 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_the_crc_of_the_bytes(
            pool in proptest::collection::vec(any::<u8>(), 8192), other in proptest::collection::vec(any::<u8>(), 6144),
            starts in proptest::collection::vec(0_usize..128, 3), sectors in 1_usize..13, stretch in 1_usize..5,
        ) {
            let Some(table) = PoolCrc::new(&pool) else { return Ok(()) };
            // Blocks are cut into stretches of `stretch` sectors: three starts are enough for all.
            let (stretch, start) = (stretch * SECTOR, |number: usize| starts[number % 3] * GRAIN);
            let mut block = other[..sectors * SECTOR].to_vec();
            for (number, part) in block.chunks_mut(stretch).enumerate() {
                for (index, sector) in part.chunks_mut(SECTOR).enumerate() {
                    let own = if number == 0 && index == 0 { HEAD } else { GRAIN };
                    let from = start(number) + index * SECTOR;
                    sector[own..LAST].copy_from_slice(&pool[from + own..from + LAST]);
                }
            }
            prop_assert_eq!(table.of_block(&block, stretch, start), !crc32c::crc32c(&block[COVERED..]));
        }
    }
}
