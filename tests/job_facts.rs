//! When jobs begin and end, beside and after each other, and what is refused before anything starts.

mod common;

use common::{ENGINES, FILE_ENGINES, KIB, Lab, MIB, at, first, jobs, number, with};

// Flushes.

#[test]
fn flushes_come_after_their_number_of_writes() {
    let flushes: [(&[&str], u64); 7] = [
        (&[], 0),
        (&["--fsync=4"], 16),
        (&["--fdatasync=8"], 8),
        (&["--end_fsync"], 1),
        (&["--fsync=16", "--end_fsync"], 5),
        (&["--fsync=100"], 0),
        (&["--rw=read", "--fsync=4", "--end_fsync"], 0),
    ];
    let lab = Lab::new();
    for engine in FILE_ENGINES {
        for (job, count) in flushes {
            let base = ["--filename=data", "--size=256k", "--rw=write", "--iodepth=4", engine];
            let json = lab.json(&with(&base, job));
            assert_eq!(first(&json, "/sync/total_ios"), count, "{engine} {job:?}");
            assert_eq!(first(&json, "/sync/lat_ns/N"), count);
            let moved = first(&json, "/write/total_ios") + first(&json, "/read/total_ios");
            assert_eq!(moved, 64, "flushes are no I/Os of a direction");
        }
    }
}

// Time.

#[test]
fn a_ramp_is_not_counted_and_comes_on_top() {
    let job = ["--ioengine=null", "--size=1t", "--rw=randread", "--time_based"];
    let json = Lab::new().json(&with(&job, &["--ramp_time=700ms", "--runtime=500ms"]));
    let runtime = first(&json, "/read/runtime");
    assert!((490..1100).contains(&runtime), "{runtime} ms");
    let (began, ended) = (number(&json, "/fio-spdk/started_ms"), number(&json, "/timestamp_ms"));
    assert!(ended - began >= 1200, "{} ms in all", ended - began);
    // Ended before the ramp was over: all that was done is not counted.
    for engine in ENGINES {
        let lab = Lab::new();
        let json = lab.json(&["--filename=data", "--size=1m", "--ramp_time=1h", "--iodepth=16", engine]);
        assert_eq!(first(&json, "/read/total_ios"), 0, "{engine}");
        assert_eq!(first(&json, "/read/clat_ns/N"), 0, "{engine}");
        assert_eq!(first(&json, "/read/io_bytes"), 0, "{engine}");
    }
}

#[test]
fn time_based_jobs_begin_again_until_their_time_is_over() {
    for engine in ENGINES {
        let lab = Lab::new();
        let job = ["--filename=data", "--size=64k", "--rw=randrw", "--time_based", "--runtime=400ms"];
        let json = lab.json(&with(&job, &[engine, "--iodepth=4"]));
        let moved = first(&json, "/read/io_bytes") + first(&json, "/write/io_bytes");
        assert!(moved > 10 * 64 * KIB, "{engine}: {moved}");
        let runtime = first(&json, "/job_runtime");
        assert!((395..2000).contains(&runtime), "{engine}: {runtime} ms");
    }
}

#[test]
fn a_job_ends_with_its_amount_or_its_time_whichever_is_first() {
    let lab = Lab::new();
    let json = lab.json(&["--ioengine=null", "--size=1m", "--runtime=1h"]);
    assert_eq!(first(&json, "/read/io_bytes"), MIB);
    let json = lab.json(&["--ioengine=null", "--size=1p", "--runtime=300ms"]);
    let runtime = first(&json, "/read/runtime");
    assert!((295..2000).contains(&runtime), "{runtime} ms");
    lab.run(&["--ioengine=null", "--size=1m", "--time_based"]).expect(2).says("runtime");
}

// Jobs beside and after each other.

const STAGES: &str = "
[global]
filename = \"data\"

[[job]]
name = \"fill\"
rw = \"write\"
size = \"256k\"

[[job]]
name = \"look\"
stonewall = true
rw = \"randread\"
";

#[test]
fn a_stonewall_waits_for_what_came_before() {
    let lab = Lab::new();
    lab.file("stages.toml", STAGES);
    let json = lab.json(&["stages.toml"]);
    // The second has no size: it reads what the first has made.
    assert_eq!(number(&json, "/jobs/1/read/io_bytes"), 256 * KIB);
    assert_eq!((number(&json, "/jobs/0/groupid"), number(&json, "/jobs/1/groupid")), (0, 1));

    let times = "[global]\nioengine='null'\nsize='1t'\nruntime='400ms'\ntime_based=true\n";
    lab.file("times.toml", format!("{times}[[job]]\n[[job]]\n[[job]]\nstonewall=true\n"));
    let json = lab.json(&["times.toml"]);
    let start: Vec<u64> = jobs(&json).iter().map(|job| number(job, "/job_start")).collect();
    assert!(start[1].abs_diff(start[0]) < 350, "{start:?}");
    // Milliseconds are cut off, not rounded.
    assert!(start[2] + 1 >= start[0].max(start[1]) + 400, "{start:?}");
}

#[test]
fn groups_report_as_one() {
    let lab = Lab::new();
    let base = ["--name=j", "--ioengine=null", "--size=1m", "--numjobs=3"];
    let json = lab.json(&base);
    assert_eq!(jobs(&json).len(), 3);
    let json = lab.json(&with(&base, &["--group_reporting"]));
    assert_eq!(jobs(&json).len(), 1);
    assert_eq!(first(&json, "/read/total_ios"), 3 * 256);
    assert_eq!(first(&json, "/fio-spdk/workers"), 3);

    let head = "[global]\nioengine='null'\nsize='1m'\ngroup_reporting=true\nnumjobs=2\n";
    lab.file(
        "g.toml",
        format!("{head}[[job]]\nname='a'\n[[job]]\nname='b'\n[[job]]\nname='c'\nnew_group=true\n"),
    );
    let json = lab.json(&["g.toml"]);
    let seen: Vec<(&str, u64, u64)> = jobs(&json)
        .iter()
        .map(|job| {
            let name = at(job, "/jobname").as_str().unwrap();
            (name, number(job, "/groupid"), number(job, "/read/total_ios"))
        })
        .collect();
    assert_eq!(seen, [("a", 0, 4 * 256), ("c", 1, 2 * 256)]);
}

#[test]
fn create_only_makes_the_files_and_does_nothing() {
    let lab = Lab::new();
    let json = lab.json(&["--name=j", "--size=128k", "--nrfiles=2", "--create_only", "--rw=randread"]);
    assert_eq!(lab.names(), ["j.0.0", "j.0.1"]);
    assert_eq!(lab.bytes("j.0.1").len() as u64, 64 * KIB);
    let done: u64 = jobs(&json).iter().map(|job| number(job, "/read/total_ios")).sum();
    assert_eq!(done, 0);
}

// Refused before anything starts.

#[test]
fn what_cannot_be_done_is_two_and_nothing_is_made() {
    let lab = Lab::new();
    let bs = ["--filename=data", "--size=64k", "--direct=1", "--rw=write", "--bs=1000"];
    for engine in FILE_ENGINES {
        lab.run(&with(&bs, &[engine])).expect(2).says("1000").says("multiple");
    }
    lab.run(&["--filename=new", "--rw=read"]).expect(2).says("size");
    lab.run(&["--filename=new", "--rw=read", "--size=50%"]).expect(2).says("size");
    lab.run(&["--ioengine=null"]).expect(2).says("size");
    for engine in ENGINES {
        let job = ["--filename=new", "--size=1t", "--bs=1g", "--iodepth=4096", "--numjobs=1024", engine];
        lab.run(&with(&job, &["--rw=randread"])).expect(2).says("available").says("iodepth");
    }
    assert!(!lab.path("new").exists());
}

#[test]
fn a_region_that_holds_no_block_is_two_and_nothing_is_made() {
    let lab = Lab::new();
    lab.marked("old", 64 * KIB);
    let jobs: [&[&str]; 7] = [
        &["--filename=new", "--size=64k", "--bs=128k"],
        &["--ioengine=null", "--size=64k", "--bs=128k"],
        &["--filename=old", "--offset=64k"],
        &["--filename=old", "--offset=1m"],
        &["--filename=old", "--offset=100%"],
        &["--name=n", "--nrfiles=64", "--size=64k"],
        &["--filename=new", "--size=64k", "--bsrange=4k-128k", "--norandommap"],
    ];
    for job in jobs {
        for rw in ["--rw=randread", "--rw=randwrite"] {
            lab.run(&with(job, &[rw])).expect(2).says("block");
        }
    }
    assert_eq!(lab.names(), ["old"]);
    assert_eq!(lab.bytes("old").len() as u64, 64 * KIB);
}

#[test]
fn a_blocking_engine_needs_one_buffer_whatever_the_depth() {
    let lab = Lab::new();
    let job = ["--filename=data", "--size=1m", "--rw=write", "--bs=1m", "--iodepth=65536", "--numjobs=64"];
    lab.json(&with(&job, &["--ioengine=psync", "--group_reporting"]));
    lab.run(&with(&job, &["--ioengine=io_uring"])).expect(2).says("available");
}
