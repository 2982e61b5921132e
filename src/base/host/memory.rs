//! How much memory there is to use.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::Sysfs;
use crate::base::units::format_size;

/// Something that limits how much more memory this process can take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryLimit {
    /// Bytes that it leaves.
    pub left_bytes: u64,
    /// What it is, for a sentence: `this machine has 3.2GiB available`.
    pub says: String,
    /// Whether it counts addresses, used or not, and not memory.
    pub is_of_addresses: bool,
}

/// All limits that are known: the kernel's MemAvailable, the memory.max of each control group of this process (v2)
/// and the limit of its address space.
#[must_use]
pub fn limits(sysfs: &Sysfs) -> Vec<MemoryLimit> {
    let limit = |left_bytes: u64, says: String| MemoryLimit { left_bytes, says, is_of_addresses: false };
    let machine = read(&sysfs.proc.join("meminfo")).and_then(|text| meminfo(&text, "MemAvailable:"));
    let machine =
        machine.map(|left| limit(left, format!("this machine has {} available", format_size(left))));
    let groups = groups(sysfs).into_iter().map(|(path, left)| {
        let name = path.strip_prefix(sysfs.sys.join("fs/cgroup")).unwrap_or(&path).display().to_string();
        limit(left, format!("memory.max of the control group /{name} leaves {}", format_size(left)))
    });
    let addresses =
        [(Resource::As, 0, "address space (ulimit -v)"), (Resource::Data, 5, "private memory (ulimit -d)")];
    let addresses = addresses.into_iter().filter_map(|(resource, field, what)| {
        let left = left_of(sysfs, resource, field)?;
        let says = format!("the limit of its {what} leaves {}", format_size(left));
        Some(MemoryLimit { left_bytes: left, says, is_of_addresses: true })
    });
    machine.into_iter().chain(groups).chain(addresses).collect()
}

/// Limits the private memory of this process to `most_bytes`, stacks of threads included, and has the kernel end it
/// before any other program where memory runs out.
///
/// # Errors
/// If the system refuses; in a sentence.
pub fn confine(most_bytes: u64) -> Result<(), String> {
    // Also without a limit of its own: better this process than another one. Anybody may raise it.
    fs::write("/proc/self/oom_score_adj", "1000")
        .map_err(|why| format!("/proc/self/oom_score_adj: {why}"))?;
    if most_bytes == u64::MAX {
        return Ok(());
    }
    let most = getrlimit(Resource::Data).maximum.map_or(most_bytes, |most| most.min(most_bytes));
    let limit = Rlimit { current: Some(most), maximum: Some(most) };
    setrlimit(Resource::Data, limit).map_err(|why| format!("a limit of {most} bytes of memory: {why}"))
}

/// How many processes the kernel has ended since the start of the machine because memory ran out.
#[must_use]
pub fn oom_kills(sysfs: &Sysfs) -> Option<u64> {
    let counts = read(&sysfs.proc.join("vmstat"))?;
    counts.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

/// Bytes of memory that the machine has.
#[must_use]
pub fn total_bytes(sysfs: &Sysfs) -> Option<u64> {
    read(&sysfs.proc.join("meminfo")).and_then(|text| meminfo(&text, "MemTotal:"))
}

fn read(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok()
}

fn meminfo(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The control groups of this process that have a limit, and what each leaves: a group is limited by those above it.
fn groups(sysfs: &Sysfs) -> Vec<(PathBuf, u64)> {
    let root = sysfs.sys.join("fs/cgroup");
    let own = read(&sysfs.proc.join("self/cgroup"));
    let own = own.as_deref().and_then(|text| text.lines().find_map(|line| line.strip_prefix("0::/")));
    let Some(own) = own else { return Vec::new() };
    let own = root.join(own);
    let groups = own.ancestors().take_while(|path| path.starts_with(&root));
    groups.filter_map(|group| Some((group.to_owned(), left_in(group)?))).collect()
}

fn left_in(group: &Path) -> Option<u64> {
    let number = |name: &str| read(&group.join(name))?.trim().parse::<u64>().ok();
    let most = number("memory.max")?;
    // The pages of files count as used, and are given back when memory is asked for.
    let stat = read(&group.join("memory.stat")).unwrap_or_default();
    let of_files = |name: &str| {
        let line = stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|number| number.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    let given_back = of_files("inactive_file") + of_files("active_file") + of_files("slab_reclaimable");
    Some(most.saturating_sub(number("memory.current")?.saturating_sub(given_back)))
}

/// What a limit of this process leaves; `field` is the one of `/proc/self/statm` that the kernel holds against it.
fn left_of(sysfs: &Sysfs, resource: Resource, field: usize) -> Option<u64> {
    let most = getrlimit(resource).current?;
    let used = read(&sysfs.proc.join("self/statm"));
    let pages: Option<u64> = used.and_then(|text| text.split_whitespace().nth(field)?.parse().ok());
    let page = rustix::param::page_size() as u64;
    Some(most.saturating_sub(pages.unwrap_or(0).saturating_mul(page)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_memory() {
        let limits = limits(&Sysfs::default());
        assert!(limits.iter().all(|limit| limit.left_bytes > 1 << 20) && !limits.is_empty(), "{limits:?}");
        assert!(total_bytes(&Sysfs::default()).unwrap() > 1 << 20);
    }

    #[test]
    fn what_is_not_a_meminfo_is_unknown() {
        assert_eq!(meminfo("MemAvailable:   2048 kB\n", "MemAvailable:"), Some(2 << 20));
        assert_eq!(meminfo("MemFree: 1 kB\nMemAvailable: many kB", "MemAvailable:"), None);
    }

    #[test]
    fn every_group_above_limits_and_pages_of_files_are_given_back() {
        let root = tempfile::tempdir().unwrap();
        let sysfs = Sysfs::under(root.path());
        let group = root.path().join("sys/fs/cgroup/outer/inner");
        fs::create_dir_all(&group).unwrap();
        fs::create_dir_all(root.path().join("proc/self")).unwrap();
        fs::write(root.path().join("proc/self/cgroup"), "1:cpu:/x\n0::/outer/inner\n").unwrap();
        fs::write(group.join("memory.max"), "max\n").unwrap();
        let outer = group.parent().unwrap();
        fs::write(outer.join("memory.max"), "1000\n").unwrap();
        fs::write(outer.join("memory.current"), "900\n").unwrap();
        fs::write(outer.join("memory.stat"), "anon 100\ninactive_file 500\nactive_file 200\n").unwrap();
        fs::write(root.path().join("proc/meminfo"), "MemTotal: 9 kB\nMemAvailable: 4 kB\n").unwrap();
        let limits = limits(&sysfs);
        assert_eq!((limits[0].left_bytes, limits[1].left_bytes), (4096, 800));
        assert!(limits[1].says.contains("/outer leaves 800"), "{limits:?}");
    }
}
