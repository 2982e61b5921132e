//! What controllers of the kernel's NVMe driver say of themselves, as notes and as JSON.

use serde_json::{Map, Value, json};

use crate::base::host::nvme::{Controller, PciController};
use crate::base::host::userspace::{self, UserDriver};
use crate::base::host::{Sysfs, nvme_admin};
use crate::base::nvme::{ControllerFacts, DeviceFacts, NamespaceFacts};
use crate::base::units::format_size;
use crate::engine;
use crate::report::device;

/// What one controller said when it was asked.
#[derive(Debug)]
pub(super) struct Told {
    /// Which one.
    pub(super) name: String,
    /// The answer, or why there is none.
    pub(super) answer: Answer,
}

/// A controller, and its namespaces by the names of their block devices.
pub(super) type Answer = Result<(ControllerFacts, Vec<(String, NamespaceFacts)>), String>;

impl Told {
    /// Asks it; a controller that does not answer is not waited for.
    pub(super) fn by(sysfs: &Sysfs, controller: &Controller) -> Told {
        Told { name: controller.name.clone(), answer: nvme_admin::inventory(sysfs, controller) }
    }

    /// Asks a controller that user space drives: by the engine that can, unless another program has it.
    /// `None` where this build has no such engine, or the kernel or nobody drives it.
    pub(super) fn by_user_space(sysfs: &Sysfs, pci: &PciController) -> Option<Told> {
        UserDriver::from_name(pci.driver.as_deref()?)?;
        let name = pci.bdf.clone();
        let others = userspace::users(sysfs, pci);
        if let Some(other) = others.first() {
            return Some(Told { name, answer: Err(format!("another program drives it: {other}")) });
        }
        let named = |namespaces: Vec<NamespaceFacts>| {
            namespaces.into_iter().map(|one| (format!("ns={}", one.nsid), one)).collect()
        };
        let answer = engine::ask_controller(&name)?;
        Some(Told { name, answer: answer.map(|(controller, all)| (controller, named(all))) })
    }

    /// Model, serial number and firmware, where the kernel does not say them.
    pub(super) fn identity(&self) -> Option<String> {
        let (controller, _) = self.answer.as_ref().ok()?;
        let firmware = format!("firmware {}", controller.firmware);
        Some(format!("{}, serial {}, {firmware}", controller.model, controller.serial))
    }

    /// For people: a line for the controller, one for each namespace.
    pub(super) fn notes(&self) -> Vec<String> {
        let (controller, namespaces) = match &self.answer {
            Ok(answer) => answer,
            Err(why) => return vec![format!("what it says of itself is not known: {why}")],
        };
        let (major, minor, _) = controller.version;
        let mut parts = vec![format!("NVMe {major}.{minor}"), device::cache(controller).to_owned()];
        parts.push(match controller.most_bytes(None) {
            Some(most) => format!("MDTS {}", format_size(most)),
            None => "MDTS without limit".to_owned(),
        });
        let mut notes = vec![parts.join(", ")];
        notes.extend(namespaces.iter().map(|(name, namespace)| {
            let formats: Vec<String> =
                namespace.available().map(|(_, format)| device::blocks(format)).collect();
            format!(
                "{name}: {} of {}; writes to {} whole at power fail",
                device::format_in_use(namespace),
                formats.join(" | "),
                format_size(atomic_bytes(controller, namespace)),
            )
        }));
        notes
    }

    /// Adds it to the controller's object.
    pub(super) fn add_to(&self, object: &mut Map<String, Value>) {
        match &self.answer {
            Ok((controller, namespaces)) => {
                let namespaces: Vec<Value> = namespaces
                    .iter()
                    .map(|(name, namespace)| {
                        let mut value = device::namespace_object(namespace);
                        value["name"] = name.as_str().into();
                        let atomic = atomic_bytes(controller, namespace);
                        value["atomic_write_power_fail_bytes"] = atomic.into();
                        value
                    })
                    .collect();
                object.insert("identify".to_owned(), device::controller_object(controller));
                object.insert("identify_namespaces".to_owned(), namespaces.into());
            }
            Err(why) => {
                object.insert("identify".to_owned(), Value::Null);
                object.insert("identify_unknown".to_owned(), json!(why));
            }
        }
    }
}

fn atomic_bytes(controller: &ControllerFacts, namespace: &NamespaceFacts) -> u64 {
    let (controller, namespace) = (controller.clone(), namespace.clone());
    DeviceFacts { controller, namespace, ..DeviceFacts::default() }.atomic_write_bytes()
}
