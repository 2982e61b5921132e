//! Blocks that are not intact: mixes that may stand, parts of several writes, flipped bits, or worse.
//!
//! Parts are compared in the order in which they stand on the medium, so with the header at its own
//! place ([`super::block::BlockFormat::swap_front`]): what a device tears are logical blocks.

mod owners;

use std::ops::Range;

use crate::base::Op;
use crate::base::atomic::AtomicSource;
use crate::base::units::format_size;
use crate::base::verify::{Finding, Verdict};

use super::block::{HEADER_BYTES, Header, MAGIC, Sealer, TAG_BYTES, TAG_VERSION, Tag, WriteFacts};
use super::diagnose::{Intact, finding};
use super::judge::{Allowed, Judge, Place, Shown, TargetIdentity};
use super::owner::{Owner, describe_kinds};
use super::payload::{Payload, SECTOR, Stamp};

/// Bits that may differ for a difference to be called flipped bits.
const MOST_FLIPPED_BITS: u32 = 12;
/// Lines of detail about single LBAs.
const MOST_DETAILS: usize = 16;
/// How many of the bytes that only one write has (see [`Payload::telling_bytes`]) a stretch must have in
/// it to be of that write: 40 bits that agree are not chance.
const TELLING: usize = 5;
/// Shortest stretch of a pattern that is not chance.
const TELLING_PATTERN: usize = 24;
/// Length of the stretch that is looked for where a block may be shifted.
const NEEDLE_BYTES: usize = 24;
/// The seed of a header, which only one write has.
const SEED: Range<usize> = 8..16;
/// Candidates with which a block is compared, unless it names others.
const MOST_COMPARED: usize = 32;
/// Writes named in a block with which it is compared.
const MOST_NAMED: usize = 32;

/// One write of which parts may stand here.
struct Suspect {
    sequence: u64,
    /// The block it would have left, as on the medium.
    bytes: Vec<u8>,
    /// Its sectors have tails, which payloads of version 1 had not.
    has_tails: bool,
}

/// A block that is not intact, and what it is compared with.
pub(super) struct Damage<'a> {
    judge: &'a Judge,
    /// Header first.
    block: &'a [u8],
    /// As on the medium.
    medium: Vec<u8>,
    place: Place,
    allowed: &'a Allowed,
    suspects: Vec<Suspect>,
    /// Where on the medium the bytes are that only one write has.
    telling: Vec<u8>,
}

impl<'a> Damage<'a> {
    pub(super) fn of(judge: &'a Judge, block: &'a [u8], place: Place, allowed: &'a Allowed) -> Damage<'a> {
        let mut medium = block.to_vec();
        judge.format().swap_front(&mut medium);
        let telling = telling(judge, block.len());
        let mut damage = Damage { judge, block, medium, place, allowed, suspects: Vec::new(), telling };
        damage.suspects =
            damage.named().into_iter().flat_map(|sequence| damage.suspects_of(sequence)).collect();
        damage
    }

    /// The numbers of the writes of which parts may stand here: what was allowed, and what stamps
    /// and header name.
    fn named(&self) -> Vec<u64> {
        let writes = self.allowed.candidates.iter().filter(|c| c.op == Op::Write);
        let mut named: Vec<u64> = if self.judge.format().pattern.is_some() {
            // Patterns differ by where their I/O began, and name nothing.
            let mut origins: Vec<u64> = Vec::new();
            let is_new = |c: &&super::judge::Candidate| {
                let new = !origins.contains(&c.io_offset);
                if new {
                    origins.push(c.io_offset);
                }
                new
            };
            writes.filter(is_new).map(|c| c.sequence).collect()
        } else {
            writes.take(MOST_COMPARED).map(|c| c.sequence).collect()
        };
        let most = named.len() + MOST_NAMED;
        let mut add = |sequence: u64| {
            if !named.contains(&sequence) && named.len() < most {
                named.push(sequence);
            }
        };
        let sealer = self.sealer();
        // A damaged header may still name its write.
        let header = Header::read(self.block).filter(|header| header.magic == MAGIC);
        let header = header.filter(|header| header.offset == self.place.offset);
        if let Some(header) = header.filter(|_| self.can_be_made_again()) {
            add(header.sequence);
        }
        for at in (SECTOR..self.block.len()).step_by(SECTOR) {
            if let Some(stamp) = Stamp::read(&self.block[at..])
                && stamp.offset == self.place.offset.wrapping_add(at as u64)
                && stamp.writer == sealer.writer(stamp.writer.sequence)
            {
                add(stamp.writer.sequence);
            }
        }
        let of = sealer.writer(0);
        for at in (0..self.block.len()).step_by(SECTOR) {
            let sector = &self.block[at..self.block.len().min(at + SECTOR)];
            if let Some(sequence) = Stamp::sequence_of_tail(sector, of, self.place.offset, at) {
                add(sequence);
            }
        }
        named
    }

    /// What a write would have left: in a block with parts of version 1 of the payload, which a run that is
    /// continued may have begun with, in both versions.
    fn suspects_of(&self, sequence: u64) -> Vec<Suspect> {
        let is_old_tag = self.judge.tag(self.block).is_some_and(|tag| tag.version == 1);
        let mut sectors = self.block.chunks(SECTOR).skip(1).filter_map(Stamp::read);
        let has_old = is_old_tag || sectors.any(|stamp| stamp.index.is_none());
        let sealer = self.sealer();
        let new = Suspect {
            sequence,
            bytes: self.expected_of(&sealer, sequence),
            has_tails: sealer.version == TAG_VERSION,
        };
        if !has_old || sealer.version != TAG_VERSION {
            return vec![new];
        }
        let old = Sealer { version: 1, ..sealer };
        vec![new, Suspect { sequence, bytes: self.expected_of(&old, sequence), has_tails: false }]
    }

    /// Whether it is known what the write that a header names would have left. An audit knows no run
    /// but the one in a tag, and blocks of fio have none.
    fn can_be_made_again(&self) -> bool {
        let format = self.judge.format();
        self.judge.knows_run || !format.has_tag() || self.judge.tag(self.block).is_some()
    }

    /// Makes the blocks it is compared with: of the run that is judged, or if none is known, of the
    /// one that the block names.
    fn sealer(&self) -> Sealer {
        let mut sealer = self.judge.sealer.clone();
        if !self.judge.knows_run
            && let Some(tag) = self.judge.tag(self.block)
        {
            sealer.run = tag.run;
            sealer.worker = Header::read(self.block).unwrap_or_default().worker;
            sealer.version = if tag.is_known() { tag.version } else { sealer.version };
        }
        sealer
    }

    /// The block that write `sequence` would have left, with what does not follow from the workload
    /// (time, epoch) taken from the block at hand.
    pub(super) fn expected(&self, sequence: u64) -> Vec<u8> {
        self.expected_of(&self.sealer(), sequence)
    }

    fn expected_of(&self, sealer: &Sealer, sequence: u64) -> Vec<u8> {
        let header = Header::read(self.block).unwrap_or_default();
        let tag = self.judge.tag(self.block).unwrap_or_default();
        let known = self.allowed.candidates.iter().find(|c| c.op == Op::Write && c.sequence == sequence);
        let facts = WriteFacts {
            io_offset: known.map_or(tag.io_offset, |candidate| candidate.io_offset),
            io_len: known.map_or(tag.io_len, |candidate| candidate.io_len),
            sequence,
            time_unix_ns: u64::from(header.seconds) * 1_000_000_000 + u64::from(header.nanoseconds),
            pass: tag.pass,
            flush_epoch: tag.flush_epoch,
        };
        let mut out = vec![0; self.block.len()];
        let target = self.judge.targets[usize::from(self.place.target)].id;
        sealer.seal_block(&mut out, self.place.offset, target, &facts);
        out
    }

    /// The verdict on a mix of whole atomic units, each of which may stand; `None` if one may not.
    pub(super) fn allowed_mix(&self) -> Option<(Verdict, String)> {
        self.mix_of(self.judge.targets[usize::from(self.place.target)].atomic())
    }

    /// The same for units of `unit` bytes.
    fn mix_of(&self, unit: usize) -> Option<(Verdict, String)> {
        let candidates = &self.allowed.candidates;
        let before = !self.allowed.has_floor;
        if before && self.judge.format().pattern.is_some() {
            // An earlier run may have laid the same pattern.
            let stands = "what stood there before, or parts of it";
            return Some((Judge::before_all(self.allowed), stands.to_owned()));
        }
        let mut oldest = 0;
        let mut kinds: Vec<String> = Vec::new();
        for unit in self.pieces(unit) {
            let (at, name) = match self.candidate_in(&unit) {
                Some(at) if candidates[at].op == Op::Write => {
                    (at, format!("write {}", candidates[at].sequence))
                }
                Some(at) => (at, "zeros".to_owned()),
                None if self.is_later_pattern(&unit) => (0, "a later write".to_owned()),
                None if before && !self.has_traces(&unit) && !self.names_this_run(&unit) => {
                    (candidates.len(), "what stood there before".to_owned())
                }
                None => return None,
            };
            oldest = oldest.max(at);
            if !kinds.contains(&name) && kinds.len() < MOST_DETAILS {
                kinds.push(name);
            }
        }
        let verdict = match oldest {
            at if at == candidates.len() => Judge::before_all(self.allowed),
            at => match Judge::at_candidate(at, self.allowed) {
                // One write alone would have been intact.
                Verdict::Ok => Verdict::InFlight,
                other => other,
            },
        };
        let parts = kinds.join("; ");
        Some((verdict, if kinds.len() > 1 { format!("parts of several: {parts}") } else { parts }))
    }

    /// The newest candidate that may have left all of `unit`.
    fn candidate_in(&self, unit: &Range<usize>) -> Option<usize> {
        let part = &self.medium[unit.clone()];
        let is_zeros = part.iter().all(|&byte| byte == 0);
        let writes: Vec<u64> = self
            .suspects
            .iter()
            .filter(|one| one.bytes[unit.clone()] == *part)
            .map(|one| one.sequence)
            .collect();
        self.allowed.candidates.iter().position(|candidate| match candidate.op {
            Op::Write => writes.contains(&candidate.sequence),
            _ => is_zeros,
        })
    }

    /// What each logical block, or each part of one, shows.
    pub(super) fn shown(&self) -> Vec<(Range<usize>, Shown)> {
        let lba = self.judge.targets[usize::from(self.place.target)].lba();
        let shown = |unit: Range<usize>| {
            let what = match self.candidate_in(&unit) {
                Some(at) => Shown::Candidate(at),
                None if self.allowed.has_floor || self.has_traces(&unit) => Shown::Other,
                None => Shown::Before,
            };
            (unit, what)
        };
        self.pieces(lba).into_iter().map(shown).collect()
    }

    /// How many of the bytes that only one write has are at the start of `piece` the same in `other`: their
    /// number, and the length of what is the same.
    fn same_from_start(&self, piece: &Range<usize>, one: &Suspect) -> (usize, usize) {
        let (own, other) = (&self.medium[piece.clone()], &one.bytes[piece.clone()]);
        let len = own.iter().zip(other).take_while(|(a, b)| a == b).count();
        (self.telling_in(piece.start..piece.start + len), len)
    }

    /// The same for the end of `piece`.
    fn same_to_end(&self, piece: &Range<usize>, one: &Suspect) -> (usize, usize) {
        if !one.has_tails {
            return (0, 0);
        }
        let (own, other) = (&self.medium[piece.clone()], &one.bytes[piece.clone()]);
        let len = own.iter().rev().zip(other.iter().rev()).take_while(|(a, b)| a == b).count();
        (self.telling_in(piece.end - len..piece.end), len)
    }

    fn telling_in(&self, range: Range<usize>) -> usize {
        self.telling[range].iter().filter(|&&telling| telling > 0).count()
    }

    /// Whether a stretch of this length, with so many bytes in it that only one write has, is of that write.
    fn is_telling(&self, (telling, len): (usize, usize)) -> bool {
        telling >= TELLING || self.judge.format().pattern.is_some() && len >= TELLING_PATTERN
    }

    /// Whether a unit begins or ends as a write does that was allowed there.
    fn has_traces(&self, unit: &Range<usize>) -> bool {
        let is_allowed = |one: &&Suspect| {
            self.allowed.candidates.iter().any(|c| c.op == Op::Write && c.sequence == one.sequence)
        };
        let writes: Vec<&Suspect> = self.suspects.iter().filter(is_allowed).collect();
        self.pieces(SECTOR).into_iter().filter(|piece| unit.contains(&piece.start)).any(|piece| {
            writes.iter().any(|one| {
                self.is_telling(self.same_from_start(&piece, one))
                    || self.is_telling(self.same_to_end(&piece, one))
            })
        })
    }

    /// Whether a unit is as a write left it that was issued after the last that is known of: of such a write
    /// nothing is known but the pattern, wherever its I/O began.
    fn is_later_pattern(&self, unit: &Range<usize>) -> bool {
        let format = self.judge.format();
        let Some(pattern) = format.pattern.as_ref().filter(|_| self.allowed.later_bytes > 0) else {
            return false;
        };
        let front = format.front_bytes();
        let header = Header::read(self.block).unwrap_or_default();
        let is_later = Header::crc_of(self.block) == Some(header.crc)
            && header.offset == self.place.offset
            && header.sequence >= self.allowed.issued;
        self.judge.origins(self.place, self.allowed.later_bytes).any(|origin| {
            let mut expected = vec![0; self.block.len()];
            pattern.fill(&mut expected, self.place.offset, origin);
            if let Some(head) = expected.get_mut(..front).filter(|_| is_later) {
                head.copy_from_slice(&self.block[..front]);
            }
            format.swap_front(&mut expected);
            expected[unit.clone()] == self.medium[unit.clone()]
        })
    }

    /// Whether a sector of a unit is, by its stamp, of this very run and worker, and of no write that may
    /// stand: it cannot have been there before the run.
    fn names_this_run(&self, unit: &Range<usize>) -> bool {
        let pieces = self.pieces(SECTOR).into_iter().filter(|piece| unit.contains(&piece.start));
        self.judge.knows_run
            && self.judge.format().has_tag()
            && pieces.filter_map(|piece| self.stranger(&piece)).any(|stamp| self.is_own(stamp))
    }

    fn is_own(&self, stamp: Stamp) -> bool {
        stamp.writer == self.judge.sealer.writer(stamp.writer.sequence)
    }

    /// What is wrong with a block that may not stand.
    pub(super) fn finding(&self, why: &str) -> Finding {
        if let Some(found) = self.flipped(why) {
            return found;
        }
        let owners: Vec<(Range<usize>, Owner)> =
            self.pieces(SECTOR).into_iter().map(|piece| (piece.clone(), self.owner(&piece))).collect();
        let torn = self.is_torn(&owners);
        let (verdict, stands) = if torn {
            (Verdict::Torn, describe_kinds(&owners))
        } else {
            (Verdict::Corrupt, format!("no write of ours: {why}"))
        };
        let mut found = finding(self.place, self.block, verdict, stands);
        if let Some((sequence, by)) = self.shifted().filter(|_| !torn) {
            found.details.push(format!("write {sequence}, shifted by {by} bytes"));
        }
        found.details.extend(self.lba_lines(&owners));
        let target = &self.judge.targets[usize::from(self.place.target)];
        if torn && target.atomic() > target.lba() && self.mix_of(target.lba()).is_some() {
            // Each logical block may stand: the tear is between them.
            let (whole, source) = self.whole_write(target);
            found.promise = format!("{} whole ({source})", format_size(whole.end - whole.start));
            found.atomic = Some(source);
        }
        if !self.can_be_made_again() {
            let why = "without a tag of this tool: what was meant cannot be made again";
            found.details.push(why.to_owned());
        }
        if let Some((sequence, bytes)) = self.nearest().filter(|_| !torn) {
            let how = difference(self.judge, self.block, &bytes);
            found.details.push(format!("compared with write {sequence}: {how}"));
        }
        found
    }

    /// What the newest write here stores whole, and what promises it.
    fn whole_write(&self, target: &TargetIdentity) -> (Range<u64>, AtomicSource) {
        let at = self.place.offset;
        let newest = self.allowed.candidates.iter().find(|c| c.op == Op::Write && c.io_len > 0);
        let len = u32::try_from(self.block.len()).unwrap_or(u32::MAX);
        let (offset, len) = newest.map_or((at, len), |write| (write.io_offset, write.io_len));
        target.whole(offset, len, at)
    }

    /// The write that differs least, header first.
    fn nearest(&self) -> Option<(u64, Vec<u8>)> {
        let nearest = self.suspects.iter().min_by_key(|one| bits_apart(&self.medium, &one.bytes))?;
        let mut bytes = nearest.bytes.clone();
        self.judge.format().unswap_front(&mut bytes);
        Some((nearest.sequence, bytes))
    }

    /// If few bits differ from one whole write: which.
    pub(super) fn flipped(&self, why: &str) -> Option<Finding> {
        let (sequence, bytes) = self.nearest()?;
        // A flipped bit that only the block knows (its time, say) looks like a wrong checksum.
        let sums = HEADER_BYTES - 4..self.judge.format().front_bytes().max(HEADER_BYTES);
        let covered = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            if self.judge.format().method.has_header() && bytes.len() >= sums.end {
                bytes[sums.clone()].fill(0);
            }
            bytes
        };
        if bits_apart(&covered(self.block), &covered(&bytes)) > MOST_FLIPPED_BITS {
            return None;
        }
        let (sequence, bytes) = self.repaired().unwrap_or((sequence, bytes));
        let stands = format!("write {sequence}, damaged: {why}");
        let mut found = finding(self.place, self.block, Verdict::Corrupt, stands);
        found.details.push(difference(self.judge, self.block, &bytes));
        Some(found)
    }

    /// The block of this worker that one flipped bit of header or tag has made of an intact one.
    pub(super) fn repaired(&self) -> Option<(u64, Vec<u8>)> {
        let format = self.judge.format();
        if !format.method.has_header() {
            return None;
        }
        let header = Header::read(self.block)?;
        let (from, to) = if Header::crc_of(self.block) != Some(header.crc) {
            (0, HEADER_BYTES)
        } else if format.has_tag() {
            (format.front_bytes(), format.front_bytes() + TAG_BYTES)
        } else {
            return None;
        };
        let mut block = self.block.to_vec();
        for bit in from * 8..(to * 8).min(block.len() * 8) {
            block[bit / 8] ^= 1 << (bit % 8);
            let header = Header::read(&block)?;
            let target = self.judge.targets[usize::from(self.place.target)].id;
            let run = |tag: &Tag| {
                tag.target == target && (tag.run == self.judge.sealer.run || !self.judge.knows_run)
            };
            if Header::crc_of(&block) == Some(header.crc)
                && header.offset == self.place.offset
                && (!format.has_tag() || self.judge.tag(&block).as_ref().is_some_and(run))
                && self.suspects.iter().any(|one| one.sequence == header.sequence)
                && Intact::of(self.judge, &block).is_ok()
            {
                return Some((header.sequence, block));
            }
            block[bit / 8] ^= 1 << (bit % 8);
        }
        None
    }

    /// The pieces of the block that the multiples of `unit` bytes on the target cut it into.
    fn pieces(&self, unit: usize) -> Vec<Range<usize>> {
        let unit_bytes = unit as u64;
        let into = usize::try_from(self.place.offset % unit_bytes).unwrap_or(0);
        let mut cuts: Vec<usize> = vec![0];
        cuts.extend((unit - into..self.block.len()).step_by(unit));
        let ends = cuts.iter().copied().skip(1).chain([self.block.len()]);
        cuts.iter().copied().zip(ends).map(|(from, to)| from..to).filter(|piece| !piece.is_empty()).collect()
    }

    /// Whether a write stands here, but a few bytes too early or too late.
    fn shifted(&self) -> Option<(u64, i64)> {
        if self.judge.format().pattern.is_some() {
            return None;
        }
        let middle = self.medium.len() / 2 / 8 * 8;
        self.suspects.iter().find_map(|one| {
            let needle = one.bytes.get(middle..middle + NEEDLE_BYTES)?;
            let at = self.medium.windows(NEEDLE_BYTES).position(|window| window == needle)?;
            let by = at.cast_signed() as i64 - middle.cast_signed() as i64;
            (by != 0).then_some((one.sequence, by))
        })
    }
}

/// Where on the medium a block has bytes that only one write has, marked by ones.
fn telling(judge: &Judge, len: usize) -> Vec<u8> {
    let format = judge.format();
    if !format.has_tag() {
        return vec![0; len];
    }
    let mut telling: Vec<u8> =
        Payload::telling_bytes(len, format.head_bytes()).into_iter().map(u8::from).collect();
    if let Some(seed) = telling.get_mut(SEED) {
        seed.fill(1);
    }
    format.swap_front(&mut telling);
    telling
}

fn bits_apart(one: &[u8], other: &[u8]) -> u32 {
    one.iter().zip(other).map(|(a, b)| (a ^ b).count_ones()).sum()
}

/// How a block differs from what was expected.
pub(super) fn difference(judge: &Judge, block: &[u8], expected: &[u8]) -> String {
    let Some(first) = block.iter().zip(expected).position(|(one, other)| one != other) else {
        return "no byte differs".to_owned();
    };
    let bytes = block.iter().zip(expected).filter(|(one, other)| one != other).count();
    let format = judge.format();
    let front = format.front_bytes();
    let part = match first {
        at if at < HEADER_BYTES.min(front) => "header",
        at if at < front => "digest",
        at if format.has_tag() && at < front + TAG_BYTES => "tag",
        _ => "payload",
    };
    format!(
        "{bytes} bytes ({} bits) differ, the first at byte {first} ({part}): {:#04x} where {:#04x} should be",
        bits_apart(block, expected),
        block[first],
        expected[first]
    )
}
