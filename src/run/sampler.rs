//! Rates over the report's intervals, from the numbers that workers publish while they run.

use std::sync::atomic::Ordering::Relaxed;

use crate::base::units::SECOND_NS;
use crate::base::{Op, PerOp};
use crate::reactor::{Live, WorkerState};

use super::outcome::Outcome;

/// Totals at the last look.
#[derive(Default)]
pub struct Meter {
    pub last_ns: u64,
    pub ios: PerOp<u64>,
    pub bytes: PerOp<u64>,
}

/// Rates of the report's intervals.
pub struct Sampler {
    /// Per entry: when it was last looked at while all its workers ran, and its totals then.
    last: Vec<Option<Meter>>,
}

impl Sampler {
    pub fn new(entries: usize) -> Sampler {
        Sampler { last: (0..entries).map(|_| None).collect() }
    }

    /// An interval counts if all workers of the entry ran through all of it.
    pub fn sample(&mut self, outcome: &mut Outcome, now_ns: u64) {
        for (entry, last) in outcome.entries.iter_mut().zip(&mut self.last) {
            let steady =
                !entry.live.is_empty() && entry.live.iter().all(|live| live.state() == WorkerState::Running);
            if !steady {
                *last = None;
                continue;
            }
            let sum = |read: fn(&Live, Op) -> u64| {
                PerOp::from_fn(|op| entry.live.iter().map(|live| read(live, op)).sum::<u64>())
            };
            let now = Meter {
                last_ns: now_ns,
                ios: sum(|live, op| live.ios.get(op).load(Relaxed)),
                bytes: sum(|live, op| live.bytes.get(op).load(Relaxed)),
            };
            // The first interval begins with the counting, not with the first look.
            let begun = entry.live.iter().map(|live| live.start_ns.load(Relaxed)).max().unwrap_or(0);
            let first = Meter { last_ns: begun, ..Meter::default() };
            let is_first = entry.samples.iter().all(|(_, samples)| samples.iops.is_empty());
            let before = last.take().or((is_first && begun > 0 && begun < now_ns).then_some(first));
            if let Some(before) = before {
                let seconds = (now_ns - before.last_ns) as f64 / SECOND_NS as f64;
                for (op, samples) in entry.samples.iter_mut() {
                    let delta = |now: &PerOp<u64>, before: &PerOp<u64>| {
                        now.get(op).saturating_sub(*before.get(op)) as f64 / seconds
                    };
                    if entry.spec.mix.issues(op) {
                        samples.iops.push(delta(&now.ios, &before.ios));
                        if entry.spec.measuring.measures_bandwidth() {
                            samples.bandwidth.push(delta(&now.bytes, &before.bytes));
                        }
                    }
                }
            }
            *last = Some(now);
        }
    }
}
