//! The tables of docs/formats.md are what the code writes: fields are set one by one and looked for
//! where the page says they stand.

use std::ops::Range;
use std::path::Path;

use fio_spdk::base::random;
use fio_spdk::base::verify::{Method, RunId};
use fio_spdk::verify::block::{
    BlockFormat, HEADER_BYTES, Header, MAGIC, Sealer, TAG_BYTES, TAG_MAGIC, TAG_VERSION, Tag, VERSION,
    WriteFacts,
};
use fio_spdk::verify::checksum;
use fio_spdk::verify::payload::{Payload, SECTOR, STAMP_BYTES, Stamp, TAIL_BYTES, Writer};

/// Bytes that stand nowhere by chance: no field is longer.
const MARKER: u64 = 0xa1a2_a3a4_a5a6_a7a8;

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/formats.md");
    std::fs::read_to_string(path).expect("the page")
}

/// The rows of the table below a heading, without its head, as cells.
fn table(heading: &str) -> Vec<Vec<String>> {
    let page = page();
    let section = page.split(&format!("\n## {heading}\n")).nth(1).expect("the section");
    let section = section.split("\n## ").next().expect("its text");
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    section.lines().filter(|line| line.starts_with('|')).skip(2).map(cells).collect()
}

/// The fields of a table with where they stand; they must follow each other and fill `len` bytes.
fn fields(heading: &str, len: usize) -> Vec<(String, Range<usize>)> {
    let mut end = 0;
    let mut fields = Vec::new();
    for row in table(heading) {
        let number = |cell: &str| cell.parse::<usize>().expect("a number");
        let (offset, size) = (number(&row[0]), number(&row[1]));
        assert_eq!(offset, end, "{heading}: {} does not follow the field before", row[2]);
        end += size;
        fields.push((row[2].clone(), offset..end));
    }
    assert_eq!(end, len, "{heading}: the table does not cover it");
    fields
}

/// `bytes` must have the low bytes of the marker in `place`, and nothing anywhere else but in `but`.
fn stands_only_there(name: &str, bytes: &[u8], place: &Range<usize>, but: &Range<usize>) {
    let marker: Vec<u8> = MARKER.to_le_bytes().iter().copied().cycle().take(place.len()).collect();
    assert_eq!(bytes[place.clone()], marker, "{name} is not at {place:?}");
    for (at, byte) in bytes.iter().enumerate() {
        assert!(place.contains(&at) || but.contains(&at) || *byte == 0, "{name} is also at byte {at}");
    }
}

#[test]
fn fields_of_the_header_stand_where_the_page_says() {
    let fields = fields("Header", HEADER_BYTES);
    let crc = fields.last().expect("a row").clone();
    assert_eq!(crc.0, "crc");
    #[expect(clippy::cast_possible_truncation, reason = "a field takes what it has room for")]
    let (one, two, four) = (MARKER as u8, MARKER as u16, MARKER as u32);
    for (name, place) in &fields {
        let zero = Header::default();
        let header = match name.as_str() {
            "magic" => Header { magic: two, ..zero },
            "version" => Header { version: one, ..zero },
            "method" => Header { method: one, ..zero },
            "length" => Header { len: four, ..zero },
            "seed" => Header { seed: MARKER, ..zero },
            "offset" => Header { offset: MARKER, ..zero },
            "seconds" => Header { seconds: four, ..zero },
            "nanoseconds" => Header { nanoseconds: four, ..zero },
            "sequence" => Header { sequence: MARKER, ..zero },
            "worker" => Header { worker: two, ..zero },
            "padding" => Header { padding: two, ..zero },
            "crc" => continue,
            other => panic!("the header has no field {other}"),
        };
        let mut bytes = [0; HEADER_BYTES];
        header.write(&mut bytes);
        stands_only_there(name, &bytes, place, &crc.1);
        assert_eq!(bytes[crc.1.clone()], checksum::header_crc(&bytes[..crc.1.start]).to_le_bytes());
        let read = Header::read(&bytes).expect("a header");
        assert_eq!(Header { crc: 0, ..read }, header);
    }
}

#[test]
fn constants_are_those_of_the_page() {
    let of = |heading: &str, field: &str| {
        table(heading).into_iter().find(|row| row[2] == field).map(|row| row[3].clone()).unwrap_or_default()
    };
    assert_eq!(of("Header", "magic"), format!("{MAGIC:#06x}"));
    assert_eq!(of("Header", "version"), format!("{VERSION:#04x}"));
    assert_eq!(of("Tag", "magic"), format!("the characters `{}`", String::from_utf8_lossy(&TAG_MAGIC)));
    assert_eq!(of("Tag", "version"), TAG_VERSION.to_string());
}

#[test]
fn fields_of_the_tag_stand_where_the_page_says() {
    let fields = fields("Tag", TAG_BYTES);
    let magic = fields.first().expect("a row").1.clone();
    #[expect(clippy::cast_possible_truncation, reason = "a field takes what it has room for")]
    let (two, four) = (MARKER as u16, MARKER as u32);
    for (name, place) in &fields {
        let none = Tag::default();
        let tag = match name.as_str() {
            "version" => Tag { version: two, ..none },
            "run" => Tag { run: RunId(u128::from(MARKER) << 64 | u128::from(MARKER)), ..none },
            "target" => Tag { target: MARKER, ..none },
            "pass" => Tag { pass: MARKER, ..none },
            "flush_epoch" => Tag { flush_epoch: MARKER, ..none },
            "io_offset" => Tag { io_offset: MARKER, ..none },
            "io_len" => Tag { io_len: four, ..none },
            "magic" | "zero" => continue,
            other => panic!("the tag has no field {other}"),
        };
        let mut bytes = [0xff; TAG_BYTES];
        tag.write(&mut bytes);
        assert_eq!(bytes[magic.clone()], TAG_MAGIC);
        stands_only_there(name, &bytes, place, &magic);
        assert_eq!(Tag::read(&bytes), Some(tag));
    }
}

#[test]
fn fields_of_the_stamp_stand_where_the_page_says() {
    let writer = Writer { run: 0x0102_0304, worker: 0x0506, sequence: 0x0708_090a_0b0c_0d0e };
    let offset = 0x1112_1314_1516_1718 & !511;
    let mut block = vec![0; 2 * SECTOR];
    Payload::default().fill(&mut block, writer, offset - SECTOR as u64, 0);
    let stamp = &block[SECTOR..SECTOR + STAMP_BYTES];
    assert_eq!(Stamp::read(stamp), Some(Stamp { writer, offset, index: Some(1) }));
    let check = check_of_the_page(writer, offset, 1);
    for (name, place) in fields("Stamp", STAMP_BYTES) {
        let value = match name.as_str() {
            "check" => check,
            "sequence" => writer.sequence,
            "offset" => offset,
            "run" => u64::from(writer.run),
            "worker" => u64::from(writer.worker),
            "index" => 1,
            other => panic!("a stamp has no field {other}"),
        };
        assert_eq!(stamp[place.clone()], value.to_le_bytes()[..place.len()], "{name} is not at {place:?}");
    }
    for (index, sector) in block.chunks(SECTOR).enumerate() {
        let tail = &sector[SECTOR - TAIL_BYTES..];
        let at = offset - SECTOR as u64 + (index * SECTOR) as u64;
        for (name, place) in fields("Tail", TAIL_BYTES) {
            let value = match name.as_str() {
                "sequence" => writer.sequence,
                "check" => check_of_the_page(writer, at, index as u64) ^ 0x7461_696c_7461_696c,
                other => panic!("a tail has no field {other}"),
            };
            assert_eq!(tail[place.clone()], value.to_le_bytes(), "{name} is not at {place:?}");
        }
    }
}

fn check_of_the_page(writer: Writer, offset: u64, index: u64) -> u64 {
    let who = u64::from(writer.run) << 16 ^ u64::from(writer.worker) ^ index << 48;
    random::at(writer.sequence ^ 0x5741_4d50_5632_0000, who ^ offset.rotate_left(20))
}

#[test]
fn every_method_has_its_row_with_number_length_and_a_digest() {
    let rows = table("Digest");
    assert_eq!(rows.len(), Method::ALL.len());
    let mut wrong = String::new();
    for (row, (name, method)) in rows.iter().zip(Method::ALL) {
        let mut digest = vec![0; method.digest_bytes()];
        checksum::digest(method, b"123456789", &mut digest);
        let first: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let more = if digest.len() > 8 { "…" } else { "" };
        let digest = if digest.is_empty() { String::new() } else { format!("`{first}{more}`") };
        let found = [&row[0], &row[1], &row[2], &row[4]];
        let wanted = [name.to_owned(), (method as u8).to_string(), method.digest_bytes().to_string(), digest];
        if found != [&wanted[0], &wanted[1], &wanted[2], &wanted[3]] {
            wrong.push_str(&format!("{found:?} should be {wanted:?}\n"));
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// The payload by the words of the page alone.
fn payload_of_the_page(len: usize, writer: Writer, offset: u64) -> Vec<u8> {
    let pool: Vec<u8> = (0..65_536 / 8).flat_map(|k| random::at(0x9001, k).to_le_bytes()).collect();
    let seed = random::at(u64::from(writer.run) << 16 ^ u64::from(writer.worker), writer.sequence);
    let mut block: Vec<u8> = Vec::new();
    for n in 0..len.div_ceil(32_768) as u64 {
        let product = u128::from(random::at(seed ^ offset, n)) * 1024;
        let start = 32 * usize::try_from(product >> 64).expect("below 1024");
        block.extend(&pool[start..start + 32_768]);
    }
    block.truncate(len);
    block
}

#[test]
fn the_payload_is_made_as_the_page_says() {
    let writer = Writer { run: 7, worker: 3, sequence: 1 << 40 };
    let offset = 8 << 20;
    let wanted = payload_of_the_page(150_000, writer, offset);
    let mut block = vec![0; wanted.len()];
    Payload::default().fill(&mut block, writer, offset, 100);
    for (number, (found, wanted)) in block.chunks(SECTOR).zip(wanted.chunks(SECTOR)).enumerate() {
        let skip = if number == 0 || found.len() < STAMP_BYTES { 0 } else { STAMP_BYTES };
        let own = if number == 0 { 100 } else { STAMP_BYTES };
        let end = found.len() - if found.len() >= own + TAIL_BYTES { TAIL_BYTES } else { 0 };
        assert_eq!(found[skip..end], wanted[skip..end], "sector {number}");
    }
}

#[test]
fn a_sealed_block_is_header_digest_tag_and_payload_in_that_order() {
    for (name, method) in Method::ALL.into_iter().filter(|(_, method)| method.has_header()) {
        let format = BlockFormat { interval: 4096, method, header_at: 0, pattern: None };
        let sealer = Sealer::new(format, RunId(1 << 100 | 77), 9);
        let facts = WriteFacts { io_offset: 4096, io_len: 8192, sequence: 5, ..WriteFacts::default() };
        let mut block = vec![0; 4096];
        sealer.seal_block(&mut block, 8192, 1234, &facts);
        let digest = HEADER_BYTES..HEADER_BYTES + method.digest_bytes();
        let mut wanted = vec![0; digest.len()];
        checksum::digest(method, &block[digest.end..], &mut wanted);
        assert_eq!(block[digest.clone()], wanted, "{name}");
        let tag = Tag::read(&block[digest.end..]).expect("a tag");
        assert_eq!((tag.run, tag.target, tag.io_len), (sealer.run, 1234, 8192));
        let payload = payload_of_the_page(4096, Writer { run: 77, worker: 9, sequence: 5 }, 8192);
        let rest = digest.end + TAG_BYTES..SECTOR - TAIL_BYTES;
        assert_eq!(block[rest.clone()], payload[rest], "{name}");
        assert_eq!(Header::read(&block).map(|header| header.seed), Some(sealer.seed(5)));
    }
}

#[test]
fn lines_of_verdicts_have_the_fields_of_the_page() {
    use fio_spdk::base::verify::{Finding, Verdict};
    let finding = Finding {
        verdict: Verdict::Torn,
        target: 0,
        offset: 0,
        len: 4096,
        stands: String::new(),
        allowed: String::new(),
        promise: String::new(),
        details: Vec::new(),
        named_offset: None,
        rereads: Vec::new(),
        atomic: None,
    };
    let line = fio_spdk::report::finding_line("job", "target", &finding);
    let object: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    let page = page();
    let section = page.split("\n## Lines of `--verdicts`\n").nth(1).expect("the section");
    for name in object.as_object().expect("an object").keys() {
        assert!(section.contains(&format!("`{name}`")), "the page does not name `{name}`");
    }
}

/// Reads a snapshot by the tables of the page alone.
struct SnapshotReader<'a> {
    rest: &'a [u8],
    /// Numbers and texts by their fields, in order.
    seen: Vec<(String, String)>,
}

impl SnapshotReader<'_> {
    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let (bytes, rest) = self.rest.split_at(len);
        self.rest = rest;
        bytes.to_vec()
    }

    fn number(&mut self) -> u64 {
        let (mut number, mut shift) = (0, 0);
        loop {
            let byte = self.bytes(1)[0];
            number |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return number;
            }
        }
    }

    fn section(&mut self, heading: &str) {
        for row in table(heading) {
            let (field, kind) = (row[0].clone(), row[1].as_str());
            let value = match kind {
                "16 bytes" => format!("{:02x?}", self.bytes(16)),
                "number" => self.number().to_string(),
                "text" => {
                    let len = usize::try_from(self.number()).expect("a length");
                    String::from_utf8(self.bytes(len)).expect("UTF-8")
                }
                "rising" | "runs" => {
                    let count = self.number();
                    let mut at = 0;
                    let mut numbers = Vec::new();
                    for _ in 0..count {
                        at += self.number();
                        numbers.push(at);
                    }
                    format!("{numbers:?}")
                }
                "mutated" | "atomic" | "premises" => {
                    self.section(&format!("Snapshot: {kind}"));
                    continue;
                }
                list => {
                    let of = list.strip_prefix("list of ").unwrap_or_else(|| panic!("no kind: {list}"));
                    for _ in 0..self.number() {
                        self.section(&format!("Snapshot: {of}"));
                    }
                    continue;
                }
            };
            self.seen.push((field, value));
        }
    }
}

#[test]
fn a_snapshot_is_read_by_the_tables_of_the_page() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/verify/snapshot/version-2.state");
    let stored = std::fs::read(path).expect("the golden snapshot");
    let body = stored.strip_prefix(b"fio-spdk snapshot 2\n").expect("the line");
    let (body, sum) = body.split_at(body.len() - 8);
    let mut expected = [0; 8];
    checksum::digest(Method::Crc64Nvme, &stored[..stored.len() - 8], &mut expected);
    assert_eq!(sum, expected);
    let mut reader = SnapshotReader { rest: body, seen: Vec::new() };
    reader.section("Snapshot");
    assert!(reader.rest.is_empty(), "{} bytes are in no table", reader.rest.len());
    for (field, value) in [
        ("tool", "0.1.0"),
        ("name", "golden"),
        ("value", "\"randwrite\""),
        ("seed", "42"),
        ("path", "/dev/nvme0n1"),
        ("write", "16384"),
        ("source", "2"),
        ("boundary_first", "4096"),
        ("split_first", "512"),
        ("volatile_cache", "1"),
        ("cache_source", "1"),
        ("flushes", "5"),
        ("deallocated", "2"),
        ("broken", "changed"),
        ("issued", "1000"),
        ("in_flight", "[991, 998, 999]"),
        ("failed", "[17, 17, 40, 49]"),
        ("coarse", "[60, 70]"),
        ("stage", "1"),
        ("bytes", "4096"),
        ("mark", "900"),
        ("holes", "[880]"),
        ("flush_epoch", "9"),
        ("open_end", "1"),
    ] {
        let is_there = reader.seen.iter().any(|(name, seen)| name == field && seen == value);
        assert!(is_there, "{field} is nowhere {value}: {:?}", reader.seen);
    }
}
