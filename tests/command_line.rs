//! What the command takes, says and answers: arguments, streams, signals, exit codes.

mod common;

use std::fs;
use std::process::Stdio;

use common::{KIB, Lab, MIB, Running, at, first, jobs, number};
use rustix::process::Signal;
use serde_json::Value;

/// A job that ends at once and needs no file.
const NULL: [&str; 4] = ["--name=n", "--ioengine=null", "--size=1m", "--rw=read"];
/// A job that goes on until it is told to stop.
const ENDLESS: [&str; 7] = [
    "--name=n",
    "--ioengine=null",
    "--size=1t",
    "--rw=randread",
    "--runtime=1h",
    "--time_based",
    "--output-format=json",
];

fn with<'a>(job: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [job, more].concat()
}

const TWO_JOBS: &str = "
[global]
filename = \"data\"
size = \"64k\"

[[job]]
name = \"fill\"
rw = \"write\"

[[job]]
name = \"look\"
stonewall = true
rw = \"randrw\"
rwmixread = 30
bs = { read = \"4k\", write = \"8k\" }
";

#[test]
fn a_run_that_is_well_ends_with_zero_and_a_report() {
    let done = Lab::new().run(&NULL).expect(0);
    assert!(done.stdout.contains("read: IOPS="), "{done:?}");
    assert_eq!(done.stderr, "");
}

#[test]
fn check_opens_nothing() {
    let lab = Lab::new();
    lab.file("two.toml", TWO_JOBS);
    let done = lab.run(&["--check", "two.toml"]).expect(0);
    assert!(done.stdout.starts_with("2 jobs"), "{done:?}");
    lab.run(&["--check", "two.toml", "--filename=/no/such/directory/file"]).expect(0);
    lab.run(&["--check", "two.toml", "--bs=nonsense"]).expect(2);
    assert_eq!(lab.names(), ["two.toml"]);
}

#[test]
fn a_printed_job_prints_itself_and_runs() {
    let lab = Lab::new();
    lab.file("two.toml", TWO_JOBS);
    let printed = lab.run(&["--print-job", "two.toml", "--iodepth=3", "--runtime=90"]).expect(0).stdout;
    assert_eq!(lab.names(), ["two.toml"], "printing opens nothing");
    lab.file("again.toml", &printed);
    let again = lab.run(&["--print-job", "again.toml"]).expect(0).stdout;
    assert_eq!(printed, again);
    let json = lab.json(&["again.toml"]);
    assert_eq!(jobs(&json).len(), 2);
    assert_eq!(first(&json, "/write/io_bytes"), 64 * KIB);
    // The report carries the job, too.
    lab.file("carried.toml", at(&json, "/fio-spdk/job_toml").as_str().unwrap());
    assert_eq!(lab.run(&["--print-job", "carried.toml"]).expect(0).stdout, printed);
}

#[test]
fn several_job_files_are_one_list_each_with_its_own_global() {
    let lab = Lab::new();
    lab.file("a.toml", "[global]\nioengine='null'\nsize='64k'\n[[job]]\nname='a'\nbs='4k'\n");
    lab.file("b.toml", "[[job]]\nname='b'\nioengine='null'\nsize='128k'\nbs='8k'\n");
    let json = lab.json(&["a.toml", "b.toml"]);
    let seen: Vec<(&str, u64)> = jobs(&json)
        .iter()
        .map(|job| (at(job, "/jobname").as_str().unwrap(), number(job, "/read/total_ios")))
        .collect();
    assert_eq!(seen, [("a", 16), ("b", 16)]);
}

#[test]
fn what_the_command_line_sets_goes_above_all_files() {
    let lab = Lab::new();
    lab.file("a.toml", "[global]\nsize='64k'\nioengine='null'\n[[job]]\nbs='4k'\n[[job]]\nbs='8k'\n");
    let json = lab.json(&["a.toml", "--bs=16k", "--size=32k"]);
    for job in jobs(&json) {
        assert_eq!((number(job, "/read/total_ios"), number(job, "/read/io_bytes")), (2, 32 * KIB));
    }
}

#[test]
fn a_job_file_can_come_from_standard_input() {
    let lab = Lab::new();
    let script = format!("echo '[[job]]\nioengine=\"null\"\nsize=\"8k\"' | {} -", common::BINARY);
    let mut shell = lab.command("sh");
    shell.args(["-c", &script]);
    Running::of(shell).end().expect(0);
}

#[test]
fn a_bad_job_is_two_and_nothing_starts() {
    let lab = Lab::new();
    lab.file("bad.toml", "[[job]]\nfilename='data'\nsize='64k'\nrw='write'\nbs='4q'\niodpeth=2\n");
    let done = lab.run(&["bad.toml"]).expect(2).says("4q").says("iodepth");
    assert_eq!(done.stdout, "");
    lab.run(&[]).expect(2);
    lab.run(&["--outptu=x", "--size=1m"]).expect(2).says("--output");
    lab.run(&with(&NULL, &["--output-format=xml"])).expect(2).says("xml");
    lab.run(&with(&NULL, &["--status-interval=0"])).expect(2);
    lab.run(&with(&NULL, &["--status-interval=soon"])).expect(2);
    assert_eq!(lab.names(), ["bad.toml"]);
}

#[test]
fn job_files_that_are_none_are_two() {
    let lab = Lab::new();
    lab.run(&["missing.toml"]).expect(2).says("missing.toml");
    fs::create_dir(lab.path("directory.toml")).unwrap();
    lab.run(&["directory.toml"]).expect(2).says("directory.toml");
    let binary: Vec<u8> = (0..=255).cycle().take(5000).collect();
    lab.file("binary.toml", binary);
    lab.run(&["binary.toml"]).expect(2).says("binary.toml");
    lab.file("empty.toml", "");
    lab.run(&["empty.toml"]).expect(2);
    // One file that is well does not hide one that is not.
    lab.file("good.toml", "[[job]]\nioengine='null'\nsize='4k'\n");
    let done = lab.run(&["good.toml", "missing.toml"]).expect(2);
    assert_eq!(done.stdout, "");
}

#[test]
fn the_report_goes_to_a_file() {
    let lab = Lab::new();
    lab.file("report", "x".repeat(100_000));
    let done = lab.run(&with(&NULL, &["--output=report", "--output-format=json"])).expect(0);
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("", ""));
    let report: Value = serde_json::from_slice(&lab.bytes("report")).unwrap();
    assert_eq!(first(&report, "/read/io_bytes"), MIB);
}

#[test]
fn a_report_that_could_not_be_written_is_found_out_before_the_run() {
    let lab = Lab::new();
    let job = ["--filename=data", "--rw=write", "--size=64k", "--output=no/such/report"];
    lab.run(&job).expect(2).says("no/such/report");
    lab.run(&["--filename=data", "--rw=write", "--size=64k", "--output=."]).expect(2);
    assert_eq!(lab.names(), [""; 0]);
}

#[test]
fn a_run_that_does_not_start_keeps_the_old_report() {
    let lab = Lab::new();
    lab.file("report", "old");
    lab.run(&["--filename=data", "--rw=write", "--output=report"]).expect(2).says("size");
    assert_eq!(lab.bytes("report"), b"old");
}

#[test]
fn json_stands_alone_on_standard_output() {
    let lab = Lab::new();
    for format in ["json", "json+"] {
        // Laying out is told, and so is a blocking engine with a depth: on the other stream.
        let name = format!("--filename=data-{format}");
        let done = lab
            .run(&["--output-format", format, &name, "--rw=read", "--size=64k", "--iodepth=4"])
            .expect(0)
            .says("note: ");
        let json = done.json();
        assert_eq!(first(&json, "/read/total_ios"), 16);
        let bins = json.pointer("/jobs/0/read/clat_ns/bins");
        assert_eq!(bins.is_some(), format == "json+", "{format}");
        assert_eq!(at(&json, "/fio-spdk/unfinished"), &Value::Bool(false));
        assert_eq!(at(&json, "/fio-spdk/ended_by_signal"), &Value::Null);
    }
}

#[test]
fn two_formats_follow_each_other() {
    let done = Lab::new().run(&with(&NULL, &["--output-format=normal,json"])).expect(0);
    let (normal, json) = done.stdout.split_once("\n{").expect("both reports");
    assert!(normal.contains("read") && normal.contains("IOPS"), "{normal}");
    let json: Value = serde_json::from_str(&format!("{{{json}")).unwrap();
    assert_eq!(first(&json, "/read/total_ios"), 256);
}

#[test]
fn reports_so_far_are_one_document_a_line_and_never_go_back() {
    let lab = Lab::new();
    let mut running = lab.spawn(&with(&ENDLESS, &["--status-interval=300ms", "--iodepth=4"]));
    running.wait_for_stdout("three reports", |text| text.matches('\n').count() >= 3);
    running.signal(Signal::INT);
    let documents = running.end().expect(130).reports();
    // One every 300 ms, or later where the machine has others to serve, and the last.
    let most = first(&documents[documents.len() - 1], "/read/runtime") / 300 + 3;
    assert!((4..=most).contains(&(documents.len() as u64)), "{} documents, {most} at most", documents.len());
    let unfinished: Vec<bool> =
        documents.iter().map(|json| at(json, "/fio-spdk/unfinished").as_bool().unwrap()).collect();
    assert!(unfinished[..unfinished.len() - 1].iter().all(|&yes| yes), "{unfinished:?}");
    assert!(!unfinished[unfinished.len() - 1], "{unfinished:?}");
    let ios: Vec<u64> = documents.iter().map(|json| first(json, "/read/total_ios")).collect();
    assert!(ios.is_sorted() && ios[0] < ios[ios.len() - 1], "{ios:?}");
    let runtimes: Vec<u64> = documents.iter().map(|json| first(json, "/read/runtime")).collect();
    assert!(runtimes.is_sorted() && runtimes[0] < runtimes[runtimes.len() - 1], "{runtimes:?}");
}

#[test]
fn reports_so_far_do_not_count_the_ramp() {
    let lab = Lab::new();
    let job = ["--ioengine=null", "--size=1t", "--runtime=400ms", "--time_based", "--ramp_time=2s"];
    let done = lab.run(&with(&job, &["--output-format=json", "--status-interval=300ms"])).expect(0);
    let ios: Vec<u64> = done
        .stdout
        .lines()
        .map(|line| first(&serde_json::from_str(line).unwrap(), "/read/total_ios"))
        .collect();
    assert!(ios.len() >= 2 && ios[0] == 0 && ios.is_sorted() && ios[ios.len() - 1] > 0, "{ios:?}");
}

#[test]
fn a_signal_ends_the_laying_out_of_files() {
    let lab = Lab::new();
    let mut running =
        lab.spawn(&["--filename=data", "--size=4g", "--fallocate=none", "--output-format=json"]);
    running.wait_for_file(&lab.path("data"));
    running.signal(Signal::INT);
    let json = running.end().expect(130).json();
    assert_eq!(number(&json, "/fio-spdk/ended_by_signal"), 2);
    assert_eq!(lab.names(), [""; 0], "half a file is of no use");
}

#[test]
fn a_report_asked_for_by_signal_goes_to_standard_error_and_the_run_goes_on() {
    let lab = Lab::new();
    let mut running = lab.spawn(&ENDLESS);
    running.wait_for_worker("n.0").signal(Signal::USR1);
    running.wait_for_stderr("a report", |text| text.contains("read:") && text.contains("IOPS"));
    // A second one comes only if it goes on.
    let so_far = running.stderr_so_far().len();
    running.signal(Signal::USR1);
    running.wait_for_stderr("another report", |text| text[so_far..].contains("IOPS"));
    running.signal(Signal::INT);
    assert!(first(&running.end().expect(130).json(), "/read/total_ios") > 0);
}

fn ends_by(signal: Signal, number_of_it: i32) {
    let lab = Lab::new();
    let mut running = lab.spawn(&ENDLESS);
    running.wait_for_worker("n.0").signal(signal);
    let done = running.end().expect(128 + number_of_it);
    let json = done.json();
    assert_eq!(at(&json, "/fio-spdk/ended_by_signal"), &Value::from(number_of_it));
    assert!(first(&json, "/read/total_ios") > 0);
}

#[test]
fn sigint_ends_the_run_with_its_report() {
    ends_by(Signal::INT, 2);
}

#[test]
fn sigterm_ends_the_run_with_its_report() {
    ends_by(Signal::TERM, 15);
}

#[test]
fn sighup_ends_the_run_with_its_report() {
    ends_by(Signal::HUP, 1);
}

#[test]
fn the_normal_report_says_what_ended_the_run() {
    let lab = Lab::new();
    let mut running = lab.spawn(&ENDLESS[..6]);
    running.wait_for_worker("n.0").signal(Signal::INT);
    let done = running.end().expect(130);
    assert!(done.stdout.to_lowercase().contains("signal"), "{done:?}");
}

#[test]
fn a_signal_ends_all_stages() {
    let lab = Lab::new();
    lab.file(
        "stages.toml",
        "[global]\nioengine='null'\nsize='1t'\nruntime='1h'\ntime_based=true\n[[job]]\nname='one'\n\
         [[job]]\nname='two'\nstonewall=true\n",
    );
    let mut running = lab.spawn(&["stages.toml", "--output-format=json"]);
    running.wait_for_worker("one.0").signal(Signal::INT);
    let json = running.end().expect(130).json();
    assert_eq!(jobs(&json).len(), 1, "the second stage never began: {json:#}");
}

#[test]
fn a_signal_within_ramp_time_ends_the_run_with_nothing_counted() {
    let lab = Lab::new();
    let mut running = lab.spawn(&with(&ENDLESS, &["--ramp_time=1h"]));
    running.wait_for_worker("n.0").signal(Signal::TERM);
    let json = running.end().expect(143).json();
    assert_eq!(first(&json, "/read/total_ios"), 0);
}

#[test]
fn two_signals_in_a_row_still_leave_a_report() {
    let lab = Lab::new();
    let mut running = lab.spawn(&ENDLESS);
    running.wait_for_worker("n.0").signal(Signal::INT);
    running.signal(Signal::INT);
    let json = running.end().expect(130).json();
    assert_eq!(number(&json, "/fio-spdk/ended_by_signal"), 2);
}

#[test]
fn readonly_refuses_whatever_would_change_a_target() {
    let lab = Lab::new();
    for rw in ["write", "randrw", "trim", "trimwrite"] {
        let rw = format!("--rw={rw}");
        let job = ["--filename=data", "--size=64k", &rw];
        lab.run(&with(&job, &["--readonly"])).expect(6).says("--readonly");
        lab.file("job.toml", "[[job]]\nname='j'\nreadonly=true\n");
        lab.run(&with(&["job.toml"], &job)).expect(6).says("readonly");
        assert_eq!(lab.names(), ["job.toml"]);
    }
    // One job that writes refuses them all.
    lab.file("two.toml", TWO_JOBS);
    let done = lab.run(&["--readonly", "two.toml"]).expect(6).says("fill").says("look");
    assert_eq!(done.stdout, "");
    assert_eq!(lab.names(), ["job.toml", "two.toml"]);
}

#[test]
fn readonly_lets_jobs_read_what_is_there_and_makes_nothing() {
    let lab = Lab::new();
    lab.marked("data", 64 * KIB);
    lab.run(&["--readonly", "--filename=data", "--size=64k", "--rw=randread"]).expect(0);
    assert!(lab.bytes("data").iter().all(|&byte| byte == common::MARK));
    // Laying a file out is writing, too.
    lab.run(&["--readonly", "--filename=new", "--size=64k"]).expect(6).says("readonly");
    lab.run(&["--readonly", "--filename=data", "--size=128k"]).expect(2).says("the job reads up to");
    lab.file("job.toml", "[[job]]\nreadonly=true\n");
    lab.run(&["job.toml", "--filename=new", "--size=64k"]).expect(6).says("readonly");
    lab.run(&["job.toml", "--filename=data", "--size=128k"]).expect(2).says("the job reads up to");
    assert_eq!(lab.names(), ["data", "job.toml"]);
    assert_eq!(lab.bytes("data").len() as u64, 64 * KIB);
}

#[test]
fn a_reader_that_goes_away_is_not_an_error_of_a_text_that_can_be_asked_for_again() {
    let lab = Lab::new();
    let runs: [&[&str]; 2] = [&["--cmdhelp"], &["--print-job", "--size=1m", "--ioengine=null"]];
    for arguments in runs {
        let mut command = lab.command(common::BINARY);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let ended = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!((ended.status.code(), said.as_str()), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn the_version_names_the_engines() {
    let done = Lab::new().run(&["--version"]).expect(0);
    assert!(done.stdout.contains(env!("CARGO_PKG_VERSION")), "{done:?}");
    assert!(done.stdout.contains("engines: null, psync, io_uring"), "{done:?}");
}

const SPDK: &str = "[[job]]\nname = \"n\"\nioengine = \"spdk\"\nrw = \"write\"\nverify = \"crc32c\"\n\
                    filename = \"trtype=PCIe traddr=ffff:ff:1f.7\"\n";

#[test]
fn a_job_for_spdk_can_be_checked_and_printed_by_any_build() {
    let lab = Lab::new();
    lab.file("spdk.toml", SPDK);
    lab.run(&["--check", "spdk.toml"]).expect(0);
    let printed = lab.run(&["--print-job", "spdk.toml"]).expect(0).stdout;
    assert!(printed.contains("[\"trtype=PCIe traddr=ffff:ff:1f.7 ns=1\"]"), "{printed}");
    lab.file("printed.toml", &printed);
    assert_eq!(lab.run(&["--print-job", "printed.toml"]).expect(0).stdout, printed);
    lab.run(&["--check", "spdk.toml", "--filename=/dev/nvme0n1"]).expect(2).says("trtype=PCIe traddr=");
    assert_eq!(lab.names(), ["printed.toml", "spdk.toml"]);
}

#[cfg(not(feature = "spdk"))]
#[test]
fn a_build_without_spdk_says_how_to_get_it_and_touches_nothing() {
    let lab = Lab::new();
    let campaign = "[campaign]\ncycles = 1\nwindow = \"1s\"\npower_off = \"true\"\n";
    lab.file("spdk.toml", SPDK).file("cuts.toml", format!("{campaign}{SPDK}"));
    let lacks = |arguments: &[&str]| {
        let said = lab.run(arguments).expect(4).stderr;
        let words =
            ["job `n`", "without the engine `spdk`", "--features spdk", "PKG_CONFIG_PATH", "io_uring"];
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
        assert_eq!(lab.names(), ["cuts.toml", "spdk.toml"]);
    };
    lacks(&["spdk.toml"]);
    lacks(&["spdk.toml", "--rw=read", "--verify=none", "--size=1m"]);
    lacks(&["campaign", "cuts.toml"]);
}

#[test]
fn cmdhelp_lists_and_explains_options() {
    let lab = Lab::new();
    let all = lab.run(&["--cmdhelp"]).expect(0).stdout;
    assert!(["rw", "iodepth", "bssplit"].iter().all(|name| all.contains(name)), "{all}");
    let one = lab.run(&["--cmdhelp=bssplit"]).expect(0).stdout;
    assert!(one.contains("bssplit") && one.contains("share") && one.len() < all.len(), "{one}");
    lab.run(&["--cmdhelp=bsplit"]).expect(2).says("bssplit");
}

#[test]
fn an_error_of_the_target_is_four_and_counted() {
    let lab = Lab::new();
    // Writes beyond 64 KiB of this file fail with EFBIG.
    let run = |more: &str| {
        lab.marked("data", MIB);
        let mut shell = lab.command("bash");
        let script = format!(
            "trap '' XFSZ; ulimit -f 64; exec {} --filename=data --rw=write --size=1m --output-format=json {more}",
            common::BINARY
        );
        shell.args(["-c", &script]);
        Running::of(shell).end().expect(4).json()
    };
    let json = run("");
    assert_eq!(first(&json, "/error"), 27);
    assert_eq!(first(&json, "/write/total_ios"), 16);
    assert_eq!(first(&json, "/fio-spdk/failed/write"), 1);
    assert_eq!(first(&json, "/fio-spdk/errors/0/errno"), 27);
    assert_eq!(first(&json, "/fio-spdk/errors/0/first_offset"), 64 * KIB);
    // Going on does not turn errors into a zero.
    let json = run("--continue_on_error=write");
    assert_eq!(first(&json, "/write/total_ios"), 16);
    assert_eq!(first(&json, "/fio-spdk/failed/write"), 240);
    assert_eq!(first(&json, "/total_err"), 240);
    assert_eq!(first(&json, "/first_error"), 27);
    // What is let through is writes, not reads.
    let json = run("--continue_on_error=read");
    assert_eq!(first(&json, "/fio-spdk/failed/write"), 1);
}

#[test]
fn a_file_that_shrinks_while_it_is_read_is_an_error() {
    for engine in ["psync", "io_uring"] {
        let lab = Lab::new();
        lab.marked("data", MIB);
        let engine = format!("--ioengine={engine}");
        let job = ["--name=n", "--filename=data", "--rw=randread", "--time_based", "--runtime=30"];
        let mut running = lab.spawn(&with(&job, &[&engine, "--output-format=json"]));
        running.wait_for_worker("n.0");
        fs::OpenOptions::new().write(true).open(lab.path("data")).unwrap().set_len(64 * KIB).unwrap();
        let json = running.end().expect(4).json();
        assert_ne!(first(&json, "/error"), 0);
        assert_eq!(first(&json, "/fio-spdk/failed/read"), 1);
    }
}

#[test]
fn the_live_line_stays_off_the_report() {
    let lab = Lab::new();
    let mut running = lab.spawn(&with(&ENDLESS, &["--eta=always", "--eta-interval=100ms"]));
    running.wait_for_stderr("a live line", |text| text.contains('\r'));
    running.signal(Signal::INT);
    running.end().expect(130).json();
    let done = lab.run(&with(&ENDLESS, &["--eta=never", "--runtime=600ms"])).expect(0);
    assert_eq!(done.stderr, "");
}

#[test]
fn an_engine_that_is_not_there_is_two() {
    Lab::new().run(&["--ioengine=libfoo", "--size=1m"]).expect(2).says("psync");
}

#[test]
fn a_directory_that_is_not_there_is_an_error_and_is_not_made() {
    let lab = Lab::new();
    let done = lab.run(&["--directory=nowhere", "--size=64k", "--rw=write"]);
    assert!(matches!(done.code, Some(2 | 4)), "{done:?}");
    assert_eq!(lab.names(), [""; 0]);
}

#[test]
fn what_was_measured_is_reported_although_a_later_stage_cannot_start() {
    let lab = Lab::new();
    lab.file(
        "stages.toml",
        "[global]\nsize='64k'\nrw='write'\n[[job]]\nname='one'\nfilename='data'\n\
         [[job]]\nname='two'\nstonewall=true\nfilename='data'\nioengine='io_uring'\niodepth=40000\nbs=512\n",
    );
    let done = lab.run(&["stages.toml", "--output-format=json"]).expect(4).says("two");
    let json = done.json();
    assert_eq!(first(&json, "/write/total_ios"), 16);
    assert_eq!(at(&json, "/fio-spdk/unfinished"), &Value::Bool(true));
    let done = lab.run(&["stages.toml", "--output=report"]).expect(4).says("two");
    assert_eq!(done.stdout, "");
    assert!(String::from_utf8_lossy(&lab.bytes("report")).contains("one: write"));
}
