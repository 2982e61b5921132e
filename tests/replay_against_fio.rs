//! Logs go between fio and this program both ways, where fio is installed.

#![allow(clippy::print_stderr, reason = "says why trials are skipped")]

mod common;

use std::process::Command;

use common::{Lab, first};
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value;

fn main() -> std::process::ExitCode {
    let arguments = Arguments::from_args();
    let fio = Command::new("fio").arg("--version").output().is_ok_and(|out| out.status.success());
    if !fio {
        eprintln!("skipped: fio is not installed (apt-get install fio)");
    }
    let trials = vec![
        Trial::test("what_fio_wrote_down_is_replayed_here", fios_here),
        Trial::test("what_was_written_down_here_is_replayed_by_fio", ours_by_fio),
    ];
    let trials = trials.into_iter().map(|trial| trial.with_ignored_flag(!fio)).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn fio(lab: &Lab, arguments: &[&str]) -> Result<Value, Failed> {
    let out = lab.command("fio").args(["--name=j", "--output-format=json"]).args(arguments).output()?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let json = text.get(text.find('{').ok_or(format!("fio said no JSON: {out:?}"))?..).unwrap_or_default();
    Ok(serde_json::from_str(json)?)
}

/// The I/Os of a log.
fn ios(lab: &Lab, log: &str) -> Vec<String> {
    let text = String::from_utf8_lossy(&lab.bytes(log)).into_owned();
    let lines = text.lines().skip(1).filter_map(|line| Some(line.split_once(' ')?.1.to_owned()));
    let all = lines.filter(|line| ![" add", " open", " close"].iter().any(|end| line.ends_with(end)));
    // fio gives a flush the offset of the I/O before it.
    all.map(
        |line| {
            if line.contains(" sync ") { line[..=line.find(" sync").unwrap_or(0)].to_owned() } else { line }
        },
    )
    .collect()
}

fn fios_here() -> Result<(), Failed> {
    let lab = Lab::new();
    let job = ["--filename=a:b", "--size=256k", "--rw=randrw", "--bssplit=512/20:4k/50:8k/30", "--fsync=7"];
    let json = fio(&lab, &[&job[..], &["--write_iolog=fios.log"]].concat())?;
    let replayed = lab.json(&["--read_iolog=fios.log", "--write_iolog=ours.log"]);
    assert_eq!(ios(&lab, "fios.log"), ios(&lab, "ours.log"));
    for pointer in ["/read/io_bytes", "/write/io_bytes", "/read/total_ios", "/write/total_ios"] {
        assert_eq!(first(&json, pointer), first(&replayed, pointer), "{pointer}");
    }
    Ok(())
}

fn ours_by_fio() -> Result<(), Failed> {
    let lab = Lab::new();
    let job =
        ["--name=j", "--filename=a:b", "--size=256k", "--rw=randrw", "--bs=4k", "--fsync=7", "--end_fsync"];
    let json = lab.json(&[&job[..], &["--write_iolog=ours.log"]].concat());
    let replayed = fio(&lab, &["--read_iolog=ours.log"])?;
    for pointer in
        ["/read/io_bytes", "/write/io_bytes", "/read/total_ios", "/write/total_ios", "/sync/total_ios"]
    {
        assert_eq!(first(&json, pointer), first(&replayed, pointer), "{pointer}");
    }
    Ok(())
}
