//! The tool's own cost: the loop over engine `null`, 4 KiB random reads with coverage and all
//! percentiles, in nanoseconds an I/O.
//!
//! `cargo bench --bench null_loop` times it, several rounds a shape, and prints the median.
//! `cargo bench --bench null_loop -- --ios N --depth D` runs N I/Os once and prints nothing: for
//! callgrind, where the difference of two lengths gives instructions an I/O (`ci/instructions`).
#![expect(clippy::print_stdout, reason = "a benchmark prints")]

use std::sync::Arc;

use fio_spdk::base::PerOp;
use fio_spdk::base::clock::Clock;
use fio_spdk::base::errno_set::ListedErrors;
use fio_spdk::base::shape::{BlockSizes, Distribution, Mix};
use fio_spdk::engine::{BufferArea, Engine, EngineOptions, Null, QueueConfig, Target};
use fio_spdk::reactor::{Live, Measures, Turning, Worker, WorkerConfig, WorkerParts, drive, tap};
use fio_spdk::workload::{Content, ContentShape, Limit, Region, Workload, WorkloadSpec};

const ROUNDS: usize = 7;
const BLOCK: u32 = 4096;

fn worker(mix: Mix, depth: u32, ios: u64) -> Box<dyn Turning> {
    let region_bytes = 1 << 40;
    let spec = WorkloadSpec {
        regions: vec![Region { target: 0, start: 0, bytes: region_bytes }],
        service: fio_spdk::base::shape::FileService::default(),
        mix,
        read_percent: 50,
        random: true,
        coverage: true,
        modifier: None,
        sizes: PerOp::all(BlockSizes::Fixed(BLOCK)),
        align: PerOp::all(0),
        distribution: PerOp::all(Distribution::Random),
        percentage_random: PerOp::all(100),
        places: fio_spdk::base::shape::Places::default(),
        trim: None,
        log: None,
        seed: 1,
        limit: Limit { ios: Some(ios), ..Limit::default() },
    };
    let target = Target { path: "null".into(), size_hint: region_bytes, pin: None };
    let engine = Null::open(&[target], &EngineOptions::default()).expect("null opens");
    let buffers = BufferArea::new(depth, BLOCK).expect("memory");
    let (queue, _) = engine.queue(&QueueConfig { depth }, &buffers).expect("null has queues");
    let (tap, _) = tap();
    Box::new(Worker::new(WorkerParts {
        config: WorkerConfig {
            depth,
            batch_submit: depth,
            batch_complete_min: 1,
            batch_complete_max: depth,
            depth_low: depth,
            fsync: 0,
            fdatasync: 0,
            sync_range: 0,
            end_fsync: false,
            first_target: 0,
            targets: 1,
            ramp_ns: 0,
            runtime_ns: None,
            continue_on_read: false,
            continue_on_write: false,
            listed_errors: ListedErrors::default(),
            fill_device: false,
            serialize: false,
            reap_timeout_ns: u64::MAX,
            trim_ranges: 1,
            measures: Measures::ALL,
        },
        queue,
        buffers,
        workload: Workload::new(&spec).expect("a region with blocks"),
        content: Content::new(ContentShape { scramble: true, ..ContentShape::default() }, 1),
        writes: mix.modifies(),
        live: Arc::new(Live::default()),
        tap,
        verify: None,
        log: None,
        priorities: None,
        replay: None,
        recorder: None,
    }))
}

fn argument(name: &str) -> Option<u64> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.nth(1)?.parse().ok()
}

fn main() {
    if let Some(ios) = argument("--ios") {
        let depth = argument("--depth").and_then(|depth| u32::try_from(depth).ok()).unwrap_or(32);
        drive(vec![worker(Mix::Read, depth, ios)], std::thread::sleep);
        return;
    }
    let clock = Clock::get();
    for (name, mix, depth) in [
        ("randread, depth 32", Mix::Read, 32),
        ("randread, depth 1", Mix::Read, 1),
        ("randrw, depth 32", Mix::ReadWrite, 32),
        ("randwrite, depth 32", Mix::Write, 32),
    ] {
        let ios = if depth == 1 { 5_000_000 } else { 30_000_000 };
        let mut rounds: Vec<f64> = (0..ROUNDS)
            .map(|_| {
                let worker = worker(mix, depth, ios);
                let start_ns = clock.now_ns();
                drive(vec![worker], std::thread::sleep);
                (clock.now_ns() - start_ns) as f64 / ios as f64
            })
            .collect();
        rounds.sort_by(f64::total_cmp);
        let (median, spread) = (rounds[ROUNDS / 2], rounds[ROUNDS - 1] - rounds[0]);
        println!("{name:20} {median:6.1} ns an I/O (spread {spread:.1}), {:5.1} M IOPS", 1000.0 / median);
    }
}
