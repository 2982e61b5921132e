//! A drive in memory, driven by a seed: honest, or with sins that are kept on record.
//!
//! * Drives are found by the name of the target, for as long as the process lives: a later job of
//!   the run opens the same drive and finds what stands there. What the jobs of one drive must
//!   agree on is its geometry and its cache; seed, latency, cut and faults are each job's own.
//! * A command takes effect when it is polled. Each stays in flight for a few polls, and those that
//!   are ready come in any order; with a latency, when their time has passed. With one worker and
//!   without latency, the same polls give the same run.
//! * A flush makes durable what had completed before it was submitted. A drive also writes its
//!   cache out by itself, from 64 MiB on.
//! * After a cut of the power, of the writes that were not durable each survives, vanishes or is
//!   left in parts of whole atomic units; so is what was in flight, which fails with ENODEV, as do
//!   all commands until the power is back. It comes back for each queue by itself, with the first
//!   read that is submitted when all that was in flight has failed, and at least one command: so
//!   that every worker hears of the cut. A queue that is made afterwards has power.
//! * A command that stalls comes back from `stop`, which does not wait for it, with ECANCELED.

mod drive;
mod faults;
mod image;
mod log;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::base::atomic::AtomicWrites;
use crate::base::clock::Clock;
use crate::base::premises::{CacheSource, Deallocated, Flushes, Premises};
use crate::base::{Op, Status, random};

use super::ranges::{TrimRange, carried};
use super::{
    BufferArea, Completion, Engine, EngineError, EngineOptions, Io, Queue, QueueConfig, QueueError, Target,
    TargetFacts, Targets, Wait,
};

use drive::{Drive, EBADF, ECANCELED, EINVAL, ENODEV, Span, Ticket};
pub use faults::Sin;

/// A command stays in flight for at most this many polls.
const MAX_POLLS: u64 = 4;

/// The drives of this process: they outlive the engines that open them, as drives do.
static DRIVES: Mutex<BTreeMap<PathBuf, Arc<Mutex<Drive>>>> = Mutex::new(BTreeMap::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the drive of that name has done wrong since it was made, in order.
#[must_use]
pub fn committed(name: impl AsRef<Path>) -> Vec<Sin> {
    let drive = lock(&DRIVES).get(name.as_ref()).cloned();
    drive.map(|drive| lock(&drive).sins().to_vec()).unwrap_or_default()
}

/// Cuts the power of the drive of that name, if there is one: see the head of this page.
pub fn cut_power(name: impl AsRef<Path>) {
    let drive = lock(&DRIVES).get(name.as_ref()).cloned();
    if let Some(drive) = drive {
        lock(&drive).cut();
    }
}

/// Lets go of the drive of that name: who opens it next finds a new one. Engines that have it open
/// keep it.
pub fn forget(name: impl AsRef<Path>) {
    lock(&DRIVES).remove(name.as_ref());
}

/// A drive as one job has opened it.
#[derive(Clone, Debug)]
struct Seat {
    drive: Arc<Mutex<Drive>>,
    session: usize,
}

/// Engine `sim`.
#[derive(Debug)]
pub struct Sim {
    seats: Arc<[Seat]>,
    facts: Vec<TargetFacts>,
    options: EngineOptions,
}

/// The queue of [`Sim`].
#[derive(Debug)]
pub struct SimQueue {
    seats: Arc<[Seat]>,
    /// This queue's number on the drive of each seat.
    users: Box<[usize]>,
    in_flight: Vec<Command>,
    depth: usize,
    polls: u64,
    clock: Clock,
    options: EngineOptions,
}

#[derive(Debug)]
struct Command {
    io: Io,
    /// What the drive says of it, or why it was not admitted.
    ticket: Result<Ticket, Status>,
    /// Its place among those that are ready together.
    order: u64,
    /// The poll from which on it is ready.
    poll: u64,
    /// The time from which on it is ready.
    ns: u64,
}

impl Engine for Sim {
    type Queue = SimQueue;
    const NAME: &'static str = "sim";
    const TARGETS: Targets = Targets::MadeUp;

    fn open(targets: &[Target], options: &EngineOptions) -> Result<Self, EngineError> {
        if let Some((_, why)) = options.sim.objection() {
            return Err(EngineError::new(why));
        }
        let mut drives = lock(&DRIVES);
        let (mut seats, mut facts) = (Vec::new(), Vec::new());
        for (index, target) in targets.iter().enumerate() {
            let made = || Arc::new(Mutex::new(Drive::new(&options.sim)));
            let drive = Arc::clone(drives.entry(target.path.clone()).or_insert_with(made));
            let through = (options.sync || options.dsync) && options.sim.path_flushes;
            let session = lock(&drive).open(&options.sim, through, index, target.size_hint);
            let session = session.map_err(|what| {
                let shown = target.path.display();
                EngineError::new(format!(
                    "the simulated drive {shown} was made by an earlier job with {what}: say the same here, \
                     or use another filename"
                ))
            })?;
            seats.push(Seat { drive, session });
            facts.push(TargetFacts {
                path: target.path.clone(),
                size_bytes: target.size_hint,
                lba_bytes: options.sim.lba,
                is_block_device: false,
                premises: Premises {
                    volatile_cache: Some(options.sim.cache),
                    cache_source: CacheSource::Simulated,
                    flushes: match (options.sim.cache, options.sim.path_flushes) {
                        (false, _) => Flushes::NotNeeded,
                        (true, true) => Flushes::Command,
                        (true, false) => Flushes::Dropped,
                    },
                    atomic: AtomicWrites::in_units(options.sim.atomic_bytes()),
                    deallocated: Deallocated::Simulated,
                    broken: String::new(),
                },
                known: None,
                pin: None,
            });
        }
        Ok(Sim { seats: seats.into(), facts, options: options.clone() })
    }

    fn facts(&self) -> &[TargetFacts] {
        &self.facts
    }

    fn queue(
        &self,
        config: &QueueConfig,
        _buffers: &BufferArea,
    ) -> Result<(SimQueue, Vec<String>), EngineError> {
        let depth = config.depth as usize;
        let queue = SimQueue {
            seats: Arc::clone(&self.seats),
            users: self.seats.iter().map(|seat| lock(&seat.drive).user()).collect(),
            in_flight: Vec::with_capacity(depth),
            depth,
            polls: 0,
            clock: Clock::get(),
            options: self.options.clone(),
        };
        Ok((queue, Vec::new()))
    }
}

/// The part of an I/O that is to be moved now; `None` if its bytes do not lie in its buffer.
fn span(io: &Io) -> Option<Span> {
    let len = io.len.checked_sub(io.moved)?;
    let offset = io.offset.checked_add(u64::from(io.moved))?;
    let fits = matches!(io.op, Op::Deallocate | Op::Flush) || io.len as usize <= io.buffer.len();
    fits.then_some(Span { op: io.op, offset, len })
}

/// The bytes of the part that is to be moved now; none for what moves none. Those of a deallocate of
/// several ranges say which.
fn bytes(io: &mut Io, ranged: bool) -> &mut [u8] {
    match io.op {
        Op::Read | Op::Write => &mut io.buffer[io.moved as usize..io.len as usize],
        Op::Deallocate if ranged => {
            let half = io.buffer.len() / 2;
            &mut io.buffer[..half]
        }
        Op::Deallocate | Op::Flush => &mut [],
    }
}

/// The first range of a deallocate, if all of them fit the drive.
fn ranges_fit(drive: &Drive, io: &Io) -> Option<Span> {
    let ranges = || carried(&io.buffer[..io.buffer.len() / 2], io.len);
    let fit = ranges()?.all(|TrimRange { offset, len }| drive.fits(offset, len));
    let first = ranges()?.next().filter(|_| fit && io.moved == 0)?;
    Some(Span { op: io.op, offset: first.offset, len: first.len })
}

impl SimQueue {
    /// Whether the ranges of `io` stand in its buffer.
    fn is_ranged(&self, io: &Io) -> bool {
        io.op == Op::Deallocate && self.options.trim_ranges > 1
    }

    fn admit(&self, io: &Io) -> Result<Ticket, Status> {
        let allowed = match io.op {
            Op::Read => self.options.reads,
            Op::Write | Op::Deallocate => self.options.writes,
            Op::Flush => true,
        };
        match (self.seats.get(usize::from(io.target)), span(io)) {
            (Some(_), Some(_)) if !allowed => Err(Status::from_errno(EBADF)),
            (Some(seat), Some(span)) => {
                let mut drive = lock(&seat.drive);
                let first = if self.is_ranged(io) { ranges_fit(&drive, io) } else { Some(span) };
                let span = first.ok_or(Status::from_errno(EINVAL))?;
                drive.admit(seat.session, self.users[usize::from(io.target)], span)
            }
            _ => Err(Status::from_errno(EINVAL)),
        }
    }

    /// Whether a command waits for more than further polls.
    fn hangs(&self, command: &Command) -> bool {
        let Ok(ticket) = &command.ticket else { return false };
        let seat = self.seats.get(usize::from(command.io.target));
        ticket.hangs() && seat.is_none_or(|seat| !lock(&seat.drive).has_cut(ticket))
    }

    /// Finishes at most `max` commands of those that are ready, in an order of their own.
    fn reap(&mut self, max: usize, done: &mut Vec<Completion>) {
        let now_ns = if self.options.sim.latency_ns > 0 { self.clock.now_ns() } else { 0 };
        let mut commands = std::mem::take(&mut self.in_flight);
        let is_ready =
            |command: &Command| command.poll <= self.polls && command.ns <= now_ns && !self.hangs(command);
        let ready = commands.iter().filter(|command| is_ready(command)).count();
        commands.sort_by_cached_key(|command| (!is_ready(command), command.order));
        done.extend(commands.drain(..ready.min(max)).map(|command| self.finish(command)));
        self.in_flight = commands;
    }

    /// Carries out one command, or ends it if it hangs.
    fn finish(&self, command: Command) -> Completion {
        let Command { mut io, ticket, .. } = command;
        let ranged = self.is_ranged(&io);
        let seat = self.seats.get(usize::from(io.target));
        let (status, bytes) = match (ticket, seat, span(&io)) {
            (Ok(ticket), Some(seat), Some(span)) => {
                let mut drive = lock(&seat.drive);
                if ticket.hangs() {
                    (drive.cancel(&ticket, span, bytes(&mut io, ranged)), 0)
                } else {
                    drive.finish(&ticket, span, bytes(&mut io, ranged))
                }
            }
            (Err(status), seat, _) => {
                if let Some(seat) = seat.filter(|_| status.errno() == ENODEV) {
                    lock(&seat.drive).refused(self.users[usize::from(io.target)]);
                }
                (status, 0)
            }
            _ => (Status::from_errno(ECANCELED), 0),
        };
        Completion { io, status, bytes, done_ns: 0 }
    }
}

impl Queue for SimQueue {
    const BLOCKING: bool = false;
    const HAS_DOORBELL: bool = false;

    fn submit(&mut self, batch: &mut Vec<Io>) {
        let room = batch.len().min(self.depth - self.in_flight.len());
        let latency_ns = self.options.sim.latency_ns;
        let ns = if latency_ns > 0 { self.clock.now_ns().saturating_add(latency_ns) } else { 0 };
        for io in batch.drain(..room) {
            let ticket = self.admit(&io);
            let order = ticket.map_or(0, |ticket| random::derive(ticket.key, 6));
            let polls = 1 + random::below(random::at(order, 0), MAX_POLLS);
            self.in_flight.push(Command { io, ticket, order, poll: self.polls + polls, ns });
        }
    }

    fn commit(&mut self) -> Result<(), QueueError> {
        Ok(())
    }

    fn poll(&mut self, wait: Wait, max: usize, done: &mut Vec<Completion>) -> Result<(), QueueError> {
        let before = done.len();
        let mut end_ns = None;
        loop {
            self.polls += 1;
            self.reap(max - (done.len() - before), done);
            if done.len() - before >= wait.min.min(max) || self.in_flight.is_empty() {
                return Ok(());
            }
            // Without latency the clock has no say in what completes when.
            if self.in_flight.iter().all(|command| command.ns > 0 || self.hangs(command)) {
                let now_ns = self.clock.now_ns();
                if now_ns >= *end_ns.get_or_insert_with(|| now_ns.saturating_add(wait.timeout_ns)) {
                    return Ok(());
                }
                std::thread::yield_now();
            }
        }
    }

    fn stop(&mut self, _timeout_ns: u64, done: &mut Vec<Completion>) {
        let mut commands = std::mem::take(&mut self.in_flight);
        commands.sort_by_key(|command| command.order);
        done.extend(commands.drain(..).map(|command| self.finish(command)));
        self.in_flight = commands;
    }
}

impl Drop for SimQueue {
    fn drop(&mut self) {
        for Command { io, ticket, .. } in &self.in_flight {
            if let (Ok(ticket), Some(seat)) = (ticket, self.seats.get(usize::from(io.target))) {
                lock(&seat.drive).abandon(ticket);
            }
        }
    }
}
