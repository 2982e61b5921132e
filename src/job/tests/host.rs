//! What a job asks of the machine.

use super::{job, message, parse_text};
use crate::base::host::mapping::MemoryKind;
use crate::base::host::thread_settings::{IoClass, MemoryPolicy, Nodes};
use crate::job::print;

/// Lines that are right on their own.
const LINES: [&str; 32] = [
    "cpumask = 34",
    "cpumask = \"0x8000000000000001\"",
    "numa_cpu_nodes = \"all\"",
    "numa_cpu_nodes = [0, \"2-3\"]",
    "numa_mem_policy = \"default\"",
    "numa_mem_policy = \"local\"",
    "numa_mem_policy = \"prefer:1\"",
    "numa_mem_policy = \"bind:0-1,3\"",
    "numa_mem_policy = \"interleave\"",
    "numa_mem_policy = \"interleave:0\"",
    "mem = \"mmap\"",
    "iomem = \"mmapshared:/tmp/b:c\"",
    "mem = \"shmhuge\"\nhugepage_size = \"2m\"",
    "mem = \"mmaphuge\"\nhugepage-size = \"1g\"",
    "iomem_align = 512",
    "mem_align = \"2m\"",
    "iomem_align = 0",
    "lockmem = \"1g\"",
    "nice = -5",
    "nice = \"19\"",
    "filename = \"f\"\nprio = 0",
    "filename = \"f\"\nprioclass = 3",
    "filename = \"f\"\nprioclass = \"rt\"\nprio = 7\npriohint = 3",
    "comm = \"fifteen bytes 1\"",
    "ioscheduler = \"mq-deadline\"",
    "cgroup = \"/a/b/\"",
    "cgroup = \"x\"\ncgroup_weight = 500\ncgroup_nodelete = true",
    "cgroup = \"x\"\ncgroup_io_max = \"rbps=100m, wiops=5\"",
    "exec_prerun = \"echo \\\"a b\\\"; true\"",
    "exec_postrun = \"sync\"",
    "cgroup_nodelete = false",
    "mem = \"malloc\"",
];

#[test]
fn each_line_prints_and_parses_back() {
    for line in LINES {
        let jobs = parse_text(&format!("[[job]]\nsize = \"1m\"\n{line}\n"));
        let jobs = jobs.unwrap_or_else(|why| panic!("{line}\n{why}"));
        let printed = print(&jobs);
        assert_eq!(parse_text(&printed).as_ref(), Ok(&jobs), "{line}\n{printed}");
    }
}

#[test]
fn the_values_mean_what_they_mean_in_fio() {
    assert_eq!(job("cpumask = 34").cpus_allowed, Some(vec![1, 5]));
    assert_eq!(job("numa_cpu_nodes = 1").host.cpu_nodes, Some(Nodes::These(vec![1])));
    let policy = |text: &str| job(&format!("numa_mem_policy = \"{text}\"")).host.memory_policy;
    assert_eq!(policy("bind:all"), MemoryPolicy::Bind(Nodes::All));
    assert_eq!(policy("prefer:2"), MemoryPolicy::Prefer(2));
    assert_eq!(job("mem = \"shm\"").host.memory.kind, MemoryKind::Shm);
    assert_eq!(job("hugepage-size = \"2m\"\nmem = \"mmaphuge\"").host.memory.huge_bytes, Some(2 << 20));
    let priority = job("prio = 3").host.io_priority().unwrap();
    assert_eq!((priority.level, priority.value()), (3, 2 << 13 | 3));
    assert_eq!(job("prioclass = 1").host.prio_class, IoClass::RealTime);
    assert_eq!(job("").host.io_priority(), None);
    assert_eq!(job("cgroup = \"/a/b/\"").host.group.name.as_deref(), Some("a/b"));
    let limits = job("cgroup = \"a\"\ncgroup_io_max = \"rbps=1m wiops=5\"").host.group.io_max;
    assert_eq!(limits.as_deref(), Some("rbps=1048576 wiops=5"));
}

#[test]
fn what_cannot_be_is_refused_with_what_would_be_right() {
    for (line, words) in [
        ("cpumask = 0", "below 1"),
        ("cpumask = \"0x\"", "no mask"),
        ("cpumask = 1\ncpus_allowed = 1", "sets the same"),
        ("numa_cpu_nodes = 0\ncpus_allowed = 1", "keep"),
        ("numa_mem_policy = \"bind\"", "needs nodes"),
        ("numa_mem_policy = \"prefer:1,2\"", "one node"),
        ("numa_mem_policy = \"local:1\"", "takes no nodes"),
        ("numa_mem_policy = \"first\"", "no policy"),
        ("mem = \"cudamalloc\"", "GPUs"),
        ("mem = \"malloc:/x\"", "no path"),
        ("mem = \"mmap:\"", "no path behind"),
        ("mem = \"mmaphug\"", "none of the choices"),
        ("hugepage_size = \"2m\"", "needs buffers in hugepages"),
        ("hugepage_size = \"3m\"\nmem = \"shmhuge\"", "powers of two"),
        ("nice = 20", "-20 to 19"),
        ("nice = \"-21\"", "-20 to 19"),
        ("prio = 8", "above 7"),
        ("priohint = 1024", "above 1023"),
        ("prioclass = \"high\"", "none of the choices"),
        ("prio = 1\nioengine = \"null\"\nsize = 4096", "block layer"),
        ("priohint = 1\nioengine = \"null\"\nsize = 4096", "priohint"),
        ("comm = \"sixteen bytes 12\"", "15 bytes"),
        ("ioscheduler = \"../x\"", "no name"),
        ("ioscheduler = \"none\"\nioengine = \"sim\"\nsize = 4096", "block layer"),
        ("cgroup = \"a/../b\"", "cannot be"),
        ("cgroup_weight = 100", "needs `cgroup`"),
        ("cgroup = \"a\"\ncgroup_io_max = \"rbps\"", "none of rbps="),
        ("cgroup = \"a\"\ncgroup_io_max = \"rbps=1 rbps=2\"", "twice"),
        ("exec_prerun = \" \"", "no command"),
        ("ioengine = \"spdk\"\nfilename = \"0000:5e:00.0\"\nmem = \"mmap\"", "SPDK's own"),
        ("ioengine = \"spdk\"\nfilename = \"0000:5e:00.0\"\niomem_align = 512", "iomem_align"),
        ("uid = 5", "not an option here"),
        ("idle-prof = true", "not an option here"),
    ] {
        let message = message(line);
        let help: String =
            super::errors(&format!("[[job]]\n{line}\n")).iter().map(|one| one.help.join(" ")).collect();
        assert!(message.contains(words) || help.contains(words), "{line}: {message} {help}");
    }
}

#[test]
fn all_jobs_of_a_run_are_in_one_group() {
    let why = parse_text("[[job]]\ncgroup = \"a\"\n[[job]]\ncgroup = \"b\"\n").unwrap_err();
    assert!(why.iter().any(|one| one.message.contains("one group")), "{why}");
}
