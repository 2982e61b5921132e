//! The contract at the head of `engine`, run over every engine of `engine::NAMES`. An engine that
//! joins the list is tested without a line here.
//!
//! Sequences are random; a failure prints the seed, and [`SEED`] repeats it. What a machine lacks is `skipped: why` and counts as ignored.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]
#![allow(clippy::print_stderr, reason = "why a test was skipped")]

use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use fio_spdk::base::Op;
use fio_spdk::base::clock::Clock;
use fio_spdk::engine::{
    Buffer, BufferArea, Completion, Engine, EngineOptions, EngineVisitor, Io, NAMES, Null, Queue,
    QueueConfig, Sim, Target, Targets, Wait, with_engine,
};
use libtest_mimic::{Arguments, Completion as Verdict, Failed, Trial};

const BLOCK: u32 = 4096;
const SEED: u64 = 1;
/// Rounds of a random sequence.
const ROUNDS: u32 = 400;
/// After this long a check counts as hung.
const PATIENCE: Duration = Duration::from_secs(120);
const SECOND: Wait = Wait { min: 1, timeout_ns: 1_000_000_000 };

#[path = "conformance/drive.rs"]
mod drive;
#[path = "conformance/player.rs"]
mod player;
#[path = "conformance/ways.rs"]
mod ways;

use player::Player;
use ways::{targets, variants};

type Outcome = Result<Verdict, Failed>;

fn skipped(why: &str) -> Outcome {
    eprintln!("skipped: {why}");
    Ok(Verdict::ignored_with(why))
}

fn errno(error: rustix::io::Errno) -> i32 {
    error.raw_os_error()
}

/// A directory with two targets of `blocks` blocks, and the engine that has opened them.
struct Rig<E> {
    engine: E,
    _dir: tempfile::TempDir,
    paths: Vec<PathBuf>,
}

/// A rig, or why this machine has none.
fn rig<E: Engine>(options: &EngineOptions, blocks: u64) -> Result<Rig<E>, String> {
    // Not in /tmp, which is often a tmpfs: there would be no O_DIRECT and no holes to see.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let paths = targets::<E>(dir.path(), 2, blocks, options);
    let engine = open::<E>(&paths, options)?;
    if options.iopoll {
        let mut hand = Hand::new(&engine, 1, 1)?;
        let completion = hand.one(Op::Read, 0, BLOCK);
        if completion.status.errno() == errno(rustix::io::Errno::OPNOTSUPP) {
            return Err("this file system or device has no polled I/O".to_owned());
        }
    }
    Ok(Rig { engine, _dir: dir, paths })
}

fn open<E: Engine>(paths: &[PathBuf], options: &EngineOptions) -> Result<E, String> {
    let targets: Vec<Target> =
        paths.iter().map(|path| Target { path: path.clone(), size_hint: 1 << 30, pin: None }).collect();
    E::open(&targets, options).map_err(|error| error.to_string())
}

fn moves_data<E: Engine>() -> bool {
    E::NAME != Null::NAME
}

/// A queue with buffers, driven by hand.
struct Hand<Q> {
    // Dropped before its buffers' area.
    queue: Q,
    area: BufferArea,
    free: Vec<Buffer>,
    sequence: u64,
}

impl<Q: Queue> Hand<Q> {
    fn new<E: Engine<Queue = Q>>(engine: &E, depth: u32, buffers: u32) -> Result<Hand<Q>, String> {
        let mut area = engine.buffers(buffers, 4 * BLOCK)?;
        let (queue, _notes) =
            engine.queue(&QueueConfig { depth }, &area).map_err(|error| error.to_string())?;
        let free = std::iter::from_fn(|| area.take()).collect();
        Ok(Hand { queue, area, free, sequence: 0 })
    }

    fn io(&mut self, op: Op, offset: u64, len: u32) -> Io {
        let buffer = self.free.pop().unwrap();
        self.sequence += 1;
        let sequence = self.sequence;
        Io { buffer, offset, sequence, submit_ns: 1, len, moved: 0, target: 0, op, data_only: false }
    }

    fn submit(&mut self, batch: Vec<Io>) {
        let mut batch = batch;
        self.queue.submit(&mut batch);
        assert!(batch.is_empty(), "there was room for {} more", batch.len());
        self.queue.commit().unwrap();
    }

    fn wait_for(&mut self, count: usize) -> Vec<Completion> {
        let mut done = Vec::with_capacity(count);
        let clock = Clock::get();
        let end_ns = clock.now_ns() + 10_000_000_000;
        // Some engines wait less than they may.
        while done.len() < count && clock.now_ns() < end_ns {
            self.queue.poll(SECOND, count - done.len(), &mut done).unwrap();
        }
        assert_eq!(done.len(), count, "completions within 10 seconds");
        done
    }

    fn one(&mut self, op: Op, offset: u64, len: u32) -> Completion {
        let io = self.io(op, offset, len);
        self.submit(vec![io]);
        self.wait_for(1).pop().unwrap()
    }

    /// One I/O whose buffer is filled with `byte` first; gives status, bytes, and the buffer's bytes.
    fn with_byte(&mut self, op: Op, offset: u64, len: u32, byte: u8) -> (i32, u32, Vec<u8>) {
        let mut io = self.io(op, offset, len);
        io.buffer.fill(byte);
        self.submit(vec![io]);
        let Completion { io, status, bytes, .. } = self.wait_for(1).pop().unwrap();
        let seen = io.buffer[..len as usize].to_vec();
        self.free.push(io.buffer);
        (status.errno(), bytes, seen)
    }
}

#[derive(Clone, Copy, Debug)]
enum Check {
    /// Every I/O accepted comes back exactly once, with its data.
    Once(u32),
    TwoQueuesOneThread(u32),
    TwoQueuesTwoThreads(u32),
    Short,
    Errors,
    FullDisk,
    FlushAndDeallocate,
    StopInFlight,
    DropInFlight,
    ForeignBuffers,
    PanicInSubmit,
}

const CHECKS: &[(&str, Check)] = &[
    ("every_io_comes_back_once_depth_1", Check::Once(1)),
    ("every_io_comes_back_once_depth_4", Check::Once(4)),
    ("every_io_comes_back_once_depth_32", Check::Once(32)),
    ("every_io_comes_back_once_depth_128", Check::Once(128)),
    ("two_queues_on_one_thread", Check::TwoQueuesOneThread(16)),
    ("two_queues_on_two_threads", Check::TwoQueuesTwoThreads(16)),
    ("short_reads_go_on_to_the_end_of_the_file", Check::Short),
    ("errors_are_data_and_the_queue_lives_on", Check::Errors),
    ("a_full_disk_is_a_status", Check::FullDisk),
    ("flush_and_deallocate", Check::FlushAndDeallocate),
    ("stop_gives_back_what_hangs", Check::StopInFlight),
    ("a_dropped_queue_leaks_what_is_in_flight", Check::DropInFlight),
    ("buffers_of_a_foreign_area", Check::ForeignBuffers),
    ("a_panic_in_submit_leaves_no_buffer_in_two_hands", Check::PanicInSubmit),
];

struct Run {
    check: Check,
    options: EngineOptions,
}

impl EngineVisitor for Run {
    type Output = Outcome;

    fn visit<E: Engine>(self) -> Outcome {
        let Run { check, options } = self;
        let (sender, answer) = mpsc::channel();
        let run = move || {
            let result = catch_unwind(AssertUnwindSafe(|| run::<E>(check, &options)));
            let _ = sender.send(result.unwrap_or_else(|panic| {
                let text = panic.downcast_ref::<String>().cloned();
                Err(text
                    .or_else(|| panic.downcast_ref::<&str>().map(|&t| t.to_owned()))
                    .unwrap_or_default()
                    .into())
            }));
        };
        std::thread::spawn(run);
        let outcome = answer.recv_timeout(PATIENCE).unwrap_or_else(|_| Err("it hangs".into()));
        outcome.map_err(|failed| format!("seed {SEED}: {}", failed.message().unwrap_or("failed")).into())
    }
}

fn run<E: Engine>(check: Check, options: &EngineOptions) -> Outcome {
    if let Some(why) = ways::missing::<E>() {
        return skipped(&why);
    }
    let rig = match rig::<E>(options, 256) {
        Ok(rig) => rig,
        Err(why) => return skipped(&why),
    };
    let seeds = SEED..SEED + 4;
    match check {
        Check::Once(depth) => seeds.for_each(|seed| {
            let rig = self::rig::<E>(options, 256).unwrap();
            let mut player = Player::new(&rig.engine, depth, 0, 256, seed);
            (0..ROUNDS.min(4 * ROUNDS / depth)).for_each(|_| player.step());
            player.finish();
        }),
        Check::TwoQueuesOneThread(depth) => {
            let mut players = [0, 1].map(|n| Player::new(&rig.engine, depth, n * 128, 128, SEED + n));
            (0..ROUNDS).for_each(|_| players.iter_mut().for_each(Player::step));
            players.into_iter().for_each(Player::finish);
        }
        Check::TwoQueuesTwoThreads(depth) => std::thread::scope(|scope| {
            for n in 0..2 {
                let engine = &rig.engine;
                scope.spawn(move || {
                    let mut player = Player::new(engine, depth, n * 128, 128, SEED + n);
                    (0..ROUNDS).for_each(|_| player.step());
                    player.finish();
                });
            }
        }),
        Check::Short => return short::<E>(&rig, options),
        Check::Errors => return errors::<E>(&rig, options),
        Check::FullDisk => return full_disk::<E>(options),
        Check::FlushAndDeallocate => flush_and_deallocate(&rig),
        Check::StopInFlight => return stop_in_flight::<E>(options),
        Check::DropInFlight => return drop_in_flight::<E>(&rig, options),
        Check::ForeignBuffers => foreign_buffers(&rig),
        Check::PanicInSubmit => panic_in_submit(&rig),
    }
    Ok(Verdict::Completed)
}

fn short<E: Engine>(rig: &Rig<E>, options: &EngineOptions) -> Outcome {
    if !moves_data::<E>() {
        let mut hand = Hand::new(&rig.engine, 1, 1)?;
        assert_eq!(hand.with_byte(Op::Read, 1 << 40, 4 * BLOCK, 1).1, 4 * BLOCK, "null completes all");
        return Ok(Verdict::Completed);
    }
    if E::TARGETS == Targets::Namespaces {
        return skipped("a namespace moves all of a transfer or nothing");
    }
    if E::NAME == Sim::NAME {
        return drive::short::<E>(&rig.paths, options);
    }
    let tail = if options.direct { 0 } else { 1000 };
    let file: Vec<u8> = (0..2 * BLOCK + tail).map(|at| (at % 251) as u8 | 1).collect();
    std::fs::write(&rig.paths[0], &file).unwrap();
    let mut hand = Hand::new(&rig.engine, 4, 4)?;
    let Completion { mut io, status, bytes, .. } = hand.one(Op::Read, 0, 4 * BLOCK);
    assert!(status.is_ok() && bytes as usize == file.len(), "{status}, {bytes} bytes");
    assert!(io.buffer[..file.len()] == file && io.buffer[file.len()..].iter().all(|&byte| byte == 0));
    io.moved = bytes;
    io.submit_ns = 77;
    if !options.direct {
        hand.submit(vec![io]);
        let done = hand.wait_for(1).pop().unwrap();
        assert_eq!((done.status.errno(), done.bytes), (0, 0), "end of file");
        assert_eq!((done.io.moved, done.io.submit_ns), (bytes, 77), "it began when it began");
        assert!(done.io.buffer[..file.len()] == file);
    }
    Ok(Verdict::Completed)
}

fn errors<E: Engine>(rig: &Rig<E>, options: &EngineOptions) -> Outcome {
    if !moves_data::<E>() {
        return skipped("null has no errors");
    }
    let (invalid, bad_file) = (errno(rustix::io::Errno::INVAL), errno(rustix::io::Errno::BADF));
    let mut hand = Hand::new(&rig.engine, 4, 8)?;
    assert_eq!(hand.with_byte(Op::Read, 1 << 63, BLOCK, 7).0, invalid, "an offset that no file has");
    assert_eq!(hand.with_byte(Op::Write, 1 << 63, BLOCK, 7).0, invalid);
    assert_eq!(hand.with_byte(Op::Deallocate, 1 << 63, BLOCK, 7).0, invalid);
    if rig.engine.facts()[0].lba_bytes > 1 {
        assert_eq!(hand.with_byte(Op::Read, 1, BLOCK, 7).0, invalid, "O_DIRECT off the block");
    }
    let read_only = open::<E>(&rig.paths, &EngineOptions { writes: false, ..options.clone() })?;
    let mut reader = Hand::new(&read_only, 4, 8)?;
    assert_eq!(reader.with_byte(Op::Write, 0, BLOCK, 7).0, bad_file);
    let write_only = open::<E>(&rig.paths, &EngineOptions { reads: false, ..options.clone() })?;
    let mut writer = Hand::new(&write_only, 4, 8)?;
    // A polling ring reads to find out whether the target can be polled.
    let expected = if options.iopoll { 0 } else { bad_file };
    assert_eq!(writer.with_byte(Op::Read, 0, BLOCK, 7).0, expected);
    // The queues live on, and what failed has changed nothing.
    assert_eq!(reader.with_byte(Op::Read, 0, BLOCK, 7), (0, BLOCK, vec![0; BLOCK as usize]));
    assert_eq!(writer.with_byte(Op::Write, 0, BLOCK, 9).0, 0);
    assert_eq!(hand.with_byte(Op::Read, 0, BLOCK, 7), (0, BLOCK, vec![9; BLOCK as usize]));
    if E::TARGETS == Targets::MadeUp {
        return Ok(Verdict::Completed);
    }
    if E::TARGETS == Targets::Namespaces {
        for missing in ways::absent(&rig.paths[0]) {
            let message = open::<E>(&[PathBuf::from(&missing)], options).err().unwrap_or_default();
            assert!(message.contains(missing.split(" ns=").next().unwrap()), "{message}");
        }
        return Ok(Verdict::Completed);
    }
    let missing = open::<E>(&[PathBuf::from("/nowhere/at/all")], options).err().unwrap_or_default();
    assert!(
        missing.contains("/nowhere/at/all") && missing.contains("ENOENT") | missing.contains("No such"),
        "{missing}"
    );
    Ok(Verdict::Completed)
}

/// A small file system that ends when this is dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new() -> Option<SmallDisk> {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).ok()?;
        let mount = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64k", "fio-spdk-test"])
            .arg(dir.path())
            .output();
        mount.is_ok_and(|out| out.status.success()).then_some(SmallDisk(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0.path()).output();
    }
}

fn full_disk<E: Engine>(options: &EngineOptions) -> Outcome {
    if !moves_data::<E>() {
        return skipped("null has no disk");
    }
    if E::TARGETS != Targets::Files {
        return skipped("drives are never full");
    }
    if options.direct {
        return skipped("neither /dev/full nor every tmpfs has O_DIRECT");
    }
    let full = errno(rustix::io::Errno::NOSPC);
    let engine = open::<E>(&[PathBuf::from("/dev/full")], options)?;
    let mut hand = Hand::new(&engine, 4, 4)?;
    assert_eq!(hand.with_byte(Op::Write, 0, BLOCK, 7).0, full);
    let Some(disk) = SmallDisk::new() else { return skipped("mounting a small tmpfs needs root") };
    let path = disk.0.path().join("file");
    std::fs::write(&path, b"").unwrap();
    let engine = open::<E>(&[path], options)?;
    let mut hand = Hand::new(&engine, 4, 4)?;
    let mut written = 0;
    loop {
        let (status, bytes, _) = hand.with_byte(Op::Write, written, 3 * BLOCK, 7);
        if status != 0 {
            assert_eq!(status, full);
            break;
        }
        assert!(bytes > 0 && written < 1 << 20, "{bytes} bytes at {written}");
        written += u64::from(bytes);
    }
    assert_eq!(hand.with_byte(Op::Read, 0, BLOCK, 1), (0, BLOCK, vec![7; BLOCK as usize]));
    Ok(Verdict::Completed)
}

fn flush_and_deallocate<E: Engine>(rig: &Rig<E>) {
    let mut hand = Hand::new(&rig.engine, 4, 8).unwrap();
    for data_only in [false, true] {
        let mut io = hand.io(Op::Flush, 0, 0);
        io.data_only = data_only;
        hand.submit(vec![io]);
        let done = hand.wait_for(1).pop().unwrap();
        assert_eq!((done.status.errno(), done.bytes), (0, 0));
        hand.free.push(done.io.buffer);
    }
    for block in 0..16 {
        assert_eq!(hand.with_byte(Op::Write, block * u64::from(BLOCK), BLOCK, 5).0, 0);
    }
    hand.one(Op::Flush, 0, 0);
    let blocks = |path: &Path| std::fs::metadata(path).map_or(0, |metadata| metadata.blocks());
    let before = blocks(&rig.paths[0]);
    assert_eq!(
        hand.with_byte(Op::Deallocate, u64::from(BLOCK), 4 * BLOCK, 3),
        (0, 4 * BLOCK, vec![3; 4 * BLOCK as usize])
    );
    if moves_data::<E>() {
        assert_eq!(
            hand.with_byte(Op::Read, 0, 2 * BLOCK, 1).2,
            [[5; BLOCK as usize], [0; BLOCK as usize]].concat()
        );
        if E::TARGETS != Targets::Files {
            return;
        }
        assert_eq!(blocks(&rig.paths[0]) + 4 * u64::from(BLOCK) / 512, before, "a hole");
        assert_eq!(std::fs::metadata(&rig.paths[0]).unwrap().len(), 256 * u64::from(BLOCK));
    }
}

/// A pipe that nobody writes to: what is read from it stays in flight.
fn pipe(dir: &Path) -> PathBuf {
    let path = dir.join("pipe");
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &path, kind, rustix::fs::Mode::from_raw_mode(0o600), 0).unwrap();
    path
}

/// Whether reads of a pipe stay in flight in this engine with these options.
fn reads_hang<E: Engine>(options: &EngineOptions) -> bool {
    E::TARGETS == Targets::Files && !E::Queue::BLOCKING && !options.direct
}

fn stop_in_flight<E: Engine>(options: &EngineOptions) -> Outcome {
    let hangs = reads_hang::<E>(options);
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let paths = if hangs { vec![pipe(dir.path())] } else { targets::<E>(dir.path(), 1, 256, options) };
    let engine = open::<E>(&paths, options)?;
    for (committed, repeat) in [(true, 0), (false, 0), (true, 1)] {
        let mut hand = Hand::new(&engine, 8, 8)?;
        for _ in 0..=repeat {
            let mut batch: Vec<Io> = (0..8).map(|_| hand.io(Op::Read, 0, BLOCK)).collect();
            hand.queue.submit(&mut batch);
            assert!(batch.is_empty());
            if committed {
                hand.queue.commit().unwrap();
            }
            let mut done = Vec::with_capacity(8);
            if hangs {
                hand.queue.poll(Wait { min: 1, timeout_ns: 1_000_000 }, 8, &mut done).unwrap();
                assert!(done.is_empty(), "a pipe that nobody writes to");
            }
            hand.queue.stop(5_000_000_000, &mut done);
            assert_eq!(done.len(), 8);
            for Completion { io, status, .. } in done {
                let cancelled = status.errno() == errno(rustix::io::Errno::CANCELED);
                assert!(cancelled || (status.is_ok() && !hangs), "{status}");
                hand.free.push(io.buffer);
            }
            // Twice does no harm, nor does any length of time.
            hand.queue.stop(u64::MAX, &mut Vec::new());
        }
    }
    Ok(Verdict::Completed)
}

fn drop_in_flight<E: Engine>(rig: &Rig<E>, options: &EngineOptions) -> Outcome {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let pipe_engine =
        reads_hang::<E>(options).then(|| open::<E>(&[pipe(dir.path())], options)).transpose()?;
    let engine = pipe_engine.as_ref().unwrap_or(&rig.engine);
    for committed in [true, false] {
        let mut hand = Hand::new(engine, 64, 64)?;
        let mut batch: Vec<Io> = (0..64).map(|_| hand.io(Op::Read, 0, BLOCK)).collect();
        let places: Vec<usize> = batch.iter().map(|io| io.buffer.as_ptr().addr()).collect();
        hand.queue.submit(&mut batch);
        if committed {
            hand.queue.commit().unwrap();
        }
        let count = hand.area.count();
        drop(hand);
        // Memory that was freed would be handed out again: areas of this size are mappings.
        let mut areas: Vec<BufferArea> = (0..20).map(|_| engine.buffers(count, 4 * BLOCK).unwrap()).collect();
        for area in &mut areas {
            while let Some(buffer) = area.take() {
                assert!(!places.contains(&buffer.as_ptr().addr()), "memory in flight was freed");
                area.give_back(buffer);
            }
        }
    }
    Ok(Verdict::Completed)
}

fn foreign_buffers<E: Engine>(rig: &Rig<E>) {
    let mut hand = Hand::new(&rig.engine, 4, 4).unwrap();
    // Of another length, and with more buffers than the queue was told of.
    let mut foreign = BufferArea::new(9, 2 * BLOCK).unwrap();
    let strangers: Vec<Buffer> = std::iter::from_fn(|| foreign.take()).collect();
    hand.free.iter_mut().for_each(|buffer| buffer.fill(0xaa));
    let own = std::mem::take(&mut hand.free);
    hand.free = strangers;
    if E::TARGETS == Targets::Namespaces {
        // A device cannot reach them, and they stay as they are.
        for op in [Op::Write, Op::Read] {
            let (status, bytes, seen) = hand.with_byte(op, 0, BLOCK, 7);
            assert_eq!((status, bytes, seen), (errno(rustix::io::Errno::INVAL), 0, vec![7; BLOCK as usize]));
        }
        return;
    }
    for byte in 1..=20 {
        assert_eq!(hand.with_byte(Op::Write, 0, 2 * BLOCK, byte).0, 0);
        hand.free.rotate_left(1);
        let (status, _, seen) = hand.with_byte(Op::Read, 0, 2 * BLOCK, 0xff);
        let wanted = if moves_data::<E>() { byte } else { 0xff };
        assert!(status == 0 && seen.iter().all(|&byte| byte == wanted));
        hand.free.rotate_left(1);
    }
    assert!(own.iter().all(|buffer| buffer.iter().all(|&byte| byte == 0xaa)), "own buffers are untouched");
    let stranger = hand.free.pop().unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| hand.area.give_back(stranger))).is_err());
}

/// A caller that breaks the rules gets a panic or an error. A panic that is caught leaves the good
/// I/Os of the batch with the caller or with the queue, never with both.
fn panic_in_submit<E: Engine>(rig: &Rig<E>) {
    let spoil: [fn(&mut Io); 4] = [
        |io| io.len = 1 << 30,
        |io| io.moved = io.len + 1,
        |io| io.target = 999,
        |io| (io.target, io.op) = (999, Op::Deallocate),
    ];
    for spoil in spoil {
        let mut hand = Hand::new(&rig.engine, 8, 8).unwrap();
        let mut batch: Vec<Io> = (0..4).map(|_| hand.io(Op::Read, 0, BLOCK)).collect();
        spoil(&mut batch[2]);
        let _ = catch_unwind(AssertUnwindSafe(|| hand.queue.submit(&mut batch)));
        // What is here now is the caller's alone.
        batch.iter_mut().for_each(|io| io.buffer.fill(0xaa));
        let mut next = vec![hand.io(Op::Read, 0, BLOCK)];
        let number = next[0].sequence;
        next[0].buffer.fill(0xbb);
        let _ = catch_unwind(AssertUnwindSafe(|| {
            hand.queue.submit(&mut next);
            hand.queue.commit().unwrap();
            let mut done = Vec::with_capacity(16);
            // Some engines wait less than they may.
            let clock = Clock::get();
            let end_ns = clock.now_ns() + 4_000_000_000;
            while clock.now_ns() < end_ns {
                if done.iter().any(|done: &Completion| done.io.sequence == number) {
                    break;
                }
                hand.queue.poll(Wait { min: 1, timeout_ns: 20_000_000 }, 8, &mut done).unwrap();
            }
            let back = done.iter().find(|done| done.io.sequence == number).expect("the next I/O comes back");
            if moves_data::<E>() {
                assert!(back.io.buffer[..BLOCK as usize].iter().all(|&byte| byte == 0), "with its data");
            }
        }))
        .map_err(|panic| assert!(E::NAME == Null::NAME, "{:?}", panic.downcast_ref::<String>()));
        assert!(batch.iter().all(|io| io.buffer.iter().all(|&byte| byte == 0xaa)), "written by the kernel");
    }
}

fn main() {
    // Panics are caught and become failures; some are provoked.
    std::panic::set_hook(Box::new(|_| {}));
    let mut trials = Vec::new();
    for &engine in NAMES {
        for (variant, options) in variants(engine) {
            for &(name, check) in CHECKS {
                let options = options.clone();
                let run =
                    move || with_engine(engine, Run { check, options }).expect("every name has an engine");
                trials.push(Trial::ignorable_test(format!("{engine}::{variant}::{name}"), run));
            }
        }
    }
    let mut arguments = Arguments::from_args();
    if std::env::var_os(ways::REAL).is_some() {
        // All on the same namespaces.
        arguments.test_threads = Some(1);
    }
    libtest_mimic::run(&arguments, trials).exit();
}
