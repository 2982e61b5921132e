//! Numbers that the formats share, derived from what was counted.
#![expect(clippy::cast_precision_loss, reason = "rates and shares for people and plots")]

use crate::base::Op;
use crate::stats::{BATCH_LEVELS, BatchCounts, DEPTH_LEVELS, OpStats, WorkerStats};

use super::{CpuUse, IntervalSummary, JobReport, ReactorReport, Report};

/// Names of the levels of the depth distribution in fio's JSON.
pub(super) const DEPTH_NAMES: [&str; DEPTH_LEVELS] = ["1", "2", "4", "8", "16", "32", ">=64"];
/// Names of the levels of batches in fio's JSON. "4" means 1 to 4, "64" 33 to 64, ">=64" more.
pub(super) const BATCH_NAMES: [&str; 7] = ["0", "4", "8", "16", "32", "64", ">=64"];
/// Our finer levels of batches.
pub(super) const FINE_BATCH_NAMES: [&str; BATCH_LEVELS] =
    ["1", "2", "3-4", "5-8", "9-16", "17-32", "33-64", ">64"];

/// `part` of `whole` in percent; 0 of nothing.
pub(super) fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

/// A count in `ns` nanoseconds as a rate a second; 0 if no time went by.
pub(super) fn per_second(count: u64, ns: u64) -> f64 {
    if ns == 0 { 0.0 } else { count as f64 * 1e9 / ns as f64 }
}

/// A share of each level in percent.
pub(super) fn shares<const N: usize>(counts: &[u64; N]) -> [f64; N] {
    let whole = counts.iter().sum();
    counts.map(|count| percent(count, whole))
}

/// Batches in fio's levels. A batch of none is not counted by us, so "0" stays 0.
pub(super) fn fio_batches(batches: &BatchCounts) -> [u64; 7] {
    let [one, two, four, eight, sixteen, thirty_two, sixty_four, more] = *batches.levels();
    [0, one + two + four, eight, sixteen, thirty_two, sixty_four, more]
}

/// Time of a direction in nanoseconds: that of the worker, if the direction was used at all.
pub(super) fn runtime_ns(stats: &WorkerStats, op: Op) -> u64 {
    if stats.ops.get(op).ios == 0 { 0 } else { stats.runtime_ns() }
}

/// What a direction did a second, and over which time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rates {
    /// I/Os a second.
    pub iops: f64,
    /// Bytes a second.
    pub bandwidth: f64,
    /// The time in nanoseconds.
    pub time_ns: u64,
}

impl Rates {
    /// Those of `counts` over `time_ns`.
    pub(super) fn of(counts: &OpStats, time_ns: u64) -> Rates {
        Rates { iops: per_second(counts.ios, time_ns), bandwidth: per_second(counts.bytes, time_ns), time_ns }
    }
}

/// Whether there is anything to say of a direction.
pub(super) fn was_used(op: &OpStats) -> bool {
    op.ios > 0 || op.failed > 0
}

/// Bytes a second of a direction.
pub(super) fn bandwidth(stats: &WorkerStats, op: Op) -> f64 {
    per_second(stats.ops.get(op).bytes, runtime_ns(stats, op))
}

/// All directions of a job as one.
pub(super) fn mixed(stats: &WorkerStats) -> OpStats {
    let mut all = OpStats::default();
    for (_, counts) in stats.ops.iter() {
        all.ios += counts.ios;
        all.bytes += counts.bytes;
        all.failed += counts.failed;
        all.short_ios += counts.short_ios;
        all.unmeasured += counts.unmeasured;
        all.latency.slat.merge(&counts.latency.slat);
        all.latency.clat.merge(&counts.latency.clat);
        all.latency.lat.merge(&counts.latency.lat);
        all.latency.response.merge(&counts.latency.response);
    }
    all
}

/// One direction of all jobs of a group.
pub(super) struct GroupTotal {
    pub jobs: u64,
    pub ios: u64,
    pub bytes: u64,
    pub min_bandwidth: f64,
    pub max_bandwidth: f64,
    pub min_runtime_ns: u64,
    pub max_runtime_ns: u64,
}

impl GroupTotal {
    /// Sums up `op` over the jobs of `group`; `None` if no job used it.
    pub(super) fn of(report: &Report, group: u32, op: Op) -> Option<GroupTotal> {
        let mut total: Option<GroupTotal> = None;
        for job in jobs_of(report, group).filter(|job| job.stats.ops.get(op).ios > 0) {
            let counts = job.stats.ops.get(op);
            let (rate, ns) = (bandwidth(&job.stats, op), runtime_ns(&job.stats, op));
            let sum = total.get_or_insert(GroupTotal {
                jobs: 0,
                ios: 0,
                bytes: 0,
                min_bandwidth: rate,
                max_bandwidth: rate,
                min_runtime_ns: ns,
                max_runtime_ns: ns,
            });
            sum.jobs += 1;
            sum.ios += counts.ios;
            sum.bytes += counts.bytes;
            sum.min_bandwidth = sum.min_bandwidth.min(rate);
            sum.max_bandwidth = sum.max_bandwidth.max(rate);
            sum.min_runtime_ns = sum.min_runtime_ns.min(ns);
            sum.max_runtime_ns = sum.max_runtime_ns.max(ns);
        }
        total
    }

    /// Bytes a second of all together, over the longest of their times (as in fio).
    pub(super) fn bandwidth(&self) -> f64 {
        per_second(self.bytes, self.max_runtime_ns)
    }

    /// I/Os a second of all together.
    pub(super) fn iops(&self) -> f64 {
        per_second(self.ios, self.max_runtime_ns)
    }
}

/// The jobs of a reporting group.
pub(super) fn jobs_of(report: &Report, group: u32) -> impl Iterator<Item = &JobReport> {
    report.jobs.iter().filter(move |job| job.group == group)
}

/// The groups, in order of appearance.
pub(super) fn groups_of(report: &Report) -> Vec<u32> {
    let mut groups = Vec::new();
    for job in &report.jobs {
        if !groups.contains(&job.group) {
            groups.push(job.group);
        }
    }
    groups
}

/// How much of its group's bandwidth in these directions the intervals of a job had, in percent, at most
/// 100 (fio: `bw_agg`).
pub(super) fn share_of_group(report: &Report, group: u32, ops: &[Op], intervals: &IntervalSummary) -> f64 {
    let totals = ops.iter().filter_map(|&op| GroupTotal::of(report, group, op));
    let whole: f64 = totals.map(|total| total.bandwidth()).sum();
    if whole == 0.0 { 0.0 } else { (intervals.bandwidth.mean * 100.0 / whole).min(100.0) }
}

/// User and system time in percent of elapsed time.
pub(super) fn cpu_percent(cpu: &CpuUse) -> (f64, f64) {
    (percent(cpu.user_ns, cpu.elapsed_ns), percent(cpu.system_ns, cpu.elapsed_ns))
}

/// Time in which others had the CPU of a thread that could have run, in percent of elapsed time.
pub(super) fn waiting_percent(cpu: &CpuUse) -> f64 {
    percent(cpu.waiting_ns, cpu.elapsed_ns)
}

/// Turns that moved an I/O, in percent; `None` before the first turn.
pub(super) fn busy_percent(reactor: &ReactorReport) -> Option<f64> {
    let turns = reactor.busy_turns + reactor.idle_turns;
    (turns > 0).then(|| percent(reactor.busy_turns, turns))
}

/// A level of fio's latency distributions: everything from the bound before it up to its own.
pub(super) struct LatencyLevel {
    /// fio's key.
    pub name: &'static str,
    /// Percent of all I/Os.
    pub percent: f64,
}

const STEPS: [(u64, &str); 10] = [
    (2, "2"),
    (4, "4"),
    (10, "10"),
    (20, "20"),
    (50, "50"),
    (100, "100"),
    (250, "250"),
    (500, "500"),
    (750, "750"),
    (1000, "1000"),
];

/// Shares of the completion latencies of all commands, by fio's levels in ns, us and ms. Bounds
/// that do not fall on a bucket's edge are met to within 1/128.
pub(super) fn latency_levels(stats: &WorkerStats) -> [Vec<LatencyLevel>; 3] {
    let mut bounds: Vec<u64> = Vec::new();
    for unit in [1, 1_000, 1_000_000] {
        bounds.extend(STEPS.iter().map(|(step, _)| step * unit));
    }
    bounds.push(2_000_000_000);
    let mut counts = vec![0_u64; bounds.len() + 1];
    for (_, op) in stats.ops.iter() {
        for bucket in op.latency.clat.buckets() {
            counts[bounds.partition_point(|&bound| bound <= bucket.value_ns)] += bucket.count;
        }
    }
    let whole = counts.iter().sum();
    let names = STEPS.iter().map(|(_, name)| *name);
    let names = names.clone().chain(names.clone()).chain(names).chain(["2000", ">=2000"]);
    let mut levels =
        names.zip(&counts).map(|(name, &count)| LatencyLevel { name, percent: percent(count, whole) });
    [levels.by_ref().take(10).collect(), levels.by_ref().take(10).collect(), levels.collect()]
}
