//! What the scheduler, the I/O scheduler and the memory management of the kernel think of one thread:
//! its name, its nice value, its I/O priority, the NUMA nodes of its memory. All of it is gone with the
//! thread.

#![allow(unsafe_code, reason = "ioprio_set(2) and set_mempolicy(2), which no crate has")]

use std::fmt;

use rustix::io::Errno;
use rustix::process::{getpriority_process, setpriority_process};

use super::{Sysfs, numa};

/// A class of I/O priority (ionice(1)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IoClass {
    /// None of its own: by the nice value.
    #[default]
    None,
    /// Before all others. Needs CAP_SYS_ADMIN or CAP_SYS_NICE.
    RealTime,
    /// The usual one.
    BestEffort,
    /// Only when nobody else wants anything.
    Idle,
}

/// An I/O priority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoPriority {
    /// fio's `prioclass`. With a level and without a class it is best effort.
    pub class: IoClass,
    /// fio's `prio`: from 0, the highest, to 7.
    pub level: u8,
    /// fio's `priohint`: from 0 to 1023.
    pub hint: u16,
}

impl IoPriority {
    /// As the kernel has it: three bits of class, ten of hint, three of level.
    #[must_use]
    pub fn value(self) -> u16 {
        let class = match self.class {
            // A level alone is one of the usual class.
            IoClass::None | IoClass::BestEffort => 2,
            IoClass::RealTime => 1,
            IoClass::Idle => 3,
        };
        class << 13 | (self.hint & 0x3ff) << 3 | u16::from(self.level & 7)
    }
}

impl fmt::Display for IoPriority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let class = match self.class {
            IoClass::None | IoClass::BestEffort => "best-effort",
            IoClass::RealTime => "realtime",
            IoClass::Idle => "idle",
        };
        write!(f, "class {class}, level {}, hint {}", self.level, self.hint)
    }
}

/// NUMA nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Nodes {
    /// All that are online.
    All,
    /// These, rising.
    These(Vec<u32>),
}

/// Where the memory of a thread comes from (set_mempolicy(2)).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum MemoryPolicy {
    /// The kernel's default.
    #[default]
    Default,
    /// The node of the CPU that touches it first.
    Local,
    /// This node, and others where it has none left.
    Prefer(u32),
    /// These nodes and no others.
    Bind(Nodes),
    /// These nodes in turn, page by page.
    Interleave(Nodes),
}

/// What a thread is to have. Nothing by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThreadSettings {
    /// Its name, at most 15 bytes of it; fio's `comm`.
    pub name: Option<String>,
    /// Added to the nice value of the process, as nice(2) does.
    pub nice: i32,
    /// I/O priority.
    pub io_priority: Option<IoPriority>,
    /// NUMA nodes of its memory.
    pub memory: MemoryPolicy,
}

impl ThreadSettings {
    /// Sets all but the name for the calling thread.
    ///
    /// # Errors
    /// If the kernel refuses one: a sentence with the option's name.
    pub fn apply(&self, sysfs: &Sysfs) -> Result<(), String> {
        if self.nice != 0 {
            let why = |error: Errno| match error {
                Errno::ACCESS | Errno::PERM => format!(
                    "nice = {}: going below the nice value that the program was started with needs CAP_SYS_NICE \
                     or a higher limit (ulimit -e)",
                    self.nice
                ),
                other => format!("nice = {}: {other}", self.nice),
            };
            let now = getpriority_process(None).map_err(why)?;
            setpriority_process(None, (now + self.nice).clamp(-20, 19)).map_err(why)?;
        }
        if let Some(priority) = self.io_priority {
            set_io_priority(priority).map_err(|error| match error.raw_os_error() {
                Some(libc::EPERM) => format!(
                    "I/O priority ({priority}): prioclass = \"realtime\" needs CAP_SYS_ADMIN or CAP_SYS_NICE"
                ),
                Some(libc::EINVAL) => {
                    format!("I/O priority ({priority}): this kernel does not take it (hints need Linux 6.5)")
                }
                _ => format!("I/O priority ({priority}): {error}"),
            })?;
        }
        self.memory.apply(sysfs)
    }
}

impl MemoryPolicy {
    fn apply(&self, sysfs: &Sysfs) -> Result<(), String> {
        let (mode, nodes) = match self {
            MemoryPolicy::Default => return Ok(()),
            MemoryPolicy::Local => (libc::MPOL_LOCAL, Vec::new()),
            MemoryPolicy::Prefer(node) => (libc::MPOL_PREFERRED, vec![*node]),
            MemoryPolicy::Bind(nodes) => (libc::MPOL_BIND, numa::chosen(sysfs, nodes)?),
            MemoryPolicy::Interleave(nodes) => (libc::MPOL_INTERLEAVE, numa::chosen(sysfs, nodes)?),
        };
        if let Some(missing) = nodes.iter().find(|node| !numa::online(sysfs).contains(node)) {
            return Err(format!(
                "numa_mem_policy: there is no NUMA node {missing} (there are {:?})",
                numa::online(sysfs)
            ));
        }
        set_memory_policy(mode, &nodes).map_err(|error| match error.raw_os_error() {
            Some(libc::ENOSYS) => "numa_mem_policy: this kernel knows no NUMA nodes".to_owned(),
            Some(libc::EINVAL) => format!(
                "numa_mem_policy: nodes {nodes:?} have no memory that this process may use (a cpuset?)"
            ),
            _ => format!("numa_mem_policy: {error}"),
        })
    }
}

fn set_io_priority(priority: IoPriority) -> std::io::Result<()> {
    const WHO_PROCESS: libc::c_long = 1;
    const CALLER: libc::c_long = 0;
    // SAFETY: the call takes numbers only.
    let result = unsafe {
        libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, CALLER, libc::c_long::from(priority.value()))
    };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Bits in the mask of nodes: more than the 1024 that a kernel can be built for.
const MASK_BITS: usize = 1088;

fn set_memory_policy(mode: libc::c_int, nodes: &[u32]) -> std::io::Result<()> {
    let mut mask = [0_u64; MASK_BITS / 64];
    for &node in nodes {
        if let Some(word) = mask.get_mut(node as usize / 64) {
            *word |= 1 << (node % 64);
        }
    }
    let (pointer, bits) = if nodes.is_empty() { (std::ptr::null(), 0) } else { (mask.as_ptr(), 1025) };
    // SAFETY: the mask has at least as many bits as the kernel is told, or there is none.
    let result = unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, pointer, bits) };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_priority_is_packed_as_the_kernel_has_it() {
        let priority = |class, level, hint| IoPriority { class, level, hint }.value();
        assert_eq!(priority(IoClass::RealTime, 3, 0), 1 << 13 | 3);
        assert_eq!(priority(IoClass::None, 5, 0), 2 << 13 | 5);
        assert_eq!(priority(IoClass::Idle, 0, 7), 3 << 13 | 7 << 3);
    }

    #[test]
    fn settings_are_those_of_one_thread() {
        let before = getpriority_process(None).unwrap();
        let settings = ThreadSettings { nice: 3, memory: MemoryPolicy::Local, ..ThreadSettings::default() };
        std::thread::spawn(move || {
            // A kernel without NUMA says so.
            if let Err(why) = settings.apply(&Sysfs::default()) {
                assert!(why.starts_with("numa_mem_policy"), "{why}");
            }
            assert_eq!(getpriority_process(None).unwrap(), (before + 3).min(19));
        })
        .join()
        .unwrap();
        assert_eq!(getpriority_process(None).unwrap(), before);
    }

    #[test]
    fn a_node_that_is_not_there_is_named() {
        let settings = ThreadSettings {
            memory: MemoryPolicy::Bind(Nodes::These(vec![900])),
            ..ThreadSettings::default()
        };
        let why = std::thread::spawn(move || settings.apply(&Sysfs::default())).join().unwrap().unwrap_err();
        assert!(why.contains("no NUMA node 900"), "{why}");
    }
}
