//! `fio-spdk devices`: what can be tested here, and what somebody is using.

use std::fmt::Write as _;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde_json::{Value, json};

use crate::base::host::block::{self, BlockDevice, Sysfs};
use crate::base::host::claims::{self, Tables};
use crate::base::host::nvme::{self, Controller};
use crate::base::host::signature;
use crate::base::units::format_size;

/// A whole disk with those who use it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// The disk.
    pub device: BlockDevice,
    /// Path of its node.
    pub path: String,
    /// Who uses it or a partition of it, a phrase each; nobody where empty.
    pub users: Vec<String>,
    /// The file system or partition table found on it.
    pub holds: Option<String>,
}

/// All disks of the machine, without loop devices and RAM disks that nothing is behind.
/// `users` says who uses a disk or its partitions, `holds` what its node shows.
#[must_use]
pub fn rows(
    at: &Sysfs,
    users: &dyn Fn(&BlockDevice) -> Vec<String>,
    holds: &dyn Fn(&BlockDevice, &Path) -> Option<String>,
) -> Vec<Row> {
    block::all(at)
        .into_iter()
        .filter(|device| device.size_bytes > 0 || !is_made_on_demand(device))
        .map(|device| {
            let node = at.node(&device.name);
            let (users, holds) = (users(&device), holds(&device, &node));
            Row { path: node.display().to_string(), device, users, holds }
        })
        .collect()
}

/// The devices of this machine, with who uses them and what they hold: a table, or JSON.
#[must_use]
pub fn of_this_machine(json: bool) -> String {
    let at = Sysfs::default();
    let tables = Tables::default();
    let users = |device: &BlockDevice| {
        let claims = claims::of_device(&tables, device.major, device.minor);
        claims.into_iter().map(|claim| claim.sentence).collect()
    };
    let holds = |device: &BlockDevice, node: &Path| {
        let file = File::open(node).ok()?;
        signature::find(device.size_bytes, &mut |offset, bytes| file.read_at(bytes, offset))
            .map(str::to_owned)
    };
    let (rows, controllers) = (rows(&at, &users, &holds), controllers(&at));
    if json { format!("{:#}\n", render_json(&rows, &controllers)) } else { render(&rows, &controllers) }
}

/// All NVMe controllers of the machine, whoever drives them.
#[must_use]
pub fn controllers(at: &Sysfs) -> Vec<Controller> {
    nvme::controllers(at)
}

/// Whether the kernel keeps devices of this kind in stock, empty until somebody fills them.
fn is_made_on_demand(device: &BlockDevice) -> bool {
    matches!(device.driver.as_deref(), Some("loop" | "brd" | "zram" | "nbd"))
}

/// Two tables for people, at most 120 characters wide.
#[must_use]
pub fn render(devices: &[Row], controllers: &[Controller]) -> String {
    let mut out = String::from("Block devices\n");
    if devices.is_empty() {
        out.push_str("  none\n");
    } else {
        let lines = devices.iter().map(device_line);
        out.push_str(&table(&DEVICE_COLUMNS, lines));
    }
    out.push_str("\nNVMe controllers\n");
    if controllers.is_empty() {
        out.push_str("  none\n");
    } else {
        let lines = controllers.iter().map(controller_line);
        out.push_str(&table(&CONTROLLER_COLUMNS, lines));
    }
    out
}

/// The same for programs, complete: nothing is shortened.
#[must_use]
pub fn render_json(devices: &[Row], controllers: &[Controller]) -> Value {
    json!({
        "block_devices": devices.iter().map(device_json).collect::<Vec<_>>(),
        "nvme_controllers": controllers.iter().map(controller_json).collect::<Vec<_>>(),
    })
}

fn device_json(row: &Row) -> Value {
    let device = &row.device;
    json!({
        "name": device.name,
        "path": row.path,
        "major": device.major,
        "minor": device.minor,
        "model": device.model,
        "serial": device.serial,
        "firmware": device.firmware,
        "size_bytes": device.size_bytes,
        "lba_bytes": device.lba_bytes,
        "physical_bytes": device.physical_bytes,
        "rotational": device.rotational,
        "read_only": device.read_only,
        "discard": device.discard,
        "write_cache": device.write_cache,
        "scheduler": device.scheduler,
        "driver": device.driver,
        "transport": device.transport,
        "numa_node": device.numa_node,
        "partitions": device.partitions,
        "used_by": row.users,
        "holds": row.holds,
    })
}

fn controller_json(controller: &Controller) -> Value {
    json!({
        "pci_address": controller.bdf,
        "name": controller.name,
        "model": controller.model,
        "serial": controller.serial,
        "firmware": controller.firmware,
        "transport": controller.transport,
        "driver": controller.driver,
        "numa_node": controller.numa_node,
        "iommu_group": controller.iommu_group,
        "vendor_device": controller.vendor_device,
        "namespaces": controller.namespaces,
    })
}

/// A column: its heading, the most characters it may take, and whether it holds numbers.
type Column = (&'static str, usize, bool);

const DEVICE_COLUMNS: [Column; 9] = [
    ("NAME", 14, false),
    ("MODEL", 24, false),
    ("SERIAL", 21, false),
    ("SIZE", 8, true),
    ("LBA", 4, true),
    ("CACHE", 7, false),
    ("DRIVER", 13, false),
    ("NUMA", 4, true),
    ("USE", 4, false),
];

const CONTROLLER_COLUMNS: [Column; 9] = [
    ("PCI ADDRESS", 13, false),
    ("NAME", 7, false),
    ("MODEL", 23, false),
    ("SERIAL", 20, false),
    ("FIRMWARE", 8, false),
    ("VIA", 4, false),
    ("DRIVER", 15, false),
    ("NUMA", 4, true),
    ("IOMMU", 5, true),
];

const MAX_WIDTH: usize = 120;
const INDENT: &str = "  ";

/// The cells of a line, and what is said below it.
type Line = (Vec<String>, Option<String>);

/// What stands below a device's line: its users, and what it holds.
fn below(row: &Row) -> Option<String> {
    let used = (!row.users.is_empty()).then(|| format!("used by: {}", row.users.join("; ")));
    let parts: Vec<String> =
        used.into_iter().chain(row.holds.as_ref().map(|name| format!("holds {name}"))).collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

fn device_line(row: &Row) -> Line {
    let device = &row.device;
    let cache = device.write_cache.as_ref().map(|text| text.trim_start_matches("write ").to_owned());
    let cells = vec![
        device.name.clone(),
        or_dash(device.model.clone()),
        or_dash(device.serial.clone()),
        format_size(device.size_bytes),
        device.lba_bytes.to_string(),
        or_dash(cache),
        or_dash(device.driver.clone()),
        or_dash(device.numa_node.map(|node| node.to_string())),
        match (row.users.is_empty(), &row.holds) {
            (false, _) => "used",
            (true, Some(_)) => "data",
            (true, None) => "free",
        }
        .to_owned(),
    ];
    (cells, below(row))
}

fn controller_line(controller: &Controller) -> Line {
    let unknown = || controller.vendor_device.as_ref().map(|id| format!("[{id}]"));
    let cells = vec![
        or_dash(controller.bdf.clone()),
        or_dash(controller.name.clone()),
        or_dash(controller.model.clone().or_else(unknown)),
        or_dash(controller.serial.clone()),
        or_dash(controller.firmware.clone()),
        or_dash(controller.transport.clone()),
        controller.driver.clone().unwrap_or_else(|| "none".to_owned()),
        or_dash(controller.numa_node.map(|node| node.to_string())),
        or_dash(controller.iommu_group.clone()),
    ];
    let namespaces = &controller.namespaces;
    (cells, (!namespaces.is_empty()).then(|| format!("namespaces: {}", namespaces.join(", "))))
}

fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".to_owned())
}

/// Lines in columns as wide as their widest cell, or as they may be.
fn table(columns: &[Column], lines: impl Iterator<Item = Line>) -> String {
    let lines: Vec<Line> = lines
        .map(|(cells, below)| {
            let fit = |(cell, column): (&String, &Column)| shortened(&printable(cell), column.1);
            (cells.iter().zip(columns).map(fit).collect(), below.map(|text| printable(&text)))
        })
        .collect();
    let width = |index: usize, heading: &str| {
        let cells = lines.iter().map(|(cells, _)| cells[index].chars().count());
        cells.chain([heading.len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> =
        columns.iter().enumerate().map(|(index, column)| width(index, column.0)).collect();
    let headings: Vec<String> = columns.iter().map(|column| column.0.to_owned()).collect();
    let mut out = table_line(&headings, columns, &widths);
    for (cells, below) in &lines {
        out.push_str(&table_line(cells, columns, &widths));
        if let Some(below) = below {
            out.push_str(&wrapped(below));
        }
    }
    out
}

fn table_line(cells: &[String], columns: &[Column], widths: &[usize]) -> String {
    let mut line = String::new();
    for ((cell, column), &width) in cells.iter().zip(columns).zip(widths) {
        line.push_str(INDENT);
        // Writing to a string cannot fail.
        let _ = if column.2 { write!(line, "{cell:>width$}") } else { write!(line, "{cell:<width$}") };
    }
    line.truncate(line.trim_end().len());
    line.push('\n');
    line
}

/// What is said below a line, in lines of its own that are set in. A word wider than a line (the
/// path of a mount point) stays whole: it is there to be copied.
fn wrapped(text: &str) -> String {
    let mut out = String::new();
    let mut used = MAX_WIDTH;
    for word in text.split(' ') {
        let width = word.chars().count();
        if used + 1 + width > MAX_WIDTH {
            let indent = if out.is_empty() { 4 } else { 6 };
            let end = if out.is_empty() { "" } else { "\n" };
            let _ = write!(out, "{end}{:indent$}{word}", "");
            used = indent + width;
        } else {
            let _ = write!(out, " {word}");
            used += 1 + width;
        }
    }
    out.push('\n');
    out
}

/// `text` cut to `width` characters, with an ellipsis where something is missing.
fn shortened(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// `text` with control characters escaped: devices name themselves, and must not move the cursor.
fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    fn ssd() -> BlockDevice {
        BlockDevice {
            name: "nvme0n1".to_owned(),
            major: 259,
            model: some("Example SSD 990 with a long name 1TB"),
            serial: some("S6Z1NF0W123456X"),
            firmware: some("4B2QJXD7"),
            size_bytes: 1_000_204_886_016,
            lba_bytes: 512,
            physical_bytes: 4096,
            scheduler: some("none"),
            write_cache: some("write back"),
            discard: true,
            driver: some("nvme"),
            transport: some("pcie"),
            numa_node: Some(1),
            partitions: vec!["nvme0n1p1".to_owned()],
            ..BlockDevice::default()
        }
    }

    fn two_rows() -> [Row; 2] {
        let bare = BlockDevice {
            name: "vda".to_owned(),
            major: 254,
            size_bytes: 256 << 30,
            lba_bytes: 4096,
            physical_bytes: 4096,
            write_cache: some("write through"),
            driver: some("virtio_blk"),
            ..BlockDevice::default()
        };
        let users = ["nvme0n1p1: mounted at /boot".to_owned(), "held by dm-0".to_owned()];
        [
            Row { device: ssd(), path: "/dev/nvme0n1".to_owned(), users: users.to_vec(), holds: None },
            Row { device: bare, path: "/dev/vda".to_owned(), users: Vec::new(), holds: None },
        ]
    }

    fn two_controllers() -> [Controller; 2] {
        let of_kernel = Controller {
            bdf: some("0000:01:00.0"),
            name: some("nvme0"),
            model: some("Example SSD 990 1TB"),
            serial: some("S6Z1NF0W123456X"),
            firmware: some("4B2QJXD7"),
            transport: some("pcie"),
            driver: some("nvme"),
            numa_node: Some(1),
            iommu_group: some("14"),
            vendor_device: some("144d:a80c"),
            namespaces: vec!["nvme0n1".to_owned(), "nvme0n2".to_owned()],
        };
        let idle = Controller {
            bdf: some("10000:e1:00.0"),
            transport: some("pcie"),
            vendor_device: some("8086:0a54"),
            ..Controller::default()
        };
        [of_kernel, idle]
    }

    #[test]
    fn text_for_people() {
        assert_eq!(render(&two_rows(), &two_controllers()), include_str!("golden/devices.txt"));
    }

    #[test]
    fn nothing_there() {
        assert_eq!(render(&[], &[]), "Block devices\n  none\n\nNVMe controllers\n  none\n");
    }

    #[test]
    fn json_for_programs() {
        let json = render_json(&two_rows(), &two_controllers());
        let text = serde_json::to_string_pretty(&json).unwrap();
        assert_eq!(format!("{text}\n"), include_str!("golden/devices.json"));
    }

    #[test]
    fn the_widest_of_lines_fit() {
        let long = || Some("W".repeat(200));
        let device = BlockDevice {
            name: "W".repeat(200),
            size_bytes: u64::MAX,
            lba_bytes: 65_536,
            numa_node: Some(1000),
            ..ssd()
        };
        let device = BlockDevice { model: long(), serial: long(), driver: long(), ..device };
        let device = BlockDevice { write_cache: some("write through"), ..device };
        let users = (0..40).map(|number| format!("mounted at /mnt/{number}")).collect();
        let controller = Controller { bdf: some("10000:e1:00.0"), name: long(), ..Controller::default() };
        let controller = Controller { model: long(), serial: long(), firmware: long(), ..controller };
        let controller = Controller { transport: long(), driver: long(), iommu_group: long(), ..controller };
        let text = render(&[Row { device, path: String::new(), users, holds: None }], &[controller]);
        for line in text.lines() {
            assert!(line.chars().count() <= MAX_WIDTH, "{line}");
        }
        assert!(text.contains("mounted at /mnt/39"));
    }

    #[test]
    fn a_name_moves_no_cursor() {
        let device = BlockDevice { model: some("\u{1b}[2J"), ..ssd() };
        let users = vec!["mounted at /a\nb".to_owned()];
        let text = render(&[Row { device, path: String::new(), users, holds: None }], &[]);
        assert!(text.contains("\\u{1b}[2J") && text.contains("/a\\nb"), "{text}");
    }

    #[test]
    fn empty_devices_of_the_kernels_stock_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let at = Sysfs { sys: folder.path().to_owned(), dev: "/dev".into() };
        let put = |file: &str, text: &str| {
            let file = at.sys.join("block").join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        };
        for (name, number, sectors) in [("loop0", "7:0", "0"), ("loop1", "7:1", "8"), ("sda", "8:0", "0")] {
            put(&format!("{name}/dev"), number);
            put(&format!("{name}/size"), sectors);
        }
        put("sda/sda1/dev", "8:1");
        put("sda/sda1/partition", "1");
        let users = |device: &BlockDevice| vec![format!("{}:{}", device.major, device.minor)];
        let rows = rows(&at, &users, &|_, node| Some(node.display().to_string()));
        let found: Vec<_> = rows.iter().map(|row| (row.path.as_str(), row.users.join(", "))).collect();
        let expected = [("/dev/loop1", "7:1".to_owned()), ("/dev/sda", "8:0".to_owned())];
        assert_eq!(found, expected);
    }
}
