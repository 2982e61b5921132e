//! Latencies by the I/O priority that commands carried.

use crate::base::Op;
use crate::base::ioprio::{CommandPriorities, IoPriority};

use super::Histogram;

/// Completion latencies of every command and priority that a job may give.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ByPriority(Vec<(Op, IoPriority, Histogram)>);

impl ByPriority {
    /// Room for all priorities that `rule` gives, and for the usual one.
    #[must_use]
    pub fn of(rule: &CommandPriorities) -> ByPriority {
        let mut all = ByPriority::default();
        for (op, shares) in rule.shares.iter() {
            let priorities = shares.iter().map(|share| share.priority);
            for priority in std::iter::once(rule.usual).chain(priorities) {
                if all.get(op, priority).is_none() {
                    all.0.push((op, priority, Histogram::default()));
                }
            }
        }
        all
    }

    /// These latencies; of one command and priority the first ones.
    #[must_use]
    pub fn from_entries(entries: Vec<(Op, IoPriority, Histogram)>) -> ByPriority {
        let mut all = ByPriority::default();
        for (op, priority, clat) in entries {
            if all.get(op, priority).is_none() {
                all.0.push((op, priority, clat));
            }
        }
        all
    }

    /// All that has been counted, and what there is room for.
    pub fn entries(&self) -> impl Iterator<Item = (Op, IoPriority, &Histogram)> {
        self.0.iter().map(|(op, priority, clat)| (*op, *priority, clat))
    }

    fn get(&mut self, op: Op, priority: IoPriority) -> Option<&mut Histogram> {
        let mut all = self.0.iter_mut();
        all.find(|(of, is, _)| (*of, *is) == (op, priority)).map(|(_, _, histogram)| histogram)
    }

    /// Counts one latency in nanoseconds.
    pub fn record(&mut self, op: Op, priority: IoPriority, clat_ns: u64) {
        if let Some(histogram) = self.get(op, priority) {
            histogram.record(clat_ns);
        }
    }

    /// The latencies of `op` by priority, if there were at least two different ones.
    pub fn told(&self, op: Op) -> impl Iterator<Item = (IoPriority, &Histogram)> {
        let used = move |entry: &&(Op, IoPriority, Histogram)| entry.0 == op && entry.2.count() > 0;
        let several = self.0.iter().filter(used).count() > 1;
        self.0.iter().filter(used).filter(move |_| several).map(|(_, priority, clat)| (*priority, clat))
    }

    /// Adds what another worker has counted.
    pub fn merge(&mut self, other: &ByPriority) {
        for (op, priority, theirs) in &other.0 {
            match self.get(*op, *priority) {
                Some(mine) => mine.merge(theirs),
                None => self.0.push((*op, *priority, theirs.clone())),
            }
        }
    }

    /// Takes over what `other` has counted, without allocating.
    pub fn copy_from(&mut self, other: &ByPriority) {
        for (op, priority, theirs) in &other.0 {
            if let Some(mine) = self.get(*op, *priority) {
                mine.copy_from(theirs);
            }
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.0.iter_mut().for_each(|(_, _, histogram)| histogram.clear());
    }
}
