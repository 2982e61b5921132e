//! All servers as one.

use crate::base::{Op, PerOp};
use crate::job::JobSpec;
use crate::job::spec::Unified;
use crate::report::figures::{Rates, per_second};
use crate::report::{CpuUse, IntervalSummary, JobError, JobReport, Report};
use crate::stats::{OpStats, VerifyTally, WorkerStats};

use super::{Fleet, ServerReport};

/// fio's name for it.
pub(super) const NAME: &str = "All clients";

/// The jobs of all servers merged into one, and its rates.
pub(super) struct Together {
    /// Counts; times are those of the server that took longest.
    pub job: JobReport,
    /// Sums of the servers' rates.
    pub rates: PerOp<Rates>,
    /// The same of all directions together.
    pub mixed: Rates,
    /// How many jobs are in it.
    pub jobs: u64,
    /// From how many servers.
    pub servers: u64,
    /// The servers' own bandwidths.
    pub each: PerOp<Vec<(String, f64)>>,
}

impl Together {
    /// `None` if no server has sent a report.
    pub(super) fn of(fleet: &Fleet) -> Option<Together> {
        let mut all: Option<Together> = None;
        for server in &fleet.servers {
            let Some(report) = &server.report else { continue };
            all.get_or_insert_with(|| Together::new(fleet.started_unix_ms)).add(server, report);
        }
        all
    }

    fn new(started_unix_ms: u64) -> Together {
        let job = JobReport {
            name: NAME.to_owned(),
            group: 0,
            workers: 0,
            spec: JobSpec { name: NAME.to_owned(), ..JobSpec::default() },
            started_unix_ms,
            stats: WorkerStats::default(),
            // Intervals of one server are not those of another.
            intervals: PerOp::default(),
            mixed_intervals: IntervalSummary::default(),
            steady: None,
            cpu: CpuUse::default(),
            error: None,
            verify: None,
        };
        Together {
            job,
            rates: PerOp::default(),
            mixed: Rates::default(),
            jobs: 0,
            servers: 0,
            each: PerOp::default(),
        }
    }

    fn add(&mut self, server: &ServerReport, report: &Report) {
        self.servers += 1;
        for op in Op::ADDRESSED {
            let rates = rates_of(report, &[op]);
            if rates.time_ns > 0 {
                self.each.get_mut(op).push((server.name.clone(), rates.bandwidth));
            }
            sum(self.rates.get_mut(op), &rates);
        }
        sum(&mut self.mixed, &rates_of(report, &Op::ADDRESSED));
        let mut stats = WorkerStats::default();
        for job in &report.jobs {
            stats.merge(&job.stats);
            self.add_job(server, job);
        }
        // The clock of another machine: only lengths of time mean anything here.
        (stats.start_ns, stats.end_ns, stats.paused_ns) = (1, 1 + stats.runtime_ns(), 0);
        stats.depth_found = None;
        self.job.stats.merge(&stats);
    }

    /// Everything but what is counted.
    fn add_job(&mut self, server: &ServerReport, job: &JobReport) {
        let (mine, theirs) = (&mut self.job.spec, &job.spec);
        if self.jobs == 0 {
            mine.measuring = theirs.measuring.clone();
        } else if mine.measuring.unified != theirs.measuring.unified {
            mine.measuring.unified = Unified::None;
        }
        mine.continue_on_error.read |= theirs.continue_on_error.read;
        mine.continue_on_error.write |= theirs.continue_on_error.write;
        mine.continue_on_error.verify |= theirs.continue_on_error.verify;
        self.jobs += 1;
        let merged = &mut self.job;
        merged.workers = merged.workers.saturating_add(job.workers);
        let (mine, theirs) = (&mut merged.cpu, &job.cpu);
        mine.user_ns = mine.user_ns.saturating_add(theirs.user_ns);
        mine.system_ns = mine.system_ns.saturating_add(theirs.system_ns);
        mine.elapsed_ns = mine.elapsed_ns.saturating_add(theirs.elapsed_ns);
        mine.context_switches += theirs.context_switches;
        mine.major_faults += theirs.major_faults;
        mine.minor_faults += theirs.minor_faults;
        mine.waiting_ns = mine.waiting_ns.saturating_add(theirs.waiting_ns);
        if let (None, Some(error)) = (&merged.error, &job.error) {
            let message = format!("{}: {}", server.name, error.message);
            merged.error = Some(JobError { message, ..error.clone() });
        }
        if let Some(tally) = &job.verify {
            let mut tally = tally.clone();
            // Examples stand with their server: their targets are numbered there.
            tally.examples.clear();
            for doubt in tally.doubts.values_mut() {
                doubt.first = format!("{}: {}", server.name, doubt.first);
            }
            merged.verify.get_or_insert_with(VerifyTally::default).merge(&tally);
        }
    }
}

fn sum(all: &mut Rates, one: &Rates) {
    all.iops += one.iops;
    all.bandwidth += one.bandwidth;
    all.time_ns = all.time_ns.max(one.time_ns);
}

/// What a server moved in these directions, over the time from the first start to the last end of the jobs
/// that did.
fn rates_of(report: &Report, ops: &[Op]) -> Rates {
    let counts = |job: &JobReport| {
        let mut sum = OpStats::default();
        for &op in ops {
            sum.ios += job.stats.ops.get(op).ios;
            sum.bytes += job.stats.ops.get(op).bytes;
        }
        (sum.ios, sum.bytes)
    };
    let used = || report.jobs.iter().filter(|job| counts(job).0 > 0);
    let (ios, bytes) = used().map(counts).fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
    let start_ns = used().map(|job| job.stats.start_ns).min().unwrap_or(0);
    let end_ns = used().map(|job| job.stats.end_ns).max().unwrap_or(0);
    let time_ns = end_ns.saturating_sub(start_ns);
    Rates { iops: per_second(ios, time_ns), bandwidth: per_second(bytes, time_ns), time_ns }
}
