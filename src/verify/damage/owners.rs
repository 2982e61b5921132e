//! Whose the sectors of a damaged block are, and whether they make it torn.

use std::ops::Range;

use crate::base::verify::Method;
use crate::verify::block::{HEADER_BYTES, Header, MAGIC, Tag};
use crate::verify::owner::{Owner, Part, blank, describe_owner};
use crate::verify::payload::{Payload, SECTOR, STAMP_BYTES, Stamp, TAIL_BYTES, Writer};

use super::{Damage, Suspect};

/// Lines of detail about single LBAs.
const MOST_DETAILS: usize = 16;
/// Bytes in which a short beginning differs from the rest's write, if it is of another.
const TELLING_DIFFERENCE: usize = 3;
/// Length of the stretch that is looked for in the pool.
const MOST_OF_POOL: usize = 128;
/// Shortest stretch of the pool that is not chance.
const TELLING_POOL: usize = 8;

impl Damage<'_> {
    /// The write that a piece names by itself: by a stamp, or by a header of any format, with its tag.
    pub(super) fn stranger(&self, piece: &Range<usize>) -> Option<Stamp> {
        let sector = &self.medium[piece.clone()];
        if piece.start > 0 {
            return Stamp::read(sector).or_else(|| named_by_header(sector));
        }
        named_by_header(self.block).or_else(|| named_by_header(sector))
    }

    /// Whose a sector is.
    pub(super) fn owner(&self, piece: &Range<usize>) -> Owner {
        let sector = &self.medium[piece.clone()];
        if let Some(one) = self.suspects.iter().find(|one| one.bytes[piece.clone()] == *sector) {
            return Owner::Write(one.sequence);
        }
        if let Some(Part::Zeros) = blank(sector) {
            return Owner::Zeros;
        } else if blank(sector).is_some() {
            return Owner::Ones;
        }
        if let Some(split) = self.split(piece) {
            return split;
        }
        match self.stranger(piece) {
            Some(stamp) if stamp.writer != self.sealer().writer(stamp.writer.sequence) => {
                Owner::Stranger(stamp)
            }
            Some(stamp) if !self.is_here(stamp, piece) => Owner::Stranger(stamp),
            _ => Owner::Unknown,
        }
    }

    fn is_here(&self, stamp: Stamp, piece: &Range<usize>) -> bool {
        stamp.offset == self.place.offset.wrapping_add(piece.start as u64)
    }

    /// A sector that begins as one write and ends as something else that may have been written, or the
    /// other way round.
    fn split(&self, piece: &Range<usize>) -> Option<Owner> {
        let sector = &self.medium[piece.clone()];
        let longest = |same: &dyn Fn(&Suspect) -> (usize, usize)| {
            let all = self.suspects.iter().map(|one| (same(one), one.sequence));
            all.filter(|(same, _)| self.is_telling(*same)).max_by_key(|((_, len), _)| *len)
        };
        let head = longest(&|one| self.same_from_start(piece, one));
        let tail = longest(&|one| self.same_to_end(piece, one));
        if let Some(((_, len), first)) = head {
            // What digest and tag were is not known of the one write, nor of the other.
            let format = self.judge.format();
            let head_ends = if format.has_tag() { format.head_bytes() } else { 0 };
            let from = match piece.start {
                0 if len >= HEADER_BYTES && head_ends < sector.len() => len.max(head_ends),
                _ => len,
            };
            let rest = &sector[from..];
            let ends =
                |one: &&Suspect| one.sequence != first && one.bytes[piece.start + from..piece.end] == *rest;
            let then = if let Some((_, other)) = tail.filter(|(_, last)| *last != first) {
                Part::Write(other)
            } else if let Some(other) = self.suspects.iter().find(ends) {
                Part::Write(other.sequence)
            } else if let Some(blank) = blank(rest) {
                blank
            } else if tail.is_none()
                && (!self.allowed.has_floor || self.may_be_ours(piece.start + len..piece.end))
            {
                Part::Other
            } else {
                return None;
            };
            return Some(Owner::Split { first: Part::Write(first), then, at: piece.start + len });
        }
        let ((_, len), last) = tail?;
        let at = piece.end - len;
        let before = &sector[..sector.len() - len];
        let here = self.stranger(piece).is_some_and(|stamp| self.is_here(stamp, piece));
        let begins = |one: &&Suspect| one.sequence != last && one.bytes[piece.start..at] == *before;
        let first = match blank(before) {
            Some(blank) => blank,
            None if let Some(one) = self.suspects.iter().find(begins)
                && self.differ(one, last, piece.start..at) >= TELLING_DIFFERENCE =>
            {
                Part::Write(one.sequence)
            }
            None if here || !self.allowed.has_floor => Part::Other,
            None => return None,
        };
        Some(Owner::Split { first, then: Part::Write(last), at })
    }

    /// In how many of these bytes of the block `one` differs from the write `other`.
    fn differ(&self, one: &Suspect, other: u64, range: Range<usize>) -> usize {
        let other = self.suspects.iter().find(|one| one.sequence == other);
        other.map_or(0, |other| {
            let pairs = one.bytes[range.clone()].iter().zip(&other.bytes[range]);
            pairs.filter(|(one, other)| one != other).count()
        })
    }

    /// Whether some write of this tool, whichever, may have left these bytes of the block.
    fn may_be_ours(&self, range: Range<usize>) -> bool {
        let format = self.judge.format();
        if format.pattern.is_some() || format.header_at > 0 {
            return false;
        }
        // Heads and stamps come from no pool.
        let sector = range.start / SECTOR * SECTOR;
        let head = if sector == 0 { format.head_bytes() } else { sector + STAMP_BYTES };
        let end = range.end.min(sector + SECTOR - TAIL_BYTES);
        // The end is payload in any format.
        let from = range.start.max(head).max(end.saturating_sub(MOST_OF_POOL));
        range.end <= sector + SECTOR
            && end >= from + TELLING_POOL
            && Payload::default().may_leave(&self.block[from..end], from)
    }

    /// Whether all that stands here was written for this place, but in parts.
    pub(super) fn is_torn(&self, owners: &[(Range<usize>, Owner)]) -> bool {
        let may_be_old = !self.allowed.has_floor && !self.allowed.candidates.is_empty();
        let for_here = |(piece, owner): &(Range<usize>, Owner)| match owner {
            Owner::Stranger(stamp) => self.is_here(*stamp, piece) || may_be_old && !self.is_own(*stamp),
            Owner::Unknown => may_be_old,
            _ => true,
        };
        let is_split = |(_, owner): &(Range<usize>, Owner)| matches!(owner, Owner::Split { .. });
        let is_known = |(_, owner): &(Range<usize>, Owner)| matches!(owner, Owner::Write(_));
        let several = owners.windows(2).any(|pair| pair[0].1 != pair[1].1);
        let mut strangers = owners.iter().filter_map(|(_, owner)| match owner {
            Owner::Stranger(stamp) => Some(stamp.writer),
            _ => None,
        });
        let first = strangers.next();
        let several_strangers = strangers.any(|other| Some(other) != first);
        owners.iter().all(for_here)
            && (owners.iter().any(is_split) || owners.iter().any(is_known) && several || several_strangers)
    }

    /// Which LBA is whose, neighbours of one owner in one line.
    pub(super) fn lba_lines(&self, owners: &[(Range<usize>, Owner)]) -> Vec<String> {
        let lba = self.judge.targets[usize::from(self.place.target)].lba() as u64;
        let lines = owners.chunk_by(|one, next| one.1 == next.1).take(MOST_DETAILS).map(|same| {
            let (from, to) = (same[0].0.start, same[same.len() - 1].0.end);
            let first = self.place.offset.wrapping_add(from as u64);
            let last = self.place.offset.wrapping_add(to as u64 - 1);
            let mut name = if first / lba == last / lba {
                format!("LBA {}", first / lba)
            } else {
                format!("LBAs {} to {}", first / lba, last / lba)
            };
            // Not to the end of an LBA: which part of it.
            if !first.is_multiple_of(lba) || !last.wrapping_add(1).is_multiple_of(lba) {
                name.push_str(&format!(" (bytes {from} to {} of the block)", to - 1));
            }
            format!("{name}: {}", describe_owner(same[0].1))
        });
        lines.collect()
    }
}

/// The write that a header names, if it is intact and its tag is of the same write, whatever its format.
fn named_by_header(block: &[u8]) -> Option<Stamp> {
    let header = Header::read(block)?;
    let method = Method::from_number(header.method)?;
    if header.magic != MAGIC || Header::crc_of(block) != Some(header.crc) {
        return None;
    }
    let tag = block.get(HEADER_BYTES + method.digest_bytes()..).and_then(Tag::read)?;
    #[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
    let writer = Writer { run: tag.run.0 as u32, worker: header.worker, sequence: header.sequence };
    (header.seed == writer.seed()).then_some(Stamp::of(writer, header.offset, 0))
}
