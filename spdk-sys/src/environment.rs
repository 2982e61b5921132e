//! The environment: hugepages, PCI, memory that devices can reach, SPDK's log.

use std::ffi::{CStr, CString};
use std::ptr::NonNull;

use crate::bindings;
use crate::errno;

/// How SPDK is started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// The core that the starting thread is bound to.
    pub core: u32,
    /// A hugetlbfs mount; `None` for any.
    pub huge_dir: Option<CString>,
    /// `pa` or `va`; `None` for DPDK's choice.
    pub iova_mode: Option<CString>,
    /// MiB of hugepages; `None` for as many as are needed.
    pub mem_size_mb: Option<u32>,
    /// Hugepages in one file.
    pub single_segment: bool,
    /// No PCI device will be used.
    pub no_pci: bool,
    /// Ordinary memory instead of hugepages: enough for TCP.
    pub no_huge: bool,
}

impl Environment {
    /// Starts SPDK. Once a process, on a thread that stays.
    ///
    /// # Errors
    /// The errno; [`take_log`] has more.
    pub fn init(&self) -> Result<(), i32> {
        let mask = CString::new(format!("[{}]", self.core)).unwrap_or_default();
        let text = |text: &Option<CString>| text.as_ref().map_or(std::ptr::null(), |text| text.as_ptr());
        let options = bindings::fs_env_options {
            core_mask: mask.as_ptr(),
            huge_dir: text(&self.huge_dir),
            iova_mode: text(&self.iova_mode),
            mem_size_mb: self.mem_size_mb.and_then(|mb| i32::try_from(mb).ok()).unwrap_or(-1),
            single_segment: self.single_segment,
            no_pci: self.no_pci,
            no_huge: self.no_huge,
        };
        // SAFETY: every pointer is NULL or a string that lives until the call returns; SPDK copies them.
        match unsafe { bindings::fs_env_init(&raw const options) } {
            0 => Ok(()),
            rc => Err(errno(rc)),
        }
    }

    /// Lets the calling thread run on any CPU again.
    pub fn unaffinitize() {
        // SAFETY: no arguments; it changes the calling thread's affinity only.
        unsafe { bindings::fs_unaffinitize() }
    }

    /// Gives hugepages and devices back.
    ///
    /// # Safety
    /// Nothing that came from SPDK is used any more: no controller, no queue, no memory.
    pub unsafe fn fini() {
        // SAFETY: upheld by the caller.
        unsafe { bindings::fs_env_fini() }
    }
}

/// The version that the shim was compiled for, `SPDK v24.01` for instance.
#[must_use]
pub fn version() -> &'static str {
    // SAFETY: no arguments.
    let text = unsafe { bindings::fs_version() };
    // SAFETY: the shim returns a string literal.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().unwrap_or("SPDK of an unknown version")
}

/// The versions that run, as SPDK tells them at its start: `Starting SPDK v24.01 / DPDK 23.11.0 …`.
/// Empty before [`Environment::init`].
#[must_use]
pub fn version_running() -> String {
    // SAFETY: no arguments.
    let text = unsafe { bindings::fs_version_running() };
    // SAFETY: a static array that is written once, in `fs_env_init`, and ends with NUL.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_string_lossy().into_owned()
}

/// Warnings and errors that SPDK logged since the last call, one a line.
#[must_use]
pub fn take_log() -> String {
    let mut text = vec![0_u8; 16 * 1024 + 1];
    // SAFETY: `text` is writable for its length, and the shim writes no more than that.
    let len = unsafe { bindings::fs_log_take(text.as_mut_ptr().cast(), text.len()) };
    text.truncate(len);
    String::from_utf8_lossy(&text).into_owned()
}

/// Zeroed memory in hugepages; `None` if there is not enough.
#[must_use]
pub fn dma_alloc(size: usize, align: usize) -> Option<NonNull<u8>> {
    // SAFETY: any size and alignment may be asked for; the answer is NULL or valid.
    NonNull::new(unsafe { bindings::fs_dma_alloc(size, align) }.cast())
}

/// Frees it.
///
/// # Safety
/// `memory` came from [`dma_alloc`] and nobody, no device either, uses it any more.
pub unsafe fn dma_free(memory: NonNull<u8>) {
    // SAFETY: upheld by the caller.
    unsafe { bindings::fs_dma_free(memory.as_ptr().cast()) }
}
