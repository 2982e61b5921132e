//! Clean data is judged clean, all of it and nothing else, whatever the workload: no violation, nothing
//! left out, and as many blocks checked as stand on the target, counted without the judge. To show
//! that each block is looked at, some are spoilt after a while: those, and no others, must be found.
//!
//! A trial that fails prints its job file: `fio-spdk FILE` does it again. `NO_FALSE_ALARMS=FROM..TO`
//! tries jobs by chance with other seeds than the usual few, as many as there is time for.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]
#![allow(clippy::cast_possible_truncation, reason = "targets are small")]
#![allow(clippy::print_stderr, reason = "what was tried, and why it was not")]

mod no_false_alarms {
    pub mod matrix;
    pub mod trial;
}

use std::ops::Range;
use std::os::unix::fs::symlink;

use fio_spdk::base::host::affinity;
use fio_spdk::run::ErrorKind;

use no_false_alarms::matrix::{core, drawn, overlapping, several};
use no_false_alarms::trial::{Trial, execute, parse};

/// Names the seeds of a long run.
const SEEDS: &str = "NO_FALSE_ALARMS";
/// Of the lists of jobs that are always the same, one in so many runs; all of them in a long run.
const SHARE: usize = 3;
/// Failures that are shown in full.
const MOST_SHOWN: usize = 6;

#[expect(clippy::disallowed_methods, reason = "says how long the test goes on, not what the program does")]
fn long_run() -> Option<Range<u64>> {
    let text = std::env::var(SEEDS).ok()?;
    let ends = text.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    Some(ends.unwrap_or_else(|| panic!("{SEEDS} is FROM..TO, such as 0..1000, not {text}")))
}

/// The seeds to try: `usual`, or in a long run its own, in a `part` of them.
fn seeds(usual: Range<u64>, part: u64) -> Range<u64> {
    long_run().map_or(usual, |all| all.start..all.start + (all.end - all.start).div_ceil(part))
}

fn share<T>(all: impl Iterator<Item = T>) -> impl Iterator<Item = T> {
    all.step_by(if long_run().is_some() { 1 } else { SHARE })
}

/// Runs all trials and says which are wrong. All of a test share one CPU, and tests have different ones.
fn all_clean(cpu: usize, trials: impl Iterator<Item = Trial>) {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let cpus = affinity::available().unwrap();
    let (mut drawn, mut runs, mut blocks, mut wrong) = (0_u64, 0_u64, 0, Vec::new());
    for mut trial in trials {
        drawn += 1;
        if !trial.is_valid() {
            continue;
        }
        runs += 1;
        trial
            .jobs
            .iter_mut()
            .for_each(|case| case.add(format!("cpus_allowed = '{}'", cpus[cpu % cpus.len()])));
        match trial.attempt(directory.path()) {
            Ok(judged) => blocks += judged,
            Err(why) => wrong.push(format!("{why}\n{}", trial.toml())),
        }
    }
    let shown: String = wrong.iter().take(MOST_SHOWN).map(|one| format!("\n\n{one}")).collect();
    assert!(wrong.is_empty(), "{} of {runs} trials: {shown}", wrong.len());
    eprintln!("{runs} trials, {blocks} blocks");
    assert!(blocks > runs, "{runs} trials judged {blocks} blocks: that is no test");
    assert!(runs * 10 > drawn * 9, "only {runs} of {drawn} are valid: the lists do not fit together");
}

#[test]
fn each_workload_with_each_option() {
    all_clean(0, share(core()));
}

#[test]
fn writes_that_overlap_in_part() {
    all_clean(1, share(overlapping()));
}

#[test]
fn jobs_by_chance_on_simulated_drives() {
    all_clean(1, seeds(0..400, 1).map(|seed| drawn(seed, "sim")));
}

#[test]
fn several_jobs_on_one_simulated_drive() {
    all_clean(0, seeds(0..120, 4).map(|seed| several(seed, "sim")));
}

#[test]
fn jobs_by_chance_on_files_with_psync() {
    all_clean(0, seeds(10_000..10_080, 8).map(|seed| drawn(seed, "psync")));
}

#[test]
fn several_jobs_on_one_file_with_psync() {
    all_clean(1, seeds(11_000..11_030, 16).map(|seed| several(seed, "psync")));
}

#[test]
fn jobs_by_chance_on_files_with_io_uring() {
    if has_io_uring() {
        all_clean(1, seeds(12_000..12_080, 8).map(|seed| drawn(seed, "io_uring")));
    }
}

#[test]
fn several_jobs_on_one_file_with_io_uring() {
    if has_io_uring() {
        all_clean(0, seeds(13_000..13_030, 16).map(|seed| several(seed, "io_uring")));
    }
}

/// Whether this machine has it: asked of the kernel, not of the engine.
fn has_io_uring() -> bool {
    match io_uring::IoUring::new(1) {
        Ok(_) => true,
        Err(why) => {
            eprintln!("skipped: no io_uring: {why}");
            false
        }
    }
}

/// Two jobs of which nobody could say what must stand where they meet.
const MEETINGS: &[&str] = &[
    "[[job]]\nnumjobs = 2",
    "[[job]]\nnumjobs = 2\noffset_increment = '60k'",
    "[[job]]\nrw = 'randtrimwrite'\nnumjobs = 3\noffset_increment = '4k'",
    "[[job]]\n[[job]]\noffset = '63k'",
    "[[job]]\n[[job]]\nverify = 'none'\nrw = 'randwrite'",
    "[[job]]\nverify = 'none'\n[[job]]\nrw = 'randrw'",
    "[[job]]\n[[job]]\nverify = 'none'\nrw = 'trim'",
    "[[job]]\n[[job]]\nfilename = 'alias'",
    "[[job]]\nfilename = 'a:alias'",
    "[[job]]\nfilename = 'a:a'",
    "[[job]]\n[[job]]\nfilename = 'x:a'\nsize = '128k'",
];

#[test]
fn verifying_jobs_that_write_to_the_same_bytes_are_refused() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let global = "rw = 'write'\nsize = '64k'\nverify = 'crc32c'\nfilename = 'a'";
    let global = format!("[global]\ndirectory = {:?}\n{global}\n", directory.path());
    std::fs::write(directory.path().join("a"), [7; 65536]).unwrap();
    symlink("a", directory.path().join("alias")).unwrap();
    for meeting in MEETINGS {
        let text = format!("{global}{meeting}\n");
        let refused = match execute(parse(&text).unwrap()) {
            Err(why) if why.kind == ErrorKind::BadJob => why.message,
            Err(why) => panic!("{why}\n{text}"),
            Ok(_) => panic!("it runs:\n{text}"),
        };
        let helps = ["offset_increment", "size"].iter().any(|option| refused.contains(option));
        assert!(helps, "no hint: {refused}\n{text}");
        assert_eq!(std::fs::read(directory.path().join("a")).unwrap(), [7; 65536], "{text}");
    }
    // Side by side, one after the other, and beside one that only reads they are fine.
    for fine in [
        "[[job]]\nnumjobs = 2\noffset_increment = '64k'",
        "[[job]]\n[[job]]\nstonewall = true",
        "[[job]]\n[[job]]\nrw = 'read'\nverify = 'none'",
    ] {
        let text = format!("{global}{fine}\n");
        let ended = execute(parse(&text).unwrap()).unwrap_or_else(|why| panic!("{why}\n{text}"));
        assert!(ended.failure.is_none(), "{:?}\n{text}", ended.failure);
    }
}
