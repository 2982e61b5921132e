//! Times in which the process did not run: it was stopped (SIGSTOP, a debugger, the freezer of cgroups), or
//! the machine was (a virtual machine that is paused, a laptop that sleeps) while the clock went on.
//!
//! A thread of its own sleeps and looks at the clock ([`PauseWatch`]). It waits for no device, so it wakes
//! late only if it could not run. What it waited on a run queue is the load of the machine and is not
//! counted: a thread that waits for its CPU shows as that in the report. What remains, from
//! [`LEAST_NS`] on, is a pause.
//!
//! An I/O in flight across a pause says nothing of the device: how long it took is not known. Threads that
//! measure ask [`Pauses::touch`], and only about what took [`LEAST_NS`] or longer, so that a pause costs the
//! usual path one comparison.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};

use super::clock::Clock;
use super::host::thread_use;

/// The shortest pause, in nanoseconds. Shorter times without a CPU are the business of the scheduler.
pub const LEAST_NS: u64 = 500_000_000;
/// How often the watching thread looks.
const TICK: Duration = Duration::from_millis(50);
const TICK_NS: u64 = 50_000_000;
/// How long others wait for a look of the watching thread that is overdue: after a pause all threads go on
/// at the same moment.
const AWAIT_NS: u64 = 200_000_000;
/// How many pauses are kept apart. Those beyond are taken for one with the last.
const MOST: usize = 256;

/// One pause, in nanoseconds of `base::clock`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    /// The process was last seen to run.
    pub from_ns: u64,
    /// It was seen to run again.
    pub to_ns: u64,
    /// How long it did not run, at least.
    pub length_ns: u64,
}

#[derive(Debug, Default)]
struct Slot {
    from_ns: AtomicU64,
    to_ns: AtomicU64,
    length_ns: AtomicU64,
}

/// The pauses so far. One thread watches, any thread asks.
#[derive(Debug)]
pub struct Pauses {
    /// The last look of the watching thread; 0 while nobody watches.
    seen_ns: AtomicU64,
    /// Somebody waited in vain for a look after this one.
    in_vain_ns: AtomicU64,
    count: AtomicUsize,
    slots: Box<[Slot]>,
}

impl Default for Pauses {
    fn default() -> Pauses {
        Pauses {
            seen_ns: AtomicU64::new(0),
            in_vain_ns: AtomicU64::new(0),
            count: AtomicUsize::new(0),
            slots: (0..MOST).map(|_| Slot::default()).collect(),
        }
    }
}

impl Pauses {
    /// The watching thread looks: it is `now_ns`, and since its last look it slept for a tick and waited for a
    /// CPU for `waited_ns`. Gives the pause that has just ended, if one has.
    pub fn look(&self, now_ns: u64, waited_ns: u64) -> Option<Pause> {
        let from_ns = self.seen_ns.load(Ordering::Relaxed);
        let late_ns = now_ns.saturating_sub(from_ns).saturating_sub(TICK_NS).saturating_sub(waited_ns);
        let pause = (from_ns > 0 && late_ns >= LEAST_NS).then_some(Pause {
            from_ns,
            to_ns: now_ns,
            length_ns: late_ns,
        });
        if let Some(pause) = pause {
            self.add(pause);
        }
        // After the pause itself: whoever sees that this look was made sees the pause.
        self.seen_ns.store(now_ns.max(1), Ordering::Release);
        pause
    }

    fn add(&self, pause: Pause) {
        let count = self.count.load(Ordering::Relaxed);
        let Some(slot) = self.slots.get(count) else {
            let last = &self.slots[MOST - 1];
            let length_ns = last.length_ns.load(Ordering::Relaxed).saturating_add(pause.length_ns);
            last.length_ns.store(length_ns, Ordering::Relaxed);
            last.to_ns.store(pause.to_ns, Ordering::Release);
            return;
        };
        slot.from_ns.store(pause.from_ns, Ordering::Relaxed);
        slot.to_ns.store(pause.to_ns, Ordering::Relaxed);
        slot.length_ns.store(pause.length_ns, Ordering::Relaxed);
        self.count.store(count + 1, Ordering::Release);
    }

    /// The pauses that the watching thread has seen so far, in their order.
    pub fn seen(&self) -> impl Iterator<Item = Pause> + '_ {
        let count = self.count.load(Ordering::Acquire);
        self.slots[..count].iter().map(|slot| Pause {
            from_ns: slot.from_ns.load(Ordering::Relaxed),
            to_ns: slot.to_ns.load(Ordering::Acquire),
            length_ns: slot.length_ns.load(Ordering::Relaxed),
        })
    }

    /// How many that are.
    #[inline]
    #[must_use]
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether what lasted from `from_ns` to `to_ns`, which is now or was a moment ago, was in progress
    /// during a pause. False at once for what is shorter than [`LEAST_NS`].
    ///
    /// Where the watching thread has not run for as long either, its next look is waited for, up to 0.2 s:
    /// that look says whether there was a pause.
    #[cold]
    #[inline(never)]
    #[must_use]
    pub fn touch(&self, from_ns: u64, to_ns: u64) -> bool {
        if to_ns.saturating_sub(from_ns) < LEAST_NS {
            return false;
        }
        self.await_look(to_ns);
        self.seen().any(|pause| from_ns < pause.to_ns && pause.from_ns < to_ns)
    }

    /// How many nanoseconds between `from_ns` and `to_ns` the process did not run.
    #[must_use]
    pub fn within(&self, from_ns: u64, to_ns: u64) -> u64 {
        if to_ns.saturating_sub(from_ns) < LEAST_NS {
            return 0;
        }
        self.await_look(to_ns);
        let overlap = |pause: Pause| {
            let shared = pause.to_ns.min(to_ns).saturating_sub(pause.from_ns.max(from_ns));
            shared.min(pause.length_ns)
        };
        self.seen().map(overlap).sum::<u64>().min(to_ns.saturating_sub(from_ns))
    }

    /// Waits for the watching thread if it has not looked for so long before `now_ns` that there may have been
    /// a pause of which it does not know yet.
    fn await_look(&self, now_ns: u64) {
        let seen_ns = self.seen_ns.load(Ordering::Acquire);
        let is_overdue = |seen_ns: u64| seen_ns > 0 && now_ns.saturating_sub(seen_ns) >= LEAST_NS;
        // A thread that gets no CPU at all is waited for once.
        if !is_overdue(seen_ns) || self.in_vain_ns.load(Ordering::Relaxed) == seen_ns {
            return;
        }
        let clock = Clock::get();
        let until_ns = clock.now_ns().saturating_add(AWAIT_NS);
        while is_overdue(self.seen_ns.load(Ordering::Acquire)) {
            if clock.now_ns() > until_ns {
                self.in_vain_ns.store(seen_ns, Ordering::Relaxed);
                return;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

/// Watches for pauses for as long as it lives.
#[derive(Debug)]
pub struct PauseWatch {
    pauses: Arc<Pauses>,
    /// Dropped to end the thread.
    alive: Option<Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl PauseWatch {
    /// Starts the watching thread.
    ///
    /// # Errors
    /// If the system has no thread to spare.
    pub fn start() -> std::io::Result<PauseWatch> {
        let pauses = Arc::<Pauses>::default();
        let (alive, ended) = bounded::<()>(0);
        let own = Arc::clone(&pauses);
        let clock = Clock::get();
        own.look(clock.now_ns(), 0);
        let thread = std::thread::Builder::new().name("pauses".to_owned()).spawn(move || {
            let file = File::open("/proc/thread-self/schedstat").ok();
            let mut waited_ns = waited(file.as_ref());
            while ended.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                let before_ns = std::mem::replace(&mut waited_ns, waited(file.as_ref()));
                own.look(clock.now_ns(), waited_ns.saturating_sub(before_ns));
            }
        })?;
        Ok(PauseWatch { pauses, alive: Some(alive), thread: Some(thread) })
    }

    /// What it has seen.
    #[must_use]
    pub fn pauses(&self) -> &Arc<Pauses> {
        &self.pauses
    }
}

impl Drop for PauseWatch {
    fn drop(&mut self) {
        drop(self.alive.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// How long the calling thread, whose statistics `file` has, has waited for a CPU so far.
fn waited(file: Option<&File>) -> u64 {
    let mut bytes = [0; 96];
    let len = file.and_then(|file| file.read_at(&mut bytes, 0).ok()).unwrap_or(0);
    thread_use::waiting_ns(&String::from_utf8_lossy(&bytes[..len]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;
    const BEGIN_NS: u64 = 100 * SECOND_NS;

    /// As seen by a thread that looked at those moments, in milliseconds, having waited for a CPU so long.
    fn seen(looks: &[(u64, u64)]) -> Pauses {
        let pauses = Pauses::default();
        for &(at_ms, waited_ms) in looks {
            pauses.look(BEGIN_NS + at_ms * 1_000_000, waited_ms * 1_000_000);
        }
        pauses
    }

    fn at(ms: u64) -> u64 {
        BEGIN_NS + ms * 1_000_000
    }

    #[test]
    fn a_late_look_is_a_pause_unless_the_thread_waited_for_its_cpu() {
        assert_eq!(seen(&[(0, 0), (50, 0), (110, 5), (400, 0), (940, 0)]).count(), 0);
        let stopped = seen(&[(0, 0), (50, 0), (8110, 10), (8160, 0)]);
        let pause = Pause { from_ns: at(50), to_ns: at(8110), length_ns: 8 * SECOND_NS };
        assert_eq!(stopped.seen().collect::<Vec<_>>(), [pause]);
        assert_eq!(seen(&[(0, 0), (50, 0), (8110, 7600)]).count(), 0, "the machine was busy");
    }

    #[test]
    fn what_was_in_progress_during_a_pause_is_touched_and_nothing_else_is() {
        let pauses = seen(&[(0, 0), (1000, 950), (9000, 0), (10_000, 950)]);
        assert!(pauses.touch(at(900), at(9001)), "across all of it");
        assert!(pauses.touch(at(8000), at(9500)), "begun within");
        assert!(!pauses.touch(at(100), at(1000)), "ended before");
        assert!(!pauses.touch(at(9000), at(10_000)), "begun behind");
        assert!(!pauses.touch(at(5000), at(5400)), "shorter than any pause");
        assert_eq!(pauses.within(at(0), at(10_000)), 7_950_000_000);
        assert_eq!(pauses.within(at(8000), at(10_000)), SECOND_NS);
        assert_eq!(pauses.within(at(9000), at(10_000)), 0);
    }

    #[test]
    fn where_nobody_watches_nothing_is_touched_and_nobody_waits() {
        let pauses = Pauses::default();
        assert!(!pauses.touch(1, at(0)));
        assert_eq!(pauses.within(1, at(0)), 0);
    }

    #[test]
    fn whoever_asks_before_the_watching_thread_has_looked_waits_for_its_look() {
        let clock = Clock::get();
        let pauses = Arc::new(Pauses::default());
        // A look in the past, as if all threads had been stopped since.
        let now_ns = clock.now_ns() + 10 * SECOND_NS;
        pauses.look(now_ns - 9 * SECOND_NS, 0);
        let own = Arc::clone(&pauses);
        let thread = std::thread::spawn(move || own.touch(now_ns - 8 * SECOND_NS, now_ns));
        std::thread::sleep(Duration::from_millis(20));
        pauses.look(now_ns, 0);
        // Had it given up waiting, on a machine that is very busy, it would know nothing of a pause.
        let waited_in_vain = pauses.in_vain_ns.load(Ordering::Relaxed) > 0;
        assert!(thread.join().unwrap() || waited_in_vain);
    }

    #[test]
    fn a_watching_thread_that_never_looks_is_waited_for_once() {
        let pauses = Pauses::default();
        let now_ns = Clock::get().now_ns() + 10 * SECOND_NS;
        pauses.look(now_ns - 9 * SECOND_NS, 0);
        assert!(!pauses.touch(now_ns - 8 * SECOND_NS, now_ns));
        assert_eq!(pauses.in_vain_ns.load(Ordering::Relaxed), now_ns - 9 * SECOND_NS);
        assert!(!pauses.touch(now_ns - 8 * SECOND_NS, now_ns));
    }

    #[test]
    fn more_pauses_than_are_kept_apart_still_count() {
        let pauses = Pauses::default();
        let count = MOST as u64 + 10;
        for number in 0..=count {
            pauses.look(BEGIN_NS + number * SECOND_NS, 0);
        }
        assert_eq!(pauses.count(), MOST);
        let end_ns = BEGIN_NS + count * SECOND_NS;
        assert_eq!(pauses.within(BEGIN_NS, end_ns), count * (SECOND_NS - TICK_NS));
        assert!(pauses.touch(end_ns - SECOND_NS, end_ns));
    }

    #[test]
    fn a_watch_looks_until_it_is_dropped() {
        let watch = PauseWatch::start().unwrap();
        let pauses = Arc::clone(watch.pauses());
        let first = pauses.seen_ns.load(Ordering::Acquire);
        while pauses.seen_ns.load(Ordering::Acquire) == first {
            std::thread::sleep(Duration::from_millis(1));
        }
        drop(watch);
        assert_eq!(Arc::strong_count(&pauses), 1, "the thread has ended");
    }
}
