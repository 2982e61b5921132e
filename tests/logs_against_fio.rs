//! Logs beside those that fio writes of the same job, where fio is installed: the same files, the same
//! lines in all that is the job's. Time and value are another's.

#![allow(clippy::print_stderr, reason = "says why trials are skipped")]

mod common;

use std::process::{Command, ExitCode};

use common::{Lab, Running};
use libtest_mimic::{Arguments, Failed, Trial};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let fio = Command::new("fio").arg("--version").output().is_ok_and(|out| out.status.success());
    if !fio {
        eprintln!("skipped: fio is not installed (apt-get install fio)");
    }
    let trials = vec![
        Trial::test("every_write_has_fios_line", || every_io("--rw=write")),
        Trial::test("every_read_has_fios_line", || every_io("--rw=read")),
        Trial::test("windows_have_fios_columns", windows),
    ];
    let trials = trials.into_iter().map(|trial| trial.with_ignored_flag(!fio)).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Runs a job here and with fio, each in a directory of its own.
fn both(job: &[&str]) -> (Lab, Lab) {
    let (ours, theirs) = (Lab::new(), Lab::new());
    ours.run(job).expect(0);
    let mut command = theirs.command("fio");
    command.args(job);
    Running::of(command).end().expect(0);
    (ours, theirs)
}

fn logs(lab: &Lab) -> Vec<String> {
    lab.names().into_iter().filter(|name| name.ends_with(".log")).collect()
}

fn columns(lab: &Lab, name: &str) -> Result<Vec<Vec<u64>>, Failed> {
    let text = String::from_utf8(lab.bytes(name))?;
    let line = |line: &str| line.split(", ").map(|field| Ok(field.parse()?)).collect();
    text.lines().map(line).collect()
}

fn every_io(rw: &str) -> Result<(), Failed> {
    let (ours, theirs) = both(&[
        "--name=j",
        "--ioengine=psync",
        "--bs=4k",
        "--size=256k",
        "--filename=data",
        "--write_bw_log=a",
        "--write_lat_log=b",
        "--write_iops_log=c",
        "--log_offset=1",
        rw,
    ]);
    assert_eq!(logs(&ours), logs(&theirs));
    assert_eq!(logs(&ours).len(), 5);
    for name in logs(&ours) {
        let (here, there) = (columns(&ours, &name)?, columns(&theirs, &name)?);
        // Nothing is submitted apart from being done.
        let lines = if name == "b_slat.1.log" { 0 } else { 64 };
        assert_eq!((here.len(), there.len()), (lines, lines), "{name}");
        for (line, fios) in here.iter().zip(&there) {
            assert_eq!(line[2..], fios[2..], "{name}");
            if name == "c_iops.1.log" {
                assert_eq!(line[1], fios[1], "one I/O");
            }
        }
    }
    Ok(())
}

fn windows() -> Result<(), Failed> {
    let (ours, theirs) = both(&[
        "--name=j",
        "--ioengine=null",
        "--rw=randrw",
        "--size=1g",
        "--time_based",
        "--runtime=1s",
        "--write_bw_log=a",
        "--write_lat_log=b",
        "--write_iops_log=c",
        "--write_hist_log=d",
        "--log_hist_msec=100",
        "--log_hist_coarseness=3",
        "--log_avg_msec=100",
        "--log_offset=1",
    ]);
    assert_eq!(logs(&ours), logs(&theirs));
    for name in logs(&ours).into_iter().filter(|name| name != "b_slat.1.log") {
        let (here, there) = (columns(&ours, &name)?, columns(&theirs, &name)?);
        let widths =
            |lines: &[Vec<u64>]| lines.iter().map(Vec::len).collect::<std::collections::BTreeSet<_>>();
        assert_eq!(widths(&here), widths(&there), "{name}");
        let is_histogram = name.starts_with("d_");
        let directions = |lines: &[Vec<u64>]| {
            let at = if is_histogram { 1 } else { 2 };
            lines.iter().map(|line| line[at]).collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(directions(&here), directions(&there), "{name}");
        // Two directions in ten windows, and what a busy machine leaves of them or adds at the end.
        let last_ms = here.last().map_or(0, |line| line[0]);
        let most = 2 * (last_ms as usize / 100 + 2);
        assert!((4..=most).contains(&here.len()), "{name}: {} lines, {most} at most", here.len());
        if !is_histogram {
            assert!(here.iter().chain(&there).all(|line| line[3..] == [0, 0, 0]), "{name}");
        }
    }
    Ok(())
}
