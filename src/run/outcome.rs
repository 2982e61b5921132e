//! What has come together of a run so far, and the report of it.

use std::sync::Arc;

use crate::base::clock::unix_time_ms;
use crate::base::verify::RunId;
use crate::base::{Op, PerOp, Status};
use crate::job::JobSpec;
use crate::reactor::{Live, Missed};
use crate::report::{
    CpuUse, IntervalSummary, JobError, JobReport, RateSummary, ReactorReport, Report, TargetReport,
    TriggerReport,
};
use crate::stats::{VerifyTally, WorkerStats};

use super::keeper::Keeper;
use super::pace;
use super::plan::JobPlan;
use super::verification::Verdicts;

/// A line of the report in the making: a worker, or the workers of a group.
pub struct Entry {
    pub spec: JobSpec,
    pub group: u32,
    pub workers: u32,
    pub started_unix_ms: u64,
    pub stats: WorkerStats,
    pub samples: PerOp<Samples>,
    pub cpu: CpuUse,
    pub error: Option<JobError>,
    pub verify: Option<VerifyTally>,
    /// The workers that are running now, for samples and statistics so far.
    pub live: Vec<Arc<Live>>,
}

/// Rates of the intervals so far.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    pub bandwidth: Vec<f64>,
    pub iops: Vec<f64>,
}

/// All entries and what the reader should know.
pub struct Outcome {
    started_unix_ms: u64,
    job_toml: String,
    pub notes: Vec<String>,
    pub entries: Vec<Entry>,
    pub reactors: Vec<ReactorReport>,
    pub targets: Vec<TargetReport>,
    pub workers_total: u32,
    /// The name in the blocks that this run writes.
    pub run_id: RunId,
    /// Where violations go.
    pub verdicts: Verdicts,
    /// A trigger has fired: errors are what it was for.
    pub is_cut: bool,
    /// The trigger that has fired.
    pub trigger: Option<TriggerReport>,
}

impl Outcome {
    pub fn new(started_unix_ms: u64, plans: &[JobPlan], verdicts: Verdicts, run_id: RunId) -> Outcome {
        let specs: Vec<JobSpec> = plans.iter().map(|plan| plan.asked().clone()).collect();
        Outcome {
            started_unix_ms,
            job_toml: crate::job::print(&specs),
            notes: Vec::new(),
            entries: Vec::new(),
            reactors: Vec::new(),
            targets: Vec::new(),
            run_id,
            is_cut: false,
            trigger: None,
            verdicts,
            workers_total: specs.iter().map(|spec| spec.numjobs).sum(),
        }
    }

    /// Takes what the keeper has to say at the end; gives back what could not be stored.
    pub fn close(&mut self, keeper: Option<Keeper>) -> Option<String> {
        let keeper = keeper?;
        self.trigger = keeper.fired;
        keeper.trouble
    }

    /// Adds a note once, however many workers say it.
    pub fn note(&mut self, text: String) -> bool {
        let new = !self.notes.contains(&text);
        if new {
            self.notes.push(text);
        }
        new
    }

    /// The entry that a worker of `plan` belongs to: that of its group, if it reports as one.
    pub fn entry_for(&mut self, plan: &JobPlan, live: Arc<Live>) -> usize {
        let joins = |entry: &Entry| {
            entry.group == plan.group && entry.spec.group_reporting && plan.spec.group_reporting
        };
        if self.entries.last().is_none_or(|last| !joins(last)) {
            self.entries.push(Entry {
                spec: plan.spec.clone(),
                group: plan.group,
                workers: 0,
                started_unix_ms: unix_time_ms(),
                stats: WorkerStats::default(),
                samples: PerOp::default(),
                cpu: CpuUse::default(),
                error: None,
                verify: None,
                live: Vec::new(),
            });
        }
        let index = self.entries.len() - 1;
        self.entries[index].workers += 1;
        self.entries[index].live.push(live);
        index
    }

    /// The report, with `running` added to the entries of that index.
    pub fn report_with(&self, running: &[(usize, Box<WorkerStats>)], signal: Option<i32>) -> Report {
        let mut report = self.report(signal, true);
        for (entry, stats) in running {
            report.jobs[*entry].stats.merge(stats);
        }
        report
    }

    pub fn report(&self, signal: Option<i32>, unfinished: bool) -> Report {
        Report {
            time_unix_ms: unix_time_ms(),
            started_unix_ms: self.started_unix_ms,
            unfinished,
            ended_by_signal: signal,
            notes: self.notes.clone(),
            job_toml: Some(self.job_toml.clone()),
            jobs: self.entries.iter().map(Entry::report).collect(),
            reactors: self.reactors.clone(),
            targets: self.targets.clone(),
            trigger: self.trigger.clone(),
        }
    }
}

impl Entry {
    fn report(&self) -> JobReport {
        JobReport {
            name: self.spec.name.clone(),
            group: self.group,
            workers: self.workers,
            spec: self.spec.clone(),
            started_unix_ms: self.started_unix_ms,
            stats: self.stats.clone(),
            intervals: PerOp::from_fn(|op| {
                let samples = self.samples.get(op);
                IntervalSummary {
                    bandwidth: RateSummary::of(&samples.bandwidth),
                    iops: RateSummary::of(&samples.iops),
                    samples: samples.iops.len() as u64,
                }
            }),
            cpu: self.cpu,
            error: self.error.clone(),
            verify: self.verify.clone(),
        }
    }

    /// Keeps the first error that ended a worker.
    pub fn failed(&mut self, worker: &str, op: Op, status: Status) {
        self.error.get_or_insert_with(|| JobError {
            errno: status.errno(),
            message: format!("{worker}: {} failed: {status}", op.name()),
            is_missed: false,
        });
    }

    /// Keeps the first demand that a worker did not meet, unless an error ended one.
    pub fn missed(&mut self, worker: &str, missed: &Missed) {
        self.error.get_or_insert_with(|| {
            let (errno, why) = pace::explain(missed);
            JobError { errno, message: format!("{worker}: {why}"), is_missed: true }
        });
    }
}
