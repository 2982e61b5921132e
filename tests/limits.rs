//! What a text, a job or a client can make the program take of the machine's memory.

mod common;

use std::process::Command;

use common::{BINARY, Lab, Running};

const MIB: usize = 1 << 20;

/// The program with at most this much address space, in MiB: what needs more fails.
fn within(lab: &Lab, mib: u64, arguments: &[&str]) -> Running {
    let mut command: Command = lab.command("sh");
    command.args(["-c", &format!("ulimit -v {} && exec \"$@\"", mib * 1024), "sh", BINARY]).args(arguments);
    Running::of(command)
}

/// Texts of up to 16 MiB, the longest that a job file can be, each made to fill memory.
fn hostile_texts() -> Vec<(&'static str, String)> {
    vec![
        ("nothing but errors", "= =\n".repeat(4 * MIB)),
        ("errors within one value", format!("a = \"{}\"\n", "\\q".repeat(MIB))),
        ("an array of arrays", format!("a = [{}]\n", "[],".repeat(5 * MIB))),
        ("as many arrays as may be", format!("[[job]]\nfilename = [{}]\n", "[],".repeat(330_000))),
        ("a deep array", format!("[[job]]\nbs = {}\n", "[".repeat(8 * MIB))),
        ("a key set again and again", "a = 1\n".repeat(160_000)),
        ("tables", (0..200_000).map(|at| format!("[a{at}]\n")).collect()),
        ("unknown options", (0..160_000).map(|at| format!("k{at} = 1\n")).collect()),
        (
            "a long text that every job has a copy of",
            format!("[global]\ndescription = \"{}\"\n{}", "x".repeat(15 * MIB), "[[job]]\n".repeat(4000)),
        ),
    ]
}

#[test]
fn no_text_makes_the_parser_take_more_than_400_mib() {
    let lab = Lab::new();
    for (what, text) in hostile_texts() {
        lab.file("job.toml", &text);
        let done = within(&lab, 400, &["--check", "job.toml"]).end();
        assert!(done.code == Some(2) && done.stderr.contains("error: "), "{what}: {done:?}");
        assert!(done.stderr.len() < 200_000, "{what}: {} bytes of messages", done.stderr.len());
    }
}

#[test]
fn a_server_reads_no_settings_that_fill_its_memory() {
    let lab = Lab::new();
    for (what, text) in hostile_texts() {
        lab.file("server.toml", &text.as_bytes()[..text.len().min(MIB)]);
        let done = within(&lab, 400, &["server", "--config", "server.toml"]).end();
        assert!(done.code == Some(2) && done.stderr.contains("error: "), "{what}: {done:?}");
    }
}

#[test]
fn twenty_thousand_overrides_are_read_and_the_last_of_each_wins() {
    let lab = Lab::new();
    let mut arguments: Vec<String> = (1..20_000).map(|at| format!("--iodepth={}", at % 1000 + 1)).collect();
    arguments.extend(["--iodepth=7", "--ioengine=null", "--size=1m", "--print-job"].map(str::to_owned));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = lab.run(&arguments).expect(0);
    assert!(done.stdout.contains("iodepth = 7\n"), "{done:?}");
}
