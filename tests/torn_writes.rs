//! A drive that promises to store a write whole and leaves a part of it is convicted, although each of its
//! blocks by itself may be as it is; an honest drive never is.

#![allow(clippy::unwrap_used, reason = "a trial that cannot be set up has failed")]

use std::path::Path;

use fio_spdk::base::verify::Verdict;
use fio_spdk::engine::sim;
use fio_spdk::job;
use fio_spdk::report::Report;
use fio_spdk::run::{self, Observer, Progress, Requests, RunOptions};
use fio_spdk::stats::VerifyTally;

struct Silent;

impl Observer for Silent {
    fn note(&mut self, _: &str) {}
    fn progress(&mut self, _: &Progress) {}
    fn so_far(&mut self, _: &Report) {}
}

/// Runs a job file of one job, with more options.
fn run(text: &str, state: &Path, more: &[(&str, &str)]) -> VerifyTally {
    let more: Vec<(String, String)> =
        more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let jobs = job::parse(&[("torn.toml".to_owned(), text.to_owned())], &more);
    let jobs = jobs.unwrap_or_else(|why| panic!("{why}\n{text}"));
    let options = RunOptions { state: Some(state.to_owned()), ..RunOptions::default() };
    let report = run::execute(jobs, &options, &Requests::default(), &mut Silent).unwrap().report;
    let mut tally = VerifyTally::default();
    report.jobs.iter().filter_map(|job| job.verify.as_ref()).for_each(|one| tally.merge(one));
    tally
}

/// How a snapshot is judged: by offset, in the order of the writes, by threads beside the reactor. It must make
/// no difference.
const WAYS: [&[(&str, &str)]; 4] =
    [&[], &[("verify_order", "written")], &[("verify_async", "2")], &[("iodepth", "1")]];

/// Writes until the power of a simulated drive goes, and judges in each way by the snapshot.
fn cut(lines: &str, faults: &str) -> Vec<VerifyTally> {
    cut_by("trigger_ios = 400", lines, faults)
}

/// The same; `trigger` says when the power goes.
fn cut_by(trigger: &str, lines: &str, faults: &str) -> Vec<VerifyTally> {
    let folder = tempfile::tempdir().unwrap();
    let (state, drive) =
        (folder.path().join("torn.state"), folder.path().join("drive").display().to_string());
    let text = |faults: &str| {
        format!(
            "[[job]]\nioengine = \"sim\"\nfilename = \"{drive}\"\nrw = \"randwrite\"\nio_size = \"1g\"\nverify = \"crc32c\"\n\
             do_verify = false\niodepth = 16\n{lines}\n{faults}\n"
        )
    };
    run(&text(&format!("{faults}\n{trigger}")), &state, &[]);
    let judged = WAYS.iter().map(|way| {
        let more: Vec<(&str, &str)> = way.iter().copied().chain([("verify_state_load", "true")]).collect();
        run(&text(""), &state, &more)
    });
    let judged = judged.collect();
    sim::forget(&drive);
    judged
}

/// Jobs on drives that promise more than a logical block, with seeds.
const JOBS: [&str; 9] = [
    "sim_lba = '4k'; sim_atomic_unit = '16k'; bs = '16k'; size = '16m'",
    "sim_lba = '4k'; sim_atomic_unit = '16k'; bs = '16k'; verify_interval = '16k'; size = '16m'",
    "sim_lba = 512; sim_atomic_unit = '8k'; bs = '8k'; verify_interval = 1024; size = '4m'",
    "sim_lba = 512; sim_atomic_unit = '4k'; bs = '4k'; size = '4m'",
    "sim_lba = 512; sim_atomic_unit = '16k'; bssplit = '4k/40:8k/30:16k/30'; size = '8m'; norandommap = true",
    // Parts of units, and writes of several units.
    "sim_lba = 512; sim_atomic_unit = '8k'; bssplit = '12k/50:20k/50'; blockalign = '4k'; size = '8m'; norandommap = true",
    "sim_lba = 512; sim_atomic_unit = '16k'; bs = '16k'; size = '1m'; norandommap = true",
    "sim_lba = '4k'; sim_atomic_unit = '16k'; bs = '16k'; size = '8m'; fsync = 100",
    "sim_lba = 512; sim_atomic_unit = '64k'; bs = '64k'; verify_interval = '512'; size = '32m'",
];

fn toml(job: &str, seed: u64) -> String {
    format!("{}\nrandseed = {seed}\nsim_seed = {seed}", job.replace('\'', "\"").replace("; ", "\n"))
}

fn assert_same_in_each_way(judged: &[VerifyTally], lines: &str) {
    for (tally, way) in judged.iter().zip(WAYS) {
        assert_eq!(tally.counts, judged[0].counts, "{way:?}\n{lines}\n{tally:#?}");
        assert_eq!(
            (tally.promised, tally.checked),
            (judged[0].promised, judged[0].checked),
            "{way:?}\n{lines}"
        );
        assert_eq!(tally.counts.iter().sum::<u64>(), tally.promised, "{way:?}\n{lines}");
    }
}

#[test]
fn an_honest_drive_is_never_accused_of_a_torn_write() {
    for (number, job) in JOBS.iter().enumerate() {
        let lines = toml(job, number as u64);
        let judged = cut(&lines, "");
        assert_same_in_each_way(&judged, &lines);
        assert_eq!(judged[0].violations(), 0, "{lines}\n{:#?}", judged[0]);
    }
}

#[test]
fn a_drive_that_tears_what_it_promised_to_keep_whole_is_convicted() {
    for (number, job) in JOBS.iter().enumerate() {
        let lines = toml(job, number as u64);
        let judged = cut(&lines, "sim_faults = { torn_lba = 0.1 }");
        assert_same_in_each_way(&judged, &lines);
        let tally = &judged[0];
        assert!(tally.of(Verdict::Torn) > 0, "{lines}\n{tally:#?}");
        if !job.contains("fsync") {
            assert_eq!(tally.violations(), tally.of(Verdict::Torn), "{lines}\n{tally:#?}");
        }
        let torn = tally.examples.iter().find(|finding| finding.verdict == Verdict::Torn).unwrap();
        assert!(torn.stands.contains("write "), "{torn:#?}");
        assert!(torn.promise.ends_with("whole (sim_atomic_unit)"), "{torn:#?}");
    }
}

#[test]
fn a_drive_that_promises_a_logical_block_may_tear_between_them() {
    for seed in 0..3 {
        let lines = toml("sim_lba = '4k'; bs = '16k'; size = '16m'", seed);
        let judged = cut(&lines, "sim_faults = { torn_lba = 0.1 }");
        assert_same_in_each_way(&judged, &lines);
        assert_eq!(judged[0].violations(), 0, "{lines}\n{:#?}", judged[0]);
    }
}

#[test]
fn writes_after_an_open_ended_snapshot_are_judged_as_a_whole_too() {
    let trigger = "trigger_ios = 300\ntrigger_mode = \"continue\"\ntrigger = \"sleep 0.2\"";
    let mut torn = 0;
    for (number, job) in JOBS.iter().enumerate().step_by(2) {
        let lines = toml(job, number as u64);
        let judged = cut_by(trigger, &lines, "");
        assert_same_in_each_way(&judged, &lines);
        assert_eq!(judged[0].violations(), 0, "{lines}\n{:#?}", judged[0]);
        // Nothing is torn before the snapshot.
        let judged = cut_by(trigger, &lines, "sim_faults = { torn_lba = 0.2 }\nsim_fault_after = 400");
        assert_same_in_each_way(&judged, &lines);
        torn += judged[0].of(Verdict::Torn);
    }
    assert!(torn > 0, "writes after the snapshot are not judged");
}

#[test]
fn an_audit_of_blocks_shorter_than_a_logical_block_ends_where_some_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let (state, drive) =
        (folder.path().join("torn.state"), folder.path().join("drive").display().to_string());
    let text = |rw: &str, more: &str| {
        format!(
            "[[job]]\nioengine = \"sim\"\nfilename = \"{drive}\"\nrw = \"{rw}\"\nbs = \"16k\"\nsize = \"256k\"\nsim_lba = \"4k\"\n\
             verify = \"crc32c\"\nverify_interval = 512\ncontinue_on_error = \"read\"\n{more}\n"
        )
    };
    run(&text("write", "do_verify = false\nsim_faults = { read_error = 0.2 }\nsim_seed = 3"), &state, &[]);
    let audited = run(&text("read", ""), &state, &[]);
    let unreadable = audited.of(Verdict::Unreadable);
    assert!(unreadable > 0 && unreadable.is_multiple_of(32), "{audited:#?}");
    assert_eq!(
        (audited.promised, audited.checked, audited.violations()),
        (512, 512, unreadable),
        "{audited:#?}"
    );
    assert_eq!(audited.of(Verdict::Ok), 512 - unreadable, "{audited:#?}");
    sim::forget(&drive);
}
