//! The command line: arguments, signals, terminal, exit codes.

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
mod streams;
mod terminal;

use std::path::PathBuf;
use std::process::ExitCode;

use crate::base::printable::printable_lines;
use crate::engine;
use crate::job::{self, JobSpec};
use crate::report::exit::{
    EXIT_INCONCLUSIVE, EXIT_IO, EXIT_MISSED, EXIT_OK, EXIT_UNSAFE, EXIT_USAGE, EXIT_VIOLATION, ended_code,
};
use crate::run::{self, Ended, ErrorKind, RunError, RunOptions};

use args::{Action, Invocation};
use output::Output;
use streams::{stderr, stderr_line};
use terminal::Terminal;

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
            let plain = failure.render().to_string();
            if printable_lines(&plain) == plain {
                let _ = failure.print();
            } else {
                // An argument may be the name of a file.
                stderr_line!("{}", plain.trim_end());
            }
            u8::try_from(failure.exit_code()).unwrap_or(EXIT_USAGE)
        }
    };
    engine::finish();
    ExitCode::from(code)
}

/// One run for a server, which has started this process.
fn serve_session() -> u8 {
    // It was started as /proc/self/exe, and would be called `exe` where processes are listed.
    let _ = rustix::thread::set_name(c"fio-spdk");
    match signals::listen() {
        Ok(requests) => crate::remote::session::serve(&requests),
        Err(why) => {
            stderr_line!("error: cannot listen to signals: {why}");
            EXIT_IO
        }
    }
}

fn print_devices(json: bool) -> u8 {
    let text = if json { devices::json().map(|json| format!("{json:#}\n")) } else { devices::table() };
    match text {
        Ok(text) => output::print(&text),
        Err(why) => {
            stderr_line!("error: the devices cannot be listed: {why}");
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
            stderr!("{}", wrong.render(terminal::stderr_in_colour()));
            return if wrong.refused_only() { EXIT_UNSAFE } else { EXIT_USAGE };
        }
    };
    let jobs = match job::sections(jobs, &invocation.sections) {
        Ok(jobs) => jobs,
        Err(why) => {
            stderr_line!("error: {why}");
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
    if let Err(why) = Output::check_stdout(invocation) {
        stderr_line!("error: {why}");
        return EXIT_IO;
    }
    let output = match Output::open(invocation) {
        Ok(output) => output,
        Err(why) => {
            stderr_line!("error: {why}");
            return EXIT_USAGE;
        }
    };
    execute(jobs, invocation, output)
}

fn execute(jobs: Vec<JobSpec>, invocation: &Invocation, output: Output) -> u8 {
    let requests = match signals::listen() {
        Ok(requests) => requests,
        Err(why) => {
            stderr_line!("error: cannot listen to signals: {why}");
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
        outputs: invocation.output.iter().map(PathBuf::from).collect(),
        same_devices: invocation.same_devices.clone(),
        state: Some(state_path(&invocation.files)),
        bandwidth_log: invocation.bandwidth_log.clone(),
        ..RunOptions::default()
    };
    let mut terminal = Terminal::new(output, invocation, options.status_interval.is_some());
    match run::execute(jobs, &options, &requests, &mut terminal) {
        Ok(Ended { report, failure }) => {
            let written = terminal.finish(&report);
            let code = ended_code(&report, failure.map(|failure| tell(&failure)));
            match written {
                Ok(()) => code,
                Err(why) => {
                    output::report_lost(&why);
                    code_without_report(code)
                }
            }
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

/// The exit code of a run whose report could not be written: what the run itself says, if that is worse than an
/// error of the environment.
fn code_without_report(code: u8) -> u8 {
    match code {
        EXIT_OK | EXIT_MISSED | EXIT_INCONCLUSIVE => EXIT_IO,
        worse => worse,
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
    stderr_line!("error: {error}");
    match error.kind {
        ErrorKind::BadJob => EXIT_USAGE,
        ErrorKind::Environment => EXIT_IO,
        ErrorKind::Unsafe => EXIT_UNSAFE,
    }
}
