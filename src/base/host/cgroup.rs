//! Control groups of version 2: the process moved into one, its limits, and the way back.
//!
//! The controller of I/O is not a threaded one, so that a process can be in one group only, with all its
//! threads: what holds here holds for all jobs of a run.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Sysfs;
use super::block::DeviceNumber;
use super::claims::parse_mountinfo;

/// The group that a run is to be in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupSpec {
    /// fio's `cgroup`: its name, below the root of the hierarchy.
    pub name: Option<String>,
    /// fio's `cgroup_weight`: io.weight.
    pub weight: Option<u32>,
    /// io.max, for each disk of the targets: what stands behind the number of the device.
    pub io_max: Option<String>,
    /// fio's `cgroup_nodelete`.
    pub keep: bool,
}

/// A process that was moved, until it is back.
#[derive(Debug)]
pub struct Entered {
    /// Where the hierarchy is mounted, and the group it came from.
    home: PathBuf,
    group: PathBuf,
    /// Directories that were made, outermost first.
    made: Vec<PathBuf>,
    /// Files and what to write to them at the end, if the group stays.
    undo: Vec<(PathBuf, String)>,
    /// `cgroup.subtree_control` files in which `io` was switched on.
    switched: Vec<PathBuf>,
    keep: bool,
}

/// Where the hierarchy of version 2 is, with what this process may see of it.
fn root(sysfs: &Sysfs) -> Result<PathBuf, String> {
    let table = sysfs.mountinfo().map_err(|error| format!("cgroup: the mounts cannot be read: {error}"))?;
    let mount = parse_mountinfo(&table).into_iter().find(|mount| mount.fs_type == "cgroup2");
    let mount = mount.ok_or(
        "cgroup: no hierarchy of version 2 is mounted here, and groups of version 1 are not supported: \
         mount -t cgroup2 none /sys/fs/cgroup, or boot with systemd.unified_cgroup_hierarchy=1",
    )?;
    Ok(sysfs.locate(Path::new(&mount.mount_point)))
}

fn own_group(sysfs: &Sysfs) -> io::Result<String> {
    let text = fs::read_to_string(sysfs.proc.join("self/cgroup"))?;
    let own = text.lines().find_map(|line| line.strip_prefix("0::/"));
    Ok(own.unwrap_or_default().to_owned())
}

fn words(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

/// Writes to a file of a group, which must be there.
fn tell(path: &Path, text: &str) -> Result<(), String> {
    let file = fs::OpenOptions::new().write(true).open(path);
    let done = file.and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes()));
    done.map_err(|error| {
        let hint = match error.raw_os_error() {
            Some(libc::EACCES | libc::EPERM) => {
                ": that needs root, or a hierarchy that was handed over to this user"
            }
            Some(libc::EROFS) => ": the hierarchy is mounted read-only here, as in containers",
            Some(libc::EBUSY) => {
                ": processes live in a group above it, which then may not divide what it has"
            }
            _ => "",
        };
        format!("cgroup: cannot write `{text}` to {}: {error}{hint}", path.display())
    })
}

impl Entered {
    /// Makes the group where it is not there, sets what is asked for, and moves this process into it.
    /// `disks` are those that `io_max` holds for.
    ///
    /// # Errors
    /// If something of it cannot be done: a sentence. What was done is undone then.
    pub fn enter(sysfs: &Sysfs, spec: &GroupSpec, disks: &[DeviceNumber]) -> Result<Entered, String> {
        let root = root(sysfs)?;
        let own = own_group(sysfs).map_err(|error| format!("cgroup: {error}"))?;
        let name = spec.name.as_deref().unwrap_or_default().trim_matches('/');
        let mut entered = Entered {
            home: root.join(own),
            group: root.join(name),
            made: Vec::new(),
            undo: Vec::new(),
            switched: Vec::new(),
            keep: spec.keep,
        };
        match entered.set_up(&root, name, spec, disks) {
            Ok(()) => Ok(entered),
            Err(why) => {
                entered.keep = false;
                let troubles = entered.leave();
                Err(std::iter::once(why).chain(troubles).collect::<Vec<_>>().join("; "))
            }
        }
    }

    fn set_up(
        &mut self,
        root: &Path,
        name: &str,
        spec: &GroupSpec,
        disks: &[DeviceNumber],
    ) -> Result<(), String> {
        let limits = spec.weight.is_some() || spec.io_max.is_some();
        if limits && !words(&root.join("cgroup.controllers")).iter().any(|word| word == "io") {
            return Err(format!(
                "cgroup: the hierarchy of version 2 at {} has no I/O controller, so cgroup_weight and cgroup_io_max \
                 cannot be set (where version 1 has `blkio`, boot with systemd.unified_cgroup_hierarchy=1)",
                root.display()
            ));
        }
        let mut place = root.to_owned();
        for part in name.split('/') {
            if limits {
                self.switch_on(&place.join("cgroup.subtree_control"))?;
            }
            place.push(part);
            match fs::create_dir(&place) {
                Ok(()) => self.made.push(place.clone()),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(format!(
                        "cgroup: cannot make {}: {error} (that needs root, and a hierarchy that can be written to)",
                        place.display()
                    ));
                }
            }
        }
        if let Some(weight) = spec.weight {
            self.set_weight(weight)?;
        }
        if let Some(limits) = &spec.io_max {
            if disks.is_empty() {
                return Err("cgroup_io_max: no target lies on a block device".to_owned());
            }
            for disk in disks {
                let file = self.group.join("io.max");
                self.undo.push((file.clone(), format!("{disk} rbps=max wbps=max riops=max wiops=max")));
                tell(&file, &format!("{disk} {limits}"))?;
            }
        }
        tell(&self.group.join("cgroup.procs"), &std::process::id().to_string())
    }

    fn switch_on(&mut self, control: &Path) -> Result<(), String> {
        if words(control).iter().any(|word| word == "io") {
            return Ok(());
        }
        tell(control, "+io")?;
        self.switched.push(control.to_owned());
        Ok(())
    }

    fn set_weight(&mut self, weight: u32) -> Result<(), String> {
        // With BFQ the file has its name.
        let files = ["io.weight", "io.bfq.weight"].map(|name| self.group.join(name));
        let Some(file) = files.into_iter().find(|file| file.exists()) else {
            return Err(format!(
                "cgroup_weight: {} has no io.weight: the kernel needs CONFIG_BLK_CGROUP_IOCOST, or the I/O scheduler bfq",
                self.group.display()
            ));
        };
        let before = words(&file).into_iter().skip_while(|word| word != "default").nth(1);
        self.undo.push((file.clone(), format!("default {}", before.as_deref().unwrap_or("100"))));
        tell(&file, &format!("default {weight}"))
    }

    /// What was done, in a sentence.
    #[must_use]
    pub fn told(&self) -> String {
        let made = if self.made.is_empty() { "" } else { ", which was made for it" };
        format!("all threads of this run are in control group {}{made}", self.group.display())
    }

    /// Moves the process back and undoes the rest. What could not be undone: a sentence each.
    #[must_use]
    pub fn leave(&mut self) -> Vec<String> {
        let mut troubles = Vec::new();
        let own = std::process::id().to_string();
        let inside = words(&self.group.join("cgroup.procs")).contains(&own);
        if inside && self.group != self.home {
            troubles.extend(tell(&self.home.join("cgroup.procs"), &own).err());
        }
        if self.keep {
            self.undo.clear();
            self.made.clear();
            self.switched.clear();
        }
        let is_gone = !self.made.is_empty() && self.made.last() == Some(&self.group);
        for (file, text) in self.undo.drain(..).rev().filter(|_| !is_gone) {
            troubles.extend(tell(&file, &text).err());
        }
        for directory in self.made.drain(..).rev() {
            if let Err(error) = fs::remove_dir(&directory) {
                troubles.push(format!("cgroup: {} could not be removed: {error}", directory.display()));
            }
        }
        for control in self.switched.drain(..).rev() {
            // Others may use it meanwhile: then it stays.
            let _ = tell(&control, "-io");
        }
        troubles
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let _ = self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hierarchy of plain files: what is written last stands in them.
    fn machine(root: &Path, controllers: &str) -> Sysfs {
        let groups = root.join("sys/fs/cgroup");
        fs::create_dir_all(groups.join("home")).unwrap();
        fs::create_dir_all(root.join("proc/self")).unwrap();
        fs::create_dir_all(root.join("dev")).unwrap();
        fs::write(root.join("proc/self/mountinfo"), "30 1 0:26 / /sys/fs/cgroup rw - cgroup2 none rw\n")
            .unwrap();
        fs::write(root.join("proc/self/cgroup"), "1:cpu:/x\n0::/home\n").unwrap();
        fs::write(groups.join("cgroup.controllers"), controllers).unwrap();
        fs::write(groups.join("cgroup.subtree_control"), "").unwrap();
        for group in ["home", "there"] {
            fs::create_dir_all(groups.join(group)).unwrap();
            fs::write(groups.join(group).join("cgroup.procs"), "").unwrap();
            fs::write(groups.join(group).join("io.max"), "").unwrap();
            fs::write(groups.join(group).join("io.weight"), "default 50\n8:0 70\n").unwrap();
        }
        Sysfs::under(root)
    }

    fn spec(weight: Option<u32>, io_max: Option<&str>) -> GroupSpec {
        GroupSpec { name: Some("/there".to_owned()), weight, io_max: io_max.map(str::to_owned), keep: false }
    }

    #[test]
    fn the_process_goes_in_with_its_limits_and_comes_back_without() {
        let root = tempfile::tempdir().unwrap();
        let sysfs = machine(root.path(), "cpu io memory\n");
        let read = |path: &str| fs::read_to_string(root.path().join("sys/fs/cgroup").join(path)).unwrap();
        let own = std::process::id().to_string();
        let disk = DeviceNumber { major: 259, minor: 3 };
        let mut entered = Entered::enter(&sysfs, &spec(Some(200), Some("riops=100")), &[disk]).unwrap();
        assert_eq!(read("there/cgroup.procs"), own);
        assert!(read("there/io.weight").starts_with("default 200"));
        assert_eq!(read("there/io.max"), "259:3 riops=100");
        assert_eq!(read("cgroup.subtree_control"), "+io");
        assert_eq!(entered.leave(), Vec::<String>::new());
        assert_eq!(read("home/cgroup.procs"), own);
        assert!(read("there/io.weight").starts_with("default 50"));
        assert!(read("there/io.max").starts_with("259:3 rbps=max"));
        assert_eq!(read("cgroup.subtree_control"), "-io");
    }

    #[test]
    fn a_hierarchy_without_the_controller_is_told_before_anything_is_made() {
        let root = tempfile::tempdir().unwrap();
        let sysfs = machine(root.path(), "cpu\n");
        let new = GroupSpec { name: Some("new/group".to_owned()), ..spec(Some(200), None) };
        let why = Entered::enter(&sysfs, &new, &[]).unwrap_err();
        assert!(why.contains("no I/O controller"), "{why}");
        assert!(!root.path().join("sys/fs/cgroup/new").exists());
    }

    #[test]
    fn what_fails_half_way_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let sysfs = machine(root.path(), "io\n");
        let new = GroupSpec { name: Some("new/group".to_owned()), ..spec(None, None) };
        // A plain directory gets no files by itself, so the process cannot be moved into it.
        let why = Entered::enter(&sysfs, &new, &[]).unwrap_err();
        assert!(why.contains("cgroup.procs"), "{why}");
        assert!(!root.path().join("sys/fs/cgroup/new").exists());
    }
}
