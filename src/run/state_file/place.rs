//! Whether a directory for snapshots lies on what is tested.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::base::host::beneath::Beneath;
use crate::base::host::{DeviceNumber, Sysfs};

use super::{directory_of, shown};

/// What a directory has in common with a target. Sentences are for users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Overlap {
    /// It lies on the target: what the run writes there destroys it.
    OnTarget(String),
    /// It lies on a device that the target lies on too: nothing of the run writes over it, but what
    /// befalls the device befalls both.
    SharedDevice(String),
}

/// What the directory `dir` has in common with any of `targets` (files and block devices; others
/// have nothing), the worst first; `None` if nothing is known of. A network's or an overlay's
/// devices are not known: that a device is mounted somewhere is for the guard to find.
///
/// # Errors
/// If the directory, a target or the tables of the machine cannot be looked at.
pub fn lies_on(dir: &Path, targets: &[PathBuf]) -> Result<Option<Overlap>, String> {
    let sysfs = Sysfs::default();
    let below = look(dir, Beneath::path(&sysfs, dir))?;
    let mut shared = None;
    for target in targets {
        match overlap(&sysfs, dir, &below, target)? {
            on @ Some(Overlap::OnTarget(_)) => return Ok(on),
            other => shared = shared.or(other),
        }
    }
    Ok(shared)
}

fn look<T>(path: &Path, found: io::Result<T>) -> Result<T, String> {
    found.map_err(|why| format!("cannot tell what {} lies on: {why}", shown(path)))
}

fn overlap(sysfs: &Sysfs, dir: &Path, below: &Beneath, target: &Path) -> Result<Option<Overlap>, String> {
    let metadata = match fs::metadata(target) {
        // It will be made in its directory.
        Err(why) if why.kind() == io::ErrorKind::NotFound => fs::metadata(directory_of(target)),
        other => other,
    };
    let metadata = match metadata {
        // A name that leads nowhere, such as an engine without files has.
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => look(target, other)?,
    };
    let kind = metadata.file_type();
    let names = || (shown(dir), shown(target));
    let on_target = || {
        let (dir, target) = names();
        Some(Overlap::OnTarget(format!("{dir} lies on {target}, which is under test")))
    };
    let beneath_target = if kind.is_block_device() {
        let number = DeviceNumber::from_raw(metadata.rdev());
        if below.devices.contains_key(&number) {
            return Ok(on_target());
        }
        look(target, Beneath::device(sysfs, number))?
    } else if kind.is_file() || kind.is_dir() {
        if kind.is_file() && below.files.contains(&(metadata.dev(), metadata.ino())) {
            return Ok(on_target());
        }
        let number = DeviceNumber::from_raw(metadata.dev());
        look(target, Beneath::file_system(sysfs, number))?
    } else {
        return Ok(None);
    };
    let (dir, target) = names();
    let shared = |name: &str| {
        Overlap::SharedDevice(format!("{dir} lies on {name}, and so does {target}, which is under test"))
    };
    Ok(beneath_target.shared_with(below).map(shared))
}
