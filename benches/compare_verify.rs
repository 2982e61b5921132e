//! What verification costs, beside fio's: filling and sealing blocks, judging them, both. One core,
//! runs taken in turn, medians of bytes a second. `ci/compare` runs it.
//!
//! `--rounds N`, `--only WORD`, `--fio PATH`, `--cpu N`.
#![expect(clippy::print_stdout, reason = "a benchmark prints")]

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use fio_spdk::base::clock::Clock;
use fio_spdk::base::verify::{Method, RunId};
use fio_spdk::verify::block::{BlockFormat, Sealer, WriteFacts};
use fio_spdk::verify::checksum;
use fio_spdk::verify::judge::{Judge, Place, TargetIdentity};
use serde_json::Value;

const OURS: &str = env!("CARGO_BIN_EXE_fio-spdk");
/// Mebibytes written and judged on a file.
const FILE_MIB: u32 = 1024;

struct Settings {
    rounds: usize,
    only: String,
    fio: String,
    cpu: String,
}

fn main() -> ExitCode {
    let argument = |name: &str| std::env::args().skip_while(|argument| argument != name).nth(1);
    let settings = Settings {
        rounds: argument("--rounds").and_then(|text| text.parse().ok()).unwrap_or(5),
        only: argument("--only").unwrap_or_default(),
        fio: argument("--fio").unwrap_or_else(|| "fio".to_owned()),
        cpu: argument("--cpu").unwrap_or_else(|| "1".to_owned()),
    };
    if Command::new(&settings.fio).arg("--version").output().is_err() {
        println!("skipped: {} does not run: apt-get install fio, or --fio PATH", settings.fio);
        return ExitCode::SUCCESS;
    }
    println!("\nverification, MiB/s, median of {} rounds (least to most)\n", settings.rounds);
    println!("{:<37} {:>22} {:>22} {:>7}  floor", "", "fio-spdk", "the other", "ratio");
    let mut below = false;
    for (bs, name) in [("4k", "generating, null, 4 KiB"), ("1m", "generating, null, 1 MiB")] {
        below |= !compare(
            &settings,
            name,
            6.0,
            || generate(&settings, OURS, bs),
            || generate(&settings, &settings.fio, bs),
        );
    }
    let (mine, other) = (Scratch::new("ours"), Scratch::new("fio"));
    let own = || whole(&settings, OURS, &mine, true);
    below |= !compare(&settings, "write and judge, /dev/shm, 128 KiB", 1.8, own, || {
        whole(&settings, &settings.fio, &other, true)
    });
    below |= !compare(
        &settings,
        "reading and judging, /dev/shm",
        1.0,
        || audit(&settings, OURS, &mine, true),
        || audit(&settings, &settings.fio, &other, true),
    );
    below |= !compare(
        &settings,
        "judging, net of reading",
        6.0,
        || judging(&settings, OURS, &mine),
        || judging(&settings, &settings.fio, &other),
    );
    below |= !compare(&settings, "judging, to the checksum's own speed", 0.6, judge_memory, checksum_memory);
    below |= !compare(
        &settings,
        "writing, to our own without verify",
        0.8,
        || write(&settings, &mine, true),
        || write(&settings, &mine, false),
    );
    if below { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// A file in memory, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        Scratch(PathBuf::from(format!("/dev/shm/fio-spdk-compare-verify-{name}")))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// True if the floor was reached.
fn compare(
    settings: &Settings,
    name: &str,
    floor: f64,
    ours: impl Fn() -> f64,
    theirs: impl Fn() -> f64,
) -> bool {
    if !name.contains(&settings.only) {
        return true;
    }
    let (mut mine, mut other) = (Vec::new(), Vec::new());
    for _ in 0..settings.rounds {
        mine.push(ours());
        other.push(theirs());
    }
    let ratio = median(&mut mine) / median(&mut other);
    let enough = ratio >= floor;
    let word = if enough { "" } else { "  BELOW" };
    println!("{name:<37} {:>22} {:>22} {ratio:>7.2}  {floor}{word}", spread(&mine), spread(&other));
    enough
}

fn run(settings: &Settings, program: &str, more: &[&str]) -> Value {
    let mut command = Command::new("taskset");
    command.args(["-c", &settings.cpu, program, "--name=verify", "--thread", "--output-format=json"]);
    command.args(more);
    if program != OURS {
        command.arg("--verify_state_save=0");
    }
    let out = command.output().expect("the program runs");
    assert!(out.status.success(), "{program} {more:?}: {}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).expect("JSON on standard output")
}

fn number(json: &Value, path: &str) -> f64 {
    json.pointer(path).and_then(Value::as_f64).unwrap_or(0.0)
}

/// Blocks made and thrown away.
fn generate(settings: &Settings, program: &str, bs: &str) -> f64 {
    let bs = format!("--bs={bs}");
    let more = ["--ioengine=null", "--size=16g", "--rw=randwrite", &bs, "--iodepth=32", "--runtime=2"];
    let more = [&more[..], &["--time_based", "--verify=crc32c", "--do_verify=0"]].concat();
    let json = run(settings, program, &more);
    number(&json, "/jobs/0/write/bw_bytes") / f64::from(1 << 20)
}

fn file(scratch: &Scratch) -> Vec<String> {
    vec![
        format!("--filename={}", scratch.0.display()),
        format!("--size={FILE_MIB}m"),
        "--ioengine=psync".to_owned(),
        "--bs=128k".to_owned(),
    ]
}

/// A file written and read back: bytes by the time of both.
fn whole(settings: &Settings, program: &str, scratch: &Scratch, verify: bool) -> f64 {
    let mut more = file(scratch);
    more.push("--rw=write".to_owned());
    if verify {
        more.extend(["--verify=crc32c".to_owned(), "--verify_interval=4096".to_owned()]);
    }
    let json = run(settings, program, &more.iter().map(String::as_str).collect::<Vec<_>>());
    let write_s = 1.0 / number(&json, "/jobs/0/write/bw_bytes");
    let bytes = f64::from(FILE_MIB) * f64::from(1 << 20);
    let read_s = if program == OURS {
        number(&json, "/jobs/0/verify/read_ns") / 1e9
    } else {
        bytes / number(&json, "/jobs/0/read/bw_bytes")
    };
    f64::from(FILE_MIB) / (write_s * bytes + read_s)
}

/// The writing alone.
fn write(settings: &Settings, scratch: &Scratch, verify: bool) -> f64 {
    let mut more = file(scratch);
    more.push("--rw=write".to_owned());
    if verify {
        more.extend(["--verify=crc32c", "--verify_interval=4096", "--do_verify=0"].map(str::to_owned));
    }
    let json = run(settings, OURS, &more.iter().map(String::as_str).collect::<Vec<_>>());
    number(&json, "/jobs/0/write/bw_bytes") / f64::from(1 << 20)
}

/// What each has written, read; with `verify` judged as an audit.
fn audit(settings: &Settings, program: &str, scratch: &Scratch, verify: bool) -> f64 {
    if !scratch.0.exists() {
        whole(settings, program, scratch, true);
    }
    let mut more = file(scratch);
    more.push("--rw=read".to_owned());
    if verify {
        more.extend(["--verify=crc32c", "--verify_interval=4096"].map(str::to_owned));
    }
    let json = run(settings, program, &more.iter().map(String::as_str).collect::<Vec<_>>());
    number(&json, "/jobs/0/read/bw_bytes") / f64::from(1 << 20)
}

/// Bytes by the time that judging adds to reading.
fn judging(settings: &Settings, program: &str, scratch: &Scratch) -> f64 {
    let judged = audit(settings, program, scratch, true);
    let read = audit(settings, program, scratch, false);
    1.0 / (1.0 / judged - 1.0 / read).max(1e-9)
}

const BLOCK: usize = 4096;

/// Times `one`, which looks at a block, over 128 KiB of blocks.
fn over_blocks(one: impl Fn(&[u8], u64) -> bool) -> f64 {
    const ROUNDS: u32 = 20_000;
    let mut blocks = vec![0; 32 * BLOCK];
    let facts = WriteFacts { io_len: 32 * 4096, time_unix_ns: 1 << 60, ..WriteFacts::default() };
    sealer().seal(&mut blocks, 1, &facts);
    let clock = Clock::get();
    let begin_ns = clock.now_ns();
    for _ in 0..ROUNDS {
        let blocks = std::hint::black_box(&blocks);
        let offsets = (0..).step_by(BLOCK);
        assert!(blocks.chunks(BLOCK).zip(offsets).all(|(block, offset)| one(block, offset)), "clean");
    }
    f64::from(ROUNDS) / 8.0 / ((clock.now_ns() - begin_ns) as f64 / 1e9)
}

fn sealer() -> Sealer {
    let format = BlockFormat { interval: 4096, method: Method::Crc32c, header_at: 0, pattern: None };
    Sealer::new(format, RunId(7), 1)
}

/// Blocks in memory, judged.
fn judge_memory() -> f64 {
    let target = TargetIdentity { id: 1, lba_bytes: 512, ..TargetIdentity::default() };
    let judge = Judge::new(sealer(), Box::new([target]), true);
    over_blocks(|block, offset| judge.is_write(block, Place { target: 0, offset }, 0, 0))
}

/// Blocks in memory, of which only the digest is computed.
fn checksum_memory() -> f64 {
    over_blocks(|block, _| {
        let mut digest = [0; 4];
        checksum::digest(Method::Crc32c, &block[52..], &mut digest);
        digest == block[48..52]
    })
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Of sorted values: the middle, the least and the most.
fn spread(sorted: &[f64]) -> String {
    let last = sorted.len() - 1;
    format!("{:.0} ({:.0} to {:.0})", sorted[sorted.len() / 2], sorted[0], sorted[last])
}
