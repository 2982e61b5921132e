//! When jobs begin and what ends them, through the program: delays, waiting, exitall, errors that are no
//! end, devices that hang, and statistics on request.

#![allow(clippy::print_stderr, reason = "says why trials are skipped")]

mod common;

use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use common::{Done, Lab, at, jobs, number};
use serde_json::Value;

/// A null job of so long, and more options.
fn job(name: &str, runtime: &str, more: &str) -> String {
    format!("[[job]]\nname = \"{name}\"\nruntime = \"{runtime}\"\n{more}\n")
}

fn run_jobs(text: &str, more: &[&str]) -> Done {
    let lab = Lab::new();
    let global = "[global]\nioengine = \"null\"\nsize = \"1g\"\ntime_based = true\nrw = \"randread\"\n";
    lab.file("j.toml", format!("{global}{text}"));
    lab.run(&[&["j.toml", "--output-format=json"], more].concat())
}

fn run(text: &str) -> Value {
    run_jobs(text, &[]).expect(0).json()
}

/// The entries of a job.
fn entries<'a>(json: &'a Value, name: &str) -> Vec<&'a Value> {
    let found: Vec<&Value> = jobs(json).iter().filter(|job| job["jobname"] == name).collect();
    assert!(!found.is_empty(), "no {name} in {json:#}");
    found
}

fn starts(json: &Value, name: &str) -> Vec<u64> {
    entries(json, name).into_iter().map(|job| number(job, "/job_start")).collect()
}

fn start(json: &Value, name: &str) -> u64 {
    starts(json, name)[0]
}

/// When its last worker ended, in milliseconds; what was begun rounds down.
fn end(json: &Value, name: &str) -> u64 {
    let ends = entries(json, name).into_iter().map(|job| number(job, "/job_start") + runtime(job));
    ends.max().expect("a worker")
}

fn runtime(job: &Value) -> u64 {
    number(job, "/read/runtime")
}

fn ran(json: &Value, name: &str) -> bool {
    entries(json, name).into_iter().any(|job| number(job, "/read/total_ios") > 0)
}

fn notes(json: &Value) -> String {
    at(json, "/fio-spdk/notes").to_string()
}

#[test]
fn a_delayed_job_begins_after_its_time_and_a_window_is_drawn_for_each_clone() {
    let text = job("a", "100ms", "")
        + &job("b", "50ms", "start_delay = \"200ms\"")
        + &job("c", "50ms", "startdelay = \"100ms-400ms\"\nnumjobs = 3");
    let json = run(&text);
    let begun = number(&json, "/fio-spdk/started_ms");
    assert!(start(&json, "b") >= begun + 199, "{json:#}");
    assert!(start(&json, "b") >= start(&json, "a"));
    let drawn = starts(&json, "c");
    assert!(drawn.iter().all(|&at| at >= begun + 99), "{begun}: {drawn:?}");
    assert!(drawn.windows(2).any(|two| two[0] != two[1]), "each draws for itself: {drawn:?}");
    assert!(entries(&json, "b").iter().all(|job| runtime(job) >= 50), "time counts from its own start");
}

#[test]
fn delays_count_from_the_start_of_the_run_and_a_stonewall_waits_for_them() {
    let text = job("a", "100ms", "start_delay = \"300ms\"")
        + &job("b", "50ms", "stonewall = true\nstart_delay = \"100ms\"");
    let json = run(&text);
    // Its delay was over long before.
    assert!(start(&json, "b") + 1 >= end(&json, "a"), "{json:#}");
    assert!(start(&json, "b") < end(&json, "a") + 60_000);
}

#[test]
fn a_job_waits_for_every_clone_of_every_job_of_the_name() {
    // The second `fill` goes on until `beside` has ended: whatever waited for it would never begin.
    let text = job("fill", "50ms", "numjobs = 2")
        + &job("fill", "100s", "numjobs = 2")
        + &job("beside", "50ms", "exitall = true")
        + &job("then", "50ms", "wait_for = \"fill\"\nnew_group = true")
        + &job("last", "50ms", "wait_for = \"then\"");
    let json = run(&text);
    assert!(start(&json, "then") + 1 >= end(&json, "fill"), "{json:#}");
    assert!(start(&json, "last") + 1 >= end(&json, "then"), "{json:#}");
    let fills = entries(&json, "fill");
    assert!(fills.iter().all(|fill| runtime(fill) < 90_000), "others do not wait: {json:#}");
    assert!(ran(&json, "beside") && ran(&json, "last"));
}

#[test]
fn who_waits_for_a_job_that_failed_begins_all_the_same() {
    let text =
        "[[job]]\nname = \"bad\"\nioengine = \"sim\"\nfilename = \"d\"\nsize = \"1m\"\nrw = \"write\"\n\
                runtime = \"10s\"\nsim_faults = { write_error = 1 }\n"
            .to_owned()
            + &job("then", "50ms", "wait_for = \"bad\"");
    let json = run_jobs(&text, &[]).expect(4).json();
    assert!(ran(&json, "then"), "{json:#}");
}

#[test]
fn whom_nobody_can_wait_for_is_told_with_line_and_nearest_name() {
    let wrong = |text: &str| run_jobs(text, &[]).expect(2);
    let two = |wait: &str| job("filler", "1s", "") + &job("b", "1s", &format!("wait_for = \"{wait}\""));
    wrong(&two("fillers")).says("did you mean `filler`").says("j.toml:10");
    wrong(&two("b")).says("cannot wait for itself");
    wrong(&(job("b", "1s", "wait_for = \"later\"") + &job("later", "1s", ""))).says("stands after");
    wrong(&job("b", "1s", "wait_for = \"x\"")).says("first job");
}

/// `other` runs so long, if nobody ends it.
fn exits(what: &str, other: &str) -> Value {
    let text = job("short", "100ms", &format!("exitall = true\nexit_what = \"{what}\""))
        + &job("same", "60s", "")
        + &job("late", "60s", "start_delay = \"40s\"")
        + &job("other", other, "new_group = true")
        + &job("next", "50ms", "stonewall = true");
    run(&text)
}

#[test]
fn exitall_ends_the_group_and_what_of_it_has_not_begun() {
    let json = exits("group", "600ms");
    assert!(runtime(entries(&json, "same")[0]) < 30_000);
    assert!(!ran(&json, "late"));
    assert!(runtime(entries(&json, "other")[0]) >= 600, "{json:#}");
    assert!(ran(&json, "next"));
    assert!(notes(&json).contains("short.0 has ended: exitall ends same.0, late.0"), "{}", notes(&json));
    assert!(notes(&json).contains("never started: late.0"));
}

#[test]
fn exitall_up_to_the_stonewall_goes_on_behind_it() {
    let json = exits("stonewall", "60s");
    assert!(runtime(entries(&json, "same")[0]) < 30_000 && !ran(&json, "late"));
    assert!(runtime(entries(&json, "other")[0]) < 30_000, "{json:#}");
    assert!(ran(&json, "next"));
    assert!(notes(&json).contains("exitall ends same.0, late.0, other.0"), "{}", notes(&json));
}

#[test]
fn exitall_of_all_is_the_end_of_the_run() {
    let json = exits("all", "60s");
    assert!(runtime(entries(&json, "other")[0]) < 30_000, "{json:#}");
    assert!(jobs(&json).iter().all(|job| job["jobname"] != "next"), "{json:#}");
    assert!(notes(&json).contains("and no later stage starts"), "{}", notes(&json));
}

#[test]
fn on_error_only_a_failure_takes_others_along() {
    let jobs = |rate: &str, runtime: &str, other: &str| {
        let faults = format!("sim_faults = {{ write_error = {rate} }}\nsim_fault_after = 100");
        let own = "ioengine = \"sim\"\nfilename = \"d\"\nsize = \"1m\"\nrw = \"randwrite\"";
        job("f", runtime, &format!("{own}\n{faults}\nexitall_on_error = true")) + &job("o", other, "")
    };
    let json = run_jobs(&jobs("1", "60s", "60s"), &[]).expect(4).json();
    assert!(runtime(entries(&json, "o")[0]) < 30_000, "{json:#}");
    assert!(notes(&json).contains("f.0 has failed: exitall_on_error ends o.0"), "{}", notes(&json));
    let json = run(&jobs("0", "200ms", "1s"));
    assert!(runtime(entries(&json, "o")[0]) >= 1000, "{json:#}");
    assert_eq!(notes(&json), "[]");
}

#[test]
fn a_missed_demand_takes_others_along_as_an_error_does() {
    let text = job("m", "60s", "max_latency = \"1ns\"\nexitall_on_error = true") + &job("o", "60s", "");
    let json = run_jobs(&text, &[]).expect(3).json();
    assert!(runtime(entries(&json, "o")[0]) < 30_000, "{json:#}");
    assert!(notes(&json).contains("m.0 has failed: exitall_on_error ends o.0"), "{}", notes(&json));
}

#[test]
fn who_has_been_steady_takes_others_along_as_it_ends() {
    let steady = "ioengine = \"sim\"\nfilename = \"d\"\nsize = \"1m\"\nsim_latency = \"1ms\"\nss = \"iops:99%\"\n\
                  ss_dur = \"400ms\"\nss_interval = \"200ms\"\nexitall = true";
    let json = run(&(job("s", "60s", steady) + &job("o", "60s", "")));
    assert!(runtime(entries(&json, "o")[0]) < 60_000, "{json:#}");
    assert!(notes(&json).contains("s.0 has ended: exitall ends o.0"), "{}", notes(&json));
}

/// A simulated drive of 256 blocks of which a quarter of the reads and writes fail: EIO for writes.
fn faulty(rw: &str, more: &[&str]) -> Done {
    let lab = Lab::new();
    let job = ["--ioengine=sim", "--filename=d", "--size=1m", "--bs=4k", "--output-format=json"];
    let faults = if rw == "read" {
        // A drive that has nothing to read yet fails no read: it is written first.
        "[global]\nioengine = \"sim\"\nfilename = \"d\"\nsize = \"1m\"\n[[job]]\nname = \"w\"\nrw = \"write\"\n\
         sim_faults = { read_error = 0.25 }\n[[job]]\nname = \"r\"\nstonewall = true\nrw = \"read\"\n"
    } else {
        "[[job]]\nname = \"w\"\nrw = \"write\"\nsim_faults = { write_error = 0.25 }\n"
    };
    lab.file("j.toml", faults);
    lab.run(&[&["j.toml"], &job[..], more].concat())
}

/// I/Os of the last job that were done, well or not.
fn done(json: &Value, op: &str) -> u64 {
    let job = jobs(json).last().expect("a job");
    number(job, &format!("/{op}/total_ios")) + number(job, &format!("/fio-spdk/failed/{op}"))
}

#[test]
fn every_word_of_continue_on_error_goes_on_after_its_own_errors_only() {
    for (word, reads, writes) in [
        ("none", false, false),
        ("0", false, false),
        ("read", true, false),
        ("write", false, true),
        ("io", true, true),
        ("verify", false, false),
        ("all", true, true),
        ("1", true, true),
    ] {
        let option = format!("--continue_on_error={word}");
        for (op, goes_on) in [("read", reads), ("write", writes)] {
            let json = faulty(op, &[&option]).expect(4).json();
            assert_eq!(done(&json, op) == 256, goes_on, "{word}, {op}: {}", done(&json, op));
        }
    }
}

#[test]
fn a_broken_promise_never_stops_the_verification_unless_it_is_fatal() {
    let tally = |more: &[&str]| {
        let job = ["--rw=write", "--ioengine=sim", "--filename=d", "--size=1m", "--verify=crc32c"];
        let faults = ["--sim_faults=bit_flip:25%", "--output-format=json"];
        let json = Lab::new().run(&[&job[..], &faults, more].concat()).expect(1).json();
        number(&json, "/jobs/0/verify/checked")
    };
    assert_eq!(tally(&["--continue_on_error=verify"]), 256);
    assert_eq!(tally(&["--continue_on_error=none"]), 256);
    assert_eq!(tally(&["--ignore_error=,,EILSEQ"]), 256);
    assert!(tally(&["--verify_fatal=1"]) < 256);
}

#[test]
fn errors_of_the_list_are_counted_and_are_no_failure() {
    let json = faulty("write", &["--ignore_error=,EIO"]).expect(0).json();
    assert_eq!(done(&json, "write"), 256);
    let failed = number(&json, "/jobs/0/fio-spdk/failed/write");
    assert!(failed > 0);
    assert_eq!(number(&json, "/jobs/0/total_err"), failed);
    assert_eq!(number(&json, "/jobs/0/first_error"), 5);
    // By number, and as a table.
    assert_eq!(done(&faulty("write", &["--ignore_error=,28:5"]).expect(0).json(), "write"), 256);
    let table = "--ignore_error={ write = [\"EIO\"] }";
    assert_eq!(done(&faulty("write", &[table]).expect(0).json(), "write"), 256);
    // What is not in the list ends the job, whatever continue_on_error says: the list holds instead of it.
    for more in [&["--ignore_error=,ENOSPC"][..], &["--ignore_error=,ENOSPC", "--continue_on_error=all"]] {
        let json = faulty("write", more).expect(4).json();
        assert!(done(&json, "write") < 256, "{more:?}");
    }
    // A list of reads says nothing of writes.
    assert!(done(&faulty("write", &["--ignore_error=EIO"]).expect(4).json(), "write") < 256);
    assert_eq!(done(&faulty("read", &["--ignore_error=ENODATA"]).expect(0).json(), "read"), 256);
}

#[test]
fn failed_ios_are_told_as_they_come_or_only_the_one_that_ends_the_job() {
    let told = |more: &[&str], code| {
        let done = faulty("write", more).expect(code);
        let failed = number(&done.json(), "/jobs/0/fio-spdk/failed/write");
        let lines = done.stderr.lines().filter(|line| line.contains("write of 4096 bytes at")).count();
        (failed, lines as u64, done.stderr)
    };
    let (failed, lines, text) = told(&["--continue_on_error=write"], 4);
    assert_eq!(failed, lines, "{text}");
    assert!(text.contains("EIO") && text.contains(" of d ") && text.contains("the job goes on"), "{text}");
    assert_eq!(told(&["--continue_on_error=write", "--error_dump=0"], 4).1, 0);
    let (failed, lines, text) = told(&["--error_dump=0"], 4);
    assert_eq!((failed, lines), (1, 1), "{text}");
}

#[test]
fn a_ramp_by_size_leaves_out_what_was_done_before_it_was_full() {
    let job = [
        "--name=r",
        "--ioengine=sim",
        "--filename=d",
        "--size=1m",
        "--bs=4k",
        "--rw=write",
        "--sim_latency=1ms",
        "--output-format=json",
    ];
    let counted = |more: &[&str]| -> (u64, Value) {
        let json = Lab::new().run(&[&job[..], more].concat()).expect(0).json();
        (jobs(&json).iter().map(|job| number(job, "/write/total_ios")).sum(), json)
    };
    assert_eq!(counted(&[]).0, 256);
    let (ios, _) = counted(&["--ramp_size=512k"]);
    assert!((1..=128).contains(&ios), "{ios}");
    // Together they reach in half the I/Os each what one alone has to do.
    let two = ["--ramp_size=512k", "--numjobs=2"];
    let (alone, _) = counted(&two);
    let (together, _) = counted(&[&two[..], &["--group_reporting"]].concat());
    assert!(alone <= 256 && together > alone && together <= 384, "{alone} alone, {together} together");
    let (ios, json) = counted(&["--ramp_size=2m"]);
    assert_eq!(ios, 0);
    assert!(notes(&json).contains("ended within ramp_size"), "{}", notes(&json));
}

#[test]
fn a_drive_that_answers_nothing_is_given_up_and_holds_nobody_up() {
    let stuck = "ioengine = \"sim\"\nfilename = \"d\"\nsize = \"1m\"\nrw = \"write\"\niodepth = 4\n\
                 sim_faults = { stalled = 1 }\nsim_fault_after = 64\nreap_timeout = \"200ms\"";
    let json = run_jobs(&(job("s", "20s", stuck) + &job("o", "500ms", "")), &[]).expect(4).json();
    assert!(runtime(entries(&json, "o")[0]) >= 500);
    let stuck = entries(&json, "s")[0];
    assert_eq!(number(stuck, "/error"), 110);
    assert_eq!(number(stuck, "/write/total_ios"), 64, "what had been done before: {stuck:#}");
}

#[test]
fn what_a_drive_does_not_answer_is_told_as_what_it_was() {
    let job = ["--ioengine=sim", "--filename=d", "--size=1m", "--rw=randread", "--reap_timeout=200ms"];
    let json = ["--sim_faults=stalled_read:100%", "--output-format=json"];
    let json = Lab::new().run(&[&job[..], &json[..]].concat()).expect(4).json();
    let failed = at(&json, "/jobs/0/fio-spdk/failed");
    assert_eq!((number(failed, "/read"), number(failed, "/write")), (1, 0), "{failed:#}");
}

/// Holds a lease on a file, so that whoever opens it hangs.
fn with_lease(lab: &Lab, file: &str, check: impl FnOnce()) {
    let script = "import fcntl, signal, sys\n\
                  signal.signal(signal.SIGIO, signal.SIG_IGN)\n\
                  f = open(sys.argv[1], 'r+b')\n\
                  fcntl.fcntl(f, fcntl.F_SETLEASE, fcntl.F_WRLCK)\n\
                  print('held', flush=True)\n\
                  sys.stdin.read()\n";
    let mut command = Command::new("python3");
    command.args(["-c", script]).arg(lab.path(file));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let Ok(mut child) = command.spawn() else {
        eprintln!("skipped: python3 is not installed");
        return;
    };
    let mut line = String::new();
    let out = child.stdout.take().expect("its output");
    let _ = std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line);
    if line.trim() == "held" {
        check();
    } else {
        eprintln!("skipped: no lease can be had on the file system of the tests");
    }
    drop(child.stdin.take());
    let _ = child.wait();
}

#[test]
fn a_target_that_cannot_be_opened_in_time_is_an_error_before_anything_starts() {
    let lab = Lab::new();
    lab.marked("data", 1 << 20);
    with_lease(&lab, "data", || {
        for engine in common::FILE_ENGINES {
            let job = ["--filename=data", "--size=1m", "--rw=write", "--start_timeout=300ms", engine];
            lab.run(&job).expect(4).says("start_timeout").says("data");
        }
    });
    assert!(lab.bytes("data").iter().all(|&byte| byte == common::MARK), "nothing was written");
}

#[test]
fn a_signal_while_a_target_is_opened_is_not_kept_waiting() {
    let lab = Lab::new();
    lab.marked("data", 1 << 20);
    with_lease(&lab, "data", || {
        let mut running = lab.spawn(&["--filename=data", "--size=1m", "--rw=randread", "--ioengine=psync"]);
        // Before there is such a thread nobody may listen to signals.
        running.wait_for_thread("opening");
        thread::sleep(Duration::from_millis(200));
        running.signal(rustix::process::Signal::INT);
        running.end().expect(130).says("ended by a signal");
    });
}

#[test]
fn making_the_status_file_tells_the_statistics_so_far_and_removes_it() {
    for aux in [false, true] {
        let lab = Lab::new();
        std::fs::create_dir(lab.path("aux")).expect("a directory");
        let mut command = lab.command(common::BINARY);
        command.env("TMPDIR", lab.path("."));
        command.args(["--name=n", "--ioengine=null", "--size=1g", "--time_based", "--runtime=1h"]);
        command.args(["--rw=randread", "--output-format=json"]);
        if aux {
            command.arg("--aux-path=aux");
        }
        let mut running = common::Running::of(command);
        running.wait_for_worker("n.0");
        let name = if aux { "aux/fio-dump-status" } else { "fio-dump-status" };
        lab.file(name, "");
        running.wait_until("the end of the file", || !lab.path(name).exists());
        running.signal(rustix::process::Signal::INT);
        let done = running.end().expect(130).says("IOPS");
        assert_eq!(done.stderr.matches("n: ").count().min(1), 1, "{}", done.stderr);
        // The report itself stays one document.
        assert!(number(&done.json(), "/jobs/0/read/total_ios") > 0);
    }
}

#[test]
fn reports_so_far_are_one_document_a_line() {
    let lab = Lab::new();
    lab.file(
        "j.toml",
        "[[job]]\nname = \"a\"\nioengine = \"null\"\nsize = \"1g\"\ntime_based = true\nruntime = \"1h\"\n",
    );
    let mut running = lab.spawn(&["j.toml", "--output-format=json", "--status-interval=200ms"]);
    running.wait_for_stdout("three reports", |text| text.matches('\n').count() >= 3);
    running.signal(rustix::process::Signal::INT);
    let reports = running.end().expect(130).reports();
    let ios: Vec<u64> = reports.iter().map(|json| number(json, "/jobs/0/read/total_ios")).collect();
    assert!(ios.windows(2).all(|two| two[0] <= two[1]), "{ios:?}");
}

#[test]
fn only_the_sections_that_were_named_run() {
    let text = job("a", "50ms", "") + &job("b", "50ms", "") + &job("c", "50ms", "");
    let json = run_jobs(&text, &["--section=c", "--section=a"]).expect(0).json();
    let names: Vec<&Value> = jobs(&json).iter().map(|job| &job["jobname"]).collect();
    assert_eq!(names, ["a", "c"]);
    run_jobs(&text, &["--section=d"]).expect(2).says("a, b, c");
}

#[test]
fn the_start_is_dated_by_the_clock_that_was_asked_for() {
    let json = run(&(job("real", "20ms", "") + &job("up", "20ms", "job_start_clock_id = 1")));
    assert!(start(&json, "real") > 1_600_000_000_000);
    assert!(start(&json, "up") < 1_600_000_000_000 && start(&json, "up") > 0);
}
