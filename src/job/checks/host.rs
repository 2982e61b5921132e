//! What must hold between the options of the machine, and between jobs that share a process.

use super::issue;
use crate::base::host::mapping::BufferMemory;
use crate::base::host::thread_settings::MemoryPolicy;
use crate::job::diagnostic::{Issue, Issues, Place};
use crate::job::resolve::Draft;
use crate::job::spec::JobSpec;

/// Reports every rule that the job breaks.
pub(super) fn check(draft: &Draft<'_>, issues: &mut Issues) {
    let (job, host) = (&draft.job, &draft.job.host);
    if host.cpu_nodes.is_some() && job.cpus_allowed.is_some() {
        issues.push(issue(
            draft.place("numa_cpu_nodes"),
            "`numa_cpu_nodes` names CPUs, and so does `cpus_allowed`",
            "keep one of them",
        ));
    }
    if host.memory.huge_bytes.is_some() && !host.memory.kind.is_huge() {
        issues.push(issue(
            draft.place("hugepage_size"),
            "`hugepage_size` needs buffers in hugepages",
            "set mem = \"mmaphuge\" or mem = \"shmhuge\"",
        ));
    }
    for (name, set) in [
        ("cgroup_weight", host.group.weight.is_some()),
        ("cgroup_io_max", host.group.io_max.is_some()),
        ("cgroup_nodelete", host.group.keep),
    ] {
        if set && host.group.name.is_none() {
            issues.push(issue(
                draft.place(name),
                format!("`{name}` needs `cgroup`"),
                "set for example cgroup = \"fio-spdk\"",
            ));
        }
    }
    engine(draft, issues);
}

/// What an engine that does not go through the kernel would pass over.
fn engine(draft: &Draft<'_>, issues: &mut Issues) {
    let (job, host) = (&draft.job, &draft.job.host);
    let engine = job.ioengine.as_str();
    let by_kernel = !matches!(engine, "null" | "sim" | "spdk");
    const SCHEDULED: &str = "its I/O does not go through the kernel's block layer";
    const OWN: &str = "its buffers are memory of SPDK's own, which devices can reach";
    let memory = &host.memory;
    let rules = [
        ("ioscheduler", host.io_scheduler.is_some(), by_kernel, SCHEDULED),
        ("prio", host.prio.is_some(), by_kernel, SCHEDULED),
        ("prioclass", host.prio.is_none() && host.io_priority().is_some(), by_kernel, SCHEDULED),
        ("cgroup_weight", host.group.weight.is_some(), by_kernel, SCHEDULED),
        ("cgroup_io_max", host.group.io_max.is_some(), by_kernel, SCHEDULED),
        ("mem", *memory != BufferMemory::default(), engine != "spdk", OWN),
        ("numa_mem_policy", host.memory_policy != MemoryPolicy::Default, engine != "spdk", OWN),
    ];
    for (name, set, works, why) in rules {
        if set && !works {
            let name = match name {
                "mem" if draft.setting("mem").is_none() => "iomem_align",
                "prioclass" if draft.setting("prioclass").is_none() => "priohint",
                other => other,
            };
            issues.push(issue(
                draft.place(name),
                format!("`{name}` does nothing with engine `{engine}`: {why}"),
                "leave it out, or set it in the jobs of other engines only",
            ));
        }
    }
}

/// Reports jobs of one run that want to be in different control groups.
pub(super) fn check_run(jobs: &[JobSpec], headers: &[&Place], issues: &mut Issues) {
    let Some(first) = jobs.first() else { return };
    for (job, header) in jobs.iter().zip(headers).filter(|(job, _)| job.host.group != first.host.group) {
        let message = format!(
            "jobs `{}` and `{}` differ in `cgroup` or what belongs to it, but all jobs of a run are one process, \
             which is in one group",
            first.name, job.name
        );
        issues.push(Issue::new(message).at(header).help("set it in [global], for all jobs"));
    }
}
