//! fio's SHA-256 and SHA-512. Its block buffer serves as result too, and all of it lands in the
//! trailer: the digest first, behind it what the last padded block held there.

use sha2::block_api::{compress256, compress512};

/// First words of SHA-256's state (FIPS 180-4, 5.3.3).
const STATE_256: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// First words of SHA-512's state (FIPS 180-4, 5.3.5).
const STATE_512: [u64; 8] = [
    0x6a09_e667_f3bc_c908,
    0xbb67_ae85_84ca_a73b,
    0x3c6e_f372_fe94_f82b,
    0xa54f_f53a_5f1d_36f1,
    0x510e_527f_ade6_82d1,
    0x9b05_688c_2b3e_6c1f,
    0x1f83_d9ab_fb41_bd6b,
    0x5be0_cd19_137e_2179,
];

/// The last block: `tail` padded, with the `L` bytes of `count` at its end. Where both do not fit
/// into one block, the first of two goes to `compress`.
fn last_block<const B: usize, const L: usize>(
    tail: &[u8],
    count: [u8; L],
    compress: impl FnOnce(&[u8; B]),
) -> [u8; B] {
    let mut block = [0; B];
    block[..tail.len()].copy_from_slice(tail);
    block[tail.len()] = 0x80;
    if tail.len() >= B - L {
        compress(&block);
        block = [0; B];
    }
    block[B - L..].copy_from_slice(&count);
    block
}

/// fio's SHA-256: counts its bits in little-endian order, and of each word of the state keeps only
/// the low byte. The other 56 bytes are the last block's.
pub(super) fn sha256(data: &[u8]) -> [u8; 64] {
    let mut state = STATE_256;
    let (blocks, tail) = data.as_chunks::<64>();
    compress256(&mut state, blocks);
    // fio counts bytes in 32 bits.
    let bits = u64::from(data.len() as u32) << 3;
    let mut last = last_block(tail, bits.to_le_bytes(), |block| compress256(&mut state, &[*block]));
    compress256(&mut state, &[last]);
    for (byte, word) in last.iter_mut().zip(state) {
        *byte = word as u8;
    }
    last
}

/// fio's SHA-512: the standard digest (of less than 512 MiB: fio loses the upper bits of the
/// count), then the last block's upper half.
pub(super) fn sha512(data: &[u8]) -> [u8; 128] {
    let mut state = STATE_512;
    let (blocks, tail) = data.as_chunks::<128>();
    compress512(&mut state, blocks);
    // In 32 bits, the most significant byte first.
    let bits = (data.len() << 3) as u32;
    let count = u128::from(bits).swap_bytes().to_le_bytes();
    let mut last = last_block(tail, count, |block| compress512(&mut state, &[*block]));
    compress512(&mut state, &[last]);
    for (bytes, word) in last.as_chunks_mut::<8>().0.iter_mut().zip(state) {
        *bytes = word.swap_bytes().to_le_bytes();
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha512};

    #[test]
    fn the_lower_half_of_sha512_is_the_standards() {
        let data: Vec<u8> = (0..600).map(|at| (at * 7 % 251) as u8).collect();
        for len in 0..data.len() {
            assert_eq!(sha512(&data[..len])[..64], Sha512::digest(&data[..len])[..], "{len} bytes");
        }
    }
}
