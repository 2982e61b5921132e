//! A snapshot on disk: whole or not there, whatever dies when.
//!
//! It is written beside its name, into space that was taken before the run, made durable there,
//! renamed over the old one, and the directory made durable.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::FallocateFlags;

use crate::base::host::block::{BlockDevice, DeviceNumber};
use crate::base::host::{Sysfs, block};
use crate::verify::snapshot::{MOST_BYTES, Snapshot};

/// Devices on top of each other that are looked through.
const MOST_STACKED: u32 = 8;

/// What is done with files, one step at a time: a test fails or ends the process at each.
trait Steps {
    fn create(&mut self, path: &Path) -> io::Result<File>;
    fn reserve(&mut self, file: &File, bytes: u64) -> io::Result<()>;
    fn write(&mut self, file: &File, bytes: &[u8]) -> io::Result<()>;
    fn cut(&mut self, file: &File, len: u64) -> io::Result<()>;
    fn sync(&mut self, file: &File) -> io::Result<()>;
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()>;
    fn sync_folder(&mut self, path: &Path) -> io::Result<()>;
}

/// The real ones.
struct Real;

impl Steps for Real {
    fn create(&mut self, path: &Path) -> io::Result<File> {
        OpenOptions::new().write(true).create(true).truncate(true).open(path)
    }

    fn reserve(&mut self, file: &File, bytes: u64) -> io::Result<()> {
        match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes) {
            // A file system that cannot promise space: it is taken by writing to it.
            Err(rustix::io::Errno::OPNOTSUPP) => {
                let zeros = vec![0; usize::try_from(bytes).unwrap_or(0)];
                file.write_all_at(&zeros, 0)
            }
            other => Ok(other?),
        }
    }

    fn write(&mut self, file: &File, bytes: &[u8]) -> io::Result<()> {
        file.write_all_at(bytes, 0)
    }

    fn cut(&mut self, file: &File, len: u64) -> io::Result<()> {
        file.set_len(len)
    }

    fn sync(&mut self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn sync_folder(&mut self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

/// Where the snapshots of one run are stored.
pub struct StateFile {
    path: PathBuf,
    folder: PathBuf,
    fresh: PathBuf,
    bytes: u64,
    /// The next one, with its space taken.
    next: Option<File>,
    steps: Box<dyn Steps + Send>,
}

impl std::fmt::Debug for StateFile {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "StateFile({})", self.path.display())
    }
}

impl StateFile {
    /// Takes the space for snapshots of at most `bytes` at `path`. What lies there stays until the
    /// first one is stored.
    ///
    /// # Errors
    /// A sentence: the directory is missing or cannot be written to, or there is no space.
    pub fn reserve(path: &Path, bytes: u64) -> Result<StateFile, String> {
        let (folder, fresh) = (folder_of(path), path.with_added_extension("new"));
        let steps = Box::new(Real);
        let mut file = StateFile { path: path.to_owned(), folder, fresh, bytes, next: None, steps };
        file.make_ready()
            .map_err(|error| format!("there can be no snapshot at {}: {error}", path.display()))?;
        Ok(file)
    }

    /// Makes the next one ready.
    fn make_ready(&mut self) -> io::Result<()> {
        if self.path.is_dir() {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, "a directory has this name"));
        }
        let file = self.steps.create(&self.fresh)?;
        self.steps.reserve(&file, self.bytes)?;
        self.steps.sync(&file)?;
        self.next = Some(file);
        Ok(())
    }

    /// Stores a snapshot in place of the one before; afterwards it is on stable storage.
    ///
    /// # Errors
    /// If it could not be stored; the one before is whole then.
    pub fn store(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.next.is_none() {
            self.make_ready()?;
        }
        let Some(file) = self.next.take() else { return Err(io::ErrorKind::NotFound.into()) };
        self.steps.write(&file, bytes)?;
        self.steps.cut(&file, bytes.len() as u64)?;
        self.steps.sync(&file)?;
        self.steps.rename(&self.fresh, &self.path)?;
        self.steps.sync_folder(&self.folder)
    }

    /// Takes the space for the next snapshot, where there is time for that.
    pub fn prepare_next(&mut self) {
        if self.next.is_none() {
            // What is wrong is told when it is needed.
            let _ = self.make_ready();
        }
    }
}

impl Drop for StateFile {
    fn drop(&mut self) {
        if self.next.is_some() {
            let _ = std::fs::remove_file(&self.fresh);
        }
    }
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// The snapshot at `path`.
///
/// # Errors
/// A sentence with the path: there is none, or it cannot be read, or it is damaged.
pub fn load(path: &Path) -> Result<Snapshot, String> {
    let shown = path.display();
    let bytes = match std::fs::metadata(path) {
        Ok(metadata) if metadata.len() > MOST_BYTES => {
            Err(format!("{} bytes are no snapshot", metadata.len()))
        }
        Ok(_) => std::fs::read(path).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let bytes = bytes.map_err(|why| format!("cannot read the snapshot {shown}: {why}"))?;
    Snapshot::decode(&bytes).map_err(|why| format!("cannot use the snapshot {shown}: {why}"))
}

/// The target, if there is one, that the directory of a snapshot lies on: a device that holds its
/// file system, itself or by a partition or a device made of it.
pub fn lies_on(folder: &Path, targets: &[PathBuf]) -> Option<PathBuf> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let device = DeviceNumber::from_raw(std::fs::metadata(folder).ok()?.dev());
    let sysfs = Sysfs::default();
    let holds = |target: &&PathBuf| {
        let found = block::lookup(&sysfs, target).ok().flatten();
        found.is_some_and(|found| holds(&sysfs, &found, device, MOST_STACKED))
    };
    targets.iter().find(holds).cloned()
}

/// Whether `device` is `disk`, one of its partitions, or made of one of them.
fn holds(sysfs: &Sysfs, disk: &BlockDevice, device: DeviceNumber, depth: u32) -> bool {
    if disk.number == device {
        return true;
    }
    let Some(depth) = depth.checked_sub(1) else { return false };
    let holders = std::fs::read_dir(disk.dir.join("holders")).into_iter().flatten().flatten();
    let above = holders.map(|entry| entry.file_name().to_string_lossy().into_owned());
    disk.partitions
        .iter()
        .cloned()
        .chain(above)
        .filter_map(|name| block::by_name(sysfs, &name))
        .any(|part| holds(sysfs, &part, device, depth))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::verify::RunId;
    use crate::verify::snapshot::Cause;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Ends everything from the n-th step on, as SIGKILL would; a write may get half way.
    struct Dying {
        left: Arc<AtomicUsize>,
    }

    impl Dying {
        fn step(&mut self) -> io::Result<()> {
            match self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)) {
                Ok(_) => Ok(()),
                Err(_) => Err(io::Error::other("dead")),
            }
        }
    }

    impl Steps for Dying {
        fn create(&mut self, path: &Path) -> io::Result<File> {
            self.step()?;
            Real.create(path)
        }

        fn reserve(&mut self, file: &File, bytes: u64) -> io::Result<()> {
            self.step()?;
            Real.reserve(file, bytes)
        }

        fn write(&mut self, file: &File, bytes: &[u8]) -> io::Result<()> {
            if let Err(dead) = self.step() {
                Real.write(file, &bytes[..bytes.len() / 2])?;
                return Err(dead);
            }
            Real.write(file, bytes)
        }

        fn cut(&mut self, file: &File, len: u64) -> io::Result<()> {
            self.step()?;
            Real.cut(file, len)
        }

        fn sync(&mut self, file: &File) -> io::Result<()> {
            self.step()?;
            Real.sync(file)
        }

        fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
            self.step()?;
            Real.rename(from, to)
        }

        fn sync_folder(&mut self, path: &Path) -> io::Result<()> {
            self.step()?;
            Real.sync_folder(path)
        }
    }

    fn snapshot(number: u64) -> Snapshot {
        Snapshot {
            run: RunId(7),
            taken_unix_ns: number,
            cause: Cause::Checkpoint,
            tool: "x".repeat(3000),
            jobs: Vec::new(),
        }
    }

    #[test]
    fn whatever_dies_when_the_old_snapshot_or_the_new_one_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let (mut old, mut new) = (0, 0);
        for steps in 0..40 {
            let path = folder.path().join(format!("{steps}.state"));
            let mut file = StateFile::reserve(&path, 1 << 16).unwrap();
            file.store(&snapshot(0).encode()).unwrap();
            let left = Arc::new(AtomicUsize::new(steps));
            file.steps = Box::new(Dying { left });
            let mut stored = 0;
            for number in 1..5 {
                if file.store(&snapshot(number).encode()).is_err() {
                    break;
                }
                stored = number;
                file.prepare_next();
            }
            std::mem::forget(file);
            let found = load(&path).unwrap().taken_unix_ns;
            assert!(found == stored || found == stored + 1, "{found} after {stored} were stored");
            old += u64::from(found == stored);
            new += u64::from(found != stored);
        }
        assert!(old > 0 && new > 0, "{old} {new}");
    }

    #[test]
    fn nothing_is_left_of_a_run_that_stored_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.state");
        drop(StateFile::reserve(&path, 4096).unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_missing_directory_and_a_missing_snapshot_are_told_with_their_paths() {
        let why = StateFile::reserve(Path::new("/nowhere/at/all/a.state"), 4096).unwrap_err();
        assert!(why.contains("/nowhere/at/all/a.state"), "{why}");
        let why = load(Path::new("/nowhere/a.state")).unwrap_err();
        assert!(why.contains("/nowhere/a.state") && why.contains("No such file"), "{why}");
    }
}
