//! What a rate or a pause lets through beside what fio lets through for the same options, on an
//! engine that takes no time. fio may be ahead or behind by what a busy machine makes of it.

#![allow(clippy::print_stderr, reason = "says why tests are skipped")]

use std::process::Command;

use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value;

const COMMON: [&str; 7] = [
    "--name=j",
    "--ioengine=null",
    "--size=1g",
    "--time_based",
    "--runtime=2",
    "--output-format=json",
    "--randrepeat=1",
];

fn main() {
    let fio = Command::new("fio").arg("--version").output().is_ok_and(|out| out.status.success());
    if !fio {
        eprintln!("skipped: fio is not installed (apt-get install fio)");
    }
    let cases: [(&str, &[&str]); 6] = [
        ("rate_iops", &["--rw=randread", "--rate_iops=1000"]),
        ("rate", &["--rw=read", "--rate=20m", "--bs=16k", "--iodepth=4"]),
        ("a mix with two rates", &["--rw=randrw", "--rate=8m,2m"]),
        ("random gaps", &["--rw=randwrite", "--rate_iops=2000", "--rate_process=poisson"]),
        ("pauses", &["--rw=randread", "--thinktime=10000", "--thinktime_blocks=10"]),
        ("sizes that vary", &["--rw=randread", "--bssplit=4k/50:16k/50", "--rate_iops=1000"]),
    ];
    let trial = |(name, options): &(&str, &'static [&'static str])| {
        let options = *options;
        Trial::test(format!("{name} as in fio"), move || compare(options)).with_ignored_flag(!fio)
    };
    let mut arguments = Arguments::from_args();
    // Side by side they would take each other's time.
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, cases.iter().map(trial).collect()).exit();
}

fn bytes_of(program: &str, options: &[&str]) -> Result<[f64; 2], Failed> {
    let out = Command::new(program).args(COMMON).args(options).output()?;
    let json: Value = serde_json::from_slice(&out.stdout)?;
    let bytes = |op: &str| json.pointer(&format!("/jobs/0/{op}/io_bytes")).and_then(Value::as_f64);
    Ok(["read", "write"].map(|op| bytes(op).unwrap_or(0.0)))
}

/// Whoever is kept from the processor for some time lets less through: the claim is of one comparison in five
/// in which neither was.
fn compare(options: &[&str]) -> Result<(), Failed> {
    let mut comparison = compare_once(options);
    for _ in 1..5 {
        if comparison.is_err() {
            comparison = compare_once(options);
        }
    }
    comparison
}

fn compare_once(options: &[&str]) -> Result<(), Failed> {
    let (ours, fios) = (bytes_of(env!("CARGO_BIN_EXE_fio-spdk"), options)?, bytes_of("fio", options)?);
    for (mine, fios) in ours.into_iter().zip(fios) {
        if (mine == 0.0) != (fios == 0.0) || fios > 0.0 && (mine / fios - 1.0).abs() > 0.15 {
            return Err(format!("{options:?}: {mine} bytes here, {fios} in fio").into());
        }
        eprintln!("{options:?}: {mine} bytes here, {fios} in fio");
    }
    Ok(())
}
