//! What is known of a run, and what of it each client has been told.
//!
//! However much a process tells and however slowly a client takes it, this stays small: numbers are
//! overwritten by newer ones, lines are counted and kept for a while, and of snapshots there are two.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::remote::wire::bench::server_message::What;
use crate::remote::wire::bench::{
    Accepted, CommandReport, CommandWanted, End, Ended, Fire, Progress, Report, Snapshot, SnapshotCause,
    State, StateWanted, Stored,
};

/// Notes and findings that are kept for who comes later or takes them slowly.
const MOST_LINES: usize = 4096;
/// Their bytes.
const MOST_LINE_BYTES: usize = 4 << 20;
/// A longer line is cut.
const LONGEST_LINE_BYTES: usize = 64 << 10;
/// So often is a run told to end: in order, without its devices, and not more.
pub const MOST_ENDS: u8 = 2;

/// A note or a finding.
#[derive(Clone, Debug)]
enum Line {
    Note(String),
    Finding(String),
}

impl Line {
    fn bytes(&self) -> usize {
        match self {
            Line::Note(text) | Line::Finding(text) => text.len(),
        }
    }
}

/// A number that newer ones overwrite.
#[derive(Debug)]
struct Latest<T> {
    value: Option<Arc<T>>,
    version: u64,
}

impl<T> Default for Latest<T> {
    fn default() -> Latest<T> {
        Latest { value: None, version: 0 }
    }
}

impl<T> Latest<T> {
    fn set(&mut self, value: T) {
        self.value = Some(Arc::new(value));
        self.version += 1;
    }

    /// The value, if it is newer than `seen`.
    fn newer(&self, seen: &mut u64) -> Option<Arc<T>> {
        let value = self.value.as_ref().filter(|_| self.version > *seen)?;
        *seen = self.version;
        Some(Arc::clone(value))
    }
}

/// What the process of the run has yet to be told.
#[derive(Debug, Default)]
pub struct Outbox {
    pub state: Option<State>,
    pub stored: Option<Stored>,
    pub fire: Option<Fire>,
    pub command: Option<CommandReport>,
    /// How often it is to be told to end, and how often it was; by which signal.
    pub ends: u8,
    pub ends_told: u8,
    pub end_signal: i32,
    /// Drivers that came and went; how many of these changes were told.
    pub driver_changes: u64,
    pub driver_changes_told: u64,
}

/// What is known of a run.
#[derive(Debug, Default)]
pub struct Known {
    pub accepted: Option<Accepted>,
    progress: Latest<Progress>,
    so_far: Latest<Report>,
    lines: VecDeque<Line>,
    line_bytes: usize,
    /// The number of the first line in `lines`: so many have gone.
    first_line: u64,
    /// The newest snapshot of a trigger, and the newest of all.
    trigger: Option<Arc<Snapshot>>,
    newest: Option<Arc<Snapshot>>,
    state_wanted: bool,
    command: Option<CommandWanted>,
    fired: bool,
    /// Who drives: the number of a conversation.
    pub driver: Option<u64>,
    /// Those that watch because another one drove when they came: the first drives when that one leaves. A
    /// client whose connection broke comes back before its old conversation is known to be dead.
    pub next_drivers: VecDeque<u64>,
    pub watchers: u32,
    pub outbox: Outbox,
    pub ended: Option<Arc<Ended>>,
    /// It does not end, although it was told to twice.
    pub to_be_killed: bool,
}

/// What one client has been told.
#[derive(Debug, Default)]
pub struct Told {
    accepted: bool,
    lines: u64,
    progress: u64,
    so_far: u64,
    snapshot: u64,
    state_wanted: bool,
    command: bool,
    ended: bool,
}

/// What is next for a client.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "made and taken apart at once")]
pub enum Next {
    /// Tell it this.
    Tell(What),
    /// Nothing is new.
    Nothing,
    /// It has been told that the run has ended: nothing will be new.
    Over,
}

fn cut(mut text: String) -> String {
    if text.len() > LONGEST_LINE_BYTES {
        let at = (0..=LONGEST_LINE_BYTES).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(at);
        text.push_str(" ...");
    }
    text
}

impl Told {
    /// It has watched, and drives from now on: nothing that is to be answered has been told to it.
    pub fn drives_now(&mut self) {
        (self.accepted, self.snapshot, self.state_wanted, self.command) = (false, 0, false, false);
    }
}

impl Known {
    /// Notes what the process has said. What it may not say is left out.
    pub fn heard(&mut self, what: What) {
        match what {
            What::Accepted(accepted) => self.accepted = Some(accepted),
            What::Note(text) => self.line(Line::Note(cut(text))),
            What::Finding(text) => self.line(Line::Finding(cut(text))),
            What::Progress(progress) => self.progress.set(progress),
            What::SoFar(report) => self.so_far.set(report),
            What::StateWanted(StateWanted {}) => self.state_wanted = true,
            What::Snapshot(snapshot) => {
                let snapshot = Arc::new(snapshot);
                if snapshot.cause() == SnapshotCause::Trigger {
                    self.trigger = Some(Arc::clone(&snapshot));
                }
                self.newest = Some(snapshot);
            }
            What::CommandWanted(command) => self.command = Some(command),
            // The end is told when the process has ended; and this server is alive by itself.
            What::Ended(_) | What::Alive(_) => {}
        }
    }

    /// Something that all who drive or watch should read.
    pub fn note(&mut self, text: String) {
        self.line(Line::Note(cut(text)));
    }

    fn line(&mut self, line: Line) {
        self.line_bytes += line.bytes();
        self.lines.push_back(line);
        while self.lines.len() > MOST_LINES || self.line_bytes > MOST_LINE_BYTES {
            let Some(gone) = self.lines.pop_front() else { break };
            self.line_bytes -= gone.bytes();
            self.first_line += 1;
        }
    }

    /// The last progress.
    pub fn progress(&self) -> Option<Progress> {
        self.progress.value.as_deref().cloned()
    }

    /// The last statistics so far.
    pub fn so_far(&self) -> Option<Report> {
        self.so_far.value.as_deref().cloned()
    }

    /// What to tell a client next; progress only if it is time for it.
    pub fn next(&self, told: &mut Told, drives: bool, progress_is_due: bool) -> Next {
        if let Some(accepted) = self.accepted.as_ref().filter(|_| !told.accepted) {
            told.accepted = true;
            return Next::Tell(What::Accepted(accepted.clone()));
        }
        if told.ended {
            return Next::Over;
        }
        // The first that a client hears is that its run is accepted, or that it has ended; but what has
        // to be answered before that may not wait.
        if let Some(wanted) = self.to_answer(told).filter(|_| drives) {
            return Next::Tell(wanted);
        }
        if told.accepted
            && let Some(line) = self.next_line(told)
        {
            return Next::Tell(line);
        }
        if let Some(ended) = &self.ended {
            told.ended = true;
            return Next::Tell(What::Ended((**ended).clone()));
        }
        if !told.accepted {
            return Next::Nothing;
        }
        if progress_is_due && let Some(progress) = self.progress.newer(&mut told.progress) {
            return Next::Tell(What::Progress(*progress));
        }
        match self.so_far.newer(&mut told.so_far) {
            Some(report) => Next::Tell(What::SoFar((*report).clone())),
            None => Next::Nothing,
        }
    }

    fn to_answer(&self, told: &mut Told) -> Option<What> {
        if self.state_wanted && !told.state_wanted {
            told.state_wanted = true;
            return Some(What::StateWanted(StateWanted {}));
        }
        // That of the trigger has facts that later ones have not.
        let snapshots = [&self.trigger, &self.newest].into_iter().flatten();
        if let Some(snapshot) = snapshots.into_iter().find(|snapshot| snapshot.number > told.snapshot) {
            told.snapshot = snapshot.number;
            return Some(What::Snapshot((**snapshot).clone()));
        }
        let command = self.command.as_ref().filter(|_| !told.command)?;
        told.command = true;
        Some(What::CommandWanted(command.clone()))
    }

    fn next_line(&self, told: &mut Told) -> Option<What> {
        if told.lines < self.first_line {
            let missed = self.first_line - told.lines;
            told.lines = self.first_line;
            return Some(What::Note(format!("{missed} earlier lines are not kept any more")));
        }
        let at = usize::try_from(told.lines - self.first_line).ok()?;
        let line = self.lines.get(at)?;
        told.lines += 1;
        Some(match line {
            Line::Note(text) => What::Note(text.clone()),
            Line::Finding(text) => What::Finding(text.clone()),
        })
    }

    /// Whether a state was asked for and has not come.
    pub fn wants_state(&self) -> bool {
        self.state_wanted
    }

    /// Passes on what the driver says, if it answers something or says something new: so what waits for
    /// a process that does not listen is at most one of each.
    pub fn passes_on(&mut self, said: FromDriver) {
        let outbox = &mut self.outbox;
        match said {
            FromDriver::State(state) if self.state_wanted => {
                self.state_wanted = false;
                outbox.state = Some(state);
            }
            FromDriver::Stored(mut stored) => {
                let sent = self.newest.as_ref().map_or(0, |newest| newest.number);
                let before = outbox.stored.as_ref().map_or(0, |before| before.number);
                if (before..=sent).contains(&stored.number) {
                    stored.failure = cut(stored.failure);
                    outbox.stored = Some(stored);
                }
            }
            FromDriver::Fire(mut fire) if !self.fired => {
                self.fired = true;
                fire.why = cut(fire.why);
                outbox.fire = Some(fire);
            }
            FromDriver::Command(report) if self.command.is_some() => {
                self.command = None;
                outbox.command = Some(report);
            }
            FromDriver::End(End { signal }) => self.end(signal),
            FromDriver::State(_) | FromDriver::Fire(_) | FromDriver::Command(_) => {}
        }
    }

    /// Ends the run: in order, then without waiting for devices, then by force.
    pub fn end(&mut self, signal: i32) {
        let outbox = &mut self.outbox;
        outbox.end_signal = signal;
        if outbox.ends < MOST_ENDS {
            outbox.ends += 1;
        } else {
            self.to_be_killed = true;
        }
    }

    /// One that has ended, from what was kept of it.
    pub fn kept(accepted: Accepted, content: Option<Vec<u8>>, ended: Ended) -> Known {
        let newest = content.map(|content| {
            let cause = SnapshotCause::Ended.into();
            Arc::new(Snapshot { number: 1, cause, content: content.into(), ..Snapshot::default() })
        });
        Known { accepted: Some(accepted), newest, ended: Some(Arc::new(ended)), ..Known::default() }
    }
}

/// What a driver says that is for the run's process.
#[derive(Debug)]
pub enum FromDriver {
    State(State),
    Stored(Stored),
    Fire(Fire),
    Command(CommandReport),
    End(End),
}
