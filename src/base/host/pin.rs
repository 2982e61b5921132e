//! Targets that are opened once and held, so that what was checked is what is used.
//!
//! A path may lead elsewhere by the time it is used: a symbolic link is repointed, a file is replaced, a
//! device comes back under another name. A run therefore follows each path once ([`Pins::pin`]) and keeps
//! the file or device behind it open (O_PATH: no permission is needed and the device does not notice).
//! Whoever needs it opens it through that descriptor ([`PinnedFile::open`]), never by path.

mod entry;

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, FileType, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, Stat};
use rustix::io::Errno;

use super::block::DeviceNumber;
use super::{Sysfs, number};

pub use entry::{CreateError, Pin, RemoveError, Replaced};
use entry::{Directory, Entry, resolve};

/// What tells a file or device from all others while it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Identity {
    /// A block or character device.
    Device {
        /// Whether it is a block device.
        is_block: bool,
        /// `st_rdev`.
        number: u64,
        /// The kernel's number of the disk (`diskseq`, Linux 5.15): another disk under the same device number
        /// has another one.
        sequence: Option<u64>,
    },
    /// Anything else.
    File {
        /// `st_dev`.
        device: u64,
        /// `st_ino`.
        inode: u64,
    },
}

impl Identity {
    /// Of what `metadata` is about.
    #[must_use]
    pub fn of(metadata: &Metadata) -> Identity {
        let kind = metadata.file_type();
        let is_block = kind.is_block_device();
        if is_block || kind.is_char_device() {
            return Identity::of_device(is_block, metadata.rdev());
        }
        Identity::File { device: metadata.dev(), inode: metadata.ino() }
    }

    fn of_stat(stat: &Stat) -> Identity {
        let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
        let is_block = kind.is_block_device();
        if is_block || kind.is_char_device() {
            return Identity::of_device(is_block, stat.st_rdev);
        }
        Identity::File { device: stat.st_dev, inode: stat.st_ino }
    }

    fn of_device(is_block: bool, number: u64) -> Identity {
        let sequence = if is_block { disk_sequence(&Sysfs::default(), number) } else { None };
        Identity::Device { is_block, number, sequence }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Identity::Device { is_block, number, sequence } => {
                let number = DeviceNumber::from_raw(number);
                write!(f, "{} device {number}", if is_block { "block" } else { "character" })?;
                sequence.map_or(Ok(()), |sequence| write!(f, ", disk {sequence} since boot"))
            }
            Identity::File { inode, .. } => write!(f, "inode {inode}"),
        }
    }
}

/// The kernel's number of the disk with this device number, or of the disk of this partition.
fn disk_sequence(sysfs: &Sysfs, raw: u64) -> Option<u64> {
    let folder = sysfs.sys.join("dev/block").join(DeviceNumber::from_raw(raw).to_string());
    // The path through the link of a partition leads into the directory of its disk.
    number(&folder.join("diskseq")).or_else(|| number(&folder.join("../diskseq")))
}

/// Something else was opened than what is pinned.
#[derive(Debug)]
struct ReplacedSince;

impl fmt::Display for ReplacedSince {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it was replaced by something else since the run began")
    }
}

impl std::error::Error for ReplacedSince {}

/// Whether [`PinnedFile::open`] failed as something else was there.
#[must_use]
pub fn is_replaced(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<ReplacedSince>())
}

/// A file or device that is held open.
#[derive(Debug)]
pub struct PinnedFile {
    descriptor: File,
    identity: Identity,
    kind: FileType,
    /// As it was named, for messages.
    named: PathBuf,
    /// Without symbolic links; `None` if no such path leads to it.
    real: Option<PathBuf>,
    way: PathBuf,
}

impl PinnedFile {
    /// What `path` leads to now.
    ///
    /// # Errors
    /// What open(2) with O_PATH says.
    pub fn at(path: &Path) -> io::Result<PinnedFile> {
        let descriptor = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        PinnedFile::of(File::from(descriptor), path)
    }

    /// An open file, which `path` led to.
    fn of(descriptor: File, path: &Path) -> io::Result<PinnedFile> {
        let metadata = descriptor.metadata()?;
        let identity = Identity::of(&metadata);
        let same = |path: &Path| fs::metadata(path).is_ok_and(|other| Identity::of(&other) == identity);
        let proc = PathBuf::from(format!("/proc/self/fd/{}", descriptor.as_raw_fd()));
        let has_proc = same(&proc);
        let by_kernel = if has_proc { fs::read_link(&proc).ok() } else { None };
        let real = by_kernel.filter(|real| same(real)).or_else(|| fs::canonicalize(path).ok());
        let real = real.filter(|real| same(real));
        // Without /proc a path must do, and what it opens is compared.
        let by_path = || real.clone().unwrap_or_else(|| path.to_owned());
        let way = if has_proc { proc } else { by_path() };
        Ok(PinnedFile { descriptor, identity, kind: metadata.file_type(), named: path.to_owned(), real, way })
    }

    /// What tells it from others.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// What kind of file it is.
    #[must_use]
    pub fn kind(&self) -> FileType {
        self.kind
    }

    /// Its path without symbolic links, as it was when it was pinned, or else the path it was named by.
    #[must_use]
    pub fn canonical(&self) -> &Path {
        self.real.as_deref().unwrap_or(&self.named)
    }

    /// A path that leads to it while it is pinned, whatever happens to its names: for those who look at it
    /// by path. To open it use [`PinnedFile::open`].
    #[must_use]
    pub fn way(&self) -> &Path {
        &self.way
    }

    /// Its metadata as of now.
    ///
    /// # Errors
    /// What fstat(2) says.
    pub fn metadata(&self) -> io::Result<Metadata> {
        self.descriptor.metadata()
    }

    /// Opens it with `flags`, whatever its names lead to now.
    ///
    /// # Errors
    /// What open(2) says; without an error number if something else was opened.
    pub fn open(&self, flags: OFlags) -> io::Result<File> {
        let file = File::from(rustix::fs::open(&self.way, flags | OFlags::CLOEXEC, Mode::empty())?);
        if self.is(&file.metadata()?) {
            return Ok(file);
        }
        Err(io::Error::other(ReplacedSince))
    }

    /// Whether the device is still known to the kernel, as the disk that it was; true for a file, which is
    /// there as long as it is held.
    #[must_use]
    pub fn is_present(&self) -> bool {
        let Identity::Device { is_block, number, sequence } = self.identity else { return true };
        let sysfs = Sysfs::default();
        let class = if is_block { "block" } else { "char" };
        let folder = sysfs.sys.join("dev").join(class).join(DeviceNumber::from_raw(number).to_string());
        folder.exists() && (!is_block || disk_sequence(&sysfs, number) == sequence)
    }

    /// Whether `metadata` is about this file or device.
    #[must_use]
    pub fn is(&self, metadata: &Metadata) -> bool {
        self.has_identity(Identity::of(metadata))
    }

    fn has_identity(&self, identity: Identity) -> bool {
        // A file of overlayfs may get another inode number when it is opened for writing for the first time.
        let now = || self.metadata().is_ok_and(|now| Identity::of(&now) == identity);
        identity == self.identity || matches!(identity, Identity::File { .. }) && now()
    }

    /// Its size in bytes; `None` if it has none (a character device) or does not tell.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        if self.kind.is_block_device() {
            let file = self.open(OFlags::RDONLY | OFlags::NONBLOCK).ok()?;
            return rustix::fs::seek(&file, rustix::fs::SeekFrom::End(0)).ok();
        }
        if self.kind.is_file() { Some(self.metadata().ok()?.len()) } else { None }
    }
}

impl PartialEq for PinnedFile {
    fn eq(&self, other: &PinnedFile) -> bool {
        self.identity == other.identity
    }
}

impl Eq for PinnedFile {}

/// Follows the paths of a run, each once. What is one file under several names is pinned once.
#[derive(Debug, Default)]
pub struct Pins {
    by_path: HashMap<PathBuf, Arc<Pin>>,
    files: HashMap<Identity, Arc<PinnedFile>>,
    directories: HashMap<PathBuf, Arc<Directory>>,
    entries: HashMap<(Identity, PathBuf), Arc<Entry>>,
}

impl Pins {
    /// Follows `path`, unless that was done before. A path that leads nowhere is pinned by the directory in
    /// which it would be made; of one that cannot be followed, the pin knows why.
    pub fn pin(&mut self, path: &Path) -> Arc<Pin> {
        if let Some(known) = self.by_path.get(path) {
            return Arc::clone(known);
        }
        let entry = self.entry(path).unwrap_or_else(|error| Arc::new(Entry::unreachable(&error)));
        let pin = Arc::new(Pin::new(path.to_owned(), entry));
        self.by_path.insert(path.to_owned(), Arc::clone(&pin));
        pin
    }

    fn entry(&mut self, path: &Path) -> io::Result<Arc<Entry>> {
        match PinnedFile::at(path) {
            Ok(file) => {
                // Another name of a file that is pinned already is an entry of its own.
                let canonical = file.canonical().to_owned();
                let file = Arc::clone(self.files.entry(file.identity).or_insert_with(|| Arc::new(file)));
                self.entry_of(&canonical, Some(file))
            }
            // A name that ends in a slash can only be a directory.
            Err(error)
                if error.kind() == io::ErrorKind::NotFound && path.as_os_str().as_bytes().ends_with(b"/") =>
            {
                Err(Errno::ISDIR.into())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.entry_of(&resolve(path), None),
            Err(error) => Err(error),
        }
    }

    /// The entry of a path whose last part is not a symbolic link.
    fn entry_of(&mut self, real: &Path, file: Option<Arc<PinnedFile>>) -> io::Result<Arc<Entry>> {
        let is_new = file.is_none();
        let Some(name) = real.file_name().map(OsString::from) else {
            return file.map_or_else(
                || Err(Errno::NOENT.into()),
                |file| Ok(Arc::new(Entry::new(None, OsString::new(), Some(file)))),
            );
        };
        let parent = match real.parent() {
            Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
            Some(parent) => parent,
            None => Path::new("/"),
        };
        let directory = match self.directory(parent) {
            Ok(directory) => directory,
            Err(error) if is_new => return Err(error),
            // It is only needed to remove the file.
            Err(_) => return Ok(Arc::new(Entry::new(None, name, file))),
        };
        if file.as_ref().is_some_and(|file| !directory.has(&name, file)) {
            return Ok(Arc::new(Entry::new(None, name, file)));
        }
        let key = (directory.identity(), directory.missing().join(&name));
        let entry = self.entries.entry(key);
        Ok(Arc::clone(entry.or_insert_with(|| Arc::new(Entry::new(Some(directory), name, file)))))
    }

    fn directory(&mut self, path: &Path) -> io::Result<Arc<Directory>> {
        if let Some(known) = self.directories.get(path) {
            return Ok(Arc::clone(known));
        }
        let directory = Arc::new(Directory::at(path)?);
        self.directories.insert(path.to_owned(), Arc::clone(&directory));
        Ok(directory)
    }
}

#[cfg(test)]
mod tests;
