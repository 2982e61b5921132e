//! What the calling thread has used so far (getrusage(2), RUSAGE_THREAD).

#![allow(unsafe_code, reason = "rustix has no getrusage for a thread")]

/// Processor time, switches and faults of one thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThreadUse {
    /// User time in nanoseconds.
    pub user_ns: u64,
    /// System time in nanoseconds.
    pub system_ns: u64,
    /// Elapsed time in nanoseconds, filled in by who measures it.
    pub elapsed_ns: u64,
    /// Context switches, wanted and unwanted.
    pub context_switches: u64,
    /// Page faults with I/O.
    pub major_faults: u64,
    /// Page faults without I/O.
    pub minor_faults: u64,
    /// Time in nanoseconds in which it could have run, but others had its CPU; 0 where the kernel does
    /// not say.
    pub waiting_ns: u64,
}

impl ThreadUse {
    /// Since the thread began.
    #[must_use]
    pub fn now() -> ThreadUse {
        // SAFETY: all zeros is a valid `rusage`: it has only integers.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: the pointer is to a `rusage` that this call may fill.
        if unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) } != 0 {
            return ThreadUse::default();
        }
        let unsigned = |value: i64| u64::try_from(value).unwrap_or(0);
        let ns = |time: libc::timeval| unsigned(time.tv_sec) * 1_000_000_000 + unsigned(time.tv_usec) * 1000;
        ThreadUse {
            user_ns: ns(usage.ru_utime),
            system_ns: ns(usage.ru_stime),
            elapsed_ns: 0,
            context_switches: unsigned(usage.ru_nvcsw) + unsigned(usage.ru_nivcsw),
            major_faults: unsigned(usage.ru_majflt),
            minor_faults: unsigned(usage.ru_minflt),
            waiting_ns: waiting_ns(
                &std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default(),
            ),
        }
    }

    /// What was used between `before` and this.
    #[must_use]
    pub fn since(&self, before: &ThreadUse) -> ThreadUse {
        ThreadUse {
            user_ns: self.user_ns.saturating_sub(before.user_ns),
            system_ns: self.system_ns.saturating_sub(before.system_ns),
            elapsed_ns: self.elapsed_ns.saturating_sub(before.elapsed_ns),
            context_switches: self.context_switches.saturating_sub(before.context_switches),
            major_faults: self.major_faults.saturating_sub(before.major_faults),
            minor_faults: self.minor_faults.saturating_sub(before.minor_faults),
            waiting_ns: self.waiting_ns.saturating_sub(before.waiting_ns),
        }
    }
}

/// The second number of the kernel's schedstat: time on a run queue, in nanoseconds; 0 where it is missing.
#[must_use]
pub fn waiting_ns(schedstat: &str) -> u64 {
    schedstat.split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_the_second_number_of_three() {
        assert_eq!((waiting_ns("5 77 3\n"), waiting_ns(""), waiting_ns("5 x 3")), (77, 0, 0));
    }

    #[test]
    fn work_shows_as_processor_time() {
        let before = ThreadUse::now();
        let mut sum = 0_u64;
        while ThreadUse::now().since(&before).user_ns + ThreadUse::now().since(&before).system_ns == 0 {
            sum = (0..10_000).fold(sum, |sum, value| std::hint::black_box(sum ^ value));
        }
        assert!(ThreadUse::now().user_ns >= before.user_ns);
    }
}
