//! Nothing that is in use is overwritten: asked for every target of every writing job, before
//! anything is opened for writing.

use std::path::PathBuf;

use crate::base::host::target::{self, Consent, GuardOptions};

use super::plan::JobPlan;
use super::{ErrorKind, RunError, RunOptions};

/// What the guard holds on to for the run.
pub struct Consents {
    /// What will be overwritten, for the user.
    pub sentences: Vec<String>,
    /// Keeps block devices claimed, so that nobody mounts them meanwhile.
    _held: Vec<Consent>,
}

/// Asks for all targets; every refusal is told, not only the first.
pub fn check(plans: &[JobPlan], options: &RunOptions) -> Result<Consents, RunError> {
    let mut held = Vec::new();
    let mut refused = Vec::new();
    let mut seen: Vec<PathBuf> = Vec::new();
    for plan in plans.iter().filter(|plan| plan.modifies()) {
        if options.readonly || plan.spec.readonly {
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
            let guard = GuardOptions {
                allow_mounted_write: plan.spec.allow_mounted_write,
                destroy: options.destroy.clone(),
            };
            match target::check_writable(path, &guard) {
                Ok(consent) => held.push(consent),
                Err(refusal) => refused.push(format!("job `{}`: {refusal}", plan.spec.name)),
            }
        }
    }
    if !refused.is_empty() {
        return Err(RunError { kind: ErrorKind::Unsafe, message: refused.join("\n") });
    }
    let sentences = held.iter().filter_map(|consent| consent.sentence.clone()).collect();
    Ok(Consents { sentences, _held: held })
}
