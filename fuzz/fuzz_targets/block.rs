//! Whatever stands in a block gets a verdict, and one that was spoilt is never judged to be right.
#![no_main]

#[path = "../../tests/block_fuzz/case.rs"]
mod case;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    case::check(bytes);
});
