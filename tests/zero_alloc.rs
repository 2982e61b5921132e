//! After the start a reactor allocates nothing, frees nothing and reallocates nothing: a counting
//! allocator watches the thread that turns a worker.

#![allow(unsafe_code, reason = "an allocator that counts")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::PathBuf;
use std::sync::Arc;

use fio_spdk::base::errno_set::ListedErrors;
use fio_spdk::base::ioprio::{CommandPriorities, IoPriority, PriorityShare};
use fio_spdk::base::replay::{CHUNK, Logged, log_stream, recorder};
use fio_spdk::base::shape::{BlockSizes, Distribution, Mix, Places, SpRandom, Strides, Zone};
use fio_spdk::base::{Op, PerOp};
use fio_spdk::engine::{
    Engine, EngineOptions, EngineVisitor, NAMES, QueueConfig, SPDK, Sim, Target, with_engine,
};
use fio_spdk::reactor::{
    FloorConfig, FlowConfig, Live, LogShape, Measures, PaceConfig, RateConfig, ReplayParts, ThinkConfig,
    Turn, Turning, Worker, WorkerConfig, WorkerParts, log_pipe, tap,
};
use fio_spdk::stats::{LogKinds, WorkerStats};
use fio_spdk::workload::{Content, ContentShape, Limit, Region, Workload, WorkloadSpec};

const REGION: u64 = 4 << 20;
const DEPTH: u32 = 16;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

fn count() {
    // A thread that is being torn down has no counter any more, and none is asked for.
    let _ = CALLS.try_with(|calls| calls.set(calls.get() + 1));
}

fn calls() -> u64 {
    CALLS.with(Cell::get)
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `GlobalAlloc`, which is the system's too.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, start: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as in `alloc`.
        unsafe { System.realloc(start, layout, size) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        count();
        // SAFETY: as in `alloc`.
        unsafe { System.dealloc(start, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[derive(Clone)]
struct Shape {
    name: &'static str,
    mix: Mix,
    random: bool,
    sizes: BlockSizes,
    distribution: Distribution,
    places: Places,
    priorities: Option<CommandPriorities>,
    content: ContentShape,
    fsync: u32,
    serialize: bool,
    trim_ranges: u32,
    log: Option<LogShape>,
    pace: Option<PaceConfig>,
    /// It replays a log, and writes another one.
    logged: bool,
}

fn shapes() -> Vec<Shape> {
    let plain = Shape {
        name: "random reads",
        mix: Mix::Read,
        random: true,
        sizes: BlockSizes::Fixed(4096),
        distribution: Distribution::Random,
        places: Places::default(),
        priorities: None,
        content: ContentShape::default(),
        fsync: 0,
        serialize: false,
        trim_ranges: 1,
        log: None,
        pace: None,
        logged: false,
    };
    let content = ContentShape { compress_chunk: 512, ..ContentShape::default() };
    let writes = Shape { mix: Mix::Write, ..plain.clone() };
    let mixed = Shape { mix: Mix::ReadWrite, ..plain.clone() };
    let zones = [(80.0, 20.0), (20.0, 80.0)]
        .map(|(access_percent, range_percent)| Zone { access_percent, range_percent })
        .to_vec();
    let strides = Some(Strides { amount: 1 << 16, range: 1 << 15, skip: 5120 });
    let sprandom = Some(SpRandom { over_provisioning: 0.3, parts: 4, cache_bytes: 0 });
    let share = PriorityShare { bytes: 0, percent: 30, priority: IoPriority::new(2, 1, 0) };
    let priorities =
        CommandPriorities { shares: PerOp::all(vec![share]), usual: IoPriority::default(), seed: 1 };
    let with = |change: ContentShape| Shape { name: "contents", content: change, ..writes.clone() };
    let kinds = LogKinds { latency: true, bandwidth: true, iops: true };
    let each = LogShape { entries: Some(2048), ..LogShape::default() };
    // So short that each look ends them, on a machine of any speed.
    let windows = LogShape {
        windows: vec![(kinds, 1), (kinds, 2)],
        maxima: true,
        histogram: Some((10_000, 6)),
        ..LogShape::default()
    };
    vec![
        Shape { name: "every I/O logged", log: Some(each), ..mixed.clone() },
        Shape { name: "windows logged", log: Some(windows), ..mixed.clone() },
        Shape { name: "windows", places: Places { strides, ..Places::default() }, ..mixed.clone() },
        Shape { name: "ageing", places: Places { sprandom, ..Places::default() }, ..writes.clone() },
        Shape { name: "priorities", priorities: Some(priorities), ..mixed.clone() },
        Shape { name: "sequential reads", random: false, ..plain.clone() },
        with(ContentShape { scramble: true, ..content.clone() }),
        with(ContentShape { refill: true, ..content.clone() }),
        with(ContentShape { compress_percent: 50, ..content.clone() }),
        with(ContentShape { dedupe_percent: 50, ..content.clone() }),
        with(ContentShape { pattern: Some(Box::new(*b"abc")), refill: true, ..content }),
        Shape { name: "a rate", pace: Some(rated()), ..mixed.clone() },
        Shape { name: "pauses", pace: Some(pausing()), ..plain.clone() },
        Shape { name: "a log", logged: true, ..writes.clone() },
        Shape { name: "fsync", fsync: 3, ..writes.clone() },
        Shape { name: "zipf", distribution: Distribution::Zipf(1.2), ..mixed.clone() },
        Shape { name: "pareto", distribution: Distribution::Pareto(0.2), ..mixed.clone() },
        Shape { name: "normal", distribution: Distribution::Normal(20.0), ..mixed.clone() },
        Shape { name: "zoned", distribution: Distribution::Zoned(zones), ..mixed.clone() },
        Shape {
            name: "bssplit",
            sizes: BlockSizes::Split(vec![(512, 33), (4096, 60), (65536, 7)]),
            serialize: true,
            ..mixed.clone()
        },
        Shape { name: "bsrange", sizes: BlockSizes::Range { min: 512, max: 16384 }, ..mixed },
        Shape { name: "trims of several ranges", mix: Mix::Trim, trim_ranges: 5, ..writes.clone() },
        Shape { name: "trimwrite", mix: Mix::TrimWrite, serialize: true, ..writes },
        plain,
    ]
}

/// Rates that fall due at random, a share, and demands that are met.
fn rated() -> PaceConfig {
    let rate = |bytes_per_s| Some(RateConfig { bytes_per_s, block: 4096, poisson: Some(1) });
    PaceConfig {
        rates: PerOp { read: rate(1 << 30), write: rate(1 << 29), trim: None },
        rates_decide: true,
        flow: Some(FlowConfig { group: Arc::default(), weight: 3, sleep_ns: 0 }),
        max_latency_ns: PerOp::all(u64::MAX),
        floor: Some(FloorConfig { bytes_per_s: PerOp::default(), iops: PerOp::default(), cycle_ns: 1 }),
        ..PaceConfig::default()
    }
}

fn pausing() -> PaceConfig {
    let think =
        ThinkConfig { pause_ns: 200_000, spin_ns: 1000, blocks: Some(40), at_issue: false, every_ns: None };
    PaceConfig { think: Some(think), cycles: 10, ..PaceConfig::default() }
}

/// Some chunks of a log, as a reader has read them ahead.
fn replayed() -> ReplayParts {
    let (feed, stream) = log_stream();
    let mut sequence = 0;
    for _ in 0..5 {
        let mut chunk = feed.chunk().unwrap().unwrap();
        for _ in 0..CHUNK {
            sequence += 1;
            let op = [Op::Write, Op::Read, Op::Write, Op::Flush][sequence as usize % 4];
            let len = if op == Op::Flush { 0 } else { 4096 };
            let offset = sequence * 4096 % REGION;
            let (due_ns, target, data_only) = (sequence * 100, 0, false);
            chunk.push(Logged { due_ns, offset, sequence, len, target, op, data_only });
        }
        feed.send(chunk);
    }
    ReplayParts { stream, ios: None, targets: Box::new([0]), keeps_time: true }
}

fn workload(shape: &Shape) -> Workload {
    let by_passes = shape.mix != Mix::ReadWrite && shape.places.strides.is_none();
    let limit = if shape.distribution == Distribution::Random && by_passes {
        Limit { passes: Some(3), ..Limit::default() }
    } else {
        Limit { bytes: Some(3 * REGION), ..Limit::default() }
    };
    Workload::new(&WorkloadSpec {
        regions: vec![Region { target: 0, start: 0, bytes: REGION }],
        service: fio_spdk::base::shape::FileService::default(),
        mix: shape.mix,
        read_percent: 50,
        random: shape.random,
        coverage: true,
        modifier: None,
        sizes: PerOp::all(shape.sizes.clone()),
        align: PerOp::all(0),
        distribution: PerOp::all(shape.distribution.clone()),
        percentage_random: PerOp::all(100),
        places: shape.places.clone(),
        trim: None,
        log: None,
        seed: 1,
        limit,
    })
    .unwrap()
}

fn config(shape: &Shape, depth: u32) -> WorkerConfig {
    WorkerConfig {
        depth,
        batch_submit: depth.div_ceil(2),
        batch_complete_min: 1,
        batch_complete_max: depth,
        depth_low: depth.div_ceil(4),
        fsync: shape.fsync,
        fdatasync: shape.fsync * 2,
        sync_range: 0,
        end_fsync: shape.fsync > 0,
        first_target: 0,
        targets: 1,
        // The ramp ends in the loop, and long before the loop does, on a machine of any speed.
        ramp_ns: 1,
        runtime_ns: None,
        continue_on_read: false,
        continue_on_write: false,
        listed_errors: ListedErrors::default(),
        fill_device: false,
        serialize: shape.serialize,
        reap_timeout_ns: u64::MAX,
        trim_ranges: shape.trim_ranges,
        measures: Measures::ALL,
    }
}

struct Loop {
    shape: Shape,
    path: PathBuf,
}

impl EngineVisitor for Loop {
    /// Calls of the allocator in the loop, and what the worker did.
    type Output = (u64, Box<WorkerStats>);

    fn visit<E: Engine>(self) -> Self::Output {
        let Loop { shape, path } = self;
        let options = EngineOptions {
            reads: true,
            writes: true,
            fixed_buffers: true,
            registered_files: true,
            trim_ranges: shape.trim_ranges,
            ..EngineOptions::default()
        };
        let engine = E::open(&[Target { path, size_hint: REGION, pin: None }], &options).unwrap();
        let buffers = engine.buffers(DEPTH, shape.sizes.max()).unwrap();
        let (queue, _) = engine.queue(&QueueConfig { depth: DEPTH }, &buffers).unwrap();
        let (tap, asker) = tap();
        let (log, source) = shape.log.clone().map(log_pipe).unzip();
        let (recorder, feed) = recorder();
        let mut worker = Worker::new(WorkerParts {
            config: config(&shape, DEPTH),
            queue,
            buffers,
            workload: workload(&shape),
            content: Content::new(shape.content.clone(), 1),
            writes: shape.mix.modifies(),
            live: Arc::new(Live::default()),
            tap,
            verify: None,
            log,
            priorities: shape.priorities.clone(),
            replay: shape.logged.then(replayed),
            recorder: shape.logged.then_some(recorder),
        });
        if let Some(pace) = shape.pace.clone().or_else(|| shape.logged.then(PaceConfig::default)) {
            worker.set_pace(pace);
        }
        let watches = shape.mix == Mix::TrimWrite;
        if watches {
            worker.watch_blocks(4096, &[Region { target: 0, start: 0, bytes: REGION }]);
        }
        asker.ask();
        worker.start();
        let before = calls();
        let mut looks = 0;
        while worker.turns(64, u64::MAX, true) != Turn::Done {
            worker.housekeep();
            looks += 1;
        }
        // As often as it takes until the percentiles are worked out.
        (looks..300).for_each(|_| worker.housekeep());
        let during = calls() - before;
        // Nobody takes what is logged while it counts: the rest is left out, and nothing waits.
        if let Some(source) = &source {
            let mut logged = 0;
            while source.take_ios(|ios| logged += ios.len()) || source.take_window(|_| logged += 1) {}
            while source.take_histogram(|_| logged += 1) {}
            assert!(logged > 0, "{}", shape.name);
        }
        if shape.logged {
            let recorded: usize = feed.full.try_iter().map(|chunk| chunk.len()).sum();
            assert!(recorded > 4 * CHUNK, "{recorded} I/Os were written down");
        }
        assert!(asker.answer(std::time::Duration::ZERO).is_some(), "it was asked for its counts");
        let outcome = Box::new(worker).finish();
        assert_eq!(outcome.error, None, "{}", shape.name);
        let trimmed = outcome.stats.blocks.as_ref().map(|blocks| blocks.used());
        assert_eq!(trimmed, watches.then_some(REGION / 4096), "every block is trimmed once");
        (during, outcome.stats)
    }
}

#[test]
fn the_counter_counts() {
    let before = calls();
    drop(std::hint::black_box(Box::new(1)));
    assert_eq!(calls() - before, 2);
}

#[test]
fn the_loop_allocates_nothing() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, vec![0; REGION.try_into().unwrap()]).unwrap();
    // A simulated drive keeps what is written in memory; nobody measures it.
    for name in NAMES.iter().filter(|&&name| name != Sim::NAME) {
        let takes = |shape: &Shape| shape.trim_ranges == 1 || !["psync", "io_uring"].contains(name);
        for shape in shapes().into_iter().filter(takes) {
            let what = format!("{name}, {}", shape.name);
            // A drive of the made-up SPDK; no other is here where tests run.
            let path =
                if *name == SPDK { "trtype=VFIOUSER traddr=/zero-alloc ns=1".into() } else { path.clone() };
            let (calls, stats) = with_engine(name, Loop { shape, path }).unwrap();
            assert_eq!(calls, 0, "{what}: calls of the allocator in the loop");
            assert!(stats.errors().next().is_none(), "{what}");
        }
    }
}
