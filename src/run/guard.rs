//! Nothing that is in use is overwritten: asked for every target of every writing job, and for every file that
//! is laid out for a job that reads, before anything is opened for writing.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use crate::base::host::claims::Claim;
use crate::base::host::pin::Pin;
use crate::base::host::target::{Namespace, RefusalKind, TargetKind, check_namespace};
use crate::base::host::{Consent, Guard, Refusal, Sysfs, WriteOptions, nvme, userspace};
use crate::base::nvme::ControllerFacts;
use crate::base::transport_id::{Transport, TransportId};
use crate::engine::{EngineError, TargetFacts};

use super::plan::JobPlan;
use super::{ErrorKind, RunError, RunOptions, open_job};

/// What the guard holds on to for the run.
pub struct Consents {
    /// What will be overwritten, for the user.
    pub sentences: Vec<String>,
    /// The targets that the kernel does not know, as they were found.
    pub checked: Vec<TargetFacts>,
    /// Keeps block devices claimed, so that nobody mounts them meanwhile.
    _held: (Guard, Vec<Consent>),
}

/// The guard, and what it has said so far.
#[derive(Default)]
struct Asked {
    guard: Guard,
    consents: Vec<Consent>,
    /// Names in directories that were asked about.
    entries: HashSet<usize>,
    /// Files without contents.
    empty: HashSet<PathBuf>,
    refused: Vec<String>,
    is_unsafe: bool,
}

impl Asked {
    /// Asks about a target of a job, unless that was done under another name: it is claimed once.
    fn ask(&mut self, plan: &JobPlan, pin: &Pin, options: &WriteOptions<'_>, why: &str) {
        if !self.entries.insert(pin.entry_number()) {
            return;
        }
        match self.guard.check(pin, options) {
            Ok(consent) => {
                if pin.file().is_some_and(|file| file.kind().is_file() && file.size() == Some(0)) {
                    self.empty.insert(consent.canonical.clone());
                }
                self.consents.push(consent);
            }
            Err(refusal) => {
                self.is_unsafe |= refusal.kind != RefusalKind::CannotTell;
                self.refused.push(format!("job `{}`{why}: {refusal}", plan.spec.name));
            }
        }
    }

    fn refuse(&mut self, why: String) {
        self.is_unsafe = true;
        self.refused.push(why);
    }

    fn end(&self) -> Result<(), RunError> {
        if self.refused.is_empty() { Ok(()) } else { Err(refuse(self.is_unsafe, &self.refused)) }
    }
}

/// Asks for all targets; every refusal is told, not only the first.
pub fn check(plans: &[JobPlan], options: &RunOptions) -> Result<Consents, RunError> {
    let mut asked = Asked::default();
    let mut overwritten: HashSet<PathBuf> = HashSet::new();
    let mut seen: HashSet<PathBuf> = HashSet::new();
    let mut checked = Vec::new();
    // Whoever reads takes the controller from the kernel too.
    for plan in plans.iter().filter(|plan| plan.uses_namespaces()) {
        for refusal in controllers(plan) {
            asked.is_unsafe |= refusal.kind != RefusalKind::CannotTell;
            let (why, name) = (refusal.reasons.join("; "), &plan.spec.name);
            asked
                .refused
                .push(format!("job `{name}`: cannot drive {}: {why}\n  {}", refusal.target, refusal.advice));
        }
    }
    asked.refused.dedup();
    asked.end()?;
    let write_options = |plan: &JobPlan| WriteOptions {
        allow_mounted_write: plan.spec.allow_mounted_write,
        destroy: &options.destroy,
    };
    for plan in plans.iter().filter(|plan| plan.modifies()) {
        if options.readonly || plan.spec.readonly {
            let by = if options.readonly { "--readonly" } else { "readonly = true" };
            let name = &plan.spec.name;
            asked.refuse(format!("job `{name}` would change its targets, and {by} forbids that"));
            continue;
        }
        if plan.uses_namespaces() {
            for answer in namespaces(plan, &write_options(plan), (&mut seen, &mut checked))? {
                match answer {
                    Ok(consent) => asked.consents.push(consent),
                    Err(refusal) => asked.refuse(format!("job `{}`: {refusal}", plan.spec.name)),
                }
            }
        }
        for pin in plan.pins.iter().filter(|_| plan.uses_files()) {
            if !plan.spec.files.append {
                overwritten.insert(pin.canonical());
            }
            asked.ask(plan, pin, &write_options(plan), "");
        }
    }
    for (plan, pin) in laid_out_for_readers(plans) {
        asked.ask(plan, pin, &write_options(plan), " reads, and what it reads would be laid out");
    }
    asked.end()?;
    let sentences = asked.consents.iter().filter(|consent| loses_something(consent, &asked.empty));
    let sentences = sentences.map(|consent| sentence(consent, &overwritten)).collect();
    Ok(Consents { sentences, checked, _held: (asked.guard, asked.consents) })
}

/// The files of reading jobs that are not there or empty: layout writes what will be read.
fn laid_out_for_readers(plans: &[JobPlan]) -> impl Iterator<Item = (&JobPlan, &Arc<Pin>)> {
    let readers = plans.iter().filter(|plan| plan.uses_files() && !plan.modifies() && !plan.only_judges());
    let is_laid_out = |pin: &Pin| match pin.file() {
        Some(file) => file.kind().is_file() && file.size() == Some(0),
        None => pin.is_new() && pin.missing_directory().is_none(),
    };
    readers.flat_map(move |plan| {
        plan.pins.iter().filter(move |pin| is_laid_out(pin)).map(move |pin| (plan, pin))
    })
}

/// What happens to a target, for the user.
fn sentence(consent: &Consent, overwritten: &HashSet<PathBuf>) -> String {
    if consent.kind == TargetKind::File && !overwritten.contains(&consent.canonical) {
        return consent.sentence.replace("will be overwritten", "will be appended to");
    }
    consent.sentence.clone()
}

fn refuse(is_unsafe: bool, refused: &[String]) -> RunError {
    let kind = if is_unsafe { ErrorKind::Unsafe } else { ErrorKind::Environment };
    RunError { kind, message: refused.join("\n") }
}

/// Why user space may not drive the PCIe controllers that a job names.
fn controllers(plan: &JobPlan) -> impl Iterator<Item = Refusal> {
    let ids = plan.targets.iter().filter_map(|path| TransportId::parse(&path.to_string_lossy()).ok());
    // What is made up is on no bus.
    let pcie = ids.filter(|id| id.trtype == Transport::Pcie && !cfg!(feature = "spdk-fake"));
    pcie.filter_map(|id| userspace::check_controller(&Sysfs::default(), &id.traddr).err())
}

type Answers = Vec<Result<Consent, Refusal>>;

/// Looks at what stands on the namespaces that a job writes to, those that were not looked at yet.
fn namespaces(
    plan: &JobPlan,
    options: &WriteOptions<'_>,
    (seen, checked): (&mut HashSet<PathBuf>, &mut Vec<TargetFacts>),
) -> Result<Answers, RunError> {
    let failed = |error: EngineError| RunError::of_engine(&plan.spec, &error);
    let opened = open_job::probe(plan).map_err(failed)?;
    let mut reader = opened.reader().map_err(failed)?;
    let told = opened.device_facts();
    let mut answers = Vec::new();
    for (target, fact) in (0..).zip(opened.facts()) {
        if !seen.insert(fact.path.clone()) {
            continue;
        }
        checked.push(fact.clone());
        let controller =
            told.get(usize::from(target)).and_then(Option::as_ref).map(|facts| &facts.controller);
        let namespace = Namespace {
            name: &fact.path.to_string_lossy(),
            model: controller.map_or("", |controller| &controller.model),
            serial: controller.map_or("", |controller| &controller.serial),
            size_bytes: fact.size_bytes,
        };
        if let Some(refusal) = controller.and_then(|controller| other_ports(controller, namespace.name)) {
            answers.push(Err(refusal));
            continue;
        }
        let mut read_at = |offset: u64, into: &mut [u8]| reader.read_at(target, offset, into);
        answers.push(check_namespace(&namespace, options, &mut read_at));
    }
    Ok(answers)
}

/// The kernel may have another port of the same drive, and somebody may use it there.
fn other_ports(controller: &ControllerFacts, name: &str) -> Option<Refusal> {
    let sysfs = Sysfs::default();
    let same = |found: &nvme::Controller| {
        found.serial.as_deref() == Some(&*controller.serial)
            && found.model.as_deref() == Some(&*controller.model)
    };
    let ports: Vec<String> =
        nvme::controllers(&sysfs).into_iter().filter(same).map(|found| found.name).collect();
    let of_kernel = nvme::pci_controllers(&sysfs);
    let used =
        of_kernel.iter().filter(|pci| pci.controller.as_ref().is_some_and(|name| ports.contains(name)));
    let claims: Vec<Claim> =
        used.flat_map(|pci| userspace::kernel_users(&sysfs, pci).unwrap_or_default()).collect();
    (!claims.is_empty()).then(|| Refusal {
        kind: RefusalKind::InUse,
        target: name.to_owned(),
        reasons: claims.iter().map(|claim| claim.sentence.clone()).collect(),
        advice: "The kernel has another port of the same drive. End that use, or choose another drive."
            .to_owned(),
        claims,
    })
}

/// A file that is empty or new, and a sink such as /dev/null, lose nothing.
fn loses_something(consent: &Consent, empty: &HashSet<PathBuf>) -> bool {
    match consent.kind {
        TargetKind::Block => true,
        TargetKind::File => !empty.contains(&consent.canonical),
        TargetKind::NewFile | TargetKind::Sink => false,
    }
}
