//! How much memory there is to use.

use std::path::Path;

/// Bytes that can be had without swapping: the kernel's MemAvailable, or what the process's cgroup
/// (v2) leaves, whichever is less. `None` where neither is known.
#[must_use]
pub fn available_bytes() -> Option<u64> {
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| mem_available(&text));
    let group = std::fs::read_to_string("/proc/self/cgroup").ok().and_then(|text| cgroup_left(&text));
    match (machine, group) {
        (Some(machine), Some(group)) => Some(machine.min(group)),
        (one, other) => one.or(other),
    }
}

fn mem_available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

fn cgroup_left(cgroup: &str) -> Option<u64> {
    let own = cgroup.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let directory = Path::new("/sys/fs/cgroup").join(own);
    let number = |name: &str| std::fs::read_to_string(directory.join(name)).ok()?.trim().parse::<u64>().ok();
    number("memory.max")?.checked_sub(number("memory.current")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_memory() {
        assert!(available_bytes().unwrap() > 1 << 20);
    }

    #[test]
    fn what_is_no_meminfo_is_unknown() {
        assert_eq!(mem_available("MemAvailable:   2048 kB\n"), Some(2 << 20));
        assert_eq!(mem_available("MemFree: 1 kB\nMemAvailable: many kB"), None);
    }
}
