//! What goes along with commands, as far as a machine without a fitting drive can show it.

mod common;

use common::{FILE_ENGINES, Lab, at, first, with};

#[test]
fn priorities_have_their_shares_and_latencies_of_their_own() {
    let lab = Lab::new();
    let base =
        ["--filename=data", "--size=8m", "--rw=randrw", "--ioengine=io_uring", "--iodepth=16", "--direct=1"];
    if lab.run(&with(&base, &["--number_ios=1"])).code != Some(0) {
        eprintln!("skipped: no O_DIRECT or no io_uring here");
        return;
    }
    // The class `be` may be used by everybody.
    let json = lab.json(&with(&base, &["--cmdprio_percentage=20,0", "--cmdprio_class=be", "--cmdprio=3"]));
    let prios = at(&json, "/jobs/0/read/prios").as_array().expect("an array");
    let count = |class: u64| -> u64 {
        let of_class = prios.iter().filter(|prio| prio["prioclass"] == class);
        of_class.map(|prio| prio["clat_ns"]["N"].as_u64().expect("a count")).sum()
    };
    let reads = first(&json, "/read/total_ios");
    assert_eq!(count(0) + count(2), reads);
    let share = count(2) as f64 / reads as f64;
    assert!((0.14..0.26).contains(&share), "{share}");
    assert!(prios.iter().any(|prio| prio["prio"] == 3));
    assert!(json.pointer("/jobs/0/write/prios").is_none(), "writes have one priority only");

    let split = "--cmdprio_bssplit=4k/50/be/1:8k/100/idle/0";
    let json = lab.json(&with(&base, &[split, "--bssplit=4k/50:8k/50"]));
    let prios = at(&json, "/jobs/0/read/prios").as_array().expect("an array");
    assert_eq!(prios.len(), 3);
    let done = lab.run(&with(&base, &["--cmdprio_percentage=50", "--cmdprio_class=be"])).expect(0);
    assert!(done.stdout.contains("prio 2/0/0"), "{done:#?}");
}

#[test]
fn logs_and_report_tell_of_the_same_priorities() {
    let lab = Lab::new();
    let job = [
        "--filename=data",
        "--size=1m",
        "--rw=read",
        "--name=j",
        "--prio=3",
        "--write_lat_log",
        "--log_prio",
    ];
    let priorities = || -> Vec<String> {
        let text = String::from_utf8(lab.bytes("j_clat.1.log")).expect("text");
        text.lines().map(|line| line.split(", ").nth(4).expect(line).to_owned()).collect()
    };
    lab.json(&with(&job, &["--ioengine=psync"]));
    assert_eq!(priorities(), ["0x4003"; 256]);
    let own = ["--ioengine=io_uring", "--direct=1", "--cmdprio_percentage=30", "--cmdprio_class=idle"];
    let done = lab.run(&with(&with(&job, &own), &["--output-format=json"]));
    if done.code != Some(0) {
        eprintln!("skipped: no O_DIRECT or no io_uring here");
        return;
    }
    let json = done.json();
    let reported = |class: u64, level: u64| -> u64 {
        let prios = at(&json, "/jobs/0/read/prios").as_array().expect("an array");
        let of = prios.iter().find(|prio| prio["prioclass"] == class && prio["prio"] == level);
        of.expect("such I/Os")["clat_ns"]["N"].as_u64().expect("a count")
    };
    let logged = |text: &str| priorities().iter().filter(|priority| *priority == text).count() as u64;
    assert_eq!((logged("0x4003"), logged("0x6000")), (reported(2, 3), reported(3, 0)));
    assert_eq!(logged("0x4003") + logged("0x6000"), 256);
}

#[test]
fn priorities_need_an_engine_that_has_them() {
    let lab = Lab::new();
    for (job, why) in [
        (&["--ioengine=psync", "--cmdprio_percentage=10"][..], "io_uring"),
        (&["--ioengine=io_uring", "--cmdprio_percentage=10"], "needs `direct`"),
        (&["--ioengine=io_uring", "--direct=1", "--cmdprio=1"], "cmdprio_percentage"),
        (&["--ioengine=null", "--rw=write", "--write_hint=long"], "engine `null`"),
        (&["--ioengine=psync", "--rw=read", "--atomic"], "a workload that writes"),
        (&["--ioengine=psync", "--rw=write", "--atomic", "--bs=12k"], "power of two"),
        (&["--ioengine=psync", "--fdp"], "data placement"),
    ] {
        lab.run(&with(&["--filename=data", "--size=1m"], job)).expect(2).says(why);
    }
    assert!(lab.names().is_empty(), "a job that is refused makes no file");
}

#[test]
fn trims_of_several_ranges_are_refused_where_they_cannot_be() {
    let lab = Lab::new();
    for (job, why) in [
        (&["--ioengine=psync", "--rw=trim", "--num_range=8"][..], "use ioengine = \"spdk\""),
        (&["--ioengine=io_uring", "--rw=trim", "--num_range=2"], "the kernel takes one a call"),
        (&["--ioengine=sim", "--rw=trim", "--num_range=257"], "from 1 to 256"),
        (&["--ioengine=sim", "--rw=trim", "--num_range=0"], "from 1 to 256"),
        (&["--ioengine=sim", "--rw=randwrite", "--num_range=8"], "jobs that trim"),
        (&["--ioengine=sim", "--rw=trimwrite", "--num_range=8"], "jobs that trim"),
        (&["--ioengine=sim", "--rw=trim", "--num_range=8", "--filename=a:b"], "of one target"),
        (&["--ioengine=sim", "--rw=trim", "--num_range=8", "--serialize_overlap"], "on their way"),
        (&["--ioengine=sim", "--rw=trim", "--num_range=8", "--write_iolog=log"], "has one offset"),
        (&["--ioengine=sim", "--rw=trim", "--num_range=256", "--bs=16m", "--size=1g"], "4 GiB"),
        (
            &["--ioengine=sim", "--rw=trim", "--num_range=8", "--verify=crc32c", "--trim_verify_zero"],
            "in a job after it",
        ),
    ] {
        lab.run(&with(&["--filename=data", "--size=1m"], job)).expect(2).says(why);
    }
    assert!(lab.names().is_empty(), "a job that is refused makes no file");
}

/// Writes, trims all or some of it in commands of several ranges, and reads zeros there.
#[test]
fn a_trim_of_several_ranges_is_one_io_of_all_their_bytes() {
    let lab = Lab::new();
    let job = |more: &str, read: &str| {
        format!(
            "[global]\nioengine = \"sim\"\nfilename = \"drive\"\nsize = \"1m\"\nbs = \"4k\"\niodepth = 4\n\
             [[job]]\nname = \"write\"\nrw = \"write\"\nbuffer_pattern = \"0xaa\"\n\
             [[job]]\nname = \"trim\"\nstonewall = true\n{more}\n\
             [[job]]\nname = \"read\"\nstonewall = true\nrw = \"read\"\nverify = \"pattern\"\n{read}\n"
        )
    };
    let zeros = "verify_pattern = \"0x00\"";
    for (more, read, trims, bytes) in [
        // All of it, each block once, or its bytes would be more.
        ("rw = \"randtrim\"\nnum_range = 16", zeros, 16, 1 << 20),
        // The last one has what is left: 256 blocks are 36 times 7 and 4.
        ("rw = \"trim\"\nnum_range = 7", zeros, 37, 1 << 20),
        ("rw = \"randtrim\"\nnum_range = 256", zeros, 1, 1 << 20),
        ("rw = \"trim\"\nnum_range = 1", zeros, 256, 1 << 20),
        ("rw = \"randtrim\"\nnum_range = 8\nbs = \"512\"", zeros, 256, 1 << 20),
        ("rw = \"randtrim\"\nnum_range = 16\nrate = \"100m\"", zeros, 16, 1 << 20),
        // What is counted are trims.
        (
            "rw = \"trim\"\nnum_range = 4\nnumber_ios = 5",
            "size = \"80k\"\nverify_pattern = \"0x00\"",
            5,
            80 << 10,
        ),
        // And behind them nothing is.
        (
            "rw = \"trim\"\nnum_range = 4\nnumber_ios = 5",
            "offset = \"80k\"\nsize = \"944k\"\nverify_pattern = \"0xaa\"",
            5,
            80 << 10,
        ),
    ] {
        lab.file("ranges.toml", job(more, read));
        let json = lab.json(&["ranges.toml"]);
        let trim = |what: &str| at(&json, &format!("/jobs/1/trim/{what}")).as_u64().expect("a number");
        assert_eq!((trim("total_ios"), trim("io_bytes")), (trims, bytes), "{more}");
        assert_eq!(trim("clat_ns/N"), trims, "{more}");
    }
}

#[test]
fn a_hint_stands_at_the_file() {
    for engine in FILE_ENGINES {
        let lab = Lab::new();
        let job = ["--filename=data", "--size=1m", "--rw=write", engine];
        let done = lab.run(&with(&job, &["--write_hint=extreme"]));
        if done.code == Some(4) && done.stderr.contains("takes no write_hint") {
            eprintln!("skipped: this file system has no hints");
            return;
        }
        done.expect(0);
    }
}

#[test]
fn atomic_writes_are_refused_before_anything_is_written_where_they_cannot_be() {
    for engine in FILE_ENGINES {
        let lab = Lab::new();
        lab.marked("data", 1 << 20);
        let done = lab.run(&["--filename=data", "--rw=write", "--bs=16k", "--atomic", engine]);
        if done.code == Some(0) {
            eprintln!("skipped: this file system has atomic writes");
            return;
        }
        let done = done.expect(2);
        assert!(done.stderr.contains("atomic") || done.stderr.contains("O_DIRECT"), "{done:#?}");
        assert!(lab.bytes("data").iter().all(|&byte| byte == common::MARK));
    }
}
