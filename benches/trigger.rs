//! From a trigger to the snapshot on disk and the command, beside fio's: iodepth 128 on two workers.
//! `ci/compare` runs it.
//!
//! `--rounds N`, `--fio PATH`, `--directory DIR` (where the snapshot goes: a file system on an SSD).
#![expect(clippy::print_stdout, reason = "a benchmark prints")]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use fio_spdk::base::clock::Clock;
use serde_json::Value;

const OURS: &str = env!("CARGO_BIN_EXE_fio-spdk");
/// What the median from trigger to snapshot on disk may be.
const FLOOR_MS: f64 = 2.0;

fn main() -> ExitCode {
    let argument = |name: &str| std::env::args().skip_while(|argument| argument != name).nth(1);
    let rounds: usize = argument("--rounds").and_then(|text| text.parse().ok()).unwrap_or(20);
    let fio = argument("--fio").unwrap_or_else(|| "fio".to_owned());
    let directory = argument("--directory").unwrap_or_else(|| ".".to_owned());
    let folder = PathBuf::from(directory).join("fio-spdk-trigger-bench");
    std::fs::create_dir_all(&folder).expect("a directory");
    let folder = folder.canonicalize().expect("a directory");
    let (mut stored, mut ours, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    let has_fio = Command::new(&fio).arg("--version").output().is_ok();
    for _ in 0..rounds {
        let (ms, report) = round(OURS, &folder);
        ours.push(ms);
        let json: Value = serde_json::from_str(&report).expect("JSON on standard output");
        let ns = json.pointer("/fio-spdk/trigger/stored_ns").and_then(Value::as_f64).expect("a trigger");
        stored.push(ns / 1e6);
        if has_fio {
            theirs.push(round(&fio, &folder).0);
        }
    }
    let _ = std::fs::remove_dir_all(&folder);
    println!("\ntriggers, milliseconds, median of {rounds} (least to most)\n");
    let median = show("trigger to snapshot on disk", &mut stored);
    show("trigger file to command, fio-spdk", &mut ours);
    if has_fio {
        show("trigger file to command, fio", &mut theirs);
    } else {
        println!("skipped: {fio} does not run: apt-get install fio, or --fio PATH");
    }
    if median <= FLOOR_MS { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn show(name: &str, values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let median = values[values.len() / 2];
    println!("{name:<36} {median:>8.2} ({:.2} to {:.2})", values[0], values[values.len() - 1]);
    median
}

/// One run, triggered by a file: milliseconds until the command has run, and the report.
fn round(program: &str, folder: &Path) -> (f64, String) {
    let (cut, fired) = (folder.join("cut"), folder.join("fired"));
    for file in [&cut, &fired] {
        let _ = std::fs::remove_file(file);
    }
    let trigger_file = format!("--trigger-file={}", cut.display());
    let trigger = format!("--trigger=touch {}", fired.display());
    let data = "--filename=/dev/shm/fio-spdk-trigger-bench";
    let job = ["--name=t", "--ioengine=io_uring", "--rw=randwrite", "--bs=4k", "--iodepth=128", "--size=64m"];
    let more = ["--numjobs=2", "--offset_increment=64m", "--verify=crc32c", "--time_based", "--runtime=30"];
    let mut command = Command::new(program);
    command.current_dir(folder).args(job).args(more).args([data, &trigger_file, &trigger]);
    command.args(["--thread", "--output-format=json"]).stdin(Stdio::null());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the program runs");
    std::thread::sleep(Duration::from_millis(500));
    let clock = Clock::get();
    std::fs::write(&cut, "").expect("a trigger file");
    let begun_ns = clock.now_ns();
    while !fired.exists() && clock.now_ns() < begun_ns + 10_000_000_000 {
        std::thread::sleep(Duration::from_micros(100));
    }
    let ms = (clock.now_ns() - begun_ns) as f64 / 1e6;
    let output = child.wait_with_output().expect("the program ends");
    let _ = std::fs::remove_file("/dev/shm/fio-spdk-trigger-bench");
    (ms, String::from_utf8_lossy(&output.stdout).into_owned())
}
