//! NVMe controllers that user space drives: whether one is free to be driven, and who uses one that
//! the kernel drives.
//!
//! A controller has one driver. While it is the kernel's, its namespaces are block devices; bound to
//! one of [`UserDriver`], it is memory-mapped registers for whoever opens it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use super::block::{self, BlockDevice, DeviceNumber};
use super::claims::{self, Claim, ClaimKind, Claims, Opener};
use super::nvme::{self, PciController};
use super::pci::{self, Bdf};
use super::target::{Refusal, RefusalKind};
use super::{Sysfs, attribute, names};

pub use super::hugepages::{HugepageFacts, hugepages};

/// A driver that leaves the device to user space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UserDriver {
    /// Through the IOMMU: the device reaches the memory of its user and no other.
    VfioPci,
    /// Without an IOMMU: physical addresses, and root.
    UioPciGeneric,
    /// DPDK's own module, as `uio_pci_generic`.
    IgbUio,
}

impl UserDriver {
    /// As the kernel calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            UserDriver::VfioPci => "vfio-pci",
            UserDriver::UioPciGeneric => "uio_pci_generic",
            UserDriver::IgbUio => "igb_uio",
        }
    }

    /// The driver of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<UserDriver> {
        [UserDriver::VfioPci, UserDriver::UioPciGeneric, UserDriver::IgbUio]
            .into_iter()
            .find(|driver| driver.name() == name)
    }
}

/// A controller that is there for user space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// In full: `0000:5e:00.0`.
    pub bdf: String,
    /// Its driver.
    pub driver: UserDriver,
    /// IOMMU group, where there is an IOMMU.
    pub iommu_group: Option<u32>,
    /// NUMA node, where the machine has several.
    pub numa_node: Option<u32>,
}

/// Whether user space may drive the controller at a PCI address.
///
/// # Errors
/// A [`Refusal`]: it is not there (`CannotTell`), no NVMe controller (`NotATarget`), or not bound to
/// one of [`UserDriver`] (`NotBound`; `InUse` where the kernel has it and somebody uses it). The advice
/// has the command that binds it.
pub fn check_controller(sysfs: &Sysfs, bdf: &str) -> Result<Bound, Refusal> {
    let found = find(sysfs, bdf)?;
    let command = format!("sudo fio-spdk devices bind {}", found.bdf);
    let refusal = |kind, reason: String, advice: String| Refusal {
        kind,
        target: title(sysfs, &found),
        reasons: vec![reason],
        advice,
        claims: Vec::new(),
    };
    match found.driver.as_deref() {
        Some(name) => match UserDriver::from_name(name) {
            Some(driver) => Ok(Bound {
                bdf: found.bdf,
                driver,
                iommu_group: found.iommu_group,
                numa_node: found.numa_node,
            }),
            None if name == "nvme" => {
                let claims = kernel_users(sysfs, &found).unwrap_or_default();
                let advice = match claims.first().map(|claim| claim.kind) {
                    None => format!("Give it to user space: {command}"),
                    Some(kind) => format!("{} Then give it to user space: {command}", first_do(kind)),
                };
                let kind = if claims.is_empty() { RefusalKind::NotBound } else { RefusalKind::InUse };
                let mut refused = refusal(kind, kernel_has_it(&found), advice);
                refused.reasons.extend(claims.iter().map(|claim| claim.sentence.clone()));
                Err(Refusal { claims, ..refused })
            }
            None => Err(refusal(
                RefusalKind::NotBound,
                format!("the driver {name} has it, which is none for user space"),
                format!("Take it from there first; then: {command}"),
            )),
        },
        None => {
            let reason = "no driver is bound to it".to_owned();
            Err(refusal(RefusalKind::NotBound, reason, format!("Give it to user space: {command}")))
        }
    }
}

/// The controller at a PCI address, whoever drives it.
///
/// # Errors
/// A [`Refusal`], if there is none: `CannotTell`, or `NotATarget` for what is no NVMe controller.
pub fn find(sysfs: &Sysfs, bdf: &str) -> Result<PciController, Refusal> {
    let refusal = |kind, reason: String, advice: String| Refusal {
        kind,
        target: bdf.to_owned(),
        reasons: vec![reason],
        advice,
        claims: Vec::new(),
    };
    let address = match bdf.parse::<Bdf>() {
        Ok(address) => address.to_string(),
        Err(why) => return Err(refusal(RefusalKind::NotATarget, why, String::new())),
    };
    if let Some(found) = nvme::pci_controller_at(sysfs, &address) {
        return Ok(found);
    }
    let others: Vec<String> = nvme::pci_controllers(sysfs).iter().map(|other| title(sysfs, other)).collect();
    let advice = if others.is_empty() {
        "There is no NVMe controller on this machine's PCI bus.".to_owned()
    } else {
        format!("NVMe controllers of this machine: {}.", others.join(", "))
    };
    Err(match pci::class(sysfs, &address) {
        Some(class) => {
            let reason = format!("it is no NVMe controller: its class is {class:06x}, not 0108xx");
            refusal(RefusalKind::NotATarget, reason, advice)
        }
        None => refusal(RefusalKind::CannotTell, "there is no such PCI device".to_owned(), advice),
    })
}

/// `0000:5e:00.0 (MODEL, serial S)`; the model is known while the kernel drives it.
#[must_use]
pub fn title(sysfs: &Sysfs, found: &PciController) -> String {
    let controller = found.controller.as_ref();
    let known = nvme::controllers(sysfs).into_iter().find(|known| Some(&known.name) == controller);
    let facts = match known {
        Some(known) => {
            let serial = known.serial.map(|serial| format!("serial {serial}"));
            known.model.into_iter().chain(serial).collect::<Vec<_>>().join(", ")
        }
        None => String::new(),
    };
    let facts = if facts.is_empty() { format!("{:04x}:{:04x}", found.vendor, found.device) } else { facts };
    format!("{} ({facts})", found.bdf)
}

fn kernel_has_it(found: &PciController) -> String {
    let name = found.controller.as_deref().unwrap_or("no controller yet");
    let namespaces = match found.namespaces.as_slice() {
        [] => String::new(),
        names => format!(", with {}", names.join(", ")),
    };
    format!("the kernel's nvme driver has it ({name}{namespaces})")
}

/// What to do first about a use.
pub(super) fn first_do(kind: ClaimKind) -> &'static str {
    match kind {
        ClaimKind::Mounted => "Unmount it first.",
        ClaimKind::Swap => "Switch it off first (swapoff).",
        ClaimKind::Holder => {
            "Stop what is made of it first (mdadm --stop, vgchange -an, dmsetup remove, zpool export)."
        }
        ClaimKind::LoopBacking => "Detach the loop device first (losetup -d).",
        ClaimKind::OpenElsewhere => "End that first.",
    }
}

/// Who uses what the kernel makes of a controller: any of its namespaces, or the controller itself.
/// What only an exclusive open tells is not in here.
///
/// # Errors
/// If it cannot be told, for any namespace.
pub fn kernel_users(sysfs: &Sysfs, found: &PciController) -> io::Result<Vec<Claim>> {
    let tables = Claims::read(sysfs)?;
    let mut users = Vec::new();
    for device in namespaces(sysfs, found)? {
        let mut claims = tables.of_device(&device);
        let writers = claims::openers(sysfs, &device).into_iter().filter(|opener| opener.writes);
        claims.extend(writers.map(|opener| open_elsewhere(format!("open for writing in {opener}"))));
        let named = claims
            .into_iter()
            .map(|claim| Claim { sentence: format!("{}: {}", device.name, claim.sentence), ..claim });
        users.extend(named);
    }
    // Whoever has a character device may send any command, whatever it was opened for.
    for (name, number) in character_nodes(sysfs, found) {
        let openers = claims::character_openers(sysfs, &[number]);
        users.extend(openers.iter().map(|opener| open_elsewhere(format!("{name}: open in {opener}"))));
    }
    users.extend(exported(sysfs, found));
    Ok(users)
}

fn open_elsewhere(sentence: String) -> Claim {
    Claim { kind: ClaimKind::OpenElsewhere, sentence }
}

/// The block devices of a controller's namespaces; for a path of a multipath device that device.
///
/// # Errors
/// If the kernel has one that cannot be looked at.
pub fn namespaces(sysfs: &Sysfs, found: &PciController) -> io::Result<Vec<BlockDevice>> {
    let blocks = sysfs.sys.join("block");
    // A multipath device none of whose paths has been live has no node: nobody can use it.
    let is_there = |name: &&String| match fs::symlink_metadata(blocks.join(name)) {
        Err(error) => error.kind() != io::ErrorKind::NotFound,
        Ok(_) => true,
    };
    let there = found.namespaces.iter().filter(is_there);
    there
        .map(|name| {
            block::describe(&blocks.join(name))
                .ok_or_else(|| io::Error::other(format!("sysfs does not tell what {name} is")))
        })
        .collect()
}

/// `/dev/nvme0` and the `/dev/ng0n1` of each namespace.
fn character_nodes(sysfs: &Sysfs, found: &PciController) -> Vec<(String, DeviceNumber)> {
    let class = sysfs.sys.join("class");
    let controller = found.controller.iter().map(|name| (name.clone(), class.join("nvme").join(name)));
    let generic = found.namespaces.iter().filter_map(|name| {
        let name = format!("ng{}", name.strip_prefix("nvme")?);
        Some((name.clone(), class.join("nvme-generic").join(name)))
    });
    controller.chain(generic).filter_map(|(name, dir)| Some((name, number_in(&dir)?))).collect()
}

fn number_in(dir: &Path) -> Option<DeviceNumber> {
    DeviceNumber::parse(&attribute(&dir.join("dev"))?)
}

/// The kernel's NVMe target opens what it exports without claiming it, and no process has it open.
fn exported(sysfs: &Sysfs, found: &PciController) -> Vec<Claim> {
    let ours = |path: &str| {
        let name = path.strip_prefix("/dev/").unwrap_or(path);
        let is_part_of = |whole: &String| {
            name.strip_prefix(whole.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('p'))
        };
        found.namespaces.iter().any(is_part_of) || found.controller.as_deref() == Some(name)
    };
    let subsystems = sysfs.sys.join("kernel/config/nvmet/subsystems");
    let mut claims = Vec::new();
    for nqn in names(&subsystems) {
        let dir = subsystems.join(&nqn);
        let exports = names(&dir.join("namespaces")).into_iter().map(|id| dir.join("namespaces").join(id));
        for export in exports.chain([dir.join("passthru")]) {
            let Some(path) = attribute(&export.join("device_path")) else { continue };
            let on = attribute(&export.join("enable")).is_some_and(|enable| enable != "0");
            let node = path.starts_with('/').then(|| fs::canonicalize(sysfs.locate(Path::new(&path))).ok());
            let real = node.flatten().map(|real| real.to_string_lossy().into_owned());
            if on && (ours(&path) || real.as_deref().is_some_and(ours)) {
                claims.push(open_elsewhere(format!("{path}: exported by the kernel's NVMe target as {nqn}")));
            }
        }
    }
    claims
}

/// The programs that have a controller open which is bound to one of [`UserDriver`], as far as this
/// user may see.
#[must_use]
pub fn users(sysfs: &Sysfs, found: &PciController) -> Vec<Opener> {
    let class = sysfs.sys.join("class");
    let dir = pci::directory(sysfs, &found.bdf);
    let mut numbers = BTreeSet::new();
    if let Some(group) = found.iommu_group {
        numbers.extend(number_in(&class.join("vfio").join(group.to_string())));
        numbers.extend(number_in(&class.join("vfio").join(format!("noiommu-{group}"))));
    }
    for kind in ["uio", "vfio-dev"] {
        numbers
            .extend(names(&dir.join(kind)).iter().filter_map(|name| number_in(&dir.join(kind).join(name))));
    }
    claims::character_openers(sysfs, &numbers.into_iter().collect::<Vec<_>>())
}
