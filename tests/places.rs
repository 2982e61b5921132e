//! Where I/Os go beyond pattern, size and distribution, told by what they leave. Beside fio:
//! `distributions_against_fio.rs`.

mod common;

use common::{KIB, Lab, MARK, MIB, changed, first, with};

const BS: u64 = 4 * KIB;

/// The blocks of 4 KiB that a job visits, in order.
fn ours(job: &[&str]) -> Vec<u64> {
    let set = with(&["--name=x", "--ioengine=null", "--bs=4k"], job);
    let pairs: Vec<(String, String)> = set
        .iter()
        .filter_map(|option| option.trim_start_matches("--").split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let text: String = pairs.iter().map(|(name, value)| format!("{name} = \"{value}\"\n")).collect();
    let jobs = fio_spdk::job::parse(&[("job".to_owned(), format!("[[job]]\n{text}"))], &[]);
    let jobs = jobs.unwrap_or_else(|why| panic!("{text}: {why}"));
    let (random, places) = (jobs[0].random, jobs[0].places());
    let fio_spdk::base::shape::Amount::Bytes(bytes) = jobs[0].size.expect("a size") else { panic!("bytes") };
    let mut workload = fio_spdk::workload::Workload::new(&fio_spdk::workload::WorkloadSpec {
        regions: vec![fio_spdk::workload::Region { target: 0, start: 0, bytes }],
        service: Default::default(),
        log: None,
        mix: jobs[0].mix,
        read_percent: 50,
        random,
        coverage: true,
        modifier: jobs[0].rw_modifier,
        sizes: jobs[0].bs.clone(),
        align: jobs[0].blockalign.clone(),
        distribution: jobs[0].random_distribution.clone(),
        percentage_random: jobs[0].percentage_random.clone(),
        places,
        trim: None,
        seed: 1,
        limit: fio_spdk::workload::Limit { bytes: Some(bytes), ..Default::default() },
    })
    .expect("a workload");
    std::iter::from_fn(|| workload.next()).map(|step| step.offset / BS).collect()
}

#[test]
fn what_is_skipped_is_left_alone_and_what_is_not_is_verified() {
    for engine in ["--ioengine=psync", "--ioengine=io_uring"] {
        for rw in ["--rw=write", "--rw=randwrite"] {
            let lab = Lab::new();
            lab.marked("data", MIB);
            let job = [
                "--filename=data",
                "--size=1m",
                "--bs=4k",
                "--zonemode=strided",
                "--zonesize=64k",
                "--zonerange=64k",
                "--zoneskip=64k",
                "--verify=crc32c",
                "--iodepth=8",
                engine,
                rw,
            ];
            let json = lab.json(&job);
            assert_eq!(first(&json, "/write/io_bytes"), MIB);
            let expected: Vec<bool> = (0..256).map(|block| block / 16 % 2 == 0).collect();
            assert_eq!(changed(&lab.bytes("data"), BS), expected, "{engine} {rw}");
        }
    }
}

#[test]
fn whatever_comes_back_to_a_block_is_verified() {
    let jobs: [&[&str]; 6] = [
        &["--rw=randwrite:4", "--rw_sequencer=identical"],
        &["--rw=randwrite", "--random_distribution=sequence:2,0,1,7"],
        &["--rw=randwrite", "--random_distribution=sequence:2,0,1", "--random_sequence_stride"],
        &["--rw=randwrite", "--random_distribution=zoned_abs:60/64k:40/128k"],
        &["--rw=randwrite", "--sprandom", "--spr_num_regions=8", "--spr_op=0.28"],
        &["--rw=randwrite", "--percentage_random=40", "--bs_is_seq_rand", "--bs=4k,8k"],
    ];
    for job in jobs {
        let lab = Lab::new();
        lab.marked("data", MIB);
        let base = ["--filename=data", "--size=1m", "--verify=crc32c", "--ioengine=io_uring", "--iodepth=16"];
        lab.json(&with(&base, job));
    }
}

#[test]
fn a_sequence_visits_its_blocks_alone_and_with_strides_all() {
    for (more, reached) in [(&[][..], vec![0, 1, 2, 5]), (&["--random_sequence_stride"], (0..15).collect())] {
        let lab = Lab::new();
        lab.marked("data", 64 * KIB);
        let job =
            ["--filename=data", "--size=64k", "--rw=randwrite", "--random_distribution=sequence:2,0,1,5"];
        let job = if more.is_empty() {
            job.to_vec()
        } else {
            vec![job[0], job[1], job[2], "--random_distribution=sequence:2,0,1"]
        };
        lab.json(&with(&job, more));
        let bytes = lab.bytes("data");
        let written: Vec<u64> =
            (0..).zip(changed(&bytes, BS)).filter(|(_, yes)| *yes).map(|(at, _)| at).collect();
        assert_eq!(written, reached);
    }
    Lab::new()
        .run(&["--ioengine=null", "--size=64k", "--rw=randread", "--random_distribution=sequence:2,16"])
        .expect(2)
        .says("reaches to byte");
}

#[test]
fn zones_of_bytes_leave_what_is_behind_them_alone() {
    let lab = Lab::new();
    lab.marked("data", MIB);
    let shape = "--random_distribution=zoned_abs:90/64k:10/64k";
    lab.json(&["--filename=data", "--size=1m", "--io_size=8m", "--rw=randwrite", shape]);
    assert_eq!(changed(&lab.bytes("data"), BS), (0..256).map(|block| block < 32).collect::<Vec<_>>());
}

#[test]
fn identical_offsets_come_as_often_as_the_number_says() {
    let visits = ours(&["--rw=randread:4", "--rw_sequencer=identical", "--size=1m"]);
    assert_eq!(visits.len(), 256);
    let mut offsets: Vec<u64> = visits
        .chunks(4)
        .map(|run| {
            assert!(run.iter().all(|block| block == &run[0]), "{run:?}");
            run[0]
        })
        .collect();
    offsets.sort_unstable();
    offsets.dedup();
    assert_eq!(offsets.len(), 64, "with coverage no offset comes in two runs");
}

#[test]
fn lfsr_covers_without_a_map() {
    let lab = Lab::new();
    lab.marked("data", MIB);
    lab.json(&["--filename=data", "--size=1m", "--rw=randwrite", "--norandommap", "--random_generator=lfsr"]);
    assert!(changed(&lab.bytes("data"), BS).iter().all(|&yes| yes));
}

#[test]
fn lengths_follow_the_order_with_bs_is_seq_rand_and_may_be_odd_with_bs_unaligned() {
    let lab = Lab::new();
    let base = ["--ioengine=null", "--size=1m", "--bs_is_seq_rand", "--bs=4k,16k"];
    for (rw, ios) in [("--rw=read", 256), ("--rw=write", 256), ("--rw=randread", 64), ("--rw=randwrite", 64)]
    {
        let json = lab.json(&with(&base, &[rw]));
        assert_eq!(first(&json, "/read/total_ios") + first(&json, "/write/total_ios"), ios, "{rw}");
    }
    lab.marked("data", MIB);
    let json = lab.json(&["--filename=data", "--size=1m", "--rw=write", "--bsrange=1k-9k", "--bs_unaligned"]);
    let mean = first(&json, "/write/io_bytes") / first(&json, "/write/total_ios");
    assert!((4700..5600).contains(&mean), "{mean}");
    assert!(first(&json, "/write/io_bytes") > MIB - 9 * KIB);
}

#[test]
fn offsets_that_are_shares_are_aligned() {
    let lab = Lab::new();
    lab.marked("data", MIB);
    let job = ["--filename=data", "--offset=33%", "--offset_align=64k", "--io_size=4k", "--rw=write"];
    lab.json(&job);
    let bytes = lab.bytes("data");
    let written = bytes.iter().position(|&byte| byte != MARK);
    assert_eq!(written, Some(6 * 64 * 1024));
}

#[test]
fn what_makes_no_sense_is_refused_with_what_would() {
    let refused: [(&[&str], &str); 13] = [
        (&["--zonemode=zbd"], "zoned namespaces are not supported"),
        (&["--zonemode=strided"], "needs `zonesize`"),
        (&["--zonesize=64k"], "needs `zonemode"),
        (&["--zonemode=strided", "--zonesize=2k"], "no room for an I/O"),
        (&["--max_open_zones=3"], "zoned namespaces are not supported"),
        (&["--rw_sequencer=identical"], "randread:8"),
        (&["--bs_unaligned"], "needs `bsrange`"),
        (&["--sprandom"], "one pass of random writes"),
        (&["--rw=randwrite", "--sprandom", "--time_based", "--runtime=1"], "begun again"),
        (&["--rw=randwrite", "--sprandom", "--loops=2"], "begun again"),
        (&["--spr_cs=1m"], "needs `sprandom`"),
        (&["--softrandommap"], "need no map"),
        (&["--verifysort"], "verify_order"),
    ];
    for (job, why) in refused {
        Lab::new().run(&with(&["--ioengine=null", "--size=1m"], job)).expect(2).says(why);
    }
    let wrong = ["--ioengine=null", "--size=1m", "--direct=1", "--buffered=1"];
    Lab::new().run(&wrong).expect(2).says("sets the same as");
}
