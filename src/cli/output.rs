//! Where the report goes.

use std::fs::OpenOptions;
use std::io::{self, Write};

use crate::report::Format;

use super::args::Invocation;

/// The stream and the formats of the report.
pub struct Output {
    path: Option<String>,
    formats: Vec<&'static Format>,
    /// Documents follow each other: each JSON document stands on one line.
    many: bool,
}

impl Output {
    /// Finds out now, not after hours, whether the file can be written; its old contents stay until
    /// there is a report.
    pub fn open(invocation: &Invocation) -> Result<Output, String> {
        if let Some(path) = &invocation.output {
            OpenOptions::new()
                .append(true)
                .create(true)
                .open(path)
                .map_err(|why| format!("--output={path} cannot be written: {why}"))?;
        }
        Ok(Output {
            path: invocation.output.clone(),
            formats: invocation.formats.clone(),
            many: invocation.status_interval.is_some(),
        })
    }

    /// Writes one report, as `render` makes it; the first one replaces what a file held before.
    pub fn write(&self, render: &dyn Fn(&Format) -> String, first: bool) -> io::Result<()> {
        let mut text = String::new();
        for format in &self.formats {
            let rendered = render(format);
            if self.many && format.name.starts_with("json") {
                text.push_str(&one_line(&rendered));
            } else {
                text.push_str(&rendered);
            }
        }
        match &self.path {
            None => ignore_broken_pipe(io::stdout().lock().write_all(text.as_bytes())),
            Some(path) => {
                let mut options = OpenOptions::new();
                let file = if first { options.write(true).truncate(true) } else { options.append(true) };
                let mut file = file.create(true).open(path)?;
                file.write_all(text.as_bytes())?;
                file.flush()
            }
        }
    }
}

fn one_line(json: &str) -> String {
    match serde_json::from_str::<serde_json::Value>(json) {
        Ok(value) => format!("{value}\n"),
        Err(_) => json.to_owned(),
    }
}

/// Prints to standard output and tells the exit code.
pub fn print(text: &str) -> u8 {
    match ignore_broken_pipe(io::stdout().lock().write_all(text.as_bytes())) {
        Ok(()) => super::EXIT_OK,
        Err(_) => super::EXIT_IO,
    }
}

/// Whoever reads us may stop reading: `fio-spdk … | head`.
fn ignore_broken_pipe(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
