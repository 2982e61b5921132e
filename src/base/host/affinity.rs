//! CPUs that threads may run on.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The CPUs that this process may use, rising.
///
/// # Errors
/// If the kernel does not say: a sentence.
pub fn available() -> Result<Vec<u32>, String> {
    let set = sched_getaffinity(None).map_err(|error| format!("cannot tell the usable CPUs: {error}"))?;
    let cpus = (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu));
    Ok(cpus.filter_map(|cpu| u32::try_from(cpu).ok()).collect())
}

/// Binds the calling thread to `cpus`.
///
/// # Errors
/// If one of them is offline or outside the process's cpuset: a sentence.
pub fn bind(cpus: &[u32]) -> Result<(), String> {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        let cpu = cpu as usize;
        if cpu >= CpuSet::MAX_CPU {
            return Err(format!("CPU {cpu} is beyond the {} that can be named", CpuSet::MAX_CPU));
        }
        set.set(cpu);
    }
    sched_setaffinity(None, &set).map_err(|error| {
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
