//! The I/O schedulers of block devices: read, switched, and put back.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::beneath::Beneath;
use super::block::{self, BlockDevice, DeviceNumber};
use super::{Sysfs, names};

/// The queue of a disk, by the name of the disk.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Queue {
    /// Kernel name of the disk.
    pub disk: String,
    /// Its `queue/scheduler`.
    pub file: PathBuf,
    /// Its number.
    pub number: DeviceNumber,
}

/// The disks whose queues serve what is at `path`: of a block device, its disk; of a file or directory, or
/// of a name in a directory, the disk below the file system. Of devices made of others (dm, md), the disks
/// below them.
///
/// # Errors
/// If there is none: a sentence.
pub fn queues(sysfs: &Sysfs, path: &Path) -> Result<Vec<Queue>, String> {
    queues_below(sysfs, path, &path.display())
}

/// The same of what is `shown` to the user under another name.
///
/// # Errors
/// If there is none: a sentence.
pub fn queues_below(sysfs: &Sysfs, path: &Path, shown: &dyn Display) -> Result<Vec<Queue>, String> {
    let mut found = BTreeMap::new();
    match DeviceNumber::of_block_path(path) {
        Some(number) => below(block::by_number(sysfs, number), &mut found),
        None => {
            // A file that is not there yet will lie where its directory does.
            let place = path.ancestors().find(|place| place.exists() && !place.as_os_str().is_empty());
            let place = place.unwrap_or(Path::new("."));
            let number = fs::metadata(place).map(|about| DeviceNumber::from_raw(about.dev()));
            let number = number.map_err(|error| format!("{shown}: {error}"))?;
            if number.major == 0 {
                let beneath =
                    Beneath::file_system(sysfs, number).map_err(|error| format!("{shown}: {error}"))?;
                for number in beneath.devices.keys() {
                    below(block::by_number(sysfs, *number), &mut found);
                }
            } else {
                below(block::by_number(sysfs, number), &mut found);
            }
        }
    }
    if found.is_empty() {
        return Err(format!("{shown} lies on no block device that the kernel tells of"));
    }
    Ok(found.into_values().collect())
}

fn below(device: Option<BlockDevice>, found: &mut BTreeMap<DeviceNumber, Queue>) {
    let Some(device) = device else { return };
    let disk = match &device.disk {
        Some(_) => match device.dir.parent().and_then(block::describe) {
            Some(disk) => disk,
            None => return,
        },
        None => device,
    };
    let slaves = names(&disk.dir.join("slaves"));
    if slaves.is_empty() {
        let file = disk.dir.join("queue/scheduler");
        found.insert(disk.number, Queue { disk: disk.name, file, number: disk.number });
        return;
    }
    for slave in slaves {
        below(block::describe(&disk.dir.join("slaves").join(slave)), found);
    }
}

/// A scheduler that was switched, until it is put back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switched {
    /// Whose.
    pub queue: Queue,
    /// What it was before.
    pub before: String,
    /// What it is now.
    pub now: String,
}

impl Queue {
    /// The scheduler in use.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn scheduler(&self) -> io::Result<String> {
        Ok(block::active(fs::read_to_string(&self.file)?.trim()))
    }

    /// Switches to the scheduler called `name`, and reads back that it is in use; `None` if it was.
    ///
    /// # Errors
    /// If there is none to choose, the kernel refuses, or another one is in use then: a sentence.
    pub fn switch(&self, name: &str) -> Result<Option<Switched>, String> {
        let disk = &self.disk;
        let text = fs::read_to_string(&self.file)
            .map_err(|error| format!("{disk} has no I/O scheduler ({}: {error})", self.file.display()))?;
        let before = block::active(text.trim());
        if before == name {
            return Ok(None);
        }
        let offered = text.replace(['[', ']'], "");
        let offered = offered.trim();
        if let Err(error) = fs::write(&self.file, name) {
            return Err(match error.raw_os_error() {
                Some(libc::EINVAL) => format!("{disk} has no I/O scheduler `{name}`; it has: {offered}"),
                Some(libc::EACCES | libc::EPERM | libc::EROFS) => {
                    format!("the I/O scheduler of {disk} may not be changed ({error}): that needs root")
                }
                _ => format!("the I/O scheduler of {disk} cannot be changed: {error}"),
            });
        }
        let now = self.scheduler().unwrap_or_default();
        let switched = Switched { queue: self.clone(), before, now: now.clone() };
        if now != name {
            // Devices that have no choice take any word.
            let _ = switched.put_back();
            return Err(format!(
                "{disk} took `{name}` and still has I/O scheduler `{now}`; it has: {offered}"
            ));
        }
        Ok(Some(switched))
    }
}

impl Switched {
    /// Puts it back.
    ///
    /// # Errors
    /// If it cannot be: a sentence with what to do by hand.
    pub fn put_back(&self) -> Result<(), String> {
        let Switched { queue, before, .. } = self;
        fs::write(&queue.file, before).map_err(|error| {
            let file = queue.file.display();
            format!(
                "the I/O scheduler of {} could not be put back: {error}: echo {before} > {file}",
                queue.disk
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::machines::{Machine, NO_SWAP};
    use super::*;

    fn queue(root: &Path, text: &str) -> Queue {
        let file = root.join("scheduler");
        fs::write(&file, text).unwrap();
        Queue { disk: "sda".to_owned(), file, number: DeviceNumber::default() }
    }

    #[test]
    fn partitions_lead_to_their_disk_and_made_up_devices_to_what_they_are_made_of() {
        let machine = Machine::new("", NO_SWAP);
        machine.disk("pci0000:00/0000:00:1.0/nvme/nvme0/nvme0n1", "259:0");
        machine.disk("pci0000:00/0000:00:2.0/ata1/sda", "8:0");
        let part = machine.partition("sys/devices/pci0000:00/0000:00:2.0/ata1/sda", "sda1", "8:1");
        let dm = machine.disk("virtual/block/dm-0", "253:0");
        machine.link(&format!("{dm}/slaves/sda1"), &part);
        machine.link(&format!("{dm}/slaves/nvme0n1"), "sys/block/nvme0n1");
        let disks = |number: &str| {
            let mut found = BTreeMap::new();
            below(block::by_number(&machine.sysfs, DeviceNumber::parse(number).unwrap()), &mut found);
            found.into_values().map(|queue| queue.disk).collect::<Vec<_>>()
        };
        assert_eq!(disks("8:1"), ["sda"]);
        assert_eq!(disks("259:0"), ["nvme0n1"]);
        assert_eq!(disks("253:0"), ["sda", "nvme0n1"]);
        assert!(disks("9:9").is_empty());
    }

    #[test]
    fn one_that_is_in_use_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(queue(root.path(), "[none] mq-deadline\n").switch("none"), Ok(None));
    }

    #[test]
    fn what_the_kernel_does_not_take_over_is_an_error_and_is_put_back() {
        let root = tempfile::tempdir().unwrap();
        let queue = queue(root.path(), "[none]\n");
        let switched = queue.switch("bfq");
        // A plain file keeps what is written to it, and so has what was asked for.
        let switched = switched.unwrap().unwrap();
        assert_eq!((switched.before.as_str(), switched.now.as_str()), ("none", "bfq"));
        switched.put_back().unwrap();
        assert_eq!(queue.scheduler().unwrap(), "none");
    }

    #[test]
    fn what_lies_on_no_device_has_no_queue() {
        assert!(
            queues(&Sysfs::default(), Path::new("/proc/self/status"))
                .unwrap_err()
                .contains("no block device")
        );
    }
}
