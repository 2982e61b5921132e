//! Pauses between I/Os.

/// fio's `thinktime` and its like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThinkConfig {
    /// How long a pause takes, in nanoseconds.
    pub pause_ns: u64,
    /// How much of it, from the beginning, the processor is kept busy.
    pub spin_ns: u64,
    /// I/Os between two pauses, at least 1.
    pub blocks: Option<u32>,
    /// The pause begins when they are issued, not when they have completed.
    pub at_issue: bool,
    /// Time between two pauses, in nanoseconds.
    pub every_ns: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Working,
    /// Until what is in flight is back.
    Waiting,
    Pausing {
        from_ns: u64,
    },
}

/// What the pauses allow now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    /// So many I/Os.
    Go(u32),
    /// None until then, or until something completes if that is `u64::MAX`.
    Wait { until_ns: u64, awake: bool },
}

#[derive(Debug)]
pub(super) struct Think {
    config: ThinkConfig,
    state: State,
    issued: u32,
    worked_from_ns: u64,
}

impl Think {
    pub(super) fn new(config: ThinkConfig) -> Think {
        Think { config, state: State::Working, issued: 0, worked_from_ns: 0 }
    }

    pub(super) fn begin(&mut self, now_ns: u64) {
        (self.state, self.issued, self.worked_from_ns) = (State::Working, 0, now_ns);
    }

    #[inline]
    pub(super) fn issued(&mut self) {
        self.issued += 1;
    }

    /// What may go, and how long the pause was that has just ended.
    pub(super) fn leave(&mut self, now_ns: u64, in_flight: u32) -> (Leave, Option<u64>) {
        let config = self.config;
        let left = config.blocks.map_or(u32::MAX, |blocks| blocks.saturating_sub(self.issued));
        if self.state == State::Working {
            let late = |every_ns| now_ns.saturating_sub(self.worked_from_ns) >= every_ns;
            // Time alone asks for no pause where nothing was done.
            let is_time = self.issued > 0 && config.every_ns.is_some_and(late);
            if left > 0 && !is_time {
                return (Leave::Go(left), None);
            }
            self.state = State::Waiting;
        }
        if self.state == State::Waiting {
            if in_flight > 0 && !config.at_issue {
                return (Leave::Wait { until_ns: u64::MAX, awake: false }, None);
            }
            self.state = State::Pausing { from_ns: now_ns };
        }
        let State::Pausing { from_ns } = self.state else { return (Leave::Go(left), None) };
        let until_ns = from_ns.saturating_add(config.pause_ns);
        if now_ns < until_ns {
            let spins_until_ns = from_ns.saturating_add(config.spin_ns);
            let awake = now_ns < spins_until_ns;
            return (Leave::Wait { until_ns, awake }, None);
        }
        self.begin(now_ns);
        (Leave::Go(config.blocks.unwrap_or(u32::MAX)), Some(now_ns - from_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: ThinkConfig =
        ThinkConfig { pause_ns: 100, spin_ns: 30, blocks: Some(2), at_issue: false, every_ns: None };
    const QUIET: Leave = Leave::Wait { until_ns: u64::MAX, awake: false };

    #[test]
    fn after_so_many_blocks_all_come_back_and_the_pause_follows() {
        let mut think = Think::new(CONFIG);
        think.begin(0);
        assert_eq!(think.leave(0, 0), (Leave::Go(2), None));
        think.issued();
        assert_eq!(think.leave(0, 1), (Leave::Go(1), None));
        think.issued();
        assert_eq!(think.leave(5, 2), (QUIET, None));
        assert_eq!(think.leave(9, 1), (QUIET, None));
        assert_eq!(think.leave(10, 0), (Leave::Wait { until_ns: 110, awake: true }, None));
        assert_eq!(think.leave(40, 0), (Leave::Wait { until_ns: 110, awake: false }, None));
        assert_eq!(think.leave(112, 0), (Leave::Go(2), Some(102)));
    }

    #[test]
    fn at_issue_the_pause_does_not_wait_for_the_device() {
        let mut think = Think::new(ThinkConfig { at_issue: true, ..CONFIG });
        think.begin(0);
        think.issued();
        think.issued();
        assert_eq!(think.leave(10, 2), (Leave::Wait { until_ns: 110, awake: true }, None));
    }

    #[test]
    fn time_brings_a_pause_where_something_was_done() {
        let mut think = Think::new(ThinkConfig { blocks: None, every_ns: Some(1000), ..CONFIG });
        think.begin(0);
        assert_eq!(think.leave(5000, 0), (Leave::Go(u32::MAX), None));
        think.issued();
        assert_eq!(think.leave(5000, 1), (QUIET, None));
        assert_eq!(think.leave(5010, 0), (Leave::Wait { until_ns: 5110, awake: true }, None));
        assert_eq!(think.leave(5110, 0), (Leave::Go(u32::MAX), Some(100)));
        think.issued();
        assert_eq!(think.leave(6000, 1), (Leave::Go(u32::MAX), None));
    }
}
