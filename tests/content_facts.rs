//! What stands in the bytes that writes leave, and when two runs leave the same.

mod common;

use std::collections::{HashMap, HashSet};

use common::{FILE_ENGINES, KIB, Lab, MIB, Running, at, changed, first, near, with};
use serde_json::Value;

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
