//! Triggers: which servers are fired, and the client's own command.
//!
//! The command runs once. Each server that wants it must have fired, and the snapshot of its trigger must
//! be on stable storage here; so must the state of every other server that was fired with it. What a server
//! says of itself counts for nothing else: one that ended, is silent or lies withholds the command.
//! `trigger_always` excuses a snapshot that is not stored, never a trigger that did not fire.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::job::JobSpec;
use crate::remote::wire::bench::{self, client_message::What};
use crate::remote::wire::live;
use crate::report::{CommandReport, TriggerReport};

use super::conduct::{Conductor, Phase, Server};
use super::link::Event;

/// A trigger that fired on a server.
#[derive(Clone, Debug)]
pub(super) struct Fired {
    /// Of its snapshot.
    pub number: u64,
    /// Of its snapshot.
    pub bytes: u64,
    /// What fired.
    pub trigger: TriggerReport,
    /// When it was heard of.
    pub heard_ns: u64,
    /// Where the snapshot lies (nowhere, if nothing was promised) and when that was so.
    pub stored: Option<Result<(Option<PathBuf>, u64), String>>,
}

impl Fired {
    /// Whether the state of the server is on stable storage here.
    pub fn is_safe(&self) -> bool {
        matches!(self.stored, Some(Ok(_)))
    }

    /// The report of it, with what this side knows.
    pub fn report(&self, command: Option<&Command>) -> TriggerReport {
        let mut trigger = self.trigger.clone();
        trigger.bytes = self.bytes;
        (trigger.snapshot, trigger.failure) = (None, None);
        match &self.stored {
            Some(Ok((path, at_ns))) => {
                trigger.snapshot = path.as_ref().map(|path| path.display().to_string());
                // But for the way from there to here, which no clock of this side has seen.
                trigger.stored_ns = trigger.freeze_ns.saturating_add(at_ns.saturating_sub(self.heard_ns));
            }
            Some(Err(why)) => trigger.failure = Some(why.clone()),
            None => trigger.failure = Some("it was not stored in time".to_owned()),
        }
        if let Some(command) = command {
            match &command.state {
                State::Ran(report) => trigger.command = Some(report.clone()),
                State::Withheld(_) => trigger.withheld = Some(command.text.clone()),
                State::Wanted | State::Runs => {}
            }
        }
        trigger
    }
}

/// One of the commands that triggers run; each runs once.
#[derive(Clone, Debug)]
pub(super) struct Command {
    pub text: String,
    pub state: State,
    /// When it was wanted first.
    wanted_ns: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    Wanted,
    Runs,
    Ran(CommandReport),
    /// Why not.
    Withheld(String),
}

/// What the triggers of all servers have.
#[derive(Debug, Default)]
pub(super) struct Triggers {
    /// Files that fire.
    pub files: Vec<PathBuf>,
    pub commands: Vec<Command>,
    /// What fired, if anything has.
    pub why: Option<String>,
}

/// What the command waits for at one server.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Readiness {
    /// Nothing.
    Ready,
    /// Something that may still come. Why the command is withheld if it does not.
    Waits(String),
    /// Nothing that will come: why.
    Never(String),
}

impl Triggers {
    /// Those of the jobs of all servers. Where an earlier run is judged, none fires.
    pub fn of<'a>(jobs: impl Iterator<Item = &'a JobSpec>) -> Triggers {
        let writing = jobs.filter(|job| !job.verify.only);
        let mut files: Vec<PathBuf> = writing.filter_map(|job| job.trigger.file.clone()).collect();
        files.sort();
        files.dedup();
        Triggers { files, ..Triggers::default() }
    }

    pub fn command(&self, text: &str) -> Option<&Command> {
        self.commands.iter().find(|command| command.text == text)
    }
}

impl Conductor<'_> {
    /// Fires where something asks for it.
    pub(super) fn look_for_triggers(&mut self) {
        let starts = self.servers.iter().any(|server| matches!(server.phase, Phase::Asked));
        if starts || !self.servers.iter().any(Server::is_driven) {
            return;
        }
        if self.requests.trigger.swap(0, std::sync::atomic::Ordering::AcqRel) != 0 {
            self.fire("SIGUSR2");
        }
        for file in self.triggers.files.clone() {
            if !file.exists() {
                continue;
            }
            // Or it would fire the next run too.
            let removed = match std::fs::remove_file(&file) {
                Ok(()) => String::new(),
                Err(error) => format!(", which could not be removed: {error}"),
            };
            self.fire(&format!("file {}{removed}", file.display()));
            if !removed.is_empty() {
                self.triggers.files.retain(|other| *other != file);
            }
        }
    }

    /// Fires on all servers that have not.
    pub(super) fn fire(&mut self, why: &str) {
        let why = self.triggers.why.get_or_insert_with(|| why.to_owned());
        for server in self.servers.iter_mut().filter(|server| server.is_driven() && !server.only_judges()) {
            if server.fired.is_none() && !std::mem::replace(&mut server.is_asked_to_fire, true) {
                server.line.say(What::Fire(bench::Fire { why: why.clone() }));
            }
        }
    }

    /// A server wants the command to be run.
    pub(super) fn want_command(&mut self, at: usize, text: &str) {
        let server = &mut self.servers[at];
        if !server.is_driven() {
            return;
        }
        let own = server.jobs().first().and_then(|job| job.trigger.command.clone());
        // A server does not say what runs here: only a job file of this side does.
        let why = match own {
            Some(own) if own == text => None,
            Some(_) => Some("not run: it is not the command of this client's job"),
            None => Some("not run: this client has no such job, and a server does not say what it runs"),
        };
        if let Some(why) = why {
            server.line.say(What::CommandRan(live::command_to(&not_run(text, why))));
            let note = format!("it wants a command to be run that is none of this client's: {text}");
            self.note(at, &super::link::cut(&note, 1000));
            return;
        }
        server.wants = Some(text.to_owned());
        match self.triggers.command(text).map(|command| command.state.clone()) {
            None => {
                let wanted_ns = self.clock.now_ns();
                let command = Command { text: text.to_owned(), state: State::Wanted, wanted_ns };
                self.triggers.commands.push(command);
            }
            // It came back, or came later than others of the same jobs.
            Some(State::Ran(_) | State::Withheld(_)) => self.answer_commands(),
            Some(State::Wanted | State::Runs) => {}
        }
    }

    /// Runs what is wanted, once nothing is missing; withholds it when something never will be there.
    pub(super) fn run_commands(&mut self) {
        let commands = &self.triggers.commands;
        if commands.iter().any(|command| command.state == State::Runs) {
            return;
        }
        let Some(next) = commands.iter().position(|command| command.state == State::Wanted) else { return };
        let waited_ns = self.clock.now_ns().saturating_sub(commands[next].wanted_ns);
        let is_late = waited_ns > self.patience_ns();
        let text = commands[next].text.clone();
        let (mut missing, mut is_waited_for) = (Vec::new(), false);
        for server in &self.servers {
            let why = match readiness(server, &text) {
                Readiness::Ready => continue,
                Readiness::Waits(_) if !is_late => {
                    is_waited_for = true;
                    continue;
                }
                Readiness::Waits(why) | Readiness::Never(why) => why,
            };
            if !is_excused(server, &text) {
                missing.push(format!("{}: {why}", server.address));
            }
        }
        if !missing.is_empty() {
            return self.withhold(next, &format!("not run: {}", missing.join("; ")));
        }
        if is_waited_for {
            return;
        }
        let wanting = |server: &&Server| server.wants.as_deref() == Some(&text);
        let stored =
            |server: &&Server| server.fired.as_ref().is_some_and(Fired::is_safe) && server.has_file();
        let links: Vec<OsString> =
            self.servers.iter().filter(stored).map(|server| server.place.link().into_os_string()).collect();
        let of_one = self.servers.iter().filter(wanting).find(stored).map(|server| server.place.link());
        self.triggers.commands[next].state = State::Runs;
        let variables = variables(of_one, &links);
        let events = self.events.clone();
        let run = move || {
            let borrowed: Vec<(&str, &std::ffi::OsStr)> =
                variables.iter().map(|(name, value)| (*name, value.as_os_str())).collect();
            let report = crate::run::run_shell(text, &borrowed);
            // If nobody listens, the client has left.
            let _ = events.send((0, Event::Ran(report)));
        };
        if let Err(why) = std::thread::Builder::new().name("trigger".to_owned()).spawn(run) {
            self.withhold(next, &format!("not run: no thread for it: {why}"));
        }
    }

    /// A command does not run: those that want it learn why, and the user too.
    fn withhold(&mut self, command: usize, why: &str) {
        let command = &mut self.triggers.commands[command];
        command.state = State::Withheld(why.to_owned());
        let text = command.text.clone();
        let wanting = self.servers.iter().position(|server| server.wants.as_deref() == Some(&text));
        self.note(wanting.unwrap_or(0), &format!("the trigger's command was {why}"));
        self.answer_commands();
    }

    /// A command ended.
    pub(super) fn command_ran(&mut self, report: CommandReport) {
        if let Some(command) = self.triggers.commands.iter_mut().find(|command| command.text == report.text) {
            command.state = State::Ran(report);
        }
        self.answer_commands();
    }

    /// Tells those who wait for commands what they did.
    fn answer_commands(&mut self) {
        for server in &mut self.servers {
            let Some(text) = server.wants.clone().filter(|_| !server.is_answered) else { continue };
            let report = match self.triggers.command(&text).map(|command| &command.state) {
                Some(State::Ran(report)) => report.clone(),
                Some(State::Withheld(why)) => {
                    let sentence = format!("{}: the trigger's command was {why}", server.address);
                    server.failure.get_or_insert_with(|| super::link::environment(sentence));
                    not_run(&text, why)
                }
                _ => continue,
            };
            server.is_answered = true;
            server.line.say(What::CommandRan(live::command_to(&report)));
        }
    }
}

/// Whether a server's own job lets the command run without its state. It never does without its trigger.
fn is_excused(server: &Server, text: &str) -> bool {
    let has_fired = server.fired.is_some() || server.wants.as_deref() != Some(text);
    has_fired && server.jobs().first().is_some_and(|job| job.trigger.always)
}

/// What the command of this text waits for at a server.
fn readiness(server: &Server, text: &str) -> Readiness {
    let gone = match &server.phase {
        Phase::Done if server.report.is_none() => Some("it is disconnected"),
        Phase::Ending(_) | Phase::Done | Phase::Left => Some("it has ended"),
        Phase::Lost(..) => Some("it is disconnected"),
        _ => None,
    };
    let Some(fired) = &server.fired else {
        return match gone {
            // A session sends the snapshot of its trigger before it wants the command.
            None if server.wants.as_deref() == Some(text) => {
                Readiness::Never("it wants the command, and its trigger never fired".to_owned())
            }
            Some(gone) if server.wants.as_deref() == Some(text) => {
                Readiness::Never(format!("its trigger never fired, and {gone}"))
            }
            None => not_fired(server),
            Some(gone) => gone_without_firing(server, gone),
        };
    };
    match &fired.stored {
        Some(Ok(_)) => Readiness::Ready,
        Some(Err(why)) => Readiness::Never(format!("its state could not be stored: {why}")),
        None if server.phase == Phase::Done => Readiness::Never("its state is not stored".to_owned()),
        None => Readiness::Waits("its state was not stored in time".to_owned()),
    }
}

/// One that is there, does not want the command, and has not fired.
fn not_fired(server: &Server) -> Readiness {
    // It judges an earlier run: no trigger fires there.
    if server.only_judges() {
        return Readiness::Ready;
    }
    let waits = |why: &str| Readiness::Waits(why.to_owned());
    match server.phase {
        // One that has not begun is fired when it does.
        Phase::Asked => waits("its run has not begun in time"),
        Phase::Running | Phase::Broken if server.accepted.as_ref().is_some_and(|it| it.drives) => {
            waits("its trigger has not fired in time")
        }
        _ => Readiness::Ready,
    }
}

/// One that does not want the command any more, if it ever did: what it had promised must be stored.
fn gone_without_firing(server: &Server, gone: &str) -> Readiness {
    if server.accepted.as_ref().is_none_or(|accepted| !accepted.drives) || server.only_judges() {
        return Readiness::Ready;
    }
    match &server.trouble {
        Some(why) => Readiness::Never(format!("its state could not be stored ({why}), and {gone}")),
        None if server.is_asked_to_fire && server.report.is_none() => {
            Readiness::Never(format!("its trigger was to fire, and {gone}"))
        }
        // What it had sent may still be on its way to the disk.
        None if matches!(server.phase, Phase::Ending(_) | Phase::Lost(..)) => {
            Readiness::Waits("its state was not stored in time".to_owned())
        }
        None => Readiness::Ready,
    }
}

fn not_run(text: &str, why: &str) -> CommandReport {
    CommandReport { text: text.to_owned(), status: why.to_owned(), ..CommandReport::default() }
}

fn variables(of_one: Option<PathBuf>, links: &[OsString]) -> Vec<(&'static str, OsString)> {
    let mut variables = Vec::new();
    if let Some(link) = of_one {
        variables.push(("FIO_SPDK_STATE", link.into_os_string()));
    }
    if !links.is_empty() {
        variables.push(("FIO_SPDK_STATES", links.join(std::ffi::OsStr::new(":"))));
    }
    variables
}
