//! The model, held to what it promises.

use super::*;
use crate::base::sim::{Fault, FaultRates, SimOptions};
use crate::engine::ranges::put;

const BLOCK: u32 = 4096;
const SIZE: u64 = 64 * BLOCK as u64;

fn at(block: u64) -> u64 {
    block * u64::from(BLOCK)
}

/// One drive, used by one job, command by command.
struct Bench {
    drive: Drive,
    session: usize,
}

impl Bench {
    fn new(options: SimOptions) -> Bench {
        let mut drive = Drive::new(&options);
        drive.user();
        let session = drive.open(&options, false, 0, SIZE).unwrap();
        Bench { drive, session }
    }

    fn with(fault: Fault, seed: u64) -> Bench {
        let faults = FaultRates::default().with(fault, FaultRates::WHOLE);
        // One write of old data comes first.
        Bench::new(SimOptions { seed, faults, fault_after: 1, fault_limit: 1, ..SimOptions::default() })
    }

    fn admit(&mut self, op: Op, offset: u64, len: u32) -> Result<(Ticket, Span), Status> {
        let span = Span { op, offset, len };
        self.drive.admit(self.session, 0, span).map(|ticket| (ticket, span))
    }

    fn finish(&mut self, (ticket, span): (Ticket, Span), data: &mut [u8]) -> i32 {
        self.drive.finish(&ticket, span, data).0.errno()
    }

    fn one(&mut self, op: Op, offset: u64, data: &mut [u8]) -> i32 {
        let len = u32::try_from(data.len()).unwrap();
        match self.admit(op, offset, len) {
            Ok(command) => self.finish(command, data),
            Err(status) => {
                if status.errno() == ENODEV {
                    self.drive.refused(0);
                }
                status.errno()
            }
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> i32 {
        self.one(Op::Write, offset, &mut data.to_vec())
    }

    fn read(&mut self, offset: u64, len: u32) -> (i32, Vec<u8>) {
        let mut data = vec![0xa5; len as usize];
        (self.one(Op::Read, offset, &mut data), data)
    }

    fn sin(&self) -> Sin {
        assert_eq!(self.drive.sins().len(), 1, "{:?}", self.drive.sins());
        self.drive.sins()[0]
    }
}

/// Bytes that differ from their neighbours and between versions.
fn content(version: u64, len: u32) -> Vec<u8> {
    (0..u64::from(len) / 8).flat_map(|k| random::at(version, k).to_le_bytes()).collect()
}

/// A command in flight: its bytes, block and version, or what a flush promises.
type Flying = ((Ticket, Span), Vec<u8>, usize, u64, Vec<u64>);

/// Writes, flushes and a power cut by chance: for each block the version that must have survived
/// and the newest that was issued, and the bench after the cut.
fn seeded_cut(seed: u64, options: SimOptions) -> (Bench, Vec<(u64, u64)>) {
    let draw = |k: u64, n: u64| random::below(random::at(seed, k), n);
    let cut_after = 1 + draw(0, 60);
    let mut bench = Bench::new(SimOptions { seed, cut_after: Some(cut_after), ..options });
    let mut blocks = vec![(0, 0); 8];
    let mut completed = vec![0; 8];
    let mut flying: Vec<Flying> = Vec::new();
    for k in 1..=cut_after {
        let block = usize::try_from(draw(3 * k, 8)).unwrap();
        let busy = flying.iter().any(|(command, _, other, ..)| *other == block && command.1.op == Op::Write);
        if draw(3 * k + 1, 5) == 0 || busy {
            let flush = bench.admit(Op::Flush, 0, 0).unwrap();
            flying.push((flush, Vec::new(), 0, 0, completed.clone()));
        } else {
            let data = content(k, BLOCK);
            let write = bench.admit(Op::Write, at(block as u64), BLOCK).unwrap();
            blocks[block].1 = k;
            flying.push((write, data, block, k, Vec::new()));
        }
        while k < cut_after && flying.len() as u64 > draw(3 * k + 2, 4) {
            let index = usize::try_from(draw(3 * k + 1, flying.len() as u64)).unwrap();
            let (command, mut data, block, version, promised) = flying.swap_remove(index);
            assert_eq!(bench.finish(command, &mut data), 0);
            if version > 0 {
                completed[block] = version;
                if !options.cache {
                    blocks[block].0 = version;
                }
            }
            for (block, promised) in promised.into_iter().enumerate() {
                blocks[block].0 = blocks[block].0.max(promised);
            }
        }
    }
    assert!(!flying.is_empty());
    assert_eq!(bench.read(0, BLOCK).0, ENODEV, "commands of before the cut are in flight");
    for (command, mut data, ..) in flying {
        assert_eq!(bench.finish(command, &mut data), ENODEV);
        assert_eq!(bench.write(0, &[1; BLOCK as usize]), ENODEV, "only a read brings the power back");
    }
    (bench, blocks)
}

/// What stands in each unit of a block: its version, if it is one of `from..=to`.
fn versions(data: &[u8], unit: usize, from: u64, to: u64) -> Option<Vec<u64>> {
    let found = data.chunks(unit).enumerate().map(|(index, bytes)| {
        let range = index * unit..(index + 1) * unit;
        // The first eight bytes say nearly always that it is another.
        let word = |version: u64| random::at(version, range.start as u64 / 8).to_le_bytes();
        (from..=to).find(|&version| match version {
            0 => bytes.iter().all(|&byte| byte == 0),
            _ => bytes[..8] == word(version) && content(version, BLOCK)[range.clone()] == *bytes,
        })
    });
    found.collect()
}

#[test]
fn what_was_promised_stands_after_a_cut_and_nothing_is_torn() {
    let plain = SimOptions::default();
    for (options, unit) in [
        (plain, 512),
        (SimOptions { cache: false, ..plain }, 512),
        (SimOptions { atomic_unit: Some(BLOCK), ..plain }, BLOCK),
        (SimOptions { lba: 4096, ..plain }, BLOCK),
    ] {
        let (mut kept, mut lost, mut mixed) = (0, 0, 0);
        for seed in 0..200 {
            let (mut bench, blocks) = seeded_cut(seed, options);
            for (block, (durable, newest)) in blocks.into_iter().enumerate() {
                let (errno, data) = bench.read(at(block as u64), BLOCK);
                assert_eq!(errno, 0);
                let found = versions(&data, unit as usize, durable, newest);
                let found = found.unwrap_or_else(|| panic!("seed {seed}, block {block}: {options:?}"));
                kept += u32::from(found.iter().all(|&version| version == newest && newest > durable));
                lost += u32::from(found.iter().all(|&version| version == durable && newest > durable));
                mixed += u32::from(found.iter().any(|&version| version != found[0]));
            }
            assert!(bench.drive.sins().is_empty());
        }
        assert!(kept > 20 && lost > 20, "{kept} {lost}: both happen");
        assert_eq!(mixed > 0, unit < BLOCK, "{mixed} blocks of several writes");
    }
}

#[test]
fn what_no_flush_covers_may_vanish_but_small_writes_not_in_part() {
    let (mut old, mut new) = (0, 0);
    for seed in 0..200 {
        let options =
            SimOptions { seed, atomic_unit: Some(BLOCK), cut_after: Some(4), ..SimOptions::default() };
        let mut bench = Bench::new(options);
        let early = bench.admit(Op::Flush, 0, 0).unwrap();
        // Across the border of two units.
        assert_eq!(bench.write(2048, &content(1, BLOCK)), 0);
        assert_eq!(bench.write(at(8), &content(2, BLOCK)), 0);
        assert_eq!(bench.finish(early, &mut []), 0, "it was submitted before they completed");
        let late = bench.admit(Op::Flush, 0, 0).unwrap();
        assert_eq!(bench.finish(late, &mut []), ENODEV);
        for (offset, version) in [(2048, 1), (at(8), 2)] {
            let found = bench.read(offset, BLOCK).1;
            let is_new = found == content(version, BLOCK);
            assert!(is_new || found.iter().all(|&byte| byte == 0), "seed {seed}: in part");
            old += u32::from(!is_new);
            new += u32::from(is_new);
        }
    }
    assert!(old > 50 && new > 50, "{old} {new}: both happen");
}

/// Also where an older write to the same bytes is in the cache, and a newer one.
#[test]
fn what_is_written_through_is_durable_when_it_completes() {
    for seed in 0..100 {
        let mut bench = Bench::new(SimOptions { seed, ..SimOptions::default() });
        let options = SimOptions { cut_after: Some(2), ..SimOptions::default() };
        let cached = bench.session;
        let through = bench.drive.open(&options, true, 0, SIZE).unwrap();
        assert_eq!(bench.write(0, &content(1, BLOCK)), 0);
        bench.session = through;
        assert_eq!(bench.write(0, &content(2, BLOCK)), 0);
        bench.session = cached;
        assert_eq!(bench.write(512, &content(3, BLOCK)[512..1024]), 0);
        bench.session = through;
        assert_eq!(bench.write(at(9), &content(4, BLOCK)), ENODEV);
        let found = bench.read(0, BLOCK).1;
        let found = versions(&found, 512, 2, 3).unwrap();
        assert!(found.iter().enumerate().all(|(n, &version)| version == 2 || n == 1), "{seed}: {found:?}");
    }
}

#[test]
fn a_flush_that_lies_loses_what_was_promised() {
    let faults = FaultRates::default().with(Fault::LyingFlush, FaultRates::WHOLE);
    let broken = (0..100).filter(|&seed| {
        let (mut bench, blocks) = seeded_cut(seed, SimOptions { faults, ..SimOptions::default() });
        let wrong = |bench: &mut Bench, block: usize, (durable, newest)| {
            let data = bench.read(at(block as u64), BLOCK).1;
            versions(&data, 512, durable, newest).is_none()
        };
        let is_broken = blocks.iter().enumerate().any(|(block, &promise)| wrong(&mut bench, block, promise));
        let sins = bench.drive.sins();
        assert!(!is_broken || sins.iter().any(|sin| sin.fault == Fault::LyingFlush));
        is_broken
    });
    assert!(broken.count() > 20);
}

/// What stands after one sinful write over old data: old, new, and what is read.
fn one_write(fault: Fault, seed: u64) -> (Bench, Vec<u8>, Vec<u8>, Vec<u8>) {
    let mut bench = Bench::with(fault, seed);
    let (old, new) = (content(100, BLOCK), content(200, BLOCK));
    assert_eq!(bench.write(at(3), &old), 0);
    let status = bench.write(at(3), &new);
    assert_eq!(status != 0, fault == Fault::WriteError);
    let stands = bench.read(at(3), BLOCK).1;
    let sin = bench.sin();
    assert_eq!((sin.fault, sin.number, sin.op, sin.offset, sin.len), (fault, 1, Op::Write, at(3), BLOCK));
    // No more than one, and nothing else is touched.
    assert_eq!(bench.write(at(4), &new), 0);
    assert_eq!(bench.read(at(4), BLOCK).1, new);
    (bench, old, new, stands)
}

#[test]
fn each_sin_of_a_write_leaves_its_mark() {
    for seed in 0..50 {
        let place = |bench: &Bench| usize::try_from(bench.sin().other.unwrap() - at(3)).unwrap();
        for fault in [Fault::Lost, Fault::RolledBack] {
            let (_, old, _, stands) = one_write(fault, seed);
            assert_eq!(stands, old, "{fault:?}");
        }
        for (fault, byte) in [(Fault::Blank, 0), (Fault::Ones, 0xff)] {
            assert_eq!(one_write(fault, seed).3, [byte; BLOCK as usize]);
        }
        let (bench, old, new, stands) = one_write(Fault::Torn, seed);
        let end = place(&bench);
        assert!(stands[..end] == new[..end] && stands[end..] == old[end..] && !end.is_multiple_of(512));
        for fault in [Fault::TornLba, Fault::WriteError] {
            let (bench, old, new, stands) = one_write(fault, seed);
            let whose = |n: usize| match &stands[n * 512..(n + 1) * 512] {
                lba if *lba == new[n * 512..(n + 1) * 512] => true,
                lba => {
                    assert_eq!(*lba, old[n * 512..(n + 1) * 512]);
                    false
                }
            };
            let lands: Vec<bool> = (0..8).map(whose).collect();
            if fault == Fault::TornLba {
                assert!(lands.contains(&true) && !lands[place(&bench) / 512]);
            }
        }
        let (mut bench, old, new, stands) = one_write(Fault::Misplaced, seed);
        let other = bench.sin().other.unwrap();
        assert!(stands == old && other != at(3) && other.is_multiple_of(4096) && other < SIZE);
        if other != at(4) {
            assert_eq!(bench.read(other, BLOCK).1, new);
        }
        let (bench, _, new, stands) = one_write(Fault::BitFlip, seed);
        let differ: Vec<usize> = (0..BLOCK as usize).filter(|&n| stands[n] != new[n]).collect();
        assert_eq!(differ, [place(&bench)]);
        assert_eq!((stands[differ[0]] ^ new[differ[0]]).count_ones(), 1);
        let (bench, _, mut new, stands) = one_write(Fault::Shifted, seed);
        new.rotate_right(usize::try_from(bench.sin().other.unwrap()).unwrap());
        assert_eq!(stands, new);
    }
}

#[test]
fn sins_of_reads_and_trims_leave_their_marks() {
    let mut bench = Bench::with(Fault::ReadError, 1);
    bench.write(at(1), &[1; 4096]);
    bench.write(at(2), &[2; 4096]);
    assert_eq!((bench.read(at(2), BLOCK).0, bench.read(at(2) - 512, 1024).0), (61, 61));
    assert_eq!((bench.read(at(1), BLOCK).0, bench.sin().fault), (0, Fault::ReadError));
    assert_eq!((bench.write(at(2), &[3; 4096]), bench.read(at(2), BLOCK).0), (0, 0), "healed");

    let mut bench = Bench::with(Fault::TransientRead, 1);
    bench.write(at(1), &[1; 4096]);
    let seen = bench.read(at(1), BLOCK).1;
    let differ: Vec<u64> = (0..4096).filter(|&n| seen[n] != 1).map(|n| at(1) + n as u64).collect();
    assert_eq!(differ, [bench.sin().other.unwrap()]);
    assert_eq!(bench.read(at(1), BLOCK).1, [1; 4096]);

    let mut bench = Bench::with(Fault::UndeadTrim, 1);
    bench.write(at(1), &[1; 4096]);
    assert_eq!(bench.one(Op::Deallocate, at(1), &mut [0; 4096]), 0);
    assert_eq!((bench.read(at(1), BLOCK).1, bench.sin().fault), (vec![1; 4096], Fault::UndeadTrim));
    bench.one(Op::Deallocate, at(1), &mut [0; 4096]);
    assert_eq!(bench.read(at(1), BLOCK).1, [0; 4096], "the next one is honest");
}

#[test]
fn a_sin_without_a_mark_is_none() {
    let mut bench = Bench::with(Fault::Lost, 1);
    bench.write(at(1), &[1; 4096]);
    bench.write(at(1), &[1; 4096]);
    assert!(bench.drive.sins().is_empty());
    bench.write(at(1), &[2; 4096]);
    assert_eq!(bench.sin().number, 2);
}

#[test]
fn a_large_drive_takes_the_memory_of_what_was_written() {
    let options = SimOptions::default();
    let mut drive = Drive::new(&options);
    drive.user();
    let session = drive.open(&options, false, 0, 1 << 40).unwrap();
    let mut bench = Bench { drive, session };
    assert_eq!(bench.write((1 << 40) - 4096, &[1; 4096]), 0);
    let trim = bench.admit(Op::Deallocate, (1 << 40) - (1 << 31), 1 << 31).unwrap();
    assert_eq!((bench.drive.pages(), bench.finish(trim, &mut [])), (1, 0));
    assert_eq!((bench.drive.pages(), bench.read((1 << 40) - 512, 512)), (0, (0, vec![0; 512])));
    assert_eq!(bench.write((1 << 40) - 512, &[1; 1024]), 22, "beyond the end");
}

// Through the engine.

fn open(name: &str, sim: SimOptions) -> Result<Sim, EngineError> {
    let options = EngineOptions { reads: true, writes: true, sim, ..EngineOptions::default() };
    Sim::open(&[Target { path: name.into(), size_hint: SIZE, pin: None }], &options)
}

fn queue(engine: &Sim, depth: u32) -> (SimQueue, BufferArea) {
    let area = BufferArea::new(depth, BLOCK).unwrap();
    (engine.queue(&QueueConfig { depth }, &area).unwrap().0, area)
}

fn io(area: &mut BufferArea, op: Op, block: u64, byte: u8) -> Io {
    let mut buffer = area.take().unwrap();
    buffer.fill(byte);
    let (offset, len) = (at(block), BLOCK);
    Io { buffer, offset, sequence: block, submit_ns: 0, len, moved: 0, target: 0, op, data_only: false }
}

/// Polls until `count` have come back: their numbers, statuses and first bytes, in order.
fn poll(queue: &mut SimQueue, count: usize) -> Vec<(u64, i32, u8)> {
    let mut done = Vec::new();
    while done.len() < count {
        queue.poll(Wait { min: 1, timeout_ns: 1_000_000 }, 64, &mut done).unwrap();
    }
    done.iter().map(|done| (done.io.sequence, done.status.errno(), done.io.buffer[0])).collect()
}

/// A deallocate of these blocks, and what it said.
fn trim_ranges(queue: &mut SimQueue, area: &mut BufferArea, ranges: &[(u64, u32)], len: u32) -> i32 {
    let mut io = io(area, Op::Deallocate, 0, 0);
    for (index, &(offset, len)) in ranges.iter().enumerate() {
        put(&mut io.buffer, index, TrimRange { offset, len });
    }
    (io.offset, io.len) = (ranges[0].0, len);
    queue.submit(&mut vec![io]);
    poll(queue, 1)[0].1
}

#[test]
fn a_deallocate_of_several_ranges_is_of_these_and_no_others() {
    let name = "sim ranges";
    let sim = SimOptions { fault_after: 20, ..SimOptions::default() };
    let sim = SimOptions { faults: FaultRates::default().with(Fault::UndeadTrim, FaultRates::WHOLE), ..sim };
    let options =
        EngineOptions { reads: true, writes: true, sim, trim_ranges: 3, ..EngineOptions::default() };
    let engine = Sim::open(&[Target { path: name.into(), size_hint: SIZE, pin: None }], &options).unwrap();
    let (mut queue, mut area) = queue(&engine, 64);
    let mut batch: Vec<Io> = (0..8).map(|block| io(&mut area, Op::Write, block, 1)).collect();
    queue.submit(&mut batch);
    poll(&mut queue, 8);
    let blanks = |queue: &mut SimQueue, area: &mut BufferArea| -> Vec<u64> {
        queue.submit(&mut (0..8).map(|block| io(area, Op::Read, block, 7)).collect());
        let mut blanks: Vec<u64> =
            poll(queue, 8).iter().filter(|seen| seen.2 == 0).map(|seen| seen.0).collect();
        blanks.sort_unstable();
        blanks
    };
    let all = [(at(6), BLOCK), (at(1), BLOCK), (at(3), 2 * BLOCK)];
    for bad in [(SIZE, BLOCK), (at(1) + 1, BLOCK), (u64::MAX - 100, BLOCK)] {
        assert_eq!(trim_ranges(&mut queue, &mut area, &[all[0], bad], 2 * BLOCK), EINVAL, "{bad:?}");
    }
    assert_eq!(trim_ranges(&mut queue, &mut area, &all, 5 * BLOCK), EINVAL, "they do not add up");
    assert!(blanks(&mut queue, &mut area).is_empty());
    assert_eq!(trim_ranges(&mut queue, &mut area, &all, 4 * BLOCK), 0);
    assert_eq!(blanks(&mut queue, &mut area), [1, 3, 4, 6]);
    // A drive that forgets such a command owns up to each range that had something in it.
    let undead = [(at(6), BLOCK), (at(5), BLOCK), (at(7), BLOCK)];
    assert_eq!(trim_ranges(&mut queue, &mut area, &undead, 3 * BLOCK), 0);
    let sins: Vec<(Fault, u64, u32)> =
        committed(name).iter().map(|sin| (sin.fault, sin.offset, sin.len)).collect();
    assert_eq!(sins, [(Fault::UndeadTrim, at(5), BLOCK), (Fault::UndeadTrim, at(7), BLOCK)]);
    forget(name);
}

#[test]
fn the_same_seed_does_the_same() {
    let rates = Fault::ALL.map(|(_, fault)| fault);
    let rates = rates.iter().filter(|&&fault| fault != Fault::Stalled && fault != Fault::StalledRead);
    let faults = rates.fold(FaultRates::default(), |rates, &fault| rates.with(fault, 50_000_000));
    let run = |seed: u64| {
        let name = "sim the_same_seed";
        forget(name);
        let engine =
            open(name, SimOptions { seed, faults, cut_after: Some(60), ..SimOptions::default() }).unwrap();
        let mut seen = Vec::new();
        for round in 0..6 {
            let (mut queue, mut area) = queue(&engine, 16);
            let op = if round % 2 == 0 { Op::Write } else { Op::Read };
            let mut batch: Vec<Io> = (0..16).map(|block| io(&mut area, op, block, block as u8 + 1)).collect();
            queue.submit(&mut batch);
            seen.extend(poll(&mut queue, 16));
        }
        (seen, committed(name))
    };
    let first = run(7);
    assert_eq!(first, run(7));
    assert!(!first.1.is_empty());
    assert_ne!(first, run(8));
    let order: Vec<u64> = first.0[..16].iter().map(|done| done.0).collect();
    assert!(!order.is_sorted(), "completions in any order: {order:?}");
    assert!(first.0.iter().any(|done| done.1 == ENODEV) && first.0[95].1 != ENODEV, "{first:?}");
    forget("sim the_same_seed");
}

#[test]
fn engines_that_name_a_drive_share_it() {
    let name = "sim shared";
    let first = open(name, SimOptions::default()).unwrap();
    let (mut writer, mut area) = queue(&first, 1);
    writer.submit(&mut vec![io(&mut area, Op::Write, 5, 9)]);
    poll(&mut writer, 1);
    let read = |engine: &Sim| {
        let (mut reader, mut area) = queue(engine, 1);
        reader.submit(&mut vec![io(&mut area, Op::Read, 5, 1)]);
        poll(&mut reader, 1)
    };
    let second = open(name, SimOptions { seed: 2, ..SimOptions::default() }).unwrap();
    assert_eq!(read(&second), [(5, 0, 9)]);
    let facts = &second.facts()[0];
    assert_eq!(
        (facts.lba_bytes, facts.premises.volatile_cache, facts.premises.atomic.unit_bytes),
        (512, Some(true), 512)
    );
    let other = open(name, SimOptions { lba: 4096, ..SimOptions::default() }).err().unwrap();
    assert!(other.message.contains("sim_lba = 512"), "{other}");
    assert!(open(name, SimOptions { lba: 0, ..SimOptions::default() }).is_err());
    forget(name);
    assert_eq!(read(&open(name, SimOptions::default()).unwrap()), [(5, 0, 0)]);
    assert_eq!(read(&first), [(5, 0, 9)], "it is open still");
    forget(name);
}

#[test]
fn what_stalls_comes_back_from_stop() {
    let name = "sim stalled";
    let faults = FaultRates::default()
        .with(Fault::Stalled, FaultRates::WHOLE)
        .with(Fault::StalledRead, FaultRates::WHOLE);
    let engine = open(name, SimOptions { faults, fault_limit: 2, ..SimOptions::default() }).unwrap();
    let (mut queue, mut area) = queue(&engine, 3);
    let mut batch: Vec<Io> =
        [Op::Write, Op::Read, Op::Write].map(|op| io(&mut area, op, 1, 7)).into_iter().collect();
    queue.submit(&mut batch);
    assert_eq!(poll(&mut queue, 1).len(), 1);
    let mut done = Vec::new();
    queue.poll(Wait { min: 1, timeout_ns: 1_000_000 }, 3, &mut done).unwrap();
    assert!(done.is_empty());
    queue.stop(0, &mut done);
    assert_eq!(done.iter().map(|done| done.status.errno()).collect::<Vec<_>>(), [125, 125]);
    assert_eq!(committed(name).len(), 2);
    forget(name);
}

#[test]
fn each_queue_hears_of_a_cut_by_itself() {
    let name = "sim queues";
    let engine = open(name, SimOptions { cut_after: Some(2), ..SimOptions::default() }).unwrap();
    let (mut gone, mut area) = queue(&engine, 4);
    let (mut reader, mut others) = queue(&engine, 4);
    gone.submit(&mut vec![io(&mut area, Op::Write, 1, 7), io(&mut area, Op::Write, 2, 7)]);
    reader.submit(&mut vec![io(&mut others, Op::Read, 3, 7), io(&mut others, Op::Read, 4, 7)]);
    assert!(poll(&mut reader, 2).iter().all(|done| done.1 == ENODEV), "though it had nothing in flight");
    reader.submit(&mut vec![io(&mut others, Op::Read, 5, 7)]);
    assert_eq!(poll(&mut reader, 1), [(5, 0, 0)]);
    assert!(poll(&mut gone, 2).iter().all(|done| done.1 == ENODEV));
    drop(gone);
    let (mut later, mut area) = queue(&engine, 4);
    later.submit(&mut vec![io(&mut area, Op::Read, 6, 7)]);
    assert_eq!(poll(&mut later, 1), [(6, 0, 0)], "made when the power was back");
    forget(name);
}
