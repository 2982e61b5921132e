//! What processes that were killed have left in hugetlbfs: files that keep hugepages from everybody.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// What SPDK calls the files of a process that shares them with nobody: `spdk_pid1234map_0`.
const PREFIX: &str = "spdk_pid";

/// Removes the files of processes that are no more. DPDK keeps a lock on those that it uses.
pub(super) fn remove() {
    mounts().iter().for_each(|mount| remove_in(mount, Path::new("/proc")));
}

/// Removes those of this process; what is mapped stays so.
pub(super) fn remove_own() {
    let own = std::process::id();
    for entry in mounts().iter().filter_map(|mount| fs::read_dir(mount).ok()).flatten().flatten() {
        if entry.file_name().to_str().and_then(owner) == Some(own) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn mounts() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let huge = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (_, place, kind) = (words.next()?, words.next()?, words.next()?);
        (kind == "hugetlbfs").then(|| PathBuf::from(place))
    });
    huge.collect()
}

fn remove_in(mount: &Path, proc: &Path) {
    let Ok(entries) = fs::read_dir(mount) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(owner) else { continue };
        if proc.join(pid.to_string()).exists() {
            continue;
        }
        // In another container the process may live, unseen: then the file is locked.
        let Ok(file) = File::open(entry.path()) else { continue };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// The process that made a file of this name.
fn owner(name: &str) -> Option<u32> {
    let (pid, number) = name.strip_prefix(PREFIX)?.split_once("map_")?;
    number.parse::<u32>().ok()?;
    pid.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_dead_processes_that_nobody_locks_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let (mount, proc) = (folder.path().join("huge"), folder.path().join("proc"));
        fs::create_dir_all(proc.join("11")).unwrap();
        fs::create_dir_all(&mount).unwrap();
        for name in
            ["spdk_pid11map_0", "spdk_pid12map_0", "spdk_pid13map_0", "rtemap_0", "spdk_pidmap_0", "notes"]
        {
            fs::write(mount.join(name), "").unwrap();
        }
        let locked = File::open(mount.join("spdk_pid13map_0")).unwrap();
        flock(&locked, FlockOperation::LockShared).unwrap();
        remove_in(&mount, &proc);
        let mut left: Vec<_> =
            fs::read_dir(&mount).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["notes", "rtemap_0", "spdk_pid11map_0", "spdk_pid13map_0", "spdk_pidmap_0"]);
    }
}
