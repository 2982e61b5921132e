//! Logs of I/Os that are nearly always accepted: what is read can be written and is read back the same, and a
//! job that replays one either runs to its end or is refused with a reason.
//!
//! The input is not the log: it chooses the lines from which the log is built.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use fio_spdk::base::Op;
use fio_spdk::base::replay::{Logged, Recorded, ReplayRules};
use fio_spdk::job;
use fio_spdk::report::Report;
use fio_spdk::run::{self, Observer, Progress, Requests, RunOptions};
use fio_spdk::trace::{LogWriter, Name, Reader};

use super::draw::Draw;

/// A run of the whole program takes long: only one input in this number is run.
const RUN_EVERY: u64 = 16;
/// The longest I/O that a run is given.
const LONGEST: u64 = 1 << 20;

struct Silent;

impl Observer for Silent {
    fn note(&mut self, _: &str) {}
    fn progress(&mut self, _: &Progress) {}
    fn so_far(&mut self, _: &Report) {}
}

fn log(draw: &mut Draw<'_>) -> String {
    let version = 2 + draw.below(2);
    let mut text = format!("fio version {version} iolog\n");
    let names: Vec<String> = (0..=draw.below(4)).map(|number| format!("/file{number}")).collect();
    let mut at = 0_u64;
    let line = |text: &mut String, at: u64, rest: &str| {
        let _ = match version {
            3 => writeln!(text, "{at} {rest}"),
            _ => writeln!(text, "{rest}"),
        };
    };
    for action in ["add", "open"] {
        names.iter().for_each(|name| line(&mut text, 0, &format!("{name} {action}")));
    }
    for _ in 0..draw.below(64) {
        at += draw.number() % 1_000_000;
        let name = &names[draw.below(names.len() as u64) as usize];
        let (offset, len) = (draw.number() >> 2, 1 + draw.number() % (2 * LONGEST));
        let (offset, len) = match draw.below(4) {
            0 => (offset, len),
            _ => ((offset % (1 << 24)) & !511, (len & !511).max(512)),
        };
        let action = match draw.below(12) {
            0..=3 => format!("{name} read {offset} {len}"),
            4..=7 => format!("{name} write {offset} {len}"),
            8 => format!("{name} trim {offset} {len}"),
            9 => format!("{name} sync 0 0"),
            10 => format!("{name} datasync 0 0"),
            _ if version == 2 => format!("{name} wait {} 0", draw.below(100)),
            _ if draw.below(64) == 63 => draw.text().replace('\n', " "),
            _ => format!("{name} read {offset} {len}"),
        };
        line(&mut text, at, &action);
    }
    names.iter().for_each(|name| line(&mut text, at, &format!("{name} close")));
    text
}

fn rules(draw: &mut Draw<'_>) -> ReplayRules {
    ReplayRules {
        no_stall: draw.below(2) == 0,
        time_scale: 1 + draw.below(1000) as u32,
        align: [0, 512, 4096][draw.below(3) as usize],
        scale: 1 + draw.below(8) as u32,
        ..ReplayRules::default()
    }
}

/// All I/Os of a log, and its names; `None` if there is a mistake in it.
fn read(text: &[u8], rules: &ReplayRules) -> Option<(Vec<Logged>, Vec<String>)> {
    let mut reader = Reader::of_bytes(text.to_vec(), rules).ok()?;
    let mut all = Vec::new();
    while let Some(io) = reader.next_io().ok()? {
        assert!(usize::from(io.target) < reader.names().len());
        assert!(all.last().is_none_or(|last: &Logged| last.due_ns <= io.due_ns));
        assert!(io.offset.checked_add(u64::from(io.len)).is_some_and(|end| end <= 1 << 63));
        assert!((io.op == Op::Flush) == (io.len == 0));
        assert!(rules.align == 0 || io.offset % u64::from(rules.align) == 0);
        all.push(io);
    }
    Some((all, reader.names().iter().map(Name::to_string).collect()))
}

fn scratch() -> &'static PathBuf {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| std::env::temp_dir().join(format!("fio-spdk-fuzz.{}.log", std::process::id())))
}

/// Replays the log on the null engine.
fn replay(text: &str, rules: &ReplayRules) {
    let file = scratch();
    fs::write(file, text).expect("the directory for temporary files can be written");
    let job = format!(
        "[[job]]\nname = \"fuzz\"\nioengine = \"null\"\nreplay_redirect = \"/null\"\n\
         read_iolog = {:?}\nreplay_no_stall = true\nreplay_align = {}\nreplay_scale = {}\nruntime = \"2s\"\n",
        file.display().to_string(),
        rules.align,
        rules.scale
    );
    let jobs = job::parse(&[("fuzz.toml".to_owned(), job)], &[])
        .unwrap_or_else(|why| panic!("{}", why.render(false)));
    match run::execute(jobs, &RunOptions::default(), &Requests::default(), &mut Silent) {
        Ok(ended) => assert!(ended.failure.is_none()),
        Err(why) => assert!(!why.message.is_empty()),
    }
}

/// Builds an input from `bytes`, and holds what becomes of it to what is promised; false if it was refused.
pub fn check(bytes: &[u8]) -> bool {
    let mut draw = Draw::new(bytes);
    let (rules, runs) = (rules(&mut draw), draw.below(RUN_EVERY) == 0);
    let text = log(&mut draw);
    let Some((all, names)) = read(text.as_bytes(), &rules) else { return false };
    let mut written = Vec::new();
    let mut log = LogWriter::new(&mut written, names.clone()).expect("memory takes everything");
    for io in &all {
        let Logged { due_ns, offset, len, target, op, data_only, .. } = *io;
        log.record(&Recorded { time_ns: due_ns, op, offset, len, target, data_only }).expect("as above");
    }
    log.close().expect("as above");
    // The opening lines say when a log begins, and times are stored in microseconds.
    let (again, names_again) = read(&written, &ReplayRules::default()).expect("what was written is a log");
    assert_eq!((again.len(), &names_again), (all.len(), &names));
    for (again, first) in again.iter().zip(&all) {
        let first = Logged { due_ns: first.due_ns / 1000 * 1000, ..*first };
        assert_eq!(*again, first);
    }
    if runs && all.iter().all(|io| u64::from(io.len) <= LONGEST) {
        replay(&text, &rules);
    }
    true
}
