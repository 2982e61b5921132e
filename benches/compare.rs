//! fio and this, side by side: the same work, the same CPU, runs taken in turn, full latency
//! statistics on both sides. Prints the ratio of the medians with its spread, and the floor that
//! the project holds itself to.
//!
//! `ci/compare` runs it. `--rounds N`, `--seconds S`, `--only WORD`, `--fio PATH`, `--bare PATH` (fio's
//! `t/io_uring`, a loop without statistics: the upper bound of what io_uring gives here).
#![expect(clippy::print_stdout, reason = "a benchmark prints")]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use serde_json::Value;

const OURS: &str = env!("CARGO_BIN_EXE_fio-spdk");

struct Settings {
    rounds: usize,
    seconds: u32,
    only: String,
    fio: String,
    bare: Option<String>,
    cpu: u32,
}

/// One comparison: what both are told, what only one of them is told, and the least ratio.
struct Case {
    name: &'static str,
    both: Vec<String>,
    fio_only: Vec<Vec<&'static str>>,
    ours_only: Vec<&'static str>,
    floor: f64,
}

fn main() -> ExitCode {
    let settings = settings();
    if !answers(&settings.fio) {
        println!("skipped: {} does not run: apt-get install fio, or --fio PATH", settings.fio);
        return ExitCode::SUCCESS;
    }
    println!(
        "CPU {}, {} rounds of {} s each, IOPS in thousands, median (least to most)\n",
        settings.cpu, settings.rounds, settings.seconds
    );
    println!("{:<28} {:>24} {:>24} {:>20}  floor", "", "fio-spdk", "fio", "ratio");
    let zram = Zram::new();
    if zram.is_none() {
        println!("skipped: everything on zram: needs root and a kernel with zram");
    }
    let scratch = PathBuf::from("/dev/shm/fio-spdk-compare");
    let mut below = false;
    for case in cases(zram.as_ref(), &scratch).into_iter().filter(|case| case.name.contains(&settings.only)) {
        below |= !compare(&case, &settings);
    }
    if let (Some(bare), Some(zram)) = (&settings.bare, &zram) {
        below |= !against_bare(bare, zram, &settings);
    }
    let _ = fs::remove_file(&scratch);
    if below { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn settings() -> Settings {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| {
        let place = arguments.iter().position(|argument| argument == name)?;
        arguments.get(place + 1).cloned()
    };
    let cpus = fio_spdk::base::host::affinity::available().expect("the usable CPUs");
    Settings {
        rounds: value("--rounds").and_then(|text| text.parse().ok()).unwrap_or(5),
        seconds: value("--seconds").and_then(|text| text.parse().ok()).unwrap_or(2),
        only: value("--only").unwrap_or_default(),
        fio: value("--fio").unwrap_or_else(|| "fio".to_owned()),
        bare: value("--bare"),
        // Not the first, which serves most interrupts.
        cpu: cpus.last().copied().unwrap_or(0),
    }
}

fn answers(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|out| out.status.success())
}

fn cases(zram: Option<&Zram>, scratch: &std::path::Path) -> Vec<Case> {
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<String>>();
    let on = |target: String, text: &str| [words(text), vec![format!("--filename={target}")]].concat();
    // Both ways to batch that do well; the better one counts.
    let batches = |count: &'static str, least: &'static str, most: &'static str| {
        vec!["--fixedbufs=1", "--registerfiles=1", count, least, most]
    };
    let mut cases = vec![
        Case {
            name: "null, depth 32",
            both: words("--ioengine=null --size=1t --iodepth=32"),
            fio_only: vec![vec![]],
            ours_only: vec![],
            floor: 15.0,
        },
        Case {
            name: "null, depth 1",
            both: words("--ioengine=null --size=1t --iodepth=1"),
            fio_only: vec![vec![]],
            ours_only: vec![],
            floor: 5.0,
        },
        Case {
            name: "psync, file in /dev/shm",
            both: on(scratch.display().to_string(), "--ioengine=psync --size=256m"),
            fio_only: vec![vec![]],
            ours_only: vec![],
            floor: 1.2,
        },
    ];
    if let Some(zram) = zram {
        cases.push(Case {
            name: "psync, zram",
            both: on(zram.path(), "--ioengine=psync --direct=1"),
            fio_only: vec![vec![]],
            ours_only: vec![],
            floor: 1.2,
        });
        cases.push(Case {
            name: "io_uring, zram, depth 32",
            both: on(zram.path(), "--ioengine=io_uring --direct=1 --iodepth=32"),
            fio_only: vec![
                batches(
                    "--iodepth_batch_submit=16",
                    "--iodepth_batch_complete_min=16",
                    "--iodepth_batch_complete_max=16",
                ),
                batches(
                    "--iodepth_batch_submit=32",
                    "--iodepth_batch_complete_min=32",
                    "--iodepth_batch_complete_max=32",
                ),
            ],
            ours_only: vec!["--iodepth_batch_complete_min=32"],
            floor: 1.4,
        });
    }
    cases
}

/// True if the floor was reached.
fn compare(case: &Case, settings: &Settings) -> bool {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..settings.rounds {
        ours.push(iops(OURS, case, &case.ours_only, settings));
        let best = case.fio_only.iter().map(|more| iops(&settings.fio, case, more, settings));
        theirs.push(best.fold(0.0, f64::max));
    }
    show(case.name, &ours, &theirs, case.floor)
}

fn show(name: &str, ours: &[f64], theirs: &[f64], floor: f64) -> bool {
    let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(mine, other)| mine / other).collect();
    let ratio = median(ours) / median(theirs);
    let enough = ratio >= floor;
    println!(
        "{name:<28} {:>24} {:>24} {:>20}  {floor}{}",
        spread(ours, 1000.0, 0),
        spread(theirs, 1000.0, 0),
        format!("{ratio:.2} ({:.2} to {:.2})", least(&ratios), most(&ratios)),
        if enough { "" } else { "  BELOW" }
    );
    enough
}

fn iops(program: &str, case: &Case, more: &[&str], settings: &Settings) -> f64 {
    let out = Command::new(program)
        .args([
            "--name=compare",
            "--rw=randread",
            "--bs=4k",
            "--time_based",
            "--thread",
            "--output-format=json",
        ])
        .args(&case.both)
        .args(more)
        .arg(format!("--runtime={}", settings.seconds))
        .arg(format!("--cpus_allowed={}", settings.cpu))
        .output()
        .expect("the program runs");
    assert!(out.status.success(), "{program}: {}", String::from_utf8_lossy(&out.stderr));
    let json: Value = serde_json::from_slice(&out.stdout).expect("JSON on standard output");
    json.pointer("/jobs/0/read/iops").and_then(Value::as_f64).expect("IOPS of the reads")
}

/// Against fio's bare io_uring loop with the same flags, which keeps no statistics.
fn against_bare(bare: &str, zram: &Zram, settings: &Settings) -> bool {
    let case = cases(Some(zram), std::path::Path::new("/")).pop().expect("the io_uring case");
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..settings.rounds {
        ours.push(iops(OURS, &case, &case.ours_only, settings));
        let out = Command::new("taskset")
            .args(["-c", &settings.cpu.to_string(), bare])
            .args(["-d32", "-s32", "-c32", "-p0", "-B1", "-F1", "-n1", "-b4096", "-R1"])
            .args([format!("-r{}", settings.seconds), zram.path()])
            .output()
            .expect("the bare loop runs");
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let most = text.lines().rev().find_map(|line| line.strip_prefix("Maximum IOPS="));
        theirs.push(most.and_then(thousands).expect("its IOPS"));
    }
    show("io_uring, against bare loop", &ours, &theirs, 0.95)
}

fn thousands(text: &str) -> Option<f64> {
    let scale = if text.ends_with('M') { 1e6 } else { 1e3 };
    text.trim().trim_end_matches(['K', 'M']).parse::<f64>().ok().map(|number| number * scale)
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

fn most(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

fn spread(values: &[f64], unit: f64, digits: usize) -> String {
    let [middle, low, high] = [median(values), least(values), most(values)].map(|value| value / unit);
    format!("{middle:.digits$} ({low:.digits$} to {high:.digits$})")
}

/// A block device in memory, made here and removed at the end. Nothing is ever written to it: its
/// pages read as zeros, so that the device costs as little as it can.
struct Zram {
    number: String,
}

impl Zram {
    fn new() -> Option<Zram> {
        let number = fs::read_to_string("/sys/class/zram-control/hot_add").ok()?.trim().to_owned();
        let zram = Zram { number };
        fs::write(format!("/sys/block/zram{}/disksize", zram.number), "1G").ok()?;
        Some(zram)
    }

    fn path(&self) -> String {
        format!("/dev/zram{}", self.number)
    }
}

impl Drop for Zram {
    fn drop(&mut self) {
        // Whoever looked at the device last (udev, for instance) may hold it for a moment.
        for _ in 0..20 {
            if fs::write("/sys/class/zram-control/hot_remove", &self.number).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }
}
