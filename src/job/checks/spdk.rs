//! What must hold between the options of engine `spdk`, and between jobs that share a driver.

use std::collections::HashMap;

use super::issue;
use crate::base::Op;
use crate::base::spdk::{Digest, SpdkOptions, TimeoutAction, WriteMode};
use crate::base::transport_id::{Transport, TransportId};
use crate::job::diagnostic::{Issue, Issues, Place};
use crate::job::options::{OPTIONS, SPDK};
use crate::job::resolve::Draft;
use crate::job::spdk::ENGINE;
use crate::job::spec::JobSpec;
use crate::job::table::find;

/// Reports every rule that the job breaks.
pub(super) fn check(draft: &Draft<'_>, issues: &mut Issues) {
    if draft.job.ioengine != ENGINE {
        foreign(draft, issues);
        return;
    }
    files(draft, issues);
    queues(draft, issues);
    partners(draft, issues);
    transports(draft, issues);
    write_mode(draft, issues);
    times(draft, issues);
}

/// Options that another engine would pass over.
fn foreign(draft: &Draft<'_>, issues: &mut Issues) {
    let unset = JobSpec::default();
    let set = |name: &str| find(name).is_some_and(|(_, def)| def.show(&draft.job) != def.show(&unset));
    for option in OPTIONS.iter().filter(|option| option.section == SPDK) {
        if draft.setting(option.name).is_some() && set(option.name) {
            issues.push(issue(
                draft.place(option.name),
                format!("`{}` needs ioengine = \"spdk\": it is for SPDK's driver", option.name),
                "leave it out, or set ioengine = \"spdk\"",
            ));
        }
    }
}

/// Options of files, which a namespace is not.
fn files(draft: &Draft<'_>, issues: &mut Issues) {
    let job = &draft.job;
    if job.directory.is_some() {
        issues.push(issue(
            draft.place("directory"),
            "`directory` is for files, and engine `spdk` has none: `filename` names namespaces",
            "leave it out, or set it in the jobs of other engines only",
        ));
    }
    if draft.setting("direct").is_some() && !job.direct {
        issues.push(issue(
            draft.place("direct"),
            "engine `spdk` always goes around the page cache: it has no use for direct = false",
            "leave it out, or set direct = true",
        ));
    }
    if job.create_only {
        issues.push(issue(
            draft.place("create_only"),
            "engine `spdk` has no files that could be laid out",
            "leave `create_only` out",
        ));
    }
}

fn queues(draft: &Draft<'_>, issues: &mut Issues) {
    let (depth, spdk) = (draft.job.iodepth, &draft.job.spdk);
    if let Some(size) = spdk.io_queue_size.filter(|size| *size <= depth) {
        issues.push(issue(
            draft.place("io_queue_size"),
            format!("a queue of {size} entries holds {} commands, below the `iodepth` of {depth}", size - 1),
            "raise it above `iodepth`, or leave it out",
        ));
    }
    if let Some(requests) = spdk.io_queue_requests.filter(|requests| *requests < depth) {
        issues.push(issue(
            draft.place("io_queue_requests"),
            format!("`io_queue_requests` is {requests}, below the `iodepth` of {depth}"),
            "raise it, or leave it out",
        ));
    }
}

/// Options that mean nothing without another one.
fn partners(draft: &Draft<'_>, issues: &mut Issues) {
    let (spdk, unset) = (&draft.job.spdk, SpdkOptions::default());
    const WRR: (&str, &str) = ("`enable_wrr`", "set enable_wrr = true");
    const TIMEOUT: (&str, &str) = ("`command_timeout`", "set for example command_timeout = \"5s\"");
    const CHECKED: (&str, &str) = ("`pi_chk` with APPTAG", "set for example pi_chk = \"GUARD|APPTAG\"");
    let (wrr, checked) = (spdk.enable_wrr, spdk.pi_chk.application);
    let rules = [
        ("arbitration_burst", spdk.arbitration_burst != unset.arbitration_burst, wrr, WRR),
        ("low_weight", spdk.low_weight != unset.low_weight, wrr, WRR),
        ("medium_weight", spdk.medium_weight != unset.medium_weight, wrr, WRR),
        ("high_weight", spdk.high_weight != unset.high_weight, wrr, WRR),
        ("wrr_priority", spdk.wrr_priority != unset.wrr_priority, wrr, WRR),
        ("timeout_action", spdk.timeout_action != TimeoutAction::None, spdk.command_timeout_ns > 0, TIMEOUT),
        ("apptag_mask", spdk.apptag_mask != unset.apptag_mask, checked, CHECKED),
    ];
    for (name, set, there, (needed, help)) in rules {
        if set && !there {
            issues.push(issue(draft.place(name), format!("`{name}` needs {needed}"), help));
        }
    }
}

/// Options that only some transports know.
fn transports(draft: &Draft<'_>, issues: &mut Issues) {
    let spdk = &draft.job.spdk;
    let kinds: Vec<Transport> = ids(&draft.job).map(|id| id.trtype).collect();
    // What is wrong with the targets was said.
    if kinds.is_empty() {
        return;
    }
    if spdk.digest_enable != Digest::None && !kinds.contains(&Transport::Tcp) {
        issues.push(issue(
            draft.place("digest_enable"),
            "`digest_enable` needs a target with trtype=TCP: no other transport has such digests",
            "leave it out",
        ));
    }
    if spdk.hostnqn.is_some() && !kinds.iter().any(|kind| kind.is_fabric()) {
        issues.push(issue(
            draft.place("hostnqn"),
            "`hostnqn` needs a target of fabrics: no other controller asks for a name",
            "leave it out",
        ));
    }
}

fn write_mode(draft: &Draft<'_>, issues: &mut Issues) {
    let job = &draft.job;
    let why = match job.spdk.write_mode {
        WriteMode::Write => return,
        WriteMode::Zeroes => "Write Zeroes leaves zeros, not blocks that could be judged",
        WriteMode::Uncorrectable => "Write Uncorrectable leaves blocks that cannot be read",
        WriteMode::Verify => "the command Verify writes nothing that could be judged",
        WriteMode::Compare => "Compare writes nothing that could be judged",
    };
    let place = draft.place("write_mode");
    if job.verify.method.is_some() {
        let message = format!("`write_mode` makes no sense with `verify`: {why}");
        issues.push(issue(place, message, "leave one of them out"));
    }
    if !job.mix.issues(Op::Write) {
        let help = "set for example rw = \"write\"";
        issues.push(issue(place, "`write_mode` needs a workload that writes", help));
    }
    if job.writefua && job.spdk.write_mode != WriteMode::Zeroes {
        let message = "`writefua` is for writes that store data, and with this `write_mode` none does";
        issues.push(issue(
            draft.place("writefua"),
            message,
            "leave one of them out; compare and verify obey `readfua`",
        ));
    }
}

/// SPDK counts timeouts of commands in microseconds, the others in milliseconds of 32 bits.
fn times(draft: &Draft<'_>, issues: &mut Issues) {
    const US: u64 = 1_000;
    const MS: u64 = 1_000_000;
    let spdk = &draft.job.spdk;
    if !spdk.command_timeout_ns.is_multiple_of(US) {
        let message = "`command_timeout` is counted in microseconds";
        issues.push(issue(draft.place("command_timeout"), message, "set for example \"500us\""));
    }
    let keep_alive = spdk.keep_alive_timeout_ns;
    if !keep_alive.is_multiple_of(MS) || keep_alive / MS > u64::from(u32::MAX) {
        let message = "`keep_alive_timeout` is counted in milliseconds, of which 4294967295 are the most";
        issues.push(issue(draft.place("keep_alive_timeout"), message, "set for example \"10s\""));
    }
}

/// The targets of a job.
fn ids(job: &JobSpec) -> impl Iterator<Item = TransportId> + '_ {
    job.filename.iter().filter_map(|name| TransportId::parse(name).ok())
}

/// What a process says to DPDK once.
const OF_THE_PROCESS: [&str; 5] = ["mem_size_mb", "mem_single_seg", "huge_dir", "iova_mode", "admin_cpu"];

/// What a controller is told when it is attached, or that has one value for all its queues.
const OF_A_CONTROLLER: [&str; 13] = [
    "num_io_queues",
    "use_cmb_sqs",
    "enable_wrr",
    "arbitration_burst",
    "low_weight",
    "medium_weight",
    "high_weight",
    "hostnqn",
    "digest_enable",
    "command_timeout",
    "timeout_action",
    "keep_alive_timeout",
    "volatile_write_cache",
];

/// Reports jobs of one run that ask different things of what they share: the process, or a controller that
/// they use together.
pub(crate) fn check_run(jobs: &[JobSpec], headers: &[&Place], issues: &mut Issues) {
    let mut first: Option<&JobSpec> = None;
    // Who used a controller first, among the jobs of a stage.
    let mut users: HashMap<String, &JobSpec> = HashMap::new();
    for (job, header) in jobs.iter().zip(headers) {
        if job.stonewall {
            users.clear();
        }
        if job.ioengine != ENGINE {
            continue;
        }
        let first = *first.get_or_insert(job);
        let mut found = difference(first, job, &OF_THE_PROCESS, "all jobs of a run are one process");
        for controller in ids(job).map(|id| id.controller()) {
            let user = *users.entry(controller).or_insert(job);
            let why = "both use one controller at the same time";
            found = found.or_else(|| difference(user, job, &OF_A_CONTROLLER, why));
        }
        issues.extend(found.map(|issue| issue.at(header).help("set it in [global], for all jobs")));
    }
}

/// The first of these options in which two jobs differ.
fn difference(one: &JobSpec, other: &JobSpec, names: &[&str], why: &str) -> Option<Issue> {
    if one.spdk == other.spdk {
        return None;
    }
    let differs = |name: &&&str| find(name).is_some_and(|(_, def)| def.show(one) != def.show(other));
    let name = names.iter().find(differs)?;
    Some(Issue::new(format!("jobs `{}` and `{}` differ in `{name}`, but {why}", one.name, other.name)))
}
