//! Made-up machines with a kernel that answers: what is written to it when a controller changes hands, and
//! what must not be.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use super::binding::{Binder, Held, Kernel, Plan, Trouble};
use super::block::DeviceNumber;
use super::hugepages::{self, HugeMount, hugepages};
use super::machines::{Machine, NO_SWAP, mount, nvme_machine};
use super::target::RefusalKind;
use super::userspace::{Bound, UserDriver, check_controller};

const BDF: &str = "0000:01:00.0";
const HOME: &str = "sys/devices/pci0000:00/0000:01:00.0";

/// Does with a made-up machine what the kernel would do, and writes down what it was told.
struct Fake<'a> {
    machine: &'a Machine,
    log: RefCell<Vec<String>>,
    /// Drivers that take no device.
    refusing: Vec<&'static str>,
    /// Devices that somebody has claimed.
    busy: Vec<&'static str>,
    /// Modules that are not installed.
    missing: Vec<&'static str>,
    /// Most hugepages that the memory has room for.
    most_pages: u64,
}

impl<'a> Fake<'a> {
    fn of(machine: &'a Machine) -> Fake<'a> {
        for driver in ["nvme", "vfio-pci", "uio_pci_generic", "pci-stub"] {
            fs::create_dir_all(machine.path(&format!("sys/bus/pci/drivers/{driver}"))).unwrap();
        }
        fs::create_dir_all(machine.path("sys/module/vfio_iommu_type1")).unwrap();
        Fake {
            machine,
            log: RefCell::default(),
            refusing: Vec::new(),
            busy: Vec::new(),
            missing: Vec::new(),
            most_pages: u64::MAX,
        }
    }

    fn binder(&self) -> Binder<'_> {
        Binder { sysfs: &self.machine.sysfs, kernel: self }
    }

    fn plan(&self, forced: Option<UserDriver>) -> Result<Plan, Trouble> {
        self.binder().plan(BDF, forced, &[BDF.to_owned()])
    }

    fn bind(&self, forced: Option<UserDriver>) -> Result<String, Trouble> {
        let plan = self.plan(forced)?;
        self.binder().load(plan.driver)?;
        let mut held = self.binder().hold(std::slice::from_ref(&plan))?;
        self.binder().bind(&plan, &mut held)
    }

    fn unbind(&self) -> Result<String, Trouble> {
        self.binder().unbind(&self.binder().plan_return(BDF)?)
    }

    fn told(&self) -> Vec<String> {
        self.log.take()
    }

    /// What a kernel without the controller looks like: no nvme0, no block devices.
    fn take_nvme(&self) {
        let _ = fs::rename(self.machine.path(&format!("{HOME}/nvme")), self.machine.path("stash"));
        let _ = fs::remove_file(self.machine.path("sys/block/nvme0n1"));
    }

    fn give_nvme(&self) {
        let _ = fs::rename(self.machine.path("stash"), self.machine.path(&format!("{HOME}/nvme")));
        if !self.machine.path("sys/block/nvme0n1").exists() {
            self.machine.link("sys/block/nvme0n1", &format!("{HOME}/nvme/nvme0/nvme0n1"));
        }
    }
}

impl Kernel for Fake<'_> {
    fn write(&self, path: &Path, text: &str) -> io::Result<()> {
        let root = self.machine.path("");
        let name = path.strip_prefix(&root).unwrap().display().to_string();
        self.log.borrow_mut().push(format!("{name}={}", text.trim_end()));
        let driver = self.machine.path(&format!("{HOME}/driver"));
        let attribute = path.file_name().unwrap().to_str().unwrap();
        match attribute {
            "driver_override" => fs::write(path, text)?,
            "unbind" => {
                fs::remove_file(driver)?;
                self.take_nvme();
            }
            "drivers_probe" => {
                let wanted = fs::read_to_string(self.machine.path(&format!("{HOME}/driver_override")))?;
                let wanted = if wanted.trim().is_empty() { "nvme" } else { wanted.trim() };
                if !self.refusing.contains(&wanted) {
                    symlink(self.machine.path(&format!("sys/bus/pci/drivers/{wanted}")), driver)?;
                    if wanted == "nvme" {
                        self.give_nvme();
                    }
                }
            }
            "nr_hugepages" => {
                let count = |name| -> u64 {
                    fs::read_to_string(path.with_file_name(name)).unwrap().trim().parse().unwrap()
                };
                let (before, free) = (count("nr_hugepages"), count("free_hugepages"));
                let now = text.parse::<u64>().unwrap().min(self.most_pages);
                fs::write(path, now.to_string())?;
                fs::write(path.with_file_name("free_hugepages"), (free + now - before).to_string())?;
            }
            _ => {}
        }
        Ok(())
    }

    fn modprobe(&self, module: &str) -> io::Result<()> {
        if self.missing.contains(&module) {
            return Err(io::Error::other(format!("FATAL: Module {module} not found")));
        }
        self.log.borrow_mut().push(format!("modprobe {module}"));
        fs::create_dir_all(self.machine.path(&format!("sys/bus/pci/drivers/{module}")))
    }

    fn mount_hugetlbfs(&self, at: &Path, page_bytes: u64) -> io::Result<()> {
        self.log.borrow_mut().push(format!("mount {} {page_bytes}", at.file_name().unwrap().display()));
        Ok(())
    }

    fn claim(&self, node: &Path, _: DeviceNumber) -> io::Result<Option<File>> {
        let name = node.file_name().unwrap().to_str().unwrap();
        if self.busy.contains(&name) { Err(io::ErrorKind::ResourceBusy.into()) } else { Ok(None) }
    }

    fn pause(&self, _: Duration) {}
}

fn free_machine() -> Machine {
    let machine = nvme_machine("");
    machine.write(&format!("{HOME}/driver_override"), "(null)\n");
    machine.link("sys/kernel/iommu_groups/17/devices/0000:01:00.0", HOME);
    machine
}

/// Another driver has the controller, and nothing of the kernel's nvme driver is left.
fn bound_to(driver: &str) -> Machine {
    let machine = free_machine();
    let fake = Fake::of(&machine);
    fs::remove_file(machine.path(&format!("{HOME}/driver"))).unwrap();
    machine.link(&format!("{HOME}/driver"), &format!("sys/bus/pci/drivers/{driver}"));
    machine.write(&format!("{HOME}/driver_override"), driver);
    fake.take_nvme();
    machine
}

/// A program has a character device of this number open; /dev/null stands for it.
fn opened(machine: &Machine, dev: &str) {
    machine.write(dev, "1:3\n");
    machine.write("proc/4242/comm", "spdk_tgt\n");
    fs::create_dir_all(machine.path("proc/4242/fd")).unwrap();
    symlink("/dev/null", machine.path("proc/4242/fd/3")).unwrap();
}

#[test]
fn a_controller_goes_to_vfio_and_back_and_a_second_time_changes_nothing() {
    let machine = free_machine();
    let fake = Fake::of(&machine);
    let done = fake.bind(None).unwrap();
    assert_eq!(done, "0000:01:00.0 (SAMSUNG 990 PRO, serial S4EV): nvme → vfio-pci, IOMMU group 17");
    let device = format!("sys/bus/pci/devices/{BDF}");
    assert_eq!(
        fake.told(),
        [
            format!("{device}/driver_override=vfio-pci"),
            format!("{device}/driver/unbind={BDF}"),
            format!("sys/bus/pci/drivers_probe={BDF}"),
        ]
    );
    assert!(fake.bind(None).unwrap().ends_with("bound to vfio-pci already"));
    assert_eq!(fake.told(), [""; 0]);
    let back = fake.unbind().unwrap();
    assert_eq!(back, "0000:01:00.0 (SAMSUNG 990 PRO, serial S4EV): vfio-pci → nvme: nvme0 with /dev/nvme0n1");
    assert_eq!(
        fake.told(),
        [
            format!("{device}/driver_override="),
            format!("{device}/driver/unbind={BDF}"),
            format!("sys/bus/pci/drivers_probe={BDF}"),
        ]
    );
    assert!(fake.unbind().unwrap().contains("the kernel's already: nvme0 with /dev/nvme0n1"));
    assert_eq!(fake.told(), [""; 0]);
}

#[test]
fn without_an_iommu_it_is_uio_and_vfio_only_where_the_kernel_was_told_so() {
    let machine = free_machine();
    fs::remove_file(machine.path(&format!("{HOME}/iommu_group"))).unwrap();
    let mut fake = Fake::of(&machine);
    fs::remove_dir(machine.path("sys/bus/pci/drivers/uio_pci_generic")).unwrap();
    let plan = fake.plan(None).unwrap();
    assert_eq!(plan.driver, UserDriver::UioPciGeneric);
    assert!(plan.notes[0].contains("only root"), "{plan:?}");
    let trouble = fake.plan(Some(UserDriver::VfioPci)).unwrap_err();
    assert!(!trouble.is_unsafe && trouble.text.contains("no IOMMU"), "{trouble}");
    assert!(trouble.advice.contains("intel_iommu=on iommu=pt"), "{trouble}");
    machine.write("sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y\n");
    assert_eq!(fake.plan(Some(UserDriver::VfioPci)).unwrap().driver, UserDriver::VfioPci);
    fake.missing = vec!["uio_pci_generic"];
    let trouble = fake.bind(None).unwrap_err();
    assert!(trouble.text.contains("Module uio_pci_generic not found"), "{trouble}");
    assert_eq!(fake.told(), [""; 0]);
    fake.missing.clear();
    assert!(fake.bind(None).unwrap().ends_with("nvme → uio_pci_generic"));
    assert_eq!(fake.told()[0], "modprobe uio_pci_generic");
    // With one that translates, physical addresses will not do.
    let machine = free_machine();
    machine.write("sys/kernel/iommu_groups/17/type", "DMA-FQ\n");
    let plan = Fake::of(&machine).plan(Some(UserDriver::UioPciGeneric)).unwrap();
    assert!(plan.notes[1].contains("DMA-FQ"), "{plan:?}");
}

#[test]
fn nothing_that_is_in_use_is_touched_and_every_use_is_named() {
    let refused = |machine: &Machine, sentence: &str| {
        let fake = Fake::of(machine);
        let trouble = fake.bind(None).unwrap_err();
        assert!(trouble.is_unsafe && trouble.text.contains(sentence), "{sentence}: {trouble}");
        assert_eq!(fake.told(), [""; 0], "{sentence}");
        let refusal = check_controller(&machine.sysfs, BDF).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::InUse, "{refusal}");
        assert!(refusal.to_string().contains(sentence), "{refusal}");
        assert!(refusal.advice.ends_with("sudo fio-spdk devices bind 0000:01:00.0"), "{refusal}");
    };
    let with = |mountinfo: &str| {
        let machine = nvme_machine(mountinfo);
        machine.write(&format!("{HOME}/driver_override"), "(null)\n");
        machine
    };
    refused(
        &with(&mount("259:2", "/", "ext4", "/dev/root")),
        "nvme0n1: partition nvme0n1p2 is mounted on / (ext4)",
    );
    let machine = with("");
    machine.write("proc/swaps", &format!("{NO_SWAP}/dev/nvme0n1p1  partition\t1\t0\t-2\n"));
    refused(&machine, "nvme0n1: partition nvme0n1p1 is swap");
    let machine = with("");
    let md = machine.disk("virtual/block/md0", "9:0");
    machine.link(&format!("{HOME}/nvme/nvme0/nvme0n1/holders/md0"), &md);
    let lv = machine.disk("virtual/block/dm-0", "253:0");
    machine.link(&format!("{md}/holders/dm-0"), &lv);
    machine.write("proc/self/mountinfo", &mount("253:0", "/", "xfs", "/dev/mapper/root"));
    refused(&machine, "nvme0n1: member of md0, which is a member of dm-0, which is mounted on / (xfs)");
    let machine = with("");
    opened(&machine, &format!("{HOME}/nvme/nvme0/dev"));
    refused(&machine, "nvme0: open in spdk_tgt (process 4242)");
    let machine = with("");
    opened(&machine, "sys/class/nvme-generic/ng0n1/dev");
    refused(&machine, "ng0n1: open in spdk_tgt (process 4242)");
    let machine = with("");
    let export = "sys/kernel/config/nvmet/subsystems/nqn.x/namespaces/1";
    machine.write(&format!("{export}/device_path"), "/dev/nvme0n1p2\n");
    machine.write(&format!("{export}/enable"), "1\n");
    refused(&machine, "/dev/nvme0n1p2: exported by the kernel's NVMe target as nqn.x");
    machine.write(&format!("{export}/enable"), "0\n");
    assert!(Fake::of(&machine).plan(None).is_ok());
}

#[test]
fn what_only_an_exclusive_open_tells_is_refused_before_anything_changes() {
    let machine = free_machine();
    let fake = Fake { busy: vec!["nvme0n1"], ..Fake::of(&machine) };
    let trouble = fake.bind(None).unwrap_err();
    assert!(trouble.is_unsafe && trouble.text.contains("nvme0n1 is open exclusively by"), "{trouble}");
    assert_eq!(fake.told(), [""; 0]);
}

#[test]
fn somebody_who_mounts_after_the_look_is_seen_before_the_kernel_lets_go() {
    let machine = free_machine();
    let fake = Fake::of(&machine);
    let plan = fake.plan(None).unwrap();
    machine.write("proc/self/mountinfo", &mount("259:1", "/late", "xfs", "/dev/nvme0n1p1"));
    let trouble = fake.binder().bind(&plan, &mut Held::default()).unwrap_err();
    assert!(trouble.is_unsafe && trouble.text.contains("/late"), "{trouble}");
    // A namespace that came since, of which nobody asked who uses it.
    machine.write("proc/self/mountinfo", "");
    machine.disk("pci0000:00/0000:01:00.0/nvme/nvme0/nvme0n2", "259:7");
    let trouble = fake.binder().hold(&[plan]).unwrap_err();
    assert!(trouble.is_unsafe && trouble.text.contains("a moment ago"), "{trouble}");
    assert_eq!(fake.told(), [""; 0]);
}

#[test]
fn without_a_mount_table_nothing_is_bound() {
    let machine = free_machine();
    fs::remove_file(machine.path("proc/self/mountinfo")).unwrap();
    let trouble = Fake::of(&machine).plan(None).unwrap_err();
    assert!(trouble.is_unsafe && trouble.text.contains("cannot be told"), "{trouble}");
}

#[test]
fn a_use_of_a_multipath_device_counts_for_each_of_its_paths() {
    let machine = Machine::new(&mount("259:5", "/data", "xfs", "/dev/nvme3n1"), NO_SWAP);
    machine.disk("virtual/nvme-subsystem/nvme-subsys3/nvme3n1", "259:5");
    let home = "sys/devices/pci0000:00/0000:05:00.0";
    machine.write(&format!("{home}/class"), "0x010802");
    machine.write(&format!("{home}/nvme/nvme7/nvme3c7n1/hidden"), "1");
    machine.link(&format!("{home}/driver"), "sys/bus/pci/drivers/nvme");
    machine.link("sys/bus/pci/devices/0000:05:00.0", home);
    let fake = Fake::of(&machine);
    let trouble = fake.binder().plan("0000:05:00.0", None, &[]).unwrap_err();
    assert!(trouble.is_unsafe && trouble.text.contains("nvme3n1: mounted on /data (xfs)"), "{trouble}");
    machine.write("proc/self/mountinfo", "");
    machine.link(&format!("{home}/iommu_group"), "sys/kernel/iommu_groups/5");
    let other = "sys/devices/pci0000:00/0000:06:00.0/nvme/nvme8";
    fs::create_dir_all(machine.path(&format!("{other}/nvme3c8n1"))).unwrap();
    machine.write(&format!("{other}/address"), "0000:06:00.0\n");
    machine.link("sys/class/nvme/nvme8", other);
    let notes = |all: &[String]| fake.binder().plan("0000:05:00.0", None, all).unwrap().notes;
    assert!(notes(&[])[0].contains("the same namespaces through nvme8"), "{:?}", notes(&[]));
    assert_eq!(notes(&["0000:06:00.0".to_owned()]), [""; 0]);
}

#[test]
fn a_controller_that_its_new_driver_does_not_take_goes_back() {
    let machine = free_machine();
    let fake = Fake { refusing: vec!["vfio-pci"], ..Fake::of(&machine) };
    let trouble = fake.bind(None).unwrap_err();
    assert!(!trouble.is_unsafe && trouble.text.contains("vfio-pci does not take it"), "{trouble}");
    assert_eq!(trouble.advice, "It is back where it was (nvme).");
    assert!(fake.unbind().unwrap().contains("the kernel's already"));
    // From one driver of user space to another.
    let machine = bound_to("vfio-pci");
    let fake = Fake { refusing: vec!["uio_pci_generic"], ..Fake::of(&machine) };
    let trouble = fake.bind(Some(UserDriver::UioPciGeneric)).unwrap_err();
    assert_eq!(trouble.advice, "It is back where it was (vfio-pci).");
    // Where nobody takes it, that is said.
    let machine = free_machine();
    let fake = Fake { refusing: vec!["vfio-pci", "nvme"], ..Fake::of(&machine) };
    let trouble = fake.bind(None).unwrap_err();
    assert!(trouble.advice.contains("bound to no driver now"), "{trouble}");
}

#[test]
fn a_group_shared_with_another_driver_is_refused_unless_all_of_it_goes() {
    let machine = free_machine();
    let group = "sys/kernel/iommu_groups/17/devices";
    for (bdf, class, driver) in [
        ("0000:01:00.1", "0x010802", "nvme"),
        ("0000:00:01.0", "0x060400", "pcieport"),
        ("0000:01:00.2", "0x088000", "pci-stub"),
    ] {
        let home = format!("sys/devices/pci0000:00/{bdf}");
        machine.write(&format!("{home}/class"), class);
        machine.link(&format!("{home}/driver"), &format!("sys/bus/pci/drivers/{driver}"));
        machine.link(&format!("{group}/{bdf}"), &home);
        machine.link(&format!("sys/bus/pci/devices/{bdf}"), &home);
    }
    let fake = Fake::of(&machine);
    let trouble = fake.plan(None).unwrap_err();
    assert!(!trouble.is_unsafe, "{trouble}");
    assert!(trouble.text.contains("group 17 is shared with 0000:01:00.1 (driver nvme), and"), "{trouble}");
    let both = [BDF.to_owned(), "0000:01:00.1".to_owned()];
    assert!(fake.binder().plan(BDF, None, &both).is_ok());
}

#[test]
fn what_is_no_controller_of_ours_is_refused() {
    let machine = free_machine();
    machine.write("sys/bus/pci/devices/0000:02:00.0/class", "0x020000");
    let fake = Fake::of(&machine);
    let trouble = fake.binder().plan("0000:02:00.0", None, &[]).unwrap_err();
    assert!(trouble.is_unsafe && trouble.text.contains("class is 020000"), "{trouble}");
    for trouble in [
        fake.binder().plan("0000:03:00.0", None, &[]).unwrap_err(),
        fake.binder().plan_return("0000:03:00.0").unwrap_err(),
    ] {
        assert!(!trouble.is_unsafe && trouble.text.contains("no such PCI device"), "{trouble}");
        assert!(trouble.advice.contains("0000:01:00.0 (SAMSUNG 990 PRO, serial S4EV)"), "{trouble}");
    }
    let machine = bound_to("pci-stub");
    let fake = Fake::of(&machine);
    for trouble in [fake.plan(None).unwrap_err(), fake.unbind().unwrap_err()] {
        assert!(trouble.is_unsafe && trouble.text.contains("the driver pci-stub has it"), "{trouble}");
    }
    assert_eq!(fake.told(), [""; 0]);
}

#[test]
fn a_controller_is_not_taken_from_a_program_that_drives_it() {
    let machine = bound_to("vfio-pci");
    opened(&machine, "sys/class/vfio/17/dev");
    let fake = Fake::of(&machine);
    for trouble in [fake.unbind().unwrap_err(), fake.bind(Some(UserDriver::UioPciGeneric)).unwrap_err()] {
        assert!(trouble.is_unsafe && trouble.text.contains("driven by spdk_tgt (process 4242)"), "{trouble}");
    }
    assert_eq!(fake.told(), [""; 0]);
    let machine = bound_to("uio_pci_generic");
    opened(&machine, &format!("{HOME}/uio/uio0/dev"));
    assert!(Fake::of(&machine).unbind().unwrap_err().is_unsafe);
}

#[test]
fn a_controller_that_does_not_come_up_is_no_success() {
    let machine = bound_to("vfio-pci");
    machine.write("stash/nvme0/state", "connecting\n");
    let trouble = Fake::of(&machine).unbind().unwrap_err();
    assert!(trouble.text.contains("did not come up in 10 s (state connecting)"), "{trouble}");
    assert_eq!(trouble.advice, "It is bound to nvme now.");
    let machine = bound_to("vfio-pci");
    let fake = Fake { refusing: vec!["nvme"], ..Fake::of(&machine) };
    let trouble = fake.unbind().unwrap_err();
    assert!(trouble.text.contains("nvme driver does not take it"), "{trouble}");
    assert_eq!(trouble.advice, "It is bound to no driver now.");
}

#[test]
fn a_run_is_told_what_user_space_may_drive_and_what_to_do_where_it_may_not() {
    let machine = bound_to("vfio-pci");
    let bound =
        Bound { bdf: BDF.to_owned(), driver: UserDriver::VfioPci, iommu_group: Some(17), numa_node: Some(1) };
    for name in ["0000:01:00.0", "01:00.0", "0000.01.00.0"] {
        assert_eq!(check_controller(&machine.sysfs, name), Ok(bound.clone()), "{name}");
    }
    let refused = |machine: &Machine, bdf: &str| check_controller(&machine.sysfs, bdf).unwrap_err();
    let free = refused(&free_machine(), BDF);
    assert_eq!(free.kind, RefusalKind::NotBound);
    assert_eq!(
        free.to_string(),
        "cannot drive 0000:01:00.0 (SAMSUNG 990 PRO, serial S4EV): the kernel's nvme driver has it (nvme0, with \
         nvme0n1)\n  Give it to user space: sudo fio-spdk devices bind 0000:01:00.0"
    );
    fs::remove_file(machine.path(&format!("{HOME}/driver"))).unwrap();
    let none = refused(&machine, BDF);
    assert_eq!(none.kind, RefusalKind::NotBound);
    assert!(none.advice.ends_with("sudo fio-spdk devices bind 0000:01:00.0"), "{none}");
    assert_eq!(refused(&machine, "09:00.0").kind, RefusalKind::CannotTell);
    assert_eq!(refused(&machine, "nvme0").kind, RefusalKind::NotATarget);
    assert_eq!(refused(&bound_to("pci-stub"), BDF).kind, RefusalKind::NotBound);
}

/// Two nodes, with so many hugepages of 2 MiB and so many of them free.
fn with_hugepages(total: [u64; 2], free: [u64; 2], reserved: u64) -> Machine {
    let machine = Machine::new("", NO_SWAP);
    let put = |dir: &str, total: u64, free: u64| {
        machine.write(&format!("{dir}/nr_hugepages"), &total.to_string());
        machine.write(&format!("{dir}/free_hugepages"), &free.to_string());
    };
    let machine_wide = "sys/kernel/mm/hugepages/hugepages-2048kB";
    put(machine_wide, total[0] + total[1], free[0] + free[1]);
    machine.write(&format!("{machine_wide}/resv_hugepages"), &reserved.to_string());
    put("sys/kernel/mm/hugepages/hugepages-1048576kB", 0, 0);
    for node in [0, 1] {
        let dir = format!("sys/devices/system/node/node{node}/hugepages/hugepages-2048kB");
        put(&dir, total[node], free[node]);
    }
    machine
}

const HUGETLBFS: &str = "30 1 0:40 / /mnt/huge rw shared:2 - hugetlbfs none rw,relatime,pagesize=2M\n";

#[test]
fn hugepages_are_told_by_size_and_node_with_their_mounts() {
    let machine = with_hugepages([100, 28], [60, 20], 8);
    machine.write("proc/self/mountinfo", HUGETLBFS);
    let facts = hugepages(&machine.sysfs);
    assert_eq!(facts.mounts, [HugeMount { path: "/mnt/huge".into(), page_bytes: Some(2 << 20) }]);
    assert_eq!((facts.total_bytes(), facts.free_bytes()), (256 << 20, 144 << 20));
    assert_eq!(
        facts.to_string(),
        "128 hugepages of 2MiB, 72 free (node 0: 60, node 1: 20); hugetlbfs on /mnt/huge"
    );
    let none = hugepages(&Machine::new("", NO_SWAP).sysfs);
    assert_eq!(none.to_string(), "no hugepages; hugetlbfs is mounted nowhere");
}

#[test]
fn hugepages_are_only_raised_and_only_by_what_is_missing() {
    let machine = with_hugepages([100, 0], [60, 0], 10);
    machine.write("proc/self/mountinfo", HUGETLBFS);
    let fake = Fake::of(&machine);
    let said = hugepages::ensure(&machine.sysfs, &fake, 100, None).unwrap();
    assert_eq!(said, "hugepages: 100 of 2MiB, 50 free; hugetlbfs on /mnt/huge");
    assert_eq!(fake.told(), [""; 0]);
    let said = hugepages::ensure(&machine.sysfs, &fake, 512, None).unwrap();
    assert_eq!(said, "hugepages: 100 → 306 of 2MiB, 256 free; hugetlbfs on /mnt/huge");
    assert_eq!(fake.told(), ["sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages=306"]);
}

#[test]
fn hugepages_are_those_of_the_controllers_node_and_get_a_mount() {
    let machine = with_hugepages([300, 0], [300, 0], 0);
    let fake = Fake::of(&machine);
    let node = "sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages";
    let said = hugepages::ensure(&machine.sysfs, &fake, 511, Some(1)).unwrap();
    assert!(
        said.starts_with("hugepages: 0 → 256 of 2MiB on node 1, 256 free; hugetlbfs mounted on "),
        "{said}"
    );
    assert_eq!(fake.told(), [format!("{node}=256"), "mount hugepages 2097152".to_owned()]);
    // A node that the machine does not have.
    assert!(hugepages::ensure(&machine.sysfs, &fake, 512, Some(7)).is_ok());
    assert_eq!(fake.told(), ["mount hugepages 2097152"]);
}

#[test]
fn too_few_hugepages_are_no_success_and_given_back() {
    let machine = with_hugepages([0, 0], [0, 0], 0);
    let fake = Fake { most_pages: 200, ..Fake::of(&machine) };
    let trouble = hugepages::ensure(&machine.sysfs, &fake, 512, None).unwrap_err();
    assert!(!trouble.is_unsafe && trouble.text.contains("only 200 of 256 hugepages"), "{trouble}");
    let file = "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
    let compact = "proc/sys/vm/compact_memory=1".to_owned();
    assert_eq!(fake.told(), [format!("{file}=256"), compact, format!("{file}=256"), format!("{file}=0")]);
    assert_eq!(hugepages(&machine.sysfs).total_bytes(), 0);
}

#[test]
fn the_machine_keeps_memory_for_itself() {
    let machine = with_hugepages([0, 0], [0, 0], 0);
    let fake = Fake::of(&machine);
    machine.write("proc/meminfo", "MemTotal: 900000 kB\nMemAvailable: 786431 kB\nHugepagesize: 2048 kB\n");
    let trouble = hugepages::ensure(&machine.sysfs, &fake, 512, None).unwrap_err();
    assert!(!trouble.is_unsafe && trouble.text.contains("leave the machine too little"), "{trouble}");
    assert_eq!(fake.told(), [""; 0]);
    machine.write("proc/meminfo", "MemAvailable: 786432 kB\n");
    assert!(hugepages::ensure(&machine.sysfs, &fake, 512, None).is_ok());
}
