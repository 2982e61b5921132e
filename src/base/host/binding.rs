//! Giving an NVMe controller to user space, and back to the kernel.
//!
//! Nothing is remembered on disk: what was changed stands in the device's `driver_override`
//! (Documentation/ABI/testing/sysfs-bus-pci of the kernel), and giving back clears it. A device that
//! its new driver does not take goes back to the old one.
//!
//! A controller is taken from the kernel only while every one of its namespaces is claimed by us
//! (O_EXCL), from before who uses it is looked at for the last time until the kernel has let go: nobody can
//! mount in between.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::block::DeviceNumber;
use super::claims::{self, ClaimKind};
use super::nvme::{self, PciController};
use super::target::RefusalKind;
use super::userspace::{self, UserDriver};
use super::{Sysfs, attribute, names, pci, printable};

/// The kernel's driver of NVMe on PCI.
const KERNEL_DRIVER: &str = "nvme";
/// How long the kernel may take to drive a controller, in steps of [`STEP`].
const STEPS: usize = 100;
const STEP: Duration = Duration::from_millis(100);

/// What changes a machine. Tests have another one.
pub trait Kernel {
    /// Writes an attribute that exists.
    ///
    /// # Errors
    /// What the kernel answers.
    fn write(&self, path: &Path, text: &str) -> io::Result<()>;

    /// Loads a module; that it is there already is well.
    ///
    /// # Errors
    /// What modprobe says.
    fn modprobe(&self, module: &str) -> io::Result<()>;

    /// Mounts hugetlbfs on a directory, which is made.
    ///
    /// # Errors
    /// What the kernel answers.
    fn mount_hugetlbfs(&self, at: &Path, page_bytes: u64) -> io::Result<()>;

    /// Opens a block device so that nobody can mount or stack upon it; `None` needs no keeping.
    ///
    /// # Errors
    /// `ResourceBusy` if somebody has it so.
    fn claim(&self, node: &Path, number: DeviceNumber) -> io::Result<Option<File>>;

    /// Lets time pass.
    fn pause(&self, time: Duration);
}

/// This machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct ThisMachine;

impl Kernel for ThisMachine {
    fn write(&self, path: &Path, text: &str) -> io::Result<()> {
        OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes())
    }

    fn modprobe(&self, module: &str) -> io::Result<()> {
        // Where it lies if PATH is that of an ordinary user.
        let places = ["modprobe", "/usr/sbin/modprobe", "/sbin/modprobe"];
        for place in places {
            match Command::new(place).arg(module).stdin(Stdio::null()).output() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
                Ok(done) if done.status.success() => return Ok(()),
                Ok(done) => {
                    let said = String::from_utf8_lossy(&done.stderr);
                    return Err(io::Error::other(printable(said.trim())));
                }
            }
        }
        Err(io::Error::new(io::ErrorKind::NotFound, "there is no program modprobe"))
    }

    fn mount_hugetlbfs(&self, at: &Path, page_bytes: u64) -> io::Result<()> {
        use rustix::mount::{MountFlags, mount};
        fs::create_dir_all(at)?;
        let options = std::ffi::CString::new(format!("pagesize={page_bytes}"))?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        Ok(mount("hugetlbfs", at, "hugetlbfs", flags, options.as_c_str())?)
    }

    fn claim(&self, node: &Path, number: DeviceNumber) -> io::Result<Option<File>> {
        let file = claims::open_exclusively(node)?;
        if DeviceNumber::from_raw(file.metadata()?.rdev()) != number {
            return Err(io::Error::other("the node belongs to another device"));
        }
        Ok(Some(file))
    }

    fn pause(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

/// Why a controller stays where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Whether it would be unsafe; if not, the machine cannot do it.
    pub is_unsafe: bool,
    /// What is wrong.
    pub text: String,
    /// What to do; may be empty.
    pub advice: String,
}

impl Trouble {
    pub(super) fn environment(text: impl Into<String>, advice: impl Into<String>) -> Trouble {
        Trouble { is_unsafe: false, text: text.into(), advice: advice.into() }
    }

    fn unsafe_to_do(text: impl Into<String>, advice: impl Into<String>) -> Trouble {
        Trouble { is_unsafe: true, ..Trouble::environment(text, advice) }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.text))?;
        if self.advice.is_empty() { Ok(()) } else { write!(f, "\n  {}", printable(&self.advice)) }
    }
}

impl std::error::Error for Trouble {}

/// A controller that may be bound, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// As it is now.
    pub found: PciController,
    /// `0000:5e:00.0 (MODEL, serial S)`.
    pub title: String,
    /// The driver that it gets.
    pub driver: UserDriver,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// Namespaces that nobody else can begin to use.
#[derive(Debug, Default)]
pub struct Held {
    files: Vec<(String, Option<File>)>,
}

/// Binds and unbinds on one machine.
#[derive(Clone, Copy)]
pub struct Binder<'a> {
    /// Where the machine is read.
    pub sysfs: &'a Sysfs,
    /// What changes it.
    pub kernel: &'a dyn Kernel,
}

impl Binder<'_> {
    /// Whether the controller `bdf` may be bound, together with those of `all`. Changes nothing.
    ///
    /// # Errors
    /// If it is in use, is no NVMe controller, or the machine lacks what it takes.
    pub fn plan(&self, bdf: &str, forced: Option<UserDriver>, all: &[String]) -> Result<Plan, Trouble> {
        let found = self.find(bdf, "bind")?;
        let title = userspace::title(self.sysfs, &found);
        let driver = match (forced, found.driver.as_deref().and_then(UserDriver::from_name)) {
            (Some(forced), _) => forced,
            (None, Some(present)) => present,
            (None, None) if found.iommu_group.is_some() => UserDriver::VfioPci,
            (None, None) => UserDriver::UioPciGeneric,
        };
        let plan = Plan { notes: self.notes(&found, driver, all), title, driver, found };
        self.may_be_taken(&plan)?;
        if plan.driver == UserDriver::VfioPci {
            self.iommu_allows(&plan, all)?;
        }
        Ok(plan)
    }

    /// The controller, in words for this command.
    fn find(&self, bdf: &str, verb: &str) -> Result<PciController, Trouble> {
        userspace::find(self.sysfs, bdf).map_err(|refusal| {
            let text = format!("cannot {verb} {}: {}", refusal.target, refusal.reasons.join("; "));
            let is_unsafe = refusal.kind == RefusalKind::NotATarget;
            Trouble { is_unsafe, text, advice: refusal.advice }
        })
    }

    fn notes(&self, found: &PciController, driver: UserDriver, all: &[String]) -> Vec<String> {
        let mut notes = Vec::new();
        let twins: Vec<String> = nvme::controllers(self.sysfs)
            .into_iter()
            .filter(|other| Some(&other.name) != found.controller.as_ref())
            .filter(|other| other.address.as_ref().is_none_or(|address| !all.contains(address)))
            .filter(|other| other.namespaces.iter().any(|name| found.namespaces.contains(name)))
            .map(|other| other.name)
            .collect();
        if !twins.is_empty() {
            notes.push(format!(
                "the kernel still reaches the same namespaces through {}: do not mount them",
                twins.join(", ")
            ));
        }
        if driver != UserDriver::VfioPci {
            notes.push(format!(
                "{}: the device is given physical addresses, nothing keeps it from other memory, and only root can use it",
                driver.name()
            ));
            let kind = found.iommu_group.and_then(|group| {
                attribute(&self.sysfs.sys.join(format!("kernel/iommu_groups/{group}/type")))
            });
            if let Some(kind) = kind.filter(|kind| kind != "identity") {
                notes.push(format!(
                    "the IOMMU translates addresses (type {kind}), and will refuse physical ones: use vfio-pci"
                ));
            }
        }
        notes
    }

    /// Whether nobody uses the controller where it is now.
    fn may_be_taken(&self, plan: &Plan) -> Result<(), Trouble> {
        let Plan { found, title, .. } = plan;
        match found.driver.as_deref() {
            None => Ok(()),
            Some(name) if name == plan.driver.name() => Ok(()),
            Some(KERNEL_DRIVER) => {
                let users = userspace::kernel_users(self.sysfs, found).map_err(|error| {
                    Trouble::unsafe_to_do(
                        format!("refusing to bind {title}: it cannot be told who uses it: {error}"),
                        "",
                    )
                })?;
                let Some(first) = users.first() else { return Ok(()) };
                let sentences: Vec<&str> = users.iter().map(|user| user.sentence.as_str()).collect();
                Err(Trouble::unsafe_to_do(
                    format!("refusing to bind {title}, which is in use: {}", sentences.join("; ")),
                    userspace::first_do(first.kind),
                ))
            }
            Some(name) if UserDriver::from_name(name).is_some() => self.not_driven(found, title, "bind"),
            Some(name) => Err(Trouble::unsafe_to_do(
                format!(
                    "refusing to bind {title}: the driver {name} has it, and who that is for is not known"
                ),
                format!("Take it from there first: echo {} > /sys/bus/pci/drivers/{name}/unbind", found.bdf),
            )),
        }
    }

    /// Whether no program drives the controller from user space.
    fn not_driven(&self, found: &PciController, title: &str, verb: &str) -> Result<(), Trouble> {
        let users: Vec<String> =
            userspace::users(self.sysfs, found).iter().map(ToString::to_string).collect();
        if users.is_empty() {
            return Ok(());
        }
        let text = format!("refusing to {verb} {title}: it is driven by {}", users.join(", "));
        Err(Trouble::unsafe_to_do(text, "End that program first."))
    }

    /// vfio hands out whole IOMMU groups, and only if no other driver has a part of them.
    fn iommu_allows(&self, plan: &Plan, all: &[String]) -> Result<(), Trouble> {
        let Plan { found, title, .. } = plan;
        let Some(group) = found.iommu_group else {
            let unsafe_mode = self.sysfs.sys.join("module/vfio/parameters/enable_unsafe_noiommu_mode");
            if attribute(&unsafe_mode).is_some_and(|on| on == "Y" || on == "1") {
                return Ok(());
            }
            return Err(Trouble::environment(
                format!("cannot bind {title} to vfio-pci: the kernel has no IOMMU for it"),
                "Switch it on in the firmware (VT-d, AMD-Vi) and boot with intel_iommu=on iommu=pt, or use \
                 --driver uio_pci_generic.",
            ));
        };
        let dir = self.sysfs.sys.join(format!("kernel/iommu_groups/{group}/devices"));
        let others = names(&dir).into_iter().filter(|name| *name != found.bdf && !all.contains(name));
        let strangers: Vec<String> = others.filter_map(|name| self.stranger(&name)).collect();
        if strangers.is_empty() {
            return Ok(());
        }
        Err(Trouble::environment(
            format!(
                "cannot bind {title} to vfio-pci: its IOMMU group {group} is shared with {}, and vfio needs all of it",
                strangers.join(", ")
            ),
            "Bind the others with it if they are NVMe controllers, unbind them from their drivers if nobody needs \
             them, or put the drive into another slot.",
        ))
    }

    /// A device of the same group that stands in vfio's way. Bridges do not, and neither do drivers
    /// that do no DMA of their own.
    fn stranger(&self, bdf: &str) -> Option<String> {
        let is_bridge = pci::class(self.sysfs, bdf).is_some_and(|class| class >> 8 == 0x0604);
        let driver = pci::driver(self.sysfs, bdf)?;
        let harmless = driver.contains("vfio") || ["pci-stub", "pcieport"].contains(&driver.as_str());
        (!is_bridge && !harmless).then(|| format!("{bdf} (driver {driver})"))
    }

    /// Loads what the driver takes.
    ///
    /// # Errors
    /// If a module is missing or does not load.
    pub fn load(&self, driver: UserDriver) -> Result<(), Trouble> {
        let modules: &[&str] = match driver {
            UserDriver::VfioPci => &["vfio-pci", "vfio_iommu_type1"],
            UserDriver::UioPciGeneric => &["uio_pci_generic"],
            UserDriver::IgbUio => &["igb_uio"],
        };
        for module in modules {
            let is_there = self.sysfs.sys.join("bus/pci/drivers").join(module).exists()
                || self.sysfs.sys.join("module").join(module.replace('-', "_")).exists();
            if !is_there {
                self.modprobe(module)?;
            }
        }
        Ok(())
    }

    fn modprobe(&self, module: &str) -> Result<(), Trouble> {
        self.kernel.modprobe(module).map_err(|error| {
            Trouble::environment(
                format!("the kernel module {module} cannot be loaded: {error}"),
                "Distributions keep some modules in a package of their own (Ubuntu: linux-modules-extra-$(uname -r)).",
            )
        })
    }

    /// Claims all namespaces of controllers that the kernel drives, so that nobody can begin to use them;
    /// finds out who began unseen, in another mount namespace for instance.
    ///
    /// # Errors
    /// If one cannot be claimed.
    pub fn hold(&self, plans: &[Plan]) -> Result<Held, Trouble> {
        let mut held = Held::default();
        for plan in plans.iter().filter(|plan| plan.found.driver.as_deref() == Some(KERNEL_DRIVER)) {
            self.hold_one(plan, &mut held)?;
        }
        Ok(held)
    }

    fn hold_one(&self, plan: &Plan, held: &mut Held) -> Result<(), Trouble> {
        let refuse = |what: String, advice: &str| {
            Trouble::unsafe_to_do(format!("refusing to bind {}: {what}", plan.title), advice)
        };
        // As they are now: a namespace may have come since the plan was made.
        let now = pci_at(self.sysfs, &plan.found.bdf).filter(|now| *now == plan.found);
        let now = now.ok_or_else(|| refuse("it is not as it was a moment ago".to_owned(), "Try again."))?;
        let devices = userspace::namespaces(self.sysfs, &now)
            .map_err(|error| refuse(format!("it cannot be told who uses it: {error}"), ""))?;
        for device in devices {
            // Two ports of one drive have the same.
            if held.files.iter().any(|(name, _)| *name == device.name) {
                continue;
            }
            let claim = self.kernel.claim(&self.sysfs.dev.join(&device.name), device.number);
            let claim = claim.map_err(|error| {
                if error.kind() != io::ErrorKind::ResourceBusy {
                    return refuse(format!("{} cannot be claimed: {error}", device.name), "");
                }
                let who: Vec<String> =
                    claims::openers(self.sysfs, &device).iter().map(ToString::to_string).collect();
                let who = match who.as_slice() {
                    [] => "another program or the kernel (mounted in a container, ZFS)".to_owned(),
                    who => who.join(", "),
                };
                let what = format!("{} is open exclusively by {who}", device.name);
                refuse(what, userspace::first_do(ClaimKind::OpenElsewhere))
            })?;
            held.files.push((device.name, claim));
        }
        Ok(())
    }

    /// Binds a controller of which `held` has the namespaces; gives what was done as a sentence.
    ///
    /// # Errors
    /// If somebody uses it by now, or the driver does not take it; then it is back where it was.
    pub fn bind(&self, plan: &Plan, held: &mut Held) -> Result<String, Trouble> {
        let Plan { found, title, driver, .. } = plan;
        let (bdf, wanted) = (&found.bdf, driver.name());
        if found.driver.as_deref() == Some(wanted) {
            return Ok(format!("{title}: bound to {wanted} already"));
        }
        self.may_be_taken(plan)?;
        let taken = self.set_override(bdf, wanted).and_then(|()| self.detach(bdf));
        // What has gone is let go of, so that its name is free if it comes back.
        held.files.retain(|(name, _)| self.sysfs.sys.join("block").join(name).exists());
        let taken = taken.and_then(|()| self.probe(bdf)).and_then(|()| {
            if pci::driver(self.sysfs, bdf).as_deref() == Some(wanted) {
                return Ok(());
            }
            Err(format!("the driver {wanted} does not take it; the kernel's log (dmesg) says why"))
        });
        match taken {
            Ok(()) => {
                let group = pci_at(self.sysfs, bdf).and_then(|now| now.iommu_group);
                let group = group.map(|group| format!(", IOMMU group {group}")).unwrap_or_default();
                let from = found.driver.as_deref().unwrap_or("no driver");
                Ok(format!("{title}: {from} → {wanted}{group}"))
            }
            Err(why) => {
                Err(Trouble::environment(format!("cannot bind {title}: {why}"), self.put_back(found)))
            }
        }
    }

    fn put(&self, path: &Path, text: &str) -> Result<(), String> {
        let said = text.trim_end();
        self.kernel
            .write(path, text)
            .map_err(|error| format!("writing `{said}` to {} failed: {error}", path.display()))
    }

    fn attribute_of(&self, bdf: &str, name: &str) -> PathBuf {
        pci::directory(self.sysfs, bdf).join(name)
    }

    /// An empty name lets any driver have the device.
    fn set_override(&self, bdf: &str, driver: &str) -> Result<(), String> {
        self.put(&self.attribute_of(bdf, "driver_override"), &format!("{driver}\n"))
    }

    fn detach(&self, bdf: &str) -> Result<(), String> {
        match pci::driver(self.sysfs, bdf) {
            Some(_) => self.put(&self.attribute_of(bdf, "driver/unbind"), bdf),
            None => Ok(()),
        }
    }

    fn probe(&self, bdf: &str) -> Result<(), String> {
        self.put(&self.sysfs.sys.join("bus/pci/drivers_probe"), bdf)
    }

    /// Undoes what was done of binding; says where the device is now.
    fn put_back(&self, found: &PciController) -> String {
        let bdf = &found.bdf;
        let before = found.driver.as_deref();
        let user_driver = before.filter(|name| UserDriver::from_name(name).is_some());
        let undone = self.set_override(bdf, user_driver.unwrap_or("")).and_then(|()| {
            if pci::driver(self.sysfs, bdf).as_deref() == before {
                return Ok(());
            }
            self.detach(bdf)?;
            if before.is_some() { self.probe(bdf) } else { Ok(()) }
        });
        let now = pci::driver(self.sysfs, bdf);
        match (undone, now.as_deref() == before) {
            (Ok(()), true) => format!("It is back where it was ({}).", before.unwrap_or("no driver")),
            (undone, _) => format!(
                "It could not be put back either, and is bound to {} now{}",
                now.as_deref().unwrap_or("no driver"),
                undone.err().map(|why| format!(": {why}")).unwrap_or_default()
            ),
        }
    }

    /// Whether a controller may be given back. Changes nothing.
    ///
    /// # Errors
    /// If a program drives it, or it is no NVMe controller of user space.
    pub fn plan_return(&self, bdf: &str) -> Result<PciController, Trouble> {
        let found = self.find(bdf, "unbind")?;
        let title = userspace::title(self.sysfs, &found);
        match found.driver.as_deref() {
            None | Some(KERNEL_DRIVER) => {}
            Some(name) if UserDriver::from_name(name).is_some() => {
                self.not_driven(&found, &title, "unbind")?
            }
            Some(name) => {
                return Err(Trouble::unsafe_to_do(
                    format!(
                        "refusing to unbind {title}: the driver {name} has it, and who that is for is not known"
                    ),
                    format!(
                        "Take it from there first: echo {} > /sys/bus/pci/drivers/{name}/unbind",
                        found.bdf
                    ),
                ));
            }
        }
        Ok(found)
    }

    /// Gives a controller back to the kernel and waits for its namespaces; gives what was done as a
    /// sentence.
    ///
    /// # Errors
    /// If the kernel does not drive it in ten seconds.
    pub fn unbind(&self, found: &PciController) -> Result<String, Trouble> {
        let bdf = &found.bdf;
        let title = userspace::title(self.sysfs, found);
        let failed = |why: String| {
            let now = pci::driver(self.sysfs, bdf).unwrap_or_else(|| "no driver".to_owned());
            Trouble::environment(
                format!("cannot give {title} back: {why}"),
                format!("It is bound to {now} now."),
            )
        };
        let from = found.driver.as_deref().unwrap_or("no driver");
        if from == KERNEL_DRIVER {
            if pci::driver_override(self.sysfs, bdf).is_some() {
                self.set_override(bdf, "").map_err(failed)?;
            }
            let now = self.wait_for_kernel(bdf).map_err(failed)?;
            return Ok(format!("{}: the kernel's already: {now}", userspace::title(self.sysfs, found)));
        }
        if !self.sysfs.sys.join("bus/pci/drivers").join(KERNEL_DRIVER).exists() {
            self.modprobe(KERNEL_DRIVER)?;
        }
        // Once more: it takes a while to look at several.
        self.not_driven(found, &title, "unbind")?;
        let done = self.set_override(bdf, "").and_then(|()| self.detach(bdf)).and_then(|()| self.probe(bdf));
        let now = done.and_then(|()| self.wait_for_kernel(bdf)).map_err(failed)?;
        let title = pci_at(self.sysfs, bdf).map_or(title, |found| userspace::title(self.sysfs, &found));
        Ok(format!("{title}: {from} → {KERNEL_DRIVER}: {now}"))
    }

    /// The kernel looks for namespaces in the background: they are all there when no more come.
    fn wait_for_kernel(&self, bdf: &str) -> Result<String, String> {
        let mut last = Vec::new();
        let (mut unchanged, mut live_for) = (0, 0);
        let mut state = None;
        for _ in 0..STEPS {
            let found = pci_at(self.sysfs, bdf).unwrap_or_default();
            if let Some(controller) = &found.controller {
                state = attribute(&self.attribute_of(bdf, "nvme").join(controller).join("state"));
                match state.as_deref() {
                    Some("dead") => break,
                    Some("live") | None => live_for += 1,
                    Some(_) => live_for = 0,
                }
                let blocks = self.sysfs.sys.join("block");
                let namespaces: Vec<String> =
                    found.namespaces.into_iter().filter(|name| blocks.join(name).exists()).collect();
                unchanged = if namespaces == last { unchanged + 1 } else { 0 };
                last = namespaces;
                if live_for > 0 && !last.is_empty() && unchanged >= 3 {
                    let nodes: Vec<String> = last.iter().map(|name| format!("/dev/{name}")).collect();
                    return Ok(format!("{controller} with {}", nodes.join(", ")));
                }
                if live_for >= 30 && last.is_empty() {
                    return Ok(format!("{controller}, which has no namespaces"));
                }
            }
            self.kernel.pause(STEP);
        }
        let state = state.map(|state| format!(" (state {state})")).unwrap_or_default();
        Err(match pci::driver(self.sysfs, bdf) {
            Some(driver) if driver == KERNEL_DRIVER => {
                format!("its controller did not come up in 10 s{state}; the kernel's log (dmesg) says why")
            }
            _ => "the kernel's nvme driver does not take it; the kernel's log (dmesg) says why".to_owned(),
        })
    }
}

fn pci_at(sysfs: &Sysfs, bdf: &str) -> Option<PciController> {
    nvme::pci_controller_at(sysfs, bdf)
}
