//! fio's status file: whoever makes a file of this name gets the statistics so far, once.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use super::plan::JobPlan;
use super::{Observer, Requests, RunOptions};

/// Its name in fio.
const NAME: &str = "fio-dump-status";
/// Looks between two looks at the file system.
const EVERY: u32 = 5;

/// The places where it is looked for: `state_dir` (fio's aux-path), and the directory for temporary files.
pub struct StatusFile {
    paths: Vec<PathBuf>,
    looks: u32,
}

impl StatusFile {
    pub fn new(plans: &[JobPlan], options: &RunOptions) -> StatusFile {
        if options.courier.is_some() {
            // Those places are the client's, and not of this machine.
            return StatusFile { paths: Vec::new(), looks: 0 };
        }
        let own = plans.first().and_then(|plan| plan.spec.state.dir.clone());
        let mut folders: Vec<PathBuf> = own.into_iter().chain([std::env::temp_dir()]).collect();
        folders.dedup();
        StatusFile { paths: folders.into_iter().map(|folder| folder.join(NAME)).collect(), looks: 0 }
    }

    /// Asks for the statistics if the file is there, and removes it.
    pub fn look(&mut self, requests: &Requests, observer: &mut dyn Observer) {
        self.looks += 1;
        if self.looks < EVERY {
            return;
        }
        self.looks = 0;
        self.paths.retain(|path| {
            if path.symlink_metadata().is_err() {
                return true;
            }
            requests.dump.store(1, Ordering::Release);
            match std::fs::remove_file(path) {
                Ok(()) => true,
                Err(error) => {
                    // Or the statistics would come several times a second.
                    let path = path.display();
                    observer.note(&format!("{path} cannot be removed ({error}) and is looked at no more"));
                    false
                }
            }
        });
    }
}
