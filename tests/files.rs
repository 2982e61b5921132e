//! Files through the program: how they are named, made, chosen, appended to and removed; what is refused
//! before one is touched. fio says the same where it is there.

#![allow(clippy::print_stderr, reason = "says why a part is skipped")]

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use common::{FILE_ENGINES, KIB, Lab, MIB, Running, at, changed, first, number, with};
use rustix::process::Signal;

/// Whether there is a fio to ask; says so if not.
fn has_fio() -> bool {
    let is_there = Command::new("fio").arg("--version").output().is_ok_and(|out| out.status.success());
    if !is_there {
        eprintln!("skipped: there is no fio in PATH");
    }
    is_there
}

fn fio(lab: &Lab, arguments: &[&str]) {
    let mut command = lab.command("fio");
    command.args(["--ioengine=psync", "--output=/dev/null"]).args(arguments);
    let done = command.output().expect("fio runs");
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Names and sizes of all files that a job has made.
fn made(lab: &Lab) -> Vec<(String, u64)> {
    let size = |name: &String| fs::metadata(lab.path(name)).expect("a file").len();
    lab.names().iter().filter(|name| !name.contains("state")).map(|name| (name.clone(), size(name))).collect()
}

// Names and sizes.

#[test]
fn files_have_the_names_and_sizes_that_fio_gives_them() {
    let jobs: [&[&str]; 4] = [
        &["--size=120k", "--nrfiles=3", "--numjobs=2"],
        &["--size=128k", "--nrfiles=2", "--numjobs=2", "--filename_format=x.$jobnum-$filenum.$jobname"],
        &["--size=64k", "--nrfiles=2", "--numjobs=2", "--filename_format=shared.$filenum"],
        &["--filesize=12k", "--nrfiles=3"],
    ];
    for job in jobs {
        let ours = Lab::new();
        ours.run(&with(&["--name=j", "--rw=write", "--direct=0"], job)).expect(0);
        assert!(made(&ours).len() > 1, "{job:?}");
        if has_fio() {
            let theirs = Lab::new();
            fio(&theirs, &with(&["--name=j", "--rw=write"], job));
            assert_eq!(made(&ours), made(&theirs), "{job:?}");
        }
    }
}

#[test]
fn directories_of_a_format_are_made_and_unknown_words_refused() {
    let lab = Lab::new();
    lab.run(&["--name=j", "--rw=write", "--size=8k", "--filename_format=a/b/$jobnum"]).expect(0);
    assert_eq!(fs::metadata(lab.path("a/b/0")).expect("a file").len(), 8 * KIB);
    lab.run(&["--size=8k", "--filename_format=x.$job"]).expect(2).says("`$job` stands for nothing");
    lab.run(&["--size=8k", "--nrfiles=2", "--filename_format=x"]).expect(2).says("$filenum");
}

#[test]
fn sizes_of_a_range_come_from_the_seed_and_are_kept_by_who_reads_them() {
    let lab = Lab::new();
    let job = ["--filesize=4k-256k", "--nrfiles=12", "--bs=4k", "--filename_format=f.$filenum"];
    lab.run(&with(&job, &["--name=w", "--rw=write", "--randseed=7"])).expect(0);
    let sizes: Vec<u64> = made(&lab).iter().map(|(_, size)| *size).collect();
    assert!(sizes.iter().all(|size| (4 * KIB..=256 * KIB).contains(size) && size % (4 * KIB) == 0));
    assert!(sizes.iter().any(|size| size != &sizes[0]), "{sizes:?}");
    let json = lab.json(&with(&job, &["--name=r", "--rw=randread", "--randseed=8"]));
    assert_eq!(first(&json, "/read/io_bytes"), sizes.iter().sum::<u64>());
    // `size` is what is transferred then.
    let json = lab.json(&with(&job, &["--name=r", "--rw=read", "--size=64k"]));
    assert_eq!(first(&json, "/read/io_bytes"), 64 * KIB);
    let again = Lab::new();
    again.run(&with(&job, &["--name=w", "--rw=write", "--randseed=7"])).expect(0);
    assert_eq!(made(&lab), made(&again));
}

// Which file is next.

const SERVICES: [&str; 7] =
    ["roundrobin", "roundrobin:3", "sequential", "random", "random:5", "zipf:1.2", "normal"];

/// How many blocks of each of 4 marked files of 16 blocks have been written after `ios` writes.
fn written(by_fio: bool, service: &str, ios: &str) -> Vec<usize> {
    let lab = Lab::new();
    let names = ["a", "b", "c", "d"];
    names.iter().for_each(|name| {
        lab.marked(name, 64 * KIB);
    });
    let service = format!("--file_service_type={service}");
    let job = ["--name=j", "--filename=a:b:c:d", "--size=256k", "--rw=write", "--bs=4k", &service, ios];
    if by_fio {
        fio(&lab, &with(&job, &["--overwrite=1"]));
    } else {
        lab.run(&job).expect(0);
    }
    let count = |name: &&str| changed(&lab.bytes(name), 4 * KIB).iter().filter(|&&changed| changed).count();
    names.iter().map(count).collect()
}

#[test]
fn files_take_the_turns_that_fio_gives_them() {
    for (service, ios, expected) in [
        ("roundrobin", 10, [3, 3, 2, 2]),
        ("roundrobin:3", 20, [6, 6, 5, 3]),
        ("sequential", 37, [16, 16, 5, 0]),
    ] {
        let ios = format!("--number_ios={ios}");
        assert_eq!(written(false, service, &ios), expected, "{service}");
        if has_fio() {
            assert_eq!(written(true, service, &ios), expected, "{service} by fio");
        }
    }
}

/// The share of 8 files in 2000 writes.
fn shares(by_fio: bool, service: &str) -> Vec<f64> {
    let lab = Lab::new();
    let service = format!("--file_service_type={service}");
    let format = "--filename_format=f.$filenum";
    (0..8).for_each(|file| {
        lab.marked(&format!("f.{file}"), MIB);
    });
    let job = ["--name=j", "--size=8m", "--nrfiles=8", "--rw=write", "--bs=512", format, &service];
    let job = with(&job, &["--number_ios=2000"]);
    if by_fio {
        fio(&lab, &with(&job, &["--overwrite=1"]));
    } else {
        lab.run(&job).expect(0);
    }
    let count =
        |file| changed(&lab.bytes(&format!("f.{file}")), 512).iter().filter(|&&changed| changed).count();
    (0..8).map(|file| count(file) as f64 / 2000.0).collect()
}

#[test]
fn chance_prefers_the_files_that_fio_prefers() {
    let by_fio = has_fio();
    let alike = |ours: &[f64], theirs: &[f64], tolerance: f64| {
        ours.iter().zip(theirs).all(|(ours, theirs)| (ours - theirs).abs() < tolerance)
    };
    for service in ["random", "normal", "normal:60"] {
        let ours = shares(false, service);
        let known =
            if service == "random" { vec![1.0 / 8.0; 8] } else { ours.iter().rev().copied().collect() };
        assert!(alike(&ours, &known, 0.06), "{service}: {ours:?}");
        if by_fio {
            let theirs = shares(true, service);
            assert!(alike(&ours, &theirs, 0.06), "{service}: {ours:?}, fio {theirs:?}");
        }
    }
    // Where the most popular begin is up to the seed: two neighbours have nearly all of it.
    for service in ["zipf:1.2", "pareto:0.1"] {
        let hottest =
            |shares: Vec<f64>| (0..8).map(|at| shares[at] + shares[(at + 1) % 8]).fold(0.0, f64::max);
        let ours = hottest(shares(false, service));
        assert!(ours > 0.7, "{service}: {ours}");
        if by_fio {
            let theirs = hottest(shares(true, service));
            assert!((ours - theirs).abs() < 0.15, "{service}: {ours}, fio {theirs}");
        }
    }
}

#[test]
fn every_service_covers_every_file_and_is_verified() {
    for engine in FILE_ENGINES {
        for service in SERVICES {
            let lab = Lab::new();
            let service = format!("--file_service_type={service}");
            let job = ["--name=j", "--nrfiles=5", "--filesize=20k-80k", "--rw=randwrite", "--verify=crc32c"];
            let json = lab.json(&with(&job, &[&service, engine, "--iodepth=1", "--loops=2"]));
            let bytes: u64 = made(&lab).iter().map(|(_, size)| *size).sum();
            assert_eq!(first(&json, "/write/io_bytes"), 2 * bytes, "{service}");
            let verify = at(&json, "/jobs/0/verify");
            assert_eq!(number(verify, "/promised"), bytes / (4 * KIB), "{service}: {verify:#}");
            assert_eq!(number(verify, "/checked"), number(verify, "/promised"), "{service}: {verify:#}");
        }
    }
}

#[test]
fn a_snapshot_of_files_by_chance_is_judged_by_the_same_chance_only() {
    let lab = Lab::new();
    let job = ["--name=j", "--nrfiles=4", "--size=1m", "--rw=randwrite", "--verify=crc32c", "--state_dir=."];
    let with_service = with(&job, &["--file_service_type=random:2", "--number_ios=150", "--end_fsync"]);
    lab.json(&with_service);
    let json = lab.json(&with(&with_service, &["--verify_state_load"]));
    assert_eq!(number(&json, "/jobs/0/verify/checked"), 150);
    let other = with(&job, &["--file_service_type=random:3", "--number_ios=150", "--end_fsync"]);
    let other = with(&other, &["--verify_state_load"]);
    lab.run(&other).expect(2).says("file_service_type");
}

// Appending, filling, reading before.

#[test]
fn appending_leaves_what_was_there_and_goes_on_behind_it() {
    let lab = Lab::new();
    lab.marked("log", 12 * KIB);
    let job = ["--filename=log", "--rw=write", "--size=8k", "--file_append"];
    lab.run(&with(&job, &["--verify=crc32c"])).expect(0).says("will be appended to");
    lab.run(&job).expect(0);
    let bytes = lab.bytes("log");
    assert_eq!(bytes.len() as u64, 28 * KIB);
    assert_eq!(changed(&bytes, 4 * KIB), [false, false, false, true, true, true, true]);
    lab.run(&["--filename=log", "--rw=write", "--file_append"]).expect(2).says("`size`");
    lab.run(&["--filename=log", "--rw=read", "--size=4k", "--file_append"]).expect(2).says("writes");
    lab.run(&with(&job, &["--verify=crc32c", "--verify_state_load"])).expect(2).says("verify_state_load");
}

#[test]
fn overwrite_fills_files_first_and_create_on_open_makes_them_empty() {
    let blocks = |more: &[&str]| {
        let lab = Lab::new();
        let job = ["--filename=data", "--rw=write", "--size=1m", "--number_ios=2", "--fallocate=none"];
        lab.run(&with(&job, more)).expect(0);
        let metadata = fs::metadata(lab.path("data")).expect("a file");
        (metadata.len(), metadata.blocks() * 512 >= MIB)
    };
    assert_eq!(blocks(&["--overwrite"]), (MIB, true));
    assert_eq!(blocks(&[]), (MIB, false));
    assert_eq!(blocks(&["--create_on_open"]), (8 * KIB, false));
}

#[test]
fn files_are_laid_out_at_the_same_time_if_asked_for() {
    let lab = Lab::new();
    let job = ["--name=j", "--rw=randread", "--size=64k", "--nrfiles=3", "--numjobs=4"];
    lab.run(&with(&job, &["--create_serialize=false", "--create_fsync=false"]))
        .expect(0)
        .says("laying out 12 files");
    let files = made(&lab);
    assert!(files.len() == 12 && files.iter().all(|(_, size)| *size == 64 * KIB / 3), "{files:?}");
}

#[test]
fn what_was_read_before_is_in_the_cache() {
    let lab = Lab::new();
    let job = ["--name=j", "--rw=randread", "--size=256k", "--fadvise_hint=noreuse"];
    let json = lab.json(&with(&job, &["--pre_read"]));
    assert_eq!(first(&json, "/read/io_bytes"), 256 * KIB);
    lab.run(&with(&job, &["--pre_read", "--direct"])).expect(2).says("page cache");
}

#[test]
fn options_of_io_uring_move_the_same_bytes() {
    let lab = Lab::new();
    let job = ["--name=j", "--rw=randrw", "--size=256k", "--iodepth=8", "--verify=crc32c"];
    let uring = with(&job, &["--ioengine=io_uring", "--force_async=3"]);
    lab.run(&uring).expect(0);
    lab.run(&with(&job, &["--ioengine=psync", "--force_async=3"])).expect(2).says("io_uring");
    lab.run(&with(&job, &["--ioengine=psync", "--nowait"])).expect(2).says("io_uring");
    lab.run(&with(&job, &["--ioengine=io_uring", "--uncached", "--direct"])).expect(2).says("page cache");
}

#[test]
fn opendir_reads_all_files_that_hold_a_block_and_nothing_else() {
    let lab = Lab::new();
    fs::create_dir_all(lab.path("d/e/f")).expect("directories");
    lab.marked("d/a", 8 * KIB)
        .marked("d/e/b", 12 * KIB)
        .marked("d/e/f/small", 100)
        .marked("outside", 64 * KIB);
    std::os::unix::fs::symlink(lab.path("outside"), lab.path("d/link")).expect("a link");
    let json = lab.json(&["--name=j", "--opendir=d", "--rw=randread"]);
    assert_eq!(first(&json, "/read/io_bytes"), 20 * KIB);
    lab.run(&["--name=j", "--opendir=d", "--rw=randwrite"]).expect(2).says("change nothing");
    lab.run(&["--name=j", "--opendir=d", "--rw=read", "--unlink"]).expect(2).says("change nothing");
    assert_eq!(changed(&lab.bytes("d/a"), KIB), [false; 8]);
}

// At the end.

#[test]
fn the_end_flushes_files_and_file_systems() {
    let lab = Lab::new();
    let job = ["--name=j", "--rw=write", "--size=64k", "--nrfiles=2", "--fsync_on_close", "--end_syncfs"];
    let json = lab.json(&job);
    assert_eq!(first(&json, "/sync/total_ios"), 2);
    assert!(json.to_string().contains("end_syncfs flushed 1 file system"), "{json:#}");
}

#[test]
fn ranges_are_synced_every_so_many_writes_and_promise_nothing() {
    let lab = Lab::new();
    for engine in FILE_ENGINES {
        let job = ["--name=j", "--rw=randwrite", "--size=256k", "--nrfiles=2", "--verify=crc32c", engine];
        let job = with(&job, &["--sync_file_range=wait_before,write:8", "--verify_policy=fsynced"]);
        let json = lab.run(&with(&job, &["--output-format=json"])).expect(5).json();
        // 64 writes are 8 times 8, of two files each.
        assert_eq!(first(&json, "/sync/total_ios"), 16, "{engine}");
        assert_eq!(number(&json, "/jobs/0/verify/checked"), 64);
        assert_eq!(number(&json, "/jobs/0/verify/demanded"), 0);
        lab.run(&with(&job, &["--direct=1"])).expect(2).says("page cache");
    }
}

#[test]
fn unlink_removes_the_files_of_the_job_and_no_others() {
    let lab = Lab::new();
    lab.marked("other", 4 * KIB).marked("mine", 64 * KIB).marked("aim", 64 * KIB);
    std::os::unix::fs::symlink("aim", lab.path("link")).expect("a link");
    lab.run(&["--filename=mine:new", "--rw=write", "--size=64k", "--unlink"])
        .expect(0)
        .says("mine")
        .says("removed");
    let done = lab.run(&["--filename=link", "--rw=read", "--unlink", "--output-format=json"]).expect(0);
    assert!(done.stdout.contains("not a regular file"), "{done:?}");
    assert_eq!(lab.names(), ["aim", "link", "other"]);
    lab.run(&["--filename=other", "--rw=read", "--unlink", "--readonly"]).expect(6).says("unlink");
    lab.run(&["--filename=/dev/null", "--rw=write", "--size=4k", "--unlink"]).expect(0);
    assert!(fs::metadata("/dev/null").is_ok());
    assert_eq!(lab.names(), ["aim", "link", "other"]);
}

#[test]
fn a_signal_does_not_keep_files_that_are_to_go() {
    let lab = Lab::new();
    let job = [
        "--name=j",
        "--rw=randwrite",
        "--size=1m",
        "--time_based",
        "--runtime=60s",
        "--unlink",
        "--verify=md5",
    ];
    let mut running = lab.spawn(&job);
    running.wait_for_worker("j.0").signal(Signal::INT);
    let done = running.end();
    assert!(!lab.path("j.0.0").exists(), "{done:?}");
    assert!(lab.names().is_empty(), "{:?}", lab.names());
}

#[test]
fn files_of_a_job_that_failed_stay_as_evidence() {
    let lab = Lab::new();
    let job = ["--filename=data:/dev/full", "--rw=write", "--size=64k", "--unlink", "--output-format=json"];
    let done = lab.run(&job).expect(4);
    assert!(done.stdout.contains("evidence"), "{done:?}");
    assert_eq!(lab.names(), ["data"]);
}

#[test]
fn a_stage_that_cannot_start_removes_what_it_made_and_keeps_what_was_there() {
    let lab = Lab::new();
    lab.marked("old", 64 * KIB);
    let job = "[global]\nrw = \"write\"\nsize = \"64k\"\nunlink = true\n[[job]]\nname = \"a\"\n\
               filename = [\"old\", \"new\"]\n[[job]]\nname = \"b\"\nfilename = \"j.toml/none\"\nallow_file_create = false\n";
    lab.file("j.toml", job);
    lab.run(&["j.toml"]).expect(2).says("allow_file_create");
    assert_eq!(lab.names(), ["j.toml", "old"]);
    assert_eq!(changed(&lab.bytes("old"), 64 * KIB), [false]);
}

// Refused before anything is touched.

#[test]
fn what_a_target_must_be_is_looked_at_first() {
    let lab = Lab::new();
    lab.marked("data", 64 * KIB);
    let job = ["--rw=write", "--size=64k"];
    for (more, says) in [
        (["--filename=data", "--filetype=block"], "no"),
        (["--filename=nvme0n9", "--filetype=block"], "device"),
        (["--filename=/dev/null", "--filetype=file"], "regular file"),
        (["--filename=new", "--allow_file_create=false"], "allow_file_create"),
    ] {
        lab.run(&with(&job, &more)).expect(2).says(says);
    }
    assert_eq!(lab.names(), ["data"]);
    assert_eq!(changed(&lab.bytes("data"), 64 * KIB), [false]);
    lab.run(&with(&job, &["--filename=data", "--filetype=file", "--allow_file_create=false"])).expect(0);
}

#[test]
fn more_open_files_than_the_process_may_have_are_refused_and_fewer_raise_the_limit() {
    let lab = Lab::new();
    let limited = |limits: &str| {
        let script =
            format!("{limits}; exec {} --name=j --rw=write --size=800k --nrfiles=100", common::BINARY);
        let mut command = lab.command("sh");
        command.args(["-c", &script]);
        Running::of(command).end()
    };
    limited("ulimit -n 90").expect(4).says("open files").says("nrfiles");
    assert!(lab.names().is_empty());
    limited("ulimit -Sn 90").expect(0);
    assert_eq!(lab.names().len(), 100);
    lab.run(&["--name=j", "--size=1g", "--nrfiles=100000"]).expect(2).says("65535");
    lab.run(&["--name=j", "--size=1m", "--nrfiles=4", "--openfiles=3"])
        .expect(2)
        .says("keeps all of them open");
    lab.run(&["--name=k", "--rw=write", "--size=1m", "--nrfiles=4", "--openfiles=4"]).expect(0);
}

#[test]
fn what_makes_no_sense_here_says_why() {
    let lab = Lab::new();
    for (option, why) in [
        ("--lockfile=exclusive", "region of its own"),
        ("--unique_filename=0", "one directory"),
        ("--unlink_each_loop=1", "stay open"),
        ("--write_barrier=2", "2.6.37"),
        ("--nonvectored=1", "plain reads and writes"),
        ("--sync_file_range=sometimes:8", "wait_before"),
        ("--sync_file_range=write:0", "below 1"),
        ("--file_service_type=sequential:2", "to its end"),
        ("--file_service_type=robin", "roundrobin"),
        ("--filesize=8k-4k", "ends before"),
    ] {
        lab.run(&["--name=j", "--size=64k", "--rw=write", option]).expect(2).says(why);
    }
    assert!(lab.names().is_empty());
}
