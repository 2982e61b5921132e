//! What a person sees while a run goes on: notes, a live line, reports so far.

use std::io::{self, IsTerminal, Write};

use crate::base::clock::Clock;
use crate::report::live::{self, Live};
use crate::report::{self, Report};
use crate::run::{Observer, Progress};

use super::args::{Eta, Invocation};
use super::output::Output;

/// Width of the live line where the terminal does not say.
const WIDTH: usize = 79;

/// The observer of a run.
pub struct Terminal {
    output: Output,
    live_line: bool,
    line_shown: bool,
    intervals: bool,
    reports: u64,
    /// How often a live line stays, and when the next one does.
    keeps_ns: Option<(u64, u64)>,
}

impl Terminal {
    /// For a run whose report goes to `output`; `intervals`: reports so far are asked for.
    pub fn new(output: Output, invocation: &Invocation, intervals: bool) -> Terminal {
        let live_line = match invocation.eta {
            Eta::Always => true,
            Eta::Never => false,
            Eta::Auto => io::stdout().is_terminal() && io::stderr().is_terminal(),
        };
        let keeps_ns = invocation.eta_newline.map(|time| {
            let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
            (ns, Clock::get().now_ns().saturating_add(ns))
        });
        Terminal { output, live_line, line_shown: false, intervals, reports: 0, keeps_ns }
    }

    /// Takes the live line away.
    pub fn clear_line(&mut self) {
        if self.line_shown {
            self.line_shown = false;
            eprint!("\r\x1b[K");
        }
    }

    /// Writes the final report.
    pub fn finish(&mut self, report: &Report) -> io::Result<()> {
        self.clear_line();
        self.write(report)
    }

    fn write(&mut self, report: &Report) -> io::Result<()> {
        self.reports += 1;
        self.output.write(report, self.reports == 1)
    }
}

impl Observer for Terminal {
    fn note(&mut self, text: &str) {
        self.clear_line();
        eprintln!("note: {text}");
    }

    fn progress(&mut self, progress: &Progress) {
        if !self.live_line {
            return;
        }
        let bandwidth: f64 = progress.bandwidth.iter().map(|(_, rate)| rate).sum();
        let live = Live {
            jobs_running: progress.workers_running,
            jobs_total: progress.workers_total,
            done: progress.fraction_done,
            iops: progress.iops.clone(),
            bandwidth,
            p99_ns: (progress.p99_ns > 0).then_some(progress.p99_ns),
            eta_s: progress.eta_s,
            errors: progress.errors,
        };
        let width =
            rustix::termios::tcgetwinsize(io::stderr()).map_or(WIDTH, |size| usize::from(size.ws_col));
        let width = if width == 0 { WIDTH } else { width.saturating_sub(1) };
        self.line_shown = true;
        eprint!("\r{}\x1b[K", live::line(&live, width));
        if let Some((every_ns, due_ns)) = &mut self.keeps_ns
            && Clock::get().now_ns() >= *due_ns
        {
            *due_ns = Clock::get().now_ns().saturating_add(*every_ns);
            eprintln!();
            self.line_shown = false;
        }
        let _ = io::stderr().flush();
    }

    fn so_far(&mut self, report: &Report) {
        self.clear_line();
        // Asked for by interval it belongs to the output; asked for by signal, to the person.
        if self.intervals {
            if let Err(why) = self.write(report) {
                eprintln!("error: the report so far could not be written: {why}");
            }
        } else if let Some(normal) = report::FORMATS.iter().find(|format| format.name == "normal") {
            eprint!("{}", report::render(normal, report));
        }
    }
}

/// Whether errors may be coloured.
pub fn stderr_in_colour() -> bool {
    io::stderr().is_terminal()
}
