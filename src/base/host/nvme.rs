//! NVMe controllers: those that the kernel drives, and PCI functions that somebody else may drive.

use std::path::{Path, PathBuf};

use super::sysfs::{self, Sysfs, link_name, text};

/// PCI class and subclass of NVMe controllers; the interface follows.
const PCI_CLASS: &str = "0x0108";

/// An NVMe controller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Controller {
    /// PCI address, `0000:01:00.0` for instance.
    pub bdf: Option<String>,
    /// The kernel's name, `nvme0`, where the kernel drives it.
    pub name: Option<String>,
    /// Model, known only where the kernel drives it, as are serial number and firmware.
    pub model: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
    /// Firmware revision.
    pub firmware: Option<String>,
    /// `pcie`, `tcp`, `rdma`, `fc` or `loop`.
    pub transport: Option<String>,
    /// `nvme`, `vfio-pci`, `uio_pci_generic`, `nvme-tcp` and so on; `None` where nothing drives it.
    pub driver: Option<String>,
    /// NUMA node, where the kernel knows one.
    pub numa_node: Option<u32>,
    /// IOMMU group; without one vfio cannot have it.
    pub iommu_group: Option<String>,
    /// PCI vendor and device, `144d:a80a` for instance.
    pub vendor_device: Option<String>,
    /// Kernel names of the namespaces that it shows.
    pub namespaces: Vec<String>,
}

/// All NVMe controllers: first those on PCI by address, then the rest by name.
#[must_use]
pub fn controllers(at: &Sysfs) -> Vec<Controller> {
    let class = at.sys.join("class/nvme");
    let mut driven: Vec<(Option<PathBuf>, Controller)> =
        sysfs::names(&class).iter().map(|name| driven(&class.join(name), name)).collect();
    let pci = at.sys.join("bus/pci/devices");
    let mut found = Vec::new();
    for bdf in sysfs::names(&pci) {
        let folder = pci.join(&bdf);
        if !text(&folder.join("class")).is_some_and(|class| class.starts_with(PCI_CLASS)) {
            continue;
        }
        let function = folder.canonicalize().ok();
        let position = driven.iter().position(|(parent, _)| parent.is_some() && *parent == function);
        let base = position.map_or_else(Controller::default, |position| driven.remove(position).1);
        found.push(on_pci(base, bdf, &folder));
    }
    found.extend(driven.into_iter().map(|(_, controller)| controller));
    found
}

/// A controller that the kernel drives, and the device that it is on.
fn driven(folder: &Path, name: &str) -> (Option<PathBuf>, Controller) {
    let transport = text(&folder.join("transport"));
    let driver = transport.as_deref().map(fabric_driver);
    let mut namespaces: Vec<String> = sysfs::names(folder)
        .iter()
        .filter_map(|name| NamespaceName::parse(name))
        .map(|name| format!("nvme{}n{}", name.instance, name.namespace))
        .collect();
    namespaces.sort_by(|a, b| sysfs::natural(a, b));
    let controller = Controller {
        name: Some(name.to_owned()),
        model: text(&folder.join("model")),
        serial: text(&folder.join("serial")),
        firmware: text(&folder.join("firmware_rev")),
        transport,
        driver,
        numa_node: sysfs::numa_node(folder),
        namespaces,
        ..Controller::default()
    };
    (folder.join("device").canonicalize().ok(), controller)
}

fn on_pci(base: Controller, bdf: String, folder: &Path) -> Controller {
    let id = |file: &str| text(&folder.join(file)).map(|id| id.trim_start_matches("0x").to_owned());
    Controller {
        bdf: Some(bdf),
        transport: base.transport.or_else(|| Some("pcie".to_owned())),
        driver: link_name(&folder.join("driver")),
        numa_node: sysfs::numa_node(folder),
        iommu_group: link_name(&folder.join("iommu_group")),
        vendor_device: id("vendor").zip(id("device")).map(|(vendor, device)| format!("{vendor}:{device}")),
        ..base
    }
}

/// The driver of a controller that is on no bus.
pub(super) fn fabric_driver(transport: &str) -> String {
    if transport == "pcie" { "nvme".to_owned() } else { format!("nvme-{transport}") }
}

/// The parts of `nvme0n1`, or of `nvme0c1n1`, one of several paths to `nvme0n1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NamespaceName {
    /// Number of the controller, with multipath of the subsystem.
    pub(super) instance: u32,
    /// Controller of a path.
    pub(super) controller: Option<u32>,
    /// Number of the namespace.
    pub(super) namespace: u32,
}

impl NamespaceName {
    /// Takes a name apart; `None` for all other names, those of partitions too.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (front, namespace) = name.strip_prefix("nvme")?.split_once('n')?;
        let (instance, controller) = match front.split_once('c') {
            Some((instance, controller)) => (instance, Some(digits(controller)?)),
            None => (front, None),
        };
        Some(Self { instance: digits(instance)?, controller, namespace: digits(namespace)? })
    }
}

fn digits(text: &str) -> Option<u32> {
    text.bytes().all(|c| c.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::super::sysfs::made_up::Tree;
    use super::*;

    fn function(tree: &Tree, bdf: &str, driver: Option<&str>) -> String {
        let folder = format!("devices/pci0000:00/{bdf}");
        let about = [("class", "0x010802"), ("vendor", "0x144d"), ("device", "0xa80a"), ("numa_node", "0")];
        tree.files(&folder, &about);
        tree.link(&format!("bus/pci/devices/{bdf}"), &folder);
        tree.link(&format!("{folder}/iommu_group"), "kernel/iommu_groups/14");
        if let Some(driver) = driver {
            tree.link(&format!("{folder}/driver"), &format!("bus/pci/drivers/{driver}"));
        }
        folder
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn controllers_of_the_kernel_and_of_others() {
        let tree = Tree::new();
        let function_folder = function(&tree, "0000:02:00.0", Some("nvme"));
        let folder = format!("{function_folder}/nvme/nvme0");
        let about =
            [("model", "Example SSD   "), ("serial", "S1"), ("firmware_rev", "F1"), ("transport", "pcie")];
        tree.files(&folder, &about);
        tree.link(&format!("{folder}/device"), &function_folder);
        tree.link("class/nvme/nvme0", &folder);
        for child in ["nvme0n10", "nvme0n2", "ng0n1", "hwmon3", "power"] {
            tree.files(&format!("{folder}/{child}"), &[("size", "1")]);
        }
        function(&tree, "0000:01:00.0", Some("vfio-pci"));
        function(&tree, "0000:03:00.0", None);
        tree.files("bus/pci/devices/0000:00:00.0", &[("class", "0x060000"), ("vendor", "0x8086")]);
        let idle = Controller {
            bdf: some("0000:03:00.0"),
            transport: some("pcie"),
            numa_node: Some(0),
            iommu_group: some("14"),
            vendor_device: some("144d:a80a"),
            ..Controller::default()
        };
        let vfio = Controller { bdf: some("0000:01:00.0"), driver: some("vfio-pci"), ..idle.clone() };
        let kernel = Controller {
            bdf: some("0000:02:00.0"),
            name: some("nvme0"),
            model: some("Example SSD"),
            serial: some("S1"),
            firmware: some("F1"),
            driver: some("nvme"),
            namespaces: vec!["nvme0n2".to_owned(), "nvme0n10".to_owned()],
            ..idle.clone()
        };
        assert_eq!(controllers(&tree.sysfs()), [vfio, kernel, idle]);
    }

    #[test]
    fn a_controller_over_fabrics_and_paths_of_multipath() {
        let tree = Tree::new();
        let folder = "devices/virtual/nvme-fabrics/ctl/nvme3";
        tree.files(folder, &[("transport", "rdma"), ("serial", "R1"), ("numa_node", "-1")]);
        tree.files(&format!("{folder}/nvme1c3n1"), &[("hidden", "1")]);
        tree.link("class/nvme/nvme3", folder);
        let expected = Controller {
            name: some("nvme3"),
            serial: some("R1"),
            transport: some("rdma"),
            driver: some("nvme-rdma"),
            namespaces: vec!["nvme1n1".to_owned()],
            ..Controller::default()
        };
        assert_eq!(controllers(&tree.sysfs()), [expected]);
    }

    #[test]
    fn no_nvme_at_all() {
        assert!(controllers(&Tree::new().sysfs()).is_empty());
    }

    #[test]
    fn names_of_namespaces() {
        let name = |instance, controller, namespace| Some(NamespaceName { instance, controller, namespace });
        assert_eq!(NamespaceName::parse("nvme0n1"), name(0, None, 1));
        assert_eq!(NamespaceName::parse("nvme10c2n33"), name(10, Some(2), 33));
        for other in
            ["nvme0", "nvme0n1p1", "ng0n1", "nvme0c1", "nvmen1", "nvme0n", "nvme0cn1", "sda", "nvme+1n1"]
        {
            assert_eq!(NamespaceName::parse(other), None, "{other}");
        }
    }
}
