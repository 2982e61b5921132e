//! Block devices as the kernel shows them: what they are, how large, and who made them.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::DeviceSummary;
pub use super::sysfs::Sysfs;
use super::sysfs::{self, flag, link_name, number, text};

/// The kernel counts sizes in these, whatever the device's logical block.
const SECTOR_BYTES: u64 = 512;

/// A block device: a whole disk or a partition of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockDevice {
    /// Kernel name, `nvme0n1` for instance.
    pub name: String,
    /// Major number of its node.
    pub major: u32,
    /// Minor number of its node.
    pub minor: u32,
    /// Model.
    pub model: Option<String>,
    /// Serial number; the `wwid` where there is no other. Namespaces of one drive share theirs.
    pub serial: Option<String>,
    /// Firmware revision.
    pub firmware: Option<String>,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Logical block in bytes.
    pub lba_bytes: u32,
    /// Physical block in bytes.
    pub physical_bytes: u32,
    /// Whether the kernel takes it for a disk that turns.
    pub rotational: bool,
    /// Whether it cannot be written.
    pub read_only: bool,
    /// NUMA node, where the kernel knows one.
    pub numa_node: Option<u32>,
    /// I/O scheduler in use.
    pub scheduler: Option<String>,
    /// `write back` (volatile cache on) or `write through`.
    pub write_cache: Option<String>,
    /// Whether it takes discards.
    pub discard: bool,
    /// Kernel driver: `nvme`, `sd`, `virtio_blk`, `loop` and so on.
    pub driver: Option<String>,
    /// How it is attached: `pcie`, `tcp`, `sata`, `sas`, `usb`, `virtio` and so on.
    pub transport: Option<String>,
    /// The disk that this is a partition of.
    pub whole_disk: Option<String>,
    /// Partitions, by number.
    pub partitions: Vec<String>,
}

impl From<BlockDevice> for DeviceSummary {
    fn from(device: BlockDevice) -> Self {
        Self {
            name: device.name,
            model: device.model,
            serial: device.serial,
            firmware: device.firmware,
            size_bytes: device.size_bytes,
            lba_bytes: device.lba_bytes,
            numa_node: device.numa_node,
            write_cache: device.write_cache,
        }
    }
}

/// All whole disks, without the hidden paths of NVMe multipath, in the order of their names.
#[must_use]
pub fn all(at: &Sysfs) -> Vec<BlockDevice> {
    let block = at.sys.join("block");
    sysfs::names(&block)
        .iter()
        .filter(|name| !is_hidden_path(name))
        .map(|name| block.join(name))
        .filter(|folder| !flag(&folder.join("hidden")))
        .filter_map(|folder| read(at, &folder.canonicalize().ok()?))
        .collect()
}

/// The block device whose node `path` is or links to; `None` for whatever is no block device.
#[must_use]
pub fn find(at: &Sysfs, path: &Path) -> Option<BlockDevice> {
    let metadata = std::fs::metadata(path).ok()?;
    if !metadata.file_type().is_block_device() {
        return None;
    }
    find_number(at, rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()))
}

/// The block device with these numbers: a disk or a partition.
#[must_use]
pub fn find_number(at: &Sysfs, major: u32, minor: u32) -> Option<BlockDevice> {
    read(at, &at.sys.join(format!("dev/block/{major}:{minor}")).canonicalize().ok()?)
}

/// What the block device at `path` says of itself; `None` for whatever is no block device.
#[must_use]
pub fn lookup(path: &Path) -> Option<DeviceSummary> {
    find(&Sysfs::default(), path).map(DeviceSummary::from)
}

/// Reads the device in `folder`, which has no links in it.
fn read(at: &Sysfs, folder: &Path) -> Option<BlockDevice> {
    let sys = at.sys.canonicalize().ok()?;
    let (major, minor) = text(&folder.join("dev"))?
        .split_once(':')
        .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)))?;
    let is_partition = folder.join("partition").exists();
    let disk = if is_partition { folder.parent()? } else { folder };
    let queue = |file: &str| disk.join("queue").join(file);
    let owner = Owner::of(&sys, disk);
    let sectors: u64 = number(&folder.join("size")).unwrap_or(0);
    let name = kernel_name(folder)?;
    Some(BlockDevice {
        major,
        minor,
        model: owner.model(),
        serial: owner.serial(),
        firmware: owner.first(&["firmware_rev", "rev", "fwrev"]),
        size_bytes: sectors.saturating_mul(SECTOR_BYTES),
        lba_bytes: number(&queue("logical_block_size")).unwrap_or(512),
        physical_bytes: number(&queue("physical_block_size")).unwrap_or(512),
        rotational: flag(&queue("rotational")),
        read_only: flag(&folder.join("ro")) || flag(&disk.join("ro")),
        numa_node: owner.upwards(sysfs::numa_node),
        scheduler: text(&queue("scheduler")).map(|text| chosen(&text)),
        write_cache: text(&queue("write_cache")),
        discard: flag(&queue("discard_max_bytes")),
        driver: owner.driver(&kernel_name(disk)?),
        transport: owner.transport(),
        whole_disk: if is_partition { kernel_name(disk) } else { None },
        partitions: if is_partition { Vec::new() } else { partitions(disk) },
        name,
    })
}

/// The kernel writes `!` in sysfs where a name has a slash.
fn kernel_name(folder: &Path) -> Option<String> {
    Some(folder.file_name()?.to_string_lossy().replace('!', "/"))
}

fn partitions(disk: &Path) -> Vec<String> {
    let mut found: Vec<(u32, String)> = sysfs::names(disk)
        .iter()
        .filter_map(|name| {
            let folder = disk.join(name);
            Some((number(&folder.join("partition"))?, kernel_name(&folder)?))
        })
        .collect();
    found.sort();
    found.into_iter().map(|(_, name)| name).collect()
}

/// The choice in brackets of `[none] mq-deadline`; all of it where there is no choice.
fn chosen(text: &str) -> String {
    let inner = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    inner.map_or(text, |(inner, _)| inner).to_owned()
}

/// Whether this is the name of one path to a namespace, `nvme0c1n1`, which has no node of its own.
fn is_hidden_path(name: &str) -> bool {
    super::nvme::NamespaceName::parse(name).is_some_and(|name| name.controller.is_some())
}

/// The device behind a disk: where model and serial number are.
struct Owner<'a> {
    sys: &'a Path,
    disk: &'a Path,
    /// What `device` in the disk's folder leads to: an NVMe controller, an NVMe subsystem, a SCSI
    /// unit, a virtio function. Without one the disk is the kernel's own make.
    device: Option<PathBuf>,
    /// The controller, or the first controller of an NVMe subsystem.
    controller: Option<PathBuf>,
}

impl<'a> Owner<'a> {
    fn of(sys: &'a Path, disk: &'a Path) -> Self {
        let device = disk.join("device").canonicalize().ok();
        let controller = device.as_ref().and_then(|device| {
            let is_controller = |folder: &PathBuf| folder.join("transport").exists();
            let below = sysfs::names(device).into_iter().filter(|name| name.starts_with("nvme"));
            std::iter::once(device.clone())
                .chain(below.map(|name| device.join(name)))
                .find(is_controller)
                .and_then(|folder| folder.canonicalize().ok())
        });
        Self { sys, disk, device, controller }
    }

    fn first(&self, files: &[&str]) -> Option<String> {
        let device = self.device.as_ref()?;
        files.iter().find_map(|file| text(&device.join(file)))
    }

    /// The first answer on the way up from the controller or device.
    fn upwards<T>(&self, ask: impl Fn(&Path) -> Option<T>) -> Option<T> {
        sysfs::upwards(self.sys, self.controller.as_ref().or(self.device.as_ref())?, ask)
    }

    fn model(&self) -> Option<String> {
        let model = self.first(&["model", "name"])?;
        // SCSI splits the name in two; for SATA disks the first half is the translator's.
        let vendor = self.first(&["vendor"]).filter(|vendor| vendor != "ATA" && !vendor.starts_with("0x"));
        Some(match vendor {
            Some(vendor) if !model.starts_with(&vendor) => format!("{vendor} {model}"),
            _ => model,
        })
    }

    fn serial(&self) -> Option<String> {
        let page = || vital_product_serial(&std::fs::read(self.device.as_ref()?.join("vpd_pg80")).ok()?);
        text(&self.disk.join("serial"))
            .or_else(page)
            .or_else(|| self.first(&["serial"]))
            .or_else(|| text(&self.disk.join("wwid")))
            .or_else(|| self.first(&["wwid"]))
    }

    fn driver(&self, disk_name: &str) -> Option<String> {
        if let Some(driver) = self.upwards(|folder| link_name(&folder.join("driver"))) {
            return Some(driver);
        }
        if let Some(controller) = &self.controller {
            return Some(super::nvme::fabric_driver(&text(&controller.join("transport"))?));
        }
        let kind = disk_name.trim_end_matches(|c: char| c.is_ascii_digit());
        let driver = match kind {
            "loop" | "zram" | "md" | "nbd" => kind,
            "ram" => "brd",
            "dm-" => "device-mapper",
            "nullb" => "null_blk",
            "ublkb" => "ublk",
            _ => return None,
        };
        Some(driver.to_owned())
    }

    fn transport(&self) -> Option<String> {
        if let Some(controller) = &self.controller {
            return text(&controller.join("transport"));
        }
        let device = self.device.as_ref()?.strip_prefix(self.sys).ok()?;
        let parts = device.iter().filter_map(|part| part.to_str());
        parts.rev().find_map(|part| {
            let kind = part.split(|c: char| c.is_ascii_digit()).next()?;
            let transport = match kind {
                "ata" => "sata",
                "end_device-" => "sas",
                "session" => "iscsi",
                "rport-" => "fc",
                "mmc" | "usb" | "virtio" => kind,
                _ => return None,
            };
            Some(transport.to_owned())
        })
    }
}

/// The serial number in SCSI's page 80h: four bytes of header, the last two the length.
fn vital_product_serial(page: &[u8]) -> Option<String> {
    let (header, rest) = page.split_at_checked(4)?;
    let length = usize::from(header[2]) << 8 | usize::from(header[3]);
    let bytes = rest.get(..length.min(rest.len()))?;
    let serial = String::from_utf8_lossy(bytes);
    let serial = serial.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    (header[1] == 0x80 && !serial.is_empty()).then(|| serial.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::sysfs::made_up::Tree;
    use super::*;

    /// A disk in `folder` (below `devices`), as every kind of disk has it.
    fn disk(tree: &Tree, folder: &str, number: &str, sectors: &str, queue: &[(&str, &str)]) {
        let name = folder.rsplit('/').next().unwrap();
        tree.files(folder, &[("dev", number), ("size", sectors), ("ro", "0"), ("hidden", "0")]);
        tree.files(
            &format!("{folder}/queue"),
            &[("logical_block_size", "512"), ("physical_block_size", "512"), ("rotational", "0")],
        );
        tree.files(&format!("{folder}/queue"), queue);
        tree.link(&format!("block/{name}"), folder);
        tree.link(&format!("dev/block/{number}"), folder);
    }

    fn partition(tree: &Tree, folder: &str, number: &str, index: &str, sectors: &str) {
        tree.files(folder, &[("dev", number), ("partition", index), ("size", sectors), ("ro", "0")]);
        tree.link(&format!("dev/block/{number}"), folder);
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    const PCI: &str = "devices/pci0000:00/0000:01:00.0";

    fn nvme_controller(tree: &Tree, folder: &str) {
        tree.files(
            folder,
            &[
                ("model", "Example SSD 1TB                         "),
                ("serial", "S123            "),
                ("firmware_rev", "FW01    "),
                ("transport", "pcie"),
                ("numa_node", "1"),
            ],
        );
        tree.link(&format!("{folder}/device"), PCI);
        tree.link(&format!("{PCI}/driver"), "bus/pci/drivers/nvme");
    }

    const NVME_QUEUE: [(&str, &str); 5] = [
        ("logical_block_size", "4096"),
        ("physical_block_size", "16384"),
        ("scheduler", "[none] mq-deadline kyber"),
        ("write_cache", "write back"),
        ("discard_max_bytes", "2199023255040"),
    ];

    fn nvme(tree: &Tree) {
        let controller = format!("{PCI}/nvme/nvme0");
        nvme_controller(tree, &controller);
        let folder = format!("{controller}/nvme0n1");
        disk(tree, &folder, "259:0", "2000409264", &NVME_QUEUE);
        tree.files(&folder, &[("wwid", "eui.0025385b21404321")]);
        tree.link(&format!("{folder}/device"), &controller);
        partition(tree, &format!("{folder}/nvme0n1p10"), "259:2", "10", "2048");
        partition(tree, &format!("{folder}/nvme0n1p2"), "259:1", "2", "4096");
    }

    #[test]
    fn an_nvme_namespace_and_its_partition() {
        let tree = Tree::new();
        nvme(&tree);
        let whole = BlockDevice {
            name: "nvme0n1".to_owned(),
            major: 259,
            minor: 0,
            model: some("Example SSD 1TB"),
            serial: some("S123"),
            firmware: some("FW01"),
            size_bytes: 1_024_209_543_168,
            lba_bytes: 4096,
            physical_bytes: 16384,
            numa_node: Some(1),
            scheduler: some("none"),
            write_cache: some("write back"),
            discard: true,
            driver: some("nvme"),
            transport: some("pcie"),
            partitions: vec!["nvme0n1p2".to_owned(), "nvme0n1p10".to_owned()],
            ..BlockDevice::default()
        };
        assert_eq!(all(&tree.sysfs()), vec![whole.clone()]);
        let part = BlockDevice {
            name: "nvme0n1p2".to_owned(),
            minor: 1,
            size_bytes: 2 << 20,
            whole_disk: some("nvme0n1"),
            partitions: Vec::new(),
            ..whole
        };
        assert_eq!(find_number(&tree.sysfs(), 259, 1), Some(part));
        assert_eq!(find_number(&tree.sysfs(), 259, 9), None);
    }

    #[test]
    fn multipath_shows_the_subsystem_and_hides_the_paths() {
        let tree = Tree::new();
        let controller = format!("{PCI}/nvme/nvme1");
        nvme_controller(&tree, &controller);
        let subsystem = "devices/virtual/nvme-subsystem/nvme-subsys0";
        let about = [("model", "Example SSD 1TB"), ("serial", "S123"), ("firmware_rev", "FW01")];
        tree.files(subsystem, &about);
        tree.link(&format!("{subsystem}/nvme1"), &controller);
        let head = format!("{subsystem}/nvme0n1");
        disk(&tree, &head, "259:3", "2048", &NVME_QUEUE);
        tree.link(&format!("{head}/device"), subsystem);
        let path = format!("{controller}/nvme0c1n1");
        disk(&tree, &path, "259:4", "2048", &NVME_QUEUE);
        tree.link(&format!("{path}/device"), &controller);
        let found = all(&tree.sysfs());
        assert_eq!(found.len(), 1);
        let found = &found[0];
        assert_eq!((found.name.as_str(), found.serial.as_deref()), ("nvme0n1", Some("S123")));
        assert_eq!((found.driver.as_deref(), found.transport.as_deref()), (Some("nvme"), Some("pcie")));
        assert_eq!(found.numa_node, Some(1));
    }

    #[test]
    fn a_namespace_over_fabrics() {
        let tree = Tree::new();
        let controller = "devices/virtual/nvme-fabrics/ctl/nvme2";
        tree.files(controller, &[("transport", "tcp"), ("serial", "R1"), ("numa_node", "-1")]);
        let folder = format!("{controller}/nvme2n1");
        disk(&tree, &folder, "259:7", "8", &[]);
        tree.link(&format!("{folder}/device"), controller);
        let found = &all(&tree.sysfs())[0];
        assert_eq!((found.driver.as_deref(), found.transport.as_deref()), (Some("nvme-tcp"), Some("tcp")));
        assert_eq!((found.numa_node, found.serial.as_deref()), (None, Some("R1")));
    }

    #[test]
    fn a_scsi_disk_has_its_serial_in_a_page() {
        let tree = Tree::new();
        let device = "devices/pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0";
        tree.files(device, &[("vendor", "ATA     "), ("model", "EXAMPLE DISK    "), ("rev", "1.0 ")]);
        tree.files(device, &[("serial", "not this one")]);
        tree.bytes(&format!("{device}/vpd_pg80"), b"\x00\x80\x00\x08  ZA1234beyond");
        tree.files("devices/pci0000:00/0000:00:1f.2", &[("numa_node", "0")]);
        tree.link(&format!("{device}/driver"), "bus/scsi/drivers/sd");
        let folder = format!("{device}/block/sda");
        let queue = [("rotational", "1"), ("scheduler", "none [mq-deadline]"), ("discard_max_bytes", "0")];
        disk(&tree, &folder, "8:0", "100", &queue);
        tree.link(&format!("{folder}/device"), device);
        partition(&tree, &format!("{folder}/sda1"), "8:1", "1", "50");
        let found = find_number(&tree.sysfs(), 8, 1).unwrap();
        assert_eq!((found.name.as_str(), found.size_bytes), ("sda1", 25_600));
        assert_eq!(found.whole_disk.as_deref(), Some("sda"));
        assert_eq!((found.model.as_deref(), found.serial.as_deref()), (Some("EXAMPLE DISK"), Some("ZA1234")));
        assert_eq!((found.driver.as_deref(), found.transport.as_deref()), (Some("sd"), Some("sata")));
        assert_eq!((found.scheduler.as_deref(), found.numa_node), (Some("mq-deadline"), Some(0)));
        assert!(found.rotational && !found.discard);
    }

    #[test]
    fn a_scsi_disk_without_the_page() {
        let tree = Tree::new();
        let device = "devices/pci0000:00/0000:00:04.0/virtio3/host0/target0:0:0/0:0:0:1";
        tree.files(device, &[("vendor", "QEMU"), ("model", "HARDDISK"), ("wwid", "t10.QEMU disk")]);
        let folder = format!("{device}/block/sdb");
        disk(&tree, &folder, "8:16", "1", &[]);
        tree.link(&format!("{folder}/device"), device);
        let found = &all(&tree.sysfs())[0];
        assert_eq!(found.model.as_deref(), Some("QEMU HARDDISK"));
        assert_eq!(found.serial.as_deref(), Some("t10.QEMU disk"));
        assert_eq!(found.transport.as_deref(), Some("virtio"));
    }

    #[test]
    fn a_virtio_disk_carries_its_own_serial() {
        let tree = Tree::new();
        let device = "devices/pci0000:00/0000:00:02.0/virtio1";
        tree.files(device, &[("vendor", "0x1af4"), ("device", "0x0002")]);
        tree.link(&format!("{device}/driver"), "bus/virtio/drivers/virtio_blk");
        let folder = format!("{device}/block/vda");
        disk(&tree, &folder, "254:0", "2048", &[("write_cache", "write through")]);
        tree.files(&folder, &[("serial", "root"), ("ro", "1")]);
        tree.link(&format!("{folder}/device"), device);
        let found = &all(&tree.sysfs())[0];
        assert_eq!((found.model.as_deref(), found.serial.as_deref()), (None, Some("root")));
        assert_eq!(
            (found.driver.as_deref(), found.transport.as_deref()),
            (Some("virtio_blk"), Some("virtio"))
        );
        assert!(found.read_only);
    }

    #[test]
    fn what_the_kernel_makes_itself() {
        let tree = Tree::new();
        disk(&tree, "devices/virtual/block/loop10", "7:10", "0", &[]);
        disk(&tree, "devices/virtual/block/loop2", "7:2", "8", &[]);
        disk(&tree, "devices/virtual/block/dm-0", "252:0", "8", &[]);
        disk(&tree, "devices/virtual/block/cciss!c0d0", "104:0", "8", &[]);
        let found = all(&tree.sysfs());
        let about: Vec<_> = found.iter().map(|one| (one.name.as_str(), one.driver.as_deref())).collect();
        let expected = [
            ("cciss/c0d0", None),
            ("dm-0", Some("device-mapper")),
            ("loop2", Some("loop")),
            ("loop10", Some("loop")),
        ];
        assert_eq!(about, expected);
        assert!(found.iter().all(|one| one.serial.is_none() && one.transport.is_none()));
        assert_eq!(tree.sysfs().node(&found[0].name), tree.sysfs().dev.join("cciss/c0d0"));
    }

    #[test]
    fn what_is_no_block_device_is_nothing() {
        assert_eq!(lookup(Path::new("/dev/null")), None);
        assert_eq!(lookup(Path::new("/")), None);
        assert_eq!(lookup(Path::new("/does/not/exist")), None);
        assert!(all(&Tree::new().sysfs()).is_empty());
    }

    #[test]
    fn the_disks_of_this_machine_are_found_by_their_nodes() {
        let here = Sysfs::default();
        let folder = tempfile::tempdir().unwrap();
        for device in all(&here) {
            let node = here.node(&device.name);
            if !node.exists() {
                continue;
            }
            let link = folder.path().join(device.name.replace('/', "!"));
            std::os::unix::fs::symlink(&node, &link).unwrap();
            assert_eq!(lookup(&link).unwrap().name, device.name);
        }
    }

    #[test]
    fn pages_cut_short_have_no_serial() {
        for page in [&b""[..], b"\0\x80\0", b"\0\x80\0\x05", b"\0\x83\0\x01A", b"\0\x80\0\x02  "] {
            assert_eq!(vital_product_serial(page), None);
        }
        assert_eq!(vital_product_serial(b"\0\x80\x01\x05AB").as_deref(), Some("AB"));
    }
}
