//! The one line that a terminal shows while a run goes on.

use crate::base::PerOp;
use crate::base::units::{SECOND_NS, format_count, format_time_ns};

use super::text::{rounded, shortened, span};

/// The numbers of the moment, summed over all workers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Live {
    /// Jobs that are running now.
    pub jobs_running: u32,
    /// Jobs of the run.
    pub jobs_total: u32,
    /// How much of the run is done, 0 to 1; `None` if nobody can know.
    pub done: Option<f64>,
    /// I/Os a second in the last interval.
    pub iops: PerOp<f64>,
    /// Bytes a second in the last interval, all directions.
    pub bandwidth: f64,
    /// 99th percentile of the total latency.
    pub p99_ns: Option<u64>,
    /// Seconds to go, if that can be known.
    pub eta_s: Option<u64>,
    /// I/Os that failed so far.
    pub errors: u64,
    /// Of how many servers, of how many that were asked, these numbers are.
    pub servers: Option<(u32, u32)>,
}

impl Live {
    /// All servers as one: rates, jobs and errors are sums, p99 is the largest; what is done is what the
    /// last one has done, and the end is the end of the one that takes longest, where all know theirs.
    #[must_use]
    pub fn of_servers(servers: &[Option<Live>]) -> Live {
        let known = || servers.iter().flatten();
        let mut all = Live::default();
        for live in known() {
            all.jobs_running += live.jobs_running;
            all.jobs_total += live.jobs_total;
            for (op, rate) in all.iops.iter_mut() {
                *rate += live.iops.get(op);
            }
            all.bandwidth += live.bandwidth;
            all.p99_ns = all.p99_ns.max(live.p99_ns);
            all.errors = all.errors.saturating_add(live.errors);
        }
        // A server that has ended has no more to do.
        let running = || known().filter(|live| live.jobs_running > 0);
        let done: Option<Vec<f64>> = running().map(|live| live.done).collect();
        all.done = done.and_then(|done| done.into_iter().reduce(f64::min));
        let eta: Option<Vec<u64>> = running().map(|live| live.eta_s).collect();
        all.eta_s = eta.and_then(|eta| eta.into_iter().max());
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        all.servers = (servers.len() > 1).then(|| (count(known().count()), count(servers.len())));
        all
    }
}

/// `live` in at most `width` characters, without a line end. What does not fit is dropped: first
/// the number of jobs, then p99, ETA, percent done and bandwidth; errors and IOPS stay longest.
#[must_use]
pub fn line(live: &Live, width: usize) -> String {
    // In the order of the line, each with its rank: a higher one is dropped earlier.
    let parts = [
        (
            0,
            live.servers
                .filter(|(known, all)| known < all)
                .map(|(known, all)| format!("{known}/{all} servers")),
        ),
        (5, Some(format!("{}/{} jobs", live.jobs_running, live.jobs_total))),
        (2, live.done.map(|done| format!("{:.0}%", done.clamp(0.0, 1.0) * 100.0))),
        (0, (live.errors > 0).then(|| format!("{} ERRORS", live.errors))),
        (0, Some(iops_text(&live.iops))),
        (1, Some(format!("{}MiB/s", rounded(live.bandwidth / 1_048_576.0)))),
        (4, live.p99_ns.map(p99_text)),
        (3, live.eta_s.map(|seconds| format!("ETA {}", span(seconds.saturating_mul(SECOND_NS))))),
    ];
    let mut text = String::new();
    for rank_kept in (0..=5).rev() {
        let kept: Vec<&str> = parts
            .iter()
            .filter(|(rank, _)| *rank <= rank_kept)
            .filter_map(|(_, part)| part.as_deref())
            .collect();
        text = kept.join("  ");
        if text.chars().count() <= width {
            return text;
        }
    }
    shortened(&text, width)
}

#[expect(clippy::cast_precision_loss, reason = "four digits are printed")]
fn p99_text(ns: u64) -> String {
    format!("p99 {}", format_time_ns(ns as f64))
}

/// Only directions in use; a run in which nothing moves says so with a zero.
fn iops_text(iops: &PerOp<f64>) -> String {
    let parts: Vec<String> = iops
        .iter()
        .filter(|(_, rate)| **rate > 0.0)
        .map(|(op, rate)| format!("{} {}", &op.name()[..1], format_count(rate.round())))
        .collect();
    if parts.is_empty() { "0 IOPS".to_owned() } else { format!("{} IOPS", parts.join(" ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn busy() -> Live {
        Live {
            jobs_running: 2,
            jobs_total: 4,
            done: Some(0.453),
            iops: PerOp { read: 812_345.6, write: 200_100.0, trim: 0.0 },
            bandwidth: 3_328_000_000.0,
            p99_ns: Some(123_456),
            eta_s: Some(75),
            errors: 0,
            servers: None,
        }
    }

    #[test]
    fn servers_are_summed_and_the_worst_of_them_tells_the_end() {
        let slow = Live { done: Some(0.1), p99_ns: Some(900_000), eta_s: Some(300), errors: 2, ..busy() };
        let all = Live::of_servers(&[Some(busy()), Some(slow.clone())]);
        assert_eq!(all.servers, Some((2, 2)));
        assert_eq!(
            line(&all, 100),
            "4/8 jobs  10%  2 ERRORS  r 1.625M w 400.2k IOPS  6348MiB/s  p99 900us  ETA 5m00s"
        );
        let lost = Live::of_servers(&[Some(busy()), None, Some(slow.clone())]);
        assert!(line(&lost, 100).starts_with("2/3 servers  4/8 jobs  10%"), "{}", line(&lost, 100));
        // One that has ended holds nothing up; one that does not know its end leaves it open.
        let ended = Live { jobs_running: 0, done: None, eta_s: None, ..busy() };
        assert_eq!(Live::of_servers(&[Some(ended), Some(slow)]).eta_s, Some(300));
        let endless = Live { done: None, eta_s: None, ..busy() };
        let open = Live::of_servers(&[Some(busy()), Some(endless)]);
        assert_eq!((open.done, open.eta_s), (None, None));
        assert_eq!(Live::of_servers(&[Some(busy())]), busy());
    }

    #[test]
    fn the_least_important_goes_first() {
        let lines = [80, 70, 50, 45, 36, 26, 10, 0].map(|width| line(&busy(), width));
        assert_eq!(
            lines,
            [
                "2/4 jobs  45%  r 812.3k w 200.1k IOPS  3174MiB/s  p99 123.5us  ETA 1m15s",
                "45%  r 812.3k w 200.1k IOPS  3174MiB/s  p99 123.5us  ETA 1m15s",
                "45%  r 812.3k w 200.1k IOPS  3174MiB/s  ETA 1m15s",
                "45%  r 812.3k w 200.1k IOPS  3174MiB/s",
                "r 812.3k w 200.1k IOPS  3174MiB/s",
                "r 812.3k w 200.1k IOPS",
                "r 812.3k …",
                "",
            ]
        );
    }

    #[test]
    fn errors_stay_and_unknowns_are_left_out() {
        let live = Live { done: None, eta_s: None, p99_ns: None, errors: 3, ..busy() };
        assert_eq!(line(&live, 34), "3 ERRORS  r 812.3k w 200.1k IOPS");
        assert_eq!(line(&Live::default(), 80), "0/0 jobs  0 IOPS  0.000MiB/s");
    }

    proptest! {
        #[test]
        fn no_line_is_too_long(
            width in 0_usize..120,
            done in prop::option::of(any::<f64>()),
            read: f64, write: f64, bandwidth: f64,
            p99_ns in prop::option::of(any::<u64>()),
            eta_s in prop::option::of(any::<u64>()),
            errors: u64,
        ) {
            let live = Live {
                done, iops: PerOp { read, write, trim: 0.0 }, bandwidth, p99_ns, eta_s, errors, ..busy()
            };
            let line = line(&live, width);
            prop_assert!(line.chars().count() <= width && !line.contains('\n'));
        }
    }
}
