//! What must hold between the options of hints, priorities, atomic writes and trims of several ranges.

use super::issue;
use crate::base::Op;
use crate::base::shape::{Amount, BlockSizes, Mix};
use crate::job::diagnostic::Issues;
use crate::job::resolve::Draft;
use crate::job::spec::commands::WriteHint;

/// Reports every rule that the job breaks.
pub(super) fn check(draft: &Draft<'_>, issues: &mut Issues) {
    let (job, commands) = (&draft.job, &draft.job.commands);
    // What a log does is seen later.
    let may_write = job.mix.issues(Op::Write) || job.replay.is_on();
    let on_files = matches!(job.ioengine.as_str(), "psync" | "io_uring");
    let written = [
        ("write_hint", commands.write_hint != WriteHint::NotSaid, "only files of the kernel have hints"),
        ("atomic", commands.atomic, "only the kernel's files have such writes"),
    ];
    for (name, set, why) in written {
        if set && !on_files {
            let message = format!("`{name}` does not go with engine `{}`: {why}", job.ioengine);
            issues.push(issue(draft.place(name), message, "use ioengine = \"io_uring\" or \"psync\""));
        } else if set && !may_write {
            let message = format!("`{name}` needs a workload that writes");
            issues.push(issue(draft.place(name), message, "set for example rw = \"write\""));
        }
    }
    atomic(draft, issues);
    priorities(draft, issues);
    ranges(draft, issues);
}

fn atomic(draft: &Draft<'_>, issues: &mut Issues) {
    let job = &draft.job;
    if !job.commands.atomic {
        return;
    }
    if job.replay.is_on() {
        issues.push(issue(
            draft.place("atomic"),
            "`atomic` needs writes of one length at multiples of it, and those of a log are as they are",
            "leave `atomic` or `read_iolog` out",
        ));
        return;
    }
    let size = match job.bs.write {
        BlockSizes::Fixed(size) if size.is_power_of_two() => u64::from(size),
        _ => {
            issues.push(issue(
                draft.place("bs"),
                "`atomic` needs writes of one length, and a power of two",
                "set for example bs = \"16k\"",
            ));
            return;
        }
    };
    let beside = [
        ("blockalign", !u64::from(job.blockalign.write).is_multiple_of(size)),
        ("offset", matches!(job.offset, Amount::Bytes(bytes) if !bytes.is_multiple_of(size))),
        ("rw", !job.random && job.rw_modifier.is_some_and(|hole| !hole.is_multiple_of(size))),
    ];
    for (name, _) in beside.iter().filter(|(_, wrong)| *wrong) {
        issues.push(issue(
            draft.place(name),
            format!("with `atomic`, writes begin at multiples of their length, {size} bytes"),
            "choose a multiple of bs",
        ));
    }
}

/// Trims of several ranges.
fn ranges(draft: &Draft<'_>, issues: &mut Issues) {
    let (job, count) = (&draft.job, draft.job.commands.trim_ranges);
    if count <= 1 {
        return;
    }
    if job.mix != Mix::Trim {
        issues.push(issue(
            draft.place("num_range"),
            "`num_range` is of jobs that trim, and do nothing else",
            "set rw = \"trim\" or \"randtrim\"",
        ));
        return;
    }
    if matches!(job.ioengine.as_str(), "psync" | "io_uring") {
        let engine = &job.ioengine;
        let message =
            format!("engine `{engine}` cannot trim several ranges at once: the kernel takes one a call");
        issues.push(issue(
            draft.place("num_range"),
            message,
            "use ioengine = \"spdk\" (or \"sim\"), or raise `bs` or `iodepth`",
        ));
    }
    let files = if job.filename.is_empty() { job.nrfiles as usize } else { job.filename.len() };
    let files_name = if job.filename.is_empty() { "nrfiles" } else { "filename" };
    let verify = if draft.setting("verify").is_some() { "verify" } else { "verify_pattern" };
    let beside = [
        (files_name, files > 1, "all ranges of a trim are of one target", "make a job for each target"),
        (
            verify,
            job.verify.method.is_some(),
            "trims of several ranges are not verified by the job that does them",
            "read the blocks in a job after it, with verify_pattern = \"0x00\" if they must be zeros",
        ),
        (
            "serialize_overlap",
            job.serialize_overlap,
            "which ranges are on their way is not looked at one by one",
            "leave out one of them",
        ),
        (
            "write_iolog",
            job.replay.write.is_some(),
            "a line of such a log has one offset",
            "leave out one of them",
        ),
    ];
    for (name, _, why, help) in beside.into_iter().filter(|(_, set, ..)| *set) {
        issues.push(issue(draft.place(name), format!("`{name}` does not go with `num_range`: {why}"), help));
    }
    let longest = job.all_sizes_of(Op::Deallocate).map(BlockSizes::max).max().unwrap_or(0);
    if u64::from(longest) * u64::from(count) > u64::from(u32::MAX) {
        let message = format!("{count} ranges of up to {longest} bytes are more than a trim can have, 4 GiB");
        issues.push(issue(draft.place("num_range"), message, "lower `num_range` or `bs`"));
    }
}

fn priorities(draft: &Draft<'_>, issues: &mut Issues) {
    let (job, commands) = (&draft.job, &draft.job.commands);
    let percentage = commands.prio_percentage.iter().any(|(_, &percent)| percent > 0);
    let split = commands.prio_split.iter().any(|(_, list)| !list.is_empty());
    let name = if split { "cmdprio_bssplit" } else { "cmdprio_percentage" };
    if percentage && split {
        issues.push(issue(
            draft.place("cmdprio_bssplit"),
            "`cmdprio_bssplit` and `cmdprio_percentage` both say which commands carry a priority",
            "keep one of them",
        ));
    } else if (percentage || split) && job.ioengine != "io_uring" {
        let message = format!("engine `{}` cannot give commands priorities of their own", job.ioengine);
        issues.push(issue(draft.place(name), message, "use ioengine = \"io_uring\""));
    } else if (percentage || split) && !job.direct {
        issues.push(issue(
            draft.place(name),
            format!("`{name}` needs `direct`: the page cache forgets priorities"),
            "set direct = true",
        ));
    }
    for partner in ["cmdprio_class", "cmdprio", "cmdprio_hint"] {
        if draft.setting(partner).is_some() && !percentage && !split {
            issues.push(issue(
                draft.place(partner),
                format!("`{partner}` needs commands that carry a priority"),
                "set for example cmdprio_percentage = 10",
            ));
        }
    }
}
