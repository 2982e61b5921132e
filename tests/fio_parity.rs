//! docs/fio-parity.md: what it says of each option of fio is what the parser does with it.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use fio_spdk::job::{JobSpec, explain, parse, table};

/// The names that `fio --cmdhelp=all` of fio 3.42 lists.
const FIO_OPTIONS: &str = include_str!("fio_parity/fio-3.42-options");

/// Options that are accepted and change nothing, each for a reason that its row gives.
const CHANGE_NOTHING: [&str; 5] =
    ["read_iolog_chunked", "experimental_verify", "io_submit_mode", "kb_base", "thread"];

/// A row of the page: option, what becomes of it here, an example, remarks.
#[derive(Debug)]
struct Row {
    option: String,
    here: String,
    example: Vec<String>,
    remark: String,
}

fn rows() -> Vec<Row> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/fio-parity.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let lines = page.lines().filter(|line| line.starts_with("| `"));
    lines.map(row).collect()
}

fn row(line: &str) -> Row {
    let hidden = line.replace("\\|", "\u{1}");
    let cells: Vec<String> =
        hidden.trim_matches('|').split('|').map(|cell| cell.trim().replace('\u{1}', "|")).collect();
    let [option, here, example, remark] = <[String; 4]>::try_from(cells).expect("four cells");
    let code =
        |text: &str| -> Vec<String> { text.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let option = code(&option).remove(0);
    Row { option, here, example: code(&example), remark }
}

/// A job of these lines; one that it names as `first` stands before it.
fn job(lines: &[String]) -> Result<JobSpec, String> {
    let first =
        if lines.iter().any(|line| line.contains("\"first\"")) { "[[job]]\nname = \"first\"\n" } else { "" };
    let text = format!("[global]\nioengine = \"io_uring\"\n{first}[[job]]\n{}\n", lines.join("\n"));
    let parsed = parse(&[("example".to_owned(), text)], &[]).map_err(|error| error.to_string())?;
    parsed.into_iter().next_back().ok_or_else(|| "no job".to_owned())
}

#[test]
fn every_option_of_fio_has_its_row() {
    let there: BTreeSet<&str> = FIO_OPTIONS.lines().collect();
    let rows = rows();
    let here: BTreeSet<&str> = rows.iter().map(|row| row.option.as_str()).collect();
    assert_eq!(here.len(), rows.len(), "an option has two rows");
    let differing: Vec<&&str> = there.symmetric_difference(&here).collect();
    assert!(differing.is_empty(), "options without a row, or rows without an option: {differing:?}");
}

/// Whether the option has made `job` another one: it stands in it with another value than its default, or the
/// job is not the one without its line.
fn changes(row: &Row, job_with: &JobSpec) -> bool {
    let option = table().iter().find(|option| option.names().any(|name| name == row.option));
    let shown = |job: &JobSpec| option.and_then(|option| option.show(job));
    shown(job_with) != shown(&JobSpec::default())
        || job(&row.example[1..]).is_ok_and(|without| without != *job_with)
}

/// None is parsed and ignored: the example makes another job.
#[test]
fn options_that_work_make_another_job() {
    let mut wrong = Vec::new();
    for row in rows().iter().filter(|row| row.here.starts_with("works")) {
        if row.here == "works differently" && row.remark.is_empty() {
            wrong.push(format!("{}: the page does not say how it differs", row.option));
        }
        let is_first = row.example.first().is_some_and(|line| {
            let name = line.split(['=', '.']).next().unwrap_or("").trim();
            name.replace('-', "_") == row.option.replace('-', "_")
        });
        if !is_first {
            wrong.push(format!("{}: no example that begins with it", row.option));
            continue;
        }
        match job(&row.example) {
            Ok(with) => {
                let changes = changes(row, &with);
                if changes == CHANGE_NOTHING.contains(&row.option.as_str()) {
                    wrong.push(format!("{}: {:?} changes the job: {changes}", row.option, row.example));
                }
            }
            Err(error) => wrong.push(format!("{}: {error}", row.option)),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn options_that_are_refused_are_refused_with_the_reason_of_their_row() {
    let mut wrong = Vec::new();
    for row in rows().iter().filter(|row| !row.here.starts_with("works")) {
        assert_eq!(row.here, "refused", "{}: what becomes of it is one of three", row.option);
        match explain(&row.option) {
            Ok(_) => wrong.push(format!("{}: the parser knows it", row.option)),
            Err(answer) => {
                if row.remark.is_empty() || !answer.ends_with(&row.remark) {
                    wrong.push(format!("{}: the parser says: {answer}", row.option));
                }
            }
        }
        let error = job(&[format!("{} = 1", row.option)]).err().unwrap_or_default();
        if !error.contains("is not an option here") {
            wrong.push(format!("{}: a job file gets: {error}", row.option));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The list of options that the page is held against is fio's own, where there is a fio as new.
#[test]
fn the_list_of_options_is_that_of_fio() {
    let Ok(version) = Command::new("fio").arg("--version").output() else {
        eprintln!("skipped: fio is not installed");
        return;
    };
    if !String::from_utf8_lossy(&version.stdout).starts_with("fio-3.42") {
        eprintln!("skipped: fio is {}, not 3.42", String::from_utf8_lossy(&version.stdout).trim());
        return;
    }
    let all = Command::new("fio").arg("--cmdhelp=all").output().expect("fio runs");
    let all = String::from_utf8_lossy(&all.stdout).into_owned();
    let names: BTreeSet<&str> = all.lines().filter_map(|line| Some(line.split_once(':')?.0.trim())).collect();
    assert_eq!(names, FIO_OPTIONS.lines().collect());
}
