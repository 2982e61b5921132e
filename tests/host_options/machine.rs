//! What the machine has, and what of it is made for a trial: loop devices, tracing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{Lab, MIB};

pub fn not_root() -> Option<String> {
    (!rustix::process::geteuid().is_root()).then(|| "not root".to_owned())
}

pub fn lacks(program: &str) -> Option<String> {
    let places = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
    let found = places.iter().any(|place| Path::new(place).join(program).exists());
    (!found).then(|| format!("no {program}"))
}

pub fn no_loop_device() -> Option<String> {
    if let Some(why) = not_root().or_else(|| lacks("losetup")) {
        return Some(why);
    }
    let device = match Loop::new() {
        Ok(device) => device,
        Err(why) => return Some(format!("no loop device: {why}")),
    };
    let (_, offered) = device.scheduler();
    let other = device.other();
    other.is_none().then(|| format!("loop devices have no choice of schedulers here: {offered}"))
}

pub fn no_groups() -> Option<String> {
    if let Some(why) = not_root() {
        return Some(why);
    }
    let Some(root) = hierarchy() else { return Some("no control groups of version 2".to_owned()) };
    let probe = root.join(format!("fio-spdk-probe-{}", std::process::id()));
    if let Err(why) = fs::create_dir(&probe) {
        return Some(format!("{}: {why}", probe.display()));
    }
    let _ = fs::remove_dir(&probe);
    None
}

pub fn no_hugepages() -> Option<String> {
    let free = meminfo("HugePages_Free:").unwrap_or(0);
    (free < 4).then(|| format!("{free} free hugepages"))
}

pub fn no_tracing() -> Option<String> {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !known.contains("tracefs") {
        return Some("no tracefs".to_owned());
    }
    match Trace::new() {
        Ok(_) => None,
        Err(why) => Some(format!("no tracing of block devices: {why}")),
    }
}

pub fn meminfo(field: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    text.lines().find_map(|line| line.strip_prefix(field))?.split_whitespace().next()?.parse().ok()
}

pub fn hierarchy() -> Option<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let line = table.lines().find(|line| line.contains(" - cgroup2 "))?;
    line.split(' ').nth(4).map(PathBuf::from)
}

pub fn command(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).output().map_err(|why| format!("{program}: {why}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    Err(format!("{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// A loop device over a file, as long as it is needed.
pub struct Loop {
    pub device: String,
    _lab: Lab,
}

impl Loop {
    pub fn new() -> Result<Loop, String> {
        let lab = Lab::new();
        let file = fs::File::create(lab.path("image")).map_err(|why| why.to_string())?;
        file.set_len(16 * MIB).map_err(|why| why.to_string())?;
        let device = command("losetup", &["--find", "--show", &lab.path("image").to_string_lossy()])?;
        Ok(Loop { device, _lab: lab })
    }

    /// The scheduler in use, and all.
    pub fn scheduler(&self) -> (String, String) {
        let name = self.device.trim_start_matches("/dev/");
        let text = fs::read_to_string(format!("/sys/block/{name}/queue/scheduler")).unwrap_or_default();
        let inside = text.split('[').nth(1).and_then(|rest| rest.split(']').next()).unwrap_or(&text);
        (inside.trim().to_owned(), text.trim().replace(['[', ']'], ""))
    }

    /// One that is not in use.
    pub fn other(&self) -> Option<String> {
        let (now, all) = self.scheduler();
        let mut others: Vec<&str> = all.split_whitespace().filter(|name| *name != now).collect();
        // One that honours priorities, where there is a choice.
        others.sort_by_key(|name| *name != "mq-deadline");
        others.first().map(|name| (*name).to_owned())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        if let Err(why) = command("losetup", &["--detach", &self.device]) {
            eprintln!("{why}");
        }
    }
}

/// An instance of the kernel's tracing, on a mount of its own, as long as it is needed.
pub struct Trace {
    pub instance: PathBuf,
    mount: PathBuf,
    _lab: Lab,
}

impl Trace {
    pub fn new() -> Result<Trace, String> {
        let lab = Lab::new();
        let mount = lab.path("tracing");
        fs::create_dir(&mount).map_err(|why| why.to_string())?;
        command("mount", &["-t", "tracefs", "none", &mount.to_string_lossy()])?;
        let instance = mount.join(format!("instances/fio-spdk-{}", std::process::id()));
        let trace = Trace { instance, mount, _lab: lab };
        fs::create_dir(&trace.instance).map_err(|why| why.to_string())?;
        fs::write(trace.instance.join(ISSUED), "1").map_err(|why| why.to_string())?;
        Ok(trace)
    }
}

pub const ISSUED: &str = "events/block/block_rq_issue/enable";

impl Drop for Trace {
    fn drop(&mut self) {
        let _ = fs::write(self.instance.join(ISSUED), "0");
        let _ = fs::remove_dir(&self.instance);
        if let Err(why) = command("umount", &[&self.mount.to_string_lossy()]) {
            eprintln!("{why}");
        }
    }
}
