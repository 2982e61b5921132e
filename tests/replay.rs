//! Logs of I/Os through the program: written, replayed, merged, judged, and refused.

mod common;

use std::fs;
use std::time::Duration;

use fio_spdk::base::clock::Clock;
use fio_spdk::base::random;
use fio_spdk::base::replay::ReplayRules;
use fio_spdk::trace::{Reader, Trouble};

use common::{FILE_ENGINES, Lab, at, first, number};

/// A log of version 3 with these lines behind its first.
fn log(lines: &str) -> String {
    format!("fio version 3 iolog\n{lines}")
}

/// The lines of a log without times, and without those of files.
fn ios(text: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(text).into_owned();
    assert!(text.starts_with("fio version 3 iolog\n"), "{text}");
    let lines = text.lines().skip(1).map(|line| line.split_once(' ').expect("a time").1.to_owned());
    lines.filter(|line| ![" add", " open", " close"].iter().any(|end| line.ends_with(end))).collect()
}

/// The events of a blktrace: time in nanoseconds, sector, bytes, categories.
fn blktrace(events: &[(u64, u64, u32, u32)], big: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for &(time, sector, bytes, categories) in events {
        let mut add = |value: u64, width: usize| {
            let mut bytes = value.to_le_bytes()[..width].to_vec();
            if big {
                bytes.reverse();
            }
            out.extend(bytes);
        };
        for (value, width) in [(0x6561_7407, 4), (1, 4), (time, 8), (sector, 8), (u64::from(bytes), 4)] {
            add(value, width);
        }
        for (value, width) in
            [(u64::from(categories << 16 | 1), 4), (7, 4), (0xfff0_0000, 4), (0, 4), (0, 2), (0, 2)]
        {
            add(value, width);
        }
    }
    out
}

const READ: u32 = 1;
const WRITE: u32 = 2;
const FLUSH: u32 = 4;
const DISCARD: u32 = 1 << 13;

#[test]
fn what_was_written_down_is_replayed_i_o_for_i_o() {
    for engine in FILE_ENGINES {
        let lab = Lab::new();
        let json = lab.json(&[
            engine,
            "--filename=a:b",
            "--size=256k",
            "--rw=randrw",
            "--bssplit=512/30:4k/70",
            "--iodepth=4",
            "--fdatasync=5",
            "--end_fsync",
            "--write_iolog=first.log",
        ]);
        let replayed =
            lab.json(&[engine, "--read_iolog=first.log", "--iodepth=4", "--write_iolog=second.log"]);
        let (one, two) = (ios(&lab.bytes("first.log")), ios(&lab.bytes("second.log")));
        assert_eq!(one, two);
        assert!(one.iter().any(|line| line.ends_with("datasync 0 0")));
        for pointer in
            ["/read/io_bytes", "/write/io_bytes", "/read/total_ios", "/write/total_ios", "/sync/total_ios"]
        {
            assert_eq!(first(&json, pointer), first(&replayed, pointer), "{pointer}");
        }
    }
}

#[test]
fn each_clone_writes_a_log_of_its_own_and_several_logs_are_dealt_to_the_clones() {
    let lab = Lab::new();
    lab.run(&["--name=j", "--numjobs=2", "--size=64k", "--rw=write", "--write_iolog=log"]).expect(0);
    assert_eq!(ios(&lab.bytes("log.0"))[0], "j.0.0 write 0 4096");
    assert_eq!(ios(&lab.bytes("log.1"))[15], "j.1.0 write 61440 4096");
    let json = lab.json(&["--numjobs=2", "--read_iolog=log.0:log.1", "--write_iolog=again"]);
    assert_eq!(common::jobs(&json).len(), 2);
    for log in ["0", "1"] {
        assert_eq!(ios(&lab.bytes(&format!("again.{log}"))), ios(&lab.bytes(&format!("log.{log}"))));
    }
    lab.run(&["--read_iolog=log.0:log.1"]).expect(2).says("the last would never be replayed");
}

#[test]
fn times_are_kept_scaled_and_left_out() {
    let lab = Lab::new();
    lab.file("log", log("0 f add\n0 f write 0 4096\n200000 f write 4096 4096\n400000 f write 8192 4096\n"));
    lab.file("hours", log("0 f add\n0 f write 0 4096\n7200000000 f write 4096 4096\n"));
    lab.file("v2", "fio version 2 iolog\nf add\nf write 0 4096\nf wait 150000 0\nf write 4096 4096\nf wait 150000 0\nf read 0 512\n");
    let took = |options: &[&str]| {
        let begun_ns = Clock::get().now_ns();
        lab.run(options).expect(0);
        Duration::from_nanos(Clock::get().now_ns() - begun_ns)
    };
    assert!(took(&["--read_iolog=log"]) >= Duration::from_millis(400));
    assert!(took(&["--read_iolog=log", "--replay_time_scale=50"]) >= Duration::from_millis(800));
    assert!(took(&["--read_iolog=v2"]) >= Duration::from_millis(300));
    // They would take two hours otherwise.
    took(&["--read_iolog=hours", "--replay_no_stall"]);
    assert!(took(&["--read_iolog=hours", "--replay_time_scale=1000000"]) >= Duration::from_millis(700));
    took(&["--read_iolog=hours", "--runtime=200ms"]);
}

#[test]
fn an_i_o_is_due_whatever_became_of_the_one_before() {
    let lab = Lab::new();
    lab.file("log", log("0 f add\n0 f write 0 4096\n50000 f write 4096 4096\n100000 f write 8192 4096\n"));
    let lines = |name: &str| String::from_utf8(lab.bytes(name)).unwrap();
    lab.json(&["--read_iolog=log", "--write_iolog=out"]);
    let text = lines("out");
    let times =
        text.lines().filter(|line| line.contains(" write ")).map(|line| line.split(' ').next().unwrap());
    let times: Vec<u64> = times.map(|time| time.parse().unwrap()).collect();
    assert!(times[1] >= 25_000 && times[2] >= 75_000, "{times:?}");
}

#[test]
fn offsets_are_moved_commands_left_out_and_targets_replaced() {
    let lab = Lab::new();
    let text = "0 a add\n0 b add\n0 a read 81920 4096\n1 b write 42000 512\n2 a sync 0 0\n3 b trim 8192 4096\n4 a datasync 0 0\n";
    lab.file("log", log(text));
    let replayed = |options: &[&str]| {
        lab.run(&[&["--read_iolog=log", "--write_iolog=out"], options].concat()).expect(0);
        ios(&lab.bytes("out"))
    };
    assert_eq!(
        replayed(&["--replay_redirect=c", "--replay_scale=2", "--replay_align=1k"]),
        ["c read 40960 4096", "c write 20480 512", "c sync 0 0", "c trim 4096 4096", "c datasync 0 0"]
    );
    assert!(!lab.path("a").exists() && !lab.path("b").exists() && lab.path("c").exists());
    assert_eq!(replayed(&["--replay_skip=write,trim,sync"]), ["a read 81920 4096"]);
    assert!(!lab.path("b").exists(), "nothing is left to do there");
    assert_eq!(replayed(&["--replay_skip=read", "--number_ios=2"]), ["b write 42000 512", "a sync 0 0"]);
}

#[test]
fn a_blktrace_is_replayed_in_either_byte_order_and_from_the_files_of_all_cpus() {
    let lab = Lab::new();
    let one = [(1000, 0, 4096, READ), (3000, 64, 1000, WRITE), (5000, 0, 0, FLUSH | WRITE)];
    let two = [(2000, 16, 8192, WRITE), (4000, 8, 4096, DISCARD | WRITE)];
    lab.file("little", blktrace(&one, false)).file("big", blktrace(&one, true));
    lab.file("sda.blktrace.0", blktrace(&one, false))
        .file("sda.blktrace.1", b"")
        .file("sda.blktrace.3", blktrace(&two, true));
    let replayed = |log: &str, more: &[&str]| {
        let options = ["--replay_redirect=f", "--write_iolog=out", "--direct=0", log];
        lab.run(&[&options, more].concat()).expect(0);
        ios(&lab.bytes("out"))
    };
    let first = ["f read 0 4096", "f write 32768 1000", "f sync 0 0"];
    assert_eq!(replayed("--read_iolog=little", &[]), first);
    assert_eq!(replayed("--read_iolog=big", &[]), first);
    // With replay_align lengths are rounded up.
    assert_eq!(replayed("--read_iolog=big", &["--replay_align=4k"])[1], "f write 32768 4096");
    let merged =
        ["f read 0 4096", "f write 8192 8192", "f write 32768 1000", "f trim 4096 4096", "f sync 0 0"];
    assert_eq!(replayed("--read_iolog=sda", &[]), merged);
    assert_eq!(replayed("--read_iolog=sda.blktrace.3", &[]), merged);
    lab.run(&["--read_iolog=little"])
        .expect(2)
        .says("device 4095:0, which this machine does not have: set replay_redirect");
}

#[test]
fn blktraces_are_merged_scaled_and_repeated() {
    let lab = Lab::new();
    lab.file("one", blktrace(&[(0, 0, 512, READ), (1000, 1, 512, READ)], false));
    lab.file("two", blktrace(&[(100, 10, 512, READ), (900, 11, 512, READ)], true));
    let options =
        ["--read_iolog=one:two", "--merge_blktrace_file=both", "--replay_redirect=f", "--write_iolog=out"];
    let scale = ["--merge_blktrace_scalars=50:100", "--merge_blktrace_iters=2:1"];
    lab.run(&[options.as_slice(), &scale].concat()).expect(0);
    let offsets: Vec<String> =
        ios(&lab.bytes("out")).iter().map(|line| line.split(' ').nth(2).unwrap().to_owned()).collect();
    // At 0, 0, 500, 500, 800 and 1000.
    assert_eq!(offsets, ["0", "5120", "512", "0", "5632", "512"]);
    assert_eq!(lab.bytes("both").len(), 6 * 48);
    let other = |more: &[&str]| lab.run(&[&["--read_iolog=one:two", "--replay_redirect=f"], more].concat());
    other(&["--merge_blktrace_file=one"]).expect(2).says("one is one of the logs to be merged");
    other(&["--merge_blktrace_file=x", "--merge_blktrace_iters=1"])
        .expect(2)
        .says("has 1 numbers for 2 logs");
    lab.file("text", log("0 f add\n"));
    lab.run(&["--read_iolog=text", "--merge_blktrace_file=x"]).expect(2).says("only those can be merged");
}

#[test]
fn what_is_wrong_with_a_log_is_told_with_its_line_before_anything_is_touched() {
    let lab = Lab::new();
    let head = "0 f add\n0 f write 0 4096\n";
    for (line, why) in [
        ("5 f write -4096 4096", "line 4: the offset `-4096` is negative"),
        ("5 f write 0 99999999999", "line 4: a write of 99999999999 bytes is too long"),
        (
            "5 f write 9223372036854775807 4096",
            "line 4: offset 9223372036854775807 with length 4096 ends beyond 2^63",
        ),
        ("5 g write 0 4096", "line 4: `g` was not added before"),
        ("5 f scribble 0 4096", "line 4: `scribble` is no action"),
        ("\0\u{1}\u{2}", "line 4: the time"),
        ("fio version 3 iolog", "line 4: a second log begins here"),
    ] {
        lab.file("log", log(&format!("{head}{line}\n")));
        lab.run(&["--read_iolog=log"]).expect(2).says(why);
    }
    lab.file("empty", "").file("lines", "1, 4096, 512\n").file("nothing", log("0 f add\n0 f open\n"));
    lab.run(&["--read_iolog=empty"]).expect(2).says("line 1: the log is empty");
    lab.run(&["--read_iolog=lines"]).expect(2).says("line 1: this is neither a log of fio");
    lab.run(&["--read_iolog=nothing"]).expect(2).says("there is no I/O in it");
    lab.run(&["--read_iolog=absent"]).expect(2).says("read_iolog absent: cannot read it: No such file");
    lab.file("cut", &blktrace(&[(0, 0, 512, READ)], false)[..40]);
    lab.run(&["--read_iolog=cut", "--replay_redirect=f"]).expect(2).says("event 1: the file ends within it");
    assert!(!lab.path("f").exists());
}

#[test]
fn options_that_shape_what_is_generated_are_refused_beside_a_log() {
    let lab = Lab::new();
    lab.file("log", log("0 f add\n0 f write 0 4096\n"));
    for option in [
        "--rw=write",
        "--bs=8k",
        "--size=1m",
        "--filename=g",
        "--loops=2",
        "--fsync=3",
        "--zonemode=strided",
        "--file_service_type=random",
        "--filesize=1m",
        "--opendir=.",
        "--file_append",
        "--random_generator=lfsr",
    ] {
        let name = option[2..].split('=').next().unwrap();
        let why = format!("`{name}` means nothing beside `read_iolog`");
        lab.run(&["--read_iolog=log", option]).expect(2).says(&why);
    }
    lab.run(&["--rw=read", "--size=4k", "--replay_scale=2"])
        .expect(2)
        .says("`replay_scale` needs `read_iolog`");
    lab.run(&["--read_iolog=log", "--replay_align=1000"]).expect(2).says("no power of two");
    lab.run(&["--read_iolog=log", "--atomic"]).expect(2).says("those of a log are as they are");
    lab.run(&["--read_iolog=log", "--write_hint=short", "--check"]).expect(0);
    lab.run(&["--read_iolog=-"]).expect(2).says("a log is read twice");
    assert!(!lab.path("f").exists());
}

#[test]
fn a_readonly_run_refuses_a_log_that_writes_before_anything_is_written() {
    let lab = Lab::new();
    lab.marked("f", 64 << 10);
    lab.file("log", log("0 f add\n0 f read 0 4096\n1 f write 4096 4096\n2 f trim 8192 4096\n"));
    lab.run(&["--readonly", "--read_iolog=log"]).expect(6).says("--readonly forbids that");
    lab.run(&["--readonly", "--read_iolog=log", "--replay_skip=write"]).expect(6).says("forbids that");
    lab.run(&["--readonly", "--read_iolog=log", "--replay_skip=write,trim"]).expect(0);
    assert!(common::changed(&lab.bytes("f"), 4096).iter().all(|changed| !changed));
}

#[test]
fn a_log_never_overwrites_what_it_is_of() {
    let lab = Lab::new();
    lab.file("log", log("0 f add\n0 f read 0 4096\n"));
    let job = ["--rw=read", "--size=4k", "--filename=f"];
    lab.run(&[&job[..], &["--write_iolog=f"]].concat())
        .expect(2)
        .says("is what a job of the run reads or writes itself");
    lab.run(&["--read_iolog=log", "--write_iolog=log"])
        .expect(2)
        .says("is what a job of the run reads or writes itself");
    lab.run(&[&job[..], &["--write_iolog=/dev/null"]].concat()).expect(2).says("no regular file");
    lab.run(&[&job[..], &["--write_iolog=no/log"]].concat()).expect(2).says("directory no does not exist");
    let two = "[[job]]\nfilename=\"f\"\nsize=\"4k\"\nwrite_iolog=\"x\"\n".repeat(2);
    lab.file("two.toml", two);
    lab.run(&["two.toml"]).expect(2).says("x is the log of another job too");
}

/// Overlaps, several lengths, trims and flushes.
fn tangled(file: &str) -> String {
    let mut text = format!("0 {file} add\n");
    let mut dice: u64 = 7;
    for number in 0..400 {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (at, len) = ((dice >> 33) % 60 * 4096, 4096 * (1 + (dice >> 50) % 4));
        let action = ["write", "write", "write", "read", "trim"][(dice >> 20) as usize % 5];
        text.push_str(&format!("{number} {file} {action} {at} {len}\n"));
        if number % 40 == 39 {
            text.push_str(&format!("{number} {file} sync 0 0\n"));
        }
    }
    log(&text)
}

#[test]
fn what_a_replay_wrote_is_judged_whatever_overlaps_what() {
    for engine in ["psync", "io_uring", "sim"] {
        let lab = Lab::new();
        lab.file("log", tangled("f"));
        let engine = format!("--ioengine={engine}");
        let job = ["--read_iolog=log", "--verify=crc32c", "--iodepth=16", "--replay_no_stall", &engine];
        for more in [&[][..], &["--trim_verify_zero"], &["--verify_backlog=8"], &["--verify_order=written"]] {
            let json = lab.json(&[&job[..], more].concat());
            let verify = at(&json, "/jobs/0/verify");
            let (promised, checked) = (number(verify, "/promised"), number(verify, "/checked"));
            assert!(promised > 20 && promised == checked, "{more:?}: {verify:#}");
        }
    }
}

#[test]
fn what_a_replay_wrote_and_the_drive_lost_is_found() {
    let lab = Lab::new();
    lab.file("log", tangled("f"));
    let job = ["--read_iolog=log", "--verify=crc32c", "--iodepth=8", "--replay_no_stall", "--ioengine=sim"];
    for fault in ["lost:50%", "misplaced:50%", "bit_flip:90%"] {
        lab.run(&[&job[..], &[&format!("--sim_faults={fault}")]].concat()).expect(1);
    }
}

#[test]
fn what_a_flush_of_the_log_made_durable_must_survive_a_cut() {
    let lab = Lab::new();
    lab.file("log", tangled("f"));
    for after in ["50", "120", "200", "330"] {
        let cut = format!("--sim_cut_after={after}");
        let job = [
            "--read_iolog=log",
            "--verify=crc32c",
            "--iodepth=8",
            "--replay_no_stall",
            "--ioengine=sim",
            &cut,
        ];
        let done = lab.run(&[&job[..], &["--output-format=json"]].concat());
        assert!(matches!(done.code, Some(0 | 4 | 5)), "{done:#?}");
        let verify = at(&done.json(), "/jobs/0/verify").clone();
        assert!(number(&verify, "/checked") > 0, "{verify:#}");
    }
}

#[test]
fn a_snapshot_of_a_replay_is_judged_by_the_same_log_only() {
    let lab = Lab::new();
    lab.file("log", tangled("f"));
    lab.file("j.toml", "[[job]]\nread_iolog = \"log\"\nverify = \"crc32c\"\nreplay_no_stall = true\nioengine = \"io_uring\"\niodepth = 8\n");
    lab.run(&["j.toml", "--number_ios=200", "--do_verify=false"]).expect(0);
    let json = lab.json(&["j.toml", "--number_ios=200", "--verify_state_load"]);
    let verify = at(&json, "/jobs/0/verify");
    assert!(number(verify, "/checked") > 20 && number(verify, "/checked") == number(verify, "/promised"));
    fs::write(lab.path("log"), tangled("f").replace("write 4096 ", "write 8192 ")).unwrap();
    lab.run(&["j.toml", "--number_ios=200", "--verify_state_load"]).expect(2).says("does not fit");
}

#[test]
fn writes_that_no_block_divides_are_refused_with_their_line() {
    let lab = Lab::new();
    lab.file("log", log("0 f add\n0 f write 0 4096\n1 f write 4100 4096\n"));
    lab.run(&["--read_iolog=log", "--verify=crc32c"]).expect(2).says("multiples of 4 only (line 4)");
    lab.run(&["--read_iolog=log", "--verify=crc32c", "--replay_align=512"]).expect(0);
    assert!(lab.path("f").exists());
}

#[test]
fn a_long_log_is_replayed_to_its_end() {
    let lab = Lab::new();
    let mut text = String::from("0 f add\n");
    for number in 0_u64..100_000 {
        text.push_str(&format!("{number} f write {} 4096\n", number % 1000 * 4096));
    }
    lab.file("log", log(&text));
    let json = lab.json(&["--ioengine=null", "--read_iolog=log", "--iodepth=64", "--replay_no_stall"]);
    assert_eq!(first(&json, "/write/total_ios"), 100_000);
}

/// Draws from a sequence that is the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 += 1;
        random::below(random::at(3, self.0), n.max(1) as u64) as usize
    }
}

#[test]
fn whatever_a_log_holds_it_is_read_to_its_end_or_to_a_mistake_that_has_a_place() {
    let trace = [(1000, 0, 4096, READ), (3000, 64, 1000, WRITE | FLUSH), (5000, 8, 4096, DISCARD | WRITE)];
    let seeds: Vec<Vec<u8>> = vec![
        tangled("f").into_bytes(),
        b"fio version 2 iolog\n/a b add\n/a b open\n/a b wait 100 0\n/a b read 0 512\n/a b datasync 0 0\n"
            .to_vec(),
        blktrace(&trace, false),
        blktrace(&trace, true),
    ];
    let rules = [
        ReplayRules::default(),
        ReplayRules { time_scale: 1, scale: 3, align: 1 << 30, ..ReplayRules::default() },
        ReplayRules { no_stall: true, redirect: Some("x".to_owned()), ..ReplayRules::default() },
    ];
    let tokens: [&[u8]; 9] = [
        b" ",
        b"\n",
        b"-1",
        b"18446744073709551615",
        b"add",
        b"wait 1 1\n",
        b"\0",
        b"\xff\xff\xff\xff",
        b"fio version 3 iolog\n",
    ];
    let (mut dice, mut whole, mut broken) = (Dice(0), 0, 0);
    for round in 0..4000 {
        let mut bytes = seeds[round % seeds.len()].clone();
        for _ in 0..dice.below(4) {
            let at = dice.below(bytes.len());
            match dice.below(4) {
                0 => bytes[at] = dice.below(256) as u8,
                1 => bytes.truncate(at.max(1)),
                2 => {
                    bytes.splice(at..at, tokens[dice.below(tokens.len())].iter().copied());
                }
                _ => {
                    let end = (at + dice.below(40)).min(bytes.len());
                    bytes.drain(at..end);
                    bytes.push(b'\n');
                }
            }
        }
        let read = || -> Result<(), Trouble> {
            let mut reader = Reader::of_bytes(bytes.clone(), &rules[round % rules.len()])?;
            let mut last = 0;
            while let Some(io) = reader.next_io()? {
                assert!(io.due_ns >= last && usize::from(io.target) < reader.names().len());
                assert!(
                    io.offset.checked_add(u64::from(io.len)).is_some_and(|end| i64::try_from(end).is_ok())
                );
                last = io.due_ns;
            }
            Ok(())
        };
        match read() {
            Ok(()) => whole += 1,
            Err(why) => {
                broken += 1;
                let why = why.to_string();
                assert!(why.starts_with("line ") || why.starts_with("event "), "{why}");
            }
        }
    }
    assert!(whole > 500 && broken > 500, "{whole} {broken}");
}
