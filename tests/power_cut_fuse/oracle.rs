//! What must be found on the drive, from its log alone: which writes were submitted, what had completed when which
//! flush was submitted, and what is stored now. It shares no code with the verification that it checks, and does
//! not know which faults there were.
//!
//! The drive sees a completion when it sends it, the program when it reads it. A flush that arrives in between may
//! have been submitted before the program knew: such a write is durable for the drive and not for the program.
//! Those blocks are not decided: what they hold is replaced by their newest contents, which may always be there.

use super::drive::{Command, LBA, Op};

/// What is known of the run besides the log.
#[derive(Clone, Debug)]
pub struct Job {
    /// Bytes of a block.
    pub interval: usize,
    /// Each thread has one command in flight, so that a command of it shows that it has seen the end of the last.
    pub threads_wait: bool,
    /// A flush makes durable what other threads had written, too, and the program must know. Otherwise it may.
    pub flushes_are_shared: bool,
    /// Every write that completed must be found.
    pub completed_is_promised: bool,
}

/// What a verdict may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// No write of the run touched the block.
    Untouched,
    /// No promise is broken; the newest write is what is stored, and had completed.
    Newest,
    /// No promise is broken.
    Permitted,
    /// A promise is broken, in one of these ways.
    Broken(&'static [&'static str]),
    /// No verdict follows from what the documents say.
    Open,
    /// Not decided: see the head of the file. What is to be stored is the newest contents.
    Undecided,
}

/// One version of a block.
struct Version {
    command: usize,
    /// Where the block begins in what the command stores.
    start: usize,
}

/// What stood on the drive before the run.
pub struct Before<'a> {
    pub image: &'a [u8],
    /// For each logical block which write of which run stored it, if it is still as that write left it.
    pub writers: &'a [Option<u64>],
}

pub struct Oracle<'a> {
    pub job: &'a Job,
    pub log: &'a [Command],
    /// Times at which the run had seen the end of all that was not in flight.
    pub full: &'a [u64],
    pub before: Before<'a>,
    pub image: &'a [u8],
}

impl Oracle<'_> {
    /// Whether the run had certainly seen the end of a command at `time`.
    fn had_seen(&self, command: &Command, time: u64) -> bool {
        let Some((replied, _)) = command.replied else { return false };
        let within = |at: u64| replied < at && at <= time;
        self.full.iter().any(|&at| within(at))
            || self.job.threads_wait
                && self.log.iter().any(|other| other.thread == command.thread && within(other.arrived))
    }

    /// Whether a write must be found after a power cut: certainly, and possibly.
    fn is_durable(&self, write: &Command) -> (bool, bool) {
        let Some((replied, true)) = write.replied else { return (false, false) };
        if write.fua || self.job.completed_is_promised {
            return (self.had_seen(write, u64::MAX), true);
        }
        let (mut certain, mut possible) = (false, false);
        for flush in self.log.iter().filter(|command| command.op == Op::Flush && command.power == write.power)
        {
            if flush.replied.is_none_or(|(_, ok)| !ok) || replied > flush.arrived {
                continue;
            }
            possible = true;
            let credited =
                flush.thread == write.thread || self.job.flushes_are_shared || !self.job.threads_wait;
            certain |= credited && self.had_seen(flush, u64::MAX) && self.had_seen(write, flush.arrived);
        }
        (certain, possible)
    }

    fn versions(&self, offset: usize) -> Vec<Version> {
        let covers = |command: &Command| {
            matches!(command.op, Op::Write | Op::Trim)
                && command.offset <= offset
                && offset + self.job.interval <= command.offset + command.bytes.len()
        };
        let of = |(number, command): (usize, &Command)| {
            covers(command).then(|| Version { command: number, start: offset - command.offset })
        };
        self.log.iter().enumerate().filter_map(of).collect()
    }

    fn bytes(&self, version: &Version) -> &[u8] {
        &self.log[version.command].bytes[version.start..version.start + self.job.interval]
    }

    /// The newest contents of a block that was written.
    pub fn newest(&self, offset: usize) -> Option<&[u8]> {
        let newest = self.versions(offset).pop()?;
        Some(&self.log[newest.command].bytes[newest.start..newest.start + self.job.interval])
    }

    /// What the verdict on the block at `offset` may be.
    pub fn judge(&self, offset: usize) -> Expected {
        let versions = self.versions(offset);
        let Some(newest) = versions.last() else { return Expected::Untouched };
        let durable: Vec<(bool, bool)> =
            versions.iter().map(|version| self.is_durable(&self.log[version.command])).collect();
        let floor = durable.iter().rposition(|&(certain, _)| certain);
        let possible = durable.iter().rposition(|&(_, possible)| possible);
        let stored = &self.image[offset..offset + self.job.interval];
        let before = &self.before.image[offset..offset + self.job.interval];
        if possible > floor {
            return if stored == self.bytes(newest) { Expected::Permitted } else { Expected::Undecided };
        }
        let allowed = &versions[floor.unwrap_or(0)..];
        if stored == self.bytes(newest) && self.log[newest.command].replied.is_some_and(|(_, ok)| ok) {
            let certain = self.had_seen(&self.log[newest.command], u64::MAX);
            return if certain { Expected::Newest } else { Expected::Permitted };
        }
        let pieces = || stored.chunks(LBA).enumerate().map(|(at, piece)| (at * LBA, piece));
        let is_of = |version: &Version, at: usize, piece: &[u8]| self.bytes(version)[at..at + LBA] == *piece;
        let may_be = |(at, piece): (usize, &[u8])| {
            allowed.iter().any(|version| is_of(version, at, piece))
                || floor.is_none() && before[at..at + LBA] == *piece
        };
        if pieces().all(may_be) {
            return Expected::Permitted;
        }
        let has_trims = versions.iter().any(|version| self.log[version.command].op == Op::Trim);
        if has_trims {
            return self.among_trims(stored, &versions, floor);
        }
        if stored.iter().all(|&byte| byte == 0) || stored.iter().all(|&byte| byte == 0xff) {
            return if floor.is_some() { Expected::Broken(&["blank"]) } else { Expected::Permitted };
        }
        if versions.iter().any(|version| self.bytes(version) == stored) {
            return Expected::Broken(&["lost"]);
        }
        if self.is_of_another_place(stored, offset) {
            return Expected::Broken(&["misplaced"]);
        }
        if stored == before {
            return self.older(offset);
        }
        self.damaged(stored, before, &versions, floor)
    }

    fn among_trims(&self, stored: &[u8], versions: &[Version], floor: Option<usize>) -> Expected {
        let Some(floor) = floor else { return Expected::Open };
        if versions[floor..].iter().all(|version| self.log[version.command].op == Op::Write)
            && versions.iter().any(|version| self.bytes(version) == stored)
            && stored.iter().any(|&byte| byte != 0)
        {
            return Expected::Broken(&["lost"]);
        }
        Expected::Broken(&["lost", "not_zero", "blank", "torn", "corrupt", "stale_run", "misplaced"])
    }

    /// Whether a block was written for another place than `offset`.
    fn is_of_another_place(&self, stored: &[u8], offset: usize) -> bool {
        let holds = |command: &Command| {
            command.op == Op::Write
                && (0..)
                    .zip(command.bytes.chunks_exact(self.job.interval))
                    .any(|(at, block)| command.offset + at * self.job.interval != offset && block == stored)
        };
        self.log.iter().any(holds)
    }

    /// What an earlier run left is still there where this run's writes must be.
    fn older(&self, offset: usize) -> Expected {
        let writers = &self.before.writers[offset / LBA..(offset + self.job.interval) / LBA];
        let is_one = writers.iter().all(|writer| writer.is_some() && *writer == writers[0]);
        // A block of another format, or a part of one, may be told as data of somebody else.
        if is_one {
            Expected::Broken(&["stale_run", "corrupt"])
        } else {
            Expected::Broken(&["stale_run", "corrupt", "torn"])
        }
    }

    /// Neither a block that was written nor what was there before.
    fn damaged(&self, stored: &[u8], before: &[u8], versions: &[Version], floor: Option<usize>) -> Expected {
        let mut sources: Vec<&[u8]> = versions.iter().map(|version| self.bytes(version)).collect();
        sources.push(before);
        let (mut known, mut split) = (true, false);
        for (at, piece) in stored.chunks(LBA).enumerate().map(|(at, piece)| (at * LBA, piece)) {
            let theirs = || sources.iter().map(|source| &source[at..at + LBA]);
            if theirs().any(|one| one == piece) {
                continue;
            }
            let first = theirs().map(|one| one.iter().zip(piece).take_while(|(a, b)| a == b).count()).max();
            let last = theirs()
                .map(|one| one.iter().rev().zip(piece.iter().rev()).take_while(|(a, b)| a == b).count())
                .max();
            if first.unwrap_or(0) + last.unwrap_or(0) >= LBA {
                split = true;
            } else {
                known = false;
            }
        }
        // What an earlier run of another format left may be told as data of somebody else.
        let ours =
            sources.len() > 1 && stored.chunks(LBA).zip(before.chunks(LBA)).all(|(one, old)| one != old);
        match (known, floor) {
            // Both ends are known, but not which of the bytes that both have is whose.
            (true, Some(_)) if ours => Expected::Broken(&["torn"]),
            (true, Some(_)) => Expected::Broken(&["torn", "corrupt", "stale_run"]),
            (true, None) if split => Expected::Broken(&["torn"]),
            (true, None) => Expected::Open,
            (false, Some(_)) => Expected::Broken(&["corrupt", "torn", "misplaced", "stale_run"]),
            (false, None) => Expected::Open,
        }
    }
}
