//! What is done to files, a step each, so that tests can let any of them fail or be the last.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{FallocateFlags, FlockOperation};

/// The steps.
pub(super) trait Disk: fmt::Debug {
    /// An open file.
    type File: fmt::Debug;

    /// A new file, empty, in the place of one that an earlier run left behind.
    fn create(&mut self, path: &Path) -> io::Result<Self::File>;
    /// Takes space for its first `bytes`.
    fn allocate(&mut self, file: &mut Self::File, bytes: u64) -> io::Result<()>;
    /// Writes all of `bytes`.
    fn write_at(&mut self, file: &mut Self::File, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Cuts it, or fills it with zeros.
    fn set_len(&mut self, file: &mut Self::File, bytes: u64) -> io::Result<()>;
    /// Contents and length are on stable storage.
    fn sync(&mut self, file: &mut Self::File) -> io::Result<()>;
    /// One file takes another's place, at once.
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()>;
    /// What was renamed in it is on stable storage.
    fn sync_dir(&mut self, dir: &Path) -> io::Result<()>;
    /// Takes a file away.
    fn remove(&mut self, path: &Path) -> io::Result<()>;
}

/// The machine's.
#[derive(Debug)]
pub(super) struct RealDisk;

impl Disk for RealDisk {
    type File = File;

    fn create(&mut self, path: &Path) -> io::Result<File> {
        let new = || OpenOptions::new().write(true).create_new(true).open(path);
        let file = match new() {
            Err(why) if why.kind() == io::ErrorKind::AlreadyExists => {
                take_away_if_left_behind(path)?;
                new()?
            }
            other => other?,
        };
        // Tells other runs that somebody is at work here. A file system without locks has two runs
        // at one file unnoticed.
        let _ = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
        Ok(file)
    }

    fn allocate(&mut self, file: &mut File, bytes: u64) -> io::Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        match rustix::fs::fallocate(&*file, FallocateFlags::empty(), 0, bytes) {
            Ok(()) => Ok(()),
            // A file system that cannot take space has to be given something to keep.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => write_zeros(file, bytes),
            Err(why) => Err(why.into()),
        }
    }

    fn write_at(&mut self, file: &mut File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    fn set_len(&mut self, file: &mut File, bytes: u64) -> io::Result<()> {
        file.set_len(bytes)
    }

    fn sync(&mut self, file: &mut File) -> io::Result<()> {
        file.sync_all()
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_dir(&mut self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
}

/// A file of a run that died goes; that of one that lives is refused.
fn take_away_if_left_behind(path: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.is_file() {
        let why = format!("{} is there, and no file", path.display());
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
    }
    let old = File::open(path)?;
    if rustix::fs::flock(&old, FlockOperation::NonBlockingLockExclusive) == Err(rustix::io::Errno::WOULDBLOCK)
    {
        return Err(io::Error::new(io::ErrorKind::ResourceBusy, "another run keeps its state there"));
    }
    fs::remove_file(path)
}

fn write_zeros(file: &File, bytes: u64) -> io::Result<()> {
    let zeros = [0; 4096];
    let mut done = 0;
    while done < bytes {
        let len = usize::try_from(bytes - done).unwrap_or(zeros.len()).min(zeros.len());
        file.write_all_at(&zeros[..len], done)?;
        done += len as u64;
    }
    Ok(())
}
