//! What must hold between the options of logs.

use super::issue;
use crate::job::diagnostic::Issues;
use crate::job::resolve::Draft;
use crate::job::spec::WindowValue;

/// Reports every rule of logs that the job breaks.
pub(super) fn check(draft: &Draft<'_>, issues: &mut Issues) {
    let logs = &draft.job.logs;
    if logs.histogram.is_some() && logs.histogram_ns == 0 {
        issues.push(issue(
            draft.place("write_hist_log"),
            "`write_hist_log` needs `log_hist_msec`, or the log would stay empty",
            "set for example log_hist_msec = 1000",
        ));
    }
    let measures = &draft.job.measuring;
    let switch = |name: &'static str| if measures.gtod_reduce { "gtod_reduce" } else { name };
    if logs.histogram.is_some() && !measures.measures_clat() {
        issues.push(issue(
            draft.place("write_hist_log"),
            format!(
                "`write_hist_log` would stay empty: `{}` leaves out what it logs",
                switch("disable_clat")
            ),
            "leave one of them out",
        ));
    }
    let measures_none = !(measures.measures_clat() || measures.measures_lat() || measures.measures_slat());
    if logs.latency.is_some() && logs.window_ns > 0 && measures_none {
        issues.push(issue(
            draft.place("write_lat_log"),
            format!(
                "`write_lat_log` with `log_avg_msec` would stay empty: `{}` leaves out what it logs",
                switch("disable_lat")
            ),
            "leave one of them out",
        ));
    }
    if logs.issue_time && !(logs.latency.is_some() && logs.offset) {
        issues.push(issue(
            draft.place("log_issue_time"),
            "`log_issue_time` needs `write_lat_log` and `log_offset`: it is a column behind that of the offset",
            "set write_lat_log = true and log_offset = true",
        ));
    }
    if logs.window_value != WindowValue::Average && logs.window_ns == 0 {
        issues.push(issue(
            draft.place("log_window_value"),
            "`log_window_value` needs `log_avg_msec`: without it every I/O is logged, and there is no window",
            "set for example log_avg_msec = 1000",
        ));
    }
    if logs.clock_id != 0 && !logs.alternate_epoch {
        issues.push(issue(
            draft.place("log_alternate_epoch_clock_id"),
            "`log_alternate_epoch_clock_id` needs `log_alternate_epoch`: without it times begin with the job",
            "set log_alternate_epoch = true",
        ));
    }
}
