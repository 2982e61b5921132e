//! A job after parsing: every option resolved and range-checked, units gone, defaults in place.

pub(crate) mod commands;
mod files;
mod host;
mod logs;
mod measuring;
mod order;
mod pace;
pub(crate) mod places;
mod replay;

use std::path::PathBuf;

use crate::base::PerOp;
use crate::base::cut::{StateSpec, TriggerSpec};
use crate::base::shape::{Amount, BlockSizes, Distribution, Mix};
use crate::base::sim::SimOptions;
use crate::base::spdk::SpdkOptions;
use crate::base::verify::VerifySpec;

pub use commands::CommandsSpec;
pub use files::{FileAdvice, FileType, FilesSpec, SyncRange};
pub use host::HostSpec;
pub use logs::{LogName, LogsSpec, WindowValue};
pub use measuring::{MeasuringSpec, Unified};
pub use order::{ExitWhat, OrderSpec};
pub use pace::PaceSpec;
pub use places::PlacesSpec;
pub use replay::ReplaySpec;

/// One `[[job]]` with the defaults of `[global]` and the overrides of the command line applied.
#[derive(Clone, Debug, PartialEq)]
pub struct JobSpec {
    /// `name`.
    pub name: String,
    /// `description`.
    pub description: Option<String>,
    /// `ioengine`: a name of `engine::NAMES`, or `engine::SPDK` which not every build has.
    pub ioengine: String,
    /// `filename`: one or more targets; empty if the job names its files by `directory` and `name`.
    /// With engine `spdk`, transport ids in the spelling of [`TransportId`](crate::base::transport_id::TransportId).
    pub filename: Vec<String>,
    /// `directory`: where relative file names live.
    pub directory: Option<PathBuf>,
    /// `nrfiles`: files a worker, where `filename` does not list them.
    pub nrfiles: u32,
    /// `rw`: order of the offsets.
    pub random: bool,
    /// `rw`: commands.
    pub mix: Mix,
    /// `rw=...:N`: with sequential patterns, bytes to skip after each I/O; with random ones, how
    /// many I/Os follow each other before a new offset is drawn.
    pub rw_modifier: Option<u64>,
    /// `rwmixread`: percent of reads in a mixed workload.
    pub rwmixread: u32,
    /// `bs`, `bsrange`, `bssplit`.
    pub bs: PerOp<BlockSizes>,
    /// `blockalign`: random offsets are multiples of this many bytes.
    pub blockalign: PerOp<u32>,
    /// `size` of the region; without it the whole of the target.
    pub size: Option<Amount>,
    /// `io_size`: how much to transfer; without it, once the size of the region.
    pub io_size: Option<Amount>,
    /// `offset` of the region.
    pub offset: Amount,
    /// `offset_increment`: added to the offset for each further clone.
    pub offset_increment: Amount,
    /// `number_ios`: at most this many I/Os a worker.
    pub number_ios: Option<u64>,
    /// `loops`: how often the amount is done.
    pub loops: u64,
    /// `runtime` in nanoseconds, not counting the ramp.
    pub runtime_ns: Option<u64>,
    /// `time_based`: go on until `runtime`, whatever the amount.
    pub time_based: bool,
    /// `ramp_time` in nanoseconds: run, but do not count.
    pub ramp_time_ns: u64,
    /// `numjobs`: workers made of this job.
    pub numjobs: u32,
    /// `iodepth`: I/Os in flight a worker.
    pub iodepth: u32,
    /// `iodepth_batch_submit`: I/Os a doorbell at most.
    pub iodepth_batch_submit: u32,
    /// `iodepth_batch_complete_min`: completions to wait for when the queue is full; 0 polls.
    pub iodepth_batch_complete_min: u32,
    /// `iodepth_batch_complete_max`: completions taken at once at most.
    pub iodepth_batch_complete_max: u32,
    /// `iodepth_low`: once full, drain to this depth before issuing again.
    pub iodepth_low: u32,
    /// `direct`: O_DIRECT.
    pub direct: bool,
    /// `sync`: O_SYNC or O_DSYNC.
    pub sync: SyncMode,
    /// `fsync`: flush after this many writes; 0 never.
    pub fsync: u32,
    /// `fdatasync`: the same without metadata; 0 never.
    pub fdatasync: u32,
    /// `end_fsync`: flush when a worker has finished.
    pub end_fsync: bool,
    /// `randseed`; where absent, see `randrepeat`.
    pub randseed: Option<u64>,
    /// `randrepeat`: the same sequence in every run.
    pub randrepeat: bool,
    /// `norandommap`: random offsets with repeats, instead of each block once.
    pub norandommap: bool,
    /// `random_distribution`.
    pub random_distribution: PerOp<Distribution>,
    /// `percentage_random`: how many of a random workload's I/Os are random.
    pub percentage_random: PerOp<u32>,
    /// `cpus_allowed`, in rising order, each once; `None` for all that the process may use.
    pub cpus_allowed: Option<Vec<u32>>,
    /// `cpus_allowed_policy`.
    pub cpus_allowed_policy: CpusPolicy,
    /// `stonewall`: start when all jobs before this one have ended.
    pub stonewall: bool,
    /// `group_reporting`: report clones and jobs of a group as one.
    pub group_reporting: bool,
    /// `new_group`: begin a new reporting group.
    pub new_group: bool,
    /// What stands in the buffers of writes.
    pub content: ContentSpec,
    /// `continue_on_error`.
    pub continue_on_error: ContinueOn,
    /// `fill_device`: write until the target is full; full is not an error then.
    pub fill_device: bool,
    /// `allow_mounted_write`.
    pub allow_mounted_write: bool,
    /// `readonly`: refuse this job if it writes or trims.
    pub readonly: bool,
    /// `create_only`: lay out the files, then end.
    pub create_only: bool,
    /// `fallocate`: how files get their space.
    pub fallocate: Fallocate,
    /// `invalidate`: drop the target's pages from the page cache before the start.
    pub invalidate: bool,
    /// `verify` and its like.
    pub verify: VerifySpec,
    /// Snapshots of what was promised. The same in all jobs of a run.
    pub state: StateSpec,
    /// When the power is cut, and how. The same in all jobs of a run.
    pub trigger: TriggerSpec,
    /// `writefua`: writes are durable when they complete.
    pub writefua: bool,
    /// `serialize_overlap`: hold an I/O back while another to the same bytes is in flight.
    pub serialize_overlap: bool,
    /// `reap_timeout` in nanoseconds: how long a device may answer nothing at all before what it
    /// has in flight is given up.
    pub reap_timeout_ns: u64,
    /// Options of io_uring alone.
    pub io_uring: IoUringSpec,
    /// Options of the simulated drive alone.
    pub sim: SimOptions,
    /// Options of SPDK alone.
    pub spdk: SpdkOptions,
    /// When I/Os are issued: pauses, rates, and what follows from latencies.
    pub pace: PaceSpec,
    /// When jobs begin and end, and what ends them.
    pub order: OrderSpec,
    /// What a worker asks of the machine: memory, priorities, schedulers, commands before and after.
    pub host: HostSpec,
    /// How files are made, chosen, opened and left behind.
    pub files: FilesSpec,
    /// What is logged while the job runs, in fio's formats.
    pub logs: LogsSpec,
    /// Logs of I/Os: written, and replayed.
    pub replay: ReplaySpec,
    /// What is measured, when that is enough, and how it is told.
    pub measuring: MeasuringSpec,
    /// Where I/Os go beyond offset, size and distribution.
    pub places: PlacesSpec,
    /// What goes along with a command: hints, priorities, atomicity.
    pub commands: CommandsSpec,
    /// The options that were set, as `(name, value in TOML)`, in table order: what reports embed
    /// so that a result can be run again. A value that is its option's default is left out.
    pub options: Vec<(String, String)>,
}

/// What a write carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentSpec {
    /// `zero_buffers`.
    pub zero_buffers: bool,
    /// `refill_buffers`: new contents for every write.
    pub refill_buffers: bool,
    /// `scramble_buffers`: contents once, then a few bytes changed in every 512.
    pub scramble_buffers: bool,
    /// `buffer_pattern`, expanded to bytes.
    pub buffer_pattern: Option<Vec<u8>>,
    /// `buffer_compress_percentage`: this share of every chunk compresses to nothing.
    pub compress_percentage: u32,
    /// `buffer_compress_chunk` in bytes.
    pub compress_chunk: u32,
    /// `dedupe_percentage`: this share of the blocks repeats an earlier one.
    pub dedupe_percentage: u32,
}

impl Default for ContentSpec {
    fn default() -> ContentSpec {
        ContentSpec {
            zero_buffers: false,
            refill_buffers: false,
            scramble_buffers: true,
            buffer_pattern: None,
            compress_percentage: 0,
            compress_chunk: 512,
            dedupe_percentage: 0,
        }
    }
}

/// Options that only io_uring understands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IoUringSpec {
    /// `hipri`: IORING_SETUP_IOPOLL.
    pub hipri: bool,
    /// `sqthread_poll`: IORING_SETUP_SQPOLL.
    pub sqthread_poll: bool,
    /// `sqthread_poll_cpu`.
    pub sqthread_poll_cpu: Option<u32>,
    /// `fixedbufs`: register the buffers.
    pub fixedbufs: bool,
    /// `registerfiles`: register the files.
    pub registerfiles: bool,
}

impl Default for IoUringSpec {
    fn default() -> IoUringSpec {
        IoUringSpec {
            hipri: false,
            sqthread_poll: false,
            sqthread_poll_cpu: None,
            fixedbufs: true,
            registerfiles: true,
        }
    }
}

/// fio's `sync`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMode {
    /// `none`.
    None,
    /// O_SYNC.
    Sync,
    /// O_DSYNC.
    Dsync,
}

/// fio's `cpus_allowed_policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpusPolicy {
    /// Workers share the set.
    Shared,
    /// Each worker has a CPU of the set to itself, as long as there are enough.
    Split,
}

/// fio's `fallocate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallocate {
    /// Set the size only.
    None,
    /// fallocate(2), and go on without where the file system cannot.
    Native,
    /// posix_fallocate(3): always takes the space.
    Posix,
    /// fallocate(2) with FALLOC_FL_KEEP_SIZE.
    Keep,
    /// ftruncate(2) to the final size.
    Truncate,
}

/// fio's `continue_on_error`: the kinds of error that do not end a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContinueOn {
    /// Failed reads.
    pub read: bool,
    /// Failed writes, trims and flushes.
    pub write: bool,
    /// Failed verification.
    pub verify: bool,
}
