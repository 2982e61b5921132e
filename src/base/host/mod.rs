//! Facts of the machine: CPUs, memory, block devices and who uses them.
//!
//! What is read from sysfs and procfs is read through [`Sysfs`], so that tests can show the code
//! machines which the test machine is not.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub mod affinity;
pub mod allocation;
pub mod beneath;
pub mod binding;
pub mod block;
pub mod cgroup;
pub mod claims;
pub mod cpu_time;
pub mod disk_util;
pub mod flush_path;
pub mod hugepages;
pub mod identity;
pub mod mapping;
pub mod memory;
pub mod numa;
pub mod nvme;
pub mod nvme_admin;
pub mod output_file;
pub mod pci;
pub mod pin;
pub mod scheduler;
pub mod signature;
pub mod target;
pub mod target_lock;
pub mod thread_settings;
pub mod thread_use;
pub mod userspace;

#[cfg(test)]
mod binding_machines;
#[cfg(test)]
mod machines;

pub use crate::base::printable::printable;
pub use block::{BlockDevice, DeviceNumber};
pub use target::{Consent, Guard, Refusal, WriteOptions, check_writable};

/// What a block device says of itself, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceSummary {
    /// Kernel name, `nvme0n1` for instance.
    pub name: String,
    /// Model.
    pub model: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
    /// Firmware revision.
    pub firmware: Option<String>,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Logical block in bytes.
    pub lba_bytes: u32,
    /// NUMA node, where the machine has several.
    pub numa_node: Option<u32>,
    /// `write back` (volatile cache on) or `write through`, as the kernel's queue/write_cache says.
    pub write_cache: Option<String>,
}

/// Where the kernel tells of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sysfs {
    /// `/sys`.
    pub sys: PathBuf,
    /// `/proc`.
    pub proc: PathBuf,
    /// `/dev`.
    pub dev: PathBuf,
}

impl Default for Sysfs {
    fn default() -> Sysfs {
        Sysfs { sys: "/sys".into(), proc: "/proc".into(), dev: "/dev".into() }
    }
}

impl Sysfs {
    /// A machine described in a directory with `sys`, `proc` and `dev`.
    #[must_use]
    pub fn under(root: &Path) -> Sysfs {
        Sysfs { sys: root.join("sys"), proc: root.join("proc"), dev: root.join("dev") }
    }

    /// The mount table of this process.
    ///
    /// # Errors
    /// If it cannot be read: then nobody knows what is mounted.
    pub fn mountinfo(&self) -> io::Result<String> {
        read_lossy(&self.proc.join("self/mountinfo"))
    }

    /// The swap table; empty where the kernel has no swap.
    ///
    /// # Errors
    /// If it is there and cannot be read.
    pub fn swaps(&self) -> io::Result<String> {
        match read_lossy(&self.proc.join("swaps")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            other => other,
        }
    }

    /// A path that the kernel gave (`/sys/fs/cgroup`), below the roots of this description.
    #[must_use]
    pub fn locate(&self, path: &Path) -> PathBuf {
        for (prefix, root) in [("/sys", &self.sys), ("/proc", &self.proc), ("/dev", &self.dev)] {
            if let Ok(rest) = path.strip_prefix(prefix) {
                return root.join(rest);
            }
        }
        path.to_owned()
    }
}

/// A file of the kernel as text: mount points and models need not be UTF-8.
fn read_lossy(path: &Path) -> io::Result<String> {
    let bytes = fs::read(path)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// An attribute without the blanks around it; `None` if it is missing, unreadable or empty.
fn attribute(path: &Path) -> Option<String> {
    let text = read_lossy(path).ok()?;
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    (!text.is_empty()).then(|| text.to_owned())
}

/// An attribute that is a number.
fn number<T: std::str::FromStr>(path: &Path) -> Option<T> {
    attribute(path)?.parse().ok()
}

/// The names in a directory, sorted as people count (`sda2` before `sda10`); none if it is missing.
fn names(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned())).collect();
    names.sort_by_cached_key(|name| natural_key(name));
    names
}

/// A key that sorts runs of digits by value.
fn natural_key(name: &str) -> Vec<(String, u64)> {
    let mut key = vec![(String::new(), 0_u64)];
    let mut in_digits = false;
    for c in name.chars() {
        if let Some(digit) = c.to_digit(10) {
            in_digits = true;
            if let Some(last) = key.last_mut() {
                last.1 = last.1.saturating_mul(10).saturating_add(u64::from(digit));
            }
        } else {
            if in_digits {
                key.push((String::new(), 0));
                in_digits = false;
            }
            if let Some(last) = key.last_mut() {
                last.0.push(c);
            }
        }
    }
    key
}

/// The last part of where a symbolic link points.
fn link_name(path: &Path) -> Option<String> {
    Some(fs::read_link(path).ok()?.file_name()?.to_string_lossy().into_owned())
}
