//! NVMe controllers: those that the kernel drives, and those on the PCI bus whoever drives them.

use std::fs;
use std::path::Path;

use super::block::numa_node;
use super::{Sysfs, attribute, link_name, names, number};
use crate::base::nvme::PcieLink;

/// A controller that the kernel's NVMe driver has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Controller {
    /// Kernel name, `nvme0`.
    pub name: String,
    /// Model.
    pub model: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
    /// Firmware revision.
    pub firmware: Option<String>,
    /// `pcie`, `tcp`, `rdma`, `fc`, `loop`.
    pub transport: Option<String>,
    /// PCI address, or the address of the fabric.
    pub address: Option<String>,
    /// `live`, `connecting`, `dead`.
    pub state: Option<String>,
    /// NUMA node, where the machine has several.
    pub numa_node: Option<u32>,
    /// Driver of the bus that it is on: `nvme` on PCIe.
    pub driver: Option<String>,
    /// Its PCIe link, if it has one.
    pub link: Option<PcieLink>,
    /// Its namespaces as block devices.
    pub namespaces: Vec<String>,
}

/// A PCI device of class NVMe (0x0108xx).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PciController {
    /// `0000:01:00.0`.
    pub bdf: String,
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
    /// Driver bound: `nvme`, `vfio-pci`, `uio_pci_generic`; `None` if nothing is.
    pub driver: Option<String>,
    /// NUMA node, where the machine has several.
    pub numa_node: Option<u32>,
    /// IOMMU group, where there is an IOMMU.
    pub iommu_group: Option<u32>,
    /// Its PCIe link.
    pub link: Option<PcieLink>,
    /// The kernel's controller, if its driver is bound.
    pub controller: Option<String>,
    /// Its namespaces as block devices of the kernel.
    pub namespaces: Vec<String>,
}

/// All controllers of the kernel's NVMe driver.
#[must_use]
pub fn controllers(sysfs: &Sysfs) -> Vec<Controller> {
    let class = sysfs.sys.join("class/nvme");
    let known = names(&class).into_iter().filter(|name| is_controller_name(name));
    known.map(|name| describe(&class.join(&name), name)).collect()
}

fn describe(dir: &Path, name: String) -> Controller {
    let get = |file: &str| attribute(&dir.join(file));
    Controller {
        model: get("model"),
        serial: get("serial"),
        firmware: get("firmware_rev"),
        transport: get("transport"),
        address: get("address"),
        state: get("state"),
        numa_node: fs::canonicalize(dir).ok().and_then(|dir| numa_node(&dir)),
        driver: link_name(&dir.join("device/driver")),
        link: link_of(&dir.join("device")),
        namespaces: namespaces_of(dir),
        name,
    }
}

/// The identifier of a namespace, by the name of its block device: `None` if it is no NVMe device.
#[must_use]
pub fn nsid(sysfs: &Sysfs, disk: &str) -> Option<u32> {
    namespace_name(disk).filter(|name| name == disk)?;
    number(&sysfs.sys.join("block").join(disk).join("nsid"))
}

/// The PCIe link to a namespace: that of its controller, of the first one if there are several.
#[must_use]
pub fn link(sysfs: &Sysfs, disk: &str) -> Option<PcieLink> {
    let device = sysfs.sys.join("block").join(disk).join("device");
    // The head of a multipath device hangs below its subsystem, which links to the controllers.
    let paths = names(&device).into_iter().filter(|name| is_controller_name(name));
    std::iter::once(device.clone())
        .chain(paths.map(|name| device.join(name)))
        .find_map(|dir| link_of(&dir.join("device")))
}

/// The link of a PCI device (sysfs: `current_link_speed` and its neighbours).
fn link_of(pci: &Path) -> Option<PcieLink> {
    let get = |file: &str| attribute(&pci.join(file));
    let known = |text: &String| !text.starts_with("Unknown");
    // 0 and 255 (PCIE_LNK_WIDTH_UNKNOWN) are no widths: a device of an emulator has no link.
    let lanes = |file: &str| get(file)?.parse().ok().filter(|lanes| (1..255).contains(lanes));
    let link = PcieLink {
        speed: get("current_link_speed").filter(known),
        width: lanes("current_link_width"),
        max_speed: get("max_link_speed").filter(known),
        max_width: lanes("max_link_width"),
    };
    (link != PcieLink::default()).then_some(link)
}

/// All PCI devices that say they are NVMe controllers.
#[must_use]
pub fn pci_controllers(sysfs: &Sysfs) -> Vec<PciController> {
    let bus = sysfs.sys.join("bus/pci/devices");
    names(&bus).into_iter().filter_map(|bdf| pci_controller(&bus.join(&bdf), bdf)).collect()
}

/// The NVMe controller at a PCI address, `0000:01:00.0` or `01:00.0`.
#[must_use]
pub fn pci_controller_at(sysfs: &Sysfs, address: &str) -> Option<PciController> {
    let address = address.to_ascii_lowercase();
    let full = format!("0000:{address}");
    pci_controllers(sysfs).into_iter().find(|found| found.bdf == address || found.bdf == full)
}

fn pci_controller(dir: &Path, bdf: String) -> Option<PciController> {
    let hex = |file: &str| u32::from_str_radix(attribute(&dir.join(file))?.trim_start_matches("0x"), 16).ok();
    if hex("class")? >> 8 != 0x0108 {
        return None;
    }
    let controller = names(&dir.join("nvme")).into_iter().find(|name| is_controller_name(name));
    let namespaces =
        controller.as_ref().map(|name| namespaces_of(&dir.join("nvme").join(name))).unwrap_or_default();
    let id = |file: &str| hex(file).and_then(|id| u16::try_from(id).ok()).unwrap_or(0);
    Some(PciController {
        vendor: id("vendor"),
        device: id("device"),
        driver: link_name(&dir.join("driver")),
        numa_node: attribute(&dir.join("numa_node")).and_then(|node| node.parse().ok()),
        iommu_group: link_name(&dir.join("iommu_group")).and_then(|group| group.parse().ok()),
        link: link_of(dir),
        controller,
        namespaces,
        bdf,
    })
}

/// Whether this is `nvme0`, not `nvme0n1` or `nvme-subsys0`.
pub(super) fn is_controller_name(name: &str) -> bool {
    name.strip_prefix("nvme").is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
}

fn namespaces_of(controller: &Path) -> Vec<String> {
    let mut found: Vec<String> = names(controller).iter().filter_map(|name| namespace_name(name)).collect();
    found.dedup();
    found
}

/// The block device of a namespace directory: `nvme0n1` is itself, and the hidden path `nvme0c1n1`
/// (subsystem 0, controller 1, namespace 1) belongs to the device `nvme0n1`.
fn namespace_name(name: &str) -> Option<String> {
    let (subsystem, namespace) = name.strip_prefix("nvme")?.split_once('n')?;
    let subsystem = subsystem.split_once('c').map_or(subsystem, |(subsystem, _)| subsystem);
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    (digits(subsystem) && digits(namespace)).then(|| format!("nvme{subsystem}n{namespace}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_paths_lead_to_the_device_that_can_be_opened() {
        assert_eq!(namespace_name("nvme0n1").as_deref(), Some("nvme0n1"));
        assert_eq!(namespace_name("nvme0c13n2").as_deref(), Some("nvme0n2"));
        for other in ["nvme0", "nvme0n1p1", "ng0n1", "nvme-subsys0", "hwmon1", "nvmen1", "nvme0n"] {
            assert_eq!(namespace_name(other), None, "{other}");
        }
        assert!(is_controller_name("nvme12"));
        assert!(
            !is_controller_name("nvme-subsys0")
                && !is_controller_name("nvme")
                && !is_controller_name("nvme0n1")
        );
    }
}
