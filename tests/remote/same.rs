//! The same job file, the same output.

use std::collections::BTreeSet;

use rustix::process::Signal;
use serde_json::Value;

use crate::common::servers::{Bench, LONG, all_checked};
use crate::common::{Done, Lab, at, in_time, jobs, number};

/// A run of a moment, whose report has a bit of everything.
const SHORT: &str = r#"
[global]
size = "1m"
bs = "4k"
iodepth = 4
[[job]]
name = "writes"
filename = "a"
rw = "randrw"
rwmixread = 30
number_ios = 200
verify = "crc32c"
fsync = 20
[[job]]
name = "reads"
stonewall = true
numjobs = 2
filename = "b"
rw = "read"
group_reporting = true
"#;

/// The paths of all values. What a list has depends on what was measured, and so have maps of numbers.
fn keys(value: &Value, path: &str, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let key = if key.starts_with(|c: char| c.is_ascii_digit() || c == '>') { "#" } else { key };
                keys(value, &format!("{path}/{key}"), into);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| keys(item, &format!("{path}/*"), into)),
        _ => {
            into.insert(path.to_owned());
        }
    }
}

fn all_keys(json: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    keys(json, "", &mut found);
    found
}

/// The words of a report without what was measured: numbers, their units, and spaces between.
fn words(text: &str) -> Vec<String> {
    let is_measured = |word: &&str| {
        let units = ["ns", "us", "ms", "s", "KiB/s", "MiB/s", "GiB/s", "B/s", "KiB", "MiB", "GiB", "k", "M"];
        !word.is_empty() && !word.chars().any(|c| c.is_ascii_digit()) && !units.contains(word)
    };
    let parts = |line: &str| {
        let parts = line.split([' ', ',', '(', ')', '=', '[', ']', ':', '|', '<', '%']);
        parts.filter(is_measured).map(str::to_owned).collect::<Vec<_>>().join(" ")
    };
    // How busy this machine was is said where it matters, and intervals where one was full.
    let is_busy = |line: &&String| {
        ["time other threads", "machine as busy", "interval"].iter().any(|part| line.contains(part))
    };
    let lines = text.lines().map(|line| parts(line.split(", waited").next().unwrap_or_default()));
    lines.filter(|line| !line.is_empty() && !is_busy(&line)).collect()
}

fn local(job: &str, arguments: &[&str]) -> Done {
    let lab = Lab::new();
    lab.file("j.toml", job);
    lab.run(arguments)
}

#[test]
fn a_run_there_has_the_same_text_and_the_same_keys_as_a_run_here() {
    let here = local(SHORT, &["j.toml", "--output-format=normal,json+"]).expect(0);
    for bench in [Bench::new(1), Bench::over_tcp()] {
        bench.lab.file("j.toml", SHORT);
        let there = bench.run(&["j.toml", "--output-format=normal,json+"]).expect(0);
        let parts = |done: &Done| {
            let begins = done.stdout.find("\n{").expect("the JSON stands behind the text");
            let (text, json) = done.stdout.split_at(begins);
            (words(text), serde_json::from_str::<Value>(json).expect("JSON"))
        };
        let ((text_here, json_here), (text_there, mut json_there)) = (parts(&here), parts(&there));
        assert_eq!(text_here, text_there);
        for job in json_there["jobs"].as_array_mut().expect("jobs") {
            let job = job.as_object_mut().expect("a job");
            assert!(job.remove("hostname").is_some() && job.remove("port").is_some(), "{job:#?}");
        }
        let (here, there) = (all_keys(&json_here), all_keys(&json_there));
        let differ: Vec<_> = here.symmetric_difference(&there).collect();
        assert!(differ.is_empty(), "{differ:#?}");
        for job in [0, 1] {
            for pointer in ["read/total_ios", "write/total_ios", "jobname", "groupid"] {
                // A mix is drawn; what is drawn comes from the seed.
                let pointer = format!("/jobs/{job}/{pointer}");
                assert_eq!(at(&json_here, &pointer), at(&json_there, &pointer), "{pointer}");
            }
        }
        assert_eq!(at(&json_here, "/jobs/0/job options"), at(&json_there, "/jobs/0/job options"));
    }
}

#[test]
fn exit_codes_and_sentences_are_those_of_a_run_here() {
    let bench = Bench::new(1);
    let base = ["j.toml", "--runtime=300ms"];
    let cases: &[(&[&str], u8, &str)] = &[
        // Nothing has run yet.
        (&["--verify_state_load"], 2, "snapshot"),
        (&[], 0, ""),
        (&["--rw=randred"], 2, "randread"),
        (&["--nonesuch=1"], 2, "nonesuch"),
        (&["--filename=missing/deep/data"], 4, "missing/deep"),
        (&["--max_latency=1ns"], 3, "max_latency"),
        (&["--readonly"], 6, "readonly"),
    ];
    for (more, code, says) in cases {
        let arguments = [&base[..], more].concat();
        let here = local(LONG, &arguments);
        let there = bench.run(&arguments);
        assert_eq!(here.code, Some(i32::from(*code)), "here: {here:#?}");
        assert_eq!(there.code, here.code, "there: {there:#?}");
        let said = format!("{}{}", there.stdout, there.stderr);
        assert!(said.contains(says) && !said.contains("panicked"), "{there:#?}");
    }
}

#[test]
fn a_broken_promise_is_told_with_exit_code_1_and_each_finding_stands_in_the_file() {
    let bench = Bench::new(1);
    bench.run(&["j.toml", "--runtime=500ms"]).expect(0);
    let data = bench.file_of(0, "data");
    let mut bytes = std::fs::read(&data).expect("what was written");
    bytes[3 << 12..5 << 12].fill(0);
    std::fs::write(&data, bytes).expect("the damage");
    let done = bench.run(&["j.toml", "--verify_state_load", "--verdicts=found", "--output-format=json"]);
    let json = done.expect(1).json();
    assert!(number(&json, "/jobs/0/verify/violations") >= 2, "{json:#}");
    let found = String::from_utf8(bench.lab.bytes("found")).expect("text");
    let lines: Vec<Value> = found.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(lines.len() >= 2 && lines.iter().all(|line| line["server"] == "unix:s0"), "{found}");
    assert!(lines.iter().any(|line| line.to_string().contains("data")), "{found}");
}

#[test]
fn the_live_line_and_reports_so_far_come_while_it_runs() {
    let bench = Bench::new(1);
    let mut running = bench.begin_all(&[
        "j.toml",
        "--eta=always",
        "--eta-interval=100ms",
        "--status-interval=1s",
        "--output-format=json",
    ]);
    bench.wait_for_writes(0);
    let documents_in = |text: &str| -> Vec<Value> {
        serde_json::Deserializer::from_str(text).into_iter::<Value>().map_while(Result::ok).collect()
    };
    running.wait_for_stdout("two reports", |text| documents_in(text).len() >= 2);
    running.wait_for_stderr("a live line", |text| text.contains('\r') && text.contains("IOPS"));
    running.signal(Signal::INT);
    let done = running.end().expect(130);
    let documents = documents_in(&done.stdout);
    assert!(documents.len() >= 3, "{}", done.stdout);
    let ios = |json: &Value| number(json, "/jobs/0/write/total_ios");
    assert!(documents.is_sorted_by_key(ios), "{}", done.stdout);
    let unfinished = |json: &Value| at(json, "/fio-spdk/unfinished") == true;
    assert!(
        documents[..documents.len() - 1].iter().all(unfinished)
            && !unfinished(&documents[documents.len() - 1])
    );
}

#[test]
fn a_signal_asks_for_the_report_so_far() {
    let bench = Bench::new(1);
    let mut running = bench.begin_all(&["j.toml"]);
    bench.wait_for_writes(0);
    // What the client has not heard of yet is not in its first report.
    let is_told = |text: &str| text.contains("so far") && text.contains("write:");
    assert!(in_time(|| {
        running.signal(Signal::USR1);
        std::thread::sleep(std::time::Duration::from_millis(200));
        is_told(&running.stderr_so_far())
    }));
    assert!(!running.has_ended(), "the run goes on");
    running.signal(Signal::INT);
    running.end().expect(130);
}

#[test]
fn what_can_be_said_without_a_server_asks_none() {
    let lab = Lab::new();
    lab.file("j.toml", LONG);
    let check = lab.run(&["j.toml", "--client=unix:nobody", "--check"]).expect(0);
    assert_eq!(check.stdout, "1 job, nothing wrong\n");
    let job = lab.run(&["j.toml", "--client=unix:nobody", "--print-job"]).expect(0);
    assert_eq!(job.stdout, lab.run(&["j.toml", "--print-job"]).expect(0).stdout);
    lab.run(&["j.toml", "--client=unix:nobody", "--rw=randred"]).expect(2).says("randread");
}

#[test]
fn logs_are_written_and_read_at_the_server() {
    let bench = Bench::new(1);
    let before = bench.lab.names();
    let write = [
        "--name=j",
        "--filename=data",
        "--rw=randwrite",
        "--size=1m",
        "--bs=4k",
        "--number_ios=64",
        "--write_iolog=log",
        "--write_bw_log=bw",
        "--log_avg_msec=10",
        "--bandwidth-log=all",
    ];
    bench.json(&write);
    for name in ["log", "bw_bw.1.log", "all-write_bw.log", "data"] {
        assert!(bench.file_of(0, name).exists(), "{name} is missing");
    }
    let json = bench.json(&["--name=j", "--read_iolog=log"]);
    assert_eq!(number(&json, "/jobs/0/write/total_ios"), 64);
    assert_eq!(bench.lab.names(), before, "nothing of it lies at the client");
}

#[test]
fn two_hundred_workers_report_one_by_one_and_promise_all_that_they_wrote() {
    let bench = Bench::new(1);
    let job = LONG.replace("size = \"2m\"", "size = \"32k\"").replace("filename = \"data\"", "numjobs = 200");
    let job = job.replace("[global]\n", "[global]\nioengine = \"psync\"\nstate_checkpoint = \"200ms\"\n");
    let job = job
        .replace("time_based = true\nruntime = \"10m\"\nfsync = 10\nend_fsync = true\n", "number_ios = 8\n");
    bench.lab.file("j.toml", job);
    let json = bench.json(&["j.toml"]);
    assert_eq!(jobs(&json).len(), 200);
    for job in jobs(&json) {
        all_checked(job, "");
    }
    let bytes = bench.lab.bytes("j.unix_._s0.state");
    let state = fio_spdk::verify::snapshot::Snapshot::decode(&bytes).expect("a snapshot");
    let workers: Vec<_> = state.jobs.iter().flat_map(|job| &job.workers).collect();
    assert_eq!(workers.len(), 200);
    assert!(workers.iter().all(|worker| worker.promises.writes.issued == 8), "{workers:#?}");
}
