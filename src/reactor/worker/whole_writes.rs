//! Judges writes as a whole: where the device stores a write whole or not at all, no logical block may show
//! it while another one that it wrote shows something older. Later writes over parts of it say nothing.
//!
//! A block that shows its newest write cannot be the older one of such a pair. So only blocks that show
//! something older are looked at, with the newer writes that they do not show; what the other blocks of
//! these writes show is known from the same read, or is read once more.

use std::collections::HashSet;
use std::ops::Range;

use crate::base::Op;
use crate::base::atomic::AtomicSource;
use crate::base::units::format_size;
use crate::base::verify::{Finding, Verdict};
use crate::verify::judge::{Allowed, Candidate, Judge, Place, Shown};

use super::sweep::SweepRead;

/// Parts that are named in one sentence.
const MOST_NAMED: usize = 16;
/// Writes found by the blocks of a read are made unique when there are so many.
const MOST_LISTED: usize = 1 << 16;

/// A write, or the part of one, that is stored whole or not at all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WholeWrite {
    pub target: u16,
    /// Where the first of its blocks begins, and where the last one ends.
    first: u64,
    last: u64,
    /// Its bytes on the target.
    start: u64,
    end: u64,
    sequence: u64,
    /// Where the write begins, of which it may be a part, and how long that is.
    io_offset: u64,
    io_len: u32,
    /// The index in [`AtomicSource::ALL`] of what promises it.
    source: usize,
    /// It was issued after the last write that is known of.
    is_later: bool,
}

impl WholeWrite {
    /// Whether all its blocks are before a place.
    pub(super) fn is_before(&self, (target, offset): (u16, u64)) -> bool {
        (self.target, self.last) <= (target, offset) || self.target < target
    }
}

/// A block that shows something else than its newest write, and may.
#[derive(Debug)]
pub(super) struct OlderBlock {
    offset: u64,
    allowed: Allowed,
    /// How many of the candidates, the newest ones, say anything: where trimmed blocks may read as anything,
    /// what is below a trim does not.
    telling: usize,
    /// Candidates are all writes, so their sequences fall.
    only_writes: bool,
    /// What its logical blocks show: bytes of the block, and which candidate.
    parts: Vec<(Range<usize>, Shown)>,
    /// The position of its finding among those of the read.
    finding: usize,
    /// It was counted as one of which something was demanded.
    demanded: bool,
}

/// A finding that has become `torn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Torn {
    /// Its position among those of the read.
    pub finding: usize,
    /// What it was.
    pub was: Verdict,
    /// It was counted as one of which something was demanded.
    pub demanded: bool,
}

impl OlderBlock {
    /// What the logical blocks of `block` show.
    pub(super) fn of(
        judge: &Judge,
        block: &[u8],
        place: Place,
        allowed: Allowed,
        (finding, demanded): (usize, bool),
    ) -> OlderBlock {
        let parts = judge.shown(block, place, &allowed);
        let candidates = &allowed.candidates;
        let is_known_trim = |c: &Candidate| c.op == Op::Deallocate && c.io_len > 0;
        let trim = candidates.iter().position(is_known_trim).filter(|_| !judge.judges_trims());
        let telling = trim.unwrap_or(candidates.len());
        let only_writes = candidates.iter().all(|c| c.op == Op::Write);
        OlderBlock { offset: place.offset, allowed, telling, only_writes, parts, finding, demanded }
    }

    /// The position of a write among the candidates.
    fn position(&self, sequence: u64) -> Option<usize> {
        let candidates = &self.allowed.candidates;
        if self.only_writes {
            return candidates.binary_search_by(|c| sequence.cmp(&c.sequence)).ok();
        }
        candidates.iter().position(|c| c.op == Op::Write && c.sequence == sequence)
    }

    /// What a part that shows `shown` says of `write`.
    fn compare(&self, shown: Shown, write: &WholeWrite) -> Age {
        let candidates = &self.allowed.candidates;
        if let Some(position) = self.position(write.sequence) {
            return match shown {
                _ if position >= self.telling => Age::Unknown,
                Shown::Candidate(at) if at == position => Age::Same,
                Shown::Candidate(at) if at > position => Age::Older,
                Shown::Before => Age::Older,
                Shown::Candidate(_) | Shown::Other => Age::Unknown,
            };
        }
        // Where a known write is not among those that may stand, something newer must.
        match shown {
            Shown::Candidate(at) if write.is_later && candidates[at].op == Op::Write => {
                if candidates[at].sequence < write.sequence { Age::Older } else { Age::Unknown }
            }
            Shown::Before if write.is_later => Age::Older,
            _ => Age::Unknown,
        }
    }

    /// Adds the writes, newer than what the block shows, of which other blocks must not show anything; and a
    /// later write that it shows itself.
    fn add_writes(&self, judge: &Judge, target: u16, into: &mut Vec<WholeWrite>) {
        let candidates = &self.allowed.candidates;
        for (part, shown) in &self.parts {
            let newer = match shown {
                Shown::Candidate(at) => *at,
                Shown::Before => candidates.len(),
                Shown::Other => continue,
            };
            let writes = &candidates[..newer.min(self.telling)];
            writes
                .iter()
                .filter_map(|write| self.whole(judge, target, part, write))
                .for_each(|w| into.push(w));
            if let Some(own) = candidates.get(newer).filter(|own| own.sequence >= self.allowed.issued) {
                into.extend(self.whole(judge, target, part, own));
            }
        }
    }

    /// The part of `write` around `part` of this block that must be whole, if it is more than that.
    fn whole(
        &self,
        judge: &Judge,
        target: u16,
        part: &Range<usize>,
        write: &Candidate,
    ) -> Option<WholeWrite> {
        let (from, to) = (self.offset + part.start as u64, self.offset + part.end as u64);
        let inside = write.io_offset..write.io_offset.saturating_add(u64::from(write.io_len));
        if write.op != Op::Write || !inside.contains(&from) {
            return None;
        }
        let (whole, source) = judge.target(target).whole(write.io_offset, write.io_len, from);
        if whole.start >= from && whole.end <= to {
            return None;
        }
        let block = u64::from(judge.format().interval);
        let before = self.offset.saturating_sub(whole.start).div_ceil(block) * block;
        let first = self.offset.saturating_sub(before);
        let last = first + (whole.end - first).div_ceil(block) * block;
        Some(WholeWrite {
            target,
            first,
            last,
            start: whole.start,
            end: whole.end,
            sequence: write.sequence,
            io_offset: write.io_offset,
            io_len: write.io_len,
            source: AtomicSource::ALL.iter().position(|one| *one == source).unwrap_or(0),
            is_later: write.sequence >= self.allowed.issued,
        })
    }
}

/// What a part of a block says of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Age {
    /// It shows that write.
    Same,
    /// It shows something older.
    Older,
    /// It shows something newer, or nothing that is known.
    Unknown,
}

/// What shows something older than a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Older {
    /// A part of the block at this position.
    Part(usize, Shown),
    /// A block that shows this write, the newest that is known of it.
    Plain { offset: u64, sequence: u64 },
}

/// What is known of the blocks of one read.
pub(super) struct ReadBlocks<'a> {
    pub judge: &'a Judge,
    pub place: Place,
    pub len: u64,
    /// Blocks that show something older than their newest write, by offset.
    pub older: &'a [OlderBlock],
    pub findings: &'a mut Vec<Finding>,
    /// Gets the findings that have become `torn`.
    pub torn: &'a mut Vec<Torn>,
}

impl ReadBlocks<'_> {
    /// Turns the findings of blocks into `torn` that are older than a write that another block shows, and
    /// adds to `open` the writes of which a part is outside of the read. `newest` says which write is the
    /// newest of the block at an offset, if any touched it.
    pub(super) fn judge_writes(
        &mut self,
        open: &mut Vec<WholeWrite>,
        mut newest: impl FnMut(u64) -> Option<(Op, u64)>,
    ) {
        let mut writes = Vec::new();
        let mut most = MOST_LISTED;
        for block in self.older {
            block.add_writes(self.judge, self.place.target, &mut writes);
            if writes.len() >= most {
                writes.sort_unstable();
                writes.dedup();
                most = MOST_LISTED.max(2 * writes.len());
            }
        }
        writes.sort_unstable();
        writes.dedup();
        let violations: HashSet<u64> = self
            .findings
            .iter()
            .filter(|finding| finding.verdict.is_violation())
            .map(|finding| finding.offset)
            .collect();
        let end = self.place.offset + self.len;
        for write in writes {
            if write.first < self.place.offset || write.last > end {
                open.push(write);
            } else {
                self.judge_write(&write, &violations, &mut newest);
            }
        }
    }

    fn judge_write(
        &mut self,
        write: &WholeWrite,
        violations: &HashSet<u64>,
        newest: &mut impl FnMut(u64) -> Option<(Op, u64)>,
    ) {
        let block_bytes = u64::from(self.judge.format().interval);
        let (mut shows, mut parts, mut older) = (false, Vec::new(), Vec::new());
        let step = usize::try_from(block_bytes).unwrap_or(usize::MAX);
        for offset in (write.first..write.last).step_by(step).filter(|offset| !violations.contains(offset)) {
            let Ok(at) = self.older.binary_search_by_key(&offset, |block| block.offset) else {
                let bytes = offset.max(write.start)..(offset + block_bytes).min(write.end);
                match newest(offset) {
                    Some((Op::Write, sequence)) if sequence == write.sequence => {
                        shows = true;
                        parts.push((bytes, None));
                    }
                    Some((Op::Write, sequence)) if write.is_later => {
                        let plain = Older::Plain { offset, sequence };
                        parts.push((bytes, Some(plain)));
                        older.push(plain);
                    }
                    _ => {}
                }
                continue;
            };
            let block = &self.older[at];
            for (part, shown) in &block.parts {
                let (from, to) = (offset + part.start as u64, offset + part.end as u64);
                if from >= write.end || to <= write.start {
                    continue;
                }
                match block.compare(*shown, write) {
                    Age::Unknown => {}
                    Age::Same => {
                        shows = true;
                        parts.push((from..to, None));
                    }
                    Age::Older => {
                        parts.push((from..to, Some(Older::Part(at, *shown))));
                        if !matches!(older.last(), Some(Older::Part(last, _)) if *last == at) {
                            older.push(Older::Part(at, *shown));
                        }
                    }
                }
            }
        }
        if !shows || older.is_empty() {
            return;
        }
        let sentence = self.sentence(write, &parts);
        for one in older {
            self.convict(one, write, &sentence);
        }
    }

    /// Makes a block `torn`.
    fn convict(&mut self, older: Older, write: &WholeWrite, sentence: &str) {
        let source = AtomicSource::ALL[write.source];
        let promise = match source {
            AtomicSource::Lba => "a logical block is written whole".to_owned(),
            source => format!("{} whole ({source})", format_size(write.end - write.start)),
        };
        let (finding, was, demanded) = match older {
            Older::Part(at, _) => {
                let block = &self.older[at];
                (block.finding, self.findings[block.finding].verdict, block.demanded)
            }
            Older::Plain { offset, .. } => {
                let known = self.findings.iter().position(|finding| finding.offset == offset);
                (known.unwrap_or(self.findings.len()), Verdict::Ok, true)
            }
        };
        if let Older::Plain { offset, .. } = older
            && finding == self.findings.len()
        {
            self.findings.push(Finding {
                verdict: Verdict::Ok,
                target: write.target,
                offset,
                len: self.judge.format().interval,
                stands: String::new(),
                allowed: format!("all of write {}, or nothing of it", write.sequence),
                promise: String::new(),
                details: Vec::new(),
                named_offset: None,
                rereads: Vec::new(),
                atomic: None,
            });
        }
        let convicted = &mut self.findings[finding];
        if convicted.verdict.is_violation() {
            return;
        }
        convicted.verdict = Verdict::Torn;
        sentence.clone_into(&mut convicted.stands);
        convicted.promise = promise;
        convicted.atomic = Some(source);
        self.torn.push(Torn { finding, was, demanded });
    }

    /// Which logical blocks of a write show it, and which do not.
    fn sentence(&self, write: &WholeWrite, parts: &[(Range<u64>, Option<Older>)]) -> String {
        let lba = self.judge.target(write.target).lba() as u64;
        let named: Vec<(&Range<u64>, Option<String>)> =
            parts.iter().map(|(bytes, older)| (bytes, older.map(|older| self.describe(older)))).collect();
        let runs = named.chunk_by(|one, next| one.1 == next.1 && one.0.end == next.0.start);
        let mut texts = Vec::new();
        for run in runs.take(MOST_NAMED) {
            let (first, last) = (run[0].0.start / lba, (run[run.len() - 1].0.end - 1) / lba);
            let name = if first == last { format!("LBA {first}") } else { format!("LBAs {first} to {last}") };
            texts.push(match &run[0].1 {
                None => format!("{name} new"),
                Some(what) => format!("{name} {what}"),
            });
        }
        format!(
            "write {} at {}, {} bytes: {}",
            write.sequence,
            write.io_offset,
            write.io_len,
            texts.join(", ")
        )
    }

    /// What an older part shows.
    fn describe(&self, older: Older) -> String {
        match older {
            Older::Plain { sequence, .. } => format!("from write {sequence}"),
            Older::Part(block, Shown::Candidate(at)) => {
                let candidate = &self.older[block].allowed.candidates[at];
                match candidate.op {
                    Op::Write => format!("from write {}", candidate.sequence),
                    _ => "zeros of a trim".to_owned(),
                }
            }
            Older::Part(..) => "from before the run".to_owned(),
        }
    }
}

/// Puts writes that no single read had together into reads of blocks of `block_bytes`, by offset, that take
/// at most `most_bytes` in whole logical blocks.
pub(super) fn spans(
    mut open: Vec<WholeWrite>,
    block_bytes: u64,
    most_bytes: u64,
    lba: impl Fn(u16) -> u64,
) -> Vec<SweepRead> {
    open.sort_unstable();
    open.dedup();
    let mut spans: Vec<SweepRead> = Vec::new();
    for write in open {
        let read = |from: u64, to: u64| SweepRead {
            place: Place { target: write.target, offset: from },
            len: u32::try_from(to - from).unwrap_or(u32::MAX),
        };
        let joined = spans.last().and_then(|span| {
            let from = span.place.offset;
            let on_grid =
                span.place.target == write.target && (write.first - from).is_multiple_of(block_bytes);
            let joined = read(from, write.last.max(from + u64::from(span.len)));
            let takes = u64::from(joined.in_logical_blocks(lba(write.target)).len);
            (on_grid && takes <= most_bytes).then_some(joined)
        });
        match (joined, spans.last_mut()) {
            (Some(joined), Some(last)) => *last = joined,
            _ => spans.push(read(write.first, write.last)),
        }
    }
    spans
}
