//! The guard: what may be written to, and what the user must say first.
//!
//! A benchmark destroys what it writes to. In doubt the answer is no, with the reason and with what
//! to do about it.

mod namespace;

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;

use super::block::{self, BlockDevice, DeviceNumber};
use super::claims::{self, Claim, ClaimKind, Claims};
use super::pin::{self, Pin, PinnedFile, Pins};
use super::signature::{self, Found};
use super::{DeviceSummary, Sysfs, printable};
use crate::base::units::format_size;

pub use namespace::{Namespace, check_namespace};

/// What the user allowed.
#[derive(Clone, Copy, Debug, Default)]
pub struct WriteOptions<'a> {
    /// fio's `allow_mounted_write`: a mounted file system is no reason to refuse. All other
    /// reasons stay.
    pub allow_mounted_write: bool,
    /// `--destroy`: serial numbers or paths of devices whose data may be destroyed.
    pub destroy: &'a [String],
}

/// What kind of reason a refusal has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// Somebody uses it.
    InUse,
    /// It holds data, and the user has not said that it may be destroyed.
    HoldsData,
    /// It cannot be written to.
    ReadOnly,
    /// It is nothing that a run can write to: a directory, a FIFO, a file of the kernel.
    NotATarget,
    /// It cannot be told whether writing is safe: permission, errors of the machine.
    CannotTell,
    /// A controller that is not bound to a driver for user space.
    NotBound,
}

/// Why a target is refused, who uses it and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What kind of reason.
    pub kind: RefusalKind,
    /// The target, as `/dev/disk/by-id/x → /dev/sda (1TiB, serial S1)`.
    pub target: String,
    /// One sentence each.
    pub reasons: Vec<String>,
    /// What to do.
    pub advice: String,
    /// Who uses it, where somebody does.
    pub claims: Vec<Claim>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reasons = printable(&self.reasons.join("; "));
        let verb = if self.kind == RefusalKind::NotBound { "cannot drive" } else { "refusing to write to" };
        write!(f, "{verb} {}: {reasons}", printable(&self.target))?;
        if self.advice.is_empty() { Ok(()) } else { write!(f, "\n  {}", printable(&self.advice)) }
    }
}

impl std::error::Error for Refusal {}

/// What a consent is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetKind {
    /// A block device.
    Block,
    /// A regular file that exists.
    File,
    /// A regular file that does not exist yet.
    NewFile,
    /// `/dev/null`, `/dev/zero`, `/dev/full`.
    Sink,
}

/// The guard's yes. Keep it for as long as the target is written to.
#[derive(Clone, Debug)]
pub struct Consent {
    /// What is destroyed, for the user: `/dev/loop0 (64MiB, holds ext4) will be overwritten`.
    pub sentence: String,
    /// What it is.
    pub kind: TargetKind,
    /// The path without symbolic links.
    pub canonical: PathBuf,
    /// The device, if it is one.
    pub device: Option<DeviceSummary>,
    /// What is on it, if something is.
    pub holds: Option<String>,
    /// While this is open nobody can mount the device. `None` for files, and for a device that is
    /// mounted already (`allow_mounted_write`).
    pub claim: Option<Arc<File>>,
}

/// Checks one target. A run with several should use one [`Guard`]: two checks of one device would
/// find each other's claim.
///
/// # Errors
/// A [`Refusal`].
pub fn check_writable(path: &Path, options: &WriteOptions<'_>) -> Result<Consent, Refusal> {
    Guard::default().check_writable(path, options)
}

/// Checks the targets of a run. Several jobs may name the same one.
#[derive(Debug, Default)]
pub struct Guard {
    sysfs: Sysfs,
    held: Vec<Held>,
}

#[derive(Debug)]
struct Held {
    number: DeviceNumber,
    name: String,
    /// The disk, itself if it is one.
    disk: String,
    claim: Option<Arc<File>>,
}

impl Guard {
    /// A guard of the machine that `sysfs` describes.
    #[must_use]
    pub fn new(sysfs: Sysfs) -> Guard {
        Guard { sysfs, held: Vec::new() }
    }

    /// Whether `path` may be written to, as it is now. A run checks what it has pinned: [`Guard::check`].
    ///
    /// # Errors
    /// A [`Refusal`].
    pub fn check_writable(&mut self, path: &Path, options: &WriteOptions<'_>) -> Result<Consent, Refusal> {
        self.check(&Pins::default().pin(path), options)
    }

    /// Whether what is pinned may be written to. Everything is asked of the open descriptor, so that the
    /// answer holds whatever the path leads to later.
    ///
    /// # Errors
    /// A [`Refusal`].
    pub fn check(&mut self, pin: &Pin, options: &WriteOptions<'_>) -> Result<Consent, Refusal> {
        let path = pin.path();
        if path == OsStr::new("") {
            return Err(refusal(RefusalKind::NotATarget, "``".to_owned(), "the name is empty".to_owned()));
        }
        let looked = match pin.existing() {
            Ok(file) => file.metadata().map(|metadata| (file, metadata)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.new_file(pin),
            Err(error) => Err(error),
        };
        let (file, metadata) = looked.map_err(|error| cannot_tell(path.display(), "look at it", &error))?;
        let subject = Subject { path: path.to_owned(), canonical: pin.canonical() };
        if file.kind().is_block_device() {
            self.block(&subject, &file, &metadata, options)
        } else if file.kind().is_file() {
            self.file(&subject, &file, &metadata)
        } else {
            other(&subject, &metadata)
        }
    }

    fn block(
        &mut self,
        subject: &Subject,
        file: &PinnedFile,
        metadata: &Metadata,
        options: &WriteOptions<'_>,
    ) -> Result<Consent, Refusal> {
        let number = DeviceNumber::from_raw(metadata.rdev());
        let device = block::by_number(&self.sysfs, number).ok_or_else(|| Refusal {
            advice: "The node is stale, or sysfs is not mounted.".to_owned(),
            ..refusal(
                RefusalKind::CannotTell,
                subject.title(""),
                format!("the kernel has no block device {number}"),
            )
        })?;
        let title = subject.title(&facts(&device));
        let claims =
            Claims::read(&self.sysfs).map_err(|error| cannot_tell(&title, "see who uses it", &error))?;
        let mut claims = claims.of_device(&device);
        let mounted = claims.iter().any(|claim| claim.kind == ClaimKind::Mounted);
        if options.allow_mounted_write {
            claims.retain(|claim| claim.kind != ClaimKind::Mounted);
        }
        if claims.is_empty() {
            let writers = claims::openers(&self.sysfs, &device).into_iter().filter(|opener| opener.writes);
            claims.extend(writers.map(|opener| Claim {
                kind: ClaimKind::OpenElsewhere,
                sentence: format!("open for writing in {opener}"),
            }));
        }
        if !claims.is_empty() {
            return Err(in_use(title, claims));
        }
        self.not_overlapping(&device, &title)?;
        if device.read_only {
            return Err(Refusal {
                advice: "Make it writable first (blockdev --setrw), or only read from it.".to_owned(),
                ..refusal(RefusalKind::ReadOnly, title, "the device is read-only".to_owned())
            });
        }
        if device.size_bytes == 0 {
            return Err(refusal(
                RefusalKind::NotATarget,
                title,
                "it has no size: nothing is behind it".to_owned(),
            ));
        }
        let (claim, reader) = self.open(file, &device, &title, mounted && options.allow_mounted_write)?;
        let found = read_signatures(&reader, device.size_bytes);
        let holds = holds_data(&device, &found);
        if let Some(holds) = &holds
            && !destroy_covers(options.destroy, device.serial.as_deref(), &subject.names(), Some(number))
        {
            return Err(Refusal {
                advice: format!(
                    "If its data may be destroyed, say so: --destroy={}",
                    device.serial.as_deref().map_or_else(|| subject.canonical.display().to_string(), quoted)
                ),
                ..refusal(RefusalKind::HoldsData, title, format!("it {holds}"))
            });
        }
        self.hold(&device, claim.clone());
        let detail = holds.as_deref().map(|holds| format!(", {holds}")).unwrap_or_default();
        Ok(Consent {
            sentence: format!(
                "{} will be overwritten",
                subject.title(&format!("{}{detail}", facts(&device)))
            ),
            kind: TargetKind::Block,
            canonical: subject.canonical.clone(),
            device: Some(device.summary()),
            holds,
            claim,
        })
    }

    /// A handle to read with, and where the device is not mounted it is a claim too.
    fn open(
        &self,
        pinned: &PinnedFile,
        device: &BlockDevice,
        title: &str,
        shared: bool,
    ) -> Result<(Option<Arc<File>>, Arc<File>), Refusal> {
        if let Some(held) = self.held.iter().find(|held| held.number == device.number)
            && let Some(claim) = &held.claim
        {
            return Ok((Some(claim.clone()), claim.clone()));
        }
        // For reading only: of a device that was open for writing udev would say that it has changed.
        let mut flags = OFlags::RDONLY | OFlags::NONBLOCK;
        flags.set(OFlags::EXCL, !shared);
        let file = pinned.open(flags).map_err(|error| {
            if pin::is_replaced(&error) {
                return refusal(RefusalKind::NotATarget, title.to_owned(), error.to_string());
            }
            if error.kind() != io::ErrorKind::ResourceBusy {
                return cannot_tell(title, "open it", &error);
            }
            let who: Vec<String> =
                claims::openers(&self.sysfs, device).iter().map(ToString::to_string).collect();
            let who =
                if who.is_empty() { "another program or the kernel".to_owned() } else { who.join(", ") };
            let sentence = format!("open exclusively by {who}");
            in_use(title.to_owned(), vec![Claim { kind: ClaimKind::OpenElsewhere, sentence }])
        })?;
        let file = Arc::new(file);
        Ok(((!shared).then(|| file.clone()), file))
    }

    /// A disk and its partition are the same bytes; two targets that overlap are a mistake.
    fn not_overlapping(&self, device: &BlockDevice, title: &str) -> Result<(), Refusal> {
        let disk = device.disk.as_ref().unwrap_or(&device.name);
        let whole = |name: &str| name == disk;
        let Some(held) = self.held.iter().find(|held| {
            held.disk == *disk && held.number != device.number && (whole(&held.name) || whole(&device.name))
        }) else {
            return Ok(());
        };
        Err(Refusal {
            advice: "Write to the disk or to its partitions, not to both.".to_owned(),
            ..refusal(
                RefusalKind::InUse,
                title.to_owned(),
                format!("this run already writes to {}", held.name),
            )
        })
    }

    fn hold(&mut self, device: &BlockDevice, claim: Option<Arc<File>>) {
        if self.held.iter().any(|held| held.number == device.number) {
            return;
        }
        let disk = device.disk.clone().unwrap_or_else(|| device.name.clone());
        self.held.push(Held { number: device.number, name: device.name.clone(), disk, claim });
    }

    fn file(&self, subject: &Subject, file: &PinnedFile, metadata: &Metadata) -> Result<Consent, Refusal> {
        let facts = format!("existing file, {}", format_size(metadata.len()));
        let title = subject.title(&facts);
        if let Some(kernel) = kernel_file_system(file.way()) {
            return Err(refusal(
                RefusalKind::NotATarget,
                title,
                format!("it is a file of the kernel ({kernel})"),
            ));
        }
        if self.is_device_directory(subject.canonical.parent()) {
            return Err(Refusal {
                advice: "Somebody wrote to a device that was not there. Remove the file.".to_owned(),
                ..refusal(
                    RefusalKind::NotATarget,
                    title,
                    "it is an ordinary file among the device nodes".to_owned(),
                )
            });
        }
        let claims =
            Claims::read(&self.sysfs).map_err(|error| cannot_tell(&title, "see who uses it", &error))?;
        let claims = claims.of_file(file.way());
        if !claims.is_empty() {
            let advice = "Detach it first (losetup -d, swapoff), or choose another file.".to_owned();
            return Err(Refusal { advice, ..in_use(title, claims) });
        }
        Ok(consent(TargetKind::File, subject, format!("{title} will be overwritten")))
    }

    fn new_file(&self, pin: &Pin) -> Result<Consent, Refusal> {
        let path = pin.path();
        let missing = pin.missing_directory();
        if missing.is_some() || !pin.is_new() {
            let shown = missing.as_deref().or(path.parent()).unwrap_or(path).display();
            let error = io::Error::from(rustix::io::Errno::NOENT);
            return Err(Refusal {
                advice: format!("The directory {shown} must exist."),
                ..cannot_tell(path.display(), "create it", &error)
            });
        }
        let canonical = pin.canonical();
        let parent = canonical.parent().unwrap_or(Path::new("/")).to_owned();
        if self.is_device_directory(Some(&parent)) {
            return Err(Refusal {
                advice: "Look at the name: a file made there would fill the memory. `fio-spdk devices` lists devices."
                    .to_owned(),
                ..refusal(RefusalKind::NotATarget, path.display().to_string(), "there is no such device".to_owned())
            });
        }
        if let Some(kernel) = kernel_file_system(&pin.place()) {
            let reason = format!("its directory is the kernel's ({kernel})");
            return Err(refusal(RefusalKind::NotATarget, path.display().to_string(), reason));
        }
        let subject = Subject { path: path.to_owned(), canonical };
        let sentence = format!("{} will be created", subject.title(""));
        Ok(consent(TargetKind::NewFile, &subject, sentence))
    }

    /// Whether a directory is one of device nodes; memory file systems below it are not.
    fn is_device_directory(&self, directory: Option<&Path>) -> bool {
        let Some(directory) = directory else { return false };
        let Ok(root) = fs::canonicalize(&self.sysfs.dev) else { return false };
        let device = |path: &Path| fs::metadata(path).ok().map(|metadata| metadata.dev());
        directory.starts_with(&root)
            && !directory.starts_with(root.join("shm"))
            && device(directory) == device(&root)
    }
}

/// A target as it was named and as it is.
struct Subject {
    path: PathBuf,
    canonical: PathBuf,
}

impl Subject {
    /// `/dev/disk/by-id/x → /dev/sda (facts)`.
    fn title(&self, facts: &str) -> String {
        let mut title = self.path.display().to_string();
        if self.path != self.canonical {
            title = format!("{title} → {}", self.canonical.display());
        }
        if facts.is_empty() { title } else { format!("{title} ({facts})") }
    }

    fn names(&self) -> [&Path; 2] {
        [&self.path, &self.canonical]
    }
}

/// Whether one of the names that the user gave with `--destroy` is this device: its serial number,
/// a path by which it is known, or any path that leads to the same device.
#[must_use]
pub fn destroy_covers(
    destroy: &[String],
    serial: Option<&str>,
    names: &[&Path],
    number: Option<DeviceNumber>,
) -> bool {
    destroy.iter().map(|given| given.trim()).filter(|given| !given.is_empty()).any(|given| {
        serial.is_some_and(|serial| serial.trim() == given)
            || names.contains(&Path::new(given))
            || (number.is_some()
                && given.contains('/')
                && DeviceNumber::of_block_path(Path::new(given)) == number)
    })
}

/// The signatures on an open block device.
#[must_use]
pub fn read_signatures(file: &File, size_bytes: u64) -> Found {
    let found = signature::detect(size_bytes, &mut |offset, buffer| file.read_at(buffer, offset));
    // What was read for this must not answer the reads of the run from memory. It is a wish only.
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
    found
}

/// `holds ext4`, `has the partitions sda1, sda2`, …
fn holds_data(device: &BlockDevice, found: &Found) -> Option<String> {
    if let Some(sentence) = found.sentence() {
        return Some(format!("holds {sentence}"));
    }
    if !device.partitions.is_empty() {
        return Some(format!("has the partitions {}", device.partitions.join(", ")));
    }
    let error = found.unreadable.as_ref()?;
    Some(format!("may hold anything: reading it failed ({error})"))
}

fn facts(device: &BlockDevice) -> String {
    let mut parts = vec![format_size(device.size_bytes)];
    parts.extend(device.model.clone());
    parts.extend(device.serial.as_ref().map(|serial| format!("serial {serial}")));
    parts.join(", ")
}

fn quoted(serial: &str) -> String {
    if serial.contains(char::is_whitespace) { format!("'{serial}'") } else { serial.to_owned() }
}

fn consent(kind: TargetKind, subject: &Subject, sentence: String) -> Consent {
    Consent { sentence, kind, canonical: subject.canonical.clone(), device: None, holds: None, claim: None }
}

fn refusal(kind: RefusalKind, target: String, reason: String) -> Refusal {
    Refusal { kind, target, reasons: vec![reason], advice: String::new(), claims: Vec::new() }
}

fn cannot_tell(target: impl fmt::Display, what: &str, error: &io::Error) -> Refusal {
    let advice = match error.kind() {
        io::ErrorKind::PermissionDenied => "Run as a user who may (root, or the group `disk` for devices).",
        _ => "",
    };
    let reason = format!("cannot {what}: {error}");
    Refusal { advice: advice.to_owned(), ..refusal(RefusalKind::CannotTell, target.to_string(), reason) }
}

fn in_use(target: String, claims: Vec<Claim>) -> Refusal {
    let has = |kind| claims.iter().any(|claim| claim.kind == kind);
    let advice = if has(ClaimKind::Mounted) {
        "Unmount it first, or choose another device."
    } else if has(ClaimKind::Swap) {
        "Switch it off first (swapoff), or choose another device."
    } else if has(ClaimKind::Holder) {
        "Stop what is made of it first (mdadm --stop, vgchange -an, dmsetup remove), or choose another device."
    } else if has(ClaimKind::LoopBacking) {
        "Detach the loop device first (losetup -d), or choose another device."
    } else {
        "End that program first, or choose another device."
    };
    Refusal {
        kind: RefusalKind::InUse,
        target,
        reasons: claims.iter().map(|claim| claim.sentence.clone()).collect(),
        advice: advice.to_owned(),
        claims,
    }
}

/// What is neither a file nor a block device.
fn other(subject: &Subject, metadata: &Metadata) -> Result<Consent, Refusal> {
    let kind = metadata.file_type();
    let number = DeviceNumber::from_raw(metadata.rdev());
    // null, zero and full swallow what is written.
    if kind.is_char_device() && number.major == 1 && [3, 5, 7].contains(&number.minor) {
        let sentence = format!("{} swallows what is written", subject.title(""));
        return Ok(consent(TargetKind::Sink, subject, sentence));
    }
    let (what, advice) = if kind.is_dir() {
        ("a directory", "Name a file in it (fio's `directory` and `filename`).")
    } else if kind.is_fifo() {
        ("a FIFO", "Name a file or a block device.")
    } else if kind.is_socket() {
        ("a socket", "Name a file or a block device.")
    } else {
        ("a character device", "Name its block device (/dev/nvme0n1 for /dev/ng0n1).")
    };
    let reason = format!("it is {what}");
    Err(Refusal { advice: advice.to_owned(), ..refusal(RefusalKind::NotATarget, subject.title(""), reason) })
}

/// The name of the kernel's own file system that a path lies on. Writing there sets switches of the
/// machine; efivarfs can make it unbootable.
fn kernel_file_system(path: &Path) -> Option<&'static str> {
    const KERNEL: &[(u64, &str)] = &[
        (0x9fa0, "procfs"),
        (0x6265_6572, "sysfs"),
        (0x0027_e0eb, "cgroup"),
        (0x6367_7270, "cgroup2"),
        (0x6462_6720, "debugfs"),
        (0x7472_6163, "tracefs"),
        (0x7363_6673, "securityfs"),
        (0x6265_6570, "configfs"),
        (0xde5e_81e4, "efivarfs"),
        (0xcafe_4a11, "bpf"),
        (0x6165_676c, "pstore"),
        (0xf97c_ff8c, "selinuxfs"),
        (0x1cd1, "devpts"),
    ];
    let magic = u64::try_from(rustix::fs::statfs(path).ok()?.f_type).ok()? & 0xffff_ffff;
    KERNEL.iter().find(|(known, _)| *known == magic).map(|(_, name)| *name)
}
