//! Holds verification to the truth: simulated drives that sin and say so afterwards. Every violation
//! that a run reports must be the trace of a sin, every sin that left a trace must be reported, and
//! under the right name; and an honest drive never earns a violation.

#![allow(clippy::unwrap_used, reason = "a trial that cannot be set up has nothing to say")]

mod every_sin {
    pub mod bench;
    pub mod truth;
}

use std::cell::Cell;
use std::collections::BTreeSet;

use fio_spdk::base::random;
use fio_spdk::base::sim::Fault;
use fio_spdk::base::verify::Verdict;
use fio_spdk::engine::sim::{self, Sin};

use every_sin::bench::{Command, Played, Seen, commands, drive, meets, play, play_on, rate};
use every_sin::truth;

/// Shapes of workloads, with the length of a block.
const SHAPES: &[(&str, u64)] = &[
    ("rw = \"write\"\nbs = 512\nsize = \"64k\"\nnumber_ios = 100\niodepth = 1\n", 512),
    ("rw = \"write\"\nbs = \"4k\"\nsize = \"512k\"\nnumber_ios = 200\niodepth = 8\n", 4096),
    (
        "rw = \"write\"\nbs = \"64k\"\nverify_interval = \"4k\"\nsize = \"4m\"\nnumber_ios = 96\niodepth = 32\n",
        4096,
    ),
    ("rw = \"randwrite\"\nbs = \"4k\"\nsize = \"512k\"\nnumber_ios = 200\niodepth = 32\n", 4096),
    (
        "rw = \"randwrite\"\nbs = 512\nsize = \"64k\"\nnumber_ios = 300\niodepth = 8\nnorandommap = true\n",
        512,
    ),
    (
        "rw = \"randwrite\"\nbssplit = \"4k/50:16k/30:64k/20\"\nsize = \"1m\"\nnumber_ios = 120\niodepth = 8\nnorandommap = true\n",
        4096,
    ),
    (
        "rw = \"randrw\"\nbs = \"4k\"\nsize = \"512k\"\nnumber_ios = 300\niodepth = 8\nrandom_distribution = \"zipf:1.1\"\n",
        4096,
    ),
    ("rw = \"randrw\"\nbs = \"8k\"\nsize = \"512k\"\nnumber_ios = 300\niodepth = 1\nsim_lba = 4096\n", 4096),
    ("rw = \"randrw\"\nbssplit = \"4k/50:12k/50\"\nsize = \"512k\"\nnumber_ios = 300\niodepth = 32\n", 4096),
];

/// Runs `fault` at `share` on every shape: how many traces had to be found, over all.
fn on_every_shape(fault: Fault, share: f64, more: &str, look: impl Fn(&Played)) -> u64 {
    let mut found = 0;
    for (number, (shape, interval)) in SHAPES.iter().enumerate() {
        for seed in 0..2 {
            let seed = number * 10 + seed;
            let lines = format!(
                "{shape}io_size = \"1g\"\ncontinue_on_error = \"read\"\nrandseed = {seed}\nsim_seed = {seed}\n{}{more}",
                rate(fault, share)
            );
            let played = play(&lines);
            found += truth::check(&played, *interval);
            look(&played);
        }
    }
    found
}

macro_rules! sins {
    ($($name:ident: $fault:ident at $share:literal;)*) => {
        $(
            #[test]
            fn $name() {
                let found = on_every_shape(Fault::$fault, $share, "", |_| ());
                assert!(found > 20, "only {found} traces");
            }
        )*
    };
}

sins! {
    lost: Lost at 0.05;
    torn: Torn at 0.05;
    torn_lba: TornLba at 0.05;
    misplaced: Misplaced at 0.05;
    rolled_back: RolledBack at 0.05;
    blank: Blank at 0.05;
    ones: Ones at 0.05;
    read_error: ReadError at 0.05;
}

#[test]
fn a_failed_write_that_lands_over_a_newer_one_is_named() {
    let mut found = 0;
    for seed in 0..6 {
        let played = play(&format!(
            "rw = \"randwrite\"\nbs = \"4k\"\nsize = \"64k\"\nnorandommap = true\nnumber_ios = 400\niodepth = 4\nio_size = \"1g\"\n\
             continue_on_error = \"write\"\nrandseed = {seed}\nsim_seed = {seed}\n{}",
            rate(Fault::LateWrite, 0.1)
        ));
        for seen in &played.seen {
            played.assert(seen.verdict == Verdict::Lost, "a newer write is gone");
            let named = seen.line.contains("had ended with an error before write")
                && seen.line.contains("failed, timed out or was aborted, and is now stored over write");
            played.assert(named, "the failed write is named");
            let is_late = |sin: &Sin| sin.fault == Fault::LateWrite && sin.offset == seen.offset;
            played.assert(played.sins.iter().any(is_late), "a write landed late there");
        }
        found += played.seen.len();
    }
    assert!(found > 5, "only {found}");
}

#[test]
fn transient_read() {
    let found = on_every_shape(Fault::TransientRead, 0.05, "", |played| {
        played.assert(played.tally().transient > 0 || played.seen.is_empty(), "it goes away");
    });
    assert!(found > 20, "only {found} traces");
}

const TRIMS: &str = "trim_percentage = 60\ntrim_backlog = 4\ntrim_verify_zero = true\n";

#[test]
fn lost_among_trims() {
    let found = on_every_shape(Fault::Lost, 0.05, TRIMS, |_| ());
    assert!(found > 20, "only {found} traces");
}

#[test]
fn misplaced_among_trims() {
    let found = on_every_shape(Fault::Misplaced, 0.05, TRIMS, |_| ());
    assert!(found > 20, "only {found} traces");
}

#[test]
fn undead_trim() {
    let found = on_every_shape(Fault::UndeadTrim, 0.2, TRIMS, |_| ());
    assert!(found > 20, "only {found} traces");
}

#[test]
fn bit_flip() {
    let found = on_every_shape(Fault::BitFlip, 0.05, "", |played| {
        for (sin, seen) in pairs(played) {
            let at = sin.other.unwrap() - seen.offset;
            if FROM_THE_BLOCK.iter().any(|bytes| bytes.contains(&at)) {
                continue;
            }
            let at = format!("at byte {at} ");
            played.assert(seen.line.contains("1 bytes (1 bits)") && seen.line.contains(&at), &at);
        }
    });
    assert!(found > 20, "only {found} traces");
}

#[test]
fn shifted() {
    let told = Cell::new(0);
    on_every_shape(Fault::Shifted, 0.05, "", |played| {
        for (sin, seen) in pairs(played) {
            let Some(at) = seen.line.find("shifted by ") else { continue };
            let by = seen.line[at + 11..].split(' ').next().unwrap().parse::<i64>().unwrap();
            let real = i64::try_from(sin.other.unwrap()).unwrap();
            told.set(told.get() + 1);
            let what = format!("shifted by {real}, and told {by}");
            played.assert(by == real || by == real - i64::from(sin.len), &what);
        }
    });
    assert!(told.get() > 100, "{told:?} shifts are told");
}

/// Bytes of a block with crc32c that nobody but the block itself knows: when it was written, and in
/// its tag pass and flushes.
const FROM_THE_BLOCK: [std::ops::Range<u64>; 2] = [24..32, 92..108];

/// Violations with the sin that each shows, where there is but one it can be.
fn pairs(played: &Played) -> Vec<(Sin, &Seen)> {
    let commands = commands(played.spec());
    let pair = |seen: &'_ Seen| {
        let touches = |command: &Command| meets(command.offset, command.len.into(), seen.offset, 1);
        let newest = commands.iter().rposition(|command| command.op.modifies() && touches(command))?;
        played.sins.iter().find(|sin| sin.number == newest as u64).copied()
    };
    played.seen.iter().filter_map(|seen| Some((pair(seen)?, seen))).collect()
}

#[test]
fn a_write_that_failed_breaks_no_promise() {
    let more = "continue_on_error = \"all\"\n";
    let mut failed = 0;
    for (number, (shape, _)) in SHAPES.iter().enumerate() {
        for more in [more.to_owned(), format!("{more}verify_backlog = 7\n")] {
            let faults = rate(Fault::WriteError, 0.1);
            let played = play(&format!("{shape}io_size = \"1g\"\nsim_seed = {number}\n{faults}{more}"));
            played.only(&[Verdict::Ok, Verdict::InFlight]);
            failed += played.tally().of(Verdict::InFlight);
        }
    }
    assert!(failed > 50, "{failed}");
}

#[test]
fn a_short_transfer_is_no_sin() {
    for (shape, _) in SHAPES {
        let played = play(&format!("{shape}io_size = \"1g\"\n{}", rate(Fault::Short, 0.5)));
        played.only(&[Verdict::Ok]);
    }
}

#[test]
fn a_write_that_never_completes_ends_the_run_and_the_rest_is_judged() {
    for (number, (shape, _)) in
        SHAPES.iter().enumerate().filter(|(_, (shape, _))| !shape.contains("iodepth = 1\n"))
    {
        let faults = rate(Fault::Stalled, 0.05);
        let played = play(&format!(
            "{shape}io_size = \"1g\"\nsim_seed = {number}\n{faults}sim_fault_limit = 2\nreap_timeout = \"100ms\"\n"
        ));
        played.assert(played.error() == Some(110) && !played.sins.is_empty(), "it timed out");
        played.only(&[Verdict::Ok, Verdict::InFlight]);
        played.assert(played.tally().of(Verdict::InFlight) > 0, "what stalled is in flight");
    }
}

#[test]
fn a_drive_that_answers_nothing_any_more_is_not_checked() {
    let faults = rate(Fault::Stalled, 0.1);
    let played =
        play(&format!("{}\n{faults}reap_timeout = \"100ms\"\n", ONCE.replace("iodepth = 8", "iodepth = 1")));
    let tally = played.tally();
    played.assert(played.error() == Some(110) && tally.of(Verdict::NotChecked) > 0, "nothing can be read");
    played.assert(tally.violations() == 0 && tally.is_inconclusive(), "nobody knows");
}

#[test]
fn a_read_that_never_completes_is_unreadable() {
    let (shape, _) = SHAPES[1];
    let faults = rate(Fault::StalledRead, 0.1);
    let played = play(&format!(
        "{shape}io_size = \"1g\"\n{faults}sim_fault_after = 200\nsim_fault_limit = 2\nreap_timeout = \"100ms\"\n"
    ));
    played.only(&[Verdict::Ok, Verdict::Unreadable]);
    let offsets: BTreeSet<u64> = played.sins.iter().map(|sin| sin.offset).collect();
    let seen: BTreeSet<u64> = played.seen.iter().map(|seen| seen.offset).collect();
    played.assert(seen == offsets, "what was never answered");
}

/// Writes with flushes between, and a cut.
const CUT: &str =
    "rw = \"randwrite\"\nbs = \"4k\"\nsize = \"128k\"\nio_size = \"1g\"\nnumber_ios = 400\niodepth = 8\n";

#[test]
fn a_flush_that_lied_is_found_after_a_cut() {
    let mut found = 0;
    for seed in 0..40 {
        let cut = format!(
            "{CUT}randseed = {seed}\nsim_seed = {seed}\nfsync = 30\nsim_cut_after = {}\n",
            100 + seed
        );
        let policy = ["auto", "fsynced"][seed % 2];
        let cut = format!("{cut}verify_policy = \"{policy}\"\n");
        let honest = play(&cut);
        honest.only(&[Verdict::Ok, Verdict::AllowedLoss, Verdict::InFlight]);
        let lying = play(&format!("{cut}{}", rate(Fault::LyingFlush, 1.0)));
        lying.only(&[
            Verdict::Ok,
            Verdict::AllowedLoss,
            Verdict::InFlight,
            Verdict::Lost,
            Verdict::Blank,
            Verdict::Torn,
        ]);
        found += lying.tally().violations();
        // Which of the writes was lost depends on nothing else.
        assert_eq!(honest.tally().promised, lying.tally().promised);
    }
    assert!(found > 40, "{found}");
}

#[test]
fn a_cut_that_meets_several_workers_breaks_no_promise() {
    let allowed = [Verdict::Ok, Verdict::AllowedLoss, Verdict::InFlight];
    for seed in 0..150 {
        let depth = 1 + seed % 4;
        let drive = drive();
        let shape = format!(
            "rw = \"randwrite\"\nbs = \"4k\"\nsize = \"64k\"\nio_size = \"1g\"\nnumber_ios = 60\nnumjobs = 3\n\
             offset_increment = \"64k\"\niodepth = {depth}\nrandseed = {seed}\nsim_seed = {seed}\nfsync = 7"
        );
        let mut played = play_on(&drive, &job(&drive, &format!("{shape}\nsim_cut_after = {}", 1 + seed * 2)));
        sim::forget(&drive);
        while !played.jobs.is_empty() {
            played.only(&allowed);
            played.jobs.pop();
        }
    }
}

#[test]
fn a_cut_without_a_cache_loses_nothing_that_completed() {
    for seed in 0..20 {
        let cut = format!("{CUT}randseed = {seed}\nsim_seed = {seed}\nsim_cut_after = {}\n", 50 + 7 * seed);
        let played = play(&format!("{cut}sim_cache = false\n"));
        played.only(&[Verdict::Ok, Verdict::InFlight]);
    }
}

#[test]
fn a_policy_that_asks_for_more_than_the_cache_gives_finds_what_is_gone() {
    let mut found = [0; 2];
    for seed in 0..10 {
        let cut = format!("{CUT}randseed = {seed}\nsim_seed = {seed}\nsim_cut_after = {}\n", 50 + 7 * seed);
        let played = play(&format!("{cut}verify_policy = \"completed\"\n"));
        played.only(&[Verdict::Ok, Verdict::InFlight, Verdict::Lost, Verdict::Blank, Verdict::Torn]);
        found[0] += played.tally().of(Verdict::Lost);
        found[1] += played.tally().of(Verdict::Blank);
    }
    assert!(found.iter().all(|&count| count > 10), "{found:?}");
}

/// A job on `drive`, with these lines.
fn job(drive: &str, lines: &str) -> String {
    format!("[[job]]\nioengine = \"sim\"\nfilename = \"{drive}\"\nverify = \"crc32c\"\n{lines}\n")
}

const ONCE: &str = "rw = \"randwrite\"\nbs = \"4k\"\nsize = \"512k\"\niodepth = 8";

/// Every block that a sin has kept from being written, and no other, has this verdict.
fn all_sins_are(played: &Played, verdict: Verdict) {
    played.only(&[Verdict::Ok, verdict]);
    let sins: BTreeSet<u64> = played.sins.iter().map(|sin| sin.offset).collect();
    let seen: BTreeSet<u64> = played.seen.iter().map(|seen| seen.offset).collect();
    played.assert(seen == sins && !sins.is_empty(), "other blocks than those of the sins");
    played.assert(played.tally().of(verdict) == sins.len() as u64, "each is counted once");
}

#[test]
fn a_block_of_an_earlier_run_is_stale() {
    let drive = drive();
    play_on(&drive, &job(&drive, ONCE)).only(&[Verdict::Ok]);
    for seed in 0..3 {
        let lines = format!("{ONCE}\nrandseed = 5\nsim_seed = {seed}\n{}", rate(Fault::Lost, 0.1));
        let before = sim::committed(&drive).len();
        let mut played = play_on(&drive, &job(&drive, &lines));
        played.sins.drain(..before);
        all_sins_are(&played, Verdict::StaleRun);
    }
}

#[test]
fn a_block_of_another_worker_is_foreign() {
    let drive = drive();
    let second = format!("{ONCE}\nstonewall = true\n{}", rate(Fault::Lost, 0.1));
    let played = play_on(&drive, &format!("{}{}", job(&drive, ONCE), job(&drive, &second)));
    all_sins_are(&played, Verdict::Foreign);
}

#[test]
fn verify_only_judges_what_an_earlier_run_has_written() {
    let shape = "bs = \"4k\"\nsize = \"256k\"\nio_size = \"1g\"\nrw = \"randwrite\"\nnorandommap = true";
    let drive = drive();
    play_on(&drive, &job(&drive, &format!("{shape}\nnumber_ios = 120\niodepth = 8"))).only(&[Verdict::Ok]);
    let again =
        |ios: u32| play_on(&drive, &job(&drive, &format!("{shape}\nnumber_ios = {ios}\nverify_only = true")));
    again(120).only(&[Verdict::Ok]);
    // Fewer than were: the others have never been issued.
    let fewer = again(60);
    fewer.only(&[Verdict::Ok, Verdict::FromTheFuture]);
    fewer.assert(fewer.tally().of(Verdict::FromTheFuture) > 5, "writes of the future");
    // More than were: the others are lost.
    let more = again(200);
    more.only(&[Verdict::Ok, Verdict::Lost, Verdict::Blank]);
    more.assert(more.tally().of(Verdict::Lost) > 5, "writes that never were");
}

#[test]
fn sins_are_found_on_the_way_and_counted_once() {
    for (backlog, batch) in [(1, 0), (8, 0), (16, 4), (300, 0)] {
        for order in ["sequential", "written"] {
            let faults = rate(Fault::Lost, 0.1);
            let more = format!(
                "verify_backlog = {backlog}\nverify_backlog_batch = {batch}\nverify_order = \"{order}\"\n"
            );
            let played = play(&format!("{ONCE}\n{more}{faults}"));
            all_sins_are(&played, Verdict::Blank);
            played.assert((played.tally().checked_early > 0) == (backlog < 128), "judged on the way");
        }
    }
}

#[test]
fn a_fatal_violation_ends_the_job_and_the_rest_is_counted() {
    for backlog in ["", "verify_backlog = 8\n"] {
        let faults = rate(Fault::Lost, 0.1);
        let played = play(&format!("{ONCE}\nverify_fatal = true\n{backlog}{faults}"));
        let tally = played.tally();
        played.assert(tally.of(Verdict::Blank) > 0, "one at least");
        played.assert(tally.of(Verdict::NotChecked) > 0, "the rest is not checked");
        played.assert(tally.promised == tally.checked + tally.of(Verdict::NotChecked), "all are counted");
    }
}

#[test]
fn blocks_in_violation_are_left_in_files() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("job.toml");
    let lines = format!("{ONCE}\nsim_fault_limit = 3\nverify_dump = true\n{}", rate(Fault::BitFlip, 0.1));
    std::fs::write(&file, job("drive", &lines)).unwrap();
    let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_fio-spdk"));
    let program = program.current_dir(folder.path()).args(["--verdicts", "verdicts"]).arg(&file);
    assert!(program.output().unwrap().status.code().is_some_and(|code| code < 2));
    let verdicts = std::fs::read_to_string(folder.path().join("verdicts")).unwrap();
    assert_eq!(verdicts.lines().count(), 3, "{verdicts}");
    let files = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path());
    let received: Vec<_> =
        files.filter(|file| file.extension().is_some_and(|end| end == "received")).collect();
    assert_eq!(received.len(), 3);
    for file in received {
        let (received, expected) =
            (std::fs::read(&file).unwrap(), std::fs::read(file.with_extension("expected")).unwrap());
        let bits: u32 = received.iter().zip(&expected).map(|(one, other)| (one ^ other).count_ones()).sum();
        assert_eq!((received.len(), expected.len(), bits), (4096, 4096, 1), "{}", file.display());
    }
}

/// A job by chance on an honest drive, in TOML.
fn honest(seed: u64) -> String {
    let draw = |k: u64, n: u64| random::below(random::at(seed, k), n);
    let pick = |k: u64, of: &[&str]| of[draw(k, of.len() as u64) as usize].to_owned();
    let unit = [512, 4096][draw(0, 2) as usize];
    let lengths = [
        format!("bs = {unit}"),
        format!("bs = {}", 4 * unit),
        format!("bssplit = \"{unit}/60:{}/30:{}/10\"", 2 * unit, 8 * unit),
    ];
    let mut lines = vec![
        lengths[draw(1, 3) as usize].clone(),
        pick(
            2,
            &[
                "rw = \"write\"",
                "rw = \"randwrite\"",
                "rw = \"randrw\"",
                "rw = \"rw\"",
                "rw = \"trimwrite\"",
                "rw = \"randtrimwrite\"",
            ],
        ),
        format!("size = {}", unit * (8 + draw(3, 40))),
        format!("number_ios = {}", 1 + draw(4, 120)),
        format!("iodepth = {}", 1 << draw(5, 6)),
        "io_size = \"1g\"".to_owned(),
        format!("randseed = {seed}\nsim_seed = {seed}"),
    ];
    let mut maybe = |k: u64, of: u64, line: String| {
        if draw(k, of) == 0 {
            lines.push(line);
        }
    };
    maybe(6, 2, format!("fsync = {}", 1 + draw(7, 12)));
    maybe(8, 6, format!("fdatasync = {}", 1 + draw(9, 12)));
    maybe(10, 4, "end_fsync = true".to_owned());
    maybe(11, 3, "sim_cache = false".to_owned());
    maybe(12, 8, "sync = \"dsync\"".to_owned());
    if draw(0, 2) == 1 {
        maybe(13, 3, "sim_lba = 4096".to_owned());
    }
    maybe(14, 3, format!("sim_atomic_unit = {}", 4096 << draw(15, 3)));
    maybe(16, 4, "sim_faults = { short = 0.2 }".to_owned());
    maybe(17, 3, "verify_order = \"written\"".to_owned());
    maybe(18, 5, format!("verify_backlog = {}", 1 + draw(19, 20)));
    maybe(20, 3, "continue_on_error = \"all\"".to_owned());
    maybe(21, 6, "serialize_overlap = true".to_owned());
    maybe(22, 3, "trim_verify_zero = true".to_owned());
    maybe(23, 4, format!("iodepth_batch_submit = {}", 1 + draw(24, 1 << draw(5, 6))));
    let is_random = lines[1].contains("rand");
    let trims = lines[1].contains("trim");
    if is_random {
        lines.push(pick(
            25,
            &["", "norandommap = true", "random_distribution = \"zipf:1.2\"", "percentage_random = 50"],
        ));
    }
    if !trims && draw(26, 3) == 0 {
        lines.push(format!("trim_percentage = {}\ntrim_backlog = {}", 1 + draw(27, 100), draw(28, 8)));
    }
    if draw(29, 3) > 0 {
        lines.push(format!("sim_cut_after = {}", 1 + draw(30, 150)));
    }
    lines.retain(|line| !line.is_empty());
    lines.join("\n") + "\n"
}

fn honest_drives(seeds: std::ops::Range<u64>) {
    let mut cuts = 0;
    for seed in seeds {
        let played = play(&honest(seed));
        let tally = played.tally();
        played.assert(tally.promised == tally.checked, "not all was checked");
        played.assert(tally.violations() == 0 && tally.transient == 0, "an honest drive");
        played.assert(played.seen.is_empty() && played.sins.is_empty(), "an honest drive");
        cuts += u64::from(played.error().is_some());
    }
    assert!(cuts > 100, "{cuts}");
}

#[test]
fn an_honest_drive_never_earns_a_violation() {
    honest_drives(0..1000);
}

#[test]
fn nor_does_another_one() {
    honest_drives(1000..2000);
}
