//! Coverage: what was promised, demanded, checked and not checked adds up in every case, and a result in
//! which nothing was demanded is not a success.

mod common;

use common::{Done, Lab, at, jobs, number};
use rustix::process::Signal;
use serde_json::Value;

/// The verify results of a run, which add up.
#[track_caller]
fn results(done: &Done) -> Vec<Value> {
    let json = done.json();
    let results: Vec<Value> = jobs(&json).iter().filter_map(|job| job.get("verify")).cloned().collect();
    for verify in &results {
        let sum = |pointer: &str| -> u64 {
            let counts = at(verify, pointer).as_object().expect("counts by name");
            counts.values().map(|count| count.as_u64().expect("a count")).sum()
        };
        let promised = number(verify, "/promised");
        let (checked, not_checked) = (number(verify, "/checked"), number(verify, "/not_checked"));
        assert_eq!(promised, checked + not_checked, "{verify:#}");
        assert_eq!(promised, sum("/verdicts"), "{verify:#}");
        assert_eq!(not_checked, sum("/not_checked_why"), "{verify:#}");
        assert!(number(verify, "/demanded") <= checked, "{verify:#}");
    }
    results
}

fn total(results: &[Value], pointer: &str) -> u64 {
    results.iter().map(|verify| number(verify, pointer)).sum()
}

/// Why the result is inconclusive, as JSON says it.
fn why(verify: &Value) -> String {
    at(verify, "/inconclusive_why").to_string()
}

const UNFLUSHED: &str = r#"
[[job]]
name = "w"
filename = "data"
size = "1m"
bs = "4k"
rw = "randwrite"
verify = "crc32c"
do_verify = false
"#;

#[test]
fn a_result_in_which_nothing_was_demanded_is_inconclusive_and_says_why() {
    let lab = Lab::new();
    lab.file("w.toml", UNFLUSHED);
    lab.run(&["w.toml"]).expect(0);
    lab.marked("data", 1 << 20);
    let judge = ["w.toml", "--verify_state_load"];
    let text = lab.run(&judge).expect(5);
    let last = text.stdout.trim_end().lines().rev().take(2).collect::<Vec<_>>().join("\n");
    assert!(last.contains("inconclusive: w.0: nothing was demanded: no flush"), "{last}");
    let results = results(&lab.run(&[&judge[..], &["--output-format=json"]].concat()).expect(5));
    assert_eq!((number(&results[0], "/demanded"), number(&results[0], "/checked")), (0, 256));
    assert!(why(&results[0]).contains("fsync = N"), "{:#}", results[0]);
    // The same blocks under a policy that demands them are lost.
    lab.run(&[&judge[..], &["--verify_policy=completed"]].concat()).expect(1);
}

#[test]
fn one_flush_is_enough_to_demand_something() {
    let lab = Lab::new();
    lab.file("w.toml", format!("{UNFLUSHED}end_fsync = true\n"));
    lab.run(&["w.toml"]).expect(0);
    let done = lab.run(&["w.toml", "--verify_state_load", "--output-format=json"]).expect(0);
    assert_eq!(number(&results(&done)[0], "/demanded"), 256);
}

#[test]
fn the_exit_code_does_not_depend_on_group_reporting() {
    let lab = Lab::new();
    let flushed = UNFLUSHED.replace("\"w\"", "\"flushed\"").replace("\"data\"", "\"other\"");
    lab.file("two.toml", format!("{flushed}end_fsync = true\n{UNFLUSHED}"));
    lab.run(&["two.toml"]).expect(0);
    let mut sums = Vec::new();
    for grouped in ["--group_reporting=0", "--group_reporting=1"] {
        let judge = ["two.toml", "--verify_state_load", "--output-format=json", grouped];
        let done = lab.run(&judge).expect(5);
        let results = results(&done);
        let whys: String = results.iter().map(why).collect();
        assert!(whys.contains("w.0: nothing was demanded") && !whys.contains("flushed.0"), "{whys}");
        sums.push(["/promised", "/demanded", "/checked", "/not_checked"].map(|one| total(&results, one)));
    }
    assert_eq!(sums, [[512, 256, 512, 0]; 2]);
}

#[test]
fn a_method_that_compares_nothing_passes_nothing() {
    let lab = Lab::new();
    let job = ["--name=n", "--filename=data", "--size=64k", "--rw=write", "--verify=null"];
    let done = lab.run(&[&job[..], &["--output-format=json"]].concat()).expect(5);
    assert!(why(&results(&done)[0]).contains("compares nothing"));
}

const SIM: [&str; 8] = [
    "--name=s",
    "--ioengine=sim",
    "--filename=drive",
    "--size=256k",
    "--bs=4k",
    "--rw=write",
    "--verify=crc32c",
    "--output-format=json",
];

#[test]
fn a_block_that_cannot_be_read_is_a_violation_only_where_something_was_demanded() {
    let lab = Lab::new();
    let run = |more: &[&str], code: i32| {
        let done = lab.run(&[&SIM[..], more].concat()).expect(code);
        results(&done).remove(0)
    };
    let demanded = run(&["--sim_faults={ read_error = 1.0 }"], 1);
    assert_eq!(number(&demanded, "/verdicts/unreadable"), 64, "{demanded:#}");
    // With a cache that was never flushed nothing is demanded.
    let faults = "--sim_faults={ read_error = 1.0 }";
    let unflushed = run(&[faults, "--verify_policy=fsynced"], 5);
    assert_eq!(number(&unflushed, "/violations"), 0, "{unflushed:#}");
    assert_eq!(number(&unflushed, "/not_checked"), 64);
    assert!(at(&unflushed, "/not_checked_why").to_string().contains("nothing was demanded"), "{unflushed:#}");
}

#[test]
fn a_second_power_loss_while_judging_is_an_error_of_the_environment() {
    let lab = Lab::new();
    let job = |name: &str, offset: u64, seed: u64| {
        format!(
            "[[job]]\nname = \"{name}\"\nrw = \"randwrite\"\nbsrange = \"16384-131072\"\nsize = 1060864\niodepth = 16\n\
             numjobs = 2\noffset_increment = 1060864\nverify = \"crc32c\"\nverify_interval = 4096\n\
             verify_backlog = 1\nend_fsync = true\nfilename = \"drive\"\nioengine = \"sim\"\n\
             sim_seed = {seed}\nsim_atomic_unit = 512\nsim_cut_after = 59\nsim_faults = {{ short = 0.1 }}\n\
             offset = {offset}\nverify_state_save = false\n"
        )
    };
    // When the second cut comes depends on how the workers take turns.
    let mut codes = Vec::new();
    for seed in 765_224_610..765_224_630 {
        lab.file("two.toml", format!("{}{}", job("a", 0, seed), job("b", 2_187_264, seed)));
        let done = lab.run(&["two.toml", "--output-format=json"]);
        assert_eq!(total(&results(&done), "/violations"), 0, "{seed}");
        codes.push(done.code);
    }
    assert!(codes.contains(&Some(4)) && !codes.contains(&Some(1)), "{codes:?}");
}

#[test]
fn coverage_adds_up_when_judging_is_interrupted() {
    let lab = Lab::new();
    // A thread of `verify_async` shows that judging has begun. Where the signal came too late, once more.
    let job = ["--size=16m", "--bs=256k", "--verify_interval=4k", "--sim_latency=100ms", "--verify_async=1"];
    let is_interrupted = (0..20).any(|_| {
        let mut running = lab.spawn(&[&SIM[..], &job[..], &["--iodepth=4"]].concat());
        let _ = running.wait_for_thread("verify-0");
        running.signal(Signal::INT);
        let done = running.end().expect(130);
        let verify = results(&done).remove(0);
        assert_eq!(number(&verify, "/promised"), 4096, "{verify:#}");
        number(&verify, "/checked") < 4096
    });
    assert!(is_interrupted, "no signal came while blocks were judged");
}

#[test]
fn coverage_adds_up_after_the_first_violation_ends_the_job() {
    let lab = Lab::new();
    for backlog in ["--verify_backlog=0", "--verify_backlog=4"] {
        let more = ["--sim_faults={ bit_flip = 0.2 }", "--verify_fatal", "--sim_seed=3", backlog];
        let done = lab.run(&[&SIM[..], &more[..]].concat()).expect(1);
        let verify = results(&done).remove(0);
        assert!(number(&verify, "/violations") > 0 && number(&verify, "/promised") > 0, "{verify:#}");
    }
}

#[test]
fn what_is_judged_on_the_way_is_counted_once() {
    let lab = Lab::new();
    for more in [&["--do_verify=0"][..], &[], &["--verify_state_save=0", "--iodepth=8"]] {
        let faults = ["--sim_faults={ bit_flip = 0.2 }", "--sim_seed=3", "--verify_backlog=4"];
        let done = lab.run(&[&SIM[..], &faults[..], more].concat()).expect(1);
        let verify = results(&done).remove(0);
        assert_eq!(number(&verify, "/promised"), 64, "{verify:#}");
        assert!(number(&verify, "/checked_early") > 0, "{verify:#}");
    }
}

/// Writes all but `holes` of a region of 64 blocks of 4 KiB in a file, and audits it with two workers.
fn audited(holes: &[usize], filling: u8, more: &[&str], code: i32) -> Vec<Value> {
    let lab = Lab::new();
    let job = ["--name=w", "--filename=data", "--size=256k", "--bs=64k", "--verify=crc32c"];
    lab.run(&[&job[..], &["--rw=write", "--do_verify=0"]].concat()).expect(0);
    let mut bytes = lab.bytes("data");
    for &hole in holes {
        bytes[hole * 4096..(hole + 1) * 4096].fill(filling);
    }
    lab.file("data", bytes);
    let halves =
        ["--size=128k", "--numjobs=2", "--offset_increment=128k", "--rw=read", "--output-format=json"];
    results(&lab.run(&[&job[..], &halves[..], more].concat()).expect(code))
}

const ALLOW: &str = "--verify_unwritten=allow";

#[test]
fn an_audit_demands_its_whole_region() {
    assert_eq!(total(&audited(&[], 0, &[], 0), "/demanded"), 64);
    let zeroed = audited(&[37], 0, &[], 1);
    assert_eq!((total(&zeroed, "/verdicts/blank"), total(&zeroed, "/promised")), (1, 64));
    let example = at(&zeroed[1], "/examples/0");
    assert_eq!((number(example, "/offset"), at(example, "/stands")), (37 * 4096, &"zeros".into()));
    assert!(at(example, "/promise").to_string().contains("verify_unwritten"), "{example:#}");
    assert_eq!(total(&audited(&[0, 1, 2, 63], 0xff, &[], 1), "/verdicts/blank"), 4);
    assert_eq!(total(&audited(&[5], 0x5a, &[], 1), "/verdicts/corrupt"), 1);
}

#[test]
fn unwritten_blocks_can_be_allowed_and_then_demand_nothing() {
    let allowed = audited(&[37], 0, &[ALLOW], 0);
    assert_eq!((total(&allowed, "/verdicts/unwritten"), total(&allowed, "/demanded")), (1, 63));
}

#[test]
fn the_region_of_an_audit_is_the_jobs() {
    let second: Vec<usize> = (32..64).collect();
    // All of the second worker's part is unwritten, and the first worker's is not.
    for grouped in ["--group_reporting=0", "--group_reporting=1"] {
        let results = audited(&second, 0, &[grouped], 1);
        assert_eq!((total(&results, "/verdicts/blank"), total(&results, "/demanded")), (32, 64));
        let allowed = audited(&second, 0, &[grouped, ALLOW], 5);
        let whys: String = allowed.iter().map(why).collect();
        assert!(whys.contains("w.1: nothing was demanded") && !whys.contains("w.0"), "{whys}");
    }
}

#[test]
fn an_audit_of_a_region_that_nobody_wrote_is_inconclusive() {
    let all: Vec<usize> = (0..64).collect();
    for (filling, more) in [(0, &[][..]), (0xff, &[]), (0x5a, &[]), (0, &[ALLOW])] {
        let nothing = audited(&all, filling, more, 5);
        assert_eq!((total(&nothing, "/verdicts/unwritten"), total(&nothing, "/demanded")), (64, 0));
        assert!(why(&nothing[0]).contains("no block of the region was written"), "{nothing:#?}");
    }
}

#[test]
fn every_range_of_unwritten_blocks_is_a_line_of_the_verdicts() {
    let lab = Lab::new();
    let job = ["--name=w", "--filename=data", "--size=256k", "--bs=4k", "--verify=crc32c"];
    lab.run(&[&job[..], &["--rw=write", "--do_verify=0"]].concat()).expect(0);
    let mut bytes = lab.bytes("data");
    bytes[8192..16384].fill(0);
    bytes[40960..45056].fill(0xff);
    lab.file("data", bytes);
    // In any order of reading.
    lab.run(&[&job[..], &["--rw=randread", "--verdicts=found"]].concat()).expect(1);
    let lines = String::from_utf8(lab.bytes("found")).expect("lines of JSON");
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let offsets: Vec<u64> = lines.iter().map(|line| number(line, "/offset")).collect();
    assert_eq!(offsets, [8192, 40960]);
    assert!(lines[0].to_string().contains("all 2 blocks"), "{}", lines[0]);
}

#[test]
fn an_audit_by_a_pattern_treats_what_was_never_written_alike() {
    let lab = Lab::new();
    let job = ["--name=w", "--filename=data", "--bs=4k", "--verify=pattern", "--verify_pattern=0xab"];
    lab.run(&[&job[..], &["--rw=write", "--size=32k", "--do_verify=0"]].concat()).expect(0);
    let mut bytes = lab.bytes("data");
    bytes.resize(64 << 10, 0);
    lab.file("data", bytes);
    let audit = |more: &[&str], code| {
        let read = ["--rw=read", "--output-format=json"];
        results(&lab.run(&[&job[..], &read[..], more].concat()).expect(code)).remove(0)
    };
    assert_eq!(number(&audit(&["--size=64k"], 1), "/verdicts/blank"), 8);
    assert_eq!(number(&audit(&["--size=64k", ALLOW], 0), "/verdicts/unwritten"), 8);
    assert_eq!(number(&audit(&["--size=32k", "--offset=32k"], 5), "/verdicts/unwritten"), 8);
    assert_eq!(number(&audit(&["--size=32k", "--offset=32k", "--verify_pattern=0"], 0), "/verdicts/ok"), 8);
}

#[test]
fn the_start_says_that_nothing_will_be_promised_and_only_then() {
    let lab = Lab::new();
    let says = |more: &[&str], expected: bool| {
        let job = ["--name=w", "--filename=data", "--size=64k", "--rw=write", "--verify=crc32c"];
        let done = lab.run(&[&job[..], more].concat());
        assert_eq!(done.stderr.contains("nothing is promised"), expected, "{more:?}: {done:#?}");
    };
    says(&[], false);
    says(&["--do_verify=0"], true);
    says(&["--do_verify=0", "--end_fsync=1"], false);
    says(&["--do_verify=0", "--fsync=4"], false);
    says(&["--do_verify=0", "--sync=dsync"], false);
    says(&["--do_verify=0", "--verify_policy=completed"], false);
    says(&["--verify_policy=fsynced"], true);
    // The trigger fires before the flush at the end.
    says(&["--trigger_ios=4", "--end_fsync=1"], true);
    says(&["--ioengine=sim", "--sim_cache=0", "--do_verify=0"], false);
}
