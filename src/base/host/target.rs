//! The guard: whether a target may be written to, and what will be lost if it is.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::base::units::format_size;

use super::claims::{self, Claim, ClaimKind, Tables, numbers_of};
use super::{block, signature};

/// Character devices that lose nothing.
const HARMLESS: [&str; 3] = ["/dev/null", "/dev/zero", "/dev/full"];

/// What the user has allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuardOptions {
    /// `allow_mounted_write`: a mounted target is no reason to refuse. Every other use is.
    pub allow_mounted_write: bool,
    /// `--destroy`: serial numbers or paths of block devices whose contents may go.
    pub destroy: Vec<String>,
}

/// The target may be written to.
#[derive(Debug)]
pub struct Consent {
    /// What will be lost, for the user; `None` where there is nothing yet.
    pub sentence: Option<String>,
    /// Claims a block device as long as it is held, so that nobody mounts it meanwhile.
    _claim: Option<File>,
}

/// The target must not be written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The target.
    pub path: PathBuf,
    /// Why, and what to do.
    pub why: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} must not be written: {}", self.path.display(), self.why)
    }
}

/// Asks whether `path` may be written to. Writes nothing.
///
/// # Errors
/// If it is in use, holds something that `--destroy` does not name, or is nothing to write to.
pub fn check_writable(path: &Path, options: &GuardOptions) -> Result<Consent, Refusal> {
    let refuse = |why: String| Refusal { path: path.to_owned(), why };
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        // Who lays the file out says what is wrong with a path that leads through a file.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            // A dangling link would create a file where nobody expects it.
            if path.symlink_metadata().is_ok() {
                return Err(refuse("it is a symbolic link to nothing".to_owned()));
            }
            return Ok(Consent { sentence: None, _claim: None });
        }
        Err(error) => return Err(refuse(format!("it cannot be looked at: {error}"))),
    };
    let kind = metadata.file_type();
    if kind.is_block_device() {
        check_device(path, &metadata, options).map_err(refuse)
    } else if kind.is_file() {
        check_file(path, &metadata).map_err(refuse)
    } else if kind.is_char_device() && HARMLESS.iter().any(|known| is_same_device(known, &metadata)) {
        Ok(Consent { sentence: None, _claim: None })
    } else {
        let what = if kind.is_dir() {
            "a directory: name a file in it, or use directory ="
        } else if kind.is_char_device() {
            "a character device"
        } else {
            "neither a file nor a block device"
        };
        Err(refuse(format!("it is {what}")))
    }
}

fn is_same_device(known: &str, metadata: &Metadata) -> bool {
    std::fs::metadata(known).is_ok_and(|known| known.rdev() == metadata.rdev())
}

fn check_file(path: &Path, metadata: &Metadata) -> Result<Consent, String> {
    let claims = claims::of_file(&Tables::default(), path);
    if !claims.is_empty() {
        return Err(format!("it is {}: detach that first", join(&claims)));
    }
    let size = format_size(metadata.len());
    let sentence =
        (metadata.len() > 0).then(|| format!("{} (existing file, {size}) will be overwritten", shown(path)));
    Ok(Consent { sentence, _claim: None })
}

fn check_device(path: &Path, metadata: &Metadata, options: &GuardOptions) -> Result<Consent, String> {
    let (major, minor) = numbers_of(metadata.rdev());
    let found = claims::of_device(&Tables::default(), major, minor);
    let lifted = |claim: &Claim| options.allow_mounted_write && claim.kind == ClaimKind::Mounted;
    let standing: Vec<Claim> = found.iter().filter(|claim| !lifted(claim)).cloned().collect();
    if !standing.is_empty() {
        let mounted = standing.iter().all(|claim| claim.kind == ClaimKind::Mounted);
        let hint = if mounted {
            "unmount it first (or, if you must, allow_mounted_write = true)"
        } else {
            "release it first"
        };
        return Err(format!("it is {}: {hint}", join(&standing)));
    }
    let claim = match rustix::fs::open(path, OFlags::RDONLY | OFlags::EXCL | OFlags::CLOEXEC, Mode::empty()) {
        Ok(fd) => Some(File::from(fd)),
        // The file system that may be mounted holds the device itself.
        Err(Errno::BUSY) if !found.is_empty() => None,
        Err(Errno::BUSY) => {
            return Err(
                "it is open exclusively by another program (see `fuser -v`): stop that first".to_owned()
            );
        }
        Err(Errno::ACCESS | Errno::PERM) => {
            return Err("it may not be opened by this user: use sudo, or the device's group".to_owned());
        }
        Err(error) => return Err(format!("it cannot be opened: {error}")),
    };
    let reader = match &claim {
        Some(file) => file.try_clone().map_err(|error| error.to_string())?,
        None => File::open(path).map_err(|error| error.to_string())?,
    };
    let size = rustix::fs::seek(&reader, rustix::fs::SeekFrom::End(0)).map_err(|error| error.to_string())?;
    if size == 0 {
        return Err("it has no size: nothing is attached to it".to_owned());
    }
    if is_read_only(major, minor) {
        return Err("it is read-only".to_owned());
    }
    let holds = signature::find(size, &mut |offset, bytes| reader.read_at(bytes, offset));
    let serial = block::lookup(path).and_then(|device| device.serial);
    check_contents(path, holds, serial.as_deref(), options)?;
    let mut facts = vec![format_size(size)];
    facts.extend(serial.map(|serial| format!("serial {serial}")));
    facts.extend(holds.map(|name| format!("holds {name}")));
    let sentence = format!("{} ({}) will be overwritten", shown(path), facts.join(", "));
    Ok(Consent { sentence: Some(sentence), _claim: claim })
}

/// A device that holds something is named by the user, by serial number or path, or left alone.
fn check_contents(
    path: &Path,
    holds: Option<&str>,
    serial: Option<&str>,
    options: &GuardOptions,
) -> Result<(), String> {
    let Some(holds) = holds else { return Ok(()) };
    let canonical = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let named = options.destroy.iter().any(|name| {
        let as_path = Path::new(name);
        Some(name.as_str()) == serial || as_path == path || as_path == canonical
    });
    if named {
        return Ok(());
    }
    let name = serial.map_or_else(|| path.display().to_string(), str::to_owned);
    Err(format!("it holds {holds}: to overwrite that, say --destroy={name}"))
}

fn is_read_only(major: u32, minor: u32) -> bool {
    std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/ro")).is_ok_and(|text| text.trim() == "1")
}

fn join(claims: &[Claim]) -> String {
    let sentences: Vec<&str> = claims.iter().map(|claim| claim.sentence.as_str()).collect();
    sentences.join(", and ")
}

/// The path, and where it leads if it is a link.
fn shown(path: &Path) -> String {
    match std::fs::canonicalize(path) {
        Ok(canonical) if canonical != path && path.is_symlink() => {
            format!("{} -> {}", path.display(), canonical.display())
        }
        _ => path.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(path: &Path) -> String {
        check_writable(path, &GuardOptions::default()).unwrap_err().to_string()
    }

    #[test]
    fn a_file_that_holds_something_is_named_and_a_new_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        let consent = check_writable(&file, &GuardOptions::default()).unwrap();
        assert_eq!(consent.sentence, None);
        std::fs::write(&file, [1; 4096]).unwrap();
        let consent = check_writable(&file, &GuardOptions::default()).unwrap();
        assert!(consent.sentence.unwrap().ends_with("(existing file, 4KiB) will be overwritten"));
    }

    #[test]
    fn what_is_neither_a_file_nor_a_block_device_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        assert!(refusal(directory.path()).contains("directory"));
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(directory.path().join("nothing"), &link).unwrap();
        assert!(refusal(&link).contains("link to nothing"));
        assert!(refusal(Path::new("/dev/tty")).contains("character device"));
        let fifo = directory.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert!(refusal(&fifo).contains("neither"));
        assert!(check_writable(Path::new("/dev/null"), &GuardOptions::default()).is_ok());
    }

    #[test]
    fn contents_are_lost_only_by_name() {
        let path = Path::new("/dev/disk-of-a-test");
        let options = |name: &str| GuardOptions { destroy: vec![name.to_owned()], ..GuardOptions::default() };
        let check = |serial, name| check_contents(path, Some("ext2/3/4"), serial, &options(name));
        assert!(check(Some("S1"), "S1").is_ok());
        assert!(check(None, "/dev/disk-of-a-test").is_ok());
        assert_eq!(
            check(Some("S1"), "S2").unwrap_err(),
            "it holds ext2/3/4: to overwrite that, say --destroy=S1"
        );
        assert!(check(None, "").unwrap_err().ends_with("--destroy=/dev/disk-of-a-test"));
        assert!(check_contents(path, None, None, &GuardOptions::default()).is_ok());
    }
}
