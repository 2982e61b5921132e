//! Who uses a block device or a file: mounts, swap, and devices built on top of it.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Devices built on devices built on devices are followed this far.
const MAX_LEVELS: u32 = 16;

/// Where the kernel's tables are: the real ones, or made-up ones in tests.
#[derive(Clone, Debug)]
pub struct Tables {
    /// `/sys`.
    pub sys: PathBuf,
    /// `/proc`.
    pub proc: PathBuf,
}

impl Default for Tables {
    fn default() -> Self {
        Tables { sys: "/sys".into(), proc: "/proc".into() }
    }
}

/// How a target is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimKind {
    /// A file system on it is mounted.
    Mounted,
    /// The kernel swaps to it.
    Swap,
    /// Another block device is built on it (dm, md, bcache, loop).
    Holder,
    /// An open file descriptor has it to itself.
    Exclusive,
}

/// One use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Of which kind.
    pub kind: ClaimKind,
    /// For a person: `mounted on /home (ext4)`, `its partition sda1 is swap`.
    pub sentence: String,
}

/// A mount of /proc/self/mountinfo.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    device: (u32, u32),
    point: PathBuf,
    kind: String,
    source: PathBuf,
}

/// Who uses the block device `major:minor`: itself, and its partitions or the disk it is part of.
#[must_use]
pub fn of_device(tables: &Tables, major: u32, minor: u32) -> Vec<Claim> {
    let mounts = mounts(tables);
    let swaps = swaps(tables);
    let mut claims = Vec::new();
    let Ok(own) = fs::canonicalize(tables.sys.join(format!("dev/block/{major}:{minor}"))) else {
        // Not in sysfs: only the mount table can know it.
        mounted(&mounts, "", (major, minor), "", &mut claims);
        return claims;
    };
    let mut related = vec![(own.clone(), String::new())];
    if own.join("partition").exists() {
        if let Some(disk) = own.parent() {
            related.push((disk.to_owned(), format!("the whole disk {} is ", name_of(disk))));
        }
    } else {
        for partition in children(&own).into_iter().filter(|child| child.join("partition").exists()) {
            let prefix = format!("its partition {} is ", name_of(&partition));
            related.push((partition, prefix));
        }
    }
    for (device, prefix) in related {
        uses(tables, &device, &prefix, &mounts, &swaps, MAX_LEVELS, &mut claims);
    }
    claims
}

/// Who uses the regular file `path`: swap, or a loop device.
#[must_use]
pub fn of_file(tables: &Tables, path: &Path) -> Vec<Claim> {
    let mut claims = Vec::new();
    if swaps(tables).iter().any(|swap| same_file(swap, path)) {
        claims.push(Claim { kind: ClaimKind::Swap, sentence: "swap".to_owned() });
    }
    for device in loops_on(tables, |backing| same_file(backing, path)) {
        claims.push(Claim { kind: ClaimKind::Holder, sentence: format!("what /dev/{device} stands on") });
    }
    claims
}

/// The uses of one device, and of what is built on it.
fn uses(
    tables: &Tables,
    device: &Path,
    prefix: &str,
    mounts: &[Mount],
    swaps: &[PathBuf],
    levels: u32,
    claims: &mut Vec<Claim>,
) {
    let name = name_of(device);
    let Some(numbers) = device_numbers(device) else { return };
    mounted(mounts, &name, numbers, prefix, claims);
    let is_this = |path: &Path| is_node(path, &name, numbers);
    if swaps.iter().any(|swap| is_this(swap)) {
        claims.push(Claim { kind: ClaimKind::Swap, sentence: format!("{prefix}swap") });
    }
    let mut holders: Vec<String> =
        children(&device.join("holders")).iter().map(|path| name_of(path)).collect();
    holders.extend(loops_on(tables, is_this));
    for holder in holders {
        let path = tables.sys.join("block").join(&holder);
        let label = fs::read_to_string(path.join("dm/name"))
            .map(|name| format!(" ({})", name.trim()))
            .unwrap_or_default();
        claims.push(Claim {
            kind: ClaimKind::Holder,
            sentence: format!("{prefix}what {holder}{label} stands on"),
        });
        if levels > 0
            && let Ok(path) = fs::canonicalize(path)
        {
            let prefix = format!("{holder} on it is ");
            uses(tables, &path, &prefix, mounts, swaps, levels - 1, claims);
        }
    }
}

fn mounted(mounts: &[Mount], name: &str, numbers: (u32, u32), prefix: &str, claims: &mut Vec<Claim>) {
    // File systems over several devices (btrfs) have a number of their own; the source tells.
    let on_it =
        mounts.iter().filter(|mount| mount.device == numbers || is_node(&mount.source, name, numbers));
    claims.extend(on_it.map(|mount| Claim {
        kind: ClaimKind::Mounted,
        sentence: format!("{prefix}mounted on {} ({})", mount.point.display(), mount.kind),
    }));
}

/// Whether `path` is a node of the device: by its numbers, or where there is no node, by its name.
fn is_node(path: &Path, name: &str, numbers: (u32, u32)) -> bool {
    if !path.is_absolute() {
        return false;
    }
    match fs::metadata(path) {
        Ok(metadata) => metadata.file_type().is_block_device() && numbers_of(metadata.rdev()) == numbers,
        Err(_) => !name.is_empty() && path == Path::new("/dev").join(name),
    }
}

/// Major and minor of a device number.
#[must_use]
pub fn numbers_of(device: u64) -> (u32, u32) {
    (rustix::fs::major(device), rustix::fs::minor(device))
}

fn loops_on(tables: &Tables, is_target: impl Fn(&Path) -> bool) -> Vec<String> {
    let mut names = Vec::new();
    for device in children(&tables.sys.join("block")) {
        let Ok(backing) = fs::read(device.join("loop/backing_file")) else { continue };
        let backing = backing.strip_suffix(b"\n").unwrap_or(&backing);
        if is_target(Path::new(std::ffi::OsStr::from_bytes(backing))) {
            names.push(name_of(&device));
        }
    }
    names
}

fn same_file(one: &Path, other: &Path) -> bool {
    match (fs::metadata(one), fs::metadata(other)) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => one == other,
    }
}

fn name_of(device: &Path) -> String {
    device.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn children(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn device_numbers(device: &Path) -> Option<(u32, u32)> {
    let text = fs::read_to_string(device.join("dev")).ok()?;
    numbers(text.trim())
}

fn numbers(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn mounts(tables: &Tables) -> Vec<Mount> {
    let text = fs::read(tables.proc.join("self/mountinfo")).unwrap_or_default();
    text.split(|&byte| byte == b'\n').filter_map(parse_mount).collect()
}

/// One line of mountinfo (proc_pid_mountinfo(5)): `id parent major:minor root point options
/// [optional...] - type source options`.
fn parse_mount(line: &[u8]) -> Option<Mount> {
    let words: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
    let dash = words.iter().position(|&word| word == b"-")?;
    Some(Mount {
        device: numbers(std::str::from_utf8(words.get(2)?).ok()?)?,
        point: unescape(words.get(4)?),
        kind: String::from_utf8_lossy(words.get(dash + 1)?).into_owned(),
        source: unescape(words.get(dash + 2)?),
    })
}

fn swaps(tables: &Tables) -> Vec<PathBuf> {
    let text = fs::read(tables.proc.join("swaps")).unwrap_or_default();
    let lines = text.split(|&byte| byte == b'\n').skip(1);
    lines
        .filter_map(|line| line.split(|byte| byte.is_ascii_whitespace()).next())
        .filter(|word| !word.is_empty())
        .map(unescape)
        .collect()
}

/// Takes back the kernel's octal escapes: `\040` is a space.
fn unescape(word: &[u8]) -> PathBuf {
    let mut out = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((&first, tail)) = rest.split_first() {
        let octal =
            tail.get(..3).filter(|digits| first == b'\\' && digits.iter().all(|d| (b'0'..=b'7').contains(d)));
        match octal {
            Some(digits) => {
                let value = digits.iter().fold(0_u32, |value, digit| value * 8 + u32::from(digit - b'0'));
                out.push((value & 0xff) as u8);
                rest = &tail[3..];
            }
            None => {
                out.push(first);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsString::from_vec(out))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::symlink;

    /// A machine with an NVMe disk of two partitions (one mounted, one swap), a disk that is a
    /// member of md0, which is mounted, and a loop device.
    fn machine() -> (tempfile::TempDir, Tables) {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let tables = Tables { sys: root.join("sys"), proc: root.join("proc") };
        let disk = |path: &str, numbers: &str| {
            let path = tables.sys.join(path);
            fs::create_dir_all(path.join("holders")).unwrap();
            fs::write(path.join("dev"), format!("{numbers}\n")).unwrap();
            fs::create_dir_all(tables.sys.join("dev/block")).unwrap();
            symlink(&path, tables.sys.join("dev/block").join(numbers)).unwrap();
            path
        };
        disk("block/nvme9n1", "259:900");
        let first = disk("block/nvme9n1/nvme9n1p1", "259:901");
        let second = disk("block/nvme9n1/nvme9n1p2", "259:902");
        fs::write(first.join("partition"), "1").unwrap();
        fs::write(second.join("partition"), "2").unwrap();
        let member = disk("block/sdz", "8:990");
        let array = disk("block/md99", "9:99");
        symlink(&array, member.join("holders/md99")).unwrap();
        let image = root.join("image with space");
        fs::write(&image, "x").unwrap();
        let device = disk("block/loop77", "7:77");
        fs::create_dir(device.join("loop")).unwrap();
        fs::write(device.join("loop/backing_file"), format!("{}\n", image.display())).unwrap();
        disk("block/free", "8:800");
        fs::create_dir_all(tables.proc.join("self")).unwrap();
        let mounts = "22 1 259:901 / /data\\040one rw - ext4 /dev/nvme9n1p1 rw\n\
                      23 1 9:99 / /raid rw shared:1 - xfs /dev/md99 rw\n\
                      24 1 0:44 / /pool rw - btrfs /dev/free rw\n";
        fs::write(tables.proc.join("self/mountinfo"), mounts).unwrap();
        let swaps = "Filename Type Size Used Priority\n/dev/nvme9n1p2 partition 1 0 -2\n";
        fs::write(tables.proc.join("swaps"), swaps).unwrap();
        (directory, tables)
    }

    fn sentences(claims: &[Claim]) -> Vec<&str> {
        claims.iter().map(|claim| claim.sentence.as_str()).collect()
    }

    #[test]
    fn a_disk_is_used_if_its_partitions_are() {
        let (_keep, tables) = machine();
        let claims = of_device(&tables, 259, 900);
        let wanted =
            ["its partition nvme9n1p1 is mounted on /data one (ext4)", "its partition nvme9n1p2 is swap"];
        assert_eq!(sentences(&claims), wanted);
        assert_eq!(sentences(&of_device(&tables, 259, 901)), ["mounted on /data one (ext4)"]);
    }

    #[test]
    fn what_stands_on_a_device_is_followed_to_its_mounts() {
        let (_keep, tables) = machine();
        let claims = of_device(&tables, 8, 990);
        assert_eq!(sentences(&claims), ["what md99 stands on", "md99 on it is mounted on /raid (xfs)"]);
        assert_eq!(claims[0].kind, ClaimKind::Holder);
    }

    #[test]
    fn a_mount_without_the_devices_number_is_found_by_its_source() {
        let (_keep, tables) = machine();
        assert_eq!(sentences(&of_device(&tables, 8, 800)), ["mounted on /pool (btrfs)"]);
    }

    #[test]
    fn a_file_behind_a_loop_device_is_used_under_any_name() {
        let (keep, tables) = machine();
        let image = keep.path().join("image with space");
        assert_eq!(sentences(&of_file(&tables, &image)), ["what /dev/loop77 stands on"]);
        let link = keep.path().join("link");
        fs::hard_link(&image, &link).unwrap();
        assert_eq!(of_file(&tables, &link).len(), 1);
        assert_eq!(of_file(&tables, &keep.path().join("other")), []);
    }

    proptest! {
        #[test]
        fn no_line_of_a_mount_table_panics(line: Vec<u8>) {
            let _ = parse_mount(&line);
            let _ = unescape(&line);
        }
    }
}
