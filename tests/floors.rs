//! Holds the source to its own rules: imports point down and siblings do not meet, `unsafe` stays
//! where it is named, files and functions stay small, and nothing is left half done.

#![allow(clippy::unwrap_used, reason = "a test that cannot read the source has nothing to say")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The floors, from below. A module may import from floors below its own.
const FLOORS: &[(&str, u8)] = &[
    ("base", 0),
    ("job", 1),
    ("engine", 1),
    ("workload", 1),
    ("verify", 1),
    ("stats", 1),
    ("trace", 1),
    ("reactor", 2),
    ("report", 2),
    ("run", 3),
    ("remote", 4),
    ("cli", 5),
];

/// Modules that may not import everything below them: what they may import.
const NARROWED: &[(&str, &[&str])] =
    &[("report", &["base", "job", "stats"]), ("reactor", &["base", "engine", "workload", "verify", "stats"])];

/// Where the compiler's ban on `unsafe` may be lifted, and why.
const UNSAFE_ALLOWED: &[(&str, &str)] = &[
    ("src/engine/buffer.rs", "memory shared with the kernel and with devices"),
    ("src/engine/io_uring.rs", "submission entries carry raw pointers"),
    ("src/engine/kernel_file.rs", "ioctls"),
    ("src/cli/streams.rs", "what is looked at before `main`"),
    ("src/engine/spdk/mod.rs", "the driver takes raw pointers to buffers"),
    ("src/base/host/", "system calls that no crate has"),
    ("src/verify/checksum/pool_crc.rs", "instructions that not every processor has"),
    ("spdk-sys/", "calls of C"),
    ("tests/common/network.rs", "an ioctl"),
    ("tests/zero_alloc.rs", "an allocator that counts"),
];

/// Files of more than [`MOST_LINES_FILE`] lines, and why they are not cut.
const LONG_FILES: &[(&str, &str)] = &[
    (
        "src/job/options/mod.rs",
        "one table, an entry an option: a list to look things up in, not to read through",
    ),
    ("tests/device_safety.rs", "one guard, its trials and the devices they attach"),
];

/// Functions of more than [`MOST_LINES_FUNCTION`] lines, and why they are not cut.
const LONG_FUNCTIONS: &[(&str, &str, &str)] = &[];

const MOST_LINES_FILE: usize = 600;
const MOST_LINES_FUNCTION: usize = 80;

/// Every Rust file below `folder` (from the package's root), with its path from there.
fn sources(folder: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders: Vec<PathBuf> = vec![root.join(folder)];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).unwrap().display().to_string();
                files.push((name, std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    files.sort();
    files
}

fn all_sources() -> Vec<(String, String)> {
    ["src", "spdk-sys", "tests", "benches"].into_iter().flat_map(sources).collect()
}

/// The source without comments and without what stands in quotes, line for line: what is left of
/// it are names, signs and braces.
fn code(text: &str) -> String {
    let bytes: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    let next = |at: usize| bytes.get(at + 1).copied().unwrap_or(' ');
    while at < bytes.len() {
        match bytes[at] {
            '/' if next(at) == '/' => {
                while at < bytes.len() && bytes[at] != '\n' {
                    at += 1;
                }
            }
            '/' if next(at) == '*' => {
                while at < bytes.len() && !(bytes[at] == '*' && next(at) == '/') {
                    if bytes[at] == '\n' {
                        out.push('\n');
                    }
                    at += 1;
                }
                at += 2;
            }
            'r' if matches!(next(at), '"' | '#')
                && !out.ends_with(|c: char| c.is_alphanumeric() || c == '_') =>
            {
                let hashes = bytes[at + 1..].iter().take_while(|&&c| c == '#').count();
                if bytes.get(at + 1 + hashes) != Some(&'"') {
                    out.push('r');
                    at += 1;
                    continue;
                }
                let end: String = std::iter::once('"').chain((0..hashes).map(|_| '#')).collect();
                at += 2 + hashes;
                while at < bytes.len() && !bytes[at..].iter().take(hashes + 1).copied().eq(end.chars()) {
                    if bytes[at] == '\n' {
                        out.push('\n');
                    }
                    at += 1;
                }
                at += hashes + 1;
            }
            '"' => {
                at += 1;
                while at < bytes.len() && bytes[at] != '"' {
                    if bytes[at] == '\\' {
                        at += 1;
                    }
                    if bytes.get(at) == Some(&'\n') {
                        out.push('\n');
                    }
                    at += 1;
                }
                at += 1;
            }
            // A character, not a lifetime.
            '\'' if next(at) == '\\' || bytes.get(at + 2) == Some(&'\'') => {
                at += if next(at) == '\\' { 3 } else { 2 };
                while at < bytes.len() && bytes[at] != '\'' {
                    at += 1;
                }
                at += 1;
            }
            other => {
                out.push(other);
                at += 1;
            }
        }
    }
    out
}

/// The top modules that `text` names after `crate::`, through groups such as `crate::{a, b::C}` too.
fn imports(text: &str) -> BTreeSet<String> {
    let code = code(text);
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = code[at + "crate::".len()..].trim_start();
        let mut depth = 0;
        let mut word = String::new();
        let mut takes = true;
        for c in rest.chars() {
            match c {
                c if c.is_alphanumeric() || c == '_' => {
                    if takes {
                        word.push(c);
                    }
                    continue;
                }
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if !word.is_empty() {
                found.insert(std::mem::take(&mut word));
                takes = false;
            }
            if c == ',' && depth == 1 {
                takes = true;
            }
            if depth == 0 {
                break;
            }
        }
    }
    found
}

fn floor(module: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == module).map(|(_, floor)| *floor)
}

/// What is wrong with `module` importing `imported`, if anything is.
fn objection(module: &str, imported: &str) -> Option<String> {
    if module == imported {
        return None;
    }
    let from = floor(module)?;
    let Some(to) = floor(imported) else { return Some(format!("`{imported}` has no floor")) };
    if to >= from {
        return Some(format!("{module} (floor {from}) imports {imported} (floor {to})"));
    }
    let narrowed = NARROWED.iter().find(|(name, _)| *name == module);
    let (_, allowed) = narrowed?;
    (!allowed.contains(&imported)).then(|| format!("{module} must not know {imported}"))
}

/// The module that a file of `src` belongs to; `None` for `main.rs` and `lib.rs`.
fn module_of(path: &str) -> Option<String> {
    let inside = path.strip_prefix("src/")?;
    let first = inside.split('/').next()?;
    let module = first.trim_end_matches(".rs");
    (!matches!(module, "main" | "lib")).then(|| module.to_owned())
}

#[test]
fn the_table_of_floors_that_people_read_is_this_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let table = text.split("\n## ").find(|part| part.starts_with("Floors\n")).unwrap();
    let rows = table.lines().filter_map(|line| {
        let mut cells = line.split('|').skip(1).map(str::trim);
        let floor: u8 = cells.next()?.parse().ok()?;
        Some((cells.next()?.split('`').nth(1)?.to_owned(), floor))
    });
    let told: BTreeSet<(String, u8)> = rows.collect();
    let known: BTreeSet<(String, u8)> =
        FLOORS.iter().map(|&(module, floor)| (module.to_owned(), floor)).collect();
    assert_eq!(told, known);
}

#[test]
fn imports_point_down_and_siblings_do_not_meet() {
    let mut wrong = String::new();
    let mut seen = 0;
    for (path, text) in sources("src") {
        let Some(module) = module_of(&path) else { continue };
        if floor(&module).is_none() {
            let _ = writeln!(wrong, "{path}: module `{module}` has no floor: add it to FLOORS");
        }
        for imported in imports(&text) {
            seen += 1;
            if let Some(objection) = objection(&module, &imported) {
                let _ = writeln!(wrong, "{path}: {objection}");
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(seen > 50, "only {seen} imports found: the scan is broken");
}

#[test]
fn the_scan_of_imports_sees_every_form() {
    let names = |text: &str| imports(text).into_iter().collect::<Vec<_>>();
    assert_eq!(names("use crate::base::Op;"), ["base"]);
    assert_eq!(names("use crate::{engine, job::{self, Spec}, report};"), ["engine", "job", "report"]);
    assert_eq!(names("fn f() { crate::run::go(crate::stats::X) }"), ["run", "stats"]);
    assert_eq!(
        names("// crate::run\n/* crate::cli */ \"crate::job\" r#\"crate::job\"#"),
        Vec::<String>::new()
    );
    assert_eq!(names("let c = '\"'; use crate::base; let d = '\"';"), ["base"]);
    assert_eq!(names("pub(in crate::engine) fn f<'a>(x: &'a str) {}"), ["engine"]);
    assert!(objection("engine", "workload").is_some(), "siblings");
    assert!(objection("base", "stats").is_some(), "up");
    assert!(objection("reactor", "job").is_some() && objection("report", "engine").is_some(), "narrowed");
    assert!(objection("run", "reactor").is_none() && objection("reactor", "engine").is_none());
}

#[test]
fn unsafe_is_only_where_it_is_named() {
    for (path, text) in all_sources() {
        let lifts = code(&text).contains("unsafe_code");
        let named = UNSAFE_ALLOWED.iter().any(|(allowed, _)| path.starts_with(allowed));
        assert!(!lifts || named, "{path} lifts the ban on unsafe code: say why in UNSAFE_ALLOWED");
    }
}

/// Functions of `code` with their lengths in lines, from the line of `fn` to that of its last brace.
fn functions(code: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let name: String = code[at + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let (mut depth, mut lines, mut nested) = (0, 1, 0);
        for c in code[at..].chars() {
            match c {
                '\n' => lines += 1,
                '(' | '[' => nested += 1,
                ')' | ']' => nested -= 1,
                '{' => depth += 1,
                '}' => depth -= 1,
                ';' if depth == 0 && nested == 0 => break,
                _ => {}
            }
            if c == '}' && depth == 0 {
                if !name.is_empty() {
                    found.push((name, lines));
                }
                break;
            }
        }
    }
    found
}

#[test]
fn files_and_functions_stay_small() {
    let mut wrong = String::new();
    // What is made from proto/ is nobody's to cut.
    let made = |text: &str| text.starts_with("// Made from proto/");
    for (path, text) in all_sources().into_iter().filter(|(_, text)| !made(text)) {
        let lines = text.lines().count();
        if lines > MOST_LINES_FILE && !LONG_FILES.iter().any(|(long, _)| *long == path) {
            let _ = writeln!(wrong, "{path} has {lines} lines: cut it, or say in LONG_FILES why not");
        }
        for (name, lines) in functions(&code(&text)) {
            let excused = LONG_FUNCTIONS.iter().any(|(file, long, _)| *file == path && *long == name);
            if lines > MOST_LINES_FUNCTION && !excused {
                let _ =
                    writeln!(wrong, "{path}: {name} has {lines} lines: cut it, or add it to LONG_FUNCTIONS");
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn functions_are_measured() {
    let text =
        "fn a() {\n  b();\n}\nfn b(x: [u8; 4]) -> u8 { '{' as u8 }\ntrait T { fn c(&self); fn d() {\n\n} }\n";
    let found = functions(&code(text));
    assert_eq!(found, [("a".to_owned(), 3), ("b".to_owned(), 1), ("d".to_owned(), 3)]);
}

#[test]
fn nothing_is_left_half_done() {
    // Joined here, or this file would find itself.
    let marks = [["TO", "DO"], ["FIX", "ME"], ["X", "XX"]].map(|parts| parts.concat());
    for (path, text) in all_sources() {
        for (number, line) in text.lines().enumerate() {
            let at = number + 1;
            for mark in &marks {
                let word = line.split(|c: char| !c.is_alphanumeric()).any(|word| word == mark);
                assert!(!word, "{path}:{at}: {mark}");
            }
            assert!(!line.contains(&["todo", "!("].concat()), "{path}:{at}: an unfinished place");
            let ignored = line.trim_start().starts_with(&["#[ig", "nore"].concat());
            // Those that write a checked-in file are run by hand and say so.
            assert!(!ignored || line.contains("\"writes "), "{path}:{at}: a test that nobody runs");
        }
    }
}

#[test]
fn the_loop_never_sleeps() {
    // The admin queues of all controllers have a thread of their own, which is no reactor.
    // A worker that is alone and has nothing due, because its job says so, leaves the processor to others.
    let beside = ["src/engine/spdk/session.rs", "src/reactor/worker/pace.rs"];
    for (path, text) in ["src/reactor", "src/engine"].into_iter().flat_map(sources) {
        if beside.contains(&path.as_str()) {
            continue;
        }
        let code = code(&text);
        assert!(!code.contains("sleep(") && !code.contains("park"), "{path}: a reactor never waits");
    }
}

#[test]
fn exceptions_are_needed() {
    let all = all_sources();
    for (name, _) in LONG_FILES {
        let long = all.iter().any(|(path, text)| path == name && text.lines().count() > MOST_LINES_FILE);
        assert!(long, "{name} needs no exception (any more)");
    }
    for (file, name, _) in LONG_FUNCTIONS {
        let long = all.iter().any(|(path, text)| {
            path == file
                && functions(&code(text))
                    .iter()
                    .any(|(found, lines)| found == name && *lines > MOST_LINES_FUNCTION)
        });
        assert!(long, "{file}: {name} needs no exception (any more)");
    }
}
