//! The guard against real block devices: loop devices over files in a temporary directory.
//!
//! Needs root, losetup, mkfs.ext4, mount, mkswap and parted; where something is missing the trials
//! that need it are ignored and say so.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that is a program of its own")]

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hasher};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use fio_spdk::base::host::claims::ClaimKind;
use fio_spdk::base::host::target::{RefusalKind, TargetKind};
use fio_spdk::base::host::{Consent, Guard, Refusal, Sysfs, WriteOptions, block, check_writable};
use libtest_mimic::{Arguments, Failed, Trial};

type Test = fn();

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // One at a time: a program that one trial starts has the descriptors of the others for a moment.
    arguments.test_threads = Some(1);
    let tests: &[(&str, &[&str], Test)] = &[
        ("a_clean_device_is_free_and_stays_as_it_was", &[], clean_device),
        ("a_claim_keeps_others_away_until_it_is_dropped", &["mkfs.ext4", "mount"], claim_keeps_others_away),
        ("a_mounted_device_is_refused_by_any_name", &["mkfs.ext4", "mount", "mknod"], mounted_by_any_name),
        ("allow_mounted_write_lifts_only_the_mount", &["mkfs.ext4", "mount"], allow_mounted_write),
        ("a_bind_mount_alone_is_a_mount", &["mkfs.ext4", "mount", "umount"], bind_mount),
        ("a_mount_in_another_namespace_is_found", &["mkfs.ext4", "mount", "unshare"], other_namespace),
        (
            "a_mounted_partition_claims_the_disk_and_not_its_sibling",
            &["mkfs.ext4", "mount", "parted"],
            partition,
        ),
        ("a_disk_held_elsewhere_claims_its_partitions", &["parted"], held_disk),
        ("swap_on_a_device_is_refused", &["mkswap", "swapon"], swap_device),
        ("a_swap_file_is_refused", &["mkswap", "swapon"], swap_file),
        ("a_file_shown_by_a_loop_device_is_refused_by_any_name", &[], loop_file),
        ("a_device_shown_by_a_loop_device_is_refused", &[], loop_over_loop),
        ("a_signature_needs_destroy", &["mkfs.ext4"], signature),
        ("a_partition_table_needs_destroy", &["parted"], partition_table),
        ("signatures_of_real_tools_are_named", &["mke2fs", "mkswap", "parted"], real_signatures),
        ("a_mount_that_is_only_lazily_gone_is_found", &["mkfs.ext4", "mount", "umount"], lazy_umount),
        ("an_exclusive_open_elsewhere_is_refused", &[], exclusive_elsewhere),
        ("a_writer_that_claims_nothing_is_found", &["sh"], silent_writer),
        ("a_read_only_device_is_refused", &[], read_only),
        ("a_file_on_a_mounted_loop_device_is_a_file", &["mkfs.ext4", "mount"], file_on_loop),
        ("several_jobs_may_share_a_target_but_not_overlap", &["parted"], sharing),
        ("what_is_no_target_is_refused", &["mkfifo"], no_target),
        ("a_stale_node_is_refused", &["mknod"], stale_node),
        ("the_loop_device_says_what_it_is", &[], description),
    ];
    let root = rustix::process::geteuid().is_root();
    let trials = tests.iter().map(|&(name, tools, test)| {
        let missing = tools.iter().chain(&["losetup"]).find(|tool| !in_path(tool));
        let why = match missing {
            _ if !root => Some("needs root".to_owned()),
            Some(tool) => Some(format!("needs {tool}")),
            None if !Path::new("/dev/loop-control").exists() => Some("needs loop devices".to_owned()),
            None => None,
        };
        if let Some(why) = &why {
            eprintln!("skipped: {name}: {why}");
        }
        let run = move || -> Result<(), Failed> {
            test();
            Ok(())
        };
        Trial::test(name, run).with_ignored_flag(why.is_some())
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn in_path(tool: &str) -> bool {
    ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].iter().any(|dir| Path::new(dir).join(tool).exists())
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A loop device over a file of zeros, and a directory. What was attached is detached at the end,
/// also when the test fails.
struct Rig {
    device: String,
    dir: tempfile::TempDir,
    undo: Vec<(&'static str, String)>,
}

impl Rig {
    fn new() -> Rig {
        Rig::with(&[])
    }

    fn with(options: &[&str]) -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        File::create(&image).unwrap().set_len(64 << 20).unwrap();
        let image = image.to_str().unwrap().to_owned();
        let device = run("losetup", &[options, &["--find", "--show", &image]].concat());
        Rig { undo: vec![("losetup -d", device.clone())], device, dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn mkfs(&self) {
        run("mkfs.ext4", &["-q", &self.device]);
    }

    /// Mounts `source` on a directory with a blank in its name.
    fn mount(&mut self, source: &str, options: &[&str]) -> String {
        let point = self.path(&format!("mount point {}", self.undo.len()));
        fs::create_dir(&point).unwrap();
        let point = point.to_str().unwrap().to_owned();
        run("mount", &[options, &[source, &point]].concat());
        self.undo.push(("umount", point.clone()));
        point
    }

    /// Two partitions.
    fn partitions(&self) -> [String; 2] {
        run(
            "parted",
            &[
                "-s",
                &self.device,
                "mklabel",
                "gpt",
                "mkpart",
                "a",
                "1MiB",
                "30MiB",
                "mkpart",
                "b",
                "30MiB",
                "60MiB",
            ],
        );
        let names = [format!("{}p1", self.device), format!("{}p2", self.device)];
        for _ in 0..3000 {
            if names.iter().all(|name| Path::new(name).exists()) {
                return names;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("no partitions of {}", self.device);
    }

    fn hash(&self) -> u64 {
        run("blockdev", &["--flushbufs", &self.device]);
        let mut hasher = DefaultHasher::new();
        hasher.write(&fs::read(self.path("image")).unwrap());
        hasher.finish()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        for (command, argument) in self.undo.iter().rev() {
            let mut words = command.split(' ');
            let _ = Command::new(words.next().unwrap()).args(words).arg(argument).output();
        }
    }
}

fn check(path: impl AsRef<Path>) -> Result<Consent, Refusal> {
    check_writable(path.as_ref(), &WriteOptions::default())
}

fn check_destroying(path: impl AsRef<Path>, destroy: &str) -> Result<Consent, Refusal> {
    let destroy = [destroy.to_owned()];
    check_writable(path.as_ref(), &WriteOptions { allow_mounted_write: false, destroy: &destroy })
}

/// Refused, also with `--destroy`, for a reason of this kind that contains `part`.
#[track_caller]
fn assert_in_use(path: impl AsRef<Path>, kind: ClaimKind, part: &str) {
    let path = path.as_ref();
    let refusal = check_destroying(path, path.to_str().unwrap()).expect_err("refused");
    assert_eq!(refusal.kind, RefusalKind::InUse, "{refusal}");
    let found = refusal.claims.iter().any(|claim| claim.kind == kind && claim.sentence.contains(part));
    assert!(found, "no {kind:?} with `{part}` in: {refusal}");
    assert!(!refusal.advice.is_empty());
}

fn clean_device() {
    let rig = Rig::new();
    let before = rig.hash();
    let consent = check(&rig.device).unwrap();
    assert_eq!(consent.kind, TargetKind::Block);
    assert_eq!(consent.sentence, format!("{} (64MiB) will be overwritten", rig.device));
    assert_eq!(consent.device.as_ref().unwrap().size_bytes, 64 << 20);
    assert!(consent.claim.is_some() && consent.holds.is_none());
    drop(consent);
    assert_eq!(rig.hash(), before);
}

fn claim_keeps_others_away() {
    let rig = Rig::new();
    rig.mkfs();
    let before = rig.hash();
    let consent = check_destroying(&rig.device, &rig.device).unwrap();
    assert_eq!(consent.sentence, format!("{} (64MiB, holds ext4) will be overwritten", rig.device));
    let point = rig.path("point");
    fs::create_dir(&point).unwrap();
    let mount = || Command::new("mount").arg(&rig.device).arg(&point).output().unwrap().status.success();
    assert!(!mount(), "mounted under our feet");
    // Those who write to it for the run open it as usual.
    let file = File::options().read(true).write(true).open(&rig.device).unwrap();
    drop(file);
    drop(consent);
    assert_eq!(rig.hash(), before);
    assert!(mount());
    run("umount", &[point.to_str().unwrap()]);
}

fn mounted_by_any_name() {
    let mut rig = Rig::new();
    rig.mkfs();
    let device = rig.device.clone();
    let point = rig.mount(&device, &[]);
    let sentence = format!("mounted on {point} (ext4)");
    let name = Path::new(&rig.device).file_name().unwrap().to_str().unwrap().to_owned();
    // As udev's links are: relative, in a directory of their own.
    let by_id = rig.path("by-id");
    symlink(&rig.device, &by_id).unwrap();
    let twice = rig.path("twice");
    symlink("by-id", &twice).unwrap();
    let node = rig.path("node");
    let minor = name.trim_start_matches("loop").to_owned();
    let minor = fs::read_to_string(format!("/sys/block/loop{minor}/dev")).unwrap();
    let (major, minor) = minor.trim().split_once(':').unwrap();
    run("mknod", &[node.to_str().unwrap(), "b", major, minor]);
    let file = File::open(&rig.device).unwrap();
    let descriptor = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    for path in [
        PathBuf::from(&rig.device),
        PathBuf::from(format!("/dev/../dev/./{name}")),
        by_id.clone(),
        twice,
        node,
        PathBuf::from(descriptor),
    ] {
        assert_in_use(&path, ClaimKind::Mounted, &sentence);
    }
    let said = check(&by_id).unwrap_err().to_string();
    assert!(said.contains(&format!("{} → {}", by_id.display(), rig.device)), "{said}");
}

fn allow_mounted_write() {
    let mut rig = Rig::new();
    rig.mkfs();
    let device = rig.device.clone();
    rig.mount(&device, &[]);
    let allowed = |destroy: &[String]| {
        check_writable(Path::new(&device), &WriteOptions { allow_mounted_write: true, destroy })
    };
    assert_eq!(allowed(&[]).unwrap_err().kind, RefusalKind::HoldsData);
    let consent = allowed(std::slice::from_ref(&device)).unwrap();
    assert!(consent.claim.is_none());
    let over = run("losetup", &["--find", "--show", rig.path("image").to_str().unwrap()]);
    rig.undo.push(("losetup -d", over));
    assert_in_use(rig.path("image"), ClaimKind::LoopBacking, "loop");
}

fn bind_mount() {
    let mut rig = Rig::new();
    rig.mkfs();
    let device = rig.device.clone();
    let first = rig.mount(&device, &[]);
    let sub = format!("{first}/sub");
    fs::create_dir(&sub).unwrap();
    let second = rig.mount(&sub, &["--bind"]);
    run("umount", &[&first]);
    assert_in_use(&rig.device, ClaimKind::Mounted, &format!("mounted on {second} (ext4)"));
}

fn other_namespace() {
    let rig = Rig::new();
    rig.mkfs();
    let point = rig.path("hidden");
    fs::create_dir(&point).unwrap();
    let script = format!("mount {} {} && echo up && cat", rig.device, point.display());
    let mut child = Command::new("unshare")
        .args(["-m", "--propagation", "private", "sh", "-c", &script])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = [0; 3];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
    let refusal = check_destroying(&rig.device, &rig.device);
    // Not even the user's word lifts a mount that cannot be seen.
    let both = [rig.device.clone()];
    let allowed =
        check_writable(Path::new(&rig.device), &WriteOptions { allow_mounted_write: true, destroy: &both });
    drop(child.stdin.take());
    child.wait().unwrap();
    assert_eq!(refusal.unwrap_err().claims[0].kind, ClaimKind::OpenElsewhere);
    assert_eq!(allowed.unwrap_err().claims[0].kind, ClaimKind::OpenElsewhere);
}

fn partition() {
    let mut rig = Rig::with(&["-P"]);
    let [first, second] = rig.partitions();
    run("mkfs.ext4", &["-q", &first]);
    let point = rig.mount(&first, &[]);
    assert_in_use(&first, ClaimKind::Mounted, &format!("mounted on {point} (ext4)"));
    let name = first.trim_start_matches("/dev/");
    assert_in_use(&rig.device, ClaimKind::Mounted, &format!("partition {name} is mounted on {point} (ext4)"));
    let sibling = check(&second).unwrap();
    assert_eq!(sibling.kind, TargetKind::Block);
}

fn held_disk() {
    let rig = Rig::with(&["-P"]);
    let [first, _] = rig.partitions();
    let held = File::options().read(true).custom_flags(libc::O_EXCL).open(&rig.device).unwrap();
    assert_in_use(&first, ClaimKind::OpenElsewhere, "open exclusively");
    drop(held);
    let held = File::options().read(true).custom_flags(libc::O_EXCL).open(&first).unwrap();
    assert_in_use(&rig.device, ClaimKind::OpenElsewhere, "open exclusively");
    drop(held);
    check(&first).unwrap();
}

fn swap_device() {
    let mut rig = Rig::new();
    run("mkswap", &[&rig.device]);
    run("swapon", &[&rig.device]);
    rig.undo.push(("swapoff", rig.device.clone()));
    assert_in_use(&rig.device, ClaimKind::Swap, "swap");
}

fn swap_file() {
    let mut rig = Rig::new();
    // Written, not sparse: swap files must have all their blocks.
    let file = rig.path("swap file");
    fs::write(&file, vec![0; 1 << 20]).unwrap();
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let name = file.to_str().unwrap().to_owned();
    run("mkswap", &[&name]);
    if !Command::new("swapon").arg(&name).output().unwrap().status.success() {
        eprintln!("skipped: the file system of {name} has no swap files");
        return;
    }
    rig.undo.push(("swapoff", name));
    let hard = rig.path("hard");
    fs::hard_link(&file, &hard).unwrap();
    for path in [file, hard] {
        assert_in_use(&path, ClaimKind::Swap, "an active swap file");
    }
}

fn loop_file() {
    let rig = Rig::new();
    let name = rig.device.trim_start_matches("/dev/");
    let hard = rig.path("hard");
    fs::hard_link(rig.path("image"), &hard).unwrap();
    let soft = rig.path("soft");
    symlink("image", &soft).unwrap();
    for path in [rig.path("image"), hard.clone(), soft] {
        assert_in_use(&path, ClaimKind::LoopBacking, &format!("the backing file of {name}"));
    }
    // The name that the loop device was given is gone; its file is not.
    fs::remove_file(rig.path("image")).unwrap();
    assert_in_use(&hard, ClaimKind::LoopBacking, name);
    let other = rig.path("other");
    fs::write(&other, "not shown by anything").unwrap();
    let consent = check(&other).unwrap();
    assert_eq!(consent.sentence, format!("{} (existing file, 21B) will be overwritten", other.display()));
}

fn loop_over_loop() {
    let mut rig = Rig::new();
    // A loop device claims nothing of the device it shows: an exclusive open does not tell.
    let over = run("losetup", &["--find", "--show", &rig.device]);
    rig.undo.push(("losetup -d", over.clone()));
    assert_in_use(
        &rig.device,
        ClaimKind::LoopBacking,
        &format!("shown by {}", over.trim_start_matches("/dev/")),
    );
    check(&over).unwrap();
    // What is mounted below is written to through the upper one as well.
    rig.mkfs();
    let device = rig.device.clone();
    let point = rig.mount(&device, &[]);
    assert_in_use(&over, ClaimKind::Holder, &format!("mounted on {point}"));
}

fn signature() {
    let rig = Rig::new();
    rig.mkfs();
    let before = rig.hash();
    let refusal = check(&rig.device).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::HoldsData);
    assert_eq!(refusal.reasons, ["it holds ext4"]);
    assert!(refusal.advice.contains(&format!("--destroy={}", rig.device)), "{refusal}");
    for wrong in ["", " ", "/dev", "/dev/null", "loop", "/dev/loop999", "S1"] {
        assert!(check_destroying(&rig.device, wrong).is_err(), "{wrong:?}");
    }
    let link = rig.path("by-id");
    symlink(&rig.device, &link).unwrap();
    let link = link.to_str().unwrap();
    for (path, destroy) in
        [(rig.device.as_str(), rig.device.as_str()), (link, link), (link, &rig.device), (&rig.device, link)]
    {
        let consent = check_destroying(path, destroy).unwrap();
        assert_eq!(consent.holds.as_deref(), Some("holds ext4"));
    }
    assert_eq!(rig.hash(), before);
}

fn partition_table() {
    let rig = Rig::with(&["-P"]);
    let [first, _] = rig.partitions();
    assert_eq!(check(&rig.device).unwrap_err().reasons, ["it holds GPT"]);
    // The primary table is gone; the backup and the kernel's partitions remain.
    let file = File::options().write(true).open(&rig.device).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0; 1 << 16], 0).unwrap();
    file.sync_all().unwrap();
    drop(file);
    assert_eq!(check(&rig.device).unwrap_err().kind, RefusalKind::HoldsData);
    assert!(check_destroying(&rig.device, &first).is_err(), "a partition is not its disk");
    check_destroying(&rig.device, &rig.device).unwrap();
}

fn real_signatures() {
    let image = "IMAGE";
    let makers: &[(&str, &[&str], &str)] = &[
        ("mke2fs", &["-q", "-F", "-t", "ext2", image], "ext2"),
        ("mke2fs", &["-q", "-F", "-t", "ext3", image], "ext3"),
        ("mke2fs", &["-q", "-F", "-t", "ext4", image], "ext4"),
        ("mke2fs", &["-q", "-F", "-t", "ext4", "-O", "^has_journal", image], "ext4"),
        ("mke2fs", &["-q", "-F", "-b", "4096", "-O", "journal_dev", image], "ext journal"),
        ("mkswap", &["-q", image], "swap"),
        ("parted", &["-s", image, "mklabel", "gpt"], "GPT"),
        ("parted", &["-s", image, "mklabel", "msdos", "mkpart", "primary", "1MiB", "9MiB"], "MBR"),
        ("mkfs.xfs", &["-q", "-f", image], "xfs"),
        ("mkfs.btrfs", &["-q", image], "btrfs"),
        ("mkfs.vfat", &[image], "vfat"),
        ("mkfs.vfat", &["-F", "32", image], "vfat"),
        ("mkfs.exfat", &[image], "exfat"),
        ("mkfs.ntfs", &["-Q", "-F", image], "ntfs"),
        ("mkfs.f2fs", &["-q", image], "f2fs"),
        (
            "cryptsetup",
            &["luksFormat", "-q", "--pbkdf", "pbkdf2", "--key-file", "/proc/self/comm", image],
            "LUKS",
        ),
    ];
    let dir = tempfile::tempdir().unwrap();
    for (tool, arguments, name) in makers.iter().filter(|(tool, ..)| in_path(tool)) {
        let path = dir.path().join("image");
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        file.set_len(400 << 20).unwrap();
        let arguments: Vec<&str> =
            arguments.iter().map(|a| if *a == image { path.to_str().unwrap() } else { a }).collect();
        run(tool, &arguments);
        let found = fio_spdk::base::host::target::read_signatures(&file, 400 << 20);
        assert_eq!(found.sentence().as_deref(), Some(*name), "{tool} {arguments:?}");
        assert!(found.unreadable.is_none());
    }
}

fn lazy_umount() {
    let mut rig = Rig::new();
    rig.mkfs();
    let device = rig.device.clone();
    let point = rig.mount(&device, &[]);
    let file = File::create(format!("{point}/busy")).unwrap();
    run("umount", &["-l", &point]);
    assert_in_use(&rig.device, ClaimKind::OpenElsewhere, "open exclusively by another program or the kernel");
    let destroy = [rig.device.clone()];
    let allowed = WriteOptions { allow_mounted_write: true, destroy: &destroy };
    assert!(check_writable(Path::new(&rig.device), &allowed).is_err());
    drop(file);
}

fn exclusive_elsewhere() {
    let rig = Rig::new();
    let held = File::options().read(true).custom_flags(libc::O_EXCL).open(&rig.device).unwrap();
    assert_in_use(&rig.device, ClaimKind::OpenElsewhere, "open exclusively");
    drop(held);
    check(&rig.device).unwrap();
}

fn silent_writer() {
    let rig = Rig::new();
    let script = format!("exec 3<>{}; echo up; cat", rig.device);
    let mut child = Command::new("sh")
        .args(["-c", &script])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = [0; 3];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
    let refusal = check(&rig.device);
    drop(child.stdin.take());
    child.wait().unwrap();
    let refusal = refusal.unwrap_err();
    assert!(refusal.to_string().contains(&format!("(process {})", child.id())), "{refusal}");
    check(&rig.device).unwrap();
}

fn read_only() {
    let rig = Rig::with(&["-r"]);
    assert_eq!(check(&rig.device).unwrap_err().kind, RefusalKind::ReadOnly);
}

fn file_on_loop() {
    let mut rig = Rig::new();
    rig.mkfs();
    let device = rig.device.clone();
    let point = rig.mount(&device, &[]);
    let file = format!("{point}/x");
    let consent = check(&file).unwrap();
    assert_eq!(consent.kind, TargetKind::NewFile);
    assert_eq!(consent.sentence, format!("{file} will be created"));
    assert!(!Path::new(&file).exists());
    fs::write(&file, vec![1; 4096]).unwrap();
    assert_eq!(check(&file).unwrap().kind, TargetKind::File);
    // A loop device over a file on the file system is a reason of its own.
    File::options().write(true).open(&file).unwrap().set_len(1 << 20).unwrap();
    let inner = run("losetup", &["--find", "--show", &file]);
    rig.undo.push(("losetup -d", inner.clone()));
    assert_in_use(&rig.device, ClaimKind::LoopBacking, &format!("the home of {file}"));
}

fn sharing() {
    let rig = Rig::with(&["-P"]);
    let [first, second] = rig.partitions();
    let mut guard = Guard::default();
    let destroy = [rig.device.clone()];
    let options = WriteOptions { allow_mounted_write: false, destroy: &destroy };
    let one = guard.check_writable(Path::new(&first), &options).unwrap();
    drop(guard.check_writable(Path::new(&first), &options).unwrap());
    guard.check_writable(Path::new(&second), &options).unwrap();
    let refusal = guard.check_writable(Path::new(&rig.device), &options).unwrap_err();
    assert!(refusal.reasons[0].contains("this run already writes to"), "{refusal}");
    // The guard keeps the claim though a consent is gone.
    drop(one);
    assert!(check(&first).is_err());
    drop(guard);
    let mut guard = Guard::default();
    guard.check_writable(Path::new(&rig.device), &options).unwrap();
    assert!(
        guard.check_writable(Path::new(&first), &options).unwrap_err().reasons[0].contains("already writes")
    );
}

fn no_target() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    run("mkfifo", &[fifo.to_str().unwrap()]);
    let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
    let none = dir.path().join("none");
    symlink("/dev/nvme99n1", &none).unwrap();
    for path in [
        dir.path().to_owned(),
        fifo,
        dir.path().join("socket"),
        none,
        "/dev/nvme99n1".into(),
        "/dev/../dev/nvme99n1".into(),
        "/dev/random".into(),
        "/dev/mem".into(),
        "/dev/loop-control".into(),
        "/proc/sysrq-trigger".into(),
        "/sys/power/state".into(),
        "/dev/".into(),
        "/".into(),
        "".into(),
    ] {
        if path.starts_with("/dev/mem") && !path.exists() {
            continue;
        }
        let refusal = check(&path).expect_err(&path.display().to_string());
        assert_eq!(refusal.kind, RefusalKind::NotATarget, "{refusal}");
    }
    assert_eq!(check(dir.path().join("no/such/directory")).unwrap_err().kind, RefusalKind::CannotTell);
    for sink in ["/dev/null", "/dev/zero", "/dev/full"] {
        assert_eq!(check(sink).unwrap().kind, TargetKind::Sink, "{sink}");
    }
    let dangling = dir.path().join("dangling");
    symlink("new", &dangling).unwrap();
    let consent = check(&dangling).unwrap();
    assert!(
        consent.sentence.contains("→") && consent.sentence.ends_with("/new will be created"),
        "{}",
        consent.sentence
    );
}

fn stale_node() {
    let dir = tempfile::tempdir().unwrap();
    let node = dir.path().join("node");
    run("mknod", &[node.to_str().unwrap(), "b", "4000", "77"]);
    let refusal = check(&node).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::CannotTell);
    assert!(refusal.to_string().contains("4000:77"), "{refusal}");
}

fn description() {
    let rig = Rig::new();
    let device = block::lookup(&Sysfs::default(), Path::new(&rig.device)).unwrap().unwrap();
    assert_eq!(format!("/dev/{}", device.name), rig.device);
    assert_eq!((device.size_bytes, device.lba_bytes), (64 << 20, 512));
    assert_eq!(device.driver.as_deref(), Some("loop"));
    assert_eq!(device.transport.as_deref(), Some("virtual"));
    let image = rig.path("image").canonicalize().unwrap();
    assert_eq!(device.loop_backing_file().as_deref(), image.to_str());
    assert!(block::all(&Sysfs::default()).unwrap().contains(&device));
    assert_eq!(block::lookup(&Sysfs::default(), Path::new("/dev/null")).unwrap(), None);
}
