//! Output files: opened so that no other user can have something else written to.
//!
//! In a directory that other users can write to (`/tmp`), any of them can put a symbolic link, a hard link, a
//! FIFO or a file of their own at the name of an output. The kernel's `protected_symlinks`, `protected_hardlinks`,
//! `protected_fifos` and `protected_regular` refuse that in sticky directories, where they are on. This refuses
//! it whatever they are, and in directories without the sticky bit too. Symbolic links of the user, of root and
//! of the directory's owner are followed, also in the directories above the file.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

/// Symbolic links in one path at most, as in the kernel.
const MOST_LINKS: u32 = 40;
/// `f_type` of procfs, whose links lead to open files and cannot be followed by their text.
const PROCFS: i64 = 0x9fa0;
/// Write permission of group and others.
const SHARED: u32 = 0o022;

/// What becomes of what the file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// It is replaced.
    Empty,
    /// It stays, and what is written goes behind it.
    Append,
    /// It stays, and is written over from the start.
    Keep,
}

/// Opens an output file for writing, and makes it if it is not there. Devices such as `/dev/null`, pipes with a
/// reader, and descriptors (`/dev/stdout`, `/dev/fd/3`) are files here too.
///
/// # Errors
/// Those of the file system. With a sentence of its own: a link, a hard link or a file of another user in a
/// directory that others can write to; a block device; a FIFO that nothing reads, which is not waited for.
pub fn open(path: &Path, start: Start) -> io::Result<File> {
    let (folder, name, is_descriptor) = resolve(path)?;
    let mut flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    flags.set(OFlags::NOFOLLOW, !is_descriptor);
    // What others have written to a descriptor stays.
    flags.set(OFlags::APPEND, start == Start::Append || is_descriptor);
    let file = open_or_make(&folder, &name, flags).map_err(|errno| match errno {
        Errno::LOOP => refused(path, "is a symbolic link that was put there just now"),
        Errno::NXIO => io::Error::new(
            io::ErrorKind::NotConnected,
            "it is a FIFO or a socket that nothing reads: start its reader first, or name a file",
        ),
        errno => errno.into(),
    })?;
    let stat = rustix::fs::fstat(&file)?;
    if is_target(&stat) {
        let why = format!(
            "{} is a target of this run, and no output goes there: name another file",
            path.display()
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    if !is_descriptor {
        check(path, &rustix::fs::fstat(&folder)?, &stat)?;
    }
    // Opened without waiting for a reader; written to as usual.
    let flags = rustix::fs::fcntl_getfl(&file)?;
    rustix::fs::fcntl_setfl(&file, flags - OFlags::NONBLOCK)?;
    if start == Start::Empty && !is_descriptor && kind(&stat) == FileType::RegularFile {
        rustix::fs::ftruncate(&file, 0)?;
    }
    Ok(file.into())
}

/// Device and inode numbers of the files that runs of this process write to or read, once for each run.
static TARGETS: Mutex<Vec<(u64, u64)>> = Mutex::new(Vec::new());

/// Targets of a run, which are not opened for output until this is dropped.
#[derive(Debug, Default)]
pub struct ProtectedTargets(Vec<(u64, u64)>);

/// Has [`open`] refuse these files, by whatever name: `st_dev` and `st_ino`.
#[must_use]
pub fn protect(files: Vec<(u64, u64)>) -> ProtectedTargets {
    TARGETS.lock().unwrap_or_else(PoisonError::into_inner).extend(&files);
    ProtectedTargets(files)
}

impl Drop for ProtectedTargets {
    fn drop(&mut self) {
        let mut targets = TARGETS.lock().unwrap_or_else(PoisonError::into_inner);
        for file in &self.0 {
            if let Some(at) = targets.iter().position(|target| target == file) {
                targets.swap_remove(at);
            }
        }
    }
}

fn is_target(stat: &Stat) -> bool {
    let targets = TARGETS.lock().unwrap_or_else(PoisonError::into_inner);
    kind(stat) == FileType::RegularFile && targets.contains(&(stat.st_dev, stat.st_ino))
}

/// Replaces what an output file holds.
///
/// # Errors
/// As [`open`], and those of writing.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    open(path, Start::Empty)?.write_all(bytes)
}

/// A user that is neither root nor the one that runs this: what belongs to it may be anything.
#[must_use]
pub fn stranger(user: u32) -> Option<u32> {
    (!is_trusted(user)).then_some(user)
}

fn is_trusted(owner: u32) -> bool {
    owner == 0 || owner == rustix::process::geteuid().as_raw()
}

fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Two steps, so that what others put there in between is opened or refused, and never made.
fn open_or_make(folder: &OwnedFd, name: &OsStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    let mode = Mode::from_raw_mode(0o666);
    match rustix::fs::openat(folder, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => {
            match rustix::fs::openat(folder, name, flags | OFlags::CREATE | OFlags::EXCL, mode) {
                Err(Errno::EXIST) => rustix::fs::openat(folder, name, flags, Mode::empty()),
                other => other,
            }
        }
        other => other,
    }
}

/// Refuses what another user may have put there.
fn check(path: &Path, folder: &Stat, file: &Stat) -> io::Result<()> {
    if kind(file) == FileType::BlockDevice {
        let why = format!("{} is a block device, and no output goes there: name a file", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    if folder.st_mode & SHARED == 0 || kind(file) == FileType::CharacterDevice {
        return Ok(());
    }
    if !is_trusted(file.st_uid) && file.st_uid != folder.st_uid {
        return Err(refused(path, &format!("belongs to user {}", file.st_uid)));
    }
    if kind(file) == FileType::RegularFile && file.st_nlink > 1 {
        return Err(refused(path, "has other names (hard links), and may be another file of yours"));
    }
    Ok(())
}

fn refused(path: &Path, what: &str) -> io::Error {
    let why = format!(
        "{} {what}, in a directory that other users can write to: remove it, or name a file in a directory of \
         your own",
        path.display()
    );
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}

/// The directory and the name that a path leads to behind all its links, and whether that name is a link of
/// procfs to an open file.
fn resolve(path: &Path) -> io::Result<(OwnedFd, OsString, bool)> {
    let mut left: VecDeque<OsString> = VecDeque::new();
    push(&mut left, path);
    let mut folder = start(path)?;
    let mut links = 0;
    while let Some(name) = left.pop_front() {
        let is_last = left.is_empty();
        let stat = match rustix::fs::statat(&folder, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) if is_last => return Ok((folder, name, false)),
            other => other?,
        };
        if kind(&stat) == FileType::Symlink {
            links += 1;
            if links > MOST_LINKS {
                return Err(Errno::LOOP.into());
            }
            if rustix::fs::fstatfs(&folder)?.f_type == PROCFS {
                if is_last {
                    return Ok((folder, name, true));
                }
                folder = open_folder(&folder, &name, OFlags::empty())?;
                continue;
            }
            check_link(path, &rustix::fs::fstat(&folder)?, &stat)?;
            let target = rustix::fs::readlinkat(&folder, &name, Vec::new())?;
            let target = Path::new(OsStr::from_bytes(target.as_bytes()));
            push(&mut left, target);
            if target.is_absolute() {
                folder = start(target)?;
            }
        } else if is_last {
            return Ok((folder, name, false));
        } else {
            folder = open_folder(&folder, &name, OFlags::NOFOLLOW)?;
        }
    }
    Err(Errno::ISDIR.into())
}

/// Puts the parts of a path before those that are left.
fn push(left: &mut VecDeque<OsString>, path: &Path) {
    for part in path.components().rev() {
        match part {
            Component::Normal(name) => left.push_front(name.to_owned()),
            Component::ParentDir => left.push_front("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
}

fn start(path: &Path) -> io::Result<OwnedFd> {
    let from = if path.is_absolute() { "/" } else { "." };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, from, flags, Mode::empty())?)
}

fn open_folder(folder: &OwnedFd, name: &OsStr, more: OFlags) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | more;
    Ok(rustix::fs::openat(folder, name, flags, Mode::empty())?)
}

/// Refuses to follow a link that another user may have put there.
fn check_link(path: &Path, folder: &Stat, link: &Stat) -> io::Result<()> {
    if folder.st_mode & SHARED == 0 || is_trusted(link.st_uid) || link.st_uid == folder.st_uid {
        return Ok(());
    }
    Err(refused(path, &format!("leads over a symbolic link of user {}", link.st_uid)))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::PathBuf;

    use super::*;

    fn folder(mode: u32) -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("folder");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        (root, path)
    }

    #[test]
    fn a_file_is_made_replaced_added_to_and_kept() {
        let (_root, folder) = folder(0o755);
        let path = folder.join("out");
        write(&path, b"first").unwrap();
        open(&path, Start::Append).unwrap().write_all(b"+").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"first+");
        open(&path, Start::Keep).unwrap().write_all(b"F").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"First+");
        write(&path, b"2").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"2");
        assert_eq!(open(&folder, Start::Keep).unwrap_err().raw_os_error(), Some(libc::EISDIR));
        assert_eq!(open(Path::new("/"), Start::Keep).unwrap_err().raw_os_error(), Some(libc::EISDIR));
        assert!(open(&folder.join("missing/out"), Start::Keep).is_err());
    }

    #[test]
    fn links_of_the_user_are_followed_to_files_that_are_and_that_are_not_there() {
        let (root, folder) = folder(0o1777);
        fs::create_dir(root.path().join("data")).unwrap();
        symlink("../data", folder.join("by-name")).unwrap();
        symlink("by-name/x", folder.join("out")).unwrap();
        symlink(root.path().join("data/y"), folder.join("absolute")).unwrap();
        write(&folder.join("out"), b"x").unwrap();
        write(&folder.join("absolute"), b"y").unwrap();
        write(&folder.join("../folder/./by-name/z"), b"z").unwrap();
        for name in ["x", "y", "z"] {
            assert_eq!(fs::read_to_string(root.path().join("data").join(name)).unwrap(), name);
        }
        symlink("self", folder.join("self")).unwrap();
        assert_eq!(open(&folder.join("self"), Start::Keep).unwrap_err().raw_os_error(), Some(libc::ELOOP));
    }

    #[test]
    fn a_fifo_that_nothing_reads_is_refused_and_not_waited_for() {
        let (_root, folder) = folder(0o700);
        let path = folder.join("fifo");
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        let why = open(&path, Start::Empty).unwrap_err().to_string();
        assert!(why.contains("nothing reads"), "{why}");
        let reader = rustix::fs::open(&path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).unwrap();
        write(&path, b"x").unwrap();
        let mut byte = [0];
        assert_eq!(rustix::io::read(&reader, &mut byte), Ok(1));
    }

    #[test]
    fn descriptors_and_character_devices_are_outputs() {
        for path in ["/dev/null", "/proc/self/fd/2", "/dev/fd/2"] {
            // A descriptor that is a socket cannot be opened again, by anybody.
            match open(Path::new(path), Start::Append) {
                Ok(_) => {}
                Err(why) => {
                    assert!(path != "/dev/null" && why.to_string().contains("socket"), "{path}: {why}")
                }
            }
        }
        let (_root, folder) = folder(0o755);
        let file = File::create(folder.join("open")).unwrap();
        let number = std::os::fd::AsRawFd::as_raw_fd(&file);
        (&file).write_all(b"before ").unwrap();
        let path = format!("/proc/self/fd/{number}");
        open(Path::new(&path), Start::Append).unwrap().write_all(b"behind").unwrap();
        assert_eq!(fs::read_to_string(folder.join("open")).unwrap(), "before behind");
    }

    #[test]
    fn a_hard_link_is_refused_where_others_can_write_and_written_to_elsewhere() {
        for (mode, refuses) in [(0o1777, true), (0o775, true), (0o755, false)] {
            let (root, folder) = folder(mode);
            let own = root.path().join("own");
            fs::write(&own, "mine").unwrap();
            fs::hard_link(&own, folder.join("out")).unwrap();
            let opened = open(&folder.join("out"), Start::Empty);
            assert_eq!(opened.is_err(), refuses, "{mode:o}");
            assert_eq!(fs::read_to_string(&own).unwrap() == "mine", refuses, "{mode:o}");
        }
    }
}
