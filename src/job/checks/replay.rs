//! What must hold between the options of logs.

use super::issue;
use crate::base::replay::ReplayRules;
use crate::job::diagnostic::Issues;
use crate::job::resolve::Draft;
use crate::job::table::table;

/// Reports every rule that the job breaks.
pub(super) fn check(draft: &Draft<'_>, issues: &mut Issues) {
    let (replay, unset) = (&draft.job.replay, ReplayRules::default());
    let rules = &replay.rules;
    if !replay.is_on() {
        let needy = [
            ("replay_no_stall", rules.no_stall),
            ("replay_time_scale", rules.time_scale != unset.time_scale),
            ("replay_redirect", rules.redirect.is_some()),
            ("replay_align", rules.align != 0),
            ("replay_scale", rules.scale != unset.scale),
            ("replay_skip", rules.skip != unset.skip),
            ("merge_blktrace_file", replay.merge_into.is_some()),
            ("merge_blktrace_scalars", !replay.merge_scalars.is_empty()),
            ("merge_blktrace_iters", !replay.merge_iterations.is_empty()),
        ];
        for (name, _) in needy.iter().filter(|(_, set)| *set) {
            let message = format!("`{name}` needs `read_iolog`: the log to replay");
            issues.push(issue(draft.place(name), message, "name a log, or leave this out"));
        }
        return;
    }
    let is_spdk = draft.job.ioengine == crate::job::spdk::ENGINE;
    for option in table() {
        let (Some(instead), Some(setting)) = (option.beside_log, draft.setting(option.name)) else {
            continue;
        };
        let name = option.name;
        // Without the kernel's files a log cannot name the target.
        if is_spdk && name == "filename" {
            continue;
        }
        if name == "verify_state_continue" && !draft.job.state.go_on {
            continue;
        }
        let message = format!("`{name}` means nothing beside `read_iolog`: the log says what is done where");
        issues.push(issue(&setting.value.place, message, instead));
    }
    if is_spdk {
        spdk(draft, issues);
    }
    if rules.align > 0 && !rules.align.is_power_of_two() {
        let message = format!("`replay_align` is {}, which is no power of two", rules.align);
        issues.push(issue(draft.place("replay_align"), message, "set for example replay_align = \"4k\""));
    }
    logs(draft, issues);
}

fn spdk(draft: &Draft<'_>, issues: &mut Issues) {
    if draft.job.replay.rules.redirect.is_some() {
        issues.push(issue(
            draft.place("replay_redirect"),
            "with engine `spdk` all I/Os of a log go to the namespace of `filename`",
            "leave `replay_redirect` out",
        ));
    }
    if draft.job.filename.len() > 1 {
        issues.push(issue(
            draft.place("filename"),
            "with engine `spdk` all I/Os of a log go to one namespace",
            "name one",
        ));
    }
}

/// How many logs there are, and what is said of each.
fn logs(draft: &Draft<'_>, issues: &mut Issues) {
    let replay = &draft.job.replay;
    let count = replay.read.len();
    if replay.merge_into.is_none() {
        if count > draft.job.numjobs as usize {
            issues.push(issue(
                draft.place("read_iolog"),
                format!(
                    "there are {count} logs for {} clones of the job: the last would never be replayed",
                    draft.job.numjobs
                ),
                &format!("set numjobs = {count}, or merge them by merge_blktrace_file"),
            ));
        }
        for (name, set) in [
            ("merge_blktrace_scalars", !replay.merge_scalars.is_empty()),
            ("merge_blktrace_iters", !replay.merge_iterations.is_empty()),
        ] {
            if set {
                let message = format!("`{name}` needs `merge_blktrace_file`");
                issues.push(issue(draft.place(name), message, "name the file to merge into"));
            }
        }
        return;
    }
    for (name, has) in [
        ("merge_blktrace_scalars", replay.merge_scalars.len()),
        ("merge_blktrace_iters", replay.merge_iterations.len()),
    ] {
        if has > 0 && has != count {
            let message = format!("`{name}` has {has} numbers for {count} logs");
            issues.push(issue(draft.place(name), message, "give one for each log"));
        }
    }
}
