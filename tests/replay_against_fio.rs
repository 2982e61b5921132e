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
        Trial::test("blktraces_are_merged_as_fio_merges_them", merged_alike),
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

/// An arrival of a read of 512 bytes.
fn event(time: u64, sector: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let words =
        |out: &mut Vec<u8>, words: &[u32]| words.iter().for_each(|word| out.extend(word.to_le_bytes()));
    words(&mut out, &[0x6561_7407, 1]);
    out.extend(time.to_le_bytes());
    out.extend(sector.to_le_bytes());
    words(&mut out, &[512, 1 << 16 | 1, 7, 0x80_0000, 0, 0]);
    out
}

fn merged_alike() -> Result<(), Failed> {
    let lab = Lab::new();
    let file = |name: &str, events: &[(u64, u64)]| {
        lab.file(name, events.iter().flat_map(|&(time, sector)| event(time, sector)).collect::<Vec<u8>>());
    };
    file("one", &[(0, 1), (10_000, 2), (50_000, 3)]);
    file("two", &[(0, 10), (7000, 11), (90_000, 12)]);
    let logs = "--read_iolog=one:two";
    let how = ["--merge_blktrace_scalars=50:100", "--merge_blktrace_iters=2:1"];
    let out = lab
        .command("fio")
        .args(["--name=j", logs, "--merge_blktrace_file=fios", "--merge-blktrace-only"])
        .args(how)
        .output()?;
    assert!(out.status.success(), "{out:?}");
    lab.run(
        &[&[logs, "--merge_blktrace_file=ours", "--replay_redirect=f", "--replay_no_stall"], &how[..]]
            .concat(),
    )
    .expect(0);
    // Of what falls on one moment either may come first.
    let sorted = |name: &str| {
        let bytes = lab.bytes(name);
        let mut events: Vec<Vec<u8>> = bytes.chunks(48).map(|event| event[8..28].to_vec()).collect();
        events.sort();
        events
    };
    assert_eq!(sorted("fios"), sorted("ours"));
    Ok(())
}
