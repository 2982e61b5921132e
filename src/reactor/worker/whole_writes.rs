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
use crate::verify::judge::{Allowed, Judge, Place, Shown};

use super::sweep::SweepRead;

/// Parts that are named in one sentence.
const MOST_NAMED: usize = 16;

/// A write, or the part of one, that is stored whole or not at all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WholeWrite {
    pub target: u16,
    /// Its bytes on the target.
    pub start: u64,
    pub end: u64,
    pub sequence: u64,
    /// Where the write begins, of which it may be a part, and how long that is.
    io_offset: u64,
    io_len: u32,
    /// The index in [`AtomicSource::ALL`] of what promises it.
    source: usize,
}

/// A block that shows something else than its newest write, and may.
#[derive(Debug)]
pub(super) struct OlderBlock {
    offset: u64,
    allowed: Allowed,
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
        OlderBlock { offset: place.offset, allowed, parts, finding, demanded }
    }

    /// The position of a write among the candidates.
    fn position(&self, sequence: u64) -> Option<usize> {
        self.allowed.candidates.iter().position(|c| c.op == Op::Write && c.sequence == sequence)
    }

    /// Adds the writes, newer than what the block shows, of which other blocks must not show anything.
    fn add_newer(&self, judge: &Judge, target: u16, into: &mut Vec<WholeWrite>) {
        let identity = judge.target(target);
        let candidates = &self.allowed.candidates;
        for (part, shown) in &self.parts {
            let newer = match shown {
                Shown::Candidate(at) => *at,
                Shown::Before => candidates.len(),
                Shown::Other => continue,
            };
            let (from, to) = (self.offset + part.start as u64, self.offset + part.end as u64);
            for write in candidates[..newer].iter().filter(|c| c.op == Op::Write && c.io_len > 0) {
                if from < write.io_offset || from >= write.io_offset + u64::from(write.io_len) {
                    continue;
                }
                let (whole, source) = identity.whole(write.io_offset, write.io_len, from);
                if whole.start >= from && whole.end <= to {
                    continue;
                }
                into.push(WholeWrite {
                    target,
                    start: whole.start,
                    end: whole.end,
                    sequence: write.sequence,
                    io_offset: write.io_offset,
                    io_len: write.io_len,
                    source: AtomicSource::ALL.iter().position(|one| *one == source).unwrap_or(0),
                });
            }
        }
    }
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
        for block in self.older {
            block.add_newer(self.judge, self.place.target, &mut writes);
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
            if write.start < self.place.offset || write.end > end {
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
        let first = write.start - (write.start - self.place.offset) % block_bytes;
        for offset in (first..write.end).step_by(usize::try_from(block_bytes).unwrap_or(usize::MAX)) {
            if violations.contains(&offset) {
                continue;
            }
            let Ok(at) = self.older.binary_search_by_key(&offset, |block| block.offset) else {
                if newest(offset) == Some((Op::Write, write.sequence)) {
                    shows = true;
                    parts.push((offset.max(write.start)..(offset + block_bytes).min(write.end), None));
                }
                continue;
            };
            let block = &self.older[at];
            // Where it is not among those that may stand, something newer must.
            let Some(position) = block.position(write.sequence) else { continue };
            for (part, shown) in &block.parts {
                let (from, to) = (offset + part.start as u64, offset + part.end as u64);
                if from >= write.end || to <= write.start {
                    continue;
                }
                let is_older = match shown {
                    Shown::Candidate(shown) if *shown < position => continue,
                    Shown::Candidate(shown) => *shown > position,
                    Shown::Before => true,
                    Shown::Other => continue,
                };
                shows |= !is_older;
                parts.push((from..to, is_older.then(|| describe(block, *shown))));
                if is_older && older.last() != Some(&at) {
                    older.push(at);
                }
            }
        }
        if !shows {
            return;
        }
        let sentence = self.sentence(write, &parts);
        for at in older {
            let block = &self.older[at];
            if let Some(finding) =
                self.findings.get_mut(block.finding).filter(|it| it.verdict != Verdict::Torn)
            {
                let source = AtomicSource::ALL[write.source];
                let (was, demanded) = (finding.verdict, block.demanded);
                self.torn.push(Torn { finding: block.finding, was, demanded });
                finding.verdict = Verdict::Torn;
                finding.stands.clone_from(&sentence);
                finding.promise = match source {
                    AtomicSource::Lba => "a logical block is written whole".to_owned(),
                    source => format!("{} whole ({source})", format_size(write.end - write.start)),
                };
                finding.atomic = Some(source);
            }
        }
    }

    /// Which logical blocks of a write show it, and which do not.
    fn sentence(&self, write: &WholeWrite, parts: &[(Range<u64>, Option<String>)]) -> String {
        let lba = self.judge.target(write.target).lba() as u64;
        let runs = parts.chunk_by(|one, next| one.1 == next.1 && one.0.end == next.0.start);
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
}

/// What an older part shows.
fn describe(block: &OlderBlock, shown: Shown) -> String {
    match shown {
        Shown::Candidate(at) => {
            let candidate = &block.allowed.candidates[at];
            if candidate.op == Op::Write {
                format!("from write {}", candidate.sequence)
            } else {
                "zeros of a trim".to_owned()
            }
        }
        Shown::Before | Shown::Other => "from before the run".to_owned(),
    }
}

/// Puts writes that no single read had together into reads of at most `most_bytes`, by offset.
pub(super) fn spans(mut open: Vec<WholeWrite>, lba: impl Fn(u16) -> u64, most_bytes: u64) -> Vec<SweepRead> {
    open.sort_unstable();
    let mut spans: Vec<SweepRead> = Vec::new();
    for write in open {
        let lba = lba(write.target).max(1);
        let (from, to) = (write.start - write.start % lba, write.end.next_multiple_of(lba));
        let fits = |span: &SweepRead| {
            let place = span.place;
            place.target == write.target && place.offset <= from && to <= place.offset + most_bytes
        };
        match spans.last_mut().filter(|span| fits(span)) {
            Some(span) => {
                let len = u32::try_from(to - span.place.offset).unwrap_or(u32::MAX);
                span.len = span.len.max(len);
            }
            None => spans.push(SweepRead {
                place: Place { target: write.target, offset: from },
                len: u32::try_from(to - from).unwrap_or(u32::MAX),
            }),
        }
    }
    spans
}
