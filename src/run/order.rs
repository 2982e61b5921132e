//! Which worker of a stage begins when, and who takes whom along at the end.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::base::clock::{Clock, clock_ms};
use crate::base::pause::Pauses;
use crate::base::random;
use crate::base::units::SECOND_NS;
use crate::job::spec::ExitWhat;
use crate::reactor::{FailedIo, FailureSink, Live, RampShare, WorkerState};

use super::Observer;
use super::outcome::Outcome;
use super::plan::JobPlan;
use super::stage::Watched;

/// Told failures that wait for their turn.
const MOST_WAITING: usize = 256;
/// Failures told at once.
const MOST_AT_ONCE: usize = 8;
/// How long before a worker's start what the page cache holds is dropped.
const AHEAD_NS: u64 = 100_000_000;
/// How long that may take before the worker starts all the same.
const LONGEST_DROP_NS: u64 = 60 * SECOND_NS;
/// Names that a note lists.
const MOST_NAMES: usize = 8;

/// What a stage's workers share from the beginning.
pub struct Lives {
    pots: HashMap<u32, Arc<AtomicU64>>,
    sender: Sender<FailedIo>,
    receiver: Receiver<FailedIo>,
    untold: Arc<AtomicU64>,
    made: u32,
    pauses: Arc<Pauses>,
}

impl Lives {
    pub fn new(pauses: Arc<Pauses>) -> Lives {
        let (sender, receiver) = bounded(MOST_WAITING);
        Lives { pots: HashMap::new(), sender, receiver, untold: Arc::default(), made: 0, pauses }
    }

    /// Where the next worker, one of `plan`, meets the others. It is held back if it has to wait.
    pub fn make(&mut self, plan: &JobPlan) -> Arc<Live> {
        let order = &plan.spec.order;
        let mut live = Live::default();
        live.pauses = Arc::clone(&self.pauses);
        if order.ramp_size > 0 {
            let pot = if plan.spec.group_reporting {
                Arc::clone(self.pots.entry(plan.group).or_default())
            } else {
                Arc::default()
            };
            live.order.ramp = Some(RampShare { goal_bytes: order.ramp_size, pot });
        }
        let (sender, untold) = (self.sender.clone(), Arc::clone(&self.untold));
        live.order.failures = Some(FailureSink { worker: self.made, sender, untold });
        live.order.tells_all = order.error_dump;
        if order.wait_for.is_some() || order.start_delay_ns.1 > 0 {
            live.order.hold();
        }
        self.made += 1;
        Arc::new(live)
    }
}

/// A worker that is held back.
struct Held {
    worker: usize,
    due_ns: u64,
    /// The jobs of this stage that it waits for.
    waits_for: Vec<usize>,
    /// When what the page cache holds began to be dropped.
    dropping_ns: Option<u64>,
}

/// The order of one stage.
pub struct Order {
    failures: Receiver<FailedIo>,
    untold: Arc<AtomicU64>,
    held: Vec<Held>,
    /// By worker: its end has been seen, and its begin.
    ended: Vec<bool>,
    begun: Vec<bool>,
    clock: Clock,
}

impl Order {
    /// The stage is about to start; the run began at `outcome.genesis_ns`.
    pub fn new(plans: &[JobPlan], watched: &[Watched], lives: &Lives, outcome: &mut Outcome) -> Order {
        let clock = Clock::get();
        let genesis_ns = *outcome.genesis_ns.get_or_insert_with(|| clock.now_ns());
        let mut held = Vec::new();
        let mut clone = 0;
        for (worker, own) in watched.iter().enumerate() {
            clone = if worker > 0 && watched[worker - 1].job == own.job { clone + 1 } else { 0 };
            let plan = &plans[own.job];
            let order = &plan.spec.order;
            let (from, to) = order.start_delay_ns;
            if order.wait_for.is_none() && to == 0 {
                continue;
            }
            let draw = random::at(random::derive(plan.seed, u64::from(u32::MAX)), clone);
            let delay_ns = from + random::below(draw, (to - from).saturating_add(1));
            let is_meant = |(job, earlier): (usize, &JobPlan)| {
                (Some(&earlier.spec.name) == order.wait_for.as_ref()).then_some(job)
            };
            let waits_for = plans[..own.job].iter().enumerate().filter_map(is_meant).collect();
            held.push(Held {
                worker,
                due_ns: genesis_ns.saturating_add(delay_ns),
                waits_for,
                dropping_ns: None,
            });
        }
        Order {
            failures: lives.receiver.clone(),
            untold: Arc::clone(&lives.untold),
            held,
            ended: vec![false; watched.len()],
            begun: vec![false; watched.len()],
            clock,
        }
    }

    /// Several times a second: lets workers begin, ends those that others take along, tells failures.
    pub fn tend(
        &mut self,
        plans: &[JobPlan],
        watched: &[Watched],
        outcome: &mut Outcome,
        observer: &mut dyn Observer,
    ) {
        self.date(watched, outcome);
        for (worker, own) in watched.iter().enumerate() {
            if own.has_ended() && !self.ended[worker] {
                self.ended[worker] = true;
                take_along(plans, watched, worker, outcome);
            }
        }
        self.release(plans, watched);
        if outcome.is_cut {
            // A device that has lost its power fails everything.
            self.failures.try_iter().for_each(drop);
        }
        self.tell(plans, watched, MOST_AT_ONCE, observer);
    }

    /// The stage has ended.
    pub fn end(
        mut self,
        plans: &[JobPlan],
        watched: &[Watched],
        outcome: &mut Outcome,
        observer: &mut dyn Observer,
    ) {
        self.date(watched, outcome);
        let most = if outcome.is_cut { 0 } else { MOST_WAITING };
        self.tell(plans, watched, most, observer);
        let untold = self.untold.load(Ordering::Relaxed);
        if untold > 0 && !outcome.is_cut {
            observer.note(&format!(
                "{untold} more I/Os failed than could be told one by one; the report counts them"
            ));
        }
        let idle: Vec<&str> = watched
            .iter()
            .filter(|own| own.live.order.begun_ns().is_none())
            .map(|own| own.name.as_str())
            .collect();
        if !idle.is_empty() {
            outcome.note(format!("never started: {}", listed(&idle)));
        }
    }

    /// Dates the entries of the report by their first worker's begin.
    fn date(&mut self, watched: &[Watched], outcome: &mut Outcome) {
        for (worker, own) in watched.iter().enumerate() {
            let Some(begun_ns) = own.live.order.begun_ns().filter(|_| !self.begun[worker]) else { continue };
            self.begun[worker] = true;
            let entry = &mut outcome.entries[own.entry];
            let ago_ms = self.clock.now_ns().saturating_sub(begun_ns) / 1_000_000;
            let at_ms = clock_ms(entry.spec.order.job_start_clock_id).saturating_sub(ago_ms);
            if !entry.is_dated || at_ms < entry.started_unix_ms {
                (entry.started_unix_ms, entry.is_dated) = (at_ms, true);
            }
        }
    }

    /// Lets those begin whose time has come.
    fn release(&mut self, plans: &[JobPlan], watched: &[Watched]) {
        let now_ns = self.clock.now_ns();
        let is_over = |job: &usize| watched.iter().filter(|own| own.job == *job).all(Watched::has_ended);
        self.held.retain_mut(|held| {
            let own = &watched[held.worker];
            if let Some(since_ns) = held.dropping_ns {
                if now_ns > since_ns.saturating_add(LONGEST_DROP_NS) {
                    own.live.order.start_at(held.due_ns);
                    return false;
                }
                return own.live.order.gate(u64::MAX - 1) != crate::reactor::Gate::Open;
            }
            if now_ns.saturating_add(AHEAD_NS) < held.due_ns || !held.waits_for.iter().all(is_over) {
                return true;
            }
            let plan = &plans[own.job];
            if !plan.spec.invalidate || !plan.uses_files() {
                own.live.order.start_at(held.due_ns);
                return false;
            }
            held.dropping_ns = Some(now_ns);
            let (opened, live, due_ns) = (Arc::clone(&own.opened), Arc::clone(&own.live), held.due_ns);
            let begins = Arc::clone(&live);
            let dropping = std::thread::Builder::new().spawn(move || {
                // What cannot be dropped was told when the job was opened, or is read from the cache.
                let _ = opened.invalidate();
                live.order.start_at(due_ns);
            });
            // No thread, nothing dropped: it begins all the same.
            if dropping.is_err() {
                begins.order.start_at(due_ns);
            }
            true
        });
    }

    fn tell(&self, plans: &[JobPlan], watched: &[Watched], most: usize, observer: &mut dyn Observer) {
        for failed in self.failures.try_iter().take(most) {
            let Some(own) = watched.get(failed.worker as usize) else { continue };
            let target = plans[own.job].targets.get(usize::from(failed.target));
            let place = target.map_or(String::new(), |path| format!(" of {}", path.display()));
            observer.note(&format!(
                "{}: {} of {} bytes at {}{place} failed: {}{}",
                own.name,
                failed.op.name(),
                failed.len,
                failed.offset,
                failed.status,
                if failed.goes_on { "; the job goes on" } else { "" }
            ));
        }
    }
}

/// A worker has ended: ends those that it takes along.
fn take_along(plans: &[JobPlan], watched: &[Watched], worker: usize, outcome: &mut Outcome) {
    let own = &watched[worker];
    let plan = &plans[own.job];
    let order = &plan.spec.order;
    let failed = own.has_failed();
    if own.live.stop_requested() && !failed {
        // It was ended itself.
        return;
    }
    // Where a snapshot is judged, it is judged to the end: who is done first has nothing to do with it.
    let exitall = order.exitall && !plan.spec.state.load;
    let takes = exitall || order.exitall_on_error && failed;
    if !takes {
        return;
    }
    let what = order.exit_what;
    let is_meant = |other: &&Watched| {
        !other.has_ended()
            && !other.live.stop_requested()
            && (what != ExitWhat::Group || plans[other.job].group == plan.group)
    };
    let others: Vec<&Watched> = watched.iter().filter(is_meant).collect();
    others.iter().for_each(|other| other.live.request_stop());
    let stops = what == ExitWhat::All && !std::mem::replace(&mut outcome.ends_run, what == ExitWhat::All);
    let later = if stops && outcome.stages_left > 0 { ", and no later stage starts" } else { "" };
    if others.is_empty() && later.is_empty() {
        return;
    }
    let names: Vec<&str> = others.iter().map(|other| other.name.as_str()).collect();
    let names = if names.is_empty() { "nobody any more".to_owned() } else { listed(&names) };
    let (has, option) = if failed { ("failed", "exitall_on_error") } else { ("ended", "exitall") };
    let option = if exitall { "exitall" } else { option };
    outcome.note(format!("{} has {has}: {option} ends {names}{later}", own.name));
}

fn listed(names: &[&str]) -> String {
    let shown = names[..names.len().min(MOST_NAMES)].join(", ");
    match names.len().saturating_sub(MOST_NAMES) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

impl Watched {
    /// Whether it has ended, or was left behind.
    pub fn has_ended(&self) -> bool {
        self.lost.get() || self.live.state() == WorkerState::Done
    }

    fn has_failed(&self) -> bool {
        self.lost.get() || self.live.order.has_failed()
    }
}
