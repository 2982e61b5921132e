//! The one clock: nanoseconds that only go forward, since the process first asked.
//!
//! Where the processor's time stamp counter is invariant it is read directly (crate `quanta`,
//! calibrated against CLOCK_MONOTONIC at the start), which costs a third of a call to the kernel's
//! vDSO: at depth 1 on a fast device the clock is a large part of the tool's own cost.

use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, DynamicClockId, clock_gettime_dynamic};

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

/// The time of a clock of clock_gettime(2), by its number, in nanoseconds; `None` if there is none of
/// that number or it tells no time.
#[must_use]
pub fn system_clock_ns(id: u32) -> Option<u64> {
    let known = |id| DynamicClockId::Known(id);
    let id = match id {
        0 => known(ClockId::Realtime),
        1 => known(ClockId::Monotonic),
        4 => known(ClockId::MonotonicRaw),
        5 => known(ClockId::RealtimeCoarse),
        6 => known(ClockId::MonotonicCoarse),
        7 => DynamicClockId::Boottime,
        11 => DynamicClockId::Tai,
        _ => return None,
    };
    let time = clock_gettime_dynamic(id).ok()?;
    u64::try_from(i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)).ok()
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

/// Clocks of the kernel that a start can be dated by: number and name of clock_gettime(2).
pub const CLOCKS: [(u32, &str); 4] =
    [(0, "CLOCK_REALTIME"), (1, "CLOCK_MONOTONIC"), (4, "CLOCK_MONOTONIC_RAW"), (7, "CLOCK_BOOTTIME")];

/// Milliseconds that a clock of [`CLOCKS`] shows; another number is taken for CLOCK_REALTIME.
#[must_use]
pub fn clock_ms(id: u32) -> u64 {
    use rustix::time::{ClockId, clock_gettime};
    let id = match id {
        1 => ClockId::Monotonic,
        4 => ClockId::MonotonicRaw,
        7 => ClockId::Boottime,
        _ => return unix_time_ms(),
    };
    let time = clock_gettime(id);
    let (seconds, ns) = (u64::try_from(time.tv_sec).unwrap_or(0), u64::try_from(time.tv_nsec).unwrap_or(0));
    seconds * 1000 + ns / 1_000_000
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

    #[test]
    fn clocks_of_the_system_are_known_by_number() {
        let (before, clock, after) = (unix_time_ns(), system_clock_ns(0).unwrap(), unix_time_ns());
        assert!((before..=after).contains(&clock));
        assert!([1, 4, 5, 6, 7, 11].iter().all(|&id| system_clock_ns(id).is_some_and(|ns| ns > 0)));
        assert!([2, 3, 8, 9, 10, 99].iter().all(|&id| system_clock_ns(id).is_none()));
    }
}
