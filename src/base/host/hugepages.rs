//! Hugepages: memory that stays where it is, so that a device can be given its address.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::binding::{Kernel, Trouble};
use super::claims::parse_mountinfo;
use super::{Sysfs, attribute, names, number};
use crate::base::units::{format_size, parse_size};

/// The page size that is asked for where the machine has it (x86, ARM with pages of 4 KiB).
const USUAL_BYTES: u64 = 2 << 20;

/// What is left to everybody else.
const LEFT_BYTES: u64 = 256 << 20;
/// What to do where memory is short.
const FEWER: &str =
    "End programs, ask for fewer (--hugepages MIB), or boot with hugepages=N on the kernel's command line.";

/// What a machine has of hugepages, in all sizes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HugepageFacts {
    /// Smallest first.
    pub sizes: Vec<PageSize>,
    /// Where hugetlbfs is mounted.
    pub mounts: Vec<HugeMount>,
}

/// Hugepages of one size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageSize {
    /// Bytes of one page.
    pub page_bytes: u64,
    /// How many there are.
    pub total: u64,
    /// How many of them nobody has or is promised.
    pub free: u64,
    /// The same by NUMA node.
    pub nodes: Vec<NodePages>,
}

/// The part of one NUMA node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodePages {
    /// NUMA node.
    pub node: u32,
    /// How many there are.
    pub total: u64,
    /// How many of them nobody has.
    pub free: u64,
}

/// A mounted hugetlbfs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HugeMount {
    /// Where.
    pub path: PathBuf,
    /// Its page size, where the kernel tells.
    pub page_bytes: Option<u64>,
}

impl HugepageFacts {
    /// Bytes of all sizes that nobody has.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        self.sizes.iter().map(|size| size.free * size.page_bytes).sum()
    }

    /// Bytes of all sizes.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.sizes.iter().map(|size| size.total * size.page_bytes).sum()
    }

    fn of(&self, page_bytes: u64) -> PageSize {
        let found = self.sizes.iter().find(|size| size.page_bytes == page_bytes);
        found.cloned().unwrap_or(PageSize { page_bytes, ..PageSize::default() })
    }

    fn mount_of(&self, page_bytes: u64) -> Option<&HugeMount> {
        self.mounts.iter().find(|mount| mount.page_bytes == Some(page_bytes))
    }
}

impl fmt::Display for HugepageFacts {
    /// `256 hugepages of 2MiB, 250 free (node 0: 250, node 1: 0); hugetlbfs on /dev/hugepages`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sizes: Vec<String> = self.sizes.iter().filter(|size| size.total > 0).map(describe).collect();
        let sizes = if sizes.is_empty() { "no hugepages".to_owned() } else { sizes.join(", ") };
        let mounts: Vec<String> = self.mounts.iter().map(|mount| mount.path.display().to_string()).collect();
        match mounts.as_slice() {
            [] => write!(f, "{sizes}; hugetlbfs is mounted nowhere"),
            mounts => write!(f, "{sizes}; hugetlbfs on {}", mounts.join(", ")),
        }
    }
}

fn describe(size: &PageSize) -> String {
    let mut text =
        format!("{} hugepages of {}, {} free", size.total, format_size(size.page_bytes), size.free);
    if size.nodes.len() > 1 {
        let nodes: Vec<String> =
            size.nodes.iter().map(|node| format!("node {}: {}", node.node, node.free)).collect();
        text.push_str(&format!(" ({})", nodes.join(", ")));
    }
    text
}

/// What there is of hugepages.
#[must_use]
pub fn hugepages(sysfs: &Sysfs) -> HugepageFacts {
    let mut sizes: Vec<PageSize> =
        names(&machine_dir(sysfs)).iter().filter_map(|name| size(sysfs, name)).collect();
    sizes.sort_by_key(|size| size.page_bytes);
    let mounts = sysfs.mountinfo().map(|text| mounts(&text)).unwrap_or_default();
    HugepageFacts { sizes, mounts }
}

fn machine_dir(sysfs: &Sysfs) -> PathBuf {
    sysfs.sys.join("kernel/mm/hugepages")
}

fn node_dir(sysfs: &Sysfs, node: u32) -> PathBuf {
    sysfs.sys.join(format!("devices/system/node/node{node}/hugepages"))
}

/// `hugepages-2048kB`.
fn size(sysfs: &Sysfs, name: &str) -> Option<PageSize> {
    let kib: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
    let count = |dir: &Path, file: &str| number::<u64>(&dir.join(name).join(file)).unwrap_or(0);
    let machine = machine_dir(sysfs);
    let nodes = names(&sysfs.sys.join("devices/system/node"));
    let nodes = nodes.iter().filter_map(|node| node.strip_prefix("node")?.parse().ok()).map(|node| {
        let dir = node_dir(sysfs, node);
        NodePages { node, total: count(&dir, "nr_hugepages"), free: count(&dir, "free_hugepages") }
    });
    Some(PageSize {
        page_bytes: kib.checked_mul(1024)?,
        total: count(&machine, "nr_hugepages"),
        free: count(&machine, "free_hugepages").saturating_sub(count(&machine, "resv_hugepages")),
        nodes: nodes.collect(),
    })
}

fn mounts(mountinfo: &str) -> Vec<HugeMount> {
    let lines = mountinfo.lines().filter_map(|line| Some((line, parse_mountinfo(line).pop()?)));
    lines
        .filter(|(_, mount)| mount.fs_type == "hugetlbfs")
        .map(|(line, mount)| {
            let options = line.rsplit(' ').next().unwrap_or("");
            let size = options.split(',').find_map(|option| option.strip_prefix("pagesize="));
            HugeMount {
                path: mount.mount_point.into(),
                page_bytes: size.and_then(|size| parse_size(size).ok()),
            }
        })
        .collect()
}

/// Makes sure that `mib` MiB of hugepages are free (on `node`, where the machine has several), and that
/// they can be had through a mount. Only ever raises. Gives a sentence about what there is now.
///
/// # Errors
/// If there is not enough memory in one piece, or the mount fails.
pub fn ensure(sysfs: &Sysfs, kernel: &dyn Kernel, mib: u64, node: Option<u32>) -> Result<String, Trouble> {
    let facts = hugepages(sysfs);
    let usual = facts.sizes.iter().any(|size| size.page_bytes == USUAL_BYTES);
    let page_bytes = if usual { Some(USUAL_BYTES) } else { default_page_bytes(sysfs) };
    let Some(page_bytes) = page_bytes.filter(|bytes| *bytes > 0) else {
        return Err(Trouble::environment("this kernel has no hugepages", "It needs CONFIG_HUGETLBFS."));
    };
    let node = node.filter(|node| {
        let nodes = facts.of(page_bytes).nodes;
        nodes.len() > 1 && nodes.iter().any(|known| known.node == *node)
    });
    let wanted = mib.saturating_mul(1 << 20).div_ceil(page_bytes);
    let before = count(sysfs, page_bytes, node);
    let now = raise(sysfs, kernel, page_bytes, node, wanted)?;
    let place = node.map(|node| format!(" on node {node}")).unwrap_or_default();
    let size = format_size(page_bytes);
    let mut text = match before.total == now.total {
        true => format!("hugepages: {} of {size}{place}, {} free", now.total, now.free),
        false => format!("hugepages: {} → {} of {size}{place}, {} free", before.total, now.total, now.free),
    };
    match facts.mount_of(page_bytes) {
        Some(mount) => text.push_str(&format!("; hugetlbfs on {}", mount.path.display())),
        None => {
            let at = sysfs.dev.join("hugepages");
            kernel.mount_hugetlbfs(&at, page_bytes).map_err(|error| no_mount(&at, &size, &error))?;
            text.push_str(&format!("; hugetlbfs mounted on {}", at.display()));
        }
    }
    Ok(text)
}

fn no_mount(at: &Path, size: &str, error: &io::Error) -> Trouble {
    let size = size.trim_end_matches("iB");
    Trouble::environment(
        format!(
            "hugetlbfs is mounted nowhere for this page size, and mounting it on {} failed: {error}",
            at.display()
        ),
        format!("Mount it: mount -t hugetlbfs -o pagesize={size} hugetlbfs DIRECTORY"),
    )
}

/// The kernel's own size: pages are larger where its ordinary ones are.
fn default_page_bytes(sysfs: &Sysfs) -> Option<u64> {
    meminfo_bytes(sysfs, "Hugepagesize:")
}

fn meminfo_bytes(sysfs: &Sysfs, name: &str) -> Option<u64> {
    let meminfo = attribute(&sysfs.proc.join("meminfo"))?;
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Whether the machine can go on without this much memory. The kernel does not ask: it hands out the last
/// page as a hugepage, and then has none for itself.
fn can_be_spared(sysfs: &Sysfs, bytes: u64) -> Result<(), Trouble> {
    let Some(available) = meminfo_bytes(sysfs, "MemAvailable:") else { return Ok(()) };
    if bytes.saturating_add(LEFT_BYTES) <= available {
        return Ok(());
    }
    Err(Trouble::environment(
        format!(
            "{} more in hugepages would leave the machine too little: {} of memory are available",
            format_size(bytes),
            format_size(available)
        ),
        FEWER,
    ))
}

fn count(sysfs: &Sysfs, page_bytes: u64, node: Option<u32>) -> NodePages {
    let size = hugepages(sysfs).of(page_bytes);
    let machine = NodePages { node: 0, total: size.total, free: size.free };
    match size.nodes.iter().find(|known| Some(known.node) == node) {
        // What the machine has promised may be taken from any node.
        Some(part) => NodePages { free: part.free.min(machine.free), ..*part },
        None => machine,
    }
}

fn raise(
    sysfs: &Sysfs,
    kernel: &dyn Kernel,
    page_bytes: u64,
    node: Option<u32>,
    wanted: u64,
) -> Result<NodePages, Trouble> {
    let dir = node.map_or_else(|| machine_dir(sysfs), |node| node_dir(sysfs, node));
    let file = dir.join(format!("hugepages-{}kB/nr_hugepages", page_bytes / 1024));
    let put = |text: &str| {
        kernel.write(&file, text).map_err(|error| {
            Trouble::environment(
                format!("writing {text} to {} failed: {error}", file.display()),
                "Without hugepages a controller can still be bound: --hugepages 0.",
            )
        })
    };
    let before = count(sysfs, page_bytes, node);
    let mut now = before;
    for attempt in 0..2 {
        if now.free >= wanted {
            return Ok(now);
        }
        if attempt == 0 {
            can_be_spared(sysfs, (wanted - now.free).saturating_mul(page_bytes))?;
        } else {
            // Memory in pieces: the kernel can move them together. Where it cannot, the count tells.
            let _ = kernel.write(&sysfs.proc.join("sys/vm/compact_memory"), "1");
        }
        put(&now.total.saturating_add(wanted - now.free).to_string())?;
        now = count(sysfs, page_bytes, node);
    }
    if now.free >= wanted {
        return Ok(now);
    }
    // Too few serve nobody.
    put(&before.total.to_string())?;
    let place = node.map(|node| format!(" on node {node}")).unwrap_or_default();
    Err(Trouble::environment(
        format!(
            "only {} of {wanted} hugepages of {} could be had{place}: the memory is too small, or in too small pieces",
            now.free,
            format_size(page_bytes)
        ),
        FEWER,
    ))
}
