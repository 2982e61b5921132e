//! The one clock: nanoseconds that only go forward, since the process first asked.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A monotonic clock that can be copied to every thread. All copies agree.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// The clock of this process. The first call sets its origin.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the place where the clock is read")]
    pub fn get() -> Clock {
        static ORIGIN: OnceLock<Instant> = OnceLock::new();
        Clock { origin: *ORIGIN.get_or_init(Instant::now) }
    }

    /// Nanoseconds since the origin, at least 1: 0 is free to mean "never".
    #[inline]
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the place where the clock is read")]
    pub fn now_ns(&self) -> u64 {
        let elapsed = Instant::now().duration_since(self.origin);
        elapsed.as_secs() * super::units::SECOND_NS + u64::from(elapsed.subsec_nanos()) + 1
    }
}

/// Milliseconds since 1970, for time stamps that people and other programs read.
#[must_use]
pub fn unix_time_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
