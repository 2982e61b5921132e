//! A name in a directory, and what is or will be there.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::{Identity, PinnedFile};
use crate::base::host::target_lock::{LockMode, NotLocked, lock_descriptor};

/// Symbolic links that are followed, as the kernel does.
const MOST_LINKS: usize = 40;

/// A directory that is held open; where it is not there yet, the one in which it will be made.
#[derive(Debug)]
pub(super) struct Directory {
    file: PinnedFile,
    /// Names of the directories to make below `file`.
    missing: PathBuf,
    made: OnceLock<PinnedFile>,
}

impl Directory {
    pub(super) fn at(path: &Path) -> io::Result<Directory> {
        let mut here = path;
        let mut missing: Vec<&OsStr> = Vec::new();
        loop {
            let shown = if here.as_os_str().is_empty() { Path::new(".") } else { here };
            match PinnedFile::at(shown) {
                Ok(file) if file.kind().is_dir() => {
                    let missing = missing.iter().rev().collect();
                    return Ok(Directory { file, missing, made: OnceLock::new() });
                }
                Ok(_) => return Err(Errno::NOTDIR.into()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            let Some(Component::Normal(name)) = here.components().next_back() else {
                return Err(Errno::NOENT.into());
            };
            missing.push(name);
            here = here.parent().unwrap_or(Path::new(""));
        }
    }

    pub(super) fn identity(&self) -> Identity {
        self.file.identity
    }

    pub(super) fn missing(&self) -> &Path {
        &self.missing
    }

    fn path(&self) -> PathBuf {
        if self.missing.as_os_str().is_empty() {
            return self.file.canonical().to_owned();
        }
        self.file.canonical().join(&self.missing)
    }

    /// The directory itself; `None` while it is not made.
    fn open(&self) -> Option<&PinnedFile> {
        if self.missing.as_os_str().is_empty() { Some(&self.file) } else { self.made.get() }
    }

    /// Whether `file` has this name in it, and the name is not a symbolic link.
    pub(super) fn has(&self, name: &OsStr, file: &PinnedFile) -> bool {
        let Some(open) = self.open() else { return false };
        let there = rustix::fs::statat(&open.descriptor, name, AtFlags::SYMLINK_NOFOLLOW);
        there.is_ok_and(|there| file.has_identity(Identity::of_stat(&there)))
    }

    /// Makes what is missing. Symbolic links that have appeared on the way are not followed.
    fn make(&self) -> io::Result<()> {
        if self.open().is_some() {
            return Ok(());
        }
        let mut path = self.file.canonical().to_owned();
        let mut below: Option<PinnedFile> = None;
        for name in self.missing.components() {
            let above = below.as_ref().unwrap_or(&self.file);
            path.push(name);
            match rustix::fs::mkdirat(&above.descriptor, name.as_os_str(), Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::DIRECTORY | OFlags::NOFOLLOW;
            let made = rustix::fs::openat(&above.descriptor, name.as_os_str(), flags, Mode::empty())?;
            below = Some(PinnedFile::of(File::from(made), &path)?);
        }
        if let Some(made) = below {
            let _ = self.made.set(made);
        }
        Ok(())
    }
}

impl PinnedFile {
    /// Whether nothing has this name in the directory.
    fn lacks(&self, name: &OsStr) -> bool {
        let there = rustix::fs::statat(&self.descriptor, name, AtFlags::SYMLINK_NOFOLLOW);
        there.is_err_and(|error| error == Errno::NOENT)
    }
}

/// A name in a directory.
#[derive(Debug)]
pub(super) struct Entry {
    directory: Option<Arc<Directory>>,
    name: OsString,
    file: Mutex<Option<Arc<PinnedFile>>>,
    /// How a file that is made here is locked.
    lock: OnceLock<LockMode>,
    /// Why the path could not be followed.
    trouble: Option<(Option<i32>, String)>,
}

impl Entry {
    pub(super) fn new(
        directory: Option<Arc<Directory>>,
        name: OsString,
        file: Option<Arc<PinnedFile>>,
    ) -> Entry {
        Entry { directory, name, file: Mutex::new(file), lock: OnceLock::new(), trouble: None }
    }

    pub(super) fn unreachable(error: &io::Error) -> Entry {
        let trouble = Some((error.raw_os_error(), error.to_string()));
        Entry { trouble, ..Entry::new(None, OsString::new(), None) }
    }

    fn file(&self) -> MutexGuard<'_, Option<Arc<PinnedFile>>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a path leads whose end is a symbolic link to nothing; the path itself if it is not.
pub(super) fn resolve(path: &Path) -> PathBuf {
    let mut real = path.to_owned();
    for _ in 0..MOST_LINKS {
        let Ok(next) = fs::read_link(&real) else { break };
        real = real.parent().unwrap_or(Path::new("")).join(next);
    }
    real
}

/// A path that was followed once, and what it led to.
#[derive(Debug)]
pub struct Pin {
    path: PathBuf,
    entry: Arc<Entry>,
}

/// A path no longer leads to what it led to when it was pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced {
    /// What it led to, and what it leads to now.
    pub sentence: String,
    /// Whether a device is gone and nothing has taken its place.
    pub device_gone: bool,
}

/// Why a file was not made.
#[derive(Debug)]
pub enum CreateError {
    /// Something is there that was not there when the path was pinned.
    Appeared(Replaced),
    /// Another program has locked it.
    Locked(String),
    /// What the system says.
    Io(io::Error),
}

/// Why a file was not removed.
#[derive(Debug)]
pub enum RemoveError {
    /// Something else is there now.
    Replaced(Replaced),
    /// Its path is a symbolic link, or it is not a regular file.
    NotRegular,
    /// What the system says.
    Io(io::Error),
}

impl Pin {
    pub(super) fn new(path: PathBuf, entry: Arc<Entry>) -> Pin {
        Pin { path, entry }
    }

    /// The path as it was named.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is held: `None` if nothing is there yet, or the run has removed it, or it cannot be reached.
    #[must_use]
    pub fn file(&self) -> Option<Arc<PinnedFile>> {
        self.entry.file().clone()
    }

    /// What is held.
    ///
    /// # Errors
    /// Why nothing is.
    pub fn existing(&self) -> io::Result<Arc<PinnedFile>> {
        self.file().ok_or_else(|| match &self.entry.trouble {
            Some((Some(number), _)) => io::Error::from_raw_os_error(*number),
            Some((None, why)) => io::Error::other(why.clone()),
            None => Errno::NOENT.into(),
        })
    }

    /// Whether nothing is there, and a file could be made.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.entry.trouble.is_none() && self.entry.directory.is_some() && self.file().is_none()
    }

    /// Whether `path` leads to what is held, or would be made where this will be made.
    #[must_use]
    pub fn is_at(&self, path: &Path) -> bool {
        if let Some(file) = self.file() {
            // Sinks such as /dev/null may be both.
            return !file.kind.is_char_device() && fs::metadata(path).is_ok_and(|now| file.is(&now));
        }
        let real = resolve(path);
        let (Some(name), Some(directory)) = (real.file_name(), &self.entry.directory) else { return false };
        let parent = match real.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let held = directory.open();
        name == self.entry.name
            && held.is_some_and(|held| fs::metadata(parent).is_ok_and(|now| held.is(&now)))
    }

    /// Whether two paths lead to the same name in the same directory.
    #[must_use]
    pub fn is_same_entry(&self, other: &Pin) -> bool {
        self.entry_number() == other.entry_number()
    }

    /// A number that is the same for all paths of a run that lead to the same name in the same directory.
    #[must_use]
    pub fn entry_number(&self) -> usize {
        Arc::as_ptr(&self.entry).addr()
    }

    /// The path without symbolic links, as it was when it was pinned.
    #[must_use]
    pub fn canonical(&self) -> PathBuf {
        match (&*self.entry.file(), &self.entry.directory) {
            (_, Some(directory)) => directory.path().join(&self.entry.name),
            (Some(file), None) => file.canonical().to_owned(),
            (None, None) => self.path.clone(),
        }
    }

    /// The path without symbolic links, if it is certain that it led to what is held; of what is not there
    /// yet, where it will be made.
    #[must_use]
    pub fn real(&self) -> Option<PathBuf> {
        match (&*self.entry.file(), &self.entry.directory) {
            (_, Some(directory)) => {
                Some(directory.file.real.clone()?.join(&directory.missing).join(&self.entry.name))
            }
            (Some(file), None) => file.real.clone(),
            (None, None) => None,
        }
    }

    /// A path for those who look at what lies below it by path: it leads to the file, or to the directory in
    /// which it will be made. To be used while the pin is held.
    #[must_use]
    pub fn place(&self) -> PathBuf {
        if let Some(file) = self.file() {
            return file.way.clone();
        }
        let directory = self.entry.directory.as_ref();
        directory.map_or_else(
            || self.path.clone(),
            |directory| directory.open().unwrap_or(&directory.file).way.clone(),
        )
    }

    /// The directory that must be made before a file can be made here.
    #[must_use]
    pub fn missing_directory(&self) -> Option<PathBuf> {
        let directory = self.entry.directory.as_ref().filter(|directory| directory.open().is_none());
        directory.map(|directory| directory.path())
    }

    /// Makes the directories that are missing.
    ///
    /// # Errors
    /// What the system says.
    pub fn make_directories(&self) -> io::Result<()> {
        self.entry.directory.as_ref().map_or(Ok(()), |directory| directory.make())
    }

    /// Has files that are made here locked.
    pub fn lock_when_made(&self, mode: LockMode) {
        let _ = self.entry.lock.set(mode);
    }

    /// Makes the file, which must not be there yet, for reading and writing. It is locked as
    /// [`Pin::lock_when_made`] said.
    ///
    /// # Errors
    /// If something is there by now, or what the system says.
    pub fn create(&self) -> Result<File, CreateError> {
        let mut held = self.entry.file();
        let directory = self.entry.directory.as_ref().filter(|_| held.is_none());
        let Some(directory) = directory.and_then(|directory| directory.open()) else {
            let error = if held.is_some() { Errno::EXIST } else { Errno::NOENT };
            return Err(CreateError::Io(error.into()));
        };
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let name = self.entry.name.as_os_str();
        let made = match rustix::fs::openat(&directory.descriptor, name, flags, Mode::from_raw_mode(0o666)) {
            Ok(made) => File::from(made),
            Err(Errno::EXIST) => {
                let there = directory.canonical().join(name);
                let holder =
                    self.holder_of(directory).map(|by| format!(", used by {by}")).unwrap_or_default();
                let sentence = format!(
                    "{}: there was nothing when the run began, and {} is there now{holder}; it was left as it is",
                    self.path.display(),
                    describe(&there)
                );
                return Err(CreateError::Appeared(Replaced { sentence, device_gone: false }));
            }
            Err(error) => return Err(CreateError::Io(error.into())),
        };
        if let Some(&mode) = self.entry.lock.get()
            && let Err(NotLocked::Held(by)) = lock_descriptor(&made, mode)
        {
            return Err(CreateError::Locked(by));
        }
        let copy = made.try_clone().map_err(CreateError::Io)?;
        let path = directory.canonical().join(name);
        *held = Some(Arc::new(PinnedFile::of(copy, &path).map_err(CreateError::Io)?));
        Ok(made)
    }

    /// Who has locked the regular file that has this name in `directory`: another run that made it first.
    fn holder_of(&self, directory: &PinnedFile) -> Option<String> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let name = self.entry.name.as_os_str();
        let file = File::from(rustix::fs::openat(&directory.descriptor, name, flags, Mode::empty()).ok()?);
        let is_file = file.metadata().is_ok_and(|about| about.is_file());
        match is_file.then(|| lock_descriptor(&file, LockMode::Shared))? {
            Err(NotLocked::Held(by)) => Some(by),
            _ => None,
        }
    }

    /// Removes the file from the directory in which it was found, unless its path is a symbolic link, or
    /// something else has its name there.
    ///
    /// # Errors
    /// If it is something else, or what the system says.
    pub fn remove(&self) -> Result<(), RemoveError> {
        if fs::symlink_metadata(&self.path).is_ok_and(|named| named.file_type().is_symlink()) {
            return Err(RemoveError::NotRegular);
        }
        self.remove_made()
    }

    /// The same for a file that the run has made: where it made it through a symbolic link too.
    ///
    /// # Errors
    /// As of [`Pin::remove`].
    pub fn remove_made(&self) -> Result<(), RemoveError> {
        let Some(file) = self.file() else { return Ok(()) };
        if !file.kind.is_file() {
            return Err(RemoveError::NotRegular);
        }
        let directory = self.entry.directory.as_ref();
        let Some((directory, open)) = directory.and_then(|directory| Some((directory, directory.open()?)))
        else {
            return Err(RemoveError::Io(io::Error::other("its directory cannot be opened")));
        };
        let name = self.entry.name.as_os_str();
        if directory.has(name, &file) {
            rustix::fs::unlinkat(&open.descriptor, name, AtFlags::empty())
                .map_err(|error| RemoveError::Io(error.into()))?;
        } else if !open.lacks(name) {
            let path = self.path.display();
            let here =
                || format!("{path}: another file has its name in its directory, and was left as it is");
            let sentence = self.check().map_or_else(|replaced| replaced.sentence, |()| here());
            return Err(RemoveError::Replaced(Replaced { sentence, device_gone: false }));
        }
        *self.entry.file() = None;
        Ok(())
    }

    /// Another directory that the path of a file which is not there leads into by now.
    fn moved_directory(&self) -> Option<String> {
        let held = self.entry.directory.as_ref()?.open()?;
        let real = resolve(&self.path);
        let parent = match real.parent()? {
            here if here.as_os_str().is_empty() => Path::new("."),
            parent => parent,
        };
        let now = fs::metadata(parent).ok().filter(|now| !held.is(now))?;
        Some(format!(
            "{} led into the directory {} ({}) when it was checked, and leads into {} ({}) now",
            self.path.display(),
            held.canonical().display(),
            held.identity,
            fs::canonicalize(parent).unwrap_or_else(|_| parent.to_owned()).display(),
            Identity::of(&now)
        ))
    }

    /// Whether the path still leads to what is held, or to nothing where nothing is.
    ///
    /// # Errors
    /// What it led to and what it leads to now.
    pub fn check(&self) -> Result<(), Replaced> {
        let held = self.file();
        let now = fs::metadata(&self.path);
        let shown = self.path.display();
        let (sentence, device_gone) = match (held, now) {
            (Some(file), Ok(now)) if file.is(&now) => return Ok(()),
            (None, Err(_)) => match self.moved_directory() {
                Some(sentence) => (sentence, false),
                None => return Ok(()),
            },
            (Some(file), Ok(_)) => {
                let was = format!("{} ({})", file.canonical().display(), file.identity);
                (
                    format!(
                        "{shown} led to {was} when it was checked, and leads to {} now",
                        describe(&self.path)
                    ),
                    false,
                )
            }
            (Some(file), Err(error)) => {
                let was = format!("{} ({})", file.canonical().display(), file.identity);
                let is_device = matches!(file.identity, Identity::Device { .. });
                (
                    format!("{shown} led to {was} when it was checked, and cannot be followed now: {error}"),
                    is_device && !file.is_present(),
                )
            }
            (None, Ok(_)) => (
                format!(
                    "{shown} led to nothing when it was checked, and leads to {} now",
                    describe(&self.path)
                ),
                false,
            ),
        };
        Err(Replaced { sentence: format!("{sentence}; nothing was written there"), device_gone })
    }
}

impl PartialEq for Pin {
    fn eq(&self, other: &Pin) -> bool {
        self.path == other.path && self.is_same_entry(other)
    }
}

impl Eq for Pin {}

impl fmt::Display for Replaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

/// What a path leads to now: `/dev/sda (block device 8:0)`.
fn describe(path: &Path) -> String {
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    match fs::metadata(path) {
        Ok(metadata) => format!("{} ({})", real.display(), Identity::of(&metadata)),
        Err(_) => real.display().to_string(),
    }
}
