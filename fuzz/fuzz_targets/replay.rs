//! `fuzz/checks/replay.rs` over inputs of libFuzzer.
#![no_main]

#[path = "../checks/draw.rs"]
mod draw;
#[path = "../checks/replay.rs"]
mod replay;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    replay::check(bytes);
});
