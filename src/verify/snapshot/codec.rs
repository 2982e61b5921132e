//! A snapshot as bytes, version 2; `docs/formats.md` has the tables.
//!
//! A line for people, then the body, then a checksum over all before it. Numbers of the body are
//! LEB128; lists of rising numbers are kept as the distances between them, so that hundreds of I/Os
//! in flight take a byte or two each.

use std::fmt;

use crate::base::atomic::{AtomicLimit, AtomicSource, AtomicWrites, Boundaries};
use crate::base::premises::{CacheSource, Deallocated, Flushes, Premises};
use crate::base::verify::{Method, RunId};

use super::super::checksum;
use super::super::failures::Failures;
use super::super::promises::{Mark, Mutated, Promises};
use super::{Cause, JobState, RegionState, Snapshot, TargetState, WorkerState, WrittenRange};

/// How every snapshot begins; the version and a newline follow.
const MAGIC: &str = "fio-spdk snapshot ";
/// The version that is written.
const VERSION: u32 = 2;
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
                    "it is of version {version}, and this fio-spdk reads version {VERSION}: judge it with the release \
                     that took it (its header has the release in readable form), or write and judge again"
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
        out.list(&self.unverified, |out, range| {
            out.number(range.identity);
            out.number(u64::from(range.stage));
            out.number(range.start);
            out.number(range.bytes);
        });
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
        if version != VERSION.to_string() {
            return Err(SnapshotError::Version(version.escape_default().to_string()));
        }
        if sum(covered) != *end {
            return Err(SnapshotError::Damaged);
        }
        let mut reader = Reader(covered.get(MAGIC.len() + version.len() + 1..).unwrap_or_default());
        let snapshot = reader.snapshot().map_err(SnapshotError::Senseless)?;
        if reader.0.is_empty() {
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

    /// First and last number of each run, as rising numbers.
    fn runs(&mut self, runs: impl Iterator<Item = (u64, u64)>) {
        let ends: Vec<u64> = runs.flat_map(|(first, last)| [first, last]).collect();
        self.rising(&ends);
    }

    fn job(&mut self, job: &JobState) {
        self.text(&job.name);
        self.number(u64::from(job.stage));
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
        self.runs(kind.failed.runs());
        self.runs(kind.failed.coarse().into_iter());
        self.number(kind.durable.mark);
        self.rising(&kind.durable.holes);
    }
}

type Read<T> = Result<T, &'static str>;

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, len: usize) -> Read<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(len).ok_or("it ends in the middle")?;
        self.0 = rest;
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
        if count > self.0.len() {
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
            unverified: self.list(|reader| {
                Ok(WrittenRange {
                    identity: reader.number()?,
                    stage: reader.small()?,
                    start: reader.number()?,
                    bytes: reader.number()?,
                })
            })?,
        })
    }

    fn job(&mut self) -> Read<JobState> {
        Ok(JobState {
            name: self.text()?,
            stage: self.small()?,
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
        let (runs, coarse) = (self.rising_pairs()?, self.rising_pairs()?);
        let durable = Mark { mark: self.number()?, holes: self.rising()? };
        let below = |numbers: &[u64], end: u64| numbers.last().is_none_or(|&last| last < end);
        if !below(&in_flight, issued) || durable.mark > issued || !below(&durable.holes, durable.mark) {
            return Err("a number is beyond what was issued");
        }
        if coarse.len() > 1 {
            return Err("more than one range in which anything may have failed");
        }
        let failed = Failures::from_runs(&runs, coarse.first().copied())?;
        if runs.last().into_iter().chain(&coarse).any(|&(_, last)| last >= issued) {
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
mod tests;
