//! Campaigns of power cuts through the program, on files that survive: what is left in the evidence,
//! what is answered, and that a campaign goes on wherever it was ended.

#![allow(clippy::unwrap_used, reason = "evidence that cannot be read fails the test")]

mod common;

use std::fs;
use std::path::Path;

use common::{Done, Lab, at, number};
use rustix::process::Signal;
use serde_json::Value;

const JOBS: &str = r#"
[[job]]
name = "w"
filename = "data"
size = "256k"
rw = "randwrite"
bs = "4k"
fsync = 2
ioengine = "psync"
verify = "crc32c"
time_based = true
runtime = "30s"
"#;

/// A laboratory with a campaign of `cycles` whose power never goes.
fn lab(cycles: u32, more: &str) -> Lab {
    let lab = Lab::new();
    let off = if more.contains("power_off =") { "" } else { "power_off = \"true\"\n" };
    let table = format!("[campaign]\ncycles = {cycles}\nwindow = \"500ms..600ms\"\nseed = 7\n{off}{more}\n");
    lab.file("c.toml", table + JOBS);
    lab
}

/// Moves the cut of the campaign to `window`.
fn cut_within(lab: &Lab, window: &str) {
    let text = String::from_utf8(lab.bytes("c.toml")).unwrap();
    lab.file("c.toml", text.replace("500ms..600ms", window));
}

fn campaign(lab: &Lab, more: &[&str]) -> Done {
    lab.run(&[&["campaign", "c.toml"], more].concat())
}

/// The lines of the evidence.
fn lines(lab: &Lab) -> Vec<Value> {
    let text = String::from_utf8(lab.bytes("c.campaign/campaign.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn outcomes(lab: &Lab) -> Vec<String> {
    lines(lab).iter().map(|line| at(line, "/outcome").as_str().unwrap().to_owned()).collect()
}

fn why(line: &Value) -> String {
    at(line, "/why").to_string()
}

fn json(lab: &Lab, name: &str) -> Value {
    serde_json::from_slice(&lab.bytes(&format!("c.campaign/{name}"))).unwrap()
}

#[test]
fn a_device_that_keeps_its_promises_is_clean_and_all_evidence_is_there() {
    let lab = lab(2, "power_on = \"echo on again\"\nwait_ready = \"echo ready\"");
    let done = campaign(&lab, &[]).expect(0);
    assert_eq!(outcomes(&lab), ["clean", "clean"]);
    assert!(done.stdout.contains("cycle 2 of 2: cut after"), "{done:?}");
    assert!(done.stdout.contains("2 of 2 cycles have ended"), "{done:?}");
    for line in lines(&lab) {
        assert!(number(&line, "/promised") > 0, "{line}");
        assert_eq!(number(&line, "/promised"), number(&line, "/checked"));
        let (moment_ns, cut_ns) = (number(&line, "/moment_ns"), number(&line, "/cut_ns"));
        assert!((500_000_000..=600_000_000).contains(&moment_ns) && moment_ns <= cut_ns, "{line}");
        assert_eq!((number(&line, "/write_exit"), number(&line, "/judge_exit")), (0, 0));
    }
    for name in ["job.state", "verdicts.jsonl", "write.log", "judge.log", "power_off.log"] {
        lab.bytes(&format!("c.campaign/000002/{name}"));
    }
    assert_eq!(lab.bytes("c.campaign/000002/power_on.log"), b"on again\n");
    assert_eq!(lab.bytes("c.campaign/000002/wait_ready.log"), b"ready\n");
    assert_eq!(json(&lab, "000002/device-before.json"), json(&lab, "000002/device-after.json"));
    assert_eq!(at(&json(&lab, "000002/write.json"), "/fio-spdk/trigger/command/success"), true);
    assert_eq!(lab.bytes("c.campaign/campaign.toml"), lab.bytes("c.toml"));
    // The job of a cycle can be judged again by hand, and cuts no power.
    lab.run(&["c.campaign/000002/job.toml", "--verify_state_load"]).expect(0);
}

#[test]
fn a_block_that_is_spoilt_while_the_power_is_off_is_a_violation() {
    let spoil = "test $FIO_SPDK_CYCLE = 1 || dd if=/dev/zero of=data bs=4k count=1 seek=3 conv=notrunc";
    let lab = lab(2, &format!("power_on = \"{spoil}\""));
    let done = campaign(&lab, &[]).expect(1);
    assert_eq!(outcomes(&lab), ["clean", "violation"]);
    assert!(done.stdout.contains("1 blank: violation"), "{done:?}");
    assert_eq!(number(&lines(&lab)[1], "/verdicts/blank"), 1);
    let verdict: Value = serde_json::from_slice(&lab.bytes("c.campaign/000002/verdicts.jsonl")).unwrap();
    assert_eq!(number(&verdict, "/offset"), 3 * 4096);
    // Told again, nothing is done again.
    let again = campaign(&lab, &[]).expect(1);
    assert!(!again.stdout.contains("cycle 2 of 2") && again.stdout.contains("violation"), "{again:?}");
}

#[test]
fn a_violation_ends_the_campaign_where_that_is_asked_for() {
    let spoil = "dd if=/dev/zero of=data bs=4k count=1 conv=notrunc";
    let lab = lab(5, &format!("power_on = \"{spoil}\"\nstop_on = \"violation\""));
    assert!(campaign(&lab, &[]).expect(1).stdout.contains("the campaign ends here"));
    assert_eq!(outcomes(&lab), ["violation"]);
    campaign(&lab, &[]).expect(1);
    assert_eq!(outcomes(&lab), ["violation"]);
}

#[test]
fn a_device_that_does_not_come_back_is_a_failure_with_its_reason() {
    let lab = lab(1, "wait_ready = \"echo no answer; false\"\nready_timeout = \"700ms\"");
    let done = campaign(&lab, &[]).expect(4);
    assert!(done.stdout.contains("not back within 700ms"), "{done:?}");
    let line = &lines(&lab)[0];
    assert!(why(line).contains("wait_ready ended with exit code 1: no answer"), "{line}");
    assert_eq!(at(line, "/judge_exit"), &Value::Null);
}

#[test]
fn commands_that_take_too_long_are_killed_with_all_that_they_started() {
    let lab1 = lab(1, "power_on = \"sleep 1000 & sleep 1000\"\npower_on_timeout = \"300ms\"");
    campaign(&lab1, &[]).expect(4);
    assert!(why(&lines(&lab1)[0]).contains("power_on took longer than 300ms"), "{:?}", lines(&lab1));
    // Judged all the same.
    assert_eq!(number(&lines(&lab1)[0], "/judge_exit"), 0);
    let lab2 = lab(1, "power_off = \"sleep 1000 & sleep 1000\"\npower_off_timeout = \"300ms\"");
    campaign(&lab2, &[]).expect(4);
    assert!(why(&lines(&lab2)[0]).contains("power_off, which took longer than 300ms"), "{:?}", lines(&lab2));
    let lab3 = lab(1, "wait_ready = \"sleep 1000\"\nready_timeout = \"300ms\"");
    campaign(&lab3, &[]).expect(4);
    assert!(why(&lines(&lab3)[0]).contains("wait_ready took longer"), "{:?}", lines(&lab3));
    let labs = [lab1.path("."), lab2.path("."), lab3.path(".")];
    // Who is killed dies when the kernel gets round to it.
    let gone = common::in_time(|| labs.iter().all(|lab| left_in(lab).is_empty()));
    assert!(gone, "{:?}", labs.map(|lab| left_in(&lab)));
}

/// What runs in a laboratory, as other tests run the same commands in theirs.
fn left_in(lab: &Path) -> Vec<String> {
    let lab = fs::canonicalize(lab).unwrap();
    let runs_there = |process: &Path| fs::read_link(process.join("cwd")).is_ok_and(|place| place == lab);
    let processes = fs::read_dir("/proc").unwrap().flatten().map(|process| process.path());
    processes
        .filter(|process| runs_there(process))
        .filter_map(|process| fs::read(process.join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .collect()
}

#[test]
fn commands_that_fail_are_failures_and_the_device_is_judged_all_the_same() {
    let lab = lab(2, "power_off = \"test $FIO_SPDK_CYCLE = 2\"\npower_on = \"test $FIO_SPDK_CYCLE = 1\"");
    campaign(&lab, &[]).expect(4);
    let lines = lines(&lab);
    assert!(why(&lines[0]).contains("power_off ended with exit code 1"), "{lines:?}");
    assert!(why(&lines[1]).contains("power_on ended with exit code 1"), "{lines:?}");
    assert_eq!((number(&lines[0], "/judge_exit"), number(&lines[1], "/judge_exit")), (0, 0));
}

#[test]
fn writing_that_ends_before_the_cut_is_a_failure_that_says_what_to_do() {
    let lab = lab(5, "");
    // So late that no busy machine gets there.
    cut_within(&lab, "60s..61s");
    let done = campaign(&lab, &["--runtime=50ms"]).expect(4).says("3 cycles failed one after the other");
    assert!(done.stdout.contains("time_based"), "{done:?}");
    assert_eq!(outcomes(&lab), ["failed"; 3]);
}

#[test]
fn jobs_that_do_not_verify_are_load_and_are_not_judged() {
    let lab = lab(1, "");
    let text = String::from_utf8(lab.bytes("c.toml")).unwrap();
    let load =
        JOBS.replace("\"w\"", "\"r\"").replace("randwrite", "randread").replace("\"data\"", "\"other\"");
    lab.file("c.toml", text + &load.replace("verify = \"crc32c\"", ""));
    campaign(&lab, &[]).expect(0);
    assert_eq!(at(&json(&lab, "000001/write.json"), "/jobs").as_array().unwrap().len(), 2);
    assert_eq!(at(&json(&lab, "000001/judge.json"), "/jobs").as_array().unwrap().len(), 1);
    lab.run(&["c.campaign/000001/judge/job.toml", "--state_dir=c.campaign/000001", "--verify_state_load"])
        .expect(0);
}

#[test]
fn writing_can_go_on_where_it_was_cut() {
    // A worker that a busy machine does not let answer within the 10 ms of a cut leaves a snapshot behind which
    // nothing goes on, and says so: that is another claim.
    let (lab, done) = (0..5)
        .map(|_| {
            let lab = lab(3, "between = \"continue\"");
            let done = campaign(&lab, &[]);
            (lab, done)
        })
        .find(|(_, done)| !done.stdout.contains("did not answer in time"))
        .expect("five campaigns, each with a worker that did not answer in time");
    done.expect(0);
    let lines = lines(&lab);
    let continues: Vec<&Value> = lines.iter().map(|line| at(line, "/continues")).collect();
    assert_eq!(continues, [false, true, true]);
}

#[test]
fn a_campaign_that_is_ended_leaves_no_line_for_its_cycle_and_goes_on() {
    let lab = lab(3, "power_on = \"test $FIO_SPDK_CYCLE = 1 || test -e go || { touch waits; sleep 1; }\"");
    // Long enough that what is done while it writes is done then.
    cut_within(&lab, "800ms..900ms");
    let mut running = lab.spawn(&["campaign", "c.toml"]);
    running.wait_for_file(&lab.path("waits"));
    running.signal(Signal::INT);
    let done = running.end().expect(130);
    assert!(done.stdout.contains("1 of 3 cycles"), "{done:?}");
    assert_eq!(outcomes(&lab), ["clean"]);
    // While it writes, too.
    lab.file("go", "");
    fs::remove_file(lab.path("waits")).unwrap();
    let mut running = lab.spawn(&["campaign", "c.toml"]);
    running.wait_for_file(&lab.path("c.campaign/000002.unfinished-1"));
    running.wait_for_file(&lab.path("c.campaign/000002/job.state"));
    running.signal(Signal::TERM);
    running.end().expect(143);
    assert_eq!(outcomes(&lab), ["clean"]);
    // And killed without a word, in the middle of a line.
    let path = lab.path("c.campaign/campaign.jsonl");
    let torn = fs::read_to_string(&path).unwrap() + "{\"cycle\":2,\"mom";
    fs::write(&path, torn).unwrap();
    let done = campaign(&lab, &[]).expect(0);
    assert!(done.stdout.contains("1 cycle ended before"), "{done:?}");
    assert_eq!(outcomes(&lab), ["clean"; 3]);
    for number in [1, 2] {
        assert!(lab.path(&format!("c.campaign/000002.unfinished-{number}/job.toml")).exists());
    }
    // The moments are those of a campaign that was never ended.
    let whole = lab_like(&lab);
    campaign(&whole, &[]).expect(0);
    let moments = |lab: &Lab| lines(lab).iter().map(|line| number(line, "/moment_ns")).collect::<Vec<_>>();
    assert_eq!(moments(&lab), moments(&whole));
}

#[test]
fn a_campaign_that_was_killed_does_not_go_on_beside_the_run_it_has_left() {
    let lab = lab(1, "power_on = \"echo again >> powered\"");
    // Not before another campaign has looked.
    cut_within(&lab, "4s..5s");
    let mut running = lab.spawn(&["campaign", "c.toml"]);
    // The run has begun: before that, nothing is left behind by who is killed.
    running.wait_for_file(&lab.path("c.campaign/000001/job.state"));
    running.signal(Signal::KILL);
    let _ = running.end();
    campaign(&lab, &[]).expect(2).says("at work");
    // The run goes on to its cut, and the power is back before the cycle begins anew.
    let mut done = campaign(&lab, &[]);
    common::in_time(|| {
        let waits = done.stderr.contains("at work");
        if waits {
            done = campaign(&lab, &[]);
        }
        !waits
    });
    done.expect(0);
    assert_eq!(lab.bytes("powered"), b"again\nagain\n");
    assert_eq!(outcomes(&lab), ["clean"]);
}

fn lab_like(other: &Lab) -> Lab {
    let lab = Lab::new();
    lab.file("c.toml", other.bytes("c.toml")).file("go", "");
    lab
}

#[test]
fn another_file_or_other_options_do_not_go_on() {
    let lab = lab(1, "");
    campaign(&lab, &["--size=128k"]).expect(0);
    campaign(&lab, &[]).expect(2).says("command line").says("`evidence`");
    campaign(&lab, &["--size=128k"]).expect(0);
    let text = String::from_utf8(lab.bytes("c.toml")).unwrap();
    lab.file("c.toml", text.replace("cycles = 1", "cycles = 2"));
    campaign(&lab, &["--size=128k"]).expect(2).says("campaign.toml");
    assert_eq!(outcomes(&lab), ["clean"]);
}

#[test]
fn what_is_refused_at_once_is_not_tried_a_hundred_times() {
    let lab = lab(100, "");
    campaign(&lab, &["--numjobs=2"]).expect(2).says("would both write");
    assert_eq!(lines(&lab).len(), 0);
    let lab = lab_like(&lab);
    fs::create_dir(lab.path("data")).unwrap();
    campaign(&lab, &[]).expect(6).says("it is a directory");
    assert_eq!(lines(&lab).len(), 0);
}

#[test]
fn a_run_and_a_campaign_are_not_taken_for_each_other() {
    let lab = lab(1, "");
    lab.file("j.toml", JOBS);
    lab.run(&["c.toml"]).expect(2).says("fio-spdk campaign FILE.toml").says("c.toml:1");
    lab.run(&["campaign", "j.toml"]).expect(2).says("[campaign]").says("fio-spdk FILE.toml");
    lab.run(&["campaign", "-"]).expect(2);
    lab.run(&["campaign", "c.toml", "--check"]).expect(0);
    lab.run(&["campaign", "c.toml", "--chekc"]).expect(2);
    lab.run(&["campaign", "c.toml", "--bs=4q"]).expect(2).says("4q");
    assert_eq!(lab.names(), ["c.toml", "j.toml"]);
}
