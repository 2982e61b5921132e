//! A snapshot as bytes, version 2, and how version 1 is read; `docs/formats.md` has the tables.
//!
//! A line for people, then the body, then a checksum over all before it. Numbers of the body are
//! LEB128; lists of rising numbers are kept as the distances between them, so that hundreds of I/Os
//! in flight take a byte or two each.

use std::fmt;

use crate::base::atomic::{AtomicLimit, AtomicSource, AtomicWrites, Boundaries};
use crate::base::premises::{CacheSource, Deallocated, Flushes, Premises};
use crate::base::verify::{Method, RunId};

use super::super::checksum;
use super::super::promises::{Failures, Mark, Mutated, Promises};
use super::{Cause, JobState, RegionState, Snapshot, TargetState, WorkerState};

/// How every snapshot begins; the version and a newline follow.
const MAGIC: &str = "fio-spdk snapshot ";
/// The version that is written.
const VERSION: u32 = 2;
/// The oldest version that is read.
const OLDEST: u32 = 1;
/// Length of the checksum: CRC-64/NVME.
const SUM: usize = 8;
/// Why bytes are no snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotError {
    /// Something else.
    NotASnapshot,
    /// Of a version that this tool does not read.
    Version(String),
    /// The checksum is not that of the bytes: damaged, or cut short.
    Damaged,
    /// The checksum is right and the contents make no sense.
    Senseless(&'static str),
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SnapshotError::NotASnapshot => out.write_str("it is no snapshot of fio-spdk"),
            SnapshotError::Version(version) => {
                write!(
                    out,
                    "it is of version {version}, and this fio-spdk reads versions {OLDEST} to {VERSION}"
                )
            }
            SnapshotError::Damaged => out.write_str("it is damaged or cut short: its checksum is wrong"),
            SnapshotError::Senseless(why) => write!(out, "its contents make no sense: {why}"),
        }
    }
}

impl std::error::Error for SnapshotError {}

impl Snapshot {
    /// The bytes of a file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer(format!("{MAGIC}{VERSION}\n").into_bytes());
        out.0.extend_from_slice(&self.run.0.to_le_bytes());
        out.number(self.taken_unix_ns);
        out.number(match self.cause {
            Cause::Ended => 0,
            Cause::Trigger => 1,
            Cause::Checkpoint => 2,
        });
        out.text(&self.tool);
        out.list(&self.jobs, Writer::job);
        let sum = sum(&out.0);
        out.0.extend_from_slice(&sum);
        out.0
    }

    /// The snapshot that a file holds.
    ///
    /// # Errors
    /// If it holds none, or a damaged one.
    pub fn decode(bytes: &[u8]) -> Result<Snapshot, SnapshotError> {
        let rest = bytes.strip_prefix(MAGIC.as_bytes()).ok_or(SnapshotError::NotASnapshot)?;
        let end = rest.iter().take(16).position(|&byte| byte == b'\n').ok_or(SnapshotError::Damaged)?;
        let version = String::from_utf8_lossy(&rest[..end]).into_owned();
        let (covered, end) = bytes.split_last_chunk::<SUM>().ok_or(SnapshotError::Damaged)?;
        let known = (OLDEST..=VERSION).find(|known| version == known.to_string());
        let Some(known) = known else {
            return Err(SnapshotError::Version(version.escape_default().to_string()));
        };
        if sum(covered) != *end {
            return Err(SnapshotError::Damaged);
        }
        let left = covered.get(MAGIC.len() + version.len() + 1..).unwrap_or_default();
        let mut reader = Reader { left, version: known };
        let snapshot = reader.snapshot().map_err(SnapshotError::Senseless)?;
        if reader.left.is_empty() {
            Ok(snapshot)
        } else {
            Err(SnapshotError::Senseless("something follows the end"))
        }
    }
}

fn sum(bytes: &[u8]) -> [u8; SUM] {
    let mut out = [0; SUM];
    checksum::digest(Method::Crc64Nvme, bytes, &mut out);
    out
}

struct Writer(Vec<u8>);

impl Writer {
    fn number(&mut self, number: u64) {
        let mut left = number;
        while left >= 0x80 {
            self.0.push((left & 0x7f) as u8 | 0x80);
            left >>= 7;
        }
        self.0.push(left as u8);
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
    }

    fn list<T>(&mut self, items: &[T], one: impl Fn(&mut Writer, &T)) {
        self.number(items.len() as u64);
        items.iter().for_each(|item| one(self, item));
    }

    /// Rising numbers: the first, then how much each is above the one before.
    fn rising(&mut self, numbers: &[u64]) {
        let mut before = 0;
        self.list(numbers, |_, _| ());
        for &number in numbers {
            self.number(number - before);
            before = number;
        }
    }

    fn job(&mut self, job: &JobState) {
        self.text(&job.name);
        self.list(&job.options, |out, (name, value)| {
            out.text(name);
            out.text(value);
        });
        self.number(job.seed);
        self.number(u64::from(job.writes_are_durable));
        self.list(&job.targets, |out, target| {
            out.text(&target.path);
            out.number(target.identity);
            out.text(&target.known_as);
            out.number(target.size_bytes);
            out.number(u64::from(target.lba_bytes));
            out.premises(&target.premises);
        });
        self.list(&job.workers, |out, worker| {
            out.number(u64::from(worker.number));
            out.list(&worker.regions, |out, region| {
                out.number(u64::from(region.target));
                out.number(region.start);
                out.number(region.bytes);
            });
            out.promises(&worker.promises);
        });
    }

    fn premises(&mut self, premises: &Premises) {
        self.atomic(&premises.atomic);
        self.number(premises.volatile_cache.map_or(2, u64::from));
        self.one_of(&CacheSource::ALL, premises.cache_source);
        self.one_of(&Flushes::ALL, premises.flushes);
        self.one_of(&Deallocated::ALL, premises.deallocated);
        self.text(&premises.broken);
    }

    /// The place of `one` among `all`.
    fn one_of<T: PartialEq>(&mut self, all: &[T], one: T) {
        self.number(all.iter().position(|other| *other == one).unwrap_or(0) as u64);
    }

    fn atomic(&mut self, atomic: &AtomicWrites) {
        self.number(u64::from(atomic.unit_bytes));
        self.number(u64::from(atomic.write_bytes));
        self.one_of(&AtomicSource::ALL, atomic.source);
        self.one_of(&AtomicLimit::ALL, atomic.limit);
        self.number(u64::from(atomic.crossing_bytes));
        for boundaries in [atomic.boundaries, atomic.splits] {
            self.number(boundaries.every);
            self.number(boundaries.first);
        }
    }

    fn promises(&mut self, promises: &Promises) {
        self.mutated(&promises.writes);
        self.mutated(&promises.trims);
        self.number(promises.flush_epoch);
        self.number(u64::from(promises.open_end));
    }

    fn mutated(&mut self, kind: &Mutated) {
        self.number(kind.issued);
        self.rising(&kind.in_flight);
        let ends: Vec<u64> = kind.failed.runs().iter().flat_map(|&(first, last)| [first, last]).collect();
        self.rising(&ends);
        self.number(kind.durable.mark);
        self.rising(&kind.durable.holes);
    }
}

type Read<T> = Result<T, &'static str>;

struct Reader<'a> {
    left: &'a [u8],
    version: u32,
}

impl<'a> Reader<'a> {
    fn bytes(&mut self, len: usize) -> Read<&'a [u8]> {
        let (bytes, rest) = self.left.split_at_checked(len).ok_or("it ends in the middle")?;
        self.left = rest;
        Ok(bytes)
    }

    fn number(&mut self) -> Read<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.bytes(1)?[0];
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                break;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err("a number of more than 64 bits")
    }

    fn small<T: TryFrom<u64>>(&mut self) -> Read<T> {
        T::try_from(self.number()?).map_err(|_| "a number is too large")
    }

    fn flag(&mut self) -> Read<bool> {
        match self.number()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err("neither yes nor no"),
        }
    }

    fn text(&mut self) -> Read<String> {
        let len = self.small()?;
        String::from_utf8(self.bytes(len)?.to_vec()).map_err(|_| "a text is not UTF-8")
    }

    fn list<T>(&mut self, one: impl Fn(&mut Reader<'a>) -> Read<T>) -> Read<Vec<T>> {
        let count: usize = self.small()?;
        // Everything takes a byte at least.
        if count > self.left.len() {
            return Err("a list is longer than the snapshot");
        }
        (0..count).map(|_| one(self)).collect()
    }

    fn rising(&mut self) -> Read<Vec<u64>> {
        let steps = self.list(Reader::number)?;
        let mut at = 0_u64;
        let mut numbers = Vec::with_capacity(steps.len());
        for (index, step) in steps.into_iter().enumerate() {
            if index > 0 && step == 0 {
                return Err("a list does not rise");
            }
            at = at.checked_add(step).ok_or("a number of more than 64 bits")?;
            numbers.push(at);
        }
        Ok(numbers)
    }

    fn snapshot(&mut self) -> Read<Snapshot> {
        let mut run = [0; 16];
        run.copy_from_slice(self.bytes(16)?);
        Ok(Snapshot {
            run: RunId(u128::from_le_bytes(run)),
            taken_unix_ns: self.number()?,
            cause: match self.number()? {
                0 => Cause::Ended,
                1 => Cause::Trigger,
                2 => Cause::Checkpoint,
                _ => return Err("a cause that there is not"),
            },
            tool: self.text()?,
            jobs: self.list(Reader::job)?,
        })
    }

    fn job(&mut self) -> Read<JobState> {
        Ok(JobState {
            name: self.text()?,
            options: self.list(|reader| Ok((reader.text()?, reader.text()?)))?,
            seed: self.number()?,
            writes_are_durable: self.flag()?,
            targets: self.list(Reader::target)?,
            workers: self.list(Reader::worker)?,
        })
    }

    fn target(&mut self) -> Read<TargetState> {
        Ok(TargetState {
            path: self.text()?,
            identity: self.number()?,
            known_as: self.text()?,
            size_bytes: self.number()?,
            lba_bytes: self.small()?,
            premises: self.premises()?,
        })
    }

    fn premises(&mut self) -> Read<Premises> {
        let atomic = self.atomic()?;
        let volatile_cache = match self.number()? {
            0 => Some(false),
            1 => Some(true),
            2 => None,
            _ => return Err("neither yes nor no nor unknown"),
        };
        if self.version == 1 {
            return Ok(Premises { atomic, volatile_cache, ..Premises::default() });
        }
        Ok(Premises {
            volatile_cache,
            cache_source: self.one_of(&CacheSource::ALL)?,
            flushes: self.one_of(&Flushes::ALL)?,
            atomic,
            deallocated: self.one_of(&Deallocated::ALL)?,
            broken: self.text()?,
        })
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> Read<T> {
        let at: usize = self.small()?;
        all.get(at).copied().ok_or("a number that stands for nothing")
    }

    fn atomic(&mut self) -> Read<AtomicWrites> {
        if self.version == 1 {
            // Every write of the job was at most this long, or the unit held for any length.
            return Ok(AtomicWrites::in_units(self.small()?));
        }
        let (unit_bytes, write_bytes) = (self.small()?, self.small()?);
        Ok(AtomicWrites {
            unit_bytes,
            write_bytes,
            source: self.one_of(&AtomicSource::ALL)?,
            limit: self.one_of(&AtomicLimit::ALL)?,
            crossing_bytes: self.small()?,
            boundaries: self.boundaries()?,
            splits: self.boundaries()?,
        })
    }

    fn boundaries(&mut self) -> Read<Boundaries> {
        let (every, first) = (self.number()?, self.number()?);
        if first >= every.max(1) {
            return Err("a boundary that is not one of its own");
        }
        Ok(Boundaries { every, first })
    }

    fn worker(&mut self) -> Read<WorkerState> {
        Ok(WorkerState {
            number: self.small()?,
            regions: self.list(|reader| {
                Ok(RegionState { target: reader.small()?, start: reader.number()?, bytes: reader.number()? })
            })?,
            promises: Promises {
                writes: self.mutated()?,
                trims: self.mutated()?,
                flush_epoch: self.number()?,
                open_end: self.flag()?,
            },
        })
    }

    fn mutated(&mut self) -> Read<Mutated> {
        let issued = self.number()?;
        let in_flight = self.rising()?;
        let ends = self.rising_pairs()?;
        let durable = Mark { mark: self.number()?, holes: self.rising()? };
        let below = |numbers: &[u64], end: u64| numbers.last().is_none_or(|&last| last < end);
        if !below(&in_flight, issued) || durable.mark > issued || !below(&durable.holes, durable.mark) {
            return Err("a number is beyond what was issued");
        }
        let failed = Failures::from_runs(ends)?;
        if failed.runs().last().is_some_and(|&(_, last)| last >= issued) {
            return Err("a number is beyond what was issued");
        }
        Ok(Mutated { issued, in_flight, failed, durable })
    }

    /// First and last of runs; a run of one has both the same, so these do not all rise.
    fn rising_pairs(&mut self) -> Read<Vec<(u64, u64)>> {
        let steps = self.list(Reader::number)?;
        let mut at = 0_u64;
        let mut numbers = Vec::with_capacity(steps.len());
        for step in steps {
            at = at.checked_add(step).ok_or("a number of more than 64 bits")?;
            numbers.push(at);
        }
        let (pairs, rest) = numbers.as_chunks::<2>();
        if rest.is_empty() { Ok(pairs.iter().map(|&[a, b]| (a, b)).collect()) } else { Err("half a run") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;
    use proptest::sample::select;

    fn any_mutated() -> impl Strategy<Value = Mutated> {
        let numbers = || btree_set(0_u64..100_000, 0..40);
        (numbers(), numbers(), numbers(), 0_u64..100_000, 100_000_u64..u64::MAX).prop_map(
            |(in_flight, failed, holes, mark, issued)| {
                let mut failures = Failures::default();
                failed.into_iter().for_each(|number| failures.insert(number));
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
            name in ".{0,9}", options in vec((".{0,9}", ".{0,9}"), 0..4), seed: u64, writes_are_durable: bool,
            targets in vec(any_target(), 0..3), workers in vec(any_worker(), 0..3),
        ) -> JobState {
            JobState { name, options, seed, writes_are_durable, targets, workers }
        }
    }

    prop_compose! {
        fn any_snapshot()(
            run: u128, taken_unix_ns: u64, cause in 0_usize..3, tool in ".{0,9}", jobs in vec(any_job(), 0..3),
        ) -> Snapshot {
            let cause = [Cause::Ended, Cause::Trigger, Cause::Checkpoint][cause];
            Snapshot { run: RunId(run), taken_unix_ns, cause, tool, jobs }
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
        assert!(later.unwrap_err().to_string().contains("reads versions 1 to 2"));
    }

    /// What the golden file holds.
    fn golden(premises: Premises) -> Snapshot {
        let mut failed = Failures::default();
        failed.insert(17);
        failed.insert_run(40, 49);
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
        }
    }

    #[test]
    fn version_1_stays_readable() {
        let stored = include_bytes!("version-1.state");
        let atomic = AtomicWrites::in_units(16384);
        let premises = Premises { atomic, volatile_cache: Some(true), ..Premises::default() };
        assert_eq!(Snapshot::decode(stored), Ok(golden(premises)));
    }

    #[test]
    fn version_2_stays_readable() {
        let stored = include_bytes!("version-2.state");
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
}
