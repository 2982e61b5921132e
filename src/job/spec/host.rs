//! What a worker asks of the machine: memory, priorities, schedulers, commands before and after.

use crate::base::host::cgroup::GroupSpec;
use crate::base::host::mapping::BufferMemory;
use crate::base::host::thread_settings::{IoClass, IoPriority, MemoryPolicy, Nodes, ThreadSettings};

/// What a worker asks of the machine: memory, priorities, schedulers, commands before and after.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostSpec {
    /// `numa_cpu_nodes`: run on the CPUs of these nodes.
    pub cpu_nodes: Option<Nodes>,
    /// `numa_mem_policy`.
    pub memory_policy: MemoryPolicy,
    /// `nice`: added to the nice value of the process; from -20 to 19.
    pub nice: i32,
    /// `prio`: from 0, the highest, to 7.
    pub prio: Option<u32>,
    /// `prioclass`.
    pub prio_class: IoClass,
    /// `priohint`: from 0 to 1023.
    pub prio_hint: u32,
    /// `mem`, `iomem_align`, `hugepage_size`.
    pub memory: BufferMemory,
    /// `lockmem`: bytes pinned for each worker.
    pub lock_bytes: u64,
    /// `cgroup` and its like. The same in all jobs of a run.
    pub group: GroupSpec,
    /// `ioscheduler` of the disks below the targets.
    pub io_scheduler: Option<String>,
    /// `exec_prerun`: for `sh -c`, before the job.
    pub prerun: Option<String>,
    /// `exec_postrun`: for `sh -c`, after the job.
    pub postrun: Option<String>,
    /// `comm`: the name of its threads.
    pub comm: Option<String>,
}

impl HostSpec {
    /// The I/O priority of its threads, where one is asked for.
    #[must_use]
    pub fn io_priority(&self) -> Option<IoPriority> {
        let asked = self.prio.is_some() || self.prio_class != IoClass::None || self.prio_hint > 0;
        asked.then(|| IoPriority {
            class: self.prio_class,
            level: u8::try_from(self.prio.unwrap_or(0)).unwrap_or(7),
            hint: u16::try_from(self.prio_hint).unwrap_or(0),
        })
    }

    /// What its threads are to have.
    #[must_use]
    pub fn thread_settings(&self) -> ThreadSettings {
        ThreadSettings {
            name: self.comm.clone(),
            nice: self.nice,
            io_priority: self.io_priority(),
            memory: self.memory_policy.clone(),
        }
    }

    /// What its buffers are made of, where they are not the engine's own. A policy holds for fresh memory
    /// only: what the allocator has had before lies where it lies.
    #[must_use]
    pub fn buffer_memory(&self) -> Option<BufferMemory> {
        let asked = self.memory != BufferMemory::default() || self.memory_policy != MemoryPolicy::Default;
        asked.then(|| self.memory.clone())
    }
}
