//! Numbers that look random and are a pure function of a key and a counter.

/// The k-th value of the sequence named by `key`: splitmix64's output function over the counter
/// (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
#[inline]
#[must_use]
pub const fn at(key: u64, k: u64) -> u64 {
    let mut z = key.wrapping_add(k.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A number in `0..n` from 64 random bits (Lemire's multiplication; the bias is below n / 2^64).
#[inline]
#[must_use]
pub const fn below(bits: u64, n: u64) -> u64 {
    ((bits as u128 * n as u128) >> 64) as u64
}

/// A number in `[0, 1)` from 64 random bits.
#[inline]
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
pub const fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
}

/// A key of its own for the part `tag` of what `key` seeds.
#[inline]
#[must_use]
pub const fn derive(key: u64, tag: u64) -> u64 {
    at(key ^ 0x6a09_e667_f3bc_c908, tag)
}
