//! Locks on targets: of two runs that use one file or device, the second is refused.
//!
//! flock(2) on the file or device itself: the lock is found by whatever name, directory or user, and the
//! kernel releases it when the process dies. Writers hold it alone, those who only verify share it. udev
//! shares the lock of a device while it looks at it, and leaves a device alone that is locked.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

use super::block::{self, DeviceNumber};
use super::pin::{Identity, PinnedFile};
use super::{Sysfs, attribute, printable};

/// How often a lock is tried that only udev holds, and how long is waited in between: 10 s.
const UDEV_TRIES: u32 = 200;
const UDEV_WAIT: Duration = Duration::from_millis(50);

/// Who else may have the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LockMode {
    /// Others who only read.
    Shared,
    /// Nobody.
    Exclusive,
}

/// Why a target could not be locked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotLocked {
    /// Another process holds the lock: its program and process ID, where this user may see them.
    Held(String),
    /// The file system has no locks, or the file may not be opened.
    Cannot(String),
}

/// What a run wants to lock.
#[derive(Debug, Default)]
pub struct Wanted {
    files: BTreeMap<Identity, (LockMode, Arc<PinnedFile>)>,
}

/// The locks of a run, until they are dropped.
#[derive(Debug, Default)]
pub struct Locked {
    held: Vec<File>,
}

impl Wanted {
    /// Adds a target. Only regular files and block devices are locked. A partition shares the lock of its disk,
    /// and who reads a disk shares those of its partitions, so that a disk and its partitions exclude each other.
    pub fn add(&mut self, file: &Arc<PinnedFile>, mode: LockMode) {
        match file.identity() {
            Identity::File { .. } if file.kind().is_file() => self.put(file, mode),
            Identity::Device { is_block: true, number, .. } => {
                let sysfs = Sysfs::default();
                let Some(device) = block::by_number(&sysfs, DeviceNumber::from_raw(number)) else { return };
                // All programs must lock one node of a device, whichever they were given.
                self.put(&node(&sysfs, &device.name).unwrap_or_else(|| Arc::clone(file)), mode);
                let others = match &device.disk {
                    Some(disk) => std::slice::from_ref(disk),
                    None if mode == LockMode::Shared => &device.partitions,
                    None => &[],
                };
                others
                    .iter()
                    .filter_map(|name| node(&sysfs, name))
                    .for_each(|other| self.put(&other, LockMode::Shared));
            }
            _ => {}
        }
    }

    fn put(&mut self, file: &Arc<PinnedFile>, mode: LockMode) {
        let wanted = self.files.entry(file.identity()).or_insert_with(|| (mode, Arc::clone(file)));
        wanted.0 = wanted.0.max(mode);
    }

    /// Number of descriptors that the locks need at most.
    #[must_use]
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether nothing is to be locked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Takes all locks; the sentences say what could not be locked. Does not wait, except for udev.
    ///
    /// # Errors
    /// Which target is held by whom.
    pub fn take(self) -> Result<(Locked, Vec<String>), String> {
        let (mut locked, mut notes) = (Locked::default(), Vec::new());
        for (mode, file) in self.files.into_values() {
            match lock(&file, mode) {
                Ok(lock) => locked.held.push(lock),
                Err(NotLocked::Held(by)) => {
                    let what = match mode {
                        LockMode::Exclusive => "used",
                        LockMode::Shared => "written",
                    };
                    return Err(format!("{} is being {what} by {by}", file.canonical().display()));
                }
                Err(NotLocked::Cannot(why)) => {
                    notes.push(format!(
                        "{} is not locked ({why}): another run on it would not be noticed",
                        file.canonical().display()
                    ));
                }
            }
        }
        Ok((locked, notes))
    }
}

/// The node of a block device by its kernel name, if it leads to that device.
fn node(sysfs: &Sysfs, name: &str) -> Option<Arc<PinnedFile>> {
    // The kernel writes `!` for a slash in a name.
    let path = sysfs.dev.join(name.replace('!', "/"));
    let device = block::by_name(sysfs, name)?;
    let file = PinnedFile::at(&path).ok()?;
    let is_it = matches!(file.identity(), Identity::Device { is_block: true, number, .. }
        if DeviceNumber::from_raw(number) == device.number);
    is_it.then(|| Arc::new(file))
}

fn lock(file: &PinnedFile, mode: LockMode) -> Result<File, NotLocked> {
    // A device that was open for writing has changed, to udev. Over NFS an exclusive lock needs writing.
    let ways: &[OFlags] =
        if file.kind().is_file() { &[OFlags::RDONLY, OFlags::WRONLY] } else { &[OFlags::RDONLY] };
    let mut trouble = String::new();
    for &way in ways {
        match file.open(way | OFlags::NONBLOCK) {
            Ok(opened) => match lock_descriptor(&opened, mode) {
                Ok(()) => return Ok(opened),
                Err(NotLocked::Cannot(why)) => trouble = why,
                held @ Err(NotLocked::Held(_)) => return held.map(|()| opened),
            },
            Err(error) => trouble = error.to_string(),
        }
    }
    Err(NotLocked::Cannot(trouble))
}

/// Locks an open file, for as long as a copy of the descriptor is open.
pub(super) fn lock_descriptor(file: &File, mode: LockMode) -> Result<(), NotLocked> {
    lock_waiting(&Sysfs::default(), file, mode, &mut || std::thread::sleep(UDEV_WAIT))
}

/// `wait` is called between two tries.
fn lock_waiting(sysfs: &Sysfs, file: &File, mode: LockMode, wait: &mut dyn FnMut()) -> Result<(), NotLocked> {
    let how = match mode {
        LockMode::Shared => FlockOperation::NonBlockingLockShared,
        LockMode::Exclusive => FlockOperation::NonBlockingLockExclusive,
    };
    for tried in 1.. {
        match flock(file, how) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(NotLocked::Cannot(std::io::Error::from(error).to_string())),
        }
        let holders = holders(sysfs, file);
        let only_udev = !holders.is_empty() && holders.iter().all(|(_, program)| is_udev(program));
        if !only_udev || tried >= UDEV_TRIES {
            let named = holders.iter().map(|(pid, program)| format!("{program} (process {pid})"));
            let named: Vec<String> = named.collect();
            let by = if named.is_empty() { "another program".to_owned() } else { named.join(", ") };
            return Err(NotLocked::Held(by));
        }
        wait();
    }
    unreachable!("the tries are counted")
}

fn is_udev(program: &str) -> bool {
    // systemd-udevd, udevd, (udev-worker)
    program.contains("udev")
}

/// Process id and program of those who have an flock(2) on an open file, as far as this user may see.
fn holders(sysfs: &Sysfs, file: &File) -> Vec<(u32, String)> {
    let Ok(metadata) = file.metadata() else { return Vec::new() };
    let Ok(text) = fs::read_to_string(sysfs.proc.join("locks")) else { return Vec::new() };
    let locks: Vec<(u32, DeviceNumber)> = text
        .lines()
        .filter_map(parse)
        .filter(|lock| lock.2 == metadata.ino())
        .map(|lock| (lock.0, lock.1))
        .collect();
    let device = DeviceNumber::from_raw(metadata.dev());
    let exact = locks.iter().filter(|(_, on)| *on == device);
    let mut pids: Vec<u32> = exact.map(|(pid, _)| *pid).collect();
    if pids.is_empty() {
        // Of file systems that make up a number for stat(2) (btrfs, overlayfs) the table has the other one.
        pids = locks.iter().map(|(pid, _)| *pid).collect();
    }
    pids.sort_unstable();
    pids.dedup();
    let program = |pid: u32| {
        let comm = attribute(&sysfs.proc.join(pid.to_string()).join("comm"));
        (pid, printable(&comm.unwrap_or_else(|| "a program".to_owned())))
    };
    pids.into_iter().map(program).collect()
}

/// Process, device and inode of a line of `/proc/locks`, if it is about an flock(2) that is held:
/// `1: FLOCK  ADVISORY  WRITE 22907 fe:00:6684740 0 EOF`.
fn parse(line: &str) -> Option<(u32, DeviceNumber, u64)> {
    let mut words = line.split_whitespace().skip(1);
    // One that waits for a lock has `->` here.
    if words.next()? != "FLOCK" {
        return None;
    }
    let mut words = words.skip(2);
    let pid = words.next()?.parse().ok()?;
    let mut place = words.next()?.split(':');
    let mut part = || u32::from_str_radix(place.next()?, 16).ok();
    let device = DeviceNumber { major: part()?, minor: part()? };
    Some((pid, device, place.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_lock_table_says_who_holds_what() {
        let line = "1: FLOCK  ADVISORY  WRITE 22907 fe:1a:6684740 0 EOF";
        assert_eq!(parse(line), Some((22907, DeviceNumber { major: 254, minor: 26 }, 6_684_740)));
        assert_eq!(parse("1: -> FLOCK  ADVISORY  WRITE 22907 fe:1a:6684740 0 EOF"), None);
        assert_eq!(parse("2: POSIX  ADVISORY  WRITE 22907 fe:1a:6684740 0 EOF"), None);
        assert_eq!(parse("nonsense"), None);
    }

    fn wanted(path: &std::path::Path, mode: LockMode) -> Wanted {
        let mut wanted = Wanted::default();
        wanted.add(&Arc::new(PinnedFile::at(path).unwrap()), mode);
        wanted
    }

    #[test]
    fn readers_share_a_file_and_a_writer_is_alone_by_any_name() {
        let lab = tempfile::tempdir().unwrap();
        let (data, other) = (lab.path().join("data"), lab.path().join("other"));
        fs::write(&data, "x").unwrap();
        fs::hard_link(&data, &other).unwrap();
        let first = wanted(&data, LockMode::Shared).take().unwrap();
        let second = wanted(&other, LockMode::Shared).take().unwrap();
        let refused = wanted(&other, LockMode::Exclusive).take().unwrap_err();
        assert!(refused.contains(&format!("(process {})", std::process::id())), "{refused}");
        drop((first, second));
        let (alone, notes) = wanted(&other, LockMode::Exclusive).take().unwrap();
        assert!(notes.is_empty(), "{notes:?}");
        assert!(wanted(&data, LockMode::Shared).take().unwrap_err().contains("written"));
        drop(alone);
        wanted(&data, LockMode::Shared).take().unwrap();
    }

    #[test]
    fn one_file_under_two_names_is_locked_once_in_the_stronger_mode() {
        let lab = tempfile::tempdir().unwrap();
        let (data, other) = (lab.path().join("data"), lab.path().join("other"));
        fs::write(&data, "x").unwrap();
        fs::hard_link(&data, &other).unwrap();
        let mut both = wanted(&data, LockMode::Shared);
        both.add(&Arc::new(PinnedFile::at(&other).unwrap()), LockMode::Exclusive);
        assert_eq!(both.len(), 1);
        let _held = both.take().unwrap();
        assert!(wanted(&data, LockMode::Shared).take().is_err());
    }

    /// A machine whose table of locks says that a program of that name has the file.
    fn held_by(lab: &tempfile::TempDir, program: &str, file: &File) -> Sysfs {
        let metadata = file.metadata().unwrap();
        let number = DeviceNumber::from_raw(metadata.dev());
        let sysfs = Sysfs::under(lab.path());
        fs::create_dir_all(sysfs.proc.join("77")).unwrap();
        fs::write(sysfs.proc.join("77/comm"), program).unwrap();
        let line = format!("{:02x}:{:02x}:{}", number.major, number.minor, metadata.ino());
        fs::write(sysfs.proc.join("locks"), format!("1: FLOCK  ADVISORY  READ 77 {line} 0 EOF\n")).unwrap();
        sysfs
    }

    #[test]
    fn udev_is_waited_for_and_nobody_else() {
        let lab = tempfile::tempdir().unwrap();
        let path = lab.path().join("data");
        fs::write(&path, "x").unwrap();
        let (file, other) = (File::open(&path).unwrap(), File::open(&path).unwrap());
        for (program, waits) in [("(udev-worker)", 3), ("systemd-udevd", 1), ("fio-spdk", 0)] {
            other.lock_shared().unwrap();
            let sysfs = held_by(&lab, program, &other);
            let mut waited = 0;
            let locked = lock_waiting(&sysfs, &file, LockMode::Exclusive, &mut || {
                waited += 1;
                if waited == waits {
                    other.unlock().unwrap();
                }
            });
            let expected =
                if waits > 0 { Ok(()) } else { Err(NotLocked::Held("fio-spdk (process 77)".to_owned())) };
            assert_eq!((locked, waited), (expected, waits), "{program}");
            file.unlock().unwrap();
            other.unlock().unwrap();
        }
        // One that never ends is not waited for without end.
        other.lock_shared().unwrap();
        let sysfs = held_by(&lab, "udevd", &other);
        let mut waited = 0;
        assert!(lock_waiting(&sysfs, &file, LockMode::Exclusive, &mut || waited += 1).is_err());
        assert_eq!(waited, UDEV_TRIES - 1);
    }

    #[test]
    fn what_swallows_everything_is_not_locked() {
        assert!(wanted(std::path::Path::new("/dev/null"), LockMode::Exclusive).is_empty());
    }
}
