//! Made-up machines: sysfs and procfs trees in a temporary directory, and what must be read in them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::block::{self, BlockDevice, DeviceNumber};
use super::claims::{Claims, parse_mountinfo, parse_swaps, unescape};
use super::flush_path;
use super::nvme_admin::Namespace;
use super::{Sysfs, nvme};
use crate::base::atomic::{AtomicLimit, AtomicSource, AtomicWrites};
use crate::base::nvme::{ControllerFacts, DeviceFacts, NamespaceFacts};
use crate::base::premises::{CacheSource, Deallocated, Flushes, Premises};

pub(super) struct Machine {
    root: tempfile::TempDir,
    pub(super) sysfs: Sysfs,
}

impl Machine {
    pub(super) fn new(mountinfo: &str, swaps: &str) -> Machine {
        let root = tempfile::tempdir().unwrap();
        let sysfs = Sysfs::under(root.path());
        let machine = Machine { root, sysfs };
        machine.write("proc/self/mountinfo", mountinfo);
        machine.write("proc/swaps", swaps);
        for dir in ["sys/block", "sys/dev/block", "dev"] {
            fs::create_dir_all(machine.path(dir)).unwrap();
        }
        machine
    }

    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    pub(super) fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(super) fn link(&self, path: &str, to: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(self.path(to), path).unwrap();
    }

    /// A disk at `home` below sys/devices.
    pub(super) fn disk(&self, home: &str, number: &str) -> String {
        let dir = format!("sys/devices/{home}");
        let name = Path::new(home).file_name().unwrap().to_str().unwrap().to_owned();
        for (file, text) in [
            ("dev", number),
            ("size", "2048"),
            ("ro", "0"),
            ("hidden", "0"),
            ("queue/logical_block_size", "4096"),
            ("queue/physical_block_size", "4096"),
            ("queue/rotational", "0"),
            ("queue/scheduler", "[none] mq-deadline kyber"),
            ("queue/write_cache", "write back"),
            ("queue/discard_max_bytes", "65536"),
            ("queue/discard_granularity", "4096"),
        ] {
            self.write(&format!("{dir}/{file}"), text);
        }
        fs::create_dir_all(self.path(&format!("{dir}/holders"))).unwrap();
        self.link(&format!("sys/block/{name}"), &dir);
        self.link(&format!("sys/dev/block/{number}"), &dir);
        dir
    }

    pub(super) fn partition(&self, disk: &str, name: &str, number: &str) -> String {
        let dir = format!("{disk}/{name}");
        self.write(&format!("{dir}/dev"), number);
        self.write(&format!("{dir}/size"), "1024");
        self.write(&format!("{dir}/ro"), "0");
        self.write(&format!("{dir}/partition"), "1");
        fs::create_dir_all(self.path(&format!("{dir}/holders"))).unwrap();
        self.link(&format!("sys/dev/block/{number}"), &dir);
        dir
    }

    fn held(&self, dir: &str, holder: &str, holder_dir: &str) {
        self.link(&format!("{dir}/holders/{holder}"), holder_dir);
    }

    fn device(&self, number: &str) -> BlockDevice {
        block::by_number(&self.sysfs, DeviceNumber::parse(number).unwrap()).unwrap()
    }

    fn uses(&self, number: &str) -> Vec<String> {
        let claims = Claims::read(&self.sysfs).unwrap();
        claims.of_device(&self.device(number)).into_iter().map(|claim| claim.sentence).collect()
    }
}

pub(super) const NO_SWAP: &str = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";

pub(super) fn mount(number: &str, point: &str, kind: &str, source: &str) -> String {
    format!("25 1 {number} / {point} rw,relatime shared:1 - {kind} {source} rw\n")
}

pub(super) fn nvme_machine(mountinfo: &str) -> Machine {
    let machine = Machine::new(mountinfo, NO_SWAP);
    let pci = "sys/devices/pci0000:00/0000:01:00.0";
    let disk = machine.disk("pci0000:00/0000:01:00.0/nvme/nvme0/nvme0n1", "259:0");
    machine.partition(&disk, "nvme0n1p1", "259:1");
    machine.partition(&disk, "nvme0n1p2", "259:2");
    for (file, text) in [
        ("class", "0x010802\n"),
        ("vendor", "0x144d\n"),
        ("device", "0xa80a\n"),
        ("numa_node", "1\n"),
        ("current_link_speed", "8.0 GT/s PCIe\n"),
        ("max_link_speed", "16.0 GT/s PCIe\n"),
        ("current_link_width", "4\n"),
        ("max_link_width", "4\n"),
    ] {
        machine.write(&format!("{pci}/{file}"), text);
    }
    for (file, text) in [
        ("model", "SAMSUNG 990 PRO       \n"),
        ("serial", "S4EV       \n"),
        ("firmware_rev", "2B2Q\n"),
        ("transport", "pcie\n"),
        ("address", "0000:01:00.0\n"),
        ("state", "live\n"),
    ] {
        machine.write(&format!("{pci}/nvme/nvme0/{file}"), text);
    }
    machine.write(&format!("{disk}/wwid"), "eui.0025\n");
    machine.write(&format!("{disk}/nsid"), "1\n");
    machine.link(&format!("{pci}/nvme/nvme0/device"), pci);
    machine.link(&format!("{disk}/device"), &format!("{pci}/nvme/nvme0"));
    machine.link(&format!("{pci}/driver"), "sys/bus/pci/drivers/nvme");
    machine.link(&format!("{pci}/iommu_group"), "sys/kernel/iommu_groups/17");
    machine.link("sys/bus/pci/devices/0000:01:00.0", pci);
    machine.link("sys/class/nvme/nvme0", &format!("{pci}/nvme/nvme0"));
    machine
}

#[test]
fn an_nvme_drive_and_its_partitions_say_what_they_are() {
    let machine = nvme_machine("");
    let disk = machine.device("259:0");
    assert_eq!(disk.model.as_deref(), Some("SAMSUNG 990 PRO"));
    assert_eq!(disk.serial.as_deref(), Some("S4EV"));
    assert_eq!(disk.firmware.as_deref(), Some("2B2Q"));
    assert_eq!(disk.wwid.as_deref(), Some("eui.0025"));
    assert_eq!((disk.size_bytes, disk.lba_bytes, disk.numa_node), (1 << 20, 4096, Some(1)));
    assert_eq!(disk.driver.as_deref(), Some("nvme"));
    assert_eq!(disk.transport.as_deref(), Some("pcie"));
    assert_eq!(disk.scheduler.as_deref(), Some("none"));
    assert_eq!(disk.write_cache.as_deref(), Some("write back"));
    assert_eq!((disk.discard_max_bytes, disk.discard_granularity_bytes), (65_536, 4096));
    assert_eq!(disk.partitions, ["nvme0n1p1", "nvme0n1p2"]);
    let partition = machine.device("259:2");
    assert_eq!(partition.disk.as_deref(), Some("nvme0n1"));
    assert_eq!(partition.serial, disk.serial);
    assert_eq!(partition.size_bytes, 512 << 10);
    let names: Vec<String> =
        block::all(&machine.sysfs).unwrap().into_iter().map(|device| device.name).collect();
    assert_eq!(names, ["nvme0n1", "nvme0n1p1", "nvme0n1p2"]);
}

#[test]
fn controllers_are_listed_whoever_drives_them() {
    let machine = nvme_machine("");
    for (bdf, class) in
        [("0000:02:00.0", "0x010802"), ("0000:03:00.0", "0x010802"), ("0000:04:00.0", "0x020000")]
    {
        machine.write(&format!("sys/bus/pci/devices/{bdf}/class"), class);
        machine.write(&format!("sys/bus/pci/devices/{bdf}/numa_node"), "-1");
    }
    machine.link("sys/bus/pci/devices/0000:02:00.0/driver", "sys/bus/pci/drivers/vfio-pci");
    let found = nvme::pci_controllers(&machine.sysfs);
    let short: Vec<_> = found.iter().map(|c| (c.bdf.as_str(), c.driver.as_deref(), c.numa_node)).collect();
    assert_eq!(
        short,
        [
            ("0000:01:00.0", Some("nvme"), Some(1)),
            ("0000:02:00.0", Some("vfio-pci"), None),
            ("0000:03:00.0", None, None)
        ]
    );
    assert_eq!((found[0].vendor, found[0].device, found[0].iommu_group), (0x144d, 0xa80a, Some(17)));
    assert_eq!(found[0].controller.as_deref(), Some("nvme0"));
    assert_eq!(found[0].namespaces, ["nvme0n1"]);
    assert_eq!(nvme::pci_controller_at(&machine.sysfs, "03:00.0").unwrap(), found[2]);
    let controllers = nvme::controllers(&machine.sysfs);
    assert_eq!(controllers.len(), 1);
    assert_eq!(controllers[0].address.as_deref(), Some("0000:01:00.0"));
    assert_eq!((controllers[0].numa_node, controllers[0].driver.as_deref()), (Some(1), Some("nvme")));
    let link = controllers[0].link.clone().unwrap();
    assert_eq!((link.speed.as_deref(), link.width), (Some("8.0 GT/s PCIe"), Some(4)));
    assert!(link.is_reduced() && found[0].link.as_ref() == Some(&link));
    assert_eq!((nvme::link(&machine.sysfs, "nvme0n1"), found[1].link.as_ref()), (Some(link), None));
}

#[test]
fn a_partition_is_asked_about_through_its_disk_and_what_is_no_namespace_is_not_asked() {
    let machine = nvme_machine("");
    let of = |number: &str| Namespace::of(&machine.sysfs, &machine.device(number));
    assert!(of("259:0").is_some());
    assert_eq!(of("259:2"), of("259:0"));
    machine.disk("virtual/block/loop0", "7:0");
    machine.write("sys/block/loop0/nsid", "1");
    assert_eq!(of("7:0"), None);
    assert_eq!(nvme::nsid(&machine.sysfs, "nvme0n1p2"), None);
}

#[test]
fn a_write_is_one_command_only_where_the_kernel_neither_merges_nor_splits() {
    let machine = nvme_machine("");
    let set = |file: &str, text: &str| machine.write(&format!("sys/block/nvme0n1/queue/{file}"), text);
    let promised = AtomicWrites::up_to(1 << 20, AtomicSource::Nawupf);
    let atomic = |number: &str| machine.device(number).atomic_writes(promised);
    let whole = |number: &str| atomic(number).write_bytes;
    assert_eq!(whole("259:0"), 0, "nobody says");
    for (file, text) in
        [("nomerges", "2"), ("chunk_sectors", "0"), ("max_sectors_kb", "512"), ("max_segments", "127")]
    {
        set(file, text);
    }
    assert_eq!((whole("259:0"), whole("259:1")), (508 << 10, 508 << 10));
    set("max_segments", "256");
    assert_eq!((whole("259:0"), atomic("259:0").limit), (512 << 10, AtomicLimit::MaxSectors));
    set("nomerges", "1");
    assert_eq!((whole("259:0"), atomic("259:0").limit), (512 << 10, AtomicLimit::MaxSectors));
    set("max_sectors_kb", "1280");
    set("max_segments", "512");
    assert_eq!((whole("259:0"), atomic("259:0").limit), (0, AtomicLimit::Merges), "longer than NAWUPF");
    set("nomerges", "2");
    assert_eq!(whole("259:0"), 1 << 20);
    // At most what one command is, and not across what the kernel splits at.
    set("max_sectors_kb", "64");
    set("chunk_sectors", "256");
    let kept = |number: &str, sector: u64, kib: u32| atomic(number).whole_write(sector * 512, kib << 10);
    assert_eq!(kept("259:0", 0, 64), Some(AtomicSource::Nawupf));
    assert_eq!(kept("259:0", 192, 64), None);
    // The same sectors, seen from a partition that begins at sector 64.
    machine.write("sys/block/nvme0n1/nvme0n1p1/start", "64");
    assert_eq!(kept("259:1", 128, 32), Some(AtomicSource::Nawupf));
    assert_eq!(kept("259:1", 128, 64), None);
    // What does not begin at a physical block is split before its last one.
    set("logical_block_size", "512");
    set("physical_block_size", "4096");
    assert_eq!(whole("259:0"), (64 << 10) - 3584);
}

/// What an NVMe drive with a volatile cache says, which is on or off; or does not say.
fn told(enabled: Option<bool>) -> DeviceFacts {
    let controller = ControllerFacts {
        write_cache_present: true,
        write_cache_enabled: enabled,
        ..ControllerFacts::default()
    };
    let namespace = NamespaceFacts { deallocated_reads_as: 1, ..NamespaceFacts::default() };
    DeviceFacts { controller, namespace, ..DeviceFacts::default() }
}

fn premises(machine: &Machine, number: &str, told: Option<&DeviceFacts>, direct: bool) -> Premises {
    let ask = |device: &BlockDevice| told.filter(|_| device.name.starts_with("nvme")).cloned();
    let device = machine.device(number);
    let own = ask(&device);
    flush_path::of_device(&machine.sysfs, &device, own.as_ref(), direct, &ask)
}

#[test]
fn the_kernel_drops_flushes_where_it_believes_that_there_is_no_cache() {
    let machine = nvme_machine("");
    let seen = |told: Option<bool>| {
        let premises = premises(&machine, "259:1", Some(&self::told(told)), true);
        (premises.volatile_cache, premises.flushes)
    };
    // Partitions go by the queue of their disk.
    assert_eq!(seen(Some(true)), (Some(true), Flushes::WriteBack));
    assert_eq!(seen(Some(false)), (Some(false), Flushes::NotNeeded));
    assert_eq!(seen(None), (Some(true), Flushes::WriteBack), "the drive has said so to the kernel");
    machine.write("sys/block/nvme0n1/queue/write_cache", "write through");
    assert_eq!(seen(Some(true)), (Some(true), Flushes::Dropped));
    assert_eq!(seen(Some(false)), (Some(false), Flushes::NotNeeded));
    assert_eq!(seen(None), (None, Flushes::NotKnown), "nobody has asked the drive");
    let cached = premises(&machine, "259:0", Some(&told(Some(false))), false);
    assert_eq!((cached.volatile_cache, cached.cache_source), (Some(true), CacheSource::PageCache));
    assert_eq!(cached.deallocated, Deallocated::Zeros);
    let no_cache = DeviceFacts {
        controller: ControllerFacts { write_cache_enabled: Some(false), ..ControllerFacts::default() },
        ..told(None)
    };
    let seen = premises(&machine, "259:0", Some(&no_cache), true);
    assert_eq!((seen.volatile_cache, seen.cache_source), (Some(false), CacheSource::Vwc));
}

#[test]
fn a_scsi_or_virtio_disk_says_itself_whether_its_cache_is_on() {
    let machine = Machine::new("", "");
    let disk = machine.disk("pci0000:00/ata1/host0/target0:0:0/0:0:0:0/block/sda", "8:0");
    let home = "sys/devices/pci0000:00/ata1/host0/target0:0:0/0:0:0:0";
    machine.link(&format!("{disk}/device"), home);
    let seen = || {
        let premises = premises(&machine, "8:0", None, true);
        (premises.volatile_cache, premises.cache_source, premises.flushes)
    };
    assert_eq!(seen(), (Some(true), CacheSource::Kernel, Flushes::WriteBack));
    machine.write(&format!("{disk}/queue/write_cache"), "write through");
    assert_eq!(seen(), (Some(false), CacheSource::Kernel, Flushes::NotNeeded));
    machine.write(&format!("{home}/scsi_disk/0:0:0:0/cache_type"), "write back");
    assert_eq!(seen(), (Some(true), CacheSource::CacheType, Flushes::Dropped));
    machine.write(&format!("{home}/scsi_disk/0:0:0:0/cache_type"), "none");
    assert_eq!(seen(), (Some(false), CacheSource::CacheType, Flushes::NotNeeded));
}

#[test]
fn what_is_below_a_stacked_device_decides_and_is_else_not_known() {
    let machine = nvme_machine("");
    let dm = machine.disk("virtual/block/dm-0", "253:0");
    machine.link(&format!("{dm}/slaves/nvme0n1p2"), "sys/block/nvme0n1/nvme0n1p2");
    let seen = |told: Option<bool>| {
        let premises = premises(&machine, "253:0", Some(&self::told(told)), true);
        assert_eq!(premises.atomic, AtomicWrites::default());
        (premises.volatile_cache, premises.flushes)
    };
    assert_eq!(seen(Some(true)), (Some(true), Flushes::NotKnown));
    machine.write("sys/block/dm-0/queue/write_cache", "write through");
    assert_eq!(seen(Some(true)), (Some(true), Flushes::Dropped), "by the upper device");
    assert_eq!(seen(Some(false)), (Some(false), Flushes::NotNeeded));
    assert_eq!(seen(None), (Some(true), Flushes::Dropped), "the kernel knows of the cache below");
    machine.write("sys/block/dm-0/queue/write_cache", "write back");
    machine.write("sys/block/nvme0n1/queue/write_cache", "write through");
    assert_eq!(seen(Some(true)), (Some(true), Flushes::Dropped), "by the lower device");
    machine.write("sys/block/dm-0/queue/write_cache", "write through");
    assert_eq!(seen(None), (None, Flushes::NotKnown));
    // A loop device shows a file, and its file system has a cache of its own.
    let disk = machine.disk("virtual/block/loop0", "7:0");
    machine.write(&format!("{disk}/loop/backing_file"), "/somewhere/image");
    let seen = || {
        let premises = premises(&machine, "7:0", None, true);
        (premises.volatile_cache, premises.flushes)
    };
    assert_eq!(seen(), (Some(true), Flushes::NotKnown));
    machine.write(&format!("{disk}/queue/write_cache"), "write through");
    assert_eq!(seen(), (None, Flushes::NotKnown));
}

#[test]
fn a_multipath_head_is_found_through_its_subsystem_and_hidden_paths_are_not_listed() {
    let machine = Machine::new(&mount("259:5", "/data", "xfs", "/dev/nvme3n1"), NO_SWAP);
    let subsystem = "sys/devices/virtual/nvme-subsystem/nvme-subsys3";
    let controller = "sys/devices/pci0000:00/0000:05:00.0/nvme/nvme7";
    let head = machine.disk("virtual/nvme-subsystem/nvme-subsys3/nvme3n1", "259:5");
    let path = machine.disk("pci0000:00/0000:05:00.0/nvme/nvme7/nvme3c7n1", "0:0");
    machine.write(&format!("{path}/hidden"), "1");
    fs::remove_file(machine.path(&format!("{path}/dev"))).unwrap();
    machine.write("sys/devices/pci0000:00/0000:05:00.0/numa_node", "0");
    machine.link("sys/devices/pci0000:00/0000:05:00.0/driver", "sys/bus/pci/drivers/nvme");
    machine.write(&format!("{controller}/transport"), "pcie");
    machine.write(&format!("{subsystem}/serial"), "HEAD1");
    machine.write(&format!("{subsystem}/model"), "TWO PORTS");
    machine.link(&format!("{subsystem}/nvme7"), controller);
    machine.link(&format!("{head}/device"), subsystem);
    machine.link("sys/class/nvme/nvme7", controller);
    let devices = block::all(&machine.sysfs).unwrap();
    assert_eq!(devices.len(), 1);
    let device = &devices[0];
    assert_eq!((device.name.as_str(), device.serial.as_deref()), ("nvme3n1", Some("HEAD1")));
    assert_eq!((device.transport.as_deref(), device.driver.as_deref()), (Some("pcie"), Some("nvme")));
    assert_eq!(device.numa_node, Some(0));
    assert_eq!(nvme::controllers(&machine.sysfs)[0].namespaces, ["nvme3n1"]);
    machine.link(&format!("{controller}/device"), "sys/devices/pci0000:00/0000:05:00.0");
    machine.write("sys/devices/pci0000:00/0000:05:00.0/current_link_speed", "Unknown");
    machine.write("sys/devices/pci0000:00/0000:05:00.0/max_link_width", "255");
    assert_eq!(nvme::link(&machine.sysfs, "nvme3n1"), None, "an emulated one has no link");
    machine.write("sys/devices/pci0000:00/0000:05:00.0/current_link_width", "2");
    let link = nvme::link(&machine.sysfs, "nvme3n1").unwrap();
    assert_eq!((link.speed, link.width), (None, Some(2)));
    assert_eq!(machine.uses("259:5"), ["mounted on /data (xfs)"]);
}

#[test]
fn a_mounted_partition_claims_the_disk_and_not_its_sibling() {
    let machine = nvme_machine(&mount("259:1", "/a\\040b", "ext4", "/dev/nvme0n1p1"));
    assert_eq!(machine.uses("259:1"), ["mounted on /a b (ext4)"]);
    assert_eq!(machine.uses("259:0"), ["partition nvme0n1p1 is mounted on /a b (ext4)"]);
    assert_eq!(machine.uses("259:2"), [""; 0]);
    let machine = nvme_machine(&mount("259:0", "/", "ext4", "/dev/root"));
    assert_eq!(machine.uses("259:2"), ["the whole disk nvme0n1 is mounted on / (ext4)"]);
}

#[test]
fn what_is_made_of_a_device_claims_it_with_all_that_follows() {
    let machine = nvme_machine(&mount("253:1", "/srv", "xfs", "/dev/mapper/vg-srv"));
    let partition = "sys/devices/pci0000:00/0000:01:00.0/nvme/nvme0/nvme0n1/nvme0n1p2";
    let md = machine.disk("virtual/block/md0", "9:0");
    machine.write(&format!("{md}/md/level"), "raid1\n");
    machine.held(partition, "md0", &md);
    let lv = machine.disk("virtual/block/dm-1", "253:1");
    machine.write(&format!("{lv}/dm/name"), "vg-srv\n");
    machine.held(&md, "dm-1", &lv);
    assert_eq!(
        machine.uses("259:0"),
        [
            "partition nvme0n1p2 is a member of md0 (raid1), which is a member of dm-1 (vg-srv), which is mounted on /srv (xfs)"
        ]
    );
    assert_eq!(machine.uses("9:0"), ["member of dm-1 (vg-srv), which is mounted on /srv (xfs)"]);
    assert_eq!(machine.uses("259:1"), [""; 0]);
    // A circle, which no kernel should make.
    machine.held(&lv, "md0", &md);
    assert!(!machine.uses("9:0").is_empty());
}

#[test]
fn swap_is_found_by_name_where_the_node_cannot_be_looked_at() {
    let machine = nvme_machine("");
    machine.write("proc/swaps", &format!("{NO_SWAP}/dev/nvme0n1p2    partition\t8388604\t0\t-2\n"));
    assert_eq!(machine.uses("259:2"), ["swap"]);
    assert_eq!(machine.uses("259:0"), ["partition nvme0n1p2 is swap"]);
    assert_eq!(machine.uses("259:1"), [""; 0]);
}

#[test]
fn the_other_port_of_the_same_drive_counts() {
    let machine = nvme_machine(&mount("259:9", "/other", "ext4", "/dev/nvme9n1p1"));
    let twin = machine.disk("pci0000:00/0000:09:00.0/nvme/nvme9/nvme9n1", "259:8");
    machine.partition(&twin, "nvme9n1p1", "259:9");
    assert_eq!(machine.uses("259:0"), [""; 0]);
    machine.write(&format!("{twin}/wwid"), "eui.0025\n");
    assert_eq!(machine.uses("259:0"), ["the same drive as nvme9n1p1, which is mounted on /other (ext4)"]);
}

#[test]
fn btrfs_with_several_devices_claims_each() {
    let machine = nvme_machine(&mount("0:45", "/pool", "btrfs", "/dev/nvme0n1p1"));
    machine.link(
        "sys/fs/btrfs/0000-uuid/devices/nvme0n1p2",
        "sys/devices/pci0000:00/0000:01:00.0/nvme/nvme0/nvme0n1/nvme0n1p2",
    );
    machine.write("sys/fs/btrfs/0000-uuid/label", "pool\n");
    assert_eq!(machine.uses("259:1"), ["mounted on /pool (btrfs)"]);
    assert_eq!(machine.uses("259:2"), ["part of the mounted btrfs pool"]);
    let machine = nvme_machine(&mount("0:46", "/c", "bcachefs", "/dev/sdz:/dev/nvme0n1p2"));
    assert_eq!(machine.uses("259:2"), ["mounted on /c (bcachefs)"]);
}

#[test]
fn a_file_shown_by_a_loop_device_or_swapped_to_is_claimed_by_any_of_its_names() {
    let machine = Machine::new(&mount("7:0", "/mnt/x", "ext4", "/dev/loop0"), NO_SWAP);
    let file = machine.path("image");
    let other = machine.path("other");
    fs::write(&file, "x").unwrap();
    fs::write(&other, "x").unwrap();
    let loop0 = machine.disk("virtual/block/loop0", "7:0");
    machine.write(&format!("{loop0}/loop/backing_file"), &format!("{}\n", file.display()));
    let hard = machine.path("hard");
    fs::hard_link(&file, &hard).unwrap();
    symlink(&file, machine.path("soft")).unwrap();
    let claims = Claims::read(&machine.sysfs).unwrap();
    for name in [file, hard, machine.path("soft"), machine.path("sys/../image")] {
        let found: Vec<String> = claims.of_file(&name).into_iter().map(|claim| claim.sentence).collect();
        assert_eq!(
            found,
            ["the backing file of loop0, which is mounted on /mnt/x (ext4)"],
            "{}",
            name.display()
        );
    }
    assert!(claims.of_file(&other).is_empty());
    machine.write("proc/swaps", &format!("{NO_SWAP}{}    file\t1\t0\t-2\n", other.display()));
    assert_eq!(Claims::read(&machine.sysfs).unwrap().of_file(&other)[0].sentence, "an active swap file");
}

#[test]
fn without_a_mount_table_nobody_is_told_that_a_device_is_free() {
    let machine = nvme_machine("");
    fs::remove_file(machine.path("proc/self/mountinfo")).unwrap();
    assert!(Claims::read(&machine.sysfs).is_err());
}

#[test]
fn mount_tables_are_read_as_the_kernel_writes_them() {
    let text = "36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 shared:2 - ext3 /dev/ro\\134ot rw,errors=continue\n\
                junk\n27 1 254:0 / / rw - ext4 /dev/vda rw\n28 1 0:5 / /empty rw - tmpfs  rw\n";
    let mounts = parse_mountinfo(text);
    assert_eq!(mounts.len(), 3);
    assert_eq!((mounts[0].mount_point.as_str(), mounts[0].source.as_str()), ("/mnt 2", "/dev/ro\\ot"));
    assert_eq!(mounts[1].number, DeviceNumber { major: 254, minor: 0 });
    assert_eq!(mounts[2].source, "");
    assert_eq!(parse_swaps("Filename Type\n/a\\040b file 1 0 -2\n"), ["/a b"]);
    assert_eq!(unescape("\\0\\04\\040\\777\\"), "\\0\\04 \\777\\");
}

proptest! {
    #[test]
    fn no_table_makes_the_readers_panic(text in "(?s).{0,200}", lines in "([0-9]{1,3} |[0-9]+:[0-9]+ |- |\\\\[0-7]{1,4}|/[a-z]* |\n){0,60}") {
        for text in [text, lines] {
            let _ = parse_mountinfo(&text);
            let _ = parse_swaps(&text);
            let _ = unescape(&text);
        }
    }

    #[test]
    fn a_mount_point_survives_the_kernels_escapes(point in "/[ -~\t\n]{0,40}") {
        let escaped = point.replace('\\', "\\134").replace(' ', "\\040").replace('\t', "\\011").replace('\n', "\\012");
        let mounts = parse_mountinfo(&mount("8:1", &escaped, "ext4", "/dev/sda1"));
        prop_assert_eq!(&mounts[0].mount_point, &point);
    }
}

#[test]
fn what_a_file_system_lies_on_is_found_down_to_the_disks() {
    use super::beneath::Beneath;
    let machine = Machine::new("", NO_SWAP);
    let sda = machine.disk("pci0000:00/0000:00:01.0/ata1/block/sda", "8:0");
    let sda1 = machine.partition(&sda, "sda1", "8:1");
    machine.partition(&sda, "sda2", "8:2");
    machine.disk("pci0000:00/0000:00:01.0/ata2/block/sdb", "8:16");
    let dm = machine.disk("virtual/block/dm-0", "253:0");
    machine.link(&format!("{dm}/slaves/sda1"), &sda1);
    let file = machine.path("image");
    fs::write(&file, "").unwrap();
    let loop0 = machine.disk("virtual/block/loop0", "7:0");
    machine.write(&format!("{loop0}/loop/backing_file"), &format!("{}\n", file.display()));
    let number = |text: &str| DeviceNumber::parse(text).unwrap();
    let below = |text: &str| Beneath::file_system(&machine.sysfs, number(text)).unwrap();
    let names = |text: &str| below(text).devices.into_values().collect::<Vec<_>>();
    assert_eq!(names("8:1"), ["sda", "sda1"]);
    assert_eq!(names("253:0"), ["sda", "sda1", "dm-0"]);
    assert_eq!(names("0:99"), Vec::<String>::new());
    assert_eq!(names("7:0"), ["loop0"]);
    let id = fs::metadata(&file).map(|metadata| {
        use std::os::unix::fs::MetadataExt;
        (metadata.dev(), metadata.ino())
    });
    assert!(below("7:0").files.contains(&id.unwrap()));
    assert_eq!(Beneath::device(&machine.sysfs, number("253:0")).unwrap(), below("253:0"));
    assert_eq!(below("253:0").shared_with(&below("8:2")), Some("sda"));
    assert_eq!(below("253:0").shared_with(&below("8:16")), None);
}
