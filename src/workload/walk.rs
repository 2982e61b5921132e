//! Orders that no permutation has: one window of a region after the other, and the pass of random
//! writes that ages a device. Nothing of them is inverted: a history goes through them again.

use std::collections::VecDeque;

use crate::base::permutation::Permutation;
use crate::base::random;
use crate::base::shape::{BlockSizes, Places, SpRandom, Strides};

use super::stream::{RegionStream, StreamSpec};
use super::{Region, WorkloadError};

/// A way over one region.
#[derive(Clone, Debug)]
pub(super) enum Walk {
    Windows(Windows),
    Ageing(Ageing),
}

impl Walk {
    /// The way that the job asks for, if it is none of the usual ones.
    pub(super) fn of(
        spec: &StreamSpec<'_>,
        region: &Region,
        key: u64,
    ) -> Result<Option<Walk>, WorkloadError> {
        if let Some(strides) = spec.places.strides {
            return Windows::new(spec, strides, region, key).map(|windows| Some(Walk::Windows(windows)));
        }
        match spec.places.sprandom {
            Some(rule) => {
                Ageing::new(&rule, spec.sizes, region, key).map(|ageing| Some(Walk::Ageing(ageing)))
            }
            None => Ok(None),
        }
    }

    pub(super) fn begin_pass(&mut self, pass: u64) {
        match self {
            // Windows go on where they are.
            Walk::Windows(windows) => windows.left_in_pass = windows.pass_bytes.unwrap_or(u64::MAX),
            Walk::Ageing(ageing) => ageing.begin_pass(pass),
        }
    }

    /// Offset in the region and length of what comes next; `None` at the end of a pass.
    #[inline(never)]
    pub(super) fn next(&mut self) -> Option<(u64, u32)> {
        match self {
            Walk::Windows(windows) => windows.next(),
            Walk::Ageing(ageing) => ageing.next(),
        }
    }
}

/// One window after the other, so many bytes in each; behind the last one again the first.
#[derive(Clone, Debug)]
pub(super) struct Windows {
    strides: Strides,
    /// What happens in a window, counted from its beginning.
    whole: Box<RegionStream>,
    /// The same for a window that the end of the region cuts short, and its amount.
    last: Option<(Box<RegionStream>, u64)>,
    whole_windows: u64,
    window: u64,
    left: u64,
    /// Passes over windows so far: each has an order of its own.
    passes: u64,
    /// A pass over the region is as many bytes as it has, if passes are counted at all.
    pass_bytes: Option<u64>,
    left_in_pass: u64,
}

impl Windows {
    fn new(
        spec: &StreamSpec<'_>,
        strides: Strides,
        region: &Region,
        key: u64,
    ) -> Result<Windows, WorkloadError> {
        let places = Places { strides: None, ..spec.places.clone() };
        let inside = StreamSpec { places: &places, max_passes: None, ..spec.clone() };
        let of =
            |bytes: u64| RegionStream::new(&inside, &Region { target: region.target, start: 0, bytes }, key);
        let whole_bytes = strides.range.min(region.bytes);
        let whole = of(whole_bytes)?;
        let whole_windows = (region.bytes - whole_bytes) / strides.step() + 1;
        let rest = region.bytes.saturating_sub(whole_windows.saturating_mul(strides.step()));
        // A rest in which not one I/O has room is no window.
        let last = if rest > 0 { of(rest).ok() } else { None };
        let amount = u128::from(strides.amount) * u128::from(rest) / u128::from(strides.range);
        let amount = u64::try_from(amount).unwrap_or(u64::MAX).max(1);
        Ok(Windows {
            strides,
            whole: Box::new(whole),
            last: last.map(|last| (Box::new(last), amount)),
            whole_windows,
            window: 0,
            left: strides.amount,
            passes: 0,
            pass_bytes: spec.max_passes.map(|_| region.bytes),
            left_in_pass: spec.max_passes.map_or(u64::MAX, |_| region.bytes),
        })
    }

    fn next(&mut self) -> Option<(u64, u32)> {
        if self.left_in_pass == 0 {
            return None;
        }
        if self.left == 0 {
            self.begin_next_window();
        }
        let stream = match &mut self.last {
            Some((last, _)) if self.window == self.whole_windows => last,
            _ => &mut self.whole,
        };
        let place = match stream.next() {
            Some(place) => place,
            None => {
                self.passes += 1;
                stream.begin_pass(self.passes);
                stream.next()?
            }
        };
        self.left = self.left.saturating_sub(u64::from(place.len));
        if self.pass_bytes.is_some() {
            self.left_in_pass = self.left_in_pass.saturating_sub(u64::from(place.len));
        }
        Some((self.window * self.strides.step() + place.offset, place.len))
    }

    fn begin_next_window(&mut self) {
        self.window += 1;
        self.passes += 1;
        self.left = self.strides.amount;
        match &mut self.last {
            Some((last, amount)) if self.window == self.whole_windows => {
                self.left = *amount;
                last.begin_pass(self.passes);
                last.forget_neighbour();
                return;
            }
            _ if self.window >= self.whole_windows => self.window = 0,
            _ => {}
        }
        self.whole.begin_pass(self.passes);
        self.whole.forget_neighbour();
    }
}

/// Writes a device as full as it is in truth, spare area and all, in parts: each part begins with
/// (or, for the sake of a cache, ends with) blocks of the part before once more, so that of what was
/// written there as much is stale as after a long time of random writes.
///
/// How much that is follows P. Desnoyers, "Analytic Models of SSD Write Performance" (ACM Transactions
/// on Storage 8, 2, 2012): parts in which a share v of the blocks is current take up room in
/// proportion to 1 / v.
#[derive(Clone, Debug)]
pub(super) struct Ageing {
    block: u32,
    key: u64,
    /// Blocks in the order in which they are first written.
    order: Permutation,
    fresh: u64,
    /// Share of each part that is written again, as a fraction of 2^32.
    stale: Box<[u64]>,
    writes_per_part: u64,
    part: usize,
    /// First writes that this part still has room for.
    left: u64,
    /// To be written again, in this part and in the one after it. They never grow.
    again: VecDeque<u64>,
    staged: VecDeque<u64>,
    room: usize,
    deferred: bool,
}

impl Ageing {
    fn new(rule: &SpRandom, sizes: &BlockSizes, region: &Region, key: u64) -> Result<Ageing, WorkloadError> {
        let block = sizes.min();
        let blocks = region.bytes / u64::from(block);
        if blocks == 0 {
            return Err(WorkloadError(format!(
                "a region of {} bytes holds no block of {block}",
                region.bytes
            )));
        }
        let current = shares_that_are_current(rule);
        #[expect(clippy::cast_precision_loss, reason = "a share of a device")]
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "above 0")]
        let spare = (blocks as f64 * rule.over_provisioning).ceil() as u64;
        let writes_per_part = (blocks + spare) / u64::from(rule.parts);
        let part_bytes = writes_per_part.saturating_mul(u64::from(block));
        if writes_per_part == 0 || rule.cache_bytes > part_bytes {
            return Err(WorkloadError(format!(
                "a part of sprandom has {part_bytes} bytes, fewer than a block or than `spr_cs`: lower spr_num_regions",
            )));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "shares are 0 to 1")]
        let stale: Box<[u64]> =
            current.iter().map(|share| ((1.0 - share) * 4_294_967_296.0).round() as u64).collect();
        let room = most_again(writes_per_part, stale.iter().copied().max().unwrap_or(0));
        let room = usize::try_from(room).map_err(|_| WorkloadError("too many blocks a part".to_owned()))?;
        let mut ageing = Ageing {
            block,
            key,
            order: Permutation::new(key, blocks),
            fresh: 0,
            stale,
            writes_per_part,
            part: 0,
            left: writes_per_part,
            again: VecDeque::with_capacity(room),
            staged: VecDeque::with_capacity(room),
            room,
            deferred: rule.cache_bytes > 0,
        };
        ageing.begin_pass(0);
        Ok(ageing)
    }

    fn begin_pass(&mut self, pass: u64) {
        self.order = Permutation::new(random::derive(self.key, 2 * pass), self.order.len());
        (self.fresh, self.part, self.left) = (0, 0, self.writes_per_part);
        self.again.clear();
        self.staged.clear();
    }

    fn next(&mut self) -> Option<(u64, u32)> {
        loop {
            let fresh_are_due = self.left > 0 && self.fresh < self.order.len();
            let block = if !(self.deferred && fresh_are_due)
                && let Some(block) = self.again.pop_front()
            {
                block
            } else if fresh_are_due {
                self.left -= 1;
                self.fresh += 1;
                self.order.at(self.fresh - 1)
            } else if self.fresh < self.order.len() {
                self.begin_next_part();
                continue;
            } else {
                return None;
            };
            self.stage(block);
            return Some((block * u64::from(self.block), self.block));
        }
    }

    fn begin_next_part(&mut self) {
        std::mem::swap(&mut self.again, &mut self.staged);
        self.staged.clear();
        self.part += 1;
        // Behind the last part come blocks that rounding has left over: one part more, of them alone.
        let again = self.again.len() as u64;
        self.left = self.writes_per_part.saturating_sub(again).max(1);
        if self.part >= self.stale.len() {
            self.again.clear();
            self.left = u64::MAX;
        }
    }

    /// Decides whether the write of `block` in this part will be overwritten in the next.
    fn stage(&mut self, block: u64) {
        let share = self.stale.get(self.part).copied().unwrap_or(0);
        let bits = random::at(random::derive(self.key, 2 * self.part as u64 + 1), block);
        if bits >> 32 < share && self.staged.len() < self.room {
            self.staged.push_back(block);
        }
    }
}

/// Blocks of a part that are written again, at most: six deviations above the mean.
#[expect(clippy::cast_precision_loss, reason = "a bound")]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "above 0")]
fn most_again(writes: u64, stale: u64) -> u64 {
    let share = stale as f64 / 4_294_967_296.0;
    let deviation = (writes as f64 * share * (1.0 - share)).sqrt();
    (writes as f64 * share + 6.0 * deviation).ceil() as u64 + 1
}

/// Which share of each part is current in the end: of the first part, which the device would clean
/// up next, the least.
#[expect(clippy::cast_precision_loss, reason = "a number of parts")]
fn shares_that_are_current(rule: &SpRandom) -> Vec<f64> {
    let parts = rule.parts.max(1) as usize;
    let amplification = 0.5 / rule.over_provisioning + 0.7;
    let least = 1.0 - 1.0 / amplification.max(1.0);
    let level = |index: usize| 1.0 - (1.0 - least) * index as f64 / (parts - 1).max(1) as f64;
    // Levels equally far apart, each with the room it takes up; then the level at equal steps of room.
    let mut reached = 0.0;
    let curve: Vec<(f64, f64)> = (0..parts)
        .map(|index| {
            reached += 1.0 / level(index);
            (reached, level(index))
        })
        .collect();
    let (from, to) = (curve[0].0, reached);
    let at = |part: usize| {
        let room = from + (to - from) * part as f64 / (parts - 1).max(1) as f64;
        let next = curve.partition_point(|&(reached, _)| reached < room).clamp(1, parts.max(2) - 1);
        let (Some(&(x0, y0)), Some(&(x1, y1))) = (curve.get(next - 1), curve.get(next)) else {
            return curve[0].1;
        };
        y0 + (y1 - y0) * ((room - x0) / (x1 - x0)).clamp(0.0, 1.0)
    };
    (0..parts).rev().map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::PerOp;
    use crate::base::shape::{Distribution, Mix};
    use crate::workload::{Limit, Workload, WorkloadSpec};
    use proptest::prelude::*;

    const BS: u64 = 4096;

    fn spec(blocks: u64, random: bool, places: Places, limit: Limit) -> WorkloadSpec {
        WorkloadSpec {
            regions: vec![Region { target: 0, start: 0, bytes: blocks * BS }],
            service: Default::default(),
            log: None,
            mix: Mix::Write,
            read_percent: 0,
            random,
            coverage: true,
            modifier: None,
            sizes: PerOp::all(BlockSizes::Fixed(4096)),
            align: PerOp::all(0),
            distribution: PerOp::all(Distribution::Random),
            percentage_random: PerOp::all(100),
            places,
            trim: None,
            seed: 3,
            limit,
        }
    }

    fn blocks_of(spec: &WorkloadSpec) -> Vec<u64> {
        let mut workload = Workload::new(spec).unwrap();
        std::iter::from_fn(|| workload.next()).map(|step| step.offset / BS).collect()
    }

    fn strided(blocks: u64, random: bool, amount: u64, range: u64, skip: u64) -> Vec<u64> {
        let strides = Strides { amount: amount * BS, range: range * BS, skip: skip * BS };
        let places = Places { strides: Some(strides), ..Places::default() };
        blocks_of(&spec(blocks, random, places, Limit { bytes: Some(blocks * BS), ..Limit::default() }))
    }

    #[test]
    fn windows_follow_each_other_with_what_is_skipped_between_them() {
        assert_eq!(strided(16, false, 2, 2, 2), [0, 1, 4, 5, 8, 9, 12, 13, 0, 1, 4, 5, 8, 9, 12, 13]);
        assert_eq!(strided(16, false, 4, 2, 1), [0, 1, 0, 1, 3, 4, 3, 4, 6, 7, 6, 7, 9, 10, 9, 10]);
        // A part of each window, and a last one that is cut short.
        assert_eq!(strided(16, false, 2, 4, 1)[..8], [0, 1, 5, 6, 10, 11, 15, 0]);
    }

    #[test]
    fn passes_over_windows_end_with_as_many_bytes_as_the_region_has() {
        let strides = Strides { amount: 2 * BS, range: 2 * BS, skip: BS };
        let places = Places { strides: Some(strides), ..Places::default() };
        let limit = Limit { passes: Some(3), ..Limit::default() };
        assert_eq!(blocks_of(&spec(20, false, places, limit)).len(), 60);
    }

    #[test]
    fn random_windows_have_each_block_once_a_pass() {
        let visits = strided(64, true, 32, 16, 16);
        for (number, pass) in visits.chunks(16).enumerate() {
            let mut sorted = pass.to_vec();
            sorted.sort_unstable();
            let start = if number < 2 { 0 } else { 32 };
            assert_eq!(sorted, (start..start + 16).collect::<Vec<_>>());
            assert_ne!(sorted, pass);
        }
        assert_ne!(visits[..16], visits[16..32]);
    }

    proptest! {
        #[test]
        fn windows_never_leave_the_region_nor_touch_what_is_skipped(
            blocks in 1_u64..200, amount in 1_u64..60, range in 1_u64..60, skip in 0_u64..60, random: bool,
        ) {
            for block in strided(blocks, random, amount, range, skip) {
                prop_assert!(block < blocks && block % (range + skip) < range);
            }
        }
    }

    fn aged(blocks: u64, over_provisioning: f64, parts: u32, cache_bytes: u64) -> Vec<u64> {
        let rule = SpRandom { over_provisioning, parts, cache_bytes };
        let places = Places { sprandom: Some(rule), ..Places::default() };
        blocks_of(&spec(blocks, true, places, Limit { passes: Some(1), ..Limit::default() }))
    }

    #[test]
    fn ageing_writes_every_block_and_the_spare_area_too() {
        for (over_provisioning, cache) in [(0.07, 0), (0.15, 0), (0.28, 0), (0.15, 4096)] {
            let visits = aged(100_000, over_provisioning, 100, cache);
            let mut seen = vec![false; 100_000];
            visits.iter().for_each(|&block| seen[usize::try_from(block).unwrap()] = true);
            assert!(seen.iter().all(|&seen| seen));
            let written = visits.len() as f64 / 100_000.0;
            assert!(
                (written / (1.0 + over_provisioning) - 1.0).abs() < 0.03,
                "{over_provisioning}: {written}"
            );
        }
    }

    #[test]
    fn of_older_parts_less_is_current_as_the_model_says() {
        let rule = SpRandom { over_provisioning: 0.15, parts: 20, cache_bytes: 0 };
        let wanted = shares_that_are_current(&rule);
        assert!(wanted.is_sorted() && (wanted[19] - 1.0).abs() < 1e-9, "{wanted:?}");
        let visits = aged(400_000, 0.15, 20, 0);
        let mut newest = vec![0; 400_000];
        for (at, &block) in visits.iter().enumerate() {
            newest[usize::try_from(block).unwrap()] = at;
        }
        let part = 400_000 * 115 / 100 / 20;
        for (number, writes) in visits.chunks(part).take(19).enumerate() {
            let current = writes
                .iter()
                .enumerate()
                .filter(|&(at, &block)| newest[usize::try_from(block).unwrap()] == number * part + at);
            let share = current.count() as f64 / part as f64;
            assert!((share - wanted[number]).abs() < 0.02, "part {number}: {share} for {}", wanted[number]);
        }
    }

    #[test]
    fn with_a_cache_nothing_is_overwritten_within_a_part() {
        let part = 100_000 * 115 / 100 / 50;
        for (cache, least) in [(0, 1), (4096, part / 2)] {
            let visits = aged(100_000, 0.15, 50, cache);
            let mut newest = vec![None; 100_000];
            let mut distance = usize::MAX;
            for (at, &block) in visits.iter().enumerate() {
                let before: Option<usize> = newest[usize::try_from(block).unwrap()].replace(at);
                distance = distance.min(before.map_or(usize::MAX, |before| at - before));
            }
            assert!(distance >= least, "{distance}");
        }
    }
}
