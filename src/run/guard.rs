//! Nothing that is in use is overwritten: asked for every target of every writing job, before
//! anything is opened for writing.

use std::path::PathBuf;

use crate::base::host::target::{RefusalKind, TargetKind};
use crate::base::host::{Consent, Guard, WriteOptions};

use super::plan::JobPlan;
use super::{ErrorKind, RunError, RunOptions};

/// What the guard holds on to for the run.
pub struct Consents {
    /// What will be overwritten, for the user.
    pub sentences: Vec<String>,
    /// Keeps block devices claimed, so that nobody mounts them meanwhile.
    _held: (Guard, Vec<Consent>),
}

/// Asks for all targets; every refusal is told, not only the first.
pub fn check(plans: &[JobPlan], options: &RunOptions) -> Result<Consents, RunError> {
    let mut guard = Guard::default();
    let mut held: Vec<Consent> = Vec::new();
    let mut refused = Vec::new();
    let mut is_unsafe = false;
    let mut seen: Vec<PathBuf> = Vec::new();
    for plan in plans.iter().filter(|plan| plan.modifies()) {
        if options.readonly || plan.spec.readonly {
            is_unsafe = true;
            refused.push(format!(
                "job `{}` would change its targets, and {} forbids that",
                plan.spec.name,
                if options.readonly { "--readonly" } else { "readonly = true" }
            ));
            continue;
        }
        if !plan.uses_files() {
            continue;
        }
        for path in &plan.targets {
            // The same file under two names is asked about once, and claimed once.
            let canonical = std::fs::canonicalize(path).unwrap_or_else(|_| path.clone());
            if seen.contains(&canonical) {
                continue;
            }
            seen.push(canonical);
            let options = WriteOptions {
                allow_mounted_write: plan.spec.allow_mounted_write,
                destroy: &options.destroy,
            };
            match guard.check_writable(path, &options) {
                Ok(consent) => held.push(consent),
                Err(refusal) => {
                    is_unsafe |= refusal.kind != RefusalKind::CannotTell;
                    refused.push(format!("job `{}`: {refusal}", plan.spec.name));
                }
            }
        }
    }
    if !refused.is_empty() {
        let kind = if is_unsafe { ErrorKind::Unsafe } else { ErrorKind::Environment };
        return Err(RunError { kind, message: refused.join("\n") });
    }
    let sentences = held
        .iter()
        .filter(|consent| loses_something(consent))
        .map(|consent| consent.sentence.clone())
        .collect();
    Ok(Consents { sentences, _held: (guard, held) })
}

/// A file that is empty or new, and a sink such as /dev/null, lose nothing.
fn loses_something(consent: &Consent) -> bool {
    match consent.kind {
        TargetKind::Block => true,
        TargetKind::File => std::fs::metadata(&consent.canonical).is_ok_and(|metadata| metadata.len() > 0),
        TargetKind::NewFile | TargetKind::Sink => false,
    }
}
