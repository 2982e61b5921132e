//! Triggers: what fires, and that the state lies at the client before any command runs.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::common::servers::{Bench, LONG, all_checked, send, wait_until};
use crate::common::{at, number};

fn judge(bench: &Bench, more: &[&str]) {
    let judged = bench.json(&[&["j.toml", "--verify_state_load"], more].concat());
    all_checked(&judged, "/jobs/0");
}

#[test]
fn the_state_lies_at_the_client_before_the_clients_command_runs() {
    let ways = [("--trigger-ios=1500", "trigger_ios"), ("--trigger-timeout=2s", "trigger_timeout")];
    for (bench, (trigger, why)) in [Bench::new(1), Bench::over_tcp()].iter().zip(ways) {
        let copy = "--trigger=cp $FIO_SPDK_STATE copy && echo cut; pwd";
        let json = bench.json(&["j.toml", trigger, copy]);
        let trigger = at(&json, "/fio-spdk/trigger");
        assert!(at(trigger, "/fired_by").as_str().is_some_and(|by| by.starts_with(why)), "{trigger:#}");
        assert_eq!(at(trigger, "/command/success"), true);
        let output = at(trigger, "/command/output").as_str().expect("output");
        assert!(output.starts_with("cut\n") && !output.contains("dut0"), "it ran at the client: {output}");
        let states = bench.states();
        let [state] = states.as_slice() else { panic!("one file of state: {states:?}") };
        assert_eq!(bench.lab.bytes("copy"), bench.lab.bytes(state));
        let told = at(trigger, "/snapshot").as_str().expect("a path");
        assert!(told.ends_with(state.as_str()), "the report names the client's file, not {told}");
        assert_eq!(number(trigger, "/snapshot_bytes"), bench.lab.bytes(state).len() as u64);
        judge(bench, &[]);
    }
}

#[test]
fn a_file_at_the_client_a_number_of_ios_and_a_signal_fire() {
    let bench = Bench::new(1);
    let fired_by = |json: &Value| at(json, "/fio-spdk/trigger/fired_by").as_str().expect("why").to_owned();
    let file = bench.begin_all(&["j.toml", "--output-format=json", "--trigger-file=cut", "--trigger=true"]);
    std::fs::write(bench.file_of(0, "cut"), "").expect("one at the server, which says nothing");
    bench.wait_for_writes(0);
    bench.lab.file("cut", "");
    let json = file.end().expect(0).json();
    assert_eq!(fired_by(&json), "file cut");
    assert!(!bench.lab.path("cut").exists() && bench.file_of(0, "cut").exists());
    judge(&bench, &[]);
    let json = bench.json(&["j.toml", "--trigger-ios=1500"]);
    assert!(fired_by(&json).starts_with("trigger_ios"), "{json:#}");
    judge(&bench, &[]);
    let signalled = bench.begin_all(&["j.toml", "--output-format=json"]);
    bench.wait_for_writes(0);
    signalled.signal(Signal::USR2);
    assert_eq!(fired_by(&signalled.end().expect(0).json()), "SIGUSR2");
    judge(&bench, &[]);
    assert_eq!(bench.states().len(), 3, "each run that wrote has left its own: {:?}", bench.states());
}

#[test]
fn the_load_goes_on_while_the_command_runs_if_asked() {
    let bench = Bench::new(1);
    let json =
        bench.json(&["j.toml", "--trigger-ios=1000", "--trigger=sleep 0.3", "--trigger-mode=continue"]);
    assert_eq!(at(&json, "/fio-spdk/trigger/mode"), "continue");
    judge(&bench, &[]);
}

#[test]
fn a_remote_command_runs_at_the_server_if_its_settings_have_it() {
    let bench = Bench::with(1, "commands = [\"pwd > ran; test -s $FIO_SPDK_STATE\"]");
    let allowed = "--trigger-remote=pwd > ran; test -s $FIO_SPDK_STATE";
    let json = bench.json(&["j.toml", "--trigger-ios=1000", allowed]);
    assert_eq!(at(&json, "/fio-spdk/trigger/command/success"), true);
    assert!(bench.file_of(0, "ran").exists() && !bench.lab.path("ran").exists());
    judge(&bench, &[]);
    let refused = bench.run(&["j.toml", "--trigger-timeout=200ms", "--trigger-remote=touch no"]);
    refused.expect(2).says("touch no");
    assert!(!bench.file_of(0, "no").exists());
    bench.run(&["j.toml", "--trigger=true", allowed]).expect(2).says("trigger_remote");
}

#[test]
fn the_first_trigger_fires_all_servers_and_the_clients_command_runs_once() {
    let bench = Bench::new(2);
    let other = LONG.replace(
        "[global]",
        "[global]\ntrigger_ios = 900000000\ntrigger = \"echo x >> ran; echo $FIO_SPDK_STATES > states\"",
    );
    bench.lab.file("other.toml", &other);
    bench.lab.file("first.toml", other.replace("900000000", "2000"));
    let done = bench
        .begin(&["--output-format=json", "--client=unix:s0", "first.toml", "--client=unix:s1", "other.toml"])
        .end()
        .expect(0);
    assert_eq!(bench.lab.bytes("ran"), b"x\n", "once");
    let states = String::from_utf8(bench.lab.bytes("states")).expect("text");
    assert_eq!(states.trim(), "first.unix_._s0.state:other.unix_._s1.state");
    let json = done.json();
    let why = |server: usize| {
        at(&json, &format!("/servers/{server}/report/fio-spdk/trigger/fired_by")).as_str().expect("why")
    };
    assert!(why(0).starts_with("trigger_ios"), "{}", why(0));
    assert_eq!(why(1), "trigger on unix:s0");
    let judged = bench
        .begin(&[
            "--output-format=json",
            "--verify_state_load",
            "--client=unix:s0",
            "first.toml",
            "--client=unix:s1",
            "other.toml",
        ])
        .end()
        .expect(0)
        .json();
    all_checked(&judged, "/servers/0/report/jobs/0");
    all_checked(&judged, "/servers/1/report/jobs/0");
}

#[test]
fn a_machine_that_goes_down_by_the_trigger_is_no_error_and_can_be_judged() {
    let mut bench = Bench::new(1);
    // The command of the trigger cuts the power of the machine under test.
    let command = format!("--trigger=kill -9 {}", bench.process(0));
    let mut running = bench.begin_all(&["j.toml", "--trigger-file=cut", &command, "--output-format=json"]);
    bench.wait_for_writes(0);
    let session = bench.session(0);
    std::thread::sleep(Duration::from_millis(1100));
    send(session, Signal::CONT);
    bench.lab.file("cut", "");
    running.wait_until("the end", || !bench.lab.path("cut").exists());
    let json = running.end().expect(0).json();
    assert_eq!(at(&json, "/fio-spdk/trigger/command/success"), true);
    let notes = at(&json, "/fio-spdk/notes").to_string();
    assert!(notes.contains("went away after the trigger"), "{notes}");
    assert!(number(&json, "/jobs/0/write/total_ios") > 0, "what had arrived");
    wait_until("the end of its run", || !std::path::Path::new(&format!("/proc/{session}")).exists());
    bench.end(0, Signal::KILL);
    bench.start(0);
    judge(&bench, &[]);
}

#[test]
fn without_the_clients_file_no_command_runs_unless_told_to() {
    for (always, ran) in [(false, false), (true, true)] {
        let bench = Bench::with(1, "commands = [\"touch ran\"]");
        let always = if always { "--trigger-always=1" } else { "--trigger-always=0" };
        let running =
            bench.begin_all(&["j.toml", "--output-format=json", "--trigger-remote=touch ran", always]);
        bench.wait_for_writes(0);
        let name = bench.states().remove(0);
        // Nothing can be renamed over a directory that holds something.
        std::fs::remove_file(bench.lab.path(&name)).expect("the state of the beginning");
        std::fs::create_dir(bench.lab.path(&name)).expect("a directory");
        bench.lab.file(&format!("{name}/full"), "");
        running.signal(Signal::USR2);
        let json = running.end().expect(4).says("could not be stored").json();
        let trigger = at(&json, "/fio-spdk/trigger");
        assert!(trigger["failure"].as_str().is_some_and(|why| why.contains(&name)), "{trigger:#}");
        assert_eq!(bench.file_of(0, "ran").exists(), ran, "{always}");
        assert_eq!(trigger["withheld"].is_string(), !ran);
    }
}
