//! What a report comes to in one number: the exit code.

use super::{JobReport, Report};

/// All well.
pub const EXIT_OK: u8 = 0;
/// A promise was broken.
pub const EXIT_VIOLATION: u8 = 1;
/// Job file or command line wrong; nothing started.
pub const EXIT_USAGE: u8 = 2;
/// A demanded performance was missed.
pub const EXIT_MISSED: u8 = 3;
/// I/O, device or environment error.
pub const EXIT_IO: u8 = 4;
/// Nothing, or less than asked, could be verified.
pub const EXIT_INCONCLUSIVE: u8 = 5;
/// Unsafe target refused.
pub const EXIT_UNSAFE: u8 = 6;

/// The exit code of a run that began, and perhaps failed later, with that code.
#[must_use]
pub fn ended_code(report: &Report, failure: Option<u8>) -> u8 {
    match failure {
        Some(code) if report.violations() == 0 => code,
        _ => exit_code(report),
    }
}

/// A broken promise goes above all: whoever looks for it must not miss it behind a signal or an error.
fn exit_code(report: &Report) -> u8 {
    if report.violations() > 0 {
        return EXIT_VIOLATION;
    }
    if let Some(signal) = report.ended_by_signal {
        return u8::try_from(128 + signal).unwrap_or(u8::MAX);
    }
    if let Some(trigger) = &report.trigger {
        // Errors of a device that loses its power are what a trigger is for.
        return match report.inconclusive() {
            _ if !trigger.is_well() || trigger.errors_before > 0 => EXIT_IO,
            true => EXIT_INCONCLUSIVE,
            false => EXIT_OK,
        };
    }
    // `continue_on_error` goes on; it does not turn an error into a zero.
    let missed = |job: &JobReport| job.error.as_ref().is_some_and(|error| error.is_missed);
    let failed = |job: &JobReport| {
        // Errors that `ignore_error` lists are what the job expected.
        let listed = &job.spec.order.ignore_error;
        let counts = |op, errno| !listed.of(op).contains(errno);
        job.error.is_some() && !missed(job)
            || job.stats.errors().any(|error| counts(error.op, error.status.errno()))
    };
    if report.jobs.iter().any(failed) {
        EXIT_IO
    } else if report.jobs.iter().any(missed) {
        EXIT_MISSED
    } else if report.inconclusive() {
        EXIT_INCONCLUSIVE
    } else {
        EXIT_OK
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::verify::Verdict;
    use crate::base::{Op, PerOp, Status};
    use crate::report::{CpuUse, IntervalSummary, MachineReport};
    use crate::stats::{VerifyTally, WorkerStats};

    fn report(signal: Option<i32>, fails: bool, verify: Option<VerifyTally>) -> Report {
        let text = "[[job]]\nname = \"j\"\nioengine = \"null\"\nsize = \"1m\"\n".to_owned();
        let mut jobs = crate::job::parse(&[("j".to_owned(), text)], &[]).unwrap();
        let mut stats = WorkerStats::default();
        if fails {
            stats.record_error(Op::Write, Status::from_errno(5), 0);
        }
        let job = JobReport {
            name: "j".to_owned(),
            group: 0,
            workers: 1,
            spec: jobs.remove(0),
            started_unix_ms: 0,
            stats,
            intervals: PerOp::default(),
            mixed_intervals: IntervalSummary::default(),
            steady: None,
            cpu: CpuUse::default(),
            error: None,
            verify,
        };
        Report {
            time_unix_ms: 0,
            started_unix_ms: 0,
            unfinished: false,
            ended_by_signal: signal,
            notes: Vec::new(),
            jobs: vec![job],
            reactors: Vec::new(),
            targets: Vec::new(),
            job_toml: None,
            trigger: None,
            machine: MachineReport::default(),
        }
    }

    #[test]
    fn a_broken_promise_goes_above_signals_and_these_above_errors_and_doubt() {
        let mut well = VerifyTally::default();
        well.judged(Verdict::Ok, 1, 1);
        well.judged(Verdict::AllowedLoss, 1, 0);
        let mut doubtful = well.clone();
        doubtful.skip("the device is gone", 1);
        let mut broken = doubtful.clone();
        broken.judged(Verdict::Unreadable, 1, 1);
        let code =
            |signal, fails, tally: &VerifyTally| exit_code(&report(signal, fails, Some(tally.clone())));
        assert_eq!(
            [code(Some(2), true, &broken), code(None, true, &broken), code(None, false, &broken)],
            [1; 3]
        );
        assert_eq!([code(Some(2), true, &doubtful), code(Some(15), false, &well)], [130, 143]);
        assert_eq!([code(None, true, &doubtful), code(None, true, &well)], [4; 2]);
        assert_eq!([code(None, false, &doubtful), code(None, false, &VerifyTally::default())], [5; 2]);
        assert_eq!([code(None, false, &well), exit_code(&report(None, false, None))], [0; 2]);
        let ended =
            |failure, tally: &VerifyTally| ended_code(&report(None, false, Some(tally.clone())), failure);
        assert_eq!([EXIT_IO, EXIT_UNSAFE, EXIT_USAGE].map(|failure| ended(Some(failure), &broken)), [1; 3]);
        assert_eq!(ended(Some(EXIT_UNSAFE), &well), EXIT_UNSAFE);
        let mut allowed = VerifyTally::default();
        allowed.judged(Verdict::AllowedLoss, 9, 0);
        assert_eq!(code(None, false, &allowed), 5, "nothing was demanded");
    }
}
