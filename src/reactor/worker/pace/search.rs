//! The largest depth at which the latencies stay below a target.

/// fio's `latency_target` and its like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SearchConfig {
    /// What an I/O may take, in nanoseconds.
    pub target_ns: u64,
    /// How long each depth is tried, in nanoseconds.
    pub window_ns: u64,
    /// How many percent of the I/Os must keep to it.
    pub percentile: f64,
    /// Never end, but keep to the target by changing the depth.
    pub goes_on: bool,
    /// The largest depth.
    pub depth: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing counts yet.
    Ramp,
    Measuring {
        from_ns: u64,
    },
    /// The window is over; what it issued still counts.
    Closing,
    Done,
}

/// Good windows in a row before a larger depth is tried once more.
const STABLE: u32 = 3;

#[derive(Debug)]
pub(super) struct Search {
    config: SearchConfig,
    state: State,
    depth: u32,
    /// The largest depth that was good.
    low: u32,
    /// The smallest that was not.
    high: Option<u32>,
    ios: u64,
    slow: u64,
    is_final: bool,
    stable: u32,
    /// The share of good I/Os at depth 1, where even that was too little.
    pub(super) failed_at: Option<f64>,
    /// The last window begins: only what comes now is the result.
    pub(super) wants_restart: bool,
}

impl Search {
    pub(super) fn new(config: SearchConfig) -> Search {
        Search {
            config,
            state: State::Ramp,
            depth: 1,
            low: 0,
            high: None,
            ios: 0,
            slow: 0,
            is_final: false,
            stable: 0,
            failed_at: None,
            wants_restart: false,
        }
    }

    pub(super) fn config(&self) -> &SearchConfig {
        &self.config
    }

    pub(super) fn begin(&mut self) {
        self.state = State::Closing;
        // What the ramp has in flight is no answer to anything.
        (self.ios, self.slow) = (0, 0);
        self.depth = 0;
    }

    /// The depth that was found, or that is tried; and whether it is the answer.
    pub(super) fn depth(&self) -> (u32, bool) {
        if self.state == State::Done { (self.depth, true) } else { (self.low.max(1), false) }
    }

    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// An I/O of the workload took so long.
    #[inline]
    pub(super) fn saw(&mut self, latency_ns: u64) {
        self.ios += 1;
        self.slow += u64::from(latency_ns > self.config.target_ns);
    }

    /// How many I/Os may go now.
    pub(super) fn room(&mut self, now_ns: u64, in_flight: u32) -> u32 {
        if let State::Measuring { from_ns } = self.state {
            let is_over = now_ns.saturating_sub(from_ns) >= self.config.window_ns;
            let is_lost = self.config.percentile >= 100.0 && self.slow > 0;
            if is_over || is_lost {
                self.state = State::Closing;
            }
        }
        if self.state == State::Closing && in_flight == 0 {
            self.judge();
            if self.state == State::Closing {
                (self.ios, self.slow) = (0, 0);
                self.wants_restart = self.is_final;
                self.state = State::Measuring { from_ns: now_ns };
            }
        }
        match self.state {
            State::Ramp => self.config.depth.saturating_sub(in_flight),
            State::Measuring { .. } => self.depth.saturating_sub(in_flight),
            State::Closing | State::Done => 0,
        }
    }

    /// A window is over and everything back: the next depth.
    #[expect(clippy::cast_precision_loss, reason = "a percentage")]
    fn judge(&mut self) {
        if self.depth == 0 {
            self.depth = 1;
            return;
        }
        if self.ios == 0 {
            return;
        }
        let percent = (self.ios - self.slow) as f64 * 100.0 / self.ios as f64;
        let good = percent >= self.config.percentile;
        if good {
            self.low = self.depth;
        } else {
            self.high = Some(self.depth);
            self.low = self.low.min(self.depth - 1);
        }
        if self.config.goes_on {
            self.adapt(good);
        } else if self.is_final && good {
            self.state = State::Done;
        } else if self.depth == 1 && !good {
            self.failed_at = Some(percent);
            self.state = State::Done;
        } else {
            if self.is_final && !good {
                // It was good, and is not any more: what is smaller is to be seen anew.
                self.low = 0;
            }
            let next = self.next();
            self.is_final = next == self.low;
            self.depth = next;
        }
    }

    /// Doubles until a depth is too large, then bisects; what is good and known comes back as it is.
    fn next(&self) -> u32 {
        match self.high {
            None => self.low.saturating_mul(2).clamp(1, self.config.depth),
            Some(high) => (self.low + (high - self.low) / 2).max(1),
        }
    }

    fn adapt(&mut self, good: bool) {
        self.stable = if good { self.stable + 1 } else { 0 };
        if self.stable >= STABLE && self.high == Some(self.depth + 1) && self.depth < self.config.depth {
            self.stable = 0;
            self.high = None;
            self.depth += 1;
        } else {
            self.depth = self.next();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CONFIG: SearchConfig =
        SearchConfig { target_ns: 100, window_ns: 10, percentile: 99.0, goes_on: false, depth: 256 };

    /// Runs windows on a device that is good up to `good_to`; the depths that were tried.
    fn tried(config: SearchConfig, good_to: impl Fn(usize) -> u32, windows: usize) -> (Search, Vec<u32>) {
        let mut search = Search::new(config);
        search.begin();
        let mut depths = Vec::new();
        for window in 0..windows {
            let now_ns = window as u64 * 100;
            let depth = search.room(now_ns, 0);
            if search.is_done() {
                break;
            }
            depths.push(depth);
            let latency_ns = if depth <= good_to(window) { 100 } else { 101 };
            (0..100).for_each(|_| search.saw(latency_ns));
            assert_eq!(search.room(now_ns + 10, depth), 0, "what is in flight is waited for");
        }
        (search, depths)
    }

    #[test]
    fn it_doubles_until_that_is_too_much_and_bisects() {
        let (search, depths) = tried(CONFIG, |_| 21, 100);
        assert_eq!(depths, [1, 2, 4, 8, 16, 32, 24, 20, 22, 21, 21]);
        assert_eq!((search.depth(), search.failed_at), ((21, true), None));
    }

    proptest! {
        #[test]
        fn the_depth_found_is_the_largest_good_one(good_to in 1_u32..2000, depth in 1_u32..1000) {
            let (search, depths) = tried(SearchConfig { depth, ..CONFIG }, |_| good_to, 100);
            prop_assert_eq!(search.depth(), (good_to.min(depth), true));
            prop_assert!(depths.len() <= 24 && search.wants_restart, "{:?}", depths);
        }

        #[test]
        fn it_ends_whatever_the_device_does(answers in prop::collection::vec(0_u32..300, 300)) {
            let (search, _) = tried(CONFIG, |window| answers[window], 300);
            prop_assert!(search.is_done());
        }
    }

    #[test]
    fn where_one_at_a_time_is_too_much_it_fails() {
        let (search, depths) = tried(CONFIG, |_| 0, 10);
        assert_eq!((depths.as_slice(), search.failed_at), ([1].as_slice(), Some(0.0)));
    }

    #[test]
    fn one_slow_io_is_enough_where_all_must_be_fast() {
        let mut search = Search::new(SearchConfig { percentile: 100.0, window_ns: 1_000_000, ..CONFIG });
        search.begin();
        assert_eq!(search.room(0, 0), 1);
        search.saw(100);
        assert_eq!(search.room(1, 0), 1);
        search.saw(101);
        assert_eq!((search.room(2, 0), search.failed_at), (0, Some(50.0)));
    }

    #[test]
    fn a_run_that_goes_on_follows_the_device() {
        let config = SearchConfig { goes_on: true, ..CONFIG };
        let (search, depths) = tried(config, |window| if window < 40 { 10 } else { 3 }, 80);
        assert!(!search.is_done());
        assert!(depths[20..40].iter().all(|depth| (8..=11).contains(depth)), "{depths:?}");
        assert!(depths[60..].iter().all(|depth| (2..=4).contains(depth)), "{depths:?}");
    }
}
