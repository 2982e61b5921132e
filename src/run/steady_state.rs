//! Looks for steady state while jobs run, and ends them when it is attained. Made of the numbers that
//! workers publish, on the watching thread: nothing of it is in their loops.

use std::sync::Arc;
use std::time::Duration;

use crate::base::pause::Pauses;
use crate::base::steady::SteadySpec;
use crate::reactor::{Totals, WorkerState};
use crate::report::SteadyReport;
use crate::stats::{Round, judge_steady};

use super::RunError;
use super::outcome::{Entry, Outcome};
use super::plan::JobPlan;

/// Most rounds that are kept of one entry.
const MOST_KEPT: usize = 10_000;
/// A worker publishes at least this often, so that what is left of a ramp is no part of the first round.
const SETTLE_NS: u64 = 10_000_000;

/// Steady state of one entry of the report.
pub struct Track {
    spec: SteadySpec,
    report: SteadyReport,
    /// When all workers were first seen running.
    begun_ns: Option<u64>,
    /// When the next round ends, or the first begins.
    due_ns: u64,
    /// Per worker, at the begin of the round; empty before the first.
    before: Vec<Totals>,
    /// Attained, or some worker has ended.
    is_over: bool,
}

impl Track {
    /// The track of an entry, if its job looks for steady state.
    pub fn of(spec: &SteadySpec) -> Option<Track> {
        spec.is_on().then(|| Track {
            spec: *spec,
            report: SteadyReport::default(),
            begun_ns: None,
            due_ns: 0,
            before: Vec::new(),
            is_over: false,
        })
    }

    /// What is known by now.
    pub fn report(&self) -> SteadyReport {
        self.report.clone()
    }

    /// Ends a round, if it is time; true if the job is steady now.
    fn look(
        &mut self,
        is_running: bool,
        read: impl Fn() -> Option<Vec<Totals>>,
        pauses: &Pauses,
        now_ns: u64,
    ) -> bool {
        if self.is_over {
            return false;
        }
        let Some(begun_ns) = self.begun_ns else {
            if is_running {
                self.begun_ns = Some(now_ns);
                self.due_ns = now_ns.saturating_add(self.spec.ramp_ns.max(SETTLE_NS));
            }
            return false;
        };
        if !is_running {
            self.is_over = true;
            return false;
        }
        if now_ns < self.due_ns {
            return false;
        }
        // What cannot be read now is read at the next look.
        let Some(now) = read() else { return false };
        let interval_ns = self.spec.interval_ns();
        let is_first = self.before.is_empty();
        let late_ns = now_ns - self.due_ns;
        // A watcher that was held up ends one long round, not several of nothing.
        let passed = 1 + if is_first { 0 } else { late_ns / interval_ns };
        self.due_ns = self.due_ns.saturating_add(interval_ns.saturating_mul(passed));
        // A round in which the process did not run is left out.
        let from_ns = self.before.iter().map(|totals| totals.at_ns).min().unwrap_or(now_ns);
        if !is_first && !pauses.touch(from_ns, now_ns) {
            let mut round = between(&self.before, &now);
            round.at_ns = now_ns - begun_ns;
            self.keep(round);
        }
        self.before = now;
        self.report.finding = judge_steady(&self.spec, &self.report.rounds);
        let is_steady = self.report.finding.is_some_and(|finding| finding.is_steady);
        if is_steady {
            self.is_over = true;
            self.report.attained_ns = Some(now_ns - begun_ns);
        }
        is_steady
    }

    fn keep(&mut self, round: Round) {
        if self.report.rounds.len() >= MOST_KEPT.max(self.spec.rounds()) {
            self.report.rounds.remove(0);
            self.report.dropped += 1;
        }
        self.report.rounds.push(round);
    }
}

/// The rates between two looks: each worker over the time between its own two editions.
#[expect(clippy::cast_precision_loss, reason = "rates")]
fn between(before: &[Totals], now: &[Totals]) -> Round {
    let mut round = Round::default();
    let (mut ios, mut latency_ns) = (0, 0);
    for (before, now) in before.iter().zip(now) {
        let length_ns = now.at_ns.saturating_sub(before.at_ns);
        if length_ns == 0 {
            continue;
        }
        let seconds = length_ns as f64 / 1e9;
        let done = now.ios.saturating_sub(before.ios);
        round.length_ns = round.length_ns.max(length_ns);
        round.iops += done as f64 / seconds;
        round.bandwidth += now.bytes.saturating_sub(before.bytes) as f64 / seconds;
        ios += done;
        latency_ns += u128::from(now.latency_ns.wrapping_sub(before.latency_ns));
    }
    round.latency_ns = if ios == 0 { 0.0 } else { latency_ns as f64 / ios as f64 };
    round
}

/// Looks at all entries whose workers run; those that are steady end.
pub fn look(outcome: &mut Outcome, now_ns: u64) {
    let pauses = Arc::clone(&outcome.pauses);
    for Entry { steady, live, .. } in &mut outcome.entries {
        let Some(track) = steady else { continue };
        let is_running = !live.is_empty() && live.iter().all(|live| live.state() == WorkerState::Running);
        if track.look(is_running, || live.iter().map(|live| live.totals()).collect(), &pauses, now_ns) {
            live.iter().for_each(|live| live.say_enough());
        }
    }
}

/// How long the watcher may wait: not beyond the end of a round.
pub fn until(outcome: &Outcome, now_ns: u64, longest: Duration) -> Duration {
    let due = outcome.entries.iter().filter_map(|entry| entry.steady.as_ref()).filter_map(|track| {
        let is_awake = track.begun_ns.is_some() && !track.is_over;
        is_awake.then(|| Duration::from_nanos(track.due_ns.saturating_sub(now_ns)))
    });
    due.fold(longest, Duration::min)
}

/// Says which entries of a stage that has ended never were steady.
pub fn note_missed(outcome: &mut Outcome) {
    let missed = |entry: &Entry| {
        let track = entry.steady.as_ref()?;
        let is_missed = entry.live.is_empty() && track.report.attained_ns.is_none();
        is_missed.then(|| entry.spec.name.clone())
    };
    let names: Vec<String> = outcome.entries.iter().filter_map(missed).collect();
    for name in names {
        outcome.note(format!("job `{name}`: steady state was not attained before the job ended"));
    }
}

/// Jobs that are reported as one are steady by one rule.
pub fn check(plans: &[JobPlan]) -> Result<(), RunError> {
    for pair in plans.windows(2) {
        let (one, other) = (&pair[0], &pair[1]);
        let joined = one.group == other.group && one.spec.group_reporting && other.spec.group_reporting;
        if joined && one.spec.measuring.steady != other.spec.measuring.steady {
            return Err(RunError::bad_job(
                &other.spec,
                format!(
                    "it is reported together with job `{}`, and must have the same steadystate, ss_dur, ss_ramp and \
                     ss_interval: set them in [global], or begin a new_group",
                    one.spec.name
                ),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::steady::{Limit, Rule};
    use crate::base::units::SECOND_NS;

    const MS: u64 = 1_000_000;
    const BEGIN_NS: u64 = 1000 * MS;

    /// A worker whose rate is `iops(second)`, looked at every 50 ms; the rounds, and when it was steady.
    fn watched(spec: SteadySpec, seconds: u64, iops: impl Fn(u64) -> u64) -> (SteadyReport, Option<u64>) {
        let mut track = Track::of(&spec).unwrap();
        let begun_ns = 77 * SECOND_NS;
        let mut totals = Totals { at_ns: begun_ns, latency_ns: u64::MAX - 5, ..Totals::default() };
        for tick in 0..seconds * 20 {
            let new = iops(tick / 20) / 20;
            totals.at_ns += 50 * MS;
            totals.ios += new;
            totals.bytes += 4096 * new;
            totals.latency_ns = totals.latency_ns.wrapping_add(1000 * new);
            if track.look(true, || Some(vec![totals]), &Pauses::default(), totals.at_ns) {
                return (track.report(), Some(totals.at_ns - begun_ns));
            }
        }
        (track.report(), None)
    }

    fn spec(rule: Rule) -> SteadySpec {
        SteadySpec { rule, window_ns: 5 * SECOND_NS, ..SteadySpec::default() }
    }

    const DEVIATION: Rule = Rule::Deviation(Limit::Percent(5.0));

    #[test]
    fn a_drive_that_settles_is_steady_a_window_after_it_has() {
        let (report, steady_ns) = watched(spec(DEVIATION), 60, |second| 100_000 - 10_000 * second.min(7));
        let steady_s = steady_ns.unwrap() / SECOND_NS;
        assert!((11..=13).contains(&steady_s), "{steady_s}");
        let last = report.rounds.last().unwrap();
        assert_eq!((last.iops.round(), last.bandwidth.round()), (30_000.0, 30_000.0 * 4096.0));
        assert_eq!((last.latency_ns, last.length_ns), (1000.0, SECOND_NS));
        assert_eq!(report.finding.unwrap().mean.round(), 30_000.0);
        assert!(report.attained_ns.is_some());
    }

    #[test]
    fn one_that_never_settles_is_never_steady() {
        let (report, steady_ns) = watched(spec(DEVIATION), 30, |second| 100_000 + 30_000 * (second % 2));
        assert_eq!((steady_ns, report.attained_ns), (None, None));
        assert!(report.rounds.len() >= 28 && report.finding.is_some_and(|found| !found.is_steady));
    }

    #[test]
    fn nothing_is_measured_within_the_ramp() {
        let ramp = SteadySpec { ramp_ns: 10 * SECOND_NS, ..spec(DEVIATION) };
        let (report, steady_ns) = watched(ramp, 30, |_| 1000);
        assert_eq!((report.rounds.len(), steady_ns.unwrap() / SECOND_NS), (5, 15));
        assert!(report.rounds[0].at_ns >= 11 * SECOND_NS);
    }

    #[test]
    fn a_worker_that_ends_ends_the_search() {
        let mut track = Track::of(&spec(DEVIATION)).unwrap();
        let totals = |at_ns| Some(vec![Totals { at_ns, ios: at_ns / MS, ..Totals::default() }]);
        for second in 0..4 {
            track.look(true, || totals(second * SECOND_NS), &Pauses::default(), second * SECOND_NS);
        }
        assert!(!track.look(false, || unreachable!("nobody is asked"), &Pauses::default(), 4 * SECOND_NS));
        for second in 5..20 {
            assert!(!track.look(true, || totals(second * SECOND_NS), &Pauses::default(), second * SECOND_NS));
        }
        assert_eq!(track.report().rounds.len(), 2);
    }

    #[test]
    fn a_watcher_that_was_held_up_counts_one_long_round() {
        let rounds = rounds_at(&[0, 20, 1020, 6500, 7020], &Pauses::default());
        assert_eq!(rounds, [(1020, 1000), (6500, 1000), (7020, 1000)]);
    }

    #[test]
    fn a_round_in_which_the_process_did_not_run_is_none() {
        let pauses = Pauses::default();
        pauses.look(BEGIN_NS + 1100 * MS, 0);
        pauses.look(BEGIN_NS + 6500 * MS, 0);
        assert_eq!(rounds_at(&[0, 20, 1020, 6500, 7020], &pauses), [(1020, 1000), (7020, 1000)]);
    }

    /// When those rounds ended that count, and their rates, of a worker with a thousand I/Os a second that is
    /// looked at then, in milliseconds.
    fn rounds_at(looks: &[u64], pauses: &Pauses) -> Vec<(u64, u64)> {
        let mut track = Track::of(&spec(DEVIATION)).unwrap();
        for &at_ms in looks {
            let at_ns = BEGIN_NS + at_ms * MS;
            let totals = Totals { at_ns, ios: at_ms, ..Totals::default() };
            track.look(true, || Some(vec![totals]), pauses, at_ns);
        }
        track.report().rounds.iter().map(|round| (round.at_ns / MS, round.iops.round() as u64)).collect()
    }
}
