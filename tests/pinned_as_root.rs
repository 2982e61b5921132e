//! What was checked is what is opened, with devices: a mounted file system must be intact whatever names lead
//! to it. Needs root and loop devices; where they cannot be had, a trial is ignored and says why.

#![allow(clippy::print_stderr, reason = "says why trials are skipped")]
#![allow(clippy::unwrap_used, reason = "a test that cannot have what it needs has nothing to say")]

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use common::{BINARY, KIB, Lab, MARK, MIB, Running, number, with};
use libtest_mimic::{Arguments, Trial};
use rustix::process::Signal;

type Check = fn();

const ENGINES: [&str; 2] = ["psync", "io_uring"];
/// What jobs write here, and no file system contains.
const PATTERN: [u8; 8] = [0x5e, 0xed, 0xf0, 0x0d, 0x5e, 0xed, 0xf0, 0x0d];
const TRIES: usize = 8;

fn main() {
    let mut arguments = Arguments::from_args();
    // Two that look for a free loop device at once open each other's.
    arguments.test_threads = Some(1);
    let loops = ["losetup", "mkfs.ext4", "mount", "umount", "e2fsck", "mknod"];
    let trials: [(&str, Check, &[&str]); 5] = [
        ("a_mounted_file_system_is_intact_when_a_link_is_repointed_to_it", repointed_to_mounted, &loops),
        ("a_mounted_file_system_is_intact_while_a_link_flips_to_it", flips_to_mounted, &loops),
        ("another_disk_under_the_same_number_is_another_target", same_number, &loops),
        ("a_device_that_is_written_is_not_verified_by_another_node_of_it", other_node, &loops),
        ("a_file_is_locked_for_other_users_too", other_user, &["setpriv"]),
    ];
    let trials = trials.map(|(name, check, programs)| {
        let why = why_not(programs);
        if let Some(why) = &why {
            eprintln!("skipped: {name}: {why}");
        }
        let run = move || {
            check();
            Ok(())
        };
        Trial::test(name, run).with_ignored_flag(why.is_some())
    });
    libtest_mimic::run(&arguments, trials.into()).exit();
}

fn why_not(programs: &[&str]) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("not root".to_owned());
    }
    if programs.contains(&"losetup") && !Path::new("/dev/loop-control").exists() {
        return Some("no /dev/loop-control".to_owned());
    }
    let places = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
    let found = |program: &&&str| places.iter().any(|place| Path::new(place).join(program).exists());
    programs.iter().find(|program| !found(program)).map(|missing| format!("no {missing}"))
}

fn command(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A loop device over a file of a laboratory.
struct Device {
    path: String,
}

impl Device {
    fn new(lab: &Lab, image: &str) -> Device {
        fs::File::create(lab.path(image)).unwrap().set_len(32 * MIB).unwrap();
        Device { path: command("losetup", &["-f", "--show", &lab.path(image).to_string_lossy()]) }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["-d", &self.path]).output();
    }
}

/// A loop device with a mounted ext4.
struct Mounted {
    device: Device,
    place: String,
}

impl Mounted {
    fn new(lab: &Lab) -> Mounted {
        let device = Device::new(lab, "image");
        command("mkfs.ext4", &["-q", "-F", &device.path]);
        let place = lab.path("fs").to_string_lossy().into_owned();
        fs::create_dir(&place).unwrap();
        command("mount", &[&device.path, &place]);
        Mounted { device, place }
    }

    /// Unmounts and checks it.
    fn assert_intact(self, lab: &Lab) {
        command("umount", &[&self.place]);
        command("e2fsck", &["-fn", &self.device.path]);
        command("blockdev", &["--flushbufs", &self.device.path]);
        let written = lab.bytes("image").chunks(4096).filter(|block| block.starts_with(&PATTERN)).count();
        assert_eq!(written, 0, "blocks of the mounted file system were overwritten");
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.place).output();
    }
}

/// A stage on the file `one`, then `command`, then a stage on `link`.
fn two_stages(lab: &Lab, engine: &str, command: &str, second: &str) {
    let text = format!(
        "[global]\nioengine = \"{engine}\"\nrw = \"write\"\nbs = \"4k\"\nsize = \"64k\"\n\
         buffer_pattern = \"0x5eedf00d\"\n\
         [[job]]\nname = \"first\"\nfilename = \"one\"\nexec_postrun = {command:?}\n\
         [[job]]\nname = \"second\"\nstonewall = true\n{second}\n"
    );
    lab.file("j.toml", text);
}

fn repointed_to_mounted() {
    for engine in ENGINES {
        let lab = Lab::new();
        let mounted = Mounted::new(&lab);
        lab.marked("data", 64 * KIB);
        symlink("data", lab.path("link")).unwrap();
        let repoint = format!("ln -sfn {} link", mounted.device.path);
        two_stages(&lab, engine, &repoint, "filename = \"link\"\nend_fsync = true");
        lab.run(&["j.toml"]).expect(6).says(&mounted.device.path).says("nothing was written there");
        assert!(lab.bytes("data").iter().all(|&byte| byte == MARK));
        mounted.assert_intact(&lab);
    }
}

fn flips_to_mounted() {
    let lab = Lab::new();
    let mounted = Mounted::new(&lab);
    let (link, beside, stop) = (lab.path("link"), lab.path("beside"), Arc::new(AtomicBool::new(false)));
    let (ends, device) = (Arc::clone(&stop), mounted.device.path.clone());
    symlink("data", &link).unwrap();
    let flipper = std::thread::spawn(move || {
        for aim in ["data", &device].iter().cycle().take_while(|_| !ends.load(Relaxed)) {
            symlink(aim, &beside).and_then(|()| fs::rename(&beside, &link)).unwrap();
        }
    });
    let mut codes = Vec::new();
    for try_number in 0..TRIES {
        lab.marked("data", 64 * KIB);
        two_stages(&lab, ENGINES[try_number % 2], "true", "filename = \"link\"\nend_fsync = true");
        let done = lab.run(&["j.toml"]);
        assert!(matches!(done.code, Some(0 | 6)), "{done:#?}");
        let whole = lab.bytes("data").chunks(4096).all(|block| block.starts_with(&PATTERN));
        assert_eq!(whole, done.code == Some(0), "{done:#?}");
        codes.push(done.code);
    }
    stop.store(true, Relaxed);
    flipper.join().unwrap();
    assert!(codes.contains(&Some(6)), "{codes:?}");
    mounted.assert_intact(&lab);
}

fn same_number() {
    let lab = Lab::new();
    let device = Device::new(&lab, "image");
    fs::copy(lab.path("image"), lab.path("other")).unwrap();
    let path = &device.path;
    // A job that only reads claims nothing, so that the device can be taken away.
    let replace = format!("losetup -d {path}; losetup {path} other");
    two_stages(&lab, "psync", &replace, &format!("filename = \"{path}\"\nrw = \"read\""));
    lab.run(&["j.toml"]).expect(6).says("since boot");
    two_stages(&lab, "psync", "true", &format!("filename = \"{path}\"\nrw = \"read\""));
    lab.run(&["j.toml"]).expect(0);
}

fn other_node() {
    let lab = Lab::new();
    let device = Device::new(&lab, "image");
    let numbers = command("stat", &["-c", "%Hr %Lr", &device.path]);
    let (major, minor) = numbers.split_once(' ').unwrap();
    let node = lab.path("node").to_string_lossy().into_owned();
    command("mknod", &[&node, "b", major, minor]);
    let own = format!("--filename={}", device.path);
    let job = ["--name=j", "--rw=randwrite", "--bs=4k", "--size=1m", "--verify=crc32c"];
    let mut first = lab.spawn(&with(&job, &[&own, "--time_based", "--runtime=100s", "--output-format=json"]));
    first.wait_for_worker("j.0");
    let who = format!("fio-spdk (process {})", first.id());
    for name in [&device.path, &node] {
        let filename = format!("--filename={name}");
        lab.run(&with(&job, &[&filename, "--verify_only"])).expect(6).says(&who);
        lab.run(&with(&job, &[&filename])).expect(6).says(&who);
    }
    first.signal(Signal::INT);
    let done = first.end().expect(130);
    assert_eq!(number(&done.json(), "/jobs/0/verify/violations"), 0, "{done:#?}");
    lab.run(&with(&job, &[&own])).expect(0);
    // Readers by two nodes share it.
    let reader = fs::File::open(&device.path).unwrap();
    reader.try_lock_shared().unwrap();
    lab.run(&with(&job, &[&format!("--filename={node}"), "--verify_only"])).expect(0);
}

fn other_user() {
    let lab = Lab::new();
    fs::copy(BINARY, lab.path("program")).unwrap();
    fs::create_dir(lab.path("theirs")).unwrap();
    let theirs = lab.path("theirs/data");
    fs::write(&theirs, vec![MARK; 1 << 20]).unwrap();
    for (path, mode) in [(lab.path(""), 0o755), (lab.path("theirs"), 0o777), (theirs.clone(), 0o666)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let job =
        ["--name=j", "--rw=randwrite", "--bs=4k", "--size=1m", "--verify=crc32c", "--verify_state_save=0"];
    let as_nobody = |more: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(lab.path("program"));
        command.args(with(&job, more)).current_dir(lab.path("theirs"));
        Running::of(command)
    };
    let filename = format!("--filename={}", theirs.display());
    let mut first = lab.spawn(&with(&job, &[&filename, "--time_based", "--runtime=100s"]));
    first.wait_for_worker("j.0");
    as_nobody(&["--filename=data"]).end().expect(6).says(&format!("(process {})", first.id()));
    first.signal(Signal::INT);
    first.end().expect(130);
    as_nobody(&["--filename=data"]).end().expect(0);
    // Of a file that a user may only read, verifying runs share the lock.
    fs::set_permissions(&theirs, fs::Permissions::from_mode(0o644)).unwrap();
    as_nobody(&["--filename=data", "--verify_only"]).end().expect(0);
}
