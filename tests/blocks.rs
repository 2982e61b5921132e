//! What became of the blocks of jobs that trim (`block_error_percentiles`), through the program.

mod common;

use std::collections::BTreeSet;

use common::{Done, Lab, jobs, number};
use serde_json::{Value, json};

/// A simulated drive of which 64 KiB, 16 blocks of 4 KiB, are trimmed and written.
fn run(more: &[&str]) -> Done {
    let job = [
        "--name=t",
        "--ioengine=sim",
        "--filename=d",
        "--size=64k",
        "--bs=4k",
        "--rw=trimwrite",
        "--loops=8",
        "--continue_on_error=write",
        "--block_error_percentiles=1",
        "--output-format=normal,json",
    ];
    Lab::new().run(&[&job[..], more].concat())
}

/// The JSON behind the text.
fn json_of(done: &Done) -> Value {
    let from = done.stdout.find("\n{").expect("JSON behind the text");
    serde_json::from_str(&done.stdout[from..]).expect("JSON")
}

fn block(json: &Value) -> &Value {
    &jobs(json)[0]["block"]
}

/// fio's states: never trimmed, trimmed, trim failed, write failed.
fn states(json: &Value) -> [u64; 4] {
    let of =
        |state: &str| block(json)["states"][state].as_u64().unwrap_or_else(|| panic!("{state}: {json:#}"));
    ["unwritten", "trimmed", "trim failure", "write failure"].map(of)
}

#[test]
fn blocks_that_never_fail_are_trimmed_once_a_loop() {
    let done = run(&[]).expect(0);
    let json = json_of(&done);
    assert_eq!(states(&json), [0, 16, 0, 0]);
    let percentiles = block(&json)["percentiles"].as_object().expect("percentiles");
    assert_eq!(percentiles.len(), 17);
    assert!(percentiles.values().all(|trims| *trims == 8), "{percentiles:?}");
    assert_eq!(block(&json)["states"]["written"], 0);
    assert!(done.stdout.contains("blocks: 16 trimmed, 0 trim failures, 0 write failures"), "{}", done.stdout);
}

#[test]
fn blocks_whose_first_write_fails_were_trimmed_once_before() {
    let done = run(&["--sim_faults={ write_error = 1 }", "--percentile_list=50:100"]).expect(4);
    let json = json_of(&done);
    assert_eq!(states(&json), [0, 0, 0, 16]);
    assert_eq!(block(&json)["percentiles"], json!({ "50.000000": 1, "100.000000": 1 }));
    let told = "trims of a block before it failed: 1 at least, 1 in the median, 1 at most";
    assert!(done.stdout.contains(told), "{}", done.stdout);
}

#[test]
fn as_many_blocks_failed_as_there_are_offsets_of_failed_writes() {
    let done = run(&["--sim_faults={ write_error = 0.05 }"]).expect(4);
    let json = json_of(&done);
    let offsets: BTreeSet<&str> = done
        .stderr
        .lines()
        .filter_map(|line| line.split_once("write of 4096 bytes at ")?.1.split(' ').next())
        .collect();
    let [untouched, trimmed, by_trim, by_write] = states(&json);
    assert!((1..16).contains(&by_write), "{json:#}");
    assert_eq!(by_write, offsets.len() as u64, "{}", done.stderr);
    assert_eq!((untouched, trimmed + by_write, by_trim), (0, 16, 0));
    assert!(number(&jobs(&json)[0], "/fio-spdk/failed/write") >= by_write);
}

#[test]
fn blocks_of_all_workers_of_a_group_are_told_together() {
    let more =
        ["--numjobs=3", "--group_reporting=1", "--offset_increment=64k", "--iodepth=4", "--number_ios=10"];
    let json = json_of(&run(&[&more[..], &["--loops=1"]].concat()).expect(0));
    assert_eq!(states(&json), [3 * 6, 3 * 10, 0, 0]);
}

#[test]
fn trims_of_what_was_written_count_too_and_nothing_is_told_unasked() {
    let trims =
        ["--rw=randwrite", "--trim_percentage=50", "--trim_backlog=4", "--loops=1", "--verify=crc32c"];
    let json = json_of(&run(&trims).expect(0));
    let trimmed = number(&jobs(&json)[0], "/trim/total_ios");
    assert!(trimmed > 0);
    assert_eq!(states(&json), [16 - trimmed, trimmed, 0, 0]);
    let done = run(&["--block_error_percentiles=0"]).expect(0);
    assert_eq!(*block(&json_of(&done)), Value::Null);
    assert!(!done.stdout.contains("blocks:"), "{}", done.stdout);
}

#[test]
fn jobs_without_trims_of_one_length_and_too_many_blocks_are_refused() {
    for (more, why) in [
        (&["--rw=randwrite"][..], "this job makes none"),
        (&["--rw=trim", "--bsrange=4k-8k"], "trims of one length"),
        (&["--rw=trim", "--size=1t", "--numjobs=4000"], "4000GiB for block_error_percentiles"),
        (
            &["--rw=trim", "--size=8t"],
            "would watch 2147483648 blocks of 4KiB in one worker, 268435456 at most",
        ),
    ] {
        let done = run(more).expect(2);
        assert!(done.stderr.contains(why), "{more:?}: {}", done.stderr);
        assert!(done.stderr.contains("block_error_percentiles"), "{more:?}: {}", done.stderr);
    }
}
