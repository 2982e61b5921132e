//! The calling thread: hears what comes of all servers, keeps the deadlines, tells the watcher.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::base::clock::Clock;
use crate::base::verify::RunId;
use crate::job::JobSpec;
use crate::remote::address::Address;
use crate::remote::wire::bench::{self, client_message::What};
use crate::remote::wire::report;
use crate::report::Report;
use crate::run::{Progress, Requests};
use crate::verify::snapshot::Snapshot;

use super::evidence::{self, Evidence, Held, Place, Stored};
use super::link::{Event, Line, Told, cut, environment};
use super::trigger::{Fired, Triggers};
use super::{Failure, Order, Outcome, Watcher, Work, belief, end};

/// How often it looks around.
const TICK: Duration = Duration::from_millis(10);
/// Notes of one server that are shown.
const MOST_NOTES: u32 = 1000;
/// How long connections may take to close.
const LEAVE_WITHIN: Duration = Duration::from_millis(500);
/// How long a disk may take to store what a server that is gone had sent.
const DISK_NS: u64 = 60_000_000_000;

/// Where a server's run is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not found yet.
    Reaching,
    /// There, and waits for the others.
    There,
    /// Was told what to do.
    Asked,
    /// Does it.
    Running,
    /// The connection broke, and is looked for.
    Broken,
    /// Gone, for a reason; what it had sent may still be stored.
    Lost(String, u64),
    /// Told its end; what it had sent may still be stored.
    Ending(u64),
    /// Was left to itself.
    Left,
    /// Told its end, or will not do it.
    Done,
}

/// One server.
pub(super) struct Server {
    pub address: Address,
    pub work: Work,
    pub line: Arc<Line>,
    pub evidence: Arc<Evidence>,
    pub place: Place,
    pub phase: Phase,
    /// Its runs that go on without a client.
    pub detached: Vec<String>,
    pub accepted: Option<bench::Accepted>,
    pub fired: Option<Fired>,
    pub is_asked_to_fire: bool,
    /// It said that its trigger fired, and nothing had asked for that.
    pub is_unasked: bool,
    /// The command that it waits for, and whether it was told of it.
    pub wants: Option<String>,
    pub is_answered: bool,
    /// It is to be asked to end, by this signal, when it listens.
    ends_unsaid: Option<i32>,
    pub failure: Option<Failure>,
    pub report: Option<Report>,
    /// Why its last snapshot could not be stored.
    pub trouble: Option<String>,
    /// What the file of its state holds.
    pub held: Option<Held>,
    /// The exit code that it says its run comes to.
    pub said_code: Option<u32>,
    notes: u32,
    is_trouble_told: bool,
}

impl Server {
    pub fn new(target: &super::Target, line: Arc<Line>, evidence: Arc<Evidence>, place: Place) -> Server {
        Server {
            address: target.address.clone(),
            work: target.work.clone(),
            line,
            evidence,
            place,
            phase: Phase::Reaching,
            detached: Vec::new(),
            accepted: None,
            fired: None,
            is_asked_to_fire: false,
            is_unasked: false,
            wants: None,
            is_answered: false,
            ends_unsaid: None,
            failure: None,
            report: None,
            trouble: None,
            held: None,
            said_code: None,
            notes: 0,
            is_trouble_told: false,
        }
    }

    /// Its jobs, where they are this side's.
    pub fn jobs(&self) -> &[JobSpec] {
        match &self.work {
            Work::Run { jobs, .. } => jobs,
            Work::Attach { .. } => &[],
        }
    }

    /// Whether it runs, and this client drives it.
    pub fn is_driven(&self) -> bool {
        self.phase == Phase::Running && self.accepted.as_ref().is_some_and(|accepted| accepted.drives)
    }

    /// Whether all that it does is to judge an earlier run: no trigger fires there.
    pub fn only_judges(&self) -> bool {
        !self.jobs().is_empty() && self.jobs().iter().all(|job| job.verify.only)
    }

    /// Whether its trigger may have fired: this client asked for it, or its jobs did. What another client
    /// asked for while this one was away is not known here.
    fn may_fire(&self) -> bool {
        let asked = |job: &JobSpec| job.trigger.timeout_ns.is_some() || job.trigger.ios.is_some();
        let is_own = !self.jobs().is_empty() && !self.is_detached();
        self.is_asked_to_fire || !is_own || self.jobs().iter().any(asked)
    }

    /// Whether a file of it was stored when the trigger fired.
    pub fn has_file(&self) -> bool {
        let stored = self.fired.as_ref().and_then(|fired| fired.stored.as_ref());
        stored.is_some_and(|stored| stored.as_ref().is_ok_and(|(path, _)| path.is_some()))
    }

    /// Whether its run goes on when this client leaves.
    pub fn is_detached(&self) -> bool {
        let run = self.accepted.as_ref().map(|accepted| &accepted.run);
        super::detaches(self.jobs()) || run.is_some_and(|run| self.detached.contains(run))
    }

    fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Left | Phase::Done)
    }

    /// The newest statistics that came, or why they cannot be read.
    pub fn newest(&self) -> Option<Result<Report, String>> {
        if let Some(report) = &self.report {
            return Some(Ok(report.clone()));
        }
        let so_far = self.line.numbers(|numbers| numbers.so_far.clone())?;
        let read = report::decode_at_most(&so_far, super::most_jobs(&self.work));
        Some(read.map_err(|why| format!("its statistics so far cannot be read: {why}")))
    }
}

/// What becomes of all servers.
pub(super) struct Conductor<'a> {
    pub order: &'a Order,
    pub requests: &'a Requests,
    pub watcher: &'a mut dyn Watcher,
    pub servers: Vec<Server>,
    pub triggers: Triggers,
    pub clock: Clock,
    pub events: Sender<Told>,
    pub go: watch::Sender<bool>,
    pub ends_told: usize,
}

impl Conductor<'_> {
    /// Until all servers have ended, failed or been left.
    pub fn conduct(mut self, heard: Receiver<Told>, runtime: Runtime) -> Vec<Outcome> {
        let begun_ns = self.clock.now_ns();
        let (mut next_progress_ns, mut next_status_ns) = (begun_ns, begun_ns);
        let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1);
        if let Some(every) = self.order.status_interval {
            next_status_ns = begun_ns.saturating_add(ns(every));
        }
        while !self.servers.iter().all(Server::is_over) || self.is_command_at_work() {
            match heard.recv_timeout(TICK) {
                Ok((at, event)) => self.hear(at, event),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.look_for_ends();
            self.start_together();
            self.look_for_triggers();
            self.run_commands();
            self.settle_lost(&heard);
            self.settle_ended(&heard);
            let now_ns = self.clock.now_ns();
            if now_ns >= next_progress_ns {
                next_progress_ns = now_ns.saturating_add(ns(self.order.progress_interval));
                self.tell_progress();
            }
            let is_due = self.order.status_interval.is_some() && now_ns >= next_status_ns;
            if let Some(every) = self.order.status_interval.filter(|_| is_due) {
                next_status_ns = now_ns.saturating_add(ns(every));
            }
            // The end has a report of its own.
            let is_over = self.servers.iter().all(Server::is_over);
            if (is_due || self.requests.dump.swap(0, Ordering::AcqRel) != 0) && !is_over {
                self.tell_so_far();
            }
        }
        self.servers.iter().for_each(|server| server.line.close());
        // In this order: nobody waits for who is gone already.
        drop(heard);
        runtime.shutdown_timeout(LEAVE_WITHIN);
        let triggers = &self.triggers;
        self.servers.iter_mut().map(|server| end::outcome(server, triggers)).collect()
    }

    /// How long servers may take for what others wait for.
    pub fn patience_ns(&self) -> u64 {
        u64::try_from(self.order.silence.as_nanos()).unwrap_or(u64::MAX)
    }

    fn is_command_at_work(&self) -> bool {
        let is_left = self.ends_told > 2 || self.servers.iter().all(|server| server.phase == Phase::Left);
        !is_left && self.triggers.commands.iter().any(|command| command.state == super::trigger::State::Runs)
    }

    /// Shows a note, unless there were too many.
    pub fn note(&mut self, at: usize, text: &str) {
        let server = &mut self.servers[at];
        server.notes = server.notes.saturating_add(1);
        match server.notes {
            ..MOST_NOTES => self.watcher.note(at, text),
            MOST_NOTES => self.watcher.note(at, "further notes of it are left out"),
            _ => {}
        }
    }

    fn tell_progress(&mut self) {
        let of = |server: &Server| match server.phase {
            Phase::Running => server.line.numbers(|numbers| numbers.progress.clone()),
            _ => None,
        };
        let newest: Vec<Option<Progress>> = self.servers.iter().map(of).collect();
        self.watcher.progress(&newest);
    }

    fn tell_so_far(&mut self) {
        let mut reports = Vec::new();
        for at in 0..self.servers.len() {
            let newest = self.servers[at].newest().transpose();
            reports.push(newest.unwrap_or_else(|why| {
                self.note(at, &why);
                None
            }));
        }
        self.watcher.so_far(&reports);
    }

    /// Those that are there start, when nobody else may come.
    fn start_together(&mut self) {
        let is_missing = self.servers.iter().any(|server| server.phase == Phase::Reaching);
        // Nothing starts that the user has ended while it waited.
        if is_missing || *self.go.borrow() || self.ends_told > 0 {
            return;
        }
        for server in self.servers.iter_mut().filter(|server| server.phase == Phase::There) {
            server.phase = Phase::Asked;
        }
        self.go.send_replace(true);
    }

    fn hear(&mut self, at: usize, event: Event) {
        if let Event::Ran(report) = event {
            return self.command_ran(report);
        }
        if self.servers[at].is_over() {
            return;
        }
        let server = &mut self.servers[at];
        match event {
            Event::Late(why) => self.note(at, &format!("waiting for it: {why}")),
            Event::There { detached } => {
                server.detached = detached;
                server.phase = Phase::There;
            }
            Event::Accepted(accepted) => self.accepted(at, accepted),
            Event::Note(text) => self.note(at, &text),
            Event::Finding(line) => self.watcher.finding(at, &line),
            Event::StateWanted => self.state_wanted(at),
            Event::State(state) => {
                let what = match state {
                    Ok(bytes) => {
                        if let Ok(snapshot) = Snapshot::decode(&bytes) {
                            match server.jobs().iter().any(|job| job.state.go_on) {
                                true => server.evidence.continues(snapshot),
                                false => server.evidence.expect(snapshot.run),
                            }
                        }
                        bench::state::What::Snapshot(bytes.into())
                    }
                    Err(why) => bench::state::What::Missing(why),
                };
                server.line.say(What::State(bench::State { what: Some(what) }));
            }
            Event::Fired { number, bytes, trigger } => self.has_fired(at, number, bytes, trigger),
            Event::Stored(stored) => self.stored(at, stored),
            Event::NoRoom(why) => {
                server.failure = Some(environment(why));
                server.line.say(What::End(bench::End { signal: 15 }));
            }
            Event::CommandWanted(text) => self.want_command(at, &text),
            Event::Ended { report, failure, exit_code } => {
                server.report = report.map(|report| *report);
                server.said_code = exit_code;
                server.failure = server.failure.take().or(failure);
                server.phase = Phase::Ending(self.clock.now_ns());
            }
            Event::Broken(why) => {
                server.phase = Phase::Broken;
                let silence = super::link::spoken(self.order.silence);
                self.note(
                    at,
                    &format!("the connection is lost ({why}); the run goes on there: trying for {silence}"),
                );
            }
            Event::Failed(failure) => {
                server.failure = Some(failure);
                server.phase = Phase::Done;
                self.name_failure(at);
            }
            Event::Lost(why) => server.phase = Phase::Lost(why, self.clock.now_ns()),
            Event::Ran(_) => {}
        }
    }

    fn accepted(&mut self, at: usize, accepted: bench::Accepted) {
        let server = &mut self.servers[at];
        server.phase = Phase::Running;
        let is_again = server.accepted.is_some();
        let has_watched = server.accepted.as_ref().is_some_and(|before| !before.drives);
        if accepted.drives {
            if server.place.job.is_none() {
                server.place.job = Some(evidence::job_name(&accepted.job_file));
            }
            if let (Work::Run { .. }, false) = (&server.work, is_again) {
                let run = u128::from_str_radix(&accepted.run, 16).map(RunId);
                run.into_iter().for_each(|run| server.evidence.expect(run));
            }
            server.evidence.begin(server.place.clone(), accepted.run.clone());
        }
        let wished = !matches!(server.work, Work::Attach { watch: true, .. });
        let note = match (is_again, wished && !accepted.drives) {
            (_, true) => Some(format!(
                "{} drives this run, so this client only watches it",
                cut(&accepted.client, 200)
            )),
            (true, false) if has_watched => Some("this client drives the run now".to_owned()),
            (true, false) => Some("connected again".to_owned()),
            (false, false) => None,
        };
        if let Some(signal) = server.ends_unsaid.take() {
            server.line.say(What::End(bench::End { signal }));
        }
        server.accepted = Some(accepted);
        // What was asked before may have been lost on the way.
        server.is_answered = false;
        server.is_asked_to_fire = false;
        note.into_iter().for_each(|note| self.note(at, &note));
        if let Some(why) = self.triggers.why.clone() {
            self.fire(&why);
        }
    }

    fn state_wanted(&mut self, at: usize) {
        let server = &self.servers[at];
        if server.jobs().iter().any(|job| job.state.load || job.state.go_on) {
            return server.evidence.fetch(server.place.link());
        }
        let why = "no job of this client asks for the state of an earlier run".to_owned();
        let what = Some(bench::state::What::Missing(why));
        server.line.say(What::State(bench::State { what }));
    }

    fn has_fired(&mut self, at: usize, number: u64, bytes: u64, trigger: crate::report::TriggerReport) {
        let heard_ns = self.clock.now_ns();
        let server = &mut self.servers[at];
        if !server.may_fire() {
            // Others would be fired for it, and the command would cut their power.
            server.is_unasked = true;
            return self.note(
                at,
                "it says that its trigger fired, which neither its jobs nor this client asked for: ignored",
            );
        }
        let why = format!("trigger on {}", server.address);
        server.fired = Some(Fired { number, bytes, trigger, heard_ns, stored: None });
        self.fire(&why);
    }

    fn stored(&mut self, at: usize, stored: Stored) {
        let now_ns = self.clock.now_ns();
        let server = &mut self.servers[at];
        let place = stored.result.clone().map(|(_, path): (u64, Option<PathBuf>)| (path, now_ns));
        // No later snapshot makes up for the trigger's.
        let is_triggers = |fired: &&mut Fired| fired.number == stored.number && fired.stored.is_none();
        if let Some(fired) = server.fired.as_mut().filter(is_triggers) {
            fired.stored = Some(place);
        }
        server.held = stored.held;
        server.trouble = stored.result.as_ref().err().cloned();
        if let Err(why) = stored.result
            && !std::mem::replace(&mut server.is_trouble_told, true)
        {
            self.note(at, &format!("its state could not be stored: {why}"));
        }
    }

    /// Servers that are gone, once what they had sent is stored.
    fn settle_lost(&mut self, heard: &Receiver<Told>) {
        let now_ns = self.clock.now_ns();
        for at in 0..self.servers.len() {
            let server = &mut self.servers[at];
            let Phase::Lost(why, since_ns) = &server.phase else { continue };
            let is_stored = server.fired.as_ref().is_none_or(|fired| fired.stored.is_some());
            // In this order, as below.
            let is_settled = is_stored && server.evidence.is_idle() && heard.is_empty();
            if !is_settled && now_ns.saturating_sub(*since_ns) < DISK_NS {
                continue;
            }
            server.failure = server.failure.take().or(end::why_lost(server, why));
            server.phase = Phase::Done;
            self.name_failure(at);
        }
    }

    /// Servers that have ended, once what they had sent is stored: of a run that was over when this client
    /// came, nobody but this client knows whether it is.
    fn settle_ended(&mut self, heard: &Receiver<Told>) {
        let now_ns = self.clock.now_ns();
        for at in 0..self.servers.len() {
            let server = &mut self.servers[at];
            let Phase::Ending(since_ns) = server.phase else { continue };
            let is_late = now_ns.saturating_sub(since_ns) >= DISK_NS;
            // In this order: what came of the last one is told before its thread is idle.
            let is_idle = server.evidence.is_idle();
            let is_settled = is_idle && heard.is_empty();
            if !is_settled && !is_late {
                continue;
            }
            let why = if is_idle { server.trouble.clone() } else { Some("not in time".to_owned()) };
            if let Some(why) = why.filter(|_| server.failure.is_none()) {
                let address = &server.address;
                server.failure =
                    Some(environment(format!("{address}: its state could not be stored: {why}")));
            }
            if server.failure.is_none() {
                server.failure = belief::doubt(server);
            }
            server.phase = Phase::Done;
            self.name_failure(at);
        }
    }

    /// A server that failed is named at once where others go on: their report may be hours away.
    fn name_failure(&mut self, at: usize) {
        let server = &self.servers[at];
        let Some(failure) = &server.failure else { return };
        if self.servers.iter().all(Server::is_over) {
            return;
        }
        let address = server.address.to_string();
        let bare = failure.message.strip_prefix(&address).unwrap_or(&failure.message);
        let text = bare.trim_start_matches([':', ' ']).to_owned();
        self.note(at, &text);
    }

    /// Ctrl-C and its like.
    fn look_for_ends(&mut self) {
        let count = self.requests.end_count.load(Ordering::Acquire).min(3);
        if self.ends_told >= count {
            return;
        }
        self.ends_told += 1;
        let signal = i32::try_from(self.requests.end_signal.load(Ordering::Acquire)).unwrap_or(15);
        for at in 0..self.servers.len() {
            let server = &mut self.servers[at];
            match server.phase {
                Phase::Left | Phase::Done | Phase::Lost(..) => {}
                Phase::Ending(_) if self.ends_told <= 2 => {}
                Phase::Reaching | Phase::There => {
                    server.failure = Some(environment(format!("{}: ended before it began", server.address)));
                    server.phase = Phase::Done;
                }
                _ if self.ends_told > 2 => {
                    let why = format!("{}: left without waiting for its end", server.address);
                    server.failure = Some(environment(why));
                    server.phase = Phase::Done;
                }
                _ if server.is_detached() || !server.may_end() => self.leave(at),
                _ => {
                    // The conversation may be about to begin.
                    if !server.line.say(What::End(bench::End { signal })) && server.phase == Phase::Asked {
                        server.ends_unsaid = Some(signal);
                    }
                }
            }
        }
    }

    /// Leaves a run to itself.
    fn leave(&mut self, at: usize) {
        let server = &mut self.servers[at];
        server.phase = Phase::Left;
        server.line.close();
        if server.is_detached() {
            // One that was not accepted yet has no id here.
            let run = server.accepted.as_ref().map(|accepted| format!(" --run={}", accepted.run));
            let run = run.unwrap_or_default();
            let back = format!("the run goes on: fio-spdk attach {}{run}", server.address);
            self.note(at, &back);
        }
    }
}

impl Server {
    /// Whether this client may end the run: who watches may not.
    fn may_end(&self) -> bool {
        match &self.work {
            Work::Attach { watch: true, .. } => false,
            _ => self.accepted.as_ref().is_none_or(|accepted| accepted.drives),
        }
    }
}
