//! Memory for buffers straight from the kernel: anonymous, in a file, in a segment of System V, in
//! pages of ordinary size or in hugepages; and memory that is pinned so that others have less.

#![allow(unsafe_code, reason = "mmap, shmat and what undoes them")]

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags};

use crate::base::units::format_size;

/// What the memory of buffers is; fio's `mem`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemoryKind {
    /// The allocator's.
    #[default]
    Malloc,
    /// mmap(2), private.
    Mmap,
    /// mmap(2), shared.
    MmapShared,
    /// mmap(2) of hugepages.
    MmapHuge,
    /// A segment of System V (shmget(2)).
    Shm,
    /// The same in hugepages.
    ShmHuge,
}

impl MemoryKind {
    /// Whether it takes hugepages.
    #[must_use]
    pub fn is_huge(self) -> bool {
        matches!(self, MemoryKind::MmapHuge | MemoryKind::ShmHuge)
    }
}

/// What the memory of a worker's buffers is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BufferMemory {
    /// fio's `mem`.
    pub kind: MemoryKind,
    /// Where the file behind it is made, for the kinds of mmap(2).
    pub path: Option<PathBuf>,
    /// fio's `iomem_align`, in bytes: the alignment of the first buffer where it is a power of two of a
    /// page or more, and else how far behind the boundary of a page each begins.
    pub align: u32,
    /// Bytes of a hugepage, where it is not the machine's usual size.
    pub huge_bytes: Option<u64>,
}

/// The size of a page, which is also the alignment of what is not asked for otherwise.
pub const PAGE: usize = 4096;

impl BufferMemory {
    /// What the first buffer is a multiple of, and how far behind that it begins, in bytes.
    #[must_use]
    pub fn alignment(&self) -> (usize, usize) {
        let align = self.align as usize;
        if align >= PAGE && align.is_power_of_two() { (align, 0) } else { (PAGE, align % PAGE) }
    }

    /// What is asked of the kernel for buffers of so many bytes in all.
    #[must_use]
    pub fn total(&self, bytes: usize) -> Option<usize> {
        let (align, shift) = self.alignment();
        let bytes = bytes.checked_add(align - PAGE)?.checked_add(if shift > 0 { PAGE } else { 0 })?;
        let page = self.page_bytes();
        Some(bytes.checked_next_multiple_of(page)?.max(page))
    }

    /// Bytes of its pages.
    #[must_use]
    pub fn page_bytes(&self) -> usize {
        if !self.kind.is_huge() {
            return PAGE;
        }
        let asked = self.huge_bytes.or_else(|| usual_huge_bytes(Path::new("/proc/meminfo")));
        asked.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(2 << 20)
    }
}

/// The size of hugepages where nothing is said.
#[must_use]
pub fn usual_huge_bytes(meminfo: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(meminfo).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Hugepagesize:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Zeroed memory of the kernel's, present from the start.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
    is_segment: bool,
}

impl Mapping {
    /// Memory of that kind, for buffers of so many bytes in all.
    ///
    /// # Errors
    /// If it cannot be had: a sentence that says how much it was and what to do.
    pub fn new(memory: &BufferMemory, bytes: usize) -> Result<Mapping, String> {
        let bytes =
            memory.total(bytes).ok_or("no machine has so much memory: lower iodepth, bs or numjobs")?;
        let page = memory.page_bytes();
        let why = |error: &dyn std::fmt::Display| {
            let size = format_size(bytes as u64);
            if memory.kind.is_huge() {
                let page = format_size(page as u64);
                format!(
                    "no {size} of memory in hugepages of {page}: {error}: reserve more (/proc/sys/vm/nr_hugepages, \
                     /sys/kernel/mm/hugepages), or lower iodepth, bs or numjobs"
                )
            } else {
                format!("no {size} of memory: {error}: lower iodepth, bs or numjobs")
            }
        };
        if matches!(memory.kind, MemoryKind::Shm | MemoryKind::ShmHuge) {
            return segment(bytes, memory.kind.is_huge().then_some(page)).map_err(|error| why(&error));
        }
        let mut flags = match memory.kind {
            MemoryKind::MmapShared => MapFlags::SHARED,
            _ => MapFlags::PRIVATE,
        };
        let file = match &memory.path {
            Some(path) => Some(unnamed(path, bytes, memory.kind)?),
            None => None,
        };
        if memory.kind == MemoryKind::MmapHuge && file.is_none() {
            // Where the size of a hugepage stands in the flags of mmap(2).
            const HUGE_SHIFT: u32 = 26;
            flags |= MapFlags::HUGETLB | MapFlags::from_bits_retain(page.trailing_zeros() << HUGE_SHIFT);
        }
        let rights = ProtFlags::READ | ProtFlags::WRITE;
        let start = match &file {
            // SAFETY: the kernel chooses the place, so that nothing is there that could be mapped over.
            Some(file) => unsafe { rustix::mm::mmap(std::ptr::null_mut(), bytes, rights, flags, file, 0) },
            // SAFETY: as above.
            None => unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), bytes, rights, flags) },
        };
        let start = start.map_err(|error| why(&error))?;
        let start = NonNull::new(start.cast::<u8>()).ok_or_else(|| why(&"nothing there"))?;
        let mapping = Mapping { start, bytes, is_segment: false };
        mapping.populate().map_err(|error| why(&error))?;
        Ok(mapping)
    }

    /// Takes its pages now: what is missing is told here, instead of by a signal at the first I/O.
    fn populate(&self) -> Result<(), Errno> {
        // SAFETY: the pages are this mapping's, and what they hold stays as it is.
        match unsafe {
            rustix::mm::madvise(self.start.as_ptr().cast(), self.bytes, Advice::LinuxPopulateWrite)
        } {
            // Before Linux 5.14 the first touch takes them.
            Err(Errno::INVAL) => Ok(()),
            other => other,
        }
    }

    /// Where it begins.
    #[must_use]
    pub fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// How many bytes it has.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.is_segment {
            // SAFETY: attached in `segment`, and nobody else knows the address.
            unsafe { libc::shmdt(self.start.as_ptr().cast()) };
        } else {
            // SAFETY: mapped in `new` with this length, and nobody else knows the address.
            let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.bytes) };
        }
    }
}

/// A segment of System V that is gone when this process lets go of it.
fn segment(bytes: usize, page: Option<usize>) -> Result<Mapping, std::io::Error> {
    // SHM_HUGETLB of linux/shm.h, and where the size of the page stands beside it.
    const HUGETLB: i32 = 0o4000;
    const HUGE_SHIFT: u32 = 26;
    let huge =
        page.map_or(0, |page| HUGETLB | i32::try_from(page.trailing_zeros() << HUGE_SHIFT).unwrap_or(0));
    // SAFETY: the call takes numbers only.
    let id = unsafe { libc::shmget(libc::IPC_PRIVATE, bytes, libc::IPC_CREAT | 0o600 | huge) };
    if id < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the kernel chooses the place.
    let start = unsafe { libc::shmat(id, std::ptr::null(), 0) };
    let attached = std::io::Error::last_os_error();
    // SAFETY: the segment is this call's own; it stays until the last process lets go of it.
    unsafe { libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) };
    let start = NonNull::new(start.cast::<u8>()).filter(|start| start.as_ptr().addr() != usize::MAX);
    let mapping = Mapping { start: start.ok_or(attached)?, bytes, is_segment: true };
    mapping.populate()?;
    Ok(mapping)
}

/// A new file of that length at `path`, or in the directory of that name, whose name is gone already: of
/// several workers each has its own, and none stays behind.
fn unnamed(path: &Path, bytes: usize, kind: MemoryKind) -> Result<File, String> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let own = format!("{}.{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let place = if path.is_dir() {
        path.join(format!("fio-spdk.{own}"))
    } else {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{own}"));
        PathBuf::from(name)
    };
    let shown = place.display();
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&place);
    let file = file.map_err(|error| format!("mem: cannot make {shown} for buffers: {error}"))?;
    let _ = std::fs::remove_file(&place);
    let is_huge = rustix::fs::fstatfs(&file).is_ok_and(|about| about.f_type == HUGETLBFS);
    if is_huge != (kind == MemoryKind::MmapHuge) {
        return Err(if is_huge {
            format!("mem: {} lies in hugetlbfs: say mem = \"mmaphuge:...\"", path.display())
        } else {
            format!("mem: {} does not lie in a mounted hugetlbfs, as mmaphuge needs", path.display())
        });
    }
    let sized = file.set_len(bytes as u64).and_then(|()| {
        match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes as u64) {
            // Then the pages are taken when they are touched.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            other => other.map_err(std::io::Error::from),
        }
    });
    sized.map_err(|error| {
        format!("mem: no {} on the file system of {shown}: {error}", format_size(bytes as u64))
    })?;
    Ok(file)
}

/// HUGETLBFS_MAGIC of linux/magic.h.
const HUGETLBFS: rustix::fs::FsWord = 0x9584_58f6;

/// Memory that is there and stays there, so that the rest of the machine has less; fio's `lockmem`.
#[derive(Debug)]
pub struct Pinned {
    _memory: Mapping,
}

impl Pinned {
    /// So many bytes, rounded up to pages.
    ///
    /// # Errors
    /// If they cannot be had, or not be pinned: a sentence.
    pub fn new(bytes: u64) -> Result<Pinned, String> {
        let why = |error: &dyn std::fmt::Display| {
            format!("lockmem: {} cannot be pinned: {error}", format_size(bytes))
        };
        let length = usize::try_from(bytes).map_err(|error| why(&error))?;
        let memory = BufferMemory { kind: MemoryKind::Mmap, ..BufferMemory::default() };
        let mapping = Mapping::new(&memory, length).map_err(|error| why(&error))?;
        // SAFETY: the pages are this mapping's.
        unsafe { rustix::mm::mlock(mapping.start.as_ptr().cast(), mapping.bytes) }
            .map_err(|error| format!("{} (ulimit -l, or CAP_IPC_LOCK)", why(&error)))?;
        Ok(Pinned { _memory: mapping })
    }
}

/// How much this process may pin; `None` for as much as there is.
#[must_use]
pub fn most_pinned() -> Option<u64> {
    const IPC_LOCK: u64 = 14;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let rights = line.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0);
    if rights >> IPC_LOCK & 1 == 1 {
        return None;
    }
    rustix::process::getrlimit(rustix::process::Resource::Memlock).current
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(kind: MemoryKind) -> BufferMemory {
        BufferMemory { kind, ..BufferMemory::default() }
    }

    #[test]
    fn each_kind_of_ordinary_pages_can_be_had() {
        let place = tempfile::tempdir().unwrap();
        for kind in [MemoryKind::Mmap, MemoryKind::MmapShared, MemoryKind::Shm] {
            let mapping = Mapping::new(&memory(kind), 10_000).unwrap();
            assert_eq!(mapping.bytes(), 12_288);
        }
        let in_a_file = |path| BufferMemory { path: Some(path), ..memory(MemoryKind::MmapShared) };
        let named = Mapping::new(&in_a_file(place.path().join("buffers")), 5000).unwrap();
        let beside = Mapping::new(&in_a_file(place.path().to_owned()), 5000).unwrap();
        assert_eq!((named.bytes(), beside.bytes()), (8192, 8192));
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0, "a file was left behind");
    }

    #[test]
    fn hugepages_need_a_file_system_of_theirs() {
        let place = tempfile::tempdir().unwrap();
        let memory = BufferMemory { path: Some(place.path().to_owned()), ..memory(MemoryKind::MmapHuge) };
        assert!(Mapping::new(&memory, 5000).unwrap_err().contains("hugetlbfs"));
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
    }

    #[test]
    fn alignments_are_those_of_the_first_buffer_and_shifts_those_of_all() {
        let aligned = |align| BufferMemory { align, ..BufferMemory::default() };
        assert_eq!(aligned(0).alignment(), (PAGE, 0));
        assert_eq!(aligned(512).alignment(), (PAGE, 512));
        assert_eq!(aligned(2 << 20).alignment(), (2 << 20, 0));
        assert_eq!(aligned(4096 + 512).alignment(), (PAGE, 512));
        assert_eq!(aligned(2 << 20).total(4096), Some(2 << 20));
        assert_eq!(aligned(512).total(4096), Some(8192));
    }

    #[test]
    fn a_little_can_be_pinned() {
        if most_pinned().is_none_or(|most| most >= 4096) {
            Pinned::new(4096).unwrap();
        }
    }
}
