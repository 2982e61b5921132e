//! `fuzz/checks/histogram.rs` over inputs of libFuzzer.
#![no_main]

#[path = "../checks/draw.rs"]
mod draw;
#[path = "../checks/histogram.rs"]
mod histogram;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    histogram::check(bytes);
});
