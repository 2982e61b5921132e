//! `fio-spdk devices bind` and `unbind`: controllers given to user space, and back.
//!
//! All of them are looked at before any is touched.

use std::collections::BTreeSet;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::base::host::Sysfs;
use crate::base::host::binding::{Binder, Kernel, Plan, ThisMachine, Trouble};
use crate::base::host::hugepages;
use crate::base::host::pci::Bdf;
use crate::base::host::userspace::UserDriver;
use crate::cli::streams::{self, stderr_line};
use crate::cli::{EXIT_IO, EXIT_OK, EXIT_UNSAFE};

/// Which controllers, and where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// To user space.
    Bind {
        /// Their addresses in full.
        addresses: Vec<String>,
        /// The driver, where the user wants a certain one.
        driver: Option<UserDriver>,
        /// Hugepages that must be free, in MiB.
        hugepages_mib: u64,
    },
    /// Back to the kernel.
    Unbind {
        /// Their addresses in full.
        addresses: Vec<String>,
    },
}

/// The subcommands of `devices`.
pub fn commands() -> [Command; 2] {
    let addresses = || {
        Arg::new("addresses")
            .value_name("PCI ADDRESS")
            .required(true)
            .action(ArgAction::Append)
            .value_parser(|text: &str| text.parse::<Bdf>().map(|bdf| bdf.to_string()))
            .help("0000:5e:00.0, or 5e:00.0; several are possible")
    };
    let codes = "Exit codes: 0 done (or so already), 2 command line wrong, 4 the machine cannot, 6 refused because \
                 it would be unsafe.";
    [
        Command::new("bind")
            .about("Give NVMe controllers to user space, with hugepages; needs root")
            .after_help(format!(
                "A controller any of whose namespaces is in use is refused. Its block devices are gone until it is \
                 given back (`devices unbind`) or the machine boots again.\n\n{codes}"
            ))
            .arg(
                Arg::new("driver")
                    .long("driver")
                    .value_name("DRIVER")
                    .value_parser(["vfio-pci", "uio_pci_generic"])
                    .help("The driver that it gets [default: vfio-pci, without an IOMMU uio_pci_generic]"),
            )
            .arg(
                Arg::new("hugepages")
                    .long("hugepages")
                    .value_name("MIB")
                    .value_parser(value_parser!(u64).range(..1 << 24))
                    .default_value("512")
                    .help("Memory in hugepages that must be free, on the controller's NUMA node; 0 leaves them alone"),
            )
            .arg(addresses()),
        Command::new("unbind")
            .about("Give NVMe controllers back to the kernel; needs root")
            .after_help(codes)
            .arg(addresses()),
    ]
}

/// What was typed; `None` without a subcommand.
pub fn request(matches: &ArgMatches) -> Option<Request> {
    let (name, matches) = matches.subcommand()?;
    let mut addresses = Vec::new();
    for address in matches.get_many::<String>("addresses").into_iter().flatten() {
        if !addresses.contains(address) {
            addresses.push(address.clone());
        }
    }
    if name == "unbind" {
        return Some(Request::Unbind { addresses });
    }
    Some(Request::Bind {
        addresses,
        driver: matches.get_one::<String>("driver").and_then(|name| UserDriver::from_name(name)),
        hugepages_mib: matches.get_one::<u64>("hugepages").copied().unwrap_or(0),
    })
}

/// Does it on this machine; gives the exit code.
pub fn run(request: &Request) -> u8 {
    let sysfs = Sysfs::default();
    let say = |line: &str| {
        let _ = streams::write_stdout(&format!("{line}\n"));
    };
    let command = Session {
        binder: Binder { sysfs: &sysfs, kernel: &ThisMachine },
        is_root: rustix::process::geteuid().is_root(),
        say: &say,
    };
    let result = match request {
        Request::Bind { addresses, driver, hugepages_mib } => {
            command.bind(addresses, *driver, *hugepages_mib)
        }
        Request::Unbind { addresses } => command.unbind(addresses),
    };
    let Err(troubles) = result else { return EXIT_OK };
    for trouble in &troubles {
        stderr_line!("error: {trouble}");
    }
    if troubles.iter().any(|trouble| trouble.is_unsafe) { EXIT_UNSAFE } else { EXIT_IO }
}

/// One command on one machine.
struct Session<'a> {
    binder: Binder<'a>,
    is_root: bool,
    say: &'a dyn Fn(&str),
}

impl Session<'_> {
    fn bind(&self, addresses: &[String], driver: Option<UserDriver>, mib: u64) -> Result<(), Vec<Trouble>> {
        let plans = all(addresses, |address| self.binder.plan(address, driver, addresses))?;
        self.must_be_root("bind", addresses)?;
        let mut held = self.binder.hold(&plans).map_err(|trouble| vec![trouble])?;
        for plan in &plans {
            for note in &plan.notes {
                (self.say)(&format!("note: {}: {note}", plan.title));
            }
        }
        self.prepare(&plans, mib).map_err(|trouble| vec![trouble])?;
        // A controller that fails keeps none of the others from being bound.
        let mut troubles = Vec::new();
        for plan in &plans {
            match self.binder.bind(plan, &mut held) {
                Ok(done) => (self.say)(&done),
                Err(trouble) => troubles.push(trouble),
            }
        }
        if troubles.is_empty() { Ok(()) } else { Err(troubles) }
    }

    /// Modules and hugepages: what fails here leaves all controllers where they are.
    fn prepare(&self, plans: &[Plan], mib: u64) -> Result<(), Trouble> {
        let drivers: BTreeSet<UserDriver> = plans.iter().map(|plan| plan.driver).collect();
        for driver in drivers {
            self.binder.load(driver)?;
        }
        if mib == 0 {
            return Ok(());
        }
        let nodes: BTreeSet<Option<u32>> = plans.iter().map(|plan| plan.found.numa_node).collect();
        for node in nodes {
            (self.say)(&hugepages::ensure(self.binder.sysfs, self.kernel(), mib, node)?);
        }
        Ok(())
    }

    fn kernel(&self) -> &dyn Kernel {
        self.binder.kernel
    }

    fn unbind(&self, addresses: &[String]) -> Result<(), Vec<Trouble>> {
        let found = all(addresses, |address| self.binder.plan_return(address))?;
        self.must_be_root("unbind", addresses)?;
        let mut troubles = Vec::new();
        for controller in &found {
            match self.binder.unbind(controller) {
                Ok(done) => (self.say)(&done),
                Err(trouble) => troubles.push(trouble),
            }
        }
        if troubles.is_empty() { Ok(()) } else { Err(troubles) }
    }

    fn must_be_root(&self, verb: &str, addresses: &[String]) -> Result<(), Vec<Trouble>> {
        if self.is_root {
            return Ok(());
        }
        Err(vec![Trouble {
            is_unsafe: false,
            text: "only root can change which driver has a device".to_owned(),
            advice: format!("sudo fio-spdk devices {verb} {}", addresses.join(" ")),
        }])
    }
}

/// Every one's answer, or every one's trouble.
fn all<T>(addresses: &[String], look: impl Fn(&str) -> Result<T, Trouble>) -> Result<Vec<T>, Vec<Trouble>> {
    let (mut found, mut troubles) = (Vec::new(), Vec::new());
    for address in addresses {
        match look(address) {
            Ok(one) => found.push(one),
            Err(trouble) => troubles.push(trouble),
        }
    }
    if troubles.is_empty() { Ok(found) } else { Err(troubles) }
}
