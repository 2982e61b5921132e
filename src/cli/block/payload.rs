//! The payload of a block: made again, compared, and each sector of it traced to its write.

use crate::verify::block::{Header, Tag};
use crate::verify::payload::{Payload, SECTOR, STAMP_BYTES, Stamp, Writer};

use super::decode::Fact;

/// Payloads of other writes that are made to compare with.
const MOST_OTHERS: usize = 8;
/// Writes whose stamps are counted.
const MOST_WRITES: usize = 512;
/// Lines about sectors.
const MOST_LINES: usize = 64;

/// What the payload should be: whose, and for which place.
#[derive(Debug)]
pub struct Meant {
    pub writer: Writer,
    bytes: Vec<u8>,
    /// Length of header, digest and tag, which lie over the payload.
    head: usize,
}

/// The payload of `len` bytes that `writer` left in a block at `offset`, of which the first `head` bytes
/// are not payload.
fn payload(writer: Writer, offset: u64, len: usize, head: usize, is_version_1: bool) -> Vec<u8> {
    let mut bytes = vec![0; len];
    if is_version_1 {
        Payload::default().fill_of_version_1(&mut bytes, writer, offset);
    } else {
        Payload::default().fill(&mut bytes, writer, offset, head);
    }
    bytes
}

impl Meant {
    /// A header that can be believed names the write, together with a tag that has the header's seed;
    /// otherwise most of the stamps do. `None` if nothing of ours stands here, or nothing that says whose it is.
    pub fn of(
        block: &[u8],
        offset: u64,
        header: &Header,
        believed: bool,
        (tag, head): (Option<&Tag>, usize),
    ) -> Option<Meant> {
        let stamped = most_common(&stamps(block));
        let named = tag.map(|tag| Writer {
            run: u32::try_from(tag.run.0 & 0xffff_ffff).unwrap_or(0),
            worker: header.worker,
            sequence: header.sequence,
        });
        let is_version_1 = tag.is_some_and(|tag| tag.version == 1);
        let (writer, from, is_version_1) = match (named, stamped) {
            (Some(writer), _) if believed && writer.seed() == header.seed => {
                (writer, header.offset, is_version_1)
            }
            (_, Some((writer, from, is_version_1))) => (writer, from, is_version_1),
            (Some(writer), None) => (writer, offset, is_version_1),
            (None, None) => return None,
        };
        Some(Meant { writer, bytes: payload(writer, from, block.len(), head, is_version_1), head })
    }

    /// What stands behind the digest, with the payload as it was meant.
    pub fn behind(&self, block: &[u8], front: usize, skip: usize) -> Vec<u8> {
        let skip = skip.min(block.len());
        let mut bytes = block[front.min(skip)..skip].to_vec();
        bytes.extend(&self.bytes[skip..]);
        bytes
    }

    /// Whether the payload stands there as it was meant.
    pub fn stands(&self, block: &[u8], skip: usize) -> bool {
        let skip = skip.min(block.len());
        self.bytes[skip..] == block[skip..]
    }
}

/// All stamps, with where in the block they stand.
fn stamps(block: &[u8]) -> Vec<(usize, Stamp)> {
    let places = (SECTOR..block.len()).step_by(SECTOR);
    places.filter_map(|at| Stamp::read(&block[at..]).map(|stamp| (at, stamp))).collect()
}

/// Whether sectors name a write of this tool.
pub fn has_stamps(block: &[u8]) -> bool {
    (SECTOR..block.len()).step_by(SECTOR).any(|at| Stamp::read(&block[at..]).is_some())
}

/// The write that most stamps name, where its block begins, and whether it is of version 1.
fn most_common(stamps: &[(usize, Stamp)]) -> Option<(Writer, u64, bool)> {
    let mut counts: Vec<((Writer, u64, bool), usize)> = Vec::new();
    for (at, stamp) in stamps {
        let Some(from) = stamp.offset.checked_sub(*at as u64) else { continue };
        let key = (stamp.writer, from, stamp.index.is_none());
        match counts.iter().position(|(known, _)| *known == key) {
            Some(index) => counts[index].1 += 1,
            None if counts.len() < MOST_WRITES => counts.push((key, 1)),
            None => {}
        }
    }
    // The first of equals.
    counts.iter().rev().max_by_key(|(_, count)| *count).map(|(key, _)| *key)
}

/// Compares what stands from byte `skip` on, and says whose the sectors are if it is not as meant.
pub fn facts(block: &[u8], skip: usize, meant: Option<&Meant>) -> Vec<Fact> {
    let Some(meant) = meant else {
        return vec![Fact::new("contents", "cannot be made again: fio's random bytes, or a pattern")];
    };
    let skip = skip.min(block.len());
    let (found, wanted) = (&block[skip..], &meant.bytes[skip..]);
    let Some(first) = found.iter().zip(wanted).position(|(one, other)| one != other) else {
        return vec![Fact::new("contents", "is what it should be").should(true, "")];
    };
    let bytes = found.iter().zip(wanted).filter(|(one, other)| one != other).count();
    let bits: u32 = found.iter().zip(wanted).map(|(one, other)| (one ^ other).count_ones()).sum();
    let value = format!("{bytes} bytes ({bits} bits) are not those of {}", name(meant.writer));
    let note = format!(
        "the first is byte {}: {:#04x} where {:#04x} should be",
        skip + first,
        found[first],
        wanted[first]
    );
    let mut facts = vec![Fact::new("contents", value).should(false, note)];
    facts.extend(sector_facts(block, skip, meant));
    facts
}

fn name(writer: Writer) -> String {
    format!("write {} of worker {} of run ...{:08x}", writer.sequence, writer.worker, writer.run)
}

/// Whose the sectors are, neighbours of one owner in one line.
fn sector_facts(block: &[u8], skip: usize, meant: &Meant) -> Vec<Fact> {
    let mut others = Vec::new();
    let owners: Vec<String> =
        (0..block.len()).step_by(SECTOR).map(|at| owner(block, at, skip, meant, &mut others)).collect();
    let mut facts = Vec::new();
    for run in owners.chunk_by(|one, other| one == other) {
        let number = facts.iter().map(|(count, _)| *count).sum::<usize>();
        let (first, last) = (number * SECTOR, ((number + run.len()) * SECTOR).min(block.len()) - 1);
        facts.push((run.len(), Fact::new("bytes", format!("{first} to {last}: {}", run[0]))));
    }
    let more = facts.len().saturating_sub(MOST_LINES);
    let mut facts: Vec<Fact> = facts.into_iter().take(MOST_LINES).map(|(_, fact)| fact).collect();
    if more > 0 {
        facts.push(Fact::new("bytes", format!("and {more} more stretches")));
    }
    facts
}

type Other = (Writer, u64, Vec<u8>);

fn owner(block: &[u8], at: usize, skip: usize, meant: &Meant, others: &mut Vec<Other>) -> String {
    let end = block.len().min(at + SECTOR);
    let start = at.max(skip.min(end));
    let sector = &block[start..end];
    if *sector == meant.bytes[start..end] {
        return format!("{}, as it should be", name(meant.writer));
    }
    if sector.iter().all(|&byte| byte == 0) {
        return "zeros".to_owned();
    }
    if sector.iter().all(|&byte| byte == 0xff) {
        return "ones".to_owned();
    }
    let stamp = if at == 0 { None } else { Stamp::read(sector) };
    let Some((stamp, from)) = stamp.and_then(|stamp| Some((stamp, stamp.offset.checked_sub(at as u64)?)))
    else {
        return without_stamp(sector, &meant.bytes[start..end], meant.writer);
    };
    let known = others.iter().position(|(writer, begin, _)| (*writer, *begin) == (stamp.writer, from));
    let known = known.or_else(|| {
        if others.len() == MOST_OTHERS {
            return None;
        }
        let bytes = payload(stamp.writer, from, block.len(), meant.head, stamp.index.is_none());
        others.push((stamp.writer, from, bytes));
        Some(others.len() - 1)
    });
    let whose = format!("{} for a block at offset {from}", name(stamp.writer));
    match known.map(|index| &others[index].2[start..end]) {
        Some(bytes) if bytes == sector => format!("{whose}, whole"),
        Some(bytes) => format!("{whose}, by its stamp; {}", same_bytes(sector, bytes)),
        None => format!("{whose}, by its stamp"),
    }
}

fn without_stamp(sector: &[u8], wanted: &[u8], writer: Writer) -> String {
    let same = sector.iter().zip(wanted).filter(|(one, other)| one == other).count();
    // Chance makes one byte in 256 the same.
    if same > sector.len() / 8 || same >= STAMP_BYTES {
        format!("{}, damaged; {}", name(writer), same_bytes(sector, wanted))
    } else {
        "bytes of no known write".to_owned()
    }
}

fn same_bytes(sector: &[u8], wanted: &[u8]) -> String {
    let same = sector.iter().zip(wanted).filter(|(one, other)| one == other).count();
    let begins = sector.iter().zip(wanted).take_while(|(one, other)| one == other).count();
    format!("{same} of {} bytes are its, the first {begins} among them", sector.len())
}
