//! What a person sees while a run goes on: notes, a live line, reports so far.

use std::io::{self, IsTerminal, Write};

use crate::base::clock::Clock;
use crate::base::printable::printable;
use crate::report::live::{self, Live};
use crate::report::{self, Format, Report};
use crate::run::{Observer, Progress};

use super::args::{Eta, Invocation};
use super::output::Output;
use super::streams::{stderr, stderr_line};

/// Width of the live line where the terminal does not say.
const WIDTH: usize = 79;

/// The observer of a run.
pub struct Terminal {
    output: Output,
    live_line: bool,
    line_shown: bool,
    intervals: bool,
    /// A report so far could not be written, which is said once.
    lost: bool,
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
        Terminal { output, live_line, line_shown: false, intervals, lost: false, reports: 0, keeps_ns }
    }

    /// Takes the live line away.
    pub fn clear_line(&mut self) {
        if self.line_shown {
            self.line_shown = false;
            stderr!("\r\x1b[K");
        }
    }

    /// Writes the final report.
    pub fn finish(&mut self, report: &Report) -> io::Result<()> {
        self.finish_with(&|format| report::render(format, report))
    }

    /// Writes the final report, as `render` makes it.
    pub fn finish_with(&mut self, render: &dyn Fn(&Format) -> String) -> io::Result<()> {
        self.clear_line();
        self.write(render)
    }

    fn write(&mut self, render: &dyn Fn(&Format) -> String) -> io::Result<()> {
        self.reports += 1;
        self.output.write(render, self.reports == 1)
    }

    /// Shows the live line, if there is to be one.
    pub fn show(&mut self, live: &Live) {
        if !self.live_line {
            return;
        }
        let width =
            rustix::termios::tcgetwinsize(io::stderr()).map_or(WIDTH, |size| usize::from(size.ws_col));
        let width = if width == 0 { WIDTH } else { width.saturating_sub(1) };
        self.line_shown = true;
        stderr!("\r{}\x1b[K", printable(&live::line(live, width)));
        if let Some((every_ns, due_ns)) = &mut self.keeps_ns
            && Clock::get().now_ns() >= *due_ns
        {
            *due_ns = Clock::get().now_ns().saturating_add(*every_ns);
            stderr_line!();
            self.line_shown = false;
        }
        let _ = io::stderr().flush();
    }

    /// A report so far, as `render` makes it.
    pub fn so_far_with(&mut self, render: &dyn Fn(&Format) -> String) {
        self.clear_line();
        // Asked for by interval it belongs to the output; asked for by signal, to the person.
        if self.intervals {
            if let Err(why) = self.write(render)
                && !std::mem::replace(&mut self.lost, true)
            {
                stderr_line!("error: the report so far could not be written: {why}");
            }
        } else if let Some(normal) = report::FORMATS.iter().find(|format| format.name == "normal") {
            stderr_line!("{}", render(normal).trim_end());
        }
    }
}

/// What the live line shows of a run.
pub fn live_of(progress: &Progress) -> Live {
    Live {
        jobs_running: progress.workers_running,
        jobs_total: progress.workers_total,
        done: progress.fraction_done,
        iops: progress.iops.clone(),
        bandwidth: progress.bandwidth.iter().map(|(_, rate)| rate).sum(),
        p99_ns: (progress.p99_ns > 0).then_some(progress.p99_ns),
        eta_s: progress.eta_s,
        errors: progress.errors,
        servers: None,
    }
}

impl Observer for Terminal {
    fn note(&mut self, text: &str) {
        self.clear_line();
        stderr_line!("note: {text}");
    }

    fn progress(&mut self, progress: &Progress) {
        self.show(&live_of(progress));
    }

    fn so_far(&mut self, report: &Report) {
        self.so_far_with(&|format| report::render(format, report));
    }
}

/// Whether errors may be coloured.
pub fn stderr_in_colour() -> bool {
    io::stderr().is_terminal()
}
