//! What must hold between the options of a job.

mod commands;
mod cut;
mod files;
mod host;
mod logs;
mod measuring;
mod order;
mod pace;
mod places;
mod replay;
mod spdk;
mod verify;

use super::diagnostic::{Issue, Issues, Place};
use super::resolve::Draft;
use super::spec::JobSpec;
use crate::base::Op;
use crate::base::shape::{Amount, Mix};
use crate::base::sim::{FaultRates, SimOptions};

/// Reports what must hold between the jobs of a run.
pub(crate) fn check_run(jobs: &[JobSpec], headers: &[&Place], issues: &mut Issues) {
    spdk::check_run(jobs, headers, issues);
    host::check_run(jobs, headers, issues);
    order::check_run(jobs, headers, issues);
}

/// Reports every rule that the job breaks, at the option that breaks it.
pub(crate) fn check(draft: &Draft<'_>, issues: &mut Issues) {
    time_and_amount(draft, issues);
    depth(draft, issues);
    content(draft, issues);
    safety(draft, issues);
    io_uring(draft, issues);
    sim(draft, issues);
    measuring::check(draft, issues);
    order::check(draft, issues);
    pace::check(draft, issues);
    spdk::check(draft, issues);
    replay::check(draft, issues);
    verify::check(draft, issues);
    logs::check(draft, issues);
    places::check(draft, issues);
    commands::check(draft, issues);
    cut::check(draft, issues);
    host::check(draft, issues);
    files::check(draft, issues);
}

fn issue(place: &Place, message: impl Into<String>, help: &str) -> Issue {
    Issue::new(message).at(place).help(help)
}

fn time_and_amount(draft: &Draft<'_>, issues: &mut Issues) {
    let job = &draft.job;
    if job.time_based && job.runtime_ns.is_none() {
        issues.push(issue(
            draft.place("time_based"),
            "`time_based` needs `runtime`, or the job would never end",
            "set for example runtime = \"30s\"",
        ));
    }
    if job.reap_timeout_ns == 0 {
        issues.push(issue(
            draft.place("reap_timeout"),
            "a `reap_timeout` of 0 would give up every I/O at once",
            "to wait nearly for ever, set for example reap_timeout = \"365d\"",
        ));
    }
    let engine = job.ioengine.as_str();
    let sized = job.replay.is_on() || !matches!(engine, "null" | "sim");
    if !sized && !matches!(job.size, Some(Amount::Bytes(_))) {
        let (place, what) = match job.size {
            None => ("ioengine", format!("the `{engine}` engine has no size of its own")),
            Some(_) => ("size", format!("the `{engine}` engine has no size to take a percentage of")),
        };
        issues.push(issue(draft.place(place), what, "set for example size = \"1g\""));
    }
}

fn depth(draft: &Draft<'_>, issues: &mut Issues) {
    let job = &draft.job;
    let bounds = [
        ("iodepth_batch_submit", job.iodepth_batch_submit),
        ("iodepth_batch_complete_min", job.iodepth_batch_complete_min),
        ("iodepth_batch_complete_max", job.iodepth_batch_complete_max),
        ("iodepth_low", job.iodepth_low),
    ];
    let mut above = false;
    for (name, number) in bounds {
        if number > job.iodepth {
            above = true;
            let message = format!("`{name}` is {number}, above the `iodepth` of {}", job.iodepth);
            issues.push(issue(draft.place(name), message, "raise `iodepth`, or leave this out"));
        }
    }
    let (min, max) = (job.iodepth_batch_complete_min, job.iodepth_batch_complete_max);
    if !above && min > max {
        let name = "iodepth_batch_complete_min";
        let message = format!("`{name}` is {min}, above the `iodepth_batch_complete_max` of {max}");
        issues.push(Issue::new(message).at(draft.place(name)));
    }
}

fn content(draft: &Draft<'_>, issues: &mut Issues) {
    let content = &draft.job.content;
    if !content.zero_buffers {
        return;
    }
    let others = [
        ("buffer_pattern", content.buffer_pattern.is_some()),
        ("buffer_compress_percentage", content.compress_percentage > 0),
        ("dedupe_percentage", content.dedupe_percentage > 0),
    ];
    for (name, _) in others.iter().filter(|(_, set)| *set) {
        issues.push(issue(
            draft.place(name),
            format!("`{name}` makes no sense with `zero_buffers`, which writes nothing but zeros"),
            "leave one of them out, or set zero_buffers = false here",
        ));
    }
}

fn safety(draft: &Draft<'_>, issues: &mut Issues) {
    let job = &draft.job;
    if job.readonly && job.mix.modifies() {
        let mut refused = issue(
            draft.place("rw"),
            format!("the job `{}` is `readonly`, but would {}", job.name, effect(job.mix)),
            "take `readonly` away if the data on the target may be lost",
        );
        refused.refusal = true;
        issues.push(refused);
    }
    if job.fill_device && !job.mix.issues(Op::Write) {
        issues.push(issue(
            draft.place("fill_device"),
            "`fill_device` needs a workload that writes",
            "set for example rw = \"write\"",
        ));
    }
}

fn effect(mix: Mix) -> &'static str {
    match mix {
        Mix::Read => "read",
        Mix::Write | Mix::ReadWrite => "write",
        Mix::Trim => "trim",
        Mix::TrimWrite => "trim and write",
        // Only a run knows what a log holds.
        Mix::Replayed { .. } => "replay a log",
    }
}

fn io_uring(draft: &Draft<'_>, issues: &mut Issues) {
    let (job, uring) = (&draft.job, &draft.job.io_uring);
    if uring.hipri && !job.direct {
        issues.push(issue(
            draft.place("hipri"),
            "`hipri` needs `direct`: only I/O past the page cache can be polled for",
            "set direct = true",
        ));
    }
    if uring.sqthread_poll_cpu.is_some() && !uring.sqthread_poll {
        issues.push(issue(
            draft.place("sqthread_poll_cpu"),
            "`sqthread_poll_cpu` needs `sqthread_poll`",
            "set sqthread_poll = true",
        ));
    }
}

fn sim(draft: &Draft<'_>, issues: &mut Issues) {
    let (job, sim, unset) = (&draft.job, &draft.job.sim, SimOptions::default());
    if job.ioengine != "sim" {
        let set = [
            ("sim_seed", sim.seed != unset.seed),
            ("sim_lba", sim.lba != unset.lba),
            ("sim_cache", sim.cache != unset.cache),
            ("sim_path_flushes", sim.path_flushes != unset.path_flushes),
            ("sim_atomic_unit", sim.atomic_unit != unset.atomic_unit),
            ("sim_latency", sim.latency_ns != unset.latency_ns),
            ("sim_cut_after", sim.cut_after != unset.cut_after),
            ("sim_faults", sim.faults != unset.faults),
            ("sim_fault_after", sim.fault_after != unset.fault_after),
            ("sim_fault_limit", sim.fault_limit != unset.fault_limit),
        ];
        for (name, _) in set.iter().filter(|(_, set)| *set) {
            issues.push(issue(
                draft.place(name),
                format!("`{name}` needs ioengine = \"sim\": it says what the simulated drive does"),
                "leave it out, or set ioengine = \"sim\"",
            ));
        }
        return;
    }
    if let Some((name, why)) = sim.objection() {
        issues.push(Issue::new(why).at(draft.place(name)));
    }
    for op in [Op::Read, Op::Write, Op::Deallocate, Op::Flush] {
        let rates = sim.faults.iter().filter(|(fault, _)| fault.befalls(op));
        let sum: u64 = rates.map(|(_, rate)| u64::from(rate)).sum();
        if sum > u64::from(FaultRates::WHOLE) {
            let message = format!("`sim_faults`: what can befall a {} adds up to more than 100%", op.name());
            issues.push(issue(draft.place("sim_faults"), message, "a command suffers one fault at most"));
        }
    }
}
