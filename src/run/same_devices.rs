//! `--same-devices`: the devices of a run are those of the run before it. The first run records what its targets
//! are known by in a file; a later one is refused where another device is at one of the names. For scripts and
//! campaigns that cut the power in between: names and addresses may lead elsewhere after that.

use std::io;
use std::path::Path;

use serde_json::{Value, json};

use crate::base::host::output_file::{self, Start};
use crate::base::host::{Sysfs, block};
use crate::engine::TargetFacts;

use super::plan::JobPlan;
use super::{ErrorKind, RunError, open_job};

/// What a device is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Device {
    /// As the job names it: the path, or the transport ID.
    path: String,
    /// Model and serial number, and the number of a partition.
    name: String,
    /// World-wide name, as the kernel spells it; empty if there is none.
    wwid: String,
    size_bytes: u64,
    /// The path is an address: the device is this one there, and at no other. The kernel's names are not.
    is_address: bool,
}

impl Device {
    fn object(&self) -> Value {
        json!({
            "path": self.path,
            "model_and_serial": self.name,
            "wwid": self.wwid,
            "size_bytes": self.size_bytes,
            "is_address": self.is_address,
        })
    }

    fn from_object(value: &Value) -> Option<Device> {
        let text = |name: &str| value.get(name)?.as_str().map(str::to_owned);
        Some(Device {
            path: text("path")?,
            name: text("model_and_serial")?,
            wwid: text("wwid")?,
            size_bytes: value.get("size_bytes")?.as_u64()?,
            is_address: value.get("is_address")?.as_bool()?,
        })
    }

    /// Whether this is the device that `before` was. One without a name of its own is known by its path.
    fn is(&self, before: &Device) -> bool {
        let known = !self.name.is_empty() || !self.wwid.is_empty();
        (&self.name, &self.wwid, self.size_bytes, self.is_address)
            == (&before.name, &before.wwid, before.size_bytes, before.is_address)
            && (self.path == before.path || known && !self.is_address)
    }

    fn told(&self) -> String {
        let name = if self.name.is_empty() { "a device without a serial number" } else { &self.name };
        format!("`{name}` ({} bytes)", self.size_bytes)
    }
}

/// Compares the devices of all jobs with those in `file`, or records them there if it does not exist. `checked`
/// gets the targets that the kernel does not know, as they are now: what is opened later is compared with them.
///
/// # Errors
/// Another device is at a target's name: of kind `Unsafe`. The file cannot be read or written.
pub fn check(plans: &[JobPlan], checked: &mut Vec<TargetFacts>, file: &Path) -> Result<(), RunError> {
    let mut now: Vec<Device> = Vec::new();
    for plan in plans {
        if plan.uses_namespaces() {
            // Those of a job that writes have been looked at.
            if !plan.targets.iter().all(|path| checked.iter().any(|facts| facts.path == *path)) {
                let opened =
                    open_job::probe(plan).map_err(|error| RunError::of_engine(&plan.spec, &error))?;
                for facts in opened.facts() {
                    if !checked.iter().any(|known| known.path == facts.path) {
                        checked.push(facts.clone());
                    }
                }
            }
        } else if plan.uses_files() {
            // What is held for the run, wherever its path leads by now.
            for pin in plan.pins.iter() {
                let device = of_kernel(pin.path(), &pin.place()).map_err(|why| {
                    RunError::environment(&plan.spec, format!("{}: {why}", pin.path().display()))
                })?;
                now.extend(device);
            }
        }
    }
    now.extend(checked.iter().filter_map(namespace));
    compare(&now, file)
}

/// A block device of the kernel; `None` for a file, which the kernel keeps apart by itself.
fn of_kernel(path: &Path, place: &Path) -> io::Result<Option<Device>> {
    let device = match block::lookup(&Sysfs::default(), place) {
        // A file that will be made.
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    Ok(device.map(|device| {
        let disk = device.disk.as_deref().unwrap_or(&device.name);
        let part = device.name.strip_prefix(disk).unwrap_or_default();
        let words = [device.model.as_deref().unwrap_or(""), device.serial.as_deref().unwrap_or(""), part];
        let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
        Device {
            path: path.to_string_lossy().into_owned(),
            name: if device.serial.is_some() { words.join(" ") } else { String::new() },
            wwid: device.wwid.clone().unwrap_or_default(),
            size_bytes: device.size_bytes,
            is_address: false,
        }
    }))
}

fn namespace(facts: &TargetFacts) -> Option<Device> {
    let known = facts.known.as_ref()?;
    Some(Device {
        path: facts.path.to_string_lossy().into_owned(),
        name: known.name.clone(),
        wwid: known.wwid.clone(),
        size_bytes: facts.size_bytes,
        is_address: true,
    })
}

fn compare(now: &[Device], file: &Path) -> Result<(), RunError> {
    let failed = |why: String| RunError {
        kind: ErrorKind::Environment,
        message: format!("--same-devices={}: {why}", file.display()),
    };
    let before = match std::fs::read_to_string(file) {
        Ok(text) => parse(&text).ok_or_else(|| {
            failed("the file is damaged: remove it, and the next run records its devices anew".to_owned())
        })?,
        Err(why) if why.kind() == io::ErrorKind::NotFound => {
            return record(now, file).map_err(|why| failed(format!("cannot be written: {why}")));
        }
        Err(why) => return Err(failed(format!("cannot be read: {why}"))),
    };
    for device in now {
        if before.iter().any(|known| device.is(known)) {
            continue;
        }
        let was = match before.iter().find(|known| known.path == device.path) {
            Some(known) => known.told(),
            None => before.iter().map(Device::told).collect::<Vec<_>>().join(" or "),
        };
        let message = format!(
            "{}: another device is there: model and serial number were {was} when the devices were recorded in {}, \
             and {} is there now; nothing was written",
            device.path,
            file.display(),
            device.told()
        );
        return Err(RunError { kind: ErrorKind::Unsafe, message });
    }
    Ok(())
}

fn parse(text: &str) -> Option<Vec<Device>> {
    let value: Value = serde_json::from_str(text).ok()?;
    value.get("devices")?.as_array()?.iter().map(Device::from_object).collect()
}

/// Whole or not at all.
fn record(now: &[Device], file: &Path) -> io::Result<()> {
    let mut beside = file.as_os_str().to_owned();
    beside.push(".new");
    let beside = Path::new(&beside);
    let object = json!({ "devices": now.iter().map(Device::object).collect::<Vec<_>>() });
    let out = output_file::open(beside, Start::Empty)?;
    io::Write::write_all(&mut &out, format!("{object:#}\n").as_bytes())?;
    out.sync_all()?;
    std::fs::rename(beside, file)?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    std::fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(path: &str, name: &str, is_address: bool) -> Device {
        Device {
            path: path.to_owned(),
            name: name.to_owned(),
            wwid: String::new(),
            size_bytes: 512,
            is_address,
        }
    }

    fn later(before: &[Device], now: &[Device]) -> Result<(), RunError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("devices.json");
        compare(before, &file).unwrap();
        compare(now, &file)
    }

    #[test]
    fn the_kernels_names_may_change_and_the_drives_may_not() {
        let drives = [device("/dev/nvme0n1", "M A", false), device("/dev/nvme1n1", "M B", false)];
        let changed = [device("/dev/nvme1n1", "M A", false), device("/dev/nvme7n1", "M B", false)];
        assert_eq!(later(&drives, &drives), Ok(()));
        assert_eq!(later(&drives, &changed), Ok(()));
        assert_eq!(later(&drives, &changed[..1]), Ok(()));
        let why = later(&drives, &[device("/dev/nvme0n1", "M C", false)]).unwrap_err();
        assert_eq!(why.kind, ErrorKind::Unsafe);
        assert!(why.message.contains("`M A`") && why.message.contains("`M C`"), "{why}");
    }

    #[test]
    fn a_drive_at_an_address_is_the_one_of_that_address() {
        let drives = [device("0000:01:00.0", "M A", true), device("0000:02:00.0", "M B", true)];
        let changed = [device("0000:01:00.0", "M B", true), device("0000:02:00.0", "M A", true)];
        assert_eq!(later(&drives, &drives), Ok(()));
        assert_eq!(later(&drives, &changed).unwrap_err().kind, ErrorKind::Unsafe);
    }

    #[test]
    fn a_device_without_a_serial_number_is_known_by_its_path_and_size() {
        let drive = device("/dev/loop0", "", false);
        assert_eq!(later(std::slice::from_ref(&drive), std::slice::from_ref(&drive)), Ok(()));
        let other = device("/dev/loop1", "", false);
        assert_eq!(later(std::slice::from_ref(&drive), &[other]).unwrap_err().kind, ErrorKind::Unsafe);
        let longer = Device { size_bytes: 1024, ..drive.clone() };
        assert_eq!(later(&[drive], &[longer]).unwrap_err().kind, ErrorKind::Unsafe);
    }

    #[test]
    fn a_damaged_file_is_not_taken_for_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("devices.json");
        for text in ["", "{}", "{\"devices\":[{}]}"] {
            std::fs::write(&file, text).unwrap();
            let why = compare(&[device("/dev/loop0", "", false)], &file).unwrap_err();
            assert!(why.kind == ErrorKind::Environment && why.message.contains("damaged"), "{why}");
        }
    }
}
