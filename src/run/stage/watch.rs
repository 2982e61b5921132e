//! Watching the workers of a stage: who ends, who hangs, what they say so far, and what they leave.

use super::*;
use crate::run::affinity_watch::{self, Pins};
use crate::run::audit::{self, Audited};

/// What happens again and again.
struct Every {
    next_ns: u64,
    interval_ns: u64,
}

impl Every {
    fn new(now_ns: u64, interval_ns: u64) -> Every {
        Every { next_ns: now_ns.saturating_add(interval_ns), interval_ns }
    }

    /// Whether its time has come. A look that comes late moves none of the times after it, and several that
    /// were missed are one.
    fn is_due(&mut self, now_ns: u64) -> bool {
        let Some(late_ns) = now_ns.checked_sub(self.next_ns) else { return false };
        let interval_ns = self.interval_ns.max(1);
        self.next_ns = now_ns.saturating_add(interval_ns - late_ns % interval_ns);
        true
    }
}

impl Stage<'_> {
    /// Until all threads have ended, or a second signal says not to wait for them.
    pub(super) fn watch(
        &self,
        messages: &Receiver<Message>,
        outcome: &mut Outcome,
        keeper: Option<&AtWork>,
        options: &RunOptions,
        requests: &Requests,
        observer: &mut dyn Observer,
    ) {
        let clock = Clock::get();
        let begun_ns = clock.now_ns();
        let mut sampler = Sampler::new(outcome, begun_ns);
        let tick = sampler.tick(TICK);
        let mut meter = Meter { last_ns: begun_ns, ..Meter::default() };
        let mut disks = Every::new(begun_ns, DISKS_NS);
        let mut progress = Every::new(begun_ns, options.progress_interval.map_or(PROGRESS_NS, nanoseconds));
        let mut status = Every::new(begun_ns, options.status_interval.map_or(u64::MAX, nanoseconds));
        let mut running = self.threads.len();
        let mut leaves = vec![0; self.watched.len()];
        let mut left_ns = None;
        let mut beats = Heartbeats::new(running, begun_ns);
        let mut status_file = StatusFile::new(self.plans, options);
        let mut pins = Pins::new(self.threads.iter().map(|thread| thread.cpus.clone()).collect());
        let mut order = Order::new(self.plans, &self.watched, &self.lives, outcome);
        order.tend(self.plans, &self.watched, outcome, observer);
        while running > 0 {
            let message = messages.recv_timeout(steady_state::until(outcome, clock.now_ns(), tick));
            outcome.is_cut = keeper.is_some_and(AtWork::is_pulled);
            match message {
                Ok(Message::Ended(ended)) if !beats.ended(ended.thread) => self.came_late(&ended, outcome),
                Ok(Message::Ended(ended)) => {
                    running -= 1;
                    self.take(*ended, &pins, outcome);
                }
                Ok(Message::Ready(_)) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.attend(outcome, &mut leaves);
            let now_ns = clock.now_ns();
            running -= self.leave_stuck(&mut beats, outcome, now_ns);
            order.tend(self.plans, &self.watched, outcome, observer);
            status_file.look(requests, observer);
            steady_state::look(outcome, now_ns);
            if disks.is_due(now_ns) {
                outcome.disks.look(now_ns);
            }
            self.watch_threads(&mut pins, now_ns, outcome, observer);
            sampler.sample(outcome, now_ns);
            self.log_all(outcome, now_ns, false);
            if progress.is_due(now_ns) {
                observer.progress(&self.progress(&mut meter, outcome, now_ns, begun_ns));
            }
            if status.is_due(now_ns) | requests.take_dump() {
                observer.so_far(&self.so_far(outcome, now_ns, requests));
            }
            if requests.signal().is_some() {
                self.watched.iter().for_each(|worker| worker.live.request_stop());
            }
            if requests.abandon() {
                let signal = requests.signal().unwrap_or(0);
                self.abandon(outcome, clock.now_ns(), &format!("ended by a second signal {signal}"));
                break;
            }
            if keeper.is_some_and(AtWork::has_fired) {
                let judges = self.still_running().any(|worker| worker.live.state() == WorkerState::Judging);
                let fired_ns = *left_ns.get_or_insert(now_ns);
                let spent_ns = now_ns - fired_ns - outcome.pauses.within(fired_ns, now_ns);
                if spent_ns > LEAVE_NS && !judges {
                    self.abandon(outcome, now_ns, "the trigger ended the run");
                    break;
                }
            }
        }
        self.attend(outcome, &mut leaves);
        audit::settle(self.plans, outcome);
        order.end(self.plans, &self.watched, outcome, observer);
        self.log_all(outcome, clock.now_ns(), true);
        outcome.entries.iter_mut().for_each(|entry| entry.live.clear());
    }

    /// The log of all jobs together, if there is one.
    fn log_all(&self, outcome: &mut Outcome, now_ns: u64, ends: bool) {
        if let Some(log) = &mut outcome.logs.aggregate {
            log.look(self.watched.iter().map(|worker| &*worker.live), now_ns, ends);
        }
    }

    /// Serves the workers that verify: takes what they have found, and drops what the kernel has
    /// cached of their targets before they read back, on a thread of its own as that may take long.
    fn attend(&self, outcome: &mut Outcome, leaves: &mut [u64]) {
        for (worker, leave) in self.watched.iter().zip(leaves) {
            let plan = &self.plans[worker.job];
            outcome.verdicts.take(&plan.spec.name, &plan.targets, &worker.found);
            if worker.live.state() != WorkerState::Judging || worker.live.may_judge() {
                continue;
            }
            let now_ns = Clock::get().now_ns();
            if *leave > 0 {
                // A device that hangs here hangs when it is read too, and is given up there.
                let spent_ns = now_ns - *leave - outcome.pauses.within(*leave, now_ns);
                if spent_ns > plan.spec.reap_timeout_ns.max(LEAST_DROP_NS) {
                    worker.live.allow_judging();
                    let what = "what is cached of its targets could not be dropped within reap_timeout";
                    outcome.note(format!("{}: {what}, and may be what is judged", worker.name));
                }
                continue;
            }
            *leave = now_ns;
            let (opened, live) = (Arc::clone(&worker.opened), Arc::clone(&worker.live));
            let dropping = std::thread::Builder::new().spawn(move || {
                // What cannot be dropped is read from the cache: less of a test, and no error.
                let _ = opened.drop_cached();
                live.allow_judging();
            });
            if let Err(why) = dropping {
                worker.live.allow_judging();
                let what = "what is cached of its targets is not dropped, and may be what is judged";
                outcome.note(format!("{}: {what}: cannot start a thread: {why}", worker.name));
            }
        }
    }

    /// What engines have to tell of their targets, once a job.
    pub(super) fn note_what_happened(&self, outcome: &mut Outcome) {
        for (job, plan) in self.plans.iter().enumerate() {
            let Some(worker) = self.watched.iter().find(|worker| worker.job == job) else { continue };
            for note in worker.opened.take_notes() {
                outcome.note(format!("job `{}`: {note}", plan.spec.name));
            }
            if let Some(why) = worker.opened.replaced() {
                outcome.replaced.get_or_insert_with(|| RunError::not_safe(&plan.spec, why));
            }
        }
    }

    /// Says when the process did not run, and sees to it that threads are where the job wants them.
    fn watch_threads(
        &self,
        pins: &mut Pins,
        now_ns: u64,
        outcome: &mut Outcome,
        observer: &mut dyn Observer,
    ) {
        let thread_of = |thread: usize| {
            let workers = self.threads[thread].workers.iter().map(|&worker| &self.watched[worker]);
            let running = workers.filter(|worker| !worker.has_ended());
            let id = running.filter_map(|worker| worker.live.order.thread()).next()?;
            Some((id, thread_name(&self.threads[thread], &self.watched)))
        };
        outcome.note_pauses().iter().for_each(|note| observer.note(note));
        for note in pins.look(now_ns, &affinity_watch::Kernel::default(), thread_of) {
            observer.note(&note);
            outcome.note(note);
        }
    }

    /// Adds what one thread has done.
    fn take(&self, ended: Ended, pins: &Pins, outcome: &mut Outcome) {
        let thread = &self.threads[ended.thread];
        let share = thread.workers.len().max(1) as u64;
        let (mut busy, mut idle, mut late) = (0, 0, Vec::new());
        for (&worker, result) in thread.workers.iter().zip(ended.outcomes) {
            let Watched { name, entry, .. } = &self.watched[worker];
            busy += result.stats.busy_turns;
            idle += result.stats.idle_turns;
            let begun = self.watched[worker].live.order.begun_ns().is_some();
            let entry = &mut outcome.entries[*entry];
            entry.stats.merge(&result.stats);
            // Who was ended before it began has promised nothing that could be missed.
            let is_told = |tally: &&VerifyTally| begun || tally.promised > 0 || entry.spec.state.load;
            if let Some(tally) = result.verify.as_deref().filter(is_told) {
                let mut tally = tally.clone();
                tally.sign(name);
                match result.unwritten.as_deref() {
                    Some(unwritten) => outcome.audits.push(Audited {
                        job: self.watched[worker].job,
                        entry: self.watched[worker].entry,
                        name: name.clone(),
                        tally,
                        unwritten: unwritten.clone(),
                    }),
                    None => entry.verify.get_or_insert_default().merge(&tally),
                }
            }
            let cpu = &mut entry.cpu;
            cpu.user_ns += ended.used.user_ns / share;
            cpu.system_ns += ended.used.system_ns / share;
            cpu.elapsed_ns += result.stats.runtime_ns() + result.verify.as_ref().map_or(0, |v| v.read_ns);
            cpu.context_switches += ended.used.context_switches / share;
            cpu.major_faults += ended.used.major_faults / share;
            cpu.minor_faults += ended.used.minor_faults / share;
            cpu.waiting_ns += ended.used.waiting_ns / share;
            late.extend(result.replay.and_then(|tally| replay::how_it_kept_time(name, &tally)));
            match result.error {
                // A device that has lost its power is not what failed.
                Some((op, status)) if outcome.is_cut => {
                    late.push(format!("{name}: {} failed after the trigger: {status}", op.name()));
                }
                Some((op, status)) => entry.failed(name, op, status),
                None => {}
            }
            if let Some(missed) = &result.missed {
                entry.missed(name, missed);
            }
            let ramps = entry.spec.ramp_time_ns > 0 || entry.spec.order.ramp_size > 0;
            if result.stats.total_ios() == 0 && result.error.is_none() && ramps && begun {
                let ramp = if entry.spec.ramp_time_ns > 0 { "ramp_time" } else { "ramp_size" };
                outcome.note(format!("{name}: ended within {ramp}, so nothing was counted"));
            }
        }
        late.into_iter().for_each(|note| {
            outcome.note(note);
        });
        let single = if thread.cpus.len() == 1 { thread.cpus.first().copied() } else { None };
        outcome.reactors.push(ReactorReport {
            cpu: single,
            workers: thread.workers.iter().map(|&worker| self.watched[worker].name.clone()).collect(),
            busy_turns: busy,
            idle_turns: idle,
            cpu_use: CpuUse {
                user_ns: ended.used.user_ns,
                system_ns: ended.used.system_ns,
                elapsed_ns: ended.used.elapsed_ns,
                context_switches: ended.used.context_switches,
                major_faults: ended.used.major_faults,
                minor_faults: ended.used.minor_faults,
                waiting_ns: ended.used.waiting_ns,
            },
            unpinned_ns: pins.unpinned_ns(ended.thread, Clock::get().now_ns()),
        });
    }

    fn still_running(&self) -> impl Iterator<Item = &Watched> {
        self.watched.iter().filter(|worker| !worker.has_ended())
    }

    /// Statistics of the workers that run: all that they count if they answer, and what they have
    /// published where they wait for their device. What a ramp does is no result.
    fn collect(&self, now_ns: u64) -> Vec<(usize, Box<WorkerStats>)> {
        let counts =
            |worker: &&Watched| !matches!(worker.live.state(), WorkerState::Waiting | WorkerState::Ramping);
        let counting = self.still_running().filter(counts);
        let asked: Vec<&Watched> = counting.collect();
        asked.iter().for_each(|worker| worker.tap.ask());
        let clock = Clock::get();
        let until_ns = clock.now_ns() + TAP_TIMEOUT_NS;
        let answers = asked.iter().map(|worker| {
            let left = Duration::from_nanos(until_ns.saturating_sub(clock.now_ns()));
            let mut stats = worker.tap.answer(left).unwrap_or_else(|| published(&worker.live));
            stats.end_ns = now_ns;
            stats.paused_ns = worker.live.pauses.within(stats.start_ns, now_ns);
            (worker.entry, stats)
        });
        answers.collect()
    }

    fn so_far(&self, outcome: &Outcome, now_ns: u64, requests: &Requests) -> crate::report::Report {
        outcome.report_with(&self.collect(now_ns), requests.signal())
    }

    /// The user will not wait: what the workers can still say is taken, and their threads stay
    /// behind with the device that does not answer.
    fn abandon(&self, outcome: &mut Outcome, now_ns: u64, why: &str) {
        let stats = self.collect(now_ns);
        let stuck: Vec<String> = self.still_running().map(|worker| worker.name.clone()).collect();
        outcome
            .note(format!("{why} while these workers still waited for their device: {}", stuck.join(", ")));
        for (entry, stats) in stats {
            outcome.entries[entry].stats.merge(&stats);
        }
    }

    fn progress(&self, meter: &mut Meter, outcome: &Outcome, now_ns: u64, begun_ns: u64) -> Progress {
        let total = |read: fn(&Live, Op) -> u64| -> PerOp<u64> {
            PerOp::from_fn(|op| self.watched.iter().map(|worker| read(&worker.live, op)).sum())
        };
        let ios = total(|live, op| live.ios.get(op).load(Relaxed));
        let bytes = total(|live, op| live.bytes.get(op).load(Relaxed));
        let running: Vec<&Watched> = self.still_running().collect();
        let seconds = now_ns.saturating_sub(meter.last_ns).max(1) as f64 / SECOND_NS as f64;
        let rate = |now: &PerOp<u64>, before: &PerOp<u64>| {
            PerOp::from_fn(|op| now.get(op).saturating_sub(*before.get(op)) as f64 / seconds)
        };
        let (iops, bandwidth) = (rate(&ios, &meter.ios), rate(&bytes, &meter.bytes));
        let elapsed_ns = now_ns.saturating_sub(begun_ns) as f64;
        let own_ns = |worker: &Watched| {
            worker.live.order.begun_ns().map_or(0, |own_ns| now_ns.saturating_sub(own_ns)) as f64
        };
        // Each worker ends by time or by amount, whichever is further along.
        let fraction = |worker: &Watched| -> Option<f64> {
            let moved: u64 = worker.live.bytes.iter().map(|(_, b)| b.load(Relaxed)).sum();
            let by_time = worker.runtime_ns.map(|ns| own_ns(worker) / ns.max(1) as f64);
            let by_amount = worker.bytes.map(|bytes| moved as f64 / bytes.max(1) as f64);
            match (by_time, by_amount) {
                (Some(time), Some(amount)) => Some(time.max(amount)),
                (one, other) => one.or(other),
            }
        };
        let slowest = running.iter().map(|worker| fraction(worker)).collect::<Option<Vec<f64>>>();
        let fraction_done = slowest.map(|all| all.into_iter().fold(1.0, f64::min));
        let eta_s = fraction_done
            .filter(|&done| done > 0.0)
            .map(|done| (elapsed_ns * (1.0 - done) / done / SECOND_NS as f64).ceil() as u64);
        let p99 = running.iter().map(|worker| worker.live.p99_ns.load(Relaxed));
        *meter = Meter { last_ns: now_ns, ios, bytes };
        Progress {
            workers_running: u32::try_from(running.len()).unwrap_or(u32::MAX),
            workers_total: outcome.workers_total,
            fraction_done,
            eta_s,
            iops,
            bandwidth,
            p99_ns: p99.max().unwrap_or(0),
            errors: self.watched.iter().map(|worker| worker.live.errors.load(Relaxed)).sum(),
            ramping: running.iter().all(|worker| worker.live.state() == WorkerState::Ramping),
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
