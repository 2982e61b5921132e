//! Files and block devices of the kernel: what psync and io_uring share.

#![allow(unsafe_code, reason = "an ioctl, a fcntl and a system call that rustix has no call for")]

use std::fs::File;
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{AtFlags, FallocateFlags, OFlags, StatxFlags};
use rustix::io::{Errno, ReadWriteFlags};

use crate::base::Status;
use crate::base::atomic::{AtomicSource, AtomicWrites};
use crate::base::host::block::BlockDevice;
use crate::base::host::pin::PinnedFile;
use crate::base::host::{Sysfs, block, flush_path, nvme_admin};
use crate::base::premises::{CacheSource, Premises};

use super::{EngineError, EngineOptions, Target, TargetFacts};

/// BLKDISCARD of linux/fs.h: `_IO(0x12, 119)`, which takes two u64: start and length in bytes.
const BLKDISCARD: rustix::ioctl::Opcode = rustix::ioctl::opcode::none(0x12, 119);
/// BLKFLSBUF of linux/fs.h: `_IO(0x12, 97)`.
const BLKFLSBUF: rustix::ioctl::Opcode = rustix::ioctl::opcode::none(0x12, 97);

/// One open target.
#[derive(Debug)]
pub struct KernelFile {
    file: File,
    is_block_device: bool,
    /// Writes are done whole or not at all.
    is_atomic: bool,
    /// Of sync_file_range(2).
    range_flags: u32,
}

impl KernelFile {
    /// Opens `target` as `options` ask.
    pub fn open(target: &Target, options: &EngineOptions) -> Result<(KernelFile, TargetFacts), EngineError> {
        let path = &target.path;
        let shown = path.display();
        let (pin, file) = open_pinned(target, options)?;
        if let Some(advice) = options.advice.filter(|_| !options.direct) {
            // A hint: what takes none (a pipe) does without.
            let _ = rustix::fs::fadvise(&file, 0, None, advice);
        }
        let kind = pin.kind();
        let is_block_device = kind.is_block_device();
        let size_bytes = if kind.is_file() || is_block_device {
            rustix::fs::seek(&file, rustix::fs::SeekFrom::End(0))
                .map_err(|error| EngineError::os(&format!("cannot tell the size of {shown}"), error))?
        } else {
            target.size_hint
        };
        let lba_bytes = if is_block_device {
            rustix::fs::ioctl_blksszget(&file).map_err(|error| {
                EngineError::os(&format!("cannot tell the logical block of {shown}"), error)
            })?
        } else if options.direct {
            direct_alignment(&file)
        } else {
            1
        };
        let mut premises = premises(pin.way(), options.direct, nvme_admin::PATIENCE);
        if let Some(most) = prepare_commands(&file, path, options)? {
            // The kernel neither splits nor merges such a write.
            premises.atomic = AtomicWrites::up_to(most, AtomicSource::RwfAtomic);
        }
        let (path, pin) = (path.clone(), Some(pin));
        let facts = TargetFacts { path, size_bytes, lba_bytes, is_block_device, premises, known: None, pin };
        let is_atomic = options.commands.atomic_bytes.is_some();
        Ok((KernelFile { file, is_block_device, is_atomic, range_flags: options.range_flags }, facts))
    }

    /// Tells the device or the file system that a range is not needed.
    pub fn deallocate(&self, offset: u64, len: u64) -> Result<(), Errno> {
        if !self.is_block_device {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            return rustix::fs::fallocate(&self.file, flags, offset, len);
        }
        let range = [offset, len];
        // SAFETY: BLKDISCARD reads two u64 from the pointer that `Setter` passes, which is to `range`.
        let discard = unsafe { rustix::ioctl::Setter::<BLKDISCARD, [u64; 2]>::new(range) };
        // SAFETY: the request is the one its type was made for, and the file is open.
        unsafe { rustix::ioctl::ioctl(&self.file, discard) }
    }

    /// Makes completed writes durable.
    pub fn flush(&self, data_only: bool) -> Result<(), Errno> {
        if data_only { rustix::fs::fdatasync(&self.file) } else { rustix::fs::fsync(&self.file) }
    }

    /// Does what a flush with a length says: writes back a range of the page cache, as the flags of the
    /// job say.
    pub fn sync_range(&self, offset: u64, len: u32) -> Result<(), Errno> {
        let bytes = if len == u32::MAX { 0 } else { i64::from(len) };
        let offset = i64::try_from(offset).map_err(|_| Errno::INVAL)?;
        // SAFETY: numbers are passed, and a file that is open.
        let result = unsafe { libc::sync_file_range(self.file.as_raw_fd(), offset, bytes, self.range_flags) };
        if result == 0 {
            Ok(())
        } else {
            Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
        }
    }

    /// The flags of [`KernelFile::sync_range`].
    pub fn range_flags(&self) -> u32 {
        self.range_flags
    }

    /// Drops clean pages of the page cache, and for a block device all of its buffers.
    pub fn invalidate(&self) -> Result<(), Errno> {
        if self.is_block_device {
            // SAFETY: BLKFLSBUF takes no argument.
            let flush = unsafe { rustix::ioctl::NoArg::<BLKFLSBUF>::new() };
            // SAFETY: the request is the one its type was made for, and the file is open.
            match unsafe { rustix::ioctl::ioctl(&self.file, flush) } {
                // Needs CAP_SYS_ADMIN; what can be dropped without it is dropped below.
                Ok(()) | Err(Errno::ACCESS | Errno::PERM) => {}
                Err(error) => return Err(error),
            }
        }
        rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed)
    }

    /// Writes at `offset`.
    #[inline]
    pub fn write(&self, bytes: &[u8], offset: u64) -> Result<usize, Errno> {
        if self.is_atomic {
            let flags = ReadWriteFlags::from_bits_retain(libc::RWF_ATOMIC.cast_unsigned());
            return rustix::io::pwritev2(&self.file, &[IoSlice::new(bytes)], offset, flags);
        }
        rustix::io::pwrite(&self.file, bytes, offset)
    }

    /// Whether it is a block device.
    pub fn is_block_device(&self) -> bool {
        self.is_block_device
    }
}

/// Opens what is pinned, or else what the path leads to now: the only place where these engines open targets.
fn open_pinned(target: &Target, options: &EngineOptions) -> Result<(Arc<PinnedFile>, File), EngineError> {
    let shown = target.path.display();
    let failed = |error: std::io::Error| match Errno::from_io_error(&error) {
        Some(errno) => EngineError::os(&format!("cannot open {shown}"), errno),
        None => EngineError::new(format!("cannot open {shown}: {error}")),
    };
    let pin = match &target.pin {
        Some(pin) => Arc::clone(pin),
        None => Arc::new(PinnedFile::at(&target.path).map_err(failed)?),
    };
    let flags = open_flags(options);
    // Access times would be written for reads; only the owner may leave them out.
    let quiet = pin.open(flags | OFlags::NOATIME);
    let opened = match quiet {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => pin.open(flags),
        other => other,
    };
    match opened {
        Ok(file) => Ok((pin, file)),
        Err(error) if options.direct && error.raw_os_error() == Some(libc::EINVAL) => Err(EngineError {
            message: format!(
                "{shown}: this file system has no O_DIRECT (tmpfs before Linux 6.6, for instance): \
                 set direct = false"
            ),
            errno: Some(libc::EINVAL),
            is_unsafe: false,
        }),
        Err(error) => Err(failed(error)),
    }
}

fn open_flags(options: &EngineOptions) -> OFlags {
    let access = match (options.reads, options.writes) {
        (_, false) => OFlags::RDONLY,
        // Whether a file can be polled is found out by reading it.
        (false, true) if !options.iopoll => OFlags::WRONLY,
        (_, true) => OFlags::RDWR,
    };
    let mut flags = OFlags::CLOEXEC | access;
    flags.set(OFlags::DIRECT, options.direct);
    flags.set(OFlags::SYNC, options.sync);
    flags.set(OFlags::DSYNC, options.dsync);
    flags
}

impl AsFd for KernelFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// STATX_WRITE_ATOMIC of linux/stat.h.
const STATX_WRITE_ATOMIC: StatxFlags = StatxFlags::from_bits_retain(0x1_0000);
/// F_SET_RW_HINT of linux/fcntl.h.
const F_SET_RW_HINT: libc::c_int = 1036;

/// Looks whether writes can be what the job asks for, and says to the file what it is told beside. Gives
/// back up to how many bytes a write with `RWF_ATOMIC` has, if the job's writes are such.
fn prepare_commands(file: &File, path: &Path, options: &EngineOptions) -> Result<Option<u32>, EngineError> {
    let shown = path.display();
    let mut atomic = None;
    if let Some(len) = options.commands.atomic_bytes {
        let most = check_atomic(atomic_limits(file), len).map_err(|why| EngineError {
            message: format!("{shown}: {why}"),
            errno: Some(libc::EINVAL),
            is_unsafe: false,
        })?;
        atomic = Some(most);
    }
    if let Some(hint) = options.commands.write_hint.filter(|_| options.writes) {
        set_write_hint(file, hint)
            .map_err(|error| EngineError::os(&format!("{shown}: the kernel takes no write_hint"), error))?;
    }
    Ok(atomic)
}

/// The shortest and the longest write that can be whole or not at all (`RWF_ATOMIC`), in bytes.
fn atomic_limits(file: &File) -> Option<(u32, u32)> {
    let stat = rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, STATX_WRITE_ATOMIC).ok()?;
    let has = stat.stx_mask & STATX_WRITE_ATOMIC.bits() != 0 && stat.stx_atomic_write_unit_max > 0;
    has.then_some((stat.stx_atomic_write_unit_min, stat.stx_atomic_write_unit_max))
}

/// Whether writes of `len` bytes are among those of `limits`; the longest of these.
fn check_atomic(limits: Option<(u32, u32)>, len: u32) -> Result<u32, String> {
    let Some((min, max)) = limits else {
        return Err(
            "writes cannot be atomic here: neither this kernel's file system nor the device says that they \
                    can (statx, Linux 6.11); leave `atomic` out"
                .to_owned(),
        );
    };
    if (min..=max).contains(&len) {
        return Ok(max);
    }
    Err(format!("atomic writes here have {min} to {max} bytes, not {len}: change bs"))
}

/// Says how long what is written to the file will live.
fn set_write_hint(file: &File, hint: u64) -> Result<(), Errno> {
    // SAFETY: F_SET_RW_HINT reads one u64 from the pointer, which is to `hint`; the file is open.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), F_SET_RW_HINT, &raw const hint) };
    if result == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error().raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error))
    }
}

/// The offset alignment that O_DIRECT needs on this file (statx, Linux 6.1), or 512 where the kernel
/// does not say.
fn direct_alignment(file: &File) -> u32 {
    let flags = AtFlags::EMPTY_PATH;
    match rustix::fs::statx(file, c"", flags, StatxFlags::DIOALIGN) {
        Ok(stat) if stat.stx_dio_offset_align > 0 => stat.stx_dio_offset_align,
        _ => 512,
    }
}

/// Opens all targets of a job.
pub fn open_all(
    targets: &[Target],
    options: &EngineOptions,
) -> Result<(Vec<KernelFile>, Vec<TargetFacts>), EngineError> {
    let mut files = Vec::with_capacity(targets.len());
    let mut facts = Vec::with_capacity(targets.len());
    for target in targets {
        let (file, fact) = KernelFile::open(target, options)?;
        files.push(file);
        facts.push(fact);
    }
    Ok((files, facts))
}

/// Drops what is cached of all of them.
pub fn invalidate_all(files: &[KernelFile], facts: &[TargetFacts]) -> Result<(), EngineError> {
    for (file, fact) in files.iter().zip(facts) {
        file.invalidate().map_err(|error| {
            EngineError::os(&format!("cannot drop the cache of {}", fact.path.display()), error)
        })?;
    }
    Ok(())
}

/// A kernel call's answer as status and bytes.
pub fn outcome(result: Result<usize, Errno>) -> (Status, u32) {
    match result {
        Ok(bytes) => (Status::OK, u32::try_from(bytes).unwrap_or(u32::MAX)),
        Err(error) => (Status::from_errno(error.raw_os_error()), 0),
    }
}
/// What holds now of an open target, `None` where it has no cache to look at.
pub fn premises_now(fact: &TargetFacts, patience: Duration) -> Option<Premises> {
    let direct = fact.premises.cache_source != CacheSource::PageCache;
    // A device that is gone, or a file, has nothing to say any more.
    fact.path.exists().then(|| premises(fact.place(), direct, patience))
}

/// What verdicts on a target rest on: how the kernel passes on flushes and writes, and what an NVMe device
/// says of itself within `patience`.
fn premises(path: &Path, direct: bool, patience: Duration) -> Premises {
    let sysfs = Sysfs::default();
    let ask = |device: &BlockDevice| flush_path::ask_nvme(&sysfs, device, patience);
    match block::lookup(&sysfs, path) {
        Ok(Some(device)) => {
            let told = ask(&device);
            flush_path::of_device(&sysfs, &device, told.as_ref(), direct, &ask)
        }
        Ok(None) if path.is_file() => flush_path::of_file(&sysfs, path, &ask),
        _ => Premises::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_atomic_write_has_a_length_that_statx_reports() {
        assert_eq!(check_atomic(Some((4096, 16384)), 8192), Ok(16384));
        assert!(
            check_atomic(Some((4096, 16384)), 32768).unwrap_err().contains("4096 to 16384 bytes, not 32768")
        );
        assert!(check_atomic(Some((4096, 16384)), 512).is_err());
        assert!(check_atomic(None, 4096).unwrap_err().contains("Linux 6.11"));
    }
}
