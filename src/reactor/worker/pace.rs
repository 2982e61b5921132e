//! When I/Os go: rates, pauses, shares, and the depth that a latency allows.
//!
//! The load is open: a rate gives each I/O a moment at which it is *due*, whatever the device does, and
//! its *response time* counts from there. A device that stalls has I/Os fall due meanwhile; they go as
//! soon as there is room, and the wait is theirs.
//!
//! The step whose time has not come waits in the worker's `held`, so that a worker without a pace
//! does not even look whether it has one: all that happens here hangs on paths that it never takes.

mod flow;
mod rate;
mod search;
mod think;

use super::*;
use crate::base::PerOp;
use crate::base::pause::{LEAST_NS, Pauses};
use crate::stats::DepthFound;

pub use flow::{FlowConfig, FlowGroup};
pub use rate::RateConfig;
pub use search::SearchConfig;
pub use think::ThinkConfig;

use flow::Flow;
use rate::Schedule;
use search::Search;
use think::{Leave, Think};

/// The last of a wait is not slept: a sleep may end this much late.
const AWAKE_NS: u64 = 100_000;
/// How long a worker runs before its least rate is looked at, as in fio.
const SETTLE_NS: u64 = 2_000_000_000;
/// By buffer: nothing of the workload is in it.
const NONE: u64 = 0;
/// By buffer: an I/O of a direction without a rate.
const NO_RATE: u64 = u64::MAX;

/// What a worker keeps to.
#[derive(Clone, Debug, Default)]
pub struct PaceConfig {
    /// The rates.
    pub rates: PerOp<Option<RateConfig>>,
    /// In a mix, each direction goes by its own rate, whatever shares the mix has.
    pub rates_decide: bool,
    /// What a pause has left undone is not caught up (`rate_ignore_thinktime`).
    pub forgives_pauses: bool,
    /// Pauses.
    pub think: Option<ThinkConfig>,
    /// Ticks of the processor's counter to spin before each I/O.
    pub cycles: u64,
    /// A share among workers.
    pub flow: Option<FlowConfig>,
    /// A depth to be found.
    pub search: Option<SearchConfig>,
    /// What an I/O may take at most, in nanoseconds; 0 for anything.
    pub max_latency_ns: PerOp<u64>,
    /// The least that must be reached.
    pub floor: Option<FloorConfig>,
}

/// The least rates, as averages of a cycle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FloorConfig {
    /// Bytes a second; 0 for none.
    pub bytes_per_s: PerOp<u64>,
    /// I/Os a second; 0 for none.
    pub iops: PerOp<u64>,
    /// How long a cycle is, in nanoseconds.
    pub cycle_ns: u64,
}

/// A demand that was not met.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Missed {
    /// A cycle had less bytes a second.
    Bandwidth {
        /// Of this command.
        op: Op,
        /// Bytes a second.
        measured: u64,
        /// Bytes a second.
        demanded: u64,
    },
    /// A cycle had less I/Os a second.
    Iops {
        /// Of this command.
        op: Op,
        /// I/Os a second.
        measured: u64,
        /// I/Os a second.
        demanded: u64,
    },
    /// An I/O took too long.
    Latency {
        /// Its command.
        op: Op,
        /// Its offset in bytes.
        offset: u64,
        /// What it took, in nanoseconds.
        took_ns: u64,
        /// What it might have.
        max_ns: u64,
    },
    /// Even one I/O at a time took too long.
    Target {
        /// `latency_target` in nanoseconds.
        target_ns: u64,
        /// `latency_percentile`.
        demanded: f64,
        /// Percent of the I/Os that kept to it.
        measured: f64,
    },
}

/// The counts of all directions at a moment.
#[derive(Clone, Copy, Debug)]
struct Mark {
    at_ns: u64,
    ios: [u64; 3],
    bytes: [u64; 3],
}

/// What is known of one worker's pace.
pub(super) struct Pace {
    config: PaceConfig,
    schedules: PerOp<Option<Schedule>>,
    think: Option<Think>,
    flow: Option<Flow>,
    search: Option<Search>,
    /// By buffer: when its I/O was due.
    due_ns: Box<[u64]>,
    /// A step whose time has not come, while the other direction goes on.
    aside: Option<Step>,
    /// The step in `held` waits for its time.
    waits: bool,
    /// Until when; `u64::MAX` until something completes.
    until_ns: u64,
    /// And meanwhile the processor is to be kept busy.
    awake: bool,
    began_ns: u64,
    mark: Option<Mark>,
    pub(super) missed: Option<Missed>,
}

impl Pace {
    fn new(mut config: PaceConfig, depth: u32) -> Pace {
        let schedules = PerOp::from_fn(|op| config.rates.get(op).map(Schedule::new));
        Pace {
            schedules,
            think: config.think.map(Think::new),
            flow: config.flow.take().map(Flow::new),
            search: config.search.map(Search::new),
            due_ns: vec![NONE; depth as usize].into(),
            aside: None,
            waits: false,
            until_ns: 0,
            awake: false,
            began_ns: 0,
            mark: None,
            missed: None,
            config,
        }
    }

    /// The worker begins.
    pub(super) fn start(&mut self, now_ns: u64) {
        self.schedules.iter_mut().filter_map(|(_, it)| it.as_mut()).for_each(|it| it.begin(now_ns));
        self.think.iter_mut().for_each(|think| think.begin(now_ns));
        self.flow.iter_mut().for_each(Flow::join);
    }

    /// Counting begins: what a ramp has left undone is not caught up.
    pub(super) fn begin_counting(&mut self, now_ns: u64) {
        self.schedules.iter_mut().filter_map(|(_, it)| it.as_mut()).for_each(|it| it.begin(now_ns));
        self.search.iter_mut().for_each(Search::begin);
        (self.began_ns, self.mark) = (now_ns, None);
    }

    /// Nothing more will be issued.
    pub(super) fn end(&mut self) {
        self.aside = None;
        self.waits = false;
        self.flow.iter_mut().for_each(Flow::leave);
    }

    /// The depth found for a latency, if one is sought.
    pub(super) fn depth_found(&self) -> Option<DepthFound> {
        let search = self.search.as_ref().filter(|search| search.failed_at.is_none())?;
        let (depth, is_settled) = search.depth();
        Some(DepthFound { depth, is_settled })
    }

    /// When an I/O of `op` is due: [`NO_RATE`] where nothing says so.
    #[inline]
    fn due_of(&self, op: Op) -> u64 {
        self.schedules.get(op).as_ref().map_or(NO_RATE, Schedule::due_ns)
    }

    /// Whether an I/O of `op` may go as far as its rate is concerned.
    #[inline]
    fn is_due(&self, op: Op, now_ns: u64) -> bool {
        let due_ns = self.due_of(op);
        due_ns == NO_RATE || due_ns <= now_ns
    }

    pub(super) fn wait(&mut self, until_ns: u64, awake: bool) -> bool {
        (self.waits, self.until_ns, self.awake) = (true, until_ns, awake);
        false
    }

    /// Whether an I/O may go now, apart from rates; where not, until when.
    pub(super) fn opens(&mut self, now_ns: u64, in_flight: u32) -> bool {
        if let Some(think) = &mut self.think {
            let (leave, paused_ns) = think.leave(now_ns, in_flight);
            if let Some(ns) = paused_ns.filter(|_| self.config.forgives_pauses) {
                self.skip(ns);
            }
            if let Leave::Wait { until_ns, awake } = leave {
                return self.wait(until_ns, awake);
            }
        }
        if let Some(search) = &mut self.search
            && search.room(now_ns, in_flight) == 0
        {
            return self.wait(u64::MAX, false);
        }
        if let Some(until_ns) = self.flow.as_mut().and_then(|flow| flow.rests_until(now_ns)) {
            return self.wait(until_ns, false);
        }
        true
    }

    /// `step` goes now, in this buffer.
    fn issued(&mut self, step: &Step, buffer: u32) {
        self.due_ns[buffer as usize] = self.due_of(step.op);
        if let Some(schedule) = self.schedules.get_mut(step.op) {
            schedule.issued(step.len);
        }
        self.think.iter_mut().for_each(Think::issued);
        self.flow.iter_mut().for_each(Flow::issued);
    }

    /// `step` of a log goes now, in this buffer; it was due then, if times are kept.
    pub(super) fn issued_of_log(&mut self, step: &Step, buffer: u32, due_ns: Option<u64>) {
        self.issued(step, buffer);
        if let Some(due_ns) = due_ns {
            self.due_ns[buffer as usize] = due_ns;
        }
    }

    /// Nothing waits any more; whether something did.
    pub(super) fn stop_waiting(&mut self) -> bool {
        std::mem::take(&mut self.waits)
    }

    /// How long there is nothing to issue: what of it may be slept, in nanoseconds. `None` if it is
    /// not the pace that keeps the worker waiting.
    pub(super) fn sleep_ns(&self, now_ns: u64) -> Option<u64> {
        if !self.waits {
            return None;
        }
        let until_ns = if self.awake { 0 } else { self.until_ns };
        Some(until_ns.saturating_sub(AWAKE_NS).saturating_sub(now_ns))
    }

    /// An I/O of the workload came back well. One that was due or in flight while the process did not run
    /// says nothing of the device.
    fn came_back(&mut self, io: &Io, now_ns: u64, stats: &mut WorkerStats, pauses: &Pauses) {
        let due_ns = std::mem::replace(&mut self.due_ns[io.buffer.id() as usize], NONE);
        if due_ns == NONE {
            return;
        }
        let from_ns = due_ns.min(io.submit_ns);
        if now_ns.saturating_sub(from_ns) >= LEAST_NS && pauses.touch(from_ns, now_ns) {
            return;
        }
        if due_ns != NO_RATE {
            stats.ops.get_mut(io.op).latency.response.record(now_ns.saturating_sub(due_ns));
        }
        let took_ns = now_ns.saturating_sub(io.submit_ns);
        self.search.iter_mut().for_each(|search| search.saw(took_ns));
        let max_ns = *self.config.max_latency_ns.get(io.op);
        if max_ns > 0 && took_ns > max_ns {
            let (op, offset) = (io.op, io.offset);
            self.missed.get_or_insert(Missed::Latency { op, offset, took_ns, max_ns });
        }
    }

    /// Leaves out `ns`: what would have been due then is not caught up.
    fn skip(&mut self, ns: u64) {
        self.schedules.iter_mut().filter_map(|(_, it)| it.as_mut()).for_each(|it| it.skip(ns));
    }

    /// Whether the last cycle reached what it must. A cycle in which the process did not run is left out.
    fn check_floor(&mut self, now_ns: u64, stats: &WorkerStats, pauses: &Pauses) {
        let Some(floor) = &self.config.floor else { return };
        if now_ns.saturating_sub(self.began_ns) < SETTLE_NS {
            return;
        }
        let counts = [&stats.ops.read, &stats.ops.write, &stats.ops.trim];
        let now = Mark {
            at_ns: now_ns,
            ios: counts.map(|counts| counts.ios),
            bytes: counts.map(|counts| counts.bytes),
        };
        let Some(mark) = self.mark else {
            self.mark = Some(now);
            return;
        };
        let spent_ns = now_ns - mark.at_ns;
        if spent_ns < floor.cycle_ns {
            return;
        }
        if pauses.touch(mark.at_ns, now_ns) {
            self.mark = Some(now);
            return;
        }
        let a_second = |before: u64, after: u64| {
            let count =
                u128::from(after.saturating_sub(before)) * 1_000_000_000 / u128::from(spent_ns.max(1));
            u64::try_from(count).unwrap_or(u64::MAX)
        };
        for (index, op) in Op::ADDRESSED.into_iter().enumerate() {
            let measured = a_second(mark.bytes[index], now.bytes[index]);
            let demanded = *floor.bytes_per_s.get(op);
            if measured < demanded {
                self.missed.get_or_insert(Missed::Bandwidth { op, measured, demanded });
            }
            let (measured, demanded) = (a_second(mark.ios[index], now.ios[index]), *floor.iops.get(op));
            if measured < demanded {
                self.missed.get_or_insert(Missed::Iops { op, measured, demanded });
            }
        }
        self.mark = Some(now);
    }
}

impl<Q: Queue> Worker<Q> {
    /// Makes the worker keep to `config`. Before the start.
    pub fn set_pace(&mut self, config: PaceConfig) {
        self.pace = Some(Box::new(Pace::new(config, self.config.depth)));
        // What goes and comes back is looked at one by one.
        self.tracks_buffers = true;
    }

    /// Prepares up to `room` I/Os whose time has come.
    #[inline(never)]
    pub(super) fn prepare_paced(&mut self, room: u32) {
        let Some(mut pace) = self.pace.take() else { return };
        self.prepare_due(&mut pace, room);
        self.pace = Some(pace);
    }

    fn prepare_due(&mut self, pace: &mut Pace, room: u32) {
        let calm = self.verification.as_ref().is_none_or(|verification| verification.is_calm());
        for _ in 0..room {
            let waited = std::mem::take(&mut pace.waits);
            if !calm {
                if self.free.is_empty() {
                    return;
                }
                // Reads that verify go meanwhile: they are no part of the load.
                let waiting = if waited { self.held.take() } else { None };
                let has_read = self.issue_verifying();
                if waiting.is_some() {
                    self.held = waiting;
                }
                if has_read {
                    pace.waits = waited;
                    continue;
                }
                if self.is_choked() {
                    return;
                }
            }
            let Some(step) = self.next_step(pace) else { return };
            if !pace.opens(self.now_ns, self.in_flight) {
                return self.obey_search(pace);
            }
            let Some(step) = self.choose_due(pace, step) else { return };
            self.obey_search(pace);
            if pace.config.cycles > 0 {
                self.clock.spin(pace.config.cycles);
            }
            self.held = Some(step);
            let before = self.batch.len();
            if self.config.trim_ranges > 1 {
                self.gather_trims(1);
            } else {
                self.prepare_steps(1);
            }
            if self.held.is_some() {
                if self.batch.len() == before {
                    return;
                }
                continue;
            }
            if let Some(io) = self.batch.last() {
                pace.issued(&Step { len: io.len, ..step }, io.buffer.id());
            }
            if self.flush_due.is_some() {
                return;
            }
        }
    }

    /// The step that comes next, which stays in `held`.
    fn next_step(&mut self, pace: &mut Pace) -> Option<Step> {
        if self.held.is_none() {
            self.held = pace.aside.take().or_else(|| self.workload.next());
            self.exhausted = self.held.is_none();
        }
        self.held
    }

    /// `step` if its rate lets it go, or what may go in its place.
    fn choose_due(&mut self, pace: &mut Pace, step: Step) -> Option<Step> {
        if pace.is_due(step.op, self.now_ns) {
            return Some(step);
        }
        let mut until_ns = pace.due_of(step.op);
        let other = if step.op == Op::Read { Op::Write } else { Op::Read };
        if pace.config.rates_decide && pace.aside.is_none() && self.workload.can_choose() {
            if pace.is_due(other, self.now_ns)
                && let Some(next) = self.workload.next_of(other)
            {
                pace.aside = Some(step);
                return Some(next);
            }
            until_ns = until_ns.min(pace.due_of(other).max(self.now_ns));
        }
        pace.wait(until_ns, false);
        None
    }

    /// The search for a depth may have begun its last window, or have ended.
    pub(super) fn obey_search(&mut self, pace: &mut Pace) {
        let Some(search) = &mut pace.search else { return };
        if std::mem::take(&mut search.wants_restart) {
            self.count_runs();
            self.stats.restart(self.now_ns);
            pace.mark = None;
        }
        if search.is_done() {
            self.exhausted = true;
            if let Some(measured) = search.failed_at {
                let (target_ns, demanded) = (search.config().target_ns, search.config().percentile);
                pace.missed.get_or_insert(Missed::Target { target_ns, demanded, measured });
                self.config.end_fsync = false;
            }
        }
    }

    /// What has come back, before its buffers are taken.
    pub(super) fn pace_came_back(&mut self, done: &[Completion]) {
        let Some(pace) = &mut self.pace else { return };
        for completion in done {
            let now_ns = if Q::BLOCKING { completion.done_ns } else { self.reaped_ns };
            if reap::is_usual(completion) {
                pace.came_back(&completion.io, now_ns, &mut self.stats, &self.live.pauses);
            } else if !completion.status.is_ok() {
                pace.due_ns[completion.io.buffer.id() as usize] = NONE;
            }
        }
        self.obey_missed();
        if self.live.pauses.count() != self.pauses_known {
            self.forgive_pauses();
        }
    }

    /// What fell due while the process did not run is not caught up: a burst would measure something else.
    #[cold]
    pub(super) fn forgive_pauses(&mut self) {
        let new = self.live.pauses.seen().skip(self.pauses_known);
        let missed_ns = new.map(|pause| pause.to_ns - pause.from_ns).sum();
        self.pauses_known = self.live.pauses.count();
        self.pace.iter_mut().for_each(|pace| pace.skip(missed_ns));
        self.replay.iter_mut().for_each(|replay| replay.skip(missed_ns));
    }

    fn obey_missed(&mut self) {
        if self.pace.as_ref().is_some_and(|pace| pace.missed.is_some()) {
            self.exhausted = true;
            self.config.end_fsync = false;
        }
    }

    /// Nothing is in flight: sleeps until the next I/O is due, as far as that can be slept.
    #[cold]
    pub(super) fn rest(&mut self) {
        if !matches!(self.phase, Phase::Ramp | Phase::Run) || self.exhausted {
            return;
        }
        let now_ns = self.clock.now_ns();
        let longest = if self.verification.is_some() { MAX_WAIT_WITH_LEDGER_NS } else { MAX_WAIT_NS };
        let left_ns = self.phase_end_ns.saturating_sub(now_ns).min(longest);
        if let Some(ns) = self.pace.as_ref().and_then(|pace| pace.sleep_ns(now_ns)).filter(|&ns| ns > 0) {
            std::thread::sleep(std::time::Duration::from_nanos(ns.min(left_ns)));
        }
    }

    /// Looks at the least rates.
    pub(super) fn pace_housekeep(&mut self) {
        if let Some(pace) = &mut self.pace
            && self.phase == Phase::Run
        {
            pace.check_floor(self.now_ns, &self.stats, &self.live.pauses);
            self.obey_missed();
        }
    }
}
