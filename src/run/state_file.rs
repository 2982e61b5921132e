//! The file that a snapshot stands in. Whatever dies when, it holds the old snapshot or the new one,
//! whole: each is written to a file beside it, whose space was taken before, and then renamed.
//!
//! Has no thread of its own: who calls waits for the disk.

mod claim;
mod disk;
mod place;
#[cfg(test)]
mod tests;

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::base::host::{output_file, printable};
use crate::verify::snapshot::Snapshot;

use disk::{Disk, RealDisk};

pub use claim::{Claim, keep_previous};
pub use place::{Overlap, lies_on};

/// Longer files are no snapshots: thousands of workers take some megabytes.
const MOST_BYTES: u64 = 1 << 30;

/// The file of one run's snapshots, with space for the next one.
#[derive(Debug)]
pub struct StateFile {
    keeper: Keeper<RealDisk>,
}

impl StateFile {
    /// Takes `bytes` of space for the file at `path`, beside it in a file with `.new` behind its name.
    /// What stands at `path` stays as it is until [`StateFile::store`].
    ///
    /// # Errors
    /// If there is no such directory, or no room in it, or it cannot be written to, or another run
    /// keeps its state there.
    pub fn reserve(path: &Path, bytes: u64) -> Result<StateFile, String> {
        if path.is_dir() {
            return Err(format!("{} is a directory: name a file in it", shown(path)));
        }
        let dir = directory_of(path);
        if !dir.is_dir() {
            return Err(format!(
                "the directory {} for the state of the run is not there: create it",
                shown(&dir)
            ));
        }
        let mut keeper = Keeper::new(RealDisk, path, bytes);
        keeper.prepare().map_err(|why| {
            format!("{bytes} bytes for the state of the run cannot be kept at {}: {why}", shown(path))
        })?;
        Ok(StateFile { keeper })
    }

    /// Puts `bytes` in the place of what the file held. When this has come back well they are on
    /// stable storage. If it has not, the file holds either, whole, and this can be called again.
    ///
    /// Needs the space to be taken: after a call without [`StateFile::prepare`] the next takes longer,
    /// and may find the disk full.
    ///
    /// # Errors
    /// Those of the file system, with the step that failed.
    pub fn store(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.keeper.store(bytes)
    }

    /// Takes the space for the next [`StateFile::store`], if it is not taken yet. For after a store,
    /// when nobody waits.
    ///
    /// # Errors
    /// Those of the file system; the next store tries again.
    pub fn prepare(&mut self) -> io::Result<()> {
        self.keeper.prepare()
    }
}

/// A snapshot that was read.
#[derive(Debug)]
pub struct Loaded {
    /// What it says.
    pub snapshot: Snapshot,
    /// The user that its file belongs to, if that is neither root nor the one that reads it.
    pub stranger: Option<u32>,
}

/// Reads a snapshot, whoever it belongs to.
///
/// # Errors
/// If it cannot be read, or is none; with its path.
pub fn load(path: &Path) -> Result<Loaded, String> {
    open(path).map_err(|why| format!("{}: {why}", shown(path)))
}

/// Reads a snapshot, for who must know whether the machine failed or the contents are at fault.
///
/// # Errors
/// Of kind `InvalidData` if what was read is no snapshot, else those of the file system.
pub fn read(path: &Path) -> io::Result<Snapshot> {
    open(path).map(|loaded| loaded.snapshot)
}

fn open(path: &Path) -> io::Result<Loaded> {
    let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    // A pipe would wait for its other end.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(invalid("not a snapshot: no regular file".to_owned()));
    }
    let mut bytes = Vec::new();
    file.take(MOST_BYTES).read_to_end(&mut bytes)?;
    let snapshot = Snapshot::decode(&bytes).map_err(|why| invalid(why.to_string()))?;
    Ok(Loaded { snapshot, stranger: output_file::stranger(about.uid()) })
}

fn shown(path: &Path) -> String {
    printable(&path.to_string_lossy())
}

/// The directory that a file is in.
fn directory_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// The steps, over any disk.
#[derive(Debug)]
struct Keeper<D: Disk> {
    disk: D,
    path: PathBuf,
    beside: PathBuf,
    dir: PathBuf,
    bytes: u64,
    /// The file beside, with its space.
    reserved: Option<D::File>,
}

impl<D: Disk> Keeper<D> {
    fn new(disk: D, path: &Path, bytes: u64) -> Keeper<D> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        let dir = directory_of(path);
        Keeper { disk, path: path.to_owned(), beside: beside.into(), dir, bytes, reserved: None }
    }

    fn prepare(&mut self) -> io::Result<()> {
        if self.reserved.is_some() {
            return Ok(());
        }
        let mut file = named("create the file beside it", self.disk.create(&self.beside))?;
        let taken = named("take its space", self.disk.allocate(&mut file, self.bytes))
            // So that the space is taken on the disk too, where it is only taken when written back.
            .and_then(|()| named("sync the file beside it", self.disk.sync(&mut file)));
        self.reserved = Some(file);
        taken.inspect_err(|_| self.give_up())
    }

    fn store(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut file = match self.reserved.take() {
            Some(file) => file,
            None => named("create the file beside it", self.disk.create(&self.beside))?,
        };
        let renamed = self.fill_and_rename(&mut file, bytes);
        // A file that could not be synced is not tried again: the kernel forgets what it failed to
        // write, and the next sync would come back well.
        if renamed.is_err() {
            self.reserved = Some(file);
            self.give_up();
            return renamed;
        }
        named("sync its directory", self.disk.sync_dir(&self.dir))
    }

    fn fill_and_rename(&mut self, file: &mut D::File, bytes: &[u8]) -> io::Result<()> {
        named("write the file beside it", self.disk.write_at(file, bytes, 0))?;
        named("set its length", self.disk.set_len(file, bytes.len() as u64))?;
        named("sync the file beside it", self.disk.sync(file))?;
        named("rename it", self.disk.rename(&self.beside, &self.path))
    }

    fn give_up(&mut self) {
        if self.reserved.take().is_some() {
            // If it stays, the next run takes it away.
            let _ = self.disk.remove(&self.beside);
        }
    }
}

impl<D: Disk> Drop for Keeper<D> {
    fn drop(&mut self) {
        self.give_up();
    }
}

/// Says which step failed.
fn named<T>(step: &str, result: io::Result<T>) -> io::Result<T> {
    result.map_err(|why| io::Error::new(why.kind(), format!("cannot {step}: {why}")))
}
