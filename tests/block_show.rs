//! `fio-spdk block show`: what it says of blocks that are intact, damaged, old, foreign or none.

mod common;

use common::Lab;
use fio_spdk::base::verify::{Method, Pattern, RunId};
use fio_spdk::verify::block::{BlockFormat, HEADER_BYTES, Header, Sealer, TAG_BYTES, WriteFacts};
use fio_spdk::verify::payload::PatternFill;
use serde_json::Value;

/// `fio --size=512 --bs=512 --rw=write --verify=crc32c`, by fio 3.42.
const FIO_3_42: &str = concat!(
    "caac8105000200003c5409c501cca400000000000000000000000000e45e6c06",
    "000000000000000001002e684783e8936d5019b6b6c6e00a64237304dbf5cbbc",
    "5cbbe69a27b30c02b876cd354f6619041432b4d076192606cca88106c67f3f0a",
    "7411babb97ffd236e82274772fffa56d5c342e33c7fe78a44457a2aaf6fd1e12",
    "7c61c0e159864331f8c280c3b30c8762742441a50d93ca936ce7c168c19f51f6",
    "d4f0279ab2b0aa47a8e14f346561558f7cd277ce171200d724b4c7027d735566",
    "9c8eca38756111e6381d9571eac222ccd4ab5faa5f2434b20cc9f41b4ae7567e",
    "34bd369dd78702af687a6d3aaf0f055e9c37a4d78697070d04b2111236a70c6b",
    "bc4ad519e68284f57895aa33cc0509eb34e07f4db2888de0ac752a817e8e96cb",
    "94cef5b205a98b1d289deb650b52173bbc6be11811fba258e408cd7e1c4dba93",
    "dc5dfe1e5c762c02b8bbfc3db8ec58049419fb5c146385064cd5f79acc4fde0a",
    "f4bc13fa5ab591cce87927f4b56a2399dc363bee1020b565c4b062e2c68ad8fe",
    "fc4f5342a219d9d8f89fa6844433b2b1f4eff9c6e64c8b8aec8fa04b2b803d3c",
    "54609411b1e3d01fa8c0282362c7a13ffc20bd3413ab725fa4e1e5577572149f",
    "1c69e32b948cde2c38d2c6572819bd59543baa83bca59b868c0d71dbe4be58e0",
    "b4d056f97800035068a1adf2f10006a01c7204ec6a0109f08413b2de5c020f90",
);

/// The same by fio 3.33.
const FIO_3_33: &str = concat!(
    "caac0500000200003c5409c501cca400000000000000000000000000bd527006",
    "0100000075f6362241661e24242febb13c15459cb6c6e00a64237304dbf5cbbc",
    "5cbbe69a27b30c02b876cd354f6619041432b4d076192606cca88106c67f3f0a",
    "7411babb97ffd236e82274772fffa56d5c342e33c7fe78a44457a2aaf6fd1e12",
    "7c61c0e159864331f8c280c3b30c8762742441a50d93ca936ce7c168c19f51f6",
    "d4f0279ab2b0aa47a8e14f346561558f7cd277ce171200d724b4c7027d735566",
    "9c8eca38756111e6381d9571eac222ccd4ab5faa5f2434b20cc9f41b4ae7567e",
    "34bd369dd78702af687a6d3aaf0f055e9c37a4d78697070d04b2111236a70c6b",
    "bc4ad519e68284f57895aa33cc0509eb34e07f4db2888de0ac752a817e8e96cb",
    "94cef5b205a98b1d289deb650b52173bbc6be11811fba258e408cd7e1c4dba93",
    "dc5dfe1e5c762c02b8bbfc3db8ec58049419fb5c146385064cd5f79acc4fde0a",
    "f4bc13fa5ab591cce87927f4b56a2399dc363bee1020b565c4b062e2c68ad8fe",
    "fc4f5342a219d9d8f89fa6844433b2b1f4eff9c6e64c8b8aec8fa04b2b803d3c",
    "54609411b1e3d01fa8c0282362c7a13ffc20bd3413ab725fa4e1e5577572149f",
    "1c69e32b948cde2c38d2c6572819bd59543baa83bca59b868c0d71dbe4be58e0",
    "b4d056f97800035068a1adf2f10006a01c7204ec6a0109f08413b2de5c020f90",
);

const RUN: RunId = RunId(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
const TARGET: u64 = 0xfeed_0000_0000_beef;
const LEN: u32 = 4096;

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex")).collect()
}

fn format(method: Method) -> BlockFormat {
    BlockFormat { interval: LEN, method, header_at: 0, pattern: None }
}

/// The whole of write `sequence`: two blocks at `offset`.
fn written(format: BlockFormat, offset: u64, sequence: u64) -> Vec<u8> {
    let mut bytes = vec![0; 2 * format.interval as usize];
    let facts = WriteFacts {
        io_offset: offset,
        io_len: 2 * format.interval,
        sequence,
        time_unix_ns: 1_795_238_631_483_000_000,
        pass: 3,
        flush_epoch: 17,
    };
    Sealer::new(format, RUN, 2).seal(&mut bytes, TARGET, &facts);
    bytes
}

/// A file of 8 KiB with write 7 at its start.
fn intact() -> Vec<u8> {
    written(format(Method::Crc32c), 0, 7)
}

/// What the command says of `bytes` at `offset`, with its exit code.
fn shown(bytes: &[u8], offset: &str, code: i32) -> String {
    let lab = Lab::new();
    lab.file("data", bytes);
    lab.run(&["block", "show", "data", offset]).expect(code).stdout
}

/// All of these must be in the text, blanks aside.
#[track_caller]
fn tells(text: &str, wanted: &[&str]) {
    let plain: Vec<String> =
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for part in wanted {
        assert!(plain.iter().any(|line| line.contains(part)), "no `{part}` in\n{text}");
    }
}

#[test]
fn an_intact_block_is_told_field_by_field() {
    let text = shown(&intact(), "4k", 0);
    tells(
        &text,
        &[
            "data, offset 4096, 4096 bytes: intact, write 7 of worker 2 of run 0123456789abcdef0123456789abcdef",
            "magic: 0xacca [ok]",
            "version: 0x81 [ok]",
            "method: 5 = crc32c [ok]",
            "length: 4096 [ok]",
            "offset: 4096 [ok]",
            "time: 2026-11-21T05:23:51Z (1795238631.483000000 seconds since 1970)",
            "sequence: 7",
            "worker: 2",
            "target: 0xfeed00000000beef",
            "pass: 3",
            "flush epoch: 17",
            "write: offset 0, 8192 bytes [ok]",
            "contents: is what it should be [ok]",
        ],
    );
    assert!(!text.contains("WRONG"), "{text}");
}

#[test]
fn every_method_is_recognised() {
    let lab = Lab::new();
    for (name, method) in Method::ALL {
        let code = if method.has_header() { 0 } else { 1 };
        lab.file("data", written(format(method), 0, 7));
        let done = lab.run(&["block", "show", "data", "0"]);
        assert_eq!(done.code, Some(code), "{name}: {done:?}");
    }
}

#[test]
fn offsets_come_in_all_forms_and_any_place_can_be_asked() {
    for offset in ["4096", "4k", "0x1000", "4KiB"] {
        tells(&shown(&intact(), offset, 0), &["offset 4096, 4096 bytes: intact"]);
    }
    let text = shown(&intact(), "1000", 5);
    tells(
        &text,
        &["nothing that fio-spdk or fio wrote", "a block begins 3096 bytes further on, at offset 4096"],
    );
    let mut bytes = vec![0x5a; 100];
    bytes.extend(written(format(Method::Crc32c), 100, 1));
    tells(&shown(&bytes, "100", 0), &["intact"]);
    let mut lone = vec![0x5a; 100];
    lone.extend(written(BlockFormat { interval: 512, ..format(Method::Crc32c) }, 100, 1));
    let lab = Lab::new();
    lab.file("data", &lone[..612]);
    let done = lab.run(&["block", "show", "--interval", "0x200", "data", "0"]).expect(5);
    tells(&done.stdout, &["note: a block begins 100 bytes further on, at offset 100"]);
}

#[test]
fn json_says_the_same() {
    let lab = Lab::new();
    lab.file("data", intact());
    let json: Value = lab.run(&["block", "show", "--json", "data", "0"]).expect(0).json();
    assert_eq!((&json["standing"], &json["len"]), (&Value::from("intact"), &Value::from(4096)));
    let header = json["sections"]["header"].as_array().expect("facts");
    let offset = header.iter().find(|fact| fact["name"] == "offset").expect("a fact");
    assert_eq!((&offset["value"], &offset["right"]), (&Value::from("0"), &Value::from(true)));
}

#[test]
fn a_flipped_bit_anywhere_is_told_where_it_is() {
    let tag = HEADER_BYTES + 4;
    for (at, wanted) in [
        (0, "magic: 0xaccb [WRONG]"),
        (2, "version: 0x80 [WRONG]"),
        (3, "method: 4 = crc32 [WRONG] (should be 5 = crc32c)"),
        (4, "length: 4097 [WRONG]"),
        (8, "by the payload"),
        (16, "offset: 1 [WRONG] (but it stands at 0)"),
        (25, "crc: "),
        (32, "sequence: 6 [WRONG] (7 by the payload)"),
        (40, "worker: 3 [WRONG] (2 by the payload)"),
        (44, "none of them can be believed"),
        (HEADER_BYTES, "the payload is right, so tag or digest are damaged"),
        (tag, "tag: | no tag [WRONG]"),
        (tag + 16, "run: 0123456789abcdef0123456789abcdee [WRONG] (the payload is of run ...89abcdef)"),
        (tag + TAG_BYTES, "contents: 1 bytes (1 bits) are not those of write 7"),
        (1000, "the first is byte 1000: "),
        (4095, "it is that of the payload that was meant"),
    ] {
        let mut bytes = intact();
        bytes[at] ^= 1;
        let text = shown(&bytes, "0", 1);
        let wanted = wanted.rsplit("| ").next().unwrap_or(wanted);
        tells(&text, &["DAMAGED", wanted, "[WRONG]"]);
    }
}

#[test]
fn parts_of_two_writes_are_told_apart() {
    let mut bytes = intact();
    let other = written(format(Method::Crc32c), 0, 5);
    bytes[1024..2048].copy_from_slice(&other[1024..2048]);
    bytes[2048..2560].fill(0);
    let text = shown(&bytes, "0", 1);
    tells(
        &text,
        &[
            "crc32c:",
            "bytes: 0 to 1023: write 7 of worker 2 of run ...89abcdef, as it should be",
            "bytes: 1024 to 2047: write 5 of worker 2 of run ...89abcdef for a block at offset 0, whole",
            "bytes: 2048 to 2559: zeros",
            "bytes: 2560 to 4095: write 7 of worker 2 of run ...89abcdef, as it should be",
        ],
    );
}

#[test]
fn a_block_that_lost_its_head_is_known_by_its_stamps() {
    let mut bytes = intact();
    bytes[..512].fill(0x11);
    let text = shown(&bytes, "0", 1);
    tells(&text, &["magic: 0x1111 [WRONG]", "sequence: 1229782938247303441 [WRONG] (7 by the payload)"]);
}

#[test]
fn an_intact_block_in_the_wrong_place_is_misplaced() {
    let bytes = intact();
    let text = shown(&bytes[4096..], "0", 1);
    tells(&text, &["MISPLACED, an intact block of offset 4096: write 7", "offset: 4096 [WRONG]"]);
}

#[test]
fn a_block_that_the_end_of_the_target_cuts_off_is_damaged() {
    let text = shown(&intact()[..5000], "4096", 1);
    tells(&text, &["904 bytes: DAMAGED", "length: 4096 [WRONG] (there are 904 bytes"]);
    shown(&intact()[..4096 + 50], "4096", 1);
    shown(&intact()[..4096 + 20], "4096", 5);
}

#[test]
fn where_nothing_of_ours_stands_it_says_so() {
    tells(&shown(&[0; 8192], "4k", 5), &["4096 bytes: zeros: never written, trimmed, or lost"]);
    tells(&shown(&[0xff; 8192], "0", 5), &["ones (0xff) only"]);
    tells(&shown(b"hello", "1", 5), &["4 bytes: nothing that fio-spdk or fio wrote"]);
}

#[test]
fn a_pattern_has_no_tag() {
    let pattern = Pattern { bytes: b"abc".to_vec(), offsets: Vec::new() };
    let pattern = Some(PatternFill { pattern, interval: None });
    let bytes = written(BlockFormat { pattern, ..format(Method::Md5) }, 0, 7);
    let text = shown(&bytes, "0", 0);
    tells(
        &text,
        &[
            "seed: 0x0000000000000000 (none: the payload is a pattern)",
            "no tag: written by fio or with verify_pattern",
        ],
    );
}

#[test]
fn a_header_with_a_place_of_its_own_is_found() {
    let bytes = written(BlockFormat { header_at: 1000, ..format(Method::Sha1) }, 0, 7);
    for (offset, code) in [("0", 0), ("4k", 0)] {
        tells(&shown(&bytes, offset, code), &["verify_offset=1000", "is what it should be [ok]"]);
    }
}

#[test]
fn blocks_of_fio_are_known() {
    let new = unhex(FIO_3_42);
    let text = shown(&new, "0", 0);
    tells(
        &text,
        &[
            "method: 5 = crc32c [ok]",
            "seconds since fio's start",
            "no tag: written by fio",
            "cannot be made again",
        ],
    );
    let mut bad = new;
    bad[300] ^= 4;
    tells(&shown(&bad, "0", 1), &["DAMAGED, not right: digest crc32c"]);

    let old = unhex(FIO_3_33);
    let text = shown(&old, "0", 0);
    tells(&text, &["intact, a block of fio before 3.41, write 0 of job 1", "crc32c: 41661e24 [ok]"]);
    let mut bad = old;
    bad[300] ^= 4;
    tells(&shown(&bad, "0", 1), &["DAMAGED, not right: digest crc32c; a block of fio before 3.41"]);
}

#[test]
fn a_length_that_nobody_can_believe_is_not_believed() {
    let mut bytes = intact();
    let header = Header { len: u32::MAX, ..Header::read(&bytes).expect("a header") };
    let front: &mut [u8; HEADER_BYTES] = bytes.first_chunk_mut().expect("a header");
    header.write(front);
    tells(&shown(&bytes, "0", 1), &["length: 4294967295 [WRONG]"]);
}

#[test]
fn what_cannot_be_read_is_said() {
    let lab = Lab::new();
    lab.file("data", intact());
    lab.run(&["block", "show", "missing", "0"]).expect(4).says("missing: No such file");
    lab.run(&["block", "show", "data", "8k"]).expect(2).says("beyond the end of data, which has 8192 bytes");
    lab.run(&["block", "show", ".", "0"]).expect(2).says("neither a file nor a block device");
    lab.run(&["block", "show", "/dev/zero", "0"]).expect(2).says("neither a file nor a block device");
    for wrong in ["0xyz", "0x", "many", "-1", "0x+1"] {
        lab.run(&["block", "show", "data", wrong]).expect(2);
    }
    lab.run(&["block", "show", "data", "0", "--interval=4"]).expect(2).says("from 8 bytes to 1GiB");
    lab.run(&["block"]).expect(2);
    lab.run(&["block", "show", "data"]).expect(2);
}

#[test]
fn the_target_is_only_read() {
    let lab = Lab::new();
    lab.file("data", intact());
    lab.run(&["block", "show", "data", "0"]).expect(0);
    assert_eq!((lab.bytes("data"), lab.names()), (intact(), vec!["data".to_owned()]));
}
