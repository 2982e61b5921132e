//! Any text is a list of jobs that prints and parses back, or a list of mistakes that can be shown.
#![no_main]

use fio_spdk::job;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    // A pattern may name a file, and what stands in it is none of the fuzzer's business.
    if text.contains('/') && text.contains("pattern") && text.contains('\'') {
        return;
    }
    let parse = |text: &str| job::parse(&[("fuzz.toml".to_owned(), text.to_owned())], &[]);
    match parse(text) {
        Ok(jobs) => {
            let printed = job::print(&jobs);
            assert_eq!(parse(&printed).as_ref(), Ok(&jobs), "{printed}");
        }
        Err(why) => {
            assert!(why.iter().all(|one| one.line > 0 && one.column > 0));
            assert!(!why.render(false).is_empty());
        }
    }
});
