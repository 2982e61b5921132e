//! Some of the jobs of a file.

use super::spec::JobSpec;

/// fio's `--section`: the jobs of these names, all of them without any.
///
/// # Errors
/// If there is no such job, or one that is left out is waited for.
pub fn sections(jobs: Vec<JobSpec>, wanted: &[String]) -> Result<Vec<JobSpec>, String> {
    if wanted.is_empty() {
        return Ok(jobs);
    }
    if let Some(missing) = wanted.iter().find(|name| !jobs.iter().any(|job| job.name == **name)) {
        let names: Vec<&str> = jobs.iter().map(|job| job.name.as_str()).collect();
        return Err(format!("--section={missing}: there is no such job, but {}", names.join(", ")));
    }
    let chosen: Vec<JobSpec> = jobs.into_iter().filter(|job| wanted.contains(&job.name)).collect();
    let lost = chosen.iter().find_map(|job| {
        let name = job.order.wait_for.as_ref().filter(|name| !wanted.contains(name))?;
        Some((&job.name, name))
    });
    match lost {
        Some((job, name)) => {
            Err(format!("--section: the job `{job}` waits for `{name}`, which is left out: name it too"))
        }
        None => Ok(chosen),
    }
}
