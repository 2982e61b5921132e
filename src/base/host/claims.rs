//! Who uses a device or file.
//!
//! Everything here fails closed: where the kernel does not tell, the caller gets an error, not an
//! empty list.
#![allow(unsafe_code)]

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::block::{self, BlockDevice, DeviceNumber};
use super::{Sysfs, attribute, names};

/// In which way something is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClaimKind {
    /// A file system on it (or on a partition of it) is mounted.
    Mounted,
    /// Memory is swapped to it.
    Swap,
    /// Another block device is made of it: md, device mapper, bcache.
    Holder,
    /// A loop device shows it, or a file on it.
    LoopBacking,
    /// Another program has it open, for itself alone or for writing.
    OpenElsewhere,
}

/// One use, and a sentence about it such as `partition sda1 is mounted on / (ext4)`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    /// In which way.
    pub kind: ClaimKind,
    /// For people.
    pub sentence: String,
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

/// One line of `/proc/self/mountinfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Device of the file system; major 0 for those that make up a number (btrfs, tmpfs).
    pub number: DeviceNumber,
    /// Where.
    pub mount_point: String,
    /// `ext4`.
    pub fs_type: String,
    /// `/dev/sda1`, or whatever the file system calls its source.
    pub source: String,
}

/// Reads a mount table. Lines that are none are left out.
#[must_use]
pub fn parse_mountinfo(text: &str) -> Vec<Mount> {
    text.lines().filter_map(parse_mount).collect()
}

fn parse_mount(line: &str) -> Option<Mount> {
    // 36 35 98:0 /root /mnt options optional… - ext4 /dev/sda1 options
    let mut fields = line.split(' ');
    let number = DeviceNumber::parse(fields.nth(2)?)?;
    let mount_point = unescape(fields.nth(1)?);
    fields.by_ref().find(|field| *field == "-")?;
    let fs_type = unescape(fields.next()?);
    let source = unescape(fields.next().unwrap_or(""));
    Some(Mount { number, mount_point, fs_type, source })
}

/// Reads `/proc/swaps`: the paths in use, whether files or devices.
#[must_use]
pub fn parse_swaps(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| !line.starts_with("Filename"));
    lines.filter_map(|line| line.split_whitespace().next()).map(unescape).collect()
}

/// Undoes the kernel's `\040` for blank, tab, newline and backslash.
#[must_use]
pub fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes
            .get(at + 1..at + 4)
            .filter(|d| bytes[at] == b'\\' && d.iter().all(|b| matches!(b, b'0'..=b'7')));
        let value =
            digits.and_then(|d| u8::try_from(d.iter().fold(0_u32, |v, b| v * 8 + u32::from(b - b'0'))).ok());
        out.push(value.unwrap_or(bytes[at]));
        at += if value.is_some() { 4 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The tables of the machine, read once: who uses what.
pub struct Claims<'a> {
    sysfs: &'a Sysfs,
    mounts: Vec<Mount>,
    swaps: Vec<String>,
    loops: Vec<Loop>,
}

/// An attached loop device and what it shows.
struct Loop {
    name: String,
    dir: PathBuf,
    path: String,
    /// Device and inode of the backing file.
    file: Option<(u64, u64)>,
    /// The device that is shown, or the one that holds the file shown. Kernels differ in which field
    /// says it; a number too many (that of devtmpfs) is no block device's.
    below: Vec<DeviceNumber>,
}

impl<'a> Claims<'a> {
    /// Reads the tables.
    ///
    /// # Errors
    /// If the mount or swap table cannot be read.
    pub fn read(sysfs: &'a Sysfs) -> io::Result<Claims<'a>> {
        Ok(Claims {
            sysfs,
            mounts: parse_mountinfo(&sysfs.mountinfo()?),
            swaps: parse_swaps(&sysfs.swaps()?),
            loops: attached_loops(sysfs),
        })
    }

    /// Who uses a disk or partition, its partitions, the disk it is a partition of, or what is made
    /// of them. Opens nothing but loop devices; see [`open_exclusively`] for what only an open tells.
    #[must_use]
    pub fn of_device(&self, device: &BlockDevice) -> Vec<Claim> {
        let mut seen = BTreeSet::new();
        let mut claims = Vec::new();
        for (part, subject) in overlapping(device) {
            for claim in self.direct(&part, &mut seen) {
                claims.push(Claim { kind: claim.kind, sentence: claim.sentence_about(&subject) });
            }
        }
        claims.extend(self.of_what_a_loop_shows(device, &mut seen));
        claims.extend(self.of_other_paths(device, &mut seen));
        let mut said = BTreeSet::new();
        claims.retain(|claim| said.insert(claim.sentence.clone()));
        claims
    }

    /// Who uses a regular file.
    #[must_use]
    pub fn of_file(&self, path: &Path) -> Vec<Claim> {
        let Ok(metadata) = fs::metadata(path) else { return Vec::new() };
        let id = (metadata.dev(), metadata.ino());
        let canonical = fs::canonicalize(path).map(|path| path.to_string_lossy().into_owned());
        let same = |other: &str| {
            file_id(Path::new(other)) == Some(id) || canonical.as_deref().is_ok_and(|c| c == other)
        };
        let mut claims = Vec::new();
        if self.swaps.iter().any(|swap| same(swap)) {
            claims.push(Claim { kind: ClaimKind::Swap, sentence: "an active swap file".to_owned() });
        }
        for shown in self.loops.iter().filter(|shown| shown.file == Some(id) || same(&shown.path)) {
            let mut seen = BTreeSet::new();
            let sentence =
                format!("the backing file of {}{}", shown.name, self.consequence(&shown.dir, &mut seen));
            claims.push(Claim { kind: ClaimKind::LoopBacking, sentence });
        }
        claims
    }

    /// The uses of exactly this device or partition.
    fn direct(&self, device: &BlockDevice, seen: &mut BTreeSet<DeviceNumber>) -> Vec<Use> {
        // Devices stacked in a circle would be a bug of the kernel; it must not become ours.
        if !seen.insert(device.number) {
            return Vec::new();
        }
        let mut uses = Vec::new();
        for mount in self.mounts.iter().filter(|mount| self.is_mount_of(mount, device)) {
            uses.push(Use::verb(
                ClaimKind::Mounted,
                format!("mounted on {} ({})", mount.mount_point, mount.fs_type),
            ));
        }
        if let Some(label) = btrfs_member(self.sysfs, device) {
            uses.push(Use::verb(ClaimKind::Mounted, format!("part of the mounted btrfs {label}")));
        }
        if self.swaps.iter().any(|swap| self.is_node_of(swap, device)) {
            uses.push(Use::noun(ClaimKind::Swap, "swap".to_owned()));
        }
        for holder in names(&device.dir.join("holders")) {
            let dir = device.dir.join("holders").join(&holder);
            let text = format!("a member of {}{}", holder_title(&dir, &holder), self.consequence(&dir, seen));
            uses.push(Use::noun(ClaimKind::Holder, text));
        }
        for shown in self.loops.iter().filter(|shown| shown.below.contains(&device.number)) {
            let what = match DeviceNumber::of_block_path(&self.sysfs.locate(Path::new(&shown.path))) {
                Some(_) => format!("shown by {}", shown.name),
                None => format!("the home of {}, which {} shows", shown.path, shown.name),
            };
            let text = format!("{what}{}", self.consequence(&shown.dir, seen));
            uses.push(Use::noun(ClaimKind::LoopBacking, text));
        }
        uses
    }

    /// `, which is mounted on /data (xfs)`: the uses of a device made of another.
    fn consequence(&self, dir: &Path, seen: &mut BTreeSet<DeviceNumber>) -> String {
        let Some(device) = block::describe(dir) else { return String::new() };
        let mut uses: Vec<String> = Vec::new();
        for (part, subject) in overlapping(&device) {
            let named = self.direct(&part, seen).into_iter().map(|found| match subject.as_str() {
                "" => format!("which is {}", found.text),
                subject => format!("whose {subject} is {}", found.text),
            });
            uses.extend(named);
        }
        let more = uses.len().saturating_sub(3);
        let mut text: String = uses.iter().take(3).map(|found| format!(", {found}")).collect();
        if more > 0 {
            text.push_str(&format!(" and {more} more"));
        }
        text
    }

    /// A loop device over another block device: writing to it is writing to the other, so the uses
    /// of the other count, but for the loop device itself.
    fn of_what_a_loop_shows(&self, device: &BlockDevice, seen: &mut BTreeSet<DeviceNumber>) -> Vec<Claim> {
        let Some(path) = device.loop_backing_file() else { return Vec::new() };
        let path = self.sysfs.locate(Path::new(&path));
        let Some(below) =
            DeviceNumber::of_block_path(&path).and_then(|number| block::by_number(self.sysfs, number))
        else {
            return self
                .swaps
                .iter()
                .filter(|swap| file_id(Path::new(swap)).is_some_and(|id| file_id(&path) == Some(id)))
                .map(|swap| Claim { kind: ClaimKind::Swap, sentence: format!("shows {swap}, which is swap") })
                .collect();
        };
        let mut claims = Vec::new();
        for (part, subject) in overlapping(&below) {
            let uses =
                self.direct(&part, seen).into_iter().filter(|found| found.kind != ClaimKind::LoopBacking);
            claims.extend(uses.map(|found| Claim {
                // Not `Mounted`: the user allowed writing to this device, not to the one below it.
                kind: ClaimKind::Holder,
                sentence: format!("shows {}: {}", below.name, found.sentence_about(&subject)),
            }));
        }
        claims
    }

    /// A drive with two ports and no multipath driver is two devices with one world-wide name.
    fn of_other_paths(&self, device: &BlockDevice, seen: &mut BTreeSet<DeviceNumber>) -> Vec<Claim> {
        let own = device.disk.as_ref().unwrap_or(&device.name);
        let Some(wwid) = &device.wwid else { return Vec::new() };
        let mut claims = Vec::new();
        for twin in block::all(self.sysfs).unwrap_or_default() {
            if twin.wwid.as_ref() != Some(wwid) || twin.disk.as_ref().unwrap_or(&twin.name) == own {
                continue;
            }
            claims.extend(self.direct(&twin, seen).into_iter().map(|found| Claim {
                // Not `Mounted`: the user allowed writing to this device, not to the other.
                kind: ClaimKind::Holder,
                sentence: format!("the same drive as {}, which is {}", twin.name, found.text),
            }));
        }
        claims
    }

    fn is_mount_of(&self, mount: &Mount, device: &BlockDevice) -> bool {
        // bcachefs joins its devices with colons; names of disks on a path have them too.
        mount.number == device.number
            || (mount.number.major == 0
                && (self.is_node_of(&mount.source, device)
                    || mount.source.split(':').any(|part| self.is_node_of(part, device))))
    }

    /// Whether a path of one of the tables means this device: by number, or by name where the node
    /// is gone or belongs to another view of the file system.
    fn is_node_of(&self, path: &str, device: &BlockDevice) -> bool {
        if !path.starts_with('/') {
            return false;
        }
        let path = self.sysfs.locate(Path::new(path));
        match fs::metadata(&path) {
            Ok(_) => DeviceNumber::of_block_path(&path) == Some(device.number),
            Err(_) => path.strip_prefix(&self.sysfs.dev).is_ok_and(|name| name == Path::new(&device.name)),
        }
    }
}

/// A use before it is known whose: `mounted on / (ext4)`.
struct Use {
    kind: ClaimKind,
    text: String,
    /// Whether the text is complete without "is".
    verb: bool,
}

impl Use {
    fn verb(kind: ClaimKind, text: String) -> Use {
        Use { kind, text, verb: true }
    }

    fn noun(kind: ClaimKind, text: String) -> Use {
        Use { kind, text, verb: false }
    }

    fn sentence_about(&self, subject: &str) -> String {
        match (subject, self.verb) {
            ("", true) => self.text.clone(),
            ("", false) => self.text.trim_start_matches("a ").to_owned(),
            _ => format!("{subject} is {}", self.text),
        }
    }
}

/// The device, its partitions, or the disk it is part of, with how to name each ("" is itself).
fn overlapping(device: &BlockDevice) -> Vec<(BlockDevice, String)> {
    let mut found = vec![(device.clone(), String::new())];
    for name in &device.partitions {
        found.extend(block::describe(&device.dir.join(name)).map(|part| (part, format!("partition {name}"))));
    }
    if let Some((disk, dir)) = device.disk.as_ref().zip(device.dir.parent()) {
        found.extend(block::describe(dir).map(|whole| (whole, format!("the whole disk {disk}"))));
    }
    found
}

/// `md0 (raid1)`, `dm-0 (vg-root)`, `bcache0`.
fn holder_title(dir: &Path, name: &str) -> String {
    let detail = ["dm/name", "md/level"].iter().find_map(|file| attribute(&dir.join(file)));
    detail.map_or_else(|| name.to_owned(), |detail| format!("{name} ({detail})"))
}

/// The label or id of a mounted btrfs with this device: its mount line names one device only.
fn btrfs_member(sysfs: &Sysfs, device: &BlockDevice) -> Option<String> {
    let dir = sysfs.sys.join("fs/btrfs");
    names(&dir).into_iter().find_map(|id| {
        let found = fs::canonicalize(dir.join(&id).join("devices").join(&device.name)).ok()?;
        (found == device.dir).then(|| attribute(&dir.join(&id).join("label")).unwrap_or(id))
    })
}

fn file_id(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

fn attached_loops(sysfs: &Sysfs) -> Vec<Loop> {
    let dir = sysfs.sys.join("block");
    let loops = names(&dir).into_iter().filter(|name| name.starts_with("loop"));
    loops
        .filter_map(|name| {
            let dir = dir.join(&name);
            let path = attribute(&dir.join("loop/backing_file"))?;
            let node = sysfs.dev.join(&name);
            let number = attribute(&dir.join("dev")).and_then(|text| DeviceNumber::parse(&text));
            let told = (number.is_some() && DeviceNumber::of_block_path(&node) == number)
                .then(|| loop_status(&node).ok())
                .flatten();
            let located = sysfs.locate(Path::new(&path));
            let shown = DeviceNumber::of_block_path(&located);
            let by_path = file_id(&located);
            // The ioctl knows files that were renamed or belong to another mount namespace; the path
            // is what is left to those who may not open the device.
            let file = told.as_ref().map(|told| (told.device, told.inode)).or(by_path);
            let raw = [told.as_ref().map(|told| told.shown_device), file.map(|(device, _)| device)];
            let below = raw.into_iter().flatten().map(DeviceNumber::from_raw).chain(shown).collect();
            Some(Loop { name, dir, path, file, below })
        })
        .collect()
}

/// What LOOP_GET_STATUS64 tells of the backing file.
struct LoopStatus {
    device: u64,
    inode: u64,
    shown_device: u64,
}

fn loop_status(node: &Path) -> io::Result<LoopStatus> {
    const LOOP_GET_STATUS64: rustix::ioctl::Opcode = 0x4C05;
    /// `struct loop_info64` is 232 bytes; its first three words are what is asked for.
    type Info = [u64; 29];
    let file = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(node)?;
    // SAFETY: the opcode makes the kernel write one loop_info64, of which `Info` has the size, and all
    // of whose bit patterns are values of `Info`.
    let getter = unsafe { rustix::ioctl::Getter::<LOOP_GET_STATUS64, Info>::new() };
    // SAFETY: `getter` describes what the kernel does (above); `file` is open for the call.
    let info = unsafe { rustix::ioctl::ioctl(&file, getter) }?;
    Ok(LoopStatus { device: info[0], inode: info[1], shown_device: info[2] })
}

/// Opens a block device so that nobody can mount, swap to, or stack upon it while the file is open.
/// Reads only: closing a device that was open for writing makes udev look at it.
///
/// # Errors
/// `ResourceBusy` (EBUSY) if somebody else has it so, and what else `open` says.
pub fn open_exclusively(path: &Path) -> io::Result<File> {
    fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_EXCL | libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)
}

/// A program that has a device open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opener {
    /// Process id.
    pub pid: u32,
    /// Name of its program.
    pub program: String,
    /// Whether it can write.
    pub writes: bool,
}

impl fmt::Display for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.program, self.pid)
    }
}

/// The other programs that have the device, a partition of it, or its disk open, as far as this
/// user may see. A virtual machine writes to its disk without claiming it: only this tells.
#[must_use]
pub fn openers(sysfs: &Sysfs, device: &BlockDevice) -> Vec<Opener> {
    let numbers: Vec<DeviceNumber> = overlapping(device).iter().map(|(part, _)| part.number).collect();
    openers_of(sysfs, |path| {
        DeviceNumber::of_block_path(path).is_some_and(|number| numbers.contains(&number))
    })
}

/// The other programs that have one of these character devices open, as far as this user may see.
#[must_use]
pub fn character_openers(sysfs: &Sysfs, numbers: &[DeviceNumber]) -> Vec<Opener> {
    openers_of(sysfs, |path| {
        fs::metadata(path).is_ok_and(|metadata| {
            metadata.file_type().is_char_device()
                && numbers.contains(&DeviceNumber::from_raw(metadata.rdev()))
        })
    })
}

fn openers_of(sysfs: &Sysfs, is_meant: impl Fn(&Path) -> bool) -> Vec<Opener> {
    let own = std::process::id();
    let pids = names(&sysfs.proc).into_iter().filter_map(|name| name.parse::<u32>().ok());
    pids.filter(|pid| *pid != own)
        .filter_map(|pid| opener(&sysfs.proc.join(pid.to_string()), pid, &is_meant))
        .collect()
}

fn opener(dir: &Path, pid: u32, is_meant: impl Fn(&Path) -> bool) -> Option<Opener> {
    let mut found: Option<Opener> = None;
    for fd in names(&dir.join("fd")) {
        let link = dir.join("fd").join(&fd);
        // Only nodes below /dev are looked at: a file on a dead network would make this wait.
        if !fs::read_link(&link).is_ok_and(|target| target.starts_with("/dev")) {
            continue;
        }
        if !is_meant(&link) {
            continue;
        }
        let info = attribute(&dir.join("fdinfo").join(&fd)).unwrap_or_default();
        let flags = info
            .lines()
            .find_map(|line| i32::from_str_radix(line.strip_prefix("flags:")?.trim(), 8).ok())
            .unwrap_or(0);
        let program = attribute(&dir.join("comm")).unwrap_or_else(|| "a program".to_owned());
        let entry = found.get_or_insert(Opener { pid, program, writes: false });
        entry.writes |= flags & libc::O_ACCMODE != libc::O_RDONLY;
    }
    found
}
