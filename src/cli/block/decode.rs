//! The bytes of a block in words, each with whether it is right. The header's own crc is checked
//! before any field in it is believed.

use crate::base::verify::Method;
use crate::verify::block::{HEADER_BYTES, Header, MAGIC, TAG_BYTES, TAG_MAGIC, Tag, VERSION};
use crate::verify::checksum;
use crate::verify::payload::MAX_HEAD;

use super::payload;

/// Length of the header that fio 2.2.10 to 3.40 wrote, and the part of it that its crc covers.
const OLD_HEADER_BYTES: usize = 40;
const OLD_COVERED: usize = 36;
/// Times from then on (2001) are no times since a start of fio.
const CALENDAR_SECONDS: u32 = 1_000_000_000;

/// What the block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// An intact block of ours or fio's, where it should be.
    Intact,
    /// A block of ours or fio's, but not as it was written, or not where.
    Damaged,
    /// Nothing of ours or fio's.
    Nothing,
}

impl Standing {
    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Standing::Intact => "intact",
            Standing::Damaged => "damaged",
            Standing::Nothing => "nothing",
        }
    }
}

/// One line.
#[derive(Clone, Debug)]
pub struct Fact {
    pub name: &'static str,
    pub value: String,
    pub note: String,
    pub right: Option<bool>,
}

impl Fact {
    pub fn new(name: &'static str, value: impl ToString) -> Fact {
        Fact { name, value: value.to_string(), note: String::new(), right: None }
    }

    /// Whether it is right, and what it should be if not.
    pub fn should(mut self, right: bool, otherwise: impl Into<String>) -> Fact {
        self.right = Some(right);
        if !right {
            self.note = otherwise.into();
        }
        self
    }

    pub fn note(mut self, note: impl Into<String>) -> Fact {
        self.note = note.into();
        self
    }
}

/// A block in words.
#[derive(Debug)]
pub struct Decoded {
    pub len: usize,
    pub standing: Standing,
    pub summary: String,
    pub hints: Vec<String>,
    pub sections: Vec<(&'static str, Vec<Fact>)>,
}

/// The length that a header at the start of `bytes` names, if its crc is right.
pub fn believable_len(bytes: &[u8]) -> Option<u32> {
    let len = match sound_header(bytes) {
        Some(header) => header.len,
        None => sound_old_header(bytes)?.len,
    };
    (len >= 8 && u64::from(len) <= super::MOST_BYTES).then_some(len)
}

fn sound_header(bytes: &[u8]) -> Option<Header> {
    Header::read(bytes).filter(|header| header.magic == MAGIC && Header::crc_of(bytes) == Some(header.crc))
}

/// A header inside the block that names the block's own offset, as `verify_offset` puts it.
pub fn header_inside(block: &[u8], offset: u64) -> Option<(usize, Header, Method)> {
    (1..block.len()).find_map(|at| {
        let header = sound_header(&block[at..]).filter(|header| header.offset == offset)?;
        let method = Method::from_number(header.method)?;
        (u64::from(header.len) <= super::MOST_BYTES).then_some((at, header, method))
    })
}

/// Where in `block` the first whole header begins.
pub fn next_header(block: &[u8]) -> Option<usize> {
    (1..block.len()).find(|&at| sound_header(&block[at..]).is_some())
}

/// Says what stands in `block`, which was read at `offset`.
pub fn decode(block: &[u8], offset: u64) -> Decoded {
    if let Some(&byte @ (0 | 0xff)) = block.first()
        && block.iter().all(|&other| other == byte)
    {
        let what = if byte == 0 { "zeros: never written, trimmed, or lost" } else { "ones (0xff) only" };
        return nothing(block, what);
    }
    if sound_header(block).is_none()
        && let Some(old) = sound_old_header(block)
    {
        return decode_old(block, offset, &old);
    }
    match Header::read(block) {
        Some(header) if is_like_ours(block, &header, offset) => decode_ours(block, offset, &header),
        _ => nothing(block, "nothing that fio-spdk or fio wrote with a header"),
    }
}

fn nothing(block: &[u8], what: &str) -> Decoded {
    Decoded {
        len: block.len(),
        standing: Standing::Nothing,
        summary: what.to_owned(),
        hints: Vec::new(),
        sections: Vec::new(),
    }
}

fn is_like_ours(block: &[u8], header: &Header, offset: u64) -> bool {
    let named = header.magic == MAGIC && header.version == VERSION;
    let len = u32::try_from(block.len()).unwrap_or(u32::MAX);
    named
        || sound_header(block).is_some()
        || Header::likeness(block, len, offset) >= 2
        || tag_anywhere(block).is_some()
        || payload::has_stamps(block)
}

/// The method whose digest would put a tag where one stands.
fn tag_anywhere(block: &[u8]) -> Option<Method> {
    let methods = || Method::ALL.iter().map(|(_, method)| *method).filter(|method| method.has_header());
    let mut tagged = methods().filter(|method| {
        block.get(HEADER_BYTES + method.digest_bytes()..).is_some_and(|rest| rest.starts_with(&TAG_MAGIC))
    });
    let first = tagged.clone().next()?;
    // Several digests have the same length; the right one fits, if any does.
    Some(tagged.find(|method| method.digest_bytes() > 0 && digest_fits(*method, block)).unwrap_or(first))
}

fn digest_of(method: Method, data: &[u8]) -> Vec<u8> {
    let mut out = vec![0; method.digest_bytes()];
    checksum::digest(method, data, &mut out);
    out
}

fn digest_fits(method: Method, block: &[u8]) -> bool {
    let front = HEADER_BYTES + method.digest_bytes();
    block.len() >= front && digest_of(method, &block[front..]) == block[HEADER_BYTES..front]
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn decode_ours(block: &[u8], offset: u64, header: &Header) -> Decoded {
    let believed = sound_header(block).is_some();
    let named = Method::from_number(header.method).filter(|method| method.has_header());
    let method = if believed { named } else { tag_anywhere(block).or(named) };
    let front = method.map(|method| HEADER_BYTES + method.digest_bytes());
    let tag = front.and_then(|front| block.get(front..)).and_then(Tag::read);
    let known_tag = tag.filter(Tag::is_known);
    let head = front.map_or(MAX_HEAD, |front| front + TAG_BYTES);
    let meant = payload::Meant::of(block, offset, header, believed, (known_tag.as_ref(), head));

    let mut sections = vec![("header", header_facts(block, offset, header, method, meant.as_ref()))];
    if let (Some(method), Some(front)) = (method, front) {
        sections.push(("digest", vec![digest_fact(method, front, block, meant.as_ref())]));
        sections.push(("tag", tag_facts(tag.as_ref(), header, meant.as_ref())));
        // Without a tag the payload begins right behind the digest, and is nothing that we can make.
        let skip = if tag.is_some() || meant.is_some() { front + TAG_BYTES } else { front };
        sections.push(("payload", payload::facts(block, skip, meant.as_ref())));
    }
    let who = match &tag {
        Some(tag) => format!("write {} of worker {} of run {}", header.sequence, header.worker, tag.run),
        None => format!("write {} of worker {}, without a tag", header.sequence, header.worker),
    };
    finish(block, who, believed.then_some(header.offset), sections)
}

/// Sums up: what is wrong, if anything is.
fn finish(
    block: &[u8],
    who: String,
    named_offset: Option<u64>,
    sections: Vec<(&'static str, Vec<Fact>)>,
) -> Decoded {
    let wrong: Vec<String> = sections
        .iter()
        .flat_map(|(section, facts)| facts.iter().map(move |fact| (section, fact)))
        .filter(|(_, fact)| fact.right == Some(false))
        .map(|(section, fact)| format!("{section} {}", fact.name))
        .collect();
    let (standing, summary) = match (wrong.as_slice(), named_offset) {
        ([], _) => (Standing::Intact, format!("intact, {who}")),
        ([only], Some(named)) if only == "header offset" => {
            (Standing::Damaged, format!("MISPLACED, an intact block of offset {named}: {who}"))
        }
        _ => (Standing::Damaged, format!("DAMAGED, not right: {}; {who}", wrong.join(", "))),
    };
    Decoded { len: block.len(), standing, summary, hints: Vec::new(), sections }
}

fn header_facts(
    block: &[u8],
    offset: u64,
    header: &Header,
    method: Option<Method>,
    meant: Option<&payload::Meant>,
) -> Vec<Fact> {
    let crc = Header::crc_of(block).unwrap_or(0);
    let named = Method::from_number(header.method);
    let name = named.map_or("?", Method::name);
    let should = |value: u64| format!("{value} by the payload");
    let mut seed = Fact::new("seed", format!("{:#018x}", header.seed));
    let mut sequence = Fact::new("sequence", header.sequence).note("the worker's k-th write, from 0");
    let mut worker = Fact::new("worker", header.worker).note("from 1");
    if let Some(meant) = meant {
        let writer = meant.writer;
        seed = seed.should(header.seed == writer.seed(), format!("{:#018x} by the payload", writer.seed()));
        if header.sequence != writer.sequence {
            sequence = sequence.should(false, should(writer.sequence));
        }
        if header.worker != writer.worker {
            worker = worker.should(false, should(u64::from(writer.worker)));
        }
    } else if header.seed == 0 {
        seed = seed.note("none: the payload is a pattern");
    }
    let len_note = format!("there are {} bytes: the target ends, or this is not the length", block.len());
    vec![
        Fact::new("magic", format!("{:#06x}", header.magic))
            .should(header.magic == MAGIC, format!("should be {MAGIC:#06x}")),
        Fact::new("version", format!("{:#04x}", header.version))
            .should(header.version == VERSION, format!("should be {VERSION:#04x}, fio 3.41 or newer")),
        Fact::new("method", format!("{} = {name}", header.method)).should(
            named.is_some() && method == named,
            match method {
                Some(method) => format!("should be {} = {}", method as u8, method.name()),
                None => "no method has this number".to_owned(),
            },
        ),
        Fact::new("length", header.len).should(header.len as usize == block.len(), len_note),
        seed,
        Fact::new("offset", header.offset)
            .should(header.offset == offset, format!("but it stands at {offset}")),
        time_fact(header.seconds, header.nanoseconds),
        sequence,
        worker,
        Fact::new("crc", format!("{:#010x}", header.crc)).should(
            header.crc == crc,
            format!("the bytes before have {crc:#010x}: none of them can be believed"),
        ),
    ]
}

fn time_fact(seconds: u32, nanoseconds: u32) -> Fact {
    let raw = format!("{seconds}.{nanoseconds:09}");
    if seconds < CALENDAR_SECONDS {
        return Fact::new("time", raw).note("seconds since fio's start");
    }
    let since = std::time::Duration::from_secs(u64::from(seconds));
    let utc = humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + since);
    Fact::new("time", utc).note(format!("{raw} seconds since 1970"))
}

fn digest_fact(method: Method, front: usize, block: &[u8], meant: Option<&payload::Meant>) -> Fact {
    if method.digest_bytes() == 0 {
        return Fact::new("none", format!("{} has none", method.name()));
    }
    let Some(found) = block.get(HEADER_BYTES..front) else {
        return Fact::new(method.name(), "cut off").should(false, "the block is shorter than its digest");
    };
    let computed = digest_of(method, &block[front..]);
    let mut otherwise = format!("what stands behind it has {}", hex(&computed));
    if let Some(meant) = meant {
        let skip = front + TAG_BYTES;
        if meant.stands(block, skip) {
            otherwise.push_str("; the payload is right, so tag or digest are damaged");
        } else if digest_of(method, &meant.behind(block, front, skip)) == found {
            otherwise.push_str("; it is that of the payload that was meant");
        }
    }
    Fact::new(method.name(), hex(found)).should(found == computed, otherwise)
}

fn tag_facts(tag: Option<&Tag>, header: &Header, meant: Option<&payload::Meant>) -> Vec<Fact> {
    let Some(tag) = tag else {
        let none = Fact::new("none", "no tag: written by fio or with verify_pattern");
        // Only our own payload has stamps.
        return match meant {
            Some(_) => vec![
                Fact::new("magic", "no tag").should(false, "the payload has stamps, so there should be one"),
            ],
            None => vec![none],
        };
    };
    let mut version = Fact::new("version", tag.version);
    if !tag.is_known() {
        version = version.note("of another version of fio-spdk: the payload cannot be made again");
    }
    let mut run = Fact::new("run", tag.run);
    if let Some(meant) = meant {
        let low = format!("{:08x}", meant.writer.run);
        run = run.should(tag.run.to_string().ends_with(&low), format!("the payload is of run ...{low}"));
    }
    let end = tag.io_offset.saturating_add(u64::from(tag.io_len));
    let inside = (tag.io_offset..end).contains(&header.offset);
    vec![
        version,
        run,
        Fact::new("target", format!("{:#018x}", tag.target)),
        Fact::new("pass", tag.pass),
        Fact::new("flush epoch", tag.flush_epoch).note("flushes that had completed"),
        Fact::new("write", format!("offset {}, {} bytes", tag.io_offset, tag.io_len))
            .should(inside, "the block is not inside of it"),
    ]
}

/// The header of fio 2.2.10 to 3.40.
struct OldHeader {
    method: u16,
    len: u32,
    seed: u64,
    offset: u64,
    seconds: u32,
    nanoseconds: u32,
    worker: u16,
    sequence: u16,
    crc: u32,
}

fn sound_old_header(bytes: &[u8]) -> Option<OldHeader> {
    let bytes: &[u8; OLD_HEADER_BYTES] = bytes.first_chunk()?;
    let two = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    let four = |at: usize| u32::from(two(at)) | u32::from(two(at + 2)) << 16;
    let eight = |at: usize| u64::from(four(at)) | u64::from(four(at + 4)) << 32;
    let header = OldHeader {
        method: two(2),
        len: four(4),
        seed: eight(8),
        offset: eight(16),
        seconds: four(24),
        nanoseconds: four(28),
        worker: two(32),
        sequence: two(34),
        crc: four(36),
    };
    let crc = digest_of(Method::Crc32c, &bytes[..OLD_COVERED]);
    (two(0) == MAGIC && crc == header.crc.to_le_bytes()).then_some(header)
}

fn decode_old(block: &[u8], offset: u64, header: &OldHeader) -> Decoded {
    let method = u8::try_from(header.method).ok().and_then(Method::from_number);
    let facts = vec![
        Fact::new("magic", format!("{MAGIC:#06x}")).should(true, ""),
        Fact::new("method", format!("{} = {}", header.method, method.map_or("?", Method::name))),
        Fact::new("length", header.len)
            .should(header.len as usize == block.len(), format!("the target ends after {}", block.len())),
        Fact::new("seed", format!("{:#018x}", header.seed)),
        Fact::new("offset", header.offset)
            .should(header.offset == offset, format!("but it stands at {offset}")),
        time_fact(header.seconds, header.nanoseconds),
        Fact::new("sequence", header.sequence).note("16 bits: it wraps"),
        Fact::new("worker", header.worker).note("from 1"),
        Fact::new("crc", format!("{:#010x}", header.crc)).should(true, ""),
    ];
    let mut sections = vec![("header", facts)];
    if let Some(method) = method.filter(|method| method.digest_bytes() > 0) {
        let front = OLD_HEADER_BYTES + method.digest_bytes();
        let found = block.get(OLD_HEADER_BYTES..front).unwrap_or_default();
        let fact = Fact::new(method.name(), hex(found));
        let computed = digest_of(method, block.get(front..).unwrap_or_default());
        sections.push((
            "digest",
            vec![match method {
                // Its digest was another one before 2025.
                Method::Sha512 => fact.note("not checked: older versions of fio computed another one"),
                _ => fact.should(found == computed, format!("what stands behind it has {}", hex(&computed))),
            }],
        ));
    }
    let who = format!("a block of fio before 3.41, write {} of job {}", header.sequence, header.worker);
    finish(block, who, Some(header.offset), sections)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::verify::RunId;
    use crate::verify::block::{BlockFormat, Sealer, WriteFacts};
    use proptest::prelude::*;

    fn sealed(method: Method, interval: u32) -> Vec<u8> {
        let format = BlockFormat { interval, method, header_at: 0, pattern: None };
        let mut block = vec![0; interval as usize];
        let facts = WriteFacts { io_offset: 4096, io_len: interval, sequence: 9, ..WriteFacts::default() };
        Sealer::new(format, RunId(u128::MAX / 7), 3).seal_block(&mut block, 4096, 5, &facts);
        block
    }

    #[test]
    fn every_single_flipped_bit_is_damage() {
        let block = sealed(Method::Crc32c, 1024);
        assert_eq!(decode(&block, 4096).standing, Standing::Intact);
        for bit in 0..block.len() * 8 {
            let mut damaged = block.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&damaged, 4096).standing, Standing::Damaged, "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_at_all_bring_it_down(
            method in 0..Method::ALL.len(),
            cut in 0_usize..1100,
            changes in prop::collection::vec((0_usize..1024, any::<u8>()), 0..40),
            offset: u64,
        ) {
            let mut block = sealed(Method::ALL[method].1, 1024);
            for (at, byte) in changes {
                block[at] = byte;
            }
            // Parts of it, too, from any byte on.
            block.truncate(cut);
            for start in [0, cut / 3, cut / 2] {
                let part = block.get(start..).unwrap_or_default();
                decode(part, offset);
                believable_len(part);
                header_inside(part, offset);
                next_header(part);
            }
        }

        #[test]
        fn noise_is_nothing(bytes in prop::collection::vec(any::<u8>(), 0..2000), offset: u64) {
            prop_assert_eq!(decode(&bytes, offset).standing, Standing::Nothing);
        }

        #[test]
        fn a_header_whose_fields_say_anything_is_answered(
            fields in any::<(u8, u32, u64, u64, u32, u32, u64, u16)>(), offset: u64,
        ) {
            let (method, len, seed, at, seconds, nanoseconds, sequence, worker) = fields;
            let mut block = sealed(Method::Crc32c, 1024);
            let header = Header {
                magic: MAGIC, version: VERSION, method, len, seed, offset: at, seconds, nanoseconds,
                sequence, worker, padding: 0, crc: 0,
            };
            if let Some(out) = block.first_chunk_mut() {
                header.write(out);
            }
            decode(&block, offset);
        }
    }
}
