//! A job whose engine is open, with the engine's type forgotten: what is called once a worker goes
//! through here, what is called once an I/O does not.

use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Advice, OFlags};

use crate::base::clock::Clock;
use crate::base::host::mapping::BufferMemory;
use crate::base::host::pin::PinnedFile;
use crate::base::ioprio::CommandPriorities;
use crate::base::nvme::DeviceFacts;
use crate::base::premises::Premises;
use crate::base::replay::Recorder;
use crate::base::spdk::SpdkOptions;
use crate::base::units::SECOND_NS;
use crate::base::{Op, Status};
use crate::engine::{
    Buffer, BufferArea, CommandOptions, Engine, EngineError, EngineOptions, EngineVisitor, Io, Queue,
    QueueConfig, Target, TargetFacts, Targets, Wait, missing, with_engine,
};
use crate::job::JobSpec;
use crate::job::spec::commands::WriteHint;
use crate::job::spec::{FileAdvice, SyncMode};
use crate::reactor::{
    Live, LogTap, PaceConfig, ReplayParts, Tap, Turning, VerifyParts, Worker, WorkerConfig, WorkerParts,
};
use crate::workload::{Content, ContentShape, Workload, WorkloadSpec};

use super::plan::JobPlan;

/// What one worker needs, ready to be sent to its thread.
pub struct WorkerRequest {
    pub config: WorkerConfig,
    pub workload: WorkloadSpec,
    pub content: ContentShape,
    pub largest_io: u32,
    pub live: Arc<Live>,
    pub tap: Tap,
    pub verify: Option<VerifyParts>,
    /// Replays keep to the times of the log.
    pub keeps_time: bool,
    pub recorder: Option<Recorder>,
    pub pace: Option<PaceConfig>,
    pub log: Option<LogTap>,
    pub priorities: Option<CommandPriorities>,
    /// What its buffers are made of, unless the engine says it.
    pub memory: Option<BufferMemory>,
    /// The length of the blocks that are watched, if any are.
    pub block_bytes: Option<u64>,
}

/// An open engine.
pub trait OpenJob: Send + Sync {
    /// What its targets are.
    fn facts(&self) -> &[TargetFacts];
    /// What the engine itself can say of its NVMe targets; empty if it leaves that to the kernel.
    fn device_facts(&self) -> Vec<Option<DeviceFacts>>;
    /// Whether its workers need a thread each.
    fn is_blocking(&self) -> bool;
    /// Drops the targets' cached pages.
    fn invalidate(&self) -> Result<(), EngineError>;
    /// Writes back what is dirty of the targets, then drops their cached pages.
    fn drop_cached(&self) -> Result<(), EngineError>;
    /// A way to read a target before the run, whatever the engine.
    fn reader(&self) -> Result<Box<dyn Reader>, EngineError>;
    /// What holds now of the premises that can change; `None` where there is no answer within `patience`.
    fn premises(&self, patience: Duration) -> Vec<Option<Premises>>;
    /// What has happened to the targets since the last call.
    fn take_notes(&self) -> Vec<String>;
    /// Why the targets are not those that were opened any more, as a sentence; `None` if they are.
    fn replaced(&self) -> Option<String> {
        None
    }
    /// Makes a worker on the calling thread, with sentences about what it does without.
    fn worker(&self, request: WorkerRequest) -> Result<(Box<dyn Turning>, Vec<String>), String>;
}

struct Opened<E>(E);

/// Reads at any offset, one command at a time.
pub trait Reader {
    /// Fills `into` from `offset`, as far as the target goes; returns how much that was.
    fn read_at(&mut self, target: u16, offset: u64, into: &mut [u8]) -> std::io::Result<usize>;
}

/// One buffer and a queue of depth 1.
struct ReadQueue<Q> {
    // Dropped before its buffer's area.
    queue: Q,
    area: BufferArea,
    buffer: Option<Buffer>,
    facts: Vec<TargetFacts>,
}

/// What it reads at once.
const READ_BYTES: u32 = 64 * 1024;
/// How long a read may take.
const READ_NS: u64 = 10 * SECOND_NS;

impl<Q: Queue> ReadQueue<Q> {
    fn command(&mut self, target: u16, offset: u64, len: u32) -> std::io::Result<()> {
        let failed = |status: Status| std::io::Error::from_raw_os_error(status.errno());
        let Some(buffer) = self.buffer.take() else { return Err(failed(Status::from_errno(libc::EIO))) };
        let (op, data_only) = (Op::Read, false);
        let io = Io { buffer, offset, sequence: 0, submit_ns: 0, len, moved: 0, target, op, data_only };
        let mut done = Vec::with_capacity(1);
        self.queue.submit(&mut vec![io]);
        let mut alive = self.queue.commit();
        let clock = Clock::get();
        let end_ns = clock.now_ns() + READ_NS;
        while done.is_empty() && alive.is_ok() && clock.now_ns() < end_ns {
            alive = self.queue.poll(Wait { min: 1, timeout_ns: READ_NS }, 1, &mut done);
        }
        if done.is_empty() {
            self.queue.stop(SECOND_NS, &mut done);
        }
        let Some(completion) = done.pop() else { return Err(failed(Status::from_errno(libc::ETIMEDOUT))) };
        self.buffer = Some(completion.io.buffer);
        if completion.status.is_ok() { Ok(()) } else { Err(failed(completion.status)) }
    }
}

impl<Q: Queue> Reader for ReadQueue<Q> {
    fn read_at(&mut self, target: u16, offset: u64, into: &mut [u8]) -> std::io::Result<usize> {
        let fact = &self.facts[usize::from(target)];
        let (lba, size) = (u64::from(fact.lba_bytes.max(1)), fact.size_bytes);
        let end = size.min(offset.saturating_add(into.len() as u64));
        let mut at = offset;
        while at < end {
            let start = at / lba * lba;
            let len = u64::from(READ_BYTES).min((end - start).next_multiple_of(lba)).min(size - start);
            self.command(target, start, u32::try_from(len).unwrap_or(READ_BYTES))?;
            let Some(buffer) = &self.buffer else { break };
            let stop = end.min(start + len);
            let seen = &buffer[(at - start) as usize..(stop - start) as usize];
            into[(at - offset) as usize..][..seen.len()].copy_from_slice(seen);
            at = stop;
        }
        Ok(at.saturating_sub(offset) as usize)
    }
}

impl<Q> Drop for ReadQueue<Q> {
    fn drop(&mut self) {
        // What did not come back stays with the device.
        if let Some(buffer) = self.buffer.take() {
            self.area.give_back(buffer);
        }
    }
}

impl<E: Engine> OpenJob for Opened<E> {
    fn facts(&self) -> &[TargetFacts] {
        self.0.facts()
    }

    fn device_facts(&self) -> Vec<Option<DeviceFacts>> {
        self.0.device_facts()
    }

    fn is_blocking(&self) -> bool {
        E::Queue::BLOCKING
    }

    fn invalidate(&self) -> Result<(), EngineError> {
        self.0.invalidate()
    }

    fn drop_cached(&self) -> Result<(), EngineError> {
        if E::TARGETS == Targets::Files {
            for fact in self.0.facts() {
                let held = fact.pin.as_ref().and_then(|pin| pin.open(OFlags::RDONLY).ok());
                if let Some(file) = held {
                    // A failure shows when the blocks are judged.
                    let _ = file.sync_data();
                }
            }
        }
        self.0.invalidate()
    }

    fn reader(&self) -> Result<Box<dyn Reader>, EngineError> {
        let mut area = self.0.buffers(1, READ_BYTES).map_err(EngineError::new)?;
        let (queue, _) = self.0.queue(&QueueConfig { depth: 1 }, &area)?;
        let buffer = area.take();
        Ok(Box::new(ReadQueue { queue, area, buffer, facts: self.0.facts().to_vec() }))
    }

    fn premises(&self, patience: Duration) -> Vec<Option<Premises>> {
        self.0.premises(patience)
    }

    fn take_notes(&self) -> Vec<String> {
        self.0.take_notes()
    }

    fn replaced(&self) -> Option<String> {
        self.0.replaced()
    }

    fn worker(&self, request: WorkerRequest) -> Result<(Box<dyn Turning>, Vec<String>), String> {
        let WorkerRequest {
            config,
            workload,
            content,
            largest_io,
            live,
            tap,
            verify,
            pace,
            log,
            priorities,
            memory,
            keeps_time,
            recorder,
            block_bytes,
        } = request;
        let watched = block_bytes.map(|bytes| (bytes, workload.regions.clone()));
        let buffers = match &memory {
            Some(memory) => BufferArea::mapped(config.depth, largest_io, memory)?,
            None => self.0.buffers(config.depth, largest_io)?,
        };
        let (queue, notes) = self
            .0
            .queue(&QueueConfig { depth: config.depth }, &buffers)
            .map_err(|error| error.to_string())?;
        let content = Content::new(content, workload.seed);
        let writes = workload.mix.modifies();
        let replay = match &workload.log {
            Some(log) => Some(ReplayParts {
                stream: log.source.open()?,
                ios: workload.limit.ios,
                targets: workload.regions.iter().map(|region| region.target).collect(),
                keeps_time,
            }),
            None => None,
        };
        let mut workload = Workload::new(&workload).map_err(|error| error.to_string())?;
        if let Some(parts) = &verify {
            let issued = |op| parts.ledger.issued(op);
            workload.skip_mutations(issued(Op::Write) + issued(Op::Deallocate));
        }
        // Times of a log are kept as a pace is.
        let pace = pace.or_else(|| replay.as_ref().map(|_| PaceConfig::default()));
        let parts = WorkerParts {
            config,
            queue,
            buffers,
            workload,
            content,
            writes,
            live,
            tap,
            verify,
            log,
            priorities,
            replay,
            recorder,
        };
        let mut worker = Worker::new(parts);
        if let Some(pace) = pace {
            worker.set_pace(pace);
        }
        if let Some((bytes, regions)) = watched {
            worker.watch_blocks(bytes, &regions);
        }
        Ok((Box::new(worker), notes))
    }
}

struct Opener<'a> {
    targets: &'a [Target],
    options: &'a EngineOptions,
}

impl EngineVisitor for Opener<'_> {
    type Output = Result<Arc<dyn OpenJob>, EngineError>;

    fn visit<E: Engine>(self) -> Self::Output {
        Ok(Arc::new(Opened(E::open(self.targets, self.options)?)))
    }
}

/// Opens the targets of `plan`; `size_hints` serve engines whose targets have no size.
pub fn open(plan: &JobPlan, size_hints: &[u64]) -> Result<Arc<dyn OpenJob>, EngineError> {
    let spec = &plan.spec;
    let options = EngineOptions {
        writes: plan.modifies(),
        reads: spec.mix.issues(crate::base::Op::Read) || plan.reads_back(),
        direct: spec.direct,
        sync: spec.sync == SyncMode::Sync,
        dsync: spec.sync == SyncMode::Dsync || spec.writefua && spec.sync == SyncMode::None,
        range_flags: range_flags(spec),
        advice: advice(spec),
        rw_flags: rw_flags(spec),
        force_async: spec.files.force_async,
        iopoll: spec.io_uring.hipri,
        sqpoll: spec.io_uring.sqthread_poll,
        sqpoll_cpu: spec.io_uring.sqthread_poll_cpu,
        fixed_buffers: spec.io_uring.fixedbufs,
        registered_files: spec.io_uring.registerfiles,
        sim: spec.sim,
        spdk: if plan.only_judges() { probing(&spec.spdk) } else { spec.spdk.clone() },
        commands: command_options(plan),
        checked: Arc::clone(&plan.checked),
        trim_ranges: spec.commands.trim_ranges,
    };
    open_as(plan, size_hints, &options)
}

/// What goes along with the job's commands.
fn command_options(plan: &JobPlan) -> CommandOptions {
    let write_hint = match plan.spec.commands.write_hint {
        WriteHint::NotSaid => None,
        WriteHint::NotSet => Some(0),
        WriteHint::Short => Some(2),
        WriteHint::Medium => Some(3),
        WriteHint::Long => Some(4),
        WriteHint::Extreme => Some(5),
    };
    CommandOptions { write_hint, atomic_bytes: atomic_bytes(plan), priorities: plan.spec.priorities() }
}

/// How long writes are that must be whole or not at all.
fn atomic_bytes(plan: &JobPlan) -> Option<u32> {
    let wanted = plan.spec.commands.atomic && plan.modifies();
    wanted.then(|| plan.spec.bs.get(Op::Write).max())
}

/// What the kernel is told of the pattern.
fn advice(spec: &JobSpec) -> Option<Advice> {
    match spec.files.advice {
        FileAdvice::None => None,
        FileAdvice::Pattern if spec.random => Some(Advice::Random),
        FileAdvice::Random => Some(Advice::Random),
        FileAdvice::Pattern | FileAdvice::Sequential => Some(Advice::Sequential),
        FileAdvice::NoReuse => Some(Advice::NoReuse),
    }
}

fn range_flags(spec: &JobSpec) -> u32 {
    let Some(range) = spec.files.sync_range else { return 0 };
    let flag = |set: bool, flag: u32| if set { flag } else { 0 };
    flag(range.wait_before, libc::SYNC_FILE_RANGE_WAIT_BEFORE)
        | flag(range.write, libc::SYNC_FILE_RANGE_WRITE)
        | flag(range.wait_after, libc::SYNC_FILE_RANGE_WAIT_AFTER)
}

/// RWF_DONTCACHE of linux/fs.h.
const RWF_DONTCACHE: i32 = 0x80;

fn rw_flags(spec: &JobSpec) -> i32 {
    let flag = |set: bool, flag: i32| if set { flag } else { 0 };
    flag(spec.files.nowait, libc::RWF_NOWAIT) | flag(spec.files.uncached, RWF_DONTCACHE)
}

/// Opens the targets for reading only, to look at them.
pub fn probe(plan: &JobPlan) -> Result<Arc<dyn OpenJob>, EngineError> {
    let options = EngineOptions {
        reads: true,
        direct: plan.spec.direct,
        spdk: probing(&plan.spec.spdk),
        commands: CommandOptions { atomic_bytes: atomic_bytes(plan), ..CommandOptions::default() },
        checked: Arc::clone(&plan.checked),
        trim_ranges: plan.spec.commands.trim_ranges,
        ..EngineOptions::default()
    };
    open_as(plan, &vec![0; plan.targets.len()], &options)
}

/// What a look at a namespace leaves as it is.
fn probing(options: &SpdkOptions) -> SpdkOptions {
    SpdkOptions { volatile_write_cache: None, ..options.clone() }
}

/// What a target led to when it was checked: engines open nothing else.
fn pinned(plan: &JobPlan, target: usize) -> Result<Arc<PinnedFile>, EngineError> {
    plan.pin(target).existing().map_err(|error| {
        let message = format!("cannot open {}: {error}", plan.targets[target].display());
        EngineError { message, errno: error.raw_os_error(), is_unsafe: false }
    })
}

fn open_as(
    plan: &JobPlan,
    size_hints: &[u64],
    options: &EngineOptions,
) -> Result<Arc<dyn OpenJob>, EngineError> {
    let targets = plan.targets.iter().zip(size_hints).enumerate();
    let targets: Result<Vec<Target>, EngineError> = targets
        .map(|(at, (path, &size_hint))| {
            let pin = if plan.uses_files() { Some(pinned(plan, at)?) } else { None };
            Ok(Target { path: path.clone(), size_hint, pin })
        })
        .collect();
    let targets = targets?;
    let engine = &plan.spec.ioengine;
    with_engine(engine, Opener { targets: &targets, options }).unwrap_or_else(|| {
        let unknown = || EngineError::new(format!("there is no engine `{engine}`"));
        Err(missing(engine).unwrap_or_else(unknown))
    })
}
