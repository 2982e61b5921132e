//! Rates over the report's intervals, from the numbers that workers publish while they run.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::base::pause::Pauses;
use crate::base::units::SECOND_NS;
use crate::base::{Op, PerOp};
use crate::reactor::{Live, WorkerState};

use super::outcome::{Entry, Outcome};

/// Totals at the last look.
#[derive(Default)]
pub struct Meter {
    pub last_ns: u64,
    pub ios: PerOp<u64>,
    pub bytes: PerOp<u64>,
}

/// Rates of the report's intervals.
pub struct Sampler {
    entries: Vec<Sampled>,
}

/// One entry of the report: bandwidth and IOPS have intervals of their own.
struct Sampled {
    bandwidth: Series,
    iops: Series,
}

struct Series {
    interval_ns: u64,
    next_ns: u64,
    /// When it was last looked at while all workers ran, and the totals then.
    last: Option<(u64, PerOp<u64>)>,
    /// Whether an interval has ended.
    begun: bool,
}

impl Sampler {
    pub fn new(outcome: &mut Outcome, begun_ns: u64) -> Sampler {
        let series = |interval_ns: u64| Series {
            interval_ns,
            next_ns: begun_ns.saturating_add(interval_ns),
            last: None,
            begun: false,
        };
        let entries = outcome.entries.iter().map(|entry| {
            let logs = &entry.spec.logs;
            let (bandwidth, iops) = (logs.report_bandwidth_ns(), logs.report_iops_ns());
            Sampled { bandwidth: series(bandwidth), iops: series(iops) }
        });
        let entries = entries.collect();
        if let Some(log) = &mut outcome.logs.aggregate {
            log.begin(begun_ns);
        }
        Sampler { entries }
    }

    /// How long to wait between two looks: `most`, or less for short intervals.
    pub fn tick(&self, most: Duration) -> Duration {
        let intervals = self.entries.iter().flat_map(|e| [e.bandwidth.interval_ns, e.iops.interval_ns]);
        intervals.map(Duration::from_nanos).fold(most, Duration::min)
    }

    /// An interval counts if all workers of the entry ran through all of it, and the process did.
    pub fn sample(&mut self, outcome: &mut Outcome, now_ns: u64) {
        let pauses = Arc::clone(&outcome.pauses);
        for (entry, sampled) in outcome.entries.iter_mut().zip(&mut self.entries) {
            let moved =
                sampled.bandwidth.look(entry, &pauses, now_ns, |live, op| live.bytes.get(op).load(Relaxed));
            let ended = sampled.iops.look(entry, &pauses, now_ns, |live, op| live.ios.get(op).load(Relaxed));
            for (op, samples) in entry.samples.iter_mut().filter(|(op, _)| entry.spec.mix.issues(*op)) {
                let moved = moved.as_ref().filter(|_| entry.spec.measuring.measures_bandwidth());
                samples.bandwidth.extend(moved.map(|rates| *rates.get(op)));
                samples.iops.extend(ended.as_ref().map(|rates| *rates.get(op)));
            }
        }
    }
}

impl Series {
    /// The rates of the interval that ends now, if one does.
    fn look(
        &mut self,
        entry: &Entry,
        pauses: &Pauses,
        now_ns: u64,
        read: fn(&Live, Op) -> u64,
    ) -> Option<PerOp<f64>> {
        if now_ns < self.next_ns {
            return None;
        }
        self.next_ns = now_ns.saturating_add(self.interval_ns);
        let steady =
            !entry.live.is_empty() && entry.live.iter().all(|live| live.state() == WorkerState::Running);
        if !steady {
            self.last = None;
            return None;
        }
        let now = PerOp::from_fn(|op| entry.live.iter().map(|live| read(live, op)).sum::<u64>());
        // The first interval begins with the counting, not with the first look, if all began together.
        let starts = || entry.live.iter().map(|live| live.start_ns.load(Relaxed));
        let (earliest_ns, begun_ns) = (starts().min().unwrap_or(0), starts().max().unwrap_or(0));
        let together = earliest_ns > 0 && begun_ns - earliest_ns <= self.interval_ns / 20;
        let first = (!self.begun && together && begun_ns < now_ns).then_some((begun_ns, PerOp::default()));
        if first.is_some() && self.last.is_none() && now_ns - begun_ns < self.interval_ns / 2 {
            // A few I/Os behind a ramp are no rate: they are part of the next interval.
            return None;
        }
        let before = self.last.replace((now_ns, now.clone())).or(first);
        let (before_ns, before) = before?;
        self.begun = true;
        if pauses.touch(before_ns, now_ns) {
            return None;
        }
        let seconds = (now_ns - before_ns) as f64 / SECOND_NS as f64;
        Some(PerOp::from_fn(|op| now.get(op).saturating_sub(*before.get(op)) as f64 / seconds))
    }
}
