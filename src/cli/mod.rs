//! The command line: arguments, signals, terminal, exit codes.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this floor talks to the user")]

mod args;
mod block;
mod campaign;
pub mod devices;
mod from_fio;
mod output;
mod remote;
mod report_args;
mod server;
mod signals;
mod state;
mod terminal;

use std::path::PathBuf;
use std::process::ExitCode;

use crate::engine;
use crate::job::{self, JobSpec};
use crate::report::Report;
use crate::run::{self, Ended, ErrorKind, RunError, RunOptions};

use args::{Action, Invocation};
use output::Output;
use terminal::Terminal;

/// All well.
const EXIT_OK: u8 = 0;
/// A promise was broken.
const EXIT_VIOLATION: u8 = 1;
/// Job file or command line wrong; nothing started.
const EXIT_USAGE: u8 = 2;
/// A demanded performance was missed.
const EXIT_MISSED: u8 = 3;
/// I/O, device or environment error.
const EXIT_IO: u8 = 4;
/// Nothing, or less than asked, could be verified.
const EXIT_INCONCLUSIVE: u8 = 5;
/// Unsafe target refused.
const EXIT_UNSAFE: u8 = 6;

/// Runs the command with the process's arguments.
#[must_use]
pub fn main() -> ExitCode {
    let code = match args::parse(std::env::args_os()) {
        Ok(Action::Run(invocation)) => run_jobs(&invocation),
        Ok(Action::Devices { json }) => print_devices(json),
        Ok(Action::Bind(request)) => devices::bind::run(&request),
        Ok(Action::Campaign(request)) => campaign::run(&request),
        Ok(Action::ShowBlock(request)) => block::show(&request),
        Ok(Action::Server(request)) => server::run(&request),
        Ok(Action::ShowState(request)) => state::show(&request),
        Ok(Action::Remote(request)) => remote::serve(&request),
        Ok(Action::Session) => serve_session(),
        Ok(Action::Print(text)) => output::print(&text),
        Err(failure) => {
            let _ = failure.print();
            u8::try_from(failure.exit_code()).unwrap_or(EXIT_USAGE)
        }
    };
    engine::finish();
    ExitCode::from(code)
}

/// One run for a server, which has started this process.
fn serve_session() -> u8 {
    match signals::listen() {
        Ok(requests) => crate::remote::session::serve(&requests),
        Err(why) => {
            eprintln!("error: cannot listen to signals: {why}");
            EXIT_IO
        }
    }
}

fn print_devices(json: bool) -> u8 {
    let text = if json { devices::json().map(|json| format!("{json:#}\n")) } else { devices::table() };
    match text {
        Ok(text) => output::print(&text),
        Err(why) => {
            eprintln!("error: the devices cannot be listed: {why}");
            EXIT_IO
        }
    }
}

fn run_jobs(invocation: &Invocation) -> u8 {
    if let Some(clients) = &invocation.clients {
        return remote::run_jobs(invocation, clients);
    }
    let jobs = match job::load(&invocation.files, &invocation.overrides) {
        Ok(jobs) => jobs,
        Err(wrong) => {
            eprint!("{}", wrong.render(terminal::stderr_in_colour()));
            return if wrong.refused_only() { EXIT_UNSAFE } else { EXIT_USAGE };
        }
    };
    let jobs = match job::sections(jobs, &invocation.sections) {
        Ok(jobs) => jobs,
        Err(why) => {
            eprintln!("error: {why}");
            return EXIT_USAGE;
        }
    };
    if invocation.print_job {
        return output::print(&job::print(&jobs));
    }
    if invocation.check {
        let plural = if jobs.len() == 1 { "" } else { "s" };
        return output::print(&format!("{} job{plural}, nothing wrong\n", jobs.len()));
    }
    let output = match Output::open(invocation) {
        Ok(output) => output,
        Err(why) => {
            eprintln!("error: {why}");
            return EXIT_USAGE;
        }
    };
    execute(jobs, invocation, output)
}

fn execute(jobs: Vec<JobSpec>, invocation: &Invocation, output: Output) -> u8 {
    let requests = match signals::listen() {
        Ok(requests) => requests,
        Err(why) => {
            eprintln!("error: cannot listen to signals: {why}");
            return EXIT_IO;
        }
    };
    let options = RunOptions {
        readonly: invocation.readonly,
        destroy: invocation.destroy.clone(),
        status_interval: invocation.status_interval,
        progress_interval: invocation.eta_interval,
        idle_profile: invocation.idle_profile,
        verdicts: invocation.verdicts.as_ref().map(PathBuf::from),
        state: Some(state_path(&invocation.files)),
        bandwidth_log: invocation.bandwidth_log.clone(),
        ..RunOptions::default()
    };
    let mut terminal = Terminal::new(output, invocation, options.status_interval.is_some());
    match run::execute(jobs, &options, &requests, &mut terminal) {
        Ok(Ended { report, failure }) => {
            let written = terminal.finish(&report);
            if let Err(why) = written {
                eprintln!("error: the report could not be written: {why}");
                return if report.violations() > 0 { EXIT_VIOLATION } else { EXIT_IO };
            }
            ended_code(&report, failure.map(|failure| tell(&failure)))
        }
        Err(error) => {
            terminal.clear_line();
            let code = tell(&error);
            // What the user ended before it began has no other exit code than what ends later.
            let signal = requests.end_signal.load(std::sync::atomic::Ordering::Acquire);
            if signal > 0 { u8::try_from(128 + signal).unwrap_or(code) } else { code }
        }
    }
}

/// Where snapshots lie unless the jobs say otherwise: beside the first job file, and named as it.
fn state_path(files: &[String]) -> PathBuf {
    match files.first().map(String::as_str) {
        Some(file) if file != "-" => PathBuf::from(file).with_extension("state"),
        _ => PathBuf::from("fio-spdk.state"),
    }
}

/// Says why a run, or a stage of it, could not start; gives the exit code.
fn tell(error: &RunError) -> u8 {
    eprintln!("error: {error}");
    match error.kind {
        ErrorKind::BadJob => EXIT_USAGE,
        ErrorKind::Environment => EXIT_IO,
        ErrorKind::Unsafe => EXIT_UNSAFE,
    }
}

/// The exit code of a run that began, and perhaps failed later, with that code.
fn ended_code(report: &Report, failure: Option<u8>) -> u8 {
    match failure {
        Some(code) if code != EXIT_IO || report.violations() == 0 => code,
        _ => exit_code(report),
    }
}

/// A broken promise goes above all: whoever looks for it must not miss it behind a signal or an error.
fn exit_code(report: &Report) -> u8 {
    if report.violations() > 0 {
        return EXIT_VIOLATION;
    }
    if let Some(signal) = report.ended_by_signal {
        return u8::try_from(128 + signal).unwrap_or(u8::MAX);
    }
    if let Some(trigger) = &report.trigger {
        // Errors of a device that loses its power are what a trigger is for.
        return match report.inconclusive() {
            _ if !trigger.is_well() || trigger.errors_before > 0 => EXIT_IO,
            true => EXIT_INCONCLUSIVE,
            false => EXIT_OK,
        };
    }
    // `continue_on_error` goes on; it does not turn an error into a zero.
    let missed = |job: &crate::report::JobReport| job.error.as_ref().is_some_and(|error| error.is_missed);
    let failed = |job: &crate::report::JobReport| {
        // Errors that `ignore_error` lists are what the job expected.
        let listed = &job.spec.order.ignore_error;
        let counts = |op, errno| !listed.of(op).contains(errno);
        job.error.is_some() && !missed(job)
            || job.stats.errors().any(|error| counts(error.op, error.status.errno()))
    };
    if report.jobs.iter().any(failed) {
        EXIT_IO
    } else if report.jobs.iter().any(missed) {
        EXIT_MISSED
    } else if report.inconclusive() {
        EXIT_INCONCLUSIVE
    } else {
        EXIT_OK
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::verify::Verdict;
    use crate::base::{Op, PerOp, Status};
    use crate::report::{CpuUse, IntervalSummary, JobReport, MachineReport};
    use crate::stats::{VerifyTally, WorkerStats};

    fn report(signal: Option<i32>, fails: bool, verify: Option<VerifyTally>) -> Report {
        let text = "[[job]]\nname = \"j\"\nioengine = \"null\"\nsize = \"1m\"\n".to_owned();
        let mut jobs = job::parse(&[("j".to_owned(), text)], &[]).unwrap();
        let mut stats = WorkerStats::default();
        if fails {
            stats.record_error(Op::Write, Status::from_errno(5), 0);
        }
        let job = JobReport {
            name: "j".to_owned(),
            group: 0,
            workers: 1,
            spec: jobs.remove(0),
            started_unix_ms: 0,
            stats,
            intervals: PerOp::default(),
            mixed_intervals: IntervalSummary::default(),
            steady: None,
            cpu: CpuUse::default(),
            error: None,
            verify,
        };
        Report {
            time_unix_ms: 0,
            started_unix_ms: 0,
            unfinished: false,
            ended_by_signal: signal,
            notes: Vec::new(),
            jobs: vec![job],
            reactors: Vec::new(),
            targets: Vec::new(),
            job_toml: None,
            trigger: None,
            machine: MachineReport::default(),
        }
    }

    #[test]
    fn a_broken_promise_goes_above_signals_and_these_above_errors_and_doubt() {
        let mut well = VerifyTally { promised: 2, checked: 2, ..VerifyTally::default() };
        well.count(Verdict::Ok, 1);
        well.count(Verdict::AllowedLoss, 1);
        let mut doubtful = well.clone();
        doubtful.skip("the device is gone", 1);
        let mut broken = doubtful.clone();
        broken.count(Verdict::Unreadable, 1);
        let code =
            |signal, fails, tally: &VerifyTally| exit_code(&report(signal, fails, Some(tally.clone())));
        assert_eq!(
            [code(Some(2), true, &broken), code(None, true, &broken), code(None, false, &broken)],
            [1; 3]
        );
        assert_eq!([code(Some(2), true, &doubtful), code(Some(15), false, &well)], [130, 143]);
        assert_eq!([code(None, true, &doubtful), code(None, true, &well)], [4; 2]);
        assert_eq!([code(None, false, &doubtful), code(None, false, &VerifyTally::default())], [5; 2]);
        assert_eq!([code(None, false, &well), exit_code(&report(None, false, None))], [0; 2]);
    }
}
