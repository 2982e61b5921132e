//! Keeps docs/job-file.md what the option table says, and every example in docs and jobs/ right.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};

fn at_root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

const PAGE: &str = "docs/job-file.md";

#[test]
fn the_reference_page_is_what_the_table_says() {
    let page = fs::read_to_string(at_root(PAGE)).unwrap_or_default();
    assert!(
        page == fio_spdk::job::reference(),
        "{PAGE} is out of date: run `cargo test --test job_file_reference -- --ignored regenerate`"
    );
}

/// Not a test: writes the page anew.
#[test]
#[ignore = "writes docs/job-file.md"]
fn regenerate() {
    fs::write(at_root(PAGE), fio_spdk::job::reference()).unwrap();
}

#[test]
fn every_example_of_the_page_is_a_job_file() {
    let page = fio_spdk::job::reference();
    let examples: Vec<&str> =
        page.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(examples.len() >= 2);
    for example in examples {
        parses("example", example);
    }
}

#[test]
fn every_file_in_jobs_is_a_job_file() {
    let mut seen = 0;
    for entry in fs::read_dir(at_root("jobs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            parses(&path.display().to_string(), &fs::read_to_string(&path).unwrap());
            seen += 1;
        }
    }
    assert!(seen >= 3);
}

/// The help of the command line names every option.
#[test]
fn help_names_every_option() {
    let help = fio_spdk::job::help();
    for option in fio_spdk::job::table() {
        assert!(help.contains(&format!("--{}", option.name)), "{}", option.name);
    }
}

fn parses(name: &str, text: &str) {
    let file = (name.to_owned(), text.to_owned());
    let parsed = if text.contains("\n[campaign]\n") {
        fio_spdk::job::parse_campaign(&file, &[]).map(|(jobs, _)| jobs)
    } else {
        fio_spdk::job::parse(&[file], &[])
    };
    match parsed {
        Ok(jobs) => {
            let printed = fio_spdk::job::print(&jobs);
            let again = fio_spdk::job::parse(&[(name.to_owned(), printed)], &[]);
            assert_eq!(again.as_ref(), Ok(&jobs));
        }
        Err(why) => panic!("{why}"),
    }
}
