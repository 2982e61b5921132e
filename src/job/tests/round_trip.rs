//! Jobs that are printed parse to themselves.

use proptest::prelude::*;

use super::super::options::OPTIONS;
use super::super::{parse, print};
use super::{job, over, parse_text};
use crate::base::shape::Amount;

/// Lines that are right on their own below [`BASE`].
const LINES: [&str; 102] = [
    "description = \"a \\\"text\\\" with \\\\ and \\u0007 and ü\"",
    "ioengine = \"null\"",
    "ioengine = \"io_uring\"",
    "filename = \"/tmp/a\"",
    "filename = [\"/tmp/a:b\", 'c\\d']",
    "filename = ['c\\d']",
    "directory = \"/tmp\"",
    "nrfiles = 3",
    "rw = \"randrw:16\"",
    "rw = \"write:4097\"",
    "rw = \"trimwrite\"",
    "rwmixread = 71",
    "rwmixwrite = 13",
    "bs = \"4097,8k\"",
    "bs = 1073741824",
    "bsrange = \"1k-1m\"",
    "bsrange = { read = \"512-4k\" }",
    "bssplit = \"4k/:64k/50:3/\"",
    "bssplit = \",8k/99:1\"",
    "blockalign = 512",
    "blockalign = { write = 3 }",
    "size = 12345678901",
    "size = \"33.3%\"",
    "io_size = 18446744073709551615",
    "io_size = \"50%\"",
    "offset = \"1m\"",
    "offset_increment = \"10%\"",
    "number_ios = 1000",
    "loops = 18446744073709551615",
    "runtime = \"1500us\"",
    "ramp_time = \"1h\"",
    "numjobs = 17",
    "iodepth = 256",
    "iodepth_batch = 3",
    "iodepth_batch_complete_min = 0",
    "iodepth_batch_complete_max = 7",
    "iodepth_low = 2",
    "direct = false",
    "sync = \"dsync\"",
    "fsync = 32",
    "fdatasync = 1",
    "randseed = 18446744073709551615",
    "randrepeat = false",
    "random_distribution = \"zipf:0.999,normal:12.5\"",
    "random_distribution = \"zoned:33.3/10::/20:/\"",
    "percentage_random = \"50,100,0\"",
    "cpus_allowed = \"0-3,9\"",
    "cpus_allowed_policy = \"split\"",
    "stonewall = true",
    "zero_buffers = true",
    "refill_buffers = true",
    "scramble_buffers = 0",
    "buffer_pattern = '0xabc\"x\"-12'",
    "buffer_compress_percentage = 50",
    "buffer_compress_chunk = \"4k\"",
    "dedupe_percentage = 30",
    "continue_on_error = [\"write\", \"verify\"]",
    "fallocate = \"keep\"",
    "registerfiles = false",
    "sqthread_poll_cpu = 3",
    "serialize_overlap = true",
    "reap_timeout = \"90s\"",
    "verify = \"sha3-512\"",
    "verify = \"none\"",
    "verify = \"crc32c-intel\"",
    "verify_pattern = 66",
    "verify_pattern = '%o'",
    "verify_pattern = '0xff%o\"abcd\"-12%o%o'",
    "verify = \"md5\"\nverify_pattern = '0x00%o'",
    "verify_pattern = '0x1'\nverify = 0",
    "verify_pattern = \"0x1\"\nverify_pattern_interval = 512",
    "do_verify = false",
    "rw = \"write\"\nverify = \"meta\"\nverify_only = true",
    "verify_interval = 512",
    "verify_offset = 100",
    "verify_fatal = true",
    "verify_dump = true",
    "verify_async = 2\nverify_async_cpus = \"1,3-5\"",
    "rw = \"randrw\"\nverify = \"crc64nvme\"\nverify_backlog = 1000\nverify_backlog_batch = 10",
    "verify_write_sequence = false",
    "verify_header_seed = false",
    "experimental_verify = true",
    "verify_policy = \"fsynced\"",
    "verify_order = \"written\"",
    "rw = \"write\"\nverify = \"xxhash\"\ntrim_percentage = 5\ntrim_backlog = 20\ntrim_backlog_batch = 4",
    "rw = \"trim\"\nverify = \"crc32c\"\ntrim_verify_zero = true",
    "verify_async = 0",
    "rate = \"100m\"",
    "rate = { write = \"1m\" }\nrate_ignore_thinktime = true\nthinktime = \"1ms\"\nrw = \"write\"",
    "rate_iops = \"1000,,5\"\nrate_process = \"poisson\"",
    "ratemin = \"1m\"\nratecycle = 500",
    "rate_iops_min = 50",
    "thinktime = 100\nthinktime_spin = 50\nthinktime_blocks = 7\nthinktime_blocks_type = \"issue\"",
    "thinktime = 1\nthinktime_iotime = 9\nthinkcycles = 1000",
    "flow = 3\nflow_id = 4\nflow_sleep = 5",
    "latency_target = 500\nlatency_window = \"2s\"\nlatency_percentile = 99.9\nlatency_run = true",
    "max_latency = \"10ms,,5\"",
    "io_submit_mode = \"inline\"",
    "ioengine = \"spdk\"\nfilename = \"0000:5e:00.0\"",
    "ioengine = \"spdk\"\nfilename = 'trtype=PCIe traddr=5e\\:00.0:trtype=PCIe traddr=5e.00.1 ns=3'",
    "ioengine = \"spdk\"\nfilename = [\"trtype=TCP traddr=::1 subnqn=nqn.2016-06.io.spdk:c1\"]\ndigest_enable = \"DATA\"",
    "ioengine = \"spdk\"\nfilename = \"trtype=VFIOUSER traddr=/x\"\nmem_single_seg = true\npi_chk = \"REFTAG\"",
];

/// Lines that are right on their own below [`VERIFYING`].
const VERIFIED: [&str; 22] = [
    "rw = \"read\"",
    "rw = \"randrw:4\"",
    "bs = \"64k\"",
    "bssplit = \"4k/50:12k/\"",
    "verify = \"sha512\"",
    "verify = \"crc7\"",
    "verify = \"none\"",
    "verify_pattern = \"0xdeadbeef%o\"",
    "verify_pattern = 0",
    "verify_interval = 512",
    "verify_offset = 192",
    "verify_fatal = true",
    "verify_dump = true",
    "verify_async = 2",
    "verify_backlog = 16",
    "verify_policy = \"completed\"",
    "verify_order = \"written\"",
    "trim_percentage = 10",
    "trim_verify_zero = true",
    "do_verify = false",
    "verify_only = true",
    "numjobs = 2",
];

const VERIFYING: &str = "[global]\nsize = \"1g\"\nrw = \"randwrite\"\nverify = \"crc32c\"\n";

const BASE: &str = "[global]\nsize = \"1g\"\nruntime = 5\niodepth = 64\nsqthread_poll = true\n";

#[test]
fn each_line_prints_and_parses_back() {
    for line in LINES {
        let jobs = parse_text(&format!("{BASE}[[job]]\n{line}\n"));
        let jobs = jobs.unwrap_or_else(|why| panic!("{line}\n{why}"));
        let printed = print(&jobs);
        assert_eq!(parse_text(&printed).as_ref(), Ok(&jobs), "{line}\n{printed}");
    }
}

#[test]
fn every_option_that_can_be_set_is_kept() {
    let lines = "[[job]]\nname = \"x\"\nbs = \"8k\"\nrw = \"read\"\ndirect = true\n";
    let options = &parse_text(lines).unwrap()[0].options;
    let expected = [("name", "\"x\""), ("bs", "\"8k\""), ("direct", "true")];
    let expected: Vec<(String, String)> =
        expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    assert_eq!(options, &expected);
}

proptest! {
    #[test]
    fn jobs_print_and_parse_back(picks in prop::collection::vec(prop::collection::vec(0..LINES.len(), 0..6), 1..5)) {
        let mut text = BASE.to_owned();
        for lines in picks {
            text.push_str("[[job]]\n");
            for line in lines {
                text.push_str(&format!("{}\n", LINES[line]));
            }
        }
        match parse_text(&text) {
            Ok(jobs) => prop_assert_eq!(parse_text(&print(&jobs)), Ok(jobs)),
            Err(why) => prop_assert!(why.iter().all(|one| one.line > 0)),
        }
    }

    #[test]
    fn jobs_that_verify_print_and_parse_back(picks in prop::collection::vec(0..VERIFIED.len(), 0..5)) {
        let lines: Vec<&str> = picks.iter().map(|&pick| VERIFIED[pick]).collect();
        match parse_text(&format!("{VERIFYING}[[job]]\n{}\n", lines.join("\n"))) {
            Ok(jobs) => prop_assert_eq!(parse_text(&print(&jobs)), Ok(jobs)),
            Err(why) => prop_assert!(why.iter().all(|one| one.line > 0)),
        }
    }

    #[test]
    fn any_text_is_a_value_or_a_mistake(name in 0..OPTIONS.len(), value in "\\PC*") {
        let set = over(&[(OPTIONS[name].name, &value)]);
        match parse(&[], &set) {
            Ok(jobs) => prop_assert_eq!(parse_text(&print(&jobs)), Ok(jobs)),
            Err(why) => prop_assert!(why.len() > 0 && !why.render(false).is_empty()),
        }
    }

    #[test]
    fn numbers_survive(size in 1_u64.., ns in 1_u64.., seed: u64, percent in 0.0..100.0_f64) {
        let text = format!(
            "size = \"{size}\"\nruntime = \"{ns}ns\"\nrandseed = \"{seed}\"\noffset = \"{percent}%\""
        );
        let job = job(&text);
        prop_assert_eq!(job.size, Some(Amount::Bytes(size)));
        prop_assert_eq!((job.runtime_ns, job.randseed), (Some(ns), Some(seed)));
        prop_assert_eq!(parse_text(&print(std::slice::from_ref(&job))), Ok(vec![job]));
    }
}
