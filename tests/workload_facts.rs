//! What a workload does, told by its counts and by the bytes that it leaves: facts that fio's users
//! rely on, several of them from fio's own test jobs.

mod common;

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt;

use common::{KIB, Lab, MARK, MIB, Running, at, first, float, jobs, number};
use serde_json::Value;

const ENGINES: [&str; 3] = ["--ioengine=psync", "--ioengine=io_uring", "--ioengine=null"];
const FILE_ENGINES: [&str; 2] = ["--ioengine=psync", "--ioengine=io_uring"];

fn with<'a>(job: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [job, more].concat()
}

/// Which blocks of a file that was marked have been written.
fn changed(bytes: &[u8], block: u64) -> Vec<bool> {
    bytes.chunks(block as usize).map(|chunk| chunk.iter().any(|&byte| byte != MARK)).collect()
}

fn near(value: f64, expected: f64, tolerance: f64) -> bool {
    (value - expected).abs() <= tolerance
}

// Amounts.

#[test]
fn a_sequential_read_with_holes_skips_them() {
    // 1 MiB read, 512 KiB skipped, over 128 MiB: the last of 85 reads is at 126 MiB.
    let lab = Lab::new();
    let job = ["--ioengine=null", "--size=128m", "--bs=1m"];
    for more in [&["--rw=read:512k"][..], &["--rw=read:512k", "--norandommap"]] {
        assert_eq!(first(&lab.json(&with(&job, more)), "/read/io_kbytes"), 87_040);
    }
    let json = lab.json(&with(&job, &["--rw=read:512k", "--loops=2"]));
    assert_eq!(first(&json, "/read/io_kbytes"), 2 * 87_040);
    let json = lab.json(&with(&job, &["--rw=read:512k", "--io_size=128m"]));
    assert_eq!(first(&json, "/read/io_kbytes"), 131_072, "an amount that is asked for is done");
    let json = lab.json(&with(&job, &["--rw=trimwrite:512k"]));
    assert_eq!(first(&json, "/trim/io_kbytes"), 87_040);
    assert_eq!(first(&json, "/write/io_kbytes"), 87_040);
    let json = lab.json(&with(&job, &["--rw=rw:512k"]));
    assert_eq!(first(&json, "/read/io_kbytes") + first(&json, "/write/io_kbytes"), 131_072);
}

#[test]
fn holes_are_left_alone() {
    let lab = Lab::new();
    lab.marked("data", 64 * KIB);
    lab.json(&["--filename=data", "--size=64k", "--rw=write:4k", "--bs=4k"]);
    let expected: Vec<bool> = (0..16).map(|block| block % 2 == 0).collect();
    assert_eq!(changed(&lab.bytes("data"), 4 * KIB), expected);
}

#[test]
fn every_block_comes_exactly_once() {
    for engine in FILE_ENGINES {
        for rw in ["--rw=write", "--rw=randwrite"] {
            for depth in ["--iodepth=1", "--iodepth=16"] {
                let lab = Lab::new();
                lab.marked("data", MIB);
                let json = lab.json(&["--filename=data", "--size=1m", "--bs=4k", engine, rw, depth]);
                // 256 writes that reach all of 256 blocks reach each once.
                assert_eq!(first(&json, "/write/total_ios"), 256);
                assert_eq!(first(&json, "/write/io_bytes"), MIB);
                let bytes = lab.bytes("data");
                assert_eq!(bytes.len() as u64, MIB);
                assert!(changed(&bytes, 4 * KIB).iter().all(|&yes| yes), "{engine} {rw} {depth}");
            }
        }
    }
}

#[test]
fn every_block_comes_once_where_the_blocks_are_no_power_of_two() {
    let lab = Lab::new();
    lab.marked("data", 333 * KIB);
    let json = lab.json(&["--filename=data", "--size=333k", "--bs=3k", "--rw=randwrite"]);
    assert_eq!(first(&json, "/write/total_ios"), 111);
    assert!(changed(&lab.bytes("data"), 3 * KIB).iter().all(|&yes| yes));
}

#[test]
fn without_a_map_some_blocks_come_twice_and_others_not() {
    let lab = Lab::new();
    lab.marked("data", MIB);
    let json = lab.json(&["--filename=data", "--size=1m", "--rw=randwrite", "--norandommap"]);
    assert_eq!(first(&json, "/write/total_ios"), 256);
    let reached = changed(&lab.bytes("data"), 4 * KIB).iter().filter(|&&yes| yes).count();
    // 256 draws of 256 reach 162 on average, with a deviation of 5.
    assert!((130..195).contains(&reached), "{reached}");
}

#[test]
fn a_random_order_is_not_sequential() {
    let lab = Lab::new();
    lab.marked("data", MIB);
    lab.json(&["--filename=data", "--size=1m", "--rw=randwrite", "--number_ios=64"]);
    let reached = changed(&lab.bytes("data"), 4 * KIB);
    assert_eq!(reached.iter().filter(|&&yes| yes).count(), 64);
    let pairs = reached.windows(2).filter(|pair| pair[0] && pair[1]).count();
    // 16 of 63 are expected of chance, 63 of a sequence.
    assert!((4..32).contains(&pairs), "{pairs}");
    assert!(reached[128..].iter().any(|&yes| yes), "nothing in the second half");
}

#[test]
fn amounts_follow_size_io_size_loops_and_number_ios() {
    let amounts: [(&[&str], u64); 11] = [
        (&["--size=1m"], MIB),
        (&["--size=1m", "--loops=3"], 3 * MIB),
        (&["--size=1m", "--io_size=256k"], MIB / 4),
        (&["--size=1m", "--io_size=4m"], 4 * MIB),
        (&["--size=1m", "--io_size=50%"], MIB / 2),
        (&["--size=1m", "--io_size=512k", "--loops=3"], 3 * MIB / 2),
        (&["--size=1m", "--number_ios=10"], 40 * KIB),
        (&["--size=1m", "--number_ios=1000"], MIB),
        (&["--size=1m", "--io_size=256k", "--number_ios=10"], 40 * KIB),
        (&["--size=1m", "--numjobs=1", "--offset=1m"], MIB),
        (&["--size=1m", "--bs=64k", "--loops=2"], 2 * MIB),
    ];
    let lab = Lab::new();
    lab.marked("data", 2 * MIB);
    for engine in ENGINES {
        for (job, bytes) in amounts {
            for (rw, direction) in [("--rw=read", "read"), ("--rw=randwrite", "write")] {
                let json = lab.json(&with(job, &["--filename=data", engine, rw, "--iodepth=4"]));
                let moved = first(&json, &format!("/{direction}/io_bytes"));
                assert_eq!(moved, bytes, "{engine} {job:?} {rw}");
            }
        }
    }
}

#[test]
fn an_amount_below_the_region_reaches_only_its_beginning() {
    let lab = Lab::new();
    lab.marked("data", MIB);
    lab.json(&["--filename=data", "--size=1m", "--io_size=256k", "--rw=write"]);
    let expected: Vec<bool> = (0..256).map(|block| block < 64).collect();
    assert_eq!(changed(&lab.bytes("data"), 4 * KIB), expected);
}

#[test]
fn a_mix_moves_the_amount_of_its_region_in_all() {
    for rw in ["--rw=rw", "--rw=randrw"] {
        let json = Lab::new().json(&["--ioengine=null", "--size=1m", rw, "--rwmixread=30"]);
        assert_eq!(first(&json, "/read/io_bytes") + first(&json, "/write/io_bytes"), MIB);
    }
}

#[test]
fn mixes_have_their_shares() {
    for percent in [0, 10, 33, 50, 70, 100] {
        for (rw, engine) in [("--rw=rw", "--iodepth=1"), ("--rw=randrw", "--iodepth=32")] {
            let mix = format!("--rwmixread={percent}");
            let json = Lab::new().json(&["--ioengine=null", "--size=64m", rw, engine, &mix]);
            let (reads, writes) = (first(&json, "/read/total_ios"), first(&json, "/write/total_ios"));
            assert_eq!(reads + writes, 16384);
            let share = 100.0 * reads as f64 / 16384.0;
            let tolerance = if percent % 100 == 0 { 0.0 } else { 3.0 };
            assert!(near(share, f64::from(percent), tolerance), "{share} % of {percent}");
        }
    }
    let json = Lab::new().json(&["--ioengine=null", "--size=64m", "--rw=randrw", "--rwmixwrite=20"]);
    assert!(near(first(&json, "/read/total_ios") as f64, 0.8 * 16384.0, 0.03 * 16384.0));
}

// Block sizes.

#[test]
fn split_block_sizes_have_their_shares() {
    let json = Lab::new().json(&[
        "--ioengine=null",
        "--size=1g",
        "--rw=randread",
        "--bssplit=4k/60:64k/40",
        "--number_ios=10000",
    ]);
    let (ios, bytes) = (first(&json, "/read/total_ios"), first(&json, "/read/io_bytes"));
    assert_eq!(ios, 10_000);
    let large = (bytes - ios * 4 * KIB) as f64 / (60 * KIB) as f64;
    assert!(near(large / ios as f64, 0.4, 0.03), "{large}");
    assert_eq!(large.fract(), 0.0, "only the two sizes");
}

#[test]
fn sizes_of_a_range_are_multiples_of_the_least_up_to_the_greatest() {
    let json = Lab::new().json(&[
        "--ioengine=null",
        "--size=1g",
        "--rw=randread",
        "--bsrange=1k-4k",
        "--number_ios=10000",
    ]);
    let (ios, bytes) = (first(&json, "/read/total_ios"), first(&json, "/read/io_bytes"));
    assert_eq!(bytes % KIB, 0);
    // 1, 2, 3 and 4 KiB in equal shares.
    assert!(near(bytes as f64 / ios as f64, 2560.0, 80.0), "{bytes} in {ios}");
    for sizes in ["--bsrange=4k-4k", "--bssplit=4k"] {
        let json = Lab::new().json(&["--ioengine=null", "--size=1m", "--rw=randread", sizes]);
        assert_eq!(first(&json, "/read/total_ios"), 256, "{sizes}");
    }
}

#[test]
fn a_region_that_no_block_size_divides_ends_well() {
    for engine in ENGINES {
        let lab = Lab::new();
        for rw in ["--rw=randread", "--rw=write", "--rw=randrw"] {
            let json = lab.json(&["--filename=data", "--size=20000", "--bsrange=1k-4k", rw, engine]);
            let moved = first(&json, "/read/io_bytes") + first(&json, "/write/io_bytes");
            assert!((15_000..=20_000 + 4096).contains(&moved), "{engine} {rw}: {moved}");
        }
        if engine != "--ioengine=null" {
            assert_eq!(lab.bytes("data").len(), 20_000, "nothing is written beyond the region");
        }
    }
}

#[test]
fn directions_have_block_sizes_of_their_own() {
    let json =
        Lab::new().json(&["--ioengine=null", "--size=16m", "--rw=randrw", "--bs=4k,16k", "--io_size=64m"]);
    for (direction, size) in [("read", 4 * KIB), ("write", 16 * KIB)] {
        let ios = first(&json, &format!("/{direction}/total_ios"));
        assert!(ios > 0);
        assert_eq!(first(&json, &format!("/{direction}/io_bytes")), ios * size);
    }
}

// Latencies.

#[test]
fn submission_and_completion_make_the_whole_latency() {
    for (engine, depth) in [("io_uring", 16), ("null", 16), ("psync", 1), ("io_uring", 1)] {
        let lab = Lab::new();
        let (engine, depth) = (format!("--ioengine={engine}"), format!("--iodepth={depth}"));
        let json = lab.json(&["--filename=data", "--size=1m", "--rw=randrw", &engine, &depth]);
        for direction in ["read", "write"] {
            let of = |kind: &str, what: &str| float(&json, &format!("/jobs/0/{direction}/{kind}_ns/{what}"));
            let count = of("lat", "N");
            assert!(count > 0.0 && count == of("clat", "N"));
            assert_eq!(count, first(&json, &format!("/{direction}/total_ios")) as f64);
            let slat = if of("slat", "N") == 0.0 { 0.0 } else { of("slat", "mean") };
            let difference = slat + of("clat", "mean") - of("lat", "mean");
            assert!(difference.abs() < 1.0, "{engine} {direction}: {difference} ns");
            let sums = difference * count;
            assert!(sums.abs() < 1.0, "{engine} {direction}: the sums differ by {sums} ns");
            if engine.contains("io_uring") {
                assert_eq!(of("slat", "N"), count);
                assert!(of("slat", "mean") > 0.0);
            }
            assert!(of("clat", "min") <= of("clat", "mean") && of("clat", "mean") <= of("clat", "max"));
        }
    }
}

#[test]
fn percentiles_are_those_of_the_buckets() {
    let lab = Lab::new();
    for job in [&["--ioengine=null", "--iodepth=4"][..], &["--ioengine=psync"], &["--number_ios=3"]] {
        let done =
            lab.run(&with(job, &["--filename=data", "--size=2m", "--rw=randread", "--output-format=json+"]));
        let json = done.expect(0).json();
        for kind in ["clat_ns", "lat_ns"] {
            let latency = at(&json, &format!("/jobs/0/read/{kind}"));
            let mut bins: Vec<(u64, u64)> = at(latency, "/bins")
                .as_object()
                .unwrap()
                .iter()
                .map(|(value, count)| (value.parse().unwrap(), count.as_u64().unwrap()))
                .collect();
            bins.sort_unstable();
            let all = number(latency, "/N");
            assert_eq!(bins.iter().map(|(_, count)| count).sum::<u64>(), all);
            for (percent, value) in at(latency, "/percentile").as_object().unwrap() {
                let rank = (percent.parse::<f64>().unwrap() / 100.0 * all as f64).ceil().max(1.0) as u64;
                let mut passed = 0;
                let expected = bins
                    .iter()
                    .find(|(_, count)| {
                        passed += count;
                        passed >= rank
                    })
                    .unwrap()
                    .0 as f64;
                let value = value.as_f64().unwrap();
                assert!(
                    near(value, expected, expected / 128.0 + 1.0),
                    "{percent} % of {all}: {value} for {expected}"
                );
            }
        }
    }
}

// Places.

#[test]
fn bytes_outside_the_region_stay_as_they_were() {
    let lab = Lab::new();
    for engine in FILE_ENGINES {
        lab.marked("data", MIB);
        let job = ["--filename=data", "--offset=512k", "--size=256k", "--rw=randwrite", "--iodepth=8"];
        lab.json(&with(&job, &[engine, "--loops=2"]));
        let bytes = lab.bytes("data");
        assert_eq!(bytes.len() as u64, MIB);
        let expected: Vec<bool> = (0..256).map(|block| (128..192).contains(&block)).collect();
        assert_eq!(changed(&bytes, 4 * KIB), expected, "{engine}");
    }
}

#[test]
fn clones_have_regions_of_their_own_by_offset_increment() {
    let lab = Lab::new();
    lab.marked("data", MIB);
    lab.json(&[
        "--filename=data",
        "--offset=128k",
        "--offset_increment=256k",
        "--size=64k",
        "--numjobs=3",
        "--rw=write",
    ]);
    let expected: Vec<bool> = (0..256_u64)
        .map(|block| [32, 96, 160].iter().any(|start| (*start..start + 16).contains(&block)))
        .collect();
    assert_eq!(changed(&lab.bytes("data"), 4 * KIB), expected);
}

#[test]
fn the_size_is_divided_among_files_and_each_clone_has_its_own() {
    let lab = Lab::new();
    let json = lab.json(&["--name=j", "--nrfiles=4", "--numjobs=2", "--size=1m", "--rw=write"]);
    let mut expected = Vec::new();
    for clone in 0..2 {
        for file in 0..4 {
            expected.push(format!("j.{clone}.{file}"));
        }
    }
    assert_eq!(lab.names(), expected);
    assert!(expected.iter().all(|name| lab.bytes(name).len() as u64 == MIB / 4));
    assert_eq!(jobs(&json).len(), 2);
    for job in jobs(&json) {
        assert_eq!(number(job, "/write/io_bytes"), MIB);
    }
    // Clones do not write the same.
    assert_ne!(lab.bytes("j.0.0"), lab.bytes("j.1.0"));
}

#[test]
fn all_files_of_a_list_are_written() {
    let lab = Lab::new();
    lab.marked("a", 512 * KIB).marked("b", 512 * KIB);
    for rw in ["--rw=write", "--rw=randwrite"] {
        let json = lab.json(&["--filename=a:b", "--size=1m", rw]);
        assert_eq!(first(&json, "/write/io_bytes"), MIB);
        for name in ["a", "b"] {
            assert!(changed(&lab.bytes(name), 4 * KIB).iter().all(|&yes| yes), "{name}");
        }
    }
    let done = lab.run(&["--filename=a\\:b", "--size=4k", "--rw=write"]).expect(0);
    assert!(lab.path("a:b").exists(), "{done:?}");
}

#[test]
fn a_share_of_a_file_is_its_beginning() {
    let lab = Lab::new();
    lab.marked("data", MIB);
    let json = lab.json(&["--filename=data", "--size=50%", "--rw=randwrite"]);
    assert_eq!(first(&json, "/write/io_bytes"), MIB / 2);
    let expected: Vec<bool> = (0..256).map(|block| block < 128).collect();
    assert_eq!(changed(&lab.bytes("data"), 4 * KIB), expected);
    // Without a size it is all of it; with an offset, what is left.
    assert_eq!(first(&lab.json(&["--filename=data"]), "/read/io_bytes"), MIB);
    assert_eq!(first(&lab.json(&["--filename=data", "--offset=25%"]), "/read/io_bytes"), 3 * MIB / 4);
}

#[test]
fn a_file_is_made_as_long_as_it_must_be_and_never_shorter() {
    let lab = Lab::new();
    lab.json(&["--filename=new", "--offset=64k", "--size=64k", "--number_ios=1"]);
    assert_eq!(lab.bytes("new").len() as u64, 128 * KIB);
    lab.marked("old", 64 * KIB);
    lab.json(&["--filename=old", "--size=4k", "--rw=write"]);
    assert_eq!(lab.bytes("old").len() as u64, 64 * KIB);
    // What a read will find is written.
    let bytes = lab.bytes("new");
    let zeros = bytes.iter().filter(|&&byte| byte == 0).count();
    assert!(zeros < 2000, "{zeros} zeros of 131072");
    // A job that only reads does not add to a file that holds something; one that writes does.
    lab.run(&["--filename=old", "--size=128k"]).expect(2).says("the job reads up to 128KiB");
    assert_eq!(lab.bytes("old").len() as u64, 64 * KIB);
    lab.json(&["--filename=old", "--size=128k", "--rw=randrw", "--number_ios=1"]);
    let bytes = lab.bytes("old");
    assert_eq!(bytes.len() as u64, 128 * KIB);
    assert!(bytes[4096..65_536].iter().filter(|&&byte| byte != MARK).count() <= 4096);
}

// Trims.

#[test]
fn trims_of_a_file_punch_holes() {
    for engine in FILE_ENGINES {
        for rw in ["--rw=trim", "--rw=randtrim"] {
            let lab = Lab::new();
            lab.marked("data", MIB);
            let before = std::fs::metadata(lab.path("data")).unwrap().blocks();
            let json =
                lab.json(&["--filename=data", "--offset=256k", "--size=512k", engine, rw, "--iodepth=4"]);
            assert_eq!(first(&json, "/trim/total_ios"), 128);
            assert_eq!(first(&json, "/trim/io_bytes"), 512 * KIB);
            let bytes = lab.bytes("data");
            assert_eq!(bytes.len() as u64, MIB);
            let quarter = MIB as usize / 4;
            assert!(bytes[quarter..3 * quarter].iter().all(|&byte| byte == 0), "{engine} {rw}");
            assert!(bytes[..quarter].iter().chain(&bytes[3 * quarter..]).all(|&byte| byte == MARK));
            let after = std::fs::metadata(lab.path("data")).unwrap().blocks();
            assert!(after <= before / 2 + 64, "{after} of {before} sectors are still in use");
        }
    }
}

#[test]
fn trimwrite_trims_each_block_and_then_writes_it() {
    for engine in FILE_ENGINES {
        for rw in ["--rw=trimwrite", "--rw=randtrimwrite"] {
            let lab = Lab::new();
            lab.marked("data", MIB);
            let json = lab.json(&["--filename=data", "--size=1m", engine, rw, "--iodepth=8"]);
            assert_eq!(first(&json, "/trim/total_ios"), 256);
            assert_eq!(first(&json, "/write/total_ios"), 256);
            let bytes = lab.bytes("data");
            // A trim that overtakes its write would leave zeros.
            let empty = bytes.chunks(4096).filter(|block| block.iter().all(|&byte| byte == 0)).count();
            assert_eq!(empty, 0, "{engine} {rw}");
            assert!(changed(&bytes, 4 * KIB).iter().all(|&yes| yes));
            let json = lab.json(&["--filename=data", "--size=1m", engine, rw, "--number_ios=10"]);
            assert_eq!(first(&json, "/trim/total_ios"), 10);
            assert_eq!(first(&json, "/write/total_ios"), 10);
        }
    }
}

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
    assert!(start[1] - start[0] < 350, "{start:?}");
    assert!(start[2] - start[0] >= 400, "{start:?}");
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

// Contents.

fn written(lab: &Lab, options: &[&str]) -> Vec<u8> {
    lab.marked("data", MIB);
    lab.json(&with(&["--filename=data", "--size=1m", "--rw=write"], options));
    lab.bytes("data")
}

#[test]
fn contents_are_what_the_options_say() {
    let lab = Lab::new();
    for engine in FILE_ENGINES {
        let of = |options: &[&str]| written(&lab, &with(options, &[engine, "--iodepth=4"]));
        assert!(of(&["--zero_buffers"]).iter().all(|&byte| byte == 0));
        let pattern = of(&["--buffer_pattern=0xdeadbeef"]);
        assert!(pattern.chunks(4).all(|word| word == [0xde, 0xad, 0xbe, 0xef]), "{:x?}", &pattern[..16]);
        let text = of(&["--buffer_pattern=\"abcd\""]);
        assert!(text.chunks(4).all(|word| word == b"abcd"));
        for random in [&["--refill_buffers"][..], &[]] {
            let bytes = of(random);
            let sectors: HashSet<&[u8]> = bytes.chunks(512).collect();
            assert_eq!(sectors.len(), 2048, "{random:?}: no sector comes twice");
            let entropy = entropy(&bytes);
            assert!(entropy > 7.9, "{random:?}: {entropy} bits a byte");
        }
    }
}

/// Bits a byte, as a compressor without memory would need.
fn entropy(bytes: &[u8]) -> f64 {
    let mut counts = [0_u64; 256];
    bytes.iter().for_each(|&byte| counts[usize::from(byte)] += 1);
    let all = bytes.len() as f64;
    let share = |count: u64| count as f64 / all;
    counts.iter().filter(|&&count| count > 0).map(|&count| -share(count) * share(count).log2()).sum()
}

#[test]
fn a_part_of_every_chunk_can_be_compressed_away() {
    let lab = Lab::new();
    for (percent, chunk) in [(25, 512), (50, 4096), (75, 512), (100, 512)] {
        let (share, unit) =
            (format!("--buffer_compress_percentage={percent}"), format!("--buffer_compress_chunk={chunk}"));
        let bytes = written(&lab, &[&share, &unit]);
        for part in bytes.chunks(chunk) {
            // The rest is random, where one byte of 256 is a zero, too.
            let zeros = part.iter().filter(|&&byte| byte == 0).count();
            let least = chunk * percent / 100;
            assert!(
                (least..=least + 16 + chunk / 50).contains(&zeros),
                "{zeros} zeros of {chunk} at {percent} %"
            );
        }
        let sectors: HashSet<&[u8]> = bytes.chunks(4096).collect();
        assert!(percent == 100 || sectors.len() == 256, "blocks differ all the same");
    }
}

#[test]
fn a_share_of_the_blocks_repeats_an_earlier_one() {
    let lab = Lab::new();
    for percent in [0, 30, 70, 100] {
        let option = format!("--dedupe_percentage={percent}");
        lab.json(&["--filename=data", "--size=8m", "--rw=write", "--refill_buffers", &option]);
        let bytes = lab.bytes("data");
        let unique: HashSet<&[u8]> = bytes.chunks(4096).collect();
        let share = 100.0 * (2048 - unique.len()) as f64 / 2048.0;
        assert!(near(share, f64::from(percent), 4.0), "{share} % of {percent}");
    }
}

// The same, and not the same.

#[test]
fn the_same_job_leaves_the_same_bytes_on_every_engine_and_at_every_depth() {
    let kinds: [&[&str]; 8] = [
        &["--rw=randwrite"],
        &["--rw=write", "--refill_buffers"],
        &["--rw=randwrite", "--dedupe_percentage=30"],
        &["--rw=randwrite", "--buffer_compress_percentage=50"],
        &["--rw=randrw", "--rwmixread=30"],
        &["--rw=randtrimwrite"],
        &["--rw=randwrite", "--bssplit=520/50:4k/50", "--blockalign=4k"],
        &["--rw=randwrite", "--scramble_buffers=0"],
    ];
    for kind in kinds {
        let mut seen: HashMap<Vec<u8>, String> = HashMap::new();
        for how in [["psync", "1"], ["psync", "1"], ["io_uring", "1"], ["io_uring", "16"], ["io_uring", "3"]]
        {
            let lab = Lab::new();
            lab.marked("data", MIB);
            let (engine, depth) = (format!("--ioengine={}", how[0]), format!("--iodepth={}", how[1]));
            lab.json(&with(kind, &["--filename=data", "--size=1m", &engine, &depth]));
            seen.insert(lab.bytes("data"), how.join(" "));
        }
        assert_eq!(seen.len(), 1, "{kind:?}: they differ: {:?}", seen.values());
    }
}

/// Which blocks a quarter of a pass reaches: the order, as the file tells it.
fn reached(seed: &[&str]) -> Vec<bool> {
    let lab = Lab::new();
    lab.marked("data", MIB);
    let job = ["--filename=data", "--size=1m", "--rw=randwrite", "--number_ios=64"];
    lab.json(&with(&job, seed));
    changed(&lab.bytes("data"), 4 * KIB)
}

#[test]
fn seeds_decide_the_order() {
    let ordinary = reached(&[]);
    assert_eq!(ordinary, reached(&[]), "randrepeat is the default");
    assert_eq!(reached(&["--randseed=7"]), reached(&["--randseed=7"]));
    assert_ne!(reached(&["--randseed=7"]), reached(&["--randseed=8"]));
    assert_ne!(reached(&["--randseed=7"]), ordinary);
    let fresh = [reached(&["--randrepeat=0"]), reached(&["--randrepeat=0"])];
    assert!(fresh[0] != fresh[1] && fresh[0] != ordinary);
    let named = ["--randrepeat=0", "--randseed=7"];
    assert_eq!(reached(&named), reached(&["--randseed=7"]), "randseed wins");
}

#[test]
fn clones_and_jobs_go_their_own_ways() {
    let lab = Lab::new();
    lab.marked("j.0.0", MIB).marked("j.1.0", MIB);
    lab.json(&["--name=j", "--numjobs=2", "--size=1m", "--rw=randwrite", "--number_ios=64"]);
    assert_ne!(changed(&lab.bytes("j.0.0"), 4 * KIB), changed(&lab.bytes("j.1.0"), 4 * KIB));
}

#[test]
fn accesses_gather_where_the_distribution_says() {
    let lab = Lab::new();
    lab.marked("data", MIB);
    let zoned = "--random_distribution=zoned:90/10:10/90";
    lab.json(&["--filename=data", "--size=1m", "--rw=randwrite", "--number_ios=100", zoned]);
    let places = changed(&lab.bytes("data"), 4 * KIB);
    let count = |blocks: &[bool]| blocks.iter().filter(|&&yes| yes).count();
    // 90 draws of 25 blocks reach nearly all of them, 10 of the other 231 at most 10 or so.
    assert!(count(&places[..25]) >= 18, "{}", count(&places[..25]));
    assert!((2..25).contains(&count(&places[26..])), "{}", count(&places[26..]));
}

#[test]
fn an_embedded_job_repeats_its_run() {
    let lab = Lab::new();
    let json = lab.json(&["--filename=data", "--size=256k", "--rw=randwrite", "--randseed=99", "--bs=8k"]);
    let before = lab.bytes("data");
    lab.file("again.toml", at(&json, "/fio-spdk/job_toml").as_str().unwrap());
    lab.marked("data", 256 * KIB);
    let again: Value = lab.json(&["again.toml"]);
    assert_eq!(first(&again, "/write/total_ios"), first(&json, "/write/total_ios"));
    assert_eq!(before, lab.bytes("data"));
}

#[test]
fn a_full_limit_of_a_file_is_no_success() {
    // What a file size limit refuses ends a job that fills, too: that is not a full device.
    let lab = Lab::new();
    lab.marked("data", MIB);
    let mut shell = lab.command("bash");
    let script = format!(
        "trap '' XFSZ; ulimit -f 64; exec {} --filename=data --rw=write --size=1m --fill_device=1",
        common::BINARY
    );
    shell.args(["-c", &script]);
    Running::of(shell).end().expect(4);
}
