//! What a directory or file lies on: the block devices below its file system, down to the disks, and
//! the files that loop devices among them show.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::block::{self, BlockDevice, DeviceNumber};
use super::claims::{Mount, parse_mountinfo};
use super::{Sysfs, attribute, names};

/// Everything that something lies on. Where the kernel does not tell (a network, an overlay whose
/// layers are hidden), less than all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beneath {
    /// Devices, partitions and their disks, with their kernel names.
    pub devices: BTreeMap<DeviceNumber, String>,
    /// World-wide names of those disks: two paths may lead to one drive.
    pub wwids: BTreeSet<String>,
    /// Device and inode of files that loop devices show.
    pub files: BTreeSet<(u64, u64)>,
}

impl Beneath {
    /// What lies below the file or directory at `path`; not the device whose node it is.
    ///
    /// # Errors
    /// If it or the mount table cannot be looked at.
    pub fn path(sysfs: &Sysfs, path: &Path) -> io::Result<Beneath> {
        Beneath::file_system(sysfs, DeviceNumber::from_raw(fs::metadata(path)?.dev()))
    }

    /// What lies below the file system of that number (`st_dev`).
    ///
    /// # Errors
    /// If the mount table cannot be read.
    pub fn file_system(sysfs: &Sysfs, number: DeviceNumber) -> io::Result<Beneath> {
        let mut walk = Walk::new(sysfs)?;
        walk.file_system(number);
        Ok(walk.found)
    }

    /// The device itself and what lies below it.
    ///
    /// # Errors
    /// If the mount table cannot be read.
    pub fn device(sysfs: &Sysfs, number: DeviceNumber) -> io::Result<Beneath> {
        let mut walk = Walk::new(sysfs)?;
        walk.device(block::by_number(sysfs, number));
        Ok(walk.found)
    }

    /// A device that both lie on.
    #[must_use]
    pub fn shared_with(&self, other: &Beneath) -> Option<&str> {
        let device = self.devices.iter().find(|(number, _)| other.devices.contains_key(number));
        let wwid = self.wwids.iter().find(|wwid| other.wwids.contains(*wwid));
        device.map(|(_, name)| name.as_str()).or(wwid.map(String::as_str))
    }
}

struct Walk<'a> {
    sysfs: &'a Sysfs,
    mounts: Vec<Mount>,
    found: Beneath,
}

impl<'a> Walk<'a> {
    fn new(sysfs: &'a Sysfs) -> io::Result<Walk<'a>> {
        let mounts = parse_mountinfo(&sysfs.mountinfo()?);
        Ok(Walk { sysfs, mounts, found: Beneath::default() })
    }

    /// The devices of the file system with this number.
    fn file_system(&mut self, number: DeviceNumber) {
        if number.major != 0 {
            return self.device(block::by_number(self.sysfs, number));
        }
        // A made-up number: btrfs and bcachefs name a device or several as their source.
        let mounts = self.mounts.iter().filter(|mount| mount.number == number);
        let sources: BTreeSet<PathBuf> = mounts
            .flat_map(|mount| std::iter::once(mount.source.as_str()).chain(mount.source.split(':')))
            .filter(|source| source.starts_with('/'))
            .map(|source| self.sysfs.locate(Path::new(source)))
            .collect();
        for source in sources {
            let Some(number) = DeviceNumber::of_block_path(&source) else { continue };
            let Some(device) = block::by_number(self.sysfs, number) else { continue };
            for member in btrfs_members(self.sysfs, &device) {
                self.device(block::describe(&member));
            }
            self.device(Some(device));
        }
    }

    fn device(&mut self, device: Option<BlockDevice>) {
        let Some(device) = device else { return };
        if self.found.devices.insert(device.number, device.name.clone()).is_some() {
            return;
        }
        if device.disk.is_some() {
            self.device(device.dir.parent().and_then(block::describe));
        }
        for slave in names(&device.dir.join("slaves")) {
            self.device(block::describe(&device.dir.join("slaves").join(slave)));
        }
        self.found.wwids.extend(device.wwid.clone());
        if device.disk.is_none()
            && let Some(path) = device.loop_backing_file()
        {
            self.loop_file(&self.sysfs.locate(Path::new(&path)));
        }
    }

    fn loop_file(&mut self, path: &Path) {
        if let Some(number) = DeviceNumber::of_block_path(path) {
            self.device(block::by_number(self.sysfs, number));
        } else if let Ok(metadata) = fs::metadata(path)
            && self.found.files.insert((metadata.dev(), metadata.ino()))
        {
            self.file_system(DeviceNumber::from_raw(metadata.dev()));
        }
    }
}

/// The directories of all devices of the mounted btrfs that `device` is part of.
fn btrfs_members(sysfs: &Sysfs, device: &BlockDevice) -> Vec<PathBuf> {
    let root = sysfs.sys.join("fs/btrfs");
    let lists = names(&root).into_iter().map(|id| root.join(id).join("devices"));
    let is_member = |list: &PathBuf| {
        let node = list.join(&device.name);
        attribute(&node.join("dev")).and_then(|text| DeviceNumber::parse(&text)) == Some(device.number)
    };
    lists
        .filter(is_member)
        .flat_map(|list| names(&list).into_iter().map(move |name| list.join(name)))
        .collect()
}
