//! What stands in a block that is not plainly what it should be: who wrote it, all of it or which
//! parts, and how it differs. Slow and thorough: it is asked about the few.

use crate::base::Op;
use crate::base::verify::{Finding, Verdict};

use super::block::{HEADER_BYTES, Header, MAGIC, TAG_VERSION, Tag, VERSION, WriteFacts};
use super::judge::{Allowed, Judge, Place};
use super::payload::{SECTOR, Stamp};

/// Bits that may differ for a difference to be called flipped bits.
const MOST_FLIPPED_BITS: u32 = 32;
/// Lines of detail about single LBAs.
const MOST_DETAILS: usize = 16;
/// Shortest stretch of a write's bytes that is no accident.
const TELLING_BYTES: usize = 24;

/// Whose one sector is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// The write of that number of this run and worker, at this place.
    Write(u64),
    Zeros,
    Ones,
    /// A whole sector of somebody or somewhere else.
    Stranger(Stamp),
    /// It begins as the one and ends as something else, from that byte on.
    Split {
        first: u64,
        at: usize,
    },
    Unknown,
}

/// Judges a block that a run has promised something about.
pub(super) fn examine(judge: &Judge, block: &[u8], place: Place, allowed: &Allowed) -> Finding {
    if let Some(verdict) = uniform(block).and_then(|byte| of_uniform(judge, byte, allowed)) {
        let stands = if block.first() == Some(&0) { "zeros" } else { "ones (0xff)" };
        return finding(place, block, verdict, stands);
    }
    if allowed.candidates.first().is_some_and(|newest| newest.op == Op::Deallocate) && !judge.judges_trims() {
        return finding(place, block, Verdict::Ok, "anything, as it was trimmed");
    }
    if !judge.format().method.has_header() {
        return patterned(judge, block, place, allowed);
    }
    match Intact::of(judge, block) {
        Ok(intact) => whole(judge, block, place, allowed, &intact),
        Err(why) => damaged(judge, block, place, allowed, &why),
    }
}

/// Judges a block of which no history is known.
pub(super) fn audit(judge: &Judge, block: &[u8], place: Place, io_offset: u64) -> Finding {
    let nothing = Allowed { issued: u64::MAX, ..Allowed::default() };
    let mut found = if judge.format().method.has_header() {
        audit_headed(judge, block, place, io_offset, &nothing)
    } else if let Some(byte) = uniform(block) {
        let stands = if byte == 0 { "zeros" } else { "ones (0xff)" };
        finding(place, block, Verdict::Blank, stands)
    } else {
        patterned(judge, block, place, &nothing)
    };
    found.allowed = "any intact block of this place".to_owned();
    found.promise = "what was written here is intact; no history is known".to_owned();
    found
}

fn audit_headed(judge: &Judge, block: &[u8], place: Place, io_offset: u64, nothing: &Allowed) -> Finding {
    if let Some(byte) = uniform(block) {
        let stands = if byte == 0 { "zeros" } else { "ones (0xff)" };
        return finding(place, block, Verdict::Unwritten, stands);
    }
    match Intact::of(judge, block) {
        Ok(intact) => {
            let (verdict, stands) = match identity(judge, place, &intact, false) {
                Some(found) => found,
                None if !judge.pattern_fits(block, place, io_offset) => {
                    (Verdict::Corrupt, format!("{}, but not the pattern", intact.describe()))
                }
                None => (Verdict::Ok, intact.describe()),
            };
            finding(place, block, verdict, stands)
        }
        Err(why) => {
            let ours = Header::likeness(block, judge.format().interval, place.offset) >= 2
                || (1..block.len().div_ceil(SECTOR))
                    .any(|number| Stamp::read(&block[number * SECTOR..]).is_some());
            if ours {
                damaged(judge, block, place, nothing, &why)
            } else {
                finding(place, block, Verdict::Unwritten, "nothing that this tool or fio wrote")
            }
        }
    }
}

fn finding(place: Place, block: &[u8], verdict: Verdict, stands: impl Into<String>) -> Finding {
    Finding {
        verdict,
        target: place.target,
        offset: place.offset,
        len: u32::try_from(block.len()).unwrap_or(u32::MAX),
        stands: stands.into(),
        allowed: String::new(),
        promise: String::new(),
        details: Vec::new(),
        named_offset: None,
        rereads: Vec::new(),
    }
}

/// The byte that all of `block` consists of, if that is 0 or 0xff.
fn uniform(block: &[u8]) -> Option<u8> {
    let first = *block.first()?;
    ((first == 0 || first == 0xff) && block.iter().all(|&byte| byte == first)).then_some(first)
}

/// Zeros or ones everywhere: whether they may stand here. `None` if that is for others to say.
fn of_uniform(judge: &Judge, byte: u8, allowed: &Allowed) -> Option<Verdict> {
    let trim = |candidate: &super::judge::Candidate| candidate.op == Op::Deallocate;
    if byte == 0
        && let Some(at) = allowed.candidates.iter().position(trim)
    {
        return Some(Judge::at_candidate(at, allowed));
    }
    // A pattern may be just that byte.
    let all_that_byte = |pattern: &super::payload::PatternFill| {
        pattern.pattern.offsets.is_empty() && pattern.pattern.bytes.iter().all(|&other| other == byte)
    };
    if !judge.format().method.has_header() && judge.format().pattern.as_ref().is_some_and(all_that_byte) {
        return None;
    }
    if !allowed.has_floor {
        return Some(Judge::before_all(allowed));
    }
    let trimmed_last = allowed.candidates.first().is_some_and(trim);
    if trimmed_last && !judge.judges_trims() {
        return None;
    }
    Some(if trimmed_last { Verdict::NotZero } else { Verdict::Blank })
}

/// A block without a header: only the pattern can be compared.
fn patterned(judge: &Judge, block: &[u8], place: Place, allowed: &Allowed) -> Finding {
    for (at, candidate) in allowed.candidates.iter().enumerate() {
        if candidate.op == Op::Write && judge.pattern_fits(block, place, candidate.io_offset) {
            return finding(place, block, Judge::at_candidate(at, allowed), "the pattern");
        }
    }
    if !allowed.has_floor && !allowed.candidates.is_empty() {
        return finding(place, block, Judge::before_all(allowed), "something else than the pattern");
    }
    let io_offset = allowed.candidates.first().map_or(place.offset, |newest| newest.io_offset);
    let mut expected = vec![0; block.len()];
    if let Some(pattern) = &judge.format().pattern {
        pattern.fill(&mut expected, place.offset, io_offset);
    }
    let mut found = finding(place, block, Verdict::Corrupt, "not the pattern");
    found.details.push(difference(block, &expected));
    found
}

/// A block whose header and digest are right.
struct Intact {
    header: Header,
    tag: Option<Tag>,
}

impl Intact {
    /// The header is checked by its own crc before any field of it is believed.
    fn of(judge: &Judge, block: &[u8]) -> Result<Intact, String> {
        let format = judge.format();
        let Some(header) = Header::read(block) else {
            return Err("the block is shorter than a header".to_owned());
        };
        let crc = Header::crc_of(block).unwrap_or(0);
        if header.magic != MAGIC {
            return Err(format!("magic {:#06x} where {MAGIC:#06x} should be", header.magic));
        }
        if header.crc != crc {
            return Err(format!("header crc {:#010x}, but its bytes have {crc:#010x}", header.crc));
        }
        if header.version != VERSION {
            return Err(format!("header version {:#04x} where {VERSION:#04x} should be", header.version));
        }
        if header.len != format.interval {
            return Err(format!(
                "the block says it is {} bytes long, and blocks here are {}: is verify_interval right?",
                header.len, format.interval
            ));
        }
        if header.method != format.method as u8 {
            let theirs = crate::base::verify::Method::from_number(header.method);
            return Err(format!(
                "the block was written with verify = \"{}\", and is read with \"{}\"",
                theirs.map_or("?", |method| method.name()),
                format.method.name()
            ));
        }
        if !judge.digest_fits(block) {
            return Err(format!("the {} of the payload is wrong", format.method.name()));
        }
        let tag = block.get(format.front_bytes()..).and_then(Tag::read);
        Ok(Intact { header, tag: tag.filter(|tag| tag.version == TAG_VERSION) })
    }

    fn describe(&self) -> String {
        let Header { sequence, worker, offset, .. } = self.header;
        match &self.tag {
            Some(tag) => format!(
                "write {sequence} of worker {worker} of run {}, for offset {offset}, written {}",
                tag.run,
                self.time()
            ),
            None => format!(
                "write {sequence} of worker {worker}, for offset {offset}, without a tag of this tool"
            ),
        }
    }

    fn time(&self) -> String {
        let written = std::time::UNIX_EPOCH + std::time::Duration::from_secs(u64::from(self.header.seconds));
        humantime::format_rfc3339_seconds(written).to_string()
    }
}

/// Whether an intact block belongs elsewhere or to somebody else, and in words what it is.
fn identity(judge: &Judge, place: Place, intact: &Intact, promised: bool) -> Option<(Verdict, String)> {
    let target = judge.targets[usize::from(place.target)].id;
    let said = intact.describe();
    if let Some(tag) = &intact.tag
        && tag.target != target
    {
        return Some((Verdict::Foreign, format!("{said}, of another target")));
    }
    if intact.header.offset != place.offset {
        return Some((Verdict::Misplaced, said));
    }
    if !promised {
        return None;
    }
    let has_tag = judge.format().has_tag();
    match &intact.tag {
        Some(tag) if judge.knows_run && tag.run != judge.sealer.run => Some((Verdict::StaleRun, said)),
        None if has_tag => Some((Verdict::StaleRun, said)),
        _ if intact.header.worker != judge.sealer.worker => Some((Verdict::Foreign, said)),
        _ => None,
    }
}

/// An intact block where something was promised.
fn whole(judge: &Judge, block: &[u8], place: Place, allowed: &Allowed, intact: &Intact) -> Finding {
    let sequence = intact.header.sequence;
    if let Some((verdict, stands)) = identity(judge, place, intact, true) {
        let verdict = if allowed.has_floor { verdict } else { Judge::before_all(allowed) };
        let mut found = finding(place, block, verdict, stands);
        found.named_offset = Some(intact.header.offset);
        if verdict == Verdict::Misplaced {
            found.details.push(format!(
                "culprit: write {sequence}, meant for offset {}; victim: what should stand at offset {}",
                intact.header.offset, place.offset
            ));
        }
        return found;
    }
    let seed = judge.sealer.seed(sequence);
    let io_offset = allowed.candidates.iter().find(|c| c.op == Op::Write && c.sequence == sequence);
    let io_offset = io_offset.map_or(place.offset, |candidate| candidate.io_offset);
    if judge.compare_seed && intact.header.seed != seed {
        let mut found = finding(place, block, Verdict::Corrupt, intact.describe());
        found
            .details
            .push(format!("its seed is {:#x}, that of write {sequence} is {seed:#x}", intact.header.seed));
        return found;
    }
    if judge.format().pattern.is_some() && !judge.pattern_fits(block, place, io_offset) {
        return finding(
            place,
            block,
            Verdict::Corrupt,
            format!("{}, but not the pattern", intact.describe()),
        );
    }
    finding(place, block, judge.by_age(sequence, allowed), intact.describe())
}

/// The block that write `sequence` would have left, with what does not follow from the workload
/// (time, epoch) taken from the block at hand.
pub(super) fn expected(
    judge: &Judge,
    block: &[u8],
    place: Place,
    sequence: u64,
    allowed: &Allowed,
) -> Vec<u8> {
    let header = Header::read(block).unwrap_or_default();
    let tag = block.get(judge.format().front_bytes()..).and_then(Tag::read).unwrap_or_default();
    let known = allowed.candidates.iter().find(|c| c.op == Op::Write && c.sequence == sequence);
    let facts = WriteFacts {
        io_offset: known.map_or(tag.io_offset, |candidate| candidate.io_offset),
        io_len: known.map_or(tag.io_len, |candidate| candidate.io_len),
        sequence,
        time_unix_ns: u64::from(header.seconds) * 1_000_000_000 + u64::from(header.nanoseconds),
        pass: tag.pass,
        flush_epoch: tag.flush_epoch,
    };
    let mut out = vec![0; block.len()];
    let target = judge.targets[usize::from(place.target)].id;
    judge.sealer.seal_block(&mut out, place.offset, target, &facts);
    judge.format().unswap_front(&mut out);
    out
}

/// The writes of which parts may stand here: what was allowed, and what stamps and header name.
fn suspects(judge: &Judge, block: &[u8], place: Place, allowed: &Allowed) -> Vec<u64> {
    let mut suspects: Vec<u64> =
        allowed.candidates.iter().filter(|c| c.op == Op::Write).map(|c| c.sequence).collect();
    let mut add = |sequence: u64| {
        if !suspects.contains(&sequence) && suspects.len() < super::judge::MOST_CANDIDATES * 2 {
            suspects.push(sequence);
        }
    };
    for at in (SECTOR..block.len()).step_by(SECTOR) {
        if let Some(stamp) = Stamp::read(&block[at..])
            && stamp.offset == place.offset + at as u64
            && stamp.writer == judge.sealer.writer(stamp.writer.sequence)
        {
            add(stamp.writer.sequence);
        }
    }
    if let Some(header) = Header::read(block).filter(|header| header.magic == MAGIC) {
        let ours = Header::crc_of(block) == Some(header.crc)
            && header.offset == place.offset
            && header.worker == judge.sealer.worker;
        // A damaged header may still name its write.
        if ours || header.offset == place.offset {
            add(header.sequence);
        }
    }
    suspects
}

/// A block that is not intact: parts of several writes, flipped bits, or worse.
fn damaged(judge: &Judge, block: &[u8], place: Place, allowed: &Allowed, why: &str) -> Finding {
    let writes: Vec<(u64, Vec<u8>)> = suspects(judge, block, place, allowed)
        .into_iter()
        .map(|sequence| (sequence, expected(judge, block, place, sequence, allowed)))
        .collect();
    // Few bits differ from one whole write: flipped.
    let nearest = writes.iter().min_by_key(|(_, bytes)| bits_apart(block, bytes));
    if let Some((sequence, bytes)) = nearest
        && bits_apart(block, bytes) <= MOST_FLIPPED_BITS
    {
        let mut found = finding(place, block, Verdict::Corrupt, format!("write {sequence}, damaged: {why}"));
        found.details.push(difference(block, bytes));
        return found;
    }
    let owners: Vec<Owner> =
        (0..block.len().div_ceil(SECTOR)).map(|number| owner(judge, block, place, number, &writes)).collect();
    if let Some(found) = mixed(judge, block, place, allowed, &owners) {
        return found;
    }
    if !allowed.has_floor
        && !allowed.candidates.is_empty()
        && !owners.iter().any(|o| matches!(o, Owner::Split { .. }))
    {
        // Whatever stood there before may stand there, with parts of what was in flight.
        return finding(place, block, Judge::before_all(allowed), "what stood there before, or parts of it");
    }
    let mut found = finding(place, block, Verdict::Corrupt, format!("no write of ours: {why}"));
    if let Some(shift) = shifted(block, &writes) {
        found.details.push(format!("write {}, shifted by {} bytes", shift.0, shift.1));
    }
    found.details.extend(lba_lines(judge, place, &owners));
    if let Some((sequence, bytes)) = nearest {
        found.details.push(format!("compared with write {sequence}: {}", difference(block, bytes)));
    }
    found
}

/// Whose sector `number` of the block is.
fn owner(judge: &Judge, block: &[u8], place: Place, number: usize, writes: &[(u64, Vec<u8>)]) -> Owner {
    let at = number * SECTOR;
    let sector = &block[at..block.len().min(at + SECTOR)];
    let same = |bytes: &Vec<u8>| bytes[at..at + sector.len()] == *sector;
    if let Some((sequence, _)) = writes.iter().find(|(_, bytes)| same(bytes)) {
        return Owner::Write(*sequence);
    }
    match uniform(sector) {
        Some(0) => return Owner::Zeros,
        Some(_) => return Owner::Ones,
        None => {}
    }
    let begins =
        |bytes: &Vec<u8>| sector.iter().zip(&bytes[at..]).take_while(|(one, other)| one == other).count();
    let longest = writes.iter().map(|(sequence, bytes)| (begins(bytes), *sequence)).max();
    if let Some((len, first)) = longest.filter(|(len, _)| *len >= TELLING_BYTES) {
        let rest = &sector[len..];
        let ends = |bytes: &Vec<u8>| bytes[at + len..at + sector.len()] == *rest;
        let of_another = writes.iter().any(|(sequence, bytes)| *sequence != first && ends(bytes));
        let blank = rest.iter().all(|&byte| byte == 0);
        if of_another || blank || rest.len() >= TELLING_BYTES {
            return Owner::Split { first, at: len };
        }
    }
    match Stamp::read(sector) {
        Some(stamp) if number > 0 => {
            let here = stamp.offset == place.offset + at as u64;
            if here && stamp.writer == judge.sealer.writer(stamp.writer.sequence) {
                Owner::Unknown
            } else {
                Owner::Stranger(stamp)
            }
        }
        _ => Owner::Unknown,
    }
}

/// Parts of several writes: allowed where whole atomic units of what was in flight stand, else torn.
fn mixed(judge: &Judge, block: &[u8], place: Place, allowed: &Allowed, owners: &[Owner]) -> Option<Finding> {
    let known = owners.iter().any(|owner| matches!(owner, Owner::Write(_)))
        || owners.iter().any(|owner| matches!(owner, Owner::Split { .. }));
    let kinds = {
        let mut seen: Vec<Owner> = Vec::new();
        owners.iter().for_each(|owner| {
            if !seen.contains(owner) {
                seen.push(*owner);
            }
        });
        seen
    };
    let unknown = kinds.iter().any(|owner| matches!(owner, Owner::Unknown));
    let old_allowed = !allowed.has_floor && !allowed.candidates.is_empty();
    if !known
        || kinds.len() < 2 && !matches!(kinds.first(), Some(Owner::Split { .. }))
        || unknown && !old_allowed
    {
        return None;
    }
    let may_stand = |owner: &Owner| match owner {
        Owner::Write(sequence) => {
            allowed.candidates.iter().any(|c| c.op == Op::Write && c.sequence == *sequence)
        }
        Owner::Zeros => old_allowed || allowed.candidates.iter().any(|c| c.op == Op::Deallocate),
        Owner::Split { .. } => false,
        Owner::Ones | Owner::Stranger(_) | Owner::Unknown => old_allowed,
    };
    let target = &judge.targets[usize::from(place.target)];
    let whole_units = |unit: usize| {
        let sectors = (unit / SECTOR).max(1);
        let first = usize::try_from(place.offset / SECTOR as u64 % sectors as u64).unwrap_or(0);
        let unit_of = |index: usize| (first + index) / sectors;
        owners.windows(2).enumerate().all(|(at, pair)| unit_of(at) != unit_of(at + 1) || pair[0] == pair[1])
    };
    // Something must have been unsettled for a mix to be there at all.
    let unsettled =
        allowed.candidates.iter().enumerate().any(|(at, c)| {
            !(c.state.is_settled() && allowed.has_floor && at + 1 == allowed.candidates.len())
        });
    let stands = describe_kinds(&kinds);
    if unsettled && owners.iter().all(may_stand) && whole_units(target.atomic()) {
        let loses = allowed.candidates.iter().take(allowed.candidates.len().saturating_sub(1));
        let verdict = if loses.clone().any(|c| c.state.is_settled()) {
            Verdict::AllowedLoss
        } else {
            Verdict::InFlight
        };
        return Some(finding(place, block, verdict, stands));
    }
    let mut found = finding(place, block, Verdict::Torn, stands);
    found.details = lba_lines(judge, place, owners);
    Some(found)
}

fn describe_kinds(kinds: &[Owner]) -> String {
    let parts: Vec<String> = kinds.iter().map(|owner| describe_owner(*owner)).collect();
    format!("parts of several: {}", parts.join("; "))
}

fn describe_owner(owner: Owner) -> String {
    match owner {
        Owner::Write(sequence) => format!("write {sequence}"),
        Owner::Zeros => "zeros".to_owned(),
        Owner::Ones => "ones".to_owned(),
        Owner::Stranger(stamp) => format!(
            "write {} of worker {} of run ...{:08x} for offset {}",
            stamp.writer.sequence, stamp.writer.worker, stamp.writer.run, stamp.offset
        ),
        Owner::Split { first, at } => format!("write {first} up to byte {at}, then something else"),
        Owner::Unknown => "bytes of no known write".to_owned(),
    }
}

/// Which LBA is whose, neighbours of one owner in one line.
fn lba_lines(judge: &Judge, place: Place, owners: &[Owner]) -> Vec<String> {
    let lba = judge.targets[usize::from(place.target)].lba() as u64;
    let mut lines: Vec<String> = Vec::new();
    let mut at = 0;
    while at < owners.len() && lines.len() < MOST_DETAILS {
        let same = owners[at..].iter().take_while(|owner| **owner == owners[at]).count();
        let first = (place.offset + (at * SECTOR) as u64) / lba;
        let last = (place.offset + ((at + same) * SECTOR) as u64 - 1) / lba;
        let name = if first == last { format!("LBA {first}") } else { format!("LBAs {first} to {last}") };
        lines.push(format!("{name}: {}", describe_owner(owners[at])));
        at += same;
    }
    lines
}

fn bits_apart(one: &[u8], other: &[u8]) -> u32 {
    one.iter().zip(other).map(|(a, b)| (a ^ b).count_ones()).sum()
}

/// How a block differs from what was expected.
fn difference(block: &[u8], expected: &[u8]) -> String {
    let Some(first) = block.iter().zip(expected).position(|(one, other)| one != other) else {
        return "no byte differs".to_owned();
    };
    let bytes = block.iter().zip(expected).filter(|(one, other)| one != other).count();
    let part = if first < HEADER_BYTES { "header" } else { "payload" };
    format!(
        "{bytes} bytes ({} bits) differ, the first at byte {first} ({part}): {:#04x} where {:#04x} should be",
        bits_apart(block, expected),
        block[first],
        expected[first]
    )
}

/// Whether a write stands here, but a few bytes too early or too late.
fn shifted(block: &[u8], writes: &[(u64, Vec<u8>)]) -> Option<(u64, i64)> {
    let middle = block.len() / 2 / 8 * 8;
    for (sequence, bytes) in writes {
        let needle = bytes.get(middle..middle + TELLING_BYTES)?;
        let found = block.windows(TELLING_BYTES).position(|window| window == needle);
        if let Some(at) = found.filter(|&at| at != middle) {
            return Some((*sequence, at.cast_signed() as i64 - middle.cast_signed() as i64));
        }
    }
    None
}
