//! Who leaves a run, who comes back to it, who watches, and who ends it.

use std::fs;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::common::servers::{Bench, LONG, all_checked, send};
use crate::common::{at, number};

/// A bench whose server takes clients for gone soon, with a job that goes on without one.
fn detached() -> Bench {
    let bench = Bench::with(1, "client_timeout = 2");
    bench.lab.file("j.toml", LONG.replace("[global]", "[global]\ndetach = true"));
    bench
}

#[test]
fn a_run_whose_client_is_killed_ends_in_order_and_is_fetched_later() {
    let bench = Bench::with(1, "client_timeout = 2");
    let running = bench.begin_all(&["j.toml"]);
    let run = bench.wait_for_writes(0);
    running.signal(Signal::KILL);
    running.end();
    bench.wait_for_end(0);
    let state = at(&bench.runs(0)[0], "/state").as_str().expect("words").to_owned();
    assert!(state.contains("SIGHUP"), "{state}");
    let fetched = bench.begin(&["attach", "unix:s0", "--output-format=json"]).end().expect(129).json();
    assert!(number(&fetched, "/jobs/0/write/total_ios") > 0);
    let notes = at(&fetched, "/fio-spdk/notes").to_string();
    assert!(notes.contains("client vanished"), "{notes}");
    let name = format!("j.unix_._s0.{run}.state");
    assert_eq!(fs::read_link(bench.link(0)).expect("a link").to_string_lossy(), name);
    all_checked(&bench.json(&["j.toml", "--verify_state_load"]), "/jobs/0");
}

#[test]
fn a_detached_run_goes_on_without_its_client_and_another_one_takes_it_over() {
    let bench = detached();
    let running = bench.begin_all(&["j.toml"]);
    let run = bench.wait_for_writes(0);
    running.signal(Signal::KILL);
    running.end();
    let alone = |runs: &[Value]| runs[0]["driven"] == false && runs[0]["running"] == true;
    bench.wait_for_runs(0, "a run without a client", alone);
    assert_eq!(bench.runs(0)[0]["detached"], true);
    fs::create_dir(bench.lab.path("taken")).expect("a directory");
    let more = ["attach", "unix:s0", "--run", &run[..4], "--state_dir=taken", "--output-format=json"];
    let second = bench.begin(&more);
    bench.wait_for_runs(0, "a client that drives", |runs| runs[0]["driven"] == true);
    bench.begin(&["stop", "unix:s0"]).end().expect(0);
    let done = second.end().expect(143);
    assert_eq!(at(&done.json(), "/fio-spdk/unfinished"), false);
    assert!(bench.lab.path("taken/j.unix_._s0.state").exists());
    all_checked(
        &bench.json(&["j.toml", "--detach=0", "--state_dir=taken", "--verify_state_load"]),
        "/jobs/0",
    );
}

#[test]
fn an_interrupt_leaves_a_detached_run_to_itself_and_ends_another_one() {
    let bench = detached();
    let running = bench.begin_all(&["j.toml"]);
    let run = bench.wait_for_writes(0);
    running.signal(Signal::INT);
    running.end().expect(130).says(&format!("fio-spdk attach unix:s0 --run={run}"));
    thread::sleep(Duration::from_millis(300));
    assert_eq!(bench.runs(0)[0]["running"], true);
    let stopped = bench.begin(&["stop", "unix:s0"]).end().expect(0);
    assert!(stopped.stdout.contains(&run) && stopped.stdout.contains("told to end"), "{}", stopped.stdout);
    bench.wait_for_end(0);
    let again = bench.begin(&["stop", "unix:s0", "--run", &run]).end().expect(0);
    assert!(again.stdout.contains("ended already"), "{}", again.stdout);
    bench.begin(&["stop", "unix:s0"]).end();
    let fetched = bench.begin(&["attach", "unix:s0", "--output-format=json"]).end().expect(143).json();
    assert!(number(&fetched, "/jobs/0/write/total_ios") > 0);

    let bench = Bench::new(1);
    let running = bench.begin_all(&["j.toml", "--output-format=json"]);
    bench.wait_for_writes(0);
    running.signal(Signal::INT);
    let json = running.end().expect(130).json();
    assert_eq!(at(&json, "/fio-spdk/ended_by_signal"), 2);
    assert!(number(&json, "/jobs/0/write/total_ios") > 0);
    all_checked(&bench.json(&["j.toml", "--verify_state_load"]), "/jobs/0");
}

#[test]
fn interrupts_are_obeyed_although_the_run_does_not_end() {
    let bench = Bench::new(1);
    let running = bench.begin_all(&["j.toml"]);
    bench.wait_for_writes(0);
    let session = bench.session(0);
    send(session, Signal::STOP);
    for _ in 0..3 {
        running.signal(Signal::INT);
        thread::sleep(Duration::from_millis(200));
    }
    running.end().expect(130);
    send(session, Signal::CONT);
}

#[test]
fn a_second_client_watches_and_neither_stores_nor_ends() {
    let bench = Bench::new(1);
    let driver = bench.begin_all(&["j.toml", "--output-format=json"]);
    let run = bench.wait_for_writes(0);
    fs::create_dir(bench.lab.path("elsewhere")).expect("a directory");
    let watch = ["attach", "unix:s0", "--state_dir=elsewhere", "--output-format=json"];
    let watchers: Vec<_> =
        [&watch[..], &[&watch[..], &["--watch"]].concat()].map(|arguments| bench.begin(arguments)).into();
    let leaves = bench.begin(&[&watch[..], &["--watch"]].concat());
    bench.wait_for_runs(0, "three that watch", |runs| runs[0]["watchers"] == 3);
    leaves.signal(Signal::INT);
    leaves.end().expect(130);
    assert_eq!(bench.runs(0)[0]["running"], true, "who watches ends nothing");
    bench.begin(&["stop", "unix:s0"]).end().expect(0);
    let all = driver.end().expect(143).json();
    let ios = number(&all, "/jobs/0/write/total_ios");
    let mut told = Vec::new();
    for watcher in watchers {
        let done = watcher.end().expect(143);
        assert_eq!(number(&done.json(), "/jobs/0/write/total_ios"), ios);
        told.push(done.stderr);
    }
    assert!(told[0].contains("drives this run, so this client only watches it"), "{told:?}");
    assert_eq!(fs::read_dir(bench.lab.path("elsewhere")).expect("a directory").count(), 0);
    assert!(bench.lab.path(&format!("j.unix_._s0.{run}.state")).exists());
}

#[test]
fn the_status_tells_what_runs_what_ran_and_what_is_allowed() {
    let bench = Bench::with(1, "devices = [\"/dev/nvme9n*\"]");
    let status = |more: &[&str]| {
        bench.begin(&[&["server", "--status", "--client=unix:s0"], more].concat()).end().expect(0).stdout
    };
    assert!(status(&[]).contains("no runs") && status(&[]).contains("/dev/nvme9n*"), "{}", status(&[]));
    let running = bench.begin_all(&["j.toml"]);
    let run = bench.wait_for_writes(0);
    let text = status(&[]);
    for part in [&run[..8], "running", "j.toml", "driven by its client", "IOPS"] {
        assert!(text.contains(part), "{part} is missing: {text}");
    }
    running.signal(Signal::TERM);
    running.end().expect(143);
    bench.run(&["j.toml", "--runtime=200ms"]).expect(0);
    let runs = bench.runs(0);
    let states: Vec<&str> = runs.iter().filter_map(|run| run["state"].as_str()).collect();
    assert_eq!(states, ["ended well", "ended by SIGTERM"]);
    assert!(runs.iter().all(|run| run["ended_ms"].as_u64() >= run["started_ms"].as_u64()), "{runs:#?}");
    // Of this machine, by its settings.
    let own = bench.lab.run(&["server", "--status", "--config=server0.toml"]).expect(0).stdout;
    assert!(own.contains("ended well"), "{own}");
    bench.lab.run(&["server", "--status", "--client=unix:nobody", "--connect-timeout=300ms"]).expect(4);
    bench.begin(&["attach", "unix:s0", "--run=ffffffffffff"]).end().expect(2).says("ffffffffffff");
    bench.begin(&["stop", "unix:s0", "--run=ffffffffffff"]).end().expect(2).says("ffffffffffff");
}

#[test]
fn one_run_at_a_time_uses_a_file_and_the_other_is_told_who_does() {
    let bench = Bench::new(1);
    let running = bench.begin_all(&["j.toml"]);
    let run = bench.wait_for_writes(0);
    bench.run(&["j.toml"]).expect(6).says(&run);
    assert_eq!(bench.runs(0).len(), 1);
    bench.run(&["j.toml", "--filename=other", "--runtime=200ms"]).expect(0);
    running.signal(Signal::INT);
    running.end().expect(130);
    // And then it is free.
    bench.run(&["j.toml", "--runtime=200ms"]).expect(0);
}

#[test]
fn who_falls_silent_has_vanished_on_either_side() {
    let bench = Bench::with(1, "client_timeout = 2");
    let running = bench.begin_all(&["j.toml", "--server-timeout=2s"]);
    bench.wait_for_writes(0);
    send(bench.process(0), Signal::STOP);
    let done = running.end();
    send(bench.process(0), Signal::CONT);
    done.expect(4).says("silent for 2 s");
    bench.wait_for_end(0);
    let running = bench.begin_all(&["j.toml"]);
    bench.wait_for_writes(0);
    running.signal(Signal::STOP);
    bench.wait_for_end(0);
    running.signal(Signal::CONT);
    running.end().expect(4).says("vanished");
    for run in bench.runs(0) {
        assert!(run["state"].as_str().is_some_and(|state| state.contains("SIGHUP")), "{run:#}");
    }
    // What the server had kept has never come here; now it does, and is judged by.
    bench.begin(&["attach", "unix:s0"]).end().expect(129);
    all_checked(&bench.json(&["j.toml", "--verify_state_load"]), "/jobs/0");
}

#[test]
fn an_interrupt_ends_the_wait_for_a_server() {
    let bench = Bench::new(1);
    let mut running = bench.begin(&["j.toml", "--client=unix:s0", "--client=unix:nobody"]);
    running.wait_for_stderr("the wait", |text| text.contains("unix:nobody: waiting for it"));
    running.signal(Signal::INT);
    running.end().expect(130).says("ended before it began");
    assert!(bench.runs(0).is_empty());
}
