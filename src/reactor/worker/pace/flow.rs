//! Shares between workers: none runs ahead of its weight.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What the workers of one `flow_id` share. The numbers need no order among them: who sees an old
/// count is late by an I/O.
#[derive(Debug, Default)]
pub struct FlowGroup {
    /// The weights of those that run.
    weight: AtomicU64,
    /// What they have issued.
    issued: AtomicU64,
}

/// A worker's share.
#[derive(Clone, Debug)]
pub struct FlowConfig {
    /// Those it shares with.
    pub group: Arc<FlowGroup>,
    /// `flow`.
    pub weight: u32,
    /// `flow_sleep`: how long a worker rests that is ahead, in nanoseconds.
    pub sleep_ns: u64,
}

/// How long a worker that is ahead looks away where `flow_sleep` does not say it.
const LOOK_AGAIN_NS: u64 = 10_000;

#[derive(Debug)]
pub(super) struct Flow {
    config: FlowConfig,
    issued: u64,
    is_in: bool,
    until_ns: u64,
}

impl Flow {
    pub(super) fn new(config: FlowConfig) -> Flow {
        Flow { config, issued: 0, is_in: false, until_ns: 0 }
    }

    pub(super) fn join(&mut self) {
        if !self.is_in {
            self.is_in = true;
            let group = &self.config.group;
            let before = group.weight.fetch_add(u64::from(self.config.weight), Relaxed);
            // As if it had been there all along, or the others would wait until it has caught up.
            self.issued = match before {
                0 => 0,
                _ => group.issued.load(Relaxed) * u64::from(self.config.weight) / before,
            };
            group.issued.fetch_add(self.issued, Relaxed);
        }
    }

    /// The others share what is left.
    pub(super) fn leave(&mut self) {
        if self.is_in {
            self.is_in = false;
            self.config.group.issued.fetch_sub(self.issued, Relaxed);
            self.config.group.weight.fetch_sub(u64::from(self.config.weight), Relaxed);
        }
    }

    /// Until when this worker must rest because it is ahead of its share; `None` if it is not.
    pub(super) fn rests_until(&mut self, now_ns: u64) -> Option<u64> {
        if now_ns < self.until_ns {
            return Some(self.until_ns);
        }
        let group = &self.config.group;
        let (all, weights) = (group.issued.load(Relaxed), group.weight.load(Relaxed));
        let own = u128::from(self.issued) * u128::from(weights);
        if own <= u128::from(all) * u128::from(self.config.weight) {
            return None;
        }
        let sleep_ns = if self.config.sleep_ns > 0 { self.config.sleep_ns } else { LOOK_AGAIN_NS };
        self.until_ns = now_ns.saturating_add(sleep_ns);
        Some(self.until_ns)
    }

    pub(super) fn issued(&mut self) {
        self.issued += 1;
        self.config.group.issued.fetch_add(1, Relaxed);
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(group: &Arc<FlowGroup>, weight: u32) -> Flow {
        Flow::new(FlowConfig { group: Arc::clone(group), weight, sleep_ns: 0 })
    }

    #[test]
    fn whoever_turns_faster_keeps_to_its_weight() {
        let group = Arc::new(FlowGroup::default());
        let mut flows = [flow(&group, 3), flow(&group, 2), flow(&group, 1)];
        flows.iter_mut().for_each(Flow::join);
        for turn in 0..60_000_u64 {
            // The last one turns five times as often as the others.
            for (index, often) in [(0, 1), (1, 1), (2, 5)] {
                for again in 0..often {
                    let now_ns = (turn * 8 + again) * LOOK_AGAIN_NS;
                    if flows[index].rests_until(now_ns).is_none() {
                        flows[index].issued();
                    }
                }
            }
        }
        let issued = flows.each_ref().map(|flow| flow.issued);
        let unit = issued.iter().sum::<u64>() as f64 / 6.0;
        for (count, weight) in issued.into_iter().zip([3.0, 2.0, 1.0]) {
            assert!((count as f64 / unit / weight - 1.0).abs() < 0.01, "{issued:?}");
        }
    }

    #[test]
    fn who_comes_late_does_not_hold_the_others_up() {
        let group = Arc::new(FlowGroup::default());
        let (mut one, mut late) = (flow(&group, 3), flow(&group, 1));
        one.join();
        (0..3000).for_each(|_| one.issued());
        late.join();
        let mut issued = [0, 0];
        for turn in 1..=400 {
            for (index, flow) in [&mut one, &mut late].into_iter().enumerate() {
                if flow.rests_until(turn * LOOK_AGAIN_NS).is_none() {
                    flow.issued();
                    issued[index] += 1;
                }
            }
        }
        assert!(issued[0] >= 390 && (120..=140).contains(&issued[1]), "{issued:?}");
    }

    #[test]
    fn who_has_gone_holds_nobody_back() {
        let group = Arc::new(FlowGroup::default());
        let (mut one, mut other) = (flow(&group, 1), flow(&group, 1));
        one.join();
        other.join();
        one.issued();
        assert!(one.rests_until(0).is_some());
        other.leave();
        assert!(one.rests_until(LOOK_AGAIN_NS).is_none());
    }
}
