//! Deallocates of several ranges: what they carry in their buffers.
//!
//! The ranges stand in the first half of the buffer, one after the other, until their lengths add up to
//! the I/O's. The second half is the engine's, to say the same in its device's words.

/// Ranges of one deallocate at most: NVMe's limit (NVM Command Set 1.0, 3.2.3).
pub const MOST_RANGES: u32 = 256;

/// Bytes that one range takes in its half of the buffer.
const RANGE_BYTES: usize = 16;

/// Bytes of one target to deallocate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrimRange {
    /// Byte offset on the target.
    pub offset: u64,
    /// Length in bytes, at least 1.
    pub len: u32,
}

/// How large a buffer must be for so many ranges, in bytes.
#[must_use]
pub fn bytes_for(ranges: u32) -> u32 {
    ranges.saturating_mul(2 * RANGE_BYTES as u32)
}

/// Puts a range into a buffer as its `index`-th.
///
/// # Panics
/// If the buffer has no room for it.
#[inline]
pub fn put(buffer: &mut [u8], index: usize, range: TrimRange) {
    let place = &mut buffer[index * RANGE_BYTES..(index + 1) * RANGE_BYTES];
    place[..8].copy_from_slice(&range.offset.to_le_bytes());
    place[8..].copy_from_slice(&u64::from(range.len).to_le_bytes());
}

/// The ranges of a deallocate of `len` bytes, from the first half of its buffer; `None` if what stands
/// there does not add up.
pub fn carried(half: &[u8], len: u32) -> Option<impl Iterator<Item = TrimRange>> {
    let ranges = || half.chunks_exact(RANGE_BYTES).take(MOST_RANGES as usize).map_while(parse);
    let (mut left, mut count) = (len, 0);
    for range in ranges() {
        left = left.checked_sub(range.len)?;
        count += 1;
        if left == 0 {
            return Some(ranges().take(count));
        }
    }
    None
}

fn parse(place: &[u8]) -> Option<TrimRange> {
    let offset = u64::from_le_bytes(place[..8].try_into().ok()?);
    let len = u32::try_from(u64::from_le_bytes(place[8..].try_into().ok()?)).ok()?;
    (len > 0).then_some(TrimRange { offset, len })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_come_back_as_they_were_put_and_no_others() {
        let mut buffer = vec![0xff; bytes_for(3) as usize];
        let ranges = [(1 << 40, 4096), (512, 512), (0, u32::MAX - 4608)];
        for (index, (offset, len)) in ranges.into_iter().enumerate() {
            put(&mut buffer, index, TrimRange { offset, len });
        }
        let seen =
            |len: u32| carried(&buffer[..48], len).map(|all| all.map(|it| (it.offset, it.len)).collect());
        assert_eq!(seen(4096), Some(vec![ranges[0]]));
        assert_eq!(seen(4608), Some(ranges[..2].to_vec()));
        assert_eq!(seen(u32::MAX), Some(ranges.to_vec()));
    }

    #[test]
    fn what_does_not_add_up_is_none() {
        let mut buffer = [0; 64];
        assert!(carried(&buffer[..32], 4096).is_none(), "nothing is in there");
        put(&mut buffer, 0, TrimRange { offset: 0, len: 4096 });
        assert!(carried(&buffer[..32], 8192).is_none(), "one is missing");
        assert!(carried(&buffer[..32], 4095).is_none(), "too long");
        assert!(carried(&[], 4096).is_none() && carried(&buffer[..32], 0).is_none());
    }
}
