//! What a worker asks of the machine: memory, priorities, schedulers, commands before and after.

use super::{choice, entry};
use crate::base::host::mapping::MemoryKind;
use crate::base::host::thread_settings::{IoClass, MemoryPolicy, Nodes};
use crate::job::kind::{Choice, Kind, Number, choose, integer, text};
use crate::job::shapes::{self, show_cpus};
use crate::job::spec::JobSpec;
use crate::job::table::OptionDef;
use crate::job::value::{Data, Outcome, Value, quote};

const SECTION: &str = "NUMA nodes, memory, priorities and the machine";

/// All of them.
pub(super) const OPTIONS: &[OptionDef] = &[
    entry(
        SECTION,
        "cpumask",
        &[],
        "",
        Kind::Special {
            form: "integer: bit 0 is CPU 0; also as string \"0x22\"",
            words: &[],
            set: set_cpumask,
            show: |_| None,
        },
        "The same as `cpus_allowed`, as a mask of the CPUs 0 to 63: 34 are CPUs 1 and 5. It is kept as \
         `cpus_allowed`.",
    ),
    entry(
        SECTION,
        "numa_cpu_nodes",
        &[],
        "",
        Kind::Special {
            form: "node numbers such as \"0-1\", array of them, or \"all\"",
            words: &["all"],
            set: |job, value| {
                job.host.cpu_nodes = Some(nodes(value)?);
                Ok(())
            },
            show: |job| job.host.cpu_nodes.as_ref().map(show_nodes),
        },
        "The workers of this job run on the CPUs of these NUMA nodes, as if `cpus_allowed` named them.",
    ),
    entry(
        SECTION,
        "numa_mem_policy",
        &[],
        "\"default\"",
        Kind::Special {
            form: "default, local, prefer:node, bind:nodes or interleave[:nodes]",
            words: &["default", "local", "prefer", "bind", "interleave"],
            set: set_memory_policy,
            show: show_memory_policy,
        },
        "Which NUMA nodes the buffers of the workers come from (set_mempolicy(2)): `local` those of the CPU \
         that a worker runs on, `prefer` one and others when it is full, `bind` these and no others, `interleave` these \
         in turn (all unless given).",
    ),
    entry(
        SECTION,
        "mem",
        &["iomem"],
        "\"malloc\"",
        Kind::Special {
            form: "one of malloc, mmap, mmapshared, mmaphuge, shm, shmhuge; those of mmap also with :path",
            words: &["malloc", "mmap", "mmapshared", "mmaphuge", "shm", "shmhuge"],
            set: set_memory,
            show: show_memory,
        },
        "What the buffers are made of: memory of the allocator, mmap(2) private or shared, segments of System V, or \
         hugepages by either. With `:path`, mmap(2) maps a file that each worker makes at the path (a number is \
         appended) or in that directory, and whose name is gone at once; `mmaphuge` needs a path in a hugetlbfs then. All but \
         `malloc` are taken before the job starts, and what cannot be had ends the run before its first I/O. \
         Not for engine `spdk`, whose buffers are hugepages of its own.",
    ),
    entry(
        SECTION,
        "iomem_align",
        &["mem_align"],
        "\"4k\"",
        Kind::Special {
            form: "size from 0B to 1GiB",
            words: &[],
            set: |job, value| {
                let align = crate::job::kind::size(value, 0, 1 << 30)?;
                // A page is what buffers have anyway.
                job.host.memory.align = u32::try_from(align).ok().filter(|&align| align != 4096).unwrap_or(0);
                Ok(())
            },
            show: |job| match job.host.memory.align {
                0 => Some("\"4k\"".to_owned()),
                align => Some(shapes::show_size(u64::from(align))),
            },
        },
        "Alignment of the buffers' memory. A power of two of 4k or more is what the first buffer is a multiple of; the others \
         follow at multiples of 4k. With anything else every buffer begins so many bytes behind the boundary of a page, as \
         it does in fio: 512 gives buffers that are aligned to 512 bytes and no more, which a device may refuse with \
         `direct`.",
    ),
    entry(
        SECTION,
        "hugepage_size",
        &["hugepage-size"],
        "the kernel's usual one",
        Kind::Special {
            form: "size that is a power of two, from 64k to 16g",
            words: &[],
            set: |job, value| {
                let bytes = crate::job::kind::size(value, 64 << 10, 16 << 30)?;
                if !bytes.is_power_of_two() {
                    return Err(value.bad("sizes of hugepages are powers of two"));
                }
                job.host.memory.huge_bytes = Some(bytes);
                Ok(())
            },
            show: |job| job.host.memory.huge_bytes.map(shapes::show_size),
        },
        "The size of the hugepages of `mem = \"mmaphuge\"` and `\"shmhuge\"`; the machine must have reserved some of it \
         (`/sys/kernel/mm/hugepages`).",
    ),
    entry(
        SECTION,
        "lockmem",
        &[],
        "0",
        Kind::Size { min: 0, max: 1 << 50, field: Number::U64(|job| &mut job.host.lock_bytes) },
        "Pins this much memory for each worker while the job runs (mlock(2)), so that the page cache has less.",
    ),
    entry(
        SECTION,
        "nice",
        &[],
        "0",
        Kind::Special {
            form: "integer from -20 to 19",
            words: &[],
            set: |job, value| {
                job.host.nice = signed(value, -20, 19)?;
                Ok(())
            },
            show: |job| Some(job.host.nice.to_string()),
        },
        "Added to the nice value of the threads that drive this job. Below 0 needs CAP_SYS_NICE. Jobs with another value \
         have threads of their own.",
    ),
    entry(
        SECTION,
        "prio",
        &[],
        "",
        Kind::Integer { min: 0, max: 7, field: Number::MaybeU32(|job| &mut job.host.prio) },
        "I/O priority of the threads that drive this job, from 0, the highest, to 7 (ioprio_set(2)); without `prioclass` \
         in the class `best-effort`. What a device makes of it is up to its I/O scheduler.",
    ),
    entry(
        SECTION,
        "prioclass",
        &[],
        "\"none\"",
        Kind::Choice {
            choices: &[
                choice("none", &["0"]),
                choice("realtime", &["1", "rt"]),
                choice("best-effort", &["2", "be"]),
                choice("idle", &["3"]),
            ],
            set: |job, word| {
                job.host.prio_class = match word {
                    "realtime" => IoClass::RealTime,
                    "best-effort" => IoClass::BestEffort,
                    "idle" => IoClass::Idle,
                    _ => IoClass::None,
                }
            },
            get: |job| match job.host.prio_class {
                IoClass::RealTime => "realtime",
                IoClass::BestEffort => "best-effort",
                IoClass::Idle => "idle",
                IoClass::None => "none",
            },
        },
        "I/O priority class of the threads that drive this job; `realtime` needs CAP_SYS_ADMIN or CAP_SYS_NICE. fio's numbers 0 to 3 \
         are taken too.",
    ),
    entry(
        SECTION,
        "priohint",
        &[],
        "0",
        Kind::Integer { min: 0, max: 1023, field: Number::U32(|job| &mut job.host.prio_hint) },
        "I/O priority hint of the threads that drive this job: which of its duration limits a device should keep (Linux 6.5).",
    ),
    entry(
        SECTION,
        "comm",
        &[],
        "the name of the worker, or of the reactor's CPU",
        Kind::Special {
            form: "string of at most 15 bytes",
            words: &[],
            set: |job, value| {
                let name = text(value)?;
                if name.is_empty() || name.len() > 15 || name.contains('\0') {
                    return Err(value.bad("the kernel keeps 1 to 15 bytes of a thread's name"));
                }
                job.host.comm = Some(name);
                Ok(())
            },
            show: |job| job.host.comm.as_deref().map(quote),
        },
        "The name of the threads that drive this job, as `top -H` and `ps -L` show it. Jobs with another name have threads of \
         their own.",
    ),
    entry(
        SECTION,
        "ioscheduler",
        &[],
        "",
        Kind::Special {
            form: "name such as none, mq-deadline, kyber or bfq",
            words: &["none", "mq-deadline", "kyber", "bfq"],
            set: |job, value| {
                let name = text(value)?;
                let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
                if name.is_empty() || name.len() > 32 || !name.chars().all(plain) {
                    return Err(value.bad("this is no name of an I/O scheduler"));
                }
                job.host.io_scheduler = Some(name);
                Ok(())
            },
            show: |job| job.host.io_scheduler.as_deref().map(quote),
        },
        "Switches the disks that the targets lie on to this I/O scheduler while the job runs: of a partition its disk, of a file \
         the disks below its file system, of dm and md the disks they are made of. It is read back, and put back when the \
         jobs that run together have ended, after a signal or two as well; a third one and SIGKILL leave it. Needs root; what \
         cannot be is refused before anything is written.",
    ),
    entry(
        SECTION,
        "cgroup",
        &[],
        "",
        Kind::Special {
            form: "name, or path with /, below the root of the hierarchy",
            words: &[],
            set: set_group,
            show: |job| job.host.group.name.as_deref().map(quote),
        },
        "The run is in this control group of version 2; it is made where it is not there, and removed at the end. A process is in one \
         group with all its threads, so all jobs of a run say the same. Needs root, or a hierarchy that was handed over.",
    ),
    entry(
        SECTION,
        "cgroup_weight",
        &[],
        "",
        Kind::Integer { min: 1, max: 10_000, field: Number::MaybeU32(|job| &mut job.host.group.weight) },
        "The group's share of its disks against other groups (`io.weight`), on the scale of version 2: 100 is usual. fio's scale is \
         that of version 1, where 500 is.",
    ),
    entry(
        SECTION,
        "cgroup_io_max",
        &[],
        "",
        Kind::Special {
            form: "string of any of rbps=, wbps=, riops=, wiops=, such as \"rbps=100m wiops=1000\"",
            words: &[],
            set: set_io_max,
            show: |job| job.host.group.io_max.as_deref().map(quote),
        },
        "What the group may do at most on each disk of the targets (`io.max`), in bytes and I/Os a second. fio has no such option.",
    ),
    entry(
        SECTION,
        "cgroup_nodelete",
        &[],
        "false",
        Kind::Flag(|job| &mut job.host.group.keep),
        "Leaves the group, if it was made, and its limits behind.",
    ),
    entry(
        SECTION,
        "exec_prerun",
        &[],
        "",
        Kind::Special {
            form: "string: a command for sh -c",
            words: &[],
            set: |job, value| {
                job.host.prerun = Some(command(value)?);
                Ok(())
            },
            show: |job| job.host.prerun.as_deref().map(quote),
        },
        "Runs this before the job, once for all its workers, when its files are laid out and before they are opened. What it says \
         is in `NAME.prerun.txt` in the current directory, with the name of the job. If it fails, the job and those that start \
         together with it do not run. A signal to end is passed on to it; what is still there two seconds later is killed.",
    ),
    entry(
        SECTION,
        "exec_postrun",
        &[],
        "",
        Kind::Special {
            form: "string: a command for sh -c",
            words: &[],
            set: |job, value| {
                job.host.postrun = Some(command(value)?);
                Ok(())
            },
            show: |job| job.host.postrun.as_deref().map(quote),
        },
        "Runs this when the job and those that run together with it have ended, also after one signal; what it says is in \
         `NAME.postrun.txt`. If it fails the report has a note of it. It is not run after a trigger or a second signal, and has ten \
         seconds where the run was ended by a signal.",
    ),
];

/// Options of fio that are refused, and why.
pub(super) const REFUSED: &[(&str, &str)] = &[
    (
        "uid",
        "all jobs of a run are one process, which opens targets, stores snapshots and puts the machine back: start it as that \
         user, with `setpriv --reuid=USER --clear-groups fio-spdk ...` or `sudo -u USER`",
    ),
    (
        "gid",
        "all jobs of a run are one process, which opens targets, stores snapshots and puts the machine back: start it in that \
         group, with `setpriv --regid=GROUP --clear-groups fio-spdk ...` or `sudo -g GROUP`",
    ),
    (
        "clocksource",
        "there is one clock: the processor's time stamp counter where it is invariant (fio's `cpu`), else clock_gettime; leave it out",
    ),
    (
        "gtod_cpu",
        "times are read from the processor's time stamp counter, twice a turn and not for every I/O: a CPU that does it for others would \
         gain nothing; leave it out",
    ),
    (
        "gpu_dev_id",
        "buffers in the memory of GPUs are not supported: mem = \"mmaphuge\" is the nearest thing",
    ),
    ("profile", "there are no built-in workloads: write its options as a job file"),
    (
        "idle-prof",
        "it is of the whole run: give --idle-prof=system or --idle-prof=percpu on the command line; of each reactor \
         every report says how busy it was",
    ),
    (
        "idle_prof",
        "it is of the whole run: give --idle-prof=system or --idle-prof=percpu on the command line; of each reactor \
         every report says how busy it was",
    ),
];

fn set_cpumask(job: &mut JobSpec, value: &Value) -> Outcome<()> {
    let hex = match &value.data {
        Data::Text(text) => text.trim().strip_prefix("0x").map(str::to_owned),
        _ => None,
    };
    let mask = match hex {
        Some(hex) => u64::from_str_radix(&hex, 16).map_err(|_| value.bad("this is no mask of 64 bits"))?,
        None => integer(value, 1, u64::MAX)?,
    };
    if mask == 0 {
        return Err(value.bad("no CPU at all"));
    }
    job.cpus_allowed = Some((0..64).filter(|cpu| mask >> cpu & 1 == 1).collect());
    Ok(())
}

fn nodes(value: &Value) -> Outcome<Nodes> {
    match &value.data {
        Data::Text(text) if text.trim().eq_ignore_ascii_case("all") => Ok(Nodes::All),
        // Nodes are written as CPUs are.
        _ => shapes::cpus(value).map(Nodes::These).map_err(|mut issue| {
            issue.message = issue.message.replace("CPU", "node");
            issue
        }),
    }
}

fn show_nodes(nodes: &Nodes) -> String {
    match nodes {
        Nodes::All => quote("all"),
        Nodes::These(list) => show_cpus(list),
    }
}

fn set_memory_policy(job: &mut JobSpec, value: &Value) -> Outcome<()> {
    let whole = text(value)?;
    let (word, list) = match whole.split_once(':') {
        Some((word, list)) => (word.trim(), Some(list.trim())),
        None => (whole.trim(), None),
    };
    let listed = |list: &str| nodes(&Value { data: Data::Text(list.to_owned()), place: value.place.clone() });
    job.host.memory_policy = match (word, list) {
        ("default", None) => MemoryPolicy::Default,
        ("local", None) => MemoryPolicy::Local,
        ("default" | "local", Some(_)) => return Err(value.bad(format!("`{word}` takes no nodes"))),
        ("prefer", Some(list)) => match listed(list)? {
            Nodes::These(one) if one.len() == 1 => MemoryPolicy::Prefer(one[0]),
            _ => return Err(value.bad("`prefer` takes one node")),
        },
        ("bind", Some(list)) => MemoryPolicy::Bind(listed(list)?),
        ("prefer" | "bind", None) => return Err(value.bad(format!("`{word}` needs nodes: \"{word}:0\""))),
        ("interleave", list) => MemoryPolicy::Interleave(list.map_or(Ok(Nodes::All), listed)?),
        _ => return Err(value.bad(format!("`{word}` is no policy"))),
    };
    Ok(())
}

fn show_memory_policy(job: &JobSpec) -> Option<String> {
    let listed = |nodes: &Nodes| show_nodes(nodes).trim_matches('"').to_owned();
    let text = match &job.host.memory_policy {
        MemoryPolicy::Default => "default".to_owned(),
        MemoryPolicy::Local => "local".to_owned(),
        MemoryPolicy::Prefer(node) => format!("prefer:{node}"),
        MemoryPolicy::Bind(nodes) => format!("bind:{}", listed(nodes)),
        MemoryPolicy::Interleave(nodes) => format!("interleave:{}", listed(nodes)),
    };
    Some(quote(&text))
}

const KINDS: [(&str, MemoryKind); 6] = [
    ("malloc", MemoryKind::Malloc),
    ("mmap", MemoryKind::Mmap),
    ("mmapshared", MemoryKind::MmapShared),
    ("mmaphuge", MemoryKind::MmapHuge),
    ("shm", MemoryKind::Shm),
    ("shmhuge", MemoryKind::ShmHuge),
];

const MEMORY: [Choice; 6] = [
    choice("malloc", &[]),
    choice("mmap", &[]),
    choice("mmapshared", &[]),
    choice("mmaphuge", &[]),
    choice("shm", &[]),
    choice("shmhuge", &[]),
];

fn set_memory(job: &mut JobSpec, value: &Value) -> Outcome<()> {
    let whole = text(value)?;
    let (word, path) = match whole.split_once(':') {
        Some((word, path)) => (word, Some(path)),
        None => (whole.as_str(), None),
    };
    if word == "cudamalloc" {
        return Err(
            value.bad("buffers in the memory of GPUs are not supported: mmaphuge is the nearest thing")
        );
    }
    let word = Value { data: Data::Text(word.to_owned()), place: value.place.clone() };
    let word = choose(&word, &MEMORY)?;
    let kind = KINDS.iter().find(|(name, _)| *name == word).map(|(_, kind)| *kind).unwrap_or_default();
    if let Some(path) = path {
        if !word.starts_with("mmap") {
            return Err(value.bad(format!("`{word}` takes no path: only those of mmap do")));
        }
        if path.is_empty() || path.contains('\0') {
            return Err(value.bad("there is no path behind the `:`"));
        }
    }
    job.host.memory.kind = kind;
    job.host.memory.path = path.map(Into::into);
    Ok(())
}

fn show_memory(job: &JobSpec) -> Option<String> {
    let memory = &job.host.memory;
    let name = KINDS.iter().find(|(_, kind)| *kind == memory.kind).map(|(name, _)| *name)?;
    Some(match &memory.path {
        Some(path) => quote(&format!("{name}:{}", path.to_string_lossy())),
        None => quote(name),
    })
}

fn signed(value: &Value, min: i32, max: i32) -> Outcome<i32> {
    let number = match &value.data {
        Data::Integer(Some(number)) => i32::try_from(*number).ok(),
        Data::Integer(None) => None,
        Data::Text(text) => match text.trim().parse::<i64>() {
            Ok(number) => i32::try_from(number).ok(),
            Err(_) => return Err(value.bad(format!("`{text}` is no integer"))),
        },
        _ => return Err(value.wrong("an integer")),
    };
    number
        .filter(|number| (min..=max).contains(number))
        .ok_or_else(|| value.bad(format!("the number is not from {min} to {max}")))
}

fn set_group(job: &mut JobSpec, value: &Value) -> Outcome<()> {
    let name = text(value)?;
    let parts = name.trim_matches('/').split('/');
    let is_bad = |part: &str| part.is_empty() || part == "." || part == ".." || part.contains(['\0', '\n']);
    if parts.clone().any(is_bad) {
        return Err(value.bad("this cannot be the name of a control group"));
    }
    job.host.group.name = Some(parts.collect::<Vec<_>>().join("/"));
    Ok(())
}

/// Keeps it as the kernel takes it: plain numbers.
fn set_io_max(job: &mut JobSpec, value: &Value) -> Outcome<()> {
    let whole = text(value)?;
    let mut limits: Vec<String> = Vec::new();
    for part in whole.split([' ', ',']).filter(|part| !part.is_empty()) {
        let found =
            part.split_once('=').filter(|(name, _)| ["rbps", "wbps", "riops", "wiops"].contains(name));
        let Some((name, number)) = found else {
            return Err(value.bad(format!("`{part}` is none of rbps=, wbps=, riops=, wiops=")));
        };
        if limits.iter().any(|limit| limit.starts_with(&format!("{name}="))) {
            return Err(value.bad(format!("`{name}` is there twice")));
        }
        let number = Value { data: Data::Text(number.to_owned()), place: value.place.clone() };
        limits.push(format!("{name}={}", integer(&number, 1, u64::MAX)?));
    }
    if limits.is_empty() {
        return Err(value.bad("there is no limit"));
    }
    job.host.group.io_max = Some(limits.join(" "));
    Ok(())
}

fn command(value: &Value) -> Outcome<String> {
    let command = text(value)?;
    if command.trim().is_empty() || command.contains('\0') {
        return Err(value.bad("there is no command"));
    }
    Ok(command)
}
