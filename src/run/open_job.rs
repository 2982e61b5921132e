//! A job whose engine is open, with the engine's type forgotten: what is called once a worker goes
//! through here, what is called once an I/O does not.

use std::sync::Arc;

use crate::base::Op;
use crate::base::nvme::DeviceFacts;
use crate::base::spdk::SpdkOptions;
use crate::engine::{
    Engine, EngineError, EngineOptions, EngineVisitor, Queue, QueueConfig, Target, TargetFacts, Targets,
    missing, with_engine,
};
use crate::job::spec::SyncMode;
use crate::reactor::{Live, Tap, Turning, VerifyParts, Worker, WorkerConfig, WorkerParts};
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
    /// What has happened to the targets since the last call.
    fn take_notes(&self) -> Vec<String>;
    /// Makes a worker on the calling thread, with sentences about what it does without.
    fn worker(&self, request: WorkerRequest) -> Result<(Box<dyn Turning>, Vec<String>), String>;
}

struct Opened<E>(E);

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
                if let Ok(file) = std::fs::File::open(&fact.path) {
                    // A failure shows when the blocks are judged.
                    let _ = file.sync_data();
                }
            }
        }
        self.0.invalidate()
    }

    fn take_notes(&self) -> Vec<String> {
        self.0.take_notes()
    }

    fn worker(&self, request: WorkerRequest) -> Result<(Box<dyn Turning>, Vec<String>), String> {
        let WorkerRequest { config, workload, content, largest_io, live, tap, verify } = request;
        let buffers = self.0.buffers(config.depth, largest_io)?;
        let (queue, notes) = self
            .0
            .queue(&QueueConfig { depth: config.depth }, &buffers)
            .map_err(|error| error.to_string())?;
        let content = Content::new(content, workload.seed);
        let writes = workload.mix.modifies();
        let mut workload = Workload::new(&workload).map_err(|error| error.to_string())?;
        if let Some(parts) = &verify {
            let issued = |op| parts.ledger.issued(op);
            workload.skip_mutations(issued(Op::Write) + issued(Op::Deallocate));
        }
        let parts = WorkerParts { config, queue, buffers, workload, content, writes, live, tap, verify };
        Ok((Box::new(Worker::new(parts)), notes))
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
        iopoll: spec.io_uring.hipri,
        sqpoll: spec.io_uring.sqthread_poll,
        sqpoll_cpu: spec.io_uring.sqthread_poll_cpu,
        fixed_buffers: spec.io_uring.fixedbufs,
        registered_files: spec.io_uring.registerfiles,
        sim: spec.sim,
        spdk: spec.spdk.clone(),
    };
    open_as(plan, size_hints, &options)
}

/// Opens the targets for reading only, to look at them.
pub fn probe(plan: &JobPlan) -> Result<Arc<dyn OpenJob>, EngineError> {
    let options = EngineOptions {
        reads: true,
        direct: plan.spec.direct,
        spdk: probing(&plan.spec.spdk),
        ..EngineOptions::default()
    };
    open_as(plan, &vec![0; plan.targets.len()], &options)
}

/// What a look at a namespace leaves as it is.
fn probing(options: &SpdkOptions) -> SpdkOptions {
    SpdkOptions { volatile_write_cache: None, ..options.clone() }
}

fn open_as(
    plan: &JobPlan,
    size_hints: &[u64],
    options: &EngineOptions,
) -> Result<Arc<dyn OpenJob>, EngineError> {
    let targets = plan.targets.iter().zip(size_hints);
    let targets: Vec<Target> =
        targets.map(|(path, &size_hint)| Target { path: path.clone(), size_hint }).collect();
    let engine = &plan.spec.ioengine;
    with_engine(engine, Opener { targets: &targets, options }).unwrap_or_else(|| {
        let unknown = || EngineError { message: format!("there is no engine `{engine}`"), errno: None };
        Err(missing(engine).unwrap_or_else(unknown))
    })
}
