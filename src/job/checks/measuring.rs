//! What must hold between the options of steady state.

use super::issue;
use crate::base::steady::{Measure, Rule};
use crate::job::diagnostic::Issues;
use crate::job::kind::show_time;
use crate::job::resolve::Draft;

/// The shortest round: workers publish their numbers every millisecond.
const SHORTEST_ROUND_NS: u64 = 100_000_000;
/// Most rounds of a window.
pub(crate) const MOST_ROUNDS: u64 = 10_000;

pub(super) fn check(draft: &Draft<'_>, issues: &mut Issues) {
    let steady = &draft.job.measuring.steady;
    if !steady.is_on() {
        let names = ["steadystate", "steadystate_ramp_time", "steadystate_check_interval"];
        for name in names.into_iter().filter(|name| draft.setting(name).is_some()) {
            issues.push(issue(
                draft.place(name),
                format!("`{name}` needs `steadystate_duration`, the window that is judged"),
                "set for example ss_dur = \"30s\", or steadystate = \"snia\"",
            ));
        }
        return;
    }
    let round_ns = steady.interval_ns();
    if round_ns < SHORTEST_ROUND_NS {
        issues.push(issue(
            draft.place("steadystate_check_interval"),
            format!("a round of {} is too short to be measured", show_time(round_ns)),
            "set ss_interval to \"100ms\" or more",
        ));
        return;
    }
    let window_ns = steady.window_ns;
    let whole = window_ns.is_multiple_of(round_ns) && (2..=MOST_ROUNDS).contains(&(window_ns / round_ns));
    if steady.rule == Rule::Snia {
        if window_ns != 0 && window_ns != steady.duration_ns() {
            issues.push(issue(
                draft.place("steadystate_duration"),
                "the window of `steadystate = \"snia\"` is five rounds of `ss_interval`",
                "leave `ss_dur` out",
            ));
        }
    } else if !whole {
        issues.push(issue(
            draft.place("steadystate_duration"),
            format!(
                "the window of {} is not made of whole rounds of {}, 2 to {MOST_ROUNDS} of them",
                show_time(window_ns),
                show_time(round_ns)
            ),
            "set `ss_dur` to a multiple of `ss_interval`, which is 1s unless set",
        ));
    }
    if steady.measure == Measure::Latency && !draft.job.measuring.measures_clat() {
        let name = if draft.job.measuring.gtod_reduce { "gtod_reduce" } else { "disable_clat" };
        issues.push(issue(
            draft.place(name),
            format!("`{name}` leaves out the latencies that `steadystate` is to watch"),
            "leave one of them out, or watch iops or bw",
        ));
    }
}
