//! CPUs that threads may run on.

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::numa::parse_list;
use super::{Sysfs, attribute};

/// The CPUs that this process may use, rising.
///
/// # Errors
/// If the kernel does not say: a sentence.
pub fn available() -> Result<Vec<u32>, String> {
    usable(None)
}

/// The CPUs that a thread of this process may use, rising; those that are offline are not among them.
///
/// # Errors
/// If the thread has ended, or the kernel does not say: a sentence.
pub fn of_thread(thread: i32) -> Result<Vec<u32>, String> {
    usable(Some(Pid::from_raw(thread).ok_or("a thread has a number above 0")?))
}

fn usable(thread: Option<Pid>) -> Result<Vec<u32>, String> {
    let set = sched_getaffinity(thread).map_err(|error| format!("cannot tell the usable CPUs: {error}"))?;
    let cpus = (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu));
    Ok(cpus.filter_map(|cpu| u32::try_from(cpu).ok()).collect())
}

/// The CPUs that are online, rising; none where the kernel does not say.
#[must_use]
pub fn online(sysfs: &Sysfs) -> Vec<u32> {
    let list = attribute(&sysfs.sys.join("devices/system/cpu/online"));
    list.and_then(|list| parse_list(&list)).unwrap_or_default()
}

/// Binds the calling thread to `cpus`.
///
/// # Errors
/// If none of them is online and inside the process's cpuset: a sentence.
pub fn bind(cpus: &[u32]) -> Result<(), String> {
    bind_to(None, cpus)
}

/// Binds a thread of this process to `cpus`.
///
/// # Errors
/// If the thread has ended, or see [`bind`].
pub fn bind_thread(thread: i32, cpus: &[u32]) -> Result<(), String> {
    bind_to(Some(Pid::from_raw(thread).ok_or("a thread has a number above 0")?), cpus)
}

fn bind_to(thread: Option<Pid>, cpus: &[u32]) -> Result<(), String> {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        let cpu = cpu as usize;
        if cpu >= CpuSet::MAX_CPU {
            return Err(format!("CPU {cpu} is beyond the {} that can be named", CpuSet::MAX_CPU));
        }
        set.set(cpu);
    }
    sched_setaffinity(thread, &set).map_err(|error| {
        format!("cannot bind a thread to CPU {cpus:?}: {error} (offline, or outside the cpuset?)")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_can_be_bound_to_a_cpu_it_may_use_and_to_no_other() {
        std::thread::spawn(|| {
            let first = available().unwrap()[0];
            bind(&[first]).unwrap();
            assert_eq!(available().unwrap(), [first]);
            assert!(bind(&[1023]).unwrap_err().contains("1023"));
        })
        .join()
        .unwrap();
    }
}
