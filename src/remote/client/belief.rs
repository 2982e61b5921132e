//! What a server must show before the end of its run counts as a success.
//!
//! Exit code 0 says that all went well and that what was to be verified was verified. A server that only
//! claims so, with a report in which nothing happened, is not believed.

use crate::job::JobSpec;
use crate::report::exit::{EXIT_OK, ended_code};
use crate::report::{JobReport, Report};
use crate::verify::snapshot::Cause;

use super::conduct::Server;
use super::evidence::{Held, keeps_state};
use super::link::environment;
use super::{Failure, FailureKind};

/// Why the report of a server does not support its claim of success; `None` if it does, or if the report shows
/// a failure itself. A report that is missing or contradicts itself leads to exit code 4, one without a
/// verification that the jobs ask for to 5.
pub(super) fn doubt(server: &Server) -> Option<Failure> {
    let address = &server.address;
    let Some(report) = &server.report else {
        return Some(environment(format!(
            "{address} ended the run with neither a report nor a reason: nothing is known of it"
        )));
    };
    if ended_code(report, None) != EXIT_OK {
        return None;
    }
    if let Some(code) = server.said_code.filter(|&code| code != u32::from(EXIT_OK)) {
        return Some(environment(format!(
            "{address} ended with exit code {code}, and nothing in its report says why"
        )));
    }
    let jobs = server.jobs();
    // What a run was to do that is attached to is known to its server only.
    if jobs.is_empty() {
        return None;
    }
    let why = match &report.trigger {
        Some(_) => trigger_unseen(server),
        None => jobs_missing(jobs, report).or_else(|| state_missing(server, report)),
    };
    if let Some(why) = why {
        return Some(environment(format!("the report of {address} is not believed: {why}")));
    }
    let unverified = jobs.iter().find(|job| report.trigger.is_none() && is_unverified(job, jobs, report))?;
    let message = format!(
        "{address}: job `{}` verifies, and the report has nothing that was verified of it: inconclusive",
        unverified.name
    );
    Some(Failure { kind: FailureKind::Inconclusive, message })
}

/// A trigger excuses much: what it says it fired, this side must have heard of.
fn trigger_unseen(server: &Server) -> Option<String> {
    // Another client may have fired it while this one was away.
    let is_known = server.fired.is_some() || server.is_detached();
    (!is_known).then(|| "it says that a trigger fired, and no snapshot of that came".to_owned())
}

/// Whether jobs may never begin, or not be in the report, although all is well.
fn may_not_begin(jobs: &[JobSpec]) -> bool {
    // Of a run that is judged, jobs that had not begun are left out.
    jobs.iter().any(|job| job.order.exitall || job.order.exitall_on_error || job.state.load)
}

/// Whether what a job does stands in a log that only the server has.
fn replays(job: &JobSpec) -> bool {
    job.options.iter().any(|(name, _)| name == "read_iolog")
}

fn is_line_of(line: &JobReport, job: &JobSpec, jobs: &[JobSpec], report: &Report) -> bool {
    // Lines of a group, and of a report that was too long, have the name of the first job.
    line.name == job.name || jobs.iter().any(|job| job.group_reporting) || report.jobs.len() == 1
}

fn jobs_missing(jobs: &[JobSpec], report: &Report) -> Option<String> {
    let is_known = |line: &&JobReport| jobs.iter().any(|job| job.name == line.name);
    if let Some(line) = report.jobs.iter().find(|line| !is_known(line)) {
        let name = crate::base::host::printable(&line.name.chars().take(64).collect::<String>());
        return Some(format!("this client has no job `{name}`"));
    }
    if may_not_begin(jobs) {
        return None;
    }
    let told = || jobs.iter().filter(|job| job.measuring.stats);
    let is_missing = |job: &&JobSpec| !report.jobs.iter().any(|line| is_line_of(line, job, jobs, report));
    if let Some(job) = told().find(is_missing) {
        return Some(format!("job `{}` is not in it", job.name));
    }
    let workers: u64 = told().map(|job| u64::from(job.numjobs)).sum();
    let reported: u64 = report.jobs.iter().map(|line| u64::from(line.workers)).sum();
    (reported < workers).then(|| format!("it is of {reported} workers, and the jobs have {workers}"))
}

/// Whether the state that is held here is that of what was written.
fn state_missing(server: &Server, report: &Report) -> Option<String> {
    let jobs = server.jobs();
    if server.is_detached() || !jobs.iter().any(keeps_state) {
        return None;
    }
    let Some(Held { cause, issued }) = server.held else {
        return Some("the state that its jobs keep never came".to_owned());
    };
    if cause == Cause::Checkpoint {
        return Some("the state that its jobs keep at the end never came".to_owned());
    }
    // Others write without a ledger.
    if jobs.iter().any(|job| replays(job) || job.mix.modifies() && !keeps_state(job)) {
        return None;
    }
    let counted: u64 = report.jobs.iter().map(|job| job.stats.ops.write.ios + job.stats.ops.trim.ios).sum();
    let ramps = |job: &JobSpec| job.ramp_time_ns > 0 || job.order.ramp_size > 0;
    let has_ramp = jobs.iter().any(ramps);
    if counted > issued {
        return Some(format!("it has {counted} writes and trims, and the state that came has {issued}"));
    }
    (issued > 0 && counted == 0 && !has_ramp && !jobs.iter().any(|job| job.state.go_on))
        .then(|| format!("it has no writes, and the state that came has {issued}"))
}

/// Whether a job was to be verified to its end, and the report has nothing of that.
fn is_unverified(job: &JobSpec, jobs: &[JobSpec], report: &Report) -> bool {
    let verify = &job.verify;
    let reads_back = verify.only || job.mix.modifies() && verify.do_verify;
    if verify.method.is_none() || !reads_back || !job.measuring.stats {
        return false;
    }
    if may_not_begin(jobs) {
        // One that was ended before it began has promised nothing; but not all of them were.
        return !report.jobs.iter().any(|line| line.verify.is_some());
    }
    let mut lines = report.jobs.iter().filter(|line| is_line_of(line, job, jobs, report));
    !lines.any(|line| line.verify.is_some())
}
