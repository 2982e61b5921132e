//! The workloads: lists, and jobs put together from them.

use fio_spdk::base::random;

use super::trial::{Case, Trial};

const WORKLOADS: &[&str] = &[
    "rw = 'write'",
    "rw = 'randwrite'",
    "rw = 'rw'",
    "rw = 'randrw'; rwmixread = 30",
    "rw = 'trimwrite'",
    "rw = 'trimwrite'; trim_verify_zero = true",
    "rw = 'randtrimwrite'",
    "rw = 'randtrimwrite'; trim_verify_zero = true",
    "rw = 'trim'; trim_verify_zero = true",
    "rw = 'randtrim'; trim_verify_zero = true",
    "rw = 'write'; trim_percentage = 30",
    "rw = 'write'; trim_percentage = 30; trim_backlog = 7; trim_verify_zero = true",
    "rw = 'randwrite'; trim_percentage = 40; trim_backlog = 5; trim_backlog_batch = 3",
    "rw = 'randwrite'; trim_percentage = 60; trim_backlog = 3; trim_backlog_batch = 9; trim_verify_zero = true",
    "rw = 'randrw'; trim_percentage = 50; trim_verify_zero = true",
    "rw = 'randwrite:4'",
    "rw = 'randrw:3'",
    "rw = 'randtrimwrite:2'; trim_verify_zero = true",
    "rw = 'write:16k'",
    "rw = 'rw:48k'",
    "rw = 'trimwrite:16k'; trim_verify_zero = true",
];
const AMOUNTS: &[&str] = &[
    "",
    "",
    "number_ios = 1",
    "number_ios = 13",
    "number_ios = 37",
    "io_size = '100k'",
    "io_size = '700k'",
    "loops = 3",
    "loops = 3; number_ios = 29",
    "io_size = '300k'; loops = 2",
];
const PLACES: &[&str] = &[
    "",
    "",
    "norandommap = true",
    "random_distribution = 'zipf:1.1'",
    "random_distribution = 'pareto:0.3'",
    "random_distribution = 'normal:30'",
    "percentage_random = 50",
    "norandommap = true; blockalign = 512",
    "random_distribution = 'zoned:60/10:30/20:10/70'",
    "norandommap = true; percentage_random = 30",
];
const SIZES: &[&str] = &[
    "bs = '4k'",
    "bs = 512",
    "bs = '16k'",
    "bssplit = '4k/50:8k/30:16k/20'",
    "bssplit = '512/10:1536/60:16k/30'",
    "bsrange = '4k-16k'",
    "bsrange = '512-8k'",
    "bsrange = '3k-12k'",
    "bs = '12k'; verify_interval = '4k'",
    "bs = '16k'; verify_interval = 512",
    "bs = '16k'; verify_interval = '16k'",
    "bs = '16k,4k,8k'",
    "bs = '4k,12k,6k'",
];
const DEPTHS: &[&str] = &[
    "iodepth = 1",
    "iodepth = 4",
    "iodepth = 32",
    "iodepth = 32; iodepth_batch_submit = 8; iodepth_batch_complete_min = 4",
    "iodepth = 16; iodepth_low = 3",
    "iodepth = 8; serialize_overlap = true",
];
const READINGS: &[&str] = &[
    "",
    "",
    "verify_order = 'written'",
    "verify_backlog = 8",
    "verify_backlog = 16; verify_backlog_batch = 3",
    "verify_backlog = 1",
    "verify_backlog = 5; verify_order = 'written'",
    "verify_async = 2",
    "verify_async = 1; verify_order = 'written'; verify_backlog = 7",
];
const FLUSHES: &[&str] = &["", "", "fsync = 8", "fdatasync = 3; fsync = 7", "end_fsync = true", "fsync = 1"];
const METHODS: &[&str] = &[
    "verify = 'crc32c'",
    "verify = 'crc32c'",
    "verify = 'crc32c'",
    "verify = 'meta'",
    "verify = 'null'",
    "verify = 'sha512'",
    "verify = 'sha256'",
    "verify = 'crc7'",
    "verify = 'crc64nvme'",
    "verify = 'md5'",
    "verify = 'xxhash'",
    "verify = 'sha3-224'",
    "verify_pattern = '0xdeadbeef'",
    r#"verify_pattern = '0xff%o"end"'"#,
    "verify_pattern = '%o'; verify_pattern_interval = 512",
    "verify_pattern = '0x01%o'",
    "verify = 'crc32c'; verify_pattern = '0x010203%o'",
    r#"verify = 'pattern_hdr'; verify_pattern = '"abcd"%o'"#,
    "verify = 'crc16'; verify_pattern = 7",
    "verify = 'crc32c'; verify_offset = 64",
    "verify = 'sha1'; verify_offset = 128",
    "verify = 'meta'; verify_offset = 392",
    "verify = 'crc32c'; verify_write_sequence = false",
    "verify = 'crc32c'; verify_header_seed = false",
];
const RANGES: &[&str] = &[
    "size = '256k'",
    "size = '256k'",
    "size = '256k'",
    "size = 259584",
    "size = '192k'; nrfiles = 3",
    "size = '96k'; numjobs = 2",
    "size = '128k'; numjobs = 2; filename = 'shared'; offset_increment = '128k'",
    "size = '130k'; filename = 'one:two'; numjobs = 2; offset_increment = '65k'",
    "size = '96k'; numjobs = 2; group_reporting = true",
    "size = '96k'; filename = 'shared'; offset = 1536",
    "size = '64k'; numjobs = 3; filename = 'shared'; offset = '4k'; offset_increment = '65k'",
];
const DRIVES: &[&str] = &[
    "",
    "",
    "sim_cache = false",
    "sim_atomic_unit = '16k'",
    "sync = true",
    "sim_faults = { short = 0.3 }",
    "sim_latency = '20us'",
];
const FILES: &[&str] = &["", "", "invalidate = false", "sync = 'dsync'", "direct = true"];
const RINGS: &[&str] =
    &["", "", "invalidate = false", "fixedbufs = false", "registerfiles = false", "direct = true"];

/// What changes when I/Os are issued, and not which.
const PACES: &[&str] = &[
    "",
    "",
    "",
    "rate_iops = 100000",
    "rate_iops = 50000; rate_process = 'poisson'",
    "rate = '400m'",
    "thinktime = '10us'; thinktime_blocks = 8",
    "iodepth_batch_submit = 2",
];

/// Draws from lists by a seed.
struct Draw {
    seed: u64,
    turn: u64,
}

impl Draw {
    fn below(&mut self, n: u64) -> u64 {
        self.turn += 1;
        random::below(random::at(self.seed, self.turn), n)
    }

    fn one<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[usize::try_from(self.below(list.len() as u64)).unwrap()]
    }
}

/// Puts one job together. Lists: workload, amount, places, sizes, depth, reading, flush, method, range.
fn job_of(parts: [&str; 9]) -> Case {
    let [workload, amount, places, sizes, depth, reading, flush, method, range] = parts;
    let mut case = Case::default();
    [workload, amount, sizes, depth, range].into_iter().for_each(|part| case.add(part));
    // A block that is written as zeros cannot be told from a trimmed one.
    let is_mute = case.has("trim") && method.contains("'%o'");
    case.add(if is_mute { "verify_pattern = '0x01%o'; verify_pattern_interval = 512" } else { method });
    let places = if places.contains("blockalign") && case.has("verify_interval") {
        "norandommap = true"
    } else {
        places
    };
    if workload.contains("'rand") {
        case.add(places);
    }
    let only_trims = workload.contains("'trim'") || workload.contains("'randtrim'");
    if !only_trims {
        case.add(flush);
    }
    if !(only_trims && reading.contains("backlog")) {
        case.add(reading);
    }
    case
}

/// One job by chance, without its engine.
fn drawn_job(draw: &mut Draw, ranges: &[&str]) -> Case {
    let timed = draw.below(100) == 0;
    let amount = if timed { "runtime = '30ms'; time_based = true" } else { draw.one(AMOUNTS) };
    let case = job_of([
        draw.one(WORKLOADS),
        amount,
        draw.one(PLACES),
        draw.one(SIZES),
        draw.one(DEPTHS),
        draw.one(READINGS),
        draw.one(FLUSHES),
        draw.one(METHODS),
        draw.one(ranges),
    ]);
    let pace = draw.one(PACES);
    if case.has("iodepth_batch_submit") && pace.contains("iodepth_batch_submit") {
        case
    } else {
        case.with(pace)
    }
}

fn engine_lines(draw: &mut Draw, engine: &str, may_be_direct: bool) -> String {
    let seed = draw.seed;
    let (list, more) = match engine {
        "sim" => (DRIVES, format!("sim_seed = {seed};")),
        "io_uring" => (RINGS, String::new()),
        _ => (FILES, String::new()),
    };
    let one = draw.one(list);
    let one = if one.contains("direct") && !may_be_direct { "" } else { one };
    format!("ioengine = '{engine}'; randseed = {seed}; {more} {one}")
}

/// One job by chance.
pub fn drawn(seed: u64, engine: &str) -> Trial {
    let mut draw = Draw { seed, turn: 0 };
    let mut case = drawn_job(&mut draw, RANGES);
    let is_even = case.has("size = '256k'")
        && !case.has("= 512")
        && !case.has("512/")
        && !case.has("'512-")
        && !case.has("3k-");
    case.add(engine_lines(&mut draw, engine, is_even));
    finished(vec![case], &mut draw)
}

/// Jobs by chance, beside each other or one after the other, each with a region of one target.
pub fn several(seed: u64, engine: &str) -> Trial {
    let mut draw = Draw { seed, turn: 0 };
    let count = 2 + draw.below(2);
    let (lines, waits) = (engine_lines(&mut draw, engine, false), draw.below(4) == 0);
    let jobs = (0..count).map(|number| {
        let range = format!("filename = 'shared'; size = '64k'; offset = '{}k'", number * 64);
        let case = drawn_job(&mut draw, &[&range]).with(&lines);
        if number > 0 && waits { case.with("stonewall = true") } else { case }
    });
    let jobs = jobs.collect();
    finished(jobs, &mut draw)
}

fn finished(jobs: Vec<Case>, draw: &mut Draw) -> Trial {
    let can_be_again =
        |case: &Case| !case.has("time_based") && !case.has("rw = 'trim'") && !case.has("rw = 'randtrim'");
    let again = jobs.iter().all(can_be_again) && draw.below(3) == 0;
    Trial { jobs, again, spoil: again && draw.below(4) == 0, seed: draw.seed }
}

/// Each workload with each value of each list, and the simplest of everything else.
pub fn core() -> impl Iterator<Item = Trial> {
    let simple = ["", "", "", "bs = '4k'", "iodepth = 4", "", "", "verify = 'crc32c'", "size = '128k'"];
    let lists = [&[""], AMOUNTS, PLACES, SIZES, DEPTHS, READINGS, FLUSHES, METHODS, RANGES];
    let cases = WORKLOADS.iter().flat_map(move |workload| {
        lists.into_iter().enumerate().flat_map(move |(at, list)| {
            list.iter().map(move |value| {
                let mut parts = simple;
                parts[at] = value;
                parts[0] = workload;
                job_of(parts).with("ioengine = 'sim'; sim_seed = 7")
            })
        })
    });
    (0..).zip(cases).map(|(seed, case)| finished(vec![case], &mut Draw { seed, turn: 0 }))
}

/// Where the order in which I/Os were issued matters most: each way to read back with each method, on
/// I/Os that overlap each other in part.
pub fn overlapping() -> impl Iterator<Item = Trial> {
    let shapes =
        ["rw = 'randwrite'", "rw = 'randtrimwrite'", "rw = 'randrw'; trim_percentage = 40; trim_backlog = 3"];
    let cases = shapes.into_iter().flat_map(|shape| {
        READINGS[1..].iter().flat_map(move |reading| {
            METHODS[2..].iter().map(move |method| {
                let sizes = "bssplit = '4k/50:8k/30:16k/20'";
                let parts = [
                    shape,
                    "loops = 2",
                    "norandommap = true",
                    sizes,
                    "iodepth = 16",
                    reading,
                    "",
                    method,
                    "size = '128k'",
                ];
                job_of(parts).with("blockalign = 512; ioengine = 'sim'; sim_seed = 7")
            })
        })
    });
    (0..).zip(cases).map(|(seed, case)| finished(vec![case], &mut Draw { seed, turn: 0 }))
}
