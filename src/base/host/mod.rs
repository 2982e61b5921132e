//! Facts of the machine: CPUs, memory, block devices and who uses them.

pub mod affinity;
pub mod block;
pub mod claims;
pub mod memory;
pub mod nvme;
pub mod signature;
mod sysfs;
pub mod target;
pub mod thread_use;

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
