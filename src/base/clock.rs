//! The one clock: nanoseconds that only go forward, since the process first asked.
//!
//! Where the processor's time stamp counter is invariant it is read directly (crate `quanta`,
//! calibrated against CLOCK_MONOTONIC at the start), which costs a third of a call to the kernel's
//! vDSO: at depth 1 on a fast device the clock is a large part of the tool's own cost.

use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

/// A monotonic clock. All of a process agree.
#[derive(Clone, Debug)]
pub struct Clock {
    source: quanta::Clock,
    origin: u64,
}

impl Clock {
    /// The clock of this process. The first call calibrates it (up to 0.2 s) and sets its origin.
    #[must_use]
    pub fn get() -> Clock {
        static CLOCK: OnceLock<Clock> = OnceLock::new();
        CLOCK
            .get_or_init(|| {
                let source = quanta::Clock::new();
                let origin = source.raw();
                Clock { source, origin }
            })
            .clone()
    }

    /// Passes `ticks` of the processor's time stamp counter (nanoseconds where it has none) without
    /// sleeping.
    pub fn spin(&self, ticks: u64) {
        let begun = self.source.raw();
        while self.source.raw().wrapping_sub(begun) < ticks {
            std::hint::spin_loop();
        }
    }

    /// Nanoseconds since the origin, at least 1: 0 is free to mean "never".
    #[inline]
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.source.delta_as_nanos(self.origin, self.source.raw()) + 1
    }
}

/// Nanoseconds since 1970.
#[must_use]
pub fn unix_time_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Milliseconds since 1970, for time stamps that people and other programs read.
#[must_use]
pub fn unix_time_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_goes_forward_and_all_copies_agree() {
        let (one, two) = (Clock::get(), Clock::get());
        let first = one.now_ns();
        let second = two.now_ns();
        let third = one.now_ns();
        assert!(0 < first && first <= second && second <= third);
    }
}
