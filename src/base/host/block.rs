//! Block devices as sysfs tells of them.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::base::atomic::{AtomicLimit, AtomicWrites, Boundaries};

use super::{DeviceSummary, Sysfs, attribute, link_name, names, number};

/// The smallest page of memory.
const PAGE_BYTES: u64 = 4096;
/// What the kernel puts into one request of O_DIRECT at most (BIO_MAX_VECS pages).
const MOST_OF_A_BIO: u64 = 256 * PAGE_BYTES;

/// `major:minor`: what a device is, whatever path leads to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceNumber {
    /// Driver.
    pub major: u32,
    /// Device of that driver.
    pub minor: u32,
}

impl DeviceNumber {
    /// From `st_dev` or `st_rdev`.
    #[must_use]
    pub fn from_raw(raw: u64) -> DeviceNumber {
        DeviceNumber { major: rustix::fs::major(raw), minor: rustix::fs::minor(raw) }
    }

    /// From `8:1`.
    #[must_use]
    pub fn parse(text: &str) -> Option<DeviceNumber> {
        let (major, minor) = text.trim().split_once(':')?;
        Some(DeviceNumber { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }

    /// The device behind a path, if it is a block device. Follows symbolic links.
    #[must_use]
    pub fn of_block_path(path: &Path) -> Option<DeviceNumber> {
        let metadata = fs::metadata(path).ok()?;
        metadata.file_type().is_block_device().then(|| DeviceNumber::from_raw(metadata.rdev()))
    }
}

impl fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// A block device or partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockDevice {
    /// Kernel name, `nvme0n1p1` for instance.
    pub name: String,
    /// Device number.
    pub number: DeviceNumber,
    /// Its directory in sysfs.
    pub dir: PathBuf,
    /// The disk that this is a partition of.
    pub disk: Option<String>,
    /// Partitions of this disk.
    pub partitions: Vec<String>,
    /// Model (of the disk).
    pub model: Option<String>,
    /// Serial number (of the disk).
    pub serial: Option<String>,
    /// Firmware revision (of the disk).
    pub firmware: Option<String>,
    /// World-wide name: `eui.…`, `naa.…`, `nvme.…`.
    pub wwid: Option<String>,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Logical block in bytes.
    pub lba_bytes: u32,
    /// Physical block in bytes.
    pub physical_block_bytes: u32,
    /// Whether it says that it rotates.
    pub rotational: bool,
    /// Whether the kernel refuses writes.
    pub read_only: bool,
    /// NUMA node, where the machine has several.
    pub numa_node: Option<u32>,
    /// The scheduler in use: `none`, `mq-deadline`.
    pub scheduler: Option<String>,
    /// `write back` or `write through`.
    pub write_cache: Option<String>,
    /// The most that one discard may cover; 0: no discard.
    pub discard_max_bytes: u64,
    /// What discards should be aligned to.
    pub discard_granularity_bytes: u64,
    /// The driver of the disk: `nvme`, `virtio_blk`, `sd`; for virtual ones the name's stem.
    pub driver: Option<String>,
    /// `pcie`, `tcp`, `sata`, `virtio`, `virtual`.
    pub transport: Option<String>,
    /// A node that nobody can open: one path of an NVMe multipath device.
    pub hidden: bool,
}

impl BlockDevice {
    /// What a report says of it.
    #[must_use]
    pub fn summary(&self) -> DeviceSummary {
        DeviceSummary {
            name: self.name.clone(),
            model: self.model.clone(),
            serial: self.serial.clone(),
            firmware: self.firmware.clone(),
            size_bytes: self.size_bytes,
            lba_bytes: self.lba_bytes,
            numa_node: self.numa_node,
            write_cache: self.write_cache.clone(),
        }
    }

    /// Which writes to this device or partition the disk stores whole, if it keeps the commands whole that
    /// `disk` says (by their place on the disk): the kernel splits what is longer than
    /// `queue/max_sectors_kb` or `queue/max_segments`, splits at multiples of `queue/chunk_sectors`, and
    /// merges neighbours unless `queue/nomerges` is 2.
    #[must_use]
    pub fn atomic_writes(&self, disk: AtomicWrites) -> AtomicWrites {
        let queue = self.queue();
        let get = |file: &str| number::<u64>(&queue.join(file));
        let (Some(kilobytes), Some(segments)) = (get("max_sectors_kb"), get("max_segments")) else {
            return disk.limited(0, AtomicLimit::MaxSectors);
        };
        // A segment may be as short as the smallest page.
        let transfer = kilobytes.saturating_mul(1024).min(segments.saturating_mul(PAGE_BYTES));
        // A write that does not begin at a physical block is split before its last one.
        let unaligned = self.physical_block_bytes.saturating_sub(self.lba_bytes);
        let command = transfer.saturating_sub(unaligned.into()).min(MOST_OF_A_BIO);
        let merges = get("nomerges") != Some(2);
        let chunk = get("chunk_sectors").unwrap_or(0).saturating_mul(512);
        let kept = if merges { disk.merged(transfer) } else { disk };
        let kept = kept.limited(command, AtomicLimit::MaxSectors);
        let splits = Boundaries { every: chunk, first: 0 };
        AtomicWrites { splits, ..kept }.on_part(self.start_bytes())
    }

    /// The directory of the queue of the disk.
    fn queue(&self) -> PathBuf {
        let disk = if self.disk.is_some() { self.dir.parent() } else { None };
        disk.unwrap_or(&self.dir).join("queue")
    }

    /// Where a partition begins on its disk, in bytes; 0 for a disk.
    fn start_bytes(&self) -> u64 {
        let sectors = if self.disk.is_some() { number::<u64>(&self.dir.join("start")) } else { None };
        sectors.unwrap_or(0).saturating_mul(512)
    }

    /// The file that a loop device (or the disk of this partition) shows, as the kernel names it.
    #[must_use]
    pub fn loop_backing_file(&self) -> Option<String> {
        let disk = if self.disk.is_some() { self.dir.parent()? } else { &self.dir };
        attribute(&disk.join("loop/backing_file"))
    }
}

/// All block devices, partitions directly behind their disk. Hidden paths of multipath devices
/// are left out: nobody can open them.
///
/// # Errors
/// If sysfs cannot be read.
pub fn all(sysfs: &Sysfs) -> io::Result<Vec<BlockDevice>> {
    let dir = sysfs.sys.join("block");
    fs::read_dir(&dir)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", dir.display())))?;
    let mut devices = Vec::new();
    for name in names(&dir) {
        // A device may vanish between the listing and the look at it.
        let Some(disk) = describe(&dir.join(&name)) else { continue };
        if disk.hidden {
            continue;
        }
        let partitions: Vec<BlockDevice> =
            disk.partitions.iter().filter_map(|name| describe(&disk.dir.join(name))).collect();
        devices.push(disk);
        devices.extend(partitions);
    }
    Ok(devices)
}

/// The device with this number.
#[must_use]
pub fn by_number(sysfs: &Sysfs, number: DeviceNumber) -> Option<BlockDevice> {
    describe(&sysfs.sys.join("dev/block").join(number.to_string()))
}

/// The device with this kernel name.
#[must_use]
pub fn by_name(sysfs: &Sysfs, name: &str) -> Option<BlockDevice> {
    // The kernel writes `!` for a slash in a name (`cciss/c0d0`).
    let name = name.replace('/', "!");
    all(sysfs).ok()?.into_iter().find(|device| device.name == name)
}

/// The device behind a path; `Ok(None)` if the path is no block device. Symbolic links are
/// followed; what counts is the device number, not the name.
///
/// # Errors
/// If there is nothing at the path, or sysfs does not know the device.
pub fn lookup(sysfs: &Sysfs, path: &Path) -> io::Result<Option<BlockDevice>> {
    let metadata = fs::metadata(path)?;
    if !metadata.file_type().is_block_device() {
        return Ok(None);
    }
    let number = DeviceNumber::from_raw(metadata.rdev());
    by_number(sysfs, number).map(Some).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::NotFound,
            format!("the kernel has no block device {number} (a stale node?)"),
        )
    })
}

/// Reads the directory of a disk or partition.
pub(super) fn describe(path: &Path) -> Option<BlockDevice> {
    let dir = fs::canonicalize(path).ok()?;
    let name = dir.file_name()?.to_string_lossy().into_owned();
    let is_partition = dir.join("partition").exists();
    let disk_dir = if is_partition { dir.parent()?.to_owned() } else { dir.clone() };
    let queue = disk_dir.join("queue");
    let hidden = number::<u8>(&disk_dir.join("hidden")) == Some(1);
    let identity = Identity::of(&disk_dir);
    Some(BlockDevice {
        number: attribute(&dir.join("dev"))
            .and_then(|text| DeviceNumber::parse(&text))
            .or_else(|| hidden.then(DeviceNumber::default))?,
        disk: is_partition.then(|| disk_dir.file_name().map(|n| n.to_string_lossy().into_owned())).flatten(),
        partitions: if is_partition { Vec::new() } else { partitions_of(&dir) },
        model: identity.model,
        serial: identity.serial,
        firmware: identity.firmware,
        wwid: identity.wwid,
        size_bytes: number::<u64>(&dir.join("size")).unwrap_or(0).saturating_mul(512),
        lba_bytes: number(&queue.join("logical_block_size")).unwrap_or(512),
        physical_block_bytes: number(&queue.join("physical_block_size")).unwrap_or(512),
        rotational: number::<u8>(&queue.join("rotational")) == Some(1),
        read_only: number::<u8>(&dir.join("ro")).is_some_and(|ro| ro != 0)
            || number::<u8>(&disk_dir.join("ro")).is_some_and(|ro| ro != 0),
        numa_node: identity.homes.iter().find_map(|home| numa_node(home)),
        scheduler: attribute(&queue.join("scheduler")).map(|text| active(&text)),
        write_cache: attribute(&queue.join("write_cache")),
        discard_max_bytes: number(&queue.join("discard_max_bytes")).unwrap_or(0),
        discard_granularity_bytes: number(&queue.join("discard_granularity")).unwrap_or(0),
        driver: identity.homes.iter().find_map(|home| driver(home)).or_else(|| virtual_driver(&disk_dir)),
        transport: identity.transport,
        hidden,
        name,
        dir,
    })
}

/// What a disk says of itself, and the directories from which to walk up to its bus.
#[derive(Default)]
struct Identity {
    model: Option<String>,
    serial: Option<String>,
    firmware: Option<String>,
    wwid: Option<String>,
    transport: Option<String>,
    homes: Vec<PathBuf>,
}

impl Identity {
    fn of(disk: &Path) -> Identity {
        let device = disk.join("device");
        // The head of an NVMe multipath device hangs below its subsystem, which has no bus; its
        // controllers have.
        let controllers: Vec<PathBuf> = names(&device)
            .iter()
            .filter(|name| super::nvme::is_controller_name(name))
            .filter_map(|name| fs::canonicalize(device.join(name)).ok())
            .collect();
        let mut homes = vec![disk.to_owned()];
        homes.extend(controllers.iter().cloned());
        let first = |files: &[&str]| files.iter().find_map(|file| attribute(&device.join(file)));
        let model = first(&["model", "name"]).map(|model| match attribute(&device.join("vendor")) {
            Some(vendor) if vendor != "ATA" && !vendor.starts_with("0x") => format!("{vendor} {model}"),
            _ => model,
        });
        Identity {
            model,
            serial: first(&["serial"])
                .or_else(|| attribute(&disk.join("serial")))
                .or_else(|| scsi_serial(&device)),
            firmware: first(&["firmware_rev", "rev", "fwrev"]),
            wwid: attribute(&disk.join("wwid")).or_else(|| first(&["wwid"])),
            transport: first(&["transport"])
                .or_else(|| controllers.iter().find_map(|dir| attribute(&dir.join("transport"))))
                .or_else(|| transport_of_path(disk)),
            homes,
        }
    }
}

/// Page 0x80 of a SCSI device: four bytes of header, then the serial number.
fn scsi_serial(device: &Path) -> Option<String> {
    let page = fs::read(device.join("vpd_pg80")).ok()?;
    let length = usize::from(*page.get(2)?) << 8 | usize::from(*page.get(3)?);
    let text = String::from_utf8_lossy(page.get(4..)?.get(..length)?).into_owned();
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    (!text.is_empty()).then(|| text.to_owned())
}

fn transport_of_path(disk: &Path) -> Option<String> {
    let marks = [
        ("/usb", "usb"),
        ("/ata", "sata"),
        ("/end_device-", "sas"),
        ("/rport-", "fc"),
        ("/session", "iscsi"),
        ("/virtio", "virtio"),
        ("/mmc", "mmc"),
        ("/vbd-", "xen"),
        ("/virtual/", "virtual"),
    ];
    let path = disk.to_string_lossy();
    marks.iter().find(|(mark, _)| path.contains(mark)).map(|(_, name)| (*name).to_owned())
}

fn partitions_of(disk: &Path) -> Vec<String> {
    names(disk).into_iter().filter(|name| disk.join(name).join("partition").exists()).collect()
}

/// The first node of an ancestor; -1 means that there is only one.
pub(super) fn numa_node(dir: &Path) -> Option<u32> {
    dir.ancestors().find_map(|dir| attribute(&dir.join("numa_node")))?.parse().ok()
}

fn driver(dir: &Path) -> Option<String> {
    dir.ancestors().find_map(|dir| link_name(&dir.join("driver")))
}

/// `loop0` has no driver in sysfs; its name says it.
fn virtual_driver(disk: &Path) -> Option<String> {
    let name = disk.file_name()?.to_string_lossy();
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches('-');
    (!stem.is_empty() && disk.to_string_lossy().contains("/virtual/")).then(|| stem.to_owned())
}

/// Of `none [mq-deadline] kyber` the one in brackets.
pub(super) fn active(text: &str) -> String {
    let inside = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    inside.map_or(text, |(name, _)| name).to_owned()
}
