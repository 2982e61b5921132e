//! Threads that the kernel has moved from the CPUs to which they were bound. When the only CPU of a thread
//! goes offline the kernel lets it run on any other, without a word, and leaves it there when the CPU is back.
//! The watching thread looks, says so, and binds the thread again.

use crate::base::host::{Sysfs, affinity};
use crate::base::units::SECOND_NS;

/// How often it is looked where threads may run.
const LOOK_NS: u64 = 200_000_000;
/// Notes about all threads together; what happens more often only adds to the time that is reported.
const MOST_NOTES: usize = 20;

/// What the kernel says of threads and CPUs.
pub trait Machine {
    /// The CPUs on which the thread may run; `None` if it has ended.
    fn allowed(&self, thread: i32) -> Option<Vec<u32>>;
    /// The CPUs that are online.
    fn online(&self) -> Vec<u32>;
    /// Binds the thread.
    ///
    /// # Errors
    /// Why not: a sentence.
    fn bind(&self, thread: i32, cpus: &[u32]) -> Result<(), String>;
}

/// This machine.
#[derive(Debug, Default)]
pub struct Kernel(Sysfs);

impl Machine for Kernel {
    fn allowed(&self, thread: i32) -> Option<Vec<u32>> {
        affinity::of_thread(thread).ok()
    }

    fn online(&self) -> Vec<u32> {
        affinity::online(&self.0)
    }

    fn bind(&self, thread: i32, cpus: &[u32]) -> Result<(), String> {
        affinity::bind_thread(thread, cpus)
    }
}

/// One bound thread.
struct Pin {
    /// Its number in the stage.
    thread: usize,
    cpus: Vec<u32>,
    /// Since when it is not where it should be.
    lost_ns: Option<u64>,
    unpinned_ns: u64,
}

/// The bound threads of a stage.
pub struct Pins {
    pins: Vec<Pin>,
    last_ns: u64,
    noted: usize,
}

impl Pins {
    /// The CPUs of each thread; none for those that are not bound.
    pub fn new(cpus: Vec<Vec<u32>>) -> Pins {
        let bound = cpus.into_iter().enumerate().filter(|(_, cpus)| !cpus.is_empty());
        let pin = |(thread, cpus)| Pin { thread, cpus, lost_ns: None, unpinned_ns: 0 };
        Pins { pins: bound.map(pin).collect(), last_ns: 0, noted: 0 }
    }

    /// Looks at all threads if it is time; gives what the user should know. `thread_of` gives the kernel's id and the name
    /// of a thread that runs.
    pub fn look(
        &mut self,
        now_ns: u64,
        machine: &impl Machine,
        thread_of: impl Fn(usize) -> Option<(i32, String)>,
    ) -> Vec<String> {
        if now_ns.saturating_sub(self.last_ns) < LOOK_NS {
            return Vec::new();
        }
        // From then on it may have been elsewhere.
        let since_ns = if self.last_ns > 0 { self.last_ns } else { now_ns };
        self.last_ns = now_ns;
        let mut notes = Vec::new();
        for pin in &mut self.pins {
            let Some((id, name)) = thread_of(pin.thread) else { continue };
            let Some(allowed) = machine.allowed(id) else { continue };
            notes.extend(pin.look((since_ns, now_ns), machine, (id, &name), &allowed));
        }
        notes.truncate(MOST_NOTES.saturating_sub(self.noted));
        self.noted += notes.len();
        notes
    }

    /// How long a thread was not where it should be, by now.
    pub fn unpinned_ns(&self, thread: usize, now_ns: u64) -> u64 {
        let pin = self.pins.iter().find(|pin| pin.thread == thread);
        pin.map_or(0, |pin| pin.unpinned_ns + pin.lost_ns.map_or(0, |lost_ns| now_ns.saturating_sub(lost_ns)))
    }
}

impl Pin {
    fn look(
        &mut self,
        (since_ns, now_ns): (u64, u64),
        machine: &impl Machine,
        (id, name): (i32, &str),
        allowed: &[u32],
    ) -> Vec<String> {
        let mut notes = Vec::new();
        let own = cpus_text(&self.cpus);
        // Of several CPUs those that are offline are not in the list: the thread is still on the others.
        let is_held = allowed.iter().all(|cpu| self.cpus.contains(cpu));
        let online = if is_held { Vec::new() } else { machine.online() };
        let offline: Vec<u32> = self.cpus.iter().copied().filter(|cpu| !online.contains(cpu)).collect();
        if !is_held && self.lost_ns.is_none() {
            self.lost_ns = Some(since_ns);
            let why = match offline.is_empty() {
                true => format!("{own} was offline, or its affinity was changed from outside"),
                false => format!("{} is offline", cpus_text(&offline)),
            };
            notes
                .push(format!("{name}: no longer pinned to {own}: {why}; it runs on {}", cpus_text(allowed)));
        }
        let Some(lost_ns) = self.lost_ns else { return notes };
        if !is_held && !offline.is_empty() {
            return notes;
        }
        if !is_held && let Err(why) = machine.bind(id, &self.cpus) {
            // Looked at again next time; said once a loss.
            if notes.len() == 1 {
                notes.push(format!("{name}: it cannot be pinned to {own} again: {why}"));
            }
            return notes;
        }
        let spent_ns = now_ns.saturating_sub(lost_ns);
        self.unpinned_ns += spent_ns;
        self.lost_ns = None;
        let seconds = spent_ns as f64 / SECOND_NS as f64;
        notes.push(format!("{name}: pinned to {own} again, after up to {seconds:.1} s"));
        notes
    }
}

/// CPUs for people.
fn cpus_text(cpus: &[u32]) -> String {
    let list: Vec<String> = cpus.iter().map(u32::to_string).collect();
    let plural = if cpus.len() == 1 { "CPU" } else { "CPUs" };
    format!("{plural} {}", list.join(", "))
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    /// Two CPUs, and one thread bound to CPU 1.
    struct Made {
        allowed: RefCell<Vec<u32>>,
        is_online: Cell<bool>,
        refuses: Cell<bool>,
    }

    impl Made {
        fn new() -> Made {
            Made { allowed: RefCell::new(vec![1]), is_online: Cell::new(true), refuses: Cell::new(false) }
        }

        /// As Linux does when the only CPU of a thread goes.
        fn unplug(&self) {
            self.is_online.set(false);
            self.allowed.replace(vec![0]);
        }

        fn plug(&self) {
            self.is_online.set(true);
            self.allowed.replace(vec![0, 1]);
        }
    }

    impl Machine for Made {
        fn allowed(&self, _: i32) -> Option<Vec<u32>> {
            Some(self.allowed.borrow().clone())
        }

        fn online(&self) -> Vec<u32> {
            if self.is_online.get() { vec![0, 1] } else { vec![0] }
        }

        fn bind(&self, _: i32, cpus: &[u32]) -> Result<(), String> {
            if self.refuses.get() {
                return Err("it is outside the cpuset".to_owned());
            }
            self.allowed.replace(cpus.to_vec());
            Ok(())
        }
    }

    fn look(pins: &mut Pins, second: u64, machine: &Made) -> Vec<String> {
        pins.look(second * SECOND_NS, machine, |_| Some((77, "job.0".to_owned())))
    }

    #[test]
    fn a_thread_whose_cpu_goes_offline_is_reported_and_bound_again_when_it_is_back() {
        let (machine, mut pins) = (Made::new(), Pins::new(vec![vec![], vec![1]]));
        assert!(look(&mut pins, 1, &machine).is_empty());
        machine.unplug();
        let notes = look(&mut pins, 2, &machine);
        assert_eq!(notes, ["job.0: no longer pinned to CPU 1: CPU 1 is offline; it runs on CPU 0"]);
        assert!(look(&mut pins, 3, &machine).is_empty(), "said once");
        assert_eq!((pins.unpinned_ns(1, 4 * SECOND_NS), pins.unpinned_ns(0, 4)), (3 * SECOND_NS, 0));
        machine.plug();
        assert_eq!(look(&mut pins, 5, &machine), ["job.0: pinned to CPU 1 again, after up to 4.0 s"]);
        assert_eq!(*machine.allowed.borrow(), [1]);
        assert!(look(&mut pins, 9, &machine).is_empty());
        assert_eq!(pins.unpinned_ns(1, 10 * SECOND_NS), 4 * SECOND_NS);
    }

    #[test]
    fn a_cpu_that_was_away_between_two_looks_is_noticed_by_what_it_leaves_behind() {
        let (machine, mut pins) = (Made::new(), Pins::new(vec![vec![1]]));
        look(&mut pins, 1, &machine);
        machine.unplug();
        machine.plug();
        let notes = look(&mut pins, 2, &machine);
        assert_eq!(notes.len(), 2, "{notes:?}");
        assert!(notes[0].contains("was offline, or its affinity was changed") && notes[1].contains("again"));
        assert_eq!(*machine.allowed.borrow(), [1]);
    }

    #[test]
    fn one_that_cannot_be_bound_again_is_said_once_and_tried_at_each_look() {
        let (machine, mut pins) = (Made::new(), Pins::new(vec![vec![1]]));
        machine.refuses.set(true);
        machine.plug();
        let notes = look(&mut pins, 1, &machine);
        assert!(notes.len() == 2 && notes[1].contains("outside the cpuset"), "{notes:?}");
        assert!(look(&mut pins, 2, &machine).is_empty());
        machine.refuses.set(false);
        assert_eq!(look(&mut pins, 3, &machine).len(), 1);
        assert_eq!(*machine.allowed.borrow(), [1]);
    }

    #[test]
    fn a_thread_with_several_cpus_stays_on_those_that_are_left() {
        let (machine, mut pins) = (Made::new(), Pins::new(vec![vec![0, 1]]));
        machine.unplug();
        assert!(look(&mut pins, 1, &machine).is_empty());
    }

    #[test]
    fn notes_are_bounded_and_the_time_counts_on() {
        let (machine, mut pins) = (Made::new(), Pins::new(vec![vec![1]]));
        let mut noted = 0;
        for second in 0..100 {
            if second % 2 == 0 {
                machine.unplug()
            } else {
                machine.plug()
            }
            noted += look(&mut pins, 1 + second, &machine).len();
        }
        assert_eq!(noted, MOST_NOTES);
        // The first look does not know since when.
        assert_eq!(pins.unpinned_ns(0, 100 * SECOND_NS), 99 * SECOND_NS);
    }
}
