//! Inputs that are nearly always accepted, and what follows then: `server.toml`, histograms, logs of I/Os. The same
//! checks serve `cargo fuzz run settings`, `histogram` and `replay`.
//!
//! `FIO_SPDK_FUZZ_SECONDS=600` goes on for so long with each, from a seed that changes; `FIO_SPDK_FUZZ_SEED=N`
//! repeats one.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]
#![allow(clippy::disallowed_methods, reason = "how long it goes on is not set by job files")]
#![allow(clippy::print_stderr, reason = "says what was done")]

#[path = "../fuzz/checks/draw.rs"]
mod draw;
#[path = "../fuzz/checks/histogram.rs"]
mod histogram;
#[path = "../fuzz/checks/replay.rs"]
mod replay;
#[path = "../fuzz/checks/settings.rs"]
mod settings;

use fio_spdk::base::clock::{Clock, unix_time_ms};
use fio_spdk::base::random;

const LONGEST: u64 = 700;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// The bytes of an input.
fn input(seed: u64) -> Vec<u8> {
    let len = random::below(random::at(seed, 0), LONGEST);
    let draw = |at: u64| random::at(seed, 1 + at).to_le_bytes();
    let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(draw).collect();
    bytes.truncate(usize::try_from(len).unwrap());
    bytes
}

/// Checks `count` inputs, or as many as the time allows that was asked for. Most must be accepted.
fn check_many(name: &str, count: u64, check: fn(&[u8]) -> bool) {
    let clock = Clock::get();
    let begun_ns = clock.now_ns();
    let seconds = number("FIO_SPDK_FUZZ_SECONDS");
    let first = number("FIO_SPDK_FUZZ_SEED").unwrap_or_else(|| seconds.map_or(0, |_| unix_time_ms() << 20));
    let goes_on = |done: u64| match (number("FIO_SPDK_FUZZ_SEED"), seconds) {
        (Some(_), _) => done < 1,
        (None, Some(seconds)) => clock.now_ns() - begun_ns < seconds * 1_000_000_000,
        (None, None) => done < count,
    };
    let (mut done, mut accepted) = (0, 0);
    while goes_on(done) {
        let seed = first + done;
        let judged = std::panic::catch_unwind(|| check(&input(seed)));
        accepted += u64::from(judged.unwrap_or_else(|_| panic!("{name}: FIO_SPDK_FUZZ_SEED={seed}")));
        done += 1;
    }
    eprintln!("{name}: {done} inputs, {accepted} accepted");
    assert!(done <= 1 || 2 * accepted >= done, "{name}: {accepted} of {done} accepted");
}

#[test]
fn settings_that_are_accepted_keep_to_their_limits_and_are_written_as_they_were_read() {
    check_many("settings", 3000, settings::check);
}

#[test]
fn histograms_that_are_accepted_give_every_figure_alone_and_merged() {
    check_many("histogram", 1000, histogram::check);
}

#[test]
fn logs_that_are_accepted_are_written_as_they_were_read_and_can_be_replayed() {
    check_many("replay", 1000, replay::check);
}
