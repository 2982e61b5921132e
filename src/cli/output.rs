//! Where the report goes.

use std::io::{self, Write};
use std::path::Path;

use crate::base::host::output_file::{self, Start};
use crate::base::printable::printable_lines;
use crate::report::Format;

use super::args::Invocation;
use super::streams::{self, stderr_line};

/// The stream and the formats of the report.
pub struct Output {
    path: Option<String>,
    formats: Vec<&'static Format>,
    /// Documents follow each other: each JSON document stands on one line.
    many: bool,
}

impl Output {
    /// Whether a report that goes to standard output can get anywhere: asked before the run, not after hours.
    ///
    /// # Errors
    /// If standard output is closed or only for reading, and there is no `--output`: a sentence, for exit code 4.
    pub fn check_stdout(invocation: &Invocation) -> Result<(), String> {
        if invocation.output.is_some() {
            return Ok(());
        }
        let lost =
            |why| format!("{why}, and the report would be lost: give --output=FILE; nothing was started");
        streams::check_stdout().map_err(lost)
    }

    /// Finds out now, not after hours, whether the file can be written; its old contents stay until
    /// there is a report.
    pub fn open(invocation: &Invocation) -> Result<Output, String> {
        if let Some(path) = &invocation.output {
            output_file::open(Path::new(path), Start::Append)
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
            None => streams::write_stdout(&text),
            Some(path) => {
                let start = if first { Start::Empty } else { Start::Append };
                let mut file = output_file::open(Path::new(path), start)?;
                // The file will be looked at on a terminal.
                file.write_all(printable_lines(&text).as_bytes())?;
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

/// Says that a report was lost, where it was to go and what to do. Not for `--output`, whose path is in `why`.
pub fn report_lost(why: &io::Error) {
    let gone =
        if why.kind() == io::ErrorKind::BrokenPipe { "nobody reads standard output any more: " } else { "" };
    stderr_line!("error: the report could not be written: {gone}{why}; --output=FILE writes it to a file");
}

/// Prints to standard output, and gives the exit code. A reader that has read enough (`fio-spdk --cmdhelp | head`) is
/// not an error: this is text that can be asked for again, and not the report of a run.
pub fn print(text: &str) -> u8 {
    match streams::write_stdout(text) {
        Err(why) if why.kind() != io::ErrorKind::BrokenPipe => {
            stderr_line!("error: this could not be written to standard output: {why}");
            super::EXIT_IO
        }
        _ => super::EXIT_OK,
    }
}
