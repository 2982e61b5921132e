//! The options of verification: what they come to, and what is refused.

use super::super::options::OPTIONS;
use super::{errors, job, message, over};
use crate::base::verify::{Method, OnUnwritten, Pattern, Policy, VerifyOrder, VerifySpec};
use crate::job::{parse, print};

#[test]
fn a_job_without_options_verifies_nothing() {
    assert_eq!(job("").verify, VerifySpec::default());
}

#[test]
fn every_method_has_its_name() {
    for (name, method) in Method::ALL {
        let pattern = if name.starts_with("pattern") { "verify_pattern = 1" } else { "" };
        assert_eq!(job(&format!("verify = \"{name}\"\n{pattern}")).verify.method, Some(method));
    }
    let offered = OPTIONS.iter().find(|option| option.name == "verify").unwrap().choices();
    assert_eq!(offered.len(), Method::ALL.len() + 1);
    assert_eq!(job("verify = \"crc32c-intel\"").verify.method, Some(Method::Crc32c));
    for none in ["\"none\"", "0", "\"0\"", "false"] {
        assert_eq!(job(&format!("verify = {none}")), job(""));
    }
    let shown = errors("[[job]]\nverify = \"crc32d\"\n").render(false);
    assert!(shown.contains("did you mean `crc32`?") || shown.contains("did you mean `crc32c`?"), "{shown}");
}

#[test]
fn a_pattern_alone_is_the_method_and_none_takes_it_away() {
    let bytes = |lines: &str| (job(lines).verify.method, job(lines).verify.pattern.map(|one| one.bytes));
    assert_eq!(bytes("verify_pattern = 66"), (Some(Method::PatternHdr), Some(vec![0x42])));
    assert_eq!(bytes("verify_pattern = '\"abc\"'"), (Some(Method::PatternHdr), Some(b"abc".to_vec())));
    for lines in ["verify = \"md5\"\nverify_pattern = '0x12'", "verify_pattern = '0x12'\nverify = \"md5\""] {
        assert_eq!(bytes(lines), (Some(Method::Md5), Some(vec![0x12])));
    }
    let files = [("f".to_owned(), "[global]\nverify_pattern = \"%o\"\n[[job]]\n".to_owned())];
    let jobs = parse(&files, &[]).unwrap();
    let stamp = Pattern { bytes: vec![0; 8], offsets: vec![0] };
    assert_eq!(jobs[0].verify.pattern, Some(stamp));
    assert!(print(&jobs).contains("verify_pattern = \"%o\""));
    let jobs = parse(&files, &over(&[("verify", "none")])).unwrap();
    assert_eq!(jobs[0].verify, VerifySpec::default());
}

#[test]
fn values_land_in_their_fields() {
    let one = job("rw = \"randwrite\"\nverify = \"sha1\"\nverify_interval = \"1k\"\nverify_offset = 512\n\
         verify_fatal = 1\nverify_dump = 1\nverify_async = 3\nverify_async_cpus = \"1-2\"\nverify_backlog = \"1k\"\n\
         verify_backlog_batch = 7\nverify_policy = \"fsynced\"\nverify_order = \"written\"\nverify_unwritten = \"allow\"\ntrim_percentage = 9\n\
         trim_verify_zero = true\ntrim_backlog = 5\ntrim_backlog_batch = 6\nverify_write_sequence = 0\n\
         verify_header_seed = 0\nverify_only = true\nserialize_overlap = true\nreap_timeout = \"100ms\"");
    let expected = VerifySpec {
        method: Some(Method::Sha1),
        do_verify: true,
        only: true,
        interval: Some(1024),
        offset: 512,
        pattern: None,
        pattern_interval: None,
        fatal: true,
        dump: true,
        async_threads: 3,
        async_cpus: Some(vec![1, 2]),
        backlog: 1024,
        backlog_batch: 7,
        write_sequence: false,
        header_seed: false,
        policy: Policy::Fsynced,
        order: VerifyOrder::Written,
        unwritten: OnUnwritten::Allow,
        trim_percentage: 9,
        trim_verify_zero: true,
        trim_backlog: 5,
        trim_backlog_batch: 6,
    };
    assert_eq!(one.verify, expected);
    assert_eq!((one.serialize_overlap, one.reap_timeout_ns), (true, 100_000_000));
}

#[test]
fn each_rule_has_its_message() {
    const WRITE: &str = "rw = \"write\"\nsize = \"1g\"\nverify = \"crc32c\"\n";
    for (lines, word) in [
        ("verify_interval = 1001\nbs = 1001", "no multiple of 8"),
        ("verify_interval = 120", "128B is the least"),
        ("verify_interval = \"8k\"", "one is 4KiB"),
        ("verify_interval = \"4k\"\nbssplit = \"4k/:6k/\"", "one is 6KiB"),
        ("bs = 1000", "set verify_interval = 1000"),
        ("bs = 4097", "such as 512"),
        ("bsrange = \"3-9\"", "such as 512"),
        ("verify_offset = 4045", "at most 4044"),
        ("verify_offset = 51", "at least 52"),
        ("verify_pattern_interval = 512", "needs `verify_pattern`"),
        ("verify_pattern = 1\nverify_pattern_interval = 1000", "8 would do"),
        ("verify_only = true\ntime_based = true\nruntime = 1", "how far"),
        ("verify_only = true\ndo_verify = false", "nothing is left to do"),
        ("verify_async_cpus = 1", "needs `verify_async`"),
        ("verify_backlog_batch = 1", "needs `verify_backlog`"),
        ("trim_backlog = 1", "needs `trim_percentage`"),
        ("trim_percentage = 101", "above 100"),
        ("zero_buffers = true", "use `verify_pattern`"),
        ("buffer_pattern = \"0x1\"", "use `verify_pattern`"),
        ("buffer_compress_percentage = 10", "use `verify_pattern`"),
        ("dedupe_percentage = 10", "use `verify_pattern`"),
        ("ioengine = \"null\"", "set do_verify = false to measure generating"),
        ("ioengine = \"null\"\ndo_verify = false\nverify_backlog = 4", "leave `verify_backlog` out"),
        ("reap_timeout = 0", "at once"),
        ("verify_policy = \"fsyncd\"", "did you mean `fsynced`"),
        ("verify_pattern = 256", "in which order"),
        ("verify_pattern = '%p'", "only format is %o"),
        ("verify_state_load = true\nverify_state_continue = true", "leave one of them out"),
        ("trigger_timeout = \"40s..20s\"", "a window that rises"),
        ("trigger_timeout = 0", "a time above 0"),
        ("trigger_ios = 0", "below 1"),
        ("trigger_mode = \"halt\"", "none of the choices"),
        ("state_dir = \"\"", "cannot be a path"),
    ] {
        let shown = errors(&format!("[[job]]\n{WRITE}{lines}\n")).render(false);
        assert!(shown.contains(word), "{lines}: {shown}");
    }
    for (lines, word) in [
        ("verify = \"pattern\"", "needs `verify_pattern`"),
        ("verify = \"pattern_hdr\"", "needs `verify_pattern`"),
        ("rw = \"write\"\nverify_only = true", "needs `verify`"),
        ("verify = \"md5\"\nverify_only = true", "needs a workload that writes"),
        ("verify = \"md5\"\nverify_backlog = 2", "needs a workload that writes"),
        ("rw = \"write\"\ntrim_percentage = 2", "needs `verify`"),
        ("trim_verify_zero = true", "needs `verify`"),
        ("rw = \"trim\"\nverify = \"md5\"", "nothing to verify"),
        ("rw = \"randwrite:4\"\nverify = \"md5\"\nverify_interval = \"4k\"\nblockalign = 512", "one is 512B"),
        ("rw = \"write:512\"\nverify = \"md5\"\nverify_interval = \"4k\"", "one is 512B"),
        ("rw = \"randrw\"\nbs = \"3,512\"\nverify = \"md5\"\nverify_interval = \"4k\"", "one is 512B"),
    ] {
        assert!(message(lines).contains(word), "{lines}: {}", message(lines));
    }
    errors("[[job]]\nioengine = \"null\"\nsize = \"1g\"\nverify = \"md5\"\ndo_verify = false\n");
}

#[test]
fn what_makes_sense_together_is_accepted() {
    for lines in [
        "ioengine = \"null\"\nsize = \"1g\"\nrw = \"write\"\nverify = \"md5\"\ndo_verify = false",
        "ioengine = \"null\"\nsize = \"1g\"\nverify = \"null\"",
        "bs = 1000\nverify = \"md5\"\nverify_interval = 1000",
        "bs = \"4k,1000\"\nverify = \"crc32c\"",
        "verify = \"crc32c\"\nzero_buffers = true",
        "rw = \"write\"\nbs = 64\nverify_pattern = 1",
        "rw = \"write\"\nblockalign = 3\nverify = \"crc32c\"\nnorandommap = true",
        "rw = \"write\"\nbs = 512\nverify = \"sha512\"",
        "rw = \"randrw\"\nverify = \"md5\"\ntime_based = true\nruntime = 1",
        "rw = \"write\"\nverify = \"crc32c\"\nverify_offset = 4044",
        "rw = \"write\"\nverify = \"crc32c\"\nverify_offset = 52",
        "rw = \"write\"\nverify_pattern = 7\nverify_offset = 48",
        "rw = \"write\"\nverify = \"pattern\"\nverify_pattern = 7\nverify_offset = 1",
        "verify_interval = 512\nverify_fatal = true",
    ] {
        job(lines);
    }
}

#[test]
fn verify_only_overrides_do_verify_of_an_earlier_level() {
    let file = "[global]\ndo_verify = false\n[[job]]\nrw = \"write\"\nverify = \"md5\"\n";
    let verify = |text: &str, set: &[(&str, &str)]| {
        let jobs = parse(&[("j.toml".to_owned(), text.to_owned())], &over(set));
        jobs.map(|jobs| (jobs[0].verify.only, jobs[0].verify.do_verify))
    };
    assert_eq!(verify(file, &[]), Ok((false, false)));
    assert_eq!(verify(file, &[("verify_only", "true")]), Ok((true, true)));
    assert_eq!(verify(file, &[("verify_state_load", "true")]), Ok((true, true)));
    assert_eq!(verify(&format!("{file}verify_only = true\n"), &[]), Ok((true, true)));
    // An earlier word does not.
    let only = file.replace("do_verify = false", "verify_only = true");
    assert!(verify(&only, &[("do_verify", "false")]).is_err());
    assert!(verify(&format!("{only}do_verify = false\n"), &[]).is_err());
}
