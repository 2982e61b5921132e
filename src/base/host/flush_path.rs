//! What becomes of flushes on the way through the kernel to a disk: `queue/write_cache` of each device on
//! the way, held against what the drives below say of their caches.

use std::path::Path;
use std::time::Duration;

use super::beneath::Beneath;
use super::block::{self, BlockDevice};
use super::{Sysfs, attribute, names, nvme_admin};
use crate::base::atomic::{AtomicLimit, AtomicWrites};
use crate::base::nvme::DeviceFacts;
use crate::base::premises::{CacheSource, Deallocated, Flushes, Premises, cache_of};

/// The premises of verdicts on a block device, written to with `O_DIRECT` or without; `told` is what its
/// NVMe device says of itself, if it is one that answers.
#[must_use]
pub fn of_device(
    sysfs: &Sysfs,
    device: &BlockDevice,
    told: Option<&DeviceFacts>,
    direct: bool,
    ask: &dyn Fn(&BlockDevice) -> Option<DeviceFacts>,
) -> Premises {
    let is_stacked = is_stacked(device);
    let (cache, flushes) = if is_stacked { stacked(sysfs, device, ask) } else { disk(sysfs, device, told) };
    let (volatile_cache, cache_source) = if direct { cache } else { (Some(true), CacheSource::PageCache) };
    let atomic = match told.filter(|_| !is_stacked) {
        Some(facts) if direct => device.atomic_writes(facts.atomic_writes()),
        Some(facts) => facts.atomic_writes().limited(0, AtomicLimit::PageCache),
        None => AtomicWrites::default(),
    };
    let deallocated = told.map_or(0, |facts| facts.namespace.deallocated_reads_as);
    Premises {
        volatile_cache,
        cache_source,
        flushes,
        atomic,
        deallocated: Deallocated::of_dlfeat(deallocated),
        broken: String::new(),
    }
}

/// The premises of verdicts on a file: its file system keeps data in memory, and fsync is as good as what is
/// below it.
#[must_use]
pub fn of_file(sysfs: &Sysfs, path: &Path, ask: &dyn Fn(&BlockDevice) -> Option<DeviceFacts>) -> Premises {
    let below = Beneath::path(sysfs, path).unwrap_or_default();
    let dropped = drops(&devices(sysfs, &below), sysfs, ask);
    Premises {
        volatile_cache: Some(true),
        cache_source: CacheSource::FileSystem,
        flushes: if dropped { Flushes::Dropped } else { Flushes::FileSystem },
        deallocated: Deallocated::Hole,
        ..Premises::default()
    }
}

/// Asks the NVMe device that `device` is, or is a partition of.
#[must_use]
pub fn ask_nvme(sysfs: &Sysfs, device: &BlockDevice, patience: Duration) -> Option<DeviceFacts> {
    let namespace = nvme_admin::Namespace::of(sysfs, device)?;
    nvme_admin::facts_within(patience, sysfs, &namespace).ok()
}

/// Whether other devices or a file are below it.
fn is_stacked(device: &BlockDevice) -> bool {
    let disk = if device.disk.is_some() { device.dir.parent() } else { None }.unwrap_or(&device.dir);
    !names(&disk.join("slaves")).is_empty() || device.loop_backing_file().is_some()
}

/// Whether the kernel drops flushes to this device; `None` where it does not say.
fn writes_through(device: &BlockDevice) -> Option<bool> {
    match device.write_cache.as_deref() {
        Some("write back") => Some(false),
        Some("write through") => Some(true),
        _ => None,
    }
}

type Cache = (Option<bool>, CacheSource);

/// What a disk says of its own cache, whatever the kernel makes of that. Of one that does not answer the
/// kernel says `write back` only if the disk has said so to it.
fn own_cache(sysfs: &Sysfs, device: &BlockDevice, told: Option<&DeviceFacts>) -> Cache {
    match told.map(cache_of) {
        Some((None, _)) | None => {}
        Some(known) => return known,
    }
    let disk = if device.disk.is_some() { device.dir.parent() } else { None }.unwrap_or(&device.dir);
    let scsi = disk.join("device/scsi_disk");
    let scsi = names(&scsi).first().and_then(|name| attribute(&scsi.join(name).join("cache_type")));
    match scsi.or_else(|| attribute(&disk.join("cache_type"))) {
        Some(text) if text.starts_with("write back") => (Some(true), CacheSource::CacheType),
        Some(_) => (Some(false), CacheSource::CacheType),
        // The kernel believed the drive when it came; what a user then wrote there is not the drive's word.
        None if writes_through(device) == Some(true)
            && nvme_admin::Namespace::of(sysfs, device).is_some() =>
        {
            (None, CacheSource::NotKnown)
        }
        None => (writes_through(device).map(|through| !through), CacheSource::Kernel),
    }
}

fn disk(sysfs: &Sysfs, device: &BlockDevice, told: Option<&DeviceFacts>) -> (Cache, Flushes) {
    let own = own_cache(sysfs, device, told);
    let flushes = match (own.0, writes_through(device)) {
        (Some(false), _) => Flushes::NotNeeded,
        (_, Some(false)) => Flushes::WriteBack,
        (Some(true), Some(true)) => Flushes::Dropped,
        _ => Flushes::NotKnown,
    };
    (own, flushes)
}

fn devices(sysfs: &Sysfs, below: &Beneath) -> Vec<BlockDevice> {
    below.devices.keys().filter_map(|&number| block::by_number(sysfs, number)).collect()
}

/// Whether one of `devices` drops flushes while the cache of a disk among them is on. Disks are asked only
/// where that matters.
fn drops(devices: &[BlockDevice], sysfs: &Sysfs, ask: &dyn Fn(&BlockDevice) -> Option<DeviceFacts>) -> bool {
    devices.iter().any(|device| writes_through(device) == Some(true))
        && disks(devices).any(|disk| own_cache(sysfs, disk, ask(disk).as_ref()).0 == Some(true))
}

fn disks(devices: &[BlockDevice]) -> impl Iterator<Item = &BlockDevice> {
    devices.iter().filter(|device| device.disk.is_none() && !is_stacked(device))
}

/// A device made of others: what is below decides, and where nothing is known against it, nothing is known
/// for it.
fn stacked(
    sysfs: &Sysfs,
    device: &BlockDevice,
    ask: &dyn Fn(&BlockDevice) -> Option<DeviceFacts>,
) -> (Cache, Flushes) {
    let below = Beneath::device(sysfs, device.number).unwrap_or_default();
    let devices = devices(sysfs, &below);
    if drops(&devices, sysfs, ask) {
        return ((Some(true), CacheSource::Below), Flushes::Dropped);
    }
    if writes_through(device) == Some(false) {
        return ((Some(true), CacheSource::Kernel), Flushes::NotKnown);
    }
    let has_file = !below.files.is_empty() || devices.iter().any(|one| one.loop_backing_file().is_some());
    let all_off = !has_file
        && disks(&devices).next().is_some()
        && disks(&devices).all(|disk| own_cache(sysfs, disk, ask(disk).as_ref()).0 == Some(false));
    match all_off {
        true => ((Some(false), CacheSource::Below), Flushes::NotNeeded),
        false => ((None, CacheSource::NotKnown), Flushes::NotKnown),
    }
}
