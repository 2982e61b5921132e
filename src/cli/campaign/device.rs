//! The devices of a campaign: known by serial number, and found again whatever their names are after
//! a cut.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::base::host::block::{self, BlockDevice};
use crate::base::host::{Sysfs, printable};
use crate::engine;
use crate::job::JobSpec;

/// How long sysfs may take: some attributes ask the device.
const LOOK: Duration = Duration::from_secs(10);

/// A target of the campaign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// As the jobs name it, with their directory.
    pub path: String,
    /// What it is known by, if it is a block device.
    pub known: Option<Known>,
}

/// Why a target is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// A sentence.
    pub why: String,
    /// Another device is at its name.
    pub is_replaced: bool,
}

impl From<String> for Lost {
    fn from(why: String) -> Lost {
        Lost { why, is_replaced: false }
    }
}

/// What a block device is known by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Its serial number; without one, its path has to do.
    pub serial: Option<String>,
    /// Its world-wide name: namespaces of one drive share the serial number.
    pub wwid: Option<String>,
    /// What a partition's name has behind that of its disk.
    pub part: String,
}

impl Known {
    fn of(device: &BlockDevice) -> Known {
        Known { serial: device.serial.clone(), wwid: device.wwid.clone(), part: part(device) }
    }

    fn fits(&self, device: &BlockDevice) -> bool {
        self.serial == device.serial
            && (self.wwid.is_none() || self.wwid == device.wwid)
            && self.part == part(device)
    }
}

fn part(device: &BlockDevice) -> String {
    let disk = device.disk.as_deref().unwrap_or(&device.name);
    device.name.strip_prefix(disk).unwrap_or_default().to_owned()
}

impl Target {
    /// For the evidence.
    pub fn object(&self) -> Value {
        let known = self
            .known
            .as_ref()
            .map(|known| json!({ "serial": known.serial, "wwid": known.wwid, "partition": known.part }));
        json!({ "path": self.path, "device": known })
    }

    /// From the evidence.
    pub fn from_object(value: &Value) -> Option<Target> {
        let text = |value: &Value, name: &str| value.get(name)?.as_str().map(str::to_owned);
        let known = value.get("device").filter(|device| device.is_object()).map(|device| Known {
            serial: text(device, "serial"),
            wwid: text(device, "wwid"),
            part: text(device, "partition").unwrap_or_default(),
        });
        Some(Target { path: text(value, "path")?, known })
    }

    /// Where it is now. For a file that is where it was.
    ///
    /// # Errors
    /// It is not there, and perhaps another device is at its name.
    pub fn locate(&self) -> Result<String, Lost> {
        let Some(known) = self.known.clone() else { return Ok(self.path.clone()) };
        let path = PathBuf::from(&self.path);
        let found = patiently(move || locate(&Sysfs::default(), &path, &known));
        let silent = || format!("the kernel does not say whether {} is there", self.path);
        found.unwrap_or_else(|| Err(silent().into()))
    }
}

/// All targets of these jobs, each once.
pub fn targets(jobs: &[JobSpec]) -> Result<Vec<Target>, String> {
    let mut targets: Vec<Target> = Vec::new();
    for (job, path) in jobs.iter().flat_map(|job| paths(job).map(move |path| (job, path))) {
        if targets.iter().any(|target| target.path == path) {
            continue;
        }
        if job.ioengine == engine::SPDK {
            // A transport id says itself where the device is, and the kernel does not have it.
            targets.push(Target { path, known: None });
            continue;
        }
        let looked_at = PathBuf::from(&path);
        let known = patiently(move || look(&looked_at))
            .unwrap_or_else(|| Err(io::Error::new(io::ErrorKind::TimedOut, "the kernel does not answer")))
            .map_err(|why| format!("{path}: {why}"))?;
        targets.push(Target { path, known });
    }
    Ok(targets)
}

/// The paths that a job names.
fn paths(job: &JobSpec) -> impl Iterator<Item = String> {
    job.filename.iter().map(|name| path_of(job, name))
}

fn path_of(job: &JobSpec, name: &str) -> String {
    if job.ioengine == engine::SPDK {
        return name.to_owned();
    }
    let directory = job.directory.clone().unwrap_or_default();
    directory.join(name).to_string_lossy().into_owned()
}

/// A file may not be there yet; a device must be.
fn look(path: &Path) -> io::Result<Option<Known>> {
    match block::lookup(&Sysfs::default(), path) {
        Ok(device) => Ok(device.as_ref().map(Known::of)),
        Err(why) if why.kind() == io::ErrorKind::NotFound && !is_node(path) => Ok(None),
        Err(why) => Err(why),
    }
}

fn is_node(path: &Path) -> bool {
    path.starts_with("/dev") && !path.starts_with("/dev/shm")
}

fn locate(sysfs: &Sysfs, path: &Path, known: &Known) -> Result<String, Lost> {
    let shown = path.to_string_lossy().into_owned();
    let here = block::lookup(sysfs, path);
    let Some(serial) = &known.serial else {
        return match here {
            Ok(Some(_)) => Ok(shown),
            Ok(None) => Err(format!("{shown} is not a block device any more").into()),
            Err(why) => Err(format!("{shown}: {why}").into()),
        };
    };
    if matches!(&here, Ok(Some(device)) if known.fits(device)) {
        return Ok(shown);
    }
    let all = block::all(sysfs).map_err(|why| why.to_string())?;
    let found: Vec<&BlockDevice> = all.iter().filter(|device| known.fits(device)).collect();
    match found[..] {
        [device] => Ok(format!("/dev/{}", device.name.replace('!', "/"))),
        [] => Err(missing(&shown, serial, here.ok().flatten().as_ref())),
        _ => {
            let names: Vec<&str> = found.iter().map(|device| device.name.as_str()).collect();
            let (serial, names) = (printable(serial), names.join(", "));
            Err(format!("several devices have the serial number {serial}: {names}").into())
        }
    }
}

/// No device has the serial number; `here` is what is at the name of the one that had it.
fn missing(shown: &str, serial: &str, here: Option<&BlockDevice>) -> Lost {
    let why = format!("there is no device with the serial number {}", printable(serial));
    match here {
        Some(other) => {
            let now = other.serial.as_deref().map_or("none".to_owned(), printable);
            Lost {
                why: format!("{why}; {shown} is now another device, of serial number {now}"),
                is_replaced: true,
            }
        }
        None => why.into(),
    }
}

/// Asks on a thread of its own, which a device that does not answer may keep.
fn patiently<T: Send + 'static>(ask: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (send, receive) = mpsc::channel();
    let asked = std::thread::Builder::new().name("look".to_owned()).spawn(move || {
        // Nobody may be waiting any more.
        let _ = send.send(ask());
    });
    asked.ok()?;
    receive.recv_timeout(LOOK).ok()
}

/// The jobs with their targets under the names that these have now.
pub fn renamed(jobs: &[JobSpec], names: &[(String, String)]) -> Vec<JobSpec> {
    let mut jobs = jobs.to_vec();
    for job in &mut jobs {
        let now = |name: &String| {
            let path = path_of(job, name);
            let found = names.iter().find(|(before, after)| *before == path && before != after);
            found.map_or_else(|| name.clone(), |(_, after)| after.clone())
        };
        job.filename = job.filename.iter().map(now).collect();
    }
    jobs
}

/// Of what `fio-spdk devices --json` says, what it says of these targets.
pub fn described(devices: &Value, paths: &[String]) -> Value {
    let name_of = |path: &str| {
        let real = std::fs::canonicalize(path).ok()?;
        Some(real.strip_prefix("/dev").ok()?.to_string_lossy().replace('/', "!"))
    };
    let all = devices.get("block_devices").and_then(Value::as_array);
    let one = |path: &String| {
        let name = name_of(path);
        let device = all.and_then(|all| {
            all.iter().find(|device| device.get("name").and_then(Value::as_str) == name.as_deref())
        });
        json!({ "target": path, "device": device.filter(|_| name.is_some()) })
    };
    Value::Array(paths.iter().map(one).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Known {
        Known { serial: Some("S1".to_owned()), wwid: Some("eui.1".to_owned()), part: "p1".to_owned() }
    }

    #[test]
    fn a_device_is_known_by_serial_number_namespace_and_partition() {
        let device = BlockDevice {
            name: "nvme3n1p1".to_owned(),
            disk: Some("nvme3n1".to_owned()),
            serial: Some("S1".to_owned()),
            wwid: Some("eui.1".to_owned()),
            ..BlockDevice::default()
        };
        assert!(known().fits(&device));
        let other = |change: fn(&mut BlockDevice)| {
            let mut other = device.clone();
            change(&mut other);
            known().fits(&other)
        };
        assert!(!other(|device| device.serial = Some("S2".to_owned())));
        assert!(!other(|device| device.wwid = Some("eui.2".to_owned())));
        assert!(!other(|device| device.name = "nvme3n1p2".to_owned()));
        assert!(!other(|device| device.serial = None));
    }

    #[test]
    fn a_target_comes_back_from_the_evidence_as_it_was() {
        for known in [None, Some(known()), Some(Known::default())] {
            let target = Target { path: "/dev/x".to_owned(), known };
            assert_eq!(Target::from_object(&target.object()), Some(target));
        }
        assert_eq!(Target::from_object(&json!({ "path": 7 })), None);
    }

    #[test]
    fn jobs_get_the_new_name_of_a_device_and_keep_all_others() {
        let text = "[[job]]\nfilename = [\"/dev/a\", \"b\"]\nrw = \"write\"\nsize = \"1m\"\n".to_owned();
        let jobs = crate::job::parse(&[("f".to_owned(), text)], &[]).unwrap();
        let pair = |from: &str, to: &str| (from.to_owned(), to.to_owned());
        let changed = renamed(&jobs, &[pair("/dev/a", "/dev/z"), pair("b", "b")]);
        assert_eq!(changed[0].filename, ["/dev/z", "b"]);
        assert_eq!(renamed(&jobs, &[pair("/dev/a", "/dev/a")])[0].filename, jobs[0].filename);
    }

    #[test]
    fn a_transport_id_is_no_path_and_is_known_by_itself() {
        let id = "trtype=PCIe traddr=0000:5e:00.0 ns=1";
        let text = format!("[[job]]\nioengine = \"spdk\"\nfilename = \"{id}\"\n");
        let mut jobs = crate::job::parse(&[("f".to_owned(), text)], &[]).unwrap();
        // Nothing of files is done to it, whatever else the job says.
        jobs[0].directory = Some("/tmp".into());
        assert_eq!(targets(&jobs), Ok(vec![Target { path: id.to_owned(), known: None }]));
        assert_eq!(renamed(&jobs, &[(id.to_owned(), id.to_owned())])[0].filename, [id]);
        assert_eq!(Target { path: id.to_owned(), known: None }.locate(), Ok(id.to_owned()));
    }

    #[test]
    fn a_file_is_where_it_was_and_no_device() {
        let target = Target { path: "data".to_owned(), known: None };
        assert_eq!(target.locate(), Ok("data".to_owned()));
        let said = described(&json!({ "block_devices": [{ "name": "sda" }] }), &["data".to_owned()]);
        assert_eq!(said, json!([{ "target": "data", "device": null }]));
    }

    /// A machine with these drives: name and serial number.
    fn machine(drives: &[(&str, &str)]) -> (tempfile::TempDir, Sysfs) {
        let root = tempfile::tempdir().unwrap();
        for (at, (name, serial)) in drives.iter().enumerate() {
            let drive = root.path().join("sys/block").join(name);
            std::fs::create_dir_all(drive.join("device")).unwrap();
            std::fs::write(drive.join("dev"), format!("259:{at}\n")).unwrap();
            std::fs::write(drive.join("device/serial"), format!("{serial}\n")).unwrap();
        }
        let sysfs = Sysfs::under(root.path());
        (root, sysfs)
    }

    #[test]
    fn a_device_is_found_by_its_serial_number_whatever_its_name_is() {
        let known = Known { serial: Some("S2".to_owned()), ..Known::default() };
        let path = Path::new("/dev/nvme9n1");
        let (_root, sysfs) = machine(&[("nvme0n1", "S1"), ("nvme1n1", "S2")]);
        assert_eq!(locate(&sysfs, path, &known), Ok("/dev/nvme1n1".to_owned()));
        let (_root, sysfs) = machine(&[("nvme0n1", "S1")]);
        let lost = locate(&sysfs, path, &known).unwrap_err();
        assert!(lost.why.contains("no device") && !lost.is_replaced, "{lost:?}");
        let other = block::all(&sysfs).unwrap().remove(0);
        let lost = missing("/dev/nvme9n1", "S2", Some(&other));
        assert!(lost.is_replaced && lost.why.contains("S2") && lost.why.contains("S1"), "{lost:?}");
        // Never a guess: it will be written to.
        let (_root, sysfs) = machine(&[("nvme0n1", "S2"), ("nvme1n1", "S2")]);
        let why = locate(&sysfs, path, &known).unwrap_err().why;
        assert!(why.contains("several") && why.contains("nvme0n1, nvme1n1"), "{why}");
    }

    #[test]
    fn a_device_that_is_gone_is_missed_by_its_serial_number() {
        let why = locate(&Sysfs::default(), Path::new("/dev/no-such-device"), &known()).unwrap_err().why;
        assert!(why.contains("serial number S1"), "{why}");
    }
}
