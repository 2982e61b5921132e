//! Moves I/O. An engine has two halves: [`Engine`] is cold and opens targets; [`Queue`] is hot, one
//! a worker, made on the worker's thread.
//!
//! The contract, which `tests/conformance.rs` runs over every engine of [`NAMES`]:
//! * An I/O is moved, not shared: `submit` takes descriptor and buffer, `poll` gives them back. A
//!   queue that is full leaves in the batch what it has no room for.
//! * Every I/O accepted comes back exactly once, from `poll` or `stop`.
//! * An I/O error is data in the completion; an `Err` means that the queue is dead.
//! * A transfer may come back short; who submitted it continues it.
//! * A queue dropped with I/O in flight leaks those buffers, and never frees them.
//!
//! Engines do not know what is measured or checked.

mod buffer;
mod io_uring;
mod kernel_file;
mod null;
mod psync;
pub mod ranges;
pub mod sim;
#[cfg(feature = "spdk")]
pub mod spdk;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::base::host::pin::PinnedFile;
use crate::base::ioprio::CommandPriorities;
use crate::base::nvme::{ControllerFacts, DeviceFacts, NamespaceFacts};
use crate::base::premises::Premises;
use crate::base::sim::SimOptions;
use crate::base::spdk::SpdkOptions;
use crate::base::{Op, Status};

pub use buffer::{Buffer, BufferArea};
pub use io_uring::{IoUring, IoUringQueue};
pub use null::{Null, NullQueue};
pub use psync::{Psync, PsyncQueue};
pub use sim::{Sim, SimQueue};
#[cfg(feature = "spdk")]
pub use spdk::{Spdk, SpdkQueue};

/// The engines, by the names of the job file's `ioengine`. [`with_engine`] makes one of them.
pub const NAMES: &[&str] = &[
    Null::NAME,
    Psync::NAME,
    IoUring::NAME,
    Sim::NAME,
    #[cfg(feature = "spdk")]
    Spdk::NAME,
];

/// The engine of SPDK's driver. Its name is known in every build; it is one of [`NAMES`] only in those
/// with the feature `spdk`.
pub const SPDK: &str = "spdk";

/// Why this build has no engine called `name`, and how to get it; `None` if it has.
#[must_use]
pub fn missing(name: &str) -> Option<EngineError> {
    if NAMES.contains(&name) {
        return None;
    }
    let known = NAMES.join(", ");
    Some(EngineError::new(if name == SPDK {
        format!(
            "this program was built without the engine `spdk` (it has {known}): build it with SPDK's libraries, \
             PKG_CONFIG_PATH=<spdk>/lib/pkgconfig cargo build --release --features spdk, or use io_uring, which \
             drives the same device through the kernel"
        )
    } else {
        format!("there is no engine `{name}`; engines: {known}")
    }))
}

/// Calls `visitor` with the engine type called `name`; `None` if there is none.
pub fn with_engine<V: EngineVisitor>(name: &str, visitor: V) -> Option<V::Output> {
    match name {
        Null::NAME => Some(visitor.visit::<Null>()),
        Psync::NAME => Some(visitor.visit::<Psync>()),
        IoUring::NAME => Some(visitor.visit::<IoUring>()),
        Sim::NAME => Some(visitor.visit::<Sim>()),
        #[cfg(feature = "spdk")]
        Spdk::NAME => Some(visitor.visit::<Spdk>()),
        _ => None,
    }
}

/// The libraries that engines are made of, with the versions found when this was built.
#[must_use]
pub fn libraries() -> Vec<String> {
    vec![
        #[cfg(feature = "spdk")]
        spdk_sys::version().to_owned(),
    ]
}

/// What a PCIe controller that user space drives says of itself, with its active namespaces; `None` in a
/// build that drives none.
///
/// # Errors
/// Why it could not be asked.
#[must_use]
pub fn ask_controller(bdf: &str) -> Option<Result<(ControllerFacts, Vec<NamespaceFacts>), String>> {
    #[cfg(feature = "spdk")]
    return Some(spdk::ask_controller(bdf).map_err(|error| error.to_string()));
    #[cfg(not(feature = "spdk"))]
    {
        let _ = bdf;
        None
    }
}

/// The run is over: engines let go of what they hold beyond their targets' time. `quietly`: devices are
/// not told, because their power has been cut, or is about to be.
pub fn shut_down(quietly: bool) {
    #[cfg(feature = "spdk")]
    spdk::shut_down(quietly);
    #[cfg(not(feature = "spdk"))]
    let _ = quietly;
}

/// The process is about to end: engines give back what they have of the machine.
pub fn finish() {
    #[cfg(feature = "spdk")]
    spdk::finish();
}

/// Code that works for any engine; see [`with_engine`].
pub trait EngineVisitor {
    /// What it returns.
    type Output;
    /// Called once, with the engine chosen.
    fn visit<E: Engine>(self) -> Self::Output;
}

/// The cold half: targets opened for one job.
pub trait Engine: Send + Sync + Sized + 'static {
    /// The hot half.
    type Queue: Queue + 'static;
    /// The name in job files.
    const NAME: &'static str;
    /// What its targets are.
    const TARGETS: Targets;

    /// Opens the targets.
    ///
    /// # Errors
    /// If a target cannot be opened as asked: what, where, errno, what to do.
    fn open(targets: &[Target], options: &EngineOptions) -> Result<Self, EngineError>;

    /// What each target is, in the order of `open`.
    fn facts(&self) -> &[TargetFacts];

    /// What NVMe targets say of themselves, in the order of `open`; their health is that of this
    /// moment, in `smart_before`. Called before and after the work. Engines without a channel of their
    /// own to devices have nothing to say: the run asks the kernel then.
    fn device_facts(&self) -> Vec<Option<DeviceFacts>> {
        Vec::new()
    }

    /// Drops what the kernel has cached of the targets. Engines without a cache do nothing.
    ///
    /// # Errors
    /// If the kernel refuses.
    fn invalidate(&self) -> Result<(), EngineError> {
        Ok(())
    }

    /// Memory for `count` I/Os of `len` bytes each, of the kind that its queues take.
    ///
    /// # Errors
    /// If it cannot be had: a sentence with the size.
    fn buffers(&self, count: u32, len: u32) -> Result<BufferArea, String> {
        BufferArea::new(count, len)
    }

    /// What holds now of the premises that can change: caches and flushes. For each target; `None` where it
    /// did not answer within `patience`, or cannot change.
    fn premises(&self, patience: Duration) -> Vec<Option<Premises>> {
        let _ = patience;
        Vec::new()
    }

    /// What has happened to the targets since the last call that a report should tell.
    fn take_notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// Why the targets are not those that were opened any more: another drive answered after a reset. Nothing
    /// was sent to it.
    fn replaced(&self) -> Option<String> {
        None
    }

    /// Makes a queue for the calling thread, together with sentences about what it had to do
    /// without. `buffers` are the ones that will be submitted.
    ///
    /// # Errors
    /// If the queue cannot be made.
    fn queue(
        &self,
        config: &QueueConfig,
        buffers: &BufferArea,
    ) -> Result<(Self::Queue, Vec<String>), EngineError>;
}

/// What the targets of an engine are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Targets {
    /// Files and devices of the kernel, to be laid out and guarded.
    Files,
    /// Namespaces of NVMe controllers, which have a size of their own.
    Namespaces,
    /// Made up: their size is what the job says.
    MadeUp,
}

/// The hot half.
pub trait Queue {
    /// Whether I/Os complete within `submit`. Such a queue times its own calls and its workers get
    /// a thread each.
    const BLOCKING: bool;
    /// Whether `commit` does anything, so that its time is worth reading the clock for.
    const HAS_DOORBELL: bool;

    /// Takes I/Os out of `batch`, from its front, as many as there is room for; the others stay.
    fn submit(&mut self, batch: &mut Vec<Io>);

    /// Rings the doorbell for everything submitted.
    ///
    /// # Errors
    /// If the queue is dead.
    fn commit(&mut self) -> Result<(), QueueError>;

    /// Appends at most `max` completions to `done`, which has the capacity for them. Waits until
    /// there are `wait.min` or `wait.timeout_ns` have passed; `min` 0 never waits.
    ///
    /// # Errors
    /// If the queue is dead.
    fn poll(&mut self, wait: Wait, max: usize, done: &mut Vec<Completion>) -> Result<(), QueueError>;

    /// Gives back what has not completed, as far as it can be cancelled or awaited within
    /// `timeout_ns`; each with the status ECANCELED or its own.
    fn stop(&mut self, timeout_ns: u64, done: &mut Vec<Completion>);
}

/// How long `poll` may wait.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wait {
    /// For this many completions.
    pub min: usize,
    /// At most this long, in nanoseconds.
    pub timeout_ns: u64,
}

/// One I/O on its way.
#[derive(Debug)]
pub struct Io {
    /// The memory: at least `len` bytes. A flush or a deallocate has one too, unused; where deallocates have
    /// several ranges ([`EngineOptions::trim_ranges`]), theirs stand in it, `offset` is that of the first, and
    /// `len` that of all.
    pub buffer: Buffer,
    /// Byte offset on the target of the whole I/O.
    pub offset: u64,
    /// The worker's number of it.
    pub sequence: u64,
    /// When it was submitted (`base::clock`): set by the reactor, or by a blocking queue.
    pub submit_ns: u64,
    /// Length of the whole I/O in bytes.
    pub len: u32,
    /// Bytes that earlier, short transfers have moved already.
    pub moved: u32,
    /// Index of the target.
    pub target: u16,
    /// The command.
    pub op: Op,
    /// For a flush: data only (fdatasync). A flush with a length is a sync_file_range(2) of it instead; with
    /// that of `u32::MAX`, to the end of the file.
    pub data_only: bool,
}

/// One I/O that came back.
#[derive(Debug)]
pub struct Completion {
    /// The I/O, with its buffer.
    pub io: Io,
    /// How it ended.
    pub status: Status,
    /// Bytes moved by this transfer; `io.moved` does not count them yet.
    pub bytes: u32,
    /// When it came back, if the queue is a blocking one; else 0.
    pub done_ns: u64,
}

/// A target to open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// Path of a file or device; of one that is pinned, only for messages.
    pub path: PathBuf,
    /// Size for engines whose targets have none of their own.
    pub size_hint: u64,
    /// What the path led to when it was checked: engines of the kernel's files open this. Without it, what
    /// the path leads to now.
    pub pin: Option<Arc<PinnedFile>>,
}

/// How targets are opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineOptions {
    /// For writing and deallocating too.
    pub writes: bool,
    /// For reading too.
    pub reads: bool,
    /// O_DIRECT.
    pub direct: bool,
    /// O_SYNC.
    pub sync: bool,
    /// O_DSYNC.
    pub dsync: bool,
    /// Flags of sync_file_range(2).
    pub range_flags: u32,
    /// What the kernel is told of the pattern, where the page cache is used (posix_fadvise(2)).
    pub advice: Option<rustix::fs::Advice>,
    /// io_uring: RWF_* flags of all reads and writes.
    pub rw_flags: i32,
    /// io_uring: one of every so many I/Os is left to the kernel's workers (IOSQE_ASYNC); 0 none.
    pub force_async: u32,
    /// io_uring: poll for completions (IORING_SETUP_IOPOLL).
    pub iopoll: bool,
    /// io_uring: a kernel thread submits (IORING_SETUP_SQPOLL).
    pub sqpoll: bool,
    /// io_uring: the CPU of that thread.
    pub sqpoll_cpu: Option<u32>,
    /// io_uring: register buffers.
    pub fixed_buffers: bool,
    /// io_uring: register files.
    pub registered_files: bool,
    /// sim: the drive, and what it does wrong.
    pub sim: SimOptions,
    /// spdk: queues, controllers, memory.
    pub spdk: SpdkOptions,
    /// psync, io_uring: what goes along with commands.
    pub commands: CommandOptions,
    /// spdk: the targets as they were checked before the run. One of these paths that leads to another
    /// device is refused.
    pub checked: std::sync::Arc<[TargetFacts]>,
    /// sim, spdk, null: with 2 or more, deallocates carry up to so many ranges in their buffers, as
    /// [`ranges`] says.
    pub trim_ranges: u32,
}

/// What goes along with commands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandOptions {
    /// How long what is written is expected to live, as linux/fcntl.h numbers it (RWH_WRITE_LIFE_*).
    pub write_hint: Option<u64>,
    /// Each write, all of this many bytes, is done whole or not at all (RWF_ATOMIC).
    pub atomic_bytes: Option<u32>,
    /// io_uring: which commands carry which priority.
    pub priorities: Option<CommandPriorities>,
}

/// What a target is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetFacts {
    /// Its path.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Offsets and lengths must be multiples of this, in bytes.
    pub lba_bytes: u32,
    /// Whether it is a block device.
    pub is_block_device: bool,
    /// What a verdict on it rests on: cache, flushes, atomic writes, deallocated blocks.
    pub premises: Premises,
    /// What it is known by, where its path does not lead to it: targets that the kernel does not know.
    pub known: Option<Known>,
    /// The file or device, where the kernel knows it.
    pub pin: Option<Arc<PinnedFile>>,
}

impl TargetFacts {
    /// A path to look at it by, which leads to what is open; `path` is how it was named, for messages.
    #[must_use]
    pub fn place(&self) -> &Path {
        self.pin.as_ref().map_or(&self.path, |pin| pin.way())
    }
}

/// What a device is known by, whoever drives it and wherever it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its world-wide name, as the kernel spells it.
    pub wwid: String,
    /// Model and serial number.
    pub name: String,
}

impl TargetFacts {
    /// Whether `now` is another device than this one at the same path: a sentence that names both. Only for
    /// targets that the kernel does not know; others have no [`Known`].
    #[must_use]
    pub fn replaced_by(&self, now: &TargetFacts) -> Option<String> {
        let (before, after) = (self.known.as_ref()?, now.known.as_ref()?);
        let path = self.path.display();
        if before != after {
            return Some(format!(
                "{path}: another drive is at this address: the one of model and serial number `{}` ({}) was \
                 checked, and `{}` ({}) is there now",
                before.name, before.wwid, after.name, after.wwid
            ));
        }
        (self.size_bytes != now.size_bytes).then(|| {
            format!(
                "{path}: the namespace of `{}` has changed: it had {} bytes when it was checked, and has {} now",
                before.name, self.size_bytes, now.size_bytes
            )
        })
    }
}

/// The size of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueConfig {
    /// I/Os in flight at most.
    pub depth: u32,
}

/// Bad environment: what, where, which errno, what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineError {
    /// The sentence.
    pub message: String,
    /// The error number, if one is behind it.
    pub errno: Option<i32>,
    /// The target is not the one that was checked: an unsafe target (exit code 6).
    pub is_unsafe: bool,
}

impl EngineError {
    pub(crate) fn new(message: impl Into<String>) -> EngineError {
        EngineError { message: message.into(), errno: None, is_unsafe: false }
    }

    /// The target is not the one that was checked.
    #[cfg(feature = "spdk")]
    pub(crate) fn replaced(message: impl Into<String>) -> EngineError {
        EngineError { message: message.into(), errno: None, is_unsafe: true }
    }

    pub(crate) fn os(what: &str, error: rustix::io::Errno) -> EngineError {
        let status = Status::from_errno(error.raw_os_error());
        EngineError { message: format!("{what}: {status}"), errno: Some(status.errno()), is_unsafe: false }
    }
}

impl fmt::Display for EngineError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)
    }
}

impl std::error::Error for EngineError {}

/// The queue is dead: nothing can be submitted to it or polled from it any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueError {
    /// What the kernel or the driver said.
    pub status: Status,
}
