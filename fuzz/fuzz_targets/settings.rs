//! `fuzz/checks/settings.rs` over inputs of libFuzzer.
#![no_main]

#[path = "../checks/draw.rs"]
mod draw;
#[path = "../checks/settings.rs"]
mod settings;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    settings::check(bytes);
});
