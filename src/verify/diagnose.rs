//! What stands in a block that is not plainly what it should be: who wrote it, and whether it may
//! stand. Slow and thorough: it is asked about the few. Blocks that are not intact: [`damage`].

use crate::base::Op;
use crate::base::verify::{Finding, Method, RunId, Verdict};

use super::block::{HEADER_BYTES, Header, MAGIC, TAG_BYTES, Tag, VERSION};
use super::checksum;
use super::damage::{self, Damage};
use super::judge::{Allowed, Candidate, Judge, Place};
use super::payload::{SECTOR, Stamp};
use super::promises::State;

/// I/Os that are tried as the one a pattern was laid over, in blocks before the one at hand.
const MOST_ORIGINS: u64 = 256;

/// Judges a block that a run has promised something about.
pub(super) fn examine(judge: &Judge, block: &[u8], place: Place, allowed: &Allowed) -> Finding {
    if judge.format().method == Method::Null {
        let newest = allowed.candidates.first().map(|_| Judge::at_candidate(0, allowed));
        return finding(
            place,
            block,
            newest.unwrap_or(Verdict::Unwritten),
            "whatever it is: nothing is checked",
        );
    }
    let mut found = promised(judge, block, place, allowed);
    if !found.verdict.is_violation() {
        return found;
    }
    // A trim that may have come later leaves zeros: it excuses nothing else.
    let is_known_trim = |candidate: &Candidate| is_trim(candidate) && candidate.io_len > 0;
    let newest_trim = allowed.candidates.iter().position(is_known_trim);
    if let Some(at) = newest_trim.filter(|_| !judge.judges_trims()) {
        let verdict = Judge::at_candidate(at, allowed);
        return finding(place, block, verdict, "anything, as it was trimmed");
    }
    // Old data, or none of ours, where nothing but zeros may stand.
    let only_zeros = allowed.has_floor && allowed.candidates.iter().all(is_trim);
    let old = matches!(
        found.verdict,
        Verdict::Lost | Verdict::StaleRun | Verdict::Blank | Verdict::Torn | Verdict::Corrupt
    );
    if only_zeros && old {
        found.verdict = Verdict::NotZero;
    }
    found
}

fn is_trim(candidate: &Candidate) -> bool {
    candidate.op == Op::Deallocate
}

fn promised(judge: &Judge, block: &[u8], place: Place, allowed: &Allowed) -> Finding {
    let has_header = judge.format().method.has_header();
    // A pattern may be zeros or ones, so it comes first.
    if !has_header && let Some(found) = patterned(judge, block, place, allowed) {
        return found;
    }
    if let Some(byte) = uniform(block) {
        let stands = if byte == 0 { "zeros" } else { "ones (0xff)" };
        return finding(place, block, of_uniform(byte, allowed), stands);
    }
    if !has_header {
        return damaged(judge, block, place, allowed, "not the pattern");
    }
    match Intact::of(judge, block) {
        Ok(intact) => whole(judge, block, place, allowed, &intact),
        Err(why) => match of_another_format(judge, block, place) {
            Some(run) if allowed.has_floor => {
                finding(place, block, Verdict::StaleRun, format!("a block of run {run}: {why}"))
            }
            _ => damaged(judge, block, place, allowed, &why),
        },
    }
}

/// Judges a block of which no history is known.
pub(super) fn audit(judge: &Judge, block: &[u8], place: Place, io_offset: u64) -> Finding {
    let mut found = if judge.format().method.has_header() {
        audit_headed(judge, block, place, io_offset)
    } else if let Some(byte) = uniform(block) {
        let stands = if byte == 0 { "zeros" } else { "ones (0xff)" };
        finding(place, block, Verdict::Unwritten, stands)
    } else {
        let mut expected = vec![0; block.len()];
        if let Some(pattern) = &judge.format().pattern {
            pattern.fill(&mut expected, place.offset, io_offset);
        }
        let mut found = finding(place, block, Verdict::Corrupt, "not the pattern");
        found.details.push(damage::difference(judge, block, &expected));
        found
    };
    found.allowed = "any intact block of this place".to_owned();
    found.promise = "what was written here is intact; no history is known".to_owned();
    found
}

fn audit_headed(judge: &Judge, block: &[u8], place: Place, io_offset: u64) -> Finding {
    if let Some(byte) = uniform(block) {
        let stands = if byte == 0 { "zeros" } else { "ones (0xff)" };
        return finding(place, block, Verdict::Unwritten, stands);
    }
    match Intact::of(judge, block) {
        Ok(intact) => {
            let (verdict, stands) = match elsewhere(judge, place, &intact) {
                Some(verdict) => (verdict, intact.describe()),
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
                Damage::of(judge, block, place, &as_read(judge, block, io_offset)).finding(&why)
            } else {
                finding(place, block, Verdict::Unwritten, "nothing that this tool or fio wrote")
            }
        }
    }
}

/// What an audit takes for meant. Where a pattern tells, it was laid as it is read; otherwise nothing
/// is known but what the block says of itself.
fn as_read(judge: &Judge, block: &[u8], io_offset: u64) -> Allowed {
    let Header { sequence, len, .. } = Header::read(block).unwrap_or_default();
    if judge.format().pattern.is_none() {
        return Allowed::default();
    }
    let written = Candidate { op: Op::Write, sequence, io_offset, io_len: len, state: State::Completed };
    Allowed { candidates: vec![written], has_floor: true, issued: u64::MAX, later_bytes: 0 }
}

pub(super) fn finding(place: Place, block: &[u8], verdict: Verdict, stands: impl Into<String>) -> Finding {
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
        atomic: None,
    }
}

/// The byte that all of `block` consists of, if that is 0 or 0xff.
fn uniform(block: &[u8]) -> Option<u8> {
    let first = *block.first()?;
    ((first == 0 || first == 0xff) && block.iter().all(|&byte| byte == first)).then_some(first)
}

/// Zeros or ones everywhere: whether they may stand here.
fn of_uniform(byte: u8, allowed: &Allowed) -> Verdict {
    if byte == 0
        && let Some(at) = allowed.candidates.iter().position(is_trim)
    {
        return Judge::at_candidate(at, allowed);
    }
    let Some(floor) = allowed.candidates.last().filter(|_| allowed.has_floor) else {
        return Judge::before_all(allowed);
    };
    let newest = &allowed.candidates[0];
    let trimmed = is_trim(floor) || is_trim(newest) && newest.state.is_settled();
    if trimmed { Verdict::NotZero } else { Verdict::Blank }
}

/// A block without a header: only the pattern can be compared.
fn patterned(judge: &Judge, block: &[u8], place: Place, allowed: &Allowed) -> Option<Finding> {
    let stands = |c: &Candidate| c.op == Op::Write && judge.pattern_fits(block, place, c.io_offset);
    let at = allowed.candidates.iter().position(stands)?;
    Some(finding(place, block, Judge::at_candidate(at, allowed), "the pattern"))
}

/// A block that is not intact: a mix that may stand, or else what is wrong with it.
fn damaged(judge: &Judge, block: &[u8], place: Place, allowed: &Allowed, why: &str) -> Finding {
    if !allowed.has_floor && allowed.candidates.is_empty() {
        return finding(place, block, Verdict::Unwritten, "no intact block");
    }
    let damage = Damage::of(judge, block, place, allowed);
    match damage.allowed_mix() {
        Some((verdict, stands)) => finding(place, block, verdict, stands),
        None => damage.finding(why),
    }
}

/// The run of an intact block for this place, but of another method or length.
fn of_another_format(judge: &Judge, block: &[u8], place: Place) -> Option<RunId> {
    let header = Header::read(block)?;
    let method = Method::from_number(header.method)?;
    let honest = header.magic == MAGIC
        && header.version == VERSION
        && header.offset == place.offset
        && Header::crc_of(block) == Some(header.crc);
    if !honest || method.digest_bytes() == 0 || !judge.knows_run() {
        return None;
    }
    let own = block.get(..usize::try_from(header.len).ok()?)?;
    let (front, covered) = own.split_at_checked(HEADER_BYTES + method.digest_bytes())?;
    let tag = Tag::read(covered)?;
    let mut digest = [0; 128];
    checksum::digest(method, covered, &mut digest);
    let fits = digest[..method.digest_bytes()] == front[HEADER_BYTES..];
    (fits && tag.run != judge.sealer.run).then_some(tag.run)
}

/// The writes of this run and worker that parts of a block name as their own, at their place: number,
/// and where the I/O began and how long it was, as far as that is known.
pub(super) fn named_by(judge: &Judge, block: &[u8], place: Place) -> Vec<(u64, u64, u32)> {
    let sealer = &judge.sealer;
    let mut named = Vec::new();
    if let Some(header) = Header::read(block)
        && Header::crc_of(block) == Some(header.crc)
        && header.offset == place.offset
        && header.worker == sealer.worker
    {
        match judge.tag(block) {
            Some(tag) if tag.run == sealer.run => named.push((header.sequence, tag.io_offset, tag.io_len)),
            // With a pattern nothing says whose run it is.
            None if !judge.format().has_tag() => named.push((header.sequence, place.offset, 0)),
            _ => {}
        }
    }
    for at in (SECTOR..block.len()).step_by(SECTOR) {
        if let Some(stamp) = Stamp::read(&block[at..])
            && stamp.offset == place.offset.wrapping_add(at as u64)
            && stamp.writer == sealer.writer(stamp.writer.sequence)
        {
            named.push((stamp.writer.sequence, place.offset, 0));
        }
    }
    let of = sealer.writer(0);
    for (number, sector) in block.chunks(SECTOR).enumerate().filter(|_| judge.format().has_tag()) {
        if let Some(sequence) = Stamp::sequence_of_tail(sector, of, place.offset, number * SECTOR) {
            named.push((sequence, place.offset, 0));
        }
    }
    named
}

/// A block whose header and digest are right.
pub(super) struct Intact {
    pub(super) header: Header,
    tag: Option<Tag>,
}

impl Intact {
    /// The header is checked by its own crc before any field of it is believed.
    pub(super) fn of(judge: &Judge, block: &[u8]) -> Result<Intact, String> {
        let format = judge.format();
        let room = format.front_bytes() + if format.has_tag() { TAG_BYTES } else { 0 };
        let Some(header) = Header::read(block).filter(|_| block.len() >= room) else {
            return Err("the block is shorter than what it begins with".to_owned());
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
            let name = format.method.name();
            return Err(format!("the {name} of the payload is wrong, or it is of another write"));
        }
        let tag = judge.tag(block);
        Ok(Intact { header, tag: tag.filter(Tag::is_known) })
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

/// Whether an intact block names another target or another offset.
fn elsewhere(judge: &Judge, place: Place, intact: &Intact) -> Option<Verdict> {
    let target = judge.targets[usize::from(place.target)].id;
    if intact.tag.is_some_and(|tag| tag.target != target) {
        Some(Verdict::Foreign)
    } else {
        (intact.header.offset != place.offset).then_some(Verdict::Misplaced)
    }
}

/// Whether an intact block belongs elsewhere or to somebody else than was promised.
fn identity(judge: &Judge, place: Place, intact: &Intact) -> Option<Verdict> {
    let other_run = |tag: &Tag| judge.knows_run && tag.run != judge.sealer.run;
    elsewhere(judge, place, intact).or_else(|| match &intact.tag {
        Some(tag) if other_run(tag) => Some(Verdict::StaleRun),
        None if judge.format().has_tag() => Some(Verdict::StaleRun),
        _ => (intact.header.worker != judge.sealer.worker).then_some(Verdict::Foreign),
    })
}

/// Whether this very worker, in this very run, wrote the block: it cannot have stood there before.
fn is_own(judge: &Judge, intact: &Intact) -> bool {
    judge.knows_run
        && intact.tag.is_some_and(|tag| tag.run == judge.sealer.run)
        && intact.header.worker == judge.sealer.worker
}

/// Whether the seed is that of the write in the header, as far as it is compared.
fn seed_fits(judge: &Judge, intact: &Intact) -> bool {
    let mut sealer = judge.sealer.clone();
    if let Some(tag) = intact.tag.filter(|_| !judge.knows_run) {
        sealer.run = tag.run;
    }
    !judge.compare_seed || intact.header.seed == sealer.seed(intact.header.sequence)
}

/// Whether the pattern stands, if there is one: laid over the I/O that wrote the block, or if that
/// is not known over any that may have.
fn pattern_fits(judge: &Judge, block: &[u8], place: Place, sequence: u64, allowed: &Allowed) -> bool {
    let known = allowed.candidates.iter().find(|c| c.op == Op::Write && c.sequence == sequence);
    match known {
        _ if judge.format().pattern.is_none() => true,
        Some(candidate) => judge.pattern_fits(block, place, candidate.io_offset),
        None => (0..MOST_ORIGINS)
            .filter_map(|back| place.offset.checked_sub(back * u64::from(judge.format().interval)))
            .any(|io_offset| judge.pattern_fits(block, place, io_offset)),
    }
}

/// An intact block where something was promised.
fn whole(judge: &Judge, block: &[u8], place: Place, allowed: &Allowed, intact: &Intact) -> Finding {
    let sequence = intact.header.sequence;
    if let Some(verdict) = identity(judge, place, intact) {
        // Where the digest covers little, a damaged tag passes.
        if allowed.has_floor && judge.format().method.digest_bytes() < 2 {
            let damage = Damage::of(judge, block, place, allowed);
            if damage.repaired().is_some()
                && let Some(found) = damage.flipped("its tag is damaged")
            {
                return found;
            }
        }
        if !allowed.has_floor && !is_own(judge, intact) {
            return finding(place, block, Judge::before_all(allowed), intact.describe());
        }
        let mut found = finding(place, block, verdict, intact.describe());
        found.named_offset = Some(intact.header.offset);
        if verdict == Verdict::Misplaced {
            let victim = allowed.candidates.first().map_or_else(
                || "none that is known".to_owned(),
                |newest| format!("{} {}", if is_trim(newest) { "trim" } else { "write" }, newest.sequence),
            );
            found.details.push(format!(
                "culprit: write {sequence} of worker {}, meant for offset {}; victim: {victim}, at offset {}",
                intact.header.worker, intact.header.offset, place.offset
            ));
        }
        return found;
    }
    if !seed_fits(judge, intact) {
        if !allowed.has_floor && !is_own(judge, intact) {
            return finding(place, block, Judge::before_all(allowed), intact.describe());
        }
        let mut found = finding(place, block, Verdict::Corrupt, intact.describe());
        let (seed, right) = (intact.header.seed, judge.sealer.seed(sequence));
        found.details.push(format!("its seed is {seed:#x}, that of write {sequence} is {right:#x}"));
        return found;
    }
    if !pattern_fits(judge, block, place, sequence, allowed) {
        return damaged(judge, block, place, allowed, "the header is right, but not the pattern");
    }
    finding(place, block, judge.by_age(sequence, allowed), intact.describe())
}
