//! What this tool wrote a stock fio can verify, and what fio wrote can be audited here. A damaged byte
//! is found either way, so that none of it passes for nothing.
//!
//! fio is taken from the variable `FIO`, or from `PATH`. Before 3.41 its blocks had another header;
//! without a newer one the trials are ignored and say so.

#![allow(clippy::print_stderr, reason = "says why trials are skipped")]
#![allow(clippy::disallowed_methods, reason = "a test may ask where fio is")]

mod common;

use std::fs;
use std::process::{Command, ExitCode};

use common::{Lab, Running, at, jobs, number};
use libtest_mimic::{Arguments, Trial};
use serde_json::Value;

/// Bytes of each region.
const SIZE: usize = 256 << 10;
/// Where the block that is damaged begins: the first of a read of any length.
const VICTIM: usize = 2 * (64 << 10);
/// Length of fio's header: what stands behind it belongs to a digest or the payload.
const HEADER: usize = 48;

/// fio's methods, and whether they see what stands behind the header.
const METHODS: [(&str, bool); 16] = [
    ("crc32c", true),
    ("crc32", true),
    ("crc64", true),
    ("crc16", true),
    ("crc7", true),
    ("md5", true),
    ("sha1", true),
    ("sha256", true),
    ("sha512", true),
    ("sha3-224", true),
    ("sha3-256", true),
    ("sha3-384", true),
    ("sha3-512", true),
    ("xxhash", true),
    ("meta", false),
    ("pattern_hdr", true),
];
/// One that a pattern of each kind of item makes.
const PATTERN: &str = "0xdeadbeef%o\"end\"-12";
/// Length of I/Os and of blocks.
const LENGTHS: [(&str, &str); 3] = [("512", "512"), ("4k", "4k"), ("64k", "4k")];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let fio = find_fio();
    if let Err(why) = &fio {
        eprintln!("skipped: {why}");
    }
    let mut trials = Vec::new();
    let mut add = |name: String, check: Box<dyn FnOnce(&str) + Send>| {
        let fio = fio.clone();
        let ignored = fio.is_err();
        let run = move || {
            check(&fio?);
            Ok(())
        };
        trials.push(Trial::test(name, run).with_ignored_flag(ignored));
    };
    for (bs, interval) in LENGTHS {
        for rw in ["write", "randwrite"] {
            let case = Case { bs, interval, rw };
            let name = format!("bs_{bs}_interval_{interval}_{rw}");
            add(format!("fio_verifies_ours::{name}"), Box::new(move |fio| fio_verifies_ours(fio, case)));
            add(format!("fios_is_audited::{name}"), Box::new(move |fio| fios_is_audited(fio, case)));
        }
    }
    for case in WRITTEN_BY_FIO {
        add(format!("fios_is_audited::{}", case.name), Box::new(move |fio| audited(fio, &case)));
    }
    for case in WRITTEN_HERE {
        add(format!("fio_verifies_ours::{}", case.name), Box::new(move |fio| verified(fio, &case)));
    }
    add("fio_refuses_what_it_cannot_read_back".to_owned(), Box::new(overlapping_offset));
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A fio whose header is the one that is written here.
fn find_fio() -> Result<String, String> {
    let fio = std::env::var("FIO").unwrap_or_else(|_| "fio".to_owned());
    let Ok(out) = Command::new(&fio).arg("--version").output() else {
        return Err(format!("{fio} cannot be run (FIO=PATH names another)"));
    };
    let said = String::from_utf8_lossy(&out.stdout).trim().to_owned();
    let mut parts = said.trim_start_matches("fio-").split(['.', '-']).map_while(|part| part.parse().ok());
    let version: (u32, u32) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if version < (3, 41) {
        return Err(format!("{fio} is {said}, whose blocks have another header: 3.41 is needed (FIO=PATH)"));
    }
    Ok(fio)
}

#[derive(Clone, Copy)]
struct Case {
    bs: &'static str,
    interval: &'static str,
    rw: &'static str,
}

impl Case {
    fn interval_bytes(self) -> usize {
        if self.interval == "512" { 512 } else { 4096 }
    }
}

/// One job a method, each on a file of its own: without a pattern and with one.
fn every_method() -> Vec<(String, &'static str, bool, bool)> {
    let plain = METHODS.iter().filter(|(method, _)| *method != "pattern_hdr");
    let plain = plain.map(|&(method, digests)| (method.to_owned(), method, digests, false));
    let patterned = METHODS.iter().map(|&(method, _)| (format!("{method}-pattern"), method, true, true));
    plain.chain(patterned).chain([("bare-pattern".to_owned(), "pattern", true, true)]).collect()
}

/// The jobs of all methods, for fio with its `key=value` or for this tool with TOML.
fn job_file(global: &str, ours: bool) -> String {
    let mut text = format!("[global]\nsize={SIZE}\n{global}");
    for (name, method, _, patterned) in every_method() {
        text += &match ours {
            true => {
                format!("[[job]]\nname = \"{name}\"\nfilename = \"{name}\"\nverify = \"{method}\"\n")
            }
            false => format!("[{name}]\nfilename={name}\nverify={method}\n"),
        };
        if patterned {
            text += &if ours {
                format!("verify_pattern = '{PATTERN}'\n")
            } else {
                format!("verify_pattern={PATTERN}\n")
            };
        }
    }
    text
}

/// Runs fio to its end, and gives its exit code and its JSON.
fn run_fio(lab: &Lab, fio: &str, arguments: &[&str]) -> (Option<i32>, Value, String) {
    let mut command = lab.command(fio);
    command.args(["--output-format=json", "--output=fio.json"]).args(arguments);
    let done = Running::of(command).end();
    let text = String::from_utf8_lossy(&lab.bytes("fio.json")).into_owned();
    let json = text.find('{').and_then(|start| serde_json::from_str(&text[start..]).ok());
    (done.code, json.unwrap_or_default(), format!("{}{}{text}", done.stderr, done.stdout))
}

/// Flips a bit of byte `place` of the victim, in each of the files.
fn damage(lab: &Lab, files: &[String], place: usize) {
    for file in files {
        let mut bytes = lab.bytes(file);
        bytes[VICTIM + place] ^= 0x10;
        fs::write(lab.path(file), bytes).expect("the file can be written");
    }
}

/// Places in a block where a bit is flipped: the header's offset, behind the header, the end.
fn places(case: Case) -> [usize; 3] {
    [20, HEADER + 1, case.interval_bytes() - 1]
}

/// Whether `method` can see damage at that place.
fn sees(method: &str, digests: bool, place: usize) -> bool {
    digests || method == "pattern" || place < HEADER
}

fn fio_verifies_ours(fio: &str, case: Case) {
    let Case { bs, interval, rw } = case;
    let lab = Lab::new();
    let lines = format!(
        "bs = \"{bs}\"\nverify_interval = \"{interval}\"\nrw = \"{rw}\"\nloops = 2\nioengine = \"io_uring\"\n\
         iodepth = 8\n"
    );
    lab.file("ours.toml", job_file(&lines, true));
    lab.run(&["ours.toml"]).expect(0);
    // Without `verify_fatal` fio only prints that a block is bad if a later one of the same read is not.
    let lines =
        format!("bs={bs}\nverify_interval={interval}\nrw=read\nioengine=psync\nverify_fatal=1\nthread=1\n");
    lab.file("fio.ini", job_file(&lines, false));
    let (code, _, said) = run_fio(&lab, fio, &["fio.ini"]);
    assert!(code == Some(0), "fio does not accept what was written here: {said}");
    let files: Vec<String> = every_method().into_iter().map(|(name, ..)| name).collect();
    for place in places(case) {
        damage(&lab, &files, place);
        let (_, json, said) = run_fio(&lab, fio, &["fio.ini"]);
        for (job, (name, method, digests, _)) in jobs(&json).iter().zip(every_method()) {
            assert_eq!(at(job, "/jobname"), &name);
            let found = number(job, "/error") != 0;
            assert!(found == sees(method, digests, place), "{name}, byte {place}: {said}");
        }
        damage(&lab, &files, place);
    }
}

fn fios_is_audited(fio: &str, case: Case) {
    let Case { bs, interval, rw } = case;
    let lab = Lab::new();
    let lines = format!(
        "bs={bs}\nverify_interval={interval}\nrw={rw}\nloops=2\nioengine=psync\ndo_verify=0\nthread=1\n"
    );
    lab.file("fio.ini", job_file(&lines, false));
    let (code, _, said) = run_fio(&lab, fio, &["fio.ini"]);
    assert!(code == Some(0), "fio does not write: {said}");
    let lines = format!(
        "bs = \"{bs}\"\nverify_interval = \"{interval}\"\nrw = \"read\"\nioengine = \"io_uring\"\niodepth = 8\n"
    );
    lab.file("ours.toml", job_file(&lines, true));
    let blocks = (SIZE / case.interval_bytes()) as u64;
    for job in jobs(&lab.json(&["ours.toml"])) {
        assert_eq!(number(job, "/verify/verdicts/ok"), blocks, "{job:#}");
        assert_eq!(number(job, "/verify/checked"), blocks, "{job:#}");
    }
    let files: Vec<String> = every_method().into_iter().map(|(name, ..)| name).collect();
    for place in places(case) {
        damage(&lab, &files, place);
        let done = lab.run(&["--output-format=json", "ours.toml"]).expect(1);
        for (job, (name, method, digests, _)) in jobs(&done.json()).iter().zip(every_method()) {
            let expected = u64::from(sees(method, digests, place));
            assert_eq!(number(job, "/verify/verdicts/corrupt"), expected, "{name}, byte {place}: {job:#}");
            assert_eq!(number(job, "/verify/verdicts/ok"), blocks - expected, "{name}, byte {place}");
            if expected == 1 {
                assert_eq!(number(job, "/verify/examples/0/offset"), VICTIM as u64, "{name}");
            }
        }
        damage(&lab, &files, place);
    }
}

/// One way to write and to read that has, or had, a trap in it.
struct Trap {
    name: &'static str,
    /// Options of the one that writes, and of the one that reads back.
    writer: &'static [&'static str],
    reader: &'static [&'static str],
}

const fn trap(name: &'static str, writer: &'static [&'static str], reader: &'static [&'static str]) -> Trap {
    Trap { name, writer, reader }
}

/// Writers are fio's. Blocks have 4 KiB and crc32c unless they say otherwise.
const WRITTEN_BY_FIO: [Trap; 23] = [
    trap("in_any_order_and_length", &["--rw=randwrite"], &["--rw=randread", "--bs=64k"]),
    trap(
        "without_a_random_map",
        &["--rw=randwrite", "--norandommap", "--ioengine=io_uring", "--iodepth=8"],
        &[],
    ),
    trap("over_and_over", &["--rw=randwrite", "--time_based", "--runtime=300ms"], &[]),
    trap(
        "whatever_headers_are_compared",
        &["--verify_header_seed=0", "--verify_write_sequence=0"],
        &["--verify_header_seed=1", "--verify_write_sequence=1"],
    ),
    trap("of_experimental_verify", &["--experimental_verify=1"], &["--experimental_verify=1"]),
    trap("by_several_jobs", &["--numjobs=4", "--size=64k", "--offset_increment=64k"], &[]),
    trap("among_reads", &["--rw=randrw"], &[]),
    trap("from_an_offset_on", &["--offset=128k", "--size=128k"], &[]),
    trap("with_threads_that_check", &["--verify_async=2"], &["--verify_async=2"]),
    trap("without_clocks", &["--gtod_reduce=1"], &[]),
    trap("of_compressible_data", &["--buffer_compress_percentage=50", "--refill_buffers"], &[]),
    trap("of_mixed_lengths", &["--rw=randwrite", "--bsrange=4k-64k"], &[]),
    trap(
        "with_fios_own_length_of_blocks",
        &["--bs=64k", "--verify_interval=64k"],
        &["--bs=64k", "--verify_interval=64k"],
    ),
    trap("in_blocks_of_16k", &["--bs=64k", "--verify_interval=16k"], &["--bs=32k", "--verify_interval=16k"]),
    trap(
        "with_a_pattern_that_begins_anew",
        &["--bs=64k", "--verify_pattern=%o", "--verify_pattern_interval=512"],
        &["--bs=8k", "--verify_pattern=%o", "--verify_pattern_interval=512"],
    ),
    trap(
        "with_a_pattern_and_no_method",
        &["--verify=", "--verify_pattern=0x1234"],
        &["--verify=", "--verify_pattern=0x1234"],
    ),
    trap(
        "with_a_pattern_and_no_header",
        &["--verify=pattern", "--verify_pattern=0x1234"],
        &["--verify=pattern", "--verify_pattern=0x1234"],
    ),
    trap("with_the_name_of_an_instruction", &["--verify=crc32c-intel"], &["--verify=crc32c-intel"]),
    trap("with_the_header_behind_itself", &["--verify_offset=52"], &["--verify_offset=52"]),
    trap("with_the_header_in_the_middle", &["--verify_offset=1000"], &["--verify_offset=1000"]),
    trap("with_the_header_at_the_end", &["--verify_offset=4044"], &["--verify_offset=4044"]),
    trap(
        "with_a_long_digest_at_the_end",
        &["--verify=sha512", "--verify_offset=3920"],
        &["--verify=sha512", "--verify_offset=3920"],
    ),
    trap(
        "with_a_pattern_and_the_header_elsewhere",
        &["--verify=pattern_hdr", "--verify_pattern=%o", "--verify_offset=100"],
        &["--verify=pattern_hdr", "--verify_pattern=%o", "--verify_offset=100"],
    ),
];

/// Readers are fio's.
const WRITTEN_HERE: [Trap; 17] = [
    trap("in_any_order_and_length", &["--rw=randwrite", "--loops=3"], &["--rw=randread", "--bs=16k"]),
    trap("of_mixed_lengths", &["--rw=randwrite", "--bs=", "--bssplit=4k/50:12k/50"], &[]),
    trap("among_flushes", &["--rw=randwrite", "--fsync=16"], &["--verify_async=2"]),
    trap("as_what_fio_would_have_written", &[], &["--rw=write", "--verify_only=1"]),
    // Writes count as fio's do.
    trap(
        "by_the_number_of_each_write",
        &[],
        &["--rw=write", "--verify_only=1", "--verify_write_sequence=1", "--experimental_verify=1"],
    ),
    trap(
        "with_fios_own_length_of_blocks",
        &["--bs=64k", "--verify_interval=64k"],
        &["--bs=64k", "--verify_interval=64k"],
    ),
    trap("in_blocks_of_16k", &["--bs=64k", "--verify_interval=16k"], &["--bs=32k", "--verify_interval=16k"]),
    trap(
        "with_a_pattern_that_begins_anew",
        &["--bs=64k", "--verify_pattern=%o", "--verify_pattern_interval=512"],
        &["--bs=8k", "--verify_pattern=%o", "--verify_pattern_interval=512"],
    ),
    trap(
        "with_a_pattern_and_no_method",
        &["--verify=", "--verify_pattern=0x1234"],
        &["--verify=", "--verify_pattern=0x1234"],
    ),
    trap(
        "with_a_pattern_and_no_header",
        &["--verify=pattern", "--verify_pattern=0x1234"],
        &["--verify=pattern", "--verify_pattern=0x1234"],
    ),
    trap("with_nothing_to_check", &["--verify=null"], &["--verify=null"]),
    trap("with_the_header_behind_itself", &["--verify_offset=52"], &["--verify_offset=52"]),
    trap("with_the_header_in_the_middle", &["--verify_offset=1000"], &["--verify_offset=1000"]),
    trap("with_the_header_at_the_end", &["--verify_offset=4044"], &["--verify_offset=4044"]),
    trap(
        "with_a_long_digest_at_the_end",
        &["--verify=sha512", "--verify_offset=3920"],
        &["--verify=sha512", "--verify_offset=3920"],
    ),
    trap(
        "with_a_pattern_and_the_header_elsewhere",
        &["--verify=pattern_hdr", "--verify_pattern=%o", "--verify_offset=100"],
        &["--verify=pattern_hdr", "--verify_pattern=%o", "--verify_offset=100"],
    ),
    trap("with_threads_that_check", &["--verify_async=2"], &["--verify_async=2"]),
];

/// The arguments of one job: the usual ones unless `more` has its own.
fn arguments(rw: &str, more: &[&str]) -> Vec<String> {
    let usual = [
        "--name=job".to_owned(),
        "--filename=data".to_owned(),
        format!("--size={SIZE}"),
        "--ioengine=psync".to_owned(),
        "--bs=4k".to_owned(),
        format!("--rw={rw}"),
        "--verify=crc32c".to_owned(),
        "--verify_interval=4k".to_owned(),
    ];
    let key = |argument: &str| argument.split('=').next().unwrap_or_default().to_owned();
    let own: Vec<String> = more.iter().map(|argument| key(argument)).collect();
    let usual = usual.into_iter().filter(|argument| !own.contains(&key(argument)));
    // No value: the option is to be left out.
    let more = more.iter().filter(|argument| !argument.ends_with('=')).map(|&argument| argument.to_owned());
    usual.chain(more).collect()
}

fn borrowed(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

fn audited(fio: &str, case: &Trap) {
    let lab = Lab::new();
    // Where fio writes nothing, nothing may stand that could be taken for its blocks.
    lab.file("data", vec![0; SIZE]);
    let writer = [arguments("write", case.writer), vec!["--do_verify=0".to_owned()]].concat();
    let (code, _, said) = run_fio(&lab, fio, &borrowed(&writer));
    assert!(code == Some(0), "fio does not write: {said}");
    let reader = arguments("read", case.reader);
    let json = lab.json(&borrowed(&reader));
    let (ok, checked) =
        (number(&json, "/jobs/0/verify/verdicts/ok"), number(&json, "/jobs/0/verify/checked"));
    assert!(ok == checked && ok > 0, "{json:#}");
    let victim = (lab.bytes("data").chunks(4096).enumerate().skip(1))
        .find(|(_, block)| block.iter().any(|&byte| byte != 0))
        .map(|(index, _)| index * 4096);
    let mut bytes = lab.bytes("data");
    bytes[victim.expect("something is written") + 2000] ^= 1;
    lab.file("data", bytes);
    let done = lab.run(&[&["--output-format=json"], &borrowed(&reader)[..]].concat()).expect(1);
    assert_eq!(number(&done.json(), "/jobs/0/verify/verdicts/corrupt"), 1, "{done:?}");
}

fn verified(fio: &str, case: &Trap) {
    let lab = Lab::new();
    lab.run(&borrowed(&arguments("write", case.writer))).expect(0);
    let reader = [arguments("read", case.reader), vec!["--verify_fatal=1".to_owned()]].concat();
    let (code, _, said) = run_fio(&lab, fio, &borrowed(&reader));
    assert!(code == Some(0), "fio does not accept what was written here: {said}");
    let mut bytes = lab.bytes("data");
    bytes[VICTIM + 2000] ^= 1;
    lab.file("data", bytes);
    let (code, _, said) = run_fio(&lab, fio, &borrowed(&reader));
    let sees = !case.reader.contains(&"--verify=null");
    assert!((code == Some(1)) == sees, "fio does not see what is damaged: {said}");
}

/// A header that overlaps the place it came from does not come back: fio writes such blocks and then
/// calls them bad, so they are refused here.
fn overlapping_offset(fio: &str) {
    let lab = Lab::new();
    let job = arguments("write", &["--verify=sha512", "--verify_offset=64"]);
    let (code, _, said) = run_fio(&lab, fio, &borrowed(&job));
    assert!(code == Some(1), "fio reads it back after all: {said}");
    lab.run(&borrowed(&job)).expect(2).says("at least 176");
}
