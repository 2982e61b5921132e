//! How long it takes to judge by a snapshot of many unflushed overwrites of few blocks: linear in the
//! writes, whatever the blocks. Prints seconds for each length, and the ratio to the length before.
//!
//! `--millions 1,2,4` (writes, in millions), `--directory DIR` (where the file under test is; in memory it
//! takes least time).
#![expect(clippy::print_stdout, reason = "a benchmark prints")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up has nothing to say")]

use std::path::{Path, PathBuf};

use fio_spdk::base::clock::Clock;
use fio_spdk::job;
use fio_spdk::report::Report;
use fio_spdk::run::{self, Observer, Progress, Requests, RunOptions};

struct Silent;

impl Observer for Silent {
    fn note(&mut self, _: &str) {}
    fn progress(&mut self, _: &Progress) {}
    fn so_far(&mut self, _: &Report) {}
}

fn execute(text: &str, state: &Path, load: bool) -> Report {
    let more: &[(&str, &str)] = if load { &[("verify_state_load", "true")] } else { &[] };
    let more: Vec<(String, String)> =
        more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let jobs = job::parse(&[("bench.toml".to_owned(), text.to_owned())], &more).unwrap();
    let options = RunOptions { state: Some(state.to_owned()), ..RunOptions::default() };
    run::execute(jobs, &options, &Requests::default(), &mut Silent).unwrap().report
}

fn main() {
    let argument = |name: &str| std::env::args().skip_while(|argument| argument != name).nth(1);
    let millions = argument("--millions").unwrap_or_else(|| "1,2,4".to_owned());
    let directory = argument("--directory").unwrap_or_else(|| "/dev/shm".to_owned());
    for (name, lines) in [
        ("16 blocks of 4 KiB, writes of 4 KiB", "bs = \"4k\""),
        ("16 blocks of 4 KiB, writes of 4 and 8 KiB", "bssplit = \"4k/50:8k/50\""),
    ] {
        println!("{name}");
        let mut before: Option<f64> = None;
        for count in millions.split(',').filter_map(|text| text.parse::<f64>().ok()) {
            let folder = tempfile::tempdir_in(&directory).unwrap();
            let (file, state): (PathBuf, PathBuf) =
                (folder.path().join("file"), folder.path().join("bench.state"));
            std::fs::write(&file, vec![0; 64 << 10]).unwrap();
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few millions")]
            let writes = (count * 1e6) as u64;
            let text = format!(
                "[[job]]\nfilename = \"{}\"\nioengine = \"psync\"\nrw = \"randwrite\"\nsize = \"64k\"\nio_size = \"1t\"\n\
                 norandommap = true\nnumber_ios = {writes}\nverify = \"crc32c\"\ndo_verify = false\n{lines}\n",
                file.display()
            );
            execute(&text, &state, false);
            let begun_ns = Clock::get().now_ns();
            let report = execute(&text, &state, true);
            #[expect(clippy::cast_precision_loss, reason = "two digits are printed")]
            let seconds = (Clock::get().now_ns() - begun_ns) as f64 / 1e9;
            let checked: u64 =
                report.jobs.iter().filter_map(|job| job.verify.as_ref()).map(|tally| tally.checked).sum();
            let ratio = before
                .map_or_else(String::new, |before| format!(", {:.2} times the one before", seconds / before));
            println!("  {count} million writes, {checked} blocks: {seconds:.2} s{ratio}");
            before = Some(seconds);
        }
    }
}
