//! What must hold between jobs that wait for each other.

use crate::base::Op;
use crate::base::shape::BlockSizes;
use crate::job::diagnostic::{Issue, Issues, Place, nearest};
use crate::job::resolve::Draft;
use crate::job::spec::JobSpec;

use super::issue;

/// Reports every rule that the job breaks by itself.
pub(super) fn check(draft: &Draft<'_>, issues: &mut Issues) {
    if draft.job.order.start_timeout_ns == 0 {
        issues.push(issue(
            draft.place("start_timeout"),
            "a `start_timeout` of 0 would give up every target at once",
            "to wait nearly for ever, set for example start_timeout = \"365d\"",
        ));
    }
    watched_blocks(draft, issues);
}

/// Blocks are as long as trims, which must all be of one length then.
fn watched_blocks(draft: &Draft<'_>, issues: &mut Issues) {
    let (name, job) = ("block_error_percentiles", &draft.job);
    if !job.order.block_error_percentiles {
        return;
    }
    let mut refuse = |message: &str, help: &str| {
        issues.push(issue(draft.place(name), format!("`{name}` {message}"), help));
    };
    if job.replay.is_on() {
        refuse("means nothing beside `read_iolog`, whose trims are of any length", "leave it out");
        return;
    }
    let trims = job.mix.issues(Op::Deallocate);
    if !trims && job.verify.trim_percentage == 0 {
        refuse(
            "counts trims, and this job makes none",
            "set for example rw = \"trimwrite\", or leave it out",
        );
        return;
    }
    // What `trim_percentage` trims is as long as it was written.
    let op = if trims { Op::Deallocate } else { Op::Write };
    let mut sizes = job.all_sizes_of(op);
    let first = sizes.next();
    let one = matches!(first, Some(BlockSizes::Fixed(_))) && sizes.all(|size| Some(size) == first);
    if !one {
        refuse(
            "needs trims of one length, as blocks are as long as they",
            "set one bs for trims, no range or split",
        );
    }
}

/// What says how something is done that no job of the run does. It may stand in `[global]` for some of them.
fn without_effect(jobs: &[JobSpec], headers: &[&Place], issues: &mut Issues) {
    let unset = JobSpec::default();
    let ends = jobs.iter().any(|job| job.order.exitall || job.order.exitall_on_error);
    let flows = jobs.iter().any(|job| job.pace.flow > 0);
    for (job, header) in jobs.iter().zip(headers) {
        let lonely = [
            ("exit_what", !ends && job.order.exit_what != unset.order.exit_what, "exitall = true"),
            ("flow_id", !flows && job.pace.flow_id != unset.pace.flow_id, "flow = 1"),
            ("flow_sleep", !flows && job.pace.flow_sleep_ns != unset.pace.flow_sleep_ns, "flow = 1"),
        ];
        for (name, _, needed) in lonely.into_iter().filter(|(_, is_lonely, _)| *is_lonely) {
            let message = format!("`{name}` says nothing without `{needed}`, which no job of the run has");
            issues.push(Issue::new(message).at(header).help(format!("set {needed}, or leave {name} out")));
        }
    }
}

/// Who is waited for must stand before who waits, or nobody would ever start.
pub(crate) fn check_run(jobs: &[JobSpec], headers: &[&Place], issues: &mut Issues) {
    without_effect(jobs, headers, issues);
    for (index, (job, header)) in jobs.iter().zip(headers).enumerate() {
        let Some(name) = &job.order.wait_for else { continue };
        let earlier = || jobs[..index].iter().map(|job| job.name.as_str());
        if earlier().any(|earlier| earlier == name) {
            continue;
        }
        let message = match jobs[index..].iter().position(|job| job.name == *name) {
            Some(0) => format!("`wait_for`: the job `{name}` cannot wait for itself"),
            Some(_) => {
                format!("`wait_for`: the job `{name}` stands after the job `{}` that waits for it", job.name)
            }
            None => format!("`wait_for`: there is no job `{name}` before the job `{}`", job.name),
        };
        let mut issue = Issue::new(message).at(header);
        if let Some(near) = nearest(name, earlier()) {
            issue = issue.help(format!("did you mean `{near}`?"));
        } else if index == 0 {
            issue = issue.help("the first job has nobody to wait for");
        }
        issues.push(issue);
    }
}
