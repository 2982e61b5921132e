//! Rates, pauses, shares and demands on latency through the program: how much is issued, what is
//! reported, what ends a job and with which exit code. Machines that run tests are busy: what must not be
//! exceeded is exact, what must be reached is generous.

mod common;

use common::{Lab, at, first, float, jobs, number};
use rustix::process::Signal;
use serde_json::Value;

/// Some time, on an engine that takes none.
const NULL: [&str; 6] =
    ["--name=j", "--ioengine=null", "--size=1g", "--time_based", "--runtime=1", "--rw=randread"];
/// A drive that takes a moment for each I/O.
const SIM: [&str; 6] =
    ["--name=j", "--ioengine=sim", "--filename=s", "--size=16m", "--time_based", "--rw=randread"];

fn run(job: &[&str], more: &[&str]) -> Value {
    Lab::new().json(&[job, more].concat())
}

/// Milliseconds that a direction ran, rounded up, and a moment more: clocks are read in turn.
fn seconds(json: &Value, op: &str) -> f64 {
    first(json, &format!("/{op}/runtime")) as f64 / 1000.0 + 0.002
}

/// What a rate a second let through: never more than it may, and of a machine that has others to serve a good
/// part of it.
#[track_caller]
fn keeps(json: &Value, op: &str, what: &str, rate: f64, one: f64) {
    let done = first(json, &format!("/{op}/{what}")) as f64;
    let most = rate * seconds(json, op) + one;
    assert!(done <= most, "{done} {what} of {op}s, {most} at most");
    assert!(done >= 0.4 * rate, "{done} {what} of {op}s at {rate} a second");
}

#[test]
fn a_rate_is_never_exceeded_and_is_reached() {
    let json = run(&NULL, &["--rate_iops=2000"]);
    keeps(&json, "read", "total_ios", 2000.0, 1.0);
    let json = run(&NULL, &["--rate=20m", "--iodepth=8", "--bssplit=4k/50:64k/50"]);
    keeps(&json, "read", "io_bytes", f64::from(20 << 20), 65536.0);
    // fio's meaning where sizes vary: so many of the smallest.
    let json = run(&NULL, &["--rate_iops=1000", "--bssplit=4k/50:8k/50"]);
    keeps(&json, "read", "io_bytes", 4096.0 * 1000.0, 8192.0);
}

#[test]
fn each_worker_has_the_rate_for_itself() {
    let json = run(&NULL, &["--rate_iops=500", "--numjobs=3", "--group_reporting"]);
    keeps(&json, "read", "total_ios", 1500.0, 3.0);
}

#[test]
fn in_a_mix_each_direction_goes_by_its_own_rate() {
    let json = run(&NULL, &["--rw=randrw", "--rate_iops=2000,500", "--iodepth=4"]);
    keeps(&json, "read", "total_ios", 2000.0, 1.0);
    keeps(&json, "write", "total_ios", 500.0, 1.0);
    let json = run(&NULL, &["--rw=randrw", "--rate_iops=,500"]);
    keeps(&json, "write", "total_ios", 500.0, 1.0);
    let (reads, writes) = (first(&json, "/read/total_ios"), first(&json, "/write/total_ios"));
    assert!(reads > 2 * writes, "what has no rate goes as fast as it can: {json:#}");
}

#[test]
fn random_gaps_come_to_the_same_rate() {
    let json = run(&NULL, &["--rate_iops=2000", "--rate_process=poisson"]);
    let ios = first(&json, "/read/total_ios");
    // Six deviations above; below, the machine may be busy.
    assert!((800..2300).contains(&ios), "{ios}");
}

#[test]
fn the_response_time_tells_of_the_wait_that_latency_hides() {
    // A drive with room for 100 to 200 I/Os a second, and 1000 a second that fall due.
    let json = run(&SIM, &["--sim_latency=5ms", "--rate_iops=1000", "--runtime=1"]);
    let read = at(&json, "/jobs/0/read");
    let (latency, response) = (float(read, "/lat_ns/mean"), float(read, "/response_ns/mean"));
    assert!(response > 3.0 * latency, "latency {latency}, response {response}");
    // What was issued last fell due long before.
    assert!(number(read, "/response_ns/max") > 400_000_000, "{read:#}");
    assert_eq!(number(read, "/response_ns/N"), number(read, "/total_ios"));
    assert!(number(read, "/response_ns/percentile/99.000000") > 200_000_000);
    let without = run(&NULL, &["--number_ios=10"]);
    assert!(without.pointer("/jobs/0/read/response_ns").is_none(), "only a rate makes I/Os due");
}

#[test]
fn people_read_of_response_times_and_of_the_depth_found() {
    let lab = Lab::new();
    let done = lab.run(&[NULL.as_slice(), &["--rate_iops=1000"]].concat()).expect(0);
    assert!(done.stdout.lines().any(|line| line.trim_start().starts_with("resp ")), "{}", done.stdout);
    let slow = ["--sim_latency=5ms", "--rate_iops=1000", "--runtime=1"];
    let done = lab.run(&[SIM.as_slice(), &slow].concat()).expect(0);
    assert!(done.stdout.contains("RATE NOT KEPT: "), "{}", done.stdout);
    let target = ["--latency_target=30s", "--latency_window=10ms", "--iodepth=4", "--runtime=60"];
    let done = lab.run(&[NULL.as_slice(), &target].concat()).expect(0);
    assert!(done.stdout.contains("latency target: 100% of I/Os within 30s: depth 4"), "{}", done.stdout);
}

#[test]
fn a_pause_follows_so_many_ios() {
    let json = run(&NULL, &["--thinktime=20ms", "--thinktime_blocks=5", "--iodepth=8"]);
    let ios = first(&json, "/read/total_ios");
    assert!((10..=255).contains(&ios) && ios.is_multiple_of(5), "{ios}");
    // A bare number is microseconds; after every I/O unless it is said otherwise.
    let json = run(&NULL, &["--thinktime=10000"]);
    assert!((5..=101).contains(&first(&json, "/read/total_ios")), "{json:#}");
}

#[test]
fn pauses_bound_the_depth() {
    let job = ["--thinktime=1ms", "--thinktime_blocks=2", "--iodepth=16", "--sim_latency=1ms", "--runtime=1"];
    let json = run(&SIM, &job);
    for deeper in ["4", "8", "16"] {
        assert!(float(&json, &format!("/jobs/0/iodepth_level/{deeper}")) < 0.001, "{json:#}");
    }
}

#[test]
fn a_pause_in_time_rests_its_share() {
    // Of a thousand I/Os that a drive like this can do in a second, those of 50 ms in 200.
    let json =
        run(&SIM, &["--sim_latency=1ms", "--runtime=2", "--thinktime_iotime=50ms", "--thinktime=150ms"]);
    let ios = first(&json, "/read/total_ios");
    let most = 51.0 * (seconds(&json, "read") / 0.2).ceil();
    assert!(ios >= 4 && ios as f64 <= most, "{ios} of {most}");
}

#[test]
fn a_rate_catches_up_after_pauses_unless_told_not_to() {
    let job = ["--rate_iops=1000", "--thinktime=100ms", "--thinktime_blocks=50"];
    let caught_up = first(&run(&NULL, &job), "/read/total_ios");
    let json = run(&NULL, &[job.as_slice(), &["--rate_ignore_thinktime"]].concat());
    let left_out = first(&json, "/read/total_ios");
    // 50 I/Os take 50 ms, or nothing at all where they are late, and then come 100 ms.
    let most = 50.0 * (seconds(&json, "read") / 0.15).ceil();
    assert!(left_out as f64 <= most && caught_up > left_out, "{caught_up} and {left_out}");
}

#[test]
fn jobs_share_by_their_flow() {
    let lab = Lab::new();
    let jobs_of: String =
        [6, 3, 1].iter().map(|weight| format!("[[job]]\nname = \"w{weight}\"\nflow = {weight}\n")).collect();
    let all = "[global]\nioengine = \"sim\"\nfilename = \"s\"\nsize = \"16m\"\nsim_latency = \"1ms\"\ntime_based = true\nruntime = 3\nflow_id = 7\n";
    lab.file("j.toml", format!("{all}{jobs_of}"));
    let json = lab.json(&["j.toml"]);
    let ios: Vec<f64> = jobs(&json).iter().map(|job| number(job, "/read/total_ios") as f64).collect();
    // They do not start and end at one moment, and a drive like this does not do much meanwhile.
    assert!(ios[0] / ios[1] > 1.5 && ios[0] / ios[1] < 2.7, "{ios:?}");
    assert!(ios[1] / ios[2] > 2.2 && ios[1] / ios[2] < 4.1, "{ios:?}");
}

#[test]
fn who_is_below_the_least_rate_ends_with_exit_code_3() {
    let lab = Lab::new();
    let job =
        [SIM.as_slice(), &["--sim_latency=5ms", "--runtime=20", "--output-format=json,normal"]].concat();
    let done = lab.run(&[job.as_slice(), &["--rate_iops_min=100000"]].concat()).expect(3);
    assert!(done.stdout.contains("rate_iops_min not met"), "{done:#?}");
    assert!(done.stdout.contains("100k demanded"), "{done:#?}");
    let done = lab.run(&[job.as_slice(), &["--rate_min=1g", "--rate_cycle=100"]].concat()).expect(3);
    assert!(done.stdout.contains("rate_min not met") && done.stdout.contains("1GiB/s demanded"), "{done:#?}");
    // A cycle after 2 s: long before its time.
    let json = lab.run(
        &[&SIM[..], &["--sim_latency=5ms", "--runtime=20", "--rate_min=1g", "--output-format=json"]].concat(),
    );
    let json = json.expect(3).json();
    assert_eq!(first(&json, "/error"), 5);
    assert!((2900..15_000).contains(&first(&json, "/read/runtime")), "{json:#}");
}

#[test]
fn who_reaches_the_least_rate_goes_on_to_its_end() {
    let json = run(&NULL, &["--rate_iops=1000", "--rate_iops_min=20", "--rate_cycle=1000", "--runtime=4"]);
    keeps(&json, "read", "total_ios", 1000.0, 1.0);
    assert!(first(&json, "/read/runtime") >= 3990, "{json:#}");
}

#[test]
fn one_io_that_takes_too_long_ends_the_job_with_exit_code_3() {
    let job =
        [&SIM[..], &["--sim_latency=5ms", "--max_latency=1000", "--runtime=20", "--output-format=json"]];
    let json = Lab::new().run(&job.concat()).expect(3).json();
    assert_eq!((first(&json, "/error"), first(&json, "/read/total_ios")), (110, 1));
    let message = at(&json, "/jobs/0/fio-spdk/error_message").as_str().unwrap_or_default();
    assert!(
        message.contains("max_latency exceeded: a read at offset") && message.contains("1ms"),
        "{message}"
    );
    // Only of the direction that it is said of.
    run(&SIM, &["--sim_latency=5ms", "--max_latency=,1000", "--number_ios=5", "--runtime=20"]);
}

#[test]
fn the_depth_that_a_latency_allows_is_found_and_ends_the_job() {
    let job = ["--sim_latency=100us", "--runtime=30", "--iodepth=24", "--latency_window=30ms"];
    let json = run(&SIM, &[job.as_slice(), &["--latency_target=10s", "--latency_percentile=50"]].concat());
    assert_eq!(first(&json, "/latency_depth"), 24);
    assert_eq!(first(&json, "/latency_target_ns"), 10_000_000_000);
    assert_eq!((first(&json, "/latency_window"), first(&json, "/latency_window_us")), (30_000, 30_000));
    assert!(near(float(&json, "/jobs/0/latency_percentile"), 50.0), "{json:#}");
    assert_eq!(at(&json, "/jobs/0/fio-spdk/depth_found/settled"), true);
    // The result is the last window alone.
    assert!(first(&json, "/read/runtime") < 20_000, "{json:#}");
    assert!(float(&json, "/jobs/0/iodepth_level/1") < 50.0, "{json:#}");
}

fn near(value: f64, expected: f64) -> bool {
    common::near(value, expected, 0.001)
}

#[test]
fn a_latency_that_one_io_alone_exceeds_ends_with_exit_code_3() {
    let job = ["--sim_latency=5ms", "--runtime=30", "--latency_target=50us", "--latency_window=30ms"];
    let done = Lab::new().run(&[SIM.as_slice(), &job].concat()).expect(3);
    assert!(done.stdout.contains("latency_target not met at depth 1"), "{}", done.stdout);
}

#[test]
fn a_run_that_keeps_to_a_latency_goes_on_to_its_end() {
    // The depth is found in four windows; a machine with others to serve has forty more for it.
    let job =
        ["--latency_target=10s", "--latency_window=20ms", "--latency_run", "--iodepth=8", "--runtime=2"];
    let json = run(&NULL, &job);
    assert!(first(&json, "/read/runtime") >= 1990 && first(&json, "/latency_depth") == 8, "{json:#}");
}

#[test]
fn who_waits_for_a_far_moment_still_hears_the_user_and_the_clock() {
    let json = run(&NULL, &["--rate_iops=1"]);
    assert!(first(&json, "/read/total_ios") <= 2, "{json:#}");
    let lab = Lab::new();
    let job = ["--name=slow", "--ioengine=null", "--size=1g", "--thinktime=30s", "--output-format=json"];
    let mut running = lab.spawn(&job);
    running.wait_for_worker("slow.0");
    running.signal(Signal::INT);
    let json = running.end().expect(130).json();
    assert_eq!(first(&json, "/read/total_ios"), 1);
    assert!(first(&json, "/read/runtime") < 20_000, "{json:#}");
}

#[test]
fn a_worker_that_waits_leaves_the_processor_alone() {
    let json = run(&NULL, &["--rate_iops=100"]);
    let busy = float(&json, "/jobs/0/usr_cpu") + float(&json, "/jobs/0/sys_cpu");
    assert!(busy < 50.0, "{busy}% of a processor for a hundred I/Os");
}

#[test]
fn what_verifies_keeps_its_promises_at_a_rate_and_with_pauses() {
    let verify = ["--name=j", "--filename=s", "--size=2m", "--rw=randrw", "--verify=crc32c", "--iodepth=8"];
    for engine in ["--ioengine=sim", "--ioengine=psync", "--ioengine=io_uring"] {
        for pace in [
            ["--rate_iops=,1000", "--verify_backlog=16"],
            ["--thinktime=1ms", "--thinktime_blocks=8"],
            ["--rate=8m", "--rate_process=poisson"],
        ] {
            let json = run(&verify, &[engine, "--direct=0", pace[0], pace[1]]);
            let verify = at(&json, "/jobs/0/verify");
            assert!(number(verify, "/checked") > 0, "{engine} {pace:?}: {verify:#}");
            assert_eq!(number(verify, "/checked"), number(verify, "/promised"), "{engine} {pace:?}");
        }
    }
}

#[test]
fn response_times_of_all_directions_are_told_as_one_too() {
    let more = ["--rw=randrw", "--rate_iops=1000", "--number_ios=100", "--unified_rw_reporting=mixed"];
    let json = Lab::new().json(&[NULL.as_slice(), &more].concat());
    assert_eq!(first(&json, "/mixed/response_ns/N"), 100);
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_starts() {
    for (options, what) in [
        (["--rate=1m", "--rate_iops=5"], "both `rate_iops` and `rate`"),
        (["--rate_iops=5", "--rate_iops_min=6"], "demands more reads"),
        (["--rate_process=poisson", "--iodepth=2"], "needs a rate"),
        (["--thinktime_spin=5", "--iodepth=2"], "needs `thinktime`"),
        (["--thinktime=5", "--thinktime_spin=6"], "longer than"),
        (["--latency_run", "--iodepth=2"], "needs `latency_target`"),
        (["--latency_window=1ms", "--iodepth=2"], "needs `latency_target`"),
        (["--latency_percentile=99", "--iodepth=2"], "needs `latency_target`"),
        (["--latency_target=5", "--rate=1m"], "would hide it"),
        (["--latency_target=5", "--max_latency=5"], "would end the search"),
        (["--latency_target=5", "--latency_percentile=0"], "percentage above 0"),
        (["--flow_sleep=5", "--iodepth=2"], "needs `flow`"),
        (["--io_submit_mode=offload", "--iodepth=2"], "what `offload` is for"),
        (["--flow_watermark=5", "--iodepth=2"], "no counter to set a mark for"),
        (["--rate_cycle=0", "--iodepth=2"], "a time of 0"),
        (["--max_latency=5 parsecs", "--iodepth=2"], "no unit of time"),
    ] {
        Lab::new().run(&[NULL.as_slice(), &["--check"], &options].concat()).expect(2).says(what);
    }
}
