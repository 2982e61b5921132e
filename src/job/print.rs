//! Jobs as a job file.

use super::resolve::options_of;
use super::spec::JobSpec;
use super::value::quote;

/// Options that shape what a job writes where. Two jobs that agree in them, with one seed, write the
/// same, as far as both come.
const SHAPING: [&str; 41] = [
    "numjobs",
    "nrfiles",
    "file_service_type",
    "filesize",
    "file_append",
    "rw",
    "bs",
    "bsrange",
    "bssplit",
    "blockalign",
    "size",
    "io_size",
    "offset",
    "offset_increment",
    "number_ios",
    "loops",
    "time_based",
    "norandommap",
    "random_distribution",
    "percentage_random",
    "verify",
    "verify_interval",
    "verify_offset",
    "verify_pattern",
    "verify_pattern_interval",
    "trim_percentage",
    "trim_backlog",
    "trim_backlog_batch",
    "fill_device",
    "sync",
    "writefua",
    "read_iolog",
    "merge_blktrace_scalars",
    "merge_blktrace_iters",
    "replay_redirect",
    "replay_align",
    "replay_scale",
    "replay_skip",
    "sim_lba",
    "sim_cache",
    "sim_atomic_unit",
];

/// The options of `job` that shape what it writes where, where they are not at their defaults: names
/// and values in TOML.
#[must_use]
pub fn shaping_options(job: &JobSpec) -> Vec<(String, String)> {
    let mut options = options_of(job);
    options.retain(|(name, _)| SHAPING.contains(&name.as_str()));
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
