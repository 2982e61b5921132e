//! Children and commands: started, watched, told of signals, and killed when they overrun. What a
//! device hangs hangs in a child, never here.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::base::clock::Clock;
use crate::base::host::output_file::{self, Start};
use crate::base::units::{SECOND_NS, format_time_ns};
use crate::run::Requests;

/// How often a child is looked at.
const TICK: Duration = Duration::from_millis(10);
/// How long the kernel may take to end a child that was killed.
const KILLED_NS: u64 = 5 * SECOND_NS;
/// How long a child may take to end once it was told to.
const TOLD_NS: u64 = 30 * SECOND_NS;

/// What a child is told of a signal that ends the campaign.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum OnSignal {
    /// The signal.
    Tell,
    /// Nothing: it may finish, until there is a second one.
    Finish,
}

/// Watches children.
#[derive(Clone)]
pub struct Watch {
    clock: Clock,
    requests: Requests,
}

/// A child that has ended by itself: how, and after how long. Else why it has not.
pub struct Ended {
    pub status: Result<ExitStatus, String>,
    pub took_ns: u64,
}

impl Ended {
    /// The exit code; `None` if it was killed or never started.
    pub fn code(&self) -> Option<i32> {
        self.status.as_ref().ok().and_then(ExitStatus::code)
    }

    /// How it ended, if not well.
    pub fn trouble(&self) -> Option<String> {
        match &self.status {
            Ok(status) if status.success() => None,
            Ok(status) => Some(match (status.code(), status.signal()) {
                (Some(code), _) => format!("ended with exit code {code}"),
                (None, Some(signal)) => format!("was ended by signal {signal}"),
                (None, None) => format!("ended with {status}"),
            }),
            Err(why) => Some(why.clone()),
        }
    }
}

/// What waits may take, for messages.
pub fn span(ns: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "four digits are printed")]
    let ns = ns as f64;
    format_time_ns(ns)
}

impl Watch {
    pub fn new(requests: Requests) -> Watch {
        Watch { clock: Clock::get(), requests }
    }

    pub fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    /// The signal that ends the campaign.
    pub fn signal(&self) -> Option<i32> {
        i32::try_from(self.requests.end_signal.load(Ordering::Acquire)).ok().filter(|&signal| signal != 0)
    }

    fn signals(&self) -> usize {
        self.requests.end_count.load(Ordering::Acquire)
    }

    /// Sleeps, but not through a signal.
    pub fn pause(&self, ns: u64) {
        let until_ns = self.now_ns().saturating_add(ns);
        while self.now_ns() < until_ns && self.signals() == 0 {
            std::thread::sleep(TICK);
        }
    }

    /// Runs a command to its end, or until `overdue`, given the time since its start, says why it
    /// may not run on. Its output goes to the file `log`.
    pub fn run(
        &self,
        command: &mut Command,
        log: &Path,
        on_signal: OnSignal,
        overdue: &mut dyn FnMut(u64) -> Option<String>,
    ) -> Ended {
        let begun_ns = self.now_ns();
        let status = match self.start(command, log) {
            Ok(child) => self.watch(child, begun_ns, on_signal, overdue),
            Err(why) => Err(why),
        };
        Ended { status, took_ns: self.now_ns() - begun_ns }
    }

    /// Runs a command of the user's, at most this long.
    pub fn run_shell(&self, command: &mut Command, log: &Path, on_signal: OnSignal, limit_ns: u64) -> Ended {
        self.run(command, log, on_signal, &mut |since_ns| {
            (since_ns > limit_ns).then(|| format!("took longer than {}", span(limit_ns)))
        })
    }

    /// In a process group of its own: a signal from the terminal comes through us alone, and who is
    /// killed takes its own children along.
    fn start(&self, command: &mut Command, log: &Path) -> Result<Child, String> {
        let out = output_file::open(log, Start::Empty).map_err(|why| format!("{}: {why}", log.display()))?;
        let err = out.try_clone().map_err(|why| format!("{}: {why}", log.display()))?;
        let started = command.stdout(out).stderr(err).process_group(0).spawn();
        started.map_err(|why| format!("could not be started: {why}"))
    }

    fn watch(
        &self,
        mut child: Child,
        begun_ns: u64,
        on_signal: OnSignal,
        overdue: &mut dyn FnMut(u64) -> Option<String>,
    ) -> Result<ExitStatus, String> {
        let mut told_ns = None;
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return Ok(status),
                Ok(None) => {}
                Err(why) => return Err(format!("cannot be watched: {why}")),
            }
            let now_ns = self.now_ns();
            if self.signals() > 1 {
                return self.kill(child, "was killed by a second signal".to_owned());
            }
            if told_ns.is_none() && on_signal == OnSignal::Tell && self.signals() > 0 {
                told_ns = Some(now_ns);
                self.tell(&child);
            }
            if told_ns.is_some_and(|told_ns| now_ns > told_ns + TOLD_NS) {
                return self.kill(child, "did not end when it was told to".to_owned());
            }
            if let Some(why) = overdue(now_ns - begun_ns) {
                return self.kill(child, why);
            }
            std::thread::sleep(TICK);
        }
    }

    fn tell(&self, child: &Child) {
        let signal = self.signal().and_then(Signal::from_named_raw).unwrap_or(Signal::TERM);
        if let Some(pid) = pid(child) {
            // It may have ended just now.
            let _ = kill_process(pid, signal);
        }
    }

    fn kill(&self, mut child: Child, why: String) -> Result<ExitStatus, String> {
        if let Some(pid) = pid(&child) {
            let _ = kill_process_group(pid, Signal::KILL);
        }
        let until_ns = self.now_ns() + KILLED_NS;
        while self.now_ns() < until_ns {
            if !matches!(child.try_wait(), Ok(None)) {
                return Err(why);
            }
            std::thread::sleep(TICK);
        }
        Err(format!("{why}, and does not end though killed: it hangs in its device"))
    }
}

fn pid(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

/// The last line of a log that says something, for messages.
pub fn last_line(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    // What a diagnostic says stands above the excerpt of the file.
    let line = lines().find(|line| line.starts_with("error:")).or_else(|| lines().next_back());
    line.unwrap_or_default().trim_start_matches("error: ").chars().take(300).collect()
}
