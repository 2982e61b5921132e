//! What the kernel counts of block devices: how busy they were, with whatever I/O.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::beneath::Beneath;
use super::block::{self, DeviceNumber};
use super::{Sysfs, attribute, names};

/// Counters of one device, or how much they grew. Reads and writes; times in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskCounts {
    /// I/Os completed.
    pub ios: [u64; 2],
    /// I/Os merged with others before they were issued.
    pub merges: [u64; 2],
    /// Sectors of 512 bytes.
    pub sectors: [u64; 2],
    /// Sum of the times that I/Os took.
    pub ticks: [u64; 2],
    /// Time with any I/O in flight.
    pub busy: u64,
    /// Time in flight, summed over all I/Os.
    pub in_queue: u64,
}

impl DiskCounts {
    /// Reads the text of `/sys/block/*/stat`.
    #[must_use]
    pub fn parse(text: &str) -> Option<DiskCounts> {
        let numbers: Vec<u64> =
            text.split_whitespace().map(|word| word.parse().ok()).collect::<Option<_>>()?;
        match numbers.as_slice() {
            [
                reads,
                read_merges,
                read_sectors,
                read_ticks,
                writes,
                write_merges,
                write_sectors,
                write_ticks,
                _,
                busy,
                in_queue,
                ..,
            ] => Some(DiskCounts {
                ios: [*reads, *writes],
                merges: [*read_merges, *write_merges],
                sectors: [*read_sectors, *write_sectors],
                ticks: [*read_ticks, *write_ticks],
                busy: *busy,
                in_queue: *in_queue,
            }),
            _ => None,
        }
    }

    /// How much has come since `before`. The kernel keeps times in 32 bits.
    fn since(&self, before: &DiskCounts) -> DiskCounts {
        let both =
            |now: [u64; 2], then: [u64; 2]| [now[0].wrapping_sub(then[0]), now[1].wrapping_sub(then[1])];
        let time = |now: u64, then: u64| {
            if now >= then || then > u64::from(u32::MAX) {
                now.saturating_sub(then)
            } else {
                now + (1 << 32) - then
            }
        };
        DiskCounts {
            ios: both(self.ios, before.ios),
            merges: both(self.merges, before.merges),
            sectors: both(self.sectors, before.sectors),
            ticks: [time(self.ticks[0], before.ticks[0]), time(self.ticks[1], before.ticks[1])],
            busy: time(self.busy, before.busy),
            in_queue: time(self.in_queue, before.in_queue),
        }
    }

    /// Adds `other`.
    pub fn add(&mut self, other: &DiskCounts) {
        for side in 0..2 {
            self.ios[side] += other.ios[side];
            self.merges[side] += other.merges[side];
            self.sectors[side] += other.sectors[side];
            self.ticks[side] += other.ticks[side];
        }
        self.busy += other.busy;
        self.in_queue += other.in_queue;
    }
}

/// One device while it was watched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskUse {
    /// Its name, such as `nvme0n1`.
    pub name: String,
    /// What came together.
    pub counts: DiskCounts,
    /// How long it was watched, in milliseconds.
    pub elapsed_ms: u64,
    /// Names of the devices that it is made of.
    pub slaves: Vec<String>,
}

impl DiskUse {
    /// How much of the time any I/O was in flight, in percent.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a percentage")]
    pub fn busy_percent(&self) -> f64 {
        if self.elapsed_ms == 0 {
            return 0.0;
        }
        (self.counts.busy as f64 * 100.0 / self.elapsed_ms as f64).min(100.0)
    }
}

struct Disk {
    dir: PathBuf,
    sum: DiskUse,
    /// What the kernel said last and when, in nanoseconds, while it is watched.
    last: Option<(DiskCounts, u64)>,
}

/// Watches devices, each while jobs run on it.
#[derive(Default)]
pub struct DiskWatch {
    sysfs: Sysfs,
    disks: BTreeMap<DeviceNumber, Disk>,
    /// In the order in which they were found.
    order: Vec<DeviceNumber>,
}

impl DiskWatch {
    /// One that looks at another tree than `/sys`.
    #[must_use]
    pub fn at(sysfs: Sysfs) -> DiskWatch {
        DiskWatch { sysfs, ..DiskWatch::default() }
    }

    /// Watches the devices below `target` from now on. What cannot be found is not watched.
    pub fn begin(&mut self, target: &Path, now_ns: u64) {
        let Ok(metadata) = fs::metadata(target) else { return };
        if metadata.file_type().is_block_device() {
            self.begin_device(DeviceNumber::from_raw(metadata.rdev()), now_ns);
        } else if metadata.is_file() || metadata.is_dir() {
            let number = DeviceNumber::from_raw(metadata.dev());
            if number.major != 0 {
                return self.begin_device(number, now_ns);
            }
            // A file system without a device of its own: those that it is made of.
            let below = Beneath::file_system(&self.sysfs, number).unwrap_or_default();
            below.devices.into_keys().for_each(|number| self.begin_device(number, now_ns));
        }
    }

    fn begin_device(&mut self, number: DeviceNumber, now_ns: u64) {
        let Some(found) = block::by_number(&self.sysfs, number) else { return };
        // Of a partition, its disk: that is what is busy.
        let whole = if found.disk.is_some() { found.dir.parent().and_then(block::describe) } else { None };
        let disk = whole.unwrap_or(found);
        let Some(counts) = read(&disk.dir) else { return };
        let order = &mut self.order;
        let entry = self.disks.entry(disk.number).or_insert_with(|| {
            order.push(disk.number);
            let sum = DiskUse { name: disk.name.clone(), ..DiskUse::default() };
            Disk { dir: disk.dir.clone(), sum, last: None }
        });
        entry.last.get_or_insert((counts, now_ns));
        let mut slaves = Vec::new();
        for slave in names(&disk.dir.join("slaves")) {
            if let Some(device) = block::describe(&disk.dir.join("slaves").join(&slave)) {
                self.begin_device(device.number, now_ns);
                slaves.push(device.disk.clone().unwrap_or(device.name));
            }
        }
        slaves.sort();
        slaves.dedup();
        if let Some(entry) = self.disks.get_mut(&disk.number) {
            entry.sum.slaves = slaves;
        }
    }

    /// Takes in what has come. To be called every few minutes at least: under many I/Os the kernel's
    /// 32-bit times come round within an hour.
    pub fn look(&mut self, now_ns: u64) {
        for disk in self.disks.values_mut() {
            let (Some((before, then_ns)), Some(counts)) = (disk.last, read(&disk.dir)) else { continue };
            disk.sum.counts.add(&counts.since(&before));
            let elapsed_ms = now_ns.saturating_sub(then_ns) / 1_000_000;
            disk.sum.elapsed_ms += elapsed_ms;
            disk.last = Some((counts, then_ns + elapsed_ms * 1_000_000));
        }
    }

    /// The jobs have ended: nothing is watched any more.
    pub fn end(&mut self, now_ns: u64) {
        self.look(now_ns);
        self.disks.values_mut().for_each(|disk| disk.last = None);
    }

    /// All devices so far.
    #[must_use]
    pub fn report(&self) -> Vec<DiskUse> {
        self.order.iter().filter_map(|number| Some(self.disks.get(number)?.sum.clone())).collect()
    }
}

fn read(dir: &Path) -> Option<DiskCounts> {
    DiskCounts::parse(&attribute(&dir.join("stat"))?)
}

#[cfg(test)]
mod tests {
    use super::super::machines::{Machine, NO_SWAP};
    use super::*;

    const STAT: &str = "  100  1  800  50  200  2  1600  90  3  120  140  0 0 0 0 7 9";

    #[test]
    fn the_kernels_line_is_read_in_its_order() {
        let counts = DiskCounts::parse(STAT).unwrap();
        let wanted = DiskCounts {
            ios: [100, 200],
            merges: [1, 2],
            sectors: [800, 1600],
            ticks: [50, 90],
            busy: 120,
            in_queue: 140,
        };
        assert_eq!(counts, wanted);
        assert_eq!((DiskCounts::parse("1 2 3"), DiskCounts::parse("a")), (None, None));
    }

    /// `md0` of `nvme0n1` and a partition of `sda`.
    fn raid() -> (Machine, DiskWatch) {
        let machine = Machine::new("", NO_SWAP);
        let whole = machine.disk("pci0/nvme/nvme0/nvme0n1", "259:0");
        let other = machine.disk("pci0/sda", "8:0");
        let part = machine.partition(&other, "sda1", "8:1");
        let raid = machine.disk("virtual/block/md0", "9:0");
        machine.link(&format!("{raid}/slaves/nvme0n1"), &whole);
        machine.link(&format!("{raid}/slaves/sda1"), &part);
        for dir in [&whole, &other, &part, &raid] {
            machine.write(&format!("{dir}/stat"), STAT);
        }
        let watch = DiskWatch::at(machine.sysfs.clone());
        (machine, watch)
    }

    #[test]
    fn devices_are_watched_with_those_they_are_made_of_and_only_while_jobs_run() {
        let (machine, mut watch) = raid();
        let grow = |reads: u64| {
            let text = STAT.replacen("100", &reads.to_string(), 1);
            machine.write("sys/devices/virtual/block/md0/stat", &text);
        };
        let raid = DeviceNumber::parse("9:0").unwrap();
        watch.begin_device(raid, 0);
        grow(150);
        watch.look(1_500_000_000);
        watch.end(2_000_000_000);
        grow(1000);
        watch.begin_device(raid, 10_000_000_000);
        grow(1007);
        watch.end(11_000_000_000);
        let report = watch.report();
        let names: Vec<&str> = report.iter().map(|disk| disk.name.as_str()).collect();
        assert_eq!(names, ["md0", "nvme0n1", "sda"], "of a partition, its disk");
        assert_eq!((report[0].counts.ios, report[0].elapsed_ms), ([57, 0], 3000));
        assert_eq!(report[0].slaves, ["nvme0n1", "sda"]);
        assert_eq!(report[2].counts, DiskCounts::default());
    }

    #[test]
    fn times_that_came_round_still_grow() {
        let before = DiskCounts { busy: u64::from(u32::MAX) - 9, ..DiskCounts::default() };
        let after = DiskCounts { busy: 10, ..DiskCounts::default() };
        assert_eq!(after.since(&before).busy, 20);
    }

    #[test]
    fn utilization_is_of_the_time_watched_and_never_above_all_of_it() {
        let mut disk = DiskUse { elapsed_ms: 1000, ..DiskUse::default() };
        disk.counts.busy = 250;
        assert_eq!(disk.busy_percent(), 25.0);
        disk.counts.busy = 1001;
        assert_eq!(disk.busy_percent(), 100.0);
        assert_eq!(DiskUse::default().busy_percent(), 0.0);
    }
}
