//! A property of the option table: with any value of any option, a job writes the same to the same places as
//! the job that left a snapshot, or the snapshot is refused for it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::*;
use crate::base::premises::Premises;
use crate::job::samples;
use crate::job::{OptionDef, parse, table};
use crate::run::plan;
use crate::run::replay;
use crate::run::verification;
use crate::verify::block::BlockFormat;
use crate::verify::promises::Promises;
use crate::workload::{Issued, Mutations, Step, Workload};

/// What all jobs begin with. `[[job]]` goes above it, and the option that is tried above both.
const GLOBAL: &str = "[global]\nsize = \"256k\"\nbs = \"4k\"\nrw = \"write\"\nverify = \"crc32c\"\n";
/// The target of those that name no files.
const FILE: &str = "filename = \"/fio-spdk-samples/data\"\n";

/// Jobs of which each shapes what it writes by other options.
const SHAPED: [&str; 17] = [
    "",
    "rw = \"randwrite\"\nnumjobs = 2\noffset_increment = \"1m\"\nioengine = \"io_uring\"\niodepth = 8\ndirect = true",
    "rw = \"randwrite:4\"\nsize = \"512k\"\nbs = \"4k,8k\"\npercentage_random = 60\nbs_is_seq_rand = true",
    "rw = \"randrw\"\nnorandommap = true\nbsrange = \"4k-16k\"\nrwmixread = 30",
    "rw = \"randwrite\"\nbsrange = \"512-2k\"\nverify = \"none\"",
    "zonemode = \"strided\"\nzonesize = \"16k\"\nzonerange = \"32k\"\nzoneskip = \"4k\"\nio_size = \"64k\"",
    "rw = \"randwrite\"\nsize = \"1m\"\nsprandom = true\nspr_num_regions = 4",
    "rw = \"randwrite\"\nrandom_distribution = \"sequence:3,1,4\"",
    "rw = \"randwrite\"\nsize = \"10%\"\noffset = \"30.1%\"\noffset_increment = \"1%\"\nnumjobs = 2",
    "trim_percentage = 30\ntrim_backlog = 8\ntrim_backlog_batch = 4\nioengine = \"sim\"",
    "rw = \"randtrim\"\ntrim_verify_zero = true\nioengine = \"sim\"\nnumber_ios = 20",
    "rw = \"randtrim\"\nverify = \"none\"\nioengine = \"sim\"\nnumber_ios = 10\niodepth = 4",
    "nrfiles = 3\nfilename_format = \"x.$jobname.$jobnum.$filenum\"\nfile_service_type = \"random\"\nnumjobs = 2",
    "time_based = true\nruntime = \"10s\"\nnumber_ios = 100\nloops = 2",
    "verify = \"pattern_hdr\"\nverify_pattern = \"0x0102%o\"\nverify_pattern_interval = 1024",
    "name = \"first\"\nfilename = \"/fio-spdk-samples/data\"\n[[job]]\nname = \"second\"\n\
     filename = \"/fio-spdk-samples/second\"\nfill_device = true",
    REPLAY,
];

/// Jobs with what other options need beside them: for options that none of [`SHAPED`] takes.
const PARTNERS: [&str; 11] = [
    "verify_async = 1\nverify_backlog = 8",
    "ioengine = \"sim\"\nsim_latency = \"1ms\"",
    "rate_iops = 100\nthinktime = 1000\nthinktime_blocks = 8\nflow = 2\nlog_alternate_epoch = true",
    "latency_target = \"1ms\"",
    "ss = \"iops:1%\"\nss_dur = \"10s\"\nwrite_hist_log = \"l\"\nlog_hist_msec = 100\nwrite_lat_log = \"l\"\n\
     log_offset = true\nlog_avg_msec = 100\nlog_store_compressed = true\nexitall = true",
    "ioengine = \"io_uring\"\ndirect = true\ncmdprio_percentage = 20\nsqthread_poll = true\ncgroup = \"g\"\n\
     mem = \"mmaphuge\"",
    "ioengine = \"spdk\"\nfilename = \"trtype=PCIe traddr=0000:5e:00.0 ns=1\"\nenable_wrr = true\n\
     command_timeout = \"1s\"\npi_chk = \"APPTAG\"",
    "ioengine = \"spdk\"\nfilename = \"trtype=TCP traddr=::1 subnqn=nqn.2016-06.io.spdk:c1\"\nverify = \"none\"",
    "verify = \"none\"\nrefill_buffers = true\ndedupe_percentage = 10\ndedupe_mode = \"working_set\"",
    "rw = \"read\"",
    "rw = \"read\" # and no filename",
];

/// Options that shape what is written and of which none changes it alone.
const NOT_ALONE: [(&str, &str); 4] = [
    ("merge_blktrace_file", "needs logs of blktrace"),
    ("zonemode", "it is refused without `zonesize`, and `zonesize` without it"),
    ("merge_blktrace_scalars", "needs logs of blktrace"),
    ("merge_blktrace_iters", "needs logs of blktrace"),
];

/// A job that replays a log: [`LOG`] has its place.
const REPLAY: &str = "the replay of a log";

const LOG: &str = "fio version 3 iolog\n0 f add\n0 g add\n0 f open\n0 g open\n1 f write 131072 4096\n\
                   2 f write 65536 8192\n3 g write 0 4096\n4 f trim 4096 4096\n5 f write 4096 12288\n6 f read 0 4096\n";

/// The size of targets that are there, where jobs take shares of it.
const TARGET_BYTES: u64 = 4 << 20;
/// More steps than any of the jobs has that ends.
const MOST_STEPS: usize = 600;

/// What one job writes, apart from what comes from the clock.
#[derive(Debug, PartialEq)]
struct Written {
    format: Option<BlockFormat>,
    workers: Vec<(Vec<Region>, Vec<Step>)>,
}

struct Base {
    text: String,
    plans: Vec<JobPlan>,
    written: Vec<Written>,
    options: RunOptions,
}

fn facts(plan: &JobPlan) -> Vec<TargetFacts> {
    let fact = |path: &PathBuf| TargetFacts {
        path: path.clone(),
        size_bytes: TARGET_BYTES,
        lba_bytes: 512,
        is_block_device: false,
        premises: Premises { volatile_cache: Some(true), ..Premises::default() },
        known: None,
        pin: None,
    };
    plan.targets.iter().map(fact).collect()
}

fn workload_of(plan: &JobPlan, clone: u32) -> Result<WorkloadSpec, RunError> {
    let sizes = vec![Some(TARGET_BYTES); plan.targets.len()];
    Ok(plan::workload(plan, clone, plan::regions(plan, clone, &sizes, 512)?))
}

/// The jobs of a text with some options set above it, as far as a run would get with them.
fn plans(text: &str, set: &[(&str, &str)]) -> Option<Vec<JobPlan>> {
    let set: Vec<(String, String)> =
        set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let jobs = parse(&[("j.toml".to_owned(), text.to_owned())], &set).ok()?;
    let mut plans = plan::plan(jobs).ok()?;
    replay::resolve(&mut plans).ok()?;
    Some(plans)
}

/// The same for the jobs of a base. An option of which the first job has no use is set in the last one alone.
fn plans_with(base: &Base, set: &[(&str, &str)]) -> Option<Vec<JobPlan>> {
    plans(&base.text, set).or_else(|| {
        let (&(name, value), more) = set.split_first().filter(|_| base.plans.len() > 1)?;
        plans(&format!("{}{name} = {value:?}\n", base.text), more)
    })
}

/// What jobs write if they have the seeds of these others. `None` if a run would refuse them.
fn written(plans: &[JobPlan], seeds: &[u64]) -> Option<Vec<Written>> {
    let mut all = Vec::new();
    for (plan, seed) in plans.iter().zip(seeds) {
        let mut plan = plan.clone();
        plan.seed = *seed;
        let mut workers = Vec::new();
        for clone in 0..plan.spec.numjobs {
            let spec = workload_of(&plan, clone).ok()?;
            let modifies = |step: &Step| step.op.modifies();
            let steps: Vec<Step> = match &spec.log {
                Some(log) => {
                    let issued = Issued { writes: log.writes, trims: log.trims };
                    let most = usize::try_from(spec.limit.ios.unwrap_or(u64::MAX)).unwrap();
                    Mutations::new(&spec, issued).ok()?.take(most).collect()
                }
                None => {
                    let mut workload = Workload::new(&spec).ok()?;
                    let all = std::iter::from_fn(|| workload.next()).take(MOST_STEPS);
                    all.filter(modifies).collect()
                }
            };
            workers.push((if plan.spec.mix.modifies() { spec.regions } else { Vec::new() }, steps));
        }
        let method = plan.spec.verify.method.filter(|_| plan.spec.mix.modifies());
        let format = method.map(|method| verification::format(&plan.spec, method)).transpose().ok()?;
        all.push(Written { format, workers });
    }
    Some(all)
}

/// The snapshot of jobs that have written everything; `None` if none of them verifies what it writes.
fn snapshot_of(plans: &[JobPlan], written: &[Written]) -> Option<Snapshot> {
    let promised = plans.iter().zip(written).filter(|(plan, _)| plan.verifies() && plan.spec.mix.modifies());
    let jobs = promised.map(|(plan, written)| {
        let workers = (plan.first_worker..).zip(&written.workers).map(|(number, (regions, steps))| {
            let count = |op: Op| steps.iter().filter(|step| step.op == op).count() as u64;
            WorkerState {
                number: u16::try_from(number).unwrap(),
                regions: super::regions(regions),
                promises: Promises::finished(count(Op::Write), count(Op::Deallocate)),
            }
        });
        JobState { workers: workers.collect(), ..job_state(plan, &facts(plan)) }
    });
    let jobs: Vec<JobState> = jobs.collect();
    let (run, cause, tool) = (RunId(7), Cause::Ended, "test".to_owned());
    (!jobs.is_empty()).then_some(Snapshot {
        run,
        taken_unix_ns: 1,
        cause,
        tool,
        jobs,
        unverified: Vec::new(),
    })
}

fn seeds(plans: &[JobPlan]) -> Vec<u64> {
    plans.iter().map(|plan| plan.seed).collect()
}

fn bases(jobs: &[&str], folder: &Path) -> Vec<Base> {
    let log = folder.join("log");
    std::fs::write(&log, LOG).unwrap();
    let of_log = format!(
        "[[job]]\nread_iolog = {log:?}\ndirectory = \"/fio-spdk-samples\"\nverify_pattern = \"0x0102%o\"\nioengine = \"sim\"\n"
    );
    let base = |(number, lines): (usize, &&str)| {
        let text = match *lines {
            REPLAY => of_log.clone(),
            lines => {
                let file = if lines.contains("filename") { "" } else { FILE };
                format!("{GLOBAL}[[job]]\n{file}{lines}\n")
            }
        };
        let plans = plans(&text, &[])
            .unwrap_or_else(|| panic!("{lines}: {:?}", parse(&[(String::new(), text.clone())], &[])));
        let written = written(&plans, &seeds(&plans)).unwrap_or_else(|| panic!("{lines}"));
        let mut options = RunOptions::default();
        if let Some(snapshot) = snapshot_of(&plans, &written) {
            let path = folder.join(format!("{}-{number}.state", jobs.len()));
            std::fs::write(&path, snapshot.encode()).unwrap();
            options.state = Some(path);
        }
        Base { text, plans, written, options }
    };
    jobs.iter().enumerate().map(base).collect()
}

/// Whether a job with this option set is refused the snapshot of the job without; why.
fn refusal(base: &Base, set: Option<(&str, &str)>) -> Option<String> {
    let mut all: Vec<(&str, &str)> = set.into_iter().collect();
    all.push(("verify_state_load", "true"));
    let Some(mut plans) = plans_with(base, &all) else { return Some("the job itself".to_owned()) };
    if let Err(why) = go_back(&mut plans, &base.options) {
        return Some(why.message);
    }
    for plan in &plans {
        let Some(job) = &plan.judged else { continue };
        for clone in 0..plan.spec.numjobs {
            let spec = match workload_of(plan, clone) {
                Ok(spec) => spec,
                Err(why) => return Some(why.message),
            };
            if let Err(why) = worker(plan, job, clone, &facts(plan), &spec) {
                return Some(why.message);
            }
        }
    }
    None
}

/// Whether an option is kept as another one, which is what a snapshot has: `rwmixwrite` as `rwmixread`.
fn is_kept_as_another(option: &OptionDef, plans: &[JobPlan]) -> bool {
    plans.iter().all(|plan| option.show(plan.asked()).is_none())
}

fn targets(plans: &[JobPlan]) -> Vec<&PathBuf> {
    plans.iter().flat_map(|plan| &plan.targets).collect()
}

/// What has been found out about one option.
#[derive(Default)]
struct Tried {
    /// It was right in some job.
    is_taken: bool,
    /// It changed what some job writes.
    matters: bool,
    /// It was refused where it changed nothing.
    is_refused: bool,
}

/// Tries a value of an option in a job.
fn attempt(base: &Base, option: &OptionDef, value: &str, tried: &mut Tried, faults: &mut String) {
    let (set, seeds) = ((option.name, value), seeds(&base.plans));
    let Some(plans) = plans_with(base, &[set]).filter(|plans| plans.len() == seeds.len()) else { return };
    tried.is_taken = true;
    let verifies = base.options.state.is_some();
    let same_value =
        |(one, other): (&JobPlan, &JobPlan)| option.show(one.asked()) == option.show(other.asked());
    if !is_kept_as_another(option, &plans) && plans.iter().zip(&base.plans).all(same_value) {
        return;
    }
    if written(&plans, &seeds).is_none_or(|written| written == base.written) {
        tried.is_refused |= option.shapes_promises && verifies && refusal(base, Some(set)).is_some();
        return;
    }
    tried.matters = true;
    let mut fault = |what: &str| {
        let _ = writeln!(
            faults,
            "`{} = {value}` changes what is written, and {what}:\n{}",
            option.name, base.text
        );
    };
    // A snapshot knows targets by what they are, not by how they are named.
    let same_targets = targets(&plans) == targets(&base.plans);
    if same_targets && !option.shapes_data && !is_kept_as_another(option, &plans) {
        fault("its entry does not say so");
    }
    if verifies && refusal(base, Some(set)).is_none() {
        fault("the snapshot of the job without it is accepted");
    }
}

#[test]
fn a_job_that_writes_something_else_is_refused_the_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let (shaped, partners) = (bases(&SHAPED, folder.path()), bases(&PARTNERS, folder.path()));
    let other_log = folder.path().join("other");
    let files = folder.path().join("files");
    std::fs::create_dir(&files).unwrap();
    std::fs::write(files.join("file"), [0; 8192]).unwrap();
    std::fs::write(&other_log, LOG.replace("131072", "135168")).unwrap();
    for base in shaped.iter().chain(&partners).filter(|base| base.options.state.is_some()) {
        assert_eq!(refusal(base, None), None, "{}", base.text);
    }
    let mut faults = String::new();
    for option in table() {
        let values = match option.name {
            "read_iolog" => vec![other_log.to_string_lossy().into_owned()],
            "opendir" => vec![files.to_string_lossy().into_owned()],
            _ => samples::of(option),
        };
        let mut tried = Tried::default();
        let mut attempts = |jobs: &[Base], tried: &mut Tried| {
            for base in jobs {
                values.iter().for_each(|value| attempt(base, option, value, tried, &mut faults));
            }
        };
        attempts(&shaped, &mut tried);
        if !tried.is_taken {
            attempts(&partners, &mut tried);
        }
        let excused = NOT_ALONE.iter().any(|(name, _)| *name == option.name);
        let claims = [
            (tried.is_taken || excused, "is in no job with any of the values tried"),
            (!option.shapes_data || tried.matters || excused, "shapes no data with any of the values tried"),
            (
                !option.shapes_promises || tried.is_refused,
                "shapes promises, and no value of those tried is refused",
            ),
        ];
        for (_, why) in claims.iter().filter(|(holds, _)| !holds) {
            let _ = writeln!(faults, "{} {why}: {values:?}", option.name);
        }
    }
    assert!(faults.is_empty(), "{faults}");
}

#[test]
fn what_shapes_no_replay_is_refused_beside_a_log() {
    let folder = tempfile::tempdir().unwrap();
    let replay = &bases(&[REPLAY], folder.path())[0];
    let mut faults = String::new();
    for option in table().iter().filter(|option| option.name != "read_iolog") {
        let (mut tried, mut ignored) = (Tried::default(), String::new());
        for value in samples::of(option) {
            attempt(replay, option, &value, &mut tried, &mut ignored);
        }
        if option.beside_log.is_some() && tried.matters {
            let _ = writeln!(faults, "{} is said to be refused beside a log, and is not", option.name);
        }
        let excused = NOT_ALONE.iter().any(|(name, _)| *name == option.name);
        if option.shapes_data && option.beside_log.is_none() && !tried.matters && !excused {
            let _ =
                writeln!(faults, "{} changes nothing beside a log, and is not refused there", option.name);
        }
    }
    assert!(faults.is_empty(), "{faults}");
}
