//! Broken job files: whatever the text, there are jobs that print and parse back, or mistakes that
//! can be shown; never a panic. The same seeds serve `cargo fuzz run job_file`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::Path;

use fio_spdk::base::random;
use fio_spdk::job;

/// Draws from a sequence that is the same in every run.
struct Dice {
    key: u64,
    drawn: u64,
}

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.drawn += 1;
        usize::try_from(random::below(random::at(self.key, self.drawn), n.max(1) as u64)).unwrap()
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/job_file");
    let mut paths: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 4);
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Parses, and holds the outcome to what is promised for any text. Gives whether there are jobs.
fn check(text: &str) -> bool {
    let parse = |text: &str| job::parse(&[("fuzz.toml".to_owned(), text.to_owned())], &[]);
    match parse(text) {
        Ok(jobs) => {
            assert!(!jobs.is_empty());
            let printed = job::print(&jobs);
            assert_eq!(parse(&printed).as_ref(), Ok(&jobs), "{text}\n---\n{printed}");
            true
        }
        Err(why) => {
            assert!(why.len() > 0);
            let lines = text.split('\n').count();
            for one in &why {
                assert!((1..=lines).contains(&one.line) && one.column > 0, "{one:?}\n{text}");
                assert!(!one.message.is_empty());
            }
            let shown = why.render(false);
            assert!(shown.starts_with("error: ") && shown.contains("fuzz.toml:"), "{shown}");
            assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "{shown:?}");
            false
        }
    }
}

/// Pieces that matter to the parser.
const TOKENS: [&str; 28] = [
    "[[job]]\n",
    "[global]\n",
    "[",
    "]",
    "{",
    "}",
    "\"",
    "'",
    "\"\"\"",
    "=",
    ",",
    ":",
    "/",
    "-",
    "%",
    "#",
    "\n",
    "\r\n",
    "0x",
    "4k",
    "true",
    "99999999999999999999",
    "1e400",
    "\u{feff}",
    "\u{0}",
    "ü",
    "\u{202e}",
    "bs = { read = 1 }\n",
];

fn mutate(bytes: &mut Vec<u8>, other: &[u8], dice: &mut Dice) {
    let at = dice.below(bytes.len() + 1);
    match dice.below(7) {
        0 => bytes.truncate(at),
        1 if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
        2 if at < bytes.len() => bytes[at] = u8::try_from(dice.below(256)).unwrap(),
        3 => {
            let from = dice.below(other.len() + 1);
            let to = (from + dice.below(80)).min(other.len());
            bytes.splice(at..at, other[from..to].iter().copied());
        }
        4 => {
            let to = (at + dice.below(40)).min(bytes.len());
            bytes.drain(at..to);
        }
        5 => {
            let to = (at + dice.below(60)).min(bytes.len());
            let copy = bytes[at..to].to_vec();
            let into = dice.below(bytes.len() + 1);
            bytes.splice(into..into, copy);
        }
        _ => {
            let token = TOKENS[dice.below(TOKENS.len())];
            bytes.splice(at..at, token.bytes());
        }
    }
}

#[test]
fn mutated_job_files_are_jobs_or_mistakes() {
    let seeds = seeds();
    let mut accepted = 0;
    for round in 0..4000 {
        let mut dice = Dice { key: 0x0010_b0f1_1e00, drawn: round << 20 };
        let mut bytes = seeds[dice.below(seeds.len())].clone();
        let other = &seeds[dice.below(seeds.len())];
        for _ in 0..=dice.below(4) {
            mutate(&mut bytes, other, &mut dice);
        }
        accepted += usize::from(check(&String::from_utf8_lossy(&bytes)));
    }
    // If nearly nothing came through, the way back was not tested.
    assert!(accepted > 200, "{accepted}");
}

#[test]
fn every_prefix_of_a_job_file_is_jobs_or_mistakes() {
    for seed in seeds() {
        let text = String::from_utf8(seed).unwrap();
        for end in (0..text.len()).filter(|&end| text.is_char_boundary(end)) {
            check(&text[..end]);
        }
    }
}

#[test]
fn deep_and_large_texts_end_soon() {
    let deep = 100_000;
    for text in [
        format!("[[job]]\nbs = {}{}\n", "[".repeat(deep), "]".repeat(deep)),
        format!("[[job]]\nbs = {}", "[".repeat(deep)),
        format!("[[job]]\nbs = {}\n", "{a=".repeat(deep)),
        format!("[[job]]\n{}b = 1\n", "a.".repeat(deep)),
        format!("[{}b]\n", "a.".repeat(deep)),
        format!("[[job]]\nbs = \"{}\"\n", "9".repeat(1 << 20)),
        format!("[[job]]\nbs = {}\n", "9".repeat(1 << 20)),
        format!("[[job]]\n{} = 1\n", "x".repeat(1 << 20)),
        format!("[[job]]\nrandom_distribution = \"zoned:{}\"\n", ":".repeat(1 << 20)),
        format!("[[job]]\nbssplit = \"{}\"\n", "4k/:".repeat(1 << 16)),
        format!("[[job]]\ncpus_allowed = \"{}\"\n", "0-8191,".repeat(1 << 8)),
        format!("[[job]]\nfilename = [{}]\n", "3,".repeat(1 << 16)),
        format!("[[job]]\nbuffer_pattern = \"0x{}\"\n", "ab".repeat((1 << 20) + 1)),
        "[[job]]\n".repeat(20_000),
        "[[job]]\nbs = 4q\n".repeat(5_000),
        (0..50_000).map(|n| format!("k{n} = {n}\n")).collect(),
        "\u{0}".repeat(1 << 20),
        "\n".repeat(1 << 20),
        "\u{feff}".repeat(1000),
    ] {
        assert!(!check(&text), "{}", &text[..40.min(text.len())]);
    }
    // A long list is no mistake.
    let names: Vec<String> = (0..20_000).map(|n| format!("\"/tmp/{n}\"")).collect();
    assert!(check(&format!("[[job]]\nfilename = [{}]\n", names.join(", "))));
}
