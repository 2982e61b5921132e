//! A worker over a queue that does everything it is allowed to do, at its worst.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::sync::Arc;

use fio_spdk::base::errno_set::ListedErrors;
use fio_spdk::base::shape::{BlockSizes, Distribution, Mix};
use fio_spdk::base::{Op, PerOp, Status};
use fio_spdk::engine::{BufferArea, Completion, Io, Queue, QueueError, Wait};
use fio_spdk::reactor::{
    Live, Measures, Turn, Turning, Worker, WorkerConfig, WorkerOutcome, WorkerParts, tap,
};
use fio_spdk::stats::BlockState;
use fio_spdk::workload::{Content, ContentShape, Limit, Region, Workload, WorkloadSpec};

const BLOCK: u32 = 4096;

/// Moves a part of each transfer, gives back one completion a poll, and may die.
#[derive(Default)]
struct Stubborn {
    in_flight: Vec<Io>,
    depth: usize,
    /// Bytes a transfer at most.
    most_bytes: u32,
    commits: u32,
    dies_at_commit: Option<u32>,
    /// What is in flight at its death never comes back.
    keeps: bool,
    /// Trims fail, and are watched by their blocks.
    fails_trims: bool,
    /// The thread does not run for so long at its first look for completions, which finds none.
    sleeps: Option<std::time::Duration>,
}

impl Queue for Stubborn {
    const BLOCKING: bool = false;
    const HAS_DOORBELL: bool = true;

    fn submit(&mut self, batch: &mut Vec<Io>) {
        let room = batch.len().min(self.depth - self.in_flight.len());
        self.in_flight.extend(batch.drain(..room));
    }

    fn commit(&mut self) -> Result<(), QueueError> {
        self.commits += 1;
        self.alive()
    }

    fn poll(&mut self, _wait: Wait, max: usize, done: &mut Vec<Completion>) -> Result<(), QueueError> {
        self.alive()?;
        if let Some(time) = self.sleeps.take() {
            std::thread::sleep(time);
            return Ok(());
        }
        for io in self.in_flight.drain(..self.in_flight.len().min(max)) {
            let bytes = (io.len - io.moved).min(self.most_bytes);
            let fails = self.fails_trims && io.op == Op::Deallocate;
            let status = if fails { Status::from_errno(5) } else { Status::OK };
            done.push(Completion { io, status, bytes, done_ns: 0 });
        }
        Ok(())
    }

    fn stop(&mut self, _timeout_ns: u64, done: &mut Vec<Completion>) {
        if !self.keeps {
            let status = Status::from_errno(125);
            done.extend(self.in_flight.drain(..).map(|io| Completion { io, status, bytes: 0, done_ns: 0 }));
        }
    }
}

impl Stubborn {
    fn alive(&self) -> Result<(), QueueError> {
        match self.dies_at_commit {
            Some(at) if self.commits >= at => Err(QueueError { status: Status::from_errno(19) }),
            _ => Ok(()),
        }
    }
}

fn config(depth: u32) -> WorkerConfig {
    WorkerConfig {
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
    }
}

/// Turns a worker that writes `ios` blocks until it ends, or fails.
fn run(config: WorkerConfig, queue: Stubborn, ios: u64) -> WorkerOutcome {
    let spec = WorkloadSpec {
        regions: vec![Region { target: 0, start: 0, bytes: 1 << 30 }],
        service: fio_spdk::base::shape::FileService::default(),
        mix: if queue.fails_trims { Mix::TrimWrite } else { Mix::Write },
        read_percent: 0,
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
    let (tap, _asker) = tap();
    let watches = queue.fails_trims;
    let live = Arc::new(Live::default());
    let mut worker = Worker::new(WorkerParts {
        config,
        queue: Stubborn { depth: config.depth as usize, ..queue },
        buffers: BufferArea::new(config.depth, BLOCK).unwrap(),
        workload: Workload::new(&spec).unwrap(),
        content: Content::new(ContentShape::default(), 1),
        writes: true,
        live,
        tap,
        verify: None,
        log: None,
        priorities: None,
        replay: None,
        recorder: None,
    });
    if watches {
        worker.watch_blocks(u64::from(BLOCK), &spec.regions);
    }
    worker.start();
    let mut turn = || {
        let turn = worker.turns(1, u64::MAX, true);
        worker.housekeep();
        turn == Turn::Done
    };
    let ended = (0..100_000).any(|_| turn());
    assert!(ended, "the worker does not end: {config:?}");
    Box::new(worker).finish()
}

#[test]
fn every_write_is_counted_once_however_short_its_transfers_are() {
    for depth in [1_u32, 2, 3, 8, 64] {
        for depth_low in [1, depth.div_ceil(2), depth] {
            for (fsync, batch_submit) in [(0, depth), (1, 1), (3, depth.div_ceil(2))] {
                let config = WorkerConfig {
                    depth_low,
                    fsync,
                    batch_submit,
                    end_fsync: true,
                    targets: 3,
                    ..config(depth)
                };
                let queue = Stubborn { most_bytes: 1500, ..Stubborn::default() };
                let outcome = run(config, queue, 500);
                let writes = &outcome.stats.ops.write;
                assert_eq!(outcome.error, None);
                assert_eq!((writes.ios, writes.bytes, writes.short_ios), (500, 500 * u64::from(BLOCK), 1000));
                assert_eq!(writes.latency.lat.count(), 500);
                let flushes = if fsync == 0 { 0 } else { 500 / u64::from(fsync) } * 3 + 3;
                // The last of the run may be overtaken by the end, which flushes everything anyway.
                let counted = outcome.stats.flush.count();
                assert!(
                    counted <= flushes && counted + 3 >= flushes,
                    "{counted} of {flushes} for {config:?}"
                );
            }
        }
    }
}

#[test]
fn each_failed_trim_is_that_of_a_block_of_its_own() {
    let config = WorkerConfig { serialize: true, continue_on_write: true, ..config(8) };
    let queue = Stubborn { most_bytes: BLOCK, fails_trims: true, ..Stubborn::default() };
    let stats = run(config, queue, 100).stats;
    let failed = stats.ops.trim.failed;
    assert_eq!((stats.ops.trim.ios, failed), (0, 50));
    let blocks = stats.blocks.as_ref().unwrap();
    assert_eq!((blocks.in_state(BlockState::TrimFailed), blocks.used()), (failed, failed));
    assert_eq!(blocks.failed_after(), Some((0, 0, 0)));
}

#[test]
fn what_a_ramp_did_is_no_result_even_if_its_last_ios_come_back_after_it() {
    let config = WorkerConfig { ramp_ns: 3_600_000_000_000, ..config(8) };
    let outcome = run(config, Stubborn { most_bytes: BLOCK, ..Stubborn::default() }, 100);
    assert_eq!(outcome.stats.total_ios(), 0);
    assert_eq!(outcome.stats.runtime_ns(), 0);
}

#[test]
fn a_thread_that_did_not_run_does_not_give_up_its_device() {
    let second = std::time::Duration::from_secs(1);
    let config = WorkerConfig { reap_timeout_ns: 900_000_000, ..config(8) };
    let queue = Stubborn { most_bytes: BLOCK, sleeps: Some(second), ..Stubborn::default() };
    let outcome = run(config, queue, 100);
    assert_eq!((outcome.error, outcome.stats.ops.write.ios), (None, 100));
}

#[test]
fn a_dead_queue_ends_the_worker_with_one_error() {
    for keeps in [false, true] {
        for at in [1, 2, 7] {
            let queue = Stubborn { most_bytes: 1500, dies_at_commit: Some(at), keeps, ..Stubborn::default() };
            let outcome = run(config(8), queue, 100);
            assert!(outcome.error.is_some());
            let errors: Vec<u64> = outcome.stats.errors().map(|error| error.count).collect();
            assert_eq!(errors, [1], "at commit {at}, keeps {keeps}");
        }
    }
}
