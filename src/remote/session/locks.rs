//! One run at a time for each device: a lock on a file in the server's directory of locks, which says who
//! has it. The kernel lets it go with the process.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};

use crate::base::host::block::{DeviceNumber, by_number};
use crate::base::host::{Sysfs, printable};

/// So many files a run locks one by one; of more, their directories.
const MOST_FILES: usize = 256;
/// A lock file that was removed while it was opened is opened again, this often.
const TRIES: usize = 16;
/// What is read of who has a lock.
const MOST_HOLDER: u64 = 1024;

/// What is locked: what people call it, by what it is known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A block or character device, by its number.
    Device {
        /// Whether it is a block device.
        is_block: bool,
        /// Its number.
        number: u64,
    },
    /// A file, by its path without links.
    File(PathBuf),
    /// A namespace's controller, by its transport id.
    Controller(String),
}

/// The locks of a run, until they are dropped.
#[derive(Debug, Default)]
pub struct Locks {
    held: Vec<(PathBuf, File, bool)>,
}

impl Locks {
    /// Takes all of them, in a directory that is there; `who` is what others are told.
    ///
    /// # Errors
    /// Who has one of them, or why there can be none; `true` with the former.
    pub fn take(folder: &Path, subjects: &[(String, Subject)], who: &str) -> Result<Locks, (bool, String)> {
        let mut locks = Locks::default();
        // In one order for all runs, each once.
        for (key, (name, is_exclusive)) in keys(subjects) {
            locks.take_one(folder, &key, &name, is_exclusive, who)?;
        }
        Ok(locks)
    }

    fn take_one(
        &mut self,
        folder: &Path,
        key: &str,
        name: &str,
        is_exclusive: bool,
        who: &str,
    ) -> Result<(), (bool, String)> {
        let path = folder.join(file_name(key));
        let failed = |error: std::io::Error| (false, format!("cannot lock {}: {error}", path.display()));
        for _ in 0..TRIES {
            let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).clone();
            let mut file = options.open(&path).map_err(failed)?;
            let how = match is_exclusive {
                true => FlockOperation::NonBlockingLockExclusive,
                false => FlockOperation::NonBlockingLockShared,
            };
            match flock(&file, how) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    let mut holder = String::new();
                    let _ = (&file).take(MOST_HOLDER).read_to_string(&mut holder);
                    let holder =
                        if holder.is_empty() { "another run".to_owned() } else { printable(holder.trim()) };
                    return Err((true, format!("{} is in use by {holder}", printable(name))));
                }
                Err(error) => return Err(failed(error.into())),
            }
            // The one who had it may have removed it meanwhile.
            let same = |now: fs::Metadata| {
                file.metadata().is_ok_and(|mine| (mine.dev(), mine.ino()) == (now.dev(), now.ino()))
            };
            if !fs::metadata(&path).is_ok_and(same) {
                continue;
            }
            let told =
                file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(who.as_bytes()));
            told.map_err(failed)?;
            self.held.push((path, file, is_exclusive));
            return Ok(());
        }
        Err((false, format!("cannot lock {}: it is removed again and again", path.display())))
    }
}

impl Drop for Locks {
    fn drop(&mut self) {
        for (path, _, is_exclusive) in &self.held {
            // While it is held; who opens it now sees that it is another file. Shared ones stay.
            if *is_exclusive {
                let _ = fs::remove_file(path);
            }
        }
    }
}

/// What to lock for these, by key: the name for people, and whether nobody else may have it.
fn keys(subjects: &[(String, Subject)]) -> BTreeMap<String, (String, bool)> {
    let mut keys = BTreeMap::new();
    let mut add = |key: String, name: &str, is_exclusive: bool| {
        let entry = keys.entry(key).or_insert_with(|| (name.to_owned(), is_exclusive));
        entry.1 |= is_exclusive;
    };
    let files = subjects.iter().filter(|(_, subject)| matches!(subject, Subject::File(_))).count();
    for (name, subject) in subjects {
        match subject {
            Subject::Device { is_block, number } => add(device_key(*is_block, *number), name, true),
            Subject::Controller(id) => add(format!("controller {id}"), name, true),
            Subject::File(path) => {
                let folder = path.parent().unwrap_or(path);
                let is_many = files > MOST_FILES;
                add(format!("directory {}", folder.display()), name, is_many);
                if !is_many {
                    add(format!("file {}", path.display()), name, true);
                    // It may have other names.
                    if let Ok(metadata) = fs::metadata(path) {
                        add(format!("inode {} {}", metadata.dev(), metadata.ino()), name, true);
                    }
                }
            }
        }
    }
    keys
}

/// A partition is locked with its disk: one run at a time measures a drive.
fn device_key(is_block: bool, number: u64) -> String {
    let kind = if is_block { "block" } else { "character" };
    let sysfs = Sysfs::default();
    let number = DeviceNumber::from_raw(number);
    let disk = || by_number(&sysfs, number)?.disk.map(|disk| format!("disk {disk}"));
    let itself = || Some(format!("disk {}", by_number(&sysfs, number)?.name));
    let known = if is_block { disk().or_else(itself) } else { None };
    known.unwrap_or_else(|| format!("{kind} {number}"))
}

fn file_name(key: &str) -> String {
    let digest = Sha256::digest(key.as_bytes());
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect::<String>() + ".lock"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &Path) -> Vec<(String, Subject)> {
        vec![("data".to_owned(), Subject::File(path.to_owned()))]
    }

    #[test]
    fn who_comes_second_is_told_who_was_first() {
        let lab = tempfile::tempdir().unwrap();
        let folder = lab.path().join("locks");
        fs::create_dir(&folder).unwrap();
        let data = lab.path().join("data");
        fs::write(&data, "x").unwrap();
        let first = Locks::take(&folder, &file(&data), "run 1 of alice").unwrap();
        let (is_busy, why) = Locks::take(&folder, &file(&data), "run 2").unwrap_err();
        assert!(is_busy && why.contains("data is in use by run 1 of alice"), "{why}");
        // By another name too.
        let other = lab.path().join("other");
        fs::hard_link(&data, &other).unwrap();
        assert!(Locks::take(&folder, &file(&other), "run 2").unwrap_err().0);
        drop(first);
        let _again = Locks::take(&folder, &file(&other), "run 2").unwrap();
    }

    #[test]
    fn a_run_over_many_files_keeps_others_out_of_their_directory() {
        let lab = tempfile::tempdir().unwrap();
        let folder = lab.path().join("locks");
        fs::create_dir(&folder).unwrap();
        let many: Vec<(String, Subject)> =
            (0..=MOST_FILES).flat_map(|at| file(&lab.path().join(format!("f{at}")))).collect();
        let two = Locks::take(&folder, &many[..2], "two").unwrap();
        let third = Locks::take(&folder, &many[2..3], "third").unwrap();
        assert!(Locks::take(&folder, &many, "all").unwrap_err().0);
        drop((two, third));
        let all = Locks::take(&folder, &many, "all").unwrap();
        assert_eq!(all.held.len(), 1);
        assert!(Locks::take(&folder, &many[..1], "one").unwrap_err().0);
    }
}
