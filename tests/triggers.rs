//! Triggers and snapshots through the program: what fires, in which order, what is said, what is left
//! behind; and that whatever kills the program, what its last snapshot promises can be judged.

mod common;

use std::thread;
use std::time::Duration;

use common::{Done, Lab, at, number};
use rustix::process::Signal;
use serde_json::Value;

const JOB: &str = r#"
[global]
rw = "randwrite"
bs = "4k"
size = "4m"
iodepth = 16
time_based = true
runtime = "10m"
fsync = 50
verify = "crc32c"
[[job]]
name = "j"
filename = "data"
"#;

fn lab() -> Lab {
    let lab = Lab::new();
    lab.file("j.toml", JOB);
    lab
}

fn run(lab: &Lab, more: &[&str]) -> Done {
    lab.run(&[&["j.toml", "--output-format=json", "--ioengine=io_uring"], more].concat())
}

/// Cuts with every worker answering. One that a busy machine, or a slow flush, does not let answer in time is
/// told as stuck, which is another claim.
fn cut(lab: &Lab, more: &[&str]) -> Value {
    let cuts = (0..20).map(|_| run(lab, more).expect(0).json());
    let mut answered = cuts
        .filter(|json| json.pointer("/fio-spdk/trigger/stuck") == Some(&Value::from(Vec::<Value>::new())));
    answered.next().expect("twenty cuts, each with a worker that did not answer in time")
}

/// Judges by the snapshot; everything it promises must be there.
fn judge(lab: &Lab, more: &[&str]) -> Value {
    let json = run(lab, &[&["--verify_state_load"], more].concat()).expect(0).json();
    let verify = at(&json, "/jobs/0/verify");
    assert!(
        number(verify, "/promised") > 0 && number(verify, "/promised") == number(verify, "/checked"),
        "{verify:#}"
    );
    json
}

#[test]
fn the_snapshot_is_on_disk_before_the_command_runs() {
    let lab = lab();
    // Whatever lies there when the command runs is what was promised, to the byte.
    let done =
        run(&lab, &["--trigger-ios=2000", "--trigger=cp $FIO_SPDK_STATE copy; echo cut; echo why >&2"]);
    let json = done.expect(0).json();
    assert_eq!(lab.bytes("copy"), lab.bytes("j.state"));
    let trigger = at(&json, "/fio-spdk/trigger");
    assert!(at(trigger, "/fired_by").to_string().contains("trigger_ios"), "{trigger:#}");
    assert_eq!(at(trigger, "/command/output"), "cut\nwhy\n");
    assert_eq!(at(trigger, "/command/success"), true);
    assert_eq!(at(trigger, "/snapshot"), "j.state");
    assert_eq!(number(trigger, "/snapshot_bytes"), lab.bytes("j.state").len() as u64);
    assert!(number(trigger, "/stored_ns") > number(trigger, "/freeze_ns"));
    assert!(!lab.names().contains(&"j.state.new".to_owned()), "{:?}", lab.names());
    judge(&lab, &[]);
}

#[test]
fn a_time_fires_it_and_not_before() {
    // What is promised then depends on the machine, and is not asked.
    let json = run(&lab(), &["--trigger-timeout=50ms"]).expect(0).json();
    assert_eq!(at(&json, "/fio-spdk/trigger/fired_by"), "trigger_timeout");
    assert!(number(&json, "/fio-spdk/trigger/at_ns") >= 50_000_000);
}

/// A run that reports so far, of which a flush has made something durable.
fn with_promises(lab: &Lab, more: &[&str]) -> common::Running {
    let so_far = ["j.toml", "--output-format=json", "--status-interval=100ms"];
    let mut running = lab.spawn(&[&so_far[..], more].concat());
    running.wait_for_report("a flush", |json| number(json, "/jobs/0/sync/total_ios") > 0);
    running
}

/// The last of the reports of a run that reports so far.
fn last_report(done: &Done) -> Value {
    done.reports().pop().expect("a report")
}

#[test]
fn a_file_fires_it_and_is_removed() {
    let lab = lab();
    let running = with_promises(&lab, &["--trigger-file=cut", "--trigger=true", "--ioengine=psync"]);
    lab.file("cut", "");
    let json = last_report(&running.end().expect(0));
    assert_eq!(at(&json, "/fio-spdk/trigger/fired_by"), "file cut");
    assert!(!lab.names().contains(&"cut".to_owned()));
    judge(&lab, &[]);
}

#[test]
fn a_signal_fires_it() {
    let lab = lab();
    let running = with_promises(&lab, &[]);
    running.signal(Signal::USR2);
    let json = last_report(&running.end().expect(0));
    assert_eq!(at(&json, "/fio-spdk/trigger/fired_by"), "SIGUSR2");
    judge(&lab, &[]);
}

#[test]
fn a_number_of_ios_fires_it_over_all_workers() {
    let lab = lab();
    let more = ["--trigger-ios=2000", "--numjobs=2", "--offset_increment=4m", "--filename=data"];
    let json = cut(&lab, &more);
    assert!(at(&json, "/fio-spdk/trigger/fired_by").to_string().contains("trigger_ios"));
    assert_eq!(number(&json, "/fio-spdk/trigger/ledgers"), 2);
    judge(&lab, &more[1..]);
}

#[test]
fn a_moment_in_a_window_comes_from_the_seed() {
    let moment = |seed: u64| {
        let lab = lab();
        let json =
            run(&lab, &["--trigger-timeout=50ms..250ms", &format!("--trigger-seed={seed}")]).expect(0).json();
        let told = at(&json, "/fio-spdk/trigger/fired_by").as_str().unwrap_or_default().to_owned();
        let us = told.strip_prefix("trigger_timeout, drawn as ").and_then(|rest| rest.split(' ').next());
        let us: u64 = us.and_then(|us| us.parse().ok()).unwrap_or_else(|| panic!("no moment: {told}"));
        assert!(number(&json, "/fio-spdk/trigger/at_ns") >= us * 1000, "not before its time");
        us
    };
    let moments: Vec<u64> = [1, 1, 2, 3].into_iter().map(moment).collect();
    assert_eq!(moments[0], moments[1]);
    assert!(moments[1] != moments[2] && moments[2] != moments[3], "{moments:?}");
    assert!(moments.iter().all(|us| (50_000..=250_000).contains(us)), "{moments:?}");
}

#[test]
fn the_load_goes_on_while_the_command_runs_if_asked() {
    let lab = lab();
    // By a number of I/Os: after some time, a slow machine may have nothing to judge.
    let more = ["--trigger-ios=2000", "--trigger=sleep 0.5", "--trigger-mode=continue"];
    let json = run(&lab, &more).expect(0).json();
    assert_eq!(at(&json, "/fio-spdk/trigger/mode"), "continue");
    // What was written meanwhile may stand, and need not.
    let judged = judge(&lab, &[]);
    assert!(number(&judged, "/jobs/0/verify/verdicts/in_flight") > 0, "{judged:#}");
}

#[test]
fn without_a_snapshot_the_command_does_not_run_unless_told_to() {
    for (always, ran) in [(false, false), (true, true)] {
        let lab = lab();
        let mut arguments = vec!["j.toml", "--output-format=json", "--trigger=touch ran"];
        if always {
            arguments.push("--trigger-always");
        }
        let mut running = lab.spawn(&arguments);
        running.wait_for_worker("j.0");
        // Nothing can be renamed over a directory that holds something.
        std::fs::remove_file(lab.path("j.state")).expect("the snapshot of the beginning");
        std::fs::create_dir(lab.path("j.state")).expect("a directory");
        lab.file("j.state/full", "");
        running.signal(Signal::USR2);
        let json = running.end().expect(4).json();
        let trigger = at(&json, "/fio-spdk/trigger");
        assert!(trigger["failure"].as_str().is_some_and(|why| why.contains("j.state")), "{trigger:#}");
        assert_eq!(lab.path("ran").exists(), ran, "trigger_always = {always}");
        assert_eq!(trigger["withheld"].is_string(), !ran);
    }
}

#[test]
fn a_command_that_fails_is_told_and_is_an_error() {
    let lab = lab();
    let json = run(&lab, &["--trigger-ios=1000", "--trigger=echo no such outlet; exit 3"]).expect(4).json();
    assert_eq!(at(&json, "/fio-spdk/trigger/command/success"), false);
    assert_eq!(at(&json, "/fio-spdk/trigger/command/output"), "no such outlet\n");
    // What was promised is known all the same.
    judge(&lab, &[]);
}

#[test]
fn a_run_that_ends_leaves_a_snapshot_and_judging_leaves_it_alone() {
    let lab = lab();
    let more = ["--number_ios=1000"];
    run(&lab, &more).expect(0);
    let before = lab.bytes("j.state");
    let json = judge(&lab, &more);
    assert_eq!(lab.bytes("j.state"), before);
    let notes = at(&json, "/fio-spdk/notes").to_string();
    assert!(notes.contains("when the writing ended") && notes.contains("volatile cache"), "{notes}");
    // And again, weeks later.
    judge(&lab, &more);
}

#[test]
fn a_snapshot_that_does_not_fit_is_refused_with_the_reason() {
    let lab = lab();
    run(&lab, &["--runtime=100ms"]).expect(0);
    let load = |more: &[&str]| run(&lab, &[&["--verify_state_load"], more].concat()).expect(2);
    load(&["--bs=8k"]).says("bs = ");
    load(&["--numjobs=2", "--offset_increment=4m"]).says("numjobs");
    load(&["--name=other"]).says("no such job");
    load(&["--filename=missing"]).says("nothing to judge");
    assert!(!lab.path("missing").exists());
    lab.file("copy", lab.bytes("data"));
    load(&["--filename=copy"]).says("is not the");
    load(&["--state_dir=nowhere"]).says("nowhere/j.state");
    let mut bytes = lab.bytes("j.state");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    lab.file("j.state", bytes);
    load(&[]).says("damaged");
    lab.file("j.state", "[[job]]\n");
    load(&[]).says("no snapshot");
}

#[test]
fn a_full_or_missing_state_dir_is_found_before_anything_is_written() {
    let lab = lab();
    lab.marked("data", 4 << 20);
    let before = lab.bytes("data");
    run(&lab, &["--state_dir=nowhere"]).expect(4).says("nowhere");
    run(&lab, &["--state_dir=/proc"]).expect(4).says("/proc");
    assert!(lab.bytes("data") == before, "something was written");
}

#[test]
fn kill_leaves_a_snapshot_at_most_a_checkpoint_old() {
    let mut judged = 0;
    for round in 0..60_u64 {
        // On a slow machine most of them are killed before much is promised.
        if round >= 12 && judged > 1000 {
            break;
        }
        let lab = lab();
        let engine = ["--ioengine=psync", "--ioengine=io_uring"][usize::try_from(round % 2).unwrap_or(0)];
        let mut running = lab.spawn(&["j.toml", "--state_checkpoint=5ms", engine]);
        running.wait_for_worker("j.0");
        running.wait_for_file(&lab.path("j.state"));
        thread::sleep(Duration::from_micros(1000 + 3137 * round));
        running.signal(Signal::KILL);
        assert_eq!(running.end().code, None, "killed");
        let done = run(&lab, &["--verify_state_load", engine]);
        // On a busy machine the last checkpoint may be from before the first write: nothing is promised then.
        let code = done.code;
        assert!(code == Some(0) || code == Some(5), "{done:#?}");
        let json = done.json();
        let promised = number(&json, "/jobs/0/verify/promised");
        assert_eq!((promised == 0, number(&json, "/jobs/0/verify/checked")), (code == Some(5), promised));
        let notes = at(&json, "/fio-spdk/notes").to_string();
        assert!(notes.contains("by a checkpoint while the job ran"), "{notes}");
        judged += number(&json, "/jobs/0/verify/checked");
    }
    assert!(judged > 1000, "{judged}");
}

#[test]
fn a_run_that_is_killed_without_a_checkpoint_promises_nothing() {
    let lab = lab();
    run(&lab, &["--runtime=100ms"]).expect(0);
    let mut running = lab.spawn(&["j.toml"]);
    running.wait_for_worker("j.0");
    running.signal(Signal::KILL);
    running.end();
    // Not even what the run before was promised: it has been written over.
    let json = run(&lab, &["--verify_state_load"]).expect(5).json();
    assert_eq!(number(&json, "/jobs/0/verify/promised"), 0);
}

#[test]
fn a_run_that_goes_on_and_is_killed_still_promises_what_was_durable() {
    let lab = lab();
    cut(&lab, &["--trigger-ios=2000"]);
    let before = number(&judge(&lab, &[]), "/jobs/0/verify/promised");
    let mut running = lab.spawn(&["j.toml", "--verify_state_continue"]);
    running.wait_for_worker("j.0");
    running.signal(Signal::KILL);
    running.end();
    assert_eq!(number(&judge(&lab, &[]), "/jobs/0/verify/promised"), before);
    // Where it ended nobody knows, so it cannot go on again and use numbers twice.
    run(&lab, &["--verify_state_continue"]).expect(2).says("does not say where the writing ended");
}

#[test]
fn a_workload_that_trims_excuses_no_damage() {
    let lab = lab();
    let more = ["--trim_percentage=5", "--trigger-ios=3000", "--trigger-mode=continue"];
    run(&lab, &more).expect(0);
    lab.file("data", vec![0x5a; 4 << 20]);
    let json = run(&lab, &[&more[..1], &["--verify_state_load"]].concat()).expect(1).json();
    let verify = at(&json, "/jobs/0/verify");
    assert!(number(verify, "/verdicts/corrupt") * 10 > number(verify, "/promised") * 9, "{verify:#}");
}

#[test]
fn what_a_later_stage_writes_over_is_not_promised_any_more() {
    let lab = lab();
    let second = "[[job]]\nname = \"k\"\nstonewall = true\nfilename = \"data\"\n";
    lab.file("j.toml", format!("{JOB}{second}"));
    let more = ["--number_ios=1000"];
    run(&lab, &more).expect(0);
    let json = run(&lab, &[&more[..], &["--verify_state_load"]].concat()).expect(0).json();
    // Of the first, what the second has not written for certain is judged too: tests/stages.rs.
    assert_eq!((common::jobs(&json).len(), at(&json, "/jobs/1/jobname").as_str()), (2, Some("k")));
    assert!(number(&json, "/jobs/1/verify/promised") > 0);
}

#[test]
fn a_trigger_does_not_hide_what_failed_before() {
    let lab = lab();
    let faults = "--sim_faults={ write_error = 0.01 }";
    let more =
        ["--ioengine=sim", faults, "--continue_on_error=write", "--trigger-ios=2000", "--do_verify=false"];
    let json = run(&lab, &more).expect(4).json();
    assert!(number(&json, "/fio-spdk/trigger/errors_before") > 0);
}

#[test]
fn two_runs_do_not_share_a_snapshot() {
    let lab = lab();
    let first = with_promises(&lab, &[]);
    run(&lab, &["--filename=other"]).expect(4).says("j.state");
    assert!(!lab.path("other").exists(), "nothing is written");
    first.signal(Signal::INT);
    first.end().expect(130);
    judge(&lab, &[]);
}

#[test]
fn a_command_that_leaves_somebody_behind_is_not_waited_for() {
    let lab = lab();
    // Who is left behind ends when it is told to, by a file: nobody waits for that.
    let left = "--trigger=(for i in $(seq 2000); do [ ! -e end ] || break; sleep 0.1; done; touch ended) & echo started";
    let json = run(&lab, &["--trigger-timeout=100ms", left]).expect(0).json();
    assert_eq!(at(&json, "/fio-spdk/trigger/command/output"), "started\n");
    assert!(!lab.path("ended").exists());
    lab.file("end", "");
    assert!(common::in_time(|| lab.path("ended").exists()), "it goes on without the run");
}

#[test]
fn damage_after_a_cut_is_found_by_the_snapshot() {
    let lab = lab();
    // Three times as many as there are blocks: each of them is promised.
    run(&lab, &["--trigger-ios=3072"]).expect(0);
    let mut bytes = lab.bytes("data");
    bytes[8192..12288].fill(0);
    lab.file("data", bytes);
    let json = run(&lab, &["--verify_state_load"]).expect(1).json();
    assert_eq!(number(&json, "/jobs/0/verify/verdicts/blank"), 1);
    let examples = at(&json, "/jobs/0/verify/examples").as_array().expect("examples");
    let blank: Vec<&Value> = examples.iter().filter(|example| example["verdict"] == "blank").collect();
    assert!(blank.len() == 1 && blank[0]["offset"] == 8192, "{examples:#?}");
}

#[test]
fn options_of_the_run_are_the_same_in_all_jobs() {
    let lab = lab();
    lab.file("two.toml", format!("{JOB}trigger_timeout = 1\n[[job]]\nname = \"k\"\nfilename = \"other\"\n"));
    lab.run(&["two.toml"]).expect(2).says("[global]");
    assert!(!lab.path("data").exists() && !lab.path("other").exists());
}

/// Two jobs that verify, on drives or files of their own; the second begins when the first has ended.
fn one_after_the_other(engine: &str, more: &str) -> Lab {
    let lab = Lab::new();
    let global =
        format!("[global]\nioengine = \"{engine}\"\nrw = \"randwrite\"\nbs = \"4k\"\nsize = \"1m\"\n");
    let common = format!("verify = \"crc32c\"\nrate_iops = 500\nfsync = 8\n{more}\n");
    let jobs = "[[job]]\nname = \"a\"\nfilename = \"a\"\n[[job]]\nname = \"b\"\nfilename = \"b\"\nwait_for = \"a\"\n";
    lab.file("j.toml", global + &common + jobs);
    lab
}

#[test]
fn who_had_not_begun_when_it_fired_is_neither_stuck_nor_waited_for() {
    for engine in ["psync", "sim"] {
        let lab = one_after_the_other(engine, "trigger = \"true\"\ntrigger_ios = 100\nstate_dir = \".\"");
        let json = lab.run(&["j.toml", "--output-format=json"]).expect(0).json();
        let trigger = at(&json, "/fio-spdk/trigger");
        // Of the other, a flush may take longer than a cut waits.
        let stuck = at(trigger, "/stuck").as_array().expect("names");
        assert!(!stuck.contains(&Value::from("b.0")), "{engine}: {trigger:#}");
        let notes = at(&json, "/fio-spdk/notes").to_string();
        assert!(
            notes.contains("never started: b.0") && notes.matches("b.0").count() == 1,
            "{engine}: {notes}"
        );
        if engine == "psync" {
            let json = lab.run(&["j.toml", "--output-format=json", "--verify_state_load"]).expect(0).json();
            let notes = at(&json, "/fio-spdk/notes").to_string();
            assert!(notes.contains("promises nothing for these jobs, which are left out: b"), "{notes}");
        }
    }
}

#[test]
fn whoever_is_done_first_all_that_the_snapshot_promises_is_judged() {
    let lab = one_after_the_other("psync", "");
    lab.run(&["j.toml", "--output-format=json"]).expect(0);
    let json =
        lab.run(&["j.toml", "--output-format=json", "--verify_state_load", "--exitall"]).expect(0).json();
    let checked = |job: &str| number(&json, &format!("/jobs/{job}/verify/checked"));
    assert_eq!((checked("0"), checked("1")), (256, 256));
}

#[test]
fn the_wait_for_a_trigger_is_no_time_of_the_job() {
    let lab = one_after_the_other("sim", "trigger = \"sleep 3\"\ntrigger_ios = 100\nstate_dir = \".\"");
    let json = lab.run(&["j.toml", "--output-format=json"]).expect(0).json();
    let fired_ms = number(&json, "/fio-spdk/trigger/at_ns") / 1_000_000;
    let ran_ms = number(&json, "/jobs/0/write/runtime");
    assert!(ran_ms < fired_ms + 2500, "{ran_ms} ms, and it fired after {fired_ms} ms");
}

/// A job that ends by itself, with a trigger that fires while it writes and would fire again whenever it runs.
fn fires_again(more: &str) -> Lab {
    let lab = Lab::new();
    let job = "[[job]]\nname = \"a\"\nfilename = \"data\"\nrw = \"write\"\nbs = \"4k\"\nsize = \"1m\"\nloops = 50\n";
    let trigger = "trigger_ios = 1000\ntrigger = \"echo POWER-OFF >> fired\"\n";
    lab.file("j.toml", format!("{job}fsync = 64\nverify = \"crc32c\"\n{trigger}{more}"));
    lab
}

#[test]
fn no_trigger_fires_while_an_earlier_run_is_judged() {
    let lab = fires_again("trigger_file = \"cut\"\n");
    lab.run(&["j.toml"]).expect(0);
    let fired = || String::from_utf8_lossy(&lab.bytes("fired")).lines().count();
    assert_eq!(fired(), 1);
    for engine in common::FILE_ENGINES {
        lab.file("cut", "");
        // With its reads alone it would come to `trigger_ios`, and the file is there.
        let more = ["--trigger_ios=16", "--trigger_timeout=1us", "--output-format=json", engine];
        let loaded = lab.run(&[&["j.toml", "--verify_state_load"], &more[..]].concat()).expect(0).json();
        assert!(number(&loaded, "/jobs/0/verify/checked") > 0);
        // All that the file says was not written: what is judged as if it was, is not what stands there.
        let only = lab.run(&[&["j.toml", "--verify_only"], &more[..]].concat()).expect(1).json();
        for json in [&loaded, &only] {
            assert!(json.pointer("/fio-spdk/trigger").is_none_or(Value::is_null), "{json:#}");
            let notes = at(json, "/fio-spdk/notes").to_string();
            let inactive = "these options do nothing: trigger, trigger_file, trigger_timeout, trigger_ios";
            assert_eq!(notes.matches(inactive).count(), 1, "{notes}");
        }
        assert_eq!((fired(), lab.path("cut").exists()), (1, true));
    }
}

#[test]
fn a_signal_fires_nothing_while_an_earlier_run_is_judged() {
    let lab = fires_again("");
    lab.run(&["j.toml"]).expect(0);
    // It begins when there has been time for the signal, and is judged to its end whenever that comes.
    let mut running =
        lab.spawn(&["j.toml", "--verify_state_load", "--startdelay=500ms", "--output-format=json"]);
    running.wait_for_thread("keeper");
    running.signal(Signal::USR2);
    let json = running.end().expect(0).json();
    assert!(json.pointer("/fio-spdk/trigger").is_none_or(Value::is_null), "{json:#}");
    assert!(number(&json, "/jobs/0/verify/checked") > 0);
    assert_eq!(String::from_utf8_lossy(&lab.bytes("fired")).lines().count(), 1);
}

#[test]
fn judging_runs_no_command_and_removes_no_file() {
    let lab = Lab::new();
    let job = "[[job]]\nname = \"a\"\nfilename = \"data\"\nrw = \"write\"\nbs = \"4k\"\nsize = \"1m\"\nverify = \"crc32c\"\n";
    lab.file("write.toml", job);
    lab.run(&["write.toml"]).expect(0);
    let commands = "exec_prerun = \"rm -f data; touch ran\"\nexec_postrun = \"touch ran\"\n";
    lab.file("j.toml", format!("{job}{commands}unlink = true\nverify_only = true\n"));
    let json = lab.run(&["j.toml", "--output-format=json"]).expect(0).json();
    assert_eq!(number(&json, "/jobs/0/verify/verdicts/ok"), 256);
    assert!(lab.path("data").exists() && !lab.path("ran").exists(), "{:?}", lab.names());
    let notes = at(&json, "/fio-spdk/notes").to_string();
    assert!(notes.contains("these options do nothing: exec_prerun, exec_postrun, unlink"), "{notes}");
}

#[test]
fn a_trigger_beside_a_job_that_judges_is_refused() {
    let lab = Lab::new();
    let jobs = "[global]\nrw = \"write\"\nbs = \"4k\"\nsize = \"1m\"\nverify = \"crc32c\"\ntrigger_ios = 10\n\
                [[job]]\nname = \"old\"\nfilename = \"a\"\nverify_only = true\n\
                [[job]]\nname = \"new\"\nfilename = \"b\"\nstonewall = true\n";
    lab.file("j.toml", jobs);
    lab.run(&["j.toml"]).expect(2).says("no trigger fires while one is judged").says("--section=old");
    assert!(!lab.path("b").exists());
}
