//! What jobs ask of the machine, looked at from outside while they run and after they have ended: threads in
//! /proc, I/O schedulers of loop devices, control groups, commands before and after. What the machine lacks
//! makes a trial ignored, and says why.

#![allow(clippy::print_stderr, reason = "says why trials are skipped")]

mod common;
#[path = "host_options/machine.rs"]
mod machine;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use common::{BINARY, Done, Lab, MIB, Running, at, first, number};
use libtest_mimic::{Arguments, Trial};
use machine::{
    Loop, Trace, command, hierarchy, lacks, meminfo, no_groups, no_hugepages, no_loop_device, no_tracing,
    not_root,
};
use rustix::process::Signal;

type Check = fn();
/// Runs until it is told to end.
const LONG: &str = "--runtime=30 --time_based --rw=randread --bs=4k --size=1m --output-format=json";

fn main() {
    let mut arguments = Arguments::from_args();
    // Two that look for a free loop device at once open each other's.
    arguments.test_threads = Some(1);
    let any = None;
    let root = not_root();
    let dropped = root.clone().or_else(|| lacks("setpriv"));
    let loops = no_loop_device();
    let groups = no_groups();
    let huge = no_hugepages();
    let numa = (!Path::new("/proc/self/numa_maps").exists()).then(|| "no /proc/self/numa_maps".to_owned());
    let traces = loops.clone().or_else(no_tracing);
    let trials: [(&str, Check, &Option<String>); 20] = [
        ("threads_have_the_name_the_nice_value_and_the_cpus_that_the_job_asks_for", threads, &any),
        ("threads_have_the_io_priority_that_the_job_asks_for", io_priorities, &lacks("ionice")),
        ("threads_that_check_have_the_nice_value_of_the_job_but_not_its_cpus", checking_threads, &any),
        ("jobs_that_differ_in_their_threads_do_not_share_one", own_threads, &any),
        ("each_kind_of_memory_carries_what_is_verified", memories, &any),
        ("segments_and_files_of_buffers_are_there_and_leave_nothing", mapped, &any),
        ("hugepages_that_are_not_there_end_the_run_before_anything_is_written", too_few_hugepages, &any),
        ("buffers_lie_in_hugepages", hugepages, &huge),
        ("memory_is_pinned_while_the_job_runs", pinned, &root),
        ("memory_comes_from_the_nodes_that_the_job_names", nodes, &numa),
        ("nodes_that_are_not_there_are_refused", no_such_node, &any),
        ("rights_that_are_lacking_are_told_before_anything_starts", no_rights, &dropped),
        ("a_scheduler_is_switched_and_put_back_whatever_ends_the_run", schedulers, &loops),
        ("a_scheduler_that_is_not_there_is_refused_and_nothing_is_changed", no_such_scheduler, &loops),
        ("the_priority_reaches_the_device_with_every_engine", traced_priorities, &traces),
        ("the_run_is_in_its_group_and_the_group_is_gone_afterwards", group, &groups),
        ("a_hierarchy_without_the_io_controller_is_told", group_without_io, &groups),
        ("a_command_runs_before_the_job_and_one_after", around, &any),
        ("a_command_that_fails_before_the_job_stops_it", failing_before, &any),
        ("a_signal_ends_a_command_too", signal_to_command, &any),
    ];
    let trials = trials.map(|(name, check, why)| {
        if let Some(why) = why {
            eprintln!("skipped: {name}: {why}");
        }
        let run = move || {
            check();
            Ok(())
        };
        Trial::test(name, run).with_ignored_flag(why.is_some())
    });
    libtest_mimic::run(&arguments, trials.into()).exit();
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

fn start(lab: &Lab, more: &[&str]) -> Running {
    lab.spawn(&[&words(LONG), more].concat())
}

/// The directories in /proc of the threads of that name, once there are some.
fn tasks(running: &mut Running, name: &str) -> Vec<PathBuf> {
    // Its name comes before the rest. When one does I/O, all have made what they need.
    running.wait_for_worker(name);
    let all = fs::read_dir(format!("/proc/{}/task", running.id())).expect("the program runs");
    let named = |task: &PathBuf| fs::read_to_string(task.join("comm")).is_ok_and(|text| text.trim() == name);
    all.flatten().map(|entry| entry.path()).filter(named).collect()
}

fn nice_of(task: &Path) -> i32 {
    let stat = fs::read_to_string(task.join("stat")).expect("the thread is there");
    let behind_the_name = stat.rsplit(')').next().expect("a name in parentheses");
    behind_the_name.split_whitespace().nth(16).and_then(|text| text.parse().ok()).expect("a nice value")
}

fn status(task: &Path, field: &str) -> String {
    let text = fs::read_to_string(task.join("status")).expect("the thread is there");
    let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
    line.trim_start_matches(':').trim().to_owned()
}

fn stop(running: Running) -> Done {
    running.signal(Signal::INT);
    running.end()
}

fn threads() {
    let own = nice_of(Path::new("/proc/thread-self"));
    for engine in common::FILE_ENGINES {
        let lab = Lab::new();
        let mut running = start(
            &lab,
            &[
                engine,
                "--name=a",
                "--comm=my workers",
                "--nice=7",
                "--numjobs=2",
                "--numa_cpu_nodes=0",
                "--cpus_allowed_policy=split",
            ],
        );
        let found = tasks(&mut running, "my workers");
        assert!(!found.is_empty());
        for task in &found {
            assert_eq!(nice_of(task), (own + 7).min(19), "{engine}");
            assert!(!status(task, "Cpus_allowed_list").contains(['-', ',']), "{engine}: one CPU each");
        }
        // The rest of the process is as it was.
        assert_eq!(nice_of(Path::new(&format!("/proc/{}", running.id()))), own);
        stop(running).expect(130);
    }
}

fn io_priorities() {
    for engine in common::FILE_ENGINES {
        for (options, expected) in [
            (vec!["--prio=3"], "best-effort: prio 3"),
            (vec!["--prioclass=idle"], "idle"),
            (vec!["--prio=6", "--prioclass=2"], "best-effort: prio 6"),
        ] {
            let lab = Lab::new();
            let mut running = start(&lab, &[&[engine, "--name=a", "--comm=prioritised"], &*options].concat());
            for task in tasks(&mut running, "prioritised") {
                let id = task.file_name().expect("a number").to_string_lossy().into_owned();
                running.wait_until(&format!("{expected} ({engine} {options:?})"), || {
                    command("ionice", &["-p", &id]).expect("ionice") == expected
                });
            }
            stop(running).expect(130);
        }
    }
}

fn checking_threads() {
    let all = status(Path::new("/proc/thread-self"), "Cpus_allowed_list");
    let own = nice_of(Path::new("/proc/thread-self"));
    let lab = Lab::new();
    let job = ["--filename=data", "--verify=crc32c", "--name=a", "--size=1m", "--bs=4k"];
    lab.run(&[&job[..], &["--rw=write"]].concat()).expect(0);
    let job = [&job[..], &["--cpus_allowed=0", "--nice=4", "--prio=5", "--verify_async=2"]].concat();
    for (more, cpus) in [(&[][..], all.as_str()), (&["--verify_async_cpus=0"], "0")] {
        let mut running = start(&lab, &[&job[..], more].concat());
        for task in tasks(&mut running, "verify-1") {
            assert_eq!(status(&task, "Cpus_allowed_list"), cpus);
            assert_eq!(nice_of(&task), (own + 4).min(19));
        }
        stop(running);
    }
}

fn own_threads() {
    let lab = Lab::new();
    lab.file(
        "j.toml",
        "[global]\nioengine = \"null\"\nsize = \"1m\"\nruntime = 30\ntime_based = true\ncpus_allowed = 0\n\
         [[job]]\nname = \"kind\"\nnice = 5\ncomm = \"kind\"\n[[job]]\nname = \"rude\"\ncomm = \"rude\"\n",
    );
    let mut running = lab.spawn(&["j.toml", "--output-format=json"]);
    let own = nice_of(Path::new("/proc/thread-self"));
    for (name, nice) in [("kind", own + 5), ("rude", own)] {
        let found = tasks(&mut running, name);
        assert_eq!(found.len(), 1);
        assert_eq!(nice_of(&found[0]), nice.min(19));
        assert_eq!(status(&found[0], "Cpus_allowed_list"), "0");
    }
    let json = stop(running).expect(130).json();
    for job in common::jobs(&json) {
        assert!(number(job, "/read/total_ios") > 0, "{job:#}");
    }
}

fn memories() {
    for engine in common::FILE_ENGINES {
        for memory in [
            vec!["--mem=mmap"],
            vec!["--iomem=mmapshared"],
            vec!["--mem=shm"],
            vec!["--iomem_align=512"],
            vec!["--mem=mmap", "--mem_align=3"],
            vec!["--mem=mmapshared:.", "--iomem_align=1m"],
            vec!["--mem=mmap:buffers"],
            vec!["--numa_mem_policy=local"],
        ] {
            let lab = Lab::new();
            let job = words(
                "--name=a --filename=data --rw=randwrite --bs=5k --size=1m --iodepth=8 --verify=crc32c --numjobs=1 --verify_state_save=0",
            );
            let json = lab.json(&[&job, &[engine][..], &*memory].concat());
            assert!(first(&json, "/verify/checked") > 0, "{memory:?}: {json:#}");
            assert_eq!(first(&json, "/verify/promised"), first(&json, "/verify/checked"), "{memory:?}");
            assert_eq!(lab.names(), ["data"], "{memory:?} leaves nothing behind");
        }
    }
}

fn mapped() {
    for (memory, expected) in
        [("--mem=shm", "SYSV"), ("--mem=mmapshared:.", "fio-spdk."), ("--mem=mmap:buf", "buf.")]
    {
        let lab = Lab::new();
        let mut running =
            start(&lab, &["--name=a", "--comm=mapped", "--numjobs=2", "--ioengine=io_uring", memory]);
        tasks(&mut running, "mapped");
        let maps = fs::read_to_string(format!("/proc/{}/maps", running.id())).expect("its memory");
        let found = maps.lines().filter(|line| line.contains(expected) && line.contains("(deleted)")).count();
        assert_eq!(found, 2, "{memory}: {maps}");
        stop(running).expect(130);
        assert!(!lab.names().iter().any(|name| name.starts_with("buf.") || name.starts_with("fio-spdk.")));
    }
}

fn too_few_hugepages() {
    let lab = Lab::new();
    let job = words(
        "--name=a --filename=data --rw=write --bs=1g --size=1t --iodepth=64 --ioengine=io_uring --mem=shmhuge",
    );
    lab.run(&job).expect(4).says("hugepages of");
    assert!(lab.names().is_empty(), "{:?}", lab.names());
    let odd = [
        &words("--name=a --filename=data --rw=write --bs=4k --size=1m --mem=mmaphuge"),
        &["--hugepage_size=512k"][..],
    ];
    lab.run(&odd.concat()).expect(4).says("no hugepages of 512KiB");
    let elsewhere = words("--name=a --filename=data --rw=write --bs=4k --size=1m --mem=mmaphuge:.");
    lab.run(&elsewhere).expect(4).says("hugetlbfs");
}

fn hugepages() {
    for memory in ["--mem=mmaphuge", "--mem=shmhuge"] {
        let lab = Lab::new();
        let free = meminfo("HugePages_Free:");
        let mut running =
            start(&lab, &["--name=a", "--comm=huge", "--ioengine=io_uring", "--iodepth=4", memory]);
        tasks(&mut running, "huge");
        let there = status(Path::new(&format!("/proc/{}", running.id())), "HugetlbPages");
        assert!(there != "0 kB", "{memory}: {there}");
        stop(running).expect(130);
        assert_eq!(meminfo("HugePages_Free:"), free, "{memory}: all pages are free again");
    }
}

fn pinned() {
    let lab = Lab::new();
    let mut running =
        start(&lab, &["--name=a", "--comm=pins", "--numjobs=2", "--lockmem=3m", "--ioengine=psync"]);
    tasks(&mut running, "pins");
    let locked = status(Path::new(&format!("/proc/{}", running.id())), "VmLck");
    assert_eq!(locked, "6144 kB");
    stop(running).expect(130);
}

fn nodes() {
    for (policy, expected) in [
        ("bind:0", " bind:0 "),
        ("interleave", " interleave:"),
        ("prefer:0", " prefer:0 "),
        ("local", " local "),
    ] {
        let lab = Lab::new();
        let option = format!("--numa_mem_policy={policy}");
        let mut running = start(&lab, &["--name=a", "--comm=nodes", "--ioengine=io_uring", &option]);
        let task = tasks(&mut running, "nodes").remove(0);
        let maps = fs::read_to_string(task.join("numa_maps")).expect("its memory");
        assert!(maps.contains(expected), "{policy}: {maps}");
        stop(running).expect(130);
    }
}

fn no_such_node() {
    let lab = Lab::new();
    for option in ["--numa_mem_policy=bind:900", "--numa_cpu_nodes=900"] {
        let job = words("--name=a --filename=data --rw=write --bs=4k --size=1m");
        lab.run(&[&job, &[option][..]].concat()).expect(4).says("no NUMA node 900");
        assert!(lab.names().is_empty());
    }
}

/// The program without any right that root has, in a directory that anybody may write to.
fn as_nobody(lab: &Lab, arguments: &[&str]) -> Done {
    let copy = lab.path("program");
    if !copy.exists() {
        fs::copy(BINARY, &copy).expect("a copy of the program");
    }
    for mode in [lab.path("."), copy.clone()] {
        fs::set_permissions(mode, std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("open to all");
    }
    let mut command = lab.command("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", "--"]);
    command.arg(&copy).args(arguments);
    Running::of(command).end()
}

fn no_rights() {
    let lab = Lab::new();
    let job = words("--name=a --filename=data --rw=write --bs=4k --size=1m");
    for (option, word) in [
        ("--nice=-5", "CAP_SYS_NICE"),
        ("--prioclass=realtime", "CAP_SYS_ADMIN"),
        ("--lockmem=100m", "ulimit -l"),
        ("--cgroup=fio-spdk-test", "cgroup"),
    ] {
        as_nobody(&lab, &[&job, &[option][..]].concat()).expect(4).says(word);
        assert_eq!(lab.names(), ["program"], "{option}");
    }
    as_nobody(&lab, &[&job, &["--nice=5"][..]].concat()).expect(0);
}

fn schedulers() {
    let device = Loop::new().expect("a loop device");
    let (before, _) = device.scheduler();
    let other = device.other().expect("another scheduler");
    let option = format!("--ioscheduler={other}");
    let target = format!("--filename={}", device.device);
    let lab = Lab::new();
    let arguments = ["--name=a", &target, "--ioengine=psync", &option, "--comm=scheduled"];
    // A signal.
    let mut running = start(&lab, &arguments);
    tasks(&mut running, "scheduled");
    assert_eq!(device.scheduler().0, other);
    stop(running).expect(130).says(&format!("I/O scheduler {other} instead of {before}"));
    assert_eq!(device.scheduler().0, before);
    // The end of the job, and a command that sees what the job sees.
    let look =
        format!("--exec_prerun=cat /sys/block/{}/queue/scheduler", device.device.trim_start_matches("/dev/"));
    let short = words("--name=a --rw=read --bs=4k --size=1m");
    lab.run(&[&short, &[&*target, &*option, &*look][..]].concat()).expect(0);
    assert!(String::from_utf8_lossy(&lab.bytes("a.prerun.txt")).contains(&format!("[{other}]")));
    assert_eq!(device.scheduler().0, before);
    // A job that does not start.
    lab.run(&[&short, &[&*target, &*option, "--exec_prerun=false"][..]].concat()).expect(4);
    assert_eq!(device.scheduler().0, before);
    // And jobs that cannot agree.
    lab.file(
        "j.toml",
        format!(
            "[global]\nfilename = \"{}\"\nsize = \"1m\"\n[[job]]\nioscheduler = \"{other}\"\n[[job]]\nioscheduler = \"{before}\"\n",
            device.device
        ),
    );
    lab.run(&["j.toml"]).expect(2).says("run together");
}

fn no_such_scheduler() {
    let device = Loop::new().expect("a loop device");
    let (before, _) = device.scheduler();
    let lab = Lab::new();
    let target = format!("--filename={}", device.device);
    let job = words("--name=a --rw=read --bs=4k --size=1m --ioscheduler=no-such-thing");
    lab.run(&[&job, &[&*target][..]].concat()).expect(4).says("no I/O scheduler `no-such-thing`");
    assert_eq!(device.scheduler().0, before);
    lab.file("shm", "");
    let nowhere =
        words("--name=a --rw=read --bs=4k --size=1m --filename=/dev/shm/fio-spdk-none --ioscheduler=none");
    lab.run(&nowhere).expect(4).says("no block device");
    assert!(!Path::new("/dev/shm/fio-spdk-none").exists());
}

/// What reaches a loop device: ioprio_set(2) counts for I/O of io_uring as well, also where a thread of the kernel
/// submits it.
fn traced_priorities() {
    let device = Loop::new().expect("a loop device");
    let trace = Trace::new().expect("tracing");
    let about = fs::metadata(&device.device).expect("a device");
    let number = std::os::unix::fs::MetadataExt::rdev(&about);
    let number = format!("{},{}", rustix::fs::major(number), rustix::fs::minor(number));
    let target = format!("--filename={}", device.device);
    let lab = Lab::new();
    for engine in
        [&["--ioengine=psync"][..], &["--ioengine=io_uring"], &["--ioengine=io_uring", "--sqthread_poll=1"]]
    {
        fs::write(trace.instance.join("trace"), "").expect("an empty trace");
        let job =
            words("--name=a --rw=randread --bs=4k --size=1m --direct=1 --iodepth=4 --prioclass=be --prio=5");
        lab.run(&[&job, &[&*target][..], engine].concat()).expect(0);
        let text = fs::read_to_string(trace.instance.join("trace")).expect("a trace");
        let mut found: BTreeMap<bool, u32> = BTreeMap::new();
        // dev rwbs bytes (command) sector + count class,hint,level [name]
        for line in text.lines().filter(|line| line.contains(&format!("block_rq_issue: {number} R"))) {
            *found.entry(line.contains(" be,0,5 [")).or_default() += 1;
        }
        // Looks at the device before the job are not the job's.
        let (with, without) =
            (found.get(&true).copied().unwrap_or(0), found.get(&false).copied().unwrap_or(0));
        assert!(with >= 200 && without < 20, "{engine:?}: {with} with the priority, {without} without");
    }
}

fn group() {
    let root = hierarchy().expect("a hierarchy");
    let name = format!("fio-spdk-{}/inner", std::process::id());
    let place = root.join(&name);
    let option = format!("--cgroup={name}");
    let lab = Lab::new();
    let mut running = start(&lab, &["--name=a", "--ioengine=psync", "--comm=grouped", &option]);
    tasks(&mut running, "grouped");
    let groups = fs::read_to_string(format!("/proc/{}/cgroup", running.id())).expect("its groups");
    assert!(groups.lines().any(|line| line.starts_with("0::") && line.ends_with(&name)), "{groups}");
    stop(running).expect(130).says("control group");
    assert!(!place.exists() && place.parent().is_some_and(|outer| !outer.exists()));
    // One that stays.
    let short = words("--name=a --rw=read --bs=4k --size=1m --cgroup_nodelete");
    lab.run(&[&short, &[&*option][..]].concat()).expect(0);
    assert!(place.exists());
    fs::remove_dir(&place).expect("nobody is in it");
    fs::remove_dir(place.parent().expect("an outer one")).expect("nobody is in it");
}

fn group_without_io() {
    let root = hierarchy().expect("a hierarchy");
    let controllers = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
    if controllers.split_whitespace().any(|word| word == "io") {
        return;
    }
    let name = format!("fio-spdk-{}", std::process::id());
    let lab = Lab::new();
    for limit in ["--cgroup_weight=100", "--cgroup_io_max=riops=10"] {
        let job = words("--name=a --filename=data --rw=write --bs=4k --size=1m");
        let done = lab.run(&[&job, &[&*format!("--cgroup={name}"), limit][..]].concat()).expect(4);
        assert!(
            done.stderr.contains("no I/O controller") || done.stderr.contains("no block device"),
            "{done:?}"
        );
        assert!(lab.names().is_empty() && !root.join(&name).exists());
    }
}

fn around() {
    let lab = Lab::new();
    let job = words("--name=a --filename=data --rw=write --bs=4k --size=1m --numjobs=2");
    let around = [
        "--exec_prerun=echo first; ls -s data >&2",
        "--exec_postrun=wc -c < data; false",
        "--output-format=json",
    ];
    let json = lab.run(&[&job, &around[..]].concat()).expect(0).json();
    let before = String::from_utf8_lossy(&lab.bytes("a.prerun.txt")).into_owned();
    // Laid out by then, and once for both workers.
    assert!(before.starts_with("first\n") && before.trim_end().ends_with("data"), "{before}");
    assert_eq!(before.matches("first").count(), 1);
    assert_eq!(String::from_utf8_lossy(&lab.bytes("a.postrun.txt")).trim(), "1048576");
    let text = at(&json, "/fio-spdk").to_string();
    assert!(text.contains("exec_postrun failed"), "{json:#}");
}

fn failing_before() {
    let lab = Lab::new();
    lab.marked("data", MIB);
    let job = words("--name=a --filename=data --rw=write --bs=4k --size=1m");
    lab.run(&[&job, &["--exec_prerun=echo why; exit 3", "--exec_postrun=true"][..]].concat())
        .expect(4)
        .says("exit status: 3");
    assert_eq!(lab.bytes("a.prerun.txt"), b"why\n");
    assert!(lab.bytes("data").iter().all(|&byte| byte == common::MARK), "nothing was written");
    assert!(!lab.path("a.postrun.txt").exists());
    // Its output goes nowhere near a target.
    let own = words("--name=a --filename=a.prerun.txt --rw=write --bs=4k --size=1m --exec_prerun=true");
    lab.run(&own).expect(2).says("is a target");
}

fn signal_to_command() {
    let lab = Lab::new();
    let job = words("--name=a --filename=data --rw=read --bs=4k --size=1m");
    let stubborn = "--exec_prerun=trap '' TERM; touch there; sleep 60 & sleep 60; sleep 60; sleep 60";
    let mut running = lab.spawn(&[&job, &[stubborn][..]].concat());
    running.wait_for_file(&lab.path("there"));
    let done = stop(running);
    assert!(done.code.is_some_and(|code| code != 0), "{done:?}");
    // One after the job runs after a signal too.
    let mut running = start(&lab, &["--name=b", "--comm=before", "--exec_postrun=echo after"]);
    tasks(&mut running, "before");
    stop(running).expect(130);
    assert_eq!(lab.bytes("b.postrun.txt"), b"after\n");
}
