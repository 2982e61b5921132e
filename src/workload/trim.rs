//! Trims of what was written (`trim_percentage`, `trim_backlog`, `trim_backlog_batch`): which writes
//! are trimmed and when, as a function of how many writes were issued and of nothing else.

use crate::base::permutation::Permutation;
use crate::base::random;

use super::stream::{Place, Stream};
use super::{MIX_GROUP, TrimRule};

/// How many orders of a hundred there are, apart from where in it each begins.
const ORDERS: u64 = 16;

/// Which writes are trimmed and when: in every hundred exactly as many as the percentage says, in
/// an order that differs from hundred to hundred. Both directions take no memory and no search: a
/// hundred is one of a few rows of bits, turned.
#[derive(Clone, Debug)]
pub(super) struct TrimPlan {
    percent: u64,
    /// Writes of one group, never 0.
    batch: u64,
    /// Writes issued since the beginning of a group when it is trimmed.
    delay: u64,
    key: u64,
    rows: [u128; ORDERS as usize],
}

impl TrimPlan {
    pub(super) fn new(rule: &TrimRule, key: u64) -> TrimPlan {
        let percent = u64::from(rule.percent.min(100));
        let batch = if rule.batch == 0 { rule.backlog } else { rule.batch }.max(1);
        let rows = std::array::from_fn(|row| {
            let order = Permutation::new(random::derive(key, row as u64), MIX_GROUP);
            (0..percent).fold(0, |bits, rank| bits | 1 << order.at(rank))
        });
        TrimPlan { percent, batch, delay: batch.max(rule.backlog), key: random::derive(key, ORDERS), rows }
    }

    /// The row of a hundred, and where it begins in it.
    #[inline]
    fn row(&self, hundred: u64) -> (u128, u64) {
        let bits = random::at(self.key, hundred);
        let row = usize::try_from(bits % ORDERS).unwrap_or(0);
        (self.rows[row], random::below(bits, MIX_GROUP))
    }

    /// Whether write `k` is trimmed.
    #[inline]
    pub(super) fn chooses(&self, k: u64) -> bool {
        let (row, shift) = self.row(k / MIX_GROUP);
        row >> ((k % MIX_GROUP + shift) % MIX_GROUP) & 1 == 1
    }

    /// How many of the first `writes` are trimmed: the number of the trim of write `writes`, if it
    /// is.
    pub(super) fn rank(&self, writes: u64) -> u64 {
        let (row, shift) = self.row(writes / MIX_GROUP);
        let first = |bits: u64| u64::from((row & ((1 << bits) - 1)).count_ones());
        let end = shift + writes % MIX_GROUP;
        let inside = first(end.min(MIX_GROUP)) - first(shift) + first(end.saturating_sub(MIX_GROUP));
        writes / MIX_GROUP * self.percent + inside
    }

    /// The write that trim `trim` is for.
    pub(super) fn write_of(&self, trim: u64) -> u64 {
        let hundred = trim / self.percent * MIX_GROUP;
        let of_hundred = (hundred..hundred + MIX_GROUP).filter(|&k| self.chooses(k));
        let nth = usize::try_from(trim % self.percent).unwrap_or(0);
        of_hundred.into_iter().nth(nth).expect("a hundred has as many as the percentage")
    }

    /// How many writes must be issued before write `k` is trimmed: its trim comes right behind.
    #[inline]
    pub(super) fn due_at(&self, k: u64) -> u64 {
        (k / self.batch * self.batch).saturating_add(self.delay)
    }

    /// How many writes were or are not to be trimmed once `writes` have been issued.
    #[inline]
    pub(super) fn due(&self, writes: u64) -> u64 {
        match writes.checked_sub(self.delay) {
            Some(behind) => (behind / self.batch + 1) * self.batch,
            None => 0,
        }
    }
}

/// Issues the trims of a workload: goes through the places of its writes a second time, behind.
#[derive(Clone, Debug)]
pub(super) struct Trimmer {
    plan: TrimPlan,
    places: Stream,
    reached: u64,
    due: u64,
}

impl Trimmer {
    /// `places` are those of the writes, from the first.
    pub(super) fn new(plan: TrimPlan, places: Stream) -> Trimmer {
        Trimmer { plan, places, reached: 0, due: 0 }
    }

    /// The place to trim now that `writes` were issued, if there is one left.
    pub(super) fn next(&mut self, writes: u64) -> Option<Place> {
        if self.reached == self.due {
            self.due = self.plan.due(writes);
        }
        while self.reached < self.due {
            let place = self.places.next()?;
            self.reached += 1;
            if self.plan.chooses(self.reached - 1) {
                return Some(place);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ranks_and_places_of_trims_are_those_of_counting(
            percent in 1_u32..=100, backlog in 0_u64..300, batch in 0_u64..300, key: u64,
        ) {
            let plan = TrimPlan::new(&TrimRule { percent, backlog, batch }, key);
            let mut trims = 0;
            for k in 0..1000 {
                prop_assert_eq!(plan.rank(k), trims);
                if k % 100 == 0 {
                    prop_assert_eq!(trims, k / 100 * u64::from(percent));
                }
                if plan.chooses(k) {
                    prop_assert_eq!(plan.write_of(trims), k);
                    trims += 1;
                }
                prop_assert!(plan.due_at(k) > k && plan.due_at(k) >= backlog);
                prop_assert!(plan.due(plan.due_at(k)) > k && plan.due(plan.due_at(k) - 1) <= k);
            }
        }
    }

    #[test]
    fn hundreds_differ() {
        let plan = TrimPlan::new(&TrimRule { percent: 50, backlog: 0, batch: 0 }, 7);
        let hundred = |n: u64| (n * 100..n * 100 + 100).map(|k| plan.chooses(k)).collect::<Vec<_>>();
        assert!((1..50).filter(|&n| hundred(n) == hundred(0)).count() < 2);
    }
}
