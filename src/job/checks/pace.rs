//! What must hold between rates, pauses and demands.

use super::issue;
use crate::base::{Op, PerOp};
use crate::job::diagnostic::Issues;
use crate::job::resolve::Draft;
use crate::job::spec::PaceSpec;

pub(super) fn check(draft: &Draft<'_>, issues: &mut Issues) {
    rates(draft, issues);
    thinktime(draft, issues);
    latency(draft, issues);
    let pace = &draft.job.pace;
    if pace.flow == 0 && pace.flow_sleep_ns > 0 {
        issues.push(issue(
            draft.place("flow_sleep"),
            "`flow_sleep` needs `flow`",
            "set for example flow = 1",
        ));
    }
}

fn rates(draft: &Draft<'_>, issues: &mut Issues) {
    let (job, pace) = (&draft.job, &draft.job.pace);
    let used = |op: &Op| job.mix.issues(*op);
    for op in Op::ADDRESSED.into_iter().filter(used) {
        let name = op.name();
        let both = [
            ("rate_iops", "rate", *pace.rate_iops.get(op) > 0 && *pace.rate.get(op) > 0),
            ("rate_iops_min", "rate_min", *pace.rate_iops_min.get(op) > 0 && *pace.rate_min.get(op) > 0),
        ];
        for (one, other, _) in both.iter().filter(|(_, _, set)| *set) {
            let message = format!("both `{one}` and `{other}` are set for {name}s: one of them says it all");
            issues.push(issue(draft.place(one), message, "leave one of them out"));
        }
        let rate = allowed(*pace.rate.get(op), *pace.rate_iops.get(op), job.bs.get(op).min());
        let least = [
            ("rate_min", *pace.rate_min.get(op)),
            ("rate_iops_min", u64::from(*pace.rate_iops_min.get(op)) * u64::from(job.bs.get(op).min())),
        ];
        for (option, _) in least.iter().filter(|(_, least)| rate.is_some_and(|rate| *least > rate)) {
            let message = format!("`{option}` demands more {name}s than the rate lets through");
            issues.push(issue(draft.place(option), message, "lower it, or raise the rate"));
        }
    }
    if pace.poisson && !is_rated(draft) {
        let message = "`rate_process = \"poisson\"` needs a rate for what the job does";
        issues.push(issue(draft.place("rate_process"), message, "set for example rate_iops = 1000"));
    }
}

/// Whether a rate holds for something that the job does.
fn is_rated(draft: &Draft<'_>) -> bool {
    let (job, pace) = (&draft.job, &draft.job.pace);
    let set = |op: &Op| *pace.rate.get(*op) > 0 || *pace.rate_iops.get(*op) > 0;
    Op::ADDRESSED.iter().any(|op| job.mix.issues(*op) && set(op))
}

fn allowed(rate: u64, iops: u32, block: u32) -> Option<u64> {
    let rate = if rate > 0 { rate } else { u64::from(iops) * u64::from(block) };
    (rate > 0).then_some(rate)
}

fn thinktime(draft: &Draft<'_>, issues: &mut Issues) {
    let pace = &draft.job.pace;
    let needs = [
        ("thinktime_spin", pace.thinktime_spin_ns > 0),
        ("thinktime_blocks", pace.thinktime_blocks.is_some()),
        ("thinktime_blocks_type", pace.thinktime_at_issue),
        ("thinktime_iotime", pace.thinktime_iotime_ns.is_some()),
        ("rate_ignore_thinktime", pace.rate_ignore_thinktime),
    ];
    for (name, _) in needs.iter().filter(|(_, set)| *set && pace.thinktime_ns == 0) {
        let message = format!("`{name}` needs `thinktime`");
        issues.push(issue(draft.place(name), message, "set for example thinktime = \"100us\""));
    }
    if pace.thinktime_ns > 0 && pace.thinktime_spin_ns > pace.thinktime_ns {
        let message = "`thinktime_spin` is longer than the `thinktime` it is a part of";
        issues.push(issue(draft.place("thinktime_spin"), message, "lower it, or raise `thinktime`"));
    }
    if pace.rate_ignore_thinktime && pace.thinktime_ns > 0 && !is_rated(draft) {
        let message = "`rate_ignore_thinktime` needs a rate";
        issues.push(issue(draft.place("rate_ignore_thinktime"), message, "set for example rate_iops = 1000"));
    }
}

fn latency(draft: &Draft<'_>, issues: &mut Issues) {
    let (job, pace) = (&draft.job, &draft.job.pace);
    if pace.latency_target_ns == 0 {
        let unset = PaceSpec::default();
        let lonely = [
            ("latency_run", pace.latency_run),
            ("latency_window", pace.latency_window_ns != unset.latency_window_ns),
            ("latency_percentile", pace.latency_percentile != unset.latency_percentile),
        ];
        for (name, _) in lonely.into_iter().filter(|(_, is_set)| *is_set) {
            let message = format!("`{name}` needs `latency_target`");
            issues.push(issue(draft.place(name), message, "set for example latency_target = \"1ms\""));
        }
        return;
    }
    if pace.thinktime_ns > 0 || pace.flow > 0 || is_rated(draft) {
        let message =
            "`latency_target` looks for the depth that a latency allows: pauses and rates would hide it";
        issues.push(issue(
            draft.place("latency_target"),
            message,
            "leave out thinktime, rate, rate_iops and flow",
        ));
    }
    if job.pace.max_latency_ns != PerOp::default() {
        let message =
            "`max_latency` would end the search of `latency_target` at the first depth that is too large";
        issues.push(issue(draft.place("max_latency"), message, "leave one of them out"));
    }
}
