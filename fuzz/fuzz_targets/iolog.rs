//! Whatever a log of I/Os holds, it is read to its end or to a mistake.
#![no_main]

use fio_spdk::base::replay::ReplayRules;
use fio_spdk::trace::Reader;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let rules = ReplayRules { scale: 3, align: 4096, ..ReplayRules::default() };
    for rules in [ReplayRules::default(), rules] {
        let Ok(mut reader) = Reader::of_bytes(bytes.to_vec(), &rules) else { continue };
        let mut last = 0;
        while let Ok(Some(io)) = reader.next_io() {
            assert!(io.due_ns >= last && usize::from(io.target) < reader.names().len());
            last = io.due_ns;
        }
    }
});
