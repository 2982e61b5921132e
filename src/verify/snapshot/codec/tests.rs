//! What is written is read, damage is refused, and the golden file stays readable.

use super::*;
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use proptest::sample::select;

fn any_mutated() -> impl Strategy<Value = Mutated> {
    let numbers = || btree_set(0_u64..100_000, 0..40);
    let coarse = proptest::option::of((0_u64..90_000, 0_u64..9000));
    (numbers(), numbers(), numbers(), 0_u64..100_000, 100_000_u64..u64::MAX, coarse).prop_map(
        |(in_flight, failed, holes, mark, issued, coarse)| {
            let mut failures = Failures::default();
            failed.into_iter().for_each(|number| failures.insert(number));
            let runs: Vec<_> = failures.runs().collect();
            let coarse = coarse.map(|(first, len)| (first, first + len));
            let failures = Failures::from_runs(&runs, coarse).unwrap();
            let holes = holes.into_iter().filter(|&number| number < mark).collect();
            Mutated {
                issued,
                in_flight: in_flight.into_iter().collect(),
                failed: failures,
                durable: Mark { mark, holes },
            }
        },
    )
}

prop_compose! {
    fn any_worker()(
        number: u16, regions in vec((any::<u16>(), any::<u64>(), any::<u64>()), 0..3),
        writes in any_mutated(), trims in any_mutated(), flush_epoch: u64, open_end: bool,
    ) -> WorkerState {
        let region = |(target, start, bytes)| RegionState { target, start, bytes };
        WorkerState {
            number,
            regions: regions.into_iter().map(region).collect(),
            promises: Promises { writes, trims, flush_epoch, open_end },
        }
    }
}

prop_compose! {
    fn any_atomic()(
        unit_bytes: u32, write_bytes: u32, crossing_bytes: u32,
        source in select(&AtomicSource::ALL[..]), limit in select(&AtomicLimit::ALL[..]),
        bounds: [(u64, u64); 2],
    ) -> AtomicWrites {
        let [boundaries, splits] = bounds.map(|(every, at)| Boundaries::on_part(every >> 1, at, 0));
        AtomicWrites { unit_bytes, write_bytes, source, limit, boundaries, crossing_bytes, splits }
    }
}

prop_compose! {
    fn any_premises()(
        atomic in any_atomic(), volatile_cache: Option<bool>, cache_source in select(&CacheSource::ALL[..]),
        flushes in select(&Flushes::ALL[..]), deallocated in select(&Deallocated::ALL[..]), broken in ".{0,9}",
    ) -> Premises {
        Premises { volatile_cache, cache_source, flushes, atomic, deallocated, broken }
    }
}

prop_compose! {
    fn any_target()(
        path in ".{0,20}", identity: u64, known_as in ".{0,9}", size_bytes: u64, lba_bytes: u32,
        premises in any_premises(),
    ) -> TargetState {
        TargetState { path, identity, known_as, size_bytes, lba_bytes, premises }
    }
}

prop_compose! {
    fn any_job()(
        name in ".{0,9}", stage: u32, options in vec((".{0,9}", ".{0,9}"), 0..4), seed: u64, writes_are_durable: bool,
        targets in vec(any_target(), 0..3), workers in vec(any_worker(), 0..3),
    ) -> JobState {
        JobState { name, stage, options, seed, writes_are_durable, targets, workers }
    }
}

prop_compose! {
    fn any_snapshot()(
        run: u128, taken_unix_ns: u64, cause in 0_usize..3, tool in ".{0,9}", jobs in vec(any_job(), 0..3),
        unverified in vec((any::<u64>(), any::<u32>(), any::<u64>(), any::<u64>()), 0..3),
    ) -> Snapshot {
        let range = |(identity, stage, start, bytes)| WrittenRange { identity, stage, start, bytes };
        let unverified = unverified.into_iter().map(range).collect();
        let cause = [Cause::Ended, Cause::Trigger, Cause::Checkpoint][cause];
        Snapshot { run: RunId(run), taken_unix_ns, cause, tool, jobs, unverified }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn what_is_written_is_read(snapshot in any_snapshot()) {
        prop_assert_eq!(Snapshot::decode(&snapshot.encode()), Ok(snapshot));
    }

    #[test]
    fn what_is_damaged_or_cut_short_is_refused(snapshot in any_snapshot(), at: u64, bit in 0..8) {
        let bytes = snapshot.encode();
        let at = usize::try_from(at % bytes.len() as u64).unwrap();
        prop_assert!(Snapshot::decode(&bytes[..at]).is_err());
        let mut flipped = bytes.clone();
        flipped[at] ^= 1_u8 << bit;
        prop_assert!(Snapshot::decode(&flipped).is_err());
        let mut longer = bytes;
        longer.push(0);
        prop_assert!(Snapshot::decode(&longer).is_err());
    }

    /// Behind a right checksum anything may stand, too.
    #[test]
    fn no_body_makes_it_panic_or_take_much_memory(mut body in vec(any::<u8>(), 0..300), snapshot in any_snapshot(), cut: u64) {
        let real = snapshot.encode();
        let cut = usize::try_from(cut % (real.len() - SUM) as u64).unwrap().max(MAGIC.len() + 2);
        let mut bytes = real[..cut.min(real.len() - SUM)].to_vec();
        bytes.append(&mut body);
        let sum = sum(&bytes);
        bytes.extend_from_slice(&sum);
        if let Ok(decoded) = Snapshot::decode(&bytes) {
            prop_assert_eq!(Snapshot::decode(&decoded.encode()), Ok(decoded));
        }
    }
}

#[test]
fn a_worker_at_depth_128_takes_less_than_4_kib_however_long_the_run() {
    let end = u64::MAX / 3;
    let scattered = |step: u64| (1..=128).rev().map(|k| end - k * step).collect::<Vec<u64>>();
    let kind = || Mutated {
        issued: end,
        in_flight: scattered(1 << 20),
        failed: Failures::default(),
        durable: Mark { mark: end, holes: scattered(1 << 21) },
    };
    let promises = Promises { writes: kind(), trims: kind(), flush_epoch: end, open_end: true };
    let regions = vec![RegionState { target: 0, start: 1 << 50, bytes: 1 << 50 }];
    let worker = WorkerState { number: 9, regions, promises };
    let mut out = Writer(Vec::new());
    let job = JobState {
        name: "j".repeat(40),
        stage: 0,
        options: vec![("bs".to_owned(), "4k".to_owned()); 20],
        seed: u64::MAX,
        writes_are_durable: false,
        targets: Vec::new(),
        workers: vec![worker],
    };
    out.job(&job);
    assert!(out.0.len() <= 4096, "{} bytes", out.0.len());
}

#[test]
fn other_files_and_other_versions_are_told_apart() {
    assert_eq!(Snapshot::decode(b""), Err(SnapshotError::NotASnapshot));
    assert_eq!(Snapshot::decode(b"[[job]]\nbs = 4096\n"), Err(SnapshotError::NotASnapshot));
    let later = Snapshot::decode(b"fio-spdk snapshot 3\nwhatever");
    assert_eq!(later, Err(SnapshotError::Version("3".to_owned())));
    assert!(later.unwrap_err().to_string().contains("reads version 2: judge it with the release"));
    // It lacked what later stages had written over.
    let earlier = Snapshot::decode(b"fio-spdk snapshot 1\nwhatever");
    assert_eq!(earlier, Err(SnapshotError::Version("1".to_owned())));
}

/// What the golden file holds.
fn golden(premises: Premises) -> Snapshot {
    let mut failed = Failures::default();
    failed.insert(17);
    failed.insert_runs([(40, 49)]);
    let runs: Vec<_> = failed.runs().collect();
    let failed = Failures::from_runs(&runs, Some((60, 70))).unwrap();
    let writes = Mutated {
        issued: 1000,
        in_flight: vec![991, 998, 999],
        failed,
        durable: Mark { mark: 900, holes: vec![880] },
    };
    let trims = Mutated { issued: 3, ..Mutated::default() };
    let worker = |number: u16, open_end: bool| WorkerState {
        number,
        regions: vec![RegionState { target: 0, start: u64::from(number) << 30, bytes: 1 << 30 }],
        promises: Promises { writes: writes.clone(), trims: trims.clone(), flush_epoch: 9, open_end },
    };
    let target = TargetState {
        path: "/dev/nvme0n1".to_owned(),
        identity: 0x0123_4567_89ab_cdef,
        known_as: "Model S123".to_owned(),
        size_bytes: 1 << 40,
        lba_bytes: 4096,
        premises,
    };
    let options = [("rw", "\"randwrite\""), ("bs", "\"4KiB\"")];
    let job = JobState {
        name: "golden".to_owned(),
        stage: 1,
        options: options.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        seed: 42,
        writes_are_durable: false,
        targets: vec![target],
        workers: vec![worker(1, false), worker(2, true)],
    };
    Snapshot {
        run: RunId(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff),
        taken_unix_ns: 1_795_238_631_483_000_000,
        cause: Cause::Trigger,
        tool: "0.1.0".to_owned(),
        jobs: vec![job],
        unverified: vec![WrittenRange {
            identity: 0x0123_4567_89ab_cdef,
            stage: 2,
            start: 1 << 30,
            bytes: 4096,
        }],
    }
}

#[test]
fn version_2_stays_readable() {
    let stored = include_bytes!("../version-2.state");
    let atomic = AtomicWrites {
        boundaries: Boundaries { every: 65536, first: 4096 },
        crossing_bytes: 8192,
        splits: Boundaries { every: 1 << 17, first: 512 },
        limit: AtomicLimit::Mdts,
        ..AtomicWrites::up_to(16384, AtomicSource::Nawupf)
    };
    let premises = Premises {
        volatile_cache: Some(true),
        cache_source: CacheSource::Feature,
        flushes: Flushes::Dropped,
        atomic,
        deallocated: Deallocated::Ones,
        broken: "changed".to_owned(),
    };
    assert_eq!(golden(premises.clone()).encode(), stored);
    assert_eq!(Snapshot::decode(stored), Ok(golden(premises)));
}
