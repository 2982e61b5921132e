//! Admin commands through the kernel's NVMe driver (linux/nvme_ioctl.h), for looking only.

#![allow(unsafe_code, reason = "an ioctl whose positive answers no crate gives back")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use super::block::BlockDevice;
use super::{Sysfs, nvme};
use crate::base::Status;
use crate::base::nvme::{Admin, ControllerFacts, DeviceFacts, NamespaceFacts};

/// NVME_IOCTL_ADMIN_CMD: `_IOWR('N', 0x41, struct nvme_admin_cmd)`.
const ADMIN_CMD: rustix::ioctl::Opcode = rustix::ioctl::opcode::read_write::<Command>(b'N', 0x41);
/// How long a device may take to answer before the run goes on without its facts.
pub const PATIENCE: Duration = Duration::from_secs(3);

const GET_LOG_PAGE: u8 = 0x02;
const IDENTIFY: u8 = 0x06;
const GET_FEATURES: u8 = 0x0a;

/// `struct nvme_passthru_cmd`. The timeout stays 0, the driver's own (a minute): if a shorter one
/// ran out, the driver would reset the controller under test.
#[repr(C)]
#[derive(Default)]
struct Command {
    opcode: u8,
    flags: u8,
    reserved: u16,
    nsid: u32,
    cdw2_3: [u32; 2],
    metadata: u64,
    address: u64,
    metadata_len: u32,
    data_len: u32,
    cdw10_15: [u32; 6],
    timeout_ms: u32,
    result: u32,
}

const _: () = assert!(size_of::<Command>() == 72, "the size is a part of the ioctl's number");

/// An open controller or namespace of the kernel's driver. Its calls wait for the device; see
/// [`facts`] for one that does not wait for ever.
#[derive(Debug)]
pub struct KernelAdmin {
    file: File,
}

impl KernelAdmin {
    /// Opens `/dev/nvme0` or `/dev/nvme0n1`, for reading only.
    ///
    /// # Errors
    /// What `open` says.
    pub fn open(node: &Path) -> io::Result<KernelAdmin> {
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(node)?;
        Ok(KernelAdmin { file })
    }

    /// Sends a command that reads into `data`; gives back dword 0 of its completion.
    fn send(&self, mut command: Command, data: &mut [u8]) -> Result<u32, String> {
        command.address = data.as_mut_ptr().expose_provenance() as u64;
        command.data_len = u32::try_from(data.len()).map_err(|_| "too long".to_owned())?;
        if data.is_empty() {
            command.address = 0;
        }
        // SAFETY: the request reads and writes one `Command` (its size is in the request's number), and
        // the kernel writes at most `data_len` bytes at `address`, which is `data`, borrowed for the call.
        let answer = unsafe { libc::ioctl(self.file.as_raw_fd(), ADMIN_CMD.into(), &raw mut command) };
        match answer {
            0 => Ok(command.result),
            // Status code, type in bits 8 to 10, Do Not Retry in bit 14 (NVME_SC_DNR).
            1.. => {
                let [sc, high, ..] = answer.to_le_bytes();
                Err(Status::from_nvme(high & 7, sc, high & 0x40 != 0).to_string())
            }
            _ => Err(match io::Error::last_os_error().raw_os_error() {
                Some(errno) if errno > 0 => Status::from_errno(errno).to_string(),
                _ => "the ioctl failed".to_owned(),
            }),
        }
    }

    fn identify(&self, cns: u32, nsid: u32) -> Result<[u8; 4096], String> {
        let mut data = [0; 4096];
        let command =
            Command { opcode: IDENTIFY, nsid, cdw10_15: [cns, 0, 0, 0, 0, 0], ..Command::default() };
        self.send(command, &mut data).map_err(|why| format!("Identify (CNS {cns:02x}h): {why}"))?;
        Ok(data)
    }
}

impl Admin for KernelAdmin {
    fn identify_controller(&self) -> Result<[u8; 4096], String> {
        self.identify(1, 0)
    }

    fn identify_namespace(&self, nsid: u32) -> Result<[u8; 4096], String> {
        self.identify(0, nsid)
    }

    fn log_page(&self, id: u8, nsid: u32, into: &mut [u8]) -> Result<(), String> {
        let dwords = u32::try_from(into.len() / 4).unwrap_or(u32::MAX).saturating_sub(1);
        let (low, high) = (dwords << 16, dwords >> 16);
        let cdw10_15 = [low | u32::from(id), high, 0, 0, 0, 0];
        let command = Command { opcode: GET_LOG_PAGE, nsid, cdw10_15, ..Command::default() };
        self.send(command, into).map_err(|why| format!("Get Log Page {id:02x}h: {why}")).map(drop)
    }

    fn get_feature(&self, id: u8) -> Result<u32, String> {
        let cdw10_15 = [u32::from(id), 0, 0, 0, 0, 0];
        let command = Command { opcode: GET_FEATURES, cdw10_15, ..Command::default() };
        self.send(command, &mut []).map_err(|why| format!("Get Features {id:02x}h: {why}"))
    }

    fn set_feature(&self, id: u8, _: u32) -> Result<(), String> {
        Err(format!("feature {id:02x}h is the kernel's: through its driver nothing is changed"))
    }
}

/// A namespace of the kernel's NVMe driver, by which it can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    node: PathBuf,
    nsid: u32,
    name: String,
}

impl Namespace {
    /// The namespace that a block device is, or is a partition of; `None` if it is none.
    #[must_use]
    pub fn of(sysfs: &Sysfs, device: &BlockDevice) -> Option<Namespace> {
        let name = device.disk.as_ref().unwrap_or(&device.name);
        let nsid = nvme::nsid(sysfs, name)?;
        Some(Namespace { node: sysfs.dev.join(name), nsid, name: name.clone() })
    }

    /// The namespace behind a path.
    #[must_use]
    pub fn at(sysfs: &Sysfs, path: &Path) -> Option<Namespace> {
        Namespace::of(sysfs, &super::block::lookup(sysfs, path).ok()??)
    }
}

/// What the device is, and how it is now. A device that does not answer in time is left alone: the
/// thread that asks it ends when the driver gives up.
///
/// # Errors
/// Why nothing is known: no permission, no answer.
pub fn facts(sysfs: &Sysfs, namespace: &Namespace) -> Result<DeviceFacts, String> {
    facts_within(PATIENCE, sysfs, namespace)
}

/// The same with another limit of time.
///
/// # Errors
/// As [`facts`].
pub fn facts_within(patience: Duration, sysfs: &Sysfs, namespace: &Namespace) -> Result<DeviceFacts, String> {
    let Namespace { node, nsid, name } = namespace.clone();
    let ask = move || {
        let admin = KernelAdmin::open(&node).map_err(|error| format!("cannot open it: {error}"))?;
        DeviceFacts::collect(&admin, nsid)
    };
    let mut facts = in_time(patience, ask).map_err(|why| format!("/dev/{name}: {why}"))?;
    facts.link = nvme::link(sysfs, &name);
    Ok(facts)
}

/// What a controller and its namespaces are, without their health. As [`facts`], it waits for a
/// device only so long.
///
/// # Errors
/// Why nothing is known: no permission, no answer.
pub fn inventory(
    sysfs: &Sysfs,
    controller: &nvme::Controller,
) -> Result<(ControllerFacts, Vec<(String, NamespaceFacts)>), String> {
    let node = sysfs.dev.join(&controller.name);
    let ids = controller.namespaces.iter().map(|name| (name.clone(), nvme::nsid(sysfs, name)));
    let ids: Vec<(String, u32)> = ids.filter_map(|(name, nsid)| Some((name, nsid?))).collect();
    let others: Vec<PathBuf> = ids.iter().map(|(name, _)| sysfs.dev.join(name)).collect();
    in_time(PATIENCE, move || {
        // The controller's own node is for root alone; those of namespaces may be open to more.
        let mut opened = KernelAdmin::open(&node);
        for other in others {
            opened = opened.or_else(|_| KernelAdmin::open(&other));
        }
        let admin = opened.map_err(|error| format!("cannot open it: {error}"))?;
        let mut found = ControllerFacts::parse(&admin.identify_controller()?);
        found.write_cache_enabled = found.ask_write_cache(&admin).ok();
        let mut namespaces = Vec::new();
        for (name, nsid) in ids {
            namespaces.push((name, NamespaceFacts::parse(nsid, &admin.identify_namespace(nsid)?)));
        }
        Ok((found, namespaces))
    })
}

/// Runs `ask` on a thread of its own and waits for it, but not for ever.
fn in_time<T: Send + 'static>(
    patience: Duration,
    ask: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let (say, hear) = mpsc::sync_channel(1);
    std::thread::Builder::new()
        .name("nvme admin".to_owned())
        .spawn(move || {
            // Nobody may be listening any more.
            let _ = say.send(ask());
        })
        .map_err(|error| format!("cannot start a thread: {error}"))?;
    hear.recv_timeout(patience).unwrap_or_else(|_| Err(format!("no answer within {patience:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_does_not_answer_is_not_waited_for() {
        let (hold, held) = mpsc::channel::<()>();
        let answer: Result<(), String> = in_time(Duration::from_millis(20), move || {
            let _ = held.recv();
            Ok(())
        });
        assert_eq!(answer, Err("no answer within 20ms".to_owned()));
        drop(hold);
        assert_eq!(in_time(Duration::from_secs(60), || Ok(7)), Ok(7));
    }

    #[test]
    fn what_is_no_nvme_device_refuses_the_command_and_is_left_as_it_is() {
        let admin = KernelAdmin::open(Path::new("/dev/null")).unwrap();
        let why = admin.identify_controller().unwrap_err();
        assert!(why.contains("CNS 01h") && why.contains("errno 25"), "{why}");
        assert!(admin.set_feature(6, 0).unwrap_err().contains("nothing is changed"));
    }
}
