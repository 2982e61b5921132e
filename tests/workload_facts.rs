//! Which bytes a workload reads, writes and trims, told by its counts and by what it leaves: facts that
//! fio's users rely on, several of them from fio's own test jobs.

mod common;

use std::os::unix::fs::MetadataExt;

use common::{
    ENGINES, FILE_ENGINES, KIB, Lab, MARK, MIB, at, changed, first, float, jobs, near, number, with,
};

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
