//! What is measured, when it is enough, and how it is told; through the program, and beside fio where
//! fio is installed.

#![allow(clippy::print_stderr, reason = "says why comparisons are skipped")]

mod common;

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use fio_spdk::base::clock::Clock;

use common::{Done, Lab, at, first, float, jobs, number};
use serde_json::Value;

const JOB: &str = r#"
[global]
ioengine = "sim"
size = "64m"
rw = "randread"
bs = "4k"
iodepth = 4
sim_latency = "200us"
time_based = true
runtime = "30s"
[[job]]
name = "j"
filename = "drive"
"#;

fn lab() -> Lab {
    let lab = Lab::new();
    lab.file("j.toml", JOB);
    lab
}

fn run(lab: &Lab, more: &[&str]) -> Done {
    lab.run(&[&["j.toml", "--output-format=json"], more].concat())
}

/// A job of engine null that ends by itself.
fn null(more: &[&str]) -> Value {
    let all = ["--ioengine=null", "--size=1g", "--rw=randrw", "--bs=4k", "--number_ios=5000", "--iodepth=8"];
    Lab::new().json(&[&all, more].concat())
}

/// The rounds of the first job: I/Os a second.
fn rounds(json: &Value) -> Vec<f64> {
    let rounds = at(json, "/jobs/0/fio-spdk/steadystate/rounds").as_array().expect("rounds");
    rounds.iter().map(|round| float(round, "/iops")).collect()
}

/// How far the farthest of `values` is from their mean, in percent of it; infinite where nothing was done.
fn deviation_percent(values: &[f64]) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    if mean == 0.0 {
        return f64::INFINITY;
    }
    values.iter().map(|value| (value - mean).abs()).fold(0.0, f64::max) * 100.0 / mean
}

const SOON: [&str; 2] = ["--ss_dur=600ms", "--ss_interval=200ms"];

// Steady state.

#[test]
fn a_steady_job_ends_and_the_rounds_bear_it_out() {
    let lab = lab();
    let json = run(&lab, &[&SOON[..], &["--ss=iops:60%"]].concat()).expect(0).json();
    let steady = at(&json, "/jobs/0/steadystate");
    assert_eq!((number(steady, "/attained"), at(steady, "/ss")), (1, &Value::from("iops:60.000000%")));
    let rounds = rounds(&json);
    let windows: Vec<f64> = rounds.windows(3).map(deviation_percent).collect();
    let (last, earlier) = windows.split_last().expect("a window");
    assert!(*last < 60.0 && earlier.iter().all(|&deviation| deviation >= 60.0), "{windows:?}");
    let told: f64 =
        at(steady, "/criterion").as_str().expect("text").trim_end_matches('%').parse().expect("a number");
    assert!((told - last).abs() < 0.001, "{told} instead of {last}");
    let data = at(steady, "/data/iops").as_array().expect("an array");
    assert_eq!(data.len(), 3);
    let mean = rounds[rounds.len() - 3..].iter().sum::<f64>() / 3.0;
    assert!((number(steady, "/data/iops_mean") as f64 - mean).abs() <= 1.0);
    assert!(first(&json, "/read/runtime") < 25_000, "it ran on");
    assert!(number(&json, "/jobs/0/fio-spdk/steadystate/attained_ns") >= 600_000_000);
}

#[test]
fn what_a_steady_job_has_written_is_read_back() {
    let more = ["--ss=iops:99%", "--rw=randwrite", "--verify=crc32c"];
    let json = run(&lab(), &[&SOON[..], &more].concat()).expect(0).json();
    assert_eq!(first(&json, "/steadystate/attained"), 1);
    let verify = at(&json, "/jobs/0/verify");
    assert!(number(verify, "/checked") > 0, "{verify:#}");
    assert_eq!(number(verify, "/checked"), number(verify, "/promised"));
}

#[test]
fn one_that_is_never_steady_runs_to_its_end_and_says_so() {
    let lab = lab();
    let never = [&SOON[..], &["--ss=iops:0.0001", "--runtime=4s", "--output-format=normal,json"]].concat();
    let done = lab.run(&[&["j.toml"], &never[..]].concat()).expect(0);
    let json: Value =
        serde_json::from_str(&done.stdout[done.stdout.find("\n{").expect("JSON")..]).expect("JSON");
    assert_eq!(first(&json, "/steadystate/attained"), 0);
    assert!(first(&json, "/read/runtime") >= 3_950);
    assert!(done.stdout.contains("steadystate: NOT ATTAINED: at last iops mean dev"), "{}", done.stdout);
    assert!(done.stdout.contains("job `j`: steady state was not attained"), "{}", done.stdout);
    assert!(done.stdout.contains("from mean"), "{}", done.stdout);
}

#[test]
fn a_window_that_was_never_full_is_not_steady() {
    let json = run(&lab(), &["--ss=iops:99%", "--ss_dur=20s", "--runtime=500ms"]).expect(0).json();
    assert_eq!(first(&json, "/steadystate/attained"), 0);
    assert!(rounds(&json).is_empty());
    let json =
        run(&lab(), &["--ss=iops:99%", "--ss_dur=2s", "--ss_ramp=20s", "--runtime=500ms"]).expect(0).json();
    assert!(rounds(&json).is_empty());
}

#[test]
fn snia_judges_five_rounds_by_range_and_slope() {
    let lab = lab();
    let json = run(&lab, &["--steadystate=snia", "--ss_interval=150ms", "--runtime=20s"]).expect(0).json();
    let own = at(&json, "/jobs/0/fio-spdk/steadystate");
    let within = |window: &[f64]| {
        let mean = window.iter().sum::<f64>() / 5.0;
        let highest = window.iter().copied().fold(f64::MIN, f64::max);
        let lowest = window.iter().copied().fold(f64::MAX, f64::min);
        let slope = (0..5).map(|x| (x as f64 - 2.0) * window[x]).sum::<f64>() / 10.0;
        // Rounds in which a worker that has no processor does nothing are alike, and not steady.
        mean > 0.0 && highest - lowest <= 0.2 * mean && 4.0 * slope.abs() <= 0.1 * mean
    };
    let verdicts: Vec<bool> = rounds(&json).windows(5).map(within).collect();
    let attained = first(&json, "/steadystate/attained") == 1;
    assert_eq!(verdicts.iter().position(|&holds| holds), attained.then_some(verdicts.len().wrapping_sub(1)));
    assert_eq!(number(own, "/window_rounds"), 5);
    assert_eq!(at(&json, "/jobs/0/steadystate/ss"), "snia_iops");
}

#[test]
fn a_group_is_judged_and_ended_together() {
    let lab = lab();
    let together = [&SOON[..], &["--ss=bw:90%", "--numjobs=2", "--iodepth=1", "--group_reporting"]].concat();
    let json = run(&lab, &together).expect(0).json();
    assert_eq!(jobs(&json).len(), 1);
    assert_eq!(first(&json, "/steadystate/attained"), 1);
    // Rounds are of both workers: together they are what the whole run was.
    let rounds = rounds(&json);
    let mean = rounds.iter().sum::<f64>() / rounds.len() as f64;
    let whole = float(&json, "/jobs/0/read/iops");
    assert!(mean > 0.6 * whole && mean < 1.6 * whole, "{mean} of {whole}");
    let apart = [&SOON[..], &["--ss=lat:95%", "--numjobs=2", "--iodepth=1"]].concat();
    let json = run(&lab, &apart).expect(0).json();
    assert_eq!(jobs(&json).len(), 2);
    for job in jobs(&json) {
        assert_eq!(number(job, "/steadystate/attained"), 1);
        let list = at(job, "/steadystate/data/lat_ns").as_array().expect("latencies");
        assert!(list.iter().all(|ns| ns.as_u64().is_some_and(|ns| ns >= 190_000)), "{list:?}");
    }
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_starts() {
    let lab = lab();
    let cases: [(&[&str], &str); 9] = [
        (&["--ss=iops:5%"], "needs `steadystate_duration`"),
        (&["--ss_interval=1s"], "needs `steadystate_duration`"),
        (&["--ss_dur=2500ms"], "not made of whole rounds"),
        (&["--ss_dur=1s"], "not made of whole rounds"),
        (&["--ss=snia", "--ss_dur=7s"], "five rounds"),
        (&["--ss=iops", "--ss_dur=5s"], "the limit is missing"),
        (&["--ss=speed:5%", "--ss_dur=5s"], "is no criterion"),
        (&["--ss=lat:5%", "--ss_dur=5s", "--gtod_reduce"], "leaves out the latencies"),
        (&["--ss_dur=50ms", "--ss_interval=10ms"], "too short"),
    ];
    for (arguments, why) in cases {
        run(&lab, arguments).expect(2).says(why);
    }
    let differs = format!(
        "{JOB}group_reporting = true\nss_dur = 2\n[[job]]\ngroup_reporting = true\nfilename = \"other\"\n"
    );
    lab.file("two.toml", differs);
    lab.run(&["two.toml"]).expect(2).says("must have the same steadystate");
}

// What is left out.

#[test]
fn what_is_disabled_is_not_measured_and_the_rest_is() {
    let counts = |more: &[&str]| {
        let json = null(more);
        let read = at(&json, "/jobs/0/read");
        assert!(number(read, "/total_ios") > 20 && number(read, "/bw_bytes") > 0);
        ["slat_ns", "clat_ns", "lat_ns"].map(|name| number(read, &format!("/{name}/N")) > 0)
    };
    let all = counts(&[]);
    assert!(all[1] && all[2]);
    assert_eq!(counts(&["--disable_lat"]), [all[0], true, false]);
    assert_eq!(counts(&["--disable_clat"]), [all[0], false, true]);
    assert_eq!(counts(&["--disable_slat"]), [false, true, true]);
    assert_eq!(counts(&["--gtod_reduce"]), [false; 3]);
    assert_eq!(counts(&["--ioengine=psync", "--filename=data", "--size=1m", "--gtod_reduce"]), [false; 3]);
}

#[test]
fn the_first_moments_behind_a_ramp_are_no_interval_of_their_own() {
    let job = ["--ioengine=null", "--size=1g", "--rw=randread", "--rate_iops=1000", "--time_based"];
    let json = Lab::new().json(&[&job[..], &["--ramp_time=500ms", "--runtime=600ms"]].concat());
    // It is looked at every 500 ms from the start of the run, which is when the ramp ends.
    assert!(first(&json, "/read/iops_samples") <= 1, "{}", at(&json, "/jobs/0/read"));
}

#[test]
fn what_one_did_alone_is_not_in_the_intervals_of_all() {
    let lab = Lab::new();
    let global = "[global]\nioengine = \"null\"\nsize = \"1g\"\nrw = \"randread\"\ntime_based = true\n\
                  rate_iops = 1000\ngroup_reporting = true\n";
    let jobs = "[[job]]\nname = \"a\"\nruntime = \"5s\"\n[[job]]\nname = \"b\"\nruntime = \"2s\"\nstart_delay = \"3s\"\n";
    lab.file("j.toml", format!("{global}{jobs}"));
    let json = lab.json(&["j.toml"]);
    // It would be 8000 with what `a` did alone. Who was late catches up, but not so much.
    assert!(first(&json, "/read/iops_max") < 7000, "{}", at(&json, "/jobs/0/read"));
}

#[test]
fn bandwidth_of_intervals_can_be_left_out() {
    let lab = lab();
    let json = run(&lab, &["--runtime=1300ms", "--iopsavgtime=50", "--disable_bw"]).expect(0).json();
    let read = at(&json, "/jobs/0/read");
    assert_eq!((number(read, "/bw_samples"), number(read, "/bw_max")), (0, 0));
    assert!(number(read, "/iops_samples") >= 1 && number(read, "/bw_bytes") > 0);
}

#[test]
fn percentiles_are_those_that_were_asked_for() {
    let json = null(&["--percentile_list=99.9:25:100", "--lat_percentiles=0", "--slat_percentiles=0"]);
    let read = at(&json, "/jobs/0/read");
    let names: Vec<&String> =
        at(read, "/clat_ns/percentile").as_object().expect("percentiles").keys().collect();
    assert_eq!(names, ["25.000000", "99.900000", "100.000000"]);
    let (most, max) = (number(read, "/clat_ns/percentile/100.000000"), number(read, "/clat_ns/max"));
    assert!(most <= max && max - most <= max / 128, "{most} of {max}");
    assert!(at(read, "/lat_ns").get("percentile").is_none() && number(read, "/lat_ns/N") > 0);
    let lab = Lab::new();
    let job = ["--ioengine=null", "--size=1g", "--number_ios=5000", "--percentile_list=12.5:99.999"];
    let text = lab.run(&job).expect(0).stdout;
    assert!(text.contains("p12.5") && text.contains("p99.999") && !text.contains("p50"), "{text}");
    for bad in ["0", "101", "x", "1:2:3:4:5:6:7:8:9:10:11:12:13:14:15:16:17:18:19:20:21"] {
        lab.run(&["--ioengine=null", "--size=1g", &format!("--percentile_list={bad}")])
            .expect(2)
            .says("percentile");
    }
}

#[test]
fn directions_can_be_reported_as_one() {
    let apart = null(&[]);
    let mixed = null(&["--unified_rw_reporting=mixed"]);
    let both = null(&["--unified_rw_reporting=2"]);
    let sum = first(&apart, "/read/total_ios") + first(&apart, "/write/total_ios");
    assert_eq!(first(&mixed, "/mixed/total_ios"), sum);
    assert_eq!(first(&mixed, "/mixed/clat_ns/N"), sum);
    assert!(jobs(&mixed)[0].get("read").is_none());
    assert_eq!(
        first(&both, "/mixed/total_ios"),
        first(&both, "/read/total_ios") + first(&both, "/write/total_ios")
    );
    assert!(jobs(&apart)[0].get("mixed").is_none());
}

#[test]
fn a_job_can_be_left_out_of_the_report_unless_it_failed() {
    let lab = Lab::new();
    let two = "[global]\nioengine = \"sim\"\nsize = \"4m\"\nrw = \"write\"\n[[job]]\nname = \"prepare\"\n\
               stats = false\nfilename = \"a\"\n[[job]]\nname = \"measure\"\nfilename = \"a\"\nstonewall = true\n";
    lab.file("two.toml", two);
    let json = lab.json(&["two.toml"]);
    let names: Vec<&Value> = jobs(&json).iter().map(|job| at(job, "/jobname")).collect();
    assert_eq!(names, ["measure"]);
    assert!(at(&json, "/fio-spdk/notes").to_string().contains("`prepare` is left out"), "{json:#}");
    lab.file(
        "bad.toml",
        two.replace("stats = false\n", "stats = false\nsim_faults = { write_error = 1.0 }\n"),
    );
    let json = lab.run(&["bad.toml", "--output-format=json"]).expect(4).json();
    assert_eq!(at(&json, "/jobs/0/jobname"), "prepare");
    assert!(number(&json, "/jobs/0/error") > 0);
}

// What the machine did.

#[test]
fn idle_cpus_are_told_when_asked_for() {
    let lab = lab();
    let json = run(&lab, &["--runtime=500ms", "--idle-prof=percpu"]).expect(0).json();
    let idleness = at(&json, "/cpu_idleness").as_object().expect("an object");
    assert!(idleness.len() > 1 && idleness.contains_key("system"));
    assert!(idleness.values().all(|value| value.as_f64().is_some_and(|idle| (0.0..=100.0).contains(&idle))));
    let json = run(&lab, &["--runtime=300ms"]).expect(0).json();
    assert!(json.get("cpu_idleness").is_none());
}

#[test]
fn a_live_line_stays_as_often_as_asked() {
    let lab = lab();
    let mut running =
        lab.spawn(&["j.toml", "--runtime=1h", "--eta=always", "--eta-interval=100ms", "--eta-newline=200ms"]);
    running.wait_for_stderr("two lines that stay", |text| text.matches('\n').count() >= 2);
    running.signal(rustix::process::Signal::INT);
    running.end().expect(130);
    run(&lab, &["--eta-interval=1ms"]).expect(2).says("at least 100ms");
    run(&lab, &["--idle-prof=calibrate"]).expect(2);
    run(&lab, &["--minimal"]).expect(2).says("--output-format=json");
}

// Beside fio.

/// What fio says of the same options; `None` where it is not installed or cannot do it.
fn fio(lab: &Lab, arguments: &[&str]) -> Option<Value> {
    let output = Command::new("fio")
        .current_dir(lab.path(""))
        .args(["--output-format=json", "--name=j"])
        .args(arguments)
        .output()
        .inspect_err(|why| eprintln!("skipped: fio cannot be run: {why}"))
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let json = serde_json::from_str(&text[text.find('{')?..]);
    json.inspect_err(|why| eprintln!("skipped: fio gives no JSON: {why}")).ok()
}

fn keys(value: &Value) -> BTreeSet<String> {
    value.as_object().expect("an object").keys().cloned().collect()
}

#[test]
fn the_keys_of_steady_state_are_those_of_fio() {
    let lab = Lab::new();
    let job =
        ["--ioengine=null", "--size=1g", "--time_based", "--runtime=4", "--ss=iops_slope:90%", "--ss_dur=2"];
    let Some(theirs) = fio(&lab, &job) else { return };
    let ours = lab.json(&job);
    let (ours, theirs) = (at(&ours, "/jobs/0/steadystate"), at(&theirs, "/jobs/0/steadystate"));
    assert_eq!(keys(ours), keys(theirs));
    assert_eq!(keys(at(ours, "/data")), keys(at(theirs, "/data")));
    assert_eq!((at(ours, "/ss"), at(ours, "/duration")), (at(theirs, "/ss"), at(theirs, "/duration")));
}

#[test]
fn mixed_and_disabled_have_the_keys_of_fio() {
    let lab = Lab::new();
    for more in ["--unified_rw_reporting=mixed", "--unified_rw_reporting=both", "--gtod_reduce=1"] {
        let job = ["--ioengine=null", "--size=4m", "--rw=randrw", more];
        let Some(theirs) = fio(&lab, &job) else { return };
        let ours = lab.json(&job);
        let (ours, theirs) = (&jobs(&ours)[0], &jobs(&theirs)[0]);
        for name in ["read", "write", "trim", "sync", "mixed"] {
            assert_eq!(ours.get(name).is_some(), theirs.get(name).is_some(), "{more}: {name}");
            let Some((ours, theirs)) = ours.get(name).zip(theirs.get(name)) else { continue };
            assert_eq!(keys(ours), keys(theirs), "{more}: {name}");
            if more.starts_with("--gtod") {
                assert_eq!(keys(at(ours, "/lat_ns")), keys(at(theirs, "/lat_ns")), "{more}: {name}");
            }
        }
    }
}

#[test]
fn the_disks_below_a_file_are_those_that_fio_names() {
    let lab = Lab::new();
    let job = ["--ioengine=psync", "--rw=write", "--size=4m", "--filename=data", "--end_fsync=1"];
    let Some(theirs) = fio(&lab, &job) else { return };
    let ours = lab.json(&job);
    let list = |json: &Value| json.get("disk_util").and_then(Value::as_array).cloned().unwrap_or_default();
    let (ours_list, theirs) = (list(&ours), list(&theirs));
    if theirs.is_empty() {
        eprintln!("skipped: no block device below this directory");
        return;
    }
    let names = |list: &[Value]| list.iter().map(|disk| at(disk, "/name").clone()).collect::<Vec<_>>();
    assert_eq!(names(&ours_list), names(&theirs));
    for (mine, other) in ours_list.iter().zip(&theirs) {
        // Sectors came to fio later than the rest.
        let mine: BTreeSet<String> = keys(mine).into_iter().filter(|key| !key.contains("sectors")).collect();
        let other: BTreeSet<String> =
            keys(other).into_iter().filter(|key| !key.contains("sectors")).collect();
        assert_eq!(mine, other);
    }
    let without = lab.json(&[&job[..], &["--disk_util=0"]].concat());
    assert!(list(&without).is_empty());
}

/// Whether all threads of a process are stopped.
fn is_stopped(id: u32) -> bool {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{id}/task")) else { return false };
    tasks.flatten().all(|task| {
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
    })
}

/// Stops a job that runs, lets it go on, and ends it; its report, how long it was stopped at least, and how
/// long all of it took, in milliseconds.
fn stopped_for_a_while(lab: &Lab, more: &[&str], code: i32) -> (Value, u64, u64) {
    use rustix::process::Signal;
    const STOP: Duration = Duration::from_secs(3);
    let job =
        ["--name=j", "--size=1m", "--bs=4k", "--time_based=1", "--runtime=300s", "--output-format=json"];
    let clock = Clock::get();
    let begun_ns = clock.now_ns();
    let mut running = lab.spawn(&[&job, more].concat());
    running.wait_for_worker("j.0");
    running.signal(Signal::STOP);
    let id = running.id();
    running.wait_until("all threads to stop", || is_stopped(id));
    let stopped_ns = clock.now_ns();
    std::thread::sleep(STOP);
    let stopped_ms = (clock.now_ns() - stopped_ns) / 1_000_000;
    running.signal(Signal::CONT);
    running.wait_for_stderr("a note of the pause", |text| text.contains("the process did not run for"));
    if code == 130 {
        running.signal(Signal::INT);
    }
    let json = running.end().expect(code).json();
    (json, stopped_ms, (clock.now_ns() - begun_ns).div_ceil(1_000_000))
}

/// The thread that notices pauses looks this often.
const LOOKS_MS: u64 = 50;

#[test]
fn a_process_that_was_stopped_is_no_latency_of_the_device_and_no_time_of_its_rates() {
    let lab = Lab::new();
    lab.marked("data", 1 << 20);
    let data = format!("--filename={}", lab.path("data").display());
    let jobs: [&[&str]; 5] = [
        &["--ioengine=null", "--rw=randrw", "--iodepth=16"],
        &["--ioengine=sim", "--rw=randread", "--iodepth=16", "--sim_latency=200us", "--filename=drive"],
        &["--ioengine=psync", "--rw=randread", &data],
        &["--ioengine=io_uring", "--rw=randread", "--iodepth=8", &data],
        // Due while it was stopped: not late, and not caught up.
        &["--ioengine=null", "--rw=randread", "--iodepth=4", "--rate_iops=200"],
    ];
    for job in jobs {
        let (json, stopped_ms, spent_ms) = stopped_for_a_while(&lab, job, 130);
        let job_json = &common::jobs(&json)[0];
        let paused_ms = number(job_json, "/paused_ms");
        assert!(paused_ms + LOOKS_MS + 1 >= stopped_ms, "{paused_ms} of {stopped_ms} ms: {job:?}");
        for direction in ["read", "write"] {
            let counts = at(job_json, &format!("/{direction}"));
            let ios = number(counts, "/total_ios");
            if ios == 0 {
                continue;
            }
            let unmeasured = counts.pointer("/unmeasured_ios").and_then(Value::as_u64).unwrap_or(0);
            assert_eq!(number(counts, "/lat_ns/N") + unmeasured, ios, "{job:?}");
            let longest_ms = number(counts, "/lat_ns/max") / 1_000_000;
            assert!(longest_ms < stopped_ms, "{longest_ms} ms, stopped for {stopped_ms} ms: {job:?}");
            let runtime_ms = number(counts, "/runtime");
            assert!(
                runtime_ms + stopped_ms <= spent_ms + LOOKS_MS + 1,
                "{runtime_ms} of {spent_ms} ms: {job:?}"
            );
            if let Some(response) = counts.pointer("/response_ns") {
                assert!(number(response, "/max") / 1_000_000 < stopped_ms, "{response:#}");
                // A machine that is slower issues fewer.
                let most = 200 * (spent_ms + LOOKS_MS - stopped_ms) / 1000 + 4;
                assert!(ios <= most, "{ios} I/Os, {most} at most");
            }
        }
        let notes = at(&json, "/fio-spdk/notes").to_string();
        assert!(notes.contains("but not in the latencies"), "{notes}");
    }
}

#[test]
fn demands_are_not_missed_because_the_process_was_stopped() {
    let job = [
        "--ioengine=null",
        "--rw=randread",
        "--iodepth=16",
        "--max_latency=2s",
        "--rate_iops_min=1",
        "--rate_cycle=1s",
        "--reap_timeout=1s",
    ];
    let (json, ..) = stopped_for_a_while(&Lab::new(), &job, 130);
    assert_eq!(number(&common::jobs(&json)[0], "/error"), 0);
}
