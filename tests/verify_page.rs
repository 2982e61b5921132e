//! docs/verify.md says what every verdict means, and lists the exit codes that there are.

use std::collections::BTreeSet;
use std::path::Path;

use fio_spdk::base::verify::Verdict;

fn text_of(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).expect("a document")
}

/// The rows of the tables below a heading of docs/verify.md, without their heads.
fn rows(heading: &str) -> Vec<Vec<String>> {
    let page = text_of("docs/verify.md");
    let section = page.split(&format!("\n## {heading}\n")).nth(1).expect("the section");
    let section = section.split("\n## ").next().expect("its text");
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    section.lines().filter(|line| line.starts_with('|')).skip(2).map(cells).collect()
}

#[test]
fn every_verdict_has_its_row_in_the_order_of_reports() {
    let rows = rows("Verdicts");
    assert_eq!(rows.len(), Verdict::ALL.len());
    for (row, verdict) in rows.iter().zip(Verdict::ALL) {
        assert_eq!(row.len(), 4, "{row:?}");
        assert_eq!(row[0], format!("`{verdict}`"));
        assert_eq!(row[1], if verdict.is_violation() { "yes" } else { "" }, "{verdict}");
        assert!(!row[2].is_empty() && !row[3].is_empty(), "{verdict}: what it means, what to do next");
    }
}

/// The numbers (and `128+n`) that stand in front of a text in a list of exit codes.
fn codes<'a>(words: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    words.filter(|word| *word == "128+n" || word.parse::<u8>().is_ok()).map(str::to_owned).collect()
}

#[test]
fn all_lists_of_exit_codes_have_the_same() {
    let here: BTreeSet<String> = rows("Exit codes").into_iter().map(|row| row[0].clone()).collect();
    assert_eq!(here, ["0", "1", "128+n", "2", "3", "4", "5", "6"].map(str::to_owned).into());
    let readme = text_of("README.md");
    let readme = readme.split("\nExit codes: ").nth(1).and_then(|rest| rest.split("\n\n").next());
    assert_eq!(codes(readme.expect("the list").split_whitespace()), here, "README.md");
    let architecture = text_of("ARCHITECTURE.md");
    let table = architecture.split("| exit code | |\n").nth(1).and_then(|rest| rest.split("\n\n").next());
    let first = table.expect("the table").lines().filter_map(|line| line.split('|').nth(1)).map(str::trim);
    assert_eq!(codes(first), here, "ARCHITECTURE.md");
    let help = std::process::Command::new(env!("CARGO_BIN_EXE_fio-spdk")).arg("--help").output();
    let help = String::from_utf8(help.expect("the program runs").stdout).expect("text");
    let help = help.split("Exit codes: ").nth(1).expect("the list").to_owned();
    assert_eq!(codes(help.split_whitespace()), here, "--help");
}
