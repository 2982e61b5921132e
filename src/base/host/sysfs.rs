//! Reading the kernel's view of devices in `/sys`: one short text per file, links between folders.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};

/// Where the kernel shows its devices. Tests point it at made-up trees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sysfs {
    /// Mount point of sysfs.
    pub sys: PathBuf,
    /// Folder of the device nodes.
    pub dev: PathBuf,
}

impl Default for Sysfs {
    fn default() -> Self {
        Self { sys: PathBuf::from("/sys"), dev: PathBuf::from("/dev") }
    }
}

impl Sysfs {
    /// The device node of a block device with this kernel name.
    #[must_use]
    pub fn node(&self, name: &str) -> PathBuf {
        self.dev.join(name)
    }
}

/// What a file of sysfs says, without the blanks and NULs around it; `None` where it says nothing.
/// Devices fill in names and serial numbers themselves, so the bytes may be anything.
pub(super) fn text(file: &Path) -> Option<String> {
    let bytes = std::fs::read(file).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    (!text.is_empty()).then(|| text.to_owned())
}

/// The number in a file of sysfs.
pub(super) fn number<T: std::str::FromStr>(file: &Path) -> Option<T> {
    text(file)?.parse().ok()
}

/// Whether a file of sysfs says something other than 0.
pub(super) fn flag(file: &Path) -> bool {
    number::<u64>(file).is_some_and(|number| number != 0)
}

/// The last name of what a link leads to: a driver or an IOMMU group, for instance.
pub(super) fn link_name(link: &Path) -> Option<String> {
    let target = std::fs::read_link(link).ok()?;
    Some(target.file_name()?.to_string_lossy().into_owned())
}

/// The names in a folder, in the order people count: `nvme2n1` before `nvme10n1`.
pub(super) fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort_by(|a, b| natural(a, b));
    names
}

/// The first answer of `ask` on the way from `folder` up to the root of sysfs.
pub(super) fn upwards<T>(sys: &Path, folder: &Path, ask: impl Fn(&Path) -> Option<T>) -> Option<T> {
    folder.ancestors().take_while(|at| at.starts_with(sys) && *at != sys).find_map(ask)
}

/// The NUMA node that a device's folder names. The kernel says -1 where it knows none.
pub(super) fn numa_node(folder: &Path) -> Option<u32> {
    number(&folder.join("numa_node"))
}

/// Compares names with the numbers in them taken as numbers.
pub(super) fn natural(a: &str, b: &str) -> Ordering {
    natural_bytes(a.as_bytes(), b.as_bytes()).then_with(|| a.cmp(b))
}

fn natural_bytes(mut a: &[u8], mut b: &[u8]) -> Ordering {
    loop {
        let order = match (a.first(), b.first()) {
            (Some(x), Some(y)) if x.is_ascii_digit() && y.is_ascii_digit() => {
                let (x, y) = (take_digits(&mut a), take_digits(&mut b));
                x.len().cmp(&y.len()).then_with(|| x.cmp(y))
            }
            (Some(x), Some(y)) => {
                (a, b) = (&a[1..], &b[1..]);
                x.cmp(y)
            }
            (x, y) => return x.cmp(&y),
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// The digits at the front, which are taken off, without leading zeros.
fn take_digits<'a>(text: &mut &'a [u8]) -> &'a [u8] {
    let end = text.iter().position(|c| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    *text = rest;
    let zeros = digits.iter().take_while(|&&c| c == b'0').count();
    &digits[zeros..]
}

/// Made-up trees for tests: files, folders and links as the kernel would show them.
#[cfg(test)]
pub(super) mod made_up {
    use super::{Path, Sysfs};

    /// A sysfs in a temporary folder, gone when dropped.
    pub struct Tree {
        folder: tempfile::TempDir,
    }

    impl Tree {
        pub fn new() -> Self {
            Self { folder: tempfile::tempdir().unwrap() }
        }

        pub fn sysfs(&self) -> Sysfs {
            Sysfs { sys: self.folder.path().join("sys"), dev: self.folder.path().join("dev") }
        }

        /// Files below `folder` of sysfs, each with its content.
        pub fn files(&self, folder: &str, files: &[(&str, &str)]) {
            for (name, content) in files {
                self.bytes(&format!("{folder}/{name}"), format!("{content}\n").as_bytes());
            }
        }

        pub fn bytes(&self, file: &str, content: &[u8]) {
            let file = self.sysfs().sys.join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, content).unwrap();
        }

        /// A link in sysfs to something else in it.
        pub fn link(&self, from: &str, to: &str) {
            let sys = self.sysfs().sys;
            let (from, to) = (sys.join(from), sys.join(to));
            for folder in [from.parent().unwrap(), &to] {
                std::fs::create_dir_all(folder).unwrap();
            }
            std::os::unix::fs::symlink(relative(from.parent().unwrap(), &to), from).unwrap();
        }
    }

    /// The kernel's links are relative.
    fn relative(from: &Path, to: &Path) -> std::path::PathBuf {
        let common = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
        let up = from.components().skip(common).map(|_| "..");
        up.map(std::path::PathBuf::from)
            .chain(to.components().skip(common).map(|part| part.as_os_str().into()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_names_count_as_numbers() {
        let mut names = ["nvme10n1", "sdb", "nvme2n10", "nvme2n2", "nvme2n2p1", "nvme02n2", "sda"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(names, ["nvme02n2", "nvme2n2", "nvme2n2p1", "nvme2n10", "nvme10n1", "sda", "sdb"]);
    }

    #[test]
    fn any_bytes_can_be_read() {
        let tree = made_up::Tree::new();
        tree.bytes("a", b"  S\xff1 \0\0\n");
        tree.bytes("b", b"   \n");
        let sys = tree.sysfs().sys;
        assert_eq!(text(&sys.join("a")).as_deref(), Some("S\u{fffd}1"));
        assert_eq!(text(&sys.join("b")), None);
        assert_eq!(text(&sys.join("c")), None);
    }
}
