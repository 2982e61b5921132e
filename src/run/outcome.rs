//! What has come together of a run so far, and the report of it.

use std::sync::Arc;

use crate::base::clock::{clock_ms, unix_time_ms};
use crate::base::host::Sysfs;
use crate::base::host::cpu_time::CpuTimes;
use crate::base::host::disk_util::DiskWatch;
use crate::base::pause::{Pause, PauseWatch, Pauses};
use crate::base::units::SECOND_NS;
use crate::base::verify::RunId;
use crate::base::{Op, PerOp, Status};
use crate::job::JobSpec;
use crate::reactor::{Live, Missed};
use crate::report::{
    CpuUse, IntervalSummary, JobError, JobReport, MachineReport, RateSummary, ReactorReport, Report,
    TargetReport, TriggerReport,
};
use crate::stats::{VerifyTally, WorkerStats};

use super::RunError;
use super::audit::Audited;
use super::keeper::Keeper;
use super::logs::Logs;
use super::pace;
use super::plan::JobPlan;
use super::steady_state::Track;
use super::verification::Verdicts;

/// So many notes of a run are kept.
const MOST_NOTES: usize = 1000;
/// Pauses that are noted one by one.
const MOST_PAUSES_NOTED: usize = 10;

/// A line of the report in the making: a worker, or the workers of a group.
pub struct Entry {
    pub spec: JobSpec,
    pub group: u32,
    pub workers: u32,
    /// By the clock of `job_start_clock_id`.
    pub started_unix_ms: u64,
    /// One of its workers has begun, at that time.
    pub is_dated: bool,
    pub stats: WorkerStats,
    pub samples: PerOp<Samples>,
    pub cpu: CpuUse,
    pub error: Option<JobError>,
    pub verify: Option<VerifyTally>,
    /// The workers that are running now, for samples and statistics so far.
    pub live: Vec<Arc<Live>>,
    /// The search for steady state, if the job looks for it.
    pub steady: Option<Track>,
}

/// Rates of the intervals so far.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    pub bandwidth: Vec<f64>,
    pub iops: Vec<f64>,
}

impl Samples {
    fn summary(&self) -> IntervalSummary {
        IntervalSummary {
            bandwidth: RateSummary::of(&self.bandwidth),
            iops: RateSummary::of(&self.iops),
            samples: self.iops.len() as u64,
            bandwidth_samples: self.bandwidth.len() as u64,
        }
    }
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
    /// Where logs go.
    pub logs: Logs,
    /// A trigger has fired: errors are what it was for.
    pub is_cut: bool,
    /// The trigger that has fired.
    pub trigger: Option<TriggerReport>,
    /// When the first worker might begin (`base::clock`): delays count from here.
    pub genesis_ns: Option<u64>,
    /// Stages that have not begun.
    pub stages_left: usize,
    /// They will not.
    pub ends_run: bool,
    /// A target was replaced, which ends the run.
    pub replaced: Option<RunError>,
    /// Workers of the stage that have audited, until all of them have.
    pub audits: Vec<Audited>,
    /// Block devices below the targets.
    pub disks: DiskWatch,
    /// When the process did not run.
    pub pauses: Arc<Pauses>,
    /// Who sees that; `None` if the system had no thread to spare.
    watch: Option<PauseWatch>,
    /// How many of them have been noted.
    pub pauses_noted: usize,
    /// The CPUs when the run began, if how idle they are is to be told, and whether each by itself.
    pub idle_since: Option<(CpuTimes, bool)>,
}

impl Outcome {
    pub fn new(started_unix_ms: u64, plans: &[JobPlan], verdicts: Verdicts, run_id: RunId) -> Outcome {
        let specs: Vec<JobSpec> = plans.iter().map(|plan| plan.asked().clone()).collect();
        let watch = PauseWatch::start().ok();
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
            genesis_ns: None,
            stages_left: 0,
            ends_run: false,
            replaced: None,
            audits: Vec::new(),
            disks: DiskWatch::default(),
            pauses: watch.as_ref().map_or_else(Arc::default, |watch| Arc::clone(watch.pauses())),
            watch,
            pauses_noted: 0,
            idle_since: None,
            verdicts,
            logs: Logs::default(),
            workers_total: specs.iter().map(|spec| spec.numjobs).sum(),
        }
    }

    /// Takes what the keeper has to say at the end; gives back what could not be stored.
    pub fn close(&mut self, keeper: Option<Keeper>) -> Option<String> {
        self.note_unmeasured();
        let keeper = keeper?;
        self.trigger = keeper.fired;
        keeper.notes.into_iter().for_each(|note| {
            self.note(note);
        });
        keeper.trouble
    }

    /// Ends the logs; gives back what makes them other than what was asked for.
    pub fn close_logs(&mut self) -> Option<String> {
        let of_all = self.logs.aggregate.as_mut().map(|log| log.end()).unwrap_or_default();
        for trouble in of_all {
            self.note(trouble.clone());
            self.logs.trouble.push(trouble);
        }
        let first = self.logs.trouble.first()?;
        Some(match self.logs.trouble.len() - 1 {
            0 => first.clone(),
            more => format!("{first} (and {more} more, see the report)"),
        })
    }

    /// Notes the pauses that are new, and gives the notes.
    pub fn note_pauses(&mut self) -> Vec<String> {
        let new: Vec<_> = self.pauses.seen().skip(self.pauses_noted).collect();
        let before = std::mem::replace(&mut self.pauses_noted, self.pauses.count());
        let begun_ns = self.genesis_ns.unwrap_or(0);
        let say = |(at, pause): (usize, &Pause)| {
            let seconds = |ns: u64| ns as f64 / SECOND_NS as f64;
            let text = format!(
                "the process did not run for {:.1} s, until {:.1} s after the start: it was stopped (SIGSTOP, a \
                 debugger, a freezer), or the machine was",
                seconds(pause.length_ns),
                seconds(pause.to_ns.saturating_sub(begun_ns))
            );
            match before + at {
                at if at < MOST_PAUSES_NOTED => Some(text),
                MOST_PAUSES_NOTED => Some("the process did not run more often than is noted here".to_owned()),
                _ => None,
            }
        };
        let notes: Vec<String> = new.iter().enumerate().filter_map(say).collect();
        notes.iter().for_each(|note| {
            self.note(note.clone());
        });
        notes
    }

    /// Notes what pauses mean for the figures, at the end.
    fn note_unmeasured(&mut self) {
        self.note_pauses();
        if self.watch.is_none() {
            self.note("the system had no thread to spare that notices pauses of the process".to_owned());
        }
        if self.pauses_noted == 0 {
            return;
        }
        let ios: u64 = self.entries.iter().map(|entry| entry.stats.total_unmeasured()).sum();
        self.note(format!(
            "of the I/Os that were in flight while the process did not run {ios} are counted, but not in the \
             latencies; rates, intervals and limits leave that time out"
        ));
    }

    /// Adds a note once, however many workers say it. Further ones than [`MOST_NOTES`] are left out.
    pub fn note(&mut self, text: String) -> bool {
        let new = self.notes.len() <= MOST_NOTES && !self.notes.contains(&text);
        if new {
            let is_last = self.notes.len() == MOST_NOTES;
            self.notes.push(if is_last { "further notes are left out".to_owned() } else { text });
        }
        new
    }

    /// What is reported of a target; one of its own if nothing is yet.
    pub fn target(&mut self, path: &str, size_bytes: u64) -> &mut TargetReport {
        let at = self.targets.iter().position(|target| target.path == path).unwrap_or_else(|| {
            let path = path.to_owned();
            self.targets.push(TargetReport { path, size_bytes, device: None, nvme: None, premises: None });
            self.targets.len() - 1
        });
        &mut self.targets[at]
    }

    /// The entry that a worker of `plan` belongs to: that of its group, if it reports as one.
    pub fn entry_for(&mut self, plan: &JobPlan, live: Arc<Live>) -> usize {
        let joins = |entry: &Entry| {
            entry.group == plan.group
                && entry.spec.group_reporting
                && plan.spec.group_reporting
                && entry.spec.measuring.stats == plan.spec.measuring.stats
        };
        if self.entries.last().is_none_or(|last| !joins(last)) {
            self.entries.push(Entry {
                spec: plan.spec.clone(),
                group: plan.group,
                workers: 0,
                started_unix_ms: clock_ms(plan.spec.order.job_start_clock_id),
                is_dated: false,
                stats: WorkerStats::default(),
                samples: PerOp::default(),
                cpu: CpuUse::default(),
                error: None,
                verify: None,
                live: Vec::new(),
                steady: Track::of(&plan.spec.measuring.steady),
            });
        }
        let index = self.entries.len() - 1;
        self.entries[index].workers += 1;
        self.entries[index].live.push(live);
        index
    }

    /// The report, with `running` added to the entries of that index.
    pub fn report_with(&self, running: &[(usize, Box<WorkerStats>)], signal: Option<i32>) -> Report {
        let mut jobs: Vec<JobReport> = self.entries.iter().map(Entry::report).collect();
        for (entry, stats) in running {
            jobs[*entry].stats.merge(stats);
        }
        self.report_of(jobs, signal, true)
    }

    pub fn report(&self, signal: Option<i32>, unfinished: bool) -> Report {
        self.report_of(self.entries.iter().map(Entry::report).collect(), signal, unfinished)
    }

    /// The report of these jobs but for those that want to be left out.
    fn report_of(&self, jobs: Vec<JobReport>, signal: Option<i32>, unfinished: bool) -> Report {
        let (jobs, left_out): (Vec<_>, Vec<_>) = jobs.into_iter().partition(must_be_told);
        let mut notes = self.notes.clone();
        for job in left_out {
            let note = format!("job `{}` is left out of this report: stats = false", job.name);
            if !notes.contains(&note) {
                notes.push(note);
            }
        }
        let idleness =
            self.idle_since.as_ref().map(|(since, _)| CpuTimes::now(&Sysfs::default()).since(since));
        Report {
            time_unix_ms: unix_time_ms(),
            started_unix_ms: self.started_unix_ms,
            unfinished,
            ended_by_signal: signal,
            notes,
            job_toml: Some(self.job_toml.clone()),
            jobs,
            reactors: self.reactors.clone(),
            targets: self.targets.clone(),
            trigger: self.trigger.clone(),
            machine: MachineReport {
                disks: self.disks.report(),
                idleness,
                each_cpu: self.idle_since.as_ref().is_some_and(|(_, each)| *each),
            },
        }
    }
}

/// Whether a job belongs into the report: unless it wants to be left out, and nothing is wrong with it.
fn must_be_told(job: &JobReport) -> bool {
    let verified_well =
        job.verify.as_ref().is_none_or(|tally| tally.violations() == 0 && !tally.is_inconclusive());
    job.spec.measuring.stats || job.error.is_some() || job.stats.first_error().is_some() || !verified_well
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
            intervals: PerOp::from_fn(|op| self.samples.get(op).summary()),
            mixed_intervals: self.mixed_samples().summary(),
            steady: self.steady.as_ref().map(Track::report),
            cpu: self.cpu,
            error: self.error.clone(),
            verify: self.verify.clone(),
        }
    }

    /// Rates of all directions together. Where directions differ in their number of intervals (a failed
    /// one has none), the shortest counts.
    fn mixed_samples(&self) -> Samples {
        let used: Vec<&Samples> = self
            .samples
            .iter()
            .map(|(_, samples)| samples)
            .filter(|samples| !samples.iops.is_empty())
            .collect();
        let sum = |of: fn(&Samples) -> &Vec<f64>| -> Vec<f64> {
            let shortest = used.iter().map(|samples| of(samples).len()).min().unwrap_or(0);
            (0..shortest).map(|at| used.iter().map(|samples| of(samples)[at]).sum()).collect()
        };
        Samples { bandwidth: sum(|samples| &samples.bandwidth), iops: sum(|samples| &samples.iops) }
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
