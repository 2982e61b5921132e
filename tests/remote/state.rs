//! State over the network: where it lies, and what is judged by it.

use std::fs;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use fio_spdk::verify::snapshot::Snapshot;

use crate::common::servers::{Bench, LONG, all_checked, send, wait_until};
use crate::common::{at, number};

#[test]
fn a_file_for_each_run_and_a_link_to_the_newest() {
    let bench = Bench::new(2);
    let first = bench.json(&["j.toml", "--runtime=300ms"]);
    let second = bench.json(&["j.toml", "--runtime=300ms"]);
    for (server, at_newest) in [(0, false), (1, false), (0, true), (1, true)] {
        let json = if at_newest { &second } else { &first };
        let run = at(json, &format!("/servers/{server}/run")).as_str().expect("an id");
        let name = format!("j.unix_._s{server}.{run}.state");
        assert!(bench.states().contains(&name), "{name} is not in {:?}", bench.states());
        let link = fs::read_link(bench.link(server)).expect("a link");
        assert_eq!(link.to_string_lossy() == name, at_newest);
    }
    assert_eq!(bench.states().len(), 4);
    let shown = bench.lab.run(&["state", "show", "j.unix_._s0.state"]).expect(0);
    assert!(shown.stdout.contains("ended"), "{}", shown.stdout);
}

#[test]
fn states_go_where_state_dir_says_and_a_wrong_place_is_told_before_anything_is_written() {
    let bench = Bench::new(1);
    fs::create_dir(bench.lab.path("kept")).expect("a directory");
    bench.json(&["j.toml", "--runtime=300ms", "--state_dir=kept"]);
    assert!(bench.lab.path("kept/j.unix_._s0.state").exists() && bench.states().is_empty());
    all_checked(&bench.json(&["j.toml", "--state_dir=kept", "--verify_state_load"]), "/jobs/0");
    fs::remove_file(bench.file_of(0, "data")).expect("the data");
    bench.run(&["j.toml", "--state_dir=nowhere"]).expect(4).says("nowhere");
    bench.lab.file("j.unix_._s0.state", "something of the user's");
    bench.run(&["j.toml"]).expect(4).says("no link to a run's state");
    assert!(!bench.file_of(0, "data").exists(), "nothing has begun");
}

#[test]
fn a_missing_damaged_or_foreign_state_is_a_clear_error_and_nothing_runs() {
    let bench = Bench::new(1);
    let load = ["j.toml", "--verify_state_load"];
    bench.run(&load).expect(2).says("j.unix_._s0.state");
    assert!(!bench.file_of(0, "data").exists(), "nothing has begun");
    bench.json(&["j.toml", "--runtime=300ms"]);
    let link = bench.link(0);
    let whole = fs::read(&link).expect("a state");
    let damaged = |bytes: &[u8], says: &str| {
        fs::write(&link, bytes).expect("damage");
        bench.run(&load).expect(2).says(says);
    };
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    damaged(&flipped, "snapshot");
    damaged(&whole[..whole.len() - 3], "snapshot");
    damaged(b"", "snapshot");
    // That of other jobs.
    fs::write(&link, &whole).expect("as it was");
    bench.run(&["j.toml", "--verify_state_load", "--bs=8k"]).expect(2);
    bench.run(&["j.toml", "--verify_state_load", "--filename=other"]).expect(2).says("other");
    all_checked(&bench.json(&load), "/jobs/0");
}

#[test]
fn the_state_of_an_earlier_run_is_not_taken_for_that_of_a_later_one() {
    let bench = Bench::new(1);
    bench.json(&["j.toml", "--runtime=300ms"]);
    let earlier = fs::read_link(bench.link(0)).expect("a link");
    bench.json(&["j.toml", "--runtime=300ms"]);
    fs::remove_file(bench.link(0)).expect("the link");
    std::os::unix::fs::symlink(earlier, bench.link(0)).expect("a link");
    let done = bench.run(&["j.toml", "--verify_state_load"]);
    // The blocks are those of another run than the state tells of: doubt or damage, and no zero.
    assert!(matches!(done.code, Some(1 | 5)), "{done:#?}");
}

#[test]
fn a_run_goes_on_where_the_one_before_it_ended() {
    let bench = Bench::new(1);
    bench.json(&["j.toml", "--runtime=300ms"]);
    let first = bench.states();
    let json = bench.json(&["j.toml", "--runtime=300ms", "--verify_state_continue"]);
    assert!(number(&json, "/jobs/0/write/total_ios") > 0);
    assert_eq!(bench.states().len(), 2, "{:?}", bench.states());
    assert!(
        !first[0].contains(&fs::read_link(bench.link(0)).expect("a link").to_string_lossy().into_owned())
    );
    let judged = bench.json(&["j.toml", "--verify_state_load"]);
    all_checked(&judged, "/jobs/0");
}

#[test]
fn what_checkpoints_have_brought_judges_after_the_plug_was_pulled() {
    let mut bench = Bench::new(1);
    let job = LONG.replace("[global]", "[global]\nstate_checkpoint = \"50ms\"");
    bench.lab.file("j.toml", job);
    for cut in 1..=3 {
        let running = bench.begin_all(&["j.toml", "--output-format=json"]);
        bench.wait_for_writes(0);
        let session = bench.session(0);
        // A checkpoint with a promise in it has come to the client.
        wait_until("a promise at the client", || {
            let snapshot = fs::read(bench.link(0)).ok().and_then(|bytes| Snapshot::decode(&bytes).ok());
            let jobs = snapshot.into_iter().flat_map(|snapshot| snapshot.jobs);
            jobs.flat_map(|job| job.workers).any(|worker| worker.promises.flush_epoch > 0)
        });
        thread::sleep(Duration::from_millis(70 * cut));
        // All of the machine at once.
        send(session, Signal::KILL);
        bench.end(0, Signal::KILL);
        running.end().expect(4).says("vanished");
        wait_until("the run's end", || {
            fs::read_to_string(format!("/proc/{session}/stat")).map_or(true, |stat| stat.contains(") Z"))
        });
        bench.start(0);
        let json = bench.json(&["j.toml", "--verify_state_load"]);
        all_checked(&json, "/jobs/0");
    }
}

#[test]
fn stages_and_jobs_that_keep_no_state_do_as_they_would_here() {
    let bench = Bench::new(1);
    let two = LONG.replace("runtime = \"10m\"", "runtime = \"300ms\"")
        + "[[job]]\nname = \"k\"\nstonewall = true\nfilename = \"more\"\n";
    bench.lab.file("j.toml", two);
    bench.json(&["j.toml"]);
    let judged = bench.json(&["j.toml", "--verify_state_load"]);
    all_checked(&judged, "/jobs/0");
    all_checked(&judged, "/jobs/1");
    let states = bench.states();
    bench.json(&["j.toml", "--verify_state_save=0"]);
    assert_eq!(bench.states(), states);
}
