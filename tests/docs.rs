//! What the documents claim is so: their job files are job files, the commands that a reader is told
//! to try work, and what they point at is there.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its documents has failed")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use fio_spdk::job;

/// Appended to every command, so that it takes a moment and stays within a temporary directory.
const SHORT: &str = "--runtime=200ms --ramp_time=0 --size=16m --directory=.";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text_of(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

/// Every document of the project.
fn documents() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for directory in ["", "docs", "docs/decisions", "jobs"] {
        let Ok(entries) = fs::read_dir(root().join(directory)) else { continue };
        let paths = entries.map(|entry| entry.unwrap().path());
        found.extend(paths.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    }
    assert!(found.len() >= 5, "{found:?}");
    found
}

/// The fenced blocks with exactly this word (or words) behind the opening fence.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open: Option<(bool, String)> = None;
    for line in text.lines() {
        match (&mut open, line.trim_start().strip_prefix("```")) {
            (None, Some(info)) => open = Some((info.trim() == language, String::new())),
            (Some(_), Some(_)) => {
                let (wanted, block) = open.take().unwrap_or_default();
                if wanted {
                    found.push(block);
                }
            }
            (Some((_, block)), None) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    found
}

/// The commands of blocks marked `sh run`, without the program's name and without comments.
fn runnable(text: &str) -> Vec<String> {
    let blocks = blocks(text, "sh run");
    let lines = blocks.iter().flat_map(|block| block.lines());
    let lines =
        lines.map(|line| line.split(" #").next().unwrap_or(line).trim()).filter(|line| !line.is_empty());
    let arguments = |line: &str| {
        let rest = line.strip_prefix("cargo run --release --").or_else(|| line.strip_prefix("fio-spdk"));
        rest.unwrap_or_else(|| panic!("only fio-spdk can be run here: {line}")).to_owned()
    };
    lines.map(arguments).collect()
}

/// A directory with a copy of jobs/, for commands to run in.
fn playground() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("jobs")).unwrap();
    for entry in fs::read_dir(root().join("jobs")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, dir.path().join("jobs").join(path.file_name().unwrap())).unwrap();
        }
    }
    dir
}

fn run(arguments: &str, dir: &Path) -> Output {
    let starts = |name: &str| arguments.split_whitespace().next() == Some(name);
    let short = if starts("devices") || starts("completions") { "" } else { SHORT };
    // A shell, because a reader has one too: quotes mean there what they mean here.
    let script = format!("'{}' {arguments} {short}", env!("CARGO_BIN_EXE_fio-spdk"));
    Command::new("sh").args(["-c", &script]).current_dir(dir).output().unwrap()
}

#[test]
fn every_toml_block_is_a_job_file() {
    let mut seen = 0;
    for path in documents() {
        for block in blocks(&text_of(&path), "toml") {
            let name = path.display().to_string();
            let parsed = if block.contains("[campaign]") {
                job::parse_campaign(&(name, block.clone()), &[]).map(|(jobs, _)| jobs)
            } else {
                job::parse(&[(name, block.clone())], &[])
            };
            if let Err(why) = parsed {
                panic!("{}:\n{block}\n{}", path.display(), why.render(false));
            }
            seen += 1;
        }
    }
    assert!(seen >= 3, "{seen}");
}

#[test]
fn every_command_that_the_readme_invites_to_try_ends_well() {
    let commands = runnable(&text_of(&root().join("README.md")));
    assert!(commands.len() >= 8, "{commands:?}");
    let dir = playground();
    for command in commands {
        let out = run(&command, dir.path());
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "fio-spdk {command}: {}\n{said}", out.status);
    }
}

/// The output that the README shows was cut from a terminal some time ago. Its figures are those of
/// one machine; its lines are what the program prints today.
#[test]
fn the_output_that_the_readme_shows_is_what_the_command_prints() {
    let text = text_of(&root().join("README.md"));
    let shown = blocks(&text, "text").into_iter().next().expect("the README shows output");
    let first = runnable(&text).into_iter().next().expect("the README begins with a command");
    let dir = playground();
    let out = run(&first, dir.path());
    let printed = String::from_utf8_lossy(&out.stdout);
    for line in shown.lines() {
        let Some(word) = line.split_whitespace().next() else { continue };
        // How many intervals there are depends on the time; on which CPU something ran, on the machine.
        let varies = word.starts_with(|c: char| c.is_ascii_digit()) || line.starts_with("  cpu ");
        let there = printed.lines().any(|other| other.split_whitespace().next() == Some(word));
        assert!(varies || there, "`{line}` is not in\n{printed}");
    }
}

#[test]
fn every_link_to_a_file_leads_somewhere() {
    let mut seen = 0;
    for path in documents() {
        for rest in text_of(&path).split("](").skip(1) {
            let target = rest.split([')', ' ', '\n']).next().unwrap_or_default();
            let file = target.split('#').next().unwrap_or_default();
            if file.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let there = path.parent().unwrap().join(file);
            assert!(there.exists(), "{}: nothing at {target}", path.display());
            seen += 1;
        }
    }
    assert!(seen >= 5, "{seen}");
}

/// Documents name files in backticks, `src/engine/null.rs`: a file that has moved is found here.
#[test]
fn every_file_that_a_document_names_exists() {
    let mut seen = 0;
    for name in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"] {
        for word in text_of(&root().join(name)).split('`').skip(1).step_by(2) {
            let is_path = ["src/", "docs/", "jobs/", "ci/", "tests/", "benches/", "fuzz/"]
                .iter()
                .any(|start| word.starts_with(start))
                && !word.contains(['*', ' ', '<', '\n']);
            if is_path {
                assert!(root().join(word).exists(), "{name}: there is no {word}");
                seen += 1;
            }
        }
    }
    assert!(seen >= 20, "{seen}");
}
