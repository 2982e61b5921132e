//! One run for all workers, and stages that write over each other: what each block was promised by the last
//! that wrote it, and what is said where that is not known.

mod common;

use common::{Done, Lab, at, number};
use fio_spdk::base::verify::Method;
use fio_spdk::verify::block::{BlockFormat, Sealer, WriteFacts};
use fio_spdk::verify::failures::Failures;
use fio_spdk::verify::snapshot::Snapshot;
use rustix::process::Signal;
use serde_json::Value;

const BLOCK: usize = 4096;

/// A job file: what all jobs say, and each job by name and lines; each job after the first is a stage.
fn jobs(lab: &Lab, global: &str, jobs: &[(&str, &str)]) {
    let mut text = format!("[global]\nfilename = \"img\"\nbs = \"4k\"\n{global}\n");
    if !global.contains("rw = ") {
        text += "rw = \"write\"\n";
    }
    for (number, (name, lines)) in jobs.iter().enumerate() {
        let stage = if number > 0 { "stonewall = true\n" } else { "" };
        text += &format!("[[job]]\nname = \"{name}\"\n{stage}{lines}\n");
    }
    lab.file("j.toml", text);
}

fn run(lab: &Lab, more: &[&str]) -> Done {
    lab.run(&[&["j.toml", "--output-format=json"], more].concat())
}

/// Spoils one byte.
fn spoil(lab: &Lab, offset: usize) {
    let mut bytes = lab.bytes("img");
    bytes[offset] ^= 0x40;
    lab.file("img", bytes);
}

/// Blocks promised to each job, by name; none where a job is not judged.
fn promised(json: &Value) -> Vec<(String, Option<u64>)> {
    let of = |job: &Value| {
        let name = job["jobname"].as_str().expect("a name").to_owned();
        (name, job.pointer("/verify/promised").and_then(Value::as_u64))
    };
    common::jobs(json).iter().map(of).collect()
}

fn notes(json: &Value) -> String {
    at(json, "/fio-spdk/notes").to_string()
}

const VERIFY: &str = "verify = \"crc32c\"\nverify_policy = \"completed\"";

#[test]
fn what_one_worker_wrote_may_not_be_lost_as_a_whole() {
    for engine in common::FILE_ENGINES {
        // Overwritten at random, and so sparsely that few places hold anything.
        for more in [
            "rw = \"randwrite\"",
            "rw = \"randwrite\"\nio_size = \"64k\"",
            "norandommap = true\nrw = \"randwrite\"",
        ] {
            let lab = Lab::new();
            let global = format!("{VERIFY}\nsize = \"1m\"\nnumjobs = 2\noffset_increment = \"1m\"\n{more}");
            jobs(&lab, &global, &[("a", "")]);
            lab.file("img", vec![0; 2 << 20]);
            run(&lab, &[engine]).expect(0);
            let old = lab.bytes("img");
            run(&lab, &[engine]).expect(0);
            run(&lab, &[engine, "--verify_only"]).expect(0);
            // All that the second worker wrote in the newest run is lost.
            let mut now = lab.bytes("img");
            now[1 << 20..].copy_from_slice(&old[1 << 20..]);
            lab.file("img", now);
            let json = run(&lab, &[engine, "--verify_only"]).expect(1).json();
            let stale = |job: usize| number(&json, &format!("/jobs/{job}/verify/verdicts/stale_run"));
            assert_eq!(stale(0), 0);
            assert_eq!(stale(1), number(&json, "/jobs/1/verify/promised"), "{engine} {more}");
            assert!(notes(&json).contains("the newest of 2"), "{}", notes(&json));
        }
    }
}

#[test]
fn the_run_is_one_for_all_stages() {
    let lab = Lab::new();
    jobs(&lab, VERIFY, &[("a", "size = \"1m\""), ("b", "size = \"1m\"\noffset = \"1m\"")]);
    lab.file("img", vec![0; 2 << 20]);
    run(&lab, &[]).expect(0);
    let old = lab.bytes("img");
    run(&lab, &[]).expect(0);
    run(&lab, &["--verify_only"]).expect(0);
    // The first stage's half is the one of the run before.
    let mut now = lab.bytes("img");
    now[..1 << 20].copy_from_slice(&old[..1 << 20]);
    lab.file("img", now);
    let json = run(&lab, &["--verify_only"]).expect(1).json();
    assert_eq!(number(&json, "/jobs/0/verify/verdicts/stale_run"), 256);
    assert_eq!(number(&json, "/jobs/1/verify/verdicts/ok"), 256);
}

#[test]
fn where_no_run_is_found_that_is_said() {
    let lab = Lab::new();
    jobs(&lab, VERIFY, &[("a", "size = \"1m\"")]);
    lab.file("img", vec![0; 1 << 20]);
    let json = run(&lab, &["--verify_only"]).expect(1).json();
    assert_eq!(number(&json, "/jobs/0/verify/verdicts/blank"), 256);
    assert!(notes(&json).contains("which run is judged is not known"), "{}", notes(&json));
}

#[test]
fn a_run_that_no_sample_shows_is_still_one_for_all_workers() {
    let lab = Lab::new();
    // Where all is spoilt but one block of each worker, samples show nothing.
    let global = format!("{VERIFY}\nsize = \"4m\"\nnumjobs = 2\noffset_increment = \"4m\"");
    jobs(&lab, &global, &[("a", "")]);
    lab.file("img", vec![0; 8 << 20]);
    run(&lab, &[]).expect(0);
    let old = lab.bytes("img");
    run(&lab, &[]).expect(0);
    let mut now = lab.bytes("img");
    let keep = |worker: usize| worker * (4 << 20) + 1001 * BLOCK..worker * (4 << 20) + 1002 * BLOCK;
    let kept = [now[keep(0)].to_vec(), old[keep(1)].to_vec()];
    now.fill(0);
    for (worker, block) in kept.iter().enumerate() {
        now[keep(worker)].copy_from_slice(block);
    }
    lab.file("img", now);
    let json = run(&lab, &["--verify_only"]).expect(1).json();
    let sum = |verdict: &str| -> u64 {
        (0..2).map(|job| number(&json, &format!("/jobs/{job}/verify/verdicts/{verdict}"))).sum()
    };
    // Each worker by itself would take what it finds for the run.
    assert_eq!((sum("ok"), sum("stale_run"), sum("blank")), (1, 1, 2046));
}

#[test]
fn a_later_stage_takes_away_the_promises_of_what_it_wrote_and_no_others() {
    for how in ["--verify_state_load", "--verify_only"] {
        let lab = Lab::new();
        jobs(&lab, VERIFY, &[("a", "size = \"1m\""), ("b", "size = \"4k\"\noffset = \"64k\"")]);
        lab.file("img", vec![0; 1 << 20]);
        run(&lab, &[]).expect(0);
        let json = run(&lab, &[how]).expect(0).json();
        let of = |name: &str, blocks| (name.to_owned(), Some(blocks));
        assert_eq!(promised(&json), [of("a", 255), of("b", 1)], "{how}");
        for (offset, at_fault) in [(500_000, 0), (65_536 + 600, 1)] {
            spoil(&lab, offset);
            let json = run(&lab, &[how]).expect(1).json();
            let corrupt = |job: usize| {
                let counts = at(&json, &format!("/jobs/{job}/verify/verdicts"));
                number(counts, "/corrupt") + number(counts, "/torn")
            };
            assert_eq!((corrupt(at_fault), corrupt(1 - at_fault)), (1, 0), "{how} {offset}");
            spoil(&lab, offset);
        }
    }
}

#[test]
fn a_job_whose_blocks_were_all_written_again_has_no_result_of_its_own() {
    for how in ["--verify_state_load", "--verify_only"] {
        let lab = Lab::new();
        jobs(&lab, &format!("{VERIFY}\nsize = \"256k\""), &[("a", ""), ("b", "rw = \"randwrite\"")]);
        run(&lab, &[]).expect(0);
        let json = run(&lab, &[how]).expect(0).json();
        assert_eq!(promised(&json), [("a".to_owned(), None), ("b".to_owned(), Some(64))], "{how}");
        spoil(&lab, 100_000);
        run(&lab, &[how]).expect(1);
    }
}

#[test]
fn stages_may_cut_blocks_in_other_ways() {
    for (first, second, left) in [
        ("bs = \"4k\"", "bs = 512\nsize = 512\noffset = 66048", 255),
        ("bs = 512\nverify_interval = 512", "bs = \"4k\"\nsize = \"4k\"\noffset = \"64k\"", 2040),
    ] {
        for how in ["--verify_state_load", "--verify_only"] {
            let lab = Lab::new();
            let first = format!("{first}\nsize = \"1m\"");
            jobs(&lab, VERIFY, &[("a", first.as_str()), ("b", second)]);
            run(&lab, &[]).expect(0);
            let json = run(&lab, &[how]).expect(0).json();
            assert_eq!(promised(&json)[0], ("a".to_owned(), Some(left)), "{how} {second}");
        }
    }
}

#[test]
fn what_a_stage_may_have_written_without_verifying_is_not_promised() {
    let lab = Lab::new();
    let writer = ("b", "verify = \"none\"\nsize = \"256k\"\noffset = \"512k\"\nrw = \"randwrite\"");
    jobs(&lab, VERIFY, &[("a", "size = \"1m\""), writer]);
    lab.file("img", vec![0; 1 << 20]);
    run(&lab, &[]).expect(0);
    // b's part is left out, and that is said; the rest is judged.
    let json = run(&lab, &["--verify_state_load"]).expect(0).json();
    assert_eq!(promised(&json), [("a".to_owned(), Some(192))]);
    assert!(notes(&json).contains("nothing is promised in bytes 524288 to 786432"), "{}", notes(&json));
    let shown = lab.run(&["state", "show", "j.state"]).expect(0);
    assert!(shown.stdout.contains("stage 2 wrote to bytes 524288 to 786432"), "{}", shown.stdout);
    spoil(&lab, 800_000);
    run(&lab, &["--verify_state_load"]).expect(1);
}

#[test]
fn where_nothing_is_promised_any_more_the_result_is_inconclusive() {
    let lab = Lab::new();
    jobs(&lab, VERIFY, &[("a", "size = \"1m\""), ("b", "verify = \"none\"\nsize = \"1m\"")]);
    run(&lab, &[]).expect(0);
    let json = run(&lab, &["--verify_state_load"]).expect(5).json();
    assert_eq!(promised(&json), [("a".to_owned(), Some(0))]);
    // Also by the job alone, which knows nothing of the other.
    lab.file(
        "h.toml",
        std::fs::read_to_string(lab.path("j.toml"))
            .expect("jobs")
            .split("[[job]]\nname = \"b\"")
            .next()
            .expect("a"),
    );
    lab.run(&["h.toml", "--verify_state_load", "--state_dir=."]).expect(2);
    lab.file("h.state", lab.bytes("j.state"));
    lab.run(&["h.toml", "--verify_state_load"]).expect(5);
}

#[test]
fn the_snapshot_is_renewed_before_a_later_stage_writes() {
    for verify in ["verify = \"none\"", ""] {
        let lab = Lab::new();
        let endless =
            format!("{verify}\nsize = \"1m\"\nrw = \"randwrite\"\ntime_based = true\nruntime = \"100s\"");
        jobs(&lab, VERIFY, &[("a", "size = \"1m\""), ("b", &endless)]);
        let mut running = lab.spawn(&["j.toml"]);
        running.wait_for_worker("b.0");
        running.signal(Signal::KILL);
        running.end();
        let verifies = verify.is_empty();
        // Each block holds what either stage wrote.
        let json = run(&lab, &["--verify_state_load"]).expect(if verifies { 0 } else { 5 }).json();
        assert_eq!(promised(&json)[0], ("a".to_owned(), Some(if verifies { 256 } else { 0 })));
        if verifies {
            // And nothing else: a's promise is not void because b may have written.
            let mut bytes = lab.bytes("img");
            bytes[40 * BLOCK..41 * BLOCK].fill(0);
            lab.file("img", bytes);
            let json = run(&lab, &["--verify_state_load"]).expect(1).json();
            assert_eq!(number(&json, "/jobs/0/verify/verdicts/blank"), 1);
        }
    }
}

#[test]
fn a_run_does_not_go_on_where_a_later_stage_has_written() {
    let lab = Lab::new();
    jobs(&lab, VERIFY, &[("a", "size = \"1m\""), ("b", "size = \"64k\"")]);
    run(&lab, &[]).expect(0);
    run(&lab, &["--verify_state_continue"]).expect(2).says("a later stage had written over its region");
}

#[test]
fn an_earlier_version_of_the_snapshot_is_refused() {
    let lab = Lab::new();
    jobs(&lab, VERIFY, &[("a", "size = \"64k\"")]);
    run(&lab, &[]).expect(0);
    let mut bytes = lab.bytes("j.state");
    bytes[18] = b'1';
    lab.file("j.state", bytes);
    run(&lab, &["--verify_state_load"]).expect(2).says("of version 1").says("reads version 2");
}

#[test]
fn a_snapshot_has_every_failed_write_and_no_other_however_many_there_are() {
    let lab = Lab::new();
    let lines = "ioengine = \"sim\"\nrw = \"randwrite\"\nsize = \"16m\"\nsim_faults = { write_error = 0.25 }\n\
                 continue_on_error = \"write\"\nstate_dir = \".\"\nfsync = 1000\ndo_verify = false\niodepth = 8";
    jobs(&lab, VERIFY, &[("a", lines)]);
    let json = run(&lab, &[]).expect(4).json();
    let errors = number(&json, "/jobs/0/total_err");
    let snapshot = Snapshot::decode(&lab.bytes("j.state")).expect("a snapshot");
    let failed = &snapshot.jobs[0].workers[0].promises.writes.failed;
    assert!(failed.run_count() > 400, "{} runs", failed.run_count());
    assert_eq!((failed.count(), failed.coarse()), (errors, None));
}

#[test]
fn where_the_snapshot_is_coarse_blocks_that_depend_on_it_are_not_checked() {
    let lab = Lab::new();
    jobs(&lab, VERIFY, &[("a", "size = \"1m\"\nloops = 2")]);
    run(&lab, &[]).expect(0);
    let mut snapshot = Snapshot::decode(&lab.bytes("j.state")).expect("a snapshot");
    let writes = &mut snapshot.jobs[0].workers[0].promises.writes;
    // As if any of the last 100 writes might have failed.
    writes.failed = Failures::from_runs(&[], Some((412, 511))).expect("a range");
    lab.file("j.state", snapshot.encode());
    let counts = |code: i32| {
        let json = run(&lab, &["--verify_state_load"]).expect(code).json();
        let verdict = |name: &str| number(&json, &format!("/jobs/0/verify/verdicts/{name}"));
        (verdict("ok"), verdict("not_checked"), verdict("corrupt") + verdict("torn"))
    };
    // What is there is the newest write, whether that is known to have completed or not.
    assert_eq!(counts(0), (256, 0, 0));
    // The one before may be there or not: nobody can tell.
    let old = earlier_block(&snapshot, 200);
    let mut bytes = lab.bytes("img");
    let newest = bytes[200 * BLOCK..201 * BLOCK].to_vec();
    bytes[200 * BLOCK..201 * BLOCK].copy_from_slice(&old);
    lab.file("img", &bytes);
    assert_eq!(counts(5), (255, 1, 0));
    // What no write has left is a violation still.
    bytes[200 * BLOCK..201 * BLOCK].copy_from_slice(&newest);
    bytes[200 * BLOCK + 700] ^= 1;
    lab.file("img", &bytes);
    assert_eq!(counts(1), (255, 0, 1));
    // And where it is known that the newest completed, the one before is not enough.
    bytes[200 * BLOCK..201 * BLOCK].copy_from_slice(&old);
    lab.file("img", &bytes);
    snapshot.jobs[0].workers[0].promises.writes.failed = Failures::default();
    lab.file("j.state", snapshot.encode());
    let json = run(&lab, &["--verify_state_load"]).expect(1).json();
    assert_eq!(number(&json, "/jobs/0/verify/verdicts/lost"), 1);
}

#[test]
fn where_a_later_write_may_be_lost_either_may_be_there_and_nothing_else() {
    for same in [true, false] {
        let lab = Lab::new();
        let interval = if same { "" } else { "verify_interval = 512\n" };
        let second = format!("{interval}size = \"64k\"\noffset = \"64k\"");
        jobs(&lab, VERIFY, &[("a", "size = \"1m\""), ("b", &second)]);
        run(&lab, &[]).expect(0);
        let mut snapshot = Snapshot::decode(&lab.bytes("j.state")).expect("a snapshot");
        // As if all that the second job wrote had failed.
        let writes = &mut snapshot.jobs[1].workers[0].promises.writes;
        writes.failed = Failures::from_runs(&[(0, writes.issued - 1)], None).expect("a run");
        lab.file("j.state", snapshot.encode());
        let of_first =
            |json: &Value, verdict: &str| number(json, &format!("/jobs/0/verify/verdicts/{verdict}"));
        // Of the second job alone nothing is demanded, so the whole is inconclusive, and no violation.
        let json = run(&lab, &["--verify_state_load"]).expect(5).json();
        let told = if same { "in_flight" } else { "not_checked" };
        assert_eq!((of_first(&json, "ok"), of_first(&json, told)), (240, 16), "{json:#}");
        // One is still the first job's, and one is neither's.
        let mut bytes = lab.bytes("img");
        bytes[17 * BLOCK..18 * BLOCK].copy_from_slice(&earlier_block(&snapshot, 17));
        bytes[18 * BLOCK..19 * BLOCK].fill(0);
        lab.file("img", bytes);
        let code = if same { 1 } else { 5 };
        let json = run(&lab, &["--verify_state_load"]).expect(code).json();
        assert_eq!((of_first(&json, "ok"), of_first(&json, "blank")), (241, u64::from(same)), "{json:#}");
    }
}

/// What the first pass of the job left in a block.
fn earlier_block(snapshot: &Snapshot, number: u64) -> Vec<u8> {
    let format = BlockFormat { interval: 4096, method: Method::Crc32c, header_at: 0, pattern: None };
    let job = &snapshot.jobs[0];
    let sealer = Sealer::new(format, snapshot.run, job.workers[0].number);
    let facts = WriteFacts {
        io_offset: number * 4096,
        io_len: 4096,
        sequence: number,
        time_unix_ns: snapshot.taken_unix_ns,
        pass: 0,
        flush_epoch: 0,
    };
    let mut block = vec![0; BLOCK];
    sealer.seal(&mut block, job.targets[0].identity, &facts);
    block
}
