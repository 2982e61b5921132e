//! Reports that fit into a message: a thousand workers with wide histograms, a line each, would not.

use prost::Message;

use crate::base::PerOp;
use crate::remote::MOST_MESSAGE_BYTES;
use crate::remote::wire::{bench, report};
use crate::report::{IntervalSummary, JobReport, Report};
use crate::stats::VerifyTally;

/// What a message has around a report: why a run failed is 64 KiB at most.
const AROUND_BYTES: usize = 128 << 10;

/// The report on the wire. One that is too long has one line for all workers of a job or, if there are too
/// many jobs, for all; a note says so. Nothing that was counted is lost, and no verdict.
pub fn encode(whole: &Report) -> bench::Report {
    encode_within(whole, MOST_MESSAGE_BYTES - AROUND_BYTES)
}

fn encode_within(whole: &Report, most: usize) -> bench::Report {
    let encoded = report::encode(whole);
    let bytes = encoded.encoded_len();
    if bytes <= most {
        return encoded;
    }
    let of_a_job = |a: &JobReport, b: &JobReport| a.name == b.name && a.group == b.group;
    let advice = "`group_reporting` says what is to be one line";
    let mut shorter = encoded;
    for (joins, what) in [
        (&of_a_job as &dyn Fn(&JobReport, &JobReport) -> bool, "the workers of a job are one line each"),
        (&|_: &JobReport, _: &JobReport| true, "all jobs are one line"),
    ] {
        let mut folded = Report { jobs: fold(&whole.jobs, joins), ..whole.clone() };
        let lines = whole.jobs.len();
        folded.notes.push(format!(
            "the report of {lines} lines has {bytes} bytes, and a message {most} at most: {what} here ({advice})"
        ));
        shorter = report::encode(&folded);
        if shorter.encoded_len() <= most {
            break;
        }
    }
    shorter
}

/// Lines that follow each other and belong together become one.
fn fold(jobs: &[JobReport], joins: &dyn Fn(&JobReport, &JobReport) -> bool) -> Vec<JobReport> {
    let mut folded: Vec<JobReport> = Vec::new();
    for job in jobs {
        match folded.last_mut().filter(|last| joins(last, job)) {
            Some(last) => add(last, job),
            None => folded.push(job.clone()),
        }
    }
    folded
}

fn add(sum: &mut JobReport, job: &JobReport) {
    sum.workers = sum.workers.saturating_add(job.workers);
    sum.started_unix_ms = sum.started_unix_ms.min(job.started_unix_ms);
    sum.stats.merge(&job.stats);
    // Rates of one are not those of all, nor is its steady state.
    sum.intervals = PerOp::default();
    sum.mixed_intervals = IntervalSummary::default();
    sum.steady = None;
    sum.cpu.user_ns = sum.cpu.user_ns.saturating_add(job.cpu.user_ns);
    sum.cpu.system_ns = sum.cpu.system_ns.saturating_add(job.cpu.system_ns);
    sum.cpu.elapsed_ns = sum.cpu.elapsed_ns.saturating_add(job.cpu.elapsed_ns);
    sum.cpu.context_switches += job.cpu.context_switches;
    sum.cpu.major_faults += job.cpu.major_faults;
    sum.cpu.minor_faults += job.cpu.minor_faults;
    sum.cpu.waiting_ns = sum.cpu.waiting_ns.saturating_add(job.cpu.waiting_ns);
    // A demand that was missed says less than an error.
    let is_worse = sum.error.as_ref().is_none_or(|error| error.is_missed);
    if let Some(error) = job.error.as_ref().filter(|_| is_worse) {
        sum.error = Some(error.clone());
    }
    if let Some(tally) = &job.verify {
        sum.verify.get_or_insert_with(VerifyTally::default).merge(tally);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Op;
    use crate::base::verify::Verdict;
    use crate::report::{CpuUse, JobError, MachineReport};
    use crate::stats::WorkerStats;

    fn line(name: &str, at: u64) -> JobReport {
        let text = format!("[[job]]\nname = \"{name}\"\nioengine = \"null\"\nsize = \"1m\"\n");
        let spec = crate::job::parse(&[("j".to_owned(), text)], &[]).unwrap().remove(0);
        let mut stats = WorkerStats::default();
        let counts = stats.ops.get_mut(Op::Read);
        (counts.ios, counts.bytes) = (10, 40960);
        (0..100).for_each(|step| counts.latency.clat.record((at + 1) * 1000 + step * 97));
        let mut tally = VerifyTally::default();
        tally.judged(if at == 7 { Verdict::Unreadable } else { Verdict::Ok }, 2, 2);
        let error = JobError { errno: 5, message: "j.3: read failed".to_owned(), is_missed: false };
        JobReport {
            name: name.to_owned(),
            group: 0,
            workers: 1,
            spec,
            started_unix_ms: 100 + at,
            stats,
            intervals: PerOp::default(),
            mixed_intervals: IntervalSummary::default(),
            steady: None,
            cpu: CpuUse { elapsed_ns: 5, ..CpuUse::default() },
            error: (at == 3).then_some(error),
            verify: Some(tally),
        }
    }

    #[test]
    fn a_report_that_is_too_long_loses_lines_and_nothing_that_was_counted() {
        let jobs: Vec<JobReport> = (0..40).map(|at| line(if at < 20 { "a" } else { "b" }, at)).collect();
        let whole = Report {
            time_unix_ms: 1,
            started_unix_ms: 1,
            unfinished: false,
            ended_by_signal: None,
            notes: Vec::new(),
            jobs,
            reactors: Vec::new(),
            targets: Vec::new(),
            job_toml: None,
            trigger: None,
            machine: MachineReport::default(),
        };
        let bytes = report::encode(&whole).encoded_len();
        let lines = |most: usize| {
            let encoded = encode_within(&whole, most);
            let decoded = report::decode(&encoded).unwrap();
            let sum = |of: fn(&JobReport) -> u64| decoded.jobs.iter().map(of).sum::<u64>();
            assert_eq!(sum(|job| job.stats.ops.get(Op::Read).ios), 400);
            assert_eq!(sum(|job| job.stats.ops.get(Op::Read).latency.clat.count()), 4000);
            assert_eq!(sum(|job| u64::from(job.workers)), 40);
            assert_eq!((decoded.violations(), sum(|job| job.cpu.elapsed_ns)), (2, 200));
            assert!(decoded.jobs.iter().any(|job| job.error.is_some()));
            assert_eq!(decoded.notes.len(), usize::from(decoded.jobs.len() < 40), "{:?}", decoded.notes);
            (decoded.jobs.len(), encoded.encoded_len())
        };
        assert_eq!(lines(bytes), (40, bytes));
        let (two, two_bytes) = lines(bytes - 1);
        assert!(two == 2 && two_bytes < bytes / 2, "{two_bytes} of {bytes}");
        assert_eq!(lines(two_bytes - 64).0, 1);
    }
}
