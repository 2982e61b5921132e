//! A keyed permutation of `0..n` that needs no memory: every number once, in an order that looks
//! random, in O(1) for any position and in both directions.
//!
//! Three rounds of xor, multiply by an odd number, and xor-shift by half the width are a bijection
//! of the smallest power of two that holds `n`; values that fall outside `0..n` are walked on until
//! they fall inside (cycle walking: Black and Rogaway, "Ciphers with arbitrary finite domains").
//! As the power of two is less than 2n, a step walks less than twice on average, and a walk always
//! ends because the cycle it is on holds the number it began with.

use super::random;

const ROUNDS: usize = 3;

/// A permutation of `0..len()`.
#[derive(Clone, Debug)]
pub struct Permutation {
    n: u64,
    mask: u64,
    shift: u32,
    rounds: [(u64, u64); ROUNDS],
}

impl Permutation {
    /// The permutation of `0..n` that `key` names. `n` may be anything from 0 to 2^64 - 1.
    #[must_use]
    pub fn new(key: u64, n: u64) -> Permutation {
        let bits = (64 - n.saturating_sub(1).leading_zeros()).max(1);
        let mask = u64::MAX >> (64 - bits);
        let rounds = std::array::from_fn(|round| {
            let tag = 2 * round as u64;
            (random::derive(key, tag), random::derive(key, tag + 1) | 1)
        });
        // Half the width rounded up: then xor-shift is its own inverse.
        Permutation { n, mask, shift: bits.div_ceil(2), rounds }
    }

    /// How many numbers are permuted.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.n
    }

    /// Whether there is nothing to permute.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.n == 0
    }

    /// The number at position `index`, which must be below `len()`.
    #[inline(always)]
    #[must_use]
    pub fn at(&self, index: u64) -> u64 {
        debug_assert!(index < self.n, "position {index} of a permutation of {}", self.n);
        let mut x = index;
        loop {
            for &(add, multiply) in &self.rounds {
                x = (x ^ add).wrapping_mul(multiply) & self.mask;
                x ^= x >> self.shift;
            }
            if x < self.n {
                return x;
            }
        }
    }

    /// The position at which `value` stands: `at(position_of(v)) == v`. `value` must be below `len()`.
    /// Who asks more than once keeps [`Permutation::inverse`].
    #[must_use]
    pub fn position_of(&self, value: u64) -> u64 {
        self.inverse().at(value)
    }

    /// The way back, made ready once: `inverse().at(at(i)) == i`.
    #[must_use]
    pub fn inverse(&self) -> Inverse {
        let mut rounds = self.rounds;
        rounds.reverse();
        for (_, multiply) in &mut rounds {
            *multiply = inverse_of_odd(*multiply);
        }
        Inverse { n: self.n, mask: self.mask, shift: self.shift, rounds }
    }
}

/// The inverse of a [`Permutation`].
#[derive(Clone, Debug)]
pub struct Inverse {
    n: u64,
    mask: u64,
    shift: u32,
    rounds: [(u64, u64); ROUNDS],
}

impl Inverse {
    /// The position at which `value`, which must be below the permutation's length, stands.
    #[inline]
    #[must_use]
    pub fn at(&self, value: u64) -> u64 {
        debug_assert!(value < self.n, "value {value} of a permutation of {}", self.n);
        let mut x = value;
        loop {
            for &(add, multiply) in &self.rounds {
                x ^= x >> self.shift;
                x = (x.wrapping_mul(multiply) ^ add) & self.mask;
            }
            if x < self.n {
                return x;
            }
        }
    }
}

/// The inverse of an odd number modulo 2^64, by Newton's iteration: each step doubles the number of
/// correct low bits, and an odd number is its own inverse modulo 8.
const fn inverse_of_odd(odd: u64) -> u64 {
    let mut inverse = odd;
    let mut step = 0;
    while step < 5 {
        inverse = inverse.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(inverse)));
        step += 1;
    }
    inverse
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_number_appears_exactly_once(key: u64, n in 0_u64..5000) {
            let permutation = Permutation::new(key, n);
            let mut seen = vec![false; usize::try_from(n).unwrap()];
            for index in 0..n {
                let value = usize::try_from(permutation.at(index)).unwrap();
                prop_assert!(!std::mem::replace(&mut seen[value], true));
            }
        }

        #[test]
        fn the_inverse_finds_every_position(key: u64, n in 1_u64.., index: u64) {
            let permutation = Permutation::new(key, n);
            let index = index % n;
            let value = permutation.at(index);
            prop_assert!(value < n);
            prop_assert_eq!(permutation.position_of(value), index);
        }
    }

    /// Neighbours in time must not be neighbours in space, for any size and key: the mean distance
    /// of successive values of a random order is n / 3.
    #[test]
    fn successive_values_are_a_third_of_the_range_apart() {
        for (key, n) in [(1, 1000_u64), (2, 1 << 20), (3, (1 << 20) + 1), (4, 3_000_000_017), (5, 1 << 40)] {
            let permutation = Permutation::new(key, n);
            let steps = 900.min(n - 1);
            let mut sum = 0.0;
            for index in 0..steps {
                sum += permutation.at(index).abs_diff(permutation.at(index + 1)) as f64;
            }
            let mean = sum / steps as f64 / n as f64;
            assert!((0.29..0.38).contains(&mean), "key {key}, n {n}: mean distance {mean}");
        }
    }

    /// A window of the sequence covers the range evenly: chi-square over 64 bins, 64,000 draws of a
    /// far larger range (63 degrees of freedom: below 120 except once in 30,000).
    #[test]
    fn a_window_covers_the_range_evenly() {
        for key in 0..20 {
            let n = (1_u64 << 40) + 12_345 * key;
            let permutation = Permutation::new(key, n);
            let mut bins = [0_u32; 64];
            for index in 0..64_000 {
                bins[usize::try_from(u128::from(permutation.at(index)) * 64 / u128::from(n)).unwrap()] += 1;
            }
            let chi: f64 = bins.iter().map(|&seen| (f64::from(seen) - 1000.0).powi(2) / 1000.0).sum();
            assert!(chi < 120.0, "key {key}: chi-square {chi}");
        }
    }
}
