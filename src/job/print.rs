//! Jobs as a job file.

use super::resolve::options_of;
use super::spec::JobSpec;
use super::table::find;
use super::value::quote;

/// The options of `job` that snapshots store, where they are not at their defaults: names and values in
/// TOML. Two jobs that agree in them, with one seed, write the same to the same places, as far as both come.
#[must_use]
pub fn shaping_options(job: &JobSpec) -> Vec<(String, String)> {
    let mut options = options_of(job);
    options.retain(|(name, _)| find(name).is_some_and(|(_, option)| option.is_in_snapshots()));
    options
}

/// A job file that parses to exactly these jobs: every option that differs from its default.
#[must_use]
pub fn print(jobs: &[JobSpec]) -> String {
    let mut out = String::new();
    for job in jobs {
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str("[[job]]\n");
        out.push_str(&format!("name = {}\n", quote(&job.name)));
        for (name, value) in options_of(job) {
            if name != "name" {
                out.push_str(&format!("{name} = {value}\n"));
            }
        }
    }
    out
}
