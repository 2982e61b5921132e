//! What memory a run takes, estimated before it starts, and refused where there is not so much.
//!
//! The estimate is an upper bound of what is certain to be taken: buffers, histograms, rings, tables and threads.
//! What depends on what the devices do, such as lists of violations, has bounds of its own, and is counted by these.

use crate::base::Op;
use crate::base::host::Sysfs;
use crate::base::host::hugepages::hugepages;
use crate::base::host::memory::{MemoryLimit, limits};
use crate::base::replay::{CHUNK, CHUNKS, Logged};
use crate::base::shape::Amount;
use crate::base::units::{SECOND_NS, format_size};
use crate::job::JobSpec;
use crate::stats::WorkerStats;

use super::plan::{self, JobPlan};
use super::{RunError, RunOptions, blocks, logs, verification};

/// What the program takes before it looks at a job: code, tables, threads that are always there.
const OWN_BYTES: u64 = 24 << 20;
/// Copies of a worker's histograms: its own, the one in the report, and for a report so far the one that the worker hands out
/// and the one that is rendered.
const COPIES_OF_STATS: u64 = 4;
/// A worker and its places in lists, without what depends on its options.
const WORKER_BYTES: u64 = 32 << 10;
/// What is kept for an I/O in flight beside its buffer, for each of its kinds of bookkeeping.
const PER_IO_BYTES: u64 = 512;
/// The same where it is verified: what was read, and what is checked of it.
const PER_VERIFIED_IO_BYTES: u64 = 2 << 10;
/// What a worker that verifies takes beside that: ledger, history, tallies, violations that are read again.
const VERIFY_BYTES: u64 = 4 << 20;
/// A thread: the part of its stack that it uses, and what the kernel and the allocator keep for it.
const THREAD_BYTES: u64 = 192 << 10;
/// The addresses of a thread's stack.
const STACK_BYTES: u64 = 2 << 20;
/// What is written to a simulated drive in a second, or less.
const SIM_BYTES_A_SECOND: u64 = 1 << 30;
/// The buffer in front of a log's file.
const LOG_BUFFER_BYTES: u64 = 256 << 10;
/// The path of a target, the region on it and the copies of both.
const TARGET_BYTES: u64 = 512;

/// What one job takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Needs {
    /// Buffers of I/O in ordinary memory.
    buffers: u64,
    /// Buffers in hugepages that SPDK takes for them.
    huge: u64,
    /// What goes when the job has ended: bookkeeping, verification, threads, logs, what is locked.
    work: u64,
    /// Logs, as part of `work`.
    logs: u64,
    /// The watch over blocks, as part of `work`.
    blocks: u64,
    /// What is locked, as part of `work`.
    locked: u64,
    /// What a simulated drive holds.
    image: u64,
    /// Histograms, which stay to the end of the run.
    stats: u64,
    /// Threads.
    threads: u64,
}

impl Needs {
    fn bytes(&self) -> u64 {
        self.buffers.saturating_add(self.work).saturating_add(self.image).saturating_add(self.stats)
    }
}

/// The needs of a job, as far as they do not depend on the sizes of its targets.
fn needs(plan: &JobPlan) -> Needs {
    let spec = &plan.spec;
    let workers = u64::from(spec.numjobs);
    let blocking = plan.is_blocking();
    let depth = if blocking { 1 } else { u64::from(spec.iodepth) };
    let memory = spec.host.buffer_memory();
    let aligned = memory.map_or(0, |memory| memory.alignment().0 as u64 + memory.alignment().1 as u64);
    let buffers = depth * u64::from(plan.largest_io()).next_multiple_of(4096) + aligned;
    let mut each = WORKER_BYTES + depth * PER_IO_BYTES;
    if plan.verifies() {
        each += VERIFY_BYTES + verification::CHANNEL_BYTES + depth * PER_VERIFIED_IO_BYTES;
        // Rereads and what is made again have a block or an I/O each.
        each += 4 * u64::from(plan.largest_io());
    }
    let ring = (CHUNKS * CHUNK * size_of::<Logged>()) as u64 + LOG_BUFFER_BYTES;
    each += ring * (u64::from(spec.replay.is_on()) + u64::from(spec.replay.write.is_some()));
    let logs = logs::memory(&spec.logs);
    each = each.saturating_add(logs).saturating_add(spec.host.lock_bytes);
    let (_, targets) = plan.targets_of(0);
    each += u64::from(targets) * TARGET_BYTES;
    let checkers = u64::from(spec.verify.async_threads);
    let helpers = u64::from(spec.replay.is_on()) + u64::from(spec.replay.write.is_some());
    // Workers of other engines share the threads of a few CPUs.
    let threads = workers * (u64::from(blocking) + checkers + helpers) + 64;
    let by_priority = if spec.priorities().is_some() { 2 } else { 1 };
    let (ordinary, huge) = match () {
        // SPDK takes its buffers from its own hugepages.
        () if plan.uses_namespaces() => (0, buffers),
        // What is asked for in hugepages is taken as they are, or not.
        () if spec.host.memory.kind.is_huge() => (0, 0),
        () => (buffers, 0),
    };
    Needs {
        buffers: workers.saturating_mul(ordinary),
        huge: workers.saturating_mul(huge),
        work: workers.saturating_mul(each).saturating_add(threads * THREAD_BYTES),
        logs: workers.saturating_mul(logs),
        blocks: 0,
        locked: workers.saturating_mul(spec.host.lock_bytes),
        image: image(plan),
        stats: workers.saturating_mul(WorkerStats::BYTES * COPIES_OF_STATS * by_priority),
        threads,
    }
}

/// What a simulated drive holds when the job has written all that it may, each page in a box of its own; 0 for other
/// engines.
fn image(plan: &JobPlan) -> u64 {
    let spec = &plan.spec;
    let Some(Amount::Bytes(size)) =
        spec.size.filter(|_| spec.ioengine == "sim" && plan.modifies() && spec.mix.issues(Op::Write))
    else {
        return 0;
    };
    let ios = spec.number_ios.unwrap_or(u64::MAX).saturating_mul(u64::from(spec.numjobs));
    let written = ios.saturating_mul(u64::from(plan.largest_io().next_multiple_of(4096)));
    // A short run does not fill a large drive.
    let in_time =
        spec.runtime_ns.map_or(u64::MAX, |ns| (ns / SECOND_NS + 1).saturating_mul(SIM_BYTES_A_SECOND));
    let held = size.saturating_mul(plan.targets.len() as u64).min(written).min(in_time);
    // Twice: on the media, and in the cache or on its way there.
    held.saturating_mul(2)
}

/// What a run takes, in bytes, and the threads that it has: an upper bound of the stage that takes most, with the histograms of
/// all stages.
struct Estimate {
    bytes: u64,
    threads: u64,
    huge: u64,
    /// The job that takes most.
    largest: usize,
    of_largest: Needs,
}

fn estimate(plans: &[JobPlan], each: &[Needs]) -> Estimate {
    let (mut work, mut threads, mut huge, mut first) = (0, 0, 0, 0);
    for stage in plan::stages(plans) {
        let own = &each[first..first + stage.len()];
        let sum = |of: fn(&Needs) -> u64| own.iter().map(of).fold(0, u64::saturating_add);
        work = sum(|needs| needs.buffers.saturating_add(needs.work).saturating_add(needs.image)).max(work);
        threads = sum(|needs| needs.threads).max(threads);
        huge = sum(|needs| needs.huge).max(huge);
        first += stage.len();
    }
    let stats = each.iter().map(|needs| needs.stats).fold(0, u64::saturating_add);
    let size = |needs: &Needs| needs.bytes().saturating_add(needs.huge);
    let largest = (0..each.len()).max_by_key(|&at| size(&each[at])).unwrap_or(0);
    Estimate {
        bytes: work.saturating_add(stats).saturating_add(OWN_BYTES),
        threads,
        huge,
        largest,
        of_largest: each.get(largest).copied().unwrap_or_default(),
    }
}

/// What a run of these jobs takes in bytes of memory, as it is estimated before it starts.
///
/// # Errors
/// If the jobs cannot be planned.
pub fn estimated(jobs: Vec<JobSpec>) -> Result<u64, RunError> {
    let plans = plan::plan(jobs)?;
    let each: Vec<Needs> = plans.iter().map(needs).collect();
    Ok(estimate(&plans, &each).bytes)
}

/// Refuses a run that needs more memory than this machine, its control groups, the limit of its address space or its
/// server have for it.
///
/// # Errors
/// What it needs, what there is, and what to lower.
pub fn check(plans: &[JobPlan], options: &RunOptions) -> Result<(), RunError> {
    if plans.is_empty() {
        return Ok(());
    }
    let sysfs = Sysfs::default();
    let mut limits = limits(&sysfs);
    limits.extend(options.max_memory_bytes.map(|bytes| MemoryLimit {
        left_bytes: bytes,
        says: format!("the server allows {} (max_memory in server.toml)", format_size(bytes)),
        is_of_addresses: false,
    }));
    let mut each: Vec<Needs> = plans.iter().map(needs).collect();
    hold_against(plans, &estimate(plans, &each), &limits)?;
    // Looking at the regions of a million workers takes memory too: only if there is so much.
    for (needs, plan) in each.iter_mut().zip(plans) {
        needs.blocks = blocks::memory(plan);
        needs.work = needs.work.saturating_add(needs.blocks);
    }
    let estimate = estimate(plans, &each);
    hold_against(plans, &estimate, &limits)?;
    check_hugepages(plans, &estimate, &sysfs)
}

fn hold_against(plans: &[JobPlan], estimate: &Estimate, limits: &[MemoryLimit]) -> Result<(), RunError> {
    let needed = |limit: &MemoryLimit| {
        let stacks = if limit.is_of_addresses { estimate.threads * (STACK_BYTES - THREAD_BYTES) } else { 0 };
        estimate.bytes.saturating_add(stacks)
    };
    let short = limits.iter().filter(|limit| needed(limit) > limit.left_bytes);
    let Some(limit) = short.min_by_key(|limit| limit.left_bytes) else { return Ok(()) };
    let plan = &plans[estimate.largest];
    let message = format!(
        "the run needs {} of memory{}, and {}: {}",
        format_size(needed(limit)),
        shares(plan, &estimate.of_largest),
        limit.says,
        advice(&estimate.of_largest)
    );
    Err(RunError::bad_job(&plan.spec, message))
}

/// What the memory of a job is for.
fn shares(plan: &JobPlan, needs: &Needs) -> String {
    let spec = &plan.spec;
    let mut parts = Vec::new();
    if needs.buffers > 0 {
        let depth = if plan.is_blocking() { 1 } else { spec.iodepth };
        let bs = format_size(u64::from(plan.largest_io()));
        let buffers = format_size(needs.buffers);
        parts.push(format!(
            "{buffers} for buffers of this job, numjobs {} × iodepth {depth} × bs {bs}",
            spec.numjobs
        ));
    }
    let named = [
        (needs.image, "for what the simulated drive holds"),
        (needs.stats, "for histograms"),
        (needs.logs, "for logs"),
        (needs.blocks, "for block_error_percentiles"),
        (needs.locked, "for lockmem"),
    ];
    let large = named.iter().filter(|(bytes, _)| *bytes > needs.bytes() / 20);
    parts.extend(large.map(|(bytes, what)| format!("{} {what}", format_size(*bytes))));
    if parts.is_empty() { String::new() } else { format!(" ({})", parts.join("; ")) }
}

/// What to lower.
fn advice(needs: &Needs) -> String {
    let mut names = vec!["numjobs"];
    if needs.buffers > needs.bytes() / 4 {
        names.extend(["iodepth", "bs"]);
    }
    for (bytes, name) in [
        (needs.image, "size"),
        (needs.logs, "log_entries"),
        (needs.blocks, "size"),
        (needs.locked, "lockmem"),
    ] {
        if bytes > needs.bytes() / 20 {
            names.push(name);
        }
    }
    match names.split_last() {
        Some((last, [])) => format!("lower {last}, or run fewer jobs at a time (stonewall)"),
        Some((last, others)) => format!("lower {} or {last}", others.join(", ")),
        None => String::new(),
    }
}

/// SPDK takes its buffers from hugepages that are free, or from as many of them as `mem_size_mb` says.
fn check_hugepages(plans: &[JobPlan], estimate: &Estimate, sysfs: &Sysfs) -> Result<(), RunError> {
    // A fake SPDK has no hugepages, and needs none.
    if estimate.huge == 0 || cfg!(feature = "spdk-fake") {
        return Ok(());
    }
    let plan = &plans[estimate.largest];
    let free = hugepages(sysfs).free_bytes();
    let (there, says) = match plan.spec.spdk.mem_size_mb {
        Some(mib) if u64::from(mib) << 20 < free => (u64::from(mib) << 20, "mem_size_mb allows"),
        _ => (free, "free in hugepages are"),
    };
    if estimate.huge <= there {
        return Ok(());
    }
    let message = format!(
        "the buffers of the run need {} of hugepages, and {says} {}: lower numjobs, iodepth or bs, or reserve more \
         hugepages (fio-spdk devices bind --hugepages MIB)",
        format_size(estimate.huge),
        format_size(there)
    );
    Err(RunError::environment(&plan.spec, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plans(text: &str) -> Vec<JobPlan> {
        plan::plan(crate::job::parse(&[("j".to_owned(), text.to_owned())], &[]).unwrap()).unwrap()
    }

    fn refusal(text: &str, left_bytes: u64, is_of_addresses: bool) -> Option<String> {
        let plans = plans(text);
        let each: Vec<Needs> = plans.iter().map(needs).collect();
        let limit = MemoryLimit { left_bytes, says: "there is so much".to_owned(), is_of_addresses };
        hold_against(&plans, &estimate(&plans, &each), &[limit]).err().map(|error| error.message)
    }

    const LARGE: &str = "[[job]]\nname = \"a\"\nioengine = \"io_uring\"\nfilename = \"/tmp/x\"\nsize = \"16g\"\nbs = \"1m\"\n\
                         iodepth = 1024\nnumjobs = 8\n";

    #[test]
    fn eight_gib_of_buffers_are_refused_on_less_and_run_on_more() {
        let why = refusal(LARGE, 8 << 30, false).unwrap();
        for part in
            ["`a`", "8GiB for buffers", "numjobs 8 × iodepth 1024 × bs 1MiB", "there is so much", "lower"]
        {
            assert!(why.contains(part), "{part}: {why}");
        }
        assert_eq!(refusal(LARGE, 9 << 30, false), None);
    }

    #[test]
    fn jobs_of_one_stage_add_up_and_those_of_several_do_not() {
        let beside = format!("{LARGE}{LARGE}");
        let after = format!("{LARGE}{LARGE}stonewall = true\n");
        assert!(refusal(&beside, 15 << 30, false).is_some());
        assert_eq!(refusal(&after, 9 << 30, false), None);
    }

    #[test]
    fn stacks_count_where_addresses_are_limited() {
        let many = "[[job]]\nioengine = \"psync\"\nfilename = \"/tmp/x\"\nsize = \"1g\"\nnumjobs = 1000\n";
        let needed = (1..).map(|mib| mib << 20).find(|&bytes| refusal(many, bytes, false).is_none()).unwrap();
        assert!(refusal(many, needed, true).is_some());
        assert_eq!(refusal(many, needed + (2200 << 20), true), None);
    }
}
