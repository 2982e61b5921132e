//! What must hold between the options of verification.

use super::issue;
use crate::base::Op;
use crate::base::shape::Mix;
use crate::base::units::format_size;
use crate::base::verify::{BadInterval, Method, gcd};
use crate::job::diagnostic::{Issues, Place};
use crate::job::resolve::Draft;
use crate::job::shapes::show_size;

/// Reports every rule that the job breaks.
pub(super) fn check(draft: &Draft<'_>, issues: &mut Issues) {
    partners(draft, issues);
    let Some(method) = draft.job.verify.method else { return };
    pattern(draft, method, issues);
    content(draft, issues);
    engine(draft, method, issues);
    blocks(draft, issues);
    if draft.job.mix == Mix::Trim && !draft.job.verify.trim_verify_zero {
        issues.push(issue(
            place(draft),
            "a job that only trims has nothing to verify",
            "set trim_verify_zero = true if trimmed blocks must read as zeros",
        ));
    }
}

/// Where verification was asked for.
fn place<'a>(draft: &'a Draft<'_>) -> &'a Place {
    let name = if draft.setting("verify").is_some() { "verify" } else { "verify_pattern" };
    draft.place(name)
}

/// Options that mean nothing without another one.
fn partners(draft: &Draft<'_>, issues: &mut Issues) {
    let (job, verify) = (&draft.job, &draft.job.verify);
    // What a log does shows when the run begins.
    let (verifies, writes) = (verify.method.is_some(), job.mix.issues(Op::Write) || job.replay.is_on());
    const VERIFY: (&str, &str) = ("`verify`", "set for example verify = \"crc32c\"");
    const WRITES: (&str, &str) = ("a workload that writes", "set for example rw = \"write\"");
    const CHANGES: (&str, &str) = ("a workload that writes or trims", WRITES.1);
    const ASYNC: (&str, &str) = ("`verify_async`", "set for example verify_async = 1");
    const BACKLOG: (&str, &str) = ("`verify_backlog`", "set for example verify_backlog = 64");
    const TRIMMED: (&str, &str) = ("`trim_percentage`", "set for example trim_percentage = 10");
    let backlog = verify.backlog > 0;
    let trims = verify.trim_percentage > 0;
    // A snapshot promises nothing for jobs that do not verify or change nothing: they are left out.
    let only = verify.only && !job.state.load;
    let rules = [
        ("verify_only", only, verifies, VERIFY),
        ("verify_only", only, writes || job.mix.modifies(), CHANGES),
        ("verify_pattern_interval", verify.pattern_interval.is_some(), verify.pattern.is_some(), PATTERN),
        ("verify_async_cpus", verify.async_cpus.is_some(), verify.async_threads > 0, ASYNC),
        ("verify_backlog", backlog, verifies, VERIFY),
        ("verify_backlog", backlog, writes, WRITES),
        ("verify_backlog_batch", verify.backlog_batch > 0, backlog, BACKLOG),
        ("trim_percentage", trims, verifies, VERIFY),
        ("trim_percentage", trims, writes, WRITES),
        ("trim_verify_zero", verify.trim_verify_zero, verifies, VERIFY),
        ("trim_backlog", verify.trim_backlog > 0, trims, TRIMMED),
        ("trim_backlog_batch", verify.trim_backlog_batch > 0, trims, TRIMMED),
    ];
    for (name, set, there, (needed, help)) in rules {
        if set && !there {
            issues.push(issue(draft.place(name), format!("`{name}` needs {needed}"), help));
        }
    }
    if verify.only && !job.state.load && job.time_based {
        issues.push(issue(
            draft.place("verify_only"),
            "`verify_only` cannot know how far an earlier run that was `time_based` came",
            "bound the amount instead, by `size`, `io_size`, `number_ios` or `loops`",
        ));
    }
    if verify.only && job.state.go_on {
        issues.push(issue(
            draft.place("verify_state_continue"),
            "`verify_state_continue` writes, and `verify_only` and `verify_state_load` do not",
            "leave one of them out",
        ));
    }
    if verify.only && !job.state.load && !verify.do_verify {
        issues.push(issue(
            draft.place("do_verify"),
            "with `verify_only` and without `do_verify` nothing is left to do",
            "leave one of them out",
        ));
    }
}

const PATTERN: (&str, &str) = ("`verify_pattern`", "set for example verify_pattern = \"0xdeadbeef\"");

fn pattern(draft: &Draft<'_>, method: Method, issues: &mut Issues) {
    let verify = &draft.job.verify;
    if matches!(method, Method::Pattern | Method::PatternHdr) && verify.pattern.is_none() {
        let (needed, help) = PATTERN;
        let message = format!("`verify = \"{}\"` needs {needed}", method.name());
        issues.push(issue(draft.place("verify"), message, help));
    }
    let Some(interval) = verify.pattern_interval.map(u64::from) else { return };
    if let Some(length) = lengths_of(draft).into_iter().find(|length| !length.is_multiple_of(interval)) {
        issues.push(issue(
            draft.place("verify_pattern_interval"),
            format!("`verify_pattern_interval` does not divide {}", what(length)),
            &format!("{} would do", show_size(gcd(length, interval))),
        ));
    }
}

/// Blocks have contents of their own.
fn content(draft: &Draft<'_>, issues: &mut Issues) {
    let content = &draft.job.content;
    if !draft.job.mix.issues(Op::Write) && !draft.job.replay.is_on() {
        return;
    }
    let others = [
        ("zero_buffers", content.zero_buffers),
        ("buffer_pattern", content.buffer_pattern.is_some()),
        ("buffer_compress_percentage", content.compress_percentage > 0),
        ("dedupe_percentage", content.dedupe_percentage > 0),
    ];
    for (name, _) in others.iter().filter(|(_, set)| *set) {
        issues.push(issue(
            draft.place(name),
            format!("`{name}` makes no sense with `verify`, which says itself what every write holds"),
            "use `verify_pattern` to choose what blocks hold",
        ));
    }
}

fn engine(draft: &Draft<'_>, method: Method, issues: &mut Issues) {
    let (job, verify) = (&draft.job, &draft.job.verify);
    if job.ioengine != "null" || method == Method::Null {
        return;
    }
    let writes = job.mix.issues(Op::Write) || job.replay.is_on();
    if writes && !verify.do_verify && verify.backlog == 0 {
        return;
    }
    let help = match (writes, verify.backlog > 0) {
        (false, _) => "leave `verify` out",
        (true, false) => "set do_verify = false to measure generating",
        (true, true) => "leave `verify_backlog` out and set do_verify = false to measure generating",
    };
    issues.push(issue(place(draft), "the `null` engine keeps no data that could be verified", help));
}

fn lengths_of(draft: &Draft<'_>) -> Vec<u64> {
    draft.job.lengths()
}

fn what(length: u64) -> String {
    format!("all block sizes and distances: one is {}", format_size(length))
}

/// I/Os can be cut into blocks, and blocks have room for what they begin with.
fn blocks(draft: &Draft<'_>, issues: &mut Issues) {
    if draft.job.replay.is_on() {
        return;
    }
    let verify = &draft.job.verify;
    let least = format_size(u64::from(verify.least_interval()));
    let interval = match verify.effective_interval(&lengths_of(draft)) {
        Ok(interval) => interval,
        Err(bad) => {
            let (message, help) = match bad {
                BadInterval::Uneven => {
                    ("`verify_interval` is no multiple of 8".to_owned(), "set for example 512".to_owned())
                }
                BadInterval::TooSmall { interval, instead, .. } => {
                    too_small(draft, interval, instead, &least)
                }
                BadInterval::DoesNotDivide { length } => (
                    format!("`verify_interval` does not divide {}", what(length)),
                    "choose a divisor of all, or leave it out".to_owned(),
                ),
            };
            let at = if verify.interval.is_some() { draft.place("verify_interval") } else { place(draft) };
            issues.push(issue(at, message, &help));
            return;
        }
    };
    offset(draft, interval, issues);
}

/// Header and digest must fit where `verify_offset` puts them, and clear of where they were made:
/// where both overlap, changing places twice does not bring everything back.
fn offset(draft: &Draft<'_>, interval: u32, issues: &mut Issues) {
    let verify = &draft.job.verify;
    let (at, front) = (verify.offset, verify.front_bytes());
    let room = interval.saturating_sub(front);
    let (message, help) = if at > room {
        let block = format_size(u64::from(interval));
        let message = format!("with this `verify_offset` the header does not fit into a block of {block}");
        (message, format!("at most {room} leaves room for it"))
    } else if at > 0 && at < front {
        let message = "with this `verify_offset` header and digest overlap the place they come from";
        (message.to_owned(), format!("0, or at least {front}"))
    } else {
        return;
    };
    issues.push(issue(draft.place("verify_offset"), message, &help));
}

fn too_small(draft: &Draft<'_>, interval: u32, instead: Option<u32>, least: &str) -> (String, String) {
    let verify = &draft.job.verify;
    let block = format_size(u64::from(interval));
    if verify.interval.is_some() {
        let message = format!("a `verify_interval` of {block} has no room for header and digest");
        return (message, format!("{least} is the least for this method"));
    }
    let message = format!(
        "the greatest block that divides all block sizes and 4KiB has {block}, too little for header and digest"
    );
    let help = match instead {
        Some(instead) => format!("set verify_interval = {}", show_size(u64::from(instead))),
        None => {
            format!("choose block sizes that are multiples of one number of at least {least}, such as 512")
        }
    };
    (message, help)
}
