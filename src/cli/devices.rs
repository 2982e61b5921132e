//! `fio-spdk devices`: what there is to test, and who uses it. Reads only, and claims nothing: a
//! listing must not get in the way of somebody who mounts a device this very moment.

pub mod bind;
mod told;

use std::fs::File;
use std::io;

use serde_json::{Value, json};

use crate::base::host::block::{self, BlockDevice};
use crate::base::host::claims::{self, Claims};
use crate::base::host::nvme::{self, Controller, PciController};
use crate::base::host::{Sysfs, printable, target};
use crate::base::units::format_size;
use crate::engine;
use crate::report::device;

use told::Told;

/// Most characters of a line.
const WIDTH: usize = 120;

/// What there is on a machine.
#[derive(Debug)]
pub struct Inventory {
    devices: Vec<Listed>,
    controllers: Vec<Controller>,
    told: Vec<Told>,
    pci: Vec<PciController>,
}

#[derive(Debug)]
struct Listed {
    device: BlockDevice,
    /// Sentences: who uses it.
    used: Vec<String>,
    /// Other programs that have it open.
    open_in: Vec<String>,
    /// `ext4`, `GPT and LVM2`; `None` also where it could not be read.
    holds: Option<String>,
    /// Why it could not be read.
    unreadable: Option<String>,
}

/// Looks at the machine.
///
/// # Errors
/// If sysfs or the mount table cannot be read.
pub fn gather(sysfs: &Sysfs) -> io::Result<Inventory> {
    let claims = Claims::read(sysfs)?;
    let mut devices = Vec::new();
    for device in block::all(sysfs)? {
        // Loop and RAM devices that nothing is attached to, empty card readers.
        if device.size_bytes == 0 {
            continue;
        }
        let used = claims.of_device(&device).into_iter().map(|claim| claim.sentence).collect();
        let open_in = claims::openers(sysfs, &device).iter().map(ToString::to_string).collect();
        let (holds, unreadable) = contents(sysfs, &device);
        devices.push(Listed { device, used, open_in, holds, unreadable });
    }
    let controllers = nvme::controllers(sysfs);
    let told = controllers.iter().map(|controller| Told::by(sysfs, controller)).collect();
    Ok(Inventory { devices, controllers, told, pci: nvme::pci_controllers(sysfs) })
}

fn contents(sysfs: &Sysfs, device: &BlockDevice) -> (Option<String>, Option<String>) {
    match File::open(sysfs.dev.join(device.name.replace('!', "/"))) {
        Ok(file) => {
            let found = target::read_signatures(&file, device.size_bytes);
            (found.sentence(), found.unreadable.map(|error| error.to_string()))
        }
        Err(error) => (None, Some(error.to_string())),
    }
}

/// The devices of this machine as text.
///
/// # Errors
/// If sysfs or the mount table cannot be read.
pub fn table() -> io::Result<String> {
    Ok(look()?.table())
}

/// The devices of this machine as JSON, for programs.
///
/// # Errors
/// If sysfs or the mount table cannot be read.
pub fn json() -> io::Result<Value> {
    Ok(look()?.json())
}

/// This machine, with what controllers say that user space drives.
fn look() -> io::Result<Inventory> {
    let sysfs = Sysfs::default();
    let mut found = gather(&sysfs)?;
    let told = found.pci.iter().filter_map(|pci| Told::by_user_space(&sysfs, pci));
    let told: Vec<Told> = told.collect();
    found.told.extend(told);
    engine::shut_down(false);
    Ok(found)
}

impl Inventory {
    /// Text of at most 120 characters a line, ending in a newline.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = self.block_table();
        if !self.pci.is_empty() {
            text.push('\n');
            text.push_str(&self.pci_table());
        }
        let fabrics: Vec<&Controller> = self
            .controllers
            .iter()
            .filter(|controller| {
                !self.pci.iter().any(|pci| pci.controller.as_ref() == Some(&controller.name))
            })
            .collect();
        if !fabrics.is_empty() {
            text.push('\n');
            text.push_str(&self.fabrics_table(&fabrics));
        }
        text
    }

    fn block_table(&self) -> String {
        if self.devices.is_empty() {
            return "no block devices\n".to_owned();
        }
        let mut table = Table::new(
            &["DEVICE", "SIZE", "LBA", "DRIVER", "NUMA", "WRITE CACHE", "MODEL", "SERIAL"],
            &[24, 9, 6, 12, 4, 13, 22, 20],
        );
        for listed in &self.devices {
            let device = &listed.device;
            let indent = if device.disk.is_some() { "  " } else { "" };
            table.row(&[
                &format!("{indent}/dev/{}", device.name.replace('!', "/")),
                &format_size(device.size_bytes),
                &device.lba_bytes.to_string(),
                or_dash(device.driver.as_deref()),
                &device.numa_node.map_or_else(|| "-".to_owned(), |node| node.to_string()),
                or_dash(device.write_cache.as_deref()),
                or_dash(device.model.as_deref()),
                or_dash(device.serial.as_deref()),
            ]);
            for line in listed.remarks() {
                table.note(&line);
            }
        }
        table.text()
    }

    fn pci_table(&self) -> String {
        let mut table = Table::new(
            &["NVME AT PCI", "ID", "DRIVER", "NUMA", "IOMMU", "CONTROLLER", "NAMESPACES"],
            &[14, 9, 17, 4, 5, 10, 50],
        );
        for pci in &self.pci {
            table.row(&[
                &pci.bdf,
                &format!("{:04x}:{:04x}", pci.vendor, pci.device),
                pci.driver.as_deref().unwrap_or("none"),
                &pci.numa_node.map_or_else(|| "-".to_owned(), |node| node.to_string()),
                &pci.iommu_group.map_or_else(|| "-".to_owned(), |group| group.to_string()),
                or_dash(pci.controller.as_deref()),
                or_dash(
                    Some(&pci.namespaces.join(" ")).filter(|names| !names.is_empty()).map(String::as_str),
                ),
            ]);
            if let Some(controller) =
                self.controllers.iter().find(|c| Some(&c.name) == pci.controller.as_ref())
            {
                table.note(&identity(controller));
            }
            pci.link.iter().for_each(|link| table.note(&device::link(link)));
            let name = pci.controller.as_deref().unwrap_or(&pci.bdf);
            if pci.controller.is_none() {
                let told = self.told.iter().find(|told| told.name == pci.bdf);
                told.and_then(Told::identity).iter().for_each(|identity| table.note(identity));
            }
            self.told_by(Some(name)).iter().for_each(|note| table.note(note));
        }
        table.text()
    }

    fn fabrics_table(&self, controllers: &[&Controller]) -> String {
        let heads = ["CONTROLLER", "TRANSPORT", "STATE", "NAMESPACES", "ADDRESS"];
        let mut table = Table::new(&heads, &[10, 9, 10, 30, 55]);
        for controller in controllers {
            table.row(&[
                &controller.name,
                or_dash(controller.transport.as_deref()),
                or_dash(controller.state.as_deref()),
                or_dash(Some(controller.namespaces.join(" ").as_str()).filter(|names| !names.is_empty())),
                or_dash(controller.address.as_deref()),
            ]);
            table.note(&identity(controller));
            self.told_by(Some(&controller.name)).iter().for_each(|note| table.note(note));
        }
        table.text()
    }

    /// What a controller says of itself, for people.
    fn told_by(&self, controller: Option<&str>) -> Vec<String> {
        let found = self.told.iter().find(|told| Some(told.name.as_str()) == controller);
        found.map(Told::notes).unwrap_or_default()
    }

    /// For programs: names with their units, nothing shortened.
    #[must_use]
    pub fn json(&self) -> Value {
        let devices: Vec<Value> = self.devices.iter().map(Listed::json).collect();
        let controllers: Vec<Value> = self
            .controllers
            .iter()
            .map(|c| {
                let mut value = json!({
                    "name": c.name, "model": c.model, "serial": c.serial, "firmware": c.firmware,
                    "transport": c.transport, "address": c.address, "state": c.state,
                    "numa_node": c.numa_node, "namespaces": c.namespaces, "driver": c.driver,
                    "pcie_link": c.link.as_ref().map(device::link_object),
                });
                let told = self.told.iter().find(|told| told.name == c.name);
                if let (Some(told), Value::Object(object)) = (told, &mut value) {
                    told.add_to(object);
                }
                value
            })
            .collect();
        let pci: Vec<Value> = self
            .pci
            .iter()
            .map(|p| {
                let mut value = json!({
                    "address": p.bdf, "vendor_id": format!("{:04x}", p.vendor),
                    "device_id": format!("{:04x}", p.device), "driver": p.driver,
                    "numa_node": p.numa_node, "iommu_group": p.iommu_group,
                    "controller": p.controller, "namespaces": p.namespaces,
                    "pcie_link": p.link.as_ref().map(device::link_object),
                });
                let told = self.told.iter().find(|told| told.name == p.bdf);
                if let (Some(told), Value::Object(object)) = (told, &mut value) {
                    told.add_to(object);
                }
                value
            })
            .collect();
        json!({ "block_devices": devices, "nvme_controllers": controllers, "nvme_pci_devices": pci })
    }
}

impl Listed {
    fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        remarks.extend(self.used.iter().map(|sentence| format!("in use: {sentence}")));
        if self.used.is_empty() && !self.open_in.is_empty() {
            remarks.push(format!("open in: {}", self.open_in.join(", ")));
        }
        if self.device.read_only {
            remarks.push("read-only".to_owned());
        }
        if let Some(file) = self.device.loop_backing_file().filter(|_| self.device.disk.is_none()) {
            remarks.push(format!("shows {file}"));
        }
        match (&self.holds, &self.unreadable) {
            (Some(holds), _) => remarks.push(format!("holds {holds}")),
            (None, Some(why)) => remarks.push(format!("contents unknown: {why}")),
            (None, None) => {}
        }
        remarks
    }

    fn json(&self) -> Value {
        let device = &self.device;
        json!({
            "name": device.name,
            "number": device.number.to_string(),
            "disk": device.disk,
            "partitions": device.partitions,
            "model": device.model,
            "serial": device.serial,
            "firmware": device.firmware,
            "wwid": device.wwid,
            "size_bytes": device.size_bytes,
            "lba_bytes": device.lba_bytes,
            "physical_block_bytes": device.physical_block_bytes,
            "rotational": device.rotational,
            "read_only": device.read_only,
            "numa_node": device.numa_node,
            "scheduler": device.scheduler,
            "write_cache": device.write_cache,
            "discard_max_bytes": device.discard_max_bytes,
            "discard_granularity_bytes": device.discard_granularity_bytes,
            "driver": device.driver,
            "transport": device.transport,
            "backing_file": device.loop_backing_file(),
            "in_use": self.used,
            "open_in": self.open_in,
            "holds": self.holds,
            "contents_unknown": self.unreadable,
        })
    }
}

fn identity(controller: &Controller) -> String {
    let part = |name: &str, value: &Option<String>| value.as_ref().map(|value| format!("{name} {value}"));
    let parts = [
        controller.model.clone(),
        part("serial", &controller.serial),
        part("firmware", &controller.firmware),
        part("state", &controller.state),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn or_dash(text: Option<&str>) -> &str {
    text.unwrap_or("-")
}

/// Columns as wide as they need to be, and notes below a row.
pub(in crate::cli) struct Table {
    most: Vec<usize>,
    lines: Vec<Line>,
}

enum Line {
    Row(Vec<String>),
    Note(String),
}

impl Table {
    pub(in crate::cli) fn new(heads: &[&str], most: &[usize]) -> Table {
        let mut table = Table { most: most.to_vec(), lines: Vec::new() };
        table.row(heads);
        table
    }

    pub(in crate::cli) fn row(&mut self, cells: &[&str]) {
        let cells = cells.iter().zip(&self.most).map(|(cell, most)| shorten(&printable(cell), *most));
        self.lines.push(Line::Row(cells.collect()));
    }

    pub(in crate::cli) fn note(&mut self, text: &str) {
        self.lines.push(Line::Note(printable(text)));
    }

    pub(in crate::cli) fn text(&self) -> String {
        let rows = || {
            self.lines.iter().filter_map(|line| if let Line::Row(cells) = line { Some(cells) } else { None })
        };
        let widths: Vec<usize> = (0..self.most.len())
            .map(|at| {
                rows().filter_map(|cells| cells.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0)
            })
            .collect();
        let mut text = String::new();
        for line in &self.lines {
            match line {
                Line::Row(cells) => {
                    let padded: Vec<String> =
                        cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
                    text.push_str(shorten(&padded.join("  "), WIDTH).trim_end());
                    text.push('\n');
                }
                Line::Note(note) => push_wrapped(&mut text, note),
            }
        }
        text
    }
}

/// Breaks a note at blanks, indented.
fn push_wrapped(text: &mut String, note: &str) {
    let mut line = String::from("     ");
    for word in note.split(' ') {
        let long = line.chars().count() + 1 + word.chars().count() > WIDTH;
        if long && !line.trim().is_empty() {
            text.push_str(&line);
            text.push('\n');
            line = String::from("       ");
        }
        line.push(' ');
        line.push_str(&shorten(word, WIDTH - 8));
    }
    text.push_str(&line);
    text.push('\n');
}

fn shorten(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::nvme::{ControllerFacts, LbaFormat, NamespaceFacts, PcieLink};

    /// One controller with one namespace.
    fn answer() -> (ControllerFacts, Vec<(String, NamespaceFacts)>) {
        let controller = ControllerFacts {
            version: (1, 4, 0),
            mdts: 7,
            write_cache_present: true,
            write_cache_enabled: Some(false),
            atomic_power_fail_blocks: 8,
            ..ControllerFacts::default()
        };
        let format =
            |data_bytes, metadata_bytes| LbaFormat { data_bytes, metadata_bytes, relative_performance: 0 };
        let namespace = NamespaceFacts {
            nsid: 1,
            formats: vec![format(512, 0), format(4096, 64)],
            format_index: 1,
            ..NamespaceFacts::default()
        };
        (controller, vec![("nvme0n1".to_owned(), namespace)])
    }

    fn inventory() -> Inventory {
        let disk = BlockDevice {
            name: "nvme0n1".to_owned(),
            model: Some("A MODEL WITH A NAME THAT IS VERY LONG INDEED".to_owned()),
            serial: Some("S4EVNX0R123456\u{1b}[31m".to_owned()),
            size_bytes: 1_920_383_410_176,
            lba_bytes: 4096,
            numa_node: Some(0),
            driver: Some("nvme".to_owned()),
            write_cache: Some("write through".to_owned()),
            ..BlockDevice::default()
        };
        let partition = BlockDevice {
            name: "nvme0n1p1".to_owned(),
            disk: Some("nvme0n1".to_owned()),
            size_bytes: 1 << 30,
            ..disk.clone()
        };
        let listed = |device, used: &[String], holds: Option<&str>| Listed {
            device,
            used: used.to_vec(),
            open_in: Vec::new(),
            holds: holds.map(str::to_owned),
            unreadable: None,
        };
        let long = format!("mounted on /{} (ext4)", "very long name ".repeat(12));
        Inventory {
            devices: vec![
                listed(disk, std::slice::from_ref(&long), Some("GPT")),
                listed(partition, &["mounted on /boot (vfat)".to_owned()], Some("vfat")),
            ],
            controllers: vec![
                Controller { name: "nvme0".to_owned(), model: Some("M".to_owned()), ..Controller::default() },
                Controller {
                    name: "nvme1".to_owned(),
                    transport: Some("tcp".to_owned()),
                    ..Controller::default()
                },
            ],
            told: vec![
                Told { name: "nvme0".to_owned(), answer: Ok(answer()) },
                Told { name: "nvme1".to_owned(), answer: Err("EACCES (permission denied)".to_owned()) },
            ],
            pci: vec![
                PciController {
                    bdf: "0000:01:00.0".to_owned(),
                    vendor: 0x144d,
                    device: 0xa80a,
                    driver: Some("nvme".to_owned()),
                    controller: Some("nvme0".to_owned()),
                    namespaces: vec!["nvme0n1".to_owned()],
                    link: Some(PcieLink {
                        speed: Some("8.0 GT/s PCIe".to_owned()),
                        width: Some(2),
                        max_speed: Some("8.0 GT/s PCIe".to_owned()),
                        max_width: Some(4),
                    }),
                    ..PciController::default()
                },
                PciController {
                    bdf: "0000:02:00.0".to_owned(),
                    iommu_group: Some(3),
                    ..PciController::default()
                },
            ],
        }
    }

    #[test]
    fn the_table_fits_the_page_and_says_who_uses_what() {
        let text = inventory().table();
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(!text.contains('\u{1b}'), "a serial number must not drive the terminal");
        for part in [
            "/dev/nvme0n1 ",
            "1.747TiB",
            "holds GPT",
            "in use: mounted on /boot (vfat)",
            "144d:a80a",
            "none",
            "tcp",
            "PCIe 8.0 GT/s x2 (of 8.0 GT/s x4)",
            "NVMe 1.4, volatile cache off, MDTS 512KiB",
            "nvme0n1: LBA format 1 (4096 + 64) of 512 | 4096 + 64; writes to 32KiB whole at power fail",
            "what it says of itself is not known: EACCES",
        ] {
            assert!(text.contains(part), "no `{part}` in\n{text}");
        }
    }

    #[test]
    fn json_shortens_nothing() {
        let value = inventory().json();
        assert_eq!(value["block_devices"][0]["size_bytes"], 1_920_383_410_176_u64);
        assert_eq!(value["block_devices"][0]["model"], "A MODEL WITH A NAME THAT IS VERY LONG INDEED");
        assert_eq!(value["block_devices"][1]["disk"], "nvme0n1");
        assert_eq!(value["nvme_pci_devices"][1]["driver"], Value::Null);
        let [first, second] = [0, 1].map(|at| &value["nvme_controllers"][at]);
        assert_eq!(second["transport"], "tcp");
        assert_eq!(
            (&second["identify"], &second["identify_unknown"]),
            (&Value::Null, &json!("EACCES (permission denied)"))
        );
        assert_eq!(first["identify"]["volatile_write_cache"], json!({ "present": true, "enabled": false }));
        assert_eq!(first["identify"]["most_transfer_bytes"], 512 << 10);
        let namespace = &first["identify_namespaces"][0];
        assert_eq!(
            (&namespace["name"], &namespace["atomic_write_power_fail_bytes"]),
            (&json!("nvme0n1"), &json!(32768))
        );
        assert_eq!(namespace["lba_formats"][1]["in_use"], true);
        assert_eq!(value["nvme_pci_devices"][0]["pcie_link"]["width"], 2);
    }

    #[test]
    fn this_machine_can_be_listed() {
        let inventory = gather(&Sysfs::default()).unwrap();
        assert!(inventory.table().lines().all(|line| line.chars().count() <= WIDTH));
        assert!(inventory.devices.iter().all(|listed| listed.device.size_bytes > 0));
    }
}
