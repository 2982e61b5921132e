//! Jobs as a job file.

use super::resolve::options_of;
use super::spec::JobSpec;
use super::value::quote;

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
