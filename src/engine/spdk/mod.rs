//! SPDK's NVMe driver: a queue pair a worker and namespace, in user space. What is called once an I/O
//! is in [`queue`]; controllers and the thread that looks after them are in [`session`].

#![allow(unsafe_code, reason = "the driver takes raw pointers to buffers")]

mod admin;
mod events;
mod leftovers;
mod queue;
mod session;

use std::path::PathBuf;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use crate::base::Status;
use crate::base::atomic::AtomicWrites;
use crate::base::host::{self, Sysfs};
use crate::base::nvme::{
    self, Admin, ControllerFacts, DeviceFacts, FEATURE_VOLATILE_WRITE_CACHE, NamespaceFacts,
};
use crate::base::premises::{CacheSource, Flushes, Premises};
use crate::base::spdk::{SpdkOptions, WriteMode};
use crate::base::transport_id::{Transport, TransportId};

use super::{
    BufferArea, Engine, EngineError, EngineOptions, Known, QueueConfig, Target, TargetFacts, Targets,
};

pub use queue::SpdkQueue;
pub use session::{finish, shut_down};

use admin::Channel;
use session::{Held, Lease};

/// Engine `spdk`.
pub struct Spdk {
    namespaces: Vec<Namespace>,
    facts: Vec<TargetFacts>,
    options: EngineOptions,
    // Before the leases end.
    caches: Vec<CacheSwitch>,
    leases: Vec<Lease>,
}

/// One target.
pub(crate) struct Namespace {
    held: Arc<Held>,
    nsid: u32,
    lba_bytes: u32,
    /// As in the job.
    name: String,
}

impl Namespace {
    /// Whether the cache is on, by feature 06h; `None` if there is none, or no answer.
    fn cache_is_on(&self) -> Option<bool> {
        if !self.held.answers() {
            return None;
        }
        let channel = Channel(&self.held.controller);
        let facts = ControllerFacts::parse(&channel.identify_controller().ok()?);
        facts.ask_write_cache(&channel).ok().filter(|_| facts.write_cache_present)
    }

    /// What the device says; `None` if it does not answer any more.
    fn facts(&self) -> Option<DeviceFacts> {
        if !self.held.answers() {
            return None;
        }
        let mut facts = DeviceFacts::collect(&Channel(&self.held.controller), self.nsid).ok()?;
        if !self.held.answers() {
            // Half of it is from before it died.
            return None;
        }
        if let Ok(TransportId { trtype: Transport::Pcie, traddr, .. }) = TransportId::parse(&self.name) {
            facts.link =
                host::nvme::pci_controller_at(&Sysfs::default(), &traddr).and_then(|found| found.link);
        }
        Some(facts)
    }
}

/// A volatile write cache that was switched, and goes back to what it was.
struct CacheSwitch {
    held: Arc<Held>,
    before: u32,
}

impl Drop for CacheSwitch {
    fn drop(&mut self) {
        if !self.held.is_gone() {
            // The run is over; a controller that does not answer cannot be helped.
            let _ = Channel(&self.held.controller).set_feature(FEATURE_VOLATILE_WRITE_CACHE, self.before);
        }
    }
}

impl Engine for Spdk {
    type Queue = SpdkQueue;
    const NAME: &'static str = super::SPDK;
    const TARGETS: Targets = Targets::Namespaces;

    fn open(targets: &[Target], options: &EngineOptions) -> Result<Self, EngineError> {
        let mut spdk = Spdk {
            namespaces: Vec::new(),
            facts: Vec::new(),
            options: options.clone(),
            caches: Vec::new(),
            leases: Vec::new(),
        };
        for target in targets {
            spdk.add(&target.path.to_string_lossy())?;
        }
        Ok(spdk)
    }

    fn facts(&self) -> &[TargetFacts] {
        &self.facts
    }

    fn buffers(&self, count: u32, len: u32) -> Result<BufferArea, String> {
        BufferArea::of_device(count, len, spdk_sys::dma_alloc, free).ok_or_else(|| {
            format!(
                "not enough hugepage memory for {count} buffers of {len} bytes: reserve more \
                 (/proc/sys/vm/nr_hugepages), raise mem_size_mb, or lower iodepth, bs or numjobs"
            )
        })
    }

    fn device_facts(&self) -> Vec<Option<DeviceFacts>> {
        self.namespaces.iter().map(Namespace::facts).collect()
    }

    fn premises(&self, _: Duration) -> Vec<Option<Premises>> {
        let now = |(namespace, fact): (&Namespace, &TargetFacts)| {
            let on = namespace.cache_is_on()?;
            let flushes = if on { Flushes::Command } else { Flushes::NotNeeded };
            Some(Premises {
                volatile_cache: Some(on),
                cache_source: CacheSource::Feature,
                flushes,
                ..fact.premises.clone()
            })
        };
        self.namespaces.iter().zip(&self.facts).map(now).collect()
    }

    fn take_notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for lease in &self.leases {
            for note in lease.0.take_notes() {
                if !notes.contains(&note) {
                    notes.push(note);
                }
            }
        }
        notes
    }

    fn replaced(&self) -> Option<String> {
        self.leases.iter().find_map(|lease| lease.0.replaced())
    }

    fn queue(
        &self,
        config: &QueueConfig,
        buffers: &BufferArea,
    ) -> Result<(SpdkQueue, Vec<String>), EngineError> {
        let (queue, mut notes) = SpdkQueue::new(&self.namespaces, &self.options, config, buffers)?;
        let asks = self.options.spdk.use_cmb_sqs;
        let without = self.namespaces.iter().filter(|one| asks && !one.held.controller.info().cmb_sqs);
        notes.extend(without.map(|one| {
            format!("{}: no controller memory buffer for queues: use_cmb_sqs does nothing here", one.name)
        }));
        Ok((queue, notes))
    }
}

impl Spdk {
    fn add(&mut self, text: &str) -> Result<(), EngineError> {
        let id = TransportId::parse(text).map_err(|why| EngineError::new(format!("{text}: {why}")))?;
        let lease = session::lease(&id, &self.options.spdk)?;
        let held = Arc::clone(&lease.0);
        self.leases.push(lease);
        let controller = &held.controller;
        let geometry = controller.namespace(id.ns).filter(|geometry| geometry.lba_bytes.is_power_of_two());
        let Some(geometry) = geometry else {
            let active: Vec<String> = (1..=controller.info().namespaces.min(1024))
                .filter(|&nsid| controller.namespace(nsid).is_some())
                .map(|nsid| nsid.to_string())
                .collect();
            return Err(EngineError::new(format!(
                "{text}: there is no active namespace {}; the controller has {}",
                id.ns,
                if active.is_empty() { "none".to_owned() } else { active.join(", ") }
            )));
        };
        let collect = || {
            DeviceFacts::collect(&Channel(controller), id.ns)
                .map_err(|why| EngineError::new(format!("{text}: {why}")))
        };
        let mut device = collect()?;
        let facts = |device: &DeviceFacts| TargetFacts {
            path: PathBuf::from(id.to_string()),
            size_bytes: geometry.blocks.saturating_mul(u64::from(geometry.lba_bytes)),
            lba_bytes: geometry.lba_bytes,
            is_block_device: true,
            premises: Premises::of_device(
                device,
                atomic_writes(device, &geometry, controller.info().max_transfer_bytes),
            ),
            known: Some(known(&held, device)),
            pin: None,
        };
        self.check_identity(&facts(&device))?;
        if self.switch_cache(&held, text)? {
            device = collect()?;
        }
        self.check_commands(&device, geometry.pi_type, text)?;
        self.check_ranges(&device, &held, text)?;
        self.facts.push(facts(&device));
        let (lba_bytes, name) = (geometry.lba_bytes, id.to_string());
        self.namespaces.push(Namespace { held, nsid: id.ns, lba_bytes, name });
        Ok(())
    }

    /// Refuses a drive that is not the one that was checked at this address, before anything of it is changed.
    fn check_identity(&self, now: &TargetFacts) -> Result<(), EngineError> {
        let checked = self.options.checked.iter().find(|checked| checked.path == now.path);
        match checked.and_then(|checked| checked.replaced_by(now)) {
            Some(why) => Err(EngineError::replaced(format!("{why}; nothing was written to it"))),
            None => Ok(()),
        }
    }

    /// Sets feature 06h as the job asks for it; whether that changed it.
    fn switch_cache(&mut self, held: &Arc<Held>, text: &str) -> Result<bool, EngineError> {
        let Some(on) = self.options.spdk.volatile_write_cache else { return Ok(false) };
        if self.caches.iter().any(|switch| Arc::ptr_eq(&switch.held, held)) {
            return Ok(false);
        }
        let channel = Channel(&held.controller);
        let failed = |what: &str, why: String| {
            EngineError::new(format!("{text}: volatile_write_cache: cannot {what} feature 06h: {why}"))
        };
        let before = channel.get_feature(FEATURE_VOLATILE_WRITE_CACHE).map_err(|why| failed("read", why))?;
        if (before & 1 == 1) != on {
            let value = before & !1 | u32::from(on);
            channel.set_feature(FEATURE_VOLATILE_WRITE_CACHE, value).map_err(|why| failed("set", why))?;
            self.caches.push(CacheSwitch { held: Arc::clone(held), before });
            return Ok(true);
        }
        Ok(false)
    }

    /// What the job asks of the device beyond reads and writes.
    fn check_commands(&self, device: &DeviceFacts, pi_type: u32, text: &str) -> Result<(), EngineError> {
        let (controller, spdk) = (&device.controller, &self.options.spdk);
        let missing = match spdk.write_mode {
            WriteMode::Zeroes if !controller.write_zeroes => {
                "the command Write Zeroes (write_mode = \"zeroes\")"
            }
            WriteMode::Uncorrectable if !controller.write_uncorrectable => {
                "the command Write Uncorrectable (write_mode = \"uncor\")"
            }
            WriteMode::Verify if !controller.verify => "the command Verify (write_mode = \"verify\")",
            WriteMode::Compare if !controller.compare => "the command Compare (write_mode = \"compare\")",
            _ if pi_type == 0 && (spdk.pi_act || spdk.pi_chk != crate::base::spdk::PiCheck::default()) => {
                "protection information: the namespace is formatted without (pi_act, pi_chk)"
            }
            _ => return Ok(()),
        };
        Err(EngineError {
            message: format!("{text}: the device does not have {missing}"),
            errno: Some(Status::from_errno(libc::EOPNOTSUPP).errno()),
            is_unsafe: false,
        })
    }
}

impl Spdk {
    /// Whether the device takes deallocates of as many ranges as the job wants.
    fn check_ranges(&self, device: &DeviceFacts, held: &Held, text: &str) -> Result<(), EngineError> {
        let wanted = self.options.trim_ranges;
        if wanted <= 1 {
            return Ok(());
        }
        let refused = |why: String| EngineError {
            message: format!("{text}: num_range: {why}"),
            errno: Some(Status::from_errno(libc::EOPNOTSUPP).errno()),
            is_unsafe: false,
        };
        if !device.controller.dataset_management {
            return Err(refused("the device does not have the command Dataset Management".to_owned()));
        }
        match Channel(&held.controller).most_ranges() {
            Some(most) if u32::from(most) < wanted => Err(refused(format!(
                "the device takes at most {most} ranges in a deallocate (DMRL), not {wanted}"
            ))),
            _ => Ok(()),
        }
    }
}

/// What a PCIe controller says of itself, and its active namespaces.
///
/// # Errors
/// If it cannot be attached or does not answer.
pub fn ask_controller(bdf: &str) -> Result<(ControllerFacts, Vec<NamespaceFacts>), EngineError> {
    let id = TransportId::parse(bdf).map_err(EngineError::new)?;
    let lease = session::lease(&id, &SpdkOptions::default())?;
    let channel = Channel(&lease.0.controller);
    let count = lease.0.controller.info().namespaces;
    let mut namespaces = Vec::new();
    let mut facts = ControllerFacts::parse(&channel.identify_controller().map_err(EngineError::new)?);
    facts.write_cache_enabled =
        channel.get_feature(FEATURE_VOLATILE_WRITE_CACHE).ok().map(|value| value & 1 == 1);
    for nsid in (1..=count).filter(|&nsid| lease.0.controller.namespace(nsid).is_some()) {
        let raw = channel.identify_namespace(nsid).map_err(EngineError::new)?;
        namespaces.push(NamespaceFacts::parse(nsid, &raw));
    }
    Ok((facts, namespaces))
}

/// Which writes reach the namespace as one command that it keeps whole: SPDK splits at what the controller
/// and its transport take at once, blocks with the metadata that follows them, and at stripes.
fn atomic_writes(device: &DeviceFacts, geometry: &spdk_sys::NamespaceInfo, most_bytes: u32) -> AtomicWrites {
    let metadata = if geometry.extended { geometry.metadata_bytes } else { 0 };
    let blocks = most_bytes / (geometry.lba_bytes + metadata);
    let command_bytes = u64::from(blocks) * u64::from(geometry.lba_bytes);
    device.atomic_writes().over_spdk(command_bytes, geometry.stripe_blocks, geometry.lba_bytes)
}

/// What the namespace is known by.
fn known(held: &Held, device: &DeviceFacts) -> Known {
    let uuid = Channel(&held.controller).namespace_uuid(device.namespace.nsid);
    let wwid = nvme::wwid(&*held.controller.identify(), &device.namespace, uuid);
    let (model, serial) = (&device.controller.model, &device.controller.serial);
    Known { wwid, name: format!("{model} {serial}").trim().to_owned() }
}

/// Gives device memory back, unless a controller that was given up might still write to it.
fn free(memory: NonNull<u8>) {
    if session::may_free() {
        // SAFETY: it came from `dma_alloc`, all its buffers are back, and no device that has not been
        // detached in order has commands in flight.
        unsafe { spdk_sys::dma_free(memory) }
    }
}
