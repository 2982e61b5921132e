//! The spdk engine over drives that die, hang and refuse: the made-up SPDK of the feature `spdk-fake`.
//! Beside these, `tests/conformance.rs` runs the contract of all engines over it.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]
#![allow(clippy::disallowed_methods, reason = "a limit of time, and nothing measured")]

mod common;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fio_spdk::base::Op;
use fio_spdk::base::atomic::AtomicSource;
use fio_spdk::base::spdk::{SpdkOptions, TimeoutAction};
use fio_spdk::base::verify::Verdict;
use fio_spdk::engine::{
    Buffer, BufferArea, Completion, Engine, EngineOptions, Io, Queue, QueueConfig, Spdk, SpdkQueue, Target,
    Wait,
};
use fio_spdk::job;
use fio_spdk::report::Report;
use fio_spdk::run::{self, Observer, Progress, Requests, RunOptions};
use spdk_sys::fake::{Death, Drive, Knob};

const BLOCK: u32 = 4096;
/// After this long something hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// SPDK is one in a process, and the end of a run lets go of all its controllers.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn controller(id: &str) -> &str {
    id.split(" ns=").next().unwrap()
}

/// One queue on one namespace, driven by hand.
struct Bench {
    // Dropped before its buffers' area.
    queue: SpdkQueue,
    area: BufferArea,
    free: Vec<Buffer>,
    drive: Drive,
    engine: Spdk,
    sequence: u64,
    /// By sequence number: whether it has come back.
    back: Vec<bool>,
    _alone: MutexGuard<'static, ()>,
}

impl Bench {
    fn new(id: &str, depth: u32, spdk: SpdkOptions) -> Bench {
        let guard = alone();
        let drive = Drive::at(controller(id)).unwrap();
        let options = EngineOptions { reads: true, writes: true, spdk, ..EngineOptions::default() };
        let engine = Spdk::open(&[Target { path: id.into(), size_hint: 0, pin: None }], &options).unwrap();
        let mut area = engine.buffers(depth, BLOCK).unwrap();
        let (queue, _) = engine.queue(&QueueConfig { depth }, &area).unwrap();
        let free = std::iter::from_fn(|| area.take()).collect();
        Bench { queue, area, free, drive, engine, sequence: 0, back: Vec::new(), _alone: guard }
    }

    fn io(&mut self, op: Op) -> Io {
        let buffer = self.free.pop().unwrap();
        let sequence = self.sequence;
        self.sequence += 1;
        self.back.push(false);
        let offset = sequence % 1024 * u64::from(BLOCK);
        Io { buffer, offset, sequence, submit_ns: 0, len: BLOCK, moved: 0, target: 0, op, data_only: false }
    }

    /// Submits so many; what there was no room for is left.
    fn submit(&mut self, op: Op, count: u32) -> Vec<Io> {
        let mut batch: Vec<Io> = (0..count).map(|_| self.io(op)).collect();
        self.queue.submit(&mut batch);
        batch
    }

    fn take(&mut self, done: Vec<Completion>) -> Vec<String> {
        let name = |completion: Completion| {
            let back = &mut self.back[usize::try_from(completion.io.sequence).unwrap()];
            assert!(!std::mem::replace(back, true), "twice: {completion:?}");
            self.free.push(completion.io.buffer);
            let status = completion.status;
            status.nvme_name().map_or_else(|| status.name(), str::to_owned)
        };
        done.into_iter().map(name).collect()
    }

    /// Polls once; whether the queue lives, and what came back, by the names of statuses.
    fn poll(&mut self) -> (Result<(), i32>, Vec<String>) {
        let mut done = Vec::with_capacity(256);
        let alive = self.queue.poll(Wait::default(), 256, &mut done);
        let names = self.take(done);
        (alive.map_err(|error| error.status.errno()), names)
    }

    /// Polls until so many have come back.
    fn wait_for(&mut self, count: usize) -> Vec<String> {
        let (mut names, began) = (Vec::new(), Instant::now());
        while names.len() < count {
            assert!(began.elapsed() < PATIENCE, "{} of {count} came back", names.len());
            let (alive, more) = self.poll();
            alive.unwrap();
            names.extend(more);
        }
        names
    }

    /// Polls until the queue is dead: its errno, and what came back in the meantime.
    fn until_dead(&mut self) -> (i32, Vec<String>) {
        let (mut names, began) = (Vec::new(), Instant::now());
        loop {
            assert!(began.elapsed() < PATIENCE, "the queue does not say that it is dead");
            let (alive, more) = self.poll();
            names.extend(more);
            if let Err(errno) = alive {
                return (errno, names);
            }
        }
    }

    fn stop(&mut self) -> Vec<String> {
        let mut done = Vec::with_capacity(256);
        self.queue.stop(50_000_000, &mut done);
        self.take(done)
    }

    /// Everything is back, no rule of SPDK's was broken, and the area takes its buffers.
    fn finish(mut self, left: Vec<Io>) {
        self.free.extend(left.into_iter().map(|io| io.buffer));
        assert_eq!(self.free.len(), self.area.count() as usize, "all buffers are here");
        self.free.drain(..).for_each(|buffer| self.area.give_back(buffer));
        let (drive, queue, engine) = (self.drive, self.queue, self.engine);
        drop(queue);
        drop(engine);
        assert_eq!(drive.get(Knob::QueuePairs), 0);
        assert_eq!(drive.get(Knob::Misuses), 0);
    }
}

#[test]
fn a_controller_that_falls_silent_is_given_up_and_everything_comes_back() {
    let mut bench = Bench::new("trtype=VFIOUSER traddr=/faults/silent ns=1", 64, SpdkOptions::default());
    assert!(bench.submit(Op::Read, 64).is_empty());
    bench.drive.set(Knob::Hold, 1);
    bench.queue.commit().unwrap();
    bench.drive.die(Death::Silent);
    let (errno, mut names) = bench.until_dead();
    assert_eq!(errno, libc::ENODEV);
    names.extend(bench.stop());
    assert_eq!(names.len(), 64);
    assert!(bench.stop().is_empty());
    let left = bench.submit(Op::Read, 8);
    assert_eq!(left.len(), 8, "a dead queue takes nothing");
    let notes = bench.engine.take_notes();
    assert!(notes.iter().any(|note| note.contains("the controller is gone")), "{notes:?}");
    bench.finish(left);
}

#[test]
fn a_connection_that_ends_gives_everything_back() {
    let id = "trtype=TCP traddr=10.0.0.1 subnqn=nqn.2016-06.io.spdk:faults ns=1";
    let mut bench = Bench::new(id, 64, SpdkOptions::default());
    // The engine's spelling of it, with its defaults.
    bench.drive = Drive::at(controller(bench.engine.facts()[0].path.to_str().unwrap())).unwrap();
    bench.drive.set(Knob::Hold, 1);
    assert!(bench.submit(Op::Write, 64).is_empty());
    bench.queue.commit().unwrap();
    bench.drive.die(Death::Disconnected);
    let (errno, mut names) = bench.until_dead();
    assert_eq!(errno, libc::ENODEV);
    names.extend(bench.stop());
    assert_eq!(names.len(), 64);
    assert!(names.iter().all(|name| name.contains("Abort")), "{names:?}");
    let notes = bench.engine.take_notes();
    assert!(notes.iter().any(|note| note.contains("does not answer any more")), "{notes:?}");
    bench.finish(Vec::new());
}

#[test]
fn statuses_keep_their_nvme_names_and_the_queue_lives_on() {
    let mut bench = Bench::new("trtype=PCIe traddr=0000:0a:00.0 ns=1", 4, SpdkOptions::default());
    for (status, wanted) in [
        (0x281, (2, 0x81, false)),
        (0x4080, (0, 0x80, true)),
        (0x004, (0, 0x04, false)),
        (0x282, (2, 0x82, false)),
        (0x7ff, (7, 0xff, false)),
    ] {
        bench.drive.set(Knob::Status, status);
        bench.drive.set(Knob::FailAt, 1);
        assert!(bench.submit(Op::Read, 1).is_empty());
        let began = Instant::now();
        let mut done = Vec::with_capacity(4);
        while done.is_empty() {
            assert!(began.elapsed() < PATIENCE);
            bench.queue.poll(Wait::default(), 4, &mut done).unwrap();
        }
        assert_eq!(done[0].status.nvme(), Some(wanted), "{status:x}");
        assert_eq!(done[0].bytes, 0);
        bench.take(done);
    }
    assert!(bench.submit(Op::Read, 4).is_empty());
    assert_eq!(bench.wait_for(4).len(), 4);
    bench.finish(Vec::new());
}

#[test]
fn a_queue_that_is_full_leaves_the_rest_in_the_batch() {
    let options =
        SpdkOptions { io_queue_size: Some(4), io_queue_requests: Some(8), ..SpdkOptions::default() };
    let mut bench = Bench::new("trtype=PCIe traddr=0000:0a:00.1 ns=1", 32, options);
    let mut left = bench.submit(Op::Write, 32);
    assert_eq!(left.len(), 24, "a request each");
    let mut names = Vec::new();
    while names.len() < 32 {
        let (alive, more) = bench.poll();
        alive.unwrap();
        names.extend(more);
        bench.queue.submit(&mut left);
    }
    assert!(names.iter().all(|name| names[0] == *name), "{names:?}");
    // Refused with something in flight: it waits its turn. With nothing in flight: it is an error.
    assert!(bench.submit(Op::Write, 1).is_empty());
    bench.drive.set(Knob::Refusals, 1);
    let mut left = bench.submit(Op::Write, 1);
    assert_eq!(left.len(), 1);
    bench.wait_for(1);
    bench.drive.set(Knob::Refusals, 1);
    bench.queue.submit(&mut left);
    assert!(left.is_empty());
    assert_eq!(bench.wait_for(1), ["ENOMEM"]);
    bench.finish(Vec::new());
}

#[test]
fn stop_takes_back_what_hangs_in_the_device() {
    let mut bench = Bench::new("trtype=PCIe traddr=0000:0a:00.2 ns=1", 8, SpdkOptions::default());
    bench.drive.set(Knob::StuckAt, 3);
    assert!(bench.submit(Op::Read, 8).is_empty());
    assert_eq!(bench.stop().len(), 8);
    bench.finish(Vec::new());
}

#[test]
fn a_namespace_that_goes_fails_its_ios_and_is_told() {
    let mut bench = Bench::new("trtype=PCIe traddr=0000:0a:00.3 ns=1", 8, SpdkOptions::default());
    assert!(bench.submit(Op::Read, 4).is_empty());
    bench.drive.set(Knob::RemoveNamespace, 1);
    bench.wait_for(4);
    assert!(bench.submit(Op::Read, 1).is_empty());
    assert_eq!(bench.wait_for(1), ["ENXIO"]);
    let began = Instant::now();
    let mut notes = bench.engine.take_notes();
    while notes.is_empty() && began.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(5));
        notes = bench.engine.take_notes();
    }
    assert!(notes.iter().any(|note| note.contains("namespaces have changed")), "{notes:?}");
    bench.finish(Vec::new());
}

#[test]
fn commands_that_take_too_long_are_aborted_or_lost_in_a_reset() {
    let actions =
        [(TimeoutAction::Abort, "1 were aborted"), (TimeoutAction::Reset, "the controller was reset")];
    for (number, (timeout_action, said)) in (4..).zip(actions) {
        // Long, or a thread that is put aside finds the others late as well.
        let options =
            SpdkOptions { command_timeout_ns: 500_000_000, timeout_action, ..SpdkOptions::default() };
        let mut bench = Bench::new(&format!("trtype=PCIe traddr=0000:0a:00.{number} ns=1"), 8, options);
        bench.drive.set(Knob::StuckAt, 2);
        assert!(bench.submit(Op::Read, 8).is_empty());
        bench.wait_for(8);
        assert!(bench.submit(Op::Read, 8).is_empty() || timeout_action == TimeoutAction::Reset);
        let (began, mut notes) = (Instant::now(), Vec::new());
        while !notes.iter().any(|note: &String| note.contains(said)) {
            assert!(began.elapsed() < PATIENCE, "{notes:?}");
            bench.poll().0.unwrap();
            notes.extend(bench.engine.take_notes());
        }
        bench.stop();
        bench.finish(Vec::new());
    }
}

#[test]
fn a_failed_reset_is_the_end_of_the_queue() {
    let options = SpdkOptions {
        command_timeout_ns: 5_000_000,
        timeout_action: TimeoutAction::Reset,
        ..SpdkOptions::default()
    };
    let mut bench = Bench::new("trtype=PCIe traddr=0000:0a:00.6 ns=1", 8, options);
    bench.drive.set(Knob::ResetFails, 1);
    bench.drive.set(Knob::StuckAt, 1);
    assert!(bench.submit(Op::Read, 8).is_empty());
    let (errno, mut names) = bench.until_dead();
    // The queue may see the end of its queue pair before the controller is known to be given up.
    assert!([libc::ENODEV, libc::ENXIO].contains(&errno), "{errno}");
    names.extend(bench.stop());
    assert_eq!(names.len(), 8);
    bench.finish(Vec::new());
}

#[test]
fn a_drive_that_took_the_place_of_another_in_a_reset_gets_no_command() {
    let options = SpdkOptions {
        command_timeout_ns: 5_000_000,
        timeout_action: TimeoutAction::Reset,
        ..SpdkOptions::default()
    };
    let mut bench = Bench::new("trtype=PCIe traddr=0000:0a:00.7 ns=1", 8, options);
    bench.drive.set(Knob::Swap, 77);
    bench.drive.set(Knob::StuckAt, 1);
    assert!(bench.submit(Op::Write, 8).is_empty());
    let (_, mut names) = bench.until_dead();
    names.extend(bench.stop());
    assert_eq!(names.len(), 8);
    let (began, mut notes) = (Instant::now(), Vec::new());
    while bench.engine.replaced().is_none() {
        assert!(began.elapsed() < PATIENCE, "{notes:?}");
        notes.extend(bench.engine.take_notes());
    }
    let why = bench.engine.replaced().unwrap();
    assert!(why.contains("FAKE") && why.contains("SWAP00000077"), "{why}");
    assert_eq!(bench.drive.get(Knob::Commands), 0, "the other drive has got nothing");
    bench.finish(Vec::new());
}

#[test]
fn a_cache_that_was_switched_off_is_on_again_after_the_job() {
    let options = SpdkOptions { volatile_write_cache: Some(false), ..SpdkOptions::default() };
    let bench = Bench::new("trtype=PCIe traddr=0000:0a:01.0 ns=1", 1, options);
    assert_eq!(bench.engine.facts()[0].premises.volatile_cache, Some(false));
    bench.finish(Vec::new());
    let bench = Bench::new("trtype=PCIe traddr=0000:0a:01.0 ns=1", 1, SpdkOptions::default());
    assert_eq!(bench.engine.facts()[0].premises.volatile_cache, Some(true));
    bench.finish(Vec::new());
}

#[test]
fn a_write_that_spdk_splits_is_not_promised_whole() {
    let atomic = |shape: &str| {
        let id = format!(
            "trtype=TCP adrfam=IPv4 traddr=127.0.0.1 trsvcid=4420 subnqn=nqn.2024-01.fake:atomic,{shape} ns=1"
        );
        let bench = Bench::new(&id, 1, SpdkOptions::default());
        let atomic = bench.engine.facts()[0].premises.atomic;
        bench.finish(Vec::new());
        atomic
    };
    assert_eq!(atomic("nawupf64").whole_write(512, 32 << 10), Some(AtomicSource::Nawupf));
    assert_eq!(atomic("novwc").whole_write(512, 4096), Some(AtomicSource::Awupf));
    // By MDTS, and by what the metadata of extended blocks take of it.
    assert_eq!(atomic("nawupf64,xfer8192").whole_write(0, 8192), Some(AtomicSource::Nawupf));
    assert_eq!(atomic("nawupf64,xfer8192").whole_write(0, 8704), None);
    assert_eq!(atomic("nawupf64,xfer8192,md8,ext").whole_write(0, 8192), None);
    // By the boundary that the namespace prefers.
    assert_eq!(atomic("nawupf64,noiob32").whole_write(16384, 16384), Some(AtomicSource::Nawupf));
    assert_eq!(atomic("nawupf64,noiob32").whole_write(8192, 16384), None);
    assert_eq!(atomic("nawupf64,noiob48").whole_write(0, 4096), None);
}

struct Silent;

impl Observer for Silent {
    fn note(&mut self, _: &str) {}
    fn progress(&mut self, _: &Progress) {}
    fn so_far(&mut self, _: &Report) {}
}

fn execute(toml: &str) -> Report {
    let jobs = job::parse(&[("faults.toml".to_owned(), toml.to_owned())], &[]);
    let jobs = jobs.unwrap_or_else(|why| panic!("{}", why.render(false)));
    run::execute(jobs, &RunOptions::default(), &Requests::default(), &mut Silent).unwrap().report
}

#[test]
fn a_controller_that_dies_under_a_job_ends_the_job_with_its_name() {
    for (number, death) in [Death::Silent, Death::Disconnected].into_iter().enumerate() {
        let _alone = alone();
        let id = format!("trtype=VFIOUSER traddr=/faults/job{number}");
        let drive = Drive::at(&id).unwrap();
        let toml = format!(
            "[[job]]\nioengine = \"spdk\"\nfilename = \"{id} ns=1\"\nrw = \"randrw\"\nbs = \"4k\"\n\
             iodepth = 32\nruntime = \"1h\"\ntime_based = true\nnumjobs = 2\n"
        );
        let began = Instant::now();
        let killer = std::thread::spawn(move || {
            while drive.get(Knob::Commands) < 1000 && began.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(1));
            }
            drive.die(death);
        });
        let report = execute(&toml);
        killer.join().unwrap();
        assert!(began.elapsed() < PATIENCE, "it went on without its drive");
        assert_eq!(report.jobs.len(), 2);
        assert!(report.jobs.iter().all(|job| job.error.is_some()), "{:?}", report.notes);
        let told = report.notes.iter().any(|note| note.contains("the controller is gone"));
        // Connections say it themselves, by the statuses of I/Os, before anybody looks at the controller.
        assert!(told || death == Death::Disconnected, "{:?}", report.notes);
        assert_eq!(drive.get(Knob::QueuePairs), 0);
        assert_eq!(drive.get(Knob::Misuses), 0);
    }
}

#[test]
fn a_block_that_the_device_reports_as_deallocated_is_blank_and_not_unreadable() {
    let id = "trtype=PCIe traddr=0000:0c:00.1 ns=1";
    let _alone = alone();
    let drive = Drive::at(controller(id)).unwrap();
    let run = || {
        execute(&format!(
            "[[job]]\nioengine = \"spdk\"\nfilename = \"{id}\"\nsize = \"64k\"\nbs = \"4k\"\niodepth = 1\n\
             rw = \"write\"\nverify = \"crc32c\"\nverify_state_save = false\n"
        ))
    };
    run();
    let before = drive.get(Knob::Commands);
    run();
    // The last of these are the reads, of a block each.
    let commands = drive.get(Knob::Commands) - before;
    for (status, found) in [(0x287, [1, 0]), (0x281, [0, 1])] {
        drive.set(Knob::Status, status);
        drive.set(Knob::FailAt, commands - 3);
        let report = run();
        let tally = report.jobs[0].verify.as_ref().unwrap();
        let counts = [Verdict::Blank, Verdict::Unreadable].map(|one| tally.of(one));
        assert_eq!(counts, found, "{tally:#?}");
    }
}

#[test]
fn a_trim_of_several_ranges_is_one_command() {
    let id = "trtype=PCIe traddr=0000:0c:00.0 ns=1";
    let toml = |more: &str| {
        format!(
            "[global]\nioengine = \"spdk\"\nfilename = \"{id}\"\nsize = \"4m\"\nbs = \"4k\"\niodepth = 8\n\
             [[job]]\nrw = \"write\"\nbuffer_pattern = \"0xaa\"\n\
             [[job]]\nstonewall = true\nrw = \"randtrim\"\nnum_range = 100\n\
             [[job]]\nstonewall = true\nrw = \"read\"\nverify = \"pattern\"\n{more}"
        )
    };
    let _alone = alone();
    let drive = Drive::at(controller(id)).unwrap();
    // Where all of it is zeros and the pattern is another, nothing of ours is there.
    for (more, unwritten) in [("verify_pattern = \"0x00\"\n", 0), ("verify_pattern = \"0xaa\"\n", 1024)] {
        let before = drive.get(Knob::Commands);
        let report = execute(&toml(more));
        let tally = report.jobs[2].verify.as_ref().unwrap();
        assert_eq!(tally.of(Verdict::Unwritten), unwritten, "{tally:#?} {:?}", report.notes);
        assert_eq!((tally.of(Verdict::Ok), tally.violations()), (1024 - unwritten, 0), "{tally:#?}");
        assert_eq!(report.inconclusive(), unwritten > 0);
        let trims = &report.jobs[1].stats.ops.trim;
        // 1024 blocks are ten hundreds and 24.
        assert_eq!((trims.ios, trims.bytes), (11, 4 << 20));
        let commands = drive.get(Knob::Commands) - before;
        assert!((2059..2100).contains(&commands), "{commands}: written, trimmed and read");
        assert_eq!(drive.get(Knob::MostRanges), 100);
        assert_eq!(drive.get(Knob::Misuses), 0);
    }
}

#[test]
fn a_device_that_takes_fewer_ranges_is_believed() {
    let id = "trtype=VFIOUSER traddr=/faults/ranges,dmrl8 ns=1";
    let toml = |ranges: u32| {
        format!(
            "[[job]]\nioengine = \"spdk\"\nfilename = \"{id}\"\nsize = \"1m\"\nrw = \"trim\"\nnum_range = {ranges}\n"
        )
    };
    let _alone = alone();
    let jobs = job::parse(&[("ranges.toml".to_owned(), toml(9))], &[]).unwrap();
    let refused = run::execute(jobs, &RunOptions::default(), &Requests::default(), &mut Silent);
    let why = refused.err().unwrap().to_string();
    assert!(why.contains("at most 8 ranges"), "{why}");
    let report = execute(&toml(8));
    assert_eq!(report.jobs[0].stats.ops.trim.ios, 32);
    assert_eq!(Drive::at(controller(id)).unwrap().get(Knob::MostRanges), 8);
}

#[test]
fn a_bit_that_the_drive_turned_is_a_violation() {
    let _alone = alone();
    let id = "trtype=PCIe traddr=0000:0a:02.0 ns=1";
    let toml = format!(
        "[[job]]\nioengine = \"spdk\"\nfilename = \"{id}\"\nrw = \"randwrite\"\nbs = \"4k\"\nsize = \"4m\"\n\
         iodepth = 16\nverify = \"crc32c\"\n"
    );
    let report = execute(&toml);
    assert_eq!((report.violations(), report.inconclusive()), (0, false), "{:?}", report.notes);
    let drive = Drive::at(controller(id)).unwrap();
    let commands = drive.get(Knob::Commands);
    assert!((2049..2100).contains(&commands), "{commands}: looked at before, written and read");
    drive.spoil(1, 123_456);
    let report = execute(&format!("{toml}verify_only = true\n"));
    assert_eq!((report.violations(), report.inconclusive()), (1, false), "{:?}", report.notes);
    assert_eq!(drive.get(Knob::Misuses), 0);
}

/// The whole program, written and read back by processes' one run.
#[test]
fn the_program_writes_and_verifies_through_spdk() {
    let lab = common::Lab::new();
    lab.file(
        "verify.toml",
        "[global]\nioengine = \"spdk\"\nsize = \"8m\"\nbs = \"4k\"\niodepth = 32\nverify = \"crc32c\"\n\
         [[job]]\nname = \"host-pi\"\nfilename = \"trtype=VFIOUSER traddr=/program/a,lba4096,md8,pi1 ns=1\"\n\
         rw = \"randwrite\"\npi_chk = \"GUARD|REFTAG\"\n\
         [[job]]\nname = \"plain\"\nfilename = \"trtype=PCIe traddr=0000:01:00.0 ns=1\"\nrw = \"write\"\n",
    );
    let json = lab.json(&["verify.toml"]);
    for job in common::jobs(&json) {
        assert_eq!(common::number(job, "/write/total_ios"), 2048);
    }
    let absent = "--filename=trtype=VFIOUSER traddr=/missing ns=1";
    lab.run(&["verify.toml", absent]).expect(4).says("there is no such controller");
}

#[test]
fn after_a_trigger_the_drive_is_not_told_to_shut_down() {
    // The notification makes a drive store its cache: the cut would lose less than it may.
    let id = |number: u32| format!("trtype=PCIe traddr=0000:0b:0{number}.0 ns=1");
    let folder = tempfile::tempdir().unwrap();
    let toml = |id: &str, more: &str| {
        format!(
            "[[job]]\nioengine = \"spdk\"\nfilename = \"{id}\"\nrw = \"randwrite\"\nbs = \"4k\"\nsize = \"1m\"\n\
             iodepth = 8\nverify = \"crc32c\"\nstate_dir = \"{}\"\n{more}",
            folder.path().display()
        )
    };
    for (number, more, shutdowns) in
        [(1, "", 1), (2, "runtime = \"60s\"\ntime_based = true\ntrigger = \"true\"\ntrigger_ios = 500\n", 0)]
    {
        let _alone = alone();
        let report = execute(&toml(&id(number), more));
        assert_eq!(report.trigger.is_some(), shutdowns == 0, "{:?}", report.notes);
        let drive = Drive::at(controller(&id(number))).unwrap();
        assert_eq!(drive.get(Knob::Shutdowns), shutdowns, "{more}");
    }
}
