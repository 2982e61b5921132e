//! Runs on servers: what is sent there, what comes back, and what is asked of servers besides.

pub mod args;
mod status;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::base::host::printable;
use crate::job::{self, JobSpec};
use crate::remote::address::Address;
use crate::remote::client::{self, Failure, FailureKind, Order, Outcome, Target, Watcher, Work};
use crate::remote::settings::Settings;
use crate::run::Requests;

use super::args::Invocation;
use super::output::{self, Output};
use super::streams::{stderr, stderr_line};
use super::terminal::{self, Terminal};
use super::{
    EXIT_INCONCLUSIVE, EXIT_IO, EXIT_MISSED, EXIT_OK, EXIT_UNSAFE, EXIT_USAGE, EXIT_VIOLATION, signals,
};

use args::{Clients, Reach, Request};
use watch::{Screen, Server};

/// The live line is renewed so often unless told otherwise.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);

/// Who drives the runs: [`client::drive`], or what a test puts in its place.
type Drive<'a> = &'a dyn Fn(&Order, &Requests, &mut dyn Watcher) -> Vec<Outcome>;

/// The jobs of one or several servers.
struct Share {
    addresses: Vec<Address>,
    files: Vec<String>,
    texts: Vec<(String, String)>,
    jobs: Vec<JobSpec>,
}

/// `fio-spdk JOBS --client=...`: runs jobs on servers. Gives the exit code.
pub fn run_jobs(invocation: &Invocation, clients: &Clients) -> u8 {
    let shares = match shares(invocation, clients) {
        Ok(shares) => shares,
        Err(code) => return code,
    };
    if invocation.print_job || invocation.check {
        return output::print(&checked(&shares, invocation.print_job));
    }
    start(&targets(&shares, clients, invocation), invocation, &client::drive)
}

fn targets(shares: &[Share], clients: &Clients, invocation: &Invocation) -> Order {
    let of = |share: &Share| {
        let work = Work::Run {
            job_files: share.texts.clone(),
            jobs: share.jobs.clone(),
            state: super::state_path(&share.files),
        };
        let addresses = share.addresses.clone().into_iter();
        addresses.map(move |address| Target { address, work: work.clone() }).collect::<Vec<_>>()
    };
    let mut order = order(shares.iter().flat_map(of).collect(), &clients.reach, invocation);
    in_order_typed(&mut order.servers, clients);
    order
}

/// The servers as the command line has them, and not by what they do.
fn in_order_typed(servers: &mut [Target], clients: &Clients) {
    let Ok(typed) = clients.servers(true) else { return };
    servers.sort_by_key(|target| typed.iter().position(|(address, _)| *address == target.address));
}

/// `fio-spdk attach`, `stop` and `server --status`. Gives the exit code.
pub fn serve(request: &Request) -> u8 {
    match request {
        Request::Attach { addresses, run, watch, state_dir, reach, shown } => {
            let work = || Work::Attach { run: run.clone(), watch: *watch, state_dir: state_dir.clone() };
            let targets =
                addresses.iter().map(|address| Target { address: address.clone(), work: work() }).collect();
            start(&order(targets, reach, shown), shown, &client::drive)
        }
        Request::Stop { address, run, reach } => {
            match client::ask::stop(address, run, &reach.trust, reach.connect_within) {
                Ok(reply) => output::print(&status::stopped(address, &reply)),
                Err(failure) => complain(&address.to_string(), &failure),
            }
        }
        Request::Status { address, config, json, reach } => {
            let address = match address.clone().map_or_else(|| local(config.as_deref()), Ok) {
                Ok(address) => address,
                Err(why) => {
                    stderr_line!("error: {why}");
                    return EXIT_USAGE;
                }
            };
            match client::ask::status(&address, &reach.trust, reach.connect_within) {
                Ok(reply) if *json => output::print(&format!("{:#}\n", status::json(&address, &reply))),
                Ok(reply) => output::print(&status::text(&address, &reply)),
                Err(failure) => complain(&address.to_string(), &failure),
            }
        }
    }
}

/// Where the server of this machine listens; a socket is nearer than a port.
fn local(config: Option<&Path>) -> Result<Address, String> {
    let settings = Settings::load(config)?;
    let socket = settings.listen.iter().find(|address| address.path().is_some());
    let nearest = socket.or(settings.listen.first()).map(of_this_machine);
    nearest.ok_or_else(|| "server.toml names no address to listen on: name the server by --client".to_owned())
}

/// Who listens everywhere is asked where its certificate has a name.
fn of_this_machine(address: &Address) -> Address {
    let any = |host: &str| host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_unspecified());
    match address {
        Address::Tcp { host, port } if any(host) => {
            let host = if host.contains(':') { "::1" } else { "127.0.0.1" };
            Address::Tcp { host: host.to_owned(), port: *port }
        }
        other => other.clone(),
    }
}

/// Reads and checks all job files, before anybody is asked for anything. What is wrong has been said.
fn shares(invocation: &Invocation, clients: &Clients) -> Result<Vec<Share>, u8> {
    let usage = |why: String| {
        stderr_line!("error: {why}");
        EXIT_USAGE
    };
    if invocation.same_devices.is_some() {
        return Err(usage(
            "--same-devices looks at the devices of this machine: leave it out with --client".to_owned(),
        ));
    }
    let mut shares: Vec<Share> = Vec::new();
    for (address, files) in clients.servers(!invocation.overrides.is_empty()).map_err(usage)? {
        match shares.iter_mut().find(|share| share.files == files) {
            Some(share) => share.addresses.push(address),
            None => {
                let (texts, jobs) = (Vec::new(), Vec::new());
                shares.push(Share { addresses: vec![address], files, texts, jobs });
            }
        }
    }
    if shares.iter().filter(|share| share.files.iter().any(|file| file == "-")).count() > 1 {
        return Err(usage("standard input can be read once: name it before the first --client".to_owned()));
    }
    let mut code = None;
    for share in &mut shares {
        let parsed = job::texts(&share.files).and_then(|texts| {
            let jobs = job::parse(&texts, &invocation.overrides)?;
            Ok((texts, jobs))
        });
        let (texts, jobs) = match parsed {
            Ok(parsed) => parsed,
            Err(wrong) => {
                stderr!("{}", wrong.render(terminal::stderr_in_colour()));
                code = Some(if wrong.refused_only() { EXIT_UNSAFE } else { EXIT_USAGE });
                continue;
            }
        };
        share.texts = texts;
        share.jobs = job::sections(jobs, &invocation.sections).map_err(usage)?;
    }
    code.map_or(Ok(shares), Err)
}

/// What `--check` and `--print-job` say; of jobs that differ, for whom they are.
fn checked(shares: &[Share], print_job: bool) -> String {
    let of = |share: &Share| {
        let names: Vec<String> = share.addresses.iter().map(ToString::to_string).collect();
        let names = names.join(", ");
        if print_job {
            let head = if shares.len() > 1 { format!("# {names}\n") } else { String::new() };
            return head + &job::print(&share.jobs);
        }
        let head = if shares.len() > 1 { format!("{names}: ") } else { String::new() };
        let plural = if share.jobs.len() == 1 { "" } else { "s" };
        format!("{head}{} job{plural}, nothing wrong\n", share.jobs.len())
    };
    shares.iter().map(of).collect::<Vec<_>>().join(if print_job { "\n" } else { "" })
}

fn order(servers: Vec<Target>, reach: &Reach, invocation: &Invocation) -> Order {
    Order {
        servers,
        overrides: invocation.overrides.clone(),
        sections: invocation.sections.clone(),
        readonly: invocation.readonly,
        destroy: invocation.destroy.clone(),
        idle_profile: invocation.idle_profile,
        bandwidth_log: invocation.bandwidth_log.clone(),
        findings: invocation.verdicts.is_some(),
        trust: reach.trust.clone(),
        connect_within: reach.connect_within,
        silence: reach.silence,
        progress_interval: invocation.eta_interval.unwrap_or(PROGRESS_EVERY),
        status_interval: invocation.status_interval,
    }
}

/// Opens what is written to, then drives.
fn start(order: &Order, invocation: &Invocation, drive: Drive<'_>) -> u8 {
    match signals::listen() {
        Ok(requests) => execute(order, invocation, &requests, drive),
        Err(why) => {
            stderr_line!("error: cannot listen to signals: {why}");
            EXIT_IO
        }
    }
}

fn execute(order: &Order, invocation: &Invocation, requests: &Requests, drive: Drive<'_>) -> u8 {
    if let Err(why) = Output::check_stdout(invocation) {
        stderr_line!("error: {why}");
        return EXIT_IO;
    }
    let screen = Output::open(invocation).and_then(|output| {
        let terminal = Terminal::new(output, invocation, invocation.status_interval.is_some());
        let verdicts = invocation.verdicts.as_ref().map(PathBuf::from);
        Screen::new(terminal, order.servers.iter().map(Server::of).collect(), verdicts)
    });
    let mut screen = match screen {
        Ok(screen) => screen,
        Err(why) => {
            stderr_line!("error: {why}");
            return EXIT_USAGE;
        }
    };
    let outcomes = drive(order, requests, &mut screen);
    let signal = i32::try_from(requests.end_signal.load(Ordering::Acquire)).ok().filter(|&signal| signal > 0);
    let mut codes: Vec<u8> = outcomes.iter().map(|outcome| code_of(outcome, signal)).collect();
    if let Err(why) = screen.finish(&outcomes) {
        output::report_lost(&why);
        codes.push(EXIT_IO);
    }
    for outcome in &outcomes {
        if let Some(failure) = &outcome.failure {
            complain(&outcome.address.to_string(), failure);
        }
    }
    if let Some(why) = screen.verdicts_trouble() {
        stderr_line!("error: {why}");
        codes.push(EXIT_IO);
    }
    gravest(&codes)
}

/// Says what went wrong with a server; gives the exit code of it.
fn complain(server: &str, failure: &Failure) -> u8 {
    let (server, message) = (printable(server), failure.message.as_str());
    // Several lines are a job file with its mistakes marked.
    let lines: Vec<String> = message.lines().map(printable).collect();
    let named = lines.first().is_some_and(|first| first.starts_with(&server));
    let before = if named { String::new() } else { format!("{server}: ") };
    stderr_line!("error: {before}{}", lines.join("\n"));
    code_of_kind(failure.kind)
}

fn code_of_kind(kind: FailureKind) -> u8 {
    match kind {
        FailureKind::BadJob => EXIT_USAGE,
        FailureKind::Environment => EXIT_IO,
        FailureKind::Inconclusive => EXIT_INCONCLUSIVE,
        FailureKind::Unsafe => EXIT_UNSAFE,
    }
}

/// The exit code of one server: that of the same run on this machine. What the user ended before it began,
/// or left to itself, ends by the signal.
fn code_of(outcome: &Outcome, signal: Option<i32>) -> u8 {
    let failure = outcome.failure.as_ref().map(|failure| code_of_kind(failure.kind));
    let by_signal = signal.map(|signal| u8::try_from(128 + signal).unwrap_or(u8::MAX));
    match &outcome.report {
        Some(report) => {
            let code = super::ended_code(report, failure);
            let was_left = report.unfinished && failure.is_none() && report.trigger.is_none();
            by_signal.filter(|_| was_left && code != EXIT_VIOLATION).unwrap_or(code)
        }
        None => by_signal.or(failure).unwrap_or(EXIT_IO),
    }
}

/// The exit code of several servers: the gravest of theirs. A broken promise goes above all, for whoever
/// looks for it must not miss it behind another server's trouble; then a signal, as the user knows of it; then
/// what kept a server from running at all (unsafe target, wrong job), as that asks for another command; then
/// errors, missed demands, doubt.
fn gravest(codes: &[u8]) -> u8 {
    let rank = |code: u8| match code {
        EXIT_VIOLATION => 0,
        129.. => 1,
        EXIT_UNSAFE => 2,
        EXIT_USAGE => 3,
        EXIT_IO => 4,
        EXIT_MISSED => 5,
        EXIT_INCONCLUSIVE => 6,
        EXIT_OK => 8,
        _ => 7,
    };
    codes.iter().copied().min_by_key(|&code| rank(code)).unwrap_or(EXIT_OK)
}

#[cfg(test)]
mod tests;
