//! Which writes a target stores whole or not at all when its power fails, and who promises that.

use std::fmt;
use std::fmt::Write as _;
use std::ops::Range;

use super::units::format_size;

/// What promises that a write, or a part of it, is stored whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AtomicSource {
    /// The logical block: every device stores one whole.
    #[default]
    Lba,
    /// `sim_atomic_unit` of a simulated drive.
    Simulated,
    /// NAWUPF of Identify Namespace.
    Nawupf,
    /// AWUPF of Identify Controller. Linux stopped to rely on it in 2026: drives misreport it.
    Awupf,
    /// `RWF_ATOMIC` with the limits that statx(2) reports.
    RwfAtomic,
}

impl AtomicSource {
    /// All of them, in the order of the numbers that a snapshot stores.
    pub const ALL: [AtomicSource; 5] = [
        AtomicSource::Lba,
        AtomicSource::Simulated,
        AtomicSource::Nawupf,
        AtomicSource::Awupf,
        AtomicSource::RwfAtomic,
    ];

    /// The name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            AtomicSource::Lba => "logical block",
            AtomicSource::Simulated => "sim_atomic_unit",
            AtomicSource::Nawupf => "NAWUPF",
            AtomicSource::Awupf => "AWUPF",
            AtomicSource::RwfAtomic => "RWF_ATOMIC",
        }
    }
}

impl fmt::Display for AtomicSource {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// What the way to a device makes of its promise: a write that is sent as several commands, or together
/// with its neighbours as one, is not what the device promised something about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AtomicLimit {
    /// The path passes every write that the device keeps whole as one command.
    #[default]
    None,
    /// The page cache writes back in lengths of its own (`direct = false`).
    PageCache,
    /// The kernel may merge a write with its neighbours (`queue/nomerges` is not 2).
    Merges,
    /// The kernel splits longer writes (`queue/max_sectors_kb`, `queue/max_segments`).
    MaxSectors,
    /// SPDK splits longer writes (MDTS, or what the transport transfers).
    Mdts,
    /// What an earlier run, or this one, could rely on was less.
    OtherRun,
    /// SPDK splits at places that are not multiples of one length (NOIOB is not a power of two).
    Stripes,
}

impl AtomicLimit {
    /// All of them, in the order of the numbers that a snapshot stores.
    pub const ALL: [AtomicLimit; 7] = [
        AtomicLimit::None,
        AtomicLimit::PageCache,
        AtomicLimit::Merges,
        AtomicLimit::MaxSectors,
        AtomicLimit::Mdts,
        AtomicLimit::OtherRun,
        AtomicLimit::Stripes,
    ];

    /// The words in reports; `None` for no limit.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        match self {
            AtomicLimit::None => None,
            AtomicLimit::PageCache => Some("the page cache is in between"),
            AtomicLimit::Merges => Some("queue/nomerges is not 2"),
            AtomicLimit::MaxSectors => Some("queue/max_sectors_kb"),
            AtomicLimit::Mdts => Some("MDTS"),
            AtomicLimit::OtherRun => Some("the limit of the other run"),
            AtomicLimit::Stripes => Some("NOIOB is not a power of two"),
        }
    }
}

/// Boundaries on a target, at `first` and every `every` bytes before and after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Boundaries {
    /// Distance in bytes; 0: there are none.
    pub every: u64,
    /// One of them, less than `every`.
    pub first: u64,
}

impl Boundaries {
    /// Boundaries every `every` bytes, one of which is `at` bytes behind the start of the device, on a part
    /// of the device that begins at `start`.
    #[must_use]
    pub fn on_part(every: u64, at: u64, start: u64) -> Boundaries {
        if every == 0 {
            return Boundaries::default();
        }
        Boundaries { every, first: (at % every + every - start % every) % every }
    }

    /// Whether one lies inside `len` bytes at `offset`.
    #[must_use]
    pub fn cross(&self, offset: u64, len: u64) -> bool {
        if self.every == 0 {
            return false;
        }
        let every = u128::from(self.every);
        let into = (u128::from(offset) + every - u128::from(self.first) % every) % every;
        into + u128::from(len) > every
    }

    /// Boundaries that include those of both.
    fn merged(self, other: Boundaries) -> Boundaries {
        if self.every == 0 || other.every == 0 {
            return if self.every == 0 { other } else { self };
        }
        let every = gcd(gcd(self.every, other.every), self.first.abs_diff(other.first));
        Boundaries { every, first: self.first % every }
    }
}

fn gcd(one: u64, other: u64) -> u64 {
    if other == 0 { one } else { gcd(other, one % other) }
}

/// Which write a target stores whole or not at all when its power fails. A logical block always is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AtomicWrites {
    /// Every aligned unit of this many bytes is whole, whatever the length of the write (simulated
    /// drives); 0: one logical block.
    pub unit_bytes: u32,
    /// Writes of up to this many bytes are whole; 0: none beyond a logical block.
    pub write_bytes: u32,
    /// What promises `write_bytes`.
    pub source: AtomicSource,
    /// What made `write_bytes` less than the device promises.
    pub limit: AtomicLimit,
    /// Boundaries that such a write must not cross (NABSPF, from NABO).
    pub boundaries: Boundaries,
    /// Writes of up to this many bytes are whole even where they cross one (AWUPF); 0: none.
    pub crossing_bytes: u32,
    /// Boundaries at which the path splits a write into commands (NOIOB over SPDK, `chunk_sectors`):
    /// nothing is promised of a write across.
    pub splits: Boundaries,
}

impl AtomicWrites {
    /// A target of which every aligned unit of `unit_bytes` is whole.
    #[must_use]
    pub fn in_units(unit_bytes: u32) -> AtomicWrites {
        AtomicWrites { unit_bytes, ..AtomicWrites::default() }
    }

    /// A target that keeps every write of up to `write_bytes` whole, as `source` promises.
    #[must_use]
    pub fn up_to(write_bytes: u32, source: AtomicSource) -> AtomicWrites {
        AtomicWrites { write_bytes, source, ..AtomicWrites::default() }
    }

    /// Whether a write of `len` bytes at `offset` is stored whole as one, and who promises it.
    #[must_use]
    pub fn whole_write(&self, offset: u64, len: u32) -> Option<AtomicSource> {
        if self.splits.cross(offset, u64::from(len)) {
            return None;
        }
        if len <= self.write_bytes && !self.boundaries.cross(offset, u64::from(len)) {
            return Some(self.source);
        }
        (self.boundaries.every > 0 && len <= self.crossing_bytes).then_some(AtomicSource::Awupf)
    }

    /// The bytes of the target around byte `at` that the write of `len` bytes at `offset` stores whole or
    /// not at all: a part of the write that has `at` in it, and what promises it. At least the part
    /// inside the logical block of `lba_bytes`. `at` must be inside the write.
    #[must_use]
    pub fn whole(&self, lba_bytes: u32, offset: u64, len: u32, at: u64) -> (Range<u64>, AtomicSource) {
        let end = offset.saturating_add(u64::from(len));
        if let Some(source) = self.whole_write(offset, len) {
            return (offset..end, source);
        }
        let (unit, source) = if self.unit_bytes > lba_bytes {
            (self.unit_bytes, AtomicSource::Simulated)
        } else {
            (lba_bytes, AtomicSource::Lba)
        };
        let unit = u64::from(unit.max(1));
        let from = at - at % unit;
        (from.max(offset)..from.saturating_add(unit).min(end), source)
    }

    /// Bytes that are whole wherever they lie in a write of up to `longest` bytes, from multiples of this
    /// length on the target; at least `lba_bytes`.
    #[must_use]
    pub fn aligned_unit(&self, lba_bytes: u32, longest: u32) -> u32 {
        let plain = self.boundaries.every == 0 && self.splits.every == 0;
        let write = if plain && longest <= self.write_bytes { self.write_bytes } else { 0 };
        lba_bytes.max(self.unit_bytes).max(write)
    }

    /// What is left on a path that sends at most `command_bytes` as one command, for the reason `limit`.
    #[must_use]
    pub fn limited(mut self, command_bytes: u64, limit: AtomicLimit) -> AtomicWrites {
        let most = u32::try_from(command_bytes).unwrap_or(u32::MAX);
        if most < self.write_bytes {
            (self.write_bytes, self.limit) = (most, limit);
        }
        self.crossing_bytes = self.crossing_bytes.min(most);
        self
    }

    /// The promise in words, with what makes it less than it could be.
    #[must_use]
    pub fn describe(&self) -> String {
        // "16 KiB"
        let size = |bytes: u64| {
            let text = format_size(bytes);
            let unit = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
            format!("{} {}", &text[..unit], &text[unit..])
        };
        let mut parts = Vec::new();
        if self.unit_bytes > 0 {
            parts.push(format!(
                "aligned units of {} whole ({})",
                size(self.unit_bytes.into()),
                AtomicSource::Simulated
            ));
        }
        if self.write_bytes > 0 {
            let mut text = format!("writes up to {} whole ({}", size(self.write_bytes.into()), self.source);
            if self.boundaries.every > 0 {
                let _ = write!(text, " inside boundaries of {}", size(self.boundaries.every));
                if self.crossing_bytes > 0 {
                    let _ = write!(text, ", across them {} (AWUPF)", size(self.crossing_bytes.into()));
                }
            }
            if self.splits.every > 0 {
                let _ = write!(text, "; split every {}", size(self.splits.every));
            }
            if let Some(limit) = self.limit.name() {
                let _ = write!(text, "; limited: {limit}");
            }
            text.push(')');
            parts.push(text);
        }
        if parts.is_empty() {
            let why = self.limit.name().map_or_else(String::new, |limit| format!(" ({limit})"));
            parts.push(format!("only logical blocks whole{why}"));
        }
        parts.join(", ")
    }

    /// The same of a part of the device that begins at `start`, a partition.
    #[must_use]
    pub fn on_part(self, start: u64) -> AtomicWrites {
        let moved = |it: Boundaries| Boundaries::on_part(it.every, it.first, start);
        AtomicWrites { boundaries: moved(self.boundaries), splits: moved(self.splits), ..self }
    }

    /// What is left where neighbouring writes may be merged into commands of up to `most_bytes`: a command
    /// that is longer than what the device keeps whole may tear between the writes, and inside them.
    #[must_use]
    pub fn merged(self, most_bytes: u64) -> AtomicWrites {
        let sure = if self.boundaries.every > 0 { self.crossing_bytes } else { self.write_bytes };
        if most_bytes <= u64::from(sure) { self } else { self.limited(0, AtomicLimit::Merges) }
    }

    /// What is left over SPDK, which sends at most `command_bytes` as one command, and none across a
    /// stripe of `stripe_blocks` logical blocks (NOIOB, or what Intel's first drives have); 0: none.
    #[must_use]
    pub fn over_spdk(self, command_bytes: u64, stripe_blocks: u32, lba_bytes: u32) -> AtomicWrites {
        let left = self.limited(command_bytes, AtomicLimit::Mdts);
        match stripe_blocks {
            0 => left,
            // SPDK masks the block's number with the stripe's length less one.
            _ if !stripe_blocks.is_power_of_two() => left.limited(0, AtomicLimit::Stripes),
            _ => {
                let every = u64::from(stripe_blocks) * u64::from(lba_bytes);
                AtomicWrites { splits: Boundaries { every, first: 0 }, ..left }
            }
        }
    }

    /// What both promise: a write was made under one of them, and its device is now under the other.
    #[must_use]
    pub fn meet(&self, other: &AtomicWrites) -> AtomicWrites {
        let less = if other.write_bytes < self.write_bytes { other } else { self };
        let crossing = |it: &AtomicWrites| match it.boundaries.every {
            0 => it.write_bytes,
            _ => it.crossing_bytes,
        };
        let boundaries = self.boundaries.merged(other.boundaries);
        let crossing = crossing(self).min(crossing(other));
        let one = u64::from(self.unit_bytes);
        let unit_bytes =
            if one == 0 || other.unit_bytes == 0 { 0 } else { gcd(one, other.unit_bytes.into()) };
        AtomicWrites {
            unit_bytes: u32::try_from(unit_bytes).unwrap_or(0),
            write_bytes: less.write_bytes,
            source: less.source,
            limit: if self.write_bytes == other.write_bytes { self.limit } else { AtomicLimit::OtherRun },
            boundaries,
            crossing_bytes: if boundaries.every > 0 { crossing } else { 0 },
            splits: self.splits.merged(other.splits),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_boundaries() -> impl Strategy<Value = Boundaries> {
        (0_u64..40, 0_u64..40).prop_map(|(every, at)| Boundaries::on_part(every * 512, at * 512, 0))
    }

    prop_compose! {
        fn any_atomic()(
            unit in 0_u32..9, write in 0_u32..40, crossing in 0_u32..40, boundaries in any_boundaries(),
            splits in any_boundaries(), source in 0_usize..5,
        ) -> AtomicWrites {
            AtomicWrites {
                unit_bytes: unit * 512,
                write_bytes: write * 512,
                source: AtomicSource::ALL[source],
                limit: AtomicLimit::None,
                boundaries,
                crossing_bytes: if boundaries.every > 0 { crossing.min(write) * 512 } else { 0 },
                splits,
            }
        }
    }

    /// The rule, a byte at a time: whether a boundary is inside.
    fn crosses(boundaries: Boundaries, offset: u64, len: u64) -> bool {
        (offset + 1..offset + len).any(|at| boundaries.every > 0 && at % boundaries.every == boundaries.first)
    }

    proptest! {
        #[test]
        fn what_is_whole_is_a_part_of_the_write_around_the_byte_and_no_less_than_the_block(
            it in any_atomic(), lba in prop::sample::select(vec![512_u32, 4096]),
            offset in 0_u64..100, blocks in 1_u32..40, at: prop::sample::Index,
        ) {
            let (offset, len) = (offset * 512, blocks * 512);
            let end = offset + u64::from(len);
            let at = offset + at.index(len as usize) as u64;
            let (range, source) = it.whole(lba, offset, len, at);
            prop_assert!(range.contains(&at) && range.start >= offset && range.end <= end);
            let block = at - at % u64::from(lba)..at - at % u64::from(lba) + u64::from(lba);
            prop_assert!(range.start <= block.start.max(offset) && range.end >= block.end.min(end));
            // The rule in full.
            let inside = !crosses(it.splits, offset, len.into());
            let crossing = crosses(it.boundaries, offset, len.into());
            let by_length = len <= it.write_bytes && !crossing;
            let by_crossing = it.boundaries.every > 0 && len <= it.crossing_bytes;
            if inside && (by_length || by_crossing) {
                prop_assert_eq!(range, offset..end);
                prop_assert_eq!(source, if by_length { it.source } else { AtomicSource::Awupf });
            } else {
                let unit = u64::from(it.unit_bytes.max(lba));
                prop_assert_eq!(range, (at / unit * unit).max(offset)..(at / unit * unit + unit).min(end));
                let simulated = it.unit_bytes > lba;
                prop_assert_eq!(source, if simulated { AtomicSource::Simulated } else { AtomicSource::Lba });
            }
        }

        /// Whatever two promises have in common is in both of them.
        #[test]
        fn the_meet_promises_nothing_that_one_of_both_does_not(
            one in any_atomic(), other in any_atomic(), offset in 0_u64..100, blocks in 1_u32..40,
            at: prop::sample::Index,
        ) {
            let (offset, len) = (offset * 512, blocks * 512);
            let at = offset + at.index(len as usize) as u64;
            let both = one.meet(&other);
            let (range, _) = both.whole(512, offset, len, at);
            for it in [one, other] {
                let (theirs, _) = it.whole(512, offset, len, at);
                prop_assert!(theirs.start <= range.start && range.end <= theirs.end, "{it:?} {both:?}");
            }
            prop_assert_eq!(one.meet(&one), one);
        }

        #[test]
        fn the_aligned_unit_is_whole_in_each_write_that_is_short_enough(
            it in any_atomic(), offset in 0_u64..100, blocks in 1_u32..40, at: prop::sample::Index,
        ) {
            let (offset, len) = (offset * 512, blocks * 512);
            let at = offset + at.index(len as usize) as u64;
            let unit = u64::from(it.aligned_unit(512, len));
            let (range, _) = it.whole(512, offset, len, at);
            prop_assert!(range.start <= (at / unit * unit).max(offset));
            prop_assert!(range.end >= (at / unit * unit + unit).min(offset + u64::from(len)));
        }

        #[test]
        fn boundaries_of_a_part_are_those_of_the_device(every in 1_u64..99, at in 0_u64..99, start in 0_u64..99, offset in 0_u64..99, len in 1_u64..99) {
            let (device, part) = (Boundaries::on_part(every, at, 0), Boundaries::on_part(every, at, start));
            prop_assert_eq!(device.cross(start + offset, len), part.cross(offset, len));
            prop_assert_eq!(part.cross(offset, len), crosses(part, offset, len));
        }
    }

    #[test]
    fn a_path_that_splits_leaves_no_more_than_one_command() {
        let it = AtomicWrites::up_to(64 << 10, AtomicSource::Nawupf);
        assert_eq!(it.limited(1 << 20, AtomicLimit::Mdts), it);
        let cut = it.limited(32 << 10, AtomicLimit::Mdts);
        assert_eq!((cut.write_bytes, cut.limit), (32 << 10, AtomicLimit::Mdts));
        assert_eq!(cut.whole_write(0, 64 << 10), None);
        assert_eq!(it.limited(0, AtomicLimit::Merges).whole(4096, 0, 16384, 5000).0, 4096..8192);
    }

    #[test]
    fn merged_writes_are_whole_only_where_the_longest_command_is() {
        let it = AtomicWrites::up_to(64 << 10, AtomicSource::Nawupf);
        assert_eq!(it.merged(64 << 10), it);
        let merged = it.merged(65 << 10);
        assert_eq!((merged.whole_write(0, 8192), merged.limit), (None, AtomicLimit::Merges));
        // A merged command may cross a boundary that its writes do not.
        let boundaries = Boundaries { every: 64 << 10, first: 0 };
        let bounded = AtomicWrites { boundaries, crossing_bytes: 8192, ..it };
        assert_eq!(bounded.merged(64 << 10).whole_write(0, 8192), None);
        assert_eq!(bounded.merged(8192), bounded);
    }

    #[test]
    fn spdk_sends_no_more_than_a_command_and_nothing_across_a_stripe() {
        let it = AtomicWrites::up_to(128 << 10, AtomicSource::Awupf);
        assert_eq!(it.over_spdk(128 << 10, 0, 512), it);
        let short = it.over_spdk(64 << 10, 0, 512);
        assert_eq!((short.write_bytes, short.limit), (64 << 10, AtomicLimit::Mdts));
        let striped = it.over_spdk(1 << 20, 256, 512);
        assert_eq!(striped.whole_write(0, 128 << 10), Some(AtomicSource::Awupf));
        assert_eq!(striped.whole_write(4096, 128 << 10), None, "two commands");
        let odd = it.over_spdk(1 << 20, 250, 512);
        assert_eq!((odd.whole_write(0, 4096), odd.limit), (None, AtomicLimit::Stripes));
    }

    #[test]
    fn what_is_promised_is_said_with_its_source_and_its_limit() {
        let it = AtomicWrites::up_to(16384, AtomicSource::Nawupf);
        assert_eq!(it.describe(), "writes up to 16 KiB whole (NAWUPF)");
        assert_eq!(
            it.limited(0, AtomicLimit::Merges).describe(),
            "only logical blocks whole (queue/nomerges is not 2)"
        );
        assert_eq!(AtomicWrites::in_units(8192).describe(), "aligned units of 8 KiB whole (sim_atomic_unit)");
        let boundaries = Boundaries { every: 65536, first: 0 };
        let bounded = AtomicWrites { boundaries, crossing_bytes: 4096, ..it }.over_spdk(8192, 32, 4096);
        assert_eq!(
            bounded.describe(),
            "writes up to 8 KiB whole (NAWUPF inside boundaries of 64 KiB, across them 4 KiB (AWUPF); split every 128 \
             KiB; limited: MDTS)"
        );
    }

    #[test]
    fn offsets_at_the_end_of_all_numbers_do_no_harm() {
        let it =
            AtomicWrites { splits: Boundaries { every: u64::MAX, first: 3 }, ..AtomicWrites::in_units(8192) };
        let (range, _) = it.whole(512, u64::MAX - 511, 512, u64::MAX - 1);
        assert!(range.contains(&(u64::MAX - 1)));
    }
}
