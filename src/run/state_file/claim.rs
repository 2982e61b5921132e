//! The place of a run's snapshot, claimed for the run, and the snapshots of earlier runs that were there.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::base::host::output_file::{self, Start};
use crate::base::verify::RunId;

use super::{directory_of, shown};

/// Snapshots of earlier runs that are kept beside the newest.
pub const KEPT: u32 = 3;
/// Attempts at a lock file that other runs remove at their end.
const TRIES: u32 = 100;
/// Bytes of a lock file that are read: a process ID.
const MOST_HOLDER: u64 = 32;

/// The lock on the place of a snapshot. Held to the end of the run: the file beside the snapshot is made anew
/// for each one, and between two of them it is not there.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    file: File,
}

impl Claim {
    /// Claims the place of the snapshot at `path`, by a lock on a file with `.lock` behind its name. On a file
    /// system without locks nothing is claimed.
    ///
    /// # Errors
    /// If another run has it, with its process ID; those of the file system, as a sentence.
    pub fn take(path: &Path) -> Result<Option<Claim>, String> {
        let lock = with_suffix(path, "lock");
        let failed =
            |why: io::Error| format!("the state of the run cannot be locked by {}: {why}", shown(&lock));
        for _ in 0..TRIES {
            let file = output_file::open(&lock, Start::Keep).map_err(failed)?;
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => {
                    return Err(format!(
                        "another run{} keeps its state at {}: wait until it has ended, or give this one a \
                         `state_dir` of its own",
                        holder(&lock),
                        shown(path)
                    ));
                }
                Err(Errno::OPNOTSUPP | Errno::NOLCK | Errno::NOSYS) => return Ok(None),
                Err(why) => return Err(failed(why.into())),
            }
            // The run that had it may have removed it meanwhile.
            let is_same = |now: fs::Metadata| {
                file.metadata().is_ok_and(|own| (own.dev(), own.ino()) == (now.dev(), now.ino()))
            };
            if fs::symlink_metadata(&lock).is_ok_and(is_same) {
                let mut claim = Claim { path: lock.clone(), file };
                let told = claim.file.set_len(0).and_then(|()| claim.file.rewind());
                told.and_then(|()| writeln!(claim.file, "{}", std::process::id())).map_err(failed)?;
                return Ok(Some(claim));
            }
        }
        Err(failed(io::Error::other("it is removed again and again")))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // While it is locked. One that stays after a crash is taken over by the next run.
        let _ = fs::remove_file(&self.path);
    }
}

fn holder(lock: &Path) -> String {
    let mut text = String::new();
    let read = File::open(lock).map(|file| file.take(MOST_HOLDER).read_to_string(&mut text));
    match text.trim().parse::<u32>() {
        Ok(process) if matches!(read, Ok(Ok(_))) => format!(" (process {process})"),
        _ => String::new(),
    }
}

fn with_suffix(path: &Path, suffix: impl std::fmt::Display) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{suffix}"));
    name.into()
}

/// Gives what is at `path` another name, unless it is a snapshot of `run` itself: a snapshot of an earlier run
/// may be the only evidence of what that was promised. The newest is `.1`, and so many as [`KEPT`] stay. Gives a
/// sentence for the user, if there was one.
///
/// # Errors
/// If it cannot be renamed, as a sentence.
pub fn keep_previous(path: &Path, run: RunId) -> Result<Option<String>, String> {
    let found = match super::read(path) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
        Ok(snapshot) if snapshot.run == run => return Ok(None),
        Ok(snapshot) => format!("the snapshot of run {}", snapshot.run),
        Err(_) => format!("what was at {}, which is not a snapshot,", shown(path)),
    };
    let numbered = |number: u32| with_suffix(path, number);
    let failed = |why: io::Error| {
        format!("{found} cannot be kept as {}: {why}; move it away, or set state_dir", shown(&numbered(1)))
    };
    for number in (1..KEPT).rev() {
        match fs::rename(numbered(number), numbered(number + 1)) {
            Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(failed(why)),
            _ => {}
        }
    }
    // A link first: whatever dies when, there is a snapshot at `path`.
    let kept = fs::hard_link(path, numbered(1)).or_else(|_| fs::rename(path, numbered(1)));
    let synced = kept.and_then(|()| File::open(directory_of(path))?.sync_all());
    synced.map_err(failed)?;
    Ok(Some(format!("{found} is kept as {} (of earlier runs, {KEPT} are kept)", shown(&numbered(1)))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::snapshot::{Cause, Snapshot};

    fn store(path: &Path, run: u128) {
        let snapshot = Snapshot {
            run: RunId(run),
            taken_unix_ns: 1,
            cause: Cause::Trigger,
            tool: "test".to_owned(),
            jobs: Vec::new(),
            unverified: Vec::new(),
        };
        let bytes = snapshot.encode();
        super::super::StateFile::reserve(path, 64).unwrap().store(&bytes).unwrap();
    }

    fn run_of(path: &Path) -> Option<u128> {
        super::super::read(path).ok().map(|snapshot| snapshot.run.0)
    }

    #[test]
    fn snapshots_of_earlier_runs_stay_under_numbers_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("job.state");
        assert_eq!(keep_previous(&path, RunId(1)), Ok(None));
        for run in 1..=6 {
            let note = keep_previous(&path, RunId(run)).unwrap();
            assert_eq!(note.is_some(), run > 1);
            store(&path, run);
            // The same run stores several.
            assert_eq!(keep_previous(&path, RunId(run)), Ok(None));
            store(&path, run);
        }
        let kept: Vec<_> = (1..=KEPT).map(|number| run_of(&with_suffix(&path, number))).collect();
        assert_eq!((run_of(&path), kept), (Some(6), vec![Some(5), Some(4), Some(3)]));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1 + KEPT as usize);
    }

    #[test]
    fn what_is_not_a_snapshot_is_kept_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("job.state");
        fs::write(&path, "letters").unwrap();
        let note = keep_previous(&path, RunId(1)).unwrap().unwrap();
        assert!(note.contains("not a snapshot"), "{note}");
        store(&path, 1);
        assert_eq!(fs::read_to_string(with_suffix(&path, 1)).unwrap(), "letters");
    }

    #[test]
    fn one_run_has_the_place_and_the_next_one_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("job.state");
        let first = Claim::take(&path).unwrap().unwrap();
        let why = Claim::take(&path).unwrap_err();
        assert!(why.contains("another run") && why.contains(&std::process::id().to_string()), "{why}");
        // Stored snapshots change nothing of that.
        store(&path, 1);
        assert!(Claim::take(&path).is_err());
        assert!(Claim::take(&folder.path().join("other.state")).is_ok());
        drop(first);
        drop(Claim::take(&path).unwrap());
        // One that a run left behind that died.
        fs::write(with_suffix(&path, "lock"), "1\n").unwrap();
        drop(Claim::take(&path).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no lock stays");
    }
}
