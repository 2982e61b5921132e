//! What needs file systems and devices of its own, and so root: full file systems, devices that do
//! not answer, logical blocks. Where it cannot be had, a trial is ignored and says why.

#![allow(clippy::print_stderr, reason = "says why trials are skipped")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use common::{FILE_ENGINES, KIB, Lab, MARK, MIB, at, first, jobs, number};
use libtest_mimic::{Arguments, Trial};
use rustix::process::Signal;
use serde_json::Value;

type Check = fn();

fn main() {
    let mut arguments = Arguments::from_args();
    // Two that look for a free loop device at once open each other's.
    arguments.test_threads = Some(1);
    let tmpfs = why_not(&["mount", "umount"], None);
    let loops = why_not(&["losetup", "mkfs.ext4", "mount", "umount", "fsfreeze"], Some("/dev/loop-control"));
    let plug = why_not_plug();
    let trials: [(&str, Check, &Option<String>); 15] = [
        ("a_full_target_ends_a_job_that_fills_it", fill_device, &tmpfs),
        ("a_full_target_is_an_error_to_any_other_job", no_space, &tmpfs),
        ("a_layout_that_does_not_fit_leaves_nothing_behind", layout_without_space, &tmpfs),
        ("a_second_signal_does_not_wait_for_the_device", second_signal, &loops),
        ("a_trigger_does_not_wait_for_a_device_that_hangs", trigger_beside_a_stuck_worker, &loops),
        ("a_worker_that_hangs_in_a_system_call_is_left_behind", stuck_in_a_call, &loops),
        ("a_snapshot_does_not_go_on_the_device_under_test", snapshot_on_the_target, &loops),
        ("a_device_that_hangs_shows_in_the_longest_latency", longest_latency, &loops),
        ("blocks_that_a_device_cannot_do_are_explained", logical_blocks, &loops),
        ("regions_beyond_a_device_are_explained", beyond_the_end, &loops),
        ("a_device_is_read_written_and_trimmed_in_its_region_only", whole_device, &loops),
        ("a_log_that_does_not_fit_a_device_is_refused_with_its_line", log_of_a_device, &loops),
        ("a_run_asks_before_it_overwrites_a_file_system", asks_first, &loops),
        ("clones_share_a_device_in_percent", percent_of_a_device, &loops),
        ("a_cpu_that_goes_offline_is_reported_and_pinned_to_again", cpu_offline, &plug),
    ];
    let trials = trials.map(|(name, check, why)| {
        if let Some(why) = why {
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

fn why_not(programs: &[&str], device: Option<&str>) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("not root".to_owned());
    }
    if let Some(device) = device.filter(|device| !Path::new(device).exists()) {
        return Some(format!("no {device}"));
    }
    let found = |program: &str| {
        let places = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
        places.iter().any(|place| Path::new(place).join(program).exists())
    };
    if let Some(missing) = programs.iter().find(|program| !found(program)) {
        return Some(format!("no {missing}"));
    }
    // A container can have a root that may not mount.
    let lab = Lab::new();
    Mount::new(&lab, &["-t", "tmpfs", "none"]).err()
}

/// What switches a CPU off and on.
const PLUG: &str = "/sys/devices/system/cpu/cpu1/online";

fn why_not_plug() -> Option<String> {
    let is_online = std::fs::read_to_string(PLUG).is_ok_and(|text| text.trim() == "1");
    if !rustix::process::geteuid().is_root() {
        Some("not root".to_owned())
    } else if !is_online {
        Some("no CPU 1 that can be switched off".to_owned())
    } else {
        Plugged.set("1").err().map(|why| format!("CPU 1 cannot be switched: {why}"))
    }
}

/// CPU 1, on again at the end whatever happens.
struct Plugged;

impl Plugged {
    fn set(&self, value: &str) -> Result<(), String> {
        std::fs::write(PLUG, value).map_err(|why| why.to_string())
    }
}

impl Drop for Plugged {
    fn drop(&mut self) {
        let _ = self.set("1");
    }
}

fn cpu_offline() {
    let lab = Lab::new();
    let mut running = lab.spawn(&[
        "--name=j",
        "--ioengine=null",
        "--size=1m",
        "--rw=randread",
        "--cpus_allowed=1",
        "--time_based=1",
        "--runtime=300s",
        "--output-format=json",
    ]);
    running.wait_for_worker("j.0");
    let plug = Plugged;
    plug.set("0").expect("it could be switched before");
    running.wait_for_stderr("a note that CPU 1 is offline", |text| text.contains("CPU 1 is offline"));
    drop(plug);
    running.wait_for_stderr("a note that it is back", |text| text.contains("pinned to CPU 1 again"));
    let task = running.wait_for_thread("j.0");
    let allowed = || {
        let status = std::fs::read_to_string(task.join("status")).unwrap_or_default();
        status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:").map(|list| list.trim().to_owned()))
    };
    assert_eq!(allowed().as_deref(), Some("1"));
    running.signal(Signal::INT);
    let json = running.end().expect(130).json();
    let reactor = at(&json, "/fio-spdk/reactors/0");
    assert_eq!(number(reactor, "/cpu"), 1);
    assert!(number(reactor, "/unpinned_ms") > 0, "{reactor:#}");
    let notes = at(&json, "/fio-spdk/notes").to_string();
    assert!(notes.contains("no longer pinned to CPU 1") && notes.contains("again"), "{notes}");
}

fn command(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).output().map_err(|why| format!("{program}: {why}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    Err(format!("{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// A file system, as long as it is needed, on `fs` in a laboratory.
struct Mount {
    place: PathBuf,
}

impl Mount {
    fn new(lab: &Lab, what: &[&str]) -> Result<Mount, String> {
        let place = lab.path("fs");
        std::fs::create_dir_all(&place).map_err(|why| why.to_string())?;
        command("mount", &[what, &[&place.to_string_lossy()]].concat())?;
        Ok(Mount { place })
    }

    fn tmpfs(lab: &Lab, size: &str) -> Mount {
        Mount::new(lab, &["-t", "tmpfs", "-o", size, "none"]).expect("a tmpfs")
    }

    fn ext4(lab: &Lab) -> Mount {
        let image = lab.path("image");
        let file = std::fs::File::create(&image).expect("an image");
        file.set_len(32 * MIB).expect("an image");
        let image = image.to_string_lossy().into_owned();
        command("mkfs.ext4", &["-q", "-F", &image]).expect("a file system");
        Mount::new(lab, &["-o", "loop", &image]).expect("a mount")
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let place = self.place.to_string_lossy().into_owned();
        // The kernel lets go of the files of an io_uring some time after its process has ended.
        for _ in 0..100 {
            if command("umount", &[&place]).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
        eprintln!("{place} is still mounted");
    }
}

/// A file system that does not let writes through until this is dropped.
struct Frozen(String);

impl Frozen {
    fn new(mount: &Mount) -> Frozen {
        let place = mount.place.to_string_lossy().into_owned();
        command("fsfreeze", &["-f", &place]).expect("a frozen file system");
        Frozen(place)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = command("fsfreeze", &["-u", &self.0]);
    }
}

/// A block device over a file of a laboratory.
struct Device {
    path: String,
}

impl Device {
    fn new(lab: &Lab, bytes: u64, sector: &str) -> Device {
        lab.marked("image", bytes);
        let image = lab.path("image").to_string_lossy().into_owned();
        let path = command("losetup", &["-f", "--show", "-b", sector, &image]).expect("a loop device");
        Device { path }
    }

    fn name(&self) -> String {
        format!("--filename={}", self.path)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if let Err(why) = command("losetup", &["-d", &self.path]) {
            eprintln!("{why}");
        }
    }
}

const ENGINES: [&str; 2] = ["--ioengine=psync", "--ioengine=io_uring"];

fn fill_device() {
    for engine in ENGINES {
        let lab = Lab::new();
        let _mount = Mount::tmpfs(&lab, "size=4m");
        let job =
            ["--filename=fs/data", "--size=16m", "--rw=write", "--fill_device=1", engine, "--iodepth=4"];
        let json = lab.json(&job);
        let written = first(&json, "/write/io_bytes");
        assert!((3 * MIB..=4 * MIB).contains(&written), "{engine}: {written}");
        assert_eq!(first(&json, "/error"), 0);
        assert_eq!(first(&json, "/fio-spdk/failed/write"), 0);
        assert_eq!(at(&json, "/jobs/0/fio-spdk/errors"), &Value::Array(Vec::new()));
        let length = lab.bytes("fs/data").len() as u64;
        assert!(length >= written && length <= 4 * MIB, "{length} of {written}");
        // What found no room need not stand anywhere. On a file system of its own: a tmpfs counts what was
        // removed as free only a while later.
        let lab = Lab::new();
        let _mount = Mount::tmpfs(&lab, "size=4m");
        let json = lab.json(&[&job[..], &["--verify=crc32c", "--bs=64k", "--verify_interval=4k"]].concat());
        // How much fits is tmpfs' affair: it counts by processor, and gives up early where several write.
        let checked = first(&json, "/verify/checked") * 4 * KIB;
        assert!(checked >= MIB, "{engine}: {checked} bytes");
    }
}

fn no_space() {
    for engine in ENGINES {
        let lab = Lab::new();
        let _mount = Mount::tmpfs(&lab, "size=4m");
        let run = |more: &str| {
            let _ = std::fs::remove_file(lab.path("fs/data"));
            let job = ["--filename=fs/data", "--size=5m", "--rw=write", "--fallocate=none", engine];
            lab.run(&[&job[..], &["--output-format=json", more]].concat()).expect(4).json()
        };
        let json = run("--iodepth=1");
        assert_eq!(first(&json, "/error"), 28);
        assert_eq!(first(&json, "/fio-spdk/failed/write"), 1);
        assert_eq!(first(&json, "/fio-spdk/errors/0/errno"), 28);
        let written = first(&json, "/write/total_ios");
        assert!((768..=1024).contains(&written), "{engine}: {written} writes");
        let json = run("--continue_on_error=write");
        let (written, failed) = (first(&json, "/write/total_ios"), first(&json, "/fio-spdk/failed/write"));
        assert_eq!(written + failed, 1280, "every write came back once");
        assert_eq!(first(&json, "/total_err"), failed);
        assert_eq!(first(&json, "/first_error"), 28);
    }
}

fn layout_without_space() {
    let lab = Lab::new();
    let _mount = Mount::tmpfs(&lab, "size=4m");
    for rw in ["--rw=write", "--rw=read"] {
        lab.run(&["--filename=fs/data", "--size=16m", rw]).expect(4).says("lower size");
        assert!(!lab.path("fs/data").exists(), "{rw}");
    }
}

fn second_signal() {
    for engine in ENGINES {
        let lab = Lab::new();
        let mount = Mount::ext4(&lab);
        let job = ["--name=n", "--filename=fs/data", "--size=4m", "--rw=randwrite", "--time_based"];
        let more = ["--runtime=1h", "--output-format=json", "--output=report", engine];
        let mut running = lab.spawn(&[&job[..], &more].concat());
        running.wait_for_worker("n.0");
        let frozen = Frozen::new(&mount);
        running.wait_until_it_hangs();
        running.signal(Signal::INT);
        thread::sleep(Duration::from_millis(400));
        assert!(!running.has_ended(), "{engine}: one signal waits for what is in flight");
        running.signal(Signal::INT);
        // The kernel itself does not let a process go whose writes hang, but the report is there.
        let came_in_time = has_report(&lab);
        drop(frozen);
        running.end().expect(130);
        assert!(came_in_time, "{engine}: the report waits for the device");
        let json: Value = serde_json::from_slice(&lab.bytes("report")).expect("a report");
        assert_eq!(number(&json, "/fio-spdk/ended_by_signal"), 2);
        let notes = at(&json, "/fio-spdk/notes").to_string();
        assert!(notes.contains("second signal") && notes.contains("n.0"), "{engine}: {notes}");
        // What was done before the device hung is not lost with it.
        assert!(first(&json, "/write/total_ios") > 0, "{engine}: {json:#}");
        assert!(first(&json, "/write/runtime") > 0);
    }
}

/// Waits for the file `report`: whether it came.
fn has_report(lab: &Lab) -> bool {
    common::in_time(|| std::fs::metadata(lab.path("report")).is_ok_and(|file| file.len() > 0))
}

fn stuck_in_a_call() {
    let lab = Lab::new();
    let mount = Mount::ext4(&lab);
    lab.file(
        "j.toml",
        "[global]\ntime_based = true\nruntime = \"1h\"\n\
         [[job]]\nname = \"n\"\nfilename = \"fs/data\"\nsize = \"4m\"\nrw = \"randwrite\"\nverify = \"crc32c\"\n\
         reap_timeout = \"3s\"\n\
         [[job]]\nname = \"o\"\nioengine = \"null\"\nsize = \"1g\"\nrw = \"randread\"\nruntime = \"6s\"\n\
         [[job]]\nname = \"next\"\nstonewall = true\nioengine = \"null\"\nsize = \"1g\"\nruntime = \"100ms\"\n",
    );
    let mut running = lab.spawn(&["j.toml", "--output-format=json", "--output=report"]);
    running.wait_for_worker("n.0");
    thread::sleep(Duration::from_millis(500));
    let frozen = Frozen::new(&mount);
    // The report is there while the device still hangs; the kernel keeps the process until it answers.
    let came_in_time = has_report(&lab);
    drop(frozen);
    running.end().expect(4);
    assert!(came_in_time, "the report waits for the device");
    let json: Value = serde_json::from_slice(&lab.bytes("report")).expect("a report");
    let [stuck, other, next] = jobs(&json) else { panic!("three jobs: {json:#}") };
    assert_eq!(number(stuck, "/error"), 110);
    let why = at(stuck, "/fio-spdk/error_message").to_string();
    assert!(why.contains("a write of 4096 bytes at") && why.contains("fs/data"), "{why}");
    assert!(why.contains("n.0: stuck for") && why.contains("reap_timeout (3 s)"), "{why}");
    assert!(number(stuck, "/write/total_ios") > 0, "what it had counted is there: {stuck:#}");
    assert!(number(other, "/read/runtime") >= 6000, "the other goes on: {other:#}");
    assert!(number(next, "/read/total_ios") > 0, "and so does the run: {next:#}");
    // What was promised is known, and what hung is in flight.
    let shown = lab.run(&["state", "show", "--json", "j.state"]).expect(0);
    assert!(shown.stdout.contains("in_flight"), "{}", shown.stdout);
}

fn trigger_beside_a_stuck_worker() {
    for engine in FILE_ENGINES {
        let lab = Lab::new();
        let mount = Mount::ext4(&lab);
        let job = ["--name=n", "--filename=fs/data", "--size=4m", "--rw=randwrite", "--time_based"];
        let more = ["--runtime=1h", "--verify=crc32c", "--state_dir=.", "--trigger=date > fired", engine];
        let mut running = lab.spawn(&[&job[..], &more, &["--output-format=json"]].concat());
        running.wait_for_worker("n.0");
        let frozen = Frozen::new(&mount);
        running.wait_until_it_hangs();
        running.signal(Signal::USR2);
        // The write hangs as long as this waits, and the ledger, the snapshot and the command go by it.
        running.wait_for_file(&lab.path("fired"));
        assert!(lab.path("fio-spdk.state").exists(), "{engine}");
        thread::sleep(Duration::from_millis(2500));
        drop(frozen);
        let json = running.end().expect(0).json();
        let trigger = at(&json, "/fio-spdk/trigger");
        if engine == "--ioengine=psync" {
            assert_eq!(at(trigger, "/stuck"), &serde_json::json!(["n.0"]));
        }
        let judge = ["--verify_state_load", "--verify_policy=completed", "--output-format=json"];
        let json = lab.run(&[&job[..], &more, &judge].concat()).expect(0).json();
        assert!(first(&json, "/verify/checked") > 0);
    }
}

fn snapshot_on_the_target() {
    let lab = Lab::new();
    let mount = Mount::ext4(&lab);
    let place = mount.place.to_string_lossy().into_owned();
    let device = command("findmnt", &["-n", "-o", "SOURCE", &place]).expect("a mounted device");
    let arguments =
        [&format!("--filename={device}"), "--name=n", "--size=1m", "--rw=write", "--verify=crc32c"];
    let more = ["--state_dir=fs", "--allow_mounted_write=true", "--destroy", &device];
    lab.run(&[&arguments[..], &more].concat()).expect(2).says("set state_dir to a directory elsewhere");
}

fn longest_latency() {
    let lab = Lab::new();
    let mount = Mount::ext4(&lab);
    let job = ["--name=n", "--filename=fs/data", "--size=4m", "--rw=randwrite", "--time_based"];
    let more = ["--runtime=5s", "--output-format=json", "--status-interval=200ms"];
    let mut running = lab.spawn(&[&job[..], &more].concat());
    running.wait_for_worker("n.0");
    let frozen = Frozen::new(&mount);
    running.wait_until_it_hangs();
    thread::sleep(Duration::from_millis(700));
    drop(frozen);
    let done = running.end().expect(0);
    let reports: Vec<Value> =
        done.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    // A worker that cannot answer is not taken for one that has done nothing.
    let counts: Vec<u64> = reports.iter().map(|json| first(json, "/write/total_ios")).collect();
    assert!(counts.is_sorted() && counts.len() > 4, "{counts:?}");
    let json = reports.last().expect("a report");
    let longest = first(json, "/write/clat_ns/max");
    assert!(longest >= 700_000_000, "{longest} ns");
}

fn logical_blocks() {
    let lab = Lab::new();
    let device = Device::new(&lab, 4 * MIB, "4096");
    for (engine, wrong) in [(ENGINES[0], "--bs=512"), (ENGINES[1], "--bs=6k"), (ENGINES[0], "--offset=512")] {
        let name = device.name();
        let job = ["--direct=1", "--rw=randread", "--size=1m", &name, engine, wrong];
        lab.run(&job).expect(2).says("4096").says("multiple");
    }
    let json = lab.json(&["--direct=1", "--rw=randread", &device.name()]);
    assert_eq!(first(&json, "/read/io_bytes"), 4 * MIB, "the whole device");
}

/// The guard has trials of its own; this one is that a run asks it.
fn asks_first() {
    let lab = Lab::new();
    let device = Device::new(&lab, 32 * MIB, "512");
    command("mkfs.ext4", &["-q", "-F", &device.path]).expect("a file system");
    command("blockdev", &["--flushbufs", &device.path]).expect("written to the image");
    let before = lab.bytes("image");
    lab.run(&[&device.name(), "--rw=write"]).expect(6).says(&format!("--destroy={}", device.path));
    lab.run(&["--filename=image", "--rw=write", "--size=1m"]).expect(6).says("loop");
    assert!(lab.bytes("image") == before, "a refused run has written");
    let destroy = format!("--destroy={}", device.path);
    lab.run(&[&device.name(), "--rw=write", "--size=1m", "--end_fsync", &destroy]).expect(0);
    assert!(lab.bytes("image") != before);
}

fn beyond_the_end() {
    let lab = Lab::new();
    let device = Device::new(&lab, 4 * MIB, "512");
    for region in [["--size=5m", "--offset=0"], ["--size=1m", "--offset=4m"]] {
        lab.run(&[&device.name(), "--rw=read", region[0], region[1]]).expect(2).says("beyond the end");
    }
    let appends = lab.run(&[&device.name(), "--rw=write", "--size=1m", "--file_append", "--direct=1"]);
    appends.expect(2).says("file_append is for files");
    // The second clone's region would be.
    let clones = ["--rw=read", "--size=2m", "--offset_increment=3m", "--numjobs=2"];
    lab.run(&[&clones[..], &[&device.name()]].concat()).expect(2).says("beyond the end");
}

fn log_of_a_device() {
    let lab = Lab::new();
    let device = Device::new(&lab, 4 * MIB, "4096");
    let path = &device.path;
    let replay = |line: &str| {
        lab.file(
            "log",
            format!("fio version 3 iolog\n0 {path} add\n0 {path} write 0 4096\n1 {path} {line}\n"),
        );
        lab.run(&["--read_iolog=log", "--direct=1", "--verify=crc32c", "--verify_state_save=0"])
    };
    replay("write 4194304 4096").expect(2).says("line 4: the I/O ends at 4198400, beyond the end");
    replay("write 512 4096").expect(2).says("line 4: offset or length of the write is no multiple");
    assert!(lab.bytes("image").iter().all(|&byte| byte == MARK), "nothing was written");
    replay("write 8192 4096").expect(0);
    assert!(lab.bytes("image")[8192..12288].iter().any(|&byte| byte != MARK));
}

fn whole_device() {
    for engine in ENGINES {
        let lab = Lab::new();
        let device = Device::new(&lab, 4 * MIB, "512");
        let name = device.name();
        let region = [&name, engine, "--offset=1m", "--size=2m", "--direct=1", "--iodepth=8"];
        let json = lab.json(&[&region[..], &["--rw=randwrite", "--fsync=64"]].concat());
        assert_eq!(first(&json, "/write/total_ios"), 512);
        assert_eq!(first(&json, "/sync/total_ios"), 8);
        let check = |inside: fn(u8) -> bool| {
            let bytes = lab.bytes("image");
            let mib = MIB as usize;
            assert!(bytes[..mib].iter().chain(&bytes[3 * mib..]).all(|&byte| byte == MARK), "{engine}");
            let blocks = bytes[mib..3 * mib].chunks(4 * KIB as usize);
            assert_eq!(blocks.filter(|block| block.iter().any(|&byte| inside(byte))).count(), 512);
        };
        check(|byte| byte != MARK);
        let json = lab.json(&[&region[..], &["--rw=randread"]].concat());
        assert_eq!(first(&json, "/read/total_ios"), 512);
        let json = lab.json(&[&region[..], &["--rw=randtrim"]].concat());
        assert_eq!(first(&json, "/trim/total_ios"), 512);
        check(|byte| byte == 0);
    }
}

fn percent_of_a_device() {
    let lab = Lab::new();
    let device = Device::new(&lab, 4 * MIB, "512");
    let job = ["--rw=randwrite", "--offset_increment=25%", "--size=25%", "--numjobs=3", "--direct=1"];
    let json = lab.json(&[&job[..], &[&device.name()]].concat());
    for job in jobs(&json) {
        assert_eq!(number(job, "/write/io_bytes"), MIB);
    }
    let bytes = lab.bytes("image");
    let reached = bytes.chunks(4096).filter(|block| block.iter().any(|&byte| byte != MARK)).count();
    assert_eq!(reached, 768);
    assert!(bytes[3 * MIB as usize..].iter().all(|&byte| byte == MARK));
}
