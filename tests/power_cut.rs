//! Power cuts of simulated drives, judged by the snapshot alone: writing, cut and judging are runs of
//! their own, as they are on a bench. An honest drive never earns a violation, and one that lies
//! about its flushes does not get away with it.
//!
//! `FIO_SPDK_CUTS=10000 cargo test --release --test power_cut` cuts more often; a seed that fails is
//! tried again alone with `FIO_SPDK_CUT_SEED=N`.

#![allow(clippy::unwrap_used, reason = "a trial that cannot be set up has nothing to say")]

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use fio_spdk::base::host::affinity;
use fio_spdk::base::random;
use fio_spdk::base::verify::{Finding, Verdict};
use fio_spdk::engine::sim;
use fio_spdk::job;
use fio_spdk::report::Report;
use fio_spdk::run::{self, Observer, Progress, Requests, RunOptions};
use fio_spdk::stats::VerifyTally;

const SHAPES: &[&str] = &[
    "rw = 'write'; bs = '4k'; size = '256k'; io_size = '1g'",
    "rw = 'randwrite'; bs = '4k'; size = '256k'; io_size = '1g'",
    "rw = 'randwrite'; bs = '4k'; size = '128k'; io_size = '1g'; norandommap = true",
    "rw = 'randwrite'; bs = 512; size = '64k'; io_size = '1g'",
    "rw = 'randwrite'; bssplit = '4k/50:8k/30:16k/20'; size = '256k'; io_size = '1g'",
    "rw = 'randwrite'; bssplit = '4k/50:12k/50'; size = '256k'; io_size = '1g'; random_distribution = 'zipf:1.1'",
    "rw = 'randrw'; bs = '8k'; size = '256k'; io_size = '1g'; rwmixread = 30",
    "rw = 'write'; bs = '64k'; verify_interval = '4k'; size = '1m'; io_size = '1g'",
    "rw = 'randwrite'; bs = '4k'; size = '128k'; loops = 20",
    "rw = 'randwrite'; bs = '4k'; size = '128k'; time_based = true; runtime = '10s'",
    "rw = 'randwrite'; bs = '4k'; size = '128k'; io_size = '1g'; trim_percentage = 40; trim_backlog = 5; trim_verify_zero = true",
    "rw = 'randtrimwrite'; bs = '4k'; size = '128k'; io_size = '1g'; trim_verify_zero = true",
    "rw = 'randwrite'; bs = '4k'; size = '64k'; io_size = '1g'; numjobs = 3; offset_increment = '64k'",
    "rw = 'randwrite'; bs = '16k'; size = '256k'; io_size = '1g'; sim_atomic_unit = '16k'",
];
/// How the blocks of the run under test are made.
const METHODS: &[&str] = &[
    "verify = 'crc32c'",
    "verify = 'crc32c'",
    "verify = 'md5'",
    "verify = 'sha512'",
    "verify = 'crc64nvme'",
    "verify = 'xxhash'; verify_interval = 512",
    "verify = 'crc32c'; verify_interval = 512",
    "verify = 'crc32c'; verify_offset = 64",
    "verify = 'crc7'",
    "verify = 'meta'",
    "verify = 'crc32c'; verify_pattern = '0x010203%o'",
    "verify = 'pattern'; verify_pattern = '0x0a0b%o'",
];
/// What earlier runs left on the drive: blocks in the same format and in others, and data without blocks.
const EARLIER: &[&str] = &[
    "bs = '4k'; verify = 'crc32c'",
    "bs = '4k'; verify = 'md5'",
    "bs = '4k'; verify = 'sha512'",
    "bs = '4k'; verify = 'crc7'",
    "bs = '4k'; verify = 'meta'",
    "bs = '4k'; verify = 'crc64nvme'; verify_offset = 128",
    "bs = '4k'; verify = 'crc32c'; verify_offset = 64",
    "bs = 512; verify = 'crc32c'",
    "bs = 512; verify = 'xxhash'",
    "bs = '16k'; verify = 'crc32c'; verify_interval = '16k'",
    "bs = '16k'; verify = 'crc32c'; verify_interval = '8k'",
    "bs = '12k'; verify = 'sha1'; verify_interval = 1536; verify_offset = 128",
    "bs = '4k'; verify = 'crc32c'; offset = 512",
    "bs = '4k'; verify = 'crc32c'; offset = 1536",
    "bs = '8k'; verify = 'md5'; verify_interval = '8k'; offset = '4k'",
    "bs = '4k'; refill_buffers = true",
    "bs = '4k'; verify = 'crc32c'; verify_pattern = '0x010203%o'",
    "bs = '4k'; verify = 'pattern'; verify_pattern = '0x0a0b%o'",
    "bs = '4k'; verify = 'pattern_hdr'; verify_pattern = 7",
    "bs = '4k'; verify = 'null'",
];
const FLUSHES: &[&str] =
    &["", "fsync = 1", "fsync = 7", "fsync = 30", "fdatasync = 10", "sync = 'dsync'", "sim_cache = false"];
const SINS: &[&str] = &[
    "",
    "",
    "",
    "sim_faults = { stalled = 0.02 }; reap_timeout = '20ms'",
    "sim_faults = { write_error = 0.05 }; continue_on_error = 'write'",
];

/// Draws by a seed.
struct Draw(u64, u64);

impl Draw {
    fn below(&mut self, n: u64) -> u64 {
        self.1 += 1;
        random::below(random::at(self.0, self.1), n)
    }

    fn one(&mut self, list: &'static [&'static str]) -> &'static str {
        list[usize::try_from(self.below(list.len() as u64)).unwrap()]
    }
}

struct Silent;

impl Observer for Silent {
    fn note(&mut self, _: &str) {}
    fn progress(&mut self, _: &Progress) {}
    fn so_far(&mut self, _: &Report) {}
}

fn toml(drive: &str, lines: &str) -> String {
    let lines = lines.replace('\'', "\"").replace("; ", "\n");
    format!("[[job]]\nioengine = \"sim\"\nfilename = \"{drive}\"\n{lines}\n")
}

fn execute(text: &str, state: &Path, more: &[(&str, &str)]) -> Report {
    try_to(text, state, more).unwrap_or_else(|why| panic!("{why}\n{text}"))
}

fn try_to(text: &str, state: &Path, more: &[(&str, &str)]) -> Result<Report, String> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let more: Vec<(String, String)> =
        more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let jobs = job::parse(&[("cut.toml".to_owned(), text.to_owned())], &more);
    let mut jobs = jobs.unwrap_or_else(|why| panic!("{why}\n{text}"));
    // Trials that run beside each other would all take the first CPU.
    let cpus = affinity::available().unwrap();
    let cpu = cpus[NEXT.fetch_add(1, Ordering::Relaxed) % cpus.len()];
    jobs.iter_mut().for_each(|job| job.cpus_allowed = Some(vec![cpu]));
    let options = RunOptions { state: Some(state.to_owned()), ..RunOptions::default() };
    let ended = run::execute(jobs, &options, &Requests::default(), &mut Silent);
    ended.map(|ended| ended.report).map_err(|why| why.to_string())
}

/// What came of a cut: the job file, and the blocks as they were judged by the snapshot.
struct Cut {
    text: String,
    seed: u64,
    tally: VerifyTally,
}

impl Cut {
    fn assert(&self, holds: bool, why: &str) {
        assert!(
            holds,
            "{why}\nreplay: FIO_SPDK_CUT_SEED={} cargo test --test power_cut\n{}\n{:#?}",
            self.seed, self.text, self.tally
        );
    }
}

/// The value of an option in lines of a job.
fn value_of<'a>(lines: &'a str, option: &str) -> Option<&'a str> {
    lines.split("; ").find_map(|line| line.strip_prefix(option)?.strip_prefix(" = "))
}

/// A size such as `'64k'`, in bytes.
fn bytes_of(text: &str) -> u64 {
    let text = text.trim_matches('\'');
    let (number, unit) = match text.char_indices().last().unwrap() {
        (at, 'k') => (&text[..at], 1 << 10),
        (at, 'm') => (&text[..at], 1 << 20),
        _ => (text, 1),
    };
    number.parse::<u64>().unwrap() * unit
}

/// The job of an earlier run that filled the region of `lines` with `content`: on the same drive, so with
/// its geometry.
fn earlier_job(drive: &str, lines: &str, content: &str, seed: u64) -> String {
    let clones = value_of(lines, "numjobs").map_or(1, bytes_of);
    let (start, block) =
        (value_of(content, "offset").map_or(0, bytes_of), bytes_of(value_of(content, "bs").unwrap()));
    let size = (value_of(lines, "size").map_or(0, bytes_of) * clones - start) / block * block;
    let geometry: Vec<String> = ["sim_cache", "sim_atomic_unit", "sim_lba"]
        .iter()
        .filter_map(|option| Some(format!("; {option} = {}", value_of(lines, option)?)))
        .collect();
    toml(
        drive,
        &format!(
            "rw = 'write'; size = {size}; {content}; end_fsync = true; randseed = {seed}; sim_seed = {seed}{}",
            geometry.concat()
        ),
    )
}

/// Fills the drive by earlier runs, writes, cuts, judges.
fn cut(seed: u64, earlier: &[&str], lines: &str) -> Cut {
    let folder = tempfile::tempdir().unwrap();
    let (state, drive) = (folder.path().join("cut.state"), folder.path().join("drive").display().to_string());
    let mut before = String::new();
    for (number, content) in (1..).zip(earlier) {
        let text = earlier_job(&drive, lines, content, seed + (number << 32));
        let filled = execute(&text, &folder.path().join("earlier.state"), &[("do_verify", "false")]);
        assert!(filled.jobs.iter().all(|job| job.error.is_none()), "an earlier run failed\n{text}");
        before.push_str(&format!("# an earlier run:\n{text}"));
    }
    let text = toml(&drive, &format!("{lines}; do_verify = false; randseed = {seed}; sim_seed = {seed}"));
    let written = execute(&text, &state, &[]);
    assert!(state.exists(), "no snapshot after\n{text}\n{:?}", written.notes);
    // Cuts, faults and the time limit that a stalled write runs into are of the writing.
    let snapshot = std::fs::read(&state).unwrap();
    let of_writing = ["sim_cut_after", "sim_faults", "reap_timeout"];
    let judging = text.lines().filter(|line| !of_writing.iter().any(|option| line.starts_with(option)));
    let judging = judging.map(|line| format!("{line}\n")).collect::<String>();
    let judged = execute(&judging, &state, &[("verify_state_load", "true")]);
    assert_eq!(std::fs::read(&state).unwrap(), snapshot, "judging has changed the snapshot\n{text}");
    sim::forget(&drive);
    let mut tally = VerifyTally::default();
    judged.jobs.iter().filter_map(|job| job.verify.as_ref()).for_each(|one| tally.merge(one));
    Cut { text: format!("{before}{text}"), seed, tally }
}

/// How the power goes.
fn way(draw: &mut Draw) -> String {
    let at = 1 + draw.below(400);
    match draw.below(4) {
        0 | 1 => format!("sim_cut_after = {at}"),
        2 => format!("trigger_ios = {at}"),
        _ => format!("trigger_ios = {at}; trigger_mode = 'continue'"),
    }
}

fn drawn(seed: u64) -> String {
    let mut draw = Draw(seed, 0);
    let depth = [1, 4, 32, 128][usize::try_from(draw.below(4)).unwrap()];
    let shape = draw.one(SHAPES);
    let method = draw.one(METHODS);
    let parts = [
        shape.to_owned(),
        // Not all formats fit all shapes.
        if shape.contains("verify_interval") || shape.contains("trim") { METHODS[0] } else { method }
            .to_owned(),
        draw.one(FLUSHES).to_owned(),
        draw.one(SINS).to_owned(),
        way(&mut draw),
        format!("iodepth = {depth}"),
    ];
    // Atomic units hold for writes that fail too (AWUPF): to tear one is a sin of its own.
    let tears = parts[0].contains("sim_atomic_unit") && parts[3].contains("write_error");
    let kept = |part: &String| !(part.is_empty() || tears && part.contains("write_error"));
    parts.into_iter().filter(kept).collect::<Vec<_>>().join("; ")
}

/// What stood on the drive before: nothing, or what one or two earlier runs left.
fn drawn_earlier(seed: u64) -> Vec<&'static str> {
    let mut draw = Draw(random::derive(seed, 1), 0);
    let runs = [0, 1, 1, 2][usize::try_from(draw.below(4)).unwrap()];
    (0..runs).map(|_| draw.one(EARLIER)).collect()
}

/// A number that says how long the test goes on.
#[expect(clippy::disallowed_methods, reason = "not what the program does")]
fn wanted(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// The seeds to try, half of them for each of two threads.
fn seeds(share: u64) -> Vec<u64> {
    if let Some(seed) = wanted("FIO_SPDK_CUT_SEED") {
        // Run ids, and so payloads, are random: a rare verdict takes a few runs.
        return vec![seed; 100];
    }
    let count = wanted("FIO_SPDK_CUTS").unwrap_or(400);
    (0..count).filter(|seed| seed % 2 == share).collect()
}

const HARMLESS: [Verdict; 4] = [Verdict::Ok, Verdict::AllowedLoss, Verdict::InFlight, Verdict::Unwritten];

/// What is wrong with the verdicts on an honest drive, if anything is.
fn objection(cut: &Cut) -> Option<String> {
    let tally = &cut.tally;
    let wrong: Vec<String> = Verdict::ALL
        .iter()
        .zip(tally.counts)
        .filter(|(verdict, count)| *count > 0 && !HARMLESS.contains(verdict))
        .map(|(verdict, count)| format!("{count} blocks are {verdict}"))
        .collect();
    let is_wrong = |finding: &&Finding| !HARMLESS.contains(&finding.verdict);
    let found = tally.examples.iter().find(is_wrong).map(|one| format!("{one:#?}")).unwrap_or_default();
    if !wrong.is_empty() {
        return Some(format!("{}, such as {found}", wrong.join(", ")));
    }
    (tally.promised != tally.checked)
        .then(|| format!("{} blocks are promised, {} checked", tally.promised, tally.checked))
}

/// Failures that are shown in full.
const MOST_SHOWN: usize = 4;

fn honest_drives(share: u64) {
    let (mut sums, mut wrong) = ([0; 3], Vec::new());
    for seed in seeds(share) {
        let cut = cut(seed, &drawn_earlier(seed), &drawn(seed));
        if let Some(why) = objection(&cut) {
            wrong.push((seed, format!("{why}\n{}", cut.text)));
        }
        let counts =
            [Verdict::Ok, Verdict::AllowedLoss, Verdict::InFlight].map(|verdict| cut.tally.of(verdict));
        sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }
    let shown: String = wrong
        .iter()
        .take(MOST_SHOWN)
        .map(|(seed, why)| {
            format!("\n\nreplay: FIO_SPDK_CUT_SEED={seed} cargo test --test power_cut an_honest\n{why}")
        })
        .collect();
    let all: Vec<u64> = wrong.iter().map(|(seed, _)| *seed).collect();
    assert!(wrong.is_empty(), "an honest drive is accused: {} seeds, {all:?}{shown}", wrong.len());
    if wanted("FIO_SPDK_CUT_SEED").is_none() {
        assert!(sums.iter().all(|&sum| sum > 100), "ok, allowed loss, in flight: {sums:?}");
    }
}

#[test]
fn an_honest_drive_is_never_accused_by_its_snapshot() {
    honest_drives(0);
}

#[test]
fn nor_is_another_one() {
    honest_drives(1);
}

#[test]
fn a_drive_that_lies_about_flushes_is_caught_by_the_snapshot() {
    let mut caught = 0;
    for seed in 0..40 {
        let lines = format!(
            "verify = 'crc32c'; rw = 'randwrite'; bs = '4k'; size = '256k'; io_size = '1g'; iodepth = 8; fsync = 20; \
             sim_faults = {{ lying_flush = 1.0 }}; sim_cut_after = {}",
            150 + seed
        );
        let cut = cut(seed, &[], &lines);
        let found = cut.tally.violations();
        cut.assert(found > 0, "nothing was found");
        let kinds = [Verdict::Lost, Verdict::Blank, Verdict::Torn].map(|verdict| cut.tally.of(verdict));
        cut.assert(kinds.iter().sum::<u64>() == found, "something else was found");
        caught += found;
    }
    assert!(caught > 400, "{caught}");
}

#[test]
fn a_write_torn_inside_a_logical_block_is_found_over_any_earlier_content() {
    let (mut torn, mut found) = (0, 0);
    for (number, content) in (0..).zip(EARLIER) {
        let folder = tempfile::tempdir().unwrap();
        let (state, drive) = (folder.path().join("state"), folder.path().join("drive").display().to_string());
        // Nothing was flushed: of whole logical blocks each may be old or new, of parts none.
        let lines = "verify = 'crc32c'; rw = 'randwrite'; bs = '4k'; size = '256k'; iodepth = 8; \
                     verify_policy = 'fsynced'; sim_faults = { torn = 0.5 }";
        let earlier = earlier_job(&drive, lines, content, number + 1000);
        execute(&earlier, &state, &[("do_verify", "false")]);
        let text = toml(&drive, &format!("{lines}; randseed = {number}; sim_seed = {number}"));
        let judged = execute(&text, &state, &[]);
        let faults = sim::committed(&drive);
        sim::forget(&drive);
        let mut tally = VerifyTally::default();
        judged.jobs.iter().filter_map(|job| job.verify.as_ref()).for_each(|one| tally.merge(one));
        let cut = Cut { text: format!("# an earlier run:\n{earlier}{text}"), seed: number, tally };
        let violations = cut.tally.violations();
        cut.assert(violations == cut.tally.of(Verdict::Torn), "a torn write is called otherwise");
        cut.assert(violations <= faults.len() as u64, "more blocks than were torn");
        torn += faults.len() as u64;
        found += violations;
    }
    println!("{found} of {torn}");
    // Where so few bytes of a sector are new that they could as well be old there is nothing to find.
    assert!(torn > 400 && found * 100 >= torn * 98, "{found} of {torn}");
}

#[test]
fn a_trim_waits_for_a_flush_also_where_writes_are_durable() {
    let mut gone = 0;
    for seed in 0..30 {
        let lines = format!(
            "verify = 'crc32c'; rw = 'randtrimwrite'; bs = '4k'; size = '128k'; io_size = '1g'; iodepth = 8; \
             trim_verify_zero = true; sync = 'dsync'; sim_cut_after = {}",
            150 + seed
        );
        let cut = cut(seed, &[], &lines);
        cut.assert(objection(&cut).is_none(), "an honest drive is accused");
        gone += cut.tally.of(Verdict::AllowedLoss);
    }
    assert!(gone > 20, "no trim is gone: {gone}");
}

#[test]
fn a_run_goes_on_after_a_cut_and_what_was_durable_stays_promised() {
    for seed in 0..30 {
        let folder = tempfile::tempdir().unwrap();
        let (state, drive) =
            (folder.path().join("cut.state"), folder.path().join("drive").display().to_string());
        let lines = "verify = 'crc32c'; rw = 'randwrite'; bs = '4k'; size = '256k'; io_size = '1g'; iodepth = 16; fsync = 25";
        let text = toml(&drive, &format!("{lines}; do_verify = false; randseed = {seed}; sim_seed = {seed}"));
        let (mut written, mut kept) = (0, 0);
        for cycle in 0..4_u64 {
            let at = (60 + seed + 20 * cycle).to_string();
            let mut options = vec![("trigger_ios", at.as_str())];
            if cycle > 0 {
                options.push(("verify_state_continue", "true"));
            }
            match try_to(&text, &state, &options) {
                Ok(_) => {}
                // On a busy machine a worker may not answer the freeze in time.
                Err(why) if why.contains("does not say where the writing ended") => break,
                Err(why) => panic!("{why}\n{text}"),
            }
            let judged = execute(&text, &state, &[("verify_state_load", "true")]);
            let tally = judged.jobs[0].verify.as_ref().unwrap();
            let harmless: u64 = HARMLESS.iter().map(|&verdict| tally.of(verdict)).sum();
            assert_eq!(
                harmless,
                tally.counts.iter().sum::<u64>(),
                "cycle {cycle} of seed {seed}: {tally:#?}\n{text}"
            );
            assert!(tally.promised >= written, "promises are only added to");
            (written, kept) = (tally.promised, kept.max(tally.of(Verdict::Ok)));
        }
        assert!(kept > 0, "seed {seed}");
        sim::forget(&drive);
    }
}
